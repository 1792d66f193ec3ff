//! One cgroup of a launch: a directory that lists processes, ends them all, and bounds them.
//!
//! Blocks; the files are the kernel's. It knows neither plugins nor the other cgroups of its launch. The
//! invariant: only what is in the directory is signalled, whatever pids came and went meanwhile. Called
//! by `enclosure`.

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;

use crate::registry::process_table::{self, ProcessRef};
use crate::supervisor::processes;

/// How long processes may take to freeze. One in an uninterruptible system call does not, and is killed
/// all the same.
const FREEZE_WITHIN: Duration = Duration::from_millis(200);
/// How long a cgroup may count as busy after its last process has ended.
const REMOVE_WITHIN: Duration = Duration::from_millis(500);
/// Between two looks at what the kernel is about to do.
const LOOK_AGAIN: Duration = Duration::from_millis(1);

/// Which cgroup interface a hierarchy speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Version {
    /// One hierarchy for each controller.
    V1,
    /// One hierarchy for all.
    V2,
}

/// A cgroup, whether or not its directory is there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Cgroup {
    pub(super) version: Version,
    pub(super) path: PathBuf,
}

impl Cgroup {
    /// Sends SIGKILL to everything in it, sub-cgroups included. At once where the kernel can; else
    /// frozen, so that nothing forks away meanwhile; else one by one.
    pub(super) fn kill(&self) {
        if self.version == Version::V2 && write(&self.path.join("cgroup.kill"), "1").is_ok() {
            return;
        }
        self.freeze();
        for process in self.members() {
            processes::send(process, Signal::SIGKILL);
        }
        self.thaw();
    }

    /// Everything alive in it, sub-cgroups included.
    pub(super) fn members(&self) -> Vec<ProcessRef> {
        // First who it is, then whether it is in here: a pid that was given away in between is in neither.
        let member = |pid| {
            let entry = process_table::process(pid).filter(|entry| entry.alive)?;
            self.holds(pid).then(|| entry.reference())
        };
        self.processes().into_iter().filter_map(member).collect()
    }

    fn processes(&self) -> Vec<u32> {
        let mut pids = Vec::new();
        for directory in tree(&self.path) {
            let text = fs::read_to_string(directory.join("cgroup.procs")).unwrap_or_default();
            pids.extend(text.lines().filter_map(|line| line.parse::<u32>().ok()));
        }
        pids
    }

    /// Whether nothing in it is alive, or it is not there.
    pub(super) fn is_empty(&self) -> bool {
        match (self.version, count(&self.path.join("cgroup.events"), "populated")) {
            (Version::V2, Some(populated)) => populated == 0,
            _ => self.processes().is_empty(),
        }
    }

    /// Removes it with the cgroups that its processes made below it.
    ///
    /// # Errors
    /// Something in it is alive, or somebody else has put a mount on it.
    pub(super) fn remove(&self) -> io::Result<()> {
        let deadline = Instant::now() + REMOVE_WITHIN;
        loop {
            // The deepest first.
            let removed = tree(&self.path).iter().rev().try_for_each(fs::remove_dir);
            match removed {
                Err(error) if error.kind() == io::ErrorKind::NotFound && !self.path.exists() => {
                    return Ok(());
                }
                // The kernel is not done with the last process yet.
                Err(error) if error.kind() == io::ErrorKind::ResourceBusy && Instant::now() < deadline => {
                    std::thread::sleep(LOOK_AGAIN);
                }
                removed => return removed,
            }
        }
    }

    /// Whether the process with this pid is in it at this moment.
    fn holds(&self, pid: u32) -> bool {
        let name = self.path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        let groups = fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap_or_default();
        groups.lines().flat_map(|line| line.split('/')).any(|part| part == name)
    }

    /// Stops everything in it from running, where there is a way to.
    fn freeze(&self) {
        let (file, order) = self.freezer();
        if write(&self.path.join(file), order).is_err() {
            return;
        }
        let deadline = Instant::now() + FREEZE_WITHIN;
        let is_frozen = || match self.version {
            Version::V1 => {
                fs::read_to_string(self.path.join(file)).is_ok_and(|state| state.trim() == order)
            }
            Version::V2 => count(&self.path.join("cgroup.events"), "frozen") == Some(1),
        };
        while !is_frozen() && Instant::now() < deadline {
            std::thread::sleep(LOOK_AGAIN);
        }
    }

    /// Lets everything in it run, also what its own processes froze below it: in version 1 nothing that is
    /// frozen dies.
    fn thaw(&self) {
        let order = if self.version == Version::V1 { "THAWED" } else { "0" };
        for directory in tree(&self.path) {
            let _gone_meanwhile = write(&directory.join(self.freezer().0), order);
        }
    }

    fn freezer(&self) -> (&'static str, &'static str) {
        match self.version {
            Version::V1 => ("freezer.state", "FROZEN"),
            Version::V2 => ("cgroup.freeze", "1"),
        }
    }
}

/// Writes into a file of a cgroup, which is there or is not: nobody can make one.
pub(super) fn write(file: &Path, text: &str) -> io::Result<()> {
    OpenOptions::new().write(true).open(file)?.write_all(text.as_bytes())
}

/// The number behind a word in a file of lines such as `oom_kill 3`; `None` if it does not say.
pub(super) fn count(file: &Path, word: &str) -> Option<u64> {
    let text = fs::read_to_string(file).ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix(word)?.strip_prefix(' '))?;
    line.trim().parse().ok()
}

/// A directory and all below it, parents before children.
fn tree(root: &Path) -> Vec<PathBuf> {
    let mut directories = vec![root.to_owned()];
    let mut next = 0;
    while next < directories.len() {
        let entries = fs::read_dir(&directories[next]).into_iter().flatten().flatten();
        let below = entries.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()));
        let below: Vec<_> = below.map(|entry| entry.path()).collect();
        directories.extend(below);
        next += 1;
    }
    directories
}
