//! The directory in which a backup comes together before a byte of it is sent.
//!
//! Not what belongs into it. The invariant: what is staged is the file as it was at one moment, with the
//! sum of the bytes that are there; a file that changed meanwhile is an error and not a copy. The
//! directory is private, lies in the data directory, and goes when the backup is over. All calls block.

use std::fs::{self, DirBuilder, File, Metadata, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use bkg_sqlite::CopyError;
use nix::fcntl::OFlag;
use sha2::{Digest, Sha256};
use tempfile::TempDir;

use super::archive::hex;
use super::manifest::{FileOf, Taken};
use super::place::Place;
use super::plan::{Kind, Planned};

/// How the directory is called, with something behind it.
const PREFIX: &str = ".backup-";
/// How long to wait before a file that did not hold still is copied again.
const PAUSES: [Duration; 5] = [
    Duration::from_millis(50),
    Duration::from_millis(100),
    Duration::from_millis(200),
    Duration::from_millis(400),
    Duration::from_millis(800),
];
/// Within this time two changes may leave the same time at a file, so it counts as changing.
const TICK: Duration = Duration::from_millis(20);

/// A directory of copies.
#[derive(Debug)]
pub(super) struct Staging {
    directory: TempDir,
}

/// Why a file was not staged.
#[derive(Debug, thiserror::Error)]
pub enum StageError {
    /// It changed each time while it was copied.
    #[error("`{0}` changes all the time")]
    Changing(Place),
    /// It was there, and is not any more.
    #[error("`{0}` was removed meanwhile")]
    Gone(Place),
    /// A database could not be copied.
    #[error(transparent)]
    Database(#[from] CopyError),
    /// Nobody wants it any more.
    #[error("the backup was given up")]
    Stopped,
    /// The disk or the permissions.
    #[error("cannot copy `{place}`: {source}")]
    Disk {
        /// The file.
        place: Place,
        /// What the system said.
        source: io::Error,
    },
}

impl StageError {
    /// Whether another try may find it otherwise.
    pub(super) fn is_change(&self) -> bool {
        matches!(self, Self::Changing(_) | Self::Gone(_))
    }

    /// Whether there is no room for the copies.
    pub(super) fn is_full(&self) -> bool {
        match self {
            Self::Database(error) => error.is_full(),
            Self::Disk { source, .. } => source.kind() == io::ErrorKind::StorageFull,
            _ => false,
        }
    }
}

impl Staging {
    /// An empty one.
    pub(super) fn new(data_dir: &Path) -> io::Result<Self> {
        Ok(Self { directory: tempfile::Builder::new().prefix(PREFIX).tempdir_in(data_dir)? })
    }

    /// Where a file is staged.
    pub(super) fn path(&self, place: &Place) -> PathBuf {
        place.below(self.directory.path())
    }

    /// The directory for the files of a place, made.
    pub(super) fn make_directory(&self, place: &Place) -> io::Result<PathBuf> {
        let path = self.path(place);
        DirBuilder::new().recursive(true).mode(0o700).create(&path)?;
        Ok(path)
    }

    /// Removes what is staged of a plugin, for another try.
    pub(super) fn clear(&self, place: &Place) -> io::Result<()> {
        match fs::remove_dir_all(self.path(place)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            other => other,
        }
    }

    /// Stages a file of the data directory.
    pub(super) fn take(
        &self,
        data_dir: &Path,
        file: &Planned,
        goes_on: &dyn Fn() -> bool,
    ) -> Result<FileOf, StageError> {
        let place = &file.place;
        let (source, target) = (place.below(data_dir), self.path(place));
        let disk = |source| StageError::Disk { place: place.clone(), source };
        let parent = target.parent().expect("a place is below the directory");
        DirBuilder::new().recursive(true).mode(0o700).create(parent).map_err(disk)?;
        match file.kind {
            Kind::Database => {
                bkg_sqlite::copy_database(&source, &target, goes_on)?;
                self.describe(place, Taken::Database).map_err(disk)
            }
            Kind::Plain => {
                for pause in PAUSES {
                    if let Some(copied) = copy_still(&source, &target, place, goes_on)? {
                        return Ok(copied);
                    }
                    std::thread::sleep(pause);
                }
                Err(StageError::Changing(place.clone()))
            }
            Kind::Log => copy_beginning(&source, &target, place, goes_on),
        }
    }

    /// Describes a file that is staged already.
    pub(super) fn describe(&self, place: &Place, taken: Taken) -> io::Result<FileOf> {
        let path = self.path(place);
        let schema = match taken {
            Taken::Database => Some(bkg_sqlite::examine(&path).map_err(io::Error::other)?),
            _ => None,
        };
        let mut file = File::open(&path)?;
        let mode = file.metadata()?.mode();
        let (size, sha256) = pour(&mut file, &mut io::sink(), u64::MAX, &|| true)?;
        Ok(FileOf { mode: kept(mode), schema, ..described(place, size, sha256, taken) })
    }
}

/// Removes what a host left that was killed during a backup.
pub(super) fn remove_leftovers(data_dir: &Path) {
    let Ok(entries) = fs::read_dir(data_dir) else { return };
    for entry in entries.flatten() {
        let is_ours = entry.file_name().to_str().is_some_and(|name| name.starts_with(PREFIX));
        if is_ours && let Err(error) = fs::remove_dir_all(entry.path()) {
            tracing::warn!(path = %entry.path().display(), %error, "cannot remove an unfinished backup");
        }
    }
}

fn described(place: &Place, size: u64, sha256: String, taken: Taken) -> FileOf {
    FileOf { path: place.clone(), size, sha256, mode: 0o600, plugin: place.plugin(), taken, schema: None }
}

/// The owner's rights; that it can be read and written is a matter of course.
fn kept(mode: u32) -> u32 {
    (mode & 0o700) | 0o600
}

/// Copies a file; `None` if it changed meanwhile.
fn copy_still(
    source: &Path,
    target: &Path,
    place: &Place,
    goes_on: &dyn Fn() -> bool,
) -> Result<Option<FileOf>, StageError> {
    let disk = |source| StageError::Disk { place: place.clone(), source };
    let mut file = open(source, place)?;
    let before = file.metadata().map_err(disk)?;
    if changed_just_now(&before) {
        return Ok(None);
    }
    let mut copy = create(target).map_err(disk)?;
    // One that grows is known by the first byte too many: it may grow for ever.
    let (size, sha256) =
        pour(&mut file, &mut copy, before.len().saturating_add(1), goes_on).map_err(disk)?;
    if !goes_on() {
        return Err(StageError::Stopped);
    }
    // The file that was read, and the one that has the name now.
    let after = file.metadata().map_err(disk)?;
    let named = match fs::symlink_metadata(source) {
        Ok(named) => named,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return Err(StageError::Gone(place.clone()));
        }
        Err(error) => return Err(disk(error)),
    };
    let is_still = same(&before, &after) && same(&after, &named) && size == after.len();
    Ok(is_still
        .then(|| FileOf { mode: kept(before.mode()), ..described(place, size, sha256, Taken::Copied) }))
}

/// Copies what a log has at first; more may follow.
fn copy_beginning(
    source: &Path,
    target: &Path,
    place: &Place,
    goes_on: &dyn Fn() -> bool,
) -> Result<FileOf, StageError> {
    let disk = |source| StageError::Disk { place: place.clone(), source };
    let mut file = open(source, place)?;
    let length = file.metadata().map_err(disk)?.len();
    let mut copy = create(target).map_err(disk)?;
    let (size, sha256) = pour(&mut file, &mut copy, length, goes_on).map_err(disk)?;
    if !goes_on() {
        return Err(StageError::Stopped);
    }
    Ok(described(place, size, sha256, Taken::Copied))
}

fn open(source: &Path, place: &Place) -> Result<File, StageError> {
    // Neither through a link that took its place nor waiting at a pipe.
    let flags = (OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK).bits();
    match OpenOptions::new().read(true).custom_flags(flags).open(source) {
        Ok(file) if file.metadata().is_ok_and(|found| found.is_file()) => Ok(file),
        Ok(_) => Err(StageError::Gone(place.clone())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Err(StageError::Gone(place.clone())),
        Err(source) => Err(StageError::Disk { place: place.clone(), source }),
    }
}

fn create(target: &Path) -> io::Result<File> {
    OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(target)
}

/// Copies at most so many bytes, and answers how many, and their sum.
fn pour(
    from: &mut impl Read,
    into: &mut impl Write,
    most: u64,
    goes_on: &dyn Fn() -> bool,
) -> io::Result<(u64, String)> {
    let (mut hasher, mut size, mut buffer) = (Sha256::new(), 0, vec![0; 64 << 10]);
    let mut from = from.take(most);
    while goes_on() {
        let count = match from.read(&mut buffer) {
            Ok(0) => break,
            Ok(count) => count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        };
        hasher.update(&buffer[..count]);
        into.write_all(&buffer[..count])?;
        size += count as u64;
    }
    Ok((size, hex(&hasher.finalize())))
}

fn same(one: &Metadata, other: &Metadata) -> bool {
    let marks =
        |it: &Metadata| (it.dev(), it.ino(), it.len(), it.mtime(), it.mtime_nsec(), it.ctime_nsec());
    marks(one) == marks(other)
}

fn changed_just_now(found: &Metadata) -> bool {
    let changed = found.modified().ok();
    changed.and_then(|at| SystemTime::now().duration_since(at).ok()).is_some_and(|age| age < TICK)
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, Ordering};

    use super::*;

    #[test]
    fn a_file_that_grows_faster_than_it_is_read_is_given_up() {
        let data = tempfile::tempdir().unwrap();
        let place = Place::try_from("plugins/ping/data/a").unwrap();
        let path = place.below(data.path());
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, "begun").unwrap();
        File::open(&path).unwrap().set_modified(SystemTime::UNIX_EPOCH).unwrap();
        let staging = Staging::new(data.path()).unwrap();
        let looks = std::cell::Cell::new(0);
        let grows = || {
            looks.set(looks.get() + 1);
            let mut file = OpenOptions::new().append(true).open(&path).unwrap();
            file.write_all(&[7; 64 << 10]).unwrap();
            looks.get() < 1_000
        };
        let taken = staging.take(data.path(), &Planned { place, kind: Kind::Plain, bytes: 5 }, &grows);
        assert!(matches!(taken, Err(StageError::Changing(_))), "{taken:?}");
    }

    #[test]
    fn a_file_that_changes_is_not_copied_and_one_that_holds_still_is() {
        let data = tempfile::tempdir().unwrap();
        let place = Place::try_from("plugins/ping/data/a").unwrap();
        let path = place.below(data.path());
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        let staging = Staging::new(data.path()).unwrap();
        let file = Planned { place: place.clone(), kind: Kind::Plain, bytes: 0 };
        let take = || staging.take(data.path(), &file, &|| true);
        assert!(matches!(take(), Err(StageError::Gone(_))));
        fs::write(&path, "one").unwrap();
        let stop = AtomicBool::new(false);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                for number in 0_u64.. {
                    if stop.load(Ordering::Relaxed) {
                        break;
                    }
                    fs::write(&path, number.to_string()).unwrap();
                }
            });
            let taken = take();
            stop.store(true, Ordering::Relaxed);
            assert!(matches!(taken, Err(StageError::Changing(_))), "{taken:?}");
        });
        fs::write(&path, "still").unwrap();
        assert_eq!(take().unwrap().size, 5);
        assert_eq!(fs::read(staging.path(&place)).unwrap(), b"still");
        fs::remove_file(&path).unwrap();
        std::os::unix::fs::symlink("/etc/hostname", &path).unwrap();
        take().unwrap_err();
    }
}
