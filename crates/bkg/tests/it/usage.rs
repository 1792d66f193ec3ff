//! Limits of keys and users, and what requests used, over the whole daemon with the bundled provider.
//!
//! The models are those of `misbehave`: `test/frame` says that every whole answer took two tokens, and
//! nothing about streams; `test/stall` answers nothing until its client leaves.

use futures_util::future::join_all;
use http::{Method, StatusCode};
use serde_json::{Value, json};

use crate::host::{Reply, TestHost, chat, header};

const CHAT: &str = "/v1/chat/completions";
/// A million read tokens cost 1, a million written ones 1,000,000: one each is 1.000001.
const PRICES: &str = "[prices.\"test/frame\"]\ninput_per_million = 1\noutput_per_million = 1000000";

async fn host() -> TestHost {
    let host = TestHost::builder().bundled("apikeys", &json!({ "bcryptCost": 4 })).plugin("misbehave");
    let host = host.config(PRICES).start().await;
    host.start_plugin("apikeys").await;
    host.start_plugin("misbehave").await;
    host
}

/// A key of the administrator's with these limits.
async fn key(host: &TestHost, members: Value) -> (String, String) {
    let mut body = json!({ "user": "admin", "scopes": ["llm.*", "test.*"] });
    for (name, value) in members.as_object().unwrap() {
        body[name] = value.clone();
    }
    let made = host.post("/admin/keys", body).await;
    assert_eq!(made.status, StatusCode::CREATED, "{}", made.text);
    let made = made.json();
    (made["id"].as_str().unwrap().to_owned(), made["key"].as_str().unwrap().to_owned())
}

async fn post(host: &TestHost, key: &str, path: &str, body: &Value, headers: &[(&str, &str)]) -> Reply {
    let mut request = host.request(Method::POST, path, Some(body.to_string()));
    request.headers_mut().insert("authorization", format!("Bearer {key}").parse().unwrap());
    for (name, value) in headers {
        let name: http::HeaderName = name.parse().unwrap();
        request.headers_mut().insert(name, value.parse().unwrap());
    }
    host.send_request(request).await
}

async fn ask(host: &TestHost, key: &str, body: &Value) -> Reply {
    post(host, key, CHAT, body, &[]).await
}

fn short(text: &str) -> Value {
    let mut body = chat("test/frame", text);
    body["max_tokens"] = json!(1);
    body
}

async fn sums(host: &TestHost, question: &str) -> Value {
    let reply = host.get(&format!("/admin/usage?{question}")).await;
    assert_eq!(reply.status, StatusCode::OK, "{}", reply.text);
    reply.json()
}

fn count(replies: &[Reply], status: u16) -> usize {
    replies.iter().filter(|reply| reply.status.as_u16() == status).count()
}

#[tokio::test]
async fn sixty_four_clients_never_make_more_requests_than_their_key_may() {
    let host = host().await;
    let (id, secret) = key(&host, json!({ "limits": { "requestsPerMinute": 20 } })).await;
    let body = short("hi");
    let replies = join_all((0..64).map(|_| ask(&host, &secret, &body))).await;
    assert_eq!((count(&replies, 200), count(&replies, 429)), (20, 44));
    for reply in &replies {
        assert_eq!(header(reply, "x-ratelimit-limit-requests"), Some("20"));
        let remaining: u32 = header(reply, "x-ratelimit-remaining-requests").unwrap().parse().unwrap();
        assert!(remaining < 20);
        assert!(header(reply, "x-ratelimit-reset-requests").unwrap().ends_with('s'));
        if reply.status == 429 {
            assert_eq!(reply.code(), "rate_limit_exceeded");
            let wait: u32 = header(reply, "retry-after").unwrap().parse().unwrap();
            assert!((1..=120).contains(&wait));
        }
    }
    let sums = sums(&host, &format!("by=key&key={id}")).await;
    assert_eq!((&sums["total"]["requests"], &sums["total"]["promptTokens"]), (&json!(20), &json!(20)));
    host.stop().await;
}

