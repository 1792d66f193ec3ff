//! One task per plugin socket: the only code that touches it.
//!
//! It drives the host's half of the protocol: reads frames into it, carries orders from the mailbox
//! to it, writes what it wants written. The invariant: when the task ends, for whatever reason, every
//! waiter has had its answer, and the instance is out of the registry.

use std::collections::{HashMap, HashSet};
use std::future::poll_fn;
use std::mem::Discriminant;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bkg_protocol::exchange::{GivenUp, Lost, NotSent, Refusal};
use bkg_protocol::host::{Acceptance, Close, Contract, DropCounts, HostEvent, HostSession, Overdue};
use bkg_protocol::inbound::ChunkRefused;
use bkg_protocol::message::{
    AuthChanged, CancelReason, Condition, Config, ConfigApplied, Log, LogLevel, Register, Request, Secret,
    Update,
};
use bkg_protocol::{CapabilityName, ErrorCode, RawJson, RequestId, WireError};
use futures_util::{FutureExt, SinkExt, StreamExt};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::sync::{Notify, oneshot};
use tokio::time::{Instant, MissedTickBehavior, interval, timeout_at};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::error::CapacityError;
use tokio_tungstenite::tungstenite::protocol::CloseFrame;
use tokio_tungstenite::tungstenite::{Error as SocketError, Message, Utf8Bytes};
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

use super::calls::{OpenCalls, PluginCall};
use super::liveness::{Link, Liveness, Silence};
use super::topics::{self, TopicRefused};
use super::turn::{News, Turn};
use super::{Bus, admission};
use crate::config::Identity;
use crate::logs::NewLine;
use crate::registry::{
    Ask, Failure, Instance, Launch, LaunchEvent, Lineage, NewInstance, Order, Part, Purpose, Registration,
    Reply, Slot,
};
use crate::store::OpenRequest;

/// How many happenings may pass before what waits is written in any case.
const WRITE_AT_LEAST_EVERY: u32 = 64;
/// How many bytes may wait to be written before chunks for the plugin are held back: credit says what it
/// means to read, this is what it does read.
const MOST_UNWRITTEN: usize = 1 << 20;
/// How many events are written before it is looked whether there are answers to write: events yield.
const EVENTS_AT_ONCE: u32 = 32;
/// How many pongs may wait to be written. With so many nothing more is read: whoever asks for pongs and does
/// not take them would otherwise fill the host's memory.
const MOST_PONGS: u32 = 32;
/// How long a socket that closes may take to be written empty.
const CLOSE_WITHIN: Duration = Duration::from_secs(2);

/// Why a launch that is being stopped or replaced gets no session any more.
const BEING_ENDED: &str = "this launch is being ended";

/// A socket with everything that its session knows.
pub(super) struct Connection {
    bus: Arc<Bus>,
    socket: WebSocketStream<TcpStream>,
    /// Whose private listener was dialled; `None` on the shared port.
    launch: Option<Arc<Launch>>,
    /// Whether the peer is known to be a process of the launch.
    verified: bool,
    upgrade_token: Option<Secret>,
    register_by: Instant,
    begun: Instant,
    session: HostSession<Waiter>,
    /// Present from the registration on.
    registered: Option<Registered>,
    /// The ids of the requests that are open, by the dispatcher's ticket.
    tickets: HashMap<u64, RequestId>,
    calls: OpenCalls,
    /// Settings that the plugin was sent and has not said anything of.
    pushes: Vec<Pushed>,
    orders: Vec<Order>,
    writing: Writing,
    turn: Turn,
    news: News,
    /// The frames without effect that the instance shows.
    shown_drops: DropCounts,
}

/// Settings that were sent, and who waits to hear what the plugin says of them.
struct Pushed {
    revision: u64,
    purpose: Purpose,
    waiter: oneshot::Sender<Result<(), WireError>>,
}

/// What is known once the plugin has registered.
struct Registered {
    launch: Arc<Launch>,
    instance: Arc<Instance>,
    liveness: Liveness,
    /// The plugin's own word.
    word: Condition,
    reported_silence: bool,
    /// What was refused of what it said about topics, and is said once in its log.
    told: HashSet<Discriminant<TopicRefused>>,
}

/// Who waits for an answer of the plugin.
struct Waiter {
    ticket: u64,
    /// Taken when the last word is said, which is before the plugin's own when a stream breaks.
    reply: Option<Reply>,
    slot: Slot,
    lineage: Arc<Lineage>,
    capability: CapabilityName,
    begun: Instant,
}

