//! `llm.embed`: texts as vectors, as an upstream answers them.
//!
//! Towards the host vectors are plain numbers: packed ones are unpacked here, and the host packs them where a
//! client wants that. Everything else of the answer goes on as it came.

use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bkg_sdk::{RawJson, Request, Result};

use crate::chat::object;
use crate::chunk::read;
use crate::failure::Failure;
use crate::members::{Members, Payload, given, line, number, raw, text};
use crate::reply::Reply;
use crate::roster::{Kind, Roster};

/// Where texts are embedded, below the base of an upstream.
const PATH: &str = "embeddings";

/// The vectors.
pub(crate) async fn answer(request: Request, roster: Arc<Roster>) -> Result<RawJson> {
    let mut payload = Payload::of(&request)?;
    let asked = roster.find(Kind::Embed, &payload.model()?, request.host().name())?;
    payload.set("model", &asked.id);
    // Plain numbers are what an upstream answers that is not asked for anything.
    payload.remove("encoding_format");
    let open = |reply| read_embeddings(reply, asked.id.clone());
    Ok(asked.upstream.ask(&request, PATH, payload.into_body(), open).await?.opened)
}

async fn read_embeddings(reply: Reply, model: String) -> Result<RawJson, Failure> {
    embeddings(&reply.whole().await?, &model)
}

fn embeddings(body: &[u8], model: &str) -> Result<RawJson, Failure> {
    let mut whole = object(body)?;
    let unreadable = |why: &str| Failure::Unreadable(why.to_owned());
    let vectors = given(&whole, "data").ok_or_else(|| unreadable("it has no `data`"))?;
    let mut vectors: Vec<Members> = read(vectors)?;
    for (index, vector) in vectors.iter_mut().enumerate() {
        let numbers =
            given(vector, "embedding").ok_or_else(|| unreadable("a vector has no `embedding`"))?;
        if numbers.get().starts_with('"') {
            let packed: String = read(numbers)?;
            let numbers =
                unpack(&packed).ok_or_else(|| unreadable("a packed vector is no base64 of floats"))?;
            vector.insert("embedding".to_owned(), raw(&numbers));
        } else if !numbers.get().starts_with('[') {
            return Err(unreadable("a vector is no list of numbers"));
        }
        if number(vector, "index").is_none() {
            vector.insert("index".to_owned(), raw(&index));
        }
    }
    whole.insert("data".to_owned(), raw(&vectors));
    if text(&whole, "model").is_none() {
        whole.insert("model".to_owned(), raw(model));
    }
    Ok(line(&whole))
}

/// The numbers of a packed vector: 32-bit floats, the lowest byte first.
fn unpack(packed: &str) -> Option<Vec<f32>> {
    let bytes = STANDARD.decode(packed).ok()?;
    let (floats, rest) = bytes.as_chunks::<4>();
    let floats: Vec<f32> = floats.iter().map(|&bytes| f32::from_le_bytes(bytes)).collect();
    (rest.is_empty() && floats.iter().all(|float| float.is_finite())).then_some(floats)
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    #[test]
    fn packed_vectors_become_numbers_and_the_rest_stays() {
        let body = json!({
            "object": "list", "model": "m", "usage": { "total_tokens": 7 }, "mine": 1,
            "data": [{ "embedding": "AAAAPwAAoL8AAEBA" }, { "index": 1, "embedding": [0.1, 2] }],
        });
        let answer: Value = embeddings(body.to_string().as_bytes(), "x").unwrap().read().unwrap();
        assert_eq!(answer["data"][0], json!({ "embedding": [0.5, -1.25, 3.0], "index": 0 }));
        assert_eq!(answer["data"][1], json!({ "index": 1, "embedding": [0.1, 2] }));
        assert_eq!((&answer["mine"], &answer["usage"]["total_tokens"]), (&json!(1), &json!(7)));
    }

    #[test]
    fn what_holds_no_vectors_is_refused() {
        for body in [
            json!({}),
            json!({ "data": null }),
            json!({ "data": [{}] }),
            json!({ "data": [{ "embedding": "AAA" }] }),
            json!({ "data": [{ "embedding": "AADAfw==" }] }),
            json!({ "data": [{ "embedding": 1 }] }),
            json!([]),
        ] {
            assert!(embeddings(body.to_string().as_bytes(), "x").is_err(), "{body}");
        }
    }
}
