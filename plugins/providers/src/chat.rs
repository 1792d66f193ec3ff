//! `llm.chat`: a chat as an upstream answers it, whole or streamed.
//!
//! What decides where the request goes is changed in it, and nothing else. The invariant: whoever asked
//! gets an answer that is finished, or an error.

use std::sync::Arc;
use std::time::Duration;

use bkg_sdk::{ChunkSink, RawJson, Request, Result, SendError};
use serde_json::{Value, json};
use tokio::time::timeout;

use crate::chunk::{self, Chunks};
use crate::failure::{Failure, Refusal};
use crate::members::{Members, Payload};
use crate::reply::Reply;
use crate::roster::{Kind, Roster};
use crate::settings::MaxTokensName;
use crate::split::split;
use crate::sse::{Event, Events};

/// Where chats are answered, below the base of an upstream.
const PATH: &str = "chat/completions";
/// How long the end of a body is awaited when the answer has come.
const REST_WITHIN: Duration = Duration::from_millis(10);

/// The whole answer.
pub(crate) async fn answer(request: Request, roster: Arc<Roster>) -> Result<RawJson> {
    let mut payload = Payload::of(&request)?;
    let asked = roster.find(Kind::Chat, &payload.model()?, request.host().name())?;
    payload.set("model", &asked.id);
    name_longest_answer(&mut payload, asked.upstream.settings.max_tokens_name);
    if payload.members.contains_key("stream") {
        payload.set("stream", &false);
    }
    // It is refused where nothing is streamed.
    payload.remove("stream_options");
    let open = |reply| whole(reply, asked.id.clone());
    Ok(asked.upstream.ask(&request, PATH, payload.into_body(), open).await?.opened)
}

/// Says how long the answer may be in the word that the upstream knows.
fn name_longest_answer(payload: &mut Payload, name: Option<MaxTokensName>) {
    if let Some((known, unknown)) = name.map(MaxTokensName::known_and_unknown) {
        payload.rename(unknown, known);
        // Where the client said both, this one is left over.
        payload.remove(unknown);
    }
}

/// The answer in chunks, also where the upstream does not stream.
pub(crate) async fn stream(request: Request, sink: ChunkSink, roster: Arc<Roster>) -> Result<RawJson> {
    let mut payload = Payload::of(&request)?;
    let asked = roster.find(Kind::Chat, &payload.model()?, request.host().name())?;
    payload.set("model", &asked.id);
    name_longest_answer(&mut payload, asked.upstream.settings.max_tokens_name);
    payload.set("stream", &true);
    if !asked.upstream.settings.asks_for_usage() {
        payload.remove("stream_options");
    }
    let open = |reply| Opened::of(reply, asked.id.clone());
    let mut asking = asked.upstream.ask(&request, PATH, payload.into_body(), open).await?;
    let (stream, first) = match &mut asking.opened {
        Opened::Whole(chunks) => {
            for chunk in std::mem::take(chunks) {
                send(&sink, chunk).await?;
            }
            return Ok(RawJson::NULL);
        }
        Opened::Stream(stream, first) => (stream, first.take()),
    };
    let mut next = Ok(first);
    loop {
        match next {
            Ok(Some(chunk)) => send(&sink, chunk).await?,
            Ok(None) => {
                stream.let_go().await;
                return Ok(RawJson::NULL);
            }
            Err(failure) => return Err(asked.upstream.broke(failure)),
        }
        next = stream.next().await;
    }
}

/// Sends a chunk, in pieces if it is too large for one.
async fn send(sink: &ChunkSink, chunk: RawJson) -> Result<(), SendError> {
    let too_large = match sink.send(chunk.clone()).await {
        Err(SendError::TooLarge { size, limit }) => SendError::TooLarge { size, limit },
        sent => return sent,
    };
    let SendError::TooLarge { limit, .. } = too_large else { return Err(too_large) };
    for piece in split(&chunk, limit).ok_or(too_large)? {
        sink.send(piece).await?;
    }
    Ok(())
}

/// An answer of which enough is there to begin with.
#[derive(Debug)]
enum Opened {
    /// All of it: the upstream does not stream.
    Whole(Vec<RawJson>),
    Stream(Box<Stream>, Option<RawJson>),
}

