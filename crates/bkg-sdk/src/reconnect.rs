//! Keeps the plugin registered: dials, and dials again when the link breaks.
//!
//! The first registration of a launch shows its token, later ones the secret that the last gave. A
//! host that refuses is believed; a host that is away is tried with growing pauses until the patience
//! is used up. The invariant: it ends with a definite reason.

use std::sync::Arc;
use std::time::Duration;

use bkg_protocol::message::Secret;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep, timeout};
use tokio_tungstenite::tungstenite::http::Uri;
use tokio_tungstenite::{WebSocketStream, client_async_with_config};
use tokio_util::sync::CancellationToken;

use crate::connection::{Ended, converse};
use crate::environment::EnvironmentError;
use crate::error::RunError;
use crate::plugin::Running;
use crate::session::Session;
use crate::wire::websocket_config;

/// How long one attempt to connect may take.
const DIAL_WITHIN: Duration = Duration::from_secs(5);
/// The pause before the second attempt; each further one is twice as long.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
/// The longest pause between attempts.
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// Whoever can open a link to the host: by TCP, or in memory in tests.
pub(crate) trait Dial: Send + 'static {
    type Link: AsyncRead + AsyncWrite + Unpin + Send;

    /// Opens a link; an error is one sentence.
    fn dial(&mut self) -> impl Future<Output = Result<WebSocketStream<Self::Link>, String>> + Send;

    /// Where it dials, for messages.
    fn url(&self) -> &str;
}

/// Dials the host by TCP.
#[derive(Debug)]
pub(crate) struct TcpDialler {
    url: String,
    address: String,
}

impl TcpDialler {
    pub(crate) fn new(url: &str) -> Result<Self, EnvironmentError> {
        let wrong =
            |problem: &str| EnvironmentError::Url { url: url.to_owned(), problem: problem.to_owned() };
        let uri: Uri = url.parse().map_err(|problem| wrong(&format!("{problem}")))?;
        if uri.scheme_str() != Some("ws") {
            return Err(wrong("only `ws` is spoken, over loopback or a tunnel"));
        }
        let host = uri.host().ok_or_else(|| wrong("it names no host"))?;
        let port = uri.port_u16().unwrap_or(80);
        Ok(Self { url: url.to_owned(), address: format!("{host}:{port}") })
    }
}

impl Dial for TcpDialler {
    type Link = TcpStream;

    async fn dial(&mut self) -> Result<WebSocketStream<TcpStream>, String> {
        let stream = TcpStream::connect(&self.address).await.map_err(|problem| problem.to_string())?;
        // Answers are small and someone waits for each: none may sit in the kernel for more to come.
        stream.set_nodelay(true).map_err(|problem| problem.to_string())?;
        let upgraded = client_async_with_config(self.url.as_str(), stream, Some(websocket_config())).await;
        upgraded.map(|(socket, _)| socket).map_err(|problem| problem.to_string())
    }

    fn url(&self) -> &str {
        &self.url
    }
}

/// Holds a session with the host until it is finished, refused, or out of reach for `patience`.
pub(crate) async fn keep_registered(
    mut dialler: impl Dial,
    running: Arc<Running>,
    patience: Duration,
    stop: CancellationToken,
) -> Result<(), RunError> {
    let mut resume: Option<Secret> = None;
    let mut attempts = 0;
    let mut without_session_since = Instant::now();
    loop {
        let dialled = tokio::select! {
            () = stop.cancelled() => return Ok(()),
            dialled = timeout(DIAL_WITHIN, dialler.dial()) => dialled,
        };
        let reason = match dialled {
            Ok(Ok(socket)) => {
                let mut registration = running.host.registration();
                match &resume {
                    Some(secret) => registration.resume = Some(secret.clone()),
                    None => registration.token = Some(running.host.environment().token.clone()),
                }
                let before = resume.clone();
                let session = Session::new(registration);
                let ended = converse(socket, session, &running, &mut resume, &stop).await;
                if resume != before {
                    attempts = 0;
                    without_session_since = Instant::now();
                }
                match ended {
                    Ended::Finished => return Ok(()),
                    Ended::Rejected { code, message } => return Err(RunError::Rejected { code, message }),
                    Ended::Lost { reason } => reason,
                }
            }
            Ok(Err(reason)) => reason,
            Err(_) => format!("it did not answer in {} s", DIAL_WITHIN.as_secs()),
        };
        if without_session_since.elapsed() >= patience {
            return Err(RunError::Unreachable { url: dialler.url().to_owned(), patience, reason });
        }
        let pause = pause_after(attempts, rand::random_range(0.5..1.5));
        attempts += 1;
        tracing::warn!(
            reason,
            pause_ms = pause.as_millis() as u64,
            "no session with the host, dialling again"
        );
        tokio::select! {
            () = stop.cancelled() => return Ok(()),
            () = sleep(pause) => {}
        }
    }
}

/// The pause after so many attempts in vain. The first is short, since a broken link is mostly back
/// at once; `jitter` keeps the plugins of a host from coming back all at the same moment.
fn pause_after(attempts: u32, jitter: f64) -> Duration {
    let pause = match attempts {
        0 => FIRST_PAUSE / 10,
        _ => FIRST_PAUSE.saturating_mul(1 << (attempts - 1).min(16)).min(LONGEST_PAUSE),
    };
    pause.mul_f64(jitter)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_to_a_bound() {
        let pauses: Vec<u64> = (0..9).map(|n| pause_after(n, 1.0).as_millis() as u64).collect();
        assert_eq!(pauses, [10, 100, 200, 400, 800, 1600, 3200, 5000, 5000]);
        assert_eq!(pause_after(u32::MAX, 0.5), LONGEST_PAUSE / 2);
    }

    #[test]
    fn only_a_websocket_url_can_be_dialled() {
        assert_eq!(TcpDialler::new("ws://127.0.0.1:7/bus").unwrap().address, "127.0.0.1:7");
        assert_eq!(TcpDialler::new("ws://[::1]:7").unwrap().address, "[::1]:7");
        for wrong in ["", "127.0.0.1:7", "http://127.0.0.1:7", "wss://example.org"] {
            let message = TcpDialler::new(wrong).unwrap_err().to_string();
            assert!(message.contains("BKG_PLUGIN_BUS_URL"), "{message}");
        }
    }
}
