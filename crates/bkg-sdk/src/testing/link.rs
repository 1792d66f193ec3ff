//! The host's end of the link to the plugin under test.
//!
//! Drives the protocol's host half as the daemon's connection does, and writes down what the plugin
//! says. It knows one plugin, and one link at a time.

use std::collections::HashMap;
use std::future::poll_fn;
use std::sync::{Mutex, MutexGuard};
use std::task::Poll;
use std::time::{Duration, Instant};

use bkg_protocol::exchange::{NotSent, Refusal};
use bkg_protocol::frame::{Decoded, Message};
use bkg_protocol::host::{Acceptance, HostEvent, HostSession};
use bkg_protocol::inbound::ChunkRefused;
use bkg_protocol::message::{
    CancelReason, Config, ConfigApplied, Event, PluginMessage, Register, Request, Secret,
};
use bkg_protocol::{CapabilityName, ErrorCode, InstanceId, Limits, RawJson, RequestId, WireError};
use futures_util::task::AtomicWaker;
use tokio::io::DuplexStream;
use tokio::sync::{mpsc, oneshot, watch};
use tokio_tungstenite::WebSocketStream;

use super::pipe::Links;
use super::{Backlog, PATIENCE, Peer, Seen, TOKEN};
use crate::wire::{Gone, Wire};

/// Who waits in the test.
#[derive(Debug)]
pub(crate) struct Waiter {
    pub(crate) chunks: mpsc::UnboundedSender<RawJson>,
    pub(crate) answer: Option<oneshot::Sender<Result<RawJson, WireError>>>,
}

impl Waiter {
    fn finish(&mut self, outcome: Result<RawJson, WireError>) {
        if let Some(answer) = self.answer.take() {
            // The test may have lost interest.
            let _ = answer.send(outcome);
        }
    }
}

/// The state of the host that a test looks at.
pub(crate) struct State {
    half: HostSession<Waiter>,
    pub(crate) seen: Seen,
    pub(crate) applied: Vec<ConfigApplied>,
    settings: RawJson,
    revision: u64,
    resume: Option<Secret>,
    rejection: Option<(ErrorCode, String)>,
    update_refusal: Option<WireError>,
    peers: HashMap<CapabilityName, Peer>,
    /// Answers to the plugin's own requests that are waiting for credit.
    backlogs: HashMap<RequestId, (Backlog, Result<RawJson, WireError>)>,
    broken_off: bool,
}

pub(crate) struct Link {
    began: Instant,
    limits: Limits,
    state: Mutex<State>,
    writer: AtomicWaker,
    changed: watch::Sender<()>,
}

impl std::fmt::Debug for Link {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.debug_struct("Link").finish_non_exhaustive()
    }
}

impl Link {
    pub(crate) fn new(settings: RawJson, limits: Limits, peers: HashMap<CapabilityName, Peer>) -> Self {
        Self {
            began: Instant::now(),
            state: Mutex::new(State {
                half: HostSession::new(rand::random(), limits.clone(), None),
                seen: Seen::default(),
                applied: Vec::new(),
                settings,
                revision: 1,
                resume: None,
                rejection: None,
                update_refusal: None,
                peers,
                backlogs: HashMap::new(),
                broken_off: false,
            }),
            limits,
            writer: AtomicWaker::new(),
            changed: watch::Sender::new(()),
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("nothing panics under this lock")
    }

    /// Changes the state, and lets the link and the waiting test look at it again.
    fn change<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        let result = change(&mut self.lock());
        self.writer.wake();
        self.changed.send_replace(());
        result
    }

    pub(crate) fn decide(&self, rejection: Option<(ErrorCode, String)>, update_refusal: Option<WireError>) {
        self.change(|state| (state.rejection, state.update_refusal) = (rejection, update_refusal));
    }

    /// Serves one link after the other.
    pub(crate) async fn listen(self: std::sync::Arc<Self>, mut links: Links) {
        while let Some(socket) = links.recv().await {
            self.change(|state| {
                state.half = HostSession::new(rand::random(), self.limits.clone(), None);
                state.broken_off = false;
            });
            self.serve(socket).await;
            self.change(|state| {
                state.half.end();
                state.backlogs.clear();
                state.seen.topics.clear();
            });
        }
    }

