//! The handle to a database that this process owns: write, read, close.
//!
//! Not how a file is opened or a batch is committed. The invariant: after [`Database::close`] nothing
//! of this process touches the file. Owners keep clones of it wherever they write or read.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

use rusqlite::Connection;
use tokio::sync::watch;

use crate::condition::Condition;
use crate::definition::{Definition, Presence};
use crate::error::{CopyError, DatabaseError, OpenError};
use crate::jobs::{Awaited, Needed, Posted};
use crate::queue::{Queue, Urgency};
use crate::readers::Readers;
use crate::wait::wait_for;
use crate::writer::Writer;
use crate::{connection, copy, files, open, seal};

/// A database that this process owns; cheap to clone.
///
/// When the last clone is dropped without [`Database::close`], what is queued is still written, but
/// the file is not sealed.
#[derive(Clone)]
pub struct Database {
    inner: Arc<Inner>,
}

struct Inner {
    path: PathBuf,
    what: &'static str,
    queue: Arc<Queue>,
    readers: Readers,
    /// `None` once it is closed.
    writer: Mutex<Option<JoinHandle<Option<Connection>>>>,
}

impl Database {
    /// Opens a database, making it where that is allowed and bringing it to the newest version. Blocks.
    ///
    /// The directory must exist. That only one process owns the file at a time is the caller's promise.
    ///
    /// # Errors
    /// Why it cannot be opened. It is as it was then.
    pub fn open(path: &Path, definition: &Definition, presence: Presence) -> Result<Self, OpenError> {
        let connection = open::open(path, definition, presence)?;
        let readers = Readers::open(path).map_err(OpenError::sqlite(definition.what, "read", path))?;
        let queue = Arc::new(Queue::new());
        let writer = Writer::new(connection, path, definition, Arc::clone(&queue))
            .map_err(OpenError::sqlite(definition.what, "write to", path))?;
        let writer = writer.start().map_err(OpenError::disk("start a thread to write to", path))?;
        let writer = Mutex::new(Some(writer));
        Ok(Self {
            inner: Arc::new(Inner { path: path.to_owned(), what: definition.what, queue, readers, writer }),
        })
    }

    /// Runs `job` in a transaction that it may share with other jobs, and answers when it is on the
    /// disk. An error of the job undoes what it did, and nothing else.
    ///
    /// It waits for room while the queue is full. Once `job` is queued, dropping the future does not
    /// stop it. The job must not begin or end transactions; savepoints of its own are fine.
    ///
    /// # Errors
    /// The job's own, or a [`DatabaseError`] turned into its type. Nothing of the job was committed
    /// then. After a commit that failed at the disk, it is not visible to anybody, but if the process
    /// is killed before the file was checked, it may turn out to be there.
    pub async fn write<T, E>(
        &self,
        job: impl FnOnce(&Connection) -> Result<T, E> + Send + 'static,
    ) -> Result<T, E>
    where
        T: Send + 'static,
        E: From<DatabaseError> + Send + 'static,
    {
        let place = self.inner.queue.place().await.ok_or(DatabaseError::Closed)?;
        let (job, outcome) = Awaited::new(job);
        if !place.fill(Box::new(job), Urgency::Awaited) {
            return Err(DatabaseError::Closed.into());
        }
        // The writer answers each job, and the queue answers what a writer that died has left.
        outcome.await.unwrap_or_else(|_| Err(DatabaseError::Lost.into()))
    }

    /// [`Database::write`] for a thread that may block: not one that runs async tasks.
    ///
    /// # Errors
    /// Those of [`Database::write`].
    pub fn write_blocking<T, E>(
        &self,
        job: impl FnOnce(&Connection) -> Result<T, E> + Send + 'static,
    ) -> Result<T, E>
    where
        T: Send + 'static,
        E: From<DatabaseError> + Send + 'static,
    {
        wait_for(self.write(job))
    }

    /// [`Database::write`] for what must not wait for an operator, such as taking a right away: on a disk
    /// that is full it is written out of a reserve of [`RESERVE_BYTES`], and after a failure of the disk
    /// that was over it is tried once more. So `job` may run several times; what a run did is undone
    /// before the next.
    ///
    /// [`RESERVE_BYTES`]: crate::RESERVE_BYTES
    ///
    /// # Errors
    /// Those of [`Database::write`]: where the reserve is used up too, or the disk goes on failing.
    pub async fn write_with_reserve<T, E>(
        &self,
        job: impl FnMut(&Connection) -> Result<T, E> + Send + 'static,
    ) -> Result<T, E>
    where
        T: Send + 'static,
        E: From<DatabaseError> + Send + 'static,
    {
        let place = self.inner.queue.place().await.ok_or(DatabaseError::Closed)?;
        let (job, outcome) = Needed::new(job);
        if !place.fill(Box::new(job), Urgency::Awaited) {
            return Err(DatabaseError::Closed.into());
        }
        outcome.await.unwrap_or_else(|_| Err(DatabaseError::Lost.into()))
    }

