//! Starts the processes of launches: the one place of the daemon that forks, and the one audited `unsafe` file.
//!
//! A dedicated thread does it for as long as the daemon lives, because `PR_SET_PDEATHSIG` follows the
//! *thread* that forked: a child of a pool thread dies when the pool shrinks. The same thread reaps what the
//! host adopts as child subreaper, since only it knows which children have an owner who waits for them.
//! It knows nothing of plugins, policies or states. The invariant: a started process either reaches the
//! caller or is killed. Called by the supervisor's state machine.

#![allow(unsafe_code)]

use std::ffi::{OsStr, OsString};
use std::fmt;
use std::fs::File;
use std::io::{self, Read};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bkg_protocol::InstanceId;
use nix::errno::Errno;
use nix::libc;
use nix::sys::prctl;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::stat::{Mode, umask};
use nix::sys::wait::{Id, WaitPidFlag, waitid};
use nix::unistd::{AccessFlags, Pid, access, getppid, getsid, setsid};
use tokio::process::{Child, ChildStderr, ChildStdout, Command};
use tokio::runtime::Handle;
use tokio::signal::unix::{Signal as SignalStream, SignalKind, signal};
use tokio::sync::{mpsc, oneshot};
use tokio::time::timeout;

use super::confine::{Enclosure, Established, Plan, Rlimits};
use crate::registry::Confinement;
use crate::registry::process_table::{self, INSTANCE_VARIABLE, LaunchProcess, ProcessEntry, ProcessRef};

/// How long a launch may take to be forked and executed before the caller is told that the machine is stuck.
const LAUNCH_DEADLINE: Duration = Duration::from_secs(10);
/// Orders that may wait for the thread. When it is full, further callers wait, within their deadline.
const ORDER_QUEUE: usize = 16;
/// What the kernel reads of a file to find its interpreter.
const SHEBANG_BYTES: u64 = 256;
/// What runs a text without `#!`, as every shell does.
const DEFAULT_INTERPRETER: &str = "/bin/sh";

/// What to start.
pub struct LaunchCommand {
    /// The file to run. A relative one is looked up in `folder`, never in `PATH`.
    pub program: PathBuf,
    /// Its arguments, without the program's name.
    pub args: Vec<OsString>,
    /// Its working directory.
    pub folder: PathBuf,
    /// The complete environment: nothing is inherited. A later pair replaces an earlier one of the same name.
    pub environment: Vec<(OsString, OsString)>,
    /// The id of the launch. Always in the environment, as [`INSTANCE_VARIABLE`]: processes are found by it.
    pub instance: InstanceId,
    /// What keeps its processes together, and what they may use.
    pub plan: Plan,
}

impl fmt::Debug for LaunchCommand {
    /// Without the values of the environment: one of them is the launch token.
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<_> = self.environment.iter().map(|(name, _)| name).collect();
        out.debug_struct("LaunchCommand")
            .field("program", &self.program)
            .field("args", &self.args)
            .field("folder", &self.folder)
            .field("environment", &names)
            .field("instance", &self.instance)
            .field("plan", &self.plan)
            .finish()
    }
}

/// A process that was started. Dropping `child` before it has ended kills the process.
#[derive(Debug)]
pub struct Launched {
    /// Which process it is: pid, start time, instance; its process group and session have the pid's number.
    pub process: LaunchProcess,
    /// To wait for its end. Nobody else reaps it.
    pub child: Child,
    /// What it prints. Both pipes must be drained at all times, else the process blocks.
    pub stdout: ChildStdout,
    /// What it complains about.
    pub stderr: ChildStderr,
    /// The interpreter that runs it, if it lacked the execute bit: the caller warns.
    pub ran_through: Option<PathBuf>,
    /// The cgroups that it has to itself.
    pub(crate) enclosure: Arc<Enclosure>,
    /// How it is confined, for operators.
    pub confinement: Confinement,
}

/// Why a launch did not start.
#[derive(Debug, thiserror::Error)]
pub enum LaunchError {
    /// There is no such file.
    #[error("`{}` does not exist: put the plugin's start script there", .0.display())]
    ProgramMissing(PathBuf),
    /// A folder, a socket, a device.
    #[error("`{}` is not a file: put the plugin's start script there", .0.display())]
    NotAFile(PathBuf),
    /// The file is there but cannot be looked into.
    #[error("`{}` cannot be read: {source}", program.display())]
    Unreadable {
        /// The file.
        program: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A binary cannot be run through an interpreter instead.
    #[error("`{program}` is a binary without the execute bit: run `chmod +x {program}`", program = .0.display())]
    BinaryNotExecutable(PathBuf),
    /// The first line names a program that is not there.
    #[error("`{}` asks for the interpreter `{}`, which does not exist: {}", program.display(),
        interpreter.display().to_string().escape_debug(), interpreter_hint(interpreter))]
    InterpreterMissing {
        /// The script.
        program: PathBuf,
        /// What its first line names.
        interpreter: PathBuf,
    },
    /// The working directory is not there.
    #[error("the working directory `{}` does not exist", .0.display())]
    FolderMissing(PathBuf),
    /// The system refused to fork, to confine or to execute.
    #[error("`{}` could not be started: {source}", program.display())]
    Refused {
        /// The file.
        program: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The machine did not manage to fork and execute in time.
    #[error("`{}` was not started within {} s: the machine or its disk is stuck", .0.display(), LAUNCH_DEADLINE.as_secs())]
    TooSlow(PathBuf),
    /// The thread that starts processes has ended with the runtime.
    #[error("`{}` was not started: the host is stopping", .0.display())]
    Stopping(PathBuf),
}

