//! The key that the audit log's chain is written with: 32 random bytes in `DATA/audit.key`.
//!
//! Made once, right after the database; never replaced, because what was written with it can be
//! checked with nothing else. Whoever can write the database but not read this file cannot change the
//! log unseen. The invariant: its bytes leave this type only as message authentication codes.

use std::fmt;
use std::fs::{File, Permissions};
use std::io::{self, Read};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

use super::super::{StoreError, atomic};
use super::chain::Link;

/// The key of one data directory's audit log.
#[derive(Clone)]
pub(in crate::store) struct AuditKey {
    bytes: [u8; KEY_BYTES],
    /// HMAC-SHA-256 (RFC 2104), keyed, nothing hashed yet.
    keyed: Hmac<Sha256>,
}

impl AuditKey {
    /// A new key, in memory only.
    pub(in crate::store) fn random() -> Self {
        Self::from_bytes(rand::random())
    }

    fn from_bytes(bytes: [u8; KEY_BYTES]) -> Self {
        let keyed = Hmac::new_from_slice(&bytes).expect("HMAC takes keys of any length");
        Self { bytes, keyed }
    }

    /// Where the key of a data directory is.
    pub(in crate::store) fn path(data_dir: &Path) -> PathBuf {
        data_dir.join("audit.key")
    }

    /// The key of a data directory that may belong to a running host; `None` if there is none.
    ///
    /// # Errors
    /// The disk's, or a damaged key.
    pub(in crate::store) fn read(data_dir: &Path) -> Result<Option<Self>, StoreError> {
        let path = Self::path(data_dir);
        let mut file = match File::open(&path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(StoreError::disk("read", &path)(error)),
        };
        Self::from_file(&mut file, path).map(Some)
    }

    /// The key of the data directory that this host owns. Whoever else could read it so far no longer
    /// can afterwards.
    ///
    /// # Errors
    /// As those of [`AuditKey::read`].
    pub(in crate::store) fn read_own(data_dir: &Path) -> Result<Option<Self>, StoreError> {
        let Some(key) = Self::read(data_dir)? else { return Ok(None) };
        let path = Self::path(data_dir);
        let metadata = std::fs::metadata(&path).map_err(StoreError::disk("look at", &path))?;
        let mode = metadata.permissions().mode() & 0o7777;
        if mode != MODE {
            std::fs::set_permissions(&path, Permissions::from_mode(MODE))
                .map_err(StoreError::disk("close", &path))?;
            tracing::warn!(
                path = %path.display(),
                was = format_args!("{mode:04o}"),
                "the key of the audit log had other permissions than 0600: whoever read it can forge entries"
            );
        }
        Ok(Some(key))
    }

    /// Puts the key into its file, so that it is there after any crash.
    ///
    /// # Errors
    /// The disk's.
    pub(in crate::store) fn save(&self, data_dir: &Path) -> Result<(), StoreError> {
        let path = Self::path(data_dir);
        let text = URL_SAFE_NO_PAD.encode(self.bytes);
        atomic::write_atomic(&path, text.as_bytes(), MODE).map_err(StoreError::disk("write", &path))
    }

    /// What tells whether another key is this one, and says nothing to who has not this key of the log.
    pub(in crate::store) fn print(&self, other: &[u8]) -> String {
        let code = self.code(|mac| {
            mac.update(b"a key that is left out of a backup\0");
            mac.update(other);
        });
        URL_SAFE_NO_PAD.encode(code)
    }

    /// The code of what `feed` hashes.
    pub(super) fn code(&self, feed: impl FnOnce(&mut Hmac<Sha256>)) -> Link {
        let mut mac = self.keyed.clone();
        feed(&mut mac);
        mac.finalize().into_bytes().into()
    }

    fn from_file(file: &mut File, path: PathBuf) -> Result<Self, StoreError> {
        let mut text = Vec::new();
        file.take(LONGEST_FILE).read_to_end(&mut text).map_err(StoreError::disk("read", &path))?;
        // An editor may have added a line end.
        let bytes = URL_SAFE_NO_PAD.decode(text.trim_ascii_end()).ok();
        let bytes = bytes.and_then(|bytes| <[u8; KEY_BYTES]>::try_from(bytes).ok());
        bytes.map(Self::from_bytes).ok_or(StoreError::AuditKeyDamaged { path })
    }
}

impl fmt::Debug for AuditKey {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("AuditKey(***)")
    }
}

const MODE: u32 = 0o600;
const KEY_BYTES: usize = 32;
/// More than a key and its line end, so that a longer file is seen to be no key.
const LONGEST_FILE: u64 = 256;

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn code(key: &AuditKey) -> Link {
        key.code(|mac| mac.update(b"something"))
    }

    #[test]
    fn a_saved_key_is_read_again_by_its_owner_alone() {
        let directory = tempfile::tempdir().unwrap();
        assert!(AuditKey::read(directory.path()).unwrap().is_none());
        let key = AuditKey::random();
        key.save(directory.path()).unwrap();
        let path = AuditKey::path(directory.path());
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o7777, 0o600);
        assert_eq!(code(&AuditKey::read(directory.path()).unwrap().unwrap()), code(&key));
        assert_ne!(code(&AuditKey::random()), code(&key));
    }

    #[test]
    fn loose_permissions_are_tightened_and_a_line_end_is_forgiven() {
        let directory = tempfile::tempdir().unwrap();
        let key = AuditKey::random();
        key.save(directory.path()).unwrap();
        let path = AuditKey::path(directory.path());
        let text = fs::read_to_string(&path).unwrap();
        fs::write(&path, format!("{text}\r\n")).unwrap();
        fs::set_permissions(&path, Permissions::from_mode(0o644)).unwrap();
        assert_eq!(code(&AuditKey::read_own(directory.path()).unwrap().unwrap()), code(&key));
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o7777, 0o600);
    }

    #[test]
    fn a_damaged_key_is_an_error_and_stays_as_it_is() {
        let directory = tempfile::tempdir().unwrap();
        AuditKey::random().save(directory.path()).unwrap();
        let path = AuditKey::path(directory.path());
        let whole = fs::read(&path).unwrap();
        let long = [whole.as_slice(), &[b'A'; 300]].concat();
        let damaged: [&[u8]; 5] = [b"", b"\n", &whole[..30], &long, b"\xff\xfe"];
        for content in damaged {
            fs::write(&path, content).unwrap();
            let error = AuditKey::read(directory.path()).unwrap_err();
            assert!(matches!(error, StoreError::AuditKeyDamaged { .. }), "{error}");
            assert_eq!(fs::read(&path).unwrap(), content);
        }
    }

    #[test]
    fn the_key_never_shows_itself() {
        assert_eq!(format!("{:?}", AuditKey::random()), "AuditKey(***)");
    }
}
