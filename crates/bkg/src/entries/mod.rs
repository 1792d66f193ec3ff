//! The entries of plugins as operators change them: read, edited, saved as revisions, brought to life.
//!
//! What the files of a plugin say is in `config`, and what was saved on top of it in `store`; here the
//! two meet the plugin that runs. The invariants: one edit of a plugin is under way at a time; what was
//! answered as saved is on the disk; an edit that is refused, by the schema or by the plugin itself,
//! changes nothing; and a secret leaves this module sealed, behind a mask, or towards its plugin.

mod draft;
mod live;
mod mirror;
mod push;
mod renewal;
mod reread;
mod restore;
mod sealing;
mod takeover;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard};
use std::time::Duration;

use arc_swap::{ArcSwap, ArcSwapOption};
use bkg_protocol::PluginName;
use indexmap::IndexMap;
use jiff::Timestamp;
use schemars::JsonSchema;
use serde::Serialize;
use serde_json::{Map, Value};
use tokio::sync::{Mutex, OwnedMutexGuard};
use tokio::task::JoinHandle;
use tokio_util::task::TaskTracker;

pub use draft::{Draft, Edit, Right};
pub use live::{Applied, Apply, Outcome, Trial};
pub use mirror::{HandEdit, Import, Imported, MirrorView, MirrorWord};
pub use reread::Reread;
pub use restore::{Known, restore};
pub use takeover::{Files, TakeoverError};

use crate::config::check::Violation;
use crate::config::patch::{self, Change};
use crate::config::secrets;
use crate::config::{LayerOrigin, Layers, PluginEntry};
use crate::registry::Registry;
use crate::store::{Mirror, Revision, Revisions, Store, StoreError, Vault};
use crate::supervisor::Supervisor;
use sealing::Masks;

/// Why an entry cannot be read or changed.
#[derive(Debug, thiserror::Error)]
pub enum EntriesError {
    /// No plugin has this name.
    #[error("no plugin is called `{0}`: `bkg plugin list` shows those that are")]
    Unknown(String),
    /// Somebody else saved in the meantime.
    #[error(
        "the entry of `{plugin}` is at revision {current}{}, not at {expected}: read it again and repeat the change",
        by.as_ref().map(|author| format!(", which {author} saved")).unwrap_or_default()
    )]
    Conflict {
        /// Whose entry.
        plugin: PluginName,
        /// The revision that was expected.
        expected: u64,
        /// The revision that there is.
        current: u64,
        /// Who saved it.
        by: Option<String>,
    },
    /// The entry would not be valid.
    #[error("the entry of `{plugin}` would not be valid: {}", first_of(violations))]
    Invalid {
        /// Whose entry.
        plugin: PluginName,
        /// Every place that is wrong; at least one.
        violations: Vec<Violation>,
    },
    /// The plugin could not be asked whether it takes the settings; nothing was changed.
    #[error("`{plugin}` did not take its settings, and nothing was changed: {reason}")]
    NotTaken {
        /// The plugin.
        plugin: PluginName,
        /// What went wrong.
        reason: String,
    },
    /// The plugin did not come up with it, and runs with what it had before.
    #[error(
        "`{plugin}` did not come up with revision {revision} and runs with what it had before, which is saved \
         as revision {restored}: {reason}"
    )]
    RolledBack {
        /// The plugin.
        plugin: PluginName,
        /// What was saved, and does not hold any more.
        revision: u64,
        /// What holds now.
        restored: u64,
        /// How it failed.
        reason: String,
    },
    /// The plugin did not come up with it, and what it had before could not be saved again.
    #[error(
        "`{plugin}` did not come up with revision {revision}: {reason}; and it could not be taken back: \
         {problem}; until that is mended, the plugin starts with revision {revision}"
    )]
    NotRolledBack {
        /// The plugin.
        plugin: PluginName,
        /// What is saved.
        revision: u64,
        /// How it failed.
        reason: String,
        /// Why it could not be taken back.
        problem: String,
    },
    /// It was saved, and the plugin, which did not run before, does not come up with it.
    #[error(
        "revision {revision} of `{plugin}` is saved, but the plugin does not run with it: {reason}; \
         `bkg config return {plugin} {before}` brings the entry of before back"
    )]
    DoesNotRun {
        /// The plugin.
        plugin: PluginName,
        /// What was saved.
        revision: u64,
        /// What it ran with before.
        before: u64,
        /// How it failed.
        reason: String,
    },
    /// There is no such revision.
    #[error(
        "`{plugin}` has no revision {revision}: `bkg config revisions {plugin}` lists those that are kept"
    )]
    NoRevision {
        /// The plugin.
        plugin: PluginName,
        /// The number.
        revision: u64,
    },
    /// What was saved sealed cannot be opened.
    #[error("a secret of `{plugin}` cannot be opened: {reason}")]
    Sealed {
        /// The plugin.
        plugin: PluginName,
        /// Why.
        reason: String,
    },
    /// What was written into the mirror by hand cannot be imported; nothing was changed.
    #[error("what was written into the mirror by hand cannot be imported: {0}")]
    NotImported(String),
    /// The store's.
    #[error(transparent)]
    Store(#[from] StoreError),
}

