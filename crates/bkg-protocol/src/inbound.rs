//! The requests that the other side sent and that this side still owes an answer.
//!
//! Pure bookkeeping. The invariant: each accepted request is answered exactly once, its chunks carry
//! `seq` without gaps and never exceed the credit that the asker gave.

use std::collections::HashMap;

use crate::RequestId;
use crate::message::Request;

/// The requests to answer, by the id that the other side chose.
#[derive(Debug, Default)]
pub struct Inbound {
    open: HashMap<RequestId, Owed>,
    /// Of the payloads of all of them.
    bytes: usize,
}

/// How much one session may ask before it has its answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Most {
    /// Requests.
    pub requests: usize,
    /// Bytes of their payloads, unless one alone has more.
    pub bytes: usize,
}

impl Most {
    /// No bound: the other side keeps one.
    pub const ANY: Self = Self { requests: usize::MAX, bytes: usize::MAX };
}

#[derive(Debug)]
struct Owed {
    bytes: usize,
    stream: Option<Stream>,
    cancelled: bool,
}

#[derive(Debug)]
struct Stream {
    credit: u32,
    next_seq: u64,
}

/// Whether an incoming request is taken on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Admission {
    /// An answer is owed now.
    Taken,
    /// Its id is that of a request still open: it is dropped, since an answer would reach the first.
    Duplicate,
    /// There are as many open as are allowed.
    Full,
}

/// Why a chunk cannot be sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ChunkRefused {
    /// The asker must drain first: wait for `credit`.
    #[error("no credit is left: wait until the caller has drained what it has")]
    NoCredit,
    /// The asker has given up, or the request was answered: stop working.
    #[error("the request is over: it was cancelled or answered")]
    Over,
    /// The request did not ask for a stream.
    #[error("the request did not ask for a stream: answer it with one response")]
    NotStreaming,
    /// The `data` is larger than the limit.
    #[error("the chunk has {size} bytes, the limit is {limit}: send smaller chunks")]
    TooLarge {
        /// Its size in bytes.
        size: usize,
        /// The limit in bytes.
        limit: usize,
    },
}

impl Inbound {
    /// Takes on a request, if not as much as `most` is open.
    pub fn admit(&mut self, request: &Request, most: Most, default_credit: u32) -> Admission {
        if self.open.contains_key(&request.request_id) {
            return Admission::Duplicate;
        }
        let bytes = request.payload.as_str().len();
        if self.open.len() >= most.requests || (!self.open.is_empty() && self.bytes + bytes > most.bytes) {
            return Admission::Full;
        }
        let stream = request
            .stream
            .then(|| Stream { credit: request.credit.unwrap_or(default_credit), next_seq: 0 });
        self.bytes += bytes;
        self.open.insert(request.request_id.clone(), Owed { bytes, stream, cancelled: false });
        Admission::Taken
    }

    /// Whether an answer is owed under this id.
    pub fn knows(&self, id: &str) -> bool {
        self.open.contains_key(id)
    }

    /// Whether the asker gave up on this request, and an answer is still owed.
    pub fn is_cancelled(&self, id: &str) -> bool {
        self.open.get(id).is_some_and(|owed| owed.cancelled)
    }

    /// Notes that the asker gave up; answers whether that is news.
    pub fn cancel(&mut self, id: &str) -> bool {
        self.open.get_mut(id).is_some_and(|owed| !std::mem::replace(&mut owed.cancelled, true))
    }

    /// Notes further credit; answers whether a stream can go on with it.
    pub fn credit(&mut self, id: &str, n: u32) -> bool {
        match self.open.get_mut(id) {
            Some(Owed { stream: Some(stream), cancelled: false, .. }) => {
                stream.credit = stream.credit.saturating_add(n);
                true
            }
            _ => false,
        }
    }

    /// Uses one credit; answers the `seq` that the chunk carries.
    ///
    /// # Errors
    /// Why the chunk must not be sent now, or ever.
    pub fn chunk(&mut self, id: &str, size: usize, limit: usize) -> Result<u64, ChunkRefused> {
        let Some(owed) = self.open.get_mut(id) else { return Err(ChunkRefused::Over) };
        if owed.cancelled {
            return Err(ChunkRefused::Over);
        }
        let Some(stream) = &mut owed.stream else { return Err(ChunkRefused::NotStreaming) };
        if size > limit {
            return Err(ChunkRefused::TooLarge { size, limit });
        }
        if stream.credit == 0 {
            return Err(ChunkRefused::NoCredit);
        }
        stream.credit -= 1;
        let seq = stream.next_seq;
        stream.next_seq += 1;
        Ok(seq)
    }

    /// Settles a request; answers whether it was open: if not, its answer must not be sent.
    pub fn finish(&mut self, id: &str) -> bool {
        let owed = self.open.remove(id);
        self.bytes -= owed.as_ref().map_or(0, |owed| owed.bytes);
        owed.is_some()
    }

    /// How many answers are owed.
    pub fn len(&self) -> usize {
        self.open.len()
    }

    /// How many bytes of payload they have that are owed an answer.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Whether no answer is owed.
    pub fn is_empty(&self) -> bool {
        self.open.is_empty()
    }

    /// Ends the session: the ids whose answers nobody will read.
    pub fn end(&mut self) -> impl Iterator<Item = RequestId> {
        self.bytes = 0;
        std::mem::take(&mut self.open).into_keys()
    }
}
