//! Makes, shows, changes and removes users, and the first of them.
//!
//! Not logins or keys. The invariants: there is always an administrator that can log in, once there was
//! one; and a password that changes ends the logins that it opened.

use std::sync::Arc;

use bkg_sdk::{Json, Request};
use bkg_sqlite::rusqlite::Connection;
use serde::Serialize;
use serde_json::{Value, json};

use crate::accounts::Accounts;
use crate::change::{Changed, Whom};
use crate::hasher::PasswordHash;
use crate::limits::Limits;
use crate::moment::Moment;
use crate::names::{Label, RoleName, UserName};
use crate::password::Password;
use crate::payload::Payload;
use crate::refusal::Refusal;
use crate::rights::{Asker, Authority};
use crate::role::scopes_of_role;
use crate::session;
use crate::user::{self, ADMIN, User, UserObject, require_users};

/// A user object, with the password if it was made here.
#[derive(Serialize)]
pub(crate) struct NewUser {
    #[serde(flatten)]
    object: UserObject,
    #[serde(skip_serializing_if = "Option::is_none")]
    password: Option<String>,
}

/// A password to be set: its hash, and its text if somebody must be shown it.
struct NewPassword {
    hash: PasswordHash,
    shown: Option<String>,
}

impl NewPassword {
    /// Hashes what was chosen, or makes one.
    async fn of(accounts: &Accounts, chosen: Option<Password>) -> Result<Self, Refusal> {
        let (password, shown) = match chosen {
            Some(password) => (password, None),
            None => {
                let made = Password::make();
                let shown = made.expose().to_owned();
                (made, Some(shown))
            }
        };
        let hash = accounts.hasher.hash(password, accounts.settings.get().bcrypt_cost()).await?;
        Ok(Self { hash, shown })
    }
}

/// `auth.me`.
pub(crate) async fn me(accounts: Arc<Accounts>, request: Request) -> Result<Json<UserObject>, Refusal> {
    let mut payload = Payload::of(&request)?;
    let id = payload.text("userId")?;
    payload.end()?;
    let asker = Asker::of(&request);
    let looking = accounts.look(move |connection, now| {
        require_users(connection)?;
        let authority = asker.resolve(connection)?;
        if !authority.user().is_some_and(|user| user.is_named(&id)) {
            authority.require(ADMIN)?;
        }
        Ok(Json(User::named(connection, &id)?.object(connection, now)?))
    });
    looking.await
}

/// `auth.users.list`.
pub(crate) async fn list(accounts: Arc<Accounts>, request: Request) -> Result<Value, Refusal> {
    let payload = Payload::of(&request)?;
    payload.end()?;
    let asker = Asker::of(&request);
    let looking = accounts.look(move |connection, now| {
        require_users(connection)?;
        asker.resolve(connection)?.require(ADMIN)?;
        let users = User::all(connection)?.into_iter().map(|user| user.object(connection, now));
        Ok(json!({ "users": users.collect::<Result<Vec<_>, _>>()? }))
    });
    looking.await
}

/// `auth.bootstrap`: the first user, an administrator.
pub(crate) async fn bootstrap(
    accounts: Arc<Accounts>,
    request: Request,
) -> Result<Json<UserObject>, Refusal> {
    let mut payload = Payload::of(&request)?;
    let operation = payload.optional_operation()?;
    let name: UserName = payload.one("user")?;
    let password = Password::chosen(&mut payload, "password")?;
    let must_change = payload.flag("mustChange")?.unwrap_or(true);
    payload.end()?;
    if matches!(Asker::of(&request), Asker::User(_)) {
        return Err(Refusal::forbidden("only the host makes the first user"));
    }
    let require_none = |connection: &Connection| match user::are_there_any(connection)? {
        false => Ok(()),
        true => Err(Refusal::Conflict("there are users already: log in as one of them".to_owned())),
    };
    accounts.look(move |connection, _| require_none(connection)).await?;
    let password = NewPassword::of(&accounts, Some(password)).await?;
    let change = move |connection: &Connection, now: Moment| {
        require_none(connection)?;
        let user = new_user(connection, &name, password.hash, must_change, now)?;
        tracing::info!(user = user.name, "the first user is made");
        let whom = Whom::User(user.id.clone());
        Ok(Changed::new(whom, Json(user.object(connection, now)?)))
    };
    accounts.change(request.host(), operation, change).await
}

