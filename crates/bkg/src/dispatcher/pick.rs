//! Picks the instance: the plugin first, then its least busy instance, then a place in the queue.
//!
//! While a new version of the plugin is tried with a share of its requests, the version is picked before
//! the instance.

use std::sync::Arc;
use std::time::Duration;

use bkg_protocol::CapabilityName;
use bkg_protocol::message::Condition;
use serde::Deserialize;
use tokio::time::{Instant, timeout_at};

use super::call::Observation;
use super::{CallError, Dispatcher, NOBODY_OFFERS_IT, Question, Target, unavailable_because};
use crate::config::QueueLimits;
use crate::registry::{Instance, PluginCounts, PluginRecord, Side, Slot, State, Terms, TrafficShare};

/// How long a request waits for a plugin that is started for it: as long as a launch is given to register.
const STARTS_WITHIN: Duration = Duration::from_secs(30);

/// The line in which those wait who need a plugin to register, whatever it offers.
const WAKING: &str = "lifecycle.start";

/// An instance with a place for the request.
pub(super) struct Picked {
    pub(super) instance: Arc<Instance>,
    pub(super) terms: Arc<Terms>,
    pub(super) slot: Slot,
    /// Whether what becomes of it is compared with another version's.
    pub(super) observation: Option<Observation>,
}

/// Measures how long a request waits, whatever ends that.
struct QueueWait {
    counts: Arc<PluginCounts>,
    begun: Instant,
}

impl QueueWait {
    fn begin(record: &PluginRecord) -> Self {
        Self { counts: Arc::clone(&record.counts), begun: Instant::now() }
    }
}

impl Drop for QueueWait {
    fn drop(&mut self) {
        self.counts.queue_wait.observe(self.begun.elapsed());
    }
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
    let is_chosen = matches!(question.target, Target::Routed(_));
    if is_chosen || reach.models.is_none() || !has_models() {
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
        if !record.answers(question.capability.as_str()) {
            return self.wait_for_start(record, question, bytes).await;
        }
        if !record.capacity.has_line(&question.capability)
            && let Some(picked) = pick_instance(&record, question.capability.as_str(), bytes)
        {
            return Ok(picked);
        }
        self.wait_for_instance(record, question, bytes).await
    }

    /// The named plugin, else the first in order with an instance in rotation, else the first that comes
    /// on demand.
    fn choose_plugin(&self, question: &Question) -> Result<Arc<PluginRecord>, CallError> {
        let view = self.registry.view();
        let capability = question.capability.as_str();
        match &question.target {
            Target::Plugin(name) | Target::Routed(name) => {
                let record = view
                    .plugin(name.as_str())
                    .ok_or_else(|| CallError::UnknownPlugin { plugin: name.clone() })?;
                if !record.comes_for(capability) {
                    self.check(record, question)?;
                }
                Ok(Arc::clone(record))
            }
            Target::Any => {
                let answering = view.answering(capability);
                let reach = &question.lineage.reach;
                let ready = answering.iter().filter(|record| record.answers(capability));
                let mut ready = ready.chain(view.coming_for(capability));
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
            None => self.unavailable(record, &question.capability),
        })
    }

    /// Has a plugin started, and waits in its queue until one of its instances has a place.
    async fn wait_for_start(
        &self,
        record: Arc<PluginRecord>,
        question: &Question,
        bytes: usize,
    ) -> Result<Picked, CallError> {
        let capability = &question.capability;
        let picked = |now: &PluginRecord| match self.check(now, question) {
            Ok(()) => pick_instance(now, capability.as_str(), bytes).map(Ok),
            Err(_) if now.comes_for(capability.as_str()) => None,
            Err(refused) => Some(Err(refused)),
        };
        self.starting(&record, capability, bytes, question.lineage.deadline, picked).await
    }

    /// Has a plugin started if it starts on demand, and waits until it has registered.
    ///
    /// # Errors
    /// [`CallError::Unavailable`] if it does not come: at once if it does not start on demand.
    pub async fn wake(&self, record: &PluginRecord, deadline: Instant) -> Result<(), CallError> {
        let capability = WAKING.parse().expect("the name of the line is a valid one");
        let registered = |now: &PluginRecord| {
            if now.registered.is_some() {
                return Some(Ok(()));
            }
            (!now.comes_on_demand()).then(|| Err(self.unavailable(now, &capability)))
        };
        self.starting(record, &capability, 0, deadline, registered).await
    }

