//! What holds whoever the auth provider is: `otherauth` plays it, a plugin of another make that tests
//! can hold up. What the shipped provider does is in `accounts`.

use std::time::Duration;

use bkg::registry::State;
use bytes::Bytes;
use http::{Method, Request};
use http_body_util::{BodyExt, Full};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::timeout;

use crate::host::{Connected, Reply, TestHost, chat, header};

const PROVIDER: &str = "[auth]\nprovider = \"otherauth\"\n";

/// A daemon whose provider is `otherauth`, with a plugin to ask things of.
async fn guarded() -> TestHost {
    let host = TestHost::builder().plugin("otherauth").plugin("misbehave").config(PROVIDER).start().await;
    host.start_plugin("misbehave").await;
    host
}

fn with_key(key: &str, method: Method, path: &str, body: Option<Value>) -> Request<Full<Bytes>> {
    let request = Request::builder()
        .method(method)
        .uri(path)
        .header("host", "anything.example")
        .header("authorization", format!("Bearer {key}"))
        .header("content-type", "application/json");
    request.body(Full::new(Bytes::from(body.map(|body| body.to_string()).unwrap_or_default()))).unwrap()
}

async fn models(host: &TestHost, key: &str) -> Reply {
    host.send_request(with_key(key, Method::GET, "/v1/models", None)).await
}

/// What a handle of the provider answers.
async fn provider(host: &TestHost, handle: &str, payload: Value) -> Value {
    let reply = host.invoke("otherauth", &format!("otherauth.{handle}"), payload).await;
    assert_eq!(reply.status, 200, "{}", reply.text);
    reply.json()["data"].clone()
}

async fn until_held(host: &TestHost, count: u64) {
    let waiting = async {
        while provider(host, "held", json!({})).await["count"] != count {
            tokio::task::yield_now().await;
        }
    };
    timeout(Duration::from_secs(30), waiting).await.expect("the validations are under way");
}

/// Opens a stream and answers when its first chunk is there.
async fn open_stream(host: &TestHost, key: &str) -> Connected {
    let mut body = chat("test/slow", "hi");
    body["stream"] = json!(true);
    let response = host.open(with_key(key, Method::POST, "/v1/chat/completions", Some(body))).await;
    assert_eq!(response.status(), 200);
    let mut stream = response.into_body();
    let first = timeout(Duration::from_secs(30), stream.body.frame()).await.expect("a chunk in time");
    assert!(first.unwrap().unwrap().data_ref().unwrap().starts_with(b"data: {"));
    stream
}

/// The rest of a stream, which must end within the time that a revocation may take.
async fn rest_of(mut stream: Connected) -> String {
    let mut text = String::new();
    let reading = async {
        while let Some(Ok(frame)) = stream.body.frame().await {
            text.push_str(std::str::from_utf8(frame.data_ref().unwrap()).unwrap());
        }
    };
    timeout(Duration::from_secs(5), reading).await.expect("the stream ends within 5 s");
    text
}

#[tokio::test]
async fn another_plugin_can_be_the_provider() {
    let host = guarded().await;
    let reply = models(&host, "test_a~llm.chat").await;
    assert_eq!(reply.status, 200, "{}", reply.text);
    assert_eq!(models(&host, "nothing-known").await.status, 401);
    let key = json!({ "user": "admin", "scopes": ["llm.chat"] });
    let made = host.post("/admin/keys", key).await;
    assert_eq!(made.status, 201, "{}", made.text);
    let (id, key) = (made.json()["id"].clone(), made.json()["key"].as_str().unwrap().to_owned());
    assert_eq!(models(&host, &key).await.status, 200);
    let revoke = host.request(Method::DELETE, &format!("/admin/keys/{}", id.as_str().unwrap()), None);
    assert_eq!(host.send_request(revoke).await.status, 200);
    assert_eq!(models(&host, &key).await.code(), "invalid_api_key");
    // What this provider does not offer is not there, and nothing else is disturbed.
    assert_eq!(host.get("/admin/roles").await.status, 404);
}