/// `auth.users.create`.
pub(crate) async fn create(accounts: Arc<Accounts>, request: Request) -> Result<Json<NewUser>, Refusal> {
    let mut payload = Payload::of(&request)?;
    let operation = payload.operation()?;
    let name: UserName = payload.one("name")?;
    let role: RoleName = payload.one("role")?;
    let password = Password::optional_chosen(&mut payload, "password")?;
    let display_name: Option<Label> = payload.optional("displayName")?;
    let limits = Limits::read_optional(&mut payload)?;
    payload.end()?;
    let asker = Asker::of(&request);
    let early = asker.clone();
    accounts.look(move |connection, _| require_admin(connection, &early).map(drop)).await?;
    let password = NewPassword::of(&accounts, password).await?;
    let change = move |connection: &Connection, now: Moment| {
        let authority = require_admin(connection, &asker)?;
        authority.require_all("role", &scopes_of_role(connection, &role)?)?;
        if User::by_name(connection, &name)?.is_some() {
            let message = format!("there is a user `{}` already: choose another name", name.as_str());
            return Err(Refusal::Conflict(message));
        }
        let mut user = new_user(connection, &name, password.hash, true, now)?;
        role.as_str().clone_into(&mut user.role);
        if let Some(label) = &display_name {
            label.as_str().clone_into(&mut user.display_name);
        }
        if let Some(limits) = limits {
            user.limits = limits;
        }
        user.save(connection)?;
        tracing::info!(user = user.name, role = user.role, by = authority.name(), "user made");
        shown(connection, &user.id, password.shown, now)
    };
    accounts.change(request.host(), Some(operation), change).await
}

/// `auth.users.update`.
pub(crate) async fn update(accounts: Arc<Accounts>, request: Request) -> Result<Json<NewUser>, Refusal> {
    let mut payload = Payload::of(&request)?;
    let operation = payload.operation()?;
    let reference = payload.text("id")?;
    let role: Option<RoleName> = payload.optional("role")?;
    let disabled = payload.flag("disabled")?;
    let display_name: Option<Label> = payload.optional("displayName")?;
    let limits = Limits::read_optional(&mut payload)?;
    payload.end()?;
    let asker = Asker::of(&request);
    let change = move |connection: &Connection, now: Moment| {
        require_users(connection)?;
        let authority = asker.resolve(connection)?;
        let own = authority.user().filter(|user| {
            user.is_named(&reference) && authority.is_login_of(&user.id) && !user.must_change_password
        });
        if own.is_none() || role.is_some() || disabled.is_some() || limits.is_some() {
            authority.require(ADMIN)?;
        }
        let before = User::named(connection, &reference)?;
        let mut user = before.clone();
        if let Some(role) = &role {
            authority.require_all("role", &scopes_of_role(connection, role)?)?;
            role.as_str().clone_into(&mut user.role);
        }
        if let Some(disabled) = disabled {
            user.disabled = disabled;
        }
        if let Some(label) = &display_name {
            label.as_str().clone_into(&mut user.display_name);
        }
        if let Some(limits) = limits {
            user.limits = limits;
        }
        user.save(connection)?;
        if user.disabled {
            // They must not come back to life when the user does.
            session::end_all_but(connection, &user.id, None)?;
        }
        user::keep_an_admin(connection, &before)?;
        let (name, by) = (&user.name, authority.name());
        tracing::info!(user = name, role = user.role, disabled = user.disabled, by, "user changed");
        shown(connection, &user.id, None, now)
    };
    if disabled == Some(true) {
        return accounts.take_away(request.host(), Some(operation), change).await;
    }
    accounts.change(request.host(), Some(operation), change).await
}

/// `auth.users.password`.
pub(crate) async fn set_password(
    accounts: Arc<Accounts>,
    request: Request,
) -> Result<Json<NewUser>, Refusal> {
    let mut payload = Payload::of(&request)?;
    let operation = payload.operation()?;
    let reference = payload.text("id")?;
    let new = Password::chosen(&mut payload, "newPassword")?;
    let old = payload.optional_long_text("oldPassword")?.map(Password::typed_as);
    let kept = payload.optional_text("keepSession")?;
    payload.end()?;
    let asker = Asker::of(&request);
    let early = (asker.clone(), reference.clone());
    let looking = accounts.look(move |connection, _| {
        let (asker, reference) = early;
        require_users(connection)?;
        let authority = asker.resolve(connection)?;
        if !authority
            .user()
            .is_some_and(|user| user.is_named(&reference) && authority.is_login_of(&user.id))
        {
            authority.require(ADMIN)?;
        }
        let user = User::named(connection, &reference)?;
        let is_own = authority.is(&user.id);
        Ok((user, is_own))
    });
    let (user, is_own) = looking.await?;
    let cost = accounts.settings.get().bcrypt_cost();
    if is_own {
        let missing = || Refusal::invalid("oldPassword", "`oldPassword` is missing: your own needs it");
        let old = old.ok_or_else(missing)?;
        if !accounts.hasher.check(old, Some(user.password.clone()), cost).await? {
            return Err(Refusal::Unauthorized("the old password is wrong"));
        }
    }
    let new = NewPassword::of(&accounts, Some(new)).await?;
    let (id, checked) = (user.id, user.password);
    let change = move |connection: &Connection, now: Moment| {
        let authority = asker.resolve(connection)?;
        if !authority.is_login_of(&id) {
            authority.require(ADMIN)?;
        }
        let mut user = User::named(connection, &id)?;
        if is_own && user.password != checked {
            return Err(Refusal::Unauthorized("the old password is wrong"));
        }
        user.password = new.hash;
        if is_own {
            user.must_change_password = false;
        }
        user.save(connection)?;
        session::end_all_but(connection, &user.id, kept.as_deref())?;
        tracing::info!(user = user.name, by = authority.name(), "password changed");
        shown(connection, &user.id, None, now)
    };
    accounts.change(request.host(), Some(operation), change).await
}

