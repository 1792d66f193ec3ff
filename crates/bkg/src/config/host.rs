//! The host's own configuration: every value, typed, with the layer that it came from.
//!
//! Layers, the first that has a value wins: flag, environment, file, default. The keys, their
//! meaning and their bounds are the one table in `keys`; this file puts the layers together. It reads
//! no process-wide state: environment, working directory and executable come in as
//! [`Surroundings`], so the same input always gives the same configuration.

use std::collections::{BTreeMap, HashMap};
use std::ffi::OsString;
use std::fmt;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use bkg_protocol::limits::ENVELOPE_ROOM;
use bkg_protocol::{CapabilityName, Limits, Pattern, PluginName};
use ipnet::IpNet;
use schemars::JsonSchema;
use serde::Serialize;
use toml::de::{DeTable, DeValue};

use super::discovery::bundled_plugins_dir;
use super::keys::{self, Key};
use super::listen::TlsKeys;
use super::otlp::OtlpKeys;
use super::prices::Prices;
use super::routing::RoutingDocument;

/// The host's configuration, complete and checked. Paths are absolute.
#[derive(Debug, Clone, PartialEq)]
pub struct HostConfig {
    /// Where the host and its plugins keep their state.
    pub data_dir: PathBuf,
    /// Single plugin folders, before all directories.
    pub plugin_folders: Vec<PathBuf>,
    /// Directories of plugin folders: the bundled one unless others were named.
    pub plugins_dirs: Vec<PathBuf>,
    /// Directories of plugin folders that are searched after `plugins_dirs`.
    pub extra_plugins_dirs: Vec<PathBuf>,
    /// Where plugins build and keep their virtual environments; may be deleted at any time.
    pub cache_dir: PathBuf,
    /// Where model files are mounted.
    pub models_dir: PathBuf,
    /// Whether plugins are watched, and started again after an edit.
    pub dev: bool,
    /// The port of the HTTP listener; 0 takes a free one.
    pub api_port: u16,
    /// Names besides those of this machine under which browsers may come, in lower case.
    pub allowed_hosts: Vec<String>,
    /// Where the HTTP surface is reached besides the loopback listener; each is allowed.
    pub listen: Vec<SocketAddr>,
    /// Who is believed about where requests come from.
    pub trusted_proxies: Vec<IpNet>,
    /// What `listen` proves who it is with.
    pub tls: TlsKeys,
    /// The port of the shared bus; 0 takes a free one.
    pub bus_port: u16,
    /// Which plugin alone may register what a pattern means; `auth.*` belongs to `auth_provider`.
    pub bus_exclusive: BTreeMap<Pattern, PluginName>,
    /// The plugin that answers `auth.*`.
    pub auth_provider: PluginName,
    /// The bounds of a bus session.
    pub limits: Limits,
    /// The bounds of the HTTP listener.
    pub http: HttpLimits,
    /// The bounds of what waits for an instance.
    pub queue: QueueLimits,
    /// How long the supervisor waits for what.
    pub supervisor: SupervisorTimes,
    /// The host's log and the logs of plugins.
    pub logs: LogKeys,
    /// Which plugins answer a capability, in order; others follow in catalogue order.
    pub dispatch_order: BTreeMap<CapabilityName, Vec<PluginName>>,
    /// The routes that hold until others are saved.
    pub routing: RoutingDocument,
    /// What models cost.
    pub prices: Prices,
    /// What prices and budgets are in, for people to read.
    pub prices_currency: String,
    /// How often the processes of plugins are measured.
    pub telemetry_interval: Duration,
    /// Where traces go.
    pub otlp: OtlpKeys,
    /// How many threads run the host's tasks.
    pub runtime_threads: u32,
}

/// The bounds of the HTTP listener.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HttpLimits {
    /// All headers of a request together, in bytes.
    pub header_bytes: usize,
    /// How many headers a request may have.
    pub header_count: usize,
    /// From the first byte of a request to the end of its headers.
    pub header_read_timeout: Duration,
    /// From accepting a connection to its first byte.
    pub first_byte_timeout: Duration,
    /// The largest request body, in bytes, where a route names no other bound.
    pub body_bytes: usize,
    /// How deep the JSON of a request may nest.
    pub json_depth: usize,
    /// The whole of a request, from its headers to the last byte of the answer.
    pub request_timeout: Duration,
    /// How long a client may take nothing of what it is sent.
    pub write_timeout: Duration,
    /// How long a body may take, besides the time that [`HttpLimits::body_rate`] gives it.
    pub body_timeout: Duration,
    /// How many bytes of a body are to arrive each second, on average.
    pub body_rate: usize,
    /// How many connections may be open.
    pub connections: usize,
    /// How many of them one address may have that is elsewhere.
    pub connections_per_address: usize,
    /// How many of those may not have shown a valid credential yet.
    pub unproven_per_address: usize,
}

/// The bounds of what waits for a free slot of one plugin.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct QueueLimits {
    /// How many requests may wait; 0 answers at once.
    pub requests: usize,
    /// How many bytes of payload may wait.
    pub bytes: usize,
    /// How long one request may wait.
    pub wait: Duration,
}

