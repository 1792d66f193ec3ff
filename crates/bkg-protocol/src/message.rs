//! Every message of the bus: two enums, one per direction, and the structures in them.
//!
//! These types say what a frame *means*; [`crate::frame`] turns them into text and back. Whether a
//! message is allowed at this moment is decided by [`crate::host`] and [`crate::plugin`].
//!
//! The payload of a `request`, `response` or `chunk` is left out by serde (`skip_serializing`): the
//! frame encoder splices its text in unread. Encode these through [`crate::frame`] only.

use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::Timestamp;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::{Map, Value};

use crate::{CapabilityName, InstanceId, PluginName, RawJson, RequestId, WireError};

/// What a plugin says to the host.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(tag = "type", rename_all = "camelCase")]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub enum PluginMessage {
    /// Who this is and what it offers: the first frame, once.
    Register(Register),
    /// How the plugin feels, every heartbeat.
    Health(Health),
    /// Figures about its own process, now and then.
    Telemetry(Telemetry),
    /// One log line.
    Log(Log),
    /// The one answer to a `request` of the host.
    Response(Response),
    /// A part of a streamed answer, before its `response`. Extended contract.
    Chunk(Chunk),
    /// Asks the host to have a capability answered, by whichever plugin offers it.
    Request(Request),
    /// Gives up on a `request` of the plugin's own. Extended contract.
    Cancel(Cancel),
    /// Lets the answerer of the plugin's own streamed `request` send further chunks. Extended contract.
    Credit(Credit),
    /// Replaces whole lists of the registration, all or nothing. Extended contract.
    Update(Update),
    /// Wants the events of a topic. Extended contract.
    Subscribe(Topic),
    /// No longer wants the events of a topic. Extended contract.
    Unsubscribe(Topic),
    /// An event for whoever subscribed. Extended contract.
    Publish(Publish),
    /// Whether a pushed configuration is in force, or would be. Extended contract.
    ConfigApplied(ConfigApplied),
    /// Verdicts older than this are void; sent by the auth provider before it answers the change.
    AuthChanged(AuthChanged),
}

/// What the host says to a plugin. A base plugin is sent nothing but `request` and `response`.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(tag = "type", rename_all = "camelCase")]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub enum HostMessage {
    /// The registration holds.
    Registered(Registered),
    /// The registration is refused; the socket closes with 1008 after it.
    Rejected(Rejected),
    /// Whether an `update` holds.
    Updated(Updated),
    /// Asks for a capability.
    Request(Request),
    /// The one answer to a `request` of the plugin.
    Response(Response),
    /// A part of the streamed answer to a `request` of the plugin.
    Chunk(Chunk),
    /// The caller no longer wants the answer; the `response` is still owed.
    Cancel(Cancel),
    /// Further chunks may be sent.
    Credit(Credit),
    /// An event of a topic that the plugin subscribed to.
    Event(Event),
    /// New settings, to plugins that registered with `meta.hotConfig: true`; as a dry run, to those with
    /// `meta.configDryRun: true`.
    Config(Config),
    /// Take no new work, finish, and close with 1000 within the deadline.
    Drain(Drain),
}

/// `register`: who this is and what it offers.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Register {
    /// The plugin's name, as in its entry.
    pub plugin: PluginName,
    /// Where the plugin itself listens, if it does.
    #[serde(default)]
    pub port: Port,
    /// What it answers.
    #[serde(default, deserialize_with = "null_is_default")]
    pub capabilities: Vec<Capability>,
    /// Facts about the plugin; `hotConfig: true` asks for settings to be pushed rather than restarted for,
    /// `configDryRun: true` says that it can be asked about settings before they are saved.
    #[serde(default, skip_serializing_if = "Map::is_empty", deserialize_with = "null_is_default")]
    pub meta: Map<String, Value>,
    /// JSON Schema of the entry's `settings`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub config_schema: Option<RawJson>,
    /// The protocol version; its absence makes this a base plugin.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub protocol: Option<u32>,
    /// The plugin's own version.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// The launch token or bus key, unless it came in the upgrade's `Authorization` header.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token: Option<Secret>,
    /// The secret that the last `registered` of this launch gave.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resume: Option<Secret>,
    /// Model ids and the capability that answers for them.
    #[serde(default, skip_serializing_if = "Vec::is_empty", deserialize_with = "null_is_default")]
    pub models: Vec<Model>,
    /// HTTP routes below `/api/plugins/<name>`.
    #[serde(default, skip_serializing_if = "Vec::is_empty", deserialize_with = "null_is_default")]
    pub routes: Vec<Route>,
    /// Functions that a language model may call.
    #[serde(default, skip_serializing_if = "Vec::is_empty", deserialize_with = "null_is_default")]
    pub tools: Vec<Tool>,
    /// Names of real-time channels.
    #[serde(default, skip_serializing_if = "Vec::is_empty", deserialize_with = "null_is_default")]
    pub channels: Vec<String>,
    /// Pages and panels for the control centre.
    #[serde(default, skip_serializing_if = "Vec::is_empty", deserialize_with = "null_is_default")]
    pub ui: Vec<UiSlot>,
}

