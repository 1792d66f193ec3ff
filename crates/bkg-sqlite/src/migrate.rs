//! Bringing a schema to the newest version: the first one in a new file, later ones in an old file.
//!
//! Not whether a file may be used. The invariant: a database has one version or the other, whole,
//! after a crash at any moment, and before an old file changes, a copy of it is on the disk. Opening
//! calls this.

use std::io;
use std::path::{Path, PathBuf};

use rusqlite::Connection;

use crate::connection;
use crate::copy;
use crate::definition::Definition;
use crate::error::{self, OpenError};
use crate::files;

/// What a killed process may have left of steps that were not finished.
const UNFINISHED: [&str; 2] = [".new", ".before.new"];
/// How many copies of before migrations are kept.
const KEPT: usize = 2;

/// Makes a database beside its place and renames it: it is there whole, or not at all.
pub(crate) fn make(path: &Path, definition: &Definition) -> Result<(), OpenError> {
    let temporary = files::beside(path, ".new");
    let made = build(path, &temporary, definition)
        .and_then(|()| files::publish(&temporary, path).map_err(OpenError::disk("make", path)));
    if made.is_err() {
        // The first error counts; the next start tries again to remove this.
        let _ = files::remove_database(&temporary);
    }
    made
}

/// Brings an existing database from `found` to the newest version, or leaves it as it is.
pub(crate) fn migrate(
    path: &Path,
    definition: &Definition,
    found: usize,
    connection: &mut Connection,
) -> Result<(), OpenError> {
    change(path, definition, found, connection)?;
    let to = definition.newest();
    tracing::info!(database = definition.what, path = %path.display(), from = found, to, "database migrated");
    Ok(())
}

/// Keeps a database as it is before its schema changes.
pub(crate) fn back_up(path: &Path, definition: &Definition, source: &Connection) -> Result<(), OpenError> {
    let temporary = files::beside(path, ".before.new");
    let backup = backup_path(path, definition.newest());
    let copied = copy::copy_open(source, path, &temporary, &|| true)
        .map_err(io::Error::other)
        .and_then(|()| files::publish(&temporary, &backup));
    if let Err(error) = copied {
        // The first error counts; the next start tries again to remove this.
        let _ = files::remove_database(&temporary);
        return Err(OpenError::disk("write the backup", &backup)(error));
    }
    tracing::info!(database = definition.what, backup = %backup.display(), "database backed up before its migration");
    Ok(())
}

/// Removes the copies of all but the newest migrations.
pub(crate) fn forget_older_backups(path: &Path) {
    let mut backups = error::backups(path);
    backups.sort_unstable_by(|one, other| other.cmp(one));
    for (_, backup) in backups.into_iter().skip(KEPT) {
        if let Err(error) = files::remove(&backup) {
            tracing::warn!(backup = %backup.display(), %error, "an old backup of the database cannot be removed");
        }
    }
}

/// Removes what was not finished when a process was killed.
pub(crate) fn remove_unfinished(path: &Path) -> Result<(), OpenError> {
    for suffix in UNFINISHED {
        let unfinished = files::beside(path, suffix);
        files::remove_database(&unfinished).map_err(OpenError::disk("remove", &unfinished))?;
    }
    Ok(())
}

/// Named after the version that the migration leads to.
fn backup_path(path: &Path, version: usize) -> PathBuf {
    files::beside(path, &format!(".before-{version}"))
}

fn build(path: &Path, temporary: &Path, definition: &Definition) -> Result<(), OpenError> {
    files::create_private(temporary).map_err(OpenError::disk("make", temporary))?;
    let wrong = OpenError::sqlite(definition.what, "make", temporary);
    let mut connection = connection::read_write(temporary).map_err(&wrong)?;
    let begin = || {
        connection.execute_batch("PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL;")?;
        connection.pragma_update(None, "application_id", definition.application_id)
    };
    begin().map_err(&wrong)?;
    change(path, definition, 0, &mut connection)?;
    // Closing brings the log into the file.
    connection.close().map_err(|(_, error)| wrong(error))
}

enum RunError {
    Sqlite(rusqlite::Error),
    /// A row refers to one that is not there.
    Orphan {
        table: String,
    },
}

impl From<rusqlite::Error> for RunError {
    fn from(error: rusqlite::Error) -> Self {
        Self::Sqlite(error)
    }
}

/// [`run`], with an error that says what was to become of which file.
fn change(
    path: &Path,
    definition: &Definition,
    found: usize,
    connection: &mut Connection,
) -> Result<(), OpenError> {
    run(connection, definition, found).map_err(|error| OpenError::Migration {
        what: definition.what,
        path: path.to_owned(),
        found,
        version: definition.newest(),
        reason: match error {
            RunError::Sqlite(error) => error.to_string(),
            RunError::Orphan { table } => {
                format!("a row of `{table}` refers to one that would not be there")
            }
        },
    })
}

/// All that is missing, in one transaction.
fn run(connection: &mut Connection, definition: &Definition, found: usize) -> Result<(), RunError> {
    let transaction = connection.transaction()?;
    for sql in &definition.migrations[found..] {
        transaction.execute_batch(sql)?;
    }
    let orphan = transaction.query_row("PRAGMA foreign_key_check", [], |row| row.get("table"));
    match orphan {
        Err(rusqlite::Error::QueryReturnedNoRows) => {}
        Err(error) => return Err(error.into()),
        Ok(table) => return Err(RunError::Orphan { table }),
    }
    let version = i64::try_from(definition.newest()).expect("migrations are written by hand");
    transaction.pragma_update(None, "user_version", version)?;
    Ok(transaction.commit()?)
}
