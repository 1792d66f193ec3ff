//! A daemon of the test's own, and how tests talk to it.
//!
//! Waiting is always for a condition, and for at most half a minute: a test that waits longer fails
//! and says what it waited for.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use bkg::app::{AppError, Host};
use bkg::config::{HostConfig, Loaded, Overrides, Surroundings};
use bkg::registry::{PluginRecord, State, View};
use bkg::store::StoreError;
use bytes::Bytes;
use http::{HeaderMap, Method, Request, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::time::timeout;

/// How long a test waits for anything.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// How a test's daemon is put together.
pub struct Builder {
    directory: TempDir,
    config: String,
}

/// A running daemon and its directories; they go when this is dropped.
pub struct TestHost {
    host: Option<Host>,
    key: String,
    directory: TempDir,
}

/// An HTTP answer, read to its end.
#[derive(Debug)]
pub struct Reply {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub text: String,
}

impl Reply {
    /// Reads an answer to its end.
    pub async fn read(response: http::Response<Connected>) -> hyper::Result<Self> {
        let (parts, body) = response.into_parts();
        let body = timeout(PATIENCE, body.collect()).await.expect("the body ended")?;
        let text = String::from_utf8(body.to_bytes().to_vec()).unwrap();
        Ok(Self { status: parts.status, headers: parts.headers, text })
    }

    pub fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or_else(|error| panic!("{error}: {}", self.text))
    }

    /// The `code` of an error body; in Anthropic's form, it stands among the details.
    pub fn code(&self) -> String {
        let error = &self.json()["error"];
        let code = error["code"].as_str().or(error["details"]["error_code"].as_str());
        code.unwrap_or_else(|| panic!("{}", self.text)).to_owned()
    }
}

impl Builder {
    /// Adds a copy of a folder in `tests/plugins`.
    pub fn plugin(self, name: &str) -> Self {
        self.plugin_as(name, name, json!({}))
    }

    /// Adds a copy of a folder in `tests/plugins` under another name, its entry changed.
    pub fn plugin_as(self, folder: &str, name: &str, entry: Value) -> Self {
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/plugins").join(folder);
        let target = self.plugins().join(name);
        fs::create_dir_all(&target).unwrap();
        for file in fs::read_dir(&source).unwrap() {
            let file = file.unwrap().path();
            if file.is_file() {
                fs::copy(&file, target.join(file.file_name().unwrap())).unwrap();
            }
        }
        let text = fs::read_to_string(target.join("plugin.json")).unwrap();
        let mut whole: Value = serde_json::from_str(&text).unwrap();
        whole["name"] = json!(name);
        for (key, value) in entry.as_object().unwrap() {
            whole[key] = value.clone();
        }
        fs::write(target.join("plugin.json"), whole.to_string()).unwrap();
        self
    }

    /// Adds a plugin of the repository's own `plugins`, its settings changed, with the binary that was
    /// built beside the daemon's.
    pub fn bundled(self, name: &str, settings: &Value) -> Self {
        copy_bundled(name, &self.plugins(), settings);
        self
    }

    /// Adds a plugin that is nothing but a script.
    pub fn script(self, name: &str, script: &str, entry: Value) -> Self {
        let target = self.plugins().join(name);
        fs::create_dir_all(&target).unwrap();
        let mut whole = json!({ "name": name, "capabilities": ["test.*"] });
        for (key, value) in entry.as_object().unwrap() {
            whole[key] = value.clone();
        }
        fs::write(target.join("plugin.json"), whole.to_string()).unwrap();
        fs::write(target.join("start.sh"), script).unwrap();
        fs::set_permissions(target.join("start.sh"), fs::Permissions::from_mode(0o755)).unwrap();
        self
    }

    /// Adds lines to the configuration file.
    pub fn config(mut self, lines: &str) -> Self {
        self.config.push_str(lines);
        self.config.push('\n');
        self
    }

    pub async fn start(self) -> TestHost {
        let starting = async {
            loop {
                match Host::start(self.load()).await {
                    // A process that another test is starting at this moment holds everything that is
                    // open here, the lock of the host before this one included, until it executes.
                    Err(AppError::Store(StoreError::Locked { .. })) => tokio::task::yield_now().await,
                    started => return started.unwrap(),
                }
            }
        };
        let host = timeout(PATIENCE, starting).await.expect("the data directory is free");
        let key = host.data.root_key().expose().to_owned();
        TestHost { host: Some(host), key, directory: self.directory }
    }

    /// The configuration that the daemon is started with.
    pub fn load(&self) -> Loaded {
        let file = self.directory.path().join("bkg.toml");
        fs::write(&file, &self.config).unwrap();
        let overrides = Overrides {
            config: Some(file),
            data_dir: Some(self.directory.path().join("data")),
            plugins_dirs: vec![self.plugins()],
            api_port: Some(0),
            bus_port: Some(0),
            ..Overrides::default()
        };
        let cache = self.directory.path().join("cache");
        let environment = |name: &str| (name == "BKG_CACHE_DIR").then(|| cache.clone().into_os_string());
        let surroundings = Surroundings {
            environment: &environment,
            working_directory: self.directory.path(),
            executable: &std::env::current_exe().unwrap(),
        };
        HostConfig::load(&overrides, &surroundings).unwrap()
    }

