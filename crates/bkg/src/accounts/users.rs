//! Users, roles, and everybody's logins: for administrators.

use std::sync::Arc;

use axum::body::Body;
use axum::response::Response;
use bkg_protocol::{ErrorCode, RawJson};
use http::StatusCode;
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::own::with_old_password;
use super::{Accounts, FROM_PROVIDER, answer, object, schema};
use crate::error::Problem;
use crate::web::{Access, Call, Endpoint, Routes, Tag, Unsummarised};

const ADMIN: Access = Access::Scope("admin");
const USER: &str = "The user's id or name.";

/// Adds the routes.
pub(super) fn routes(routes: Routes, accounts: &Arc<Accounts>) -> Routes {
    let get = |path, summary| described(Endpoint::get(path, ADMIN), summary);
    let post = |path, summary| described(Endpoint::post(path, ADMIN), summary);
    let delete = |path, summary| described(Endpoint::delete(path, ADMIN), summary);
    let list = get("/admin/users", "List users").answers::<schema::Users>(200, "The users.");
    let create = post("/admin/users", "Make a user")
        .takes::<schema::NewUser>()
        .answers::<schema::UserWithPassword>(201, "The user, with the password if one was made.");
    let update = described(Endpoint::patch("/admin/users/{id}", ADMIN), "Change a user")
        .path::<String>("id", USER)
        .may_take::<schema::UserChange>()
        .answers::<schema::User>(200, "The user.");
    let delete_user = delete("/admin/users/{id}", "Delete a user")
        .describe("The user's keys and logins go with it.")
        .path::<String>("id", USER)
        .answers::<schema::Nothing>(200, "It is gone.");
    let password = post("/admin/users/{id}/password", "Set a user's password")
        .path::<String>("id", USER)
        .takes::<schema::NewPassword>()
        .answers::<schema::User>(200, "The user.");
    let reset = post("/admin/users/{id}/reset", "Make a user an administrator again")
        .describe("The way back in, for the root key alone. Makes the user if there is none of the name.")
        .path::<String>("id", "The user's name.")
        .may_take::<schema::Reset>()
        .answers::<schema::UserWithPassword>(200, "The user, with the password if one was made.");
    let roles = get("/admin/roles", "List roles").answers::<schema::Roles>(200, "The roles.");
    let set_role = described(Endpoint::put("/admin/roles/{name}", ADMIN), "Make or change a role")
        .path::<schema::RoleName>("name", "The role's name.")
        .takes::<schema::RoleScopes>()
        .answers::<schema::Role>(200, "The role.");
    let delete_role = delete("/admin/roles/{name}", "Delete a role")
        .path::<schema::RoleName>("name", "The role's name.")
        .answers::<schema::Nothing>(200, "It is gone.");
    let sessions = get("/admin/sessions", "List everybody's logins")
        .query::<String>("user", "Only this user's: a name or an id.")
        .answers::<schema::Sessions>(200, "The logins.");
    let end_session = delete("/admin/sessions/{id}", "End a login")
        .path::<String>("id", "The login's id.")
        .answers::<schema::Nothing>(200, "It has ended.");
    routes
        .add(list, accounts, self::list)
        .add(create, accounts, self::create)
        .add(update, accounts, self::update)
        .add(delete_user, accounts, self::delete)
        .add(password, accounts, set_password)
        .add(reset, accounts, self::reset)
        .add(roles, accounts, list_roles)
        .add(set_role, accounts, self::set_role)
        .add(delete_role, accounts, self::delete_role)
        .add(sessions, accounts, list_sessions)
        .add(end_session, accounts, self::end_session)
}

fn described(endpoint: Unsummarised, summary: &'static str) -> Endpoint {
    endpoint.summary(Tag::Users, summary).errors(FROM_PROVIDER)
}

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
