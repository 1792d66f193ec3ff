//! The files around a database: their names, and steps on them that survive a power cut.
//!
//! Not what is in them. The invariant: a file that is published under its name is whole and on the
//! disk. Used by whatever makes, copies or seals a database.

use std::ffi::OsString;
use std::fs::{self, File, OpenOptions, Permissions};
use std::io;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

/// What only the owner may read and write.
pub(crate) const PRIVATE: u32 = 0o600;

/// The path of a file beside the database: its name with something added.
pub(crate) fn beside(database: &Path, suffix: &str) -> PathBuf {
    let mut name = OsString::from(database);
    name.push(suffix);
    name.into()
}

/// The directory that a file is in.
pub(crate) fn directory_of(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    }
}

/// How many bytes a file has; `None` if it is not there.
pub(crate) fn length(path: &Path) -> io::Result<Option<u64>> {
    match fs::metadata(path) {
        Ok(metadata) => Ok(Some(metadata.len())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// Whether a file is there and has anything in it.
pub(crate) fn has_bytes(path: &Path) -> io::Result<bool> {
    Ok(length(path)?.is_some_and(|length| length > 0))
}

/// Makes an empty file for the owner alone, in place of what a killed process left there.
pub(crate) fn create_private(path: &Path) -> io::Result<File> {
    remove(path)?;
    let file = OpenOptions::new().write(true).create_new(true).mode(PRIVATE).open(path)?;
    // The umask may have taken bits away.
    file.set_permissions(Permissions::from_mode(PRIVATE))?;
    Ok(file)
}

/// Takes a file away from everybody but its owner; one that is not there is nobody's already.
pub(crate) fn make_private(path: &Path) -> io::Result<()> {
    let mode = match fs::metadata(path) {
        Ok(metadata) => metadata.permissions().mode() & 0o7777,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
    };
    if mode == PRIVATE { Ok(()) } else { fs::set_permissions(path, Permissions::from_mode(PRIVATE)) }
}

/// Brings a finished file to its name, durably: a power cut leaves the old state or the new one.
pub(crate) fn publish(temporary: &Path, path: &Path) -> io::Result<()> {
    File::open(temporary)?.sync_all()?;
    fs::rename(temporary, path)?;
    sync_directory(path)
}

/// Removes a file if it is there; answers whether it was.
pub(crate) fn remove(path: &Path) -> io::Result<bool> {
    match fs::remove_file(path) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}

/// Removes a database that was not finished, with what SQLite puts beside it.
pub(crate) fn remove_database(path: &Path) -> io::Result<()> {
    for suffix in ["-wal", "-shm", "-journal", ""] {
        remove(&beside(path, suffix))?;
    }
    Ok(())
}

/// Makes a rename or a removal in the file's directory durable.
pub(crate) fn sync_directory(path: &Path) -> io::Result<()> {
    File::open(directory_of(path))?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_without_a_directory_is_in_the_current_one() {
        assert_eq!(directory_of(Path::new("notes.db")), Path::new("."));
        assert_eq!(directory_of(Path::new("of/mine/notes.db")), Path::new("of/mine"));
        assert_eq!(beside(Path::new("of/notes.db"), "-wal"), Path::new("of/notes.db-wal"));
    }

    #[test]
    fn what_is_published_takes_the_place_of_what_was_there() {
        let directory = tempfile::tempdir().unwrap();
        let (temporary, path) = (directory.path().join("new"), directory.path().join("file"));
        fs::write(&path, "old").unwrap();
        fs::write(&temporary, "left by a killed process").unwrap();
        io::Write::write_all(&mut create_private(&temporary).unwrap(), b"whole").unwrap();
        publish(&temporary, &path).unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"whole");
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o7777, PRIVATE);
        assert_eq!(length(&temporary).unwrap(), None);
    }
}
