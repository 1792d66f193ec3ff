//! `--limit NAME=VALUE`: how much a key or a user may use, as it is written on the command line.
//!
//! Not whether a limit makes sense: the auth provider decides. The invariant: what is sent has the names of the
//! HTTP surface, whichever way they were written.

use std::str::FromStr;

use serde_json::{Map, Value, json};

/// The limits that count something.
const COUNTS: [&str; 6] = [
    "requestsPerMinute",
    "tokensPerMinute",
    "tokensPerDay",
    "concurrentRequests",
    "concurrentStreams",
    "maxTokens",
];

/// One limit.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct LimitArgument {
    name: &'static str,
    value: Value,
}

impl FromStr for LimitArgument {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        const RIGHT: &str = "use `NAME=NUMBER` with a name of requests-per-minute, tokens-per-minute, tokens-per-day, \
            concurrent-requests, concurrent-streams, max-tokens, or `budget=AMOUNT/day` or `budget=AMOUNT/month`";
        let (name, value) = text.split_once('=').ok_or(RIGHT)?;
        if name == "budget" {
            let (amount, per) = value.split_once('/').ok_or(RIGHT)?;
            let amount: f64 = amount.parse().map_err(|_| RIGHT)?;
            if !matches!(per, "day" | "month") || !amount.is_finite() {
                return Err(RIGHT.to_owned());
            }
            return Ok(Self { name: "budget", value: json!({ "amount": amount, "per": per }) });
        }
        let plain = |name: &str| name.replace('-', "").to_ascii_lowercase();
        let count = COUNTS.into_iter().find(|count| plain(count) == plain(name)).ok_or(RIGHT)?;
        let number: u64 = value.parse().ok().filter(|number| *number > 0).ok_or(RIGHT)?;
        Ok(Self { name: count, value: json!(number) })
    }
}

/// All limits together; of one that is named twice the last counts.
pub(super) fn together(limits: &[LimitArgument]) -> Map<String, Value> {
    limits.iter().map(|limit| (limit.name.to_owned(), limit.value.clone())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_limit_is_named_in_either_way() {
        let limits = ["tokens-per-day=1000", "maxTokens=5", "budget=2.5/month", "max-tokens=6"];
        let limits: Vec<LimitArgument> = limits.iter().map(|limit| limit.parse().unwrap()).collect();
        assert_eq!(
            Value::from(together(&limits)),
            json!({ "tokensPerDay": 1000, "maxTokens": 6, "budget": { "amount": 2.5, "per": "month" } })
        );
        for wrong in
            ["tokens-per-day", "tokens=1", "tokens-per-day=0", "budget=5", "budget=5/year", "budget=x/day"]
        {
            wrong.parse::<LimitArgument>().unwrap_err();
        }
    }
}
