//! A backup put back, where no host runs: whole, tried out, and only then in its place.
//!
//! The archive is hostile until it is read to its end. The invariants: what was there before stays until
//! all of what comes has been unpacked, opened as a host would and brought to the disk; then both change
//! places at once, and what was there is kept beside it. No host starts on either meanwhile. Blocks.

use std::fs::{self, DirBuilder, File};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use jiff::{Timestamp, fmt::strtime};
use rustix::fs::{CWD, RenameFlags, renameat_with};
use serde::Serialize;
use serde_json::json;

use super::archive::{self, ArchiveError, Quota};
use super::manifest::{LeftOut, Manifest, Part, Why};
use super::place::Place;
use crate::store::{
    Action, Actor, DirLock, KeyPrints, StoreError, begin_audit_anew, give_up_secrets, try_out,
};

/// What the name of a directory begins with in which a backup is unpacked; the target's follows.
const STAGING: &str = ".restore-";
/// How much of the disk a restore leaves free, in bytes.
const LEFT_FREE: u64 = 64 << 20;

/// A restore: from which archive to where.
#[derive(Debug, Clone)]
pub struct Restore {
    /// The archive.
    pub file: PathBuf,
    /// The data directory, which need not be there.
    pub data_dir: PathBuf,
    /// Go on also where keys are missing, and lose what they open.
    pub without_keys: bool,
}

/// What a restore would do.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct RestorePreview {
    /// When the backup was begun.
    pub created: Timestamp,
    /// The version of the program that made it.
    pub version: String,
    /// Whose files are put back.
    pub parts: Vec<Part>,
    /// How many files.
    pub files: usize,
    /// How many bytes they have.
    pub bytes: u64,
    /// What becomes of each key that is not in the backup.
    pub keys: Vec<KeyFate>,
    /// What else is not in it.
    pub left_out: Vec<LeftOut>,
    /// Whether there is something that is kept beside.
    pub replaces: bool,
    /// Whether it goes on only if the loss of keys is accepted.
    pub needs_consent: bool,
}

/// What becomes of a key that is not in the backup.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct KeyFate {
    /// Its file, below the data directory.
    pub path: String,
    /// What is done.
    pub state: KeyState,
    /// What is lost with it, where it is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lost: Option<String>,
}

/// What is done about a key that is not in the backup.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum KeyState {
    /// The data directory that is replaced has it, and it is taken from there.
    Present,
    /// A new one is made, and nothing else is lost.
    MadeAnew,
    /// It is not there.
    Missing,
    /// The data directory that is replaced has another.
    Other,
}

/// What a restore has done.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Restored {
    /// The data directory.
    pub data_dir: PathBuf,
    /// Where what was there before is kept.
    pub earlier: Option<PathBuf>,
    /// How many files were put back.
    pub files: usize,
    /// How many bytes they have.
    pub bytes: u64,
    /// How many entries the audit log has, all of which were verified.
    pub audit_entries: u64,
    /// What was lost with keys.
    pub lost: Vec<String>,
}

