//! The plugin's settings: typed, current, and changed while it runs.
//!
//! The host owns them; here they are read, offered to the plugin, and put in force or refused. The
//! invariant: `configApplied` with success is said after the settings are in force, a dry run puts nothing
//! in force, and what [`Settings::get`] answers has passed the plugin's own check.

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;

use bkg_protocol::message::{self, ConfigApplied, PluginMessage};
use bkg_protocol::{ErrorCode, RawJson, WireError};
use serde::de::DeserializeOwned;
use tokio::sync::{mpsc, watch};

use crate::error::Result;
use crate::host::Host;
use crate::session::Session;

type Applying = Pin<Box<dyn Future<Output = Result<()>> + Send>>;
/// Puts settings in force, or only tries them; says why not.
pub(crate) type Apply = Arc<dyn Fn(RawJson, Purpose) -> Applying + Send + Sync>;

/// What settings came for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// To be put in force.
    InForce,
    /// To hear what the plugin thinks of them.
    DryRun,
}
type Check<T> = dyn Fn(Arc<T>) -> Applying + Send + Sync;

/// The plugin's settings as a type of its own, always current.
///
/// Give a clone to [`crate::Plugin::settings`] and keep one: the host's settings are read into `T`
/// before the first request is answered, and each time it pushes new ones because an operator saved
/// them. Fields that the settings leave out need `#[serde(default)]`.
///
/// ```
/// use bkg_sdk::{Plugin, Settings};
///
/// #[derive(Debug, Clone, serde::Deserialize)]
/// #[serde(default)]
/// struct Greeting { word: String }
///
/// impl Default for Greeting {
///     fn default() -> Self { Self { word: "hello".to_owned() } }
/// }
///
/// let settings = Settings::<Greeting>::default().check(|new| async move {
///     if new.word.is_empty() { Err("`word` must not be empty") } else { Ok(()) }
/// });
/// let plugin = Plugin::new().settings(&settings).answer("greeter.greet", move |_| {
///     let greeting = settings.get();
///     async move { Ok(serde_json::json!(greeting.word)) }
/// });
/// ```
pub struct Settings<T> {
    current: watch::Sender<Arc<T>>,
    check: Option<Arc<Check<T>>>,
}

impl<T> Clone for Settings<T> {
    fn clone(&self) -> Self {
        Self { current: self.current.clone(), check: self.check.clone() }
    }
}

impl<T: Default> Default for Settings<T> {
    fn default() -> Self {
        Self::new(T::default())
    }
}

impl<T: fmt::Debug> fmt::Debug for Settings<T> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_tuple("Settings").field(&self.current.borrow()).finish()
    }
}

impl<T> Settings<T> {
    /// Settings that hold until the host has sent its own.
    pub fn new(initial: T) -> Self {
        Self { current: watch::Sender::new(Arc::new(initial)), check: None }
    }

    /// Offers new settings to the plugin before they are in force: what it returns decides. It may take
    /// its time, for example to open what the settings name; an error is shown to the operator, and
    /// the settings stay as they were.
    ///
    /// The host also asks it about settings that may never be in force, before they are saved: what a
    /// check opens it closes again, and what it changes must not matter.
    pub fn check<C, F, E>(mut self, check: C) -> Self
    where
        C: Fn(Arc<T>) -> F + Send + Sync + 'static,
        F: Future<Output = Result<(), E>> + Send + 'static,
        E: fmt::Display,
    {
        self.check = Some(Arc::new(move |offered| {
            let checking = check(offered);
            Box::pin(async move { checking.await.map_err(refused) })
        }));
        self
    }

    /// The settings in force.
    pub fn get(&self) -> Arc<T> {
        self.current.borrow().clone()
    }

    /// A receiver that is told of each change.
    pub fn watch(&self) -> watch::Receiver<Arc<T>> {
        self.current.subscribe()
    }
}

fn refused(problem: impl fmt::Display) -> WireError {
    WireError::new(ErrorCode::InvalidConfig, problem.to_string())
}

impl<T: DeserializeOwned + Send + Sync + 'static> Settings<T> {
    pub(crate) fn apply(&self) -> Apply {
        let settings = self.clone();
        Arc::new(move |config, purpose| {
            let settings = settings.clone();
            Box::pin(async move {
                // An entry without settings has `null` here; all fields then have their defaults.
                let config = if config.is_null() { RawJson::EMPTY_OBJECT } else { config };
                let offered: T = config
                    .read()
                    .map_err(|problem| refused(format!("the settings cannot be read: {problem}")))?;
                let offered = Arc::new(offered);
                if let Some(check) = &settings.check {
                    check(offered.clone()).await?;
                }
                if purpose == Purpose::InForce {
                    settings.current.send_replace(offered);
                }
                Ok(())
            })
        })
    }

    /// Whether the plugin has something to say of settings beyond whether they can be read.
    pub(crate) fn has_check(&self) -> bool {
        self.check.is_some()
    }
}

