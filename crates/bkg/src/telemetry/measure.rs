//! One pass over `/proc`: what the processes of each launch used since the pass before.
//!
//! Blocks. A process that vanishes or may not be looked into while it is read is left out of the
//! figures, never an error. The invariant: processor time is counted once, also that of children that
//! ended between two passes: it moves to whoever reaped them. Called by `mod`, on a thread of its own.

use std::collections::HashMap;
use std::time::Instant;

use bkg_protocol::InstanceId;
use procfs::{Current, ProcError, Uptime};

use crate::registry::SpawnedLaunch;
use crate::registry::process_table::{
    self, Lineage, ProcessEntry, ProcessRef, ProcessTable, ProcessTableError, ProcessUsage,
    open_descriptors,
};

/// The shortest time that processor time is divided by, in seconds: over less than ten ticks of the
/// clock, one tick more or less would be tens of percent.
const SHORTEST: f64 = 0.1;

/// Why nothing was measured.
#[derive(Debug, thiserror::Error)]
pub(super) enum MeasureError {
    /// The processes cannot be listed.
    #[error(transparent)]
    Table(#[from] ProcessTableError),
    /// The time since boot, which tells how old processes are.
    #[error("`/proc/uptime` could not be read: {0}")]
    Uptime(#[source] ProcError),
}

/// What processes used and hold, added up.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(super) struct Figures {
    pub(super) cpu_percent: f64,
    pub(super) rss_bytes: u64,
    pub(super) fds: u64,
    pub(super) threads: u64,
    pub(super) processes: u64,
}

/// What one pass saw.
#[derive(Debug)]
pub(super) struct Round<'a> {
    /// Each launch of which something is alive.
    pub(super) launches: Vec<(&'a SpawnedLaunch, Figures)>,
    /// The daemon itself.
    pub(super) host: Option<Figures>,
}

/// What the next pass must know of this one.
#[derive(Debug, Default)]
pub(super) struct Measuring {
    launches: HashMap<InstanceId, Seen>,
    host: Option<Seen>,
}

/// Some processes at one moment.
#[derive(Debug, Clone)]
struct Seen {
    at: Instant,
    /// The same moment in clock ticks since boot.
    ticks: u64,
    processes: HashMap<ProcessRef, SeenProcess>,
}

#[derive(Debug, Clone, Copy)]
struct SeenProcess {
    cpu_ticks: u64,
    /// Who reaps it, if that is one of them.
    parent: Option<ProcessRef>,
}

impl Measuring {
    /// Measures these launches and the daemon.
    pub(super) fn round<'a>(&mut self, launches: &'a [SpawnedLaunch]) -> Result<Round<'a>, MeasureError> {
        let mut round = Round { launches: Vec::new(), host: self.of_the_host()? };
        if launches.is_empty() {
            self.launches.clear();
            return Ok(round);
        }
        // Before reading: whatever is born meanwhile belongs to the next pass.
        let (at, ticks) = now()?;
        let table = ProcessTable::read()?;
        let mut next = HashMap::with_capacity(launches.len());
        for launch in launches {
            let instance = launch.process.instance;
            let before = self.launches.remove(&instance);
            let mut lineage = Lineage::from(&launch.process);
            if let Some(before) = &before {
                lineage.known = before.processes.keys().copied().collect();
            }
            let members = table.members(&lineage);
            if !members.iter().any(|entry| entry.alive) {
                continue;
            }
            let seen = Seen::of(&members, at, ticks);
            let begun = launch.process.start_time;
            round.launches.push((launch, figures(&members, before.as_ref(), &seen, begun)));
            next.insert(instance, seen);
        }
        self.launches = next;
        Ok(round)
    }

    fn of_the_host(&mut self) -> Result<Option<Figures>, MeasureError> {
        let Some(mut entry) = process_table::process(std::process::id()) else { return Ok(None) };
        // Its children are the first processes of launches, which are measured themselves.
        entry.usage.cpu_ticks = entry.usage.own_cpu_ticks;
        let (at, ticks) = now()?;
        let begun = entry.start_time;
        let seen = Seen::of(&[&entry], at, ticks);
        let figures = figures(&[&entry], self.host.as_ref(), &seen, begun);
        self.host = Some(seen);
        Ok(Some(figures))
    }
}

/// This moment, for measuring times and for comparing with the starts of processes.
fn now() -> Result<(Instant, u64), MeasureError> {
    let uptime = Uptime::current().map_err(MeasureError::Uptime)?.uptime;
    Ok((Instant::now(), (uptime * procfs::ticks_per_second() as f64) as u64))
}

impl Seen {
    fn of(entries: &[&ProcessEntry], at: Instant, ticks: u64) -> Self {
        let references: HashMap<u32, ProcessRef> =
            entries.iter().map(|entry| (entry.pid, entry.reference())).collect();
        let processes = entries.iter().map(|entry| {
            let parent = references.get(&entry.parent).copied();
            (entry.reference(), SeenProcess { cpu_ticks: entry.usage.cpu_ticks, parent })
        });
        Self { at, ticks, processes: processes.collect() }
    }
}