fn first_of(violations: &[Violation]) -> String {
    let first = violations.first().map(|first| format!("`{}`: {}", first.path, first.message));
    let more = match violations.len() {
        0 | 1 => String::new(),
        count => format!(" (and {} more)", count - 1),
    };
    first.unwrap_or_default() + &more
}

/// The entries of all plugins; shared by whoever serves operators.
#[derive(Debug)]
pub struct Entries {
    registry: Arc<Registry>,
    supervisor: Arc<Supervisor>,
    revisions: Revisions,
    vault: Vault,
    mirror: Mirror,
    masks: Masks,
    /// In the order of the catalogue; who is found later stands behind.
    plugins: RwLock<IndexMap<PluginName, Arc<Plugin>>>,
    /// Edits that are under way.
    tasks: TaskTracker,
    /// How long an answer waits for a plugin that is started again.
    patience: Duration,
}

/// A plugin whose files can be read.
#[derive(Debug)]
struct Plugin {
    known: ArcSwap<Known>,
    /// Held by the one who edits.
    editing: Arc<Mutex<()>>,
    /// The entry that is saved, while the plugin still serves with the one of before.
    ahead: ArcSwapOption<PluginEntry>,
}

impl Plugin {
    fn new(known: Known) -> Arc<Self> {
        Arc::new(Self {
            known: ArcSwap::from_pointee(known),
            editing: Arc::default(),
            ahead: ArcSwapOption::empty(),
        })
    }
}

/// An entry as operators see it.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct EntryView {
    /// The plugin's name.
    pub plugin: String,
    /// The number of the saved revision; 0 where nothing was ever saved.
    pub revision: u64,
    /// The whole effective entry. Secrets read as `{"$secret": true, "id": …}`: sent back, they are kept.
    pub entry: Value,
    /// Where each value comes from, by its JSON Pointer.
    pub origins: BTreeMap<String, LayerOrigin>,
    /// What was saved on top of the files: a JSON Merge Patch (RFC 7396).
    pub saved: Value,
    /// The JSON Schema of `settings`.
    pub config_schema: Option<Value>,
    /// What the processes of the plugin run with.
    pub live: LiveView,
    /// Why what was saved does not fit to what the files say now; the plugin cannot run until it does.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub misfit: Option<String>,
}

/// What the processes of a plugin run with.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct LiveView {
    /// The oldest revision that one of them runs with; absent where none runs.
    pub revision: Option<u64>,
    /// Whether one of them would run with something else if it were started now.
    pub restart_needed: bool,
    /// Whether new settings can be pushed to all of them.
    pub takes_hot_config: bool,
}

/// A revision as operators see it.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RevisionView {
    /// Its number, from 1 on.
    pub revision: u64,
    /// Who saved it.
    pub author: String,
    /// When.
    pub at: Timestamp,
    /// What the author said about it.
    pub note: String,
    /// What it changed against the revision before, seen with the files of now.
    pub changes: Vec<Change>,
}

/// A revision with all that it held.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct WholeRevision {
    /// The revision.
    #[serde(flatten)]
    pub about: RevisionView,
    /// What it saved on top of the files: a JSON Merge Patch (RFC 7396).
    pub saved: Value,
}

/// The most revisions that one reading gives.
const MOST_LISTED: u32 = 100;

