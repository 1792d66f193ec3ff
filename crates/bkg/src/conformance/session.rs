//! One socket of a plugin, with the kit at the host's end.
//!
//! It writes whatever a scene wants, valid or not, and hands everything that comes to the judge. It
//! decides nothing. The invariant: while something is written or waited for, what comes is read, so that
//! neither side can lock the other; every wait has a deadline.

use std::net::{Shutdown, TcpStream as StdTcpStream};
use std::os::fd::AsFd;
use std::time::Duration;

use bkg_protocol::InstanceId;
use futures_util::stream::{SplitSink, SplitStream};
use futures_util::{SinkExt, StreamExt};
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep_until, timeout};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::protocol::CloseFrame;
use tokio_tungstenite::tungstenite::{Error, Message};

use super::judge::{Asked, Heard};
use super::questions::Question;
use super::rule::Rule;

/// How long the plugin may take for one frame, which may be one of many megabytes, on a slow machine.
const SEND_WITHIN: Duration = Duration::from_secs(30);
/// How long a question of the plugin's own waits for its answer, so that those that come together are
/// open together.
const OWN_ANSWER_AFTER: Duration = Duration::from_millis(100);

/// How a session ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Gone {
    /// The plugin closed it.
    Closed { code: u16, reason: String },
    /// The socket went without a close.
    Lost(String),
}

impl std::fmt::Display for Gone {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Closed { code, reason } if reason.is_empty() => write!(out, "it closed with {code}"),
            Self::Closed { code, reason } => write!(out, "it closed with {code} ({reason})"),
            Self::Lost(why) => write!(out, "its socket was lost: {why}"),
        }
    }
}

/// What became of a wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Waited {
    Reached,
    Late,
    Gone,
}

type Socket = WebSocketStream<TcpStream>;

/// One socket, at the host's end.
pub(super) struct Session<'a> {
    sink: SplitSink<Socket, Message>,
    stream: SplitStream<Socket>,
    /// The same connection, to cut it.
    link: StdTcpStream,
    pub(super) heard: Heard<'a>,
    pub(super) gone: Option<Gone>,
}

impl<'a> Session<'a> {
    pub(super) fn new(socket: Socket, heard: Heard<'a>) -> std::io::Result<Self> {
        let link = StdTcpStream::from(socket.get_ref().as_fd().try_clone_to_owned()?);
        let (sink, stream) = socket.split();
        Ok(Self { sink, stream, link, heard, gone: None })
    }

