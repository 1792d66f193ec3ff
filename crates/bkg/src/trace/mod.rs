//! Traces: which request a piece of work belongs to, and what is recorded of it for a collector.
//!
//! Not logs, and not the numbers of `metrics`. Everybody who works on a request holds a [`Tracer`], which
//! does nothing where no collector is configured; the context that came with a request is passed on in any
//! case. The invariant: no request waits for a collector or fails because of one.

mod export;
mod parent;
mod span;
mod wire;

use std::time::Duration;

pub use export::{Collector, Exporter, SpanCounts};
pub use parent::{NoTraceParent, TraceParent, TraceState};
pub use span::{Span, SpanKind, Value};

use export::Queue;

/// Records spans, or does not.
#[derive(Debug, Clone, Default)]
pub struct Tracer {
    recording: Option<Recording>,
}

#[derive(Debug, Clone)]
struct Recording {
    queue: Queue,
    /// Which share of the traces that begin here is recorded, from 0 to 1.
    sample_ratio: f64,
}

/// Where a request stands, and its span if it is recorded.
#[derive(Debug)]
pub struct Root {
    /// What is passed on; `None` if nothing came and nothing is traced.
    pub context: Option<TraceParent>,
    /// Present if the trace is recorded.
    pub span: Option<Span>,
}

impl Tracer {
    /// One that records nothing and passes on what comes.
    pub fn off() -> Self {
        Self::default()
    }

    fn on(queue: Queue, sample_ratio: f64) -> Self {
        Self { recording: Some(Recording { queue, sample_ratio }) }
    }

    /// The begin of work that somebody asked for, who may have said what it is a part of. Whether a trace
    /// that came is recorded was decided where it began.
    pub fn root(
        &self,
        incoming: Option<TraceParent>,
        state: impl FnOnce() -> Option<TraceState>,
        name: impl FnOnce() -> String,
    ) -> Root {
        let Some(recording) = &self.recording else { return Root { context: incoming, span: None } };
        let (context, span) = match incoming {
            Some(parent) if parent.is_sampled() => {
                let this = parent.next();
                let span = Span::begin(recording.queue.clone(), this, name(), SpanKind::Server);
                (this, Some(span.below_remote(parent, state())))
            }
            Some(parent) => (parent, None),
            None => {
                let this = TraceParent::begin(rand::random::<f64>() < recording.sample_ratio);
                let span = || Span::begin(recording.queue.clone(), this, name(), SpanKind::Server);
                (this, this.is_sampled().then(span))
            }
        };
        Root { context: Some(context), span }
    }

    /// Begins a part of the work at `parent`, if that is recorded.
    pub fn child(
        &self,
        parent: Option<TraceParent>,
        kind: SpanKind,
        name: impl FnOnce() -> String,
    ) -> Option<Span> {
        let parent = parent.filter(|parent| parent.is_sampled())?;
        let recording = self.recording.as_ref()?;
        Some(Span::begin(recording.queue.clone(), parent.next(), name(), kind).below(parent))
    }
}

/// How a stop waits for the last spans.
pub const FLUSH_WITHIN: Duration = Duration::from_secs(3);
