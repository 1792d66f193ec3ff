//! Every message of both directions against its golden file.
//!
//! A file is what the other side may really send, and the value beside it here is what it must mean:
//! a renamed field fails although it would still survive a round trip. `<stem>.json` is what this
//! crate writes itself; `<stem>.lenient.json` is read as well, and means `<stem>.canonical.json`.
//! `golden/README.md` describes the files for the other SDKs.

#![expect(clippy::unwrap_used, reason = "what fails here fails the test")]

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Debug;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bkg_protocol::frame::{Decoded, Message};
use bkg_protocol::message::{
    AuthChanged, Caller, Cancel, CancelReason, Capability, Chunk, Config, ConfigApplied, Credit, Drain,
    Event, GrantedLimits, Health, HttpBody, HttpRequest, Log, LogLevel, Model, Port, Publish, Register,
    Registered, Rejected, Request, Response, Route, Secret, Telemetry, Tool, Topic, UiSlot, Update,
    Updated,
};
use bkg_protocol::{ErrorCode, HostMessage, PluginMessage, RawJson, RequestId, WireError, schema};
use serde_json::{Map, Value, json};

const HOST_REQUEST: &str = "a0a0a0a0-a0a0-8a0a-8000-000000000000";
const PLUGIN_REQUEST: &str = "b0b0b0b0-b0b0-8b0b-8000-000000000000";
const TRACE: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

#[test]
fn every_message_of_a_plugin_means_what_its_golden_file_says() {
    check("plugin-to-host", &plugin_messages());
}

#[test]
fn every_message_of_the_host_means_what_its_golden_file_says() {
    check("host-to-plugin", &host_messages());
}

#[test]
fn every_message_type_has_a_golden_file() {
    for (file, direction) in
        [("plugin-message.json", "plugin-to-host"), ("host-message.json", "host-to-plugin")]
    {
        let schema = schema::all().into_iter().find(|(name, _)| *name == file).unwrap().1;
        let types: BTreeSet<String> = schema["oneOf"]
            .as_array()
            .unwrap()
            .iter()
            .map(|variant| variant["properties"]["type"]["const"].as_str().unwrap().to_owned())
            .collect();
        let covered: BTreeSet<String> =
            stems(direction).iter().map(|stem| stem.split('.').next().unwrap().to_owned()).collect();
        assert_eq!(types, covered, "{direction}");
    }
}