/// How many changes may wait for the one that is being applied. The host waits for each verdict, so
/// more than a few means that it has given up waiting; the change is refused then.
const WAITING: usize = 8;

/// Settings as they came from the host.
struct Revision {
    number: u64,
    config: RawJson,
    purpose: Purpose,
    /// Who is told the verdict; nobody at registration.
    asked_by: Option<Arc<Session>>,
}

impl Revision {
    fn of(config: message::Config, session: &Arc<Session>) -> Self {
        let purpose = if config.dry_run { Purpose::DryRun } else { Purpose::InForce };
        Self { number: config.revision, config: config.config, purpose, asked_by: Some(session.clone()) }
    }
}

/// Applies settings one after the other, beside everything else that the plugin does.
#[derive(Debug, Clone)]
pub(crate) struct Configuration {
    revisions: mpsc::Sender<Revision>,
    verdict: watch::Receiver<Verdict>,
}

/// What became of the first settings; later ones that are refused change nothing.
#[derive(Debug, Clone)]
enum Verdict {
    Waiting,
    InForce,
    Refused(WireError),
}

impl Configuration {
    /// The settings' front end, and the work that must run beside it until it is dropped.
    pub(crate) fn new(apply: Apply, host: Host) -> (Self, impl Future<Output = ()> + Send) {
        let (revisions, offered) = mpsc::channel(WAITING);
        let (tell, verdict) = watch::channel(Verdict::Waiting);
        (Self { revisions, verdict }, apply_in_turn(apply, host, offered, tell))
    }

    /// The settings that came with the registration.
    pub(crate) fn registered(&self, number: u64, config: RawJson) {
        self.offer(Revision { number, config, purpose: Purpose::InForce, asked_by: None });
    }

    /// Settings that the host sent later, to be put in force or only to be tried.
    pub(crate) fn sent(&self, config: message::Config, session: &Arc<Session>) {
        self.offer(Revision::of(config, session));
    }

    fn offer(&self, revision: Revision) {
        if let Err(refused) = self.revisions.try_send(revision) {
            let revision = refused.into_inner();
            let error = WireError::new(
                ErrorCode::Overloaded,
                "earlier settings are still being applied: send them again later",
            );
            report(&revision, &Err(error));
        }
    }

    /// Waits until requests can be answered under the host's settings.
    ///
    /// # Errors
    /// Why they could not be put in force.
    pub(crate) async fn in_force(&mut self) -> Result<()> {
        let decided = self.verdict.wait_for(|verdict| !matches!(verdict, Verdict::Waiting)).await;
        match decided.as_deref() {
            Ok(Verdict::Refused(error)) => Err(WireError::new(
                ErrorCode::PluginError,
                format!("the plugin's settings are not in force: {}", error.message),
            )),
            Ok(_) => Ok(()),
            Err(_) => Err(WireError::new(ErrorCode::PluginError, "the plugin is stopping")),
        }
    }

    /// Whether [`Configuration::in_force`] need not be waited for.
    pub(crate) fn is_in_force(&self) -> bool {
        matches!(*self.verdict.borrow(), Verdict::InForce)
    }
}

async fn apply_in_turn(
    apply: Apply,
    host: Host,
    mut offered: mpsc::Receiver<Revision>,
    verdict: watch::Sender<Verdict>,
) {
    let mut in_force = None;
    while let Some(revision) = offered.recv().await {
        // A plugin that comes back after a broken link gets the settings that it has.
        if in_force.as_ref() == Some(&revision.config) {
            report(&revision, &Ok(()));
            continue;
        }
        let outcome = apply(revision.config.clone(), revision.purpose).await;
        match &outcome {
            _ if revision.purpose == Purpose::DryRun => {}
            Ok(()) => {
                tracing::debug!(revision = revision.number, "settings in force");
                in_force = Some(revision.config.clone());
                host.set_settings_problem(None);
                verdict.send_replace(Verdict::InForce);
            }
            Err(error) => {
                tracing::warn!(revision = revision.number, problem = error.message, "settings refused");
                verdict.send_if_modified(|verdict| {
                    let first = !matches!(verdict, Verdict::InForce);
                    if first {
                        host.set_settings_problem(Some(error.message.clone()));
                        *verdict = Verdict::Refused(error.clone());
                    }
                    first
                });
            }
        }
        report(&revision, &outcome);
    }
}

/// Answers settings that were pushed to a plugin which takes none.
pub(crate) fn refuse(config: message::Config, session: &Arc<Session>) {
    let revision = Revision::of(config, session);
    let problem = "this plugin takes settings only when it starts: restart it to put them in force";
    report(&revision, &Err(WireError::new(ErrorCode::InvalidConfig, problem)));
}

fn report(revision: &Revision, outcome: &Result<()>) {
    if let Some(session) = &revision.asked_by {
        session.say(&PluginMessage::ConfigApplied(ConfigApplied {
            revision: revision.number,
            success: outcome.is_ok(),
            error: outcome.as_ref().err().cloned(),
            dry_run: revision.purpose == Purpose::DryRun,
        }));
    }
}
