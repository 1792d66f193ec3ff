//! The order in which plugins start and stop, as their entries' `requires` says.

use bkg::registry::{PluginRecord, State};
use serde_json::{Value, json};

use crate::host::{Builder, TestHost};

/// Limits that make every wait of a stop short.
const QUICK: &str = "supervisor.drain_ms = 200\nsupervisor.grace_ms = 200";

fn quirk(builder: Builder, name: &str, entry: Value) -> Builder {
    let mut whole = json!({ "env": { "BKG_QUIRK": "http_twin" } });
    whole.as_object_mut().unwrap().extend(entry.as_object().unwrap().clone());
    builder.plugin_as("quirks", name, whole)
}

fn want_up(host: &TestHost, name: &str) {
    host.host().supervisor.want_up(name).unwrap();
}

async fn until_waiting(host: &TestHost, name: &str, reason: &str) {
    let waits = |record: &PluginRecord| {
        record.status.state == State::Starting && record.status.reason.as_deref() == Some(reason)
    };
    host.until(|view| view.plugin(name).filter(|record| waits(record)).map(drop)).await;
}

#[tokio::test]
async fn a_plugin_waits_for_what_it_requires_and_holds_nobody_up_meanwhile() {
    let builder = TestHost::builder().config(QUICK).config("supervisor.parallel_starts = 1");
    let builder = quirk(builder, "first", json!({}));
    let builder = quirk(builder, "second", json!({ "requires": ["first", "python3"] }));
    let builder = quirk(
        builder,
        "third",
        json!({ "requires": ["quirk.well"], "capabilities": ["quirk.echo", "quirk.seen", "quirk.wait", "quirk.well"] }),
    );
    let host = builder.start().await;
    want_up(&host, "second");
    let reason = "waits for `first`, which is stopped; start it with `bkg plugin start first`";
    until_waiting(&host, "second", reason).await;
    want_up(&host, "third");
    host.start_plugin("first").await;
    host.until_state("second", State::Running).await;
    host.until_state("third", State::Running).await;
    // What it required may go: that is its operator's word, and no end for the other.
    host.post("/admin/plugins/first/stop?wait=30", json!({})).await;
    assert_eq!(host.host().registry.plugin("second").unwrap().state(), State::Running);
    host.stop().await;
}

#[tokio::test]
async fn who_waits_can_be_stopped() {
    let builder = quirk(TestHost::builder().config(QUICK), "first", json!({}));
    let host = quirk(builder, "second", json!({ "requires": ["first"] })).start().await;
    want_up(&host, "second");
    host.until_state("second", State::Starting).await;
    host.post("/admin/plugins/second/stop?wait=30", json!({})).await;
    assert_eq!(host.host().registry.plugin("second").unwrap().state(), State::Stopped);
    host.stop().await;
}

#[tokio::test]
async fn what_starts_on_demand_is_started_by_who_requires_it() {
    let builder = quirk(TestHost::builder().config(QUICK), "first", json!({ "activation": "on-demand" }));
    let host = quirk(builder, "second", json!({ "requires": ["first"], "autostart": true })).start().await;
    host.until_state("second", State::Running).await;
    assert_eq!(host.host().registry.plugin("first").unwrap().state(), State::Running);
    host.stop().await;
}

#[tokio::test]
async fn plugins_that_require_one_another_start_all_the_same_and_are_told() {
    let builder = quirk(TestHost::builder().config(QUICK), "a", json!({ "requires": ["b"] }));
    let host = quirk(builder, "b", json!({ "requires": ["a"] })).start().await;
    for name in ["a", "b"] {
        host.start_plugin(name).await;
    }
    let log = host.get("/admin/plugins/a/logs").await.text;
    assert!(
        log.contains("goes in a circle and is not waited for there: `a` requires `b` requires `a`"),
        "{log}"
    );
    host.stop().await;
}

#[tokio::test]
async fn who_requires_another_is_stopped_before_it() {
    let builder = quirk(TestHost::builder().config(QUICK), "first", json!({}));
    let host = quirk(builder, "second", json!({ "requires": ["first"] })).start().await;
    for name in ["first", "second"] {
        host.start_plugin(name).await;
    }
    let host = host.restart().await;
    let mut ends = Vec::new();
    for name in ["second", "first"] {
        let runs = host.get(&format!("/admin/plugins/{name}/runs")).await.json();
        ends.push((runs["runs"][0]["endedAt"].as_str().unwrap().to_owned(), name));
    }
    assert!(ends.is_sorted(), "{ends:?}");
    host.stop().await;
}
