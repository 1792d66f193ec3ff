//! Ends the processes of a launch, all of them, and what a killed host left behind.
//!
//! It decides nothing: the state machine says when. A launch counts as gone only when the process table
//! shows no living member any more and its cgroups are empty; waiting for its first process would overlook
//! what that one started. The invariant: a signal reaches exactly the processes that were read as members,
//! pid and start time, or are in a cgroup of the launch, never a stranger that got a pid later. Reaping is not done here: the first process belongs to its
//! `Child`, adopted ones to the spawner's thread. Called by the supervisor's state machine.

use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;

use bkg_protocol::{InstanceId, PluginName};
use nix::sys::signal::{Signal, kill, killpg};
use nix::unistd::Pid;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::process::{PidfdFlags, pidfd_open, pidfd_send_signal};
use tokio::time::Instant;
use tracing::warn;

use super::confine::Enclosure;
use super::lookout;
use crate::registry::process_table::{
    LaunchProcess, Lineage, ProcessEntry, ProcessRef, ProcessTable, ProcessTableError, boot_id,
};
use crate::store::LedgerEntry;

/// How long killed processes may take to disappear. A process in an uninterruptible system call (a dead
/// network disk) can take for ever, and nobody can do more than kill it.
const KILL_LIMIT: Duration = Duration::from_secs(10);
/// How long the start of a host may be held up by what the last one left.
const REAP_LIMIT: Duration = Duration::from_secs(2);
/// A change is noticed at once through pidfds; this is for members that were born meanwhile.
const SECOND_LOOK: Duration = Duration::from_millis(250);
/// The same where processes cannot be watched: no pidfds, or no descriptors left.
const SECOND_LOOK_UNWATCHED: Duration = Duration::from_millis(20);
/// More than this many members are not watched all at once; the second look sees to the rest.
const WATCHED: usize = 64;
/// How often an empty launch is looked at before it is believed, if other processes come and go meanwhile.
const EMPTY_LOOKS: usize = 5;

/// What stopping a launch took.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct StopReport {
    /// Who was asked with SIGTERM.
    pub asked: Vec<ProcessRef>,
    /// Who was still there at the end of the grace and was killed. May be empty, or contain younger processes.
    pub killed: Vec<ProcessRef>,
    /// Who did not even die of that within 10 s: the launch is not stopped.
    pub survivors: Vec<ProcessRef>,
    /// Whether a cgroup of it is not empty although nobody can be seen in it: it is not stopped either.
    pub hidden: bool,
    /// From the first signal to the last look.
    pub took: Duration,
}

impl StopReport {
    /// Whether nothing of the launch is left.
    pub fn is_empty(&self) -> bool {
        self.survivors.is_empty() && !self.hidden
    }
}

/// What a previous host left of one launch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reaped {
    /// Whose launch it was.
    pub plugin: PluginName,
    /// The id of the launch.
    pub instance: InstanceId,
    /// Who was killed.
    pub killed: Vec<ProcessRef>,
    /// Who of them was still there after 2 s.
    pub survivors: Vec<ProcessRef>,
}

/// Ends a launch: SIGTERM to all, `grace` to leave, SIGKILL to what is left until nothing is.
///
/// Returns as soon as the launch is empty, at the latest 10 s after the grace; then `survivors` says so.
/// A process that is born after the first SIGTERM (a shell's clean-up) is asked only when all that were
/// asked before it are gone. Without any grace nobody is asked.
pub async fn stop_launch(launch: &LaunchProcess, grace: Duration) -> Result<StopReport, ProcessTableError> {
    stop_enclosed(launch, &Arc::default(), grace).await
}

