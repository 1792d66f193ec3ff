//! `llm.embed`: vectors that look like a model's and mean nothing.
//!
//! A vector is drawn from the SHA-256 of its input: equal inputs have equal vectors, on every machine
//! and for ever; inputs that mean alike are no closer than others. All vectors have length one.

use bkg_sdk::{RawJson, Request, Result};
use serde::Serialize;
use sha2::{Digest, Sha256};

use crate::embed_request::{EmbedRequest, Input};

/// The length of a vector, unless its caller wants a shorter one.
pub(crate) const DIMENSIONS: usize = 384;

#[derive(Serialize)]
struct Embeddings<'a> {
    object: &'static str,
    data: Vec<Embedding>,
    model: &'a str,
    usage: Usage,
}

#[derive(Serialize)]
struct Embedding {
    object: &'static str,
    index: usize,
    embedding: Vec<f32>,
}

#[derive(Serialize)]
struct Usage {
    prompt_tokens: usize,
    total_tokens: usize,
}

/// The vectors of all inputs.
pub(crate) async fn answer(request: Request) -> Result<RawJson> {
    let body = EmbedRequest::of(&request)?;
    let mut data = Vec::with_capacity(body.inputs().len());
    for (index, input) in body.inputs().iter().enumerate() {
        data.push(Embedding { object: "embedding", index, embedding: vector(input, body.dimensions()) });
        // Thousands of inputs must not keep others waiting, nor go on for a caller who has left.
        tokio::task::yield_now().await;
    }
    let prompt_tokens = body.inputs().iter().map(Input::tokens).sum();
    Ok(RawJson::of(&Embeddings {
        object: "list",
        data,
        model: body.model(),
        usage: Usage { prompt_tokens, total_tokens: prompt_tokens },
    }))
}

/// The first `dimensions` numbers of the input's vector, brought back to length one.
fn vector(input: &Input<'_>, dimensions: usize) -> Vec<f32> {
    let seed = digest(input);
    let mut numbers: Vec<f64> = (0_u64..)
        .flat_map(|block| {
            let block: [u8; 32] =
                Sha256::new().chain_update(seed).chain_update(block.to_le_bytes()).finalize().into();
            block.as_chunks::<4>().0.iter().map(|&bytes| i32::from_le_bytes(bytes)).collect::<Vec<_>>()
        })
        .map(f64::from)
        .take(dimensions)
        .collect();
    // One number alone may be 0, once in four billion inputs.
    if numbers.iter().all(|&number| number == 0.0) {
        numbers[0] = 1.0;
    }
    let length = numbers.iter().map(|number| number * number).sum::<f64>().sqrt();
    numbers.into_iter().map(|number| (number / length) as f32).collect()
}

/// What the input is, in 32 bytes; a text and a list of tokens are never the same.
fn digest(input: &Input<'_>) -> [u8; 32] {
    let mut hasher = Sha256::new();
    match input {
        Input::Text(text) => {
            hasher.update(b"text");
            hasher.update(text.as_bytes());
        }
        Input::Tokens(tokens) => {
            hasher.update(b"tokens");
            for token in tokens {
                hasher.update(token.to_le_bytes());
            }
        }
    }
    hasher.finalize().into()
}

#[cfg(test)]
mod tests {
    use bkg_sdk::testing::TestHost;
    use serde_json::{Value, json};

    use super::*;
    use crate::plugin;

    async fn embed(host: &TestHost, body: Value) -> Value {
        host.request("llm.embed", body).await.unwrap().read().unwrap()
    }

    fn vectors(answer: &Value) -> Vec<Vec<f64>> {
        let data = answer["data"].as_array().unwrap().iter();
        data.map(|item| serde_json::from_value(item["embedding"].clone()).unwrap()).collect()
    }

    fn length(vector: &[f64]) -> f64 {
        vector.iter().map(|number| number * number).sum::<f64>().sqrt()
    }

    #[tokio::test]
    async fn an_answer_has_the_form_that_clients_expect() {
        let host = TestHost::start(plugin()).await;
        let answer =
            embed(&host, json!({ "model": "stand-in-embed", "input": ["one, two", "three"] })).await;
        assert_eq!((&answer["object"], &answer["model"]), (&json!("list"), &json!("stand-in-embed")));
        assert_eq!(answer["usage"], json!({ "prompt_tokens": 4, "total_tokens": 4 }));
        for (index, item) in answer["data"].as_array().unwrap().iter().enumerate() {
            assert_eq!((&item["object"], &item["index"]), (&json!("embedding"), &json!(index)));
            assert_eq!(item["embedding"].as_array().unwrap().len(), 384);
        }
    }

