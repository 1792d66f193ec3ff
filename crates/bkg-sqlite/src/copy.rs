//! A copy of a database that is in use: one file, of one moment, checked and on the disk.
//!
//! Not when copies are made or where they are kept. The invariant: the source is read and never changed
//! (but for a journal that a killed process left, which only writing undoes), and a copy that was not
//! finished is not there. Migrations and whoever backs up a process's files call this.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use rusqlite::backup::{Backup, StepResult};
use rusqlite::{Connection, ErrorCode};
use rustix::fs::OFlags;

use crate::connection;
use crate::error::CopyError;
use crate::files;

/// What every database begins with: <https://sqlite.org/fileformat2.html#magic_header_string>.
const MAGIC: &[u8; 16] = b"SQLite format 3\0";
/// Where the header says how changes are kept, and what it says for a write-ahead log.
const WRITE_VERSION: usize = 18;
const HAS_LOG: u8 = 2;

/// How many pages are copied between two looks at whether to go on.
const PAGES: i32 = 1_024;
/// How long a database without a log is left to those who write between two steps.
const PAUSE: Duration = Duration::from_millis(5);
/// After how long a database without a log that changes all the time is copied in one go, during which
/// nobody writes to it.
const POLITE: Duration = Duration::from_secs(20);
/// After how long a database that others keep locked is given up.
const LOCKED: Duration = Duration::from_secs(60);
/// How often a file that nobody has open is looked at again when somebody opened it meanwhile.
const LOOKS: usize = 3;

/// Whether a file is a database, by its first bytes.
///
/// Not for a file that this process has open as a database: to close it here would drop its locks.
///
/// # Errors
/// The disk's.
pub fn is_database(path: &Path) -> io::Result<bool> {
    Ok(header(path)?.is_some())
}

/// Copies a database of another process, or of none, to `target`, which is made. Blocks. `goes_on` is
/// asked again and again; when it says no, the copy is given up.
///
/// # Errors
/// Why there is no copy.
pub fn copy_database(source: &Path, target: &Path, goes_on: &dyn Fn() -> bool) -> Result<(), CopyError> {
    let of_source = |error| CopyError::source(source, error);
    let disk = |error| CopyError::disk("read", source, error);
    for _ in 0..LOOKS {
        let header =
            header(source).map_err(disk)?.ok_or_else(|| CopyError::damaged(source, "no database"))?;
        let is_open = ["-wal", "-shm"].iter().any(|suffix| files::beside(source, suffix).exists());
        if header[WRITE_VERSION] != HAS_LOG {
            let connection = without_log(source).map_err(of_source)?;
            return finish(target, copy(&connection, target, Pace::Polite, goes_on));
        }
        if is_open {
            let connection = connection::reading(source).map_err(of_source)?;
            return finish(target, snapshot(&connection, source, target, goes_on));
        }
        // Nobody has it open, and even to look at it would put a log's files beside it. If that changes
        // meanwhile, the copy is worth nothing.
        let before = look(source).map_err(disk)?;
        let connection = connection::looking(source).map_err(disk)?.map_err(of_source)?;
        let copied = copy(&connection, target, Pace::Steady, goes_on);
        drop(connection);
        let is_still = look(source).map_err(disk)? == before && !files::beside(source, "-wal").exists();
        if is_still {
            return finish(target, copied);
        }
        files::remove_database(target).map_err(|error| CopyError::disk("remove", target, error))?;
    }
    let connection = connection::reading(source).map_err(of_source)?;
    finish(target, snapshot(&connection, source, target, goes_on))
}

/// Looks for damage in a database that nobody has open, and answers its version. Nothing is changed.
///
/// # Errors
/// What is wrong with it.
pub fn examine(path: &Path) -> Result<i64, CopyError> {
    check(path, "PRAGMA integrity_check(1)")
}

/// Copies what an open connection sees, and checks the copy.
pub(crate) fn copy_open(
    source: &Connection,
    path: &Path,
    target: &Path,
    goes_on: &dyn Fn() -> bool,
) -> Result<(), CopyError> {
    finish(target, snapshot(source, path, target, goes_on))
}

/// How a source is treated that others may write to.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Pace {
    /// What is read stays as it is.
    Steady,
    /// Who reads keeps others from writing, so it is read in pieces, and again from the start when
    /// somebody has written.
    Polite,
}

/// Copies one state of a source with a log; others write on meanwhile.
fn snapshot(
    source: &Connection,
    path: &Path,
    target: &Path,
    goes_on: &dyn Fn() -> bool,
) -> Result<(), CopyError> {
    let of_source = |error| CopyError::source(path, error);
    let is_ours = source.is_autocommit();
    if is_ours {
        // The first reading fixes the state, and no write makes the copy begin again.
        source.execute_batch("BEGIN; SELECT count(*) FROM sqlite_schema").map_err(of_source)?;
    }
    let copied = copy(source, target, Pace::Steady, goes_on);
    if is_ours {
        source.execute_batch("ROLLBACK").map_err(of_source)?;
    }
    copied
}

