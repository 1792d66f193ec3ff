//! Which processes exist and which of them belong to a launch, read from `/proc`.
//!
//! Pure reading: nothing here signals, waits or keeps state between calls, and a process that vanishes
//! while it is read is left out, never an error. Everything blocks (a scan opens three or four files per
//! process), so async callers go through `spawn_blocking`. The invariant: a process is only ever named
//! together with its start time, so a recycled pid is a different process. Called by `supervisor`
//! (spawning, stopping, reaping) and `bus` (who dialled), which may not import each other.

use std::collections::{HashMap, HashSet};
use std::io::{self, Read};

use bkg_protocol::InstanceId;
use procfs::process::{FDTarget, Process};
use procfs::{Current, LoadAverage, ProcError, ProcResult};
use serde::{Deserialize, Serialize};

use crate::store::LedgeredProcess;

/// The variable that every process of a launch inherits: it finds those that left the launch's session.
pub const INSTANCE_VARIABLE: &str = "BKG_PLUGIN_INSTANCE";
/// How the name of a launch's cgroup begins, in every hierarchy; the rest is the id of the launch.
pub const CGROUP_PREFIX: &str = "bkg-";
/// How many of the last pids are read before the listing, which takes a multiple of a short life.
const YOUNGEST: u32 = 8;

/// Why the table could not be read at all.
#[derive(Debug, thiserror::Error)]
pub enum ProcessTableError {
    /// `/proc` is not there, or the host is out of descriptors.
    #[error("`/proc` could not be listed, so the processes of a launch are unknown: {0}")]
    Unlistable(#[source] io::Error),
    /// The kernel's name for this boot is missing.
    #[error("`/proc/sys/kernel/random/boot_id` could not be read: {0}")]
    BootId(#[source] ProcError),
}

/// One process, for as long as the machine is up: pids come back, pairs of pid and start time do not.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ProcessRef {
    /// Its pid.
    pub pid: u32,
    /// Clock ticks between boot and its start: field 22 of `/proc/<pid>/stat`.
    pub start_time: u64,
}

impl From<LedgeredProcess> for ProcessRef {
    fn from(process: LedgeredProcess) -> Self {
        Self { pid: process.pid, start_time: process.start_time }
    }
}

impl ProcessRef {
    /// The process that has this pid now, a zombie included.
    pub fn of(pid: u32) -> Option<Self> {
        process(pid).map(|entry| entry.reference())
    }

    /// Whether the pid still means this process. A zombie still has its pid.
    pub fn is_current(self) -> bool {
        Self::of(self.pid) == Some(self)
    }
}

/// The first process of a launch, which made a session and a process group of its own and numbered both.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct LaunchProcess {
    /// Its pid.
    pub pid: u32,
    /// Clock ticks between boot and its start: field 22 of `/proc/<pid>/stat`.
    pub start_time: u64,
    /// The id of the launch, which its processes carry in [`INSTANCE_VARIABLE`].
    pub instance: InstanceId,
}

impl LaunchProcess {
    /// The process group of the launch, and its session: every launch starts with `setsid`.
    pub fn process_group(&self) -> u32 {
        self.pid
    }

    /// The process without its launch.
    pub fn reference(&self) -> ProcessRef {
        ProcessRef { pid: self.pid, start_time: self.start_time }
    }
}

/// What is known of a launch: enough to recognise its processes in the table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lineage {
    /// The id that its processes carry in [`INSTANCE_VARIABLE`].
    pub instance: InstanceId,
    /// Its first process; the ledger of a host that died while it started one lacks it.
    pub leader: Option<ProcessRef>,
    /// Processes that were members when they were last seen. One that is ending has no environment any more
    /// but still holds its ports and files: without being remembered it would look like a stranger.
    pub known: Vec<ProcessRef>,
}

impl From<&LaunchProcess> for Lineage {
    fn from(launch: &LaunchProcess) -> Self {
        Self { instance: launch.instance, leader: Some(launch.reference()), known: Vec::new() }
    }
}