fn plugin_messages() -> BTreeMap<&'static str, PluginMessage> {
    use PluginMessage as M;

    let echo = || Register::new("echo".parse().unwrap());
    let scribe = || Register::new("scribe".parse().unwrap());
    BTreeMap::from([
        ("register.minimal", M::Register(echo())),
        ("register.nulls", M::Register(echo())),
        (
            "register.unknown-fields",
            M::Register(Register { capabilities: vec![capability("echo.say")], ..echo() }),
        ),
        (
            "register.base",
            M::Register(Register {
                port: Port::Number(4101),
                capabilities: vec![capability("ping.echo"), capability("ping.time")],
                meta: object(json!({ "version": "1.2.0" })),
                config_schema: Some(raw(json!({ "type": "object" }))),
                ..Register::new("ping-python".parse().unwrap())
            }),
        ),
        ("register.extended", M::Register(extended_register())),
        (
            "register.resume",
            M::Register(Register {
                capabilities: vec![capability("llm.chat")],
                protocol: Some(1),
                resume: Some(Secret::new("resume-secret")),
                ..scribe()
            }),
        ),
        ("health.up", M::Health(health("up", None))),
        ("health.degraded", M::Health(health("degraded", Some("the model is still loading")))),
        ("health.down", M::Health(health("down", Some("the disk is full")))),
        ("health.own-word", M::Health(health("ready", None))),
        ("health.detail-object", M::Health(health("up", Some("{\"queue\":3}")))),
        (
            "telemetry",
            M::Telemetry(Telemetry {
                plugin: echo_name(),
                cpu: Some(12.5),
                mem_bytes: Some(52_428_800.0),
                further: BTreeMap::from([
                    ("queue".to_owned(), json!(3)),
                    ("hit_rate".to_owned(), json!(0.75)),
                ]),
            }),
        ),
        (
            "telemetry.bare",
            M::Telemetry(Telemetry {
                plugin: echo_name(),
                cpu: None,
                mem_bytes: None,
                further: BTreeMap::new(),
            }),
        ),
        (
            "log.full",
            M::Log(Log {
                timestamp: Some("2026-01-02T03:04:05.25Z".parse().unwrap()),
                fields: Some(raw(json!({ "queue": 31 }))),
                request_id: Some(id(HOST_REQUEST)),
                ..log(LogLevel::Warn, "the queue is long")
            }),
        ),
        ("log.minimal", M::Log(log(LogLevel::Info, "ready"))),
        (
            "log.no-zone",
            M::Log(Log {
                timestamp: Some("2026-01-02T03:04:05.25Z".parse().unwrap()),
                ..log(LogLevel::Warn, "slow")
            }),
        ),
        ("log.number-timestamp", M::Log(log(LogLevel::Info, "{\"state\":\"ready\"}"))),
        ("response.success", M::Response(success(json!({ "text": "hello" })))),
        ("response.both-success", M::Response(success(json!({ "text": "hello" })))),
        ("response.no-data", M::Response(success(Value::Null))),
        (
            "response.failure",
            M::Response(failure(WireError {
                retryable: Some(true),
                retry_after_ms: Some(20_000),
                param: Some("messages[0].role".to_owned()),
                details: Some(raw(json!({ "limit": 3 }))),
                ..WireError::new(ErrorCode::RateLimited, "the upstream allows 3 requests a minute: wait")
            })),
        ),
        (
            "response.cancelled",
            M::Response(failure(WireError::new(
                ErrorCode::Cancelled,
                "the request was cancelled by its caller",
            ))),
        ),
        (
            "response.error-text",
            M::Response(failure(WireError::new(ErrorCode::PluginError, "the file does not exist"))),
        ),
        (
            "response.both-failure",
            M::Response(failure(WireError::new(ErrorCode::NotFound, "no such page"))),
        ),
        (
            "response.no-reason",
            M::Response(failure(WireError::new(
                ErrorCode::PluginError,
                "the plugin failed and gave no reason",
            ))),
        ),
        ("chunk.first", M::Chunk(chunk(HOST_REQUEST, 0, json!({ "delta": "he" })))),
        ("chunk.later", M::Chunk(chunk(HOST_REQUEST, 41, json!("llo")))),
        ("request.base", M::Request(request("7", "ping.time", json!({})))),
        ("request.no-payload", M::Request(request("7", "ping.time", Value::Null))),
        (
            "request.extended",
            M::Request(Request {
                stream: true,
                credit: Some(8),
                timeout_ms: Some(5_000),
                parent_request_id: Some(id(HOST_REQUEST)),
                traceparent: Some(TRACE.to_owned()),
                ..request(PLUGIN_REQUEST, "llm.chat", json!({ "messages": [] }))
            }),
        ),
        ("cancel", M::Cancel(cancel(PLUGIN_REQUEST, CancelReason::CallerGone))),
        ("cancel.unknown-reason", M::Cancel(cancel(PLUGIN_REQUEST, CancelReason::Other))),
        ("cancel.no-reason", M::Cancel(cancel(PLUGIN_REQUEST, CancelReason::Other))),
        ("credit", M::Credit(Credit { request_id: id(PLUGIN_REQUEST), n: 16 })),
        (
            "update.everything",
            M::Update(Update {
                models: Some(vec![model("scribe/small", "llm.chat")]),
                routes: Some(Vec::new()),
                tools: Some(vec![Tool {
                    name: "write_page".to_owned(),
                    description: "Writes a page".to_owned(),
                    parameters: None,
                    side_effect: false,
                    capability: "scribe.write".parse().unwrap(),
                }]),
                capabilities: Some(vec![Capability { streaming: true, ..capability("llm.chat") }]),
                meta: Some(object(json!({ "hotConfig": true }))),
                config_schema: Some(raw(json!({ "type": "object" }))),
            }),
        ),
        ("update.one-list", M::Update(Update { models: Some(Vec::new()), ..Update::default() })),
        ("subscribe", M::Subscribe(Topic { topic: "catalogue.changed".to_owned() })),
        ("unsubscribe", M::Unsubscribe(Topic { topic: "catalogue.changed".to_owned() })),
        (
            "publish",
            M::Publish(Publish {
                topic: "scribe.page-written".to_owned(),
                data: raw(json!({ "page": "start" })),
            }),
        ),
        (
            "configApplied.success",
            M::ConfigApplied(ConfigApplied { revision: 7, success: true, error: None, dry_run: false }),
        ),
        (
            "configApplied.dry-run",
            M::ConfigApplied(ConfigApplied { revision: 7, success: true, error: None, dry_run: true }),
        ),
        (
            "configApplied.failure",
            M::ConfigApplied(ConfigApplied {
                revision: 7,
                success: false,
                error: Some(
                    WireError::new(ErrorCode::InvalidConfig, "`tone` must be one of formal, plain")
                        .param("tone"),
                ),
                dry_run: false,
            }),
        ),
        ("authChanged.key", M::AuthChanged(auth_changed(12, Some("key-1"), None, None))),
        ("authChanged.session", M::AuthChanged(auth_changed(13, None, Some("session-1"), None))),
        ("authChanged.user", M::AuthChanged(auth_changed(14, None, None, Some("user-1")))),
    ])
}

