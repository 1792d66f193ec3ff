//! Asks the auth provider: the one plugin that answers `auth.*`.
//!
//! Not what its answers mean. The invariant: whatever goes wrong on the way to the provider or in it
//! is [`ProviderError::Unavailable`]; only what the provider itself says about the request is a refusal.

use std::sync::Arc;
use std::time::Duration;

use bkg_protocol::{CapabilityName, ErrorCode, PluginName, RawJson, WireError};
use tokio::time::{Instant, timeout_at};

use super::Caller;
use crate::dispatcher::{Answer, CallError, Dispatcher, Question, Target};
use crate::registry::{Failure, Lineage, Registry, State, View};

/// How long a request waits for a provider that is on its way back.
const RETURNS_WITHIN: Duration = Duration::from_secs(2);
/// What a provider must answer to be one.
pub(super) const VALIDATE: &str = "auth.validate";

/// The auth provider, wherever it runs at the moment.
#[derive(Debug, Clone)]
pub struct Provider {
    name: PluginName,
    registry: Arc<Registry>,
    dispatcher: Arc<Dispatcher>,
}

/// Why the provider did not do what it was asked.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum ProviderError {
    /// It could not be reached, or its answer could not be read. Whether it did anything is not known.
    #[error("credentials cannot be checked now: {why}")]
    Unavailable {
        /// One clause on why.
        why: String,
    },
    /// It never got the request: nothing happened.
    #[error("credentials cannot be checked now: {why}")]
    Away {
        /// One clause on why, and what to do.
        why: String,
    },
    /// It does not do this at all.
    #[error("the auth provider `{provider}` does not offer `{capability}`")]
    NotOffered {
        /// The provider.
        provider: PluginName,
        /// What was wanted.
        capability: CapabilityName,
    },
    /// It refused.
    #[error("{0}")]
    Refused(WireError),
}

impl Provider {
    /// The provider of this name, reached through the dispatcher.
    pub fn new(name: PluginName, registry: Arc<Registry>, dispatcher: Arc<Dispatcher>) -> Self {
        Self { name, registry, dispatcher }
    }

    /// The plugin's name.
    pub fn name(&self) -> &PluginName {
        &self.name
    }

    /// The table in which its instances come and go.
    pub(super) fn registry(&self) -> &Registry {
        &self.registry
    }

    /// Asks, on behalf of `caller` where there is one, and waits a little for a provider that restarts.
    ///
    /// # Errors
    /// Why there is no answer.
    pub async fn ask(
        &self,
        capability: &str,
        payload: RawJson,
        caller: Option<&Caller>,
        correlation_id: Option<Arc<str>>,
        within: Duration,
    ) -> Result<RawJson, ProviderError> {
        let capability: CapabilityName = capability.parse().expect("the host's own names are valid");
        let begun = Instant::now();
        let deadline = begun + within;
        loop {
            let question = Question {
                target: Target::Plugin(self.name.clone()),
                capability: capability.clone(),
                payload: payload.clone(),
                streamed_payload: None,
                http: None,
                lineage: Lineage {
                    caller: caller.map(Caller::on_the_wire),
                    // What a key may use is no matter of who keeps keys.
                    reach: Arc::default(),
                    deadline,
                    chain: Vec::new(),
                    correlation_id: correlation_id.clone(),
                    traceparent: None,
                },
            };
            let error = match self.dispatcher.ask(question).await {
                Ok(answered) => {
                    return match answered.answer {
                        Answer::Whole(data) => Ok(data),
                        Answer::Stream(_) => unreachable!("no stream was asked for"),
                    };
                }
                Err(error) => error,
            };
            match error {
                CallError::Failed { failure: Failure::Plugin(error), .. } => {
                    return Err(self.refusal(error));
                }
                CallError::NotOffered { .. } if self.is_here(&self.registry.view()) => {
                    let provider = self.name.clone();
                    return Err(ProviderError::NotOffered { provider, capability });
                }
                CallError::UnknownPlugin { .. }
                | CallError::Unavailable { .. }
                | CallError::NotOffered { .. }
                | CallError::Failed { failure: Failure::NotHandedOver, .. } => {
                    self.returns(begun + RETURNS_WITHIN.min(within)).await?;
                }
                // The provider had it: only a question that changes nothing is asked again.
                CallError::Failed { failure: Failure::Disconnected, .. }
                    if capability.as_str() == VALIDATE && Instant::now() < begun + RETURNS_WITHIN =>
                {
                    self.returns(begun + RETURNS_WITHIN.min(within)).await?;
                }
                CallError::Overloaded { .. } => {
                    return Err(ProviderError::Refused(WireError::new(
                        ErrorCode::Overloaded,
                        error.to_string(),
                    )));
                }
                _ => return Err(ProviderError::Unavailable { why: error.to_string() }),
            }
        }
    }

    /// What the provider said, unless it says that it does not know how to be a provider.
    fn refusal(&self, error: WireError) -> ProviderError {
        match ErrorCode::parse(&error.code) {
            Some(
                ErrorCode::Internal | ErrorCode::PluginError | ErrorCode::Timeout | ErrorCode::Cancelled,
            ) => ProviderError::Unavailable { why: format!("plugin `{}`: {}", self.name, error.message) },
            _ => ProviderError::Refused(error),
        }
    }

    /// Waits until the provider is there, unless it rests until somebody acts.
    async fn returns(&self, until: Instant) -> Result<(), ProviderError> {
        if Instant::now() >= until {
            let why = format!("the auth provider `{}` does not stay long enough to answer", self.name);
            return Err(ProviderError::Away { why });
        }
        let arrival = self.registry.until(|view| {
            if self.is_here(view) {
                return Some(Ok(()));
            }
            let Some(record) = view.plugin(self.name.as_str()) else {
                let why = format!(
                    "no plugin is called `{}`, which `auth.provider` names: install it or name another",
                    self.name
                );
                return Some(Err(why));
            };
            let rests = matches!(record.state(), State::Stopped | State::Failed);
            rests.then(|| Err(self.absence(record.state())))
        });
        let outcome = match timeout_at(until, arrival).await {
            Ok(outcome) => outcome,
            Err(_) => {
                let view = self.registry.view();
                let state = view.plugin(self.name.as_str()).map_or(State::Stopped, |record| record.state());
                Err(self.absence(state))
            }
        };
        outcome.map_err(|why| ProviderError::Away { why })
    }

    fn absence(&self, state: State) -> String {
        format!(
            "the auth provider `{name}` is {}: `bkg --root plugin show {name}` says why, `bkg --root plugin restart {name}` starts it anew",
            state.as_str(),
            name = self.name
        )
    }

    /// Whether an instance is ready to check credentials.
    pub(super) fn is_here(&self, view: &View) -> bool {
        view.plugin(self.name.as_str()).is_some_and(|record| record.answers(VALIDATE))
    }
}
