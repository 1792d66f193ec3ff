//! Every route declares who may use it, and that is what happens; the operator's routes do what they
//! say, and nothing when they refuse.

use std::time::Duration;

use bkg::web::Access;
use bytes::Bytes;
use http::{Method, Request};
use http_body_util::{BodyExt, Full};
use serde_json::json;
use tokio::time::timeout;

use crate::host::TestHost;

#[tokio::test]
async fn without_a_credential_only_public_routes_answer() {
    let host = TestHost::builder().start().await;
    let table = host.host().routes().to_vec();
    assert!(table.len() > 10, "{table:?}");
    for route in table {
        let path = route.path.replace("{name}", "some").replace("{*id}", "some").replace("{*path}", "some");
        let request = Request::builder().method(&route.method).uri(&path).header("host", "localhost");
        let reply = host.send_request(request.body(Full::<Bytes>::default()).unwrap()).await;
        let refused = reply.status == 401;
        assert_eq!(refused, route.access != Access::Public, "{} {path}: {}", route.method, reply.status);
    }
}

#[tokio::test]
async fn a_wait_that_is_no_wait_changes_nothing() {
    let host = TestHost::with_misbehave().await;
    let pid = host.pid("misbehave");
    for action in ["stop", "restart", "start"] {
        for wait in ["", "x", "-1", "601", "NaN"] {
            let reply =
                host.post(&format!("/admin/plugins/misbehave/{action}?wait={wait}"), json!({})).await;
            assert_eq!((reply.status.as_u16(), reply.code().as_str()), (400, "invalid_request"));
            assert_eq!(reply.json()["error"]["param"], "wait");
        }
    }
    let shown = host.get("/admin/plugins/misbehave").await.json();
    assert_eq!((&shown["status"], &shown["instances"][0]["pid"]), (&json!("running"), &json!(pid)));
}

#[tokio::test]
async fn an_invocation_answers_in_the_plugins_own_text() {
    let host = TestHost::with_misbehave().await;
    let body = r#"{"capability":"test.echo","payload":{"z":12345678901234567890123,"a":1}}"#;
    let request = host.request(Method::POST, "/api/plugins/misbehave/invoke", Some(body.to_owned()));
    let reply = host.send_request(request).await;
    assert!(reply.text.contains("12345678901234567890123"), "{}", reply.text);
    let list = host.post("/api/plugins/misbehave/invoke", json!(["test.echo", 1, null])).await;
    assert_eq!(list.status, 400, "a list is no invocation: {}", list.text);
}

#[tokio::test]
async fn a_log_stream_that_starts_with_no_lines_goes_on_with_the_next_one() {
    let host = TestHost::with_misbehave().await;
    host.ask("test.flood_logs", json!({ "lines": 3 })).await;
    let mut request = host.request(Method::GET, "/admin/plugins/misbehave/logs?tail=0", None);
    request.headers_mut().insert("accept", "text/event-stream".parse().unwrap());
    let mut stream = host.open(request).await.into_body();
    host.ask("test.flood_logs", json!({ "lines": 1, "size": 7 })).await;
    let mut text = String::new();
    while !text.contains("event: line") {
        let frame = timeout(Duration::from_secs(30), stream.body.frame()).await.expect("an event in time");
        text.push_str(std::str::from_utf8(frame.unwrap().unwrap().data_ref().unwrap()).unwrap());
    }
    assert!(text.contains("0 xxxxxxx\"") && text.matches("id: ").count() == 1, "{text}");
}
