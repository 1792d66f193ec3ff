//! Why a plugin ends other than by being told to, and with which exit code.
//!
//! Errors of single requests are [`WireError`]s: they travel to whoever asked and end nothing.

use std::time::Duration;

use bkg_protocol::{NameError, WireError};

use crate::environment::EnvironmentError;

/// What a handler answers: an error travels to whoever asked.
pub type Result<T, E = WireError> = std::result::Result<T, E>;

/// Why a plugin ended.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// The environment lacks what the host sets.
    #[error(transparent)]
    Environment(#[from] EnvironmentError),
    /// The plugin describes itself wrongly.
    #[error(transparent)]
    Definition(#[from] DefinitionError),
    /// The host refused the registration; another try would meet the same answer.
    #[error("the host refused the registration: {message} ({code})")]
    Rejected {
        /// The error code, or the WebSocket close code where the host gave no other.
        code: String,
        /// What to change.
        message: String,
    },
    /// No session could be had with the host for too long.
    #[error("no session with the host at `{url}` for {} s, giving up: {reason}", .patience.as_secs())]
    Unreachable {
        /// Where the host should listen.
        url: String,
        /// How long it was tried.
        patience: Duration,
        /// What the last try met.
        reason: String,
    },
    /// The operating system refused the runtime what it needs.
    #[error("the runtime cannot start: {0}")]
    Runtime(#[from] std::io::Error),
}

impl RunError {
    /// The process's exit code, in the manner of `sysexits.h`: 78 where something must be changed
    /// before another launch can work, 69 where the host is away, 71 for the operating system.
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Environment(_) | Self::Definition(_) | Self::Rejected { .. } => 78,
            Self::Unreachable { .. } => 69,
            Self::Runtime(_) => 71,
        }
    }
}

/// What is wrong with a plugin's description of itself.
#[derive(Debug, thiserror::Error)]
pub enum DefinitionError {
    /// A name that no capability can have.
    #[error(transparent)]
    Name(#[from] NameError),
    /// Two handlers for the same thing.
    #[error("the capability `{0}` is defined twice: give one `Capability` both handlers")]
    Twice(String),
    /// A capability that nothing answers.
    #[error("the capability `{0}` has no handler: give it `answer`, `stream` or both")]
    NoHandler(String),
}
