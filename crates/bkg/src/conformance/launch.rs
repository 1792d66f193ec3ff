//! One start of the plugin, made as the supervisor makes it, or the plugin that somebody started by hand.
//!
//! It starts, accepts, waits and ends; what comes over the socket is `session`'s. The invariant: what was
//! started is known to the kit from its first moment, which ends what a scene did not.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use bkg_protocol::InstanceId;
use bkg_protocol::message::Secret;
use serde_json::{Map, Value, json};
use tokio::net::{TcpListener, TcpStream};
use tokio::process::Child;
use tokio::time::{Instant, timeout};
use tokio_util::task::TaskTracker;

use super::judge::{Expected, Heard, SizeLimits};
use super::kit::{Kit, KitError, private_listener};
use super::output::Output;
use super::rule::{Level, Rule};
use super::session::{Session, Waited};
use super::target::{Folder, NAMELESS, Place};
use super::upgrade::{NoSession, upgrade};
use crate::registry::process_table::{LaunchProcess, ProcessEntry, ProcessRef, ProcessTable};
use crate::supervisor::confine::Plan;
use crate::supervisor::environment::{BusPlace, LaunchPlace, launch_environment};
use crate::supervisor::exit::{ExitCause, MemoryWatch};
use crate::supervisor::processes::{StopReport, stop_launch};
use crate::supervisor::spawn::{LaunchCommand, LaunchError, Launched};

/// How often an extended plugin is told to beat: often, so that a check is quick.
const HEARTBEAT: Duration = Duration::from_millis(200);
/// What an extended plugin is told to keep to: less than the host's defaults, so that it shows whether
/// it reads them, and more than a well-behaved plugin sends by itself.
pub(super) const SMALL: SizeLimits = SizeLimits { frame: 1 << 20, chunk: 64 << 10 };
/// What the host takes from a plugin that is told nothing.
const USUAL: SizeLimits = SizeLimits { frame: 16 << 20, chunk: 256 << 10 };
/// How many chunks a stream may send at first that is asked for without saying.
const STREAM_CREDIT: u32 = 8;
/// How long after connecting the first frame must have come.
pub(super) const REGISTER_WITHIN: Duration = Duration::from_secs(5);
/// From SIGTERM to SIGKILL, as the host has it by default.
pub(super) const GRACE: Duration = Duration::from_secs(5);
/// How long the last line of a process that is gone may take to be read.
const LAST_WORDS_WITHIN: Duration = Duration::from_secs(1);
/// One start of the plugin.
pub(super) struct Launch<'k> {
    kit: &'k Kit<'k>,
    listener: Arc<TcpListener>,
    instance: InstanceId,
    token: Secret,
    process: Option<Process>,
    output: Arc<Output>,
    /// Done when everything that it wrote has been read.
    drains: TaskTracker,
    /// The secret that the last `registered` gave.
    pub(super) resume: Option<String>,
    /// The revision of the settings that it was told last.
    pub(super) revision: u64,
    /// How many connections it made.
    pub(super) dials: u32,
}

struct Process {
    launched: LaunchProcess,
    child: Child,
    memory: MemoryWatch,
    exit: Option<ExitCause>,
}

/// What came of waiting for a plugin to dial.
pub(super) enum Dialled<'k> {
    Session(Box<Session<'k>>),
    Exited(ExitCause),
    Late,
}

/// Why a plugin was not started.
#[derive(Debug)]
pub(super) enum NoLaunch {
    Kit(KitError),
    /// The plugin's own fault, in one sentence.
    Plugin(String),
}

impl From<KitError> for NoLaunch {
    fn from(error: KitError) -> Self {
        Self::Kit(error)
    }
}