    #[tokio::test]
    async fn vectors_have_length_one_and_depend_on_their_text_alone() {
        let host = TestHost::start(plugin()).await;
        let together = vectors(&embed(&host, json!({ "input": ["one", "two", "one"] })).await);
        let alone = vectors(&embed(&host, json!({ "input": "one" })).await);
        assert!(together.iter().all(|vector| (length(vector) - 1.0).abs() < 1e-6));
        assert_eq!(together[0], together[2]);
        assert_eq!(together[0], alone[0]);
        let cosine: f64 = together[0].iter().zip(&together[1]).map(|(a, b)| a * b).sum();
        assert!(cosine.abs() < 0.3, "two texts have nothing to do with one another: {cosine}");
    }

    #[test]
    fn a_vector_is_the_same_on_every_machine_and_for_ever() {
        let vector = vector(&Input::Text("seven lakes".into()), 384);
        let first: Vec<String> = vector[..4].iter().map(|number| format!("{number:.6}")).collect();
        assert_eq!(first, GOLDEN);
    }

    /// Worked out apart from this code, with another implementation of SHA-256.
    const GOLDEN: [&str; 4] = ["-0.047409", "0.057286", "0.062236", "-0.028756"];

    #[tokio::test]
    async fn every_form_of_input_is_read() {
        let host = TestHost::start(plugin()).await;
        for (input, count, tokens) in [
            (json!("a b"), 1, 2),
            (json!(["a", "b", "c"]), 3, 3),
            (json!([1, 2, 3]), 1, 3),
            (json!([[1, 2], [3]]), 2, 3),
        ] {
            let answer = embed(&host, json!({ "input": input })).await;
            assert_eq!(
                (vectors(&answer).len(), &answer["usage"]["prompt_tokens"]),
                (count, &json!(tokens))
            );
        }
        let tokens = vectors(&embed(&host, json!({ "input": [1] })).await);
        assert_eq!(tokens, vectors(&embed(&host, json!({ "input": [[1]] })).await));
        assert_ne!(tokens, vectors(&embed(&host, json!({ "input": "1" })).await));
    }

    #[tokio::test]
    async fn fewer_dimensions_are_the_first_ones_at_length_one() {
        let host = TestHost::start(plugin()).await;
        let full = vectors(&embed(&host, json!({ "input": "x", "dimensions": null })).await).remove(0);
        let short = vectors(&embed(&host, json!({ "input": "x", "dimensions": 8 })).await).remove(0);
        assert_eq!(short.len(), 8);
        assert!((length(&short) - 1.0).abs() < 1e-6);
        let scale = length(&full[..8]);
        assert!(full.iter().zip(&short).all(|(full, short)| (full / scale - short).abs() < 1e-5));
    }

    #[tokio::test]
    async fn a_body_that_is_wrong_is_refused_by_the_name_of_what_is_wrong() {
        let host = TestHost::start(plugin()).await;
        let cases = [
            (json!({}), "input"),
            (json!({ "input": null }), "input"),
            (json!({ "input": { "text": "x" } }), "input"),
            (json!({ "input": "" }), "input"),
            (json!({ "input": [] }), "input"),
            (json!({ "input": ["a", ""] }), "input"),
            (json!({ "input": [[]] }), "input"),
            (json!({ "input": ["a", 1] }), "input"),
            (json!({ "input": [-1] }), "input"),
            (json!({ "input": [["a"]] }), "input"),
            (json!({ "input": vec!["a"; 2049] }), "input"),
            (json!({ "input": "x", "dimensions": 0 }), "dimensions"),
            (json!({ "input": "x", "dimensions": 385 }), "dimensions"),
            (json!({ "input": "x", "dimensions": "8" }), "dimensions"),
            (json!({ "input": "x", "encoding_format": "octal" }), "encoding_format"),
            (json!({ "input": "x", "encoding_format": 1 }), "encoding_format"),
            (json!({ "input": "x", "model": 1 }), "model"),
        ];
        for (body, param) in cases {
            let error = host.request("llm.embed", body.clone()).await.unwrap_err();
            let found = (error.code.as_str(), error.param.as_deref());
            assert_eq!(found, ("invalid_request", Some(param)), "{body}: {error}");
        }
        let error =
            host.request("llm.embed", json!({ "input": "x", "model": "stand-in" })).await.unwrap_err();
        assert_eq!((error.code.as_str(), error.param.as_deref()), ("not_found", Some("model")));
    }
}