    async fn serve(&self, socket: WebSocketStream<DuplexStream>) {
        let mut wire = Wire::new(socket);
        loop {
            let turn = poll_fn(|cx| {
                self.writer.register(cx.waker());
                let (broken_off, closing) = {
                    let state = self.lock();
                    (state.broken_off, state.half.closing().cloned())
                };
                if broken_off {
                    return Poll::Ready(None);
                }
                match wire.poll(cx, || self.lock().half.next_frame()) {
                    Poll::Ready(turn) => Poll::Ready(Some(turn)),
                    Poll::Pending if closing.is_some() && wire.is_flushed() => Poll::Ready(None),
                    Poll::Pending => Poll::Pending,
                }
            })
            .await;
            match turn {
                Some(Ok(text)) => self.change(|state| state.hear(&text, self.began.elapsed())),
                Some(Err(Gone::Closed(code, _))) => {
                    self.change(|state| state.seen.closed.push(code));
                    return;
                }
                Some(Err(Gone::Broken(_))) => return,
                None => break,
            }
        }
        let closing = self.lock().half.closing().cloned();
        if let Some(close) = closing {
            // The plugin may have gone already.
            let _ = tokio::time::timeout(PATIENCE, wire.close(close.code, &close.reason)).await;
        }
    }

    pub(crate) fn start(&self, request: Request, waiter: Waiter) -> Result<RequestId, Refusal> {
        self.change(|state| state.half.start(request, waiter).map_err(|NotSent { why, .. }| why))
    }

    pub(crate) fn cancel(&self, id: &RequestId, reason: CancelReason) {
        self.change(|state| state.half.cancel(id, reason, self.began.elapsed()));
    }

    pub(crate) fn grant(&self, id: &RequestId, n: u32) {
        self.change(|state| state.half.credit(id, n));
    }

    pub(crate) fn push_config(&self, settings: RawJson) -> u64 {
        self.change(|state| {
            state.revision += 1;
            state.settings = settings.clone();
            state.half.config(Config { revision: state.revision, config: settings, dry_run: false });
            state.revision
        })
    }

    /// Asks about settings; who registers again is not given them.
    pub(crate) fn try_config(&self, settings: RawJson) -> u64 {
        self.change(|state| {
            state.revision += 1;
            state.half.config(Config { revision: state.revision, config: settings, dry_run: true });
            state.revision
        })
    }

    pub(crate) fn event(&self, event: Event) {
        self.change(|state| state.half.event(event));
    }

    pub(crate) fn drain(&self, within: Duration) {
        self.change(|state| state.half.drain(within));
    }

    pub(crate) fn break_off(&self) {
        self.change(|state| state.broken_off = true);
    }

    pub(crate) fn seen(&self) -> Seen {
        self.lock().seen.clone()
    }

    pub(crate) fn in_flight(&self) -> usize {
        self.lock().half.in_flight()
    }

    pub(crate) async fn registered(&self) {
        let registered = |state: &State| (!state.seen.registrations.is_empty()).then_some(());
        self.wait("the plugin registers", registered).await;
    }

    /// Waits until `look` finds something.
    pub(crate) async fn wait<T>(&self, what: &str, look: impl Fn(&State) -> Option<T>) -> T {
        let mut changed = self.changed.subscribe();
        let waiting = async {
            loop {
                if let Some(found) = look(&self.lock()) {
                    return found;
                }
                changed.changed().await.expect("the link holds the sender");
            }
        };
        match tokio::time::timeout(PATIENCE, waiting).await {
            Ok(found) => found,
            Err(_) => panic!("waited 10 s in vain: {what}; seen: {:#?}", self.seen()),
        }
    }
}

