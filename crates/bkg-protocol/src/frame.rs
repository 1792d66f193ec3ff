//! Between messages and the text of a frame.
//!
//! Payloads are spliced into frames and cut out of them as they are: the envelope is parsed, the
//! payload never. Nothing here knows whether a message is allowed; that is the halves' affair.

use serde::Deserialize;
use serde::de::DeserializeOwned;

use crate::RawJson;
use crate::message::{HostMessage, PluginMessage};

/// What a frame's text turned out to be.
#[derive(Debug, Clone, PartialEq)]
pub enum Decoded<M> {
    /// A message of this version.
    Message(M),
    /// A `type` that this version does not know: ignored, since that is how the protocol grows.
    Unknown(String),
}

/// Why a frame's text is no message.
#[derive(Debug, thiserror::Error)]
pub enum FrameError {
    /// Not a JSON object with a text `type`.
    #[error("the frame is not a JSON object with a `type`: {0}")]
    NotAnEnvelope(serde_json::Error),
    /// The fields do not fit the type.
    #[error("the `{kind}` frame cannot be read: {problem}")]
    Fields {
        /// The frame's `type`.
        kind: String,
        /// What does not fit, with line and column.
        problem: serde_json::Error,
    },
}

impl FrameError {
    /// The error in a few hundred bytes: it may repeat what does not fit, which may be the whole frame.
    pub(crate) fn brief(&self) -> String {
        let mut text = self.to_string();
        if text.len() > LONGEST_ERROR {
            text.truncate(text.floor_char_boundary(LONGEST_ERROR));
            text.push('…');
        }
        text
    }
}

/// How long the text of an error about a frame may be, in bytes.
const LONGEST_ERROR: usize = 400;

/// A message that frames can carry.
pub trait Message: Sized {
    /// The frame's text.
    fn encode(&self) -> String;

    /// Reads a frame's text.
    ///
    /// # Errors
    /// Text that is no envelope, or whose fields do not fit its `type`.
    fn decode(text: &str) -> Result<Decoded<Self>, FrameError>;
}

macro_rules! message_frames {
    ($message:ident: $($kind:literal $variant:ident),+ $(,)?) => {
        impl Message for $message {
            fn encode(&self) -> String {
                let spliced = match self {
                    Self::Request(request) => Some((",\"payload\":", &request.payload)),
                    Self::Response(response) => {
                        response.outcome.as_ref().ok().map(|data| (",\"data\":", data))
                    }
                    Self::Chunk(chunk) => Some((",\"data\":", &chunk.data)),
                    _ => None,
                };
                splice(self, spliced)
            }

            fn decode(text: &str) -> Result<Decoded<Self>, FrameError> {
                let kind = kind_of(text)?;
                match &*kind {
                    $($kind => fields(text, $kind).map(|m| Decoded::Message(Self::$variant(m))),)+
                    _ => Ok(Decoded::Unknown(kind.into_owned())),
                }
            }
        }
    };
}

message_frames!(PluginMessage:
    "response" Response,
    "chunk" Chunk,
    "register" Register,
    "health" Health,
    "telemetry" Telemetry,
    "log" Log,
    "request" Request,
    "cancel" Cancel,
    "credit" Credit,
    "update" Update,
    "subscribe" Subscribe,
    "unsubscribe" Unsubscribe,
    "publish" Publish,
    "configApplied" ConfigApplied,
    "authChanged" AuthChanged,
);

message_frames!(HostMessage:
    "request" Request,
    "credit" Credit,
    "cancel" Cancel,
    "response" Response,
    "chunk" Chunk,
    "registered" Registered,
    "rejected" Rejected,
    "updated" Updated,
    "event" Event,
    "config" Config,
    "drain" Drain,
);

