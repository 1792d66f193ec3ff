//! The root key: the credential that the host itself checks, so that a dead auth plugin locks no
//! operator out.
//!
//! Made once, at the first start; a damaged one is never replaced silently, because whoever holds the
//! old one would be locked out without a word. The invariant: its text leaves this type only through
//! [`RootKey::expose`] and never reaches a log.

use std::fmt;
use std::fs::{File, Permissions};
use std::io::{self, Read};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use subtle::ConstantTimeEq;

use super::{StoreError, atomic};

/// The root key of one data directory.
#[derive(Clone)]
pub struct RootKey(String);

impl RootKey {
    /// What every root key starts with.
    pub const PREFIX: &str = "bkg_root_";

    /// The key as text, to send it. Never to log it.
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// Whether `candidate` is this key; how long that takes says nothing about where they differ.
    pub fn matches(&self, candidate: &str) -> bool {
        self.0.as_bytes().ct_eq(candidate.as_bytes()).into()
    }

    /// The key of a data directory that may belong to a running host; `None` if there is none yet.
    ///
    /// # Errors
    /// The disk's, or a damaged key.
    pub fn read(data_dir: &Path) -> Result<Option<Self>, StoreError> {
        let path = data_dir.join(FILE);
        match File::open(&path) {
            Ok(file) => Self::from_file(&file, &path).map(Some),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(StoreError::disk("read", &path)(error)),
        }
    }

    /// The key of the data directory that this host owns. Whoever else could read it so far no longer
    /// can afterwards.
    pub(super) fn read_or_make(data_dir: &Path) -> Result<Self, StoreError> {
        let path = data_dir.join(FILE);
        let file = match File::open(&path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Self::make(&path),
            Err(error) => return Err(StoreError::disk("read", &path)(error)),
        };
        let key = Self::from_file(&file, &path)?;
        let mode = file.metadata().map_err(StoreError::disk("look at", &path))?.permissions().mode();
        if mode & 0o7777 != MODE {
            file.set_permissions(Permissions::from_mode(MODE)).map_err(StoreError::disk("close", &path))?;
            tracing::warn!(
                path = %path.display(),
                was = format_args!("{:04o}", mode & 0o7777),
                "the root key had other permissions than 0600: if others can have read it, delete it and restart"
            );
        }
        Ok(key)
    }

    fn make(path: &Path) -> Result<Self, StoreError> {
        let secret: [u8; SECRET_BYTES] = rand::random();
        let key = Self(format!("{}{}", Self::PREFIX, URL_SAFE_NO_PAD.encode(secret)));
        atomic::write_atomic(path, key.0.as_bytes(), MODE).map_err(StoreError::disk("write", path))?;
        tracing::info!(path = %path.display(), "root key made");
        Ok(key)
    }

    fn from_file(file: &File, path: &Path) -> Result<Self, StoreError> {
        let damaged = || StoreError::RootKeyDamaged { path: path.to_owned() };
        let mut text = Vec::new();
        file.take(LONGEST_FILE).read_to_end(&mut text).map_err(StoreError::disk("read", path))?;
        // An editor may have added a line end.
        let text = String::from_utf8(text).map_err(|_| damaged())?.trim_end().to_owned();
        let secret = text.strip_prefix(Self::PREFIX).and_then(|secret| URL_SAFE_NO_PAD.decode(secret).ok());
        match secret {
            Some(secret) if secret.len() == SECRET_BYTES => Ok(Self(text)),
            _ => Err(damaged()),
        }
    }
}

impl fmt::Debug for RootKey {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("RootKey(***)")
    }
}

const FILE: &str = "root.key";
const MODE: u32 = 0o600;
const SECRET_BYTES: usize = 32;
/// More than a key and its line end, so that a longer file is seen to be no key.
const LONGEST_FILE: u64 = 256;

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn a_key_is_made_once_and_read_again() {
        let directory = tempfile::tempdir().unwrap();
        assert!(RootKey::read(directory.path()).unwrap().is_none());
        let key = RootKey::read_or_make(directory.path()).unwrap();
        assert_eq!(key.expose().len(), "bkg_root_".len() + 43);
        assert_eq!(fs::read_to_string(directory.path().join("root.key")).unwrap(), key.expose());
        assert_eq!(
            fs::metadata(directory.path().join("root.key")).unwrap().permissions().mode() & 0o7777,
            0o600
        );
        assert!(RootKey::read_or_make(directory.path()).unwrap().matches(key.expose()));
        assert!(RootKey::read(directory.path()).unwrap().unwrap().matches(key.expose()));
        let other = tempfile::tempdir().unwrap();
        assert!(!RootKey::read_or_make(other.path()).unwrap().matches(key.expose()));
    }

    #[test]
    fn only_the_whole_key_matches() {
        let directory = tempfile::tempdir().unwrap();
        let key = RootKey::read_or_make(directory.path()).unwrap();
        let text = key.expose();
        for wrong in [
            "",
            "bkg_root_",
            &text[1..],
            &text[..text.len() - 1],
            &format!("{text} "),
            &text.to_uppercase(),
        ] {
            assert!(!key.matches(wrong), "{wrong}");
        }
    }

    #[test]
    fn the_key_never_shows_itself() {
        let directory = tempfile::tempdir().unwrap();
        let key = RootKey::read_or_make(directory.path()).unwrap();
        assert_eq!(format!("{key:?} {key:#?}"), "RootKey(***) RootKey(***)");
    }

    #[test]
    fn a_line_end_is_forgiven() {
        let directory = tempfile::tempdir().unwrap();
        let key = RootKey::read_or_make(directory.path()).unwrap();
        fs::write(directory.path().join("root.key"), format!("{}\r\n", key.expose())).unwrap();
        assert!(RootKey::read_or_make(directory.path()).unwrap().matches(key.expose()));
    }

    #[test]
    fn loose_permissions_are_tightened() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("root.key");
        RootKey::read_or_make(directory.path()).unwrap();
        fs::set_permissions(&path, Permissions::from_mode(0o644)).unwrap();
        RootKey::read_or_make(directory.path()).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o7777, 0o600);
    }

    #[test]
    fn a_damaged_key_is_an_error_and_stays_as_it_is() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("root.key");
        let whole = RootKey::read_or_make(directory.path()).unwrap();
        let whole = whole.expose().as_bytes();
        let long = [whole, &[b'A'; 300]].concat();
        let damaged: [&[u8]; 6] = [b"", b"\n", b"bkg_root_", &whole[..30], &long, b"bkg_root_\xff\xfe"];
        for content in damaged {
            fs::write(&path, content).unwrap();
            for result in
                [RootKey::read_or_make(directory.path()).err(), RootKey::read(directory.path()).err()]
            {
                let error = result.unwrap();
                assert_eq!(
                    error.to_string(),
                    format!(
                        "`{}` is empty or damaged: restore it from a backup, or delete it to get a new root key \
                         at the next start",
                        path.display()
                    )
                );
            }
            assert_eq!(fs::read(&path).unwrap(), content);
        }
    }
}
