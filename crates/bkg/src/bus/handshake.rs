//! From a TCP connection to a WebSocket: the upgrade, its limits, and whom it is refused.

use std::net::SocketAddr;

use bkg_protocol::Limits;
use bkg_protocol::message::Secret;
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout_at};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite;
use tokio_tungstenite::tungstenite::handshake::server::{ErrorResponse, Request, Response};
use tokio_tungstenite::tungstenite::http::{HeaderMap, StatusCode, header};
use tokio_tungstenite::tungstenite::protocol::{CloseFrame, WebSocketConfig};

/// What may wait in a socket besides the largest frame that is sent to it: pongs, a close frame, and what
/// the host says of itself.
const ROOM: usize = 1 << 20;

/// Idle sessions must be cheap: the default buffers cost 133 KiB each, these 8 KiB.
const BUFFER: usize = 4 << 10;

/// Why no session came of a connection.
#[derive(Debug, thiserror::Error)]
pub(super) enum HandshakeError {
    /// It took too long.
    #[error("the upgrade did not complete in time")]
    Late,
    /// It is no WebSocket upgrade, or it was refused.
    #[error("the upgrade failed: {0}")]
    Failed(#[from] Box<tungstenite::Error>),
}

/// Upgrades a connection, and finds the token in its headers.
pub(super) async fn upgrade(
    socket: TcpStream,
    deadline: Instant,
    limits: &Limits,
    max_frame_bytes: Option<usize>,
) -> Result<(WebSocketStream<TcpStream>, Option<Secret>), HandshakeError> {
    let largest = limits.frame_to_extended.max(limits.frame_to_base).max(max_frame_bytes.unwrap_or(0));
    let config = config()
        // The connection lets one frame in at a time; the session's outbox holds the rest, counted.
        .max_write_buffer_size(largest.saturating_add(ROOM))
        .max_message_size(Some(limits.frame_from_plugin))
        .max_frame_size(Some(limits.frame_from_plugin));
    let local = socket.local_addr().map_err(|error| Box::new(error.into()))?;
    let mut token = None;
    let check = |request: &Request, response: Response| {
        token = bearer(request.headers());
        refuse_browsers(request, response, local)
    };
    let upgrade = tokio_tungstenite::accept_hdr_async_with_config(socket, check, Some(config));
    let socket =
        timeout_at(deadline, upgrade).await.map_err(|_| HandshakeError::Late)?.map_err(Box::new)?;
    Ok((socket, token))
}

/// Upgrades a connection only to close it with a code and a reason that its client can show.
pub(super) async fn refuse(socket: TcpStream, deadline: Instant, code: u16, reason: &str) {
    let Ok(local) = socket.local_addr() else { return };
    let check = |request: &Request, response: Response| refuse_browsers(request, response, local);
    // Nobody listens to what is said to somebody who is refused.
    let config =
        config().max_write_buffer_size(ROOM).max_message_size(Some(BUFFER)).max_frame_size(Some(BUFFER));
    let upgrade = tokio_tungstenite::accept_hdr_async_with_config(socket, check, Some(config));
    let Ok(Ok(mut socket)) = timeout_at(deadline, upgrade).await else { return };
    let frame = CloseFrame { code: code.into(), reason: reason.into() };
    let _ = timeout_at(deadline, socket.close(Some(frame))).await;
}

fn config() -> WebSocketConfig {
    WebSocketConfig::default().read_buffer_size(BUFFER).write_buffer_size(BUFFER)
}

/// Answers 403 to the upgrade of a page: a browser always sends its origin, a plugin sends none, or
/// the listener's own address where its library cannot do without. `Host` proves nothing: after DNS
/// rebinding it agrees with the origin of a hostile page.
fn refuse_browsers(
    request: &Request,
    response: Response,
    local: SocketAddr,
) -> Result<Response, ErrorResponse> {
    let Some(origin) = request.headers().get(header::ORIGIN) else { return Ok(response) };
    let origin = String::from_utf8_lossy(origin.as_bytes());
    let own = ["http", "ws"].into_iter().flat_map(|scheme| {
        [format!("{scheme}://{local}"), format!("{scheme}://localhost:{}", local.port())]
    });
    if own.into_iter().any(|own| own == origin) {
        return Ok(response);
    }
    let text = format!("an upgrade with the origin `{origin}` comes from a browser: plugins send none\n");
    let mut refusal = ErrorResponse::new(Some(text));
    *refusal.status_mut() = StatusCode::FORBIDDEN;
    Err(refusal)
}

fn bearer(headers: &HeaderMap) -> Option<Secret> {
    let value = headers.get(header::AUTHORIZATION)?.to_str().ok()?;
    value.strip_prefix("Bearer ").map(|token| Secret::new(token.trim()))
}
