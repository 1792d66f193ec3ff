//! One session with the host, from `register` to the end of its socket.
//!
//! Reads, hands requests to their handlers, beats, and ends in order when it is told to. It does not
//! dial and does not decide whether to dial again: `reconnect` does. The invariant: after a `drain` or
//! a stop signal the socket closes with 1000 as soon as nothing is owed, and at the deadline the work
//! that is left is cancelled and answered so.

use std::future::poll_fn;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use bkg_protocol::message::{Registered, Secret};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::{Instant, Interval, MissedTickBehavior, interval, sleep_until, timeout};
use tokio_tungstenite::WebSocketStream;
use tokio_util::sync::CancellationToken;

use crate::plugin::Running;
use crate::session::{Incoming, Session};
use crate::wire::{Gone, Wire};

/// How long `registered` may take.
const REGISTERED_WITHIN: Duration = Duration::from_secs(15);
/// How long work may go on after a stop signal that no `drain` announced.
const STOP_GRACE: Duration = Duration::from_secs(5);
/// How long work that was cancelled at the end may take to notice.
const LAST_CALL: Duration = Duration::from_millis(500);
/// How long the host may take to answer our close.
const CLOSE_WITHIN: Duration = Duration::from_secs(1);
/// The close code of a refusal: RFC 6455, section 7.4.1.
const POLICY: u16 = 1008;

/// How a session ended.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Ended {
    /// As it should: everything is answered.
    Finished,
    /// The host will not have this plugin.
    Rejected { code: String, message: String },
    /// The socket went.
    Lost { reason: String },
}

/// How far the session is.
#[derive(Debug, Clone, Copy)]
enum Phase {
    /// The host has yet to answer `register`.
    Registering {
        until: Instant,
    },
    Serving,
    /// What is in hand may be finished.
    Finishing {
        until: Instant,
    },
    /// The work was cancelled; what does not notice in time is left.
    LastCall {
        until: Instant,
    },
}

impl Phase {
    fn until(self) -> Option<Instant> {
        match self {
            Self::Serving => None,
            Self::Registering { until } | Self::Finishing { until } | Self::LastCall { until } => {
                Some(until)
            }
        }
    }

    fn is_last(self) -> bool {
        matches!(self, Self::Finishing { .. } | Self::LastCall { .. })
    }
}

/// What the socket brought.
enum Turn {
    Frame(Incoming),
    /// The session is to end, and nothing is left to answer or to write.
    Idle,
    Gone(Gone),
}

struct Conversation<'a> {
    session: Arc<Session>,
    running: &'a Arc<Running>,
    resume: &'a mut Option<Secret>,
    phase: Phase,
    beats: Interval,
    stop_was_seen: bool,
}

/// Ends the session when it is dropped, also where whoever ran the plugin has dropped it whole.
struct Over<'a> {
    session: Arc<Session>,
    running: &'a Running,
}

impl Drop for Over<'_> {
    fn drop(&mut self) {
        self.running.host.detach();
        self.session.end();
    }
}

/// Carries one session; `resume` is replaced by the secret that the host gives for the next one.
pub(crate) async fn converse<S: AsyncRead + AsyncWrite + Unpin>(
    socket: WebSocketStream<S>,
    session: Arc<Session>,
    running: &Arc<Running>,
    resume: &mut Option<Secret>,
    stop: &CancellationToken,
) -> Ended {
    let mut wire = Wire::new(socket);
    let mut conversation = Conversation {
        session: session.clone(),
        running,
        resume,
        phase: Phase::Registering { until: Instant::now() + REGISTERED_WITHIN },
        beats: every(REGISTERED_WITHIN),
        stop_was_seen: false,
    };
    let over = Over { session, running };
    let ended = conversation.run(&mut wire, stop).await;
    drop(over);
    // Whether the host still answers or not: what was owed has been sent.
    let _ = if ended == Ended::Finished {
        timeout(CLOSE_WITHIN, wire.close(1000, "finished")).await
    } else {
        timeout(CLOSE_WITHIN, wire.answer_close()).await
    };
    ended
}

