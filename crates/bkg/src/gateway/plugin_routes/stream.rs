//! A plugin's streamed answer as an HTTP response: events, unless its first chunk chooses otherwise.
//!
//! The invariant: a stream that breaks never looks complete. Events end with `event: end` after the
//! plugin's success and never otherwise; any other body that breaks ends the connection without its end.

use std::time::Duration;

use axum::body::Body;
use axum::response::Response;
use bkg_protocol::RawJson;
use bytes::{BufMut, Bytes, BytesMut};
use futures_util::stream;
use http::{HeaderMap, Method, StatusCode};
use serde::Deserialize;

use super::super::sse::{BATCH, write_event};
use super::answer;
use super::head::{self, Asked, Head};
use crate::auth::{AuthError, Caller};
use crate::dispatcher::{Item, Stream};
use crate::error::{Dialect, Problem};
use crate::web::{KEEP_ALIVE, KEEP_ALIVE_AFTER, Meter, event_headers};

/// The client's connection ends without the end of its body.
#[derive(Debug, thiserror::Error)]
#[error("the plugin's stream broke")]
struct BrokenStream;

/// How chunks become the body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    /// Each is the data of an event.
    Events,
    /// Each is a text, or bytes in base64.
    Raw,
}

/// How far the body is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Progress {
    Open,
    /// The next part is the failure.
    Breaks,
    Over,
}

/// A body on its way.
struct Outflow {
    source: Stream,
    form: Form,
    /// What there was before the stream was passed on.
    first: Option<Bytes>,
    status: StatusCode,
    /// On whose behalf; the stream ends when that is no longer allowed.
    caller: Caller,
    meter: Meter,
    progress: Progress,
}

/// The response that carries a stream whose first part is there already, and the names of the headers
/// that were left out of it.
///
/// # Errors
/// `plugin_error` if the `$http` of its first part is wrong; nothing has been sent then.
pub(super) async fn response(
    mut source: Stream,
    asked: &Asked,
    caller: Caller,
    mut meter: Meter,
) -> Result<(Response, Vec<String>), Problem> {
    let item = source.next().await;
    let chosen = match &item {
        // Nothing came before the end: it is the answer, unless it says nothing.
        Item::End(Ok(data)) if !data.is_null() => {
            let (response, dropped) = concluded(answer::whole(data, asked), &mut meter)?;
            meter.succeeded_with(response.status().as_u16());
            return Ok((response, dropped));
        }
        Item::Chunk(data) => concluded(head::read(data, asked), &mut meter)?,
        Item::End(_) => None,
    };
    let (form, Head { status, headers, body: first, dropped }) = match chosen {
        Some(head) => (Form::Raw, head),
        None => {
            let mut headers = HeaderMap::new();
            event_headers(&mut headers);
            let head = Head { status: StatusCode::OK, headers, body: None, dropped: Vec::new() };
            (Form::Events, head)
        }
    };
    let mut outflow = Outflow { source, form, first, status, caller, meter, progress: Progress::Open };
    if asked.method == Method::HEAD || answer::has_no_body(status) {
        // What follows is of no use to anybody: the plugin is told so when this is dropped.
        outflow.meter.succeeded_with(status.as_u16());
        return Ok((answer::response(status, headers, Body::empty()), dropped));
    }
    if form == Form::Events {
        let mut bytes = BytesMut::new();
        outflow.write(&mut bytes, item);
        outflow.first = Some(bytes.freeze());
    }
    let body = stream::unfold(outflow, async |mut outflow: Outflow| {
        let part = outflow.next().await?;
        Some((part, outflow))
    });
    Ok((answer::response(status, headers, Body::from_stream(body)), dropped))
}

/// The outcome as it is; a bad one is noted.
fn concluded<T>(outcome: Result<T, Problem>, meter: &mut Meter) -> Result<T, Problem> {
    outcome.inspect_err(|problem| meter.failed(problem))
}

impl Outflow {
    /// The next part of the body: as much as is there, up to a batch.
    async fn next(&mut self) -> Option<Result<Bytes, BrokenStream>> {
        if let Some(first) = self.first.take().filter(|first| !first.is_empty()) {
            return Some(Ok(first));
        }
        let mut bytes = BytesMut::new();
        while bytes.is_empty() {
            match self.progress {
                Progress::Open => self.gather(&mut bytes).await,
                Progress::Breaks => {
                    self.progress = Progress::Over;
                    return Some(Err(BrokenStream));
                }
                Progress::Over => return None,
            }
        }
        Some(Ok(bytes.freeze()))
    }

    /// Waits for a chunk, and takes those that are there besides.
    async fn gather(&mut self, bytes: &mut BytesMut) {
        let patience = match self.form {
            Form::Events => KEEP_ALIVE_AFTER,
            // Nothing can be said there while nothing comes; the stream has a deadline of its own.
            Form::Raw => Duration::MAX,
        };
        let item = tokio::select! {
            biased;
            () = self.caller.revoked() => Err(AuthError::Invalid),
            item = tokio::time::timeout(patience, self.source.next()) => Ok(item),
        };
        match item {
            Err(refused) => self.fail(bytes, &refused.into()),
            Ok(Err(_)) => bytes.put_slice(KEEP_ALIVE.as_bytes()),
            Ok(Ok(item)) => self.write(bytes, item),
        }
        while self.progress == Progress::Open && bytes.len() < BATCH {
            let Some(item) = self.source.try_next() else { break };
            self.write(bytes, item);
        }
    }

    fn write(&mut self, bytes: &mut BytesMut, item: Item) {
        match (item, self.form) {
            (Item::Chunk(data), Form::Events) => {
                self.meter.read_tokens(&data);
                write_event(bytes, data.as_str());
            }
            (Item::Chunk(data), Form::Raw) => match bytes_of(&data) {
                Ok(part) => bytes.put(part),
                Err(problem) => self.fail(bytes, &problem),
            },
            (Item::End(Ok(data)), form) => {
                if form == Form::Events {
                    bytes.put_slice(b"event: end\n");
                    write_event(bytes, data.as_str());
                }
                self.meter.succeeded_with(self.status.as_u16());
                self.progress = Progress::Over;
            }
            (Item::End(Err(error)), _) => self.fail(bytes, &error.into()),
        }
    }

    fn fail(&mut self, bytes: &mut BytesMut, problem: &Problem) {
        self.meter.failed(problem);
        // Not the problem's own words: a plugin may repeat what it was asked.
        tracing::warn!(code = %problem.code, message = self.meter.error(), "a stream of a plugin's route broke");
        self.progress = match self.form {
            Form::Events => {
                bytes.put_slice(b"event: error\n");
                write_event(bytes, &problem.body(Dialect::Backplane).to_string());
                Progress::Over
            }
            Form::Raw => Progress::Breaks,
        };
    }
}

/// What a chunk adds to a body that is no event stream.
fn bytes_of(data: &RawJson) -> Result<Bytes, Problem> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Part {
        Text(String),
        Bytes { base64: String },
    }
    let wrong = |why: String| Problem::bad_answer(format!("a chunk of the plugin cannot be sent: {why}"));
    match data.read() {
        Ok(Part::Text(text)) => Ok(text.into()),
        Ok(Part::Bytes { base64 }) => head::bytes_of(&base64).map_err(wrong),
        Err(_) => Err(wrong("after `$http` it is a text, or `{\"base64\": …}`".to_owned())),
    }
}
