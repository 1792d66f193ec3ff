//! `llm.chat`: what the stand-in says, whole or token by token.
//!
//! Everything that OpenAI clients rely on is kept: ids, `created`, the role in the first delta alone,
//! `finish_reason` at the end alone, `usage` that adds up. What is said is a template.

use std::borrow::Cow;
use std::fmt::Write;
use std::time::{SystemTime, UNIX_EPOCH};

use bkg_sdk::{ChunkSink, RawJson, Request, Result, Settings};
use serde::Serialize;

use crate::chat_request::ChatRequest;
use crate::settings::LlmSettings;
use crate::tokens::{Tokens, tokens};

/// What a caller is told when no user said anything.
const NOTHING_SAID: &str = "I am a stand-in: no model is mounted, so nobody has thought about this. \
                            No message of a user came with the request.";
const BEFORE_MESSAGE: &str =
    "I am a stand-in: no model is mounted, so nobody has thought about this. Your last message was: ";

#[derive(Debug, Clone, Copy, Serialize)]
struct Usage {
    prompt_tokens: usize,
    completion_tokens: usize,
    total_tokens: usize,
}

#[derive(Serialize)]
struct Completion<'a> {
    id: &'a str,
    object: &'static str,
    created: u64,
    model: &'a str,
    choices: Vec<Choice<'a>>,
    usage: Usage,
}

#[derive(Serialize)]
struct Choice<'a> {
    index: u32,
    message: Message<'a>,
    logprobs: Option<()>,
    finish_reason: FinishReason,
}

#[derive(Serialize)]
struct Message<'a> {
    role: &'static str,
    content: &'a str,
    refusal: Option<()>,
}

#[derive(Serialize)]
struct Chunk<'a> {
    id: &'a str,
    object: &'static str,
    created: u64,
    model: &'a str,
    choices: &'a [ChunkChoice<'a>],
    /// Null in every chunk but the last where usage was asked for, else absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    usage: Option<Option<Usage>>,
}

#[derive(Serialize)]
struct ChunkChoice<'a> {
    index: u32,
    delta: Delta<'a>,
    finish_reason: Option<FinishReason>,
}

#[derive(Default, Serialize)]
struct Delta<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    role: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    content: Option<&'a str>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum FinishReason {
    Stop,
    Length,
}

/// What will be said in each choice.
#[derive(Debug)]
struct Said {
    text: String,
    tokens: usize,
    finish_reason: FinishReason,
}

impl Said {
    fn in_answer_to(body: &ChatRequest<'_>) -> Self {
        let mut text = template(body);
        if let Some(end) = body.stops().iter().filter_map(|stop| text.find(&**stop)).min() {
            text.truncate(end);
        }
        let most = body.most_tokens().unwrap_or(usize::MAX);
        let mut kept = (0, 0);
        for token in tokens(&text).take(most) {
            kept = (kept.0 + 1, kept.1 + token.len());
        }
        let finish_reason = if kept.1 < text.len() { FinishReason::Length } else { FinishReason::Stop };
        text.truncate(kept.1);
        Self { text, tokens: kept.0, finish_reason }
    }

    fn tokens(&self) -> Tokens<'_> {
        tokens(&self.text)
    }
}

fn template(body: &ChatRequest<'_>) -> String {
    let Some(parts) = body.last_user_message() else { return NOTHING_SAID.to_owned() };
    let size: usize = parts.iter().map(|part| part.len()).sum();
    let mut text = String::with_capacity(BEFORE_MESSAGE.len() + size);
    text.push_str(BEFORE_MESSAGE);
    text.extend(parts.iter().map(Cow::as_ref));
    text
}

/// What all chunks of an answer share.
struct Head {
    id: String,
    created: u64,
}

impl Head {
    fn new() -> Self {
        let mut id = String::with_capacity(41);
        write!(id, "chatcmpl-{:032x}", rand::random::<u128>()).expect("a string takes everything");
        // A clock before 1970 is no reason to refuse an answer.
        let created = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
        Self { id, created }
    }
}

