//! Who is asking, and what they may do.
//!
//! The host checks its root key itself and has every other credential checked by the auth provider, a
//! plugin; `docs/auth-provider.md` is their contract. Not what a route needs: routes declare that. The
//! invariants: a request without a valid credential becomes no [`Caller`]; only a provider's clear no
//! makes a credential invalid; what was revoked opens nothing any more.

mod attendance;
mod caller;
mod changes;
mod consumption;
mod limits;
mod provider;
mod tickets;
mod verdicts;
mod window;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bkg_protocol::message::{AuthChanged, Secret};
use bkg_protocol::{RawJson, Scope};
use futures_util::{StreamExt, stream};
use jiff::Timestamp;
use serde::Deserialize;
use serde_json::json;
use tokio::sync::watch;
use tokio::time::{Instant, timeout};
use tokio_util::task::TaskTracker;
use tracing::{debug, info, warn};

use crate::store::RootKey;
pub use attendance::{Attendance, FIRST_USER, FirstPassword};
pub use caller::{Caller, Credential, Rights};
pub use changes::{Change, ChangeError, Changes};
use consumption::Consumption;
pub use consumption::{Demand, Holder, Holders, Reservation, Spent, Standing};
pub use limits::{Budget, LimitReached, Limits, Period, Whose};
pub use provider::{Provider, ProviderError};
pub use tickets::Ticket;
use tickets::Tickets;
use verdicts::{Digest, Put, Recollection, Verdicts};

/// How long the provider may take to check a credential.
const CHECK_WITHIN: Duration = Duration::from_secs(5);
/// How often a credential is asked about whose answers are outdated by the time they arrive.
const MOST_CHECKS: usize = 20;
/// How long somebody who holds a caller that may have been revoked goes on while nobody can be asked.
const SUSPECTED_FOR: Duration = Duration::from_secs(4);
/// How many of those that are held are asked about at once when a provider comes: others ask as well.
const ASKED_AT_ONCE: usize = 32;
/// How often what has expired is looked for.
const SWEEP_EVERY: Duration = Duration::from_secs(2);
/// How long a credential may be, in bytes. Its form belongs to the provider.
const CREDENTIAL_BYTES: std::ops::RangeInclusive<usize> = 8..=512;

/// Checks credentials.
#[derive(Debug)]
pub struct Authenticator {
    root_key: RootKey,
    root: Caller,
    provider: Provider,
    verdicts: Verdicts,
    consumption: Consumption,
    tickets: Tickets,
    /// The credentials that are being asked about, so that many requests ask once.
    asking: Mutex<HashMap<Digest, watch::Receiver<Option<Checked>>>>,
    tasks: TaskTracker,
}

type Checked = Result<Caller, AuthError>;

/// Why a credential does not open what was asked for.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AuthError {
    /// None was sent.
    #[error("a key is needed: send it as `Authorization: Bearer <key>`")]
    Missing,
    /// It is not a known key.
    #[error("the key is not valid: check it, or make a new one")]
    Invalid,
    /// Whether it is valid cannot be found out now.
    #[error("{why}")]
    Unavailable {
        /// One sentence on why.
        why: String,
    },
    /// The caller lacks a scope.
    #[error("the scope `{scope}` is needed, and {who} does not have it")]
    Forbidden {
        /// What is needed.
        scope: String,
        /// Who asked, as part of a sentence.
        who: String,
    },
    /// The caller has not just shown who it is.
    #[error(
        "this needs a login of the last 5 minutes, or the root key: log in again (`bkg login`, `POST /auth/login`) and \
         repeat it; an API key cannot do this"
    )]
    ReauthRequired,
    /// The caller must change the password before anything else.
    #[error(
        "`{user}` must choose a new password first: `bkg user password {user}`, or `POST /auth/password`"
    )]
    PasswordDue {
        /// Who asked.
        user: String,
    },
    /// The key, or its user, has used up what it may.
    #[error(transparent)]
    LimitReached(#[from] LimitReached),
}

impl Authenticator {
    /// Accepts the root key, and what the provider says is valid.
    pub fn new(root_key: RootKey, provider: Provider) -> Arc<Self> {
        Arc::new(Self {
            root_key,
            root: Caller::root(),
            provider,
            verdicts: Verdicts::default(),
            consumption: Consumption::default(),
            tickets: Tickets::default(),
            asking: Mutex::default(),
            tasks: TaskTracker::new(),
        })
    }

