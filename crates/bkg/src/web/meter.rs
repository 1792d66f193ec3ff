//! What a request to a plugin used: one row for each, whatever became of it.
//!
//! Not what anybody may use, which `auth` counts: here it is set aside and settled. The invariants: every
//! request that was let through to a plugin leaves exactly one row, also one whose client left; and what was
//! set aside for it is given back when its meter is dropped.

use std::sync::Arc;

use bkg_protocol::{CapabilityName, InstanceId, PluginName, RawJson, message};
use jiff::Timestamp;
use serde::Deserialize;
use tokio::time::Instant;

use super::asked::{Asked, AskedObserver};
use super::estimate::{self, Wishes};
use super::redact;
use super::routes::Call;
use crate::auth::{Authenticator, Demand, Reservation};
use crate::config::Prices;
use crate::error::{Problem, Source};
use crate::money::Money;
use crate::registry::Lineage;
use crate::routing::Trial;
use crate::store::{AttemptRecord, Bodies, Usage, UsageRow};
use crate::trace::{Span, TraceParent};

/// Where rows and sums go.
#[derive(Debug)]
pub struct Metering {
    /// The table of requests.
    pub usage: Usage,
    /// Who knows what callers may use.
    pub authenticator: Arc<Authenticator>,
    /// What models cost.
    pub prices: Prices,
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
    error: Option<String>,
    /// The route that was asked.
    route: Option<String>,
    /// What is set aside for it; `None` until it is admitted.
    reservation: Option<Reservation>,
    /// What was asked: kept for as long as an error may repeat some of it.
    request: Option<RawJson>,
    /// What a model was asked and has written, about.
    estimate: Estimate,
    /// The model that somebody named who chose the plugin too.
    named_model: Option<String>,
    /// What is to be written down, if it is.
    bodies: Option<Box<Gathered>>,
}

/// How many tokens there were, about.
#[derive(Debug, Default)]
struct Estimate {
    prompt_tokens: u64,
    written_bytes: usize,
}

/// What was asked and what has been answered so far, for a key whose bodies are written down.
#[derive(Debug)]
struct Gathered {
    request: RawJson,
    answer: String,
}

/// A request longer than this is not kept while its answer streams, in bytes.
const LONGEST_KEPT: usize = 64 << 10;
/// Nobody has used so many tokens with one request, whatever a plugin says.
const MOST_TOKENS: u64 = 1_000_000_000_000;

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
            error: None,
            route: None,
            reservation: None,
            request: None,
            estimate: Estimate::default(),
            named_model: None,
            bodies: None,
        }
    }
}

/// What a plugin is asked, as far as limits go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// One answer.
    Whole,
    /// An answer that may come as a stream.
    MayStream,
    /// What the request says in `stream`.
    AsAsked,
}

impl Meter {
    /// Where what is asked of plugins for this request stands in a trace.
    pub fn traceparent(&self) -> Option<TraceParent> {
        self.span.as_ref().map(Span::context).or(self.came_with)
    }

    /// Sets aside what the request may take, before anybody is asked. `body` is what the plugin gets.
    ///
    /// # Errors
    /// `rate_limited` or `quota_exceeded`: it does not fit into what the caller has left. Nothing was asked then.
    pub fn admit(&mut self, call: &Call, body: &RawJson, form: Form) -> Result<(), Problem> {
        self.route = call.route();
        let rights = call.caller.rights();
        let demand = self.demand(body, form, rights.holders.are_limited());
        if rights.logs_bodies {
            self.bodies = Some(Box::new(Gathered { request: body.clone(), answer: String::new() }));
        }
        self.request = Some(body.clone());
        let reserved = call.caller.reserve(&demand).map_err(Problem::from);
        self.reservation = Some(reserved.inspect_err(|problem| self.failed(problem))?);
        Ok(())
    }

    /// [`Meter::admit`] for what a plugin asks on a caller's behalf: the caller's own request has a place
    /// already, and only tokens and money are set aside.
    ///
    /// # Errors
    /// Those of [`Meter::admit`].
    pub fn admit_on_behalf(&mut self, body: &RawJson) -> Result<(), Problem> {
        let Some(caller) = &self.caller else { return Ok(()) };
        let holders = self.metering.authenticator.holders_of(caller);
        let demand = self.demand(body, Form::AsAsked, holders.are_limited());
        self.request = Some(body.clone());
        let reserved = holders.reserve_on_behalf(&demand).map_err(|reached| Problem::from(&reached));
        self.reservation = Some(reserved.inspect_err(|problem| self.failed(problem))?);
        Ok(())
    }

