//! API keys: one's own with `key:own`, everybody's with `key:manage`; the provider tells them apart.

use std::sync::Arc;

use axum::body::Body;
use axum::response::Response;
use http::StatusCode;
use serde_json::json;

use super::{Accounts, FROM_PROVIDER, answer, object, schema};
use crate::error::Problem;
use crate::web::{Access, Call, Endpoint, Routes, Tag};

/// Adds the routes.
pub(super) fn routes(routes: Routes, accounts: &Arc<Accounts>) -> Routes {
    const OWN: Access = Access::Scope("key:own");
    let list = Endpoint::get("/admin/keys", OWN)
        .summary(Tag::Keys, "List keys")
        .query::<String>("user", "Only this user's: a name or an id.")
        .answers::<schema::Keys>(200, "The keys, without their secrets.")
        .errors(FROM_PROVIDER);
    let create = Endpoint::post("/admin/keys", OWN)
        .summary(Tag::Keys, "Make a key")
        .takes::<schema::NewKey>()
        .answers::<schema::MadeKey>(201, "The key, with its secret, which is shown this once.")
        .errors(FROM_PROVIDER);
    let revoke = Endpoint::delete("/admin/keys/{id}", OWN)
        .summary(Tag::Keys, "Revoke a key")
        .path::<String>("id", "The key's id.")
        .answers::<schema::Key>(200, "The key, which opens nothing any more.")
        .errors(FROM_PROVIDER);
    let rotate = Endpoint::post("/admin/keys/{id}/rotate", OWN)
        .summary(Tag::Keys, "Give a key a new secret")
        .path::<String>("id", "The key's id.")
        .may_take::<schema::Rotation>()
        .answers::<schema::MadeKey>(200, "The key, with its new secret, which is shown this once.")
        .errors(FROM_PROVIDER);
    routes
        .add(list, accounts, self::list)
        .add(create, accounts, self::create)
        .add(revoke, accounts, self::revoke)
        .add(rotate, accounts, self::rotate)
}

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
