//! A host in memory, to test a plugin without a daemon and without a socket.
//!
//! [`TestHost`] speaks through the protocol's real host half, over a WebSocket inside the process:
//! what it lets pass the daemon lets pass, and what breaks a rule is counted here as there. It decides
//! nothing about rights, routes or restarts; those are the daemon's.
//!
//! Everything here waits at most ten seconds and then panics with what it waited for.

mod link;
mod pipe;

use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use bkg_protocol::message::{
    AuthChanged, Caller, CancelReason, Event, Health, Log, Publish, Register, Request, Secret, Telemetry,
};
use bkg_protocol::{
    CapabilityName, ErrorCode, Limits, PluginName, RawJson, RequestId, Scope, Scopes, WireError,
};
use tokio::sync::{mpsc, oneshot};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

use crate::environment::Environment;
use crate::error::RunError;
use crate::json::IntoJson;
use crate::plugin::Plugin;
use link::{Link, Waiter};
use pipe::pipe;

/// How long anything here waits.
const PATIENCE: Duration = Duration::from_secs(10);
/// The launch token of a plugin under test.
const TOKEN: &str = "test-launch-token";

/// What becomes of a capability that the plugin under test asks for: chunks and an outcome, or nothing
/// for ever.
pub(crate) type Peer = Box<dyn Fn(&Request) -> Option<(Vec<RawJson>, Result<RawJson, WireError>)> + Send>;

/// What a plugin has said so far.
#[derive(Debug, Clone, Default)]
pub struct Seen {
    /// Its registrations: one, and one more for each time it came back.
    pub registrations: Vec<Register>,
    /// Its log lines.
    pub logs: Vec<Log>,
    /// Its beats.
    pub health: Vec<Health>,
    /// Its figures.
    pub telemetry: Vec<Telemetry>,
    /// The events that it published.
    pub published: Vec<Publish>,
    /// The topics that it wants now.
    pub topics: Vec<String>,
    /// What it said about credentials that changed.
    pub auth_changes: Vec<AuthChanged>,
    /// How many [`Seen::answers`] had come when each of [`Seen::auth_changes`] did.
    pub answers_before_auth_changes: Vec<usize>,
    /// Its answers, also those that nobody waited for.
    pub answers: Vec<(RequestId, Result<RawJson, WireError>)>,
    /// What it asked for, by capability.
    pub asked: Vec<Request>,
    /// What it gave up of what it had asked for.
    pub gave_up: Vec<RequestId>,
    /// How many frames broke a rule or came too late.
    pub dropped: u64,
    /// The close codes of its sessions, where it closed them in order.
    pub closed: Vec<u16>,
}

/// What a [`TestHost`] is to be like.
#[must_use]
pub struct TestHostBuilder {
    settings: RawJson,
    limits: Limits,
    rejection: Option<(ErrorCode, String)>,
    update_refusal: Option<WireError>,
    peers: HashMap<CapabilityName, Peer>,
    credentials: Vec<(String, Caller)>,
    environment: Environment,
}

impl TestHostBuilder {
    /// The settings that the plugin gets when it registers.
    pub fn settings(mut self, settings: impl IntoJson) -> Self {
        self.settings = settings.into_json();
        self
    }

    /// The bounds of the session, heartbeat included.
    pub fn limits(mut self, limits: Limits) -> Self {
        self.limits = limits;
        self
    }

    /// The plugin's name; `test` unless said.
    ///
    /// # Panics
    /// If no plugin can have the name.
    pub fn name(mut self, name: &str) -> Self {
        self.environment.name = name.parse().expect("the test names a plugin");
        self
    }

    /// Where the plugin may keep data.
    pub fn data_dir(mut self, data_dir: impl Into<std::path::PathBuf>) -> Self {
        self.environment = self.environment.with_data_dir(data_dir);
        self
    }

    /// Refuses every registration.
    pub fn rejecting(mut self, code: ErrorCode, message: &str) -> Self {
        self.rejection = Some((code, message.to_owned()));
        self
    }

    /// Refuses every `update`.
    pub fn refusing_updates(mut self, error: WireError) -> Self {
        self.update_refusal = Some(error);
        self
    }

