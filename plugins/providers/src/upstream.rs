//! One upstream: its connections, its gate, its rest, and how a request is put to it.
//!
//! Knows nothing of chats and embeddings. The invariants: a request goes to the address of the settings and
//! nowhere else (no redirect, no proxy); it is sent again only while the caller has seen nothing of an
//! answer; and whoever drops the work closes its socket.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, LazyLock, Mutex, MutexGuard};
use std::time::Duration;

use bkg_sdk::{ErrorCode, Request, WireError};
use bytes::Bytes;
use reqwest::header::{ACCEPT, ACCEPT_ENCODING, AUTHORIZATION, CONTENT_TYPE, HeaderMap, HeaderValue};
use reqwest::redirect::Policy;
use reqwest::{Client, Method, Url};
use rustls::{ClientConfig, RootCertStore};
use tokio::sync::Notify;
use tokio::time::{Instant, timeout_at};

use crate::credential::without_key;
use crate::failure::{Failure, Refusal, Verdict, Wait, details};
use crate::gate::{Full, Gate, Pass};
use crate::reply::Reply;
use crate::rest::{Rest, Trial};
use crate::settings::UpstreamSettings;

/// How many connections wait for the next request, and for how long: upstreams close theirs after a minute
/// or so, and a request that meets the closing has to be sent again.
const MOST_IDLE: usize = 32;
const IDLE_FOR: Duration = Duration::from_secs(30);

/// One upstream.
#[derive(Debug)]
pub(crate) struct Upstream {
    pub(crate) settings: UpstreamSettings,
    base_url: Url,
    client: Client,
    /// Outlives a change of the settings; so do the next two while address and key stay.
    pub(crate) gate: Arc<Gate>,
    pub(crate) rest: Arc<Rest>,
    pub(crate) record: Arc<Record>,
    /// Told when its trouble begins, changes or is over.
    changed: Arc<Notify>,
}

/// What became of the requests to one upstream.
#[derive(Debug, Default)]
pub(crate) struct Record {
    pub(crate) requests: AtomicU64,
    pub(crate) failures: AtomicU64,
    pub(crate) repetitions: AtomicU64,
    trouble: Mutex<Trouble>,
}

/// What is wrong with an upstream, by who found it out.
#[derive(Debug, Default, Clone)]
pub(crate) struct Trouble {
    /// The last request for an answer met this.
    pub(crate) answers: Option<String>,
    /// The last look at its models met this.
    pub(crate) discovery: Option<String>,
}

impl Record {
    /// What is wrong now.
    pub(crate) fn trouble(&self) -> Trouble {
        self.lock().clone()
    }

    /// Notes what is wrong with its answers; says whether that is new.
    pub(crate) fn set_answers(&self, trouble: Option<String>) -> bool {
        let mut state = self.lock();
        std::mem::replace(&mut state.answers, trouble) != state.answers
    }

    /// Notes what is wrong with the list of its models; says whether that is new.
    pub(crate) fn set_discovery(&self, trouble: Option<String>) -> bool {
        let mut state = self.lock();
        std::mem::replace(&mut state.discovery, trouble) != state.discovery
    }

    fn lock(&self) -> MutexGuard<'_, Trouble> {
        self.trouble.lock().expect("nothing panics under this lock")
    }
}

/// The right to ask, for as long as the answer is read.
#[derive(Debug)]
pub(crate) struct Asking<T> {
    /// What was opened.
    pub(crate) opened: T,
    _pass: Pass,
}

impl Upstream {
    /// An upstream; what `before` of the same name counts goes on.
    ///
    /// # Errors
    /// What is wrong with its settings.
    pub(crate) fn new(
        settings: UpstreamSettings,
        before: Option<&Self>,
        changed: Arc<Notify>,
    ) -> Result<Self, String> {
        let base_url = settings.base_url()?;
        let client = Client::builder()
            .tls_backend_preconfigured(tls())
            .no_proxy()
            .redirect(Policy::none())
            .retry(reqwest::retry::never())
            .referer(false)
            .http1_only()
            .connect_timeout(settings.connect_timeout())
            .pool_max_idle_per_host(MOST_IDLE)
            .pool_idle_timeout(IDLE_FOR)
            .default_headers(headers(&settings))
            .build()
            .map_err(|error| format!("no client can be made for it: {}", crate::failure::cause(&error)))?;
        let gate = before.map_or_else(|| Gate::new(None), |before| before.gate.clone());
        // How another address fared, or another key, says nothing of this one.
        let same =
            |before: &&Self| before.base_url == base_url && before.settings.api_key == settings.api_key;
        let (rest, record) = match before.filter(same) {
            Some(before) => (before.rest.clone(), before.record.clone()),
            None => Default::default(),
        };
        gate.set_limit(settings.max_concurrency);
        Ok(Self { settings, base_url, client, gate, rest, record, changed })
    }

