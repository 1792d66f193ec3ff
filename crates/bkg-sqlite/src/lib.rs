//! One SQLite file as the durable store of one program.
//!
//! Opening safely, writing durably, reading consistently, migrating, refusing; not any table, which
//! are their owners'. The invariants: what was acknowledged is on disk; a file that is damaged, lost,
//! newer or somebody else's is refused and left as it is.
//!
//! ```no_run
//! use bkg_sqlite::{Database, DatabaseError, Definition, Presence};
//!
//! static NOTES: Definition = Definition {
//!     what: "the notes",
//!     application_id: 0x6e6f_7465,
//!     migrations: &["CREATE TABLE note (id INTEGER PRIMARY KEY, text TEXT NOT NULL) STRICT"],
//! };
//!
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! let notes = Database::open("notes.db".as_ref(), &NOTES, Presence::MayBeNew)?;
//! notes
//!     .write(|connection| {
//!         connection.execute("INSERT INTO note (text) VALUES (?1)", ["hello"])?;
//!         Ok::<_, DatabaseError>(())
//!     })
//!     .await?;
//! # Ok(())
//! # }
//! ```

mod error;
mod open;
mod seal;
mod writer;

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

pub use rusqlite;
use rusqlite::Connection;
use tokio::sync::{Semaphore, oneshot};

pub use error::{DatabaseError, OpenError};
pub use open::{Definition, Presence};
pub use writer::POST_WITHIN;
use writer::{Job, Queue, Ran, Work};

/// How many reads may go on at once.
const READERS: usize = 2;

/// A database that this process owns; cheap to clone.
#[derive(Clone)]
pub struct Database {
    inner: Arc<Inner>,
}

struct Inner {
    path: PathBuf,
    queue: Arc<Queue>,
    places: Arc<Semaphore>,
    readers: Mutex<Vec<Connection>>,
    reading: Arc<Semaphore>,
    writer: Mutex<Option<JoinHandle<Connection>>>,
}

impl Database {
    /// Opens a database, making it where that is allowed. Blocks.
    ///
    /// # Errors
    /// Why it cannot be opened; it is as it was then.
    pub fn open(path: &Path, definition: &Definition, presence: Presence) -> Result<Self, OpenError> {
        let connection = open::open(path, definition, presence)?;
        let readers = (0..READERS).map(|_| open::reader(path, definition)).collect::<Result<_, _>>()?;
        let queue = Arc::new(Queue::default());
        let writer = writer::start(connection, Arc::clone(&queue)).map_err(|source| OpenError::Disk {
            action: "start the writer of",
            path: path.to_owned(),
            source,
        })?;
        Ok(Self {
            inner: Arc::new(Inner {
                path: path.to_owned(),
                queue,
                places: Arc::new(Semaphore::new(writer::QUEUE)),
                readers: Mutex::new(readers),
                reading: Arc::new(Semaphore::new(READERS)),
                writer: Mutex::new(Some(writer)),
            }),
        })
    }

    /// How many transactions have been committed since it was opened.
    pub fn commits(&self) -> u64 {
        self.inner.queue.commits()
    }

    /// The file.
    pub fn path(&self) -> &Path {
        &self.inner.path
    }

    /// Runs `job` in a transaction that it may share with others, and answers when that is on disk. An
    /// error of the job undoes what it did, and nothing else. Dropping the future does not stop it.
    ///
    /// # Errors
    /// The job's, or [`DatabaseError`] turned into its type; nothing was written then.
    pub async fn write<T, E>(
        &self,
        job: impl FnOnce(&Connection) -> Result<T, E> + Send + 'static,
    ) -> Result<T, E>
    where
        T: Send + 'static,
        E: From<DatabaseError> + Send + 'static,
    {
        let closed = || E::from(DatabaseError::Closed);
        let place = Arc::clone(&self.inner.places).acquire_owned().await.map_err(|_| closed())?;
        let (sender, outcome) = oneshot::channel();
        let run = move |connection: Result<&Connection, DatabaseError>| {
            match connection.map_err(E::from).and_then(job) {
                Ok(value) => Ran::Kept(Box::new(move |committed: Result<(), DatabaseError>| {
                    // Whoever waited may have left.
                    let _ = sender.send(committed.map(|()| value).map_err(E::from));
                })),
                Err(error) => {
                    let _ = sender.send(Err(error));
                    Ran::Undone
                }
            }
        };
        let work = Work::Awaited(Box::new(run));
        if !self.inner.queue.push(Job { work, place }) {
            return Err(closed());
        }
        outcome.await.unwrap_or_else(|_| Err(E::from(DatabaseError::Lost)))
    }

