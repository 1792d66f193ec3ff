//! Opening a database: whether a file may be used, and as what.
//!
//! Not how it is used afterwards. The invariant: nothing is written before every check has passed, and
//! what does not pass is refused as it is: never repaired, never made anew. [`Database`] and the
//! command lines of owners call this.
//!
//! [`Database`]: crate::Database

use std::path::Path;

use rusqlite::Connection;

use crate::connection;
use crate::definition::{Definition, Presence};
use crate::error::{self, OpenError};
use crate::files;
use crate::migrate;
use crate::seal;

/// Opens a database for writing, making it or bringing it to the newest version where needed.
pub(crate) fn open(
    path: &Path,
    definition: &Definition,
    presence: Presence,
) -> Result<Connection, OpenError> {
    let what = definition.what;
    let length = files::length(path).map_err(OpenError::disk("look at", path))?;
    let found = match length {
        Some(_) => check(path, definition)?,
        None if presence == Presence::MustExist || has_left_traces(path)? => {
            return Err(OpenError::missing(what, path));
        }
        None => {
            migrate::remove_unfinished(path)?;
            migrate::make(path, definition)?;
            tracing::info!(database = what, path = %path.display(), "database made");
            definition.newest()
        }
    };
    seal::remove(path).map_err(OpenError::disk("remove the seal of", path))?;
    let mut connection = connection::writing(path, definition)?;
    if found < definition.newest() {
        migrate::migrate(path, definition, found, &mut connection)?;
        migrate::forget_older_backups(path);
    }
    connection::enforce_foreign_keys(&connection).map_err(OpenError::sqlite(what, "write to", path))?;
    Ok(connection)
}

/// Opens a database that is there for reading only, beside its owner or without one.
///
/// Neither the seal nor the pages are checked: its owner does that, and who reads wants to see.
///
/// # Errors
/// Why it cannot be opened.
pub fn open_read_only(path: &Path, definition: &Definition) -> Result<Connection, OpenError> {
    refuse_absent(path, definition)?;
    let connection = connection::reading(path).map_err(OpenError::sqlite(definition.what, "read", path))?;
    let found = identify(&connection, path, definition)?;
    if found < definition.newest() {
        let known = definition.newest();
        return Err(OpenError::Older { what: definition.what, path: path.to_owned(), found, known });
    }
    Ok(connection)
}

/// Checks an existing database without changing it, and answers its version. If that is not the
/// newest, a copy of the database has been kept.
fn check(path: &Path, definition: &Definition) -> Result<usize, OpenError> {
    let what = definition.what;
    refuse_absent(path, definition)?;
    seal::check(what, path)?;
    let wrong = OpenError::sqlite(what, "read", path);
    let looked = connection::looking(path).map_err(OpenError::disk("look at", path))?;
    let connection = looked.map_err(&wrong)?;
    let found = identify(&connection, path, definition)?;
    let verdict = connection.query_row("PRAGMA quick_check(1)", [], |row| row.get::<_, String>(0));
    let verdict = verdict.map_err(&wrong)?;
    if verdict != "ok" {
        return Err(OpenError::damaged(what, path, verdict));
    }
    migrate::remove_unfinished(path)?;
    if found < definition.newest() {
        migrate::back_up(path, definition, &connection)?;
    }
    Ok(found)
}

fn refuse_absent(path: &Path, definition: &Definition) -> Result<(), OpenError> {
    match files::length(path).map_err(OpenError::disk("look at", path))? {
        None => Err(OpenError::missing(definition.what, path)),
        // SQLite would take it for a new database.
        Some(0) => Err(OpenError::damaged(definition.what, path, "it is empty")),
        Some(_) => Ok(()),
    }
}

/// Whether there once was a database here.
fn has_left_traces(path: &Path) -> Result<bool, OpenError> {
    for suffix in ["-wal", "-journal", ".seal"] {
        let trace = files::beside(path, suffix);
        if files::length(&trace).map_err(OpenError::disk("look at", &trace))?.is_some() {
            return Ok(true);
        }
    }
    Ok(!error::backups(path).is_empty())
}

/// Whose database it is, and of which version.
fn identify(connection: &Connection, path: &Path, definition: &Definition) -> Result<usize, OpenError> {
    let what = definition.what;
    let number =
        |pragma| connection::number(connection, pragma).map_err(OpenError::sqlite(what, "read", path));
    let (id, found) = (number("application_id")?, number("user_version")?);
    if id != i64::from(definition.application_id) {
        return Err(OpenError::Foreign { what, path: path.to_owned() });
    }
    let known = definition.newest();
    match usize::try_from(found) {
        Ok(version @ 1..) if version <= known => Ok(version),
        Ok(1..) => {
            let restore = error::GoBack::of(path, known);
            Err(OpenError::Newer { what, path: path.to_owned(), found, known, restore })
        }
        _ => Err(OpenError::damaged(what, path, format!("it has no version, but `{found}`"))),
    }
}
