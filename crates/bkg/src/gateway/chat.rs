//! `POST /v1/chat/completions`.

use std::sync::Arc;

use axum::body::Body;
use axum::response::{IntoResponse, Response};
use bkg_protocol::RawJson;
use http::{HeaderValue, header};
use serde::de::IgnoredAny;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use super::sse::{self, Rewrite};
use super::{Gateway, Members, raw, with_member};
use crate::dispatcher::Answer;
use crate::error::Problem;
use crate::web::{Call, Meter, members};

/// What a request says of its own answer.
#[derive(Debug)]
pub(super) struct Wanted {
    model: Option<String>,
    pub(super) stream: bool,
    pub(super) usage: bool,
    stream_options: Members,
}

impl Wanted {
    /// Reads the members that the host itself needs; explicit nulls are absent members.
    pub(super) fn read(body: &RawJson) -> Result<Self, Problem> {
        #[derive(Deserialize)]
        struct Request {
            model: Option<String>,
            stream: Option<bool>,
            stream_options: Option<Members>,
        }
        let request: Request = members(body)?;
        let stream_options = request.stream_options.unwrap_or_default();
        let usage = match stream_options.get("include_usage").map(|value| value.get()) {
            None | Some("null" | "false") => false,
            Some("true") => true,
            Some(_) => {
                let message = "`stream_options.include_usage` must be true or false";
                return Err(Problem::invalid(message).param("stream_options"));
            }
        };
        let stream = request.stream.unwrap_or(false);
        Ok(Self { model: request.model, stream, usage, stream_options })
    }
}

impl Wanted {
    /// The `stream_options` with the usage asked for, the rest as the client wrote it.
    fn with_usage(&self) -> Members {
        let mut options = self.stream_options.clone();
        options.insert("include_usage".to_owned(), raw(&true));
        options
    }
}

pub(super) async fn create(gateway: Arc<Gateway>, call: Call, body: Body) -> Result<Response, Problem> {
    let body = call.json(body, &gateway.limits).await?;
    let wanted = Wanted::read(&body)?;
    let (answer, mut meter) = ask(&gateway, &call, &wanted, body).await?;
    match answer {
        Answer::Stream(source) => {
            Ok(sse::response(*source, ChatChunks { wants_usage: wanted.usage }, call.caller, meter))
        }
        Answer::Whole(data) if wanted.stream => {
            meter.concluded(chunks_of(&data, wanted.usage).map(sse::whole))
        }
        Answer::Whole(data) => meter.concluded(completion(data).map(json_response)),
    }
}

/// Asks the plugin that serves the model, with a stream where the caller takes one.
pub(super) async fn ask(
    gateway: &Gateway,
    call: &Call,
    wanted: &Wanted,
    body: RawJson,
) -> Result<(Answer, Meter), Problem> {
    // The host counts tokens by the usage chunk, so it always asks for one.
    let streamed = |payload: &RawJson| match (wanted.stream, wanted.usage) {
        (false, _) => Ok(None),
        (true, true) => Ok(Some(payload.clone())),
        (true, false) => with_member(payload, "stream_options", &wanted.with_usage()).map(Some),
    };
    gateway.ask(call, &gateway.chat, wanted.model.as_deref(), body, streamed).await
}

/// The answer, if it can be a completion at all: a client would read `null` as one without choices.
fn completion(data: RawJson) -> Result<RawJson, Problem> {
    object(data, "it is no object")
}

/// What a plugin answered, if it is an object; else the failure with the reason.
fn object(data: RawJson, why: &str) -> Result<RawJson, Problem> {
    if data.as_str().trim_start().starts_with('{') { Ok(data) } else { Err(no_completion(why)) }
}

/// The plugin's answer is not what its capability promises.
pub(super) fn no_completion(why: &str) -> Problem {
    let message = format!("the plugin's answer is no chat completion: {why}");
    Problem::bad_answer(message)
}

