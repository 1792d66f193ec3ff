//! One version of a plugin takes over from another: nobody who asks notices, and whatever goes wrong
//! before it is decided changes nothing.

use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bkg::config::PluginEntry;
use bkg::registry::{PluginRecord, State, SwapState};
use bkg::supervisor::{Share, SwapOrder, SwapOutcome, SwapRefused, SwapStage, SwapTicket};
use futures_util::future::join_all;
use http::Method;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};

use crate::host::{Builder, TestHost, events, processes_with};

/// Limits that make every wait of a swap short.
const QUICK: &str = "supervisor.drain_ms = 300\nsupervisor.grace_ms = 300\nlimits.heartbeat_ms = 1000";
/// So long that no test sees it pass.
const LONG: u64 = 60_000;

fn misbehave(entry: Value) -> Builder {
    held(100, entry)
}

/// A version before is kept so many milliseconds.
fn held(hold: u64, entry: Value) -> Builder {
    let hold = format!("supervisor.swap_hold_ms = {hold}");
    TestHost::builder().plugin_as("misbehave", "misbehave", entry).config(QUICK).config(&hold)
}

fn record(host: &TestHost) -> Arc<PluginRecord> {
    host.host().registry.plugin("misbehave").unwrap()
}

/// The present version with some settings changed.
fn order(host: &TestHost, settings: Value) -> SwapOrder {
    let record = record(host);
    let mut entry = PluginEntry::clone(&record.entry);
    for (name, value) in settings.as_object().unwrap() {
        entry.settings.0.insert(name.clone(), value.clone());
    }
    let (root, why) = (record.root.clone(), "a test ordered it".to_owned());
    SwapOrder { entry: Arc::new(entry), root, why, share: None }
}

fn swap(host: &TestHost, order: SwapOrder) -> SwapTicket {
    host.host().supervisor.swap("misbehave", order).unwrap()
}

/// The word that the version says which answers.
async fn word(host: &TestHost) -> Value {
    host.ask("test.word", json!({ "text": "x" })).await["word"].clone()
}

fn pids(host: &TestHost) -> BTreeSet<u32> {
    record(host).instances.iter().map(|instance| instance.pid.unwrap()).collect()
}

/// The processes of all versions.
fn processes(host: &TestHost) -> BTreeSet<u32> {
    let data = host.data_dir().canonicalize().unwrap().join("plugins/misbehave/data");
    processes_with("BKG_PLUGIN_DATA_DIR", data.to_str().unwrap()).into_iter().collect()
}

async fn until_swap(host: &TestHost, state: SwapState) {
    host.until(|view| {
        let swap = view.plugin("misbehave")?.swap.clone()?;
        (swap.state == state).then_some(())
    })
    .await;
}

/// A version that was there before the swap is there after it, the same and alone.
async fn assert_unchanged(host: &TestHost, before: &PluginRecord) {
    let after = record(host);
    assert_eq!(after.entry, before.entry);
    assert_eq!(after.root, before.root);
    assert_eq!(after.state(), State::Running);
    let ids = |record: &PluginRecord| -> Vec<_> { record.instances.iter().map(|one| one.id).collect() };
    assert_eq!(ids(&after), ids(before));
    assert!(after.standby.is_empty() && after.share.is_none());
    assert_eq!(processes(host), pids(host));
    assert_eq!(after.status.restarts, 0);
}

fn reason(outcome: SwapOutcome) -> (SwapStage, String) {
    match outcome {
        SwapOutcome::RolledBack { stage, reason } => (stage, reason),
        other => panic!("it was not rolled back: {other:?}"),
    }
}

