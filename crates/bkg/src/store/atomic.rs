//! Files that are either whole or as they were before.
//!
//! Written beside their place and renamed into it. [`write_atomic`] survives a power cut,
//! [`replace`] a killed host: what describes running processes is worth nothing after a power cut and
//! need not wait for the disk. Used by the rest of `store`, and by whoever hands files to plugins.

use std::fs::{self, File, OpenOptions, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

/// Writes a file so that it is there, whole, after any crash of the machine.
///
/// # Errors
/// The disk's; the file is then what it was before. An error of the last step, the directory's sync,
/// leaves the new content in place, but it may not survive a power cut.
pub fn write_atomic(path: &Path, bytes: &[u8], mode: u32) -> io::Result<()> {
    write_atomic_with(path, mode, |file| file.write_all(bytes))
}

/// The same for content that is too long to hold: `write` hands it to the file.
///
/// # Errors
/// As those of [`write_atomic`], or what `write` failed with.
pub(super) fn write_atomic_with(
    path: &Path,
    mode: u32,
    write: impl FnOnce(&mut File) -> io::Result<()>,
) -> io::Result<()> {
    let directory = parent(path)?;
    let temporary = write_temporary(path, mode, write)?;
    temporary.sync().and_then(|()| temporary.move_to(path))?;
    File::open(directory)?.sync_all()
}

/// Removes a file so that it stays removed after any crash of the machine. One that is not there is no
/// error.
///
/// # Errors
/// The disk's.
pub(super) fn remove_durably(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error),
        Ok(()) => File::open(parent(path)?)?.sync_all(),
    }
}

/// Renames a file so that it has its new name, and no other, after any crash of the machine. What has
/// that name is replaced.
///
/// # Errors
/// The disk's.
pub(super) fn move_durably(from: &Path, to: &Path) -> io::Result<()> {
    fs::rename(from, to)?;
    File::open(parent(to)?)?.sync_all()
}

/// Writes a file so that other processes see the old content or the new one, never a part, even if
/// this process is killed meanwhile. A power cut may lose it.
///
/// # Errors
/// The disk's; the file is then what it was before.
pub fn replace(path: &Path, bytes: &[u8], mode: u32) -> io::Result<()> {
    write_temporary(path, mode, |file| file.write_all(bytes))?.move_to(path)
}

/// Removes what was not yet renamed when a former host died.
pub(super) fn remove_leftovers(directory: &Path) {
    let Ok(items) = fs::read_dir(directory) else { return };
    for item in items.flatten() {
        let name = item.file_name();
        if name.to_str().is_some_and(is_temporary)
            && let Err(error) = fs::remove_file(item.path())
        {
            tracing::warn!(path = %item.path().display(), %error, "cannot remove a half-written file");
        }
    }
}

/// A file that removes itself unless it reaches its place.
struct Temporary {
    path: PathBuf,
    file: File,
    moved: bool,
}

impl Temporary {
    fn sync(&self) -> io::Result<()> {
        self.file.sync_all()
    }

    fn move_to(mut self, path: &Path) -> io::Result<()> {
        fs::rename(&self.path, path)?;
        self.moved = true;
        Ok(())
    }
}

impl Drop for Temporary {
    fn drop(&mut self) {
        if !self.moved {
            // The error that led here is reported by the caller; the next start cleans up.
            let _ = fs::remove_file(&self.path);
        }
    }
}

fn write_temporary(
    path: &Path,
    mode: u32,
    write: impl FnOnce(&mut File) -> io::Result<()>,
) -> io::Result<Temporary> {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    let name = path.file_name().ok_or(io::ErrorKind::InvalidFilename)?.to_string_lossy();
    let count = COUNT.fetch_add(1, Ordering::Relaxed);
    let path = parent(path)?.join(format!(".{name}.{}-{count}{SUFFIX}", std::process::id()));
    let file = OpenOptions::new().write(true).create_new(true).mode(mode).open(&path)?;
    let mut temporary = Temporary { path, file, moved: false };
    // The umask may have taken bits away.
    temporary.file.set_permissions(Permissions::from_mode(mode))?;
    write(&mut temporary.file)?;
    Ok(temporary)
}

const SUFFIX: &str = ".tmp";

fn is_temporary(name: &str) -> bool {
    let Some(name) = name.strip_prefix('.').and_then(|name| name.strip_suffix(SUFFIX)) else {
        return false;
    };
    let is_number = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let numbers = name.rsplit_once('.').and_then(|(_, numbers)| numbers.split_once('-'));
    numbers.is_some_and(|(pid, count)| is_number(pid) && is_number(count))
}

fn parent(path: &Path) -> io::Result<&Path> {
    match path.parent() {
        Some(parent) if parent.as_os_str().is_empty() => Ok(Path::new(".")),
        Some(parent) => Ok(parent),
        None => Err(io::ErrorKind::InvalidFilename.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    type Write = fn(&Path, &[u8], u32) -> io::Result<()>;
    const BOTH: [Write; 2] = [write_atomic, replace];

    fn names(directory: &Path) -> Vec<String> {
        fs::read_dir(directory)
            .unwrap()
            .map(|item| item.unwrap().file_name().into_string().unwrap())
            .collect()
    }

    #[test]
    fn a_file_gets_its_content_and_mode_and_nothing_is_left_beside_it() {
        for write in BOTH {
            let directory = tempfile::tempdir().unwrap();
            let path = directory.path().join("file");
            write(&path, b"a longer first content", 0o644).unwrap();
            write(&path, b"second", 0o600).unwrap();
            assert_eq!(fs::read(&path).unwrap(), b"second");
            assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o7777, 0o600);
            assert_eq!(names(directory.path()), ["file"]);
        }
    }

    #[test]
    fn a_write_that_fails_leaves_the_old_state() {
        for write in BOTH {
            let directory = tempfile::tempdir().unwrap();
            let path = directory.path().join("taken");
            fs::create_dir(&path).unwrap();
            fs::write(path.join("inside"), "").unwrap();
            write(&path, b"new", 0o600).unwrap_err();
            assert_eq!(names(directory.path()), ["taken"]);
            assert_eq!(names(&path), ["inside"]);
        }
    }

    #[test]
    fn a_reader_never_sees_a_part() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("file");
        let contents = [vec![b'a'; 100_000], vec![b'b'; 50_000]];
        replace(&path, &contents[0], 0o600).unwrap();
        std::thread::scope(|scope| {
            let writer = scope.spawn(|| {
                for round in 0..200 {
                    replace(&path, &contents[round % 2], 0o600).unwrap();
                }
            });
            while !writer.is_finished() {
                let seen = fs::read(&path).unwrap();
                assert!(contents.contains(&seen), "{} bytes", seen.len());
            }
        });
    }

    #[test]
    fn only_own_temporary_files_are_taken_for_such() {
        assert!(is_temporary(".root.key.12-3.tmp"));
        for other in ["a.tmp", ".tmp", ".a.tmp", ".a.1.tmp", ".a.1-x.tmp", ".a.1-2.txt", "..-.tmp"] {
            assert!(!is_temporary(other), "{other}");
        }
    }
}
