//! From a draft to the plugin that runs with it, as one transaction.
//!
//! The order is the promise: what the plugin can say of the settings is heard first; settings that are
//! pushed are saved when every instance has taken them; what needs other processes is saved before them,
//! and goes back with them (`renewal`). Whoever is refused finds everything as it was.

use std::sync::Arc;

use schemars::JsonSchema;
use serde::Serialize;
use tracing::info;

use super::draft::Draft;
use super::renewal::{Came, Renewal};
use super::{Editing, EntriesError, sealing};
use crate::config::PluginEntry;
use crate::config::patch::{self, Change};
use crate::registry::{Instance, PluginRecord, State};
use crate::store::{Action, Saved};

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
    /// The plugin is being started again, which takes its time. Where it does not come up, what ran before
    /// runs on, under its entry of before.
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
    /// What would have become of it, where it was only tried; nothing was saved then.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dry_run: Option<Trial>,
}

/// What would become of an edit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(rename = "ConfigTrial")]
pub struct Trial {
    /// How it would take effect.
    pub would_be: Applied,
    /// How many instances of the plugin run.
    pub instances: usize,
    /// How many of them were asked what they think of the new settings, and would take them. 0 where the
    /// settings stay as they are, and where the plugin cannot be asked before they are in force.
    pub asked: usize,
}

/// What it takes for an edit to hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Takes {
    /// Nothing of a process: the host alone uses what changes.
    HostAlone,
    /// The instances take the settings while they run.
    Push,
    /// Other processes.
    NewProcesses,
    /// The plugin's next start.
    NextStart(Waits),
}

/// Why an edit waits for the plugin's next start.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Waits {
    /// The plugin does not run.
    Stopped,
    /// Somebody asked for it.
    AsAsked,
}

impl Takes {
    fn of(record: Option<&PluginRecord>, current: &PluginEntry, next: &PluginEntry, apply: Apply) -> Self {
        let Some(record) = record.filter(|record| record.status.state != State::Stopped) else {
            return Self::NextStart(Waits::Stopped);
        };
        let instances = &record.instances;
        let same_process = instances.iter().all(|instance| !instance.entry().must_restart_for(next));
        let same_settings = instances.iter().all(|instance| instance.entry().settings == next.settings);
        let take_settings = instances.iter().all(|instance| instance.takes_hot_config());
        // Where no instance is there to be asked, what a process must learn takes a start.
        let is_unheard_of =
            instances.is_empty() && (current.settings != next.settings || current.must_restart_for(next));
        if same_process && same_settings && !is_unheard_of {
            Self::HostAlone
        } else if apply == Apply::Later {
            Self::NextStart(Waits::AsAsked)
        } else if same_process && take_settings && !is_unheard_of {
            Self::Push
        } else {
            Self::NewProcesses
        }
    }

    fn applied(self) -> Applied {
        match self {
            Self::HostAlone | Self::Push => Applied::Hot,
            Self::NewProcesses => Applied::Restarted,
            Self::NextStart(Waits::Stopped) => Applied::NextStart,
            Self::NextStart(Waits::AsAsked) => Applied::Later,
        }
    }
}

impl Editing {
    /// Saves a draft and brings it to life. `note` is what the author says about it.
    ///
    /// # Errors
    /// The plugin refuses the settings or does not answer, or the store fails: nothing has changed then.
    /// [`EntriesError::RolledBack`]: the plugin did not come up, and runs with what it had before.
    /// [`EntriesError::DoesNotRun`]: it is saved, and the plugin, which did not run before, failed with it.
    pub async fn commit(
        self,
        draft: Draft,
        apply: Apply,
        note: String,
        action: Action,
    ) -> Result<Outcome, EntriesError> {
        let Draft { current, next, changes, .. } = draft;
        if changes.is_empty() {
            return Ok(self.outcome(current.revision, Applied::Unchanged, changes));
        }
        // Another plugin may have taken them since this was drafted.
        self.check_prefix(&next)?;
        let record = self.entries.registry.plugin(current.name.as_str());
        let instances = record.as_ref().map(|record| record.instances.clone()).unwrap_or_default();
        let takes = Takes::of(record.as_deref(), &current, &next, apply);
        if matches!(takes, Takes::Push | Takes::NewProcesses) {
            self.try_settings(&instances, &next).await?;
        }
        match takes {
            Takes::HostAlone => {
                let next = self.save(&current, next, note, action).await?;
                self.put(&current, &next, &instances).await;
                self.catch_up(&next).await;
                Ok(self.outcome(next.revision, takes.applied(), changes))
            }
            Takes::Push => {
                self.push_or_take_back(&instances, &next).await?;
                let next = match self.save(&current, next, note, action).await {
                    Ok(next) => next,
                    Err(error) => {
                        self.take_back(&instances).await;
                        return Err(error);
                    }
                };
                self.put(&current, &next, &instances).await;
                self.catch_up(&next).await;
                Ok(self.outcome(next.revision, takes.applied(), changes))
            }
            Takes::NextStart(_) => {
                let next = self.save(&current, next, note, action).await?;
                self.put(&current, &next, &[]).await;
                if record.is_none() {
                    self.known.fallback.store(Arc::clone(&next));
                }
                Ok(self.outcome(next.revision, takes.applied(), changes))
            }
            Takes::NewProcesses => {
                let next = self.save(&current, next, note, action).await?;
                let revision = next.revision;
                let (entries, name) = (Arc::clone(&self.entries), current.name.clone());
                let applied = self.renew(current, next).await?;
                let record = entries.registry.plugin(name.as_str());
                let restart_needed = record.is_some_and(|record| record.restart_needed());
                Ok(Outcome { revision, applied, restart_needed, changes, dry_run: None })
            }
        }
    }

