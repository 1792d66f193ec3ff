//! Tells the host whether changes that it asked for happened: `auth.outcome`.
//!
//! The invariant: `done` means that the change is on disk; `unknown` that it never will be, unless it was
//! asked for so long ago that it is forgotten.

use std::sync::Arc;

use bkg_sdk::Request;
use serde_json::{Map, Value, json};

use crate::accounts::Accounts;
use crate::payload::Payload;
use crate::refusal::Refusal;
use crate::rights::Asker;

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
    let settled = accounts.settle(ids).await?.into_iter();
    let outcomes: Map<String, Value> =
        settled.map(|(id, is_done)| (id, json!(if is_done { "done" } else { "unknown" }))).collect();
    Ok(json!({ "outcomes": outcomes }))
}
