//! What may be written down of what was asked and answered: without secrets and files, and cut.
//!
//! Only for keys that an operator has turned this on for. And of an error's text: without anything that the
//! request had in it, whoever the key belongs to. The invariant: a value that is or may be a secret leaves this
//! file as stars.

use std::fmt::Write;

use serde_json::Value;

/// How much is kept of a body, in bytes.
pub(super) const MOST_KEPT: usize = 16 << 10;
/// How much of an answer is gathered before it is redacted.
pub(super) const MOST_GATHERED: usize = 64 << 10;
/// How much is kept of an error's text.
const MOST_OF_ERROR: usize = 500;
/// A run of this many characters that an error shares with the request is the request's.
const SHARED: usize = 12;
/// A text without white space that is longer than this is a file, and no word.
const LONGEST_WORD: usize = 1_024;
const STARS: &str = "***";

/// A whole body, redacted and cut.
pub(super) fn body(text: &str) -> String {
    let redacted = match serde_json::from_str::<Value>(text) {
        Ok(mut value) => {
            redact(&mut value);
            value.to_string()
        }
        // Not whole, or not JSON: its words are all that is known of it.
        Err(_) => words(text),
    };
    cut(redacted, MOST_KEPT)
}

/// The parts of a stream, each a line of its own, redacted and cut.
pub(super) fn parts(lines: &str) -> String {
    let mut whole = String::new();
    for line in lines.lines() {
        if whole.len() > MOST_KEPT {
            break;
        }
        whole.push_str(&body(line));
        whole.push('\n');
    }
    cut(whole, MOST_KEPT)
}

/// The text of an error, without what it repeats of the request, and cut.
pub(super) fn error(message: &str, request: Option<&str>) -> String {
    let text = match request {
        Some(request) => without(message, request),
        None => message.to_owned(),
    };
    cut(words(&text), MOST_OF_ERROR)
}

