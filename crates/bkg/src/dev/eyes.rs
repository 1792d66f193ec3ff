//! Where something moved: told by the kernel, or looked for once in a while where the kernel cannot.
//!
//! Not what moved: an event only says where to look. The invariant: what cannot be watched is looked at
//! all the same, and said; nothing is ever silently left out. Bounded: places beyond a number become
//! "everywhere".

use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use notify::{ErrorKind, Event, EventKind, RecommendedWatcher, RecursiveMode, Watcher};
use tokio::sync::Notify;
use tracing::warn;

use crate::supervisor::folder::Folder;

/// How often folders are looked at that the kernel does not watch.
pub(super) const LOOKS_EVERY: Duration = Duration::from_secs(1);
/// How many places are remembered until somebody looks.
const MOST_PLACES: usize = 4_096;

/// Watches folders, each by itself and without what is below it.
#[derive(Debug)]
pub(super) struct Eyes {
    /// `None` where everything is looked at once in a while.
    kernel: Option<RecommendedWatcher>,
    watched: HashMap<PathBuf, (u64, u64)>,
    moved: Arc<Moved>,
}

/// Where something moved since the last look.
#[derive(Debug, Default)]
struct Moved {
    places: Mutex<Places>,
    wake: Notify,
}

/// Some places, or all that there are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Places {
    /// These files and folders.
    Some(HashSet<PathBuf>),
    /// Events were lost, or there were too many.
    Everywhere,
}

impl Default for Places {
    fn default() -> Self {
        Self::Some(HashSet::new())
    }
}

impl Places {
    fn add(&mut self, paths: Vec<PathBuf>) {
        if let Self::Some(places) = self {
            places.extend(paths);
            if places.len() > MOST_PLACES {
                *self = Self::Everywhere;
            }
        }
    }
}

impl Moved {
    fn lock(&self) -> MutexGuard<'_, Places> {
        self.places.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes note of what the kernel says; called on a thread of the watcher's own.
    fn hear(&self, event: notify::Result<Event>) {
        match event {
            // Reading a folder is an event, too, and looking is reading.
            Ok(event) if matches!(event.kind, EventKind::Access(_)) => return,
            Ok(event) if event.need_rescan() => *self.lock() = Places::Everywhere,
            Ok(event) => self.lock().add(event.paths),
            Err(error) => {
                warn!(%error, "watching folders went wrong: all of them are looked at");
                *self.lock() = Places::Everywhere;
            }
        }
        self.wake.notify_one();
    }
}

impl Eyes {
    /// Eyes that look at nothing yet.
    pub(super) fn open() -> Self {
        let moved = Arc::<Moved>::default();
        let hears = Arc::clone(&moved);
        let kernel = notify::recommended_watcher(move |event| hears.hear(event));
        let kernel = kernel.map_err(|error| warn_of(&error)).ok();
        Self { kernel, watched: HashMap::new(), moved }
    }

    /// Eyes that ask no kernel.
    #[cfg(test)]
    fn looking() -> Self {
        Self { kernel: None, watched: HashMap::new(), moved: Arc::default() }
    }

    /// Whether somebody has to look once in a while.
    pub(super) fn must_look(&self) -> bool {
        self.kernel.is_none()
    }

    /// Watches a folder from now on; answers whether it was not watched before.
    pub(super) fn watch(&mut self, folder: &Folder) -> bool {
        let Some(kernel) = &mut self.kernel else { return false };
        match self.watched.get(&folder.path) {
            Some(identity) if *identity == folder.identity => return false,
            // Another folder has taken the place of the one that was watched.
            Some(_) => drop(kernel.unwatch(&folder.path)),
            None => {}
        }
        match kernel.watch(&folder.path, RecursiveMode::NonRecursive) {
            Ok(()) => {
                self.watched.insert(folder.path.clone(), folder.identity);
                true
            }
            // It went away in the meantime: its parent tells of it.
            Err(error) if is_gone(&error) => false,
            Err(error) => {
                warn_of(&error);
                self.kernel = None;
                false
            }
        }
    }

