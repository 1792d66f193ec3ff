//! What holds of every response: golden conversations, any cut of a chat, and what is refused.

use bkg_protocol::RawJson;
use proptest::prelude::*;
use serde_json::{Value, json};

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
    Events::new(SEED, 1_600_000_000, read(json!({ "model": "m", "input": "hi" })).unwrap().echo)
}

#[test]
fn the_golden_conversations_come_out_as_they_are_written() {
    check("responses", |body| {
        let request = request::read(body).unwrap();
        (request.chat, Events::new(SEED, 1_600_000_000, request.echo))
    });
}

proptest! {
    #[test]
    fn however_a_chat_is_cut_the_response_is_the_same(chat in cuts()) {
        let whole = tell(events(), &chat.whole);
        let cut = tell(events(), &chat.cut);
        prop_assert_eq!(&whole.whole, &cut.whole);
        prop_assert_eq!(&cut.events.last().unwrap()["response"], &cut.whole);
        well_formed(&cut.events);
    }
}

/// The order that clients rely on.
fn well_formed(events: &[Value]) {
    let mut output: Vec<Value> = Vec::new();
    let mut open: Option<(String, Vec<String>, String)> = None;
    for (number, event) in events.iter().enumerate() {
        assert_eq!(event["sequence_number"], number);
        let kind = event["type"].as_str().unwrap();
        match (number, kind) {
            (0, _) => assert_eq!(kind, "response.created"),
            (1, _) => assert_eq!(kind, "response.in_progress"),
            _ if number + 1 == events.len() => {
                assert!(matches!(kind, "response.completed" | "response.incomplete"), "{kind}");
                assert_eq!(event["response"]["output"], Value::Array(output.clone()));
            }
            _ => {
                assert_eq!(event["output_index"], output.len());
                let id = event["item_id"].as_str().or(event["item"]["id"].as_str()).unwrap();
                match kind {
                    "response.output_item.added" => {
                        assert!(open.is_none());
                        open = Some((id.to_owned(), Vec::new(), String::new()));
                    }
                    "response.output_item.done" => {
                        let (opened, parts, arguments) = open.take().unwrap();
                        assert_eq!(opened, id);
                        let item = &event["item"];
                        if item["type"] == "function_call" {
                            assert_eq!(item["arguments"], arguments);
                        } else {
                            let texts = item["content"].as_array().unwrap().iter().map(said);
                            assert_eq!(texts.collect::<Vec<_>>(), parts);
                        }
                        output.push(item.clone());
                    }
                    "response.content_part.added" => {
                        let (_, parts, _) = open.as_mut().unwrap();
                        assert_eq!(event["content_index"], parts.len());
                        parts.push(String::new());
                    }
                    "response.function_call_arguments.delta" => {
                        open.as_mut().unwrap().2.push_str(event["delta"].as_str().unwrap());
                    }
                    "response.output_text.delta"
                    | "response.refusal.delta"
                    | "response.reasoning_text.delta" => {
                        let part = open.as_mut().unwrap().1.last_mut().unwrap();
                        part.push_str(event["delta"].as_str().unwrap());
                    }
                    "response.content_part.done" => {
                        assert_eq!(said(&event["part"]), *open.as_ref().unwrap().1.last().unwrap());
                    }
                    _ => assert!(kind.ends_with(".done"), "{kind}"),
                }
            }
        }
    }
    assert!(open.is_none());
}

fn said(part: &Value) -> String {
    part["text"].as_str().or(part["refusal"].as_str()).unwrap().to_owned()
}

#[test]
fn a_chat_that_fails_never_looks_complete() {
    let mut events = events();
    let mut told = Vec::new();
    let chat = chunks(vec![json!({ "content": "half" })], "stop");
    events.chunk(&RawJson::from(chat[0].clone()), &mut told).unwrap();
    events.chunk(&RawJson::from(chat[1].clone()), &mut told).unwrap();
    let failure = events.failure(&Problem::bad_answer("it broke"));
    assert_eq!(failure.name, "response.failed");
    assert_eq!(failure.data["sequence_number"], told.len());
    assert_eq!(failure.data["response"]["status"], "failed");
    assert_eq!(failure.data["response"]["error"], json!({ "code": "server_error", "message": "it broke" }));
}