impl Register {
    /// A registration with a name and nothing else.
    pub fn new(plugin: PluginName) -> Self {
        Self {
            plugin,
            port: Port::Internal,
            capabilities: Vec::new(),
            meta: Map::new(),
            config_schema: None,
            protocol: None,
            version: None,
            token: None,
            resume: None,
            models: Vec::new(),
            routes: Vec::new(),
            tools: Vec::new(),
            channels: Vec::new(),
            ui: Vec::new(),
        }
    }

    /// Whether the plugin takes new settings without a restart.
    pub fn takes_hot_config(&self) -> bool {
        self.meta.get("hotConfig") == Some(&Value::Bool(true))
    }

    /// Whether the models that the plugin lists are all that it has, also where it lists none.
    pub fn lists_models(&self) -> bool {
        self.meta.get("listsModels") == Some(&Value::Bool(true))
    }

    /// Whether the plugin says what it thinks of settings without putting them in force.
    pub fn takes_dry_runs(&self) -> bool {
        self.meta.get("configDryRun") == Some(&Value::Bool(true))
    }
}

/// Where a plugin listens itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Port {
    /// Nowhere: `"internal"` on the wire.
    #[default]
    Internal,
    /// A TCP port on loopback.
    Number(u16),
}

impl Port {
    /// The port, if there is one.
    pub fn number(self) -> Option<u16> {
        match self {
            Self::Internal => None,
            Self::Number(port) => Some(port),
        }
    }
}

impl Serialize for Port {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Internal => serializer.serialize_str("internal"),
            Self::Number(port) => serializer.serialize_u16(*port),
        }
    }
}

impl<'de> Deserialize<'de> for Port {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match Value::deserialize(deserializer)? {
            Value::Null => Ok(Self::Internal),
            Value::String(text) if text == "internal" => Ok(Self::Internal),
            // Port 0 is what a plugin says that took no port after all.
            Value::Number(number) if number.as_u64() == Some(0) => Ok(Self::Internal),
            Value::Number(number) => {
                number.as_u64().and_then(|port| u16::try_from(port).ok()).map(Self::Number).ok_or_else(
                    || serde::de::Error::custom("`port` is a number up to 65535, or \"internal\""),
                )
            }
            _ => Err(serde::de::Error::custom("`port` is a number up to 65535, or \"internal\"")),
        }
    }
}

#[cfg(feature = "schema")]
impl schemars::JsonSchema for Port {
    fn inline_schema() -> bool {
        true
    }
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Port".into()
    }
    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({
            "anyOf": [
                { "type": "integer", "minimum": 0, "maximum": 65535 },
                { "const": "internal" },
                { "type": "null" }
            ]
        })
    }
}

/// A text that must not be seen: its `Debug` prints stars.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Secret(String);

impl Secret {
    /// Wraps a secret text.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The text itself: to compare or to send, never to log.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl std::fmt::Debug for Secret {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.write_str("***")
    }
}

