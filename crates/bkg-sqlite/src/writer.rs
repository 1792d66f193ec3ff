//! The one thread that writes: jobs share a transaction, and hear of it when it is on the disk.
//!
//! A commit costs milliseconds of waiting for the disk, so jobs that wait are committed together, each
//! in a savepoint of its own. The invariants: a job hears `Ok` after the commit that holds it, and `Err`
//! only if nothing that it did was committed; and after the disk failed, nothing is written before the
//! file was opened anew and checked. [`Database`] starts the thread and ends it.
//!
//! [`Database`]: crate::Database

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicI32, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use rusqlite::Connection;
use rusqlite::hooks::Wal;

use crate::condition::Condition;
use crate::definition::Definition;
use crate::error::DatabaseError;
use crate::queue::{Job, Next, Queue, Verdict, reason_of, settle};
use crate::reserve::Reserve;
use crate::{check, connection};

/// How often a database that takes no writes is tried again, also if nobody wants to write.
const TRY_EVERY: Duration = Duration::from_secs(1);
/// At how many pages the log is taken over into the file: 4 MB.
const LOG_PAGES: i32 = 1_000;

/// What the thread works with.
pub(crate) struct Writer {
    path: PathBuf,
    definition: Definition,
    queue: Arc<Queue>,
    reserve: Reserve,
    /// `None` where the disk failed and the file could not be opened again since.
    connection: Option<Connection>,
    /// Only there to be open while the other is not: with the last connection goes the knowledge of which
    /// part of the log counts, and a transaction whose fsync failed would count after all.
    _anchor: Connection,
    /// How many pages the log had after the last commit.
    log_pages: Arc<AtomicI32>,
    /// Why what the file holds is not trusted until it was checked.
    doubt: Option<Arc<str>>,
}

impl Writer {
    /// A writer to a file that was checked.
    ///
    /// # Errors
    /// SQLite's.
    pub(crate) fn new(
        connection: Connection,
        path: &Path,
        definition: &Definition,
        queue: Arc<Queue>,
    ) -> rusqlite::Result<Self> {
        let log_pages = Arc::default();
        let connection = watch_log(connection, &log_pages)?;
        let anchor = connection::reading(path)?;
        // It does not have the log open before it has read.
        connection::number(&anchor, "user_version")?;
        Ok(Self {
            path: path.to_owned(),
            definition: *definition,
            queue,
            reserve: Reserve::of(path),
            connection: Some(connection),
            _anchor: anchor,
            log_pages,
            doubt: None,
        })
    }

    /// Starts the thread. It ends with the queue, and gives the connection back, if it is trusted.
    pub(crate) fn start(mut self) -> std::io::Result<JoinHandle<Option<Connection>>> {
        self.look_for_room();
        thread::Builder::new().name("sqlite-writer".to_owned()).spawn(move || {
            let queue = Arc::clone(&self.queue);
            let guard = Abandon(&queue);
            loop {
                let patience = (!queue.condition().is_sound()).then_some(TRY_EVERY);
                match queue.next(patience) {
                    Next::Jobs(batch) => self.carry_out(batch),
                    Next::Quiet => self.heal(),
                    Next::End => break,
                }
            }
            drop(guard);
            self.end()
        })
    }

    /// Gives the connection back for closing.
    fn end(mut self) -> Option<Connection> {
        if queue_is_full(&self.queue) {
            // To bring all into one file takes room, and nothing else needs it any more.
            self.reserve.give_up_all();
        }
        self.connection.take().filter(|_| self.doubt.is_none())
    }

    /// Carries jobs out, commits them, and tells them.
    fn carry_out(&mut self, batch: Vec<Box<dyn Job>>) {
        self.heal();
        let again = match self.queue.condition() {
            Condition::Sound => self.write_together(batch),
            Condition::Full => {
                let (needed, others): (Vec<_>, Vec<_>) =
                    batch.into_iter().partition(|job| job.draws_on_the_reserve());
                settle_all(others, || Err(DatabaseError::Full));
                needed
            }
            Condition::Failing { reason } => {
                return settle_all(batch, || Err(DatabaseError::Failing { reason: Arc::clone(&reason) }));
            }
        };
        for job in again {
            self.write_alone(job);
        }
        self.take_over_the_log();
        // At once: a failure that was over before anybody else writes disturbs nobody else.
        self.check_doubts();
    }

