//! One start of a plugin's process, as both its supervisor and the bus know it.
//!
//! The supervisor makes a launch, binds its private listener and spawns the process; the bus answers
//! on that listener and reports back through [`Launch::report`]. The launch's secrets live here:
//! the token that burns when it has been used, and the resume secret that replaces it.

use std::net::TcpListener;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use bkg_protocol::message::Secret;
use bkg_protocol::{InstanceId, PluginName};
use subtle::ConstantTimeEq;
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;

use super::Confinement;
use super::process_table::LaunchProcess;
use super::team::TeamId;
use crate::config::PluginEntry;

/// How long after its use the burnt token is accepted once more: the link may have broken before the
/// plugin read the resume secret.
const SECOND_CHANCE: Duration = Duration::from_secs(10);

/// What the bus tells the supervisor about a launch. That it registered, or lost its session, the
/// registry shows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LaunchEvent {
    /// It missed its beats once and is out of rotation.
    Unresponsive,
    /// It beats again.
    Recovered,
    /// Its health probe failed so often in a row that it is out of rotation.
    Ill {
        /// One sentence on what the probe was answered.
        reason: String,
    },
    /// Its health probe is answered again.
    Well,
    /// It must be replaced: missed beats twice, or owes answers for too long.
    Replace {
        /// One sentence on why.
        reason: String,
    },
    /// It was refused registration.
    Refused {
        /// One sentence on why.
        reason: String,
    },
}

/// One start of a plugin's process.
#[derive(Debug)]
pub struct Launch {
    /// The id of this launch.
    pub instance: InstanceId,
    /// Whose process it is.
    pub plugin: PluginName,
    /// The entry that it was started with.
    pub entry: Arc<PluginEntry>,
    /// The version of the plugin that it is of.
    pub team: TeamId,
    /// The process, once it is spawned.
    process: watch::Sender<Option<LaunchProcess>>,
    /// How it is confined, once that is known.
    pub confinement: Arc<OnceLock<Confinement>>,
    secrets: Mutex<Secrets>,
    /// Whether it is being ended: it gets no session any more.
    retired: AtomicBool,
    events: mpsc::Sender<LaunchEvent>,
}

#[derive(Debug)]
struct Secrets {
    token: Secret,
    burnt: Option<Instant>,
    /// Whether the second chance has been taken.
    forgiven: bool,
    resume: Option<Secret>,
    /// The secret that `resume` replaced, and when.
    earlier: Option<(Secret, Instant)>,
}

/// A listener of a launch's own, on its way from the supervisor to the bus.
#[derive(Debug)]
pub struct PrivateListener {
    /// Bound to loopback, non-blocking.
    pub listener: TcpListener,
    /// Whose process may dial it.
    pub launch: Arc<Launch>,
    /// Fires when the launch is over: the listener closes, and its sessions with it.
    pub over: CancellationToken,
}

impl Launch {
    /// A launch that has not been spawned, and where its events arrive.
    ///
    /// Sixteen events fit: the supervisor reads them as they come.
    pub fn new(
        plugin: PluginName,
        entry: Arc<PluginEntry>,
        team: TeamId,
    ) -> (Self, mpsc::Receiver<LaunchEvent>) {
        let (events, receiver) = mpsc::channel(16);
        let secrets =
            Secrets { token: fresh_secret(), burnt: None, forgiven: false, resume: None, earlier: None };
        let launch = Self {
            instance: InstanceId::new(),
            plugin,
            entry,
            team,
            process: watch::Sender::new(None),
            confinement: Arc::default(),
            secrets: Mutex::new(secrets),
            retired: AtomicBool::new(false),
            events,
        };
        (launch, receiver)
    }

    /// The launch token, for the process's environment.
    pub fn token(&self) -> Secret {
        self.lock_secrets().token.clone()
    }

    /// Notes the spawned process.
    pub fn spawned(&self, process: LaunchProcess) {
        self.process.send_replace(Some(process));
    }

    /// The process, where it has been spawned.
    pub fn process(&self) -> Option<LaunchProcess> {
        *self.process.borrow()
    }

