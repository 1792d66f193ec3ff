//! The audit log: who did what to what, and what came of it.
//!
//! Not the log of the daemon, which may lose lines. The invariants: what was acknowledged is on the
//! disk, nothing is ever changed or removed, and `chain` shows whatever somebody else did. Whoever
//! has another process change something writes an [`Intent`] before and its end after;
//! a change of the host's own store shares its transaction with its row, through [`record`].

mod chain;
mod entry;
mod file;
mod key;
mod verify;

use std::net::IpAddr;

use bkg_sqlite::Database;
use bkg_sqlite::rusqlite::{self, Connection, OptionalExtension};
use jiff::Timestamp;
use serde_json::Value;
use tokio::sync::watch;
use tracing::warn;
use uuid::Uuid;

pub use entry::{AuditFilter, AuditRow, EntryKind, OpenIntent};
pub use file::AuditFile;
pub use verify::{Finding, Verification};

pub(super) use key::AuditKey;

use super::StoreError;
use chain::Head;
use entry::Texts;

/// The audit log of the data directory that this host owns; cheap to clone.
#[derive(Debug, Clone)]
pub struct Audit {
    database: Database,
    key: AuditKey,
}

/// Who does something.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Actor {
    /// The user's name; `root` for whoever holds the root key, `host` for the host itself.
    pub user: String,
    /// The id of the API key that was used.
    pub key_id: Option<String>,
    /// The id of the login that was used.
    pub session_id: Option<String>,
    /// Where the request came from.
    pub address: Option<IpAddr>,
}

/// What somebody does.
#[derive(Debug, Clone, PartialEq)]
pub struct Action {
    /// Who.
    pub actor: Actor,
    /// What, in dotted words: `key.create`.
    pub action: &'static str,
    /// To what: a word for the kind and a name or id, such as `key k_1`.
    pub target: String,
    /// What else is worth knowing. Never a secret.
    pub detail: Value,
    /// The `x-request-id` of the request that asked for it.
    pub request_id: Option<String>,
}

/// What came of an action.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Outcome {
    /// It happened.
    Done,
    /// It did not happen.
    Failed,
    /// Nobody can tell whether it happened.
    Unknown,
}

/// An action that was announced and whose outcome is not yet written.
///
/// Dropped without one, it stays open in the log, because only the owner of what was to change can
/// tell the outcome: [`Audit::open_intents`] lists it, and the host asks when it next starts.
#[derive(Debug)]
#[must_use = "an intent whose outcome nobody writes stays open until the next start"]
pub struct Intent {
    audit: Audit,
    id: Uuid,
    is_in_hand: bool,
}

impl Audit {
    pub(super) fn new(database: Database, key: AuditKey) -> Self {
        Self { database, key }
    }

    /// Writes that somebody is about to do something. It is on the disk when this returns.
    ///
    /// # Errors
    /// The database's; then do not do it.
    pub async fn intend(&self, action: Action) -> Result<Intent, StoreError> {
        let (id, key) = (Uuid::now_v7(), self.key.clone());
        let texts = Texts::new(EntryKind::Intended, Some(id), &action);
        if action.takes_away() {
            let write = move |connection: &Connection| append(connection, &key, texts.clone());
            self.database.write_with_reserve(write).await?;
        } else {
            self.database.write(move |connection| append(connection, &key, texts)).await?;
        }
        Ok(Intent { audit: self.clone(), id, is_in_hand: true })
    }

    /// Writes something that has its outcome already, such as a login that failed.
    ///
    /// # Errors
    /// The database's.
    pub async fn note(&self, action: Action, outcome: Outcome) -> Result<(), StoreError> {
        let key = self.key.clone();
        self.database.write(move |connection| record(connection, &key, &action, outcome)).await
    }

    /// The intents without an outcome, oldest first.
    ///
    /// # Errors
    /// The database's.
    pub async fn open_intents(&self) -> Result<Vec<OpenIntent>, StoreError> {
        self.database.read(|connection| Ok(entry::open_intents(connection)?)).await
    }

