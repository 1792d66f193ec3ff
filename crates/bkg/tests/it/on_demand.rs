//! Plugins that start when a request needs them: one start however many ask, a bounded queue, and no start
//! of what somebody stopped.

use bkg::registry::State;
use serde_json::{Value, json};

use crate::host::{Builder, Reply, TestHost, chat};

/// Limits that make every wait of a stop short.
const QUICK: &str = "supervisor.drain_ms = 200\nsupervisor.grace_ms = 200";

/// `misbehave`, which starts on demand, with what else its entry says.
fn lazy(entry: Value) -> Builder {
    let mut whole = json!({ "activation": "on-demand" });
    whole.as_object_mut().unwrap().extend(entry.as_object().unwrap().clone());
    TestHost::builder().plugin_as("misbehave", "misbehave", whole).config(QUICK)
}

fn state(host: &TestHost, name: &str) -> State {
    host.host().registry.plugin(name).unwrap().state()
}

#[tokio::test]
async fn the_first_request_starts_it_and_is_answered() {
    let host = lazy(json!({})).start().await;
    assert_eq!(state(&host, "misbehave"), State::Stopped);
    let answer = host.ask("test.echo", json!({ "a": 1 })).await;
    assert_eq!(answer, json!({ "a": 1 }));
    assert_eq!(state(&host, "misbehave"), State::Running);
    host.stop().await;
}

#[tokio::test]
async fn many_requests_make_one_start_and_the_rest_are_told_when_to_come_back() {
    let host = lazy(json!({})).config("limits.queue_requests = 20").start().await;
    let calls = (0..100).map(|number| host.invoke("misbehave", "test.echo", json!({ "n": number })));
    let replies: Vec<Reply> = futures_util::future::join_all(calls).await;
    let (answered, refused): (Vec<&Reply>, Vec<&Reply>) =
        replies.iter().partition(|reply| reply.status == 200);
    assert!(answered.len() >= 20, "{} were answered", answered.len());
    for reply in refused {
        assert_eq!(
            (reply.status.as_u16(), reply.code().as_str()),
            (503, "plugin_unavailable"),
            "{}",
            reply.text
        );
        assert_eq!(reply.headers["retry-after"], "1");
    }
    assert_eq!(host.get("/admin/plugins/misbehave/runs").await.json()["runs"].as_array().unwrap().len(), 1);
    host.stop().await;
}

#[tokio::test]
async fn what_somebody_stopped_is_not_started_by_a_request() {
    let host = lazy(json!({})).start().await;
    host.ask("test.echo", json!({})).await;
    host.post("/admin/plugins/misbehave/stop?wait=30", json!({})).await;
    let reply = host.invoke("misbehave", "test.echo", json!({})).await;
    assert_eq!((reply.status.as_u16(), reply.code().as_str()), (503, "plugin_unavailable"));
    assert!(reply.text.contains("start it with `bkg plugin start misbehave`"), "{}", reply.text);
    assert_eq!(state(&host, "misbehave"), State::Stopped);
    // Until somebody starts it, or the host begins anew.
    let host = host.restart().await;
    host.ask("test.echo", json!({})).await;
    host.stop().await;
}

#[tokio::test]
async fn what_ended_by_itself_is_started_again_by_a_request() {
    let host = lazy(json!({ "restart": "on-failure" })).start().await;
    host.ask("test.echo", json!({})).await;
    let ended = host.invoke("misbehave", "test.crash", json!({ "code": 0 })).await;
    host.until_state("misbehave", State::Stopped).await;
    assert_ne!(ended.status, 200);
    host.ask("test.echo", json!({})).await;
    host.stop().await;
}

#[tokio::test]
async fn a_start_that_fails_is_an_answer_to_everybody_who_waits() {
    let entry = json!({ "activation": "on-demand", "restart": "never", "capabilities": ["test.*"] });
    let host = TestHost::builder().script("fails", "#!/bin/sh\nexit 3\n", entry).start().await;
    let calls = (0..5).map(|_| host.invoke("fails", "test.any", json!({})));
    for reply in futures_util::future::join_all(calls).await {
        assert_eq!((reply.status.as_u16(), reply.code().as_str()), (503, "plugin_unavailable"));
        assert!(reply.text.contains("plugin `fails` is failed"), "{}", reply.text);
    }
    host.stop().await;
}

#[tokio::test]
async fn a_model_starts_its_plugin_by_what_the_entry_allows_or_names() {
    let host = lazy(json!({ "models": ["test/*"] })).start().await;
    let reply = host.post("/v1/chat/completions", chat("test/frame", "hello")).await;
    assert_eq!(reply.status, 200, "{}", reply.text);
    host.stop().await;
    let host =
        lazy(json!({ "models": ["test/frame"], "capabilities": ["llm.chat", "test.*"] })).start().await;
    let models = host.get("/v1/models").await.json();
    let ids: Vec<&Value> = models["data"].as_array().unwrap().iter().map(|model| &model["id"]).collect();
    assert_eq!(ids, ["test/frame"]);
    assert_eq!(state(&host, "misbehave"), State::Stopped, "asking what there is starts nothing");
    let reply = host.post("/v1/chat/completions", chat("nothing", "hello")).await;
    assert_eq!(reply.status, 503, "{}", reply.text);
    assert_eq!(state(&host, "misbehave"), State::Stopped);
    host.stop().await;
}

#[tokio::test]
async fn another_plugin_starts_it_as_an_application_does() {
    let entry = json!({ "activation": "on-demand", "env": { "BKG_QUIRK": "http_twin" } });
    let host = TestHost::builder()
        .plugin_as("quirks", "asked", entry)
        .plugin_as("misbehave", "misbehave", json!({ "calls": ["quirk.*"] }))
        .config(QUICK)
        .start()
        .await;
    host.start_plugin("misbehave").await;
    let answer = host.ask("test.call", json!({ "capability": "quirk.echo", "payload": { "x": 1 } })).await;
    assert!(answer.to_string().contains("\"x\":1"), "{answer}");
    assert_eq!(state(&host, "asked"), State::Running);
    host.stop().await;
}

#[tokio::test]
async fn a_route_starts_its_plugin_before_and_after_it_was_declared() {
    let routes = json!([{ "method": "GET", "path": "/hello", "capability": "test.echo" }]);
    let entry = json!({ "settings": { "register": "once", "routes": routes }, "capabilities": ["test.echo", "test.*", "llm.chat"] });
    let host = lazy(entry).start().await;
    assert_eq!(host.get("/api/plugins/nobody/hello").await.status, 404);
    let reply = host.get("/api/plugins/misbehave/hello").await;
    assert_eq!(reply.status, 200, "{}", reply.text);
    let reply = host.get("/api/plugins/misbehave/no-such").await;
    assert_eq!(reply.status, 404, "{}", reply.text);
    host.stop().await;
}

#[tokio::test]
async fn who_may_not_use_it_does_not_start_it() {
    let host = lazy(json!({})).plugin("otherauth").config("auth.provider = \"otherauth\"").start().await;
    host.start_plugin("otherauth").await;
    let mut request = host.request(
        http::Method::POST,
        "/api/plugins/misbehave/invoke",
        Some(json!({ "capability": "test.echo" }).to_string()),
    );
    request.headers_mut().insert("authorization", "bearer test_key-x~llm.chat".parse().unwrap());
    let reply = host.send_request(request).await;
    assert_eq!(reply.status, 403, "{}", reply.text);
    assert_eq!(state(&host, "misbehave"), State::Stopped);
    host.stop().await;
}
