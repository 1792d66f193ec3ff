//! One registered instance: what it offers, how it feels, and how many requests it has.

use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU32, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use arc_swap::{ArcSwap, ArcSwapOption};
use bkg_protocol::host::{Contract, DropCounts};
use bkg_protocol::message::{Condition, Event, Model, Register, Telemetry};
use bkg_protocol::{CapabilityName, InstanceId, PluginName};
use jiff::Timestamp;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use super::{Confinement, DeclaredRoute, Mailbox, TeamId, Topics, read_routes};
use crate::config::PluginEntry;
use crate::store::OpenRequest;

/// One session of one running process.
#[derive(Debug)]
pub struct Instance {
    /// The launch.
    pub id: InstanceId,
    /// Whose process it is.
    pub plugin: PluginName,
    /// The version of the plugin that it is of.
    pub team: TeamId,
    /// The process, where the host started it.
    pub pid: Option<u32>,
    /// How its launch is confined, where the host started it.
    pub confinement: Arc<OnceLock<Confinement>>,
    /// When it registered.
    pub since: Timestamp,
    /// Which contract it speaks.
    pub contract: Contract,
    /// Whether its socket is known to belong to a process of the launch; if not, the first that
    /// connected was taken.
    pub verified: bool,
    /// The way to the task that owns its socket.
    pub mailbox: Mailbox,
    /// The topics that it wants, and the events that wait for it.
    pub topics: Topics,
    registration: ArcSwap<Registration>,
    entry: ArcSwap<PluginEntry>,
    telemetry: ArcSwapOption<OwnFigures>,
    dropped: Mutex<DropCounts>,
    condition: AtomicU8,
    /// Whether its health probe found it ill.
    is_ill: AtomicBool,
    /// What it had not answered when its session ended.
    lost: OnceLock<Vec<OpenRequest>>,
    /// Fires when its session has ended.
    ended: CancellationToken,
    in_flight: AtomicU32,
    most_in_flight: u32,
    unsent_bytes: AtomicUsize,
    most_unsent_bytes: usize,
    capacity: Arc<Capacity>,
}

/// What an instance said of its own process.
#[derive(Debug, Clone, PartialEq)]
pub struct OwnFigures {
    /// When it said so.
    pub at: Timestamp,
    /// The figures, as it sent them.
    pub telemetry: Telemetry,
}

/// What an instance offers, indexed.
#[derive(Debug)]
pub struct Registration {
    /// As it was sent.
    pub register: Register,
    /// The models it serves; a plugin with `llm.*` and no list serves one under its own name, unless it says
    /// that it lists all that it has.
    pub models: Vec<Model>,
    /// Its HTTP routes. Admission has refused whatever cannot be served.
    pub routes: Arc<[DeclaredRoute]>,
    capabilities: HashMap<CapabilityName, Arc<Terms>>,
}

/// On what terms an instance answers a capability.
#[derive(Debug)]
pub struct Terms {
    /// Whether it answers in chunks where that is asked for.
    pub streaming: bool,
    /// Whether it may be asked again after it was handed the request.
    pub idempotent: bool,
    /// How long one request may take.
    pub timeout: Option<Duration>,
    most_in_flight: Option<u32>,
    /// Shared with the terms that an `update` put in their place: what is in flight stays so.
    in_flight: Arc<AtomicU32>,
}

impl Registration {
    /// Indexes what an instance sent.
    pub fn new(register: Register) -> Self {
        Self::indexed(register, |_| Arc::default())
    }

    /// What holds after an `update`: the requests in flight count on.
    pub fn updated(&self, register: Register) -> Self {
        Self::indexed(register, |id| {
            self.terms(id).map(|terms| Arc::clone(&terms.in_flight)).unwrap_or_default()
        })
    }

    fn indexed(register: Register, in_flight: impl Fn(&str) -> Arc<AtomicU32>) -> Self {
        let capabilities = register
            .capabilities
            .iter()
            .map(|capability| {
                let terms = Terms {
                    streaming: capability.streaming && register.protocol.is_some(),
                    idempotent: capability.idempotent,
                    timeout: capability.timeout_ms.map(Duration::from_millis),
                    most_in_flight: capability.max_concurrency,
                    in_flight: in_flight(capability.id.as_str()),
                };
                (capability.id.clone(), Arc::new(terms))
            })
            .collect();
        let models = if register.models.is_empty() && !register.lists_models() {
            register
                .capabilities
                .iter()
                .filter(|capability| matches!(capability.id.as_str(), "llm.chat" | "llm.embed"))
                .map(|capability| Model {
                    id: register.plugin.to_string(),
                    capability: capability.id.clone(),
                    owned_by: None,
                    context_length: None,
                    dimensions: None,
                })
                .collect()
        } else {
            register.models.clone()
        };
        let routes = read_routes(&register.routes).unwrap_or_default().into();
        Self { register, models, routes, capabilities }
    }

