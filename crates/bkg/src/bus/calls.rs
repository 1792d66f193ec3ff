//! What plugins ask of each other, through the host.
//!
//! A plugin may ask only for what its entry's `calls` lists and, while it answers a request, only for
//! what that request's caller may do. The time that the caller allowed is inherited, and so is the
//! depth. Every request is answered exactly once, whatever happens.

use std::sync::Arc;
use std::time::Duration;

use bkg_protocol::inbound::ChunkRefused;
use bkg_protocol::message::Request;
use bkg_protocol::{CapabilityName, ErrorCode, RawJson, RequestId, Scopes, WireError};
use tokio::sync::{Notify, oneshot};
use tokio::time::{Instant, timeout_at};

use super::Bus;
use super::authorize::{self, AUTHORIZE};
use crate::auth::scope_of;
use crate::config::PluginEntry;
use crate::dispatcher::{Answer, CallError, Item, Question, Stream, Target};
use crate::error::wire_error;
use crate::registry::{Failure, Instance, Lineage, Order, View};
use crate::web::Meter;

/// A request that a plugin makes, with what is known about it.
pub(super) struct PluginCall {
    pub(super) bus: Arc<Bus>,
    /// Who asks.
    pub(super) instance: Arc<Instance>,
    /// Its entry as it is now: what it may call is the host's business, and holds at once.
    pub(super) entry: Arc<PluginEntry>,
    /// The request that it was answering when it asked, if it said so.
    pub(super) parent: Option<Arc<Lineage>>,
    pub(super) request: Request,
    /// Rings when further chunks may be sent.
    pub(super) may_stream: Arc<Notify>,
}

impl PluginCall {
    /// Has the request answered by whoever offers the capability.
    pub(super) async fn run(self) {
        let id = self.request.request_id.clone();
        let outcome = self.ask().await;
        // A mailbox that refuses belongs to a plugin that is gone, and nobody waits there.
        let _ = self.instance.mailbox.post(Order::Answer { id, outcome });
    }

    async fn ask(&self) -> Result<RawJson, WireError> {
        let mut lineage = self.lineage()?;
        let request = &self.request;
        // The host's own to answer; everything else is somebody's.
        if request.capability.as_str() == AUTHORIZE {
            let name = &self.entry.name;
            return authorize::answer(&self.bus, name, &request.payload, lineage.deadline).await;
        }
        // What a plugin does on its own account is nobody's use.
        let mut meter =
            lineage.caller.is_some().then(|| self.bus.metering.begin(&lineage, &request.capability, None));
        if let Some(meter) = &mut meter {
            lineage.traceparent = meter.traceparent();
            meter.admit_on_behalf(&request.payload).map_err(|problem| problem.on_the_wire())?;
        }
        let question = Question {
            target: Target::Any,
            capability: request.capability.clone(),
            payload: request.payload.clone(),
            streamed_payload: request.stream.then(|| request.payload.clone()),
            http: None,
            lineage,
        };
        let outcome = match self.bus.dispatcher.ask(question).await {
            Ok(answered) => {
                if let Some(meter) = &mut meter {
                    meter.answered_by(&answered.plugin);
                }
                match answered.answer {
                    Answer::Whole(data) => Ok(data),
                    Answer::Stream(stream) => self.forward(*stream, meter.as_mut()).await,
                }
            }
            Err(error) => Err(error),
        };
        if let Some(meter) = &mut meter {
            match &outcome {
                Ok(data) => {
                    meter.read_tokens(data);
                    meter.succeeded();
                }
                Err(error) => meter.failed(&error.clone().into()),
            }
        }
        outcome.map_err(|error| wire_error(&error))
    }

    /// For whom and until when: inherited, bounded, and refused where a right is missing.
    fn lineage(&self) -> Result<Lineage, WireError> {
        if self.parent.is_none() && self.request.parent_request_id.is_some() {
            // Never on the plugin's own account instead: that has no caller, and so no bounds.
            let message = "the request that this is asked for, `parentRequestId`, is not open: it was answered or given up";
            return Err(WireError::new(ErrorCode::Cancelled, message));
        }
        may_ask(&self.entry, self.parent.as_deref(), &self.request.capability, &self.bus.registry.view())?;
        let limits = &self.bus.config.limits;
        let mut chain = self.parent.as_ref().map(|parent| parent.chain.clone()).unwrap_or_default();
        chain.push(self.entry.name.clone());
        if chain.len() > limits.call_depth as usize {
            return Err(WireError::new(
                ErrorCode::Overloaded,
                format!("plugins asked one another {} deep: look for a circle", limits.call_depth),
            ));
        }
        let own = Instant::now()
            + self.request.timeout_ms.map_or(self.bus.config.http.request_timeout, Duration::from_millis);
        // A plugin that records spans of its own says which of them asks.
        let said = self.request.traceparent.as_deref().and_then(|text| text.parse().ok());
        Ok(match &self.parent {
            Some(parent) => Lineage {
                deadline: parent.deadline.min(own),
                chain,
                traceparent: said.or(parent.traceparent),
                ..Lineage::clone(parent)
            },
            None => Lineage {
                caller: None,
                reach: Arc::default(),
                deadline: own,
                chain,
                correlation_id: None,
                traceparent: said,
            },
        })
    }

