//! Which plugins there are: the folders that were named and those below the plugin directories, in
//! catalogue order.
//!
//! Not whether they run, and not what an operator saved about them. The invariant: a folder that is
//! wrong is listed with its error and changes nothing for the others, and nothing is ever written.
//! `app` calls it at start, `admin` when the operator asks for a new look.

use std::collections::{HashMap, HashSet};
use std::ffi::OsString;
use std::path::{Path, PathBuf};

use bkg_protocol::PluginName;
use serde_json::Value;

use super::entry::{EntryError, PluginEntry, read_json};

/// What was found, in catalogue order: what was named, then directory by directory, in each what its `plugins.json` lists,
/// then the other folders by name.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Catalogue {
    /// Every folder once, the broken and the shadowed ones too.
    pub plugins: Vec<Discovered>,
}

/// One folder that is, or claims to be, a plugin.
#[derive(Debug, Clone, PartialEq)]
pub struct Discovered {
    /// The folder as it was found, links and all; for a broken catalogue or directory, that one.
    pub folder: PathBuf,
    /// The real path, which confines the plugin's files; the same as `folder` if it has none.
    pub root: PathBuf,
    /// What led to it.
    pub source: Source,
    /// What it turned out to be.
    pub outcome: Outcome,
}

/// What led to a folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// Somebody named it.
    Named,
    /// An entry of this `plugins.json`.
    Listed(PathBuf),
    /// It stands in this directory.
    Directory(PathBuf),
}

/// What a folder turned out to be.
#[derive(Debug, Clone, PartialEq)]
pub enum Outcome {
    /// A plugin.
    Ready(Box<PluginEntry>),
    /// A plugin whose name an earlier folder has.
    Shadowed {
        /// The name that both claim.
        name: PluginName,
        /// The folder that has it.
        by: PathBuf,
    },
    /// No plugin, and why.
    Broken {
        /// What keeps it from being one.
        error: EntryError,
    },
}

impl Catalogue {
    /// The usable plugins.
    pub fn ready(&self) -> impl Iterator<Item = (&Discovered, &PluginEntry)> {
        self.plugins.iter().filter_map(|found| match &found.outcome {
            Outcome::Ready(entry) => Some((found, &**entry)),
            Outcome::Shadowed { .. } | Outcome::Broken { .. } => None,
        })
    }

    /// The usable plugin of this name.
    pub fn get(&self, name: &str) -> Option<(&Discovered, &PluginEntry)> {
        self.ready().find(|(_, entry)| entry.name.as_str() == name)
    }
}

/// Why a folder that somebody named one by one cannot be a plugin's.
#[derive(Debug, thiserror::Error)]
#[error("`{}` is no plugin's folder: {reason}; correct `--plugin`, `BKG_PLUGIN_FOLDERS` or `plugin_folders`", folder.display())]
pub struct NotAPlugin {
    /// The folder as it was named.
    pub folder: PathBuf,
    /// What is in its place.
    pub reason: String,
}

/// Looks whether folders that somebody named one by one are there and have a `plugin.json`. What is
/// wrong inside of one is no matter here: [`discover`] lists it. Reads files: not for an async task.
///
/// # Errors
/// The first that is not there.
pub fn check_named(folders: &[PathBuf]) -> Result<(), NotAPlugin> {
    let there = |folder: &PathBuf| match std::fs::read_dir(folder) {
        Err(error) => Err(error.to_string()),
        Ok(_) if folder.join("plugin.json").symlink_metadata().is_err() => {
            Err("it has no `plugin.json`".to_owned())
        }
        Ok(_) => Ok(()),
    };
    let wrong = folders.iter().find_map(|folder| Some((folder, there(folder).err()?)));
    wrong.map_or(Ok(()), |(folder, reason)| Err(NotAPlugin { folder: folder.clone(), reason }))
}

/// Looks at the folders that were named one by one, then through the directories, in this order. Reads
/// files: not for an async task.
pub fn discover<'a>(
    named: impl IntoIterator<Item = &'a Path>,
    directories: impl IntoIterator<Item = &'a Path>,
) -> Catalogue {
    let mut search = Search::default();
    for folder in named {
        let entry = PluginEntry::load(folder, None);
        search.folder(folder.to_owned(), Source::Named, entry);
    }
    for directory in directories {
        search.directory(directory);
    }
    Catalogue { plugins: search.found }
}

/// The directory of the plugins that come with the host: `plugins/` of the repository that built the
/// binary while it is there, else `share/bkg/plugins` of the installation.
pub fn bundled_plugins_dir(executable: &Path) -> PathBuf {
    bundled_beside(Path::new(env!("CARGO_MANIFEST_DIR")), executable)
}

