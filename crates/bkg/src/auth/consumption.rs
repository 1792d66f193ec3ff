//! What keys and users have used of what they may, and what is set aside for requests under way.
//!
//! In memory; the sums of the day and the month start with what the usage table says of them. Each key and
//! each user has a lock of its own, which is held for a moment. The invariants: what is used and what is
//! set aside together never exceed a limit; and whatever was set aside is given back exactly once.

use std::collections::HashMap;
use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use jiff::tz::TimeZone;
use tokio::time::Instant;

use super::limits::{LimitReached, Limits, Period, Whose};
use super::window::{MINUTE, Window};
use crate::config::Price;
use crate::money::Money;

const DAY: i64 = 24 * 60 * 60;
/// How many keys and users are remembered before those are forgotten that have used nothing this month.
const MANY: usize = 20_000;

/// Everybody's accounts.
#[derive(Debug, Default)]
pub(super) struct Consumption {
    accounts: Mutex<HashMap<Holder, Arc<Account>>>,
}

/// Who has an account.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Holder {
    /// An API key, by its id.
    Key(Arc<str>),
    /// A user, by name.
    User(Arc<str>),
}

/// What a holder has used of the calendar's day and month.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Spent {
    /// Tokens of today.
    pub tokens_today: u64,
    /// Money of today.
    pub money_today: Money,
    /// Money of this month.
    pub money_this_month: Money,
}

/// What one key or one user has used.
#[derive(Debug)]
pub(super) struct Account {
    whose: Whose,
    /// Whether there are any limits: without them nothing is set aside, and no lock is taken for it.
    is_limited: AtomicBool,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    limits: Limits,
    requests: Option<Box<Window>>,
    tokens: Option<Box<Window>>,
    open_requests: u32,
    open_streams: u32,
    /// What is set aside for requests under way.
    held_tokens: u64,
    held_money: Money,
    calendar: Calendar,
    spent: Spent,
}

/// The day and the month that sums are of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
struct Calendar {
    /// Counted from 1970.
    day: i64,
    /// Counted from the year 0.
    month: i64,
}

/// The accounts that a caller's requests count on: the key's and the user's.
#[derive(Clone, Default)]
pub struct Holders(Arc<[Arc<Account>]>);

/// What a request may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Demand {
    /// Tokens that are read.
    pub prompt_tokens: u64,
    /// Tokens that may be written, where the request says how many.
    pub completion_tokens: Option<u64>,
    /// How many answers are written.
    pub answers: u64,
    /// What tokens may cost.
    pub price: Price,
    /// Whether the answer is a stream.
    pub is_stream: bool,
}

/// What was set aside for one request; dropping it gives everything back.
#[derive(Debug, Default)]
pub struct Reservation {
    holders: Holders,
    held: Vec<Held>,
}

#[derive(Debug)]
struct Held {
    account: Arc<Account>,
    tokens: u64,
    money: Money,
    has_place: bool,
    is_stream: bool,
}

/// How a limit stands, as answers to limited callers say it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Standing {
    /// How much there is.
    pub limit: u64,
    /// How much of it is left.
    pub remaining: u64,
    /// How long until all of it is there again.
    pub reset: Duration,
}

/// The tokens that are set aside for an answer where neither the request nor the key says how many.
const USUAL_ANSWER: u64 = 1_024;

impl Consumption {
    fn lock(&self) -> MutexGuard<'_, HashMap<Holder, Arc<Account>>> {
        self.accounts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Starts with what holders have used so far.
    pub(super) fn restore(&self, spent: impl IntoIterator<Item = (Holder, Spent)>, time: Timestamp) {
        let calendar = Calendar::of(time);
        let mut accounts = self.lock();
        for (holder, spent) in spent {
            let account = accounts.entry(holder).or_insert_with_key(Account::of);
            let mut state = account.lock();
            (state.calendar, state.spent) = (calendar, spent);
        }
    }