#[tokio::test]
async fn many_requests_with_one_key_are_one_question() {
    let host = guarded().await;
    let before = provider(&host, "count", json!({})).await["count"].as_u64().unwrap();
    provider(&host, "hold", json!({})).await;
    let requests = futures_util::future::join_all((0..50).map(|_| models(&host, "test_many~llm.chat")));
    let released = async {
        until_held(&host, 1).await;
        provider(&host, "release", json!({})).await
    };
    let (replies, _) = tokio::join!(requests, released);
    assert!(replies.iter().all(|reply| reply.status == 200));
    assert_eq!(models(&host, "test_many~llm.chat").await.status, 200);
    assert_eq!(provider(&host, "count", json!({})).await["count"], before + 1);
}

#[tokio::test]
async fn a_validation_that_was_under_way_during_the_revocation_opens_nothing() {
    let host = guarded().await;
    for round in 0..50 {
        provider(&host, "hold", json!({})).await;
        let keys: Vec<String> = (0..20).map(|number| format!("test_{round}-{number}~llm.chat")).collect();
        let requests = futures_util::future::join_all(keys.iter().map(|key| models(&host, key)));
        let revocation = async {
            until_held(&host, 20).await;
            for key in &keys {
                let id = key.split('~').next().unwrap();
                provider(&host, "revoke", json!({ "keyId": id })).await;
            }
            provider(&host, "release", json!({})).await;
        };
        let (replies, ()) = tokio::join!(requests, revocation);
        for reply in replies {
            assert_eq!((reply.status.as_u16(), reply.code().as_str()), (401, "invalid_api_key"));
        }
        assert_eq!(models(&host, &keys[0]).await.status, 401);
    }
}

#[tokio::test]
async fn a_revocation_ends_open_streams_with_an_error_and_disturbs_no_other() {
    let host = guarded().await;
    let other = open_stream(&host, "test_other~llm.chat").await;
    let mut streams = Vec::new();
    for number in 0..10 {
        streams.push(open_stream(&host, &format!("test_s{number}~llm.chat")).await);
    }
    for number in 0..10 {
        provider(&host, "revoke", json!({ "keyId": format!("test_s{number}") })).await;
        let next = models(&host, &format!("test_s{number}~llm.chat")).await;
        assert_eq!(next.status, 401, "the next call is refused at once");
    }
    for stream in streams {
        let text = rest_of(stream).await;
        assert!(text.contains("\"code\":\"invalid_api_key\"") && !text.contains("[DONE]"), "{text}");
    }
    provider(&host, "revoke", json!({ "keyId": "unrelated" })).await;
    let mut other = other;
    assert!(other.body.frame().await.unwrap().unwrap().data_ref().unwrap().starts_with(b"data: {"));
    host.until_in_flight("misbehave", 1).await;
}

#[tokio::test]
async fn a_revocation_ends_a_stream_also_when_the_provider_falls_silent_right_after() {
    let host = guarded().await;
    let stream = open_stream(&host, "test_s~llm.chat").await;
    provider(&host, "hang", json!({ "on": true })).await;
    provider(&host, "revoke", json!({ "keyId": "test_s" })).await;
    let text = rest_of(stream).await;
    assert!(text.contains("invalid_api_key") && !text.contains("[DONE]"), "{text}");
    assert_eq!(models(&host, "test_s~llm.chat").await.status, 503);
}

