//! Why a database cannot be opened, and why a write or a read did not happen.
//!
//! Two enums, since the first is for whoever starts the program and the second for whoever uses it.
//! The invariant: a message names the file and a way out.

use std::fmt;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rusqlite::ErrorCode;

use crate::{connection, files};

/// Why a database cannot be opened. It is as it was.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// It is not there, although it must be.
    #[error("{what} `{}` is missing: {restore}", path.display())]
    Missing {
        /// What the database is.
        what: &'static str,
        /// The file.
        path: PathBuf,
        /// The way out.
        restore: Restore,
    },
    /// It is there, but damaged.
    #[error("{what} `{}` is damaged ({reason}): {restore}", path.display())]
    Damaged {
        /// What the database is.
        what: &'static str,
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
        /// The way out.
        restore: Restore,
    },
    /// It was written by a newer version of the program.
    #[error(
        "{what} `{}` is of version {found}, and this program knows versions up to {known}: start the newer \
         program again, or {restore}",
        path.display()
    )]
    Newer {
        /// What the database is.
        what: &'static str,
        /// The file.
        path: PathBuf,
        /// Its version.
        found: i64,
        /// The newest version that this program knows.
        known: usize,
        /// The other way out.
        restore: GoBack,
    },
    /// It has an older version than this program reads, and was to be opened for reading only.
    #[error(
        "{what} `{}` is of version {found}, and this program reads version {known}: start its owner once, \
         which brings it up to date",
        path.display()
    )]
    Older {
        /// What the database is.
        what: &'static str,
        /// The file.
        path: PathBuf,
        /// Its version.
        found: usize,
        /// The version that this program reads.
        known: usize,
    },
    /// It belongs to another program.
    #[error("`{}` is a database of another program, not {what}: put the right file there", path.display())]
    Foreign {
        /// What the database should be.
        what: &'static str,
        /// The file.
        path: PathBuf,
    },
    /// Its bytes are not those of the last clean stop.
    #[error(
        "{what} `{}` was changed since the last clean stop: {restore}; if the change is wanted, remove `{}`",
        path.display(),
        seal.display()
    )]
    Altered {
        /// What the database is.
        what: &'static str,
        /// The file.
        path: PathBuf,
        /// The file with the checksum.
        seal: PathBuf,
        /// The way out.
        restore: Restore,
    },
    /// A change of its schema failed; it has the version that it had.
    #[error(
        "{what} `{}` cannot be brought from version {found} to {version}: {reason}; nothing was changed, \
         so go on with the former version of the program",
        path.display()
    )]
    Migration {
        /// What the database is.
        what: &'static str,
        /// The file.
        path: PathBuf,
        /// Its version; 0 if it was to be made.
        found: usize,
        /// The version that was not reached.
        version: usize,
        /// Why.
        reason: String,
    },
    /// The disk or the permissions.
    #[error("cannot {action} `{}`: {source}", path.display())]
    Disk {
        /// What was tried.
        action: &'static str,
        /// With which file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

impl OpenError {
    /// Turns the system's error about `path` into one that says what was tried.
    pub(crate) fn disk(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Disk { action, path, source }
    }

    pub(crate) fn missing(what: &'static str, path: &Path) -> Self {
        Self::Missing { what, path: path.to_owned(), restore: Restore::of(path) }
    }

    pub(crate) fn damaged(what: &'static str, path: &Path, reason: impl ToString) -> Self {
        let reason = reason.to_string();
        Self::Damaged { what, path: path.to_owned(), reason, restore: Restore::of(path) }
    }

    pub(crate) fn altered(what: &'static str, path: &Path, seal: PathBuf) -> Self {
        Self::Altered { what, path: path.to_owned(), seal, restore: Restore::of(path) }
    }

    /// Tells a file that is wrong from a disk that is, by what SQLite says.
    pub(crate) fn sqlite(
        what: &'static str,
        action: &'static str,
        path: &Path,
    ) -> impl Fn(rusqlite::Error) -> Self {
        let path = path.to_owned();
        move |error| match error.sqlite_error_code() {
            Some(
                ErrorCode::CannotOpen
                | ErrorCode::DatabaseBusy
                | ErrorCode::DatabaseLocked
                | ErrorCode::DiskFull
                | ErrorCode::NoLargeFileSupport
                | ErrorCode::OperationInterrupted
                | ErrorCode::OutOfMemory
                | ErrorCode::PermissionDenied
                | ErrorCode::ReadOnly,
            ) => Self::disk(action, &path)(io::Error::other(error)),
            // A file that ends too early is the file's fault, any other failed read the disk's.
            Some(ErrorCode::SystemIoFailure) if !is_short_read(&error) => {
                Self::disk(action, &path)(io::Error::other(error))
            }
            _ => Self::damaged(what, &path, error),
        }
    }
}

fn is_short_read(error: &rusqlite::Error) -> bool {
    let extended = error.sqlite_error().map(|error| error.extended_code);
    extended == Some(rusqlite::ffi::SQLITE_IOERR_SHORT_READ)
}

/// Why there is no copy of a database.
#[derive(Debug, thiserror::Error)]
pub enum CopyError {
    /// It, or the copy, is damaged or no database.
    #[error("`{}` is damaged: {reason}", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// Others kept it locked all the time.
    #[error("`{}` could not be written: others keep what it is a copy of locked", path.display())]
    Locked {
        /// The copy.
        path: PathBuf,
    },
    /// Whoever asked for it wants it no more.
    #[error("the copy was given up")]
    Stopped,
    /// The disk or the permissions.
    #[error("cannot {action} `{}`: {source}", path.display())]
    Disk {
        /// What was tried.
        action: &'static str,
        /// With which file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

impl CopyError {
    pub(crate) fn damaged(path: &Path, reason: impl ToString) -> Self {
        Self::Damaged { path: path.to_owned(), reason: reason.to_string() }
    }

    pub(crate) fn disk(action: &'static str, path: &Path, source: io::Error) -> Self {
        Self::Disk { action, path: path.to_owned(), source }
    }

    /// Tells a file that is wrong from a disk that is, by what SQLite says.
    pub(crate) fn source(path: &Path, error: rusqlite::Error) -> Self {
        match error.sqlite_error_code() {
            Some(ErrorCode::DiskFull) => {
                Self::disk("write", path, io::Error::new(io::ErrorKind::StorageFull, error))
            }
            Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => Self::damaged(path, error),
            Some(ErrorCode::SystemIoFailure) if is_short_read(&error) => Self::damaged(path, error),
            _ => Self::disk("copy", path, io::Error::other(error)),
        }
    }

    /// Whether the disk has no room for the copy.
    pub fn is_full(&self) -> bool {
        matches!(self, Self::Disk { source, .. } if source.kind() == io::ErrorKind::StorageFull)
    }
}

/// How to put an older state in the place of a database: the advice in messages.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Restore {
    database: PathBuf,
    /// The copy that was made before the schema last changed, if there is one.
    backup: Option<PathBuf>,
}

impl Restore {
    pub(crate) fn of(database: &Path) -> Self {
        Self { database: database.to_owned(), backup: newest_backup(database) }
    }
}

impl fmt::Display for Restore {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let path = self.database.display();
        // A log of other pages would be mixed into what is restored.
        write!(
            out,
            "restore it from a backup, with no `{path}-wal`, `{path}-shm` or `{path}.seal` of this one left beside it"
        )?;
        match &self.backup {
            Some(backup) => write!(out, " (`{}` is from before its last migration)", backup.display()),
            None => Ok(()),
        }
    }
}

/// The way back from a newer program: the advice in a message, with the command that does it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GoBack {
    restore: Restore,
    /// The newest copy that this program can read, if there is one.
    copy: Option<PathBuf>,
}

