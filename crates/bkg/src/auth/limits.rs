//! How much a key or a user may use, as the auth provider says, and what it is told when that is used up.
//!
//! Not what has been used: `consumption` counts that. The invariant: a limit that this host does not know
//! is refused with its name, and never left out of account.

use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::money::Money;

/// How much a key or a user may use; what is `None` is not limited.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Limits {
    /// How many requests it may make in any sixty seconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub requests_per_minute: Option<u32>,
    /// How many tokens its requests to models may take, read and written, in any sixty seconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tokens_per_minute: Option<u64>,
    /// The same, in a day of UTC.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tokens_per_day: Option<u64>,
    /// How many of its requests plugins may be answering at a time.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub concurrent_requests: Option<u32>,
    /// How many of those may be streams.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub concurrent_streams: Option<u32>,
    /// How many tokens are set aside for an answer whose request does not say how long it may be.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_tokens: Option<u64>,
    /// How much money it may spend.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub budget: Option<Budget>,
}

/// How much money may be spent in which time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Budget {
    /// How much.
    pub amount: Money,
    /// In which time.
    pub per: Period,
}

/// A time of the calendar, in UTC.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Period {
    /// From midnight to midnight.
    Day,
    /// From the first to the first.
    Month,
}

impl Period {
    fn as_str(self) -> &'static str {
        match self {
            Self::Day => "day",
            Self::Month => "month",
        }
    }
}

/// Whose limit it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Whose {
    /// That of the API key.
    Key,
    /// That of the user, with all keys and logins.
    User,
}

impl std::fmt::Display for Whose {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.write_str(match self {
            Self::Key => "the key",
            Self::User => "the user of this credential",
        })
    }
}

/// A limit that a request does not fit into.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LimitReached {
    /// The requests of the last minute.
    #[error("{whose} may make {most} requests in a minute: wait {} s", seconds(*wait))]
    Requests {
        /// Whose limit it is.
        whose: Whose,
        /// How many it may make.
        most: u32,
        /// How long until the next one.
        wait: Duration,
    },
    /// The tokens of the last minute.
    #[error(
        "{whose} may use {most} tokens in a minute, and this request may take {wanted}: wait {} s",
        seconds(*wait)
    )]
    TokensPerMinute {
        /// Whose limit it is.
        whose: Whose,
        /// How many it may use.
        most: u64,
        /// What the request may take.
        wanted: u64,
        /// How long until it fits.
        wait: Duration,
    },
    /// The tokens of today.
    #[error(
        "{whose} may use {most} tokens in a day, {left} are left, and this request may take {wanted}: the next day \
         begins at 00:00 UTC"
    )]
    TokensPerDay {
        /// Whose limit it is.
        whose: Whose,
        /// How many it may use.
        most: u64,
        /// How many are left.
        left: u64,
        /// What the request may take.
        wanted: u64,
        /// How long until tomorrow.
        wait: Duration,
    },
    /// The money of the day or the month.
    #[error(
        "{whose} may spend {amount} in a {}, {left} is left, and this request may cost {wanted}: the next {0} begins at \
         00:00 UTC",
        per.as_str()
    )]
    Budget {
        /// Whose limit it is.
        whose: Whose,
        /// How much it may spend.
        amount: Money,
        /// In which time.
        per: Period,
        /// How much is left.
        left: Money,
        /// What the request may cost.
        wanted: Money,
        /// How long until the next day or month.
        wait: Duration,
    },
    /// What other requests have set aside, which may yet turn out to be less.
    #[error(
        "{whose} has requests under way that may use up what is left of {what}: wait until one has ended"
    )]
    SetAside {
        /// Whose limit it is.
        whose: Whose,
        /// Of what.
        what: &'static str,
    },
    /// The requests that are being answered.
    #[error("{whose} may have {most} requests answered at a time: wait until one has ended")]
    ConcurrentRequests {
        /// Whose limit it is.
        whose: Whose,
        /// How many it may have.
        most: u32,
    },
    /// The streams that are being answered.
    #[error("{whose} may have {most} streams at a time: wait until one has ended")]
    ConcurrentStreams {
        /// Whose limit it is.
        whose: Whose,
        /// How many it may have.
        most: u32,
    },
    /// It would not fit if nothing else had ever been used.
    #[error(
        "this request may take {wanted}, and {whose} may never use more than {most} {per}: ask for a shorter answer \
         (`max_tokens`), or send less"
    )]
    TooLarge {
        /// Whose limit it is.
        whose: Whose,
        /// What the request may take, with its unit.
        wanted: String,
        /// How much there is.
        most: String,
        /// In which time, as part of a sentence.
        per: &'static str,
    },
}

/// How long to wait where nobody knows: a request that is under way may end at any time.
const SOON: Duration = Duration::from_secs(1);

impl LimitReached {
    /// How long until it is worth trying again; `None` if it never is.
    pub fn wait(&self) -> Option<Duration> {
        match self {
            Self::Requests { wait, .. }
            | Self::TokensPerMinute { wait, .. }
            | Self::TokensPerDay { wait, .. }
            | Self::Budget { wait, .. } => Some(*wait),
            Self::SetAside { .. } | Self::ConcurrentRequests { .. } | Self::ConcurrentStreams { .. } => {
                Some(SOON)
            }
            Self::TooLarge { .. } => None,
        }
    }

    /// Whether something is used up that comes back with the calendar only.
    pub fn is_used_up(&self) -> bool {
        matches!(self, Self::TokensPerDay { .. } | Self::Budget { .. })
    }
}

fn seconds(wait: Duration) -> f64 {
    wait.as_secs_f64().ceil()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_limit_that_is_not_known_is_refused_with_its_name() {
        let read = |text: &str| serde_json::from_str::<Limits>(text);
        let error = read(r#"{"requestsPerHour":1}"#).unwrap_err().to_string();
        assert!(error.contains("`requestsPerHour`"), "{error}");
        let error = read(r#"{"budget":{"amount":1,"per":"year"}}"#).unwrap_err().to_string();
        assert!(error.contains("`year`"), "{error}");
        let limits = read(r#"{"budget":{"amount":1.5,"per":"month"},"maxTokens":7}"#).unwrap();
        assert_eq!(limits.budget.unwrap().amount, Money::from_micros(1_500_000));
    }
}
