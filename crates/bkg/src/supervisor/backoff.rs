//! How long to wait before a plugin is started again.
//!
//! Pure. The first restart comes at once, later ones after 1 s, 2 s, 4 s … 300 s, with jitter so that
//! plugins which fell together do not rise together. Ten healthy minutes forget it all. It never gives
//! up: the tail is slow, not silent.

use std::time::Duration;

const FIRST: Duration = Duration::from_secs(1);
const LONGEST: Duration = Duration::from_secs(300);
const FORGOTTEN_AFTER: Duration = Duration::from_secs(600);

/// The restarts of one seat since it was last healthy for long.
#[derive(Debug, Default)]
pub(super) struct Backoff {
    failures: u32,
}

impl Backoff {
    /// The process ended after it had served for `healthy`: how long to wait. `jitter` is between 0 and 1.
    pub(super) fn next(&mut self, healthy: Duration, jitter: f64) -> Duration {
        if healthy >= FORGOTTEN_AFTER {
            self.failures = 0;
        }
        let earlier = self.failures;
        self.failures = self.failures.saturating_add(1);
        if earlier == 0 {
            return Duration::ZERO;
        }
        let doubled = FIRST.saturating_mul(1 << (earlier - 1).min(16)).min(LONGEST);
        // The longest is never exceeded, so that it may be promised.
        doubled.mul_f64(0.8 + 0.4 * jitter).min(LONGEST)
    }

    /// How often it was started again.
    pub(super) fn restarts(&self) -> u32 {
        self.failures
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_restart_comes_at_once_and_later_ones_ever_later() {
        let mut backoff = Backoff::default();
        let waits: Vec<u64> = (0..12).map(|_| backoff.next(Duration::ZERO, 0.5).as_secs()).collect();
        assert_eq!(waits, [0, 1, 2, 4, 8, 16, 32, 64, 128, 256, 300, 300]);
    }

    #[test]
    fn jitter_stays_within_a_fifth() {
        for (jitter, expected) in [(0.0, 800), (1.0, 1_200)] {
            let mut backoff = Backoff::default();
            backoff.next(Duration::ZERO, jitter);
            assert_eq!(backoff.next(Duration::ZERO, jitter).as_millis(), expected);
        }
    }

    #[test]
    fn no_wait_is_longer_than_the_longest() {
        let mut backoff = Backoff::default();
        let waits = (0..100).map(|_| backoff.next(Duration::ZERO, 1.0)).max();
        assert_eq!(waits, Some(LONGEST));
    }

    #[test]
    fn who_falls_at_once_has_fallen_five_times_within_ten_seconds() {
        for jitter in [0.0, 0.5, 1.0] {
            let mut backoff = Backoff::default();
            let until_the_fifth: Duration = (0..4).map(|_| backoff.next(Duration::ZERO, jitter)).sum();
            assert!(until_the_fifth < Duration::from_secs(10), "{until_the_fifth:?}");
        }
    }

    #[test]
    fn ten_healthy_minutes_forget_earlier_failures() {
        let mut backoff = Backoff::default();
        for _ in 0..5 {
            backoff.next(Duration::ZERO, 0.5);
        }
        assert!(backoff.next(Duration::from_secs(599), 0.5) > Duration::ZERO);
        assert_eq!(backoff.next(Duration::from_secs(600), 0.5), Duration::ZERO);
        assert_eq!(backoff.restarts(), 1);
    }
}
