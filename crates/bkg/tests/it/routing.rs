//! Routes of models: who answers, what is tried when somebody does not, and who may ask.
//!
//! Two copies of `misbehave`, `one` and `two`, offer the same models. The invariant of all of it: what
//! happens before the first part of an answer is not seen by the client, and nothing is tried after it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use http::Method;
use serde_json::{Value, json};

use crate::host::{PATIENCE, Reply, TestHost, chat, events, header};

const CHAT: &str = "/v1/chat/completions";
const TOOLS: &str = "test/tools";
const TOLD: &str = "test/told";

/// A daemon with both, and these routes.
async fn routed(routes: Value) -> TestHost {
    let host = pair("").await;
    assert_eq!(put(&host, routes, None).await.status, 200);
    host
}

/// A daemon with both.
async fn pair(config: &str) -> TestHost {
    let builder = TestHost::builder().config(config);
    let builder = builder.plugin_as("misbehave", "one", json!({}));
    let host = builder.plugin_as("misbehave", "two", json!({})).start().await;
    host.start_plugin("one").await;
    host.start_plugin("two").await;
    host
}

async fn put(host: &TestHost, routes: Value, revision: Option<u64>) -> Reply {
    let body = json!({ "routes": routes }).to_string();
    let mut request = host.request(Method::PUT, "/admin/routing", Some(body));
    if let Some(revision) = revision {
        request.headers_mut().insert("if-match", format!("\"{revision}\"").parse().unwrap());
    }
    host.send_request(request).await
}

/// A route to one model, with fallbacks.
fn route(target: &str, fallbacks: &[&str]) -> Value {
    json!({ "targets": [{ "model": target }], "fallbacks": fallbacks })
}

fn streamed(mut body: Value) -> Value {
    body["stream"] = json!(true);
    body
}

fn failing(model: &str, error: Value) -> Value {
    let mut body = chat(model, "hi");
    body["error"] = error;
    body
}

/// Who answered, as `plugin/model`.
fn served(reply: &Reply) -> Option<String> {
    Some(format!("{}/{}", header(reply, "x-bkg-plugin")?, header(reply, "x-bkg-model")?))
}

/// What a client sees of a stream, without the ids, which are new each time.
fn seen(reply: &Reply) -> Vec<Value> {
    let events = events(&reply.text);
    let chunks = events.iter().map(|event| serde_json::from_str(event).unwrap_or_else(|_| json!(event)));
    let without_id = chunks.map(|mut chunk: Value| {
        chunk.as_object_mut().map(|chunk| chunk.remove("id"));
        chunk
    });
    without_id.collect()
}

/// Says how `test/told` of a plugin fails from now on; answers how often it was asked.
async fn tell(host: &TestHost, plugin: &str, payload: Value) -> u64 {
    let reply = host.invoke(plugin, "test.tell", payload).await;
    reply.json()["data"]["asked"].as_u64().unwrap_or_else(|| panic!("{}", reply.text))
}

#[tokio::test]
async fn answers_say_which_model_of_which_plugin_gave_them() {
    let host = routed(json!({ "fast": route("two/test/tools", &[]) })).await;
    for (body, status, expected) in [
        (chat(TOOLS, "hi"), 200, Some("one/test/tools")),
        (chat("two/test/tools", "hi"), 200, Some("two/test/tools")),
        (streamed(chat("two/test/tools", "hi")), 200, Some("two/test/tools")),
        (chat("fast", "hi"), 200, Some("two/test/tools")),
        (streamed(chat("fast", "hi")), 200, Some("two/test/tools")),
        // An error says who failed, if somebody did.
        (
            failing("two/test/fails", json!({ "code": "invalid_request", "message": "m" })),
            400,
            Some("two/test/fails"),
        ),
        (streamed(chat("two/test/breaks", "hi")), 200, Some("two/test/breaks")),
        (chat("nobody/has-this", "hi"), 404, None),
        (json!({ "messages": [] }), 400, None),
    ] {
        let reply = host.post(CHAT, body.clone()).await;
        assert_eq!((reply.status.as_u16(), served(&reply).as_deref()), (status, expected), "{body}");
    }
}

