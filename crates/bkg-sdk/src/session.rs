//! One session with the host, shared by the connection that carries it and the tasks that work in it.
//!
//! The protocol's plugin half behind a lock, and whom to wake; no socket. The invariant: the lock is
//! held neither across an await nor while code of the plugin's author runs, so a session is never
//! blocked and never poisoned. A request stays bound to the session that it came in: its answer
//! cannot reach another one.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use bkg_protocol::exchange::{NotSent, Refusal};
use bkg_protocol::inbound::ChunkRefused;
use bkg_protocol::message::{
    CancelReason, Config, Event, PluginMessage, Register, Registered, Rejected, Request,
};
use bkg_protocol::plugin::{PluginEvent, PluginSession};
use bkg_protocol::{RawJson, RequestId, WireError};
use futures_util::task::AtomicWaker;
use tokio::sync::{Notify, mpsc, oneshot};
use tokio_util::sync::CancellationToken;

/// How many bytes may wait for the socket before chunks and calls wait too. Answers do not: there is
/// one per request, and they free what the host holds.
const FULL: usize = 1 << 20;
/// How many bytes may be left when those who wait go on.
const ROOM_AGAIN: usize = FULL / 2;
/// How many bytes may wait before log lines are kept back: work goes before words.
const FULL_FOR_LOGS: usize = FULL / 4;

/// What came from the host and is for the plugin to act on.
pub(crate) enum Incoming {
    Registered(Box<Registered>),
    Rejected(Rejected),
    Request(Box<Request>, Arc<Ticket>),
    Event(Event),
    Config(Config),
    Drain(Duration),
    /// The session dealt with it.
    Settled,
}

/// A request that is being worked on.
#[derive(Debug, Default)]
pub(crate) struct Ticket {
    /// Cancelled when nobody wants the answer any more.
    pub(crate) cancelled: CancellationToken,
    /// Told when the host has granted further chunks.
    pub(crate) credit: Notify,
}

/// Who waits for the answer to a request of the plugin's own.
#[derive(Debug)]
pub(crate) struct Waiter {
    /// As roomy as the credit given, so that what keeps to the credit always finds a place.
    pub(crate) chunks: Option<mpsc::Sender<RawJson>>,
    pub(crate) answer: Option<oneshot::Sender<Result<RawJson, WireError>>>,
}

impl Waiter {
    fn finish(&mut self, outcome: Result<RawJson, WireError>) {
        self.chunks = None;
        if let Some(answer) = self.answer.take() {
            // Whoever asked may have left meanwhile.
            let _ = answer.send(outcome);
        }
    }
}

/// Why a chunk was not taken.
pub(crate) enum ChunkKept {
    /// The socket is behind: wait on [`Session::room`].
    Full,
    /// The half of the protocol refused it.
    Refused(ChunkRefused),
}

#[derive(Debug)]
pub(crate) struct Session {
    began: Instant,
    state: Mutex<State>,
    /// The connection, when there is something to write.
    writer: AtomicWaker,
    /// Those who wait for the socket to catch up.
    room: Notify,
}

#[derive(Debug)]
struct State {
    half: PluginSession<Waiter>,
    tickets: HashMap<RequestId, Arc<Ticket>>,
    /// Who waits for an `updated`, in the order of the `update`s.
    updates: VecDeque<oneshot::Sender<Result<(), WireError>>>,
    someone_waits_for_room: bool,
}

impl Session {
    pub(crate) fn new(register: Register) -> Arc<Self> {
        Arc::new(Self {
            began: Instant::now(),
            state: Mutex::new(State {
                half: PluginSession::new(rand::random(), register),
                tickets: HashMap::new(),
                updates: VecDeque::new(),
                someone_waits_for_room: false,
            }),
            writer: AtomicWaker::new(),
            room: Notify::new(),
        })
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("nothing panics under this lock")
    }

