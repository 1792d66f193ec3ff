//! What a request to a plugin used: one row for each, whatever became of it.
//!
//! Not what anybody may use. The invariant: every request that was let through to a plugin leaves
//! exactly one row, also one whose client left.

use std::sync::Arc;

use bkg_protocol::{CapabilityName, InstanceId, PluginName, RawJson, message};
use jiff::Timestamp;
use serde::Deserialize;
use tokio::time::Instant;

use super::asked::{Asked, AskedObserver};
use crate::auth::Authenticator;
use crate::error::Problem;
use crate::registry::Lineage;
use crate::routing::Trial;
use crate::store::{Usage, UsageRow};
use crate::trace::{Span, TraceParent};

/// Where rows and sums go.
#[derive(Debug)]
pub struct Metering {
    /// The table of requests.
    pub usage: Usage,
    /// Who keeps the sums of the day.
    pub authenticator: Arc<Authenticator>,
    /// Who counts requests and records their spans.
    pub observer: AskedObserver,
}

/// Measures one request; its row is written when this is dropped.
#[derive(Debug)]
#[must_use]
pub struct Meter {
    metering: Arc<Metering>,
    caller: Option<Arc<message::Caller>>,
    request_id: Option<Arc<str>>,
    at: Timestamp,
    begun: Instant,
    first_byte: Option<Instant>,
    capability: CapabilityName,
    plugin: Option<PluginName>,
    model: Option<String>,
    tokens: Tokens,
    streamed: bool,
    attempts: Vec<Attempt>,
    /// What its outcome says about the model that answers.
    trial: Option<Trial>,
    outcome: Outcome,
    /// Where it stood in a trace before.
    came_with: Option<TraceParent>,
    span: Option<Span>,
}

/// One try at having a request answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attempt {
    /// Who was asked.
    pub plugin: PluginName,
    /// The model, as that plugin knows it.
    pub model: String,
    /// The instance that answered; `None` if none did.
    pub instance: Option<InstanceId>,
    /// When it began.
    pub began: Instant,
    /// When the answer, its first part or the error was there.
    pub ended: Instant,
    /// `ok`, or the code of the error.
    pub outcome: &'static str,
}

/// How many attempts of one request are kept: more are never made.
pub const MOST_ATTEMPTS: usize = 8;

#[derive(Debug, Clone, Copy)]
struct Outcome {
    word: &'static str,
    status: u16,
}

/// What a model says that it read and wrote, in OpenAI's words.
#[derive(Debug, Clone, Copy, Default, Deserialize)]
struct Tokens {
    prompt_tokens: Option<u64>,
    completion_tokens: Option<u64>,
}

impl Metering {
    /// Begins to measure a request.
    pub fn begin(
        self: &Arc<Self>,
        lineage: &Lineage,
        capability: &CapabilityName,
        model: Option<&str>,
    ) -> Meter {
        Meter {
            came_with: lineage.traceparent,
            span: self.observer.begin(lineage, capability, model),
            metering: Arc::clone(self),
            caller: lineage.caller.clone(),
            request_id: lineage.correlation_id.clone(),
            at: Timestamp::now(),
            begun: Instant::now(),
            first_byte: None,
            capability: capability.clone(),
            plugin: None,
            model: model.map(str::to_owned),
            tokens: Tokens::default(),
            streamed: false,
            attempts: Vec::new(),
            trial: None,
            // What holds if nothing else is said: whoever asked has left.
            outcome: Outcome { word: "cancelled", status: 499 },
        }
    }
}

impl Meter {
    /// Where what is asked of plugins for this request stands in a trace.
    pub fn traceparent(&self) -> Option<TraceParent> {
        self.span.as_ref().map(Span::context).or(self.came_with)
    }

    /// Notes who answers.
    pub fn answered_by(&mut self, plugin: &PluginName) {
        self.plugin = Some(plugin.clone());
    }

    /// Notes a try at having the request answered, whatever became of it.
    pub fn attempt(&mut self, attempt: Attempt) {
        if self.attempts.len() < MOST_ATTEMPTS {
            self.attempts.push(attempt);
        }
    }

    /// The tries so far, oldest first.
    pub fn attempts(&self) -> &[Attempt] {
        &self.attempts
    }

    /// What becomes of the answer from here on counts for or against the model that gives it.
    pub fn judges(&mut self, trial: Trial) {
        self.trial = Some(trial);
    }

    /// Notes that the answer comes as a stream, whose first part is there.
    pub fn streams(&mut self) {
        self.streamed = true;
        self.first_byte = Some(Instant::now());
    }

    /// Takes the tokens from an answer, or from a part of one, that has a `usage` object.
    pub fn read_tokens(&mut self, answer: &RawJson) {
        if let Some(tokens) = usage_in(answer.as_str()) {
            self.tokens = tokens;
        }
    }

