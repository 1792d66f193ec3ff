//! Entries as operators change them: merged, checked, saved, pushed or restarted for, returned.
//!
//! With `misbehave`, which takes pushed settings or refuses them as they themselves say. What is
//! promised across crashes is in `saving`.

use std::fs;
use std::path::Path;

use bkg::registry::State;
use http::Method;
use serde_json::{Value, json};
use tokio::task::JoinSet;

use crate::host::{Reply, TestHost, header};
use crate::visitor::{Visitor, complete};

pub(super) const CONFIG: &str = "/admin/plugins/misbehave/config";
const CANARY: &str = "canary-7f3a9b2c";

/// A daemon with `misbehave`, which takes settings while it runs if `hot`.
pub(super) async fn with_settings(settings: Value) -> TestHost {
    let host = TestHost::builder()
        .plugin_as("misbehave", "misbehave", json!({ "settings": settings }))
        .start()
        .await;
    host.start_plugin("misbehave").await;
    host
}

async fn hot() -> TestHost {
    with_settings(json!({ "hot": true, "word": "first" })).await
}

fn root(host: &TestHost) -> Visitor {
    Visitor::at(host.api_port()).with(host.key())
}

/// Saves a change that is taken, and answers what became of it.
async fn save(host: &TestHost, body: Value) -> Value {
    let reply = host.post(CONFIG, body).await;
    assert!(reply.status.is_success(), "{}", reply.text);
    reply.json()
}

pub(super) async fn settings(host: &TestHost) -> Value {
    host.ask("test.settings", json!({})).await
}

/// The places that a refusal names.
fn places(reply: &Reply) -> Vec<String> {
    assert_eq!((reply.status.as_u16(), reply.code().as_str()), (422, "invalid_config"), "{}", reply.text);
    let details = reply.json()["error"]["details"].clone();
    let details = details.as_array().unwrap();
    details.iter().map(|detail| detail["path"].as_str().unwrap().to_owned()).collect()
}

#[tokio::test]
async fn settings_reach_a_plugin_that_takes_them_while_it_runs() {
    let host = hot().await;
    let before = settings(&host).await;
    let saved = save(&host, json!({ "settings": { "word": "second" } })).await;
    assert_eq!(
        saved,
        json!({
            "revision": 1, "applied": "hot", "restartNeeded": false,
            "changes": [{ "path": "/settings/word", "from": "first", "to": "second" }]
        })
    );
    let after = settings(&host).await;
    assert_eq!(after["pid"], before["pid"]);
    assert_eq!((&after["current"]["word"], &after["revision"]), (&json!("second"), &json!(1)));

    // The next process starts with them.
    let unchanged = save(&host, json!({ "settings": { "word": "second" } })).await;
    assert_eq!((&unchanged["applied"], &unchanged["revision"]), (&json!("unchanged"), &json!(1)));
    assert_eq!(host.post("/admin/plugins/misbehave/restart?wait=30", json!({})).await.status, 200);
    let fresh = settings(&host).await;
    assert_ne!(fresh["pid"], before["pid"]);
    assert_eq!((&fresh["registered"]["word"], &fresh["revision"]), (&json!("second"), &json!(1)));
    host.stop().await;
}

#[tokio::test]
async fn settings_that_the_plugin_refuses_were_never_there() {
    let host = hot().await;
    let refused = host.post(CONFIG, json!({ "settings": { "word": "x", "applies": "no" } })).await;
    assert_eq!(places(&refused), ["/settings"]);
    assert!(refused.text.contains("these settings are not to its liking"), "{}", refused.text);
    let view = host.get(CONFIG).await.json();
    assert_eq!((&view["revision"], &view["saved"]), (&json!(0), &json!({})));
    assert_eq!(view["entry"]["settings"]["word"], "first");
    let after = settings(&host).await;
    assert_eq!((&after["current"]["word"], &after["pushed"]), (&json!("first"), &json!([1, 0])));
    host.stop().await;
}

#[tokio::test]
async fn a_plugin_that_is_lost_while_it_is_told_changes_nothing() {
    let host = hot().await;
    let lost = host.post(CONFIG, json!({ "settings": { "applies": "drop" } })).await;
    assert_eq!((lost.status.as_u16(), lost.code().as_str()), (502, "plugin_error"), "{}", lost.text);
    host.until_state("misbehave", State::Running).await;
    let view = host.get(CONFIG).await.json();
    assert_eq!((&view["revision"], &view["live"]["restartNeeded"]), (&json!(0), &json!(false)));
    host.stop().await;
}

#[tokio::test]
async fn a_plugin_that_reads_settings_at_its_start_is_started_again() {
    let host = with_settings(json!({ "word": "first" })).await;
    let before = settings(&host).await;
    let saved = save(&host, json!({ "settings": { "word": "second" }, "env": { "A": "b" } })).await;
    assert_eq!((&saved["applied"], &saved["restartNeeded"]), (&json!("restarted"), &json!(false)));
    let after = settings(&host).await;
    assert_ne!(after["pid"], before["pid"]);
    assert_eq!(after["started"]["word"], "second");
    let environment = host.ask("test.environment", json!({})).await;
    assert_eq!(environment["environment"]["A"], "b");
    host.stop().await;
}