/// Something that a plugin answers: a bare name on the wire, or an object with its properties.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Capability {
    /// The dotted name.
    pub id: CapabilityName,
    /// One sentence for people.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// JSON Schema of `payload`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub input_schema: Option<RawJson>,
    /// JSON Schema of `data`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub output_schema: Option<RawJson>,
    /// Whether it answers a request with `stream` in chunks.
    #[serde(skip_serializing_if = "is_false")]
    pub streaming: bool,
    /// Whether asking twice does no more than asking once, so that it may be tried again.
    #[serde(skip_serializing_if = "is_false")]
    pub idempotent: bool,
    /// Whether it changes something outside the plugin.
    #[serde(skip_serializing_if = "is_false")]
    pub side_effect: bool,
    /// How long one request may take, unless its caller wants less, in milliseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub timeout_ms: Option<u64>,
    /// How many requests one instance takes at a time.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_concurrency: Option<u32>,
}

impl From<CapabilityName> for Capability {
    fn from(id: CapabilityName) -> Self {
        Self {
            id,
            description: None,
            input_schema: None,
            output_schema: None,
            streaming: false,
            idempotent: false,
            side_effect: false,
            timeout_ms: None,
            max_concurrency: None,
        }
    }
}

/// The object form of a capability.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema), schemars(rename = "CapabilityObject"))]
struct CapabilityObject {
    id: CapabilityName,
    description: Option<String>,
    input_schema: Option<RawJson>,
    output_schema: Option<RawJson>,
    #[serde(default, deserialize_with = "null_is_default")]
    streaming: bool,
    #[serde(default, deserialize_with = "null_is_default")]
    idempotent: bool,
    #[serde(default, deserialize_with = "null_is_default")]
    side_effect: bool,
    timeout_ms: Option<u64>,
    max_concurrency: Option<u32>,
}

impl<'de> Deserialize<'de> for Capability {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        use serde::de::Error;

        let value = Value::deserialize(deserializer)?;
        if let Value::String(name) = value {
            return Ok(name.parse::<CapabilityName>().map_err(D::Error::custom)?.into());
        }
        let object: CapabilityObject = serde_json::from_value(value).map_err(|problem| {
            D::Error::custom(format!("a capability is a name or an object: {problem}"))
        })?;
        Ok(Self {
            id: object.id,
            description: object.description,
            input_schema: object.input_schema,
            output_schema: object.output_schema,
            streaming: object.streaming,
            idempotent: object.idempotent,
            side_effect: object.side_effect,
            timeout_ms: object.timeout_ms,
            max_concurrency: object.max_concurrency,
        })
    }
}

#[cfg(feature = "schema")]
impl schemars::JsonSchema for Capability {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Capability".into()
    }
    fn json_schema(generator: &mut schemars::SchemaGenerator) -> schemars::Schema {
        let name = generator.subschema_for::<CapabilityName>();
        let object = generator.subschema_for::<CapabilityObject>();
        schemars::json_schema!({ "anyOf": [name, object] })
    }
}

/// A model that a plugin serves.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Model {
    /// The id that clients name; it may contain slashes.
    pub id: String,
    /// Which capability answers for it: `llm.chat` or `llm.embed`.
    pub capability: CapabilityName,
    /// Whom `/v1/models` names as owner; the plugin, if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub owned_by: Option<String>,
    /// How many tokens fit, prompt and answer together.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub context_length: Option<u64>,
    /// The length of its embedding vectors.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dimensions: Option<u64>,
}

/// An HTTP route bound to a capability.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Route {
    /// The HTTP method, in capitals.
    pub method: String,
    /// The path below the plugin's prefix; `{name}` stands for one segment, `{*name}` at the end for
    /// all that is left.
    pub path: String,
    /// What answers it.
    pub capability: CapabilityName,
    /// Whether the answer is streamed.
    #[serde(default, skip_serializing_if = "is_false", deserialize_with = "null_is_default")]
    pub streaming: bool,
}

/// A function that a language model may call.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Tool {
    /// The function's name.
    pub name: String,
    /// What it is for, in words that the model reads.
    #[serde(default, deserialize_with = "null_is_default")]
    pub description: String,
    /// JSON Schema of its arguments.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parameters: Option<RawJson>,
    /// Whether it changes something, so that someone must approve it.
    #[serde(default, skip_serializing_if = "is_false", deserialize_with = "null_is_default")]
    pub side_effect: bool,
    /// What answers it.
    pub capability: CapabilityName,
}