#[tokio::test]
async fn a_fallback_before_the_first_byte_is_invisible() {
    let routes = json!({ "fast": route("one/test/fails", &["nobody/has-this", "two/test/tools"]) });
    let host = routed(routes).await;
    let (direct, fallen) = (
        host.post(CHAT, streamed(chat("two/test/tools", "hi"))).await,
        host.post(CHAT, streamed(chat("fast", "hi"))).await,
    );
    assert_eq!(seen(&fallen), seen(&direct));
    assert_eq!(seen(&fallen).last(), Some(&json!("[DONE]")));
    let names = |reply: &Reply| reply.headers.keys().map(ToString::to_string).collect::<Vec<_>>();
    assert_eq!(
        (fallen.status, names(&fallen), served(&fallen)),
        (direct.status, names(&direct), served(&direct))
    );
    let whole = host.post(CHAT, chat("fast", "hi")).await;
    assert_eq!((whole.status.as_u16(), served(&whole).as_deref()), (200, Some("two/test/tools")));
    assert_eq!(whole.json()["model"], TOOLS);
}

#[tokio::test]
async fn after_the_first_byte_a_stream_ends_with_an_error_and_nothing_else_is_tried() {
    let host = routed(json!({ "fast": route("one/test/fails", &["two/test/tools"]) })).await;
    let mut body =
        streamed(failing("fast", json!({ "code": "overloaded", "message": "m", "retryable": true })));
    body["chunks"] = json!(2);
    let reply = host.post(CHAT, body).await;
    let seen = seen(&reply);
    assert_eq!((reply.status.as_u16(), served(&reply).as_deref()), (200, Some("one/test/fails")));
    assert_eq!((seen.len(), seen[2]["error"]["code"].as_str()), (3, Some("overloaded")), "{}", reply.text);
    assert!(!reply.text.contains("[DONE]") && !reply.text.contains("tool_calls"), "{}", reply.text);
}

#[tokio::test]
async fn only_what_is_safe_goes_on_to_a_fallback() {
    let host = routed(json!({ "fast": route("one/test/fails", &["two/test/tools"]) })).await;
    // No more than these: after the seventh failure it rests, and is not asked.
    for (error, status, by) in [
        (json!({ "code": "invalid_request", "message": "m", "retryable": true }), 400, "one/test/fails"),
        (json!({ "code": "overloaded", "message": "m" }), 200, "two/test/tools"),
        (json!({ "code": "rate_limited", "message": "m", "retryAfterMs": 60_000 }), 200, "two/test/tools"),
        (json!({ "code": "plugin_error", "message": "m", "retryable": true }), 200, "two/test/tools"),
        (
            json!({ "code": "plugin_error", "message": "m", "details": { "status": 503 } }),
            200,
            "two/test/tools",
        ),
        (
            json!({ "code": "plugin_error", "message": "m", "details": { "status": 401 } }),
            200,
            "two/test/tools",
        ),
        (json!({ "code": "plugin_error", "message": "m" }), 502, "one/test/fails"),
        (json!({ "code": "timeout", "message": "m" }), 504, "one/test/fails"),
    ] {
        let reply = host.post(CHAT, failing("fast", error.clone())).await;
        assert_eq!((reply.status.as_u16(), served(&reply).as_deref()), (status, Some(by)), "{error}");
        if status == 502 {
            assert_eq!(header(&reply, "x-should-retry"), Some("false"), "the work may have happened");
        }
    }
}

