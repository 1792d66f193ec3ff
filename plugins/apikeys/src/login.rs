//! Begins login sessions with a password, and renews them with a refresh token.
//!
//! The invariants: every attempt with a password costs one check of one, and fails with one text, whatever
//! the reason; a refresh token works once, and whoever shows it again ends the session, since one of
//! the two is not its owner.

use std::sync::Arc;

use bkg_sdk::{Json, Request, Scopes};
use bkg_sqlite::rusqlite::{self, Connection, params};
use serde::Serialize;

use crate::accounts::Accounts;
use crate::change::{Changed, Whom};
use crate::hmac_key::Digest;
use crate::moment::Moment;
use crate::names::UserName;
use crate::password::Password;
use crate::payload::Payload;
use crate::refusal::Refusal;
use crate::session::{self, Client, Session};
use crate::settings::AccountSettings;
use crate::token::{Kind, Token, random_id};
use crate::user::{User, require_users};

/// How many used refresh tokens are kept of a session: more than one in five minutes for a month.
const MOST_SPENT: i64 = 10_000;
const WRONG_LOGIN: Refusal = Refusal::Unauthorized("the user name or the password is wrong");
const WRONG_REFRESH: Refusal =
    Refusal::Unauthorized("the refresh token is not valid any more: log in again");

/// The answer to a login.
#[derive(Serialize)]
pub(crate) struct Login {
    token: String,
    user: String,
    #[serde(rename = "userId")]
    user_id: String,
    role: String,
    scopes: Scopes,
    #[serde(rename = "sessionId")]
    session_id: String,
    /// In milliseconds since 1970.
    expires_at: i64,
    #[serde(rename = "refreshToken")]
    refresh_token: String,
    /// In milliseconds since 1970.
    refresh_expires_at: i64,
    #[serde(rename = "mustChangePassword")]
    must_change_password: bool,
}

/// What a session is opened and renewed with.
struct Tokens {
    token: Token,
    refresh: Token,
    digest: Digest,
    refresh_digest: Digest,
    expires_at: Moment,
    refresh_expires_at: Moment,
}

impl Tokens {
    fn make(accounts: &Accounts, settings: &AccountSettings, session_id: &str, now: Moment) -> Self {
        let token = Token::make_for(Kind::Session, session_id);
        let refresh = Token::make_for(Kind::Refresh, session_id);
        let refresh_expires_at = now.after(settings.refresh_lasts());
        Self {
            digest: accounts.hmac_key.digest(&token),
            refresh_digest: accounts.hmac_key.digest(&refresh),
            token,
            refresh,
            expires_at: now.after(settings.session_lasts()).min(refresh_expires_at),
            refresh_expires_at,
        }
    }

    fn answer(self, user: User, session_id: String) -> Login {
        Login {
            token: self.token.expose().to_owned(),
            user: user.name,
            user_id: user.id,
            role: user.role,
            scopes: if user.must_change_password { Scopes::default() } else { user.scopes },
            session_id,
            expires_at: self.expires_at.as_milliseconds(),
            refresh_token: self.refresh.expose().to_owned(),
            refresh_expires_at: self.refresh_expires_at.as_milliseconds(),
            must_change_password: user.must_change_password,
        }
    }
}

/// `auth.login`.
pub(crate) async fn login(accounts: Arc<Accounts>, request: Request) -> Result<Json<Login>, Refusal> {
    let mut payload = Payload::of(&request)?;
    let name = payload.long_text("username")?.parse::<UserName>().ok();
    let typed = Password::typed(&mut payload, "password")?;
    let client = Client::read(&mut payload)?;
    payload.end()?;

    let looking = accounts.look(move |connection, _| {
        require_users(connection)?;
        let user = name.map(|name| User::by_name(connection, &name)).transpose()?;
        Ok(user.flatten())
    });
    let user = looking.await?;
    let settings = accounts.settings.get();
    let cost = settings.bcrypt_cost();
    let retyped = typed.as_ref().map(Password::again);
    let known = user.as_ref().map(|user| user.password.clone());
    let fits = accounts.hasher.check(typed, known, cost).await?;
    request.host().set_figure("passwordChecks", accounts.hasher.checks() as f64);
    let user = user.filter(|user| fits && !user.disabled).ok_or(WRONG_LOGIN)?;
    let new_hash = match retyped {
        // Only whoever knows the password comes here, so the further time tells nobody anything.
        Some(password) if user.password.cost() != Some(cost) => {
            Some(accounts.hasher.hash(password, cost).await?)
        }
        _ => None,
    };

    let (session_id, checked) = (random_id(), user.password);
    let tokens = Tokens::make(&accounts, &settings, &session_id, Moment::now());
    let change = move |connection: &Connection, now: Moment| {
        // The password may have been changed while it was checked.
        let user = User::by_id(connection, &user.id)?;
        let mut user = user.filter(|user| user.password == checked && !user.disabled).ok_or(WRONG_LOGIN)?;
        if let Some(hash) = new_hash {
            user.password = hash;
        }
        user.last_login_at = Some(now);
        user.save(connection)?;
        let others_ended = session::make_room(connection, &user.id, now)?;
        let session = Session {
            id: session_id.clone(),
            user_id: user.id.clone(),
            digest: tokens.digest,
            expires_at: tokens.expires_at,
            refresh_digest: tokens.refresh_digest,
            refresh_expires_at: tokens.refresh_expires_at,
            created_at: now,
            client,
        };
        session.save(connection)?;
        tracing::info!(user = user.name, session = session_id, "logged in");
        let whom = match others_ended {
            true => Whom::User(user.id.clone()),
            false => Whom::Session(session_id.clone()),
        };
        Ok(Changed::new(whom, Json(tokens.answer(user, session_id))))
    };
    accounts.change(request.host(), None, change).await
}

