//! Development: the folders of plugins are watched, and what runs follows what was edited.
//!
//! There is none of this without `--dev`. Not how a plugin is replaced: the supervisor does that, by a swap
//! where two versions may run side by side. The invariants: a burst of saves is one swap or restart; what leaves the files that count as they were does
//! nothing; what an operator stopped stays stopped; and a folder that makes no plugin any more changes
//! nothing for the one that runs.

mod eyes;
mod pace;

use std::collections::{BTreeMap, HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use bkg_protocol::PluginName;
use bkg_protocol::message::LogLevel;
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::config::{Catalogue, Discovered, EntryError, HostConfig, Outcome, PluginEntry, discover};
use crate::entries::{Entries, Files, Reread};
use crate::logs::{Logs, NewLine};
use crate::registry::Registry;
use crate::supervisor::Supervisor;
use crate::supervisor::folder::{Folder, Snapshot};
use eyes::{Eyes, LOOKS_EVERY, Places};
use pace::Pace;

/// What development works with.
#[derive(Debug)]
pub struct Workshop {
    /// Where plugins are found.
    pub config: Arc<HostConfig>,
    /// What there is of plugins.
    pub registry: Arc<Registry>,
    /// Who takes files anew.
    pub entries: Arc<Entries>,
    /// Who starts plugins again.
    pub supervisor: Arc<Supervisor>,
    /// Where it is said.
    pub logs: Logs,
    /// The folders that cannot be used, for whoever lists them.
    pub catalogue: Arc<ArcSwap<Catalogue>>,
}

/// The one who watches.
#[derive(Debug)]
struct Watch {
    workshop: Workshop,
    eyes: Eyes,
    plugins: HashMap<PluginName, Watched>,
    /// When a look is due, and when the first event came that it is for.
    due: Option<Due>,
}

/// A look that is due.
#[derive(Debug, Clone, Copy)]
struct Due {
    since: Instant,
    at: Instant,
}

/// A plugin's folder as it was when it was last acted upon.
#[derive(Debug)]
struct Watched {
    /// The folder as it was found, links and all.
    folder: PathBuf,
    /// Its real path.
    root: PathBuf,
    snapshot: Snapshot,
    /// What its files said when a swap was last ordered for them: it may not have taken over.
    swapped_for: Option<Arc<PluginEntry>>,
    pace: Pace,
    /// What keeps its files from being taken; said once.
    problem: Option<String>,
    /// Its folder is not there; and whether somebody wants it up when it comes back.
    gone: Option<bool>,
}

/// How long nothing may move before somebody looks: an editor writes, renames and sets modes.
const QUIET: Duration = Duration::from_millis(100);
/// How long somebody waits at most while things go on moving.
const LONGEST_WAIT: Duration = Duration::from_secs(1);
/// How many changed files a reason names.
const MOST_NAMED: usize = 2;

/// What a look found, made where reading files may block.
struct Found {
    catalogue: Catalogue,
    snapshots: HashMap<PathBuf, Snapshot>,
    /// The directories that are to be watched besides, for folders that come and go.
    directories: Vec<Folder>,
}

impl Workshop {
    /// Watches until `stop` fires.
    pub async fn run(self, stop: CancellationToken) {
        let mut watch = Watch { workshop: self, eyes: Eyes::open(), plugins: HashMap::new(), due: None };
        stop.run_until_cancelled(async {
            watch.begin().await;
            watch.go_on().await;
        })
        .await;
    }
}

impl Watch {
    /// Takes the plugins as they were started; what was edited since is found by the look that follows.
    async fn begin(&mut self) {
        let found = self.find().await;
        let roots: BTreeMap<PathBuf, PathBuf> = found
            .catalogue
            .plugins
            .iter()
            .map(|found| (found.root.clone(), found.folder.clone()))
            .collect();
        for record in self.workshop.registry.view().plugins() {
            let folder = roots.get(&record.root).unwrap_or(&record.root).clone();
            let snapshot = found.snapshots.get(&record.root).cloned().unwrap_or_default();
            let watched = Watched::new(folder, record.root.clone(), snapshot);
            self.plugins.insert(record.entry.name.clone(), watched);
        }
        info!(
            plugins = self.plugins.len(),
            "the folders of plugins are watched: edits take effect by themselves"
        );
        self.watch(&found);
        // Between the first look and the first watch something may have moved.
        self.becomes_due();
    }

    async fn go_on(&mut self) {
        let mut looks = tokio::time::interval(LOOKS_EVERY);
        looks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            let due = self.due.map(|due| due.at);
            tokio::select! {
                () = self.eyes.moved() => {
                    if self.concerns(&self.eyes.take()) {
                        self.becomes_due();
                    }
                }
                _ = looks.tick(), if self.eyes.must_look() => self.becomes_due(),
                () = sleep_until(due.unwrap_or_else(Instant::now)), if due.is_some() => {
                    self.due = None;
                    self.look().await;
                }
            }
        }
    }

    fn becomes_due(&mut self) {
        let now = Instant::now();
        let since = self.due.map_or(now, |due| due.since);
        self.due = Some(Due { since, at: (now + QUIET).min(since + LONGEST_WAIT) });
    }

    /// Whether something moved where it matters. Beside a folder that was named lies what is nobody's
    /// business.
    fn concerns(&self, places: &Places) -> bool {
        let Places::Some(places) = places else { return true };
        let config = &self.workshop.config;
        let matters = |place: &Path| {
            let inside = |folder: &Path| place.starts_with(folder);
            config.plugin_folders.iter().any(|folder| inside(folder))
                || config.plugin_directories().any(&inside)
                || self.plugins.values().any(|plugin| inside(&plugin.root) || place == plugin.folder)
        };
        places.iter().any(|place| matters(place))
    }

    /// Looks at everything, and acts upon what differs.
    async fn look(&mut self) {
        let mut found = self.find().await;
        self.watch(&found);
        for place in 0..found.catalogue.plugins.len() {
            let Discovered { folder, root, outcome, .. } = found.catalogue.plugins[place].clone();
            match outcome {
                Outcome::Ready(files) => {
                    let snapshot = found.snapshots.remove(&root).unwrap_or_default();
                    let misfit = self.take(&files, folder.clone(), root, snapshot).await;
                    if let Some(reason) = misfit {
                        let error = EntryError::Unreadable { file: folder, reason };
                        found.catalogue.plugins[place].outcome = Outcome::Broken { error };
                    }
                }
                Outcome::Broken { error } => self.is_broken(&root, &error.to_string()),
                Outcome::Shadowed { .. } => {}
            }
        }
        self.miss(&found.catalogue);
        // A plugin that there is stands for its folder, whatever is wrong with that at the moment.
        let roots: HashSet<&PathBuf> = self.plugins.values().map(|plugin| &plugin.root).collect();
        found.catalogue.plugins.retain(|found| match &found.outcome {
            Outcome::Broken { .. } => !roots.contains(&found.root),
            Outcome::Ready(_) | Outcome::Shadowed { .. } => true,
        });
        self.workshop.catalogue.store(Arc::new(found.catalogue));
    }

    /// Takes the files of one plugin; answers what is wrong where it is no plugin because of that.
    async fn take(
        &mut self,
        files: &PluginEntry,
        folder: PathBuf,
        root: PathBuf,
        snapshot: Snapshot,
    ) -> Option<String> {
        let name = files.name.clone();
        // Where a new version may start beside the one that serves, nothing is taken before it does well.
        let is_beside = self.plugins.get(&name).is_some_and(|plugin| plugin.gone.is_none())
            && self.workshop.may_swap(files);
        let reread = match is_beside {
            true => self.workshop.entries.has_files(files, &root).map(|same| match same {
                true => Reread::Same,
                false => Reread::Changed,
            }),
            false => self.workshop.entries.reread(files, &root).await,
        };
        let reread = match reread {
            Ok(reread) => reread,
            Err(error) => {
                warn!(plugin = %name, %error, "the files of a plugin cannot be taken");
                return None;
            }
        };
        if let Reread::Misfit(reason) = reread {
            return match self.plugins.get_mut(&name) {
                Some(watched) => {
                    watched.complain(&self.workshop, &name, &reason);
                    None
                }
                None => Some(reason),
            };
        }
        let Some(watched) = self.plugins.get_mut(&name) else {
            let line = format!("its folder `{}` was found", root.display());
            self.workshop.say(&name, LogLevel::Info, line);
            self.plugins.insert(name, Watched::new(folder, root, snapshot));
            return None;
        };
        watched.problem = None;
        let is_known = watched.swapped_for.as_deref() == Some(files);
        let changed = snapshot.changed_since(&watched.snapshot, &root);
        let moved = watched.root != root;
        let back = watched.gone.take();
        if back.is_none()
            && !moved
            && changed.is_empty()
            && (reread == Reread::Same || is_beside && is_known)
        {
            return None;
        }
        let why = match (&back, moved, changed.as_slice()) {
            (Some(_), ..) => "its folder is back".to_owned(),
            (None, true, _) => format!("its folder is `{}` now", root.display()),
            (None, false, []) => "what `plugins.json` says of it changed".to_owned(),
            (None, false, changed) => format!("{} changed", named(changed)),
        };
        let wait = watched.pace.edited(Instant::now());
        (watched.folder, watched.root) = (folder, root);
        if let Some(wait) = wait {
            // The snapshot stays as it was, so the look that follows finds the same and more.
            if watched.pace.is_to_be_said() {
                let line = format!(
                    "{why} again, right after a restart: what a plugin writes belongs into `BKG_PLUGIN_DATA_DIR`; \
                     the next restart waits {} s",
                    wait.as_secs_f64().ceil()
                );
                self.workshop.say(&name, LogLevel::Warn, line);
            }
            watched.gone = back;
            let at = Instant::now() + wait;
            self.due = Some(Due { since: at, at: self.due.map_or(at, |due| due.at.min(at)) });
            return None;
        }
        watched.snapshot = snapshot;
        if !is_beside {
            self.workshop.restart(&name, &why, back);
            return None;
        }
        let entry = Arc::new(files.clone());
        watched.swapped_for = Some(Arc::clone(&entry));
        let files = Files { entry, root: watched.root.clone() };
        match self.workshop.entries.take_over(files, why.clone(), None).await {
            Ok(_) => self.workshop.say(&name, LogLevel::Info, format!("{why}: swapping")),
            Err(error) => watched.complain(&self.workshop, &name, &error.to_string()),
        }
        None
    }

    /// A folder makes no plugin at the moment.
    fn is_broken(&mut self, root: &Path, error: &str) {
        let plugin = self.plugins.iter_mut().find(|(_, plugin)| plugin.root == root);
        if let Some((name, watched)) = plugin {
            watched.complain(&self.workshop, name, error);
        }
    }

    /// Stops the plugins whose folders are no longer there.
    fn miss(&mut self, catalogue: &Catalogue) {
        let roots: HashSet<&PathBuf> = catalogue.plugins.iter().map(|found| &found.root).collect();
        let names: HashSet<&PluginName> = catalogue.ready().map(|(_, entry)| &entry.name).collect();
        for (name, watched) in &mut self.plugins {
            // One whose folder is there and is broken goes on.
            let is_there = names.contains(name) || (roots.contains(&watched.root) && watched.root.is_dir());
            if is_there || watched.gone.is_some() {
                continue;
            }
            let what = if watched.root.is_dir() { "the `plugin.json` of its folder" } else { "its folder" };
            let why = format!("{what} `{}` is gone", watched.folder.display());
            let was_up = self.workshop.supervisor.want_down_because(name.as_str(), &why).unwrap_or(false);
            let stopping = if was_up { ": stopping" } else { "" };
            self.workshop.say(name, LogLevel::Warn, format!("{why}{stopping}"));
            watched.gone = Some(was_up);
        }
    }

    /// Watches every folder in which files count, and the directories in which folders come and go.
    fn watch(&mut self, found: &Found) {
        let folders = found.snapshots.values().flat_map(Snapshot::folders).chain(&found.directories);
        let mut news = false;
        for folder in folders.clone() {
            news |= self.eyes.watch(folder);
        }
        let there: HashSet<&Path> = folders.map(|folder| folder.path.as_path()).collect();
        self.eyes.keep(|path| there.contains(path));
        if news {
            // What was written into a new folder before it was watched.
            self.becomes_due();
        }
    }

    /// Reads everything that there is to be read.
    async fn find(&self) -> Found {
        let config = Arc::clone(&self.workshop.config);
        let known: Vec<PathBuf> = self.plugins.values().map(|plugin| plugin.root.clone()).collect();
        let find = move || {
            let named = config.plugin_folders.iter().map(PathBuf::as_path);
            let catalogue = discover(named, config.plugin_directories());
            let roots = catalogue.plugins.iter().map(|found| &found.root).chain(&known);
            let snapshots = roots
                .filter(|root| root.is_dir())
                .filter_map(|root| Some((root.clone(), Snapshot::of(root).ok()?)))
                .collect();
            let named = config.plugin_folders.iter().filter_map(|folder| folder.parent());
            let directories = config.plugin_directories().chain(named);
            let directories = directories.filter_map(|directory| Folder::at(directory).ok()).collect();
            Found { catalogue, snapshots, directories }
        };
        tokio::task::spawn_blocking(find).await.expect("looking at folders does not panic")
    }
}