    /// Waits in the line of a plugin that is started, until `done` has an outcome.
    async fn starting<T>(
        &self,
        record: &PluginRecord,
        capability: &CapabilityName,
        bytes: usize,
        deadline: Instant,
        done: impl Fn(&PluginRecord) -> Option<Result<T, CallError>>,
    ) -> Result<T, CallError> {
        let plugin = &record.entry.name;
        let unavailable = |why: String| CallError::Unavailable {
            capability: capability.clone(),
            plugin: Some(plugin.clone()),
            why: format!("plugin `{plugin}` is being started, {why}"),
        };
        let QueueLimits { requests, bytes: most_bytes, .. } = self.queue;
        let joined = record.capacity.join(capability, bytes, requests, most_bytes);
        let waiting = joined.ok_or_else(|| {
            record.counts.queue_full.one();
            unavailable(format!("and its queue of {requests} requests or {most_bytes} bytes is full"))
        })?;
        let until = deadline.min(Instant::now() + STARTS_WITHIN);
        let _measured = QueueWait::begin(record);
        let mut was_under_way = false;
        loop {
            if timeout_at(until, waiting.turn()).await.is_err() {
                record.counts.queue_late.one();
                return Err(unavailable("which takes its time".to_owned()));
            }
            let Some(now) = self.registry.plugin(plugin.as_str()) else {
                return Err(CallError::UnknownPlugin { plugin: plugin.clone() });
            };
            if let Some(outcome) = done(&now) {
                return outcome;
            }
            let rests = now.comes_on_demand() && now.status.state == State::Stopped;
            // One start for each request: what stops again at once is not started in a circle.
            if rests && was_under_way {
                return Err(self.unavailable(&now, capability));
            }
            was_under_way |= !rests;
            if rests {
                self.registry.demand(plugin);
            }
        }
    }

    /// That no instance of a plugin is ready, and why.
    fn unavailable(&self, record: &PluginRecord, capability: &CapabilityName) -> CallError {
        let plugin = record.entry.name.clone();
        CallError::Unavailable {
            capability: capability.clone(),
            why: unavailable_because(&plugin, record.state(), record.status.reason.as_deref()),
            plugin: Some(plugin),
        }
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
            record.counts.queue_full.one();
            overloaded(format!("its queue of {requests} requests or {most_bytes} bytes is full"))
        })?;
        let joined = Instant::now();
        let until = question.lineage.deadline.min(joined + wait);
        let _measured = QueueWait::begin(&record);
        loop {
            if timeout_at(until, waiting.turn()).await.is_err() {
                record.counts.queue_late.one();
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
    if let Some(share) = &record.share {
        return pick_side(record, share, capability, bytes);
    }
    // One instance is the common case and needs no sorting.
    if let [instance] = record.instances.as_slice() {
        return take_place(instance, capability, bytes);
    }
    pick_among(record.instances.iter().collect(), capability, bytes)
}

/// Picks the version, then the instance. What the one on trial cannot take is the other's; what is the
/// other's stays so: a trial is not to be a way around limits.
fn pick_side(
    record: &PluginRecord,
    share: &Arc<TrafficShare>,
    capability: &str,
    bytes: usize,
) -> Option<Picked> {
    let observed = |picked: Picked, side| {
        let observation = Some(Observation::new(Arc::clone(share), side));
        Picked { observation, ..picked }
    };
    if share.turn() == Side::Trial {
        let knows = |instance: &&Arc<Instance>| {
            instance.team == share.team && offers_models(record, instance, capability)
        };
        let on_trial = record.standby.iter().filter(knows).collect();
        if let Some(picked) = pick_among(on_trial, capability, bytes) {
            return Some(observed(picked, Side::Trial));
        }
    }
    let picked = pick_among(record.instances.iter().collect(), capability, bytes)?;
    Some(observed(picked, Side::Serving))
}

/// Whether an instance serves every model that the plugin offers for a capability: which of them a
/// request names is not looked at here.
fn offers_models(record: &PluginRecord, instance: &Instance, capability: &str) -> bool {
    let registration = instance.registration();
    let mut wanted = record.offered.iter().filter(|model| model.capability.as_str() == capability);
    wanted.all(|model| {
        registration.models.iter().any(|own| own.id == model.id && own.capability == model.capability)
    })
}

fn pick_among(mut candidates: Vec<&Arc<Instance>>, capability: &str, bytes: usize) -> Option<Picked> {
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
    Some(Picked { instance: Arc::clone(instance), terms: Arc::clone(terms), slot, observation: None })
}
