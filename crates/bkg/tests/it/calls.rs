//! What plugins ask of each other through the host: streams, cancels, circles and who does not read.

use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};

use crate::host::TestHost;

/// `asker` asks, and `answerer` is first in order for everything that it asks for.
async fn two_plugins() -> TestHost {
    let host = TestHost::builder()
        .plugin_as("misbehave", "answerer", json!({}))
        .plugin_as("misbehave", "asker", json!({}))
        .config(r#"dispatch.order = { "test.stream" = ["answerer"], "test.wait" = ["answerer"] }"#)
        .start()
        .await;
    // The one that comes first in order registers last.
    host.start_plugin("asker").await;
    host.start_plugin("answerer").await;
    host
}

/// Has `asker` ask for a stream, and answers what it got.
async fn call(host: &TestHost, payload: Value, options: Value) -> Value {
    let mut call = json!({ "capability": "test.stream", "payload": payload, "stream": true });
    call.as_object_mut().unwrap().extend(options.as_object().unwrap().clone());
    let reply = host.invoke("asker", "test.call", call).await;
    assert_eq!(reply.status, 200, "{}", reply.text);
    reply.json()["data"].clone()
}

async fn seen(host: &TestHost, plugin: &str) -> Value {
    host.invoke(plugin, "test.seen", json!({})).await.json()["data"].clone()
}

#[tokio::test]
async fn a_stream_between_plugins_arrives_whole_and_in_order() {
    let host = two_plugins().await;
    let got = call(&host, json!({ "n": 500 }), json!({ "credit": 3 })).await;
    assert_eq!(got["response"]["success"], true, "{}", got["response"]);
    let expected: Vec<Value> =
        (0..500).map(|n| json!({ "seq": n, "data": { "number": n, "filler": "x" } })).collect();
    assert_eq!(got["chunks"], json!(expected));
    assert_eq!(seen(&host, "answerer").await["chunks"], 500, "the first in order has answered");
    assert_eq!((host.in_flight("asker"), host.in_flight("answerer")), (0, 0));
}

#[tokio::test]
async fn a_plugin_that_gives_up_cancels_at_the_one_that_it_asked() {
    let host = two_plugins().await;
    let got = call(&host, json!({ "n": 1_000_000 }), json!({ "cancelAfter": 5 })).await;
    assert_eq!(got["response"]["error"]["code"], "cancelled");
    let cancels = host.invoke("answerer", "test.cancel_seen", json!({ "withinMs": 5_000 })).await;
    assert_eq!(cancels.json()["data"]["cancels"][0]["reason"], "caller_gone");
    host.until_in_flight("answerer", 0).await;
}

#[tokio::test]
async fn a_client_that_leaves_cancels_all_along_the_line() {
    let host = two_plugins().await;
    let call = json!({ "capability": "test.wait", "payload": { "ms": 60_000 } });
    tokio::select! {
        _ = host.invoke("asker", "test.call", call) => panic!("it waits for a minute"),
        () = host.until_in_flight("answerer", 1) => {}
    }
    let cancels = host.invoke("asker", "test.cancel_seen", json!({ "withinMs": 5_000 })).await;
    assert_eq!(cancels.json()["data"]["cancels"][0]["reason"], "caller_gone");
    // What the asking plugin asked for is its own to cancel; when it is gone, the host does.
    kill(Pid::from_raw(host.pid("asker")), Signal::SIGKILL).unwrap();
    host.until_in_flight("answerer", 0).await;
}

#[tokio::test]
async fn a_plugin_that_gives_no_credit_holds_a_stream_until_its_deadline() {
    let host = two_plugins().await;
    let begun = Instant::now();
    let options = json!({ "credit": 1, "giveCredit": false, "timeoutMs": 300 });
    let got = call(&host, json!({ "n": 1_000 }), options).await;
    assert_eq!(got["response"]["error"]["code"], "timeout", "{}", got["response"]);
    assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
    let cancels = host.invoke("answerer", "test.cancel_seen", json!({ "withinMs": 5_000 })).await;
    assert_eq!(cancels.json()["data"]["cancels"][0]["reason"], "deadline");
    host.until_in_flight("answerer", 0).await;
}

#[tokio::test]
async fn a_stream_that_never_pauses_ends_at_its_deadline() {
    let host = two_plugins().await;
    let got = call(&host, json!({ "n": 10_000_000 }), json!({ "timeoutMs": 300 })).await;
    assert_eq!(got["response"]["error"]["code"], "timeout", "{}", got["response"]);
    host.until_in_flight("answerer", 0).await;
}

#[tokio::test]
async fn a_plugin_that_gives_credit_and_does_not_read_stops_the_stream() {
    const CHUNKS: u64 = 3_000;
    const SIZE: u64 = 60_000;
    let host = two_plugins().await;
    let payload = json!({ "n": CHUNKS, "size": SIZE });
    let mut calling = Box::pin(call(&host, payload, json!({ "credit": 1_000_000, "keep": false })));
    let pid = Pid::from_raw(host.pid("asker"));
    tokio::select! {
        _ = &mut calling => panic!("the stream is long"),
        () = host.until_in_flight("answerer", 1) => {}
    }
    kill(pid, Signal::SIGSTOP).unwrap();
    let sent = loop {
        let (one, two) = (seen(&host, "answerer").await, seen(&host, "answerer").await);
        let sent = one["chunks"].as_u64().unwrap();
        assert!(sent < CHUNKS, "all of it was taken though nobody reads");
        if one["dry"] == 1 && two["dry"] == 1 && one["chunks"] == two["chunks"] {
            break sent;
        }
    };
    assert!(sent * SIZE < 64 << 20, "{sent} chunks were taken though nobody reads");
    kill(pid, Signal::SIGCONT).unwrap();
    let got = calling.await;
    assert_eq!(got["response"]["success"], true);
    assert_eq!(got["chunks"].as_array().unwrap().len(), CHUNKS as usize);
}

#[tokio::test]
async fn a_circle_into_a_full_instance_is_overloaded_at_once() {
    let host =
        TestHost::builder().plugin_as("misbehave", "asker", json!({ "maxConcurrency": 1 })).start().await;
    host.start_plugin("asker").await;
    let begun = Instant::now();
    let got = call(&host, json!({}), json!({})).await;
    assert_eq!(got["response"]["error"]["code"], "overloaded", "{}", got["response"]);
    assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
}