impl<'k> Launch<'k> {
    /// Starts the plugin, or gets ready for the one that somebody starts.
    pub(super) async fn start(kit: &'k Kit<'k>) -> Result<Self, NoLaunch> {
        let directory = kit.launch_directory()?;
        let listener = match &kit.by_hand {
            Some(listener) => Arc::clone(listener),
            None => Arc::new(private_listener().await?),
        };
        let mut launch = Self {
            kit,
            listener,
            instance: InstanceId::new(),
            token: Secret::new(InstanceId::new().to_string()),
            process: None,
            output: Output::new(Arc::clone(&kit.notebook)),
            drains: TaskTracker::new(),
            resume: None,
            revision: 0,
            dials: 0,
        };
        match &kit.target.place {
            Place::Folder(folder) => {
                let program = folder
                    .entry
                    .real_entrypoint(&folder.root)
                    .map_err(|error| NoLaunch::Plugin(error.to_string()))?;
                let runtime_config = directory.join("config.runtime.json");
                kit.write(&runtime_config, &entry_text(&Value::Object(folder.entry.whole())))?;
                let args = folder.entry.args.iter().map(OsString::from).collect();
                let environment = launch.environment(folder, &directory, Some(&runtime_config));
                launch.spawn(folder, program, args, environment).await?;
            }
            Place::Address(_, settings) => launch.explain(&directory, settings)?,
        }
        Ok(launch)
    }

    /// Says with which environment the plugin is to be started by hand.
    fn explain(&self, directory: &Path, settings: &Map<String, Value>) -> Result<(), KitError> {
        let runtime_config = directory.join("config.runtime.json");
        self.kit.write(&runtime_config, &entry_text(&json!({ "name": NAMELESS, "settings": settings })))?;
        let address = self
            .listener
            .local_addr()
            .map_err(|source| KitError::Place { path: runtime_config.clone(), source })?;
        let data = directory.join("data");
        let variables = [
            ("BKG_PLUGIN_BUS_URL", format!("ws://{address}/")),
            ("BKG_PLUGIN_BUS_PORT", address.port().to_string()),
            ("BKG_PLUGIN_NAME", NAMELESS.to_owned()),
            ("BKG_PLUGIN_INSTANCE", self.instance.to_string()),
            ("BKG_PLUGIN_TOKEN", self.token.reveal().to_owned()),
            ("BKG_PLUGIN_CONFIG_PATH", runtime_config.display().to_string()),
            ("BKG_PLUGIN_DATA_DIR", data.display().to_string()),
            ("BKG_DATABASE_PATH", data.join(format!("{NAMELESS}.db")).display().to_string()),
            ("BKG_PLUGIN_CACHE_DIR", self.kit.cache().display().to_string()),
            ("PLUGIN_PORT", "0".to_owned()),
        ];
        let lines = variables.map(|(name, value)| format!("export {name}={value}")).join("\n");
        self.kit.progress.say(&format!("start the plugin with this environment:\n{lines}"));
        Ok(())
    }

    /// Runs `prepare.sh` where there is one; it has no bus.
    pub(super) async fn prepare(kit: &'k Kit<'k>, within: Duration) -> Result<(), NoLaunch> {
        let Place::Folder(folder) = &kit.target.place else {
            kit.notebook.not_applicable(Rule::Prepares, "the plugin was started by hand");
            return Ok(());
        };
        let script = folder.root.join("prepare.sh");
        if !script.is_file() {
            kit.notebook.not_applicable(Rule::Prepares, "there is no `prepare.sh`");
            return Ok(());
        }
        kit.progress.say("`prepare.sh` runs");
        let directory = kit.launch_directory()?;
        let mut launch = Self {
            kit,
            listener: Arc::new(private_listener().await?),
            instance: InstanceId::new(),
            token: Secret::new(String::new()),
            process: None,
            output: Output::new(Arc::clone(&kit.notebook)),
            drains: TaskTracker::new(),
            resume: None,
            revision: 0,
            dials: 0,
        };
        let environment = launch.environment(folder, &directory, None);
        launch.spawn(folder, script, Vec::new(), environment).await?;
        let exit = launch.exited(within).await;
        launch.end().await?;
        let came = match exit {
            Some(cause) if cause.is_success() => {
                kit.notebook.passed(Rule::Prepares);
                return Ok(());
            }
            Some(cause) => format!("it {cause}"),
            None => format!("it ran for {} s and was ended", within.as_secs()),
        };
        let came = format!("{came}{}", launch.last_words().await);
        kit.notebook.broken(Rule::Prepares, "`prepare.sh` ends with code 0", came);
        Err(NoLaunch::Plugin("`prepare.sh` failed".to_owned()))
    }

