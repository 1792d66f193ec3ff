//! Whether the wall clock can be believed about how old something is.
//!
//! Not a clock, and nothing that waits: every deadline of the host is measured on the monotonic clock. The
//! invariant: a wall clock that was set says nothing about age until it has gone on evenly for an hour, so
//! that a mistake of ten years can be put right before logs and records are removed for it. Whoever removes
//! by age looks here first: `logs` and `store`.

use std::time::{Duration, Instant};

use jiff::Timestamp;

/// How long the wall clock must have gone on evenly.
const EVEN_FOR: Duration = Duration::from_secs(60 * 60);
/// By how much the two clocks may differ between two looks: more than a clock is slewed, less than it is
/// set. A machine that was asleep differs by more, and then the hour begins anew, which harms nothing.
const TOLERANCE: Duration = Duration::from_secs(5 * 60);

/// How evenly the wall clock has gone so far, as far as somebody has looked.
#[derive(Debug, Clone, Copy, Default)]
pub struct Evenness {
    looked: Option<(Instant, Timestamp)>,
    /// Since when it has gone evenly; `None` if it was never seen to do otherwise.
    since: Option<Instant>,
}

impl Evenness {
    /// Looks at both clocks; answers whether the wall clock may be believed about age. From the start on it
    /// takes an hour, since nobody knows what was before.
    pub fn look(&mut self, now: Instant, time: Timestamp) -> bool {
        let is_even = self.looked.replace((now, time)).is_some_and(|(then, earlier)| {
            let passed = now.saturating_duration_since(then);
            let claimed = time.duration_since(earlier);
            !claimed.is_negative() && claimed.unsigned_abs().abs_diff(passed) <= TOLERANCE
        });
        if !is_even {
            self.since = Some(now);
        }
        self.since.is_none_or(|since| now.saturating_duration_since(since) >= EVEN_FOR)
    }

    /// As if it had gone evenly for long.
    #[cfg(test)]
    pub(crate) fn long(now: Instant, time: Timestamp) -> Self {
        Self { looked: Some((now, time)), since: None }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_that_was_set_is_believed_an_hour_later() {
        let (begin, time) = (Instant::now(), Timestamp::from_second(1_800_000_000).unwrap());
        let mut evenness = Evenness::default();
        let mut at = |minutes: u64, set_by: i64| {
            let passed = Duration::from_secs(60 * minutes);
            let set_by = jiff::SignedDuration::from_hours(set_by);
            evenness.look(begin + passed, time + passed + set_by)
        };
        const TEN_YEARS: i64 = 10 * 365 * 24;
        assert_eq!([0, 30, 59, 60].map(|minute| at(minute, 0)), [false, false, false, true]);
        assert_eq!([61, 70, 121].map(|minute| at(minute, TEN_YEARS)), [false, false, true]);
        assert_eq!([122, 180, 182].map(|minute| at(minute, 0)), [false, false, true]);
        assert_eq!([183, 243].map(|minute| at(minute, -TEN_YEARS)), [false, true]);
    }
}
