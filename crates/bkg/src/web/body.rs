//! Request bodies: bounded, JSON, not nested too deep, and kept as they were sent.
//!
//! What a handler leaves unread is not lost sight of: the server reads it away, since a client that is
//! still sending when its connection closes never sees the answer.

use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use axum::body::Body;
use bkg_protocol::{ErrorCode, RawJson};
use bytes::{Bytes, BytesMut};
use bytestring::ByteString;
use http::header;
use http::request::Parts;
use http_body::{Frame, SizeHint};
use http_body_util::BodyExt;
use indexmap::IndexMap;
use serde::de::DeserializeOwned;
use tokio::sync::oneshot;
use tokio::time::{Instant, timeout_at};

use crate::config::HttpLimits;
use crate::error::Problem;

/// How much of an unread body is read away, and for how long.
const MOST_DISCARDED: usize = 64 << 20;
const DISCARD_WITHIN: Duration = Duration::from_secs(5);

/// Reads a body as one JSON value, unchanged: see [`super::Call::json`].
pub(super) async fn read_json(
    parts: &Parts,
    body: Body,
    received: Instant,
    limits: &HttpLimits,
) -> Result<RawJson, Problem> {
    check_content_type(parts)?;
    json_of(read_bytes(parts, body, limits.body_bytes, received, limits).await?, limits)
}

/// A body that is one JSON value, unchanged.
///
/// # Errors
/// `invalid_request` for what is not UTF-8 or not JSON, or nests too deep.
pub(crate) fn json_of(body: Bytes, limits: &HttpLimits) -> Result<RawJson, Problem> {
    let text = ByteString::try_from(body).map_err(|_| Problem::invalid("the body is not UTF-8"))?;
    if nests_deeper_than(&text, limits.json_depth) {
        return Err(Problem::invalid(format!("the body nests deeper than {} levels", limits.json_depth)));
    }
    RawJson::parse(text).map_err(|error| Problem::invalid(format!("the body is not JSON: {error}")))
}

/// Reads a body as it is: see [`super::Call::bytes`].
///
/// The head came at `received`. A body has some time in any case, and more for each byte that came: one
/// that trickles in would hold its connection, and what it has sent so far, for as long as it likes.
pub(super) async fn read_bytes(
    parts: &Parts,
    mut body: Body,
    most: usize,
    received: Instant,
    limits: &HttpLimits,
) -> Result<Bytes, Problem> {
    check_encoding(parts)?;
    let too_large =
        || Problem::new(ErrorCode::PayloadTooLarge, format!("the body is larger than {most} bytes"));
    let announced = parts.headers.get(header::CONTENT_LENGTH).and_then(|length| length.to_str().ok());
    let announced = announced.and_then(|length| length.parse::<usize>().ok());
    if announced.is_some_and(|length| length > most) {
        return Err(too_large());
    }
    // A small body is one frame and is kept as it came.
    let mut whole = Bytes::new();
    let mut gathered = BytesMut::new();
    loop {
        let earned =
            Duration::from_secs((whole.len() + gathered.len()) as u64) / limits.body_rate.max(1) as u32;
        let deadline = received + limits.body_timeout + earned;
        let frame = timeout_at(deadline, body.frame()).await.map_err(|_| too_slow(limits))?;
        let Some(frame) = frame else { break };
        let frame =
            frame.map_err(|error| Problem::invalid(format!("the body could not be read: {error}")))?;
        let Ok(data) = frame.into_data() else { continue };
        if whole.len() + gathered.len() + data.len() > most {
            return Err(too_large());
        }
        if whole.is_empty() && gathered.is_empty() {
            whole = data;
            continue;
        }
        if gathered.is_empty() {
            gathered.reserve(announced.unwrap_or(whole.len() + data.len()));
            gathered.extend_from_slice(&std::mem::take(&mut whole));
        }
        gathered.extend_from_slice(&data);
    }
    Ok(if gathered.is_empty() { whole } else { gathered.freeze() })
}

fn too_slow(limits: &HttpLimits) -> Problem {
    let message = format!(
        "the body did not arrive in time: after {} ms, {} bytes are to come each second",
        limits.body_timeout.as_millis(),
        limits.body_rate
    );
    Problem::new(ErrorCode::Timeout, message)
}

/// A body that goes back to the server if it is dropped before its end.
pub(super) struct Returning<B: http_body::Body> {
    body: Option<B>,
    back: Option<oneshot::Sender<B>>,
}

/// The body for a handler, and where its unread rest arrives once the handler has dropped it.
pub(super) fn returning<B: http_body::Body>(body: B) -> (Returning<B>, oneshot::Receiver<B>) {
    let (back, rest) = oneshot::channel();
    (Returning { body: Some(body), back: Some(back) }, rest)
}

