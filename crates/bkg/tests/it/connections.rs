//! Clients that are slow, silent or greedy: each is closed at its deadline, and nobody else notices.

use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::host::TestHost;

const DEADLINES: &str = "limits.first_byte_timeout_ms = 100\nlimits.header_read_timeout_ms = 100";

/// What the host says to a client that sends `bytes` and then nothing, until it closes.
async fn answer_to(host: &TestHost, bytes: &[u8]) -> String {
    let mut socket = TcpStream::connect(("127.0.0.1", host.api_port())).await.unwrap();
    socket.write_all(bytes).await.unwrap();
    let mut text = Vec::new();
    let closed = timeout(Duration::from_secs(20), socket.read_to_end(&mut text)).await;
    closed.expect("the host closes the connection").unwrap();
    String::from_utf8(text).unwrap()
}

#[tokio::test]
async fn a_client_that_sends_nothing_is_closed() {
    let host = TestHost::builder().config(DEADLINES).start().await;
    assert_eq!(answer_to(&host, b"").await, "");
}

#[tokio::test]
async fn a_client_that_sends_half_a_header_is_closed() {
    let host = TestHost::builder().config(DEADLINES).start().await;
    let answer = answer_to(&host, b"GET /health HTTP/1.1\r\nhost: loc").await;
    assert!(!answer.contains("200"), "{answer}");
}

#[tokio::test]
async fn silent_clients_do_not_keep_others_out() {
    let host = TestHost::builder().start().await;
    let mut silent = Vec::new();
    for _ in 0..200 {
        silent.push(TcpStream::connect(("127.0.0.1", host.api_port())).await.unwrap());
    }
    assert_eq!(host.get("/health").await.status, 200);
}

#[tokio::test]
async fn a_head_beyond_the_limits_is_refused() {
    let host = TestHost::builder().start().await;
    let long = format!("GET /health HTTP/1.1\r\nhost: localhost\r\nx: {}\r\n\r\n", "a".repeat(17 << 10));
    let many = (0..101).map(|n| format!("x-{n}: 1\r\n")).collect::<String>();
    let many = format!("GET /health HTTP/1.1\r\nhost: localhost\r\n{many}\r\n");
    for head in [long, many] {
        let answer = answer_to(&host, head.as_bytes()).await;
        assert!(answer.starts_with("HTTP/1.1 431"), "{answer}");
    }
}

#[tokio::test]
async fn a_refusal_is_heard_by_a_client_that_is_still_sending() {
    let host = TestHost::with_misbehave().await;
    let good = format!("Bearer {}", host.key());
    for (path, credential, status) in [
        ("/v1/chat/completions", "Bearer wrong", "401"),
        ("/v1/nothing", &good, "404"),
        ("/v1/models", &good, "405"),
        ("/api/plugins/nothing/invoke", &good, "404"),
        ("/admin/plugins/misbehave/start", &good, "202"),
    ] {
        let length = 8 << 20;
        let mut bytes = format!(
            "POST {path} HTTP/1.1\r\nhost: localhost\r\nauthorization: {credential}\r\n\
             content-length: {length}\r\n\r\n"
        )
        .into_bytes();
        bytes.resize(bytes.len() + length, b'x');
        bytes.extend_from_slice(b"GET /health HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n");
        let answer = answer_to(&host, &bytes).await;
        assert!(answer.starts_with(&format!("HTTP/1.1 {status}")), "{path}: {answer}");
        assert!(answer.contains("HTTP/1.1 200"), "the connection is good for another request: {answer}");
    }
}

#[tokio::test]
async fn a_client_that_asks_first_is_not_told_to_send_what_is_refused() {
    let host = TestHost::builder().start().await;
    let head = format!(
        "POST /v1/chat/completions HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer {}\r\n\
         content-length: {}\r\nexpect: 100-continue\r\n\r\n",
        host.key(),
        20 << 20
    );
    let answer = answer_to(&host, head.as_bytes()).await;
    assert!(answer.starts_with("HTTP/1.1 413"), "{answer}");
}

#[tokio::test]
async fn a_body_that_does_not_end_is_given_up_at_the_deadline() {
    let host =
        TestHost::builder().plugin("misbehave").config("limits.request_timeout_ms = 100").start().await;
    for path in ["/v1/chat/completions", "/api/plugins/misbehave/invoke"] {
        let mut socket = TcpStream::connect(("127.0.0.1", host.api_port())).await.unwrap();
        let head = format!(
            "POST {path} HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer {}\r\n\
             content-length: 100\r\n\r\n{{",
            host.key()
        );
        socket.write_all(head.as_bytes()).await.unwrap();
        let mut status = [0; 12];
        let answered = timeout(Duration::from_secs(20), socket.read_exact(&mut status)).await;
        answered.expect("an answer in time").unwrap();
        assert_eq!(String::from_utf8_lossy(&status), "HTTP/1.1 504", "{path}");
    }
}
