//! What may follow `bkg check`, as types; parsing is all that happens here.

use std::path::PathBuf;

use clap::{Args, ValueEnum};
use serde_json::{Map, Value};

use crate::conformance::{Level, Rule};

/// Which plugin to check, and for what.
#[derive(Debug, Args)]
pub(super) struct CheckRequest {
    /// The plugin: its `start.sh`, its folder, or `ws://127.0.0.1:PORT/` to wait there for one that you
    /// start yourself
    #[arg(required_unless_present = "list")]
    pub(super) target: Option<String>,
    /// The level to hold it to [default: the one that it registers for]
    #[arg(long, value_enum)]
    pub(super) level: Option<WantedLevel>,
    /// Settings as a JSON object, laid over those of its entry
    #[arg(long, value_name = "JSON", value_parser = settings)]
    pub(super) settings: Option<Map<String, Value>>,
    /// What it may be asked, instead of `check.json` in its folder
    #[arg(long, value_name = "FILE")]
    pub(super) ask: Option<PathBuf>,
    /// This rule alone; may be given several times
    #[arg(long, value_name = "RULE", value_parser = rule)]
    pub(super) only: Vec<Rule>,
    /// Show all rules, and check nothing
    #[arg(long, conflicts_with_all = ["target", "settings", "ask"])]
    pub(super) list: bool,
}

/// How much of the protocol.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub(super) enum WantedLevel {
    /// The rules for every plugin
    Base,
    /// Those for plugins that register with `protocol` as well
    Extended,
}

impl From<WantedLevel> for Level {
    fn from(wanted: WantedLevel) -> Self {
        match wanted {
            WantedLevel::Base => Self::Base,
            WantedLevel::Extended => Self::Extended,
        }
    }
}

fn rule(id: &str) -> Result<Rule, String> {
    Rule::named(id).ok_or_else(|| "there is no such rule: `bkg check --list` shows them".to_owned())
}

fn settings(text: &str) -> Result<Map<String, Value>, String> {
    serde_json::from_str(text).map_err(|error| format!("it is no JSON object: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rule_that_is_none_leads_to_the_list() {
        assert_eq!(rule("chunk-order"), Ok(Rule::ChunkOrder));
        assert!(rule("chunks").unwrap_err().contains("bkg check --list"));
    }

    #[test]
    fn settings_are_an_object() {
        assert_eq!(settings(r#"{"a": 1}"#).unwrap()["a"], 1);
        assert!(settings("[1]").is_err());
    }
}
