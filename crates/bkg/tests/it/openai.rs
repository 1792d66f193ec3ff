//! What OpenAI's clients depend on, as bytes: what the SDKs themselves show is in `../clients`.

use bytes::Bytes;
use http::{Method, Request};
use http_body_util::Full;
use serde_json::{Value, json};

use crate::host::{TestHost, chat, events, header, keys};

fn with(mut body: Value, key: &str, value: Value) -> Value {
    body[key] = value;
    body
}

const CHAT: &str = "/v1/chat/completions";
const JSON: &str = "application/json";

#[tokio::test]
async fn every_error_has_the_four_keys_and_a_request_id() {
    let host = TestHost::builder().start().await;
    let authorized = format!("Bearer {}", host.key());
    let chat_body = chat("m", "hi").to_string();
    let deep = format!("{}{}", "[".repeat(100), "]".repeat(100));
    let table = [
        ("GET", "/v1/models", None::<&str>, "", "", 401, "invalid_api_key"),
        ("GET", "/v1/models", Some("Bearer bkg_root_wrong"), "", "", 401, "invalid_api_key"),
        ("GET", "/v1/models", Some("Basic abc"), "", "", 401, "invalid_api_key"),
        ("GET", "/v1/nothing", Some(&authorized), "", "", 404, "not_found"),
        // Which routes there are is no secret, so a wrong address is one before the key is looked at.
        ("GET", "/v1/nothing", None, "", "", 404, "not_found"),
        ("GET", "/nothing", None, "", "", 404, "not_found"),
        ("GET", CHAT, Some(&authorized), "", "", 405, "method_not_allowed"),
        ("POST", CHAT, Some(&authorized), JSON, "{", 400, "invalid_request"),
        ("POST", CHAT, Some(&authorized), JSON, &deep, 400, "invalid_request"),
        ("POST", CHAT, Some(&authorized), "text/plain", &chat_body, 415, "unsupported_media_type"),
        ("POST", CHAT, Some(&authorized), JSON, "{}", 400, "invalid_request"),
        ("POST", CHAT, Some(&authorized), JSON, &chat_body, 503, "plugin_unavailable"),
    ];
    for (method, path, credential, kind, body, status, code) in table {
        let mut request = Request::builder().method(method).uri(path).header("host", "localhost");
        if let Some(credential) = credential {
            request = request.header("authorization", credential);
        }
        if !kind.is_empty() {
            request = request.header("content-type", kind);
        }
        let request = request.body(Full::new(Bytes::from(body.to_owned()))).unwrap();
        let reply = host.send_request(request).await;
        let what = format!("{method} {path} {body}: {}", reply.text);
        assert_eq!((reply.status.as_u16(), reply.code().as_str()), (status, code), "{what}");
        let error = reply.json()["error"].clone();
        assert_eq!(
            keys(&error).into_keys().collect::<Vec<_>>(),
            ["code", "message", "param", "type"],
            "{what}"
        );
        assert!(error["param"].is_string() || error["param"].is_null(), "{what}");
        assert_eq!(header(&reply, "x-request-id").unwrap().len(), 36, "{what}");
    }
    let reply = host.get(CHAT).await;
    assert_eq!(header(&reply, "allow"), Some("POST"));
}

#[tokio::test]
async fn the_request_reaches_the_plugin_as_it_was_sent() {
    let host = TestHost::with_misbehave().await;
    let body = r#"{"zeta":1.50e3,"model":"test/frame","messages":[{"role":"developer","content":[{"type":"text","text":"é"}]}],"max_completion_tokens":null,"unknown":12345678901234567890}"#;
    let request = host.request(Method::POST, CHAT, Some(body.to_owned()));
    let reply = host.send_request(request).await;
    let answer = reply.json();
    let frame = answer["choices"][0]["message"]["content"].as_str().unwrap();
    assert!(frame.contains(&format!("\"payload\":{body}")), "{frame}");
    let frame: Value = serde_json::from_str(frame).unwrap();
    assert_eq!(frame["correlationId"], header(&reply, "x-request-id").unwrap());
    assert_eq!(frame["caller"]["user"], "root");
}

