//! Spans on their way to a collector: a bounded queue, batches, OTLP over HTTP.
//!
//! One thread of its own hands batches over, so that neither a request nor the runtime ever waits for the
//! collector. The invariants: what the queue cannot hold is dropped and counted, never waited for; every
//! attempt has a deadline; the thread is awaited at the stop, for a bounded time.

use std::fmt;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TryRecvError, channel, sync_channel};
use std::time::{Duration, Instant};

use prost::Message;
use tokio::sync::oneshot;
use tracing::{info, warn};
use ureq::Agent;
use ureq::tls::{Certificate, RootCerts, TlsConfig};

use super::span::{Ended, Value};
use super::wire::{
    ExportTraceServiceRequest, ExportTraceServiceResponse, KeyValue, Resource, ResourceSpans, Scope,
    ScopeSpans,
};
use super::{FLUSH_WITHIN, Tracer};
use crate::metrics::Counter;

/// How many spans may wait. What comes while it is full is dropped and counted: with a collector that is
/// away, the newest are lost. It is about 8 MB.
const WAITING: usize = 8_192;
/// How many spans go out together.
const BATCH: usize = 512;
/// How often it is looked whether spans wait.
const EVERY: Duration = Duration::from_millis(500);
/// How long one attempt may take, as OpenTelemetry recommends.
const ATTEMPT: Duration = Duration::from_secs(10);
/// How long after a failed attempt the next one begins: doubled each time up to the longest.
const SHORTEST_REST: Duration = Duration::from_secs(1);
const LONGEST_REST: Duration = Duration::from_secs(30);
/// The longest answer of a collector that is read, in bytes.
const LONGEST_ANSWER: u64 = 64 << 10;
/// The version of the conventions whose names the attributes have.
const SCHEMA: &str = "https://opentelemetry.io/schemas/1.41.0";

/// The collector, and how it is spoken to.
#[derive(Clone)]
pub struct Collector {
    /// Where spans are posted to, whole: with the path.
    pub url: String,
    /// Headers that go with them; they may hold a credential.
    pub headers: Vec<(String, String)>,
    /// Which share of the traces that begin here is recorded, from 0 to 1.
    pub sample_ratio: f64,
    /// What the host is called there.
    pub service_name: String,
}

impl fmt::Debug for Collector {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("Collector")
            .field("url", &self.url)
            .field("headers", &format_args!("{} of them, ***", self.headers.len()))
            .field("sample_ratio", &self.sample_ratio)
            .finish_non_exhaustive()
    }
}

/// What became of spans.
#[derive(Debug, Default)]
pub struct SpanCounts {
    /// The collector took them.
    pub exported: Counter,
    /// There was no room in the queue.
    pub queue_full: Counter,
    /// The collector took them for wrong.
    pub refused: Counter,
    /// The host stopped before they were handed over.
    pub stopped: Counter,
    /// Attempts that failed.
    pub failures: Counter,
}

/// The end of the queue into which spans are put.
#[derive(Clone)]
pub(super) struct Queue {
    spans: SyncSender<Box<Ended>>,
    counts: Arc<SpanCounts>,
}

impl fmt::Debug for Queue {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("Queue").field("counts", &self.counts).finish_non_exhaustive()
    }
}

impl Queue {
    /// Puts a span into it, or counts it as dropped.
    pub(super) fn put(&self, span: Box<Ended>) {
        if self.spans.try_send(span).is_err() {
            self.counts.queue_full.one();
        }
    }
}

/// The thread that hands spans over.
#[derive(Debug)]
pub struct Exporter {
    counts: Arc<SpanCounts>,
    /// Dropped to say that the host stops.
    stop: std::sync::mpsc::Sender<()>,
    /// Hears when the thread has ended.
    ended: oneshot::Receiver<()>,
}

