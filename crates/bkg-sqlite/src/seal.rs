//! The seal: a checksum beside a database that was closed in order.
//!
//! SQLite's pages have no checksums, so a flipped byte inside a value goes unseen by its own checks.
//! The invariant: while a seal is there, every committed byte is in the main file and nobody writes.
//! Opening checks and removes it, closing writes it.

use std::fmt::Write as _;
use std::fs::{self, File};
use std::io::{self, Read, Write as _};
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use crate::error::OpenError;
use crate::files;

/// Where the seal of a database is.
pub(crate) fn path_of(database: &Path) -> PathBuf {
    files::beside(database, ".seal")
}

/// Checks the seal if there is one. No connection of this process may have the database open: to
/// close its file would drop their locks.
pub(crate) fn check(what: &'static str, database: &Path) -> Result<(), OpenError> {
    let seal = path_of(database);
    let text = match fs::read(&seal) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(OpenError::disk("read", &seal)(error)),
    };
    // What a log or a journal holds would be taken into the file, whose sum says nothing about it.
    for suffix in ["-wal", "-journal"] {
        let log = files::beside(database, suffix);
        if files::has_bytes(&log).map_err(OpenError::disk("look at", &log))? {
            return Err(OpenError::altered(what, database, seal));
        }
    }
    let sum = sum(database).map_err(OpenError::disk("read", database))?;
    if text == sum.as_bytes() { Ok(()) } else { Err(OpenError::altered(what, database, seal)) }
}

/// Removes the seal, durably: the database is about to be written to.
pub(crate) fn remove(database: &Path) -> io::Result<()> {
    if files::remove(&path_of(database))? { files::sync_directory(database) } else { Ok(()) }
}

/// Seals a database that is closed and whole.
pub(crate) fn write(database: &Path) -> io::Result<()> {
    let temporary = files::beside(database, ".seal.new");
    files::create_private(&temporary)?.write_all(sum(database)?.as_bytes())?;
    files::publish(&temporary, &path_of(database))
}

/// One line: `sha256`, the digest in hexadecimal, the size in bytes.
fn sum(path: &Path) -> io::Result<String> {
    let mut file = File::open(path)?;
    let (mut hasher, mut size, mut buffer) = (Sha256::new(), 0_u64, vec![0; 64 << 10]);
    loop {
        let read = match file.read(&mut buffer) {
            Ok(0) => break,
            Ok(read) => read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        };
        hasher.update(&buffer[..read]);
        size += read as u64;
    }
    let mut line = "sha256 ".to_owned();
    for byte in hasher.finalize() {
        write!(line, "{byte:02x}").expect("a string takes whatever is written to it");
    }
    writeln!(line, " {size}").expect("a string takes whatever is written to it");
    Ok(line)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seal_is_one_line_that_other_tools_can_check() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("notes.db");
        fs::write(&path, "abc").unwrap();
        write(&path).unwrap();
        assert_eq!(
            fs::read_to_string(path_of(&path)).unwrap(),
            "sha256 ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad 3\n"
        );
        check("the notes", &path).unwrap();
        remove(&path).unwrap();
        remove(&path).unwrap();
        check("the notes", &path).unwrap();
    }

    #[test]
    fn a_seal_that_is_no_text_or_a_log_that_came_later_is_a_change() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("notes.db");
        fs::write(&path, "abc").unwrap();
        write(&path).unwrap();
        fs::write(files::beside(&path, "-wal"), "").unwrap();
        check("the notes", &path).expect("a reader leaves an empty log");
        fs::write(files::beside(&path, "-wal"), "frames").unwrap();
        assert!(matches!(check("the notes", &path), Err(OpenError::Altered { .. })));
        fs::write(files::beside(&path, "-wal"), "").unwrap();
        fs::write(path_of(&path), [0xff; 80]).unwrap();
        assert!(matches!(check("the notes", &path), Err(OpenError::Altered { .. })));
    }
}
