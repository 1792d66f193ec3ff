//! When keys and logins were last used: noted at most once a minute for each, and not urgently.
//!
//! Nothing depends on it, so it shares somebody else's commit and may be lost with the last second. The
//! invariant: checking a credential never waits for it. Called by `validate`.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use bkg_sqlite::Database;
use bkg_sqlite::rusqlite::params;

use crate::moment::Moment;

/// How exact the time of the last use is.
const EVERY: Duration = Duration::from_secs(60);
/// How many ids are remembered as noted; one more forgets them all, which costs a write each.
const MOST: usize = 10_000;

/// What was noted lately.
#[derive(Debug, Default)]
pub(crate) struct Uses {
    noted: Mutex<HashMap<String, Moment>>,
}

/// What was used.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Used {
    /// An API key.
    Key,
    /// A login.
    Session,
}

impl Uses {
    /// Notes that something was used now, unless it was noted in the last minute.
    pub(crate) fn note(&self, database: &Database, used: Used, id: &str, now: Moment) {
        {
            let mut noted = self.noted.lock().unwrap_or_else(PoisonError::into_inner);
            if noted.get(id).is_some_and(|last| last.after(EVERY) > now && *last <= now) {
                return;
            }
            if noted.len() >= MOST {
                noted.clear();
            }
            noted.insert(id.to_owned(), now);
        }
        let sql = match used {
            Used::Key => "UPDATE keys SET last_used_at = ?2 WHERE id = ?1",
            Used::Session => "UPDATE sessions SET last_used_at = ?2 WHERE id = ?1",
        };
        let id = id.to_owned();
        let taken = database.post(move |connection| {
            connection.prepare_cached(sql)?.execute(params![id, now])?;
            Ok(())
        });
        if !taken {
            tracing::debug!("the time of a use was not noted: the database has too much to write");
        }
    }
}