#[tokio::test]
async fn tokens_and_money_are_set_aside_and_never_exceeded_by_sixty_four_clients() {
    let host = host().await;
    let body = short("hi");
    let estimate = (body.to_string().len() as u64).div_ceil(4) + 1;
    // Room for ten requests as they are estimated. Each settles at two tokens, so more than ten fit in the end.
    let limits = json!({ "limits": { "tokensPerMinute": 10 * estimate, "tokensPerDay": 100 } });
    let (id, secret) = key(&host, limits).await;
    let mut answered = 0;
    loop {
        let replies = join_all((0..64).map(|_| ask(&host, &secret, &body))).await;
        let now = count(&replies, 200);
        assert_eq!(now + count(&replies, 429), 64);
        assert!(replies.iter().all(|reply| header(reply, "x-ratelimit-limit-tokens").is_some()));
        answered += now;
        if now == 0 {
            break;
        }
    }
    // Used up to where one more estimate does not fit, and not beyond.
    let used = 2 * answered as u64;
    assert!(used <= 100 && used + estimate > 100, "{used} of 100, {estimate} at a time");
    let refused = ask(&host, &secret, &body).await;
    assert_eq!((refused.status.as_u16(), refused.code().as_str()), (429, "insufficient_quota"));
    let of_key = sums(&host, &format!("by=key&key={id}")).await;
    let total = &of_key["total"];
    assert_eq!(total["promptTokens"].as_u64().unwrap() + total["completionTokens"].as_u64().unwrap(), used);

    let (id, secret) =
        key(&host, json!({ "limits": { "budget": { "amount": 5.5, "per": "month" } } })).await;
    let replies = join_all((0..64).map(|_| ask(&host, &secret, &body))).await;
    let mut answered = count(&replies, 200);
    while ask(&host, &secret, &body).await.status == 200 {
        answered += 1;
    }
    // Each costs 1.000001.
    assert_eq!(answered, 5);
    let of_key = sums(&host, &format!("by=key&key={id}")).await;
    assert_eq!(of_key["total"]["cost"], json!(5.000_005));
    host.stop().await;
}

#[tokio::test]
async fn places_are_freed_when_clients_leave_and_users_have_limits_too() {
    let host = host().await;
    let user = host.request(
        Method::PATCH,
        "/admin/users/admin",
        Some(json!({ "limits": { "concurrentRequests": 2 } }).to_string()),
    );
    let changed = host.send_request(user).await;
    assert_eq!(changed.json()["limits"]["concurrentRequests"], 2, "{}", changed.text);
    let (_, one) = key(&host, json!({})).await;
    let (_, other) = key(&host, json!({ "limits": { "concurrentStreams": 1 } })).await;
    let open = async |secret: &str, model: &str, stream: bool| {
        let mut body = chat(model, "hi");
        body["stream"] = json!(stream);
        let mut request = host.request(Method::POST, CHAT, Some(body.to_string()));
        request.headers_mut().insert("authorization", format!("Bearer {secret}").parse().unwrap());
        host.open(request).await
    };
    let stream = open(&other, "test/slow", true).await;
    assert_eq!(stream.status(), 200);
    let second = open(&other, "test/slow", true).await;
    assert_eq!(second.status(), 429);
    let third = open(&one, "test/slow", true).await;
    assert_eq!(third.status(), 200);
    let refused = ask(&host, &one, &short("hi")).await;
    assert_eq!((refused.status.as_u16(), refused.code().as_str()), (429, "rate_limit_exceeded"));
    assert!(refused.text.contains("the user of this credential"), "{}", refused.text);
    drop((stream, third));
    host.until_in_flight("misbehave", 0).await;
    for _ in 0..10 {
        assert_eq!(ask(&host, &one, &short("hi")).await.status, 200);
    }
    host.stop().await;
}

