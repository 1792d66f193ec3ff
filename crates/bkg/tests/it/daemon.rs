//! A daemon as a process of its own, for what only a process can show: that it dies, refuses to start,
//! and what it writes to its log.
//!
//! It runs the real binary over a directory of the test's own, which outlives it. Dropped, it is killed
//! together with its plugins.

use std::fs::{self, File};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::time::{sleep, timeout};

use crate::host::{PATIENCE, copy_bundled, processes_with};
use crate::visitor::Visitor;

/// How often a condition outside of this process is looked at; nothing tells when it holds.
const LOOK_EVERY: Duration = Duration::from_millis(5);

/// Where daemons run, one after the other.
pub struct Place {
    directory: TempDir,
    environment: Vec<(&'static str, String)>,
    arguments: Vec<String>,
    /// How many descriptors daemons may have.
    descriptors: Option<u32>,
}

/// A daemon that is ready, or was.
pub struct Daemon {
    child: Child,
    data_dir: PathBuf,
    port: u16,
}

impl Place {
    /// A place with the plugin `apikeys`, whose passwords are hashed quickly.
    pub fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        copy_bundled("apikeys", &directory.path().join("plugins"), &json!({ "bcryptCost": 4 }));
        Self { directory, environment: Vec::new(), arguments: Vec::new(), descriptors: None }
    }

    /// Adds a plugin of the repository's own `plugins`.
    pub fn bundled(self, name: &str) -> Self {
        copy_bundled(name, &self.directory.path().join("plugins"), &json!({}));
        self
    }

    /// Daemons see this variable from now on.
    pub fn set(&mut self, name: &'static str, value: &str) {
        self.environment.push((name, value.to_owned()));
    }

    /// Daemons are started with these arguments as well from now on.
    pub fn serve_with(&mut self, arguments: &[&str]) {
        self.arguments.extend(arguments.iter().map(|argument| (*argument).to_owned()));
    }

    /// Daemons may have so many descriptors from now on.
    pub fn with_descriptors(mut self, most: u32) -> Self {
        self.descriptors = Some(most);
        self
    }

    /// Daemons are started with these lines of configuration from now on.
    pub fn configured(mut self, lines: &str) -> Self {
        let file = self.directory.path().join("bkg.toml");
        fs::write(&file, lines).unwrap();
        self.serve_with(&["--config", file.to_str().expect("temporary directories have plain names")]);
        self
    }

    pub fn data_dir(&self) -> PathBuf {
        self.directory.path().join("data")
    }

    /// A file of the data directory.
    pub fn file(&self, name: &str) -> PathBuf {
        self.data_dir().join(name)
    }

    /// What all daemons of this place have written to standard error.
    pub fn log(&self) -> String {
        fs::read_to_string(self.directory.path().join("log")).unwrap_or_default()
    }

    /// Starts a daemon, and waits until it is ready.
    pub async fn start(&self) -> Daemon {
        let child = self.spawn();
        let mut daemon = Daemon { child, data_dir: self.data_dir(), port: 0 };
        let pid = daemon.child.id();
        let path = self.file("ports.json");
        let port = until(|| {
            if let Some(status) = daemon.child.try_wait().unwrap() {
                panic!("the daemon ended with {status}:\n{}", self.log());
            }
            let ports: Value = serde_json::from_slice(&fs::read(&path).ok()?).ok()?;
            (ports["pid"] == pid).then(|| ports["api"].as_u64().unwrap() as u16)
        });
        daemon.port = port.await.unwrap_or_else(|| panic!("the daemon is not ready:\n{}", self.log()));
        daemon
    }

    /// Starts a daemon that must end by itself, and answers how it ended and what it said.
    pub async fn start_in_vain(&self) -> (ExitStatus, String) {
        let before = self.log().len();
        let mut child = self.spawn();
        let ended = until(|| child.try_wait().unwrap()).await;
        let Some(status) = ended else {
            child.kill().unwrap();
            child.wait().unwrap();
            panic!("the daemon runs on:\n{}", &self.log()[before..]);
        };
        (status, self.log()[before..].to_owned())
    }

