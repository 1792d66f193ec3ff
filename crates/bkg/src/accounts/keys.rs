//! API keys: one's own with `key:own`, everybody's with `key:manage`; the provider tells them apart.

use std::sync::Arc;

use axum::body::Body;
use axum::response::Response;
use http::StatusCode;
use serde_json::json;

use super::{Accounts, answer, object};
use crate::error::Problem;
use crate::web::Call;

pub(super) async fn list(accounts: Arc<Accounts>, call: Call, _: Body) -> Result<Response, Problem> {
    let payload = object([("user", call.query("user")?.map(|user| json!(user)))]);
    Ok(answer(StatusCode::OK, accounts.ask(&call, "auth.listKeys", payload).await?))
}

/// Makes a key; its secret is in this answer and nowhere else.
pub(super) async fn create(accounts: Arc<Accounts>, call: Call, body: Body) -> Result<Response, Problem> {
    let payload = accounts.object(&call, body).await?;
    let owner = payload.get("user").and_then(|user| user.as_str()).unwrap_or(call.caller.user());
    let action = ("key.create", format!("user {owner}"));
    Ok(answer(StatusCode::CREATED, accounts.change(&call, "auth.createKey", payload, action).await?))
}

pub(super) async fn revoke(accounts: Arc<Accounts>, call: Call, _: Body) -> Result<Response, Problem> {
    let id = call.param("id")?;
    let action = ("key.revoke", format!("key {id}"));
    let payload = object([("id", Some(json!(id)))]);
    Ok(answer(StatusCode::OK, accounts.change(&call, "auth.revokeKey", payload, action).await?))
}

pub(super) async fn rotate(accounts: Arc<Accounts>, call: Call, body: Body) -> Result<Response, Problem> {
    let id = call.param("id")?;
    let mut payload = accounts.object(&call, body).await?;
    let action = ("key.rotate", format!("key {id}"));
    payload.insert("id".to_owned(), json!(id));
    Ok(answer(StatusCode::OK, accounts.change(&call, "auth.rotateKey", payload, action).await?))
}
