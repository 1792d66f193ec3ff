//! What an operator can set. `config.json` holds the defaults, `plugin.json` the schema.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// The longest pause before a token: more would make an answer of a few words outlive its deadline.
pub(crate) const LONGEST_TOKEN_DELAY_MS: u64 = 10_000;

#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(crate) struct LlmSettings {
    token_delay_ms: u64,
}

impl LlmSettings {
    /// Whether the settings make sense.
    pub(crate) fn check(&self) -> Result<(), String> {
        if self.token_delay_ms > LONGEST_TOKEN_DELAY_MS {
            return Err(format!("`tokenDelayMs` is at most {LONGEST_TOKEN_DELAY_MS}"));
        }
        Ok(())
    }

    /// How long to wait before each token, if at all.
    pub(crate) fn token_delay(&self) -> Option<Duration> {
        (self.token_delay_ms > 0).then(|| Duration::from_millis(self.token_delay_ms))
    }
}