/// The same for a launch with cgroups of its own, which are removed when they are empty.
pub(crate) async fn stop_enclosed(
    launch: &LaunchProcess,
    enclosure: &Arc<Enclosure>,
    grace: Duration,
) -> Result<StopReport, ProcessTableError> {
    let begin = Instant::now();
    let mut hunt = Hunt::of(vec![Quarry::new(launch.into(), Arc::clone(enclosure))]);
    let mut report = StopReport::default();
    // The grace begins when the first have been asked, however long the look before took.
    let mut deadline = None;
    loop {
        let members = hunt.look_soon().await?.concat();
        if members.is_empty() {
            report.hidden = hunt.is_hidden();
            break;
        }
        if grace.is_zero() || deadline.is_some_and(|deadline| Instant::now() >= deadline) {
            let mut outcomes = hunt.kill_until(Instant::now() + KILL_LIMIT).await?;
            let Outcome { killed, survivors, hidden } = outcomes.remove(0);
            report = StopReport { killed, survivors, hidden, ..report };
            break;
        }
        let asked: Vec<_> = members.into_iter().filter(|member| report.asked.contains(member)).collect();
        match deadline {
            Some(deadline) if !asked.is_empty() => until_gone(asked, deadline).await,
            _ => {
                report.asked.extend(hunt.send_soon(Signal::SIGTERM).await?.concat());
                deadline.get_or_insert(Instant::now() + grace);
            }
        }
    }
    if report.is_empty() && enclosure.is_exact() {
        let enclosure = Arc::clone(enclosure);
        blocking(move || enclosure.remove()).await;
    }
    report.took = begin.elapsed();
    Ok(report)
}

/// Kills what a previous host left of its launches, exactly those processes: see [`ProcessTable::members`].
///
/// Entries of another boot have left nothing. Takes about 2 s at most; launches of which nothing was left
/// are not in the answer.
pub async fn reap_leftovers(entries: &[LedgerEntry]) -> Result<Vec<Reaped>, ProcessTableError> {
    let boot_id = boot_id()?;
    let entries: Vec<_> = entries.iter().filter(|entry| entry.boot_id == boot_id).collect();
    if entries.is_empty() {
        return Ok(Vec::new());
    }
    let quarry = |entry: &&LedgerEntry| {
        let leader = entry.process.map(ProcessRef::from);
        let lineage = Lineage { instance: entry.instance, leader, known: Vec::new() };
        Quarry::new(lineage, Arc::new(Enclosure::of_ledger(entry.instance, &entry.cgroups)))
    };
    let quarries: Vec<_> = entries.iter().map(quarry).collect();
    let enclosures: Vec<_> = quarries.iter().map(|quarry| Arc::clone(&quarry.enclosure)).collect();
    let outcomes = Hunt::of(quarries).kill_until(Instant::now() + REAP_LIMIT).await?;
    let over: Vec<_> = enclosures
        .into_iter()
        .zip(&outcomes)
        .filter(|(_, outcome)| outcome.survivors.is_empty() && !outcome.hidden)
        .map(|(enclosure, _)| enclosure)
        .collect();
    blocking(move || over.iter().for_each(|enclosure| enclosure.remove())).await;
    let reaped = entries.into_iter().zip(outcomes).map(|(entry, outcome)| Reaped {
        plugin: entry.plugin.clone(),
        instance: entry.instance,
        killed: outcome.killed,
        survivors: outcome.survivors,
    });
    Ok(reaped.filter(|reaped| !reaped.killed.is_empty()).collect())
}

/// The launches that are to end. Several at once share the scans of the process table; answers are per
/// launch, in the same order. Whoever was met once is remembered until the end.
#[derive(Debug)]
struct Hunt {
    quarries: Vec<Quarry>,
}

/// A launch that is to end.
#[derive(Debug)]
struct Quarry {
    lineage: Lineage,
    enclosure: Arc<Enclosure>,
    /// Whether the last look found its cgroups occupied, and nobody in them.
    hidden: bool,
}

/// How the end of a launch went.
#[derive(Debug)]
struct Outcome {
    killed: Vec<ProcessRef>,
    survivors: Vec<ProcessRef>,
    hidden: bool,
}

impl Quarry {
    fn new(lineage: Lineage, enclosure: Arc<Enclosure>) -> Self {
        Self { lineage, enclosure, hidden: false }
    }
}

impl Hunt {
    fn of(quarries: Vec<Quarry>) -> Self {
        Self { quarries }
    }

    /// Kills until nobody is left or the time is up.
    async fn kill_until(mut self, deadline: Instant) -> Result<Vec<Outcome>, ProcessTableError> {
        let mut killed = vec![Vec::new(); self.quarries.len()];
        loop {
            let round = self.send_soon(Signal::SIGKILL).await?;
            until_gone(round.concat(), deadline).await;
            for (killed, members) in killed.iter_mut().zip(round) {
                add_new(killed, members);
            }
            let left = self.look_soon().await?;
            if left.iter().all(Vec::is_empty) || Instant::now() >= deadline {
                let outcomes = killed.into_iter().zip(left).zip(&self.quarries);
                let outcome = |((killed, survivors), quarry): (_, &Quarry)| Outcome {
                    killed,
                    survivors,
                    hidden: quarry.hidden,
                };
                return Ok(outcomes.map(outcome).collect());
            }
        }
    }

