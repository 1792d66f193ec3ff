//! Why a request is refused, in the words and codes of `docs/auth-provider.md`.
//!
//! The only place where this plugin's failures become errors on the wire. The invariant: no message
//! holds a password or a token, and what could not be checked never reads as a wrong credential.

use bkg_sdk::{ErrorCode, WireError};
use bkg_sqlite::{DatabaseError, rusqlite};

/// Why a request is refused.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Refusal {
    /// Nobody can log in yet.
    #[error(
        "there are no users: make the first one with the root key, for example by `bkg user reset admin`"
    )]
    NotInitialised,
    /// The password or the token is wrong; which of them, and whether the user exists, is not said.
    #[error("{0}")]
    Unauthorized(&'static str),
    /// The caller may not do that.
    #[error("{message}")]
    Forbidden {
        /// What is missing.
        message: String,
        /// The member of the payload that asks for too much.
        param: Option<String>,
    },
    /// What was named is not there.
    #[error("there is no {kind} `{name}`: {next}")]
    NotFound {
        /// What should be there.
        kind: &'static str,
        /// How it was named.
        name: String,
        /// What to do.
        next: &'static str,
    },
    /// What is there does not allow it.
    #[error("{0}")]
    Conflict(String),
    /// The payload is not valid.
    #[error("{message}")]
    Invalid {
        /// What is wrong, and what would be right.
        message: String,
        /// Which member, as a path.
        param: Option<String>,
    },
    /// A refresh token was used twice.
    #[error("the refresh token was used before: this login is ended, log in again")]
    Reused,
    /// Too much of it in too short a time.
    #[error("{0}")]
    RateLimited(&'static str),
    /// Too many passwords wait.
    #[error("too many passwords wait to be checked: try again in a few seconds")]
    Overloaded,
    /// The database did not do it.
    #[error(transparent)]
    Database(#[from] DatabaseError),
}

impl Refusal {
    pub(crate) fn invalid(param: impl Into<String>, message: impl Into<String>) -> Self {
        Self::Invalid { message: message.into(), param: Some(param.into()) }
    }

    pub(crate) fn forbidden(message: impl Into<String>) -> Self {
        Self::Forbidden { message: message.into(), param: None }
    }

    /// Somebody asks for more in `param` than they have.
    pub(crate) fn too_much(param: impl Into<String>, message: impl Into<String>) -> Self {
        Self::Forbidden { message: message.into(), param: Some(param.into()) }
    }
}

impl From<rusqlite::Error> for Refusal {
    fn from(error: rusqlite::Error) -> Self {
        Self::Database(error.into())
    }
}

impl From<Refusal> for WireError {
    fn from(refusal: Refusal) -> Self {
        let message = refusal.to_string();
        match refusal {
            Refusal::NotInitialised => Self::with_code("not_initialised", message),
            Refusal::Unauthorized(_) => Self::new(ErrorCode::Unauthorized, message),
            Refusal::Forbidden { param, .. } => Self { param, ..Self::new(ErrorCode::Forbidden, message) },
            Refusal::NotFound { .. } => Self::new(ErrorCode::NotFound, message),
            Refusal::Conflict(_) => Self::new(ErrorCode::Conflict, message),
            Refusal::Invalid { param, .. } => {
                Self { param, ..Self::new(ErrorCode::InvalidRequest, message) }
            }
            Refusal::Reused => Self::with_code("reused", message),
            Refusal::RateLimited(_) => Self::new(ErrorCode::RateLimited, message),
            Refusal::Overloaded => {
                Self { retryable: Some(true), ..Self::new(ErrorCode::Overloaded, message) }
            }
            Refusal::Database(DatabaseError::Full | DatabaseError::Failing { .. }) => {
                Self::new(ErrorCode::InsufficientStorage, message)
            }
            Refusal::Database(_) => Self::new(ErrorCode::Internal, message),
        }
    }
}
