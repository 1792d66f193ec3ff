//! The table of the host's configuration keys: name, reason, field, bounds, variable, flag.
//!
//! One row per key and nothing about a key anywhere else: reading, printing, `config/bkg.toml` and
//! error messages all come from here. Not the layers and their precedence: that is `host`.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use bkg_protocol::{CapabilityName, Pattern, PluginName};
use ipnet::IpNet;
use toml::Value;

use super::host::{CgroupUse, HostConfig, LogFormat};
use super::otlp::{OtlpHeaders, headers_in, is_endpoint};
use super::prices::Prices;
use super::routing::RoutingDocument;

/// One key of the host's configuration.
#[derive(Clone, Copy)]
pub(super) struct Key {
    /// The dotted name in the file.
    pub(super) name: &'static str,
    /// What it is for, in one line.
    pub(super) why: &'static str,
    /// The environment variable that sets it.
    pub(super) environment: Option<&'static str>,
    /// The flag that sets it.
    pub(super) flag: Option<&'static str>,
    field: Field,
}

/// Where a key's value lives, and what may stand there.
#[derive(Clone, Copy)]
enum Field {
    Path(fn(&mut HostConfig) -> &mut PathBuf),
    /// A path that may be left empty, which then means what the key's reason says.
    PathOrEmpty(fn(&mut HostConfig) -> &mut PathBuf),
    Paths(fn(&mut HostConfig) -> &mut Vec<PathBuf>),
    /// On or off.
    Switch(fn(&mut HostConfig) -> &mut bool),
    /// Names of hosts, without ports.
    Hosts(fn(&mut HostConfig) -> &mut Vec<String>),
    /// Addresses with ports.
    Addresses(fn(&mut HostConfig) -> &mut Vec<SocketAddr>),
    /// Networks; an address is a network of one.
    Networks(fn(&mut HostConfig) -> &mut Vec<IpNet>),
    Port(fn(&mut HostConfig) -> &mut u16),
    /// Bytes or a number of things, not below the first value.
    Size(u32, fn(&mut HostConfig) -> &mut usize),
    Count(fn(&mut HostConfig) -> &mut u32),
    /// Whole milliseconds, not below the first value.
    Milliseconds(u32, fn(&mut HostConfig) -> &mut Duration),
    /// Whole units of so many seconds, at least one.
    Times(u64, fn(&mut HostConfig) -> &mut Duration),
    Plugin(fn(&mut HostConfig) -> &mut PluginName),
    Owners(fn(&mut HostConfig) -> &mut BTreeMap<Pattern, PluginName>),
    Routes(fn(&mut HostConfig) -> &mut RoutingDocument),
    Order(fn(&mut HostConfig) -> &mut BTreeMap<CapabilityName, Vec<PluginName>>),
    Level(fn(&mut HostConfig) -> &mut String),
    Format(fn(&mut HostConfig) -> &mut LogFormat),
    Cgroups(fn(&mut HostConfig) -> &mut CgroupUse),
    /// A text without line breaks, not empty.
    Word(fn(&mut HostConfig) -> &mut String),
    /// An address of HTTP, or empty.
    Endpoint(fn(&mut HostConfig) -> &mut String),
    /// Headers, which are shown without their values.
    Headers(fn(&mut HostConfig) -> &mut OtlpHeaders),
    /// From 0 to 1.
    Ratio(fn(&mut HostConfig) -> &mut f64),
    /// What models cost.
    PriceTable(fn(&mut HostConfig) -> &mut Prices),
    /// A short word that is shown beside amounts.
    Currency(fn(&mut HostConfig) -> &mut String),
}

use Field::{
    Addresses, Cgroups, Count, Currency, Endpoint, Format, Headers, Hosts, Level, Milliseconds, Networks,
    Order, Owners, Path, PathOrEmpty, Paths, Plugin, Port, PriceTable, Ratio, Routes, Size, Switch, Times,
    Word,
};

/// In seconds.
const HOUR: u64 = 60 * 60;
/// The longest that a key in hours or days takes, in units.
const MOST_TIMES: u64 = 36_500;