    /// Who is alive now. That nobody is, is looked at more than once before it is said.
    async fn look_soon(&mut self) -> Result<Vec<Vec<ProcessRef>>, ProcessTableError> {
        let is_exact = self.quarries.iter().all(|quarry| quarry.enclosure.is_exact());
        for looks in 1.. {
            let table = lookout::table().await?;
            // Twice at least, because a process in the middle of an exec shows no environment for a moment;
            // its cgroup it shows at every moment.
            let is_certain = is_exact || (looks > 1 && table.is_complete());
            let members = self.elsewhere(move |hunt| hunt.look(&table)).await;
            let is_over = looks >= EMPTY_LOOKS || (is_certain && !self.is_hidden());
            if is_over || members.iter().any(|members| !members.is_empty()) {
                return Ok(members);
            }
        }
        unreachable!("the number of looks is limited")
    }

    /// Whether a cgroup holds somebody whom the last look did not meet.
    fn is_hidden(&self) -> bool {
        self.quarries.iter().any(|quarry| quarry.hidden)
    }

    /// Sends a signal to all members that are alive and names them.
    async fn send_soon(&mut self, signal: Signal) -> Result<Vec<Vec<ProcessRef>>, ProcessTableError> {
        if signal == Signal::SIGKILL {
            return self.elsewhere(Self::kill).await;
        }
        let table = lookout::table().await?;
        Ok(self.elsewhere(move |hunt| hunt.send(&table, signal)).await)
    }

    async fn elsewhere<T: Send + 'static>(
        &mut self,
        work: impl FnOnce(&mut Self) -> T + Send + 'static,
    ) -> T {
        let mut hunt = Self { quarries: std::mem::take(&mut self.quarries) };
        let (hunt, answer) = blocking(move || {
            let answer = work(&mut hunt);
            (hunt, answer)
        })
        .await;
        *self = hunt;
        answer
    }

    /// Who is alive, by this table and by the cgroups as they are now.
    fn look(&mut self, table: &ProcessTable) -> Vec<Vec<ProcessRef>> {
        let mut all = Vec::with_capacity(self.quarries.len());
        for quarry in &mut self.quarries {
            let mut members = table.living_members(&quarry.lineage);
            quarry.hidden = false;
            if members.is_empty() && !quarry.enclosure.is_empty() {
                // Born since the table was read.
                members = quarry.enclosure.members();
                quarry.hidden = members.is_empty();
            }
            all.push(members);
        }
        self.remember(all)
    }

    /// Sends a signal to all members in this table that are alive and names them.
    fn send(&mut self, table: &ProcessTable, signal: Signal) -> Vec<Vec<ProcessRef>> {
        let mut met = vec![Vec::new(); self.quarries.len()];
        for (quarry, met) in self.quarries.iter().zip(&mut met) {
            send_through(table, &quarry.lineage, signal, met);
            if signal == Signal::SIGTERM {
                send_through(table, &quarry.lineage, Signal::SIGCONT, &mut Vec::new());
            }
        }
        self.remember(met)
    }

    /// Kills all members that are alive and names them.
    fn kill(&mut self) -> Result<Vec<Vec<ProcessRef>>, ProcessTableError> {
        let mut met = vec![Vec::new(); self.quarries.len()];
        // A table of its own: what forks and exits faster than it can be read dies where it is met, or
        // never.
        let table = ProcessTable::read_with(|entry| {
            let belongs = |quarry: &Quarry| entry.belongs_to(quarry.lineage.instance);
            if let Some(index) = self.quarries.iter().position(belongs)
                && !is_this_process(entry)
            {
                send(entry.reference(), Signal::SIGKILL);
                met[index].push(entry.reference());
            }
        })?;
        for (quarry, met) in self.quarries.iter().zip(&mut met) {
            send_through(&table, &quarry.lineage, Signal::SIGKILL, met);
            // Whoever was born since.
            quarry.enclosure.kill();
        }
        Ok(self.remember(met))
    }

    fn remember(&mut self, members: Vec<Vec<ProcessRef>>) -> Vec<Vec<ProcessRef>> {
        for (quarry, members) in self.quarries.iter_mut().zip(&members) {
            add_new(&mut quarry.lineage.known, members.iter().copied());
        }
        members
    }
}