/// What `entries` hold, and what they used since `before`, or since they began.
fn figures(entries: &[&ProcessEntry], before: Option<&Seen>, now: &Seen, begun: u64) -> Figures {
    let ticks_per_second = procfs::ticks_per_second() as f64;
    let seconds = match before {
        Some(before) => now.at.duration_since(before.at).as_secs_f64(),
        None => now.ticks.saturating_sub(begun) as f64 / ticks_per_second,
    };
    let used = ticks_used(before, now) as f64 / ticks_per_second;
    let percent = 100.0 * used / seconds.max(SHORTEST);
    let mut figures = Figures { cpu_percent: (percent * 10.0).round() / 10.0, ..Figures::default() };
    for entry in entries.iter().filter(|entry| entry.alive) {
        let ProcessUsage { rss_pages, threads, .. } = entry.usage;
        figures.rss_bytes += rss_pages * procfs::page_size();
        figures.threads += threads;
        figures.fds += open_descriptors(entry.reference()).unwrap_or_default();
        figures.processes += 1;
    }
    figures
}

/// The processor time between two moments. What each process shows includes what its reaped children
/// used, so who has ended meanwhile is in the figure of the nearest ancestor that is left, and what was
/// counted of it before is taken off there. An orphan's last moments go to nobody and are lost.
fn ticks_used(before: Option<&Seen>, now: &Seen) -> u64 {
    let Some(before) = before else {
        return now.processes.values().map(|process| process.cpu_ticks).sum();
    };
    let mut used = 0_i64;
    for (reference, process) in &now.processes {
        let counted = match before.processes.get(reference) {
            Some(earlier) => earlier.cpu_ticks,
            // Older than the pass before, which did not know that it belongs here.
            None if reference.start_time < before.ticks => process.cpu_ticks,
            None => 0,
        };
        used += process.cpu_ticks as i64 - counted as i64;
    }
    for (reference, ended) in &before.processes {
        if now.processes.contains_key(reference) {
            continue;
        }
        let mut ancestor = ended.parent;
        while let Some(parent) = ancestor {
            if now.processes.contains_key(&parent) {
                used -= ended.cpu_ticks as i64;
                break;
            }
            ancestor = before.processes.get(&parent).and_then(|process| process.parent);
        }
    }
    u64::try_from(used).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reference(pid: u32, start_time: u64) -> ProcessRef {
        ProcessRef { pid, start_time }
    }

    /// Processes as `(pid, start, ticks, parent)`; the parent's start is that of the same list.
    fn seen(ticks: u64, processes: &[(u32, u64, u64, u32)]) -> Seen {
        let parent = |pid| processes.iter().find(|other| other.0 == pid);
        let processes = processes.iter().map(|&(pid, start, cpu_ticks, up)| {
            let parent = parent(up).map(|found| reference(found.0, found.1));
            (reference(pid, start), SeenProcess { cpu_ticks, parent })
        });
        Seen { at: Instant::now(), ticks, processes: processes.collect() }
    }

    #[test]
    fn what_a_child_used_is_counted_once_whether_it_lives_or_was_reaped() {
        let before = seen(1_000, &[(1, 10, 5, 0), (2, 20, 50, 1), (3, 30, 7, 2)]);
        for (now, used, why) in [
            (seen(1_100, &[(1, 10, 6, 0), (2, 20, 60, 1), (3, 30, 7, 2)]), 11, "all live on"),
            (
                seen(1_100, &[(1, 10, 75, 0)]),
                13,
                "both were reaped, and used 13 more in their last moments",
            ),
            (seen(1_100, &[(1, 10, 5, 0), (2, 20, 58, 1)]), 1, "the grandchild was reaped by the child"),
            (
                seen(1_100, &[(1, 10, 5, 0), (2, 20, 50, 1), (3, 30, 7, 2), (4, 1_050, 9, 1)]),
                9,
                "a new one",
            ),
            (
                seen(1_100, &[(1, 10, 5, 0), (2, 20, 50, 1), (3, 30, 7, 2), (4, 40, 900, 1)]),
                0,
                "one found late",
            ),
            (seen(1_100, &[(1, 10, 5, 0), (2, 1_050, 3, 1)]), 0, "a recycled pid is another process"),
        ] {
            assert_eq!(ticks_used(Some(&before), &now), used, "{why}");
        }
        assert_eq!(ticks_used(None, &before), 62, "everything since the launch began");
    }

    #[test]
    fn the_daemon_itself_is_measured() {
        let mut measuring = Measuring::default();
        let figures = measuring.round(&[]).unwrap().host.unwrap();
        assert!(figures.rss_bytes > 0 && figures.fds > 0 && figures.threads > 0, "{figures:?}");
        assert_eq!(figures.processes, 1);
    }
}
