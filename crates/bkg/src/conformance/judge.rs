//! What one session heard, and what is wrong with it: every frame is looked at, whatever it came for.
//!
//! Frames are judged as raw text, before anything forgives them. No socket and no waiting: `session`
//! hands frames in. The invariant: a frame that breaks a rule is noted under exactly one.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use bkg_protocol::{CapabilityName, PluginName, RawJson};
use serde::Deserialize;
use serde_json::{Map, Value, json};
use tokio::time::Instant;
use tokio_tungstenite::tungstenite::Error;
use tokio_tungstenite::tungstenite::error::ProtocolError;

use super::notebook::{Notebook, clipped};
use super::output::Output;
use super::rule::{Level, Rule};
use super::schemas;
use crate::config::PluginEntry;

/// What a session is judged by.
#[derive(Debug, Clone)]
pub(super) struct Expected<'a> {
    /// The name that the launch was given; `None` where somebody else gave it.
    pub(super) name: Option<PluginName>,
    /// The entry, where somebody wrote one.
    pub(super) grants: Option<&'a PluginEntry>,
    /// The launch token, where it is known.
    pub(super) token: Option<String>,
    /// What `registered` says about sizes.
    pub(super) limits: SizeLimits,
}

/// The sizes that a plugin has to keep to, in bytes.
#[derive(Debug, Clone, Copy)]
pub(super) struct SizeLimits {
    pub(super) frame: usize,
    pub(super) chunk: usize,
}

/// A request that was put to the plugin.
#[derive(Debug, Default)]
pub(super) struct Asked {
    pub(super) is_stream: bool,
    /// How many chunks it may send in all.
    pub(super) granted: u64,
    /// How many it has sent.
    pub(super) chunks: u64,
    pub(super) next_seq: u64,
    /// The first response.
    pub(super) response: Option<Value>,
    /// The rule that a second response breaks, where the kit provokes one.
    pub(super) blame: Option<Rule>,
}

/// What a session heard.
pub(super) struct Heard<'a> {
    notebook: Arc<Notebook>,
    output: Arc<Output>,
    pub(super) expected: Expected<'a>,
    /// The `register` that began it.
    pub(super) register: Option<Map<String, Value>>,
    /// Whether `registered` has been sent.
    pub(super) is_welcomed: bool,
    pub(super) beats: u32,
    pub(super) pongs: u32,
    /// `configApplied`s, in order.
    pub(super) applied: Vec<Value>,
    pub(super) asked: HashMap<String, Asked>,
    /// Ids that were named here and never asked, and the rule that an answer to one of them breaks.
    pub(super) strays: HashMap<String, Rule>,
    /// What the plugin asked itself and has no answer to, oldest first.
    pub(super) own_requests: Vec<(String, Instant)>,
    /// The capability that it asked for last; the kit has none to offer.
    pub(super) asked_itself: Option<String>,
    /// What is to be sent for what was heard.
    pub(super) replies: Vec<Value>,
}

impl<'a> Heard<'a> {
    pub(super) fn new(notebook: Arc<Notebook>, output: Arc<Output>, expected: Expected<'a>) -> Self {
        Self {
            notebook,
            output,
            expected,
            register: None,
            is_welcomed: false,
            beats: 0,
            pongs: 0,
            applied: Vec::new(),
            asked: HashMap::new(),
            strays: HashMap::new(),
            own_requests: Vec::new(),
            asked_itself: None,
            replies: Vec::new(),
        }
    }

    /// Whether the plugin registered for the extended contract; `None` before it did.
    pub(super) fn contract(&self) -> Option<Level> {
        let register = self.register.as_ref()?;
        let is_extended = register.get("protocol").is_some_and(|protocol| !protocol.is_null());
        Some(if is_extended { Level::Extended } else { Level::Base })
    }

    /// The first response to a request.
    pub(super) fn response(&self, id: &str) -> Option<&Value> {
        self.asked.get(id)?.response.as_ref()
    }

    /// How many chunks a request has sent.
    pub(super) fn chunks(&self, id: &str) -> u64 {
        self.asked.get(id).map_or(0, |asked| asked.chunks)
    }

    /// Whether a stream waits for credit, or is over.
    pub(super) fn rests(&self, id: &str) -> bool {
        self.asked.get(id).is_none_or(|asked| asked.response.is_some() || asked.chunks >= asked.granted)
    }

    /// Whether the plugin registered this capability as one that streams.
    pub(super) fn streams(&self, capability: &str) -> bool {
        self.capabilities().any(|item| item["id"] == capability && item["streaming"] == true)
    }