/// Whether it is the host itself, which may live in a launch of another host.
fn is_this_process(entry: &ProcessEntry) -> bool {
    entry.pid == std::process::id()
}

fn add_new(known: &mut Vec<ProcessRef>, seen: impl IntoIterator<Item = ProcessRef>) {
    for process in seen {
        if !known.contains(&process) {
            known.push(process);
        }
    }
}

fn send_through(table: &ProcessTable, lineage: &Lineage, signal: Signal, met: &mut Vec<ProcessRef>) {
    let members = table.members(lineage);
    let group = lineage.leader.map(|leader| leader.pid).filter(|&group| {
        // The whole group or, if somebody is in it who does not belong here, its members one by one.
        let mut group = table.entries().iter().filter(|entry| entry.process_group == group).peekable();
        group.peek().is_some() && group.all(|entry| members.iter().any(|member| member.pid == entry.pid))
    });
    if let Some(group) = group {
        // In one go: what forks at this moment does not get away with a child that nobody has seen.
        let _empty_meanwhile = killpg(nix_pid(group), signal);
    }
    for member in members.into_iter().filter(|member| member.alive) {
        if met.contains(&member.reference()) {
            continue;
        }
        if group != Some(member.process_group) {
            send(member.reference(), signal);
        }
        met.push(member.reference());
    }
}

/// To this process and to none that has its pid by now.
pub(super) fn send(process: ProcessRef, signal: Signal) {
    let delivery = match open(process) {
        Ok(None) => return,
        Ok(Some(handle)) => {
            let signal = rustix::process::Signal::from_named_raw(signal as i32).expect("a named signal");
            pidfd_send_signal(handle, signal).map_err(io::Error::from)
        }
        // A kernel before 5.3 or a sandbox without pidfds: here the look and the signal are two steps.
        Err(_) if process.is_current() => kill(nix_pid(process.pid), signal).map_err(io::Error::from),
        Err(_) => return,
    };
    match delivery {
        Err(error) if error.raw_os_error() != Some(Errno::SRCH.raw_os_error()) => {
            warn!(pid = process.pid, %signal, %error, "a process of a launch cannot be signalled");
        }
        _ => {}
    }
}

