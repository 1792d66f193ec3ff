//! Replays the golden conversations against each half, once as the host and once as the plugin.
//!
//! The format is described in `golden/README.md`, since other SDKs read the same files. A replay is
//! exact: every frame that the half under test writes and every event that it reports must be in the
//! conversation, in that order, and nothing may be left at its end.

#![expect(clippy::unwrap_used, reason = "what fails here fails the test")]
#![allow(clippy::result_large_err, reason = "the shape is that of the API under test")]

use std::collections::VecDeque;
use std::path::Path;
use std::time::Duration;

use bkg_protocol::exchange::{Dropped, GivenUp, Lost, NotSent, Refusal};
use bkg_protocol::frame::{Decoded, Message};
use bkg_protocol::host::{Acceptance, HostEvent, HostSession, Overdue};
use bkg_protocol::inbound::ChunkRefused;
use bkg_protocol::message::{Register, Request, Response, Topic};
use bkg_protocol::plugin::{PluginEvent, PluginSession};
use bkg_protocol::{ErrorCode, HostMessage, Limits, PluginMessage, RawJson, RequestId, WireError};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

/// The host's request ids in the files are `a0a0a0a0-a0a0-8a0a-8000-00000000000…`.
const HOST_SEED: u64 = 0xa0a0_a0a0_a0a0_0a0a;
/// The plugin's request ids in the files are `b0b0b0b0-b0b0-8b0b-8000-00000000000…`.
const PLUGIN_SEED: u64 = 0xb0b0_b0b0_b0b0_0b0b;

/// The conversations that must exist, so that a lost file is noticed.
const NAMES: [&str; 30] = [
    "base-plugin",
    "base-plugin-asks",
    "cancel-before-written",
    "cancel-races-finish",
    "cancel-stops-stream",
    "cancel-unanswered",
    "config-dry-run",
    "config-hot",
    "drain",
    "duplicate-request-id",
    "events",
    "extended-register",
    "first-frame-not-register",
    "health-log-telemetry",
    "out-of-order-chunk",
    "overrun-is-cut-off",
    "plugin-asks",
    "plugin-asks-and-cancels",
    "plugin-asks-for-a-stream",
    "rejected",
    "request-response",
    "resume",
    "second-register",
    "session-lost",
    "stream-with-credit",
    "unknown-type",
    "unknown-type-from-host",
    "unreadable-frames",
    "unreadable-frames-from-host",
    "update",
];

#[test]
fn every_golden_conversation_is_known_by_name() {
    let mut files: Vec<String> = std::fs::read_dir(folder())
        .unwrap()
        .map(|entry| entry.unwrap().path().file_stem().unwrap().to_str().unwrap().to_owned())
        .collect();
    files.sort();
    assert_eq!(files, NAMES);
}

#[test]
fn the_host_half_keeps_every_golden_conversation_that_tells_its_side() {
    let told =
        NAMES.iter().filter(|name| replay::<HostHalf>(name, "host", "hostDoes", "hostSees", "plugin"));
    assert_eq!(told.count(), 28);
}

#[test]
fn the_plugin_half_keeps_every_golden_conversation_that_tells_its_side() {
    let told = NAMES
        .iter()
        .filter(|name| replay::<PluginHalf>(name, "plugin", "pluginDoes", "pluginSees", "host"));
    assert_eq!(told.count(), 19);
}

/// One half of a session, driven by the lines of a conversation.
trait Half: Default {
    /// Does what its application asks; answers what the application sees of it at once.
    fn act(&mut self, action: &str, arguments: &Value, now: Duration) -> Vec<Value>;
    /// Takes in a frame; answers what the application sees.
    fn receive(&mut self, text: &str, now: Duration) -> Vec<Value>;
    fn next_frame(&mut self) -> Option<String>;
}