    /// Writes jobs in one transaction, if none of them breaks it. Answers those that the disk has not
    /// taken, and that may have the reserve.
    fn write_together(&mut self, batch: Vec<Box<dyn Job>>) -> Vec<Box<dyn Job>> {
        let mut again = Vec::new();
        // Carried out, but neither committed nor told.
        let mut kept: Vec<Box<dyn Job>> = Vec::new();
        let mut jobs = batch.into_iter();
        let mut is_open = false;
        while let Some(mut job) = jobs.next() {
            if !is_open {
                if let Err(error) = self.begin() {
                    tracing::warn!(jobs = jobs.len() + 1, %error, "the database takes no writes");
                    refuse(std::iter::once(job).chain(jobs), &error, &mut again);
                    return again;
                }
                is_open = true;
            }
            match in_savepoint(self.trusted(), &mut *job) {
                End::Kept => kept.push(job),
                End::Undone => settle(job, Ok(())),
                End::Broken(reason) => {
                    // What others did in this transaction is gone with it; what follows gets a new one.
                    tracing::error!(
                        jobs = kept.len() + 1,
                        reason,
                        "a transaction of the database was given up"
                    );
                    roll_back(self.trusted());
                    is_open = false;
                    refuse(kept.drain(..).chain([job]), &DatabaseError::Lost, &mut again);
                    // It may have been an fsync that failed.
                    self.doubt = Some(reason.into());
                    self.heal();
                }
            }
        }
        if kept.is_empty() {
            if is_open {
                roll_back(self.trusted());
            }
            return again;
        }
        match self.commit() {
            Ok(()) => settle_all(kept, || Ok(())),
            Err(error) => {
                tracing::warn!(jobs = kept.len(), %error, "a transaction of the database could not be committed");
                refuse(kept, &error, &mut again);
            }
        }
        again
    }

    /// Writes one job that must not wait for an operator: out of the reserve where the disk has no other
    /// room, and once more after a disk that failed was found to be well.
    fn write_alone(&mut self, mut job: Box<dyn Job>) {
        let mut has_failed = false;
        loop {
            self.check_doubts();
            let error = match self.try_alone(&mut *job) {
                Ok(()) => return settle(job, Ok(())),
                Err(error) => error,
            };
            match error {
                // It ends with the reserve.
                DatabaseError::Full if self.reserve.give_up_a_part() => {
                    self.queue.set_condition(Condition::Full);
                }
                DatabaseError::Failing { .. } if !has_failed => has_failed = true,
                error => return settle(job, Err(error)),
            }
        }
    }

    fn try_alone(&mut self, job: &mut dyn Job) -> Result<(), DatabaseError> {
        self.begin()?;
        match in_savepoint(self.trusted(), job) {
            End::Kept => self.commit(),
            End::Undone => {
                roll_back(self.trusted());
                Ok(())
            }
            End::Broken(reason) => {
                roll_back(self.trusted());
                self.doubt = Some(reason.into());
                Err(DatabaseError::Lost)
            }
        }
    }

    /// Begins a transaction, if what the file holds is trusted.
    fn begin(&mut self) -> Result<(), DatabaseError> {
        if let Some(reason) = &self.doubt {
            return Err(DatabaseError::Failing { reason: Arc::clone(reason) });
        }
        begin(self.trusted()).map_err(|error| self.failed(&error))
    }

    /// Commits. After an error nothing of the transaction is there.
    fn commit(&mut self) -> Result<(), DatabaseError> {
        if let Err(error) = self.trusted().execute_batch("COMMIT") {
            roll_back(self.trusted());
            return Err(self.failed(&error));
        }
        self.queue.committed();
        Ok(())
    }

