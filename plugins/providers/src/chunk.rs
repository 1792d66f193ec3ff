//! What upstreams stream, made into what clients of OpenAI rely on.
//!
//! Pure. One id and one time throughout; the role in the first delta of a choice alone; a reason for the end
//! in its last; numbered calls of functions whose id, type and name come once; the usage in a chunk of its
//! own at the end. Everything else, known here or not, goes on as it came. The invariant: a stream of
//! which the upstream has not said that it is finished does not look finished.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::time::{SystemTime, UNIX_EPOCH};

use bkg_sdk::RawJson;
use serde_json::value::RawValue;

use crate::failure::Failure;
use crate::members::{Members, given, line, null, number, raw, text};

/// What is known of a stream so far.
#[derive(Debug)]
pub(crate) struct Chunks {
    model: String,
    head: Option<Head>,
    choices: BTreeMap<u64, Choice>,
    /// The chunk with the usage, which waits for the end.
    usage: Option<Members>,
}

/// What all chunks share.
#[derive(Debug, Clone)]
struct Head {
    id: Box<RawValue>,
    created: Box<RawValue>,
}

#[derive(Debug, Default)]
struct Choice {
    has_role: bool,
    finished: bool,
    calls: Vec<Call>,
}

/// A call of a function that has begun.
#[derive(Debug)]
struct Call {
    /// Its number where the upstream gave one.
    number: Option<u64>,
    id: Option<String>,
    has_name: bool,
}

impl Head {
    fn of(members: &Members) -> Self {
        let id = text(members, "id").unwrap_or_else(new_id);
        Self { id: raw(&id), created: raw(&number(members, "created").unwrap_or_else(now)) }
    }
}

impl Chunks {
    /// The chunks of an answer by this model.
    pub(crate) fn new(model: String) -> Self {
        Self { model, head: None, choices: BTreeMap::new(), usage: None }
    }

    /// The next chunk as clients get it; `None` where it says nothing that they get now.
    ///
    /// # Errors
    /// It is no chunk.
    pub(crate) fn take(&mut self, mut chunk: Members) -> Result<Option<RawJson>, Failure> {
        let choices = given(&chunk, "choices").map_or(Ok(Vec::new()), read)?;
        let head = self.head.get_or_insert_with(|| Head::of(&chunk)).clone();
        self.complete(&mut chunk, head);
        let usage = given(&chunk, "usage").map(ToOwned::to_owned);
        if choices.is_empty() {
            // Without a usage it is no chunk that OpenAI has, and clients look for its first choice.
            if usage.is_some() {
                self.usage = Some(chunk);
            }
            return Ok(None);
        }
        if let Some(usage) = usage {
            let mut last = Members::new();
            self.complete(&mut last, self.head.clone().expect("it was set above"));
            last.insert("choices".to_owned(), raw(&[(); 0]));
            last.insert("usage".to_owned(), usage);
            self.usage = Some(last);
        }
        chunk.insert("usage".to_owned(), null());
        let choices = choices.into_iter().map(|choice| self.choice(choice));
        let choices = choices.collect::<Result<Vec<Members>, Failure>>()?;
        chunk.insert("choices".to_owned(), raw(&choices));
        Ok(Some(line(&chunk)))
    }

    /// A whole completion as chunks: what each choice says, the reason for its end, and the usage.
    ///
    /// # Errors
    /// It is no completion.
    pub(crate) fn of_whole(mut self, mut whole: Members) -> Result<Vec<RawJson>, Failure> {
        let mut chunks = Vec::new();
        let choices = given(&whole, "choices").ok_or_else(|| unreadable("it has no `choices`"))?;
        let choices: Vec<Members> = read(choices)?;
        let usage = whole.shift_remove("usage");
        for (index, mut choice) in choices.into_iter().enumerate() {
            let message =
                choice.shift_remove("message").ok_or_else(|| unreadable("a choice has no `message`"))?;
            let reason = choice.shift_remove("finish_reason").unwrap_or_else(null);
            choice.entry("index".to_owned()).or_insert_with(|| raw(&index));
            let mut end = choice.clone();
            end.shift_remove("logprobs");
            end.insert("finish_reason".to_owned(), reason);
            choice.insert("delta".to_owned(), message);
            for choice in [choice, end] {
                whole.insert("choices".to_owned(), raw(&[choice]));
                chunks.extend(self.take(whole.clone())?);
            }
        }
        if let Some(usage) = usage {
            whole.insert("choices".to_owned(), raw(&[(); 0]));
            whole.insert("usage".to_owned(), usage);
            chunks.extend(self.take(whole)?);
        }
        chunks.extend(self.end(true)?);
        Ok(chunks)
    }

