//! The one thread that writes: jobs share a transaction, and are answered when it is on disk.
//!
//! A commit to a disk costs milliseconds, so jobs that wait are committed together. The invariant:
//! a job hears of its success after the commit that holds it has been fsynced, never before.

use std::any::Any;
use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rusqlite::Connection;
use tokio::sync::OwnedSemaphorePermit;

use crate::error::DatabaseError;

/// How many jobs may wait: a further `write` waits for room, a further `post` is refused.
pub(crate) const QUEUE: usize = 1_024;
/// How many jobs one transaction holds.
const BATCH: usize = 512;
/// How long a job for which nobody waits may wait for others to be committed with.
pub const POST_WITHIN: Duration = Duration::from_secs(1);

/// What is left of a job after it ran: to be told how the commit went.
pub(crate) type Deliver = Box<dyn FnOnce(Result<(), DatabaseError>) + Send>;

/// Work for which somebody waits; it gets the connection, or why there is no transaction.
pub(crate) type Awaited = Box<dyn FnOnce(Result<&Connection, DatabaseError>) -> Ran + Send>;

/// Work for which nobody waits.
pub(crate) type Post = Box<dyn FnOnce(&Connection) -> rusqlite::Result<()> + Send>;

/// Something to do with the writing connection.
pub(crate) enum Work {
    /// Somebody waits for it, and is also told where it cannot even begin.
    Awaited(Awaited),
    /// Nobody does.
    Posted(Post),
}

/// Work with its place in the queue, which it keeps until it is taken out.
pub(crate) struct Job {
    pub(crate) work: Work,
    pub(crate) place: OwnedSemaphorePermit,
}

/// How a job went, before its transaction is committed.
pub(crate) enum Ran {
    /// Keep what it did; `Deliver` hears of the commit.
    Kept(Deliver),
    /// Undo what it did; whoever waits has been told.
    Undone,
}

/// What waits for the writer.
#[derive(Default)]
pub(crate) struct Queue {
    waiting: Mutex<Waiting>,
    arrived: Condvar,
    commits: AtomicU64,
}

#[derive(Default)]
struct Waiting {
    jobs: VecDeque<Job>,
    closed: bool,
}

impl Queue {
    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds a job; answers whether the writer will still do it.
    pub(crate) fn push(&self, job: Job) -> bool {
        let mut waiting = self.lock();
        if waiting.closed {
            return false;
        }
        waiting.jobs.push_back(job);
        drop(waiting);
        self.arrived.notify_one();
        true
    }

    pub(crate) fn commits(&self) -> u64 {
        self.commits.load(Ordering::Relaxed)
    }

    /// Nothing more comes: the writer ends after what waits.
    pub(crate) fn close(&self) {
        self.lock().closed = true;
        self.arrived.notify_one();
    }

    /// The next jobs to commit together: at once if somebody waits for one of them, else when they are
    /// due. `None` when nothing more comes.
    fn next(&self) -> Option<Vec<Job>> {
        let mut waiting = self.lock();
        while waiting.jobs.is_empty() {
            if waiting.closed {
                return None;
            }
            waiting = self.arrived.wait(waiting).unwrap_or_else(PoisonError::into_inner);
        }
        let due = Instant::now() + POST_WITHIN;
        loop {
            let is_urgent = waiting.closed
                || waiting.jobs.len() >= BATCH
                || waiting.jobs.iter().any(|job| matches!(job.work, Work::Awaited(_)));
            let left = due.saturating_duration_since(Instant::now());
            if is_urgent || left.is_zero() {
                break;
            }
            waiting = self.arrived.wait_timeout(waiting, left).unwrap_or_else(PoisonError::into_inner).0;
        }
        let count = waiting.jobs.len().min(BATCH);
        Some(waiting.jobs.drain(..count).collect())
    }
}