    /// Brings the log into the file where it has become long.
    fn take_over_the_log(&mut self) {
        if self.doubt.is_some() || self.log_pages.load(Ordering::Relaxed) < LOG_PAGES {
            return;
        }
        // Where a read goes on in an older state, less of it is taken over, and the next commit tries
        // again.
        if let Err(error) = self.trusted().query_row("PRAGMA wal_checkpoint(PASSIVE)", [], |_| Ok(())) {
            tracing::warn!(%error, "the log of the database could not be taken over");
            self.failed(&error);
        }
    }

    /// Takes in that the disk did not do something.
    fn failed(&mut self, error: &rusqlite::Error) -> DatabaseError {
        let error = DatabaseError::copy_of(error);
        match &error {
            DatabaseError::Full => self.queue.set_condition(Condition::Full),
            DatabaseError::Failing { reason } => self.doubt = Some(Arc::clone(reason)),
            _ => {}
        }
        error
    }

    /// Finds out whether the database takes writes again.
    fn heal(&mut self) {
        self.check_doubts();
        if self.doubt.is_none() && !self.queue.condition().is_sound() {
            self.look_for_room();
        }
    }

    /// Checks a file that is not trusted.
    ///
    /// After an fsync that failed, the system takes what was to be written for written: asking again
    /// succeeds, and proves nothing. So the log, which holds what was acknowledged, is brought into the
    /// file and emptied, each with an fsync of its own, and the file is checked.
    fn check_doubts(&mut self) {
        if self.doubt.is_none() {
            return;
        }
        self.connection = None;
        let checked = loop {
            match check::open_anew(&self.path, &self.definition) {
                Err(DatabaseError::Full) if self.reserve.give_up_a_part() => {}
                checked => break checked,
            }
        };
        let opened = checked.and_then(|connection| Ok(watch_log(connection, &self.log_pages)?));
        match opened {
            Ok(connection) => {
                self.connection = Some(connection);
                self.doubt = None;
                tracing::info!(database = self.definition.what, "the database was opened anew and checked");
            }
            Err(error) => {
                let reason: Arc<str> = error.to_string().into();
                if self.queue.condition().is_sound() {
                    tracing::error!(database = self.definition.what, %error, "the database takes no writes until it has been checked");
                }
                self.queue.set_condition(Condition::Failing { reason: Arc::clone(&reason) });
                self.doubt = Some(reason);
            }
        }
    }

    fn look_for_room(&mut self) {
        let before = self.queue.condition();
        let condition = match self.reserve.fill() {
            Ok(()) => Condition::Sound,
            Err(_) => Condition::Full,
        };
        match (before.is_sound(), condition.is_sound()) {
            (false, true) => {
                tracing::info!(database = self.definition.what, "the database takes writes again");
            }
            (true, false) => {
                tracing::warn!(
                    database = self.definition.what,
                    "the disk is full: the database takes no writes but those that draw on its reserve"
                );
            }
            _ => {}
        }
        self.queue.set_condition(condition);
    }

    fn trusted(&self) -> &Connection {
        self.connection.as_ref().expect("it is there unless there is doubt, which is looked at first")
    }
}

/// Ends the queue with the thread, however that ends.
struct Abandon<'a>(&'a Queue);

impl Drop for Abandon<'_> {
    fn drop(&mut self) {
        self.0.abandon();
    }
}

fn queue_is_full(queue: &Queue) -> bool {
    queue.condition() == Condition::Full
}

/// Has the length of the log kept after each commit.
fn watch_log(mut connection: Connection, pages: &Arc<AtomicI32>) -> rusqlite::Result<Connection> {
    let pages = Arc::clone(pages);
    connection.wal_hook(Some(move |_: &mut Wal, length| {
        pages.store(length, Ordering::Relaxed);
        Ok(())
    }))?;
    Ok(connection)
}