    /// The process; waits for the spawn, which a quick plugin can be ahead of.
    pub async fn spawned_process(&self) -> LaunchProcess {
        let mut process = self.process.subscribe();
        let found = process.wait_for(Option::is_some).await.expect("the sender lives in self");
        found.expect("waited for it")
    }

    /// Tells the supervisor.
    pub fn report(&self, event: LaunchEvent) {
        // A full channel means that the supervisor has sixteen reports to act on; that an instance
        // must be replaced is said again at every tick.
        let _ = self.events.try_send(event);
    }

    /// Refuses every further session: the launch is being ended. Comes before its sessions are taken out
    /// of the registry, so that one which registers meanwhile is found by either side.
    pub fn retire(&self) {
        self.retired.store(true, Ordering::SeqCst);
    }

    /// Whether the launch is being ended.
    pub fn is_retired(&self) -> bool {
        self.retired.load(Ordering::SeqCst)
    }

    /// Whether a token is this launch's and may be used; `verified` says that the peer is known to be
    /// its process. A burnt token is accepted once more, for a while, from a verified process.
    pub fn accepts_token(&self, token: &Secret, verified: bool) -> bool {
        let mut secrets = self.lock_secrets();
        if !same(&secrets.token, token) {
            return false;
        }
        match secrets.burnt {
            None => true,
            Some(burnt) if verified && burnt.elapsed() <= SECOND_CHANCE => {
                !std::mem::replace(&mut secrets.forgiven, true)
            }
            Some(_) => false,
        }
    }

    /// Whether a secret is the one that the last registration of this launch was given. The one
    /// before is accepted for a while from a verified process, for the same reason as a burnt token.
    pub fn accepts_resume(&self, resume: &Secret, verified: bool) -> bool {
        let secrets = self.lock_secrets();
        let is_last = secrets.resume.as_ref().is_some_and(|expected| same(expected, resume));
        let is_earlier = secrets.earlier.as_ref().is_some_and(|(expected, replaced)| {
            verified && replaced.elapsed() <= SECOND_CHANCE && same(expected, resume)
        });
        is_last || is_earlier
    }

    /// The secret for the next registration; replaces the one before.
    pub fn next_resume(&self) -> Secret {
        let resume = fresh_secret();
        let mut secrets = self.lock_secrets();
        secrets.earlier = secrets.resume.replace(resume.clone()).map(|earlier| (earlier, Instant::now()));
        resume
    }

    /// The launch token has been used: `registered` is written.
    pub fn burn_token(&self) {
        self.lock_secrets().burnt.get_or_insert_with(Instant::now);
    }

    fn lock_secrets(&self) -> std::sync::MutexGuard<'_, Secrets> {
        self.secrets.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn same(one: &Secret, other: &Secret) -> bool {
    one.reveal().as_bytes().ct_eq(other.reveal().as_bytes()).into()
}

/// 256 random bits as URL-safe text.
fn fresh_secret() -> Secret {
    use base64::Engine;
    let bits: [u8; 32] = rand::random();
    Secret::new(base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(bits))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn launch() -> Launch {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("plugin.json"), r#"{"name":"p"}"#).unwrap();
        let entry = PluginEntry::load(folder.path(), None).unwrap();
        Launch::new("p".parse().unwrap(), Arc::new(entry), TeamId::default()).0
    }

    #[test]
    fn a_burnt_token_is_accepted_once_more_from_a_verified_process() {
        let launch = launch();
        let token = launch.token();
        assert!(launch.accepts_token(&token, false));
        assert!(!launch.accepts_token(&Secret::new("guess"), true));
        launch.burn_token();
        assert!(!launch.accepts_token(&token, false));
        assert!(launch.accepts_token(&token, true));
        assert!(!launch.accepts_token(&token, true));
    }

    #[test]
    fn an_earlier_resume_secret_counts_only_for_a_verified_process() {
        let launch = launch();
        let first = launch.next_resume();
        assert!(launch.accepts_resume(&first, false));
        let second = launch.next_resume();
        assert!(!launch.accepts_resume(&first, false));
        assert!(launch.accepts_resume(&first, true));
        assert!(launch.accepts_resume(&second, false));
        launch.next_resume();
        assert!(!launch.accepts_resume(&first, true));
    }
}
