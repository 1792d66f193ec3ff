//! What is asked of a swap, and what became of it.
//!
//! Not how it is carried out: `swapping` does. The invariant: a swap has one outcome, and it is final.
//! `admin`, `entries` and `dev` order swaps through [`super::Supervisor::swap`].

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use bkg_protocol::PluginName;
use tokio::sync::watch;

use super::UnknownPlugin;
use crate::config::PluginEntry;
use crate::registry::{ShareStory, VersionStory};

/// A new version of a plugin that is to take over.
#[derive(Debug, Clone)]
pub struct SwapOrder {
    /// Its entry; that of the version before holds until the swap is decided.
    pub entry: Arc<PluginEntry>,
    /// The real path of its folder.
    pub root: PathBuf,
    /// Why, in one clause: it is shown to operators.
    pub why: String,
    /// The share of requests that it is tried with before it takes over; `None`: it takes over at once.
    pub share: Option<Share>,
}

/// A trial with a share of the requests.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Share {
    /// How many of 100 requests the new version answers, 1 to 99.
    pub percent: u8,
    /// For how long both versions are compared.
    pub observe: Duration,
}

/// For how long two versions are compared, where nobody says.
const OBSERVE: Duration = Duration::from_secs(30);

impl Share {
    /// The trial that an entry asks for, if it does and one is possible.
    pub fn of_entry(entry: &PluginEntry) -> Option<Self> {
        let percent = entry.swap.share_percent.filter(|_| entry.may_overlap())?;
        Some(Self { percent, observe: Self::observe_by(entry) })
    }

    /// For how long an entry wants versions to be compared.
    pub fn observe_by(entry: &PluginEntry) -> Duration {
        entry.swap.observe.unwrap_or(OBSERVE)
    }
}

impl From<Share> for ShareStory {
    fn from(share: Share) -> Self {
        Self { percent: share.percent, observe_ms: share.observe }
    }
}

/// What became of a swap.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SwapOutcome {
    /// The new version serves. The one before may still finish what it has.
    Swapped {
        /// The version before.
        from: VersionStory,
        /// The one that serves.
        to: VersionStory,
    },
    /// The version before serves, with its entry: nothing has changed.
    RolledBack {
        /// How far it was.
        stage: SwapStage,
        /// One sentence on why.
        reason: String,
    },
    /// The plugin was stopped, or did not run, and runs with the new version.
    Restarted,
    /// Another swap took its place before it was decided; nothing has changed.
    Superseded,
}

/// How far a swap was when it was rolled back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SwapStage {
    /// The new version had not passed the gate.
    Gate,
    /// It answered a share of the requests.
    Share,
    /// It had taken over, and the version before was still there.
    Hold,
}

impl SwapStage {
    /// The stage as it is shown.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Gate => "gate",
            Self::Share => "share",
            Self::Hold => "hold",
        }
    }
}

/// Why there was no swap.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SwapRefused {
    /// No plugin has this name.
    #[error(transparent)]
    Unknown(#[from] UnknownPlugin),
    /// The entry is of another plugin.
    #[error("the new version is called `{other}`, not `{plugin}`: a version keeps its plugin's name")]
    OtherName {
        /// The plugin.
        plugin: PluginName,
        /// The name in the entry.
        other: PluginName,
    },
    /// Two versions of it may not run side by side, so there is nothing to share.
    #[error(
        "two versions of `{0}` may not run side by side, because of its `overlap` or its `port`: swap it without a share"
    )]
    NoShare(PluginName),
    /// So small or large a share is none.
    #[error("a share of {0} of 100 requests is none: use 1 to 99")]
    Percent(u8),
    /// Earlier versions still finish what they have.
    #[error("{count} earlier versions of `{plugin}` still finish what they have: try again later")]
    TooManyVersions {
        /// The plugin.
        plugin: PluginName,
        /// How many.
        count: usize,
    },
    /// The host ends.
    #[error("the host is stopping")]
    Stopping,
}

/// A swap that is under way. Dropping it changes nothing.
#[derive(Debug, Clone)]
pub struct SwapTicket {
    pub(super) number: u64,
    pub(super) serves: watch::Receiver<bool>,
    pub(super) outcome: watch::Receiver<Option<SwapOutcome>>,
    pub(super) departed: watch::Receiver<Option<u32>>,
}

impl SwapTicket {
    /// The number of the swap, counted for each plugin since the host started.
    pub fn number(&self) -> u64 {
        self.number
    }

    /// Waits until the new version has the plugin's name for itself, which may still be taken back; or
    /// until it is settled that it has not.
    pub async fn serves(&self) -> bool {
        let mut serves = self.serves.clone();
        let decided = async {
            if serves.wait_for(|serves| *serves).await.is_err() {
                // It ended without a decision, and the outcome says how.
                std::future::pending::<()>().await;
            }
        };
        tokio::select! {
            biased;
            () = decided => true,
            outcome = self.outcome() => {
                matches!(outcome, SwapOutcome::Swapped { .. } | SwapOutcome::Restarted)
            }
        }
    }

    /// Waits until it is settled which version serves. Bounded by the limits of preparing and
    /// registering, the trial and the hold.
    pub async fn outcome(&self) -> SwapOutcome {
        let mut outcome = self.outcome.clone();
        let settled = outcome.wait_for(Option::is_some).await.ok().and_then(|outcome| outcome.clone());
        settled.unwrap_or_else(|| SwapOutcome::RolledBack {
            stage: SwapStage::Gate,
            reason: "the host stopped before it was decided".to_owned(),
        })
    }

    /// Waits until nothing is left of the version that does not serve; answers how many requests it had
    /// not answered when it was ended.
    pub async fn departed(&self) -> u32 {
        let mut departed = self.departed.clone();
        let gone = departed.wait_for(Option::is_some).await.ok().and_then(|cut| *cut);
        gone.unwrap_or_default()
    }
}