/// A page or panel that a plugin adds to the control centre.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct UiSlot {
    /// Where it appears.
    pub slot: String,
    /// What it is called there.
    pub title: String,
    /// Which file or panel description it shows.
    pub entry: String,
}

/// `health`: how the plugin feels.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Health {
    /// The plugin's name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub plugin: Option<String>,
    /// `up`, `degraded` or `down`; see [`Health::condition`] for what else is understood.
    pub status: String,
    /// One sentence on why.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "text_of_anything")]
    pub detail: Option<String>,
}

/// What the host makes of a plugin's health.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub enum Condition {
    /// It serves.
    Healthy,
    /// It serves, at lower preference.
    Degraded,
    /// It finishes what it has and wants nothing new.
    Draining,
    /// It is out of rotation.
    Down,
}

impl Health {
    /// What the status word means; existing plugins say `ready`, `ok` and `stopping` too, and any
    /// other word is taken for trouble that does not stop the plugin from serving.
    pub fn condition(&self) -> Condition {
        match self.status.as_str() {
            "up" | "ready" | "ok" => Condition::Healthy,
            "stopping" => Condition::Draining,
            "down" => Condition::Down,
            _ => Condition::Degraded,
        }
    }
}

/// `telemetry`: figures about the plugin's own process.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Telemetry {
    /// The plugin's name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub plugin: Option<String>,
    /// Processor time, in percent of one core. What is no number reads as absent.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "number_or_nothing")]
    pub cpu: Option<f64>,
    /// Resident memory in bytes. What is no number reads as absent.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "number_or_nothing")]
    pub mem_bytes: Option<f64>,
    /// Any further figures under names of the plugin's own.
    #[serde(flatten, deserialize_with = "all_but_the_type")]
    pub further: BTreeMap<String, Value>,
}

/// `log`: one line for people.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Log {
    /// The plugin's name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub plugin: Option<String>,
    /// How much it matters; an unknown word reads as `info`.
    #[serde(default)]
    pub level: LogLevel,
    /// What happened.
    #[serde(default, deserialize_with = "required_text_of_anything")]
    pub message: String,
    /// When the plugin says it happened: RFC 3339, with or without fraction and zone (none means
    /// UTC). The host orders by arrival.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "lenient_timestamp")]
    #[cfg_attr(feature = "schema", schemars(with = "Option<String>"))]
    pub timestamp: Option<Timestamp>,
    /// Further facts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fields: Option<RawJson>,
    /// The request that it is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request_id: Option<RequestId>,
}

/// How much a log line matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub enum LogLevel {
    /// Every step.
    Trace,
    /// What a developer wants to see.
    Debug,
    /// What an operator wants to see.
    #[default]
    Info,
    /// Someone should look.
    Warn,
    /// Something is lost.
    Error,
}

impl LogLevel {
    /// The level that a word names, in any case; `warning`, `critical` and `fatal` are understood
    /// since the logging libraries of several languages write them.
    pub fn parse(word: &str) -> Option<Self> {
        match word.to_ascii_lowercase().as_str() {
            "trace" => Some(Self::Trace),
            "debug" => Some(Self::Debug),
            "info" => Some(Self::Info),
            "warn" | "warning" => Some(Self::Warn),
            "error" | "critical" | "fatal" => Some(Self::Error),
            _ => None,
        }
    }

    /// The level as it travels.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Trace => "trace",
            Self::Debug => "debug",
            Self::Info => "info",
            Self::Warn => "warn",
            Self::Error => "error",
        }
    }
}

impl<'de> Deserialize<'de> for LogLevel {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let value = Value::deserialize(deserializer)?;
        Ok(value.as_str().and_then(Self::parse).unwrap_or_default())
    }
}

