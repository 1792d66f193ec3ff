//! The place of one instance of a plugin: the task that starts its process, watches it, stops it and
//! starts it again.
//!
//! It owns the launch from the ledger's first word to its last. The invariant: it leaves a launch only
//! when no process of it is alive, and every way out says in one sentence why.

use std::ffi::OsString;
use std::net::{Ipv4Addr, TcpListener};
use std::path::{Path, PathBuf};
use std::pin::pin;
use std::process::ExitStatus;
use std::sync::Arc;
use std::time::Duration;

use bkg_protocol::InstanceId;
use bkg_protocol::host::Contract;
use bkg_protocol::message::LogLevel;
use serde_json::Value;
use sha2::{Digest, Sha256};
use tokio::process::Child;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, watch};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, sleep_until, timeout};
use tokio_util::sync::{CancellationToken, DropGuard};
use tokio_util::task::{AbortOnDropHandle, TaskTracker};
use tracing::warn;

use super::backoff::Backoff;
use super::chronicle::{self, Began, Chronicle};
use super::confine::{Enclosure, Plan};
use super::environment::{BusPlace, LaunchPlace, launch_environment};
use super::exit::{ExitCause, MemoryWatch};
use super::prepare::Milestone;
use super::probe;
use super::processes::{StopReport, stop_enclosed};
use super::spawn::{LaunchCommand, Launched};
use super::team::Team;
use super::{Plugin, Wanted, output, requires, run_ended, run_started};
use crate::config::RestartPolicy;
use crate::logs::{LogStream, NewLine};
use crate::registry::process_table::LaunchProcess;
use crate::registry::{
    Confinement, Instance as Session, Launch, LaunchEvent, LimitMeans, Means, Order, PluginRecord,
    PrivateListener, State,
};
use crate::store::{Ledger, LedgeredProcess, OpenRequest, PluginDirs, RunOutcome, StoreError, replace};

/// How long a registered process may be without a session before it counts as lost.
const RECONNECT_WITHIN: Duration = Duration::from_secs(30);
/// How long a launch that has not registered keeps its place among those that start: who builds for
/// minutes must not keep the others waiting.
const STARTS_FOR: Duration = Duration::from_secs(5);
/// How long the last line of a launch may take to be read when all its processes are gone.
const LAST_WORDS_WITHIN: Duration = Duration::from_secs(1);
/// How long until processes that could not be ended are tried again.
const TRY_AGAIN_AFTER: Duration = Duration::from_secs(1);
/// How often it is looked whether a session that drains has answered everything.
const LOOKS_EVERY: Duration = Duration::from_millis(50);
/// How the names of runtime configurations end; each launch has its own.
const RUNTIME_CONFIG: &str = "config.runtime.json";

pub(super) struct Seat {
    number: usize,
    plugin: Arc<Plugin>,
    /// The version whose seat it is.
    team: Arc<Team>,
    wanted: watch::Receiver<Wanted>,
    /// Ends the task when its process has ended.
    stop: CancellationToken,
    /// The word that the present process was started for.
    serving: Wanted,
    backoff: Backoff,
    chronicle: Chronicle,
}

/// A process that runs, with everything that has to be undone when it ends.
struct Running {
    launch: Arc<Launch>,
    process: LaunchProcess,
    enclosure: Arc<Enclosure>,
    child: Child,
    events: mpsc::Receiver<LaunchEvent>,
    /// Fires when this is dropped at the latest: listener and sessions go with the launch.
    over: DropGuard,
    memory: MemoryWatch,
    runtime_config: PathBuf,
    /// To be noted when it registers; `None` if this folder, as it is, has registered before.
    milestone: Option<Milestone>,
    /// Its place among those that start, until it has registered.
    place: Option<OwnedSemaphorePermit>,
    registered_at: Option<Instant>,
    /// The session that it has now.
    session: Option<Arc<Session>>,
    /// The one that it had last.
    last_session: Option<Arc<Session>>,
    /// Asks the session whether it is well; goes with it.
    probing: Option<AbortOnDropHandle<()>>,
    /// Whether the session misses its beats.
    is_silent: bool,
    /// What its health probe found, while it keeps the session out of rotation.
    ill: Option<String>,
    /// Why the bus refused its last registration.
    refused: Option<String>,
    /// Done when everything that it wrote is in the log.
    output: TaskTracker,
    /// Answers the last lines that it wrote on standard error, once nobody can write another.
    last_words: Option<JoinHandle<Vec<String>>>,
}

/// What can happen to a launch.
enum Seen {
    /// Its first process ended.
    Exit(std::io::Result<ExitStatus>),
    /// Someone wants it down, or replaced.
    Word,
    /// The bus reports.
    Event(LaunchEvent),
    /// The registry changed.
    Change,
    /// It has had its turn to start.
    Turn,
    /// The time is up.
    Deadline,
}

/// How a launch came to its end.
enum Ending {
    /// Someone wanted it down, or replaced.
    Wanted,
    /// Its first process ended by itself.
    Exited(ExitCause),
    /// It must go: one sentence on why.
    Replace(String),
}

/// What follows a launch.
enum Rest {
    /// Nothing, until somebody says so.
    Down { state: State, reason: Option<String> },
    /// The next attempt.
    Again { after: Duration, reason: String },
}

impl Rest {
    const STOPPED: Self = Self::Down { state: State::Stopped, reason: None };
}

/// A process that was started, its output being drained.
struct Spawned {
    process: LaunchProcess,
    enclosure: Arc<Enclosure>,
    child: Child,
    ran_through: Option<PathBuf>,
    output: TaskTracker,
    last_words: JoinHandle<Vec<String>>,
}