#[tokio::test]
async fn what_only_the_host_uses_holds_at_once_and_disturbs_nobody() {
    let host = with_settings(json!({})).await;
    let before = settings(&host).await;
    let change = json!({ "autostart": true, "restart": "never", "scopes": { "test.echo": "llm.chat" } });
    assert_eq!(save(&host, change).await["applied"], "hot");
    assert_eq!(settings(&host).await["pid"], before["pid"]);
    let scopes = &host.get(CONFIG).await.json()["entry"]["scopes"];
    assert_eq!(*scopes, json!({ "test.echo": "llm.chat" }));
    host.stop().await;
}

#[tokio::test]
async fn instances_come_and_go_while_the_others_serve() {
    let host = with_settings(json!({})).await;
    let first = settings(&host).await["pid"].clone();
    assert_eq!(save(&host, json!({ "instances": 3 })).await["applied"], "hot");
    let record = host
        .until(|view| view.plugin("misbehave").filter(|record| record.instances.len() == 3).cloned())
        .await;
    let pids: Vec<Value> = record.instances.iter().map(|instance| json!(instance.pid)).collect();
    assert!(pids.contains(&first), "{pids:?}");
    save(&host, json!({ "instances": 1 })).await;
    host.until(|view| view.plugin("misbehave").filter(|record| record.instances.len() == 1).cloned()).await;
    host.until_state("misbehave", State::Running).await;
    assert_eq!(settings(&host).await["pid"], first);
    // A seat that was given up comes back.
    save(&host, json!({ "instances": 2 })).await;
    host.until(|view| view.plugin("misbehave").filter(|record| record.instances.len() == 2).cloned()).await;
    host.stop().await;
}

#[tokio::test]
async fn a_change_for_later_waits_for_the_next_start() {
    let host = hot().await;
    let reply =
        host.post(&format!("{CONFIG}?apply=later"), json!({ "settings": { "word": "later" } })).await;
    assert_eq!(reply.status, 202, "{}", reply.text);
    let saved = reply.json();
    assert_eq!((&saved["applied"], &saved["restartNeeded"]), (&json!("later"), &json!(true)));
    assert_eq!(settings(&host).await["current"]["word"], "first");
    let object = host.get("/admin/plugins/misbehave").await.json();
    assert_eq!((&object["restartNeeded"], &object["revision"]), (&json!(true), &json!(1)));
    host.post("/admin/plugins/misbehave/restart?wait=30", json!({})).await;
    assert_eq!(settings(&host).await["current"]["word"], "later");
    assert_eq!(host.get(CONFIG).await.json()["live"]["restartNeeded"], false);
    host.stop().await;
}

#[tokio::test]
async fn what_breaks_the_rules_is_named_place_by_place_and_changes_nothing() {
    let host = hot().await;
    let check = async |body: Value, expected: &[&str]| {
        let reply = host.post(CONFIG, body).await;
        assert_eq!(places(&reply), expected);
    };
    check(json!({ "settings": { "word": 7, "more": 1 } }), &["/settings", "/settings/word"]).await;
    check(json!({ "settings": { "upstreams": [{ "name": "a" }, {}] } }), &["/settings/upstreams/1"]).await;
    check(json!({ "settings": [] }), &["/settings"]).await;
    check(json!({ "restart": "sometimes" }), &["/restart"]).await;
    check(json!({ "env": { "BKG_PLUGIN_TOKEN": "x" } }), &["/env/BKG_PLUGIN_TOKEN"]).await;
    check(json!({ "scopes": { "a.b/c": 1 } }), &["/scopes/a.b~1c"]).await;
    check(json!({ "capabilities": ["test.*", 1] }), &["/capabilities/1"]).await;
    check(json!({ "entrypoint": "/bin/sh" }), &["/entrypoint"]).await;
    check(json!({ "settings": { "word": { "$sealed": "v1.x" } } }), &["/settings/word"]).await;
    check(json!({ "settings": { "word": { "$secret": true } } }), &["/settings/word"]).await;

    let other = host.post(CONFIG, json!({ "name": "else" })).await;
    assert_eq!((other.status.as_u16(), other.code().as_str()), (400, "invalid_request"));
    for (path, body) in [("?apply=soon", json!({})), ("?dryRun=1", json!({})), ("", json!([]))] {
        assert_eq!(host.post(&format!("{CONFIG}{path}"), body).await.status, 400);
    }
    assert_eq!(host.post("/admin/plugins/nobody/config", json!({})).await.status, 404);
    assert_eq!(host.get(&format!("{CONFIG}/revisions/1")).await.status, 404);
    assert_eq!(host.post(&format!("{CONFIG}/return"), json!({ "revision": 9 })).await.status, 404);
    let view = host.get(CONFIG).await.json();
    assert_eq!((&view["revision"], &settings(&host).await["pushed"]), (&json!(0), &json!([])));
    host.stop().await;
}

