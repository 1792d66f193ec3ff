//! What all parts of one check share: its place on disk, who starts processes, and what still runs.
//!
//! It judges nothing. The invariant: when a check is over, however it ended, no process that it started
//! is alive and nothing that it wrote is left.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio::runtime::Handle;

use super::notebook::Notebook;
use super::rule::{Level, Rule};
use super::target::{Place, Target};
use super::{Progress, Wishes};
use crate::registry::process_table::{LaunchProcess, ProcessTableError};
use crate::supervisor::processes::stop_launch;
use crate::supervisor::spawn::LaunchError;
use crate::supervisor::{Spawner, SpawnerError};

/// Why a check could not be carried out. Never the plugin's fault.
#[derive(Debug, thiserror::Error)]
pub enum KitError {
    /// The disk.
    #[error("the check has no place for its files: `{}`: {source}", path.display())]
    Place {
        /// Where.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// No port.
    #[error("the check cannot listen at {address}: {source}")]
    Listen {
        /// Where.
        address: SocketAddr,
        /// What the system said.
        source: io::Error,
    },
    /// No processes can be started.
    #[error(transparent)]
    Spawner(#[from] SpawnerError),
    /// This one could not.
    #[error("{0}")]
    Launch(LaunchError),
    /// What runs cannot be found out.
    #[error(transparent)]
    Processes(#[from] ProcessTableError),
    /// A process that nobody can end.
    #[error("{0} processes of the plugin cannot be killed: the machine or its disk is stuck")]
    Undying(usize),
}

/// How long a plugin may build before it dials for the first time.
pub(super) const FIRST_DIAL_WITHIN: Duration = Duration::from_secs(600);
/// How long a plugin may take to dial that has been started here before and is quick.
const DIAL_WITHIN: Duration = Duration::from_secs(30);
/// How many launches play at once, and one more for what else the machine does.
const LAUNCHES_AT_ONCE: u32 = 5;

/// One check.
pub(super) struct Kit<'a> {
    pub(super) target: &'a Target,
    pub(super) wishes: &'a Wishes,
    pub(super) progress: &'a Progress<'a>,
    pub(super) notebook: Arc<Notebook>,
    /// What the plugin registered for, once it has.
    pub(super) contract: OnceLock<Level>,
    /// How long its first launch took to dial, once that has.
    pub(super) first_dial: OnceLock<Duration>,
    /// Where a plugin that is started by hand is waited for.
    pub(super) by_hand: Option<Arc<TcpListener>>,
    spawner: Option<Spawner>,
    root: TempDir,
    launches: AtomicU32,
    alive: Mutex<Vec<LaunchProcess>>,
}

impl<'a> Kit<'a> {
    pub(super) async fn new(
        target: &'a Target,
        wishes: &'a Wishes,
        progress: &'a Progress<'a>,
    ) -> Result<Self, KitError> {
        let root = tempfile::Builder::new()
            .prefix("bkg-check-")
            .tempdir()
            .map_err(|source| KitError::Place { path: std::env::temp_dir(), source })?;
        let (by_hand, spawner) = match &target.place {
            Place::Address(address, _) => (Some(Arc::new(listen(*address).await?)), None),
            Place::Folder(_) => (None, Some(Spawner::start(Handle::current())?)),
        };
        let kit = Self {
            target,
            wishes,
            progress,
            notebook: Arc::new(Notebook::new()),
            contract: OnceLock::new(),
            first_dial: OnceLock::new(),
            by_hand,
            spawner,
            root,
            launches: AtomicU32::new(0),
            alive: Mutex::default(),
        };
        kit.directory("cache")?;
        Ok(kit)
    }

    /// Who starts processes; nobody does where somebody starts the plugin by hand.
    pub(super) fn spawner(&self) -> Option<&Spawner> {
        self.spawner.as_ref()
    }

    /// Where the plugin builds; the same for all launches.
    pub(super) fn cache(&self) -> PathBuf {
        self.root.path().join("cache")
    }

    /// A directory of one launch's own.
    pub(super) fn launch_directory(&self) -> Result<PathBuf, KitError> {
        let number = self.launches.fetch_add(1, Ordering::Relaxed);
        let directory = self.directory(&number.to_string())?;
        self.directory(&format!("{number}/data"))?;
        Ok(directory)
    }

    fn directory(&self, name: &str) -> Result<PathBuf, KitError> {
        let path = self.root.path().join(name);
        match std::fs::create_dir(&path) {
            Ok(()) => Ok(path),
            Err(source) => Err(KitError::Place { path, source }),
        }
    }

    /// Writes a file that the plugin reads.
    pub(super) fn write(&self, path: &Path, text: &[u8]) -> Result<(), KitError> {
        crate::store::replace(path, text, 0o600)
            .map_err(|source| KitError::Place { path: path.to_owned(), source })
    }

    /// A process that has to be ended before the check is over.
    pub(super) fn runs(&self, process: LaunchProcess) {
        self.alive.lock().unwrap_or_else(PoisonError::into_inner).push(process);
    }

    /// Nothing of this process is left.
    pub(super) fn is_gone(&self, process: LaunchProcess) {
        self.alive.lock().unwrap_or_else(PoisonError::into_inner).retain(|alive| *alive != process);
    }

    /// Ends whatever is still running.
    pub(super) async fn end_all(&self) -> Result<(), KitError> {
        let alive = std::mem::take(&mut *self.alive.lock().unwrap_or_else(PoisonError::into_inner));
        let mut survivors = 0;
        for process in alive {
            survivors += stop_launch(&process, Duration::ZERO).await?.survivors.len();
        }
        if survivors > 0 { Err(KitError::Undying(survivors)) } else { Ok(()) }
    }

    /// Whether any of these rules was asked for.
    pub(super) fn wants(&self, rules: &[Rule]) -> bool {
        rules.iter().any(|rule| self.wishes.wants(*rule))
    }

    /// How long a further launch may take to dial: several play at once, each as slow as the first together.
    pub(super) fn dial_within(&self) -> Duration {
        let first = self.first_dial.get().copied().unwrap_or_default();
        DIAL_WITHIN.max(LAUNCHES_AT_ONCE * first).min(FIRST_DIAL_WITHIN)
    }

    /// Whether the plugin speaks the extended contract, and its rules are asked for.
    pub(super) fn is_extended(&self) -> bool {
        self.contract.get() == Some(&Level::Extended) && self.wishes.level != Some(Level::Base)
    }
}

async fn listen(address: SocketAddr) -> Result<TcpListener, KitError> {
    TcpListener::bind(address).await.map_err(|source| KitError::Listen { address, source })
}

/// A listener for one launch, on any free port.
pub(super) async fn private_listener() -> Result<TcpListener, KitError> {
    listen((Ipv4Addr::LOCALHOST, 0).into()).await
}
