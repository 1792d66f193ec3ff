//! The cgroups that one launch has to itself, from before its first process to after its last.
//!
//! Blocks. It knows neither what the launch is nor when it is to end. The invariant: only cgroups whose
//! names carry the id of the launch are touched. Called by `spawn`, `processes` and `exit`.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::path::PathBuf;
use std::sync::OnceLock;

use bkg_protocol::InstanceId;
use tracing::warn;

use super::cgroup::{Cgroup, Version, count};
use crate::registry::process_table::{CGROUP_PREFIX, ProcessRef};

/// The cgroups of one launch; there may be none.
#[derive(Debug, Default)]
pub(crate) struct Enclosure {
    /// The first keeps its processes together.
    pub(super) cgroups: Vec<Cgroup>,
    pub(super) memory: Option<BoundMemory>,
}

/// A cgroup whose memory is bounded.
#[derive(Debug)]
pub(super) struct BoundMemory {
    /// The file that counts who was killed for it.
    pub(super) events: PathBuf,
    /// The bound, in MiB.
    pub(super) limit_mb: u64,
    /// The last count, once the cgroup is gone.
    pub(super) killed: OnceLock<u64>,
}

impl Enclosure {
    /// What a ledger says that a launch had. Whatever does not carry its id is left alone.
    pub(crate) fn of_ledger(instance: InstanceId, paths: &[PathBuf]) -> Self {
        let name = cgroup_name(instance);
        let is_its = |path: &&PathBuf| {
            path.file_name().is_some_and(|last| last == name.as_str()) && path.join("cgroup.procs").exists()
        };
        let cgroup = |path: &PathBuf| {
            let version = if path.join("cgroup.events").exists() { Version::V2 } else { Version::V1 };
            Cgroup { version, path: path.clone() }
        };
        Self { cgroups: paths.iter().filter(is_its).map(cgroup).collect(), memory: None }
    }

    /// Whether there is at least one, so that membership is exact.
    pub(crate) fn is_exact(&self) -> bool {
        !self.cgroups.is_empty()
    }

    /// Whether nothing in them is alive.
    pub(crate) fn is_empty(&self) -> bool {
        self.cgroups.iter().all(Cgroup::is_empty)
    }

    /// Who in them is alive.
    pub(crate) fn members(&self) -> Vec<ProcessRef> {
        let mut members: Vec<ProcessRef> = Vec::new();
        for process in self.cgroups.iter().flat_map(Cgroup::members) {
            if !members.contains(&process) {
                members.push(process);
            }
        }
        members
    }

    /// Kills everything in them.
    pub(crate) fn kill(&self) {
        for cgroup in self.cgroups.iter().filter(|cgroup| !cgroup.is_empty()) {
            cgroup.kill();
        }
    }

    /// Removes them, when nothing in them is alive.
    pub(crate) fn remove(&self) {
        if let Some(memory) = &self.memory {
            let _ = memory.killed.set(memory.count());
        }
        for cgroup in &self.cgroups {
            if let Err(error) = cgroup.remove() {
                warn!(path = %cgroup.path.display(), %error, "the cgroup of a launch cannot be removed");
            }
        }
    }

    /// The memory limit in MiB, if the kernel has killed a process of the launch because of it.
    pub(crate) fn over_memory(&self) -> Option<u64> {
        let memory = self.memory.as_ref()?;
        let killed = memory.killed.get().copied().unwrap_or_else(|| memory.count());
        (killed > 0).then_some(memory.limit_mb)
    }

    pub(super) fn make(&self) -> io::Result<()> {
        self.cgroups.iter().try_for_each(|cgroup| match fs::create_dir(&cgroup.path) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(error),
            _ => Ok(()),
        })
    }

    /// What a process writes `0` to in order to enter.
    pub(crate) fn doors(&self) -> io::Result<Vec<File>> {
        let open = |cgroup: &Cgroup| OpenOptions::new().write(true).open(cgroup.path.join("cgroup.procs"));
        self.cgroups.iter().map(open).collect()
    }
}

impl BoundMemory {
    fn count(&self) -> u64 {
        count(&self.events, "oom_kill").unwrap_or_default()
    }
}

/// What the cgroups of a launch are called, in every hierarchy.
pub(super) fn cgroup_name(instance: InstanceId) -> String {
    format!("{CGROUP_PREFIX}{instance}")
}
