//! Opens the database and the secret beside it, and makes both at the very first start.
//!
//! A lost database must never look like a first start, since that would open the door to whoever comes
//! first. The invariant: `hmac.key` is there exactly if a first start has been completed, so its presence
//! without the database means that the database was lost.
//!
//! A first start writes the secret as `hmac.key.new`, makes the database, notes there which secret it
//! belongs to, and renames the file. Wherever that breaks off, the next start begins again or ends it.

use std::fs::{self, File, OpenOptions, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use bkg_sqlite::rusqlite::OptionalExtension;
use bkg_sqlite::{Database, DatabaseError, Definition, OpenError, Presence};

use crate::hmac_key::{Digest, HmacKey};

/// The database of this plugin.
pub(crate) static DEFINITION: Definition = Definition {
    what: "the database of users and keys",
    // "bkgk" as ASCII.
    application_id: 0x626b_676b,
    migrations: &[include_str!("schema/1.sql"), include_str!("schema/2.sql")],
};

pub(crate) const DATABASE: &str = "apikeys.db";
pub(crate) const KEY: &str = "hmac.key";
const NEW_KEY: &str = "hmac.key.new";
/// Only the plugin's own user may read a file with a secret.
const MODE: u32 = 0o600;

/// Why the plugin cannot start.
#[derive(Debug, thiserror::Error)]
pub(crate) enum OpeningError {
    /// There was a database, and there is none.
    #[error(
        "`{}` is lost: restore it from a backup; or accept that all users and keys are lost, remove `hmac.key` and \
         everything beside it that is named `apikeys.db…`, run `bkg plugin restart apikeys`, then `bkg user reset admin`",
        path.display()
    )]
    DatabaseLost {
        /// The file.
        path: PathBuf,
    },
    /// There was a secret, and there is none.
    #[error(
        "`{}` is lost, without which no key can be checked: restore it from a backup; or accept that all users and keys \
         are lost, remove everything beside it that is named `apikeys.db…`, run `bkg plugin restart apikeys`, then \
         `bkg user reset admin`",
        path.display()
    )]
    KeyLost {
        /// The file.
        path: PathBuf,
    },
    /// The secret is not the one that the database was written with.
    #[error("`{}` does not belong to the `apikeys.db` beside it: restore both from the same backup", path.display())]
    KeyOfAnother {
        /// The file.
        path: PathBuf,
    },
    /// The file with the secret holds something else.
    #[error("`{}` is damaged: restore it from a backup", path.display())]
    KeyDamaged {
        /// The file.
        path: PathBuf,
    },
    /// The database refuses.
    #[error(transparent)]
    Database(#[from] OpenError),
    /// The database fails.
    #[error("the database of users and keys cannot be read: {0}")]
    Reading(#[from] DatabaseError),
    /// The disk or the permissions.
    #[error("cannot {action} `{}`: {source}", path.display())]
    Disk {
        /// What was tried.
        action: &'static str,
        /// With which file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// No thread could be started.
    #[error("the thread that hashes passwords cannot start: {0}")]
    Thread(io::Error),
}

impl OpeningError {
    /// The process's exit code, as the SDK gives them: 71 for the operating system, 78 where something
    /// must be changed before another launch can work.
    pub(crate) fn exit_code(&self) -> u8 {
        match self {
            Self::Disk { .. } | Self::Thread(_) | Self::Database(OpenError::Disk { .. }) => 71,
            _ => 78,
        }
    }

    fn disk(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Disk { action, path, source }
    }
}

/// Opens both. Blocks.
///
/// # Errors
/// What is lost or damaged, and the ways out; nothing has been changed then.
pub(crate) fn open(data_dir: &Path) -> Result<(Database, HmacKey), OpeningError> {
    let (path, key_path) = (data_dir.join(DATABASE), data_dir.join(KEY));
    let is_there = path.try_exists().map_err(OpeningError::disk("look for", &path))?;
    let Some(key) = read_key(&key_path)? else { return open_first(data_dir) };
    if !is_there {
        return Err(OpeningError::DatabaseLost { path });
    }
    let database = Database::open(&path, &DEFINITION, Presence::MustExist)?;
    match fingerprint(&database)? {
        Some(fingerprint) if fingerprint.is(&key.fingerprint()) => Ok((database, key)),
        _ => Err(refused(&database, OpeningError::KeyOfAnother { path: key_path })),
    }
}

/// Goes through a first start, or ends one that broke off.
fn open_first(data_dir: &Path) -> Result<(Database, HmacKey), OpeningError> {
    let (path, key_path, new_path) = (data_dir.join(DATABASE), data_dir.join(KEY), data_dir.join(NEW_KEY));
    let is_there = path.try_exists().map_err(OpeningError::disk("look for", &path))?;
    // A draft that cannot be read was not yet written when the first start broke off.
    let draft = read_key(&new_path).ok().flatten();
    let key = match draft {
        Some(key) => key,
        None => HmacKey::make().map_err(OpeningError::disk("draw random numbers for", &new_path))?,
    };
    if !is_there {
        write_key(&new_path, &key).map_err(OpeningError::disk("write", &new_path))?;
    }
    let database = Database::open(&path, &DEFINITION, Presence::MayBeNew).map_err(|error| match error {
        // Something beside it shows that it was there.
        OpenError::Missing { path, .. } => OpeningError::DatabaseLost { path },
        error => error.into(),
    })?;
    match (fingerprint(&database)?, is_empty(&database)?) {
        (Some(fingerprint), _) if fingerprint.is(&key.fingerprint()) => {}
        (_, false) => return Err(refused(&database, OpeningError::KeyLost { path: key_path })),
        (_, true) => {
            write_key(&new_path, &key).map_err(OpeningError::disk("write", &new_path))?;
            set_fingerprint(&database, key.fingerprint())?;
        }
    }
    fs::rename(&new_path, &key_path)
        .and_then(|()| sync(data_dir))
        .map_err(OpeningError::disk("write", &key_path))?;
    tracing::info!(path = %path.display(), "the database of users and keys is made");
    Ok((database, key))
}

/// Leaves a database that was opened for nothing as it was found: closed and sealed.
fn refused(database: &Database, error: OpeningError) -> OpeningError {
    if let Err(error) = database.close() {
        tracing::warn!(%error, "the database could not be closed; it opens again");
    }
    error
}

fn fingerprint(database: &Database) -> Result<Option<Digest>, DatabaseError> {
    database.read_blocking(|connection| {
        let row = connection.query_row("SELECT fingerprint FROM hmac_key", [], |row| row.get(0));
        row.optional().map_err(DatabaseError::from)
    })
}

fn set_fingerprint(database: &Database, fingerprint: Digest) -> Result<(), DatabaseError> {
    database.write_blocking(move |connection| {
        connection.execute("INSERT OR REPLACE INTO hmac_key VALUES (1, ?1)", [fingerprint])?;
        Ok(())
    })
}

/// Whether nothing is lost with the secret.
fn is_empty(database: &Database) -> Result<bool, DatabaseError> {
    database.read_blocking(|connection| Ok(!crate::user::are_there_any(connection)?))
}

/// Reads the secret; `None` if there is none. Whoever else could read it so far no longer can then.
fn read_key(path: &Path) -> Result<Option<HmacKey>, OpeningError> {
    let content = match fs::read(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        content => content.map_err(OpeningError::disk("read", path))?,
    };
    let key =
        HmacKey::from_file(&content).ok_or_else(|| OpeningError::KeyDamaged { path: path.to_owned() })?;
    let mode =
        fs::metadata(path).map_err(OpeningError::disk("look at", path))?.permissions().mode() & 0o7777;
    if mode != MODE {
        fs::set_permissions(path, Permissions::from_mode(MODE))
            .map_err(OpeningError::disk("close", path))?;
        tracing::warn!(path = %path.display(), was = format_args!("{mode:04o}"), "the file had other permissions than 0600");
    }
    Ok(Some(key))
}

fn write_key(path: &Path, key: &HmacKey) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut file = OpenOptions::new().write(true).create_new(true).mode(MODE).open(path)?;
    file.write_all(key.to_file().as_bytes())?;
    file.sync_all()?;
    sync(path.parent().unwrap_or(Path::new(".")))
}

fn sync(directory: &Path) -> io::Result<()> {
    File::open(directory)?.sync_all()
}