impl Exporter {
    /// Starts it. What it is given is exported until [`Exporter::finish`].
    ///
    /// # Errors
    /// The system has no thread left.
    pub fn start(collector: Collector) -> std::io::Result<(Tracer, Self)> {
        let counts = Arc::<SpanCounts>::default();
        let (spans, waiting) = sync_channel(WAITING);
        let (stop, stopping) = channel();
        let (ending, ended) = oneshot::channel();
        let tracer = Tracer::on(Queue { spans, counts: Arc::clone(&counts) }, collector.sample_ratio);
        let courier = Courier {
            agent: agent(&collector.url),
            resource: resource(&collector.service_name),
            collector,
            waiting,
            stopping,
            stopped_at: None,
            counts: Arc::clone(&counts),
            was_away: false,
        };
        std::thread::Builder::new().name("spans".to_owned()).spawn(move || {
            courier.run();
            let _ = ending.send(());
        })?;
        Ok((tracer, Self { counts, stop, ended }))
    }

    /// What became of spans so far.
    pub fn counts(&self) -> Arc<SpanCounts> {
        Arc::clone(&self.counts)
    }

    /// Hands over what waits, within [`FLUSH_WITHIN`], and ends.
    pub async fn finish(self) {
        drop(self.stop);
        // A little more than the thread gives itself, so that it is the one that counts what is lost.
        let patience = FLUSH_WITHIN + EVERY;
        if tokio::time::timeout(patience, self.ended).await.is_err() {
            warn!("the collector of traces did not answer in time: the last spans are lost");
        }
    }
}

fn agent(url: &str) -> Agent {
    // Reading what the system trusts takes its time, and is for nothing without TLS.
    let authorities = if url.starts_with("https:") {
        let found = rustls_native_certs::load_native_certs();
        found.certs.iter().map(|certificate| Certificate::from_der(certificate).to_owned()).collect()
    } else {
        Vec::new()
    };
    let tls = TlsConfig::builder()
        .root_certs(RootCerts::Specific(Arc::new(authorities)))
        .unversioned_rustls_crypto_provider(Arc::new(rustls::crypto::ring::default_provider()));
    Agent::config_builder()
        .tls_config(tls.build())
        .http_status_as_error(false)
        .proxy(None)
        .max_redirects(0)
        .user_agent(concat!("bkg/", env!("CARGO_PKG_VERSION")))
        .build()
        .new_agent()
}

fn resource(service_name: &str) -> Resource {
    let attribute = |key, value: Value| KeyValue::new(key, value);
    Resource {
        attributes: vec![
            attribute("service.name", service_name.into()),
            attribute("service.version", env!("CARGO_PKG_VERSION").into()),
            attribute("process.pid", u64::from(std::process::id()).into()),
        ],
    }
}

/// What became of an attempt.
enum Attempt {
    /// The collector took the batch, all but so many.
    Taken(u64),
    /// It is to be tried again, if so wished after this time.
    Later(Option<Duration>, String),
    /// It would be refused again.
    Refused(String),
}

struct Courier {
    agent: Agent,
    collector: Collector,
    resource: Resource,
    waiting: Receiver<Box<Ended>>,
    stopping: Receiver<()>,
    /// When the host began to stop, if it has.
    stopped_at: Option<Instant>,
    counts: Arc<SpanCounts>,
    /// Whether the last attempt failed, which is said once.
    was_away: bool,
}

impl Courier {
    fn run(mut self) {
        loop {
            let is_over = self.rest(EVERY);
            while let Some(batch) = self.batch() {
                self.deliver(&batch);
            }
            if is_over {
                return;
            }
        }
    }

    /// Waits; answers whether the host stops.
    fn rest(&mut self, time: Duration) -> bool {
        if self.stopped_at.is_none()
            && self.stopping.recv_timeout(time) == Err(RecvTimeoutError::Disconnected)
        {
            self.stopped_at = Some(Instant::now());
        }
        self.stopped_at.is_some()
    }

    /// What waits, if anything does.
    fn batch(&self) -> Option<Vec<Ended>> {
        let mut batch = Vec::new();
        while batch.len() < BATCH {
            match self.waiting.try_recv() {
                Ok(span) => batch.push(*span),
                Err(TryRecvError::Empty | TryRecvError::Disconnected) => break,
            }
        }
        (!batch.is_empty()).then_some(batch)
    }

