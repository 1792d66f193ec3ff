//! One socket: reads what the client says, writes what it follows, and notices when it is gone.
//!
//! A message is made when the one before is written, so a client that does not read costs one message
//! and nobody else anything; a large one goes out in pieces, so that an idle socket keeps no buffer of its
//! size. The invariant: the socket ends within moments of the host's stop and of its caller's rights, and
//! after [`SILENT_AFTER`] where nobody is at the other end.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bkg_protocol::ErrorCode;
use futures_util::{Sink, SinkExt, Stream, StreamExt};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::{Instant, MissedTickBehavior, interval, timeout};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::protocol::CloseFrame;
use tokio_tungstenite::tungstenite::protocol::frame::Frame;
use tokio_tungstenite::tungstenite::protocol::frame::coding::{Data, OpCode};
use tokio_tungstenite::tungstenite::{Bytes, Error, Message};
use tokio_util::sync::CancellationToken;
use tracing::debug;

use super::Live;
use super::message::ServerMessage;
use super::session::Session;
use crate::auth::Caller;

/// How many answers may wait to be written, pongs too: with so many, nothing more is read from the client.
const MOST_ANSWERS: usize = 32;
/// The largest frame that is sent, in bytes. The WebSocket's buffer grows to the largest, and stays so.
const PIECE: usize = 4 << 10;
/// How long a socket that closes may take for it.
const CLOSE_WITHIN: Duration = Duration::from_secs(2);

/// How often somebody at the other end is looked for.
const PING_EVERY: Duration = Duration::from_secs(20);
/// From when on nobody is believed to be there.
const SILENT_AFTER: Duration = Duration::from_secs(60);

/// Serves a socket to its end.
pub(super) async fn serve<S: AsyncRead + AsyncWrite + Unpin>(
    live: Arc<Live>,
    caller: Caller,
    socket: WebSocketStream<S>,
    stop: CancellationToken,
) {
    let (session, bootstrap) = Session::begin(live, caller.clone());
    let answers = VecDeque::from([Message::Text(bootstrap.text())]);
    // It is far larger than all else that a socket costs, and would live as long.
    drop(bootstrap);
    let line = Line { socket, is_written: true, rest: Bytes::new(), answers, pongs: 0 };
    let reason = converse(line, session, caller, stop).await;
    debug!(?reason, "a live socket has ended");
}

/// Why a socket ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    /// The client said so, or its connection broke.
    ByClient,
    /// Nobody answered for too long.
    Silent,
    /// The host stops.
    Stopping,
    /// The credential does not open any more what it opened.
    Revoked,
    /// The client sent a message larger than it may.
    TooLarge,
    /// The client does not speak the protocol.
    Broken,
}

impl End {
    /// What the client is told, if anybody hears it.
    fn frame(self) -> Option<CloseFrame> {
        let (code, reason) = match self {
            Self::ByClient => return None,
            Self::Silent => (1008, "nothing was heard for too long"),
            Self::Stopping => (1001, "the host stops"),
            Self::Revoked => (4401, "the credential does not open this any more"),
            Self::TooLarge => (1009, "a message is larger than 64 KiB"),
            Self::Broken => (1002, "this is not the WebSocket protocol"),
        };
        Some(CloseFrame { code: code.into(), reason: reason.into() })
    }
}

/// What happens on a socket.
enum Happening {
    /// The client sent something.
    Heard(Message),
    /// What was handed over has been written: there is room for the next.
    Written,
    /// It is over.
    Over(End),
}

/// A socket with what it has not been handed yet.
struct Line<S> {
    socket: WebSocketStream<S>,
    /// Whether all that it was handed is on its way.
    is_written: bool,
    /// What of a message follows in further frames (RFC 6455, section 5.4).
    rest: Bytes,
    /// Answers to the client, which go before everything else; at most [`MOST_ANSWERS`] and one.
    answers: VecDeque<Message>,
    /// How many pongs the socket has made by itself and may not have written yet: it keeps any number.
    pongs: usize,
}