#[tokio::test]
async fn while_the_provider_is_away_known_keys_go_on_others_wait_and_root_repairs() {
    let host = guarded().await;
    assert_eq!(models(&host, "test_known~llm.chat").await.status, 200);
    assert_eq!(host.post("/admin/plugins/otherauth/stop?wait=20", json!({})).await.status, 200);
    assert_eq!(models(&host, "test_known~llm.chat").await.status, 200);
    let unknown = models(&host, "test_new~llm.chat").await;
    assert_eq!((unknown.status.as_u16(), unknown.code().as_str()), (503, "plugin_unavailable"));
    assert!(header(&unknown, "retry-after").is_some());
    assert!(unknown.text.contains("bkg --root plugin restart otherauth"), "{}", unknown.text);
    // Root is asked of nobody.
    assert_eq!(host.get("/v1/models").await.status, 200);
    assert_eq!(host.post("/admin/plugins/otherauth/restart?wait=20", json!({})).await.status, 200);
    assert_eq!(models(&host, "test_new~llm.chat").await.status, 200);
}

#[tokio::test]
async fn a_provider_that_hangs_or_fails_makes_no_key_look_bad() {
    let host = guarded().await;
    assert_eq!(models(&host, "test_known~llm.chat").await.status, 200);
    for code in ["internal", "plugin_error", "unauthorized", "forbidden"] {
        provider(&host, "fail", json!({ "code": code })).await;
        assert_eq!(models(&host, "test_new~llm.chat").await.status, 503, "{code}");
        assert_eq!(models(&host, "test_known~llm.chat").await.status, 200, "{code}");
    }
    provider(&host, "fail", json!({})).await;
    provider(&host, "hang", json!({ "on": true })).await;
    assert_eq!(models(&host, "test_new~llm.chat").await.status, 503);
    assert_eq!(models(&host, "test_known~llm.chat").await.status, 200);
}

#[tokio::test]
async fn a_lookup_waits_for_a_provider_that_restarts() {
    let host = guarded().await;
    let pid = host.pid("otherauth");
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), nix::sys::signal::Signal::SIGKILL).unwrap();
    host.until(|view| view.plugin("otherauth")?.instances.is_empty().then_some(())).await;
    assert_eq!(models(&host, "test_new~llm.chat").await.status, 200);
}

#[tokio::test]
async fn a_provider_that_comes_back_is_asked_about_everybody_again() {
    let host = guarded().await;
    for key in ["test_a~llm.chat", "test_b~llm.chat"] {
        assert_eq!(models(&host, key).await.status, 200);
    }
    let generation = provider(&host, "revoke", json!({ "keyId": "test_a" })).await["generation"].clone();
    assert!(generation.as_u64().unwrap() > 0);
    // As from a backup: it counts from one again, and that locks nobody out.
    provider(&host, "forget", json!({ "generation": 1 })).await;
    host.post("/admin/plugins/otherauth/restart?wait=20", json!({})).await;
    let before = provider(&host, "count", json!({})).await["count"].clone();
    assert_eq!(models(&host, "test_a~llm.chat").await.status, 401);
    assert_eq!(models(&host, "test_b~llm.chat").await.status, 200);
    let after = provider(&host, "count", json!({})).await["count"].clone();
    assert_eq!(after.as_u64(), before.as_u64().map(|count| count + 2));
}

#[tokio::test]
async fn nobody_but_the_host_asks_the_provider() {
    let host = guarded().await;
    for capability in ["auth.validate", "auth.createKey", "auth.bootstrap", "auth.anything"] {
        let reply = host.invoke("otherauth", capability, json!({ "token": "x" })).await;
        assert_eq!((reply.status.as_u16(), reply.code().as_str()), (403, "forbidden"), "{capability}");
    }
    let asked = host.ask("test.call", json!({ "capability": "auth.validate", "payload": {} })).await;
    assert_eq!(asked["response"]["error"]["code"], "forbidden", "{asked}");
}

#[tokio::test]
async fn a_plugin_that_claims_to_be_the_provider_is_refused_and_named() {
    let host = TestHost::builder()
        .plugin("otherauth")
        .plugin_as("otherauth", "rogue", json!({ "autostart": false, "routePrefix": null }))
        .config(PROVIDER)
        .start()
        .await;
    host.host().supervisor.want_up("rogue").unwrap();
    host.until(|view| {
        let record = view.plugin("rogue")?;
        matches!(record.state(), State::Backoff | State::Failed).then_some(())
    })
    .await;
    let shown = host.get("/admin/plugins/rogue").await.text;
    assert!(shown.contains("belongs to the plugin `otherauth` alone"), "{shown}");
    let logs = host.get("/admin/plugins/rogue/logs").await.text;
    assert!(logs.contains("belongs to the plugin `otherauth` alone"), "{logs}");
    assert_eq!(models(&host, "test_a~llm.chat").await.status, 200, "the true one is unharmed");
}

