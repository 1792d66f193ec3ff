//! What the supervisor sees of a plugin: one state, since when, and why.

use jiff::Timestamp;
use serde::Serialize;

/// The states of a plugin, as in the operating documentation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, schemars::JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// No process of it exists.
    Stopped,
    /// It builds or installs what it needs before it can register.
    Preparing,
    /// Its process runs and has no session: it has not registered yet, or its socket broke.
    Starting,
    /// It is registered and serves.
    Running,
    /// It serves at lower preference.
    Degraded,
    /// It finishes what it has.
    Draining,
    /// It is out of rotation: it missed its beats, says that it is down, or is being replaced.
    Unresponsive,
    /// It failed and will be started again.
    Backoff,
    /// It failed and stays down until someone starts it.
    Failed,
}

impl State {
    /// The state as it is shown.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Stopped => "stopped",
            Self::Preparing => "preparing",
            Self::Starting => "starting",
            Self::Running => "running",
            Self::Degraded => "degraded",
            Self::Draining => "draining",
            Self::Unresponsive => "unresponsive",
            Self::Backoff => "backoff",
            Self::Failed => "failed",
        }
    }

    /// Whether the plugin rests here until somebody acts.
    pub fn is_settled(self) -> bool {
        matches!(self, Self::Stopped | Self::Failed | Self::Running | Self::Degraded)
    }
}

/// A state with its story.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Status {
    /// The state.
    pub state: State,
    /// One sentence on how it came to be.
    pub reason: Option<String>,
    /// Since when.
    pub since: Timestamp,
    /// How often the supervisor has started it again since someone last did.
    pub restarts: u32,
}

impl Status {
    /// Entered `state` now.
    pub fn now(state: State, reason: Option<String>) -> Self {
        Self { state, reason, since: Timestamp::now(), restarts: 0 }
    }
}