    /// [`Database::write`] for callers outside of any runtime.
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
        let runtime = tokio::runtime::Builder::new_current_thread().build();
        let runtime = runtime.map_err(|_| E::from(DatabaseError::Closed))?;
        runtime.block_on(self.write(job))
    }

    /// Runs `job` with the next commit, within [`POST_WITHIN`], without anybody waiting for it: a killed
    /// process loses it. Answers false where it is not taken: the queue is full, or the database closed.
    pub fn post(&self, job: impl FnOnce(&Connection) -> rusqlite::Result<()> + Send + 'static) -> bool {
        let Ok(place) = Arc::clone(&self.inner.places).try_acquire_owned() else { return false };
        self.inner.queue.push(Job { work: Work::Posted(Box::new(job)), place })
    }

    /// Runs `job` on one consistent state of the database, off the async threads. It sees every write
    /// that was answered before.
    ///
    /// # Errors
    /// The job's, or [`DatabaseError`] turned into its type.
    pub async fn read<T, E>(
        &self,
        job: impl FnOnce(&Connection) -> Result<T, E> + Send + 'static,
    ) -> Result<T, E>
    where
        T: Send + 'static,
        E: From<DatabaseError> + Send + 'static,
    {
        let closed = |_| E::from(DatabaseError::Closed);
        let place = Arc::clone(&self.inner.reading).acquire_owned().await.map_err(closed)?;
        let inner = Arc::clone(&self.inner);
        let reading = tokio::task::spawn_blocking(move || {
            let outcome = inner.read(job);
            drop(place);
            outcome
        });
        reading.await.unwrap_or_else(|_| Err(E::from(DatabaseError::Lost)))
    }

    /// [`Database::read`] for callers outside of any runtime.
    ///
    /// # Errors
    /// Those of [`Database::read`].
    pub fn read_blocking<T, E: From<DatabaseError>>(
        &self,
        job: impl FnOnce(&Connection) -> Result<T, E>,
    ) -> Result<T, E> {
        let closed = || E::from(DatabaseError::Closed);
        let runtime = tokio::runtime::Builder::new_current_thread().build().map_err(|_| closed())?;
        let _place = runtime.block_on(self.inner.reading.acquire()).map_err(|_| closed())?;
        self.inner.read(job)
    }

    /// Ends the writer after what waits, and closes and seals the file. Blocks; a second call does
    /// nothing.
    ///
    /// # Errors
    /// The file could not be brought into one piece; nothing is lost, and it opens again.
    pub fn close(&self) -> Result<(), DatabaseError> {
        let Some(writer) = self.inner.writer.lock().unwrap_or_else(PoisonError::into_inner).take() else {
            return Ok(());
        };
        self.inner.places.close();
        self.inner.reading.close();
        self.inner.queue.close();
        let connection = writer.join().map_err(|_| DatabaseError::Lost)?;
        self.inner.readers.lock().unwrap_or_else(PoisonError::into_inner).clear();
        let left: i64 = connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |row| row.get(0))?;
        connection.close().map_err(|(_, error)| error)?;
        // Somebody else reads it at this moment: what is in the log is safe there.
        if left == 0 && !seal::beside(&self.inner.path, "-wal").exists() {
            seal::write(&self.inner.path)?;
        }
        Ok(())
    }
}

impl Inner {
    fn read<T, E: From<DatabaseError>>(
        &self,
        job: impl FnOnce(&Connection) -> Result<T, E>,
    ) -> Result<T, E> {
        let lock = || self.readers.lock().unwrap_or_else(PoisonError::into_inner);
        let connection = lock().pop().ok_or(DatabaseError::Closed)?;
        let sqlite = |error: rusqlite::Error| E::from(DatabaseError::from(error));
        let outcome =
            connection.execute_batch("BEGIN DEFERRED").map_err(sqlite).and_then(|()| job(&connection));
        let ended = connection.execute_batch("ROLLBACK").map_err(sqlite);
        lock().push(connection);
        let value = outcome?;
        ended.map(|()| value)
    }
}

impl fmt::Debug for Database {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("Database").field("path", &self.inner.path).finish_non_exhaustive()
    }
}

/// Opens a database that is there for reading only, beside its owner or without one.
///
/// # Errors
/// Why it cannot be opened.
pub fn open_read_only(path: &Path, definition: &Definition) -> Result<Connection, OpenError> {
    open::open_read_only(path, definition)
}