/// Answers whether the conversation tells this half's side.
fn replay<H: Half>(name: &str, own: &str, does: &str, sees: &str, other: &str) -> bool {
    let text = std::fs::read_to_string(folder().join(format!("{name}.jsonl"))).unwrap();
    let mut lines = text.lines().enumerate();
    let header: Value = serde_json::from_str(lines.next().expect("a header").1).unwrap();
    assert!(header["about"].is_string(), "{name} says what it shows");
    let halves: Vec<String> = read(&header["halves"]);
    if !halves.iter().any(|half| half == own) {
        return false;
    }

    let mut half = H::default();
    let mut now = Duration::ZERO;
    let mut seen: VecDeque<Value> = VecDeque::new();
    for (number, line) in lines {
        let place = format!("{name}.jsonl:{}, the {own}'s side", number + 1);
        let line: Value = serde_json::from_str(line).unwrap_or_else(|error| panic!("{place}: {error}"));
        let (key, value) = only_member(&line, &place);
        if key == "at" {
            now = Duration::from_millis(read(value));
        } else if key == own {
            let written = half.next_frame().unwrap_or_else(|| panic!("{place}: nothing is written"));
            assert_eq!(json_of(&written), *value, "{place}: what is written");
        } else if key == sees {
            assert_eq!(seen.pop_front().as_ref(), Some(value), "{place}: what is seen");
        } else if key == does {
            assert_eq!(seen, VecDeque::new(), "{place}: this was seen and not told");
            let (action, arguments) = only_member(value, &place);
            seen.extend(half.act(action, arguments, now));
        } else if key == other {
            assert_eq!(seen, VecDeque::new(), "{place}: this was seen and not told");
            // A text instead of an object is the frame itself, for what no JSON object can show.
            let frame = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
            seen.extend(half.receive(&frame, now));
        } else {
            assert!(
                ["host", "plugin", "hostDoes", "pluginDoes", "hostSees", "pluginSees"].contains(&key),
                "{place}: `{key}` is no kind of line"
            );
        }
    }
    assert_eq!(seen, VecDeque::new(), "{name}, the {own}'s side: this was seen and not told");
    assert_eq!(half.next_frame(), None, "{name}, the {own}'s side: this was written and not told");
    true
}

struct HostHalf(HostSession<String>);

impl Default for HostHalf {
    fn default() -> Self {
        Self(HostSession::new(HOST_SEED, Limits::default(), None))
    }
}

impl Half for HostHalf {
    fn act(&mut self, action: &str, arguments: &Value, now: Duration) -> Vec<Value> {
        let session = &mut self.0;
        match action {
            "accept" => session.accept(Acceptance {
                instance: read(&arguments["instance"]),
                resume: read(&arguments["resume"]),
                config: RawJson::from(arguments["config"].clone()),
                config_revision: read(&arguments["configRevision"]),
            }),
            "reject" => {
                let code = ErrorCode::parse(&read::<String>(&arguments["code"])).unwrap();
                session.reject(code, &read::<String>(&arguments["message"]));
                return vec![closing(session)];
            }
            "updated" => session.updated(outcome(arguments).map(|_| ())),
            "request" => {
                let (request, waiter) = request(arguments);
                return refused(session.start(request, waiter));
            }
            "cancel" => {
                let (id, reason) = (read(&arguments["requestId"]), read(&arguments["reason"]));
                return given_up(session.cancel(&id, reason, now));
            }
            "credit" => session.credit(&read(&arguments["requestId"]), read(&arguments["n"])),
            "answer" => {
                return answered(session.answer(&read(&arguments["requestId"]), outcome(arguments)));
            }
            "chunk" => {
                let data = RawJson::from(arguments["data"].clone());
                return chunk_refused(session.send_chunk(&read(&arguments["requestId"]), data));
            }
            "event" => session.event(read(arguments)),
            "config" => session.config(read(arguments)),
            "drain" => {
                let within = Duration::from_millis(read(&arguments["deadlineMs"]));
                return session.drain(within).into_iter().map(retracted).collect();
            }
            "checkOverdue" => {
                let word = match session.overdue(now) {
                    Overdue::No => "no",
                    Overdue::Degraded => "degraded",
                    Overdue::Replace => "replace",
                };
                return vec![json!({ "overdue": word })];
            }
            "close" => {
                session.shut(read(&arguments["code"]), &read::<String>(&arguments["reason"]));
                return vec![closing(session)];
            }
            "end" => return ended(session.end()),
            other => panic!("`{other}` is nothing that a host does"),
        }
        Vec::new()
    }

