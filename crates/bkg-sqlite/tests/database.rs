//! What a database promises, with real files and real processes.

#![allow(clippy::unwrap_used, reason = "a test fails where its arrangement does")]

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use bkg_sqlite::{Database, DatabaseError, Definition, OpenError, Presence, open_read_only};

static NUMBERS: Definition = Definition {
    what: "the numbers",
    application_id: 0x6e75_6d62,
    migrations: &["CREATE TABLE number (value INTEGER PRIMARY KEY) STRICT"],
};

static NUMBERS_WITH_NAMES: Definition = Definition {
    what: "the numbers",
    application_id: 0x6e75_6d62,
    migrations: &[
        "CREATE TABLE number (value INTEGER PRIMARY KEY) STRICT",
        "ALTER TABLE number ADD COLUMN name TEXT",
    ],
};

struct Place {
    _directory: tempfile::TempDir,
    path: PathBuf,
}

impl Place {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("numbers.db");
        Self { _directory: directory, path }
    }

    fn open(&self) -> Database {
        Database::open(&self.path, &NUMBERS, Presence::MayBeNew).unwrap()
    }

    fn refusal(&self) -> OpenError {
        Database::open(&self.path, &NUMBERS, Presence::MayBeNew).unwrap_err()
    }

    /// A database with some numbers that was closed in order.
    fn closed(&self) -> Vec<u8> {
        let database = self.open();
        for value in 0..200 {
            add_blocking(&database, value).unwrap();
        }
        database.close().unwrap();
        fs::read(&self.path).unwrap()
    }

    fn beside(&self, suffix: &str) -> PathBuf {
        PathBuf::from(format!("{}{suffix}", self.path.display()))
    }
}

async fn add(database: &Database, value: i64) -> Result<(), DatabaseError> {
    database
        .write(move |connection| {
            connection.execute("INSERT INTO number (value) VALUES (?1)", [value])?;
            Ok(())
        })
        .await
}

fn add_blocking(database: &Database, value: i64) -> Result<(), DatabaseError> {
    database.write_blocking(move |connection| {
        connection.execute("INSERT INTO number (value) VALUES (?1)", [value])?;
        Ok(())
    })
}

fn values(path: &Path) -> Vec<i64> {
    let connection = open_read_only(path, &NUMBERS).unwrap();
    let mut statement = connection.prepare("SELECT value FROM number ORDER BY value").unwrap();
    statement.query_map([], |row| row.get(0)).unwrap().map(Result::unwrap).collect()
}

#[tokio::test]
async fn a_read_sees_what_was_acknowledged_and_one_state() {
    let place = Place::new();
    let database = place.open();
    add(&database, 1).await.unwrap();
    let (first, second) = database
        .read(|connection| {
            let count =
                || connection.query_row("SELECT count(*) FROM number", [], |row| row.get::<_, i64>(0));
            let first = count()?;
            // Another connection commits meanwhile.
            let other = rusqlite::Connection::open(connection.path().unwrap())?;
            other.execute("INSERT INTO number (value) VALUES (2)", [])?;
            Ok::<_, DatabaseError>((first, count()?))
        })
        .await
        .unwrap();
    assert_eq!((first, second), (1, 1));
    assert_eq!(values(&place.path), [1, 2]);
}

#[tokio::test]
async fn a_job_that_fails_or_panics_takes_nothing_but_itself_with_it() {
    let place = Place::new();
    let database = place.open();
    let failing = database.write(|connection| {
        connection.execute("INSERT INTO number (value) VALUES (10)", [])?;
        Err::<(), _>(DatabaseError::Full)
    });
    let panicking = database.write(|connection| {
        connection.execute("INSERT INTO number (value) VALUES (11)", [])?;
        if connection.is_autocommit() { Ok::<_, DatabaseError>(()) } else { panic!("on purpose") }
    });
    let (failed, panicked, one, two) =
        tokio::join!(failing, panicking, add(&database, 1), add(&database, 2));
    assert!(matches!(failed, Err(DatabaseError::Full)));
    assert!(matches!(panicked, Err(DatabaseError::Lost)));
    one.unwrap();
    two.unwrap();
    assert!(add(&database, 1).await.is_err(), "it is there already");
    assert_eq!(values(&place.path), [1, 2]);
}

#[tokio::test]
async fn writes_that_wait_together_are_committed_together() {
    let place = Place::new();
    let database = place.open();
    let writes = (0..500).map(|value| {
        let database = database.clone();
        tokio::spawn(async move { add(&database, value).await })
    });
    for write in writes.collect::<Vec<_>>() {
        write.await.unwrap().unwrap();
    }
    assert!(database.commits() < 100, "{} commits for 500 writes", database.commits());
    assert_eq!(values(&place.path).len(), 500);
}

