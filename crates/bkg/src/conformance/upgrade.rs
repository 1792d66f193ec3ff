//! From a connection of the plugin to a WebSocket, judged by what the host would make of it.
//!
//! Not the session: that begins with `register`. Everything that can be wrong this early is noted under
//! `dials-in-time`.

use std::time::Duration;

use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_tungstenite::tungstenite::handshake::server::{ErrorResponse, Request, Response};
use tokio_tungstenite::tungstenite::http::{StatusCode, header};
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;
use tokio_tungstenite::{WebSocketStream, accept_hdr_async_with_config};

use super::notebook::Notebook;
use super::rule::Rule;

/// The largest frame that is read at all: what is larger than the limit must be seen to be judged.
const LARGEST_READ: usize = 64 << 20;
/// How long an upgrade may take.
const UPGRADE_WITHIN: Duration = Duration::from_secs(5);

/// Why a launch has no session, in one sentence.
#[derive(Debug)]
pub(super) enum NoSession {
    NotDialled(String),
    NotRegistered(String),
}

impl NoSession {
    pub(super) fn sentence(&self) -> &str {
        match self {
            Self::NotDialled(came) | Self::NotRegistered(came) => came,
        }
    }

    /// Notes which rule that breaks, and answers the sentence.
    pub(super) fn note(self, notebook: &Notebook) -> String {
        let (rule, came) = match self {
            Self::NotDialled(came) => (Rule::DialsInTime, came),
            Self::NotRegistered(came) => (Rule::RegisterFirst, came),
        };
        let expected = match rule {
            Rule::DialsInTime => "a WebSocket to `BKG_PLUGIN_BUS_URL`",
            _ => "a valid `register` as the first frame",
        };
        notebook.broken(rule, expected, came.clone());
        came
    }
}

/// Upgrades a connection, `None` if nothing comes of it; `token` is that of the launch, where it is known.
pub(super) async fn upgrade(
    socket: TcpStream,
    token: Option<&str>,
    notebook: &Notebook,
) -> Option<WebSocketStream<TcpStream>> {
    let _ = socket.set_nodelay(true);
    let local = socket.local_addr().ok()?;
    // The upgrade's answer is the library's own type, however large.
    #[allow(clippy::result_large_err)]
    let check = |request: &Request, response: Response| -> Result<Response, ErrorResponse> {
        let text =
            |name| request.headers().get(name).map(|value| String::from_utf8_lossy(value.as_bytes()));
        let bearer = text(header::AUTHORIZATION);
        if let (Some(token), Some(bearer)) = (token, bearer)
            && bearer.strip_prefix("Bearer ").map(str::trim) != Some(token)
        {
            let expected = "`Authorization: Bearer` with the launch token, or none";
            notebook.broken(Rule::DialsInTime, expected, "another `Authorization`");
        }
        let Some(origin) = text(header::ORIGIN) else { return Ok(response) };
        if [format!("http://{local}"), format!("ws://{local}")].iter().any(|own| *own == origin) {
            return Ok(response);
        }
        let expected = "an upgrade without an `Origin` of elsewhere";
        notebook.broken(Rule::DialsInTime, expected, format!("`Origin: {origin}`"));
        let mut refusal = ErrorResponse::new(None);
        *refusal.status_mut() = StatusCode::FORBIDDEN;
        Err(refusal)
    };
    let config = WebSocketConfig::default()
        .max_message_size(Some(LARGEST_READ))
        .max_frame_size(Some(LARGEST_READ))
        // One frame at a time is written, however large a scene makes it.
        .max_write_buffer_size(usize::MAX);
    let upgrade = accept_hdr_async_with_config(socket, check, Some(config));
    timeout(UPGRADE_WITHIN, upgrade).await.ok()?.ok()
}