    fn environment(
        &self,
        folder: &Folder,
        directory: &Path,
        runtime_config: Option<&PathBuf>,
    ) -> Vec<(OsString, OsString)> {
        let cache = self.kit.cache();
        let models = std::env::var_os("BKG_MODELS_DIR").map_or_else(|| cache.join("models"), PathBuf::from);
        let port = self.listener.local_addr().map_or(0, |address| address.port());
        let place = LaunchPlace {
            plugin: &folder.entry.name,
            instance: self.instance,
            entry: &folder.entry,
            models_dir: &models,
            data_dir: &directory.join("data"),
            cache_dir: &cache,
            bus: runtime_config.map(|runtime_config| BusPlace { port, token: &self.token, runtime_config }),
        };
        launch_environment(std::env::vars_os(), &place)
    }

    async fn spawn(
        &mut self,
        folder: &Folder,
        program: PathBuf,
        args: Vec<OsString>,
        environment: Vec<(OsString, OsString)>,
    ) -> Result<(), NoLaunch> {
        let command = LaunchCommand {
            program,
            args,
            folder: folder.root.clone(),
            environment,
            instance: self.instance,
            plan: Plan::unconfined(self.instance),
        };
        let memory = MemoryWatch::start();
        let spawner = self.kit.spawner().expect("a folder is started by a spawner");
        let Launched { process, child, stdout, stderr, ran_through, .. } =
            spawner.launch(command).await.map_err(|error| match error {
                LaunchError::Refused { .. } | LaunchError::TooSlow(_) | LaunchError::Stopping(_) => {
                    NoLaunch::Kit(KitError::Launch(error))
                }
                error => NoLaunch::Plugin(error.to_string()),
            })?;
        self.kit.runs(process);
        if let Some(interpreter) = ran_through {
            let remark = format!(
                "`{}` lacks the execute bit and runs through `{}`",
                folder.entry.entrypoint.display(),
                interpreter.display()
            );
            self.kit.notebook.remark(Rule::DialsInTime, remark);
        }
        // They end with the pipes, which nothing of the launch outlives.
        self.drains.spawn(Arc::clone(&self.output).drain(stdout));
        self.drains.spawn(Arc::clone(&self.output).drain(stderr));
        self.drains.close();
        self.process = Some(Process { launched: process, child, memory, exit: None });
        Ok(())
    }

