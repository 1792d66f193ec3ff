//! What a translation of `llm.chat` into another interface is, and how its answer leaves.
//!
//! Not any one interface: those are `responses` and `messages`. The invariant: a whole answer and a streamed
//! one go through the same machine, so they cannot differ; a failure never looks like an end.

use axum::body::Body;
use axum::response::{IntoResponse, Response};
use bkg_protocol::RawJson;
use bytes::BytesMut;
use serde_json::Value;

use super::{chat, sse};
use crate::auth::Caller;
use crate::dispatcher::Answer;
use crate::error::Problem;
use crate::web::{Meter, event_headers};

/// One server-sent event with a name.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Event {
    pub(super) name: &'static str,
    pub(super) data: Value,
}

/// Makes the events of another interface from the chunks of a chat, and the whole answer at their end.
pub(super) trait Translation: Send + 'static {
    /// Takes one chunk in.
    fn chunk(&mut self, chunk: &RawJson, events: &mut Vec<Event>) -> Result<(), Problem>;

    /// The chat has ended well.
    fn end(&mut self, events: &mut Vec<Event>) -> Result<(), Problem>;

    /// The chat has failed: the last event.
    fn failure(&mut self, problem: &Problem) -> Event;

    /// What keeps an idle stream open; a comment where there is no event for it.
    fn idle(&self) -> Option<Event>;

    /// The whole answer, once the chat has ended.
    fn whole(self) -> Value;
}

/// The response to who asked: a stream if that is wanted, whatever the plugin answered.
pub(super) fn response(
    answer: Answer,
    stream: bool,
    translation: impl Translation,
    caller: Caller,
    mut meter: Meter,
) -> Result<Response, Problem> {
    match answer {
        Answer::Stream(source) => Ok(sse::translated(*source, translation, caller, meter)),
        Answer::Whole(data) => {
            let translated = translate(&data, translation);
            let response = translated.map(|(events, whole)| {
                if stream { events_response(&events) } else { axum::Json(whole).into_response() }
            });
            meter.concluded(response)
        }
    }
}

/// A whole answer of a chat: its events, and what they amount to.
pub(super) fn translate<T: Translation>(
    completion: &RawJson,
    mut translation: T,
) -> Result<(Vec<Event>, Value), Problem> {
    let mut events = Vec::new();
    for chunk in chat::chunks_of(completion, true)? {
        translation.chunk(&chunk, &mut events)?;
    }
    translation.end(&mut events)?;
    Ok((events, translation.whole()))
}

fn events_response(events: &[Event]) -> Response {
    let mut bytes = BytesMut::new();
    for event in events {
        sse::write_named(&mut bytes, event);
    }
    let mut response = Body::from(bytes.freeze()).into_response();
    event_headers(response.headers_mut());
    response
}