/// `auth.refresh`.
pub(crate) async fn refresh(accounts: Arc<Accounts>, request: Request) -> Result<Json<Login>, Refusal> {
    let mut payload = Payload::of(&request)?;
    let shown = Token::parse(&payload.long_text("refreshToken")?);
    let client = Client::read(&mut payload)?;
    payload.end()?;
    let shown = shown.filter(|token| token.kind() == Kind::Refresh);
    let shown = shown.map(|token| (token.id().to_owned(), accounts.hmac_key.digest(&token)));
    let looking = accounts.look(|connection, _| require_users(connection));
    looking.await?;
    // Nothing is written for a text that is no token.
    let (id, digest) = shown.ok_or(WRONG_REFRESH)?;

    let tokens = Tokens::make(&accounts, &accounts.settings.get(), &id, Moment::now());
    let change = move |connection: &Connection, now: Moment| {
        let mut session = Session::by_id(connection, &id)?.ok_or(WRONG_REFRESH)?;
        if !session.refresh_digest.is(&digest) {
            if !was_spent(connection, &id, &digest)? {
                return Err(WRONG_REFRESH);
            }
            session::end(connection, &id)?;
            tracing::warn!(session = id, "a refresh token was used twice: its session is ended");
            return Ok(Changed::new(Whom::Session(id), Err(Refusal::Reused)));
        }
        let user = User::by_id(connection, &session.user_id)?.filter(|user| !user.disabled);
        let user = user.filter(|_| session.refresh_expires_at > now).ok_or(WRONG_REFRESH)?;
        spend(connection, &session, now)?;
        session.digest = tokens.digest;
        session.expires_at = tokens.expires_at;
        session.refresh_digest = tokens.refresh_digest;
        session.refresh_expires_at = tokens.refresh_expires_at;
        if client.is_known() {
            session.client = client;
        }
        session.save(connection)?;
        Ok(Changed::new(Whom::Session(id.clone()), Ok(Json(tokens.answer(user, id)))))
    };
    accounts.change(request.host(), None, change).await?
}

/// Remembers the refresh token that is about to be replaced, as long as it could have been used.
fn spend(connection: &Connection, session: &Session, now: Moment) -> Result<(), Refusal> {
    connection.execute(
        "DELETE FROM spent_refresh_tokens WHERE session_id = ?1 AND expires_at <= ?2",
        params![session.id, now],
    )?;
    let spent: i64 = connection.query_row(
        "SELECT count(*) FROM spent_refresh_tokens WHERE session_id = ?1",
        [&session.id],
        |row| row.get(0),
    )?;
    if spent >= MOST_SPENT {
        return Err(Refusal::RateLimited("this login was renewed too often: log in again"));
    }
    connection.execute(
        "INSERT INTO spent_refresh_tokens VALUES (?1, ?2, ?3)",
        params![session.id, session.refresh_digest, session.refresh_expires_at],
    )?;
    Ok(())
}

fn was_spent(connection: &Connection, session_id: &str, digest: &Digest) -> rusqlite::Result<bool> {
    connection.query_row(
        "SELECT EXISTS (SELECT 1 FROM spent_refresh_tokens WHERE session_id = ?1 AND digest = ?2)",
        params![session_id, digest],
        |row| row.get(0),
    )
}