/// Every key, in the order of `config/bkg.toml`; the keys of one section stand together.
pub(super) static KEYS: &[Key] = &[
    key("data_dir", "Where the host and its plugins keep their state; relative paths start from the working directory.", Path(|c| &mut c.data_dir))
        .environment("BKG_DATA_DIR").flag("--data-dir"),
    key("plugin_folders", "Single plugin folders; each wins over a plugin of the same name in a directory.", Paths(|c| &mut c.plugin_folders))
        .environment("BKG_PLUGIN_FOLDERS").flag("--plugin"),
    key("plugins_dirs", "Directories of plugin folders; an empty list means the bundled one.", Paths(|c| &mut c.plugins_dirs))
        .flag("--plugins-dir"),
    key("extra_plugins_dirs", "Directories of plugin folders that are searched after `plugins_dirs`.", Paths(|c| &mut c.extra_plugins_dirs))
        .environment("BKG_PLUGINS_DIR"),
    key("cache_dir", "Builds and virtual environments of plugins; empty means `$XDG_CACHE_HOME/bkg`, else `$HOME/.cache/bkg`.", PathOrEmpty(|c| &mut c.cache_dir))
        .environment("BKG_CACHE_DIR"),
    key("models_dir", "Where model files are mounted; plugins find it in their environment.", Path(|c| &mut c.models_dir))
        .environment("BKG_MODELS_DIR"),
    key("prices", "What models cost, such as `{ \"gpt-*\" = { input_per_million = 2.5, output_per_million = 10 } }`; a name is a model, `plugin/model` or a pattern.", PriceTable(|c| &mut c.prices)),
    key("prices_currency", "What prices and the budgets of keys and users are in.", Currency(|c| &mut c.prices_currency)),
    key("dev", "Whether plugins are watched, and started again after an edit; for the machine of whoever writes them.", Switch(|c| &mut c.dev))
        .flag("--dev"),

    key("api.port", "The loopback port of the HTTP surface; 0 takes a free one.", Port(|c| &mut c.api_port))
        .environment("BKG_API_PORT").flag("--api-port"),
    key("api.allowed_hosts", "Names besides `localhost` under which browsers may reach the HTTP surface, without ports.", Hosts(|c| &mut c.allowed_hosts)),
    key("api.listen", "Further addresses of the HTTP surface, such as `0.0.0.0:443`; off loopback only with `[tls]`, or for `trusted_proxies` alone.", Addresses(|c| &mut c.listen))
        .flag("--listen"),
    key("api.trusted_proxies", "Networks of reverse proxies, such as `10.0.0.0/8`; what they say of their clients in `X-Forwarded-*` is believed.", Networks(|c| &mut c.trusted_proxies)),

    key("tls.cert", "The certificate for `api.listen`, with its chain, in a PEM file; read again when it changes.", PathOrEmpty(|c| &mut c.tls.cert)),
    key("tls.key", "The private key of the certificate, in a PEM file.", PathOrEmpty(|c| &mut c.tls.key)),
    key("tls.hsts_days", "For how many days a browser then refuses plain HTTP to the same name, on every port; 0 asks for nothing.", Size(0, |c| &mut c.tls.hsts_days)),

    key("auth.provider", "The plugin that alone answers `auth.*`.", Plugin(|c| &mut c.auth_provider)),

    key("bus.port", "The loopback port of the shared bus, for plugins that run elsewhere; 0 takes a free one.", Port(|c| &mut c.bus_port))
        .environment("BKG_BUS_PORT").flag("--bus-port"),
    key("bus.exclusive", "Capabilities that one plugin alone may register, such as `{ \"repo.*\" = \"repoagent\" }`.", Owners(|c| &mut c.bus_exclusive)),

    key("dispatch.order", "Who answers a capability first, such as `{ \"llm.chat\" = [\"providers\", \"llmserver\"] }`; others follow in catalogue order.", Order(|c| &mut c.dispatch_order)),

    key("routing.routes", "Names that stand for models, such as `{ fast = { targets = [{ model = \"a\" }], fallbacks = [\"b\"] } }`; what `bkg route` saved holds instead.", Routes(|c| &mut c.routing)),

    key("limits.frame_to_extended_bytes", "The largest frame towards a plugin of the extended contract that names no bound.", Size(64 << 10, |c| &mut c.limits.frame_to_extended)),
    key("limits.frame_to_base_bytes", "The largest frame towards a plugin of the base contract that names no bound; several WebSocket libraries stop at 1 MiB.", Size(64 << 10, |c| &mut c.limits.frame_to_base)),
    key("limits.frame_from_plugin_bytes", "The largest frame from a plugin; a larger one ends its session.", Size(64 << 10, |c| &mut c.limits.frame_from_plugin)),
    key("limits.chunk_bytes", "The largest piece of a streamed answer; smaller ones keep other streams lively.", Size(1 << 10, |c| &mut c.limits.chunk)),
    key("limits.stream_credit", "How many pieces of one stream may be unread; bounds what a slow reader costs.", Count(|c| &mut c.limits.stream_credit)),
    key("limits.register_within_ms", "How long a connection to the bus may stay silent before it registers.", Milliseconds(100, |c| &mut c.limits.register_within)),
    key("limits.heartbeat_ms", "How often a plugin says how it is; 2.5 times that without a word makes it unhealthy.", Milliseconds(100, |c| &mut c.limits.heartbeat)),
    key("limits.ping_every_ms", "How often a plugin of the extended contract is pinged, to notice a link that is dead.", Milliseconds(100, |c| &mut c.limits.ping_every)),
    key("limits.pong_within_ms", "How long the answer to a ping may take before the link is closed.", Milliseconds(100, |c| &mut c.limits.pong_within)),
    key("limits.in_flight", "How many requests one instance works on at once if its entry names no `maxConcurrency`.", Count(|c| &mut c.limits.in_flight)),
    key("limits.in_flight_from_plugin", "How many requests one instance may have open at the host.", Count(|c| &mut c.limits.in_flight_from_plugin)),
    key("limits.in_flight_from_plugin_bytes", "How many bytes the open requests of one instance at the host may have.", Size(64 << 10, |c| &mut c.limits.in_flight_from_plugin_bytes)),
    key("limits.unread_bytes", "How many bytes of answers may wait for a plugin that does not read them; more ends its session.", Size(64 << 10, |c| &mut c.limits.unread_bytes)),
    key("limits.unread_frames", "How many answers may wait for a plugin that does not read them; more ends its session.", Count(|c| &mut c.limits.unread_frames)),
    key("limits.unreadable_frames", "How many frames that cannot be read are borne within the window.", Count(|c| &mut c.limits.unreadable_frames)),
    key("limits.unreadable_window_ms", "The window in which frames that cannot be read are counted.", Milliseconds(100, |c| &mut c.limits.unreadable_window)),
    key("limits.cancel_degrades_after_ms", "How long a cancelled request may stay unanswered before its instance counts as degraded.", Milliseconds(100, |c| &mut c.limits.cancel_degrades_after)),
    key("limits.cancel_replaces_after_ms", "How long a cancelled request may stay unanswered before its instance is replaced.", Milliseconds(100, |c| &mut c.limits.cancel_replaces_after)),
    key("limits.call_depth", "How deep plugins may call one another; ends circles.", Count(|c| &mut c.limits.call_depth)),
    key("limits.header_bytes", "All headers of an HTTP request together; bounds what a caller without a key costs.", Size(8 << 10, |c| &mut c.http.header_bytes)),
    key("limits.header_count", "How many headers an HTTP request may have.", Size(1, |c| &mut c.http.header_count)),
    key("limits.header_read_timeout_ms", "From the first byte of a request to the end of its headers; closes slow senders.", Milliseconds(100, |c| &mut c.http.header_read_timeout)),
    key("limits.first_byte_timeout_ms", "From accepting a connection to its first byte; closes silent ones.", Milliseconds(100, |c| &mut c.http.first_byte_timeout)),
    key("limits.body_bytes", "The largest body of a request.", Size(1 << 10, |c| &mut c.http.body_bytes)),
    key("limits.json_depth", "How deep the JSON of a request may nest.", Size(1, |c| &mut c.http.json_depth)),
    key("limits.request_timeout_ms", "The whole of a request, streams included.", Milliseconds(100, |c| &mut c.http.request_timeout)),
    key("limits.write_timeout_ms", "How long a client may take nothing of what it is sent before its connection is closed.", Milliseconds(100, |c| &mut c.http.write_timeout)),
    key("limits.body_timeout_ms", "How long the body of a request may take, besides the time that its bytes are given.", Milliseconds(100, |c| &mut c.http.body_timeout)),
    key("limits.body_bytes_per_second", "How many bytes of a body are to arrive each second, on average; a slower one is given up.", Size(1, |c| &mut c.http.body_rate)),
    key("limits.connections", "How many HTTP connections may be open, on loopback and through `api.listen` each.", Size(1, |c| &mut c.http.connections)),
    key("limits.connections_per_address", "How many HTTP connections one address may have through `api.listen`; trusted proxies and this machine may have all.", Size(1, |c| &mut c.http.connections_per_address)),
    key("limits.unproven_per_address", "How many of those may not have shown a valid credential yet.", Size(1, |c| &mut c.http.unproven_per_address)),
    key("limits.queue_requests", "How many requests may wait for a free slot of one plugin; 0 answers at once that it is overloaded.", Size(0, |c| &mut c.queue.requests)),
    key("limits.queue_bytes", "How many bytes of requests may wait for a free slot of one plugin.", Size(0, |c| &mut c.queue.bytes)),
    key("limits.queue_wait_ms", "How long a request may wait for a free slot.", Milliseconds(0, |c| &mut c.queue.wait)),

    key("supervisor.register_timeout_ms", "How long a launched plugin may take to register.", Milliseconds(100, |c| &mut c.supervisor.register_timeout)),
    key("supervisor.prepare_timeout_ms", "How long a plugin's `prepare.sh`, or its first build, may take.", Milliseconds(100, |c| &mut c.supervisor.prepare_timeout)),
    key("supervisor.grace_ms", "From SIGTERM to SIGKILL.", Milliseconds(0, |c| &mut c.supervisor.grace)),
    key("supervisor.drain_ms", "How long a plugin may finish its work before SIGTERM.", Milliseconds(0, |c| &mut c.supervisor.drain)),
    key("supervisor.swap_hold_ms", "How long a version is kept ready to come back after another took over.", Milliseconds(0, |c| &mut c.supervisor.swap_hold)),
    key("supervisor.parallel_starts", "How many plugins may be starting at the same time; more make each slower.", Size(1, |c| &mut c.supervisor.parallel_starts)),
    key("supervisor.cgroups", "Whether launches get cgroups of their own where that is possible: `auto` or `off`.", Cgroups(|c| &mut c.supervisor.cgroups)),
    key("supervisor.cgroup_parent", "Below which cgroup those of launches are made, such as `/bkg`; empty means the host's own.", PathOrEmpty(|c| &mut c.supervisor.cgroup_parent)),

    key("logs.level", "What the host logs: a level, or a list such as `info,bkg::bus=debug`.", Level(|c| &mut c.logs.level))
        .environment("BKG_LOG"),
    key("logs.format", "How the host logs: `text` for people, `json` for machines.", Format(|c| &mut c.logs.format)),
    key("logs.ring_lines", "How many log lines of each plugin stay in memory.", Size(1, |c| &mut c.logs.ring_lines)),
    key("logs.segment_bytes", "How large one log file of a plugin may become before the next is begun.", Size(128 << 10, |c| &mut c.logs.segment_bytes)),
    key("logs.segments", "How many log files of each plugin are kept; the oldest goes first.", Size(2, |c| &mut c.logs.segments)),
    key("logs.segment_age_hours", "How long lines go into the same log file before the next is begun.", Times(HOUR, |c| &mut c.logs.segment_age)),
    key("logs.keep_days", "How long a log file is kept after its last line.", Times(24 * HOUR, |c| &mut c.logs.keep)),
    key("logs.lines_per_second", "How many lines a second an instance may log before only a sample is kept.", Count(|c| &mut c.logs.lines_per_second)),

    key("telemetry.interval_ms", "How often the processes of plugins are measured; figures of half an hour are kept.", Milliseconds(100, |c| &mut c.telemetry_interval)),

    key("telemetry.otlp.endpoint", "The OpenTelemetry collector that traces go to, over HTTP, such as `http://127.0.0.1:4318`; empty for none.", Endpoint(|c| &mut c.otlp.endpoint))
        .environment("OTEL_EXPORTER_OTLP_ENDPOINT"),
    key("telemetry.otlp.headers", "Headers for the collector, such as `{ authorization = \"Bearer …\" }`; shown without their values.", Headers(|c| &mut c.otlp.headers))
        .environment("OTEL_EXPORTER_OTLP_HEADERS"),
    key("telemetry.otlp.sample_ratio", "Which share of the traces that begin at the host is recorded; one that came with a request is recorded if it says so.", Ratio(|c| &mut c.otlp.sample_ratio)),
    key("telemetry.otlp.service_name", "What the host is called in traces.", Word(|c| &mut c.otlp.service_name))
        .environment("OTEL_SERVICE_NAME"),

    key("runtime.threads", "How many threads run the host's tasks.", Count(|c| &mut c.runtime_threads)),
];

