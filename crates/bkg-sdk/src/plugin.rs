//! What a plugin is, and how it runs: its capabilities, its settings, what else it registers.
//!
//! The builder of this file is the way into the SDK. Mistakes in it (a name that no capability can
//! have, two handlers for one) come out when it runs, as a [`DefinitionError`].

use std::collections::HashMap;
use std::fmt;
use std::io::Write;
use std::path::PathBuf;
use std::pin::Pin;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use bkg_protocol::message::{self, Model, Register, Route, Tool, UiSlot};
use bkg_protocol::{CapabilityName, ErrorCode, RawJson, WireError};
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tokio_util::task::{AbortOnDropHandle, TaskTracker};
use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::SubscriberExt;

use crate::capability::{Capability, Handlers};
use crate::config::{Apply, Configuration, Settings};
use crate::environment::Environment;
use crate::error::{DefinitionError, Result, RunError};
use crate::host::Host;
use crate::json::IntoJson;
use crate::log::{LogLayer, Logs};
use crate::reconnect::{Dial, TcpDialler, keep_registered};
use crate::request::{Owed, Request};
use crate::session::{Session, Ticket};
use crate::stream::ChunkSink;

/// How long a plugin tries to get a session before it ends. The host restarts what it launched.
const PATIENCE: Duration = Duration::from_secs(30);
/// How long tasks may take to notice that the plugin is over.
const TASKS_END_WITHIN: Duration = Duration::from_secs(1);

type Background = Box<dyn FnOnce(Host) -> Pin<Box<dyn Future<Output = ()> + Send>> + Send>;

/// A plugin, to be built and run.
///
/// ```no_run
/// use bkg_sdk::{Capability, ChunkSink, Plugin, Request, Result};
/// use serde_json::{Value, json};
///
/// async fn shout(request: Request) -> Result<Value> {
///     Ok(json!(request.read::<String>()?.to_uppercase()))
/// }
///
/// async fn spell(request: Request, chunks: ChunkSink) -> Result<()> {
///     for letter in request.read::<String>()?.chars() {
///         chunks.send(json!(letter)).await?;
///     }
///     Ok(())
/// }
///
/// fn main() -> std::process::ExitCode {
///     Plugin::new()
///         .version(env!("CARGO_PKG_VERSION"))
///         .answer("speaker.shout", shout)
///         .capability(Capability::new("speaker.spell").idempotent().stream(spell))
///         .route("POST", "/shout", "speaker.shout")
///         .run()
/// }
/// ```
#[must_use = "a plugin does nothing until `run` or `serve`"]
#[derive(Default)]
pub struct Plugin {
    capabilities: Vec<message::Capability>,
    handlers: HashMap<CapabilityName, Arc<Handlers>>,
    /// The first mistake in the description.
    mistake: Option<DefinitionError>,
    version: Option<String>,
    meta: Map<String, Value>,
    config_schema: Option<RawJson>,
    models: Vec<Model>,
    routes: Vec<Route>,
    tools: Vec<Tool>,
    channels: Vec<String>,
    ui: Vec<UiSlot>,
    apply: Option<Apply>,
    background: Vec<Background>,
    patience: Option<Duration>,
    logs: Arc<Logs>,
}

impl Plugin {
    /// A plugin that offers nothing yet. Its name comes from the host.
    pub fn new() -> Self {
        Self::default()
    }

    /// Answers a capability with one value: short for [`Plugin::capability`].
    pub fn answer<H, F, A>(self, capability: &str, handler: H) -> Self
    where
        H: Fn(Request) -> F + Send + Sync + 'static,
        F: Future<Output = Result<A>> + Send + 'static,
        A: IntoJson,
    {
        self.capability(Capability::new(capability).answer(handler))
    }

    /// Answers a capability in chunks: short for [`Plugin::capability`].
    pub fn stream<H, F, A>(self, capability: &str, handler: H) -> Self
    where
        H: Fn(Request, ChunkSink) -> F + Send + Sync + 'static,
        F: Future<Output = Result<A>> + Send + 'static,
        A: IntoJson,
    {
        self.capability(Capability::new(capability).stream(handler))
    }

    /// Answers a capability.
    pub fn capability(mut self, capability: Capability) -> Self {
        match capability.into_parts() {
            Ok((described, handlers, routes)) => {
                if self.handlers.insert(described.id.clone(), Arc::new(handlers)).is_some() {
                    self.mistake.get_or_insert(DefinitionError::Twice(described.id.to_string()));
                }
                self.capabilities.push(described);
                self.routes.extend(routes);
            }
            Err(mistake) => {
                self.mistake.get_or_insert(mistake);
            }
        }
        self
    }

