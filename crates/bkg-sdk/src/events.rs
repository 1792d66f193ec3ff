//! Events of topics: who in this plugin wants which.
//!
//! Delivery is at most once and never waits: a subscriber that falls behind misses the oldest events
//! and can ask how many. The host hears of a topic with its first subscriber and after its last.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard};

use bkg_protocol::message::{Event, PluginMessage, Topic};
use tokio::sync::broadcast;
use tokio::sync::broadcast::error::RecvError;

use crate::host::Host;

/// How many events a subscriber may be behind before it misses the oldest.
const BEHIND: usize = 256;

#[derive(Debug, Default)]
pub(crate) struct Topics {
    subscribers: Mutex<HashMap<String, broadcast::Sender<Event>>>,
}

impl Topics {
    fn lock(&self) -> MutexGuard<'_, HashMap<String, broadcast::Sender<Event>>> {
        self.subscribers.lock().expect("nothing panics under this lock")
    }

    /// A receiver, and whether the host has yet to hear of the topic.
    fn enter(&self, topic: &str) -> (broadcast::Receiver<Event>, bool) {
        let mut subscribers = self.lock();
        if let Some(sender) = subscribers.get(topic) {
            return (sender.subscribe(), false);
        }
        let (sender, receiver) = broadcast::channel(BEHIND);
        subscribers.insert(topic.to_owned(), sender);
        (receiver, true)
    }

    /// Takes note that a receiver goes, while it still counts; answers whether it was the last.
    fn leave(&self, topic: &str) -> bool {
        let mut subscribers = self.lock();
        let last = subscribers.get(topic).is_some_and(|sender| sender.receiver_count() <= 1);
        if last {
            subscribers.remove(topic);
        }
        last
    }

    /// Hands an event to the subscribers of its topic.
    pub(crate) fn deliver(&self, event: Event) {
        if let Some(sender) = self.lock().get(&event.topic) {
            // An error means that the last one has just left.
            let _ = sender.send(event);
        }
    }

    /// What a new session has to be told.
    pub(crate) fn names(&self) -> Vec<String> {
        self.lock().keys().cloned().collect()
    }

    /// No event will come any more.
    pub(crate) fn close(&self) {
        self.lock().clear();
    }
}

/// The events of one topic, from the moment of the subscription on; ends when it is dropped.
#[derive(Debug)]
pub struct Subscription {
    topic: String,
    receiver: broadcast::Receiver<Event>,
    missed: u64,
    host: Host,
}

impl Subscription {
    pub(crate) fn new(host: Host, topic: &str) -> Self {
        let (receiver, is_first) = host.topics().enter(topic);
        if is_first {
            host.say(&PluginMessage::Subscribe(Topic { topic: topic.to_owned() }));
        }
        Self { topic: topic.to_owned(), receiver, missed: 0, host }
    }

    /// The next event; `None` once the plugin is stopping. Events of the time without a session are
    /// gone.
    pub async fn next(&mut self) -> Option<Event> {
        loop {
            match self.receiver.recv().await {
                Ok(event) => return Some(event),
                Err(RecvError::Lagged(missed)) => self.missed += missed,
                Err(RecvError::Closed) => return None,
            }
        }
    }

    /// How many events were missed so far because they were not taken in time.
    pub fn missed(&self) -> u64 {
        self.missed
    }
}

impl Drop for Subscription {
    fn drop(&mut self) {
        if self.host.topics().leave(&self.topic) {
            self.host.say(&PluginMessage::Unsubscribe(Topic { topic: std::mem::take(&mut self.topic) }));
        }
    }
}
