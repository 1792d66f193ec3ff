//! A plugin's folder at one moment: the files that count, by name, size, time and mode.
//!
//! What builds, tools and editors leave there does not count. Not what is in the files: nobody reads
//! them for this. `prepare` tells by it whether a folder is as it was, and `dev` what was edited.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// How many files of a folder are looked at: more than any plugin's own, fewer than a forest of
/// dependencies that somebody unpacked there.
const MOST_FILES: usize = 20_000;
/// Folders that builds and tools fill: what is in them follows from the rest.
const BUILT: [&str; 9] = [
    ".git",
    "target",
    "node_modules",
    ".venv",
    "__pycache__",
    "dist",
    ".mypy_cache",
    ".pytest_cache",
    ".ruff_cache",
];

/// The files of a folder that count, in the order of their names.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Snapshot {
    files: BTreeMap<PathBuf, Facts>,
    folders: Vec<Folder>,
}

/// What tells one state of a file from another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Facts {
    bytes: u64,
    modified: (i64, i64),
    mode: u32,
}

/// A folder in which files count, the top one included.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Folder {
    /// Its path.
    pub path: PathBuf,
    /// What tells it from another one in its place: device and inode.
    pub identity: (u64, u64),
}

impl Snapshot {
    /// The folder as it is now. Blocks.
    ///
    /// # Errors
    /// The folder, or one in it, cannot be read.
    pub fn of(root: &Path) -> io::Result<Self> {
        let mut snapshot = Self::default();
        snapshot.collect(root)?;
        Ok(snapshot)
    }

    /// The files that were changed, added or removed since an `earlier` look, relative to `root`.
    pub fn changed_since(&self, earlier: &Self, root: &Path) -> Vec<PathBuf> {
        let inside = |path: &Path| path.strip_prefix(root).unwrap_or(path).to_owned();
        let differs = |(path, facts): &(&PathBuf, &Facts)| earlier.files.get(*path) != Some(*facts);
        let new = self.files.iter().filter(differs).map(|(path, _)| inside(path));
        let gone = earlier.files.keys().filter(|path| !self.files.contains_key(*path));
        let mut changed: Vec<PathBuf> = new.chain(gone.map(|path| inside(path))).collect();
        changed.sort();
        changed
    }

    /// The folders in which files count.
    pub fn folders(&self) -> &[Folder] {
        &self.folders
    }

    /// The files that count, sorted.
    pub(super) fn files(&self) -> impl Iterator<Item = &PathBuf> {
        self.files.keys()
    }

    fn collect(&mut self, folder: &Path) -> io::Result<()> {
        self.folders.push(Folder::at(folder)?);
        for entry in fs::read_dir(folder)? {
            let entry = entry?;
            if self.files.len() >= MOST_FILES {
                return Ok(());
            }
            let name = entry.file_name();
            if entry.file_type()?.is_dir() {
                if !BUILT.iter().any(|built| name == *built) {
                    match self.collect(&entry.path()) {
                        // It was removed while this looked at its parent.
                        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                        collected => collected?,
                    }
                }
            } else if !is_an_editors(&name.to_string_lossy())
                && let Ok(facts) = fs::metadata(entry.path()).or_else(|_| entry.metadata())
            {
                self.files.insert(entry.path(), Facts::of(&facts));
            }
        }
        Ok(())
    }
}

impl Folder {
    /// The folder that is at a path now. Blocks.
    ///
    /// # Errors
    /// There is nothing.
    pub fn at(path: &Path) -> io::Result<Self> {
        let about = fs::metadata(path)?;
        Ok(Self { path: path.to_owned(), identity: (about.dev(), about.ino()) })
    }
}

impl Facts {
    fn of(metadata: &fs::Metadata) -> Self {
        Self {
            bytes: metadata.len(),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
            mode: metadata.mode(),
        }
    }
}

/// Whether a file is what an editor keeps beside the one that is edited: swap files, backups, locks,
/// and the probe that vim writes before it saves.
fn is_an_editors(name: &str) -> bool {
    let is_swap =
        name.starts_with('.') && [".swp", ".swo", ".swx"].iter().any(|suffix| name.ends_with(suffix));
    let is_emacs = name.starts_with(".#") || (name.starts_with('#') && name.ends_with('#'));
    is_swap || is_emacs || name.ends_with('~') || name.contains("___jb_") || name == "4913"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_changed_added_or_removed_is_named() {
        let root = tempfile::tempdir().unwrap();
        let path = |name: &str| root.path().join(name);
        let look = || Snapshot::of(root.path()).unwrap();
        fs::create_dir(path("src")).unwrap();
        for name in ["src/main.py", "gone.txt", "same.txt"] {
            fs::write(path(name), "x").unwrap();
        }
        let before = look();
        assert_eq!(before.changed_since(&before, root.path()), Vec::<PathBuf>::new());
        fs::write(path("src/main.py"), "longer").unwrap();
        fs::remove_file(path("gone.txt")).unwrap();
        fs::write(path("new.txt"), "x").unwrap();
        let changed = look().changed_since(&before, root.path());
        assert_eq!(changed, ["gone.txt", "new.txt", "src/main.py"].map(PathBuf::from));
    }

    #[test]
    fn what_builds_tools_and_editors_leave_does_not_count() {
        let root = tempfile::tempdir().unwrap();
        let look = || Snapshot::of(root.path()).unwrap();
        let before = look();
        for built in BUILT {
            fs::create_dir(root.path().join(built)).unwrap();
            fs::write(root.path().join(built).join("file"), "x").unwrap();
        }
        for name in [".main.py.swp", "main.py~", "#main.py#", ".#main.py", "4913", "main.py___jb_tmp___"] {
            fs::write(root.path().join(name), "x").unwrap();
        }
        assert_eq!(look(), before);
        assert_eq!(before.folders().len(), 1);
    }
}
