//! Clients that stop reading, or send next to nothing: what they hold is free at its deadline.
//!
//! What a client costs before its first request is in `connections`; what a plugin costs is in
//! `hostile_peers`.

use std::time::Duration;

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::{interval, timeout};

use crate::host::{Builder, PATIENCE, TestHost, chat};

/// A client that asks for a stream without end and reads nothing of it. What the kernel keeps for it is
/// little.
async fn not_reading(host: &TestHost) -> TcpStream {
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(4 << 10).unwrap();
    let mut socket = socket.connect(([127, 0, 0, 1], host.api_port()).into()).await.unwrap();
    let mut body = chat("test/fast", "hi");
    body["stream"] = json!(true);
    body["max_tokens"] = json!(1_000_000);
    socket.write_all(&request(host, "/v1/chat/completions", &body.to_string(), None)).await.unwrap();
    socket
}

/// A request with the root key; `announced` is the length that it claims to have.
fn request(host: &TestHost, path: &str, body: &str, announced: Option<usize>) -> Vec<u8> {
    format!(
        "POST {path} HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer {}\r\n\
         content-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
        host.key(),
        announced.unwrap_or(body.len())
    )
    .into_bytes()
}

async fn with_misbehave(limits: &str) -> TestHost {
    let host: Builder = TestHost::builder().plugin("misbehave").config(limits);
    let host = host.start().await;
    host.start_plugin("misbehave").await;
    host
}

/// Why the plugin was told to stop.
async fn cancelled_because(host: &TestHost) -> Value {
    host.ask("test.cancel_seen", json!({ "withinMs": 20_000 })).await["cancels"][0]["reason"].clone()
}

#[tokio::test]
async fn a_client_that_stops_reading_keeps_its_call_no_longer_than_until_its_deadline() {
    let host = with_misbehave("limits.request_timeout_ms = 1000\nlimits.write_timeout_ms = 600000").await;
    let _socket = not_reading(&host).await;
    host.until_in_flight("misbehave", 1).await;
    host.until_in_flight("misbehave", 0).await;
    assert_eq!(cancelled_because(&host).await, "deadline");
}

#[tokio::test]
async fn a_client_that_takes_nothing_is_closed_and_its_call_cancelled() {
    let host = with_misbehave("limits.write_timeout_ms = 300").await;
    let mut socket = not_reading(&host).await;
    host.until_in_flight("misbehave", 1).await;
    host.until_in_flight("misbehave", 0).await;
    assert_eq!(cancelled_because(&host).await, "caller_gone");
    // What was on its way comes, and then the end: without the last word of a stream that ended well.
    let mut rest = Vec::new();
    let end = timeout(PATIENCE, socket.read_to_end(&mut rest)).await;
    let _broken_or_closed = end.expect("the connection is closed");
    assert!(!String::from_utf8_lossy(&rest).contains("[DONE]"));
}

#[tokio::test]
async fn a_body_that_comes_a_byte_at_a_time_is_given_up() {
    let host = with_misbehave("limits.body_timeout_ms = 300\nlimits.body_bytes_per_second = 10000").await;
    for path in ["/v1/chat/completions", "/api/plugins/misbehave/invoke"] {
        let socket = TcpStream::connect(("127.0.0.1", host.api_port())).await.unwrap();
        let (mut reading, mut writing) = socket.into_split();
        writing.write_all(&request(&host, path, "{", Some(10_000))).await.unwrap();
        let trickling = async {
            let mut pace = interval(Duration::from_millis(20));
            loop {
                pace.tick().await;
                if writing.write_all(b" ").await.is_err() {
                    return std::future::pending::<()>().await;
                }
            }
        };
        let mut status = [0; 12];
        let answered = async { timeout(PATIENCE, reading.read_exact(&mut status)).await.unwrap() };
        tokio::select! {
            () = trickling => unreachable!("it goes on for as long as it may"),
            answered = answered => drop(answered.unwrap()),
        }
        assert_eq!(String::from_utf8_lossy(&status), "HTTP/1.1 504", "{path}");
    }
}

#[tokio::test]
async fn a_large_body_that_keeps_its_pace_may_take_longer_than_a_small_one() {
    let host = with_misbehave("limits.body_timeout_ms = 200\nlimits.body_bytes_per_second = 1000").await;
    let body = json!({ "capability": "test.echo", "payload": "x".repeat(10_000) }).to_string();
    let socket = TcpStream::connect(("127.0.0.1", host.api_port())).await.unwrap();
    let (mut reading, mut writing) = socket.into_split();
    let head = request(&host, "/api/plugins/misbehave/invoke", "", Some(body.len()));
    writing.write_all(&head).await.unwrap();
    let (first, rest) = body.as_bytes().split_at(5_000);
    writing.write_all(first).await.unwrap();
    // Later than the time that every body has; the bytes that came are good for five seconds.
    tokio::time::sleep(Duration::from_millis(400)).await;
    writing.write_all(rest).await.unwrap();
    let mut status = [0; 12];
    timeout(PATIENCE, reading.read_exact(&mut status)).await.unwrap().unwrap();
    assert_eq!(String::from_utf8_lossy(&status), "HTTP/1.1 200");
}
