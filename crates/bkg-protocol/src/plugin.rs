//! The plugin's half of a session with the host.
//!
//! The mirror of [`crate::host`]: feed it frames, write what [`PluginSession::next_frame`] returns.
//! SDKs stand on it; a plugin in a language without an SDK can take it as the model of its own.

use std::time::Duration;

use crate::exchange::{Dropped, Exchange, GivenUp, Heard, Lost, NotSent, Refusal};
use crate::frame::{Decoded, Message};
use crate::inbound::{ChunkRefused, Most};
use crate::message::{
    CancelReason, Config, Event, GrantedLimits, HostMessage, PluginMessage, Register, Registered, Rejected,
    Request,
};
use crate::{Limits, PROTOCOL_VERSION, RawJson, RequestId, WireError};

/// Something that happened in a session, for the plugin to act on.
#[derive(Debug, PartialEq)]
pub enum PluginEvent<'a, W> {
    /// The registration holds.
    Registered(Box<Registered>),
    /// The registration is refused: the socket closes, and dialling again will not help.
    Rejected(Rejected),
    /// Whether an `update` holds.
    Updated(Result<(), WireError>),
    /// The host asks: answer with [`PluginSession::answer`], exactly once.
    Request(Box<Request>),
    /// Nobody wants the answer any more; the `response` is still owed.
    RequestCancelled {
        /// Which request.
        id: RequestId,
        /// Why.
        reason: CancelReason,
    },
    /// A stream that was out of credit can go on.
    MayStream(RequestId),
    /// The answer to a request of the plugin's own.
    Answered {
        /// Who waits for it.
        waiter: W,
        /// The answer.
        outcome: Result<RawJson, WireError>,
    },
    /// A part of the streamed answer to a request of the plugin's own.
    Chunk {
        /// Who waits for it.
        waiter: &'a mut W,
        /// The part.
        data: RawJson,
    },
    /// A stream broke the rules and was cut off.
    Broken {
        /// Who must be told.
        waiter: &'a mut W,
        /// What to tell.
        error: WireError,
    },
    /// A request of the plugin's own that had been given up is over.
    Released {
        /// Who had given up.
        waiter: W,
    },
    /// An event of a topic that the plugin subscribed to.
    Event(Event),
    /// New settings: put them in force, unless it is a dry run, and say `configApplied`.
    Config(Config),
    /// Finish what is there and close with 1000 within the deadline.
    Drain(Duration),
    /// The frame had no effect.
    Dropped(Dropped),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Registering,
    Open,
    Draining,
    Closed,
}

/// The plugin's half of a session.
#[derive(Debug)]
pub struct PluginSession<W> {
    phase: Phase,
    granted: GrantedLimits,
    exchange: Exchange<W, PluginMessage>,
}

impl<W> PluginSession<W> {
    /// A session that says `register` first; `seed` is 64 random bits that make its request ids unique.
    pub fn new(seed: u64, mut register: Register) -> Self {
        register.protocol = Some(PROTOCOL_VERSION);
        let limits = Limits::default();
        let mut exchange = Exchange::new(seed);
        // Urgent, so that no early beat overtakes it: it must be the first frame.
        exchange.say_urgently(&PluginMessage::Register(register));
        Self {
            phase: Phase::Registering,
            granted: GrantedLimits {
                max_frame_bytes: limits.frame_from_plugin,
                max_chunk_bytes: limits.chunk,
                stream_credit: limits.stream_credit,
            },
            exchange,
        }
    }

