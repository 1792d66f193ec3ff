//! What the plugin starts with, and what it refuses to start with.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use bkg_sqlite::rusqlite::Connection;
use bkg_sqlite::{Database, OpenError, Presence};
use tempfile::TempDir;

use crate::accounts::Accounts;
use crate::hmac_key::HmacKey;
use crate::opening::{DEFINITION, OpeningError};

/// A directory after a first start, with a user, closed in order.
fn used() -> TempDir {
    let directory = new();
    let accounts = Accounts::open(directory.path()).unwrap();
    let adding = accounts.database.write_blocking(|connection| {
        let sql = "INSERT INTO users VALUES ('U1', 'admin', '', 'admin', '', 0, 0, 0, NULL, '{}')";
        connection.execute(sql, [])?;
        Ok::<_, bkg_sqlite::DatabaseError>(())
    });
    adding.unwrap();
    accounts.close();
    directory
}

/// A directory after a first start, closed in order.
fn unused() -> TempDir {
    let directory = new();
    Accounts::open(directory.path()).unwrap().close();
    directory
}

fn new() -> TempDir {
    tempfile::tempdir().unwrap()
}

fn file(directory: &TempDir, name: &str) -> PathBuf {
    directory.path().join(name)
}

fn content(directory: &Path) -> BTreeMap<String, Vec<u8>> {
    let items = fs::read_dir(directory).unwrap().map(|item| item.unwrap());
    items.map(|item| (item.file_name().into_string().unwrap(), fs::read(item.path()).unwrap())).collect()
}

/// Why it refuses to start; what lies there is as it was.
fn refused(directory: &TempDir) -> OpeningError {
    let before = content(directory.path());
    let error = Accounts::open(directory.path()).expect_err("it refuses");
    let (mut before, mut after) = (before, content(directory.path()));
    // Whoever reads a database makes its shared memory, which holds nothing.
    for files in [&mut before, &mut after] {
        files.retain(|name, bytes| !(name.ends_with("-shm") || name.ends_with("-wal") && bytes.is_empty()));
    }
    assert!(before == after, "{:?} became {:?}", before.keys(), after.keys());
    error
}

fn opens(directory: &TempDir) {
    for _ in 0..2 {
        Accounts::open(directory.path()).unwrap().close();
        assert!(!file(directory, "hmac.key.new").exists());
        assert!(file(directory, "hmac.key").exists());
    }
}

#[test]
fn both_files_are_for_their_owner_alone() {
    let directory = unused();
    let mode = |name: &str| fs::metadata(file(&directory, name)).unwrap().permissions().mode() & 0o7777;
    assert_eq!((mode("hmac.key"), mode("apikeys.db")), (0o600, 0o600));
    fs::set_permissions(file(&directory, "hmac.key"), fs::Permissions::from_mode(0o644)).unwrap();
    opens(&directory);
    assert_eq!(mode("hmac.key"), 0o600);
}

#[test]
fn a_lost_database_is_no_first_start() {
    let directory = used();
    fs::remove_file(file(&directory, "apikeys.db")).unwrap();
    let error = refused(&directory);
    assert!(matches!(error, OpeningError::DatabaseLost { .. }), "{error}");
    assert_eq!(error.exit_code(), 78);
    let message = error.to_string();
    for way_out in ["backup", "remove `hmac.key`", "bkg plugin restart apikeys", "bkg user reset admin"] {
        assert!(message.contains(way_out), "{message}");
    }
    // Half of the way out is not a way out: what is left shows that there was a database.
    fs::remove_file(file(&directory, "hmac.key")).unwrap();
    assert!(matches!(refused_but_for_a_draft(&directory), OpeningError::DatabaseLost { .. }));
    fs::remove_file(file(&directory, "apikeys.db.seal")).unwrap();
    opens(&directory);
}

fn refused_but_for_a_draft(directory: &TempDir) -> OpeningError {
    let error = Accounts::open(directory.path()).expect_err("it refuses");
    assert!(!file(directory, "apikeys.db").exists() && !file(directory, "hmac.key").exists());
    error
}

#[test]
fn a_lost_secret_is_made_again_only_while_there_is_nobody() {
    let directory = unused();
    fs::remove_file(file(&directory, "hmac.key")).unwrap();
    opens(&directory);

    let directory = used();
    fs::remove_file(file(&directory, "hmac.key")).unwrap();
    let error = refused(&directory);
    assert!(matches!(error, OpeningError::KeyLost { .. }), "{error}");
    assert_eq!(error.exit_code(), 78);
}

#[test]
fn a_secret_that_is_not_the_databases_is_refused() {
    let directory = used();
    fs::write(file(&directory, "hmac.key"), HmacKey::make().unwrap().to_file()).unwrap();
    let error = refused(&directory);
    assert!(matches!(error, OpeningError::KeyOfAnother { .. }), "{error}");
    for damaged in ["", "x", "00"] {
        fs::write(file(&directory, "hmac.key"), damaged).unwrap();
        let error = refused(&directory);
        assert!(matches!(error, OpeningError::KeyDamaged { .. }), "{error}");
    }
}

