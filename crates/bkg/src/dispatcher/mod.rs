//! Chooses the instance that answers a request, and stays with the request until it is answered.
//!
//! Not the socket: an instance is seen through its mailbox only, so that it may one day live on
//! another host. The invariant: every call ends in exactly one outcome, at its deadline at the
//! latest, and a call that is dropped is cancelled at the plugin.

mod call;
mod direct;
mod execute;
mod pick;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bkg_protocol::exchange::Refusal;
use bkg_protocol::message::{HttpRequest, Model, Request};
use bkg_protocol::{CapabilityName, ErrorCode, InstanceId, PluginName, RawJson};
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;

use call::OpenCall;
pub use call::{Item, Stream};
pub(crate) use direct::{Asked, NotAsked, ask_instance};
pub use execute::{ExecuteError, execute_payload, executed};
use pick::Picked;

use crate::config::QueueLimits;
use crate::registry::{
    Ask, Failure, Instance, Lineage, ModelOwner, Order, PluginRecord, Registry, Reply, State,
};
use crate::trace::{Span, SpanKind, Tracer};

/// What to tell who asks for something that no plugin has registered.
const NOBODY_OFFERS_IT: &str = "no running plugin offers it; `bkg plugin list` shows which are stopped";
/// How often a request that no plugin took is offered to another instance.
const OFFERS: usize = 3;

/// Chooses instances and carries requests to them.
#[derive(Debug)]
pub struct Dispatcher {
    registry: Arc<Registry>,
    queue: QueueLimits,
    stream_credit: u32,
    tickets: AtomicU64,
    tracer: Tracer,
}

/// Who is to answer.
#[derive(Debug, Clone)]
pub enum Target {
    /// Whichever plugin comes first for the capability.
    Any,
    /// This plugin.
    Plugin(PluginName),
    /// This plugin, with a model that the host chose for the one that the caller named: the caller's
    /// credential need not reach the model, only the plugin.
    Routed(PluginName),
}

/// What is asked.
#[derive(Debug, Clone)]
pub struct Question {
    /// Who is to answer.
    pub target: Target,
    /// What is asked for.
    pub capability: CapabilityName,
    /// The input.
    pub payload: RawJson,
    /// The input where the answer is streamed, if it differs. Its presence says that the caller
    /// takes a stream; whether it gets one is up to the capability.
    pub streamed_payload: Option<RawJson>,
    /// The HTTP request behind it, for a plugin's route.
    pub http: Option<HttpRequest>,
    /// For whom and until when.
    pub lineage: Lineage,
}

/// Who answered, and what.
#[derive(Debug)]
pub struct Answered {
    /// The plugin.
    pub plugin: PluginName,
    /// Its instance.
    pub instance: InstanceId,
    /// Its answer.
    pub answer: Answer,
}

/// An answer: whole, or as it comes.
#[derive(Debug)]
pub enum Answer {
    /// All of it.
    Whole(RawJson),
    /// The first part is there, the rest follows.
    Stream(Box<Stream>),
}

/// Why there is no answer.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum CallError {
    /// No plugin of this name is known.
    #[error("no plugin is called `{plugin}`: `bkg plugin list` shows those that are")]
    UnknownPlugin {
        /// The name.
        plugin: PluginName,
    },
    /// The plugin runs, but does not offer the capability.
    #[error("plugin `{plugin}` does not offer `{capability}`; it offers {offered}")]
    NotOffered {
        /// The plugin.
        plugin: PluginName,
        /// What was asked for.
        capability: CapabilityName,
        /// What it offers, as text.
        offered: String,
    },
    /// The plugin offers the model's capability, but no such model.
    #[error(
        "no plugin offers the model `{model}` for `{capability}`: `/v1/models` lists those that can be used"
    )]
    UnknownModel {
        /// The model.
        model: String,
        /// What it was wanted for.
        capability: CapabilityName,
    },
    /// The caller's key was narrowed to other plugins or models.
    #[error("the key may not be used for {what}")]
    OutOfReach {
        /// What it may not be used for.
        what: String,
    },
    /// No ready instance.
    #[error("`{capability}` is not available: {why}")]
    Unavailable {
        /// What was asked for.
        capability: CapabilityName,
        /// Who would have answered.
        plugin: Option<PluginName>,
        /// One clause on why, and what to do.
        why: String,
    },
    /// All instances are at their limit, and so is the queue or the time in it.
    #[error("plugin `{plugin}` is at its limit: {why}")]
    Overloaded {
        /// The plugin.
        plugin: PluginName,
        /// One clause on which limit.
        why: String,
    },
    /// The deadline passed.
    #[error("plugin `{plugin}` did not answer within {} ms", waited.as_millis())]
    Timeout {
        /// The plugin.
        plugin: PluginName,
        /// How long it was given.
        waited: Duration,
    },
    /// The plugin failed, or its session did.
    #[error("plugin `{plugin}`: {failure}")]
    Failed {
        /// The plugin.
        plugin: PluginName,
        /// How.
        failure: Failure,
    },
}