    /// Whether it registered any capability that streams.
    pub(super) fn streams_at_all(&self) -> bool {
        self.capabilities().any(|item| item["streaming"] == true)
    }

    fn capabilities(&self) -> impl Iterator<Item = &Value> {
        let listed = self.register.as_ref().and_then(|register| register.get("capabilities"));
        listed.and_then(Value::as_array).into_iter().flatten()
    }

    /// The `configApplied` for a revision.
    pub(super) fn applied(&self, revision: u64) -> Option<&Value> {
        self.applied.iter().find(|applied| applied["revision"] == revision)
    }

    /// A frame that is no text.
    pub(super) fn take_binary(&self, size: usize) {
        let came = format!("a binary frame of {size} bytes");
        self.notebook.broken(Rule::FramesValid, "text frames alone", came);
    }

    /// Bytes that are no frame.
    pub(super) fn take_error(&self, error: &Error) {
        match error {
            Error::Protocol(ProtocolError::ResetWithoutClosingHandshake) => {}
            Error::Protocol(_) | Error::Utf8(_) => {
                self.notebook.broken(Rule::FramesValid, "frames as RFC 6455 says", error.to_string());
            }
            Error::Capacity(_) => {
                self.notebook.broken(Rule::FrameSizeKept, "frames within the limit", error.to_string());
            }
            _ => {}
        }
    }

    /// One text frame.
    pub(super) fn take(&mut self, text: &str) {
        let limit = self.expected.limits.frame;
        if text.len() > limit {
            let came = format!("a frame of {} bytes: {}", text.len(), clipped(text));
            self.notebook.broken(Rule::FrameSizeKept, format!("frames of at most {limit} bytes"), came);
        }
        // Until it has registered, whatever is wrong is wrong with the first frame.
        let rule = if self.register.is_none() { Rule::RegisterFirst } else { Rule::FramesValid };
        let frame = match serde_json::from_str::<Value>(text) {
            Ok(Value::Object(frame)) => frame,
            Ok(_) => return self.notebook.broken(rule, "one JSON object in each frame", clipped(text)),
            Err(error) => {
                let came = format!("{} ({error})", clipped(text));
                return self.notebook.broken(rule, "one JSON object in each frame", came);
            }
        };
        let Some(kind) = frame.get("type").and_then(Value::as_str).map(str::to_owned) else {
            return self.notebook.broken(rule, "a `type` in each frame", clipped(text));
        };
        if !schemas::is_known(&kind) && self.register.is_some() {
            let remark =
                format!("a frame of the type `{kind}`, which this host does not know: {}", clipped(text));
            return self.notebook.remark(Rule::FramesValid, remark);
        }
        self.take_message(&kind, frame, text);
    }

    fn take_message(&mut self, kind: &str, frame: Map<String, Value>, text: &str) {
        let notebook = Arc::clone(&self.notebook);
        match (kind, self.register.is_some()) {
            ("register", false) => return self.register(frame, text),
            ("register", true) => {
                return notebook.broken(Rule::RegisterOnce, "one `register` in a session", clipped(text));
            }
            (_, false) => {
                return notebook.broken(
                    Rule::RegisterFirst,
                    "`register` as the first frame",
                    clipped(text),
                );
            }
            (_, true) if self.contract() == Some(Level::Extended) && !self.is_welcomed => {
                let expected = "nothing between `register` and `registered`";
                notebook.broken(Rule::SilentUntilRegistered, expected, clipped(text));
            }
            (_, true) => {}
        }
        let is_log = matches!(kind, "log" | "telemetry");
        let rule = if is_log { Rule::LogsValid } else { Rule::FramesValid };
        if let Some(violation) = schemas::violation(kind, &frame) {
            notebook.broken(
                rule,
                format!("a `{kind}` as its schema says"),
                format!("{violation}, in {}", clipped(text)),
            );
        } else {
            notebook.passed(rule);
        }
        self.check_name(rule, kind, &frame, text);
        match kind {
            "health" => self.health(&frame, text),
            "log" => self.output.count(),
            "response" => self.respond(frame, text),
            "chunk" => self.chunk(&frame, text),
            "request" => self.request(&frame, text),
            "configApplied" => self.applied.push(Value::Object(frame)),
            "update" => self.replies.push(json!({ "type": "updated", "success": true })),
            _ => {}
        }
    }

