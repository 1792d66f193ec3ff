//! HTTP to the daemon: one request, one answer, with a deadline and in plain words where it fails.
//!
//! Not the shapes of what is asked: commands know those. The invariant: the credential goes to the
//! address that [`Daemon`] or a certificate has vouched for and nowhere else, so no proxy and no redirect
//! is followed.

use std::io::{self, BufReader, Read};
use std::time::Duration;

use bkg_protocol::RawJson;
use http::{HeaderValue, Method, Request, Response};
use ureq::{Agent, Body};

use super::advice::{Circumstances, advice};
use super::answer::Answer;
use super::credential::{Credential, Origin};
use super::daemon::Daemon;
use super::error::{CliError, Refusal};
use super::events::Events;
use super::peer::Peer;
use super::target::{Place, Target};

/// How long a question about the present state may take.
pub(super) const PROMPT: Duration = Duration::from_secs(30);
/// How long an event stream may be silent; the daemon says something every 15 s.
const STREAM_SILENCE: Duration = Duration::from_secs(45);
/// More than the longest page of log lines; a daemon that sends more is out of its mind.
const LONGEST_ANSWER: u64 = 1 << 30;

/// A connection to one daemon.
pub(super) struct Client {
    /// Whose client this is.
    pub(super) peer: Peer,
    agent: Agent,
    /// What its requests carry. None only for those that log in.
    credential: Option<Credential>,
}

impl Client {
    /// A client of the target's daemon, with the target's credential.
    ///
    /// # Errors
    /// Those of [`Daemon::find`] and of [`Credential::find`].
    pub(super) fn find(target: &Target) -> Result<Self, CliError> {
        Self::without_credential(target)?.identified(target)
    }

    /// A client for what is open to everybody.
    ///
    /// # Errors
    /// Those of [`Daemon::find`].
    pub(super) fn without_credential(target: &Target) -> Result<Self, CliError> {
        let (peer, tls) = match &target.place {
            Place::Directory(data_dir) => (Peer::Local(Daemon::find(data_dir)?), None),
            Place::Elsewhere(remote) => (Peer::Elsewhere(remote.clone()), remote.tls()?),
        };
        let agent = Agent::config_builder()
            .tls_config(tls.unwrap_or_default())
            .http_status_as_error(false)
            .proxy(None)
            .max_redirects(0)
            .user_agent(concat!("bkg/", env!("CARGO_PKG_VERSION")))
            .timeout_connect(Some(PROMPT))
            .build()
            .new_agent();
        Ok(Self { peer, agent, credential: None })
    }

    /// The same, with the target's credential.
    ///
    /// # Errors
    /// Those of [`Credential::find`].
    pub(super) fn identified(self, target: &Target) -> Result<Self, CliError> {
        let credential = Credential::find(target, &self)?;
        Ok(self.with_credential(credential))
    }

    /// The same, on behalf of somebody.
    pub(super) fn with_credential(self, credential: Credential) -> Self {
        Self { credential: Some(credential), ..self }
    }

    /// Where the credential was found, if there is one.
    pub(super) fn origin(&self) -> Option<&Origin> {
        self.credential.as_ref().map(|credential| &credential.origin)
    }

    /// Asks for something.
    pub(super) fn get(&self, path: &str) -> Result<Answer, CliError> {
        self.whole(self.request(Method::GET, path), String::new(), Some(PROMPT))
    }

    /// Orders something. Without `within`, the daemon's own limit is the deadline.
    pub(super) fn post(
        &self,
        path: &str,
        body: Option<&RawJson>,
        within: Option<Duration>,
    ) -> Result<Answer, CliError> {
        self.order(Method::POST, path, body, within)
    }

    /// Orders something if what it is about is still as the condition (an entity tag) says. The daemon's
    /// own limit is the deadline.
    pub(super) fn order_if(
        &self,
        method: Method,
        path: &str,
        body: &RawJson,
        condition: Option<HeaderValue>,
    ) -> Result<Answer, CliError> {
        let mut request = self.request(method, path).header(http::header::CONTENT_TYPE, "application/json");
        if let Some(condition) = condition {
            request = request.header(http::header::IF_MATCH, condition);
        }
        self.whole(request, body.as_str().to_owned(), None)
    }

