//! The connections to a database: one that writes, some that read, one that only looks.
//!
//! Not when each is opened. The invariant: the writing connection has a write-ahead log and waits for
//! the disk at each commit, which is asked back from SQLite and not assumed. Opening, migrating and
//! reading use them.

use std::fmt::Write;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::time::Duration;

use rusqlite::{Connection, OpenFlags};

use crate::definition::Definition;
use crate::error::OpenError;
use crate::files;

/// How long to wait for the locks of another process, such as somebody's `sqlite3`.
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);

/// What holds for each connection. A schema that somebody changed cannot call functions with side
/// effects, cells are checked when a page is read, and nothing temporary reaches the disk.
const SAFE: &str = "PRAGMA trusted_schema = OFF; PRAGMA cell_size_check = ON; PRAGMA temp_store = MEMORY;";

/// What holds for the one that writes.
///
/// `synchronous = FULL` and not `NORMAL`, which lost acknowledged rows at power cuts. `secure_delete`
/// so that what was revoked does not linger in free pages. The log is not taken over by SQLite itself,
/// which keeps to itself when that fails: the writer does it, and cuts it back to 16 MiB after a burst. Foreign keys wait for [`enforce_foreign_keys`]: the
/// bundled SQLite has them on, and then a migration that rebuilds a table would lose its children.
const DURABLE: &str = "PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; PRAGMA secure_delete = ON; \
     PRAGMA wal_autocheckpoint = 0; PRAGMA journal_size_limit = 16777216; PRAGMA foreign_keys = OFF;";

/// The connection that writes, to a file that was checked. Foreign keys are off until
/// [`enforce_foreign_keys`].
pub(crate) fn writing(path: &Path, definition: &Definition) -> Result<Connection, OpenError> {
    for suffix in ["", "-wal", "-shm"] {
        let file = files::beside(path, suffix);
        files::make_private(&file).map_err(OpenError::disk("take others' rights from", &file))?;
    }
    let connect = || {
        let connection = read_write(path)?;
        connection.execute_batch(DURABLE)?;
        let mode: String = connection.query_row("PRAGMA journal_mode", [], |row| row.get(0))?;
        let synchronous = number(&connection, "synchronous")?;
        // A file that can only be read is noticed now, not by the first who is to be answered. SQLite
        // knows only after it has looked for the first time.
        connection.execute_batch("BEGIN IMMEDIATE; ROLLBACK")?;
        let is_read_only = connection.is_readonly("main")?;
        Ok((connection, mode, synchronous, is_read_only))
    };
    let (connection, mode, synchronous, is_read_only) =
        connect().map_err(OpenError::sqlite(definition.what, "write to", path))?;
    let refuse = |reason: String| Err(OpenError::disk("write to", path)(io::Error::other(reason)));
    if is_read_only {
        return refuse("it can only be read, by its rights, its file system or its header".to_owned());
    }
    if mode != "wal" || synchronous != 2 {
        return refuse(format!(
            "its file system allows no durable log (`journal_mode` is `{mode}`, `synchronous` {synchronous}): \
             put it on a local disk"
        ));
    }
    Ok(connection)
}

/// From here on a row cannot name another that is not there.
pub(crate) fn enforce_foreign_keys(connection: &Connection) -> rusqlite::Result<()> {
    connection.execute_batch("PRAGMA foreign_keys = ON")
}

/// A connection that reads, beside one that writes or alone.
pub(crate) fn reading(path: &Path) -> rusqlite::Result<Connection> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = open(path, flags)?;
    connection.execute_batch("PRAGMA query_only = ON")?;
    Ok(connection)
}

/// A connection that looks at a file which may be anything, and leaves it as it is.
pub(crate) fn looking(path: &Path) -> io::Result<rusqlite::Result<Connection>> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    if files::has_bytes(&files::beside(path, "-journal"))? {
        // A process was killed while SQLite turned a restored file, made without a log, into one
        // with a log. Only a connection that writes may undo that.
        return Ok(read_write(path));
    }
    if files::has_bytes(&files::beside(path, "-wal"))? {
        return Ok(open(path, flags));
    }
    // Without a log the file is all there is, and not even the log's empty files are made.
    let address = immutable_address(path);
    Ok(open(Path::new(&address), flags | OpenFlags::SQLITE_OPEN_URI))
}

/// A connection that writes a file which is not yet, or not any more, a database in use.
pub(crate) fn read_write(path: &Path) -> rusqlite::Result<Connection> {
    open(path, OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX)
}

/// Reads a number that SQLite keeps about a database.
pub(crate) fn number(connection: &Connection, pragma: &str) -> rusqlite::Result<i64> {
    connection.query_row(&format!("PRAGMA {pragma}"), [], |row| row.get(0))
}

fn open(path: &Path, flags: OpenFlags) -> rusqlite::Result<Connection> {
    let connection = Connection::open_with_flags(path, flags)?;
    connection.busy_timeout(BUSY_TIMEOUT)?;
    connection.execute_batch(SAFE)?;
    Ok(connection)
}

/// The path as SQLite's URI, with all but plain characters escaped.
fn immutable_address(path: &Path) -> String {
    let mut address = "file:".to_owned();
    for &byte in path.as_os_str().as_bytes() {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'/' | b'.' | b'-' | b'_') {
            address.push(char::from(byte));
        } else {
            write!(address, "%{byte:02X}").expect("a string takes whatever is written to it");
        }
    }
    address.push_str("?immutable=1");
    address
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_names_the_same_file_as_its_path() {
        assert_eq!(
            immutable_address(Path::new("/of mine/50%?#ü.db")),
            "file:/of%20mine/50%25%3F%23%C3%BC.db?immutable=1"
        );
    }
}