    /// Runs `job` with the next commit, within [`POST_WITHIN`], without anybody waiting for it. A
    /// process or machine that dies before may lose it, and so may a disk that is full; the log then
    /// says so.
    ///
    /// Answers false, and drops the job, if the queue is full or the database closed.
    ///
    /// [`POST_WITHIN`]: crate::POST_WITHIN
    pub fn post(&self, job: impl FnOnce(&Connection) -> rusqlite::Result<()> + Send + 'static) -> bool {
        let Some(place) = self.inner.queue.place_now() else { return false };
        place.fill(Box::new(Posted::new(job)), Urgency::Posted)
    }

    /// Runs `job` on one consistent state of the database, which holds every write that was answered
    /// before, on a thread of the runtime that may block. It cannot write.
    ///
    /// # Errors
    /// The job's own, or a [`DatabaseError`] turned into its type.
    pub async fn read<T, E>(
        &self,
        job: impl FnOnce(&Connection) -> Result<T, E> + Send + 'static,
    ) -> Result<T, E>
    where
        T: Send + 'static,
        E: From<DatabaseError> + Send + 'static,
    {
        // Its place is waited for here, so that reads in a queue occupy no threads.
        let place = self.inner.readers.place().await?;
        let inner = Arc::clone(&self.inner);
        let reading = tokio::task::spawn_blocking(move || inner.readers.read(place, job));
        reading.await.unwrap_or_else(|error| {
            tracing::error!(%error, "a read of the database broke off");
            Err(DatabaseError::Lost.into())
        })
    }

    /// [`Database::read`] for a thread that may block: not one that runs async tasks.
    ///
    /// # Errors
    /// Those of [`Database::read`].
    pub fn read_blocking<T, E: From<DatabaseError>>(
        &self,
        job: impl FnOnce(&Connection) -> Result<T, E>,
    ) -> Result<T, E> {
        let place = wait_for(self.inner.readers.place())?;
        self.inner.readers.read(place, job)
    }

    /// Writes what is queued, brings everything into one file, seals and closes it. Blocks. What comes
    /// later gets [`DatabaseError::Closed`]; closing again does nothing.
    ///
    /// A file that another process reads at this moment is closed unsealed.
    ///
    /// # Errors
    /// The file could not be brought into one piece or not be sealed. What was acknowledged is on the
    /// disk all the same, and the database opens again.
    pub fn close(&self) -> Result<(), DatabaseError> {
        // Kept, so that a second call answers when the first is done.
        let mut writer = self.inner.writer.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(writer) = writer.take() else { return Ok(()) };
        self.inner.queue.close();
        let connection = writer.join().map_err(|_| DatabaseError::Lost)?;
        self.inner.readers.close();
        let Some(connection) = connection else {
            let Condition::Failing { reason } = self.condition() else { return Err(DatabaseError::Lost) };
            return Err(DatabaseError::Failing { reason });
        };
        let is_read: bool =
            connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |row| row.get(0))?;
        connection.close().map_err(|(_, error)| error)?;
        let path = &self.inner.path;
        // SQLite removes the log with the last connection: while it is there, somebody has another.
        let log = files::length(&files::beside(path, "-wal")).map_err(DatabaseError::Seal)?;
        if is_read || log.is_some() {
            tracing::info!(database = self.inner.what, path = %path.display(), "closed without a seal: another process has it open");
            return Ok(());
        }
        seal::write(path).map_err(DatabaseError::Seal)
    }

    /// Copies the database as it is at this moment to `target`, which is made: one file, checked and on
    /// the disk. It holds every write that was answered before; others write on meanwhile. Blocks.
    /// `goes_on` is asked again and again; when it says no, the copy is given up.
    ///
    /// # Errors
    /// Why there is no copy.
    pub fn copy_to(&self, target: &Path, goes_on: &dyn Fn() -> bool) -> Result<(), CopyError> {
        // A connection of its own: a long copy takes no reader's place.
        let path = &self.inner.path;
        let connection = connection::reading(path).map_err(|error| CopyError::source(path, error))?;
        copy::copy_open(&connection, path, target, goes_on)
    }

    /// The file.
    pub fn path(&self) -> &Path {
        &self.inner.path
    }

    /// Whether it takes writes.
    pub fn condition(&self) -> Condition {
        self.inner.queue.condition()
    }

    /// A receiver that is woken when that changes. A database heals by itself, within seconds of the
    /// disk.
    pub fn follow_condition(&self) -> watch::Receiver<Condition> {
        self.inner.queue.follow_condition()
    }

    /// How many transactions have been committed since it was opened.
    pub fn commits(&self) -> u64 {
        self.inner.queue.commits()
    }

    /// A receiver that is woken after every commit, for those who follow what is written. It tells of
    /// commits and not of tables: who is woken looks for what is new.
    pub fn follow_commits(&self) -> watch::Receiver<u64> {
        self.inner.queue.follow_commits()
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        // The writer ends by itself after what is queued; waiting for it here could block a runtime.
        self.queue.close();
    }
}

impl fmt::Debug for Database {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("Database")
            .field("what", &self.inner.what)
            .field("path", &self.inner.path)
            .finish_non_exhaustive()
    }
}
