//! The audit log of a data directory, read straight from its files: for the command line.
//!
//! Works beside a running host and without one, and writes nothing. Every question sees one state of
//! the log, whatever the host adds meanwhile. Who may ask is who may read the files.

use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use bkg_sqlite::rusqlite::Connection;
use jiff::Timestamp;

use super::super::{StoreError, atomic, database};
use super::entry::{AuditFilter, AuditRow, each, page};
use super::key::AuditKey;
use super::verify::{Verification, verify};

/// The audit log of a data directory that may belong to a running host.
#[derive(Debug)]
pub struct AuditFile {
    connection: Connection,
    data_dir: PathBuf,
}

impl AuditFile {
    /// Opens the log.
    ///
    /// # Errors
    /// [`StoreError::Open`] if there is none or it cannot be read.
    pub fn open(data_dir: &Path) -> Result<Self, StoreError> {
        let connection = bkg_sqlite::open_read_only(&database::path(data_dir), &database::DEFINITION)?;
        Ok(Self { connection, data_dir: data_dir.to_owned() })
    }

    /// Walks the whole chain.
    ///
    /// # Errors
    /// The database's, or [`StoreError::AuditKeyLost`]: without the key nothing can be told.
    pub fn verify(&mut self) -> Result<Verification, StoreError> {
        let key = AuditKey::read(&self.data_dir)?
            .ok_or_else(|| StoreError::AuditKeyLost { path: AuditKey::path(&self.data_dir) })?;
        let snapshot = self.connection.transaction()?;
        Ok(verify(&snapshot, &key)?)
    }

    /// The rows that `filter` wants, newest first.
    ///
    /// # Errors
    /// The database's.
    pub fn page(&self, filter: &AuditFilter) -> Result<Vec<AuditRow>, StoreError> {
        Ok(page(&self.connection, filter)?)
    }

    /// Writes the rows since a moment to `file`, one JSON object in a line, oldest first, and answers how
    /// many. The file, for its owner alone, is there whole or not at all.
    ///
    /// # Errors
    /// The database's or the disk's; `file` is then what it was before.
    pub fn export_to_file(&self, since: Option<Timestamp>, file: &Path) -> Result<u64, StoreError> {
        if file.symlink_metadata().is_ok_and(|metadata| !metadata.is_file()) {
            let reason = io::Error::other("it is there and no ordinary file; choose another name");
            return Err(StoreError::disk("write", file)(reason));
        }
        let mut exported = Ok(0);
        let written = atomic::write_atomic_with(file, 0o600, |target| {
            let mut target = BufWriter::new(target);
            exported = self.export(since, |line| {
                target.write_all(line.as_bytes()).map_err(StoreError::disk("write", file))
            });
            match &exported {
                Ok(_) => target.flush(),
                // The reason is in `exported`; this keeps the half of it from its place.
                Err(_) => Err(io::ErrorKind::Other.into()),
            }
        });
        let count = exported?;
        written.map_err(StoreError::disk("write", file))?;
        Ok(count)
    }

    /// Hands the rows since a moment to `take`, each as a JSON object with its line end, oldest first, and
    /// answers how many.
    ///
    /// # Errors
    /// The database's, or what `take` failed with.
    pub fn export<E: From<StoreError>>(
        &self,
        since: Option<Timestamp>,
        mut take: impl FnMut(&str) -> Result<(), E>,
    ) -> Result<u64, E> {
        let mut count = 0;
        each(&self.connection, since, |row| {
            let mut line = serde_json::to_string(&row).expect("a row has a JSON form");
            line.push('\n');
            count += 1;
            take(&line)
        })?;
        Ok(count)
    }
}
