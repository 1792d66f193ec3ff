//! Makes, lists, revokes and rotates API keys.
//!
//! Not whether a key opens anything, see `validate`. The invariants: a secret is in the one answer that
//! makes it and nowhere else; and nobody gets hold of a key that may do more than they may.

use std::sync::Arc;
use std::time::Duration;

use bkg_sdk::{Json, Request};
use bkg_sqlite::rusqlite::Connection;
use serde::Serialize;
use serde_json::{Value, json};

use crate::accounts::Accounts;
use crate::bounds::{self, AskedBounds};
use crate::change::{Changed, Whom};
use crate::key::{self, Key, KeyObject};
use crate::moment::Moment;
use crate::names::Label;
use crate::payload::Payload;
use crate::refusal::Refusal;
use crate::rights::{Asker, Authority};
use crate::role::asked_scopes;
use crate::token::{Kind, Token};
use crate::user::{ADMIN, User, require_users};

/// How many keys a user may have that work.
const MOST_KEYS: i64 = 1_000;
/// How long the secret before a rotation may work, in seconds.
const LONGEST_GRACE: u64 = 86_400;
const MANAGE: &str = "key:manage";
const OWN: &str = "key:own";

/// A key object with its secret.
#[derive(Serialize)]
pub(crate) struct NewKey {
    #[serde(flatten)]
    object: KeyObject,
    key: String,
    token: String,
}

impl NewKey {
    fn new(object: KeyObject, token: &Token) -> Self {
        let text = token.expose();
        Self { object, key: text.to_owned(), token: text.to_owned() }
    }
}

/// `auth.createKey`.
pub(crate) async fn create(accounts: Arc<Accounts>, request: Request) -> Result<Json<NewKey>, Refusal> {
    let mut payload = Payload::of(&request)?;
    let operation = payload.operation()?;
    let name: Option<Label> = payload.optional("name")?;
    let user = payload.optional_text("user")?;
    let scopes = asked_scopes(&mut payload)?;
    let asked = AskedBounds::read(&mut payload, Moment::now())?;
    payload.end()?;
    let asker = Asker::of(&request);
    let lasts = accounts.settings.get().key_lasts();
    let token = Token::make(Kind::Key);
    let digest = accounts.hmac_key.digest(&token);
    let change = move |connection: &Connection, now: Moment| {
        require_users(connection)?;
        let authority = asker.resolve(connection)?;
        let owner = owner(connection, &authority, user.as_deref())?;
        authority.require_all("scopes", &scopes)?;
        if asked.log_bodies() {
            authority.require(ADMIN)?;
        }
        let bounds = asked.within(authority.bounds(), now.after(lasts))?;
        if !key::make_room(connection, &owner.id, MOST_KEYS, now)? {
            let message = format!("`{}` has {MOST_KEYS} keys that work: revoke one first", owner.name);
            return Err(Refusal::Conflict(message));
        }
        let key = Key {
            id: token.id().to_owned(),
            user_id: owner.id,
            name: name.map_or_else(String::new, |name| name.as_str().to_owned()),
            digest,
            previous: None,
            scopes,
            bounds,
            created_at: now,
            created_by: authority.name().to_owned(),
            last_used_at: None,
            revoked_at: None,
        };
        key.save(connection)?;
        tracing::info!(key = key.id, user = owner.name, by = authority.name(), "key made");
        let whom = Whom::Key(key.id.clone());
        Ok(Changed::new(whom, Json(NewKey::new(key.object(owner.name, owner.disabled, now), &token))))
    };
    accounts.change(request.host(), Some(operation), change).await
}

/// `auth.listKeys`.
pub(crate) async fn list(accounts: Arc<Accounts>, request: Request) -> Result<Value, Refusal> {
    let mut payload = Payload::of(&request)?;
    let user = payload.optional_text("user")?;
    payload.end()?;
    let asker = Asker::of(&request);
    let looking = accounts.look(move |connection, now| {
        require_users(connection)?;
        let authority = asker.resolve(connection)?;
        let of = match user {
            None if authority.may(MANAGE) => None,
            user => Some(owner(connection, &authority, user.as_deref())?.id),
        };
        Ok(json!({ "keys": key::all_objects(connection, of.as_deref(), now)? }))
    });
    looking.await
}