    /// Has `host.authorize` know a credential of a user who has these scopes; every other credential opens
    /// nothing.
    pub fn credential(mut self, token: &str, user: &str, scopes: &[&str]) -> Self {
        let scopes = scopes.iter().map(ToString::to_string).collect();
        self.credentials.push((token.to_owned(), Caller { user: user.to_owned(), key_id: None, scopes }));
        self
    }

    /// Answers a capability that the plugin asks for.
    ///
    /// # Panics
    /// If no capability can have the name.
    pub fn answering<A: IntoJson>(
        self,
        capability: &str,
        answer: impl Fn(&Request) -> Result<A, WireError> + Send + 'static,
    ) -> Self {
        self.peer(
            capability,
            Box::new(move |request| Some((vec![], answer(request).map(IntoJson::into_json)))),
        )
    }

    /// Answers a capability that the plugin asks for in chunks, as fast as it takes them.
    ///
    /// # Panics
    /// If no capability can have the name.
    pub fn streaming<A: IntoJson>(
        self,
        capability: &str,
        chunks: impl Fn(&Request) -> Vec<A> + Send + 'static,
    ) -> Self {
        self.peer(
            capability,
            Box::new(move |request| {
                Some((chunks(request).into_iter().map(IntoJson::into_json).collect(), Ok(RawJson::NULL)))
            }),
        )
    }

    /// Takes requests for a capability and never answers them.
    ///
    /// # Panics
    /// If no capability can have the name.
    pub fn silent(self, capability: &str) -> Self {
        self.peer(capability, Box::new(|_| None))
    }

    fn peer(mut self, capability: &str, peer: Peer) -> Self {
        self.peers.insert(capability.parse().expect("the test names a capability"), peer);
        self
    }

    /// Launches the plugin and waits until it has registered.
    ///
    /// # Panics
    /// If it ends before that.
    pub async fn start(self, plugin: Plugin) -> TestHost {
        let mut host = self.launch(plugin);
        let registered = tokio::select! {
            biased;
            () = host.link.registered() => Ok(()),
            ended = &mut host.plugin => Err(ended),
        };
        if let Err(ended) = registered {
            panic!("the plugin ended before it registered: {ended:?}");
        }
        host
    }

    /// Launches the plugin and waits for nothing.
    pub fn launch(mut self, plugin: Plugin) -> TestHost {
        let credentials = std::mem::take(&mut self.credentials);
        let authorize: CapabilityName = "host.authorize".parse().expect("the host's own names are valid");
        self.peers.entry(authorize).or_insert_with(|| {
            Box::new(move |request| Some((vec![], authorized(&credentials, &request.payload))))
        });
        let (dialler, incoming) = pipe();
        let link = Arc::new(Link::new(self.settings, self.limits, self.peers));
        link.decide(self.rejection, self.update_refusal);
        let host = AbortOnDropHandle::new(tokio::spawn(link.clone().listen(incoming)));
        let stop = CancellationToken::new();
        let signal = stop.clone();
        let plugin = AbortOnDropHandle::new(tokio::spawn(async move {
            plugin.serve_over(dialler, self.environment, signal.cancelled_owned()).await
        }));
        TestHost { link, plugin, stop, _host: host }
    }
}

/// What the daemon would answer to `host.authorize` if these were all the credentials that there are.
fn authorized(credentials: &[(String, Caller)], payload: &RawJson) -> Result<RawJson, WireError> {
    #[derive(serde::Deserialize)]
    struct Question {
        token: String,
        scope: Scope,
    }
    let Question { token, scope } =
        payload.read().map_err(|error| WireError::new(ErrorCode::InvalidRequest, error.to_string()))?;
    let refused = |reason| Ok(RawJson::of(&serde_json::json!({ "allowed": false, "reason": reason })));
    let Some((_, caller)) = credentials.iter().find(|(known, _)| *known == token) else {
        return refused("unknown credential");
    };
    if !Scopes::lenient(caller.scopes.iter().map(String::as_str)).grant(scope.as_str()) {
        return refused("scope");
    }
    let mut answer = serde_json::json!(caller);
    answer["allowed"] = true.into();
    Ok(RawJson::of(&answer))
}