/// How long the supervisor waits for what, and how much it does at once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SupervisorTimes {
    /// From the start of a launch to its `register`.
    pub register_timeout: Duration,
    /// The whole of `prepare.sh`.
    pub prepare_timeout: Duration,
    /// From SIGTERM to SIGKILL.
    pub grace: Duration,
    /// From `drain` to SIGTERM.
    pub drain: Duration,
    /// How long a version of a plugin is kept ready to come back after another took over.
    pub swap_hold: Duration,
    /// How many launches may be starting at the same time.
    pub parallel_starts: usize,
    /// Whether launches get cgroups.
    pub cgroups: CgroupUse,
    /// Below which cgroup, as a path from the root of each hierarchy; empty means the host's own.
    pub cgroup_parent: PathBuf,
}

/// Whether launches get cgroups of their own.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum CgroupUse {
    /// Where that is possible.
    #[default]
    Auto,
    /// Nowhere.
    Off,
}

/// The host's log and the logs of plugins.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogKeys {
    /// What the host logs: a level, or a list of `target=level`.
    pub level: String,
    /// How the host writes its log.
    pub format: LogFormat,
    /// How many lines of each plugin stay in memory.
    pub ring_lines: usize,
    /// How large one log file of a plugin may become.
    pub segment_bytes: usize,
    /// How many log files of each plugin are kept.
    pub segments: usize,
    /// How long lines go into the same log file.
    pub segment_age: Duration,
    /// How long a log file is kept after its last line.
    pub keep: Duration,
    /// How many lines a second an instance may log before only a sample is kept.
    pub lines_per_second: u32,
}

/// How the host writes its log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

impl Default for HttpLimits {
    fn default() -> Self {
        Self {
            header_bytes: 16 << 10,
            header_count: 100,
            header_read_timeout: Duration::from_secs(10),
            first_byte_timeout: Duration::from_secs(10),
            body_bytes: 16 << 20,
            json_depth: 64,
            request_timeout: Duration::from_secs(600),
            write_timeout: Duration::from_secs(60),
            body_timeout: Duration::from_secs(30),
            body_rate: 1 << 10,
            connections: 4_096,
            connections_per_address: 512,
            unproven_per_address: 256,
        }
    }
}

impl Default for QueueLimits {
    fn default() -> Self {
        Self { requests: 256, bytes: 16 << 20, wait: Duration::from_secs(10) }
    }
}

impl Default for SupervisorTimes {
    fn default() -> Self {
        Self {
            register_timeout: Duration::from_secs(30),
            prepare_timeout: Duration::from_secs(30 * 60),
            grace: Duration::from_secs(5),
            drain: Duration::from_secs(5),
            swap_hold: Duration::from_secs(2),
            parallel_starts: 4,
            cgroups: CgroupUse::Auto,
            cgroup_parent: PathBuf::new(),
        }
    }
}

impl Default for LogKeys {
    fn default() -> Self {
        Self {
            level: "info".to_owned(),
            format: LogFormat::Text,
            ring_lines: 2_000,
            segment_bytes: 4 << 20,
            segments: 8,
            segment_age: Duration::from_secs(24 * 60 * 60),
            keep: Duration::from_secs(30 * 24 * 60 * 60),
            lines_per_second: 2_000,
        }
    }
}

/// What the command line set: it wins over every other layer.
#[derive(Debug, Clone, Default)]
pub struct Overrides {
    /// `--config`: the configuration file.
    pub config: Option<PathBuf>,
    /// `--data-dir`.
    pub data_dir: Option<PathBuf>,
    /// `--plugin`, as often as it was given.
    pub plugin_folders: Vec<PathBuf>,
    /// `--plugins-dir`, as often as it was given.
    pub plugins_dirs: Vec<PathBuf>,
    /// `--dev`.
    pub dev: bool,
    /// `--api-port`.
    pub api_port: Option<u16>,
    /// `--listen`, as often as it was given.
    pub listen: Vec<SocketAddr>,
    /// `--bus-port`.
    pub bus_port: Option<u16>,
}

/// What the configuration depends on besides flags and file.
pub struct Surroundings<'a> {
    /// Looks an environment variable up.
    pub environment: &'a dyn Fn(&str) -> Option<OsString>,
    /// What relative paths start from; itself absolute.
    pub working_directory: &'a Path,
    /// The path of the running program, beside which an installation keeps its plugins.
    pub executable: &'a Path,
}

/// Where a value came from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(tag = "kind", rename_all = "camelCase")]
#[schemars(rename = "ConfigOrigin")]
pub enum Origin {
    /// Nobody set it.
    Default,
    /// The configuration file.
    File {
        /// The file.
        path: PathBuf,
        /// The line, from 1, on which the key stands.
        line: usize,
    },
    /// An environment variable.
    Environment {
        /// Its name.
        variable: &'static str,
    },
    /// A flag of the command line.
    Flag {
        /// Its name, with the dashes.
        name: &'static str,
    },
}

impl fmt::Display for Origin {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => out.write_str("default"),
            Self::File { path, line } => write!(out, "file {}:{line}", path.display()),
            Self::Environment { variable } => write!(out, "environment {variable}"),
            Self::Flag { name } => write!(out, "flag {name}"),
        }
    }
}

/// One key as it took effect.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
pub struct EffectiveValue {
    /// The dotted name of the key.
    pub key: &'static str,
    /// The value; JSON output shows it in its own type.
    #[schemars(with = "serde_json::Value")]
    pub value: toml::Value,
    /// Where it came from.
    pub origin: Origin,
    /// What the key is for, in one line.
    pub why: &'static str,
}

