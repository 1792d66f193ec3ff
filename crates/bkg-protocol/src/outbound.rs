//! The requests that this side sent and that the other side still owes an answer.
//!
//! Pure bookkeeping: which waiter stands behind which id, how many chunks may still come, and what
//! was given up. The invariant: every waiter that goes in comes out exactly once, and only for the
//! id it went in under; an id that this session did not give reaches nobody.

use std::collections::HashMap;
use std::time::Duration;

use crate::RequestId;

/// The open requests of one session, each with its waiter.
#[derive(Debug)]
pub struct Outbound<W> {
    seed: u64,
    next: u64,
    /// Requests leave in the order of their numbers: all below this one were handed to the other side.
    written_below: u64,
    open: HashMap<u64, Open<W>>,
    given_up: usize,
}

#[derive(Debug)]
struct Open<W> {
    waiter: W,
    stream: Option<Stream>,
    given_up: Option<Duration>,
}

#[derive(Debug)]
struct Stream {
    credit: u32,
    next_seq: u64,
}

/// What a `response` settles.
#[derive(Debug, PartialEq, Eq)]
pub enum Settled<W> {
    /// The waiter gets the answer.
    Answered(W),
    /// The request had been given up: nobody waits, but its place is free now.
    Released(W),
    /// No open request has this id: late, second or foreign.
    Unknown,
}

/// What becomes of a `chunk`.
#[derive(Debug, PartialEq, Eq)]
pub enum Arrived<'a, W> {
    /// The waiter gets it.
    Deliver(&'a mut W),
    /// It breaks the rules; the request is given up now and the waiter must be told.
    Broken(&'a mut W, Breach),
    /// The request had been given up: the chunk crossed the `cancel` on its way.
    Late,
    /// No open request has this id: late or foreign.
    Unknown,
}

/// Which rule a `chunk` broke.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Breach {
    /// More chunks came than there was credit for.
    Overrun,
    /// A `seq` was left out or came twice.
    OutOfOrder {
        /// The `seq` that was due.
        expected: u64,
        /// The `seq` that came.
        got: u64,
    },
    /// The request did not ask for a stream.
    NotStreaming,
    /// Its `data` is larger than the limit.
    TooLarge {
        /// The limit in bytes.
        limit: usize,
    },
    /// It could not be read, so that nobody knows what is missing.
    Unreadable,
}

impl<W> Outbound<W> {
    /// An empty table whose ids carry `seed`: 64 bits that no other session has.
    pub fn new(seed: u64) -> Self {
        Self { seed, next: 0, written_below: 0, open: HashMap::new(), given_up: 0 }
    }

    /// The id that the next [`Outbound::open`] takes.
    pub fn next_id(&self) -> RequestId {
        RequestId::numbered(self.seed, self.next)
    }

    /// Enters a waiter under [`Outbound::next_id`]; `credit` is given for a stream alone.
    pub fn open(&mut self, credit: Option<u32>, waiter: W) -> u64 {
        let number = self.next;
        self.next += 1;
        let stream = credit.map(|credit| Stream { credit, next_seq: 0 });
        self.open.insert(number, Open { waiter, stream, given_up: None });
        number
    }

    /// Which open request an id names.
    pub fn number(&self, id: &str) -> Option<u64> {
        RequestId::number(self.seed, id).filter(|number| self.open.contains_key(number))
    }

    /// Notes that a request was handed to the other side, and with it all before it.
    pub fn mark_written(&mut self, number: u64) {
        self.written_below = self.written_below.max(number + 1);
    }

    /// Whether the other side can know of a request: nothing that it says of another one counts.
    pub fn was_written(&self, number: u64) -> bool {
        number < self.written_below
    }

    fn number_written(&self, id: &str) -> Option<u64> {
        RequestId::number(self.seed, id).filter(|&number| self.was_written(number))
    }

    /// Who waits for an open request.
    pub fn waiter_mut(&mut self, number: u64) -> Option<&mut W> {
        self.open.get_mut(&number).map(|open| &mut open.waiter)
    }

