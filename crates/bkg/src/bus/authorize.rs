//! `host.authorize`: a plugin that listens itself asks what a credential that it was shown may do.
//!
//! The answer is the one that the host's own surface would give at this moment, a use of the key like
//! any other. Not who may ask: `calls` has found that out. The invariants: only a clear no is
//! `allowed: false`, what cannot be found out is an error; every credential that opens nothing is
//! answered alike; and no plugin is an oracle for guessing.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use bkg_protocol::message::Secret;
use bkg_protocol::{ErrorCode, PluginName, RawJson, Scope, WireError, message};
use serde::{Deserialize, Serialize};
use tokio::time::{Instant, timeout_at};

use super::Bus;
use crate::auth::AuthError;

/// The capability that is answered here.
pub(super) const AUTHORIZE: &str = "host.authorize";
/// How many credentials that open nothing a plugin may ask about before the wait begins.
const FREE: u32 = 100;
/// How long until one more is free again.
const ONE_MORE_AFTER: Duration = Duration::from_millis(100);

/// What a plugin asks.
#[derive(Deserialize)]
struct Question {
    token: Secret,
    scope: String,
}

/// What it is answered.
#[derive(Serialize)]
#[serde(untagged)]
enum Verdict<'a> {
    Allowed {
        allowed: bool,
        #[serde(flatten)]
        caller: &'a message::Caller,
    },
    Refused {
        allowed: bool,
        reason: Reason,
    },
}

/// Why a credential does not open what was asked about.
#[derive(Clone, Copy, Serialize)]
enum Reason {
    /// It opens nothing: whether it was never valid, has expired or was revoked is not told.
    #[serde(rename = "unknown credential")]
    UnknownCredential,
    /// It lacks the scope.
    #[serde(rename = "scope")]
    Scope,
    /// It was narrowed to other plugins.
    #[serde(rename = "plugin")]
    Plugin,
    /// Its user must choose a new password before anything else.
    #[serde(rename = "password due")]
    PasswordDue,
}

/// How many credentials that open nothing each plugin has shown of late. Bounded by the number of
/// plugins; a restart forgets.
#[derive(Debug, Default)]
pub struct Misses {
    plugins: Mutex<HashMap<PluginName, Missed>>,
}

/// The misses of one plugin, which fade.
#[derive(Debug, Clone, Copy)]
struct Missed {
    count: u32,
    at: Instant,
}

/// Answers what `plugin` asks, before `deadline`.
pub(super) async fn answer(
    bus: &Bus,
    plugin: &PluginName,
    payload: &RawJson,
    deadline: Instant,
) -> Result<RawJson, WireError> {
    // What is wrong is not repeated: it may be the credential.
    let wanted = |_| {
        WireError::new(
            ErrorCode::InvalidRequest,
            "the payload is to be `{\"token\": \"…\", \"scope\": \"…\"}`",
        )
    };
    let Question { token, scope } = payload.read().map_err(wanted)?;
    // Before the credential is looked at: the answer says nothing about it.
    let scope: Scope = scope.parse().map_err(|error: bkg_protocol::NameError| {
        WireError::new(ErrorCode::InvalidRequest, error.to_string()).param("scope")
    })?;
    let credential = token.reveal();
    // Whoever is known gets through while somebody else guesses.
    let is_guess = !bus.authenticator.is_known(credential);
    if is_guess {
        bus.misses.count(plugin, Instant::now()).map_err(|wait| {
            let message = format!(
                "`{plugin}` asked about too many credentials that open nothing: one more in {} ms",
                wait.as_millis()
            );
            retryable(ErrorCode::RateLimited, message, wait)
        })?;
    }
    let checked = timeout_at(deadline, bus.authenticator.authenticate(credential)).await;
    if is_guess && !matches!(checked, Ok(Err(AuthError::Invalid))) {
        bus.misses.take_back(plugin);
    }
    let checked = checked.map_err(|_| {
        WireError::new(ErrorCode::Timeout, "the credential could not be checked in the time that was given")
    })?;
    let refused = |reason| Ok(RawJson::of(&Verdict::Refused { allowed: false, reason }));
    let caller = match checked {
        Ok(caller) => caller,
        Err(AuthError::Invalid) => return refused(Reason::UnknownCredential),
        Err(error) => return Err(not_found_out(&error)),
    };
    // A question is a use of the key.
    caller.count_request().map_err(|error| not_found_out(&error))?;
    if !caller.rights().reach.has_plugin(plugin) {
        return refused(Reason::Plugin);
    }
    match caller.require(scope.as_str()) {
        Ok(()) => Ok(RawJson::of(&Verdict::Allowed { allowed: true, caller: &caller.on_the_wire() })),
        Err(AuthError::PasswordDue { .. }) => refused(Reason::PasswordDue),
        Err(_) => refused(Reason::Scope),
    }
}