    fn plugins(&self) -> PathBuf {
        let plugins = self.directory.path().join("plugins");
        fs::create_dir_all(&plugins).unwrap();
        plugins
    }
}

impl TestHost {
    pub fn builder() -> Builder {
        Builder { directory: tempfile::tempdir().unwrap(), config: String::new() }
    }

    /// A daemon with `misbehave` running.
    pub async fn with_misbehave() -> Self {
        let host = Self::builder().plugin("misbehave").start().await;
        host.start_plugin("misbehave").await;
        host
    }

    pub fn host(&self) -> &Host {
        self.host.as_ref().expect("the host runs until it is stopped")
    }

    pub fn data_dir(&self) -> PathBuf {
        self.directory.path().join("data")
    }

    /// The directory of its plugin folders.
    pub fn plugins_dir(&self) -> PathBuf {
        self.directory.path().join("plugins")
    }

    pub fn key(&self) -> &str {
        &self.key
    }

    pub fn api_port(&self) -> u16 {
        self.host().ports().0
    }

    pub fn bus_port(&self) -> u16 {
        self.host().ports().1
    }

    /// Starts a plugin and waits until it serves.
    pub async fn start_plugin(&self, name: &str) {
        self.host().supervisor.want_up(name).unwrap();
        self.until(|view| (view.plugin(name)?.state() == State::Running).then_some(())).await;
    }

    /// Waits until a plugin is in a state, and answers its record.
    pub async fn until_state(&self, name: &str, state: State) -> Arc<PluginRecord> {
        let record = self.until(|view| view.plugin(name).filter(|record| record.state() == state).cloned());
        record.await
    }

    /// Waits until the condition holds for the registry.
    pub async fn until<T>(&self, condition: impl FnMut(&View) -> Option<T>) -> T {
        let found = timeout(PATIENCE, self.host().registry.until(condition)).await;
        found.unwrap_or_else(|_| panic!("waited in vain; the plugins are {}", self.describe()))
    }

    fn describe(&self) -> String {
        let view = self.host().registry.view();
        let words: Vec<String> = view
            .plugins()
            .map(|record| {
                format!("{}: {} {:?}", record.entry.name, record.state().as_str(), record.status.reason)
            })
            .collect();
        words.join(", ")
    }

    /// The process of a plugin's first instance.
    pub fn pid(&self, name: &str) -> i32 {
        let record = self.host().registry.plugin(name).unwrap();
        record.instances[0].pid.unwrap() as i32
    }

    pub fn in_flight(&self, name: &str) -> u32 {
        let record = self.host().registry.plugin(name).unwrap();
        record.instances.iter().map(|instance| instance.in_flight()).sum()
    }

    /// Waits until a plugin has so many requests in flight. The registry does not tell of these, so
    /// this looks at every turn of the runtime.
    pub async fn until_in_flight(&self, name: &str, count: u32) {
        let looking = async {
            while self.in_flight(name) != count {
                tokio::task::yield_now().await;
            }
        };
        let found = timeout(PATIENCE, looking).await;
        found.unwrap_or_else(|_| panic!("{} requests are in flight, not {count}", self.in_flight(name)));
    }

    pub async fn get(&self, path: &str) -> Reply {
        self.send(Method::GET, path, None).await
    }

    pub async fn post(&self, path: &str, body: Value) -> Reply {
        self.send(Method::POST, path, Some(body)).await
    }

    async fn send(&self, method: Method, path: &str, body: Option<Value>) -> Reply {
        self.send_request(self.request(method, path, body.map(|body| body.to_string()))).await
    }

    /// A request with the root key and, where there is one, a JSON body as it is.
    pub fn request(&self, method: Method, path: &str, body: Option<String>) -> Request<Full<Bytes>> {
        let mut request = Request::builder()
            .method(method)
            .uri(path)
            .header("host", "localhost")
            .header("authorization", format!("bearer {}", self.key));
        if body.is_some() {
            request = request.header("content-type", "application/json; charset=utf-8");
        }
        request.body(Full::new(Bytes::from(body.unwrap_or_default()))).unwrap()
    }

    /// Sends a request as it is and reads the whole answer.
    pub async fn send_request(&self, request: Request<Full<Bytes>>) -> Reply {
        Reply::read(self.open(request).await).await.unwrap()
    }

    /// Sends a request on a connection of its own and answers when the headers are there. Dropping
    /// the response closes the connection.
    pub async fn open(&self, request: Request<Full<Bytes>>) -> http::Response<Connected> {
        let socket = TcpStream::connect(("127.0.0.1", self.api_port())).await.unwrap();
        open_on(socket, request).await.unwrap()
    }

    /// A capability of a plugin, directly.
    pub async fn invoke(&self, plugin: &str, capability: &str, payload: Value) -> Reply {
        let body = json!({ "capability": capability, "payload": payload });
        self.post(&format!("/api/plugins/{plugin}/invoke"), body).await
    }

