//! What was saved of the entries of plugins: one row for each revision of an overlay.
//!
//! Not what an entry is or whether an overlay is valid, which the callers know. The invariants: a
//! revision is never changed, its number never used again, and it is there if and only if its row in
//! the audit log is. Overlays hold secrets only as `vault` seals them.

use bkg_protocol::PluginName;
use bkg_sqlite::Database;
use bkg_sqlite::rusqlite::types::Type;
use bkg_sqlite::rusqlite::{self, Connection, OptionalExtension, Row, params};
use jiff::Timestamp;
use serde_json::{Map, Value};

use super::StoreError;
use super::audit::{self, Action, AuditKey, Outcome};

/// The saved overlays of one data directory; cheap to clone.
#[derive(Debug, Clone)]
pub struct Revisions {
    database: Database,
    key: AuditKey,
}

/// An overlay as it was saved.
#[derive(Debug, Clone, PartialEq)]
pub struct Revision {
    /// Whose entry it lies over.
    pub plugin: PluginName,
    /// The plugin's first is 1, and there are no gaps.
    pub number: u64,
    /// When it was saved, to the microsecond.
    pub at: Timestamp,
    /// Who saved it: the user of its row in the audit log.
    pub author: String,
    /// What its author said of it; may be empty.
    pub note: String,
    /// What it says.
    pub overlay: Map<String, Value>,
}

/// What came of saving.
#[derive(Debug, Clone, PartialEq)]
pub enum Saved {
    /// It is on the disk.
    Done(Revision),
    /// Somebody else has saved since, and nothing was written.
    Conflict {
        /// The newest revision; `None` if there is none, which a restored database may be the reason for.
        current: Option<Revision>,
    },
}

impl Revisions {
    /// How many revisions of a plugin are kept: the newest.
    pub const MOST_KEPT: u64 = 200;

    pub(super) fn new(database: Database, key: AuditKey) -> Self {
        Self { database, key }
    }

    /// The newest revision of a plugin.
    ///
    /// # Errors
    /// The database's.
    pub async fn current(&self, plugin: &PluginName) -> Result<Option<Revision>, StoreError> {
        let plugin = plugin.clone();
        self.database.read(move |connection| Ok(newest(connection, &plugin)?)).await
    }

    /// The newest revision of each plugin that has any, by name.
    ///
    /// # Errors
    /// The database's.
    pub async fn all_current(&self) -> Result<Vec<Revision>, StoreError> {
        self.database
            .read(|connection| {
                let mut select = connection.prepare_cached(&format!(
                    "SELECT {COLUMNS} FROM revisions AS one WHERE number =
                       (SELECT max(number) FROM revisions WHERE plugin = one.plugin)
                     ORDER BY plugin"
                ))?;
                Ok(select.query_map([], Revision::read)?.collect::<Result<_, _>>()?)
            })
            .await
    }

    /// Saves the overlay that follows revision `expected`, 0 if there is none yet, and writes `action`
    /// to the audit log as done. Both are on the disk when this returns, or neither. Of those who expect
    /// the same revision, one saves.
    ///
    /// # Errors
    /// The database's; then nothing is written.
    pub async fn save(
        &self,
        plugin: &PluginName,
        expected: u64,
        overlay: Map<String, Value>,
        note: String,
        action: Action,
    ) -> Result<Saved, StoreError> {
        let (plugin, key) = (plugin.clone(), self.key.clone());
        self.database
            .write(move |connection| {
                let current = newest(connection, &plugin)?;
                let number = current.as_ref().map_or(0, |current| current.number);
                if number != expected {
                    return Ok(Saved::Conflict { current });
                }
                let at = now();
                let author = action.actor.user.clone();
                let revision = Revision { plugin, number: number + 1, at, author, note, overlay };
                insert(connection, &revision)?;
                audit::record(connection, &key, &action, Outcome::Done)?;
                Ok(Saved::Done(revision))
            })
            .await
    }