    /// The next connection of the plugin, upgraded to a session.
    pub(super) async fn dialled(&mut self, within: Duration) -> Dialled<'k> {
        let deadline = Instant::now() + within;
        loop {
            let accepted = tokio::select! {
                biased;
                accepted = self.listener.accept() => accepted,
                cause = exit_of(&mut self.process) => return Dialled::Exited(cause),
                () = tokio::time::sleep_until(deadline) => return Dialled::Late,
            };
            let Ok((socket, _)) = accepted else { continue };
            self.dials += 1;
            if let Some(session) = self.upgrade(socket).await {
                return Dialled::Session(Box::new(session));
            }
        }
    }

    async fn upgrade(&self, socket: TcpStream) -> Option<Session<'k>> {
        // Whoever starts a plugin by hand may give it what they like.
        let token = self.process.as_ref().map(|_| self.token.reveal().to_owned());
        let socket = upgrade(socket, token.as_deref(), &self.kit.notebook).await?;
        let expected = Expected {
            name: self.kit.target.entry().map(|entry| entry.name.clone()),
            grants: self.kit.target.grants(),
            token,
            limits: USUAL,
        };
        let heard = Heard::new(Arc::clone(&self.kit.notebook), Arc::clone(&self.output), expected);
        Session::new(socket, heard).ok()
    }

    /// Waits for a session whose `register` has come; answers why there is none.
    pub(super) async fn registering(&mut self, within: Duration) -> Result<Session<'k>, NoSession> {
        let mut session = match self.dialled(within).await {
            Dialled::Session(session) => *session,
            Dialled::Exited(cause) => {
                let last_words = self.last_words().await;
                return Err(NoSession::NotDialled(format!("it {cause} before it dialled{last_words}")));
            }
            Dialled::Late => {
                let came = format!("it did not dial within {} s", within.as_secs());
                return Err(NoSession::NotDialled(came));
            }
        };
        match session.until(REGISTER_WITHIN, |heard| heard.register.is_some()).await {
            Waited::Reached => Ok(session),
            Waited::Late => {
                let came = format!("no `register` within {} s", REGISTER_WITHIN.as_secs());
                Err(NoSession::NotRegistered(came))
            }
            Waited::Gone => Err(NoSession::NotRegistered(format!("no `register`: {}", session.fate()))),
        }
    }

    /// Answers a `register`, where the contract has an answer.
    pub(super) async fn welcome(&mut self, session: &mut Session<'k>) {
        session.heard.is_welcomed = true;
        if session.heard.contract() != Some(Level::Extended) {
            return;
        }
        session.heard.expected.limits = SMALL;
        let resume = InstanceId::new().to_string();
        let registered = json!({
            "type": "registered",
            "protocol": bkg_protocol::PROTOCOL_VERSION,
            "instance": self.instance,
            "resume": resume,
            "heartbeatMs": HEARTBEAT.as_millis() as u64,
            "limits": { "maxFrameBytes": SMALL.frame, "maxChunkBytes": SMALL.chunk, "streamCredit": STREAM_CREDIT },
            "config": self.kit.target.settings(),
            "configRevision": self.revision,
        });
        self.resume = Some(resume);
        session.send_json(&registered).await;
    }

    /// How the first process ended, if it does in time.
    pub(super) async fn exited(&mut self, within: Duration) -> Option<ExitCause> {
        timeout(within, exit_of(&mut self.process)).await.ok()
    }

    /// What it wrote last, once nobody can write any more.
    async fn last_words(&self) -> String {
        // Longer only where somebody else holds its pipes.
        let _ = timeout(LAST_WORDS_WITHIN, self.drains.wait()).await;
        self.output.last_words()
    }

    /// The processes in the group of its first one.
    pub(super) async fn members(&self) -> Result<Vec<ProcessRef>, KitError> {
        let Some(process) = &self.process else { return Ok(Vec::new()) };
        let group = process.launched.process_group();
        // Listing `/proc` blocks.
        let table = tokio::task::spawn_blocking(ProcessTable::read);
        let table = table.await.expect("reading the process table does not panic")?;
        let members = table.entries().iter().filter(|entry| entry.process_group == group);
        Ok(members.map(ProcessEntry::reference).collect())
    }

    /// Ends it as the host does: SIGTERM, a grace, SIGKILL. Nobody can end what was started by hand.
    pub(super) async fn stop(&mut self, grace: Duration) -> Result<Option<StopReport>, KitError> {
        let Some(process) = &mut self.process else { return Ok(None) };
        let launched = process.launched;
        let report = stop_launch(&launched, grace).await?;
        if !report.is_empty() {
            return Err(KitError::Undying(report.survivors.len()));
        }
        let _ = process.child.wait().await;
        self.kit.is_gone(launched);
        Ok(Some(report))
    }

    /// Ends it at once, whatever is left of it.
    pub(super) async fn end(&mut self) -> Result<(), KitError> {
        self.stop(Duration::ZERO).await.map(drop)
    }
}

/// Completes when the first process has ended, again and again; never, where there is none.
async fn exit_of(process: &mut Option<Process>) -> ExitCause {
    let Some(process) = process else { return std::future::pending().await };
    if let Some(exit) = process.exit {
        return exit;
    }
    match process.child.wait().await {
        Ok(status) => {
            let cause = ExitCause::of(status, &process.memory);
            process.exit = Some(cause);
            cause
        }
        // Its end cannot be seen; whoever waits has a deadline.
        Err(_) => std::future::pending().await,
    }
}

fn entry_text(entry: &Value) -> Vec<u8> {
    serde_json::to_vec_pretty(entry).expect("an entry has a JSON form")
}