pub(crate) fn start(connection: Connection, queue: Arc<Queue>) -> std::io::Result<JoinHandle<Connection>> {
    std::thread::Builder::new().name("sqlite".to_owned()).spawn(move || {
        while let Some(batch) = queue.next() {
            if commit(&connection, batch) {
                queue.commits.fetch_add(1, Ordering::Relaxed);
            }
        }
        connection
    })
}

/// Carries a batch out, commits it, and answers; says whether something was committed.
fn commit(connection: &Connection, batch: Vec<Job>) -> bool {
    let mut jobs = batch.into_iter();
    let mut has_committed = false;
    while jobs.len() > 0 {
        has_committed |= commit_some(connection, &mut jobs);
    }
    has_committed
}

/// Carries jobs out in one transaction, until none is left or SQLite gives the transaction up: it does
/// where the disk is full or broken.
fn commit_some(connection: &Connection, jobs: &mut std::vec::IntoIter<Job>) -> bool {
    if let Err(error) = connection.execute_batch("BEGIN IMMEDIATE") {
        refuse(jobs, &error);
        return false;
    }
    let mut kept: Vec<Deliver> = Vec::new();
    for Job { work, place } in jobs.by_ref() {
        drop(place);
        match work {
            Work::Awaited(work) => {
                let ran = in_savepoint(connection, || {
                    let ran = work(Ok(connection));
                    let keep = matches!(ran, Ran::Kept(_));
                    (ran, keep)
                });
                if let Some(Ran::Kept(deliver)) = ran {
                    kept.push(deliver);
                }
            }
            Work::Posted(work) => {
                let done = in_savepoint(connection, || {
                    let done = work(connection);
                    let keep = done.is_ok();
                    (done, keep)
                });
                if let Some(Err(error)) = done {
                    tracing::warn!(%error, "something that nobody waits for could not be written");
                }
            }
        }
        if connection.is_autocommit() {
            break;
        }
    }
    // Where the transaction is gone, this fails, and all that was in it is answered so.
    let committed = connection.execute_batch("COMMIT");
    if committed.is_err() && !connection.is_autocommit() {
        let _ = connection.execute_batch("ROLLBACK");
    }
    for deliver in kept {
        deliver(match &committed {
            Ok(()) => Ok(()),
            Err(error) => Err(copy(error)),
        });
    }
    committed.is_ok()
}

/// Tells whoever waits that there is no transaction.
fn refuse(jobs: &mut std::vec::IntoIter<Job>, error: &rusqlite::Error) {
    tracing::warn!(jobs = jobs.len(), %error, "no transaction can be begun");
    for Job { work, .. } in jobs {
        if let Work::Awaited(work) = work {
            work(Err(copy(error)));
        }
    }
}

/// Runs work in a savepoint, and undoes it if it says so or panics.
fn in_savepoint<T>(connection: &Connection, work: impl FnOnce() -> (T, bool)) -> Option<T> {
    if let Err(error) = connection.execute_batch("SAVEPOINT job") {
        tracing::warn!(%error, "a job of the database could not begin");
        return None;
    }
    let outcome = catch_unwind(AssertUnwindSafe(work));
    let keep = matches!(outcome, Ok((_, true)));
    let end = if keep { "RELEASE job" } else { "ROLLBACK TO job; RELEASE job" };
    if let Err(error) = connection.execute_batch(end) {
        tracing::warn!(%error, "a job of the database could not end");
    }
    match outcome {
        Ok((value, _)) => Some(value),
        Err(panic) => {
            tracing::error!(reason = reason_of(&*panic), "a job of the database panicked");
            None
        }
    }
}

fn reason_of(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<&str>().copied();
    text.or_else(|| panic.downcast_ref::<String>().map(String::as_str)).unwrap_or("unknown")
}

/// The same failure for each job of a batch.
fn copy(error: &rusqlite::Error) -> DatabaseError {
    match error {
        rusqlite::Error::SqliteFailure(failure, text) => {
            rusqlite::Error::SqliteFailure(*failure, text.clone()).into()
        }
        _ => DatabaseError::Lost,
    }
}
