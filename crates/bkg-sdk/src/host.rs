//! The handle to the host: everything that a plugin can do besides answering.
//!
//! Cheap to clone and good for the plugin's whole life: it speaks through whatever session there is,
//! and says so where there is none. Not for answers; those belong to the request's own session.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use bkg_protocol::message::{
    self, AuthChanged, Caller, Event, LogLevel, Model, PluginMessage, Publish, Register, Telemetry, Topic,
    Update,
};
use bkg_protocol::{ErrorCode, PluginName, RawJson, WireError};
use serde_json::Value;
use tokio_util::sync::CancellationToken;

use crate::call::{Call, CallError};
use crate::environment::{Environment, EnvironmentError};
use crate::events::{Subscription, Topics};
use crate::json::IntoJson;
use crate::log::Logs;
use crate::session::Session;
use crate::telemetry::OwnProcess;

/// How long the host may take to judge a credential: longer than it gives the auth provider.
const AUTHORIZED_WITHIN: Duration = Duration::from_secs(10);

/// The handle to the host.
///
/// ```
/// use bkg_sdk::{Health, Host, LogLevel};
///
/// async fn warm_up(host: Host) {
///     host.set_health(Health::Degraded, "the index is loading");
///     host.log(LogLevel::Info, "loading the index");
///     // …
///     host.set_health(Health::Up, "");
///     host.set_figure("indexed", 12_000.0);
/// }
/// ```
#[derive(Debug, Clone)]
pub struct Host {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    environment: Environment,
    logs: Arc<Logs>,
    topics: Topics,
    stopping: CancellationToken,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    /// The session whose registration holds.
    session: Option<Arc<Session>>,
    /// What the next session says in `register`, token and resume apart.
    registration: Register,
    health: Health,
    detail: String,
    /// Why the settings are not in force: it outweighs what the plugin says of itself.
    settings_problem: Option<String>,
    figures: BTreeMap<String, f64>,
    process: OwnProcess,
}

/// How a plugin feels.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Health {
    /// It serves.
    #[default]
    Up,
    /// It serves, but something is wrong: others are preferred.
    Degraded,
    /// It cannot serve: no request is sent to it.
    Down,
}

/// What a credential may do, as the host judged it at that moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Authorization {
    /// It opens what was asked about.
    Allowed(Caller),
    /// It does not.
    Refused {
        /// One of the words of `docs/protocol.md`, such as `unknown credential` or `scope`.
        reason: String,
    },
}

impl Authorization {
    /// Whether the credential opens what was asked about.
    pub fn is_allowed(&self) -> bool {
        matches!(self, Self::Allowed(_))
    }

    fn read(answer: &RawJson) -> Result<Self, CallError> {
        #[derive(serde::Deserialize)]
        struct Verdict {
            allowed: bool,
            #[serde(default)]
            reason: String,
        }
        let unreadable = |error: serde_json::Error| {
            let message = format!("the answer of `host.authorize` cannot be read: {error}");
            CallError::Failed(WireError::new(ErrorCode::Internal, message))
        };
        let Verdict { allowed, reason } = answer.read().map_err(unreadable)?;
        if allowed {
            Ok(Self::Allowed(answer.read().map_err(unreadable)?))
        } else {
            Ok(Self::Refused { reason })
        }
    }
}

impl Health {
    fn word(self) -> &'static str {
        match self {
            Self::Up => "up",
            Self::Degraded => "degraded",
            Self::Down => "down",
        }
    }
}

