//! Logins, keys, users and roles over HTTP: asks the auth provider on behalf of whoever calls.
//!
//! Not where any of that is kept, and not the rules about it: those are the provider's, see
//! `docs/auth-provider.md`. The invariants: every change has its entry in the audit log, and no
//! password and no key is in any entry.

mod keys;
mod login;
mod own;
mod schema;
mod throttle;
mod users;

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::response::{IntoResponse, Response};
use bkg_protocol::{ErrorCode, RawJson};
use http::{HeaderValue, StatusCode, header};
use serde_json::{Map, Value, json};
use tokio::time::Instant;

use crate::auth::{Authenticator, Change, Changes, FIRST_USER};
use crate::config::HttpLimits;
use crate::error::Problem;
use crate::store::{Action, Audit, DataDir};
use crate::web::{Call, Routes, members};
use throttle::{Attempt, Throttle};

/// The largest body that these routes take.
const BODY_BYTES: usize = 64 << 10;
/// How long the provider may take to answer what changes nothing.
const ANSWER_WITHIN: Duration = Duration::from_secs(10);

/// What these routes work with.
#[derive(Debug)]
pub struct Accounts {
    authenticator: Arc<Authenticator>,
    changes: Arc<Changes>,
    audit: Audit,
    data: Arc<DataDir>,
    limits: HttpLimits,
    throttle: Throttle,
}

/// Adds the routes.
pub fn routes(routes: Routes, accounts: &Arc<Accounts>) -> Routes {
    let routes = login::routes(routes, accounts);
    let routes = own::routes(routes, accounts);
    let routes = keys::routes(routes, accounts);
    users::routes(routes, accounts)
}

/// What may go wrong where the auth provider is asked.
const FROM_PROVIDER: &[ErrorCode] = &[
    ErrorCode::InvalidRequest,
    ErrorCode::Forbidden,
    ErrorCode::NotFound,
    ErrorCode::Conflict,
    ErrorCode::RateLimited,
    ErrorCode::PluginError,
    ErrorCode::PluginUnavailable,
    ErrorCode::Overloaded,
    ErrorCode::InsufficientStorage,
];

impl Accounts {
    /// Accounts that the provider of `authenticator` keeps.
    pub fn new(
        authenticator: Arc<Authenticator>,
        changes: Arc<Changes>,
        audit: Audit,
        data: Arc<DataDir>,
        limits: &HttpLimits,
    ) -> Self {
        let limits = HttpLimits { body_bytes: BODY_BYTES.min(limits.body_bytes), ..limits.clone() };
        Self { authenticator, changes, audit, data, limits, throttle: Throttle::default() }
    }

    /// The members of a body; an absent body has none.
    async fn object(&self, call: &Call, body: Body) -> Result<Map<String, Value>, Problem> {
        if http_body::Body::is_end_stream(&body) {
            return Ok(Map::new());
        }
        let mut object: Map<String, Value> = members(&call.json(body, &self.limits).await?)?;
        // The host's own, whatever the client sends.
        object.remove("operationId");
        Ok(object)
    }

    /// Lets somebody try a password of `user`, unless it was tried too often from there.
    fn attempt(&self, call: &Call, user: &str) -> Result<Attempt<'_>, Problem> {
        self.throttle.begin(user, address_of(call), Instant::now())
    }

    /// Asks the provider something that changes nothing.
    async fn ask(
        &self,
        call: &Call,
        capability: &str,
        payload: Map<String, Value>,
    ) -> Result<RawJson, Problem> {
        let asking = self.authenticator.provider().ask(
            capability,
            RawJson::of(&payload),
            Some(&call.caller),
            call.request_id(),
            ANSWER_WITHIN,
        );
        Ok(asking.await?)
    }

    /// Has the provider change something on behalf of the caller.
    async fn change(
        &self,
        call: &Call,
        capability: &'static str,
        payload: Map<String, Value>,
        (action, target): (&'static str, String),
    ) -> Result<RawJson, Problem> {
        let action = call.action(action, target, detail(&payload));
        let change = Change { capability, payload, action };
        Ok(self.changes.make(change, Some(&call.caller)).await?)
    }

    /// The generated password of the first administrator is worth nothing once another was chosen.
    async fn forget_initial_password(&self, user: &str) -> Result<(), Problem> {
        if user != FIRST_USER {
            return Ok(());
        }
        let data = Arc::clone(&self.data);
        let removing = tokio::task::spawn_blocking(move || data.remove_initial_password());
        Ok(removing.await.expect("removing a file does not panic")?)
    }
}

/// Where a call comes from; what has no address is one place together.
fn address_of(call: &Call) -> IpAddr {
    call.peer().unwrap_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED))
}

/// What the audit log says of a change: the members that are known to hold no secret.
fn detail(payload: &Map<String, Value>) -> Value {
    const OPEN: [&str; 13] = [
        "name",
        "user",
        "scopes",
        "models",
        "plugins",
        "limits",
        "expiresAt",
        "expiresInDays",
        "role",
        "disabled",
        "displayName",
        "graceSeconds",
        "sessionId",
    ];
    let open = payload.iter().filter(|(name, _)| OPEN.contains(&name.as_str()));
    Value::Object(open.map(|(name, value)| (name.clone(), value.clone())).collect())
}

/// What the provider answered, as it is; never kept by anything on the way.
fn answer(status: StatusCode, data: RawJson) -> Response {
    let mut response = (status, Body::from(data.into_text().into_bytes())).into_response();
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

/// An object with these members; absent ones are left out.
fn object<const N: usize>(members: [(&str, Option<Value>); N]) -> Map<String, Value> {
    let present = members.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?)));
    present.collect()
}

/// What happened at the login of `user`, done by `actor`: whoever typed a wrong password is nobody.
fn login_action(call: &Call, name: &'static str, user: &str, actor: &str) -> Action {
    let mut action = call.action(name, format!("user {user}"), json!({}));
    actor.clone_into(&mut action.actor.user);
    action
}