    /// Puts something in the place of what is there.
    pub(super) fn put(&self, path: &str, body: &RawJson) -> Result<Answer, CliError> {
        self.order(Method::PUT, path, Some(body), Some(PROMPT))
    }

    /// Changes the members that the body has.
    pub(super) fn patch(&self, path: &str, body: &RawJson) -> Result<Answer, CliError> {
        self.order(Method::PATCH, path, Some(body), Some(PROMPT))
    }

    /// Removes something.
    pub(super) fn delete(&self, path: &str) -> Result<Answer, CliError> {
        self.order(Method::DELETE, path, None, Some(PROMPT))
    }

    fn order(
        &self,
        method: Method,
        path: &str,
        body: Option<&RawJson>,
        within: Option<Duration>,
    ) -> Result<Answer, CliError> {
        let mut request = self.request(method, path);
        if body.is_some() {
            request = request.header(http::header::CONTENT_TYPE, "application/json");
        }
        self.whole(request, body.map(|body| body.as_str().to_owned()).unwrap_or_default(), within)
    }

    /// Opens an event stream, which goes on after the event with this id.
    pub(super) fn events(
        &self,
        path: &str,
        after: Option<&str>,
    ) -> Result<Events<impl io::BufRead + use<>>, CliError> {
        let mut request = self.request(Method::GET, path);
        if let Some(id) = after.and_then(|id| HeaderValue::try_from(id).ok()) {
            request = request.header("last-event-id", id);
        }
        self.streamed(request, String::new(), Some(PROMPT))
    }

    /// Asks for an answer that comes piece by piece. It may begin as late as the daemon allows.
    pub(super) fn post_events(
        &self,
        path: &str,
        body: &RawJson,
    ) -> Result<Events<impl io::BufRead + use<>>, CliError> {
        let request =
            self.request(Method::POST, path).header(http::header::CONTENT_TYPE, "application/json");
        self.streamed(request, body.as_str().to_owned(), None)
    }

    /// Whose connections its requests use: shutting it down breaks them, and ends this client.
    pub(super) fn agent(&self) -> Agent {
        self.agent.clone()
    }

    fn streamed(
        &self,
        request: http::request::Builder,
        body: String,
        within: Option<Duration>,
    ) -> Result<Events<impl io::BufRead + use<>>, CliError> {
        let request = request
            .header(http::header::ACCEPT, "text/event-stream")
            .body(body)
            .expect("the request is well-formed");
        let name = name_of(request.method(), request.uri().path());
        let request = self
            .agent
            .configure_request(request)
            .timeout_recv_response(within)
            .timeout_per_read(within.map(|_| STREAM_SILENCE))
            .build();
        let response = self.agent.run(request).map_err(|error| self.failure(&name, PROMPT, error))?;
        if !response.status().is_success() {
            return Err(self.refused(response));
        }
        Ok(Events::new(BufReader::new(response.into_body().into_reader())))
    }

    /// Asks for something that may be large, and copies it as it comes.
    ///
    /// # Errors
    /// It is refused, breaks, or `into` does not take it; `failed` makes an error of the last.
    pub(super) fn download(
        &self,
        path: &str,
        into: &mut impl io::Write,
        failed: impl FnOnce(io::Error) -> CliError,
    ) -> Result<u64, CliError> {
        self.copied(Method::GET, path, Some(PROMPT), into, failed)
    }

    /// Has something made that may be large and take its time, and copies it as it comes.
    ///
    /// # Errors
    /// As those of [`Client::download`].
    pub(super) fn fetch_posted(
        &self,
        path: &str,
        into: &mut impl io::Write,
        failed: impl FnOnce(io::Error) -> CliError,
    ) -> Result<u64, CliError> {
        self.copied(Method::POST, path, None, into, failed)
    }