/// `request`: asks for a capability. Both directions.
///
/// Towards a base plugin only `requestId`, `capability`, `payload` and `token` travel.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Request {
    /// Chosen by the sender; the answers carry it back.
    pub request_id: RequestId,
    /// What is asked for.
    pub capability: CapabilityName,
    /// The input.
    #[serde(default = "null", skip_serializing)]
    pub payload: RawJson,
    /// A credential that the capability asks for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token: Option<Secret>,
    /// Whether the answer may come in chunks.
    #[serde(default, skip_serializing_if = "is_false", deserialize_with = "null_is_default")]
    pub stream: bool,
    /// How many chunks may be sent before the first `credit`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub credit: Option<u32>,
    /// How long the caller waits, in milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout_ms: Option<u64>,
    /// On whose behalf.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub caller: Option<Arc<Caller>>,
    /// The `x-request-id` of the HTTP request behind it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub correlation_id: Option<Arc<str>>,
    /// The request that the sender was answering when it asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parent_request_id: Option<RequestId>,
    /// W3C trace context.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub traceparent: Option<String>,
    /// The HTTP request behind it, for a route.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub http: Option<HttpRequest>,
}

impl Request {
    /// A request for `capability` with everything optional left out.
    ///
    /// The id is empty until a half of the conversation assigns one.
    pub fn new(capability: CapabilityName, payload: RawJson) -> Self {
        Self {
            request_id: RequestId::unassigned(),
            capability,
            payload,
            token: None,
            stream: false,
            credit: None,
            timeout_ms: None,
            caller: None,
            correlation_id: None,
            parent_request_id: None,
            traceparent: None,
            http: None,
        }
    }
}

/// On whose behalf a request is made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Caller {
    /// The user's name; `root` for the host's own credential.
    pub user: String,
    /// The API key, where one was used.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key_id: Option<String>,
    /// What the caller may do.
    #[serde(default, deserialize_with = "null_is_default")]
    pub scopes: Vec<String>,
}

/// The HTTP request behind a route's `request`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct HttpRequest {
    /// The method, in capitals.
    pub method: String,
    /// The path below the plugin's prefix, as it was sent.
    pub path: String,
    /// What the `{name}` segments stood for, decoded.
    #[serde(default, deserialize_with = "null_is_default")]
    pub params: BTreeMap<String, String>,
    /// The query, decoded, in order.
    #[serde(default, deserialize_with = "null_is_default")]
    pub query: Vec<(String, String)>,
    /// The allowed headers, names in lower case.
    #[serde(default, deserialize_with = "null_is_default")]
    pub headers: BTreeMap<String, String>,
    /// What the payload is made of.
    #[serde(default, deserialize_with = "null_is_default")]
    pub body: HttpBody,
}

impl HttpRequest {
    /// What a `{name}` of the route's path stood for, decoded.
    pub fn param(&self, name: &str) -> Option<&str> {
        self.params.get(name).map(String::as_str)
    }

    /// The value of a query parameter, decoded; the first, if there are several.
    pub fn query_value(&self, name: &str) -> Option<&str> {
        self.query.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    /// The value of a header that the host passes on; its name in lower case.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(String::as_str)
    }
}

/// What the payload of a route's `request` is made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub enum HttpBody {
    /// There was no body; the payload is null.
    #[default]
    None,
    /// The payload is the body, unchanged.
    Json,
    /// The payload is an object of the form's fields; a field that came several times is a list.
    Form,
    /// The payload is the body as one text.
    Text,
    /// The payload is a text that holds the body's bytes in base64 (RFC 4648, section 4).
    Base64,
}

/// `response`: the one and last answer to a `request`. Both directions.
#[derive(Debug, Clone, PartialEq)]
pub struct Response {
    /// The request that it answers.
    pub request_id: RequestId,
    /// `data`, or `error`: `success` on the wire decides, whatever else is present.
    pub outcome: Result<RawJson, WireError>,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema), schemars(rename = "Response"))]
struct ResponseFields {
    /// The request that it answers.
    request_id: RequestId,
    /// Whether `data` or `error` counts.
    success: bool,
    /// The result.
    #[serde(default = "null", skip_serializing)]
    data: RawJson,
    /// Why there is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    error: Option<WireError>,
}

impl Serialize for Response {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        ResponseFields {
            request_id: self.request_id.clone(),
            success: self.outcome.is_ok(),
            data: RawJson::NULL,
            error: self.outcome.as_ref().err().cloned(),
        }
        .serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Response {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let fields = ResponseFields::deserialize(deserializer)?;
        let outcome = if fields.success {
            Ok(fields.data)
        } else {
            Err(fields.error.unwrap_or_else(|| {
                WireError::new(crate::ErrorCode::PluginError, "the plugin failed and gave no reason")
            }))
        };
        Ok(Self { request_id: fields.request_id, outcome })
    }
}

