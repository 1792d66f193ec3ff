//! After which failures a request may be tried again, at another model or at the same.
//!
//! Only failures before the first part of an answer come here. The invariant: where the work may have
//! happened, nothing is tried again, unless the capability is idempotent or the plugin says that it may
//! be. `docs/decisions/0021-safe-to-fall-back.md` says why each is where it is.

use std::time::Duration;

use bkg_protocol::{ErrorCode, WireError};
use serde::Deserialize;

use crate::dispatcher::CallError;
use crate::registry::Failure;

/// The longest that somebody may ask to be left alone and is still tried again by the same request.
const LONGEST_PAUSE: Duration = Duration::from_secs(1);

/// What may be tried after a failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Onward {
    /// Nothing: the failure is the answer.
    Nowhere,
    /// Another model; the same would fail in the same way.
    Elsewhere,
    /// Another model, or the same once more after this pause at the least.
    Anywhere(Duration),
}

/// Whether an answer with this code speaks against the model that gave it. What a plugin says of the
/// request, a client's mistake, does not.
pub fn speaks_against(code: ErrorCode) -> bool {
    matches!(code, ErrorCode::RateLimited | ErrorCode::QuotaExceeded) || code.status() >= 500
}

/// What may be tried after a failure before the first part of an answer.
pub fn onward(error: &CallError, is_idempotent: bool) -> Onward {
    match error {
        // Nobody was handed the request.
        CallError::UnknownPlugin { .. }
        | CallError::NotOffered { .. }
        | CallError::UnknownModel { .. }
        | CallError::Unavailable { .. }
        | CallError::Overloaded { .. } => Onward::Elsewhere,
        CallError::OutOfReach { .. } => Onward::Nowhere,
        // The time is over for everybody.
        CallError::Timeout { .. } => Onward::Nowhere,
        CallError::Failed { failure, .. } => match failure {
            Failure::NotHandedOver => Onward::Anywhere(Duration::ZERO),
            Failure::Disconnected if is_idempotent => Onward::Anywhere(Duration::ZERO),
            Failure::Disconnected | Failure::Refused(_) => Onward::Nowhere,
            Failure::Plugin(error) => after_refusal(error, is_idempotent),
        },
    }
}

/// What may be tried after a plugin's own error.
fn after_refusal(error: &WireError, is_idempotent: bool) -> Onward {
    let code = error.claimed();
    if !speaks_against(code) {
        return Onward::Nowhere;
    }
    let again = || {
        let pause = error.retry_after_ms.map_or(Duration::ZERO, Duration::from_millis);
        match error.retryable != Some(false) && pause <= LONGEST_PAUSE {
            true => Onward::Anywhere(pause),
            false => Onward::Elsewhere,
        }
    };
    let did_not_work = matches!(code, ErrorCode::RateLimited | ErrorCode::Overloaded);
    if error.retryable == Some(true) || did_not_work || is_idempotent {
        return again();
    }
    match upstream_status(error) {
        // The upstream refused before it worked: our account there, or a model that it does not have.
        Some(401..=404) => Onward::Elsewhere,
        Some(408 | 429 | 500..) => again(),
        _ if code == ErrorCode::PluginError && error.code == ErrorCode::PluginUnavailable.as_str() => {
            again()
        }
        _ => Onward::Nowhere,
    }
}

/// The HTTP status of what is behind a plugin, if the plugin tells it: `details.status` of its error.
fn upstream_status(error: &WireError) -> Option<u16> {
    #[derive(Deserialize)]
    struct Upstream {
        status: u16,
    }
    let details: Upstream = error.details.as_ref()?.read().ok()?;
    Some(details.status)
}

#[cfg(test)]
mod tests {
    use bkg_protocol::RawJson;
    use bkg_protocol::exchange::Refusal;
    use serde_json::json;

    use super::*;

    const NOW: Onward = Onward::Anywhere(Duration::ZERO);

