//! What a folder needs before it can run: whether it ever ran as it is now, and `prepare.sh`.
//!
//! A digest of the folder's files stands for "as it is now". Where it has registered once, starting
//! is quick; where it has not, starting may build for minutes, and the limit is the long one.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use super::folder::Snapshot;
use crate::store::write_atomic;

/// What has been done for a folder, remembered across starts of the host.
#[derive(Debug)]
pub(super) struct Milestone {
    path: PathBuf,
    digest: String,
}

impl Milestone {
    /// The milestone `name` of the folder `root` as it is now, kept in `directory`. Blocks.
    ///
    /// `only` limits the digest to these files and folders, relative to `root`.
    pub(super) fn of(root: &Path, directory: &Path, name: &str, only: &[String]) -> io::Result<Self> {
        let mut files = Vec::new();
        let collect = |folder: &Path, files: &mut Vec<PathBuf>| {
            Snapshot::of(folder).map(|snapshot| files.extend(snapshot.files().cloned()))
        };
        if only.is_empty() {
            collect(root, &mut files)?;
        } else {
            for input in only {
                let path = root.join(input);
                if path.is_dir() { collect(&path, &mut files)? } else { files.push(path) }
            }
        }
        files.sort();
        let mut digest = Sha256::new();
        for file in &files {
            digest.update(file.strip_prefix(root).unwrap_or(file).as_os_str().as_encoded_bytes());
            // A file that is not there is part of the state, too.
            if let Ok(facts) = fs::metadata(file) {
                digest.update(facts.len().to_le_bytes());
                digest.update(facts.mtime().to_le_bytes());
                digest.update(facts.mtime_nsec().to_le_bytes());
                digest.update(facts.mode().to_le_bytes());
            }
        }
        let digest: String = digest.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
        Ok(Self { path: directory.join(name), digest })
    }

    /// Whether it was reached with the folder as it is now. Blocks.
    pub(super) fn is_reached(&self) -> bool {
        fs::read_to_string(&self.path).is_ok_and(|digest| digest == self.digest)
    }

    /// Notes that it was reached. Blocks.
    pub(super) fn reach(&self) -> io::Result<()> {
        write_atomic(&self.path, self.digest.as_bytes(), 0o600)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_milestone_is_lost_when_the_folder_changes() {
        let root = tempfile::tempdir().unwrap();
        let run = tempfile::tempdir().unwrap();
        fs::write(root.path().join("start.sh"), "one").unwrap();
        let milestone = || Milestone::of(root.path(), run.path(), "registered", &[]).unwrap();
        assert!(!milestone().is_reached());
        milestone().reach().unwrap();
        assert!(milestone().is_reached());
        fs::write(root.path().join("start.sh"), "longer").unwrap();
        assert!(!milestone().is_reached());
    }

    #[test]
    fn what_a_build_leaves_does_not_count() {
        let root = tempfile::tempdir().unwrap();
        let run = tempfile::tempdir().unwrap();
        let milestone = || Milestone::of(root.path(), run.path(), "registered", &[]).unwrap();
        milestone().reach().unwrap();
        fs::create_dir(root.path().join("target")).unwrap();
        fs::write(root.path().join("target/binary"), "x").unwrap();
        assert!(milestone().is_reached());
    }
}
