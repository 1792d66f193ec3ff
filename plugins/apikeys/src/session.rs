//! Logins that last: their rows, and listing and ending them.
//!
//! Not how one begins or is renewed, see `login`. The invariant: a session whose row is gone opens nothing.

use std::sync::Arc;

use bkg_sdk::Request;
use bkg_sqlite::rusqlite::{self, Connection, OptionalExtension, Row, params};
use serde::Serialize;
use serde_json::{Value, json};

use crate::accounts::Accounts;
use crate::change::{Changed, Whom};
use crate::hmac_key::Digest;
use crate::moment::Moment;
use crate::payload::Payload;
use crate::refusal::Refusal;
use crate::rights::{Asker, Authority};
use crate::token::{Kind, Token};
use crate::user::{ADMIN, User, require_users};

/// How many logins a user may have; one more ends the oldest.
const MOST_SESSIONS: i64 = 100;
/// How much of what a client says of itself is kept, in characters.
const LONGEST_CLIENT_TEXT: usize = 256;

/// A login that lasts.
#[derive(Debug, Clone)]
pub(crate) struct Session {
    pub(crate) id: String,
    pub(crate) user_id: String,
    pub(crate) digest: Digest,
    /// Until when its token works.
    pub(crate) expires_at: Moment,
    pub(crate) refresh_digest: Digest,
    /// Until when it can be renewed: then it ends.
    pub(crate) refresh_expires_at: Moment,
    pub(crate) created_at: Moment,
    pub(crate) client: Client,
}

/// Where a login came from, as the host saw it.
#[derive(Debug, Clone, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Client {
    address: Option<String>,
    user_agent: Option<String>,
}

/// A login as answers show it.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct SessionObject {
    id: String,
    user: String,
    user_id: String,
    created_at: Moment,
    last_used_at: Option<Moment>,
    /// When it ends unless it is renewed.
    expires_at: Moment,
    client: Client,
}

impl Client {
    pub(crate) fn read(payload: &mut Payload) -> Result<Self, Refusal> {
        let Some(mut client) = payload.object("client")? else { return Ok(Self::default()) };
        let mut text = |name| {
            let text = client.optional_long_text(name)?;
            Ok::<_, Refusal>(text.map(|text| text.chars().take(LONGEST_CLIENT_TEXT).collect::<String>()))
        };
        Ok(Self { address: text("address")?, user_agent: text("userAgent")? })
    }

    /// Whether the host said anything about it.
    pub(crate) fn is_known(&self) -> bool {
        self.address.is_some() || self.user_agent.is_some()
    }
}

impl Session {
    fn from_row(row: &Row<'_>) -> rusqlite::Result<Self> {
        Ok(Self {
            id: row.get(0)?,
            user_id: row.get(1)?,
            digest: row.get(2)?,
            expires_at: row.get(3)?,
            refresh_digest: row.get(4)?,
            refresh_expires_at: row.get(5)?,
            created_at: row.get(6)?,
            client: Client { address: row.get(7)?, user_agent: row.get(8)? },
        })
    }

    pub(crate) fn by_id(connection: &Connection, id: &str) -> rusqlite::Result<Option<Self>> {
        connection
            .prepare_cached(
                "SELECT id, user_id, digest, expires_at, refresh_digest, refresh_expires_at, created_at, \
                 address, user_agent FROM sessions WHERE id = ?1",
            )?
            .query_row([id], Self::from_row)
            .optional()
    }

    /// Adds a session, or writes what a renewal changes.
    pub(crate) fn save(&self, connection: &Connection) -> rusqlite::Result<()> {
        connection.execute(
            "INSERT INTO sessions VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, NULL, ?8, ?9) \
             ON CONFLICT (id) DO UPDATE SET digest = excluded.digest, expires_at = excluded.expires_at, \
             refresh_digest = excluded.refresh_digest, refresh_expires_at = excluded.refresh_expires_at, \
             address = excluded.address, user_agent = excluded.user_agent",
            params![
                self.id,
                self.user_id,
                self.digest,
                self.expires_at,
                self.refresh_digest,
                self.refresh_expires_at,
                self.created_at,
                self.client.address,
                self.client.user_agent
            ],
        )?;
        Ok(())
    }
}

/// Ends one session; answers whether there was one.
pub(crate) fn end(connection: &Connection, id: &str) -> rusqlite::Result<bool> {
    Ok(connection.execute("DELETE FROM sessions WHERE id = ?1", [id])? > 0)
}

/// Ends all sessions of a user but one.
pub(crate) fn end_all_but(
    connection: &Connection,
    user_id: &str,
    kept: Option<&str>,
) -> rusqlite::Result<()> {
    connection.execute(
        "DELETE FROM sessions WHERE user_id = ?1 AND (?2 IS NULL OR id <> ?2)",
        params![user_id, kept],
    )?;
    Ok(())
}

/// Forgets what is over anyway, and makes room for one more session of a user; answers whether one that
/// worked had to end.
pub(crate) fn make_room(connection: &Connection, user_id: &str, now: Moment) -> rusqlite::Result<bool> {
    connection.execute("DELETE FROM sessions WHERE refresh_expires_at <= ?1", [now])?;
    let ended = connection.execute(
        "DELETE FROM sessions WHERE id IN (SELECT id FROM sessions WHERE user_id = ?1 \
         ORDER BY created_at DESC, id LIMIT -1 OFFSET ?2)",
        params![user_id, MOST_SESSIONS - 1],
    )?;
    Ok(ended > 0)
}