/// One line of the process table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProcessEntry {
    /// The process id.
    pub pid: u32,
    /// The parent's pid. The host, as child subreaper, inherits the orphans of its launches.
    pub parent: u32,
    /// The process group.
    pub process_group: u32,
    /// The session.
    pub session: u32,
    /// Clock ticks between boot and start.
    pub start_time: u64,
    /// The user it runs as.
    pub uid: u32,
    /// False for what has ended and only waits to be reaped.
    pub alive: bool,
    /// The launch that its environment names. Read for processes of our own user only, never for the host
    /// itself (a host started from within a plugin is not a part of that plugin) nor for process 1.
    pub instance: Option<InstanceId>,
    /// The launches in whose cgroups it is: none or one, more only where a launch is itself a host.
    pub confined: Vec<InstanceId>,
    /// What it has used so far and holds now.
    pub usage: ProcessUsage,
}

/// What a process has used and holds, by the same read that told its parent.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ProcessUsage {
    /// Clock ticks on a processor, those of the children that it has reaped included: what a child used
    /// is not lost when the child ends.
    pub cpu_ticks: u64,
    /// The same without those of children.
    pub own_cpu_ticks: u64,
    /// Pages of memory, shared ones included.
    pub rss_pages: u64,
    /// Threads.
    pub threads: u64,
}

impl ProcessEntry {
    /// The process without what it looked like.
    pub fn reference(&self) -> ProcessRef {
        ProcessRef { pid: self.pid, start_time: self.start_time }
    }

    /// Whether its cgroup or its environment names the launch.
    pub fn belongs_to(&self, instance: InstanceId) -> bool {
        self.confined.contains(&instance) || self.instance == Some(instance)
    }
}

/// Every process at about one moment.
#[derive(Debug)]
pub struct ProcessTable {
    entries: Vec<ProcessEntry>,
    complete: bool,
    host: u32,
}

impl ProcessTable {
    /// Reads the table.
    pub fn read() -> Result<Self, ProcessTableError> {
        Self::read_with(|_| ())
    }

    /// Reads the table and shows each entry as soon as it is read, the newest processes first: something
    /// that forks and exits in a circle is met within microseconds of its birth, or hardly ever.
    pub fn read_with(mut seen: impl FnMut(&ProcessEntry)) -> Result<Self, ProcessTableError> {
        let host = std::process::id();
        let host_uid = nix::unistd::geteuid().as_raw();
        let mut entries: Vec<ProcessEntry> = Vec::new();
        let mut read = |pid| {
            let Some((process, mut entry)) = open(pid) else { return false };
            if entry.alive && pid != 1 {
                entry.confined = confining(&process);
            }
            if entry.alive && entry.uid == host_uid && pid != host && pid != 1 {
                entry.instance = instance_of(&process);
            }
            seen(&entry);
            entries.push(entry);
            true
        };
        let mut youngest = youngest_pids();
        youngest.retain(|&pid| read(pid));
        let mut complete = true;
        for pid in listed_pids()? {
            if !youngest.contains(&pid) {
                complete &= read(pid);
            }
        }
        Ok(Self { entries, complete, host })
    }

    /// All processes, roughly the newest first.
    pub fn entries(&self) -> &[ProcessEntry] {
        &self.entries
    }

    /// Whether nothing vanished between being listed and being read. If something did, it may have
    /// forked in between, and a launch that looks empty deserves a second look.
    pub fn is_complete(&self) -> bool {
        self.complete
    }

    /// What belongs to a launch and is alive: see [`members`](Self::members).
    pub fn living_members(&self, lineage: &Lineage) -> Vec<ProcessRef> {
        let members = self.members(lineage).into_iter();
        members.filter(|entry| entry.alive).map(ProcessEntry::reference).collect()
    }

