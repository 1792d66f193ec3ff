//! Plugins as applications see and use them: what a caller may not use is not there for it, what runs a
//! plugin without a capability chooses the same one for everybody, and the daemon tells what it is.

use bkg::logs::NewLine;
use bkg::registry::State;
use bkg_protocol::message::LogLevel;
use bytes::Bytes;
use http::{Method, Request};
use http_body_util::Full;
use serde_json::{Value, json};
use tokio::time::timeout;

use crate::host::{Builder, PATIENCE, Reply, TestHost};

/// A daemon whose keys are whatever a test writes: `test_<anything>~<scope>;<option>`.
fn guarded() -> Builder {
    TestHost::builder().plugin("otherauth").config("auth.provider = \"otherauth\"")
}

async fn send(host: &TestHost, key: &str, method: Method, path: &str, body: Option<Value>) -> Reply {
    let mut request = Request::builder().method(method).uri(path).header("host", "localhost");
    request = request.header("authorization", format!("Bearer {key}"));
    let body = body.map(|body| body.to_string()).unwrap_or_default();
    host.send_request(request.body(Full::new(Bytes::from(body))).unwrap()).await
}

async fn get(host: &TestHost, key: &str, path: &str) -> Reply {
    send(host, key, Method::GET, path, None).await
}

async fn execute(host: &TestHost, key: &str, body: Value) -> Reply {
    send(host, key, Method::POST, "/api/plugins/execute", Some(body)).await
}

/// The values of one member of a list of objects.
fn each<'a>(list: &'a Value, member: &str) -> Vec<&'a str> {
    let list = list.as_array().unwrap_or_else(|| panic!("no list: {list}"));
    list.iter().map(|object| object[member].as_str().unwrap()).collect()
}

fn find<'a>(list: &'a Value, member: &str, wanted: &str) -> &'a Value {
    let mut objects = list.as_array().unwrap().iter();
    objects.find(|object| object[member] == wanted).unwrap_or_else(|| panic!("no `{wanted}` in {list}"))
}

#[tokio::test]
async fn a_caller_sees_the_plugins_and_capabilities_that_it_may_use() {
    let scopes = json!({ "scopes": { "test.wait": "plugin:manage" } });
    let host = guarded().plugin_as("misbehave", "misbehave", scopes).plugin("base-echo").start().await;
    host.start_plugin("misbehave").await;
    for (key, plugins, capabilities) in [
        ("test_a~test.echo", vec!["misbehave"], vec!["test.echo"]),
        ("test_b~plugin:manage", vec!["base-echo", "misbehave", "otherauth"], vec![]),
        ("test_c~test.echo,test.wait", vec!["misbehave"], vec!["test.echo"]),
        ("test_d~base.echo", vec!["base-echo"], vec![]),
        ("test_e~base.*,test.echo;plugins=base-*", vec!["base-echo"], vec![]),
        ("test_f~otherauth.count", vec!["otherauth"], vec![]),
        ("test_g~auth.*", vec![], vec![]),
        ("test_nobody~", vec![], vec![]),
        ("test_i~plugin:read;plugins=misbehave", vec!["misbehave"], vec![]),
    ] {
        let list = get(&host, key, "/api/plugins").await.json();
        let mut names = each(&list, "name");
        names.sort_unstable();
        assert_eq!(names, plugins, "{key}");
        for name in ["misbehave", "base-echo", "otherauth"] {
            for below in ["", "/status", "/capabilities"] {
                let reply = get(&host, key, &format!("/api/plugins/{name}{below}")).await;
                let due = if plugins.contains(&name) { 200 } else { 404 };
                assert_eq!(reply.status, due, "{key} {name}{below}: {}", reply.text);
            }
        }
        if !capabilities.is_empty() {
            let shown = get(&host, key, "/api/plugins/misbehave").await.json();
            assert_eq!(each(&shown["capabilities"], "id"), capabilities, "{key}");
            assert_eq!((&shown["models"], &shown["configSchema"]), (&json!([]), &Value::Null));
        }
    }
    let unknown = get(&host, "test_nobody~", "/api/plugins/nobody").await.text;
    let unseen = get(&host, "test_nobody~", "/api/plugins/misbehave").await.text;
    assert_eq!(unseen, unknown.replace("nobody", "misbehave"), "one cannot be told from the other");
}