fn bundled_beside(crate_folder: &Path, executable: &Path) -> PathBuf {
    let built = crate_folder.ancestors().nth(2).map(|repository| repository.join("plugins"));
    if let Some(plugins) = built.filter(|plugins| plugins.is_dir()) {
        return plugins;
    }
    let prefix = executable.parent().and_then(Path::parent).unwrap_or(Path::new("/"));
    prefix.join("share/bkg/plugins")
}

#[derive(Default)]
struct Search {
    found: Vec<Discovered>,
    roots: HashSet<PathBuf>,
    names: HashMap<PluginName, PathBuf>,
}

impl Search {
    fn directory(&mut self, directory: &Path) {
        let source = Source::Directory(directory.to_owned());
        let folders = match folders(directory) {
            Ok(folders) => folders,
            Err(error) => {
                let reason = format!("{error}; correct the list of plugin directories");
                let error = EntryError::Unreadable { file: directory.to_owned(), reason };
                return self.broken(directory.to_owned(), source, error);
            }
        };
        self.listed(directory);
        for name in folders {
            let folder = directory.join(name);
            // A link to nowhere is a claim too: it is listed with its error.
            if folder.is_dir() && folder.join("plugin.json").symlink_metadata().is_ok() {
                let entry = PluginEntry::load(&folder, None);
                self.folder(folder, source.clone(), entry);
            }
        }
    }

    /// What `plugins.json` of a directory lists, if there is one.
    fn listed(&mut self, directory: &Path) {
        let file = directory.join("plugins.json");
        let source = Source::Listed(file.clone());
        let items = match read_json(&file) {
            Ok(None) => return,
            Ok(Some(Value::Array(items))) => items,
            Ok(Some(_)) => {
                let reason = "it holds no list: write the entries as `[{…}, …]`".to_owned();
                let error = EntryError::Unreadable { file: file.clone(), reason };
                return self.broken(file, source, error);
            }
            Err(error) => return self.broken(file, source, error),
        };
        for (index, item) in items.iter().enumerate() {
            let wrong = |path: String, reason: String| EntryError::Wrong {
                file: file.clone(),
                pointer: String::new(),
                path,
                reason,
            };
            let Value::Object(fields) = item else {
                let error = wrong(format!("[{index}]"), "use an entry `{\"name\": …}`".to_owned());
                self.broken(file.clone(), source.clone(), error);
                continue;
            };
            let name = match fields.get("name").and_then(Value::as_str).map(str::parse::<PluginName>) {
                Some(Ok(name)) => name,
                Some(Err(error)) => {
                    self.broken(
                        file.clone(),
                        source.clone(),
                        wrong(format!("[{index}].name"), error.to_string()),
                    );
                    continue;
                }
                None => {
                    let reason = "the field is missing: name the plugin, as its folder is named".to_owned();
                    self.broken(file.clone(), source.clone(), wrong(format!("[{index}].name"), reason));
                    continue;
                }
            };
            let folder = directory.join(name.as_str());
            let entry = if folder.is_dir() {
                PluginEntry::load(&folder, Some((&file, fields)))
            } else {
                let reason =
                    format!("there is no folder `{}`: add it, or remove the entry", folder.display());
                Err(wrong(format!("[{index}]"), reason))
            };
            self.folder(folder, source.clone(), entry);
        }
    }

    fn folder(&mut self, folder: PathBuf, source: Source, entry: Result<PluginEntry, EntryError>) {
        let root = folder.canonicalize().unwrap_or_else(|_| folder.clone());
        if !self.roots.insert(root.clone()) {
            return;
        }
        let outcome = match entry {
            Err(error) => Outcome::Broken { error },
            Ok(entry) => match self.names.get(&entry.name) {
                Some(by) => Outcome::Shadowed { name: entry.name, by: by.clone() },
                None => match self.prefix_taken(&folder, &entry) {
                    Some(error) => Outcome::Broken { error },
                    None => {
                        self.names.insert(entry.name.clone(), folder.clone());
                        Outcome::Ready(Box::new(entry))
                    }
                },
            },
        };
        self.found.push(Discovered { folder, root, source, outcome });
    }

    /// Who came first keeps the paths below its prefix, whole.
    fn prefix_taken(&self, folder: &Path, entry: &PluginEntry) -> Option<EntryError> {
        let earlier = self.found.iter().filter_map(|found| match &found.outcome {
            Outcome::Ready(entry) => Some(&**entry),
            Outcome::Shadowed { .. } | Outcome::Broken { .. } => None,
        });
        entry.prefix_taken(folder, earlier)
    }

