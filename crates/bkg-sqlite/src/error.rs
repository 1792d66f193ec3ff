//! Why a database cannot be opened, and why a write or a read did not happen.

use std::path::PathBuf;

/// Why a database cannot be opened. The file is as it was.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// It is not there, although it must be.
    #[error("{what} `{}` is missing: restore it from a backup", path.display())]
    Missing {
        /// What the database is.
        what: &'static str,
        /// The file.
        path: PathBuf,
    },
    /// It is there, but damaged.
    #[error("{what} `{}` is damaged ({reason}): restore it from a backup", path.display())]
    Damaged {
        /// What the database is.
        what: &'static str,
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// It was written by a newer program.
    #[error(
        "{what} `{}` is of version {found}, and this program knows versions up to {known}: start the newer program, or restore the backup that it made",
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
        known: i64,
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
        "{what} `{}` was changed since the last clean stop: restore it from a backup, or, if the change is wanted, remove `{}`",
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
    },
    /// A change of its schema failed; it is of the version that it was.
    #[error("{what} `{}` cannot be brought to version {version}: {reason}", path.display())]
    Migration {
        /// What the database is.
        what: &'static str,
        /// The file.
        path: PathBuf,
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
        source: std::io::Error,
    },
}

/// Why a write or a read did not happen.
#[derive(Debug, thiserror::Error)]
pub enum DatabaseError {
    /// The disk is full: nothing was written.
    #[error("the disk is full: make room and try again")]
    Full,
    /// The database has been closed.
    #[error("the database is closed")]
    Closed,
    /// The job or its transaction broke off: it was undone. The log says why.
    #[error("the database did not carry the job out; the log says why")]
    Lost,
    /// The file could not be sealed.
    #[error("the database could not be sealed: {0}")]
    Seal(#[from] std::io::Error),
    /// SQLite says no.
    #[error("the database failed: {0}")]
    Sqlite(rusqlite::Error),
}

impl From<rusqlite::Error> for DatabaseError {
    fn from(error: rusqlite::Error) -> Self {
        match error.sqlite_error_code() {
            Some(rusqlite::ErrorCode::DiskFull) => Self::Full,
            _ => Self::Sqlite(error),
        }
    }
}