fn interpreter_hint(interpreter: &Path) -> &'static str {
    if interpreter.as_os_str().as_bytes().ends_with(b"\r") {
        "the first line ends in a carriage return, convert the file to Unix line endings"
    } else {
        "install it or correct the first line"
    }
}

/// The thread that starts processes could not be set up.
#[derive(Debug, thiserror::Error)]
#[error("the thread that starts processes could not be set up: {0}")]
pub struct SpawnerError(#[from] io::Error);

/// Handle to the thread that starts processes.
///
/// One lives as long as the daemon: when the last clone is dropped the thread ends, and the kernel then
/// kills the first process of every launch that is still running.
#[derive(Debug, Clone)]
pub struct Spawner {
    orders: mpsc::Sender<Order>,
}

#[derive(Debug)]
struct Order {
    command: LaunchCommand,
    answer: oneshot::Sender<Result<Launched, LaunchError>>,
}

impl Spawner {
    /// Starts the thread and makes this process the one that inherits the orphans of its launches.
    ///
    /// The children's pipes and exits are watched by `runtime`, which needs I/O and signals enabled.
    pub fn start(runtime: Handle) -> Result<Self, SpawnerError> {
        prctl::set_child_subreaper(true).map_err(io::Error::from)?;
        let child_ended = {
            let _inside = runtime.enter();
            signal(SignalKind::child())?
        };
        let (orders, inbox) = mpsc::channel(ORDER_QUEUE);
        std::thread::Builder::new().name("bkg-spawner".into()).spawn(move || {
            // Nothing may run a handler of ours in a child between fork and exec: it would write into the
            // wake-up pipe that it shares with us. Blocked here, it is unblocked in `confine`.
            SigSet::all().thread_set_mask().expect("a full signal set is a valid mask");
            runtime.block_on(run(inbox, child_ended));
        })?;
        Ok(Self { orders })
    }

    /// Starts a process and answers when it has been executed, or says why not, within 10 s.
    pub async fn launch(&self, command: LaunchCommand) -> Result<Launched, LaunchError> {
        let program = command.program.clone();
        let (answer, answered) = oneshot::channel();
        let launched = async {
            self.orders.send(Order { command, answer }).await.ok()?;
            answered.await.ok()
        };
        match timeout(LAUNCH_DEADLINE, launched).await {
            Ok(Some(result)) => result,
            Ok(None) => Err(LaunchError::Stopping(program)),
            Err(_) => Err(LaunchError::TooSlow(program)),
        }
    }
}

/// The life of the thread. Forking blocks it, which is what it is for.
async fn run(mut inbox: mpsc::Receiver<Order>, mut child_ended: SignalStream) {
    loop {
        tokio::select! {
            order = inbox.recv() => match order {
                Some(order) => obey(order),
                None => return,
            },
            Some(()) = child_ended.recv() => reap_adopted(),
        }
    }
}

fn obey(Order { command, answer }: Order) {
    if answer.is_closed() {
        return;
    }
    if let Err(Ok(unwanted)) = answer.send(launch(command)) {
        // The caller has given up. Its child is not reaped yet, so the number still means its group.
        let group = Pid::from_raw(unwanted.process.process_group() as i32);
        let _gone_already = nix::sys::signal::killpg(group, Signal::SIGKILL);
        unwanted.enclosure.kill();
        unwanted.enclosure.remove();
    }
}

/// Children that somebody waits for through [`Launched::child`]: the reaper leaves them alone.
///
/// A static, because children belong to the process and not to a [`Spawner`]: tests run several of those.
static OWNED_CHILDREN: Mutex<Vec<ProcessRef>> = Mutex::new(Vec::new());

fn launch(command: LaunchCommand) -> Result<Launched, LaunchError> {
    let program = command.folder.join(&command.program);
    let refused = |source| LaunchError::Refused { program: program.clone(), source };
    if !command.folder.is_dir() {
        return Err(LaunchError::FolderMissing(command.folder));
    }
    let invocation = Invocation::of(&program, &command.folder)?;
    let mut established = command.plan.establish();
    let mut spawned = spawn(&command, &invocation, &established);
    if let Err(error) = &spawned
        && established.enclosure.is_exact()
    {
        // If it is not the cgroups that are in the way, it fails again.
        established.enclosure.remove();
        established = command.plan.without_cgroups(format!("its cgroups could not be entered: {error}"));
        spawned = spawn(&command, &invocation, &established);
    }
    if spawned.is_err() {
        established.enclosure.remove();
    }
    let (mut child, reference) = spawned.map_err(refused)?;
    let Established { enclosure, confinement, .. } = established;
    Ok(Launched {
        process: LaunchProcess {
            pid: reference.pid,
            start_time: reference.start_time,
            instance: command.instance,
        },
        stdout: child.stdout.take().expect("stdout was piped"),
        stderr: child.stderr.take().expect("stderr was piped"),
        child,
        ran_through: invocation.ran_through,
        enclosure,
        confinement,
    })
}

/// Forks and executes, inside of the cgroups that were made for it.
fn spawn(
    command: &LaunchCommand,
    invocation: &Invocation,
    established: &Established,
) -> io::Result<(Child, ProcessRef)> {
    let mut process = Command::new(&invocation.program);
    process
        .args(&invocation.leading_args)
        .args(&command.args)
        .current_dir(&command.folder)
        .env_clear()
        .envs(command.environment.iter().map(|(name, value)| (name, value)))
        .env(INSTANCE_VARIABLE, command.instance.to_string())
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true);
    let host = Pid::this();
    let rlimits = established.rlimits;
    let doors = established.enclosure.doors()?;
    // SAFETY: audited. The closure runs in the forked child of a process with threads, where only
    // async-signal-safe calls are sound: `confine` makes system calls and nothing else. It takes no lock and
    // does not allocate (its errors are bare error numbers), and captures plain numbers and open files by
    // value, which the child neither grows nor drops.
    unsafe {
        process.pre_exec(move || confine(host, rlimits, &doors));
    }

    // Held over the fork: the reaper must not meet the child before it is known to have an owner.
    let mut owned = OWNED_CHILDREN.lock().unwrap_or_else(PoisonError::into_inner);
    owned.retain(|child| child.is_current());
    let child = process.spawn()?;
    let pid = child.id().expect("a child that was never waited for has its pid");
    // It cannot be reaped before we return, so even one that has ended already is still in the table.
    let reference = ProcessRef::of(pid).ok_or(Errno::ESRCH)?;
    owned.push(reference);
    Ok((child, reference))
}