#[tokio::test]
async fn a_dry_run_shows_what_would_change() {
    let host = hot().await;
    let path = format!("{CONFIG}?dryRun=true");
    let shown = host.post(&path, json!({ "settings": { "word": "x" }, "instances": 2 })).await.json();
    assert_eq!(
        shown["changes"],
        json!([
            { "path": "/settings/word", "from": "first", "to": "x" },
            { "path": "/instances", "from": 1, "to": 2 }
        ])
    );
    assert_eq!(places(&host.post(&path, json!({ "settings": { "word": 1 } })).await), ["/settings/word"]);
    assert_eq!(host.get(CONFIG).await.json()["revision"], 0);
    host.stop().await;
}

#[tokio::test]
async fn of_twenty_who_edit_at_once_each_loses_nothing() {
    let host = hot().await;
    let (mut editors, root) = (JoinSet::new(), root(&host));
    for number in 0..20 {
        let root = root.clone();
        editors.spawn(async move {
            let mut refusals = 0;
            // Each adds a word of its own to what is there, as somebody with a form does.
            loop {
                let view = root.get(CONFIG).await;
                let tag = header(&view, "etag").unwrap().to_owned();
                let mut upstreams = view.json()["entry"]["settings"]["upstreams"].clone();
                if upstreams.is_null() {
                    upstreams = json!([]);
                }
                upstreams.as_array_mut().unwrap().push(json!({ "name": format!("editor-{number}") }));
                let body = json!({ "settings": { "upstreams": upstreams } });
                let request = root.request(Method::POST, CONFIG).header("if-match", tag);
                let reply =
                    Reply::read(root.open(complete(request, Some(body))).await.unwrap()).await.unwrap();
                match reply.status.as_u16() {
                    200 => return refusals,
                    409 => refusals += 1,
                    _ => panic!("{}", reply.text),
                }
            }
        });
    }
    let refusals: usize = editors.join_all().await.into_iter().sum();
    assert!(refusals > 0, "they edited one after the other");
    let view = host.get(CONFIG).await.json();
    assert_eq!(view["revision"], 20);
    let names = |settings: &Value| {
        let list = settings["upstreams"].as_array().unwrap();
        let mut names: Vec<String> =
            list.iter().map(|one| one["name"].as_str().unwrap().to_owned()).collect();
        names.sort();
        names
    };
    let mut expected: Vec<String> = (0..20).map(|number| format!("editor-{number}")).collect();
    expected.sort();
    assert_eq!(names(&view["entry"]["settings"]), expected);
    assert_eq!(names(&settings(&host).await["current"]), expected);
    let revisions = host.get(&format!("{CONFIG}/revisions?limit=100")).await.json();
    let numbers: Vec<u64> =
        revisions.as_array().unwrap().iter().map(|one| one["revision"].as_u64().unwrap()).collect();
    assert_eq!(numbers, (1..=20).rev().collect::<Vec<_>>());
    host.stop().await;
}

#[tokio::test]
async fn revisions_are_kept_compared_and_returned_to() {
    let host = hot().await;
    let path = format!("{CONFIG}?note=the%20second%20word");
    assert_eq!(host.post(&path, json!({ "settings": { "word": "second" } })).await.status, 200);
    save(&host, json!({ "settings": { "word": null, "terms": {} } })).await;
    let revisions = host.get(&format!("{CONFIG}/revisions")).await.json();
    let changes: Vec<&Value> = revisions.as_array().unwrap().iter().map(|one| &one["changes"]).collect();
    assert_eq!(
        changes,
        [
            &json!([{ "path": "/settings/word", "from": "second" }, { "path": "/settings/terms", "to": {} }]),
            &json!([{ "path": "/settings/word", "from": "first", "to": "second" }])
        ]
    );
    assert_eq!(
        (&revisions[1]["author"], &revisions[1]["note"]),
        (&json!("root"), &json!("the second word"))
    );
    let page = host.get(&format!("{CONFIG}/revisions?before=2&limit=1")).await.json();
    assert_eq!((page.as_array().unwrap().len(), &page[0]["revision"]), (1, &json!(1)));
    let diff = host.get(&format!("{CONFIG}/diff?from=2&to=0")).await.json();
    assert_eq!(
        diff["changes"],
        json!([{ "path": "/settings/terms", "from": {} }, { "path": "/settings/word", "to": "first" }])
    );
    let back = host.post(&format!("{CONFIG}/return"), json!({ "revision": 1 })).await.json();
    assert_eq!((&back["revision"], &back["applied"]), (&json!(3), &json!("hot")));
    assert_eq!(settings(&host).await["current"]["word"], "second");
    assert_eq!(
        host.get(&format!("{CONFIG}/revisions/3")).await.json()["saved"],
        json!({ "settings": { "word": "second" } })
    );
    let reset =
        host.post(&format!("{CONFIG}/reset"), json!({ "paths": ["/settings/word", "/env/none"] })).await;
    assert_eq!(
        reset.json()["changes"],
        json!([{ "path": "/settings/word", "from": "second", "to": "first" }])
    );
    assert_eq!(host.get(CONFIG).await.json()["saved"], json!({}));
    host.stop().await;
}