    /// Takes in one frame.
    pub(crate) fn receive(&self, text: &str) -> Incoming {
        let mut guard = self.lock();
        let state = &mut *guard;
        let cancelled = match state.half.receive(text, self.began.elapsed()) {
            PluginEvent::Registered(registered) => return Incoming::Registered(registered),
            PluginEvent::Rejected(rejected) => return Incoming::Rejected(rejected),
            PluginEvent::Event(event) => return Incoming::Event(event),
            PluginEvent::Config(config) => return Incoming::Config(config),
            PluginEvent::Drain(within) => return Incoming::Drain(within),
            PluginEvent::Request(request) => {
                let ticket = Arc::new(Ticket::default());
                state.tickets.insert(request.request_id.clone(), ticket.clone());
                return Incoming::Request(request, ticket);
            }
            PluginEvent::RequestCancelled { id, .. } => state.tickets.get(&id).cloned(),
            PluginEvent::MayStream(id) => {
                if let Some(ticket) = state.tickets.get(&id) {
                    ticket.credit.notify_one();
                }
                None
            }
            PluginEvent::Answered { mut waiter, outcome } => {
                waiter.finish(outcome);
                None
            }
            PluginEvent::Chunk { waiter, data } => {
                if let Some(chunks) = &waiter.chunks {
                    // Full is impossible within the credit, closed means that nobody reads on.
                    let _ = chunks.try_send(data);
                }
                None
            }
            PluginEvent::Broken { waiter, error } => {
                waiter.finish(Err(error));
                None
            }
            PluginEvent::Updated(outcome) => {
                if let Some(waiter) = state.updates.pop_front() {
                    let _ = waiter.send(outcome);
                }
                None
            }
            PluginEvent::Released { .. } => None,
            PluginEvent::Dropped(dropped) => {
                // Only after the lock: the log layer writes into this very session.
                drop(guard);
                tracing::debug!(reason = ?dropped, "frame without effect");
                return Incoming::Settled;
            }
        };
        drop(guard);
        if let Some(ticket) = cancelled {
            ticket.cancelled.cancel();
        }
        Incoming::Settled
    }

    /// Sends the one answer to a request; answers whether it was open.
    pub(crate) fn answer(&self, id: &RequestId, outcome: Result<RawJson, WireError>) -> bool {
        let was_open = {
            let mut state = self.lock();
            state.tickets.remove(id);
            state.half.answer(id, outcome)
        };
        self.writer.wake();
        was_open
    }

    /// Sends a part of a streamed answer.
    pub(crate) fn chunk(&self, id: &RequestId, data: RawJson) -> Result<(), ChunkKept> {
        {
            let mut state = self.lock();
            if state.half.waiting_bytes() > FULL {
                state.someone_waits_for_room = true;
                return Err(ChunkKept::Full);
            }
            state.half.send_chunk(id, data).map_err(ChunkKept::Refused)?;
        }
        self.writer.wake();
        Ok(())
    }

    /// Completes when the socket has caught up; ask for it *before* finding the session full.
    pub(crate) fn room(&self) -> tokio::sync::futures::Notified<'_> {
        self.room.notified()
    }

    /// Whether calls and events can be taken now; if not, [`Session::room`] says when.
    pub(crate) fn has_room(&self) -> bool {
        let mut state = self.lock();
        let has_room = state.half.waiting_bytes() <= FULL;
        state.someone_waits_for_room |= !has_room;
        has_room
    }

    /// Whether log lines can be taken now.
    pub(crate) fn has_room_for_logs(&self) -> bool {
        self.lock().half.waiting_bytes() <= FULL_FOR_LOGS
    }

    /// Asks the host to have a capability answered.
    pub(crate) fn start(&self, request: Request, waiter: Waiter) -> Result<RequestId, Refusal> {
        let started = self.lock().half.start(request, waiter);
        self.writer.wake();
        started.map_err(|NotSent { why, .. }| why)
    }

    /// Gives up on a request of the plugin's own; nothing happens if it is over.
    pub(crate) fn give_up(&self, id: &RequestId, reason: CancelReason) {
        let now = self.began.elapsed();
        let given_up = self.lock().half.cancel(id, reason, now);
        drop(given_up);
        self.writer.wake();
    }

    /// Allows further chunks of a stream that the plugin asked for.
    pub(crate) fn grant(&self, id: &RequestId, n: u32) {
        self.lock().half.credit(id, n);
        self.writer.wake();
    }

    /// The credit that the plugin gives for a stream, unless it chooses another.
    pub(crate) fn stream_credit(&self) -> u32 {
        self.lock().half.granted().stream_credit
    }

    /// The largest frame that the host takes, in bytes.
    pub(crate) fn frame_limit(&self) -> usize {
        self.lock().half.granted().max_frame_bytes
    }

    /// Says anything that is neither question nor answer.
    pub(crate) fn say(&self, message: &PluginMessage) {
        self.lock().half.say(message);
        self.writer.wake();
    }

    /// Says an `update`; the receiver gets the host's verdict, or nothing if the session ends.
    pub(crate) fn update(&self, message: &PluginMessage) -> oneshot::Receiver<Result<(), WireError>> {
        let (waiter, verdict) = oneshot::channel();
        {
            let mut state = self.lock();
            state.updates.push_back(waiter);
            state.half.say(message);
        }
        self.writer.wake();
        verdict
    }

    /// Where the connection leaves its waker before it looks for frames.
    pub(crate) fn writer(&self) -> &AtomicWaker {
        &self.writer
    }

    /// The next frame to write.
    pub(crate) fn next_frame(&self) -> Option<String> {
        let mut state = self.lock();
        let frame = state.half.next_frame();
        let room_again = state.someone_waits_for_room && state.half.waiting_bytes() <= ROOM_AGAIN;
        if room_again {
            state.someone_waits_for_room = false;
            drop(state);
            self.room.notify_waiters();
        }
        frame
    }

    /// Whether nothing is left to answer or to write.
    pub(crate) fn is_idle(&self) -> bool {
        let state = self.lock();
        state.half.owed() == 0 && state.half.waiting_bytes() == 0
    }

    /// Cancels all work: each request is answered `cancelled` by the task that has it.
    pub(crate) fn cancel_all(&self) {
        let tickets: Vec<Arc<Ticket>> = self.lock().tickets.values().cloned().collect();
        for ticket in tickets {
            ticket.cancelled.cancel();
        }
    }

    /// The socket is gone: work for it is cancelled, and whoever waits for an answer hears of it.
    pub(crate) fn end(&self) {
        let (lost, tickets, updates) = {
            let mut state = self.lock();
            let (lost, _) = state.half.end();
            (lost, std::mem::take(&mut state.tickets), std::mem::take(&mut state.updates))
        };
        // A waiter that is dropped tells its receiver that no answer will come.
        drop((lost, updates));
        for ticket in tickets.into_values() {
            ticket.cancelled.cancel();
        }
        self.room.notify_waiters();
    }
}