/// What the child does to itself between fork and exec. System calls only: see the audit note above.
fn confine(host: Pid, limits: Rlimits, doors: &[File]) -> io::Result<()> {
    prctl::set_pdeathsig(Signal::SIGKILL)?;
    if getppid() != host {
        // The host died before the line above, so no signal will come.
        return Err(Errno::ESRCH.into());
    }
    for door in doors {
        // Whoever writes 0 enters itself; what it forks is born inside.
        nix::unistd::write(door, b"0")?;
    }
    // A session rather than only a process group: without a terminal, a tool that would ask the operator
    // for a password fails at once (in a background group it would stop for ever), the terminal's Ctrl-C
    // stays the host's, and the session's number also finds members that made groups of their own.
    setsid()?;
    umask(Mode::from_bits_truncate(0o077));
    setrlimit(Resource::RLIMIT_CORE, 0, 0)?;
    let bounds = [(Resource::RLIMIT_NOFILE, limits.open_files), (Resource::RLIMIT_DATA, limits.data)];
    for (resource, wanted) in bounds {
        if let Some(wanted) = wanted {
            let (_, hard) = getrlimit(resource)?;
            let allowed = wanted.min(hard);
            setrlimit(resource, allowed, allowed)?;
        }
    }
    prctl::set_no_new_privs()?;
    close_inherited_on_exec();
    reset_signals()?;
    Ok(())
}

/// Our own descriptors close on exec anyway; this is for those that whoever started the host left open.
fn close_inherited_on_exec() {
    let first: libc::c_uint = 3;
    // SAFETY: audited. A system call with three integers. It closes nothing now, it marks. Kernels before
    // 5.11 do not know it and change nothing, which leaves what the operator's shell passed on.
    unsafe {
        libc::syscall(libc::SYS_close_range, first, libc::c_uint::MAX, libc::CLOSE_RANGE_CLOEXEC);
    }
}

/// Exec resets handlers but keeps what is ignored (`nohup`) or blocked (by our thread, on purpose).
fn reset_signals() -> nix::Result<()> {
    for number in 1..=libc::SIGRTMAX() {
        // SAFETY: audited. `signal` is async-signal-safe and the default disposition refers to no code of
        // ours. It fails for SIGKILL, SIGSTOP and those that libc keeps for itself, which stay default.
        unsafe {
            libc::signal(number, libc::SIG_DFL);
        }
    }
    // Last: what was pending is delivered here, with its default effect.
    SigSet::empty().thread_set_mask()
}

/// How a file is run.
#[derive(Debug, PartialEq, Eq)]
struct Invocation {
    program: PathBuf,
    leading_args: Vec<OsString>,
    ran_through: Option<PathBuf>,
}