    /// Whether a frame that says whose it is says so rightly; a wrong name in `register` is noted there.
    fn check_name(&self, rule: Rule, kind: &str, frame: &Map<String, Value>, text: &str) {
        let Some(said) = frame.get("plugin").and_then(Value::as_str) else { return };
        let registered = self.register.as_ref().and_then(|register| register.get("plugin")?.as_str());
        let given = self.expected.name.as_ref().map(PluginName::as_str);
        if let Some(name) = given.or(registered)
            && said != name
            && registered != Some(said)
        {
            let expected = format!("`plugin` is `{name}` in each `{kind}`");
            self.notebook.broken(rule, expected, clipped(text));
        }
    }

    fn register(&mut self, frame: Map<String, Value>, text: &str) {
        let notebook = Arc::clone(&self.notebook);
        if let Some(violation) = schemas::violation("register", &frame) {
            let came = format!("{violation}, in {}", clipped(text));
            notebook.broken(Rule::RegisterFirst, "a `register` as its schema says", came);
        }
        let token = frame.get("token").and_then(Value::as_str);
        if let (Some(known), Some(shown)) = (&self.expected.token, token)
            && known != shown
        {
            let expected = "`token` is that of `BKG_PLUGIN_TOKEN`, or absent";
            notebook.broken(Rule::RegisterFirst, expected, "another token");
        }
        notebook.passed(Rule::RegisterFirst);
        notebook.passed(Rule::RegisterOnce);
        let name = frame.get("plugin").and_then(Value::as_str).unwrap_or_default();
        match &self.expected.name {
            Some(known) if known.as_str() == name => notebook.passed(Rule::RegisterName),
            Some(known) => {
                let came = format!("`{}`", clipped(name));
                notebook.broken(Rule::RegisterName, format!("the name `{known}`"), came);
            }
            None => notebook.not_tried(
                Rule::RegisterName,
                "the plugin was started by hand, so nobody knows which name it was given",
            ),
        }
        self.check_grants(&frame);
        self.register = Some(frame);
    }

    /// Whether everything that is registered is granted, and complete in itself.
    fn check_grants(&self, register: &Map<String, Value>) {
        let list = |name: &str| register.get(name).and_then(Value::as_array).into_iter().flatten();
        let id_of = |item: &Value| item.get("id").unwrap_or(item).as_str().unwrap_or_default().to_owned();
        let offered: HashSet<String> = list("capabilities").map(id_of).collect();
        let broken = |expected: String, came: String| {
            self.notebook.broken(Rule::RegisterWithinEntry, expected, came);
        };
        for what in ["models", "routes", "tools"] {
            for item in list(what) {
                let capability = item.get("capability").and_then(Value::as_str);
                // A tool may do without.
                if let Some(capability) = capability.filter(|capability| !offered.contains(*capability)) {
                    let expected =
                        format!("every one of `{what}` names a capability of the same `register`");
                    broken(
                        expected,
                        format!("`{}` in {}", clipped(capability), clipped(&item.to_string())),
                    );
                }
            }
        }
        let Some(entry) = self.expected.grants else {
            if !self.notebook.is_broken(Rule::RegisterWithinEntry) {
                let reason = "there is no `plugin.json`, so nothing bounds what it registers";
                self.notebook.not_tried(Rule::RegisterWithinEntry, reason);
            }
            return;
        };
        for id in &offered {
            let is_granted = id.parse::<CapabilityName>().is_ok_and(|name| entry.grants(&name));
            if !is_granted {
                let expected = "capabilities that `capabilities` of the entry lists".to_owned();
                broken(expected, format!("`{}`", clipped(id)));
            }
        }
        for model in list("models").map(id_of).filter(|model| !entry.grants_model(model)) {
            broken("models that `models` of the entry lists".to_owned(), format!("`{}`", clipped(&model)));
        }
        self.notebook.passed(Rule::RegisterWithinEntry);
    }

    fn health(&mut self, frame: &Map<String, Value>, text: &str) {
        self.beats += 1;
        let word = frame.get("status").and_then(Value::as_str).unwrap_or_default();
        if !is_known_word(word) {
            let remark = format!("the status `{}` reads as `degraded`: {}", clipped(word), clipped(text));
            self.notebook.remark(Rule::BeatsKeepComing, remark);
        }
    }