    fn plugin() -> bkg_protocol::PluginName {
        "p".parse().unwrap()
    }

    fn failed(failure: Failure) -> CallError {
        CallError::Failed { plugin: plugin(), failure }
    }

    #[test]
    fn what_was_not_handed_over_goes_on_and_what_may_have_happened_does_not() {
        let capability = "llm.chat".parse().unwrap();
        for (error, expected, idempotent) in [
            (
                CallError::Unavailable { capability, plugin: None, why: String::new() },
                Onward::Elsewhere,
                Onward::Elsewhere,
            ),
            (
                CallError::Overloaded { plugin: plugin(), why: String::new() },
                Onward::Elsewhere,
                Onward::Elsewhere,
            ),
            (
                CallError::Timeout { plugin: plugin(), waited: Duration::ZERO },
                Onward::Nowhere,
                Onward::Nowhere,
            ),
            (failed(Failure::NotHandedOver), NOW, NOW),
            (failed(Failure::Disconnected), Onward::Nowhere, NOW),
            (failed(Failure::Refused(Refusal::NotOpen)), Onward::Nowhere, Onward::Nowhere),
        ] {
            assert_eq!((onward(&error, false), onward(&error, true)), (expected, idempotent), "{error}");
        }
    }

    #[test]
    fn a_plugins_error_goes_on_if_it_says_that_nothing_happened() {
        let with_status = |status| Some(RawJson::from(json!({ "upstream": "u", "status": status })));
        for (code, retryable, details, expected) in [
            ("overloaded", None, None, NOW),
            ("overloaded", Some(false), None, Onward::Elsewhere),
            ("rate_limited", None, None, NOW),
            ("plugin_unavailable", None, None, NOW),
            ("plugin_error", None, None, Onward::Nowhere),
            ("plugin_error", Some(true), None, NOW),
            ("whatever", Some(true), None, NOW),
            ("whatever", None, None, Onward::Nowhere),
            ("timeout", None, None, Onward::Nowhere),
            ("timeout", Some(true), None, NOW),
            ("plugin_error", None, with_status(500), NOW),
            ("plugin_error", None, with_status(529), NOW),
            ("timeout", None, with_status(504), NOW),
            ("plugin_error", Some(false), with_status(503), Onward::Elsewhere),
            ("plugin_error", None, with_status(401), Onward::Elsewhere),
            ("plugin_error", None, with_status(404), Onward::Elsewhere),
            ("plugin_error", None, with_status(400), Onward::Nowhere),
            ("plugin_error", None, with_status(200), Onward::Nowhere),
            // A client's mistake is one everywhere.
            ("invalid_request", Some(true), with_status(500), Onward::Nowhere),
            ("payload_too_large", None, None, Onward::Nowhere),
            ("not_found", None, None, Onward::Nowhere),
            ("conflict", None, None, Onward::Nowhere),
        ] {
            let error = WireError { retryable, details, ..WireError::with_code(code, "m") };
            assert_eq!(onward(&failed(Failure::Plugin(error.clone())), false), expected, "{error:?}");
        }
    }

    #[test]
    fn whoever_wants_to_be_left_alone_for_long_is_not_asked_again_by_the_same_request() {
        let after = |millis| {
            let error =
                WireError { retry_after_ms: Some(millis), ..WireError::with_code("rate_limited", "m") };
            onward(&failed(Failure::Plugin(error)), false)
        };
        assert_eq!(after(300), Onward::Anywhere(Duration::from_millis(300)));
        assert_eq!(after(20_000), Onward::Elsewhere);
    }

    #[test]
    fn only_failures_of_a_model_speak_against_it() {
        let against: Vec<&str> = ErrorCode::ALL
            .iter()
            .filter(|code| code.plugin_may_claim() || **code == ErrorCode::PluginError)
            .filter(|code| speaks_against(**code))
            .map(|code| code.as_str())
            .collect();
        assert_eq!(against, ["rate_limited", "plugin_error", "overloaded", "timeout"]);
    }
}
