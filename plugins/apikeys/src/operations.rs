//! Which of the host's operations were carried out, and which never will be.
//!
//! Not what they change. The invariants: an operation is carried out once, and its id is on disk with
//! what it changed; one that the host was told had not happened does not happen afterwards, also if it
//! was under way at that moment. Both hold since the writer of the database does one thing at a time.

use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use bkg_sqlite::rusqlite::{self, Connection, params};

use crate::moment::Moment;
use crate::payload::OperationId;
use crate::refusal::Refusal;

/// How long it is remembered that an operation was carried out: the host asks at its next start.
const ARE_KEPT: Duration = Duration::from_secs(7 * 24 * 60 * 60);
/// How many ids are remembered as given up. An operation that is still under way belongs to the last
/// questions; what is older is forgotten first.
const MOST_GIVEN_UP: usize = 4_000;

/// The operations that were given up. In memory, since none that is under way outlives the process.
#[derive(Debug, Default)]
pub(crate) struct Operations {
    given_up: Mutex<VecDeque<String>>,
}

impl Operations {
    /// Notes an operation, in the transaction of what it changes.
    ///
    /// # Errors
    /// It was carried out before, or given up.
    pub(crate) fn note(
        &self,
        connection: &Connection,
        operation: &OperationId,
        now: Moment,
    ) -> Result<(), Refusal> {
        let id = operation.as_str();
        if self.given_up.lock().unwrap_or_else(PoisonError::into_inner).iter().any(|other| other == id) {
            let message = "the host was told that the operation with this `operationId` had not happened: nothing \
                was changed now";
            return Err(Refusal::Conflict(message.to_owned()));
        }
        connection
            .prepare_cached("DELETE FROM operations WHERE at < ?1")?
            .execute([now.before(ARE_KEPT)])?;
        let noted = connection
            .prepare_cached("INSERT INTO operations VALUES (?1, ?2) ON CONFLICT DO NOTHING")?
            .execute(params![id, now])?;
        if noted == 0 {
            let message =
                "an operation with this `operationId` was carried out before: nothing was changed now";
            return Err(Refusal::Conflict(message.to_owned()));
        }
        Ok(())
    }

    /// Whether an operation was carried out; if not, it never will be. Called by the database's one
    /// writer, so that no change comes between the question and its consequence.
    pub(crate) fn settle(&self, connection: &Connection, id: &str) -> rusqlite::Result<bool> {
        if connection.prepare_cached("SELECT 1 FROM operations WHERE id = ?1")?.exists([id])? {
            return Ok(true);
        }
        let mut given_up = self.given_up.lock().unwrap_or_else(PoisonError::into_inner);
        if given_up.iter().all(|other| other != id) {
            if given_up.len() >= MOST_GIVEN_UP {
                given_up.pop_front();
            }
            given_up.push_back(id.to_owned());
        }
        Ok(false)
    }
}