    /// What a capability of `misbehave` answers.
    pub async fn ask(&self, capability: &str, payload: Value) -> Value {
        let reply = self.invoke("misbehave", capability, payload).await;
        assert_eq!(reply.status, 200, "{}", reply.text);
        reply.json()["data"].clone()
    }

    pub async fn stop(mut self) {
        self.leave().await;
    }

    /// Stops the daemon and starts it again on the same directories.
    pub async fn restart(self) -> Self {
        self.restart_after(|| ()).await
    }

    /// The same, with something that happens in between.
    pub async fn restart_after(mut self, between: impl FnOnce()) -> Self {
        self.leave().await;
        between();
        let config = fs::read_to_string(self.directory.path().join("bkg.toml")).unwrap();
        Builder { directory: self.directory, config }.start().await
    }

    async fn leave(&mut self) {
        let host = self.host.take().expect("stopped once");
        timeout(PATIENCE, host.stop()).await.expect("the host stops in time");
    }
}

/// Sends a request over a connection that is there, and answers when the headers are.
pub async fn open_on<S>(
    socket: S,
    request: Request<Full<Bytes>>,
) -> hyper::Result<http::Response<Connected>>
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let (mut sender, connection) = http1::handshake(TokioIo::new(socket)).await?;
    let connection = tokio::spawn(connection);
    let answered = timeout(PATIENCE, sender.send_request(request)).await.expect("an answer in time");
    Ok(answered?.map(|body| Connected { body, connection }))
}

/// A response body with the connection that it comes over.
pub struct Connected {
    pub body: hyper::body::Incoming,
    connection: tokio::task::JoinHandle<hyper::Result<()>>,
}

impl Connected {
    async fn collect(self) -> hyper::Result<http_body_util::Collected<Bytes>> {
        self.body.collect().await
    }

    /// Leaves without a word, as a client does that is killed.
    pub fn leave(self) {
        self.connection.abort();
    }
}

/// Copies a plugin of the repository's own `plugins` into a directory of plugin folders, its settings
/// changed, with the binary that was built beside the daemon's.
pub fn copy_bundled(name: &str, plugins: &Path, settings: &Value) {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../plugins").join(name);
    let target = plugins.join(name);
    fs::create_dir_all(target.join("bin")).unwrap();
    for file in ["plugin.json", "start.sh"] {
        fs::copy(source.join(file), target.join(file)).unwrap();
    }
    let text = fs::read_to_string(source.join("config.json")).unwrap();
    let mut config: Value = serde_json::from_str(&text).unwrap();
    for (key, value) in settings.as_object().unwrap() {
        config[key] = value.clone();
    }
    fs::write(target.join("config.json"), config.to_string()).unwrap();
    let program = format!("bkg-plugin-{name}");
    let binary = Path::new(env!("CARGO_BIN_EXE_bkg")).with_file_name(&program);
    assert!(binary.is_file(), "`{program}` is not built: run `cargo build --workspace` first");
    symlink(&binary, target.join("bin").join(&program)).unwrap();
}

/// Runs a test once more in a process of its own, because it looks at or changes what a whole process
/// shares: descriptors, memory, limits. Answers whether this is that process.
pub fn is_alone(test: &str) -> bool {
    const ALONE: &str = "BKG_TEST_ALONE";
    if std::env::var_os(ALONE).is_some() {
        return true;
    }
    let mut again = Command::new(std::env::current_exe().unwrap());
    let output = again.args(["--exact", test]).env(ALONE, "1").output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && text.contains("1 passed"), "{text}");
    false
}

/// A chat request for a model.
pub fn chat(model: &str, text: &str) -> Value {
    json!({ "model": model, "messages": [{ "role": "user", "content": text }] })
}

/// The events of a stream, `[DONE]` included as text.
pub fn events(text: &str) -> Vec<String> {
    text.split("\n\n").filter_map(|event| event.strip_prefix("data: ").map(str::to_owned)).collect()
}

/// The processes of the machine whose environment carries this pair.
pub fn processes_with(name: &str, value: &str) -> Vec<u32> {
    let wanted = format!("{name}={value}");
    let all = fs::read_dir("/proc").unwrap().filter_map(|entry| {
        let entry = entry.ok()?;
        let pid: u32 = entry.file_name().to_str()?.parse().ok()?;
        let environment = fs::read(entry.path().join("environ")).ok()?;
        let carries = environment.split(|byte| *byte == 0).any(|pair| pair == wanted.as_bytes());
        carries.then_some(pid)
    });
    all.collect()
}

/// The headers of a reply that tests compare, by name.
pub fn header<'a>(reply: &'a Reply, name: &str) -> Option<&'a str> {
    reply.headers.get(name).map(|value| value.to_str().unwrap())
}

/// The members of an object, sorted by name.
pub fn keys(object: &Value) -> BTreeMap<&str, &Value> {
    object.as_object().unwrap().iter().map(|(key, value)| (key.as_str(), value)).collect()
}
