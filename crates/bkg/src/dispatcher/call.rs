//! A request that a plugin has and has not answered yet.
//!
//! The invariant: a call that ends in any other way than the plugin's answer, the caller's leaving
//! included, is cancelled at the plugin at once.

use std::sync::Arc;
use std::time::Duration;

use bkg_protocol::RawJson;
use bkg_protocol::message::CancelReason;
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, timeout_at};

use super::CallError;
use crate::registry::{Failure, Instance, Order, Part, Side, TrafficShare};
use crate::trace::Span;

/// A request in the hands of an instance; dropping it cancels it.
#[derive(Debug)]
pub(super) struct OpenCall {
    instance: Arc<Instance>,
    ticket: u64,
    begun: Instant,
    deadline: Instant,
    /// What the plugin is told if this is dropped; `None` once it has answered.
    cancel: Option<CancelReason>,
    observation: Option<Observation>,
    /// Its span, if it is traced; it ends with the call.
    span: Option<Span>,
}

/// Where what becomes of a call is counted, while two versions of a plugin are compared.
#[derive(Debug)]
pub(super) struct Observation {
    share: Arc<TrafficShare>,
    side: Side,
    begun: Instant,
    /// How long the first part of a stream took.
    first: Option<Duration>,
}

impl Observation {
    pub(super) fn new(share: Arc<TrafficShare>, side: Side) -> Self {
        Self { share, side, begun: Instant::now(), first: None }
    }

    /// The first part of a stream has come.
    fn begins(&mut self) {
        self.first.get_or_insert_with(|| self.begun.elapsed());
    }

    /// The call has ended, and not because its caller left.
    fn ended(self, failure: Option<&CallError>) {
        let is_plugins = match failure {
            None => false,
            Some(CallError::Timeout { .. }) => true,
            // What was never handed over goes elsewhere, and no one has answered yet.
            Some(CallError::Failed { failure: Failure::NotHandedOver, .. }) => return,
            Some(CallError::Failed { failure: Failure::Plugin(error), .. }) => {
                error.claimed().status() >= 500
            }
            Some(_) => true,
        };
        self.share.ended(self.side, self.first.unwrap_or_else(|| self.begun.elapsed()), is_plugins);
    }
}

impl OpenCall {
    pub(super) fn new(instance: Arc<Instance>, ticket: u64, begun: Instant, deadline: Instant) -> Self {
        Self {
            instance,
            ticket,
            begun,
            deadline,
            cancel: Some(CancelReason::CallerGone),
            observation: None,
            span: None,
        }
    }

    pub(super) fn observed(mut self, observation: Option<Observation>) -> Self {
        self.observation = observation;
        self
    }

    pub(super) fn traced(mut self, span: Option<Span>) -> Self {
        self.span = span;
        self
    }

    /// Counts the call, if it is counted and was not yet, and ends its span.
    fn ended(&mut self, failure: Option<&CallError>) {
        if let (Some(mut span), Some(failure)) = (self.span.take(), failure) {
            span.fail(failure.code().as_str());
        }
        if let Some(observation) = self.observation.take() {
            observation.ended(failure);
        }
    }

    /// Waits for the one answer.
    pub(super) async fn whole(
        mut self,
        answer: oneshot::Receiver<Result<RawJson, Failure>>,
    ) -> Result<RawJson, CallError> {
        let outcome = match timeout_at(self.deadline, answer).await {
            Err(_) => Err(self.timed_out()),
            Ok(answer) => {
                self.cancel = None;
                // A sender that was dropped without a word belonged to a connection that is gone.
                answer.unwrap_or(Err(Failure::Disconnected)).map_err(|failure| self.failed(failure))
            }
        };
        self.ended(outcome.as_ref().err());
        outcome
    }

    /// The answer came: nothing is left to cancel.
    pub(super) fn answered(&mut self) {
        self.cancel = None;
    }

    fn timed_out(&mut self) -> CallError {
        self.cancel = self.cancel.map(|_| CancelReason::Deadline);
        CallError::Timeout { plugin: self.instance.plugin.clone(), waited: self.begun.elapsed() }
    }

    fn failed(&self, failure: Failure) -> CallError {
        CallError::Failed { plugin: self.instance.plugin.clone(), failure }
    }
}

impl Drop for OpenCall {
    fn drop(&mut self) {
        if let Some(reason) = self.cancel {
            if let Some(span) = &mut self.span {
                span.fail(if reason == CancelReason::Deadline { "timeout" } else { "cancelled" });
            }
            // A mailbox that refuses belongs to a session that is over: nothing is left to cancel.
            let _ = self.instance.mailbox.post(Order::Cancel { ticket: self.ticket, reason });
        }
    }
}

/// What comes out of a stream.
#[derive(Debug, PartialEq)]
pub enum Item {
    /// A part.
    Chunk(RawJson),
    /// The end: what the final `response` carried, or why the stream broke. Nothing follows.
    End(Result<RawJson, CallError>),
}

/// A streamed answer whose first part has arrived; dropping it before its end cancels it.
#[derive(Debug)]
pub struct Stream {
    call: OpenCall,
    parts: mpsc::Receiver<Part>,
    first: Option<Item>,
    /// How many chunks the caller has taken since credit was last given.
    taken: u32,
    /// At how many taken chunks credit is given.
    batch: u32,
}

