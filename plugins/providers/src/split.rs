//! A chunk that is larger than the host takes, as several that say the same.
//!
//! Pure. Only the longest text of the one delta is cut; a chunk whose bulk is elsewhere cannot be split.

use bkg_sdk::RawJson;

use crate::chunk::read;
use crate::members::{Members, given, line, null, raw};

/// The chunk in pieces below `limit` bytes each; `None` where that cannot be done.
pub(crate) fn split(chunk: &RawJson, limit: usize) -> Option<Vec<RawJson>> {
    let mut chunk: Members = chunk.read().ok()?;
    let mut choices: Vec<Members> = read(given(&chunk, "choices")?).ok()?;
    let [choice] = &mut choices[..] else { return None };
    let mut delta: Members = read(given(choice, "delta")?).ok()?;
    let reason = choice.get("finish_reason").cloned().unwrap_or_else(null);
    let calls = |delta: &Members| read::<Vec<Members>>(given(delta, "tool_calls")?).ok();
    let (name, longest) = delta.iter().max_by_key(|(_, value)| value.get().len())?;
    let (name, size) = (name.clone(), longest.get().len());
    // A piece of a text is written with six bytes for each of its own at most.
    let most = limit / 8;
    let rest = line(&chunk).as_str().len() - size;

    let mut pieces = Vec::new();
    let mut put = |delta: &Members, reason: Box<serde_json::value::RawValue>| {
        let mut choice = choice.clone();
        choice.insert("delta".to_owned(), raw(delta));
        choice.insert("finish_reason".to_owned(), reason);
        chunk.insert("choices".to_owned(), raw(&[choice]));
        pieces.push(line(&chunk));
    };
    if rest > most {
        return None;
    }
    if name == "tool_calls" {
        let mut calls = calls(&delta)?;
        let [call] = &mut calls[..] else { return None };
        let mut function: Members = read(given(call, "function")?).ok()?;
        let arguments: String = read(given(&function, "arguments")?).ok()?;
        let index = call.get("index").cloned()?;
        let mut parts = cut(&arguments, most).peekable();
        function.insert("arguments".to_owned(), raw(parts.next()?));
        call.insert("function".to_owned(), raw(&function));
        delta.insert(name.clone(), raw(&calls));
        put(&delta, if parts.peek().is_none() { reason.clone() } else { null() });
        while let Some(part) = parts.next() {
            let call = serde_json::json!([{ "index": index, "function": { "arguments": part } }]);
            let delta = Members::from([(name.clone(), raw(&call))]);
            put(&delta, if parts.peek().is_none() { reason.clone() } else { null() });
        }
        return Some(pieces);
    }
    let whole: String = read(delta.get(&name)?).ok()?;
    let mut parts = cut(&whole, most).peekable();
    delta.insert(name.clone(), raw(parts.next()?));
    put(&delta, if parts.peek().is_none() { reason.clone() } else { null() });
    while let Some(part) = parts.next() {
        let delta = Members::from([(name.clone(), raw(part))]);
        put(&delta, if parts.peek().is_none() { reason.clone() } else { null() });
    }
    Some(pieces)
}

/// Parts of at most so many bytes, none of which cuts a character.
fn cut(text: &str, most: usize) -> impl Iterator<Item = &str> {
    let mut rest = text;
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let (part, left) = rest.split_at(rest.floor_char_boundary(most.max(4)));
        rest = left;
        Some(part)
    })
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn pieces(delta: Value) -> Option<Vec<Value>> {
        let choice = json!({ "index": 0, "delta": delta, "finish_reason": "stop" });
        let chunk = RawJson::from(json!({ "id": "c", "choices": [choice], "usage": null }));
        let pieces = split(&chunk, 2_000)?;
        assert!(pieces.iter().all(|piece| piece.as_str().len() <= 2_000));
        Some(pieces.iter().map(|piece| piece.read().unwrap()).collect())
    }

    #[test]
    fn a_long_text_comes_in_pieces_and_the_reason_with_the_last() {
        for text in ["\u{1f3d4}".repeat(900), "\u{0}".repeat(3_000), "x".repeat(9_000)] {
            let pieces = pieces(json!({ "role": "assistant", "content": text })).unwrap();
            let together: String = pieces
                .iter()
                .map(|piece| piece["choices"][0]["delta"]["content"].as_str().unwrap())
                .collect();
            assert_eq!(together, text);
            let (last, earlier) = pieces.split_last().unwrap();
            assert_eq!(last["choices"][0]["finish_reason"], "stop");
            assert!(earlier.iter().all(|piece| piece["choices"][0]["finish_reason"].is_null()));
            assert_eq!(
                pieces.iter().filter(|piece| piece["choices"][0]["delta"]["role"] == "assistant").count(),
                1
            );
        }
    }

    #[test]
    fn long_arguments_come_in_pieces_of_the_same_call() {
        let arguments = "y".repeat(5_000);
        let call = json!({ "index": 3, "id": "1", "function": { "name": "f", "arguments": arguments } });
        let pieces = pieces(json!({ "tool_calls": [call] })).unwrap();
        let calls: Vec<&Value> =
            pieces.iter().map(|piece| &piece["choices"][0]["delta"]["tool_calls"][0]).collect();
        let together: String =
            calls.iter().map(|call| call["function"]["arguments"].as_str().unwrap()).collect();
        assert_eq!(together, arguments);
        assert!(calls.iter().all(|call| call["index"] == 3));
        assert_eq!(calls.iter().filter(|call| call["function"].get("name").is_some()).count(), 1);
    }

    #[test]
    fn what_is_no_text_cannot_be_cut() {
        assert_eq!(pieces(json!({ "content": "a", "image": vec![1; 4_000] })), None);
        assert_eq!(pieces(json!({ "content": "x".repeat(1_500), "reasoning": "x".repeat(1_500) })), None);
    }
}
