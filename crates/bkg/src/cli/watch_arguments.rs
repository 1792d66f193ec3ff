//! What may stand after `top`, `requests` and `usage`, as types.
//!
//! As in `arguments`, parsing is all that happens here.

use clap::builder::NonEmptyStringValueParser;
use clap::{Args, ValueEnum};

use super::time::When;

/// How to watch.
#[derive(Debug, Args)]
pub(super) struct TopRequest {
    /// How long a look stands
    #[arg(short, long, value_name = "SECONDS", default_value_t = 2)]
    #[arg(value_parser = clap::value_parser!(u64).range(1..=3_600))]
    pub(super) interval: u64,
    /// Look once, and end
    #[arg(long)]
    pub(super) once: bool,
}

/// Which rows of usage, or which request.
#[derive(Debug, Args)]
pub(super) struct RequestsRequest {
    /// The `x-request-id` of the request to show all of; without it, rows are listed
    #[arg(value_name = "ID", value_parser = NonEmptyStringValueParser::new())]
    #[arg(conflicts_with_all = ["before", "id", "key", "user", "model", "plugin", "outcome", "since"])]
    pub(super) request: Option<String>,
    /// How many rows at most
    #[arg(short = 'n', long, value_name = "ROWS", default_value_t = 20)]
    #[arg(value_parser = clap::value_parser!(u64).range(1..=1_000))]
    pub(super) limit: u64,
    /// Only rows before the one with this number
    #[arg(long, value_name = "SEQ")]
    pub(super) before: Option<u64>,
    /// Only the request with this `x-request-id`
    #[arg(long, value_name = "ID", value_parser = NonEmptyStringValueParser::new())]
    pub(super) id: Option<String>,
    /// Only requests with this key
    #[arg(long, value_name = "ID", value_parser = NonEmptyStringValueParser::new())]
    pub(super) key: Option<String>,
    /// Only requests of this user
    #[arg(long, value_name = "NAME", value_parser = NonEmptyStringValueParser::new())]
    pub(super) user: Option<String>,
    /// Only requests that named this model
    #[arg(long, value_name = "MODEL", value_parser = NonEmptyStringValueParser::new())]
    pub(super) model: Option<String>,
    /// Only requests that this plugin answered
    #[arg(long, value_name = "NAME", value_parser = NonEmptyStringValueParser::new())]
    pub(super) plugin: Option<String>,
    /// Only requests that ended so: `ok`, or the code of an error
    #[arg(long, value_name = "WORD", value_parser = NonEmptyStringValueParser::new())]
    pub(super) outcome: Option<String>,
    /// Only requests of then or later: a span before now such as `2h`, a time, or a date
    #[arg(long, value_name = "WHEN")]
    pub(super) since: Option<When>,
}

/// What sums are sums of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum Group {
    Key,
    User,
    Model,
    Plugin,
    Day,
    Hour,
}

impl Group {
    /// As the HTTP surface names it.
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Key => "key",
            Self::User => "user",
            Self::Model => "model",
            Self::Plugin => "plugin",
            Self::Day => "day",
            Self::Hour => "hour",
        }
    }
}

/// Which sums of usage.
#[derive(Debug, Args)]
pub(super) struct UsageRequest {
    /// What is summed up
    #[arg(long, value_name = "WHAT", default_value = "day")]
    pub(super) by: Group,
    /// From the hour of then on: a span before now such as `7d`, a time, or a date [default: 30 days]
    #[arg(long, value_name = "WHEN")]
    pub(super) from: Option<When>,
    /// Up to then [default: now]
    #[arg(long, value_name = "WHEN")]
    pub(super) to: Option<When>,
    /// How many groups at most
    #[arg(short = 'n', long, value_name = "GROUPS", default_value_t = 20)]
    #[arg(value_parser = clap::value_parser!(u64).range(1..=1_000))]
    pub(super) limit: u64,
    /// How many groups to leave out before the first
    #[arg(long, value_name = "GROUPS", default_value_t = 0)]
    pub(super) offset: u64,
    /// Only what this user used
    #[arg(long, value_name = "NAME", value_parser = NonEmptyStringValueParser::new())]
    pub(super) user: Option<String>,
    /// Only what was used with this key
    #[arg(long, value_name = "ID", value_parser = NonEmptyStringValueParser::new())]
    pub(super) key: Option<String>,
    /// Only what the caller used, which needs no scope
    #[arg(long, conflicts_with_all = ["user", "key"])]
    pub(super) own: bool,
}