#[tokio::test]
async fn who_reads_plugins_sees_everything_and_what_of_it_may_be_used() {
    let terms = json!({ "test.echo": {
        "description": "Says it again",
        "inputSchema": { "type": "object" },
        "outputSchema": true,
        "idempotent": true,
        "sideEffect": true,
        "timeoutMs": 9_000
    } });
    let entry = json!({
        "settings": { "register": "once", "terms": terms },
        "author": { "name": "Ada", "url": "https://example.org" },
        "category": "tests",
        "tags": ["loud", "odd"],
        "updated": "2026-01-31",
        "requires": ["python3"],
        "example": { "input": "hello" },
        "scopes": { "test.wait": "plugin:manage" }
    });
    let host = guarded().plugin_as("misbehave", "misbehave", entry).start().await;
    host.start_plugin("misbehave").await;
    let key = "test_a~plugin:read,test.echo";
    let shown = get(&host, key, "/api/plugins/misbehave").await.json();
    for (member, value) in [
        ("status", json!("running")),
        ("state", json!("running")),
        ("version", json!("1.0.0")),
        ("type", json!("python")),
        ("author", json!("Ada")),
        ("category", json!("tests")),
        ("tags", json!(["loud", "odd"])),
        ("updated", json!("2026-01-31")),
        ("requirements", json!(["python3"])),
        ("example", json!({ "input": "hello" })),
        ("routes", json!([])),
        ("tools", json!([])),
    ] {
        assert_eq!(shown[member], value, "{member}");
    }
    assert_eq!(shown["configSchema"]["type"], "object");
    assert_eq!(
        *find(&shown["capabilities"], "id", "test.echo"),
        json!({
            "id": "test.echo",
            "description": "Says it again",
            "inputSchema": { "type": "object" },
            "outputSchema": true,
            "streaming": false,
            "idempotent": true,
            "sideEffect": true,
            "timeoutMs": 9_000,
            "scope": "test.echo",
            "allowed": true
        })
    );
    let guarded = find(&shown["capabilities"], "id", "test.wait");
    assert_eq!((&guarded["scope"], &guarded["allowed"]), (&json!("plugin:manage"), &json!(false)));
    assert_eq!(find(&shown["models"], "capability", "llm.chat")["ownedBy"], "tests");
    let listed = get(&host, key, "/api/plugins").await.json();
    assert_eq!(find(&listed, "name", "misbehave"), &shown);
    let capabilities = get(&host, key, "/api/plugins/misbehave/capabilities").await.json();
    assert_eq!(capabilities, json!({ "plugin": "misbehave", "capabilities": shown["capabilities"] }));

    // What it offers is known on, whoever looks while it is down.
    host.host().supervisor.want_down("misbehave").unwrap();
    host.until_state("misbehave", State::Stopped).await;
    let stopped = get(&host, "test_b~test.echo", "/api/plugins/misbehave").await.json();
    assert_eq!((&stopped["status"], &stopped["state"]), (&json!("stopped"), &json!("stopped")));
    assert_eq!(stopped["capabilities"][0]["description"], "Says it again");
}

#[tokio::test]
async fn a_plugin_that_failed_has_the_historical_status_and_tells_only_operators_why() {
    let entry = json!({ "restart": "never", "capabilities": ["test.echo"] });
    let host = guarded().plugin_as("fails", "fails", entry).start().await;
    host.host().supervisor.want_up("fails").unwrap();
    host.until_state("fails", State::Failed).await;
    let status = get(&host, "test_a~plugin:read", "/api/plugins/fails/status").await.json();
    assert_eq!((&status["status"], &status["state"]), (&json!("error"), &json!("failed")));
    assert!(status["reason"].as_str().unwrap().contains("flux capacitor"), "{status}");
    assert!(status["since"].is_string());
    let told = get(&host, "test_b~test.echo", "/api/plugins/fails/status").await.json();
    assert_eq!((&told["status"], &told["reason"]), (&json!("error"), &Value::Null));
}

