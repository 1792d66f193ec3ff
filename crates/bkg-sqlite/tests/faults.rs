//! What a database does when something goes wrong around it: a disk that is full, a job that panics,
//! a process that is killed, a file that was damaged.
//!
//! With real files and real processes. What holds when nothing goes wrong is in `database.rs`.

#![allow(clippy::unwrap_used, reason = "a test fails where its arrangement does")]

use std::collections::BTreeSet;
use std::fs;
use std::io::{BufRead, BufReader};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::mpsc;
use std::thread::{self, JoinHandle};

use bkg_sqlite::rusqlite::{Connection, OptionalExtension};
use bkg_sqlite::{Database, DatabaseError, Definition, OpenError, Presence, open_read_only};
use proptest::prelude::*;

const FIRST: &str = "CREATE TABLE number (value INTEGER PRIMARY KEY) STRICT";

const fn numbers(migrations: &'static [&'static str]) -> Definition {
    Definition { what: "the numbers", application_id: 0x6e75_6d62, migrations }
}

static NUMBERS: Definition = numbers(&[FIRST]);
static SECOND_VERSION: Definition = numbers(&[FIRST, "ALTER TABLE number ADD COLUMN name TEXT"]);
static THIRD_VERSION: Definition = numbers(&[
    FIRST,
    "ALTER TABLE number ADD COLUMN name TEXT",
    "CREATE TABLE other (value INTEGER REFERENCES number) STRICT",
]);

struct Place {
    directory: tempfile::TempDir,
    path: PathBuf,
}

impl Place {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("numbers, 100% of #them?.db");
        Self { directory, path }
    }

    /// With 200 numbers in it, closed in order.
    fn closed() -> Self {
        let place = Self::new();
        let database = place.open();
        database
            .write_blocking(|connection| {
                let numbers =
                    "WITH RECURSIVE n(v) AS (SELECT 0 UNION ALL SELECT v + 1 FROM n WHERE v < 199)";
                connection.execute(&format!("INSERT INTO number {numbers} SELECT v FROM n"), [])?;
                Ok::<_, DatabaseError>(())
            })
            .unwrap();
        database.close().unwrap();
        place
    }

    /// As a process that was killed leaves it, had its log just been taken over.
    fn unsealed() -> Self {
        let place = Self::closed();
        fs::remove_file(place.beside(".seal")).unwrap();
        place
    }

    fn open_as(&self, definition: &Definition) -> Result<Database, OpenError> {
        Database::open(&self.path, definition, Presence::MayBeNew)
    }

    fn open(&self) -> Database {
        self.open_as(&NUMBERS).unwrap()
    }

    fn beside(&self, suffix: &str) -> PathBuf {
        let mut name = self.path.clone().into_os_string();
        name.push(suffix);
        name.into()
    }

    /// Every file with its content, but the reserve, which has none.
    fn files(&self) -> Vec<(PathBuf, Vec<u8>)> {
        let items = fs::read_dir(self.directory.path()).unwrap().map(|item| item.unwrap().path());
        let items = items.filter(|path| *path != self.beside(".reserve"));
        let mut files: Vec<_> = items.map(|path| (path.clone(), fs::read(path).unwrap())).collect();
        files.sort();
        files
    }

    /// The refusal, which has changed nothing and made nothing.
    fn refusal(&self, definition: &Definition) -> OpenError {
        let before = self.files();
        let error = self.open_as(definition).unwrap_err();
        assert!(self.files() == before, "{error}");
        error
    }
}

fn insert(value: i64) -> impl FnOnce(&Connection) -> Result<(), DatabaseError> + Send + 'static {
    move |connection| {
        connection.execute("INSERT INTO number (value) VALUES (?1)", [value])?;
        Ok(())
    }
}

fn values(connection: &Connection) -> Result<BTreeSet<i64>, DatabaseError> {
    let mut statement = connection.prepare("SELECT value FROM number")?;
    Ok(statement.query_map([], |row| row.get(0))?.collect::<Result<_, _>>()?)
}

/// A writer that is kept busy.
struct Held {
    release: mpsc::Sender<()>,
    holding: JoinHandle<Result<(), DatabaseError>>,
}

impl Held {
    fn release(self) {
        self.release.send(()).unwrap();
        self.holding.join().unwrap().unwrap();
    }
}