fn host_messages() -> BTreeMap<&'static str, HostMessage> {
    use HostMessage as M;

    BTreeMap::from([
        (
            "registered",
            M::Registered(Registered {
                protocol: 1,
                instance: "0198c0de-0000-7000-8000-000000000001".parse().unwrap(),
                resume: Secret::new("resume-secret"),
                heartbeat_ms: 10_000,
                limits: GrantedLimits {
                    max_frame_bytes: 16_777_216,
                    max_chunk_bytes: 262_144,
                    stream_credit: 32,
                },
                config: raw(json!({ "tone": "plain" })),
                config_revision: 3,
            }),
        ),
        (
            "rejected",
            M::Rejected(Rejected {
                code: "forbidden".to_owned(),
                message:
                    "the entry of `scribe` does not list `llm.chat`: add it there, or do not register it"
                        .to_owned(),
            }),
        ),
        ("updated.success", M::Updated(Updated { success: true, error: None })),
        (
            "updated.failure",
            M::Updated(Updated {
                success: false,
                error: Some(WireError::new(
                    ErrorCode::Forbidden,
                    "the entry of `scribe` does not list the model `other/large`",
                )),
            }),
        ),
        ("request.base", M::Request(request(HOST_REQUEST, "ping.echo", json!({ "text": "hello" })))),
        (
            "request.base-token",
            M::Request(Request {
                token: Some(Secret::new("caller-token")),
                ..request(HOST_REQUEST, "ping.echo", Value::Null)
            }),
        ),
        ("request.extended", M::Request(extended_request())),
        (
            "request.route",
            M::Request(Request {
                caller: Some(Arc::new(Caller {
                    user: "root".to_owned(),
                    key_id: None,
                    scopes: vec!["*".to_owned()],
                })),
                http: Some(HttpRequest {
                    method: "GET".to_owned(),
                    path: "/pages/start".to_owned(),
                    params: BTreeMap::from([("page".to_owned(), "start".to_owned())]),
                    query: vec![("v".to_owned(), "1".to_owned()), ("v".to_owned(), "2".to_owned())],
                    headers: BTreeMap::from([("accept".to_owned(), "text/html".to_owned())]),
                    body: HttpBody::None,
                }),
                ..request("a0a0a0a0-a0a0-8a0a-8000-000000000001", "scribe.page", Value::Null)
            }),
        ),
        (
            "request.route-body",
            M::Request(Request {
                http: Some(HttpRequest {
                    method: "PUT".to_owned(),
                    path: "/pictures/a%20b".to_owned(),
                    params: BTreeMap::from([("name".to_owned(), "a b".to_owned())]),
                    query: Vec::new(),
                    headers: BTreeMap::from([("content-type".to_owned(), "image/png".to_owned())]),
                    body: HttpBody::Base64,
                }),
                ..request("a0a0a0a0-a0a0-8a0a-8000-000000000002", "scribe.picture", json!("iVBORw0K"))
            }),
        ),
        (
            "response.success",
            M::Response(Response {
                request_id: id("7"),
                outcome: Ok(raw(json!({ "now": "2026-01-02T03:04:05Z" }))),
            }),
        ),
        (
            "response.failure",
            M::Response(Response {
                request_id: id("7"),
                outcome: Err(WireError::new(
                    ErrorCode::Forbidden,
                    "the entry of `echo` does not allow calls to `llm.chat`",
                )),
            }),
        ),
        ("chunk", M::Chunk(chunk(PLUGIN_REQUEST, 0, json!({ "delta": "he" })))),
        ("cancel.caller-gone", M::Cancel(cancel(HOST_REQUEST, CancelReason::CallerGone))),
        ("cancel.deadline", M::Cancel(cancel(HOST_REQUEST, CancelReason::Deadline))),
        ("cancel.shutdown", M::Cancel(cancel(HOST_REQUEST, CancelReason::Shutdown))),
        ("cancel.flow-control", M::Cancel(cancel(HOST_REQUEST, CancelReason::FlowControl))),
        ("cancel.protocol", M::Cancel(cancel(HOST_REQUEST, CancelReason::Protocol))),
        ("credit", M::Credit(Credit { request_id: id(HOST_REQUEST), n: 16 })),
        (
            "event",
            M::Event(Event {
                topic: "catalogue.changed".to_owned(),
                data: raw(json!({ "plugin": "echo" })),
                client: None,
            }),
        ),
        (
            "event.client",
            M::Event(Event {
                topic: "typing".to_owned(),
                data: raw(json!({ "text": "h" })),
                client: Some("client-1".to_owned()),
            }),
        ),
        (
            "config",
            M::Config(Config { revision: 7, config: raw(json!({ "tone": "formal" })), dry_run: false }),
        ),
        (
            "config.dry-run",
            M::Config(Config { revision: 7, config: raw(json!({ "tone": "formal" })), dry_run: true }),
        ),
        ("drain", M::Drain(Drain { deadline_ms: 10_000 })),
    ])
}