    fn broken(&mut self, folder: PathBuf, source: Source, error: EntryError) {
        let root = folder.canonicalize().unwrap_or_else(|_| folder.clone());
        self.found.push(Discovered { folder, root, source, outcome: Outcome::Broken { error } });
    }
}

/// The names in a directory, sorted.
fn folders(directory: &Path) -> std::io::Result<Vec<OsString>> {
    let mut names = std::fs::read_dir(directory)?
        .map(|item| Ok(item?.file_name()))
        .collect::<std::io::Result<Vec<_>>>()?;
    names.sort();
    Ok(names)
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use serde_json::json;

    use super::*;

    fn plugin(directory: &Path, folder: &str, manifest: &Value) -> PathBuf {
        let folder = directory.join(folder);
        fs::create_dir_all(&folder).unwrap();
        fs::write(folder.join("plugin.json"), manifest.to_string()).unwrap();
        folder
    }

    /// One word per folder: its name in the directory and what became of it.
    fn summary(directories: &[&Path]) -> Vec<String> {
        discover([], directories.iter().copied())
            .plugins
            .iter()
            .map(|found| {
                let folder = found.folder.file_name().unwrap().to_str().unwrap();
                match &found.outcome {
                    Outcome::Ready(entry) => format!("{folder}={}", entry.name),
                    Outcome::Shadowed { name, .. } => format!("{folder}~{name}"),
                    Outcome::Broken { .. } => format!("{folder}!"),
                }
            })
            .collect()
    }

    #[test]
    fn the_catalogue_comes_first_and_then_the_folders_by_name() {
        let directory = tempfile::tempdir().unwrap();
        for name in ["b", "c", "a"] {
            plugin(directory.path(), name, &json!({"name": name}));
        }
        fs::create_dir(directory.path().join("no-plugin")).unwrap();
        fs::create_dir(directory.path().join("only-listed")).unwrap();
        fs::create_dir_all(directory.path().join("deep/er")).unwrap();
        plugin(&directory.path().join("deep"), "er", &json!({"name": "deeper"}));
        fs::write(
            directory.path().join("plugins.json"),
            json!([{"name": "only-listed"}, {"name": "c", "autostart": true}]).to_string(),
        )
        .unwrap();
        assert_eq!(summary(&[directory.path()]), ["only-listed=only-listed", "c=c", "a=a", "b=b"]);
        let catalogue = discover([], [directory.path()]);
        let (found, entry) = catalogue.get("c").unwrap();
        assert!(entry.autostart);
        assert_eq!(found.source, Source::Listed(directory.path().join("plugins.json")));
    }

    #[test]
    fn a_second_folder_with_a_known_name_is_shadowed() {
        let (first, second) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let winner = plugin(first.path(), "one", &json!({"name": "same"}));
        plugin(first.path(), "two", &json!({"name": "same"}));
        plugin(second.path(), "three", &json!({"name": "same"}));
        let catalogue = discover([], [first.path(), second.path()]);
        assert_eq!(summary(&[first.path(), second.path()]), ["one=same", "two~same", "three~same"]);
        assert_eq!(
            catalogue.plugins[2].outcome,
            Outcome::Shadowed { name: "same".parse().unwrap(), by: winner.clone() }
        );
        assert_eq!(catalogue.get("same").unwrap().0.folder, winner);
    }

    #[test]
    fn a_folder_that_was_named_comes_first_and_shadows_the_others() {
        let (named, directory) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let own = plugin(named.path(), "own", &json!({"name": "same"}));
        plugin(directory.path(), "bundled", &json!({"name": "same"}));
        let catalogue = discover([own.as_path()], [directory.path()]);
        let (found, _) = catalogue.get("same").unwrap();
        assert_eq!((&found.folder, &found.source), (&own, &Source::Named));
        assert_eq!(
            catalogue.plugins[1].outcome,
            Outcome::Shadowed { name: "same".parse().unwrap(), by: own.clone() }
        );
        // Named twice, or named and found again: it is one plugin.
        let catalogue = discover([own.as_path(), own.as_path()], [named.path()]);
        assert_eq!(catalogue.plugins.len(), 1);
    }

    #[test]
    fn a_named_folder_that_is_none_is_named_with_the_way_out() {
        let directory = tempfile::tempdir().unwrap();
        let good = plugin(directory.path(), "good", &json!({"name": "BROKEN INSIDE"}));
        check_named(std::slice::from_ref(&good)).unwrap();
        let error = check_named(&[good, directory.path().join("none")]).unwrap_err().to_string();
        let folder = directory.path().join("none").display().to_string();
        assert!(error.starts_with(&format!("`{folder}` is no plugin's folder: No such file")), "{error}");
        assert!(
            error.ends_with("; correct `--plugin`, `BKG_PLUGIN_FOLDERS` or `plugin_folders`"),
            "{error}"
        );
        let error = check_named(&[directory.path().to_owned()]).unwrap_err();
        assert_eq!(error.reason, "it has no `plugin.json`");
    }

    #[test]
    fn who_comes_first_keeps_the_paths_below_its_prefix() {
        let directory = tempfile::tempdir().unwrap();
        for (name, prefix) in [
            ("a", "/api/goose"),
            ("b", "/api/goose"),
            ("c", "/api/goose/more"),
            ("d", "/api/goose2"),
            ("e", "/api/deep/er"),
            ("f", "/api/deep"),
        ] {
            plugin(directory.path(), name, &json!({"name": name, "routePrefix": prefix}));
        }
        assert_eq!(summary(&[directory.path()]), ["a=a", "b!", "c!", "d=d", "e=e", "f!"]);
        let Outcome::Broken { error } = &discover([], [directory.path()]).plugins[2].outcome else {
            panic!("the prefix is taken")
        };
        let reason = "`routePrefix`: `/api/goose/more` overlaps with `/api/goose` of the plugin `a`: change one of them";
        assert!(error.to_string().ends_with(reason), "{error}");
    }

    #[test]
    fn links_are_followed_and_the_same_real_folder_is_listed_once() {
        let (elsewhere, directory) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let real = plugin(elsewhere.path(), "real", &json!({"name": "linked"}));
        symlink(&real, directory.path().join("a-link")).unwrap();
        symlink(&real, directory.path().join("b-link")).unwrap();
        symlink("nowhere", directory.path().join("c-link")).unwrap();
        assert_eq!(summary(&[directory.path(), elsewhere.path()]), ["a-link=linked"]);
        let catalogue = discover([], [directory.path()]);
        assert_eq!(catalogue.plugins[0].root, real.canonicalize().unwrap());
        assert_eq!(catalogue.plugins[0].folder, directory.path().join("a-link"));
    }

    #[test]
    fn what_is_broken_is_listed_and_disturbs_nothing() {
        let directory = tempfile::tempdir().unwrap();
        plugin(directory.path(), "bad", &json!({"name": "BAD"}));
        plugin(directory.path(), "good", &json!({"name": "good"}));
        fs::create_dir(directory.path().join("dangling")).unwrap();
        symlink("nowhere", directory.path().join("dangling/plugin.json")).unwrap();
        fs::write(
            directory.path().join("plugins.json"),
            json!([{"name": "gone"}, 7, {"autostart": true}, {"name": "X"}]).to_string(),
        )
        .unwrap();
        assert_eq!(
            summary(&[Path::new("/nowhere/at-all"), directory.path()]),
            [
                "at-all!",
                "gone!",
                "plugins.json!",
                "plugins.json!",
                "plugins.json!",
                "bad!",
                "dangling!",
                "good=good"
            ]
        );
        let messages: Vec<String> = discover([], [directory.path()])
            .plugins
            .iter()
            .filter_map(|found| match &found.outcome {
                Outcome::Broken { error } => {
                    Some(error.to_string().replace(&directory.path().display().to_string(), "DIR"))
                }
                _ => None,
            })
            .collect();
        assert_eq!(
            messages[..3],
            [
                "`DIR/plugins.json`: `[0]`: there is no folder `DIR/gone`: add it, or remove the entry",
                "`DIR/plugins.json`: `[1]`: use an entry `{\"name\": …}`",
                "`DIR/plugins.json`: `[2].name`: the field is missing: name the plugin, as its folder is named",
            ]
        );
    }

    #[test]
    fn a_broken_catalogue_leaves_the_folders_alone() {
        let directory = tempfile::tempdir().unwrap();
        plugin(directory.path(), "good", &json!({"name": "good"}));
        for broken in ["{", "{}", "3"] {
            fs::write(directory.path().join("plugins.json"), broken).unwrap();
            assert_eq!(summary(&[directory.path()]), ["plugins.json!", "good=good"], "{broken}");
        }
    }

    #[test]
    fn the_bundled_plugins_are_the_repositorys_or_the_installations() {
        let repository = tempfile::tempdir().unwrap();
        let crate_folder = repository.path().join("crates/bkg");
        let executable = Path::new("/opt/bkg/bin/bkg");
        assert_eq!(bundled_beside(&crate_folder, executable), Path::new("/opt/bkg/share/bkg/plugins"));
        fs::create_dir(repository.path().join("plugins")).unwrap();
        assert_eq!(bundled_beside(&crate_folder, executable), repository.path().join("plugins"));
    }
}