/// Why there is no answer now.
fn not_found_out(error: &AuthError) -> WireError {
    let message = error.to_string();
    match error {
        AuthError::LimitReached(reached) => {
            let code = if reached.is_used_up() { ErrorCode::QuotaExceeded } else { ErrorCode::RateLimited };
            retryable(code, message, reached.wait().unwrap_or_default())
        }
        _ => retryable(ErrorCode::PluginUnavailable, message, Duration::from_secs(1)),
    }
}

fn retryable(code: ErrorCode, message: String, wait: Duration) -> WireError {
    let retry_after_ms = Some(wait.as_millis() as u64);
    WireError { retryable: Some(true), retry_after_ms, ..WireError::new(code, message) }
}

impl Misses {
    /// Counts a question about a credential that is not known: as a miss, until something else is found
    /// out, so that many at once are no way around the bound.
    ///
    /// # Errors
    /// How long until one may be asked.
    fn count(&self, plugin: &PluginName, now: Instant) -> Result<(), Duration> {
        let mut plugins = self.plugins.lock().unwrap_or_else(PoisonError::into_inner);
        let missed = plugins.entry(plugin.clone()).or_insert(Missed { count: 0, at: now });
        *missed = missed.faded(now);
        if missed.count >= FREE {
            return Err((missed.at + ONE_MORE_AFTER).duration_since(now));
        }
        missed.count += 1;
        Ok(())
    }

    /// It was none.
    fn take_back(&self, plugin: &PluginName) {
        let mut plugins = self.plugins.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(missed) = plugins.get_mut(plugin) {
            missed.count = missed.count.saturating_sub(1);
        }
    }
}

impl Missed {
    /// What is left of it.
    fn faded(self, now: Instant) -> Self {
        let times = now.duration_since(self.at).as_millis() / ONE_MORE_AFTER.as_millis();
        let times = u32::try_from(times).unwrap_or(u32::MAX);
        match self.count.saturating_sub(times) {
            0 => Self { count: 0, at: now },
            count => Self { count, at: self.at + ONE_MORE_AFTER * times },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plugin_that_guesses_is_slowed_down_and_no_other() {
        let (misses, begin) = (Misses::default(), Instant::now());
        let (guessing, other) = ("guessing".parse().unwrap(), "other".parse().unwrap());
        for _ in 0..FREE {
            assert_eq!(misses.count(&guessing, begin), Ok(()));
        }
        assert_eq!(misses.count(&guessing, begin), Err(ONE_MORE_AFTER));
        assert_eq!(misses.count(&other, begin), Ok(()));
        // Somebody who is now known was none.
        misses.take_back(&guessing);
        assert_eq!(misses.count(&guessing, begin), Ok(()));
        let later = begin + ONE_MORE_AFTER;
        assert_eq!(misses.count(&guessing, later), Ok(()));
        assert_eq!(misses.count(&guessing, later + ONE_MORE_AFTER / 2), Err(ONE_MORE_AFTER / 2));
        assert_eq!(misses.count(&guessing, begin + ONE_MORE_AFTER * (FREE + 2)), Ok(()));
    }

    #[test]
    fn every_verdict_has_its_shape() {
        let caller =
            message::Caller { user: "ada".into(), key_id: Some("k1".into()), scopes: vec!["llm.*".into()] };
        let allowed = RawJson::of(&Verdict::Allowed { allowed: true, caller: &caller });
        assert_eq!(allowed.as_str(), r#"{"allowed":true,"user":"ada","keyId":"k1","scopes":["llm.*"]}"#);
        let refused = RawJson::of(&Verdict::Refused { allowed: false, reason: Reason::UnknownCredential });
        assert_eq!(refused.as_str(), r#"{"allowed":false,"reason":"unknown credential"}"#);
    }
}