#[test]
fn what_cannot_be_honoured_is_refused_by_name() {
    let message = |content: Value| json!({ "input": [{ "role": "user", "content": content }] });
    for (request, param) in [
        (json!({}), "input"),
        (json!({ "input": 7 }), "input"),
        (json!({ "input": "i", "previous_response_id": "resp_1" }), "previous_response_id"),
        (json!({ "input": "i", "conversation": "conv_1" }), "conversation"),
        (json!({ "input": "i", "background": true }), "background"),
        (json!({ "input": "i", "store": true }), "store"),
        (json!({ "input": "i", "truncation": "auto" }), "truncation"),
        (json!({ "input": "i", "prompt": { "id": "p" } }), "prompt"),
        (json!({ "input": "i", "n": 2 }), "n"),
        (json!({ "input": "i", "colour": "red" }), "colour"),
        (json!({ "input": "i", "model": 7 }), "model"),
        (
            json!({ "input": "i", "stream_options": { "include_obfuscation": true } }),
            "stream_options.include_obfuscation",
        ),
        (json!({ "input": "i", "include": ["file_search_call.results"] }), "include[0]"),
        (json!({ "input": "i", "tools": [{ "type": "web_search" }] }), "tools[0].type"),
        (json!({ "input": "i", "tools": [{ "type": "function" }] }), "tools[0].name"),
        (json!({ "input": "i", "tool_choice": "required" }), "tool_choice"),
        (json!({ "input": "i", "tool_choice": "maybe" }), "tool_choice"),
        (json!({ "input": "i", "tool_choice": { "type": "file_search" } }), "tool_choice.type"),
        (json!({ "input": "i", "text": { "format": { "type": "xml" } } }), "text.format.type"),
        (json!({ "input": "i", "text": { "format": { "type": "json_schema" } } }), "text.format.name"),
        (json!({ "input": "i", "reasoning": { "mode": "pro" } }), "reasoning.mode"),
        (json!({ "input": [{ "type": "item_reference", "id": "msg_1" }] }), "input[0].type"),
        (json!({ "input": [{ "type": "computer_call_output" }] }), "input[0].type"),
        (json!({ "input": [{ "type": "function_call_output", "output": "o" }] }), "input[0].call_id"),
        (json!({ "input": [{ "role": "user" }] }), "input[0].content"),
        (json!({ "input": [{ "role": "tool", "content": "" }] }), "input[0].role"),
        (message(json!([{ "type": "input_image", "file_id": "f" }])), "input[0].content[0].image_url"),
        (message(json!([{ "type": "input_file", "file_url": "u" }])), "input[0].content[0].file_data"),
        (message(json!([{ "type": "video" }])), "input[0].content[0].type"),
    ] {
        let problem = read(request.clone()).expect_err(&request.to_string());
        assert_eq!(problem.param.as_deref(), Some(param), "{request}");
        assert!(problem.message.contains(&format!("`{param}`")), "{}", problem.message);
    }
}

#[test]
fn numbers_and_schemas_reach_the_plugin_as_they_were_written() {
    let body = r#"{"model":"m","input":"hi","temperature":0.70,"seed":12345678901234567890123,
        "tools":[{"type":"function","name":"f","parameters":{"z":1.0,"a":2}}]}"#;
    let chat = request::read(&RawJson::parse(body).unwrap()).unwrap().chat;
    for kept in [r#""temperature":0.70"#, "12345678901234567890123", r#""parameters":{"z":1.0,"a":2}"#] {
        assert!(chat.as_str().contains(kept), "{}", chat.as_str());
    }
}