const fn key(name: &'static str, why: &'static str, field: Field) -> Key {
    Key { name, why, environment: None, flag: None, field }
}

impl Key {
    const fn environment(mut self, variable: &'static str) -> Self {
        self.environment = Some(variable);
        self
    }

    const fn flag(mut self, name: &'static str) -> Self {
        self.flag = Some(name);
        self
    }

    /// Writes `value` into its field, or says what may stand there.
    pub(super) fn set(&self, config: &mut HostConfig, value: &Value) -> Result<(), String> {
        let refuse = |right: &str| Err(format!("use {right}, not `{value}`"));
        match self.field {
            Path(field) => match value.as_str() {
                Some(text) if !text.is_empty() => *field(config) = PathBuf::from(text),
                _ => return refuse("a path"),
            },
            PathOrEmpty(field) => match value.as_str() {
                Some(text) => *field(config) = PathBuf::from(text),
                None => return refuse("a path"),
            },
            Paths(field) => match texts(value) {
                Some(paths) if paths.iter().all(|path| !path.is_empty()) => {
                    *field(config) = paths.into_iter().map(PathBuf::from).collect();
                }
                _ => return refuse("a list of paths such as `[\"/srv/plugins\"]`"),
            },
            Switch(field) => match value.as_bool() {
                Some(value) => *field(config) = value,
                None => return refuse("`true` or `false`"),
            },
            Hosts(field) => match texts(value) {
                Some(hosts) if hosts.iter().all(|host| is_host(host)) => {
                    *field(config) = hosts.into_iter().map(str::to_ascii_lowercase).collect();
                }
                _ => {
                    return refuse(
                        "a list of names such as `[\"bkg.example.org\"]`, without `http://` and ports",
                    );
                }
            },
            Addresses(field) => match texts(value).map(|texts| texts.into_iter().map(str::parse).collect())
            {
                Some(Ok(addresses)) => *field(config) = addresses,
                _ => {
                    return refuse(
                        "a list of addresses with ports such as `[\"0.0.0.0:443\", \"[::]:443\"]`",
                    );
                }
            },
            Networks(field) => match texts(value).map(|texts| texts.into_iter().map(network).collect()) {
                Some(Some(networks)) => *field(config) = networks,
                _ => {
                    return refuse(
                        "a list of networks such as `[\"10.0.0.0/8\", \"192.0.2.7\"]`, none of which is everybody",
                    );
                }
            },
            Port(field) => *field(config) = number(value, 0, u16::MAX.into())? as u16,
            Size(least, field) => *field(config) = number(value, least.into(), u32::MAX.into())? as usize,
            Count(field) => *field(config) = number(value, 1, u32::MAX.into())? as u32,
            Milliseconds(least, field) => {
                *field(config) = Duration::from_millis(number(value, least.into(), LONGEST_MILLISECONDS)?);
            }
            Times(unit, field) => {
                *field(config) = Duration::from_secs(unit * number(value, 1, MOST_TIMES)?);
            }
            Plugin(field) => match value.as_str() {
                Some(name) => *field(config) = name.parse().map_err(error_text)?,
                None => return refuse("the name of a plugin"),
            },
            Owners(field) => {
                let right = "a table such as `{ \"repo.*\" = \"repoagent\" }`";
                let Value::Table(table) = value else { return refuse(right) };
                let mut owners = BTreeMap::new();
                for (pattern, owner) in flattened(table) {
                    let Some(owner) = owner.as_str() else { return refuse(right) };
                    let pattern = pattern.parse().map_err(error_text)?;
                    owners.insert(pattern, owner.parse().map_err(error_text)?);
                }
                *field(config) = owners;
            }
            Routes(field) => {
                let routes = serde_json::to_value(value).map_err(error_text)?;
                let document = serde_json::json!({ "routes": routes });
                *field(config) = RoutingDocument::read(&document).map_err(|found| {
                    let first = found.first().expect("who refuses a document says why");
                    format!("{}: {}", first.path, first.message)
                })?;
            }
            Order(field) => {
                let right = "a table such as `{ \"llm.chat\" = [\"llmserver\"] }`";
                let Value::Table(table) = value else { return refuse(right) };
                let mut order = BTreeMap::new();
                for (capability, plugins) in flattened(table) {
                    let Some(plugins) = texts(plugins) else { return refuse(right) };
                    let plugins = plugins.into_iter().map(str::parse).collect::<Result<_, _>>();
                    order.insert(capability.parse().map_err(error_text)?, plugins.map_err(error_text)?);
                }
                *field(config) = order;
            }
            Level(field) => match value.as_str() {
                Some(text) if is_level_list(text) => *field(config) = text.to_owned(),
                _ => {
                    return refuse(
                        "a level (`off`, `error`, `warn`, `info`, `debug`, `trace`) or a list such as \
                         `\"info,bkg::bus=debug\"`",
                    );
                }
            },
            Format(field) => match value.as_str() {
                Some("text") => *field(config) = LogFormat::Text,
                Some("json") => *field(config) = LogFormat::Json,
                _ => return refuse("`\"text\"` or `\"json\"`"),
            },
            Cgroups(field) => match value.as_str() {
                Some("auto") => *field(config) = CgroupUse::Auto,
                Some("off") => *field(config) = CgroupUse::Off,
                _ => return refuse("`\"auto\"` or `\"off\"`"),
            },
            Word(field) => match value.as_str() {
                Some(text) if !text.trim().is_empty() && !text.contains(char::is_control) => {
                    *field(config) = text.to_owned();
                }
                _ => return refuse("a name"),
            },
            Endpoint(field) => match value.as_str() {
                Some(text) if text.is_empty() || is_endpoint(text) => *field(config) = text.to_owned(),
                // What is wrong about it may be the password in it, so it is not repeated.
                _ => {
                    return Err(
                        "use an address such as `http://127.0.0.1:4318`, without credentials and query"
                            .to_owned(),
                    );
                }
            },
            Headers(field) => {
                let right = "use a table of texts such as `{ authorization = \"Bearer …\" }`";
                let Value::Table(table) = value else { return Err(right.to_owned()) };
                let pairs = table.iter().map(|(name, value)| Some((name.as_str(), value.as_str()?)));
                let pairs: Option<Vec<_>> = pairs.collect();
                *field(config) = OtlpHeaders::of(pairs.ok_or(right)?.into_iter())?;
            }
            Ratio(field) => {
                let number = value.as_float().or_else(|| value.as_integer().map(|number| number as f64));
                match number.filter(|number| (0.0..=1.0).contains(number)) {
                    Some(number) => *field(config) = number,
                    None => return refuse("a number from 0 to 1"),
                }
            }
            PriceTable(field) => *field(config) = Prices::read(value)?,
            Currency(field) => match value.as_str() {
                Some(word)
                    if (1..=8).contains(&word.len())
                        && word.bytes().all(|byte| byte.is_ascii_alphabetic()) =>
                {
                    *field(config) = word.to_owned();
                }
                _ => return refuse("a word of 1 to 8 letters such as `\"EUR\"`"),
            },
        }
        Ok(())
    }