fn usage(body: &ChatRequest<'_>, said: &Said) -> Usage {
    let prompt_tokens = body.prompt_tokens();
    let completion_tokens = said.tokens * body.choices() as usize;
    Usage { prompt_tokens, completion_tokens, total_tokens: prompt_tokens + completion_tokens }
}

/// The whole answer at once, after as long as its tokens take.
pub(crate) async fn answer(request: Request, settings: Settings<LlmSettings>) -> Result<RawJson> {
    let body = ChatRequest::of(&request)?;
    let said = Said::in_answer_to(&body);
    for _ in 0..said.tokens {
        let Some(delay) = settings.get().token_delay() else { break };
        tokio::time::sleep(delay).await;
    }
    let head = Head::new();
    let choice = |index| Choice {
        index,
        message: Message { role: "assistant", content: &said.text, refusal: None },
        logprobs: None,
        finish_reason: said.finish_reason,
    };
    Ok(RawJson::of(&Completion {
        id: &head.id,
        object: "chat.completion",
        created: head.created,
        model: body.model(),
        choices: (0..body.choices()).map(choice).collect(),
        usage: usage(&body, &said),
    }))
}

/// The answer in chunks: the role, each token, the reason for the end, and the usage if wanted.
pub(crate) async fn stream(
    request: Request,
    chunks: ChunkSink,
    settings: Settings<LlmSettings>,
) -> Result<()> {
    let body = ChatRequest::of(&request)?;
    let said = Said::in_answer_to(&body);
    let head = Head::new();
    let (model, wants_usage) = (body.model(), body.wants_usage());
    let chunk = |choices: &[ChunkChoice<'_>], usage: Option<Usage>| {
        RawJson::of(&Chunk {
            id: &head.id,
            object: "chat.completion.chunk",
            created: head.created,
            model,
            choices,
            usage: wants_usage.then_some(usage),
        })
    };
    for index in 0..body.choices() {
        let delta = Delta { role: Some("assistant"), content: Some("") };
        chunks.send(chunk(&[ChunkChoice { index, delta, finish_reason: None }], None)).await?;
    }
    for token in said.tokens() {
        if let Some(delay) = settings.get().token_delay() {
            tokio::time::sleep(delay).await;
        }
        for index in 0..body.choices() {
            let delta = Delta { role: None, content: Some(token) };
            chunks.send(chunk(&[ChunkChoice { index, delta, finish_reason: None }], None)).await?;
        }
    }
    for index in 0..body.choices() {
        let finish_reason = Some(said.finish_reason);
        let choice = ChunkChoice { index, delta: Delta::default(), finish_reason };
        chunks.send(chunk(&[choice], None)).await?;
    }
    if wants_usage {
        chunks.send(chunk(&[], Some(usage(&body, &said)))).await?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use bkg_protocol::message::CancelReason;
    use bkg_sdk::testing::TestHost;
    use serde_json::{Value, json};

    use crate::plugin;
    use crate::tokens::count;

    async fn host() -> TestHost {
        TestHost::start(plugin()).await
    }

    fn ask(text: &str) -> Value {
        json!({ "model": "stand-in", "messages": [{ "role": "user", "content": text }] })
    }

    fn with(mut body: Value, fields: Value) -> Value {
        let Value::Object(fields) = fields else { panic!("fields are an object") };
        body.as_object_mut().unwrap().extend(fields);
        body
    }

    async fn whole(host: &TestHost, body: Value) -> Value {
        host.request("llm.chat", body).await.unwrap().read().unwrap()
    }

    async fn streamed(host: &TestHost, body: Value) -> Vec<Value> {
        let (chunks, outcome) = host.stream("llm.chat", body).collect().await;
        assert_eq!(outcome.unwrap().as_str(), "null");
        chunks.iter().map(|chunk| chunk.read().unwrap()).collect()
    }

    fn content(chunks: &[Value], index: u64) -> String {
        let choices = chunks.iter().flat_map(|chunk| chunk["choices"].as_array().unwrap());
        let of_index = choices.filter(|choice| choice["index"] == index);
        of_index.filter_map(|choice| choice["delta"]["content"].as_str()).collect()
    }

    #[tokio::test]
    async fn a_whole_answer_has_the_form_that_clients_expect() {
        let host = host().await;
        let answer = whole(&host, ask("where is Bern?")).await;
        let id = answer["id"].as_str().unwrap();
        assert!(id.starts_with("chatcmpl-") && id.len() == 41, "{id}");
        assert!(answer["created"].as_u64().unwrap() > 1_700_000_000);
        let said = answer["choices"][0]["message"]["content"].as_str().unwrap();
        assert!(said.contains("stand-in") && said.contains("no model is mounted"), "{said}");
        assert!(said.ends_with("where is Bern?"), "{said}");
        let expected = json!({
            "id": id,
            "object": "chat.completion",
            "created": answer["created"],
            "model": "stand-in",
            "choices": [{
                "index": 0,
                "message": { "role": "assistant", "content": said, "refusal": null },
                "logprobs": null,
                "finish_reason": "stop",
            }],
            "usage": {
                "prompt_tokens": 4,
                "completion_tokens": count(said),
                "total_tokens": 4 + count(said),
            },
        });
        assert_eq!(answer, expected);
        assert_ne!(whole(&host, ask("again")).await["id"], id);
    }

    #[tokio::test]
    async fn a_stream_says_the_same_token_by_token() {
        let host = host().await;
        let answer = whole(&host, ask("one two three")).await;
        let said = answer["choices"][0]["message"]["content"].as_str().unwrap();
        let chunks = streamed(&host, ask("one two three")).await;
        assert_eq!(content(&chunks, 0), said);
        assert_eq!(chunks.len(), count(said) + 2, "the role, the tokens, the end");

        for chunk in &chunks {
            assert_eq!(chunk["object"], "chat.completion.chunk");
            for name in ["id", "created", "model"] {
                assert_eq!(chunk[name], chunks[0][name]);
            }
            assert!(chunk.get("usage").is_none(), "nobody asked for it");
        }
        let choices: Vec<&Value> = chunks.iter().map(|chunk| &chunk["choices"][0]).collect();
        let (last, earlier) = choices.split_last().unwrap();
        assert_eq!(choices[0]["delta"], json!({ "role": "assistant", "content": "" }));
        assert!(choices[1..].iter().all(|choice| choice["delta"].get("role").is_none()));
        assert!(earlier.iter().all(|choice| choice["finish_reason"].is_null()));
        assert_eq!(**last, json!({ "index": 0, "delta": {}, "finish_reason": "stop" }));
    }

    #[tokio::test]
    async fn usage_comes_last_where_it_is_asked_for_and_null_before() {
        let host = host().await;
        let options = json!({ "stream": true, "stream_options": { "include_usage": true } });
        let expected = whole(&host, ask("hello")).await["usage"].clone();
        let mut chunks = streamed(&host, with(ask("hello"), options)).await;
        let last = chunks.pop().unwrap();
        assert_eq!((&last["choices"], &last["usage"]), (&json!([]), &expected));
        assert!(chunks.iter().all(|chunk| chunk.get("usage") == Some(&Value::Null)));
        assert!(chunks.iter().all(|chunk| chunk["choices"].as_array().unwrap().len() == 1));

        for no in
            [json!({ "stream_options": null }), json!({ "stream_options": { "include_usage": false } })]
        {
            let chunks = streamed(&host, with(ask("hello"), no)).await;
            assert!(chunks.iter().all(|chunk| chunk.get("usage").is_none()));
        }
    }

    #[tokio::test]
    async fn an_answer_is_no_longer_than_allowed_and_says_why_it_ends() {
        let host = host().await;
        for (fields, tokens) in [
            (json!({ "max_tokens": 3 }), 3),
            (json!({ "max_completion_tokens": 5, "max_tokens": 3 }), 5),
            (json!({ "max_completion_tokens": null, "max_tokens": 2 }), 2),
        ] {
            let body = with(ask("hello"), fields);
            let answer = whole(&host, body.clone()).await;
            let choice = &answer["choices"][0];
            let said = choice["message"]["content"].as_str().unwrap();
            assert_eq!(choice["finish_reason"], "length");
            assert_eq!((count(said), &answer["usage"]["completion_tokens"]), (tokens, &json!(tokens)));
            let chunks = streamed(&host, body).await;
            assert_eq!(content(&chunks, 0), said);
            assert_eq!(chunks.last().unwrap()["choices"][0]["finish_reason"], "length");
        }
        let enough = whole(&host, with(ask("hello"), json!({ "max_tokens": 4000 }))).await;
        assert_eq!(enough["choices"][0]["finish_reason"], "stop");
    }

    #[tokio::test]
    async fn an_answer_ends_before_the_first_stop_sequence() {
        let host = host().await;
        for stop in [json!("two"), json!(["three", "two"])] {
            let body = with(ask("one two three"), json!({ "stop": stop }));
            let answer = whole(&host, body.clone()).await;
            let said = answer["choices"][0]["message"]["content"].as_str().unwrap();
            assert!(said.ends_with("one "), "{said:?}");
            assert_eq!(answer["choices"][0]["finish_reason"], "stop");
            assert_eq!(content(&streamed(&host, body).await, 0), said);
        }
    }

    #[tokio::test]
    async fn several_choices_are_told_apart_and_all_counted() {
        let host = host().await;
        let one = whole(&host, ask("hello")).await;
        let body = with(ask("hello"), json!({ "n": 3 }));
        let three = whole(&host, body.clone()).await;
        let indices: Vec<&Value> =
            three["choices"].as_array().unwrap().iter().map(|choice| &choice["index"]).collect();
        assert_eq!(indices, [0, 1, 2]);
        let completion = |answer: &Value| answer["usage"]["completion_tokens"].as_u64().unwrap();
        assert_eq!(completion(&three), 3 * completion(&one));
        let chunks = streamed(&host, body).await;
        for index in 0..3 {
            assert_eq!(content(&chunks, index), one["choices"][0]["message"]["content"].as_str().unwrap());
        }
    }

    #[tokio::test]
    async fn messages_of_every_form_are_read() {
        let host = host().await;
        let parts = json!([
            { "type": "text", "text": "seven " },
            { "type": "image_url", "image_url": { "url": "data:," } },
            { "type": "text", "text": "lakes\n\u{e9}" },
        ]);
        let answer = whole(
            &host,
            json!({
                "messages": [
                    { "role": "developer", "content": "be brief" },
                    { "role": "user", "content": parts, "name": null },
                    { "role": "assistant", "content": null, "tool_calls": [] },
                    { "role": "tool", "content": "42", "tool_call_id": "c" },
                ],
                "model": null, "n": null, "stop": null, "max_tokens": null, "max_completion_tokens": null,
                "stream_options": null, "temperature": null, "tools": null, "seed": 12345678901234567890_u64,
            }),
        )
        .await;
        let said = answer["choices"][0]["message"]["content"].as_str().unwrap();
        assert!(said.ends_with("seven lakes\né"), "{said}");
        // be, brief, seven, the space after it, lakes, é with its line break, 42
        assert_eq!(answer["usage"]["prompt_tokens"], 7);

        let silent = json!({ "messages": [{ "role": "system", "content": "be brief" }] });
        let answer = whole(&host, silent).await;
        let said = answer["choices"][0]["message"]["content"].as_str().unwrap();
        assert!(said.contains("stand-in") && said.contains("No message of a user"), "{said}");
    }

    #[tokio::test]
    async fn a_body_that_is_wrong_is_refused_by_the_name_of_what_is_wrong() {
        let host = host().await;
        let message = |message: Value| json!({ "messages": [{ "role": "user", "content": "x" }, message] });
        let cases = [
            (json!(null), "messages"),
            (json!([]), "messages"),
            (json!({}), "messages"),
            (json!({ "messages": null }), "messages"),
            (json!({ "messages": "hello" }), "messages"),
            (json!({ "messages": [] }), "messages"),
            (message(json!("hello")), "messages[1]"),
            (message(json!({ "content": "x" })), "messages[1].role"),
            (message(json!({ "role": 1, "content": "x" })), "messages[1].role"),
            (message(json!({ "role": "robot", "content": "x" })), "messages[1].role"),
            (message(json!({ "role": "user" })), "messages[1].content"),
            (message(json!({ "role": "user", "content": null })), "messages[1].content"),
            (message(json!({ "role": "user", "content": 1 })), "messages[1].content"),
            (message(json!({ "role": "user", "content": ["x"] })), "messages[1].content[0].type"),
            (
                message(json!({ "role": "user", "content": [{ "type": "text" }] })),
                "messages[1].content[0].text",
            ),
            (with(ask("x"), json!({ "model": 1 })), "model"),
            (with(ask("x"), json!({ "n": 0 })), "n"),
            (with(ask("x"), json!({ "n": 17 })), "n"),
            (with(ask("x"), json!({ "n": "1" })), "n"),
            (with(ask("x"), json!({ "max_tokens": 0 })), "max_tokens"),
            (with(ask("x"), json!({ "max_tokens": -1 })), "max_tokens"),
            (with(ask("x"), json!({ "max_completion_tokens": 1.5 })), "max_completion_tokens"),
            (with(ask("x"), json!({ "stop": 1 })), "stop"),
            (with(ask("x"), json!({ "stop": [1] })), "stop"),
            (with(ask("x"), json!({ "stop": "" })), "stop"),
            (with(ask("x"), json!({ "stop": ["a", "b", "c", "d", "e"] })), "stop"),
            (with(ask("x"), json!({ "stream_options": 1 })), "stream_options"),
            (
                with(ask("x"), json!({ "stream_options": { "include_usage": 1 } })),
                "stream_options.include_usage",
            ),
        ];
        for (body, param) in cases {
            for error in [
                host.request("llm.chat", body.clone()).await.unwrap_err(),
                host.stream("llm.chat", body.clone()).outcome().await.unwrap_err(),
            ] {
                let found = (error.code.as_str(), error.param.as_deref());
                assert_eq!(found, ("invalid_request", Some(param)), "{body}: {error}");
            }
        }
    }

    #[tokio::test]
    async fn another_model_is_not_found() {
        let host = host().await;
        for model in ["other", "stand-in-embed", "stand-in/other", ""] {
            let error =
                host.request("llm.chat", with(ask("x"), json!({ "model": model }))).await.unwrap_err();
            assert_eq!(
                (error.code.as_str(), error.param.as_deref()),
                ("not_found", Some("model")),
                "{model}"
            );
        }
        let named = whole(&host, with(ask("x"), json!({ "model": "llmserver/stand-in" }))).await;
        assert_eq!(named["model"], "llmserver/stand-in", "a client gets back what it named");
    }

    #[tokio::test]
    async fn a_cancelled_stream_stops_between_tokens() {
        let host = TestHost::builder().settings(json!({ "tokenDelayMs": 10_000 })).start(plugin()).await;
        let mut stream = host.stream("llm.chat", ask("hello"));
        assert!(stream.next().await.is_some(), "the role waits for no token");
        stream.cancel(CancelReason::CallerGone);
        host.until("the stream is answered", |seen| seen.answers.len() == 1).await;
        let (_, outcome) = host.seen().answers.remove(0);
        assert_eq!(outcome.unwrap_err().code, "cancelled");
        assert!(stream.next_now().is_none());
    }

    #[tokio::test]
    async fn the_pause_before_tokens_changes_while_it_runs() {
        let host = TestHost::builder().settings(json!({ "tokenDelayMs": 10_000 })).start(plugin()).await;
        host.configure(json!({ "tokenDelayMs": 0 })).await.unwrap();
        // Fast now: with the first setting neither would end within the test's patience.
        whole(&host, ask("hello")).await;
        streamed(&host, ask("hello")).await;
        let error = host.configure(json!({ "tokenDelayMs": 10_001 })).await.unwrap_err();
        assert!(error.message.contains("at most 10000"), "{error}");
    }
}
