//! What keeps the processes of a launch together and within their limits: cgroups, else rlimits.
//!
//! It decides what a launch gets, by what the machine offers and the entry wants; `spawn` has the process
//! enter, `processes` ends it. The invariant: a limit that cannot be enforced is said to be so, and
//! nothing below another host's or anybody else's cgroup is touched. Called by the supervisor and `spawn`.

mod cgroup;
mod enclosure;
mod hierarchy;

use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use bkg_protocol::InstanceId;

use crate::config::{CgroupUse, ResourceLimits, SupervisorTimes};
use crate::registry::{Confinement, Grouping, LimitMeans, Means};
use cgroup::{Cgroup, Version, write};
pub(crate) use enclosure::Enclosure;
use enclosure::{BoundMemory, cgroup_name};
use hierarchy::{Controller, Hierarchy};

/// The period of processor quotas in microseconds: the kernel's own default.
const PERIOD: u64 = 100_000;
/// A MiB in bytes.
const MIB: u64 = 1 << 20;

/// The cgroups that this machine lets the host make.
#[derive(Debug, Default)]
pub struct Cgroups {
    hierarchies: Vec<Hierarchy>,
    /// Why there are not more.
    notes: Vec<String>,
}

/// What a launch is to get.
#[derive(Debug, Clone)]
pub struct Plan {
    instance: InstanceId,
    limits: ResourceLimits,
    cgroups: Arc<Cgroups>,
}

/// What a launch got.
#[derive(Debug)]
pub(crate) struct Established {
    /// Its cgroups, which are there now.
    pub(crate) enclosure: Arc<Enclosure>,
    /// The same for operators.
    pub(crate) confinement: Confinement,
    /// What each of its processes is bounded by.
    pub(crate) rlimits: Rlimits,
}

/// Resource limits of every process of a launch.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Rlimits {
    /// Open descriptors; never above the host's own hard limit.
    pub(crate) open_files: Option<u64>,
    /// Data in bytes: heap and private mappings. Address space would be refused by runtimes that reserve
    /// more than they use.
    pub(crate) data: Option<u64>,
}

impl Cgroups {
    /// Looks what there is. Blocks.
    pub fn find(times: &SupervisorTimes) -> Self {
        if times.cgroups == CgroupUse::Off {
            let notes = vec!["`supervisor.cgroups` is `off`".to_owned()];
            return Self { hierarchies: Vec::new(), notes };
        }
        let parent = Some(times.cgroup_parent.as_path()).filter(|path| !path.as_os_str().is_empty());
        let (hierarchies, notes) = hierarchy::find(parent);
        Self { hierarchies, notes }
    }

    /// Those of one version only.
    #[cfg(test)]
    pub(crate) fn of_version(times: &SupervisorTimes, group: Grouping) -> Self {
        let version = if group == Grouping::CgroupV2 { Version::V2 } else { Version::V1 };
        let mut found = Self::find(times);
        found.hierarchies.retain(|hierarchy| hierarchy.version == version);
        found
    }

    /// What keeps launches together, and which limits bound them as a whole, in one line.
    pub fn describe(&self) -> String {
        let group = match self.grouping() {
            Some(hierarchy) if hierarchy.version == Version::V2 => "cgroup-v2",
            Some(_) => "cgroup-v1",
            None => "process-group",
        };
        let bounds = [Controller::Memory, Controller::Cpu, Controller::Pids].map(|controller| {
            let version = match self.bounding(controller).map(|hierarchy| hierarchy.version) {
                Some(Version::V2) => "cgroup-v2",
                Some(Version::V1) => "cgroup-v1",
                None => "none",
            };
            format!("{} {version}", controller.name())
        });
        format!("group {group}, {}", bounds.join(", "))
    }

    /// Why there are not more.
    pub fn notes(&self) -> &[String] {
        &self.notes
    }

