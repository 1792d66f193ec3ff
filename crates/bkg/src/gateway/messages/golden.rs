//! What holds of every message: golden conversations, any cut of a chat, and what is refused.

use std::sync::Arc;

use bkg_protocol::RawJson;
use proptest::prelude::*;
use serde_json::{Value, json};

use super::count;
use super::events::Events;
use super::request::{self, Request};
use crate::error::Problem;
use crate::gateway::golden::{check, chunks, cuts, tell};
use crate::gateway::translation::Translation;

const SEED: &str = "0";

fn read(request: Value) -> Result<Request, Problem> {
    request::read(&RawJson::from(request))
}

fn events() -> Events {
    let request = json!({
        "model": "m", "max_tokens": 9, "messages": [{ "role": "user", "content": "hi" }],
        "thinking": { "type": "adaptive" },
    });
    Events::new(SEED, read(request).unwrap().answer, 1, Some(Arc::from("r")))
}

#[test]
fn the_golden_conversations_come_out_as_they_are_written() {
    check("messages", |body| {
        let request = request::read(body).unwrap();
        let prompt = count::estimate(&request.chat);
        (request.chat, Events::new(SEED, request.answer, prompt, Some(Arc::from("r"))))
    });
}

proptest! {
    #[test]
    fn however_a_chat_is_cut_the_message_is_the_same(chat in cuts()) {
        let whole = tell(events(), &chat.whole);
        let cut = tell(events(), &chat.cut);
        prop_assert_eq!(&whole.whole, &cut.whole);
        prop_assert_eq!(put_together(&cut.events), cut.whole);
    }
}

/// The message as a client makes it of its events, which have to come in the order that clients rely on.
fn put_together(events: &[Value]) -> Value {
    let mut message = events[0]["message"].clone();
    assert_eq!(events[0]["type"], "message_start");
    let [.., delta, stop] = events else { panic!("{events:?}") };
    assert_eq!((&delta["type"], &stop["type"]), (&json!("message_delta"), &json!("message_stop")));
    let mut content = Vec::new();
    let mut open: Option<(Value, String)> = None;
    for event in &events[1..events.len() - 2] {
        if event["type"] == "ping" {
            continue;
        }
        assert_eq!(event["index"], content.len());
        match event["type"].as_str().unwrap() {
            "content_block_start" => {
                assert!(open.is_none());
                open = Some((event["content_block"].clone(), String::new()));
            }
            "content_block_delta" => {
                let delta = &event["delta"];
                let text =
                    ["text", "thinking", "partial_json"].into_iter().find_map(|name| delta[name].as_str());
                open.as_mut().unwrap().1.push_str(text.unwrap());
            }
            "content_block_stop" => {
                let (mut block, said) = open.take().unwrap();
                match block["type"].clone().as_str().unwrap() {
                    "tool_use" => block["input"] = serde_json::from_str(&said).unwrap(),
                    kind => block[kind] = json!(said),
                }
                content.push(block);
            }
            other => panic!("{other}"),
        }
    }
    assert!(open.is_none());
    message["content"] = Value::Array(content);
    for (name, value) in delta["delta"].as_object().unwrap() {
        message[name] = value.clone();
    }
    message["usage"] = delta["usage"].clone();
    message
}

#[test]
fn a_chat_that_fails_ends_with_an_error() {
    let mut events = events();
    let mut told = Vec::new();
    for chunk in &chunks(vec![json!({ "content": "half" })], "stop")[..2] {
        events.chunk(&RawJson::from(chunk.clone()), &mut told).unwrap();
    }
    let failure = events.failure(&Problem::bad_answer("it broke"));
    let details = json!({ "error_code": "plugin_error", "param": null });
    let error = json!({ "type": "api_error", "message": "it broke", "details": details });
    assert_eq!(failure.name, "error");
    assert_eq!(failure.data, json!({ "type": "error", "error": error, "request_id": "r" }));
}

