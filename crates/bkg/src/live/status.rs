//! The states of all plugins as events, made once for all sockets.
//!
//! Of each plugin the newest event is kept and no other: a state that is over helps nobody, so a socket
//! that was slow or away gets what it missed as the state that came of it, and memory is bounded by the
//! number of plugins. The invariant: an event is never older than a snapshot that was taken before it.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bkg_protocol::PluginName;
use bkg_protocol::message::Condition;
use indexmap::IndexMap;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::message::{ServerMessage, Text, Topic};
use crate::plugin_object::PluginObject;
use crate::registry::{PluginRecord, Reach, Registry};
use crate::telemetry::Telemetry;

/// The newest event of each plugin.
#[derive(Debug)]
pub(super) struct States {
    registry: Arc<Registry>,
    telemetry: Arc<Telemetry>,
    newest: Mutex<Newest>,
    /// The number of the newest event; wakes who follows.
    changed: watch::Sender<u64>,
}

#[derive(Debug, Default)]
struct Newest {
    seq: u64,
    plugins: IndexMap<PluginName, Event>,
}

#[derive(Debug)]
struct Event {
    seq: u64,
    text: Text,
    /// What it was made of: while that is the same, there is nothing to tell.
    record: Arc<PluginRecord>,
    conditions: Vec<Condition>,
}

impl States {
    /// The plugins as they are now; nothing has changed yet.
    pub(super) fn new(registry: Arc<Registry>, telemetry: Arc<Telemetry>) -> Self {
        let states = Self { registry, telemetry, newest: Mutex::default(), changed: watch::Sender::new(0) };
        let mut newest = states.lock();
        for record in states.registry.view().plugins() {
            newest.plugins.insert(record.entry.name.clone(), Event::new(0, record, &states.telemetry));
        }
        drop(newest);
        states
    }

    /// Makes an event of every change of the registry, until the stop.
    pub(super) async fn run(self: Arc<Self>, stop: CancellationToken) {
        let mut changes = self.registry.changes();
        while stop.run_until_cancelled(changes.changed()).await.is_some_and(|changed| changed.is_ok()) {
            self.look();
        }
    }

    /// Tells of what has changed since the last look. The registry is read under the lock: who takes a
    /// snapshot after this has one that is not older than these events.
    fn look(&self) {
        let mut newest = self.lock();
        for record in self.registry.view().plugins() {
            let name = &record.entry.name;
            if newest.plugins.get(name).is_some_and(|event| event.is_about(record)) {
                continue;
            }
            newest.seq += 1;
            let event = Event::new(newest.seq, record, &self.telemetry);
            newest.plugins.insert(name.clone(), event);
        }
        let seq = newest.seq;
        drop(newest);
        self.changed.send_if_modified(|known| std::mem::replace(known, seq) != seq);
    }

    /// The plugins within a reach, with the number that a subscription goes on from.
    pub(super) fn snapshot(&self, reach: &Reach) -> (Vec<PluginObject>, u64) {
        // Under the lock, so that no event of a state before this one comes after it.
        let newest = self.lock();
        let view = self.registry.view();
        let seen = view.plugins().filter(|record| reach.has_plugin(&record.entry.name));
        (seen.map(|record| PluginObject::of(record, &self.telemetry)).collect(), newest.seq)
    }

    /// The number of the newest event.
    pub(super) fn newest(&self) -> u64 {
        self.lock().seq
    }

    fn lock(&self) -> MutexGuard<'_, Newest> {
        self.newest.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Event {
    fn new(seq: u64, record: &Arc<PluginRecord>, telemetry: &Telemetry) -> Self {
        // Before the object is made, so that a change in between is found at the next look.
        let conditions = conditions(record).collect();
        let message = ServerMessage::Status {
            topic: Topic::Status,
            plugin_id: Some(record.entry.name.to_string()),
            seq,
            payload: Box::new(PluginObject::of(record, telemetry)),
        };
        Self { seq, text: message.text(), record: Arc::clone(record), conditions }
    }

    fn is_about(&self, record: &Arc<PluginRecord>) -> bool {
        Arc::ptr_eq(&self.record, record) && conditions(record).eq(self.conditions.iter().copied())
    }
}

fn conditions(record: &PluginRecord) -> impl Iterator<Item = Condition> {
    record.instances.iter().map(|instance| instance.condition())
}

/// One socket's place in the events.
#[derive(Debug)]
pub(super) struct StatusFeed {
    states: Arc<States>,
    changed: watch::Receiver<u64>,
    /// The number of the last event that was taken; `None` before a fresh snapshot, of which those with
    /// the number 0 are a part too.
    position: Option<u64>,
    /// Within it, the plugins of one snapshot that have the same number are taken in their order.
    taken: usize,
    reach: Arc<Reach>,
    only: Option<PluginName>,
}

impl StatusFeed {
    /// What comes after a number; everything, if there is none.
    pub(super) fn new(
        states: &Arc<States>,
        after: Option<u64>,
        reach: Arc<Reach>,
        only: Option<PluginName>,
    ) -> Self {
        let (states, changed) = (Arc::clone(states), states.changed.subscribe());
        Self { states, changed, position: after, taken: 0, reach, only }
    }

    /// The next event; `None` when the host stops.
    pub(super) async fn next(&mut self) -> Option<Text> {
        loop {
            // Before looking, so that an event that comes meanwhile wakes.
            self.changed.borrow_and_update();
            if let Some(text) = self.take() {
                return Some(text);
            }
            self.changed.changed().await.ok()?;
        }
    }

    fn take(&mut self) -> Option<Text> {
        let newest = self.states.lock();
        if self.position.is_none() {
            // What never changed in this run comes first, in the order of the catalogue.
            let mut unchanged = newest.plugins.iter().enumerate().skip(self.taken);
            let found = unchanged.find(|(_, (name, event))| event.seq == 0 && self.sees(name));
            if let Some((index, (_, event))) = found {
                self.taken = index + 1;
                return Some(event.text.clone());
            }
            self.position = Some(0);
        }
        let position = self.position.unwrap_or_default();
        let waiting = newest.plugins.iter().filter(|(name, event)| event.seq > position && self.sees(name));
        let (_, event) = waiting.min_by_key(|(_, event)| event.seq)?;
        let (seq, text) = (event.seq, event.text.clone());
        drop(newest);
        self.position = Some(seq);
        Some(text)
    }

    fn sees(&self, plugin: &PluginName) -> bool {
        self.only.as_ref().is_none_or(|only| only == plugin) && self.reach.has_plugin(plugin)
    }
}
