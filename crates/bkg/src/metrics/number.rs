//! What is counted and measured: numbers that any thread adds to without waiting.
//!
//! Not names or labels: whoever shows a number knows those. The invariant: an addition is one relaxed
//! atomic operation on a number, two on a histogram, and takes no lock.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// A number that only grows.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// One more.
    pub fn one(&self) {
        self.add(1);
    }

    /// So many more.
    pub fn add(&self, number: u64) {
        self.0.fetch_add(number, Ordering::Relaxed);
    }

    /// How many by now.
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// The upper bounds of the buckets of every histogram, in seconds. From what a plugin on the same machine
/// takes to what a long answer of a large model takes.
pub(super) const BOUNDS: [f64; 16] =
    [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 120.0, 600.0];

/// How long something took, in buckets.
#[derive(Debug, Default)]
pub struct Histogram {
    /// The last one holds what is longer than every bound.
    buckets: [AtomicU64; BOUNDS.len() + 1],
    nanoseconds: AtomicU64,
}

/// A histogram at one moment.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Distribution {
    /// How many were at most as long as each bound, and how many there were.
    pub up_to: [u64; BOUNDS.len() + 1],
    /// All of them together.
    pub sum: Duration,
}

impl Histogram {
    /// Something took so long.
    pub fn observe(&self, took: Duration) {
        let seconds = took.as_secs_f64();
        let bucket = BOUNDS.partition_point(|bound| *bound < seconds);
        self.buckets[bucket].fetch_add(1, Ordering::Relaxed);
        let nanoseconds = u64::try_from(took.as_nanos()).unwrap_or(u64::MAX);
        self.nanoseconds.fetch_add(nanoseconds, Ordering::Relaxed);
    }

    /// What it holds now.
    pub fn distribution(&self) -> Distribution {
        let mut sum = 0;
        let up_to = std::array::from_fn(|bucket| {
            sum += self.buckets[bucket].load(Ordering::Relaxed);
            sum
        });
        Distribution { up_to, sum: Duration::from_nanos(self.nanoseconds.load(Ordering::Relaxed)) }
    }
}

impl Distribution {
    /// How many there were.
    pub fn count(&self) -> u64 {
        self.up_to[BOUNDS.len()]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_duration_falls_into_the_first_bucket_that_it_fits() {
        let histogram = Histogram::default();
        for milliseconds in [1, 2, 700_000] {
            histogram.observe(Duration::from_millis(milliseconds));
        }
        let seen = histogram.distribution();
        assert_eq!((seen.up_to[0], seen.up_to[1], seen.up_to[15], seen.count()), (1, 2, 2, 3));
        assert_eq!(seen.sum, Duration::from_millis(700_003));
    }
}
