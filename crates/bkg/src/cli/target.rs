//! Whom a command is for: the daemon of a data directory or at an address, and where to look for the
//! credential.
//!
//! Nothing is read but the environment: `credential` opens what is named here when a command needs it.
//! The invariant: the root key is used where nothing else was given or `--root` was, never because
//! something else did not work.

use std::env;
use std::ffi::OsString;
use std::fmt;
use std::path::{Path, PathBuf};

use super::address::{Address, Remote};
use super::error::CliError;
use super::login_file::LoginFile;
use super::output::harmless;
use super::secret::Token;

/// The variable that holds a key or a token.
pub(super) const KEY_VARIABLE: &str = "BKG_API_KEY";
/// The variable that holds the address of a daemon elsewhere.
const URL_VARIABLE: &str = "BKG_URL";
/// The variable that names the file of certificates which vouch for it.
const CA_VARIABLE: &str = "BKG_CA";

/// A daemon, and how to be somebody there.
#[derive(Debug, Clone)]
pub(super) struct Target {
    /// Where it is found.
    pub(super) place: Place,
    /// Where the credential comes from.
    pub(super) choice: Choice,
}

/// Where a daemon is found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Place {
    /// By its data directory, on this machine.
    Directory(PathBuf),
    /// By its address.
    Elsewhere(Remote),
}

/// What the command line says about the place.
#[derive(Debug, Clone, Default)]
pub(super) struct PlaceOptions {
    /// `--data-dir`.
    pub(super) data_dir: Option<PathBuf>,
    /// `--url`.
    pub(super) address: Option<Address>,
    /// `--ca`.
    pub(super) authorities: Option<PathBuf>,
}

/// Where to look for a credential.
#[derive(Debug, Clone)]
pub(super) enum Choice {
    /// In the data directory.
    RootKey,
    /// Here, then there, then in the data directory.
    FirstOf {
        /// The environment's.
        key: Option<Token>,
        /// Where logins are saved, if this user has such a place.
        logins: Option<LoginFile>,
    },
}

impl Place {
    /// What options and environment say; `data_dir` finds the directory where no address is given. A
    /// flag comes before a variable, so `--data-dir` does before `BKG_URL`.
    ///
    /// # Errors
    /// The variable holds no address, or `data_dir` fails.
    pub(super) fn find(
        options: PlaceOptions,
        environment: impl Fn(&str) -> Option<OsString>,
        data_dir: impl FnOnce() -> Result<PathBuf, CliError>,
    ) -> Result<Self, CliError> {
        let variable = |name| environment(name).filter(|value| !value.is_empty());
        let address = match (options.address, options.data_dir, variable(URL_VARIABLE)) {
            (Some(address), _, _) => Some(address),
            (None, None, Some(text)) => {
                let text = text.into_string().unwrap_or_default();
                Some(text.trim().parse().map_err(|source| CliError::UrlVariable { source })?)
            }
            (None, _, _) => None,
        };
        let authorities = options.authorities.or_else(|| variable(CA_VARIABLE).map(PathBuf::from));
        match address {
            Some(address) => Ok(Self::Elsewhere(Remote { address, authorities })),
            None => data_dir().map(Self::Directory),
        }
    }

    /// The data directory.
    ///
    /// # Errors
    /// The daemon is elsewhere; `what` is what only its data directory has.
    pub(super) fn directory(&self, what: &'static str) -> Result<&Path, CliError> {
        match self {
            Self::Directory(data_dir) => Ok(data_dir),
            Self::Elsewhere(remote) => Err(CliError::OnlyThere { what, address: remote.address.clone() }),
        }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Directory(data_dir) => out.write_str(&harmless(&data_dir.display().to_string())),
            Self::Elsewhere(remote) => remote.address.fmt(out),
        }
    }
}

impl Target {
    /// What the environment of this process says about this daemon.
    ///
    /// # Errors
    /// The variable holds what is no key.
    pub(super) fn of_process(place: Place) -> Result<Self, CliError> {
        Self::of_environment(place, |variable| env::var_os(variable))
    }

