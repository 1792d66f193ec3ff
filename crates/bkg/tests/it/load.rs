//! More work than there are places for it: the queue, the balance, the limits, and who leaves early.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bkg::registry::{Order, PluginRecord};
use futures_util::future::{join_all, join3, select};
use http::Method;
use http_body_util::BodyExt;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};

use crate::host::{Builder, TestHost, chat, events};

/// So long that no test sees it pass.
const LONG: u64 = 60_000;

/// A `misbehave` that registers some of its capabilities on terms.
fn with_terms(terms: Value) -> Builder {
    TestHost::builder().plugin_as("misbehave", "misbehave", json!({ "settings": { "terms": terms } }))
}

fn record(host: &TestHost) -> Arc<PluginRecord> {
    host.host().registry.plugin("misbehave").unwrap()
}

async fn until_waiting(host: &TestHost, count: usize) {
    let capacity = Arc::clone(&record(host).capacity);
    let looking = async {
        while capacity.waiting() != count {
            tokio::task::yield_now().await;
        }
    };
    let found = tokio::time::timeout(Duration::from_secs(5), looking).await;
    found.unwrap_or_else(|_| panic!("{} requests wait, not {count}", capacity.waiting()));
}

#[tokio::test]
async fn a_full_queue_says_overloaded_and_a_freed_place_goes_to_who_waits() {
    let host = TestHost::builder()
        .plugin_as("misbehave", "misbehave", json!({ "maxConcurrency": 1 }))
        .config("limits.queue_requests = 1")
        .start()
        .await;
    host.start_plugin("misbehave").await;
    let mut serving = Box::pin(host.invoke("misbehave", "test.wait", json!({ "ms": LONG })));
    tokio::select! {
        _ = &mut serving => panic!("it waits for a minute"),
        () = host.until_in_flight("misbehave", 1) => {}
    }
    let mut waiting = Box::pin(host.invoke("misbehave", "test.echo", json!({ "n": 2 })));
    tokio::select! {
        _ = &mut waiting => panic!("the only place is taken"),
        () = until_waiting(&host, 1) => {}
    }
    let refused = host.invoke("misbehave", "test.echo", json!({ "n": 3 })).await;
    assert_eq!((refused.status.as_u16(), refused.code()), (503, "overloaded".to_owned()));
    assert_eq!(refused.headers["retry-after"], "1");
    drop(serving);
    let served = waiting.await;
    assert_eq!((served.status.as_u16(), served.json()["data"].clone()), (200, json!({ "n": 2 })));
    until_waiting(&host, 0).await;
}

#[tokio::test]
async fn a_place_of_one_capability_goes_to_who_waits_for_that_one() {
    let terms =
        json!({ "test.wait": { "maxConcurrency": 1 }, "test.cancel_seen": { "maxConcurrency": 1 } });
    let host = with_terms(terms).start().await;
    host.start_plugin("misbehave").await;
    let wait = || Box::pin(host.invoke("misbehave", "test.wait", json!({ "ms": LONG })));
    let seen = || Box::pin(host.invoke("misbehave", "test.cancel_seen", json!({ "withinMs": 20_000 })));
    let mut late = Box::pin(host.invoke("misbehave", "test.late", json!({ "afterMs": LONG })));
    let (mut first_wait, mut second_wait) = (wait(), wait());
    let (mut first_seen, mut second_seen) = (seen(), seen());
    tokio::select! {
        biased;
        () = host.until_in_flight("misbehave", 3) => {}
        _ = join3(&mut first_wait, &mut first_seen, &mut late) => panic!("all of them wait"),
    }
    tokio::select! {
        _ = select(&mut first_wait, &mut second_wait) => panic!("both wait"),
        () = until_waiting(&host, 1) => {}
    }
    tokio::select! {
        _ = select(&mut first_seen, &mut second_seen) => panic!("both wait"),
        () = until_waiting(&host, 2) => {}
    }
    // The plugin reads a `cancel`, whose request keeps its place: nothing but `test.cancel_seen` ends.
    drop(late);
    let begun = Instant::now();
    let (first, second) = tokio::join!(first_seen, second_seen);
    assert_eq!((first.status.as_u16(), second.status.as_u16()), (200, 200), "{}", second.text);
    assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
}

#[tokio::test]
async fn who_waits_for_room_goes_when_the_frame_before_is_written() {
    let host = TestHost::builder().plugin("misbehave").config("limits.queue_bytes = 1000").start().await;
    host.start_plugin("misbehave").await;
    let pid = Pid::from_raw(host.pid("misbehave"));
    kill(pid, Signal::SIGSTOP).unwrap();
    // The first fills the socket, the second the room behind it, and neither is answered.
    let wait = |bytes| {
        let payload = json!({ "ms": LONG, "filler": "x".repeat(bytes) });
        Box::pin(host.invoke("misbehave", "test.wait", payload))
    };
    let (mut first, mut second) = (wait(15 << 20), wait(900));
    tokio::select! {
        _ = &mut first => panic!("it waits for a minute"),
        () = host.until_in_flight("misbehave", 1) => {}
    }
    tokio::select! {
        _ = &mut second => panic!("it waits for a minute"),
        () = host.until_in_flight("misbehave", 2) => {}
    }
    let third = json!({ "filler": "x".repeat(900) });
    let mut third = Box::pin(host.invoke("misbehave", "test.echo", third));
    tokio::select! {
        _ = &mut third => panic!("there is no room"),
        () = until_waiting(&host, 1) => {}
    }
    kill(pid, Signal::SIGCONT).unwrap();
    let reply = third.await;
    assert_eq!(reply.status, 200, "{}", reply.text);
}

