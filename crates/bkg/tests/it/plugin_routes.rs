//! The HTTP routes of plugins: what reaches a plugin, what comes back, and what neither side can do.
//!
//! `misbehave` answers: `test.frame` shows the request as it stood on the wire, `test.echo` answers what
//! it was sent, so that a test chooses a plugin's answer by what it posts.

use std::collections::BTreeMap;
use std::time::Duration;

use bkg::registry::State;
use bytes::Bytes;
use http::{HeaderMap, Method, Request, Response, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use crate::host::{PATIENCE, Reply, TestHost, header, open_on};

fn route(method: &str, path: &str, capability: &str) -> Value {
    json!({ "method": method, "path": path, "capability": capability })
}

fn streamed(method: &str, path: &str, capability: &str) -> Value {
    json!({ "method": method, "path": path, "capability": capability, "streaming": true })
}

/// What `misbehave` registers in most tests.
fn usual() -> Value {
    json!([
        route("GET", "/", "test.frame"),
        route("POST", "/echo", "test.echo"),
        route("GET", "/see/{one}", "test.frame"),
        route("PUT", "/see/{two}", "test.frame"),
        route("POST", "/files/{*rest}", "test.frame"),
        route("POST", "/wait", "test.wait"),
        route("DELETE", "/echo", "test.echo"),
        streamed("POST", "/stream", "test.stream"),
        streamed("POST", "/chunks", "test.chunks"),
        streamed("GET", "/chunks", "test.chunks"),
    ])
}

async fn with_routes(routes: Value, entry: Value) -> TestHost {
    let mut whole = json!({ "settings": { "routes": routes } });
    whole.as_object_mut().unwrap().extend(entry.as_object().unwrap().clone());
    let host = TestHost::builder().plugin_as("misbehave", "misbehave", whole).start().await;
    host.start_plugin("misbehave").await;
    host
}

async fn with_usual_routes() -> TestHost {
    with_routes(usual(), json!({})).await
}

fn at(path: &str) -> String {
    format!("/api/plugins/misbehave{path}")
}

/// Sends a body of some type to a route.
async fn send(
    host: &TestHost,
    method: &str,
    path: &str,
    content_type: &str,
    body: impl Into<Bytes>,
) -> Reply {
    let mut request = host.request(method.parse().unwrap(), &at(path), None);
    if !content_type.is_empty() {
        request.headers_mut().insert("content-type", content_type.parse().unwrap());
    }
    *request.body_mut() = Full::new(body.into());
    host.send_request(request).await
}

/// The request as it stood on the wire when a route of `test.frame` was asked.
fn frame(reply: &Reply) -> Value {
    assert_eq!(reply.status, 200, "{}", reply.text);
    serde_json::from_str(reply.json()["frame"].as_str().unwrap()).unwrap()
}

/// What becomes of an answer that `misbehave` gives.
async fn answered(host: &TestHost, data: Value) -> Reply {
    send(host, "POST", "/echo", "application/json", data.to_string()).await
}

/// Replaces the routes of a running `misbehave`; they hold when this returns.
async fn replace_routes(host: &TestHost, plugin: &str, routes: Value) {
    let reply = host.invoke(plugin, "test.update", json!({ "routes": routes })).await;
    assert_eq!(reply.status, 200, "{}", reply.text);
}

#[tokio::test]
async fn a_plugin_sees_the_request_in_its_parts() {
    let host = with_usual_routes().await;
    let mut request = host.request(Method::PUT, &at("/see/a%20b%C3%A9?v=1&w=x+y&v=%26&z"), None);
    for (name, value) in [
        ("accept", "text/html"),
        ("accept-language", "de"),
        ("range", "bytes=0-1"),
        ("cookie", "bkg_session=secret; other=1"),
        ("x-forwarded-for", "10.0.0.1"),
        ("forwarded", "for=10.0.0.1"),
        ("x-bkg-user", "root"),
        ("x-request-id", "forged"),
        ("connection", "keep-alive, x-hop"),
        ("x-hop", "1"),
        ("te", "trailers"),
        ("origin", "http://localhost"),
        ("referer", "http://localhost/secret"),
    ] {
        request.headers_mut().insert(name, value.parse().unwrap());
    }
    let reply = host.send_request(request).await;
    let frame = frame(&reply);
    let id = header(&reply, "x-request-id").unwrap();
    assert_eq!(
        frame["http"],
        json!({
            "method": "PUT",
            "path": "/see/a%20b%C3%A9",
            "params": { "two": "a bé" },
            "query": [["v", "1"], ["w", "x y"], ["v", "&"], ["z", ""]],
            "headers": { "accept": "text/html", "accept-language": "de", "range": "bytes=0-1", "x-request-id": id },
            "body": "none",
        })
    );
    assert_eq!((&frame["payload"], &frame["caller"]["user"]), (&Value::Null, &json!("root")));
    assert_eq!(frame["correlationId"], id);
    assert!(!frame.to_string().contains(host.key()) && !frame.to_string().contains("secret"), "{frame}");
}

#[tokio::test]
async fn every_kind_of_body_reaches_the_plugin_whole() {
    let host = with_usual_routes().await;
    let bytes: Vec<u8> = (0..=255).collect();
    let cases: [(&str, &[u8], &str, Value); 6] = [
        ("application/json", br#"{"b":12345678901234567890123,"a":1.50}"#, "json", Value::Null),
        ("application/vnd.x+json", b"[1]", "json", json!([1])),
        (
            "application/x-www-form-urlencoded",
            b"a=1&b=x+y&a=2",
            "form",
            json!({ "a": ["1", "2"], "b": "x y" }),
        ),
        ("text/markdown; charset=utf-8", "# é".as_bytes(), "text", json!("# é")),
        ("application/octet-stream", b"\x00\xff", "base64", json!("AP8=")),
        ("", b"abc", "base64", json!("YWJj")),
    ];
    for (content_type, body, kind, due) in cases {
        let reply = send(&host, "POST", "/files/a/b", content_type, body.to_vec()).await;
        let text = reply.json()["frame"].as_str().unwrap().to_owned();
        let frame = frame(&reply);
        assert_eq!(frame["http"]["body"], kind, "{content_type}");
        assert_eq!(frame["http"]["params"], json!({ "rest": "a/b" }));
        match due {
            Value::Null => assert!(text.contains(std::str::from_utf8(body).unwrap()), "unchanged: {text}"),
            due => assert_eq!(frame["payload"], due, "{content_type}"),
        }
    }
    // Every byte, there and back.
    let reply = send(&host, "POST", "/echo", "image/png", bytes.clone()).await;
    let body = json!({ "$http": { "headers": { "content-type": "image/png" }, "base64": reply.json() } });
    let request = host.request(Method::POST, &at("/echo"), Some(body.to_string()));
    let (parts, body) = host.open(request).await.into_parts();
    assert_eq!(
        (parts.status.as_u16(), &parts.headers["content-type"]),
        (200, &"image/png".parse().unwrap())
    );
    assert_eq!(body.body.collect().await.unwrap().to_bytes(), bytes);
    for (content_type, body) in [
        ("application/json", &b"{"[..]),
        ("application/json", b"\xff"),
        ("application/x-www-form-urlencoded", b"a=%zz"),
    ] {
        let refused = send(&host, "POST", "/echo", content_type, body.to_vec()).await;
        assert_eq!((refused.status.as_u16(), refused.code()), (400, "invalid_request".to_owned()));
    }
    let mut compressed = host.request(Method::POST, &at("/echo"), Some("{}".to_owned()));
    compressed.headers_mut().insert("content-encoding", "gzip".parse().unwrap());
    assert_eq!(host.send_request(compressed).await.status, 415);
}

#[tokio::test]
async fn a_plugin_answers_json_or_chooses_status_headers_and_body() {
    let host = with_usual_routes().await;
    let plain = answered(&host, json!({ "z": 1, "a": [null] })).await;
    // In the plugin's own text, blanks and all.
    assert_eq!((plain.status.as_u16(), plain.text.as_str()), (200, r#"{"z": 1, "a": [null]}"#));
    assert_eq!(header(&plain, "content-type"), Some("application/json"));
    for (http, status, content_type, text) in [
        (json!({ "status": 201, "json": { "made": 1 } }), 201, Some("application/json"), r#"{"made": 1}"#),
        (json!({ "status": 404, "text": "gone" }), 404, Some("text/plain; charset=utf-8"), "gone"),
        (json!({ "headers": { "content-type": "text/csv" }, "text": "a,b" }), 200, Some("text/csv"), "a,b"),
        (json!({ "status": 204, "text": "never sent" }), 204, Some("text/plain; charset=utf-8"), ""),
        (json!({ "status": 304, "headers": { "etag": "\"1\"" } }), 304, None, ""),
        (json!({ "status": 599 }), 599, None, ""),
    ] {
        let reply = answered(&host, json!({ "$http": http })).await;
        assert_eq!((reply.status.as_u16(), reply.text.as_str()), (status, text), "{http}");
        assert_eq!(header(&reply, "content-type"), content_type, "{http}");
        // Whatever it is, a browser treats it as nothing of ours.
        let policy = header(&reply, "content-security-policy").unwrap();
        assert!(policy.contains("default-src 'none'") && policy.ends_with("sandbox"), "{policy}");
        assert_eq!(header(&reply, "x-content-type-options"), Some("nosniff"));
        assert_eq!(header(&reply, "cache-control"), Some("private, no-cache"));
    }
    for wrong in [json!({ "status": 100 }), json!({ "text": 1 }), json!({ "text": "a", "json": 1 })] {
        let reply = answered(&host, json!({ "$http": wrong })).await;
        assert_eq!(
            (reply.status.as_u16(), reply.code()),
            (502, "plugin_error".to_owned()),
            "{}",
            reply.text
        );
        assert_eq!(header(&reply, "x-bkg-error-source"), Some("plugin"));
    }
}

#[tokio::test]
async fn headers_that_are_the_hosts_are_left_out_counted_and_named_once_in_the_log() {
    let host = with_usual_routes().await;
    let headers = json!({
        "etag": "\"7\"",
        "Set-Cookie": "bkg_session=stolen",
        "content-security-policy": "default-src *",
        "access-control-allow-origin": "*",
        "x-frame-options": "ALLOWALL",
        "location": "https://evil.example/",
        "x-request-id": "forged",
        "last-modified": "a\r\nset-cookie: bkg_session=stolen",
    });
    for _ in 0..3 {
        let reply = answered(&host, json!({ "$http": { "headers": headers, "text": "" } })).await;
        assert_eq!(header(&reply, "etag"), Some("\"7\""));
        for name in
            ["set-cookie", "access-control-allow-origin", "x-frame-options", "location", "last-modified"]
        {
            assert_eq!(header(&reply, name), None, "{name}");
        }
        assert!(!header(&reply, "content-security-policy").unwrap().contains('*'));
        assert_ne!(header(&reply, "x-request-id"), Some("forged"));
    }
    let shown = host.get("/admin/plugins/misbehave/routes").await.json();
    assert_eq!(shown["droppedHeaders"], 3 * 7);
    let log = host.get("/admin/plugins/misbehave/logs").await.text;
    assert_eq!(log.matches("the header `set-cookie` of an answer").count(), 1, "{log}");
    assert_eq!(log.matches("was left out").count(), 7, "{log}");
}

#[tokio::test]
async fn no_redirect_makes_a_client_repeat_a_change_elsewhere() {
    let host = with_usual_routes().await;
    let redirect = async |method: &str, status: u16, location: &str| {
        let http = json!({ "$http": { "status": status, "headers": { "location": location } } });
        let reply = send(&host, method, "/echo", "application/json", http.to_string()).await;
        assert_eq!(reply.status, status);
        header(&reply, "location").map(str::to_owned)
    };
    let own = at("/see/1");
    assert_eq!(redirect("POST", 303, "/admin/plugins").await, Some("/admin/plugins".to_owned()));
    assert_eq!(redirect("POST", 307, &own).await.as_deref(), Some(own.as_str()));
    for status in [301, 302, 307, 308] {
        for elsewhere in
            ["/admin/users", "/api/plugins/misbehave/../../../admin/users", "x", "//evil.example/"]
        {
            assert_eq!(redirect("DELETE", status, elsewhere).await, None, "{status} {elsewhere}");
        }
    }
}

#[tokio::test]
async fn a_wrong_method_is_405_and_an_unknown_path_404() {
    let host = with_usual_routes().await;
    for (method, path, status, allow) in [
        ("DELETE", "/see/1", 405, Some("GET,HEAD,PUT,OPTIONS")),
        ("POST", "/", 405, Some("GET,HEAD,OPTIONS")),
        ("OPTIONS", "/see/1", 204, Some("GET,HEAD,PUT,OPTIONS")),
        ("OPTIONS", "/nothing", 404, None),
        ("GET", "/nothing", 404, None),
        ("GET", "/see", 404, None),
        ("GET", "/see/1/", 404, None),
        ("GET", "/see/1/2", 404, None),
        ("POST", "/files/", 404, None),
        ("HEAD", "/", 200, None),
        ("HEAD", "/see/1", 200, None),
    ] {
        let reply = send(&host, method, path, "", "").await;
        assert_eq!((reply.status.as_u16(), header(&reply, "allow")), (status, allow), "{method} {path}");
        if method == "HEAD" || status == 204 {
            assert_eq!(reply.text, "", "{method} {path}");
        } else {
            let keys: Vec<String> = reply.json()["error"].as_object().unwrap().keys().cloned().collect();
            assert_eq!(keys, ["message", "type", "param", "code"], "{method} {path}");
        }
    }
    for path in ["/api/plugins/nobody/", "/api/plugins/nobody/x", "/api/nothing"] {
        let reply = host.get(path).await;
        assert_eq!(reply.status, 404, "{path}: {}", reply.text);
    }
    assert_eq!(host.send_request(host.request(Method::TRACE, &at("/"), None)).await.status, 405);
}

#[tokio::test]
async fn a_path_that_could_be_read_in_two_ways_reaches_no_plugin() {
    let host = with_routes(json!([route("GET", "/{*rest}", "test.frame")]), json!({})).await;
    let ask = async |path: &str| {
        let mut socket = TcpStream::connect(("127.0.0.1", host.api_port())).await.unwrap();
        let head = format!(
            "GET {path} HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer {}\r\nconnection: close\r\n\r\n",
            host.key()
        );
        socket.write_all(head.as_bytes()).await.unwrap();
        let mut answer = String::new();
        timeout(PATIENCE, socket.read_to_string(&mut answer)).await.unwrap().unwrap();
        answer.split(' ').nth(1).unwrap().parse::<u16>().unwrap()
    };
    for path in [
        "/..",
        "/a/..",
        "/a/../b",
        "/./a",
        "/a/.",
        "//",
        "/a//b",
        "/%2e%2e",
        "/%2E%2e/a",
        "/.%2e",
        "/a%2fb",
        "/a%2Fb",
        "/..%2f..%2fadmin",
        "/a%5cb",
        "/a\\b",
        "/a%00",
        "/%00/b",
        "/a%0d%0ab",
        "/a%0a",
        "/a%7f",
        "/%",
        "/a%4",
        "/%zz",
        "/%+f",
        "/%ff",
        "/%c0%ae%c0%ae/",
    ] {
        assert_eq!(ask(&at(path)).await, 400, "{path}");
    }
    for path in
        ["/api/../api/plugins/misbehave/a", "/api//plugins/misbehave/a", "/api/./plugins/misbehave/a"]
    {
        assert_eq!(ask(path).await, 400, "{path}");
    }
    // The host's own words stay the host's, however they are written.
    for path in ["/status", "/st%61tus", "/ui/x", "/invoke/x", "/config"] {
        assert!(matches!(ask(&at(path)).await, 200 | 404 | 405), "{path}");
    }
    for path in ["/a", "/...", "/%252e%252e/%252f", "/a;b", "/a%20b", "/~"] {
        assert_eq!(ask(&at(path)).await, 200, "{path}");
    }
    assert_eq!(
        host.ask("test.seen", json!({})).await["frames"]["request"],
        7,
        "the last six, and this one"
    );
}

#[tokio::test]
async fn events_arrive_one_by_one_and_end_with_a_word() {
    let host = with_usual_routes().await;
    let reply = send(&host, "POST", "/stream", "application/json", r#"{"n":200}"#).await;
    assert_eq!(header(&reply, "content-type"), Some("text/event-stream"));
    assert_eq!(header(&reply, "x-accel-buffering"), Some("no"));
    let mut events: Vec<&str> = reply.text.split_terminator("\n\n").collect();
    assert_eq!(events.pop(), Some("event: end\ndata: null"));
    assert_eq!(events.len(), 200);
    for (number, event) in events.into_iter().enumerate() {
        let data: Value = serde_json::from_str(event.strip_prefix("data: ").unwrap()).unwrap();
        assert_eq!(data["number"], number);
    }
    let body = json!({ "chunks": [1, 2], "error": { "code": "conflict", "message": "it broke" } });
    let broken = send(&host, "POST", "/chunks", "application/json", body.to_string()).await;
    assert!(
        broken.text.starts_with("data: 1\n\ndata: 2\n\nevent: error\ndata: {\"error\":"),
        "{}",
        broken.text
    );
    assert!(broken.text.contains("\"code\":\"conflict\"") && !broken.text.contains("event: end"));
    let body = json!({ "error": { "code": "conflict", "message": "before anything" } });
    let early = send(&host, "POST", "/chunks", "application/json", body.to_string()).await;
    assert_eq!((early.status.as_u16(), early.code()), (409, "conflict".to_owned()));
    let body = json!({ "data": { "$http": { "status": 202, "text": "whole" } } });
    let whole = send(&host, "POST", "/chunks", "application/json", body.to_string()).await;
    assert_eq!((whole.status.as_u16(), whole.text.as_str()), (202, "whole"));
    let silent = send(&host, "POST", "/chunks", "application/json", "{}").await;
    assert_eq!(silent.text, "event: end\ndata: null\n\n");
}

#[tokio::test]
async fn the_first_chunk_of_a_stream_may_choose_another_type() {
    let host = with_usual_routes().await;
    let head =
        json!({ "$http": { "status": 206, "headers": { "content-type": "text/csv" }, "text": "a," } });
    let body = json!({ "chunks": [head, "é\n", "", { "base64": "YixjCg==" }] });
    let reply = send(&host, "POST", "/chunks", "application/json", body.to_string()).await;
    assert_eq!((reply.status.as_u16(), reply.text.as_str()), (206, "a,é\nb,c\n"));
    assert_eq!(header(&reply, "content-type"), Some("text/csv"));
    let wrong = json!({ "chunks": [{ "$http": { "status": 7 } }, "x"] });
    let refused = send(&host, "POST", "/chunks", "application/json", wrong.to_string()).await;
    assert_eq!((refused.status.as_u16(), refused.code()), (502, "plugin_error".to_owned()));
    // Without its end the client cannot take what came for all there is.
    for rest in
        [json!({ "chunks": [head, "x"], "error": "broke" }), json!({ "chunks": [head, "x", 7, "y"] })]
    {
        let request = host.request(Method::POST, &at("/chunks"), Some(rest.to_string()));
        let socket = TcpStream::connect(("127.0.0.1", host.api_port())).await.unwrap();
        // Where it breaks at once, not even its head may have been written.
        if let Ok(response) = open_on(socket, request).await {
            assert_eq!(response.status(), 206);
            assert!(response.into_body().body.collect().await.is_err(), "{rest}");
        }
    }
    host.until_in_flight("misbehave", 0).await;
}

#[tokio::test]
async fn a_stream_with_a_status_that_has_no_body_has_none() {
    let host = with_usual_routes().await;
    for status in [204, 205, 304] {
        let body = json!({ "chunks": [{ "$http": { "status": status, "text": "a" } }, "b"] });
        let reply = send(&host, "POST", "/chunks", "application/json", body.to_string()).await;
        assert_eq!((reply.status.as_u16(), reply.text.as_str()), (status, ""));
        assert_eq!(header(&reply, "transfer-encoding"), None, "{status}");
    }
    host.until_in_flight("misbehave", 0).await;
}

#[tokio::test]
async fn a_head_of_a_stream_has_no_body_and_ends_the_work() {
    let host = with_usual_routes().await;
    let reply = host.send_request(host.request(Method::HEAD, &at("/chunks"), None)).await;
    assert_eq!((reply.status.as_u16(), reply.text.as_str()), (200, ""));
    assert_eq!(header(&reply, "content-type"), Some("text/event-stream"));
    host.until_in_flight("misbehave", 0).await;
}

#[tokio::test]
async fn a_client_that_leaves_cancels_whole_and_streamed_work() {
    let host = with_usual_routes().await;
    let leave = async |host: &TestHost| {
        host.until_in_flight("misbehave", 0).await;
        let seen = host.ask("test.cancel_seen", json!({ "withinMs": 5_000 })).await;
        let cancels = seen["cancels"].as_array().unwrap().clone();
        assert!(cancels.iter().all(|cancel| cancel["reason"] == "caller_gone"), "{cancels:?}");
        cancels.len()
    };
    let request = host.request(Method::POST, &at("/wait"), Some("{}".to_owned()));
    tokio::select! {
        _ = host.send_request(request) => panic!("it waits for a minute"),
        () = host.until_in_flight("misbehave", 1) => {}
    }
    assert_eq!(leave(&host).await, 1);
    // A client that does not read takes no more than credit and buffers hold, and then it leaves.
    let body = json!({ "n": 1_000_000, "size": 10_000 }).to_string();
    let response = host.open(host.request(Method::POST, &at("/stream"), Some(body))).await;
    loop {
        let (one, two) = (host.ask("test.seen", json!({})).await, host.ask("test.seen", json!({})).await);
        if one["dry"] == 1 && one["chunks"] == two["chunks"] {
            assert!(one["chunks"].as_u64().unwrap() < 10_000, "{}", one["chunks"]);
            break;
        }
    }
    response.into_body().leave();
    assert_eq!(leave(&host).await, 2);
}

#[tokio::test]
async fn a_body_over_the_limits_is_refused_before_it_is_sent() {
    let host = with_routes(usual(), json!({ "maxFrameBytes": 65_536 })).await;
    let fits = send(&host, "POST", "/files/a", "application/octet-stream", vec![7; 40_000]).await;
    assert_eq!(fits.status, 200, "{}", fits.text);
    // Too large as it is; too large in base64; too large with its envelope.
    for (content_type, size) in
        [("application/octet-stream", 70_000), ("application/octet-stream", 60_000), ("text/plain", 65_500)]
    {
        let refused = send(&host, "POST", "/files/a", content_type, vec![b'x'; size]).await;
        assert_eq!(
            (refused.status.as_u16(), refused.code()),
            (413, "payload_too_large".to_owned()),
            "{size}"
        );
    }
    let seen = host.ask("test.seen", json!({})).await;
    assert_eq!(seen["frames"]["request"], 2, "one that fitted, and this one");
    assert_eq!(host.in_flight("misbehave"), 0);
}

#[tokio::test]
async fn the_scope_of_the_capability_opens_a_route_and_the_entry_may_choose_another() {
    let routes = json!([route("POST", "/echo", "test.echo"), route("GET", "/", "test.frame")]);
    let entry = json!({ "settings": { "routes": routes }, "scopes": { "test.echo": "chosen.scope" } });
    let host = TestHost::builder()
        .plugin("otherauth")
        .plugin_as("misbehave", "misbehave", entry)
        .config("[auth]\nprovider = \"otherauth\"")
        .start()
        .await;
    host.start_plugin("misbehave").await;
    let ask = async |key: &str, method: Method, path: &str| {
        let mut request = host.request(method, &at(path), None);
        request.headers_mut().insert("authorization", format!("Bearer {key}").parse().unwrap());
        // A body that never ends: whoever may not use the route is answered before it is read.
        host.send_request(request).await.status.as_u16()
    };
    for (scope, echo, frame) in [
        ("chosen.scope", 200, 403),
        ("test.echo", 403, 403),
        ("test.*", 403, 200),
        ("admin", 200, 200),
        ("", 403, 403),
    ] {
        let key = format!("test_key-{}~{scope}", scope.replace(['.', '*'], "x"));
        let statuses = (ask(&key, Method::POST, "/echo").await, ask(&key, Method::GET, "/").await);
        assert_eq!(statuses, (echo, frame), "{scope}");
        let mut request = host.request(Method::GET, "/api/plugins/routes", None);
        request.headers_mut().insert("authorization", format!("Bearer {key}").parse().unwrap());
        let listed = host.send_request(request).await.json();
        let own = listed.as_array().unwrap().iter().filter(|route| route["plugin"] == "misbehave").count();
        assert_eq!(own, usize::from(echo == 200) + usize::from(frame == 200), "{scope}: {listed}");
    }
    assert_eq!(ask("sk-nobody-has-this-key", Method::GET, "/").await, 401);
}

#[tokio::test]
async fn who_is_refused_is_told_so_before_the_body_is_read() {
    let host = with_usual_routes().await;
    let mut socket = TcpStream::connect(("127.0.0.1", host.api_port())).await.unwrap();
    let head = format!(
        "POST {} HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer nobody-has-this\r\ncontent-length: 1000000\r\n\r\n",
        at("/echo")
    );
    socket.write_all(head.as_bytes()).await.unwrap();
    let mut answer = [0; 12];
    timeout(PATIENCE, socket.read_exact(&mut answer)).await.expect("an answer to the head alone").unwrap();
    assert!(answer.starts_with(b"HTTP/1.1 401") || answer.starts_with(b"HTTP/1.1 503"), "{answer:?}");
}

#[tokio::test]
async fn what_the_host_needs_or_cannot_serve_is_refused_with_the_reason_and_changes_nothing() {
    let host = with_usual_routes().await;
    for (routes, reason) in [
        (json!([route("GET", "/status", "test.echo")]), "belongs to the host"),
        (json!([route("GET", "/ui/page", "test.echo")]), "belongs to the host"),
        (
            json!([route("GET", "/a", "test.echo"), route("GET", "/a/", "test.frame")]),
            "mean the same requests",
        ),
        (
            json!([route("GET", "/a/{x}", "test.echo"), route("POST", "/a/{*y}", "test.frame")]),
            "in the same place",
        ),
        (json!([route("GET", "/{a", "test.echo")]), "brace out of place"),
        (json!([route("GET", "/a", "test.unlisted")]), "is not registered"),
        (json!([route("FETCH", "/a", "test.echo")]), "no known method"),
    ] {
        // The good one beside it is not taken either.
        let mut all = routes.as_array().unwrap().clone();
        all.insert(0, route("GET", "/good", "test.frame"));
        let body = json!({ "capability": "test.update", "payload": { "routes": all } });
        host.post("/api/plugins/misbehave/invoke", body).await;
        let reply = host.get(&at("/good")).await;
        assert_eq!(reply.status, 404, "{reason}: {}", reply.text);
        assert_eq!(host.get(&at("/see/1")).await.status, 200, "{reason}");
    }
    let bad = json!({ "settings": { "routes": [route("GET", "/config/x", "test.echo")] } });
    let host = TestHost::builder()
        .plugin_as("misbehave", "misbehave", bad)
        .config("supervisor.prepare_timeout_ms = 1000")
        .start()
        .await;
    host.host().supervisor.want_up("misbehave").unwrap();
    let reason = "the route `GET /config/x` starts with `/config`, which belongs to the host";
    host.until(|view| {
        let told = view.plugin("misbehave")?.status.reason.as_ref()?;
        told.contains(reason).then_some(())
    })
    .await;
    let log = host.get("/admin/plugins/misbehave/logs").await.text;
    assert!(log.contains(reason), "{log}");
}

#[tokio::test]
async fn a_prefix_is_a_second_place_and_belongs_to_one_plugin() {
    let routes = json!([route("GET", "/", "test.frame"), route("GET", "/status", "test.frame")]);
    let entry = |prefix: &str| json!({ "settings": { "routes": routes }, "routePrefix": prefix });
    let host = TestHost::builder()
        .plugin_as("misbehave", "first", entry("/api/goose"))
        .plugin_as("misbehave", "second", entry("/api/goose/more"))
        .plugin_as("misbehave", "third", entry("/api/conversations"))
        .start()
        .await;
    host.start_plugin("first").await;
    for (path, status, below) in [
        ("/api/goose", 200, "/"),
        ("/api/goose/status", 200, "/status"),
        ("/api/plugins/first/", 200, "/"),
        ("/api/goose/", 404, ""),
    ] {
        let reply = host.get(path).await;
        assert_eq!(reply.status, status, "{path}: {}", reply.text);
        if status == 200 {
            assert_eq!(frame(&reply)["http"]["path"], below, "{path}");
        }
    }
    assert!(!host.get("/api/plugins/first/status").await.text.contains("frame"), "that is the host's");
    let plugins = host.get("/admin/plugins").await.json();
    let errors: Vec<&str> =
        plugins.as_array().unwrap().iter().filter_map(|plugin| plugin["error"].as_str()).collect();
    assert!(
        errors[0].contains("`/api/goose/more` overlaps with `/api/goose` of the plugin `first`"),
        "{errors:?}"
    );
    assert!(errors[1].contains("`/api/conversations` belongs to the host"), "{errors:?}");
}

#[tokio::test]
async fn a_saved_prefix_takes_no_paths_of_another_plugin() {
    let routes = json!([route("GET", "/more/x", "test.frame"), route("GET", "/{*rest}", "test.frame")]);
    let entry = |prefix: &str| json!({ "settings": { "routes": routes }, "routePrefix": prefix });
    let host = TestHost::builder()
        .plugin_as("misbehave", "first", entry("/api/goose"))
        .plugin_as("misbehave", "second", entry("/api/duck"))
        .start()
        .await;
    for prefix in ["/api/goose", "/api/goose/more"] {
        let refused = host.post("/admin/plugins/second/config", json!({ "routePrefix": prefix })).await;
        assert_eq!(
            (refused.status.as_u16(), refused.code()),
            (422, "invalid_config".to_owned()),
            "{prefix}"
        );
        assert_eq!(refused.json()["error"]["details"][0]["path"], "/routePrefix", "{}", refused.text);
        assert!(
            refused.text.contains("overlaps with `/api/goose` of the plugin `first`"),
            "{}",
            refused.text
        );
    }
    let saved = host.post("/admin/plugins/first/config", json!({ "routePrefix": "/api/swan" })).await;
    assert_eq!(saved.status, 200, "{}", saved.text);
    let saved = host.post("/admin/plugins/second/config", json!({ "routePrefix": "/api/goose" })).await;
    assert_eq!(saved.status, 200, "{}", saved.text);
    let saved = host.post("/admin/plugins/second/config", json!({ "routePrefix": "/api/wing" })).await;
    assert_eq!(saved.status, 200, "{}", saved.text);
    // Files may change while the daemon is down: who comes first keeps the paths, whole.
    let file = host.plugins_dir().join("second/plugin.json");
    let host = host
        .restart_after(|| {
            let third = file.parent().unwrap().with_file_name("third");
            std::fs::create_dir(&third).unwrap();
            for file in std::fs::read_dir(file.parent().unwrap()).unwrap() {
                let file = file.unwrap().path();
                std::fs::copy(&file, third.join(file.file_name().unwrap())).unwrap();
            }
            let text = std::fs::read_to_string(&file).unwrap();
            let mut whole: Value = serde_json::from_str(&text).unwrap();
            whole["name"] = json!("third");
            whole["routePrefix"] = json!("/api/wing/more");
            std::fs::write(third.join("plugin.json"), whole.to_string()).unwrap();
        })
        .await;
    let plugins = host.get("/admin/plugins").await.json();
    let third = plugins.as_array().unwrap().iter().find(|plugin| plugin["name"] == "third").unwrap();
    let error = third["error"].as_str().unwrap_or_default();
    assert!(error.contains("overlaps with `/api/wing` of the plugin `second`"), "{third}");
    // It is brought to life by a prefix of its own.
    let saved = host.post("/admin/plugins/third/config", json!({ "routePrefix": "/api/crane" })).await;
    assert!(saved.status.is_success(), "{}", saved.text);
    let host = host.restart().await;
    host.start_plugin("third").await;
    assert_eq!(host.get("/api/crane/more/x").await.status, 200);
    host.stop().await;
}

#[tokio::test]
async fn a_plugin_that_restarts_keeps_its_routes() {
    let host = with_usual_routes().await;
    kill(Pid::from_raw(host.pid("misbehave")), Signal::SIGKILL).unwrap();
    host.until(|view| view.plugin("misbehave")?.instances.is_empty().then_some(())).await;
    let away = host.get(&at("/see/1")).await;
    if away.status != 200 {
        assert_eq!((away.status.as_u16(), away.code()), (503, "plugin_unavailable".to_owned()));
    }
    host.host().supervisor.want_down("misbehave").unwrap();
    host.until_state("misbehave", State::Stopped).await;
    let stopped = host.get(&at("/see/1")).await;
    assert_eq!((stopped.status.as_u16(), stopped.code()), (503, "plugin_unavailable".to_owned()));
    assert!(stopped.text.contains("bkg plugin start misbehave"), "{}", stopped.text);
    assert_eq!(host.get(&at("/nothing")).await.status, 404);

    let host = TestHost::builder().plugin("misbehave").start().await;
    let never = host.get(&at("/anything")).await;
    assert_eq!((never.status.as_u16(), never.code()), (503, "plugin_unavailable".to_owned()));
}

/// A client that keeps its connection.
async fn keep_alive(host: &TestHost) -> SendRequest<Full<Bytes>> {
    let socket = TcpStream::connect(("127.0.0.1", host.api_port())).await.unwrap();
    let (sender, connection) = http1::handshake(TokioIo::new(socket)).await.unwrap();
    tokio::spawn(connection);
    sender
}

async fn ask_over(
    sender: &mut SendRequest<Full<Bytes>>,
    request: Request<Full<Bytes>>,
) -> (StatusCode, HeaderMap, Bytes) {
    let asking = async {
        sender.ready().await.unwrap();
        let (parts, body) = Response::into_parts(sender.send_request(request).await.unwrap());
        (parts.status, parts.headers, body.collect().await.unwrap().to_bytes())
    };
    timeout(PATIENCE, asking).await.expect("an answer in time")
}

#[tokio::test]
async fn a_thousand_swaps_of_the_table_give_no_wrong_answer() {
    const SWAPS: usize = 1_000;
    let stable =
        [route("POST", "/stable/{word}", "test.echo"), route("GET", "/stable/{word}", "test.frame")];
    let host = TestHost::builder()
        .plugin_as("misbehave", "one", json!({ "settings": { "routes": stable } }))
        .plugin_as("misbehave", "two", json!({ "settings": { "routes": stable } }))
        .start()
        .await;
    host.start_plugin("one").await;
    host.start_plugin("two").await;
    let over = CancellationToken::new();
    let hammer = async |plugin: &str, word: &str| {
        let mut sender = keep_alive(&host).await;
        let mut answers: BTreeMap<&str, usize> = BTreeMap::new();
        while !over.is_cancelled() {
            let turn = answers.values().sum::<usize>();
            let body = json!({ "turn": turn, "word": word }).to_string();
            let base = format!("/api/plugins/{plugin}");
            let (method, path, due) = match turn % 4 {
                0 => (Method::POST, format!("{base}/stable/{word}"), 200),
                1 => (Method::GET, format!("{base}/stable/{word}"), 200),
                2 => (Method::DELETE, format!("{base}/stable/{word}"), 405),
                _ => (Method::GET, format!("{base}/never/{word}"), 404),
            };
            let request =
                host.request(method.clone(), &path, (method == Method::POST).then(|| body.clone()));
            let (status, headers, text) = ask_over(&mut sender, request).await;
            assert_eq!(status.as_u16(), due, "{method} {path}: {text:?}");
            match due {
                200 if method == Method::POST => {
                    assert_eq!(serde_json::from_slice::<Value>(&text).unwrap().to_string(), body);
                }
                200 => {
                    let reply: Value = serde_json::from_slice(&text).unwrap();
                    let frame: Value = serde_json::from_str(reply["frame"].as_str().unwrap()).unwrap();
                    assert_eq!(frame["http"]["params"], json!({ "word": word }));
                }
                405 => assert_eq!(headers["allow"], "GET,HEAD,POST,OPTIONS"),
                _ => {}
            }
            *answers.entry(method.as_str().to_owned().leak()).or_default() += 1;
        }
        answers.values().sum::<usize>()
    };
    let swap = async {
        let mut sender = keep_alive(&host).await;
        for swap in 0..SWAPS {
            let plugin = if swap % 2 == 0 { "one" } else { "two" };
            let mut routes = stable.to_vec();
            routes.push(route("GET", &format!("/turn/{swap}"), "test.frame"));
            routes.push(route("GET", if swap % 4 < 2 { "/even/{x}" } else { "/odd/{x}" }, "test.frame"));
            if swap % 3 == 0 {
                routes.reverse();
            }
            replace_routes(&host, plugin, json!(routes)).await;
            // From now on the new ones hold, and the ones before are gone.
            let base = format!("/api/plugins/{plugin}");
            for (path, due) in [
                (format!("{base}/turn/{swap}"), 200),
                (format!("{base}/turn/{}", swap.wrapping_sub(2)), 404),
                (format!("{base}/even/7"), if swap % 4 < 2 { 200 } else { 404 }),
            ] {
                let (status, _, text) = ask_over(&mut sender, host.request(Method::GET, &path, None)).await;
                assert_eq!(status.as_u16(), due, "{path}: {text:?}");
            }
        }
        over.cancel();
    };
    let clients = async {
        tokio::join!(hammer("one", "a"), hammer("one", "b"), hammer("two", "c"), hammer("two", "d"))
    };
    let ((), (a, b, c, d)) = tokio::join!(swap, clients);
    assert!([a, b, c, d].iter().all(|asked| *asked > 100), "{a} {b} {c} {d}: the clients took part");
}

#[tokio::test]
async fn live_routes_are_listed() {
    let host = with_routes(
        json!([route("GET", "/", "test.frame"), streamed("PUT", "/a/{b}/", "test.stream")]),
        json!({}),
    )
    .await;
    let due = json!([
        { "method": "GET", "path": at("/"), "plugin": "misbehave", "capability": "test.frame", "streaming": false },
        { "method": "PUT", "path": at("/a/{b}"), "plugin": "misbehave", "capability": "test.stream", "streaming": true },
    ]);
    assert_eq!(host.get("/api/plugins/routes").await.json(), due);
    assert_eq!(
        host.get("/admin/plugins/misbehave/routes").await.json(),
        json!({ "routes": due, "droppedHeaders": 0 })
    );
    assert_eq!(host.get("/admin/plugins/nobody/routes").await.status, 404);
}

#[tokio::test]
async fn the_reference_plugin_answers_over_http() {
    let host = TestHost::builder().bundled("ping", &json!({})).start().await;
    host.start_plugin("ping").await;
    let reply = host.get("/api/plugins/ping/").await;
    assert_eq!((reply.status.as_u16(), reply.text.as_str()), (200, r#"{"pong":true}"#));
    assert_eq!(
        host.get("/api/plugins/ping/greetings/Ada").await.json(),
        json!({ "greeting": "hello Ada" })
    );
    let counted = host.get("/api/plugins/ping/count/2").await.text;
    assert_eq!(counted, "data: {\"number\":0}\n\ndata: {\"number\":1}\n\nevent: end\ndata: null\n\n");
    assert_eq!(host.get("/api/plugins/ping/count/x").await.status, 400);
}

/// How long a stream may go on after its key was revoked.
const ENDS_WITHIN: Duration = Duration::from_secs(5);

#[tokio::test]
async fn a_stream_ends_when_its_key_is_revoked() {
    let host = TestHost::builder()
        .plugin("otherauth")
        .plugin_as("misbehave", "misbehave", json!({ "settings": { "routes": usual() } }))
        .config("[auth]\nprovider = \"otherauth\"")
        .start()
        .await;
    host.start_plugin("misbehave").await;
    let body = json!({ "n": 1_000_000, "delayMs": 20 }).to_string();
    let mut request = host.request(Method::POST, &at("/stream"), Some(body));
    request.headers_mut().insert("authorization", "Bearer test_key-stream~test.*".parse().unwrap());
    let response = host.open(request).await;
    assert_eq!(response.status(), 200);
    let revoked = host.invoke("otherauth", "otherauth.revoke", json!({ "keyId": "test_key-stream" })).await;
    assert_eq!(revoked.status, 200, "{}", revoked.text);
    let rest = timeout(ENDS_WITHIN, response.into_body().body.collect()).await.expect("it ends").unwrap();
    let text = String::from_utf8(rest.to_bytes().to_vec()).unwrap();
    assert!(
        text.contains("event: error\n")
            && text.contains("\"unauthorized\"")
            && !text.contains("event: end"),
        "{text}"
    );
}