#[cfg(feature = "schema")]
impl schemars::JsonSchema for Response {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        ResponseFields::schema_name()
    }
    fn json_schema(generator: &mut schemars::SchemaGenerator) -> schemars::Schema {
        ResponseFields::json_schema(generator)
    }
}

/// `chunk`: a part of a streamed answer. Both directions.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Chunk {
    /// The request that it belongs to.
    pub request_id: RequestId,
    /// 0 for the first, then one more each time.
    pub seq: u64,
    /// The part.
    #[serde(default = "null", skip_serializing)]
    pub data: RawJson,
}

/// `cancel`: the answer is no longer wanted. Both directions.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Cancel {
    /// The request that was given up.
    pub request_id: RequestId,
    /// Why.
    #[serde(default, deserialize_with = "null_is_default")]
    pub reason: CancelReason,
}

/// Why a request was given up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub enum CancelReason {
    /// Whoever asked has left.
    CallerGone,
    /// The time that the caller allowed is over.
    Deadline,
    /// One side is shutting down.
    Shutdown,
    /// More chunks came than there was credit for.
    FlowControl,
    /// The answer broke the protocol, so the rest of it is worthless.
    Protocol,
    /// A reason that this version does not know.
    #[default]
    #[serde(other)]
    Other,
}

/// `credit`: further chunks may be sent. Both directions.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Credit {
    /// The streamed request.
    pub request_id: RequestId,
    /// How many more.
    pub n: u32,
}

/// `update`: replaces whole lists of the registration; an absent list stays as it is.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Update {
    /// All models from now on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub models: Option<Vec<Model>>,
    /// All routes from now on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub routes: Option<Vec<Route>>,
    /// All tools from now on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tools: Option<Vec<Tool>>,
    /// All capabilities from now on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub capabilities: Option<Vec<Capability>>,
    /// All facts about the plugin from now on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub meta: Option<Map<String, Value>>,
    /// The schema of the settings from now on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub config_schema: Option<RawJson>,
}

impl Update {
    /// What the registration becomes when the update holds.
    pub fn applied_to(self, registration: &Register) -> Register {
        let mut next = registration.clone();
        next.models = self.models.unwrap_or(next.models);
        next.routes = self.routes.unwrap_or(next.routes);
        next.tools = self.tools.unwrap_or(next.tools);
        next.capabilities = self.capabilities.unwrap_or(next.capabilities);
        next.meta = self.meta.unwrap_or(next.meta);
        next.config_schema = self.config_schema.or(next.config_schema);
        next
    }
}

/// `subscribe`, `unsubscribe`: a topic of events.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Topic {
    /// The topic's name.
    pub topic: String,
}

/// `publish`: an event for whoever subscribed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Publish {
    /// The topic's name.
    pub topic: String,
    /// The event.
    #[serde(default = "null")]
    pub data: RawJson,
}

/// `event`: an event of a topic that the plugin subscribed to.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Event {
    /// The topic's name.
    pub topic: String,
    /// The event.
    #[serde(default = "null")]
    pub data: RawJson,
    /// Which browser sent it, on a channel.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client: Option<String>,
}

/// `configApplied`: whether a pushed configuration is in force, or would be.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct ConfigApplied {
    /// Which configuration.
    pub revision: u64,
    /// Whether it is in force now; of a dry run, whether it could be.
    pub success: bool,
    /// Why not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<WireError>,
    /// Whether this answers a dry run.
    #[serde(default, skip_serializing_if = "is_false", deserialize_with = "null_is_default")]
    pub dry_run: bool,
}

/// `authChanged`: what the auth provider said before `generation` no longer holds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct AuthChanged {
    /// The first generation in which the change holds.
    pub generation: u64,
    /// The key that changed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key_id: Option<String>,
    /// The login session that changed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub session_id: Option<String>,
    /// The user that changed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user_id: Option<String>,
}