fn hold(database: &Database) -> Held {
    let (release, released) = mpsc::channel();
    let (begun, has_begun) = mpsc::channel();
    let database = database.clone();
    let holding = thread::spawn(move || {
        database.write_blocking(move |_| {
            begun.send(()).unwrap();
            released.recv().unwrap();
            Ok(())
        })
    });
    has_begun.recv().unwrap();
    Held { release, holding }
}

#[tokio::test]
async fn who_shares_a_transaction_that_sqlite_gives_up_hears_the_truth() {
    let place = Place::new();
    let database = place.open();
    let limit = |pages: usize| {
        database.write(move |connection| {
            connection.execute_batch("CREATE TABLE IF NOT EXISTS filler (text TEXT) STRICT")?;
            connection.query_row(&format!("PRAGMA max_page_count = {pages}"), [], |_| Ok(()))?;
            Ok::<_, DatabaseError>(())
        })
    };
    limit(1).await.unwrap();
    let held = hold(&database);
    // It needs more pages than there are, at which SQLite rolls back the whole transaction.
    let filling = database.write(|connection| {
        connection.execute("INSERT INTO filler VALUES (?1)", ["x".repeat(100_000)])?;
        Ok::<_, DatabaseError>(())
    });
    let release = async { held.release() };
    let (before, full, after, ()) =
        tokio::join!(database.write(insert(1)), filling, database.write(insert(2)), release);
    assert!(matches!(full, Err(DatabaseError::Full)), "{full:?}");
    let told: BTreeSet<i64> = [(1, before), (2, after)]
        .into_iter()
        .filter(|(_, told)| told.is_ok())
        .map(|(value, _)| value)
        .collect();
    assert_eq!(database.read(values).await.unwrap(), told);
}

#[tokio::test]
async fn a_write_whose_caller_left_is_carried_out() {
    let place = Place::new();
    let database = place.open();
    let held = hold(&database);
    let mut left = Box::pin(database.write(insert(1)));
    tokio::select! {
        biased;
        _ = &mut left => panic!("the writer is held"),
        () = std::future::ready(()) => {}
    }
    drop(left);
    held.release();
    database.write(insert(2)).await.unwrap();
    assert_eq!(database.read(values).await.unwrap(), BTreeSet::from([1, 2]));
}

#[tokio::test]
async fn while_the_queue_is_full_a_post_is_refused_and_a_write_waits() {
    let place = Place::new();
    let database = place.open();
    let held = hold(&database);
    let mut posted = 0;
    while database.post(move |connection| {
        connection.execute("INSERT INTO number (value) VALUES (?1)", [posted]).map(|_| ())
    }) {
        posted += 1;
        assert!(posted < 10_000, "the queue has no end");
    }
    let release = async { held.release() };
    let (written, ()) = tokio::join!(database.write(insert(-1)), release);
    written.unwrap();
    assert_eq!(database.read(values).await.unwrap(), (-1..posted).collect());
}