    /// What belongs to a launch, zombies included, the host and process 1 never:
    ///
    /// - its first process, and those known before, if the pid still means them;
    /// - every process in a cgroup of the launch: whoever was born there cannot leave without privileges;
    /// - every process whose environment names the launch: this finds what forked twice and left the session;
    /// - the session and group of the launch, while it is certain that the number was not given away:
    ///   the first process is there, or a process in them names the launch or was adopted by this host;
    /// - whatever descends from a member, or is in a session or group that a member leads.
    ///
    /// Where launches have no cgroups, what left the session, outlived its parents *and* cleared its
    /// environment is not found.
    pub fn members(&self, lineage: &Lineage) -> Vec<&ProcessEntry> {
        let by_pid: HashMap<u32, usize> =
            self.entries.iter().enumerate().map(|(index, entry)| (entry.pid, index)).collect();
        let Lineage { instance, leader, known } = lineage;
        // A launch can have thousands of processes.
        let known: HashSet<&ProcessRef> = known.iter().collect();
        let own_group = leader.and_then(|leader| self.own_group(*instance, leader));

        let mut is_member: Vec<bool> = self
            .entries
            .iter()
            .map(|entry| {
                *leader == Some(entry.reference())
                    || entry.belongs_to(*instance)
                    || known.contains(&entry.reference())
                    || own_group.is_some_and(|group| entry.process_group == group || entry.session == group)
            })
            .collect();
        let may_be = |entry: &ProcessEntry| entry.pid != self.host && entry.pid > 1;
        for (member, entry) in is_member.iter_mut().zip(&self.entries) {
            *member &= may_be(entry);
        }
        loop {
            let mut grew = false;
            for (index, entry) in self.entries.iter().enumerate() {
                if is_member[index] || !may_be(entry) {
                    continue;
                }
                let related = [entry.parent, entry.session, entry.process_group].into_iter().any(|pid| {
                    by_pid.get(&pid).is_some_and(|&other| {
                        // A parent is never younger than its child: this one would be a recycled pid.
                        is_member[other] && self.entries[other].start_time <= entry.start_time
                    })
                });
                is_member[index] = related;
                grew |= related;
            }
            if !grew {
                break;
            }
        }
        self.entries.iter().zip(is_member).filter_map(|(entry, member)| member.then_some(entry)).collect()
    }

    /// The number of the launch's session and group, unless it may belong to somebody else by now.
    ///
    /// The kernel gives a pid away again only when no process, group or session has it any more.
    fn own_group(&self, instance: InstanceId, leader: ProcessRef) -> Option<u32> {
        let group = leader.pid;
        let given_away = self.entries.iter().any(|entry| entry.pid == group && entry.reference() != leader);
        let is_certain = self.entries.iter().any(|entry| {
            entry.reference() == leader
                || ((entry.process_group == group || entry.session == group)
                    && (entry.belongs_to(instance) || entry.parent == self.host))
        });
        (!given_away && is_certain).then_some(group)
    }
}

/// One process, without the launch that its environment names; `None` if there is no such process.
pub fn process(pid: u32) -> Option<ProcessEntry> {
    open(pid).map(|(_, entry)| entry)
}

/// The ended children of this process that nobody has reaped yet.
pub fn zombie_children() -> Result<Vec<ProcessEntry>, ProcessTableError> {
    let host = std::process::id();
    let entries = listed_pids()?.into_iter().filter_map(process);
    Ok(entries.filter(|entry| entry.parent == host && !entry.alive).collect())
}

/// Whether a process holds the socket with this inode; `None` if its descriptors may not be read.
/// A process that is gone holds nothing.
pub fn holds_socket(pid: u32, inode: u64) -> Option<bool> {
    let Some((process, _)) = open(pid) else { return Some(false) };
    match process.fd() {
        Ok(mut descriptors) => Some(descriptors.any(|descriptor| {
            // One that was closed meanwhile is an error here, and not the one we look for.
            descriptor.is_ok_and(|descriptor| descriptor.target == FDTarget::Socket(inode))
        })),
        Err(ProcError::PermissionDenied(_)) => None,
        Err(_) => Some(false),
    }
}

/// How many descriptors a process has open; `None` if it is gone or they may not be read.
pub fn open_descriptors(process: ProcessRef) -> Option<u64> {
    let (handle, entry) = open(process.pid)?;
    let count = (entry.reference() == process).then(|| handle.fd_count().ok()).flatten()?;
    u64::try_from(count).ok()
}

/// The kernel's random name of this boot: pids and start times mean nothing under another.
pub fn boot_id() -> Result<String, ProcessTableError> {
    procfs::sys::kernel::random::boot_id().map_err(ProcessTableError::BootId)
}

