//! The data directory: one host at a time owns it, and this module alone touches the host's own files.
//!
//! Not what plugins keep in their own directories, and not their logs. The invariants: two hosts never
//! share a directory, a file is whole or not there, and nobody but the host's user can read any of it.
//! `app` opens it; `supervisor` uses the ledger; `cli` reads root key, ports and audit log without
//! owning the directory. All calls that are not `async` block.

mod atomic;
mod audit;
mod backup;
mod database;
mod initial_password;
pub mod ledger;
mod mirror;
mod ports;
mod revisions;
mod root_key;
mod runs;
mod settings;
mod usage;
mod vault;

use std::fs::{self, DirBuilder, File, OpenOptions, Permissions, TryLockError};
use std::io::{self, Read, Seek, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use bkg_protocol::PluginName;
pub use bkg_sqlite::Condition;
use bkg_sqlite::{DatabaseError, OpenError, rusqlite};
use uuid::Uuid;

pub use atomic::{replace, write_atomic};
pub use audit::{
    Action, Actor, Audit, AuditFile, AuditFilter, AuditRow, EntryKind, Finding, Intent, OpenIntent,
    Outcome, Verification,
};
pub use backup::{DirLock, KeyPrints, begin_audit_anew, give_up_secrets, try_out};
pub use database::Store;
#[cfg(test)]
pub(crate) use database::tests::tamper;
pub use ledger::{Ledger, LedgerContents, LedgerEntry, LedgeredProcess, UnreadableEntry};
pub use mirror::{Mirror, MirrorState};
pub use ports::Ports;
pub use revisions::{Revision, Revisions, Saved};
pub use root_key::RootKey;
pub use runs::{OpenRequest, PluginEvent, ResourcePoint, Run, RunCard, RunExit, RunOutcome, Runs, Story};
pub use settings::{Replaced, Settings};
pub use usage::{
    AttemptRecord, Bodies, Usage, UsageFilter, UsageGroup, UsageOfGroup, UsageQuestion, UsageRecord,
    UsageRow, UsageSum, UsageSums, UsedSoFar,
};
pub use vault::{Vault, VaultError};

/// Why the data directory, or something in it, cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// Another host owns the directory.
    #[error(
        "another host{} uses the data directory `{}`: stop it, or choose another `--data-dir`",
        pid.map(|pid| format!(" (pid {pid})")).unwrap_or_default(),
        path.display()
    )]
    Locked {
        /// The directory.
        path: PathBuf,
        /// The other host's process, if it has written its id yet.
        pid: Option<u32>,
    },
    /// The root key is there, but is no root key.
    #[error(
        "`{}` is empty or damaged: restore it from a backup, or delete it to get a new root key at the next start",
        path.display()
    )]
    RootKeyDamaged {
        /// The file.
        path: PathBuf,
    },
    /// A file is there, but cannot be understood.
    #[error("`{}` cannot be read: {reason}", path.display())]
    Malformed {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// The host's database cannot be opened.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// There are audit entries, but not the key that they were written with.
    #[error(
        "`{}` is missing, and the audit log cannot go on without it: restore it from a backup together with `bkg.db`",
        path.display()
    )]
    AuditKeyLost {
        /// The key's file.
        path: PathBuf,
    },
    /// The audit key is there, but is no key.
    #[error("`{}` is empty or damaged: restore it from a backup", path.display())]
    AuditKeyDamaged {
        /// The key's file.
        path: PathBuf,
    },
    /// The audit key is of another audit log.
    #[error(
        "`audit.key` is not the key that the audit log in `{}` was written with: restore both from the same backup",
        path.display()
    )]
    AuditKeyWrong {
        /// The database.
        path: PathBuf,
    },
    /// Somebody else has changed the audit log's head.
    #[error(
        "the audit log in `{}` was changed from outside and cannot go on: `bkg audit verify` says what was done; \
         restore the database from a backup",
        path.display()
    )]
    AuditBroken {
        /// The database.
        path: PathBuf,
    },
    /// There are sealed secrets, but not the key that they were sealed with.
    #[error(
        "`{}` is missing, and the secrets in `bkg.db` cannot be opened without it: restore it from the backup that \
         `bkg.db` is of; {GIVE_UP}",
        path.display()
    )]
    SecretsKeyLost {
        /// The key's file.
        path: PathBuf,
    },
    /// The key of the secrets is there, but is no key.
    #[error("`{}` is empty or damaged: restore it from a backup; {GIVE_UP}", path.display())]
    SecretsKeyDamaged {
        /// The key's file.
        path: PathBuf,
    },
    /// The key of the secrets is of another database.
    #[error(
        "`{}` is not the key that the secrets in `bkg.db` were sealed with: restore both from the same backup; \
         {GIVE_UP}",
        path.display()
    )]
    SecretsKeyWrong {
        /// The key's file.
        path: PathBuf,
    },
    /// An outcome for what nobody announced.
    #[error("the audit log has no intent `{id}` that could be settled")]
    NoSuchIntent {
        /// The id that was given.
        id: Uuid,
    },
    /// The mirror of the entries holds what the host did not write.
    #[error(
        "`{}` was edited by hand and is not overwritten: import the edit, or discard it, which keeps it in a file \
         beside it",
        path.display()
    )]
    MirrorEdited {
        /// The mirror.
        path: PathBuf,
    },
    /// The disk has no room; the change was not made.
    #[error(
        "the disk of the data directory is full, and nothing was changed: free some space and try again"
    )]
    Full,
    /// The disk failed at a write; the change was not made.
    #[error(
        "the disk of the data directory failed ({reason}), and nothing was changed: look at the disk; changes are \
         taken again by themselves once the database has been checked"
    )]
    Failing {
        /// What the disk said.
        reason: String,
    },
    /// The host's database failed at something; a change was then not made.
    #[error(transparent)]
    Database(DatabaseError),
    /// The disk or the permissions.
    #[error("cannot {action} `{}`: {source}", path.display())]
    Disk {
        /// What was tried.
        action: &'static str,
        /// With which file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

/// The last way out where the key of the secrets is gone for good.
const GIVE_UP: &str =
    "if there is none, write `new` into the file to get another key, and set all secrets again";

impl StoreError {
    /// Turns the system's error about `path` into one that says what was tried.
    fn disk(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Disk { action, path, source }
    }

    /// Whether something in the data directory was lost, damaged or changed, so that nothing but a
    /// person with a backup can help: the exit code 6 of the command line.
    pub fn is_about_damage(&self) -> bool {
        match self {
            Self::RootKeyDamaged { .. }
            | Self::Malformed { .. }
            | Self::AuditKeyLost { .. }
            | Self::AuditKeyDamaged { .. }
            | Self::AuditKeyWrong { .. }
            | Self::AuditBroken { .. }
            | Self::SecretsKeyLost { .. }
            | Self::SecretsKeyDamaged { .. }
            | Self::SecretsKeyWrong { .. } => true,
            Self::Open(error) => !matches!(
                error,
                OpenError::Disk { .. } | OpenError::Migration { .. } | OpenError::Older { .. }
            ),
            Self::Locked { .. }
            | Self::NoSuchIntent { .. }
            | Self::MirrorEdited { .. }
            | Self::Full
            | Self::Failing { .. }
            | Self::Database(_)
            | Self::Disk { .. } => false,
        }
    }
}

impl From<DatabaseError> for StoreError {
    fn from(error: DatabaseError) -> Self {
        match error {
            DatabaseError::Full => Self::Full,
            DatabaseError::Failing { reason } => Self::Failing { reason: reason.to_string() },
            other => Self::Database(other),
        }
    }
}

impl From<rusqlite::Error> for StoreError {
    fn from(error: rusqlite::Error) -> Self {
        DatabaseError::from(error).into()
    }
}

/// The data directory, owned: nobody else has it until this is dropped.
#[derive(Debug)]
pub struct DataDir {
    path: PathBuf,
    root_key: RootKey,
    ledger: Ledger,
    /// Holds the lock for as long as it is open. Not inherited by child processes.
    _lock: File,
}

/// The directories that one plugin has below the data directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PluginDirs {
    /// What the plugin itself keeps.
    pub data: PathBuf,
    /// What the host hands to its processes.
    pub run: PathBuf,
    /// Its log files.
    pub logs: PathBuf,
}

