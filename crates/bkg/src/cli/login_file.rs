//! The saved logins of this user: one file, one entry for each daemon.
//!
//! Not how a login is made or renewed: the callers, `login` and `credential`, ask the daemon for that.
//! The invariants: the file is whole, closed to others, and changed by one command at a time; a renewed
//! login is in it before anybody uses it, since its refresh token works only once.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs::{self, DirBuilder, File, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf, absolute};
use std::time::{Duration, Instant};

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

use super::client::PROMPT;
use super::error::CliError;
use super::secret::Token;
use super::target::Place;
use crate::store::write_atomic;

/// How long the end of a token lies ahead at least when it is used: enough for a request to arrive.
const MARGIN: SignedDuration = SignedDuration::from_secs(10);
/// How long another command may hold the file: it may be waiting for the daemon meanwhile.
const LONGEST_HOLD: Duration = PROMPT.saturating_mul(2);
/// How long to wait before the lock is tried again.
const PAUSE: Duration = Duration::from_millis(20);

/// A place for saved logins; the file need not be there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct LoginFile {
    path: PathBuf,
}

/// A login session that the daemon has opened.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Login {
    /// Whose.
    pub(super) user: String,
    /// What requests carry.
    pub(super) token: Token,
    /// Until when.
    pub(super) expires_at: Timestamp,
    /// What brings the next token, once.
    pub(super) refresh_token: Token,
    /// Until when.
    pub(super) refresh_expires_at: Timestamp,
}

/// Why saved logins cannot be used.
#[derive(Debug, thiserror::Error)]
pub(super) enum LoginFileError {
    /// Neither variable names a directory.
    #[error("there is no place for a saved login: set `HOME` or `XDG_CONFIG_HOME` to an absolute path")]
    NoPlace,
    /// It is not what a command wrote.
    #[error("`{}` is damaged ({reason}): delete it, and log in again with `bkg login`", path.display())]
    Damaged { path: PathBuf, reason: String },
    /// Another command does not let go of it.
    #[error(
        "another command has held `{}` for {} s: end it, and try again",
        path.display(),
        LONGEST_HOLD.as_secs()
    )]
    Busy { path: PathBuf },
    /// The path of the data directory is no text.
    #[error("a login cannot be saved for `{}`: its path is not UTF-8", path.display())]
    Path { path: PathBuf },
    /// The disk or the permissions.
    #[error("cannot {action} `{}`: {source}", path.display())]
    Disk { action: &'static str, path: PathBuf, source: io::Error },
    /// Neither of its tokens is good any more.
    #[error(
        "the saved login of `{user}` has expired: `bkg login` makes a new one, `bkg logout` removes it"
    )]
    Expired { user: String },
}

#[derive(Default, Serialize, Deserialize)]
struct Contents {
    logins: BTreeMap<String, Login>,
}

/// Held while the file is changed.
struct Lock {
    /// The kernel lets go of the lock when this is closed, also if the process is killed.
    _file: File,
}

impl LoginFile {
    /// The place that the XDG base directory specification gives; none without a home.
    pub(super) fn of_environment(environment: impl Fn(&str) -> Option<OsString>) -> Option<Self> {
        // A directory that is not absolute is to be ignored, says the specification.
        let directory =
            |variable| environment(variable).map(PathBuf::from).filter(|path| path.is_absolute());
        let home =
            directory("XDG_CONFIG_HOME").or_else(|| directory("HOME").map(|home| home.join(".config")));
        home.map(|home| Self { path: home.join("bkg/login.json") })
    }

    /// Where it is.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// The login of this daemon as it was saved.
    ///
    /// # Errors
    /// The file cannot be read.
    pub(super) fn saved(&self, place: &Place) -> Result<Option<Login>, LoginFileError> {
        Ok(self.read()?.logins.remove(&name_of(place)?))
    }

    /// The login of this daemon with a token that is good now. If it is not, `renew` asks for
    /// the next one; of several commands at once, one does, and the others use what it got.
    ///
    /// # Errors
    /// Those of the file, [`LoginFileError::Expired`], and those of `renew`.
    pub(super) fn current(
        &self,
        place: &Place,
        renew: impl FnOnce(&Login) -> Result<Login, CliError>,
    ) -> Result<Option<Login>, CliError> {
        match self.saved(place)? {
            Some(login) if !is_good(login.expires_at) => {}
            good_or_none => return Ok(good_or_none),
        }
        let _lock = self.lock()?;
        // Whoever held the lock may have done it, or may have logged out.
        let mut contents = self.read()?;
        let name = name_of(place)?;
        let login = match contents.logins.remove(&name) {
            Some(login) if !is_good(login.expires_at) => login,
            good_or_none => return Ok(good_or_none),
        };
        if !is_good(login.refresh_expires_at) {
            return Err(LoginFileError::Expired { user: login.user }.into());
        }
        let renewed = renew(&login)?;
        contents.logins.insert(name, renewed.clone());
        self.write(&contents)?;
        Ok(Some(renewed))
    }