/// Copies page by page. What is in `target` afterwards is not yet on the disk.
fn copy(
    source: &Connection,
    target: &Path,
    pace: Pace,
    goes_on: &dyn Fn() -> bool,
) -> Result<(), CopyError> {
    files::create_private(target).map_err(|error| CopyError::disk("make", target, error))?;
    let of_target = |error| CopyError::source(target, error);
    let mut copy = connection::read_write(target).map_err(of_target)?;
    // A copy that is cut short is thrown away, and a whole one is synced at its end.
    copy.execute_batch("PRAGMA synchronous = OFF").map_err(of_target)?;
    let _: String = copy.query_row("PRAGMA journal_mode = OFF", [], |row| row.get(0)).map_err(of_target)?;
    let begun = Instant::now();
    let backup = Backup::new(source, &mut copy).map_err(of_target)?;
    loop {
        if !goes_on() {
            return Err(CopyError::Stopped);
        }
        let all_at_once = pace == Pace::Polite && begun.elapsed() > POLITE;
        match backup.step(if all_at_once { -1 } else { PAGES }).map_err(of_target)? {
            StepResult::Done => break,
            StepResult::More if pace == Pace::Steady => {}
            StepResult::More => thread::sleep(PAUSE),
            _ if begun.elapsed() > LOCKED => return Err(CopyError::Locked { path: target.to_owned() }),
            _ => thread::sleep(PAUSE),
        }
    }
    drop(backup);
    copy.close().map_err(|(_, error)| of_target(error))
}

/// Checks a copy and brings it to the disk, or removes what there is of it.
fn finish(target: &Path, copied: Result<(), CopyError>) -> Result<(), CopyError> {
    let whole = copied.and_then(|()| {
        check(target, "PRAGMA quick_check(1)")?;
        File::open(target)
            .and_then(|file| file.sync_all())
            .map_err(|error| CopyError::disk("write", target, error))
    });
    if whole.is_err() {
        // The first error counts.
        let _ = files::remove_database(target);
    }
    whole
}

fn check(path: &Path, pragma: &str) -> Result<i64, CopyError> {
    let wrong = |error| CopyError::source(path, error);
    let looked = connection::looking(path).map_err(|error| CopyError::disk("look at", path, error))?;
    let connection = looked.map_err(wrong)?;
    let verdict: String = connection.query_row(pragma, [], |row| row.get(0)).map_err(wrong)?;
    if verdict != "ok" {
        return Err(CopyError::damaged(path, verdict));
    }
    connection::number(&connection, "user_version").map_err(wrong)
}

/// A connection to a source that keeps no log.
fn without_log(source: &Path) -> rusqlite::Result<Connection> {
    let connection = connection::reading(source)?;
    connection.busy_timeout(LOCKED)?;
    let looked = connection.query_row("SELECT count(*) FROM sqlite_schema", [], |_| Ok(()));
    match looked {
        // A process was killed in mid-change: only a connection that writes may undo that.
        Err(error) if error.sqlite_error_code() == Some(ErrorCode::ReadOnly) => {
            let connection = connection::read_write(source)?;
            connection.query_row("SELECT count(*) FROM sqlite_schema", [], |_| Ok(()))?;
            Ok(connection)
        }
        Err(error) => Err(error),
        Ok(()) => Ok(connection),
    }
}

/// The beginning of a database; `None` for a file that is none.
fn header(path: &Path) -> io::Result<Option<[u8; 100]>> {
    let mut header = [0; 100];
    // A pipe that took its place is not waited for.
    let flags = OFlags::NONBLOCK.bits().cast_signed();
    match OpenOptions::new().read(true).custom_flags(flags).open(path)?.read_exact(&mut header) {
        Ok(()) => Ok(header.starts_with(MAGIC).then_some(header)),
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(None),
        Err(error) => Err(error),
    }
}