#[tokio::test]
async fn an_update_forgets_nothing_that_is_in_flight() {
    let host = with_terms(json!({ "test.wait": { "maxConcurrency": 1 } })).start().await;
    host.start_plugin("misbehave").await;
    let mut first = Box::pin(host.invoke("misbehave", "test.wait", json!({ "ms": LONG })));
    tokio::select! {
        _ = &mut first => panic!("it waits for a minute"),
        () = host.until_in_flight("misbehave", 1) => {}
    }
    host.ask("test.update", json!({ "meta": { "updated": true } })).await;
    let mut second = Box::pin(host.invoke("misbehave", "test.wait", json!({ "ms": LONG })));
    tokio::select! {
        _ = &mut second => panic!("it waits for a minute"),
        () = until_waiting(&host, 1) => {}
    }
    assert_eq!(host.in_flight("misbehave"), 1);
}

#[tokio::test]
async fn a_session_that_the_host_closes_answers_its_waiters_at_once() {
    let host = TestHost::with_misbehave().await;
    let instance = Arc::clone(&record(&host).instances[0]);
    let closing = async {
        host.until_in_flight("misbehave", 1).await;
        // A process that does not read cannot answer the close frame either.
        kill(Pid::from_raw(host.pid("misbehave")), Signal::SIGSTOP).unwrap();
        let order = Order::Close { code: 1011, reason: "a test says so".to_owned() };
        assert!(instance.mailbox.post(order).is_ok());
        Instant::now()
    };
    let (reply, closed) = tokio::join!(host.invoke("misbehave", "test.stall", json!({})), closing);
    assert_eq!((reply.status.as_u16(), reply.code()), (502, "plugin_disconnected".to_owned()));
    assert!(closed.elapsed() < Duration::from_millis(500), "{:?}", closed.elapsed());
    kill(Pid::from_raw(instance.pid.unwrap() as i32), Signal::SIGCONT).unwrap();
}

#[tokio::test]
async fn clients_that_leave_leave_nothing_behind() {
    let host = TestHost::with_misbehave().await;
    let instance = Arc::clone(&record(&host).instances[0]);
    for _ in 0..20 {
        let requests = (0..100).map(|_| host.invoke("misbehave", "test.wait", json!({ "ms": LONG })));
        tokio::select! {
            _ = join_all(requests) => panic!("they wait for a minute"),
            () = host.until_in_flight("misbehave", 100) => {}
        }
        host.until_in_flight("misbehave", 0).await;
    }
    let seen = host.ask("test.seen", json!({})).await;
    // Of the requests that reached the plugin, which is all but those taken back unwritten, each was cancelled.
    let asked = seen["frames"]["request"].as_u64().unwrap() - 1;
    assert!(asked > 1_000, "{asked}");
    assert_eq!((&seen["frames"]["cancel"], &seen["running"]), (&json!(asked), &json!(0)));
    let record = record(&host);
    assert_eq!((record.instances.len(), record.capacity.waiting()), (1, 0));
    assert!(Arc::ptr_eq(&record.instances[0], &instance), "the session survives");
}

async fn two_instances(entry: Value) -> TestHost {
    let mut whole = json!({ "instances": 2 });
    whole.as_object_mut().unwrap().extend(entry.as_object().unwrap().clone());
    let host = TestHost::builder().plugin_as("misbehave", "misbehave", whole).start().await;
    host.start_plugin("misbehave").await;
    host.until(|view| (view.plugin("misbehave")?.instances.len() == 2).then_some(())).await;
    host
}

#[tokio::test]
async fn two_instances_share_the_work() {
    let host = two_instances(json!({})).await;
    let requests = (0..10).map(|_| host.invoke("misbehave", "test.wait", json!({ "ms": LONG })));
    tokio::select! {
        _ = join_all(requests) => panic!("they wait for a minute"),
        () = host.until_in_flight("misbehave", 10) => {}
    }
    let shares: Vec<u32> = record(&host).instances.iter().map(|instance| instance.in_flight()).collect();
    assert_eq!(shares.iter().sum::<u32>(), shares[0] * 2, "{shares:?}");
}

