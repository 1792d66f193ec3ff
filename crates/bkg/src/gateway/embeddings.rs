//! `POST /v1/embeddings`: plugins answer floats, the host encodes them as the client asked.

use std::sync::Arc;

use axum::body::Body;
use axum::response::Response;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bkg_protocol::RawJson;
use serde::de::IgnoredAny;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::Gateway;
use super::chat::json_response;
use crate::dispatcher::Answer;
use crate::error::Problem;
use crate::web::{Call, members};

#[derive(Debug, Deserialize)]
struct EmbeddingRequest {
    model: Option<String>,
    input: Option<Input>,
    encoding_format: Option<String>,
}

/// What may be embedded: a text, texts, a token list or token lists.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum Input {
    Text(#[expect(dead_code, reason = "that it is one text is all that counts here")] String),
    Texts(Vec<String>),
    Tokens(Vec<u32>),
    TokenLists(Vec<Vec<u32>>),
    Other(IgnoredAny),
}

impl Input {
    fn is_usable(&self) -> bool {
        match self {
            Self::Text(_) => true,
            Self::Texts(texts) => !texts.is_empty(),
            Self::Tokens(tokens) => !tokens.is_empty(),
            Self::TokenLists(lists) => !lists.is_empty() && lists.iter().all(|list| !list.is_empty()),
            Self::Other(_) => false,
        }
    }
}

/// How vectors are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Encoding {
    /// As JSON numbers.
    Float,
    /// As base64 of little-endian 32-bit floats: what OpenAI's own clients ask for unless told
    /// otherwise.
    Base64,
}

pub(super) async fn create(gateway: Arc<Gateway>, call: Call, body: Body) -> Result<Response, Problem> {
    let body = call.json(body, &gateway.limits).await?;
    let request: EmbeddingRequest = members(&body)?;
    let encoding = match request.encoding_format.as_deref() {
        None | Some("float") => Encoding::Float,
        Some("base64") => Encoding::Base64,
        Some(other) => {
            let message = format!("`encoding_format` is `{other}`: use `float` or `base64`");
            return Err(Problem::invalid(message).param("encoding_format"));
        }
    };
    if !request.input.as_ref().is_some_and(Input::is_usable) {
        let message =
            "`input` must be a text, a list of texts, a token list or a list of token lists, not empty";
        return Err(Problem::invalid(message).param("input"));
    }
    let model = request.model.as_deref();
    let (answer, mut meter) = gateway.ask(&call, &gateway.embed, model, body, |_| Ok(None)).await?;
    let encoded = match answer {
        Answer::Whole(data) => encode(&data, encoding),
        Answer::Stream(_) => Err(no_embedding("it is a stream")),
    };
    meter.concluded(encoded.map(json_response))
}

/// The plugin's answer as an OpenAI client reads it.
fn encode(answer: &RawJson, encoding: Encoding) -> Result<RawJson, Problem> {
    #[derive(Deserialize)]
    struct Embeddings<'a> {
        #[serde(borrow)]
        data: Vec<Embedding<'a>>,
        #[serde(borrow)]
        model: Option<&'a RawValue>,
        #[serde(borrow)]
        usage: Option<&'a RawValue>,
    }
    #[derive(Deserialize)]
    struct Embedding<'a> {
        index: usize,
        #[serde(borrow)]
        embedding: &'a RawValue,
    }
    #[derive(Serialize)]
    struct List<'a> {
        object: &'static str,
        data: Vec<Entry<'a>>,
        model: Option<&'a RawValue>,
        usage: Option<&'a RawValue>,
    }
    #[derive(Serialize)]
    struct Entry<'a> {
        object: &'static str,
        index: usize,
        embedding: Vector<'a>,
    }
    #[derive(Serialize)]
    #[serde(untagged)]
    enum Vector<'a> {
        Written(&'a RawValue),
        Base64(String),
    }
    let embeddings: Embeddings<'_> =
        serde_json::from_str(answer.as_str()).map_err(|error| no_embedding(&error.to_string()))?;
    let data = embeddings
        .data
        .into_iter()
        .map(|Embedding { index, embedding }| {
            let embedding = match encoding {
                Encoding::Float => Vector::Written(embedding),
                Encoding::Base64 => Vector::Base64(base64_of(embedding)?),
            };
            Ok(Entry { object: "embedding", index, embedding })
        })
        .collect::<Result<_, Problem>>()?;
    let list = List { object: "list", data, model: embeddings.model, usage: embeddings.usage };
    Ok(RawJson::of(&list))
}

fn base64_of(vector: &RawValue) -> Result<String, Problem> {
    let floats: Vec<f32> =
        serde_json::from_str(vector.get()).map_err(|error| no_embedding(&error.to_string()))?;
    let bytes: Vec<u8> = floats.into_iter().flat_map(f32::to_le_bytes).collect();
    Ok(STANDARD.encode(bytes))
}

fn no_embedding(why: &str) -> Problem {
    let message = format!("the plugin's answer is no list of embeddings: {why}");
    Problem::bad_answer(message)
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;

    const ANSWER: &str = r#"{"data":[{"index":0,"embedding":[1.0,-0.5]}],"model":"m","usage":{"prompt_tokens":1,"total_tokens":1}}"#;

    #[test]
    fn floats_keep_their_text_and_base64_is_little_endian() {
        let answer = RawJson::parse(ANSWER).unwrap();
        let float: Value = encode(&answer, Encoding::Float).unwrap().read().unwrap();
        assert_eq!(float["object"], "list");
        assert_eq!(float["data"][0]["object"], "embedding");
        assert_eq!(float["data"][0]["embedding"], serde_json::json!([1.0, -0.5]));
        let base64: Value = encode(&answer, Encoding::Base64).unwrap().read().unwrap();
        assert_eq!(base64["data"][0]["embedding"], STANDARD.encode([0, 0, 128, 63, 0, 0, 0, 191]));
    }

    #[test]
    fn every_form_of_input_is_known_and_empty_ones_are_refused() {
        let usable = |json: &str| serde_json::from_str::<Input>(json).unwrap().is_usable();
        for right in [r#""a""#, r#""""#, r#"["a","b"]"#, "[1,2]", "[[1],[2,3]]"] {
            assert!(usable(right), "{right}");
        }
        for wrong in ["[]", "[[]]", "1", "{}", r#"["a",1]"#, "[-1]"] {
            assert!(!usable(wrong), "{wrong}");
        }
    }
}
