//! From a draft to the plugin that runs with it: pushed, or started again, or left for its next start.
//!
//! The order is the promise. Settings are pushed first and saved when the plugin has taken them; what
//! it refuses was never there. What needs another process is saved first, and the answer says whether
//! the plugin came up with it.

use std::sync::Arc;
use std::time::Duration;

use bkg_protocol::RawJson;
use futures_util::future::join_all;
use schemars::JsonSchema;
use serde::Serialize;
use tokio::sync::oneshot;
use tokio::time::timeout;
use tracing::{info, warn};

use super::draft::Draft;
use super::{Editing, Entries, EntriesError, sealing};
use crate::config::PluginEntry;
use crate::config::check::Violation;
use crate::config::patch::{self, Change};
use crate::registry::{Instance, Order, PluginRecord, State};
use crate::store::{Action, Saved};

/// How long a plugin may take to put pushed settings in force.
const APPLIES_WITHIN: Duration = Duration::from_secs(15);

/// When an edit takes effect.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Apply {
    /// Now, also if the plugin must be started again for it.
    Now,
    /// At the plugin's next start.
    Later,
}

/// How an edit took effect.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Applied {
    /// Nothing differed, and nothing was saved.
    Unchanged,
    /// It is in force, and the plugin was not disturbed.
    Hot,
    /// It is in force: the plugin was started again.
    Restarted,
    /// The plugin is being started again, which takes its time.
    Restarting,
    /// It takes effect when the plugin is next started: it does not run.
    NextStart,
    /// It takes effect when the plugin is next started, as was asked for.
    Later,
}

/// What became of an edit.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(rename = "ConfigOutcome")]
pub struct Outcome {
    /// The number of the revision that holds now.
    pub revision: u64,
    /// How it took effect.
    pub applied: Applied,
    /// Whether a process of the plugin still runs with something else.
    pub restart_needed: bool,
    /// What was changed; secrets read as `{"$secret": true}`.
    pub changes: Vec<Change>,
}

/// Why pushed settings are not in force.
enum NotTaken {
    /// The plugin says that they are wrong.
    Refused(String),
    /// It did not say anything.
    Silent(String),
}

