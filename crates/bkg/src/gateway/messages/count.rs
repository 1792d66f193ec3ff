//! How many tokens a prompt has, as an estimate: no plugin is asked, and each model counts differently.
//!
//! The invariant: an estimate is always marked as one.

use bkg_protocol::RawJson;
use schemars::JsonSchema;
use serde::Serialize;
use serde_json::Value;

/// How many bytes a token is taken to have.
const BYTES_PER_TOKEN: u64 = 4;
/// What an image is taken to cost: about what Anthropic says of one of 1,092 by 1,092 pixels
/// (platform documentation, "Vision").
const TOKENS_PER_IMAGE: u64 = 1_600;

/// How many tokens a prompt has.
#[derive(Debug, Serialize, JsonSchema)]
pub(in crate::gateway) struct TokenCount {
    /// The number.
    pub(super) input_tokens: u64,
    /// That it is an estimate: always.
    pub(super) estimated: bool,
}

/// The tokens of a chat's messages and of everything that the model reads besides: its tools and the form of
/// its answer.
pub(super) fn estimate(chat: &RawJson) -> u64 {
    let chat: Value = chat.read().expect("what the translation wrote can be read");
    let mut sum = Sum::default();
    sum.add(&chat["messages"]);
    for read in ["tools", "response_format"] {
        if let Some(value) = chat.get(read) {
            sum.bytes += value.to_string().len() as u64;
        }
    }
    sum.tokens()
}

/// What a text of this many bytes is taken to have.
pub(super) fn of_bytes(bytes: u64) -> u64 {
    bytes.div_ceil(BYTES_PER_TOKEN)
}

#[derive(Default)]
struct Sum {
    bytes: u64,
    images: u64,
}

impl Sum {
    fn tokens(&self) -> u64 {
        of_bytes(self.bytes).saturating_add(self.images.saturating_mul(TOKENS_PER_IMAGE))
    }

    fn add(&mut self, value: &Value) {
        match value {
            Value::String(text) => self.bytes += text.len() as u64,
            Value::Array(values) => values.iter().for_each(|value| self.add(value)),
            Value::Object(members) if members.contains_key("image_url") => self.images += 1,
            Value::Object(members) => members.values().for_each(|value| self.add(value)),
            Value::Null | Value::Bool(_) | Value::Number(_) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn estimated(chat: Value) -> u64 {
        estimate(&RawJson::from(chat))
    }

    #[test]
    fn text_counts_by_its_bytes_and_an_image_by_itself() {
        // `user` is read too: a role costs a token.
        assert_eq!(estimated(json!({ "messages": [{ "role": "user", "content": "" }] })), 1);
        assert_eq!(estimated(json!({ "messages": [{ "role": "user", "content": "12345" }] })), 3);
        let image = json!({ "type": "image_url", "image_url": { "url": "x".repeat(1 << 20) } });
        assert_eq!(estimated(json!({ "messages": [{ "role": "user", "content": [image] }] })), 1 + 1_600);
    }
}
