//! `DATA/initial-password`: the generated password of the first administrator, until it is changed.
//!
//! Written before the administrator is made, so that a host that dies in between finds it again. The
//! invariant: the file is whole, and nobody but the host's user can read it. `auth` writes it,
//! `accounts` removes it. All calls block.

use std::fs::File;
use std::io::{self, Read};
use std::path::PathBuf;

use bkg_protocol::message::Secret;

use super::{DataDir, StoreError, atomic};

/// More than any password that is taken, so that another file is seen to be none.
const LONGEST_FILE: u64 = 1_024;

impl DataDir {
    /// Where the generated password is until it is changed.
    pub fn initial_password_path(&self) -> PathBuf {
        self.path().join("initial-password")
    }

    /// The generated password, if there is one.
    ///
    /// # Errors
    /// The disk's, or [`StoreError::Malformed`] for a file that holds no password.
    pub fn read_initial_password(&self) -> Result<Option<Secret>, StoreError> {
        let path = self.initial_password_path();
        let mut text = Vec::new();
        match File::open(&path).and_then(|file| file.take(LONGEST_FILE).read_to_end(&mut text)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(StoreError::disk("read", &path)(error)),
            Ok(_) => {}
        }
        let reason = "it holds no password; delete it to get a new one".to_owned();
        match String::from_utf8(text).as_deref().map(str::trim_end) {
            Ok(password) if !password.is_empty() && !password.contains('\n') => {
                Ok(Some(Secret::new(password)))
            }
            _ => Err(StoreError::Malformed { path, reason }),
        }
    }

    /// Keeps a generated password; it is on the disk when this returns.
    ///
    /// # Errors
    /// The disk's.
    pub fn write_initial_password(&self, password: &str) -> Result<(), StoreError> {
        let path = self.initial_password_path();
        atomic::write_atomic(&path, format!("{password}\n").as_bytes(), 0o600)
            .map_err(StoreError::disk("write", &path))
    }

    /// Forgets the generated password, for good. One that is not there is no error.
    ///
    /// # Errors
    /// The disk's.
    pub fn remove_initial_password(&self) -> Result<(), StoreError> {
        let path = self.initial_password_path();
        atomic::remove_durably(&path).map_err(StoreError::disk("remove", &path))
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn a_password_is_kept_for_its_owner_until_it_is_removed() {
        let directory = tempfile::tempdir().unwrap();
        let data = DataDir::open(directory.path()).unwrap();
        assert!(data.read_initial_password().unwrap().is_none());
        data.write_initial_password("first").unwrap();
        data.write_initial_password("pass word").unwrap();
        assert_eq!(data.read_initial_password().unwrap().unwrap().reveal(), "pass word");
        let path = data.initial_password_path();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o7777, 0o600);
        data.remove_initial_password().unwrap();
        assert!(!path.exists());
        data.remove_initial_password().unwrap();
    }

    #[test]
    fn what_is_no_password_is_refused_and_not_replaced() {
        let directory = tempfile::tempdir().unwrap();
        let data = DataDir::open(directory.path()).unwrap();
        let contents: [&[u8]; 4] = [b"", b"\n", b"two\nlines\n", b"\xff\n"];
        for content in contents {
            fs::write(data.initial_password_path(), content).unwrap();
            let error = data.read_initial_password().unwrap_err();
            assert!(matches!(error, StoreError::Malformed { .. }), "{error}");
            assert_eq!(fs::read(data.initial_password_path()).unwrap(), content);
        }
    }
}
