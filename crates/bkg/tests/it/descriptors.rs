//! A daemon that has used up its descriptors: whoever dials hears of it, nothing spins or ends, what cannot
//! be done says so in words, and everything works again when descriptors return.

use std::fs;
use std::time::Duration;

use bytes::Bytes;
use http::Method;
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::daemon::{Daemon, Place, until};
use crate::host::PATIENCE;
use crate::visitor::complete;

/// What a daemon with two plugins needs, and a little more.
const DESCRIPTORS: u32 = 100;
/// How long a silent client may stay: so long do they hold the descriptors.
const SILENT: &str = "limits.first_byte_timeout_ms = 4000";

/// The time that a process has computed, all threads together (proc(5); a tick is 10 ms on Linux).
fn computed(pid: u32) -> Duration {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let after_name = stat.rsplit_once(')').unwrap().1;
    let ticks = after_name.split_whitespace().skip(11).take(2).map(|ticks| ticks.parse::<u64>().unwrap());
    Duration::from_millis(ticks.sum::<u64>() * 10)
}

/// A connection that was there before there were too many.
struct Early {
    sender: SendRequest<Full<Bytes>>,
}

impl Early {
    async fn connect(daemon: &Daemon) -> Self {
        let socket = TcpStream::connect(("127.0.0.1", daemon.port())).await.unwrap();
        let (sender, connection) = http1::handshake(TokioIo::new(socket)).await.unwrap();
        tokio::spawn(connection);
        let mut early = Self { sender };
        // Its first byte has come, so it is not one of the silent.
        early.send(daemon, Method::GET, "/health", None).await;
        early
    }

    async fn send(
        &mut self,
        daemon: &Daemon,
        method: Method,
        path: &str,
        body: Option<Value>,
    ) -> (u16, Value) {
        let request = complete(daemon.root().request(method, path), body);
        let response = timeout(PATIENCE, self.sender.send_request(request)).await.unwrap().unwrap();
        let status = response.status().as_u16();
        let bytes = response.into_body().collect().await.unwrap().to_bytes();
        (status, serde_json::from_slice(&bytes).unwrap_or(Value::Null))
    }

    /// The plugin, once it is in a state.
    async fn until_plugin(
        &mut self,
        daemon: &Daemon,
        name: &str,
        is_meant: impl Fn(&Value) -> bool,
    ) -> Value {
        let path = format!("/admin/plugins/{name}");
        let looking = async {
            loop {
                let (status, plugin) = self.send(daemon, Method::GET, &path, None).await;
                assert_eq!(status, 200, "{plugin}");
                if is_meant(&plugin) {
                    return plugin;
                }
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        timeout(PATIENCE, looking).await.expect("the plugin comes to be so")
    }
}

#[tokio::test]
async fn a_daemon_without_descriptors_says_so_does_not_spin_and_recovers() {
    let place = Place::new().bundled("ping").with_descriptors(DESCRIPTORS).configured(SILENT);
    let daemon = place.start().await;
    let mut early = Early::connect(&daemon).await;
    let (stopped, _) = early.send(&daemon, Method::POST, "/admin/plugins/ping/stop?wait=20", None).await;
    assert_eq!(stopped, 200);
    early.until_plugin(&daemon, "ping", |plugin| plugin["status"] == "stopped").await;
    let silent = TcpStream::connect(("127.0.0.1", daemon.port()));
    let mut held = vec![silent.await.unwrap()];
    let exhausted = "no connection can be taken";
    while !place.log().contains(exhausted) {
        assert!(held.len() < 2 * DESCRIPTORS as usize, "it takes any number:\n{}", place.log());
        held.push(TcpStream::connect(("127.0.0.1", daemon.port())).await.unwrap());
        tokio::task::yield_now().await;
    }
    let before = computed(daemon.pid());

    // Whoever dials now hears why instead of waiting.
    let mut late = TcpStream::connect(("127.0.0.1", daemon.port())).await.unwrap();
    let mut excuse = String::new();
    timeout(PATIENCE, late.read_to_string(&mut excuse)).await.expect("an answer in time").unwrap();
    let (head, body) = excuse.split_once("\r\n\r\n").unwrap_or_else(|| panic!("{excuse:?}"));
    assert!(head.starts_with("HTTP/1.1 503") && head.contains("retry-after: 1"), "{head}");
    assert!(head.contains(&format!("content-length: {}", body.len())), "{head}");
    let body: Value = serde_json::from_str(body).unwrap();
    assert_eq!(body["error"]["code"], "overloaded");

    // Whoever is connected is served, and a process that cannot be started says why.
    let (status, started) = early.send(&daemon, Method::POST, "/admin/plugins/ping/start", None).await;
    assert_eq!(status, 202, "{started}");
    let failed = early.until_plugin(&daemon, "ping", |plugin| plugin["status"] == "backoff").await;
    let reason = failed["reason"].as_str().unwrap();
    assert!(reason.contains("open files"), "{reason}");

    // The silent ones are closed at their deadline, and everything works again by itself.
    let again = until(|| place.log().contains("connections are taken again").then_some(()));
    again.await.unwrap_or_else(|| panic!("no connection is taken:\n{}", place.log()));
    let spent = computed(daemon.pid()).saturating_sub(before);
    assert!(spent < Duration::from_secs(2), "it computed for {spent:?} while it had nothing to do");
    assert_eq!(place.log().matches(exhausted).count(), 1, "it is said once:\n{}", place.log());
    early.until_plugin(&daemon, "ping", |plugin| plugin["status"] == "running").await;
    assert_eq!(daemon.root().get("/admin/plugins").await.status, 200);
    assert!(!place.log().contains("panicked"), "{}", place.log());
    drop(held);
    daemon.stop().await;
}
