//! The scene of beats: that they come, and come again.
//!
//! It plays behind the others, so that most of the wait is over when it begins.

use std::time::Duration;

use super::rule::{Level, Rule};
use super::session::Waited;
use super::stage::{ANSWER_WITHIN, Halt, Stage};

/// How long a base plugin may take for two beats: 2.5 times the 10 s between them.
const TWO_BEATS_WITHIN: Duration = Duration::from_secs(25);
/// As many beats in [`ANSWER_WITHIN`] come from a plugin that reads `heartbeatMs`, on the slowest machine,
/// and never from one that keeps to its own 10 s.
const QUICK_BEATS: u32 = 5;

/// Hears beats.
pub(super) async fn beats(stage: &mut Stage<'_>) -> Result<(), Halt> {
    let contract = stage.kit.contract.get().copied();
    let notebook = &stage.kit.notebook;
    let session = stage.ready().await?;
    let (wanted, within) = match contract {
        Some(Level::Extended) => (1, ANSWER_WITHIN),
        _ => (2, TWO_BEATS_WITHIN),
    };
    let waited = session.until(within, |heard| heard.beats >= wanted).await;
    if waited != Waited::Reached {
        let came = format!("{} within {} s, and {}", session.heard.beats, within.as_secs(), session.fate());
        notebook.broken(Rule::BeatsKeepComing, format!("{wanted} `health` at least"), came);
        notebook.not_tried(Rule::HeartbeatKept, "it does not beat at all");
        return Ok(());
    }
    notebook.passed(Rule::BeatsKeepComing);
    if contract != Some(Level::Extended) {
        return Ok(());
    }
    let before = session.heard.beats;
    let waited = session.until(ANSWER_WITHIN, |heard| heard.beats >= before + QUICK_BEATS).await;
    if waited == Waited::Reached {
        notebook.passed(Rule::HeartbeatKept);
    } else {
        let came = format!("{} within {} s", session.heard.beats - before, ANSWER_WITHIN.as_secs());
        notebook.broken(Rule::HeartbeatKept, "`health` every 200 ms, as `heartbeatMs` said", came);
    }
    Ok(())
}