    /// The accounts of a caller, whose limits from now on are these.
    pub(super) fn holders<'a>(&self, holders: impl IntoIterator<Item = (Holder, &'a Limits)>) -> Holders {
        let mut accounts = self.lock();
        let open = holders.into_iter().map(|(holder, limits)| {
            let account = Arc::clone(accounts.entry(holder).or_insert_with_key(Account::of));
            account.lock().limits = *limits;
            account.is_limited.store(*limits != Limits::default(), Ordering::Relaxed);
            account
        });
        let holders = Holders(open.collect());
        if accounts.len() > MANY {
            let calendar = Calendar::of(Timestamp::now());
            accounts.retain(|_, account| Arc::strong_count(account) > 1 || account.counts_in(calendar));
        }
        holders
    }

    /// The accounts of somebody who is known by key and user alone.
    pub(super) fn known(&self, holders: impl IntoIterator<Item = Holder>) -> Holders {
        let accounts = self.lock();
        Holders(holders.into_iter().filter_map(|holder| accounts.get(&holder).cloned()).collect())
    }
}

impl Account {
    fn of(holder: &Holder) -> Arc<Self> {
        let whose = match holder {
            Holder::Key(_) => Whose::Key,
            Holder::User(_) => Whose::User,
        };
        Arc::new(Self { whose, is_limited: AtomicBool::new(false), state: Mutex::default() })
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn is_limited(&self) -> bool {
        self.is_limited.load(Ordering::Relaxed)
    }

    fn counts_in(&self, calendar: Calendar) -> bool {
        let state = self.lock();
        state.calendar.month == calendar.month && state.spent != Spent::default()
    }
}

impl Holders {
    /// Whether any of them has limits.
    pub fn are_limited(&self) -> bool {
        self.0.iter().any(|account| account.is_limited())
    }

    /// Counts a request.
    ///
    /// # Errors
    /// [`LimitReached::Requests`]; a request that is refused is not counted.
    pub(super) fn count_request(&self, now: Instant) -> Result<(), LimitReached> {
        if !self.are_limited() {
            return Ok(());
        }
        // Both locks at once, always in the same order, so that who is refused by one is not counted on the other.
        let mut states: Vec<_> = self.0.iter().map(|account| (account.whose, account.lock())).collect();
        for (whose, state) in &mut states {
            let Some(most) = state.limits.requests_per_minute else { continue };
            let window = state.requests.get_or_insert_with(|| Box::new(Window::new(now)));
            if window.sum(now) >= most.into() {
                let wait = match most.checked_sub(1) {
                    Some(room) => window.wait_for(room.into(), now),
                    None => MINUTE,
                };
                return Err(LimitReached::Requests { whose: *whose, most, wait });
            }
        }
        for (_, state) in &mut states {
            if state.limits.requests_per_minute.is_some()
                && let Some(window) = &mut state.requests
            {
                window.add(1, now);
            }
        }
        Ok(())
    }

    /// Sets aside what a request may take; with `has_place` it takes one of the places of requests too.
    ///
    /// # Errors
    /// The first limit that it does not fit into; nothing is set aside then.
    pub(super) fn reserve(
        &self,
        demand: &Demand,
        has_place: bool,
        now: Instant,
        time: impl FnOnce() -> Timestamp,
    ) -> Result<Reservation, LimitReached> {
        // What is set aside with one account before the other refuses goes back when this is dropped.
        let mut reservation = Reservation { holders: self.clone(), held: Vec::new() };
        if !self.are_limited() {
            return Ok(reservation);
        }
        let time = time();
        for account in self.0.iter().filter(|account| account.is_limited()) {
            let mut state = account.lock();
            let (tokens, money) = state.take(account.whose, demand, has_place, now, time)?;
            drop(state);
            let is_stream = demand.is_stream;
            reservation.held.push(Held {
                account: Arc::clone(account),
                tokens,
                money,
                has_place,
                is_stream,
            });
        }
        Ok(reservation)
    }

