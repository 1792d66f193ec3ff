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
    match found {
        KeyFile::Key(key) => {
            let vault = Vault::new(&key);
            match database.read_blocking(|connection| Ok::<_, StoreError>(read_proof(connection)?))? {
                Some(proof) if vault.made(&proof) => {}
                Some(_) => return Err(StoreError::SecretsKeyWrong { path }),
                // The database is a copy of before there were secrets.
                None => write_proof(database, &vault, None)?,
            }
            Ok(vault)
        }
        KeyFile::Absent => {
            if database
                .read_blocking(|connection| Ok::<_, StoreError>(revisions::have_secrets(connection)?))?
            {
                return Err(StoreError::SecretsKeyLost { path });
            }
            // If there is a proof, a first start was killed between it and the file.
            make(data_dir, database, None)
        }
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

#[cfg(test)]
mod tests {
    use std::fs;
    use std::sync::Arc;

    use bkg_protocol::PluginName;
    use serde_json::json;
    use tempfile::TempDir;

    use super::super::super::database::tests::{TestStore, action, tamper};
    use super::super::super::{AuditFilter, Saved};
    use super::*;

    const PATH: &str = "/settings/apiKey";

    fn ping() -> PluginName {
        "ping".parse().unwrap()
    }

    fn key(directory: &TempDir) -> std::path::PathBuf {
        directory.path().join("secrets.key")
    }

    /// A directory with a saved secret, after a clean stop.
    fn with_secret() -> Arc<TempDir> {
        let host = TestStore::new();
        let sealed = host.store.vault.seal(&ping(), PATH, &json!("secret"));
        let overlay = json!({ "settings": { "apiKey": { "$sealed": sealed } } });
        let Value::Object(overlay) = overlay else { unreachable!("it is an object") };
        let (ping, action) = (ping(), action("plugin ping"));
        let saved = host.store.revisions.save(&ping, 0, overlay, String::new(), action);
        assert!(matches!(host.wait(saved).unwrap(), Saved::Done(_)));
        host.close()
    }

    /// The secret as the vault opens it.
    fn secret(host: &TestStore) -> Result<Value, super::super::VaultError> {
        let current = host.wait(host.store.revisions.current(&ping())).unwrap().unwrap();
        let sealed = current.overlay["settings"]["apiKey"]["$sealed"].as_str().unwrap().to_owned();
        host.store.vault.open(&ping(), PATH, &sealed)
    }

    /// The host refuses this directory with exit code 6, and leaves it as it is.
    fn check_refused(directory: &Arc<TempDir>) -> StoreError {
        let kept = || {
            ["bkg.db", "audit.key", "secrets.key"].map(|name| fs::read(directory.path().join(name)).ok())
        };
        let before = kept();
        let error = TestStore::open(directory).err().expect("the host refuses to start");
        assert!(error.is_about_damage(), "{error}");
        assert!(error.to_string().contains("write `new` into the file"), "{error}");
        assert!(kept() == before, "{error}");
        error
    }

    #[test]
    fn a_secret_opens_after_a_restart() {
        let directory = with_secret();
        let host = TestStore::open(&directory).unwrap();
        assert_eq!(secret(&host), Ok(json!("secret")));
        let mode =
            std::os::unix::fs::PermissionsExt::mode(&fs::metadata(key(&directory)).unwrap().permissions());
        assert_eq!(mode & 0o7777, 0o600);
    }

    #[test]
    fn a_key_that_is_lost_damaged_or_of_another_host_is_refused() {
        let directory = with_secret();
        let whole = fs::read(key(&directory)).unwrap();
        for length in 0..whole.len() {
            fs::write(key(&directory), &whole[..length]).unwrap();
            let error = check_refused(&directory);
            assert!(matches!(error, StoreError::SecretsKeyDamaged { .. }), "{error}");
        }
        fs::remove_file(key(&directory)).unwrap();
        let error = check_refused(&directory);
        assert!(matches!(error, StoreError::SecretsKeyLost { .. }), "{error}");
        fs::copy(key(&with_secret()), key(&directory)).unwrap();
        let error = check_refused(&directory);
        assert!(matches!(error, StoreError::SecretsKeyWrong { .. }), "{error}");

        // What was refused opens as soon as the right key is back.
        fs::write(key(&directory), whole).unwrap();
        assert_eq!(secret(&TestStore::open(&directory).unwrap()), Ok(json!("secret")));
    }

    #[test]
    fn a_lost_key_is_refused_even_if_somebody_removed_its_proof() {
        let directory = with_secret();
        fs::remove_file(key(&directory)).unwrap();
        tamper(directory.path(), "DELETE FROM vault");
        let _ = fs::remove_file(directory.path().join("bkg.db.seal"));
        let error = check_refused(&directory);
        assert!(matches!(error, StoreError::SecretsKeyLost { .. }), "{error}");
    }

    #[test]
    fn a_key_that_sealed_nothing_is_made_anew_if_it_is_missing() {
        // As a first start leaves it that was killed between proof and file.
        let directory = TestStore::new().close();
        fs::remove_file(key(&directory)).unwrap();
        let host = TestStore::open(&directory).unwrap();
        let sealed = host.store.vault.seal(&ping(), PATH, &json!("secret"));
        let directory = host.close();
        let host = TestStore::open(&directory).unwrap();
        assert_eq!(host.store.vault.open(&ping(), PATH, &sealed), Ok(json!("secret")));
    }

    #[test]
    fn a_key_that_its_owner_gave_up_is_replaced_once_and_the_audit_log_says_so() {
        let directory = with_secret();
        fs::write(key(&directory), "new\n").unwrap();
        for _ in 0..2 {
            let host = TestStore::open(&directory).unwrap();
            let error = secret(&host).unwrap_err();
            assert!(error.to_string().ends_with("set it again"), "{error}");
            let sealed = host.store.vault.seal(&ping(), PATH, &json!("another"));
            assert_eq!(host.store.vault.open(&ping(), PATH, &sealed), Ok(json!("another")));
            let given_up = AuditFilter {
                before: None,
                limit: AuditFilter::MOST,
                action: Some("secrets.give_up".to_owned()),
                actor: Some("host".to_owned()),
                since: None,
            };
            assert_eq!(host.wait(host.store.audit.page(given_up)).unwrap().len(), 1);
            host.close();
        }
    }

    #[test]
    fn a_key_is_taken_for_a_database_of_before_there_were_secrets() {
        let directory = TestStore::new().close();
        let before = fs::read(key(&directory)).unwrap();
        tamper(directory.path(), "DELETE FROM vault");
        let _ = fs::remove_file(directory.path().join("bkg.db.seal"));
        TestStore::open(&directory).unwrap().close();
        assert_eq!(fs::read(key(&directory)).unwrap(), before);
        // From now on it is the only one.
        fs::copy(key(&TestStore::new().close()), key(&directory)).unwrap();
        let error = check_refused(&directory);
        assert!(matches!(error, StoreError::SecretsKeyWrong { .. }), "{error}");
    }
}