impl Opened {
    async fn of(reply: Reply, model: String) -> Result<Self, Failure> {
        reply.refuse_page()?;
        let mut stream =
            Stream { reply, events: Events::default(), chunks: None, last: Vec::new().into_iter() };
        if stream.reply.media_type() == "application/json" {
            let body = stream.reply.whole().await?;
            let chunks = Chunks::new(model).of_whole(object(&body)?)?;
            return Ok(Self::Whole(chunks));
        }
        stream.chunks = Some(Chunks::new(model));
        let first = stream.next().await?;
        Ok(Self::Stream(Box::new(stream), first))
    }
}

/// The chunks of an answer that is being streamed.
#[derive(Debug)]
struct Stream {
    reply: Reply,
    events: Events,
    /// `None` when the answer is finished.
    chunks: Option<Chunks>,
    /// What is said after the upstream's own chunks.
    last: std::vec::IntoIter<RawJson>,
}

impl Stream {
    /// Reads the end of the body, which mostly follows at once: then the connection serves the next request.
    async fn let_go(&mut self) {
        let _ = timeout(REST_WITHIN, self.reply.next()).await;
    }

    /// The next chunk for the caller; `None` when the answer is finished.
    async fn next(&mut self) -> Result<Option<RawJson>, Failure> {
        while let Some(chunks) = &mut self.chunks {
            let too_large = |_| Failure::Unreadable("one event has more than 16 MiB".to_owned());
            let (event, ended) = match self.events.next().map_err(too_large)? {
                Some(event) => (Some(event), false),
                None => match self.reply.next().await? {
                    Some(bytes) => {
                        self.events.push(&bytes);
                        continue;
                    }
                    None => (self.events.end(), true),
                },
            };
            let is_done = event.as_ref().is_some_and(|event| event.data.trim_ascii() == b"[DONE]");
            if let Some(event) = event.filter(|_| !is_done)
                && let Some(chunk) = read_event(&event)?
                && let Some(chunk) = chunks.take(chunk)?
            {
                return Ok(Some(chunk));
            }
            if is_done || ended {
                let chunks = self.chunks.take().expect("the loop has looked");
                self.last = chunks.end(is_done)?.into_iter();
            }
        }
        Ok(self.last.next())
    }
}

/// The chunk of an event; `None` for events that are something else and no error.
fn read_event(event: &Event) -> Result<Option<Members>, Failure> {
    if event.data.trim_ascii().is_empty() {
        return Ok(None);
    }
    if event.name == "error" {
        let said = serde_json::from_slice(&event.data)
            .unwrap_or_else(|_| Value::from(String::from_utf8_lossy(&event.data)));
        return Err(Failure::Refused(Box::new(Refusal::of_event(&said))));
    }
    let chunk: Members = serde_json::from_slice(&event.data)
        .map_err(|error| Failure::Unreadable(format!("an event is no chunk: {error}")))?;
    refuse_error(&chunk, &event.data)?;
    if chunk.contains_key("choices") || chunk.contains_key("usage") {
        return Ok(Some(chunk));
    }
    tracing::debug!(event = event.name, "an event that is no chunk is left out");
    Ok(None)
}

/// A whole answer.
async fn whole(reply: Reply, model: String) -> Result<RawJson, Failure> {
    let body = reply.whole().await?;
    chunk::completion(object(&body)?, &model)
}

/// The object that a whole answer is.
pub(crate) fn object(body: &[u8]) -> Result<Members, Failure> {
    let body = body.strip_prefix(b"\xef\xbb\xbf").unwrap_or(body);
    let object: Members = serde_json::from_slice(body)
        .map_err(|error| Failure::Unreadable(format!("it is no JSON object: {error}")))?;
    refuse_error(&object, body)?;
    Ok(object)
}

/// Some upstreams send their errors as if nothing were wrong.
fn refuse_error(object: &Members, text: &[u8]) -> Result<(), Failure> {
    let has = |name: &str| object.get(name).is_some_and(|value| value.get() != "null");
    let is_error = object.get("object").is_some_and(|value| value.get() == "\"error\"");
    if !has("error") && !is_error {
        return Ok(());
    }
    let said: Value = serde_json::from_slice(text).unwrap_or_else(|_| json!({}));
    match Refusal::of_error(&said) {
        Some(refusal) => Err(Failure::Refused(Box::new(refusal))),
        None => Ok(()),
    }
}