    /// The revisions of a plugin that are older than number `before`, newest first, `limit` at most.
    ///
    /// # Errors
    /// The database's.
    pub async fn list(
        &self,
        plugin: &PluginName,
        before: Option<u64>,
        limit: u32,
    ) -> Result<Vec<Revision>, StoreError> {
        let plugin = plugin.clone();
        self.database
            .read(move |connection| {
                let mut select = connection.prepare_cached(&format!(
                    "SELECT {COLUMNS} FROM revisions WHERE plugin = ?1 AND number < ?2
                     ORDER BY number DESC LIMIT ?3"
                ))?;
                let before = before.map_or(i64::MAX, stored);
                let rows = select.query_map(params![plugin.as_str(), before, limit], Revision::read)?;
                Ok(rows.collect::<Result<_, _>>()?)
            })
            .await
    }

    /// One revision; `None` if it never was or is no longer kept.
    ///
    /// # Errors
    /// The database's.
    pub async fn get(&self, plugin: &PluginName, number: u64) -> Result<Option<Revision>, StoreError> {
        let plugin = plugin.clone();
        self.database
            .read(move |connection| {
                let mut select = connection.prepare_cached(&format!(
                    "SELECT {COLUMNS} FROM revisions WHERE plugin = ?1 AND number = ?2"
                ))?;
                Ok(select.query_row(params![plugin.as_str(), stored(number)], Revision::read).optional()?)
            })
            .await
    }
}

const COLUMNS: &str = "plugin, number, at, author, note, overlay";

impl Revision {
    fn read(row: &Row<'_>) -> rusqlite::Result<Self> {
        let (plugin, overlay): (String, String) = (row.get(0)?, row.get(5)?);
        Ok(Self {
            plugin: plugin.parse().map_err(|error| malformed(0, Type::Text, error))?,
            // The table has no number below 1.
            number: row.get::<_, i64>(1)?.unsigned_abs(),
            at: Timestamp::from_microsecond(row.get(2)?)
                .map_err(|error| malformed(2, Type::Integer, error))?,
            author: row.get(3)?,
            note: row.get(4)?,
            overlay: serde_json::from_str(&overlay).map_err(|error| malformed(5, Type::Text, error))?,
        })
    }
}

/// Only somebody else's change makes a column anything but what was written.
fn malformed(
    column: usize,
    kind: Type,
    error: impl std::error::Error + Send + Sync + 'static,
) -> rusqlite::Error {
    rusqlite::Error::FromSqlConversionFailure(column, kind, Box::new(error))
}

fn newest(connection: &Connection, plugin: &PluginName) -> rusqlite::Result<Option<Revision>> {
    connection
        .prepare_cached(&format!(
            "SELECT {COLUMNS} FROM revisions WHERE plugin = ?1 ORDER BY number DESC LIMIT 1"
        ))?
        .query_row([plugin.as_str()], Revision::read)
        .optional()
}

/// Adds a revision, and removes those that are too many.
fn insert(connection: &Connection, revision: &Revision) -> rusqlite::Result<()> {
    let Revision { plugin, number, at, author, note, overlay } = revision;
    let overlay = serde_json::to_string(overlay).expect("a map of values has a JSON form");
    connection
        .prepare_cached(&format!("INSERT INTO revisions ({COLUMNS}) VALUES (?1, ?2, ?3, ?4, ?5, ?6)"))?
        .execute(params![plugin.as_str(), stored(*number), at.as_microsecond(), author, note, overlay])?;
    connection
        .prepare_cached("DELETE FROM revisions WHERE plugin = ?1 AND number <= ?2")?
        .execute(params![plugin.as_str(), stored(number.saturating_sub(Revisions::MOST_KEPT))])?;
    Ok(())
}

/// Whether any overlay that is kept holds a sealed value, which is `{"$sealed": "v1.…"}` in its place.
pub(super) fn have_secrets(connection: &Connection) -> rusqlite::Result<bool> {
    // An overlay that has it inside of a text counts too: to err on this side loses nothing.
    connection.prepare("SELECT 1 FROM revisions WHERE instr(overlay, '$sealed') > 0")?.exists([])
}

/// The moment, as exact as it is stored.
fn now() -> Timestamp {
    let at = Timestamp::now();
    Timestamp::from_microsecond(at.as_microsecond()).unwrap_or(at)
}