#[tokio::test]
async fn a_read_that_panics_takes_no_connection_with_it() {
    let place = Place::new();
    let database = place.open();
    for _ in 0..5 {
        let broken = database.read(|_| -> Result<(), DatabaseError> { panic!("on purpose") });
        assert!(matches!(broken.await, Err(DatabaseError::Lost)));
    }
    // Nor does one that leaves a transaction of its own, or that tries to write.
    let odd = database.read(|connection| {
        connection.execute_batch("ROLLBACK; BEGIN; SELECT 1")?;
        Ok::<_, DatabaseError>(())
    });
    odd.await.unwrap();
    database.read(insert(1)).await.unwrap_err();
    assert_eq!(database.read(values).await.unwrap(), BTreeSet::new());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn reads_beside_writes_see_whole_writes_and_all_that_were_acknowledged() {
    let place = Place::new();
    let database = place.open();
    let writers = (0..8_i64).map(|writer| {
        let database = database.clone();
        tokio::spawn(async move {
            for pair in 0..25 {
                let value = (writer * 25 + pair) * 2;
                database
                    .write(move |connection| {
                        insert(value)(connection)?;
                        insert(value + 1)(connection)
                    })
                    .await
                    .unwrap();
                let seen = database.read(values).await.unwrap();
                assert!(seen.contains(&value), "{value} was acknowledged");
                assert!(seen.iter().all(|value| seen.contains(&(value ^ 1))), "half of a write");
            }
        })
    });
    for writer in writers.collect::<Vec<_>>() {
        writer.await.unwrap();
    }
    assert_eq!(database.read(values).await.unwrap(), (0..400).collect());
}

#[test]
fn a_database_that_is_dropped_writes_what_is_queued() {
    let place = Place::new();
    let database = place.open();
    let held = hold(&database);
    assert!(database.post(|connection| {
        connection.execute("INSERT INTO number (value) VALUES (1)", []).map(|_| ())
    }));
    drop(database);
    held.release();
    // SQLite removes the log with the last connection.
    while place.beside("-wal").exists() {
        thread::yield_now();
    }
    assert!(!place.beside(".seal").exists());
    assert_eq!(place.open().read_blocking(values).unwrap(), BTreeSet::from([1]));
}

/// What a job of [`any_mixture_of_jobs_leaves_exactly_what_was_acknowledged`] does after its insert.
#[derive(Debug, Clone, Copy)]
enum Turn {
    Succeeds,
    Fails,
    Panics,
    RollsBack,
    Leaves,
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn any_mixture_of_jobs_leaves_exactly_what_was_acknowledged(
        turns in proptest::collection::vec(
            prop_oneof![
                6 => Just(Turn::Succeeds),
                2 => Just(Turn::Fails),
                1 => Just(Turn::Panics),
                1 => Just(Turn::RollsBack),
                1 => Just(Turn::Leaves),
            ],
            1..40,
        )
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let place = Place::new();
        let database = place.open();
        let held = hold(&database);
        let writes: Vec<_> = turns.iter().zip(0_i64..).map(|(&turn, value)| {
            let database = database.clone();
            runtime.spawn(async move {
                let written = database.write(move |connection| {
                    insert(value)(connection)?;
                    match turn {
                        Turn::Succeeds => {}
                        Turn::Fails => return Err(DatabaseError::Full),
                        Turn::Panics => panic!("on purpose"),
                        // As SQLite does by itself where the disk fails.
                        Turn::RollsBack => connection.execute_batch("ROLLBACK")?,
                        Turn::Leaves => connection.execute_batch("SAVEPOINT forgotten")?,
                    }
                    Ok(())
                });
                written.await.is_ok().then_some(value)
            })
        }).collect();
        let acknowledged = runtime.block_on(async {
            // Each is queued before the writer goes on.
            tokio::task::yield_now().await;
            held.release();
            let mut acknowledged = BTreeSet::new();
            for write in writes {
                acknowledged.extend(write.await.unwrap());
            }
            acknowledged
        });
        prop_assert_eq!(database.read_blocking(values).unwrap(), acknowledged.clone());
        database.close().unwrap();
        prop_assert_eq!(place.open().read_blocking(values).unwrap(), acknowledged);
    }
}

#[test]
fn each_connection_is_durable_checked_and_closed_to_others() {
    let place = Place::new();
    let database = place.open();
    let pragmas = database
        .write_blocking(|connection| {
            [
                "synchronous",
                "foreign_keys",
                "secure_delete",
                "trusted_schema",
                "cell_size_check",
                "temp_store",
            ]
            .map(|name| connection.query_row(&format!("PRAGMA {name}"), [], |row| row.get::<_, i64>(0)))
            .into_iter()
            .collect::<Result<Vec<_>, _>>()
            .map_err(DatabaseError::from)
        })
        .unwrap();
    assert_eq!(pragmas, [2, 1, 1, 0, 1, 2]);
    let files = place.files();
    assert_eq!(files.len(), 3, "the file, its log and its index");
    for (path, _) in files {
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600, "{}", path.display());
    }
}

#[test]
fn a_file_that_others_could_read_is_taken_from_them() {
    let place = Place::unsealed();
    for suffix in ["", "-wal", "-shm"] {
        let file = place.beside(suffix);
        fs::OpenOptions::new().append(true).create(true).open(&file).unwrap();
        fs::set_permissions(&file, fs::Permissions::from_mode(0o644)).unwrap();
    }
    let database = place.open();
    for (path, _) in place.files() {
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600, "{}", path.display());
    }
    database.close().unwrap();
}