    /// On what terms a capability is answered, if it is.
    pub fn terms(&self, capability: &str) -> Option<&Arc<Terms>> {
        self.capabilities.get(capability)
    }

    /// The names of all capabilities.
    pub fn capabilities(&self) -> impl Iterator<Item = &CapabilityName> {
        self.register.capabilities.iter().map(|capability| &capability.id)
    }
}

/// What a new instance is made of.
#[derive(Debug)]
pub(crate) struct NewInstance {
    pub(crate) id: InstanceId,
    pub(crate) team: TeamId,
    pub(crate) pid: Option<u32>,
    pub(crate) confinement: Arc<OnceLock<Confinement>>,
    pub(crate) contract: Contract,
    pub(crate) verified: bool,
    pub(crate) registration: Registration,
    pub(crate) entry: Arc<PluginEntry>,
    pub(crate) most_in_flight: u32,
    pub(crate) most_unsent_bytes: usize,
    /// The largest frame that it takes, in bytes.
    pub(crate) frame_limit: usize,
    pub(crate) capacity: Arc<Capacity>,
}

impl Instance {
    pub(crate) fn new(new: NewInstance) -> Self {
        Self {
            id: new.id,
            plugin: new.registration.register.plugin.clone(),
            team: new.team,
            pid: new.pid,
            confinement: new.confinement,
            since: Timestamp::now(),
            contract: new.contract,
            verified: new.verified,
            mailbox: Mailbox::default(),
            topics: Topics::new(new.frame_limit),
            registration: ArcSwap::from_pointee(new.registration),
            entry: ArcSwap::new(new.entry),
            telemetry: ArcSwapOption::empty(),
            dropped: Mutex::default(),
            condition: AtomicU8::new(CONDITION_HEALTHY),
            is_ill: AtomicBool::new(false),
            lost: OnceLock::new(),
            ended: CancellationToken::new(),
            in_flight: AtomicU32::new(0),
            most_in_flight: new.most_in_flight,
            unsent_bytes: AtomicUsize::new(0),
            most_unsent_bytes: new.most_unsent_bytes,
            capacity: new.capacity,
        }
    }

    /// What it offers at this moment.
    pub fn registration(&self) -> arc_swap::Guard<Arc<Registration>> {
        self.registration.load()
    }

    pub(super) fn replace_registration(&self, registration: Arc<Registration>) {
        self.registration.store(registration);
    }

    /// The entry that it runs with: the one of its launch, with the settings that it took since.
    pub fn entry(&self) -> arc_swap::Guard<Arc<PluginEntry>> {
        self.entry.load()
    }

    /// Notes that it took the settings of `next`.
    pub(super) fn took_settings(&self, next: &PluginEntry) {
        self.entry.store(Arc::new(self.entry.load().with_settings_of(next)));
    }

    /// Whether new settings can be pushed to it.
    pub fn takes_hot_config(&self) -> bool {
        self.contract == Contract::Extended && self.registration().register.takes_hot_config()
    }

    /// Whether it can be asked about settings before they are saved.
    pub fn takes_dry_runs(&self) -> bool {
        self.contract == Contract::Extended && self.registration().register.takes_dry_runs()
    }

    /// The figures that it last gave of its own process.
    pub fn telemetry(&self) -> Option<Arc<OwnFigures>> {
        self.telemetry.load_full()
    }

    /// Keeps the figures that it gave of its own process.
    pub fn set_telemetry(&self, telemetry: Telemetry) {
        self.telemetry.store(Some(Arc::new(OwnFigures { at: Timestamp::now(), telemetry })));
    }