/// SQLite has no greater numbers, and no revision has one.
fn stored(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::path::Path;
    use std::sync::Arc;

    use serde_json::json;

    use super::super::database::tests::{TestStore, action, to_be_killed};
    use super::super::{AuditFile, AuditFilter, DataDir, Store};
    use super::*;

    fn plugin(name: &str) -> PluginName {
        name.parse().unwrap()
    }

    fn overlay(answer: impl Into<Value>) -> Map<String, Value> {
        Map::from_iter([("settings".to_owned(), json!({ "answer": answer.into() }))])
    }

    fn save(host: &TestStore, name: &str, expected: u64, answer: i64) -> Saved {
        save_overlay(host, name, expected, overlay(answer), &format!("it is {answer}")).unwrap()
    }

    fn save_overlay(
        host: &TestStore,
        name: &str,
        expected: u64,
        overlay: Map<String, Value>,
        note: &str,
    ) -> Result<Saved, StoreError> {
        let (plugin, action) = (plugin(name), action(&format!("plugin {name}")));
        host.wait(host.store.revisions.save(&plugin, expected, overlay, note.to_owned(), action))
    }

    fn done(saved: Saved) -> Revision {
        match saved {
            Saved::Done(revision) => revision,
            Saved::Conflict { .. } => panic!("{saved:?}"),
        }
    }

    fn audited(host: &TestStore) -> usize {
        let filter =
            AuditFilter { before: None, limit: AuditFilter::MOST, action: None, actor: None, since: None };
        host.wait(host.store.audit.page(filter)).unwrap().len()
    }

    #[test]
    fn a_revision_is_read_as_it_was_saved() {
        let host = TestStore::new();
        let revisions = &host.store.revisions;
        assert_eq!(host.wait(revisions.current(&plugin("ping"))).unwrap(), None);
        let before = Timestamp::now().as_microsecond();
        let first = done(save(&host, "ping", 0, 1));
        let expected = Revision {
            plugin: plugin("ping"),
            number: 1,
            at: first.at,
            author: "ada".to_owned(),
            note: "it is 1".to_owned(),
            overlay: overlay(1),
        };
        assert_eq!(first, expected);
        assert!(first.at.as_microsecond() >= before);
        let second = done(save(&host, "ping", 1, 2));
        let other = done(save(&host, "echo", 0, 3));
        assert_eq!((second.number, other.number), (2, 1));
        assert_eq!(host.wait(revisions.current(&plugin("ping"))).unwrap(), Some(second.clone()));
        assert_eq!(host.wait(revisions.all_current()).unwrap(), [other, second.clone()]);
        assert_eq!(host.wait(revisions.get(&plugin("ping"), 1)).unwrap(), Some(first.clone()));
        for none in [0, 3, u64::MAX] {
            assert_eq!(host.wait(revisions.get(&plugin("ping"), none)).unwrap(), None);
        }
        assert_eq!(audited(&host), 3);

        let directory = host.close();
        let host = TestStore::open(&directory).unwrap();
        let listed = host.wait(host.store.revisions.list(&plugin("ping"), None, 10)).unwrap();
        assert_eq!(listed, [second, first]);
    }

    #[test]
    fn who_expects_another_revision_is_told_the_newest_and_changes_nothing() {
        let host = TestStore::new();
        assert_eq!(save(&host, "ping", 7, 1), Saved::Conflict { current: None });
        let first = done(save(&host, "ping", 0, 1));
        for wrong in [0, 2, u64::MAX] {
            assert_eq!(save(&host, "ping", wrong, 2), Saved::Conflict { current: Some(first.clone()) });
        }
        assert_eq!(host.wait(host.store.revisions.list(&plugin("ping"), None, 9)).unwrap(), [first]);
        assert_eq!(audited(&host), 1);
    }

    #[test]
    fn of_many_who_expect_the_same_revision_one_saves() {
        const MANY: usize = 20;
        let host = TestStore::new();
        for round in 0..10 {
            let outcomes = host.wait(async {
                let tasks: Vec<_> = (0..MANY)
                    .map(|number| {
                        let revisions = host.store.revisions.clone();
                        tokio::spawn(async move {
                            let action = action("plugin ping");
                            let note = number.to_string();
                            revisions.save(&plugin("ping"), round, overlay(number), note, action).await
                        })
                    })
                    .collect();
                let mut outcomes = Vec::new();
                for task in tasks {
                    outcomes.push(task.await.unwrap().unwrap());
                }
                outcomes
            });
            let winners: Vec<_> =
                outcomes.iter().filter(|saved| matches!(saved, Saved::Done(_))).cloned().collect();
            let [Saved::Done(winner)] = &winners[..] else { panic!("{winners:?}") };
            assert_eq!(winner.number, round + 1);
            let told = Saved::Conflict { current: Some(winner.clone()) };
            assert_eq!(outcomes.iter().filter(|saved| **saved == told).count(), MANY - 1);
        }
        assert_eq!(audited(&host), 10);
    }

    #[test]
    fn the_newest_are_kept_and_numbers_are_never_used_again() {
        let host = TestStore::new();
        done(save(&host, "echo", 0, 0));
        let saved = Revisions::MOST_KEPT + 3;
        for expected in 0..saved {
            assert_eq!(done(save(&host, "ping", expected, 1)).number, expected + 1);
        }
        let list = |before, limit| {
            let listed = host.wait(host.store.revisions.list(&plugin("ping"), before, limit)).unwrap();
            listed.into_iter().map(|revision| revision.number).collect::<Vec<_>>()
        };
        assert_eq!(list(None, u32::MAX), (4..=saved).rev().collect::<Vec<_>>());
        assert_eq!(list(None, 2), [saved, saved - 1]);
        assert_eq!(list(Some(saved), 1), [saved - 1]);
        assert_eq!(list(Some(6), 9), [5, 4]);
        assert_eq!(list(Some(4), 9), [0; 0]);
        assert_eq!(list(Some(u64::MAX), 0), [0; 0]);
        assert_eq!(host.wait(host.store.revisions.list(&plugin("echo"), None, 9)).unwrap().len(), 1);
    }

    #[test]
    fn odd_overlays_come_out_as_they_went_in() {
        let host = TestStore::new();
        let odd = json!({
            "z": 1, "a": [null, true, 1.5, u64::MAX, i64::MIN, "'; DROP TABLE revisions; --"],
            "": { "a\0b": "\u{1b}[2J\u{202e}😀" }, "a/b~c": "x".repeat(256 * 1024),
        });
        let Value::Object(odd) = odd else { unreachable!("it is an object") };
        for (expected, overlay) in [Map::new(), odd].into_iter().enumerate() {
            let note = "a\0b'\n";
            done(save_overlay(&host, "ping", expected as u64, overlay.clone(), note).unwrap());
            let read = host.wait(host.store.revisions.current(&plugin("ping"))).unwrap().unwrap();
            assert_eq!((read.note.as_str(), &read.overlay), (note, &overlay));
            // Equal maps may still differ in their order, which people see.
            assert_eq!(json!(read.overlay).to_string(), json!(overlay).to_string());
        }
    }

    #[test]
    fn nobody_changes_a_revision() {
        let host = TestStore::new();
        done(save(&host, "ping", 0, 1));
        let database = Connection::open(host.store.revisions.database.path()).unwrap();
        let error = database.execute("UPDATE revisions SET overlay = '{}'", []).unwrap_err().to_string();
        assert_eq!(error, "a saved revision is never changed");
    }

    #[test]
    fn a_save_that_the_audit_log_refuses_did_not_happen() {
        let host = TestStore::new();
        host.tamper("UPDATE audit_head SET seq = 2");
        let error = save_overlay(&host, "ping", 0, overlay(1), "").unwrap_err();
        assert!(matches!(error, StoreError::AuditBroken { .. }), "{error}");
        assert_eq!(host.wait(host.store.revisions.current(&plugin("ping"))).unwrap(), None);
    }

    #[test]
    fn a_row_that_somebody_made_is_an_error_and_hides_no_other_plugin() {
        let host = TestStore::new();
        let echo = done(save(&host, "echo", 0, 1));
        host.tamper("INSERT INTO revisions VALUES ('ping', 1, 0, 'eve', '', 'not JSON')");
        let error = host.wait(host.store.revisions.current(&plugin("ping"))).unwrap_err();
        assert!(matches!(error, StoreError::Database(_)), "{error}");
        assert_eq!(host.wait(host.store.revisions.current(&plugin("echo"))).unwrap(), Some(echo));
    }

    /// Set in a child process of the test below: where its data directory is.
    const CHILD: &str = "BKG_TEST_REVISIONS_DIR";
    const PLUGINS: [&str; 3] = ["echo", "ping", "apikeys"];

    #[test]
    fn a_killed_host_has_every_revision_that_it_acknowledged() {
        if let Some(data_dir) = std::env::var_os(CHILD) {
            save_until_killed(Path::new(&data_dir));
        }
        let directory = Arc::new(tempfile::tempdir().unwrap());
        let mut acknowledged = BTreeMap::new();
        for round in 0..5 {
            let (mut child, mut lines) = to_be_killed(
                "store::revisions::tests::a_killed_host_has_every_revision_that_it_acknowledged",
                CHILD,
                directory.path(),
            );
            let mut take = |line: &str| {
                let Some(saved) = line.strip_prefix("saved ") else { return false };
                let (name, number) = saved.split_once(' ').unwrap();
                let newest: &mut u64 = acknowledged.entry(name.to_owned()).or_default();
                *newest = number.parse::<u64>().unwrap().max(*newest);
                true
            };
            let mut wanted = 10 + round * 13;
            while wanted > 0 {
                let line = lines.next().expect("the child saves until it is killed").unwrap();
                wanted -= usize::from(take(&line));
            }
            child.kill().unwrap();
            child.wait().unwrap();
            // What it had said before it died; the last line may be half a line.
            let mut rest: Vec<String> = lines.map_while(Result::ok).collect();
            rest.pop();
            for line in &rest {
                take(line);
            }
            check_revisions(&directory, &acknowledged);
        }
        assert_eq!(acknowledged.len(), PLUGINS.len());
    }

    /// Every acknowledged revision is there, whole, with its row in the audit log.
    fn check_revisions(directory: &Arc<tempfile::TempDir>, acknowledged: &BTreeMap<String, u64>) {
        let host = TestStore::open(directory).unwrap();
        let mut newest = 0;
        for name in PLUGINS {
            let kept = host.wait(host.store.revisions.list(&plugin(name), None, u32::MAX)).unwrap();
            let current = kept.first().map_or(0, |revision| revision.number);
            assert!(current >= acknowledged.get(name).copied().unwrap_or(0), "{name}");
            let oldest = current.saturating_sub(Revisions::MOST_KEPT) + 1;
            assert!(kept.iter().map(|revision| revision.number).eq((oldest..=current).rev()), "{name}");
            for revision in &kept {
                assert_eq!(revision.overlay, overlay(long(revision.number)), "{name}");
            }
            newest += current;
        }
        let verification = AuditFile::open(directory.path()).unwrap().verify().unwrap();
        assert_eq!((verification.entries, verification.findings), (newest, vec![]));
    }

    /// Longer than a page of the database, so that a revision is more than one.
    fn long(number: u64) -> String {
        number.to_string().repeat(5_000)
    }

    fn save_until_killed(data_dir: &Path) -> ! {
        let data = DataDir::open(data_dir).unwrap();
        let store = Store::open(&data).unwrap();
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).build().unwrap();
        runtime.block_on(async {
            for name in PLUGINS {
                let revisions = store.revisions.clone();
                tokio::spawn(async move {
                    let plugin = plugin(name);
                    let current = revisions.current(&plugin).await.unwrap();
                    let mut number = current.map_or(0, |current| current.number);
                    loop {
                        let next = overlay(long(number + 1));
                        let saving = revisions.save(&plugin, number, next, String::new(), action("plugin"));
                        number = done(saving.await.unwrap()).number;
                        println!("saved {name} {number}");
                    }
                });
            }
            std::future::pending::<()>().await;
        });
        unreachable!("the process is killed")
    }
}