impl Invocation {
    /// Directly if the file may be executed, else through the interpreter that its first line names.
    /// Both paths must be absolute, or relative to the host's own working directory.
    fn of(program: &Path, folder: &Path) -> Result<Self, LaunchError> {
        let unreadable = |source: io::Error| match source.kind() {
            io::ErrorKind::NotFound => LaunchError::ProgramMissing(program.to_owned()),
            _ => LaunchError::Unreadable { program: program.to_owned(), source },
        };
        if !program.metadata().map_err(unreadable)?.is_file() {
            return Err(LaunchError::NotAFile(program.to_owned()));
        }
        let may_execute = access(program, AccessFlags::X_OK).is_ok();
        let mut start = Vec::new();
        match File::open(program).and_then(|file| file.take(SHEBANG_BYTES).read_to_end(&mut start)) {
            // A binary may be executable without being readable.
            Err(_) if may_execute => {}
            result => drop(result.map_err(unreadable)?),
        }
        let shebang = Shebang::parse(&start);
        if let Some(shebang) = &shebang
            && !folder.join(shebang.interpreter).exists()
        {
            return Err(LaunchError::InterpreterMissing {
                program: program.to_owned(),
                interpreter: shebang.interpreter.into(),
            });
        }
        if may_execute {
            let program = program.to_owned();
            return Ok(Self { program, leading_args: Vec::new(), ran_through: None });
        }
        let Shebang { interpreter, argument } = match shebang {
            Some(shebang) => shebang,
            None if start.contains(&0) => return Err(LaunchError::BinaryNotExecutable(program.to_owned())),
            None => Shebang { interpreter: OsStr::new(DEFAULT_INTERPRETER), argument: None },
        };
        let interpreter = folder.join(interpreter);
        let leading_args = argument.into_iter().chain([program.as_os_str()]).map(OsStr::to_owned).collect();
        Ok(Self { program: interpreter.clone(), leading_args, ran_through: Some(interpreter) })
    }
}

/// A first line that names an interpreter, read as Linux reads it: one program, at most one argument.
#[derive(Debug, PartialEq, Eq)]
struct Shebang<'a> {
    interpreter: &'a OsStr,
    argument: Option<&'a OsStr>,
}

impl<'a> Shebang<'a> {
    fn parse(start: &'a [u8]) -> Option<Self> {
        let is_blank = |&byte: &u8| byte == b' ' || byte == b'\t';
        let line = start.strip_prefix(b"#!")?.split(|&byte| byte == b'\n').next()?;
        let from = line.iter().position(|byte| !is_blank(byte))?;
        let to = line.iter().rposition(|byte| !is_blank(byte))?;
        let line = &line[from..=to];
        let name_length = line.iter().position(is_blank).unwrap_or(line.len());
        let (interpreter, rest) = line.split_at(name_length);
        let argument = rest.iter().position(|byte| !is_blank(byte)).map(|from| &rest[from..]);
        Some(Self {
            interpreter: OsStr::from_bytes(interpreter),
            argument: argument.map(OsStr::from_bytes),
        })
    }
}

/// Reaps the ended processes that the host inherited from its launches, one pid at a time.
fn reap_adopted() {
    let owned = OWNED_CHILDREN.lock().unwrap_or_else(PoisonError::into_inner);
    let Ok(own_session) = getsid(None) else { return };
    let is_adopted = |entry: &ProcessEntry| {
        // Another child of the host itself has its session; every launch has one of its own.
        entry.session != own_session.as_raw() as u32 && !owned.contains(&entry.reference())
    };
    loop {
        // `WNOWAIT` looks and leaves the status where it is.
        let look = WaitPidFlag::WEXITED | WaitPidFlag::WNOHANG | WaitPidFlag::WNOWAIT;
        let Some(pid) = waitid(Id::All, look).ok().and_then(|status| status.pid()) else { return };
        if process_table::process(pid.as_raw() as u32).is_some_and(|entry| is_adopted(&entry)) {
            reap(pid);
            continue;
        }
        // One that has an owner, who is about to reap it, hides those behind it.
        for entry in process_table::zombie_children().unwrap_or_default() {
            if is_adopted(&entry) {
                reap(Pid::from_raw(entry.pid as i32));
            }
        }
        return;
    }
}

fn reap(pid: Pid) {
    let _reaped_by_another_spawner = waitid(Id::Pid(pid), WaitPidFlag::WEXITED | WaitPidFlag::WNOHANG);
}

/// What of the host's own environment a plugin gets to see, in the order given; `docs/protocol.md` has the list.
///
/// An allow-list, so that nothing leaks because nobody thought of it. Beside the basics these are the
/// settings that a build in `start.sh` needs to behave as in the operator's shell (mirrors, proxies,
/// certificates, caches), without the credentials among them: those an entry's `env` can add.
pub fn base_environment(parent: impl Iterator<Item = (OsString, OsString)>) -> Vec<(OsString, OsString)> {
    parent.filter(|(name, _)| name.to_str().is_some_and(is_passed_on)).collect()
}

