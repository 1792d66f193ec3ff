//! The one thread that writes: jobs share a transaction, and hear of it when it is on the disk.
//!
//! A commit costs milliseconds of waiting for the disk, so jobs that wait are committed together, each
//! in a savepoint of its own. The invariant: a job hears `Ok` after the commit that holds it, and `Err`
//! only if nothing that it did was committed. [`Database`] starts the thread and ends it.
//!
//! [`Database`]: crate::Database

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::thread::{self, JoinHandle};

use rusqlite::Connection;

use crate::error::DatabaseError;
use crate::queue::{Job, Queue, Verdict, reason_of, settle};

/// Starts the thread. It ends with the queue, and gives the connection back.
pub(crate) fn start(connection: Connection, queue: Arc<Queue>) -> std::io::Result<JoinHandle<Connection>> {
    thread::Builder::new().name("sqlite-writer".to_owned()).spawn(move || {
        let guard = Abandon(&queue);
        while let Some(batch) = queue.next() {
            if write(&connection, batch) {
                queue.committed();
            }
        }
        drop(guard);
        connection
    })
}

/// Ends the queue with the thread, however that ends.
struct Abandon<'a>(&'a Queue);

impl Drop for Abandon<'_> {
    fn drop(&mut self) {
        self.0.abandon();
    }
}

/// Carries jobs out, commits them, and tells them; answers whether there was anything to commit.
fn write(connection: &Connection, batch: Vec<Box<dyn Job>>) -> bool {
    // Carried out, but neither committed nor told.
    let mut kept: Vec<Box<dyn Job>> = Vec::new();
    let mut jobs = batch.into_iter();
    let mut is_open = false;
    while let Some(mut job) = jobs.next() {
        if !is_open {
            if let Err(error) = begin(connection) {
                tracing::warn!(jobs = jobs.len() + 1, %error, "the database takes no writes");
                settle_all(std::iter::once(job).chain(jobs), || Err(DatabaseError::copy_of(&error)));
                return false;
            }
            is_open = true;
        }
        match in_savepoint(connection, &mut *job) {
            End::Kept => kept.push(job),
            End::Undone => settle(job, Ok(())),
            End::Broken(reason) => {
                // What others did in this transaction is gone with it; what follows gets a new one.
                tracing::error!(
                    jobs = kept.len() + 1,
                    reason,
                    "a transaction of the database was given up"
                );
                roll_back(connection);
                is_open = false;
                settle_all(kept.drain(..).chain([job]), || Err(DatabaseError::Lost));
            }
        }
    }
    if kept.is_empty() {
        roll_back(connection);
        return false;
    }
    let committed = connection.execute_batch("COMMIT");
    match &committed {
        Ok(()) => settle_all(kept, || Ok(())),
        Err(error) => {
            tracing::warn!(jobs = kept.len(), %error, "a transaction of the database could not be committed");
            roll_back(connection);
            settle_all(kept, || Err(DatabaseError::copy_of(error)));
        }
    }
    committed.is_ok()
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
    use std::time::Duration;

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
        assert!(!write(&connection, jobs));
        for outcome in outcomes {
            let outcome = outcome.blocking_recv().unwrap();
            assert!(matches!(outcome, Err(DatabaseError::Sqlite(_))), "{outcome:?}");
        }
    }
}