    /// Offers a model that a capability answers for.
    pub fn model(self, id: &str, capability: &str) -> Self {
        self.with_name(capability, |plugin, capability| {
            let id = id.to_owned();
            let model = Model { id, capability, owned_by: None, context_length: None, dimensions: None };
            plugin.models.push(model);
        })
    }

    /// Offers models with all that is known of them.
    pub fn models(mut self, models: impl IntoIterator<Item = Model>) -> Self {
        self.models.extend(models);
        self
    }

    /// Binds an HTTP route below `/api/plugins/<name>` to a capability. `{name}` in the path stands for
    /// one segment, `{*name}` at its end for all that is left. See also [`Capability::route`].
    pub fn route(self, method: &str, path: &str, capability: &str) -> Self {
        self.with_name(capability, |plugin, capability| {
            let (method, path) = (method.to_owned(), path.to_owned());
            plugin.routes.push(Route { method, path, capability, streaming: false });
        })
    }

    /// Binds an HTTP route whose answer is streamed to a capability; see [`Plugin::route`].
    pub fn streaming_route(self, method: &str, path: &str, capability: &str) -> Self {
        self.with_name(capability, |plugin, capability| {
            let (method, path) = (method.to_owned(), path.to_owned());
            plugin.routes.push(Route { method, path, capability, streaming: true });
        })
    }

    /// Offers a function to language models. The host keeps it, and does not act upon it yet.
    pub fn tool(mut self, tool: Tool) -> Self {
        self.tools.push(tool);
        self
    }

    /// Names a real-time channel. The host keeps it, and does not act upon it yet.
    pub fn channel(mut self, name: &str) -> Self {
        self.channels.push(name.to_owned());
        self
    }

    /// Adds a page or panel to the control centre. The host keeps it, and does not act upon it yet.
    pub fn ui(mut self, slot: UiSlot) -> Self {
        self.ui.push(slot);
        self
    }

    fn with_name(mut self, capability: &str, then: impl FnOnce(&mut Self, CapabilityName)) -> Self {
        match capability.parse() {
            Ok(name) => then(&mut self, name),
            Err(problem) => {
                self.mistake.get_or_insert(DefinitionError::Name(problem));
            }
        }
        self
    }

    /// The plugin's own version, mostly `env!("CARGO_PKG_VERSION")`.
    pub fn version(mut self, version: &str) -> Self {
        self.version = Some(version.to_owned());
        self
    }

    /// A fact about the plugin for whoever looks at its registration.
    pub fn meta(mut self, name: &str, value: impl Into<Value>) -> Self {
        self.meta.insert(name.to_owned(), value.into());
        self
    }

    /// The JSON Schema of the settings, where the plugin's `plugin.json` does not carry it.
    pub fn config_schema(mut self, schema: impl IntoJson) -> Self {
        self.config_schema = Some(schema.into_json());
        self
    }