impl EffectiveValue {
    /// The value as one would write it in the configuration file.
    pub fn text(&self) -> String {
        self.value.to_string()
    }
}

/// A configuration, and how it came about.
#[derive(Debug, Clone)]
pub struct Loaded {
    /// The values.
    pub config: HostConfig,
    /// Every key in the order of `config/bkg.toml`.
    pub values: Vec<EffectiveValue>,
}

/// Why there is no configuration.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file of `--config` could not be read.
    #[error("cannot read the configuration file `{}`: {source}; correct `--config`", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The file is not TOML.
    #[error("`{}` line {line} is not TOML: {message}", path.display())]
    Syntax {
        /// The file.
        path: PathBuf,
        /// The line, from 1.
        line: usize,
        /// What the parser says.
        message: String,
    },
    /// The file sets something that does not exist.
    #[error("`{}` line {line}: there is no key `{key}`; the nearest is `{nearest}`", path.display())]
    UnknownKey {
        /// The file.
        path: PathBuf,
        /// The line, from 1.
        line: usize,
        /// The dotted name that is not known.
        key: String,
        /// The known name that looks most like it.
        nearest: &'static str,
    },
    /// A value that its key does not allow.
    #[error("`{key}` ({origin}): {reason}")]
    Value {
        /// The key.
        key: &'static str,
        /// Which layer holds the value.
        origin: Origin,
        /// What is wrong and what is right.
        reason: String,
    },
    /// Two values that do not go together.
    #[error("`{key}` is {value}, but {reason}")]
    Conflict {
        /// The key to change.
        key: &'static str,
        /// Its value.
        value: String,
        /// What it collides with.
        reason: String,
    },
}

struct Given {
    value: toml::Value,
    origin: Origin,
}

/// The values of one layer, by the name of their key.
type Layer = HashMap<&'static str, Given>;

impl HostConfig {
    /// Puts the layers together.
    ///
    /// # Errors
    /// The first thing that keeps the configuration from being used; nothing is guessed or skipped.
    pub fn load(overrides: &Overrides, surroundings: &Surroundings<'_>) -> Result<Loaded, ConfigError> {
        let flags = flag_layer(overrides)?;
        let environment = environment_layer(surroundings)?;
        let file = match &overrides.config {
            Some(path) => file_layer(&surroundings.working_directory.join(path))?,
            None => Layer::new(),
        };
        let mut layers = [flags, environment, file];

        let mut config = Self::unresolved_defaults();
        let mut origins = Vec::with_capacity(keys::KEYS.len());
        for key in keys::KEYS {
            let origin = match layers.iter_mut().find_map(|layer| layer.remove(key.name)) {
                Some(Given { value, origin }) => {
                    key.set(&mut config, &value).map_err(|reason| ConfigError::Value {
                        key: key.name,
                        origin: origin.clone(),
                        reason,
                    })?;
                    origin
                }
                None => Origin::Default,
            };
            origins.push(origin);
        }
        config.resolve(surroundings);
        config.check()?;

        let values = keys::KEYS
            .iter()
            .zip(origins)
            .map(|(key, origin)| EffectiveValue {
                key: key.name,
                value: key.get(&mut config),
                origin,
                why: key.why,
            })
            .collect();
        Ok(Loaded { config, values })
    }

    /// The plugin that alone may register this capability, if it is an exclusive one. Where several
    /// patterns match, the longest counts.
    pub fn exclusive_owner(&self, capability: &CapabilityName) -> Option<&PluginName> {
        if capability.as_str().starts_with(AUTH_PREFIX) {
            return Some(&self.auth_provider);
        }
        self.bus_exclusive
            .iter()
            .filter(|(pattern, _)| pattern.matches(capability.as_str()))
            .max_by_key(|(pattern, _)| (pattern.as_str().len(), !pattern.as_str().ends_with('*')))
            .map(|(_, owner)| owner)
    }

    /// Every directory that may hold plugin folders, in the order in which they are searched.
    pub fn plugin_directories(&self) -> impl Iterator<Item = &Path> {
        self.plugins_dirs.iter().chain(&self.extra_plugins_dirs).map(PathBuf::as_path)
    }

    /// The defaults as `config/bkg.toml` shows them: relative paths are still relative, and what
    /// depends on the machine is empty. [`HostConfig::resolve`] fills it in.
    pub(super) fn unresolved_defaults() -> Self {
        Self {
            data_dir: PathBuf::from("./data"),
            plugin_folders: Vec::new(),
            plugins_dirs: Vec::new(),
            extra_plugins_dirs: Vec::new(),
            cache_dir: PathBuf::new(),
            models_dir: PathBuf::from("/srv/models"),
            dev: false,
            api_port: 43119,
            allowed_hosts: Vec::new(),
            listen: Vec::new(),
            trusted_proxies: Vec::new(),
            tls: TlsKeys::default(),
            bus_port: 43121,
            bus_exclusive: BTreeMap::new(),
            auth_provider: "apikeys".parse().expect("the default provider is a plugin name"),
            limits: Limits::default(),
            http: HttpLimits::default(),
            queue: QueueLimits::default(),
            supervisor: SupervisorTimes::default(),
            logs: LogKeys::default(),
            dispatch_order: BTreeMap::new(),
            routing: RoutingDocument::default(),
            prices: Prices::default(),
            prices_currency: "USD".to_owned(),
            telemetry_interval: Duration::from_secs(5),
            otlp: OtlpKeys::default(),
            runtime_threads: 1,
        }
    }

