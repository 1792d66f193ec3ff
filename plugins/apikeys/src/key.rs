//! API keys as the database has them, and as answers show them.
//!
//! Not what is done with them, see `key_changes`, nor the secret, of which only a digest is kept. The
//! invariant: what a key may do is written in its row alone, and its user's role narrows it at each use.

use bkg_sdk::{Pattern, Scopes};
use bkg_sqlite::rusqlite::types::Type;
use bkg_sqlite::rusqlite::{self, Connection, OptionalExtension, Row, params};
use serde::Serialize;

use crate::bounds::Bounds;
use crate::hmac_key::Digest;
use crate::limits::Limits;
use crate::moment::Moment;
use crate::role::{scopes_of_text, text_of_scopes};

/// A key.
#[derive(Debug, Clone)]
pub(crate) struct Key {
    pub(crate) id: String,
    pub(crate) user_id: String,
    pub(crate) name: String,
    pub(crate) digest: Digest,
    /// The secret before the last rotation, and how long it works.
    pub(crate) previous: Option<(Digest, Moment)>,
    pub(crate) scopes: Scopes,
    pub(crate) bounds: Bounds,
    pub(crate) created_at: Moment,
    pub(crate) created_by: String,
    pub(crate) last_used_at: Option<Moment>,
    pub(crate) revoked_at: Option<Moment>,
}

/// Whether a key opens anything.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum KeyStatus {
    Active,
    Expired,
    Revoked,
    /// Its user is disabled.
    Disabled,
}

/// A key as answers show it.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct KeyObject {
    id: String,
    name: String,
    user: String,
    user_id: String,
    scopes: Scopes,
    models: Option<Vec<Pattern>>,
    plugins: Option<Vec<Pattern>>,
    limits: Limits,
    log_bodies: bool,
    created_at: Moment,
    created_by: String,
    expires_at: Option<Moment>,
    last_used_at: Option<Moment>,
    revoked_at: Option<Moment>,
    status: KeyStatus,
}

const COLUMNS: &str = "keys.id, user_id, keys.name, digest, previous_digest, previous_until, keys.scopes, models, \
    plugins, keys.limits, log_bodies, keys.created_at, created_by, expires_at, last_used_at, revoked_at";

impl Key {
    fn from_row(row: &Row<'_>) -> rusqlite::Result<Self> {
        let previous = row.get::<_, Option<Digest>>(4)?.zip(row.get(5)?);
        Ok(Self {
            id: row.get(0)?,
            user_id: row.get(1)?,
            name: row.get(2)?,
            digest: row.get(3)?,
            previous,
            scopes: scopes_of_text(6, &row.get::<_, String>(6)?)?,
            bounds: Bounds {
                models: patterns(row, 7)?,
                plugins: patterns(row, 8)?,
                limits: Limits::of_column(row, 9)?,
                log_bodies: row.get(10)?,
                expires_at: row.get(13)?,
            },
            created_at: row.get(11)?,
            created_by: row.get(12)?,
            last_used_at: row.get(14)?,
            revoked_at: row.get(15)?,
        })
    }

    pub(crate) fn by_id(connection: &Connection, id: &str) -> rusqlite::Result<Option<Self>> {
        connection
            .prepare_cached(&format!("SELECT {COLUMNS} FROM keys WHERE keys.id = ?1"))?
            .query_row([id], Self::from_row)
            .optional()
    }

