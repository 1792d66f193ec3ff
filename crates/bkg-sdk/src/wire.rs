//! Text frames over one WebSocket: reads them, and writes what waits, whenever the socket allows.
//!
//! Knows nothing of the protocol. Reading never waits for writing, so two peers with full sockets
//! cannot lock each other. Frames are written until none waits and flushed once: many small answers
//! leave in one packet. Used by the connection, and by the test host for the other side.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use futures_util::{Sink, SinkExt, Stream, StreamExt};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::protocol::{CloseFrame, WebSocketConfig};
use tokio_tungstenite::tungstenite::{Error, Message, Utf8Bytes};

/// The largest frame that is read. The host bounds what it sends far below; this guards against a
/// broken length.
const MAX_READ: usize = 64 << 20;
/// Read buffers are allocated per socket at once; frames that are larger grow them for their time.
const READ_BUFFER: usize = 8 << 10;
/// How many bytes are gathered before a write without a flush.
const WRITE_BUFFER: usize = 32 << 10;

/// How sockets of plugins are set up: small at rest, bounded both ways.
pub(crate) fn websocket_config() -> WebSocketConfig {
    WebSocketConfig::default()
        .read_buffer_size(READ_BUFFER)
        .write_buffer_size(WRITE_BUFFER)
        // A frame is only handed over when the last one did not block, so at most one is in excess.
        .max_write_buffer_size(WRITE_BUFFER + 2 * MAX_READ)
        .max_message_size(Some(MAX_READ))
        .max_frame_size(Some(MAX_READ))
}

/// How a socket ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Gone {
    /// The peer closed it, with a code and a reason.
    Closed(u16, String),
    /// It broke.
    Broken(String),
}

#[derive(Debug)]
pub(crate) struct Wire<S> {
    socket: WebSocketStream<S>,
    unflushed: bool,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Wire<S> {
    pub(crate) fn new(socket: WebSocketStream<S>) -> Self {
        Self { socket, unflushed: false }
    }

    /// The next text frame; meanwhile, everything that `next_frame` gives is written.
    ///
    /// The caller sees to it that `cx` is woken when `next_frame` has something again.
    pub(crate) fn poll(
        &mut self,
        cx: &mut Context<'_>,
        next_frame: impl FnMut() -> Option<String>,
    ) -> Poll<Result<Utf8Bytes, Gone>> {
        // Reading goes first: what is read in one go is answered in one go. It cannot starve writing,
        // since the runtime makes a socket that always has data pause now and then.
        if let Poll::Ready(read) = self.poll_read(cx) {
            return Poll::Ready(read);
        }
        match self.poll_write(cx, next_frame) {
            Poll::Ready(Err(error)) => Poll::Ready(Err(Gone::Broken(error.to_string()))),
            _ => Poll::Pending,
        }
    }

    fn poll_read(&mut self, cx: &mut Context<'_>) -> Poll<Result<Utf8Bytes, Gone>> {
        loop {
            let message = match ready!(Pin::new(&mut self.socket).poll_next(cx)) {
                Some(Ok(message)) => message,
                Some(Err(error)) => return Poll::Ready(Err(Gone::Broken(error.to_string()))),
                None => return Poll::Ready(Err(Gone::Broken("the connection ended".to_owned()))),
            };
            match message {
                Message::Text(text) => return Poll::Ready(Ok(text)),
                Message::Close(frame) => {
                    let (code, reason) = frame.map_or((1005, String::new()), |frame| {
                        (frame.code.into(), frame.reason.as_str().to_owned())
                    });
                    return Poll::Ready(Err(Gone::Closed(code, reason)));
                }
                // The library has put the pong in its buffer.
                Message::Ping(_) => self.unflushed = true,
                // The protocol has text frames only, and what it does not know it ignores.
                Message::Pong(_) | Message::Binary(_) | Message::Frame(_) => {}
            }
        }
    }

    fn poll_write(
        &mut self,
        cx: &mut Context<'_>,
        mut next_frame: impl FnMut() -> Option<String>,
    ) -> Poll<Result<(), Error>> {
        loop {
            ready!(Pin::new(&mut self.socket).poll_ready(cx))?;
            let Some(text) = next_frame() else { break };
            self.unflushed = true;
            Pin::new(&mut self.socket).start_send(Message::text(text))?;
        }
        if self.unflushed {
            ready!(Pin::new(&mut self.socket).poll_flush(cx))?;
            self.unflushed = false;
        }
        Poll::Ready(Ok(()))
    }

    /// Whether everything that was handed over has left.
    pub(crate) fn is_flushed(&self) -> bool {
        !self.unflushed
    }

    /// Writes the answer to the peer's close, which the library has put in its buffer. Put a deadline on it.
    pub(crate) async fn answer_close(mut self) {
        // Where the socket broke instead, there is nobody to answer.
        let _ = self.socket.flush().await;
    }

    /// Closes with a code, and waits until the peer has closed too. Put a deadline on it.
    pub(crate) async fn close(mut self, code: u16, reason: &str) {
        let frame = CloseFrame { code: CloseCode::from(code), reason: reason.into() };
        if self.socket.send(Message::Close(Some(frame))).await.is_err() {
            return;
        }
        while let Some(Ok(_)) = self.socket.next().await {}
    }
}