async fn converse<S: AsyncRead + AsyncWrite + Unpin>(
    mut line: Line<S>,
    mut session: Session,
    caller: Caller,
    stop: CancellationToken,
) -> End {
    let mut pings = interval(PING_EVERY);
    pings.set_missed_tick_behavior(MissedTickBehavior::Delay);
    // The first one is at once, and nobody needs it.
    pings.tick().await;
    let mut heard = Instant::now();
    let end = loop {
        if line.is_written
            && let Some(answer) = line.answers.pop_front()
            && let Err(end) = line.hand_over(answer)
        {
            break end;
        }
        let has_room = line.is_written;
        tokio::select! {
            biased;
            () = stop.cancelled() => break End::Stopping,
            () = caller.revoked() => break End::Revoked,
            happening = poll_fn(|context| line.poll(context)) => match happening {
                Happening::Over(end) => break end,
                Happening::Written => {}
                Happening::Heard(message) => {
                    heard = Instant::now();
                    if message.is_ping() {
                        line.owe_pong();
                    }
                    if let Some(answer) = answer(&mut session, message) {
                        line.answers.push_back(Message::Text(answer.text()));
                    }
                }
            },
            _ = pings.tick() => {
                if heard.elapsed() >= SILENT_AFTER {
                    break End::Silent;
                }
                // One that is not written yet is as good as another behind it.
                if line.is_written && let Err(end) = line.hand_over(Message::Ping(Bytes::new())) {
                    break end;
                }
            }
            text = session.feeds.next(), if has_room => {
                if let Err(end) = line.hand_over(Message::Text(text)) {
                    break end;
                }
            }
        }
    };
    // What the feeds hold is not needed for saying goodbye.
    drop(session);
    let _ = timeout(CLOSE_WITHIN, line.close(end)).await;
    end
}