#[test]
fn without_a_seal_a_header_that_changed_is_refused_or_harmless() {
    let place = Place::unsealed();
    let whole = fs::read(&place.path).unwrap();
    let mut refused = BTreeSet::new();
    for position in 0..100 {
        for mask in [0x01, 0xff] {
            let place = Place::new();
            let mut bytes = whole.clone();
            bytes[position] ^= mask;
            fs::write(&place.path, &bytes).unwrap();
            match place.open_as(&NUMBERS) {
                Ok(database) => {
                    database.write_blocking(insert(200)).unwrap();
                    let stored = database.read_blocking(values).unwrap();
                    assert_eq!(stored, (0..=200).collect(), "byte {position} ^ {mask:#x}");
                }
                Err(error) => {
                    let is_expected = match error {
                        OpenError::Damaged { .. } | OpenError::Foreign { .. } | OpenError::Newer { .. } => {
                            true
                        }
                        // The one byte that turns a database into one for reading only.
                        OpenError::Disk { .. } => position == 18,
                        _ => false,
                    };
                    assert!(is_expected, "byte {position} ^ {mask:#x}: {error}");
                    refused.insert(position);
                    assert_eq!(place.files(), [(place.path.clone(), bytes)], "byte {position} ^ {mask:#x}");
                }
            }
        }
    }
    // The magic, the page size and layout, whose it is and of which version.
    for position in (0..24).chain(60..64).chain(68..72) {
        assert!(refused.contains(&position), "byte {position}: {refused:?}");
    }
}

#[test]
fn without_a_seal_a_file_that_was_cut_is_refused() {
    let place = Place::unsealed();
    let whole = fs::read(&place.path).unwrap();
    for length in (0..whole.len()).step_by(512) {
        fs::write(&place.path, &whole[..length]).unwrap();
        let error = place.refusal(&NUMBERS);
        assert!(matches!(error, OpenError::Damaged { .. }), "{length} bytes: {error}");
    }
    fs::write(&place.path, &whole).unwrap();
    place.open();
}

#[test]
fn what_is_refused_is_left_without_a_trace() {
    let place = Place::new();
    place.open_as(&SECOND_VERSION).unwrap().close().unwrap();
    for is_sealed in [true, false] {
        if !is_sealed {
            fs::remove_file(place.beside(".seal")).unwrap();
        }
        let newer = place.refusal(&NUMBERS);
        assert!(matches!(newer, OpenError::Newer { found: 2, known: 1, .. }), "{newer}");
        let foreign = place.refusal(&Definition { application_id: 7, ..SECOND_VERSION });
        assert!(matches!(foreign, OpenError::Foreign { .. }), "{foreign}");
    }
}

#[test]
fn a_newer_version_in_the_log_of_a_killed_process_is_refused() {
    let place = Place::unsealed();
    let other = Place::new();
    let writer = Connection::open(&place.path).unwrap();
    writer.execute_batch("PRAGMA user_version = 9").unwrap();
    // The file still says 1: what is newer is in the log alone.
    for suffix in ["", "-wal"] {
        fs::copy(place.beside(suffix), other.beside(suffix)).unwrap();
    }
    let before = ["", "-wal"].map(|suffix| fs::read(other.beside(suffix)).unwrap());
    assert!(matches!(other.open_as(&NUMBERS), Err(OpenError::Newer { found: 9, .. })));
    assert_eq!(["", "-wal"].map(|suffix| fs::read(other.beside(suffix)).unwrap()), before);
}

#[test]
fn where_a_database_was_lost_none_is_made() {
    for trace in ["-wal", "-journal", ".seal", ".before-2"] {
        let place = Place::new();
        fs::write(place.beside(trace), "").unwrap();
        let error = place.refusal(&NUMBERS);
        assert!(matches!(error, OpenError::Missing { .. }), "{trace}: {error}");
        assert!(error.to_string().contains("is missing: restore it from a backup"), "{error}");
    }
}

