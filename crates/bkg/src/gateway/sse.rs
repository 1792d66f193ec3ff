//! A plugin's stream as server-sent events: as it is (`Rewrite`), or in the words of another interface
//! (`Translation`).
//!
//! The invariant: `[DONE]`, or the last event of a translation, is written after the plugin's successful end
//! and never otherwise; a stream that fails ends with an error event.

use std::convert::Infallible;

use axum::body::Body;
use axum::response::{IntoResponse, Response};
use bkg_protocol::RawJson;
use bytes::{BufMut, Bytes, BytesMut};
use futures_util::stream;

use super::translation::{Event, Translation};
use crate::auth::{AuthError, Caller};
use crate::dispatcher::{Item, Stream};
use crate::error::{Dialect, Problem};
use crate::web::{KEEP_ALIVE, KEEP_ALIVE_AFTER, Meter, event_headers};

/// How much is written at once where chunks come faster than the client reads: one write costs more
/// than the chunk itself.
pub(super) const BATCH: usize = 16 << 10;

/// What becomes of each chunk on its way to the client.
pub(super) trait Rewrite: Send + 'static {
    /// The chunk as the client sees it; `None` leaves it out, a problem breaks the stream.
    fn chunk(&mut self, data: RawJson) -> Result<Option<RawJson>, Problem>;
}

/// How a stream is written.
trait Voice: Send + 'static {
    fn chunk(&mut self, bytes: &mut BytesMut, data: RawJson) -> Result<(), Problem>;
    fn end(&mut self, bytes: &mut BytesMut) -> Result<(), Problem>;
    fn fail(&mut self, bytes: &mut BytesMut, problem: &Problem);
    /// What keeps an idle stream open.
    fn idle(&mut self, bytes: &mut BytesMut) {
        bytes.put_slice(KEEP_ALIVE.as_bytes());
    }
}

/// OpenAI's chunks: events without names, `[DONE]` at the end.
struct Chunks<R>(R);

impl<R: Rewrite> Voice for Chunks<R> {
    fn chunk(&mut self, bytes: &mut BytesMut, data: RawJson) -> Result<(), Problem> {
        if let Some(data) = self.0.chunk(data)? {
            write_event(bytes, data.as_str());
        }
        Ok(())
    }

    fn end(&mut self, bytes: &mut BytesMut) -> Result<(), Problem> {
        write_event(bytes, "[DONE]");
        Ok(())
    }

    fn fail(&mut self, bytes: &mut BytesMut, problem: &Problem) {
        write_event(bytes, &problem.body(Dialect::OpenAi).to_string());
    }
}

/// Events with names.
struct Named<T> {
    translation: T,
    /// Kept for its room.
    events: Vec<Event>,
}

impl<T: Translation> Named<T> {
    fn flush(&mut self, bytes: &mut BytesMut) {
        for event in self.events.drain(..) {
            write_named(bytes, &event);
        }
    }
}

impl<T: Translation> Voice for Named<T> {
    fn chunk(&mut self, bytes: &mut BytesMut, data: RawJson) -> Result<(), Problem> {
        let taken = self.translation.chunk(&data, &mut self.events);
        self.flush(bytes);
        taken
    }

    fn end(&mut self, bytes: &mut BytesMut) -> Result<(), Problem> {
        let ended = self.translation.end(&mut self.events);
        self.flush(bytes);
        ended
    }

    fn fail(&mut self, bytes: &mut BytesMut, problem: &Problem) {
        write_named(bytes, &self.translation.failure(problem));
    }

    fn idle(&mut self, bytes: &mut BytesMut) {
        match self.translation.idle() {
            Some(event) => write_named(bytes, &event),
            None => bytes.put_slice(KEEP_ALIVE.as_bytes()),
        }
    }
}

struct Events<V> {
    source: Stream,
    voice: V,
    /// On whose behalf; the stream ends when that is no longer allowed.
    caller: Caller,
    meter: Meter,
    over: bool,
}

/// The response that carries a stream; its first part is there already.
pub(super) fn response(source: Stream, rewrite: impl Rewrite, caller: Caller, meter: Meter) -> Response {
    written(Events { source, voice: Chunks(rewrite), caller, meter, over: false })
}