    /// The hierarchy that keeps a launch together: version 2 kills at once, the freezer nearly so.
    fn grouping(&self) -> Option<&Hierarchy> {
        let v2 = self.hierarchies.iter().find(|hierarchy| hierarchy.version == Version::V2);
        let order = [Controller::Freezer, Controller::Pids, Controller::Cpu, Controller::Memory];
        v2.or_else(|| order.into_iter().find_map(|controller| self.bounding(controller)))
    }

    fn bounding(&self, controller: Controller) -> Option<&Hierarchy> {
        self.hierarchies.iter().find(|hierarchy| hierarchy.controllers.contains(&controller))
    }
}

impl Plan {
    /// A launch of its own cgroups, where the machine lets it, and these limits.
    pub fn new(cgroups: Arc<Cgroups>, instance: InstanceId, limits: ResourceLimits) -> Self {
        Self { instance, limits, cgroups }
    }

    /// A launch without cgroups and limits.
    pub fn unconfined(instance: InstanceId) -> Self {
        Self::new(Arc::default(), instance, ResourceLimits::default())
    }

    /// Whose it is.
    #[cfg(test)]
    pub(crate) fn instance(&self) -> InstanceId {
        self.instance
    }

    /// Where its cgroups will be, for the ledger.
    pub fn paths(&self) -> Vec<PathBuf> {
        let name = cgroup_name(self.instance);
        self.hierarchies().into_iter().map(|hierarchy| hierarchy.parent.join(&name)).collect()
    }

    /// The hierarchies that it needs: the one that keeps it together, and those of its limits.
    fn hierarchies(&self) -> Vec<&Hierarchy> {
        let ResourceLimits { memory_mb, cpu_percent, pids, .. } = self.limits;
        let wanted =
            [(memory_mb, Controller::Memory), (cpu_percent, Controller::Cpu), (pids, Controller::Pids)];
        let bounding = wanted.into_iter().filter(|(limit, _)| limit.is_some());
        let bounding = bounding.filter_map(|(_, controller)| self.cgroups.bounding(controller));
        let mut all: Vec<&Hierarchy> = Vec::new();
        for hierarchy in self.cgroups.grouping().into_iter().chain(bounding) {
            if !all.contains(&hierarchy) {
                all.push(hierarchy);
            }
        }
        all
    }

    /// Makes the cgroups and bounds them. What cannot be made is said in the notes. Blocks.
    pub(crate) fn establish(&self) -> Established {
        let name = cgroup_name(self.instance);
        let cgroup = |hierarchy: &&Hierarchy| Cgroup {
            version: hierarchy.version,
            path: hierarchy.parent.join(&name),
        };
        let cgroups: Vec<_> = self.hierarchies().iter().map(cgroup).collect();
        let mut enclosure = Enclosure { cgroups, memory: None };
        if let Err(error) = enclosure.make() {
            enclosure.remove();
            return self.without_cgroups(format!("its cgroups cannot be made: {error}"));
        }
        let group = match enclosure.cgroups.first().map(|cgroup| cgroup.version) {
            Some(Version::V2) => Grouping::CgroupV2,
            Some(Version::V1) => Grouping::CgroupV1,
            None => Grouping::ProcessGroup,
        };
        let mut confinement = Confinement { group, ..Confinement::default() };
        let mut rlimits = Rlimits::default();
        let notes = &mut confinement.notes;
        let ResourceLimits { memory_mb, cpu_percent, pids, files } = self.limits;
        if let Some(limit_mb) = memory_mb {
            let means = self.bound(Controller::Memory, &limit_mb.saturating_mul(MIB).to_string(), notes);
            if means == Means::None {
                rlimits.data = Some(limit_mb.saturating_mul(MIB));
                notes.push(
                    "`memoryMb` bounds the data of each process, not the launch as a whole".to_owned(),
                );
                confinement.limits.memory = Some(Means::Rlimit);
            } else {
                let hierarchy = self.cgroups.bounding(Controller::Memory).expect("it bounds the memory");
                let events = match hierarchy.version {
                    Version::V2 => "memory.events",
                    Version::V1 => "memory.oom_control",
                };
                let events = hierarchy.parent.join(&name).join(events);
                enclosure.memory = Some(BoundMemory { events, limit_mb, killed: OnceLock::new() });
                confinement.limits.memory = Some(means);
            }
        }
        if let Some(percent) = cpu_percent {
            let quota = (percent * PERIOD / 100).to_string();
            confinement.limits.cpu = Some(self.bound(Controller::Cpu, &quota, notes));
        }
        if let Some(pids) = pids {
            confinement.limits.pids = Some(self.bound(Controller::Pids, &pids.to_string(), notes));
        }
        if files.is_some() {
            rlimits.open_files = files;
            confinement.limits.files = Some(Means::Rlimit);
        }
        let LimitMeans { memory, cpu, pids, .. } = confinement.limits;
        let is_short = group == Grouping::ProcessGroup
            || [memory, cpu, pids].iter().any(|means| matches!(means, Some(Means::None | Means::Rlimit)));
        if is_short {
            notes.extend(self.cgroups.notes.iter().cloned());
        }
        Established { enclosure: Arc::new(enclosure), confinement, rlimits }
    }

