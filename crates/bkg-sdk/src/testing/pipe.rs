//! Links in memory: what the plugin under test dials instead of a TCP port.
//!
//! Each link is a WebSocket without its HTTP handshake, over two buffers of the size of a socket's.

use tokio::io::DuplexStream;
use tokio::sync::mpsc;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::protocol::Role;

use crate::reconnect::Dial;
use crate::wire::websocket_config;

/// About what a TCP socket buffers; small enough that tests meet a full one.
const BUFFER: usize = 64 << 10;

pub(crate) type Links = mpsc::Receiver<WebSocketStream<DuplexStream>>;

#[derive(Debug)]
pub(crate) struct PipeDialler {
    links: mpsc::Sender<WebSocketStream<DuplexStream>>,
}

/// A dialler, and where its links come out. A plugin has one link at a time, so one may wait.
pub(crate) fn pipe() -> (PipeDialler, Links) {
    let (links, incoming) = mpsc::channel(1);
    (PipeDialler { links }, incoming)
}

impl Dial for PipeDialler {
    type Link = DuplexStream;

    async fn dial(&mut self) -> Result<WebSocketStream<DuplexStream>, String> {
        let (near, far) = tokio::io::duplex(BUFFER);
        let config = Some(websocket_config());
        let far = WebSocketStream::from_raw_socket(far, Role::Server, config).await;
        self.links.send(far).await.map_err(|_| "the test host is gone".to_owned())?;
        Ok(WebSocketStream::from_raw_socket(near, Role::Client, config).await)
    }

    fn url(&self) -> &str {
        "memory"
    }
}