impl GoBack {
    /// Looks for a copy that a program of version `known` can read.
    pub(crate) fn of(database: &Path, known: usize) -> Self {
        let mut copies = backups(database);
        copies.sort_unstable_by(|one, other| other.cmp(one));
        let is_readable = |path: &PathBuf| {
            connection::looking(path)
                .ok()
                .and_then(Result::ok)
                .and_then(|connection| connection::number(&connection, "user_version").ok())
                .and_then(|version| usize::try_from(version).ok())
                .is_some_and(|version| (1..=known).contains(&version))
        };
        let copy = copies.into_iter().map(|(_, path)| path).find(is_readable);
        Self { restore: Restore::of(database), copy }
    }
}

impl fmt::Display for GoBack {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some(copy) = &self.copy else { return self.restore.fmt(out) };
        let beside = |suffix| quoted(&files::beside(&self.restore.database, suffix));
        let [path, newer, log, index, seal] = ["", ".newer", "-wal", "-shm", ".seal"].map(beside);
        let copy = quoted(copy);
        write!(
            out,
            "go back to the state before its migration, without what was written since: `mv {path} {newer} && \
             rm -f {log} {index} {seal} && cp -p {copy} {path}`"
        )
    }
}

/// A path as a shell takes it, whatever is in it.
fn quoted(path: &Path) -> String {
    format!("'{}'", path.display().to_string().replace('\'', r"'\''"))
}