    /// Sets aside what a request may take that a plugin makes for whoever it works for.
    ///
    /// # Errors
    /// The first limit that it does not fit into; nothing is set aside then.
    pub fn reserve_on_behalf(&self, demand: &Demand) -> Result<Reservation, LimitReached> {
        self.reserve(demand, false, Instant::now(), Timestamp::now)
    }

    /// How many requests are left of this minute, where that is limited.
    pub fn requests(&self, now: Instant) -> Option<Standing> {
        self.tightest(|state| state.requests_standing(now))
    }

    /// How many tokens are left of this minute, or else of today, where that is limited.
    pub fn tokens(&self, now: Instant, time: Timestamp) -> Option<Standing> {
        self.tightest(|state| state.tokens_standing(now, time))
    }

    fn tightest(&self, standing: impl Fn(&mut State) -> Option<Standing>) -> Option<Standing> {
        let limited = self.0.iter().filter(|account| account.is_limited());
        let standings = limited.filter_map(|account| standing(&mut account.lock()));
        standings.min_by_key(|standing| (standing.remaining, standing.limit))
    }
}

/// Which accounts a caller's requests count on says nothing about what the caller may do.
impl PartialEq for Holders {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl fmt::Debug for Holders {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "Holders({})", self.0.len())
    }
}

impl State {
    /// Sets the sums to nothing that are of an earlier day or month.
    fn turn_page(&mut self, time: Timestamp) {
        if day_of(time) == self.calendar.day {
            return;
        }
        let calendar = Calendar::of(time);
        // A clock that goes back finds the sums of the day that it left.
        if calendar.day < self.calendar.day {
            return;
        }
        (self.spent.tokens_today, self.spent.money_today) = (0, Money::ZERO);
        if calendar.month != self.calendar.month {
            self.spent.money_this_month = Money::ZERO;
        }
        self.calendar = calendar;
    }

    fn take(
        &mut self,
        whose: Whose,
        demand: &Demand,
        has_place: bool,
        now: Instant,
        time: Timestamp,
    ) -> Result<(u64, Money), LimitReached> {
        self.turn_page(time);
        let limits = self.limits;
        if has_place {
            if let Some(most) = limits.concurrent_requests.filter(|most| self.open_requests >= *most) {
                return Err(LimitReached::ConcurrentRequests { whose, most });
            }
            if let Some(most) =
                limits.concurrent_streams.filter(|most| demand.is_stream && self.open_streams >= *most)
            {
                return Err(LimitReached::ConcurrentStreams { whose, most });
            }
        }
        let written = demand.completion_tokens.or(limits.max_tokens).unwrap_or(USUAL_ANSWER);
        let written = written.saturating_mul(demand.answers);
        let tokens = demand.prompt_tokens.saturating_add(written);
        self.check_minute(whose, tokens, now)?;
        self.check_day(whose, tokens, time)?;
        let money = demand.price.of(demand.prompt_tokens, written);
        self.check_budget(whose, money, time)?;
        self.held_tokens = self.held_tokens.saturating_add(tokens);
        self.held_money = self.held_money.plus(money);
        self.open_requests += u32::from(has_place);
        self.open_streams += u32::from(has_place && demand.is_stream);
        Ok((tokens, money))
    }

    fn check_minute(&mut self, whose: Whose, wanted: u64, now: Instant) -> Result<(), LimitReached> {
        let Some(most) = self.limits.tokens_per_minute else { return Ok(()) };
        let Some(room) = most.checked_sub(wanted) else {
            let (wanted, most) = (format!("{wanted} tokens"), most.to_string());
            return Err(LimitReached::TooLarge { whose, wanted, most, per: "in a minute" });
        };
        let window = self.tokens.get_or_insert_with(|| Box::new(Window::new(now)));
        let used = window.sum(now);
        if used > room || (wanted == 0 && used >= most) {
            let wait = window.wait_for(room.min(most.saturating_sub(1)), now);
            return Err(LimitReached::TokensPerMinute { whose, most, wanted, wait });
        }
        if used.saturating_add(self.held_tokens) > room {
            return Err(LimitReached::SetAside { whose, what: "its tokens of this minute" });
        }
        Ok(())
    }