/// `auth.sessions.list`.
pub(crate) async fn list(accounts: Arc<Accounts>, request: Request) -> Result<Value, Refusal> {
    let mut payload = Payload::of(&request)?;
    let user = payload.optional_text("userId")?;
    payload.end()?;
    let asker = Asker::of(&request);
    let looking = accounts.look(move |connection, now| {
        require_users(connection)?;
        let authority = asker.resolve(connection)?;
        let of = match (&user, authority.user()) {
            (Some(reference), Some(user)) if user.is_named(reference) => Some(user.id.clone()),
            (None, Some(user)) if !authority.may(ADMIN) => Some(user.id.clone()),
            (None, _) => None,
            (Some(reference), _) => {
                authority.require(ADMIN)?;
                Some(User::named(connection, reference)?.id)
            }
        };
        require_own_or_admin(&authority, of.as_deref())?;
        Ok(json!({ "sessions": objects(connection, of.as_deref(), now)? }))
    });
    looking.await
}

fn objects(
    connection: &Connection,
    user_id: Option<&str>,
    now: Moment,
) -> rusqlite::Result<Vec<SessionObject>> {
    let mut query = connection.prepare_cached(
        "SELECT sessions.id, users.name, user_id, sessions.created_at, last_used_at, refresh_expires_at, \
         address, user_agent FROM sessions JOIN users ON users.id = user_id \
         WHERE (?1 IS NULL OR user_id = ?1) AND refresh_expires_at > ?2 \
         ORDER BY sessions.created_at DESC, sessions.id",
    )?;
    let objects = query.query_map(params![user_id, now], |row| {
        Ok(SessionObject {
            id: row.get(0)?,
            user: row.get(1)?,
            user_id: row.get(2)?,
            created_at: row.get(3)?,
            last_used_at: row.get(4)?,
            expires_at: row.get(5)?,
            client: Client { address: row.get(6)?, user_agent: row.get(7)? },
        })
    })?;
    objects.collect()
}

/// `auth.sessions.revoke`.
pub(crate) async fn revoke(accounts: Arc<Accounts>, request: Request) -> Result<Value, Refusal> {
    let mut payload = Payload::of(&request)?;
    let operation = payload.operation()?;
    let id = payload.text("id")?;
    payload.end()?;
    let asker = Asker::of(&request);
    let change = move |connection: &Connection, _| {
        require_users(connection)?;
        let authority = asker.resolve(connection)?;
        let session = Session::by_id(connection, &id)?;
        // Others' sessions look as if they were not there.
        let session =
            session.filter(|session| require_own_or_admin(&authority, Some(&session.user_id)).is_ok());
        let Some(session) = session else {
            let name = id.chars().take(64).flat_map(char::escape_debug).collect();
            let next = "the list of sessions names those that have not ended";
            return Err(Refusal::NotFound { kind: "session", name, next });
        };
        end(connection, &session.id)?;
        tracing::info!(session = session.id, by = authority.name(), "session ended");
        Ok(Changed::new(Whom::Session(session.id), json!({})))
    };
    accounts.take_away(request.host(), Some(operation), change).await
}

/// `auth.logout`: by the session's id, or by its token.
pub(crate) async fn logout(accounts: Arc<Accounts>, request: Request) -> Result<Value, Refusal> {
    let mut payload = Payload::of(&request)?;
    let operation = payload.optional_operation()?;
    let id = payload.optional_text("sessionId")?;
    let token = payload.optional_text("token")?;
    payload.end()?;
    if id.is_none() && token.is_none() {
        return Err(Refusal::invalid(
            "sessionId",
            "`sessionId` or `token` is missing: one says what to end",
        ));
    }
    let shown = token.and_then(|text| Token::parse(&text)).filter(|token| token.kind() == Kind::Session);
    let shown = shown.map(|token| (token.id().to_owned(), accounts.hmac_key.digest(&token)));
    let asker = Asker::of(&request);
    let change = move |connection: &Connection, _| {
        require_users(connection)?;
        let session = match (&id, &shown) {
            (Some(id), _) => {
                let authority = asker.resolve(connection)?;
                let session = Session::by_id(connection, id)?;
                if let Some(session) = &session
                    && !matches!(authority, Authority::Host)
                    && !authority.is_login_of(&session.user_id)
                {
                    authority.require(ADMIN)?;
                }
                session
            }
            (None, Some((id, digest))) => {
                Session::by_id(connection, id)?.filter(|session| session.digest.is(digest))
            }
            (None, None) => None,
        };
        let Some(session) = session else { return Ok(Changed::new(Whom::Nobody, json!({}))) };
        end(connection, &session.id)?;
        tracing::info!(session = session.id, "logged out");
        Ok(Changed::new(Whom::Session(session.id), json!({})))
    };
    accounts.take_away(request.host(), operation, change).await
}

/// Users deal with their own sessions when they have logged in; a key never does unless it may all.
fn require_own_or_admin(authority: &Authority, user_id: Option<&str>) -> Result<(), Refusal> {
    match (user_id, authority.user()) {
        (Some(id), Some(user)) if authority.is_login_of(id) && !user.must_change_password => Ok(()),
        _ => authority.require(ADMIN),
    }
}