#[tokio::test]
async fn every_value_says_where_it_comes_from() {
    let host = hot().await;
    save(&host, json!({ "settings": { "word": "x" }, "env": { "A": "b" } })).await;
    let view = host.get(CONFIG).await.json();
    for (place, origin) in [
        ("/settings/word", "saved"),
        ("/env/A", "saved"),
        ("/settings/hot", "plugin.json"),
        ("/instances", "default"),
        ("/configSchema", "plugin.json"),
    ] {
        assert_eq!(view["origins"][place], origin, "{place}");
    }
    host.stop().await;
}

#[tokio::test]
async fn a_whole_entry_replaces_and_what_it_leaves_out_is_gone() {
    let host = hot().await;
    save(&host, json!({ "env": { "A": "1", "B": "2" }, "settings": { "word": "x" } })).await;
    let mut whole = host.get(CONFIG).await.json()["entry"].clone();
    whole["env"].as_object_mut().unwrap().remove("A");
    whole["settings"].as_object_mut().unwrap().remove("word");
    let replaced = root(&host).put(CONFIG, whole).await;
    assert_eq!(replaced.status, 200, "{}", replaced.text);
    let saved = host.get(CONFIG).await.json()["saved"].clone();
    assert_eq!(saved, json!({ "env": { "B": "2" }, "settings": { "word": null } }));
    host.stop().await;
}

#[tokio::test]
async fn a_secret_reaches_its_plugin_and_nobody_else() {
    let host = hot().await;
    let saved = save(&host, json!({ "settings": { "secret": CANARY } })).await;
    assert_eq!(saved["changes"], json!([{ "path": "/settings/secret", "to": { "$secret": true } }]));
    assert_eq!(settings(&host).await["current"]["secret"], CANARY);

    // Sent back as it was read, it is kept.
    let mut entry = host.get(CONFIG).await.json()["entry"].clone();
    entry["settings"]["word"] = json!("x");
    let kept = root(&host).put(CONFIG, entry).await.json();
    assert_eq!(kept["changes"], json!([{ "path": "/settings/word", "from": "first", "to": "x" }]));
    assert_eq!(settings(&host).await["current"]["secret"], CANARY);

    // The next process has it too, and its runtime file no longer once it has registered.
    host.post("/admin/plugins/misbehave/restart?wait=30", json!({})).await;
    let fresh = settings(&host).await;
    assert_eq!(fresh["registered"]["secret"], CANARY);

    let mut seen = Vec::new();
    for path in [
        CONFIG.to_owned(),
        format!("{CONFIG}/revisions"),
        format!("{CONFIG}/revisions/1"),
        format!("{CONFIG}/diff?from=0"),
        "/admin/plugins".to_owned(),
        "/admin/plugins/misbehave".to_owned(),
        "/admin/audit".to_owned(),
        "/admin/plugins/misbehave/logs".to_owned(),
    ] {
        let reply = host.get(&path).await;
        assert_eq!(reply.status, 200, "{path}: {}", reply.text);
        seen.push((path, reply.text));
    }
    let short = host.post(CONFIG, json!({ "settings": { "secret": "can" } })).await;
    assert_eq!(places(&short), ["/settings/secret"]);
    seen.push(("a refusal".to_owned(), short.text.replace("can be", "")));
    for (path, text) in seen {
        assert!(!text.contains("canary") && !text.contains("\"can\""), "{path} tells: {text}");
    }
    assert_eq!(files_with(&host.data_dir(), CANARY), Vec::<String>::new());
    host.stop().await;
}

#[tokio::test]
async fn secrets_in_a_list_stay_with_their_items_when_the_list_is_put_in_another_order() {
    let host = hot().await;
    let list = json!([
        { "name": "a", "apiKey": "key-of-a" },
        { "name": "b", "apiKey": "key-of-b" },
        { "name": "c", "apiKey": "key-of-c" }
    ]);
    save(&host, json!({ "settings": { "upstreams": list } })).await;
    let mut shown = host.get(CONFIG).await.json()["entry"]["settings"]["upstreams"].clone();
    let items = shown.as_array_mut().unwrap();
    items.remove(1);
    items.reverse();
    save(&host, json!({ "settings": { "upstreams": shown } })).await;
    assert_eq!(
        settings(&host).await["current"]["upstreams"],
        json!([{ "name": "c", "apiKey": "key-of-c" }, { "name": "a", "apiKey": "key-of-a" }])
    );
    host.stop().await;
}