fn extended_register() -> Register {
    Register {
        plugin: "scribe".parse().unwrap(),
        port: Port::Number(8123),
        capabilities: vec![
            Capability {
                id: "llm.chat".parse().unwrap(),
                description: Some("Answers a conversation".to_owned()),
                input_schema: Some(raw(json!({ "type": "object", "required": ["messages"] }))),
                output_schema: Some(raw(json!({ "type": "object" }))),
                streaming: true,
                idempotent: true,
                side_effect: true,
                timeout_ms: Some(120_000),
                max_concurrency: Some(4),
            },
            capability("llm.embed"),
        ],
        meta: object(json!({ "hotConfig": true, "homepage": "https://example.org" })),
        config_schema: Some(raw(
            json!({ "type": "object", "properties": { "tone": { "type": "string" } } }),
        )),
        protocol: Some(1),
        version: Some("0.3.1".to_owned()),
        token: Some(Secret::new("launch-token")),
        resume: None,
        models: vec![
            Model {
                owned_by: Some("scribe".to_owned()),
                context_length: Some(8_192),
                ..model("scribe/large", "llm.chat")
            },
            Model { dimensions: Some(384), ..model("scribe/embed", "llm.embed") },
        ],
        routes: vec![Route {
            method: "GET".to_owned(),
            path: "/pages/{page}".to_owned(),
            capability: "scribe.page".parse().unwrap(),
            streaming: true,
        }],
        tools: vec![Tool {
            name: "write_page".to_owned(),
            description: "Writes a page".to_owned(),
            parameters: Some(raw(json!({ "type": "object" }))),
            side_effect: true,
            capability: "scribe.write".parse().unwrap(),
        }],
        channels: vec!["typing".to_owned()],
        ui: vec![UiSlot {
            slot: "page".to_owned(),
            title: "Pages".to_owned(),
            entry: "pages.json".to_owned(),
        }],
    }
}

fn extended_request() -> Request {
    Request {
        request_id: id(HOST_REQUEST),
        capability: "llm.chat".parse().unwrap(),
        payload: raw(json!({
            "model": "scribe/large",
            "messages": [{ "role": "user", "content": "hi" }],
            "stream": true
        })),
        token: None,
        stream: true,
        credit: Some(32),
        timeout_ms: Some(300_000),
        caller: Some(Arc::new(Caller {
            user: "ada".to_owned(),
            key_id: Some("key-1".to_owned()),
            scopes: vec!["llm.chat".to_owned(), "models.read".to_owned()],
        })),
        correlation_id: Some("0198c0de-0000-7000-8000-000000000002".into()),
        parent_request_id: Some(id(PLUGIN_REQUEST)),
        traceparent: Some(TRACE.to_owned()),
        http: None,
    }
}

