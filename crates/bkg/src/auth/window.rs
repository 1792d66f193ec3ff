//! What was used in the last minute: a sum over sixty seconds that slides.
//!
//! Pure; the time comes in. The invariant: the sum covers at least the last sixty seconds, so that no
//! sixty seconds, wherever they begin, hold more than the sum was allowed to be.

use std::time::Duration;

use tokio::time::Instant;

/// How long what was used counts.
pub(super) const MINUTE: Duration = Duration::from_secs(60);
/// The second that has begun, and sixty whole ones before it.
const BUCKETS: usize = 61;

/// A sliding sum.
#[derive(Debug, Clone)]
pub(super) struct Window {
    began: Instant,
    /// The second that has begun, counted from `began`.
    second: u64,
    /// What was used in a second stands at its number, modulo how many there are.
    buckets: [u64; BUCKETS],
    sum: u64,
}

impl Window {
    pub(super) fn new(now: Instant) -> Self {
        Self { began: now, second: 0, buckets: [0; BUCKETS], sum: 0 }
    }

    /// What was used within the last minute.
    pub(super) fn sum(&mut self, now: Instant) -> u64 {
        let second = now.saturating_duration_since(self.began).as_secs();
        for passed in (self.second + 1..=second).take(BUCKETS) {
            self.sum -= std::mem::take(&mut self.buckets[place(passed)]);
        }
        self.second = self.second.max(second);
        self.sum
    }

    /// Counts what is used now.
    pub(super) fn add(&mut self, amount: u64, now: Instant) {
        // What would not fit a number is more than any limit.
        let amount = amount.min(u64::MAX - self.sum(now));
        self.buckets[place(self.second)] += amount;
        self.sum += amount;
    }

    /// How long until the sum is at most `most`, if nothing more is used: never more than a minute, though it
    /// may be a moment longer. Clients obey no longer times.
    pub(super) fn wait_for(&mut self, most: u64, now: Instant) -> Duration {
        let mut left = self.sum(now);
        if left <= most {
            return Duration::ZERO;
        }
        for age in (0..BUCKETS as u64).rev().filter(|age| *age <= self.second) {
            let second = self.second - age;
            left -= self.buckets[place(second)];
            if left <= most {
                let leaves = self.began + Duration::from_secs(second + BUCKETS as u64);
                return leaves.saturating_duration_since(now).min(MINUTE);
            }
        }
        MINUTE
    }
}

fn place(second: u64) -> usize {
    (second % BUCKETS as u64) as usize
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_used_counts_for_a_minute_and_then_no_more() {
        let start = Instant::now();
        let at = |milliseconds| start + Duration::from_millis(milliseconds);
        let mut window = Window::new(start);
        window.add(3, at(0));
        window.add(4, at(30_500));
        assert_eq!(window.sum(at(60_000)), 7);
        assert_eq!(window.wait_for(4, at(60_000)), Duration::from_secs(1));
        assert_eq!(window.sum(at(61_000)), 4);
        assert_eq!(window.wait_for(3, at(61_000)), Duration::from_secs(30));
        assert_eq!(window.wait_for(4, at(61_000)), Duration::ZERO);
        assert_eq!(window.sum(at(91_000)), 0);
        window.add(u64::MAX, at(91_000));
        window.add(5, at(91_000));
        assert_eq!(window.sum(at(91_000)), u64::MAX);
        assert_eq!(window.sum(at(10_000_000)), 0);
    }

    #[test]
    fn a_clock_that_hears_of_earlier_moments_loses_nothing() {
        let start = Instant::now();
        let mut window = Window::new(start);
        window.add(3, start + Duration::from_secs(10));
        window.add(4, start + Duration::from_secs(5));
        assert_eq!(window.sum(start + Duration::from_secs(70)), 7);
        assert_eq!(window.sum(start + Duration::from_secs(71)), 0);
    }
}