    /// What the request may take; only models take tokens. Looked at closely only where limits ask for it.
    fn demand(&mut self, body: &RawJson, form: Form, is_limited: bool) -> Demand {
        let none =
            Demand { completion_tokens: Some(0), is_stream: form == Form::MayStream, ..Demand::default() };
        if !self.is_of_a_model() {
            return none;
        }
        self.estimate.prompt_tokens = estimate::prompt_tokens(body.as_str());
        if self.model.is_some() && !is_limited {
            return none;
        }
        let wishes = Wishes::read(body);
        if self.model.is_none() {
            self.named_model = wishes.model().filter(|model| model.len() <= LONGEST_MODEL);
        }
        let model = self.model.as_deref().or(self.named_model.as_deref());
        // A name without a price may lead to a model that has one: then the highest is set aside.
        let prices = &self.metering.prices;
        let price = prices.of(model).unwrap_or_else(|| prices.dearest());
        let writes = self.capability.as_str() != EMBED;
        Demand {
            prompt_tokens: self.estimate.prompt_tokens,
            completion_tokens: if writes { wishes.longest_answer() } else { Some(0) },
            answers: wishes.answers(),
            price,
            is_stream: match form {
                Form::Whole => false,
                Form::MayStream => true,
                Form::AsAsked => wishes.is_stream(),
            },
        }
    }

    fn is_of_a_model(&self) -> bool {
        self.capability.as_str().starts_with(MODELS)
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
        if self.request.as_ref().is_some_and(|request| request.as_str().len() > LONGEST_KEPT) {
            self.request = None;
        }
    }

    /// Takes the tokens from an answer, or from a part of one, that has a `usage` object.
    pub fn read_tokens(&mut self, answer: &RawJson) {
        if let Some(tokens) = usage_in(answer.as_str()) {
            self.tokens = tokens;
        }
        if self.is_of_a_model() {
            self.estimate.written_bytes += estimate::written_bytes(answer.as_str());
        }
        if let Some(bodies) = &mut self.bodies
            && bodies.answer.len() < redact::MOST_GATHERED
        {
            bodies.answer.push_str(answer.as_str());
            bodies.answer.push('\n');
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
        let request = self.request.as_ref().map(RawJson::as_str);
        if request.is_some_and(|request| request.len() > LONGEST_KEPT) {
            // Looking for each part of the words in so much would hold everybody up.
            self.error = Some(problem.code.meaning().to_owned());
            return;
        }
        // A plugin may repeat what it was asked. Where that is not known any more, its words are not kept.
        let is_known = problem.source == Source::Host || request.is_some();
        self.error = is_known.then(|| redact::error(&problem.message, request));
    }

    /// What went wrong, as far as it may be written down.
    pub fn error(&self) -> &str {
        self.error.as_deref().unwrap_or("not kept: it may repeat what was asked")
    }

    /// How many tokens were read and written, and whether that is an estimate: where the plugin did not say,
    /// and has or may have done the work.
    fn used(&self) -> (Tokens, bool) {
        let told = self.tokens;
        let is_told = told.prompt_tokens.or(told.completion_tokens).is_some();
        let may_have_worked =
            matches!(self.outcome.word, "ok" | "cancelled" | "timeout" | "plugin_disconnected")
                || self.streamed
                || self.estimate.written_bytes > 0;
        if is_told || !may_have_worked || self.reservation.is_none() || !self.is_of_a_model() {
            return (told, false);
        }
        let estimate = Tokens {
            prompt_tokens: Some(self.estimate.prompt_tokens),
            completion_tokens: (self.capability.as_str() != EMBED)
                .then(|| estimate::tokens_of(self.estimate.written_bytes)),
        };
        (estimate, true)
    }

    /// The model that answered, as its plugin knows it.
    fn served_model(&self) -> Option<String> {
        let answered = self.attempts.iter().rev().find(|attempt| attempt.outcome == "ok");
        answered.map(|attempt| attempt.model.clone()).or_else(|| self.named_model.clone())
    }

    fn cost(&self, served: Option<&str>, used: Tokens) -> Option<Money> {
        let of_plugin = self.plugin.as_ref().zip(served).map(|(plugin, model)| format!("{plugin}/{model}"));
        let names = [of_plugin.as_deref(), served, self.model.as_deref()];
        let price = self.metering.prices.of(names.into_iter().flatten())?;
        let is_used = used.prompt_tokens.or(used.completion_tokens).is_some();
        is_used.then(|| price.of(used.prompt_tokens.unwrap_or(0), used.completion_tokens.unwrap_or(0)))
    }
}

/// What starts the name of every capability that is a model's.
const MODELS: &str = "llm.";
/// A capability that writes nothing.
const EMBED: &str = "llm.embed";
/// The longest name of a model that is written down where no plugin registered it.
const LONGEST_MODEL: usize = 128;

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
            let mut values = serde_json::Deserializer::from_str(object).into_iter::<Tokens>();
            let Tokens { prompt_tokens, completion_tokens } = values.next()?.ok()?;
            let bounded = |tokens: Option<u64>| tokens.map(|tokens| tokens.min(MOST_TOKENS));
            return Some(Tokens {
                prompt_tokens: bounded(prompt_tokens),
                completion_tokens: bounded(completion_tokens),
            });
        }
        before = &text[..at];
    }
    None
}

