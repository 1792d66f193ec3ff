//! The host's half of a session with one plugin instance.
//!
//! Feed it frames with [`HostSession::receive`] and the time since the session began, write what
//! [`HostSession::next_frame`] returns, close when [`HostSession::closing`] says so. `W` is whatever
//! stands behind a request; the half keeps it and hands it back exactly once. Who may register is
//! decided by the caller: this half only knows the order of things.

use std::collections::VecDeque;
use std::time::Duration;

use crate::exchange::{Dropped, Exchange, GivenUp, Heard, Lost, NotSent, Refusal};
use crate::frame::{Decoded, FrameError, Message};
use crate::inbound::{ChunkRefused, Most};
use crate::limits::CHUNK_ENVELOPE;
use crate::message::{
    AuthChanged, CancelReason, Config, ConfigApplied, Drain, Event, GrantedLimits, Health, HostMessage,
    Log, PluginMessage, Publish, Register, Registered, Rejected, Request, Secret, Telemetry, Update,
    Updated,
};
use crate::{ErrorCode, InstanceId, Limits, PROTOCOL_VERSION, RawJson, RequestId, WireError};

/// Which contract the plugin speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Contract {
    /// It sent no `protocol`: it is sent nothing but `request` and `response`.
    Base,
    /// It sent `protocol`.
    Extended,
}

/// Why the session closes, and with which WebSocket close code (RFC 6455, section 7.4.1).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Close {
    /// The close code. Base plugins never get 1000 or 1001: one known client redials on them.
    pub code: u16,
    /// One sentence, at most 123 bytes.
    pub reason: String,
}

/// Something that happened in a session, for the host to act on.
#[derive(Debug, PartialEq)]
pub enum HostEvent<'a, W> {
    /// The plugin wants to register: answer with [`HostSession::accept`] or [`HostSession::reject`]
    /// before the next frame.
    Register(Box<Register>),
    /// The answer to a request.
    Answered {
        /// Who waits for it.
        waiter: W,
        /// The answer.
        outcome: Result<RawJson, WireError>,
    },
    /// A part of a streamed answer.
    Chunk {
        /// Who waits for it.
        waiter: &'a mut W,
        /// The part.
        data: RawJson,
    },
    /// A stream broke the rules and was cut off. The waiter comes out later, when the plugin is done.
    Broken {
        /// Who must be told.
        waiter: &'a mut W,
        /// What to tell.
        error: WireError,
    },
    /// A request that had been given up is over: its place is free.
    Released {
        /// Whose place it was.
        waiter: W,
    },
    /// The plugin asks: answer with [`HostSession::answer`], exactly once.
    Request(Box<Request>),
    /// The plugin gave up on a request of its own; the answer is still owed.
    RequestCancelled(RequestId),
    /// A stream towards the plugin can go on.
    MayStream(RequestId),
    /// How the plugin feels.
    Health(Health),
    /// Figures of the plugin's own process.
    Telemetry(Telemetry),
    /// A log line.
    Log(Box<Log>),
    /// The plugin wants lists of its registration replaced: answer with [`HostSession::updated`].
    Update(Box<Update>),
    /// The plugin wants the events of a topic.
    Subscribe(String),
    /// The plugin no longer wants the events of a topic.
    Unsubscribe(String),
    /// An event for whoever subscribed.
    Publish(Publish),
    /// Whether a pushed configuration is in force, or would be.
    ConfigApplied(ConfigApplied),
    /// Verdicts of the auth provider changed.
    AuthChanged(AuthChanged),
    /// The frame had no effect and was counted.
    Dropped(Dropped),
    /// The session is over: see [`HostSession::closing`].
    Closing,
}

/// What the host grants a plugin when its registration holds.
#[derive(Debug, Clone)]
pub struct Acceptance {
    /// The launch.
    pub instance: InstanceId,
    /// The secret for the next `register` of this launch.
    pub resume: Secret,
    /// The entry's settings.
    pub config: RawJson,
    /// Which revision the settings are.
    pub config_revision: u64,
}

/// How a plugin treats requests that were given up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Overdue {
    /// As it should.
    No,
    /// It owes one for so long that it counts as degraded.
    Degraded,
    /// It owes one for so long that it should be replaced.
    Replace,
}

