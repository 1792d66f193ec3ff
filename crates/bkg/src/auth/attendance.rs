//! Attends to the auth provider: whenever one comes, the host asks about everybody again, makes the
//! first administrator if this is the first start, and settles what was open.
//!
//! The invariant: the first administrator is made once in the life of a data directory, and never
//! again because a database of either side was lost.

use std::io::{IsTerminal, Write};
use std::sync::Arc;

use bkg_protocol::ErrorCode;
use bkg_protocol::message::Secret;
use rand::RngExt;
use rand::distr::Alphanumeric;
use serde_json::{Map, json};
use tokio::sync::watch;
use tokio::time::{MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};

use super::{Authenticator, Change, ChangeError, Changes, ProviderError, SWEEP_EVERY};
use crate::registry::Instance;
use crate::store::{Action, Actor, DataDir, Settings, StoreError};

/// The name of the first administrator.
pub const FIRST_USER: &str = "admin";
/// How many characters a generated password has; 24 of 62 kinds are 142 bits.
const PASSWORD_LENGTH: usize = 24;

/// Where the password of the first administrator comes from.
#[derive(Debug)]
pub enum FirstPassword {
    /// The operator chose it: `ADMIN_PASSWORD`.
    Chosen(Secret),
    /// It is generated, kept in `DATA/initial-password`, and must be changed.
    Generated,
}

/// The task that attends to the provider.
#[derive(Debug)]
pub struct Attendance {
    authenticator: Arc<Authenticator>,
    changes: Arc<Changes>,
    settings: Settings,
    data: Arc<DataDir>,
    first_password: FirstPassword,
    attended: watch::Sender<bool>,
}

impl Attendance {
    /// Attendance to the provider of `authenticator`.
    pub fn new(
        authenticator: Arc<Authenticator>,
        changes: Arc<Changes>,
        settings: Settings,
        data: Arc<DataDir>,
        first_password: FirstPassword,
    ) -> Self {
        let attended = watch::Sender::new(false);
        Self { authenticator, changes, settings, data, first_password, attended }
    }

    /// Becomes true when the first provider that came has been attended to.
    pub fn attended(&self) -> watch::Receiver<bool> {
        self.attended.subscribe()
    }

    /// Attends until `stop` fires.
    pub async fn run(self, stop: CancellationToken) {
        // Those that were there when the last one came: one that has handed over and comes back is new.
        let mut known: Vec<Arc<Instance>> = Vec::new();
        let mut sweep = interval(SWEEP_EVERY);
        sweep.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let registry = self.authenticator.provider.registry();
            let arrival = registry.until(|view| {
                let record = view.plugin(self.authenticator.provider.name().as_str())?;
                let is_new =
                    |instance: &Arc<Instance>| !known.iter().any(|other| Arc::ptr_eq(other, instance));
                let comes =
                    self.authenticator.provider.is_here(view) && record.instances.iter().any(is_new);
                comes.then(|| record.instances.clone())
            });
            tokio::select! {
                () = stop.cancelled() => return,
                _ = sweep.tick() => {
                    self.authenticator.verdicts.sweep(jiff::Timestamp::now());
                    continue;
                }
                instances = arrival => known = instances,
            }
            self.authenticator.provider_came();
            tokio::select! {
                () = stop.cancelled() => return,
                () = self.attend() => {}
            }
        }
    }

    async fn attend(&self) {
        match self.initialise().await {
            Ok(()) => {}
            Err(ChangeError::Provider(ProviderError::Refused(refusal))) => error!(
                reason = refusal.message,
                "the first administrator cannot be made: correct `ADMIN_PASSWORD` and restart, or run `bkg user reset {FIRST_USER}`"
            ),
            Err(reason) => warn!(%reason, "the first administrator cannot be made yet"),
        }
        self.changes.settle().await;
        self.attended.send_replace(true);
    }

    /// Has the first administrator made, unless that was done before.
    async fn initialise(&self) -> Result<(), ChangeError> {
        if self.settings.is_auth_initialised().await? {
            return Ok(());
        }
        let (password, must_change, is_new) = match &self.first_password {
            FirstPassword::Chosen(password) => (password.clone(), false, false),
            FirstPassword::Generated => {
                let (password, is_new) = self.initial_password().await?;
                (password, true, is_new)
            }
        };
        let mut payload = Map::new();
        payload.insert("user".to_owned(), json!(FIRST_USER));
        payload.insert("password".to_owned(), json!(password.reveal()));
        payload.insert("mustChange".to_owned(), json!(must_change));
        let change = Change { capability: "auth.bootstrap", payload, action: action("auth.bootstrap") };
        match self.changes.make(change, None).await {
            Ok(_) => {
                info!(user = FIRST_USER, "the first administrator is made");
                if must_change {
                    self.announce(&password);
                }
            }
            Err(ChangeError::Provider(ProviderError::Refused(refusal)))
                if refusal.code == ErrorCode::Conflict.as_str() =>
            {
                info!(provider = %self.authenticator.provider.name(), "the auth provider has users already");
                self.discard_if(is_new).await?;
            }
            // A provider that makes no users has its own way to them.
            Err(ChangeError::Provider(ProviderError::NotOffered { .. })) => {
                return Ok(self.discard_if(is_new).await?);
            }
            Err(error) => return Err(error),
        }
        Ok(self.settings.set_auth_initialised(action("auth.initialise")).await?)
    }

    /// The generated password, and whether it was generated just now: one is there already if a former
    /// host died right after it had written it, and it may be the one that counts.
    async fn initial_password(&self) -> Result<(Secret, bool), StoreError> {
        let data = Arc::clone(&self.data);
        let reading = tokio::task::spawn_blocking(move || {
            if let Some(password) = data.read_initial_password()? {
                return Ok((password, false));
            }
            let password: String =
                rand::rng().sample_iter(Alphanumeric).take(PASSWORD_LENGTH).map(char::from).collect();
            data.write_initial_password(&password)?;
            Ok((Secret::new(password), true))
        });
        reading.await.expect("reading a file does not panic")
    }

    /// Removes the generated password if it was generated just now and became nobody's.
    async fn discard_if(&self, is_new: bool) -> Result<(), StoreError> {
        if !is_new {
            return Ok(());
        }
        let data = Arc::clone(&self.data);
        let removing = tokio::task::spawn_blocking(move || data.remove_initial_password());
        removing.await.expect("removing a file does not panic")
    }

    /// Shows the password once where a person sees it; a log file is no such place.
    fn announce(&self, password: &Secret) {
        let path = self.data.initial_password_path();
        info!(path = %path.display(), "the password of the first administrator is in this file until it is changed");
        let mut terminal = std::io::stderr();
        if terminal.is_terminal() {
            // Nobody is there to be told that the terminal went away.
            let _ = writeln!(
                terminal,
                "\n  log in as `{FIRST_USER}` with the password {}\n  (also in {} until it is changed)\n",
                password.reveal(),
                path.display()
            );
        }
    }
}

/// An action of the host itself.
fn action(name: &'static str) -> Action {
    Action {
        actor: Actor { user: "host".to_owned(), key_id: None, session_id: None, address: None },
        action: name,
        target: format!("user {FIRST_USER}"),
        detail: json!({}),
        request_id: None,
    }
}