/// The copies that migrations left, with the version that each migration led to.
pub(crate) fn backups(database: &Path) -> Vec<(usize, PathBuf)> {
    let Some(name) = database.file_name().and_then(|name| name.to_str()) else { return Vec::new() };
    // Whoever cannot list the directory gets a worse message, not another error.
    let Ok(items) = fs::read_dir(files::directory_of(database)) else { return Vec::new() };
    items
        .flatten()
        .filter_map(|item| {
            let file = item.file_name();
            let rest = file.to_str()?.strip_prefix(name)?;
            let version = rest.strip_prefix(".before-")?.parse().ok()?;
            Some((version, item.path()))
        })
        .collect()
}

fn newest_backup(database: &Path) -> Option<PathBuf> {
    backups(database).into_iter().max().map(|(_, path)| path)
}

/// Why a write or a read did not happen.
#[derive(Debug, thiserror::Error)]
pub enum DatabaseError {
    /// The disk is full: nothing was written. It heals by itself when there is room.
    #[error("the disk is full: make room and try again")]
    Full,
    /// The disk failed at a write or at an fsync: nothing was written. Nothing else is until the
    /// database has been opened anew and checked, which happens by itself.
    #[error(
        "the disk failed ({reason}), and nothing was changed: look at the disk; writes go on by themselves once the \
         database has been checked"
    )]
    Failing {
        /// What the disk said.
        reason: Arc<str>,
    },
    /// The database has been closed.
    #[error("the database is closed")]
    Closed,
    /// The job panicked, or the transaction that it shared was given up. The log says why.
    #[error("the database did not carry this out, and the log says why: try again")]
    Lost,
    /// The file was closed, but could not be sealed.
    #[error("the database was closed, but could not be sealed: {0}")]
    Seal(#[source] io::Error),
    /// SQLite refuses.
    #[error("the database failed: {0}")]
    Sqlite(#[source] rusqlite::Error),
}

impl DatabaseError {
    /// The same failure once more, for each of those who share it.
    pub(crate) fn copy_of(error: &rusqlite::Error) -> Self {
        match error {
            rusqlite::Error::SqliteFailure(failure, text) => {
                rusqlite::Error::SqliteFailure(*failure, text.clone()).into()
            }
            // What was asked for was `BEGIN` or `COMMIT`, which fail in no other way.
            _ => Self::Lost,
        }
    }

    /// Once more, for each of those who share it.
    pub(crate) fn again(&self) -> Self {
        match self {
            Self::Full => Self::Full,
            Self::Failing { reason } => Self::Failing { reason: Arc::clone(reason) },
            Self::Closed => Self::Closed,
            Self::Sqlite(error) => Self::copy_of(error),
            Self::Lost | Self::Seal(_) => Self::Lost,
        }
    }
}

impl From<rusqlite::Error> for DatabaseError {
    fn from(error: rusqlite::Error) -> Self {
        let is_full = error.sqlite_error().is_some_and(|failure| {
            // SQLite has no code of its own for a shared-memory file that cannot grow.
            failure.code == ErrorCode::DiskFull
                || failure.extended_code == rusqlite::ffi::SQLITE_IOERR_SHMSIZE
        });
        match error.sqlite_error_code() {
            _ if is_full => Self::Full,
            Some(ErrorCode::SystemIoFailure) => Self::Failing { reason: error.to_string().into() },
            _ => Self::Sqlite(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_names_the_newest_backup_and_what_must_not_be_left() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("notes.db");
        assert_eq!(newest_backup(&path), None);
        for name in ["notes.db.before-2", "notes.db.before-10", "notes.db.before-x", "other.db.before-11"] {
            fs::write(directory.path().join(name), "").unwrap();
        }
        let message = OpenError::damaged("the notes", &path, "a page is lost").to_string();
        for part in
            ["the notes", "a page is lost", "notes.db-wal`", "notes.db.seal`", "notes.db.before-10`"]
        {
            assert!(message.contains(part), "{part}: {message}");
        }
    }

    #[test]
    fn a_disk_that_fails_is_not_called_a_damaged_file() {
        let check = |code: i32, is_damage: bool| {
            let failure = rusqlite::Error::SqliteFailure(rusqlite::ffi::Error::new(code), None);
            let error = OpenError::sqlite("the notes", "read", Path::new("notes.db"))(failure);
            assert_eq!(matches!(error, OpenError::Damaged { .. }), is_damage, "{code}: {error}");
        };
        check(rusqlite::ffi::SQLITE_NOTADB, true);
        check(rusqlite::ffi::SQLITE_CORRUPT, true);
        check(rusqlite::ffi::SQLITE_IOERR_SHORT_READ, true);
        check(rusqlite::ffi::SQLITE_IOERR_READ, false);
        check(rusqlite::ffi::SQLITE_CANTOPEN, false);
        check(rusqlite::ffi::SQLITE_FULL, false);
        check(rusqlite::ffi::SQLITE_PERM, false);
    }
}
