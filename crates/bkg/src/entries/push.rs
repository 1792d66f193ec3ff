//! Settings on their way to the instances of a plugin: to be in force in all of them, or only to be tried.
//!
//! Not what is saved. The invariant: whoever is told that settings were not taken finds every instance
//! with those of before, or being started again.

use std::sync::Arc;
use std::time::Duration;

use bkg_protocol::RawJson;
use futures_util::future::join_all;
use tokio::sync::oneshot;
use tokio::time::timeout;
use tracing::warn;

use super::{Editing, EntriesError};
use crate::config::PluginEntry;
use crate::config::check::Violation;
use crate::registry::{Instance, Order, Purpose};

/// How long a plugin may take to say what it thinks of settings, or to put them in force.
const ANSWERS_WITHIN: Duration = Duration::from_secs(15);

/// Why settings are not in force, or would not be.
#[derive(Debug, Clone, PartialEq, Eq)]
enum NotTaken {
    /// The plugin says that they are wrong.
    Refused(String),
    /// It did not say anything.
    Silent(String),
}

impl NotTaken {
    fn of(self, entry: &PluginEntry) -> EntriesError {
        let plugin = entry.name.clone();
        match self {
            Self::Refused(message) => {
                let path = "/settings".to_owned();
                EntriesError::Invalid { plugin, violations: vec![Violation { path, message }] }
            }
            Self::Silent(reason) => EntriesError::NotTaken { plugin, reason },
        }
    }
}

impl Editing {
    /// Asks every instance that can be asked, and that runs with other settings, what it thinks of those
    /// of `next`; answers how many were asked. Nothing is in force afterwards.
    ///
    /// # Errors
    /// One refuses, or does not answer.
    pub(super) async fn try_settings(
        &self,
        instances: &[Arc<Instance>],
        next: &PluginEntry,
    ) -> Result<usize, EntriesError> {
        let can_say = |instance: &&Arc<Instance>| {
            instance.takes_dry_runs() && instance.entry().settings != next.settings
        };
        let asked: Vec<&Arc<Instance>> = instances.iter().filter(can_say).collect();
        let verdict = send(&asked, next, Purpose::DryRun).await;
        verdict.map(|()| asked.len()).map_err(|why| why.of(next))
    }

    /// Has every instance take the settings of `next`, or none.
    ///
    /// # Errors
    /// One refuses, or does not answer; all have gone back.
    pub(super) async fn push_or_take_back(
        &self,
        instances: &[Arc<Instance>],
        next: &PluginEntry,
    ) -> Result<(), EntriesError> {
        let all: Vec<&Arc<Instance>> = instances.iter().collect();
        let Err(why) = send(&all, next, Purpose::InForce).await else { return Ok(()) };
        self.take_back(instances).await;
        Err(why.of(next))
    }

    /// Has every instance go back to the settings that it ran with. Who does not is started again.
    pub(super) async fn take_back(&self, instances: &[Arc<Instance>]) {
        let pushes = instances.iter().map(|instance| async move {
            let before = Arc::clone(&instance.entry());
            send_to(instance, &before, RawJson::of(&before.settings), Purpose::InForce).await
        });
        if join_all(pushes).await.iter().any(Result::is_err) {
            let name = &self.current.name;
            warn!(plugin = %name, "it does not go back to its settings of before: it is started again");
            let _ = self.entries.supervisor.replace(name.as_str());
        }
    }

    /// Gives the newest settings to who registered while they were pushed to the others, before they were
    /// in the table: who registers later is given them there.
    pub(super) async fn catch_up(&self, next: &Arc<PluginEntry>) {
        let Some(record) = self.entries.registry.plugin(next.name.as_str()) else { return };
        let behind = |instance: &&Arc<Instance>| {
            instance.takes_hot_config() && instance.entry().settings != next.settings
        };
        for instance in record.instances.iter().filter(behind) {
            match send(&[instance], next, Purpose::InForce).await {
                Ok(()) => self.entries.registry.took_settings(instance, next),
                Err(NotTaken::Refused(reason) | NotTaken::Silent(reason)) => warn!(
                    plugin = %next.name, instance = %instance.id, reason,
                    "an instance that came meanwhile does not take the settings that the others have"
                ),
            }
        }
    }
}

/// Sends the settings of an entry to all instances at once. Of several reasons against them, what a plugin
/// says counts more than that one is silent.
async fn send(instances: &[&Arc<Instance>], entry: &PluginEntry, purpose: Purpose) -> Result<(), NotTaken> {
    let settings = RawJson::of(&entry.settings);
    let sent = instances.iter().map(|instance| send_to(instance, entry, settings.clone(), purpose));
    let against: Vec<NotTaken> = join_all(sent).await.into_iter().filter_map(Result::err).collect();
    let refusals = against.iter().filter(|why| matches!(why, NotTaken::Refused(_))).count();
    let said = against.iter().find(|why| matches!(why, NotTaken::Refused(_)));
    match said.or(against.first()).cloned() {
        None => Ok(()),
        Some(NotTaken::Refused(message)) if refusals < instances.len() => {
            let of_them = format!("{message} (so {refusals} of {} instances)", instances.len());
            Err(NotTaken::Refused(of_them))
        }
        Some(why) => Err(why),
    }
}

async fn send_to(
    instance: &Instance,
    entry: &PluginEntry,
    settings: RawJson,
    purpose: Purpose,
) -> Result<(), NotTaken> {
    let (applied, verdict) = oneshot::channel();
    let order = Order::Configure { revision: entry.revision, settings, purpose, applied };
    let gone = || {
        let doing = match purpose {
            Purpose::InForce => "they were pushed",
            Purpose::DryRun => "it was asked about them",
        };
        NotTaken::Silent(format!("its session ended while {doing}"))
    };
    instance.mailbox.post(order).map_err(|_| gone())?;
    match timeout(ANSWERS_WITHIN, verdict).await {
        Err(_) => {
            let what = match purpose {
                Purpose::InForce => "that they are in force",
                Purpose::DryRun => "what it thinks of them",
            };
            Err(NotTaken::Silent(format!("it did not say within {} s {what}", ANSWERS_WITHIN.as_secs())))
        }
        Ok(Err(_)) => Err(gone()),
        Ok(Ok(Err(refused))) => Err(NotTaken::Refused(refused.message)),
        Ok(Ok(Ok(()))) => Ok(()),
    }
}