fn redact(value: &mut Value) {
    match value {
        Value::String(text) => {
            if let Some(other) = of_text(text) {
                *text = other;
            }
        }
        Value::Array(items) => items.iter_mut().for_each(redact),
        Value::Object(members) => {
            for (name, member) in members.iter_mut() {
                if is_secret(name) && !(member.is_number() || member.is_boolean() || member.is_null()) {
                    *member = Value::from(STARS);
                } else {
                    redact(member);
                }
            }
        }
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

/// Whether a member of this name holds a secret.
fn is_secret(name: &str) -> bool {
    let name = name.to_ascii_lowercase().replace(['-', '_'], "");
    ["password", "secret", "token", "apikey", "authorization", "credential", "cookie"]
        .iter()
        .any(|word| name.ends_with(word))
}

/// What stands for a text that has a secret in it or is a file.
fn of_text(text: &str) -> Option<String> {
    let is_file = text.starts_with("data:")
        || (text.len() > LONGEST_WORD && !text.bytes().any(|byte| byte.is_ascii_whitespace()));
    if is_file {
        return Some(format!("[{} bytes]", text.len()));
    }
    let redacted = words(text);
    (redacted != text).then_some(redacted)
}

/// The text, with stars for the words that look like credentials.
fn words(text: &str) -> String {
    let mut redacted = String::with_capacity(text.len());
    let is_part = |letter: char| {
        letter.is_ascii_alphanumeric() || matches!(letter, '-' | '_' | '.' | '+' | '/' | '=')
    };
    let mut rest = text;
    while let Some(start) = rest.find(is_part) {
        let (before, from) = rest.split_at(start);
        let (word, after) = from.split_at(from.find(|letter| !is_part(letter)).unwrap_or(from.len()));
        redacted.push_str(before);
        redacted.push_str(if is_credential(word) { STARS } else { word });
        rest = after;
    }
    redacted.push_str(rest);
    redacted
}

/// Whether a word has the form of a credential: one of known beginnings, or long and without any sense.
fn is_credential(word: &str) -> bool {
    const BEGINNINGS: [&str; 13] = [
        "sk-",
        "pk-",
        "rk_",
        "bkg_",
        "ghp_",
        "gho_",
        "ghs_",
        "github_pat_",
        "xox",
        "glpat-",
        "AKIA",
        "AIza",
        "eyJ",
    ];
    const LONG: usize = 40;
    let begins = word.len() >= 12 && BEGINNINGS.iter().any(|beginning| word.starts_with(beginning));
    let is_random = word.len() >= LONG
        && !word.contains('/')
        && word.bytes().any(|byte| byte.is_ascii_digit())
        && word.bytes().any(|byte| byte.is_ascii_alphabetic());
    begins || is_random
}

/// The message without the runs of characters that the request has too.
fn without(message: &str, request: &str) -> String {
    // A request is JSON: what it says is compared as it stands there, and as it is meant.
    let meant = meant(request);
    let is_shared = |run: &str| request.contains(run) || meant.contains(run);
    let letters: Vec<(usize, char)> = message.char_indices().collect();
    let end_of = |index: usize| letters.get(index).map_or(message.len(), |(at, _)| *at);
    let mut text = String::new();
    let mut index = 0;
    while index < letters.len() {
        let run = &message[end_of(index)..end_of((index + SHARED).min(letters.len()))];
        if index + SHARED > letters.len() || !is_shared(run) {
            text.push(letters[index].1);
            index += 1;
            continue;
        }
        let mut end = index + SHARED;
        while end < letters.len() && is_shared(&message[end_of(index)..end_of(end + 1)]) {
            end += 1;
        }
        text.push('…');
        index = end;
    }
    text
}

/// All texts of a JSON value, one after the other.
fn meant(request: &str) -> String {
    fn gather(value: &Value, into: &mut String) {
        match value {
            Value::String(text) => {
                let _ = writeln!(into, "{text}");
            }
            Value::Array(items) => items.iter().for_each(|item| gather(item, into)),
            Value::Object(members) => members.values().for_each(|member| gather(member, into)),
            Value::Null | Value::Bool(_) | Value::Number(_) => {}
        }
    }
    let mut text = String::new();
    if let Ok(value) = serde_json::from_str(request) {
        gather(&value, &mut text);
    }
    text
}

/// At most so many bytes of a text, with a mark where it was cut.
fn cut(mut text: String, most: usize) -> String {
    if text.len() > most {
        text.truncate(text.floor_char_boundary(most));
        text.push('…');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_and_files_do_not_stay_in_a_body() {
        let asked = format!(
            r#"{{"model":"m","max_tokens":5,"api_key":"hunter2","messages":[{{"content":"use sk-abcdefghijkl0123 now"}},
               {{"url":"data:image/png;base64,AAAA"}},{{"blob":"{}"}}]}}"#,
            "A".repeat(2_000)
        );
        assert_eq!(
            body(&asked),
            r#"{"model":"m","max_tokens":5,"api_key":"***","messages":[{"content":"use *** now"},{"url":"[26 bytes]"},{"blob":"[2000 bytes]"}]}"#
        );
        assert_eq!(body("no JSON, Bearer bkg_sk_0123456789abcdef"), "no JSON, Bearer ***");
        assert_eq!(body(r#"{"token":null,"total_tokens":3}"#), r#"{"token":null,"total_tokens":3}"#);
    }

    #[test]
    fn a_long_body_is_cut() {
        let long = format!(r#""{}""#, "word ".repeat(10_000));
        let kept = body(&long);
        assert!(kept.len() <= MOST_KEPT + '…'.len_utf8() && kept.ends_with('…'));
        assert_eq!(parts("1\n{\"a\":2}\n"), "1\n{\"a\":2}\n");
    }

    #[test]
    fn an_error_repeats_nothing_of_the_request() {
        let request = r#"{"messages":[{"content":"my secret diary is \"here\" today"}]}"#;
        assert_eq!(
            error("cannot read `my secret diary is \"here\" today`: too long", Some(request)),
            "cannot read `…`: too long"
        );
        assert_eq!(error("upstream `a` answered 500", Some(request)), "upstream `a` answered 500");
        assert_eq!(error("wrong key sk-abcdefghijkl0123", None), "wrong key ***");
        assert!(error(&"x y ".repeat(1_000), None).len() <= MOST_OF_ERROR + '…'.len_utf8());
    }
}