    /// What it gets when its cgroups failed it, and why they did.
    pub(crate) fn without_cgroups(&self, why: String) -> Established {
        let cgroups = Arc::new(Cgroups { hierarchies: Vec::new(), notes: vec![why] });
        Self { cgroups, ..self.clone() }.establish()
    }

    /// Writes one bound; answers what enforces it.
    fn bound(&self, controller: Controller, value: &str, notes: &mut Vec<String>) -> Means {
        let member = match controller {
            Controller::Memory => "memoryMb",
            Controller::Cpu => "cpuPercent",
            Controller::Pids | Controller::Freezer => "pids",
        };
        let Some(Hierarchy { version, parent, .. }) = self.cgroups.bounding(controller) else {
            if controller != Controller::Memory {
                notes.push(format!(
                    "`{member}` is not enforced: there is no cgroup controller `{}`",
                    controller.name()
                ));
            }
            return Means::None;
        };
        match write_to(&parent.join(cgroup_name(self.instance)), *version, controller, value) {
            Ok(()) if *version == Version::V2 => Means::CgroupV2,
            Ok(()) => Means::CgroupV1,
            Err(error) => {
                notes.push(format!("`{member}` was refused by its cgroup: {error}"));
                Means::None
            }
        }
    }
}

fn write_to(cgroup: &Path, version: Version, controller: Controller, value: &str) -> io::Result<()> {
    let swap_is_bounded = |result: io::Result<()>| match result {
        // Machines without swap, or without counting it, have no such file.
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    };
    match (controller, version) {
        (Controller::Memory, Version::V2) => {
            write(&cgroup.join("memory.max"), value)?;
            swap_is_bounded(write(&cgroup.join("memory.swap.max"), "0"))
        }
        (Controller::Memory, Version::V1) => {
            write(&cgroup.join("memory.limit_in_bytes"), value)?;
            swap_is_bounded(write(&cgroup.join("memory.memsw.limit_in_bytes"), value))
        }
        (Controller::Cpu, Version::V2) => write(&cgroup.join("cpu.max"), &format!("{value} {PERIOD}")),
        (Controller::Cpu, Version::V1) => {
            write(&cgroup.join("cpu.cfs_period_us"), &PERIOD.to_string())?;
            write(&cgroup.join("cpu.cfs_quota_us"), value)
        }
        (Controller::Pids, _) => write(&cgroup.join("pids.max"), value),
        (Controller::Freezer, _) => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    const LIMITS: ResourceLimits =
        ResourceLimits { memory_mb: Some(64), cpu_percent: Some(150), pids: Some(32), files: Some(100) };

    /// A plan in a made-up hierarchy whose cgroup of the launch has these files.
    fn plan(version: Version, files: &[&str]) -> (Plan, PathBuf, tempfile::TempDir) {
        let root = tempfile::tempdir().unwrap();
        let instance = InstanceId::new();
        let cgroup = root.path().join(cgroup_name(instance));
        fs::create_dir(&cgroup).unwrap();
        for file in files {
            fs::write(cgroup.join(file), "").unwrap();
        }
        let controllers = vec![Controller::Memory, Controller::Cpu, Controller::Pids];
        let hierarchy = Hierarchy { version, parent: root.path().to_owned(), controllers };
        let cgroups = Cgroups { hierarchies: vec![hierarchy], notes: vec!["a note".to_owned()] };
        (Plan::new(Arc::new(cgroups), instance, LIMITS), cgroup, root)
    }

    fn written(cgroup: &Path, file: &str) -> String {
        fs::read_to_string(cgroup.join(file)).unwrap()
    }

    #[test]
    fn limits_stand_where_each_version_reads_them() {
        let v2 = ["memory.max", "memory.swap.max", "cpu.max", "pids.max", "memory.events"];
        let (plan, cgroup, _root) = plan(Version::V2, &v2);
        let established = plan.establish();
        let all = Some(Means::CgroupV2);
        let limits = LimitMeans { memory: all, cpu: all, pids: all, files: Some(Means::Rlimit) };
        let group = Grouping::CgroupV2;
        assert_eq!(established.confinement, Confinement { group, limits, notes: Vec::new() });
        assert_eq!(established.rlimits, Rlimits { open_files: Some(100), data: None });
        let values = v2.map(|file| written(&cgroup, file));
        assert_eq!(values, ["67108864", "0", "150000 100000", "32", ""]);
        fs::write(cgroup.join("memory.events"), "low 0\noom 1\noom_kill 1\n").unwrap();
        assert_eq!(established.enclosure.over_memory(), Some(64));

        let v1 = ["memory.limit_in_bytes", "cpu.cfs_period_us", "cpu.cfs_quota_us", "pids.max"];
        let (plan, cgroup, _root) = self::plan(Version::V1, &v1);
        let confinement = plan.establish().confinement;
        assert_eq!(
            (confinement.group, confinement.limits.memory),
            (Grouping::CgroupV1, Some(Means::CgroupV1))
        );
        assert_eq!(v1.map(|file| written(&cgroup, file)), ["67108864", "100000", "150000", "32"]);
    }

    #[test]
    fn a_limit_that_its_cgroup_refuses_is_said_and_memory_falls_back() {
        let (plan, _, _root) = plan(Version::V2, &["cpu.max"]);
        let Established { confinement, rlimits, .. } = plan.establish();
        let LimitMeans { memory, cpu, pids, .. } = confinement.limits;
        assert_eq!([memory, cpu, pids], [Some(Means::Rlimit), Some(Means::CgroupV2), Some(Means::None)]);
        assert_eq!(rlimits.data, Some(64 << 20));
        let starts =
            ["`memoryMb` was refused", "`memoryMb` bounds the data", "`pids` was refused", "a note"];
        assert_eq!(confinement.notes.len(), starts.len(), "{:?}", confinement.notes);
        for (note, start) in confinement.notes.iter().zip(starts) {
            assert!(note.starts_with(start), "{note}");
        }
    }

    #[test]
    fn a_ledger_that_names_what_is_not_its_own_is_not_followed() {
        let root = tempfile::tempdir().unwrap();
        let instance = InstanceId::new();
        let make = |name: &str, procs: bool| {
            let path = root.path().join(name);
            fs::create_dir(&path).unwrap();
            if procs {
                fs::write(path.join("cgroup.procs"), "").unwrap();
            }
            path
        };
        let own = make(&cgroup_name(instance), true);
        let others =
            [make(&cgroup_name(InstanceId::new()), true), make("system.slice", true), make("plain", false)];
        let paths: Vec<_> = others.into_iter().chain([own.clone(), root.path().join("gone")]).collect();
        let enclosure = Enclosure::of_ledger(instance, &paths);
        assert_eq!(enclosure.cgroups, [Cgroup { version: Version::V1, path: own }]);
    }
}