    fn copied(
        &self,
        method: Method,
        path: &str,
        within: Option<Duration>,
        into: &mut impl io::Write,
        failed: impl FnOnce(io::Error) -> CliError,
    ) -> Result<u64, CliError> {
        let name = name_of(&method, path);
        let request = self.request(method, path).body(String::new()).expect("the request is well-formed");
        let request = self
            .agent
            .configure_request(request)
            .timeout_recv_response(within)
            .timeout_per_read(Some(STREAM_SILENCE))
            .build();
        let response = self.agent.run(request).map_err(|error| self.failure(&name, PROMPT, error))?;
        if !response.status().is_success() {
            return Err(self.refused(response));
        }
        let mut body = response.into_body().into_reader();
        let (mut buffer, mut copied) = (vec![0; 64 << 10], 0);
        loop {
            let count = match body.read(&mut buffer) {
                Ok(0) => return Ok(copied),
                Ok(count) => count,
                Err(error) => return Err(CliError::Broken { request: name, reason: error.to_string() }),
            };
            copied += count as u64;
            if let Err(error) = into.write_all(&buffer[..count]) {
                return Err(failed(error));
            }
        }
    }

    fn request(&self, method: Method, path: &str) -> http::request::Builder {
        let request = Request::builder().method(method).uri(format!("{}{path}", self.peer.address()));
        let Some(credential) = &self.credential else { return request };
        let mut value = HeaderValue::try_from(format!("Bearer {}", credential.token.expose()))
            .expect("a token fits a header");
        value.set_sensitive(true);
        request.header(http::header::AUTHORIZATION, value)
    }

    fn whole(
        &self,
        request: http::request::Builder,
        body: String,
        within: Option<Duration>,
    ) -> Result<Answer, CliError> {
        let request = request.body(body).expect("the request is well-formed");
        let name = name_of(request.method(), request.uri().path());
        let request = self.agent.configure_request(request).timeout_global(within).build();
        let failed = |error| self.failure(&name, within.unwrap_or(PROMPT), error);
        let mut response = self.agent.run(request).map_err(failed)?;
        let status = response.status();
        if !status.is_success() {
            return Err(self.refused(response));
        }
        let body =
            response.body_mut().with_config().limit(LONGEST_ANSWER).read_to_string().map_err(failed)?;
        Ok(Answer { status, body, request: name })
    }

    fn refused(&self, mut response: Response<Body>) -> CliError {
        let header = |name| response.headers().get(name).and_then(|value| value.to_str().ok());
        let request_id = header("x-request-id").map(str::to_owned);
        let retry_after = header("retry-after").and_then(|seconds| seconds.parse().ok());
        // An error without a readable body is still an error with a status.
        let body = response.body_mut().read_to_string().unwrap_or_default();
        let refusal = Refusal::read(response.status().as_u16(), request_id, &body);
        let circumstances = Circumstances {
            status: refusal.status,
            code: refusal.plugin_code.as_deref().or(refusal.code.as_deref()),
            param: refusal.param.as_deref(),
            retry_after,
            origin: self.origin(),
        };
        CliError::Refused(match advice(&circumstances) {
            Some(advice) => refusal.advised(&advice),
            None => refusal,
        })
    }

    fn failure(&self, request: &str, within: Duration, error: ureq::Error) -> CliError {
        let request = request.to_owned();
        match error {
            ureq::Error::Timeout(_) => CliError::Silent { request, within },
            ureq::Error::Io(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
                match &self.peer {
                    Peer::Local(Daemon { data_dir, ports, .. }) => CliError::NotListening {
                        data_dir: data_dir.clone(),
                        pid: ports.pid,
                        port: ports.api,
                    },
                    Peer::Elsewhere(remote) => {
                        CliError::Unreachable { address: remote.address.clone(), reason: error.to_string() }
                    }
                }
            }
            other => self.peer.failure(request, other),
        }
    }
}