impl Editing<'_> {
    /// Saves a draft and brings it to life. `note` is what the author says about it.
    ///
    /// # Errors
    /// The plugin refuses the settings or does not answer, or the store fails: nothing has changed then.
    /// [`EntriesError::DoesNotRun`]: it is saved, and the plugin failed with it.
    pub async fn commit(
        &self,
        draft: Draft,
        apply: Apply,
        note: String,
        action: Action,
    ) -> Result<Outcome, EntriesError> {
        let Draft { current, next, changes, .. } = draft;
        if changes.is_empty() {
            let restart_needed = self.restart_needed();
            let applied = Applied::Unchanged;
            return Ok(Outcome { revision: current.revision, applied, restart_needed, changes });
        }
        // Another plugin may have taken them since this was drafted.
        self.check_prefix(&next)?;
        let entries = self.entries;
        let name = current.name.clone();
        let record = entries.registry.plugin(name.as_str());
        let instances = record.as_ref().map(|record| record.instances.clone()).unwrap_or_default();
        let settings_only = instances.iter().all(|instance| !instance.entry().must_restart_for(&next));
        let takes_settings = instances.iter().all(|instance| instance.takes_hot_config());
        let same_settings = instances.iter().all(|instance| instance.entry().settings == next.settings);
        // Where no instance is there to be asked, what a process must learn takes a start.
        let reaches_all = if instances.is_empty() {
            current.settings == next.settings && !current.must_restart_for(&next)
        } else {
            same_settings || takes_settings
        };
        let is_hot = settings_only && reaches_all;

        let pushed = match apply {
            Apply::Now if is_hot && !same_settings => {
                self.push_or_take_back(&instances, &next).await?;
                true
            }
            _ => false,
        };
        let next = match self.save(&current, next, note, action).await {
            Ok(next) => Arc::new(next),
            Err(error) => {
                if pushed {
                    self.take_back(&instances).await;
                }
                return Err(error);
            }
        };
        let revision = next.revision;
        entries.registry.set_entry(Arc::clone(&next));
        info!(plugin = %name, revision, "entry saved");
        if record.is_none() {
            self.known.fallback.store(Arc::clone(&next));
        }
        if pushed || (same_settings && settings_only) {
            for instance in &instances {
                entries.registry.took_settings(instance, &next);
            }
        }
        if current.instances != next.instances {
            // It is in the registry, so the supervisor knows it.
            let _ = entries.supervisor.set_instances(name.as_str(), next.instances);
        }
        entries.write_mirror().await;
        let applied = match (&record, apply) {
            (None, _) => Applied::NextStart,
            (Some(record), _) if !is_up(record) => Applied::NextStart,
            (Some(_), Apply::Later) if !is_hot || !same_settings => Applied::Later,
            (Some(_), _) if is_hot => {
                self.catch_up(&next).await;
                Applied::Hot
            }
            (Some(record), _) => self.restart(record, &current, revision).await?,
        };
        Ok(Outcome { revision, applied, restart_needed: self.restart_needed(), changes })
    }

    fn restart_needed(&self) -> bool {
        let record = self.entries.registry.plugin(self.current.name.as_str());
        record.is_some_and(|record| record.restart_needed())
    }

    /// Saves what the next entry has on top of the files, with its secrets sealed.
    async fn save(
        &self,
        current: &PluginEntry,
        next: PluginEntry,
        note: String,
        action: Action,
    ) -> Result<PluginEntry, EntriesError> {
        let entries = self.entries;
        let plugin = &next.name;
        let secret = entries.secret_places(&next);
        let overlay = patch::between(&self.known.files_entry.whole(), &next.whole());
        let (overlay, sealed) = sealing::seal(&entries.vault, plugin, overlay, &secret);
        match entries.revisions.save(plugin, current.revision, overlay, note, action).await? {
            Saved::Done(revision) => Ok(PluginEntry { revision: revision.number, sealed, ..next }),
            Saved::Conflict { current: there } => Err(EntriesError::Conflict {
                plugin: plugin.clone(),
                expected: current.revision,
                current: there.as_ref().map_or(0, |there| there.number),
                by: there.map(|there| there.author),
            }),
        }
    }

    /// Has every instance take the settings of `next`, or none.
    async fn push_or_take_back(
        &self,
        instances: &[Arc<Instance>],
        next: &PluginEntry,
    ) -> Result<(), EntriesError> {
        let Err(why) = push(instances, next).await else { return Ok(()) };
        self.take_back(instances).await;
        let plugin = next.name.clone();
        Err(match why {
            NotTaken::Refused(message) => {
                let path = "/settings".to_owned();
                EntriesError::Invalid { plugin, violations: vec![Violation { path, message }] }
            }
            NotTaken::Silent(reason) => EntriesError::NotTaken { plugin, reason },
        })
    }

    /// Has every instance go back to the settings that it ran with. Who does not is started again.
    async fn take_back(&self, instances: &[Arc<Instance>]) {
        let pushes = instances.iter().map(|instance| async move {
            let before = Arc::clone(&instance.entry());
            push_to(instance, &before, RawJson::of(&before.settings)).await
        });
        if join_all(pushes).await.iter().any(Result::is_err) {
            let name = &self.current.name;
            warn!(plugin = %name, "it does not go back to its settings of before: it is started again");
            let _ = self.entries.supervisor.replace(name.as_str());
        }
    }

    /// Gives the newest settings to who registered while they were pushed to the others.
    async fn catch_up(&self, next: &Arc<PluginEntry>) {
        let Some(record) = self.entries.registry.plugin(next.name.as_str()) else { return };
        let behind = |instance: &&Arc<Instance>| {
            instance.takes_hot_config() && instance.entry().settings != next.settings
        };
        for instance in record.instances.iter().filter(behind) {
            if push(std::slice::from_ref(instance), next).await.is_ok() {
                self.entries.registry.took_settings(instance, next);
            }
        }
    }

    async fn restart(
        &self,
        before: &PluginRecord,
        current: &PluginEntry,
        revision: u64,
    ) -> Result<Applied, EntriesError> {
        let Entries { registry, supervisor, patience, .. } = self.entries;
        let name = &current.name;
        let _ = supervisor.replace(name.as_str());
        let came_to_rest = registry.until(|view| {
            let record = view.plugin(name.as_str())?;
            let rests = match record.status.state {
                State::Running => !record.restart_needed() && !record.instances.is_empty(),
                State::Stopped | State::Failed | State::Backoff => true,
                _ => false,
            };
            (rests && record.status != before.status).then(|| record.status.clone())
        });
        match timeout(*patience, came_to_rest).await {
            Err(_) => Ok(Applied::Restarting),
            Ok(status) if status.state == State::Running => Ok(Applied::Restarted),
            Ok(status) if status.state == State::Stopped => Ok(Applied::NextStart),
            Ok(status) => Err(EntriesError::DoesNotRun {
                plugin: name.clone(),
                revision,
                before: current.revision,
                reason: status.reason.unwrap_or_else(|| status.state.as_str().to_owned()),
            }),
        }
    }
}

/// Whether somebody wants the plugin up: it runs, or it would if it could.
fn is_up(record: &PluginRecord) -> bool {
    record.status.state != State::Stopped
}

/// Pushes the settings of an entry to all instances at once.
async fn push(instances: &[Arc<Instance>], entry: &PluginEntry) -> Result<(), NotTaken> {
    let settings = RawJson::of(&entry.settings);
    let pushes = instances.iter().map(|instance| push_to(instance, entry, settings.clone()));
    join_all(pushes).await.into_iter().collect()
}

async fn push_to(instance: &Instance, entry: &PluginEntry, settings: RawJson) -> Result<(), NotTaken> {
    let (applied, verdict) = oneshot::channel();
    let order = Order::Configure { revision: entry.revision, settings, applied };
    let gone = || NotTaken::Silent("its session ended while they were pushed".to_owned());
    instance.mailbox.post(order).map_err(|_| gone())?;
    match timeout(APPLIES_WITHIN, verdict).await {
        Err(_) => Err(NotTaken::Silent(format!(
            "it did not say within {} s that they are in force",
            APPLIES_WITHIN.as_secs()
        ))),
        Ok(Err(_)) => Err(gone()),
        Ok(Ok(Err(refused))) => Err(NotTaken::Refused(refused.message)),
        Ok(Ok(Ok(()))) => Ok(()),
    }
}