/// What ending a launch took, or why some processes of it are still there.
type Cleared = Result<Ended, String>;

/// A launch of which nothing is left.
struct Ended {
    /// How many processes were still there.
    found: usize,
    /// How its first process ended, unless it cannot be told.
    exit: Option<ExitCause>,
}

/// Why there was no launch.
#[derive(Debug)]
struct NotStarted(String);

fn not_started(why: impl std::fmt::Display) -> NotStarted {
    NotStarted(why.to_string())
}

impl Seat {
    pub(super) fn new(
        number: usize,
        plugin: Arc<Plugin>,
        team: Arc<Team>,
        wanted: watch::Receiver<Wanted>,
    ) -> Self {
        let serving = Wanted::default();
        let stop = plugin.stop.clone();
        let chronicler = Arc::clone(&plugin.supervision.chronicler);
        let chronicle = Chronicle::new(chronicler, plugin.name.clone(), number);
        Self { number, plugin, team, wanted, stop, serving, backoff: Backoff::default(), chronicle }
    }

    /// Keeps the wanted state until the host stops or the version is dismissed.
    pub(super) async fn run(mut self) {
        loop {
            let Some(wanted) = self.next_wanted(|wanted| wanted.up).await else { return };
            if wanted != self.serving {
                self.backoff = Backoff::default();
            }
            self.serving = wanted;
            match self.serve_once().await {
                Rest::Again { after, reason } => self.rest(after, reason).await,
                Rest::Down { state, reason } => {
                    // Whoever waits for a restart must not take its middle for its end.
                    if !self.is_wanted_anew() {
                        self.say(state, reason);
                    }
                    let serving = self.serving;
                    let Some(wanted) = self.next_wanted(|wanted| *wanted != serving).await else { return };
                    // Stopping what failed puts it to rest.
                    if !wanted.up && state == State::Failed {
                        self.say(State::Stopped, None);
                    }
                }
            }
        }
    }

    /// Waits for a word; `None` when the host stops or the version is dismissed.
    async fn next_wanted(&mut self, heard: impl FnMut(&Wanted) -> bool) -> Option<Wanted> {
        tokio::select! {
            biased;
            () = self.stop.cancelled() => None,
            () = self.team.dismissed() => None,
            word = self.wanted.wait_for(heard) => word.ok().map(|wanted| *wanted),
        }
    }

    fn is_wanted_anew(&self) -> bool {
        let wanted = *self.wanted.borrow();
        wanted.up && wanted != self.serving
    }

    /// Whether the launch, or the attempt at one, has to end.
    fn must_end(&self) -> bool {
        self.wanted.borrow().ends(self.serving)
    }

    /// Takes the starts that came while there was a launch as answered by it: its end is news.
    fn forget_starts(&mut self) {
        self.serving.starts = self.wanted.borrow().starts;
    }

    /// Waits before the next attempt; a new word ends the wait.
    async fn rest(&mut self, after: Duration, reason: String) {
        if !after.is_zero() {
            let seconds = after.as_secs_f64();
            self.say(State::Backoff, Some(format!("{reason}; starts again in {seconds:.1} s")));
            let serving = self.serving;
            let _ = timeout(after, self.wanted.wait_for(|wanted| *wanted != serving)).await;
        }
        // Also where no wait was due: the word can have come while the launch ended by itself.
        if !self.wanted.borrow().up {
            self.say(State::Stopped, None);
        }
    }

    /// One launch from start to end; answers what is to follow.
    async fn serve_once(&mut self) -> Rest {
        let mut running = match self.launch().await {
            Ok(Some(running)) => running,
            Ok(None) => return Rest::STOPPED,
            Err(NotStarted(reason)) => {
                self.forget_starts();
                self.plugin.log(LogLevel::Error, reason.clone());
                self.team.failed(self.serving.generation, &reason);
                return self.after_failure(Duration::ZERO, reason);
            }
        };
        let ending = self.watch(&mut running).await;
        self.forget_starts();
        running.place = None;
        let registered_at = running.registered_at;
        let refused = running.refused.take();
        let last_words = running.last_words.take();
        let last_session = running.last_session.take();
        let run = running.launch.instance;
        let healthy = registered_at.map_or(Duration::ZERO, |at| at.elapsed());
        match ending {
            Ending::Wanted => match self.stop(running).await {
                Ok(ended) => {
                    self.say_ended(run, LogLevel::Info, "it was stopped".to_owned(), ended.exit);
                    let (outcome, reason) = self.why_ended();
                    self.tell_end(outcome, reason, ended.exit, last_words, last_session).await;
                    Rest::STOPPED
                }
                Err(reason) => Rest::Down { state: State::Failed, reason: Some(reason) },
            },
            Ending::Exited(cause) => {
                let left = match self.clear(running, Duration::ZERO).await {
                    Ok(ended) => ended.found,
                    Err(reason) => return Rest::Down { state: State::Failed, reason: Some(reason) },
                };
                let entrypoint = self.entrypoint();
                let words = heard(last_words).await;
                let what = match (registered_at, refused, left) {
                    (Some(_), _, _) => format!("its process {cause}"),
                    (None, Some(refused), _) => {
                        format!("`{entrypoint}` {cause}: its registration was refused: {refused}")
                    }
                    (None, None, 0) => match words.last() {
                        Some(words) => {
                            format!("`{entrypoint}` {cause} before it registered, and said: {words}")
                        }
                        None => format!("`{entrypoint}` {cause} before it registered"),
                    },
                    (None, None, left) => format!(
                        "`{entrypoint}` {cause} before it registered and left {left} processes behind: \
                         it must stay in the foreground"
                    ),
                };
                self.say_ended(run, LogLevel::Error, what.clone(), Some(cause));
                self.team.failed(self.serving.generation, &what);
                let well = registered_at.is_some() && cause.is_success();
                let outcome = if well { RunOutcome::Stopped } else { RunOutcome::Crashed };
                self.count_end(outcome);
                self.chronicle.ended(chronicle::Ended {
                    outcome,
                    reason: what.clone(),
                    exit: Some(cause),
                    last_stderr: words,
                    in_flight: lost_requests(last_session).await,
                });
                self.after_exit(well, healthy, what)
            }
            Ending::Replace(reason) => {
                self.plugin.log_run(run, LogLevel::Error, reason.clone());
                self.team.failed(self.serving.generation, &reason);
                // Ending it can take the whole grace, and from here on it serves nobody.
                self.say(State::Unresponsive, Some(reason.clone()));
                let supervision = &self.plugin.supervision;
                running.launch.retire();
                supervision.registry.retire(&self.plugin.name, running.launch.instance);
                match self.clear(running, supervision.config.supervisor.grace).await {
                    Ok(ended) => {
                        self.say_ended(run, LogLevel::Info, "it was ended".to_owned(), ended.exit);
                        let outcome = RunOutcome::Crashed;
                        self.tell_end(outcome, reason.clone(), ended.exit, last_words, last_session).await;
                        self.after_failure(healthy, reason)
                    }
                    Err(reason) => Rest::Down { state: State::Failed, reason: Some(reason) },
                }
            }
        }
    }