    fn resolve(&mut self, surroundings: &Surroundings<'_>) {
        // Joining component by component drops the `.` of `./data` and keeps `..`, which only the
        // file system can resolve.
        let absolute =
            |path: &Path| surroundings.working_directory.join(path).components().collect::<PathBuf>();
        self.data_dir = absolute(&self.data_dir);
        self.models_dir = absolute(&self.models_dir);
        self.cache_dir = if self.cache_dir.as_os_str().is_empty() {
            default_cache_dir(surroundings).unwrap_or_else(|| self.data_dir.join("cache"))
        } else {
            absolute(&self.cache_dir)
        };
        if self.plugins_dirs.is_empty() {
            self.plugins_dirs.push(bundled_plugins_dir(surroundings.executable));
        }
        for path in [&mut self.tls.cert, &mut self.tls.key] {
            if !path.as_os_str().is_empty() {
                *path = absolute(path);
            }
        }
        let directories = self.plugins_dirs.iter_mut().chain(&mut self.extra_plugins_dirs);
        for path in directories.chain(&mut self.plugin_folders) {
            *path = absolute(path);
        }
    }

    fn check(&self) -> Result<(), ConfigError> {
        let conflict = |key, value: &dyn fmt::Display, reason: String| {
            Err(ConfigError::Conflict { key, value: value.to_string(), reason })
        };
        if self.api_port != 0 && self.api_port == self.bus_port {
            return conflict(
                "bus.port",
                &self.bus_port,
                "`api.port` is the same: choose two ports".to_owned(),
            );
        }
        self.check_listeners()?;
        for (name, frame) in [
            ("limits.frame_to_extended_bytes", self.limits.frame_to_extended),
            ("limits.frame_from_plugin_bytes", self.limits.frame_from_plugin),
        ] {
            if self.limits.chunk.saturating_add(ENVELOPE_ROOM) > frame {
                let reason = format!(
                    "a chunk and its envelope ({ENVELOPE_ROOM} bytes) must fit into `{name}`, which is {frame}"
                );
                return conflict("limits.chunk_bytes", &self.limits.chunk, reason);
            }
        }
        if self.limits.cancel_degrades_after > self.limits.cancel_replaces_after {
            return conflict(
                "limits.cancel_degrades_after_ms",
                &self.limits.cancel_degrades_after.as_millis(),
                "`limits.cancel_replaces_after_ms` is shorter: an instance is degraded before it is replaced"
                    .to_owned(),
            );
        }
        if let Some(pattern) =
            self.bus_exclusive.keys().find(|pattern| pattern.as_str().starts_with(AUTH_PREFIX))
        {
            let reason = "the owner of `auth.*` is `auth.provider`: set that one instead".to_owned();
            return conflict("bus.exclusive", &format_args!("`{pattern}`"), reason);
        }
        Ok(())
    }
}

/// What starts the name of every capability that belongs to the auth provider alone.
const AUTH_PREFIX: &str = "auth.";

fn default_cache_dir(surroundings: &Surroundings<'_>) -> Option<PathBuf> {
    // An XDG directory that is not absolute is to be ignored, says the XDG base directory specification.
    let directory = |variable| {
        (surroundings.environment)(variable).map(PathBuf::from).filter(|path| path.is_absolute())
    };
    directory("XDG_CACHE_HOME")
        .or_else(|| directory("HOME").map(|home| home.join(".cache")))
        .map(|cache| cache.join("bkg"))
}

fn flag_layer(overrides: &Overrides) -> Result<Layer, ConfigError> {
    let mut layer = Layer::new();
    for key in keys::KEYS {
        let Some(name) = key.flag else { continue };
        let origin = Origin::Flag { name };
        let text = |path: &Path| match path.to_str() {
            Some(text) => Ok(toml::Value::from(text)),
            None => Err(not_text(key, origin.clone())),
        };
        let texts = |paths: &[PathBuf]| {
            let paths = paths.iter().map(|path| text(path)).collect::<Result<Vec<_>, _>>()?;
            Ok((!paths.is_empty()).then_some(toml::Value::Array(paths)))
        };
        let value = match key.name {
            "data_dir" => overrides.data_dir.as_deref().map(text).transpose()?,
            "plugin_folders" => texts(&overrides.plugin_folders)?,
            "plugins_dirs" => texts(&overrides.plugins_dirs)?,
            "dev" => overrides.dev.then_some(toml::Value::Boolean(true)),
            "api.listen" if overrides.listen.is_empty() => None,
            "api.listen" => {
                let addresses = overrides.listen.iter().map(|address| address.to_string().into());
                Some(toml::Value::Array(addresses.collect()))
            }
            "api.port" => overrides.api_port.map(|port| toml::Value::from(i64::from(port))),
            "bus.port" => overrides.bus_port.map(|port| toml::Value::from(i64::from(port))),
            other => unreachable!("`{other}` has a flag, so `Overrides` has a field for it"),
        };
        if let Some(value) = value {
            layer.insert(key.name, Given { value, origin });
        }
    }
    Ok(layer)
}