    fn receive(&mut self, text: &str, now: Duration) -> Vec<Value> {
        let message = match self.0.receive(text, now) {
            HostEvent::Closing => return vec![closing(&self.0)],
            HostEvent::Answered { waiter, outcome } => return vec![answer_seen(&waiter, outcome)],
            HostEvent::Chunk { waiter, data } => {
                return vec![json!({ "chunk": { "waiter": waiter, "data": json_of(data.as_str()) } })];
            }
            HostEvent::Broken { waiter, error } => {
                return vec![json!({ "broken": { "waiter": waiter, "error": error } })];
            }
            HostEvent::Released { waiter } => return vec![json!({ "released": { "waiter": waiter } })],
            HostEvent::RequestCancelled(id) => return vec![json!({ "cancelled": { "requestId": id } })],
            HostEvent::MayStream(id) => return vec![json!({ "mayStream": { "requestId": id } })],
            HostEvent::Dropped(dropped) => return vec![dropped_seen(dropped)],
            HostEvent::Register(register) => PluginMessage::Register(*register),
            HostEvent::Request(request) => PluginMessage::Request(*request),
            HostEvent::Health(health) => PluginMessage::Health(health),
            HostEvent::Telemetry(telemetry) => PluginMessage::Telemetry(telemetry),
            HostEvent::Log(log) => PluginMessage::Log(*log),
            HostEvent::Update(update) => PluginMessage::Update(*update),
            HostEvent::Subscribe(topic) => PluginMessage::Subscribe(Topic { topic }),
            HostEvent::Unsubscribe(topic) => PluginMessage::Unsubscribe(Topic { topic }),
            HostEvent::Publish(publish) => PluginMessage::Publish(publish),
            HostEvent::ConfigApplied(applied) => PluginMessage::ConfigApplied(applied),
            HostEvent::AuthChanged(changed) => PluginMessage::AuthChanged(changed),
        };
        vec![handed_over(text, &message)]
    }

    fn next_frame(&mut self) -> Option<String> {
        self.0.next_frame()
    }
}

#[derive(Default)]
struct PluginHalf(Option<PluginSession<String>>);

impl Half for PluginHalf {
    fn act(&mut self, action: &str, arguments: &Value, now: Duration) -> Vec<Value> {
        if action == "register" {
            self.0 = Some(PluginSession::new(PLUGIN_SEED, read::<Register>(arguments)));
            return Vec::new();
        }
        let session = self.0.as_mut().expect("a plugin registers first");
        match action {
            "request" => {
                let (request, waiter) = request(arguments);
                return refused(session.start(request, waiter));
            }
            "cancel" => {
                let (id, reason) = (read(&arguments["requestId"]), read(&arguments["reason"]));
                return given_up(session.cancel(&id, reason, now));
            }
            "credit" => session.credit(&read(&arguments["requestId"]), read(&arguments["n"])),
            "answer" => {
                return answered(session.answer(&read(&arguments["requestId"]), outcome(arguments)));
            }
            "chunk" => {
                let data = RawJson::from(arguments["data"].clone());
                return chunk_refused(session.send_chunk(&read(&arguments["requestId"]), data));
            }
            "say" => match PluginMessage::decode(&arguments.to_string()).unwrap() {
                Decoded::Message(message) => session.say(&message),
                Decoded::Unknown(kind) => panic!("`{kind}` is nothing that a plugin says"),
            },
            "checkDrained" => return vec![json!({ "drained": session.is_drained() })],
            "end" => return ended(session.end()),
            other => panic!("`{other}` is nothing that a plugin does"),
        }
        Vec::new()
    }

    fn receive(&mut self, text: &str, now: Duration) -> Vec<Value> {
        let session = self.0.as_mut().expect("a plugin registers first");
        let message = match session.receive(text, now) {
            PluginEvent::Answered { waiter, outcome } => return vec![answer_seen(&waiter, outcome)],
            PluginEvent::Chunk { waiter, data } => {
                return vec![json!({ "chunk": { "waiter": waiter, "data": json_of(data.as_str()) } })];
            }
            PluginEvent::Broken { waiter, error } => {
                return vec![json!({ "broken": { "waiter": waiter, "error": error } })];
            }
            PluginEvent::Released { waiter } => return vec![json!({ "released": { "waiter": waiter } })],
            PluginEvent::RequestCancelled { id, reason } => {
                return vec![json!({ "cancelled": { "requestId": id, "reason": reason } })];
            }
            PluginEvent::MayStream(id) => return vec![json!({ "mayStream": { "requestId": id } })],
            PluginEvent::Dropped(dropped) => return vec![dropped_seen(dropped)],
            PluginEvent::Drain(within) => {
                return vec![json!({ "drain": { "deadlineMs": within.as_millis() as u64 } })];
            }
            PluginEvent::Updated(Ok(())) => return vec![json!({ "updated": { "success": true } })],
            PluginEvent::Updated(Err(error)) => {
                return vec![json!({ "updated": { "success": false, "error": error } })];
            }
            PluginEvent::Registered(registered) => HostMessage::Registered(*registered),
            PluginEvent::Rejected(rejected) => HostMessage::Rejected(rejected),
            PluginEvent::Request(request) => HostMessage::Request(*request),
            PluginEvent::Event(event) => HostMessage::Event(event),
            PluginEvent::Config(config) => HostMessage::Config(config),
        };
        vec![handed_over(text, &message)]
    }