#[tokio::test]
async fn an_upgrade_of_the_defaults_comes_through_under_what_was_saved() {
    let host = TestHost::builder()
        .plugin_as(
            "misbehave",
            "misbehave",
            json!({ "version": "1", "settings": { "hot": true, "word": "old" } }),
        )
        .start()
        .await;
    save(&host, json!({ "settings": { "secret": CANARY }, "instances": 2 })).await;
    let file = host.plugins_dir().join("misbehave/plugin.json");
    edit(&file, |manifest| {
        manifest["version"] = json!("2");
        manifest["settings"] = json!({ "hot": true, "word": "new", "ignoreDrain": false });
        manifest["env"] = json!({ "ADDED": "yes" });
    });
    let host = host.restart().await;
    let view = host.get(CONFIG).await.json();
    assert_eq!((&view["revision"], &view["entry"]["version"]), (&json!(1), &json!("2")));
    assert_eq!(view["entry"]["settings"]["word"], "new");
    assert_eq!(
        (&view["entry"]["instances"], &view["entry"]["env"]),
        (&json!(2), &json!({ "ADDED": "yes" }))
    );
    host.start_plugin("misbehave").await;
    assert_eq!(settings(&host).await["registered"]["secret"], CANARY);
    host.stop().await;
}

#[tokio::test]
async fn what_was_saved_and_no_longer_fits_keeps_the_plugin_from_running() {
    let host = with_settings(json!({ "word": "first" })).await;
    save(&host, json!({ "healthcheck": { "interval": 5, "path": "/x" } })).await;
    let file = host.plugins_dir().join("misbehave/plugin.json");
    // Merged with what was saved, this is a healthcheck whose path does not begin with `/`.
    edit(&file, |manifest| manifest["env"] = json!({ "A": 1 }));
    let host = host.restart().await;
    let object = host.get("/admin/plugins/misbehave").await.json();
    assert_eq!(object["status"], "broken", "{object}");
    edit(&host.plugins_dir().join("misbehave/plugin.json"), |manifest| manifest["env"] = json!({}));
    let host = host.restart().await;
    host.start_plugin("misbehave").await;
    host.stop().await;
}

#[tokio::test]
async fn who_may_change_what_grows_with_what_it_means() {
    let host = TestHost::builder()
        .plugin("misbehave")
        .plugin("otherauth")
        .config("[auth]\nprovider = \"otherauth\"")
        .start()
        .await;
    let visitor = Visitor::at(host.api_port());
    let reader = visitor.with("test_key-reader~plugin:read");
    let operator = visitor.with("test_key-operator~plugin:manage");
    let admin = visitor.with("test_key-admin~admin");
    let status = async |who: &Visitor, body: Value| who.post(CONFIG, body).await.status.as_u16();
    assert_eq!(reader.get(CONFIG).await.status, 200);
    assert_eq!(status(&reader, json!({ "settings": { "word": "x" } })).await, 403);
    assert_eq!(status(&operator, json!({ "settings": { "word": "x" } })).await, 200);
    assert_eq!(status(&operator, json!({ "calls": ["*"] })).await, 403);
    assert_eq!(status(&operator, json!({ "capabilities": ["*"] })).await, 403);
    assert_eq!(status(&operator, json!({ "unknownToThisHost": 1 })).await, 403);
    assert_eq!(status(&admin, json!({ "calls": ["test.*"] })).await, 200);
    assert_eq!(status(&operator, json!({ "env": { "LD_PRELOAD": "x" } })).await, 403);
    // A key is never a fresh login; the root key is.
    let refused = admin.post(CONFIG, json!({ "env": { "LD_PRELOAD": "x" } })).await;
    assert_eq!((refused.status.as_u16(), refused.code().as_str()), (403, "reauth_required"));
    for body in [
        json!({ "args": ["x"] }),
        json!({ "entrypoint": "else.sh" }),
        json!({ "prepare": { "inputs": ["x"] } }),
    ] {
        assert_eq!(admin.post(CONFIG, body).await.code(), "reauth_required");
    }
    // A way round over an older revision is none.
    assert_eq!(host.post(CONFIG, json!({ "env": { "A": "b" } })).await.status, 200);
    assert_eq!(host.post(&format!("{CONFIG}/reset"), json!({ "paths": ["/env/A"] })).await.status, 200);
    let before = host.get(CONFIG).await.json()["revision"].as_u64().unwrap() - 1;
    let way_round = admin.post(&format!("{CONFIG}/return"), json!({ "revision": before })).await;
    assert_eq!(way_round.code(), "reauth_required");
    host.stop().await;
}

