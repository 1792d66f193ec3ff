//! Where a file of a backup belongs: its path below the data directory.
//!
//! Not the file. The invariant: a [`Place`] is a plain name inside the few places of a data directory
//! that backups hold, so that joining it to a directory never leads out of it and never onto a file
//! that the host keeps for itself, such as its lock. Manifests are read and written with it.

use std::fmt;
use std::path::{Path, PathBuf};

use bkg_protocol::PluginName;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The longest path, in bytes.
const LONGEST: usize = 1_024;
/// The longest name of one file or directory, in bytes: what file systems take.
const LONGEST_NAME: usize = 255;
/// The host's database.
pub(super) const DATABASE: &str = "bkg.db";
/// The files of the host that open something.
pub(super) const HOST_KEYS: [&str; 4] = ["audit.key", "secrets.key", "root.key", "initial-password"];
/// How files end that hold keys and certificates with keys.
const KEY_ENDINGS: [&str; 6] = [".key", ".pem", ".p12", ".pfx", ".jks", ".keystore"];

/// A path below the data directory, with `/` between its names.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(try_from = "String", into = "String")]
pub struct Place(String);

/// Why a text is no place in a backup.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{}` {reason}", place.escape_debug())]
pub struct NoPlace {
    /// The text, cut off where it is long.
    place: String,
    /// What is wrong with it.
    reason: &'static str,
}

impl Place {
    /// The file or directory of a data directory.
    pub fn below(&self, data_dir: &Path) -> PathBuf {
        data_dir.join(&self.0)
    }

    /// The path as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whose it is; `None` for the host.
    pub fn plugin(&self) -> Option<PluginName> {
        let rest = self.0.strip_prefix("plugins/")?;
        rest.split('/').next()?.parse().ok()
    }

    /// Whether it holds a key, as far as its name says.
    pub fn is_key(&self) -> bool {
        if HOST_KEYS.contains(&self.0.as_str()) {
            return true;
        }
        let name = self.name().to_ascii_lowercase();
        KEY_ENDINGS.iter().any(|ending| name.ends_with(ending))
    }

    /// The directories that lead to it, the outermost first.
    pub(super) fn ancestors(&self) -> impl Iterator<Item = &str> {
        self.0.match_indices('/').map(|(at, _)| &self.0[..at])
    }

    /// What stands in this directory under `name`.
    pub(super) fn join(&self, name: &str) -> Result<Self, NoPlace> {
        format!("{}/{name}", self.0).try_into()
    }

    fn name(&self) -> &str {
        self.0.rsplit('/').next().unwrap_or_default()
    }
}

impl TryFrom<String> for Place {
    type Error = NoPlace;

    fn try_from(text: String) -> Result<Self, NoPlace> {
        match refusal(&text) {
            None => Ok(Self(text)),
            Some(reason) => Err(NoPlace { place: text.chars().take(80).collect(), reason }),
        }
    }
}

impl TryFrom<&str> for Place {
    type Error = NoPlace;

    fn try_from(text: &str) -> Result<Self, NoPlace> {
        text.to_owned().try_into()
    }
}

impl From<Place> for String {
    fn from(place: Place) -> Self {
        place.0
    }
}

impl fmt::Display for Place {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(out)
    }
}

fn refusal(text: &str) -> Option<&'static str> {
    if text.is_empty() || text.len() > LONGEST {
        return Some("is no path of 1 to 1024 bytes");
    }
    for name in text.split('/') {
        match name {
            "" => return Some("is absolute, or has an empty name in it"),
            "." | ".." => return Some("leads elsewhere"),
            _ if name.len() > LONGEST_NAME => return Some("has a name of more than 255 bytes"),
            _ if name.contains(|character: char| character.is_control() || character == '\\') => {
                return Some("has a control character or a backslash in it");
            }
            _ => {}
        }
    }
    if text == DATABASE || HOST_KEYS.contains(&text) {
        return None;
    }
    let mut names = text.split('/');
    let is_a_plugins = names.next() == Some("plugins")
        && names.next().is_some_and(|name| name.parse::<PluginName>().is_ok())
        && matches!(names.next(), Some("data" | "logs"));
    (!is_a_plugins).then_some("is no place that backups hold")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_plain_names_in_known_places_are_taken() {
        for good in [
            "bkg.db",
            "audit.key",
            "plugins/ping/data",
            "plugins/ping/data/a.db",
            "plugins/ping/data/deep/er/ä file.txt",
            "plugins/ping/logs/1.log",
            "plugins/ping/data/...",
        ] {
            assert_eq!(Place::try_from(good).map(|place| place.to_string()).as_deref(), Ok(good));
        }
        let long = format!("plugins/ping/data/{}", "x".repeat(256));
        let deep = format!("plugins/ping/data{}", "/x".repeat(600));
        for bad in [
            "",
            "/",
            "/etc/passwd",
            "..",
            "../bkg.db",
            "./bkg.db",
            "bkg.db/",
            "bkg.db/..",
            "BKG.DB",
            "lock",
            "ports.json",
            "ledger/x",
            "plugins",
            "plugins/ping",
            "plugins/ping/run/x",
            "plugins/Ping/data/x",
            "plugins/../data/x",
            "plugins/ping/data/../../x",
            "plugins/ping/data//x",
            "plugins/ping/data/./x",
            "plugins\\ping\\data\\x",
            "plugins/ping/data/a\0b",
            "plugins/ping/data/a\nb",
            "plugins/ping/data/\u{7f}",
            "C:/x",
            &long,
            &deep,
        ] {
            assert!(Place::try_from(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn a_key_is_known_by_its_name() {
        for (path, is_key) in [
            ("root.key", true),
            ("initial-password", true),
            ("bkg.db", false),
            ("plugins/apikeys/data/hmac.key", true),
            ("plugins/apikeys/data/apikeys.db", false),
            ("plugins/x/data/tls/Server.PEM", true),
            ("plugins/x/data/keys/readme", false),
        ] {
            assert_eq!(Place::try_from(path).unwrap().is_key(), is_key, "{path}");
        }
    }

    #[test]
    fn a_place_says_whose_it_is_and_what_leads_to_it() {
        let place = Place::try_from("plugins/ping/data/a").unwrap();
        assert_eq!(place.plugin().unwrap().as_str(), "ping");
        assert_eq!(place.ancestors().collect::<Vec<_>>(), ["plugins", "plugins/ping", "plugins/ping/data"]);
        assert_eq!(Place::try_from("bkg.db").unwrap().plugin(), None);
        assert!(place.join("..").is_err());
    }
}
