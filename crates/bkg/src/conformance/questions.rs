//! `check.json`: what a plugin may be asked, so that rules can be tried on it.
//!
//! Nobody but the author knows which requests do no harm, so the kit asks nothing else: a rule that needs
//! a question that is not there is reported as not tried. Every member is optional.

use std::io;
use std::path::{Path, PathBuf};

use bkg_protocol::CapabilityName;
use serde::Deserialize;
use serde_json::{Map, Value};

/// What a plugin may be asked.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, expecting = "an object with questions")]
pub(super) struct Questions {
    /// Settings to check it with, laid over its own; those of the command line lie on top.
    #[serde(default)]
    pub(super) settings: Map<String, Value>,
    /// Answered at once and with success. Its payload is also sent enlarged, and bent out of shape.
    #[serde(default)]
    pub(super) answer: Option<Question>,
    /// Answered in chunks, at least five of them.
    #[serde(default)]
    pub(super) stream: Option<Question>,
    /// Answered so late that it can be cancelled before: 10 s at least.
    #[serde(default)]
    pub(super) slow: Option<Question>,
    /// Settings that the plugin refuses, laid over its own.
    #[serde(default)]
    pub(super) bad_settings: Option<Map<String, Value>>,
    /// Settings that the plugin takes while it runs, laid over its own.
    #[serde(default)]
    pub(super) good_settings: Option<Map<String, Value>>,
}

/// One request.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, expecting = "an object with `capability` and `payload`")]
pub(super) struct Question {
    pub(super) capability: CapabilityName,
    #[serde(default)]
    pub(super) payload: Value,
}

/// Why what may be asked is not known.
#[derive(Debug, thiserror::Error)]
pub enum QuestionsError {
    /// The file.
    #[error("`{}` cannot be read: {source}", path.display())]
    Unreadable {
        /// Which.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// What stands in it.
    #[error("`{}` says nothing that can be asked: {reason}; docs/conformance.md shows how it is written", path.display())]
    Wrong {
        /// Which.
        path: PathBuf,
        /// What is wrong.
        reason: serde_json::Error,
    },
}

impl Questions {
    pub(super) fn read(path: &Path) -> Result<Self, QuestionsError> {
        let text = std::fs::read(path)
            .map_err(|source| QuestionsError::Unreadable { path: path.to_owned(), source })?;
        serde_json::from_slice(&text)
            .map_err(|reason| QuestionsError::Wrong { path: path.to_owned(), reason })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_known_is_refused_by_name() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("check.json");
        let read = |text: &str| {
            std::fs::write(&path, text).unwrap();
            Questions::read(&path)
        };
        let whole =
            read(r#"{"answer": {"capability": "a.b", "payload": {"x": 1}}, "badSettings": {}}"#).unwrap();
        assert_eq!(whole.answer.unwrap().capability.as_str(), "a.b");
        assert!(whole.bad_settings.is_some() && whole.stream.is_none());
        for (text, word) in [
            (r#"{"answers": {}}"#, "answers"),
            (r#"{"answer": 3}"#, "expected an object with `capability` and `payload`"),
            ("3", "expected an object with questions"),
            (r#"{"answer": {"payload": 1}}"#, "capability"),
            (r#"{"answer": {"capability": "none"}}"#, "none"),
        ] {
            let refused = read(text).unwrap_err().to_string();
            assert!(refused.contains(word), "{refused}");
        }
    }
}