    /// The value in its field. The configuration is lent mutably because fields have one accessor
    /// each; nothing is changed.
    pub(super) fn get(&self, config: &mut HostConfig) -> Value {
        let path = |path: &PathBuf| Value::from(path.display().to_string());
        fn shown(value: &impl ToString) -> Value {
            Value::from(value.to_string())
        }
        match self.field {
            Path(field) | PathOrEmpty(field) => path(field(config)),
            Paths(field) => Value::Array(field(config).iter().map(path).collect()),
            Switch(field) => Value::from(*field(config)),
            Hosts(field) => Value::Array(field(config).iter().map(|host| host.as_str().into()).collect()),
            Addresses(field) => Value::Array(field(config).iter().map(shown).collect()),
            Networks(field) => Value::Array(field(config).iter().map(shown).collect()),
            Port(field) => Value::from(i64::from(*field(config))),
            Size(_, field) => Value::from(*field(config) as i64),
            Count(field) => Value::from(i64::from(*field(config))),
            Milliseconds(_, field) => Value::from(field(config).as_millis() as i64),
            Times(unit, field) => Value::from((field(config).as_secs() / unit) as i64),
            Plugin(field) => Value::from(field(config).as_str()),
            Owners(field) => Value::Table(
                field(config)
                    .iter()
                    .map(|(pattern, owner)| (pattern.to_string(), owner.as_str().into()))
                    .collect(),
            ),
            Routes(field) => Value::try_from(&field(config).routes).expect("routes have a TOML form"),
            Order(field) => Value::Table(
                field(config)
                    .iter()
                    .map(|(capability, plugins)| {
                        let plugins = plugins.iter().map(|plugin| Value::from(plugin.as_str())).collect();
                        (capability.to_string(), Value::Array(plugins))
                    })
                    .collect(),
            ),
            Level(field) => Value::from(field(config).as_str()),
            Format(field) => Value::from(match field(config) {
                LogFormat::Text => "text",
                LogFormat::Json => "json",
            }),
            Cgroups(field) => Value::from(match field(config) {
                CgroupUse::Auto => "auto",
                CgroupUse::Off => "off",
            }),
            Word(field) | Endpoint(field) => Value::from(field(config).as_str()),
            Headers(field) => Value::Table(
                field(config).as_pairs().iter().map(|(name, _)| (name.clone(), "***".into())).collect(),
            ),
            Ratio(field) => Value::from(*field(config)),
            PriceTable(field) => field(config).written(),
            Currency(field) => Value::from(field(config).as_str()),
        }
    }

