//! What everybody may see and change about themselves.

use std::sync::Arc;

use axum::body::Body;
use axum::response::Response;
use bkg_protocol::{ErrorCode, RawJson};
use http::StatusCode;
use serde_json::{Map, Value, json};
use tokio::time::Instant;

use super::login::text;
use super::{Accounts, FROM_PROVIDER, answer, object, schema};
use crate::auth::{Change, ChangeError, Credential, ProviderError};
use crate::error::Problem;
use crate::web::{Access, Call, Endpoint, Routes, Tag};

/// Adds the routes.
pub(super) fn routes(routes: Routes, accounts: &Arc<Accounts>) -> Routes {
    let me = Endpoint::get("/auth/me", Access::AnyCaller)
        .summary(Tag::Login, "Show who the caller is")
        .answers::<schema::Me>(200, "The caller.");
    let update = Endpoint::patch("/auth/me", Access::Login)
        .summary(Tag::Login, "Change one's own name")
        .takes::<schema::OwnName>()
        .answers::<schema::User>(200, "The user.")
        .errors(FROM_PROVIDER);
    let password = Endpoint::post("/auth/password", Access::Login)
        .summary(Tag::Login, "Change one's own password")
        .describe("All other logins of the user end.")
        .takes::<schema::OwnPassword>()
        .answers::<schema::Nothing>(200, "It is changed.")
        .errors(FROM_PROVIDER);
    let sessions = Endpoint::get("/auth/sessions", Access::Login)
        .summary(Tag::Login, "List one's own logins")
        .answers::<schema::Sessions>(200, "The logins.")
        .errors(FROM_PROVIDER);
    let end_session = Endpoint::delete("/auth/sessions/{id}", Access::Login)
        .summary(Tag::Login, "End one of one's own logins")
        .path::<String>("id", "The login's id.")
        .answers::<schema::Nothing>(200, "It has ended.")
        .errors(FROM_PROVIDER);
    routes
        .add(me, accounts, self::me)
        .add(update, accounts, self::update)
        .add(password, accounts, change_password)
        .add(sessions, accounts, self::sessions)
        .add(end_session, accounts, self::end_session)
}

/// Who the caller is, from the host's view, with what the provider adds about the user.
pub(super) async fn me(accounts: Arc<Accounts>, call: Call, _: Body) -> Result<Response, Problem> {
    let rights = call.caller.rights();
    let (kind, key_id, session_id) = match &rights.credential {
        Credential::Root => ("root", None, None),
        Credential::Key { id } => ("key", Some(id), None),
        Credential::Session { id } => ("session", None, Some(id)),
        Credential::Other | Credential::Nothing => ("other", None, None),
    };
    let mut me = object([
        ("kind", Some(json!(kind))),
        ("user", Some(json!(call.caller.user()))),
        ("userId", rights.user_id.as_ref().map(|id| json!(id))),
        ("keyId", key_id.map(|id| json!(&**id))),
        ("sessionId", session_id.map(|id| json!(&**id))),
        ("scopes", Some(json!(rights.scopes))),
        ("models", rights.reach.models.as_ref().map(|models| json!(models))),
        ("plugins", rights.reach.plugins.as_ref().map(|plugins| json!(plugins))),
        ("expiresAt", rights.expires_at.map(|end| json!(end))),
        ("mustChangePassword", rights.must_change_password.then_some(json!(true))),
    ]);
    if let Some(user) = about_user(&accounts, &call).await {
        for name in ["role", "displayName", "createdAt", "lastLoginAt"] {
            if let Some(value) = user.get(name) {
                me.insert(name.to_owned(), value.clone());
            }
        }
    }
    Ok(answer(StatusCode::OK, RawJson::of(&me)))
}

/// What the provider knows of the caller's user. A provider that is away takes nothing from what the
/// host knows itself.
async fn about_user(accounts: &Accounts, call: &Call) -> Option<Map<String, Value>> {
    let id = call.caller.rights().user_id.as_ref()?;
    let user = accounts.ask(call, "auth.me", object([("userId", Some(json!(id)))])).await.ok()?;
    user.read().ok()
}

pub(super) async fn update(accounts: Arc<Accounts>, call: Call, body: Body) -> Result<Response, Problem> {
    let mut body = accounts.object(&call, body).await?;
    let name = text(&mut body, "displayName")?;
    let payload = object([("id", Some(own_id(&call)?)), ("displayName", Some(json!(name)))]);
    let action = ("user.update", format!("user {}", call.caller.user()));
    Ok(answer(StatusCode::OK, accounts.change(&call, "auth.users.update", payload, action).await?))
}

pub(super) async fn change_password(
    accounts: Arc<Accounts>,
    call: Call,
    body: Body,
) -> Result<Response, Problem> {
    let mut body = accounts.object(&call, body).await?;
    let payload = object([
        ("id", Some(own_id(&call)?)),
        ("oldPassword", Some(json!(text(&mut body, "oldPassword")?))),
        ("newPassword", Some(json!(text(&mut body, "newPassword")?))),
        ("keepSession", call.caller.session_id().map(|id| json!(&**id))),
    ]);
    let target = format!("user {}", call.caller.user());
    with_old_password(&accounts, &call, payload, target).await?;
    accounts.forget_initial_password(call.caller.user()).await?;
    Ok(answer(StatusCode::OK, RawJson::EMPTY_OBJECT))
}

/// Changes a password for who says the old one. Whoever holds somebody's login must not find the
/// password out by trying, whichever route it is tried at.
pub(super) async fn with_old_password(
    accounts: &Accounts,
    call: &Call,
    payload: Map<String, Value>,
    target: String,
) -> Result<RawJson, Problem> {
    let attempt = accounts.attempt(call, call.caller.user())?;
    let action = call.action("user.password", target, json!({}));
    let change = Change { capability: "auth.users.password", payload, action };
    match accounts.changes.make(change, Some(&call.caller)).await {
        Ok(user) => {
            attempt.succeeded();
            Ok(user)
        }
        Err(ChangeError::Provider(ProviderError::Refused(refusal)))
            if refusal.code == ErrorCode::Unauthorized.as_str() =>
        {
            attempt.failed(Instant::now());
            // 401 would say that the login itself is not valid.
            Err(Problem::new(ErrorCode::Forbidden, refusal.message).param("oldPassword"))
        }
        Err(error) => Err(error.into()),
    }
}

pub(super) async fn sessions(accounts: Arc<Accounts>, call: Call, _: Body) -> Result<Response, Problem> {
    let payload = object([("userId", Some(own_id(&call)?))]);
    Ok(answer(StatusCode::OK, accounts.ask(&call, "auth.sessions.list", payload).await?))
}

pub(super) async fn end_session(accounts: Arc<Accounts>, call: Call, _: Body) -> Result<Response, Problem> {
    let id = call.param("id")?;
    let action = ("session.revoke", format!("session {id}"));
    let payload = object([("id", Some(json!(id)))]);
    Ok(answer(StatusCode::OK, accounts.change(&call, "auth.sessions.revoke", payload, action).await?))
}

fn own_id(call: &Call) -> Result<Value, Problem> {
    let id = call.caller.rights().user_id.as_ref();
    id.map(|id| json!(id)).ok_or_else(|| {
        Problem::new(ErrorCode::Forbidden, "this login belongs to no user of the auth provider")
    })
}
