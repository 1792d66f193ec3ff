//! Which models of plugins are left alone for a while, by what became of real requests.
//!
//! Nobody is asked anything for the sake of it: a model whose rest is over is tried with one ordinary
//! request. The invariants: a model rests after seven failures in a row and not before; while it rests or is
//! probed, nobody else is told that it is fit; a request that ends without an outcome changes nothing.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bkg_protocol::PluginName;
use tokio::time::Instant;
use tracing::{info, warn};

/// How many failures in a row begin a rest.
pub const FAILURES: u32 = 7;
/// The first rest; each further one is twice as long.
const SHORTEST: Duration = Duration::from_secs(1);
/// No rest is longer.
const LONGEST: Duration = Duration::from_secs(60);
/// How many models are remembered; what failed longest ago is forgotten first.
const MOST_REMEMBERED: usize = 4_096;

/// What the answers of a model say about it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// It answers, as far as is known.
    Fit,
    /// It is left alone for so long.
    Resting(Duration),
    /// Its rest is over: the next request finds out whether it answers again.
    Due,
    /// Its rest is over, and a request is finding out.
    Probed,
}

/// The standing of all models that failed lately.
pub struct Health {
    entries: Mutex<HashMap<Model, Entry>>,
    /// A number from 0 to below 1 that spreads the ends of rests.
    jitter: fn() -> f64,
}

/// A model of a plugin.
type Model = (PluginName, String);

#[derive(Debug)]
struct Entry {
    /// How many failures in a row.
    failures: u32,
    /// When it failed last.
    failed: Instant,
    rest: Option<Rest>,
    /// How long its last rest was, before it was spread.
    length: Duration,
}

#[derive(Debug, Clone, Copy)]
struct Rest {
    until: Instant,
    is_probed: bool,
}

/// One request at a model, whose outcome counts; dropped without one, it changes nothing.
#[derive(Debug)]
#[must_use]
pub struct Trial {
    health: Arc<Health>,
    model: Model,
    kind: Kind,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// The model was fit.
    Ordinary,
    /// The one request after a rest.
    Probe,
    /// It rests, and there was nothing else.
    Anyway,
    /// What it was to find out is known.
    Over,
}

impl fmt::Debug for Health {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("Health").field("entries", &*self.lock()).finish_non_exhaustive()
    }
}

impl Entry {
    fn standing(&self, now: Instant) -> Standing {
        match self.rest {
            None => Standing::Fit,
            Some(rest) if rest.is_probed => Standing::Probed,
            Some(rest) if now < rest.until => Standing::Resting(rest.until - now),
            Some(_) => Standing::Due,
        }
    }
}

impl Health {
    /// Everybody is fit. `jitter` gives a number from 0 to below 1.
    pub fn new(jitter: fn() -> f64) -> Arc<Self> {
        Arc::new(Self { entries: Mutex::default(), jitter })
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Model, Entry>> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What a model's answers say about it, and how many failures in a row there were.
    pub fn standing(&self, plugin: &PluginName, model: &str) -> (Standing, u32) {
        let entries = self.lock();
        // Nothing failed anywhere: the common case, which copies no name.
        if entries.is_empty() {
            return (Standing::Fit, 0);
        }
        let entry = entries.get(&(plugin.clone(), model.to_owned()));
        entry.map_or((Standing::Fit, 0), |entry| (entry.standing(Instant::now()), entry.failures))
    }

    /// Begins a request at a model; `None` if it rests, or is probed by another request.
    pub fn begin(self: &Arc<Self>, plugin: &PluginName, model: &str) -> Option<Trial> {
        let model = (plugin.clone(), model.to_owned());
        let mut entries = self.lock();
        let kind = match entries.get_mut(&model) {
            None => Kind::Ordinary,
            Some(entry) => match (entry.standing(Instant::now()), &mut entry.rest) {
                (Standing::Fit, _) => Kind::Ordinary,
                (Standing::Due, Some(rest)) => {
                    rest.is_probed = true;
                    Kind::Probe
                }
                _ => return None,
            },
        };
        Some(Trial { health: Arc::clone(self), model, kind })
    }

    /// Begins a request at a model that rests, because there is nothing else.
    pub fn begin_anyway(self: &Arc<Self>, plugin: &PluginName, model: &str) -> Trial {
        self.begin(plugin, model).unwrap_or_else(|| Trial {
            health: Arc::clone(self),
            model: (plugin.clone(), model.to_owned()),
            kind: Kind::Anyway,
        })
    }

    /// The length of a rest, up to a fifth shorter or longer, so that those who wait for the same upstream
    /// do not come back together.
    fn spread(&self, length: Duration) -> Duration {
        length.mul_f64(0.8 + 0.4 * (self.jitter)()).min(LONGEST)
    }
}

impl Trial {
    /// The answer has begun to come: whether it comes to a good end is open, but others may try too.
    pub fn answers(&mut self) {
        if self.kind != Kind::Probe {
            return;
        }
        self.kind = Kind::Ordinary;
        if let Some(entry) = self.health.lock().get_mut(&self.model) {
            // One more failure, and it rests again, twice as long.
            entry.rest = None;
            entry.failures = FAILURES - 1;
        }
    }