impl<B: http_body::Body + Unpin> http_body::Body for Returning<B> {
    type Data = B::Data;
    type Error = B::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<B::Data>, B::Error>>> {
        let Some(body) = self.body.as_mut() else { return Poll::Ready(None) };
        let frame = ready!(Pin::new(body).poll_frame(context));
        if !matches!(frame, Some(Ok(_))) {
            self.body = None;
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.as_ref().is_none_or(B::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        self.body.as_ref().map_or_else(|| SizeHint::with_exact(0), B::size_hint)
    }
}

impl<B: http_body::Body> Drop for Returning<B> {
    fn drop(&mut self) {
        if let (Some(body), Some(back)) = (self.body.take(), self.back.take()) {
            // Nobody listens if the connection went first, and then nothing is left to read.
            let _ = back.send(body);
        }
    }
}

/// Reads what is left of a body, within a bound.
pub(super) async fn discard(mut body: impl http_body::Body<Data = Bytes> + Unpin) {
    let mut left = MOST_DISCARDED;
    let rest = async {
        while let Some(Ok(frame)) = body.frame().await {
            left = left.saturating_sub(frame.data_ref().map_or(0, Bytes::len));
            if left == 0 {
                return;
            }
        }
    };
    let _ = tokio::time::timeout(DISCARD_WITHIN, rest).await;
}

/// Reads the members of a body that the host itself needs.
///
/// # Errors
/// `invalid_request` with the member that does not fit.
pub(crate) fn members<T: DeserializeOwned>(body: &RawJson) -> Result<T, Problem> {
    // Serde would read a list as the members in their order.
    if !body.as_str().trim_start().starts_with('{') {
        return Err(Problem::invalid("the body is JSON, but no object"));
    }
    body.read().map_err(|error| {
        misfit::<T>(body).unwrap_or_else(|| {
            Problem::invalid(format!("the body does not fit: {}", without_place(&error)))
        })
    })
}

/// The first member that does not fit even when it is alone.
fn misfit<T: DeserializeOwned>(body: &RawJson) -> Option<Problem> {
    let members: IndexMap<String, RawJson> = body.read().ok()?;
    members.into_iter().find_map(|(name, value)| {
        let error = RawJson::of(&IndexMap::from([(&name, value)])).read::<T>().err()?;
        Some(Problem::invalid(format!("`{name}` does not fit: {}", without_place(&error))).param(name))
    })
}

/// What an error says without its line and column, which mean nothing to who sent a built body.
fn without_place(error: &serde_json::Error) -> String {
    let text = error.to_string();
    text.rsplit_once(" at line ").map_or(text.as_str(), |(what, _)| what).to_owned()
}

/// A compressed body would be taken for what it is not, and may grow without a bound.
fn check_encoding(parts: &Parts) -> Result<(), Problem> {
    let encodings = parts.headers.get_all(header::CONTENT_ENCODING).iter();
    for encoding in encodings {
        if !encoding.as_bytes().eq_ignore_ascii_case(b"identity") {
            let message = "the body is encoded (`content-encoding`): send it as it is";
            return Err(Problem::new(ErrorCode::UnsupportedMediaType, message));
        }
    }
    Ok(())
}

fn check_content_type(parts: &Parts) -> Result<(), Problem> {
    let Some(value) = parts.headers.get(header::CONTENT_TYPE) else { return Ok(()) };
    let value = value.to_str().unwrap_or_default();
    let essence = value.split(';').next().unwrap_or_default().trim();
    if essence.eq_ignore_ascii_case("application/json") {
        return Ok(());
    }
    let message = format!("the body has the content type `{essence}`: send `application/json`");
    Err(Problem::new(ErrorCode::UnsupportedMediaType, message))
}

/// Whether brackets nest deeper than `limit`, in one pass and without recursion. What is not JSON is
/// found elsewhere.
fn nests_deeper_than(text: &str, limit: usize) -> bool {
    let (mut depth, mut in_text, mut escaped) = (0_usize, false, false);
    for byte in text.bytes() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if in_text => escaped = true,
            b'"' => in_text = !in_text,
            b'[' | b'{' if !in_text => {
                depth += 1;
                if depth > limit {
                    return true;
                }
            }
            b']' | b'}' if !in_text => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_member_that_does_not_fit_is_named() {
        #[derive(Debug, serde::Deserialize)]
        struct Members {
            #[expect(dead_code, reason = "only whether it fits counts here")]
            model: Option<String>,
        }
        let refused =
            |body: &str| members::<Members>(&RawJson::parse(body.to_owned()).unwrap()).unwrap_err();
        let problem = refused(r#"{"other":1,"model":7}"#);
        assert_eq!(problem.param.as_deref(), Some("model"));
        assert_eq!(problem.message, "`model` does not fit: invalid type: integer `7`, expected a string");
        for no_object in ["null", "[]", r#"["m"]"#, "1"] {
            assert_eq!(refused(no_object).message, "the body is JSON, but no object");
        }
        assert!(members::<Members>(&RawJson::parse(" \n{\"model\":null}").unwrap()).is_ok());
    }

    #[test]
    fn nesting_is_counted_outside_of_texts() {
        assert!(!nests_deeper_than(r#"{"a":["[[[[","\"[["]}"#, 2));
        assert!(nests_deeper_than("[[[]]]", 2));
        assert!(!nests_deeper_than("[[],[],[[]]]", 3));
        assert!(nests_deeper_than(&"[".repeat(100_000), 64));
    }
}
