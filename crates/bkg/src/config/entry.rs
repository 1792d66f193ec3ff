//! A plugin's entry: all that is said about it, checked and typed.
//!
//! What is said, and how it merges, is in `layers`. Not what the plugin registers: the entry is the
//! upper bound of that. The invariant: a [`PluginEntry`] is valid, and its paths stay inside its
//! folder as written. `discovery` makes them from files, `entries` with what was saved; `supervisor`
//! and `bus` read them.

use std::collections::BTreeSet;
use std::fmt;
use std::fs::File;
use std::io::{self, Read};
use std::path::{Component, Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

use bkg_protocol::limits::ENVELOPE_ROOM;
use bkg_protocol::{CapabilityName, Pattern, PluginName, Scope, TopicName};
use indexmap::IndexMap;
use serde::{Serialize, Serializer};
use serde_json::{Map, Value};

use super::layers::Layers;
use super::limits::{BOUNDS, ResourceLimits};
use super::patch::child;
use super::secrets;

/// Everything that is known of a plugin before it runs. Serialises to the whole effective entry.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct PluginEntry {
    /// The name under which it registers.
    pub name: PluginName,
    /// One sentence for people.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub description: String,
    /// Its own version, as its author writes it.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub version: String,
    /// What kind of plugin its author calls it: `type` in the file.
    #[serde(rename = "type", skip_serializing_if = "String::is_empty")]
    pub kind: String,
    /// What is executed, relative to the folder.
    pub entrypoint: PathBuf,
    /// Its arguments.
    pub args: Vec<String>,
    /// Variables that its processes get besides those of the host.
    pub env: IndexMap<String, String>,
    /// Whether it is started with the host.
    pub autostart: bool,
    /// Which capabilities it may register.
    pub capabilities: Vec<GrantedCapability>,
    /// Which models it may offer; any, where the entry does not say.
    pub models: Vec<Pattern>,
    /// Which capabilities of others it may call.
    pub calls: Vec<Pattern>,
    /// Which topics of others it may hear of.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub subscribes: Vec<Pattern>,
    /// Its settings.
    pub settings: EntrySettings,
    /// The JSON Schema of its settings.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub config_schema: Option<Value>,
    /// How it is asked whether it is well.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub healthcheck: Option<Healthcheck>,
    /// How many processes of it run.
    pub instances: u32,
    /// When it is started again after it ended.
    pub restart: RestartPolicy,
    /// What else must be there, as written.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub requires: Vec<Value>,
    /// The largest frame that it can read, in bytes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_frame_bytes: Option<usize>,
    /// How it proves that it is this launch.
    pub identity: Identity,
    /// The port that the operator pinned for it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub port: Option<u16>,
    /// What starts it besides the operator and `autostart`.
    pub activation: Activation,
    /// Whether two versions of it may run side by side; see [`PluginEntry::may_overlap`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub overlap: Option<bool>,
    /// How its versions are swapped.
    #[serde(skip_serializing_if = "SwapDefaults::is_default")]
    pub swap: SwapDefaults,
    /// How its files are backed up, where it does not write the copies itself.
    #[serde(skip_serializing_if = "BackupMode::is_live")]
    pub backup: BackupMode,
    /// The resources that one launch of it may use.
    #[serde(skip_serializing_if = "ResourceLimits::is_empty")]
    pub limits: ResourceLimits,
    /// A path below `/api` that is its own.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub route_prefix: Option<String>,
    /// Scopes that a caller needs where they differ from the capability's name.
    #[serde(skip_serializing_if = "IndexMap::is_empty")]
    pub scopes: IndexMap<CapabilityName, Scope>,
    /// How many requests one instance works on at once.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_concurrency: Option<u32>,
    /// What its `prepare.sh` depends on.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub prepare: Option<Prepare>,
    /// Fields that this host does not know, as written.
    #[serde(flatten)]
    pub extra: Map<String, Value>,
    /// Number of the saved revision that it holds; 0 where nothing was saved.
    #[serde(skip)]
    pub revision: u64,
    /// What it was made of.
    #[serde(skip)]
    pub layers: Layers,
    /// Where it holds what was saved sealed, as JSON Pointers into the entry.
    #[serde(skip)]
    pub sealed: BTreeSet<String>,
}

/// The settings of a plugin; `Debug` shows their names only, since some of them are secret.
#[derive(Clone, PartialEq, Default, Serialize)]
#[serde(transparent)]
pub struct EntrySettings(pub Map<String, Value>);

impl fmt::Debug for EntrySettings {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_set().entries(self.0.keys()).finish()
    }
}

/// A capability, or a pattern of them, that a plugin may register.
#[derive(Debug, Clone, PartialEq)]
pub struct GrantedCapability {
    /// Which capabilities are meant.
    pub id: Pattern,
    /// What the entry says about them besides, as written.
    pub more: Map<String, Value>,
}

impl Serialize for GrantedCapability {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if self.more.is_empty() {
            return self.id.serialize(serializer);
        }
        let id = ("id".to_owned(), Value::from(self.id.as_str()));
        let more = self.more.iter().map(|(name, value)| (name.clone(), value.clone()));
        std::iter::once(id).chain(more).collect::<Map<_, _>>().serialize(serializer)
    }
}

/// How the host asks a plugin whether it is well, beside listening to its beats.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Healthcheck {
    /// What is asked.
    #[serde(flatten)]
    pub asks: Probed,
    /// How often to ask; whole milliseconds in the file.
    #[serde(serialize_with = "as_milliseconds", skip_serializing_if = "Option::is_none")]
    pub interval: Option<Duration>,
    /// How long an answer may take; whole milliseconds in the file, as `timeoutMs`.
    #[serde(
        rename = "timeoutMs",
        serialize_with = "as_milliseconds",
        skip_serializing_if = "Option::is_none"
    )]
    pub timeout: Option<Duration>,
    /// How many misses in a row take an instance out of rotation; twice as many replace it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub failures: Option<u32>,
}

/// What a health probe asks.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Probed {
    /// A path, with its leading slash, on the port where the plugin itself listens.
    Path(String),
    /// One of its capabilities, over the bus.
    Capability(CapabilityName),
}

impl Healthcheck {
    /// How often to ask: every 10 s unless the entry says otherwise.
    pub fn interval(&self) -> Duration {
        self.interval.unwrap_or(Duration::from_secs(10))
    }

