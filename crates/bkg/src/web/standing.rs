//! The headers that tell a limited caller what is left: `x-ratelimit-*`, in OpenAI's names.
//!
//! Not what is left. They stand on every answer to a caller that has such a limit, refusals included; of a
//! key's and its user's limit the one of which less is left.

use std::time::Duration;

use http::{HeaderMap, HeaderName, HeaderValue};
use jiff::Timestamp;
use tokio::time::Instant;

use crate::auth::{Holders, Standing};

/// Names for how much there is, how much is left, and when all of it is there again.
type Names = [HeaderName; 3];

const REQUESTS: Names = [
    HeaderName::from_static("x-ratelimit-limit-requests"),
    HeaderName::from_static("x-ratelimit-remaining-requests"),
    HeaderName::from_static("x-ratelimit-reset-requests"),
];
const TOKENS: Names = [
    HeaderName::from_static("x-ratelimit-limit-tokens"),
    HeaderName::from_static("x-ratelimit-remaining-tokens"),
    HeaderName::from_static("x-ratelimit-reset-tokens"),
];

/// Writes what is left now.
pub(super) fn write(headers: &mut HeaderMap, holders: &Holders) {
    let now = Instant::now();
    for (names, standing) in
        [(REQUESTS, holders.requests(now)), (TOKENS, holders.tokens(now, Timestamp::now()))]
    {
        let Some(Standing { limit, remaining, reset }) = standing else { continue };
        let [of_limit, of_remaining, of_reset] = names;
        headers.insert(of_limit, HeaderValue::from(limit));
        headers.insert(of_remaining, HeaderValue::from(remaining));
        let reset = HeaderValue::try_from(in_words(reset)).expect("digits and letters are a header value");
        headers.insert(of_reset, reset);
    }
}

/// A time as OpenAI writes it: `120ms`, `1s`, `6m0s`, `2h0m5s`.
fn in_words(time: Duration) -> String {
    if time < Duration::from_secs(1) {
        return match time.as_millis() {
            0 => "0s".to_owned(),
            milliseconds => format!("{milliseconds}ms"),
        };
    }
    let seconds = time.as_secs() + u64::from(time.subsec_nanos() > 0);
    match (seconds / 3_600, seconds / 60 % 60, seconds % 60) {
        (0, 0, seconds) => format!("{seconds}s"),
        (0, minutes, seconds) => format!("{minutes}m{seconds}s"),
        (hours, minutes, seconds) => format!("{hours}h{minutes}m{seconds}s"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_written_as_openai_does() {
        for (milliseconds, text) in [
            (0, "0s"),
            (120, "120ms"),
            (1_000, "1s"),
            (1_001, "2s"),
            (360_000, "6m0s"),
            (7_205_000, "2h0m5s"),
        ] {
            assert_eq!(in_words(Duration::from_millis(milliseconds)), text);
        }
    }
}
