//! Logging in and out, and new tokens for old ones.
//!
//! Browsers carry their tokens in cookies that no script can read and no other site can send;
//! programs take them from the answer.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::response::Response;
use bkg_protocol::{ErrorCode, RawJson};
use http::{HeaderMap, HeaderValue, StatusCode, header};
use jiff::Timestamp;
use serde::Deserialize;
use serde_json::{Map, Value, json};
use tokio::time::Instant;
use tracing::{info, warn};

use super::{Accounts, FROM_PROVIDER, address_of, answer, login_action, object, schema};
use crate::auth::ProviderError;
use crate::error::Problem;
use crate::store::Outcome;
use crate::web::{Access, Call, Endpoint, Routes, Scheme, Tag, cookie, session_cookie};

/// How long a login may take: others' passwords may be hashed before it.
const LOGIN_WITHIN: Duration = Duration::from_secs(15);
/// The one route to which the cookie with the refresh token is sent.
const REFRESH_PATH: &str = "/auth/refresh";
/// How long a user name and a password may be; what they must be is the provider's matter.
const LONGEST_TEXT: usize = 1_024;

/// Who the audit log names where somebody has not shown who he is; no user has this name.
const NOBODY: &str = "nobody";

/// What of a login's answer the host itself needs.
#[derive(Debug, Deserialize)]
struct Login {
    token: String,
    /// In milliseconds since 1970.
    expires_at: i64,
    #[serde(rename = "refreshToken")]
    refresh_token: Option<String>,
    refresh_expires_at: Option<i64>,
}

/// Adds the routes.
pub(super) fn routes(routes: Routes, accounts: &Arc<Accounts>) -> Routes {
    let login = Endpoint::post("/auth/login", Access::Public)
        .summary(Tag::Login, "Log in")
        .describe("Browsers get the tokens as cookies; programs take them from the answer.")
        .takes::<schema::Credentials>()
        .answers::<schema::Login>(200, "A login.")
        .with_header("set-cookie", "`bkg_session` and `bkg_refresh`.")
        .errors(&[ErrorCode::Unauthorized])
        .errors(FROM_PROVIDER);
    let refresh = Endpoint::post("/auth/refresh", Access::Public)
        .summary(Tag::Login, "Get new tokens for old ones")
        .describe("The old tokens are dead. A refresh token that was used before ends its login.")
        .may_take::<schema::Refresh>()
        .answers::<schema::Login>(200, "The login with new tokens.")
        .with_header("set-cookie", "`bkg_session` and `bkg_refresh`.")
        .errors(&[ErrorCode::Unauthorized])
        .errors(FROM_PROVIDER);
    let logout = Endpoint::post("/auth/logout", Access::Login)
        .summary(Tag::Login, "Log out")
        .answers::<schema::Nothing>(200, "The login has ended.")
        .with_header("set-cookie", "Both cookies, empty.")
        .errors(FROM_PROVIDER);
    routes.add(login, accounts, self::login).add(refresh, accounts, self::refresh).add(
        logout,
        accounts,
        self::logout,
    )
}

pub(super) async fn login(accounts: Arc<Accounts>, call: Call, body: Body) -> Result<Response, Problem> {
    let mut body = accounts.object(&call, body).await?;
    let username = text(&mut body, "username")?;
    let password = text(&mut body, "password")?;
    let address = address_of(&call);
    let attempt = accounts.attempt(&call, &username)?;
    let mut payload = Map::new();
    payload.insert("username".to_owned(), json!(username));
    payload.insert("password".to_owned(), json!(password));
    payload.insert("client".to_owned(), client(&call));
    let answered = ask(&accounts, &call, "auth.login", payload).await;
    let (outcome, actor) = match &answered {
        Ok(_) => {
            attempt.succeeded();
            info!(user = username, %address, "logged in");
            (Outcome::Done, username.as_str())
        }
        Err(ProviderError::Refused(refusal)) if refusal.code == ErrorCode::Unauthorized.as_str() => {
            attempt.failed(Instant::now());
            warn!(user = username, %address, "a login failed");
            (Outcome::Failed, NOBODY)
        }
        Err(_) => return Err(answered.expect_err("it was looked at").into()),
    };
    accounts.audit.note(login_action(&call, "login", &username, actor), outcome).await?;
    logged_in(answered?, Scheme::of(&call.parts))
}