    /// Keeps the login of this daemon, in place of the former one.
    ///
    /// # Errors
    /// Those of the file.
    pub(super) fn save(&self, place: &Place, login: Login) -> Result<(), LoginFileError> {
        let _lock = self.lock()?;
        let mut contents = self.read()?;
        contents.logins.insert(name_of(place)?, login);
        self.write(&contents)
    }

    /// Makes sure that a login can be kept, before the daemon is asked for one.
    ///
    /// # Errors
    /// Those of the file.
    pub(super) fn check(&self) -> Result<(), LoginFileError> {
        let _lock = self.lock()?;
        self.read().map(drop)
    }

    /// Removes the login of this daemon.
    ///
    /// # Errors
    /// Those of the file.
    pub(super) fn forget(&self, place: &Place) -> Result<(), LoginFileError> {
        let _lock = self.lock()?;
        let mut contents = self.read()?;
        match contents.logins.remove(&name_of(place)?) {
            Some(_) => self.write(&contents),
            None => Ok(()),
        }
    }

    fn read(&self) -> Result<Contents, LoginFileError> {
        let text = match fs::read(&self.path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Contents::default()),
            Err(source) => return Err(disk("read", &self.path)(source)),
        };
        serde_json::from_slice(&text).map_err(|error| {
            // The position alone: what stands there may be a token.
            let reason = format!("line {}, column {}", error.line(), error.column());
            LoginFileError::Damaged { path: self.path.clone(), reason }
        })
    }

    fn write(&self, contents: &Contents) -> Result<(), LoginFileError> {
        let mut text = serde_json::to_vec_pretty(contents).expect("logins have a JSON form");
        text.push(b'\n');
        write_atomic(&self.path, &text, 0o600).map_err(disk("write", &self.path))
    }

    /// The lock is a file of its own: the other one is replaced at each change.
    fn lock(&self) -> Result<Lock, LoginFileError> {
        let directory = self.path.parent().expect("the file is in a directory");
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(directory)
            .map_err(disk("make the directory", directory))?;
        let path = self.path.with_extension("lock");
        let mut options = OpenOptions::new();
        options.write(true).create(true).truncate(false).mode(0o600);
        let file = options.open(&path).map_err(disk("open", &path))?;
        let deadline = Instant::now() + LONGEST_HOLD;
        loop {
            match file.try_lock() {
                Ok(()) => return Ok(Lock { _file: file }),
                Err(TryLockError::Error(source)) => return Err(disk("lock", &path)(source)),
                Err(TryLockError::WouldBlock) if Instant::now() >= deadline => {
                    return Err(LoginFileError::Busy { path });
                }
                Err(TryLockError::WouldBlock) => std::thread::sleep(PAUSE),
            }
        }
    }
}

/// What a daemon is called in the file, whichever way its directory was named. A directory that is gone
/// still has a name, so that its login can be removed.
fn name_of(place: &Place) -> Result<String, LoginFileError> {
    let data_dir = match place {
        Place::Directory(data_dir) => data_dir,
        Place::Elsewhere(remote) => return Ok(remote.address.to_string()),
    };
    let path = data_dir.canonicalize().or_else(|_| absolute(data_dir)).map_err(disk("find", data_dir))?;
    path.into_os_string().into_string().map_err(|path| LoginFileError::Path { path: path.into() })
}

fn is_good(until: Timestamp) -> bool {
    Timestamp::now().duration_until(until) > MARGIN
}

