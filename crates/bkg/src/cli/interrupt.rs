//! Ctrl-C as an event: what is going on is stopped, and the program goes on.
//!
//! The invariants: the signal never ends the process once this listens; whoever works on something that
//! may be interrupted has left here how to stop it, for exactly as long.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use nix::sys::signal::{SigSet, Signal};
use ureq::Agent;

use super::error::CliError;

/// Where Ctrl-C arrives.
#[derive(Clone)]
pub(super) struct Interrupt {
    state: Arc<State>,
}

#[derive(Default)]
struct State {
    /// Whose connections to close. None while nothing is going on.
    current: Mutex<Option<Agent>>,
    came: AtomicBool,
}

/// Work that Ctrl-C stops, until this is dropped.
pub(super) struct Interruptible<'a> {
    interrupt: &'a Interrupt,
}

impl Interrupt {
    /// Listens from now on. `idle` is called where Ctrl-C comes while nothing is going on.
    ///
    /// # Errors
    /// The system does not give a thread, or does not let the signal be held back.
    pub(super) fn listen(idle: impl Fn() + Send + 'static) -> Result<Self, CliError> {
        let interrupt = Self { state: Arc::default() };
        let signals = SigSet::from(Signal::SIGINT);
        // Held back in this thread, and so in all that it starts: `wait` takes it in one of them.
        signals.thread_block().map_err(|error| CliError::Output { source: error.into() })?;
        let listening = interrupt.clone();
        // Nobody awaits the thread: it has nothing to finish, and the process takes it along.
        let listen = move || {
            while signals.wait().is_ok() {
                if !listening.arrived() {
                    idle();
                }
            }
        };
        std::thread::Builder::new()
            .name("interrupts".to_owned())
            .spawn(listen)
            .map_err(|source| CliError::Output { source })?;
        Ok(interrupt)
    }

    /// Work over connections of this agent begins; they are closed if Ctrl-C comes.
    pub(super) fn watch(&self, agent: Agent) -> Interruptible<'_> {
        self.state.came.store(false, Ordering::SeqCst);
        *self.current() = Some(agent);
        Interruptible { interrupt: self }
    }

    /// Whether anything was stopped.
    fn arrived(&self) -> bool {
        let Some(agent) = self.current().take() else { return false };
        self.state.came.store(true, Ordering::SeqCst);
        agent.shutdown();
        true
    }

    fn current(&self) -> std::sync::MutexGuard<'_, Option<Agent>> {
        // The lock guards one assignment, which a panic elsewhere cannot leave half done.
        self.state.current.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Interruptible<'_> {
    /// Whether Ctrl-C came meanwhile.
    pub(super) fn is_interrupted(&self) -> bool {
        self.interrupt.state.came.load(Ordering::SeqCst)
    }
}

impl Drop for Interruptible<'_> {
    fn drop(&mut self) {
        *self.interrupt.current() = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_going_on_is_stopped() {
        let interrupt = Interrupt { state: Arc::default() };
        assert!(!interrupt.arrived());
        {
            let work = interrupt.watch(Agent::new_with_defaults());
            assert!(!work.is_interrupted());
            assert!(interrupt.arrived());
            assert!(work.is_interrupted());
            assert!(!interrupt.arrived(), "once is enough");
        }
        let work = interrupt.watch(Agent::new_with_defaults());
        assert!(!work.is_interrupted(), "the next work is its own");
        drop(work);
        assert!(!interrupt.arrived());
    }
}
