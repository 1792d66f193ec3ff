//! Opening a database: checks first, and nothing is written before all of them have passed.

use std::fs::{self, OpenOptions};
use std::io;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::Path;
use std::time::Duration;

use rusqlite::{Connection, OpenFlags};

use crate::error::OpenError;
use crate::seal;

/// What a database is: fixed by the program that owns it.
#[derive(Debug)]
pub struct Definition {
    /// What it is called in messages: "the host's database".
    pub what: &'static str,
    /// `PRAGMA application_id`: tells our files from others'.
    pub application_id: i32,
    /// The SQL that leads to each version, in order: version N by the Nth. Never edited once released.
    pub migrations: &'static [&'static str],
}

/// Whether a database may be made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Presence {
    /// It is made if it is not there.
    MayBeNew,
    /// It was there before: if it is missing, it was lost.
    MustExist,
}

impl Definition {
    fn newest(&self) -> i64 {
        self.migrations.len() as i64
    }

    fn damaged(&self, path: &Path, reason: impl ToString) -> OpenError {
        OpenError::Damaged { what: self.what, path: path.to_owned(), reason: reason.to_string() }
    }

    fn disk(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> OpenError {
        let path = path.to_owned();
        move |source| OpenError::Disk { action, path, source }
    }

    fn sqlite(&self, path: &Path) -> impl Fn(rusqlite::Error) -> OpenError {
        move |error| self.damaged(path, error)
    }
}

/// Opens a database for writing, making it or bringing it to the newest version where needed.
pub(crate) fn open(
    path: &Path,
    definition: &Definition,
    presence: Presence,
) -> Result<Connection, OpenError> {
    let size = match fs::metadata(path) {
        Ok(metadata) => metadata.len(),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let log = seal::beside(path, "-wal");
            if presence == Presence::MustExist || log.exists() || seal::path_of(path).exists() {
                return Err(OpenError::Missing { what: definition.what, path: path.to_owned() });
            }
            make(path, definition)?;
            return connect(path, definition);
        }
        Err(error) => return Err(Definition::disk("look at", path)(error)),
    };
    if size == 0 {
        return Err(definition.damaged(path, "it is empty"));
    }
    seal::check(definition.what, path)?;
    let version = inspect(path, definition)?;
    if version < definition.newest() {
        back_up(path, definition, version)?;
    }
    seal::break_open(path).map_err(Definition::disk("break the seal of", path))?;
    let mut connection = connect(path, definition)?;
    migrate(&mut connection, path, definition, version)?;
    Ok(connection)
}

/// Opens a database that is there for reading only.
pub(crate) fn open_read_only(path: &Path, definition: &Definition) -> Result<Connection, OpenError> {
    if !path.exists() {
        return Err(OpenError::Missing { what: definition.what, path: path.to_owned() });
    }
    let connection = reader(path, definition)?;
    check_identity(&connection, path, definition)?;
    Ok(connection)
}

/// A read-only connection to a database that was checked.
pub(crate) fn reader(path: &Path, definition: &Definition) -> Result<Connection, OpenError> {
    let connect = || {
        let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let connection = Connection::open_with_flags(path, flags)?;
        connection.busy_timeout(Duration::from_secs(5))?;
        connection.execute_batch(
            "PRAGMA query_only = ON; PRAGMA trusted_schema = OFF; PRAGMA cell_size_check = ON;",
        )?;
        Ok(connection)
    };
    connect().map_err(definition.sqlite(path))
}

/// Whose database it is, and of which version.
fn check_identity(connection: &Connection, path: &Path, definition: &Definition) -> Result<i64, OpenError> {
    let number = |name: &str| {
        connection
            .query_row(&format!("PRAGMA {name}"), [], |row| row.get::<_, i64>(0))
            .map_err(definition.sqlite(path))
    };
    let (id, version) = (number("application_id")?, number("user_version")?);
    if id != i64::from(definition.application_id) {
        return Err(OpenError::Foreign { what: definition.what, path: path.to_owned() });
    }
    let known = definition.newest();
    if version > known {
        return Err(OpenError::Newer {
            what: definition.what,
            path: path.to_owned(),
            found: version,
            known,
        });
    }
    Ok(version)
}

/// Checks a database without changing it, and answers its version.
fn inspect(path: &Path, definition: &Definition) -> Result<i64, OpenError> {
    let connection = reader(path, definition)?;
    let version = check_identity(&connection, path, definition)?;
    let verdict: String = connection
        .query_row("PRAGMA quick_check(1)", [], |row| row.get(0))
        .map_err(definition.sqlite(path))?;
    if verdict != "ok" {
        return Err(definition.damaged(path, verdict));
    }
    if version < 1 {
        return Err(definition.damaged(path, "it has no version"));
    }
    Ok(version)
}