#[test]
fn arguments_that_are_no_object_are_the_plugins_failure_unless_they_were_cut_off() {
    let call = |finish: &str| {
        let function = json!({ "name": "f", "arguments": "{\"a\": 1" });
        let chat = chunks(
            vec![json!({ "tool_calls": [{ "index": 0, "id": "c", "function": function }] })],
            finish,
        );
        let (mut events, mut told) = (events(), Vec::new());
        for chunk in chat {
            events.chunk(&RawJson::from(chunk), &mut told).unwrap();
        }
        events.end(&mut told).map(|()| events.whole())
    };
    assert_eq!(
        call("tool_calls").unwrap_err().message,
        "the plugin's answer is no chat completion: the arguments for `f` are no JSON object"
    );
    let cut = call("length").unwrap();
    assert_eq!((&cut["stop_reason"], &cut["content"][0]["input"]), (&json!("max_tokens"), &json!({})));
}

#[test]
fn what_cannot_be_honoured_is_refused_by_name() {
    let with = |more: Value| {
        let mut request =
            json!({ "model": "m", "max_tokens": 9, "messages": [{ "role": "user", "content": "hi" }] });
        request.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        request
    };
    let said = |content: Value| with(json!({ "messages": [{ "role": "user", "content": content }] }));
    for (request, param) in [
        (json!({ "messages": [{ "role": "user", "content": "hi" }] }), "max_tokens"),
        (with(json!({ "max_tokens": 0 })), "max_tokens"),
        (with(json!({ "messages": null })), "messages"),
        (with(json!({ "messages": [] })), "messages"),
        (with(json!({ "messages": [{ "role": "user" }] })), "messages[0].content"),
        (with(json!({ "messages": [{ "role": "robot", "content": "" }] })), "messages[0].role"),
        (with(json!({ "system": [{ "type": "image" }] })), "system[0].type"),
        (with(json!({ "container": "c" })), "container"),
        (with(json!({ "mcp_servers": [{}] })), "mcp_servers"),
        (
            with(json!({ "context_management": { "edits": [{ "type": "clear_tool_uses_20250919" }] } })),
            "context_management.edits[0].type",
        ),
        (with(json!({ "speed": "fast" })), "speed"),
        (with(json!({ "colour": "red" })), "colour"),
        (with(json!({ "service_tier": "first" })), "service_tier"),
        (with(json!({ "stop_sequences": "x" })), "stop_sequences"),
        (with(json!({ "thinking": { "type": "deep" } })), "thinking.type"),
        (with(json!({ "thinking": { "type": "enabled" } })), "thinking.budget_tokens"),
        (with(json!({ "output_config": { "format": { "type": "xml" } } })), "output_config.format.type"),
        (
            with(json!({ "tools": [{ "type": "web_search_20250305", "name": "web_search" }] })),
            "tools[0].type",
        ),
        (with(json!({ "tools": [{}] })), "tools[0].name"),
        (with(json!({ "tool_choice": { "type": "any" } })), "tool_choice"),
        (with(json!({ "tool_choice": { "type": "some" } })), "tool_choice.type"),
        (said(json!([{ "type": "image" }])), "messages[0].content[0].source"),
        (
            said(json!([{ "type": "image", "source": { "type": "file", "file_id": "f" } }])),
            "messages[0].content[0].source.type",
        ),
        (
            said(json!([{ "type": "document", "source": { "type": "url", "url": "u" } }])),
            "messages[0].content[0].source.type",
        ),
        (said(json!([{ "type": "search_result" }])), "messages[0].content[0].type"),
        (
            said(json!([{ "type": "text", "text": "t" }, { "type": "tool_result", "tool_use_id": "i" }])),
            "messages[0].content[1].type",
        ),
        (said(json!([{ "type": "tool_result" }])), "messages[0].content[0].tool_use_id"),
    ] {
        let problem = read(request.clone()).expect_err(&request.to_string());
        assert_eq!(problem.param.as_deref(), Some(param), "{request}");
        assert!(problem.message.contains(&format!("`{param}`")), "{}", problem.message);
    }
}

#[test]
fn a_count_needs_no_bound_for_an_answer() {
    let count = |body: Value| request::read_prompt(&RawJson::from(body));
    let messages = json!([{ "role": "user", "content": "hi" }]);
    assert!(count(json!({ "model": "m", "messages": messages })).is_ok());
    assert_eq!(count(json!({ "messages": messages })).unwrap_err().param.as_deref(), Some("model"));
}
