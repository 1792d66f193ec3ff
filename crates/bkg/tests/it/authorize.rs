//! `host.authorize`: what a plugin is told about a credential that it was shown itself.

use bkg::registry::State;
use serde_json::{Value, json};

use crate::host::TestHost;

const PROVIDER: &str = "[auth]\nprovider = \"otherauth\"\n";

/// A daemon whose provider is `otherauth`, with a plugin that may ask.
async fn asking() -> TestHost {
    let host = TestHost::builder()
        .plugin("otherauth")
        .plugin_as("misbehave", "misbehave", json!({ "calls": ["host.*"] }))
        .config(PROVIDER)
        .start()
        .await;
    host.start_plugin("misbehave").await;
    host
}

/// The `response` to the plugin's own question.
async fn response(host: &TestHost, payload: Value) -> Value {
    let call = json!({ "capability": "host.authorize", "payload": payload, "asCaller": false });
    host.ask("test.call", call).await["response"].clone()
}

async fn verdict(host: &TestHost, token: &str, scope: &str) -> Value {
    let response = response(host, json!({ "token": token, "scope": scope })).await;
    assert_eq!(response["success"], true, "{response}");
    response["data"].clone()
}

async fn error(host: &TestHost, token: &str, scope: &str) -> Value {
    let response = response(host, json!({ "token": token, "scope": scope })).await;
    assert_eq!(response["success"], false, "{response}");
    response["error"].clone()
}

fn refused(reason: &str) -> Value {
    json!({ "allowed": false, "reason": reason })
}

async fn provider(host: &TestHost, handle: &str, payload: Value) {
    let reply = host.invoke("otherauth", &format!("otherauth.{handle}"), payload).await;
    assert_eq!(reply.status, 200, "{}", reply.text);
}

#[tokio::test]
async fn a_plugin_is_told_what_a_credential_opens() {
    let host = asking().await;
    let token = "test_ada~repo.file.*";
    let allowed = verdict(&host, token, "repo.file.read").await;
    assert_eq!((&allowed["allowed"], &allowed["scopes"]), (&json!(true), &json!(["repo.file.*"])));
    assert!(allowed["user"].is_string() && allowed["keyId"].is_string(), "{allowed}");
    assert_eq!(verdict(&host, token, "repo.command").await, refused("scope"));
    let root = verdict(&host, host.key(), "repo.command").await;
    assert_eq!(root, json!({ "allowed": true, "user": "root", "scopes": ["admin"] }));
}

#[tokio::test]
async fn whatever_opens_nothing_is_answered_alike() {
    let host = asking().await;
    let wrong_root = format!("bkg_root_{}", "A".repeat(43));
    for token in ["", "short", "nothing-is-known-of-this", "with a space in it", &wrong_root] {
        assert_eq!(verdict(&host, token, "repo.command").await, refused("unknown credential"), "{token}");
    }
}

#[tokio::test]
async fn a_revoked_key_is_refused_at_once() {
    let host = asking().await;
    let made = host.post("/admin/keys", json!({ "user": "admin", "scopes": ["llm.chat"] })).await.json();
    let (id, key) = (made["id"].as_str().unwrap(), made["key"].as_str().unwrap());
    let allowed = verdict(&host, key, "llm.chat").await;
    assert_eq!((&allowed["allowed"], &allowed["keyId"]), (&json!(true), &json!(id)));
    let revoke = host.request(http::Method::DELETE, &format!("/admin/keys/{id}"), None);
    assert_eq!(host.send_request(revoke).await.status, 200);
    assert_eq!(verdict(&host, key, "llm.chat").await, refused("unknown credential"));
}

#[tokio::test]
async fn a_key_that_is_narrowed_to_other_plugins_opens_nothing_here() {
    let host = asking().await;
    let make = async |plugins: Value| {
        let key = json!({ "user": "admin", "scopes": ["llm.chat"], "plugins": plugins });
        let made = host.post("/admin/keys", key).await;
        made.json()["key"].as_str().unwrap_or_else(|| panic!("{}", made.text)).to_owned()
    };
    let (here, elsewhere) = (make(json!(["misbehave"])).await, make(json!(["other*"])).await);
    assert_eq!(verdict(&host, &here, "llm.chat").await["allowed"], true);
    assert_eq!(verdict(&host, &elsewhere, "llm.chat").await, refused("plugin"));
}