#[tokio::test]
async fn a_key_uses_no_more_than_it_may() {
    let host = guarded().await;
    for _ in 0..3 {
        assert_eq!(models(&host, "test_few~llm.chat;rpm=3").await.status, 200);
    }
    let refused = models(&host, "test_few~llm.chat;rpm=3").await;
    assert_eq!((refused.status.as_u16(), refused.code().as_str()), (429, "rate_limit_exceeded"));
    let wait: u64 = header(&refused, "retry-after").unwrap().parse().unwrap();
    assert!((1..=60).contains(&wait));
    assert_eq!(models(&host, "test_expired~llm.chat;expires=1").await.status, 401);
}

#[tokio::test]
async fn a_key_sees_and_uses_the_models_and_plugins_that_it_may() {
    let host = guarded().await;
    let listed = models(&host, "test_m~llm.chat;models=test/frame").await.json();
    let ids: Vec<_> = listed["data"].as_array().unwrap().iter().map(|model| &model["id"]).collect();
    assert_eq!(ids, ["test/frame"]);
    let ask = async |key: &str, model: &str| {
        let body = Some(chat(model, "hi"));
        host.send_request(with_key(key, Method::POST, "/v1/chat/completions", body)).await
    };
    assert_eq!(ask("test_m~llm.chat;models=test/frame", "test/frame").await.status, 200);
    let refused = ask("test_m~llm.chat;models=test/frame", "test/tools").await;
    assert_eq!((refused.status.as_u16(), refused.code().as_str()), (404, "model_not_found"));
    let unknown = ask("test_m~llm.chat;models=test/frame", "test/unknown").await;
    assert_eq!(unknown.status, 404, "what others may use cannot be told from what nobody can");
    assert_eq!(ask("test_p~llm.chat;plugins=other", "test/frame").await.status, 404);
    let invoke = json!({ "capability": "test.echo", "payload": {} });
    let request = with_key(
        "test_q~test.*;plugins=other",
        Method::POST,
        "/api/plugins/misbehave/invoke",
        Some(invoke),
    );
    assert_eq!(host.send_request(request).await.status, 403);
}

#[tokio::test]
async fn every_request_to_a_plugin_leaves_one_row() {
    let host = guarded().await;
    let ask = |body: Value| with_key("test_u~llm.chat", Method::POST, "/v1/chat/completions", Some(body));
    let whole = host.send_request(ask(chat("test/frame", "hi"))).await;
    let broken = host.send_request(ask(chat("test/unknown", "hi"))).await;
    let left = open_stream(&host, "test_u~llm.chat").await;
    left.leave();
    host.until_in_flight("misbehave", 0).await;
    let rows = async {
        loop {
            let page = host.get("/admin/requests?key=test_u").await.json();
            if page["requests"].as_array().unwrap().len() == 3 {
                return page["requests"].clone();
            }
            tokio::task::yield_now().await;
        }
    };
    let rows = timeout(Duration::from_secs(30), rows).await.expect("three rows");
    let outcome =
        |row: usize| (rows[row]["outcome"].as_str().unwrap(), rows[row]["status"].as_u64().unwrap());
    assert_eq!(
        (outcome(0), outcome(1), outcome(2)),
        (("cancelled", 499), ("model_not_found", 404), ("ok", 200))
    );
    assert_eq!(rows[2]["requestId"], header(&whole, "x-request-id").unwrap());
    assert_eq!(rows[1]["requestId"], header(&broken, "x-request-id").unwrap());
    for (member, value) in
        [("plugin", "misbehave"), ("model", "test/frame"), ("user", "tester"), ("capability", "llm.chat")]
    {
        assert_eq!(rows[2][member], value, "{}", rows[2]);
    }
    assert_eq!(rows[0]["streamed"], true);
}

