//! How the rest of the daemon reaches the task that owns a plugin's socket.
//!
//! A mailbox is a queue that the connection empties whole whenever it wakes. Posting never waits and
//! never fails while the session lives, so a cancel can be posted from a destructor. It is bounded by
//! what may post: a request needs a [`super::Slot`], and each request posts at most one cancel and one
//! credit per half window.

use std::sync::{Arc, Mutex, PoisonError};
use std::task::Waker;
use std::time::Duration;

use bkg_protocol::exchange::Refusal;
use bkg_protocol::inbound::ChunkRefused;
use bkg_protocol::message::{Caller, CancelReason, Request};
use bkg_protocol::{PluginName, RawJson, RequestId, WireError};
use futures_util::task::AtomicWaker;
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;

use super::{Reach, Slot};
use crate::trace::TraceParent;

/// Something that the connection of an instance is to do.
#[derive(Debug)]
pub enum Order {
    /// Ask the plugin.
    Ask(Box<Ask>),
    /// Give up on a request.
    Cancel {
        /// Which.
        ticket: u64,
        /// Why.
        reason: CancelReason,
    },
    /// Allow further chunks.
    Credit {
        /// Of which request.
        ticket: u64,
        /// How many.
        n: u32,
    },
    /// Answer a request of the plugin.
    Answer {
        /// Which.
        id: RequestId,
        /// With what.
        outcome: Result<RawJson, WireError>,
    },
    /// Send a part of the answer to a request of the plugin.
    Chunk {
        /// Which.
        id: RequestId,
        /// The part.
        data: RawJson,
        /// Hears whether it was sent; without credit the part comes back.
        sent: oneshot::Sender<Result<(), (ChunkRefused, RawJson)>>,
    },
    /// Push settings, or ask about them.
    Configure {
        /// The revision that they are of, or would be.
        revision: u64,
        /// The settings.
        settings: RawJson,
        /// What they are pushed for.
        purpose: Purpose,
        /// Hears what the plugin says of them; hears nothing if the session ends before.
        applied: oneshot::Sender<Result<(), WireError>>,
    },
    /// Tell the plugin to finish, and close when it has.
    Drain {
        /// How long it may take.
        within: Duration,
    },
    /// Close the socket now.
    Close {
        /// The WebSocket close code.
        code: u16,
        /// One sentence on why.
        reason: String,
    },
}

/// What settings are sent to a plugin for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// To be in force.
    InForce,
    /// To hear whether the plugin could take them.
    DryRun,
}

/// A request on its way to a plugin.
#[derive(Debug)]
pub struct Ask {
    /// What the dispatcher calls it in later orders.
    pub ticket: u64,
    /// The request; its id is assigned by the session.
    pub request: Request,
    /// Where the answer goes.
    pub reply: Reply,
    /// The place that it takes at the instance until the plugin has answered.
    pub slot: Slot,
    /// For whom and until when, for what the plugin asks in turn.
    pub lineage: Arc<Lineage>,
}

/// For whom a request is made, and what bounds everything that is asked on its behalf.
#[derive(Debug, Clone)]
pub struct Lineage {
    /// On whose behalf; `None` for a plugin's own work.
    pub caller: Option<Arc<Caller>>,
    /// How far the caller's credential reaches.
    pub reach: Arc<Reach>,
    /// When the caller stops waiting.
    pub deadline: Instant,
    /// The plugins that have asked one another so far, the first one first.
    pub chain: Vec<PluginName>,
    /// The `x-request-id` of the HTTP request at its root.
    pub correlation_id: Option<Arc<str>>,
    /// Where it stands in a trace, if it is a part of one.
    pub traceparent: Option<TraceParent>,
}

/// Where an answer goes.
#[derive(Debug)]
pub enum Reply {
    /// One answer.
    Whole(oneshot::Sender<Result<RawJson, Failure>>),
    /// Parts, then the end. It has room for all the credit that was given and the end, so that
    /// sending never waits.
    Stream(mpsc::Sender<Part>),
}

impl Reply {
    /// Whether anybody still waits for it.
    pub fn is_awaited(&self) -> bool {
        match self {
            Self::Whole(sender) => !sender.is_closed(),
            Self::Stream(sender) => !sender.is_closed(),
        }
    }

    /// Sends the last word.
    pub fn finish(self, outcome: Result<RawJson, Failure>) {
        // Whoever asked may have left meanwhile.
        match self {
            Self::Whole(sender) => drop(sender.send(outcome)),
            Self::Stream(sender) => drop(sender.try_send(Part::End(outcome))),
        }
    }
}

/// What arrives of a streamed answer.
#[derive(Debug, PartialEq)]
pub enum Part {
    /// A part; one credit is owed for it.
    Chunk(RawJson),
    /// The end; nothing comes after it.
    End(Result<RawJson, Failure>),
}

/// Why a plugin gave no answer.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum Failure {
    /// The plugin said so, or its answer broke the protocol.
    #[error("{0}")]
    Plugin(WireError),
    /// Its session ended after the request had been handed over.
    #[error("the plugin's session ended before it answered")]
    Disconnected,
    /// Its session ended before the request had been handed over: another instance may take it.
    #[error("the plugin's session ended before it took the request")]
    NotHandedOver,
    /// The session refused to send it.
    #[error(transparent)]
    Refused(#[from] Refusal),
}

/// The queue of orders to one connection.
#[derive(Debug, Default)]
pub struct Mailbox {
    orders: Mutex<Posted>,
    waker: AtomicWaker,
}

#[derive(Debug, Default)]
struct Posted {
    orders: Vec<Order>,
    closed: bool,
}

impl Mailbox {
    /// Posts an order; it comes back if the session is over.
    pub fn post(&self, order: Order) -> Result<(), Order> {
        {
            let mut posted = self.lock();
            if posted.closed {
                return Err(order);
            }
            posted.orders.push(order);
        }
        self.waker.wake();
        Ok(())
    }

    /// Wakes the session without an order: there is something else for it to look at.
    pub(super) fn ring(&self) {
        self.waker.wake();
    }

    /// Moves all orders into `taken`, which must be empty; the two buffers swap and are used again.
    pub fn take(&self, taken: &mut Vec<Order>) {
        debug_assert!(taken.is_empty(), "the buffer is emptied before the next take");
        std::mem::swap(&mut self.lock().orders, taken);
    }

    /// Whom to wake at the next order. Register first, then [`Mailbox::take`].
    pub fn wake(&self, waker: &Waker) {
        self.waker.register(waker);
    }

    /// The session is over: what was posted comes out, and nothing more goes in.
    pub fn close(&self) -> Vec<Order> {
        let mut posted = self.lock();
        posted.closed = true;
        std::mem::take(&mut posted.orders)
    }

    /// Whether the session is over.
    pub fn is_closed(&self) -> bool {
        self.lock().closed
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Posted> {
        self.orders.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