#[tokio::test]
async fn limits_go_on_after_a_restart_with_what_was_used_before() {
    let host = host().await;
    let (id, secret) =
        key(&host, json!({ "limits": { "tokensPerDay": 40, "budget": { "amount": 3, "per": "month" } } }))
            .await;
    assert_eq!(ask(&host, &secret, &short("hi")).await.status, 200);
    assert_eq!(ask(&host, &secret, &short("hi")).await.status, 200);
    let host = host.restart().await;
    host.start_plugin("apikeys").await;
    host.start_plugin("misbehave").await;
    let refused = ask(&host, &secret, &short("hi")).await;
    assert_eq!(refused.code(), "insufficient_quota", "{}", refused.text);
    let left: u64 = header(&refused, "x-ratelimit-remaining-tokens").unwrap().parse().unwrap();
    assert_eq!(left, 36);
    let of_key = sums(&host, &format!("by=day&key={id}")).await;
    assert_eq!(of_key["total"]["cost"], json!(2.000_002));
    host.stop().await;
}

#[tokio::test]
async fn what_can_never_fit_says_so() {
    let host = host().await;
    let (_, secret) = key(&host, json!({ "limits": { "tokensPerMinute": 500 } })).await;
    let mut body = short("hi");
    body["max_tokens"] = json!(1_000);
    let refused = ask(&host, &secret, &body).await;
    assert_eq!(refused.status, 429);
    assert_eq!(
        (header(&refused, "retry-after"), header(&refused, "x-should-retry")),
        (None, Some("false"))
    );
    assert!(refused.text.contains("max_tokens"), "{}", refused.text);
    // Around the gateway the same limits hold.
    let invocation = json!({ "capability": "llm.chat", "payload": body });
    assert_eq!(post(&host, &secret, "/api/plugins/misbehave/invoke", &invocation, &[]).await.status, 429);
    let wrong = json!({ "user": "admin", "scopes": ["llm.*"], "limits": { "perHour": 1 } });
    let refused = host.post("/admin/keys", wrong).await;
    assert_eq!(
        (refused.status.as_u16(), refused.json()["error"]["param"].clone()),
        (400, json!("limits.perHour"))
    );
    host.stop().await;
}

#[tokio::test]
async fn a_request_is_told_in_full_and_nothing_of_its_body_stays_unless_somebody_wants_that() {
    let host = host().await;
    let (id, secret) = key(&host, json!({})).await;
    let canary = "a-canary-that-nobody-may-keep";
    let reply = ask(&host, &secret, &short(canary)).await;
    assert!(reply.text.contains(canary));
    let mut streamed = short(canary);
    streamed["stream"] = json!(true);
    let stream = ask(&host, &secret, &streamed).await;
    let failed = ask(&host, &secret, &json!({ "model": canary, "messages": canary })).await;
    assert_eq!(failed.status, 404);
    let request = header(&reply, "x-request-id").unwrap();
    let shown = host.get(&format!("/admin/requests/{request}")).await;
    let inspected = shown.json();
    for (member, value) in [
        ("keyId", json!(id)),
        ("user", json!("admin")),
        ("route", json!("POST /v1/chat/completions")),
        ("model", json!("test/frame")),
        ("servedModel", json!("test/frame")),
        ("plugin", json!("misbehave")),
        ("outcome", json!("ok")),
        ("estimated", json!(false)),
        ("promptTokens", json!(1)),
        ("cost", json!(1.000_001)),
        ("bodies", Value::Null),
        ("error", Value::Null),
    ] {
        assert_eq!(inspected[member], value, "{member} of {inspected}");
    }
    assert_eq!(inspected["attempts"][0]["outcome"], "ok");
    let id_of_stream = header(&stream, "x-request-id").unwrap();
    let of_stream = host.get(&format!("/admin/requests/{id_of_stream}")).await.json();
    assert_eq!(of_stream["estimated"], true, "{of_stream}");
    assert!(of_stream["completionTokens"].as_u64().unwrap() > 0);
    assert_eq!(host.get("/admin/requests/no-such-request").await.status, 404);
    assert_eq!(
        host.get("/admin/requests?outcome=ok&plugin=misbehave").await.json()["requests"]
            .as_array()
            .unwrap()
            .len(),
        2
    );

    // A model that nobody has is a name, and names are kept; nothing else may be.
    let everything = [
        host.get("/admin/requests").await.text.replace(&format!("\"model\":\"{canary}\""), ""),
        host.get("/admin/logs").await.text,
        host.get("/admin/audit").await.text,
        shown.text,
    ];
    for text in everything {
        assert!(!text.replace(&format!("the model `{canary}`"), "").contains(canary), "{text}");
    }

    let (_, watched) = key(&host, json!({ "logBodies": true })).await;
    let secret_text = format!("{canary} and sk-abcdefghijklmnop");
    let reply = ask(&host, &watched, &short(&secret_text)).await;
    let request = header(&reply, "x-request-id").unwrap();
    let bodies = host.get(&format!("/admin/requests/{request}")).await.json()["bodies"].clone();
    for part in ["request", "answer"] {
        let text = bodies[part].as_str().unwrap();
        assert!(text.contains(canary) && !text.contains("sk-abc"), "{text}");
    }
    host.stop().await;
}

