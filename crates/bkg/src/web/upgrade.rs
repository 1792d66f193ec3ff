//! From a request to a WebSocket: the upgrade, and what of the connection's rules holds on.
//!
//! Not who may open one, which the guard says, and not what is said over it. The invariants: a socket
//! keeps the place of its connection until it ends; it ends with the host, at the latest when the drain
//! is over, and shortly after its caller was revoked. `live` takes connections over.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::response::{IntoResponse, Response};
use bkg_protocol::ErrorCode;
use http::request::Parts;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use hyper::upgrade::{OnUpgrade, Upgraded};
use hyper_util::rt::TokioIo;
use tokio::time::{sleep, timeout};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use tokio_tungstenite::tungstenite::protocol::{Role, WebSocketConfig};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{debug, warn};

use super::places::Place;
use super::routes::Call;
use crate::auth::Caller;
use crate::error::{Dialect, Problem};

/// The subprotocol of our sockets; a client that offers any must offer this one.
pub const SUBPROTOCOL: &str = "bkg.v1";
/// What a one-time ticket follows in the list of subprotocols: a page can put it nowhere else but into
/// the address, where it would be logged.
pub const TICKET_PREFIX: &str = "bkg.ticket.";

/// A connection that has become a WebSocket.
pub type Socket = WebSocketStream<TokioIo<Upgraded>>;

/// Idle sockets must be cheap: the default buffers cost 133 KiB each, these 8 KiB.
const BUFFER: usize = 4 << 10;
/// The largest message to a client, with room for pongs.
const LARGEST_TO_CLIENT: usize = 64 << 20;
/// How long the client may take to read that its request was granted.
const HANDSHAKE_WITHIN: Duration = Duration::from_secs(10);
/// How long a socket may take to say goodbye to a caller who was revoked.
const GOODBYE_WITHIN: Duration = Duration::from_secs(3);

/// What a connection passes on to the socket that takes its place.
#[derive(Clone)]
pub(super) struct Takeover {
    /// The connection's place, held for as long as anything of it is left.
    pub(super) place: Arc<Place>,
    /// Where the tasks of connections run that the stop waits for.
    pub(super) tasks: TaskTracker,
    /// Fires when the host stops.
    pub(super) stop: CancellationToken,
    /// How long after that the socket may last.
    pub(super) drain: Duration,
}

impl Call {
    /// Answers that the connection becomes a WebSocket, and has `serve` talk over it until it is done.
    /// It is to end when the token fires or the caller is revoked, and is dropped if it does not.
    /// No message from the client may be larger than `largest`, in bytes.
    ///
    /// A request that is no upgrade is answered with 426 and what is missing.
    ///
    /// # Errors
    /// `invalid_request` for an upgrade that is not well-formed.
    pub fn take_over<F>(
        mut self,
        largest: usize,
        serve: impl FnOnce(Caller, Socket, CancellationToken) -> F + Send + 'static,
    ) -> Result<Response, Problem>
    where
        F: Future<Output = ()> + Send,
    {
        let extensions = &mut self.parts.extensions;
        let upgrade = extensions.remove::<OnUpgrade>().zip(extensions.remove::<Takeover>());
        let (Some((upgrade, takeover)), true) = (upgrade, asks_for_websocket(&self.parts.headers)) else {
            return Ok(upgrade_required());
        };
        let key = self.parts.headers.get(header::SEC_WEBSOCKET_KEY);
        let key = key.ok_or_else(|| Problem::invalid("the header `Sec-WebSocket-Key` is missing"))?;
        let accept = derive_accept_key(key.as_bytes());
        let protocol = select_protocol(&self.parts)?;
        let caller = self.caller;
        let Takeover { place, tasks, stop, drain } = takeover;
        tasks.spawn(async move {
            let Ok(Ok(connection)) = timeout(HANDSHAKE_WITHIN, upgrade).await else {
                debug!("a client left before its socket was open");
                return;
            };
            let socket = TokioIo::new(connection);
            let socket =
                WebSocketStream::from_raw_socket(socket, Role::Server, Some(config(largest))).await;
            tokio::select! {
                () = serve(caller.clone(), socket, stop.clone()) => {}
                () = async { stop.cancelled().await; sleep(drain).await } => {
                    warn!(after = ?drain, "a socket did not end in time and is abandoned");
                }
                () = async { caller.revoked().await; sleep(GOODBYE_WITHIN).await } => {
                    warn!(user = caller.user(), "a socket outlived its caller's rights and is dropped");
                }
            }
            drop(place);
        });
        let mut response = StatusCode::SWITCHING_PROTOCOLS.into_response();
        let headers = response.headers_mut();
        headers.insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
        headers.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
        let accept = HeaderValue::from_str(&accept).expect("Base64 is a header value");
        headers.insert(header::SEC_WEBSOCKET_ACCEPT, accept);
        if let Some(protocol) = protocol {
            headers.insert(header::SEC_WEBSOCKET_PROTOCOL, HeaderValue::from_static(protocol));
        }
        *response.body_mut() = Body::empty();
        Ok(response)
    }
}