fn name_of(method: &Method, path: &str) -> String {
    let path = path.split('?').next().unwrap_or_default();
    format!("`{method} {path}`")
}

#[cfg(test)]
pub(super) mod tests {
    use std::io::Write;
    use std::net::TcpListener;
    use std::thread::JoinHandle;

    use http::StatusCode;

    use super::super::daemon::tests::data_dir;
    use super::*;

    /// A daemon that gives one answer per connection, and then is gone; its thread returns the
    /// requests that it got.
    pub(in super::super) struct ScriptedDaemon {
        pub(in super::super) directory: tempfile::TempDir,
        thread: JoinHandle<Vec<String>>,
    }

    impl ScriptedDaemon {
        pub(in super::super) fn start(answers: Vec<String>) -> Self {
            let listener = TcpListener::bind("127.0.0.1:0").unwrap();
            let directory = data_dir(std::process::id(), listener.local_addr().unwrap().port());
            let ports_file = directory.path().join("ports.json");
            let thread = std::thread::spawn(move || {
                let mut requests = Vec::new();
                let last = answers.len();
                for (number, answer) in answers.into_iter().enumerate() {
                    let (mut stream, _) = listener.accept().unwrap();
                    requests.push(read_request(&mut stream));
                    if number + 1 == last {
                        std::fs::remove_file(&ports_file).unwrap();
                    }
                    stream.write_all(answer.as_bytes()).unwrap();
                }
                requests
            });
            Self { directory, thread }
        }

        /// This daemon, with its root key.
        pub(in super::super) fn target(&self) -> Target {
            Target::with_root_key(self.directory.path().to_owned())
        }

        pub(in super::super) fn requests(self) -> Vec<String> {
            self.thread.join().unwrap()
        }
    }

    /// An answer with its length, after which the connection ends.
    pub(in super::super) fn answer(status: &str, body: &str) -> String {
        format!(
            "HTTP/1.1 {status}\r\nx-request-id: 0199\r\ncontent-type: application/json\r\nconnection: close\r\n\
             content-length: {}\r\n\r\n{body}",
            body.len()
        )
    }

    fn read_request(stream: &mut impl Read) -> String {
        let mut request = Vec::new();
        let mut byte = [0];
        while !request.ends_with(b"\r\n\r\n") {
            stream.read_exact(&mut byte).unwrap();
            request.push(byte[0]);
        }
        let head = String::from_utf8(request).unwrap();
        let length = head
            .lines()
            .find_map(|line| line.to_ascii_lowercase().strip_prefix("content-length: ").map(str::to_owned))
            .map_or(0, |length| length.parse().unwrap());
        let mut body = vec![0; length];
        stream.read_exact(&mut body).unwrap();
        head + &String::from_utf8(body).unwrap()
    }

