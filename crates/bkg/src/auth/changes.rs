//! Changes that the auth provider makes: each with its entry in the audit log before and after.
//!
//! The provider keeps the id of the entry with the change, so that an entry whose end is not known is
//! settled by asking it. The invariant: a change that was answered has an entry that says so, and one
//! that was begun is carried to its end also when whoever asked has left.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bkg_protocol::{ErrorCode, RawJson, WireError};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use tokio_util::task::TaskTracker;
use tracing::{info, warn};
use uuid::Uuid;

use super::{Caller, Provider, ProviderError};
use crate::store::{Action, Audit, Intent, Outcome, StoreError};

/// How long a change may take: the provider may have passwords to hash before it.
const CHANGE_WITHIN: Duration = Duration::from_secs(20);
/// How many open entries are asked about at once.
const MOST_SETTLED_AT_ONCE: usize = 500;

/// Has the provider make changes.
#[derive(Debug)]
pub struct Changes {
    provider: Provider,
    audit: Audit,
    /// Entries of changes that may have happened.
    unsettled: Mutex<Vec<Uuid>>,
    tasks: TaskTracker,
}

/// A change to make.
#[derive(Debug)]
pub struct Change {
    /// The capability that makes it.
    pub capability: &'static str,
    /// What the provider gets, without the `operationId`.
    pub payload: Map<String, Value>,
    /// Who wants it, what it is and what it is about, without any secret.
    pub action: Action,
}

/// Why a change was not made.
#[derive(Debug, thiserror::Error)]
pub enum ChangeError {
    /// The audit log cannot be written, so nothing was begun.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The provider did not make it.
    #[error(transparent)]
    Provider(#[from] ProviderError),
}

impl Changes {
    /// Changes by this provider, with entries in this audit log.
    pub fn new(provider: Provider, audit: Audit) -> Arc<Self> {
        Arc::new(Self { provider, audit, unsettled: Mutex::default(), tasks: TaskTracker::new() })
    }

    /// Makes a change on behalf of `caller`; absent, on the host's own. Dropping the future does not
    /// stop it.
    ///
    /// # Errors
    /// Why it was not made; or that the provider does not say whether it was, which is settled later.
    pub async fn make(
        self: &Arc<Self>,
        change: Change,
        caller: Option<&Caller>,
    ) -> Result<RawJson, ChangeError> {
        let (this, caller) = (Arc::clone(self), caller.cloned());
        let made = self.tasks.spawn(async move { this.carry_out(change, caller.as_ref()).await });
        made.await.unwrap_or_else(|panic| {
            let why = format!("the host failed at it: {panic}");
            Err(ProviderError::Unavailable { why }.into())
        })
    }

    async fn carry_out(&self, change: Change, caller: Option<&Caller>) -> Result<RawJson, ChangeError> {
        let Change { capability, mut payload, action } = change;
        let correlation_id = action.request_id.as_deref().map(Arc::from);
        let intent = self.audit.intend(action).await?;
        payload.insert("operationId".to_owned(), json!(intent.id()));
        let payload = RawJson::of(&payload);
        let answer = self.provider.ask(capability, payload, caller, correlation_id, CHANGE_WITHIN).await;
        let id = intent.id();
        let ended = match &answer {
            Ok(answer) => intent.done(result(answer)).await,
            Err(ProviderError::Unavailable { .. }) => {
                self.leave_open(intent);
                Ok(())
            }
            Err(error) => intent.failed(&error.to_string()).await,
        };
        if let Err(error) = ended {
            warn!(%id, %error, "an entry of the audit log could not be ended; it is settled later");
            self.remember(id);
        }
        Ok(answer?)
    }

    /// Leaves the end of an entry to later, when the provider can be asked.
    fn leave_open(&self, intent: Intent) {
        self.remember(intent.leave_open());
    }

    fn remember(&self, id: Uuid) {
        self.unsettled.lock().unwrap_or_else(PoisonError::into_inner).push(id);
    }

    /// Adds the entries that a former host left open.
    ///
    /// # Errors
    /// The store's.
    pub async fn take_over(&self) -> Result<(), StoreError> {
        for open in self.audit.open_intents().await? {
            // What the host itself was about to do died with it.
            if ["plugin.", "backup."].iter().any(|area| open.action.starts_with(area)) {
                self.audit.settle(open.id, Outcome::Unknown).await?;
            } else {
                self.remember(open.id);
            }
        }
        Ok(())
    }

    /// Asks the provider about the entries that are open, and ends those that it knows about.
    pub(super) async fn settle(&self) {
        loop {
            let open: Vec<Uuid> = {
                let mut unsettled = self.unsettled.lock().unwrap_or_else(PoisonError::into_inner);
                let from = unsettled.len().saturating_sub(MOST_SETTLED_AT_ONCE);
                unsettled.split_off(from)
            };
            if open.is_empty() {
                return;
            }
            if let Err(error) = self.settle_these(&open).await {
                warn!(entries = open.len(), %error, "open entries of the audit log are settled later");
                self.unsettled.lock().unwrap_or_else(PoisonError::into_inner).extend(open);
                return;
            }
        }
    }

    async fn settle_these(&self, open: &[Uuid]) -> Result<(), ChangeError> {
        #[derive(Deserialize)]
        struct Outcomes {
            outcomes: HashMap<Uuid, String>,
        }
        let payload = RawJson::of(&json!({ "operationIds": open }));
        let outcomes = match self.provider.ask("auth.outcome", payload, None, None, CHANGE_WITHIN).await {
            Ok(answer) => answer.read::<Outcomes>().map(|answer| answer.outcomes).unwrap_or_default(),
            // Whoever is busy can tell later.
            Err(ProviderError::Refused(refusal)) if !is_busy(&refusal) => HashMap::new(),
            Err(ProviderError::NotOffered { .. }) => HashMap::new(),
            Err(error) => return Err(error.into()),
        };
        for id in open {
            let outcome = match outcomes.get(id).map(String::as_str) {
                Some("done") => Outcome::Done,
                Some("unknown") => Outcome::Failed,
                _ => Outcome::Unknown,
            };
            info!(%id, ?outcome, "an open entry of the audit log is settled");
            self.audit.settle(*id, outcome).await?;
        }
        Ok(())
    }

    /// Waits for the changes that are under way; for the stop.
    pub async fn finish(&self) {
        self.tasks.close();
        self.tasks.wait().await;
    }
}

/// Whether a refusal says that it is no answer, but that there is none now.
fn is_busy(refusal: &WireError) -> bool {
    let code = ErrorCode::parse(&refusal.code);
    matches!(code, Some(ErrorCode::Overloaded | ErrorCode::RateLimited | ErrorCode::PluginUnavailable))
}

/// What the audit log says of the provider's answer: which thing it was that changed.
fn result(answer: &RawJson) -> Value {
    #[derive(Deserialize, Serialize)]
    struct Thing {
        #[serde(skip_serializing_if = "Option::is_none")]
        id: Option<String>,
        #[serde(skip_serializing_if = "Option::is_none")]
        user: Option<String>,
    }
    answer.read::<Thing>().map_or(Value::Null, |thing| json!(thing))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_is_busy_has_not_said_that_nobody_can_tell() {
        let busy = |code| is_busy(&WireError::new(code, "not now"));
        assert!(busy(ErrorCode::Overloaded) && busy(ErrorCode::RateLimited));
        assert!(!busy(ErrorCode::NotFound) && !busy(ErrorCode::InvalidRequest));
    }
}