    /// Waits until something is so, for `within` at most.
    pub(super) async fn until(&mut self, within: Duration, is_so: impl Fn(&Heard<'_>) -> bool) -> Waited {
        let deadline = Instant::now() + within;
        loop {
            if is_so(&self.heard) {
                return Waited::Reached;
            }
            if self.gone.is_some() {
                return Waited::Gone;
            }
            if !self.hear(deadline).await {
                return Waited::Late;
            }
        }
    }

    /// How it stands, for people.
    pub(super) fn fate(&self) -> String {
        self.gone.as_ref().map_or_else(|| "the session is open".to_owned(), ToString::to_string)
    }

    /// Waits until the session is over.
    pub(super) async fn ended(&mut self, within: Duration) -> Option<&Gone> {
        self.until(within, |_| false).await;
        self.gone.as_ref()
    }

    /// Hears what comes for so long: for claims that something does not come.
    pub(super) async fn listen(&mut self, for_so_long: Duration) {
        self.until(for_so_long, |_| false).await;
    }

    /// Takes in what comes next; false if nothing did.
    async fn hear(&mut self, deadline: Instant) -> bool {
        let due = self.heard.own_requests.first().map(|(_, asked)| *asked + OWN_ANSWER_AFTER);
        tokio::select! {
            biased;
            message = self.stream.next() => {
                take(&mut self.heard, &mut self.gone, message);
                self.reply().await;
                true
            }
            () = sleep_until(due.unwrap_or(deadline)), if due.is_some() => {
                let (id, _) = self.heard.own_requests.remove(0);
                let error = json!({ "code": "plugin_unavailable", "message": "the conformance kit has no other plugins" });
                self.send_json(&json!({ "type": "response", "requestId": id, "success": false, "error": error })).await;
                true
            }
            () = sleep_until(deadline) => false,
        }
    }

    /// Writes what is owed for what was heard; a pong that waits goes along.
    async fn reply(&mut self) {
        for reply in std::mem::take(&mut self.heard.replies) {
            self.send_json(&reply).await;
        }
        let _ = timeout(SEND_WITHIN, self.sink.flush()).await;
    }

    pub(super) async fn send_json(&mut self, message: &Value) {
        self.send_text(message.to_string()).await;
    }

    /// Writes a text frame, whatever stands in it. What becomes of it shows in what comes.
    pub(super) async fn send_text(&mut self, text: String) {
        self.send(Message::text(text)).await;
    }

    pub(super) async fn send(&mut self, message: Message) {
        if self.gone.is_some() {
            return;
        }
        let deadline = Instant::now() + SEND_WITHIN;
        let Self { sink, stream, heard, gone, .. } = self;
        let sending = sink.send(message);
        tokio::pin!(sending);
        loop {
            tokio::select! {
                biased;
                sent = &mut sending => {
                    if let Err(error) = sent && gone.is_none() {
                        // What came before it was lost is still to be read.
                        while let Ok(Some(message)) = timeout(Duration::from_millis(100), stream.next()).await {
                            take(heard, gone, Some(message));
                        }
                        gone.get_or_insert(Gone::Lost(error.to_string()));
                    }
                    return;
                }
                message = stream.next(), if gone.is_none() => take(heard, gone, message),
                () = sleep_until(deadline) => {
                    let seconds = SEND_WITHIN.as_secs();
                    gone.get_or_insert(Gone::Lost(format!("it did not take a frame from its socket within {seconds} s")));
                    return;
                }
            }
            if gone.is_some() {
                return;
            }
        }
    }

    /// Asks, and answers the id of the request.
    pub(super) async fn ask(&mut self, question: &Question) -> String {
        self.ask_with(question, json!({})).await
    }

    /// Asks for a stream that may send so many chunks at first.
    pub(super) async fn ask_for_stream(&mut self, question: &Question, credit: u32) -> String {
        self.ask_with(question, json!({ "stream": true, "credit": credit })).await
    }

    /// Asks with further members in the request.
    pub(super) async fn ask_with(&mut self, question: &Question, more: Value) -> String {
        let id = InstanceId::new().to_string();
        let mut request = json!({
            "type": "request", "requestId": id, "capability": question.capability, "payload": question.payload,
        });
        if let (Value::Object(request), Value::Object(more)) = (&mut request, more) {
            request.extend(more);
        }
        self.expects(&id, &request);
        self.send_json(&request).await;
        id
    }

    /// Asks with a frame of exactly `size` bytes: the first text of the payload is drawn out.
    pub(super) async fn ask_filled(&mut self, question: &Question, size: usize) -> String {
        let id = InstanceId::new().to_string();
        let mut request = json!({
            "type": "request", "requestId": id, "capability": question.capability, "payload": question.payload,
        });
        let missing = size.saturating_sub(request.to_string().len());
        if !draw_out(&mut request["payload"], missing) {
            request["payload"] = json!({ "filler": "" });
            let missing = size.saturating_sub(request.to_string().len());
            request["payload"]["filler"] = json!("x".repeat(missing));
        }
        self.expects(&id, &request);
        self.send_json(&request).await;
        id
    }

    /// Notes that an answer to this request may come.
    fn expects(&mut self, id: &str, request: &Value) {
        let asked = Asked {
            is_stream: request["stream"] == true,
            granted: request["credit"].as_u64().unwrap_or(0),
            ..Asked::default()
        };
        self.heard.asked.insert(id.to_owned(), asked);
    }

    /// Notes which rule a second response to this request breaks.
    pub(super) fn blame(&mut self, id: &str, rule: Rule) {
        if let Some(asked) = self.heard.asked.get_mut(id) {
            asked.blame = Some(rule);
        }
    }

    /// Gives a stream credit for `n` more chunks.
    pub(super) async fn grant(&mut self, id: &str, n: u32) {
        if let Some(asked) = self.heard.asked.get_mut(id) {
            asked.granted += u64::from(n);
        }
        self.send_json(&json!({ "type": "credit", "requestId": id, "n": n })).await;
    }

    pub(super) async fn cancel(&mut self, id: &str) {
        self.send_json(&json!({ "type": "cancel", "requestId": id, "reason": "caller_gone" })).await;
    }

    /// Waits for the response to a request.
    pub(super) async fn answered(&mut self, id: &str, within: Duration) -> Waited {
        self.until(within, |heard| heard.response(id).is_some()).await
    }

    /// Breaks the connection without a word.
    pub(super) fn cut(&mut self) {
        // One that is broken already is as good.
        let _ = self.link.shutdown(Shutdown::Both);
        self.gone.get_or_insert(Gone::Lost("the kit cut it".to_owned()));
    }

    /// Says that the session is over, as the host does.
    pub(super) async fn close(&mut self, code: u16, reason: &str) {
        let frame = CloseFrame { code: code.into(), reason: reason.into() };
        self.send(Message::Close(Some(frame))).await;
    }

    /// The requests that were put to the plugin here and have no answer.
    pub(super) fn open_ids(&self) -> Vec<String> {
        let open = self.heard.asked.iter().filter(|(_, asked)| asked.response.is_none());
        open.map(|(id, _)| id.clone()).collect()
    }
}

/// Makes the first text in a value longer; false if there is none.
fn draw_out(value: &mut Value, by: usize) -> bool {
    match value {
        Value::String(text) => {
            text.push_str(&"x".repeat(by));
            true
        }
        Value::Array(items) => items.iter_mut().any(|item| draw_out(item, by)),
        Value::Object(members) => members.values_mut().any(|member| draw_out(member, by)),
        _ => false,
    }
}

fn take(heard: &mut Heard<'_>, gone: &mut Option<Gone>, message: Option<Result<Message, Error>>) {
    match message {
        Some(Ok(Message::Text(text))) => heard.take(text.as_str()),
        Some(Ok(Message::Binary(bytes))) => heard.take_binary(bytes.len()),
        Some(Ok(Message::Pong(_))) => heard.pongs += 1,
        // The library has put the pong in its buffer.
        Some(Ok(Message::Ping(_) | Message::Frame(_))) => {}
        Some(Ok(Message::Close(frame))) => {
            let (code, reason) = frame.map_or((1005, String::new()), |frame| {
                (frame.code.into(), frame.reason.as_str().to_owned())
            });
            *gone = Some(Gone::Closed { code, reason });
        }
        Some(Err(error)) => {
            heard.take_error(&error);
            *gone = Some(Gone::Lost(error.to_string()));
        }
        None => *gone = Some(Gone::Lost("the connection ended".to_owned())),
    }
}