/// The last pids that were given out, whether or not somebody still has them.
fn youngest_pids() -> Vec<u32> {
    let Ok(load) = LoadAverage::current() else { return Vec::new() };
    (load.latest_pid.saturating_sub(YOUNGEST)..=load.latest_pid).rev().collect()
}

fn listed_pids() -> Result<Vec<u32>, ProcessTableError> {
    let listing = std::fs::read_dir("/proc").map_err(ProcessTableError::Unlistable)?;
    let mut pids = Vec::new();
    for entry in listing {
        let name = entry.map_err(ProcessTableError::Unlistable)?.file_name();
        pids.extend(name.to_str().and_then(|name| name.parse::<u32>().ok()));
    }
    pids.reverse();
    Ok(pids)
}

/// The handle keeps `/proc/<pid>` open: what is read through it later is of the same process or fails.
fn open(pid: u32) -> Option<(Process, ProcessEntry)> {
    let process = Process::new(i32::try_from(pid).ok()?).ok()?;
    let stat = process.stat().ok()?;
    let number = |value: i32| u32::try_from(value).unwrap_or_default();
    let entry = ProcessEntry {
        pid,
        parent: number(stat.ppid),
        process_group: number(stat.pgrp),
        session: number(stat.session),
        start_time: stat.starttime,
        uid: process.uid().ok()?,
        // The first thread may end before the others: `Z` with several threads is very much alive.
        alive: !matches!(stat.state, 'Z' | 'X' | 'x') || stat.num_threads > 1,
        instance: None,
        confined: Vec::new(),
        usage: ProcessUsage {
            // Those of reaped children can be negative only where the kernel is at fault.
            cpu_ticks: stat.utime
                + stat.stime
                + u64::try_from(stat.cutime).unwrap_or_default()
                + u64::try_from(stat.cstime).unwrap_or_default(),
            own_cpu_ticks: stat.utime + stat.stime,
            rss_pages: stat.rss,
            threads: u64::try_from(stat.num_threads).unwrap_or_default(),
        },
    };
    Some((process, entry))
}

/// The launches whose cgroups a process is in, in any hierarchy.
fn confining(process: &Process) -> Vec<InstanceId> {
    let mut text = String::new();
    let read = process.open_relative("cgroup").map(|mut file| file.read_to_string(&mut text));
    // Most processes of a machine are in none, and this is read for all of them.
    if read.is_err() || !text.contains(CGROUP_PREFIX) {
        return Vec::new();
    }
    let mut launches = Vec::new();
    for part in text.lines().flat_map(|line| line.split('/')) {
        let launch = part.strip_prefix(CGROUP_PREFIX).and_then(|id| id.parse().ok());
        if let Some(launch) = launch.filter(|launch| !launches.contains(launch)) {
            launches.push(launch);
        }
    }
    launches
}

fn instance_of(process: &Process) -> Option<InstanceId> {
    let block = environment(process).ok()?;
    std::str::from_utf8(variable(&block, INSTANCE_VARIABLE)?).ok()?.parse().ok()
}

fn environment(process: &Process) -> ProcResult<Vec<u8>> {
    let mut block = Vec::new();
    process.open_relative("environ")?.read_to_end(&mut block)?;
    Ok(block)
}

/// The first value of a variable in a NUL-separated block, as `getenv` finds it.
fn variable<'a>(block: &'a [u8], name: &str) -> Option<&'a [u8]> {
    let mut variables = block.split(|&byte| byte == 0);
    variables.find_map(|text| text.strip_prefix(name.as_bytes())?.strip_prefix(b"="))
}

#[cfg(test)]
mod tests {
    use std::process::{Child, Command, Stdio};

    use super::*;

    const HOST: u32 = 10;

    fn entry(pid: u32, parent: u32, group_and_session: u32) -> ProcessEntry {
        ProcessEntry {
            pid,
            parent,
            process_group: group_and_session,
            session: group_and_session,
            start_time: u64::from(pid),
            uid: 0,
            alive: true,
            instance: None,
            confined: Vec::new(),
            usage: ProcessUsage::default(),
        }
    }

    fn zombie(entry: ProcessEntry) -> ProcessEntry {
        ProcessEntry { alive: false, ..entry }
    }

