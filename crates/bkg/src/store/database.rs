//! `DATA/bkg.db`: the host's own database, and what belongs together in it.
//!
//! Not how a database is kept safe, which `bkg-sqlite` knows, and not what is in its tables. The
//! invariant: a database or an audit key that was lost is never made anew, so that nobody opens the
//! first-run set-up by deleting a file. `app` opens it at start and closes it at stop; both block.

use std::path::{Path, PathBuf};

use bkg_sqlite::rusqlite::Connection;
use bkg_sqlite::{Condition, Database, DatabaseError, Definition, Presence};
use tokio::sync::watch;

use super::audit::{self, Audit, AuditKey};
use super::mirror::Mirror;
use super::revisions::Revisions;
use super::runs::Runs;
use super::settings::{self, Settings};
use super::usage::Usage;
use super::vault::{self, Vault};
use super::{DataDir, StoreError};

/// What the host itself keeps; cheap to clone.
#[derive(Debug, Clone)]
pub struct Store {
    /// Who did what.
    pub audit: Audit,
    /// What requests used.
    pub usage: Usage,
    /// The host's own facts.
    pub settings: Settings,
    /// What was saved of the entries of plugins.
    pub revisions: Revisions,
    /// What became of plugins.
    pub runs: Runs,
    /// What seals the secrets among it.
    pub vault: Vault,
    /// What is in effect, for people to read.
    pub mirror: Mirror,
    pub(super) database: Database,
    pub(super) key: AuditKey,
}

impl Store {
    /// Opens the database, making it and both keys if this is the first start. Blocks.
    ///
    /// # Errors
    /// Whatever was lost, damaged, or is another program's; it is refused, not repaired, and what is in it
    /// stays.
    pub fn open(data: &DataDir) -> Result<Self, StoreError> {
        let (data_dir, path) = (data.path(), path(data.path()));
        let key = AuditKey::read_own(data_dir)?;
        // The key is made after the database and kept with it, so it never stands alone.
        let presence = if key.is_some() { Presence::MustExist } else { Presence::MayBeNew };
        let database = Database::open(&path, &DEFINITION, presence)?;
        let opened = finish_opening(data_dir, &database, key)
            .and_then(|key| Ok((vault::open(data_dir, &database, &key)?, key)));
        match opened {
            Ok((vault, key)) => Ok(Self {
                audit: Audit::new(database.clone(), key.clone()),
                usage: Usage::new(database.clone()),
                settings: Settings::new(database.clone(), key.clone()),
                revisions: Revisions::new(database.clone(), key.clone()),
                runs: Runs::new(database.clone()),
                vault,
                mirror: Mirror::new(data_dir, database.clone()),
                database,
                key,
            }),
            Err(error) => {
                // The refusal is what counts.
                let _ = database.close();
                Err(error)
            }
        }
    }

    /// Whether changes can be written, and a waker for when that changes.
    pub fn condition(&self) -> watch::Receiver<Condition> {
        self.database.follow_condition()
    }

    /// Writes what is on its way and closes the database. Blocks. What comes later is refused.
    ///
    /// # Errors
    /// The database's; what was acknowledged is on the disk all the same.
    pub fn close(&self) -> Result<(), StoreError> {
        let flushed = self.usage.flush();
        self.database.close()?;
        match flushed {
            // It was closed before.
            Err(StoreError::Database(DatabaseError::Closed)) => Ok(()),
            flushed => flushed,
        }
    }
}

/// What the database is. The schema versions are never edited once released.
pub(super) const DEFINITION: Definition = Definition {
    what: "the host's database",
    // `bkgh` in ASCII.
    application_id: 0x626b_6768,
    migrations: &[
        include_str!("migrations/0001.sql"),
        include_str!("migrations/0002.sql"),
        include_str!("migrations/0003.sql"),
        include_str!("migrations/0004.sql"),
    ],
};

/// Where the database of a data directory is.
pub(super) fn path(data_dir: &Path) -> PathBuf {
    data_dir.join("bkg.db")
}