    /// Whom a credential belongs to.
    ///
    /// # Errors
    /// It belongs to nobody, or that cannot be found out now.
    pub async fn authenticate(self: &Arc<Self>, credential: &str) -> Result<Caller, AuthError> {
        if credential.starts_with(RootKey::PREFIX) {
            let matches = self.root_key.matches(credential);
            return if matches { Ok(self.root.clone()) } else { Err(AuthError::Invalid) };
        }
        self.check(credential).await
    }

    /// Whether a credential can be judged without asking anybody; whatever the judgement is.
    pub fn is_known(&self, credential: &str) -> bool {
        self.root_key.matches(credential) || self.verdicts.remembers(&Digest::of(credential))
    }

    /// A one-time ticket that stands for a caller's credential, for thirty seconds.
    ///
    /// # Errors
    /// There are too many that nobody has used.
    pub fn issue_ticket(&self, caller: &Caller) -> Result<Ticket, AuthError> {
        self.tickets.issue(caller, Instant::now())
    }

    /// Whose ticket this is; nobody can use it again.
    ///
    /// # Errors
    /// [`AuthError::Invalid`]: it is used, too old, or its caller was revoked.
    pub fn redeem(&self, ticket: &str) -> Result<Caller, AuthError> {
        self.tickets.redeem(ticket, Instant::now())
    }

    async fn check(self: &Arc<Self>, credential: &str) -> Checked {
        let is_plain = credential.bytes().all(|byte| byte.is_ascii_graphic());
        if !is_plain || !CREDENTIAL_BYTES.contains(&credential.len()) {
            return Err(AuthError::Invalid);
        }
        let digest = Digest::of(credential);
        match self.verdicts.recall(&digest, Instant::now(), Timestamp::now()) {
            Recollection::Fresh(caller) => Ok(caller),
            Recollection::Ageing(caller) => {
                // Nobody waits for this: what is remembered is good until something else is known.
                let _ = self.ask(digest, credential);
                Ok(caller)
            }
            Recollection::Doubtful(caller) => match self.answer(digest, credential).await {
                Err(AuthError::Unavailable { .. }) if !caller.is_revoked() => {
                    self.verdicts.unanswered(&digest, Instant::now());
                    Ok(caller)
                }
                answer => answer,
            },
            Recollection::Expired => Err(AuthError::Invalid),
            Recollection::Nothing => self.answer(digest, credential).await,
        }
    }

    /// Has the provider asked, and waits for an answer that still holds when it is here.
    async fn answer(self: &Arc<Self>, digest: Digest, credential: &str) -> Checked {
        for _ in 0..MOST_CHECKS {
            let mut answer = self.ask(digest, credential);
            let gone =
                |_| AuthError::Unavailable { why: "the question was abandoned: try again".to_owned() };
            let answer = answer.wait_for(Option::is_some).await.map_err(gone)?.clone();
            answer.expect("it was waited for")?;
            // The question may have been somebody else's, put before a change that came since: what
            // counts is what is known by now.
            let recollection = self.verdicts.recall(&digest, Instant::now(), Timestamp::now());
            if let Recollection::Fresh(caller) | Recollection::Ageing(caller) = recollection {
                return Ok(caller);
            }
        }
        Err(changes_too_fast())
    }

    /// Has the provider asked by a task of its own, unless it is being asked already: whoever asked
    /// first may leave while others still wait.
    fn ask(self: &Arc<Self>, digest: Digest, credential: &str) -> watch::Receiver<Option<Checked>> {
        let mut asking = self.asking.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(answer) = asking.get(&digest) {
            return answer.clone();
        }
        let (sender, answer) = watch::channel(None);
        asking.insert(digest, answer.clone());
        drop(asking);
        let asked = BeingAsked { of: Arc::clone(self), digest };
        let credential = Secret::new(credential);
        self.tasks.spawn(async move {
            let checked = asked.of.ask_provider(digest, &credential).await;
            drop(asked);
            sender.send_replace(Some(checked));
        });
        answer
    }

    async fn ask_provider(&self, digest: Digest, credential: &Secret) -> Checked {
        let payload = RawJson::of(&json!({ "token": credential.reveal() }));
        for _ in 0..MOST_CHECKS {
            let put = self.verdicts.put();
            let answer = self.provider.ask(provider::VALIDATE, payload.clone(), None, None, CHECK_WITHIN);
            let answer = answer.await.map_err(|error| AuthError::Unavailable { why: error.to_string() })?;
            if let Some(checked) = self.judge(digest, credential, &answer, put)? {
                return checked;
            }
        }
        Err(changes_too_fast())
    }

