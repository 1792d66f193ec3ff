//! What is checked: a plugin's folder with its entry, or an address where somebody starts one by hand.
//!
//! Everything that can be wrong with the words of the command line is found here, before anything is
//! started. Reads files and writes none.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};

use serde_json::{Map, Value, json};

use super::questions::{Questions, QuestionsError};
use super::settings::laid_over;
use crate::config::{EntryError, Layers, PluginEntry};

/// The file in a plugin's folder that says what it may be asked.
const QUESTIONS_FILE: &str = "check.json";
/// The name of a plugin that has neither an entry nor a folder with a name that could be one.
pub(super) const NAMELESS: &str = "plugin";

/// What is checked.
#[derive(Debug)]
pub struct Target {
    /// As it was named.
    named: String,
    pub(super) place: Place,
    pub(super) questions: Questions,
}

#[derive(Debug)]
pub(super) enum Place {
    /// A plugin that the kit starts.
    Folder(Box<Folder>),
    /// A plugin that somebody else starts.
    Address(SocketAddr, Map<String, Value>),
}

/// A plugin that the kit starts.
#[derive(Debug)]
pub(super) struct Folder {
    /// Its real path.
    pub(super) root: PathBuf,
    pub(super) entry: PluginEntry,
    /// Whether somebody wrote the entry, or the kit had to make one up.
    pub(super) is_granted: bool,
}

/// Why there is nothing to check.
#[derive(Debug, thiserror::Error)]
pub enum TargetError {
    /// No file and no folder.
    #[error("`{}` cannot be checked: {source}; name a `start.sh`, its folder, or `ws://127.0.0.1:PORT/`", path.display())]
    Missing {
        /// What was named.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// A folder without a program.
    #[error("`{}` has neither `plugin.json` nor `start.sh`: name the plugin's start script", .0.display())]
    NoPlugin(PathBuf),
    /// No address that can be listened at.
    #[error("`{address}` cannot be listened at: {reason}; use `ws://127.0.0.1:PORT/`")]
    Address {
        /// What was named.
        address: String,
        /// What is wrong.
        reason: &'static str,
    },
    /// The entry.
    #[error(transparent)]
    Entry(#[from] EntryError),
    /// The questions.
    #[error(transparent)]
    Questions(#[from] QuestionsError),
}

impl Target {
    /// Reads what is there. `settings` are laid over those of `check.json`, and these over those of the
    /// entry; `questions` is a file that says
    /// what the plugin may be asked, instead of `check.json` in its folder.
    ///
    /// # Errors
    /// What is wrong with what was named.
    pub fn read(
        named: &str,
        settings: Map<String, Value>,
        questions: Option<&Path>,
    ) -> Result<Self, TargetError> {
        if named.starts_with("ws://") {
            let questions = questions.map(Questions::read).transpose()?.unwrap_or_default();
            let place = Place::Address(address(named)?, laid_over(&questions.settings, &settings));
            return Ok(Self { named: named.to_owned(), place, questions });
        }
        let (root, program) = Folder::find(Path::new(named))?;
        let beside = root.join(QUESTIONS_FILE);
        let questions = match questions {
            Some(file) => Questions::read(file)?,
            None if beside.exists() => Questions::read(&beside)?,
            None => Questions::default(),
        };
        let folder = Folder::read(root, program, laid_over(&questions.settings, &settings))?;
        Ok(Self { named: named.to_owned(), place: Place::Folder(Box::new(folder)), questions })
    }

    /// Whether somebody else starts the plugin, and has to be told how.
    pub fn is_by_hand(&self) -> bool {
        matches!(self.place, Place::Address(..))
    }

    /// The entry that the plugin was given.
    pub(super) fn entry(&self) -> Option<&PluginEntry> {
        match &self.place {
            Place::Folder(folder) => Some(&folder.entry),
            Place::Address(..) => None,
        }
    }

    /// The entry, where somebody wrote one: what it does not list is not the plugin's.
    pub(super) fn grants(&self) -> Option<&PluginEntry> {
        match &self.place {
            Place::Folder(folder) if folder.is_granted => Some(&folder.entry),
            _ => None,
        }
    }

    /// The settings that the plugin is started with.
    pub(super) fn settings(&self) -> &Map<String, Value> {
        match &self.place {
            Place::Folder(folder) => &folder.entry.settings.0,
            Place::Address(_, settings) => settings,
        }
    }
}

impl fmt::Display for Target {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&self.named)
    }
}

impl Folder {
    /// The folder that is meant, and the program in it, if one was named.
    fn find(named: &Path) -> Result<(PathBuf, Option<String>), TargetError> {
        let missing = |source| TargetError::Missing { path: named.to_owned(), source };
        let real = named.canonicalize().map_err(missing)?;
        if real.is_dir() {
            return Ok((real, None));
        }
        // A link to a script elsewhere means the folder that the script stands in.
        let folder = real.parent().expect("a file has a folder").to_owned();
        Ok((folder, real.file_name().map(|name| name.to_string_lossy().into_owned())))
    }