fn splice(envelope: &impl serde::Serialize, payload: Option<(&str, &RawJson)>) -> String {
    let room = 256 + payload.map_or(0, |(_, json)| json.as_str().len());
    let mut text = Vec::with_capacity(room);
    serde_json::to_writer(&mut text, envelope).expect("a message has a JSON form");
    if let Some((key, json)) = payload {
        text.pop();
        text.extend_from_slice(key.as_bytes());
        text.extend_from_slice(json.as_str().as_bytes());
        text.push(b'}');
    }
    String::from_utf8(text).expect("JSON is UTF-8")
}

/// The frame's `type`, without reading further where it is the first key, as every known writer has it.
fn kind_of(text: &str) -> Result<std::borrow::Cow<'_, str>, FrameError> {
    #[derive(Deserialize)]
    struct Envelope<'a> {
        #[serde(rename = "type", borrow)]
        kind: std::borrow::Cow<'a, str>,
    }
    if let Some(rest) = text.strip_prefix("{\"type\":\"")
        && let Some(end) = rest.find(['"', '\\'])
        && rest.as_bytes()[end] == b'"'
    {
        return Ok(std::borrow::Cow::Borrowed(&rest[..end]));
    }
    serde_json::from_str::<Envelope<'_>>(text)
        .map(|envelope| envelope.kind)
        .map_err(FrameError::NotAnEnvelope)
}

fn fields<T: DeserializeOwned>(text: &str, kind: &str) -> Result<T, FrameError> {
    serde_json::from_str(text).map_err(|problem| FrameError::Fields { kind: kind.to_owned(), problem })
}

/// A frame that could not be read may still name the request it answers: its `requestId`, so that
/// the waiter hears of it instead of waiting for the deadline.
pub fn request_id_of(text: &str) -> Option<crate::RequestId> {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Envelope {
        request_id: crate::RequestId,
    }
    serde_json::from_str::<Envelope>(text).ok().map(|envelope| envelope.request_id)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::Request;
    use crate::{ErrorCode, RequestId, WireError};

    fn decode(text: &str) -> Decoded<PluginMessage> {
        PluginMessage::decode(text).unwrap()
    }

    #[test]
    fn a_payload_crosses_unread() {
        let payload = r#"{"z":1.0e2,"a":"\u00e9"}"#;
        let mut request = Request::new("llm.chat".parse().unwrap(), RawJson::parse(payload).unwrap());
        request.request_id = RequestId::numbered(1, 2);
        let text = HostMessage::Request(request.clone()).encode();
        assert_eq!(
            text,
            format!(
                r#"{{"type":"request","requestId":"{}","capability":"llm.chat","payload":{payload}}}"#,
                request.request_id
            )
        );
        assert_eq!(HostMessage::decode(&text).unwrap(), Decoded::Message(HostMessage::Request(request)));
    }

    #[test]
    fn success_decides_between_data_and_error() {
        let response = |text: &str| match decode(text) {
            Decoded::Message(PluginMessage::Response(response)) => response,
            other => panic!("{other:?}"),
        };
        assert_eq!(
            response(r#"{"type":"response","requestId":"a","success":true,"data":[1],"error":null}"#)
                .outcome,
            Ok(RawJson::parse("[1]").unwrap())
        );
        assert_eq!(
            response(r#"{"type":"response","requestId":"a","success":false,"data":null,"error":"no"}"#)
                .outcome,
            Err(WireError::new(ErrorCode::PluginError, "no"))
        );
        assert_eq!(
            response(r#"{"requestId":"a","success":true,"type":"response"}"#).outcome,
            Ok(RawJson::NULL)
        );
    }

    #[test]
    fn an_unknown_type_is_no_error_and_a_broken_frame_is() {
        assert_eq!(decode(r#"{"type":"tomorrow","x":1}"#), Decoded::Unknown("tomorrow".into()));
        assert_eq!(decode(r#"{"x":1,"type":"to\u006dorrow"}"#), Decoded::Unknown("tomorrow".into()));
        for wrong in ["", "[]", "{}", r#"{"type":1}"#, r#"{"type":"chunk"}"#, r#"{"type":"chunk""#] {
            assert!(PluginMessage::decode(wrong).is_err(), "{wrong}");
        }
    }
}
