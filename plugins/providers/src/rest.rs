//! When an upstream that keeps failing is left alone, and when it is tried again.
//!
//! After seven failures in a row it rests: a second at first, twice as long after each probe that failed,
//! a minute at most. Then one request, and one alone, is the probe. The invariant: whatever becomes of
//! a request, also its cancellation, a probe ends; and an answer ends the rest, whoever got it.

use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use tokio::time::Instant;

/// How many failures in a row send an upstream to rest.
pub(crate) const FAILURES: u32 = 7;
/// The first rest and the longest one.
const SHORTEST: Duration = Duration::from_secs(1);
const LONGEST: Duration = Duration::from_secs(60);

/// Whether one upstream rests.
#[derive(Debug, Default)]
pub(crate) struct Rest {
    state: Mutex<State>,
}

#[derive(Debug, Clone, Copy)]
enum State {
    /// It serves; so many failures came in a row.
    Serving { failures: u32 },
    /// It is left alone until then; `length` is that of the rest before any jitter.
    Resting { until: Instant, length: Duration },
    /// One request finds out how it is.
    Probed { length: Duration },
}

impl Default for State {
    fn default() -> Self {
        Self::Serving { failures: 0 }
    }
}

/// One request to an upstream, whose outcome counts. Dropped without one it counts for nothing.
#[derive(Debug)]
pub(crate) struct Trial {
    rest: Arc<Rest>,
    is_probe: bool,
}

impl Rest {
    /// Begins a request.
    ///
    /// # Errors
    /// How long the upstream still rests; zero while it is being probed.
    pub(crate) fn try_it(self: &Arc<Self>) -> Result<Trial, Duration> {
        let mut state = self.lock();
        let is_probe = match *state {
            State::Serving { .. } => false,
            State::Resting { until, length } => {
                let left = until.saturating_duration_since(Instant::now());
                if !left.is_zero() {
                    return Err(left);
                }
                *state = State::Probed { length };
                true
            }
            State::Probed { .. } => return Err(Duration::ZERO),
        };
        drop(state);
        Ok(Trial { rest: self.clone(), is_probe })
    }

    /// How long it still rests, if it does.
    pub(crate) fn left(&self) -> Option<Duration> {
        match *self.lock() {
            State::Serving { .. } => None,
            State::Resting { until, .. } => Some(until.saturating_duration_since(Instant::now())),
            State::Probed { .. } => Some(Duration::ZERO),
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("nothing panics under this lock")
    }
}

impl Trial {
    /// The upstream is alive: it answered, if only to refuse.
    pub(crate) fn succeeded(mut self) {
        self.is_probe = false;
        *self.rest.lock() = State::default();
    }

    /// The upstream failed.
    pub(crate) fn failed(mut self) {
        let mut state = self.rest.lock();
        match *state {
            State::Serving { failures } if failures + 1 < FAILURES => {
                *state = State::Serving { failures: failures + 1 };
            }
            State::Serving { .. } => *state = resting(SHORTEST),
            State::Probed { length } if self.is_probe => *state = resting((length * 2).min(LONGEST)),
            // Requests from before the rest say nothing new.
            State::Probed { .. } | State::Resting { .. } => {}
        }
        drop(state);
        self.is_probe = false;
    }
}

impl Drop for Trial {
    fn drop(&mut self) {
        if !self.is_probe {
            return;
        }
        let mut state = self.rest.lock();
        if let State::Probed { length } = *state {
            *state = State::Resting { until: Instant::now(), length };
        }
    }
}

/// A rest of about this length: never shorter, so that upstreams which failed together do not come back together.
fn resting(length: Duration) -> State {
    let jittered = length.mul_f64(rand::random_range(1.0..1.25)).min(LONGEST);
    State::Resting { until: Instant::now() + jittered, length }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fail(rest: &Arc<Rest>, times: u32) {
        for _ in 0..times {
            rest.try_it().unwrap().failed();
        }
    }

    #[tokio::test(start_paused = true)]
    async fn seven_failures_in_a_row_send_it_to_rest_and_a_success_between_does_not_count() {
        let rest = Arc::new(Rest::default());
        fail(&rest, FAILURES - 1);
        rest.try_it().unwrap().succeeded();
        fail(&rest, FAILURES - 1);
        assert!(rest.left().is_none());
        fail(&rest, 1);
        let left = rest.try_it().unwrap_err();
        assert!((SHORTEST..=SHORTEST.mul_f64(1.25)).contains(&left), "{left:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn one_request_is_the_probe_and_its_failure_doubles_the_rest_up_to_a_minute() {
        let rest = Arc::new(Rest::default());
        fail(&rest, FAILURES);
        let mut expected = SHORTEST;
        for _ in 0..8 {
            let left = rest.left().unwrap();
            assert!((expected..=expected.mul_f64(1.25).min(LONGEST)).contains(&left), "{left:?}");
            tokio::time::advance(left).await;
            let probe = rest.try_it().unwrap();
            assert_eq!(rest.try_it().unwrap_err(), Duration::ZERO, "there is one probe");
            probe.failed();
            expected = (expected * 2).min(LONGEST);
        }
        assert_eq!(expected, LONGEST);
        tokio::time::advance(LONGEST).await;
        rest.try_it().unwrap().succeeded();
        assert!(rest.left().is_none());
        fail(&rest, FAILURES - 1);
        assert!(rest.left().is_none());
    }

    #[tokio::test(start_paused = true)]
    async fn a_probe_that_is_given_up_lets_the_next_one_try() {
        let rest = Arc::new(Rest::default());
        fail(&rest, FAILURES);
        tokio::time::advance(SHORTEST * 2).await;
        drop(rest.try_it().unwrap());
        rest.try_it().unwrap().succeeded();
        assert!(rest.left().is_none());
    }

    #[tokio::test(start_paused = true)]
    async fn requests_from_before_the_rest_do_not_lengthen_it_but_their_success_ends_it() {
        let rest = Arc::new(Rest::default());
        let (late, later) = (rest.try_it().unwrap(), rest.try_it().unwrap());
        fail(&rest, FAILURES);
        let left = rest.left();
        late.failed();
        assert_eq!(rest.left(), left);
        later.succeeded();
        assert!(rest.left().is_none());
    }
}