    /// How long an answer may take: 2 s unless the entry says otherwise.
    pub fn timeout(&self) -> Duration {
        self.timeout.unwrap_or(Duration::from_secs(2))
    }

    /// How many misses in a row take an instance out of rotation: 3 unless the entry says otherwise.
    pub fn failures(&self) -> u32 {
        self.failures.unwrap_or(3)
    }
}

fn as_milliseconds<S: Serializer>(time: &Option<Duration>, serializer: S) -> Result<S::Ok, S::Error> {
    time.map(|time| time.as_millis() as u64).serialize(serializer)
}

/// How the versions of a plugin are swapped where whoever orders a swap says nothing else.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct SwapDefaults {
    /// How many of 100 requests a new version is tried with, 1 to 99; without it, it is not tried.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub share_percent: Option<u8>,
    /// For how long it is tried; whole milliseconds in the file, as `observeMs`.
    #[serde(
        rename = "observeMs",
        serialize_with = "as_milliseconds",
        skip_serializing_if = "Option::is_none"
    )]
    pub observe: Option<Duration>,
    /// How long the version before may finish what it has; whole milliseconds in the file, as `drainMs`.
    #[serde(
        rename = "drainMs",
        serialize_with = "as_milliseconds",
        skip_serializing_if = "Option::is_none"
    )]
    pub drain: Option<Duration>,
}

impl SwapDefaults {
    fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

/// When a plugin is started again after it ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, schemars::JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum RestartPolicy {
    /// However it ended.
    Always,
    /// When it ended other than with code 0.
    #[default]
    OnFailure,
    /// Only by the operator.
    Never,
}

/// How a connection proves that it is this launch of the plugin.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Identity {
    /// By belonging to the launch's processes; a token is checked if it is sent.
    #[default]
    Process,
    /// By the launch token, always.
    Token,
}

/// What starts a plugin besides the operator and `autostart`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Activation {
    /// Nothing.
    #[default]
    Manual,
    /// The first request for one of its capabilities.
    OnDemand,
}

/// How the files of a plugin are backed up that does not write the copies itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum BackupMode {
    /// While it runs.
    #[default]
    Live,
    /// While it is stopped for the copy.
    Stopped,
}

impl BackupMode {
    fn is_live(&self) -> bool {
        *self == Self::Live
    }
}

/// What a plugin's `prepare.sh` depends on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Prepare {
    /// Files and folders, relative to the folder: while they stay the same, it is not run again.
    pub inputs: Vec<String>,
}

/// Why a folder cannot be read as a plugin.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EntryError {
    /// A file or folder could not be read.
    #[error("cannot read `{}`: {reason}", file.display())]
    Unreadable {
        /// The file or folder.
        file: PathBuf,
        /// Why, and what to do.
        reason: String,
    },
    /// A file is not JSON.
    #[error("`{}` is not JSON: {reason}", file.display())]
    Syntax {
        /// The file.
        file: PathBuf,
        /// What the parser says, with line and column.
        reason: String,
    },
    /// A value that its place does not allow.
    #[error("`{}`: `{path}`: {reason}", file.display())]
    Wrong {
        /// The file that holds the value.
        file: PathBuf,
        /// The place inside the file, such as `capabilities[2].id`.
        path: String,
        /// The same place as a JSON Pointer.
        pointer: String,
        /// What is wrong and what is right.
        reason: String,
    },
    /// Another plugin has the paths that it wants for itself.
    #[error(
        "`{}`: `routePrefix`: `{prefix}` overlaps with `{others}` of the plugin `{owner}`: change one of them",
        folder.display()
    )]
    PrefixTaken {
        /// The plugin's folder.
        folder: PathBuf,
        /// What it wants.
        prefix: String,
        /// Who has it.
        owner: PluginName,
        /// What that one has.
        others: String,
    },
}

impl EntryError {
    /// The place inside the entry that is wrong, as a JSON Pointer, and what is wrong there.
    pub fn place(&self) -> (String, String) {
        match self {
            Self::Wrong { pointer, reason, .. } => (pointer.clone(), reason.clone()),
            Self::PrefixTaken { prefix, owner, others, .. } => {
                let reason =
                    format!("`{prefix}` overlaps with `{others}` of the plugin `{owner}`: choose another");
                ("/routePrefix".to_owned(), reason)
            }
            other => (String::new(), other.to_string()),
        }
    }
}

/// The largest file of a plugin's folder that is read, in bytes.
const MAX_FILE_BYTES: u64 = 1 << 20;

/// The longest that a version is tried, or may finish what it has, in milliseconds: a day.
const LONGEST_SWAP_TIME_MS: u64 = 24 * 60 * 60 * 1_000;

/// Variables that identify a launch, which an entry therefore cannot set.
const LAUNCH_VARIABLES: [&str; 2] = ["BKG_PLUGIN_INSTANCE", "BKG_PLUGIN_TOKEN"];

/// First segments below `/api` that the host keeps for itself.
const HOST_AREAS: [&str; 14] = [
    "admin",
    "approvals",
    "auth",
    "conversations",
    "jobs",
    "navigation",
    "pages",
    "plugins",
    "settings",
    "state",
    "tags",
    "themes",
    "tools",
    "users",
];

impl PluginEntry {
    /// Reads the entry of the plugin in `folder`; `listed` is its entry in a catalogue and the file
    /// that holds it.
    ///
    /// # Errors
    /// The first thing that keeps the folder from being a plugin.
    pub fn load(folder: &Path, listed: Option<(&Path, &Map<String, Value>)>) -> Result<Self, EntryError> {
        Self::of(Layers::read(folder, listed)?, 0)
    }