    /// Marks the end of a run in the log, after the last line of its output.
    fn say_ended(&self, run: InstanceId, level: LogLevel, what: String, exit: Option<ExitCause>) {
        let line = NewLine::host(level, what).instance(run).fields(run_ended(exit));
        self.plugin.append(line);
    }

    /// What became of a run that somebody ended, and why.
    fn why_ended(&self) -> (RunOutcome, String) {
        if self.wanted.borrow().up {
            (RunOutcome::Replaced, "it was replaced".to_owned())
        } else {
            (self.team.outcome(), "it was stopped".to_owned())
        }
    }

    /// Tells the end of a run that did not end by itself.
    async fn tell_end(
        &self,
        outcome: RunOutcome,
        reason: String,
        exit: Option<ExitCause>,
        last_words: Option<JoinHandle<Vec<String>>>,
        last_session: Option<Arc<Session>>,
    ) {
        let last_stderr = heard(last_words).await;
        let in_flight = lost_requests(last_session).await;
        self.count_end(outcome);
        self.chronicle.ended(chronicle::Ended { outcome, reason, exit, last_stderr, in_flight });
    }

    fn count_end(&self, outcome: RunOutcome) {
        if outcome == RunOutcome::Crashed
            && let Some(record) = self.record()
        {
            record.counts.crashes.one();
        }
    }

    fn after_exit(&mut self, well: bool, healthy: Duration, what: String) -> Rest {
        match self.policy() {
            RestartPolicy::OnFailure if well => Rest::Down {
                state: State::Stopped,
                reason: Some(format!("{what}; it is started again only after a failure")),
            },
            RestartPolicy::Never if well => Rest::Down { state: State::Stopped, reason: Some(what) },
            _ => self.after_failure(healthy, what),
        }
    }

    fn after_failure(&mut self, healthy: Duration, reason: String) -> Rest {
        if self.policy() == RestartPolicy::Never || self.team.waits() {
            return Rest::Down { state: State::Failed, reason: Some(reason) };
        }
        Rest::Again { after: self.backoff.next(healthy, rand::random()), reason }
    }

    /// Prepares the folder and starts the process; `None` if it is no longer wanted.
    async fn launch(&mut self) -> Result<Option<Running>, NotStarted> {
        // Before the first wait: who stops a plugin must not find it stopped while a start is under way.
        self.say(State::Starting, None);
        let plugin = Arc::clone(&self.plugin);
        let supervision = &plugin.supervision;
        let record = self.record().ok_or_else(|| NotStarted("the plugin is no longer known".to_owned()))?;
        if !self.requirements_met(&record).await {
            return Ok(None);
        }
        let dirs = supervision.data.plugin_dirs(&plugin.name).map_err(not_started)?;
        let cache = cache_dir(&supervision.config.cache_dir, &record);
        std::fs::create_dir_all(&cache).map_err(|error| {
            NotStarted(format!("its cache `{}` cannot be made: {error}", cache.display()))
        })?;
        if !self.prepare(&record, &dirs, &cache).await? {
            return Ok(None);
        }
        let (milestone, known) = milestone(&record, &cache, "registered", Vec::new()).await?;
        let Some(place) = self.place_among(Arc::clone(&plugin.starts), "starting").await else {
            return Ok(None);
        };
        if known {
            self.say(State::Starting, None);
        } else {
            let reason =
                format!("`{}` runs here for the first time and may build what it needs", self.entrypoint());
            self.say(State::Preparing, Some(reason));
        }
        let milestone = (!known).then_some(milestone);
        self.spawn(&record, &dirs, &cache, milestone, place).await.map(Some)
    }