#[test]
fn a_directory_that_is_missing_is_no_damage() {
    let error = Database::open(Path::new("/nowhere/numbers.db"), &NUMBERS, Presence::MayBeNew).unwrap_err();
    assert!(matches!(error, OpenError::Disk { .. }), "{error}");
    let error =
        Database::open(Path::new("/nowhere/numbers.db"), &NUMBERS, Presence::MustExist).unwrap_err();
    assert!(matches!(error, OpenError::Missing { .. }), "{error}");
}

#[test]
fn a_first_schema_that_fails_leaves_nothing() {
    let place = Place::new();
    let error = place.refusal(&numbers(&[FIRST, "CREATE TABLE number (x)"]));
    assert!(matches!(error, OpenError::Migration { found: 0, version: 2, .. }), "{error}");
    assert!(!error.to_string().contains(".new"), "{error}");
    place.open();
}

#[test]
fn a_restored_file_whose_first_opening_was_interrupted_is_recovered() {
    // A file without a log in which a change was cut short: its journal undoes it.
    let plain = Place::unsealed();
    let connection = Connection::open(&plain.path).unwrap();
    let _: String = connection.query_row("PRAGMA journal_mode = DELETE", [], |row| row.get(0)).unwrap();
    connection.execute_batch("PRAGMA cache_size = 1; PRAGMA cache_spill = 1; BEGIN").unwrap();
    connection.execute_batch("CREATE TABLE filler (text TEXT); DELETE FROM number").unwrap();
    for _ in 0..100 {
        connection.execute("INSERT INTO filler VALUES (?1)", ["x".repeat(5_000)]).unwrap();
    }
    let place = Place::new();
    for suffix in ["", "-journal"] {
        fs::copy(plain.beside(suffix), place.beside(suffix)).unwrap();
    }
    drop(connection);
    assert!(fs::metadata(place.beside("-journal")).unwrap().len() > 0);
    let database = place.open();
    assert_eq!(database.read_blocking(values).unwrap(), (0..200).collect());
    database.close().unwrap();
    assert!(!place.beside("-journal").exists());
}

#[test]
fn each_migration_keeps_a_backup_that_can_be_put_back() {
    let place = Place::closed();
    place.open_as(&SECOND_VERSION).unwrap().close().unwrap();
    assert!(place.beside(".before-2").exists());
    place.open_as(&THIRD_VERSION).unwrap().close().unwrap();
    let backup = place.beside(".before-3");
    assert_eq!(fs::metadata(&backup).unwrap().permissions().mode() & 0o777, 0o600);
    assert_eq!(place.files().len(), 4, "the file, its seal and the backups of two migrations");
    let fourth = numbers(&[FIRST, "", "", ""]);
    let again = Place::closed();
    for version in [&SECOND_VERSION, &THIRD_VERSION, &fourth] {
        again.open_as(version).unwrap().close().unwrap();
    }
    assert!(!again.beside(".before-2").exists(), "only the newest two stay");
    assert!(again.beside(".before-3").exists() && again.beside(".before-4").exists());

    // The refusal of the older program says how to go back, and that works.
    for (known, copy) in [(&SECOND_VERSION, ".before-3"), (&NUMBERS, ".before-2")] {
        let error = place.refusal(known).to_string();
        assert!(error.contains(copy), "{error}");
        let command = error.split('`').find(|part| part.starts_with("mv ")).expect("a command").to_owned();
        let copies = place.beside(copy);
        let before = fs::read(&copies).unwrap();
        let done = Command::new("sh").args(["-c", &command]).status().unwrap();
        assert!(done.success(), "{command}");
        assert_eq!(fs::read(&copies).unwrap(), before, "the copy stays");
        let database = place.open_as(known).unwrap();
        assert_eq!(database.read_blocking(values).unwrap(), (0..200).collect());
        database.close().unwrap();
    }
}

#[test]
fn a_migration_that_leaves_a_row_without_its_parent_is_undone() {
    let place = Place::new();
    let database = place.open_as(&THIRD_VERSION).unwrap();
    database
        .write_blocking(|connection| {
            insert(1)(connection)?;
            connection.execute("INSERT INTO other VALUES (1)", [])?;
            Ok::<_, DatabaseError>(())
        })
        .unwrap();
    database.close().unwrap();
    let orphaning = numbers(&[FIRST, "", "", "DELETE FROM number"]);
    let error = place.open_as(&orphaning).unwrap_err();
    assert!(matches!(error, OpenError::Migration { found: 3, version: 4, .. }), "{error}");
    assert!(error.to_string().contains("`other`"), "{error}");
    let database = place.open_as(&THIRD_VERSION).unwrap();
    assert_eq!(database.read_blocking(values).unwrap(), BTreeSet::from([1]));
}