const PASSED_NAMES: &[&str] = &[
    "PATH",
    "HOME",
    "USER",
    "LANG",
    "TZ",
    "TMPDIR",
    "BKG_MODELS_DIR",
    // Where pip and others keep their configuration and caches.
    "XDG_CACHE_HOME",
    "XDG_CONFIG_HOME",
    // Certificates of pip (through requests), of curl (rustup's installer) and of npm.
    "REQUESTS_CA_BUNDLE",
    "CURL_CA_BUNDLE",
    "NODE_EXTRA_CA_CERTS",
    // Cargo's choice of compiler, read under these names.
    "RUSTC",
    "RUSTC_WRAPPER",
    "RUSTC_WORKSPACE_WRAPPER",
    "RUSTFLAGS",
    // Cargo's own names one by one: the rest of `CARGO_*` is what cargo tells programs that it runs, and a
    // host started by `cargo run` would pass its own package's on.
    "CARGO_HOME",
    "CARGO_TARGET_DIR",
    "CARGO_INCREMENTAL",
    "CARGO_CACHE_RUSTC_INFO",
];

const PASSED_PREFIXES: &[&str] = &[
    "LC_",
    "SSL_CERT_",
    "CARGO_BUILD_",
    "CARGO_HTTP_",
    "CARGO_NET_",
    "CARGO_PROFILE_",
    "CARGO_REGISTRIES_",
    "CARGO_REGISTRY_",
    "CARGO_SOURCE_",
    "CARGO_TARGET_",
    "CARGO_TERM_",
    "RUSTUP_",
    "PIP_",
];

/// Parts of names whose values are credentials: a registry's token would let a plugin publish in our name.
const SECRET_PARTS: &[&str] = &["TOKEN", "SECRET", "PASSWORD", "_AUTH", "OTP"];