#[tokio::test]
async fn logs_and_figures_are_the_operators_own_below_either_prefix() {
    let host = guarded().plugin("misbehave").config("telemetry.interval_ms = 60000").start().await;
    host.start_plugin("misbehave").await;
    let key = "test_a~plugin:read";
    for below in ["logs?tail=5", "telemetry"] {
        let [one, other] = ["/api", "/admin"].map(|prefix| format!("{prefix}/plugins/misbehave/{below}"));
        assert_eq!(get(&host, key, &one).await.json(), get(&host, key, &other).await.json());
        assert_eq!(get(&host, "test_b~test.*", &one).await.status, 403);
    }
    let all = get(&host, key, "/api/plugins/telemetry").await.json();
    assert_eq!(each(&all["plugins"], "plugin").len(), 2);
    let narrowed = get(&host, "test_c~plugin:read;plugins=misbehave", "/api/plugins/telemetry").await;
    assert_eq!(each(&narrowed.json()["plugins"], "plugin"), ["misbehave"]);
}

#[tokio::test]
async fn a_key_that_was_narrowed_to_a_plugin_finds_no_other_where_operators_look() {
    let host = guarded().plugin("misbehave").start().await;
    let key = "test_a~plugin:*,plugin:read,plugin:manage;plugins=misbehave";
    for below in [
        "",
        "/logs",
        "/logs/download",
        "/telemetry",
        "/routes",
        "/config",
        "/config/revisions",
        "/config/revisions/0",
        "/config/diff",
    ] {
        let path = |plugin: &str| format!("/admin/plugins/{plugin}{below}");
        assert_eq!(get(&host, key, &path("otherauth")).await.status, 404, "{below}");
        assert_ne!(get(&host, key, &path("misbehave")).await.status, 403, "{below}");
    }
    for below in ["logs", "telemetry"] {
        assert_eq!(get(&host, key, &format!("/api/plugins/otherauth/{below}")).await.status, 404);
    }
    let all = get(&host, key, "/admin/plugins").await.json();
    assert_eq!(each(&all, "name"), ["misbehave"]);
    let ports = get(&host, key, "/admin/ports").await.json();
    assert_eq!(ports["plugins"].as_object().unwrap().keys().collect::<Vec<_>>(), ["misbehave"]);
    host.host().logs.plugin(&"otherauth".parse().unwrap()).append(NewLine::host(LogLevel::Info, "hidden"));
    let lines = get(&host, key, "/admin/logs").await.json();
    assert!(each(&lines["lines"], "plugin").iter().all(|plugin| *plugin == "misbehave"), "{lines}");
    assert_eq!(get(&host, key, "/admin/logs?plugin=otherauth").await.status, 404);
    assert_eq!(get(&host, key, "/admin/mirror").await.status, 403);
    for (path, body) in
        [("stop", json!({})), ("start", json!({})), ("restart", json!({})), ("config", json!({}))]
    {
        let path = format!("/admin/plugins/otherauth/{path}");
        let reply = send(&host, key, Method::POST, &path, Some(body)).await;
        assert_eq!((reply.status.as_u16(), reply.code().as_str()), (404, "not_found"), "{path}");
    }
}

#[tokio::test]
async fn execute_runs_a_plugin_by_its_own_execute_or_its_only_capability() {
    let single = json!({ "settings": { "offers": ["test.echo"] } });
    let host = guarded().plugin_as("misbehave", "single", single).start().await;
    host.start_plugin("single").await;
    for (plugin, data, result) in [
        ("single", json!("two\nlines"), json!({ "input": "two\nlines" })),
        ("single", json!({ "n": 1 }), json!({ "n": 1 })),
        ("otherauth", json!("x"), json!({ "input": "x" })),
    ] {
        let body = json!({ "plugin": plugin, "data": data });
        let reply = execute(&host, "test_a~test.*,otherauth.count", body).await;
        assert_eq!((reply.status.as_u16(), reply.json()), (200, json!({ "result": result })));
    }
    let nothing = execute(&host, "test_a~test.*", json!({ "plugin": "single" })).await;
    assert_eq!(nothing.json(), json!({ "result": {} }));

    let refused = execute(&host, "test_b~test.echo", json!({ "plugin": "otherauth", "data": "x" })).await;
    assert_eq!((refused.status.as_u16(), refused.code().as_str()), (403, "forbidden"));
    assert!(refused.text.contains("`otherauth.count`"), "the entry's own scope: {}", refused.text);
    let narrowed = "test_c~test.*;plugins=otherauth";
    assert_eq!(execute(&host, narrowed, json!({ "plugin": "single", "data": "x" })).await.status, 403);

    // One row for each that was let in, as `invoke` has it.
    let written = async {
        loop {
            let page = host.get("/admin/requests?limit=100").await.json();
            let rows = page["requests"].as_array().unwrap().clone();
            let of = |name: &str| rows.iter().filter(|row| row["capability"] == name).count();
            if (of("test.echo"), of("otherauth.execute")) == (4, 1) {
                return;
            }
        }
    };
    timeout(PATIENCE, written).await.expect("five rows are written");
}

