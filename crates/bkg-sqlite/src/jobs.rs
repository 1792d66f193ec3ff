//! The kinds of job: one whose caller waits for its value, one that may also draw on the reserve, one
//! that nobody waits for.
//!
//! Not when they run. The invariant: a value reaches the caller only with the news that it is on the
//! disk, and what runs a second time left nothing of the first. The database's handle makes them.

use rusqlite::Connection;
use tokio::sync::oneshot;

use crate::error::DatabaseError;
use crate::queue::{Job, Verdict};

/// A job whose caller waits.
pub(crate) struct Awaited<F, T, E> {
    state: State<F, T, E>,
    /// The caller may have left: then nobody is told.
    caller: oneshot::Sender<Result<T, E>>,
}

enum State<F, T, E> {
    Waiting(F),
    /// Also while it runs: what panics stays here.
    Lost,
    Ran(Result<T, E>),
}

impl<F, T, E> Awaited<F, T, E> {
    pub(crate) fn new(work: F) -> (Self, oneshot::Receiver<Result<T, E>>) {
        let (caller, outcome) = oneshot::channel();
        (Self { state: State::Waiting(work), caller }, outcome)
    }
}

impl<F, T, E> Job for Awaited<F, T, E>
where
    F: FnOnce(&Connection) -> Result<T, E> + Send,
    T: Send,
    E: From<DatabaseError> + Send,
{
    fn run(&mut self, connection: &Connection) -> Verdict {
        let State::Waiting(work) = std::mem::replace(&mut self.state, State::Lost) else {
            return Verdict::Undo;
        };
        let outcome = work(connection);
        let verdict = if outcome.is_ok() { Verdict::Keep } else { Verdict::Undo };
        self.state = State::Ran(outcome);
        verdict
    }

    fn settle(self: Box<Self>, outcome: Result<(), DatabaseError>) {
        let answer = match (self.state, outcome) {
            // Its own error says more than that of its transaction.
            (State::Ran(Err(error)), _) => Err(error),
            (State::Ran(Ok(value)), Ok(())) => Ok(value),
            (_, Err(error)) => Err(error.into()),
            (State::Waiting(_) | State::Lost, Ok(())) => Err(DatabaseError::Lost.into()),
        };
        let _ = self.caller.send(answer);
    }
}

/// A job whose caller waits, and that runs again where the disk failed at it.
pub(crate) struct Needed<F, T, E> {
    work: F,
    /// Of its last run; what panics leaves none.
    outcome: Option<Result<T, E>>,
    /// The caller may have left: then nobody is told.
    caller: oneshot::Sender<Result<T, E>>,
}

impl<F, T, E> Needed<F, T, E> {
    pub(crate) fn new(work: F) -> (Self, oneshot::Receiver<Result<T, E>>) {
        let (caller, outcome) = oneshot::channel();
        (Self { work, outcome: None, caller }, outcome)
    }
}

impl<F, T, E> Job for Needed<F, T, E>
where
    F: FnMut(&Connection) -> Result<T, E> + Send,
    T: Send,
    E: From<DatabaseError> + Send,
{
    fn run(&mut self, connection: &Connection) -> Verdict {
        self.outcome = None;
        let outcome = (self.work)(connection);
        let verdict = if outcome.is_ok() { Verdict::Keep } else { Verdict::Undo };
        self.outcome = Some(outcome);
        verdict
    }

    fn draws_on_the_reserve(&self) -> bool {
        true
    }

    fn settle(self: Box<Self>, outcome: Result<(), DatabaseError>) {
        let answer = match (self.outcome, outcome) {
            // Its own error says more than that of its transaction.
            (Some(Err(error)), _) => Err(error),
            (Some(Ok(value)), Ok(())) => Ok(value),
            (_, Err(error)) => Err(error.into()),
            (None, Ok(())) => Err(DatabaseError::Lost.into()),
        };
        let _ = self.caller.send(answer);
    }
}

/// A job that nobody waits for.
pub(crate) struct Posted<F> {
    work: Option<F>,
}

impl<F> Posted<F> {
    pub(crate) fn new(work: F) -> Self {
        Self { work: Some(work) }
    }
}

impl<F: FnOnce(&Connection) -> rusqlite::Result<()> + Send> Job for Posted<F> {
    fn run(&mut self, connection: &Connection) -> Verdict {
        let Some(work) = self.work.take() else { return Verdict::Undo };
        match work(connection) {
            Ok(()) => Verdict::Keep,
            Err(error) => {
                tracing::warn!(%error, "something that nobody waits for could not be written");
                Verdict::Undo
            }
        }
    }

    /// The writer has logged whatever is to be said.
    fn settle(self: Box<Self>, _: Result<(), DatabaseError>) {}
}
