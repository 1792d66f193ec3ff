//! A plugin's stream as server-sent events.
//!
//! The invariant: `[DONE]` is written after the plugin's successful end and never otherwise; a stream
//! that fails ends with an `error` event.

use std::convert::Infallible;

use axum::body::Body;
use axum::response::{IntoResponse, Response};
use bkg_protocol::RawJson;
use bytes::{BufMut, Bytes, BytesMut};
use futures_util::stream;

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

struct Events<R> {
    source: Stream,
    rewrite: R,
    /// On whose behalf; the stream ends when that is no longer allowed.
    caller: Caller,
    meter: Meter,
    over: bool,
}

/// The response that carries a stream; its first part is there already.
pub(super) fn response(source: Stream, rewrite: impl Rewrite, caller: Caller, meter: Meter) -> Response {
    let events = Events { source, rewrite, caller, meter, over: false };
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

impl<R: Rewrite> Events<R> {
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
            Ok(Err(_)) => bytes.put_slice(KEEP_ALIVE.as_bytes()),
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
                match self.rewrite.chunk(data) {
                    Ok(Some(data)) => write_event(bytes, data.as_str()),
                    Ok(None) => {}
                    Err(problem) => self.fail(bytes, &problem),
                }
            }
            Item::End(Ok(_)) => {
                write_event(bytes, "[DONE]");
                self.meter.succeeded();
                self.over = true;
            }
            Item::End(Err(error)) => self.fail(bytes, &error.into()),
        }
    }

    fn fail(&mut self, bytes: &mut BytesMut, problem: &Problem) {
        write_event(bytes, &problem.body(Dialect::OpenAi).to_string());
        self.meter.failed(problem);
        // Not the problem's own words: a plugin may repeat what it was asked.
        tracing::warn!(code = %problem.code, message = self.meter.error(), "a stream broke");
        self.over = true;
    }
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