    /// Adds a key, or writes what can change of one.
    pub(crate) fn save(&self, connection: &Connection) -> rusqlite::Result<()> {
        let text = |patterns: &Option<Vec<Pattern>>| {
            let write = |list| serde_json::to_string(list).expect("patterns have a JSON form");
            patterns.as_ref().map(write)
        };
        let sql = "INSERT INTO keys VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16) \
            ON CONFLICT (id) DO UPDATE SET digest = excluded.digest, previous_digest = excluded.previous_digest, \
            previous_until = excluded.previous_until, revoked_at = excluded.revoked_at";
        connection.execute(
            sql,
            params![
                self.id,
                self.user_id,
                self.name,
                self.digest,
                self.previous.map(|(digest, _)| digest),
                self.previous.map(|(_, until)| until),
                text_of_scopes(&self.scopes),
                text(&self.bounds.models),
                text(&self.bounds.plugins),
                self.created_at,
                self.created_by,
                self.bounds.expires_at,
                self.last_used_at,
                self.revoked_at,
                self.bounds.limits.to_text(),
                self.bounds.log_bodies
            ],
        )?;
        Ok(())
    }

    /// Whether it would open something, were its user not disabled.
    pub(crate) fn works(&self, now: Moment) -> bool {
        self.status(false, now) == KeyStatus::Active
    }

    fn status(&self, user_is_disabled: bool, now: Moment) -> KeyStatus {
        if self.revoked_at.is_some() {
            KeyStatus::Revoked
        } else if self.bounds.expires_at.is_some_and(|end| end <= now) {
            KeyStatus::Expired
        } else if user_is_disabled {
            KeyStatus::Disabled
        } else {
            KeyStatus::Active
        }
    }

    /// The key as answers show it, with its user's name.
    pub(crate) fn object(self, user: String, user_is_disabled: bool, now: Moment) -> KeyObject {
        KeyObject {
            status: self.status(user_is_disabled, now),
            id: self.id,
            name: self.name,
            user,
            user_id: self.user_id,
            scopes: self.scopes,
            models: self.bounds.models,
            plugins: self.bounds.plugins,
            limits: self.bounds.limits,
            log_bodies: self.bounds.log_bodies,
            created_at: self.created_at,
            created_by: self.created_by,
            expires_at: self.bounds.expires_at,
            last_used_at: self.last_used_at,
            revoked_at: self.revoked_at,
        }
    }
}

/// The keys of a user, or of all, the newest first.
pub(crate) fn all_objects(
    connection: &Connection,
    user_id: Option<&str>,
    now: Moment,
) -> rusqlite::Result<Vec<KeyObject>> {
    let mut query = connection.prepare_cached(&format!(
        "SELECT {COLUMNS}, users.name, users.disabled FROM keys JOIN users ON users.id = user_id \
         WHERE ?1 IS NULL OR user_id = ?1 ORDER BY keys.created_at DESC, keys.id"
    ))?;
    let objects = query
        .query_map([user_id], |row| Ok(Key::from_row(row)?.object(row.get(16)?, row.get(17)?, now)))?;
    objects.collect()
}

/// Makes room for one more key of a user by forgetting those longest dead; answers whether there is.
pub(crate) fn make_room(
    connection: &Connection,
    user_id: &str,
    most: i64,
    now: Moment,
) -> rusqlite::Result<bool> {
    let count = || {
        connection.query_row("SELECT count(*) FROM keys WHERE user_id = ?1", [user_id], |row| {
            row.get::<_, i64>(0)
        })
    };
    let too_many = (count()? + 1 - most).max(0);
    if too_many == 0 {
        return Ok(true);
    }
    connection.execute(
        "DELETE FROM keys WHERE id IN (SELECT id FROM keys WHERE user_id = ?1 \
         AND (revoked_at IS NOT NULL OR expires_at <= ?2) ORDER BY coalesce(revoked_at, expires_at) LIMIT ?3)",
        params![user_id, now, too_many],
    )?;
    Ok(count()? < most)
}

fn patterns(row: &Row<'_>, index: usize) -> rusqlite::Result<Option<Vec<Pattern>>> {
    let text: Option<String> = row.get(index)?;
    text.map(|text| serde_json::from_str(&text))
        .transpose()
        .map_err(|error| rusqlite::Error::FromSqlConversionFailure(index, Type::Text, Box::new(error)))
}