#[tokio::test]
async fn a_swap_under_load_loses_nothing() {
    let routes =
        json!([{ "method": "POST", "path": "/stream", "capability": "test.stream", "streaming": true }]);
    let entry = json!({ "instances": 2, "settings": { "routes": routes } });
    let host = Arc::new(misbehave(entry).start().await);
    host.start_plugin("misbehave").await;
    let is_over = Arc::new(AtomicBool::new(false));
    let callers = (0..4).map(|_| {
        let (host, is_over) = (Arc::clone(&host), Arc::clone(&is_over));
        tokio::spawn(async move {
            let mut words = Vec::new();
            while !is_over.load(Ordering::Relaxed) {
                words.push(word(&host).await);
            }
            words
        })
    });
    let callers: Vec<_> = callers.collect();
    let streams = (0..4).map(|_| {
        let host = Arc::clone(&host);
        tokio::spawn(async move {
            let payload = json!({ "n": 60, "delayMs": 50 });
            let path = "/api/plugins/misbehave/stream";
            host.send_request(host.request(Method::POST, path, Some(payload.to_string()))).await
        })
    });
    let streams: Vec<_> = streams.collect();
    host.until_in_flight("misbehave", 4).await;
    let mut swaps = Vec::new();
    for number in 1..=3 {
        let ticket = swap(&host, order(&host, json!({ "word": number.to_string() })));
        let outcome = ticket.outcome().await;
        assert!(matches!(outcome, SwapOutcome::Swapped { .. }), "{outcome:?}");
        assert_eq!(word(&host).await, number.to_string());
        swaps.push(ticket);
    }
    is_over.store(true, Ordering::Relaxed);
    for caller in join_all(callers).await {
        let words = caller.unwrap();
        // Each version answers until the next does, and never again.
        let mut seen: Vec<&Value> = words.iter().collect();
        seen.dedup();
        assert!(seen.is_sorted_by_key(|word| word.as_str().unwrap_or("0")), "{seen:?}");
    }
    for stream in join_all(streams).await {
        let reply = stream.unwrap();
        let events = events(&reply.text);
        assert_eq!((reply.status.as_u16(), events.len()), (200, 60), "{}", reply.text);
        assert!(!reply.text.contains("error"), "{}", reply.text);
    }
    for swap in swaps {
        assert_eq!(swap.departed().await, 0);
    }
    assert_eq!(processes(&host), pids(&host));
    assert_eq!(pids(&host).len(), 2);
    Arc::into_inner(host).unwrap().stop().await;
}

#[tokio::test]
async fn a_version_that_fails_before_it_is_decided_changes_nothing() {
    let host = misbehave(json!({})).start().await;
    host.start_plugin("misbehave").await;
    let before = record(&host);
    for (settings, due) in [
        (json!({ "register": "never" }), "register"),
        (json!({ "register": "unlisted-capability" }), "the entry does not list `unlisted.thing`"),
        (json!({ "register": "foreign-name" }), "this listener serves `misbehave`"),
    ] {
        let ticket = swap(&host, order(&host, settings.clone()));
        let (stage, reason) = reason(ticket.outcome().await);
        assert_eq!(stage, SwapStage::Gate, "{settings}");
        assert!(reason.contains(due), "{settings}: {reason}");
        assert_unchanged(&host, &before).await;
    }
    // A folder in which nothing can be started, and one that ends before it registers.
    let elsewhere = tempfile::tempdir().unwrap();
    let missing = SwapOrder { root: elsewhere.path().to_owned(), ..order(&host, json!({})) };
    let (_, said) = reason(swap(&host, missing).outcome().await);
    assert!(said.contains("start.sh"), "{said}");
    fs::write(elsewhere.path().join("start.sh"), "#!/bin/sh\necho no such library >&2\nexit 3\n").unwrap();
    let fails = SwapOrder { root: elsewhere.path().to_owned(), ..order(&host, json!({})) };
    let (_, said) = reason(swap(&host, fails).outcome().await);
    assert!(said.contains("code 3") && said.ends_with("no such library"), "{said}");
    assert_unchanged(&host, &before).await;
    assert_eq!(record(&host).swap.as_ref().unwrap().state, SwapState::RolledBack);
    host.stop().await;
}

#[tokio::test]
async fn routes_and_capabilities_change_with_the_version_and_not_before() {
    let route = |path: &str| json!([{ "method": "GET", "path": path, "capability": "test.echo" }]);
    let host = misbehave(json!({ "instances": 3, "settings": { "routes": route("/old") } })).start().await;
    host.start_plugin("misbehave").await;
    host.until(|view| (view.plugin("misbehave")?.instances.len() == 3).then_some(())).await;
    let offers = json!(["test.word", "test.echo"]);
    let ticket = swap(&host, order(&host, json!({ "routes": route("/new"), "offers": offers })));
    let old = host.get("/api/plugins/misbehave/old").await;
    assert_eq!(old.status, 200, "{}", old.text);
    let mixed = host.until(|view| {
        let record = view.plugin("misbehave")?;
        let paths: Vec<String> = view.routes().routes().map(|route| route.path.clone()).collect();
        let is_new = paths.iter().any(|path| path.ends_with("/new"));
        assert_ne!(is_new, paths.iter().any(|path| path.ends_with("/old")), "{paths:?}");
        assert_eq!(is_new, !record.answers("test.stream"));
        assert_eq!(is_new, view.owners("llm.chat", "test/fast").is_empty());
        (is_new && record.instances.len() == 3).then_some(())
    });
    mixed.await;
    assert!(matches!(ticket.outcome().await, SwapOutcome::Swapped { .. }));
    assert_eq!(host.get("/api/plugins/misbehave/old").await.status, 404);
    assert_eq!(host.get("/api/plugins/misbehave/new").await.status, 200);
    assert_eq!(ticket.departed().await, 0);
    assert_eq!(pids(&host).len(), 3);
    assert_eq!(processes(&host), pids(&host));
    host.stop().await;
}