fn is_passed_on(name: &str) -> bool {
    let upper = name.to_ascii_uppercase();
    let is_listed = PASSED_NAMES.contains(&name)
        || PASSED_PREFIXES.iter().any(|prefix| name.starts_with(prefix))
        // These two are read in either case: proxies by convention, npm's settings by npm.
        || upper.ends_with("_PROXY")
        || upper.starts_with("NPM_CONFIG_");
    is_listed && !SECRET_PARTS.iter().any(|part| upper.contains(part))
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::fd::AsRawFd;
    use std::os::unix::fs::PermissionsExt;
    use std::os::unix::process::ExitStatusExt;

    use tempfile::TempDir;
    use tokio::io::{AsyncBufReadExt, AsyncReadExt, BufReader};
    use tokio::time::Instant;

    use super::*;
    use crate::config::ResourceLimits;

    const PATIENCE: Duration = Duration::from_secs(20);

    /// Stays until a signal comes, whatever happens to its pipes (`tail -f` ends when nobody reads it).
    const STAYING: &str = "#!/usr/bin/env python3\n\
        import os, signal\n\
        os.write(1, b'%d\\n' % os.getpid())\n\
        signal.pause()\n";

    /// A folder with one script in it.
    struct Script {
        folder: TempDir,
    }

    impl Script {
        fn executable(text: &str) -> Self {
            Self::with_mode(text.as_bytes(), 0o755)
        }

        fn with_mode(text: &[u8], mode: u32) -> Self {
            let folder = tempfile::tempdir().unwrap();
            let path = folder.path().join("start.sh");
            fs::write(&path, text).unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
            Self { folder }
        }

        fn command(&self) -> LaunchCommand {
            LaunchCommand {
                program: "start.sh".into(),
                args: Vec::new(),
                folder: self.folder.path().to_owned(),
                environment: base_environment(std::env::vars_os()),
                instance: InstanceId::new(),
                plan: Plan::unconfined(InstanceId::new()),
            }
        }

        async fn launch(&self, spawner: &Spawner) -> Launched {
            spawner.launch(self.command()).await.unwrap()
        }
    }

    /// To be kept to the end of a test: its end kills what it started.
    fn spawner() -> Spawner {
        Spawner::start(Handle::current()).unwrap()
    }

    async fn output(mut launched: Launched) -> String {
        let (mut stdout, mut stderr) = (String::new(), String::new());
        let read = async {
            launched.stdout.read_to_string(&mut stdout).await.unwrap();
            launched.stderr.read_to_string(&mut stderr).await.unwrap();
            launched.child.wait().await.unwrap()
        };
        let status = timeout(PATIENCE, read).await.unwrap();
        assert!(status.success(), "{status}: {stderr}");
        stdout
    }

    /// Waits for a line that holds a pid.
    async fn pid_line(launched: &mut Launched) -> u32 {
        let mut line = String::new();
        let mut reader = BufReader::new(&mut launched.stdout);
        timeout(PATIENCE, reader.read_line(&mut line)).await.unwrap().unwrap();
        line.trim().parse().unwrap()
    }

    async fn until(what: &str, condition: impl Fn() -> bool) {
        let deadline = Instant::now() + PATIENCE;
        while !condition() {
            assert!(Instant::now() < deadline, "still not so: {what}");
            tokio::task::yield_now().await;
        }
    }

    #[tokio::test]
    async fn a_launch_has_its_own_session_and_group_and_a_private_umask() {
        let spawner = spawner();
        let script = Script::executable(
            "#!/bin/sh\numask; ulimit -c; grep -h NoNewPrivs /proc/self/status; cut -d' ' -f5,6 /proc/$$/stat; pwd\n",
        );
        let launched = script.launch(&spawner).await;
        let (pid, process) = (launched.child.id().unwrap(), launched.process);
        assert_eq!((process.pid, process.process_group()), (pid, pid));
        assert_eq!(ProcessRef::of(pid), Some(process.reference()));
        let folder = script.folder.path().canonicalize().unwrap();
        let expected = format!("0077\n0\nNoNewPrivs:\t1\n{pid} {pid}\n{}\n", folder.display());
        assert_eq!(output(launched).await, expected);
    }

    #[tokio::test]
    async fn signals_are_neither_blocked_nor_ignored_nor_handled_in_a_launch() {
        let spawner = spawner();
        // SAFETY: a test; ignoring a signal that nothing here uses runs no code of ours.
        unsafe { libc::signal(libc::SIGUSR2, libc::SIG_IGN) };
        let script = Script::executable("#!/bin/cat /proc/self/status\n");
        let status = output(script.launch(&spawner).await).await;
        let set = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name)).unwrap();
            // Without 32 and 33, which libc keeps for its own use.
            u64::from_str_radix(line.trim(), 16).unwrap() & !(0b11 << 31)
        };
        assert_eq!([set("SigBlk:"), set("SigIgn:"), set("SigCgt:")], [0, 0, 0], "{status}");
    }

    #[tokio::test]
    async fn standard_input_is_empty_and_no_other_descriptor_is_inherited() {
        let spawner = spawner();
        // `dup` makes a descriptor that survives exec, as a careless parent of the host would leave it.
        let file = File::open("/dev/null").unwrap();
        // SAFETY: a test; the number is closed by the end of the test process.
        let left_open = unsafe { libc::dup(file.as_raw_fd()) };
        assert!(left_open > 2);
        let script = Script::executable("#!/bin/sh\ncat; ls /proc/$$/fd\n");
        let seen = output(script.launch(&spawner).await).await;
        // The shell itself keeps its script open, as 10 or 255.
        let foreign: Vec<_> =
            seen.lines().filter(|number| !["0", "1", "2", "10", "255"].contains(number)).collect();
        assert_eq!(foreign, [] as [&str; 0]);
    }

    #[tokio::test]
    async fn the_environment_is_exactly_what_was_given_and_the_instance() {
        let spawner = spawner();
        // Not through a shell, which would add variables of its own. The script itself is printed behind it.
        let script = Script::executable("#!/bin/cat /proc/self/environ\n");
        let mut command = script.command();
        let pairs = [("A", "old"), (INSTANCE_VARIABLE, "forged"), ("A", "new")];
        command.environment = pairs.map(|(name, value)| (name.into(), value.into())).into();
        let expected = format!("A=new\0BKG_PLUGIN_INSTANCE={}\0#!/bin/cat", command.instance);
        let seen = output(spawner.launch(command).await.unwrap()).await;
        assert!(seen.starts_with(&expected), "{seen:?}");
    }

    #[test]
    fn only_listed_variables_are_passed_on() {
        let passed = [
            "PATH",
            "HOME",
            "USER",
            "LANG",
            "LC_ALL",
            "TZ",
            "TMPDIR",
            "SSL_CERT_FILE",
            "SSL_CERT_DIR",
            "HTTP_PROXY",
            "https_proxy",
            "No_Proxy",
            "CARGO_HOME",
            "CARGO_NET_OFFLINE",
            "CARGO_REGISTRIES_MIRROR_INDEX",
            "RUSTUP_HOME",
            "RUSTUP_TOOLCHAIN",
            "PIP_INDEX_URL",
            "npm_config_registry",
            "NPM_CONFIG_CACHE",
            "NODE_EXTRA_CA_CERTS",
            "REQUESTS_CA_BUNDLE",
            "BKG_MODELS_DIR",
            "XDG_CACHE_HOME",
        ];
        let kept_back = [
            "CANARY",
            "BKG_ROOT_KEY",
            "BKG_PLUGIN_TOKEN",
            "BKG_PLUGIN_INSTANCE",
            "OPENAI_API_KEY",
            "LD_PRELOAD",
            "SSH_AUTH_SOCK",
            "PYTHONPATH",
            "path",
            "PATHS",
            "HOMES",
            "CARGO_PKG_NAME",
            "CARGO_MANIFEST_DIR",
            "CARGO_REGISTRY_TOKEN",
            "CARGO_REGISTRIES_MIRROR_TOKEN",
            "npm_config__auth",
            "NPM_TOKEN",
            "npm_config__password",
            "npm_config_//mirror/:_authToken",
            "AWS_SECRET_ACCESS_KEY",
            "",
        ];
        let parent =
            passed.iter().chain(&kept_back).map(|name| (OsString::from(name), OsString::from("value")));
        let names: Vec<_> = base_environment(parent).into_iter().map(|(name, _)| name).collect();
        assert_eq!(names, passed);
    }

    #[tokio::test]
    async fn a_canary_in_the_hosts_environment_does_not_reach_a_launch() {
        let script = Script::executable("#!/bin/sh\nexec env\n");
        let canary =
            [("PATH", "/usr/bin:/bin"), ("CANARY_KEY", "chirp")].map(|(a, b)| (a.into(), b.into()));
        let mut command = script.command();
        command.environment = base_environment(canary.into_iter());
        let spawner = spawner();
        let seen = output(spawner.launch(command).await.unwrap()).await;
        assert!(seen.contains("PATH=/usr/bin:/bin\n"), "{seen}");
        assert!(!seen.contains("chirp"), "{seen}");
    }

    #[tokio::test]
    async fn open_files_are_limited_and_never_above_the_hosts_own_limit() {
        let script = Script::executable("#!/bin/sh\nulimit -Sn; ulimit -Hn\n");
        let files = |count| {
            let limits = ResourceLimits { files: Some(count), ..ResourceLimits::default() };
            Plan::new(Arc::default(), InstanceId::new(), limits)
        };
        let mut command = script.command();
        command.plan = files(123);
        let spawner = spawner();
        assert_eq!(output(spawner.launch(command).await.unwrap()).await, "123\n123\n");

        let mut command = script.command();
        command.plan = files(u64::MAX - 1);
        let hard = getrlimit(Resource::RLIMIT_NOFILE).unwrap().1;
        let seen = output(spawner.launch(command).await.unwrap()).await;
        assert_eq!(seen, format!("{hard}\n{hard}\n"));
    }

    #[tokio::test]
    async fn a_script_without_execute_bit_runs_through_its_shebang() {
        let script =
            Script::with_mode(b"#! /usr/bin/env python3 \nimport sys; print(sys.argv[1:])\n", 0o644);
        let mut command = script.command();
        command.args = vec!["a".into(), "b c".into()];
        let spawner = spawner();
        let launched = spawner.launch(command).await.unwrap();
        assert_eq!(launched.ran_through, Some(PathBuf::from("/usr/bin/env")));
        assert_eq!(output(launched).await, "['a', 'b c']\n");
    }

    #[tokio::test]
    async fn a_script_without_execute_bit_and_shebang_runs_through_the_shell() {
        let spawner = spawner();
        let script = Script::with_mode(b"echo plain\n", 0o600);
        let launched = script.launch(&spawner).await;
        assert_eq!(launched.ran_through, Some(PathBuf::from("/bin/sh")));
        assert_eq!(output(launched).await, "plain\n");
    }

    #[tokio::test]
    async fn an_executable_script_runs_by_itself() {
        let spawner = spawner();
        let script = Script::executable("#!/bin/sh\necho direct\n");
        let launched = script.launch(&spawner).await;
        assert_eq!(launched.ran_through, None);
        assert_eq!(output(launched).await, "direct\n");
    }

    #[test]
    fn a_shebang_is_read_as_linux_reads_it() {
        let parsed = |text: &str| {
            Shebang::parse(text.as_bytes()).map(|shebang| {
                let text = |part: &OsStr| part.to_str().unwrap().to_owned();
                (text(shebang.interpreter), shebang.argument.map(text))
            })
        };
        let both = |program: &str, argument: &str| Some((program.to_owned(), Some(argument.to_owned())));
        assert_eq!(parsed("#!/bin/sh"), Some(("/bin/sh".into(), None)));
        assert_eq!(parsed("#!  /bin/sh\t \necho"), Some(("/bin/sh".into(), None)));
        assert_eq!(parsed("#!/bin/sh -e\n"), both("/bin/sh", "-e"));
        assert_eq!(parsed("#!/usr/bin/env -S python3  -u \n"), both("/usr/bin/env", "-S python3  -u"));
        assert_eq!(parsed("#!/bin/sh\r\n"), Some(("/bin/sh\r".into(), None)));
        assert_eq!(parsed("#!\n/bin/sh"), None);
        assert_eq!(parsed("# !/bin/sh"), None);
        assert_eq!(parsed(""), None);
    }

    #[tokio::test]
    async fn what_cannot_start_says_why_in_one_sentence() {
        async fn sentence(script: &Script, change: impl FnOnce(&mut LaunchCommand)) -> String {
            let mut command = script.command();
            change(&mut command);
            let spawner = spawner();
            let sentence = spawner.launch(command).await.unwrap_err().to_string();
            sentence.replace(&script.folder.path().display().to_string(), "/p")
        }
        let script = Script::executable("#!/bin/sh\n");
        assert_eq!(
            sentence(&script, |command| command.program = "none.sh".into()).await,
            "`/p/none.sh` does not exist: put the plugin's start script there"
        );
        assert_eq!(
            sentence(&script, |command| command.program = ".".into()).await,
            "`/p/.` is not a file: put the plugin's start script there"
        );
        assert_eq!(
            sentence(&script, |command| command.folder.push("gone")).await,
            "the working directory `/p/gone` does not exist"
        );
        for mode in [0o755, 0o644] {
            let script = Script::with_mode(b"#!/opt/none/python\n", mode);
            assert_eq!(
                sentence(&script, |_| ()).await,
                "`/p/start.sh` asks for the interpreter `/opt/none/python`, which does not exist: \
                 install it or correct the first line"
            );
        }
        let script = Script::executable("#!/bin/sh\r\n");
        assert_eq!(
            sentence(&script, |_| ()).await,
            "`/p/start.sh` asks for the interpreter `/bin/sh\\r`, which does not exist: \
             the first line ends in a carriage return, convert the file to Unix line endings"
        );
        let script = Script::with_mode(b"\x7fELF\0\0", 0o644);
        assert_eq!(
            sentence(&script, |_| ()).await,
            "`/p/start.sh` is a binary without the execute bit: run `chmod +x /p/start.sh`"
        );
        let script = Script::executable("#!/etc/passwd\n");
        assert_eq!(
            sentence(&script, |_| ()).await,
            "`/p/start.sh` could not be started: Permission denied (os error 13)"
        );
    }

    #[tokio::test]
    async fn a_launch_outlives_the_thread_that_ordered_it() {
        let script = Script::executable(STAYING);
        let spawner = spawner();
        let ordering = (spawner.clone(), script.command());
        let (done, launched) = oneshot::channel();
        let handle = Handle::current();
        let thread = std::thread::spawn(move || {
            let (spawner, command) = ordering;
            done.send(handle.block_on(spawner.launch(command)).unwrap()).unwrap();
        });
        let mut launched = launched.await.unwrap();
        thread.join().unwrap();
        let pid = pid_line(&mut launched).await;
        assert!(process_table::process(pid).unwrap().alive);

        drop(spawner);
        let status = timeout(PATIENCE, launched.child.wait()).await.unwrap().unwrap();
        assert_eq!(
            status.signal(),
            Some(libc::SIGKILL),
            "the end of the spawner is the end of its launches"
        );
    }

    #[tokio::test]
    async fn a_launch_nobody_waits_for_any_more_is_killed() {
        let spawner = spawner();
        let script = Script::executable(STAYING);
        let mut launched = script.launch(&spawner).await;
        let pid = pid_line(&mut launched).await;
        drop(launched);
        until("the process is gone", || process_table::process(pid).is_none_or(|entry| !entry.alive)).await;
    }

    /// The name under which this test binary runs one test of this module.
    fn test_name(name: &str) -> String {
        let module = module_path!().split_once("::").unwrap().1;
        format!("{module}::{name}")
    }

    #[tokio::test]
    async fn a_launch_dies_with_the_host() {
        let spawner = spawner();
        const ROLE: &str = "BKG_TEST_PLAY_HOST";
        if std::env::var_os(ROLE).is_some() {
            let script = Script::executable(STAYING);
            let mut launched = script.launch(&spawner).await;
            println!("launched {}", pid_line(&mut launched).await);
            launched.child.wait().await.unwrap();
            unreachable!("the host is killed first");
        }
        let mut host = std::process::Command::new(std::env::current_exe().unwrap())
            .args(["--exact", &test_name("a_launch_dies_with_the_host"), "--nocapture"])
            .env(ROLE, "1")
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = io::BufRead::lines(io::BufReader::new(host.stdout.take().unwrap()));
        let pid = lines.map(Result::unwrap).find_map(|line| line.strip_prefix("launched ")?.parse().ok());
        let process = ProcessRef::of(pid.unwrap()).unwrap();
        host.kill().unwrap();
        host.wait().unwrap();
        let is_gone = || {
            process_table::process(process.pid)
                .is_none_or(|entry| entry.reference() != process || !entry.alive)
        };
        until("the launch died with its host", is_gone).await;
    }

    #[tokio::test]
    async fn adopted_processes_are_reaped_and_a_launchs_own_status_is_not_taken() {
        let spawner = spawner();
        // Prints the pid of a grandchild that has lost its parent.
        let script = Script::executable("#!/bin/sh\n(tail -f /dev/null & echo $!)\nexit 7\n");
        let mut launched = script.launch(&spawner).await;
        let orphan = pid_line(&mut launched).await;
        let leader = launched.process.pid;
        let own = std::process::id();
        until("the orphan is adopted", || process_table::process(orphan).unwrap().parent == own).await;
        until("the launch has ended", || !process_table::process(leader).unwrap().alive).await;

        // The zombie of the launch, for which we do not wait yet, stands in front of the orphan's.
        nix::sys::signal::kill(Pid::from_raw(orphan as i32), Signal::SIGKILL).unwrap();
        until("the orphan is reaped", || process_table::process(orphan).is_none()).await;
        let status = timeout(PATIENCE, launched.child.wait()).await.unwrap().unwrap();
        assert_eq!(status.code(), Some(7));
    }
}