#[tokio::test]
async fn changes_are_in_the_audit_log_with_what_became_of_them() {
    let host = guarded().await;
    host.post("/admin/keys", json!({ "user": "admin", "scopes": ["llm.chat"], "name": "ci" })).await;
    host.post("/admin/keys", json!({ "user": "nobody-there", "scopes": ["llm.chat"] })).await;
    let entries = host.get("/admin/audit?action=key.").await.json()["entries"].clone();
    let kinds: Vec<_> =
        entries.as_array().unwrap().iter().map(|entry| entry["kind"].as_str().unwrap()).collect();
    assert_eq!(kinds, ["failed", "intended", "done", "intended"], "{entries}");
    assert_eq!(entries[3]["detail"]["name"], "ci");
    assert_eq!(entries[3]["user"], "root");
    assert!(entries[2]["detail"]["id"].is_string(), "which key it became: {entries}");
}

#[tokio::test]
async fn a_name_that_is_not_ours_is_refused_unless_a_valid_key_comes_with_it() {
    let host = TestHost::builder()
        .plugin("otherauth")
        .config("[auth]\nprovider = \"otherauth\"\n[api]\nallowed_hosts = [\"bkg.example.org\"]\n")
        .start()
        .await;
    let get = async |path: &str, name: &str, headers: &[(&str, &str)]| {
        let mut request = Request::builder().uri(path).header("host", name);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        host.send_request(request.body(Full::<Bytes>::default()).unwrap()).await
    };
    for name in [
        "localhost",
        "LOCALHOST:1",
        "127.0.0.1:43119",
        "[::1]:43119",
        "bkg.example.org",
        "BKG.example.org:80",
    ] {
        assert_eq!(get("/health", name, &[]).await.status, 200, "{name}");
    }
    let cookie = ("cookie", "bkg_session=test_s~admin;session");
    let key = ("authorization", "Bearer test_k~admin");
    for name in ["evil.example", "localhost.evil.example", "127.0.0.1.nip.io", "0.0.0.0", "10.0.0.1", ""] {
        let refused = get("/health", name, &[]).await;
        assert_eq!(
            (refused.status.as_u16(), refused.code().as_str()),
            (421, "misdirected_request"),
            "{name}"
        );
        assert!(refused.text.contains("api.allowed_hosts"), "{}", refused.text);
        assert_eq!(get("/admin/plugins", name, &[]).await.status, 421, "{name}");
        assert_eq!(get("/admin/plugins", name, &[cookie]).await.status, 421, "{name}");
        assert_eq!(get("/admin/plugins", name, &[key]).await.status, 200, "{name}");
        assert_eq!(get("/health", name, &[key]).await.status, 200, "{name}");
        assert_eq!(
            get("/health", name, &[("authorization", "Bearer wrong-key")]).await.status,
            421,
            "{name}"
        );
    }
}

#[tokio::test]
async fn a_cookie_carries_a_login_and_nothing_else() {
    let host = guarded().await;
    let get = async |credential: &str| {
        let request = Request::builder()
            .uri("/auth/me")
            .header("host", "localhost")
            .header("cookie", format!("bkg_session={credential}"));
        host.send_request(request.body(Full::<Bytes>::default()).unwrap()).await.status.as_u16()
    };
    assert_eq!(get("test_s~admin;session").await, 401, "a `;` ends a cookie, so this is a key");
    let root = host.key().to_owned();
    assert_eq!((get("test_k~admin").await, get(&root).await), (401, 401));
    let body = json!({ "username": "admin", "password": initial_password(&host) });
    let login = host.post("/auth/login", body).await;
    let token = login.json()["token"].as_str().unwrap().to_owned();
    assert_eq!(get(&token).await, 200, "{}", login.text);
}

