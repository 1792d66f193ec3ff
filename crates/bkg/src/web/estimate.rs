//! How many tokens a request to a model may take, and how many there were where nobody said.
//!
//! Not a tokeniser: models have different ones. Four bytes of text count as a token, and an image that is in
//! the text as a fixed number. The invariant: it reads the text once and keeps nothing of it.

use serde::Deserialize;
use serde_json::value::RawValue;

use bkg_protocol::RawJson;

/// How many bytes of text count as a token.
const BYTES_OF_TOKEN: usize = 4;
/// What an image or another file that is written into the text counts as, in tokens: its bytes say nothing.
const TOKENS_OF_FILE: u64 = 1_000;
/// The members of an answer that a model has written.
const WRITTEN: [&str; 5] =
    ["\"content\"", "\"arguments\"", "\"reasoning_content\"", "\"reasoning\"", "\"text\""];

/// What a request says about the length and the form of its answer.
#[derive(Debug, Default, Deserialize)]
pub(super) struct Wishes<'a> {
    /// The model.
    #[serde(borrow)]
    model: Option<&'a RawValue>,
    #[serde(borrow)]
    max_tokens: Option<&'a RawValue>,
    #[serde(borrow)]
    max_completion_tokens: Option<&'a RawValue>,
    #[serde(borrow)]
    n: Option<&'a RawValue>,
    #[serde(borrow)]
    stream: Option<&'a RawValue>,
}

impl<'a> Wishes<'a> {
    /// Reads them. What does not fit is for the plugin to refuse, and counts as not said.
    pub(super) fn read(body: &'a RawJson) -> Self {
        serde_json::from_str(body.as_str()).unwrap_or_default()
    }

    /// The model that is named.
    pub(super) fn model(&self) -> Option<String> {
        serde_json::from_str(self.model?.get()).ok()
    }

    /// How many tokens each answer may have at most, if the request says so.
    pub(super) fn longest_answer(&self) -> Option<u64> {
        number(self.max_completion_tokens).or_else(|| number(self.max_tokens))
    }

    /// How many answers are wanted.
    pub(super) fn answers(&self) -> u64 {
        number(self.n).unwrap_or(1).max(1)
    }

    /// Whether the answer is wanted as a stream.
    pub(super) fn is_stream(&self) -> bool {
        self.stream.is_some_and(|value| value.get() == "true")
    }
}

fn number(value: Option<&RawValue>) -> Option<u64> {
    serde_json::from_str(value?.get()).ok()
}

/// How many tokens a request has, about.
pub(super) fn prompt_tokens(body: &str) -> u64 {
    const FILE: &str = "\"data:";
    let (mut text, mut files, mut rest) = (0, 0, body);
    while let Some(at) = rest.find(FILE) {
        text += at;
        files += 1;
        let file = &rest[at + 1..];
        // Such an address has no quotes inside.
        rest = file.find('"').map_or("", |end| &file[end + 1..]);
    }
    ((text + rest.len()).div_ceil(BYTES_OF_TOKEN) as u64).saturating_add(files * TOKENS_OF_FILE)
}

/// How many bytes of text a model has written into an answer, or into a part of one.
pub(super) fn written_bytes(answer: &str) -> usize {
    let mut bytes = 0;
    for name in WRITTEN {
        let mut rest = answer;
        while let Some(at) = rest.find(name) {
            let is_inside = rest[..at].ends_with('\\');
            rest = &rest[at + name.len()..];
            let value = rest.trim_start().strip_prefix(':').map(str::trim_start);
            let Some(value) = value.and_then(|value| value.strip_prefix('"')).filter(|_| !is_inside) else {
                continue;
            };
            let length = text_length(value);
            bytes += length;
            rest = &value[length..];
        }
    }
    bytes
}

/// How many tokens so many bytes are.
pub(super) fn tokens_of(bytes: usize) -> u64 {
    bytes.div_ceil(BYTES_OF_TOKEN) as u64
}

/// How long a JSON text is whose opening quote stands before `rest`, in bytes.
fn text_length(rest: &str) -> usize {
    let mut escaped = false;
    for (index, byte) in rest.bytes().enumerate() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' => escaped = true,
            b'"' => return index,
            _ => {}
        }
    }
    rest.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn four_bytes_are_a_token_and_a_file_is_a_thousand() {
        assert_eq!(prompt_tokens(""), 0);
        assert_eq!(prompt_tokens("12345"), 2);
        let image = format!(r#"{{"url":"data:image/png;base64,{}","b":1}}"#, "A".repeat(100_000));
        assert_eq!(prompt_tokens(&image), 1_000 + (r#"{"url":,"b":1}"#.len() as u64).div_ceil(4));
        assert_eq!(prompt_tokens(r#"{"url":"data:cut off"#), 1_000 + 2);
    }

    #[test]
    fn what_a_model_has_written_is_told_from_what_is_around_it() {
        for (answer, bytes) in [
            (r#"{"choices":[{"delta":{"content":"abc"}}]}"#, 3),
            (
                r#"{"choices":[{"message":{"content" : "a\"b\\","tool_calls":[{"function":{"arguments":"{}"}}]}}]}"#,
                8,
            ),
            (r#"{"content":null,"usage":{}}"#, 0),
            (r#"{"x":"\"content\":\"abc\""}"#, 0),
            (r#"{"content":"cut"#, 3),
            ("1", 0),
        ] {
            assert_eq!(written_bytes(answer), bytes, "{answer}");
        }
    }

    #[test]
    fn wishes_that_make_no_sense_count_as_not_said() {
        let body = |text: &str| RawJson::parse(text.to_owned()).unwrap();
        let told = body(r#"{"model":"m","max_tokens":5,"max_completion_tokens":7,"n":2,"stream":true}"#);
        let wishes = Wishes::read(&told);
        assert_eq!(
            (wishes.model().as_deref(), wishes.longest_answer(), wishes.answers()),
            (Some("m"), Some(7), 2)
        );
        assert!(wishes.is_stream());
        let odd = body(r#"{"model":1,"max_tokens":-5,"n":null,"stream":"yes"}"#);
        let wishes = Wishes::read(&odd);
        assert_eq!((wishes.model(), wishes.longest_answer(), wishes.answers()), (None, None, 1));
        assert!(!wishes.is_stream());
        assert_eq!(Wishes::read(&body("[1]")).longest_answer(), None);
    }
}