    fn check_day(&self, whose: Whose, wanted: u64, time: Timestamp) -> Result<(), LimitReached> {
        let Some(most) = self.limits.tokens_per_day else { return Ok(()) };
        if wanted > most {
            let (wanted, most) = (format!("{wanted} tokens"), most.to_string());
            return Err(LimitReached::TooLarge { whose, wanted, most, per: "in a day" });
        }
        let left = most.saturating_sub(self.spent.tokens_today);
        if left == 0 || wanted > left {
            let wait = until_next(Period::Day, time);
            return Err(LimitReached::TokensPerDay { whose, most, left, wanted, wait });
        }
        if self.held_tokens.saturating_add(wanted) > left {
            return Err(LimitReached::SetAside { whose, what: "its tokens of today" });
        }
        Ok(())
    }

    fn check_budget(&self, whose: Whose, wanted: Money, time: Timestamp) -> Result<(), LimitReached> {
        let Some(budget) = self.limits.budget else { return Ok(()) };
        let (amount, per) = (budget.amount, budget.per);
        let (spent, in_words) = match per {
            Period::Day => (self.spent.money_today, "in a day"),
            Period::Month => (self.spent.money_this_month, "in a month"),
        };
        if wanted > amount {
            let (wanted, most) = (wanted.to_string(), amount.to_string());
            return Err(LimitReached::TooLarge { whose, wanted, most, per: in_words });
        }
        let left = amount.minus(spent);
        if left == Money::ZERO || wanted > left {
            let wait = until_next(per, time);
            return Err(LimitReached::Budget { whose, amount, per, left, wanted, wait });
        }
        if self.held_money.plus(wanted) > left {
            return Err(LimitReached::SetAside { whose, what: "its budget" });
        }
        Ok(())
    }

    fn requests_standing(&mut self, now: Instant) -> Option<Standing> {
        let limit = self.limits.requests_per_minute?;
        let window = self.requests.get_or_insert_with(|| Box::new(Window::new(now)));
        let remaining = u64::from(limit).saturating_sub(window.sum(now));
        Some(Standing { limit: limit.into(), remaining, reset: window.wait_for(0, now) })
    }

    fn tokens_standing(&mut self, now: Instant, time: Timestamp) -> Option<Standing> {
        self.turn_page(time);
        let held = self.held_tokens;
        let of_minute = self.limits.tokens_per_minute.map(|limit| {
            let window = self.tokens.get_or_insert_with(|| Box::new(Window::new(now)));
            let used = window.sum(now).saturating_add(held);
            // What is set aside now leaves the minute sixty seconds after it was used.
            let reset = if held > 0 { MINUTE } else { window.wait_for(0, now) };
            Standing { limit, remaining: limit.saturating_sub(used), reset }
        });
        let of_day = self.limits.tokens_per_day.map(|limit| {
            let used = self.spent.tokens_today.saturating_add(held);
            let reset = if used > 0 { until_next(Period::Day, time) } else { Duration::ZERO };
            Standing { limit, remaining: limit.saturating_sub(used), reset }
        });
        [of_minute, of_day].into_iter().flatten().min_by_key(|standing| standing.remaining)
    }
}

impl Reservation {
    /// Whether a limit knows of it.
    pub fn is_held(&self) -> bool {
        !self.held.is_empty()
    }