impl Conversation<'_> {
    async fn run<S: AsyncRead + AsyncWrite + Unpin>(
        &mut self,
        wire: &mut Wire<S>,
        stop: &CancellationToken,
    ) -> Ended {
        loop {
            let until = self.phase.until();
            let deadline = async {
                match until {
                    Some(until) => sleep_until(until).await,
                    None => std::future::pending().await,
                }
            };
            let ended = tokio::select! {
                biased;
                turn = next(wire, &self.session, self.phase.is_last()) => self.take(turn),
                _ = self.beats.tick(), if !matches!(self.phase, Phase::Registering { .. }) => {
                    self.running.host.beat();
                    None
                }
                () = stop.cancelled(), if !self.stop_was_seen => self.stop(),
                () = deadline => self.time_is_up(),
            };
            if let Some(ended) = ended {
                return ended;
            }
        }
    }

    fn take(&mut self, turn: Turn) -> Option<Ended> {
        let incoming = match turn {
            Turn::Frame(incoming) => incoming,
            Turn::Idle => return Some(Ended::Finished),
            // Nothing was to come after this session.
            Turn::Gone(_) if self.phase.is_last() => return Some(Ended::Finished),
            Turn::Gone(Gone::Closed(POLICY, message)) => {
                return Some(Ended::Rejected { code: POLICY.to_string(), message });
            }
            Turn::Gone(Gone::Closed(code, reason)) => {
                return Some(Ended::Lost { reason: format!("the host closed with {code}: {reason}") });
            }
            Turn::Gone(Gone::Broken(reason)) => return Some(Ended::Lost { reason }),
        };
        match incoming {
            Incoming::Registered(registered) => self.register(*registered),
            Incoming::Rejected(rejected) => {
                return Some(Ended::Rejected { code: rejected.code, message: rejected.message });
            }
            Incoming::Request(request, ticket) => self.running.dispatch(request, ticket, &self.session),
            Incoming::Event(event) => self.running.host.deliver(event),
            Incoming::Config(config) => {
                self.running.take_config(config, &self.session);
            }
            Incoming::Drain(within) => {
                self.running.host.stopping().cancel();
                // A deadline that holds already is not put off.
                let until = Instant::now() + within;
                let until = self.phase.until().map_or(until, |earlier| earlier.min(until));
                if !matches!(self.phase, Phase::LastCall { .. }) {
                    self.phase = Phase::Finishing { until };
                }
            }
            Incoming::Settled => {}
        }
        None
    }

    fn register(&mut self, registered: Registered) {
        tracing::info!(instance = %registered.instance, "registered with the host");
        *self.resume = Some(registered.resume);
        self.phase = Phase::Serving;
        // The first beat is due at once.
        self.beats = every(Duration::from_millis(registered.heartbeat_ms.max(1)));
        self.running.host.attach(&self.session);
        self.running.registered(registered.config_revision, registered.config);
    }

    /// The signal to stop has come: alone it leaves some time, after a `drain` it says that the time
    /// is over.
    fn stop(&mut self) -> Option<Ended> {
        self.stop_was_seen = true;
        match self.phase {
            Phase::Registering { .. } => return Some(Ended::Finished),
            Phase::Serving => {
                self.running.host.stopping().cancel();
                self.running.host.say_stopping();
                self.phase = Phase::Finishing { until: Instant::now() + STOP_GRACE };
            }
            Phase::Finishing { .. } => self.call_last(),
            Phase::LastCall { .. } => {}
        }
        None
    }

    fn time_is_up(&mut self) -> Option<Ended> {
        match self.phase {
            Phase::Registering { .. } => Some(Ended::Lost {
                reason: format!("the host did not answer `register` in {} s", REGISTERED_WITHIN.as_secs()),
            }),
            Phase::Serving => None,
            Phase::Finishing { .. } => {
                self.call_last();
                None
            }
            Phase::LastCall { .. } => Some(Ended::Finished),
        }
    }

    fn call_last(&mut self) {
        self.session.cancel_all();
        self.phase = Phase::LastCall { until: Instant::now() + LAST_CALL };
    }
}

/// What the socket brings next; meanwhile, what waits is written.
async fn next<S: AsyncRead + AsyncWrite + Unpin>(
    wire: &mut Wire<S>,
    session: &Arc<Session>,
    is_last: bool,
) -> Turn {
    poll_fn(|cx| {
        // Before looking for frames, so that none that comes in between is overlooked.
        session.writer().register(cx.waker());
        match wire.poll(cx, || session.next_frame()) {
            Poll::Ready(Ok(text)) => Poll::Ready(Turn::Frame(session.receive(&text))),
            Poll::Ready(Err(gone)) => Poll::Ready(Turn::Gone(gone)),
            Poll::Pending if is_last && wire.is_flushed() && session.is_idle() => Poll::Ready(Turn::Idle),
            Poll::Pending => Poll::Pending,
        }
    })
    .await
}

fn every(period: Duration) -> Interval {
    let mut beats = interval(period);
    beats.set_missed_tick_behavior(MissedTickBehavior::Delay);
    beats
}