    /// The name that the operator gave it.
    pub(crate) fn name(&self) -> &str {
        &self.settings.name
    }

    /// An address below its base, or with `/` in front below its host.
    pub(crate) fn url(&self, path: &str) -> Url {
        self.base_url.join(path).expect("the paths are literals that an URL takes")
    }

    /// Puts a request to it, and has `open` read of the answer what must be there before the caller sees
    /// anything. What fails until then may be sent again.
    ///
    /// # Errors
    /// Why there is no answer, told for the caller.
    pub(crate) async fn ask<T, F>(
        &self,
        request: &Request,
        path: &str,
        body: Bytes,
        open: impl Fn(Reply) -> F,
    ) -> Result<Asking<T>, WireError>
    where
        F: Future<Output = Result<T, Failure>>,
    {
        self.record.requests.fetch_add(1, Ordering::Relaxed);
        let deadline = request.timeout().map(|timeout| Instant::now() + timeout);
        // A line before an upstream that rests would only make its callers wait for the same answer.
        if let Some(left) = self.rest.left().filter(|left| !left.is_zero()) {
            return Err(self.resting(left));
        }
        let pass = self.gate.enter().await.map_err(|full| self.full(full))?;
        let mut attempt = 0;
        loop {
            let trial = self.rest.try_it().map_err(|left| self.resting(left))?;
            let attempted = match self.send(request, path, body.clone()).await {
                Ok(reply) => open(reply).await,
                Err(failure) => Err(failure),
            };
            let failure = match attempted {
                Ok(opened) => {
                    trial.succeeded();
                    self.set_trouble(None);
                    return Ok(Asking { opened, _pass: pass });
                }
                Err(failure) => failure,
            };
            self.judge(trial, &failure);
            let pause = failure.pause(attempt).filter(|_| attempt < self.settings.retries());
            let fits = |pause: &Duration| deadline.is_none_or(|until| Instant::now() + *pause < until);
            let pause = pause.filter(fits).filter(|_| self.rest.left().is_none());
            let error = self.error(failure);
            let Some(pause) = pause else {
                self.record.failures.fetch_add(1, Ordering::Relaxed);
                return Err(error);
            };
            tracing::info!(upstream = self.name(), ?pause, "sent again: {}", error.message);
            self.record.repetitions.fetch_add(1, Ordering::Relaxed);
            tokio::time::sleep(pause).await;
            attempt += 1;
        }
    }

    /// Counts a failure in the middle of an answer, and tells it for the caller.
    pub(crate) fn broke(&self, failure: Failure) -> WireError {
        if let Ok(trial) = self.rest.try_it() {
            self.judge(trial, &failure);
        }
        self.record.failures.fetch_add(1, Ordering::Relaxed);
        self.error(failure)
    }

    /// What the upstream answers to a GET at an address of its own.
    pub(crate) async fn get(&self, url: Url) -> Result<Reply, Failure> {
        self.exchange(self.client.request(Method::GET, url)).await
    }