/// How far the writing is.
#[derive(Debug, Default)]
struct Writing {
    unflushed: bool,
    /// Whether the other tasks had their turn since something came to be written: what they add goes
    /// out with the same flush, which moves 1.2 times as many requests.
    yielded: bool,
    happenings: u32,
    /// How many pongs the socket has made by itself and may not have written yet.
    pongs: u32,
    burn_token: bool,
    /// Whether a chunk for the plugin was held back until all is written.
    held_back: bool,
}

enum Happening {
    Frame(Utf8Bytes),
    Binary(usize),
    Ping,
    Pong,
    Orders,
    Gone(Option<SocketError>),
}

impl Connection {
    pub(super) fn new(
        bus: Arc<Bus>,
        socket: WebSocketStream<TcpStream>,
        launch: Option<Arc<Launch>>,
        verified: bool,
        upgrade_token: Option<Secret>,
        register_by: Instant,
    ) -> Self {
        let max_frame_bytes = launch.as_ref().and_then(|launch| launch.entry.max_frame_bytes);
        let session = HostSession::new(rand::random(), bus.config.limits.clone(), max_frame_bytes);
        Self {
            bus,
            socket,
            launch,
            verified,
            upgrade_token,
            register_by,
            begun: Instant::now(),
            session,
            registered: None,
            tickets: HashMap::new(),
            calls: OpenCalls::default(),
            pushes: Vec::new(),
            orders: Vec::new(),
            writing: Writing::default(),
            turn: Turn::default(),
            news: News::default(),
            shown_drops: DropCounts::default(),
        }
    }

    /// Serves the socket until either side ends the session, or `over` fires.
    pub(super) async fn run(mut self, over: CancellationToken) {
        let is_over = over.clone();
        let mut over = std::pin::pin!(over.cancelled_owned());
        let mut tick = interval(self.bus.config.limits.heartbeat / 8);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let problem = loop {
            let mut others_first = false;
            tokio::select! {
                biased;
                happening = poll_fn(|cx| self.poll(cx)) => match happening {
                    Happening::Frame(text) => {
                        others_first = self.turn.heard(text.len());
                        self.hear(&text);
                    }
                    Happening::Binary(bytes) => {
                        others_first = self.turn.heard(bytes);
                        self.hear_binary();
                    }
                    Happening::Ping => others_first = self.turn.heard(0),
                    Happening::Pong => {
                        others_first = self.turn.heard(0);
                        self.pong();
                    }
                    Happening::Orders => self.carry_out(),
                    Happening::Gone(problem) => break problem,
                },
                () = &mut over => self.session.shut(1008, "the launch is over"),
                _ = tick.tick() => self.tick(),
            }
            if others_first && self.session.closing().is_none() {
                // A plugin that never stops sending delays nobody else, and no verdict on itself.
                tokio::task::yield_now().await;
                if is_over.is_cancelled() {
                    self.session.shut(1008, "the launch is over");
                } else if tick.tick().now_or_never().is_some() {
                    self.tick();
                }
            }
            if self.session.closing().is_some() {
                break None;
            }
        };
        self.end(problem).await;
    }