#[tokio::test]
async fn a_stream_is_events_and_ends_with_done() {
    let host = TestHost::with_misbehave().await;
    let reply = host.post(CHAT, with(chat("test/tools", "hi"), "stream", json!(true))).await;
    assert_eq!(header(&reply, "content-type"), Some("text/event-stream"));
    assert_eq!(header(&reply, "cache-control"), Some("no-cache"));
    assert_eq!(header(&reply, "x-accel-buffering"), Some("no"));
    let events = events(&reply.text);
    assert_eq!(events.last().map(String::as_str), Some("[DONE]"));
    let chunks: Vec<Value> =
        events[..events.len() - 1].iter().map(|event| serde_json::from_str(event).unwrap()).collect();
    assert!(chunks.iter().all(|chunk| chunk["id"] == chunks[0]["id"]), "{chunks:?}");
    assert!(
        chunks.iter().all(|chunk| chunk["choices"].as_array().is_some_and(|c| !c.is_empty())),
        "{chunks:?}"
    );
}

#[tokio::test]
async fn a_stream_that_breaks_ends_with_an_error_and_never_with_done() {
    let host = TestHost::with_misbehave().await;
    let reply = host.post(CHAT, with(chat("test/breaks", "hi"), "stream", json!(true))).await;
    assert_eq!(reply.status, 200, "its first chunk was good");
    let events = events(&reply.text);
    let last: Value = serde_json::from_str(events.last().unwrap()).unwrap();
    assert!(last["error"]["message"].is_string(), "{last}");
    assert!(!reply.text.contains("[DONE]"));
}

#[tokio::test]
async fn a_client_that_leaves_a_stream_cancels_the_work() {
    let host = TestHost::with_misbehave().await;
    let body = with(chat("test/slow", "hi"), "stream", json!(true)).to_string();
    let request = host.request(Method::POST, CHAT, Some(body));
    let response = host.open(request).await;
    assert_eq!((response.status().as_u16(), host.in_flight("misbehave")), (200, 1));
    response.into_body().leave();
    host.until_in_flight("misbehave", 0).await;
    let seen = host.ask("test.cancel_seen", json!({ "withinMs": 5_000 })).await;
    assert_eq!(seen["cancels"][0]["reason"], "caller_gone");
}

#[tokio::test]
async fn an_error_before_the_first_chunk_is_an_ordinary_status() {
    let host = TestHost::with_misbehave().await;
    for (model, status, code) in
        [("test/refuses", 429, "rate_limit_exceeded"), ("test/unauthorized", 502, "plugin_error")]
    {
        let reply = host.post(CHAT, with(chat(model, "hi"), "stream", json!(true))).await;
        assert_eq!((reply.status.as_u16(), reply.code().as_str()), (status, code), "{}", reply.text);
    }
    let reply = host.post(CHAT, chat("test/refuses", "hi")).await;
    assert_eq!(header(&reply, "retry-after"), Some("2"), "1,500 ms are rounded up");
}

#[tokio::test]
async fn an_unknown_model_is_404_with_its_parameter() {
    let host = TestHost::with_misbehave().await;
    let reply = host.post(CHAT, chat("nobody/has-this", "hi")).await;
    assert_eq!((reply.status.as_u16(), reply.code()), (404, "model_not_found".to_owned()));
    assert_eq!(reply.json()["error"]["param"], "model");
    assert_eq!(host.get("/v1/models/nobody/has-this").await.code(), "model_not_found");
}

#[tokio::test]
async fn a_model_with_a_slash_is_found_encoded_or_not() {
    let host = TestHost::with_misbehave().await;
    for path in ["/v1/models/test/slow", "/v1/models/test%2Fslow"] {
        assert_eq!(host.get(path).await.json()["id"], "test/slow", "{path}");
    }
    let list = host.get("/v1/models").await.json();
    assert!(list["data"].as_array().unwrap().iter().any(|model| model["id"] == "test/slow"), "{list}");
}

