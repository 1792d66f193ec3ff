//! One piece of work of a recorded trace, from its begin to its end.
//!
//! Never bodies, queries or credentials: what stands in attributes is named by the code, and bounded where a
//! client wrote it. The invariant: a span is handed on exactly once, when it is dropped.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use super::export::Queue;
use super::parent::{TraceParent, TraceState};

/// How long a text in an attribute may be, in bytes; more is cut off.
const LONGEST_TEXT: usize = 256;

/// Which side of a conversation a span is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SpanKind {
    /// Work inside of the host.
    Internal,
    /// A request that somebody made of the host.
    Server,
    /// A request that the host made of somebody.
    Client,
}

/// The value of an attribute.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    /// A text.
    Text(String),
    /// A whole number.
    Number(i64),
    /// A number with a fraction.
    Real(f64),
    /// Yes or no.
    Flag(bool),
}

impl From<&str> for Value {
    fn from(text: &str) -> Self {
        Self::Text(text[..text.floor_char_boundary(LONGEST_TEXT)].to_owned())
    }
}

impl From<u64> for Value {
    fn from(number: u64) -> Self {
        Self::Number(i64::try_from(number).unwrap_or(i64::MAX))
    }
}

impl From<f64> for Value {
    fn from(number: f64) -> Self {
        Self::Real(number)
    }
}

impl From<bool> for Value {
    fn from(flag: bool) -> Self {
        Self::Flag(flag)
    }
}

/// A span that has ended.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Ended {
    pub(super) this: TraceParent,
    pub(super) parent: Option<[u8; 8]>,
    /// Whether the parent is a span of somebody else.
    pub(super) is_parent_remote: bool,
    pub(super) state: Option<TraceState>,
    pub(super) name: String,
    pub(super) kind: SpanKind,
    /// Since 1970.
    pub(super) began: Duration,
    pub(super) took: Duration,
    pub(super) attributes: Vec<(&'static str, Value)>,
    /// What went wrong, if it did.
    pub(super) failure: Option<String>,
}

/// A span that has begun; dropping it ends it.
#[derive(Debug)]
#[must_use]
pub struct Span {
    queue: Queue,
    began: Instant,
    /// Taken when it ends.
    record: Option<Box<Ended>>,
}

impl Span {
    pub(super) fn begin(queue: Queue, this: TraceParent, name: String, kind: SpanKind) -> Self {
        let record = Ended {
            this,
            parent: None,
            is_parent_remote: false,
            state: None,
            name,
            kind,
            began: SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default(),
            took: Duration::ZERO,
            attributes: Vec::with_capacity(8),
            failure: None,
        };
        Self { queue, began: Instant::now(), record: Some(Box::new(record)) }
    }

    pub(super) fn below(mut self, parent: TraceParent) -> Self {
        self.record().parent = Some(parent.span());
        self
    }

    pub(super) fn below_remote(mut self, parent: TraceParent, state: Option<TraceState>) -> Self {
        let record = self.record();
        (record.parent, record.is_parent_remote, record.state) = (Some(parent.span()), true, state);
        self
    }

    fn record(&mut self) -> &mut Ended {
        self.record.as_mut().expect("it has not ended")
    }

    /// Where work that is done for this span stands.
    pub fn context(&self) -> TraceParent {
        self.record.as_ref().expect("it has not ended").this
    }

    /// Notes something.
    pub fn set(&mut self, key: &'static str, value: impl Into<Value>) {
        self.record().attributes.push((key, value.into()));
    }

    /// Notes that it failed: a word for the kind of failure. Not the message, which may repeat what a
    /// client or an upstream wrote.
    pub fn fail(&mut self, code: &str) {
        self.set("error.type", code);
        self.record().failure = Some(code.to_owned());
    }
}

impl Drop for Span {
    fn drop(&mut self) {
        if let Some(mut record) = self.record.take() {
            record.took = self.began.elapsed();
            self.queue.put(record);
        }
    }
}