fn environment_layer(surroundings: &Surroundings<'_>) -> Result<Layer, ConfigError> {
    // A variable that is set to nothing counts as not set: that is how shells and units clear one.
    let lookup = |variable| (surroundings.environment)(variable).filter(|text| !text.is_empty());
    let mut layer = Layer::new();
    for key in keys::KEYS {
        let Some(mut variable) = key.environment else { continue };
        let mut text = lookup(variable);
        if text.is_none() && key.name == "bus.port" && lookup("BKG_PLUGIN_INSTANCE").is_none() {
            // The name that the shared bus had before: inside a launch it means the launch's own
            // listener, and a host started from there must not take that one.
            variable = "BKG_PLUGIN_BUS_PORT";
            text = lookup(variable);
        }
        let Some(text) = text else { continue };
        let origin = Origin::Environment { variable };
        let text = text.into_string().map_err(|_| not_text(key, origin.clone()))?;
        let value = key.parse(&text).map_err(|reason| ConfigError::Value {
            key: key.name,
            origin: origin.clone(),
            reason,
        })?;
        layer.insert(key.name, Given { value, origin });
    }
    Ok(layer)
}

fn not_text(key: &Key, origin: Origin) -> ConfigError {
    ConfigError::Value { key: key.name, origin, reason: "the value is not UTF-8".to_owned() }
}

fn file_layer(path: &Path) -> Result<Layer, ConfigError> {
    let text = std::fs::read_to_string(path)
        .map_err(|source| ConfigError::Unreadable { path: path.to_owned(), source })?;
    let syntax = |error: toml::de::Error| ConfigError::Syntax {
        path: path.to_owned(),
        line: line_of(&text, error.span().map_or(0, |span| span.start)),
        message: error.message().to_owned(),
    };
    let spans = DeTable::parse(&text).map_err(syntax)?;
    let values: toml::Table = text.parse().map_err(syntax)?;
    let mut file = File { path, text: &text, layer: Layer::new(), unknown: Vec::new() };
    file.walk("", spans.get_ref(), &values);
    match file.unknown.into_iter().min() {
        None => Ok(file.layer),
        Some((line, key)) => {
            let nearest = keys::nearest(&key);
            Err(ConfigError::UnknownKey { path: path.to_owned(), line, key, nearest })
        }
    }
}

struct File<'a> {
    path: &'a Path,
    text: &'a str,
    layer: Layer,
    unknown: Vec<(usize, String)>,
}

impl File<'_> {
    fn walk(&mut self, section: &str, spans: &DeTable<'_>, values: &toml::Table) {
        for (name, span) in spans {
            let line = line_of(self.text, name.span().start);
            let name: &str = name.get_ref();
            let dotted = if section.is_empty() { name.to_owned() } else { format!("{section}.{name}") };
            let value = &values[name];
            if let Some(key) = keys::KEYS.iter().find(|key| key.name == dotted) {
                let origin = Origin::File { path: self.path.to_owned(), line };
                self.layer.insert(key.name, Given { value: value.clone(), origin });
                continue;
            }
            match (span.get_ref(), value) {
                (DeValue::Table(spans), toml::Value::Table(values)) if keys::is_section(&dotted) => {
                    self.walk(&dotted, spans, values);
                }
                _ => self.unknown.push((line, dotted)),
            }
        }
    }
}

