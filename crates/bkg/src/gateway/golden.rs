//! Golden conversations of the translations: a request, the chat that it becomes, the chunks of that chat,
//! and the events and the whole answer that those become. Also chats that are cut in any way.
//!
//! Not the translations' own checks: those stand beside the files, in `responses` and `messages`. With
//! `BKG_BLESS=1` what is made of request and chunks is written anew; read the difference.

use std::path::PathBuf;

use bkg_protocol::RawJson;
use proptest::collection::vec;
use proptest::prelude::*;
use serde_json::{Value, json};

use super::translation::{Event, Translation};

/// What a chat becomes.
#[derive(Debug)]
pub(super) struct Told {
    pub(super) events: Vec<Value>,
    pub(super) whole: Value,
}

/// Runs a chat through a translation; each event has to bear the name that its data has as `type`.
pub(super) fn tell<T: Translation>(mut translation: T, chunks: &[Value]) -> Told {
    let mut events = Vec::new();
    for chunk in chunks {
        translation.chunk(&RawJson::from(chunk.clone()), &mut events).unwrap();
    }
    translation.end(&mut events).unwrap();
    Told { events: events.iter().map(data).collect(), whole: translation.whole() }
}

fn data(event: &Event) -> Value {
    assert_eq!(event.data["type"], event.name);
    event.data.clone()
}

/// Checks all conversations of a folder; `translated` makes the chat and the translation of a request.
pub(super) fn check<T: Translation>(folder: &str, translated: impl Fn(&RawJson) -> (RawJson, T)) {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("src/gateway").join(folder);
    let mut files: Vec<_> =
        std::fs::read_dir(folder.join("golden")).unwrap().map(|file| file.unwrap().path()).collect();
    files.sort();
    assert!(files.len() > 3, "{files:?}");
    for file in files {
        let text = std::fs::read_to_string(&file).unwrap();
        let golden: Value = serde_json::from_str(&text).unwrap();
        let (chat, translation) = translated(&RawJson::of(&golden["request"]));
        let chunks = golden["chunks"].as_array().unwrap();
        let told = tell(translation, chunks);
        let made = json!({
            "about": golden["about"],
            "request": golden["request"],
            "chat": chat.read::<Value>().unwrap(),
            "chunks": chunks,
            "events": told.events,
            "whole": told.whole,
        });
        if std::env::var_os("BKG_BLESS").is_some() {
            std::fs::write(&file, format!("{}\n", serde_json::to_string_pretty(&made).unwrap())).unwrap();
        } else {
            assert_eq!(made, golden, "{}", file.display());
        }
    }
}

/// A chat whose parts are whole, and the same chat cut anywhere.
#[derive(Debug, Clone)]
pub(super) struct Cut {
    pub(super) whole: Vec<Value>,
    pub(super) cut: Vec<Value>,
}

/// Chats of any parts, cut in any way: also with the fragments of calls in turns.
pub(super) fn cuts() -> impl Strategy<Value = Cut> {
    let text = || "[a-zäß🦀\" ]{1,12}";
    let plain = prop_oneof![
        text().prop_map(|text| ("reasoning_content", text)),
        text().prop_map(|text| ("content", text)),
        text().prop_map(|text| ("refusal", text)),
    ];
    let calls = vec("[a-z🦀]{0,6}", 0..4);
    let finish = prop_oneof![Just("stop"), Just("length"), Just("content_filter")];
    (vec(plain, 0..5), calls, finish, vec(any::<(u8, u8)>(), 64))
        .prop_map(|(plain, calls, finish, dice)| cut(&plain, &calls, finish, &dice))
}

fn cut(plain: &[(&str, String)], calls: &[String], finish: &str, dice: &[(u8, u8)]) -> Cut {
    let mut dice = dice.iter().cycle();
    let mut roll = || *dice.next().expect("the dice go on for ever");
    let (mut whole, mut pieces) = (Vec::new(), Vec::new());
    for (name, text) in plain {
        whole.push(json!({ *name: text }));
        for piece in pieces_of(text, &mut roll) {
            pieces.push(json!({ *name: piece }));
        }
    }
    let mut fragments: Vec<Vec<Value>> = Vec::new();
    for (index, city) in calls.iter().enumerate() {
        let arguments = json!({ "city": city }).to_string();
        let head = |arguments: &str| {
            let function = json!({ "name": "weather", "arguments": arguments });
            json!({ "index": index, "id": format!("call_{index}"), "type": "function", "function": function })
        };
        whole.push(json!({ "tool_calls": [head(&arguments)] }));
        let mut of_call = vec![head("")];
        for piece in pieces_of(&arguments, &mut roll) {
            of_call.push(json!({ "index": index, "function": { "arguments": piece } }));
        }
        of_call.reverse();
        fragments.push(of_call);
    }
    // Calls begin in their order; after that, their fragments come in any.
    pieces.extend(fragments.iter_mut().filter_map(Vec::pop).map(|head| json!({ "tool_calls": [head] })));
    while fragments.iter().any(|left| !left.is_empty()) {
        let (chosen, _) = roll();
        let open: Vec<_> = fragments.iter_mut().filter(|left| !left.is_empty()).collect();
        let chosen = usize::from(chosen) % open.len();
        let fragment = open.into_iter().nth(chosen).and_then(Vec::pop).expect("one is left");
        pieces.push(json!({ "tool_calls": [fragment] }));
    }
    Cut { whole: chunks(whole, finish), cut: chunks(pieces, finish) }
}

fn pieces_of(text: &str, roll: &mut impl FnMut() -> (u8, u8)) -> Vec<String> {
    let mut pieces = vec![String::new()];
    for letter in text.chars() {
        if roll().1.is_multiple_of(3) {
            pieces.push(String::new());
        }
        pieces.last_mut().expect("there is one").push(letter);
    }
    pieces
}

/// The chunks of a chat with these deltas.
pub(super) fn chunks(deltas: Vec<Value>, finish: &str) -> Vec<Value> {
    let chunk = |choices: Value, usage: Value| {
        json!({
            "id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1_700_000_000, "model": "m",
            "choices": choices, "usage": usage,
        })
    };
    let choice =
        |delta: Value, finish: Value| json!([{ "index": 0, "delta": delta, "finish_reason": finish }]);
    let mut chunks = vec![chunk(choice(json!({ "role": "assistant" }), Value::Null), Value::Null)];
    chunks.extend(deltas.into_iter().map(|delta| chunk(choice(delta, Value::Null), Value::Null)));
    chunks.push(chunk(choice(json!({}), json!(finish)), Value::Null));
    let usage = json!({ "prompt_tokens": 9, "completion_tokens": 5, "total_tokens": 14 });
    chunks.push(chunk(json!([]), usage));
    chunks
}