#[tokio::test]
async fn the_mirror_shows_what_is_in_effect_and_hand_edits_are_offered() {
    let host = hot().await;
    save(
        &host,
        json!({ "settings": { "secret": CANARY, "upstreams": [{ "name": "a", "apiKey": CANARY }] } }),
    )
    .await;
    let file = host.data_dir().join("plugins.json");
    let read = || serde_json::from_str::<Value>(&fs::read_to_string(&file).unwrap()).unwrap();
    assert_eq!(read()[0]["settings"]["secret"], json!({ "$secret": true }));
    assert_eq!(host.get("/admin/mirror").await.json()["state"], "same");

    // Somebody edits it; nothing takes effect, and nothing is overwritten.
    let mut edited = read();
    edited[0]["settings"]["word"] = json!("by hand");
    edited[0]["instances"] = json!(2);
    fs::write(&file, edited.to_string()).unwrap();
    save(&host, json!({ "settings": { "terms": {} } })).await;
    assert_eq!(read(), edited);
    edited[0]["settings"]["terms"] = json!({});
    fs::write(&file, edited.to_string()).unwrap();
    let offered = host.get("/admin/mirror").await.json();
    assert_eq!(
        (&offered["state"], &offered["edits"]),
        (
            &json!("edited"),
            &json!([{
                "plugin": "misbehave",
                "violations": [],
                "changes": [
                    { "path": "/settings/word", "from": "first", "to": "by hand" },
                    { "path": "/instances", "from": 1, "to": 2 }
                ]
            }])
        )
    );
    let imported = host.post("/admin/mirror/import", json!({})).await;
    assert_eq!(imported.status, 200, "{}", imported.text);
    assert_eq!(imported.json()["imported"][0]["outcome"]["applied"], "hot", "{}", imported.text);
    assert_eq!(settings(&host).await["current"]["upstreams"][0]["apiKey"], CANARY);
    assert_eq!(host.get("/admin/mirror").await.json()["state"], "same");
    assert!(Path::new(imported.json()["kept"].as_str().unwrap()).is_file());
    host.stop().await;
}

#[tokio::test]
async fn a_hand_edit_that_breaks_the_rules_changes_nothing_and_is_kept() {
    let host = hot().await;
    let file = host.data_dir().join("plugins.json");
    let wrong = json!([{ "name": "misbehave", "settings": { "word": 7 } }, { "name": "nobody" }, 7]);
    fs::write(&file, wrong.to_string()).unwrap();
    let refused = host.post("/admin/mirror/import", json!({})).await;
    assert_eq!(
        (refused.status.as_u16(), refused.code().as_str()),
        (422, "invalid_config"),
        "{}",
        refused.text
    );
    let offered = host.get("/admin/mirror").await.json();
    assert_eq!(offered["edits"].as_array().unwrap().len(), 3, "{offered}");
    fs::write(&file, "not a list").unwrap();
    assert_eq!(host.get("/admin/mirror").await.json()["state"], "unreadable");
    let given_up = host.post("/admin/mirror/discard", json!({})).await.json();
    assert_eq!(fs::read_to_string(given_up["kept"].as_str().unwrap()).unwrap(), "not a list");
    assert_eq!(host.get("/admin/mirror").await.json()["state"], "same");
    assert_eq!(host.get(CONFIG).await.json()["revision"], 0);

    // A hand edit made while no host runs is found at the next start.
    fs::write(&file, "[]").unwrap();
    let host = host.restart().await;
    assert_eq!(host.get("/admin/mirror").await.json()["state"], "edited");
    host.stop().await;
}

#[tokio::test]
async fn a_mask_opens_nothing_where_everybody_reads() {
    let host = hot().await;
    save(&host, json!({ "settings": { "secret": CANARY } })).await;
    let mask = host.get(CONFIG).await.json()["entry"]["settings"]["secret"].clone();
    assert!(mask["id"].is_string(), "{mask}");
    let bodies = [
        (json!({ "settings": { "word": mask } }), "/settings/word"),
        (json!({ "settings": { "upstreams": [{ "name": mask }] } }), "/settings/upstreams/0/name"),
        (json!({ "settings": mask }), "/settings"),
        (json!({ "description": mask }), "/description"),
        (json!({ "autostart": mask }), "/autostart"),
        (json!({ "env": { "A": mask } }), "/env/A"),
    ];
    for (body, place) in bodies {
        for query in ["", "?dryRun=true"] {
            let refused = host.post(&format!("{CONFIG}{query}"), body.clone()).await;
            assert!(!refused.text.contains(CANARY), "{place}: {}", refused.text);
            assert_eq!(places(&refused), [place]);
        }
    }
    // From one secret place to another it may go.
    save(&host, json!({ "settings": { "upstreams": [{ "name": "a", "apiKey": mask }] } })).await;
    assert_eq!(settings(&host).await["current"]["upstreams"][0]["apiKey"], CANARY);
    host.stop().await;
}

#[tokio::test]
async fn a_schema_that_no_longer_calls_it_secret_tells_nobody() {
    let host = hot().await;
    save(&host, json!({ "settings": { "secret": CANARY } })).await;
    // By an upgrade.
    let file = host.plugins_dir().join("misbehave/plugin.json");
    edit(&file, |manifest| manifest["configSchema"] = json!({ "type": "object" }));
    let host = host.restart().await;
    save(&host, json!({ "settings": { "word": "x" } })).await;
    save(&host, json!({ "settings": { "word": "y" } })).await;
    save(&host, json!({ "settings": { "secret": "another" } })).await;
    let back = host.post(&format!("{CONFIG}/return"), json!({ "revision": 2 })).await;
    assert_eq!(back.status, 200, "{}", back.text);
    for path in [CONFIG.to_owned(), format!("{CONFIG}/revisions"), format!("{CONFIG}/diff?from=0")] {
        let text = host.get(&path).await.text;
        assert!(!text.contains(CANARY), "{path} tells: {text}");
    }
    assert_eq!(files_with(&host.data_dir(), CANARY), Vec::<String>::new());
    host.start_plugin("misbehave").await;
    assert_eq!(settings(&host).await["current"]["secret"], CANARY);
    host.stop().await;
}