    #[test]
    fn a_request_carries_the_root_key_and_gets_the_body_as_it_was_sent() {
        let daemon = ScriptedDaemon::start(vec![answer("200 OK", r#"{"a": 1.50}"#)]);
        let answer = Client::find(&daemon.target()).unwrap().get("/admin/plugins").unwrap();
        assert_eq!((answer.status, answer.body.as_str()), (StatusCode::OK, r#"{"a": 1.50}"#));
        let request = daemon.requests().remove(0);
        assert!(request.starts_with("GET /admin/plugins HTTP/1.1\r\n"), "{request}");
        let credential = format!("authorization: Bearer bkg_root_{}\r\n", "A".repeat(43));
        assert!(request.contains(&credential), "{request}");
    }

    #[test]
    fn an_order_carries_its_body() {
        let daemon = ScriptedDaemon::start(vec![answer("202 Accepted", "{}")]);
        let client = Client::find(&daemon.target()).unwrap();
        let body = RawJson::parse(r#"{"capability":"a.b"}"#).unwrap();
        let answer = client.post("/x", Some(&body), Some(PROMPT)).unwrap();
        assert_eq!(answer.status, StatusCode::ACCEPTED);
        let request = daemon.requests().remove(0);
        assert!(request.starts_with("POST /x HTTP/1.1\r\n"), "{request}");
        assert!(request.ends_with("\r\n\r\n{\"capability\":\"a.b\"}"), "{request}");
        assert!(request.contains("content-type: application/json\r\n"), "{request}");
    }

    #[test]
    fn an_error_keeps_its_code_and_request_id() {
        let body = r#"{"error":{"message":"no such plugin","code":"not_found"}}"#;
        let daemon = ScriptedDaemon::start(vec![answer("404 Not Found", body)]);
        let error = Client::find(&daemon.target()).unwrap().get("/admin/plugins/x").unwrap_err();
        let CliError::Refused(refusal) = error else { panic!("{error:?}") };
        let expected = Refusal {
            status: 404,
            message: "no such plugin".into(),
            code: Some("not_found".into()),
            plugin_code: None,
            param: None,
            request_id: Some("0199".into()),
            details: Vec::new(),
        };
        assert_eq!(refusal, expected);
        daemon.requests();
    }

    #[test]
    fn a_refused_credential_says_what_to_do() {
        let body = r#"{"error":{"message":"the key is not valid","code":"unauthorized"}}"#;
        let daemon = ScriptedDaemon::start(vec![answer("401 Unauthorized", body)]);
        let error = Client::find(&daemon.target()).unwrap().get("/x").unwrap_err();
        assert_eq!(
            error.to_string(),
            "the key is not valid; is `root.key` newer than the daemon? then restart the daemon"
        );
        daemon.requests();
    }

    #[test]
    fn a_daemon_that_is_asked_too_often_says_when_to_come_back() {
        let body = r#"{"error":{"message":"too many logins of `ada`","code":"rate_limited"}}"#;
        let refusal = answer("429 Too Many Requests\r\nretry-after: 7", body);
        let daemon = ScriptedDaemon::start(vec![refusal]);
        let error = Client::find(&daemon.target()).unwrap().get("/x").unwrap_err();
        assert_eq!(error.to_string(), "too many logins of `ada`; try again in 7 s at the earliest");
        daemon.requests();
    }

    #[test]
    fn every_method_reaches_the_daemon() {
        let daemon = ScriptedDaemon::start(vec![answer("200 OK", "{}"); 3]);
        let client = Client::find(&daemon.target()).unwrap();
        let body = RawJson::parse(r#"{"a":1}"#).unwrap();
        client.put("/x", &body).unwrap();
        client.patch("/x", &body).unwrap();
        client.delete("/x").unwrap();
        let requests = daemon.requests();
        for (request, (start, end)) in requests.iter().zip([
            ("PUT /x HTTP/1.1\r\n", "{\"a\":1}"),
            ("PATCH /x HTTP/1.1\r\n", "{\"a\":1}"),
            ("DELETE /x HTTP/1.1\r\n", "\r\n\r\n"),
        ]) {
            assert!(request.starts_with(start) && request.ends_with(end), "{request}");
        }
    }

    #[test]
    fn a_redirect_is_not_followed() {
        let redirect = "HTTP/1.1 307 Temporary Redirect\r\nlocation: http://192.0.2.1/\r\ncontent-length: 0\r\n\
                        connection: close\r\n\r\n";
        let daemon = ScriptedDaemon::start(vec![redirect.to_owned()]);
        let error = Client::find(&daemon.target()).unwrap().get("/x").unwrap_err();
        assert_eq!(error.to_string(), "the daemon answered 307 and did not say why");
        daemon.requests();
    }

    #[test]
    fn a_broken_answer_is_told_with_its_request() {
        let daemon =
            ScriptedDaemon::start(vec!["HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\n{}".to_owned()]);
        let error = Client::find(&daemon.target()).unwrap().get("/x?y=z").unwrap_err();
        let text = error.to_string();
        assert!(text.starts_with("the connection to the daemon broke at `GET /x`: "), "{text}");
        daemon.requests();
    }
}
