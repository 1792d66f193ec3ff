//! What a handler answers to an HTTP request where plain JSON with status 200 is not enough.
//!
//! Not the request: that is [`crate::Request::http`]. What the host does with it, and which headers it
//! passes on, is in `docs/protocol.md`, "Routes".

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bkg_protocol::RawJson;
use serde::Serialize;
use serde_json::Value;

use crate::json::IntoJson;

/// The status, the headers and the body of an HTTP response.
///
/// Returned by a handler it is the whole answer; sent as the first chunk of a stream it is its head, and
/// what follows are texts and [`BodyBytes`].
///
/// ```
/// use bkg_sdk::{IntoJson, RouteAnswer};
///
/// let answer = RouteAnswer::new(201).header("location", "/api/plugins/wiki/pages/7").text("made");
/// assert_eq!(
///     answer.into_json().as_str(),
///     r#"{"$http":{"status":201,"headers":{"location":["/api/plugins/wiki/pages/7"]},"text":"made"}}"#
/// );
/// ```
#[derive(Debug, Clone)]
#[must_use]
pub struct RouteAnswer {
    status: u16,
    /// Every header with its values, in the order in which they were named.
    headers: Vec<(String, Vec<String>)>,
    body: Body,
}

#[derive(Debug, Clone)]
enum Body {
    None,
    Json(RawJson),
    Text(String),
    Bytes(Vec<u8>),
}

impl RouteAnswer {
    /// An answer with a status from 200 to 599, and no body yet.
    pub fn new(status: u16) -> Self {
        Self { status, headers: Vec::new(), body: Body::None }
    }

    /// An answer with status 200, and no body yet.
    pub fn ok() -> Self {
        Self::new(200)
    }

    /// Adds a header. The host leaves out those that are not a plugin's to set, and notes that in the
    /// plugin's log.
    pub fn header(mut self, name: &str, value: impl Into<String>) -> Self {
        let name = name.to_ascii_lowercase();
        match self.headers.iter_mut().find(|(known, _)| *known == name) {
            Some((_, values)) => values.push(value.into()),
            None => self.headers.push((name, vec![value.into()])),
        }
        self
    }

    /// Answers with JSON.
    pub fn json(mut self, value: impl IntoJson) -> Self {
        self.body = Body::Json(value.into_json());
        self
    }

    /// Answers with a text: `text/plain`, unless a `content-type` was named.
    pub fn text(mut self, text: impl Into<String>) -> Self {
        self.body = Body::Text(text.into());
        self
    }

    /// Answers with bytes: `application/octet-stream`, unless a `content-type` was named.
    pub fn bytes(mut self, bytes: impl Into<Vec<u8>>) -> Self {
        self.body = Body::Bytes(bytes.into());
        self
    }
}

impl IntoJson for RouteAnswer {
    fn into_json(self) -> RawJson {
        #[derive(Serialize)]
        struct Envelope {
            #[serde(rename = "$http")]
            http: Written,
        }
        #[derive(Serialize)]
        struct Written {
            status: u16,
            #[serde(skip_serializing_if = "serde_json::Map::is_empty")]
            headers: serde_json::Map<String, Value>,
            #[serde(skip_serializing_if = "Option::is_none")]
            json: Option<RawJson>,
            #[serde(skip_serializing_if = "Option::is_none")]
            text: Option<String>,
            #[serde(skip_serializing_if = "Option::is_none")]
            base64: Option<String>,
        }
        let headers = self.headers.into_iter().map(|(name, values)| (name, Value::from(values))).collect();
        let mut http = Written { status: self.status, headers, json: None, text: None, base64: None };
        match self.body {
            Body::None => {}
            Body::Json(json) => http.json = Some(json),
            Body::Text(text) => http.text = Some(text),
            Body::Bytes(bytes) => http.base64 = Some(STANDARD.encode(bytes)),
        }
        RawJson::of(&Envelope { http })
    }
}

/// Bytes as a chunk of a stream whose first chunk was a [`RouteAnswer`].
///
/// ```
/// use bkg_sdk::{BodyBytes, ChunkSink, Request, Result, RouteAnswer};
///
/// async fn noise(_: Request, chunks: ChunkSink) -> Result<()> {
///     chunks.send(RouteAnswer::ok().header("content-type", "audio/wav")).await?;
///     chunks.send(BodyBytes(vec![0; 1024])).await?;
///     Ok(())
/// }
/// ```
#[derive(Debug, Clone)]
pub struct BodyBytes(pub Vec<u8>);

impl IntoJson for BodyBytes {
    fn into_json(self) -> RawJson {
        RawJson::of(&serde_json::json!({ "base64": STANDARD.encode(self.0) }))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn written(answer: RouteAnswer) -> Value {
        answer.into_json().read().unwrap()
    }

    #[test]
    fn an_answer_is_written_as_the_host_reads_it() {
        assert_eq!(written(RouteAnswer::new(204)), json!({ "$http": { "status": 204 } }));
        assert_eq!(
            written(RouteAnswer::ok().header("Vary", "a").header("vary", "b").json(json!(null))),
            json!({ "$http": { "status": 200, "headers": { "vary": ["a", "b"] }, "json": null } })
        );
        assert_eq!(
            written(RouteAnswer::ok().bytes([0xff, 0x00])),
            json!({ "$http": { "status": 200, "base64": "/wA=" } })
        );
    }
}