impl Entries {
    /// The entries of the plugins that `restore` found. `patience`: how long an answer waits for a plugin
    /// that is started again.
    pub fn new(
        known: IndexMap<PluginName, Known>,
        store: &Store,
        registry: Arc<Registry>,
        supervisor: Arc<Supervisor>,
        patience: Duration,
    ) -> Self {
        let plugins =
            known.into_iter().map(|(name, known)| (name, Plugin::new(known))).collect::<IndexMap<_, _>>();
        Self {
            registry,
            supervisor,
            revisions: store.revisions.clone(),
            vault: store.vault.clone(),
            mirror: store.mirror.clone(),
            masks: Masks::random(),
            plugins: RwLock::new(plugins),
            tasks: TaskTracker::new(),
            patience,
        }
    }

    /// Carries an edit out, whether or not whoever asked for it waits: between a push and the disk, or the
    /// disk and the registry, nobody may leave it.
    pub fn carry_out<T: Send + 'static>(
        &self,
        edit: impl Future<Output = T> + Send + 'static,
    ) -> JoinHandle<T> {
        self.tasks.spawn(edit)
    }

    /// Waits for the edits that are under way. To be called when no new ones can come, and when the
    /// plugins that they may wait for have stopped.
    pub async fn finish(&self) {
        self.tasks.close();
        self.tasks.wait().await;
    }

    /// Writes the mirror for the first time in the life of this host.
    pub async fn begin(&self) {
        self.write_mirror().await;
    }

    /// An entry as it is now.
    ///
    /// # Errors
    /// The name is not known.
    pub fn read(&self, name: &str) -> Result<EntryView, EntriesError> {
        let (plugin, known) = self.known(name)?;
        let entry = self.current(&known);
        let secret = self.secret_places(&entry);
        let whole = entry.whole();
        let saved = patch::between(&known.files_entry.whole(), &whole);
        let record = self.registry.plugin(name);
        let instances = record.as_ref().map(|record| record.instances.as_slice()).unwrap_or_default();
        let live = LiveView {
            revision: instances.iter().map(|instance| instance.entry().revision).min(),
            restart_needed: record.as_ref().is_some_and(|record| record.restart_needed()),
            takes_hot_config: !instances.is_empty()
                && instances.iter().all(|instance| instance.takes_hot_config()),
        };
        let schema = record.as_ref().and_then(|record| record.config_schema().cloned());
        let masked = |value: Value| {
            secrets::masked(&value, "", &secret, &|value| Some(self.masks.id(&plugin, value)))
        };
        Ok(EntryView {
            plugin: plugin.to_string(),
            revision: entry.revision,
            origins: entry.layers.origins(&whole),
            entry: masked(Value::Object(whole)),
            saved: masked(Value::Object(saved)),
            config_schema: schema.or_else(|| entry.config_schema.clone()),
            live,
            misfit: known.misfit.clone(),
        })
    }

    /// Begins an edit: nobody else edits the plugin until the answer is dropped.
    ///
    /// # Errors
    /// The name is not known, or the entry is not at the revision that is expected.
    pub async fn edit(
        self: &Arc<Self>,
        name: &str,
        expected: Option<u64>,
    ) -> Result<Editing, EntriesError> {
        let (plugin, held) = self.turn(name).await?;
        let known = plugin.known.load_full();
        let current = self.current(&known);
        match expected {
            Some(expected) if expected != current.revision => {
                let name = &known.files_entry.name;
                let saved = self.revisions.current(name).await?;
                Err(EntriesError::Conflict {
                    plugin: name.clone(),
                    expected,
                    current: current.revision,
                    by: saved.map(|revision| revision.author),
                })
            }
            _ => Ok(Editing { entries: Arc::clone(self), plugin, known, current, _held: held }),
        }
    }

    /// The revisions of a plugin that are older than number `before`, newest first.
    ///
    /// # Errors
    /// The name is not known, or the store's.
    pub async fn list(
        &self,
        name: &str,
        before: Option<u64>,
        limit: u32,
    ) -> Result<Vec<RevisionView>, EntriesError> {
        let (plugin, known) = self.known(name)?;
        let limit = limit.clamp(1, MOST_LISTED);
        // One more than wanted: each is shown against the one before it.
        let revisions = self.revisions.list(&plugin, before, limit + 1).await?;
        let mut views = Vec::new();
        for (index, revision) in revisions.iter().enumerate().take(limit as usize) {
            views.push(self.view(&known, revision, revisions.get(index + 1)));
        }
        Ok(views)
    }

    /// One revision with all that it held.
    ///
    /// # Errors
    /// The name or the revision is not known, or the store's.
    pub async fn revision(&self, name: &str, number: u64) -> Result<WholeRevision, EntriesError> {
        let (plugin, known) = self.known(name)?;
        let mut two = self.revisions.list(&plugin, number.checked_add(1), 2).await?.into_iter();
        let revision = two
            .next()
            .filter(|revision| revision.number == number)
            .ok_or_else(|| EntriesError::NoRevision { plugin: plugin.clone(), revision: number })?;
        let about = self.view(&known, &revision, two.next().as_ref());
        let (overlay, sealed) = sealing::open_what_opens(&self.vault, &plugin, revision.overlay);
        let saved = secrets::masked(&Value::Object(overlay), "", &sealed, &|_| None);
        Ok(WholeRevision { about, saved })
    }

    /// What differs between two revisions, seen with the files of now; 0 stands for the files alone.
    ///
    /// # Errors
    /// The name or a revision is not known, or the store's.
    pub async fn compare(&self, name: &str, from: u64, to: u64) -> Result<Vec<Change>, EntriesError> {
        let (_, known) = self.known(name)?;
        let from = self.whole_at(&known, from).await?;
        let to = self.whole_at(&known, to).await?;
        Ok(self.shown_changes(&known, &from, &to))
    }

    fn known(&self, name: &str) -> Result<(PluginName, Arc<Known>), EntriesError> {
        let known = self.plugin(name)?.known.load_full();
        Ok((known.files_entry.name.clone(), known))
    }

    fn plugin(&self, name: &str) -> Result<Arc<Plugin>, EntriesError> {
        let found = self.plugins().get(name).cloned();
        found.ok_or_else(|| EntriesError::Unknown(name.to_owned()))
    }

    fn plugins(&self) -> RwLockReadGuard<'_, IndexMap<PluginName, Arc<Plugin>>> {
        self.plugins.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// A plugin, when nobody edits it any more; and nobody does until the guard is dropped.
    async fn turn(&self, name: &str) -> Result<(Arc<Plugin>, OwnedMutexGuard<()>), EntriesError> {
        let plugin = self.plugin(name)?;
        let held = Arc::clone(&plugin.editing).lock_owned().await;
        Ok((plugin, held))
    }

    /// The entry that is saved: with which the plugin starts, or is just being started.
    fn current(&self, known: &Known) -> Arc<PluginEntry> {
        let name = known.files_entry.name.as_str();
        if let Some(ahead) = self.plugins().get(name).and_then(|plugin| plugin.ahead.load_full()) {
            return ahead;
        }
        let record = self.registry.plugin(name);
        record.map_or_else(|| known.fallback.load_full(), |record| Arc::clone(&record.entry))
    }

    fn secret_places(&self, entry: &PluginEntry) -> BTreeSet<String> {
        let record = self.registry.plugin(entry.name.as_str());
        entry.secret_places(record.as_ref().and_then(|record| record.schema.as_deref()))
    }

    fn view(&self, known: &Known, revision: &Revision, before: Option<&Revision>) -> RevisionView {
        let to = self.whole_of(known, revision);
        let from = match before {
            Some(before) => self.whole_of(known, before),
            None => Whole { members: known.files_entry.layers.merged(), ..Whole::default() },
        };
        RevisionView {
            revision: revision.number,
            author: revision.author.clone(),
            at: revision.at,
            note: revision.note.clone(),
            changes: self.shown_changes(known, &from, &to),
        }
    }

    async fn whole_at(&self, known: &Known, number: u64) -> Result<Whole, EntriesError> {
        if number == 0 {
            return Ok(Whole { members: known.files_entry.layers.merged(), ..Whole::default() });
        }
        Ok(self.whole_of(known, &self.saved(known, number).await?))
    }

    /// The same, for who makes an entry of it: every secret is opened.
    async fn whole_opened(&self, known: &Known, number: u64) -> Result<Whole, EntriesError> {
        if number == 0 {
            return self.whole_at(known, number).await;
        }
        let revision = self.saved(known, number).await?;
        let plugin = &known.files_entry.name;
        let (overlay, sealed) = sealing::open(&self.vault, plugin, revision.overlay)
            .map_err(|error| EntriesError::Sealed { plugin: plugin.clone(), reason: error.to_string() })?;
        let members = known.files_entry.layers.with_saved(revision.number, overlay).merged();
        Ok(Whole { members, sealed })
    }

    async fn saved(&self, known: &Known, number: u64) -> Result<Revision, EntriesError> {
        let plugin = &known.files_entry.name;
        let missing = || EntriesError::NoRevision { plugin: plugin.clone(), revision: number };
        self.revisions.get(plugin, number).await?.ok_or_else(missing)
    }

    /// What a revision makes of the files of now, for showing it: it need not be valid today, and what
    /// is behind its masks need not be there any more.
    fn whole_of(&self, known: &Known, revision: &Revision) -> Whole {
        let overlay = revision.overlay.clone();
        let (overlay, sealed) = sealing::open_what_opens(&self.vault, &revision.plugin, overlay);
        let members = known.files_entry.layers.with_saved(revision.number, overlay).merged();
        Whole { members, sealed }
    }

    /// What differs, with every secret of either side behind a mask.
    fn shown_changes(&self, known: &Known, from: &Whole, to: &Whole) -> Vec<Change> {
        let entry = self.current(known);
        let record = self.registry.plugin(entry.name.as_str());
        let schemas = [
            record.as_ref().and_then(|record| record.schema.as_deref()),
            entry.config_schema.as_ref(),
            known.files_entry.config_schema.as_ref(),
        ];
        let secret = |whole: &Whole| -> BTreeSet<String> {
            let settings = whole.members.get("settings").cloned().unwrap_or_default();
            let by_schema = schemas.iter().flatten().flat_map(|schema| secrets::places(schema, &settings));
            let by_schema = by_schema.map(|place| format!("/settings{place}"));
            by_schema.chain(whole.sealed.iter().cloned()).collect()
        };
        let (before, after) = (secret(from), secret(to));
        // A secret that has parts is shown as changed whole.
        let mut changes: IndexMap<String, Change> = IndexMap::new();
        for change in patch::changes(&from.members, &to.members) {
            let whole = enclosing(&change.path, &[&before, &after]);
            let change = match whole {
                None => change,
                Some(path) => {
                    Change { from: pointed(&from.members, &path), to: pointed(&to.members, &path), path }
                }
            };
            changes.insert(change.path.clone(), change);
        }
        changes
            .into_values()
            .map(|Change { path, from, to }| Change {
                from: from.map(|value| secrets::masked(&value, &path, &before, &|_| None)),
                to: to.map(|value| secrets::masked(&value, &path, &after, &|_| None)),
                path,
            })
            .collect()
    }
}

/// An entry as members, with the places that hold secrets which were saved.
#[derive(Default)]
struct Whole {
    members: Map<String, Value>,
    sealed: BTreeSet<String>,
}

/// The secret place of which `path` is a part.
fn enclosing(path: &str, secret: &[&BTreeSet<String>]) -> Option<String> {
    let cuts = path.char_indices().filter(|(at, letter)| *letter == '/' && *at > 0);
    let mut above = cuts.map(|(at, _)| &path[..at]);
    above.find(|above| secret.iter().any(|places| places.contains(*above))).map(str::to_owned)
}

fn pointed(members: &Map<String, Value>, path: &str) -> Option<Value> {
    let mut steps = patch::steps(path);
    let first = members.get(&steps.next()?)?;
    steps.try_fold(first, |value, step| value.get(step)).cloned()
}

/// An edit that is under way; others wait until it is dropped.
#[derive(Debug)]
pub struct Editing {
    entries: Arc<Entries>,
    plugin: Arc<Plugin>,
    known: Arc<Known>,
    current: Arc<PluginEntry>,
    _held: OwnedMutexGuard<()>,
}

impl Editing {
    fn files(&self) -> &Layers {
        &self.known.files_entry.layers
    }
}