    /// What is left to say at the end: reasons that were owed, and the usage. `done` tells whether the upstream
    /// said that it is done.
    ///
    /// # Errors
    /// The answer is not finished.
    pub(crate) fn end(mut self, done: bool) -> Result<Vec<RawJson>, Failure> {
        let head = match &self.head {
            Some(head) if !self.choices.is_empty() => head.clone(),
            _ => return Err(Failure::Broken("there was nothing in it".to_owned())),
        };
        let mut rest = Vec::new();
        let owed: Vec<(u64, bool)> = self
            .choices
            .iter()
            .filter(|(_, choice)| !choice.finished)
            .map(|(&index, choice)| (index, !choice.calls.is_empty()))
            .collect();
        if !owed.is_empty() && !done {
            return Err(Failure::Broken("it ended without a reason for its end".to_owned()));
        }
        for (index, called) in owed {
            let reason = if called { "tool_calls" } else { "stop" };
            let mut chunk = Members::new();
            self.complete(&mut chunk, head.clone());
            let choice = serde_json::json!([{ "index": index, "delta": {}, "finish_reason": reason }]);
            chunk.insert("choices".to_owned(), raw(&choice));
            chunk.insert("usage".to_owned(), null());
            rest.push(line(&chunk));
        }
        rest.extend(self.usage.take().map(|usage| line(&usage)));
        Ok(rest)
    }

    fn complete(&self, chunk: &mut Members, head: Head) {
        chunk.insert("id".to_owned(), head.id);
        chunk.insert("object".to_owned(), raw("chat.completion.chunk"));
        chunk.insert("created".to_owned(), head.created);
        if text(chunk, "model").is_none() {
            chunk.insert("model".to_owned(), raw(&self.model));
        }
    }

    fn choice(&mut self, mut choice: Members) -> Result<Members, Failure> {
        let index = number(&choice, "index").unwrap_or(0);
        let so_far = self.choices.entry(index).or_default();
        let mut delta: Members = given(&choice, "delta").map_or(Ok(Members::new()), read)?;
        if std::mem::replace(&mut so_far.has_role, true) {
            delta.shift_remove("role");
        } else if text(&delta, "role").is_none() {
            delta.insert("role".to_owned(), raw("assistant"));
        }
        match given(&delta, "tool_calls") {
            Some(calls) => {
                let calls: Vec<Members> = read(calls)?;
                let calls = calls.into_iter().map(|call| so_far.call(call));
                let calls = calls.collect::<Result<Vec<Members>, Failure>>()?;
                delta.insert("tool_calls".to_owned(), raw(&calls));
            }
            None => {
                delta.shift_remove("tool_calls");
            }
        }
        let reason = match text(&choice, "finish_reason") {
            Some(_) if so_far.finished => null(),
            Some(reason) => {
                so_far.finished = true;
                raw(&reason_of(&reason, !so_far.calls.is_empty()))
            }
            None => null(),
        };
        choice.insert("index".to_owned(), raw(&index));
        choice.insert("delta".to_owned(), raw(&delta));
        choice.insert("finish_reason".to_owned(), reason);
        Ok(choice)
    }
}

impl Choice {
    /// A fragment of a call, with its number; what came before does not come again.
    fn call(&mut self, mut fragment: Members) -> Result<Members, Failure> {
        let (theirs, id) = (number(&fragment, "index"), text(&fragment, "id"));
        let known = match &id {
            Some(id) => self.calls.iter().rposition(|call| match &call.id {
                Some(known) => known == id,
                None => theirs.is_some() && call.number == theirs,
            }),
            // Without id and number it goes on with the last one.
            None => match theirs {
                Some(_) => self.calls.iter().rposition(|call| call.number == theirs),
                None => self.calls.len().checked_sub(1),
            },
        };
        let is_new = known.is_none();
        let at = known.unwrap_or_else(|| {
            self.calls.push(Call { number: theirs, id: None, has_name: false });
            self.calls.len() - 1
        });
        let call = &mut self.calls[at];
        fragment.insert("index".to_owned(), raw(&at));
        if is_new {
            let id = id.unwrap_or_else(|| format!("call_{:024x}", rand::random::<u128>() >> 32));
            fragment.insert("id".to_owned(), raw(&id));
            if text(&fragment, "type").is_none() {
                fragment.insert("type".to_owned(), raw("function"));
            }
            call.id = Some(id);
        } else {
            fragment.shift_remove("id");
            fragment.shift_remove("type");
        }
        if let Some(function) = given(&fragment, "function") {
            let mut function: Members = read(function)?;
            if call.has_name || text(&function, "name").is_none() {
                function.shift_remove("name");
            } else {
                call.has_name = true;
            }
            arguments_as_text(&mut function);
            fragment.insert("function".to_owned(), raw(&function));
        }
        Ok(fragment)
    }
}