    /// How many of its frames had no effect, by reason.
    pub fn dropped(&self) -> DropCounts {
        *self.dropped.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes how many of its frames had no effect so far.
    pub fn dropped_frames(&self, counts: DropCounts) {
        *self.dropped.lock().unwrap_or_else(PoisonError::into_inner) = counts;
    }

    /// Keeps an event for it if it wants the topic. Never waits; whether it may have it is the caller's
    /// to know.
    pub fn offer_event(&self, event: &Event) {
        if self.topics.offer(event) {
            self.mailbox.ring();
        }
    }

    /// Whether its session has ended.
    pub fn is_over(&self) -> bool {
        self.mailbox.is_closed()
    }

    /// How it feels: by its own word, by its beats and by its health probe.
    pub fn condition(&self) -> Condition {
        if self.is_ill.load(Ordering::Relaxed) {
            return Condition::Down;
        }
        match self.condition.load(Ordering::Relaxed) {
            CONDITION_HEALTHY => Condition::Healthy,
            CONDITION_DEGRADED => Condition::Degraded,
            CONDITION_DRAINING => Condition::Draining,
            _ => Condition::Down,
        }
    }

    /// Notes how it feels; answers whether that is news.
    pub(super) fn set_condition(&self, condition: Condition) -> bool {
        let value = match condition {
            Condition::Healthy => CONDITION_HEALTHY,
            Condition::Degraded => CONDITION_DEGRADED,
            Condition::Draining => CONDITION_DRAINING,
            Condition::Down => CONDITION_DOWN,
        };
        self.condition.swap(value, Ordering::Relaxed) != value
    }

    /// How many requests are kept that a session had not answered.
    pub const MOST_LOST: usize = 32;

    /// Notes that its session has ended and what it had not answered by then.
    pub(crate) fn end_with(&self, lost: Vec<OpenRequest>) {
        // A session ends once.
        let _ = self.lost.set(lost);
        self.ended.cancel();
    }

    /// Completes when its session has ended.
    pub(crate) async fn ended(&self) {
        self.ended.cancelled().await;
    }

    /// What it had not answered when its session ended, the oldest first, [`Self::MOST_LOST`] at most.
    pub fn lost(&self) -> Vec<OpenRequest> {
        self.lost.get().cloned().unwrap_or_default()
    }

    /// Notes what its health probe found; answers whether that is news.
    pub(super) fn set_ill(&self, is_ill: bool) -> bool {
        self.is_ill.swap(is_ill, Ordering::Relaxed) != is_ill
    }

    /// Whether it may be asked at all.
    pub fn is_in_rotation(&self) -> bool {
        matches!(self.condition(), Condition::Healthy | Condition::Degraded)
    }

    /// How many requests it has not answered yet, those given up included.
    pub fn in_flight(&self) -> u32 {
        self.in_flight.load(Ordering::SeqCst)
    }

    /// Takes a place for a request of `bytes`, if one is free.
    pub fn try_slot(self: &Arc<Self>, terms: &Arc<Terms>, bytes: usize) -> Option<Slot> {
        // An empty queue takes a request of any size: its frame limit was checked elsewhere.
        let unsent = self.unsent_bytes.load(Ordering::SeqCst);
        if unsent != 0 && unsent + bytes > self.most_unsent_bytes {
            return None;
        }
        take_below(&self.in_flight, self.most_in_flight)?;
        // Counted without a limit too: an `update` may set one.
        if take_below(&terms.in_flight, terms.most_in_flight.unwrap_or(u32::MAX)).is_none() {
            self.in_flight.fetch_sub(1, Ordering::SeqCst);
            return None;
        }
        self.unsent_bytes.fetch_add(bytes, Ordering::SeqCst);
        Some(Slot { instance: Arc::clone(self), terms: Arc::clone(terms), unsent: bytes })
    }
}

const CONDITION_HEALTHY: u8 = 0;
const CONDITION_DEGRADED: u8 = 1;
const CONDITION_DRAINING: u8 = 2;
const CONDITION_DOWN: u8 = 3;

/// Sequentially consistent, like everything that is counted here: who frees a place looks for those who
/// wait afterwards, who joins the queue looks for a place afterwards, and one of the two must see the other.
fn take_below(count: &AtomicU32, most: u32) -> Option<u32> {
    count.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |now| (now < most).then_some(now + 1)).ok()
}

/// A request's place at an instance: free again when it is dropped, which happens when the plugin has
/// answered or its session has ended, not when the caller leaves.
#[derive(Debug)]
pub struct Slot {
    instance: Arc<Instance>,
    terms: Arc<Terms>,
    unsent: usize,
}

impl Slot {
    /// The request's frame has been written to the socket.
    pub fn sent(&mut self) {
        self.instance.unsent_bytes.fetch_sub(std::mem::take(&mut self.unsent), Ordering::SeqCst);
        self.instance.capacity.ring();
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.instance.unsent_bytes.fetch_sub(self.unsent, Ordering::SeqCst);
        self.terms.in_flight.fetch_sub(1, Ordering::SeqCst);
        self.instance.in_flight.fetch_sub(1, Ordering::SeqCst);
        self.instance.capacity.ring();
    }
}

/// Those who wait for a free place at a plugin, over all its instances.
///
/// One line per capability, since a place may be free for one and not for another; within a line the
/// first to come is the first to go. A freed place rings for the first of each line; whoever leaves a
/// line rings for the next, so that no ring is lost on somebody who had no use for it.
#[derive(Debug, Default)]
pub struct Capacity {
    /// How many stand in all lines, so that nobody takes the lock while there are none.
    waiting: AtomicUsize,
    lines: Mutex<Lines>,
}

#[derive(Debug, Default)]
struct Lines {
    bytes: usize,
    by_capability: HashMap<CapabilityName, VecDeque<Arc<Notify>>>,
}

