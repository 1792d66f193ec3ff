//! What a database does on a disk that is full, and on one that fails at an fsync.
//!
//! With real file systems, in a mount of the test's own, and with failures that `strace` injects; where
//! neither is possible, a test says so and ends.

#![allow(clippy::unwrap_used, reason = "a test fails where its arrangement does")]
#![allow(clippy::print_stdout, reason = "a test that cannot run here says so")]

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use bkg_sqlite::rusqlite::Connection;
use bkg_sqlite::{Condition, Database, DatabaseError, Definition, Presence, RESERVE_BYTES};

static NUMBERS: Definition = Definition {
    what: "the numbers",
    application_id: 0x6e75_6d62,
    migrations: &["CREATE TABLE number (value INTEGER PRIMARY KEY, text TEXT) STRICT"],
};

fn open(path: &Path) -> Database {
    Database::open(path, &NUMBERS, Presence::MayBeNew).unwrap()
}

fn insert(value: i64) -> impl FnMut(&Connection) -> Result<(), DatabaseError> + Send + 'static {
    move |connection| {
        connection
            .execute("INSERT INTO number (value, text) VALUES (?1, ?2)", (value, "x".repeat(2_000)))?;
        Ok(())
    }
}

fn stored(database: &Database) -> BTreeSet<i64> {
    let values = |connection: &Connection| {
        let mut statement = connection.prepare("SELECT value FROM number")?;
        let values = statement.query_map([], |row| row.get(0))?.collect::<Result<_, _>>()?;
        Ok::<_, DatabaseError>(values)
    };
    database.read_blocking(values).unwrap()
}

fn until(mut holds: impl FnMut() -> bool) {
    while !holds() {
        thread::yield_now();
    }
}

fn child_path() -> Option<PathBuf> {
    std::env::var_os("BKG_SQLITE_CHILD").map(PathBuf::from)
}

fn can(program: &str, arguments: &[&str]) -> bool {
    let tried = Command::new(program).args(arguments).stdout(Stdio::null()).stderr(Stdio::null()).status();
    tried.is_ok_and(|status| status.success())
}

/// Runs a test once more as a process of its own, on a small disk that nobody else sees.
fn on_a_small_disk(test: &str, mount: &str) {
    let directory = tempfile::tempdir().unwrap();
    let script = format!(
        "set -e; cd \"$1\"; mkdir disk; {mount}; shift; BKG_SQLITE_CHILD=$PWD/disk/numbers.db \"$@\""
    );
    let output = Command::new("unshare")
        .args(["-m", "sh", "-c", &script, "sh"])
        .arg(directory.path())
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", test, "--nocapture"])
        .output()
        .unwrap();
    assert!(output.status.success(), "{mount}: {}", String::from_utf8_lossy(&output.stderr));
}

/// Needs rights to mount; says so where it has none.
#[test]
fn on_a_full_disk_needed_writes_go_into_the_reserve_and_others_change_nothing() {
    if let Some(path) = child_path() {
        return on_a_full_disk(&path);
    }
    if !can("unshare", &["-m", "true"]) {
        println!("skipped: no right to mount a small disk");
        return;
    }
    let test = "on_a_full_disk_needed_writes_go_into_the_reserve_and_others_change_nothing";
    on_a_small_disk(test, "mount -t tmpfs -o size=24m tmpfs disk");
    let ext4 = "truncate -s 32M image && mkfs.ext4 -q image && mount -o loop image disk";
    if can("unshare", &["-m", "sh", "-c", &format!("cd $(mktemp -d) && mkdir disk && {ext4}")]) {
        on_a_small_disk(test, ext4);
    } else {
        println!("left out: no loop device for an ext4 of its own");
    }
}

/// Fills whatever room there is, and goes on to take each byte that gets free.
fn hog(ballast: &mut File) {
    for bytes in [1 << 20, 4 << 10, 1] {
        while ballast.write_all(&vec![0x5a; bytes]).is_ok() {}
    }
}

