//! What waits for the writer, and for how long.
//!
//! Not how it is carried out. The invariant: what nobody waits for is taken out within
//! [`POST_WITHIN`], what somebody waits for at once, and nothing is left behind when the queue ends.
//! The database's handle fills it, the writer's thread empties it.

use std::any::Any;
use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rusqlite::Connection;
use tokio::sync::{Semaphore, SemaphorePermit, watch};

use crate::condition::Condition;
use crate::error::DatabaseError;

/// The longest that a job for which nobody waits is kept for others to be committed with.
pub const POST_WITHIN: Duration = Duration::from_secs(1);
/// How many jobs may wait: beyond it a write waits for room, and a post is refused.
const CAPACITY: usize = 1_024;
/// How many jobs one transaction holds at most, so that the first of them is not kept waiting.
const BATCH: usize = 512;

/// Something to do with the writing connection.
pub(crate) trait Job: Send {
    /// Carries it out; whether what it did is to be kept.
    fn run(&mut self, connection: &Connection) -> Verdict;
    /// Whether it is written also where the disk has no other room; then it can be run again.
    fn draws_on_the_reserve(&self) -> bool {
        false
    }
    /// Hears how it ended: `Ok` if what it did is on the disk, or if it wanted nothing kept.
    fn settle(self: Box<Self>, outcome: Result<(), DatabaseError>);
}

/// What there is for the writer to do.
pub(crate) enum Next {
    /// Jobs to commit together.
    Jobs(Vec<Box<dyn Job>>),
    /// Nothing has come for as long as it wanted to wait.
    Quiet,
    /// Nothing more comes.
    End,
}

/// What is to become of what a job did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    Keep,
    Undo,
}

/// Whether somebody waits for a job.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Urgency {
    Awaited,
    Posted,
}

/// Tells a job how it ended. Should what it does with the news panic, nobody else suffers.
pub(crate) fn settle(job: Box<dyn Job>, outcome: Result<(), DatabaseError>) {
    if let Err(panic) = catch_unwind(AssertUnwindSafe(|| job.settle(outcome))) {
        tracing::error!(reason = reason_of(&*panic), "the end of a job of the database panicked");
    }
}

/// What a panic says.
pub(crate) fn reason_of(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<&str>().copied();
    text.or_else(|| panic.downcast_ref::<String>().map(String::as_str)).unwrap_or("unknown")
}

/// The jobs that wait.
pub(crate) struct Queue {
    /// Closed with the queue. A place is given back when the job is taken out.
    places: Semaphore,
    waiting: Mutex<Waiting>,
    arrived: Condvar,
    /// How many there were; wakes those who follow.
    commits: watch::Sender<u64>,
    /// Whether they succeed.
    condition: watch::Sender<Condition>,
}

#[derive(Default)]
struct Waiting {
    jobs: VecDeque<Queued>,
    /// How many of them somebody waits for.
    awaited: usize,
    is_closed: bool,
}

struct Queued {
    job: Box<dyn Job>,
    urgency: Urgency,
    since: Instant,
}

impl Queue {
    pub(crate) fn new() -> Self {
        Self {
            places: Semaphore::new(CAPACITY),
            waiting: Mutex::default(),
            arrived: Condvar::new(),
            commits: watch::Sender::new(0),
            condition: watch::Sender::new(Condition::Sound),
        }
    }