    /// What the provider's answer means; `None` if it was overtaken by a change.
    fn judge(
        &self,
        digest: Digest,
        credential: &Secret,
        answer: &RawJson,
        put: Put,
    ) -> Result<Option<Checked>, AuthError> {
        #[derive(Deserialize)]
        struct Verdict {
            active: bool,
            generation: Option<u64>,
            reason: Option<String>,
        }
        let unreadable = |what: String| {
            warn!(provider = %self.provider.name(), what, "the answer of `auth.validate` cannot be read");
            let why = format!("credentials cannot be checked now: the auth provider's answer {what}");
            AuthError::Unavailable { why }
        };
        let verdict: Verdict =
            answer.read().map_err(|error| unreadable(format!("does not fit: {error}")))?;
        if !verdict.active {
            debug!(reason = verdict.reason.as_deref().unwrap_or("none"), "a credential is not valid");
            self.verdicts.refute(&digest);
            return Ok(Some(Err(AuthError::Invalid)));
        }
        let generation = verdict.generation.ok_or_else(|| unreadable("has no `generation`".to_owned()))?;
        let active: caller::Active =
            answer.read().map_err(|error| unreadable(format!("does not fit: {error}")))?;
        let mut rights = Rights::from(&active);
        let holders = active.holders();
        rights.holders =
            self.consumption.holders(holders.iter().map(|(holder, limits)| (holder.clone(), limits)));
        if rights.expires_at.is_some_and(|end| end <= Timestamp::now()) {
            self.verdicts.refute(&digest);
            return Ok(Some(Err(AuthError::Invalid)));
        }
        let caller = self.verdicts.accept((digest, credential), rights, generation, put, Instant::now());
        Ok(caller.map(Ok))
    }

    /// The provider says that something changed. When this returns, nothing that was said before is
    /// served; whoever holds a caller that was meant is looked after.
    pub fn changed(self: &Arc<Self>, change: &AuthChanged) {
        for suspect in self.verdicts.changed(change) {
            let this = Arc::clone(self);
            self.tasks.spawn(async move {
                let asking = this.answer(suspect.digest, suspect.credential.reveal());
                match timeout(SUSPECTED_FOR, asking).await {
                    // Whoever lost rights was told when the answer was taken.
                    Ok(Ok(_) | Err(AuthError::Invalid)) => {}
                    Ok(Err(error)) => this.give_up(&suspect.caller, &error.to_string()),
                    Err(_) => this.give_up(&suspect.caller, "the auth provider does not answer"),
                }
            });
        }
    }

    /// A provider has come: whoever holds a caller is asked about, since what changed while it was away
    /// was told to nobody. One that cannot be asked goes on as anybody does while the provider is away.
    fn provider_came(self: &Arc<Self>) {
        let (this, held) = (Arc::clone(self), self.verdicts.provider_came(Instant::now()));
        self.tasks.spawn(async move {
            let this = &this;
            let asking = stream::iter(held).for_each_concurrent(ASKED_AT_ONCE, async |held| {
                // Whoever lost rights is told when the answer is taken.
                let _ = this.answer(held.digest, held.credential.reveal()).await;
            });
            asking.await;
        });
    }

    fn give_up(&self, caller: &Caller, why: &str) {
        info!(user = caller.user(), why, "open requests end: whether they are still allowed is not known");
        caller.revoke();
    }

    /// The accounts of whoever a plugin asks on behalf of.
    pub fn holders_of(&self, caller: &bkg_protocol::message::Caller) -> Holders {
        let key = caller.key_id.as_deref().map(|id| Holder::Key(Arc::from(id)));
        let user = Holder::User(Arc::from(caller.user.as_str()));
        self.consumption.known(key.into_iter().chain([user]))
    }

    /// Starts with what keys and users have used so far.
    pub fn restore_spent(&self, spent: impl IntoIterator<Item = (Holder, Spent)>, time: Timestamp) {
        self.consumption.restore(spent, time);
    }

    /// Waits for the questions that are under way; for the stop, when the provider is gone.
    pub async fn finish(&self) {
        self.tasks.close();
        self.tasks.wait().await;
    }

    /// The auth provider.
    pub fn provider(&self) -> &Provider {
        &self.provider
    }
}

/// A credential that is being asked about, until this is dropped.
struct BeingAsked {
    of: Arc<Authenticator>,
    digest: Digest,
}

impl Drop for BeingAsked {
    fn drop(&mut self) {
        self.of.asking.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.digest);
    }
}

fn changes_too_fast() -> AuthError {
    AuthError::Unavailable {
        why: "credentials change faster than they can be checked: try again".to_owned(),
    }
}

/// The scope that a caller needs for a capability: the entry's choice, else the capability's name.
pub fn scope_of<'a>(chosen: Option<&'a Scope>, capability: &'a bkg_protocol::CapabilityName) -> &'a str {
    chosen.map_or(capability.as_str(), Scope::as_str)
}