#[test]
fn a_command_line_reads_beside_the_owner_and_without_it() {
    let place = Place::new();
    assert!(matches!(open_read_only(&place.path, &NUMBERS), Err(OpenError::Missing { .. })));
    let database = place.open();
    database.write_blocking(insert(1)).unwrap();
    let reader = open_read_only(&place.path, &NUMBERS).unwrap();
    assert_eq!(values(&reader).unwrap(), BTreeSet::from([1]));
    insert(2)(&reader).unwrap_err();
    database.write_blocking(insert(2)).unwrap();
    assert_eq!(values(&reader).unwrap(), BTreeSet::from([1, 2]));
    drop(reader);
    database.close().unwrap();
    assert_eq!(values(&open_read_only(&place.path, &NUMBERS).unwrap()).unwrap(), BTreeSet::from([1, 2]));
    let older = open_read_only(&place.path, &SECOND_VERSION);
    assert!(matches!(older, Err(OpenError::Older { found: 1, known: 2, .. })));
    // What a reader leaves beside the file does not break its seal.
    place.open().close().unwrap();
    fs::write(&place.path, "").unwrap();
    assert!(matches!(open_read_only(&place.path, &NUMBERS), Err(OpenError::Damaged { .. })));
}

#[test]
fn a_database_that_is_read_while_it_closes_is_whole_but_unsealed() {
    let place = Place::new();
    let database = place.open();
    database.write_blocking(insert(1)).unwrap();
    let reader = open_read_only(&place.path, &NUMBERS).unwrap();
    reader.query_row("SELECT 1 FROM number", [], |_| Ok(())).optional().unwrap();
    database.close().unwrap();
    assert!(!place.beside(".seal").exists());
    drop(reader);
    let database = place.open();
    assert_eq!(database.read_blocking(values).unwrap(), BTreeSet::from([1]));
    database.close().unwrap();
    assert!(place.beside(".seal").exists());
}

/// Runs this test binary once more, as the process that something happens to.
fn child(test: &str, path: &Path) -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", test, "--nocapture"]).env("BKG_SQLITE_CHILD", path);
    command
}

/// Where this process is to work, if it is such a child.
fn child_path() -> Option<PathBuf> {
    std::env::var_os("BKG_SQLITE_CHILD").map(PathBuf::from)
}

#[test]
fn a_first_start_that_is_killed_leaves_a_whole_database_or_none() {
    if let Some(path) = child_path() {
        let database = Database::open(&path, &THIRD_VERSION, Presence::MayBeNew).unwrap();
        database.write_blocking(insert(1)).unwrap();
        return;
    }
    for round in 0..20 {
        let place = Place::new();
        let mut victim = child("a_first_start_that_is_killed_leaves_a_whole_database_or_none", &place.path)
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        // It dies after its first files, each time a little later.
        let mut looks = 0;
        while looks < round * 3 && victim.try_wait().unwrap().is_none() {
            looks += usize::from(fs::read_dir(place.directory.path()).unwrap().next().is_some());
        }
        victim.kill().unwrap();
        victim.wait().unwrap();
        if place.path.exists() {
            let reader = open_read_only(&place.path, &THIRD_VERSION).unwrap();
            values(&reader).unwrap();
        }
        let database = place.open_as(&THIRD_VERSION).unwrap();
        database.write_blocking(insert(2)).unwrap();
        database.close().unwrap();
        assert_eq!(place.files().len(), 2, "the file and its seal: {:?}", place.directory.path());
    }
}

/// A migration that takes a while.
static LONG_MIGRATION: Definition = numbers(&[
    FIRST,
    "CREATE TABLE other (value INTEGER) STRICT;
     WITH RECURSIVE n(v) AS (SELECT 0 UNION ALL SELECT v + 1 FROM n WHERE v < 20000)
       INSERT INTO other SELECT v FROM n;
     ALTER TABLE number ADD COLUMN name TEXT;
     UPDATE number SET name = 'migrated'",
]);