    /// Waits until everything is there that the entry requires, holding no place meanwhile; answers whether
    /// it is still wanted.
    async fn requirements_met(&mut self, record: &PluginRecord) -> bool {
        let plugin = Arc::clone(&self.plugin);
        let registry = &plugin.supervision.registry;
        let mut changes = registry.changes();
        let serving = self.serving;
        // It may wait for as long as it likes, but no swap for it: nobody could edit the entry meanwhile.
        let mut overdue = pin!(sleep(plugin.supervision.config.supervisor.register_timeout));
        let mut is_overdue = false;
        loop {
            changes.borrow_and_update();
            let Some(missing) = requires::missing(&registry.view(), record) else {
                return !self.must_end();
            };
            if let Some(comes) = &missing.comes {
                registry.demand(comes);
            }
            if is_overdue {
                self.team.failed(serving.generation, &format!("it {}", missing.reason));
            }
            self.say(State::Starting, Some(missing.reason));
            tokio::select! {
                biased;
                _ = self.wanted.wait_for(|wanted| wanted.ends(serving)) => return false,
                () = &mut overdue, if !is_overdue => is_overdue = true,
                // The registry outlives its seats.
                _ = changes.changed() => {}
            }
        }
    }

    /// A place among those that may do something at the same time, others of which do what `others`
    /// says; `None` if it is no longer wanted.
    async fn place_among(&mut self, places: Arc<Semaphore>, others: &str) -> Option<OwnedSemaphorePermit> {
        if self.must_end() {
            return None;
        }
        if let Ok(place) = Arc::clone(&places).try_acquire_owned() {
            return Some(place);
        }
        self.say(State::Preparing, Some(format!("it waits for its turn: others are {others}")));
        let serving = self.serving;
        tokio::select! {
            biased;
            _ = self.wanted.wait_for(|wanted| wanted.ends(serving)) => None,
            place = places.acquire_owned() => place.ok(),
        }
    }

    /// Runs `prepare.sh` where there is one and its inputs changed; answers whether to go on.
    async fn prepare(
        &mut self,
        record: &PluginRecord,
        dirs: &PluginDirs,
        cache: &Path,
    ) -> Result<bool, NotStarted> {
        let script = record.root.join("prepare.sh");
        if !script.is_file() {
            return Ok(true);
        }
        let plugin = Arc::clone(&self.plugin);
        let _once = plugin.preparing.lock().await;
        if self.must_end() {
            return Ok(false);
        }
        let mut inputs =
            record.entry.prepare.as_ref().map(|prepare| prepare.inputs.clone()).unwrap_or_default();
        if !inputs.is_empty() {
            inputs.push("prepare.sh".to_owned());
        }
        let (done, reached) = milestone(record, cache, "prepared", inputs).await?;
        if reached {
            return Ok(true);
        }
        let prepares = Arc::clone(&plugin.prepares);
        let Some(_place) = self.place_among(prepares, "preparing").await else { return Ok(false) };
        self.say(State::Preparing, Some("`prepare.sh` runs".to_owned()));
        let limit = plugin.supervision.config.supervisor.prepare_timeout;
        let (launch, _events) = Launch::new(plugin.name.clone(), Arc::clone(&record.entry), self.team.id);
        let environment = self.environment(&launch, record, dirs, cache, None);
        let memory = MemoryWatch::start();
        let Spawned { process, enclosure, mut child, output, .. } =
            self.spawn_process(&launch, script, Vec::new(), record, environment).await?;
        let memory = memory.with(&enclosure);
        let serving = self.serving;
        let status = tokio::select! {
            status = child.wait() => Ok(Some(status)),
            () = sleep(limit) => Err(format!("took longer than {} ms", limit.as_millis())),
            _ = self.wanted.wait_for(|wanted| wanted.ends(serving)) => Ok(None),
        };
        self.end_processes(&launch, &process, &enclosure, Duration::ZERO).await.map_err(not_started)?;
        let exit = exit_of(&mut child, &output, &memory).await;
        let ended =
            exit.map_or_else(|| "`prepare.sh` has ended".to_owned(), |exit| format!("`prepare.sh` {exit}"));
        self.say_ended(launch.instance, LogLevel::Info, ended, exit);
        let failed = match status {
            Ok(None) => return Ok(false),
            Ok(Some(Ok(status))) if status.success() => {
                let reached =
                    tokio::task::spawn_blocking(move || done.reach()).await.map_err(not_started)?;
                return reached.map(|()| true).map_err(not_started);
            }
            Ok(Some(Ok(status))) => format!("ended with {status}: its output is in the log"),
            Ok(Some(Err(error))) => format!("cannot be awaited: {error}"),
            Err(late) => late,
        };
        Err(NotStarted(format!("`prepare.sh` {failed}")))
    }

