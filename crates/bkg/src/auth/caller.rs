//! Who is asking: what a credential turned out to be, and what it opens.
//!
//! A caller never changes. When what its credential opens changes, the caller is revoked and another
//! one takes its place, so whoever holds one for longer than a moment watches [`Caller::revoked`].

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use bkg_protocol::{Pattern, Scopes, message};
use jiff::Timestamp;
use serde::Deserialize;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::AuthError;
use super::consumption::{Demand, Holder, Holders, Reservation};
use super::limits::Limits;
use crate::registry::Reach;

/// How long after its password was typed a login counts as recent.
const RECENT: Duration = Duration::from_secs(5 * 60);

/// Who is asking; cheap to share.
#[derive(Clone)]
pub struct Caller(Arc<Inner>);

struct Inner {
    rights: Rights,
    revoked: CancellationToken,
}

/// Everything that a caller is and may do.
#[derive(Debug, Clone, PartialEq)]
pub struct Rights {
    /// As plugins see it.
    identity: Arc<message::Caller>,
    /// The user's id at the auth provider; `None` for the root key and for nobody.
    pub user_id: Option<String>,
    /// What kind of credential it is.
    pub credential: Credential,
    /// What it may do.
    pub scopes: Scopes,
    /// The plugins and models that it was narrowed to.
    pub reach: Arc<Reach>,
    /// What its requests count on.
    pub holders: Holders,
    /// Whether what it asks and is answered is written down.
    pub logs_bodies: bool,
    /// From when on it opens nothing.
    pub expires_at: Option<Timestamp>,
    /// When the user typed the password, for a login whose provider says so.
    pub authenticated_at: Option<Timestamp>,
    /// Whether the user must choose another password before anything else.
    pub must_change_password: bool,
}

/// What kind of credential a caller has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Credential {
    /// None at all.
    Nothing,
    /// The host's own.
    Root,
    /// An API key.
    Key {
        /// Its id.
        id: Arc<str>,
    },
    /// A login.
    Session {
        /// Its id.
        id: Arc<str>,
    },
    /// Something that the provider knows and gives no id.
    Other,
}

/// What `auth.validate` answers about a credential that opens something.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Active {
    user: String,
    user_id: Option<String>,
    key_id: Option<String>,
    session_id: Option<String>,
    #[serde(default)]
    scopes: Vec<String>,
    models: Option<Vec<Pattern>>,
    plugins: Option<Vec<Pattern>>,
    /// Of the key.
    limits: Option<Limits>,
    /// Of the user, whatever the credential.
    user_limits: Option<Limits>,
    #[serde(default)]
    log_bodies: bool,
    expires_at: Option<Timestamp>,
    authenticated_at: Option<Timestamp>,
    #[serde(default)]
    must_change_password: bool,
}

impl From<&Active> for Rights {
    fn from(active: &Active) -> Self {
        let credential = match (&active.key_id, &active.session_id) {
            (Some(id), _) => Credential::Key { id: Arc::from(id.as_str()) },
            (None, Some(id)) => Credential::Session { id: Arc::from(id.as_str()) },
            (None, None) => Credential::Other,
        };
        let scopes = Scopes::lenient(active.scopes.iter().map(String::as_str));
        Self {
            identity: identity(active.user.clone(), active.key_id.clone(), &scopes),
            user_id: active.user_id.clone(),
            credential,
            scopes,
            reach: Arc::new(Reach { plugins: active.plugins.clone(), models: active.models.clone() }),
            holders: Holders::default(),
            logs_bodies: active.log_bodies,
            expires_at: active.expires_at,
            authenticated_at: active.authenticated_at,
            must_change_password: active.must_change_password,
        }
    }
}

impl Active {
    /// Whose limits hold, and which. A user without limits has an account too: limits may come later, and
    /// then what was used before counts.
    pub(super) fn holders(&self) -> Vec<(Holder, Limits)> {
        let key =
            self.key_id.as_deref().map(|id| (Holder::Key(id.into()), self.limits.unwrap_or_default()));
        let user = (Holder::User(self.user.as_str().into()), self.user_limits.unwrap_or_default());
        key.into_iter().chain([user]).collect()
    }
}

fn identity(user: String, key_id: Option<String>, scopes: &Scopes) -> Arc<message::Caller> {
    Arc::new(message::Caller { user, key_id, scopes: scopes.iter().map(ToString::to_string).collect() })
}

impl Caller {
    pub(super) fn new(rights: Rights) -> Self {
        Self(Arc::new(Inner { rights, revoked: CancellationToken::new() }))
    }

    /// Whoever holds the root key.
    pub(super) fn root() -> Self {
        Self::of_the_host("root", Credential::Root, &["admin"])
    }

    /// Somebody without a credential, who may do nothing.
    pub fn nobody() -> Self {
        Self::of_the_host("", Credential::Nothing, &[])
    }

    fn of_the_host(user: &str, credential: Credential, scopes: &[&str]) -> Self {
        let scopes = Scopes::lenient(scopes.iter().copied());
        Self::new(Rights {
            identity: identity(user.to_owned(), None, &scopes),
            user_id: None,
            credential,
            scopes,
            reach: Arc::default(),
            holders: Holders::default(),
            logs_bodies: false,
            expires_at: None,
            authenticated_at: None,
            must_change_password: false,
        })
    }

