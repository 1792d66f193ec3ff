//! Requests and answers in both directions, as either side keeps them.
//!
//! Host and plugin ask each other with the same five messages, so both halves are this exchange plus
//! their own rules of registration. Pure: frames and times go in, frames and verdicts come out.

use std::time::Duration;

use crate::frame::{FrameError, Message, request_id_of};
use crate::inbound::{Admission, ChunkRefused, Inbound, Most};
use crate::message::{Cancel, CancelReason, Chunk, Credit, HostMessage, PluginMessage, Request, Response};
use crate::outbound::{Arrived, Breach, Outbound, Settled};
use crate::outbox::{Outbox, Unread};
use crate::{ErrorCode, RawJson, RequestId, WireError};

/// The messages of an exchange, as one direction wraps them.
pub(crate) trait Direction: Message {
    fn request(request: Request) -> Self;
    fn response(response: Response) -> Self;
    fn chunk(chunk: Chunk) -> Self;
    fn cancel(cancel: Cancel) -> Self;
    fn credit(credit: Credit) -> Self;
}

macro_rules! direction {
    ($message:ident) => {
        impl Direction for $message {
            fn request(request: Request) -> Self {
                Self::Request(request)
            }
            fn response(response: Response) -> Self {
                Self::Response(response)
            }
            fn chunk(chunk: Chunk) -> Self {
                Self::Chunk(chunk)
            }
            fn cancel(cancel: Cancel) -> Self {
                Self::Cancel(cancel)
            }
            fn credit(credit: Credit) -> Self {
                Self::Credit(credit)
            }
        }
    };
}

direction!(HostMessage);
direction!(PluginMessage);

/// Why a request was not sent; the waiter comes back.
#[derive(Debug, PartialEq, Eq)]
pub struct NotSent<W> {
    /// Who would have waited.
    pub waiter: W,
    /// Why.
    pub why: Refusal,
}

/// Why a request was not sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// The session takes no requests now: it is not registered yet, drains, or is closed.
    #[error("the session takes no new requests")]
    NotOpen,
    /// The frame would be larger than the other side takes.
    #[error("the request has {size} bytes, and its receiver takes frames of at most {limit}")]
    TooLarge {
        /// The frame's size in bytes.
        size: usize,
        /// The limit in bytes.
        limit: usize,
    },
}

/// What giving a request up did.
#[derive(Debug, PartialEq, Eq)]
pub enum GivenUp<W> {
    /// It had not been written yet: it never will be, and its waiter comes back.
    Retracted(W),
    /// The other side was told; the waiter comes out with the `response`.
    Told,
    /// It was over, or given up before.
    Over,
}

/// A waiter whose session ended.
#[derive(Debug, PartialEq, Eq)]
pub struct Lost<W> {
    /// Who waits.
    pub waiter: W,
    /// Whether the request had been handed over; if not, it may go to another instance.
    pub handed_over: bool,
}

/// What an incoming answer means, before either half gives it its own name.
pub(crate) enum Heard<'a, W> {
    Answered { waiter: W, outcome: Result<RawJson, WireError> },
    Chunk { waiter: &'a mut W, data: RawJson },
    Broken { waiter: &'a mut W, error: WireError },
    Released { waiter: W },
    Dropped(Dropped),
}

/// Why a readable frame had no effect.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Dropped {
    /// Its request was given up before; nothing is wrong.
    Late,
    /// It names a request that is not open: answered twice, or never asked.
    UnknownRequest,
    /// It asks under an id that is still open.
    DuplicateRequest,
    /// Its `type` is not known to this version.
    UnknownType,
    /// Its `type` is not for a plugin of the base contract, or not for this moment.
    OutOfPlace,
    /// It cannot be read.
    Unreadable,
}

/// Requests and answers of one session; `M` is what this side says.
#[derive(Debug)]
pub(crate) struct Exchange<W, M> {
    outbound: Outbound<W>,
    inbound: Inbound,
    outbox: Outbox,
    says: std::marker::PhantomData<fn() -> M>,
}

impl<W, M: Direction> Exchange<W, M> {
    pub(crate) fn new(seed: u64) -> Self {
        Self {
            outbound: Outbound::new(seed),
            inbound: Inbound::default(),
            outbox: Outbox::default(),
            says: std::marker::PhantomData,
        }
    }

    pub(crate) fn start(
        &mut self,
        mut request: Request,
        waiter: W,
        max_frame: usize,
    ) -> Result<RequestId, NotSent<W>> {
        let id = self.outbound.next_id();
        request.request_id = id.clone();
        let credit = request.stream.then_some(request.credit.unwrap_or(0));
        let text = M::request(request).encode();
        if text.len() > max_frame {
            let why = Refusal::TooLarge { size: text.len(), limit: max_frame };
            return Err(NotSent { waiter, why });
        }
        let number = self.outbound.open(credit, waiter);
        self.outbox.push_request(number, text);
        Ok(id)
    }

