//! Whom a command is for: a data directory, and where to look for the credential.
//!
//! Nothing is read but the environment: `credential` opens what is named here when a command needs it.
//! The invariant: the root key is used where nothing else was given or `--root` was, never because
//! something else did not work.

use std::env;
use std::ffi::OsString;
use std::path::PathBuf;

use super::error::CliError;
use super::login_file::LoginFile;
use super::secret::Token;

/// The variable that holds a key or a token.
pub(super) const KEY_VARIABLE: &str = "BKG_API_KEY";

/// A daemon, and how to be somebody there.
#[derive(Debug, Clone)]
pub(super) struct Target {
    /// Its data directory.
    pub(super) data_dir: PathBuf,
    /// Where the credential comes from.
    pub(super) choice: Choice,
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

impl Target {
    /// What the environment of this process says about this data directory.
    ///
    /// # Errors
    /// The variable holds what is no key.
    pub(super) fn of_process(data_dir: PathBuf) -> Result<Self, CliError> {
        Self::of_environment(data_dir, |variable| env::var_os(variable))
    }

    /// Only the root key.
    pub(super) fn with_root_key(data_dir: PathBuf) -> Self {
        Self { data_dir, choice: Choice::RootKey }
    }

    /// The same daemon, but only with the root key.
    pub(super) fn as_root(&self) -> Self {
        Self::with_root_key(self.data_dir.clone())
    }

    fn of_environment(
        data_dir: PathBuf,
        environment: impl Fn(&str) -> Option<OsString>,
    ) -> Result<Self, CliError> {
        let key = environment(KEY_VARIABLE).filter(|value| !value.is_empty()).map(|value| {
            // A shell's `$(cat file)` on a file from elsewhere leaves white space at its end.
            let text = value.into_string().unwrap_or_default().trim().to_owned();
            Token::try_from(text).map_err(|source| CliError::KeyVariable { source })
        });
        let logins = LoginFile::of_environment(environment);
        Ok(Self { data_dir, choice: Choice::FirstOf { key: key.transpose()?, logins } })
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
        Target::of_environment("/d".into(), environment).map(|target| target.choice)
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
}