    /// Reads the text of an environment variable as this key's kind of value.
    pub(super) fn parse(&self, text: &str) -> Result<Value, String> {
        match self.field {
            Path(_) | PathOrEmpty(_) | Plugin(_) | Level(_) | Format(_) | Word(_) | Endpoint(_) => {
                Ok(Value::from(text))
            }
            Headers(_) => {
                let headers = headers_in(text)?;
                Ok(Value::Table(headers.into_iter().map(|(name, value)| (name, value.into())).collect()))
            }
            Paths(_) => Ok(Value::Array(
                std::env::split_paths(text)
                    .filter(|path| !path.as_os_str().is_empty())
                    .map(|path| Value::from(path.display().to_string()))
                    .collect(),
            )),
            Port(_) => match text.parse::<u16>() {
                Ok(port) => Ok(Value::from(i64::from(port))),
                Err(_) => Err(number_wanted(0, u16::MAX.into(), text)),
            },
            Switch(_) | Hosts(_) | Addresses(_) | Networks(_) | Size(..) | Count(_) | Milliseconds(..)
            | Times(..) | Owners(_) | Routes(_) | Order(_) | Cgroups(_) | Ratio(_) | PriceTable(_)
            | Currency(_) => {
                unreachable!("`{}` has no environment variable", self.name)
            }
        }
    }
}