/// How often frames had no effect, by reason.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct DropCounts {
    /// For a request that was given up.
    pub late: u64,
    /// For no open request.
    pub unknown_request: u64,
    /// Asking under an id that is still open.
    pub duplicate_request: u64,
    /// Of a type that this version does not know.
    pub unknown_type: u64,
    /// Not allowed for this plugin or at this moment.
    pub out_of_place: u64,
    /// Not readable.
    pub unreadable: u64,
}

impl DropCounts {
    fn count(&mut self, dropped: Dropped) {
        let place = match dropped {
            Dropped::Late => &mut self.late,
            Dropped::UnknownRequest => &mut self.unknown_request,
            Dropped::DuplicateRequest => &mut self.duplicate_request,
            Dropped::UnknownType => &mut self.unknown_type,
            Dropped::OutOfPlace => &mut self.out_of_place,
            Dropped::Unreadable => &mut self.unreadable,
        };
        *place += 1;
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// Nothing but `register` may come.
    Silent,
    /// `register` came; the host decides.
    Deciding,
    Open,
    Draining,
    Closed,
}

/// The host's half of a session.
#[derive(Debug)]
pub struct HostSession<W> {
    limits: Limits,
    max_frame_bytes: Option<usize>,
    contract: Contract,
    phase: Phase,
    exchange: Exchange<W, HostMessage>,
    closing: Option<Close>,
    unreadable: VecDeque<Duration>,
    drops: DropCounts,
}

impl<W> HostSession<W> {
    /// A session that waits for `register`.
    ///
    /// `seed`: 64 random bits that make its request ids unique. `max_frame_bytes`: the bound that the
    /// plugin's entry names, if any.
    pub fn new(seed: u64, limits: Limits, max_frame_bytes: Option<usize>) -> Self {
        Self {
            limits,
            max_frame_bytes,
            contract: Contract::Base,
            phase: Phase::Silent,
            exchange: Exchange::new(seed),
            closing: None,
            unreadable: VecDeque::new(),
            drops: DropCounts::default(),
        }
    }

    /// Takes in the text of one frame; `now` is the time since the session began.
    pub fn receive(&mut self, text: &str, now: Duration) -> HostEvent<'_, W> {
        if self.phase == Phase::Closed {
            return HostEvent::Dropped(Dropped::OutOfPlace);
        }
        match PluginMessage::decode(text) {
            Ok(Decoded::Message(message)) => self.hear(message, now),
            Ok(Decoded::Unknown(_)) if self.phase == Phase::Silent => self.expected_register(),
            Ok(Decoded::Unknown(_)) => self.dropped(Dropped::UnknownType),
            Err(problem) => self.unreadable(text, problem, now),
        }
    }