#[tokio::test]
async fn execute_says_what_is_wrong_and_between_what_to_choose() {
    let host = guarded().plugin("misbehave").plugin("fails").plugin("base-echo").start().await;
    host.start_plugin("misbehave").await;
    let key = "test_a~test.echo,test.wait";
    for (body, status, code, param) in [
        (json!({ "plugin": "nobody", "data": "x" }), 404, "not_found", Value::Null),
        (json!({ "data": "x" }), 400, "invalid_request", json!("plugin")),
        (json!({ "plugin": "misbehave", "data": "x" }), 400, "invalid_request", json!("plugin")),
        (json!({ "plugin": "fails", "data": "x" }), 503, "plugin_unavailable", Value::Null),
        (json!({ "plugin": "base-echo", "data": "x" }), 403, "forbidden", Value::Null),
        (json!({ "plugin": "otherauth", "data": [1] }), 400, "invalid_request", json!("data")),
        (json!({ "plugin": 7 }), 400, "invalid_request", json!("plugin")),
        (json!(["misbehave"]), 400, "invalid_request", Value::Null),
    ] {
        let reply = execute(&host, key, body.clone()).await;
        let found = (reply.status.as_u16(), reply.code(), reply.json()["error"]["param"].clone());
        assert_eq!(found, (status, code.to_owned(), param), "{body}: {}", reply.text);
    }
    let choice = execute(&host, key, json!({ "plugin": "misbehave" })).await.json();
    assert_eq!(choice["error"]["details"], json!({ "capabilities": ["test.echo", "test.wait"] }));
}

#[tokio::test]
async fn the_daemon_tells_what_it_is_and_where_each_setting_comes_from() {
    let host = TestHost::builder().config("logs.ring_lines = 77").start().await;
    let system = host.get("/admin/system").await.json();
    assert_eq!((&system["version"], &system["pid"]), (&json!("0.1.0"), &json!(std::process::id())));
    assert_eq!(system["dataDir"], json!(host.data_dir()));
    assert_eq!(system["logs"], json!({ "unwritten": 0, "leftOut": 0, "diskErrors": 0 }));
    assert!(system["startedAt"].is_string() && system["uptimeSeconds"].is_u64(), "{system}");
    let key = |name| find(&system["config"], "key", name);
    assert_eq!(key("logs.ring_lines")["value"], 77);
    assert_eq!(key("logs.ring_lines")["origin"]["kind"], "file");
    assert_eq!(key("logs.ring_lines")["locked"], false);
    assert_eq!(
        (&key("api.port")["origin"]["kind"], &key("api.port")["locked"]),
        (&json!("flag"), &json!(true))
    );
    let environment = key("cache_dir");
    assert_eq!(environment["origin"], json!({ "kind": "environment", "variable": "BKG_CACHE_DIR" }));
    assert_eq!(environment["locked"], true);
    assert_eq!(key("runtime.threads")["origin"], json!({ "kind": "default" }));

    let measured = async {
        loop {
            let process = host.get("/admin/system").await.json()["process"].take();
            if !process.is_null() {
                return process;
            }
        }
    };
    let process = timeout(PATIENCE, measured).await.expect("the first round comes at once");
    assert!(process["rssBytes"].as_u64() > Some(0) && process["threads"].as_u64() > Some(0), "{process}");
}
