//! Other processes for a saved entry, and the way back where they do not come up.
//!
//! Not how processes are replaced: the supervisor does that. The invariants: a plugin that served before
//! serves afterwards, with the one entry or with the other; and the newest revision is the one that it
//! serves with, or somebody has saved since. A host that dies in between leaves the revision that was
//! saved: the next one starts with it.

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;

use serde_json::json;
use tracing::{error, warn};

use super::live::Applied;
use super::{Editing, EntriesError};
use crate::config::PluginEntry;
use crate::registry::{Instance, Registry, State, Status};
use crate::store::{Action, Actor, Revision};
use crate::supervisor::{Share, Supervisor, SwapOrder, SwapOutcome, SwapTicket};

/// Who rolls back.
const HOST: &str = "host";
/// How the note of a revision begins that rolls the one before it back.
const ROLLED_BACK: &str = "rolled back: ";

/// Whether a revision only undid the one before it.
pub(super) fn is_rollback(revision: &Revision) -> bool {
    revision.author == HOST && revision.note.starts_with(ROLLED_BACK)
}

/// What came of the processes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Came {
    /// They serve.
    Serve(Applied),
    /// They were stopped by somebody: the entry holds at the next start.
    Stopped,
    /// They do not come up.
    Failed(String),
    /// Other ones were ordered before it was known.
    Superseded,
}

impl From<SwapOutcome> for Came {
    fn from(outcome: SwapOutcome) -> Self {
        match outcome {
            SwapOutcome::Swapped { .. } | SwapOutcome::Restarted => Self::Serve(Applied::Restarted),
            SwapOutcome::RolledBack { reason, .. } => Self::Failed(reason),
            SwapOutcome::Superseded => Self::Superseded,
        }
    }
}

type UnderWay = Pin<Box<dyn Future<Output = Came> + Send>>;

/// A plugin on its way from one entry to the next.
pub(super) struct Renewal {
    editing: Editing,
    before: Arc<PluginEntry>,
    next: Arc<PluginEntry>,
    /// Whether the plugin served when it began: only then there is something to go back to.
    served: bool,
    under_way: UnderWay,
    /// What came of it, once that is known.
    came: Option<Came>,
}

impl Renewal {
    /// Begins to replace the processes of `before` by those of `next`, which is saved.
    pub(super) async fn begin(editing: Editing, before: Arc<PluginEntry>, next: Arc<PluginEntry>) -> Self {
        let entries = Arc::clone(&editing.entries);
        let name = next.name.as_str();
        let record = entries.registry.plugin(name);
        let serves = record.as_ref().filter(|record| !record.instances.is_empty());
        let served = serves.is_some();
        let under_way: UnderWay = match serves {
            Some(record) => {
                editing.plugin.ahead.store(Some(Arc::clone(&next)));
                entries.write_mirror().await;
                let order = SwapOrder {
                    entry: Arc::clone(&next),
                    root: record.root.clone(),
                    why: format!("revision {} of its entry", next.revision),
                    share: Share::of_entry(&next),
                };
                match entries.supervisor.swap(name, order) {
                    Ok(ticket) => Box::pin(swapped(ticket)),
                    Err(refused) => Box::pin(std::future::ready(Came::Failed(refused.to_string()))),
                }
            }
            None => {
                let status = record.map(|record| record.status.clone());
                editing.put(&before, &next, &[]).await;
                let (registry, supervisor) =
                    (Arc::clone(&entries.registry), Arc::clone(&entries.supervisor));
                Box::pin(started(registry, supervisor, Arc::clone(&next), status))
            }
        };
        Self { editing, before, next, served, under_way, came: None }
    }

    /// What came of it.
    pub(super) async fn outcome(&mut self) -> Came {
        if self.came.is_none() {
            self.came = Some(self.under_way.as_mut().await);
        }
        self.came.clone().expect("it is known by now")
    }

    /// Draws the conclusion.
    ///
    /// # Errors
    /// The processes did not come up: [`EntriesError::RolledBack`], [`EntriesError::NotRolledBack`], or
    /// [`EntriesError::DoesNotRun`] where none served before.
    pub(super) async fn settle(self, came: Came) -> Result<Applied, EntriesError> {
        let Self { editing, before, next, served, .. } = self;
        let (plugin, revision) = (next.name.clone(), next.revision);
        let reason = match came {
            Came::Serve(applied) => {
                if served {
                    editing.arrived().await;
                }
                return Ok(applied);
            }
            Came::Stopped => return Ok(Applied::NextStart),
            Came::Failed(reason) => reason,
            Came::Superseded => "another swap took its place, and did not come to anything".to_owned(),
        };
        if !served {
            return Err(EntriesError::DoesNotRun { plugin, revision, before: before.revision, reason });
        }
        match editing.put_back(&before, &next, &reason).await {
            Ok(restored) => Err(EntriesError::RolledBack { plugin, revision, restored, reason }),
            Err(problem) => {
                let problem = problem.to_string();
                Err(EntriesError::NotRolledBack { plugin, revision, reason, problem })
            }
        }
    }