    /// Writes the outcome of an intent; one that has an outcome keeps it, and nothing is written.
    ///
    /// # Errors
    /// The database's, or [`StoreError::NoSuchIntent`].
    pub async fn settle(&self, id: Uuid, outcome: Outcome) -> Result<(), StoreError> {
        self.end(id, outcome, Value::Null).await
    }

    /// The rows that `filter` wants, newest first.
    ///
    /// # Errors
    /// The database's.
    pub async fn page(&self, filter: AuditFilter) -> Result<Vec<AuditRow>, StoreError> {
        self.database.read(move |connection| Ok(entry::page(connection, &filter)?)).await
    }

    /// At most `limit` rows with numbers above `seq`, and never more than [`AuditFilter::MOST`], oldest
    /// first.
    ///
    /// # Errors
    /// The database's.
    pub async fn after(&self, seq: u64, limit: usize) -> Result<Vec<AuditRow>, StoreError> {
        self.database.read(move |connection| Ok(entry::after(connection, seq, limit)?)).await
    }

    /// The number of the newest row; 0 if there is none.
    ///
    /// # Errors
    /// The database's.
    pub async fn newest(&self) -> Result<u64, StoreError> {
        self.database.read(|connection| Ok(chain::highest(connection)?.unsigned_abs())).await
    }

    /// A receiver that is woken whenever there may be new rows: to be looked for with [`Audit::after`].
    pub fn follow(&self) -> watch::Receiver<u64> {
        self.database.follow_commits()
    }

    async fn end(&self, id: Uuid, outcome: Outcome, detail: Value) -> Result<(), StoreError> {
        let key = self.key.clone();
        // What has happened is written out of the reserve, if need be.
        let write = move |connection: &Connection| end(connection, &key, id, outcome, &detail);
        self.database.write_with_reserve(write).await
    }
}

impl Action {
    /// Whether it takes work or rights from somebody. An operator must be able to do that in any trouble, so
    /// it is written also on a disk that is full.
    fn takes_away(&self) -> bool {
        match self.action {
            "plugin.stop" | "key.revoke" | "session.revoke" | "logout" | "user.delete" => true,
            "user.update" => self.detail.get("disabled") == Some(&Value::Bool(true)),
            _ => false,
        }
    }
}

impl Intent {
    /// Its id, by which the owner of what is to change keeps the change: the `operationId`.
    pub fn id(&self) -> Uuid {
        self.id
    }

    /// Writes that it happened, with what else is worth knowing now; never a secret.
    ///
    /// # Errors
    /// The database's; the intent stays open then.
    pub async fn done(self, detail: Value) -> Result<(), StoreError> {
        self.end(Outcome::Done, detail).await
    }

    /// Writes that it did not happen, and why.
    ///
    /// # Errors
    /// The database's; the intent stays open then.
    pub async fn failed(self, reason: &str) -> Result<(), StoreError> {
        self.end(Outcome::Failed, serde_json::json!({ "reason": reason })).await
    }

    /// Leaves it open on purpose, for somebody who settles it by its id.
    pub fn leave_open(mut self) -> Uuid {
        self.is_in_hand = false;
        self.id
    }

    async fn end(mut self, outcome: Outcome, detail: Value) -> Result<(), StoreError> {
        let (audit, id) = (self.audit.clone(), self.id);
        let written = audit.end(id, outcome, detail).await;
        self.is_in_hand = false;
        written
    }
}

impl Drop for Intent {
    fn drop(&mut self) {
        if self.is_in_hand {
            warn!(id = %self.id, "an action was abandoned: its entry in the audit log is open until the next start");
        }
    }
}

impl Outcome {
    fn kind(self) -> EntryKind {
        match self {
            Self::Done => EntryKind::Done,
            Self::Failed => EntryKind::Failed,
            Self::Unknown => EntryKind::Unknown,
        }
    }
}

/// Writes an action together with its outcome, in the transaction of `connection`: for changes of the
/// host's own store.
///
/// # Errors
/// The database's; then roll back.
pub(super) fn record(
    connection: &Connection,
    key: &AuditKey,
    action: &Action,
    outcome: Outcome,
) -> Result<(), StoreError> {
    append(connection, key, Texts::new(outcome.kind(), None, action))
}