#[test]
fn a_damaged_altered_foreign_or_newer_database_is_refused() {
    let path = |directory: &TempDir| file(directory, "apikeys.db");
    let truncated = used();
    let bytes = fs::read(path(&truncated)).unwrap();
    fs::write(path(&truncated), &bytes[..bytes.len() / 2]).unwrap();
    let empty = used();
    fs::write(path(&empty), "").unwrap();
    let flipped = used();
    let mut bytes = fs::read(path(&flipped)).unwrap();
    let last = bytes.len() - 1;
    bytes[last] ^= 1;
    fs::write(path(&flipped), bytes).unwrap();
    for directory in [truncated, empty, flipped] {
        let error = refused(&directory);
        assert!(matches!(error, OpeningError::Database(_)) && error.exit_code() == 78, "{error}");
        assert!(error.to_string().contains("apikeys.db"), "{error}");
    }

    let edited = |sql: &str| {
        let directory = used();
        let connection = Connection::open(path(&directory)).unwrap();
        connection.execute_batch(sql).unwrap();
        connection.close().unwrap();
        fs::remove_file(file(&directory, "apikeys.db.seal")).unwrap();
        refused(&directory)
    };
    let newer = edited("PRAGMA user_version = 99");
    assert!(matches!(newer, OpeningError::Database(OpenError::Newer { found: 99, .. })), "{newer}");
    let foreign = edited("PRAGMA application_id = 1");
    assert!(matches!(foreign, OpeningError::Database(OpenError::Foreign { .. })), "{foreign}");
}

#[test]
fn a_first_start_that_broke_off_anywhere_is_gone_through_again() {
    // The draft of the secret, not whole.
    let directory = new();
    fs::write(file(&directory, "hmac.key.new"), "00ff").unwrap();
    opens(&directory);

    // The draft, and no database yet.
    let directory = new();
    fs::write(file(&directory, "hmac.key.new"), HmacKey::make().unwrap().to_file()).unwrap();
    opens(&directory);

    // The draft, and a database that does not know it yet.
    let directory = new();
    fs::write(file(&directory, "hmac.key.new"), HmacKey::make().unwrap().to_file()).unwrap();
    let path = file(&directory, "apikeys.db");
    Database::open(&path, &DEFINITION, Presence::MayBeNew).unwrap().close().unwrap();
    opens(&directory);

    // All but the last step.
    let directory = unused();
    fs::rename(file(&directory, "hmac.key"), file(&directory, "hmac.key.new")).unwrap();
    let key = fs::read(file(&directory, "hmac.key.new")).unwrap();
    opens(&directory);
    assert_eq!(fs::read(file(&directory, "hmac.key")).unwrap(), key);
}

#[test]
fn a_directory_that_is_not_there_is_an_error_of_the_disk() {
    let directory = new();
    let error = Accounts::open(&directory.path().join("nowhere")).err().unwrap();
    assert_eq!(error.exit_code(), 71, "{error}");
}

#[test]
fn a_backup_that_was_made_while_it_ran_can_be_restored() {
    let directory = used();
    let (path, copy) = (file(&directory, "apikeys.db"), file(&directory, "copy.db"));
    let accounts = Accounts::open(directory.path()).unwrap();
    let connection = Connection::open(&path).unwrap();
    connection.execute("VACUUM INTO ?1", [copy.to_str().unwrap()]).unwrap();
    drop(connection);
    accounts.close();
    for companion in ["apikeys.db", "apikeys.db.seal"] {
        fs::remove_file(file(&directory, companion)).unwrap();
    }
    fs::rename(copy, path).unwrap();
    let accounts = Accounts::open(directory.path()).unwrap();
    let is_there = accounts.database.read_blocking(|connection| {
        Ok::<_, bkg_sqlite::DatabaseError>(crate::user::are_there_any(connection)?)
    });
    assert!(is_there.unwrap());
    accounts.close();
}

#[test]
fn limits_of_the_version_before_are_kept() {
    let directory = new();
    let first = bkg_sqlite::Definition { migrations: &DEFINITION.migrations[..1], ..DEFINITION };
    let database =
        Database::open(&directory.path().join("apikeys.db"), &first, Presence::MayBeNew).unwrap();
    let key = HmacKey::make().unwrap();
    let fingerprint = key.fingerprint();
    let filling = database.write_blocking(move |connection| {
        connection.execute("INSERT INTO hmac_key VALUES (1, ?1)", [fingerprint])?;
        connection.execute_batch(
            "INSERT INTO users VALUES ('U1', 'admin', '', 'admin', '', 0, 0, 0, NULL);
             INSERT INTO keys VALUES ('k1', 'U1', '', x'00', NULL, NULL, '[]', NULL, NULL, 5, NULL, 0, 'root', NULL,
               NULL, NULL);
             INSERT INTO keys VALUES ('k2', 'U1', '', x'00', NULL, NULL, '[]', NULL, NULL, NULL, NULL, 0, 'root', NULL,
               NULL, NULL);",
        )?;
        Ok::<_, bkg_sqlite::DatabaseError>(())
    });
    filling.unwrap();
    database.close().unwrap();
    fs::write(directory.path().join("hmac.key"), key.to_file()).unwrap();
    let accounts = Accounts::open(directory.path()).unwrap();
    let limits = accounts.database.read_blocking(|connection| {
        let mut select = connection.prepare("SELECT limits FROM keys ORDER BY id")?;
        let limits = select.query_map([], |row| row.get::<_, String>(0))?;
        Ok::<Vec<String>, bkg_sqlite::DatabaseError>(limits.collect::<Result<_, _>>()?)
    });
    assert_eq!(limits.unwrap(), [r#"{"requestsPerMinute":5}"#, "{}"]);
    accounts.close();
}