    fn next_frame(&mut self) -> Option<String> {
        self.0.as_mut().and_then(PluginSession::next_frame)
    }
}

/// A message that reaches the application as it came is told by its type alone.
fn handed_over<M: Message + PartialEq + std::fmt::Debug>(text: &str, message: &M) -> Value {
    let Ok(Decoded::Message(sent)) = M::decode(text) else { panic!("{text} is no message") };
    assert_eq!(*message, sent, "the application sees the message that was sent");
    json!({ "message": json_of(&message.encode())["type"] })
}

fn request(arguments: &Value) -> (Request, String) {
    let mut fields = arguments.clone();
    fields["requestId"] = json!("assigned by the half");
    (read(&fields), read(&arguments["waiter"]))
}

/// `{"data"}` or `{"error"}`, with or without `success`.
fn outcome(arguments: &Value) -> Result<RawJson, WireError> {
    let mut fields = arguments.clone();
    fields["requestId"] = json!("of no matter");
    fields["success"] = json!(arguments.get("error").is_none());
    read::<Response>(&fields).outcome
}

fn refused(started: Result<RequestId, NotSent<String>>) -> Vec<Value> {
    let Err(NotSent { waiter, why }) = started else { return Vec::new() };
    let why = match why {
        Refusal::NotOpen => "notOpen",
        Refusal::TooLarge { .. } => "tooLarge",
    };
    vec![json!({ "refused": { "waiter": waiter, "why": why } })]
}

fn given_up(given_up: GivenUp<String>) -> Vec<Value> {
    match given_up {
        GivenUp::Retracted(waiter) => vec![retracted(waiter)],
        GivenUp::Told => Vec::new(),
        GivenUp::Over => vec![json!({ "over": true })],
    }
}

fn retracted(waiter: String) -> Value {
    json!({ "retracted": { "waiter": waiter } })
}

fn answered(was_open: bool) -> Vec<Value> {
    if was_open { Vec::new() } else { vec![json!({ "over": true })] }
}

fn chunk_refused(sent: Result<(), ChunkRefused>) -> Vec<Value> {
    let Err(why) = sent else { return Vec::new() };
    let why = match why {
        ChunkRefused::NoCredit => "noCredit",
        ChunkRefused::Over => "over",
        ChunkRefused::NotStreaming => "notStreaming",
        ChunkRefused::TooLarge { .. } => "tooLarge",
    };
    vec![json!({ "chunkRefused": why })]
}

fn ended((lost, abandoned): (Vec<Lost<String>>, Vec<RequestId>)) -> Vec<Value> {
    let mut lost: Vec<Value> = lost
        .into_iter()
        .map(|Lost { waiter, handed_over }| {
            json!({ "lost": { "waiter": waiter, "handedOver": handed_over } })
        })
        .collect();
    lost.sort_by_key(Value::to_string);
    lost.extend(abandoned.into_iter().map(|id| json!({ "abandoned": { "requestId": id } })));
    lost
}

fn answer_seen(waiter: &str, outcome: Result<RawJson, WireError>) -> Value {
    match outcome {
        Ok(data) => json!({ "answered": { "waiter": waiter, "data": json_of(data.as_str()) } }),
        Err(error) => json!({ "answered": { "waiter": waiter, "error": error } }),
    }
}

fn dropped_seen(dropped: Dropped) -> Value {
    let why = match dropped {
        Dropped::Late => "late",
        Dropped::UnknownRequest => "unknownRequest",
        Dropped::DuplicateRequest => "duplicateRequest",
        Dropped::UnknownType => "unknownType",
        Dropped::OutOfPlace => "outOfPlace",
        Dropped::Unreadable => "unreadable",
    };
    json!({ "dropped": why })
}

fn closing(session: &HostSession<String>) -> Value {
    let close = session.closing().expect("the session closes");
    json!({ "closing": { "code": close.code, "reason": close.reason } })
}

fn only_member<'a>(value: &'a Value, place: &str) -> (&'a str, &'a Value) {
    let members = value.as_object().unwrap_or_else(|| panic!("{place}: not an object"));
    assert_eq!(members.len(), 1, "{place}: a line says one thing");
    let (key, value) = members.iter().next().expect("one member");
    (key, value)
}

fn read<T: DeserializeOwned>(value: &Value) -> T {
    T::deserialize(value).unwrap_or_else(|problem| panic!("{value}: {problem}"))
}

fn json_of(text: &str) -> Value {
    serde_json::from_str(text).unwrap()
}

fn folder() -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("golden/conversations")
}
