//! The host's own facts: a name and a JSON value each.
//!
//! Not the configuration, which belongs to the operator. The invariant: a fact changes in the
//! transaction of its audit row, so neither is ever there without the other.

use bkg_sqlite::Database;
use bkg_sqlite::rusqlite::{self, Connection, OptionalExtension};

use super::StoreError;
use super::audit::{self, Action, AuditKey, Outcome};

/// Whether the first administrator was made, in the life of this data directory.
const AUTH_INITIALISED: &str = "auth_initialised";

/// The facts of one data directory; cheap to clone.
#[derive(Debug, Clone)]
pub struct Settings {
    database: Database,
    key: AuditKey,
}

impl Settings {
    pub(super) fn new(database: Database, key: AuditKey) -> Self {
        Self { database, key }
    }

    /// Whether the first administrator was made.
    ///
    /// # Errors
    /// The database's.
    pub async fn is_auth_initialised(&self) -> Result<bool, StoreError> {
        self.database.read(|connection| Ok(is_set(connection, AUTH_INITIALISED)?)).await
    }

    /// Says for good that the first administrator was made, and writes `action` to the audit log as
    /// done. Said before, it changes nothing.
    ///
    /// # Errors
    /// The database's; then neither is written.
    pub async fn set_auth_initialised(&self, action: Action) -> Result<(), StoreError> {
        let key = self.key.clone();
        self.database
            .write(move |connection| {
                if is_set(connection, AUTH_INITIALISED)? {
                    return Ok(());
                }
                connection
                    .prepare_cached("INSERT OR REPLACE INTO settings (name, value) VALUES (?1, 'true')")?
                    .execute([AUTH_INITIALISED])?;
                audit::record(connection, &key, &action, Outcome::Done)
            })
            .await
    }

    /// What is written under a name, as JSON.
    ///
    /// # Errors
    /// The database's.
    pub async fn read(&self, name: &'static str) -> Result<Option<String>, StoreError> {
        self.database.read(move |connection| Ok(value_of(connection, name)?)).await
    }

    /// Writes a JSON value under a name, and `action` to the audit log as done, if `is_expected` says so of
    /// what is written there now. Both are on the disk when this returns, or neither.
    ///
    /// # Errors
    /// The database's; then neither is written.
    pub async fn replace(
        &self,
        name: &'static str,
        is_expected: impl FnOnce(Option<&str>) -> bool + Send + 'static,
        value: String,
        action: Action,
    ) -> Result<Replaced, StoreError> {
        let key = self.key.clone();
        self.database
            .write(move |connection| {
                if !is_expected(value_of(connection, name)?.as_deref()) {
                    return Ok(Replaced::NotExpected);
                }
                connection
                    .prepare_cached("INSERT OR REPLACE INTO settings (name, value) VALUES (?1, ?2)")?
                    .execute([name, &value])?;
                audit::record(connection, &key, &action, Outcome::Done)?;
                Ok(Replaced::Done)
            })
            .await
    }
}

/// What became of a fact that was to be replaced.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Replaced {
    /// It was.
    Done,
    /// Something else was written there than was expected.
    NotExpected,
}

fn value_of(connection: &Connection, name: &str) -> rusqlite::Result<Option<String>> {
    let mut select = connection.prepare_cached("SELECT value FROM settings WHERE name = ?1")?;
    select.query_row([name], |row| row.get(0)).optional()
}

/// Whether any fact was ever written.
pub(super) fn has_any(connection: &Connection) -> rusqlite::Result<bool> {
    connection.prepare_cached("SELECT 1 FROM settings")?.exists([])
}

fn is_set(connection: &Connection, name: &str) -> rusqlite::Result<bool> {
    connection.prepare_cached("SELECT 1 FROM settings WHERE name = ?1 AND value = 'true'")?.exists([name])
}