    async fn spawn(
        &self,
        record: &PluginRecord,
        dirs: &PluginDirs,
        cache: &Path,
        milestone: Option<Milestone>,
        place: OwnedSemaphorePermit,
    ) -> Result<Running, NotStarted> {
        let supervision = &self.plugin.supervision;
        let program = record.entry.real_entrypoint(&record.root).map_err(not_started)?;
        let (launch, events) =
            Launch::new(self.plugin.name.clone(), Arc::clone(&record.entry), self.team.id);
        let launch = Arc::new(launch);
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))
            .and_then(|listener| listener.set_nonblocking(true).map(|()| listener))
            .map_err(|error| NotStarted(format!("no port for its bus listener: {error}")))?;
        let port = listener.local_addr().map_err(not_started)?.port();
        let runtime_config = dirs.run.join(format!("{}.{RUNTIME_CONFIG}", launch.instance));
        let environment = self.environment(&launch, record, dirs, cache, Some((port, &runtime_config)));
        let over = CancellationToken::new();
        let private = PrivateListener { listener, launch: Arc::clone(&launch), over: over.clone() };
        let over = over.drop_guard();
        supervision
            .listeners
            .send(private)
            .await
            .map_err(|_| NotStarted("the host is stopping".to_owned()))?;
        write_runtime_config(&runtime_config, Value::Object(record.entry.whole())).await?;
        let args = record.entry.args.iter().map(OsString::from).collect();
        let memory = MemoryWatch::start();
        let launched = self.spawn_process(&launch, program, args, record, environment).await;
        if launched.is_err() {
            remove_runtime_config(runtime_config.clone()).await;
        }
        let Spawned { process, enclosure, child, ran_through, output, last_words } = launched?;
        let memory = memory.with(&enclosure);
        record.counts.starts.one();
        if self.backoff.restarts() > 0 {
            record.counts.restarts.one();
        }
        self.chronicle.began(&Began {
            id: launch.instance,
            pid: process.pid,
            entry: &record.entry,
            restarts: self.backoff.restarts(),
            mechanism: launch
                .confinement
                .get()
                .and_then(|confinement| serde_json::to_value(confinement).ok()),
        });
        if let Some(interpreter) = ran_through {
            let entrypoint = self.entrypoint();
            let line = format!(
                "`{entrypoint}` lacks the execute bit and runs through `{}`: use `chmod +x {entrypoint}`",
                interpreter.display()
            );
            self.plugin.log_run(launch.instance, LogLevel::Warn, line);
        }
        Ok(Running {
            launch,
            process,
            enclosure,
            child,
            events,
            over,
            memory,
            runtime_config,
            milestone,
            place: Some(place),
            registered_at: None,
            session: None,
            last_session: None,
            probing: None,
            is_silent: false,
            ill: None,
            refused: None,
            output,
            last_words: Some(last_words),
        })
    }

    /// Starts a process under the ledger, and has its output drained.
    async fn spawn_process(
        &self,
        launch: &Launch,
        program: PathBuf,
        args: Vec<OsString>,
        record: &PluginRecord,
        environment: Vec<(OsString, OsString)>,
    ) -> Result<Spawned, NotStarted> {
        let supervision = &self.plugin.supervision;
        let plan = Plan::new(Arc::clone(&supervision.cgroups), launch.instance, record.entry.limits);
        let cgroups = plan.paths();
        let (plugin, instance, paths) = (launch.plugin.clone(), launch.instance, cgroups.clone());
        let recorded = self.in_ledger(move |ledger| ledger.record(&plugin, instance, &paths)).await;
        recorded.map_err(not_started)?;
        let name = program.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let command = LaunchCommand {
            program,
            args,
            folder: record.root.clone(),
            environment,
            instance: launch.instance,
            plan,
        };
        let launched = supervision.spawner.launch(command).await;
        let Launched { process, child, stdout, stderr, ran_through, enclosure, confinement } =
            match launched {
                Ok(launched) => launched,
                Err(error) => {
                    let _ = self.in_ledger(move |ledger| ledger.remove(instance)).await;
                    return Err(not_started(error));
                }
            };
        self.say_confined(launch, &confinement);
        let _ = launch.confinement.set(confinement);
        launch.spawned(process);
        supervision.registry.spawned(&launch.plugin, process);
        let log = supervision.logs.plugin(&launch.plugin);
        // Before its output is read, so that a run begins with this line.
        let started = NewLine::host(LogLevel::Info, format!("`{name}` runs as process {}", process.pid));
        log.append(started.instance(launch.instance).fields(run_started(&name, process.pid)));
        let output = TaskTracker::new();
        output.spawn(output::drain(stdout, LogStream::Stdout, log.clone(), launch.instance));
        let last_words = output.spawn(output::drain(stderr, LogStream::Stderr, log, launch.instance));
        output.close();
        let ledgered = LedgeredProcess { pid: process.pid, start_time: process.start_time };
        let plugin = launch.plugin.clone();
        let completed =
            self.in_ledger(move |ledger| ledger.complete(&plugin, instance, ledgered, &cgroups)).await;
        if let Err(error) = completed {
            // Still covered: its processes carry the instance in their environment.
            warn!(plugin = %launch.plugin, %error, "the ledger could not be completed");
        }
        Ok(Spawned { process, enclosure, child, ran_through, output, last_words })
    }

    /// Changes the ledger on another thread: removing a file can take a busy disk a quarter of a second.
    async fn in_ledger<T: Send + 'static>(
        &self,
        change: impl FnOnce(&Ledger) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        let data = Arc::clone(&self.plugin.supervision.data);
        let changed = tokio::task::spawn_blocking(move || change(data.ledger())).await;
        changed.expect("the runtime outlives its seats, and the ledger does not panic")
    }

    /// Says which limits of its entry do not hold, or not as they are meant.
    fn say_confined(&self, launch: &Launch, confinement: &Confinement) {
        let LimitMeans { memory, cpu, pids, .. } = confinement.limits;
        let is_short = |means| matches!(means, Some(Means::None | Means::Rlimit));
        if [memory, cpu, pids].into_iter().any(is_short) {
            let notes = confinement.notes.join("; ");
            let line = format!("its limits do not hold for the launch as a whole: {notes}");
            self.plugin.log_run(launch.instance, LogLevel::Warn, line);
        }
    }

    fn environment(
        &self,
        launch: &Launch,
        record: &PluginRecord,
        dirs: &PluginDirs,
        cache: &Path,
        bus: Option<(u16, &PathBuf)>,
    ) -> Vec<(OsString, OsString)> {
        let supervision = &self.plugin.supervision;
        let token = launch.token();
        let place = LaunchPlace {
            plugin: &launch.plugin,
            instance: launch.instance,
            entry: &record.entry,
            models_dir: &supervision.config.models_dir,
            data_dir: &dirs.data,
            cache_dir: cache,
            bus: bus.map(|(port, runtime_config)| BusPlace { port, token: &token, runtime_config }),
        };
        launch_environment(supervision.environment.iter().cloned(), &place)
    }

    /// Watches a launch until something ends it.
    async fn watch(&mut self, running: &mut Running) -> Ending {
        let plugin = Arc::clone(&self.plugin);
        let times = &plugin.supervision.config.supervisor;
        let limit =
            if running.milestone.is_none() { times.register_timeout } else { times.prepare_timeout };
        let begun = Instant::now();
        let mut deadline = Some(begun + limit);
        let mut changes = plugin.supervision.registry.changes();
        // A quick plugin has registered before this line.
        changes.mark_changed();
        loop {
            match self.observe(running, &mut changes, begun + STARTS_FOR, deadline).await {
                Seen::Exit(status) => return self.exited(running, status),
                Seen::Word => return Ending::Wanted,
                Seen::Event(LaunchEvent::Unresponsive) => {
                    running.is_silent = true;
                    self.say_health(running);
                }
                Seen::Event(LaunchEvent::Recovered) => {
                    running.is_silent = false;
                    self.say_health(running);
                }
                Seen::Event(LaunchEvent::Ill { reason }) => {
                    running.ill = Some(reason);
                    self.say_health(running);
                }
                Seen::Event(LaunchEvent::Well) => {
                    running.ill = None;
                    self.say_health(running);
                }
                Seen::Event(LaunchEvent::Replace { reason }) => return Ending::Replace(reason),
                Seen::Event(LaunchEvent::Refused { reason }) => {
                    if running.registered_at.is_none() {
                        let refused = format!("its registration was refused: {reason}");
                        if self.team.waits() {
                            self.team.failed(self.serving.generation, &refused);
                        }
                        self.say(State::Starting, Some(refused));
                        // Whatever it had to build is built.
                        let soon = Instant::now() + times.register_timeout;
                        deadline = deadline.map(|deadline| deadline.min(soon));
                    }
                    running.refused = Some(reason);
                }
                Seen::Change => {
                    let session = self.session_of(running);
                    if session.as_ref().map(Arc::as_ptr) == running.session.as_ref().map(Arc::as_ptr) {
                        continue;
                    }
                    let is_lost = session.is_none();
                    deadline = is_lost.then(|| Instant::now() + RECONNECT_WITHIN);
                    running.session = session;
                    running.probing = None;
                    if is_lost {
                        self.team.failed(self.serving.generation, "its session ended");
                        let seconds = RECONNECT_WITHIN.as_secs();
                        let reason = format!("its session ended, and it has {seconds} s to come back");
                        self.say(State::Unresponsive, Some(reason));
                    } else {
                        self.registered(running).await;
                    }
                }
                Seen::Turn => running.place = None,
                Seen::Deadline => {
                    return Ending::Replace(match &running.refused {
                        _ if running.registered_at.is_some() => {
                            let seconds = RECONNECT_WITHIN.as_secs();
                            format!("its session ended and it did not come back within {seconds} s")
                        }
                        Some(refused) => format!("its registration was refused: {refused}"),
                        None => format!("it did not register within {} ms", limit.as_millis()),
                    });
                }
            }
        }
    }

    /// The next thing that happens to a launch.
    async fn observe(
        &mut self,
        running: &mut Running,
        changes: &mut watch::Receiver<u64>,
        turn: Instant,
        deadline: Option<Instant>,
    ) -> Seen {
        let serving = self.serving;
        tokio::select! {
            biased;
            status = running.child.wait() => Seen::Exit(status),
            _ = self.wanted.wait_for(|wanted| wanted.ends(serving)) => Seen::Word,
            Some(event) = running.events.recv() => Seen::Event(event),
            Ok(()) = changes.changed() => Seen::Change,
            () = sleep_until(turn), if running.place.is_some() => Seen::Turn,
            () = sleep_until(deadline.unwrap_or(turn)), if deadline.is_some() => Seen::Deadline,
        }
    }

    /// The session that the launch has at this moment.
    fn session_of(&self, running: &Running) -> Option<Arc<Session>> {
        let record = self.plugin.supervision.registry.plugin(self.plugin.name.as_str())?;
        record.sessions().find(|session| session.id == running.launch.instance).cloned()
    }

    /// Says how a session is, by its beats and by its probe.
    fn say_health(&self, running: &Running) {
        if running.session.is_none() {
            return;
        }
        let ill = match (running.is_silent, &running.ill) {
            (true, _) => "it missed its health beats",
            (false, Some(reason)) => reason,
            (false, None) => return self.say(State::Running, None),
        };
        self.team.failed(self.serving.generation, ill);
        self.say(State::Unresponsive, Some(ill.to_owned()));
    }

    /// Has a session probed for as long as it lasts.
    fn probe(&self, running: &mut Running) {
        let supervision = &self.plugin.supervision;
        let log = supervision.logs.plugin(&self.plugin.name);
        let watch = |session| probe::watch(&supervision.registry, &running.launch, session, log);
        running.probing = running.session.as_ref().map(watch);
    }

    /// A session has begun. Each begins healthy, whatever was said of the one before.
    async fn registered(&self, running: &mut Running) {
        (running.is_silent, running.ill) = (false, None);
        running.last_session.clone_from(&running.session);
        let registration = running.session.as_ref().map(|session| Arc::clone(&session.registration()));
        self.chronicle.registered(
            registration.as_ref().and_then(|registered| registered.register.version.as_deref()),
        );
        self.say(State::Running, None);
        self.probe(running);
        running.registered_at.get_or_insert_with(Instant::now);
        running.place = None;
        self.take_back_secrets(running).await;
        let Some(milestone) = running.milestone.take() else { return };
        let noted = tokio::task::spawn_blocking(move || milestone.reach()).await;
        // Losing this only means that the next start is given the long limit once more.
        if let Err(error) = noted.map_err(std::io::Error::other).flatten() {
            warn!(plugin = %self.plugin.name, %error, "the digest of a folder could not be kept");
        }
    }

    /// Takes the secrets out of the runtime file of a plugin that was given them with `registered`.
    async fn take_back_secrets(&self, running: &Running) {
        let is_told =
            running.session.as_ref().is_some_and(|session| session.contract == Contract::Extended);
        let entry = &running.launch.entry;
        // With what it has just declared itself, which the registry remembers of the version that serves.
        let registration = running.session.as_ref().map(|session| Arc::clone(&session.registration()));
        let declared =
            registration.and_then(|registration| registration.register.config_schema.as_ref()?.read().ok());
        let record = self.record();
        let remembered = record.as_ref().and_then(|record| record.schema.as_deref());
        let schema: Option<&Value> = declared.as_ref().or(remembered);
        if !is_told || entry.secret_places(schema).is_empty() {
            return;
        }
        if let Err(NotStarted(reason)) =
            write_runtime_config(&running.runtime_config, entry.shown(schema)).await
        {
            warn!(plugin = %self.plugin.name, reason, "secrets stay in a runtime configuration");
        }
    }

    fn exited(&self, running: &Running, status: std::io::Result<ExitStatus>) -> Ending {
        match status {
            Ok(status) => Ending::Exited(ExitCause::of(status, &running.memory)),
            Err(error) => Ending::Replace(format!("its process cannot be awaited: {error}")),
        }
    }

    /// Drains, asks, kills, until nothing is left.
    async fn stop(&self, running: Running) -> Cleared {
        self.say(State::Draining, None);
        let supervision = &self.plugin.supervision;
        let within = self.team.drain().unwrap_or(supervision.config.supervisor.drain);
        running.launch.retire();
        let instances = supervision.registry.retire(&self.plugin.name, running.launch.instance);
        for instance in &instances {
            // A mailbox that refuses belongs to a session that has ended.
            let _ = instance.mailbox.post(Order::Drain { within });
        }
        if !self.drained(&instances, within).await {
            let unfinished = instances.iter().filter(|instance| !instance.is_over());
            let cut = unfinished.map(|instance| instance.in_flight()).sum();
            self.team.cuts(cut);
            let line = match cut {
                0 => format!("it did not drain within {} ms", within.as_millis()),
                cut => format!(
                    "it did not drain within {} ms: {cut} of its requests are cut",
                    within.as_millis()
                ),
            };
            self.plugin.log_run(running.launch.instance, LogLevel::Warn, line);
        }
        self.clear(running, supervision.config.supervisor.grace).await
    }

    /// Waits until sessions have ended; answers whether they did in time. Who has nothing more to answer,
    /// and stays all the same, is not waited for longer than at any stop.
    async fn drained(&self, sessions: &[Arc<Session>], within: Duration) -> bool {
        let supervision = &self.plugin.supervision;
        let usual = supervision.config.supervisor.drain.min(within);
        let over =
            supervision.registry.until(|_| sessions.iter().all(|session| session.is_over()).then_some(()));
        let late = async {
            let mut deadline = Instant::now() + within;
            let mut idle_since = Instant::now();
            let mut is_hurried = false;
            loop {
                let has_work = |session: &Arc<Session>| !session.is_over() && session.in_flight() > 0;
                if sessions.iter().any(has_work) {
                    idle_since = Instant::now();
                }
                if Instant::now() >= deadline.min(idle_since + usual) {
                    return;
                }
                tokio::select! {
                    () = self.team.hurried(), if !is_hurried => {
                        is_hurried = true;
                        deadline = deadline.min(Instant::now() + usual);
                    }
                    () = sleep_until(deadline.min(Instant::now() + LOOKS_EVERY)) => {}
                }
            }
        };
        tokio::select! {
            biased;
            () = over => true,
            () = late => false,
        }
    }

    /// Ends everything of a launch. Without any grace its sessions end first: nobody waits for the
    /// goodbyes of a process that is gone, and its callers get their answer at once. Who has no
    /// session when it is asked to leave shall not begin one.
    async fn clear(&self, running: Running, grace: Duration) -> Cleared {
        let Running {
            launch,
            process,
            enclosure,
            mut child,
            over,
            memory,
            runtime_config,
            session,
            output,
            ..
        } = running;
        let over = over.disarm();
        if grace.is_zero() || session.is_none() {
            over.cancel();
        }
        let cleared = self.end_processes(&launch, &process, &enclosure, grace).await;
        over.cancel();
        let exit = if cleared.is_ok() { exit_of(&mut child, &output, &memory).await } else { None };
        remove_runtime_config(runtime_config).await;
        cleared.map(|found| Ended { found, exit })
    }

    /// Ends the processes of a launch, and answers how many there were. It tries for as long as it takes.
    /// Only a host that stops leaves some behind, and in its ledger: the next one looks for them.
    async fn end_processes(
        &self,
        launch: &Launch,
        process: &LaunchProcess,
        enclosure: &Arc<Enclosure>,
        grace: Duration,
    ) -> Result<usize, String> {
        let mut earlier = None;
        loop {
            let problem = match stop_enclosed(process, enclosure, grace).await {
                Ok(report) if report.is_empty() => {
                    self.plugin.supervision.registry.cleared(launch.instance);
                    let instance = launch.instance;
                    if let Err(error) = self.in_ledger(move |ledger| ledger.remove(instance)).await {
                        warn!(plugin = %launch.plugin, %error, "the ledger could not be cleared");
                    }
                    return Ok(report.asked.len().max(report.killed.len()));
                }
                Ok(report) => cannot_be_killed(&report),
                Err(error) => format!("its processes cannot be listed: {error}"),
            };
            if earlier.as_ref() != Some(&problem) {
                self.plugin.log_run(launch.instance, LogLevel::Error, problem.clone());
                self.say(State::Draining, Some(problem.clone()));
            }
            if self.stop.run_until_cancelled(sleep(TRY_AGAIN_AFTER)).await.is_none() {
                return Err(problem);
            }
            earlier = Some(problem);
        }
    }

    fn say(&self, state: State, reason: Option<String>) {
        // While it waits, the restart that it waits for has not happened yet.
        let pending = u32::from(state == State::Backoff);
        let restarts = self.backoff.restarts() - pending;
        let shown = self.plugin.set_status(self.team.id, self.number, state, reason, restarts);
        self.chronicle.entered(state, shown);
    }

    fn entrypoint(&self) -> String {
        self.record().map(|record| record.entry.entrypoint.display().to_string()).unwrap_or_default()
    }

    fn policy(&self) -> RestartPolicy {
        self.record().map(|record| record.entry.restart).unwrap_or_default()
    }

    /// The plugin's record, with what this version is started with.
    fn record(&self) -> Option<Arc<PluginRecord>> {
        let record = self.plugin.supervision.registry.plugin(self.plugin.name.as_str())?;
        Some(self.team.record_of(record))
    }
}

