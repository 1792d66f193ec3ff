//! Which version of its plugin a process is of, and which two versions share requests while one is to
//! take over from the other.
//!
//! Not who decides that it does: the supervisor. The invariant: a request that is shared out is counted
//! for the version that got it, once. The dispatcher asks for every request, so nothing here waits.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use serde::Serialize;

/// The number of a version of a plugin, counted since the host started: all processes that were
/// started to take over together are one team.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize)]
#[serde(transparent)]
pub struct TeamId(pub u64);

/// Requests shared out between the version in rotation and one on trial.
#[derive(Debug)]
pub struct TrafficShare {
    /// The version on trial.
    pub team: TeamId,
    percent: u8,
    turns: AtomicU64,
    serving: Tally,
    trial: Tally,
}

/// Which of the two versions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// The one in rotation.
    Serving,
    /// The one on trial.
    Trial,
}

/// What became of the requests of one version.
#[derive(Debug, Default)]
struct Tally {
    answered: AtomicU64,
    failed: AtomicU64,
    /// How long the newest took, in microseconds; the oldest leaves when there are [`MOST_TIMES`].
    times: Mutex<VecDeque<u32>>,
}

/// What became of the requests of one version, at one moment.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Figures {
    /// How many were answered.
    pub answered: u64,
    /// How many of them with a failure that is the plugin's.
    pub failed: u64,
    /// Within which time 95 of 100 had their answer, or its first part.
    pub p95: Duration,
}

/// How many times of each version are kept.
const MOST_TIMES: usize = 2_048;
/// How many failures are a pattern and not an accident.
const FAILURES_THAT_COUNT: u64 = 2;
/// How much higher the rate of failures may be, besides twice that of before.
const RATE_ALLOWED: f64 = 0.02;
/// How many answers either version must have given before their times are compared.
const TIMES_THAT_COUNT: u64 = 20;
/// How much longer answers may take, besides twice as long as before: what is quick varies.
const DELAY_ALLOWED: Duration = Duration::from_millis(50);

impl TrafficShare {
    /// `percent` of 100 requests go to `team`.
    pub fn new(team: TeamId, percent: u8) -> Self {
        let (serving, trial) = (Tally::default(), Tally::default());
        Self { team, percent: percent.min(100), turns: AtomicU64::new(0), serving, trial }
    }

    /// Whose turn it is. Evenly spread, so that a short look at them sees both.
    pub fn turn(&self) -> Side {
        let turn = self.turns.fetch_add(1, Ordering::Relaxed);
        let until = |turn: u64| turn * u64::from(self.percent) / 100;
        if until(turn + 1) > until(turn) { Side::Trial } else { Side::Serving }
    }

    /// A request that took so long until its answer, or its first part, has ended.
    pub fn ended(&self, side: Side, took: Duration, failed: bool) {
        let tally = match side {
            Side::Serving => &self.serving,
            Side::Trial => &self.trial,
        };
        tally.answered.fetch_add(1, Ordering::Relaxed);
        tally.failed.fetch_add(u64::from(failed), Ordering::Relaxed);
        let mut times = tally.times.lock().unwrap_or_else(PoisonError::into_inner);
        if times.len() == MOST_TIMES {
            times.pop_front();
        }
        times.push_back(u32::try_from(took.as_micros()).unwrap_or(u32::MAX));
    }

    /// What became of the requests of one version so far.
    pub fn figures(&self, side: Side) -> Figures {
        match side {
            Side::Serving => self.serving.figures(),
            Side::Trial => self.trial.figures(),
        }
    }

    /// Why the version on trial is worse than the one in rotation, if it is.
    pub fn verdict(&self) -> Option<String> {
        worse(self.figures(Side::Serving), self.figures(Side::Trial))
    }
}

impl Tally {
    fn figures(&self) -> Figures {
        let mut times: Vec<u32> =
            self.times.lock().unwrap_or_else(PoisonError::into_inner).iter().copied().collect();
        times.sort_unstable();
        let place = (times.len() * 95).div_ceil(100).saturating_sub(1);
        let p95 = times.get(place).copied().unwrap_or_default();
        Figures {
            answered: self.answered.load(Ordering::Relaxed),
            failed: self.failed.load(Ordering::Relaxed),
            p95: Duration::from_micros(p95.into()),
        }
    }
}

impl Figures {
    fn rate(self) -> f64 {
        if self.answered == 0 { 0.0 } else { self.failed as f64 / self.answered as f64 }
    }
}

fn worse(serving: Figures, trial: Figures) -> Option<String> {
    if trial.failed >= FAILURES_THAT_COUNT && trial.rate() > 2.0 * serving.rate() + RATE_ALLOWED {
        return Some(format!(
            "{} of its {} requests failed, of the version before {} of {}",
            trial.failed, trial.answered, serving.failed, serving.answered
        ));
    }
    let is_known = serving.answered.min(trial.answered) >= TIMES_THAT_COUNT;
    if is_known && trial.p95 > 2 * serving.p95 + DELAY_ALLOWED {
        return Some(format!(
            "95 of 100 of its answers took up to {} ms, of the version before up to {} ms",
            trial.p95.as_millis(),
            serving.p95.as_millis()
        ));
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_is_spread_evenly() {
        for percent in [1, 10, 33, 50, 99] {
            let share = TrafficShare::new(TeamId(1), percent);
            let turns: Vec<Side> = (0..1_000).map(|_| share.turn()).collect();
            for hundred in turns.chunks(100) {
                let on_trial = hundred.iter().filter(|side| **side == Side::Trial).count();
                assert_eq!(on_trial, usize::from(percent));
            }
        }
    }

    #[test]
    fn only_what_is_clearly_worse_is_worse() {
        let figures =
            |answered, failed, millis| Figures { answered, failed, p95: Duration::from_millis(millis) };
        for (serving, trial, is_worse) in [
            (figures(900, 0, 10), figures(100, 0, 10), false),
            (figures(900, 0, 10), figures(100, 1, 10), false),
            (figures(900, 0, 10), figures(10, 2, 10), true),
            (figures(900, 0, 10), figures(1_000, 19, 10), false),
            (figures(900, 450, 10), figures(100, 60, 10), false),
            (figures(0, 0, 0), figures(100, 50, 10), true),
            (figures(900, 0, 10), figures(100, 0, 69), false),
            (figures(900, 0, 10), figures(100, 0, 71), true),
            (figures(900, 0, 10), figures(19, 0, 9_000), false),
            (figures(0, 0, 0), figures(0, 0, 0), false),
        ] {
            assert_eq!(worse(serving, trial).is_some(), is_worse, "{serving:?} {trial:?}");
        }
    }

    #[test]
    fn the_times_of_the_newest_requests_are_kept() {
        let share = TrafficShare::new(TeamId(1), 50);
        for _ in 0..MOST_TIMES {
            share.ended(Side::Trial, Duration::from_secs(9), false);
        }
        for _ in 0..MOST_TIMES {
            share.ended(Side::Trial, Duration::from_millis(5), false);
        }
        let figures = share.figures(Side::Trial);
        assert_eq!((figures.answered, figures.p95), (2 * MOST_TIMES as u64, Duration::from_millis(5)));
    }
}