#[tokio::test]
async fn two_plugins_with_one_model_are_told_apart_by_name() {
    let host =
        TestHost::builder().plugin("misbehave").plugin_as("misbehave", "twin", json!({})).start().await;
    host.start_plugin("misbehave").await;
    host.start_plugin("twin").await;
    let list = host.get("/v1/models").await.json();
    let ids: Vec<&str> =
        list["data"].as_array().unwrap().iter().map(|model| model["id"].as_str().unwrap()).collect();
    for id in ["test/slow", "misbehave/test/slow", "twin/test/slow"] {
        assert!(ids.contains(&id), "{id}: {ids:?}");
    }
    let reply = host.post(CHAT, chat("twin/test/frame", "hi")).await;
    let answer = reply.json();
    let frame = answer["choices"][0]["message"]["content"].as_str().unwrap();
    assert!(frame.contains("\"model\":\"test/frame\""), "{frame}");
}

#[tokio::test]
async fn a_body_over_the_limit_is_413() {
    let host = TestHost::builder().config("limits.body_bytes = 1024").start().await;
    let reply = host.post(CHAT, chat("m", &"x".repeat(2_000))).await;
    assert_eq!((reply.status.as_u16(), reply.code()), (413, "payload_too_large".to_owned()));
}

#[tokio::test]
async fn a_member_of_the_wrong_type_is_named_and_never_guessed() {
    let host = TestHost::builder().start().await;
    let table = [
        (CHAT, json!({ "model": 7 }), Some("model")),
        (CHAT, json!({ "model": "m", "stream": "true" }), Some("stream")),
        (CHAT, json!({ "model": "m", "stream_options": [true] }), Some("stream_options")),
        (CHAT, json!({ "model": "m", "stream_options": { "include_usage": 1 } }), Some("stream_options")),
        (CHAT, json!(["m", false, null]), None),
        ("/v1/completions", json!({ "model": "m", "prompt": "p", "stream": "true" }), Some("stream")),
        ("/v1/completions", json!({ "model": 7, "prompt": "p" }), Some("model")),
        ("/v1/completions", json!({ "model": "m", "prompt": 7 }), Some("prompt")),
        (
            "/v1/embeddings",
            json!({ "model": "m", "input": "i", "encoding_format": 7 }),
            Some("encoding_format"),
        ),
        ("/v1/embeddings", json!(["m", "i", null]), None),
    ];
    for (path, body, param) in table {
        let reply = host.post(path, body.clone()).await;
        assert_eq!(
            (reply.status.as_u16(), reply.code().as_str()),
            (400, "invalid_request"),
            "{path} {body}"
        );
        let error = &reply.json()["error"];
        assert_eq!(error["param"].as_str(), param, "{path} {body}: {error}");
        assert!(!error["message"].as_str().unwrap().contains("struct"), "{error}");
    }
}

#[tokio::test]
async fn two_credentials_are_none() {
    let host = TestHost::builder().start().await;
    let mut request = host.request(Method::GET, "/v1/models", None);
    request.headers_mut().append("authorization", "Bearer bkg_root_other".parse().unwrap());
    let reply = host.send_request(request).await;
    assert_eq!((reply.status.as_u16(), reply.code()), (401, "invalid_api_key".to_owned()));
}

#[tokio::test]
async fn an_older_completion_reaches_the_plugin_with_its_order_and_its_numbers() {
    let host = TestHost::with_misbehave().await;
    let body =
        r#"{"zeta":1.50,"prompt":"p","model":"test/frame","seed":12345678901234567890123,"best_of":1}"#;
    let request = host.request(Method::POST, "/v1/completions", Some(body.to_owned()));
    let answer = host.send_request(request).await.json();
    let frame = answer["choices"][0]["text"].as_str().unwrap();
    let expected = r#"{"zeta":1.50,"model":"test/frame","seed":12345678901234567890123,"messages":[{"role":"user","content":"p"}]}"#;
    assert!(frame.contains(&format!("\"payload\":{expected}")), "{frame}");
}

#[tokio::test]
async fn an_older_completion_streams_no_chunk_that_says_nothing() {
    let host = TestHost::with_misbehave().await;
    let body = json!({ "model": "test/tools", "prompt": "p", "stream": true });
    let reply = host.post("/v1/completions", body).await;
    let events = events(&reply.text);
    let [end, done] = events.as_slice() else { panic!("{events:?}") };
    let end: Value = serde_json::from_str(end).unwrap();
    assert_eq!(
        (&end["object"], &end["choices"][0]["finish_reason"]),
        (&json!("text_completion"), &json!("tool_calls"))
    );
    assert_eq!(done, "[DONE]");
}