impl DataDir {
    /// Takes the directory, making it and the root key if this is the first start.
    ///
    /// What a former host left behind that would lie about this one, its `ports.json`, is gone
    /// afterwards; its ledger is kept for whoever reaps.
    ///
    /// # Errors
    /// [`StoreError::Locked`] at once if another host has it; damaged files are never replaced.
    pub fn open(path: &Path) -> Result<Self, StoreError> {
        make_data_dir(path)?;
        let path = path.canonicalize().map_err(StoreError::disk("find", path))?;
        let lock = take_lock(&path)?;
        atomic::remove_leftovers(&path);
        ports::remove(&path)?;
        let root_key = RootKey::read_or_make(&path)?;
        let ledger = Ledger::open(path.join("ledger"))?;
        Ok(Self { path, root_key, ledger, _lock: lock })
    }

    /// The directory's real path.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The credential that the host itself checks.
    pub fn root_key(&self) -> &RootKey {
        &self.root_key
    }

    /// The launches that this host and the one before it have made.
    pub fn ledger(&self) -> &Ledger {
        &self.ledger
    }

    /// Says where this host listens, for scripts and the command line.
    ///
    /// # Errors
    /// The disk's.
    pub fn write_ports(&self, ports: &Ports) -> Result<(), StoreError> {
        ports.write(&self.path)
    }

