//! `POST /v1/completions`: the older form, as a chat with one user message.

use std::sync::Arc;

use axum::body::Body;
use axum::response::Response;
use bkg_protocol::RawJson;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::value::RawValue;
use serde_json::{Value, json};

use super::sse::{self, Rewrite};
use super::{Gateway, Members, chat, raw};
use crate::dispatcher::Answer;
use crate::error::Problem;
use crate::web::{Call, members};

/// Members that a chat has no equal for, with the values that ask for nothing.
const NOT_TRANSLATED: [(&str, &[&str]); 4] = [
    ("suffix", &["null", "\"\""]),
    ("echo", &["null", "false"]),
    ("best_of", &["null", "1"]),
    ("logprobs", &["null", "false"]),
];

pub(super) async fn create(gateway: Arc<Gateway>, call: Call, body: Body) -> Result<Response, Problem> {
    let body = call.json(body, &gateway.limits).await?;
    let wanted = chat::Wanted::read(&body)?;
    let payload = RawJson::of(&as_chat(members(&body)?)?);
    let mut chunks = TextChunks { wants_usage: wanted.usage };
    let (answer, mut meter) = chat::ask(&gateway, &call, &wanted, payload).await?;
    match answer {
        Answer::Stream(source) => Ok(sse::response(*source, chunks, call.caller, meter)),
        Answer::Whole(data) if wanted.stream => {
            let texts = chat::chunks_of(&data, wanted.usage).and_then(|whole| {
                whole
                    .into_iter()
                    .filter_map(|chunk| chunks.chunk(chunk).transpose())
                    .collect::<Result<Vec<_>, _>>()
            });
            meter.concluded(texts.map(sse::whole))
        }
        Answer::Whole(data) => {
            let text = as_text(&data).ok_or_else(no_choices);
            meter.concluded(text.map(|text| chat::json_response(text.completion)))
        }
    }
}

/// The request as a chat: its prompt is the one user message.
fn as_chat(mut request: Members) -> Result<Members, Problem> {
    for (name, nothing) in NOT_TRANSLATED {
        if request.shift_remove(name).is_some_and(|value| !nothing.contains(&value.get())) {
            let message = format!("`{name}` is not supported here: use `/v1/chat/completions`");
            return Err(Problem::invalid(message).param(name));
        }
    }
    let prompt = match request.shift_remove("prompt").and_then(|prompt| read(&prompt)) {
        Some(Value::String(prompt)) => prompt,
        Some(Value::Array(prompts)) => match <[Value; 1]>::try_from(prompts) {
            Ok([Value::String(prompt)]) => prompt,
            _ => return Err(wrong_prompt()),
        },
        _ => return Err(wrong_prompt()),
    };
    let messages = json!([{ "role": "user", "content": prompt }]);
    request.insert("messages".to_owned(), raw(&messages));
    Ok(request)
}

fn read<T: DeserializeOwned>(value: &RawValue) -> Option<T> {
    serde_json::from_str(value.get()).ok()
}

fn wrong_prompt() -> Problem {
    Problem::invalid("`prompt` must be one text, or a list of one text").param("prompt")
}

fn no_choices() -> Problem {
    chat::no_completion("its choices have no text")
}

/// A `text_completion`, or a chunk of one.
struct Text {
    completion: RawJson,
    /// Whether it adds neither text nor an end: a chat's chunk with nothing but the role.
    says_nothing: bool,
}

/// A `chat.completion`, or a chunk of one, as text.
fn as_text(data: &RawJson) -> Option<Text> {
    #[derive(Deserialize)]
    struct Message {
        content: Option<String>,
    }
    let mut completion: Members = data.read().ok()?;
    let mut choices: Vec<Members> = read(completion.get("choices")?)?;
    let mut says_nothing = !choices.is_empty();
    for choice in &mut choices {
        let message = choice.shift_remove("message").or_else(|| choice.shift_remove("delta"))?;
        let text = read::<Message>(&message)?.content.unwrap_or_default();
        says_nothing &=
            text.is_empty() && choice.get("finish_reason").is_none_or(|reason| reason.get() == "null");
        choice.insert("text".to_owned(), raw(&text));
        choice.insert("logprobs".to_owned(), raw(&()));
    }
    completion.insert("choices".to_owned(), raw(&choices));
    completion.insert("object".to_owned(), raw("text_completion"));
    Some(Text { completion: RawJson::of(&completion), says_nothing })
}

