//! What is promised of saved entries when daemon and plugins die at any moment: old or new, never half,
//! and what was answered is there.
//!
//! With the real binary and `ping`, which takes settings while it runs, killed and started again over one
//! directory. What damaged files do is here too: runtime files and the mirror, cut at every byte.

use std::fs;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use serde_json::{Value, json};
use tokio::sync::Notify;
use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::daemon::{Daemon, Place};
use crate::durability::check_audit;
use crate::host::PATIENCE;
use crate::visitor::Visitor;

const CONFIG: &str = "/admin/plugins/ping/config";
/// How often the daemon is killed; `BKG_ROUNDS` asks for another number.
const ROUNDS: usize = 12;
/// How many save at once.
const EDITORS: u64 = 4;

/// What was answered as saved.
#[derive(Default)]
struct Witness {
    /// The highest revision that was answered.
    revision: AtomicU64,
    answered: AtomicU64,
    news: Notify,
}

impl Witness {
    /// Saves one greeting after the other until the daemon is gone. Each says the same in two places, so
    /// that half of one would be seen.
    async fn edit(&self, root: &Visitor, editor: u64) -> anyhow::Result<()> {
        for number in 0.. {
            let words = format!("{editor}-{number}");
            let body = json!({ "settings": { "greeting": words }, "description": words });
            let saved = root.try_send(http::Method::POST, CONFIG, Some(body)).await?;
            if saved.status != 200 {
                // The plugin was killed a moment before the host.
                assert_eq!(saved.status, 502, "{}", saved.text);
                return Ok(());
            }
            self.revision.fetch_max(saved.json()["revision"].as_u64().unwrap(), Ordering::SeqCst);
            self.answered.fetch_add(1, Ordering::SeqCst);
            self.news.notify_waiters();
        }
        Ok(())
    }

    async fn until_answered(&self, count: u64) {
        let waiting = async {
            loop {
                let news = self.news.notified();
                if self.answered.load(Ordering::SeqCst) >= count {
                    return;
                }
                news.await;
            }
        };
        timeout(PATIENCE, waiting).await.expect("edits are answered");
    }

    /// What is there after a kill is whole, and not older than what was answered.
    async fn check(&self, daemon: &Daemon, place: &Place) {
        let root = daemon.root();
        let view = root.get(CONFIG).await.json();
        let entry = &view["entry"];
        let revision = view["revision"].as_u64().unwrap();
        assert!(revision >= self.revision.load(Ordering::SeqCst), "{revision} of {view}");
        self.revision.store(revision, Ordering::SeqCst);
        if revision > 0 {
            assert_eq!(entry["description"], entry["settings"]["greeting"], "{view}");
        }
        let last = root.get(&format!("{CONFIG}/revisions?limit=100")).await.json();
        let numbers: Vec<u64> =
            last.as_array().unwrap().iter().map(|one| one["revision"].as_u64().unwrap()).collect();
        let whole: Vec<u64> = (1..=revision).rev().take(100).collect();
        assert_eq!(numbers, whole);
        // The plugin runs with it, and the mirror shows it and is the host's own.
        let greeting = root.post(
            "/api/plugins/ping/invoke",
            json!({ "capability": "ping.greet", "payload": { "name": "x" } }),
        );
        let expected = format!("{} x", entry["settings"]["greeting"].as_str().unwrap());
        assert_eq!(greeting.await.json()["data"]["greeting"], expected);
        assert_eq!(root.get("/admin/mirror").await.json()["state"], "same");
        let mirror: Value = serde_json::from_slice(&fs::read(place.file("plugins.json")).unwrap()).unwrap();
        let own = mirror.as_array().unwrap().iter().find(|entry| entry["name"] == "ping").unwrap();
        assert_eq!(own["settings"], entry["settings"]);
    }
}

/// `ping` serves.
async fn until_ping_serves(daemon: &Daemon) {
    let root = daemon.root();
    let shown = root.post("/admin/plugins/ping/start?wait=30", json!({})).await;
    assert_eq!(
        (shown.status.as_u16(), &shown.json()["status"]),
        (200, &json!("running")),
        "{}",
        shown.text
    );
}

#[tokio::test]
async fn an_entry_that_was_answered_as_saved_survives_every_kill() {
    let rounds = std::env::var("BKG_ROUNDS").map_or(ROUNDS, |rounds| rounds.parse().unwrap());
    let place = Place::new().bundled("ping");
    let witness = Arc::new(Witness::default());
    for round in 0..rounds as u64 {
        let mut daemon = place.start().await;
        until_ping_serves(&daemon).await;
        witness.check(&daemon, &place).await;
        let mut editors = JoinSet::new();
        for editor in 0..EDITORS {
            let (witness, root) = (Arc::clone(&witness), daemon.root());
            editors.spawn(async move { witness.edit(&root, editor).await });
        }
        // Another moment each time.
        let wanted = witness.answered.load(Ordering::SeqCst) + 1 + round * 7 % 23;
        witness.until_answered(wanted).await;
        daemon.kill();
        while let Some(editor) = editors.join_next().await {
            // A connection that broke is what a kill looks like from outside; a panic is not.
            let _ = editor.unwrap();
        }
    }
    let daemon = place.start().await;
    until_ping_serves(&daemon).await;
    witness.check(&daemon, &place).await;
    check_audit(&place);
    daemon.stop().await;
}

#[tokio::test]
async fn files_that_a_killed_host_left_cut_short_change_nothing() {
    let place = Place::new().bundled("ping");
    let daemon = place.start().await;
    until_ping_serves(&daemon).await;
    let saved = daemon.root().post(CONFIG, json!({ "settings": { "greeting": "kept" } })).await;
    assert_eq!(saved.status, 200, "{}", saved.text);
    daemon.stop().await;
    let mirror = fs::read(place.file("plugins.json")).unwrap();
    // Every byte of the mirror is cut off in the tests of the store; here whole daemons look at some.
    for length in [0, 1, mirror.len() / 2, mirror.len() - 1] {
        fs::write(place.file("plugins.json"), &mirror[..length]).unwrap();
        let run = place.file("plugins/ping/run");
        for (number, part) in [0, 1, mirror.len() / 3].into_iter().enumerate() {
            fs::write(run.join(format!("{number}.config.runtime.json")), &mirror[..part]).unwrap();
        }
        let daemon = place.start().await;
        until_ping_serves(&daemon).await;
        let view = daemon.root().get(CONFIG).await.json();
        assert_eq!(
            (&view["revision"], &view["entry"]["settings"]["greeting"]),
            (&json!(1), &json!("kept"))
        );
        let left: Vec<_> = fs::read_dir(&run).unwrap().map(|file| file.unwrap().file_name()).collect();
        assert_eq!(left.len(), 1, "only the launch of now has a runtime file: {left:?}");
        daemon.stop().await;
    }
}