/// Whether a text can be the host of a URL: a name, or an address, an IPv6 one without brackets.
fn is_host(text: &str) -> bool {
    let is_name =
        text.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_'));
    !text.is_empty() && text.len() <= 253 && (is_name || text.parse::<std::net::Ipv6Addr>().is_ok())
}

/// A network, or an address as a network of one. Everybody is no network: whoever is believed could say
/// anything of anybody.
fn network(text: &str) -> Option<IpNet> {
    let network = text.parse().ok().or_else(|| text.parse::<IpAddr>().ok().map(IpNet::from))?;
    (network.prefix_len() > 0).then(|| network.trunc())
}

/// A year: a longer wait is a mistake in the units.
const LONGEST_MILLISECONDS: u64 = 365 * 24 * 60 * 60 * 1000;

fn number(value: &Value, least: u64, most: u64) -> Result<u64, String> {
    value
        .as_integer()
        .and_then(|number| u64::try_from(number).ok())
        .filter(|number| (least..=most).contains(number))
        .ok_or_else(|| number_wanted(least, most, value))
}

fn number_wanted(least: u64, most: u64, found: impl std::fmt::Display) -> String {
    format!("use a whole number from {least} to {most}, not `{found}`")
}

fn error_text(error: impl std::fmt::Display) -> String {
    error.to_string()
}