/// What tells whether a file is still the same.
fn look(path: &Path) -> io::Result<(u64, u64, i64, i64)> {
    let found = fs::metadata(path)?;
    Ok((found.ino(), found.len(), found.mtime(), found.mtime_nsec()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn always() -> bool {
        true
    }

    fn database(path: &Path, mode: &str) -> Connection {
        let connection = Connection::open(path).unwrap();
        let _: String =
            connection.query_row(&format!("PRAGMA journal_mode = {mode}"), [], |row| row.get(0)).unwrap();
        connection.execute_batch("CREATE TABLE number (value INTEGER); PRAGMA user_version = 3").unwrap();
        connection
    }

    fn count(path: &Path) -> i64 {
        let connection = Connection::open(path).unwrap();
        connection.query_row("SELECT count(*) FROM number", [], |row| row.get(0)).unwrap()
    }

    #[test]
    fn a_copy_has_what_the_log_holds_and_is_one_file() {
        for mode in ["WAL", "DELETE", "TRUNCATE"] {
            let directory = tempfile::tempdir().unwrap();
            let (path, target) = (directory.path().join("a.db"), directory.path().join("copy"));
            let connection = database(&path, mode);
            connection.execute_batch("INSERT INTO number VALUES (1), (2)").unwrap();
            copy_database(&path, &target, &always).unwrap();
            for suffix in ["-wal", "-shm", "-journal"] {
                assert!(!files::beside(&target, suffix).exists(), "{mode}: {suffix}");
            }
            assert_eq!(examine(&target).unwrap(), 3, "{mode}");
            assert_eq!(count(&target), 2, "{mode}");
            connection.execute_batch("INSERT INTO number VALUES (3)").unwrap();
        }
    }

    #[test]
    fn a_database_that_nobody_has_open_is_left_as_it_is() {
        let directory = tempfile::tempdir().unwrap();
        let (path, target) = (directory.path().join("a.db"), directory.path().join("copy"));
        database(&path, "WAL").close().unwrap();
        let before = (fs::read(&path).unwrap(), look(&path).unwrap());
        copy_database(&path, &target, &always).unwrap();
        assert_eq!((fs::read(&path).unwrap(), look(&path).unwrap()), before);
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 2, "the database and its copy");
    }

    #[test]
    fn a_copy_beside_somebody_who_writes_is_of_one_moment() {
        let directory = tempfile::tempdir().unwrap();
        for mode in ["WAL", "DELETE"] {
            let path = &directory.path().join(mode);
            database(path, mode).execute_batch("CREATE TABLE other (value INTEGER)").unwrap();
            for round in 0..5 {
                let target = directory.path().join(format!("{mode}-{round}"));
                thread::scope(|scope| {
                    scope.spawn(|| {
                        let connection = Connection::open(path).unwrap();
                        connection.busy_timeout(Duration::from_secs(30)).unwrap();
                        connection.execute_batch("PRAGMA synchronous = OFF").unwrap();
                        for _ in 0..20 {
                            let both = "BEGIN; INSERT INTO number VALUES (1); INSERT INTO other VALUES (1); COMMIT";
                            connection.execute_batch(both).unwrap();
                        }
                    });
                    copy_database(path, &target, &always).unwrap();
                });
                let counts = "SELECT (SELECT count(*) FROM number) - (SELECT count(*) FROM other)";
                let copy = Connection::open(&target).unwrap();
                let difference: i64 = copy.query_row(counts, [], |row| row.get(0)).unwrap();
                assert_eq!(difference, 0, "{mode}");
            }
        }
    }

    #[test]
    fn what_was_left_by_a_killed_process_is_in_the_copy() {
        let directory = tempfile::tempdir().unwrap();
        let (path, other) = (directory.path().join("a.db"), directory.path().join("b.db"));
        let connection = database(&path, "WAL");
        connection.execute_batch("INSERT INTO number VALUES (1), (2)").unwrap();
        for suffix in ["", "-wal"] {
            fs::copy(files::beside(&path, suffix), files::beside(&other, suffix)).unwrap();
        }
        let target = directory.path().join("copy");
        copy_database(&other, &target, &always).unwrap();
        assert_eq!(count(&target), 2);
    }

    #[test]
    fn a_copy_that_is_not_to_be_or_cannot_be_finished_is_not_there() {
        let directory = tempfile::tempdir().unwrap();
        let (path, target) = (directory.path().join("a.db"), directory.path().join("copy"));
        let connection = database(&path, "WAL");
        for number in 0..5_000 {
            connection.execute("INSERT INTO number VALUES (?1)", [number]).unwrap();
        }
        assert!(matches!(copy_database(&path, &target, &|| false), Err(CopyError::Stopped)));
        assert!(!target.exists());
        connection.close().unwrap();
        let mut bytes = fs::read(&path).unwrap();
        bytes[4_096..12_000].fill(0xa5);
        fs::write(&path, &bytes).unwrap();
        let error = copy_database(&path, &target, &always).unwrap_err();
        assert!(matches!(error, CopyError::Damaged { .. }), "{error}");
        assert!(!target.exists());
        fs::write(&path, "short").unwrap();
        assert!(!is_database(&path).unwrap());
        assert!(matches!(copy_database(&path, &target, &always), Err(CopyError::Damaged { .. })));
    }
}