impl fmt::Debug for TestHostBuilder {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("TestHostBuilder").finish_non_exhaustive()
    }
}

/// A host in memory with one plugin.
///
/// ```
/// use bkg_sdk::testing::TestHost;
/// use bkg_sdk::{Plugin, Request, Result};
/// use serde_json::{Value, json};
///
/// async fn double(request: Request) -> Result<Value> {
///     Ok(json!(2 * request.read::<i64>()?))
/// }
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() {
/// let host = TestHost::start(Plugin::new().answer("math.double", double)).await;
/// assert_eq!(host.request("math.double", json!(21)).await.unwrap().as_str(), "42");
/// assert_eq!(host.request("math.double", json!("x")).await.unwrap_err().code, "invalid_request");
/// # }
/// ```
#[derive(Debug)]
pub struct TestHost {
    link: Arc<Link>,
    plugin: AbortOnDropHandle<Result<(), RunError>>,
    stop: CancellationToken,
    _host: AbortOnDropHandle<()>,
}

impl TestHost {
    /// A host to be set up.
    pub fn builder() -> TestHostBuilder {
        let name: PluginName = "test".parse().expect("`test` is a plugin name");
        TestHostBuilder {
            settings: RawJson::NULL,
            limits: Limits::default(),
            rejection: None,
            update_refusal: None,
            peers: HashMap::new(),
            credentials: Vec::new(),
            environment: Environment::new("memory", name, Secret::new(TOKEN)),
        }
    }

    /// Launches a plugin on a host with defaults, and waits until it has registered.
    pub async fn start(plugin: Plugin) -> Self {
        Self::builder().start(plugin).await
    }

    /// Asks for one answer.
    ///
    /// # Errors
    /// The error that the plugin answered.
    pub async fn request(&self, capability: &str, payload: impl IntoJson) -> Result<RawJson, WireError> {
        self.start_request(capability, payload).outcome().await
    }

    /// Asks for one answer and does not wait for it yet.
    pub fn start_request(&self, capability: &str, payload: impl IntoJson) -> TestRequest {
        self.send(Request::new(name(capability), payload.into_json()))
    }

    /// Asks for an answer in chunks, and grants credit as they are taken.
    pub fn stream(&self, capability: &str, payload: impl IntoJson) -> TestRequest {
        let mut request =
            self.send(Request { stream: true, ..Request::new(name(capability), payload.into_json()) });
        request.grants = true;
        request
    }

    /// Asks for an answer in chunks with so much credit; further credit is the test's affair.
    pub fn stream_with_credit(&self, capability: &str, payload: impl IntoJson, credit: u32) -> TestRequest {
        self.send(Request {
            stream: true,
            credit: Some(credit),
            ..Request::new(name(capability), payload.into_json())
        })
    }

    /// Sends a request with every field as the test wants it.
    ///
    /// # Panics
    /// If no session is open.
    pub fn send(&self, request: Request) -> TestRequest {
        let (chunks, received) = mpsc::unbounded_channel();
        let (answer, outcome) = oneshot::channel();
        let waiter = Waiter { chunks, answer: Some(answer) };
        let id = self.link.start(request, waiter).expect("the plugin takes requests");
        TestRequest { id, link: self.link.clone(), chunks: received, outcome, grants: false }
    }

    /// Pushes settings and waits for the plugin's verdict.
    ///
    /// # Errors
    /// Why the plugin refuses them.
    pub async fn configure(&self, settings: impl IntoJson) -> Result<(), WireError> {
        let revision = self.link.push_config(settings.into_json());
        self.verdict(revision, false).await
    }

    /// Asks what the plugin thinks of settings, as the host does before it saves them.
    ///
    /// # Errors
    /// Why the plugin would refuse them.
    pub async fn dry_run(&self, settings: impl IntoJson) -> Result<(), WireError> {
        let revision = self.link.try_config(settings.into_json());
        self.verdict(revision, true).await
    }

    async fn verdict(&self, revision: u64, dry_run: bool) -> Result<(), WireError> {
        self.link
            .wait("the plugin answers the settings", |state| {
                let mut applied = state.applied.iter();
                let verdict =
                    applied.find(|applied| (applied.revision, applied.dry_run) == (revision, dry_run))?;
                Some(match verdict.success {
                    true => Ok(()),
                    false => Err(verdict.error.clone().expect("a refusal has a reason")),
                })
            })
            .await
    }

    /// Sends an event of a topic.
    pub fn event(&self, topic: &str, data: impl IntoJson) {
        self.link.event(Event { topic: topic.to_owned(), data: data.into_json(), client: None });
    }

    /// Asks the plugin to finish what it has.
    pub fn drain(&self, within: Duration) {
        self.link.drain(within);
    }

    /// Gives the plugin the signal to stop, as SIGTERM would.
    pub fn signal(&self) {
        self.stop.cancel();
    }

    /// Breaks the link without a word.
    pub fn break_link(&self) {
        self.link.break_off();
    }

    /// Waits for the plugin's end, and answers how it ended.
    ///
    /// # Errors
    /// Why it could not go on.
    ///
    /// # Panics
    /// If it does not end in time, or when asked again.
    pub async fn ended(&mut self) -> Result<(), RunError> {
        let ended = timeout(PATIENCE, &mut self.plugin).await.expect("waited 10 s: the plugin ends");
        ended.expect("the plugin's task ends by itself")
    }

    /// What the plugin has said so far.
    pub fn seen(&self) -> Seen {
        self.link.seen()
    }

    /// Waits until what the plugin has said fulfils a condition; `what` says in the panic which.
    ///
    /// # Panics
    /// If it does not in time.
    pub async fn until(&self, what: &str, condition: impl Fn(&Seen) -> bool) {
        self.link.wait(what, |state| condition(&state.seen).then_some(())).await;
    }

    /// How many requests the plugin has yet to answer.
    pub fn in_flight(&self) -> usize {
        self.link.in_flight()
    }
}

fn name(capability: &str) -> CapabilityName {
    capability.parse().expect("the test names a capability")
}

/// A request that a test has sent.
#[derive(Debug)]
pub struct TestRequest {
    id: RequestId,
    link: Arc<Link>,
    /// Bounded by the credit that the host half enforces.
    chunks: mpsc::UnboundedReceiver<RawJson>,
    outcome: oneshot::Receiver<Result<RawJson, WireError>>,
    grants: bool,
}

impl TestRequest {
    /// Its id.
    pub fn id(&self) -> &RequestId {
        &self.id
    }

    /// The next chunk; `None` after the last one.
    ///
    /// # Panics
    /// If none comes in time.
    pub async fn next(&mut self) -> Option<RawJson> {
        let chunk = timeout(PATIENCE, self.chunks.recv()).await.expect("waited 10 s: a chunk comes");
        if self.grants && chunk.is_some() {
            self.link.grant(&self.id, 1);
        }
        chunk
    }

    /// The chunk that is here already, if one is.
    pub fn next_now(&mut self) -> Option<RawJson> {
        self.chunks.try_recv().ok()
    }

    /// All chunks that are left, and the outcome.
    pub async fn collect(mut self) -> (Vec<RawJson>, Result<RawJson, WireError>) {
        let mut chunks = Vec::new();
        while let Some(chunk) = self.next().await {
            chunks.push(chunk);
        }
        (chunks, self.outcome().await)
    }

    /// Allows `n` more chunks.
    pub fn grant(&self, n: u32) {
        self.link.grant(&self.id, n);
    }

    /// Gives up on it. Its answer shows in [`Seen::answers`] only.
    pub fn cancel(&self, reason: CancelReason) {
        self.link.cancel(&self.id, reason);
    }

    /// The outcome.
    ///
    /// # Errors
    /// The error that the plugin answered, or `plugin_disconnected` where the session ended first.
    ///
    /// # Panics
    /// If none comes in time.
    pub async fn outcome(self) -> Result<RawJson, WireError> {
        let outcome = timeout(PATIENCE, self.outcome).await.expect("waited 10 s: an answer comes");
        outcome.unwrap_or_else(|_| {
            Err(WireError::new(ErrorCode::PluginDisconnected, "the session ended before the answer"))
        })
    }
}

/// Chunks that wait for credit.
pub(crate) type Backlog = VecDeque<RawJson>;