    /// The whole answer has been handed to the client.
    pub fn succeeded(&mut self) {
        if let Some(trial) = self.trial.take() {
            trial.succeeded();
        }
        self.outcome = Outcome { word: "ok", status: 200 };
    }

    /// The whole answer has been handed to the client, with a status that the plugin chose.
    pub fn succeeded_with(&mut self, status: u16) {
        self.outcome = Outcome { word: "ok", status };
    }

    /// The outcome is known, good or bad; it comes back.
    pub fn concluded<T>(&mut self, outcome: Result<T, Problem>) -> Result<T, Problem> {
        match &outcome {
            Ok(_) => self.succeeded(),
            Err(problem) => self.failed(problem),
        }
        outcome
    }

    /// There is no answer, or no whole one.
    pub fn failed(&mut self, problem: &Problem) {
        if let Some(trial) = self.trial.take().filter(|_| problem.speaks_against_plugin()) {
            trial.failed();
        }
        self.outcome = Outcome { word: problem.code.as_str(), status: problem.code.status() };
    }
}

/// The `usage` object of a JSON text, which answers have near their end. Only that object is read: the
/// answer itself goes to the client as it is.
fn usage_in(text: &str) -> Option<Tokens> {
    const NAME: &str = "\"usage\"";
    let mut before = text;
    while let Some(at) = before.rfind(NAME) {
        let after = text[at + NAME.len()..].trim_start();
        // A quote inside of a text has a backslash before it, so what stands here is a name.
        let object = after.strip_prefix(':').map(str::trim_start).filter(|value| value.starts_with('{'));
        if let Some(object) = object.filter(|_| !text[..at].ends_with('\\')) {
            let mut values = serde_json::Deserializer::from_str(object).into_iter();
            return values.next()?.ok();
        }
        before = &text[..at];
    }
    None
}

impl Drop for Meter {
    fn drop(&mut self) {
        let Tokens { prompt_tokens, completion_tokens } = self.tokens;
        let tokens = prompt_tokens.unwrap_or(0).saturating_add(completion_tokens.unwrap_or(0));
        let caller = self.caller.as_deref();
        let key_id = caller.and_then(|caller| caller.key_id.as_deref());
        if let Some(key_id) = key_id.filter(|_| tokens > 0) {
            self.metering.authenticator.count_tokens(key_id, tokens);
        }
        let asked = Asked {
            capability: &self.capability,
            plugin: self.plugin.as_ref(),
            model: self.model.as_deref(),
            outcome: self.outcome.word,
            took: self.begun.elapsed(),
            first: self.first_byte.map(|moment| moment.saturating_duration_since(self.begun)),
            read: prompt_tokens,
            wrote: completion_tokens,
        };
        self.metering.observer.ended(&asked, self.span.take());
        let since_begin = |moment: Instant| {
            u32::try_from(moment.saturating_duration_since(self.begun).as_millis()).unwrap_or(u32::MAX)
        };
        self.metering.usage.record(UsageRow {
            request_id: self.request_id.take().unwrap_or_else(|| Arc::from("")),
            at: self.at,
            user: caller.map(|caller| caller.user.clone()).unwrap_or_default(),
            key_id: key_id.map(Arc::from),
            plugin: self.plugin.take(),
            capability: self.capability.clone(),
            model: self.model.take(),
            prompt_tokens,
            completion_tokens,
            first_byte_ms: self.first_byte.map(since_begin),
            total_ms: since_begin(Instant::now()),
            streamed: self.streamed,
            outcome: self.outcome.word,
            status: self.outcome.status,
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_usage_of_an_answer_is_found_and_nothing_else_is_taken_for_it() {
        let read = |text: &str| usage_in(text).and_then(|tokens| tokens.prompt_tokens);
        for (text, tokens) in [
            (r#"{"usage":{"prompt_tokens":1}}"#, Some(1)),
            (r#"{"usage" : {"prompt_tokens":2, "more": {"a": []}}, "z": [1]}"#, Some(2)),
            (r#"{"usage":null}"#, None),
            (r#"{"a":"\"usage\":{\"prompt_tokens\":9}","usage":{"prompt_tokens":3}}"#, Some(3)),
            (r#"{"usage":{"prompt_tokens":4},"a":"\"usage\":{\"prompt_tokens\":9}"}"#, Some(4)),
            (r#"{"a":"\"usage\":{\"prompt_tokens\":9}"}"#, None),
            (r#"{"a":1}"#, None),
            ("\"usage\"", None),
            (r#"{"usage":{"prompt_tokens":"x"}}"#, None),
        ] {
            assert_eq!(read(text), tokens, "{text}");
        }
    }
}