/// Tells jobs that the disk has not taken them; those that may have the reserve are kept for it.
fn refuse(
    jobs: impl IntoIterator<Item = Box<dyn Job>>,
    error: &DatabaseError,
    again: &mut Vec<Box<dyn Job>>,
) {
    let may_try =
        matches!(error, DatabaseError::Full | DatabaseError::Failing { .. } | DatabaseError::Lost);
    for job in jobs {
        if may_try && job.draws_on_the_reserve() {
            again.push(job);
        } else {
            settle(job, Err(error.again()));
        }
    }
}

/// Begins a transaction, never in what an earlier one left.
fn begin(connection: &Connection) -> rusqlite::Result<()> {
    if !connection.is_autocommit() {
        connection.execute_batch("ROLLBACK")?;
    }
    connection.execute_batch("BEGIN IMMEDIATE")
}

/// Ends a transaction, if there still is one: after some errors SQLite has ended it by itself.
fn roll_back(connection: &Connection) {
    if !connection.is_autocommit()
        && let Err(error) = connection.execute_batch("ROLLBACK")
    {
        // The next transaction does not begin before this has been done.
        tracing::warn!(%error, "a transaction of the database cannot be rolled back yet");
    }
}

/// How a job left its transaction.
enum End {
    Kept,
    Undone,
    /// The transaction cannot be gone on with.
    Broken(&'static str),
}

fn in_savepoint(connection: &Connection, job: &mut dyn Job) -> End {
    if connection.execute_batch("SAVEPOINT bkg_job").is_err() {
        return End::Broken("a job could not begin");
    }
    let verdict = catch_unwind(AssertUnwindSafe(|| job.run(connection))).unwrap_or_else(|panic| {
        tracing::error!(reason = reason_of(&*panic), "a job of the database panicked");
        Verdict::Undo
    });
    // On a full disk and after a failed read or write, SQLite rolls back all, not the statement. A
    // further savepoint would then be a transaction of its own, and be committed with its release.
    if connection.is_autocommit() {
        return End::Broken("SQLite rolled it back: the disk is full or fails");
    }
    let (sql, end) = match verdict {
        Verdict::Keep => ("RELEASE bkg_job", End::Kept),
        Verdict::Undo => ("ROLLBACK TO bkg_job; RELEASE bkg_job", End::Undone),
    };
    match connection.execute_batch(sql) {
        Ok(()) => end,
        Err(_) => End::Broken("a job could not end"),
    }
}

fn settle_all(
    jobs: impl IntoIterator<Item = Box<dyn Job>>,
    outcome: impl Fn() -> Result<(), DatabaseError>,
) {
    for job in jobs {
        settle(job, outcome());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::jobs::Awaited;

    #[test]
    fn where_no_transaction_begins_no_job_runs_and_each_hears_why() {
        let directory = tempfile::tempdir().unwrap();
        let open = || {
            let connection = Connection::open(directory.path().join("notes.db")).unwrap();
            connection.busy_timeout(Duration::ZERO).unwrap();
            connection
        };
        let (connection, other) = (open(), open());
        other.execute_batch("BEGIN IMMEDIATE").unwrap();
        let job =
            || Awaited::new(|_: &Connection| -> Result<(), DatabaseError> { panic!("it must not run") });
        let (jobs, outcomes): (Vec<_>, Vec<_>) = (0..3)
            .map(|_| {
                let (job, outcome) = job();
                (Box::new(job) as Box<dyn Job>, outcome)
            })
            .unzip();
        let definition = Definition { what: "the notes", application_id: 1, migrations: &[] };
        let queue = Arc::new(Queue::new());
        let path = directory.path().join("notes.db");
        let mut writer = Writer::new(connection, &path, &definition, queue).unwrap();
        writer.carry_out(jobs);
        for outcome in outcomes {
            let outcome = outcome.blocking_recv().unwrap();
            assert!(matches!(outcome, Err(DatabaseError::Sqlite(_))), "{outcome:?}");
        }
    }
}
