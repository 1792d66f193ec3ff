//! Room on the disk that is kept for writes which must not wait for an operator: a file beside the
//! database that holds nothing.
//!
//! Not which writes those are, which their callers say. The invariant: what the file still has was
//! really allocated, so giving a part of it up makes room for a write, on a disk that has none. The
//! writer's thread alone uses it.

use std::fs::{File, OpenOptions, Permissions};
use std::io::{self, Seek, SeekFrom, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::{FallocateFlags, fallocate};
use rustix::io::Errno;

use crate::files;

/// How much is kept: more than a hundred writes of a few rows each, also where the log cannot be taken
/// over into the file meanwhile.
pub const RESERVE_BYTES: u64 = 8 << 20;
/// How much is given up at a time: room for several writes. In parts, since whoever else writes to the
/// disk may be quicker to take one.
const PART: u64 = 256 << 10;

/// The reserve of one database.
#[derive(Debug)]
pub(crate) struct Reserve {
    path: PathBuf,
    /// The write-ahead log of the database, which gets what is given up.
    log: PathBuf,
    /// How much of it is there, in bytes.
    held: u64,
}

impl Reserve {
    /// Takes what is there, and makes the rest if the disk has room for it.
    pub(crate) fn of(database: &Path) -> Self {
        let path = files::beside(database, ".reserve");
        let held = std::fs::metadata(&path).map_or(0, |found| {
            // One that a copy of the directory has made a hole of holds no room.
            if found.blocks() * 512 >= found.len() { found.len().min(RESERVE_BYTES) } else { 0 }
        });
        let mut reserve = Self { path, log: files::beside(database, "-wal"), held };
        if let Err(error) = reserve.fill() {
            tracing::warn!(path = %reserve.path.display(), %error, "the disk has no room for the reserve of the database");
        }
        reserve
    }

    /// Makes what is missing, and finds out whether the disk has room for as much as one part more.
    ///
    /// # Errors
    /// The disk has no room, or fails. What was there stays.
    pub(crate) fn fill(&mut self) -> io::Result<()> {
        let file = self.open()?;
        let made = allocate(&file, self.held, RESERVE_BYTES + PART);
        if made.is_ok() {
            self.held = RESERVE_BYTES;
        }
        file.set_len(self.held)?;
        made
    }

    /// Gives a part of it to the log, and as many as somebody else is quicker to take; false if nothing is
    /// left of it.
    pub(crate) fn give_up_a_part(&mut self) -> bool {
        while self.shrink_to(self.held.saturating_sub(PART)) {
            match self.lengthen_the_log() {
                Err(error) if error.kind() == io::ErrorKind::StorageFull => {}
                // Where room cannot be set aside, it is there for the first who writes.
                Ok(()) | Err(_) => return true,
            }
        }
        false
    }

    /// Allocates a part behind the end of the log, where SQLite will write: nobody else gets it.
    fn lengthen_the_log(&self) -> io::Result<()> {
        let log = OpenOptions::new().write(true).open(&self.log)?;
        let length = log.metadata()?.len();
        // The reserve is given up in whole blocks, of which the file system takes some for itself.
        Ok(fallocate(&log, FallocateFlags::KEEP_SIZE, length, PART * 3 / 4)?)
    }

    /// Gives all of it up, so that the database can be closed in order.
    pub(crate) fn give_up_all(&mut self) {
        self.shrink_to(0);
    }

    fn shrink_to(&mut self, left: u64) -> bool {
        if left == self.held {
            return false;
        }
        // Some file systems hand blocks out again only after the change is on the disk.
        let shrunk = self.open().and_then(|file| file.set_len(left).and_then(|()| file.sync_all()));
        if let Err(error) = shrunk {
            tracing::error!(path = %self.path.display(), %error, "the reserve of the database cannot be given up");
            return false;
        }
        self.held = left;
        tracing::warn!(path = %self.path.display(), bytes_left = left, "the disk is full: a part of the reserve is given up");
        true
    }

    fn open(&self) -> io::Result<File> {
        let file = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(false)
            .mode(files::PRIVATE)
            .open(&self.path)?;
        file.set_permissions(Permissions::from_mode(files::PRIVATE))?;
        Ok(file)
    }
}

/// Allocates the bytes from `from` to `to`, by writing them where the file system has no better way.
fn allocate(mut file: &File, from: u64, to: u64) -> io::Result<()> {
    match fallocate(file, FallocateFlags::empty(), from, to - from) {
        Err(Errno::OPNOTSUPP | Errno::NOSYS) => {
            let part = vec![0x5a; 64 << 10];
            file.seek(SeekFrom::Start(from))?;
            let mut left = to - from;
            while left > 0 {
                let now = left.min(part.len() as u64);
                file.write_all(&part[..usize::try_from(now).expect("it is at most a part")])?;
                left -= now;
            }
            Ok(())
        }
        made => Ok(made?),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_given_up_in_parts_and_made_again() {
        let directory = tempfile::tempdir().unwrap();
        let database = directory.path().join("notes.db");
        let path = files::beside(&database, ".reserve");
        let mut reserve = Reserve::of(&database);
        let held = || std::fs::metadata(&path).map(|found| (found.len(), found.blocks() * 512)).unwrap();
        assert_eq!(held().0, RESERVE_BYTES);
        assert!(held().1 >= RESERVE_BYTES, "it is really there");
        let mut parts = 0;
        while reserve.give_up_a_part() {
            parts += 1;
            assert_eq!(held().0, RESERVE_BYTES - parts * PART);
        }
        assert_eq!((parts, held().1), (RESERVE_BYTES / PART, 0));
        reserve.fill().unwrap();
        assert!(held().1 >= RESERVE_BYTES);
    }

    #[test]
    fn a_hole_is_no_reserve() {
        let directory = tempfile::tempdir().unwrap();
        let database = directory.path().join("notes.db");
        let path = files::beside(&database, ".reserve");
        File::create(&path).unwrap().set_len(RESERVE_BYTES).unwrap();
        Reserve::of(&database);
        assert!(std::fs::metadata(&path).unwrap().blocks() * 512 >= RESERVE_BYTES);
    }
}