pub(super) async fn refresh(accounts: Arc<Accounts>, call: Call, body: Body) -> Result<Response, Problem> {
    let mut body = accounts.object(&call, body).await?;
    let token = match cookie(&call.parts.headers, refresh_cookie(Scheme::of(&call.parts))) {
        _ if body.contains_key("refreshToken") => text(&mut body, "refreshToken")?,
        Some(token) => token.to_owned(),
        None => return Err(missing("refreshToken")),
    };
    let payload = object([("refreshToken", Some(json!(token))), ("client", Some(client(&call)))]);
    let answered = ask(&accounts, &call, "auth.refresh", payload).await;
    if let Err(ProviderError::Refused(refusal)) = &answered
        && refusal.code == "reused"
    {
        warn!("a refresh token was used twice: its login is ended, since one of the two was not its owner");
        let action = login_action(&call, "session.reused", "unknown", NOBODY);
        accounts.audit.note(action, Outcome::Done).await?;
    }
    logged_in(answered?, Scheme::of(&call.parts))
}

pub(super) async fn logout(accounts: Arc<Accounts>, call: Call, _: Body) -> Result<Response, Problem> {
    let id = call.caller.session_id().map(|id| json!(&**id));
    let action = ("logout", format!("user {}", call.caller.user()));
    let data = accounts.change(&call, "auth.logout", object([("sessionId", id)]), action).await?;
    let mut response = answer(StatusCode::OK, data);
    let scheme = Scheme::of(&call.parts);
    set_cookie(response.headers_mut(), scheme, (session_cookie(scheme), "/"), "", 0);
    set_cookie(response.headers_mut(), scheme, (refresh_cookie(scheme), REFRESH_PATH), "", 0);
    Ok(response)
}

async fn ask(
    accounts: &Accounts,
    call: &Call,
    capability: &str,
    payload: Map<String, Value>,
) -> Result<RawJson, ProviderError> {
    let provider = accounts.authenticator.provider();
    provider.ask(capability, RawJson::of(&payload), None, call.request_id(), LOGIN_WITHIN).await
}

/// The provider's answer to a login, with the cookies that a browser needs.
fn logged_in(data: RawJson, scheme: Scheme) -> Result<Response, Problem> {
    let login: Login = data
        .read()
        .map_err(|error| Problem::bad_answer(format!("the auth provider's answer is no login: {error}")))?;
    let mut response = answer(StatusCode::OK, data);
    let headers = response.headers_mut();
    let session = (session_cookie(scheme), "/");
    set_cookie(headers, scheme, session, &login.token, seconds_until(login.expires_at));
    if let (Some(token), Some(end)) = (login.refresh_token, login.refresh_expires_at) {
        let refresh = (refresh_cookie(scheme), REFRESH_PATH);
        set_cookie(headers, scheme, refresh, &token, seconds_until(end));
    }
    Ok(response)
}

/// The name of the cookie with the refresh token. Over TLS it is one that browsers take over TLS only;
/// the stricter prefix of the session's cookie does not allow a path.
fn refresh_cookie(scheme: Scheme) -> &'static str {
    match scheme {
        Scheme::Http => "bkg_refresh",
        Scheme::Https => "__Secure-bkg_refresh",
    }
}

/// Adds a cookie that no script reads and that no other site sends. A token that does not fit into a
/// cookie is left out: programs have it from the body.
fn set_cookie(
    headers: &mut HeaderMap,
    scheme: Scheme,
    (name, path): (&str, &str),
    value: &str,
    seconds: i64,
) {
    let secure = if scheme == Scheme::Https { "; Secure" } else { "" };
    let fits =
        value.bytes().all(|byte| byte.is_ascii_graphic() && !matches!(byte, b'"' | b',' | b';' | b'\\'));
    let cookie =
        format!("{name}={value}; Path={path}; Max-Age={seconds}{secure}; HttpOnly; SameSite=Strict");
    if let Ok(cookie) = HeaderValue::from_str(&cookie)
        && fits
    {
        headers.append(header::SET_COOKIE, cookie);
    }
}

fn seconds_until(milliseconds: i64) -> i64 {
    (milliseconds.saturating_sub(Timestamp::now().as_millisecond()) / 1_000).max(0)
}

/// Where a login comes from, for the list of logins.
fn client(call: &Call) -> Value {
    let agent = call.parts.headers.get(header::USER_AGENT).and_then(|agent| agent.to_str().ok());
    let agent: Option<String> = agent.map(|agent| agent.chars().take(256).collect());
    json!({ "address": call.peer(), "userAgent": agent })
}

/// Takes a text that must be there.
pub(super) fn text(body: &mut Map<String, Value>, name: &'static str) -> Result<String, Problem> {
    match body.remove(name) {
        Some(Value::String(text)) if text.len() <= LONGEST_TEXT => Ok(text),
        Some(Value::String(_)) => {
            Err(Problem::invalid(format!("`{name}` is longer than {LONGEST_TEXT} bytes")).param(name))
        }
        Some(_) => Err(Problem::invalid(format!("`{name}` is no text")).param(name)),
        None => Err(missing(name)),
    }
}

fn missing(name: &'static str) -> Problem {
    Problem::invalid(format!("`{name}` is missing")).param(name)
}
