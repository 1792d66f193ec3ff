//! What is found out while a check goes on, written down by everyone who sees something.
//!
//! The invariant: a rule that was seen broken stays broken, with the first sight of it; one that was
//! tried anywhere counts as tried. Shared by the scenes of a check, which may run at once.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::time::Instant;

use super::report::{Finding, Outcome};
use super::rule::Rule;

/// How much of a frame is shown.
const SHOWN: usize = 300;

#[derive(Debug)]
pub(super) struct Notebook {
    began: Instant,
    notes: Mutex<BTreeMap<Rule, Note>>,
}

#[derive(Debug, Default)]
struct Note {
    outcome: Option<Outcome>,
    remarks: Vec<String>,
}

/// Which of two outcomes says more.
fn weight(outcome: &Outcome) -> u8 {
    match outcome {
        Outcome::Broken { .. } => 3,
        Outcome::Passed => 2,
        Outcome::NotTried { .. } => 1,
        Outcome::NotApplicable { .. } => 0,
    }
}

impl Notebook {
    pub(super) fn new() -> Self {
        Self { began: Instant::now(), notes: Mutex::default() }
    }

    pub(super) fn began(&self) -> Instant {
        self.began
    }

    fn notes(&self) -> MutexGuard<'_, BTreeMap<Rule, Note>> {
        // A note is one assignment, which a panic elsewhere cannot leave half done.
        self.notes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn note(&self, rule: Rule, outcome: Outcome) {
        let mut notes = self.notes();
        let note = notes.entry(rule).or_default();
        if note.outcome.as_ref().is_none_or(|earlier| weight(earlier) < weight(&outcome)) {
            note.outcome = Some(outcome);
        }
    }

    /// The rule was tried, and nothing broke it.
    pub(super) fn passed(&self, rule: Rule) {
        self.note(rule, Outcome::Passed);
    }

    /// The plugin broke the rule.
    pub(super) fn broken(&self, rule: Rule, expected: impl Into<String>, came: impl Into<String>) {
        let at_ms = self.began.elapsed().as_millis() as u64;
        self.note(rule, Outcome::Broken { expected: expected.into(), came: came.into(), at_ms });
    }

    /// The rule could not be tried.
    pub(super) fn not_tried(&self, rule: Rule, reason: impl Into<String>) {
        self.note(rule, Outcome::NotTried { reason: reason.into() });
    }

    /// The rule is not about this plugin.
    pub(super) fn not_applicable(&self, rule: Rule, reason: impl Into<String>) {
        self.note(rule, Outcome::NotApplicable { reason: reason.into() });
    }

    /// Something that is allowed and still worth a look; said once.
    pub(super) fn remark(&self, rule: Rule, remark: String) {
        let mut notes = self.notes();
        let remarks = &mut notes.entry(rule).or_default().remarks;
        if !remarks.contains(&remark) {
            remarks.push(remark);
        }
    }

    pub(super) fn is_broken(&self, rule: Rule) -> bool {
        matches!(self.notes().get(&rule), Some(Note { outcome: Some(Outcome::Broken { .. }), .. }))
    }

    /// What was found out about a rule; `otherwise` is why nothing was.
    pub(super) fn finding(&self, rule: Rule, otherwise: &str) -> Finding {
        let mut notes = self.notes();
        let Note { outcome, remarks } = notes.remove(&rule).unwrap_or_default();
        let outcome = outcome.unwrap_or_else(|| Outcome::NotTried { reason: otherwise.to_owned() });
        Finding {
            rule,
            level: rule.level(),
            demand: rule.demand().to_owned(),
            see: rule.pointer(),
            outcome,
            remarks,
        }
    }
}

/// The beginning of a frame, for people.
pub(super) fn clipped(text: &str) -> String {
    if text.len() <= SHOWN {
        return text.to_owned();
    }
    let end = text.floor_char_boundary(SHOWN);
    format!("{}… ({} bytes)", &text[..end], text.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_broken_first_is_what_is_told() {
        let notebook = Notebook::new();
        notebook.not_tried(Rule::ChunkOrder, "later");
        notebook.passed(Rule::ChunkOrder);
        notebook.broken(Rule::ChunkOrder, "1", "2");
        notebook.broken(Rule::ChunkOrder, "1", "3");
        notebook.passed(Rule::ChunkOrder);
        let Outcome::Broken { came, .. } = notebook.finding(Rule::ChunkOrder, "").outcome else { panic!() };
        assert_eq!(came, "2");
        let never = notebook.finding(Rule::Prepares, "nobody came").outcome;
        assert_eq!(never, Outcome::NotTried { reason: "nobody came".to_owned() });
    }

    #[test]
    fn a_long_frame_is_clipped_between_characters() {
        let text = "é".repeat(SHOWN);
        assert!(clipped(&text).ends_with(&format!("… ({} bytes)", 2 * SHOWN)));
        assert_eq!(clipped("short"), "short");
    }
}