#[tokio::test]
async fn a_commit_that_fails_acknowledges_nothing() {
    let place = Place::new();
    let database = place.open();
    database
        .write(|connection| {
            connection.execute_batch(
                "CREATE TABLE child (parent INTEGER REFERENCES number DEFERRABLE INITIALLY DEFERRED) STRICT",
            )?;
            Ok::<_, DatabaseError>(())
        })
        .await
        .unwrap();
    // What it breaks is looked at when everything is committed.
    let orphan = database.write(|connection| {
        connection.execute("INSERT INTO child (parent) VALUES (999)", [])?;
        Ok::<_, DatabaseError>(())
    });
    let (orphan, one, two) = tokio::join!(orphan, add(&database, 1), add(&database, 2));
    assert!(orphan.is_err());
    // Which of the others shared its transaction is a matter of time; what was answered is true.
    let acknowledged: Vec<i64> = [(1, one), (2, two)]
        .into_iter()
        .filter(|(_, outcome)| outcome.is_ok())
        .map(|(value, _)| value)
        .collect();
    assert_eq!(values(&place.path), acknowledged);
    add(&database, 3).await.unwrap();
}

#[tokio::test]
async fn a_full_disk_is_told_as_such_and_heals() {
    let place = Place::new();
    let database = place.open();
    let set_pages = |pages: i64| {
        database.write(move |connection| {
            connection.query_row(&format!("PRAGMA max_page_count = {pages}"), [], |_| Ok(()))?;
            Ok::<_, DatabaseError>(())
        })
    };
    set_pages(1).await.unwrap();
    let fill = |text: usize| {
        database.write(move |connection| {
            connection.execute_batch("CREATE TABLE IF NOT EXISTS filler (text TEXT)")?;
            connection.execute("INSERT INTO filler VALUES (?1)", ["x".repeat(text)])?;
            Ok::<_, DatabaseError>(())
        })
    };
    assert!(matches!(fill(100_000).await, Err(DatabaseError::Full)));
    set_pages(1_000_000).await.unwrap();
    fill(100_000).await.unwrap();
}

#[test]
fn what_nobody_waits_for_is_written_with_the_next_commit_or_at_the_end() {
    let place = Place::new();
    let database = place.open();
    let post = |value: i64| {
        database.post(move |connection| {
            connection.execute("INSERT INTO number (value) VALUES (?1)", [value]).map(|_| ())
        })
    };
    assert!(post(1));
    add_blocking(&database, 2).unwrap();
    assert_eq!(values(&place.path), [1, 2]);
    assert!(post(3));
    database.close().unwrap();
    assert_eq!(values(&place.path), [1, 2, 3]);
    assert!(!post(4), "it is closed");
    assert!(matches!(add_blocking(&database, 5), Err(DatabaseError::Closed)));
    database.close().unwrap();
}

#[test]
fn a_closed_database_is_one_sealed_file_and_an_open_one_has_no_seal() {
    use std::os::unix::fs::PermissionsExt;
    let place = Place::new();
    place.closed();
    for file in [place.path.clone(), place.beside(".seal")] {
        assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600, "{}", file.display());
    }
    assert!(!place.beside("-wal").exists());
    let database = place.open();
    assert!(!place.beside(".seal").exists());
    drop(database);
}

#[test]
fn any_byte_that_changed_after_a_clean_stop_is_noticed_and_nothing_is_touched() {
    let place = Place::new();
    let whole = place.closed();
    let seal = fs::read(place.beside(".seal")).unwrap();
    for position in (0..whole.len()).step_by(97) {
        let mut changed = whole.clone();
        changed[position] ^= 0x20;
        fs::write(&place.path, &changed).unwrap();
        assert!(matches!(place.refusal(), OpenError::Altered { .. }), "byte {position}");
        assert_eq!(fs::read(&place.path).unwrap(), changed);
    }
    for length in (512..whole.len()).step_by(512) {
        fs::write(&place.path, &whole[..length]).unwrap();
        assert!(matches!(place.refusal(), OpenError::Altered { .. }), "{length} bytes");
    }
    assert_eq!(fs::read(place.beside(".seal")).unwrap(), seal);
    fs::write(&place.path, &whole).unwrap();
    place.open();
}

#[test]
fn a_log_that_was_put_beside_a_sealed_database_is_noticed() {
    let place = Place::new();
    // A log that holds more than the database does, as a copy of one that was in use.
    let other = Place::new();
    let database = other.open();
    for value in 0..300 {
        add_blocking(&database, value).unwrap();
    }
    let log = fs::read(other.beside("-wal")).unwrap();
    place.closed();
    fs::write(place.beside("-wal"), log).unwrap();
    assert!(matches!(place.refusal(), OpenError::Altered { .. }));
}