/// A milestone of the plugin's folder as it is now, and whether it was reached. It is kept beside
/// what was built, so that deleting the cache forgets both, and a new data directory neither.
async fn milestone(
    record: &PluginRecord,
    cache: &Path,
    name: &'static str,
    only: Vec<String>,
) -> Result<(Milestone, bool), NotStarted> {
    let (root, cache) = (record.root.clone(), cache.to_owned());
    let look = move || {
        let milestone = Milestone::of(&root, &cache, name, &only)?;
        let reached = milestone.is_reached();
        Ok::<_, std::io::Error>((milestone, reached))
    };
    let looked = tokio::task::spawn_blocking(look).await.map_err(not_started)?;
    looked.map_err(|error| {
        NotStarted(format!("its folder `{}` cannot be read: {error}", record.root.display()))
    })
}

/// Where builds and virtual environments of a folder live: they outlive data directories, and two
/// folders of one name do not share them.
fn cache_dir(cache: &Path, record: &PluginRecord) -> PathBuf {
    let digest = Sha256::digest(record.root.as_os_str().as_encoded_bytes());
    let folder: String = digest[..6].iter().map(|byte| format!("{byte:02x}")).collect();
    cache.join("plugins").join(format!("{}-{folder}", record.entry.name))
}

/// The whole effective entry, for the plugin's eyes only.
async fn write_runtime_config(path: &Path, entry: Value) -> Result<(), NotStarted> {
    let path = path.to_owned();
    let write = move || {
        let text = serde_json::to_vec_pretty(&entry).map_err(std::io::Error::other)?;
        // No process outlives a power cut, so its configuration need not.
        replace(&path, &text, 0o600)
    };
    tokio::task::spawn_blocking(write)
        .await
        .map_err(not_started)?
        .map_err(|error| NotStarted(format!("its runtime configuration cannot be written: {error}")))
}