#[tokio::test]
async fn a_plugin_that_dies_at_a_chat_is_followed_by_another_only_if_chats_may_be_repeated() {
    for (idempotent, status) in [(false, 502), (true, 200)] {
        let terms = json!({ "terms": { "llm.chat": { "idempotent": idempotent } } });
        let one = json!({ "settings": terms, "restart": "never" });
        let host = TestHost::builder().plugin_as("misbehave", "one", one);
        let host = host.plugin_as("misbehave", "two", json!({})).start().await;
        host.start_plugin("one").await;
        host.start_plugin("two").await;
        assert_eq!(
            put(&host, json!({ "fast": route("one/test/told", &["two/test/told"]) }), None).await.status,
            200
        );
        tell(&host, "one", json!({ "error": "exit" })).await;
        let reply = host.post(CHAT, chat("fast", "hi")).await;
        assert_eq!(reply.status.as_u16(), status, "{}", reply.text);
    }
}

#[tokio::test]
async fn retries_are_counted_and_the_same_model_is_asked_again_after_the_others() {
    let retrying = |retries: u8| json!({ "targets": [{ "model": "one/test/told" }], "retries": retries });
    let host = routed(json!({ "none": retrying(0), "three": retrying(3) })).await;
    tell(&host, "one", json!({ "error": { "code": "overloaded", "message": "m" } })).await;
    let mut before = 0;
    // Fewer failures than begin a rest.
    for (name, attempts) in [("none", 1), ("three", 4)] {
        let reply = host.post(CHAT, chat(name, "hi")).await;
        assert_eq!((reply.status.as_u16(), reply.code()), (503, "overloaded".to_owned()));
        let asked = tell(&host, "one", json!({})).await;
        assert_eq!(asked - before, attempts, "{name}");
        before = asked;
    }
}

#[tokio::test]
async fn what_failed_too_often_rests_and_is_found_out_by_one_request() {
    let host = routed(json!({ "fast": route("one/test/told", &["two/test/told"]) })).await;
    tell(&host, "one", json!({ "error": { "code": "overloaded", "message": "m" } })).await;
    for _ in 0..40 {
        let reply = host.post(CHAT, chat("fast", "hi")).await;
        assert_eq!((reply.status.as_u16(), served(&reply).as_deref()), (200, Some("two/test/told")));
    }
    let asked = tell(&host, "one", json!({})).await;
    assert!((7..30).contains(&asked), "it was asked {asked} times of 40: after seven, only now and then");
    let told = host.get("/admin/routing/decision?model=fast").await.json();
    let (first, second) = (&told["candidates"][0], &told["candidates"][1]);
    assert_eq!((&first["health"], &second["place"]), (&json!("resting"), &json!(1)), "{told}");
    assert_eq!(
        (&told["chosen"], first["failures"].as_u64() >= Some(7)),
        (&json!({ "plugin": "two", "model": TOLD }), true)
    );
    // It answers again, and the one request that is let through after the rest finds that out.
    tell(&host, "one", json!({ "error": null })).await;
    let finding_out = async {
        loop {
            let reply = host.post(CHAT, chat("fast", "hi")).await;
            if served(&reply).as_deref() == Some("one/test/told") {
                return;
            }
        }
    };
    tokio::time::timeout(PATIENCE, finding_out).await.expect("its rest ends");
    let told = host.get("/admin/routing/decision?model=fast").await.json();
    assert_eq!(
        (&told["candidates"][0]["health"], &told["candidates"][0]["failures"]),
        (&json!("fit"), &json!(0))
    );
}

#[tokio::test]
async fn a_rest_refuses_nobody_where_there_is_nothing_else() {
    let host = pair("").await;
    let error = json!({ "code": "rate_limited", "message": "too much", "retryAfterMs": 2_000 });
    for _ in 0..9 {
        let reply = host.post(CHAT, failing("one/test/fails", error.clone())).await;
        assert_eq!((reply.status.as_u16(), served(&reply).as_deref()), (429, Some("one/test/fails")));
        assert_eq!(header(&reply, "retry-after"), Some("2"));
    }
    let told = host.get("/admin/routing/decision?model=one/test/fails").await.json();
    assert_eq!((&told["lastResort"], &told["chosen"]["plugin"]), (&json!(true), &json!("one")), "{told}");
}

