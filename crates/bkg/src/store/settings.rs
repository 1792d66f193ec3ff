//! The host's own facts: a name and a JSON value each.
//!
//! Not the configuration, which belongs to the operator. The invariant: a fact changes in the
//! transaction of its audit row, so neither is ever there without the other.

use bkg_sqlite::Database;
use bkg_sqlite::rusqlite::{self, Connection};

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
}

/// Whether any fact was ever written.
pub(super) fn has_any(connection: &Connection) -> rusqlite::Result<bool> {
    connection.prepare_cached("SELECT 1 FROM settings")?.exists([])
}

fn is_set(connection: &Connection, name: &str) -> rusqlite::Result<bool> {
    connection.prepare_cached("SELECT 1 FROM settings WHERE name = ?1 AND value = 'true'")?.exists([name])
}