impl Host {
    pub(crate) fn new(environment: Environment, logs: Arc<Logs>, registration: Register) -> Self {
        Self {
            shared: Arc::new(Shared {
                environment,
                logs,
                topics: Topics::default(),
                stopping: CancellationToken::new(),
                state: Mutex::new(State {
                    session: None,
                    registration,
                    health: Health::Up,
                    detail: String::new(),
                    settings_problem: None,
                    figures: BTreeMap::new(),
                    process: OwnProcess::new(),
                }),
            }),
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.shared.state.lock().expect("nothing panics under this lock")
    }

    /// The plugin's name.
    pub fn name(&self) -> &PluginName {
        &self.shared.environment.name
    }

    /// What the host said about this launch.
    pub fn environment(&self) -> &Environment {
        &self.shared.environment
    }

    /// The plugin's private directory, which persists: `BKG_PLUGIN_DATA_DIR`.
    ///
    /// # Errors
    /// Where the host did not name one.
    pub fn data_dir(&self) -> Result<&Path, EnvironmentError> {
        self.shared.environment.data_dir()
    }

    /// Cancelled when the plugin is to stop: take no new work of your own, and finish.
    pub fn stopping(&self) -> &CancellationToken {
        &self.shared.stopping
    }

    /// Writes a log line. Never waits; see [`crate::Plugin::log_layer`] for `tracing`.
    pub fn log(&self, level: LogLevel, message: impl Into<String>) {
        self.shared.logs.write(level, message.into(), None);
    }

    /// Writes a log line with further facts: an object.
    pub fn log_with(&self, level: LogLevel, message: impl Into<String>, fields: impl IntoJson) {
        self.shared.logs.write(level, message.into(), Some(fields.into_json()));
    }

    /// Says how the plugin feels: at once, and with every beat from now on. `detail` is one sentence
    /// on why; it may be empty.
    pub fn set_health(&self, health: Health, detail: impl Into<String>) {
        {
            let mut state = self.lock();
            (state.health, state.detail) = (health, detail.into());
        }
        self.say_health();
    }

    /// Sends a figure of the plugin's own with every telemetry from now on. Names that the host knows
    /// (`cpu`, `mem_bytes`) and those of the message itself (`type`, `plugin`) are not taken; figures
    /// that are not finite are left out.
    pub fn set_figure(&self, name: impl Into<String>, value: f64) {
        let name = name.into();
        if !matches!(name.as_str(), "cpu" | "mem_bytes" | "type" | "plugin") {
            self.lock().figures.insert(name, value);
        }
    }

    /// Asks for a capability, as the plugin's own work; [`crate::Request::call`] asks on behalf of the
    /// caller whose request is being answered.
    ///
    /// ```
    /// # use bkg_sdk::{CallError, Host, RawJson};
    /// async fn embed(host: &Host, text: &str) -> Result<RawJson, CallError> {
    ///     host.call("llm.embed", serde_json::json!({ "input": text })).answer().await
    /// }
    /// ```
    pub fn call(&self, capability: &str, payload: impl IntoJson) -> Call {
        Call::new(self.session(), capability, payload.into_json())
    }

    /// Asks what a credential may do that somebody showed to a listener of the plugin's own: who reaches a
    /// port on loopback is not somebody with a right. The plugin's entry lists `host.authorize` in `calls`.
    ///
    /// Ask for each request, and keep no answer: what was revoked is refused from that moment on.
    ///
    /// ```
    /// # use bkg_sdk::{Authorization, CallError, Host};
    /// async fn may_read(host: &Host, token: &str) -> Result<bool, CallError> {
    ///     match host.authorize(token, "repo.file.read").await? {
    ///         Authorization::Allowed(caller) => Ok(!caller.user.is_empty()),
    ///         Authorization::Refused { .. } => Ok(false),
    ///     }
    /// }
    /// ```
    ///
    /// # Errors
    /// It cannot be found out now: answer 503, never 401. With the codes `rate_limited` and
    /// `quota_exceeded` the credential has been used as much as it may be, or too many that open nothing
    /// were asked about; `retry_after_ms` says how long to wait.
    pub async fn authorize(&self, token: &str, scope: &str) -> Result<Authorization, CallError> {
        let question = serde_json::json!({ "token": token, "scope": scope });
        let answer = self.call("host.authorize", question).timeout(AUTHORIZED_WITHIN).answer().await?;
        Authorization::read(&answer)
    }

    /// Sends an event to whoever subscribed to the topic, which is a dotted name that begins with this
    /// plugin's own: `clock.tick` of the plugin `clock`. The host drops any other, and says so in the
    /// log. At most once: without a session, or with a socket that is behind, the event is dropped.
    ///
    /// Answers whether it was handed over.
    pub fn publish(&self, topic: impl Into<String>, data: impl IntoJson) -> bool {
        let Some(session) = self.session().filter(|session| session.has_room()) else { return false };
        let (topic, data) = (topic.into(), data.into_json());
        if topic.len() + data.as_str().len() + 64 > session.frame_limit() {
            tracing::warn!(
                topic,
                bytes = data.as_str().len(),
                "event dropped: it exceeds the host's limit"
            );
            return false;
        }
        session.say(&PluginMessage::Publish(Publish { topic, data }));
        true
    }

    /// Says, as the plugin that answers `auth.*`, that what it said before `changed.generation` no
    /// longer holds: before it answers the request that made the change. Never dropped while there is
    /// a session; a host that comes back later asks about everybody again.
    pub fn auth_changed(&self, changed: AuthChanged) {
        self.say(&PluginMessage::AuthChanged(changed));
    }

    /// Subscribes to the events of a topic, of this plugin or of another that the entry lists in
    /// `subscribes`. The host is told again after a broken link; events of the time between are gone,
    /// and so are the oldest of those that this process was too slow to read.
    pub fn subscribe(&self, topic: &str) -> Subscription {
        Subscription::new(self.clone(), topic)
    }

    /// Replaces whole lists of the registration; what the update leaves out stays.
    ///
    /// # Errors
    /// The host's refusal, in which case everything is as before; or the lack of a session.
    pub async fn update(&self, update: Update) -> Result<(), CallError> {
        let session = self.session().ok_or(CallError::NotConnected)?;
        let verdict = session.update(&PluginMessage::Update(update.clone()));
        verdict.await.map_err(|_| CallError::Disconnected)?.map_err(CallError::Failed)?;
        let mut state = self.lock();
        state.registration = update.applied_to(&state.registration);
        Ok(())
    }

    /// Replaces the list of models.
    ///
    /// # Errors
    /// See [`Host::update`].
    pub async fn set_models(&self, models: Vec<Model>) -> Result<(), CallError> {
        self.update(Update { models: Some(models), ..Update::default() }).await
    }

    pub(crate) fn session(&self) -> Option<Arc<Session>> {
        self.lock().session.clone()
    }

    pub(crate) fn registration(&self) -> Register {
        self.lock().registration.clone()
    }

    pub(crate) fn topics(&self) -> &Topics {
        &self.shared.topics
    }

    /// Says something where there is a session; without one it is void.
    pub(crate) fn say(&self, message: &PluginMessage) {
        if let Some(session) = self.session() {
            session.say(message);
        }
    }

    /// A registration holds: from now on this session carries everything.
    pub(crate) fn attach(&self, session: &Arc<Session>) {
        self.lock().session = Some(session.clone());
        for topic in self.topics().names() {
            session.say(&PluginMessage::Subscribe(Topic { topic }));
        }
        self.shared.logs.attach(self.name().as_str(), session.clone());
    }

    /// The session is over.
    pub(crate) fn detach(&self) {
        self.lock().session = None;
        self.shared.logs.detach();
    }

    pub(crate) fn deliver(&self, event: Event) {
        self.topics().deliver(event);
    }

    /// Notes whether the settings are in force.
    pub(crate) fn set_settings_problem(&self, problem: Option<String>) {
        let changed = {
            let mut state = self.lock();
            std::mem::replace(&mut state.settings_problem, problem.clone()) != problem
        };
        if changed {
            self.say_health();
        }
    }

    /// One heartbeat: health, telemetry, and the log lines that could not leave before.
    pub(crate) fn beat(&self) {
        self.say_health();
        self.say(&PluginMessage::Telemetry(self.telemetry()));
        self.shared.logs.flush();
    }

    /// Says `stopping`, so that the host sends nothing new.
    pub(crate) fn say_stopping(&self) {
        self.say(&PluginMessage::Health(message::Health {
            plugin: Some(self.name().to_string()),
            status: "stopping".to_owned(),
            detail: None,
        }));
    }

    fn say_health(&self) {
        if self.stopping().is_cancelled() {
            return self.say_stopping();
        }
        let state = self.lock();
        let (health, detail) = match &state.settings_problem {
            Some(problem) => (Health::Down, problem.clone()),
            None => (state.health, state.detail.clone()),
        };
        drop(state);
        self.say(&PluginMessage::Health(message::Health {
            plugin: Some(self.name().to_string()),
            status: health.word().to_owned(),
            detail: Some(detail).filter(|detail| !detail.is_empty()),
        }));
    }

    fn telemetry(&self) -> Telemetry {
        let mut state = self.lock();
        let usage = state.process.sample();
        let figures = state.figures.iter();
        let figures = figures.filter_map(|(name, &value)| {
            Some((name.clone(), Value::Number(serde_json::Number::from_f64(value)?)))
        });
        Telemetry {
            plugin: Some(self.name().to_string()),
            cpu: usage.map(|usage| usage.cpu),
            mem_bytes: usage.map(|usage| usage.resident as f64),
            further: figures.collect(),
        }
    }

    /// Nothing more will come.
    pub(crate) fn close(&self) {
        self.shared.stopping.cancel();
        self.topics().close();
    }
}