impl State {
    fn hear(&mut self, text: &str, now: Duration) {
        if let Ok(Decoded::Message(PluginMessage::Response(response))) = PluginMessage::decode(text) {
            self.seen.answers.push((response.request_id, response.outcome));
        }
        match self.half.receive(text, now) {
            HostEvent::Register(register) => self.register(*register),
            HostEvent::Answered { mut waiter, outcome } => waiter.finish(outcome),
            HostEvent::Chunk { waiter, data } => {
                let _ = waiter.chunks.send(data);
            }
            HostEvent::Broken { waiter, error } => waiter.finish(Err(error)),
            HostEvent::Request(request) => self.answer(*request),
            HostEvent::RequestCancelled(id) => {
                self.backlogs.remove(&id);
                let error = WireError::new(ErrorCode::Cancelled, "the request was cancelled");
                self.half.answer(&id, Err(error));
                self.seen.gave_up.push(id);
            }
            HostEvent::MayStream(id) => self.stream(&id),
            HostEvent::Health(health) => self.seen.health.push(health),
            HostEvent::Telemetry(telemetry) => self.seen.telemetry.push(telemetry),
            HostEvent::Log(log) => self.seen.logs.push(*log),
            HostEvent::Update(update) => {
                let refusal = self.update_refusal.clone();
                if refusal.is_none()
                    && let Some(registration) = self.seen.registrations.last_mut()
                {
                    *registration = update.applied_to(registration);
                }
                self.half.updated(refusal.map_or(Ok(()), Err));
            }
            HostEvent::Subscribe(topic) => self.seen.topics.push(topic),
            HostEvent::Unsubscribe(topic) => self.seen.topics.retain(|wanted| *wanted != topic),
            HostEvent::Publish(publish) => self.seen.published.push(publish),
            HostEvent::ConfigApplied(applied) => self.applied.push(applied),
            HostEvent::Dropped(_) => self.seen.dropped += 1,
            HostEvent::AuthChanged(changed) => {
                self.seen.auth_changes.push(changed);
                self.seen.answers_before_auth_changes.push(self.seen.answers.len());
            }
            HostEvent::Released { .. } | HostEvent::Closing => {}
        }
    }

    /// The first registration shows the launch token, the next ones what the last one gave.
    fn register(&mut self, register: Register) {
        let is_right = match &self.resume {
            None => register.token.as_ref().is_some_and(|token| token.reveal() == TOKEN),
            Some(_) => register.resume == self.resume,
        };
        if let Some((code, message)) = &self.rejection {
            return self.half.reject(*code, message);
        }
        if !is_right {
            return self.half.reject(ErrorCode::Unauthorized, "the secret is not the one that was given");
        }
        let resume = Secret::new(format!("resume-{}", self.seen.registrations.len()));
        self.resume = Some(resume.clone());
        self.half.accept(Acceptance {
            instance: InstanceId::new(),
            resume,
            config: self.settings.clone(),
            config_revision: self.revision,
        });
        self.seen.registrations.push(register);
    }

    fn answer(&mut self, request: Request) {
        let id = request.request_id.clone();
        let prepared = match self.peers.get(&request.capability) {
            Some(peer) => peer(&request),
            None => {
                let problem = format!("no plugin answers `{}`", request.capability);
                Some((vec![], Err(WireError::new(ErrorCode::PluginUnavailable, problem))))
            }
        };
        self.seen.asked.push(request);
        let Some((chunks, outcome)) = prepared else { return };
        self.backlogs.insert(id.clone(), (chunks.into(), outcome));
        self.stream(&id);
    }

    fn stream(&mut self, id: &RequestId) {
        let Some((backlog, _)) = self.backlogs.get_mut(id) else { return };
        while let Some(chunk) = backlog.front() {
            match self.half.send_chunk(id, chunk.clone()) {
                Ok(()) => drop(backlog.pop_front()),
                Err(ChunkRefused::NoCredit) => return,
                Err(refused) => {
                    let error = WireError::new(ErrorCode::PluginError, refused.to_string());
                    self.backlogs.remove(id);
                    self.half.answer(id, Err(error));
                    return;
                }
            }
        }
        if let Some((_, outcome)) = self.backlogs.remove(id) {
            self.half.answer(id, outcome);
        }
    }
}