impl Workshop {
    /// Starts a plugin again, where it is wanted; `back` is what was wanted of it while it was gone.
    fn restart(&self, name: &PluginName, why: &str, back: Option<bool>) {
        let said = match back {
            Some(true) => {
                let _ = self.supervisor.want_up(name.as_str());
                format!("{why}: starting")
            }
            Some(false) => why.to_owned(),
            None => match self.supervisor.replace_because(name.as_str(), why) {
                Ok(true) => format!("{why}: restarting"),
                // Nobody wants it: it starts with what was edited when somebody does.
                _ => return,
            },
        };
        self.say(name, LogLevel::Info, said);
    }

    /// Whether a version with these files can start beside the one that serves.
    fn may_swap(&self, files: &PluginEntry) -> bool {
        let record = self.registry.plugin(files.name.as_str());
        let is_served = record
            .as_ref()
            .is_some_and(|record| !record.instances.is_empty() && record.entry.may_overlap());
        is_served && files.may_overlap() && self.supervisor.is_wanted(files.name.as_str())
    }

    fn say(&self, name: &PluginName, level: LogLevel, line: String) {
        self.logs.plugin(name).append(NewLine::host(level, line));
    }
}

impl Watched {
    fn new(folder: PathBuf, root: PathBuf, snapshot: Snapshot) -> Self {
        Self { folder, root, snapshot, swapped_for: None, pace: Pace::default(), problem: None, gone: None }
    }

    /// Says once what is wrong with its files.
    fn complain(&mut self, workshop: &Workshop, name: &PluginName, problem: &str) {
        if self.problem.as_deref() == Some(problem) {
            return;
        }
        self.problem = Some(problem.to_owned());
        let line = format!("its files are not taken, and it goes on as it was: {problem}");
        workshop.say(name, LogLevel::Error, line);
    }
}

/// The files that changed, the first ones by name.
fn named(changed: &[PathBuf]) -> String {
    let names: Vec<String> =
        changed.iter().take(MOST_NAMED).map(|path| format!("`{}`", path.display())).collect();
    match changed.len().saturating_sub(MOST_NAMED) {
        0 => names.join(" and "),
        more => format!("{} and {more} more", names.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reason_names_the_first_files() {
        let named = |count: usize| named(&["a", "b/c", "d", "e"].map(PathBuf::from)[..count]);
        assert_eq!(named(1), "`a`");
        assert_eq!(named(2), "`a` and `b/c`");
        assert_eq!(named(4), "`a`, `b/c` and 2 more");
    }
}