fn line_of(text: &str, position: usize) -> usize {
    text.as_bytes()[..position.min(text.len())].iter().filter(|byte| **byte == b'\n').count() + 1
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A host in `/work`, started as `/opt/bkg/bin/bkg`, with these variables and this file.
    struct Case {
        environment: Vec<(&'static str, &'static str)>,
        overrides: Overrides,
        file: Option<tempfile::NamedTempFile>,
    }

    impl Case {
        fn new() -> Self {
            Self { environment: vec![("HOME", "/home/user")], overrides: Overrides::default(), file: None }
        }

        fn environment(mut self, variable: &'static str, value: &'static str) -> Self {
            self.environment.push((variable, value));
            self
        }

        fn flags(mut self, set: impl FnOnce(&mut Overrides)) -> Self {
            set(&mut self.overrides);
            self
        }

        fn file(mut self, text: &str) -> Self {
            let file = tempfile::NamedTempFile::new().unwrap();
            std::fs::write(file.path(), text).unwrap();
            self.overrides.config = Some(file.path().to_owned());
            self.file = Some(file);
            self
        }

        fn load(&self) -> Result<Loaded, ConfigError> {
            let lookup = |name: &str| {
                self.environment
                    .iter()
                    .rfind(|(variable, _)| *variable == name)
                    .map(|(_, v)| OsString::from(v))
            };
            let surroundings = Surroundings {
                environment: &lookup,
                working_directory: Path::new("/here"),
                executable: Path::new("/opt/bkg/bin/bkg"),
            };
            HostConfig::load(&self.overrides, &surroundings)
        }

        fn config(&self) -> HostConfig {
            self.load().unwrap().config
        }

        fn value(&self, key: &str) -> (String, String) {
            let loaded = self.load().unwrap();
            let value = loaded.values.iter().find(|value| value.key == key).unwrap();
            (value.text(), value.origin.to_string())
        }

        fn error(&self) -> String {
            let text = self.load().unwrap_err().to_string();
            match &self.file {
                Some(file) => text.replace(&file.path().display().to_string(), "FILE"),
                None => text,
            }
        }
    }

    #[test]
    fn every_layer_wins_over_the_next() {
        let case = Case::new();
        assert_eq!(case.value("api.port"), ("43119".into(), "default".into()));
        let case = case.file("# ports\n[api]\nport = 1001\n");
        let path = case.file.as_ref().unwrap().path().display().to_string();
        assert_eq!(case.value("api.port"), ("1001".into(), format!("file {path}:3")));
        let case = case.environment("BKG_API_PORT", "1002");
        assert_eq!(case.value("api.port"), ("1002".into(), "environment BKG_API_PORT".into()));
        let case = case.flags(|flags| flags.api_port = Some(1003));
        assert_eq!(case.value("api.port"), ("1003".into(), "flag --api-port".into()));
        assert_eq!(case.config().api_port, 1003);
    }

    #[test]
    fn paths_become_absolute_from_the_working_directory() {
        let case = Case::new();
        assert_eq!(case.config().data_dir, Path::new("/here/data"));
        assert_eq!(case.config().models_dir, Path::new("/srv/models"));
        let case = case.file("data_dir = \"state\"\nmodels_dir = \"../models\"");
        assert_eq!(case.config().data_dir, Path::new("/here/state"));
        assert_eq!(case.config().models_dir, Path::new("/here/../models"));
        assert_eq!(case.value("data_dir").0, "\"/here/state\"");
    }

    #[test]
    fn the_cache_is_the_users_own_unless_it_is_set() {
        let cache = |case: Case| case.config().cache_dir;
        assert_eq!(cache(Case::new()), Path::new("/home/user/.cache/bkg"));
        assert_eq!(cache(Case::new().environment("XDG_CACHE_HOME", "/cache")), Path::new("/cache/bkg"));
        assert_eq!(
            cache(Case::new().environment("XDG_CACHE_HOME", "rel")),
            Path::new("/home/user/.cache/bkg")
        );
        assert_eq!(cache(Case::new().environment("BKG_CACHE_DIR", "c")), Path::new("/here/c"));
        assert_eq!(cache(Case { environment: vec![], ..Case::new() }), Path::new("/here/data/cache"));
    }

    #[test]
    fn the_flag_replaces_the_bundled_directory_and_the_variable_adds() {
        let case = Case::new().environment("BKG_PLUGINS_DIR", "/more::extra");
        let config = case.config();
        assert_eq!(config.plugins_dirs, [bundled_plugins_dir(Path::new("/opt/bkg/bin/bkg"))]);
        assert_eq!(config.extra_plugins_dirs, [Path::new("/more"), Path::new("/here/extra")]);

        let config = case.flags(|flags| flags.plugins_dirs = vec!["a".into(), "/b".into()]).config();
        let found: Vec<_> = config.plugin_directories().collect();
        assert_eq!(found, ["/here/a", "/b", "/more", "/here/extra"].map(Path::new));
    }

    #[test]
    fn a_plugin_folder_is_named_by_flag_variable_or_file_from_the_working_directory() {
        let case = Case::new().file("plugin_folders = ['file']");
        assert_eq!(case.config().plugin_folders, [Path::new("/here/file")]);
        let case = case.environment("BKG_PLUGIN_FOLDERS", "one:/two");
        assert_eq!(case.config().plugin_folders, ["/here/one", "/two"].map(Path::new));
        let case = case.flags(|flags| flags.plugin_folders = vec!["./flag".into()]);
        assert_eq!(case.config().plugin_folders, [Path::new("/here/flag")]);
        assert_eq!(case.value("plugin_folders").1, "flag --plugin");
    }

    #[test]
    fn nothing_is_watched_unless_somebody_says_so() {
        assert!(!Case::new().config().dev);
        assert!(Case::new().flags(|flags| flags.dev = true).config().dev);
        assert!(Case::new().file("dev = true").config().dev);
        let error = Case::new().file("dev = 1").error();
        assert_eq!(error, "`dev` (file FILE:1): use `true` or `false`, not `1`");
    }

    #[test]
    fn the_former_name_of_the_bus_port_counts_only_outside_a_launch() {
        let case = Case::new().environment("BKG_PLUGIN_BUS_PORT", "5000");
        assert_eq!(case.value("bus.port"), ("5000".into(), "environment BKG_PLUGIN_BUS_PORT".into()));
        let inside = case.environment("BKG_PLUGIN_INSTANCE", "0190");
        assert_eq!(inside.value("bus.port"), ("43121".into(), "default".into()));
        let both =
            Case::new().environment("BKG_PLUGIN_BUS_PORT", "5000").environment("BKG_BUS_PORT", "6000");
        assert_eq!(both.config().bus_port, 6000);
    }

    #[test]
    fn an_empty_variable_counts_as_not_set() {
        assert_eq!(Case::new().environment("BKG_API_PORT", "").config().api_port, 43119);
    }

    #[test]
    fn an_unknown_key_is_named_with_its_line_and_the_nearest_known_one() {
        let check = |file: &str, expected: &str| assert_eq!(Case::new().file(file).error(), expected);
        check(
            "\n[limits]\nchunk_byte = 1",
            "`FILE` line 3: there is no key `limits.chunk_byte`; the nearest is `limits.chunk_bytes`",
        );
        check("datadir = 'x'", "`FILE` line 1: there is no key `datadir`; the nearest is `data_dir`");
        check(
            "register_timeout_ms = 1",
            "`FILE` line 1: there is no key `register_timeout_ms`; the nearest is `supervisor.register_timeout_ms`",
        );
        check("[logz]\nlevel = 1", "`FILE` line 1: there is no key `logz`; the nearest is `logs.level`");
        check(
            "[api]\nport = { number = 1 }",
            "`api.port` (file FILE:2): use a whole number from 0 to 65535, not `{ number = 1 }`",
        );
        check("api = 3", "`FILE` line 1: there is no key `api`; the nearest is `api.port`");
    }

    #[test]
    fn the_first_of_several_unknown_keys_is_named() {
        let error = Case::new().file("zebra = 1\nant = 2\n").error();
        assert!(error.starts_with("`FILE` line 1: there is no key `zebra`"), "{error}");
    }

    #[test]
    fn what_is_not_toml_is_named_with_its_line() {
        let error = Case::new().file("data_dir = 'a'\n[api\n").error();
        assert!(error.starts_with("`FILE` line 2 is not TOML: "), "{error}");
        assert!(!error.contains('\n'), "{error}");
    }

    #[test]
    fn a_file_that_is_missing_is_an_error() {
        let error = Case::new().flags(|flags| flags.config = Some("none.toml".into())).error();
        assert!(error.starts_with("cannot read the configuration file `/here/none.toml`: "), "{error}");
    }

    #[test]
    fn a_wrong_value_says_where_it_stands_and_what_is_right() {
        let check = |file: &str, expected: &str| assert_eq!(Case::new().file(file).error(), expected);
        check(
            "api.port = 70000",
            "`api.port` (file FILE:1): use a whole number from 0 to 65535, not `70000`",
        );
        check(
            "api.port = '1'",
            "`api.port` (file FILE:1): use a whole number from 0 to 65535, not `\"1\"`",
        );
        check(
            "limits.stream_credit = 0",
            "`limits.stream_credit` (file FILE:1): use a whole number from 1 to 4294967295, not `0`",
        );
        check(
            "limits.heartbeat_ms = 1.5",
            "`limits.heartbeat_ms` (file FILE:1): use a whole number from 100 to 31536000000, not `1.5`",
        );
        check("data_dir = ''", "`data_dir` (file FILE:1): use a path, not `\"\"`");
        check(
            "plugins_dirs = 'a'",
            "`plugins_dirs` (file FILE:1): use a list of paths such as `[\"/srv/plugins\"]`, not `\"a\"`",
        );
        check(
            "logs.format = 'xml'",
            "`logs.format` (file FILE:1): use `\"text\"` or `\"json\"`, not `\"xml\"`",
        );
        check(
            "logs.level = 'loud'",
            "`logs.level` (file FILE:1): use a level (`off`, `error`, `warn`, `info`, `debug`, `trace`) or a list such as `\"info,bkg::bus=debug\"`, not `\"loud\"`",
        );
        check(
            "auth.provider = 'A'",
            "`auth.provider` (file FILE:1): `A` is not a plugin name: use 1 to 63 of a-z, 0-9, `_`, `-`, starting with a letter or digit",
        );
        let error = Case::new().environment("BKG_BUS_PORT", "x").error();
        assert_eq!(
            error,
            "`bus.port` (environment BKG_BUS_PORT): use a whole number from 0 to 65535, not `x`"
        );
    }

    #[test]
    fn values_that_collide_are_refused() {
        let check = |file: &str, expected: &str| assert_eq!(Case::new().file(file).error(), expected);
        check(
            "api.port = 7\nbus.port = 7",
            "`bus.port` is 7, but `api.port` is the same: choose two ports",
        );
        check(
            "limits.chunk_bytes = 16777216",
            "`limits.chunk_bytes` is 16777216, but a chunk and its envelope (4096 bytes) must fit into \
             `limits.frame_to_extended_bytes`, which is 16777216",
        );
        check(
            "bus.exclusive = { \"auth.*\" = \"other\" }",
            "`bus.exclusive` is `auth.*`, but the owner of `auth.*` is `auth.provider`: set that one instead",
        );
        assert_eq!(Case::new().file("api.port = 0\nbus.port = 0").config().api_port, 0);
    }

    #[test]
    fn auth_belongs_to_its_provider_and_the_rest_to_the_longest_pattern() {
        let config = Case::new()
            .file("auth.provider = 'own'\n[bus.exclusive]\n'*' = 'all'\n'repo.*' = 'agent'\n'repo.tree' = 'tree'\n")
            .config();
        let owner = |name: &str| config.exclusive_owner(&name.parse().unwrap()).unwrap().to_string();
        assert_eq!(owner("auth.validate"), "own");
        assert_eq!(owner("repo.tree"), "tree");
        assert_eq!(owner("repo.trees"), "agent");
        assert_eq!(owner("llm.chat"), "all");
        let defaults = Case::new().config();
        assert_eq!(defaults.exclusive_owner(&"auth.login".parse().unwrap()).unwrap().as_str(), "apikeys");
        assert_eq!(defaults.exclusive_owner(&"llm.chat".parse().unwrap()), None);
    }

    #[test]
    fn the_dispatch_order_is_written_with_or_without_quotes() {
        let expected = BTreeMap::from([(
            "llm.chat".parse().unwrap(),
            vec!["b".parse().unwrap(), "a".parse().unwrap()],
        )]);
        for file in ["[dispatch.order]\n'llm.chat' = ['b', 'a']", "dispatch.order.llm.chat = ['b', 'a']"] {
            assert_eq!(Case::new().file(file).config().dispatch_order, expected, "{file}");
        }
        let error = Case::new().file("dispatch.order.llm = ['a']").error();
        assert!(error.contains("`llm` is not a capability name"), "{error}");
    }

    #[test]
    fn every_bound_has_its_key() {
        // No `..` here: a new field does not compile until it is listed, and fails until it has a key.
        let config = Case::new()
            .file(
                "[limits]
                frame_to_extended_bytes = 1000001
                frame_to_base_bytes = 1000002
                frame_from_plugin_bytes = 1000003
                chunk_bytes = 2004
                stream_credit = 5
                register_within_ms = 1006
                heartbeat_ms = 1007
                ping_every_ms = 1038
                pong_within_ms = 1039
                in_flight = 8
                in_flight_from_plugin = 9
                in_flight_from_plugin_bytes = 1000047
                unread_bytes = 1000040
                unread_frames = 41
                unreadable_frames = 10
                unreadable_window_ms = 1011
                cancel_degrades_after_ms = 1012
                cancel_replaces_after_ms = 1013
                call_depth = 14
                header_bytes = 10015
                header_count = 16
                header_read_timeout_ms = 1017
                first_byte_timeout_ms = 1018
                body_bytes = 10019
                json_depth = 20
                request_timeout_ms = 1021
                write_timeout_ms = 1042
                body_timeout_ms = 1043
                body_bytes_per_second = 44
                connections = 22
                connections_per_address = 45
                unproven_per_address = 46
                queue_requests = 23
                queue_bytes = 24
                queue_wait_ms = 25
                [supervisor]
                register_timeout_ms = 1026
                prepare_timeout_ms = 1027
                grace_ms = 28
                drain_ms = 29
                swap_hold_ms = 35
                parallel_starts = 30
                cgroups = 'off'
                cgroup_parent = '/bkg'
                [logs]
                level = 'warn'
                format = 'json'
                ring_lines = 31
                segment_bytes = 200032
                segments = 33
                segment_age_hours = 36
                keep_days = 37
                lines_per_second = 34
                [runtime]
                threads = 35",
            )
            .config();
        let ms = Duration::from_millis;
        assert_eq!(
            config.limits,
            Limits {
                frame_to_extended: 1_000_001,
                frame_to_base: 1_000_002,
                frame_from_plugin: 1_000_003,
                chunk: 2004,
                stream_credit: 5,
                register_within: ms(1006),
                heartbeat: ms(1007),
                ping_every: ms(1038),
                pong_within: ms(1039),
                in_flight: 8,
                in_flight_from_plugin: 9,
                in_flight_from_plugin_bytes: 1_000_047,
                unread_bytes: 1_000_040,
                unread_frames: 41,
                unreadable_frames: 10,
                unreadable_window: ms(1011),
                cancel_degrades_after: ms(1012),
                cancel_replaces_after: ms(1013),
                call_depth: 14,
            }
        );
        assert_eq!(
            config.http,
            HttpLimits {
                header_bytes: 10_015,
                header_count: 16,
                header_read_timeout: ms(1017),
                first_byte_timeout: ms(1018),
                body_bytes: 10_019,
                json_depth: 20,
                request_timeout: ms(1021),
                write_timeout: ms(1042),
                body_timeout: ms(1043),
                body_rate: 44,
                connections: 22,
                connections_per_address: 45,
                unproven_per_address: 46,
            }
        );
        assert_eq!(config.queue, QueueLimits { requests: 23, bytes: 24, wait: ms(25) });
        assert_eq!(
            config.supervisor,
            SupervisorTimes {
                register_timeout: ms(1026),
                prepare_timeout: ms(1027),
                grace: ms(28),
                drain: ms(29),
                swap_hold: ms(35),
                parallel_starts: 30,
                cgroups: CgroupUse::Off,
                cgroup_parent: "/bkg".into(),
            }
        );
        assert_eq!(
            config.logs,
            LogKeys {
                level: "warn".into(),
                format: LogFormat::Json,
                ring_lines: 31,
                segment_bytes: 200_032,
                segments: 33,
                segment_age: Duration::from_secs(36 * 3_600),
                keep: Duration::from_secs(37 * 86_400),
                lines_per_second: 34,
            }
        );
        assert_eq!(config.runtime_threads, 35);
    }

    #[test]
    fn a_value_shows_its_origin_in_json() {
        let loaded = Case::new().environment("BKG_API_PORT", "80").load().unwrap();
        let value = loaded.values.iter().find(|value| value.key == "api.port").unwrap();
        let json = serde_json::to_value(value).unwrap();
        assert_eq!(json["value"], 80);
        assert_eq!(json["origin"], serde_json::json!({"kind": "environment", "variable": "BKG_API_PORT"}));
    }
}