#[tokio::test]
async fn an_edit_of_the_schema_uncovers_no_secret_of_the_files() {
    let host = with_settings(json!({ "hot": true, "secret": CANARY })).await;
    let uncover = json!({ "configSchema": { "properties": { "secret": { "format": null } } } });
    let saved = save(&host, uncover).await.to_string();
    let removed = save(&host, json!({ "settings": { "secret": null } })).await.to_string();
    let view = host.get(CONFIG).await.text;
    let diff = host.get(&format!("{CONFIG}/diff?from=0")).await.text;
    let reset = host.post(&format!("{CONFIG}/reset"), json!({ "paths": ["/settings/secret"] })).await.text;
    let after = host.get(CONFIG).await.text;
    for text in [saved, removed, view, diff, reset, after] {
        assert!(!text.contains(CANARY), "{text}");
    }
    host.stop().await;
}

#[tokio::test]
async fn a_secret_with_parts_is_hidden_whole() {
    let host = TestHost::builder()
        .plugin_as(
            "misbehave",
            "misbehave",
            json!({ "configSchema": { "properties": { "login": { "type": "object", "writeOnly": true } } } }),
        )
        .start()
        .await;
    let first =
        save(&host, json!({ "settings": { "login": { "user": "ada", "word": "lovelace" } } })).await;
    let second = save(&host, json!({ "settings": { "login": { "word": CANARY } } })).await;
    let mask = json!({ "$secret": true });
    assert_eq!(second["changes"], json!([{ "path": "/settings/login", "from": mask, "to": mask }]));
    let listed = host.get(&format!("{CONFIG}/revisions")).await.text;
    for text in [first.to_string(), listed, host.get(CONFIG).await.text] {
        assert!(!text.contains(CANARY) && !text.contains("lovelace"), "{text}");
    }
    assert_eq!(files_with(&host.data_dir(), CANARY), Vec::<String>::new());
    host.stop().await;
}

#[tokio::test]
async fn an_edit_whose_author_leaves_is_made_all_the_same() {
    let host = hot().await;
    // The disk is busy until this ends.
    let database = bkg_sqlite::rusqlite::Connection::open(host.data_dir().join("bkg.db")).unwrap();
    database.execute_batch("BEGIN IMMEDIATE").unwrap();
    let root = root(&host);
    let leaving = tokio::spawn({
        let root = root.clone();
        async move { root.post(CONFIG, json!({ "settings": { "word": "second" } })).await }
    });
    while settings(&host).await["pushed"] != json!([1]) {
        tokio::task::yield_now().await;
    }
    leaving.abort();
    let _ = leaving.await;
    for _ in 0..20 {
        assert_eq!(host.get("/health").await.status, 200);
    }
    database.execute_batch("ROLLBACK").unwrap();
    host.until(|view| view.plugin("misbehave").filter(|record| record.entry.revision == 1).map(|_| ()))
        .await;
    assert_eq!(save(&host, json!({ "settings": { "word": "third" } })).await["revision"], 2);
    host.stop().await;
}

#[tokio::test]
async fn an_entry_that_does_not_fit_can_be_mended_step_by_step() {
    let host = TestHost::builder()
        .plugin_as("misbehave", "misbehave", json!({ "healthcheck": { "path": "/x" } }))
        .start()
        .await;
    save(&host, json!({ "healthcheck": { "interval": 5 } })).await;
    edit(&host.plugins_dir().join("misbehave/plugin.json"), |manifest| {
        manifest.as_object_mut().unwrap().remove("healthcheck");
    });
    let host = host.restart().await;
    assert_eq!(host.get("/admin/plugins/misbehave").await.json()["status"], "broken");
    let first = save(&host, json!({ "settings": { "word": "x" } })).await;
    assert_eq!((&first["revision"], &first["applied"]), (&json!(2), &json!("next-start")));
    assert_eq!(save(&host, json!({ "settings": { "word": "y" } })).await["revision"], 3);
    assert_eq!(host.get(CONFIG).await.json()["entry"]["settings"]["word"], "y");
    let host = host.restart().await;
    host.start_plugin("misbehave").await;
    assert_eq!(settings(&host).await["started"]["word"], "y");
    host.stop().await;
}