    /// Reads while there is something to read, then writes everything with one flush.
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Happening> {
        self.writing.happenings += 1;
        if self.writing.happenings >= WRITE_AT_LEAST_EVERY
            && let Poll::Ready(Err(problem)) = self.poll_write(cx)
        {
            return Poll::Ready(Happening::Gone(Some(problem)));
        }
        if let Some(registered) = &self.registered {
            registered.instance.mailbox.wake(cx.waker());
            registered.instance.mailbox.take(&mut self.orders);
            if !self.orders.is_empty() {
                return Poll::Ready(Happening::Orders);
            }
        }
        loop {
            if self.writing.pongs >= MOST_PONGS
                && let Err(problem) = ready!(self.poll_write(cx))
            {
                return Poll::Ready(Happening::Gone(Some(problem)));
            }
            match self.socket.poll_next_unpin(cx) {
                Poll::Ready(Some(Ok(Message::Text(text)))) => return Poll::Ready(Happening::Frame(text)),
                Poll::Ready(Some(Ok(Message::Pong(_)))) => return Poll::Ready(Happening::Pong),
                Poll::Ready(Some(Ok(Message::Binary(bytes)))) => {
                    return Poll::Ready(Happening::Binary(bytes.len()));
                }
                Poll::Ready(Some(Ok(Message::Ping(_)))) => {
                    // Tungstenite answers it by itself; that is to be written like everything else.
                    self.writing.pongs += 1;
                    self.writing.unflushed = true;
                    return Poll::Ready(Happening::Ping);
                }
                // Tungstenite answers a close itself, and then the socket ends.
                Poll::Ready(Some(Ok(Message::Close(_) | Message::Frame(_)))) => {}
                Poll::Ready(Some(Err(problem))) => return Poll::Ready(Happening::Gone(Some(problem))),
                Poll::Ready(None) => return Poll::Ready(Happening::Gone(None)),
                Poll::Pending => break,
            }
        }
        let has_company = self.session.in_flight() > 1;
        if has_company
            && self.session.waiting_bytes() > 0
            && !std::mem::replace(&mut self.writing.yielded, true)
        {
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        match ready!(self.poll_write(cx)) {
            Ok(()) => Poll::Pending,
            Err(problem) => Poll::Ready(Happening::Gone(Some(problem))),
        }
    }

    /// Writes every frame that waits, then some events, and flushes once.
    fn poll_write(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), SocketError>> {
        self.writing.happenings = 0;
        for _ in 0..EVENTS_AT_ONCE {
            ready!(self.poll_write_frames(cx))?;
            if !self.has_event() {
                break;
            }
            // An event leaves its queue only when the socket takes it: until then newer ones may drive
            // it out, and whatever else comes to be written is written before it.
            ready!(self.socket.poll_ready_unpin(cx))?;
            self.next_event();
        }
        self.writing.yielded = false;
        if self.has_event() || self.session.waiting_bytes() > 0 {
            cx.waker().wake_by_ref();
        }
        if self.writing.unflushed {
            ready!(self.socket.poll_flush_unpin(cx))?;
            self.writing.unflushed = false;
            self.writing.pongs = 0;
        }
        if std::mem::take(&mut self.writing.burn_token)
            && let Some(launch) = &self.launch
        {
            launch.burn_token();
        }
        Poll::Ready(Ok(()))
    }

    /// Hands every frame that waits to the socket.
    fn poll_write_frames(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), SocketError>> {
        while self.session.waiting_bytes() > 0 {
            ready!(self.socket.poll_ready_unpin(cx))?;
            let Some((frame, waiter)) = self.session.next_frame_and_waiter() else { break };
            if let Some(waiter) = waiter {
                waiter.slot.sent();
            }
            self.bus.metrics.bus.to_plugins.passed(&frame);
            self.socket.start_send_unpin(Message::text(frame))?;
            self.writing.unflushed = true;
        }
        if std::mem::take(&mut self.writing.held_back) {
            self.calls.all_may_stream();
        }
        Poll::Ready(Ok(()))
    }

    /// Whether an event waits for the plugin.
    fn has_event(&self) -> bool {
        self.registered.as_ref().is_some_and(|registered| registered.instance.topics.has_waiting())
    }

    /// Puts the oldest event that waits among the frames.
    fn next_event(&mut self) {
        let event = self.registered.as_ref().and_then(|registered| registered.instance.topics.next());
        if let Some(event) = event {
            self.session.event(event);
        }
    }

    /// Writes what waits, then the close frame, within a bound.
    async fn say_goodbye(&mut self, Close { code, reason }: Close) {
        let goodbye = async {
            poll_fn(|cx| self.poll_write(cx)).await?;
            self.socket.close(Some(CloseFrame { code: code.into(), reason: reason.into() })).await?;
            // Take the rest until the other side closes, so that the reason is not lost to a reset; what
            // it says now has no meaning, and a frame that was too large has no end that could be found.
            let socket = self.socket.get_mut();
            socket.shutdown().await?;
            tokio::io::copy(socket, &mut tokio::io::sink()).await?;
            Ok::<_, SocketError>(())
        };
        // A peer that does not read or does not close is left behind.
        let _ = timeout_at(Instant::now() + CLOSE_WITHIN, goodbye).await;
    }

    fn hear(&mut self, text: &str) {
        self.bus.metrics.bus.from_plugins.passed(text);
        let now = self.begun.elapsed();
        match self.session.receive(text, now) {
            HostEvent::Answered { waiter, outcome } => {
                self.tickets.remove(&waiter.ticket);
                if let Some(reply) = waiter.reply {
                    reply.finish(outcome.map_err(Failure::Plugin));
                }
            }
            HostEvent::Chunk { waiter, data } => {
                if let Some(Reply::Stream(parts)) = &waiter.reply {
                    // Never full: it has room for all credit. Closed: a cancel is on its way.
                    let _ = parts.try_send(Part::Chunk(data));
                }
            }
            HostEvent::Broken { waiter, error } => {
                if let Some(reply) = waiter.reply.take() {
                    reply.finish(Err(Failure::Plugin(error)));
                }
            }
            HostEvent::Released { waiter } => {
                self.tickets.remove(&waiter.ticket);
            }
            HostEvent::Register(register) => self.register(*register),
            HostEvent::Health(health) => self.health(health.condition(), health.detail),
            HostEvent::Telemetry(telemetry) => {
                if let Some(registered) = &self.registered {
                    registered.instance.set_telemetry(telemetry);
                }
            }
            HostEvent::Log(log) => self.log(*log),
            HostEvent::Request(request) => self.call(*request),
            HostEvent::RequestCancelled(id) => {
                if self.calls.abort(&id) {
                    let error = WireError::new(ErrorCode::Cancelled, "the request was cancelled");
                    self.session.answer(&id, Err(error));
                }
            }
            HostEvent::MayStream(id) => self.calls.may_stream(&id),
            HostEvent::Update(update) => self.update(*update),
            HostEvent::AuthChanged(change) => self.auth_changed(&change),
            HostEvent::Dropped(why) => debug!(?why, "a frame of a plugin had no effect"),
            HostEvent::ConfigApplied(applied) => self.config_applied(applied),
            HostEvent::Subscribe(topic) => {
                self.of_topics(|bus, instance| topics::subscribe(&bus.registry, instance, &topic));
            }
            HostEvent::Unsubscribe(topic) => self.of_topics(|_, instance| {
                instance.topics.give_up(&topic);
                Ok(())
            }),
            HostEvent::Publish(publish) => {
                self.of_topics(|bus, instance| topics::publish(&bus.registry, instance, publish));
            }
            HostEvent::Closing => self.note_closing(),
        }
        self.after_hearing();
        self.close_when_drained();
    }

    /// A binary frame, which this protocol has none of.
    fn hear_binary(&mut self) {
        if matches!(self.session.receive_binary(self.begun.elapsed()), HostEvent::Closing) {
            self.note_closing();
        }
        self.after_hearing();
    }

    /// Shows what had no effect, and ends a session whose plugin does not read what it asks for.
    fn after_hearing(&mut self) {
        let drops = self.session.drops();
        if drops != self.shown_drops {
            self.bus.metrics.bus.without_effect.grew(self.shown_drops, drops);
            self.shown_drops = drops;
            if let Some(registered) = &self.registered {
                registered.instance.dropped_frames(drops);
            }
        }
        self.close_if_unread();
    }

    fn close_if_unread(&mut self) {
        if self.session.closing().is_none() && self.session.close_if_unread() {
            self.note_closing();
        }
    }

    /// Says in the plugin's log why its session is closed, where that is a fault of its own.
    fn note_closing(&self) {
        if let (Some(Registered { launch, instance, .. }), Some(Close { code, reason })) =
            (&self.registered, self.session.closing())
        {
            warn!(plugin = %launch.plugin, instance = %instance.id, code, reason, "a session is closed for a fault");
            self.note(launch, LogLevel::Error, format!("its session was closed with {code}: {reason}"));
        }
    }

    fn register(&mut self, register: Register) {
        let name = register.plugin.clone();
        // Neither an error nor news: some dial again as soon as they are closed.
        if self.launch.as_ref().is_some_and(|launch| launch.is_retired()) {
            return self.session.reject(ErrorCode::PluginUnavailable, BEING_ENDED);
        }
        match self.admit(&register) {
            Ok(launch) => self.enter(launch, register),
            Err(error) => {
                warn!(plugin = %name, %error, "a registration was refused");
                if let Some(launch) = &self.launch {
                    let line = format!("its registration was refused: {}", error.message);
                    self.note(launch, LogLevel::Error, line);
                    launch.report(LaunchEvent::Refused { reason: error.message.clone() });
                }
                let code = ErrorCode::parse(&error.code).unwrap_or(ErrorCode::Forbidden);
                self.session.reject(code, &error.message);
            }
        }
    }

    /// Whether this peer may register what it wants to register.
    fn admit(&self, register: &Register) -> Result<Arc<Launch>, WireError> {
        let unauthorized = |message: String| Err(WireError::new(ErrorCode::Unauthorized, message));
        let Some(launch) = &self.launch else {
            let name = &register.plugin;
            return unauthorized(if self.bus.registry.plugin(name.as_str()).is_some() {
                format!("`{name}` is started by this host and registers on its own listener")
            } else {
                format!("no bus key was issued for `{name}`")
            });
        };
        admission::check(register, &launch.entry, &self.bus.config)?;
        if let Some(resume) = &register.resume {
            if !launch.accepts_resume(resume, self.verified) {
                return unauthorized("the resume secret is not the last that was given".to_owned());
            }
        } else if let Some(token) = register.token.as_ref().or(self.upgrade_token.as_ref()) {
            if !launch.accepts_token(token, self.verified) {
                return unauthorized("the launch token is wrong or has been used".to_owned());
            }
        } else if launch.entry.identity == Identity::Token {
            return unauthorized("the entry demands the launch token: send `BKG_PLUGIN_TOKEN`".to_owned());
        } else if !self.verified && self.live_session(launch).is_some() {
            return unauthorized("another connection of this launch is registered".to_owned());
        }
        Ok(Arc::clone(launch))
    }

    /// The session of this launch that is registered now.
    fn live_session(&self, launch: &Launch) -> Option<Arc<Instance>> {
        let record = self.bus.registry.plugin(launch.plugin.as_str())?;
        record.sessions().find(|session| session.id == launch.instance).cloned()
    }

    fn enter(&mut self, launch: Arc<Launch>, register: Register) {
        let Some(record) = self.bus.registry.plugin(launch.plugin.as_str()) else { return };
        let contract = self.session.contract();
        // A base plugin is given no resume secret: its token is all that it can come back with.
        self.writing.burn_token = contract == Contract::Extended;
        let limits = &self.bus.config.limits;
        let instance = Arc::new(Instance::new(NewInstance {
            id: launch.instance,
            team: launch.team,
            pid: launch.process().map(|process| process.pid),
            confinement: Arc::clone(&launch.confinement),
            contract,
            verified: self.verified,
            registration: Registration::new(register),
            entry: Arc::clone(&launch.entry),
            most_in_flight: launch.entry.max_concurrency.unwrap_or(limits.in_flight),
            // Each costs twice: as a frame, and as the payload that may have to go to another instance.
            most_unsent_bytes: self.bus.config.queue.bytes / 8,
            frame_limit: self.session.frame_limit(),
            capacity: Arc::clone(&record.capacity),
        }));
        let capabilities: Vec<String> =
            instance.registration().capabilities().map(ToString::to_string).collect();
        info!(
            plugin = %launch.plugin,
            instance = %launch.instance,
            capabilities = capabilities.join(" "),
            contract = ?contract,
            "instance registered"
        );
        self.registered = Some(Registered {
            launch: Arc::clone(&launch),
            instance: Arc::clone(&instance),
            liveness: Liveness::new(contract, limits, self.begun.elapsed()),
            word: Condition::Healthy,
            reported_silence: false,
            told: HashSet::new(),
        });
        let replaced = self.bus.registry.enter(Arc::clone(&instance));
        // What it is told are the settings that the table says it has: whoever takes them while it runs is
        // given the newest when it comes back, too.
        let entry = instance.entry();
        self.session.accept(Acceptance {
            instance: launch.instance,
            resume: launch.next_resume(),
            config: RawJson::of(&entry.settings),
            config_revision: entry.revision,
        });
        if let Some(replaced) = replaced {
            let reason = "a newer connection of this launch took its place".to_owned();
            let _ = replaced.mailbox.post(Order::Close { code: 1008, reason });
        }
        // Its end may have begun between the look at it and here.
        if launch.is_retired() {
            self.session.shut(1008, BEING_ENDED);
        }
    }

    fn update(&mut self, update: Update) {
        let is_news = self.news.allow(self.begun.elapsed());
        let Some(Registered { launch, instance, .. }) = &self.registered else { return };
        let next = update.applied_to(&instance.registration().register);
        let result = admission::check(&next, &launch.entry, &self.bus.config);
        if result.is_ok() {
            if is_news {
                info!(plugin = %launch.plugin, instance = %launch.instance, "instance updated its registration");
            }
            let registration = instance.registration().updated(next);
            self.bus.registry.update(instance, registration);
        }
        self.session.updated(result);
    }

    /// Before the next frame is read, and so before the answer to whoever made the change.
    fn auth_changed(&self, change: &AuthChanged) {
        let Some(Registered { launch, .. }) = &self.registered else { return };
        if launch.plugin == self.bus.config.auth_provider {
            self.bus.authenticator.changed(change);
        } else {
            let line = "said `authChanged`, which is for the auth provider alone: it has no effect";
            self.note(launch, LogLevel::Warn, line.to_owned());
        }
    }

    /// Does what the plugin said about topics. What it may not say is counted, and the first of each kind
    /// stands in its log.
    fn of_topics(&mut self, act: impl FnOnce(&Bus, &Instance) -> Result<(), TopicRefused>) {
        let Some(Registered { launch, instance, told, .. }) = &mut self.registered else { return };
        let Err(refused) = act(&self.bus, instance) else { return };
        instance.topics.refused();
        if told.insert(std::mem::discriminant(&refused)) {
            let launch = Arc::clone(launch);
            self.note(
                &launch,
                LogLevel::Warn,
                format!("{refused}; more of the kind is counted and not said"),
            );
        }
    }

    fn config_applied(&mut self, applied: ConfigApplied) {
        let purpose = if applied.dry_run { Purpose::DryRun } else { Purpose::InForce };
        let is_meant = |pushed: &Pushed| (pushed.revision, pushed.purpose) == (applied.revision, purpose);
        let Some(place) = self.pushes.iter().position(is_meant) else {
            debug!(revision = applied.revision, ?purpose, "a plugin speaks of settings that were not sent");
            return;
        };
        let Pushed { waiter, .. } = self.pushes.remove(place);
        let refused = || {
            let silent = || WireError::new(ErrorCode::InvalidConfig, "it refused them and said no more");
            applied.error.clone().unwrap_or_else(silent)
        };
        // Whoever pushed them may have lost patience.
        let _ = waiter.send(if applied.success { Ok(()) } else { Err(refused()) });
    }

    fn log(&mut self, log: Log) {
        let Some(Registered { launch, .. }) = &self.registered else { return };
        // A line is found by the id that clients know, for as long as the request is open.
        let about = log.request_id.as_ref().and_then(|id| self.session.waiter_mut(id.as_str()));
        let correlation = about.and_then(|waiter| waiter.lineage.correlation_id.clone());
        let mut line = NewLine::bus(log).instance(launch.instance);
        if let Some(id) = correlation {
            line = line.request(&*id);
        }
        self.bus.logs.plugin(&launch.plugin).append(line);
    }

    /// Adds a line of the host's own to the plugin's log.
    fn note(&self, launch: &Launch, level: LogLevel, line: String) {
        let line = NewLine::host(level, line).instance(launch.instance);
        self.bus.logs.plugin(&launch.plugin).append(line);
    }

    /// A request of the plugin's own: answered by a task, so that this one goes on.
    fn call(&mut self, request: Request) {
        let Some(Registered { launch, instance, .. }) = &self.registered else { return };
        let parent = request
            .parent_request_id
            .as_ref()
            .and_then(|id| self.session.waiter_mut(id.as_str()))
            // Where nobody waits any more, because of a revocation perhaps, nothing new is begun.
            .filter(|waiter| waiter.reply.as_ref().is_some_and(Reply::is_awaited))
            .map(|waiter| Arc::clone(&waiter.lineage));
        let record = self.bus.registry.plugin(launch.plugin.as_str());
        let record = record.filter(|record| record.team == launch.team);
        let entry = record.map_or_else(|| Arc::clone(&launch.entry), |record| Arc::clone(&record.entry));
        let id = request.request_id.clone();
        let may_stream = Arc::new(Notify::new());
        let call = PluginCall {
            bus: Arc::clone(&self.bus),
            instance: Arc::clone(instance),
            entry,
            parent,
            request,
            may_stream: Arc::clone(&may_stream),
        };
        let task = tokio::spawn(call.run());
        self.calls.enter(id, may_stream, task.abort_handle());
    }

    fn carry_out(&mut self) {
        let mut orders = std::mem::take(&mut self.orders);
        for order in orders.drain(..) {
            match order {
                Order::Ask(ask) => self.ask(*ask),
                Order::Cancel { ticket, reason } => {
                    let Some(id) = self.tickets.get(&ticket) else { continue };
                    let now = self.begun.elapsed();
                    if let GivenUp::Retracted(waiter) = self.session.cancel(id, reason, now) {
                        self.tickets.remove(&waiter.ticket);
                    }
                }
                Order::Credit { ticket, n } => {
                    if let Some(id) = self.tickets.get(&ticket) {
                        self.session.credit(id, n);
                    }
                }
                Order::Answer { id, outcome } => {
                    if self.calls.leave(&id) {
                        self.session.answer(&id, outcome);
                    }
                }
                Order::Chunk { id, data, sent } => {
                    let result = if self.session.waiting_bytes() > MOST_UNWRITTEN {
                        self.writing.held_back = true;
                        Err(ChunkRefused::NoCredit)
                    } else {
                        self.session.send_chunk(&id, data.clone())
                    };
                    let _ = sent.send(result.map_err(|refused| (refused, data)));
                }
                Order::Configure { revision, settings, purpose, applied } => {
                    self.pushes.retain(|pushed| !pushed.waiter.is_closed());
                    self.pushes.push(Pushed { revision, purpose, waiter: applied });
                    let dry_run = purpose == Purpose::DryRun;
                    self.session.config(Config { revision, config: settings, dry_run });
                }
                Order::Drain { within } => {
                    for waiter in self.session.drain(within) {
                        self.tickets.remove(&waiter.ticket);
                        finish(waiter, Failure::NotHandedOver);
                    }
                }
                Order::Close { code, reason } => self.session.shut(code, &reason),
            }
        }
        // The buffer goes back to be used again.
        self.orders = orders;
        self.close_if_unread();
        debug_assert_eq!(self.tickets.len(), self.session.in_flight(), "a ticket is of an open request");
        self.close_when_drained();
    }

    fn ask(&mut self, ask: Ask) {
        let Ask { ticket, request, reply, slot, lineage } = ask;
        let (capability, begun) = (request.capability.clone(), Instant::now());
        let waiter = Waiter { ticket, reply: Some(reply), slot, lineage, capability, begun };
        match self.session.start(request, waiter) {
            Ok(id) => drop(self.tickets.insert(ticket, id)),
            Err(NotSent { waiter, why: Refusal::NotOpen }) => finish(waiter, Failure::NotHandedOver),
            Err(NotSent { waiter, why }) => finish(waiter, Failure::Refused(why)),
        }
    }

    /// A base plugin cannot be told to drain: its socket closes when it has answered everything.
    fn close_when_drained(&mut self) {
        let idle = self.session.in_flight() == 0;
        let draining = self.registered.is_some() && !self.session.is_open();
        if idle && draining && self.session.contract() == Contract::Base {
            self.session.shut(1013, "the host drains this instance");
        }
    }

    fn pong(&mut self) {
        if let Some(registered) = &mut self.registered {
            registered.liveness.pong();
        }
    }

    fn health(&mut self, condition: Condition, detail: Option<String>) {
        let now = self.begun.elapsed();
        let Some(registered) = &mut self.registered else { return };
        registered.liveness.beat(now);
        if std::mem::replace(&mut registered.word, condition) == condition {
            return self.judge();
        }
        // Whoever changes its mind all the time is judged by the clock.
        if self.news.allow(now) {
            let detail = detail.unwrap_or_default();
            info!(plugin = %registered.launch.plugin, instance = %registered.launch.instance, ?condition, detail, "health changed");
            self.judge();
        }
    }

    fn tick(&mut self) {
        let Some(registered) = &mut self.registered else {
            if Instant::now() >= self.register_by {
                self.session.shut(1008, "`register` did not come in time");
            }
            return;
        };
        let link = registered.liveness.link(self.begun.elapsed());
        match link {
            Link::Fine => {}
            Link::Ping => {
                // A full socket means that data is on its way, which the pong would only follow.
                let _ = self.socket.start_send_unpin(Message::Ping(Default::default()));
                self.writing.unflushed = true;
            }
            Link::Dead => {
                let within = self.bus.config.limits.pong_within.as_millis();
                self.session.shut(1011, &format!("no pong within {within} ms"));
                self.note_closing();
            }
        }
        self.give_up_overdue_streams();
        self.judge();
    }

    /// Cancels the streams whose caller's time is over: a caller that reads does so itself, one that has
    /// stopped reading would keep its place at the plugin for as long as it likes.
    fn give_up_overdue_streams(&mut self) {
        let (now, since) = (Instant::now(), self.begun.elapsed());
        let session = &mut self.session;
        self.tickets.retain(|_, id| {
            let is_overdue = session.waiter_mut(id.as_str()).is_some_and(|waiter| {
                waiter.lineage.deadline < now && matches!(waiter.reply, Some(Reply::Stream(_)))
            });
            // One that was not even written is over now; its caller hears that nothing comes any more.
            !(is_overdue
                && matches!(session.cancel(id, CancelReason::Deadline, since), GivenUp::Retracted(_)))
        });
    }

    /// Puts word, beats and owed answers together into one condition, and tells who must know.
    fn judge(&mut self) {
        let now = self.begun.elapsed();
        let overdue = self.session.overdue(now);
        let Some(registered) = &mut self.registered else { return };
        let silence = registered.liveness.silence(now);
        let condition = match (silence, overdue, registered.word) {
            (Silence::OneWindow | Silence::TwoWindows, _, _) => Condition::Down,
            (_, _, word @ (Condition::Down | Condition::Draining)) => word,
            (Silence::None, Overdue::No, word) => word,
            _ => Condition::Degraded,
        };
        let missed = matches!(silence, Silence::OneWindow | Silence::TwoWindows);
        let launch = &registered.launch;
        if missed != std::mem::replace(&mut registered.reported_silence, missed) {
            launch.report(if missed { LaunchEvent::Unresponsive } else { LaunchEvent::Recovered });
        }
        if silence == Silence::TwoWindows {
            launch.report(LaunchEvent::Replace { reason: "it missed its health beats twice".to_owned() });
        } else if overdue == Overdue::Replace {
            let limit = self.bus.config.limits.cancel_replaces_after;
            let reason = format!("it did not answer a cancelled request within {} ms", limit.as_millis());
            launch.report(LaunchEvent::Replace { reason });
        }
        self.bus.registry.set_condition(&registered.instance, condition);
    }

    async fn end(mut self, problem: Option<SocketError>) {
        let failure = match &problem {
            Some(SocketError::Capacity(CapacityError::MessageTooLong { size, max_size })) => {
                self.session.shut(1009, "a frame exceeds the limit");
                let message = format!("the plugin sent a frame of {size} bytes, the limit is {max_size}");
                Some(Failure::Plugin(WireError::new(ErrorCode::PluginError, message)))
            }
            _ => None,
        };
        let close = self.session.closing().cloned();
        // A goodbye may take its time: everybody is answered first. Nothing is left to be written then;
        // to a plugin that is not registered, that it was rejected is.
        if self.registered.is_some() {
            self.answer_all(failure);
        }
        if let Some(close) = close {
            self.say_goodbye(close).await;
        }
    }

    /// Takes the instance out and answers everybody who waits for it.
    fn answer_all(&mut self, failure: Option<Failure>) {
        // Out of the registry first: nobody is sent here any more who is told to go elsewhere now.
        let mut ended = None;
        let posted = match self.registered.take() {
            None => Vec::new(),
            Some(Registered { launch, instance, .. }) => {
                let posted = instance.mailbox.close();
                instance.topics.close();
                self.bus.registry.leave(&instance);
                let drops = self.session.drops();
                info!(plugin = %launch.plugin, instance = %launch.instance, ?drops, "session ended");
                if let Some(Failure::Plugin(error)) = &failure {
                    self.note(&launch, LogLevel::Error, error.message.clone());
                }
                ended = Some(instance);
                posted
            }
        };
        let (lost, _) = self.session.end();
        if let Some(instance) = ended {
            instance.end_with(unanswered(&lost));
        }
        for waiter in lost {
            let otherwise = if waiter.handed_over { Failure::Disconnected } else { Failure::NotHandedOver };
            finish(waiter.waiter, failure.clone().unwrap_or(otherwise));
        }
        for order in posted {
            if let Order::Ask(ask) = order {
                ask.reply.finish(Err(Failure::NotHandedOver));
            }
        }
        self.calls.abort_all();
    }
}

/// The requests that a plugin had and did not answer, the oldest first.
fn unanswered(lost: &[Lost<Waiter>]) -> Vec<OpenRequest> {
    let mut had: Vec<&Waiter> =
        lost.iter().filter(|lost| lost.handed_over).map(|lost| &lost.waiter).collect();
    had.sort_by_key(|waiter| waiter.begun);
    let told = |waiter: &Waiter| OpenRequest {
        capability: waiter.capability.to_string(),
        request_id: waiter.lineage.correlation_id.as_deref().map(str::to_owned),
        age_ms: waiter.begun.elapsed().as_millis() as u64,
    };
    had.into_iter().take(Instance::MOST_LOST).map(told).collect()
}

fn finish(waiter: Waiter, failure: Failure) {
    if let Some(reply) = waiter.reply {
        reply.finish(Err(failure));
    }
}