    async fn send(&self, request: &Request, path: &str, body: Bytes) -> Result<Reply, Failure> {
        let mut post = self.client.request(Method::POST, self.url(path)).body(body);
        post = post.header(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        for (name, value) in
            [("x-request-id", request.correlation_id()), ("traceparent", request.traceparent())]
        {
            if let Some(value) = value.and_then(|value| HeaderValue::from_str(value).ok()) {
                post = post.header(name, value);
            }
        }
        self.exchange(post).await
    }

    async fn exchange(&self, request: reqwest::RequestBuilder) -> Result<Reply, Failure> {
        let within = self.settings.first_byte_timeout();
        let until = Instant::now() + within;
        let response = match timeout_at(until, request.send()).await {
            Ok(Ok(response)) => response,
            Ok(Err(error)) => return Err(Failure::of_request(&error)),
            Err(_) => return Err(Failure::TimedOut(Wait::FirstByte, within)),
        };
        let (status, headers) = (response.status(), response.headers().clone());
        let reply = Reply::new(response, until, within, self.settings.idle_timeout());
        if status.is_success() {
            return reply;
        }
        let body = match reply {
            Ok(reply) => reply.beginning().await,
            Err(_) => Vec::new(),
        };
        Err(Failure::Refused(Box::new(Refusal::of_answer(status.as_u16(), &headers, &body))))
    }

    fn judge(&self, trial: Trial, failure: &Failure) {
        match failure.verdict() {
            Verdict::Alive => trial.succeeded(),
            Verdict::Failing => trial.failed(),
            Verdict::Nothing => drop(trial),
        }
    }

    /// Tells a failure for the caller, and notes what it says of the upstream.
    fn error(&self, failure: Failure) -> WireError {
        let (verdict, ours) = (failure.verdict(), failure.is_about_our_credential());
        let error = self.without_key(failure.into_error(self.name()));
        if ours || verdict == Verdict::Failing {
            self.set_trouble(Some(error.message.clone()));
        } else if verdict == Verdict::Alive {
            self.set_trouble(None);
        }
        error
    }

    fn set_trouble(&self, trouble: Option<String>) {
        if !self.record.set_answers(trouble.clone()) {
            return;
        }
        match trouble {
            Some(trouble) => tracing::warn!(upstream = self.name(), "{trouble}"),
            None => tracing::info!(upstream = self.name(), "the upstream answers again"),
        }
        self.changed.notify_one();
    }

    /// The error without this upstream's key, should the upstream have said it.
    pub(crate) fn without_key(&self, error: WireError) -> WireError {
        without_key(error, self.settings.api_key.as_ref())
    }

    fn resting(&self, left: Duration) -> WireError {
        self.record.failures.fetch_add(1, Ordering::Relaxed);
        let why = self.record.trouble().answers.unwrap_or_else(|| "it failed again and again".to_owned());
        let message = match left.is_zero() {
            true => format!("the upstream `{}` is being tried again after a rest: {why}", self.name()),
            false => format!("the upstream `{}` rests for {} ms: {why}", self.name(), left.as_millis()),
        };
        self.busy(message, left.max(Duration::from_secs(1)))
    }

    fn full(&self, full: Full) -> WireError {
        self.record.failures.fetch_add(1, Ordering::Relaxed);
        let why = match full {
            Full::Line => "too many requests wait for it",
            Full::Waited => "the wait for a place took too long",
        };
        self.busy(format!("the upstream `{}` is busy: {why}", self.name()), Duration::from_secs(1))
    }

    /// Nothing was sent: another upstream may be asked, or this one later.
    fn busy(&self, message: String, wait: Duration) -> WireError {
        let mut error = WireError::new(ErrorCode::Overloaded, message);
        error.retryable = Some(true);
        error.retry_after_ms = Some(wait.as_millis() as u64);
        error.details = Some(details(self.name(), None, None, None));
        error
    }
}

fn headers(settings: &UpstreamSettings) -> HeaderMap {
    let mut headers = HeaderMap::new();
    headers.insert(ACCEPT, HeaderValue::from_static("application/json, text/event-stream"));
    headers.insert(ACCEPT_ENCODING, HeaderValue::from_static("identity"));
    if let Some(key) = &settings.api_key {
        headers.insert(AUTHORIZATION, key.header());
    }
    headers
}

/// TLS as the machine trusts it. One for all upstreams: reading the certificates takes a while.
fn tls() -> ClientConfig {
    static TLS: LazyLock<ClientConfig> = LazyLock::new(|| {
        let mut roots = RootCertStore::empty();
        let found = rustls_native_certs::load_native_certs();
        for problem in &found.errors {
            tracing::warn!(%problem, "certificates of the machine cannot be read");
        }
        let (_, unusable) = roots.add_parsable_certificates(found.certs);
        if unusable > 0 {
            tracing::debug!(unusable, "certificates of the machine are left out");
        }
        let ring = Arc::new(rustls::crypto::ring::default_provider());
        ClientConfig::builder_with_provider(ring)
            .with_safe_default_protocol_versions()
            .expect("ring has what both versions of TLS need")
            .with_root_certificates(roots)
            .with_no_client_auth()
    });
    TLS.clone()
}