#[tokio::test]
async fn secrets_whose_key_was_given_up_are_set_again() {
    let host = hot().await;
    save(&host, json!({ "settings": { "secret": CANARY } })).await;
    save(&host, json!({ "settings": { "word": "x" } })).await;
    fs::write(host.data_dir().join("secrets.key"), "new").unwrap();
    let host = host.restart().await;
    assert_eq!(host.get("/admin/plugins/misbehave").await.json()["status"], "broken");
    for path in ["/revisions", "/revisions/1", "/diff?from=1&to=2", "/diff?from=0&to=2"] {
        let reply = host.get(&format!("{CONFIG}{path}")).await;
        assert_eq!(reply.status, 200, "{path}: {}", reply.text);
        assert!(!reply.text.contains("v1."), "{path}: {}", reply.text);
    }
    let lost = host.post(&format!("{CONFIG}/return"), json!({ "revision": 1 })).await;
    assert_eq!((lost.status.as_u16(), lost.code().as_str()), (422, "invalid_config"), "{}", lost.text);
    save(&host, json!({ "settings": { "secret": "set again" } })).await;
    let host = host.restart().await;
    host.start_plugin("misbehave").await;
    let current = settings(&host).await["current"].clone();
    assert_eq!((&current["secret"], &current["word"]), (&json!("set again"), &json!("x")));
    host.stop().await;
}

#[tokio::test]
async fn a_list_is_reset_whole_or_not_at_all() {
    let host = with_settings(json!({ "hot": true, "upstreams": [{ "name": "a" }] })).await;
    save(&host, json!({ "settings": { "upstreams": [{ "name": "b" }] } })).await;
    for path in ["/settings/upstreams/0", "/settings/upstreams/0/name"] {
        let refused = host.post(&format!("{CONFIG}/reset"), json!({ "paths": [path] })).await;
        assert_eq!(places(&refused), [path]);
    }
    let reset = host.post(&format!("{CONFIG}/reset"), json!({ "paths": ["/settings/upstreams"] })).await;
    assert_eq!(reset.status, 200, "{}", reset.text);
    assert_eq!(settings(&host).await["current"]["upstreams"], json!([{ "name": "a" }]));
    host.stop().await;
}

#[tokio::test]
async fn a_plugin_that_is_stopped_while_it_is_told_stays_stopped() {
    let host = hot().await;
    let root = root(&host);
    let telling = tokio::spawn({
        let root = root.clone();
        async move { root.post(CONFIG, json!({ "settings": { "applies": "never" } })).await }
    });
    while settings(&host).await["pushed"] != json!([1]) {
        tokio::task::yield_now().await;
    }
    host.post("/admin/plugins/misbehave/stop?wait=30", json!({})).await;
    assert_eq!(telling.await.unwrap().status, 502);
    for _ in 0..20 {
        assert_eq!(host.get("/admin/plugins/misbehave").await.json()["status"], "stopped");
    }
    host.stop().await;
}

#[tokio::test]
async fn a_change_for_later_leaves_a_plugin_alone_that_is_coming_up() {
    let host = TestHost::builder()
        .plugin_as("misbehave", "misbehave", json!({ "settings": { "register": "never" } }))
        .start()
        .await;
    host.post("/admin/plugins/misbehave/start", json!({})).await;
    let launch = loop {
        assert_eq!(host.get("/health").await.status, 200);
        if let Some(launch) = host.host().registry.launches().first().cloned() {
            break launch;
        }
    };
    let reply = host.post(&format!("{CONFIG}?apply=later"), json!({ "settings": { "word": "x" } })).await;
    assert_eq!((reply.status.as_u16(), &reply.json()["applied"]), (202, &json!("later")), "{}", reply.text);
    assert_eq!(host.host().registry.launches(), [launch]);
    host.stop().await;
}

#[tokio::test]
async fn a_refusal_leaves_a_plugin_with_what_it_ran_with() {
    let host = hot().await;
    let later =
        host.post(&format!("{CONFIG}?apply=later"), json!({ "settings": { "word": "later" } })).await;
    assert_eq!(later.status, 202, "{}", later.text);
    let refused = host.post(CONFIG, json!({ "settings": { "applies": "no" } })).await;
    assert_eq!(places(&refused), ["/settings"]);
    assert_eq!(settings(&host).await["current"]["word"], "first");
    let live = host.get(CONFIG).await.json()["live"].clone();
    assert_eq!((&live["revision"], &live["restartNeeded"]), (&json!(0), &json!(true)));
    host.stop().await;
}

fn edit(file: &Path, change: impl FnOnce(&mut Value)) {
    let mut manifest: Value = serde_json::from_str(&fs::read_to_string(file).unwrap()).unwrap();
    change(&mut manifest);
    fs::write(file, manifest.to_string()).unwrap();
}

/// The files below a directory that hold a text.
fn files_with(directory: &Path, text: &str) -> Vec<String> {
    let mut found = Vec::new();
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(files_with(&path, text));
        } else if fs::read(&path).unwrap().windows(text.len()).any(|window| window == text.as_bytes()) {
            found.push(path.display().to_string());
        }
    }
    found
}
