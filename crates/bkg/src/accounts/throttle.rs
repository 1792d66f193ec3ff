//! Slows down who tries passwords.
//!
//! By account *and* address, and by address alone: never by account alone, so that nobody can lock an
//! owner out who comes from elsewhere. Not the cost of hashing, which the provider bounds. In memory;
//! a restart forgets.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bkg_protocol::ErrorCode;
use tokio::time::Instant;

use crate::error::Problem;

/// How many failures are free, for an account from one address, and for all accounts from there.
const FREE_FOR_ACCOUNT: u32 = 5;
const FREE_FOR_ADDRESS: u32 = 20;
/// The first wait; each failure doubles it.
const FIRST_WAIT: Duration = Duration::from_secs(1);
const LONGEST_WAIT: Duration = Duration::from_secs(300);
/// After how long without a failure all is forgotten.
const FORGOTTEN_AFTER: Duration = Duration::from_secs(900);
/// How many logins of one address may be under way at once.
const AT_ONCE: u32 = 4;
/// How many accounts and addresses are remembered.
const MOST: usize = 10_000;

/// Who tried how often.
#[derive(Debug, Default)]
pub(super) struct Throttle {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    failures: HashMap<(Network, Option<String>), Failures>,
    under_way: HashMap<Network, u32>,
}

/// Where somebody comes from: an IPv4 address, or the 64 bits of an IPv6 address that name a network.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Network(IpAddr);

#[derive(Debug, Clone, Copy)]
struct Failures {
    count: u32,
    last: Instant,
}

/// A login that is under way; it counts as such until this is dropped.
#[derive(Debug)]
#[must_use]
pub(super) struct Attempt<'a> {
    throttle: &'a Throttle,
    network: Network,
    account: String,
}

impl Throttle {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Lets an attempt begin.
    ///
    /// # Errors
    /// `rate_limited` with the time to wait.
    pub(super) fn begin(
        &self,
        account: &str,
        address: IpAddr,
        now: Instant,
    ) -> Result<Attempt<'_>, Problem> {
        let network = Network::of(address);
        let account = account.to_lowercase();
        let mut state = self.lock();
        let waits = [
            state.wait(&(network, Some(account.clone())), FREE_FOR_ACCOUNT, now),
            state.wait(&(network, None), FREE_FOR_ADDRESS, now),
        ];
        if let Some(wait) = waits.into_iter().max().filter(|wait| !wait.is_zero()) {
            return Err(slow_down("there were too many failed logins", wait));
        }
        let under_way = state.under_way.entry(network).or_default();
        if *under_way == AT_ONCE {
            return Err(slow_down("too many logins are under way from this address", FIRST_WAIT));
        }
        *under_way += 1;
        Ok(Attempt { throttle: self, network, account })
    }
}

impl State {
    fn wait(&self, key: &(Network, Option<String>), free: u32, now: Instant) -> Duration {
        let Some(failures) = self.failures.get(key).filter(|failures| !failures.is_forgotten(now)) else {
            return Duration::ZERO;
        };
        let Some(excess) = failures.count.checked_sub(free) else { return Duration::ZERO };
        let wait = FIRST_WAIT.saturating_mul(1 << excess.min(16)).min(LONGEST_WAIT);
        (failures.last + wait).saturating_duration_since(now)
    }

    fn count(&mut self, key: (Network, Option<String>), now: Instant) {
        if self.failures.len() >= MOST {
            self.failures.retain(|_, failures| !failures.is_forgotten(now));
        }
        if self.failures.len() >= MOST {
            // Whoever fills the table pays with the memory of it, not everybody else.
            let network = key.0;
            self.failures.retain(|(other, account), _| account.is_none() || *other != network);
        }
        let failures = self.failures.entry(key).or_insert(Failures { count: 0, last: now });
        if failures.is_forgotten(now) {
            failures.count = 0;
        }
        *failures = Failures { count: failures.count.saturating_add(1), last: now };
    }
}

impl Failures {
    fn is_forgotten(&self, now: Instant) -> bool {
        now.saturating_duration_since(self.last) >= FORGOTTEN_AFTER
    }
}

impl Attempt<'_> {
    /// The password was wrong.
    pub(super) fn failed(self, now: Instant) {
        let mut state = self.throttle.lock();
        state.count((self.network, Some(self.account.clone())), now);
        state.count((self.network, None), now);
    }

    /// The password was right.
    pub(super) fn succeeded(self) {
        self.throttle.lock().failures.remove(&(self.network, Some(self.account.clone())));
    }
}