#[test]
fn a_migration_that_is_killed_leaves_one_version_or_the_other_whole() {
    const TEST: &str = "a_migration_that_is_killed_leaves_one_version_or_the_other_whole";
    if let Some(path) = child_path() {
        Database::open(&path, &LONG_MIGRATION, Presence::MustExist).unwrap().close().unwrap();
        return;
    }
    let version = |path: &Path| -> i64 {
        let connection = Connection::open(path).unwrap();
        connection.query_row("PRAGMA user_version", [], |row| row.get(0)).unwrap()
    };
    let is_migrated = "SELECT count(*) FROM pragma_table_info('number') WHERE name = 'name'";
    let mut found = BTreeSet::new();
    for round in 0..24_u32 {
        // Half of them as a killed process left them, with rows in the log alone.
        let place = if round % 2 == 0 { Place::closed() } else { Place::unsealed() };
        let mut held = None;
        if round % 2 == 1 {
            let connection = Connection::open(&place.path).unwrap();
            connection
                .execute_batch("PRAGMA journal_mode = WAL; INSERT INTO number VALUES (1000)")
                .unwrap();
            held = Some(connection);
        }
        let rows = 200 + i64::from(round % 2);
        let mut victim = child(TEST, &place.path).stdout(Stdio::null()).spawn().unwrap();
        // It dies at one of its steps, each time at a later look.
        let steps = [".before.new", ".before-2", "-wal", ".reserve"];
        let step = place.beside(steps[round as usize / 2 % steps.len()]);
        while !step.exists() && victim.try_wait().unwrap().is_none() {}
        for _ in 0..(round * 40) {
            let _ = fs::metadata(&step);
        }
        victim.kill().unwrap();
        victim.wait().unwrap();
        drop(held);
        let reader = Connection::open(&place.path).unwrap();
        let count = |sql: &str| reader.query_row(sql, [], |row| row.get::<_, i64>(0)).unwrap();
        assert_eq!(count("SELECT count(*) FROM number"), rows, "round {round}");
        let (reached, has_column) = (version(&place.path), count(is_migrated));
        assert_eq!(reached, 1 + has_column, "round {round}");
        found.insert(reached);
        drop(reader);
        if reached == 2 {
            assert_eq!(version(&place.beside(".before-2")), 1, "a copy was on the disk first");
        }
        let _ = fs::remove_file(place.beside(".seal"));
        let database = place.open_as(&LONG_MIGRATION).unwrap();
        database.close().unwrap();
        let after = Connection::open(&place.path).unwrap();
        let migrated = "SELECT count(*) FROM number WHERE name = 'migrated'";
        let migrated: i64 = after.query_row(migrated, [], |row| row.get(0)).unwrap();
        assert_eq!((migrated, version(&place.path)), (rows, 2), "round {round}");
        let backup = Connection::open(place.beside(".before-2")).unwrap();
        let kept: i64 = backup.query_row("SELECT count(*) FROM number", [], |row| row.get(0)).unwrap();
        assert_eq!(kept, rows, "what was only in the log is in the copy: round {round}");
    }
    assert!(found.contains(&1), "some were killed before their end: {found:?}");
}

#[test]
fn the_way_back_from_a_newer_program_is_a_command_that_works_whatever_the_path_is_called() {
    let directory = tempfile::tempdir().unwrap();
    let folder = directory.path().join("ada's $(data) `dir`");
    fs::create_dir(&folder).unwrap();
    let path = folder.join("it's \"numbers\".db");
    let open = |definition| Database::open(&path, definition, Presence::MayBeNew);
    open(&NUMBERS).unwrap().close().unwrap();
    open(&SECOND_VERSION).unwrap().close().unwrap();
    let text = open(&NUMBERS).unwrap_err().to_string();
    let (_, command) = text.split_once(": `").unwrap();
    let command = command.strip_suffix('`').unwrap();
    let done = Command::new("sh").args(["-c", command]).status().unwrap();
    assert!(done.success(), "{command}");
    open(&NUMBERS).unwrap().close().unwrap();
}