    /// Waits for room for one job. `None` if the queue is closed.
    pub(crate) async fn place(&self) -> Option<Place<'_>> {
        let permit = self.places.acquire().await.ok()?;
        Some(Place { queue: self, permit })
    }

    /// Room for one job, if there is any.
    pub(crate) fn place_now(&self) -> Option<Place<'_>> {
        let permit = self.places.try_acquire().ok()?;
        Some(Place { queue: self, permit })
    }

    /// Nothing more comes: the writer ends after what waits.
    pub(crate) fn close(&self) {
        self.lock().is_closed = true;
        self.places.close();
        self.arrived.notify_one();
    }

    /// Ends the queue when there is no writer any more: nobody is to wait for one.
    pub(crate) fn abandon(&self) {
        self.close();
        let left = {
            let mut waiting = self.lock();
            waiting.awaited = 0;
            std::mem::take(&mut waiting.jobs)
        };
        for queued in left {
            settle(queued.job, Err(DatabaseError::Lost));
        }
    }

    /// The next jobs to commit together: at once if somebody waits for one of them, else when they
    /// are due. Where none comes, it waits for `patience`; without one, for as long as it takes.
    pub(crate) fn next(&self, patience: Option<Duration>) -> Next {
        let since = Instant::now();
        let mut waiting = self.lock();
        loop {
            let Some(first) = waiting.jobs.front() else {
                if waiting.is_closed {
                    return Next::End;
                }
                waiting = match patience.map(|patience| patience.saturating_sub(since.elapsed())) {
                    None => self.arrived.wait(waiting).unwrap_or_else(PoisonError::into_inner),
                    Some(Duration::ZERO) => return Next::Quiet,
                    Some(left) => {
                        self.arrived.wait_timeout(waiting, left).unwrap_or_else(PoisonError::into_inner).0
                    }
                };
                continue;
            };
            let left = POST_WITHIN.saturating_sub(first.since.elapsed());
            if waiting.is_closed || waiting.awaited > 0 || waiting.jobs.len() >= BATCH || left.is_zero() {
                break;
            }
            waiting = self.arrived.wait_timeout(waiting, left).unwrap_or_else(PoisonError::into_inner).0;
        }
        let count = waiting.jobs.len().min(BATCH);
        let taken: Vec<Queued> = waiting.jobs.drain(..count).collect();
        waiting.awaited -= taken.iter().filter(|queued| queued.urgency == Urgency::Awaited).count();
        drop(waiting);
        self.places.add_permits(count);
        Next::Jobs(taken.into_iter().map(|queued| queued.job).collect())
    }

    /// Says whether the database takes writes from now on.
    pub(crate) fn set_condition(&self, condition: Condition) {
        self.condition.send_if_modified(|current| {
            let is_new = *current != condition;
            *current = condition;
            is_new
        });
    }

    /// Whether the database takes writes.
    pub(crate) fn condition(&self) -> Condition {
        self.condition.borrow().clone()
    }

    /// A receiver that is woken when that changes.
    pub(crate) fn follow_condition(&self) -> watch::Receiver<Condition> {
        self.condition.subscribe()
    }

    /// Counts a commit.
    pub(crate) fn committed(&self) {
        self.commits.send_modify(|commits| *commits += 1);
    }

    /// How many commits there were.
    pub(crate) fn commits(&self) -> u64 {
        *self.commits.borrow()
    }

    /// A receiver that is woken after every commit.
    pub(crate) fn follow_commits(&self) -> watch::Receiver<u64> {
        self.commits.subscribe()
    }

    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Room for one job.
pub(crate) struct Place<'a> {
    queue: &'a Queue,
    permit: SemaphorePermit<'a>,
}

impl Place<'_> {
    /// Puts a job there; answers whether the writer will still come to it. If not, the job is dropped.
    pub(crate) fn fill(self, job: Box<dyn Job>, urgency: Urgency) -> bool {
        let mut waiting = self.queue.lock();
        if waiting.is_closed {
            return false;
        }
        self.permit.forget();
        waiting.jobs.push_back(Queued { job, urgency, since: Instant::now() });
        waiting.awaited += usize::from(urgency == Urgency::Awaited);
        // The writer sleeps on, once it knows when the first of several posts is due.
        let must_wake = urgency == Urgency::Awaited || matches!(waiting.jobs.len(), 1 | BATCH);
        drop(waiting);
        if must_wake {
            self.queue.arrived.notify_one();
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Nothing;

    impl Job for Nothing {
        fn run(&mut self, _: &Connection) -> Verdict {
            Verdict::Keep
        }

        fn settle(self: Box<Self>, _: Result<(), DatabaseError>) {}
    }

    fn put(queue: &Queue, urgency: Urgency) -> bool {
        queue.place_now().is_some_and(|place| place.fill(Box::new(Nothing), urgency))
    }

    fn next(queue: &Queue) -> Option<usize> {
        match queue.next(None) {
            Next::Jobs(jobs) => Some(jobs.len()),
            Next::Quiet | Next::End => None,
        }
    }

    #[test]
    fn a_full_queue_takes_nothing_until_something_is_taken_out() {
        let queue = Queue::new();
        for _ in 0..CAPACITY {
            assert!(put(&queue, Urgency::Posted));
        }
        assert!(!put(&queue, Urgency::Posted));
        assert_eq!(next(&queue), Some(BATCH));
        assert!(put(&queue, Urgency::Posted));
    }

    #[test]
    fn what_is_posted_goes_with_what_is_awaited() {
        let queue = Queue::new();
        assert!(put(&queue, Urgency::Posted));
        assert!(put(&queue, Urgency::Awaited));
        assert_eq!(next(&queue), Some(2));
    }

    #[test]
    fn what_is_posted_alone_is_due_in_time() {
        let queue = Queue::new();
        assert!(put(&queue, Urgency::Posted));
        assert_eq!(next(&queue), Some(1), "without anything else to wake the writer");
    }

    #[test]
    fn a_closed_queue_is_emptied_and_ends() {
        let queue = Queue::new();
        assert!(put(&queue, Urgency::Posted));
        queue.close();
        assert!(!put(&queue, Urgency::Awaited));
        assert_eq!(next(&queue), Some(1));
        assert_eq!(next(&queue), None);
    }
}
