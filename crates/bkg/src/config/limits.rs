//! What the processes of a launch may use: the `limits` of an entry, typed.
//!
//! Not how that is enforced: the supervisor's `confine` finds what the machine offers. The invariant:
//! a bound that is there is one that a process can live with. `entry` parses them.

use serde::Serialize;

/// The bounds of one launch. What is `None` is not bounded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ResourceLimits {
    /// Memory in MiB: of the whole launch where a cgroup bounds it, else of each process.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memory_mb: Option<u64>,
    /// Processor time in percent of one core; two whole cores are 200.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cpu_percent: Option<u64>,
    /// Processes and threads, all of the launch together.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pids: Option<u64>,
    /// Open descriptors of each process.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub files: Option<u64>,
}

/// A member of `limits`: its name, the least and the most that it may be, and where it goes.
pub(super) struct Bound {
    pub(super) name: &'static str,
    pub(super) least: u64,
    pub(super) most: u64,
    pub(super) place: fn(&mut ResourceLimits) -> &mut Option<u64>,
}

/// Every member, in the order in which they are written.
pub(super) const BOUNDS: [Bound; 4] = [
    // Below this not even a shell starts.
    Bound { name: "memoryMb", least: 4, most: 1 << 24, place: |limits| &mut limits.memory_mb },
    // The kernel takes no quota below a millisecond in its period of 100 ms.
    Bound { name: "cpuPercent", least: 1, most: 100_000, place: |limits| &mut limits.cpu_percent },
    Bound { name: "pids", least: 1, most: 1 << 22, place: |limits| &mut limits.pids },
    // The standard streams, the socket to the bus, and some room.
    Bound { name: "files", least: 16, most: 1 << 20, place: |limits| &mut limits.files },
];

impl ResourceLimits {
    /// Whether nothing is bounded.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}
