//! The one way in which anything changes: written, announced to the host, answered, in this order.
//!
//! Not what changes, which is the caller's job. The invariants: a change, the next generation and the
//! host's operation id are on disk together or not at all; the host has heard of a change before anybody
//! hears that it was made; and it hears of changes in the order of their generations.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};

use bkg_sdk::{AuthChanged, Host};
use bkg_sqlite::rusqlite::{self, Connection};

use crate::moment::Moment;
use crate::refusal::Refusal;

/// Whom a change is about: the host asks again about them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Whom {
    /// Everybody: a role has changed.
    Everybody,
    /// A user, with all keys and logins.
    User(String),
    /// A key.
    Key(String),
    /// A login.
    Session(String),
    /// Nobody: there was nothing to change.
    Nobody,
}

/// What a job has changed, and what is answered once that is known.
#[derive(Debug)]
pub(crate) struct Changed<T> {
    whom: Whom,
    answer: T,
}

/// A change that is written but perhaps not on disk yet.
#[derive(Debug)]
pub(crate) struct Written<T> {
    /// The generation of the change; `None` if nothing was changed.
    pub(crate) generation: Option<u64>,
    pub(crate) answer: T,
}

/// The changes that the host has yet to hear of, by generation.
#[derive(Debug, Default)]
pub(crate) struct Announcements {
    /// Bounded by the changes that the writer of the database has in hand.
    prepared: Mutex<VecDeque<AuthChanged>>,
}

impl<T> Changed<T> {
    pub(crate) fn new(whom: Whom, answer: T) -> Self {
        Self { whom, answer }
    }
}

impl Announcements {
    fn lock(&self) -> MutexGuard<'_, VecDeque<AuthChanged>> {
        self.prepared.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Carries a job out in a transaction of the database's one writer.
    pub(crate) fn carry_out<T>(
        &self,
        connection: &Connection,
        now: Moment,
        job: impl FnOnce(&Connection, Moment) -> Result<Changed<T>, Refusal>,
    ) -> Result<Written<T>, Refusal> {
        let Changed { whom, answer } = job(connection, now)?;
        if whom == Whom::Nobody {
            return Ok(Written { generation: None, answer });
        }
        let generation = next_generation(connection)?;
        let mut prepared = self.lock();
        // What has this generation or a later one was never committed: else this one would be later.
        while prepared.back().is_some_and(|last| last.generation >= generation) {
            prepared.pop_back();
        }
        prepared.push_back(announcement(generation, whom));
        Ok(Written { generation: Some(generation), answer })
    }

    /// Tells the host of every change up to `generation`, which is on disk, and so are those before it.
    pub(crate) fn announce(&self, generation: u64, host: &Host) {
        // Said under the lock, so that two changes cannot be announced in the wrong order.
        let mut prepared = self.lock();
        while prepared.front().is_some_and(|next| next.generation <= generation) {
            if let Some(changed) = prepared.pop_front() {
                host.auth_changed(changed);
            }
        }
    }
}

fn announcement(generation: u64, whom: Whom) -> AuthChanged {
    let nobody = AuthChanged { generation, key_id: None, session_id: None, user_id: None };
    match whom {
        Whom::User(id) => AuthChanged { user_id: Some(id), ..nobody },
        Whom::Key(id) => AuthChanged { key_id: Some(id), ..nobody },
        Whom::Session(id) => AuthChanged { session_id: Some(id), ..nobody },
        Whom::Everybody | Whom::Nobody => nobody,
    }
}

/// The generation of this state of the database.
pub(crate) fn generation(connection: &Connection) -> rusqlite::Result<u64> {
    let mut query = connection.prepare_cached("SELECT number FROM generation")?;
    query.query_row([], |row| row.get(0)).map(i64::cast_unsigned)
}

fn next_generation(connection: &Connection) -> rusqlite::Result<u64> {
    let mut query =
        connection.prepare_cached("UPDATE generation SET number = number + 1 RETURNING number")?;
    query.query_row([], |row| row.get(0)).map(i64::cast_unsigned)
}