/// Answers the key that the audit log goes on with.
fn finish_opening(
    data_dir: &Path,
    database: &Database,
    key: Option<AuditKey>,
) -> Result<AuditKey, StoreError> {
    if let Some(key) = key {
        let checked = key.clone();
        database.read_blocking(move |connection| audit::check_end(connection, &checked))?;
        return Ok(key);
    }
    let is_in_use = |connection: &Connection| {
        Ok::<_, StoreError>(audit::has_begun(connection)? || settings::has_any(connection)?)
    };
    if database.read_blocking(is_in_use)? {
        return Err(StoreError::AuditKeyLost { path: AuditKey::path(data_dir) });
    }
    let key = AuditKey::random();
    let first = key.clone();
    // The head comes before the key's file: a key without a head is a head that somebody removed.
    database.write_blocking(move |connection| Ok::<_, StoreError>(audit::begin(connection, &first)?))?;
    key.save(data_dir)?;
    tracing::info!(path = %AuditKey::path(data_dir).display(), "audit log begun");
    Ok(key)
}

#[cfg(test)]
pub(crate) mod tests {
    use std::fs;
    use std::io::{BufRead, BufReader, Lines};
    use std::process::{Child, ChildStdout, Command, Stdio};
    use std::sync::Arc;

    use serde_json::json;

    use super::super::{Action, Actor, AuditFile, Outcome};
    use super::*;

    /// A data directory with its store, and a runtime to ask it in.
    pub(in crate::store) struct TestStore {
        runtime: tokio::runtime::Runtime,
        pub(in crate::store) store: Store,
        // Before the directory, which it locks.
        _data: DataDir,
        pub(in crate::store) directory: Arc<tempfile::TempDir>,
    }

    impl TestStore {
        pub(in crate::store) fn new() -> Self {
            Self::open(&Arc::new(tempfile::tempdir().unwrap())).unwrap()
        }

        pub(in crate::store) fn open(directory: &Arc<tempfile::TempDir>) -> Result<Self, StoreError> {
            let data = DataDir::open(directory.path())?;
            let store = Store::open(&data)?;
            let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).build().unwrap();
            Ok(Self { runtime, store, _data: data, directory: Arc::clone(directory) })
        }

        pub(in crate::store) fn wait<T>(&self, future: impl Future<Output = T>) -> T {
            self.runtime.block_on(future)
        }

        /// Closes the store, and answers its directory.
        pub(in crate::store) fn close(self) -> Arc<tempfile::TempDir> {
            self.store.close().unwrap();
            self.directory
        }

        /// Does to the database what another program might.
        pub(in crate::store) fn tamper(&self, sql: &str) {
            tamper(self.directory.path(), sql);
        }

