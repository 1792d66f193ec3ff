//! Roles: named sets of scopes, one for each user.
//!
//! Not what a scope grants, which the protocol's `Scopes` decides. The invariant: the role `admin` grants
//! everything, and no role goes while somebody has it.

use std::sync::Arc;

use bkg_sdk::{Json, Request, Scope, Scopes};
use bkg_sqlite::rusqlite::types::Type;
use bkg_sqlite::rusqlite::{self, Connection, OptionalExtension, params};
use serde::Serialize;
use serde_json::{Value, json};

use crate::accounts::Accounts;
use crate::change::{Changed, Whom};
use crate::names::RoleName;
use crate::payload::Payload;
use crate::refusal::Refusal;
use crate::rights::Asker;
use crate::user::{ADMIN, require_users};

/// How many scopes a role or key may have.
pub(crate) const MOST_SCOPES: usize = 64;
/// How many roles there may be.
const MOST_ROLES: i64 = 1_000;

/// A role as answers show it.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct RoleObject {
    name: String,
    scopes: Scopes,
    built_in: bool,
    /// How many users have it.
    users: i64,
}

const COLUMNS: &str =
    "name, scopes, built_in, (SELECT count(*) FROM users WHERE role = roles.name) FROM roles";

impl RoleObject {
    fn from_row(row: &rusqlite::Row<'_>) -> rusqlite::Result<Self> {
        Ok(Self {
            name: row.get(0)?,
            scopes: scopes_of_text(1, &row.get::<_, String>(1)?)?,
            built_in: row.get(2)?,
            users: row.get(3)?,
        })
    }

    fn named(connection: &Connection, name: &RoleName) -> rusqlite::Result<Option<Self>> {
        connection
            .query_row(&format!("SELECT {COLUMNS} WHERE name = ?1"), [name.as_str()], Self::from_row)
            .optional()
    }
}

/// The scopes of a role that is to be given to somebody.
///
/// # Errors
/// There is no such role.
pub(crate) fn scopes_of_role(connection: &Connection, name: &RoleName) -> Result<Scopes, Refusal> {
    match RoleObject::named(connection, name)? {
        Some(role) => Ok(role.scopes),
        None => {
            let message =
                format!("there is no role `{}`: `bkg role list` names those that exist", name.as_str());
            Err(Refusal::invalid("role", message))
        }
    }
}

/// Reads the column `index`, a JSON list of scopes.
pub(crate) fn scopes_of_text(index: usize, text: &str) -> rusqlite::Result<Scopes> {
    serde_json::from_str(text)
        .map_err(|error| rusqlite::Error::FromSqlConversionFailure(index, Type::Text, Box::new(error)))
}

/// Writes what [`scopes_of_text`] reads.
pub(crate) fn text_of_scopes(scopes: &Scopes) -> String {
    serde_json::to_string(scopes).expect("scopes have a JSON form")
}

/// Reads the scopes that a payload asks for.
pub(crate) fn asked_scopes(payload: &mut Payload) -> Result<Scopes, Refusal> {
    let mut scopes: Vec<Scope> = payload.list("scopes", MOST_SCOPES)?.unwrap_or_default();
    if scopes.is_empty() {
        return Err(Refusal::invalid(
            "scopes",
            "`scopes` is missing: name at least one, such as `llm.chat`",
        ));
    }
    scopes.sort();
    scopes.dedup();
    Ok(scopes.into())
}

/// `auth.roles.list`.
pub(crate) async fn list(accounts: Arc<Accounts>, request: Request) -> Result<Value, Refusal> {
    let payload = Payload::of(&request)?;
    payload.end()?;
    let asker = Asker::of(&request);
    accounts
        .look(move |connection, _| {
            require_users(connection)?;
            asker.resolve(connection)?.require(ADMIN)?;
            let mut query = connection.prepare_cached(&format!("SELECT {COLUMNS} ORDER BY name"))?;
            let roles: Vec<RoleObject> =
                query.query_map([], RoleObject::from_row)?.collect::<Result<_, _>>()?;
            Ok(json!({ "roles": roles }))
        })
        .await
}

/// `auth.roles.set`.
pub(crate) async fn set(accounts: Arc<Accounts>, request: Request) -> Result<Json<RoleObject>, Refusal> {
    let mut payload = Payload::of(&request)?;
    let operation = payload.operation()?;
    let name: RoleName = payload.one("name")?;
    let scopes = asked_scopes(&mut payload)?;
    payload.end()?;
    let asker = Asker::of(&request);
    let change = move |connection: &Connection, _| {
        require_users(connection)?;
        let authority = asker.resolve(connection)?;
        authority.require(ADMIN)?;
        authority.require_all("scopes", &scopes)?;
        if name.as_str() == ADMIN {
            return Err(Refusal::Conflict(
                "the role `admin` cannot be changed: make another role".to_owned(),
            ));
        }
        let roles: i64 = connection.query_row("SELECT count(*) FROM roles", [], |row| row.get(0))?;
        let before = RoleObject::named(connection, &name)?;
        if before.is_none() && roles >= MOST_ROLES {
            return Err(Refusal::Conflict(format!("there are {MOST_ROLES} roles: remove one first")));
        }
        connection.execute(
            "INSERT INTO roles VALUES (?1, ?2, 0) ON CONFLICT (name) DO UPDATE SET scopes = excluded.scopes",
            params![name.as_str(), text_of_scopes(&scopes)],
        )?;
        tracing::info!(role = name.as_str(), ?scopes, "role set");
        let role = RoleObject::named(connection, &name)?.expect("it was just written");
        Ok(Changed::new(Whom::Everybody, Json(role)))
    };
    accounts.change(request.host(), Some(operation), change).await
}

/// `auth.roles.delete`.
pub(crate) async fn delete(accounts: Arc<Accounts>, request: Request) -> Result<Value, Refusal> {
    let mut payload = Payload::of(&request)?;
    let operation = payload.operation()?;
    let name: RoleName = payload.one("name")?;
    payload.end()?;
    let asker = Asker::of(&request);
    let change = move |connection: &Connection, _| {
        require_users(connection)?;
        asker.resolve(connection)?.require(ADMIN)?;
        let shown = name.as_str();
        let Some(role) = RoleObject::named(connection, &name)? else {
            let next = "`bkg role list` names those that exist";
            return Err(Refusal::NotFound { kind: "role", name: shown.to_owned(), next });
        };
        if role.built_in {
            return Err(Refusal::Conflict(format!("the role `{shown}` is built in and stays")));
        }
        if role.users > 0 {
            let message =
                format!("{} users have the role `{shown}`: give them another one first", role.users);
            return Err(Refusal::Conflict(message));
        }
        connection.execute("DELETE FROM roles WHERE name = ?1", [shown])?;
        tracing::info!(role = shown, "role removed");
        Ok(Changed::new(Whom::Everybody, json!({})))
    };
    accounts.change(request.host(), Some(operation), change).await
}
