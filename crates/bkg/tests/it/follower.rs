//! Somebody at the live socket of a daemon: opens it in every way, says things, and reads events.
//!
//! Every message that comes is checked against the committed schema, so that no test can see one which
//! that does not describe.

use std::sync::LazyLock;

use bkg::live::schemas;
use futures_util::{SinkExt, StreamExt};
use serde_json::{Value, json};
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::timeout;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::protocol::{CloseFrame, WebSocketConfig};
use tokio_tungstenite::tungstenite::{Error, Message};

use crate::host::{PATIENCE, TestHost};

static SCHEMA: LazyLock<jsonschema::Validator> =
    LazyLock::new(|| jsonschema::validator_for(&schemas()[1].1).unwrap());

/// Somebody at an open socket.
pub struct Follower {
    socket: WebSocketStream<TcpStream>,
    /// The payload of the first message.
    pub bootstrap: Value,
}

/// Why a socket did not open: the status and the body.
pub type Refusal = (u16, String);

impl Follower {
    /// Opens a socket with the root key.
    pub async fn root(host: &TestHost) -> Self {
        Self::with_key(host, host.key()).await
    }

    /// Opens a socket as a program does.
    pub async fn with_key(host: &TestHost, key: &str) -> Self {
        let key = format!("Bearer {key}");
        Self::open(host.api_port(), "/ws", &[("authorization", &key)]).await.unwrap()
    }

    /// Opens a socket as a page does: with an origin, and a ticket among the subprotocols.
    pub async fn with_ticket(host: &TestHost, ticket: &str) -> Result<Self, Refusal> {
        let protocols = format!("bkg.v1, bkg.ticket.{ticket}");
        let origin = format!("http://localhost:{}", host.api_port());
        let headers = [("sec-websocket-protocol", &*protocols), ("origin", &origin)];
        Self::open(host.api_port(), "/ws", &headers).await
    }

    /// Opens a socket at `localhost` with these headers.
    pub async fn open(port: u16, path: &str, headers: &[(&str, &str)]) -> Result<Self, Refusal> {
        Self::open_on(TcpSocket::new_v4().unwrap(), port, path, headers).await
    }

    /// The same over a socket of the caller's.
    pub async fn open_on(
        socket: TcpSocket,
        port: u16,
        path: &str,
        headers: &[(&str, &str)],
    ) -> Result<Self, Refusal> {
        let mut request = format!("ws://localhost:{port}{path}").into_client_request().unwrap();
        for (name, value) in headers {
            let name: http::HeaderName = name.parse().unwrap();
            request.headers_mut().insert(name, value.parse().unwrap());
        }
        let stream = socket.connect(([127, 0, 0, 1], port).into()).await.unwrap();
        // Hundreds of them are in one process with the daemon whose memory is looked at.
        let config = WebSocketConfig::default().read_buffer_size(4 << 10).write_buffer_size(4 << 10);
        let opening = tokio_tungstenite::client_async_with_config(request, stream, Some(config));
        match timeout(PATIENCE, opening).await.expect("an answer in time") {
            Ok((socket, answer)) => {
                let protocol = answer.headers().get("sec-websocket-protocol");
                let offered = headers.iter().any(|(name, _)| *name == "sec-websocket-protocol");
                assert_eq!(protocol.map(|value| value.to_str().unwrap()), offered.then_some("bkg.v1"));
                let mut follower = Self { socket, bootstrap: Value::Null };
                let first = follower.next().await;
                assert_eq!(first["type"], "bootstrap", "{first}");
                follower.bootstrap = first["payload"].clone();
                Ok(follower)
            }
            Err(Error::Http(answer)) => {
                let body = answer.body().as_deref().unwrap_or_default();
                Err((answer.status().as_u16(), String::from_utf8_lossy(body).into_owned()))
            }
            Err(error) => panic!("{error}"),
        }
    }

    /// The next message.
    pub async fn next(&mut self) -> Value {
        let text = self.next_text().await;
        let message: Value = serde_json::from_str(&text).unwrap();
        if let Err(error) = SCHEMA.validate(&message) {
            panic!("{error}: {text}");
        }
        message
    }

    /// The next message as it came.
    pub async fn next_text(&mut self) -> String {
        let waiting = async {
            loop {
                match self.socket.next().await {
                    Some(Ok(Message::Text(text))) => return text.to_string(),
                    Some(Ok(Message::Ping(_) | Message::Pong(_))) => {}
                    other => panic!("a message was due, not {other:?}"),
                }
            }
        };
        timeout(PATIENCE, waiting).await.expect("a message in time")
    }

    /// With what the daemon closes, whatever it says before.
    pub async fn closed(mut self) -> (u16, String) {
        loop {
            let message = timeout(PATIENCE, self.socket.next()).await.expect("it is closed in time");
            match message {
                Some(Ok(Message::Close(Some(CloseFrame { code, reason })))) => {
                    return (code.into(), reason.to_string());
                }
                Some(Ok(_)) => {}
                other => panic!("a close was due, not {other:?}"),
            }
        }
    }

    pub async fn send(&mut self, message: Message) {
        timeout(PATIENCE, self.socket.send(message)).await.expect("there is room").unwrap();
    }

    /// Says something, and answers what comes next.
    pub async fn say(&mut self, message: Value) -> Value {
        self.send(Message::Text(message.to_string().into())).await;
        self.next().await
    }

    /// Follows something, which must be granted; from where.
    pub async fn follow(&mut self, wanted: Value) -> Value {
        let mut message = json!({ "action": "SUB" });
        message.as_object_mut().unwrap().extend(wanted.as_object().unwrap().clone());
        let answer = self.say(message).await;
        assert_eq!(answer["type"], "subscribed", "{answer}");
        answer["from"].clone()
    }

    /// Says something that is not obeyed; the code of the error.
    pub async fn refused(&mut self, message: Value) -> String {
        let answer = self.say(message).await;
        assert_eq!(answer["type"], "error", "{answer}");
        assert!(!answer["message"].as_str().unwrap().is_empty());
        answer["code"].as_str().unwrap().to_owned()
    }

    /// Whether the socket still answers, with nothing that comes before.
    pub async fn is_quiet(&mut self) -> bool {
        self.say(json!({ "action": "PING" })).await == json!({ "type": "pong" })
    }
}
