//! How many lines one instance may log: all of them up to a number a second, then a sample.
//!
//! Pure: time comes in as an argument. It decides and counts; `journal` acts on it.

use std::time::{Duration, Instant};

const WINDOW: Duration = Duration::from_secs(1);
/// Above the bound one line in so many is kept, to show what the flood is made of.
const SAMPLE: u64 = 100;

/// What becomes of a line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    /// It is kept, after a note about those left out before it.
    Pass {
        /// How many were left out since the last note.
        left_out_before: u64,
    },
    /// It is left out and counted.
    LeaveOut,
}

/// The count of one instance.
#[derive(Debug)]
pub(super) struct Rate {
    since: Instant,
    lines: u64,
    left_out: u64,
}

impl Rate {
    pub(super) fn new(now: Instant) -> Self {
        Self { since: now, lines: 0, left_out: 0 }
    }

    /// Counts a line that comes now.
    pub(super) fn admit(&mut self, now: Instant, lines_per_second: u32) -> Verdict {
        let mut left_out_before = 0;
        if self.is_over(now) {
            left_out_before = self.left_out;
            *self = Self::new(now);
        }
        self.lines += 1;
        let above = self.lines.saturating_sub(lines_per_second.into());
        if above.is_multiple_of(SAMPLE) {
            Verdict::Pass { left_out_before }
        } else {
            self.left_out += 1;
            Verdict::LeaveOut
        }
    }

    /// How many lines are to be noted if no further one comes to carry the note.
    pub(super) fn take_left_out(&mut self, now: Instant) -> u64 {
        if self.is_over(now) { self.take_all_left_out() } else { 0 }
    }

    /// How many lines are to be noted at the end.
    pub(super) fn take_all_left_out(&mut self) -> u64 {
        std::mem::take(&mut self.left_out)
    }

    /// Whether a note is still to come.
    pub(super) fn owes(&self) -> bool {
        self.left_out > 0
    }

    /// Whether its second has passed.
    pub(super) fn is_over(&self, now: Instant) -> bool {
        now.saturating_duration_since(self.since) >= WINDOW
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PASS: Verdict = Verdict::Pass { left_out_before: 0 };

    #[test]
    fn all_lines_pass_up_to_the_bound_in_every_second() {
        let start = Instant::now();
        let mut rate = Rate::new(start);
        for second in 0..3 {
            for _ in 0..50 {
                assert_eq!(rate.admit(start + WINDOW * second, 50), PASS);
            }
        }
        assert!(!rate.owes());
    }

    #[test]
    fn above_the_bound_one_in_a_hundred_passes_and_the_rest_is_noted() {
        let start = Instant::now();
        let mut rate = Rate::new(start);
        let passed = (0..1_050).filter(|_| rate.admit(start, 50) == PASS).count();
        assert_eq!(passed, 50 + 10);
        assert!(rate.owes());
        assert_eq!(rate.admit(start + WINDOW, 50), Verdict::Pass { left_out_before: 990 });
        assert_eq!(rate.admit(start + WINDOW, 50), PASS);
    }

    #[test]
    fn the_note_is_due_when_the_second_has_passed_or_at_the_end() {
        let start = Instant::now();
        let mut rate = Rate::new(start);
        assert_eq!([rate.admit(start, 1), rate.admit(start, 1)], [PASS, Verdict::LeaveOut]);
        assert_eq!(rate.take_left_out(start + WINDOW / 2), 0);
        assert_eq!(rate.take_left_out(start + WINDOW), 1);
        assert_eq!(rate.take_left_out(start + WINDOW), 0);

        let mut rate = Rate::new(start);
        assert_eq!([rate.admit(start, 1), rate.admit(start, 1)], [PASS, Verdict::LeaveOut]);
        assert_eq!(rate.take_all_left_out(), 1);
    }
}