    /// The entry that these layers make; `revision` is the number of the saved one among them.
    ///
    /// # Errors
    /// The first value that its place does not allow.
    pub fn of(layers: Layers, revision: u64) -> Result<Self, EntryError> {
        let mut fields = Fields { merged: layers.merged(), layers: &layers };

        let port =
            fields.number("port", 0, u16::MAX.into())?.map(|port| port as u16).filter(|port| *port != 0);
        Ok(Self {
            name: fields.name()?,
            description: fields.text("description")?.unwrap_or_default(),
            version: fields.text("version")?.unwrap_or_default(),
            kind: fields.text("type")?.unwrap_or_default(),
            entrypoint: fields.entrypoint()?,
            args: fields.texts("args")?.unwrap_or_default(),
            env: fields.environment()?,
            autostart: fields.truth("autostart")?.unwrap_or_default(),
            capabilities: fields.capabilities()?,
            models: match fields.patterns("models")? {
                Some(models) => models,
                None => vec!["*".parse().expect("`*` is a pattern")],
            },
            calls: fields.patterns("calls")?.unwrap_or_default(),
            subscribes: fields.patterns("subscribes")?.unwrap_or_default(),
            settings: EntrySettings(fields.object("settings")?.unwrap_or_default()),
            config_schema: fields.schema()?,
            healthcheck: fields.healthcheck()?,
            instances: fields.number("instances", 1, 256)?.map_or(1, |count| count as u32),
            restart: fields.restart()?,
            requires: fields.list("requires")?.unwrap_or_default(),
            max_frame_bytes: fields
                .number("maxFrameBytes", 2 * ENVELOPE_ROOM as u64, 1 << 30)?
                .map(|bytes| bytes as usize),
            identity: fields
                .choice("identity", &[("process", Identity::Process), ("token", Identity::Token)])?
                .unwrap_or_default(),
            port,
            activation: fields
                .choice(
                    "activation",
                    &[("manual", Activation::Manual), ("on-demand", Activation::OnDemand)],
                )?
                .unwrap_or_default(),
            overlap: fields.truth("overlap")?,
            swap: fields.swap()?,
            backup: fields
                .choice("backup", &[("live", BackupMode::Live), ("stopped", BackupMode::Stopped)])?
                .unwrap_or_default(),
            limits: fields.limits()?,
            route_prefix: fields.route_prefix()?,
            scopes: fields.scopes()?,
            max_concurrency: fields.number("maxConcurrency", 1, u32::MAX.into())?.map(|count| count as u32),
            prepare: fields.prepare()?,
            extra: fields.merged,
            revision,
            layers: Layers::clone(&layers),
            sealed: BTreeSet::new(),
        })
    }

    /// Whether a process that was started with `self` must be started again for `next`, its settings
    /// aside. The rest is the host's own business and holds at once.
    pub fn must_restart_for(&self, next: &Self) -> bool {
        let of_process = |entry: &Self| Self {
            settings: EntrySettings::default(),
            layers: Layers::default(),
            revision: 0,
            sealed: BTreeSet::new(),
            description: String::new(),
            version: String::new(),
            kind: String::new(),
            autostart: false,
            calls: Vec::new(),
            subscribes: Vec::new(),
            config_schema: None,
            healthcheck: None,
            instances: 1,
            restart: RestartPolicy::default(),
            requires: Vec::new(),
            activation: Activation::default(),
            overlap: None,
            swap: SwapDefaults::default(),
            backup: BackupMode::default(),
            route_prefix: None,
            scopes: IndexMap::new(),
            extra: Map::new(),
            ..entry.clone()
        };
        of_process(self) != of_process(next)
    }

    /// The same entry with the settings of `next`, for a process that took them while it runs.
    pub fn with_settings_of(&self, next: &Self) -> Self {
        Self {
            settings: next.settings.clone(),
            sealed: next.sealed.clone(),
            layers: next.layers.clone(),
            revision: next.revision,
            ..self.clone()
        }
    }

    /// The whole entry as JSON, secrets and all: for its plugin, and for comparing.
    pub fn whole(&self) -> Map<String, Value> {
        match serde_json::to_value(self).expect("an entry has a JSON form") {
            Value::Object(whole) => whole,
            other => unreachable!("an entry is an object, not {other}"),
        }
    }

    /// The places of its secrets, as JSON Pointers into the entry: by its own schema, by that of its
    /// files, by the one that was registered, and where something was saved sealed.
    pub fn secret_places(&self, registered: Option<&Value>) -> BTreeSet<String> {
        let settings = Value::Object(self.settings.0.clone());
        // Also by what the files say: whoever edits the schema must not uncover what the author hid.
        let by_files = self.layers.files_say("configSchema");
        let schemas = self.config_schema.iter().chain(registered).chain(&by_files);
        let by_schema = schemas.flat_map(|schema| secrets::places(schema, &settings));
        by_schema.map(|place| format!("/settings{place}")).chain(self.sealed.iter().cloned()).collect()
    }

    /// The whole entry with its secrets behind masks, for everybody else. `registered` is the schema
    /// that the plugin registered, if it did.
    pub fn shown(&self, registered: Option<&Value>) -> Value {
        let secret = self.secret_places(registered);
        secrets::masked(&Value::Object(self.whole()), "", &secret, &|_| None)
    }

    /// Whether the plugin may register this capability.
    pub fn grants(&self, capability: &CapabilityName) -> bool {
        self.capabilities.iter().any(|granted| granted.id.matches(capability.as_str()))
    }

    /// Whether the plugin may offer a model of this id.
    pub fn grants_model(&self, model: &str) -> bool {
        self.models.iter().any(|pattern| pattern.matches(model))
    }

    /// Whether the plugin may call this capability of another one.
    pub fn may_call(&self, capability: &CapabilityName) -> bool {
        self.calls.iter().any(|pattern| pattern.matches(capability.as_str()))
    }

    /// Whether the plugin may hear of this topic: one of its own always, another's where the entry says so.
    pub fn may_hear(&self, topic: &TopicName) -> bool {
        topic.owner() == self.name.as_str()
            || self.subscribes.iter().any(|pattern| pattern.matches(topic.as_str()))
    }

    /// Whether a prefix is this plugin's own, or one of the two lies below the other.
    pub fn claims_prefix(&self, prefix: &str) -> bool {
        let is_below = |one: &str, other: &str| {
            one.strip_prefix(other).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        };
        self.route_prefix.as_deref().is_some_and(|own| is_below(own, prefix) || is_below(prefix, own))
    }

    /// Who of these other plugins has paths that this one, in `folder`, wants for itself.
    pub fn prefix_taken<'a>(
        &self,
        folder: &Path,
        others: impl IntoIterator<Item = &'a Self>,
    ) -> Option<EntryError> {
        let prefix = self.route_prefix.as_deref()?;
        let owner = others.into_iter().find(|other| other.claims_prefix(prefix))?;
        Some(EntryError::PrefixTaken {
            folder: folder.to_owned(),
            prefix: prefix.to_owned(),
            owner: owner.name.clone(),
            others: owner.route_prefix.clone().unwrap_or_default(),
        })
    }

    /// Whether two versions may run side by side: a pinned port can be held by one only.
    pub fn may_overlap(&self) -> bool {
        self.overlap.unwrap_or(true) && self.port.is_none()
    }

    /// The real path of the entrypoint below `root`, the real path of the folder. To be asked before
    /// every launch: links may have changed since discovery.
    ///
    /// # Errors
    /// It is missing, no file, or a link leads out of the folder.
    pub fn real_entrypoint(&self, root: &Path) -> Result<PathBuf, EntryError> {
        let file = root.join(&self.entrypoint);
        let unreadable =
            |reason: &str| EntryError::Unreadable { file: file.clone(), reason: reason.to_owned() };
        let real = file.canonicalize().map_err(|error| unreadable(&error.to_string()))?;
        if !real.starts_with(root) {
            return Err(unreadable("it leads out of the plugin's folder: keep what is executed inside"));
        }
        if !real.is_file() {
            return Err(unreadable("it is not a file: name an executable file in `entrypoint`"));
        }
        Ok(real)
    }
}