/// `auth.revokeKey`.
pub(crate) async fn revoke(accounts: Arc<Accounts>, request: Request) -> Result<Json<KeyObject>, Refusal> {
    let mut payload = Payload::of(&request)?;
    let operation = payload.operation()?;
    let id = payload.text("id")?;
    payload.end()?;
    let asker = Asker::of(&request);
    let change = move |connection: &Connection, now: Moment| {
        require_users(connection)?;
        let authority = asker.resolve(connection)?;
        let (mut key, owner) = found(connection, &authority, &id)?;
        key.revoked_at.get_or_insert(now);
        key.previous = None;
        key.save(connection)?;
        tracing::info!(key = key.id, user = owner.name, by = authority.name(), "key revoked");
        Ok(Changed::new(Whom::Key(key.id.clone()), Json(key.object(owner.name, owner.disabled, now))))
    };
    accounts.take_away(request.host(), Some(operation), change).await
}

/// `auth.rotateKey`.
pub(crate) async fn rotate(accounts: Arc<Accounts>, request: Request) -> Result<Json<NewKey>, Refusal> {
    let mut payload = Payload::of(&request)?;
    let operation = payload.operation()?;
    let id = payload.text("id")?;
    let grace = Duration::from_secs(payload.number("graceSeconds", 0..=LONGEST_GRACE)?.unwrap_or(0));
    payload.end()?;
    let asker = Asker::of(&request);
    let hmac_key = accounts.hmac_key.clone();
    let change = move |connection: &Connection, now: Moment| {
        require_users(connection)?;
        let authority = asker.resolve(connection)?;
        let (mut key, owner) = found(connection, &authority, &id)?;
        // Whoever gets the new secret gets all that the key may do.
        authority.require_all("id", &key.scopes)?;
        if let Some(param) = authority.bounds().and_then(|maker| key.bounds.first_excess(maker)) {
            return Err(bounds::excess(param));
        }
        if !key.works(now) {
            let message = format!("the key `{}` is revoked or expired: make another one", key.id);
            return Err(Refusal::Conflict(message));
        }
        let token = Token::make_for(Kind::Key, &key.id);
        let old = std::mem::replace(&mut key.digest, hmac_key.digest(&token));
        key.previous = (!grace.is_zero()).then(|| (old, now.after(grace)));
        key.save(connection)?;
        tracing::info!(key = key.id, user = owner.name, by = authority.name(), ?grace, "key rotated");
        let whom = Whom::Key(key.id.clone());
        Ok(Changed::new(whom, Json(NewKey::new(key.object(owner.name, owner.disabled, now), &token))))
    };
    accounts.change(request.host(), Some(operation), change).await
}

/// The user whose keys are meant, absent whoever asks, if those may be dealt with.
fn owner(connection: &Connection, authority: &Authority, reference: Option<&str>) -> Result<User, Refusal> {
    let own = authority.user().filter(|user| reference.is_none_or(|reference| user.is_named(reference)));
    if let Some(user) = own {
        authority.require(OWN)?;
        return Ok(user.clone());
    }
    authority.require(MANAGE)?;
    match reference {
        Some(reference) => User::named(connection, reference),
        None => Err(Refusal::invalid("user", "`user` is missing: whoever asks is no user and has no keys")),
    }
}

/// The key of this id and its user, if it may be dealt with. Others' keys look as if they were not there.
fn found(connection: &Connection, authority: &Authority, id: &str) -> Result<(Key, User), Refusal> {
    if !authority.may(OWN) {
        authority.require(MANAGE)?;
    }
    let key = Key::by_id(connection, id)?;
    let key = key.filter(|key| authority.is(&key.user_id) || authority.may(MANAGE)).ok_or_else(|| {
        let name = id.chars().take(64).flat_map(char::escape_debug).collect();
        Refusal::NotFound { kind: "key", name, next: "`bkg key list` names those that exist" }
    })?;
    let user = User::by_id(connection, &key.user_id)?.expect("a key goes with its user");
    Ok((key, user))
}