    /// Takes a request out as if it had never been made.
    pub fn withdraw(&mut self, number: u64) -> Option<W> {
        let open = self.open.remove(&number)?;
        self.given_up -= usize::from(open.given_up.is_some());
        Some(open.waiter)
    }

    /// Marks a request as given up at `now`; its place stays taken until the `response`.
    ///
    /// Answers whether it was open and not given up before.
    pub fn give_up(&mut self, number: u64, now: Duration) -> bool {
        match self.open.get_mut(&number) {
            Some(open) if open.given_up.is_none() => {
                open.given_up = Some(now);
                self.given_up += 1;
                true
            }
            _ => false,
        }
    }

    /// Allows `n` more chunks; answers whether there is a live stream to allow them for.
    pub fn grant(&mut self, number: u64, n: u32) -> bool {
        match self.open.get_mut(&number) {
            Some(Open { stream: Some(stream), given_up: None, .. }) => {
                stream.credit = stream.credit.saturating_add(n);
                true
            }
            _ => false,
        }
    }

    /// Takes in a `response`.
    pub fn settle(&mut self, id: &str) -> Settled<W> {
        let Some(open) = self.number_written(id).and_then(|number| self.open.remove(&number)) else {
            return Settled::Unknown;
        };
        if open.given_up.is_some() {
            self.given_up -= 1;
            return Settled::Released(open.waiter);
        }
        Settled::Answered(open.waiter)
    }

    /// Takes in a `chunk` of `size` bytes, of at most `limit`.
    pub fn arrive(
        &mut self,
        id: &str,
        seq: u64,
        size: usize,
        limit: usize,
        now: Duration,
    ) -> Arrived<'_, W> {
        let Some(open) = self.number_written(id).and_then(|number| self.open.get_mut(&number)) else {
            return Arrived::Unknown;
        };
        if open.given_up.is_some() {
            return Arrived::Late;
        }
        let breach = match &mut open.stream {
            None => Some(Breach::NotStreaming),
            Some(_) if size > limit => Some(Breach::TooLarge { limit }),
            Some(stream) if seq != stream.next_seq => {
                Some(Breach::OutOfOrder { expected: stream.next_seq, got: seq })
            }
            Some(stream) if stream.credit == 0 => Some(Breach::Overrun),
            Some(stream) => {
                stream.credit -= 1;
                stream.next_seq += 1;
                None
            }
        };
        match breach {
            None => Arrived::Deliver(&mut open.waiter),
            Some(breach) => {
                open.given_up = Some(now);
                self.given_up += 1;
                Arrived::Broken(&mut open.waiter, breach)
            }
        }
    }

    /// Takes in a chunk of which nothing but the id could be read: the stream has a hole now.
    pub fn arrive_unreadable(&mut self, id: &str, now: Duration) -> Arrived<'_, W> {
        let Some(open) = self.number_written(id).and_then(|number| self.open.get_mut(&number)) else {
            return Arrived::Unknown;
        };
        if open.given_up.is_some() {
            return Arrived::Late;
        }
        open.given_up = Some(now);
        self.given_up += 1;
        Arrived::Broken(&mut open.waiter, Breach::Unreadable)
    }

    /// How long ago the oldest request was given up that is still unanswered.
    pub fn longest_given_up(&self, now: Duration) -> Option<Duration> {
        if self.given_up == 0 {
            return None;
        }
        self.open.values().filter_map(|open| open.given_up).min().map(|since| now.saturating_sub(since))
    }

    /// How many requests are open, those given up included.
    pub fn len(&self) -> usize {
        self.open.len()
    }

    /// Whether nothing is owed.
    pub fn is_empty(&self) -> bool {
        self.open.is_empty()
    }

    /// Ends the session: every waiter comes out, with whether its request had been handed over.
    pub fn end(&mut self) -> impl Iterator<Item = (W, bool)> {
        self.given_up = 0;
        let written_below = self.written_below;
        std::mem::take(&mut self.open)
            .into_iter()
            .map(move |(number, open)| (open.waiter, number < written_below))
    }
}