fn on_a_full_disk(path: &Path) {
    let database = open(path);
    let write = |value| database.write_blocking(insert(value));
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let write_with_reserve = |value| runtime.block_on(database.write_with_reserve(insert(value)));
    let reserve = || fs::metadata(path.with_extension("db.reserve")).unwrap().len();

    let mut acknowledged = BTreeSet::new();
    write(0).unwrap();
    acknowledged.insert(0);
    let ballast = path.with_extension("ballast");
    let mut file = File::create(&ballast).unwrap();
    hog(&mut file);
    let (refused, error) = (1..10_000)
        .find_map(|value| match write(value) {
            Ok(()) => {
                acknowledged.insert(value);
                None
            }
            Err(error) => Some((value, error)),
        })
        .expect("the disk is full");
    assert!(matches!(error, DatabaseError::Full), "{error}");
    assert_eq!(database.condition(), Condition::Full);
    assert_eq!(reserve(), RESERVE_BYTES, "what can wait draws on nothing");

    // Somebody takes whatever the reserve leaves beside what is written.
    let is_over = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            while !is_over.load(Ordering::Relaxed) {
                hog(&mut file);
            }
        });
        for value in 0..3 {
            write_with_reserve(-1 - value).unwrap();
            acknowledged.insert(-1 - value);
            let error = write(refused).unwrap_err();
            assert!(matches!(error, DatabaseError::Full), "{error}");
        }
        is_over.store(true, Ordering::Relaxed);
    });
    assert!(reserve() < RESERVE_BYTES);
    let last = (0..1_000).find(|value| write_with_reserve(-100 - value).is_err());
    let last = last.expect("the reserve has an end");
    acknowledged.extend((0..last).map(|value| -100 - value));
    assert_eq!(stored(&database), acknowledged);

    fs::remove_file(&ballast).unwrap();
    drop(file);
    // Nobody writes.
    until(|| database.condition().is_sound());
    assert_eq!(reserve(), RESERVE_BYTES);
    write(refused).unwrap();
    acknowledged.insert(refused);
    assert_eq!(stored(&database), acknowledged);

    // Closed on a full disk, it is in order too.
    let mut file = File::create(&ballast).unwrap();
    hog(&mut file);
    until(|| match write(20_000) {
        Ok(()) => database
            .write_blocking(|connection| {
                connection
                    .execute("DELETE FROM number WHERE value = 20000", [])
                    .map(drop)
                    .map_err(DatabaseError::from)
            })
            .is_err(),
        Err(_) => true,
    });
    let acknowledged = stored(&database);
    database.close().unwrap();
    let database = Database::open(path, &NUMBERS, Presence::MustExist).unwrap();
    assert_eq!(stored(&database), acknowledged);
}

/// What `strace` saw of one run, in order.
struct Trace {
    lines: Vec<String>,
    stored: BTreeSet<i64>,
}

/// Runs a test once more as a process of its own whose fsyncs fail as `when` says.
fn with_failing_fsyncs(test: &str, when: &str) -> Option<Trace> {
    if !can("strace", &["-o", "/dev/null", "true"]) {
        println!("skipped: `strace` is missing, or may not trace");
        return None;
    }
    let directory = tempfile::tempdir().unwrap();
    let (path, trace) = (directory.path().join("numbers.db"), directory.path().join("trace"));
    open(&path).close().unwrap();
    let output = Command::new("strace")
        .args(["-f", "-y", "-s", "40", "-e", "trace=fsync,fdatasync,pwrite64,write,ftruncate"])
        .args(["-e", &format!("inject=fsync,fdatasync:error=EIO:when={when}"), "-o"])
        .arg(&trace)
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", test, "--nocapture"])
        .env("BKG_SQLITE_CHILD", &path)
        .output()
        .unwrap();
    assert!(output.status.success(), "{when}: {}", String::from_utf8_lossy(&output.stderr));
    let lines = fs::read_to_string(&trace).unwrap().lines().map(str::to_owned).collect();
    let stored = stored(&open(&path));
    Some(Trace { lines, stored })
}