/// The merged fields, taken out one by one; what is left over is what this host does not know.
struct Fields<'a> {
    merged: Map<String, Value>,
    layers: &'a Layers,
}

impl Fields<'_> {
    /// Takes a field out; `null` means that it is not there.
    fn take(&mut self, name: &str) -> Option<Value> {
        // `shift_remove` keeps the order of what is left, which is the author's.
        self.merged.shift_remove(name).filter(|value| !value.is_null())
    }

    /// The error for the value at `path`, naming the file that decided it.
    fn wrong(&self, path: &[&str], reason: impl fmt::Display) -> EntryError {
        let mut shown = String::new();
        for step in path {
            if step.bytes().all(|byte| byte.is_ascii_digit()) && !shown.is_empty() {
                shown += &format!("[{step}]");
            } else {
                shown += if shown.is_empty() { "" } else { "." };
                shown += step;
            }
        }
        let file = self.layers.to_blame(path).to_owned();
        let pointer = path.iter().map(|step| child("", step)).collect();
        EntryError::Wrong { file, path: shown, pointer, reason: reason.to_string() }
    }

    fn refuse<T>(&self, path: &[&str], right: &str, found: &Value) -> Result<T, EntryError> {
        Err(self.wrong(path, format!("use {right}, not `{}`", shown(found))))
    }

    fn text(&mut self, name: &str) -> Result<Option<String>, EntryError> {
        match self.take(name) {
            None => Ok(None),
            Some(Value::String(text)) => Ok(Some(text)),
            Some(found) => self.refuse(&[name], "a text in quotes", &found),
        }
    }

    fn truth(&mut self, name: &str) -> Result<Option<bool>, EntryError> {
        match self.take(name) {
            None => Ok(None),
            Some(Value::Bool(truth)) => Ok(Some(truth)),
            Some(found) => self.refuse(&[name], "`true` or `false`", &found),
        }
    }

    fn number(&mut self, name: &str, least: u64, most: u64) -> Result<Option<u64>, EntryError> {
        let Some(found) = self.take(name) else { return Ok(None) };
        match found.as_u64() {
            Some(number) if (least..=most).contains(&number) => Ok(Some(number)),
            _ => self.refuse(&[name], &format!("a whole number from {least} to {most}"), &found),
        }
    }

    fn object(&mut self, name: &str) -> Result<Option<Map<String, Value>>, EntryError> {
        match self.take(name) {
            None => Ok(None),
            Some(Value::Object(object)) => Ok(Some(object)),
            Some(found) => self.refuse(&[name], "an object `{…}`", &found),
        }
    }

    fn list(&mut self, name: &str) -> Result<Option<Vec<Value>>, EntryError> {
        match self.take(name) {
            None => Ok(None),
            Some(Value::Array(items)) => Ok(Some(items)),
            Some(found) => self.refuse(&[name], "a list `[…]`", &found),
        }
    }

    fn texts(&mut self, name: &str) -> Result<Option<Vec<String>>, EntryError> {
        let Some(items) = self.list(name)? else { return Ok(None) };
        self.each_text(&[name], items).map(Some)
    }

    fn each_text(&self, path: &[&str], items: Vec<Value>) -> Result<Vec<String>, EntryError> {
        let text = |(index, item): (usize, Value)| match item {
            Value::String(text) => Ok(text),
            found => self.refuse(&[path, &[&index.to_string()]].concat(), "a text in quotes", &found),
        };
        items.into_iter().enumerate().map(text).collect()
    }

    fn patterns(&mut self, name: &str) -> Result<Option<Vec<Pattern>>, EntryError> {
        let Some(texts) = self.texts(name)? else { return Ok(None) };
        let pattern = |(index, text): (usize, String)| {
            text.parse().map_err(|error| self.wrong(&[name, &index.to_string()], error))
        };
        texts.into_iter().enumerate().map(pattern).collect::<Result<_, _>>().map(Some)
    }

    fn choice<T: Copy>(&mut self, name: &str, choices: &[(&str, T)]) -> Result<Option<T>, EntryError> {
        let Some(found) = self.take(name) else { return Ok(None) };
        self.chosen(&[name], &found, choices).map(Some)
    }

    fn chosen<T: Copy>(
        &self,
        path: &[&str],
        found: &Value,
        choices: &[(&str, T)],
    ) -> Result<T, EntryError> {
        match choices.iter().find(|(text, _)| found.as_str() == Some(text)) {
            Some((_, choice)) => Ok(*choice),
            None => {
                let right = choices.iter().map(|(text, _)| format!("`\"{text}\"`")).collect::<Vec<_>>();
                self.refuse(path, &right.join(" or "), found)
            }
        }
    }

    fn name(&mut self) -> Result<PluginName, EntryError> {
        match self.text("name")? {
            Some(name) => PluginName::from_str(&name).map_err(|error| self.wrong(&["name"], error)),
            None => Err(self.wrong(&["name"], "the field is missing: name the plugin")),
        }
    }

    fn entrypoint(&mut self) -> Result<PathBuf, EntryError> {
        let path = self.text("entrypoint")?.unwrap_or_else(|| "start.sh".to_owned());
        inside(&path).map_err(|reason| self.wrong(&["entrypoint"], reason))?;
        // Without its `./` parts, so that equal entrypoints look equal.
        Ok(Path::new(&path).components().filter(|part| *part != Component::CurDir).collect())
    }

    fn environment(&mut self) -> Result<IndexMap<String, String>, EntryError> {
        let mut variables = IndexMap::new();
        for (variable, value) in self.object("env")?.unwrap_or_default() {
            let path = ["env", &variable];
            if variable.is_empty() || variable.contains(['=', '\0']) {
                return Err(self.wrong(&path, "this cannot name an environment variable"));
            }
            if LAUNCH_VARIABLES.contains(&variable.as_str()) {
                return Err(self.wrong(&path, "the host sets this variable for each launch: remove it"));
            }
            match value {
                Value::String(text) if !text.contains('\0') => variables.insert(variable, text),
                found => return self.refuse(&path, "a text in quotes", &found),
            };
        }
        Ok(variables)
    }

    fn capabilities(&mut self) -> Result<Vec<GrantedCapability>, EntryError> {
        let items = self.list("capabilities")?.unwrap_or_default();
        let mut granted = Vec::with_capacity(items.len());
        for (index, item) in items.into_iter().enumerate() {
            let index = index.to_string();
            let (path, id, more) = match item {
                Value::String(id) => (vec!["capabilities", &index], id, Map::new()),
                Value::Object(mut more) => match more.shift_remove("id") {
                    Some(Value::String(id)) => (vec!["capabilities", &index, "id"], id, more),
                    found => {
                        let found = found.unwrap_or(Value::Null);
                        return self.refuse(
                            &["capabilities", &index, "id"],
                            "the capability's name",
                            &found,
                        );
                    }
                },
                found => {
                    return self.refuse(
                        &["capabilities", &index],
                        "a name such as `\"llm.chat\"`, or an object with an `id`",
                        &found,
                    );
                }
            };
            let id = id.parse().map_err(|error| self.wrong(&path, error))?;
            granted.push(GrantedCapability { id, more });
        }
        Ok(granted)
    }

    fn schema(&mut self) -> Result<Option<Value>, EntryError> {
        match self.take("configSchema") {
            // A schema may also be `true` or `false`.
            Some(schema @ (Value::Object(_) | Value::Bool(_))) => Ok(Some(schema)),
            Some(found) => self.refuse(&["configSchema"], "a JSON Schema `{…}`", &found),
            None => Ok(None),
        }
    }

    fn healthcheck(&mut self) -> Result<Option<Healthcheck>, EntryError> {
        let Some(mut object) = self.object("healthcheck")? else { return Ok(None) };
        let mut take = |name: &str| object.shift_remove(name).filter(|value| !value.is_null());
        let asks = match (take("path"), take("capability")) {
            (None, Some(Value::String(name))) => Probed::Capability(
                name.parse().map_err(|error| self.wrong(&["healthcheck", "capability"], error))?,
            ),
            (None, Some(found)) => {
                return self.refuse(&["healthcheck", "capability"], "a capability's name", &found);
            }
            (Some(Value::String(path)), None) if is_request_target(&path) => Probed::Path(path),
            (Some(_), Some(_)) => {
                let reason = "give `path` or `capability`, not both";
                return Err(self.wrong(&["healthcheck"], reason));
            }
            (Some(found), None) => {
                return self.refuse(&["healthcheck", "path"], "a path that starts with `/`", &found);
            }
            (None, None) => {
                let right = "a path that starts with `/`, or give `capability`";
                return self.refuse(&["healthcheck", "path"], right, &Value::Null);
            }
        };
        let (interval, timeout, failures) = (take("interval"), take("timeoutMs"), take("failures"));
        let number = |name: &str, found: Option<Value>, right: &str, most: u64| match found {
            None => Ok(None),
            Some(found) => match found.as_u64() {
                Some(number) if (1..=most).contains(&number) => Ok(Some(number)),
                _ => self.refuse(&["healthcheck", name], right, &found),
            },
        };
        let milliseconds = |name, found| {
            let number = number(name, found, "whole milliseconds", u64::MAX)?;
            Ok(number.map(Duration::from_millis))
        };
        Ok(Some(Healthcheck {
            asks,
            interval: milliseconds("interval", interval)?,
            timeout: milliseconds("timeoutMs", timeout)?,
            failures: number("failures", failures, "a whole number from 1 to 1000", 1_000)?
                .map(|failures| failures as u32),
        }))
    }

    fn swap(&mut self) -> Result<SwapDefaults, EntryError> {
        let Some(object) = self.object("swap")? else { return Ok(SwapDefaults::default()) };
        let mut swap = SwapDefaults::default();
        for (name, found) in &object {
            let whole =
                |least: u64, most: u64| found.as_u64().filter(|number| (least..=most).contains(number));
            let milliseconds = || whole(0, LONGEST_SWAP_TIME_MS).map(Duration::from_millis);
            let expected = match name.as_str() {
                "sharePercent" => {
                    swap.share_percent = whole(1, 99).map(|percent| percent as u8);
                    swap.share_percent.is_none().then(|| "a whole number from 1 to 99".to_owned())
                }
                "observeMs" | "drainMs" => {
                    let time = milliseconds();
                    match name.as_str() {
                        "observeMs" => swap.observe = time,
                        _ => swap.drain = time,
                    }
                    time.is_none().then(|| format!("whole milliseconds up to {LONGEST_SWAP_TIME_MS}"))
                }
                _ => Some("only `sharePercent`, `observeMs` and `drainMs` here".to_owned()),
            };
            if let Some(expected) = expected {
                return self.refuse(&["swap", name], &expected, found);
            }
        }
        Ok(swap)
    }

    fn limits(&mut self) -> Result<ResourceLimits, EntryError> {
        let mut limits = ResourceLimits::default();
        for (name, found) in self.object("limits")?.unwrap_or_default() {
            let path = ["limits", &name];
            let Some(bound) = BOUNDS.iter().find(|bound| bound.name == name) else {
                let known = BOUNDS.map(|bound| format!("`{}`", bound.name)).join(", ");
                return Err(self.wrong(&path, format!("there is no such limit: use {known}")));
            };
            let (least, most) = (bound.least, bound.most);
            *(bound.place)(&mut limits) = match found.as_u64() {
                _ if found.is_null() => None,
                Some(number) if (least..=most).contains(&number) => Some(number),
                _ => {
                    let right = format!("a whole number from {least} to {most}");
                    return self.refuse(&path, &right, &found);
                }
            };
        }
        Ok(limits)
    }

    fn restart(&mut self) -> Result<RestartPolicy, EntryError> {
        const CHOICES: [(&str, RestartPolicy); 3] = [
            ("always", RestartPolicy::Always),
            ("on-failure", RestartPolicy::OnFailure),
            ("never", RestartPolicy::Never),
        ];
        match self.take("restart") {
            None => Ok(RestartPolicy::default()),
            Some(Value::Object(object)) => match object.get("policy") {
                None => Ok(RestartPolicy::default()),
                Some(policy) => self.chosen(&["restart", "policy"], policy, &CHOICES),
            },
            Some(policy) => self.chosen(&["restart"], &policy, &CHOICES),
        }
    }

    fn route_prefix(&mut self) -> Result<Option<String>, EntryError> {
        let Some(prefix) = self.text("routePrefix")? else { return Ok(None) };
        let is_segment = |segment: &str| {
            let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
            !segment.is_empty() && segment.bytes().all(plain) && !segment.bytes().all(|byte| byte == b'.')
        };
        match prefix.strip_prefix("/api/") {
            Some(rest) if HOST_AREAS.contains(&rest.split('/').next().unwrap_or_default()) => {
                let reason = format!("`{prefix}` belongs to the host: choose another word after `/api/`");
                Err(self.wrong(&["routePrefix"], reason))
            }
            Some(rest) if rest.split('/').all(is_segment) => Ok(Some(prefix)),
            _ => self.refuse(&["routePrefix"], "a path such as `/api/goose`", &Value::String(prefix)),
        }
    }

    fn scopes(&mut self) -> Result<IndexMap<CapabilityName, Scope>, EntryError> {
        let mut scopes = IndexMap::new();
        for (capability, scope) in self.object("scopes")?.unwrap_or_default() {
            let path = ["scopes", &capability];
            let Value::String(scope) = scope else {
                return self.refuse(&path, "a scope in quotes", &scope);
            };
            let scope = scope.parse().map_err(|error| self.wrong(&path, error))?;
            scopes.insert(capability.parse().map_err(|error| self.wrong(&path, error))?, scope);
        }
        Ok(scopes)
    }

    fn prepare(&mut self) -> Result<Option<Prepare>, EntryError> {
        let Some(mut object) = self.object("prepare")? else { return Ok(None) };
        let inputs = match object.shift_remove("inputs") {
            None | Some(Value::Null) => Vec::new(),
            Some(Value::Array(items)) => self.each_text(&["prepare", "inputs"], items)?,
            Some(found) => return self.refuse(&["prepare", "inputs"], "a list `[…]`", &found),
        };
        for (index, input) in inputs.iter().enumerate() {
            inside(input)
                .map_err(|reason| self.wrong(&["prepare", "inputs", &index.to_string()], reason))?;
        }
        Ok(Some(Prepare { inputs }))
    }
}

