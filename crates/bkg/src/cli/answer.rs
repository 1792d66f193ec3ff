//! What a daemon answered: its own JSON for scripts, words for people.
//!
//! The invariant: JSON passes through as it was sent.

use http::StatusCode;
use serde::de::DeserializeOwned;

use super::Verdict;
use super::error::CliError;
use super::output::Output;

/// What the daemon answered.
#[derive(Debug)]
pub(super) struct Answer {
    /// Its status, a success.
    pub(super) status: StatusCode,
    /// The body as it was sent.
    pub(super) body: String,
    /// What it answers, in words.
    pub(super) request: String,
}

impl Answer {
    /// The body as a value.
    ///
    /// # Errors
    /// It does not fit.
    pub(super) fn read<T: DeserializeOwned>(&self) -> Result<T, CliError> {
        serde_json::from_str(&self.body).map_err(|error| CliError::Unreadable {
            request: self.request.clone(),
            reason: error.to_string(),
        })
    }

    /// Shows what was asked for: the daemon's own JSON, or what `tell` says of it.
    ///
    /// # Errors
    /// The body does not fit, or the output cannot be written.
    pub(super) fn show<T: DeserializeOwned>(
        &self,
        output: &mut Output,
        tell: impl FnOnce(T) -> String,
    ) -> Result<Verdict, CliError> {
        if output.wants_json() {
            // What has nothing to say may come without a body; a script gets an object all the same.
            output.json(if self.body.is_empty() { "{}" } else { &self.body })?;
        } else {
            output.text(&tell(self.read()?))?;
        }
        Ok(Verdict::Reached)
    }

    /// Shows that something was done which leaves nothing to be told about.
    ///
    /// # Errors
    /// The output cannot be written.
    pub(super) fn show_done(&self, output: &mut Output, sentence: &str) -> Result<Verdict, CliError> {
        if output.wants_json() {
            output.json(if self.body.is_empty() { "{}" } else { &self.body })?;
        } else {
            output.text(sentence)?;
        }
        Ok(Verdict::Reached)
    }
}