/// `registered`: the registration holds, and on what terms.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Registered {
    /// The protocol version that both sides speak.
    pub protocol: u32,
    /// The id of this launch.
    pub instance: InstanceId,
    /// The secret for the next `register` of this launch.
    pub resume: Secret,
    /// How often to send `health`, in milliseconds.
    pub heartbeat_ms: u64,
    /// What the host accepts.
    pub limits: GrantedLimits,
    /// The plugin's settings.
    #[serde(default = "null")]
    pub config: RawJson,
    /// Which revision the settings are.
    #[serde(default, deserialize_with = "null_is_default")]
    pub config_revision: u64,
}

/// What the host accepts from a plugin.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct GrantedLimits {
    /// The largest frame, in bytes.
    pub max_frame_bytes: usize,
    /// The largest `data` of a chunk, in bytes.
    pub max_chunk_bytes: usize,
    /// The credit of a streamed request that names none.
    pub stream_credit: u32,
}

/// `rejected`: the registration is refused.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Rejected {
    /// One of [`crate::ErrorCode`].
    pub code: String,
    /// What to change.
    pub message: String,
}

/// `updated`: whether an `update` holds.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Updated {
    /// Whether it holds; if not, everything is as before.
    pub success: bool,
    /// Why not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<WireError>,
}

/// `config`: new settings.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Config {
    /// Which revision they are, or would be.
    pub revision: u64,
    /// The whole settings, not a difference.
    pub config: RawJson,
    /// Whether the plugin is only to say what it thinks of them: to plugins that registered with
    /// `meta.configDryRun: true`.
    #[serde(default, skip_serializing_if = "is_false", deserialize_with = "null_is_default")]
    pub dry_run: bool,
}

/// `drain`: take no new work, finish, close with 1000.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Drain {
    /// How long until the host stops waiting, in milliseconds.
    pub deadline_ms: u64,
}

fn null() -> RawJson {
    RawJson::NULL
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
fn is_false(value: &bool) -> bool {
    !value
}

/// Several JSON writers say `null` for what is absent.
fn null_is_default<'de, D: Deserializer<'de>, T: Deserialize<'de> + Default>(
    deserializer: D,
) -> Result<T, D::Error> {
    Ok(Option::<T>::deserialize(deserializer)?.unwrap_or_default())
}

/// A flattened map sees every key that no field took, the envelope's `type` among them.
fn all_but_the_type<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<BTreeMap<String, Value>, D::Error> {
    let mut further = BTreeMap::deserialize(deserializer)?;
    further.remove("type");
    Ok(further)
}

/// Logs and details are for people: a value of any shape has a text.
fn text_of_anything<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<String>, D::Error> {
    Ok(match Value::deserialize(deserializer)? {
        Value::Null => None,
        Value::String(text) => Some(text),
        other => Some(other.to_string()),
    })
}

fn required_text_of_anything<'de, D: Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    Ok(text_of_anything(deserializer)?.unwrap_or_default())
}

fn number_or_nothing<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<f64>, D::Error> {
    Ok(Value::deserialize(deserializer)?.as_f64())
}

fn lenient_timestamp<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Timestamp>, D::Error> {
    let value = Value::deserialize(deserializer)?;
    Ok(value.as_str().and_then(parse_timestamp))
}

/// A time with or without fraction and zone; without a zone it is UTC.
fn parse_timestamp(text: &str) -> Option<Timestamp> {
    text.parse::<Timestamp>().ok().or_else(|| {
        let civil: jiff::civil::DateTime = text.parse().ok()?;
        civil.to_zoned(jiff::tz::TimeZone::UTC).ok().map(|zoned| zoned.timestamp())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timestamps_of_existing_plugins_are_read() {
        let at = |text| parse_timestamp(text).map(|time| time.to_string());
        let expected = Some("2026-01-02T03:04:05Z".to_owned());
        assert_eq!(at("2026-01-02T03:04:05Z"), expected);
        assert_eq!(at("2026-01-02T04:04:05+01:00"), expected);
        assert_eq!(at("2026-01-02T03:04:05"), expected);
        assert_eq!(at("2026-01-02 03:04:05"), expected);
        assert_eq!(at("2026-01-02T03:04:05.250"), Some("2026-01-02T03:04:05.25Z".to_owned()));
        assert_eq!(at("yesterday"), None);
    }

    #[test]
    fn a_secret_is_not_printed() {
        assert_eq!(format!("{:?}", Secret::new("canary")), "***");
    }
}
