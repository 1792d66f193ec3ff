//! What backups need of the host's own files, while it runs and where none runs.
//!
//! Not what is in a backup or how it is unpacked: the module `backup` knows that. The invariant: a key
//! that is given up is given up in the files that the next start reads, and the audit log's rows that
//! can no longer be verified are kept beside it as text.

use std::fmt;
use std::fs::{self, File};
use std::path::Path;

use bkg_sqlite::{CopyError, Database, Presence};

use super::audit::{AuditFile, AuditKey};
use super::{Action, DataDir, Outcome, Store, StoreError, atomic, database, revisions, take_lock};

/// The rows of an audit log whose key is lost.
const UNVERIFIED: &str = "audit-before-restore.jsonl";

impl Store {
    /// Copies the database as it is at this moment; others write on meanwhile. Blocks.
    ///
    /// # Errors
    /// Why there is no copy.
    pub fn copy_database(&self, target: &Path, goes_on: &dyn Fn() -> bool) -> Result<(), CopyError> {
        self.database.copy_to(target, goes_on)
    }

    /// What tells whether another file holds the same key, and says nothing to who has not `audit.key`.
    pub fn print_of_key(&self, key: &[u8]) -> String {
        self.key.print(key)
    }

    /// Whether anything is sealed with `secrets.key`. Blocks.
    ///
    /// # Errors
    /// The database's.
    pub fn has_secrets(&self) -> Result<bool, StoreError> {
        self.database.read_blocking(|connection| Ok(revisions::have_secrets(connection)?))
    }

    /// Writes something that has its outcome already into the audit log. Blocks.
    ///
    /// # Errors
    /// The database's.
    pub fn note_blocking(&self, action: Action, outcome: Outcome) -> Result<(), StoreError> {
        let key = self.key.clone();
        self.database
            .write_blocking(move |connection| super::audit::record(connection, &key, &action, outcome))
    }
}

/// Makes prints of keys with the `audit.key` of a data directory.
#[derive(Debug)]
pub struct KeyPrints(AuditKey);

impl KeyPrints {
    /// Those of a directory; `None` if it has no such key or a damaged one.
    pub fn of(data_dir: &Path) -> Option<Self> {
        AuditKey::read(data_dir).ok().flatten().map(Self)
    }

    /// The print of a key, as [`Store::print_of_key`] makes it.
    pub fn print(&self, key: &[u8]) -> String {
        self.0.print(key)
    }
}

/// A data directory that no host may start on while this is held.
pub struct DirLock(#[allow(dead_code, reason = "held, not read")] File);

impl DirLock {
    /// Takes a directory that has been a data directory before; `None` if it never was one.
    ///
    /// # Errors
    /// [`StoreError::Locked`] if a host runs on it, or the disk's.
    pub fn take(data_dir: &Path) -> Result<Option<Self>, StoreError> {
        if !data_dir.join(super::LOCK).exists() && !database::path(data_dir).exists() {
            return Ok(None);
        }
        take_lock(data_dir).map(Self).map(Some)
    }
}

impl fmt::Debug for DirLock {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("DirLock")
    }
}

/// Gives up what `secrets.key` would open: the next start makes another. Blocks.
///
/// # Errors
/// The disk's.
pub fn give_up_secrets(data_dir: &Path) -> Result<(), StoreError> {
    let path = data_dir.join("secrets.key");
    atomic::write_atomic(&path, b"new\n", 0o600).map_err(StoreError::disk("write", &path))
}

/// Has the audit log begin anew with another key. What is in it can no longer be verified, and is kept
/// as text in a file beside it. Blocks.
///
/// # Errors
/// The database's or the disk's.
pub fn begin_audit_anew(data_dir: &Path) -> Result<(), StoreError> {
    let database = Database::open(&database::path(data_dir), &database::DEFINITION, Presence::MustExist)?;
    let begun = (|| {
        AuditFile::open(data_dir)?.export_to_file(None, &data_dir.join(UNVERIFIED))?;
        let key = AuditKey::random();
        let first = key.clone();
        database.write_blocking(move |connection| {
            connection.execute_batch("DELETE FROM audit; DELETE FROM audit_head")?;
            Ok::<_, StoreError>(super::audit::begin(connection, &first)?)
        })?;
        key.save(data_dir)
    })();
    database.close()?;
    begun
}

/// Opens what was restored as a host would, which brings it up to date and checks that its keys fit,
/// notes it in the audit log, verifies that and closes it again. Blocks.
///
/// # Errors
/// Why no host could start on it.
pub fn try_out(data_dir: &Path, action: Action) -> Result<super::Verification, StoreError> {
    let data = DataDir::open(data_dir)?;
    let store = Store::open(&data)?;
    let noted = store.note_blocking(action, Outcome::Done);
    store.close()?;
    noted?;
    let verification = AuditFile::open(data_dir)?.verify()?;
    // The next host takes its own; this one's pid would only mislead.
    let lock = data_dir.join(super::LOCK);
    drop(data);
    fs::remove_file(&lock).map_err(StoreError::disk("remove", &lock))?;
    Ok(verification)
}
