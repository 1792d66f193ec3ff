//! Tells the host whether changes that it asked for happened: `auth.outcome`.
//!
//! The invariant: `done` means that the change is on disk; `unknown` that it never will be, unless it was
//! asked for in the last moments or too long ago.

use std::sync::Arc;

use bkg_sdk::Request;
use bkg_sqlite::rusqlite::OptionalExtension;
use serde_json::{Map, Value, json};

use crate::accounts::Accounts;
use crate::payload::Payload;
use crate::refusal::Refusal;
use crate::rights::Asker;
use crate::user::require_users;

/// How many operations may be asked about at once.
const MOST_OPERATIONS: usize = 1_000;

/// `auth.outcome`.
pub(crate) async fn outcome(accounts: Arc<Accounts>, request: Request) -> Result<Value, Refusal> {
    let mut payload = Payload::of(&request)?;
    let ids: Option<Vec<String>> = payload.list("operationIds", MOST_OPERATIONS)?;
    payload.end()?;
    let ids = ids.ok_or_else(|| Refusal::invalid("operationIds", "`operationIds` is missing"))?;
    if matches!(Asker::of(&request), Asker::User(_)) {
        return Err(Refusal::forbidden("only the host asks about its operations"));
    }
    let looking = accounts.look(move |connection, _| {
        require_users(connection)?;
        let mut query = connection.prepare_cached("SELECT 1 FROM operations WHERE id = ?1")?;
        let mut outcomes = Map::new();
        for id in ids {
            let is_done = query.query_row([&id], |_| Ok(())).optional()?.is_some();
            outcomes.insert(id, json!(if is_done { "done" } else { "unknown" }));
        }
        Ok(json!({ "outcomes": outcomes }))
    });
    looking.await
}