    /// Counts what the request really took, which began at `began`, and gives back what was set aside.
    pub fn settle(mut self, tokens: u64, money: Money, began: Timestamp, now: Instant) {
        for account in &*self.holders.0 {
            let held = self.held.iter().position(|held| Arc::ptr_eq(&held.account, account));
            let held = held.map(|index| self.held.swap_remove(index));
            if held.is_none() && tokens == 0 && money == Money::ZERO {
                continue;
            }
            // In one moment: in between it must look neither as if there were more nor as if there were less.
            let mut state = account.lock();
            state.count(tokens, money, began, now);
            if let Some(held) = held {
                state.give_back(&held);
            }
        }
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        for held in self.held.drain(..) {
            held.account.lock().give_back(&held);
        }
    }
}

impl State {
    fn count(&mut self, tokens: u64, money: Money, began: Timestamp, now: Instant) {
        self.turn_page(began);
        if self.limits.tokens_per_minute.is_some() {
            self.tokens.get_or_insert_with(|| Box::new(Window::new(now))).add(tokens, now);
        }
        // As the rows in the table have it: a request belongs to the day on which it began.
        if self.calendar.day == day_of(began) {
            self.spent.tokens_today = self.spent.tokens_today.saturating_add(tokens);
            self.spent.money_today = self.spent.money_today.plus(money);
        }
        if money > Money::ZERO && self.calendar.month == Calendar::of(began).month {
            self.spent.money_this_month = self.spent.money_this_month.plus(money);
        }
    }

    fn give_back(&mut self, held: &Held) {
        self.held_tokens = self.held_tokens.saturating_sub(held.tokens);
        self.held_money = self.held_money.minus(held.money);
        self.open_requests -= u32::from(held.has_place);
        self.open_streams -= u32::from(held.has_place && held.is_stream);
    }
}

impl Calendar {
    fn of(time: Timestamp) -> Self {
        let date = time.to_zoned(TimeZone::UTC);
        Self { day: day_of(time), month: i64::from(date.year()) * 12 + i64::from(date.month()) }
    }
}

/// The day in UTC, counted from 1970.
fn day_of(time: Timestamp) -> i64 {
    time.as_second().div_euclid(DAY)
}