/// Nobody misses one that cannot be removed: the next host does it.
async fn remove_runtime_config(path: PathBuf) {
    let _ = tokio::task::spawn_blocking(move || std::fs::remove_file(path)).await;
}

/// Names the processes that outlived SIGKILL: each is in a system call that cannot be interrupted.
fn cannot_be_killed(report: &StopReport) -> String {
    if report.survivors.is_empty() {
        return "one of its cgroups is not empty, though no process can be seen in it".to_owned();
    }
    let pids: Vec<_> = report.survivors.iter().take(8).map(|survivor| survivor.pid.to_string()).collect();
    let more = report.survivors.len() - pids.len();
    let more = if more == 0 { String::new() } else { format!(" and {more} more") };
    format!(
        "{} of its processes cannot be killed ({}{more}): they wait in the kernel, as a rule for a disk",
        report.survivors.len(),
        pids.join(", ")
    )
}

/// What the last session of a launch had not been answered when it ended.
async fn lost_requests(session: Option<Arc<Session>>) -> Vec<OpenRequest> {
    let Some(session) = session else { return Vec::new() };
    // It ends with its process; the task that ends it may have its turn in a moment.
    let _ = timeout(LAST_WORDS_WITHIN, session.ended()).await;
    session.lost()
}

/// What a launch said last on standard error, the oldest line first.
async fn heard(last_words: Option<JoinHandle<Vec<String>>>) -> Vec<String> {
    let Some(last_words) = last_words else { return Vec::new() };
    timeout(LAST_WORDS_WITHIN, last_words).await.ok().and_then(Result::ok).unwrap_or_default()
}

/// How a process that is gone has ended, once what it wrote is in the log.
async fn exit_of(child: &mut Child, output: &TaskTracker, memory: &MemoryWatch) -> Option<ExitCause> {
    let status = child.wait().await;
    // Longer only where somebody else holds its pipes, who is no process of it.
    let _ = timeout(LAST_WORDS_WITHIN, output.wait()).await;
    status.ok().map(|status| ExitCause::of(status, memory))
}