#[tokio::test]
async fn what_is_idempotent_goes_to_another_instance_when_one_is_killed() {
    let terms = json!({ "test.wait": { "idempotent": true } });
    let host = two_instances(json!({ "settings": { "terms": terms } })).await;
    let mut request = Box::pin(host.invoke("misbehave", "test.wait", json!({ "ms": LONG })));
    tokio::select! {
        _ = &mut request => panic!("it waits for a minute"),
        () = host.until_in_flight("misbehave", 1) => {}
    }
    let busy = record(&host).instances.iter().find(|instance| instance.in_flight() == 1).cloned();
    let busy = busy.unwrap();
    kill(Pid::from_raw(busy.pid.unwrap() as i32), Signal::SIGKILL).unwrap();
    let moved = async {
        host.until(|view| {
            let instances = &view.plugin("misbehave")?.instances;
            (!instances.iter().any(|other| Arc::ptr_eq(other, &busy))).then_some(())
        })
        .await;
        host.until_in_flight("misbehave", 1).await;
    };
    tokio::select! {
        reply = &mut request => panic!("it waits for a minute: {}", reply.text),
        () = moved => {}
    }
}

#[tokio::test]
async fn what_was_handed_over_and_is_not_idempotent_is_not_tried_again() {
    let host = two_instances(json!({ "restart": "never" })).await;
    let reply = host.invoke("misbehave", "test.crash", json!({})).await;
    assert_eq!((reply.status.as_u16(), reply.code()), (502, "plugin_disconnected".to_owned()));
    assert_eq!(reply.headers["x-should-retry"], "false");
    host.until(|view| (view.plugin("misbehave")?.instances.len() == 1).then_some(())).await;
    assert_eq!(host.ask("test.echo", json!({ "n": 1 })).await, json!({ "n": 1 }));
}

#[tokio::test]
async fn a_request_larger_than_a_plugin_takes_is_refused_and_its_session_lives() {
    let host = TestHost::builder()
        .plugin_as("misbehave", "misbehave", json!({ "maxFrameBytes": 10_000 }))
        .start()
        .await;
    host.start_plugin("misbehave").await;
    let instance = Arc::clone(&record(&host).instances[0]);
    let reply = host.invoke("misbehave", "test.echo", json!({ "filler": "x".repeat(10_000) })).await;
    assert_eq!((reply.status.as_u16(), reply.code()), (413, "payload_too_large".to_owned()));
    assert!(reply.text.contains("10000"), "{}", reply.text);
    assert_eq!(host.ask("test.echo", json!({ "n": 1 })).await, json!({ "n": 1 }));
    assert_eq!(host.in_flight("misbehave"), 0);
    assert!(Arc::ptr_eq(&record(&host).instances[0], &instance), "the session survives");
}

#[tokio::test]
async fn a_plugin_hears_that_its_frame_was_too_large_and_comes_back() {
    let host = TestHost::with_misbehave().await;
    let before = Arc::clone(&record(&host).instances[0]);
    assert_eq!(host.invoke("misbehave", "test.huge", json!({})).await.code(), "plugin_error");
    let after = host
        .until(|view| {
            let instance = view.plugin("misbehave")?.instances.first()?;
            (!Arc::ptr_eq(instance, &before)).then(|| Arc::clone(instance))
        })
        .await;
    assert_eq!((after.id, after.pid), (before.id, before.pid), "the same launch");
    let seen = host.ask("test.seen", json!({})).await;
    assert_eq!(seen["closes"], json!([1009]));
}

#[tokio::test]
async fn a_client_that_does_not_read_stops_the_plugin_and_not_the_host() {
    const CHUNKS: u32 = 4_000;
    let host = TestHost::with_misbehave().await;
    let mut body = chat("test/fast", "go");
    body["stream"] = json!(true);
    body["max_tokens"] = json!(CHUNKS);
    let request = host.request(Method::POST, "/v1/chat/completions", Some(body.to_string()));
    let response = host.open(request).await;
    // The kernel takes some megabytes on either side; what is beyond waits in the plugin for credit.
    let sent = loop {
        let seen = host.ask("test.seen", json!({})).await;
        let sent = seen["chunks"].as_u64().unwrap();
        let before = host.ask("test.seen", json!({})).await;
        if seen["dry"] == 1 && before["dry"] == 1 && before["chunks"] == sent {
            break sent;
        }
    };
    assert!(sent * (16 << 10) < 32 << 20, "{sent} chunks were taken though nobody reads");
    let text = response.into_body().body.collect().await.unwrap().to_bytes();
    let events = events(std::str::from_utf8(&text).unwrap());
    assert_eq!(events.len(), CHUNKS as usize + 1);
    assert_eq!(events[CHUNKS as usize], "[DONE]");
    for (number, event) in events[..CHUNKS as usize].iter().enumerate() {
        let chunk: Value = serde_json::from_str(event).unwrap();
        let content = chunk["choices"][0]["delta"]["content"].as_str().unwrap();
        assert!(content.starts_with(&format!("{number} ")), "chunk {number}: {}", &content[..8]);
    }
    host.until_in_flight("misbehave", 0).await;
}