fn append(connection: &Connection, key: &AuditKey, texts: Texts) -> Result<(), StoreError> {
    chain::append(connection, key, Timestamp::now().as_microsecond(), texts.into_bytes()).map(drop)
}

/// Ends an intent with a row that repeats who wanted what.
fn end(
    connection: &Connection,
    key: &AuditKey,
    id: Uuid,
    outcome: Outcome,
    detail: &Value,
) -> Result<(), StoreError> {
    let begun = connection
        .prepare_cached(&format!(
            "SELECT {} FROM audit WHERE kind = 'intended' AND intent = ?1",
            chain::TEXTS.join(", ")
        ))?
        .query_row([id.to_string()], Texts::read)
        .optional()?
        .ok_or(StoreError::NoSuchIntent { id })?;
    let has_ended = connection
        .prepare_cached(
            "SELECT 1 FROM audit WHERE intent IS NOT NULL AND kind <> 'intended' AND intent = ?1",
        )?
        .exists([id.to_string()])?;
    if has_ended {
        return Ok(());
    }
    append(connection, key, begun.ended(outcome.kind(), detail))
}

/// Makes sure that the log can go on from its head, and says so loudly if its newest rows are not those
/// that the head names: they stay to be seen, since numbers and codes go on from the head.
///
/// # Errors
/// [`StoreError::AuditKeyWrong`] or [`StoreError::AuditBroken`]: there is no head to go on from.
pub(super) fn check_end(connection: &Connection, key: &AuditKey) -> Result<(), StoreError> {
    let path = || connection.path().unwrap_or_default().into();
    let newest = verify::newest(connection)?;
    let Some(head) = Head::read(connection)?.filter(|head| head.is_genuine(key)) else {
        return Err(match newest {
            Some(row) if !row.is_genuine(key) => StoreError::AuditKeyWrong { path: path() },
            _ => StoreError::AuditBroken { path: path() },
        });
    };
    let fits = match &newest {
        Some(row) => row.content.seq == head.seq && row.mac == head.mac,
        None => head.seq == 0,
    };
    if !fits {
        tracing::error!(
            "the newest entries of the audit log were changed from outside: `bkg audit verify` says which"
        );
    }
    Ok(())
}

/// Whether the log has begun: it has rows, or a head that counts some.
pub(super) fn has_begun(connection: &Connection) -> rusqlite::Result<bool> {
    let counted = Head::read(connection)?.is_some_and(|head| head.seq != 0);
    Ok(counted || chain::highest(connection)? != 0)
}