#[tokio::test]
async fn a_version_that_is_worse_with_a_share_changes_nothing() {
    let host = misbehave(json!({})).start().await;
    host.start_plugin("misbehave").await;
    let before = record(&host);
    let share = Some(Share { percent: 50, observe: Duration::from_secs(20) });
    let worse = SwapOrder { share, ..order(&host, json!({ "fault": "example-answered" })) };
    let ticket = swap(&host, worse);
    until_swap(&host, SwapState::Sharing).await;
    let mut failed = 0;
    while record(&host).swap.as_ref().unwrap().state == SwapState::Sharing {
        let reply = host.invoke("misbehave", "test.word", json!({})).await;
        failed += u32::from(reply.status != 200);
    }
    let (stage, reason) = reason(ticket.outcome().await);
    assert_eq!(stage, SwapStage::Share);
    assert!(failed > 0 && reason.contains("worse than the version before"), "{reason}");
    assert_unchanged(&host, &before).await;
    host.stop().await;
}

#[tokio::test]
async fn a_share_of_the_requests_tries_the_new_version_and_then_it_takes_over() {
    let host = misbehave(json!({})).start().await;
    host.start_plugin("misbehave").await;
    let share = Some(Share { percent: 25, observe: Duration::from_millis(1_500) });
    let ticket = swap(&host, SwapOrder { share, ..order(&host, json!({ "word": "new" })) });
    until_swap(&host, SwapState::Sharing).await;
    let mut words = Vec::new();
    for _ in 0..40 {
        words.push(word(&host).await);
    }
    let new = words.iter().filter(|word| **word == "new").count();
    assert_eq!(new, 10, "{words:?}");
    assert!(matches!(ticket.outcome().await, SwapOutcome::Swapped { .. }));
    assert_eq!(word(&host).await, "new");
    host.stop().await;
}

#[tokio::test]
async fn a_crash_right_after_the_decision_brings_the_version_before_back() {
    let host = held(LONG, json!({})).start().await;
    host.start_plugin("misbehave").await;
    let before = record(&host);
    let ticket = swap(&host, order(&host, json!({ "word": "new" })));
    until_swap(&host, SwapState::Holding).await;
    assert_eq!(word(&host).await, "new");
    host.invoke("misbehave", "test.crash", json!({ "code": 9 })).await;
    let (stage, reason) = reason(ticket.outcome().await);
    assert_eq!(stage, SwapStage::Hold);
    // Whichever is seen first: its end, or that of its session.
    assert!(reason.contains("code 9") || reason.contains("its session ended"), "{reason}");
    assert_eq!(word(&host).await, Value::Null);
    assert_unchanged(&host, &before).await;
    host.stop().await;
}

#[tokio::test]
async fn while_the_gate_is_shut_the_old_version_is_started_again_as_it_was() {
    let host = misbehave(json!({ "settings": { "word": "old" } })).start().await;
    host.start_plugin("misbehave").await;
    let ticket = swap(&host, order(&host, json!({ "register": "never", "word": "new" })));
    until_swap(&host, SwapState::Starting).await;
    let first = host.pid("misbehave");
    kill(Pid::from_raw(first), Signal::SIGKILL).unwrap();
    host.until(|view| {
        let record = view.plugin("misbehave")?;
        (record.instances.first()?.pid != Some(first as u32)).then_some(())
    })
    .await;
    assert_eq!(word(&host).await, "old");
    host.host().supervisor.give_up_swap("misbehave").unwrap();
    assert_eq!(ticket.outcome().await, SwapOutcome::Superseded);
    ticket.departed().await;
    assert_eq!(processes(&host), pids(&host));
    host.stop().await;
}