    /// Everything that the caller is and may do.
    pub fn rights(&self) -> &Rights {
        &self.0.rights
    }

    /// The user's name; `root` for the host's own credential, empty for nobody.
    pub fn user(&self) -> &str {
        &self.0.rights.identity.user
    }

    /// The id of the API key, if it is one.
    pub fn key_id(&self) -> Option<&Arc<str>> {
        match &self.0.rights.credential {
            Credential::Key { id } => Some(id),
            _ => None,
        }
    }

    /// The id of the login, if it is one.
    pub fn session_id(&self) -> Option<&Arc<str>> {
        match &self.0.rights.credential {
            Credential::Session { id } => Some(id),
            _ => None,
        }
    }

    /// Counts a request of this caller.
    ///
    /// # Errors
    /// [`AuthError::LimitReached`]: it has made as many as it may; this one is not counted.
    pub fn count_request(&self) -> Result<(), AuthError> {
        Ok(self.0.rights.holders.count_request(Instant::now())?)
    }

    /// Sets aside what a request of this caller may take.
    ///
    /// # Errors
    /// [`AuthError::LimitReached`]: it does not fit into what is left; nothing is set aside then.
    pub fn reserve(&self, demand: &Demand) -> Result<Reservation, AuthError> {
        Ok(self.0.rights.holders.reserve(demand, true, Instant::now(), Timestamp::now)?)
    }

    /// Whether this is the host's own credential.
    pub fn is_root(&self) -> bool {
        self.0.rights.credential == Credential::Root
    }

    /// Whether the caller may do what `scope` names.
    ///
    /// # Errors
    /// [`AuthError::Forbidden`] with the scope, or [`AuthError::PasswordDue`].
    pub fn require(&self, scope: &str) -> Result<(), AuthError> {
        let rights = &self.0.rights;
        if rights.scopes.grant(scope) {
            return Ok(());
        }
        if rights.must_change_password {
            return Err(AuthError::PasswordDue { user: self.user().to_owned() });
        }
        let user = self.user();
        let who = match self.key_id() {
            Some(_) => format!("this key of `{user}`"),
            None => format!("`{user}`"),
        };
        Err(AuthError::Forbidden { scope: scope.to_owned(), who })
    }

    /// Whether the caller has just shown who it is: the root key always does, a login for five minutes
    /// after its password was typed, a key never. For what changes the code that runs.
    ///
    /// # Errors
    /// [`AuthError::ReauthRequired`].
    pub fn require_recent_login(&self, now: Timestamp) -> Result<(), AuthError> {
        let rights = &self.0.rights;
        let is_recent = match &rights.credential {
            Credential::Root => true,
            // A time that lies ahead is as wrong as one that is long past.
            Credential::Session { .. } => rights
                .authenticated_at
                .is_some_and(|typed| now.duration_since(typed).unsigned_abs() < RECENT),
            Credential::Nothing | Credential::Key { .. } | Credential::Other => false,
        };
        if is_recent { Ok(()) } else { Err(AuthError::ReauthRequired) }
    }

    /// The caller as plugins see it.
    pub fn on_the_wire(&self) -> Arc<message::Caller> {
        Arc::clone(&self.0.rights.identity)
    }

    /// Completes when the credential no longer opens what it opened.
    pub async fn revoked(&self) {
        self.0.revoked.cancelled().await;
    }

    /// Whether the credential no longer opens what it opened.
    pub fn is_revoked(&self) -> bool {
        self.0.revoked.is_cancelled()
    }

    /// Tells everybody who holds this caller that it is over.
    pub(super) fn revoke(&self) {
        self.0.revoked.cancel();
    }

    /// Whether anybody but the one who asks holds this caller.
    pub(super) fn is_held(&self) -> bool {
        Arc::strong_count(&self.0) > 1
    }
}

impl fmt::Debug for Caller {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Rights { credential, scopes, .. } = &self.0.rights;
        out.debug_struct("Caller")
            .field("user", &self.user())
            .field("credential", credential)
            .field("scopes", scopes)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A caller of whom the provider says this besides the user's name.
    fn of_provider(member: &str) -> Caller {
        let text = format!(r#"{{"user":"ada","scopes":["admin"]{member}}}"#);
        Caller::new((&serde_json::from_str::<Active>(&text).unwrap()).into())
    }

    #[test]
    fn only_the_root_key_and_a_login_of_the_last_five_minutes_are_recent() {
        let now: Timestamp = "2026-01-01T12:00:00Z".parse().unwrap();
        for (member, recent) in [
            (r#","sessionId":"s","authenticatedAt":"2026-01-01T11:55:01Z""#, true),
            (r#","sessionId":"s","authenticatedAt":"2026-01-01T11:55:00Z""#, false),
            (r#","sessionId":"s","authenticatedAt":"2026-01-01T12:30:00Z""#, false),
            (r#","sessionId":"s""#, false),
            (r#","keyId":"k","authenticatedAt":"2026-01-01T12:00:00Z""#, false),
            (r#","authenticatedAt":"2026-01-01T12:00:00Z""#, false),
        ] {
            let caller = of_provider(member);
            assert_eq!(caller.require_recent_login(now).is_ok(), recent, "{member}");
        }
        assert!(Caller::root().require_recent_login(now).is_ok());
        assert_eq!(Caller::nobody().require_recent_login(now), Err(AuthError::ReauthRequired));
    }
}
