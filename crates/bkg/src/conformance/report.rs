//! What a check found out, rule by rule: the value that text and JSON are made of.
//!
//! Not how it is shown to people: the command line does that. The invariant: every rule that was asked
//! for is in it once, and what was not tried says why. Its JSON form is a promise to authors' CI;
//! `docs/conformance.md` describes it.

use std::time::Duration;

use serde::Serialize;

use super::Wishes;
use super::rule::{Level, Rule};

/// Everything that a check found out.
#[derive(Debug, Clone, Serialize, schemars::JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Report {
    /// What was checked, as it was named.
    pub target: String,
    /// The name that the plugin has; missing where nobody knows it.
    pub plugin: Option<String>,
    /// What the plugin registered for; missing if it never did.
    pub contract: Option<Level>,
    /// The highest level of which no rule is broken; missing if one of the base level is, or if only some
    /// rules were asked for.
    pub level: Option<Level>,
    /// Whether all rules were asked for that there are at the level.
    pub is_whole: bool,
    /// How many rules came out how.
    pub counts: Counts,
    /// How long it took, in milliseconds.
    pub took_ms: u64,
    /// Rule by rule.
    pub rules: Vec<Finding>,
}

/// How many rules came out how.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, schemars::JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Counts {
    /// That hold.
    pub passed: usize,
    /// That were broken.
    pub broken: usize,
    /// That could not be tried.
    pub not_tried: usize,
    /// That are not about this plugin.
    pub not_applicable: usize,
}

/// What was found out about one rule.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, schemars::JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Finding {
    /// Which rule.
    #[schemars(with = "String")]
    pub rule: Rule,
    /// Its level.
    pub level: Level,
    /// What it demands.
    pub demand: String,
    /// Where that is written down.
    pub see: String,
    /// What came of it.
    #[serde(flatten)]
    pub outcome: Outcome,
    /// What is allowed and still worth a look.
    pub remarks: Vec<String>,
}

/// How a rule came out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, schemars::JsonSchema)]
#[serde(tag = "outcome", rename_all = "kebab-case", rename_all_fields = "camelCase")]
pub enum Outcome {
    /// It holds, as far as it was tried.
    Passed,
    /// The plugin broke it.
    Broken {
        /// What the rule made the kit expect.
        expected: String,
        /// What came instead.
        came: String,
        /// When, in milliseconds since the check began.
        at_ms: u64,
    },
    /// It could not be tried.
    NotTried {
        /// Why, and what would make it possible.
        reason: String,
    },
    /// It is not about this plugin.
    NotApplicable {
        /// Why.
        reason: String,
    },
}

impl Report {
    /// Puts findings together.
    pub(super) fn of(
        target: String,
        plugin: Option<String>,
        contract: Option<Level>,
        wishes: &Wishes,
        rules: Vec<Finding>,
        took: Duration,
    ) -> Self {
        let mut counts = Counts::default();
        for finding in &rules {
            match finding.outcome {
                Outcome::Passed => counts.passed += 1,
                Outcome::Broken { .. } => counts.broken += 1,
                Outcome::NotTried { .. } => counts.not_tried += 1,
                Outcome::NotApplicable { .. } => counts.not_applicable += 1,
            }
        }
        let is_broken = |level| {
            let broken = |finding: &&Finding| matches!(finding.outcome, Outcome::Broken { .. });
            rules.iter().filter(broken).any(|finding| finding.level == level)
        };
        let is_whole = wishes.only.is_empty();
        let level = match contract.map(|contract| wishes.level.unwrap_or(contract).min(contract)) {
            None => None,
            _ if !is_whole => None,
            Some(_) if is_broken(Level::Base) => None,
            Some(Level::Extended) if !is_broken(Level::Extended) => Some(Level::Extended),
            Some(_) => Some(Level::Base),
        };
        Self { target, plugin, contract, level, is_whole, counts, took_ms: took.as_millis() as u64, rules }
    }

    /// Whether no rule is broken.
    pub fn conforms(&self) -> bool {
        self.counts.broken == 0 && self.contract.is_some()
    }

    /// The rules that are broken.
    pub fn broken(&self) -> impl Iterator<Item = &Finding> {
        self.rules.iter().filter(|finding| matches!(finding.outcome, Outcome::Broken { .. }))
    }
}