#[tokio::test]
async fn a_later_swap_takes_the_place_of_one_that_is_not_decided() {
    let host = misbehave(json!({})).start().await;
    host.start_plugin("misbehave").await;
    let first = swap(&host, order(&host, json!({ "register": "never" })));
    let second = swap(&host, order(&host, json!({ "word": "second" })));
    assert_eq!(first.outcome().await, SwapOutcome::Superseded);
    assert!(matches!(second.outcome().await, SwapOutcome::Swapped { .. }));
    assert_eq!(word(&host).await, "second");
    first.departed().await;
    second.departed().await;
    assert_eq!(processes(&host), pids(&host));
    host.stop().await;
}

#[tokio::test]
async fn a_stop_or_a_restart_ends_a_swap() {
    let host = misbehave(json!({})).start().await;
    host.start_plugin("misbehave").await;
    let before = record(&host);
    let supervisor = &host.host().supervisor;
    let ticket = swap(&host, order(&host, json!({ "register": "never" })));
    supervisor.want_again("misbehave").unwrap();
    assert!(reason(ticket.outcome().await).1.contains("started again"));
    host.until_state("misbehave", State::Running).await;
    let ticket = swap(&host, order(&host, json!({ "register": "never" })));
    until_swap(&host, SwapState::Starting).await;
    supervisor.want_down("misbehave").unwrap();
    assert!(reason(ticket.outcome().await).1.contains("stopped"));
    host.until_state("misbehave", State::Stopped).await;
    assert_eq!(processes(&host), BTreeSet::new());
    assert_eq!(record(&host).entry, before.entry);
    host.stop().await;
}

#[tokio::test]
async fn stopped_means_that_no_version_is_left() {
    let host = misbehave(json!({})).start().await;
    host.start_plugin("misbehave").await;
    let mut waiting = Box::pin(host.invoke("misbehave", "test.wait", json!({ "ms": LONG })));
    tokio::select! {
        _ = &mut waiting => panic!("it waits for a minute"),
        () = host.until_in_flight("misbehave", 1) => {}
    }
    let ticket = swap(&host, order(&host, json!({ "word": "new" })));
    let swapped = async {
        assert!(matches!(ticket.outcome().await, SwapOutcome::Swapped { .. }));
    };
    tokio::select! {
        _ = &mut waiting => panic!("the version before finishes what it has"),
        () = swapped => {}
    }
    assert_eq!(processes(&host).len(), 2);
    host.host().supervisor.want_down("misbehave").unwrap();
    let stopped = host.until_state("misbehave", State::Stopped);
    let (cut, _) = tokio::join!(waiting, stopped);
    assert_eq!(cut.status, 502, "{}", cut.text);
    assert_eq!(processes(&host), BTreeSet::new());
    assert_eq!(ticket.departed().await, 1);
    host.stop().await;
}

#[tokio::test]
async fn a_host_that_stops_during_a_swap_leaves_no_process() {
    let host = misbehave(json!({ "instances": 2 })).start().await;
    host.start_plugin("misbehave").await;
    let data = host.data_dir().canonicalize().unwrap().join("plugins/misbehave/data");
    let ticket = swap(&host, order(&host, json!({ "register": "never" })));
    until_swap(&host, SwapState::Starting).await;
    host.stop().await;
    assert_eq!(processes_with("BKG_PLUGIN_DATA_DIR", data.to_str().unwrap()), Vec::<u32>::new());
    assert!(reason(ticket.outcome().await).1.contains("host stopped"));
}

#[tokio::test]
async fn without_overlap_the_plugin_is_stopped_first_and_comes_back_as_it_was() {
    let host = misbehave(json!({ "overlap": false, "settings": { "word": "old" } })).start().await;
    host.start_plugin("misbehave").await;
    let before = record(&host);
    let share = Some(Share { percent: 10, observe: Duration::from_secs(1) });
    let refused = host.host().supervisor.swap("misbehave", SwapOrder { share, ..order(&host, json!({})) });
    assert_eq!(refused.err(), Some(SwapRefused::NoShare("misbehave".parse().unwrap())));
    let ticket = swap(&host, order(&host, json!({ "word": "new" })));
    assert_eq!(ticket.outcome().await, SwapOutcome::Restarted);
    assert_eq!(word(&host).await, "new");
    assert_eq!(processes(&host).len(), 1);
    let ticket = swap(&host, order(&host, json!({ "word": "never", "register": "never" })));
    let (_, said) = reason(ticket.outcome().await);
    assert!(said.contains("register"), "{said}");
    host.until_state("misbehave", State::Running).await;
    assert_eq!(word(&host).await, "new");
    assert_ne!(record(&host).entry, before.entry);
    host.stop().await;
}