/// A whole completion, with what it lacks of what clients rely on.
///
/// # Errors
/// It is no completion.
pub(crate) fn completion(mut whole: Members, model: &str) -> Result<RawJson, Failure> {
    let choices = given(&whole, "choices").ok_or_else(|| unreadable("it has no `choices`"))?;
    let mut choices: Vec<Members> = read(choices)?;
    for (index, choice) in choices.iter_mut().enumerate() {
        if number(choice, "index").is_none() {
            choice.insert("index".to_owned(), raw(&index));
        }
        let message = given(choice, "message").ok_or_else(|| unreadable("a choice has no `message`"))?;
        let mut message: Members = read(message)?;
        let mut called = false;
        if let Some(calls) = given(&message, "tool_calls") {
            let mut calls: Vec<Members> = read(calls)?;
            called = !calls.is_empty();
            for call in &mut calls {
                if let Some(function) = given(call, "function") {
                    let mut function: Members = read(function)?;
                    arguments_as_text(&mut function);
                    call.insert("function".to_owned(), raw(&function));
                }
            }
            message.insert("tool_calls".to_owned(), raw(&calls));
            choice.insert("message".to_owned(), raw(&message));
        }
        if let Some(reason) = text(choice, "finish_reason") {
            choice.insert("finish_reason".to_owned(), raw(&reason_of(&reason, called)));
        }
    }
    whole.insert("choices".to_owned(), raw(&choices));
    if text(&whole, "id").is_none() {
        whole.insert("id".to_owned(), raw(&new_id()));
    }
    whole.insert("object".to_owned(), raw("chat.completion"));
    if number(&whole, "created").is_none() {
        whole.insert("created".to_owned(), raw(&now()));
    }
    if text(&whole, "model").is_none() {
        whole.insert("model".to_owned(), raw(model));
    }
    Ok(line(&whole))
}

/// Some say `stop` after calls of functions, and clients then do not make them.
fn reason_of(reason: &str, called: bool) -> String {
    if called && reason == "stop" { "tool_calls".to_owned() } else { reason.to_owned() }
}

/// Some send arguments as an object, or as null.
fn arguments_as_text(function: &mut Members) {
    let Some(arguments) = function.get("arguments") else { return };
    let arguments = match arguments.get().as_bytes().first() {
        Some(b'"') => return,
        _ if arguments.get() == "null" => raw(""),
        _ => raw(arguments.get()),
    };
    function.insert("arguments".to_owned(), arguments);
}

/// Reads a part of an answer.
///
/// # Errors
/// The answer is not what it should be.
pub(crate) fn read<'a, T: serde::Deserialize<'a>>(value: &'a RawValue) -> Result<T, Failure> {
    serde_json::from_str(value.get()).map_err(|error| unreadable(&error.to_string()))
}

fn unreadable(why: &str) -> Failure {
    Failure::Unreadable(why.to_owned())
}

fn new_id() -> String {
    let mut id = String::with_capacity(41);
    write!(id, "chatcmpl-{:032x}", rand::random::<u128>()).expect("a string takes everything");
    id
}