#[tokio::test]
async fn weights_are_kept_by_few_requests_and_while_a_target_is_away() {
    let weighted = json!({ "targets": [
        { "model": "one/test/tools", "weight": 3 }, { "model": "two/test/tools" }, { "model": "two/test/frame", "weight": 0 },
    ] });
    let host = routed(json!({ "fast": weighted })).await;
    let mut counts = BTreeMap::<String, i32>::new();
    for _ in 0..40 {
        let reply = host.post(CHAT, chat("fast", "hi")).await;
        *counts.entry(served(&reply).unwrap()).or_default() += 1;
    }
    let of = |name: &str| counts.get(name).copied().unwrap_or_default();
    assert!((of("one/test/tools") - 30).abs() <= 3, "{counts:?}");
    assert_eq!(of("one/test/tools") + of("two/test/tools"), 40, "{counts:?}");
    let told = host.get("/admin/routing/decision?model=fast").await.json();
    let percents: Vec<&Value> =
        told["candidates"].as_array().unwrap().iter().map(|one| &one["percent"]).collect();
    assert_eq!(percents, [&json!(75.0), &json!(25.0), &json!(null)]);
    assert_eq!(told["candidates"][2]["whyNot"], "its weight is 0");
    host.post("/admin/plugins/one/stop?wait=30", json!({})).await;
    for _ in 0..4 {
        assert_eq!(served(&host.post(CHAT, chat("fast", "hi")).await).as_deref(), Some("two/test/tools"));
    }
    let told = host.get("/admin/routing/decision?model=fast").await.json();
    let why = told["candidates"][0]["whyNot"].as_str().unwrap();
    assert!(why.contains("`one` is stopped"), "{why}");
}

#[tokio::test]
async fn one_id_of_several_plugins_is_answered_in_order_by_whoever_can() {
    let host = pair("dispatch.order = { \"llm.chat\" = [\"two\"] }").await;
    let ask = async |host: &TestHost| served(&host.post(CHAT, chat(TOOLS, "hi")).await);
    assert_eq!(ask(&host).await.as_deref(), Some("two/test/tools"), "the configured order holds");
    host.post("/admin/plugins/two/stop?wait=30", json!({})).await;
    assert_eq!(ask(&host).await.as_deref(), Some("one/test/tools"));
    let list = host.get("/v1/models").await.json();
    assert!(list["data"].as_array().unwrap().iter().any(|model| model["id"] == TOOLS), "{list}");
    host.post("/admin/plugins/one/stop?wait=30", json!({})).await;
    let reply = host.post(CHAT, chat(TOOLS, "hi")).await;
    assert_eq!((reply.status.as_u16(), reply.code()), (503, "plugin_unavailable".to_owned()));
    host.start_plugin("two").await;
    assert_eq!(ask(&host).await.as_deref(), Some("two/test/tools"));
    // A failure that is safe goes on to the next one who has it.
    host.start_plugin("one").await;
    tell(&host, "two", json!({ "error": { "code": "overloaded", "message": "m" } })).await;
    let reply = host.post(CHAT, chat(TOLD, "hi")).await;
    assert_eq!(served(&reply).as_deref(), Some("one/test/told"));
}

