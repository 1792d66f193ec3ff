//! Users, roles, and everybody's logins: for administrators.

use std::sync::Arc;

use axum::body::Body;
use axum::response::Response;
use bkg_protocol::{ErrorCode, RawJson};
use http::StatusCode;
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::own::with_old_password;
use super::{Accounts, answer, object};
use crate::error::Problem;
use crate::web::Call;

pub(super) async fn list(accounts: Arc<Accounts>, call: Call, _: Body) -> Result<Response, Problem> {
    Ok(answer(StatusCode::OK, accounts.ask(&call, "auth.users.list", Map::new()).await?))
}

pub(super) async fn create(accounts: Arc<Accounts>, call: Call, body: Body) -> Result<Response, Problem> {
    let payload = accounts.object(&call, body).await?;
    let name = payload.get("name").and_then(Value::as_str).unwrap_or_default();
    let action = ("user.create", format!("user {name}"));
    Ok(answer(StatusCode::CREATED, accounts.change(&call, "auth.users.create", payload, action).await?))
}

pub(super) async fn update(accounts: Arc<Accounts>, call: Call, body: Body) -> Result<Response, Problem> {
    let (payload, target) = named(&accounts, &call, body, "id", "user").await?;
    let action = ("user.update", target);
    Ok(answer(StatusCode::OK, accounts.change(&call, "auth.users.update", payload, action).await?))
}

pub(super) async fn delete(accounts: Arc<Accounts>, call: Call, body: Body) -> Result<Response, Problem> {
    let (payload, target) = named(&accounts, &call, body, "id", "user").await?;
    let action = ("user.delete", target);
    Ok(answer(StatusCode::OK, accounts.change(&call, "auth.users.delete", payload, action).await?))
}

pub(super) async fn set_password(
    accounts: Arc<Accounts>,
    call: Call,
    body: Body,
) -> Result<Response, Problem> {
    let (payload, target) = named(&accounts, &call, body, "id", "user").await?;
    let user = if payload.contains_key("oldPassword") {
        with_old_password(&accounts, &call, payload, target).await?
    } else {
        accounts.change(&call, "auth.users.password", payload, ("user.password", target)).await?
    };
    accounts.forget_initial_password(&name_of(&user)).await?;
    Ok(answer(StatusCode::OK, user))
}

/// Makes a user an administrator with a new password, whatever was before: the way back in, for
/// whoever holds the root key.
pub(super) async fn reset(accounts: Arc<Accounts>, call: Call, body: Body) -> Result<Response, Problem> {
    if !call.caller.is_root() {
        let message = "only the root key resets users: `bkg --root user reset`";
        return Err(Problem::new(ErrorCode::Forbidden, message));
    }
    let mut payload = accounts.object(&call, body).await?;
    let name = call.param("id")?;
    payload.insert("name".to_owned(), json!(name));
    let action = ("user.reset", format!("user {name}"));
    let user = accounts.change(&call, "auth.users.reset", payload, action).await?;
    accounts.forget_initial_password(&name_of(&user)).await?;
    Ok(answer(StatusCode::OK, user))
}

pub(super) async fn list_roles(accounts: Arc<Accounts>, call: Call, _: Body) -> Result<Response, Problem> {
    Ok(answer(StatusCode::OK, accounts.ask(&call, "auth.roles.list", Map::new()).await?))
}

pub(super) async fn set_role(accounts: Arc<Accounts>, call: Call, body: Body) -> Result<Response, Problem> {
    let (payload, target) = named(&accounts, &call, body, "name", "role").await?;
    let action = ("role.set", target);
    Ok(answer(StatusCode::OK, accounts.change(&call, "auth.roles.set", payload, action).await?))
}

pub(super) async fn delete_role(
    accounts: Arc<Accounts>,
    call: Call,
    body: Body,
) -> Result<Response, Problem> {
    let (payload, target) = named(&accounts, &call, body, "name", "role").await?;
    let action = ("role.delete", target);
    Ok(answer(StatusCode::OK, accounts.change(&call, "auth.roles.delete", payload, action).await?))
}

pub(super) async fn list_sessions(
    accounts: Arc<Accounts>,
    call: Call,
    _: Body,
) -> Result<Response, Problem> {
    let payload = object([("userId", call.query("user")?.map(|user| json!(user)))]);
    Ok(answer(StatusCode::OK, accounts.ask(&call, "auth.sessions.list", payload).await?))
}

pub(super) async fn end_session(
    accounts: Arc<Accounts>,
    call: Call,
    body: Body,
) -> Result<Response, Problem> {
    let (payload, target) = named(&accounts, &call, body, "id", "session").await?;
    let action = ("session.revoke", target);
    Ok(answer(StatusCode::OK, accounts.change(&call, "auth.sessions.revoke", payload, action).await?))
}

/// A body with what the path names, and how the audit log calls that.
async fn named(
    accounts: &Accounts,
    call: &Call,
    body: Body,
    member: &'static str,
    kind: &str,
) -> Result<(Map<String, Value>, String), Problem> {
    let name = call.param(member)?;
    let mut payload = accounts.object(call, body).await?;
    let target = format!("{kind} {name}");
    payload.insert(member.to_owned(), json!(name));
    Ok((payload, target))
}

/// The name in a user object.
fn name_of(user: &RawJson) -> String {
    #[derive(Deserialize)]
    struct User {
        name: String,
    }
    user.read::<User>().map(|user| user.name).unwrap_or_default()
}
