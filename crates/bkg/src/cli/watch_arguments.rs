//! What may stand after `top` and `requests`, as types.
//!
//! As in `arguments`, parsing is all that happens here.

use clap::Args;
use clap::builder::NonEmptyStringValueParser;

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

/// Which rows of usage.
#[derive(Debug, Args)]
pub(super) struct RequestsRequest {
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
}