fn until_next(period: Period, time: Timestamp) -> Duration {
    let today = time.to_zoned(TimeZone::UTC).date();
    let first = match period {
        Period::Day => today,
        Period::Month => today.last_of_month(),
    };
    let next = first.tomorrow().and_then(|day| day.to_zoned(TimeZone::UTC)).map(|day| day.timestamp());
    let wait = next.map_or(DAY, |next| next.as_second() - time.as_second());
    Duration::from_secs(wait.max(1).unsigned_abs())
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    struct Case {
        consumption: Consumption,
        holders: Holders,
        now: Instant,
    }

    impl Case {
        fn new(key: Value, user: Value) -> Self {
            let consumption = Consumption::default();
            let holders = holders(&consumption, key, user);
            Self { consumption, holders, now: Instant::now() }
        }

        fn reserve(&self, demand: &Demand) -> Result<Reservation, LimitReached> {
            self.reserve_at(demand, at(1_000))
        }

        fn reserve_at(&self, demand: &Demand, time: Timestamp) -> Result<Reservation, LimitReached> {
            self.holders.reserve(demand, true, self.now, || time)
        }

        fn use_up(&self, tokens: u64) {
            self.use_at(tokens, Money::ZERO, at(1_000));
        }

        fn use_at(&self, tokens: u64, money: Money, time: Timestamp) {
            let reservation = Reservation { holders: self.holders.clone(), held: Vec::new() };
            reservation.settle(tokens, money, time, self.now);
        }
    }

    fn holders(consumption: &Consumption, key: Value, user: Value) -> Holders {
        let [key, user] = [key, user].map(|limits| serde_json::from_value::<Limits>(limits).unwrap());
        consumption.holders([(Holder::Key("k".into()), &key), (Holder::User("ada".into()), &user)])
    }

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    fn demand(prompt: u64, completion: u64) -> Demand {
        Demand {
            prompt_tokens: prompt,
            completion_tokens: Some(completion),
            answers: 1,
            ..Demand::default()
        }
    }

    #[test]
    fn a_key_makes_as_many_requests_in_a_minute_as_it_may() {
        let case = Case::new(json!({ "requestsPerMinute": 3 }), json!({}));
        let later = |seconds| case.now + Duration::from_secs(seconds);
        for second in 0..3 {
            case.holders.count_request(later(second * 10)).unwrap();
        }
        let error = case.holders.count_request(later(30)).unwrap_err();
        assert_eq!(
            error,
            LimitReached::Requests { whose: Whose::Key, most: 3, wait: Duration::from_secs(31) }
        );
        let standing = case.holders.requests(later(30)).unwrap();
        assert_eq!((standing.limit, standing.remaining), (3, 0));
        case.holders.count_request(later(61)).unwrap();
        case.holders.count_request(later(61)).unwrap_err();
        // Another limit is the same measure.
        holders(&case.consumption, json!({ "requestsPerMinute": 4 }), json!({}));
        case.holders.count_request(later(61)).unwrap();
        case.holders.count_request(later(61)).unwrap_err();
    }

    #[test]
    fn who_is_refused_by_the_users_limit_is_not_counted_on_the_key() {
        let case = Case::new(json!({ "requestsPerMinute": 2 }), json!({ "requestsPerMinute": 1 }));
        case.holders.count_request(case.now).unwrap();
        let error = case.holders.count_request(case.now).unwrap_err();
        assert!(matches!(error, LimitReached::Requests { whose: Whose::User, .. }), "{error}");
        holders(&case.consumption, json!({ "requestsPerMinute": 2 }), json!({}));
        case.holders.count_request(case.now).unwrap();
    }

    #[test]
    fn what_is_set_aside_and_what_is_used_never_exceed_the_limit() {
        let case = Case::new(json!({ "tokensPerMinute": 100 }), json!({}));
        let first = case.reserve(&demand(10, 40)).unwrap();
        let second = case.reserve(&demand(10, 40)).unwrap();
        assert!(matches!(case.reserve(&demand(1, 0)), Err(LimitReached::SetAside { .. })));
        drop(first);
        let third = case.reserve(&demand(0, 50)).unwrap();
        third.settle(60, Money::ZERO, at(1_000), case.now);
        assert!(matches!(case.reserve(&demand(1, 0)), Err(LimitReached::SetAside { .. })));
        second.settle(30, Money::ZERO, at(1_000), case.now);
        case.reserve(&demand(10, 0)).unwrap();
        let error = case.reserve(&demand(11, 0)).unwrap_err();
        assert!(
            matches!(error, LimitReached::TokensPerMinute { most: 100, wanted: 11, wait, .. } if wait == MINUTE),
            "{error}"
        );
        let error = case.reserve(&demand(101, 0)).unwrap_err();
        assert!(matches!(error, LimitReached::TooLarge { .. }) && error.wait().is_none(), "{error}");
        let standing = case.holders.tokens(case.now, at(1_000)).unwrap();
        assert_eq!((standing.limit, standing.remaining), (100, 10));
    }

    #[test]
    fn the_tighter_of_key_and_user_holds_and_a_refusal_sets_nothing_aside() {
        let case = Case::new(json!({ "tokensPerDay": 1_000 }), json!({ "tokensPerDay": 50 }));
        let error = case.reserve(&demand(0, 60)).unwrap_err();
        assert!(matches!(error, LimitReached::TooLarge { whose: Whose::User, .. }), "{error}");
        assert_eq!(case.holders.tokens(case.now, at(1_000)).unwrap().limit, 50);
        holders(&case.consumption, json!({ "tokensPerDay": 1_000 }), json!({}));
        assert_eq!(case.holders.tokens(case.now, at(1_000)).unwrap().remaining, 1_000);
        case.reserve(&demand(0, 1_000)).unwrap();
    }

    #[test]
    fn tokens_count_until_the_end_of_the_day_and_survive_a_restart() {
        let case = Case::new(json!({ "tokensPerDay": 100 }), json!({}));
        let spent = Spent { tokens_today: 60, ..Spent::default() };
        case.consumption.restore([(Holder::Key("k".into()), spent)], at(DAY - 10));
        case.use_at(39, Money::ZERO, at(DAY - 10));
        case.reserve_at(&demand(1, 0), at(DAY - 10)).unwrap();
        case.use_at(1, Money::ZERO, at(DAY - 10));
        let error = case.reserve_at(&demand(0, 0), at(DAY - 10)).unwrap_err();
        assert!(
            matches!(error, LimitReached::TokensPerDay { most: 100, wait, .. } if wait.as_secs() == 10),
            "{error}"
        );
        let today = case.reserve_at(&demand(0, 100), at(DAY)).unwrap();
        // What began yesterday is of yesterday.
        case.use_at(5, Money::ZERO, at(DAY - 1));
        today.settle(99, Money::ZERO, at(DAY), case.now);
        case.reserve_at(&demand(1, 0), at(DAY)).unwrap();
    }

    #[test]
    fn a_budget_holds_for_its_day_or_month() {
        let case = Case::new(json!({ "budget": { "amount": 1, "per": "month" } }), json!({}));
        let price =
            Price { input_per_million: Money::ZERO, output_per_million: Money::from_micros(1_000_000) };
        let demand = |tokens| Demand { price, ..demand(0, tokens) };
        let time: Timestamp = "2026-02-27T23:59:00Z".parse().unwrap();
        let half = case.reserve_at(&demand(500_000), time).unwrap();
        assert!(matches!(case.reserve_at(&demand(500_001), time), Err(LimitReached::SetAside { .. })));
        half.settle(500_000, Money::from_micros(500_000), time, case.now);
        let error = case.reserve_at(&demand(500_001), time).unwrap_err();
        let LimitReached::Budget { left, wait, .. } = error else { panic!("{error}") };
        assert_eq!((left, wait.as_secs()), (Money::from_micros(500_000), 24 * 60 * 60 + 60));
        let march: Timestamp = "2026-03-01T00:00:00Z".parse().unwrap();
        case.reserve_at(&demand(1_000_000), march).unwrap();
    }

    #[test]
    fn places_are_taken_and_given_back() {
        let case = Case::new(json!({ "concurrentRequests": 2, "concurrentStreams": 1 }), json!({}));
        let stream = Demand { is_stream: true, ..Demand::default() };
        let first = case.reserve(&stream).unwrap();
        assert!(matches!(case.reserve(&stream), Err(LimitReached::ConcurrentStreams { most: 1, .. })));
        let second = case.reserve(&Demand::default()).unwrap();
        let error = case.reserve(&Demand::default()).unwrap_err();
        assert!(matches!(error, LimitReached::ConcurrentRequests { most: 2, .. }), "{error}");
        // What a plugin asks on the key's behalf has its place already.
        case.holders.reserve(&Demand::default(), false, case.now, || at(1)).unwrap();
        drop(second);
        first.settle(0, Money::ZERO, at(1), case.now);
        case.reserve(&stream).unwrap();
    }

    #[test]
    fn what_was_used_without_a_limit_counts_when_there_is_one() {
        let case = Case::new(json!({}), json!({}));
        assert!(!case.reserve(&demand(1_000, 0)).unwrap().is_held());
        case.use_up(90);
        holders(&case.consumption, json!({}), json!({ "tokensPerDay": 100 }));
        assert!(matches!(case.reserve(&demand(11, 0)), Err(LimitReached::TokensPerDay { left: 10, .. })));
        assert!(case.reserve(&demand(10, 0)).unwrap().is_held());
    }
}