    /// Hands a batch over, however often that takes; gives it up when the host stops and its time is over.
    fn deliver(&mut self, batch: &[Ended]) {
        let spans = batch.len() as u64;
        let body = self.encoded(batch);
        let mut next_rest = SHORTEST_REST;
        loop {
            let Some(within) = self.time_left() else {
                self.counts.stopped.add(spans);
                return;
            };
            match self.attempt(&body, within) {
                Attempt::Taken(rejected) => {
                    let rejected = rejected.min(spans);
                    self.counts.refused.add(rejected);
                    self.counts.exported.add(spans - rejected);
                    if std::mem::take(&mut self.was_away) {
                        info!("the collector of traces takes spans again");
                    }
                    return;
                }
                Attempt::Refused(why) => {
                    self.counts.failures.one();
                    self.counts.refused.add(spans);
                    self.say(&why);
                    return;
                }
                Attempt::Later(wish, why) => {
                    self.counts.failures.one();
                    self.say(&why);
                    let rest = wish.unwrap_or_else(|| jittered(next_rest)).min(LONGEST_REST);
                    next_rest = (next_rest * 2).min(LONGEST_REST);
                    let was_stopping = self.stopped_at.is_some();
                    self.rest(rest);
                    if was_stopping {
                        // Not again in the little time that is left.
                        self.counts.stopped.add(spans);
                        return;
                    }
                }
            }
        }
    }

    /// How long an attempt may take; none if there is no time for one.
    fn time_left(&mut self) -> Option<Duration> {
        self.rest(Duration::ZERO);
        let Some(stopped_at) = self.stopped_at else { return Some(ATTEMPT) };
        FLUSH_WITHIN.checked_sub(stopped_at.elapsed()).filter(|left| !left.is_zero())
    }

    fn say(&mut self, why: &str) {
        if !std::mem::replace(&mut self.was_away, true) {
            warn!(url = self.collector.url, why, "spans cannot be handed to the collector of traces");
        }
    }

    fn encoded(&self, batch: &[Ended]) -> Vec<u8> {
        let scope = Scope { name: "bkg".to_owned(), version: env!("CARGO_PKG_VERSION").to_owned() };
        let spans = batch.iter().cloned().map(Into::into).collect();
        let request = ExportTraceServiceRequest {
            resource_spans: vec![ResourceSpans {
                resource: Some(self.resource.clone()),
                scope_spans: vec![ScopeSpans { scope: Some(scope), spans }],
                schema_url: SCHEMA.to_owned(),
            }],
        };
        request.encode_to_vec()
    }

    fn attempt(&self, body: &[u8], within: Duration) -> Attempt {
        let mut request = self
            .agent
            .post(&self.collector.url)
            .config()
            .timeout_global(Some(within))
            .build()
            .header("content-type", "application/x-protobuf");
        for (name, value) in &self.collector.headers {
            request = request.header(name, value);
        }
        let mut response = match request.send(body) {
            Ok(response) => response,
            // The error may name the address and never the headers.
            Err(error) => return Attempt::Later(None, error.to_string()),
        };
        let status = response.status();
        let wish = response.headers().get("retry-after").and_then(|value| value.to_str().ok());
        let wish = wish.and_then(|seconds| seconds.parse().ok()).map(Duration::from_secs);
        if status.is_success() {
            let answer = response.body_mut().with_config().limit(LONGEST_ANSWER).read_to_vec();
            // Who takes them and says it badly has taken them.
            let answer = answer.ok().and_then(|answer| ExportTraceServiceResponse::decode(&*answer).ok());
            let rejected =
                answer.and_then(|answer| answer.partial_success).map_or(0, |part| part.rejected_spans);
            return Attempt::Taken(u64::try_from(rejected).unwrap_or(0));
        }
        let why = format!("it answered {status}");
        // Those that the specification of OTLP names.
        match status.as_u16() {
            429 | 502 | 503 | 504 => Attempt::Later(wish, why),
            _ => Attempt::Refused(why),
        }
    }
}

/// Something between a half and the whole of it, so that hosts which lost the same collector do not come
/// back to it together.
fn jittered(rest: Duration) -> Duration {
    rest.mul_f64(0.5 + rand::random::<f64>() / 2.0)
}