fn check<M: Message + PartialEq + Debug>(direction: &str, expected: &BTreeMap<&str, M>) {
    let files = stems(direction);
    let named: BTreeSet<String> = expected.keys().map(|stem| (*stem).to_owned()).collect();
    assert_eq!(files, named, "golden files of {direction} and the values expected of them");

    for (stem, message) in expected {
        let strict = folder(direction).join(format!("{stem}.json"));
        let (written, lenient) = if strict.exists() {
            (read(&strict), None)
        } else {
            let file = |form: &str| read(&folder(direction).join(format!("{stem}.{form}.json")));
            (file("canonical"), Some(file("lenient")))
        };
        assert_eq!(json_of(&message.encode()), json_of(&written), "what is written for {stem}");
        for text in [Some(written), lenient].into_iter().flatten() {
            let kind = json_of(&text)["type"].as_str().unwrap().to_owned();
            assert_eq!(stem.split('.').next(), Some(kind.as_str()), "{stem} is named after its type");
            M::decode(&text).expect("a file is a frame as it stands");
            // A payload keeps its text, and a file is laid out for people: without its layout the
            // values compare as a whole.
            let compact = serde_json::from_str::<Value>(&text).unwrap().to_string();
            let Ok(Decoded::Message(read)) = M::decode(&compact) else { panic!("{stem} is not read") };
            assert_eq!(read, *message, "{stem} as it is read");
        }
    }
}

/// The stems of a direction's files: `<type>[.<variant>]`.
fn stems(direction: &str) -> BTreeSet<String> {
    let mut stems = BTreeSet::new();
    for entry in std::fs::read_dir(folder(direction)).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        let stem = name.strip_suffix(".json").unwrap_or_else(|| panic!("`{name}` is no golden file"));
        let (stem, partner) = match stem.rsplit_once('.') {
            Some((stem, "lenient")) => (stem, Some("canonical")),
            Some((stem, "canonical")) => (stem, Some("lenient")),
            _ => (stem, None),
        };
        if let Some(form) = partner {
            let partner = folder(direction).join(format!("{stem}.{form}.json"));
            assert!(partner.exists(), "{} is missing", partner.display());
        }
        stems.insert(stem.to_owned());
    }
    stems
}

fn folder(direction: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("golden/messages").join(direction)
}

fn read(file: &Path) -> String {
    std::fs::read_to_string(file).unwrap_or_else(|problem| panic!("{}: {problem}", file.display()))
}

/// The JSON of a text, where `3` and `3.0` are the same number.
fn json_of(text: &str) -> Value {
    fn with_plain_numbers(value: Value) -> Value {
        match value {
            Value::Number(number) => json!(number.as_f64().unwrap()),
            Value::Array(items) => items.into_iter().map(with_plain_numbers).collect(),
            Value::Object(members) => {
                Value::Object(members.into_iter().map(|(k, v)| (k, with_plain_numbers(v))).collect())
            }
            other => other,
        }
    }
    with_plain_numbers(serde_json::from_str(text).unwrap())
}

fn raw(value: Value) -> RawJson {
    RawJson::from(value)
}

fn object(value: Value) -> Map<String, Value> {
    value.as_object().unwrap().clone()
}

fn id(text: &str) -> RequestId {
    serde_json::from_value(json!(text)).unwrap()
}

fn echo_name() -> Option<String> {
    Some("echo".to_owned())
}

fn capability(name: &str) -> Capability {
    Capability {
        id: name.parse().unwrap(),
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

fn model(id: &str, capability: &str) -> Model {
    Model {
        id: id.to_owned(),
        capability: capability.parse().unwrap(),
        owned_by: None,
        context_length: None,
        dimensions: None,
    }
}

fn health(status: &str, detail: Option<&str>) -> Health {
    Health { plugin: echo_name(), status: status.to_owned(), detail: detail.map(str::to_owned) }
}

fn log(level: LogLevel, message: &str) -> Log {
    Log {
        plugin: echo_name(),
        level,
        message: message.to_owned(),
        timestamp: None,
        fields: None,
        request_id: None,
    }
}

fn request(request_id: &str, capability: &str, payload: Value) -> Request {
    Request {
        request_id: id(request_id),
        capability: capability.parse().unwrap(),
        payload: raw(payload),
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

fn success(data: Value) -> Response {
    Response { request_id: id(HOST_REQUEST), outcome: Ok(raw(data)) }
}

fn failure(error: WireError) -> Response {
    Response { request_id: id(HOST_REQUEST), outcome: Err(error) }
}

fn chunk(request_id: &str, seq: u64, data: Value) -> Chunk {
    Chunk { request_id: id(request_id), seq, data: raw(data) }
}

fn cancel(request_id: &str, reason: CancelReason) -> Cancel {
    Cancel { request_id: id(request_id), reason }
}

fn auth_changed(
    generation: u64,
    key: Option<&str>,
    session: Option<&str>,
    user: Option<&str>,
) -> AuthChanged {
    AuthChanged {
        generation,
        key_id: key.map(str::to_owned),
        session_id: session.map(str::to_owned),
        user_id: user.map(str::to_owned),
    }
}