fn texts(value: &Value) -> Option<Vec<&str>> {
    value.as_array()?.iter().map(Value::as_str).collect()
}

/// The leaves of a table under their dotted names, so that `order.llm.chat = …` and
/// `order."llm.chat" = …` mean the same.
fn flattened(table: &toml::Table) -> Vec<(String, &Value)> {
    let mut leaves = Vec::new();
    for (name, value) in table {
        match value {
            Value::Table(inner) => {
                leaves.extend(
                    flattened(inner).into_iter().map(|(rest, leaf)| (format!("{name}.{rest}"), leaf)),
                );
            }
            leaf => leaves.push((name.clone(), leaf)),
        }
    }
    leaves
}

/// Checked here because the filter itself takes a misspelt level for the name of a target.
fn is_level_list(text: &str) -> bool {
    let is_level = |word: &str| matches!(word, "off" | "error" | "warn" | "info" | "debug" | "trace");
    let is_target = |word: &str| {
        !word.is_empty()
            && word.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b':')
    };
    text.split(',').all(|directive| match directive.split_once('=') {
        Some((target, level)) => is_target(target) && is_level(level),
        None => is_level(directive),
    })
}

/// Whether `name` is the beginning of known keys rather than a key.
pub(super) fn is_section(name: &str) -> bool {
    KEYS.iter().any(|key| key.name.strip_prefix(name).is_some_and(|rest| rest.starts_with('.')))
}

/// The known key that looks most like `name`; one that was written without its section, or a bare
/// section, is found too.
pub(super) fn nearest(name: &str) -> &'static str {
    let distance = |key: &Key| {
        let whole = edits(name, key.name);
        match key.name.split_once('.') {
            Some((section, last)) => whole.min(edits(name, last) + 1).min(edits(name, section) + 1),
            None => whole,
        }
    };
    KEYS.iter().min_by_key(|key| distance(key)).expect("there are keys").name
}

