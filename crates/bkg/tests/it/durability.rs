//! What is promised when daemon and plugins die at any moment: nothing that was answered is undone, and
//! the audit log knows of everything that happened.
//!
//! With the real binary and the provider that is shipped, killed and started again over one directory.
//! Files that are lost or damaged are in `losses`.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use bkg_sqlite::rusqlite::Connection;
use serde_json::{Value, json};
use tokio::sync::Notify;
use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::daemon::{Daemon, Place};
use crate::host::PATIENCE;
use crate::visitor::Visitor;

/// How often the daemon is killed; `BKG_ROUNDS` asks for another number.
const ROUNDS: usize = 40;
/// How many keys are made and revoked at once.
const WORKERS: usize = 6;
/// How many keys are kept over many rounds; the provider allows a user no more than some hundreds.
const MOST_KEPT: usize = 300;

/// What is known of a key that was shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    /// It works.
    Shown,
    /// Its revocation was asked for, and not answered: nobody can know yet.
    Doubtful,
    /// Its revocation was answered.
    Revoked,
}

/// All keys that were ever shown, by secret.
#[derive(Default)]
struct Witness {
    keys: Mutex<HashMap<String, Fate>>,
    answered: AtomicUsize,
    news: Notify,
}

impl Witness {
    fn saw(&self, secret: &str, fate: Fate) {
        self.keys.lock().unwrap().insert(secret.to_owned(), fate);
    }

    fn counts(&self) {
        self.answered.fetch_add(1, Ordering::Relaxed);
        self.news.notify_waiters();
    }

    /// Waits until so many changes were answered.
    async fn until_answered(&self, count: usize) {
        let waiting = async {
            loop {
                let news = self.news.notified();
                if self.answered.load(Ordering::Relaxed) >= count {
                    return;
                }
                news.await;
            }
        };
        timeout(PATIENCE, waiting).await.expect("changes are answered");
    }

    /// Makes keys, and revokes about every other one, until the daemon is gone.
    async fn work(&self, root: &Visitor) -> anyhow::Result<()> {
        loop {
            let wanted = Some(json!({ "user": "admin", "scopes": ["llm.chat"] }));
            let made = root.try_send(http::Method::POST, "/admin/keys", wanted).await?;
            if made.status != 201 {
                // The provider was killed a moment before the host.
                assert_eq!(made.status, 503, "{}", made.text);
                return Ok(());
            }
            let key = made.json();
            let (id, secret) = (key["id"].as_str().unwrap(), key["key"].as_str().unwrap());
            self.saw(secret, Fate::Shown);
            self.counts();
            let is_kept = self.answered.load(Ordering::Relaxed).is_multiple_of(2);
            if is_kept && self.count(Fate::Shown) < MOST_KEPT {
                continue;
            }
            self.saw(secret, Fate::Doubtful);
            let revoked = root.try_send(http::Method::DELETE, &format!("/admin/keys/{id}"), None).await?;
            if revoked.status != 200 {
                assert_eq!(revoked.status, 503, "{}", revoked.text);
                return Ok(());
            }
            self.saw(secret, Fate::Revoked);
            self.counts();
        }
    }

    /// Asks about every key whose fate is another one than before, or new; what was doubtful is certain
    /// from now on.
    async fn check(&self, daemon: &Daemon, before: &HashMap<String, Fate>) {
        let keys = self.keys.lock().unwrap().clone();
        for (secret, fate) in keys.into_iter().filter(|(secret, fate)| before.get(secret) != Some(fate)) {
            let reply = Visitor::at(daemon.port()).with(&secret).get("/v1/models").await;
            let now = match reply.status.as_u16() {
                200 => Fate::Shown,
                401 => Fate::Revoked,
                _ => panic!("{}", reply.text),
            };
            assert!(fate == Fate::Doubtful || fate == now, "{fate:?} became {now:?}");
            self.saw(&secret, now);
        }
    }

    fn count(&self, fate: Fate) -> usize {
        self.keys.lock().unwrap().values().filter(|key| **key == fate).count()
    }
}

/// The audit log is whole, and nothing in it is left open.
pub fn check_audit(place: &Place) {
    let verified = place.run(&["--json", "audit", "verify"]);
    let text = String::from_utf8(verified.stdout).unwrap();
    assert!(verified.status.success(), "{text}");
    let verdict: Value = serde_json::from_str(&text).unwrap();
    assert_eq!((&verdict["unbroken"], &verdict["open"]), (&json!(true), &json!(0)), "{verdict}");
}

#[tokio::test]
async fn what_was_answered_survives_every_kill() {
    let rounds = std::env::var("BKG_ROUNDS").map_or(ROUNDS, |rounds| rounds.parse().unwrap());
    let place = Place::new();
    let witness = Arc::new(Witness::default());
    let mut known = HashMap::new();
    for round in 0..rounds {
        let mut daemon = place.start().await;
        witness.check(&daemon, &known).await;
        check_audit(&place);
        known = witness.keys.lock().unwrap().clone();
        let mut workers = JoinSet::new();
        for _ in 0..WORKERS {
            let (witness, root) = (Arc::clone(&witness), daemon.root());
            workers.spawn(async move { witness.work(&root).await });
        }
        // Another moment each time, from the first answers on.
        let wanted = witness.answered.load(Ordering::Relaxed) + 1 + round * 7 % 23;
        witness.until_answered(wanted).await;
        daemon.kill();
        while let Some(worker) = workers.join_next().await {
            // A connection that broke is what a kill looks like from outside; a panic is not.
            let _ = worker.unwrap();
        }
    }
    let daemon = place.start().await;
    witness.check(&daemon, &HashMap::new()).await;
    check_audit(&place);
    let export = String::from_utf8(place.run(&["audit", "export"]).stdout).unwrap();
    daemon.stop().await;
    check_told(&export, &place.file("plugins/apikeys/data/apikeys.db"));
    // Some kills came in the midst of a change, or all this would show little.
    assert!(place.log().contains("an open entry of the audit log is settled"));
    let (shown, revoked) = (witness.count(Fate::Shown), witness.count(Fate::Revoked));
    assert!(shown > 0 && revoked > 0, "{shown} keys work, {revoked} were revoked");
}

/// Nothing happened that the log does not know, and nothing is in it that did not happen.
fn check_told(export: &str, database: &Path) {
    let rows: Vec<Value> = export.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let done = |action: &'static str| {
        rows.iter().filter(move |row| row["action"] == action && row["kind"] == "done")
    };
    let told: BTreeSet<&str> = done("key.revoke")
        .map(|row| row["target"].as_str().unwrap().strip_prefix("key ").unwrap())
        .collect();
    let database = Connection::open(database).unwrap();
    let mut keys = database.prepare("SELECT id, revoked_at IS NOT NULL FROM keys").unwrap();
    let keys: BTreeMap<String, bool> =
        keys.query_map([], |row| Ok((row.get(0)?, row.get(1)?))).unwrap().map(Result::unwrap).collect();
    for (id, is_revoked) in &keys {
        assert_eq!(told.contains(id.as_str()), *is_revoked, "key {id}");
    }
    // The provider forgets the oldest of many revoked keys.
    let forgotten = told.iter().filter(|id| !keys.contains_key(**id)).count();
    assert_eq!(done("key.create").count(), keys.len() + forgotten);
}