impl Drop for Meter {
    fn drop(&mut self) {
        let (used, estimated) = self.used();
        let served_model = self.served_model();
        let cost = self.cost(served_model.as_deref(), used);
        let Tokens { prompt_tokens, completion_tokens } = used;
        if let Some(reservation) = self.reservation.take() {
            let tokens = prompt_tokens.unwrap_or(0).saturating_add(completion_tokens.unwrap_or(0));
            reservation.settle(tokens, cost.unwrap_or_default(), self.at, Instant::now());
        }
        let caller = self.caller.as_deref();
        let key_id = caller.and_then(|caller| caller.key_id.as_deref());
        let asked = Asked {
            capability: &self.capability,
            plugin: self.plugin.as_ref(),
            // What answered, where a route led to it.
            model: served_model.as_deref().or(self.model.as_deref()),
            outcome: self.outcome.word,
            took: self.begun.elapsed(),
            first: self.first_byte.map(|moment| moment.saturating_duration_since(self.begun)),
            read: prompt_tokens,
            wrote: completion_tokens,
        };
        self.metering.observer.ended(&asked, self.span.take());
        let since_begin = |moment: Instant| milliseconds(self.begun, moment);
        let attempts = self.attempts.iter().map(|attempt| AttemptRecord {
            plugin: attempt.plugin.to_string(),
            model: attempt.model.clone(),
            instance: attempt.instance.map(|instance| instance.to_string()),
            began_ms: since_begin(attempt.began),
            took_ms: milliseconds(attempt.began, attempt.ended),
            outcome: attempt.outcome.to_owned(),
        });
        let bodies = self.bodies.take().map(|gathered| {
            let Gathered { request, answer } = *gathered;
            let answer = (!answer.is_empty()).then(|| redact::parts(&answer));
            Box::new(Bodies { request: Some(redact::body(request.as_str())), answer })
        });
        // A name that nobody registered is believed once somebody has answered to it.
        let is_ok = self.outcome.word == "ok";
        let model = self.model.take().or_else(|| self.named_model.take().filter(|_| is_ok));
        self.metering.usage.record(UsageRow {
            request_id: self.request_id.take().unwrap_or_else(|| Arc::from("")),
            at: self.at,
            user: caller.map(|caller| caller.user.clone()).unwrap_or_default(),
            key_id: key_id.map(Arc::from),
            plugin: self.plugin.take(),
            capability: self.capability.clone(),
            model,
            prompt_tokens,
            completion_tokens,
            first_byte_ms: self.first_byte.map(since_begin),
            total_ms: since_begin(Instant::now()),
            streamed: self.streamed,
            outcome: self.outcome.word,
            status: self.outcome.status,
            route: self.route.take(),
            served_model,
            estimated,
            cost,
            attempts: attempts.collect(),
            error: self.error.take(),
            bodies,
        });
    }
}

fn milliseconds(from: Instant, to: Instant) -> u32 {
    u32::try_from(to.saturating_duration_since(from).as_millis()).unwrap_or(u32::MAX)
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