/// Gives a log that has not begun its first head.
pub(super) fn begin(connection: &Connection, key: &AuditKey) -> rusqlite::Result<()> {
    chain::begin(connection, key)
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;
    use std::path::Path;
    use std::sync::Arc;

    use serde_json::json;

    use super::super::database::tests::{TestStore, action, to_be_killed};
    use super::*;

    fn all() -> AuditFilter {
        AuditFilter { before: None, limit: AuditFilter::MOST, action: None, actor: None, since: None }
    }

    fn page(host: &TestStore, filter: AuditFilter) -> Vec<AuditRow> {
        host.wait(host.store.audit.page(filter)).unwrap()
    }

    fn numbers(rows: &[AuditRow]) -> Vec<i64> {
        rows.iter().map(|row| row.seq).collect()
    }

    fn verify(data_dir: &Path) -> Verification {
        AuditFile::open(data_dir).unwrap().verify().unwrap()
    }

    #[test]
    fn an_intent_and_its_end_share_an_id_and_say_who_wanted_what() {
        let host = TestStore::new();
        let audit = &host.store.audit;
        let before = Timestamp::now();
        let intent = host.wait(audit.intend(action("key k_1"))).unwrap();
        let id = intent.id();
        host.wait(intent.done(json!({ "id": "k_1" }))).unwrap();
        let failed = host.wait(audit.intend(action("key k_2"))).unwrap();
        host.wait(failed.failed("it is forbidden")).unwrap();
        let rows = page(&host, all());
        assert_eq!(numbers(&rows), [4, 3, 2, 1]);
        let [_, begun] = &rows[2..] else { panic!("there are four rows") };
        let expected = AuditRow {
            seq: 1,
            at: begun.at,
            kind: EntryKind::Intended,
            intent: Some(id),
            user: "ada".to_owned(),
            key_id: Some("k_7".to_owned()),
            session_id: None,
            address: Some("127.0.0.1".to_owned()),
            action: "key.create".to_owned(),
            target: "key k_1".to_owned(),
            detail: json!({ "scopes": ["llm.chat"] }),
            request_id: Some("0199".to_owned()),
            mac: begun.mac.clone(),
        };
        assert_eq!(*begun, expected);
        assert!(begun.at.as_microsecond() >= before.as_microsecond() && begun.mac.len() == 64);
        let ended = AuditRow {
            seq: 2,
            at: rows[2].at,
            kind: EntryKind::Done,
            detail: json!({ "id": "k_1" }),
            mac: rows[2].mac.clone(),
            ..expected
        };
        assert_eq!(rows[2], ended);
        assert_eq!(
            (rows[0].kind, &rows[0].detail),
            (EntryKind::Failed, &json!({ "reason": "it is forbidden" }))
        );
        assert!(host.wait(audit.open_intents()).unwrap().is_empty());
    }

    #[test]
    fn an_intent_without_an_outcome_stays_open_until_it_is_settled() {
        let host = TestStore::new();
        let audit = &host.store.audit;
        let dropped = host.wait(audit.intend(action("key k_1"))).unwrap().id();
        let left = host.wait(audit.intend(action("key k_2"))).unwrap().leave_open();
        let open = host.wait(audit.open_intents()).unwrap();
        let told: Vec<_> =
            open.iter().map(|open| (open.id, open.action.as_str(), open.target.as_str())).collect();
        assert_eq!(told, [(dropped, "key.create", "key k_1"), (left, "key.create", "key k_2")]);
        assert_eq!(verify(host.directory.path()).open, 2);

        host.wait(audit.settle(dropped, Outcome::Unknown)).unwrap();
        // What is settled stays as it is.
        host.wait(audit.settle(dropped, Outcome::Done)).unwrap();
        let rows = page(&host, all());
        assert_eq!((rows.len(), rows[0].kind, rows[0].intent), (3, EntryKind::Unknown, Some(dropped)));
        let open = host.wait(audit.open_intents()).unwrap();
        assert_eq!(open.iter().map(|open| open.id).collect::<Vec<_>>(), [left]);
        let unknown = host.wait(audit.settle(Uuid::now_v7(), Outcome::Done));
        assert!(matches!(unknown, Err(StoreError::NoSuchIntent { .. })), "{unknown:?}");
    }

    #[test]
    fn many_at_once_leave_no_gaps() {
        const MANY: usize = 200;
        let host = TestStore::new();
        host.wait(async {
            let tasks: Vec<_> = (0..MANY)
                .map(|number| {
                    let audit = host.store.audit.clone();
                    tokio::spawn(async move {
                        let intent = audit.intend(action(&format!("key k_{number}"))).await.unwrap();
                        if number % 2 == 0 {
                            intent.done(Value::Null).await.unwrap();
                        } else {
                            audit.note(action("user eve"), Outcome::Failed).await.unwrap();
                            intent.leave_open();
                        }
                    })
                })
                .collect();
            for task in tasks {
                task.await.unwrap();
            }
        });
        let rows = page(&host, all());
        assert_eq!(numbers(&rows), (1..=2 * MANY as i64).rev().collect::<Vec<_>>());
        let verification = verify(host.directory.path());
        let expected = Verification { entries: 2 * MANY as u64, open: MANY as u64 / 2, findings: vec![] };
        assert_eq!(verification, expected);
    }

    #[test]
    fn who_follows_is_woken_and_finds_what_is_new_in_order() {
        let host = TestStore::new();
        let audit = &host.store.audit;
        host.note(3);
        let mut follow = audit.follow();
        assert_eq!(host.wait(audit.newest()).unwrap(), 3);
        follow.borrow_and_update();
        host.wait(audit.note(action("key k_4"), Outcome::Done)).unwrap();
        host.wait(follow.changed()).unwrap();
        let after = |seq, limit| {
            let rows = host.wait(audit.after(seq, limit)).unwrap();
            rows.iter().map(|row| row.seq).collect::<Vec<_>>()
        };
        assert_eq!(after(3, 10), [4]);
        assert_eq!(after(0, 2), [1, 2]);
        assert!(after(4, 10).is_empty() && after(u64::MAX, 10).is_empty());
    }

    #[test]
    fn a_page_is_what_its_filter_wants() {
        let host = TestStore::new();
        let audit = &host.store.audit;
        for number in 1..=6 {
            let mut action = action(&format!("key k_{number}"));
            action.action = if number % 2 == 0 { "key.revoke" } else { "user.create" };
            action.actor.user = if number > 3 { "bob" } else { "ada" }.to_owned();
            host.wait(audit.note(action, Outcome::Done)).unwrap();
        }
        let at = page(&host, all())[1].at;
        let of = |filter| numbers(&page(&host, filter));
        assert_eq!(of(AuditFilter { limit: 2, ..all() }), [6, 5]);
        assert_eq!(of(AuditFilter { before: Some(5), limit: 2, ..all() }), [4, 3]);
        assert_eq!(of(AuditFilter { before: Some(1), ..all() }), [0; 0]);
        assert_eq!(
            of(AuditFilter { before: Some(u64::MAX), limit: usize::MAX, ..all() }),
            [6, 5, 4, 3, 2, 1]
        );
        assert_eq!(of(AuditFilter { action: Some("key.".into()), ..all() }), [6, 4, 2]);
        assert_eq!(of(AuditFilter { action: Some("ey.".into()), ..all() }), [0; 0]);
        assert_eq!(of(AuditFilter { action: Some("%".into()), ..all() }), [0; 0]);
        assert_eq!(of(AuditFilter { actor: Some("ada".into()), ..all() }), [3, 2, 1]);
        assert_eq!(of(AuditFilter { actor: Some("' OR 1 --".into()), ..all() }), [0; 0]);
        assert_eq!(of(AuditFilter { since: Some(at), ..all() }), [6, 5]);
    }

    #[test]
    fn odd_texts_come_out_as_they_went_in() {
        let host = TestStore::new();
        let long = "x".repeat(64 * 1024);
        let texts = ["", "'; DROP TABLE audit; --", "a\0b", "\"\\\n\r\t\u{1b}[2J", "ä€😀\u{202e}", &long];
        for text in texts {
            let mut action = action(text);
            action.actor.user = text.to_owned();
            action.actor.key_id = Some(text.to_owned());
            action.request_id = Some(text.to_owned());
            action.detail = json!({ text: [text, 1.5, null, u64::MAX] });
            let expected = action.clone();
            host.wait(host.store.audit.note(action, Outcome::Done)).unwrap();
            let row =
                page(&host, AuditFilter { limit: 1, actor: Some(text.to_owned()), ..all() }).remove(0);
            assert_eq!((row.user, row.target, row.detail), (text.into(), text.into(), expected.detail));
            assert_eq!((row.key_id, row.request_id), (expected.actor.key_id, expected.request_id));
        }
        let intent = host.wait(host.store.audit.intend(action("a\0b"))).unwrap();
        host.wait(intent.failed("a\0b")).unwrap();
        let rows = page(&host, AuditFilter { limit: 1, ..all() });
        assert_eq!((rows[0].target.as_str(), rows[0].detail["reason"].as_str()), ("a\0b", Some("a\0b")));
        assert!(verify(host.directory.path()).findings.is_empty());
    }

    #[test]
    fn an_export_has_every_row_in_order_and_is_whole_or_not_there() {
        let host = TestStore::new();
        host.note(5);
        let file = AuditFile::open(host.directory.path()).unwrap();
        let mut lines = Vec::new();
        let count = file
            .export(None, |line| {
                lines.push(serde_json::from_str::<Value>(line).unwrap());
                Ok::<_, StoreError>(())
            })
            .unwrap();
        let mut rows = page(&host, all());
        rows.reverse();
        assert_eq!((count, json!(lines)), (5, json!(rows)));

        let target = host.directory.path().join("export.jsonl");
        let since = Some(rows[2].at);
        assert_eq!(file.export_to_file(since, &target).unwrap(), 3);
        assert_eq!(std::fs::read_to_string(&target).unwrap().lines().count(), 3);
        let mode = std::os::unix::fs::PermissionsExt::mode(&target.metadata().unwrap().permissions());
        assert_eq!(mode & 0o7777, 0o600);

        // A row that cannot be read breaks the export off, and the old file stays.
        host.tamper("UPDATE audit SET at = 9223372036854775807 WHERE seq = 4");
        let file = AuditFile::open(host.directory.path()).unwrap();
        file.export_to_file(None, &target).unwrap_err();
        assert_eq!(std::fs::read_to_string(&target).unwrap().lines().count(), 3);
        let link = host.directory.path().join("link");
        std::os::unix::fs::symlink(&target, &link).unwrap();
        let error = file.export_to_file(None, &link).unwrap_err().to_string();
        assert!(error.ends_with("it is there and no ordinary file; choose another name"), "{error}");
    }

    /// Set in a child process of the test below: where its data directory is.
    const CHILD: &str = "BKG_TEST_AUDIT_DIR";

    #[test]
    fn a_killed_host_leaves_a_log_that_verifies() {
        if let Some(data_dir) = std::env::var_os(CHILD) {
            write_until_killed(Path::new(&data_dir));
        }
        let directory = Arc::new(tempfile::tempdir().unwrap());
        let (mut intended, mut done) = (HashSet::new(), HashSet::new());
        for round in 0..5 {
            let (mut child, mut lines) = to_be_killed(
                "store::audit::tests::a_killed_host_leaves_a_log_that_verifies",
                CHILD,
                directory.path(),
            );
            let mut take = |line: String| match line.split_once(' ') {
                Some(("acknowledged-intended", id)) => intended.insert(id.to_owned()),
                Some(("acknowledged-done", id)) => done.insert(id.to_owned()),
                _ => false,
            };
            let mut wanted = 20 + round * 17;
            while wanted > 0 {
                let line = lines.next().expect("the child writes until it is killed").unwrap();
                wanted -= usize::from(take(line));
            }
            child.kill().unwrap();
            child.wait().unwrap();
            // What it had said before it died; the last line may be half a line.
            let mut rest: Vec<String> = lines.map_while(Result::ok).collect();
            rest.pop();
            for line in rest {
                take(line);
            }
        }
        let host = TestStore::open(&directory).unwrap();
        let verification = verify(directory.path());
        assert_eq!(verification.findings, []);
        let open: HashSet<String> = host
            .wait(host.store.audit.open_intents())
            .unwrap()
            .into_iter()
            .map(|open| open.id.to_string())
            .collect();
        assert_eq!(open.len() as u64, verification.open);
        assert!(open.is_disjoint(&done), "what was acknowledged as done is done");
        let mut written = HashSet::new();
        let export = AuditFile::open(directory.path()).unwrap();
        export
            .export(None, |line| {
                let row: Value = serde_json::from_str(line).unwrap();
                written.insert((row["intent"].as_str().unwrap().to_owned(), row["kind"] == "done"));
                Ok::<_, StoreError>(())
            })
            .unwrap();
        assert!(intended.iter().all(|id| written.contains(&(id.clone(), false))));
        assert!(done.iter().all(|id| written.contains(&(id.clone(), true))));
    }

    fn write_until_killed(data_dir: &Path) -> ! {
        let data = super::super::DataDir::open(data_dir).unwrap();
        let store = super::super::Store::open(&data).unwrap();
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).build().unwrap();
        runtime.block_on(async {
            for _ in 0..4 {
                let audit = store.audit.clone();
                tokio::spawn(async move {
                    loop {
                        let intent = audit.intend(action("key k_1")).await.unwrap();
                        let id = intent.id();
                        println!("acknowledged-intended {id}");
                        intent.done(Value::Null).await.unwrap();
                        println!("acknowledged-done {id}");
                    }
                });
            }
            std::future::pending::<()>().await;
        });
        unreachable!("the process is killed")
    }
}