impl CallError {
    /// Its code, as the host says it.
    pub fn code(&self) -> ErrorCode {
        match self {
            Self::UnknownPlugin { .. } | Self::NotOffered { .. } => ErrorCode::NotFound,
            Self::UnknownModel { .. } => ErrorCode::ModelNotFound,
            Self::OutOfReach { .. } => ErrorCode::Forbidden,
            Self::Unavailable { .. } => ErrorCode::PluginUnavailable,
            Self::Overloaded { .. } => ErrorCode::Overloaded,
            Self::Timeout { .. } => ErrorCode::Timeout,
            Self::Failed { failure, .. } => match failure {
                Failure::Plugin(error) => error.claimed(),
                Failure::Disconnected => ErrorCode::PluginDisconnected,
                Failure::NotHandedOver | Failure::Refused(Refusal::NotOpen) => ErrorCode::PluginUnavailable,
                Failure::Refused(Refusal::TooLarge { .. }) => ErrorCode::PayloadTooLarge,
            },
        }
    }
}

impl Dispatcher {
    /// A dispatcher over a registry. `stream_credit`: how many chunks of a stream may be on their way.
    pub fn new(registry: Arc<Registry>, queue: QueueLimits, stream_credit: u32) -> Self {
        Self { registry, queue, stream_credit, tickets: AtomicU64::new(1), tracer: Tracer::off() }
    }

    /// The same, recording what is asked for a request that is traced.
    #[must_use]
    pub fn traced(self, tracer: Tracer) -> Self {
        Self { tracer, ..self }
    }

    /// Who serves a model, in order of preference; nobody, if it is not known.
    pub fn owners_of(&self, capability: &CapabilityName, model: &str) -> Vec<Arc<ModelOwner>> {
        let view = self.registry.view();
        let owners = view.owners(capability.as_str(), model);
        if !owners.is_empty() {
            return owners.to_vec();
        }
        // Of one that has never registered only its entry knows, and that names patterns.
        let may_serve =
            |record: &&Arc<PluginRecord>| record.may_serve(capability.as_str(), record.own_model(model));
        let coming = view.coming_for(capability.as_str()).find(may_serve);
        let owner = coming.map(|record| {
            let model = Model {
                id: record.own_model(model).to_owned(),
                capability: capability.clone(),
                owned_by: None,
                context_length: None,
                dimensions: None,
            };
            Arc::new(ModelOwner { plugin: record.entry.name.clone(), model })
        });
        owner.into_iter().collect()
    }

    /// Why nobody serves a model: no plugin at all answers the capability, or none has the model.
    pub fn nobody_serves(&self, capability: &CapabilityName, model: &str) -> CallError {
        if self.registry.view().answering(capability.as_str()).is_empty() {
            let why = NOBODY_OFFERS_IT.to_owned();
            return CallError::Unavailable { capability: capability.clone(), plugin: None, why };
        }
        CallError::UnknownModel { model: model.to_owned(), capability: capability.clone() }
    }

    /// Whether a plugin would take a request for a capability now; if not, why.
    ///
    /// # Errors
    /// One sentence on why, and what to do.
    pub fn takes(&self, plugin: &PluginName, capability: &CapabilityName) -> Result<(), String> {
        let Some(record) = self.registry.plugin(plugin.as_str()) else {
            return Err(format!("no plugin is called `{plugin}`"));
        };
        if record.answers(capability.as_str()) || record.comes_for(capability.as_str()) {
            return Ok(());
        }
        Err(unavailable_because(plugin, record.state(), record.status.reason.as_deref()))
    }

    /// Whether a capability of a plugin may be asked twice for the same: its last registration says so.
    pub fn is_idempotent(&self, plugin: &PluginName, capability: &CapabilityName) -> bool {
        let record = self.registry.plugin(plugin.as_str());
        let registered = record.as_ref().and_then(|record| record.registered.as_ref());
        let terms = registered.and_then(|registered| registered.terms(capability.as_str()));
        terms.is_some_and(|terms| terms.idempotent)
    }

    /// Asks, and waits for the answer or, of a streamed one, for its first part.
    ///
    /// A request that was never handed over is offered to another instance; one that was handed over
    /// is tried again only where the capability is idempotent and another instance is there.
    ///
    /// # Errors
    /// Why there is no answer; exactly one of answer and error comes.
    pub async fn ask(&self, mut question: Question) -> Result<Answered, CallError> {
        let lineage = &mut question.lineage;
        let name = || format!("attempt {}", question.capability);
        let Some(mut attempt) = self.tracer.child(lineage.traceparent, SpanKind::Internal, name) else {
            return self.attempt(&question).await;
        };
        lineage.traceparent = Some(attempt.context());
        attempt.set("bkg.capability", question.capability.as_str());
        let outcome = self.attempt(&question).await;
        match &outcome {
            Ok(answered) => attempt.set("bkg.plugin", answered.plugin.as_str()),
            Err(error) => attempt.fail(error.code().as_str()),
        }
        outcome
    }