/// A handle to the process, `None` if it is gone. First the handle, then the look: what has the pid after
/// it was opened, and the right start time, is what was opened.
fn open(process: ProcessRef) -> io::Result<Option<OwnedFd>> {
    let pid = rustix::process::Pid::from_raw(process.pid as i32).expect("process 0 is never a member");
    match pidfd_open(pid, PidfdFlags::empty()) {
        Ok(handle) => Ok(process.is_current().then_some(handle)),
        Err(Errno::SRCH) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

fn nix_pid(pid: u32) -> Pid {
    Pid::from_raw(pid as i32)
}

/// Waits until these processes have ended (reaped or not), the deadline, or the time for a second look.
async fn until_gone(processes: Vec<ProcessRef>, deadline: Instant) {
    blocking(move || {
        let watched: io::Result<Vec<_>> =
            processes.iter().take(WATCHED).map(|&process| open(process)).collect();
        let (mut watched, pause): (Vec<_>, _) = match watched {
            Ok(watched) => (watched.into_iter().flatten().collect(), SECOND_LOOK),
            Err(_) => (Vec::new(), SECOND_LOOK_UNWATCHED),
        };
        let is_unwatched = pause == SECOND_LOOK_UNWATCHED;
        let end = deadline.min(Instant::now() + pause);
        while is_unwatched || !watched.is_empty() {
            let left = end.saturating_duration_since(Instant::now());
            let mut polled: Vec<_> =
                watched.iter().map(|handle| PollFd::new(handle, PollFlags::IN)).collect();
            let timeout = Timespec { tv_sec: left.as_secs() as i64, tv_nsec: left.subsec_nanos().into() };
            // A pidfd becomes readable when its process has ended, with all its threads.
            if left.is_zero() || poll(&mut polled, Some(&timeout)).is_err() {
                return;
            }
            let ended: Vec<_> = polled.iter().map(|handle| !handle.revents().is_empty()).collect();
            let mut ended = ended.into_iter();
            watched.retain(|_| !ended.next().expect("one answer per handle"));
        }
    })
    .await;
}

/// The process table is read on a thread that may block; the runtime's own serves requests meanwhile.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    tokio::task::spawn_blocking(work).await.expect("reading the process table does not panic")
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt;
    use std::process::Stdio;

    use tempfile::TempDir;
    use tokio::io::{AsyncBufReadExt, BufReader};
    use tokio::runtime::Handle;
    use tokio::time::timeout;

    use super::*;
    use crate::config::{ResourceLimits, SupervisorTimes};
    use crate::registry::Grouping;
    use crate::registry::process_table::{INSTANCE_VARIABLE, process};
    use crate::store::LedgeredProcess;
    use crate::supervisor::confine::{Cgroups, Plan};
    use crate::supervisor::spawn::{LaunchCommand, Launched, Spawner, base_environment};

    const PATIENCE: Duration = Duration::from_secs(20);

    /// A launch whose script prints one line per process that matters.
    struct Running {
        launched: Launched,
        pids: Vec<u32>,
        _spawner: Spawner,
        _folder: TempDir,
    }

    impl Running {
        async fn start(script: &str, lines: usize) -> Self {
            Self::with(script, lines, Plan::unconfined(InstanceId::new())).await
        }

        async fn with(script: &str, lines: usize, plan: Plan) -> Self {
            let folder = tempfile::tempdir().unwrap();
            let program = folder.path().join("start.sh");
            fs::write(&program, script).unwrap();
            fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
            let spawner = Spawner::start(Handle::current()).unwrap();
            let command = LaunchCommand {
                program,
                args: Vec::new(),
                folder: folder.path().to_owned(),
                environment: base_environment(std::env::vars_os()),
                instance: plan.instance(),
                plan,
            };
            let mut launched = spawner.launch(command).await.unwrap();
            let mut reader = BufReader::new(&mut launched.stdout).lines();
            let mut pids = Vec::new();
            while pids.len() < lines {
                let line = timeout(PATIENCE, reader.next_line()).await.unwrap().unwrap();
                pids.push(line.expect("a line per process").trim().parse().unwrap());
            }
            Self { launched, pids, _spawner: spawner, _folder: folder }
        }

        fn launch(&self) -> LaunchProcess {
            self.launched.process
        }

        fn members(&self) -> Vec<u32> {
            sorted(&ProcessTable::read().unwrap().living_members(&(&self.launch()).into()))
        }
    }

    /// A process in this test's own session, which no launch may touch.
    struct Bystander(std::process::Child);

    impl Bystander {
        fn start(instance: Option<InstanceId>) -> Self {
            let mut command = std::process::Command::new("tail");
            command.args(["-f", "/dev/null"]).stdin(Stdio::null());
            if let Some(instance) = instance {
                command.env(INSTANCE_VARIABLE, instance.to_string());
            }
            Self(command.spawn().unwrap())
        }

        fn is_alive(&mut self) -> bool {
            self.0.try_wait().unwrap().is_none()
        }
    }

    impl Drop for Bystander {
        fn drop(&mut self) {
            self.0.kill().unwrap();
            self.0.wait().unwrap();
        }
    }

    fn sorted(processes: &[ProcessRef]) -> Vec<u32> {
        let mut pids: Vec<_> = processes.iter().map(|process| process.pid).collect();
        pids.sort_unstable();
        pids
    }

    fn is_alive(pid: u32) -> bool {
        process(pid).is_some_and(|entry| entry.alive)
    }

    /// A first process, a child in the group, and one that has forked twice and left the session.
    const DAEMONISING: &str = "#!/usr/bin/env python3\n\
        import os, signal\n\
        def say(): os.write(1, b'%d\\n' % os.getpid())\n\
        if os.fork() == 0:\n\
        \x20   os.setsid()\n\
        \x20   if os.fork() == 0: say(); signal.pause()\n\
        \x20   os._exit(0)\n\
        os.wait()\n\
        if os.fork() == 0: say(); signal.pause()\n\
        say(); signal.pause()\n";

    #[tokio::test]
    async fn a_daemonised_process_is_found_and_ended_and_a_bystander_is_not() {
        let mut bystander = Bystander::start(None);
        let mut running = Running::start(DAEMONISING, 3).await;
        let mut all = running.pids.clone();
        all.sort_unstable();
        assert_eq!(running.members(), all);

        let report = stop_launch(&running.launch(), PATIENCE).await.unwrap();
        assert_eq!(
            (sorted(&report.asked), &report.killed, report.is_empty()),
            (all.clone(), &vec![], true)
        );
        assert!(report.took < PATIENCE, "all left at SIGTERM, {:?}", report.took);
        assert_eq!(all.iter().filter(|&&pid| is_alive(pid)).count(), 0);
        assert!(bystander.is_alive());
        let status = running.launched.child.wait().await.unwrap();
        assert_eq!(std::os::unix::process::ExitStatusExt::signal(&status), Some(Signal::SIGTERM as i32));
    }

    /// A process that has left session, parents and environment.
    const HIDING: &str = "#!/usr/bin/env python3\n\
        import os, signal\n\
        if os.fork() == 0:\n\
        \x20   os.setsid()\n\
        \x20   if os.fork() == 0:\n\
        \x20       os.write(1, b'%d\\n' % os.getpid())\n\
        \x20       os.execve('/usr/bin/tail', ['tail', '-f', '/dev/null'], {})\n\
        \x20   os._exit(0)\n\
        os.wait()\n";

    #[tokio::test]
    async fn who_hides_from_the_table_is_found_in_its_cgroup_of_either_version() {
        for group in [Grouping::CgroupV2, Grouping::CgroupV1] {
            let cgroups = Arc::new(Cgroups::of_version(&SupervisorTimes::default(), group));
            let plan = Plan::new(cgroups, InstanceId::new(), ResourceLimits::default());
            let paths = plan.paths();
            if paths.is_empty() {
                // Not on this machine, which is what a launch would say.
                assert_eq!(plan.establish().confinement.group, Grouping::ProcessGroup);
                continue;
            }
            let mut bystander = Bystander::start(None);
            let mut running = Running::with(HIDING, 1, plan).await;
            assert_eq!(running.launched.confinement.group, group);
            running.launched.child.wait().await.unwrap();
            assert_eq!(running.members(), running.pids);
            let enclosure = Arc::clone(&running.launched.enclosure);
            assert!(!enclosure.is_empty() && paths[0].is_dir());
            // By the cgroup alone: nothing is told of the launch but where it was.
            let entry = LedgerEntry {
                cgroups: paths.clone(),
                ..entry(&running.launch(), &boot_id().unwrap(), None)
            };
            let reaped = reap_leftovers(&[entry]).await.unwrap();
            assert_eq!(
                reaped.iter().map(|reaped| sorted(&reaped.killed)).collect::<Vec<_>>(),
                [running.pids.clone()]
            );
            assert!(!is_alive(running.pids[0]) && bystander.is_alive());
            assert!(enclosure.is_empty() && !paths[0].exists());
        }
    }

    #[tokio::test]
    async fn a_cgroup_is_killed_whole_in_either_version() {
        for group in [Grouping::CgroupV2, Grouping::CgroupV1] {
            let cgroups = Arc::new(Cgroups::of_version(&SupervisorTimes::default(), group));
            let plan = Plan::new(cgroups, InstanceId::new(), ResourceLimits::default());
            if plan.paths().is_empty() {
                assert_eq!(plan.establish().confinement.group, Grouping::ProcessGroup);
                continue;
            }
            let running = Running::with(DAEMONISING, 3, plan).await;
            let enclosure = Arc::clone(&running.launched.enclosure);
            assert_eq!(sorted(&enclosure.members()).len(), 3);
            enclosure.kill();
            let deadline = Instant::now() + PATIENCE;
            while !enclosure.is_empty() {
                assert!(Instant::now() < deadline, "everything in it dies");
                tokio::task::yield_now().await;
            }
            enclosure.remove();
            assert_eq!(running.members(), [] as [u32; 0]);
        }
    }

    #[tokio::test]
    async fn what_a_plugin_froze_in_a_cgroup_of_its_own_dies_too() {
        for (group, file, order) in
            [(Grouping::CgroupV2, "cgroup.freeze", "1"), (Grouping::CgroupV1, "freezer.state", "FROZEN")]
        {
            let cgroups = Arc::new(Cgroups::of_version(&SupervisorTimes::default(), group));
            let plan = Plan::new(cgroups, InstanceId::new(), ResourceLimits::default());
            let paths = plan.paths();
            if !paths.first().is_some_and(|path| path.parent().unwrap().join("cgroup.procs").exists()) {
                assert_eq!(plan.establish().confinement.group, Grouping::ProcessGroup);
                continue;
            }
            let running = Running::with("#!/bin/sh\necho $$\nexec tail -f /dev/null\n", 1, plan).await;
            let inner = paths[0].join("inner");
            fs::create_dir(&inner).unwrap();
            if !inner.join(file).exists() {
                continue;
            }
            fs::write(inner.join("cgroup.procs"), running.pids[0].to_string()).unwrap();
            fs::write(inner.join(file), order).unwrap();
            let enclosure = Arc::clone(&running.launched.enclosure);
            let report =
                stop_enclosed(&running.launch(), &enclosure, Duration::from_millis(50)).await.unwrap();
            assert!(report.is_empty(), "{group:?}: {report:?}");
            assert!(!paths[0].exists());
        }
    }

    #[tokio::test]
    async fn what_outlives_its_leader_in_the_group_without_environment_is_found() {
        let script = "#!/bin/sh\nenv -i tail -f /dev/null &\necho $!\n";
        let mut running = Running::start(script, 1).await;
        running.launched.child.wait().await.unwrap();
        assert_eq!(running.members(), running.pids);
        let report = stop_launch(&running.launch(), PATIENCE).await.unwrap();
        assert_eq!(sorted(&report.asked), running.pids);
        assert!(!is_alive(running.pids[0]));
    }

    #[tokio::test]
    async fn who_ignores_sigterm_is_killed_when_the_grace_is_over() {
        let script =
            "#!/bin/sh\ntrap '' TERM\ntail -f /dev/null &\necho $!\necho $$\nexec tail -f /dev/null\n";
        let running = Running::start(script, 2).await;
        let grace = Duration::from_millis(100);
        let report = stop_launch(&running.launch(), grace).await.unwrap();
        assert_eq!(sorted(&report.asked), sorted(&report.killed));
        assert_eq!((report.killed.len(), report.is_empty()), (2, true));
        assert!(report.took >= grace);
        assert_eq!(running.members(), [] as [u32; 0]);
    }

    #[tokio::test]
    async fn a_stopped_process_is_woken_to_hear_sigterm() {
        let running = Running::start("#!/bin/sh\necho $$\nkill -STOP $$\n", 1).await;
        let report = stop_launch(&running.launch(), PATIENCE).await.unwrap();
        assert_eq!((report.asked.len(), report.killed.len()), (1, 0));
    }

    #[tokio::test]
    async fn a_clean_up_that_begins_at_sigterm_may_finish() {
        let script = "#!/bin/sh\n\
            trap 'sh -c \"trap \\\"echo hit > hit\\\" TERM; : > begun; while [ ! -e end ]; do :; done; : > cleaned\"; exit' TERM\n\
            echo $$\nwhile :; do read line < fifo; done\n";
        let running = Running::start(&script.replace("echo $$", "mkfifo fifo; echo $$"), 1).await;
        let folder = running._folder.path().to_owned();
        let launch = running.launch();
        let stop = tokio::spawn(async move { stop_launch(&launch, PATIENCE).await.unwrap() });
        let deadline = Instant::now() + PATIENCE;
        while !folder.join("begun").exists() {
            assert!(Instant::now() < deadline, "the clean-up has begun");
            tokio::task::yield_now().await;
        }
        fs::write(folder.join("end"), "").unwrap();
        let report = stop.await.unwrap();
        assert!(folder.join("cleaned").exists());
        assert!(!folder.join("hit").exists(), "the clean-up itself was asked to end");
        assert_eq!(sorted(&report.asked), [launch.pid]);
        assert_eq!(report.killed, []);
    }

    #[tokio::test]
    async fn a_circle_of_processes_that_replace_each_other_is_caught() {
        // Every generation leaves its session, forks the next one and exits: no pid lives for long. If this
        // test fails, it ends by itself after twice the time that we give ourselves.
        let script = "#!/usr/bin/env python3\n\
            import os, time\n\
            generation, end = 0, time.monotonic() + 20\n\
            while time.monotonic() < end:\n\
            \x20   if os.fork(): os._exit(0)\n\
            \x20   os.setsid()\n\
            \x20   generation += 1\n\
            \x20   if generation == 10: os.write(1, b'%d\\n' % os.getpid())\n";
        let running = Running::start(script, 1).await;
        let report = stop_launch(&running.launch(), Duration::ZERO).await.unwrap();
        assert_eq!(report.survivors, []);
        assert!(!report.killed.is_empty());
        assert_eq!(running.members(), [] as [u32; 0]);
    }

    #[tokio::test]
    async fn stopping_what_is_gone_touches_nobody() {
        let mut running = Running::start("#!/bin/sh\necho $$\n", 1).await;
        running.launched.child.wait().await.unwrap();
        let report = stop_launch(&running.launch(), PATIENCE).await.unwrap();
        assert_eq!(report, StopReport { took: report.took, ..StopReport::default() });
    }

    #[tokio::test]
    async fn a_recycled_pid_is_never_hit() {
        let mut bystander = Bystander::start(None);
        let stranger = ProcessRef::of(bystander.0.id()).unwrap();
        let hunt = |launch: &LaunchProcess| Hunt::of(vec![Quarry::new(launch.into(), Arc::default())]);
        let launch = LaunchProcess {
            pid: stranger.pid,
            start_time: stranger.start_time - 1,
            instance: InstanceId::new(),
        };
        assert_eq!(hunt(&launch).kill().unwrap().concat(), []);
        send(launch.reference(), Signal::SIGKILL);
        assert!(bystander.is_alive());

        // The same aim with the right start time does hit.
        let right = LaunchProcess { start_time: stranger.start_time, ..launch };
        assert_eq!(hunt(&right).kill().unwrap().concat(), [stranger]);
        let status = bystander.0.wait().unwrap();
        assert_eq!(std::os::unix::process::ExitStatusExt::signal(&status), Some(Signal::SIGKILL as i32));
    }

    fn entry(launch: &LaunchProcess, boot_id: &str, process: Option<ProcessRef>) -> LedgerEntry {
        let plugin = "ping".parse().unwrap();
        let process =
            process.map(|process| LedgeredProcess { pid: process.pid, start_time: process.start_time });
        LedgerEntry {
            plugin,
            instance: launch.instance,
            boot_id: boot_id.into(),
            process,
            cgroups: Vec::new(),
        }
    }

    #[tokio::test]
    async fn leftovers_are_killed_by_pid_or_by_instance_and_nobody_else_is() {
        let mut bystanders = [Bystander::start(None), Bystander::start(Some(InstanceId::new()))];
        let with_pid = Running::start(DAEMONISING, 3).await;
        let without_pid = Running::start(DAEMONISING, 3).await;
        let unledgered = Running::start(DAEMONISING, 3).await;
        let boot = boot_id().unwrap();
        let entries = [
            entry(&with_pid.launch(), &boot, Some(with_pid.launch().reference())),
            entry(&without_pid.launch(), &boot, None),
            // A launch of which nothing is left, with a pid that a bystander has now.
            entry(
                &LaunchProcess { pid: 1, start_time: 0, instance: InstanceId::new() },
                &boot,
                Some(ProcessRef { pid: bystanders[0].0.id(), start_time: 1 }),
            ),
        ];
        let begin = Instant::now();
        let reaped = reap_leftovers(&entries).await.unwrap();
        assert!(begin.elapsed() < REAP_LIMIT, "{:?}", begin.elapsed());

        let instances: Vec<_> = reaped.iter().map(|reaped| reaped.instance).collect();
        assert_eq!(instances, [with_pid.launch().instance, without_pid.launch().instance]);
        for (reaped, running) in reaped.iter().zip([&with_pid, &without_pid]) {
            let mut all = running.pids.clone();
            all.sort_unstable();
            assert_eq!((sorted(&reaped.killed), &reaped.survivors), (all, &vec![]));
            assert_eq!(running.members(), [] as [u32; 0]);
        }
        assert_eq!(unledgered.members().len(), 3);
        assert!(bystanders.iter_mut().all(Bystander::is_alive));
        stop_launch(&unledgered.launch(), Duration::ZERO).await.unwrap();
    }

    #[tokio::test]
    async fn entries_of_another_boot_have_left_nothing() {
        let running = Running::start(DAEMONISING, 3).await;
        let launch = running.launch();
        let entries = [entry(&launch, "00000000-0000-0000-0000-000000000000", Some(launch.reference()))];
        assert_eq!(reap_leftovers(&entries).await.unwrap(), []);
        assert_eq!(running.members().len(), 3);
        stop_launch(&launch, Duration::ZERO).await.unwrap();
    }
}
