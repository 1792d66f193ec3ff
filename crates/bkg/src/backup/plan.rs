//! What a backup would take at this moment, file by file: the same for the preview and for the backup.
//!
//! Nothing is copied here. The invariant: everything in the directories that backups hold is planned,
//! or named with the reason why it is left out. Blocks.

use std::collections::HashSet;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use bkg_protocol::PluginName;

use super::manifest::{How, LeftOut, Part, Why};
use super::place::{HOST_KEYS, NoPlace, Place};

/// What SQLite and our own databases put beside a database: it is in the copy, or said of the original
/// alone.
const BESIDE: [&str; 5] = ["-wal", "-shm", "-journal", ".seal", ".reserve"];

/// What somebody wants in a backup.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Wanted {
    /// The keys too.
    pub keys: bool,
    /// The logs of plugins too.
    pub logs: bool,
}

/// Why it cannot be said what a backup would take.
#[derive(Debug, thiserror::Error)]
pub enum PlanError {
    /// A file whose name an archive cannot hold.
    #[error("`{}` cannot be backed up: {reason}; rename or remove it", path.display())]
    Name {
        /// The file.
        path: PathBuf,
        /// What is wrong with its name.
        reason: String,
    },
    /// The disk or the permissions.
    #[error("cannot read `{}`: {source}", path.display())]
    Disk {
        /// The file or directory.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

/// A file to take.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Planned {
    pub(super) place: Place,
    pub(super) kind: Kind,
    /// How many bytes it has now; a database with its log, which is more than its copy has.
    pub(super) bytes: u64,
}

/// How a file is copied.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Database,
    Plain,
    /// A log grows at its end: what is there at first is taken.
    Log,
}

/// What is taken of one plugin, or of the host.
#[derive(Debug, Clone, Default)]
pub(super) struct Contents {
    pub(super) directories: Vec<Place>,
    pub(super) files: Vec<Planned>,
    pub(super) left_out: Vec<LeftOut>,
}

impl Contents {
    pub(super) fn bytes(&self) -> u64 {
        self.files.iter().map(|file| file.bytes).sum()
    }

    /// How it is described before it is taken.
    pub(super) fn part(&self, plugin: &PluginName, how: How) -> Part {
        let plain = self.files.iter().filter(|file| file.kind == Kind::Plain).count();
        let note = match how {
            How::Plugin => Some("it writes the copies itself".to_owned()),
            How::Stopped => Some("it is stopped for the copy, and started again if it runs".to_owned()),
            How::Files if plain > 0 => Some(
                "it is stopped for the copy, and started again, if one of its files does not hold still"
                    .to_owned(),
            ),
            How::Files | How::Host => None,
        };
        let known = how != How::Plugin;
        Part {
            plugin: Some(plugin.clone()),
            how,
            files: known.then_some(self.files.len() as u64),
            bytes: known.then(|| self.bytes()),
            note,
        }
    }
}

/// The plugins that keep anything, whether they are known or not.
pub(super) fn plugins(data_dir: &Path) -> Result<Vec<PluginName>, PlanError> {
    let all = data_dir.join("plugins");
    let mut found: Vec<PluginName> = names(&all)?
        .into_iter()
        .filter_map(|(name, _)| name.parse().ok())
        .filter(|name: &PluginName| all.join(name.as_str()).join("data").is_dir())
        .collect();
    found.sort_unstable_by(|one, other| one.as_str().cmp(other.as_str()));
    Ok(found)
}

/// What is there of one plugin. Of one that writes its own copies, only its keys.
pub(super) fn of_plugin(
    data_dir: &Path,
    plugin: &PluginName,
    wanted: Wanted,
    how: How,
) -> Result<Contents, PlanError> {
    let mut contents = Contents::default();
    let place = |kind: &str| {
        Place::try_from(format!("plugins/{plugin}/{kind}")).expect("the directories of plugins are places")
    };
    let data = place("data");
    walk(data_dir, &data, wanted, Kind::Plain, &mut contents)?;
    if how == How::Plugin {
        contents.files.retain(|file| file.place.is_key());
        contents.left_out.retain(|left| left.why == Why::Key);
        contents.directories.clear();
    }
    contents.directories.push(data);
    let logs = place("logs");
    if wanted.logs && logs.below(data_dir).is_dir() {
        walk(data_dir, &logs, wanted, Kind::Log, &mut contents)?;
        contents.directories.push(logs);
    }
    contents.directories.sort_unstable();
    contents.files.sort_unstable_by(|one, other| one.place.cmp(&other.place));
    Ok(contents)
}