/// How many letters must be added, removed or replaced to make one text the other.
fn edits(left: &str, right: &str) -> usize {
    let right: Vec<char> = right.chars().collect();
    let mut row: Vec<usize> = (0..=right.len()).collect();
    for (above, letter) in left.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = above + 1;
        for (column, other) in right.iter().enumerate() {
            let replaced = diagonal + usize::from(letter != *other);
            diagonal = row[column + 1];
            row[column + 1] = replaced.min(diagonal + 1).min(row[column] + 1);
        }
    }
    row[right.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `config/bkg.toml` as the table has it.
    fn template() -> String {
        let mut text = String::from(
            "# The configuration of the Backplane host: every key, its default, and what it is for.\n\
             # Hand a file like this to `bkg serve --config FILE`. Flags win over environment variables,\n\
             # those over this file; `bkg config` shows what took effect and from where.\n",
        );
        let mut defaults = HostConfig::unresolved_defaults();
        let mut section = "";
        for key in KEYS {
            let (its_section, name) = key.name.rsplit_once('.').unwrap_or(("", key.name));
            if its_section != section {
                section = its_section;
                text += &format!("\n[{section}]\n");
            }
            let ways = [key.environment, key.flag].into_iter().flatten().collect::<Vec<_>>().join(", ");
            let ways = if ways.is_empty() { ways } else { format!(" ({ways})") };
            text += &format!("\n# {}{ways}\n# {name} = {}\n", key.why, key.get(&mut defaults));
        }
        text
    }

    const TEMPLATE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../config/bkg.toml");

    /// Run with `BKG_BLESS=1` to write the file anew.
    #[test]
    fn the_committed_file_lists_every_key_with_its_default() {
        let expected = template();
        if std::env::var_os("BKG_BLESS").is_some() {
            std::fs::write(TEMPLATE, &expected).unwrap();
        }
        let committed = std::fs::read_to_string(TEMPLATE).unwrap();
        assert_eq!(committed, expected, "run this test once with BKG_BLESS=1");
    }

    #[test]
    fn the_defaults_of_the_committed_file_are_allowed_values() {
        let uncommented = template()
            .lines()
            .filter_map(|line| match line.strip_prefix("# ") {
                Some(rest) if KEYS.iter().any(|key| rest.starts_with(&format!("{} = ", last(key)))) => {
                    Some(rest)
                }
                Some(_) => None,
                None => Some(line),
            })
            .collect::<Vec<_>>()
            .join("\n");
        let table: toml::Table = uncommented.parse().unwrap();
        let mut read = HostConfig::unresolved_defaults();
        for key in KEYS {
            let mut value = &Value::Table(table.clone());
            for word in key.name.split('.') {
                value = &value[word];
            }
            key.set(&mut read, value).unwrap_or_else(|reason| panic!("{}: {reason}", key.name));
        }
        assert_eq!(read, HostConfig::unresolved_defaults());
    }

    fn last(key: &Key) -> &str {
        key.name.rsplit('.').next().unwrap()
    }

    #[test]
    fn names_are_unique_and_sections_stand_together() {
        let mut sections = Vec::new();
        for (index, key) in KEYS.iter().enumerate() {
            assert!(KEYS[..index].iter().all(|other| other.name != key.name), "{}", key.name);
            let section = key.name.rsplit_once('.').map_or("", |(section, _)| section);
            if sections.last() != Some(&section) {
                assert!(!sections.contains(&section), "{}", key.name);
                sections.push(section);
            }
        }
        assert!(KEYS.iter().all(|key| key.why.ends_with('.') && !key.why.contains('\n')));
    }

    #[test]
    fn a_network_is_one_address_or_many_but_never_all() {
        let read = |text| network(text).map(|network| network.to_string());
        assert_eq!(read("10.1.2.3/8").as_deref(), Some("10.0.0.0/8"));
        assert_eq!(read("192.0.2.7").as_deref(), Some("192.0.2.7/32"));
        assert_eq!(read("fd00::/8").as_deref(), Some("fd00::/8"));
        assert_eq!(read("::1").as_deref(), Some("::1/128"));
        for wrong in ["0.0.0.0/0", "::/0", "10.0.0.0/33", "10.0.0", "proxy", "", "10.0.0.1:80"] {
            assert_eq!(network(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn edits_are_counted() {
        for (left, right, expected) in
            [("", "", 0), ("a", "", 1), ("", "ab", 2), ("kitten", "sitting", 3), ("port", "prot", 2)]
        {
            assert_eq!(edits(left, right), expected, "{left} {right}");
            assert_eq!(edits(right, left), expected, "{right} {left}");
        }
    }

    #[test]
    fn a_level_list_holds_levels_and_targets_with_levels() {
        for right in ["info", "off", "info,bkg::bus=debug", "bkg=trace"] {
            assert!(is_level_list(right), "{right}");
        }
        for wrong in ["", "inof", "info,", "bkg=loud", "=info", "Info", "a b=info"] {
            assert!(!is_level_list(wrong), "{wrong}");
        }
    }
}