    fn spawn(&self) -> Child {
        let log = File::options().create(true).append(true).open(self.directory.path().join("log"));
        let mut command = match self.descriptors {
            None => self.command(),
            Some(most) => {
                let mut shell = Command::new("sh");
                shell.args(["-c", "ulimit -n \"$1\"; shift; exec \"$@\"", "sh", &most.to_string()]);
                self.set_up(shell.arg(env!("CARGO_BIN_EXE_bkg")));
                shell
            }
        };
        command.args(["serve", "--api-port", "0", "--bus-port", "0", "--plugins-dir"]);
        command.arg(self.directory.path().join("plugins")).args(&self.arguments);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log.unwrap()).spawn().unwrap()
    }

    /// Runs another command of the command line to its end.
    pub fn run(&self, arguments: &[&str]) -> Output {
        self.command().args(arguments).stdin(Stdio::null()).output().unwrap()
    }

    fn command(&self) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_bkg"));
        self.set_up(&mut command);
        command
    }

    fn set_up(&self, command: &mut Command) {
        command.current_dir(self.directory.path()).arg("--data-dir").arg(self.data_dir());
        command.env_remove("ADMIN_PASSWORD").env_remove("BKG_API_KEY").env_remove("BKG_LOG");
        // Logins of the command line are kept below the home directory, which must not be the tester's.
        command.env("HOME", self.directory.path()).env_remove("XDG_CONFIG_HOME");
        command.env("BKG_CACHE_DIR", self.directory.path().join("cache"));
        command.envs(self.environment.iter().map(|(name, value)| (name, value)));
    }
}

impl Daemon {
    pub fn port(&self) -> u16 {
        self.port
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Somebody who has the root key.
    pub fn root(&self) -> Visitor {
        let key = fs::read_to_string(self.data_dir.join("root.key")).unwrap();
        Visitor::at(self.port).with(&key)
    }

    /// Kills the daemon and nothing else: what its plugins left is for the next one.
    pub fn kill_alone(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Kills the daemon and its plugins, all at once as far as the system can.
    pub fn kill(&mut self) {
        let plugins = self.plugins();
        let _ = self.child.kill();
        for pid in plugins.into_iter().chain(self.plugins()) {
            let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
        }
        self.child.wait().unwrap();
        self.remove_cgroups();
    }

    /// Stops the daemon in order.
    pub async fn stop(mut self) {
        kill(Pid::from_raw(self.child.id() as i32), Signal::SIGTERM).unwrap();
        let status = until(|| self.child.try_wait().unwrap()).await.expect("the daemon stops in time");
        assert!(status.success(), "{status}");
    }

    /// Removes the cgroups of its launches that are empty by now: no next host may come to do it.
    fn remove_cgroups(&self) {
        let files = fs::read_dir(self.data_dir.join("ledger")).into_iter().flatten().flatten();
        for entry in files.filter_map(|file| fs::read(file.path()).ok()) {
            let entry: Value = serde_json::from_slice(&entry).unwrap_or_default();
            for cgroup in entry["cgroups"].as_array().into_iter().flatten().filter_map(Value::as_str) {
                let _in_use_or_gone = fs::remove_dir(cgroup);
            }
        }
    }

    /// The processes of its plugins.
    fn plugins(&self) -> Vec<i32> {
        let folders = fs::read_dir(self.data_dir.join("plugins")).into_iter().flatten().flatten();
        let folders = folders.map(|folder| {
            let folder = folder.path().join("data");
            folder.canonicalize().unwrap_or(folder)
        });
        let processes = folders.flat_map(|folder| {
            let folder = folder.to_str().expect("temporary directories have plain names").to_owned();
            processes_with("BKG_PLUGIN_DATA_DIR", &folder)
        });
        processes.map(|pid| pid as i32).collect()
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        if matches!(self.child.try_wait(), Ok(None)) {
            self.kill();
        }
    }
}

/// Waits for something outside of this process; `None` if it does not come.
pub async fn until<T>(mut look: impl FnMut() -> Option<T>) -> Option<T> {
    let looking = async {
        loop {
            if let Some(found) = look() {
                return found;
            }
            sleep(LOOK_EVERY).await;
        }
    };
    timeout(PATIENCE, looking).await.ok()
}

/// The permissions of a file.
pub fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o7777
}
