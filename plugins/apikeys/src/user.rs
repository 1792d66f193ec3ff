//! Users as the database has them, and as answers show them.
//!
//! Not what is done with them, see `user_changes`. The invariant: a [`User`] comes with the scopes that
//! its role had in the same state of the database.

use bkg_sdk::Scopes;
use bkg_sqlite::rusqlite::{self, Connection, OptionalExtension, Row, params};
use serde::Serialize;

use crate::hasher::PasswordHash;
use crate::limits::Limits;
use crate::moment::Moment;
use crate::names::UserName;
use crate::refusal::Refusal;
use crate::role::scopes_of_text;
use crate::token::random_id;

/// A user.
#[derive(Debug, Clone)]
pub(crate) struct User {
    pub(crate) id: String,
    pub(crate) name: String,
    pub(crate) display_name: String,
    pub(crate) role: String,
    /// What the role grants.
    pub(crate) scopes: Scopes,
    pub(crate) password: PasswordHash,
    pub(crate) disabled: bool,
    pub(crate) must_change_password: bool,
    pub(crate) created_at: Moment,
    pub(crate) last_login_at: Option<Moment>,
    /// Of all keys and logins of the user together.
    pub(crate) limits: Limits,
}

/// A user as answers show it.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct UserObject {
    id: String,
    name: String,
    display_name: String,
    role: String,
    scopes: Scopes,
    disabled: bool,
    must_change_password: bool,
    created_at: Moment,
    last_login_at: Option<Moment>,
    limits: Limits,
    /// How many keys work or could.
    keys: i64,
    /// How many logins have not ended.
    sessions: i64,
}

/// The role that cannot be lost.
pub(crate) const ADMIN: &str = "admin";

const COLUMNS: &str = "users.id, users.name, display_name, role, scopes, password, disabled, \
    must_change_password, created_at, last_login_at, limits FROM users JOIN roles ON roles.name = role";

impl User {
    fn from_row(row: &Row<'_>) -> rusqlite::Result<Self> {
        Ok(Self {
            id: row.get(0)?,
            name: row.get(1)?,
            display_name: row.get(2)?,
            role: row.get(3)?,
            scopes: scopes_of_text(4, &row.get::<_, String>(4)?)?,
            password: row.get(5)?,
            disabled: row.get(6)?,
            must_change_password: row.get(7)?,
            created_at: row.get(8)?,
            last_login_at: row.get(9)?,
            limits: Limits::of_column(row, 10)?,
        })
    }

    pub(crate) fn by_id(connection: &Connection, id: &str) -> rusqlite::Result<Option<Self>> {
        let mut query = connection.prepare_cached(&format!("SELECT {COLUMNS} WHERE users.id = ?1"))?;
        query.query_row([id], Self::from_row).optional()
    }

    pub(crate) fn by_name(connection: &Connection, name: &UserName) -> rusqlite::Result<Option<Self>> {
        let mut query = connection.prepare_cached(&format!("SELECT {COLUMNS} WHERE users.name = ?1"))?;
        query.query_row([name.as_str()], Self::from_row).optional()
    }

    /// The user that a payload names by id or by name.
    ///
    /// # Errors
    /// There is none.
    pub(crate) fn named(connection: &Connection, reference: &str) -> Result<Self, Refusal> {
        if let Some(user) = Self::by_id(connection, reference)? {
            return Ok(user);
        }
        if let Ok(name) = reference.parse()
            && let Some(user) = Self::by_name(connection, &name)?
        {
            return Ok(user);
        }
        let name = reference.chars().take(64).flat_map(char::escape_debug).collect();
        Err(Refusal::NotFound { kind: "user", name, next: "`bkg user list` names those that exist" })
    }

    /// All users, by name.
    pub(crate) fn all(connection: &Connection) -> rusqlite::Result<Vec<Self>> {
        let mut query = connection.prepare_cached(&format!("SELECT {COLUMNS} ORDER BY users.name"))?;
        query.query_map([], Self::from_row)?.collect()
    }

    /// Whether a payload names this user by id or by name.
    pub(crate) fn is_named(&self, reference: &str) -> bool {
        self.id == reference || self.name == reference.to_ascii_lowercase()
    }

    /// Adds a user.
    pub(crate) fn insert(&self, connection: &Connection) -> rusqlite::Result<()> {
        connection.execute(
            "INSERT INTO users VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10)",
            params![
                self.id,
                self.name,
                self.display_name,
                self.role,
                self.password,
                self.disabled,
                self.must_change_password,
                self.created_at,
                self.last_login_at,
                self.limits.to_text()
            ],
        )?;
        Ok(())
    }

    /// Writes what can change.
    pub(crate) fn save(&self, connection: &Connection) -> rusqlite::Result<()> {
        connection.execute(
            "UPDATE users SET display_name = ?2, role = ?3, password = ?4, disabled = ?5, \
             must_change_password = ?6, last_login_at = ?7, limits = ?8 WHERE id = ?1",
            params![
                self.id,
                self.display_name,
                self.role,
                self.password,
                self.disabled,
                self.must_change_password,
                self.last_login_at,
                self.limits.to_text()
            ],
        )?;
        Ok(())
    }

    /// The user as answers show it.
    pub(crate) fn object(self, connection: &Connection, now: Moment) -> rusqlite::Result<UserObject> {
        let keys = connection
            .prepare_cached(
                "SELECT count(*) FROM keys WHERE user_id = ?1 AND revoked_at IS NULL \
                 AND (expires_at IS NULL OR expires_at > ?2)",
            )?
            .query_row(params![self.id, now], |row| row.get(0))?;
        let sessions = connection
            .prepare_cached("SELECT count(*) FROM sessions WHERE user_id = ?1 AND refresh_expires_at > ?2")?
            .query_row(params![self.id, now], |row| row.get(0))?;
        Ok(UserObject {
            id: self.id,
            name: self.name,
            display_name: self.display_name,
            role: self.role,
            scopes: self.scopes,
            disabled: self.disabled,
            must_change_password: self.must_change_password,
            created_at: self.created_at,
            last_login_at: self.last_login_at,
            limits: self.limits,
            keys,
            sessions,
        })
    }

    fn is_serving_admin(&self) -> bool {
        self.role == ADMIN && !self.disabled
    }
}

/// A new user's id. Its capital letter makes it no user's name.
pub(crate) fn new_id() -> String {
    format!("U{}", &random_id()[1..])
}

/// Whether anybody can log in at all.
///
/// # Errors
/// [`Refusal::NotInitialised`].
pub(crate) fn require_users(connection: &Connection) -> Result<(), Refusal> {
    if are_there_any(connection)? { Ok(()) } else { Err(Refusal::NotInitialised) }
}

/// Whether there are users.
pub(crate) fn are_there_any(connection: &Connection) -> rusqlite::Result<bool> {
    connection.prepare_cached("SELECT EXISTS (SELECT 1 FROM users)")?.query_row([], |row| row.get(0))
}

/// Keeps the last enabled administrator one: called after a change in the same transaction.
///
/// # Errors
/// The change leaves none, where `before` was one.
pub(crate) fn keep_an_admin(connection: &Connection, before: &User) -> Result<(), Refusal> {
    if !before.is_serving_admin() {
        return Ok(());
    }
    let one_is_left: bool = connection.query_row(
        "SELECT EXISTS (SELECT 1 FROM users WHERE role = ?1 AND NOT disabled)",
        [ADMIN],
        |row| row.get(0),
    )?;
    if one_is_left {
        return Ok(());
    }
    Err(Refusal::Conflict(format!(
        "`{}` is the last administrator that can log in: make another one first",
        before.name
    )))
}
