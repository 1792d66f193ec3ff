//! Names that people give: of users, roles and keys.
//!
//! None of these types can hold an invalid value. The invariant: a user name is one that no other
//! spelling means as well, and never one of the host's own.

use std::str::FromStr;

/// The longest name of a user or role, in bytes.
const LONGEST_NAME: usize = 64;
/// The longest label, in characters.
const LONGEST_LABEL: usize = 128;

/// Names that the host gives to itself, to whoever holds its root key, and to who has not logged in.
const HOSTS_OWN: [&str; 3] = ["root", "host", "nobody"];

/// The name of a user, in lower case.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct UserName(String);

/// The name of a role.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct RoleName(String);

/// What people call something: any text in one line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Label(String);

/// Why a text is no name.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NameError {
    #[error("a user name has 1 to 64 of a-z, 0-9, `.`, `_`, `@`, `-`, and starts with a letter or digit")]
    User,
    #[error("`root`, `host` and `nobody` are the host's own names: choose another")]
    Reserved,
    #[error("a role name has 1 to 64 of a-z, 0-9, `.`, `_`, `-`, and starts with a letter or digit")]
    Role,
    #[error("at most 128 characters in one line are allowed")]
    Label,
}

impl UserName {
    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }
}

impl RoleName {
    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }
}

impl Label {
    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }
}

fn is_name(text: &str, further: &[u8]) -> bool {
    let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    text.len() <= LONGEST_NAME
        && text.bytes().next().is_some_and(plain)
        && text.bytes().all(|byte| plain(byte) || further.contains(&byte))
}

impl FromStr for UserName {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        let name = text.to_ascii_lowercase();
        match name.as_str() {
            own if HOSTS_OWN.contains(&own) => Err(NameError::Reserved),
            _ if is_name(&name, b"._@-") => Ok(Self(name)),
            _ => Err(NameError::User),
        }
    }
}

impl FromStr for RoleName {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        is_name(text, b"._-").then(|| Self(text.to_owned())).ok_or(NameError::Role)
    }
}

impl FromStr for Label {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        let is_label = text.chars().count() <= LONGEST_LABEL && !text.chars().any(char::is_control);
        is_label.then(|| Self(text.to_owned())).ok_or(NameError::Label)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn user_names_are_kept_in_lower_case_and_root_is_nobodys() {
        let name = |text: &str| text.parse::<UserName>().map(|name| name.0);
        assert_eq!(name("Ada.Lovelace@Example.org").unwrap(), "ada.lovelace@example.org");
        assert_eq!(name("0").unwrap(), "0");
        assert_eq!(name(&"a".repeat(64)).unwrap().len(), 64);
        let long = "a".repeat(65);
        for wrong in [
            "", ".a", "@a", "-a", "a b", "a'b", "a\"b", "a\0", "é", "a/b", "a:b", &long, "ROOT", "root",
            "Host", "nobody",
        ] {
            assert!(name(wrong).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn labels_are_one_line_of_any_script() {
        for right in ["", "build server", "'; DROP TABLE keys; --", &"é".repeat(128)] {
            assert_eq!(right.parse::<Label>().unwrap().as_str(), right);
        }
        for wrong in ["a\nb", "a\0b", "\u{1b}[31m", &"é".repeat(129)] {
            assert!(wrong.parse::<Label>().is_err(), "{wrong:?}");
        }
    }
}