    /// Takes back what [`DataDir::write_ports`] said; for a clean stop.
    ///
    /// # Errors
    /// The disk's.
    pub fn remove_ports(&self) -> Result<(), StoreError> {
        ports::remove(&self.path)
    }

    /// The directory of all plugins' directories.
    pub fn plugins(&self) -> PathBuf {
        self.path.join("plugins")
    }

    /// The directories of one plugin, made if they are not there.
    ///
    /// # Errors
    /// The disk's.
    pub fn plugin_dirs(&self, plugin: &PluginName) -> Result<PluginDirs, StoreError> {
        let own = self.plugins().join(plugin.as_str());
        let dirs = PluginDirs { data: own.join("data"), run: own.join("run"), logs: own.join("logs") };
        for directory in [&self.plugins(), &own, &dirs.data, &dirs.run, &dirs.logs] {
            make_private(directory)?;
        }
        Ok(dirs)
    }
}

/// Makes the data directory. One that is there already is closed to others only if it is empty or has
/// been a data directory before: `--data-dir /tmp` must not close `/tmp` to everybody else.
fn make_data_dir(path: &Path) -> Result<(), StoreError> {
    let is_open = make_dir(path)?;
    if !is_open {
        return Ok(());
    }
    let mut inside = fs::read_dir(path).map_err(StoreError::disk("look into", path))?;
    if path.join(LOCK).exists() || inside.next().is_none() {
        return close_to_others(path);
    }
    tracing::warn!(path = %path.display(), "others may look into the data directory: give the host one of its own");
    Ok(())
}

/// Makes a directory inside the data directory, closed to others in any case.
fn make_private(path: &Path) -> Result<(), StoreError> {
    if make_dir(path)? { close_to_others(path) } else { Ok(()) }
}

/// Makes a directory, and says whether others have any right to it.
fn make_dir(path: &Path) -> Result<bool, StoreError> {
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(path)
        .map_err(StoreError::disk("make the directory", path))?;
    let mode = fs::metadata(path).map_err(StoreError::disk("look at", path))?.permissions().mode();
    Ok(mode & 0o077 != 0)
}

fn close_to_others(path: &Path) -> Result<(), StoreError> {
    fs::set_permissions(path, Permissions::from_mode(0o700)).map_err(StoreError::disk("close", path))
}

const LOCK: &str = "lock";