#[tokio::test]
async fn everybody_sees_what_they_have_used_themselves() {
    let host = host().await;
    let (id, secret) = key(&host, json!({})).await;
    let (_, other) = key(&host, json!({})).await;
    for secret in [&secret, &secret, &other] {
        assert_eq!(ask(&host, secret, &short("hi")).await.status, 200);
    }
    let mut request = host.request(Method::GET, "/api/usage?by=key", None);
    request.headers_mut().insert("authorization", format!("Bearer {secret}").parse().unwrap());
    let own = host.send_request(request).await.json();
    assert_eq!((&own["total"]["requests"], &own["groups"][0]["name"]), (&json!(2), &json!(id)));
    let all = sums(&host, "by=user").await;
    assert_eq!((&all["total"]["requests"], &all["groups"][0]["name"]), (&json!(3), &json!("admin")));
    for wrong in ["by=week", "from=2026-01-02T00:00:00Z&to=2026-01-01T00:00:00Z", "limit=0", "offset=-1"] {
        assert_eq!(host.get(&format!("/admin/usage?{wrong}")).await.status, 400, "{wrong}");
    }
    host.stop().await;
}

#[tokio::test]
async fn a_request_that_is_sent_twice_under_one_name_is_done_once() {
    let host = host().await;
    let (_, secret) = key(&host, json!({})).await;
    let (_, other) = key(&host, json!({})).await;
    let named = async |secret: &str, body: &Value| {
        post(&host, secret, CHAT, body, &[("idempotency-key", "order-1")]).await
    };
    let first = named(&secret, &short("hi")).await;
    let again = named(&secret, &short("hi")).await;
    assert_eq!((first.status, &first.text), (again.status, &again.text));
    assert_eq!(
        (header(&first, "idempotent-replayed"), header(&again, "idempotent-replayed")),
        (None, Some("true"))
    );
    assert_ne!(header(&first, "x-request-id"), header(&again, "x-request-id"));
    let different = named(&secret, &short("ho")).await;
    assert_eq!((different.status.as_u16(), different.code().as_str()), (409, "conflict"));
    // Another credential's name is another name.
    assert_eq!(header(&named(&other, &short("ho")).await, "idempotent-replayed"), None);
    let total = sums(&host, "by=day").await["total"]["requests"].clone();
    assert_eq!(total, 2);

    // While the first is under way, and free again once its client has left.
    let stall = chat("test/stall", "hi");
    let mut request = host.request(Method::POST, CHAT, Some(stall.to_string()));
    request.headers_mut().insert("idempotency-key", "order-2".parse().unwrap());
    let mut open = Box::pin(host.open(request));
    tokio::select! {
        _ = &mut open => panic!("it never answers"),
        () = host.until_in_flight("misbehave", 1) => {}
    }
    let root = host.key().to_owned();
    let waiting = post(&host, &root, CHAT, &stall, &[("idempotency-key", "order-2")]).await;
    assert_eq!((waiting.status.as_u16(), header(&waiting, "retry-after")), (409, Some("1")));
    drop(open);
    host.until_in_flight("misbehave", 0).await;
    let empty = post(&host, &root, CHAT, &short("hi"), &[("idempotency-key", "")]).await;
    assert_eq!(empty.status, 400);
    host.stop().await;
}