/// A place in the queue of a plugin.
#[derive(Debug)]
pub(crate) struct Waiting<'a> {
    capacity: &'a Capacity,
    capability: CapabilityName,
    bytes: usize,
    bell: Arc<Notify>,
}

impl Capacity {
    /// Joins the line of a capability, if the queue has room for one more request of `bytes`.
    pub(crate) fn join(
        &self,
        capability: &CapabilityName,
        bytes: usize,
        most: usize,
        most_bytes: usize,
    ) -> Option<Waiting<'_>> {
        let mut lines = self.lock();
        let waiting = self.waiting.load(Ordering::SeqCst);
        if waiting >= most || (waiting > 0 && lines.bytes + bytes > most_bytes) {
            return None;
        }
        lines.bytes += bytes;
        self.waiting.store(waiting + 1, Ordering::SeqCst);
        let bell = Arc::new(Notify::new());
        let line = lines.by_capability.entry(capability.clone()).or_default();
        line.push_back(Arc::clone(&bell));
        if line.len() == 1 {
            // A place may have been freed just before there was anybody to ring for.
            bell.notify_one();
        }
        Some(Waiting { capacity: self, capability: capability.clone(), bytes, bell })
    }

    /// Whether somebody waits for a place for this capability: who comes now comes after them.
    pub(crate) fn has_line(&self, capability: &CapabilityName) -> bool {
        self.waiting() > 0 && self.lock().by_capability.contains_key(capability)
    }

    /// A place may be free: the first of each line looks again.
    pub(super) fn ring(&self) {
        if self.waiting() > 0 {
            self.lock()
                .by_capability
                .values()
                .filter_map(VecDeque::front)
                .for_each(|bell| bell.notify_one());
        }
    }

    /// How many wait.
    pub fn waiting(&self) -> usize {
        self.waiting.load(Ordering::SeqCst)
    }

    fn lock(&self) -> MutexGuard<'_, Lines> {
        self.lines.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Waiting<'_> {
    /// Completes when this is the first in its line and a place may be free, the first time included.
    pub(crate) async fn turn(&self) {
        self.bell.notified().await;
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        let mut lines = self.capacity.lock();
        lines.bytes -= self.bytes;
        self.capacity.waiting.fetch_sub(1, Ordering::SeqCst);
        let line = lines.by_capability.get_mut(&self.capability).expect("it stands in its line");
        line.retain(|bell| !Arc::ptr_eq(bell, &self.bell));
        match line.front() {
            Some(next) => next.notify_one(),
            None => drop(lines.by_capability.remove(&self.capability)),
        }
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;

    fn capability(name: &str) -> CapabilityName {
        name.parse().unwrap()
    }

    #[test]
    fn a_plugin_without_a_list_has_a_model_under_its_own_name_unless_it_lists_all_that_it_has() {
        let models = |meta: serde_json::Value| {
            let register = serde_json::json!({
                "plugin": "p", "port": "internal", "capabilities": ["llm.chat", "a.b"], "meta": meta,
            });
            let registration = Registration::new(serde_json::from_value(register).unwrap());
            registration.models.into_iter().map(|model| model.id).collect::<Vec<String>>()
        };
        assert_eq!(models(serde_json::json!({})), ["p"]);
        assert_eq!(models(serde_json::json!({ "listsModels": false })), ["p"]);
        assert!(models(serde_json::json!({ "listsModels": true })).is_empty());
    }

    #[test]
    fn a_freed_place_rings_for_the_first_of_each_line_and_then_for_the_next() {
        let capacity = Capacity::default();
        let join = |name| capacity.join(&capability(name), 1, 10, 100).unwrap();
        let [first, second, other] = [join("a.a"), join("a.a"), join("b.b")];
        let rung = |waiting: &Waiting<'_>| waiting.turn().now_or_never().is_some();
        assert_eq!([&first, &second, &other].map(rung), [true, false, true], "whoever is first looks once");
        capacity.ring();
        assert_eq!([&first, &second, &other].map(rung), [true, false, true]);
        drop(first);
        assert_eq!([&second, &other].map(rung), [true, false], "one left: the next looks");
        drop((second, other));
        assert_eq!((capacity.waiting(), capacity.lock().bytes), (0, 0));
        assert!(!capacity.has_line(&capability("a.a")));
    }

    #[test]
    fn a_queue_is_full_by_number_or_by_bytes_and_takes_one_of_any_size() {
        let capacity = Capacity::default();
        let join = |bytes| capacity.join(&capability("a.a"), bytes, 2, 100);
        let large = join(1_000).unwrap();
        assert!(join(1).is_none());
        drop(large);
        let _small = (join(50).unwrap(), join(50).unwrap());
        assert!(join(0).is_none());
    }
}