    /// Only the root key.
    pub(super) fn with_root_key(data_dir: PathBuf) -> Self {
        Self { place: Place::Directory(data_dir), choice: Choice::RootKey }
    }

    /// The same daemon, but only with the root key.
    ///
    /// # Errors
    /// The daemon is elsewhere: its root key is not for other machines.
    pub(super) fn as_root(&self) -> Result<Self, CliError> {
        self.place.directory("the root key").map(|data_dir| Self::with_root_key(data_dir.to_owned()))
    }

    fn of_environment(
        place: Place,
        environment: impl Fn(&str) -> Option<OsString>,
    ) -> Result<Self, CliError> {
        let key = environment(KEY_VARIABLE).filter(|value| !value.is_empty()).map(|value| {
            // A shell's `$(cat file)` on a file from elsewhere leaves white space at its end.
            let text = value.into_string().unwrap_or_default().trim().to_owned();
            Token::try_from(text).map_err(|source| CliError::KeyVariable { source })
        });
        let logins = LoginFile::of_environment(environment);
        Ok(Self { place, choice: Choice::FirstOf { key: key.transpose()?, logins } })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn choice(key: &str) -> Result<Choice, CliError> {
        let environment = |variable: &str| match variable {
            KEY_VARIABLE => Some(key.into()),
            "HOME" => Some("/home/ada".into()),
            _ => None,
        };
        Target::of_environment(Place::Directory("/d".into()), environment).map(|target| target.choice)
    }

    #[test]
    fn an_empty_variable_counts_as_not_set() {
        let Choice::FirstOf { key: None, logins: Some(_) } = choice("").unwrap() else {
            panic!("there is no key, but a place for logins")
        };
    }

    #[test]
    fn a_line_end_around_the_key_is_forgiven() {
        let Choice::FirstOf { key: Some(key), .. } = choice("bkg_sk_1_x\r\n").unwrap() else {
            panic!("there is a key")
        };
        assert_eq!(key.expose(), "bkg_sk_1_x");
    }

    #[test]
    fn what_is_no_key_is_refused_without_showing_it() {
        let text = choice("two words").unwrap_err().to_string();
        assert!(text.starts_with("`BKG_API_KEY` holds no key: "), "{text}");
        assert!(!text.contains("two words"), "{text}");
    }

    fn place(options: PlaceOptions, url: &'static str) -> Result<Place, CliError> {
        let environment = |variable: &str| match variable {
            URL_VARIABLE => Some(url.into()),
            CA_VARIABLE => Some("/ca.pem".into()),
            _ => None,
        };
        Place::find(options, environment, || Ok("/d".into()))
    }

    #[test]
    fn a_flag_comes_before_a_variable_and_an_address_before_a_directory() {
        let at = |address: &str, authorities: &str| {
            let (address, authorities) = (address.parse().unwrap(), Some(authorities.into()));
            Place::Elsewhere(Remote { address, authorities })
        };
        let flag = |data_dir: Option<&str>, address: Option<&str>| PlaceOptions {
            data_dir: data_dir.map(PathBuf::from),
            address: address.map(|address| address.parse().unwrap()),
            authorities: address.map(|_| "/flag.pem".into()),
        };
        let variable = "https://a.example.org";
        for (options, url, expected) in [
            (flag(None, None), "", Place::Directory("/d".into())),
            (flag(None, None), variable, at(variable, "/ca.pem")),
            (flag(Some("/x"), None), variable, Place::Directory("/d".into())),
            (flag(None, Some("https://b")), variable, at("https://b", "/flag.pem")),
        ] {
            assert_eq!(place(options, url).unwrap(), expected);
        }
        let error = place(PlaceOptions::default(), "example.org").unwrap_err();
        assert!(error.to_string().starts_with("`BKG_URL` holds no address: use an address"), "{error}");
        assert_eq!(error.exit_code(), 2);
    }

    #[test]
    fn the_root_key_stays_on_its_machine() {
        let place = place(PlaceOptions::default(), "https://a.example.org").unwrap();
        let target = Target { place, choice: Choice::FirstOf { key: None, logins: None } };
        let error = target.as_root().unwrap_err();
        assert!(error.to_string().contains("the root key"), "{error}");
    }
}
