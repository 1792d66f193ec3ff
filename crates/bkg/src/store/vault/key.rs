//! The key that secrets are sealed with: 32 random bytes in `DATA/secrets.key`.
//!
//! Made at the first start; never replaced unless its owner writes `new` into the file, because what was
//! sealed with it opens with nothing else. The invariant: its bytes leave this type only into a cipher,
//! and memory that held them is overwritten.

use std::fmt;
use std::fs::{File, Permissions};
use std::io::{self, Read};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use zeroize::Zeroizing;

use super::super::{StoreError, atomic};

/// The key of one data directory's secrets.
pub(super) struct SecretsKey(Zeroizing<[u8; KEY_BYTES]>);

/// What is in the key's file.
#[derive(Debug)]
pub(super) enum KeyFile {
    /// There is no file.
    Absent,
    /// The word `new`: the owner gives up what was sealed before.
    GivenUp,
    /// A key.
    Key(SecretsKey),
}

impl SecretsKey {
    /// A new key, in memory only.
    pub(super) fn random() -> Self {
        Self(Zeroizing::new(rand::random()))
    }

    /// Where the key of a data directory is.
    pub(super) fn path(data_dir: &Path) -> PathBuf {
        data_dir.join("secrets.key")
    }

    pub(super) fn bytes(&self) -> &[u8; KEY_BYTES] {
        &self.0
    }

    /// Puts the key into its file, so that it is there after any crash.
    ///
    /// # Errors
    /// The disk's.
    pub(super) fn save(&self, data_dir: &Path) -> Result<(), StoreError> {
        let path = Self::path(data_dir);
        let text = Zeroizing::new(URL_SAFE_NO_PAD.encode(self.0.as_slice()));
        atomic::write_atomic(&path, text.as_bytes(), MODE).map_err(StoreError::disk("write", &path))
    }
}

impl KeyFile {
    /// Reads the file of the data directory that this host owns. Whoever else could read it so far no
    /// longer can afterwards.
    ///
    /// # Errors
    /// The disk's, or a damaged key.
    pub(super) fn read_own(data_dir: &Path) -> Result<Self, StoreError> {
        let path = SecretsKey::path(data_dir);
        let file = match File::open(&path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Self::Absent),
            Err(error) => return Err(StoreError::disk("read", &path)(error)),
        };
        let found = Self::from_file(&file, &path)?;
        let mode =
            file.metadata().map_err(StoreError::disk("look at", &path))?.permissions().mode() & 0o7777;
        if mode != MODE {
            file.set_permissions(Permissions::from_mode(MODE)).map_err(StoreError::disk("close", &path))?;
            if let Self::Key(_) = found {
                tracing::warn!(
                    path = %path.display(),
                    was = format_args!("{mode:04o}"),
                    "the key of the secrets had other permissions than 0600: whoever read it can open them"
                );
            }
        }
        Ok(found)
    }

    fn from_file(file: &File, path: &Path) -> Result<Self, StoreError> {
        let mut text = Zeroizing::new(Vec::with_capacity(LONGEST_FILE as usize));
        file.take(LONGEST_FILE).read_to_end(&mut text).map_err(StoreError::disk("read", path))?;
        // An editor may have added a line end.
        let text = text.trim_ascii_end();
        if text == GIVEN_UP {
            return Ok(Self::GivenUp);
        }
        let bytes = URL_SAFE_NO_PAD.decode(text).map(Zeroizing::new).ok();
        let bytes = bytes.and_then(|bytes| <[u8; KEY_BYTES]>::try_from(bytes.as_slice()).ok());
        match bytes {
            Some(bytes) => Ok(Self::Key(SecretsKey(Zeroizing::new(bytes)))),
            None => Err(StoreError::SecretsKeyDamaged { path: path.to_owned() }),
        }
    }
}

impl fmt::Debug for SecretsKey {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("SecretsKey(***)")
    }
}

const MODE: u32 = 0o600;
const KEY_BYTES: usize = 32;
/// What asks for a new key.
const GIVEN_UP: &[u8] = b"new";
/// More than a key and its line end, so that a longer file is seen to be no key.
const LONGEST_FILE: u64 = 256;

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn saved(directory: &tempfile::TempDir) -> (SecretsKey, PathBuf) {
        let key = SecretsKey::random();
        key.save(directory.path()).unwrap();
        (key, SecretsKey::path(directory.path()))
    }

    #[test]
    fn a_saved_key_is_read_again_by_its_owner_alone() {
        let directory = tempfile::tempdir().unwrap();
        assert!(matches!(KeyFile::read_own(directory.path()).unwrap(), KeyFile::Absent));
        let (key, path) = saved(&directory);
        let mode = || fs::metadata(&path).unwrap().permissions().mode() & 0o7777;
        assert_eq!(mode(), 0o600);
        let text = fs::read_to_string(&path).unwrap();
        fs::write(&path, format!("{text}\r\n")).unwrap();
        fs::set_permissions(&path, Permissions::from_mode(0o644)).unwrap();
        let KeyFile::Key(read) = KeyFile::read_own(directory.path()).unwrap() else {
            panic!("it is a key")
        };
        assert_eq!(read.bytes(), key.bytes());
        assert_eq!(mode(), 0o600);
        assert_ne!(SecretsKey::random().bytes(), key.bytes());
    }

    #[test]
    fn a_damaged_key_is_an_error_and_stays_as_it_is() {
        let directory = tempfile::tempdir().unwrap();
        let (_, path) = saved(&directory);
        let whole = fs::read(&path).unwrap();
        let mut damaged: Vec<Vec<u8>> = (0..whole.len()).map(|length| whole[..length].to_vec()).collect();
        damaged.push([whole.as_slice(), &[b'A'; 300]].concat());
        damaged.extend([&b"\n"[..], b"\xff\xfe", b"NEW", b"new key"].map(<[u8]>::to_vec));
        for content in damaged {
            fs::write(&path, &content).unwrap();
            let error = KeyFile::read_own(directory.path()).unwrap_err();
            assert!(matches!(error, StoreError::SecretsKeyDamaged { .. }), "{error}");
            assert!(error.is_about_damage() && error.to_string().contains("write `new`"), "{error}");
            assert_eq!(fs::read(&path).unwrap(), content);
        }
    }

    #[test]
    fn the_word_new_gives_a_key_up() {
        let directory = tempfile::tempdir().unwrap();
        for text in ["new", "new\n", "new\r\n"] {
            fs::write(SecretsKey::path(directory.path()), text).unwrap();
            assert!(matches!(KeyFile::read_own(directory.path()).unwrap(), KeyFile::GivenUp), "{text}");
        }
    }

    #[test]
    fn the_key_never_shows_itself() {
        assert_eq!(format!("{:?}", SecretsKey::random()), "SecretsKey(***)");
    }
}