#[test]
fn without_a_seal_what_sqlite_can_see_is_noticed() {
    let place = Place::new();
    let whole = place.closed();
    fs::remove_file(place.beside(".seal")).unwrap();
    let damages: [(&str, Vec<u8>); 5] = [
        ("empty", Vec::new()),
        (
            "no database",
            b"not a database, but some text that is longer than a header is at its shortest, and longer"
                .to_vec(),
        ),
        ("half", whole[..whole.len() / 2].to_vec()),
        ("magic", [&b"XQLite"[..], &whole[6..]].concat()),
        ("page", {
            let mut bytes = whole.clone();
            let page = bytes.len() - 4096;
            bytes[page..page + 8].fill(0xff);
            bytes
        }),
    ];
    for (what, bytes) in damages {
        fs::write(&place.path, &bytes).unwrap();
        let refusal = place.refusal();
        assert!(matches!(refusal, OpenError::Damaged { .. }), "{what}: {refusal}");
        assert_eq!(fs::read(&place.path).unwrap(), bytes, "{what}");
    }
}

#[test]
fn a_database_that_is_lost_newer_or_somebody_elses_is_refused() {
    let place = Place::new();
    let missing = Database::open(&place.path, &NUMBERS, Presence::MustExist).unwrap_err();
    assert!(matches!(missing, OpenError::Missing { .. }), "{missing}");
    place.closed();
    fs::remove_file(&place.path).unwrap();
    assert!(matches!(place.refusal(), OpenError::Missing { .. }), "its seal shows that there was one");
    let other = Place::new();
    Database::open(&other.path, &NUMBERS_WITH_NAMES, Presence::MayBeNew).unwrap().close().unwrap();
    let bytes = fs::read(&other.path).unwrap();
    assert!(matches!(other.refusal(), OpenError::Newer { found: 2, known: 1, .. }));
    assert_eq!(fs::read(&other.path).unwrap(), bytes);
    static OTHERS: Definition = Definition { what: "others", application_id: 7, migrations: &[""] };
    let foreign = Database::open(&other.path, &OTHERS, Presence::MayBeNew).unwrap_err();
    assert!(matches!(foreign, OpenError::Foreign { .. }), "{foreign}");
    assert!(matches!(open_read_only(&other.path, &OTHERS), Err(OpenError::Foreign { .. })));
}

#[test]
fn a_migration_keeps_the_rows_and_leaves_a_backup() {
    let place = Place::new();
    place.closed();
    let database = Database::open(&place.path, &NUMBERS_WITH_NAMES, Presence::MayBeNew).unwrap();
    let named: i64 = database
        .read_blocking(|connection| {
            let count = "SELECT count(*) FROM number WHERE name IS NULL";
            connection.query_row(count, [], |row| row.get(0)).map_err(DatabaseError::from)
        })
        .unwrap();
    assert_eq!(named, 200);
    database.close().unwrap();
    assert_eq!(values(&place.beside(".before-2")).len(), 200);
}

#[test]
fn a_migration_that_fails_leaves_the_version_that_was() {
    static BROKEN: Definition = Definition {
        what: "the numbers",
        application_id: 0x6e75_6d62,
        migrations: &[
            "CREATE TABLE number (value INTEGER PRIMARY KEY) STRICT",
            "CREATE TABLE half (x); DELETE FROM number; SELECT no_such_function()",
        ],
    };
    let place = Place::new();
    place.closed();
    let error = Database::open(&place.path, &BROKEN, Presence::MayBeNew).unwrap_err();
    assert!(matches!(error, OpenError::Migration { version: 2, .. }), "{error}");
    assert_eq!(values(&place.path).len(), 200);
    place.open();
}

/// Not a test of its own: the process that the next test kills.
#[test]
fn a_process_that_writes_until_it_is_killed() {
    let Some(path) = std::env::var_os("BKG_SQLITE_VICTIM") else { return };
    let database = Database::open(path.as_ref(), &NUMBERS, Presence::MayBeNew).unwrap();
    let start = values(path.as_ref()).last().map_or(0, |last| last + 1);
    for value in start.. {
        add_blocking(&database, value).unwrap();
        let mut out = std::io::stdout().lock();
        writeln!(out, "acknowledged {value}").unwrap();
        out.flush().unwrap();
    }
}

#[test]
fn what_was_acknowledged_survives_a_kill() {
    let place = Place::new();
    let mut acknowledged = Vec::new();
    for round in 0..20 {
        let mut victim = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "a_process_that_writes_until_it_is_killed", "--nocapture"])
            .env("BKG_SQLITE_VICTIM", &place.path)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = BufReader::new(victim.stdout.take().unwrap()).lines();
        let mut numbers = lines
            .map_while(Result::ok)
            .filter_map(|line| line.split("acknowledged ").nth(1)?.trim().parse::<i64>().ok());
        acknowledged.extend(numbers.by_ref().take(1 + round % 7));
        victim.kill().unwrap();
        // Whatever it said before it died counts as well.
        acknowledged.extend(numbers);
        victim.wait().unwrap();
        let stored = values(&place.path);
        assert!(acknowledged.iter().all(|number| stored.contains(number)), "round {round}");
        assert_eq!(stored, (0..stored.len() as i64).collect::<Vec<_>>());
    }
    assert!(acknowledged.len() >= 20);
}