impl Stream {
    /// Waits for the first part: an error before it is the error of the whole call.
    pub(super) async fn begin(
        call: OpenCall,
        parts: mpsc::Receiver<Part>,
        credit: u32,
    ) -> Result<Self, CallError> {
        let mut stream = Self { call, parts, first: None, taken: 0, batch: (credit / 2).max(1) };
        match stream.receive().await {
            Item::End(Err(error)) => Err(error),
            item => {
                stream.first = Some(item);
                Ok(stream)
            }
        }
    }

    /// When the caller stops waiting.
    pub fn deadline(&self) -> Instant {
        self.call.deadline
    }

    /// Gives the stream up because its deadline passed while what had come could not be passed on.
    pub fn run_out(mut self) -> CallError {
        self.call.timed_out()
    }

    /// The next part, or the end. Dropping the future loses nothing.
    pub async fn next(&mut self) -> Item {
        let item = match self.first.take() {
            Some(item) => item,
            None => self.receive().await,
        };
        self.give_credit(&item);
        item
    }

    /// The next part, or the end, if it is there already.
    pub fn try_next(&mut self) -> Option<Item> {
        let item = match self.first.take() {
            Some(item) => item,
            None => {
                let part = self.parts.try_recv().ok()?;
                self.item(Some(part))
            }
        };
        self.give_credit(&item);
        Some(item)
    }

    fn give_credit(&mut self, item: &Item) {
        if matches!(item, Item::Chunk(_)) {
            self.taken += 1;
            // Past the deadline no more is allowed: a stream that never pauses would never see it.
            if self.taken == self.batch && Instant::now() < self.call.deadline {
                let n = std::mem::take(&mut self.taken);
                let _ = self.call.instance.mailbox.post(Order::Credit { ticket: self.call.ticket, n });
            }
        }
    }

    async fn receive(&mut self) -> Item {
        match timeout_at(self.call.deadline, self.parts.recv()).await {
            Ok(part) => self.item(part),
            Err(_) => {
                let late = self.call.timed_out();
                self.call.ended(Some(&late));
                Item::End(Err(late))
            }
        }
    }

    fn item(&mut self, part: Option<Part>) -> Item {
        let item = match part {
            Some(Part::Chunk(data)) => {
                if let Some(observation) = &mut self.call.observation {
                    observation.begins();
                }
                return Item::Chunk(data);
            }
            Some(Part::End(outcome)) => {
                self.call.cancel = None;
                Item::End(outcome.map_err(|failure| self.call.failed(failure)))
            }
            None => {
                self.call.cancel = None;
                // Its session gave it up when the time was over, or is itself over.
                let is_late = Instant::now() >= self.call.deadline;
                let error =
                    if is_late { self.call.timed_out() } else { self.call.failed(Failure::Disconnected) };
                Item::End(Err(error))
            }
        };
        if let Item::End(outcome) = &item {
            self.call.ended(outcome.as_ref().err());
        }
        item
    }
}

#[cfg(test)]
mod tests {
    use bkg_protocol::InstanceId;
    use bkg_protocol::host::Contract;
    use serde_json::json;

    use super::*;
    use crate::config::{Layers, PluginEntry};
    use crate::registry::{NewInstance, Registration, TeamId};

    fn instance() -> Arc<Instance> {
        let named = json!({ "name": "p" }).as_object().unwrap().clone();
        let layers = Layers::default().with_saved(0, named);
        let register = json!({ "plugin": "p", "port": "internal", "capabilities": ["a.b"] });
        Arc::new(Instance::new(NewInstance {
            id: InstanceId::new(),
            team: TeamId::default(),
            pid: None,
            confinement: Arc::default(),
            contract: Contract::Extended,
            verified: true,
            registration: Registration::new(serde_json::from_value(register).unwrap()),
            entry: Arc::new(PluginEntry::of(layers, 0).unwrap()),
            most_in_flight: 1,
            most_unsent_bytes: 1,
            frame_limit: 1 << 20,
            capacity: Arc::default(),
        }))
    }

    /// What a caller gets of a stream that always has a chunk ready, and what credit it gives for it.
    async fn drain(instance: &Arc<Instance>, deadline: Instant) -> (Item, usize) {
        let (sender, parts) = mpsc::channel(3);
        for _ in 0..2 {
            sender.try_send(Part::Chunk(RawJson::of(&1))).unwrap();
        }
        let call = OpenCall::new(Arc::clone(instance), 1, Instant::now(), deadline);
        let mut stream = Stream::begin(call, parts, 2).await.unwrap();
        stream.next().await;
        let item = stream.next().await;
        let mut orders = Vec::new();
        instance.mailbox.take(&mut orders);
        (item, orders.iter().filter(|order| matches!(order, Order::Credit { .. })).count())
    }

    #[tokio::test]
    async fn a_stream_past_its_deadline_is_given_no_more_credit() {
        let instance = instance();
        let chunk = || Item::Chunk(RawJson::of(&1));
        let (early, late) = (Instant::now() + Duration::from_secs(60), Instant::now());
        assert_eq!(drain(&instance, early).await, (chunk(), 2));
        assert_eq!(drain(&instance, late).await, (chunk(), 0));
    }
}