fn disk(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> LoginFileError {
    let path = path.to_owned();
    move |source| LoginFileError::Disk { action, path, source }
}

#[cfg(test)]
pub(super) mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    /// A login of `ada` whose tokens end so many seconds from now.
    pub(in super::super) fn login(token: &str, expires_in: i64, refresh_expires_in: i64) -> Login {
        let ahead = |seconds| Timestamp::now() + SignedDuration::from_secs(seconds);
        Login {
            user: "ada".into(),
            token: Token::try_from(token.to_owned()).unwrap(),
            expires_at: ahead(expires_in),
            refresh_token: Token::try_from(format!("{token}-refresh")).unwrap(),
            refresh_expires_at: ahead(refresh_expires_in),
        }
    }

    /// The file of a user whose home is `directory`.
    pub(in super::super) fn login_file(directory: &Path) -> LoginFile {
        LoginFile { path: directory.join("bkg/login.json") }
    }

    fn here(path: impl AsRef<Path>) -> Place {
        Place::Directory(path.as_ref().to_owned())
    }

    fn never(_: &Login) -> Result<Login, CliError> {
        panic!("the token is good")
    }

    #[test]
    fn the_place_is_that_of_the_specification() {
        let place = |config: &'static str, home: &'static str| {
            let set =
                |value: &'static str| Some(value).filter(|value| !value.is_empty()).map(OsString::from);
            LoginFile::of_environment(|variable| match variable {
                "XDG_CONFIG_HOME" => set(config),
                "HOME" => set(home),
                _ => None,
            })
            .map(|file| file.path)
        };
        assert_eq!(place("/c", "/h"), Some("/c/bkg/login.json".into()));
        assert_eq!(place("", "/h"), Some("/h/.config/bkg/login.json".into()));
        assert_eq!(place("relative", "/h"), Some("/h/.config/bkg/login.json".into()));
        assert_eq!(place("", ""), None);
    }

    #[test]
    fn each_data_directory_has_a_login_of_its_own_whichever_way_it_is_named() {
        let home = tempfile::tempdir().unwrap();
        let (one, other) = (home.path().join("one"), home.path().join("other"));
        fs::create_dir(&one).unwrap();
        fs::create_dir(&other).unwrap();
        let file = login_file(home.path());
        assert_eq!(file.saved(&here(&one)).unwrap(), None);
        file.save(&here(&one), login("a", 60, 60)).unwrap();
        file.save(&here(&other), login("b", 60, 60)).unwrap();
        let token =
            |path: &Path| file.saved(&here(path)).unwrap().map(|login| login.token.expose().to_owned());
        assert_eq!(token(&other.join("../one")).as_deref(), Some("a"));
        file.forget(&here(&one)).unwrap();
        file.forget(&here(&one)).unwrap();
        assert_eq!((token(&one), token(&other).as_deref()), (None, Some("b")));
        fs::remove_dir(&other).unwrap();
        file.forget(&here(&other)).unwrap();
        assert_eq!(token(&other), None);
    }

    #[test]
    fn the_file_is_closed_to_others() {
        let home = tempfile::tempdir().unwrap();
        let file = login_file(home.path());
        file.save(&here(home.path()), login("a", 60, 60)).unwrap();
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o7777;
        assert_eq!(mode(&file.path), 0o600);
        assert_eq!(mode(file.path.parent().unwrap()), 0o700);
    }

    #[test]
    fn a_good_token_is_used_as_it_is() {
        let home = tempfile::tempdir().unwrap();
        let file = login_file(home.path());
        assert_eq!(file.current(&here(home.path()), never).unwrap(), None);
        let good = login("a", 60, 60);
        file.save(&here(home.path()), good.clone()).unwrap();
        assert_eq!(file.current(&here(home.path()), never).unwrap(), Some(good));
    }

    #[test]
    fn a_renewed_login_is_saved_before_it_is_used() {
        let home = tempfile::tempdir().unwrap();
        let file = login_file(home.path());
        file.save(&here(home.path()), login("old", 5, 60)).unwrap();
        let renewed = file
            .current(&here(home.path()), |old| {
                assert_eq!(old.refresh_token.expose(), "old-refresh");
                Ok(login("new", 60, 120))
            })
            .unwrap();
        assert_eq!(renewed.as_ref().unwrap().token.expose(), "new");
        assert_eq!(file.saved(&here(home.path())).unwrap(), renewed);
    }

    #[test]
    fn of_many_commands_at_once_one_renews() {
        let home = tempfile::tempdir().unwrap();
        let file = login_file(home.path());
        file.save(&here(home.path()), login("old", -1, 60)).unwrap();
        let count = std::sync::atomic::AtomicUsize::new(0);
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    let renew = |_: &Login| {
                        count.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
                        Ok(login("new", 60, 120))
                    };
                    let login = file.current(&here(home.path()), renew).unwrap().unwrap();
                    assert_eq!(login.token.expose(), "new");
                });
            }
        });
        assert_eq!(count.into_inner(), 1);
    }

    #[test]
    fn a_login_that_cannot_be_renewed_says_so_and_stays() {
        let home = tempfile::tempdir().unwrap();
        let file = login_file(home.path());
        let expired = login("a", -1, -1);
        file.save(&here(home.path()), expired.clone()).unwrap();
        let error = file.current(&here(home.path()), never).unwrap_err();
        assert_eq!(
            error.to_string(),
            "the saved login of `ada` has expired: `bkg login` makes a new one, `bkg logout` removes it"
        );
        assert_eq!(file.saved(&here(home.path())).unwrap(), Some(expired));
    }

    #[test]
    fn a_damaged_file_is_never_replaced_and_its_content_not_shown() {
        let home = tempfile::tempdir().unwrap();
        let file = login_file(home.path());
        file.check().unwrap();
        let content = r#"{"logins":{"/d":{"user":"ada","token":7,"x":"s3cret"}}}"#;
        fs::write(&file.path, content).unwrap();
        for error in [
            file.saved(&here(home.path())).unwrap_err(),
            file.save(&here(home.path()), login("a", 60, 60)).unwrap_err(),
            file.check().unwrap_err(),
        ] {
            let text = error.to_string();
            assert!(text.contains("is damaged (line 1, column "), "{text}");
            assert!(!text.contains("s3cret"), "{text}");
        }
        assert_eq!(fs::read_to_string(&file.path).unwrap(), content);
    }
}
