//! The conformance kit: plays host to one plugin and reports, rule by rule, whether it keeps the protocol.
//!
//! Not the daemon, and nothing of a running one: it starts the plugin itself, as the supervisor does, and
//! speaks raw frames with it, so that nothing lenient stands between a plugin and its judgement. The
//! invariant: what the plugin did wrong is in the [`Report`], what went wrong with the kit is a
//! [`KitError`], and when it returns nothing that it started is left. Called by `bkg check`.

mod asks;
mod beats;
mod begin;
mod cancels;
mod endings;
mod judge;
mod kit;
mod launch;
mod notebook;
mod output;
mod play;
mod questions;
mod report;
mod rule;
mod schemas;
mod session;
mod settings;
mod stage;
mod strays;
mod streams;
mod target;
mod upgrade;

use std::fmt;
use std::future::Future;

pub use kit::KitError;
pub use questions::QuestionsError;
pub use report::{Counts, Finding, Outcome, Report};
pub use rule::{Level, Rule};
pub use target::{Target, TargetError};

use kit::Kit;

/// What is wanted of a check.
#[derive(Debug, Clone, Default)]
pub struct Wishes {
    /// The level to hold the plugin to; what it registers for where this is `None`.
    pub level: Option<Level>,
    /// These rules alone; all where this is empty.
    pub only: Vec<Rule>,
}

impl Wishes {
    /// Whether a rule belongs to it.
    pub fn wants(&self, rule: Rule) -> bool {
        let is_of_level = self.level != Some(Level::Base) || rule.level() == Level::Base;
        let is_named = self.only.is_empty() || self.only.contains(&rule);
        is_of_level && is_named
    }
}

/// Where a check says what it is about, for people who wait.
pub struct Progress<'a>(pub &'a dyn Fn(&str));

impl Progress<'_> {
    fn say(&self, what: &str) {
        (self.0)(what);
    }
}

impl fmt::Debug for Progress<'_> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("Progress")
    }
}

/// How a check ended that did not fail.
#[derive(Debug)]
pub enum Checked {
    /// With a report.
    Report(Box<Report>),
    /// Somebody had enough of it.
    Stopped,
}

/// Checks a plugin; ends early when `stop` completes, leaving nothing behind in either case.
///
/// # Errors
/// What kept the kit from doing its work, which is never the plugin's fault.
pub async fn check(
    target: &Target,
    wishes: &Wishes,
    progress: &Progress<'_>,
    stop: impl Future<Output = ()>,
) -> Result<Checked, KitError> {
    let kit = Kit::new(target, wishes, progress).await?;
    let played = tokio::select! {
        biased;
        () = stop => None,
        played = play::play(&kit) => Some(played),
    };
    // Also after a failure: who cannot go on still cleans up.
    let ended = kit.end_all().await;
    let Some(played) = played else { return ended.map(|()| Checked::Stopped) };
    let reason = played?;
    ended?;
    Ok(Checked::Report(Box::new(report(&kit, &reason))))
}

fn report(kit: &Kit<'_>, otherwise: &str) -> Report {
    let contract = kit.contract.get().copied();
    let finding = |rule: Rule| {
        if rule.level() == Level::Extended && contract == Some(Level::Base) {
            kit.notebook.not_applicable(rule, "the plugin speaks the base contract");
        }
        kit.notebook.finding(rule, otherwise)
    };
    let rules = Rule::all().filter(|rule| kit.wishes.wants(*rule)).map(finding).collect();
    let plugin = kit.target.entry().map(|entry| entry.name.to_string());
    let took = kit.notebook.began().elapsed();
    Report::of(kit.target.to_string(), plugin, contract, kit.wishes, rules, took)
}