        /// Writes entries about `key k_1` and so on.
        pub(in crate::store) fn note(&self, count: usize) {
            for number in 1..=count {
                let action = action(&format!("key k_{number}"));
                self.wait(self.store.audit.note(action, Outcome::Done)).unwrap();
            }
        }
    }

    /// Runs a test once more in a process of its own, which finds the data directory in `variable` and is
    /// to be killed. Answers what it prints, too.
    pub(in crate::store) fn to_be_killed(
        test: &str,
        variable: &str,
        data_dir: &Path,
    ) -> (Child, Lines<BufReader<ChildStdout>>) {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", test, "--nocapture"])
            .env(variable, data_dir)
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        (child, lines)
    }

    /// Does to the database of a data directory what another program might.
    pub(crate) fn tamper(data_dir: &Path, sql: &str) {
        Connection::open(path(data_dir)).unwrap().execute_batch(sql).unwrap();
    }

    pub(in crate::store) fn action(target: &str) -> Action {
        Action {
            actor: Actor {
                user: "ada".to_owned(),
                key_id: Some("k_7".to_owned()),
                session_id: None,
                address: Some("127.0.0.1".parse().unwrap()),
            },
            action: "key.create",
            target: target.to_owned(),
            detail: json!({ "scopes": ["llm.chat"] }),
            request_id: Some("0199".to_owned()),
        }
    }

    /// What a host that refuses to start must leave as it is.
    fn kept(data_dir: &Path) -> [Option<Vec<u8>>; 2] {
        ["bkg.db", "audit.key"].map(|name| fs::read(data_dir.join(name)).ok())
    }

    /// A directory with three entries, after a clean stop.
    fn stopped() -> Arc<tempfile::TempDir> {
        let host = TestStore::new();
        host.note(3);
        host.close()
    }

    /// The host refuses this directory with exit code 6, and leaves it as it is.
    fn check_refused(directory: &Arc<tempfile::TempDir>) -> StoreError {
        let before = kept(directory.path());
        let error = TestStore::open(directory).err().expect("the host refuses to start");
        assert!(error.is_about_damage(), "{error}");
        assert!(kept(directory.path()) == before, "{error}");
        error
    }

    #[test]
    fn a_data_directory_without_a_database_gets_one_and_a_key() {
        let directory = Arc::new(tempfile::tempdir().unwrap());
        // The root key of an earlier version.
        drop(DataDir::open(directory.path()).unwrap());
        let host = TestStore::open(&directory).unwrap();
        assert!(!host.wait(host.store.settings.is_auth_initialised()).unwrap());
        host.close();
        for file in ["bkg.db", "audit.key"] {
            let mode = std::os::unix::fs::PermissionsExt::mode(
                &fs::metadata(directory.path().join(file)).unwrap().permissions(),
            );
            assert_eq!(mode & 0o7777, 0o600, "{file}");
        }
    }

    #[test]
    fn a_start_that_was_killed_between_database_and_key_is_finished() {
        let directory = TestStore::new().close();
        fs::remove_file(directory.path().join("audit.key")).unwrap();
        let host = TestStore::open(&directory).unwrap();
        host.note(2);
        host.close();
        let verification = AuditFile::open(directory.path()).unwrap().verify().unwrap();
        assert_eq!((verification.entries, verification.findings), (2, vec![]));
    }

    #[test]
    fn what_was_written_is_there_after_a_restart() {
        let directory = stopped();
        let host = TestStore::open(&directory).unwrap();
        host.wait(host.store.settings.set_auth_initialised(action("user admin"))).unwrap();
        host.wait(host.store.settings.set_auth_initialised(action("user admin"))).unwrap();
        host.close();
        let host = TestStore::open(&directory).unwrap();
        assert!(host.wait(host.store.settings.is_auth_initialised()).unwrap());
        let verification = AuditFile::open(directory.path()).unwrap().verify().unwrap();
        assert_eq!((verification.entries, verification.findings), (4, vec![]));
    }

    #[test]
    fn a_lost_database_never_begins_anew() {
        let directory = stopped();
        for file in ["bkg.db", "bkg.db-wal", "bkg.db-shm", "bkg.db.seal"] {
            let _ = fs::remove_file(directory.path().join(file));
        }
        let error = check_refused(&directory);
        assert!(error.to_string().contains("backup"), "{error}");
    }

    #[test]
    fn a_lost_key_never_begins_anew() {
        let path = |directory: &tempfile::TempDir| directory.path().join("audit.key");
        let directory = stopped();
        fs::remove_file(path(&directory)).unwrap();
        let error = check_refused(&directory);
        assert!(matches!(error, StoreError::AuditKeyLost { .. }), "{error}");
        // Not even if somebody removed all entries first.
        tamper(directory.path(), "DELETE FROM audit");
        let _ = fs::remove_file(directory.path().join("bkg.db.seal"));
        check_refused(&directory);

        let host = TestStore::new();
        host.wait(host.store.settings.set_auth_initialised(action("user admin"))).unwrap();
        let directory = host.close();
        fs::remove_file(path(&directory)).unwrap();
        tamper(directory.path(), "DELETE FROM audit; DELETE FROM audit_head");
        let _ = fs::remove_file(directory.path().join("bkg.db.seal"));
        let error = check_refused(&directory);
        assert!(matches!(error, StoreError::AuditKeyLost { .. }), "{error}");
    }

    #[test]
    fn another_key_or_none_that_can_be_read_is_refused() {
        let directory = stopped();
        AuditKey::random().save(directory.path()).unwrap();
        let error = check_refused(&directory);
        assert!(matches!(error, StoreError::AuditKeyWrong { .. }), "{error}");
        fs::write(directory.path().join("audit.key"), "").unwrap();
        let error = check_refused(&directory);
        assert!(matches!(error, StoreError::AuditKeyDamaged { .. }), "{error}");
    }

    #[test]
    fn a_head_that_somebody_changed_is_not_written_anew() {
        for sql in [
            "UPDATE audit_head SET seq = 2",
            "UPDATE audit_head SET mac = zeroblob(32)",
            "DELETE FROM audit_head",
            "DELETE FROM audit_head; DELETE FROM audit",
        ] {
            let directory = stopped();
            tamper(directory.path(), sql);
            let _ = fs::remove_file(directory.path().join("bkg.db.seal"));
            let error = check_refused(&directory);
            assert!(matches!(error, StoreError::AuditBroken { .. }), "{sql}: {error}");
        }
        let host = TestStore::new();
        host.tamper("UPDATE audit_head SET seq = 2");
        let written = host.wait(host.store.audit.note(action("key k_1"), Outcome::Done));
        assert!(matches!(written, Err(StoreError::AuditBroken { .. })), "{written:?}");
    }

    #[test]
    fn a_damaged_database_is_refused() {
        let whole = stopped();
        let original = fs::read(path(whole.path())).unwrap();
        let middle = original.len() / 2;
        let flipped = |at: usize| {
            let mut bytes = original.clone();
            bytes[at] ^= 0x20;
            bytes
        };
        for damaged in [
            Vec::new(),
            original[..middle].to_vec(),
            original[..original.len() - 1].to_vec(),
            flipped(0),
            flipped(30),
            flipped(middle),
            flipped(original.len() - 20),
            b"not a database".to_vec(),
        ] {
            let directory = stopped();
            fs::write(path(directory.path()), damaged).unwrap();
            check_refused(&directory);
        }
    }

    #[test]
    fn a_newer_or_foreign_database_is_refused() {
        for (sql, is_expected) in [
            (
                "PRAGMA user_version = 99",
                (|error| matches!(error, bkg_sqlite::OpenError::Newer { .. })) as fn(&_) -> bool,
            ),
            ("PRAGMA application_id = 7", |error| matches!(error, bkg_sqlite::OpenError::Foreign { .. })),
        ] {
            let directory = stopped();
            tamper(directory.path(), sql);
            let _ = fs::remove_file(directory.path().join("bkg.db.seal"));
            let error = check_refused(&directory);
            assert!(matches!(&error, StoreError::Open(error) if is_expected(error)), "{error}");
        }
    }

    #[test]
    fn closing_twice_is_no_error_and_later_writes_are_refused() {
        let host = TestStore::new();
        host.store.close().unwrap();
        host.store.close().unwrap();
        let written = host.wait(host.store.audit.note(action("key k_1"), Outcome::Done));
        assert!(matches!(written, Err(StoreError::Database(DatabaseError::Closed))), "{written:?}");
    }

    /// A directory as the first version of the database left it, with `count` entries in its audit log.
    fn of_version_1(count: usize) -> Arc<tempfile::TempDir> {
        let directory = Arc::new(tempfile::tempdir().unwrap());
        let first = Definition { migrations: &DEFINITION.migrations[..1], ..DEFINITION };
        let database = Database::open(&path(directory.path()), &first, Presence::MayBeNew).unwrap();
        let key = AuditKey::random();
        let kept = key.clone();
        database
            .write_blocking(move |connection| {
                audit::begin(connection, &kept)?;
                for number in 1..=count {
                    audit::record(connection, &kept, &action(&format!("key k_{number}")), Outcome::Done)?;
                }
                connection.execute_batch(
                    "INSERT INTO settings VALUES ('auth_initialised', 'true');
                     INSERT INTO usage (at, request_id, user, capability, total_ms, streamed, outcome, status)
                       VALUES (1, 'r_1', 'ada', 'llm.chat', 1, 0, 'ok', 200);",
                )?;
                Ok::<_, StoreError>(())
            })
            .unwrap();
        key.save(directory.path()).unwrap();
        database.close().unwrap();
        directory
    }

    #[test]
    fn a_database_of_the_first_version_keeps_its_rows_and_a_backup() {
        let directory = of_version_1(3);
        let host = TestStore::open(&directory).unwrap();
        assert!(host.wait(host.store.settings.is_auth_initialised()).unwrap());
        let all = super::super::UsageFilter::newest(10);
        assert_eq!(host.wait(host.store.usage.page(all)).unwrap()[0].request_id, "r_1");
        assert!(host.wait(host.store.revisions.all_current()).unwrap().is_empty());
        host.note(1);
        host.close();
        let verification = AuditFile::open(directory.path()).unwrap().verify().unwrap();
        assert_eq!((verification.entries, verification.findings), (4, vec![]));

        // The copy is of the first version, and opens again, with the keys of now.
        let backup = directory.path().join(format!("bkg.db.before-{}", DEFINITION.migrations.len()));
        fs::copy(&backup, path(directory.path())).unwrap();
        fs::remove_file(directory.path().join("bkg.db.seal")).unwrap();
        let version = |path: &Path| -> i64 {
            let connection = Connection::open(path).unwrap();
            connection.query_row("PRAGMA user_version", [], |row| row.get(0)).unwrap()
        };
        assert_eq!(version(&path(directory.path())), 1);
        TestStore::open(&directory).unwrap().close();
        assert_eq!(version(&path(directory.path())), DEFINITION.migrations.len() as i64);
    }

    #[test]
    fn what_was_used_before_there_were_sums_is_in_them() {
        let directory = of_version_1(1);
        let third = Definition { migrations: &DEFINITION.migrations[..3], ..DEFINITION };
        let database = Database::open(&path(directory.path()), &third, Presence::MustExist).unwrap();
        database
            .write_blocking(|connection| {
                connection.execute_batch(
                    "INSERT INTO usage (at, request_id, user, key_id, plugin, capability, model, prompt_tokens,
                       completion_tokens, total_ms, streamed, outcome, status)
                       VALUES (7200000001, 'r_2', 'ada', 'k', 'p', 'llm.chat', 'm', 3, 4, 1, 0, 'ok', 200),
                              (7200000002, 'r_3', 'ada', 'k', 'p', 'llm.chat', 'm', 9223372036854775807, 1, 1, 0,
                               'timeout', 504);",
                )?;
                Ok::<_, StoreError>(())
            })
            .unwrap();
        database.close().unwrap();
        let host = TestStore::open(&directory).unwrap();
        let question = super::super::UsageQuestion {
            by: super::super::UsageGroup::Hour,
            from: jiff::Timestamp::UNIX_EPOCH,
            to: jiff::Timestamp::MAX,
            user: None,
            key_id: None,
            offset: 0,
            limit: 10,
        };
        let sums = host.wait(host.store.usage.sums(question)).unwrap();
        let told: Vec<_> = sums
            .groups
            .iter()
            .map(|group| (group.sum.requests, group.sum.failed, group.sum.prompt_tokens))
            .collect();
        assert_eq!(told, [(2, 1, 1_000_000_000_003), (1, 0, 0)]);
        let rows = host.wait(host.store.usage.page(super::super::UsageFilter::newest(10))).unwrap();
        assert_eq!(
            (rows.len(), rows[1].prompt_tokens, rows[1].cost, rows[1].estimated),
            (3, Some(3), None, false)
        );
        host.close();
    }

    #[test]
    fn a_migrated_database_is_like_a_new_one() {
        let schema = |directory: &tempfile::TempDir| -> Vec<(String, String)> {
            let connection = Connection::open(path(directory.path())).unwrap();
            let mut select = connection
                .prepare("SELECT name, sql FROM sqlite_schema WHERE sql IS NOT NULL ORDER BY name")
                .unwrap();
            select
                .query_map([], |row| Ok((row.get(0)?, row.get(1)?)))
                .unwrap()
                .map(Result::unwrap)
                .collect()
        };
        let directory = of_version_1(0);
        TestStore::open(&directory).unwrap().close();
        assert_eq!(schema(&directory), schema(&TestStore::new().close()));
    }
}