fn initial_password(host: &TestHost) -> String {
    std::fs::read_to_string(host.data_dir().join("initial-password")).unwrap().trim().to_owned()
}

#[tokio::test]
async fn a_key_reaches_no_further_through_other_plugins_or_directly() {
    let host = guarded().await;
    let call = |key: &str, capability: &str, payload: Value| {
        let body = json!({ "capability": capability, "payload": payload });
        with_key(key, Method::POST, "/api/plugins/misbehave/invoke", Some(body))
    };
    let nested = json!({ "capability": "llm.chat", "payload": chat("test/frame", "hi") });
    for (key, allowed) in [
        ("test_n1~test.*,llm.chat", true),
        ("test_n2~test.*,llm.chat;models=test/frame", true),
        ("test_n3~test.*,llm.chat;models=misbehave/*", true),
        ("test_n4~test.*,llm.chat;models=test/tools", false),
        ("test_n5~test.*,llm.chat;models=", false),
    ] {
        let reply = host.send_request(call(key, "test.call", nested.clone())).await;
        assert_eq!(reply.status, 200, "{}", reply.text);
        let answer = reply.json()["data"]["response"].clone();
        assert_eq!(answer["success"], allowed, "{key}: {answer}");
        if !allowed {
            assert_eq!(answer["error"]["code"], "forbidden", "{key}");
        }
        let direct = host.send_request(call(key, "llm.chat", chat("test/frame", "hi"))).await;
        assert_eq!(direct.status, if allowed { 200 } else { 403 }, "{key}: {}", direct.text);
    }
    let without_model = json!({ "messages": [] });
    let refused =
        host.send_request(call("test_n2~llm.chat;models=test/frame", "llm.chat", without_model)).await;
    assert_eq!(refused.status, 403, "{}", refused.text);
}

#[tokio::test]
async fn tokens_count_wherever_they_are_used() {
    let host = guarded().await;
    let mut direct = chat("test/frame", &"hi ".repeat(50));
    direct["max_tokens"] = json!(1);
    // What this one sets aside is all that there is for the day.
    let all = direct.to_string().len().div_ceil(4) + 1;
    let key = format!("test_t~test.*,llm.chat;tpd={all}");
    let ask = |path: &str, body: Value| with_key(&key, Method::POST, path, Some(body));
    let mut short = chat("test/frame", "hi");
    short["max_tokens"] = json!(1);
    let nested = json!({ "capability": "llm.chat", "payload": short });
    let body = json!({ "capability": "test.call", "payload": nested });
    let first = host.send_request(ask("/api/plugins/misbehave/invoke", body)).await;
    assert_eq!(first.json()["data"]["response"]["success"], true, "{}", first.text);
    assert!(first.text.contains("total_tokens"), "{}", first.text);
    let refused = host.send_request(ask("/v1/chat/completions", direct)).await;
    assert_eq!((refused.status.as_u16(), refused.code().as_str()), (429, "insufficient_quota"));
}

#[tokio::test]
async fn a_key_that_the_provider_fell_silent_about_is_good_again_when_it_speaks() {
    let host = guarded().await;
    let stream = open_stream(&host, "test_s~llm.chat").await;
    provider(&host, "hang", json!({ "on": true })).await;
    // It changed and is as it was, but nobody says so in time.
    provider(&host, "announce", json!({ "keyId": "test_s" })).await;
    assert!(rest_of(stream).await.contains("invalid_api_key"));
    provider(&host, "hang", json!({ "on": false })).await;
    // The question that it was silent about is over.
    until_held(&host, 0).await;
    let body = Some(chat("test/frame", "hi"));
    let request = with_key("test_s~llm.chat", Method::POST, "/v1/chat/completions", body);
    let reply = host.send_request(request).await;
    assert_eq!(reply.status, 200, "{}", reply.text);
}