    /// No longer watches folders for which `keep` does not hold.
    pub(super) fn keep(&mut self, keep: impl Fn(&Path) -> bool) {
        let Some(kernel) = &mut self.kernel else { return };
        self.watched.retain(|path, _| {
            let stays = keep(path);
            if !stays {
                // Of a folder that is gone, the kernel has forgotten it already.
                let _ = kernel.unwatch(path);
            }
            stays
        });
    }

    /// Waits until something moved. Nothing is lost if this is dropped.
    pub(super) async fn moved(&self) {
        self.moved.wake.notified().await;
    }

    /// Where something moved since this was asked last.
    pub(super) fn take(&self) -> Places {
        std::mem::take(&mut self.moved.lock())
    }
}

fn is_gone(error: &notify::Error) -> bool {
    match &error.kind {
        ErrorKind::PathNotFound => true,
        ErrorKind::Io(error) => error.kind() == std::io::ErrorKind::NotFound,
        _ => false,
    }
}

/// Says why the kernel does not watch, and what to do about it.
fn warn_of(error: &notify::Error) {
    let every = LOOKS_EVERY.as_secs_f64();
    let why = reason(error);
    warn!("folders of plugins cannot be watched: {why}; they are looked at every {every} s instead");
}

fn reason(error: &notify::Error) -> String {
    let raise = |sysctl: &str, to: u32| {
        format!("this user's share of `{sysctl}` is used up: raise it with `sysctl {sysctl}={to}`")
    };
    match &error.kind {
        ErrorKind::MaxFilesWatch => raise("fs.inotify.max_user_watches", 524_288),
        ErrorKind::Io(error) if error.raw_os_error() == Some(nix::libc::ENOSPC) => {
            raise("fs.inotify.max_user_watches", 524_288)
        }
        ErrorKind::Io(error) if error.raw_os_error() == Some(nix::libc::EMFILE) => {
            raise("fs.inotify.max_user_instances", 1_024)
        }
        _ => error.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_limit_of_the_kernel_is_named_with_the_sysctl_that_lifts_it() {
        let io = |code| notify::Error::io(std::io::Error::from_raw_os_error(code));
        for (error, sysctl) in [
            (notify::Error::new(ErrorKind::MaxFilesWatch), "sysctl fs.inotify.max_user_watches=524288"),
            (io(nix::libc::ENOSPC), "sysctl fs.inotify.max_user_watches=524288"),
            (io(nix::libc::EMFILE), "sysctl fs.inotify.max_user_instances=1024"),
        ] {
            assert!(reason(&error).contains(sysctl), "{error:?}");
        }
        assert!(Eyes::looking().must_look());
    }

    #[test]
    fn too_many_places_are_everywhere() {
        let mut places = Places::default();
        places.add((0..MOST_PLACES).map(|number| number.to_string().into()).collect());
        assert!(matches!(&places, Places::Some(places) if places.len() == MOST_PLACES));
        places.add(vec!["one-more".into()]);
        assert_eq!(places, Places::Everywhere);
    }

    #[tokio::test]
    async fn what_moves_is_told_and_reading_is_not() {
        let directory = tempfile::tempdir().unwrap();
        let snapshot = crate::supervisor::folder::Snapshot::of(directory.path()).unwrap();
        let mut eyes = Eyes::open();
        assert!(eyes.watch(&snapshot.folders()[0]));
        assert!(!eyes.watch(&snapshot.folders()[0]), "it is watched already");
        std::fs::read_dir(directory.path()).unwrap().count();
        let file = directory.path().join("file");
        std::fs::write(&file, "x").unwrap();
        let told = async {
            loop {
                eyes.moved().await;
                if let Places::Some(places) = eyes.take()
                    && !places.is_empty()
                {
                    return places;
                }
            }
        };
        let places = tokio::time::timeout(Duration::from_secs(30), told).await.unwrap();
        assert_eq!(places, HashSet::from([file]));
    }
}