    /// Takes settings, and new ones without a restart when an operator saves them. Keep a clone to read
    /// them. With [`Settings::check`] the host asks the plugin before it saves any.
    pub fn settings<T: DeserializeOwned + Send + Sync + 'static>(mut self, settings: &Settings<T>) -> Self {
        self.apply = Some(settings.apply());
        let plugin = self.meta("hotConfig", true);
        if settings.has_check() { plugin.meta("configDryRun", true) } else { plugin }
    }

    /// Takes part in backups of the host: short for the capability `lifecycle.backup`, which the plugin's
    /// entry must list.
    ///
    /// The handler writes a copy of all that the plugin keeps below the directory that it is given, whole
    /// and as of one moment; the files that it leaves there go into the backup. Only the host asks for it.
    ///
    /// ```
    /// use bkg_sdk::Plugin;
    ///
    /// let plugin = Plugin::new().backup(|directory| async move {
    ///     std::fs::copy("notes.txt", directory.join("notes.txt"))?;
    ///     Ok(())
    /// });
    /// ```
    pub fn backup<H, F>(self, handler: H) -> Self
    where
        H: Fn(PathBuf) -> F + Send + Sync + 'static,
        F: Future<Output = std::io::Result<()>> + Send + 'static,
    {
        self.capability(crate::backup::capability(handler))
    }

    /// Work of the plugin's own beside its handlers. It starts with the plugin; when
    /// [`Host::stopping`] says so it has a second to end, then it is dropped.
    ///
    /// ```
    /// use std::time::Duration;
    /// use bkg_sdk::{Host, Plugin};
    ///
    /// async fn tick(host: Host) {
    ///     while host.stopping().run_until_cancelled(tokio::time::sleep(Duration::from_secs(1))).await.is_some() {
    ///         host.publish("clock.tick", ());
    ///     }
    /// }
    ///
    /// let plugin = Plugin::new().background(tick);
    /// ```
    pub fn background<W, F>(mut self, work: W) -> Self
    where
        W: FnOnce(Host) -> F + Send + 'static,
        F: Future<Output = ()> + Send + 'static,
    {
        self.background.push(Box::new(move |host| Box::pin(work(host))));
        self
    }

    /// How long the plugin tries to get a session with a host that is away before it ends; 30 s unless
    /// said. A plugin that nobody launches again wants more.
    pub fn patience(mut self, patience: Duration) -> Self {
        self.patience = Some(patience);
        self
    }

    /// A layer that sends `tracing` events to the host as log lines; [`Plugin::run`] sets one up.
    pub fn log_layer(&self) -> LogLayer {
        LogLayer::new(self.logs.clone())
    }

    /// Runs the plugin in this process until the host or a signal ends it: reads the environment, sets
    /// up a single-threaded runtime and sends `tracing` events of `info` and above to the host
    /// (`RUST_LOG` chooses others). The exit code says why it ended: see [`RunError::exit_code`].
    ///
    /// One thread is the fast choice for a plugin that waits more than it computes, since a wake-up
    /// across threads costs more than a whole request. Compute in `tokio::task::spawn_blocking`, or use
    /// [`Plugin::serve`] on a runtime of your own.
    pub fn run(self) -> ExitCode {
        match self.run_here() {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => {
                // The host reads what a launch writes; there may be no session to log to.
                let _ = writeln!(std::io::stderr(), "error: {error}");
                ExitCode::from(error.exit_code())
            }
        }
    }

    fn run_here(self) -> Result<(), RunError> {
        let environment = Environment::of_process()?;
        let wanted: Targets = std::env::var("RUST_LOG")
            .ok()
            .and_then(|text| text.parse().ok())
            .unwrap_or_else(|| Targets::new().with_default(tracing::Level::INFO));
        let subscriber = tracing_subscriber::registry().with(wanted).with(self.log_layer());
        // A program that has set up its own keeps it.
        let _ = tracing::subscriber::set_global_default(subscriber);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let outcome = runtime.block_on(async {
            let signal = stop_signal()?;
            self.serve(environment, signal).await
        });
        // A blocking task that does not end must not keep the process.
        runtime.shutdown_timeout(TASKS_END_WITHIN);
        outcome
    }

    /// Runs the plugin on the current Tokio runtime until the host ends it or `shutdown` completes;
    /// then work in hand has 5 s to finish.
    ///
    /// # Errors
    /// Why it could not go on.
    pub async fn serve(
        self,
        environment: Environment,
        shutdown: impl Future<Output = ()>,
    ) -> Result<(), RunError> {
        let dialler = TcpDialler::new(&environment.bus_url)?;
        self.serve_over(dialler, environment, shutdown).await
    }

    pub(crate) async fn serve_over(
        self,
        dialler: impl Dial,
        environment: Environment,
        shutdown: impl Future<Output = ()>,
    ) -> Result<(), RunError> {
        let patience = self.patience.unwrap_or(PATIENCE);
        let running = Arc::new(self.start(environment)?);
        let stop = CancellationToken::new();
        // A task of its own even here: waking the future that a runtime blocks on costs a system call,
        // waking a task does not.
        let mut session = AbortOnDropHandle::new(tokio::spawn(keep_registered(
            dialler,
            running.clone(),
            patience,
            stop.clone(),
        )));
        let ended = tokio::select! {
            ended = &mut session => ended,
            () = shutdown => {
                stop.cancel();
                session.await
            }
        };
        running.end().await;
        ended.unwrap_or_else(|problem| Err(RunError::Runtime(std::io::Error::other(problem))))
    }

    fn start(mut self, environment: Environment) -> Result<Running, RunError> {
        if let Some(mistake) = self.mistake {
            return Err(mistake.into());
        }
        let registration = Register {
            capabilities: self.capabilities,
            meta: self.meta,
            config_schema: self.config_schema,
            version: self.version,
            models: self.models,
            routes: self.routes,
            tools: self.tools,
            channels: self.channels,
            ui: self.ui,
            ..Register::new(environment.name.clone())
        };
        let host = Host::new(environment, self.logs, registration);
        let tasks = Tasks::default();
        let configuration = self.apply.take().map(|apply| {
            let (configuration, work) = Configuration::new(apply, host.clone());
            let stopping = host.stopping().clone();
            tasks.spawn(async move {
                stopping.run_until_cancelled(work).await;
            });
            configuration
        });
        for work in self.background {
            tasks.spawn_bounded(work(host.clone()));
        }
        Ok(Running { host, handlers: self.handlers, configuration, tasks })
    }
}