/// The one-time ticket that a request comes with.
pub(super) fn ticket(parts: &Parts) -> Option<&str> {
    offered(&parts.headers).find_map(|protocol| protocol.strip_prefix(TICKET_PREFIX))
}

/// The subprotocol to answer with. A browser gives up on a socket whose answer has none of those that
/// it offered, and a ticket must not be repeated in an answer.
fn select_protocol(parts: &Parts) -> Result<Option<&'static str>, Problem> {
    if !parts.headers.contains_key(header::SEC_WEBSOCKET_PROTOCOL) {
        return Ok(None);
    }
    if offered(&parts.headers).any(|protocol| protocol == SUBPROTOCOL) {
        return Ok(Some(SUBPROTOCOL));
    }
    let message = format!("none of the subprotocols is known: offer `{SUBPROTOCOL}`, or none at all");
    Err(Problem::invalid(message))
}

fn offered(headers: &HeaderMap) -> impl Iterator<Item = &str> {
    words(headers, &header::SEC_WEBSOCKET_PROTOCOL)
}

/// The members of the comma-separated lists in all headers of a name.
fn words<'a>(headers: &'a HeaderMap, name: &HeaderName) -> impl Iterator<Item = &'a str> {
    let values = headers.get_all(name).iter().filter_map(|value| value.to_str().ok());
    values.flat_map(|value| value.split(',')).map(str::trim).filter(|word| !word.is_empty())
}

/// Whether a request asks for a WebSocket of the version that there is (RFC 6455, section 4.2.1).
fn asks_for_websocket(headers: &HeaderMap) -> bool {
    let has = |name, wanted: &str| words(headers, &name).any(|word| word.eq_ignore_ascii_case(wanted));
    has(header::UPGRADE, "websocket")
        && has(header::CONNECTION, "upgrade")
        && has(header::SEC_WEBSOCKET_VERSION, "13")
}

fn upgrade_required() -> Response {
    let message = "this is a WebSocket: ask for an upgrade to version 13";
    let mut response = Problem::new(ErrorCode::InvalidRequest, message).response(Dialect::Backplane);
    *response.status_mut() = StatusCode::UPGRADE_REQUIRED;
    let headers = response.headers_mut();
    headers.insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
    headers.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
    headers.insert(header::SEC_WEBSOCKET_VERSION, HeaderValue::from_static("13"));
    response
}

fn config(largest: usize) -> WebSocketConfig {
    WebSocketConfig::default()
        .read_buffer_size(BUFFER)
        .write_buffer_size(BUFFER)
        // Whoever serves the socket hands it one message at a time, and the next when that is written. Pongs
        // come on top, so it also stops reading while too many of them wait.
        .max_write_buffer_size(LARGEST_TO_CLIENT)
        .max_message_size(Some(largest))
        .max_frame_size(Some(largest))
}