fn now() -> u64 {
    // A clock before 1970 is no reason to refuse an answer.
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn members(value: &Value) -> Members {
        serde_json::from_str(&value.to_string()).unwrap()
    }

    fn chunk(choice: Value) -> Value {
        json!({ "id": "c", "object": "chat.completion.chunk", "created": 7, "model": "m", "choices": [choice] })
    }

    /// What clients get of these chunks.
    fn passed(chunks: &[Value], done: bool) -> Result<Vec<Value>, Failure> {
        let mut state = Chunks::new("m".to_owned());
        let mut found = Vec::new();
        for chunk in chunks {
            found.extend(state.take(members(chunk))?);
        }
        found.extend(state.end(done)?);
        Ok(found.iter().map(|chunk| chunk.read().unwrap()).collect())
    }

    fn deltas(chunks: &[Value]) -> Vec<Value> {
        chunks.iter().map(|chunk| chunk["choices"][0]["delta"].clone()).collect()
    }

    #[test]
    fn what_is_right_goes_on_as_it_came() {
        let text = r#"{"id":"c","object":"chat.completion.chunk","created":7,"model":"x","choices":[{"index":0,"delta":{"role":"assistant","content":"a","new":1.50},"logprobs":{"p":-1.0e0},"finish_reason":null}],"usage":null,"service_tier":"t"}"#;
        let mut state = Chunks::new("m".to_owned());
        let passed = state.take(serde_json::from_str(text).unwrap()).unwrap().unwrap();
        assert_eq!(passed.as_str(), text);
    }

    #[test]
    fn what_is_lacking_is_added_once_and_stays_the_same() {
        let chunks = passed(
            &[
                json!({ "choices": [{ "delta": { "content": "a" } }] }),
                json!({ "id": "other", "created": 9, "choices": [{ "index": 0, "delta": { "content": "b" } }] }),
                json!({ "choices": [{ "delta": {}, "finish_reason": "stop" }] }),
            ],
            false,
        )
        .unwrap();
        assert!(chunks[0]["id"].as_str().unwrap().starts_with("chatcmpl-"));
        for chunk in &chunks {
            assert_eq!((&chunk["id"], &chunk["created"]), (&chunks[0]["id"], &chunks[0]["created"]));
            assert_eq!((&chunk["model"], &chunk["usage"]), (&json!("m"), &Value::Null));
        }
        assert_eq!(
            deltas(&chunks),
            [json!({ "content": "a", "role": "assistant" }), json!({ "content": "b" }), json!({})]
        );
        let reasons: Vec<&Value> =
            chunks.iter().map(|chunk| &chunk["choices"][0]["finish_reason"]).collect();
        assert_eq!(reasons, [&Value::Null, &Value::Null, &json!("stop")]);
    }

    #[test]
    fn the_role_comes_once_for_each_choice() {
        let role = |index: u64| {
            chunk(
                json!({ "index": index, "delta": { "role": "assistant", "content": "" }, "finish_reason": null }),
            )
        };
        let chunks = passed(&[role(0), role(1), role(0), role(1)], true).unwrap();
        let has_role: Vec<bool> =
            chunks[..4].iter().map(|chunk| chunk["choices"][0]["delta"].get("role").is_some()).collect();
        assert_eq!(has_role, [true, true, false, false]);
        let reasons: Vec<&Value> =
            chunks[4..].iter().map(|chunk| &chunk["choices"][0]["finish_reason"]).collect();
        assert_eq!(reasons, ["stop", "stop"], "the upstream said that it is done");
    }

    #[test]
    fn the_usage_comes_last_and_alone_wherever_the_upstream_put_it() {
        let usage = json!({ "total_tokens": 3 });
        let mut end = chunk(json!({ "index": 0, "delta": {}, "finish_reason": "stop" }));
        end["usage"] = usage.clone();
        end["timings"] = json!({ "n": 1 });
        let chunks = passed(std::slice::from_ref(&end), false).unwrap();
        assert_eq!((&chunks[0]["usage"], &chunks[0]["timings"]["n"]), (&Value::Null, &json!(1)));
        assert_eq!((&chunks[1]["choices"], &chunks[1]["usage"]), (&json!([]), &usage));
        assert_eq!(chunks[1]["id"], "c");

        let own = json!({ "id": "c", "choices": [], "usage": { "total_tokens": 4 }, "mine": true });
        let chunks = passed(&[end, own], true).unwrap();
        assert_eq!(chunks.len(), 2);
        assert_eq!((&chunks[1]["usage"]["total_tokens"], &chunks[1]["mine"]), (&json!(4), &json!(true)));
    }

    #[test]
    fn a_stream_that_nobody_finished_is_broken() {
        let begun = chunk(json!({ "index": 0, "delta": { "content": "a" }, "finish_reason": null }));
        assert!(matches!(passed(&[begun], false), Err(Failure::Broken(_))));
        for done in [true, false] {
            assert!(matches!(passed(&[], done), Err(Failure::Broken(_))), "nothing is no answer");
        }
    }

    #[test]
    fn fragments_of_calls_are_numbered_and_say_who_they_are_once() {
        let call = |call: Value| chunk(json!({ "index": 0, "delta": { "tool_calls": [call] } }));
        let f = |arguments: &str| json!({ "name": "f", "arguments": arguments });
        let chunks = passed(
            &[
                call(json!({ "index": 0, "id": "1", "type": "function", "function": f("a") })),
                call(json!({ "index": 0, "id": "1", "type": "function", "function": f("b") })),
                call(json!({ "index": 0, "id": "", "function": { "name": "", "arguments": "c" } })),
                // Another id under the same number is another call.
                call(json!({ "index": 0, "id": "2", "function": f("d") })),
                call(json!({ "function": { "arguments": { "e": 1 } } })),
                chunk(json!({ "index": 0, "delta": { "tool_calls": null }, "finish_reason": "stop" })),
            ],
            true,
        )
        .unwrap();
        let calls: Vec<Value> =
            deltas(&chunks).iter().map(|delta| delta["tool_calls"][0].clone()).collect();
        assert_eq!(
            calls[..5],
            [
                json!({ "index": 0, "id": "1", "type": "function", "function": f("a") }),
                json!({ "index": 0, "function": { "arguments": "b" } }),
                json!({ "index": 0, "function": { "arguments": "c" } }),
                json!({ "index": 1, "id": "2", "function": f("d"), "type": "function" }),
                json!({ "index": 1, "function": { "arguments": "{\"e\":1}" } }),
            ]
        );
        assert_eq!(chunks[5]["choices"][0]["finish_reason"], "tool_calls");
        assert_eq!(chunks[5]["choices"][0]["delta"], json!({}));
    }

    #[test]
    fn several_whole_calls_in_one_delta_are_told_apart() {
        let calls = json!([{ "function": { "name": "f" } }, { "id": "x", "function": { "name": "g" } }]);
        let delta = json!({ "tool_calls": calls });
        let chunks =
            passed(&[chunk(json!({ "index": 0, "delta": delta, "finish_reason": "tool_calls" }))], true)
                .unwrap();
        let calls = chunks[0]["choices"][0]["delta"]["tool_calls"].as_array().unwrap();
        assert_eq!((&calls[0]["index"], &calls[1]["index"]), (&json!(0), &json!(1)));
        assert!(calls[0]["id"].as_str().unwrap().starts_with("call_"));
        assert_eq!(calls[1]["id"], "x");
    }

    #[test]
    fn a_whole_completion_can_be_streamed() {
        let call = json!({ "id": "1", "type": "function", "function": { "name": "f", "arguments": "{}" } });
        let message = json!({ "role": "assistant", "content": "a", "tool_calls": [call] });
        let whole = json!({
            "id": "c", "object": "chat.completion", "created": 7, "model": "x", "usage": { "total_tokens": 3 },
            "choices": [{ "index": 0, "message": message, "logprobs": { "content": [] }, "finish_reason": "tool_calls" }],
        });
        let chunks = Chunks::new("m".to_owned()).of_whole(members(&whole)).unwrap();
        let chunks: Vec<Value> = chunks.iter().map(|chunk| chunk.read().unwrap()).collect();
        let numbered = json!({ "id": "1", "type": "function", "function": { "name": "f", "arguments": "{}" }, "index": 0 });
        assert_eq!(
            chunks[0]["choices"],
            json!([{
                "index": 0, "logprobs": { "content": [] }, "finish_reason": null,
                "delta": { "role": "assistant", "content": "a", "tool_calls": [numbered] },
            }])
        );
        assert_eq!(
            chunks[1]["choices"],
            json!([{ "index": 0, "finish_reason": "tool_calls", "delta": {} }])
        );
        assert_eq!((&chunks[2]["choices"], &chunks[2]["usage"]["total_tokens"]), (&json!([]), &json!(3)));
        assert!(
            chunks.iter().all(|chunk| chunk["object"] == "chat.completion.chunk" && chunk["model"] == "x")
        );
        assert!(Chunks::new("m".to_owned()).of_whole(members(&json!({ "choices": [] }))).is_err());
    }

    #[test]
    fn a_whole_completion_gets_what_it_lacks_and_keeps_the_rest() {
        let call =
            json!({ "id": "1", "type": "function", "function": { "name": "f", "arguments": { "a": 1 } } });
        let whole = json!({
            "choices": [{ "message": { "role": "assistant", "tool_calls": [call] }, "finish_reason": "stop" }],
            "timings": { "n": 1 },
        });
        let passed: Value = completion(members(&whole), "m").unwrap().read().unwrap();
        let choice = &passed["choices"][0];
        assert_eq!((&choice["index"], &choice["finish_reason"]), (&json!(0), &json!("tool_calls")));
        assert_eq!(choice["message"]["tool_calls"][0]["function"]["arguments"], "{\"a\":1}");
        assert_eq!((&passed["timings"]["n"], &passed["model"]), (&json!(1), &json!("m")));
        for wrong in [json!({}), json!({ "choices": 1 }), json!({ "choices": [{}] })] {
            assert!(completion(members(&wrong), "m").is_err(), "{wrong}");
        }
    }
}