    async fn attempt(&self, question: &Question) -> Result<Answered, CallError> {
        let mut offers = 0;
        loop {
            offers += 1;
            let picked = self.acquire(question).await?;
            let idempotent = picked.terms.idempotent;
            let plugin = picked.instance.plugin.clone();
            let instance = picked.instance.id;
            let failed = match self.hand_over(question, picked).await {
                Ok(answer) => return Ok(Answered { plugin, instance, answer }),
                Err(error) => error,
            };
            let CallError::Failed { failure, .. } = &failed else { return Err(failed) };
            let again = match failure {
                Failure::NotHandedOver => true,
                Failure::Disconnected => idempotent && self.is_ready(&plugin, &question.capability),
                Failure::Plugin(_) | Failure::Refused(_) => false,
            };
            if !again || offers == OFFERS {
                return Err(failed);
            }
        }
    }

    /// Begins the span of what one instance is asked, if the request is traced.
    fn span(&self, question: &Question, instance: &Instance) -> Option<Span> {
        let name = || format!("call {}", question.capability);
        let mut span = self.tracer.child(question.lineage.traceparent, SpanKind::Client, name)?;
        span.set("bkg.capability", question.capability.as_str());
        span.set("bkg.plugin", instance.plugin.as_str());
        span.set("bkg.instance", &*instance.id.to_string());
        Some(span)
    }

    fn is_ready(&self, plugin: &PluginName, capability: &CapabilityName) -> bool {
        self.registry
            .view()
            .plugin(plugin.as_str())
            .is_some_and(|record| record.answers(capability.as_str()))
    }

    async fn hand_over(&self, question: &Question, picked: Picked) -> Result<Answer, CallError> {
        let Picked { instance, terms, slot, observation } = picked;
        let plugin = instance.plugin.clone();
        let streamed = question.streamed_payload.as_ref().filter(|_| terms.streaming);
        let begun = Instant::now();
        let deadline = match terms.timeout {
            Some(limit) => question.lineage.deadline.min(begun + limit),
            None => question.lineage.deadline,
        };
        let span = self.span(question, &instance);
        let traceparent = span.as_ref().map(Span::context).or(question.lineage.traceparent);
        let lineage = Arc::new(Lineage { deadline, traceparent, ..question.lineage.clone() });

        let mut request =
            Request::new(question.capability.clone(), streamed.unwrap_or(&question.payload).clone());
        request.stream = streamed.is_some();
        request.credit = streamed.map(|_| self.stream_credit);
        request.timeout_ms = Some(deadline.saturating_duration_since(begun).as_millis() as u64);
        request.caller.clone_from(&lineage.caller);
        request.correlation_id.clone_from(&lineage.correlation_id);
        request.traceparent = traceparent.map(|traceparent| traceparent.to_string());
        request.http.clone_from(&question.http);

        let ticket = self.tickets.fetch_add(1, Ordering::Relaxed);
        let ask = |reply| Order::Ask(Box::new(Ask { ticket, request, reply, slot, lineage }));
        let gone = || CallError::Failed { plugin: plugin.clone(), failure: Failure::NotHandedOver };
        if streamed.is_some() {
            // Room for every chunk that there is credit for, and the end: sending never waits.
            let (sender, parts) = mpsc::channel(self.stream_credit as usize + 1);
            instance.mailbox.post(ask(Reply::Stream(sender))).map_err(|_| gone())?;
            let call = OpenCall::new(instance, ticket, begun, deadline).observed(observation).traced(span);
            let stream = Stream::begin(call, parts, self.stream_credit).await?;
            return Ok(Answer::Stream(Box::new(stream)));
        }
        let (sender, answer) = oneshot::channel();
        instance.mailbox.post(ask(Reply::Whole(sender))).map_err(|_| gone())?;
        let call = OpenCall::new(instance, ticket, begun, deadline).observed(observation).traced(span);
        call.whole(answer).await.map(Answer::Whole)
    }
}

/// What to tell who asks for something that a plugin in this state would answer.
fn unavailable_because(plugin: &PluginName, state: State, reason: Option<&str>) -> String {
    let next = match state {
        State::Stopped | State::Failed => format!("; start it with `bkg plugin start {plugin}`"),
        _ => String::new(),
    };
    let reason = reason.map(|reason| format!(" ({reason})")).unwrap_or_default();
    format!("plugin `{plugin}` is {}{reason}{next}", state.as_str())
}
