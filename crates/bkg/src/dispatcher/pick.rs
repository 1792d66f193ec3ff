//! Picks the instance: the plugin first, then its least busy instance, then a place in the queue.

use std::sync::Arc;

use bkg_protocol::message::Condition;
use serde::Deserialize;
use tokio::time::{Instant, timeout_at};

use super::{CallError, Dispatcher, NOBODY_OFFERS_IT, Question, Target, unavailable_because};
use crate::config::QueueLimits;
use crate::registry::{Instance, PluginRecord, Slot, Terms};

/// An instance with a place for the request.
pub(super) struct Picked {
    pub(super) instance: Arc<Instance>,
    pub(super) terms: Arc<Terms>,
    pub(super) slot: Slot,
}

/// Whether the caller's credential reaches the plugin, and the model if one is asked for.
fn check_reach(record: &PluginRecord, question: &Question) -> Result<(), CallError> {
    #[derive(Deserialize)]
    struct ForModel {
        model: Option<String>,
    }
    let (reach, plugin) = (&question.lineage.reach, &record.entry.name);
    let refuse = |what: String| Err(CallError::OutOfReach { what });
    if !reach.has_plugin(plugin) {
        return refuse(format!("the plugin `{plugin}`"));
    }
    let has_models = || {
        // Also a plugin that lists none has one, under its own name.
        question.capability.as_str().starts_with("llm.")
            || record.offered.iter().any(|model| model.capability == question.capability)
    };
    if reach.models.is_none() || !has_models() {
        return Ok(());
    }
    match question.payload.read::<ForModel>() {
        Ok(ForModel { model: Some(model) }) if reach.has_model(plugin, &model) => Ok(()),
        Ok(ForModel { model: Some(model) }) => refuse(format!("the model `{model}`")),
        _ => refuse(format!("`{}` without a model that it names", question.capability)),
    }
}

impl Dispatcher {
    /// A place at an instance that answers, as soon as there is one.
    pub(super) async fn acquire(&self, question: &Question) -> Result<Picked, CallError> {
        let bytes = question.payload.as_str().len();
        let record = self.choose_plugin(question)?;
        check_reach(&record, question)?;
        if !record.capacity.has_line(&question.capability)
            && let Some(picked) = pick_instance(&record, question.capability.as_str(), bytes)
        {
            return Ok(picked);
        }
        self.wait_for_instance(record, question, bytes).await
    }

    /// The named plugin, else the first in order with an instance in rotation.
    fn choose_plugin(&self, question: &Question) -> Result<Arc<PluginRecord>, CallError> {
        let view = self.registry.view();
        let capability = question.capability.as_str();
        match &question.target {
            Target::Plugin(name) => {
                let record = view
                    .plugin(name.as_str())
                    .ok_or_else(|| CallError::UnknownPlugin { plugin: name.clone() })?;
                self.check(record, question)?;
                Ok(Arc::clone(record))
            }
            Target::Any => {
                let answering = view.answering(capability);
                let reach = &question.lineage.reach;
                let mut ready = answering.iter().filter(|record| record.answers(capability));
                let first = ready.next();
                let reached =
                    first.into_iter().chain(ready).find(|record| reach.has_plugin(&record.entry.name));
                let ready = reached.or(first);
                ready.map(Arc::clone).ok_or_else(|| CallError::Unavailable {
                    capability: question.capability.clone(),
                    plugin: None,
                    why: match answering.first() {
                        Some(record) => {
                            let reason = record.status.reason.as_deref();
                            unavailable_because(&record.entry.name, record.state(), reason)
                        }
                        None => NOBODY_OFFERS_IT.to_owned(),
                    },
                })
            }
        }
    }

    /// Whether a plugin answers the capability at all at this moment, and if not, why.
    fn check(&self, record: &PluginRecord, question: &Question) -> Result<(), CallError> {
        if record.answers(question.capability.as_str()) {
            return Ok(());
        }
        let plugin = record.entry.name.clone();
        let in_rotation = record.instances.iter().find(|instance| instance.is_in_rotation());
        Err(match in_rotation {
            Some(instance) => CallError::NotOffered {
                plugin,
                capability: question.capability.clone(),
                offered: instance
                    .registration()
                    .capabilities()
                    .map(|name| format!("`{name}`"))
                    .collect::<Vec<_>>()
                    .join(", "),
            },
            None => CallError::Unavailable {
                capability: question.capability.clone(),
                why: unavailable_because(&plugin, record.state(), record.status.reason.as_deref()),
                plugin: Some(plugin),
            },
        })
    }

    /// Waits in the plugin's queue until one of its instances has a place.
    async fn wait_for_instance(
        &self,
        record: Arc<PluginRecord>,
        question: &Question,
        bytes: usize,
    ) -> Result<Picked, CallError> {
        let plugin = record.entry.name.clone();
        let overloaded = |why: String| CallError::Overloaded { plugin: plugin.clone(), why };
        // It waits for itself: every place may be taken by requests that wait for this one.
        if question.lineage.chain.contains(&plugin) {
            return Err(overloaded(
                "all its places are taken, and one of them waits for this request".to_owned(),
            ));
        }
        let capacity = Arc::clone(&record.capacity);
        let QueueLimits { requests, bytes: most_bytes, wait } = self.queue;
        let joined = capacity.join(&question.capability, bytes, requests, most_bytes);
        let waiting = joined.ok_or_else(|| {
            overloaded(format!("its queue of {requests} requests or {most_bytes} bytes is full"))
        })?;
        let joined = Instant::now();
        let until = question.lineage.deadline.min(joined + wait);
        loop {
            if timeout_at(until, waiting.turn()).await.is_err() {
                return Err(overloaded(format!(
                    "no place was free for {} ms",
                    until.saturating_duration_since(joined).as_millis()
                )));
            }
            let now = self.registry.plugin(plugin.as_str()).unwrap_or_else(|| Arc::clone(&record));
            self.check(&now, question)?;
            if let Some(picked) = pick_instance(&now, question.capability.as_str(), bytes) {
                return Ok(picked);
            }
        }
    }
}

/// Picks the instance that answers: healthy before degraded, then the fewest requests in flight.
/// `None` if all that answer are at their limit.
fn pick_instance(record: &PluginRecord, capability: &str, bytes: usize) -> Option<Picked> {
    // One instance is the common case and needs no sorting.
    if let [instance] = record.instances.as_slice() {
        return take_place(instance, capability, bytes);
    }
    let mut candidates: Vec<&Arc<Instance>> = record.instances.iter().collect();
    candidates.sort_by_key(|instance| (instance.condition() == Condition::Degraded, instance.in_flight()));
    candidates.into_iter().find_map(|instance| take_place(instance, capability, bytes))
}

fn take_place(instance: &Arc<Instance>, capability: &str, bytes: usize) -> Option<Picked> {
    if !instance.is_in_rotation() {
        return None;
    }
    let registration = instance.registration();
    let terms = registration.terms(capability)?;
    let slot = instance.try_slot(terms, bytes)?;
    Some(Picked { instance: Arc::clone(instance), terms: Arc::clone(terms), slot })
}
