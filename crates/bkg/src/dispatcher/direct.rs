//! A question of the host's own to one certain instance, whether or not it is in rotation.
//!
//! Not for anybody's request: those go where the dispatcher picks. The invariant: it takes a place like
//! every request, so a plugin never has more to do than it said it can. The supervisor's health probe
//! asks so.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bkg_protocol::message::Request;
use bkg_protocol::{CapabilityName, RawJson};
use tokio::sync::oneshot;
use tokio::time::{Instant, timeout};

use super::OpenCall;
use crate::registry::{Ask, Failure, Instance, Lineage, Order, Reply};

/// The host's own tickets count from here, those of requests from 1: they never meet.
static TICKETS: AtomicU64 = AtomicU64::new(1 << 63);

/// Why an instance could not be asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum NotAsked {
    /// It does not offer the capability.
    NotOffered,
    /// All its places are taken.
    NoPlace,
    /// Its session has ended.
    Gone,
}

/// A question that an instance has; dropping it before the answer came cancels it.
#[derive(Debug)]
pub(crate) struct Asked {
    call: OpenCall,
    answer: oneshot::Receiver<Result<RawJson, Failure>>,
}

/// Hands a question to an instance, for the host itself. What it asks others in turn may take `within`.
pub(crate) fn ask_instance(
    instance: &Arc<Instance>,
    capability: &CapabilityName,
    payload: RawJson,
    within: Duration,
) -> Result<Asked, NotAsked> {
    let terms = instance.registration().terms(capability.as_str()).cloned().ok_or(NotAsked::NotOffered)?;
    let slot = instance.try_slot(&terms, payload.as_str().len()).ok_or(NotAsked::NoPlace)?;
    let (ticket, begun) = (TICKETS.fetch_add(1, Ordering::Relaxed), Instant::now());
    let deadline = begun + within;
    let lineage = Lineage {
        caller: None,
        reach: Arc::default(),
        deadline,
        chain: Vec::new(),
        correlation_id: None,
        traceparent: None,
    };
    let (sender, answer) = oneshot::channel();
    let ask = Ask {
        ticket,
        request: Request::new(capability.clone(), payload),
        reply: Reply::Whole(sender),
        slot,
        lineage: Arc::new(lineage),
    };
    instance.mailbox.post(Order::Ask(Box::new(ask))).map_err(|_| NotAsked::Gone)?;
    Ok(Asked { call: OpenCall::new(Arc::clone(instance), ticket, begun, deadline), answer })
}

impl Asked {
    /// The answer, if it comes within this time; else the question stays open and may be awaited again.
    pub(crate) async fn within(&mut self, time: Duration) -> Option<Result<RawJson, Failure>> {
        let answer = timeout(time, &mut self.answer).await.ok()?;
        self.call.answered();
        Some(answer.unwrap_or(Err(Failure::Disconnected)))
    }
}