/// Whether a text can stand in the first line of an HTTP request as it is.
fn is_request_target(path: &str) -> bool {
    path.starts_with('/') && path.parse::<http::uri::PathAndQuery>().is_ok()
}

/// Whether a path as written stays inside the folder that it starts from.
fn inside(path: &str) -> Result<(), String> {
    let stays =
        Path::new(path).components().all(|part| matches!(part, Component::Normal(_) | Component::CurDir));
    let names_something = Path::new(path).components().any(|part| matches!(part, Component::Normal(_)));
    if stays && names_something && !path.contains('\0') {
        Ok(())
    } else {
        Err(format!(
            "use a relative path inside the plugin's folder, without `..`, not `{}`",
            path.escape_debug()
        ))
    }
}

/// The beginning of a value, for a message.
pub(super) fn shown(value: &Value) -> String {
    let text = value.to_string();
    match text.char_indices().nth(80) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text,
    }
}

/// Reads a JSON file that a plugin's folder may have; `None` if it is not there.
pub(super) fn read_json(file: &Path) -> Result<Option<Value>, EntryError> {
    let text = match read_bounded(file) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => {
            return Err(EntryError::Unreadable { file: file.to_owned(), reason: error.to_string() });
        }
    };
    let value = serde_json::from_str(&text)
        .map_err(|error| EntryError::Syntax { file: file.to_owned(), reason: error.to_string() })?;
    Ok(Some(value))
}