#[tokio::test]
async fn what_cannot_be_found_out_is_an_error_and_no_refusal() {
    let host = asking().await;
    provider(&host, "fail", json!({ "code": "internal" })).await;
    assert_eq!(error(&host, "test_ada~llm.chat", "llm.chat").await["code"], "plugin_unavailable");
    provider(&host, "fail", json!({})).await;
    host.host().supervisor.want_down("otherauth").unwrap();
    host.until_state("otherauth", State::Stopped).await;
    let error = error(&host, "test_ada~llm.chat", "llm.chat").await;
    assert_eq!((&error["code"], &error["retryable"]), (&json!("plugin_unavailable"), &json!(true)));
    // The host's own key needs nobody.
    assert_eq!(verdict(&host, host.key(), "llm.chat").await["allowed"], true);
}

#[tokio::test]
async fn a_provider_that_does_not_answer_costs_no_more_than_the_time_that_was_given() {
    let host = asking().await;
    provider(&host, "hang", json!({ "on": true })).await;
    let payload = json!({ "token": "test_ada~llm.chat", "scope": "llm.chat" });
    let call =
        json!({ "capability": "host.authorize", "payload": payload, "asCaller": false, "timeoutMs": 200 });
    let answer = host.ask("test.call", call).await;
    assert_eq!(answer["response"]["error"]["code"], "timeout", "{answer}");
}

#[tokio::test]
async fn a_question_that_makes_no_sense_is_refused_without_a_look_at_the_credential() {
    let host = asking().await;
    let error = error(&host, host.key(), "Not A Scope").await;
    assert_eq!((&error["code"], &error["param"]), (&json!("invalid_request"), &json!("scope")));
    for payload in [json!({}), json!(null), json!({ "token": 5, "scope": "llm.chat" }), json!("llm.chat")] {
        let response = response(&host, payload).await;
        assert_eq!(response["error"]["code"], "invalid_request", "{response}");
    }
}

#[tokio::test]
async fn only_a_plugin_whose_entry_says_so_may_ask() {
    let host = TestHost::with_misbehave().await;
    let error = error(&host, host.key(), "llm.chat").await;
    assert_eq!(error["code"], "forbidden");
    let message = error["message"].as_str().unwrap();
    assert!(message.contains("does not list `host.authorize`: add it to `calls`"), "{message}");
}

#[tokio::test]
async fn a_plugin_that_guesses_is_slowed_down_while_known_credentials_go_on() {
    let host = asking().await;
    assert_eq!(verdict(&host, "test_ada~llm.chat", "llm.chat").await["allowed"], true);
    let guesses = (0..200).map(|number| {
        response(&host, json!({ "token": format!("a-guess-{number}"), "scope": "llm.chat" }))
    });
    let answers = futures_util::future::join_all(guesses).await;
    let is_refused = |answer: &&Value| answer["success"] == true;
    assert!(
        answers.iter().filter(is_refused).all(|answer| answer["data"] == refused("unknown credential"))
    );
    let slowed = answers.iter().find(|answer| answer["success"] == false).expect("guesses are bounded");
    let error = &slowed["error"];
    assert_eq!((&error["code"], &error["retryable"]), (&json!("rate_limited"), &json!(true)), "{error}");
    assert_eq!(verdict(&host, "test_ada~llm.chat", "llm.chat").await["allowed"], true);
    assert_eq!(verdict(&host, host.key(), "llm.chat").await["allowed"], true);
}

#[tokio::test]
async fn a_question_is_a_use_of_the_key() {
    let host = asking().await;
    let key = json!({ "user": "admin", "scopes": ["llm.chat"], "limits": { "requestsPerMinute": 1 } });
    let made = host.post("/admin/keys", key).await.json();
    let key = made["key"].as_str().unwrap();
    assert_eq!(verdict(&host, key, "llm.chat").await["allowed"], true);
    let error = error(&host, key, "llm.chat").await;
    assert_eq!(error["code"], "rate_limited");
    assert!(error["retryAfterMs"].as_u64().unwrap() > 0, "{error}");
}

#[tokio::test]
async fn credentials_stay_out_of_every_log() {
    let host = asking().await;
    let token = "test_very-secret-canary~llm.chat";
    verdict(&host, token, "llm.chat").await;
    response(&host, json!({ "token": [token], "scope": "llm.chat" })).await;
    for plugin in ["misbehave", "otherauth"] {
        let logs = host.get(&format!("/admin/logs?plugin={plugin}&limit=1000")).await;
        assert!(!logs.text.contains("very-secret-canary"), "{}", logs.text);
    }
}