/// Makes a database beside its place and renames it: it is there whole, or not at all.
fn make(path: &Path, definition: &Definition) -> Result<(), OpenError> {
    let temporary = seal::beside(path, ".new");
    remove_with_companions(&temporary).map_err(Definition::disk("remove", &temporary))?;
    OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&temporary)
        .map_err(Definition::disk("make", &temporary))?;
    let build = || {
        let mut connection = Connection::open(&temporary)?;
        connection.execute_batch("PRAGMA synchronous = FULL;")?;
        connection.pragma_update(None, "application_id", definition.application_id)?;
        let transaction = connection.transaction()?;
        for sql in definition.migrations {
            transaction.execute_batch(sql)?;
        }
        transaction.pragma_update(None, "user_version", definition.newest())?;
        transaction.commit()?;
        connection.close().map_err(|(_, error)| error)
    };
    build().map_err(definition.sqlite(&temporary))?;
    let publish = || {
        fs::File::open(&temporary)?.sync_all()?;
        fs::rename(&temporary, path)?;
        seal::sync_directory(path)
    };
    publish().map_err(Definition::disk("make", path))
}

fn remove_with_companions(path: &Path) -> io::Result<()> {
    for suffix in ["", "-wal", "-shm", "-journal"] {
        match fs::remove_file(seal::beside(path, suffix)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
    }
    Ok(())
}

/// The writing connection.
fn connect(path: &Path, definition: &Definition) -> Result<Connection, OpenError> {
    fs::set_permissions(path, fs::Permissions::from_mode(0o600))
        .map_err(Definition::disk("close", path))?;
    let connect = || {
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let connection = Connection::open_with_flags(path, flags)?;
        connection.busy_timeout(Duration::from_secs(5))?;
        connection.execute_batch(
            "PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; PRAGMA foreign_keys = ON; \
             PRAGMA trusted_schema = OFF; PRAGMA cell_size_check = ON; PRAGMA secure_delete = ON; \
             PRAGMA temp_store = MEMORY;",
        )?;
        let mode: String = connection.query_row("PRAGMA journal_mode", [], |row| row.get(0))?;
        let synchronous: i64 = connection.query_row("PRAGMA synchronous", [], |row| row.get(0))?;
        Ok((connection, mode, synchronous))
    };
    let (connection, mode, synchronous) = connect().map_err(definition.sqlite(path))?;
    if mode != "wal" || synchronous != 2 {
        let reason = format!("the file system allows no write-ahead log (`{mode}`, {synchronous})");
        return Err(definition.damaged(path, reason));
    }
    Ok(connection)
}

/// Keeps the database as it is before its schema changes.
fn back_up(path: &Path, definition: &Definition, version: i64) -> Result<(), OpenError> {
    let backup = seal::beside(path, &format!(".v{version}.bak"));
    let temporary = seal::beside(path, ".bak.new");
    let failed = Definition::disk("write the backup", &backup);
    let copy = || -> io::Result<()> {
        remove_with_companions(&temporary)?;
        OpenOptions::new().write(true).create_new(true).mode(0o600).open(&temporary)?;
        let source = reader(path, definition).map_err(io::Error::other)?;
        // The copy is a write, though not to the database that is copied.
        source.execute_batch("PRAGMA query_only = OFF").map_err(io::Error::other)?;
        let target = temporary.to_str().ok_or(io::ErrorKind::InvalidFilename)?;
        source.execute("VACUUM INTO ?1", [target]).map_err(io::Error::other)?;
        fs::File::open(&temporary)?.sync_all()?;
        fs::rename(&temporary, &backup)?;
        seal::sync_directory(path)
    };
    copy().map_err(failed)
}

/// Brings a database to the newest version, or leaves it as it is.
fn migrate(
    connection: &mut Connection,
    path: &Path,
    definition: &Definition,
    version: i64,
) -> Result<(), OpenError> {
    let pending = &definition.migrations[version as usize..];
    if pending.is_empty() {
        return Ok(());
    }
    let mut run = || {
        let transaction = connection.transaction()?;
        for sql in pending {
            transaction.execute_batch(sql)?;
        }
        transaction.pragma_update(None, "user_version", definition.newest())?;
        transaction.commit()
    };
    run().map_err(|error: rusqlite::Error| OpenError::Migration {
        what: definition.what,
        path: path.to_owned(),
        version: definition.migrations.len(),
        reason: error.to_string(),
    })
}