#[tokio::test]
async fn a_body_reaches_another_model_with_that_models_name_and_every_other_byte_as_it_was() {
    let host = routed(json!({ "fä\"st": route("one/test/fails", &["two/test/frame"]) })).await;
    let body = |model: &str| {
        format!(
            r#" {{ "zeta" :1.50e3,"n":12345678901234567890, "model"  :  {model} ,"messages":[ ],"x":"\u00e9"  }} "#
        )
    };
    let request = host.request(Method::POST, CHAT, Some(body(r#""f\u00e4\"st""#)));
    let answer = host.send_request(request).await.json();
    let frame = answer["choices"][0]["message"]["content"].as_str().unwrap_or_else(|| panic!("{answer}"));
    assert!(frame.contains(&format!("\"payload\":{}", body(r#""test/frame""#).trim())), "{frame}");
}

#[tokio::test]
async fn routes_are_models_and_may_bear_the_name_of_one() {
    let routes = json!({ "fast": route(TOOLS, &[]), TOOLS: route(TOOLS, &["test/spare"]), "gone": route("nobody/has-this", &[]) });
    let host = routed(routes).await;
    let list = host.get("/v1/models").await.json();
    let of = |id: &str| list["data"].as_array().unwrap().iter().filter(|model| model["id"] == id).count();
    assert_eq!((of("fast"), of(TOOLS), of("test/spare"), of("gone")), (1, 1, 1, 0), "{list}");
    let fast = host.get("/v1/models/fast").await.json();
    assert_eq!((&fast["id"], &fast["owned_by"]), (&json!("fast"), &json!("backplane")));
    let reply = host.post(CHAT, chat("gone", "hi")).await;
    assert_eq!((reply.status.as_u16(), reply.code()), (503, "plugin_unavailable".to_owned()));
    let message = reply.json()["error"]["message"].to_string();
    assert!(
        message.contains("the route `gone` leads to") && message.contains("nobody/has-this"),
        "{message}"
    );
}

#[tokio::test]
async fn a_key_names_routes_and_need_not_name_what_they_lead_to() {
    let builder = TestHost::builder().config("[auth]\nprovider = \"otherauth\"").plugin("otherauth");
    let guarded = json!({ "scopes": { "llm.chat": "special.thing" } });
    let builder = builder.plugin_as("misbehave", "one", json!({})).plugin_as("misbehave", "two", guarded);
    let host = builder.start().await;
    host.start_plugin("one").await;
    host.start_plugin("two").await;
    let routes = json!({ "fast": route("one/test/tools", &["two/test/tools"]), "other": route("two/test/tools", &[]), TOOLS: route("one/test/tools", &[]) });
    assert_eq!(put(&host, routes, None).await.status, 200);
    let ask = async |key: &str, model: &str| {
        let mut request = host.request(Method::POST, CHAT, Some(chat(model, "hi").to_string()));
        request.headers_mut().insert("authorization", format!("Bearer {key}").parse().unwrap());
        let reply = host.send_request(request).await;
        (reply.status.as_u16(), served(&reply))
    };
    let one = Some("one/test/tools".to_owned());
    for (key, model, expected) in [
        ("test_key-a~llm.chat", "fast", (200, one.clone())),
        ("test_key-b~llm.chat;models=fast", "fast", (200, one.clone())),
        ("test_key-b~llm.chat;models=fast", "one/test/tools", (404, None)),
        ("test_key-b~llm.chat;models=fast", "other", (404, None)),
        ("test_key-b~llm.chat;models=fast", TOOLS, (404, None)),
        ("test_key-c~llm.chat;models=one/test/tools", "fast", (404, None)),
        // A route that bears a model's name takes nothing from whoever may use the model.
        ("test_key-c~llm.chat;models=one/test/tools", TOOLS, (200, one.clone())),
        // What the entry of a target demands holds for whoever comes by a route.
        ("test_key-d~llm.chat", "other", (404, None)),
        ("test_key-e~llm.chat,special.thing", "other", (200, Some("two/test/tools".to_owned()))),
        ("test_key-f~llm.chat;plugins=two", "fast", (404, None)),
        ("test_key-g~llm.embed", "fast", (403, None)),
    ] {
        assert_eq!(ask(key, model).await, expected, "{key} {model}");
    }
    let list = async |key: &str| {
        let mut request = host.request(Method::GET, "/v1/models", None);
        request.headers_mut().insert("authorization", format!("Bearer {key}").parse().unwrap());
        let list = host.send_request(request).await.json();
        let ids =
            list["data"].as_array().unwrap().iter().map(|model| model["id"].as_str().unwrap().to_owned());
        ids.collect::<Vec<_>>()
    };
    assert_eq!(list("test_key-b~llm.chat;models=fast").await, ["fast"]);
    assert!(list("test_key-f~llm.chat;plugins=two").await.is_empty());
}

#[tokio::test]
async fn routes_are_saved_with_a_revision_and_an_entry_and_outlive_the_host() {
    let config =
        "[routing.routes.plain]\ntargets = [{ model = \"test/tools\" }]\nfallbacks = [\"test/spare\"]";
    let host = TestHost::builder().config(config).start().await;
    let table = host.get("/admin/routing").await;
    assert_eq!(
        (header(&table, "etag"), &table.json()["routes"]),
        (Some("\"0\""), &json!({ "plain": route(TOOLS, &["test/spare"]) }))
    );
    let first = put(&host, json!({ "a": route("m", &[]) }), Some(0)).await;
    assert_eq!((first.status.as_u16(), header(&first, "etag")), (200, Some("\"1\"")));
    let late = put(&host, json!({}), Some(0)).await;
    assert_eq!((late.status.as_u16(), late.code()), (409, "conflict".to_owned()));
    let wrong = put(&host, json!({ "a": route("b", &["a"]) }), Some(1)).await;
    assert_eq!((wrong.status.as_u16(), wrong.code()), (422, "invalid_config".to_owned()));
    assert_eq!(wrong.json()["error"]["details"][0]["path"], "/routes/a/fallbacks/0");
    assert!(wrong.json()["error"]["message"].as_str().unwrap().contains("`a` → `a`"));
    let second = put(&host, json!({ "a": route("n", &[]), "b": route("m", &["a"]) }), None).await;
    assert_eq!(second.json()["revision"], 2);
    let entries = host.get("/admin/audit?action=routing.").await.json()["entries"].clone();
    let entry = &entries[0];
    assert_eq!(
        (entries.as_array().unwrap().len(), &entry["action"], &entry["kind"]),
        (2, &json!("routing.change"), &json!("done"))
    );
    assert_eq!(entry["detail"], json!({ "revision": 2, "added": ["b"], "changed": ["a"], "removed": [] }));
    let host = host.restart().await;
    let table = host.get("/admin/routing").await.json();
    assert_eq!((&table["revision"], &table["routes"]["b"]), (&json!(2), &route("m", &["a"])));
    // Of those who expect the same revision, one saves.
    let (one, other) = tokio::join!(put(&host, json!({}), Some(2)), put(&host, json!({}), Some(2)));
    let mut statuses = [one.status.as_u16(), other.status.as_u16()];
    statuses.sort_unstable();
    assert_eq!(statuses, [200, 409]);
}

#[tokio::test]
async fn routes_change_under_load_without_a_failure_and_hold_when_they_are_acknowledged() {
    let host = Arc::new(routed(json!({ "fast": route("one/test/tools", &[]) })).await);
    let (stop, answered) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU32::new(0)));
    let askers: Vec<_> = (0..6)
        .map(|number| {
            let (host, stop, answered) = (Arc::clone(&host), Arc::clone(&stop), Arc::clone(&answered));
            tokio::spawn(async move {
                while !stop.load(Ordering::Relaxed) {
                    let body = chat("fast", "hi");
                    let body = if number % 2 == 0 { streamed(body) } else { body };
                    let reply = host.post(CHAT, body).await;
                    assert_eq!(reply.status, 200, "{}", reply.text);
                    assert!(number % 2 == 1 || reply.text.ends_with("[DONE]\n\n"), "{}", reply.text);
                    answered.fetch_add(1, Ordering::Relaxed);
                }
            })
        })
        .collect();
    for change in 0..20 {
        let plugin = ["two", "one"][change % 2];
        let target = format!("{plugin}/{TOOLS}");
        assert_eq!(put(&host, json!({ "fast": route(&target, &[]) }), None).await.status, 200);
        let reply = host.post(CHAT, chat("fast", "hi")).await;
        assert_eq!(served(&reply), Some(target), "what was acknowledged holds");
    }
    stop.store(true, Ordering::Relaxed);
    for asker in askers {
        asker.await.unwrap();
    }
    assert!(answered.load(Ordering::Relaxed) > 0);
}