/// The text of a regular file of at most [`MAX_FILE_BYTES`]: a pipe or a device in a plugin's folder
/// must not hold the host up.
fn read_bounded(file: &Path) -> io::Result<String> {
    if !file.metadata()?.is_file() {
        return Err(io::Error::other("it is not a regular file"));
    }
    let mut text = String::new();
    File::open(file)?.take(MAX_FILE_BYTES + 1).read_to_string(&mut text)?;
    if text.len() as u64 > MAX_FILE_BYTES {
        return Err(io::Error::other(format!("it is larger than {MAX_FILE_BYTES} bytes")));
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// A plugin's folder with these files.
    fn folder(files: &[(&str, Value)]) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        for (name, content) in files {
            std::fs::write(folder.path().join(name), content.to_string()).unwrap();
        }
        folder
    }

    fn entry(manifest: Value) -> Result<PluginEntry, String> {
        let folder = folder(&[("plugin.json", manifest)]);
        PluginEntry::load(folder.path(), None)
            .map_err(|error| error.to_string().replace(&folder.path().display().to_string(), "DIR"))
    }

    #[test]
    fn a_name_is_all_that_an_entry_needs() {
        let entry = entry(json!({"name": "ping"})).unwrap();
        assert_eq!(
            serde_json::to_value(&entry).unwrap(),
            json!({
                "name": "ping", "entrypoint": "start.sh", "args": [], "env": {}, "autostart": false,
                "capabilities": [], "models": ["*"], "calls": [], "settings": {}, "instances": 1,
                "restart": "on-failure", "identity": "process", "activation": "manual"
            })
        );
        assert!(!entry.grants(&"ping.pong".parse().unwrap()));
        assert!(entry.grants_model("any"));
        assert!(entry.may_overlap());
    }

    #[test]
    fn every_field_is_read_and_written_back() {
        let whole = json!({
            "name": "whole", "description": "d", "version": "1.2.3", "type": "tool",
            "entrypoint": "bin/run", "args": ["-v"], "env": {"B": "2", "A": "1"}, "autostart": true,
            "capabilities": ["repo.*", {"id": "llm.chat", "streaming": true}],
            "models": ["m-*"], "calls": ["llm.embed"], "subscribes": ["clock.*"], "settings": {"z": 1, "a": {"b": [1]}},
            "configSchema": {"type": "object"}, "healthcheck": {"path": "/health", "interval": 5000},
            "instances": 3, "restart": "always", "requires": [{"id": "other"}],
            "maxFrameBytes": 1048576, "identity": "token", "port": 8080, "activation": "on-demand",
            "overlap": true, "swap": {"sharePercent": 10, "observeMs": 500, "drainMs": 60000}, "limits": {"memoryMb": 64, "cpuPercent": 50, "pids": 32, "files": 256}, "routePrefix": "/api/whole",
            "scopes": {"llm.chat": "chat"}, "maxConcurrency": 4, "prepare": {"inputs": ["src/**", "Cargo.lock"]},
            "ours": {"kept": true}
        });
        let entry = entry(whole.clone()).unwrap();
        assert_eq!(serde_json::to_string(&entry).unwrap(), whole.to_string());
        assert_eq!(entry.healthcheck.as_ref().unwrap().interval, Some(Duration::from_secs(5)));
        assert!(entry.grants(&"repo.file.read".parse().unwrap()));
        assert!(
            entry.may_call(&"llm.embed".parse().unwrap()) && !entry.may_call(&"llm.chat".parse().unwrap())
        );
        let hears = |topic: &str| entry.may_hear(&topic.parse().unwrap());
        assert!(hears("clock.tick") && hears("whole.thing") && !hears("other.thing"));
        assert!(!entry.grants_model("other"));
        assert!(!entry.may_overlap(), "the port is pinned");
    }

    #[test]
    fn historical_forms_are_understood() {
        let entry =
            entry(json!({"name": "old", "port": 0, "restart": {"policy": "never"}, "version": null}))
                .unwrap();
        assert_eq!((entry.port, entry.restart, entry.version.as_str()), (None, RestartPolicy::Never, ""));
    }

    #[test]
    fn later_files_win_objects_merge_and_arrays_replace() {
        let folder = folder(&[
            (
                "plugin.json",
                json!({"name": "a", "version": "1", "args": ["x", "y"], "settings": {"deep": {"one": 1, "two": [1, 2]}}}),
            ),
            ("config.json", json!({"deep": {"two": [3]}, "new": true})),
        ]);
        let listed = json!({"name": "a", "version": "2", "args": ["z"], "settings": {"deep": {"one": 5, "three": 3}}});
        let catalogue = Path::new("/plugins.json");
        let entry =
            PluginEntry::load(folder.path(), Some((catalogue, listed.as_object().unwrap()))).unwrap();
        assert_eq!((entry.version.as_str(), entry.args), ("2", vec!["z".to_owned()]));
        assert_eq!(
            Value::Object(entry.settings.0),
            json!({"deep": {"one": 5, "two": [3], "three": 3}, "new": true})
        );
    }

    #[test]
    fn a_config_file_with_a_name_is_a_whole_entry() {
        let folder = folder(&[
            ("plugin.json", json!({"name": "a", "settings": {"x": 1}})),
            ("config.json", json!({"name": "a", "autostart": true, "settings": {"y": 2}})),
        ]);
        let entry = PluginEntry::load(folder.path(), None).unwrap();
        assert!(entry.autostart);
        assert_eq!(Value::Object(entry.settings.0), json!({"x": 1, "y": 2}));
    }

    #[test]
    fn two_names_for_one_plugin_are_refused() {
        let folder =
            folder(&[("plugin.json", json!({"name": "a"})), ("config.json", json!({"name": "b"}))]);
        let error = PluginEntry::load(folder.path(), None).unwrap_err();
        let EntryError::Wrong { file, path, reason, .. } = error else { panic!("{error}") };
        assert_eq!((file, path.as_str()), (folder.path().join("config.json"), "name"));
        assert!(reason.starts_with("\"b\" is not the name in "), "{reason}");
    }

    #[test]
    fn a_catalogue_entry_alone_is_enough() {
        let folder = folder(&[]);
        let listed = json!({"name": "a", "autostart": true});
        let listed = Some((Path::new("/plugins.json"), listed.as_object().unwrap()));
        assert!(PluginEntry::load(folder.path(), listed).unwrap().autostart);
        let error = PluginEntry::load(folder.path(), None).unwrap_err().to_string();
        assert!(
            error.ends_with("plugin.json`: the file is missing: write the plugin's entry into it"),
            "{error}"
        );
    }

    #[test]
    fn an_error_names_the_file_that_holds_the_value() {
        let folder = folder(&[
            ("plugin.json", json!({"name": "a", "env": {"A": 1}, "instances": 0})),
            ("config.json", json!({"name": "a", "env": {"B": "fine"}})),
        ]);
        let file = |listed: Option<Value>| {
            let listed =
                listed.as_ref().map(|value| (Path::new("/plugins.json"), value.as_object().unwrap()));
            match PluginEntry::load(folder.path(), listed).unwrap_err() {
                EntryError::Wrong { file, path, .. } => (file.file_name().unwrap().to_owned(), path),
                other => panic!("{other}"),
            }
        };
        assert_eq!(file(None), ("plugin.json".into(), "env.A".to_owned()));
        assert_eq!(file(Some(json!({"env": {"A": "x"}}))), ("plugin.json".into(), "instances".to_owned()));
        let both = json!({"env": {"A": "x"}, "instances": -1});
        assert_eq!(file(Some(both)), ("plugins.json".into(), "instances".to_owned()));
    }

    #[test]
    fn a_wrong_value_says_what_is_right() {
        let check = |field: &str, value: Value, expected: &str| {
            let mut manifest = json!({"name": "a"});
            manifest[field] = value;
            assert_eq!(entry(manifest).unwrap_err(), format!("`DIR/plugin.json`: {expected}"));
        };
        let path = "use a relative path inside the plugin's folder, without `..`, not";
        check(
            "name",
            json!("A b"),
            "`name`: `A b` is not a plugin name: use 1 to 63 of a-z, 0-9, `_`, `-`, starting with a letter or digit",
        );
        check("name", Value::Null, "`name`: the field is missing: name the plugin");
        check("entrypoint", json!("/bin/sh"), &format!("`entrypoint`: {path} `/bin/sh`"));
        check("entrypoint", json!("a/../../b"), &format!("`entrypoint`: {path} `a/../../b`"));
        check("entrypoint", json!("."), &format!("`entrypoint`: {path} `.`"));
        check("entrypoint", json!(""), &format!("`entrypoint`: {path} ``"));
        check("entrypoint", json!("a\u{0}b"), &format!("`entrypoint`: {path} `a\\0b`"));
        check(
            "healthcheck",
            json!({"path": "/a", "capability": "a.b"}),
            "`healthcheck`: give `path` or `capability`, not both",
        );
        check(
            "healthcheck",
            json!({}),
            "`healthcheck.path`: use a path that starts with `/`, or give `capability`, not `null`",
        );
        check(
            "healthcheck",
            json!({"path": "/", "failures": 0}),
            "`healthcheck.failures`: use a whole number from 1 to 1000, not `0`",
        );
        check("args", json!("x"), "`args`: use a list `[…]`, not `\"x\"`");
        check("args", json!(["x", 1]), "`args[1]`: use a text in quotes, not `1`");
        check("env", json!({"A=B": ""}), "`env.A=B`: this cannot name an environment variable");
        check(
            "env",
            json!({"BKG_PLUGIN_TOKEN": "x"}),
            "`env.BKG_PLUGIN_TOKEN`: the host sets this variable for each launch: remove it",
        );
        check("autostart", json!("yes"), "`autostart`: use `true` or `false`, not `\"yes\"`");
        check(
            "capabilities",
            json!(["a.b", 3]),
            "`capabilities[1]`: use a name such as `\"llm.chat\"`, or an object with an `id`, not `3`",
        );
        check(
            "capabilities",
            json!([{"name": "x"}]),
            "`capabilities[0].id`: use the capability's name, not `null`",
        );
        check(
            "capabilities",
            json!([{"id": "a b"}]),
            "`capabilities[0].id`: `a b` is not a pattern: use a name, or a prefix that ends in `*` such as `repo.*`",
        );
        check(
            "models",
            json!(["a*b"]),
            "`models[0]`: `a*b` is not a pattern: use a name, or a prefix that ends in `*` such as `repo.*`",
        );
        check("settings", json!([]), "`settings`: use an object `{…}`, not `[]`");
        check("configSchema", json!("x"), "`configSchema`: use a JSON Schema `{…}`, not `\"x\"`");
        check(
            "healthcheck",
            json!({"path": "x"}),
            "`healthcheck.path`: use a path that starts with `/`, not `\"x\"`",
        );
        check(
            "healthcheck",
            json!({"path": "/", "interval": "1s"}),
            "`healthcheck.interval`: use whole milliseconds, not `\"1s\"`",
        );
        check("instances", json!(0), "`instances`: use a whole number from 1 to 256, not `0`");
        check(
            "restart",
            json!("sometimes"),
            "`restart`: use `\"always\"` or `\"on-failure\"` or `\"never\"`, not `\"sometimes\"`",
        );
        check(
            "restart",
            json!({"policy": 1}),
            "`restart.policy`: use `\"always\"` or `\"on-failure\"` or `\"never\"`, not `1`",
        );
        check("identity", json!("face"), "`identity`: use `\"process\"` or `\"token\"`, not `\"face\"`");
        check("port", json!(70000), "`port`: use a whole number from 0 to 65535, not `70000`");
        check(
            "maxFrameBytes",
            json!(1),
            "`maxFrameBytes`: use a whole number from 8192 to 1073741824, not `1`",
        );
        for wrong in ["/goose", "/api/", "/api/a//b", "/api/../x", "/api/a?b"] {
            check(
                "routePrefix",
                json!(wrong),
                &format!("`routePrefix`: use a path such as `/api/goose`, not `\"{wrong}\"`"),
            );
        }
        check("scopes", json!({"llm.chat": 1}), "`scopes.llm.chat`: use a scope in quotes, not `1`");
        check("prepare", json!({"inputs": ["ok", "../x"]}), &format!("`prepare.inputs[1]`: {path} `../x`"));
        check("requires", json!({}), "`requires`: use a list `[…]`, not `{}`");
        check(
            "swap",
            json!({"sharePercent": 100}),
            "`swap.sharePercent`: use a whole number from 1 to 99, not `100`",
        );
        check(
            "swap",
            json!({"share": 1}),
            "`swap.share`: use only `sharePercent`, `observeMs` and `drainMs` here, not `1`",
        );
    }

    #[test]
    fn a_file_that_is_no_object_no_json_or_too_large_is_an_error() {
        let error = |content: &str| {
            let folder = tempfile::tempdir().unwrap();
            std::fs::write(folder.path().join("plugin.json"), content).unwrap();
            let error = PluginEntry::load(folder.path(), None).unwrap_err().to_string();
            error.replace(&folder.path().display().to_string(), "DIR")
        };
        assert_eq!(
            error("[1]"),
            "cannot read `DIR/plugin.json`: the file holds `[1]`: write an object `{…}`"
        );
        assert!(
            error("{\"name\": }").starts_with("`DIR/plugin.json` is not JSON: expected value at line 1")
        );
        assert_eq!(
            error(&" ".repeat(MAX_FILE_BYTES as usize + 1)),
            "cannot read `DIR/plugin.json`: it is larger than 1048576 bytes"
        );
    }

    #[test]
    fn a_pipe_in_place_of_a_file_does_not_hold_the_host_up() {
        let folder = tempfile::tempdir().unwrap();
        let pipe = folder.path().join("plugin.json");
        nix::unistd::mkfifo(&pipe, nix::sys::stat::Mode::S_IRUSR).unwrap();
        let error = PluginEntry::load(folder.path(), None).unwrap_err().to_string();
        assert!(error.ends_with("it is not a regular file"), "{error}");
    }

    #[test]
    fn the_entrypoint_cannot_leave_the_folder_through_a_link() {
        let outside = tempfile::NamedTempFile::new().unwrap();
        let folder = folder(&[("plugin.json", json!({"name": "a", "entrypoint": "./run"}))]);
        let root = folder.path().canonicalize().unwrap();
        let entry = PluginEntry::load(&root, None).unwrap();
        let reason = |entry: &PluginEntry| match entry.real_entrypoint(&root).unwrap_err() {
            EntryError::Unreadable { file, reason } => {
                assert_eq!(file, root.join("run"));
                reason
            }
            other => panic!("{other}"),
        };
        assert!(reason(&entry).starts_with("No such file"));

        std::os::unix::fs::symlink(outside.path(), root.join("run")).unwrap();
        assert_eq!(reason(&entry), "it leads out of the plugin's folder: keep what is executed inside");

        std::fs::remove_file(root.join("run")).unwrap();
        std::fs::create_dir(root.join("run")).unwrap();
        assert_eq!(reason(&entry), "it is not a file: name an executable file in `entrypoint`");

        std::fs::remove_dir(root.join("run")).unwrap();
        std::fs::write(root.join("real"), "").unwrap();
        std::os::unix::fs::symlink("real", root.join("run")).unwrap();
        assert_eq!(entry.real_entrypoint(&root).unwrap(), root.join("real"));
    }
}