    fn respond(&mut self, frame: Map<String, Value>, text: &str) {
        let notebook = Arc::clone(&self.notebook);
        let Some(id) = frame.get("requestId").and_then(Value::as_str).map(str::to_owned) else { return };
        let Some(asked) = self.asked.get_mut(&id) else { return self.stranger(&id, text) };
        notebook.passed(Rule::AnswersOwnIds);
        if asked.response.is_some() {
            let rule = asked.blame.unwrap_or(Rule::OneResponseEach);
            let came = format!("a second: {}", clipped(text));
            return notebook.broken(rule, "one `response` to each request", came);
        }
        notebook.passed(Rule::OneResponseEach);
        match frame.get("success").and_then(Value::as_bool) {
            Some(false) if frame.get("error").is_none_or(Value::is_null) => {
                notebook.broken(Rule::FramesValid, "an `error` beside `success: false`", clipped(text));
            }
            Some(true) if !frame.contains_key("data") => {
                let remark = "a successful `response` without `data`, which is taken for null".to_owned();
                notebook.remark(Rule::FramesValid, remark);
            }
            _ => {}
        }
        asked.response = Some(Value::Object(frame));
    }

    fn chunk(&mut self, frame: &Map<String, Value>, text: &str) {
        let notebook = Arc::clone(&self.notebook);
        let Some(id) = frame.get("requestId").and_then(Value::as_str).map(str::to_owned) else { return };
        let limit = self.expected.limits.chunk;
        let Some(asked) = self.asked.get_mut(&id) else { return self.stranger(&id, text) };
        asked.chunks += 1;
        if !asked.is_stream {
            let expected = "no chunks for a request without `stream`";
            return notebook.broken(Rule::ChunksOnlyWhenAsked, expected, clipped(text));
        }
        if asked.response.is_some() {
            let expected = "no chunk after the `response`";
            // Whoever answers for two under one id goes on with the other.
            let is_doubled = asked.blame == Some(Rule::DuplicateIdHarmless);
            let rule = if is_doubled { Rule::DuplicateIdHarmless } else { Rule::NoChunkAfterResponse };
            return notebook.broken(rule, expected, clipped(text));
        }
        notebook.passed(Rule::NoChunkAfterResponse);
        if asked.chunks > asked.granted {
            let expected = format!("at most {} chunks: that much credit was given", asked.granted);
            return notebook.broken(
                Rule::CreditKept,
                expected,
                format!("chunk {}: {}", asked.chunks, clipped(text)),
            );
        }
        notebook.passed(Rule::CreditKept);
        let seq = frame.get("seq").and_then(Value::as_u64).unwrap_or(u64::MAX);
        if seq == asked.next_seq {
            notebook.passed(Rule::ChunkOrder);
        } else {
            let expected = format!("`seq` {}", asked.next_seq);
            notebook.broken(Rule::ChunkOrder, expected, clipped(text));
        }
        asked.next_seq = seq.wrapping_add(1);
        let size = data_size(text);
        if size > limit {
            let came = format!("{size} bytes: {}", clipped(text));
            notebook.broken(Rule::ChunkSizeKept, format!("`data` of at most {limit} bytes"), came);
        } else {
            notebook.passed(Rule::ChunkSizeKept);
        }
    }

    /// An answer to nothing that was asked here.
    fn stranger(&self, id: &str, text: &str) {
        let rule = self.strays.get(id).copied().unwrap_or(Rule::AnswersOwnIds);
        let expected = match rule {
            Rule::OldIdsForgotten => "no answer to a request of the session that was lost",
            Rule::AnswersOwnIds => "answers to what was asked in this session",
            _ => "no answer where nothing was asked",
        };
        self.notebook.broken(rule, expected, clipped(text));
    }

    fn request(&mut self, frame: &Map<String, Value>, text: &str) {
        let Some(id) = frame.get("requestId").and_then(Value::as_str) else { return };
        if self.own_requests.iter().any(|(open, _)| open == id) {
            let expected = "an id that no open request has";
            return self.notebook.broken(Rule::AsksWithFreshIds, expected, clipped(text));
        }
        self.notebook.passed(Rule::AsksWithFreshIds);
        self.asked_itself = frame.get("capability").and_then(Value::as_str).map(str::to_owned);
        self.own_requests.push((id.to_owned(), Instant::now()));
    }
}

/// Whether the protocol has a meaning for a health word.
fn is_known_word(word: &str) -> bool {
    matches!(word, "up" | "degraded" | "down" | "ready" | "ok" | "stopping")
}

/// How many bytes the `data` of a chunk is, as it stands in the frame.
fn data_size(text: &str) -> usize {
    #[derive(Deserialize)]
    struct Chunk {
        data: RawJson,
    }
    serde_json::from_str::<Chunk>(text).map_or(0, |chunk| chunk.data.as_str().len())
}
