//! Plugins that flood the host, or do not read what they ask for: a bound for each, and nobody else notices.
//!
//! Memory is judged in a process of the test's own, against a bound with room: what is broken grows by
//! hundreds of megabytes.

use std::fs;

use bkg::registry::State;
use serde_json::{Value, json};

use crate::host::{TestHost, is_alone};

/// In bytes.
const MIB: u64 = 1 << 20;

/// What this process takes of the memory, at the most, since [`forget_peak`].
fn peak() -> u64 {
    figure("VmHWM:")
}

/// What this process takes of the memory at this moment.
fn resident() -> u64 {
    figure("VmRSS:")
}

/// From here on the peak counts anew.
fn forget_peak() {
    fs::write("/proc/self/clear_refs", "5").unwrap();
}

fn figure(name: &str) -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix(name)).unwrap();
    line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() << 10
}

/// A daemon whose `misbehave` floods and whose `other` answers `test.echo`.
async fn two_plugins() -> TestHost {
    let offers = json!({ "settings": { "offers": ["test.flood", "test.stall", "test.seen"] } });
    let host = TestHost::builder()
        .plugin_as("misbehave", "misbehave", offers)
        .plugin_as("misbehave", "other", json!({ "settings": { "offers": ["test.echo"] } }))
        .start()
        .await;
    host.start_plugin("misbehave").await;
    host.start_plugin("other").await;
    host
}

/// What a flood answers, and by how much the host's memory grew meanwhile, at the most.
async fn flood(host: &TestHost, flood: Value) -> (crate::host::Reply, u64) {
    forget_peak();
    let before = resident();
    let reply = host.invoke("misbehave", "test.flood", flood).await;
    (reply, peak().saturating_sub(before))
}

/// What the plugin object shows of frames without effect.
async fn dropped(host: &TestHost) -> Value {
    let object = host.get("/admin/plugins/misbehave").await.json();
    object["instances"][0]["dropped"].clone()
}

#[tokio::test]
async fn pings_of_a_plugin_that_does_not_read_are_not_answered_into_memory() {
    if !is_alone("hostile_peers::pings_of_a_plugin_that_does_not_read_are_not_answered_into_memory") {
        return;
    }
    let host = TestHost::with_misbehave().await;
    // 126 MiB of pings, whose pongs would be as many.
    let (reply, grown) = flood(&host, json!({ "kind": "pings", "size": 125, "frames": 1_000_000 })).await;
    assert_eq!(reply.status, 200, "{}", reply.text);
    assert_eq!(reply.json()["data"]["blocked"], true, "the host stops reading: {}", reply.text);
    assert!(grown < 32 * MIB, "the host grew by {} MiB", grown / MIB);
    assert_eq!(host.ask("test.echo", json!({ "after": "pings" })).await["after"], "pings");
}

#[tokio::test]
async fn answers_that_a_plugin_does_not_read_end_its_session_and_every_waiter_is_told() {
    if !is_alone(
        "hostile_peers::answers_that_a_plugin_does_not_read_end_its_session_and_every_waiter_is_told",
    ) {
        return;
    }
    let host = two_plugins().await;
    let before = resident();
    let stall = host.invoke("misbehave", "test.stall", json!({}));
    let flooding = async {
        host.until_in_flight("misbehave", 1).await;
        flood(&host, json!({ "kind": "unanswerable", "frames": 2_000_000 })).await
    };
    let (stalled, (flooded, grown)) = tokio::join!(stall, flooding);
    for reply in [stalled, flooded] {
        assert_eq!((reply.status.as_u16(), reply.code()), (502, "plugin_disconnected".to_owned()));
    }
    assert!(grown < 32 * MIB, "the host grew by {} MiB", grown / MIB);
    let logs = host.get("/admin/plugins/misbehave/logs?limit=500").await.text;
    assert!(logs.contains("its session was closed with 1008") && logs.contains("wait unread"), "{logs}");
    // It dials again, and is as good as new.
    host.until_state("misbehave", State::Running).await;
    assert!(resident().saturating_sub(before) < 32 * MIB);
}