/// The response that carries a stream in the words of another interface; its first part is there already.
pub(super) fn translated(
    source: Stream,
    translation: impl Translation,
    caller: Caller,
    meter: Meter,
) -> Response {
    let voice = Named { translation, events: Vec::new() };
    written(Events { source, voice, caller, meter, over: false })
}

fn written(events: Events<impl Voice>) -> Response {
    let body = stream::unfold(events, async |mut events: Events<_>| {
        let bytes = events.next().await?;
        Some((Ok::<_, Infallible>(bytes), events))
    });
    let mut response = Body::from_stream(body).into_response();
    event_headers(response.headers_mut());
    response
}

/// The response that carries chunks that are all there, as a stream that ended well.
pub(super) fn whole(chunks: impl IntoIterator<Item = RawJson>) -> Response {
    let mut bytes = BytesMut::new();
    for chunk in chunks {
        write_event(&mut bytes, chunk.as_str());
    }
    write_event(&mut bytes, "[DONE]");
    let mut response = Body::from(bytes.freeze()).into_response();
    event_headers(response.headers_mut());
    response
}

impl<V: Voice> Events<V> {
    /// The next events: as many as are there, up to a batch.
    async fn next(&mut self) -> Option<Bytes> {
        if self.over {
            return None;
        }
        let mut bytes = BytesMut::new();
        let item = tokio::select! {
            biased;
            () = self.caller.revoked() => Err(AuthError::Invalid),
            item = tokio::time::timeout(KEEP_ALIVE_AFTER, self.source.next()) => Ok(item),
        };
        match item {
            Err(refused) => self.fail(&mut bytes, &refused.into()),
            Ok(Err(_)) => self.voice.idle(&mut bytes),
            Ok(Ok(item)) => self.write(&mut bytes, item),
        }
        while !self.over && bytes.len() < BATCH {
            let Some(item) = self.source.try_next() else { break };
            self.write(&mut bytes, item);
        }
        if bytes.is_empty() {
            // Everything was left out: an empty part would end some clients' reading.
            bytes.put_slice(KEEP_ALIVE.as_bytes());
        }
        Some(bytes.freeze())
    }

    fn write(&mut self, bytes: &mut BytesMut, item: Item) {
        match item {
            Item::Chunk(data) => {
                self.meter.read_tokens(&data);
                if let Err(problem) = self.voice.chunk(bytes, data) {
                    self.fail(bytes, &problem);
                }
            }
            Item::End(Ok(_)) => match self.voice.end(bytes) {
                Ok(()) => {
                    self.meter.succeeded();
                    self.over = true;
                }
                Err(problem) => self.fail(bytes, &problem),
            },
            Item::End(Err(error)) => self.fail(bytes, &error.into()),
        }
    }

    fn fail(&mut self, bytes: &mut BytesMut, problem: &Problem) {
        self.voice.fail(bytes, problem);
        self.meter.failed(problem);
        // Not the problem's own words: a plugin may repeat what it was asked.
        tracing::warn!(code = %problem.code, message = self.meter.error(), "a stream broke");
        self.over = true;
    }
}

/// One event with a name.
pub(super) fn write_named(bytes: &mut BytesMut, event: &Event) {
    bytes.put_slice(b"event: ");
    bytes.put_slice(event.name.as_bytes());
    bytes.put_slice(b"\n");
    write_event(bytes, &event.data.to_string());
}

/// One event. JSON may be written over several lines, an event's data may not: white space between
/// tokens is the only place where JSON has line breaks.
pub(super) fn write_event(bytes: &mut BytesMut, data: &str) {
    bytes.reserve(data.len() + 8);
    bytes.put_slice(b"data: ");
    if data.bytes().any(|byte| byte == b'\n' || byte == b'\r') {
        bytes.extend(data.bytes().map(|byte| if byte == b'\n' || byte == b'\r' { b' ' } else { byte }));
    } else {
        bytes.put_slice(data.as_bytes());
    }
    bytes.put_slice(b"\n\n");
}