    /// Takes in a binary frame, which nothing of this protocol is: it counts as one that cannot be read.
    pub fn receive_binary(&mut self, now: Duration) -> HostEvent<'_, W> {
        match self.phase {
            Phase::Closed => HostEvent::Dropped(Dropped::OutOfPlace),
            Phase::Silent => self.expected_register(),
            Phase::Deciding | Phase::Open | Phase::Draining => {
                if self.is_one_too_many(now) {
                    return self.too_many_unreadable();
                }
                HostEvent::Dropped(Dropped::Unreadable)
            }
        }
    }

    fn hear(&mut self, message: PluginMessage, now: Duration) -> HostEvent<'_, W> {
        match (&message, self.phase) {
            (PluginMessage::Register(_), Phase::Silent) => {}
            (PluginMessage::Register(_), _) => {
                return self.close(1008, "a session registers once: open a new one instead");
            }
            (_, Phase::Silent) => return self.expected_register(),
            _ => {}
        }
        let extended = self.contract == Contract::Extended;
        match message {
            PluginMessage::Register(register) => {
                self.phase = Phase::Deciding;
                if register.protocol.is_some() {
                    self.contract = Contract::Extended;
                }
                HostEvent::Register(Box::new(register))
            }
            PluginMessage::Response(response) => {
                let heard = self.exchange.hear_response(response);
                event_of(heard, &mut self.drops)
            }
            PluginMessage::Chunk(chunk) => {
                let heard = self.exchange.hear_chunk(chunk, self.limits.chunk, now, extended);
                event_of(heard, &mut self.drops)
            }
            PluginMessage::Health(health) => HostEvent::Health(health),
            PluginMessage::Telemetry(telemetry) => HostEvent::Telemetry(telemetry),
            PluginMessage::Log(log) => HostEvent::Log(Box::new(log)),
            PluginMessage::Request(mut request) => {
                if !extended {
                    // A base plugin cannot know what it would have to say about these.
                    request.stream = false;
                    request.parent_request_id = None;
                }
                let most = Most {
                    requests: self.limits.in_flight_from_plugin as usize,
                    bytes: self.limits.in_flight_from_plugin_bytes,
                };
                match self.exchange.hear_request(&request, most, self.limits.stream_credit) {
                    Ok(()) => HostEvent::Request(Box::new(request)),
                    Err(dropped) => self.dropped(dropped),
                }
            }
            _ if !extended => self.dropped(Dropped::OutOfPlace),
            PluginMessage::Cancel(cancel) => match self.exchange.hear_cancel(cancel.request_id.as_str()) {
                Ok(()) => HostEvent::RequestCancelled(cancel.request_id),
                Err(dropped) => self.dropped(dropped),
            },
            PluginMessage::Credit(credit) => {
                match self.exchange.hear_credit(credit.request_id.as_str(), credit.n) {
                    Ok(()) => HostEvent::MayStream(credit.request_id),
                    Err(dropped) => self.dropped(dropped),
                }
            }
            PluginMessage::Update(update) => HostEvent::Update(Box::new(update)),
            PluginMessage::Subscribe(topic) => HostEvent::Subscribe(topic.topic),
            PluginMessage::Unsubscribe(topic) => HostEvent::Unsubscribe(topic.topic),
            PluginMessage::Publish(publish) => HostEvent::Publish(publish),
            PluginMessage::ConfigApplied(applied) => HostEvent::ConfigApplied(applied),
            PluginMessage::AuthChanged(changed) => HostEvent::AuthChanged(changed),
        }
    }

    fn expected_register(&mut self) -> HostEvent<'_, W> {
        self.close(1008, "the first frame must be `register`")
    }

    fn dropped(&mut self, dropped: Dropped) -> HostEvent<'_, W> {
        self.drops.count(dropped);
        HostEvent::Dropped(dropped)
    }

    /// Counted, and too many of it end the session; whoever waits for it hears of it at once.
    fn unreadable(&mut self, text: &str, problem: FrameError, now: Duration) -> HostEvent<'_, W> {
        if self.phase == Phase::Silent {
            return match problem {
                FrameError::Fields { kind, problem } if kind == "register" => {
                    self.close(1008, &format!("`register` cannot be read: {problem}"))
                }
                _ => self.expected_register(),
            };
        }
        if self.is_one_too_many(now) {
            return self.too_many_unreadable();
        }
        let tell = self.contract == Contract::Extended;
        match self.exchange.hear_unreadable(text, &problem, now, tell) {
            // Counted above, whatever else came of it.
            Heard::Dropped(dropped) => HostEvent::Dropped(dropped),
            heard => event_of(heard, &mut self.drops),
        }
    }

    /// Counts a frame that cannot be read; answers whether there have been too many.
    fn is_one_too_many(&mut self, now: Duration) -> bool {
        self.drops.count(Dropped::Unreadable);
        let oldest = now.saturating_sub(self.limits.unreadable_window);
        while self.unreadable.front().is_some_and(|&then| then < oldest) {
            self.unreadable.pop_front();
        }
        self.unreadable.push_back(now);
        self.unreadable.len() >= self.limits.unreadable_frames as usize
    }

    fn too_many_unreadable(&mut self) -> HostEvent<'_, W> {
        self.close(1007, "too many frames that cannot be read")
    }

    /// Closes the session if the plugin has let too much of what it is told wait: whoever sends what is
    /// answered and does not read would otherwise fill the host's memory. Answers whether it does.
    pub fn close_if_unread(&mut self) -> bool {
        let waiting = self.exchange.unread();
        let frames = self.limits.unread_frames as usize;
        // A single frame may be of any size: its own limit was checked elsewhere.
        let is_too_much =
            waiting.frames > frames || (waiting.frames > 1 && waiting.bytes > self.limits.unread_bytes);
        if is_too_much {
            self.close(
                1008,
                &format!(
                    "{} answers of {} bytes wait unread: read while you ask",
                    waiting.frames, waiting.bytes
                ),
            );
        }
        is_too_much
    }

    /// The registration holds. An extended plugin is told so.
    pub fn accept(&mut self, acceptance: Acceptance) {
        debug_assert_eq!(self.phase, Phase::Deciding, "accept answers a register");
        self.phase = Phase::Open;
        if self.contract == Contract::Base {
            return;
        }
        // Urgent, so that no credit or drain overtakes it: nothing may come before it.
        self.exchange.say_urgently(&HostMessage::Registered(Registered {
            protocol: PROTOCOL_VERSION,
            instance: acceptance.instance,
            resume: acceptance.resume,
            heartbeat_ms: self.limits.heartbeat.as_millis() as u64,
            limits: GrantedLimits {
                max_frame_bytes: self.limits.frame_from_plugin,
                max_chunk_bytes: self.limits.chunk,
                stream_credit: self.limits.stream_credit,
            },
            config: acceptance.config,
            config_revision: acceptance.config_revision,
        }));
    }

    /// The registration is refused. An extended plugin is told why; either is closed with 1008.
    pub fn reject(&mut self, code: ErrorCode, message: &str) {
        if self.contract == Contract::Extended {
            self.exchange.say(&HostMessage::Rejected(Rejected {
                code: code.as_str().to_owned(),
                message: message.to_owned(),
            }));
        }
        self.close(1008, message);
    }

    /// Answers an `update`.
    pub fn updated(&mut self, result: Result<(), WireError>) {
        self.exchange.say(&HostMessage::Updated(Updated { success: result.is_ok(), error: result.err() }));
    }

    /// Asks the plugin. The request's id is assigned here; what the base contract does not know is
    /// left out towards a base plugin.
    ///
    /// # Errors
    /// The waiter comes back where the session takes no requests or the frame would be too large.
    pub fn start(&mut self, mut request: Request, waiter: W) -> Result<RequestId, NotSent<W>> {
        if self.phase != Phase::Open {
            return Err(NotSent { waiter, why: Refusal::NotOpen });
        }
        if self.contract == Contract::Base {
            request = Request { token: request.token, ..Request::new(request.capability, request.payload) };
        } else if request.stream {
            request.credit.get_or_insert(self.limits.stream_credit);
        }
        self.exchange.start(request, waiter, self.frame_limit())
    }

    /// The largest frame that this plugin takes, in bytes.
    pub fn frame_limit(&self) -> usize {
        self.max_frame_bytes.unwrap_or(match self.contract {
            Contract::Base => self.limits.frame_to_base,
            Contract::Extended => self.limits.frame_to_extended,
        })
    }

    /// Gives up on a request.
    ///
    /// A base plugin is not told: its place is free when its late `response` arrives.
    pub fn cancel(&mut self, id: &RequestId, reason: CancelReason, now: Duration) -> GivenUp<W> {
        self.exchange.give_up(id, reason, now, self.contract == Contract::Extended)
    }

    /// Allows `n` more chunks of a stream.
    pub fn credit(&mut self, id: &RequestId, n: u32) {
        self.exchange.grant(id, n);
    }

    /// Answers a request of the plugin; answers whether it was open.
    pub fn answer(&mut self, id: &RequestId, outcome: Result<RawJson, WireError>) -> bool {
        self.exchange.answer(id, outcome, self.frame_limit())
    }

    /// Sends the plugin a part of the answer to its request.
    ///
    /// # Errors
    /// Why it must not be sent now, or ever.
    pub fn send_chunk(&mut self, id: &RequestId, data: RawJson) -> Result<(), ChunkRefused> {
        let limit = self.limits.chunk.min(self.frame_limit().saturating_sub(CHUNK_ENVELOPE));
        self.exchange.send_chunk(id, data, limit)
    }

    /// Sends an event of a topic that the plugin subscribed to.
    pub fn event(&mut self, event: Event) {
        if self.is_extended_and_open() {
            self.exchange.say(&HostMessage::Event(event));
        }
    }

    /// Pushes new settings, or asks about them.
    pub fn config(&mut self, config: Config) {
        if self.is_extended_and_open() {
            self.exchange.say(&HostMessage::Config(config));
        }
    }

    /// Takes the plugin out of service: no request is sent any more, what it has it may finish.
    ///
    /// The waiters of requests that had not been written come back, for another instance.
    pub fn drain(&mut self, within: Duration) -> Vec<W> {
        if self.phase != Phase::Open {
            return Vec::new();
        }
        self.phase = Phase::Draining;
        if self.contract == Contract::Extended {
            self.exchange
                .say_urgently(&HostMessage::Drain(Drain { deadline_ms: within.as_millis() as u64 }));
        }
        self.exchange.retract_unsent()
    }

    fn close(&mut self, code: u16, reason: &str) -> HostEvent<'_, W> {
        if self.closing.is_none() {
            self.closing = Some(Close { code, reason: close_reason(reason) });
        }
        self.phase = Phase::Closed;
        HostEvent::Closing
    }

    /// Ends the session from the host's side: the close code and reason to send after the frames.
    pub fn shut(&mut self, code: u16, reason: &str) {
        self.close(code, reason);
    }

    /// Why the session closes, if it does: write the frames that wait, then close.
    pub fn closing(&self) -> Option<&Close> {
        self.closing.as_ref()
    }

    /// The next frame to write.
    pub fn next_frame(&mut self) -> Option<String> {
        self.next_frame_and_waiter().map(|(text, _)| text)
    }

    /// The next frame to write and, where it is a request, who waits for its answer.
    pub fn next_frame_and_waiter(&mut self) -> Option<(String, Option<&mut W>)> {
        self.exchange.next_frame()
    }

    /// How many bytes wait to be written.
    pub fn waiting_bytes(&self) -> usize {
        self.exchange.waiting_bytes()
    }

    /// Whether the plugin owes answers to requests that were given up, for too long. A base plugin
    /// never heard of it and owes nothing.
    pub fn overdue(&self, now: Duration) -> Overdue {
        if self.contract == Contract::Base {
            return Overdue::No;
        }
        match self.exchange.longest_given_up(now) {
            Some(since) if since >= self.limits.cancel_replaces_after => Overdue::Replace,
            Some(since) if since >= self.limits.cancel_degrades_after => Overdue::Degraded,
            _ => Overdue::No,
        }
    }

    /// What stands behind a request that the plugin has not answered yet.
    pub fn waiter_mut(&mut self, id: &str) -> Option<&mut W> {
        self.exchange.waiter_mut(id)
    }

    /// Which contract the plugin speaks, once it has registered.
    pub fn contract(&self) -> Contract {
        self.contract
    }

    /// Whether requests can be sent.
    pub fn is_open(&self) -> bool {
        self.phase == Phase::Open
    }

    fn is_extended_and_open(&self) -> bool {
        self.contract == Contract::Extended && matches!(self.phase, Phase::Open | Phase::Draining)
    }

    /// How many requests the plugin has not answered yet.
    pub fn in_flight(&self) -> usize {
        self.exchange.asked()
    }

    /// How many requests of the plugin are not answered yet.
    pub fn owed(&self) -> usize {
        self.exchange.owed()
    }

    /// How often frames had no effect.
    pub fn drops(&self) -> DropCounts {
        self.drops
    }

    /// The socket is gone: every waiter comes out, and the ids of the plugin's own requests that
    /// nobody needs to answer any more.
    pub fn end(&mut self) -> (Vec<Lost<W>>, Vec<RequestId>) {
        self.phase = Phase::Closed;
        self.exchange.end()
    }
}

fn event_of<'a, W>(heard: Heard<'a, W>, drops: &mut DropCounts) -> HostEvent<'a, W> {
    match heard {
        Heard::Answered { waiter, outcome } => HostEvent::Answered { waiter, outcome },
        Heard::Chunk { waiter, data } => HostEvent::Chunk { waiter, data },
        Heard::Broken { waiter, error } => HostEvent::Broken { waiter, error },
        Heard::Released { waiter } => HostEvent::Released { waiter },
        Heard::Dropped(dropped) => {
            drops.count(dropped);
            HostEvent::Dropped(dropped)
        }
    }
}

/// A close reason may have 123 bytes (RFC 6455, section 5.5).
fn close_reason(reason: &str) -> String {
    reason[..reason.floor_char_boundary(123)].to_owned()
}