    pub(crate) fn give_up(
        &mut self,
        id: &RequestId,
        reason: CancelReason,
        now: Duration,
        tell: bool,
    ) -> GivenUp<W> {
        let Some(number) = self.outbound.number(id.as_str()) else { return GivenUp::Over };
        if !self.outbound.was_written(number) {
            self.outbox.retract(number);
            return self.outbound.withdraw(number).map_or(GivenUp::Over, GivenUp::Retracted);
        }
        if !self.outbound.give_up(number, now) {
            return GivenUp::Over;
        }
        if tell {
            self.push_cancel(id.clone(), reason);
        }
        GivenUp::Told
    }

    pub(crate) fn grant(&mut self, id: &RequestId, n: u32) {
        let Some(number) = self.outbound.number(id.as_str()) else { return };
        if !self.outbound.grant(number, n) || n == 0 {
            return;
        }
        let text = M::credit(Credit { request_id: id.clone(), n }).encode();
        if self.outbound.was_written(number) {
            self.outbox.push_urgent(text);
        } else {
            self.outbox.push_request(number, text);
        }
    }

    pub(crate) fn hear_response(&mut self, response: Response) -> Heard<'_, W> {
        match self.outbound.settle(response.request_id.as_str()) {
            Settled::Answered(waiter) => Heard::Answered { waiter, outcome: response.outcome },
            Settled::Released(waiter) => Heard::Released { waiter },
            Settled::Unknown => Heard::Dropped(Dropped::UnknownRequest),
        }
    }

    pub(crate) fn hear_chunk(
        &mut self,
        chunk: Chunk,
        max_chunk: usize,
        now: Duration,
        tell: bool,
    ) -> Heard<'_, W> {
        let Chunk { request_id, seq, data } = chunk;
        let size = data.as_str().len();
        match self.outbound.arrive(request_id.as_str(), seq, size, max_chunk, now) {
            Arrived::Deliver(waiter) => Heard::Chunk { waiter, data },
            Arrived::Broken(waiter, breach) => {
                if tell {
                    let reason = match breach {
                        Breach::Overrun => CancelReason::FlowControl,
                        _ => CancelReason::Protocol,
                    };
                    self.outbox.push_urgent(M::cancel(Cancel { request_id, reason }).encode());
                }
                Heard::Broken { waiter, error: breach_error(breach) }
            }
            Arrived::Late => Heard::Dropped(Dropped::Late),
            Arrived::Unknown => Heard::Dropped(Dropped::UnknownRequest),
        }
    }

    /// Takes in a frame whose fields cannot be read. Where it still names its request, whoever waits
    /// for that request hears of it now instead of at the deadline.
    pub(crate) fn hear_unreadable(
        &mut self,
        text: &str,
        problem: &FrameError,
        now: Duration,
        tell: bool,
    ) -> Heard<'_, W> {
        let unreadable = Heard::Dropped(Dropped::Unreadable);
        let FrameError::Fields { kind, .. } = problem else { return unreadable };
        let Some(request_id) = request_id_of(text) else { return unreadable };
        match kind.as_str() {
            "response" => {
                let error = WireError::new(ErrorCode::PluginError, problem.brief());
                match self.hear_response(Response { request_id, outcome: Err(error) }) {
                    Heard::Dropped(_) => unreadable,
                    heard => heard,
                }
            }
            "chunk" => match self.outbound.arrive_unreadable(request_id.as_str(), now) {
                Arrived::Broken(waiter, breach) => {
                    if tell {
                        let cancel = Cancel { request_id, reason: CancelReason::Protocol };
                        self.outbox.push_urgent(M::cancel(cancel).encode());
                    }
                    Heard::Broken { waiter, error: breach_error(breach) }
                }
                _ => unreadable,
            },
            // Under an id that is still open, the answer would reach the request before it.
            "request" if !self.inbound.knows(request_id.as_str()) => {
                let error = WireError::new(ErrorCode::InvalidRequest, problem.brief());
                self.outbox.push(M::response(Response { request_id, outcome: Err(error) }).encode());
                unreadable
            }
            _ => unreadable,
        }
    }

    fn push_cancel(&mut self, request_id: RequestId, reason: CancelReason) {
        self.outbox.push_urgent(M::cancel(Cancel { request_id, reason }).encode());
    }

    pub(crate) fn hear_request(
        &mut self,
        request: &Request,
        most: Most,
        default_credit: u32,
    ) -> Result<(), Dropped> {
        match self.inbound.admit(request, most, default_credit) {
            Admission::Taken => Ok(()),
            Admission::Duplicate => Err(Dropped::DuplicateRequest),
            Admission::Full => {
                let error = WireError::new(
                    ErrorCode::Overloaded,
                    format!(
                        "{} requests of {} bytes are open in this session already: wait for answers first",
                        self.inbound.len(),
                        self.inbound.bytes()
                    ),
                );
                let response = Response { request_id: request.request_id.clone(), outcome: Err(error) };
                self.outbox.push(M::response(response).encode());
                Err(Dropped::OutOfPlace)
            }
        }
    }

    pub(crate) fn hear_cancel(&mut self, id: &str) -> Result<(), Dropped> {
        self.inbound.cancel(id).then_some(()).ok_or(Dropped::UnknownRequest)
    }

    pub(crate) fn hear_credit(&mut self, id: &str, n: u32) -> Result<(), Dropped> {
        // A reader that gives credit as the answer ends has done nothing wrong.
        self.inbound.credit(id, n).then_some(()).ok_or(Dropped::Late)
    }

    /// Sends the one answer; answers whether the request was open. After a `cancel` nobody wants to
    /// know more than that it is over.
    pub(crate) fn answer(
        &mut self,
        request_id: &RequestId,
        outcome: Result<RawJson, WireError>,
        max_frame: usize,
    ) -> bool {
        let was_cancelled = self.inbound.is_cancelled(request_id.as_str());
        if !self.inbound.finish(request_id.as_str()) {
            return false;
        }
        let outcome = if was_cancelled {
            Err(WireError::new(ErrorCode::Cancelled, "the request was cancelled by its caller"))
        } else {
            outcome
        };
        let request_id = request_id.clone();
        let mut text = M::response(Response { request_id: request_id.clone(), outcome }).encode();
        if text.len() > max_frame {
            let error = WireError::new(
                ErrorCode::PayloadTooLarge,
                format!("the answer has {} bytes, the limit of a frame is {max_frame}", text.len()),
            );
            text = M::response(Response { request_id, outcome: Err(error) }).encode();
        }
        self.outbox.push(text);
        true
    }

    pub(crate) fn send_chunk(
        &mut self,
        request_id: &RequestId,
        data: RawJson,
        max_chunk: usize,
    ) -> Result<(), ChunkRefused> {
        let seq = self.inbound.chunk(request_id.as_str(), data.as_str().len(), max_chunk)?;
        self.outbox.push(M::chunk(Chunk { request_id: request_id.clone(), seq, data }).encode());
        Ok(())
    }

    pub(crate) fn say(&mut self, message: &M) {
        self.outbox.push(message.encode());
    }

    pub(crate) fn say_urgently(&mut self, message: &M) {
        self.outbox.push_urgent(message.encode());
    }

    pub(crate) fn next_frame(&mut self) -> Option<(String, Option<&mut W>)> {
        let (text, request) = self.outbox.pop()?;
        let waiter = request.and_then(|number| {
            self.outbound.mark_written(number);
            self.outbound.waiter_mut(number)
        });
        Some((text, waiter))
    }

    pub(crate) fn waiting_bytes(&self) -> usize {
        self.outbox.bytes()
    }

    pub(crate) fn unread(&self) -> Unread {
        self.outbox.unread()
    }

    pub(crate) fn retract_unsent(&mut self) -> Vec<W> {
        let outbound = &self.outbound;
        let numbers = self.outbox.retract_requests(|number| !outbound.was_written(number));
        numbers.into_iter().filter_map(|number| self.outbound.withdraw(number)).collect()
    }

    pub(crate) fn longest_given_up(&self, now: Duration) -> Option<Duration> {
        self.outbound.longest_given_up(now)
    }

    pub(crate) fn asked(&self) -> usize {
        self.outbound.len()
    }

    pub(crate) fn owed(&self) -> usize {
        self.inbound.len()
    }

    pub(crate) fn waiter_mut(&mut self, id: &str) -> Option<&mut W> {
        let number = self.outbound.number(id)?;
        self.outbound.waiter_mut(number)
    }

    /// Ends the session: waiters come out, and the ids of requests whose answers nobody will read.
    pub(crate) fn end(&mut self) -> (Vec<Lost<W>>, Vec<RequestId>) {
        self.outbox.clear();
        let lost = self.outbound.end().map(|(waiter, handed_over)| Lost { waiter, handed_over }).collect();
        (lost, self.inbound.end().collect())
    }
}

fn breach_error(breach: Breach) -> WireError {
    let message = match breach {
        Breach::Overrun => "the stream was cut off: it sent more chunks than it had credit for".to_owned(),
        Breach::OutOfOrder { expected, got } => {
            format!("the stream was cut off: chunk {got} came where chunk {expected} was due")
        }
        Breach::NotStreaming => "a chunk came for a request that did not ask for a stream".to_owned(),
        Breach::TooLarge { limit } => format!("the stream was cut off: a chunk exceeds {limit} bytes"),
        Breach::Unreadable => "the stream was cut off: a chunk could not be read".to_owned(),
    };
    WireError::new(ErrorCode::PluginError, message)
}
