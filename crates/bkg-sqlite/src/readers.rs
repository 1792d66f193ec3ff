//! The connections that read: a few, each used by one caller at a time.
//!
//! Not who may read what. The invariant: a read sees one state of the database, which holds every
//! write that was answered before it began. The database's handle uses them off the async threads.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rusqlite::Connection;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::connection;
use crate::error::DatabaseError;

/// How many reads go on at once; further ones wait for a place.
const CONNECTIONS: usize = 2;
/// How long closing waits for reads that go on.
const PATIENCE: Duration = Duration::from_secs(5);

/// The pool.
pub(crate) struct Readers {
    path: PathBuf,
    places: Arc<Semaphore>,
    state: Mutex<State>,
    returned: Condvar,
}

#[derive(Default)]
struct State {
    idle: Vec<Connection>,
    busy: usize,
    is_closed: bool,
}

impl Readers {
    /// Opens the first connection, so that a file that cannot be read is noticed at once.
    pub(crate) fn open(path: &Path) -> rusqlite::Result<Self> {
        let idle = vec![connection::reading(path)?];
        Ok(Self {
            path: path.to_owned(),
            places: Arc::new(Semaphore::new(CONNECTIONS)),
            state: Mutex::new(State { idle, ..State::default() }),
            returned: Condvar::new(),
        })
    }

    /// Waits for a place to read.
    pub(crate) async fn place(&self) -> Result<OwnedSemaphorePermit, DatabaseError> {
        Arc::clone(&self.places).acquire_owned().await.map_err(|_| DatabaseError::Closed)
    }

    /// Reads, by whoever has a place. Blocks.
    pub(crate) fn read<T, E: From<DatabaseError>>(
        &self,
        _place: OwnedSemaphorePermit,
        job: impl FnOnce(&Connection) -> Result<T, E>,
    ) -> Result<T, E> {
        let taken = self.take()?;
        let connection = taken.connection();
        connection.execute_batch("BEGIN DEFERRED").map_err(DatabaseError::from)?;
        job(connection)
    }

    /// Waits for the reads that go on, refuses all others, and closes the connections.
    pub(crate) fn close(&self) {
        self.places.close();
        let mut state = self.lock();
        state.is_closed = true;
        state.idle.clear();
        let waited = self.returned.wait_timeout_while(state, PATIENCE, |state| state.busy > 0);
        let busy = waited.unwrap_or_else(PoisonError::into_inner).0.busy;
        if busy > 0 {
            tracing::warn!(reads = busy, path = %self.path.display(), "the database is closed while it is read");
        }
    }

    fn take(&self) -> Result<Taken<'_>, DatabaseError> {
        let mut state = self.lock();
        if state.is_closed {
            return Err(DatabaseError::Closed);
        }
        let connection = state.idle.pop();
        state.busy += 1;
        drop(state);
        // From here on it is given back, also if there is no connection to give.
        let mut taken = Taken { readers: self, connection };
        if taken.connection.is_none() {
            taken.connection = Some(connection::reading(&self.path)?);
        }
        Ok(taken)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A connection in use: given back when this is dropped, also by a panic.
struct Taken<'a> {
    readers: &'a Readers,
    connection: Option<Connection>,
}

impl Taken<'_> {
    fn connection(&self) -> &Connection {
        self.connection.as_ref().expect("it is there until this is dropped")
    }
}

impl Drop for Taken<'_> {
    fn drop(&mut self) {
        // One whose transaction does not end is closed; another takes its place when needed.
        let clean = self.connection.take().filter(|connection| {
            connection.is_autocommit() || connection.execute_batch("ROLLBACK").is_ok()
        });
        let mut state = self.readers.lock();
        if !state.is_closed {
            state.idle.extend(clean);
        } else {
            // Before it counts as given back.
            drop(clean);
        }
        state.busy -= 1;
        drop(state);
        self.readers.returned.notify_all();
    }
}