    /// Draws the conclusion when there is one, unless somebody has saved the entry since; meanwhile others
    /// may, so that a change that comes to nothing can be mended.
    pub(super) fn settle_later(self) {
        let entries = Arc::clone(&self.editing.entries);
        let carrying = Arc::clone(&entries);
        let task = async move {
            let Self { editing, before, next, served, mut under_way, came } = self;
            drop(editing);
            let mut came = match came {
                Some(came) => came,
                None => under_way.as_mut().await,
            };
            let plugin = next.name.clone();
            // Whoever superseded it holds the turn until it is known what came of that.
            let Ok(editing) = entries.edit(plugin.as_str(), None).await else { return };
            if editing.current.revision != next.revision {
                return;
            }
            let record = entries.registry.plugin(plugin.as_str());
            if came == Came::Superseded && record.is_some_and(|it| it.entry.revision == next.revision) {
                came = Came::Serve(Applied::Restarted);
            }
            let renewal = Self { editing, before, next, served, under_way, came: None };
            if let Err(error) = renewal.settle(came).await {
                warn!(%plugin, %error, "a change of an entry came to nothing");
            }
        };
        carrying.carry_out(task);
    }
}

impl fmt::Debug for Renewal {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("Renewal").field("plugin", &self.next.name).finish_non_exhaustive()
    }
}

impl Editing {
    /// The processes of the entry that was ahead serve.
    async fn arrived(&self) {
        self.plugin.ahead.store(None);
        self.entries.write_mirror().await;
    }

    /// Has the entry `before` hold again, by a revision of the host's own; answers its number. Its
    /// processes serve already, or again.
    async fn put_back(
        &self,
        before: &Arc<PluginEntry>,
        failed: &PluginEntry,
        reason: &str,
    ) -> Result<u64, EntriesError> {
        let plugin = &before.name;
        let note = format!("{ROLLED_BACK}{reason}");
        let action = Action {
            actor: Actor { user: HOST.to_owned(), key_id: None, session_id: None, address: None },
            action: "config.rollback",
            target: format!("plugin {plugin}"),
            detail: json!({ "failed": failed.revision, "restored": before.revision, "reason": reason }),
            request_id: None,
        };
        let restored = match self.save(failed, (**before).clone(), note, action).await {
            Ok(restored) => restored,
            Err(problem) => {
                let revision = failed.revision;
                error!(%plugin, %problem, revision, "a saved entry that does not run could not be rolled back");
                return Err(problem);
            }
        };
        warn!(%plugin, failed = failed.revision, restored = restored.revision, reason, "an entry was rolled back");
        let record = self.entries.registry.plugin(plugin.as_str());
        let runs_with_it = |instance: &&Arc<Instance>| {
            let entry = instance.entry();
            entry.settings == restored.settings && !entry.must_restart_for(&restored)
        };
        let instances: Vec<Arc<Instance>> =
            record.iter().flat_map(|record| &record.instances).filter(runs_with_it).cloned().collect();
        self.put(before, &restored, &instances).await;
        Ok(restored.revision)
    }
}

async fn swapped(ticket: SwapTicket) -> Came {
    ticket.outcome().await.into()
}

/// Starts a plugin that does not serve, whose entry is in place, and says what came of it.
async fn started(
    registry: Arc<Registry>,
    supervisor: Arc<Supervisor>,
    next: Arc<PluginEntry>,
    before: Option<Status>,
) -> Came {
    let name = next.name.as_str();
    let _ = supervisor.replace(name);
    let status = registry
        .until(|view| {
            let record = view.plugin(name)?;
            let rests = match record.status.state {
                State::Running => !record.restart_needed() && !record.instances.is_empty(),
                State::Stopped | State::Failed | State::Backoff => true,
                _ => false,
            };
            (rests && Some(&record.status) != before.as_ref()).then(|| record.status.clone())
        })
        .await;
    match status.state {
        State::Running => Came::Serve(Applied::Restarted),
        State::Stopped => Came::Stopped,
        _ => Came::Failed(status.reason.unwrap_or_else(|| status.state.as_str().to_owned())),
    }
}