#[tokio::test]
async fn what_was_revoked_while_nobody_could_say_so_ends_when_the_provider_comes() {
    let host = guarded().await;
    let revoked = open_stream(&host, "test_s~llm.chat").await;
    let mut other = open_stream(&host, "test_o~llm.chat").await;
    assert_eq!(host.post("/admin/plugins/otherauth/stop?wait=20", json!({})).await.status, 200);
    // As if it had died right after the revocation was durable.
    let file = host.data_dir().join("plugins/otherauth/data/accounts.json");
    let mut kept: Value = serde_json::from_slice(&std::fs::read(&file).unwrap()).unwrap();
    kept["revoked"] = json!(["test_s"]);
    std::fs::write(&file, kept.to_string()).unwrap();
    assert_eq!(host.post("/admin/plugins/otherauth/start?wait=20", json!({})).await.status, 200);
    let text = rest_of(revoked).await;
    assert!(text.contains("\"code\":\"invalid_api_key\"") && !text.contains("[DONE]"), "{text}");
    assert!(other.body.frame().await.unwrap().unwrap().data_ref().unwrap().starts_with(b"data: {"));
}

#[tokio::test]
async fn a_change_whose_body_comes_after_the_revocation_is_not_made() {
    let host = guarded().await;
    let mut socket = tokio::net::TcpStream::connect(("127.0.0.1", host.api_port())).await.unwrap();
    let body = json!({ "user": "admin", "scopes": ["llm.chat"] }).to_string();
    let head = format!(
        "POST /admin/keys HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer test_slow~admin\r\n\
         content-type: application/json\r\nexpect: 100-continue\r\nconnection: close\r\ncontent-length: {}\r\n\r\n",
        body.len()
    );
    socket.write_all(head.as_bytes()).await.unwrap();
    // It says so when the handler reads, which is after the door.
    let mut go_on = [0; 25];
    timeout(Duration::from_secs(30), socket.read_exact(&mut go_on)).await.expect("in time").unwrap();
    assert!(go_on.starts_with(b"HTTP/1.1 100"));
    provider(&host, "revoke", json!({ "keyId": "test_slow" })).await;
    // The answer to another request with it: the provider has been asked by then.
    assert_eq!(models(&host, "test_slow~admin").await.status, 401);
    // The refusal may come first, and the connection may then be over.
    let _ = socket.write_all(body.as_bytes()).await;
    let mut answer = String::new();
    timeout(Duration::from_secs(30), socket.read_to_string(&mut answer)).await.expect("in time").unwrap();
    assert!(answer.starts_with("HTTP/1.1 401"), "{answer}");
    assert_eq!(host.get("/admin/keys").await.json()["keys"], json!([]));
}

#[tokio::test]
async fn what_is_asked_for_a_request_that_is_over_is_not_asked_on_the_plugins_own_account() {
    let host = guarded().await;
    let call = json!({
        "capability": "test.echo",
        "payload": {},
        "parentRequestId": "a0a0a0a0-a0a0-8a0a-8000-0000000f4240",
    });
    let invoke = json!({ "capability": "test.call", "payload": call });
    let request = with_key("test_n~test.call", Method::POST, "/api/plugins/misbehave/invoke", Some(invoke));
    let reply = host.send_request(request).await;
    assert_eq!(reply.status, 200, "{}", reply.text);
    assert_eq!(reply.json()["data"]["response"]["error"]["code"], "cancelled", "{}", reply.text);
}

#[tokio::test]
async fn several_instances_of_a_provider_are_attended_to_once_each() {
    let builder = TestHost::builder().plugin_as("otherauth", "otherauth", json!({ "instances": 2 }));
    let host = builder.plugin("misbehave").config(PROVIDER).start().await;
    host.start_plugin("misbehave").await;
    host.until(|view| (view.plugin("otherauth")?.instances.len() == 2).then_some(())).await;
    for number in 0..20 {
        let reply = models(&host, &format!("test_{number}~llm.chat")).await;
        assert_eq!(reply.status, 200, "{}", reply.text);
    }
}