/// A plugin's answer as it is.
pub(super) fn json_response(data: RawJson) -> Response {
    let mut response = Body::from(data.into_text().into_bytes()).into_response();
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

/// Passes chunks on and leaves out the usage chunk that nobody but the host asked for.
struct ChatChunks {
    wants_usage: bool,
}

impl Rewrite for ChatChunks {
    fn chunk(&mut self, data: RawJson) -> Result<Option<RawJson>, Problem> {
        let data = object(data, "one of its chunks is no object")?;
        Ok((self.wants_usage || !is_usage_chunk(&data)).then_some(data))
    }
}

/// Whether a chunk carries nothing but the usage.
pub(super) fn is_usage_chunk(data: &RawJson) -> bool {
    #[derive(Deserialize)]
    struct Chunk {
        choices: Option<Vec<IgnoredAny>>,
        usage: Option<IgnoredAny>,
    }
    data.as_str().contains("\"usage\"")
        && data.read::<Chunk>().is_ok_and(|chunk| {
            chunk.usage.is_some() && chunk.choices.is_some_and(|choices| choices.is_empty())
        })
}

/// A whole `chat.completion` as the chunks that a client which asked for a stream expects: role,
/// content and finish for each choice, and the usage if it is wanted.
pub(super) fn chunks_of(completion: &RawJson, wants_usage: bool) -> Result<Vec<RawJson>, Problem> {
    #[derive(Deserialize)]
    struct Completion {
        #[serde(default)]
        id: Value,
        #[serde(default)]
        created: Value,
        #[serde(default)]
        model: Value,
        choices: Vec<Choice>,
        #[serde(default)]
        usage: Value,
    }
    #[derive(Deserialize)]
    struct Choice {
        #[serde(default)]
        index: u64,
        message: Map<String, Value>,
        logprobs: Option<Value>,
        #[serde(default)]
        finish_reason: Value,
    }
    #[derive(Serialize)]
    struct Chunk<'a> {
        id: &'a Value,
        object: &'static str,
        created: &'a Value,
        model: &'a Value,
        choices: Vec<Value>,
        #[serde(skip_serializing_if = "Option::is_none")]
        usage: Option<Value>,
    }
    let completion: Completion = completion.read().map_err(|error| no_completion(&error.to_string()))?;
    let chunk = |choices: Vec<Value>, usage: Option<Value>| {
        RawJson::of(&Chunk {
            id: &completion.id,
            object: "chat.completion.chunk",
            created: &completion.created,
            model: &completion.model,
            choices,
            usage,
        })
    };
    let no_usage = wants_usage.then_some(Value::Null);
    let mut chunks = Vec::new();
    for choice in &completion.choices {
        let mut rest = choice.message.clone();
        let role = rest.remove("role").unwrap_or_else(|| Value::from("assistant"));
        number_tool_calls(&mut rest);
        let index = choice.index;
        let mut content = json!({ "index": index, "delta": rest, "finish_reason": null });
        if let Some(logprobs) = &choice.logprobs {
            content["logprobs"] = logprobs.clone();
        }
        for choice in [
            json!({ "index": index, "delta": { "role": role }, "finish_reason": null }),
            content,
            json!({ "index": index, "delta": {}, "finish_reason": choice.finish_reason }),
        ] {
            chunks.push(chunk(vec![choice], no_usage.clone()));
        }
    }
    if wants_usage && !completion.usage.is_null() {
        chunks.push(chunk(Vec::new(), Some(completion.usage.clone())));
    }
    Ok(chunks)
}

/// A tool call in a delta has an `index`, in a message it has none.
fn number_tool_calls(message: &mut Map<String, Value>) {
    let Some(Value::Array(calls)) = message.get_mut("tool_calls") else { return };
    for (index, call) in calls.iter_mut().enumerate() {
        if let Value::Object(call) = call {
            call.insert("index".to_owned(), Value::from(index));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn json(value: Value) -> RawJson {
        RawJson::from(value)
    }

    #[test]
    fn an_answer_that_is_no_object_is_the_plugins_failure() {
        for answer in [json!(null), json!("hi"), json!([])] {
            assert_eq!(completion(json(answer)), Err(no_completion("it is no object")));
        }
        assert_eq!(completion(json(json!({ "id": 1 }))), Ok(json(json!({ "id": 1 }))));
    }

    #[test]
    fn a_chunk_that_is_no_object_breaks_the_stream() {
        for chunk in [json!(null), json!("[DONE]"), json!([{}])] {
            let mut chunks = ChatChunks { wants_usage: false };
            assert_eq!(chunks.chunk(json(chunk)), Err(no_completion("one of its chunks is no object")));
        }
    }

    #[test]
    fn asking_for_the_usage_leaves_the_other_options_of_a_stream_as_they_are() {
        let body = r#"{"stream":true,"stream_options":{"x":1.0,"include_usage":false,"y":null}}"#;
        let wanted = Wanted::read(&RawJson::parse(body).unwrap()).unwrap();
        assert!(!wanted.usage);
        let options = RawJson::of(&wanted.with_usage());
        assert_eq!(options.as_str(), r#"{"x":1.0,"include_usage":true,"y":null}"#);
    }

    #[test]
    fn only_a_chunk_without_choices_is_the_usage_chunk() {
        assert!(is_usage_chunk(&json(json!({ "choices": [], "usage": { "total_tokens": 1 } }))));
        assert!(!is_usage_chunk(&json(json!({ "choices": [{}], "usage": { "total_tokens": 1 } }))));
        assert!(!is_usage_chunk(&json(json!({ "choices": [], "usage": null }))));
        assert!(!is_usage_chunk(&json(json!({ "choices": [] }))));
    }

    #[test]
    fn a_whole_answer_becomes_role_content_finish_and_usage() {
        let completion = json(json!({
            "id": "c", "created": 7, "model": "m", "usage": { "total_tokens": 3 },
            "choices": [{
                "index": 0, "finish_reason": "tool_calls", "logprobs": { "content": [] },
                "message": { "role": "assistant", "content": "hi", "tool_calls": [{ "id": "t" }] },
            }],
        }));
        let chunks: Vec<Value> =
            chunks_of(&completion, true).unwrap().iter().map(|chunk| chunk.read().unwrap()).collect();
        let delta = |index: usize| &chunks[index]["choices"][0]["delta"];
        assert_eq!(chunks.len(), 4);
        assert_eq!(delta(0), &json!({ "role": "assistant" }));
        assert_eq!(delta(1), &json!({ "content": "hi", "tool_calls": [{ "id": "t", "index": 0 }] }));
        assert_eq!(chunks[1]["choices"][0]["logprobs"], json!({ "content": [] }));
        assert_eq!(chunks[2]["choices"][0]["finish_reason"], "tool_calls");
        assert_eq!(chunks[2]["usage"], Value::Null);
        assert_eq!(chunks[3]["choices"], json!([]));
        assert_eq!(chunks[3]["usage"]["total_tokens"], 3);
        assert!(chunks.iter().all(|chunk| chunk["id"] == "c" && chunk["created"] == 7));
    }
}
