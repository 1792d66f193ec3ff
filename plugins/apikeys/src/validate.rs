//! Says what a credential opens at this moment: `auth.validate`, which stands behind every request.
//!
//! The invariants: generation, key, user and role are read in one state of the database; a credential
//! opens what it grants and its user's role grants, and nothing else; a failure is an error and never
//! `active: false`.

use std::sync::Arc;

use bkg_sdk::{Json, Pattern, Request, Scopes};
use bkg_sqlite::rusqlite::Connection;
use serde::Serialize;

use crate::accounts::Accounts;
use crate::change;
use crate::hmac_key::Digest;
use crate::key::Key;
use crate::limits::Limits;
use crate::moment::Moment;
use crate::payload::Payload;
use crate::refusal::Refusal;
use crate::session::Session;
use crate::token::{Kind, Token};
use crate::user::User;
use crate::uses::Used;

/// What is answered.
#[derive(Debug, Serialize)]
pub(crate) struct Verdict {
    active: bool,
    #[serde(flatten)]
    outcome: Outcome,
    generation: u64,
}

#[derive(Debug, Serialize)]
#[serde(untagged)]
enum Outcome {
    Opens(Box<Opened>),
    Closed { reason: Reason },
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Opened {
    user: String,
    user_id: String,
    #[serde(flatten)]
    credential: Credential,
    scopes: Scopes,
    #[serde(skip_serializing_if = "Option::is_none")]
    models: Option<Vec<Pattern>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    plugins: Option<Vec<Pattern>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    limits: Option<Limits>,
    #[serde(skip_serializing_if = "Option::is_none")]
    user_limits: Option<Limits>,
    #[serde(skip_serializing_if = "is_false")]
    log_bodies: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    expires_at: Option<Moment>,
    /// When the password was typed, for a login; renewing it types none.
    #[serde(skip_serializing_if = "Option::is_none")]
    authenticated_at: Option<Moment>,
    #[serde(skip_serializing_if = "is_false")]
    must_change_password: bool,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
enum Credential {
    KeyId(String),
    SessionId(String),
}

/// Why a credential opens nothing, for logs.
#[derive(Debug, Clone, Copy, Serialize)]
#[serde(rename_all = "snake_case")]
enum Reason {
    Unknown,
    Expired,
    Revoked,
    Disabled,
}

/// Limits, if there are any.
fn said(limits: Limits) -> Option<Limits> {
    Some(limits).filter(|limits| *limits != Limits::default())
}

fn is_false(flag: &bool) -> bool {
    !flag
}

/// `auth.validate`.
pub(crate) async fn validate(accounts: Arc<Accounts>, request: Request) -> Result<Json<Verdict>, Refusal> {
    let mut payload = Payload::of(&request)?;
    let shown = Token::parse(&payload.long_text("token")?);
    payload.end()?;
    let shown = shown.map(|token| (token.kind(), token.id().to_owned(), accounts.hmac_key.digest(&token)));
    let looking = accounts.look(move |connection, now| {
        let outcome = match shown {
            Some((Kind::Key, id, digest)) => of_key(connection, &id, &digest, now)?,
            Some((Kind::Session, id, digest)) => of_session(connection, &id, &digest, now)?,
            Some((Kind::Refresh, ..)) | None => Err(Reason::Unknown),
        };
        Ok((outcome, change::generation(connection)?, now))
    });
    let (outcome, generation, now) = looking.await?;
    if let Ok(opened) = &outcome {
        let (used, id) = match &opened.credential {
            Credential::KeyId(id) => (Used::Key, id),
            Credential::SessionId(id) => (Used::Session, id),
        };
        accounts.uses.note(&accounts.database, used, id, now);
    }
    let active = outcome.is_ok();
    let outcome = match outcome {
        Ok(opened) => Outcome::Opens(Box::new(opened)),
        Err(reason) => Outcome::Closed { reason },
    };
    Ok(Json(Verdict { active, outcome, generation }))
}

fn of_key(
    connection: &Connection,
    id: &str,
    digest: &Digest,
    now: Moment,
) -> Result<Result<Opened, Reason>, Refusal> {
    let Some(key) = Key::by_id(connection, id)? else { return Ok(Err(Reason::Unknown)) };
    // The old secret of a rotated key ends with its grace.
    let secret_ends = match key.previous {
        _ if key.digest.is(digest) => None,
        Some((previous, until)) if previous.is(digest) && until > now => Some(until),
        _ => return Ok(Err(Reason::Unknown)),
    };
    let expires_at = [key.bounds.expires_at, secret_ends].into_iter().flatten().min();
    if key.revoked_at.is_some() {
        return Ok(Err(Reason::Revoked));
    }
    if expires_at.is_some_and(|end| end <= now) {
        return Ok(Err(Reason::Expired));
    }
    let user = User::by_id(connection, &key.user_id)?.expect("a key goes with its user");
    if user.disabled {
        return Ok(Err(Reason::Disabled));
    }
    Ok(Ok(Opened {
        user: user.name,
        user_id: user.id,
        credential: Credential::KeyId(key.id),
        scopes: key.scopes.within(&user.scopes),
        models: key.bounds.models,
        plugins: key.bounds.plugins,
        limits: said(key.bounds.limits),
        user_limits: said(user.limits),
        log_bodies: key.bounds.log_bodies,
        expires_at,
        authenticated_at: None,
        must_change_password: false,
    }))
}

fn of_session(
    connection: &Connection,
    id: &str,
    digest: &Digest,
    now: Moment,
) -> Result<Result<Opened, Reason>, Refusal> {
    let session = Session::by_id(connection, id)?.filter(|session| session.digest.is(digest));
    let Some(session) = session else { return Ok(Err(Reason::Unknown)) };
    if session.expires_at <= now {
        return Ok(Err(Reason::Expired));
    }
    let user = User::by_id(connection, &session.user_id)?.expect("a session goes with its user");
    if user.disabled {
        return Ok(Err(Reason::Disabled));
    }
    Ok(Ok(Opened {
        user: user.name,
        user_id: user.id,
        credential: Credential::SessionId(session.id),
        scopes: if user.must_change_password { Scopes::default() } else { user.scopes },
        models: None,
        plugins: None,
        limits: None,
        user_limits: said(user.limits),
        log_bodies: false,
        expires_at: Some(session.expires_at),
        authenticated_at: Some(session.created_at),
        must_change_password: user.must_change_password,
    }))
}