#[test]
fn a_process_that_is_killed_among_many_writers_loses_nothing_acknowledged() {
    if let Some(path) = child_path() {
        return write_from_many_tasks(&path);
    }
    let place = Place::new();
    let mut acknowledged = BTreeSet::new();
    for round in 0..20 {
        let mut victim =
            child("a_process_that_is_killed_among_many_writers_loses_nothing_acknowledged", &place.path)
                .stdout(Stdio::piped())
                .spawn()
                .unwrap();
        let mut lines = BufReader::new(victim.stdout.take().unwrap()).lines().map_while(Result::ok);
        let number = |line: String| line.split("acknowledged ").nth(1)?.trim().parse::<i64>().ok();
        acknowledged.extend(lines.by_ref().filter_map(number).take(1 + round * 5));
        victim.kill().unwrap();
        // Whatever it said before it died counts as well. A last line that was cut says less.
        let rest: Vec<String> = lines.collect();
        acknowledged.extend(rest.into_iter().rev().skip(1).filter_map(number));
        victim.wait().unwrap();
        let reader = open_read_only(&place.path, &NUMBERS).unwrap();
        let stored = values(&reader).unwrap();
        assert!(acknowledged.is_subset(&stored), "round {round}");
        let verdict: String = reader.query_row("PRAGMA quick_check", [], |row| row.get(0)).unwrap();
        assert_eq!(verdict, "ok");
    }
    assert!(acknowledged.len() > 200);
}

fn write_from_many_tasks(path: &Path) {
    use std::io::Write;
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).build().unwrap();
    let database = Database::open(path, &NUMBERS, Presence::MayBeNew).unwrap();
    let start = database.read_blocking(values).unwrap().last().map_or(0, |last| last + 1);
    runtime.block_on(async {
        let writers = (0..16_i64).map(|writer| {
            let database = database.clone();
            tokio::spawn(async move {
                for value in (start + writer..).step_by(16) {
                    database.write(insert(value)).await.unwrap();
                    // In one piece, so that lines do not mix.
                    let line = format!("acknowledged {value}\n");
                    std::io::stdout().lock().write_all(line.as_bytes()).unwrap();
                }
            })
        });
        for writer in writers.collect::<Vec<_>>() {
            writer.await.unwrap();
        }
    });
}

/// Needs rights to mount; says so where it has none.
#[test]
fn a_disk_that_is_really_full_is_told_as_such_and_heals() {
    if let Some(path) = child_path() {
        return fill_the_disk(&path);
    }
    let directory = tempfile::tempdir().unwrap();
    // The mount is seen by the child alone, and ends with it.
    let can_mount = Command::new("unshare").args(["-m", "true"]).stderr(Stdio::null()).status();
    if !can_mount.is_ok_and(|status| status.success()) {
        println!("skipped: no right to mount a small disk");
        return;
    }
    let status = Command::new("unshare")
        .args(["-m", "sh", "-c", "mount -t tmpfs -o size=12m tmpfs \"$1\" && shift && exec \"$@\"", "sh"])
        .arg(directory.path())
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", "a_disk_that_is_really_full_is_told_as_such_and_heals", "--nocapture"])
        .env("BKG_SQLITE_CHILD", directory.path().join("numbers.db"))
        .stdout(Stdio::null())
        .status()
        .unwrap();
    assert!(status.success());
}

fn fill_the_disk(path: &Path) {
    let database = Database::open(path, &NUMBERS, Presence::MayBeNew).unwrap();
    let ballast = path.with_extension("ballast");
    fs::write(&ballast, vec![0; 1 << 20]).unwrap();
    let mut acknowledged = BTreeSet::new();
    let full = (0..100_000).find_map(|value| match database.write_blocking(insert(value)) {
        Ok(()) => {
            acknowledged.insert(value);
            None
        }
        Err(error) => Some((value, error)),
    });
    let (refused, error) = full.expect("the disk is small");
    assert!(matches!(error, DatabaseError::Full), "{error}");
    assert_eq!(database.read_blocking(values).unwrap(), acknowledged);
    fs::remove_file(&ballast).unwrap();
    database.write_blocking(insert(refused)).unwrap();
    acknowledged.insert(refused);
    database.close().unwrap();
    let database = Database::open(path, &NUMBERS, Presence::MustExist).unwrap();
    assert_eq!(database.read_blocking(values).unwrap(), acknowledged);
}
