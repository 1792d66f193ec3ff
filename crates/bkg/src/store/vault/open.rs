//! Which key goes with a database: made, found, refused, or given up.
//!
//! Not what is in the key's file, which `key` reads. The invariant: while sealed secrets are kept, no
//! other key takes the place of theirs, unless the owner asked for it in the key's file. `database`
//! calls this at the start.

use std::path::Path;

use bkg_sqlite::Database;
use bkg_sqlite::rusqlite::{self, Connection, OptionalExtension};
use serde_json::Value;

use super::super::audit::{self, Action, Actor, AuditKey, Outcome};
use super::super::{StoreError, revisions};
use super::Vault;
use super::key::{KeyFile, SecretsKey};

/// Opens the vault of a data directory with the key that fits its database. Blocks.
///
/// # Errors
/// The disk's or the database's, or a key that is lost, damaged or another database's. Both are as they
/// were then.
pub(in crate::store) fn open(
    data_dir: &Path,
    database: &Database,
    audit_key: &AuditKey,
) -> Result<Vault, StoreError> {
    let path = SecretsKey::path(data_dir);
    let found = KeyFile::read_own(data_dir)?;
    let (proof, has_secrets) = database.read_blocking(|connection| {
        Ok::<_, StoreError>((read_proof(connection)?, revisions::have_secrets(connection)?))
    })?;
    match found {
        KeyFile::Key(key) => {
            let vault = Vault::new(&key);
            match proof {
                Some(proof) if vault.made(&proof) => {}
                Some(_) => return Err(StoreError::SecretsKeyWrong { path }),
                // The database is a copy of before there were secrets.
                None => write_proof(database, &vault, None)?,
            }
            Ok(vault)
        }
        KeyFile::Absent if has_secrets => Err(StoreError::SecretsKeyLost { path }),
        // With a proof, but nothing sealed, a first start was killed between proof and file.
        KeyFile::Absent => make(data_dir, database, None),
        KeyFile::GivenUp => {
            let vault = make(data_dir, database, Some(audit_key))?;
            tracing::warn!(path = %path.display(), "the key of the secrets was given up: set all secrets again");
            Ok(vault)
        }
    }
}

/// Makes a key. Its file comes last, so that a start that is killed before makes another.
fn make(data_dir: &Path, database: &Database, audit_key: Option<&AuditKey>) -> Result<Vault, StoreError> {
    let key = SecretsKey::random();
    let vault = Vault::new(&key);
    write_proof(database, &vault, audit_key)?;
    key.save(data_dir)?;
    tracing::info!(path = %SecretsKey::path(data_dir).display(), "key of the secrets made");
    Ok(vault)
}

fn read_proof(connection: &Connection) -> rusqlite::Result<Option<String>> {
    connection.query_row("SELECT proof FROM vault WHERE one = 1", [], |row| row.get(0)).optional()
}

/// Writes the vault's proof, and into the audit log, if its key is given, that a key was given up.
fn write_proof(database: &Database, vault: &Vault, audit_key: Option<&AuditKey>) -> Result<(), StoreError> {
    let (proof, audit_key) = (vault.proof(), audit_key.cloned());
    database.write_blocking(move |connection| {
        connection.execute("INSERT OR REPLACE INTO vault (one, proof) VALUES (1, ?1)", [proof])?;
        match audit_key {
            Some(key) => audit::record(connection, &key, &given_up(), Outcome::Done),
            None => Ok(()),
        }
    })
}

fn given_up() -> Action {
    Action {
        actor: Actor { user: "host".to_owned(), key_id: None, session_id: None, address: None },
        action: "secrets.give_up",
        target: "file secrets.key".to_owned(),
        detail: Value::Null,
        request_id: None,
    }
}