impl fmt::Debug for Plugin {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("Plugin")
            .field("capabilities", &self.capabilities)
            .field("version", &self.version)
            .finish_non_exhaustive()
    }
}

/// A plugin at work: what its sessions share.
pub(crate) struct Running {
    pub(crate) host: Host,
    handlers: HashMap<CapabilityName, Arc<Handlers>>,
    configuration: Option<Configuration>,
    tasks: Tasks,
}

impl Running {
    /// Hands a request to its handler, in a task of its own.
    pub(crate) fn dispatch(
        &self,
        message: Box<message::Request>,
        ticket: Arc<Ticket>,
        session: &Arc<Session>,
    ) {
        let Some(handlers) = self.handlers.get(&message.capability).cloned() else {
            let problem = format!("this plugin does not answer `{}`", message.capability);
            let error = WireError::new(ErrorCode::NotFound, problem);
            session.answer(&message.request_id, Err(error));
            return;
        };
        let owed = Owed::new(session.clone(), message.request_id.clone());
        let session = session.clone();
        let request = Request::new(message, ticket.clone(), session.clone(), self.host.clone());
        match &self.configuration {
            Some(configuration) if !configuration.is_in_force() => {
                let mut configuration = configuration.clone();
                self.tasks.spawn(async move {
                    let ready = tokio::select! {
                        () = ticket.cancelled.cancelled() => Ok(()),
                        ready = configuration.in_force() => ready,
                    };
                    match ready {
                        Ok(()) => handlers.work(owed, request, ticket, session).await,
                        Err(error) => owed.settle(Err(error)),
                    }
                });
            }
            _ => self.tasks.spawn(handlers.work(owed, request, ticket, session)),
        }
    }

    /// The settings that came with a registration.
    pub(crate) fn registered(&self, revision: u64, config: RawJson) {
        if let Some(configuration) = &self.configuration {
            configuration.registered(revision, config);
        }
    }

    /// Settings that the host sent later.
    pub(crate) fn take_config(&self, config: message::Config, session: &Arc<Session>) {
        match &self.configuration {
            Some(configuration) => configuration.sent(config, session),
            // Not asked for: `meta.hotConfig` is not set. To claim success would be a lie.
            None => crate::config::refuse(config, session),
        }
    }

    async fn end(&self) {
        self.host.close();
        self.tasks.end().await;
    }
}

/// A plugin that is dropped while it runs leaves nothing running.
impl Drop for Running {
    fn drop(&mut self) {
        self.host.close();
        self.tasks.over.cancel();
    }
}

/// Everything that runs beside the session.
#[derive(Default)]
struct Tasks {
    tracker: TaskTracker,
    over: CancellationToken,
}

impl Tasks {
    /// Work that ends by itself: a request's ends with its session at the latest.
    fn spawn(&self, work: impl Future<Output = ()> + Send + 'static) {
        self.tracker.spawn(work);
    }

    /// Work that is dropped at the end if it goes on.
    fn spawn_bounded(&self, work: impl Future<Output = ()> + Send + 'static) {
        let over = self.over.clone();
        self.tracker.spawn(async move {
            over.run_until_cancelled(work).await;
        });
    }

    async fn end(&self) {
        self.tracker.close();
        if timeout(TASKS_END_WITHIN, self.tracker.wait()).await.is_err() {
            self.over.cancel();
            // Only code that never waits is left then; nobody can end that from outside.
            let _ = timeout(TASKS_END_WITHIN, self.tracker.wait()).await;
        }
    }
}

/// Completes when the process is asked to end.
fn stop_signal() -> std::io::Result<impl Future<Output = ()>> {
    use tokio::signal::unix::{SignalKind, signal};

    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    Ok(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
    })
}