/// Turns chunks of a chat into chunks of a text, and leaves the usage out unless it is wanted.
struct TextChunks {
    wants_usage: bool,
}

impl Rewrite for TextChunks {
    fn chunk(&mut self, data: RawJson) -> Result<Option<RawJson>, Problem> {
        if !self.wants_usage && chat::is_usage_chunk(&data) {
            return Ok(None);
        }
        let text = as_text(&data).ok_or_else(no_choices)?;
        Ok((!text.says_nothing).then_some(text.completion))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chat_of(request: &Value) -> Result<Value, Problem> {
        let chat = as_chat(RawJson::of(request).read().unwrap())?;
        Ok(RawJson::of(&chat).read().unwrap())
    }

    #[test]
    fn a_prompt_becomes_the_one_user_message() {
        let expected = json!({ "model": "m", "messages": [{ "role": "user", "content": "hi" }] });
        for prompt in [json!("hi"), json!(["hi"])] {
            let request = json!({
                "model": "m", "prompt": prompt, "echo": false, "suffix": "", "best_of": 1, "logprobs": null,
            });
            assert_eq!(chat_of(&request).unwrap(), expected);
        }
    }

    #[test]
    fn what_a_chat_cannot_do_is_refused_by_name() {
        for (name, _) in NOT_TRANSLATED {
            let problem = chat_of(&json!({ "prompt": "p", name: 2 })).unwrap_err();
            assert_eq!(problem.param.as_deref(), Some(name));
        }
        for prompt in [json!(null), json!(["a", "b"]), json!([1, 2])] {
            assert_eq!(chat_of(&json!({ "prompt": prompt })).unwrap_err().param.as_deref(), Some("prompt"));
        }
    }

    #[test]
    fn the_request_keeps_its_order_and_its_numbers() {
        let body = r#"{"zeta":1.50,"suffix":null,"seed":12345678901234567890123,"prompt":"p"}"#;
        let chat = as_chat(RawJson::parse(body).unwrap().read().unwrap()).unwrap();
        let expected =
            r#"{"zeta":1.50,"seed":12345678901234567890123,"messages":[{"role":"user","content":"p"}]}"#;
        assert_eq!(RawJson::of(&chat).as_str(), expected);
    }

    #[test]
    fn chunks_and_completions_become_text() {
        let chunk = json!({ "id": "c", "object": "chat.completion.chunk",
            "choices": [{ "index": 0, "delta": { "content": "hi" }, "finish_reason": null }] });
        let text: Value = as_text(&RawJson::from(chunk)).unwrap().completion.read().unwrap();
        assert_eq!(text["object"], "text_completion");
        assert_eq!(text["choices"][0]["text"], "hi");
        assert_eq!(text["choices"][0].get("delta"), None);
    }

    #[test]
    fn a_chunk_that_cannot_be_read_breaks_the_stream_and_one_with_only_a_role_is_left_out() {
        let mut chunks = TextChunks { wants_usage: false };
        let mut chunk = |choices: Value| chunks.chunk(RawJson::from(json!({ "choices": choices })));
        assert_eq!(
            chunk(json!([{ "index": 0, "delta": { "role": "assistant", "content": "" } }])),
            Ok(None)
        );
        assert!(chunk(json!([{ "index": 0, "delta": {}, "finish_reason": "stop" }])).unwrap().is_some());
        assert_eq!(chunk(json!([{ "index": 0 }])), Err(no_choices()));
    }
}
