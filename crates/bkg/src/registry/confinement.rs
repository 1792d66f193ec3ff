//! How the processes of a launch are kept together and bounded, as operators see it.
//!
//! A description only: the supervisor's `confine` does what is said here. The invariant: what could not
//! be done is said, never left out. `plugin_object` shows it.

use schemars::JsonSchema;
use serde::Serialize;

/// How one launch is confined.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Confinement {
    /// What tells which processes belong to the launch.
    pub group: Grouping,
    /// What enforces each limit of the entry; null where the entry sets none.
    pub limits: LimitMeans,
    /// What could not be done as wanted, one sentence each.
    pub notes: Vec<String>,
}

/// What tells which processes belong to a launch.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Grouping {
    /// A cgroup of version 2 that it has to itself: exact.
    CgroupV2,
    /// A cgroup of version 1 that it has to itself: exact.
    CgroupV1,
    /// Session, process group, descent and environment: a process that left all of these is not found.
    #[default]
    ProcessGroup,
}

/// What enforces the limits of a launch.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, JsonSchema)]
pub struct LimitMeans {
    /// `memoryMb`.
    pub memory: Option<Means>,
    /// `cpuPercent`.
    pub cpu: Option<Means>,
    /// `pids`.
    pub pids: Option<Means>,
    /// `files`.
    pub files: Option<Means>,
}

/// What enforces one limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Means {
    /// A controller of version 2, for the launch as a whole.
    CgroupV2,
    /// A controller of version 1, for the launch as a whole.
    CgroupV1,
    /// A resource limit, for each process of its own.
    Rlimit,
    /// Nothing: the limit is not enforced.
    None,
}