    /// Takes in the text of one frame; `now` is the time since the session began.
    pub fn receive(&mut self, text: &str, now: Duration) -> PluginEvent<'_, W> {
        if self.phase == Phase::Closed {
            return PluginEvent::Dropped(Dropped::OutOfPlace);
        }
        match HostMessage::decode(text) {
            Ok(Decoded::Message(message)) if self.phase == Phase::Registering => self.hear_verdict(message),
            Ok(Decoded::Message(message)) => self.hear(message, now),
            Ok(Decoded::Unknown(_)) => PluginEvent::Dropped(Dropped::UnknownType),
            Err(_) if self.phase == Phase::Registering => PluginEvent::Dropped(Dropped::Unreadable),
            Err(problem) => event_of(self.exchange.hear_unreadable(text, &problem, now, true)),
        }
    }

    fn hear_verdict(&mut self, message: HostMessage) -> PluginEvent<'_, W> {
        match message {
            HostMessage::Registered(registered) => {
                self.phase = Phase::Open;
                self.granted = registered.limits;
                PluginEvent::Registered(Box::new(registered))
            }
            HostMessage::Rejected(rejected) => {
                self.phase = Phase::Closed;
                PluginEvent::Rejected(rejected)
            }
            _ => PluginEvent::Dropped(Dropped::OutOfPlace),
        }
    }

    fn hear(&mut self, message: HostMessage, now: Duration) -> PluginEvent<'_, W> {
        match message {
            HostMessage::Registered(_) | HostMessage::Rejected(_) => {
                PluginEvent::Dropped(Dropped::OutOfPlace)
            }
            HostMessage::Updated(updated) => PluginEvent::Updated(if updated.success {
                Ok(())
            } else {
                Err(updated.error.unwrap_or_else(|| {
                    WireError::new(crate::ErrorCode::InvalidRequest, "the host refused the update")
                }))
            }),
            HostMessage::Request(request) => {
                match self.exchange.hear_request(&request, Most::ANY, self.granted.stream_credit) {
                    Ok(()) => PluginEvent::Request(Box::new(request)),
                    Err(dropped) => PluginEvent::Dropped(dropped),
                }
            }
            HostMessage::Cancel(cancel) => match self.exchange.hear_cancel(cancel.request_id.as_str()) {
                Ok(()) => PluginEvent::RequestCancelled { id: cancel.request_id, reason: cancel.reason },
                Err(dropped) => PluginEvent::Dropped(dropped),
            },
            HostMessage::Credit(credit) => {
                match self.exchange.hear_credit(credit.request_id.as_str(), credit.n) {
                    Ok(()) => PluginEvent::MayStream(credit.request_id),
                    Err(dropped) => PluginEvent::Dropped(dropped),
                }
            }
            HostMessage::Response(response) => event_of(self.exchange.hear_response(response)),
            HostMessage::Chunk(chunk) => {
                event_of(self.exchange.hear_chunk(chunk, self.granted.max_frame_bytes, now, true))
            }
            HostMessage::Event(event) => PluginEvent::Event(event),
            HostMessage::Config(config) => PluginEvent::Config(config),
            HostMessage::Drain(drain) => {
                self.phase = Phase::Draining;
                PluginEvent::Drain(Duration::from_millis(drain.deadline_ms))
            }
        }
    }

    /// Answers a request of the host; answers whether it was open. An answer that is larger than the
    /// host takes becomes a `payload_too_large` error.
    pub fn answer(&mut self, id: &RequestId, outcome: Result<RawJson, WireError>) -> bool {
        self.exchange.answer(id, outcome, self.granted.max_frame_bytes)
    }

    /// Sends a part of a streamed answer.
    ///
    /// # Errors
    /// Why it must not be sent now, or ever.
    pub fn send_chunk(&mut self, id: &RequestId, data: RawJson) -> Result<(), ChunkRefused> {
        self.exchange.send_chunk(id, data, self.granted.max_chunk_bytes)
    }

    /// Asks the host to have a capability answered.
    ///
    /// # Errors
    /// The waiter comes back where the session is not open or the frame would be too large.
    pub fn start(&mut self, mut request: Request, waiter: W) -> Result<RequestId, NotSent<W>> {
        if !matches!(self.phase, Phase::Open | Phase::Draining) {
            return Err(NotSent { waiter, why: Refusal::NotOpen });
        }
        if request.stream {
            request.credit.get_or_insert(self.granted.stream_credit);
        }
        self.exchange.start(request, waiter, self.granted.max_frame_bytes)
    }

    /// Gives up on a request of the plugin's own.
    pub fn cancel(&mut self, id: &RequestId, reason: CancelReason, now: Duration) -> GivenUp<W> {
        self.exchange.give_up(id, reason, now, true)
    }

    /// Allows `n` more chunks of a stream that the plugin asked for.
    pub fn credit(&mut self, id: &RequestId, n: u32) {
        self.exchange.grant(id, n);
    }

    /// Says anything that is neither question nor answer: health, telemetry, logs, updates, topics.
    ///
    /// Health overtakes data; the rest keeps its order.
    pub fn say(&mut self, message: &PluginMessage) {
        match message {
            PluginMessage::Health(_) => self.exchange.say_urgently(message),
            _ => self.exchange.say(message),
        }
    }

    /// The next frame to write.
    pub fn next_frame(&mut self) -> Option<String> {
        self.exchange.next_frame().map(|(text, _)| text)
    }

    /// How many bytes wait to be written.
    pub fn waiting_bytes(&self) -> usize {
        self.exchange.waiting_bytes()
    }

    /// Whether the registration holds and requests may be made.
    pub fn is_open(&self) -> bool {
        matches!(self.phase, Phase::Open | Phase::Draining)
    }

    /// Whether the host asked for an end, and nothing is left to answer or to write.
    pub fn is_drained(&self) -> bool {
        self.phase == Phase::Draining && self.exchange.owed() == 0 && self.exchange.waiting_bytes() == 0
    }

    /// How many answers the plugin owes.
    pub fn owed(&self) -> usize {
        self.exchange.owed()
    }

    /// How many answers the host owes.
    pub fn asked(&self) -> usize {
        self.exchange.asked()
    }

    /// What the host accepts.
    pub fn granted(&self) -> GrantedLimits {
        self.granted
    }

    /// The socket is gone: every waiter comes out, and the ids of requests whose answers nobody will
    /// read any more.
    pub fn end(&mut self) -> (Vec<Lost<W>>, Vec<RequestId>) {
        self.phase = Phase::Closed;
        self.exchange.end()
    }
}

fn event_of<W>(heard: Heard<'_, W>) -> PluginEvent<'_, W> {
    match heard {
        Heard::Answered { waiter, outcome } => PluginEvent::Answered { waiter, outcome },
        Heard::Chunk { waiter, data } => PluginEvent::Chunk { waiter, data },
        Heard::Broken { waiter, error } => PluginEvent::Broken { waiter, error },
        Heard::Released { waiter } => PluginEvent::Released { waiter },
        Heard::Dropped(dropped) => PluginEvent::Dropped(dropped),
    }
}