impl Drop for Attempt<'_> {
    fn drop(&mut self) {
        let mut state = self.throttle.lock();
        if let Some(under_way) = state.under_way.get_mut(&self.network) {
            *under_way -= 1;
            if *under_way == 0 {
                state.under_way.remove(&self.network);
            }
        }
    }
}

impl Network {
    fn of(address: IpAddr) -> Self {
        let IpAddr::V6(v6) = address.to_canonical() else { return Self(address.to_canonical()) };
        Self(Ipv6Addr::from_bits(v6.to_bits() & !u128::from(u64::MAX)).into())
    }
}

fn slow_down(why: &str, wait: Duration) -> Problem {
    let message = format!("{why}: try again in {} s", wait.as_secs_f64().ceil());
    Problem { retry_after: Some(wait), ..Problem::new(ErrorCode::RateLimited, message) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    fn fail(throttle: &Throttle, account: &str, from: &str, now: Instant) -> bool {
        throttle.begin(account, address(from), now).map(|attempt| attempt.failed(now)).is_ok()
    }

    #[test]
    fn who_fails_waits_longer_each_time_and_the_owner_elsewhere_does_not() {
        let (throttle, mut now) = (Throttle::default(), Instant::now());
        for _ in 0..5 {
            assert!(fail(&throttle, "admin", "10.0.0.1", now));
        }
        assert!(!fail(&throttle, "ADMIN", "10.0.0.1", now));
        throttle.begin("admin", address("10.0.0.2"), now).unwrap().succeeded();
        now += Duration::from_secs(1);
        assert!(fail(&throttle, "admin", "10.0.0.1", now));
        now += Duration::from_secs(1);
        let refused = throttle.begin("admin", address("10.0.0.1"), now).unwrap_err();
        assert_eq!((refused.code, refused.retry_after), (ErrorCode::RateLimited, Some(FIRST_WAIT)));
        now += FORGOTTEN_AFTER;
        assert!(fail(&throttle, "admin", "10.0.0.1", now));
    }

    #[test]
    fn one_address_cannot_try_many_accounts() {
        let (throttle, now) = (Throttle::default(), Instant::now());
        let tried = (0..100).filter(|n| fail(&throttle, &format!("user{n}"), "10.0.0.1", now)).count();
        assert_eq!(tried as u32, FREE_FOR_ADDRESS);
    }

    #[test]
    fn a_success_forgets_the_failures_of_the_account_only() {
        let (throttle, now) = (Throttle::default(), Instant::now());
        for _ in 0..4 {
            fail(&throttle, "ada", "10.0.0.1", now);
        }
        throttle.begin("ada", address("10.0.0.1"), now).unwrap().succeeded();
        for _ in 0..5 {
            assert!(fail(&throttle, "ada", "10.0.0.1", now));
        }
        assert_eq!(throttle.lock().failures[&(Network::of(address("10.0.0.1")), None)].count, 9);
    }

    #[test]
    fn few_logins_of_one_address_are_under_way_at_once() {
        let (throttle, now) = (Throttle::default(), Instant::now());
        let begin = |from: &str| throttle.begin("a", address(from), now);
        let attempts: Vec<_> = (0..AT_ONCE).map(|_| begin("10.0.0.1").unwrap()).collect();
        assert!(begin("10.0.0.1").is_err());
        assert!(begin("::ffff:10.0.0.1").is_err(), "the same address in another form");
        assert!(begin("10.0.0.2").is_ok());
        drop(attempts);
        assert!(begin("10.0.0.1").is_ok());
        assert!(throttle.lock().under_way.is_empty());
    }

    #[test]
    fn a_network_of_ipv6_is_one_address() {
        assert_eq!(Network::of(address("2001:db8::1")), Network::of(address("2001:db8::ffff")));
        assert_ne!(Network::of(address("2001:db8::1")), Network::of(address("2001:db8:0:1::1")));
    }

    #[test]
    fn the_table_stays_bounded() {
        let (throttle, now) = (Throttle::default(), Instant::now());
        let mut state = throttle.lock();
        for number in 0..2 * MOST {
            let network = Network::of(address("10.0.0.1"));
            state.count((network, Some(number.to_string())), now);
        }
        assert!(state.failures.len() <= MOST);
    }
}