    fn carrying(instance: InstanceId, entry: ProcessEntry) -> ProcessEntry {
        ProcessEntry { instance: Some(instance), ..entry }
    }

    /// The members of the launch with pid 100 in a made-up table.
    fn members(instance: InstanceId, entries: Vec<ProcessEntry>) -> Vec<u32> {
        let launch = LaunchProcess { pid: 100, start_time: 100, instance };
        let table = ProcessTable { entries, complete: true, host: HOST };
        table.living_members(&(&launch).into()).into_iter().map(|process| process.pid).collect()
    }

    #[test]
    fn group_descendants_and_carriers_are_members_and_nobody_else() {
        let instance = InstanceId::new();
        let table = vec![
            entry(1, 0, 1),
            entry(HOST, 1, HOST),
            entry(100, HOST, 100),
            entry(101, 100, 100),
            // An orphan in the group, adopted by the host.
            entry(102, HOST, 100),
            // Left the session, but its parents are there.
            entry(103, 101, 103),
            entry(104, 103, 103),
            // Left the session and lost its parents.
            carrying(instance, entry(105, HOST, 105)),
            // In the session of the one before, without an environment.
            entry(106, HOST, 105),
            // Other launches, other people.
            entry(200, HOST, 200),
            carrying(InstanceId::new(), entry(201, 200, 200)),
            entry(300, 1, 300),
        ];
        assert_eq!(members(instance, table), [100, 101, 102, 103, 104, 105, 106]);
    }

    #[test]
    fn zombies_are_not_alive_but_still_vouch_for_their_group() {
        let instance = InstanceId::new();
        let table = vec![zombie(entry(100, HOST, 100)), entry(101, 1, 100), zombie(entry(102, 1, 100))];
        assert_eq!(members(instance, table), [101]);
    }

    #[test]
    fn a_recycled_pid_brings_neither_its_group_nor_its_children() {
        let instance = InstanceId::new();
        let stranger = ProcessEntry { start_time: 5_000, ..entry(100, HOST, 100) };
        let table = vec![stranger, entry(101, 100, 100), carrying(instance, entry(105, 1, 105))];
        assert_eq!(members(instance, table), [105]);
    }

    #[test]
    fn a_group_without_its_leader_is_believed_only_with_a_witness() {
        let instance = InstanceId::new();
        let orphans = |parent| vec![entry(101, parent, 100), entry(102, 101, 100)];
        assert_eq!(members(instance, orphans(1)), [] as [u32; 0]);
        assert_eq!(members(instance, orphans(HOST)), [101, 102]);
        let mut witnessed = orphans(1);
        witnessed.push(carrying(instance, entry(103, 1, 100)));
        assert_eq!(members(instance, witnessed), [101, 102, 103]);
    }

    #[test]
    fn whoever_is_in_a_cgroup_of_the_launch_is_a_member_whatever_else_it_left() {
        let instance = InstanceId::new();
        let confined = |by: &[InstanceId], entry| ProcessEntry { confined: by.to_vec(), ..entry };
        let table = vec![
            entry(100, HOST, 100),
            confined(&[instance], entry(105, 1, 105)),
            // In a cgroup that a launch of this launch has below.
            confined(&[instance, InstanceId::new()], entry(106, 1, 106)),
            confined(&[InstanceId::new()], entry(107, 1, 107)),
        ];
        assert_eq!(members(instance, table), [100, 105, 106]);
    }

    #[test]
    fn the_host_and_process_one_are_never_members() {
        let instance = InstanceId::new();
        let table = vec![
            carrying(instance, entry(1, 0, 1)),
            entry(100, HOST, 100),
            carrying(instance, entry(HOST, 100, 100)),
            // A child of a host that lives inside the launch is in nobody's tree but the host's.
            entry(200, HOST, 200),
        ];
        assert_eq!(members(instance, table), [100]);
    }