impl Trace {
    /// What was acknowledged, in a trace in which nothing was acknowledged after an fsync that failed until
    /// the same file was emptied or written to, and an fsync of it succeeded.
    fn acknowledged(&self) -> (BTreeSet<i64>, usize) {
        /// What has to come before anything may be acknowledged again.
        #[derive(Debug, PartialEq)]
        enum Due {
            Bytes,
            Sync,
        }
        let mut acknowledged = BTreeSet::new();
        let mut failures = 0;
        let mut due: BTreeMap<String, Due> = BTreeMap::new();
        for line in &self.lines {
            let file = || line.split(['<', '>']).nth(1).unwrap_or_default().to_owned();
            let is = |call: &str| line.contains(&format!(" {call}("));
            if is("fsync") || is("fdatasync") {
                if line.contains("EIO") {
                    failures += 1;
                    due.insert(file(), Due::Bytes);
                } else if due.get(&file()) == Some(&Due::Sync) {
                    due.remove(&file());
                }
            } else if is("ftruncate") && line.contains(", 0)") {
                due.remove(&file());
            } else if is("pwrite64") && due.contains_key(&file()) {
                due.insert(file(), Due::Sync);
            } else if let Some(value) = line.split("acknowledged ").nth(1) {
                let value = value.split(['\\', '"']).next().unwrap().parse().unwrap();
                assert!(due.is_empty(), "{value} was acknowledged while {due:?}");
                acknowledged.insert(value);
            }
        }
        (acknowledged, failures)
    }
}

/// Needs `strace`; says so where it is missing.
#[test]
fn nothing_is_acknowledged_after_an_fsync_that_failed_until_the_file_was_checked() {
    if let Some(path) = child_path() {
        return write_until_it_fails_and_heals(&path);
    }
    let test = "nothing_is_acknowledged_after_an_fsync_that_failed_until_the_file_was_checked";
    // Each fsync of the first, then two in a row, then every third.
    for when in ["5", "6", "7", "8", "9..10", "12..20+3", "5..60+7"] {
        let Some(trace) = with_failing_fsyncs(test, when) else { return };
        let (acknowledged, failures) = trace.acknowledged();
        assert!(failures > 0, "{when}: no fsync failed");
        assert!(acknowledged.len() > 50, "{when}: it did not heal: {acknowledged:?}");
        assert!(acknowledged.is_subset(&trace.stored), "{when}");
        assert_eq!(acknowledged, trace.stored, "{when}: what was refused is not there");
    }
}

fn write_until_it_fails_and_heals(path: &Path) {
    let database = open(path);
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    for value in 0..100 {
        let written = if value % 5 == 0 {
            runtime.block_on(database.write_with_reserve(insert(value)))
        } else {
            database.write_blocking(insert(value))
        };
        match written {
            Ok(()) => {
                let line = format!("acknowledged {value}\n");
                std::io::stdout().lock().write_all(line.as_bytes()).unwrap();
            }
            Err(error) => assert!(matches!(error, DatabaseError::Failing { .. }), "{error}"),
        }
        until(|| database.condition().is_sound());
    }
}

/// Needs `strace`; says so where it is missing.
#[test]
fn while_the_disk_fails_nothing_is_written_and_everything_is_read() {
    if let Some(path) = child_path() {
        let database = open(&path);
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        for value in 0..40 {
            let written = if value % 2 == 0 {
                database.write_blocking(insert(value))
            } else {
                runtime.block_on(database.write_with_reserve(insert(value)))
            };
            if written.is_ok() {
                let line = format!("acknowledged {value}\n");
                std::io::stdout().lock().write_all(line.as_bytes()).unwrap();
            }
            stored(&database);
        }
        assert!(matches!(database.condition(), Condition::Failing { .. }));
        assert!(matches!(database.close(), Err(DatabaseError::Failing { .. })));
        assert!(!path.with_extension("db.seal").exists(), "what is not trusted is not sealed");
        return;
    }
    let test = "while_the_disk_fails_nothing_is_written_and_everything_is_read";
    let Some(trace) = with_failing_fsyncs(test, "20+") else { return };
    let (acknowledged, failures) = trace.acknowledged();
    assert!(failures > 0 && !acknowledged.is_empty() && acknowledged.len() < 40, "{acknowledged:?}");
    assert!(acknowledged.is_subset(&trace.stored));
}
