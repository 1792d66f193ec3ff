//! How much each key has used of what it may use.
//!
//! Requests in a minute and tokens in a day of UTC; nothing else. In memory: requests start anew with
//! the host, tokens start with what the usage table says of today. The invariant: a key that has used
//! up what it may is refused before it costs anything.

use std::collections::HashMap;
use std::num::NonZeroU32;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use governor::{
    Quota, RateLimiter, clock::Clock, clock::MonotonicClock, state::InMemoryState, state::NotKeyed,
};
use jiff::Timestamp;

use super::{AuthError, Caller};

const DAY: i64 = 24 * 60 * 60;

type Minute = RateLimiter<NotKeyed, InMemoryState, MonotonicClock>;

/// What keys have used.
#[derive(Debug, Default)]
pub(super) struct Consumption {
    keys: Mutex<HashMap<Arc<str>, Used>>,
}

#[derive(Debug, Default)]
struct Used {
    /// The limiter of this minute, with the limit that it was made for.
    minute: Option<(NonZeroU32, Minute)>,
    /// The day that `tokens` is of, counted from 1970.
    day: i64,
    tokens: u64,
}

impl Consumption {
    fn lock(&self) -> MutexGuard<'_, HashMap<Arc<str>, Used>> {
        self.keys.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Starts with the tokens that keys have used today.
    pub(super) fn restore(&self, tokens: HashMap<String, u64>, time: Timestamp) {
        let mut keys = self.lock();
        for (key, tokens) in tokens {
            let used = keys.entry(key.into()).or_default();
            (used.day, used.tokens) = (day_of(time), used.tokens_of(day_of(time)) + tokens);
        }
    }

    /// Counts a request of the caller.
    ///
    /// # Errors
    /// [`AuthError::TooManyRequests`] with the time until the next one, [`AuthError::QuotaUsedUp`] with
    /// the time until tomorrow; a request that is refused is not counted.
    pub(super) fn count_request(
        &self,
        caller: &Caller,
        clock: impl FnOnce() -> Timestamp,
    ) -> Result<(), AuthError> {
        let limits = caller.rights().limits;
        let (Some(key), true) = (caller.key_id(), limits != Default::default()) else { return Ok(()) };
        let time = clock();
        let mut keys = self.lock();
        let used = keys.entry(Arc::clone(key)).or_default();
        if let Some(most) = limits.tokens_per_day
            && used.tokens_of(day_of(time)) >= most
        {
            let tomorrow = (day_of(time) + 1) * DAY - time.as_second();
            let wait = Duration::from_secs(tomorrow.max(1).unsigned_abs());
            return Err(AuthError::QuotaUsedUp { most, wait });
        }
        if let Some(most) = limits.requests_per_minute {
            used.minute(most).map_err(|wait| AuthError::TooManyRequests { most, wait })?;
        }
        Ok(())
    }

    /// Counts tokens that a key has used, if it is one of those that have limits.
    pub(super) fn count_tokens(&self, key_id: &str, tokens: u64, time: Timestamp) {
        if let Some(used) = self.lock().get_mut(key_id) {
            let today = day_of(time);
            (used.day, used.tokens) = (today, used.tokens_of(today).saturating_add(tokens));
        }
    }
}

impl Used {
    fn tokens_of(&self, day: i64) -> u64 {
        if self.day == day { self.tokens } else { 0 }
    }

    /// Takes one of the requests of a minute, or says how long until there is one. A limit of 0 allows none.
    fn minute(&mut self, most: u32) -> Result<(), Duration> {
        let Some(most) = NonZeroU32::new(most) else { return Err(Duration::from_secs(60)) };
        if self.minute.as_ref().is_none_or(|(limit, _)| *limit != most) {
            let limiter = RateLimiter::direct_with_clock(Quota::per_minute(most), MonotonicClock);
            self.minute = Some((most, limiter));
        }
        let (_, limiter) = self.minute.as_ref().expect("it was made right above");
        limiter.check().map_err(|refused| refused.wait_time_from(MonotonicClock.now()))
    }
}

/// The day in UTC, counted from 1970.
fn day_of(time: Timestamp) -> i64 {
    time.as_second().div_euclid(DAY)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::caller::Active;
    use super::*;

    fn caller(limits: serde_json::Value) -> Caller {
        let active = json!({ "user": "ada", "keyId": "k", "limits": limits });
        Caller::new(serde_json::from_value::<Active>(active).unwrap().into())
    }

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    #[test]
    fn a_key_makes_as_many_requests_in_a_minute_as_it_may() {
        let consumption = Consumption::default();
        let three = caller(json!({ "requestsPerMinute": 3 }));
        for _ in 0..3 {
            consumption.count_request(&three, || at(0)).unwrap();
        }
        let error = consumption.count_request(&three, || at(0)).unwrap_err();
        assert!(
            matches!(error, AuthError::TooManyRequests { most: 3, wait } if wait <= Duration::from_secs(20))
        );
        // Another limit is another measure.
        consumption.count_request(&caller(json!({ "requestsPerMinute": 4 })), || at(0)).unwrap();
        let none = consumption.count_request(&caller(json!({ "requestsPerMinute": 0 })), || at(0));
        assert!(matches!(none, Err(AuthError::TooManyRequests { most: 0, .. })));
        consumption.count_request(&caller(json!({})), || at(0)).unwrap();
    }

    #[test]
    fn tokens_count_until_the_end_of_the_day_and_survive_a_restart() {
        let consumption = Consumption::default();
        let hundred = caller(json!({ "tokensPerDay": 100 }));
        consumption.restore([("k".to_owned(), 60)].into(), at(DAY - 10));
        consumption.count_tokens("k", 39, at(DAY - 10));
        consumption.count_request(&hundred, || at(DAY - 10)).unwrap();
        consumption.count_tokens("k", 1, at(DAY - 10));
        let error = consumption.count_request(&hundred, || at(DAY - 10)).unwrap_err();
        assert!(
            matches!(error, AuthError::QuotaUsedUp { most: 100, wait } if wait.as_secs() == 10),
            "{error}"
        );
        consumption.count_request(&hundred, || at(DAY)).unwrap();
    }
}