    #[test]
    fn a_known_member_stays_one_when_nothing_else_tells() {
        let instance = InstanceId::new();
        let table = vec![entry(101, 1, 101), entry(102, 101, 101), entry(103, 1, 103)];
        let table = ProcessTable { entries: table, complete: true, host: HOST };
        let known = [(101, 101), (103, 5_000)].map(|(pid, start_time)| ProcessRef { pid, start_time });
        let lineage = Lineage { instance, leader: None, known: known.into() };
        let living: Vec<_> =
            table.living_members(&lineage).into_iter().map(|process| process.pid).collect();
        assert_eq!(living, [101, 102], "103 has been given to somebody else");
    }

    #[test]
    fn a_younger_parent_is_a_recycled_pid() {
        let instance = InstanceId::new();
        let child = ProcessEntry { start_time: 50, ..entry(101, 100, 7) };
        assert_eq!(members(instance, vec![entry(100, HOST, 100), child]), [100]);
    }

    #[test]
    fn a_variable_is_found_whole_or_not_at_all() {
        let block = b"A=1\0BKG_PLUGIN_INSTANCE_OLD=x\0BKG_PLUGIN_INSTANCE=y\0BKG_PLUGIN_INSTANCE=z\0";
        assert_eq!(variable(block, INSTANCE_VARIABLE), Some(&b"y"[..]));
        assert_eq!(variable(block, "B"), None);
        assert_eq!(variable(b"", "A"), None);
    }

    /// A process that ends when the test does.
    struct Guest(Child);

    impl Guest {
        fn start(instance: InstanceId, python: &str) -> Self {
            let mut command = Command::new("python3");
            command.args(["-c", python]).env(INSTANCE_VARIABLE, instance.to_string());
            Self(command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap())
        }

        fn line(&mut self) -> String {
            let mut line = String::new();
            let stdout = self.0.stdout.as_mut().unwrap();
            io::BufRead::read_line(&mut io::BufReader::new(stdout), &mut line).unwrap();
            line.trim().to_owned()
        }
    }

    impl Drop for Guest {
        fn drop(&mut self) {
            self.0.kill().unwrap();
            self.0.wait().unwrap();
        }
    }

    #[test]
    fn a_process_is_read_with_its_parent_and_environment() {
        let instance = InstanceId::new();
        let mut guest = Guest::start(instance, "print('up', flush=True); input()");
        assert_eq!(guest.line(), "up");
        let pid = guest.0.id();

        let table = ProcessTable::read().unwrap();
        let seen = table.entries().iter().find(|entry| entry.pid == pid).unwrap();
        assert_eq!((seen.parent, seen.alive, seen.instance), (std::process::id(), true, Some(instance)));
        assert!(seen.reference().is_current());
        assert!(!ProcessRef { start_time: seen.start_time + 1, pid }.is_current());
    }

    #[test]
    fn a_process_whose_first_thread_has_ended_is_alive() {
        let mut guest = Guest::start(
            InstanceId::new(),
            "import ctypes, os, platform, threading\n\
             def rest():\n\
             \x20   while open('/proc/self/stat').read().rsplit(')', 1)[1].split()[0] != 'Z': pass\n\
             \x20   os.write(1, b'alone\\n'); os.read(0, 1)\n\
             threading.Thread(target=rest).start()\n\
             ctypes.CDLL(None).syscall(60 if platform.machine() == 'x86_64' else 93, 0)\n",
        );
        assert_eq!(guest.line(), "alone");
        assert!(process(guest.0.id()).unwrap().alive);
    }

    #[test]
    fn an_ended_child_is_a_zombie_until_it_is_reaped() {
        let mut guest = Guest::start(InstanceId::new(), "");
        let pid = guest.0.id();
        // `waitid` with `WNOWAIT` waits for the end and leaves the status where it is.
        let flags = nix::sys::wait::WaitPidFlag::WEXITED | nix::sys::wait::WaitPidFlag::WNOWAIT;
        nix::sys::wait::waitid(nix::sys::wait::Id::Pid(nix::unistd::Pid::from_raw(pid as i32)), flags)
            .unwrap();
        assert!(!process(pid).unwrap().alive);
        assert!(zombie_children().unwrap().iter().any(|entry| entry.pid == pid));
        assert_eq!(guest.0.wait().unwrap().code(), Some(0));
        assert_eq!(process(pid), None);
    }

    #[test]
    fn the_boot_has_a_name() {
        assert_eq!(boot_id().unwrap().len(), 36);
    }
}
