//! How many requests an upstream gets at a time.
//!
//! The invariant: no more passes are out than the limit that held when the last one was given, and those
//! who wait get theirs in the order in which they came. The limit may change at any time; passes that
//! are out stay good. Who gives up waiting takes nobody's place.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::time::timeout;

/// How many may wait, and for how long: as many and as long as in the host's own queues.
const MOST_WAITING: usize = 256;
const WAITS: Duration = Duration::from_secs(10);

/// The gate of one upstream.
#[derive(Debug)]
pub(crate) struct Gate {
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    limit: usize,
    running: usize,
    waiting: VecDeque<oneshot::Sender<Pass>>,
}

/// The right to ask the upstream; its end makes place for the next.
#[derive(Debug)]
pub(crate) struct Pass(Arc<Gate>);

/// Why there is no pass.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Full {
    /// Too many wait already.
    Line,
    /// The wait was too long.
    Waited,
}

impl Gate {
    /// A gate with this limit; without one, it is open.
    pub(crate) fn new(limit: Option<u32>) -> Arc<Self> {
        let state = State { limit: most(limit), running: 0, waiting: VecDeque::new() };
        Arc::new(Self { state: Mutex::new(state) })
    }

    /// Changes the limit.
    pub(crate) fn set_limit(self: &Arc<Self>, limit: Option<u32>) {
        self.lock().limit = most(limit);
        self.admit();
    }

    /// A pass, as soon as there is one.
    pub(crate) async fn enter(self: &Arc<Self>) -> Result<Pass, Full> {
        let turn = {
            let mut state = self.lock();
            if state.running < state.limit {
                state.running += 1;
                return Ok(Pass(self.clone()));
            }
            state.waiting.retain(|waiting| !waiting.is_closed());
            if state.waiting.len() >= MOST_WAITING {
                return Err(Full::Line);
            }
            let (sender, turn) = oneshot::channel();
            state.waiting.push_back(sender);
            turn
        };
        match timeout(WAITS, turn).await {
            Ok(Ok(pass)) => Ok(pass),
            _ => Err(Full::Waited),
        }
    }

    /// How many ask now, and how many wait.
    pub(crate) fn load(&self) -> (usize, usize) {
        let state = self.lock();
        (state.running, state.waiting.iter().filter(|waiting| !waiting.is_closed()).count())
    }

    fn admit(self: &Arc<Self>) {
        loop {
            let next = {
                let mut state = self.lock();
                if state.running >= state.limit {
                    return;
                }
                let Some(next) = state.waiting.pop_front() else { return };
                if next.is_closed() {
                    continue;
                }
                state.running += 1;
                next
            };
            // Who gave up in this very moment drops the pass, which admits the next one.
            let _ = next.send(Pass(self.clone()));
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("nothing panics under this lock")
    }
}

impl Drop for Pass {
    fn drop(&mut self) {
        self.0.lock().running -= 1;
        self.0.admit();
    }
}

fn most(limit: Option<u32>) -> usize {
    limit.map_or(usize::MAX, |limit| limit as usize)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn no_more_are_inside_than_the_limit_and_who_came_first_goes_first() {
        let gate = Gate::new(Some(1));
        let inside = gate.enter().await.unwrap();
        let first = tokio::spawn({
            let gate = gate.clone();
            async move { gate.enter().await }
        });
        while gate.load() != (1, 1) {
            tokio::task::yield_now().await;
        }
        let second = tokio::spawn({
            let gate = gate.clone();
            async move { gate.enter().await }
        });
        while gate.load() != (1, 2) {
            tokio::task::yield_now().await;
        }
        drop(inside);
        let pass = first.await.unwrap().unwrap();
        assert_eq!(gate.load(), (1, 1));
        drop(pass);
        drop(second.await.unwrap().unwrap());
        assert_eq!(gate.load(), (0, 0));
    }

    #[tokio::test]
    async fn who_gives_up_waiting_takes_nobodys_place() {
        let gate = Gate::new(Some(1));
        let inside = gate.enter().await.unwrap();
        {
            let mut waiting = Box::pin(gate.enter());
            assert!(futures_poll(&mut waiting).await.is_none());
            assert_eq!(gate.load(), (1, 1));
        }
        assert_eq!(gate.load(), (1, 0));
        drop(inside);
        assert_eq!(gate.load(), (0, 0));
        assert!(gate.enter().await.is_ok());
    }

    #[tokio::test(start_paused = true)]
    async fn waiting_is_bounded_in_number_and_time() {
        let gate = Gate::new(Some(1));
        let _inside = gate.enter().await.unwrap();
        let mut waiting: Vec<_> = (0..MOST_WAITING).map(|_| Box::pin(gate.enter())).collect();
        for one in &mut waiting {
            assert!(futures_poll(one).await.is_none());
        }
        assert_eq!(gate.enter().await.unwrap_err(), Full::Line);
        assert_eq!(waiting.remove(0).await.unwrap_err(), Full::Waited);
    }

    #[tokio::test]
    async fn a_limit_that_is_raised_admits_at_once_and_one_that_is_lowered_holds_for_the_next() {
        let gate = Gate::new(Some(1));
        let first = gate.enter().await.unwrap();
        let mut waiting = Box::pin(gate.enter());
        assert!(futures_poll(&mut waiting).await.is_none());
        gate.set_limit(Some(2));
        let second = waiting.await.unwrap();
        gate.set_limit(Some(1));
        drop(first);
        let mut third = Box::pin(gate.enter());
        assert!(futures_poll(&mut third).await.is_none());
        drop(second);
        assert!(third.await.is_ok());
    }

    /// What a future is worth at one look.
    async fn futures_poll<F: Future + Unpin>(future: &mut F) -> Option<F::Output> {
        tokio::select! {
            biased;
            output = future => Some(output),
            () = std::future::ready(()) => None,
        }
    }
}
