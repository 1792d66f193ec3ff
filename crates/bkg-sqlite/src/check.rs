//! Opening a database that this process has open, and does not trust any more because the disk failed.
//!
//! Not the first opening, which may refuse and leave the file to an operator. The invariant: what comes
//! out has every acknowledged row in the file and on the disk, an empty log, and a disk that has just
//! taken an fsync. The writer's thread calls this until it succeeds.

use std::path::Path;

use rusqlite::Connection;

use crate::connection;
use crate::definition::Definition;
use crate::error::DatabaseError;

/// Opens the file anew, brings the log into it, checks it, and writes to it.
///
/// # Errors
/// [`DatabaseError::Full`] where that takes more room than there is; else
/// [`DatabaseError::Failing`] with what is wrong.
pub(crate) fn open_anew(path: &Path, definition: &Definition) -> Result<Connection, DatabaseError> {
    let failing = |reason: String| DatabaseError::Failing { reason: reason.into() };
    let opened = connection::writing(path, definition);
    let connection = opened.map_err(|error| failing(error.to_string()))?;
    prove(&connection).map_err(|error| match error {
        DatabaseError::Sqlite(error) => failing(error.to_string()),
        error => error,
    })?;
    Ok(connection)
}

fn prove(connection: &Connection) -> Result<(), DatabaseError> {
    connection::enforce_foreign_keys(connection)?;
    // A transaction whose fsync failed has left its frames in the log, behind the last that counts. After
    // a crash they would count: they go with the log.
    let is_read: bool = connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |row| row.get(0))?;
    if is_read {
        let reason = "another process reads it, so it cannot be checked yet";
        return Err(DatabaseError::Failing { reason: reason.into() });
    }
    let verdict: String = connection.query_row("PRAGMA quick_check(1)", [], |row| row.get(0))?;
    if verdict != "ok" {
        let reason = format!("it is damaged: {verdict}; stop its owner and restore it from a backup");
        return Err(DatabaseError::Failing { reason: reason.into() });
    }
    // A commit of its own, with the fsync that failed before.
    let version = connection::number(connection, "user_version")?;
    connection.pragma_update(None, "user_version", version)?;
    Ok(())
}