#[tokio::test]
async fn large_answers_that_a_plugin_does_not_read_are_bounded_in_bytes() {
    if !is_alone("hostile_peers::large_answers_that_a_plugin_does_not_read_are_bounded_in_bytes") {
        return;
    }
    let host = two_plugins().await;
    let (reply, grown) = flood(&host, json!({ "kind": "asks", "size": 512 << 10, "frames": 600 })).await;
    assert_eq!((reply.status.as_u16(), reply.code()), (502, "plugin_disconnected".to_owned()));
    // Of 300 MiB: what it asks, what `other` is handed of it, and the answers, a bound for each.
    assert!(grown < 128 * MIB, "the host grew by {} MiB", grown / MIB);
    let logs = host.get("/admin/plugins/misbehave/logs?limit=500").await.text;
    assert!(logs.contains("wait unread"), "{logs}");
}

#[tokio::test]
async fn a_flood_delays_neither_others_nor_the_verdict_on_who_floods() {
    let host = TestHost::builder()
        .plugin("misbehave")
        .plugin_as("misbehave", "witness", json!({}))
        .config("limits.heartbeat_ms = 400")
        .start()
        .await;
    for plugin in ["misbehave", "witness"] {
        host.start_plugin(plugin).await;
    }
    let silent = host.invoke("misbehave", "test.silent", json!({})).await;
    assert_eq!(silent.status, 200, "{}", silent.text);
    // It says something all the time, and nothing of how it is.
    let flooding = host.invoke("misbehave", "test.flood", json!({ "kind": "unknown", "reads": true }));
    let watching = async {
        host.until_state("misbehave", State::Unresponsive).await;
        host.invoke("witness", "test.echo", json!({ "n": 1 })).await
    };
    let (flooded, witnessed) = tokio::join!(flooding, watching);
    assert_eq!(witnessed.json()["data"]["n"], 1);
    assert_eq!(flooded.code(), "plugin_disconnected", "it is replaced in the middle of its flood");
}

#[tokio::test]
async fn what_had_no_effect_is_counted_and_shown() {
    let host = TestHost::with_misbehave().await;
    let none = json!({
        "late": 0, "unknownRequest": 0, "duplicateRequest": 0, "unknownType": 0, "outOfPlace": 0,
        "unreadable": 0,
    });
    assert_eq!(dropped(&host).await, none);
    for (capability, payload) in [
        ("test.double", json!({})),
        ("test.foreign", json!({})),
        ("test.unknown_type", json!({})),
        ("test.garbage", json!({ "kind": "text", "frames": 3 })),
        ("test.garbage", json!({ "kind": "binary", "frames": 4 })),
    ] {
        let reply = host.invoke("misbehave", capability, payload).await;
        assert_eq!(reply.status, 200, "{}", reply.text);
    }
    // The second answer of `test.double` may come after the first was passed on, but before this one.
    host.ask("test.echo", json!({})).await;
    let shown = dropped(&host).await;
    assert_eq!(
        (&shown["unknownRequest"], &shown["unknownType"], &shown["unreadable"]),
        (&json!(2), &json!(1), &json!(7)),
        "{shown}"
    );
}

#[tokio::test]
async fn a_hundred_frames_that_cannot_be_read_end_a_session_binary_ones_too() {
    let host = TestHost::with_misbehave().await;
    for kind in ["text", "binary"] {
        let reply = host.invoke("misbehave", "test.garbage", json!({ "kind": kind, "frames": 100 })).await;
        assert_eq!(
            (reply.status.as_u16(), reply.code()),
            (502, "plugin_disconnected".to_owned()),
            "{kind}"
        );
        host.until_state("misbehave", State::Running).await;
        let seen = host.ask("test.seen", json!({})).await;
        assert_eq!(seen["closes"].as_array().unwrap().last(), Some(&json!(1007)), "{kind}: {seen}");
    }
}

#[tokio::test]
async fn a_request_that_does_not_fit_is_answered_in_few_words_however_large_it_is() {
    let host = TestHost::with_misbehave().await;
    let large = json!({ "kind": "misfits", "size": 1 << 20, "frames": 20, "reads": true });
    let reply = host.invoke("misbehave", "test.flood", large).await;
    assert_eq!(reply.status, 200, "{}", reply.text);
    assert_eq!(dropped(&host).await["unreadable"], 20);
}