    /// The model answered as it should.
    pub fn succeeded(mut self) {
        let kind = std::mem::replace(&mut self.kind, Kind::Over);
        let mut entries = self.health.lock();
        let rests = entries.get(&self.model).is_some_and(|entry| entry.rest.is_some());
        // An answer to what was asked before the rest says nothing about now.
        if rests && kind == Kind::Ordinary {
            return;
        }
        if entries.remove(&self.model).is_some_and(|entry| entry.failures >= FAILURES) {
            info!(plugin = %self.model.0, model = self.model.1, "a model answers again");
        }
    }

    /// The model, or what is behind it, failed.
    pub fn failed(mut self) {
        let kind = std::mem::replace(&mut self.kind, Kind::Over);
        let now = Instant::now();
        let mut entries = self.health.lock();
        if entries.len() >= MOST_REMEMBERED && !entries.contains_key(&self.model) {
            let oldest = entries.iter().min_by_key(|(_, entry)| entry.failed);
            if let Some(oldest) = oldest.map(|(model, _)| model.clone()) {
                entries.remove(&oldest);
            }
        }
        let entry = entries.entry(self.model.clone()).or_insert(Entry {
            failures: 0,
            failed: now,
            rest: None,
            length: Duration::ZERO,
        });
        entry.failed = now;
        // Requests that began before a rest, or in spite of it, do not make it longer.
        if entry.rest.is_some() && kind != Kind::Probe {
            return;
        }
        entry.failures += 1;
        if entry.failures < FAILURES {
            return;
        }
        entry.length = (2 * entry.length).clamp(SHORTEST, LONGEST);
        let rest = self.health.spread(entry.length);
        entry.rest = Some(Rest { until: now + rest, is_probed: false });
        let (plugin, model) = &self.model;
        warn!(%plugin, model, failures = entry.failures, for_ms = rest.as_millis() as u64, "a model rests");
    }
}

impl Drop for Trial {
    fn drop(&mut self) {
        if self.kind != Kind::Probe {
            return;
        }
        // Whoever asked has left: the next request finds out.
        if let Some(rest) = self.health.lock().get_mut(&self.model).and_then(|entry| entry.rest.as_mut()) {
            rest.is_probed = false;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Case {
        health: Arc<Health>,
        plugin: PluginName,
    }

    impl Case {
        /// Rests are as long as they are, not spread.
        fn new() -> Self {
            Self { health: Health::new(|| 0.5), plugin: "p".parse().unwrap() }
        }

        fn begin(&self) -> Option<Trial> {
            self.health.begin(&self.plugin, "m")
        }

        fn standing(&self) -> Standing {
            self.health.standing(&self.plugin, "m").0
        }

        fn fail(&self, times: u32) {
            for _ in 0..times {
                self.begin().unwrap().failed();
            }
        }
    }

    const fn seconds(count: u64) -> Duration {
        Duration::from_secs(count)
    }

    #[tokio::test(start_paused = true)]
    async fn seven_failures_in_a_row_begin_a_rest_and_six_do_not() {
        let case = Case::new();
        case.fail(6);
        assert_eq!(case.standing(), Standing::Fit);
        case.begin().unwrap().succeeded();
        case.fail(6);
        assert_eq!(case.standing(), Standing::Fit);
        case.fail(1);
        assert_eq!(case.standing(), Standing::Resting(seconds(1)));
        assert!(case.begin().is_none());
        assert_eq!(case.health.standing(&case.plugin, "another").0, Standing::Fit);
    }

    #[tokio::test(start_paused = true)]
    async fn after_a_rest_one_request_finds_out_and_a_failure_doubles_the_rest() {
        let case = Case::new();
        case.fail(7);
        for length in [1, 2, 4, 8, 16, 32, 60, 60] {
            assert_eq!(case.standing(), Standing::Resting(seconds(length)));
            tokio::time::advance(seconds(length)).await;
            assert_eq!(case.standing(), Standing::Due);
            let probe = case.begin().unwrap();
            assert_eq!((case.standing(), case.begin().is_none()), (Standing::Probed, true));
            probe.failed();
        }
        tokio::time::advance(seconds(60)).await;
        case.begin().unwrap().succeeded();
        assert_eq!(case.standing(), Standing::Fit);
        case.fail(7);
        assert_eq!(case.standing(), Standing::Resting(seconds(1)), "what is fit again begins anew");
    }

    #[tokio::test(start_paused = true)]
    async fn a_probe_that_is_given_up_leaves_the_next_request_to_find_out() {
        let case = Case::new();
        case.fail(7);
        tokio::time::advance(seconds(1)).await;
        drop(case.begin().unwrap());
        assert_eq!(case.standing(), Standing::Due);
    }

    #[tokio::test(start_paused = true)]
    async fn a_probe_that_begins_to_answer_lets_others_in_and_its_break_is_a_failure() {
        let case = Case::new();
        case.fail(7);
        tokio::time::advance(seconds(1)).await;
        let mut probe = case.begin().unwrap();
        probe.answers();
        assert_eq!(case.standing(), Standing::Fit);
        case.begin().unwrap().succeeded();
        probe.failed();
        assert_eq!(case.standing(), Standing::Fit, "somebody was answered meanwhile");

        case.fail(6);
        tokio::time::advance(seconds(1)).await;
        let mut probe = case.begin().unwrap();
        probe.answers();
        probe.failed();
        assert_eq!(case.standing(), Standing::Resting(seconds(2)));
    }

    #[tokio::test(start_paused = true)]
    async fn what_was_asked_before_a_rest_neither_ends_it_nor_makes_it_longer() {
        let case = Case::new();
        let (good, bad) = (case.begin().unwrap(), case.begin().unwrap());
        case.fail(7);
        tokio::time::advance(Duration::from_millis(400)).await;
        good.succeeded();
        bad.failed();
        assert_eq!(case.standing(), Standing::Resting(Duration::from_millis(600)));
        case.health.begin_anyway(&case.plugin, "m").failed();
        assert_eq!(case.standing(), Standing::Resting(Duration::from_millis(600)));
        case.health.begin_anyway(&case.plugin, "m").succeeded();
        assert_eq!(case.standing(), Standing::Fit);
    }

    #[tokio::test(start_paused = true)]
    async fn rests_are_spread_by_a_fifth_and_bounded() {
        let spread = |jitter: fn() -> f64, length| Health::new(jitter).spread(seconds(length));
        assert_eq!(spread(|| 0.0, 10), seconds(8));
        assert_eq!(spread(|| 1.0, 10), seconds(12));
        assert_eq!(spread(|| 1.0, 60), seconds(60));
    }

    #[tokio::test(start_paused = true)]
    async fn what_failed_longest_ago_is_forgotten_first() {
        let case = Case::new();
        for number in 0..=MOST_REMEMBERED {
            case.health.begin(&case.plugin, &number.to_string()).unwrap().failed();
            tokio::time::advance(Duration::from_millis(1)).await;
        }
        let failures = |model: &str| case.health.standing(&case.plugin, model).1;
        assert_eq!((failures("0"), failures("1"), case.health.lock().len()), (0, 1, MOST_REMEMBERED));
    }
}