fn take_lock(directory: &Path) -> Result<File, StoreError> {
    let path = directory.join(LOCK);
    // Not truncated: until the lock is ours, what is in it is the other host's.
    let mut file = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(&path)
        .map_err(StoreError::disk("open", &path))?;
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => {
            let mut text = String::new();
            let read = (&file).take(32).read_to_string(&mut text);
            let pid = read.ok().and_then(|_| text.trim().parse().ok());
            return Err(StoreError::Locked { path: directory.to_owned(), pid });
        }
        Err(TryLockError::Error(source)) => return Err(StoreError::disk("lock", &path)(source)),
    }
    let write_pid = |file: &mut File| {
        file.set_len(0)?;
        file.rewind()?;
        writeln!(file, "{}", std::process::id())
    };
    // What the file says is for the message of a second host alone: a full disk is no reason not to start.
    if let Err(error) = write_pid(&mut file) {
        tracing::warn!(path = %path.display(), %error, "the lock does not say who holds it");
    }
    Ok(file)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).unwrap().permissions().mode() & 0o7777
    }

    #[test]
    fn a_full_disk_is_told_from_other_failures() {
        let failure = |code| rusqlite::Error::SqliteFailure(rusqlite::ffi::Error::new(code), None);
        assert!(matches!(StoreError::from(failure(rusqlite::ffi::SQLITE_FULL)), StoreError::Full));
        assert!(matches!(
            StoreError::from(failure(rusqlite::ffi::SQLITE_CORRUPT)),
            StoreError::Database(_)
        ));
    }

    #[test]
    fn the_first_start_makes_everything_private() {
        let parent = tempfile::tempdir().unwrap();
        let path = parent.path().join("deep/data");
        let data = DataDir::open(&path).unwrap();
        let dirs = data.plugin_dirs(&"ping".parse().unwrap()).unwrap();
        for directory in
            [&path, &path.join("ledger"), &path.join("plugins/ping"), &dirs.data, &dirs.run, &dirs.logs]
        {
            assert_eq!(mode(directory), 0o700, "{}", directory.display());
        }
        for file in ["lock", "root.key"] {
            assert_eq!(mode(&path.join(file)), 0o600, "{file}");
        }
        assert_eq!(dirs.logs, path.canonicalize().unwrap().join("plugins/ping/logs"));
    }

    #[test]
    fn a_second_host_is_told_who_has_the_directory() {
        let parent = tempfile::tempdir().unwrap();
        let first = DataDir::open(parent.path()).unwrap();
        let error = DataDir::open(parent.path()).unwrap_err();
        assert!(
            matches!(error, StoreError::Locked { pid: Some(pid), .. } if pid == std::process::id()),
            "{error}"
        );
        assert_eq!(
            error.to_string(),
            format!(
                "another host (pid {}) uses the data directory `{}`: stop it, or choose another `--data-dir`",
                std::process::id(),
                first.path().display()
            )
        );
        drop(first);
        DataDir::open(parent.path()).unwrap();
    }

    #[test]
    fn a_second_host_disturbs_nothing_of_the_first() {
        let parent = tempfile::tempdir().unwrap();
        let first = DataDir::open(parent.path()).unwrap();
        let ports = Ports { api: 1, ..Ports::of_this_process() };
        first.write_ports(&ports).unwrap();
        DataDir::open(parent.path()).unwrap_err();
        assert_eq!(Ports::read(parent.path()).unwrap(), Some(ports));
    }

    #[test]
    fn a_lock_that_a_killed_host_left_is_free() {
        let parent = tempfile::tempdir().unwrap();
        fs::write(parent.path().join("lock"), "4294967295 and more text than the next host writes\n")
            .unwrap();
        let _data = DataDir::open(parent.path()).unwrap();
        assert_eq!(
            fs::read_to_string(parent.path().join("lock")).unwrap(),
            format!("{}\n", std::process::id())
        );
    }

    #[test]
    fn stale_ports_and_half_written_files_are_gone_after_opening() {
        let parent = tempfile::tempdir().unwrap();
        fs::write(parent.path().join("ports.json"), "{}").unwrap();
        fs::write(parent.path().join(".ports.json.1-1.tmp"), "{").unwrap();
        fs::write(parent.path().join("notes.tmp"), "the operator's own").unwrap();
        let _data = DataDir::open(parent.path()).unwrap();
        let mut names: Vec<_> = fs::read_dir(parent.path())
            .unwrap()
            .map(|item| item.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        assert_eq!(names, ["ledger", "lock", "notes.tmp", "root.key"]);
    }

    #[test]
    fn a_directory_of_others_is_used_but_not_closed_to_them() {
        let parent = tempfile::tempdir().unwrap();
        let (empty, shared) = (parent.path().join("empty"), parent.path().join("shared"));
        for directory in [&empty, &shared] {
            fs::create_dir(directory).unwrap();
            fs::set_permissions(directory, Permissions::from_mode(0o755)).unwrap();
        }
        fs::write(shared.join("something"), "").unwrap();
        drop(DataDir::open(&empty).unwrap());
        drop(DataDir::open(&shared).unwrap());
        assert_eq!((mode(&empty), mode(&shared)), (0o700, 0o755));
    }

    #[test]
    fn a_path_that_cannot_be_a_directory_is_named() {
        let parent = tempfile::tempdir().unwrap();
        let path = parent.path().join("file");
        fs::write(&path, "").unwrap();
        let error = DataDir::open(&path).unwrap_err().to_string();
        assert!(error.starts_with(&format!("cannot make the directory `{}`: ", path.display())), "{error}");
    }
}