    /// Passes a stream on as the asking plugin gives credit for it.
    async fn forward(
        &self,
        mut stream: Stream,
        mut meter: Option<&mut Meter>,
    ) -> Result<RawJson, CallError> {
        if let Some(meter) = &mut meter {
            meter.streams();
        }
        loop {
            let data = match stream.next().await {
                Item::Chunk(data) => data,
                Item::End(outcome) => return outcome,
            };
            if let Some(meter) = &mut meter {
                meter.read_tokens(&data);
            }
            // Whoever asks and gives no credit keeps a place at the other plugin no longer than anybody.
            match timeout_at(stream.deadline(), self.send(data)).await {
                Ok(Ok(())) => {}
                Ok(Err(error)) => {
                    let plugin = self.entry.name.clone();
                    return Err(CallError::Failed { plugin, failure: Failure::Plugin(error) });
                }
                Err(_) => return Err(stream.run_out()),
            }
        }
    }

    async fn send(&self, mut data: RawJson) -> Result<(), WireError> {
        loop {
            let mut credit = std::pin::pin!(self.may_stream.notified());
            credit.as_mut().enable();
            let (sent, outcome) = oneshot::channel();
            let order = Order::Chunk { id: self.request.request_id.clone(), data, sent };
            let gone = || WireError::new(ErrorCode::Cancelled, "the asking plugin has left");
            self.instance.mailbox.post(order).map_err(|_| gone())?;
            match outcome.await.map_err(|_| gone())? {
                Ok(()) => return Ok(()),
                Err((ChunkRefused::NoCredit, back)) => {
                    data = back;
                    credit.await;
                }
                Err((refused, _)) => return Err(WireError::new(ErrorCode::Cancelled, refused.to_string())),
            }
        }
    }
}

/// Whether a plugin may ask for a capability, for itself or on behalf of `parent`'s caller.
fn may_ask(
    entry: &PluginEntry,
    parent: Option<&Lineage>,
    capability: &CapabilityName,
    view: &View,
) -> Result<(), WireError> {
    let forbidden = |message: String| Err(WireError::new(ErrorCode::Forbidden, message));
    if capability.is_for_the_host_alone() {
        return forbidden(format!("`{capability}` is asked for by the host only"));
    }
    if !entry.may_call(capability) {
        return forbidden(format!(
            "the entry of `{}` does not list `{capability}`: add it to `calls`",
            entry.name
        ));
    }
    if let Some(caller) = parent.and_then(|parent| parent.caller.as_ref()) {
        let scopes = Scopes::lenient(caller.scopes.iter().map(String::as_str));
        // Whichever of them answers: their entries may demand more than the capability's name.
        let answering = view.answering(capability.as_str()).iter();
        let chosen = answering
            .chain(view.coming_for(capability.as_str()))
            .map(|record| record.entry.scopes.get(capability));
        let needed = chosen.map(|chosen| scope_of(chosen, capability)).chain([capability.as_str()]);
        if let Some(missing) = needed.into_iter().find(|scope| !scopes.grant(scope)) {
            return forbidden(format!(
                "`{}` may not use `{capability}`, on whose behalf this is asked: the scope `{missing}` is needed",
                caller.user
            ));
        }
    }
    Ok(())
}

/// The requests of one plugin that are being answered: what rings when their streams may go on, and
/// what ends them when the plugin gives up or leaves.
#[derive(Debug, Default)]
pub(super) struct OpenCalls {
    calls: std::collections::HashMap<RequestId, (Arc<Notify>, tokio::task::AbortHandle)>,
}

impl OpenCalls {
    pub(super) fn enter(&mut self, id: RequestId, may_stream: Arc<Notify>, task: tokio::task::AbortHandle) {
        self.calls.insert(id, (may_stream, task));
    }

    pub(super) fn may_stream(&self, id: &RequestId) {
        if let Some((notify, _)) = self.calls.get(id) {
            notify.notify_waiters();
        }
    }

    /// There is room again for what was held back.
    pub(super) fn all_may_stream(&self) {
        for (notify, _) in self.calls.values() {
            notify.notify_waiters();
        }
    }

    /// The call was answered; answers whether it was open.
    pub(super) fn leave(&mut self, id: &RequestId) -> bool {
        self.calls.remove(id).is_some()
    }

    /// The plugin gave up: dropping the task cancels the call where it is.
    pub(super) fn abort(&mut self, id: &RequestId) -> bool {
        let call = self.calls.remove(id);
        call.is_some_and(|(_, task)| {
            task.abort();
            true
        })
    }

    pub(super) fn abort_all(&mut self) {
        for (_, (_, task)) in self.calls.drain() {
            task.abort();
        }
    }
}