#[tokio::test]
async fn a_plugin_that_rests_is_started_with_the_new_version() {
    let host = misbehave(json!({})).start().await;
    let before = record(&host);
    let ticket = swap(&host, order(&host, json!({ "register": "never" })));
    reason(ticket.outcome().await);
    host.until_state("misbehave", State::Stopped).await;
    assert_eq!(record(&host).entry, before.entry);
    let ticket = swap(&host, order(&host, json!({ "word": "new" })));
    assert_eq!(ticket.outcome().await, SwapOutcome::Restarted);
    assert_eq!(word(&host).await, "new");
    host.stop().await;
}

#[tokio::test]
async fn an_entry_that_was_changed_meanwhile_is_not_lost() {
    let host = misbehave(json!({})).start().await;
    host.start_plugin("misbehave").await;
    let ticket = swap(&host, order(&host, json!({ "word": "new" })));
    until_swap(&host, SwapState::Starting).await;
    let changed = PluginEntry { description: "changed".to_owned(), ..(*record(&host).entry).clone() };
    host.host().registry.set_entry(Arc::new(changed.clone()));
    let (_, said) = reason(ticket.outcome().await);
    assert!(said.contains("its entry was changed"), "{said}");
    assert_eq!(*record(&host).entry, changed);
    host.stop().await;
}

#[tokio::test]
async fn a_version_keeps_its_plugins_name() {
    let host = misbehave(json!({})).start().await;
    let entry = PluginEntry { name: "other".parse().unwrap(), ..(*record(&host).entry).clone() };
    let order = SwapOrder { entry: Arc::new(entry), root: PathBuf::from("/"), ..order(&host, json!({})) };
    let refused = host.host().supervisor.swap("misbehave", order).unwrap_err().to_string();
    assert!(refused.contains("`other`, not `misbehave`"), "{refused}");
    host.stop().await;
}

#[tokio::test]
async fn a_version_that_requires_what_is_not_there_does_not_keep_a_swap_open() {
    for overlap in [true, false] {
        let builder = misbehave(json!({ "overlap": overlap, "settings": { "word": "old" } }));
        let builder = builder.plugin_as("misbehave", "other", json!({}));
        let host = builder.config("supervisor.register_timeout_ms = 2000").start().await;
        host.start_plugin("misbehave").await;
        let mut order = order(&host, json!({ "word": "new" }));
        Arc::make_mut(&mut order.entry).requires = vec![json!("other")];
        let (stage, said) = reason(swap(&host, order).outcome().await);
        assert_eq!(stage, SwapStage::Gate);
        assert!(said.contains("waits for `other`, which is stopped"), "{said}");
        host.until_state("misbehave", State::Running).await;
        assert_eq!(word(&host).await, "old");
        host.stop().await;
    }
}

#[tokio::test]
async fn a_restart_has_the_last_word_over_the_swap_of_a_plugin_that_rests() {
    let host = misbehave(json!({})).start().await;
    let before = record(&host);
    let ticket = swap(&host, order(&host, json!({ "register": "never" })));
    host.until(|view| (view.plugin("misbehave")?.entry != before.entry).then_some(())).await;
    host.host().supervisor.want_again("misbehave").unwrap();
    assert!(reason(ticket.outcome().await).1.contains("started again"));
    host.until_state("misbehave", State::Running).await;
    assert!(host.host().supervisor.is_wanted("misbehave"));
    assert_eq!(record(&host).entry, before.entry);
    assert_eq!(word(&host).await, Value::Null);
    host.stop().await;
}

#[tokio::test]
async fn what_somebody_stopped_stays_so_when_its_swap_comes_to_nothing() {
    let host = misbehave(json!({ "activation": "on-demand" })).start().await;
    let supervisor = &host.host().supervisor;
    supervisor.want_down("misbehave").unwrap();
    let order = || order(&host, json!({ "register": "never" }));
    let refused = SwapOrder { share: Some(Share { percent: 0, observe: Duration::ZERO }), ..order() };
    assert!(supervisor.swap("misbehave", refused).is_err());
    assert!(record(&host).is_held, "nothing was begun");
    reason(swap(&host, order()).outcome().await);
    host.until_state("misbehave", State::Stopped).await;
    assert!(record(&host).is_held, "requests would start what somebody stopped");
    host.stop().await;
}