/// `auth.users.delete`.
pub(crate) async fn delete(accounts: Arc<Accounts>, request: Request) -> Result<Value, Refusal> {
    let mut payload = Payload::of(&request)?;
    let operation = payload.operation()?;
    let reference = payload.text("id")?;
    payload.end()?;
    let asker = Asker::of(&request);
    let change = move |connection: &Connection, _| {
        let authority = require_admin(connection, &asker)?;
        let user = User::named(connection, &reference)?;
        connection.execute("DELETE FROM users WHERE id = ?1", [&user.id])?;
        user::keep_an_admin(connection, &user)?;
        tracing::info!(user = user.name, by = authority.name(), "user removed");
        Ok(Changed::new(Whom::User(user.id), json!({})))
    };
    accounts.take_away(request.host(), Some(operation), change).await
}

/// `auth.users.reset`: the way back in, for whoever holds the root key.
pub(crate) async fn reset(accounts: Arc<Accounts>, request: Request) -> Result<Json<NewUser>, Refusal> {
    let mut payload = Payload::of(&request)?;
    let operation = payload.operation()?;
    let name: UserName = payload.one("name")?;
    let password = Password::optional_chosen(&mut payload, "password")?;
    payload.end()?;
    if !matches!(Asker::of(&request), Asker::Root) {
        return Err(Refusal::forbidden("only the root key resets users: use `bkg user reset` with it"));
    }
    let password = NewPassword::of(&accounts, password).await?;
    let change = move |connection: &Connection, now: Moment| {
        // A password that was made has been seen by whoever ran the command; a chosen one is theirs.
        let must_change = password.shown.is_some();
        let user = match User::by_name(connection, &name)? {
            None => new_user(connection, &name, password.hash, must_change, now)?,
            Some(mut user) => {
                ADMIN.clone_into(&mut user.role);
                user.disabled = false;
                user.password = password.hash;
                user.must_change_password = must_change;
                user.save(connection)?;
                user
            }
        };
        session::end_all_but(connection, &user.id, None)?;
        tracing::warn!(
            user = user.name,
            "user reset with the root key: an administrator with a new password"
        );
        shown(connection, &user.id, password.shown, now)
    };
    accounts.change(request.host(), Some(operation), change).await
}

/// Adds an administrator.
fn new_user(
    connection: &Connection,
    name: &UserName,
    password: PasswordHash,
    must_change_password: bool,
    now: Moment,
) -> Result<User, Refusal> {
    let user = User {
        id: user::new_id(),
        name: name.as_str().to_owned(),
        display_name: name.as_str().to_owned(),
        role: ADMIN.to_owned(),
        scopes: scopes_of_role(connection, &ADMIN.parse().expect("`admin` is a role name"))?,
        password,
        disabled: false,
        must_change_password,
        created_at: now,
        last_login_at: None,
        limits: Limits::default(),
    };
    user.insert(connection)?;
    Ok(user)
}

/// The user as the change left it.
fn shown(
    connection: &Connection,
    id: &str,
    password: Option<String>,
    now: Moment,
) -> Result<Changed<Json<NewUser>>, Refusal> {
    let object = User::named(connection, id)?.object(connection, now)?;
    Ok(Changed::new(Whom::User(id.to_owned()), Json(NewUser { object, password })))
}

fn require_admin(connection: &Connection, asker: &Asker) -> Result<Authority, Refusal> {
    require_users(connection)?;
    let authority = asker.resolve(connection)?;
    authority.require(ADMIN)?;
    Ok(authority)
}