    /// What would become of a draft: checked as far as can be without changing anything, the plugin's own
    /// word on the settings included.
    ///
    /// # Errors
    /// As of [`Editing::commit`].
    pub async fn rehearse(self, draft: Draft, apply: Apply) -> Result<Outcome, EntriesError> {
        let Draft { current, next, changes, .. } = draft;
        let record = self.entries.registry.plugin(current.name.as_str());
        let instances = record.as_ref().map(|record| record.instances.clone()).unwrap_or_default();
        let trial = |would_be, asked| Trial { would_be, instances: instances.len(), asked };
        let dry_run = if changes.is_empty() {
            trial(Applied::Unchanged, 0)
        } else {
            self.check_prefix(&next)?;
            let takes = Takes::of(record.as_deref(), &current, &next, apply);
            let asked = match takes {
                Takes::Push | Takes::NewProcesses => self.try_settings(&instances, &next).await?,
                Takes::HostAlone | Takes::NextStart(_) => 0,
            };
            trial(takes.applied(), asked)
        };
        let outcome = self.outcome(current.revision, Applied::Unchanged, changes);
        Ok(Outcome { dry_run: Some(dry_run), ..outcome })
    }

    fn outcome(&self, revision: u64, applied: Applied, changes: Vec<Change>) -> Outcome {
        let record = self.entries.registry.plugin(self.current.name.as_str());
        let restart_needed = record.is_some_and(|record| record.restart_needed());
        Outcome { revision, applied, restart_needed, changes, dry_run: None }
    }

    /// Saves what the next entry has on top of the files, with its secrets sealed.
    pub(super) async fn save(
        &self,
        current: &PluginEntry,
        next: PluginEntry,
        note: String,
        action: Action,
    ) -> Result<Arc<PluginEntry>, EntriesError> {
        let entries = &self.entries;
        let plugin = &next.name;
        let secret = entries.secret_places(&next);
        let overlay = patch::between(&self.known.files_entry.whole(), &next.whole());
        let (overlay, sealed) = sealing::seal(&entries.vault, plugin, overlay, &secret);
        match entries.revisions.save(plugin, current.revision, overlay, note, action).await? {
            Saved::Done(revision) => {
                info!(plugin = %next.name, revision = revision.number, "entry saved");
                Ok(Arc::new(PluginEntry { revision: revision.number, sealed, ..next }))
            }
            Saved::Conflict { current: there } => Err(EntriesError::Conflict {
                plugin: plugin.clone(),
                expected: current.revision,
                current: there.as_ref().map_or(0, |there| there.number),
                by: there.map(|there| there.author),
            }),
        }
    }

    /// Has a saved entry be the plugin's; `instances` are those that run with its settings already.
    pub(super) async fn put(
        &self,
        current: &PluginEntry,
        next: &Arc<PluginEntry>,
        instances: &[Arc<Instance>],
    ) {
        let entries = &self.entries;
        entries.registry.set_entry(Arc::clone(next));
        self.plugin.ahead.store(None);
        for instance in instances {
            entries.registry.took_settings(instance, next);
        }
        if current.instances != next.instances {
            // It is in the registry, so the supervisor knows it; or it is nowhere, and has no processes.
            let _ = entries.supervisor.set_instances(next.name.as_str(), next.instances);
        }
        entries.write_mirror().await;
    }

    /// Brings up other processes for an entry that is saved; answers when it is known what came of them,
    /// or when whoever waits for it has waited long enough.
    async fn renew(
        self,
        before: Arc<PluginEntry>,
        next: Arc<PluginEntry>,
    ) -> Result<Applied, EntriesError> {
        let patience = self.entries.patience;
        let mut renewal = Renewal::begin(self, before, next).await;
        match tokio::time::timeout(patience, renewal.outcome()).await {
            Ok(came) if came != Came::Superseded => renewal.settle(came).await,
            Ok(_) | Err(_) => {
                renewal.settle_later();
                Ok(Applied::Restarting)
            }
        }
    }
}