/// Why nothing was restored. What was there is there.
#[derive(Debug, thiserror::Error)]
pub enum RestoreError {
    /// The archive is refused.
    #[error("`{}` is not restored: {source}", file.display())]
    Archive {
        /// The archive.
        file: PathBuf,
        /// What is wrong with it.
        source: ArchiveError,
    },
    /// Keys are missing.
    #[error(
        "nothing was restored, because keys are missing: {}; put the keys into `{}` first, or accept the loss with \
         `--without-keys`",
        lost.join("; "),
        data_dir.display()
    )]
    KeysMissing {
        /// What would be lost.
        lost: Vec<String>,
        /// Where the keys are looked for.
        data_dir: PathBuf,
    },
    /// There is something, and it is no data directory.
    #[error("`{}` is no data directory and not empty: choose another `--data-dir`", path.display())]
    NotOurs {
        /// What is there.
        path: PathBuf,
    },
    /// A file system is mounted there.
    #[error(
        "`{}` is a mount point, which cannot be replaced: restore into a directory in it, and start the daemon on \
         that",
        path.display()
    )]
    MountPoint {
        /// What is there.
        path: PathBuf,
    },
    /// A host runs on it, or its files cannot be used.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A restored database is damaged.
    #[error("nothing was restored: a database of the backup is damaged: {0}")]
    Database(#[from] bkg_sqlite::CopyError),
    /// The audit log that was restored does not verify.
    #[error("nothing was restored: the audit log of the backup was changed from outside, {findings} times")]
    Audit {
        /// How many findings there are.
        findings: usize,
    },
    /// The disk has no room.
    #[error("the disk of `{}` has no room: the backup takes {needed} bytes, and {free} are free", path.display())]
    Full {
        /// Where it was to be.
        path: PathBuf,
        /// How much it takes.
        needed: u64,
        /// How much there is.
        free: u64,
    },
    /// The disk or the permissions.
    #[error("cannot {action} `{}`: {source}", path.display())]
    Disk {
        /// What was tried.
        action: &'static str,
        /// With what.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

impl Restore {
    /// Reads the archive to its end and says what would become of it. Nothing is changed.
    ///
    /// # Errors
    /// What would keep it from being restored, but for missing keys.
    pub fn preview(&self) -> Result<RestorePreview, RestoreError> {
        let this = self.resolved()?;
        let _lock = this.lock()?;
        let manifest = this.read()?;
        Ok(this.described(&manifest, &this.key_fates(&manifest)))
    }

    /// Restores.
    ///
    /// # Errors
    /// Why nothing was restored; what was there is as it was.
    pub fn run(&self) -> Result<Restored, RestoreError> {
        self.resolved()?.carry_out()
    }

    /// With what the target really is, where it is a link; refuses one that cannot be replaced.
    fn resolved(&self) -> Result<Self, RestoreError> {
        let data_dir = match fs::canonicalize(&self.data_dir) {
            Ok(data_dir) => data_dir,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(self.clone()),
            Err(error) => return Err(disk("look at", &self.data_dir)(error)),
        };
        let device =
            |path: &Path| fs::metadata(path).map(|found| found.dev()).map_err(disk("look at", path));
        let is_root = match data_dir.parent() {
            Some(parent) => device(parent)? != device(&data_dir)?,
            None => true,
        };
        if is_root {
            return Err(RestoreError::MountPoint { path: data_dir });
        }
        Ok(Self { data_dir, ..self.clone() })
    }

    fn carry_out(&self) -> Result<Restored, RestoreError> {
        let lock = self.lock()?;
        // Twice: nothing is written for an archive that is wrong at its end.
        let manifest = self.read()?;
        let fates = self.key_fates(&manifest);
        let lost: Vec<String> = fates.iter().filter_map(|fate| fate.lost.clone()).collect();
        if !lost.is_empty() && !self.without_keys {
            return Err(RestoreError::KeysMissing { lost, data_dir: self.data_dir.clone() });
        }
        let staging = self.unpacked(&manifest)?;
        self.put_keys(staging.path(), &fates)?;
        let audit_entries = examined(staging.path(), &manifest, &self.action(&manifest, &lost))?;
        sync_tree(staging.path())?;
        let earlier = if lock.is_some() {
            Some(self.change_places(staging)?)
        } else {
            self.take_place(staging)?;
            None
        };
        drop(lock);
        let (files, bytes) = (manifest.files.len(), manifest.bytes());
        Ok(Restored { data_dir: self.data_dir.clone(), earlier, files, bytes, audit_entries, lost })
    }

    fn described(&self, manifest: &Manifest, fates: &[KeyFate]) -> RestorePreview {
        RestorePreview {
            created: manifest.created,
            version: manifest.version.clone(),
            parts: manifest.parts.clone(),
            files: manifest.files.len(),
            bytes: manifest.bytes(),
            keys: fates.to_vec(),
            left_out: manifest.left_out.iter().filter(|left| left.why != Why::Key).cloned().collect(),
            replaces: self.replaces(),
            needs_consent: fates.iter().any(|fate| fate.lost.is_some()),
        }
    }

    fn replaces(&self) -> bool {
        fs::read_dir(&self.data_dir).is_ok_and(|mut entries| entries.next().is_some())
    }

    /// Keeps hosts from the directory; refuses one that is something else.
    fn lock(&self) -> Result<Option<DirLock>, RestoreError> {
        let lock = DirLock::take(&self.data_dir)?;
        if lock.is_none() && (self.replaces() || self.data_dir.is_file()) {
            return Err(RestoreError::NotOurs { path: self.data_dir.clone() });
        }
        Ok(lock)
    }

    fn open(&self) -> Result<File, RestoreError> {
        File::open(&self.file).map_err(disk("read", &self.file))
    }

    fn read(&self) -> Result<Manifest, RestoreError> {
        let archive = self.open()?;
        let length = archive.metadata().map_err(disk("look at", &self.file))?.len();
        let read = archive::read(io::BufReader::new(archive), &Quota::of_bytes(length));
        read.map_err(|source| RestoreError::Archive { file: self.file.clone(), source })
    }

    /// The directory that the target is in, as a path of its own.
    fn parent(&self) -> Result<PathBuf, RestoreError> {
        let parent = self.data_dir.parent().filter(|parent| !parent.as_os_str().is_empty());
        let parent = parent.unwrap_or(Path::new("."));
        DirBuilder::new().recursive(true).create(parent).map_err(disk("make", parent))?;
        Ok(parent.to_owned())
    }

    fn name(&self) -> Result<String, RestoreError> {
        let name = self.data_dir.file_name().and_then(|name| name.to_str());
        let invalid = || disk("restore to", &self.data_dir)(io::ErrorKind::InvalidFilename.into());
        name.map(str::to_owned).ok_or_else(invalid)
    }

    /// Unpacks beside the target.
    fn unpacked(&self, manifest: &Manifest) -> Result<tempfile::TempDir, RestoreError> {
        let parent = self.parent()?;
        let prefix = format!("{STAGING}{}-", self.name()?);
        remove_leftovers(&parent, &prefix);
        let found =
            nix::sys::statvfs::statvfs(&parent).map_err(|error| disk("look at", &parent)(error.into()))?;
        let free = found.blocks_available().saturating_mul(found.fragment_size());
        let needed = manifest.bytes().saturating_add(LEFT_FREE);
        if needed > free {
            return Err(RestoreError::Full { path: parent, needed, free });
        }
        let private = fs::Permissions::from_mode(0o700);
        let staging = tempfile::Builder::new().prefix(&prefix).permissions(private).tempdir_in(&parent);
        let staging = staging.map_err(disk("make a directory in", &parent))?;
        // So that another restore does not take it for a leftover.
        File::create(staging.path().join(LOCK)).map_err(disk("write to", staging.path()))?;
        let _held = DirLock::take(staging.path())?;
        let archive = io::BufReader::new(self.open()?);
        let unpacked = archive::unpack(archive, &Quota::of_bytes(manifest.bytes()), staging.path())
            .map_err(|source| RestoreError::Archive { file: self.file.clone(), source })?;
        if unpacked != *manifest {
            let reason = "it changed while it was read".to_owned();
            let source = ArchiveError::Manifest { reason };
            return Err(RestoreError::Archive { file: self.file.clone(), source });
        }
        Ok(staging)
    }

    /// What becomes of each key that the backup does not hold.
    fn key_fates(&self, manifest: &Manifest) -> Vec<KeyFate> {
        let prints = KeyPrints::of(&self.data_dir);
        let keys = manifest.left_out.iter().filter(|left| left.why == Why::Key);
        keys.filter_map(|left| {
            // What an archive names is joined to a directory only if it is a place.
            let place = Place::try_from(left.path.as_str()).ok()?;
            let bytes = super::read_key(&place.below(&self.data_dir));
            let same = match (&bytes, &prints, &left.print) {
                (Some(bytes), Some(prints), Some(print)) => prints.print(bytes) == *print,
                _ => false,
            };
            let state = match (same, bytes.is_some(), place.as_str()) {
                (true, _, _) => KeyState::Present,
                (false, _, "root.key" | "initial-password") => KeyState::MadeAnew,
                (false, true, _) => KeyState::Other,
                (false, false, _) => KeyState::Missing,
            };
            let is_lost = matches!(state, KeyState::Missing | KeyState::Other)
                // Nothing was sealed, or the backup would say so.
                && (place.as_str() != "secrets.key" || manifest.lacks.contains(&lost(place.as_str())));
            let lost = is_lost.then(|| lost(place.as_str()));
            Some(KeyFate { path: left.path.clone(), state, lost })
        })
        .collect()
    }

    /// Puts the keys beside what was unpacked that are there, and gives up those that are not.
    fn put_keys(&self, staging: &Path, fates: &[KeyFate]) -> Result<(), RestoreError> {
        for fate in fates {
            let Ok(place) = Place::try_from(fate.path.as_str()) else { continue };
            let target = place.below(staging);
            if fate.state == KeyState::Present {
                let source = place.below(&self.data_dir);
                if let Some(parent) = target.parent() {
                    let made = DirBuilder::new().recursive(true).mode(0o700).create(parent);
                    made.map_err(disk("make", parent))?;
                }
                fs::copy(&source, &target).map_err(disk("copy", &source))?;
                let private = fs::Permissions::from_mode(0o600);
                fs::set_permissions(&target, private).map_err(disk("close", &target))?;
                let synced = File::open(&target).and_then(|file| file.sync_all());
                synced.map_err(disk("write", &target))?;
            } else if place.as_str() == "audit.key" {
                begin_audit_anew(staging)?;
            } else if place.as_str() == "secrets.key" {
                give_up_secrets(staging)?;
            }
        }
        Ok(())
    }

    fn action(&self, manifest: &Manifest, lost: &[String]) -> Action {
        Action {
            actor: Actor { user: "host".to_owned(), key_id: None, session_id: None, address: None },
            action: "backup.restore",
            target: "data directory".to_owned(),
            detail: json!({
                "created": manifest.created, "version": manifest.version, "files": manifest.files.len(), "lost": lost,
            }),
            request_id: None,
        }
    }

    /// Puts what was restored into the place of a data directory; answers where that is now.
    fn change_places(&self, staging: tempfile::TempDir) -> Result<PathBuf, RestoreError> {
        let (parent, to) = (self.parent()?, &self.data_dir);
        let kept = parent.join(format!("{}.before-restore-{}", self.name()?, stamp()));
        // First under the name that stays: what was there before is never called like something unfinished,
        // which the next restore removes.
        fs::rename(staging.path(), &kept).map_err(disk("rename", staging.path()))?;
        let _moved = staging.keep();
        // At once, so that there is no moment without a data directory.
        if let Err(error) = renameat_with(CWD, &kept, CWD, to, RenameFlags::EXCHANGE) {
            // The first error counts.
            let _ = fs::remove_dir_all(&kept);
            return Err(match error {
                rustix::io::Errno::BUSY => RestoreError::MountPoint { path: to.clone() },
                error => disk("put the backup into the place of", to)(error.into()),
            });
        }
        sync(&parent)?;
        Ok(kept)
    }

    /// Puts what was restored where nothing was. Nothing holds a host off that came meanwhile, so what is
    /// there now is replaced only if it is empty.
    fn take_place(&self, staging: tempfile::TempDir) -> Result<(), RestoreError> {
        let parent = self.parent()?;
        fs::rename(staging.path(), &self.data_dir)
            .map_err(disk("put the backup into the place of", &self.data_dir))?;
        let _moved = staging.keep();
        sync(&parent)
    }
}

/// The lock of a data directory.
const LOCK: &str = "lock";

/// What is lost without a key.
pub(super) fn lost(path: &str) -> String {
    match (path, Place::try_from(path).ok().and_then(|place| place.plugin())) {
        ("audit.key", _) => {
            "without `audit.key` the audit log cannot be verified: its entries are kept as text, and \
             another log begins"
                .to_owned()
        }
        ("secrets.key", _) => {
            "without `secrets.key` the saved secrets of plugins cannot be read, and have to be set again"
                .to_owned()
        }
        ("root.key", _) => "without `root.key` another root key is made".to_owned(),
        (path, Some(plugin)) => format!("without `{path}` the plugin `{plugin}` loses what that key opens"),
        (path, None) => format!("without `{path}` what it opens is lost"),
    }
}

/// Opens every database, and the host's as a host would; answers how long the audit log is.
fn examined(staging: &Path, manifest: &Manifest, action: &Action) -> Result<u64, RestoreError> {
    for file in &manifest.files {
        let path = file.path.below(staging);
        if bkg_sqlite::is_database(&path).map_err(disk("read", &path))? {
            bkg_sqlite::examine(&path)?;
        }
    }
    let verification = try_out(staging, action.clone())?;
    if !verification.findings.is_empty() {
        return Err(RestoreError::Audit { findings: verification.findings.len() });
    }
    Ok(verification.entries)
}

/// Removes what a restore left that was killed.
fn remove_leftovers(parent: &Path, prefix: &str) {
    let Ok(entries) = fs::read_dir(parent) else { return };
    for entry in entries.flatten() {
        let is_ours = entry.file_name().to_str().is_some_and(|name| name.starts_with(prefix));
        // One that goes on holds its lock.
        if is_ours && DirLock::take(&entry.path()).is_ok() {
            let _ = fs::remove_dir_all(entry.path());
        }
    }
}

/// Brings every directory of a tree to the disk; the files are there already.
fn sync_tree(directory: &Path) -> Result<(), RestoreError> {
    for entry in fs::read_dir(directory).map_err(disk("read", directory))? {
        let entry = entry.map_err(disk("read", directory))?;
        if entry.file_type().map_err(disk("look at", directory))?.is_dir() {
            sync_tree(&entry.path())?;
        }
    }
    sync(directory)
}

fn sync(directory: &Path) -> Result<(), RestoreError> {
    File::open(directory).and_then(|file| file.sync_all()).map_err(disk("write to", directory))
}

/// The moment as a part of a file's name.
fn stamp() -> String {
    strtime::format("%Y%m%dT%H%M%S%3fZ", Timestamp::now()).expect("the form fits any time")
}

fn disk(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> RestoreError {
    let path = path.to_owned();
    move |source| RestoreError::Disk { action, path, source }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A directory beside the target, with what was restored in it.
    fn staged(parent: &Path) -> tempfile::TempDir {
        let staging = tempfile::Builder::new().prefix(".restore-data-").tempdir_in(parent).unwrap();
        fs::write(staging.path().join("bkg.db"), "restored").unwrap();
        staging
    }

    fn restore(data_dir: PathBuf) -> Restore {
        Restore { file: PathBuf::from("backup.tar"), data_dir, without_keys: false }
    }

    #[test]
    fn a_host_that_started_where_nothing_was_keeps_its_place() {
        let parent = tempfile::tempdir().unwrap();
        let restore = restore(parent.path().join("data"));
        assert!(restore.lock().unwrap().is_none());
        let staging = staged(parent.path());
        fs::create_dir(&restore.data_dir).unwrap();
        fs::write(restore.data_dir.join("bkg.db"), "of the host that came").unwrap();
        restore.take_place(staging).unwrap_err();
        assert_eq!(fs::read(restore.data_dir.join("bkg.db")).unwrap(), b"of the host that came");
        assert_eq!(fs::read_dir(parent.path()).unwrap().count(), 1, "nothing is left over");
    }

    #[test]
    fn what_was_there_is_kept_and_the_next_restore_does_not_take_it_for_a_leftover() {
        let parent = tempfile::tempdir().unwrap();
        let real = parent.path().join("data");
        fs::create_dir(&real).unwrap();
        fs::write(real.join("bkg.db"), "earlier").unwrap();
        let link = parent.path().join("link");
        std::os::unix::fs::symlink(&real, &link).unwrap();
        let restore = restore(link).resolved().unwrap();
        let kept = restore.change_places(staged(parent.path())).unwrap();
        remove_leftovers(parent.path(), ".restore-data-");
        assert_eq!(fs::read(kept.join("bkg.db")).unwrap(), b"earlier");
        assert_eq!(fs::read(real.join("bkg.db")).unwrap(), b"restored");
    }

    #[test]
    fn a_mount_point_is_refused_before_anything_is_read() {
        for mounted in ["/", "/proc"] {
            let error = restore(PathBuf::from(mounted)).run().unwrap_err();
            assert!(matches!(error, RestoreError::MountPoint { .. }), "{error}");
        }
    }
}