/// The host's files but its database.
pub(super) fn of_host(data_dir: &Path, wanted: Wanted) -> Result<Contents, PlanError> {
    let mut contents = Contents::default();
    for name in HOST_KEYS {
        let place = Place::try_from(name).expect("the host's files are places");
        match fs::symlink_metadata(place.below(data_dir)) {
            Ok(found) if wanted.keys => {
                contents.files.push(Planned { place, kind: Kind::Plain, bytes: found.len() });
            }
            Ok(_) => contents.left_out.push(left_out(&place, Why::Key)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(source) => return Err(PlanError::Disk { path: place.below(data_dir), source }),
        }
    }
    Ok(contents)
}

fn walk(
    data_dir: &Path,
    directory: &Place,
    wanted: Wanted,
    kind: Kind,
    contents: &mut Contents,
) -> Result<(), PlanError> {
    let path = directory.below(data_dir);
    let mut entries = names(&path)?;
    let mut databases = HashSet::new();
    let mut gone = HashSet::new();
    for (name, is) in &entries {
        if !is.is_file() || kind != Kind::Plain {
            continue;
        }
        let file = path.join(name);
        match bkg_sqlite::is_database(&file) {
            Ok(true) => {
                databases.insert(name.clone());
            }
            Ok(false) => {}
            // Plugins write beside a file and rename what they wrote.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                gone.insert(name.clone());
            }
            Err(source) => return Err(PlanError::Disk { path: file, source }),
        }
    }
    entries.retain(|(name, _)| !gone.contains(name));
    for (name, is) in entries {
        let is_beside = BESIDE
            .iter()
            .any(|suffix| name.strip_suffix(suffix).is_some_and(|database| databases.contains(database)));
        if is.is_file() && is_beside {
            continue;
        }
        let place = directory.join(&name).map_err(|error: NoPlace| PlanError::Name {
            path: path.join(&name),
            reason: error.to_string(),
        })?;
        if is.is_dir() {
            walk(data_dir, &place, wanted, kind, contents)?;
            contents.directories.push(place);
        } else if is.is_symlink() {
            contents.left_out.push(left_out(&place, Why::Link));
        } else if !is.is_file() {
            contents.left_out.push(left_out(&place, Why::Special));
        } else if place.is_key() && !wanted.keys {
            contents.left_out.push(left_out(&place, Why::Key));
        } else {
            let kind = if databases.contains(&name) { Kind::Database } else { kind };
            let length = |path: PathBuf| fs::metadata(path).map_or(0, |found| found.len());
            let log = if kind == Kind::Database { length(path.join(format!("{name}-wal"))) } else { 0 };
            contents.files.push(Planned { bytes: length(path.join(&name)) + log, place, kind });
        }
    }
    Ok(())
}

fn left_out(place: &Place, why: Why) -> LeftOut {
    LeftOut { path: place.to_string(), why, print: None }
}

/// What stands in a directory, by name. One that is not there is empty.
fn names(directory: &Path) -> Result<Vec<(String, fs::FileType)>, PlanError> {
    let disk = |source| PlanError::Disk { path: directory.to_owned(), source };
    let entries = match fs::read_dir(directory) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(disk(error)),
    };
    let mut names = Vec::new();
    for entry in entries {
        let entry = entry.map_err(disk)?;
        let name = entry.file_name().into_string().map_err(|_| PlanError::Name {
            path: entry.path(),
            reason: "its name is not UTF-8".to_owned(),
        })?;
        names.push((name, entry.file_type().map_err(disk)?));
    }
    names.sort_unstable_by(|one, other| one.0.cmp(&other.0));
    Ok(names)
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, Ordering};

    use super::*;

    #[test]
    fn files_that_come_and_go_are_in_nobodys_way() {
        let data_dir = tempfile::tempdir().unwrap();
        let data = data_dir.path().join("plugins/ping/data");
        fs::create_dir_all(&data).unwrap();
        let plugin: PluginName = "ping".parse().unwrap();
        let ends = AtomicBool::new(false);
        let planned = std::thread::scope(|scope| {
            scope.spawn(|| {
                while !ends.load(Ordering::Relaxed) {
                    fs::write(data.join("state.new"), "state").unwrap();
                    fs::rename(data.join("state.new"), data.join("state")).unwrap();
                }
            });
            let look = |_| of_plugin(data_dir.path(), &plugin, Wanted::default(), How::Files).map(drop);
            let planned = (0..2_000).try_for_each(look);
            ends.store(true, Ordering::Relaxed);
            planned
        });
        planned.unwrap();
    }

    #[test]
    fn what_a_database_has_beside_it_is_made_again_and_not_taken() {
        let data_dir = tempfile::tempdir().unwrap();
        let data = data_dir.path().join("plugins/ping/data");
        fs::create_dir_all(&data).unwrap();
        let database = bkg_sqlite::rusqlite::Connection::open(data.join("a.db")).unwrap();
        database.execute_batch("CREATE TABLE number (value INTEGER)").unwrap();
        for name in ["a.db.seal", "a.db.reserve", "other.reserve"] {
            fs::write(data.join(name), "").unwrap();
        }
        let plugin: PluginName = "ping".parse().unwrap();
        let planned = of_plugin(data_dir.path(), &plugin, Wanted::default(), How::Files).unwrap();
        let files: Vec<_> = planned.files.iter().map(|file| file.place.as_str()).collect();
        assert_eq!(files, ["plugins/ping/data/a.db", "plugins/ping/data/other.reserve"]);
    }
}