#[cfg(test)]
mod tests {
    use bkg_protocol::frame::Message;
    use bkg_protocol::message::{GrantedLimits, HostMessage};
    use bkg_protocol::{InstanceId, Limits};

    use super::*;

    fn registered() -> Arc<Session> {
        let session = Session::new(Register::new("test".parse().unwrap()));
        let limits = Limits::default();
        let welcome = HostMessage::Registered(Registered {
            protocol: 1,
            instance: InstanceId::new(),
            resume: bkg_protocol::message::Secret::new("r"),
            heartbeat_ms: 10_000,
            limits: GrantedLimits {
                max_frame_bytes: limits.frame_from_plugin,
                max_chunk_bytes: limits.chunk,
                stream_credit: limits.stream_credit,
            },
            config: RawJson::NULL,
            config_revision: 0,
        });
        assert!(matches!(session.receive(&welcome.encode()), Incoming::Registered(_)));
        session
    }

    fn ask(session: &Session, id: &str, credit: u32) -> Arc<Ticket> {
        let text = format!(
            r#"{{"type":"request","requestId":"{id}","capability":"test.x","payload":null,"stream":true,"credit":{credit}}}"#
        );
        match session.receive(&text) {
            Incoming::Request(_, ticket) => ticket,
            _ => panic!("the request is taken"),
        }
    }

    /// A chunk of 100 KiB.
    fn large() -> RawJson {
        RawJson::of(&"x".repeat((100 << 10) - 2))
    }

    #[tokio::test]
    async fn a_socket_that_is_behind_bounds_what_streams_pile_up_whatever_their_credit() {
        let session = registered();
        ask(&session, "r", 1_000);
        let id: RequestId = serde_json::from_str("\"r\"").unwrap();
        let mut taken = 0;
        while session.chunk(&id, large()).is_ok() {
            taken += 1;
        }
        assert!((FULL / (100 << 10)..=FULL / (100 << 10) + 1).contains(&taken), "{taken}");
        assert!(!session.has_room_for_logs());

        let room = session.room();
        assert!(matches!(session.chunk(&id, large()), Err(ChunkKept::Full)));
        while session.next_frame().is_some() {}
        tokio::time::timeout(Duration::from_secs(10), room).await.expect("whoever waits goes on");
        assert!(session.chunk(&id, large()).is_ok());
    }

    #[test]
    fn the_end_of_a_session_cancels_its_work_and_frees_its_waiters() {
        let session = registered();
        let ticket = ask(&session, "r", 1);
        let (answer, mut awaited) = oneshot::channel();
        let request = Request::new("other.thing".parse().unwrap(), RawJson::NULL);
        session.start(request, Waiter { chunks: None, answer: Some(answer) }).unwrap();
        session.end();
        assert!(ticket.cancelled.is_cancelled());
        assert_eq!(awaited.try_recv(), Err(oneshot::error::TryRecvError::Closed));
        let id: RequestId = serde_json::from_str("\"r\"").unwrap();
        assert!(!session.answer(&id, Ok(RawJson::NULL)), "nothing is sent for a request of the past");
        assert!(matches!(
            session.start(
                Request::new("other.thing".parse().unwrap(), RawJson::NULL),
                Waiter { chunks: None, answer: None }
            ),
            Err(Refusal::NotOpen)
        ));
    }
}