/// What the client is answered, if its message wants an answer.
fn answer(session: &mut Session, message: Message) -> Option<ServerMessage> {
    match message {
        Message::Text(text) => Some(session.hear(&text)),
        Message::Binary(_) => {
            let wrong = "the message is binary: messages are JSON as text";
            Some(ServerMessage::error(ErrorCode::InvalidRequest, wrong, None))
        }
        _ => None,
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> Line<S> {
    /// Hands the socket its next message, which it has room for.
    fn hand_over(&mut self, message: Message) -> Result<(), End> {
        self.is_written = false;
        match message {
            Message::Text(text) if text.len() > PIECE => {
                self.rest = Bytes::from(text);
                self.send_piece(Data::Text)
            }
            message => self.send(message),
        }
    }

    /// Sends the next piece of what is left of a message.
    fn send_piece(&mut self, kind: Data) -> Result<(), End> {
        let piece = self.rest.split_to(PIECE.min(self.rest.len()));
        let frame = Frame::message(piece, OpCode::Data(kind), self.rest.is_empty());
        self.send(Message::Frame(frame))
    }

    fn send(&mut self, message: Message) -> Result<(), End> {
        Pin::new(&mut self.socket).start_send(message).map_err(|error| end_of(&error))
    }

    /// Notes that the socket answers a ping by itself, which is to be written before more is handed over.
    fn owe_pong(&mut self) {
        self.is_written = false;
        self.pongs += 1;
    }

    /// Writes what the socket has, and reads unless too many answers wait.
    fn poll(&mut self, context: &mut Context<'_>) -> Poll<Happening> {
        while !self.is_written
            && let Poll::Ready(written) = Pin::new(&mut self.socket).poll_flush(context)
        {
            self.pongs = 0;
            let sent = written.map_err(|error| end_of(&error)).and_then(|()| {
                self.is_written = self.rest.is_empty();
                if self.is_written { Ok(()) } else { self.send_piece(Data::Continue) }
            });
            match sent {
                Ok(()) if self.is_written => return Poll::Ready(Happening::Written),
                Ok(()) => {}
                Err(end) => return Poll::Ready(Happening::Over(end)),
            }
        }
        if self.answers.len() + self.pongs >= MOST_ANSWERS {
            return Poll::Pending;
        }
        Pin::new(&mut self.socket).poll_next(context).map(|message| match message {
            None | Some(Ok(Message::Close(_))) => Happening::Over(End::ByClient),
            Some(Ok(message)) => Happening::Heard(message),
            Some(Err(error)) => Happening::Over(end_of(&error)),
        })
    }

    /// Says why, and waits until the client has closed too: otherwise what it is still sending would
    /// break the connection before it has read the reason.
    async fn close(&mut self, end: End) {
        if let Some(frame) = end.frame() {
            if self.socket.close(Some(frame)).await.is_err() {
                return;
            }
        } else if self.socket.flush().await.is_err() {
            return;
        }
        while let Some(Ok(_)) = self.socket.next().await {}
    }
}

fn end_of(error: &Error) -> End {
    match error {
        Error::Capacity(_) => End::TooLarge,
        Error::Protocol(_) | Error::Utf8(_) => End::Broken,
        _ => End::ByClient,
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::DuplexStream;
    use tokio_tungstenite::tungstenite::protocol::Role;

    use super::super::Sources;
    use super::*;
    use crate::auth::{Authenticator, Provider};
    use crate::config::QueueLimits;
    use crate::dispatcher::Dispatcher;
    use crate::logs::{LogSettings, Logs};
    use crate::registry::Registry;
    use crate::store::{DataDir, Store};
    use crate::telemetry::Telemetry;

    /// A host without plugins, which keeps its directory for as long as it is held.
    async fn live() -> (Arc<Live>, Caller, DataDir, tempfile::TempDir) {
        let directory = tempfile::tempdir().unwrap();
        let data = DataDir::open(directory.path()).unwrap();
        let store = Store::open(&data).unwrap();
        let settings = LogSettings {
            ring_lines: 10,
            segment_bytes: 1 << 20,
            segments: 2,
            segment_age: Duration::MAX,
            keep: Duration::MAX,
            lines_per_second: 10,
        };
        let registry = Arc::new(Registry::new([], Default::default()));
        let dispatcher = Dispatcher::new(Arc::clone(&registry), QueueLimits::default(), 16);
        let provider =
            Provider::new("apikeys".parse().unwrap(), Arc::clone(&registry), Arc::new(dispatcher));
        let authenticator = Authenticator::new(data.root_key().clone(), provider);
        let caller = authenticator.authenticate(data.root_key().expose()).await.unwrap();
        let live = Live::start(Sources {
            telemetry: Telemetry::new(Arc::clone(&registry), Duration::from_secs(5)),
            registry,
            catalogue: Arc::default(),
            logs: Logs::open(&data.plugins(), settings).unwrap(),
            audit: store.audit.clone(),
            authenticator,
            metrics: Arc::default(),
        });
        (live.await.unwrap(), caller, data, directory)
    }

    async fn sides(room: usize) -> (WebSocketStream<DuplexStream>, WebSocketStream<DuplexStream>) {
        let (ours, theirs) = tokio::io::duplex(room);
        let ours = WebSocketStream::from_raw_socket(ours, Role::Server, None).await;
        (ours, WebSocketStream::from_raw_socket(theirs, Role::Client, None).await)
    }

    #[tokio::test]
    async fn whoever_is_silent_for_a_minute_is_gone_and_whoever_answers_stays() {
        let (live, caller, _data, _directory) = live().await;
        tokio::time::pause();
        let begun = Instant::now();
        // The bootstrap does not even fit into what is between the two.
        let (ours, unread) = sides(64).await;
        serve(Arc::clone(&live), caller.clone(), ours, CancellationToken::new()).await;
        let silent = begun.elapsed();
        assert!((SILENT_AFTER..SILENT_AFTER * 2).contains(&silent), "{silent:?}");
        drop(unread);

        let (ours, mut theirs) = sides(64 << 10).await;
        let stop = CancellationToken::new();
        let serving = serve(Arc::clone(&live), caller, ours, stop.clone());
        let answering = async {
            let mut pings = 0;
            while pings < 10 {
                // Reading answers a ping.
                let message = theirs.next().await.unwrap().unwrap();
                assert!(!message.is_close(), "{message}");
                pings += u32::from(message.is_ping());
            }
            stop.cancel();
            let last = theirs.next().await.unwrap().unwrap();
            assert!(last.is_close(), "{last}");
            while theirs.next().await.is_some() {}
        };
        tokio::join!(serving, answering);
        assert!(begun.elapsed() > silent + SILENT_AFTER * 2);
        live.finish().await;
    }

    #[tokio::test]
    async fn a_large_message_comes_whole_in_frames_of_a_bounded_size() {
        let (ours, mut theirs) = sides(1 << 10).await;
        let mut line =
            Line { socket: ours, is_written: true, rest: Bytes::new(), answers: VecDeque::new(), pongs: 0 };
        let large = "größer ".repeat(PIECE);
        line.hand_over(Message::text(large.clone())).unwrap();
        let writing = async {
            while !matches!(poll_fn(|context| line.poll(context)).await, Happening::Written) {}
            // What follows is a message of its own.
            line.hand_over(Message::text("small")).unwrap();
            while !matches!(poll_fn(|context| line.poll(context)).await, Happening::Written) {}
        };
        let reading = async {
            assert_eq!(theirs.next().await.unwrap().unwrap(), Message::text(large.clone()));
            assert_eq!(theirs.next().await.unwrap().unwrap(), Message::text("small"));
        };
        tokio::join!(writing, reading);
    }

    #[tokio::test]
    async fn pings_of_a_client_that_does_not_read_are_not_answered_into_memory() {
        let (live, caller, _data, _directory) = live().await;
        tokio::time::pause();
        let (ours, mut theirs) = sides(64).await;
        let serving = serve(Arc::clone(&live), caller, ours, CancellationToken::new());
        let mut sent = 0;
        let flooding = async {
            while theirs.send(Message::Ping(Bytes::from_static(&[0; 100]))).await.is_ok() {
                sent += 1;
                assert!(sent < 1_000, "every ping is read, and its answer kept");
            }
        };
        // The socket ends although the client has never stopped sending: nothing of it is read any more.
        tokio::select! {
            () = serving => {}
            () = flooding => {}
        }
        live.finish().await;
    }
}