    fn read(
        root: PathBuf,
        program: Option<String>,
        settings: Map<String, Value>,
    ) -> Result<Self, TargetError> {
        let is_granted = root.join("plugin.json").exists();
        let mut overlay = Map::new();
        if !settings.is_empty() {
            overlay.insert("settings".to_owned(), Value::Object(settings));
        }
        let layers = if is_granted {
            if let Some(program) = program {
                overlay.insert("entrypoint".to_owned(), json!(program));
            }
            Layers::read(&root, None)?
        } else {
            let program = program.unwrap_or_else(|| "start.sh".to_owned());
            if !root.join(&program).is_file() {
                return Err(TargetError::NoPlugin(root));
            }
            let made_up = Map::from_iter([
                ("name".to_owned(), json!(name_of(&root))),
                ("entrypoint".to_owned(), json!(program)),
            ]);
            Layers::read(&root, Some((&root.join("plugin.json"), &made_up)))?
        };
        let entry = PluginEntry::of(layers.with_saved(0, overlay), 0)?;
        Ok(Self { root, entry, is_granted })
    }
}

/// The name of a plugin that has no entry: that of its folder, if it can be one.
fn name_of(root: &Path) -> String {
    let name = root.file_name().unwrap_or_default().to_string_lossy().into_owned();
    if name.parse::<bkg_protocol::PluginName>().is_ok() { name } else { NAMELESS.to_owned() }
}

fn address(named: &str) -> Result<SocketAddr, TargetError> {
    let wrong = |reason| TargetError::Address { address: named.to_owned(), reason };
    let rest = named.strip_prefix("ws://").expect("the caller has looked");
    let authority = rest.strip_suffix('/').unwrap_or(rest);
    let authority = match authority.strip_prefix("localhost:") {
        Some(port) => format!("127.0.0.1:{port}"),
        None => authority.to_owned(),
    };
    let address: SocketAddr =
        authority.parse().map_err(|_| wrong("it is no address with a port, and without a path"))?;
    match address.ip() {
        IpAddr::V4(ip) if ip.is_loopback() => Ok(address),
        IpAddr::V6(ip) if ip.is_loopback() => Ok(address),
        _ => Err(wrong("the bus never leaves loopback")),
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn read(path: &Path, settings: Value) -> Result<Target, TargetError> {
        let Value::Object(settings) = settings else { panic!() };
        Target::read(path.to_str().unwrap(), settings, None)
    }

    #[test]
    fn a_script_without_an_entry_is_named_after_its_folder() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().join("scribe");
        fs::create_dir(&root).unwrap();
        fs::write(root.join("start.sh"), "").unwrap();
        for named in [root.clone(), root.join("start.sh")] {
            let target = read(&named, json!({ "tone": "plain" })).unwrap();
            assert_eq!(target.entry().unwrap().name.as_str(), "scribe");
            assert_eq!(target.settings()["tone"], "plain");
            assert!(target.grants().is_none(), "nobody granted anything");
        }
        let odd = folder.path().join("Odd Name");
        fs::create_dir(&odd).unwrap();
        fs::write(odd.join("run.sh"), "").unwrap();
        let target = read(&odd.join("run.sh"), json!({})).unwrap();
        assert_eq!(target.entry().unwrap().name.as_str(), NAMELESS);
        assert_eq!(target.entry().unwrap().entrypoint, Path::new("run.sh"));
    }

    #[test]
    fn settings_are_laid_over_those_of_the_entry() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("start.sh"), "").unwrap();
        let manifest = json!({ "name": "scribe", "settings": { "tone": "plain", "size": 1 } });
        fs::write(folder.path().join("plugin.json"), manifest.to_string()).unwrap();
        let target = read(folder.path(), json!({ "size": 2 })).unwrap();
        assert_eq!(Value::Object(target.settings().clone()), json!({ "tone": "plain", "size": 2 }));
        assert!(target.grants().is_some());
    }

    #[test]
    fn what_cannot_be_checked_says_why() {
        let folder = tempfile::tempdir().unwrap();
        assert!(matches!(read(folder.path(), json!({})), Err(TargetError::NoPlugin(_))));
        let missing = read(&folder.path().join("none"), json!({})).unwrap_err().to_string();
        assert!(missing.contains("name a `start.sh`, its folder, or"), "{missing}");
        for address in ["ws://127.0.0.1/", "ws://0.0.0.0:80/", "ws://127.0.0.1:80/bus", "ws://host:80/"] {
            let refused = Target::read(address, Map::new(), None);
            assert!(matches!(refused, Err(TargetError::Address { .. })), "{address}");
        }
        for address in ["ws://127.0.0.1:0", "ws://localhost:4000/", "ws://[::1]:4000/"] {
            assert!(Target::read(address, Map::new(), None).is_ok(), "{address}");
        }
    }
}
