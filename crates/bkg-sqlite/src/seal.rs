//! The seal: a checksum beside a database that was closed in order.
//!
//! SQLite's pages have no checksums, so a flipped byte inside a value goes unseen by its own checks.
//! The invariant: while a seal is there, nobody has the database open for writing.

use std::ffi::OsString;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use crate::error::OpenError;

/// The path of a file beside the database: its name with something added.
pub(crate) fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = OsString::from(path);
    name.push(suffix);
    name.into()
}

/// Where the seal of a database is.
pub(crate) fn path_of(database: &Path) -> PathBuf {
    beside(database, ".seal")
}

/// Checks the seal if there is one.
pub(crate) fn check(what: &'static str, database: &Path) -> Result<(), OpenError> {
    let seal = path_of(database);
    let disk = |action, path: &Path| {
        let path = path.to_owned();
        move |source| OpenError::Disk { action, path, source }
    };
    let text = match fs::read_to_string(&seal) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(disk("read", &seal)(error)),
    };
    // Whoever sealed it had emptied its log: a log beside a sealed database is somebody else's.
    let log = beside(database, "-wal");
    let log_is_empty = fs::metadata(&log).map_or(true, |log| log.len() == 0);
    if log_is_empty && text == sum(database).map_err(disk("read", database))? {
        return Ok(());
    }
    Err(OpenError::Altered { what, path: database.to_owned(), seal })
}

/// Removes the seal: the database is about to be written to.
pub(crate) fn break_open(database: &Path) -> io::Result<()> {
    match fs::remove_file(path_of(database)) {
        Ok(()) => sync_directory(database),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error),
    }
}

/// Seals a database that is closed.
pub(crate) fn write(database: &Path) -> io::Result<()> {
    let temporary = beside(database, ".seal.new");
    let mut file =
        OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&temporary)?;
    file.write_all(sum(database)?.as_bytes())?;
    file.sync_all()?;
    fs::rename(&temporary, path_of(database))?;
    sync_directory(database)
}

/// Makes a rename or a removal in the database's directory durable.
pub(crate) fn sync_directory(database: &Path) -> io::Result<()> {
    let directory = match database.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    File::open(directory)?.sync_all()
}

fn sum(path: &Path) -> io::Result<String> {
    let mut file = File::open(path)?;
    let (mut hasher, mut size, mut buffer) = (Sha256::new(), 0_u64, vec![0; 64 << 10]);
    loop {
        let read = file.read(&mut buffer)?;
        if read == 0 {
            break;
        }
        hasher.update(&buffer[..read]);
        size += read as u64;
    }
    let hex: String = hasher.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
    Ok(format!("sha256 {hex} {size}\n"))
}
