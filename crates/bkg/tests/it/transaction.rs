//! A change of an entry as one transaction: the plugin is asked first, all its instances take it or none
//! does, and what it does not come up with goes back.
//!
//! With `misbehave`, which says of settings what they themselves name. What is saved and how it is shown is
//! in `configuration`.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use bkg::registry::State;
use futures_util::future::join_all;
use serde_json::{Value, json};

use crate::configuration::{CONFIG, settings, with_settings};
use crate::daemon::Place;
use crate::host::{Reply, TestHost};
use crate::visitor::Visitor;

/// A daemon with `misbehave`, which can be asked about settings before it takes them.
async fn asked_first() -> TestHost {
    with_settings(json!({ "hot": true, "dryRuns": true, "word": "first" })).await
}

async fn try_out(host: &TestHost, body: Value) -> Reply {
    host.post(&format!("{CONFIG}?dryRun=true"), body).await
}

/// The settings were refused, and nothing at all happened.
async fn assert_refused(host: &TestHost, refused: &Reply, reason: &str) {
    let details = refused.json()["error"]["details"].clone();
    assert_eq!(
        (refused.status.as_u16(), &details[0]["path"]),
        (422, &json!("/settings")),
        "{}",
        refused.text
    );
    assert!(details[0]["message"].as_str().unwrap().contains(reason), "{}", refused.text);
    let view = host.get(CONFIG).await.json();
    assert_eq!((&view["revision"], &view["live"]["restartNeeded"]), (&json!(0), &json!(false)));
    assert_eq!(settings(host).await["current"]["word"], "first");
}

#[tokio::test]
async fn a_dry_run_tells_what_would_happen_and_what_the_plugin_says() {
    let host = asked_first().await;
    let would = try_out(&host, json!({ "settings": { "word": "second" } })).await.json();
    assert_eq!(
        would,
        json!({
            "revision": 0, "applied": "unchanged", "restartNeeded": false,
            "changes": [{ "path": "/settings/word", "from": "first", "to": "second" }],
            "dryRun": { "wouldBe": "hot", "instances": 1, "asked": 1 }
        })
    );
    let refused = try_out(&host, json!({ "settings": { "applies": "no" } })).await;
    assert_refused(&host, &refused, "these settings would not be to its liking").await;
    let after = settings(&host).await;
    assert_eq!((&after["tried"], &after["pushed"]), (&json!([1, 1]), &json!([])));
    // What is no matter of settings is not asked about.
    let would = try_out(&host, json!({ "env": { "A": "b" } })).await.json();
    assert_eq!(would["dryRun"], json!({ "wouldBe": "restarted", "instances": 1, "asked": 0 }));
    let would = try_out(&host, json!({ "restart": "never" })).await.json();
    assert_eq!(would["dryRun"], json!({ "wouldBe": "hot", "instances": 1, "asked": 0 }));
    host.stop().await;
}

#[tokio::test]
async fn who_cannot_be_asked_first_is_not() {
    let host = with_settings(json!({ "hot": true, "word": "first" })).await;
    let would = try_out(&host, json!({ "settings": { "applies": "no" } })).await.json();
    assert_eq!(would["dryRun"], json!({ "wouldBe": "hot", "instances": 1, "asked": 0 }));
    host.post("/admin/plugins/misbehave/stop?wait=30", json!({})).await;
    let would = try_out(&host, json!({ "settings": { "applies": "no" } })).await.json();
    assert_eq!(would["dryRun"], json!({ "wouldBe": "next-start", "instances": 0, "asked": 0 }));
    host.stop().await;
}

#[tokio::test]
async fn settings_that_a_plugin_would_refuse_are_not_pushed() {
    let host = asked_first().await;
    let refused = host.post(CONFIG, json!({ "settings": { "applies": "no" } })).await;
    assert_refused(&host, &refused, "these settings would not be to its liking").await;
    assert_eq!(settings(&host).await["pushed"], json!([]));
    // Other processes are not started for them either.
    let pid = host.pid("misbehave");
    let refused = host.post(CONFIG, json!({ "settings": { "applies": "no" }, "env": { "A": "b" } })).await;
    assert_refused(&host, &refused, "these settings would not be to its liking").await;
    assert_eq!(host.pid("misbehave"), pid);
    host.stop().await;
}

#[tokio::test]
async fn a_push_has_the_last_word_whatever_a_dry_run_said() {
    let host = asked_first().await;
    let refused = host.post(CONFIG, json!({ "settings": { "applies": "not-after-all" } })).await;
    assert_refused(&host, &refused, "not to its liking after all").await;
    host.stop().await;
}

#[tokio::test]
async fn where_one_of_three_instances_refuses_all_three_go_back() {
    let host = asked_first().await;
    let saved = host.post(CONFIG, json!({ "instances": 3 })).await;
    assert_eq!(saved.json()["applied"], "hot", "{}", saved.text);
    host.until(|view| view.plugin("misbehave").filter(|record| record.instances.len() == 3).cloned()).await;
    let refused = host.post(CONFIG, json!({ "settings": { "word": "x", "applies": "one-no" } })).await;
    assert_eq!(refused.status, 422, "{}", refused.text);
    assert!(refused.text.contains("(so 1 of 3 instances)"), "{}", refused.text);
    let view = host.get(CONFIG).await.json();
    assert_eq!((&view["revision"], &view["live"]["restartNeeded"]), (&json!(1), &json!(false)));
    // Asked at once, they share the questions.
    let mut heard = BTreeSet::new();
    while heard.len() < 3 {
        for said in join_all((0..6).map(|_| settings(&host))).await {
            assert_eq!(said["current"]["word"], "first");
            heard.insert(said["pid"].as_i64().unwrap());
        }
    }
    host.stop().await;
}

#[tokio::test]
async fn an_entry_with_which_a_plugin_does_not_come_up_goes_back() {
    let host = with_settings(json!({ "word": "first" })).await;
    let before = settings(&host).await;
    let broken =
        json!({ "settings": { "register": "garbage", "secret": "never seen" }, "restart": "never" });
    let failed = host.post(&format!("{CONFIG}?note=a+try"), broken).await;
    assert_eq!(
        (failed.status.as_u16(), failed.code().as_str()),
        (422, "invalid_config"),
        "{}",
        failed.text
    );
    let text =
        "did not come up with revision 1 and runs with what it had before, which is saved as revision 2: ";
    assert!(failed.text.contains(text), "{}", failed.text);

    host.until_state("misbehave", State::Running).await;
    let after = settings(&host).await;
    assert_eq!(after["started"], before["started"]);
    let view = host.get(CONFIG).await.json();
    assert_eq!((&view["revision"], &view["saved"]), (&json!(2), &json!({})));
    assert_eq!(view["live"], json!({ "revision": 2, "restartNeeded": false, "takesHotConfig": false }));
    let revisions = host.get(&format!("{CONFIG}/revisions")).await.json();
    assert_eq!((&revisions[0]["author"], &revisions[1]["author"]), (&json!("host"), &json!("root")));
    assert!(revisions[0]["note"].as_str().unwrap().starts_with("rolled back: "), "{revisions}");
    assert_eq!(revisions[1]["note"], "a try");
    let audit = host.get("/admin/audit?limit=5").await.json();
    let rollback = audit.as_array().or(audit["entries"].as_array()).unwrap().iter();
    let rollback = rollback.filter(|entry| entry["action"] == "config.rollback").collect::<Vec<_>>();
    assert_eq!(rollback.len(), 1, "{audit}");
    assert!(!audit.to_string().contains("never seen"), "{audit}");
    assert_eq!(host.get("/admin/mirror").await.json()["state"], "same");

    // The next edit starts from there, and what failed can be had again by its number.
    let saved = host.post(CONFIG, json!({ "settings": { "word": "second" } })).await;
    assert_eq!((&saved.json()["revision"], &saved.json()["applied"]), (&json!(3), &json!("restarted")));
    let again = host.post(&format!("{CONFIG}/return?dryRun=true"), json!({ "revision": 1 })).await;
    assert_eq!(again.status, 200, "{}", again.text);
    host.stop().await;
}

#[tokio::test]
async fn one_order_takes_the_newest_change_back_past_what_was_rolled_back() {
    let host = asked_first().await;
    let take_back = async || host.post(&format!("{CONFIG}/return"), json!({})).await;
    let nothing = take_back().await;
    assert_eq!(
        (nothing.status.as_u16(), nothing.code().as_str()),
        (422, "invalid_config"),
        "{}",
        nothing.text
    );
    for word in ["second", "third"] {
        let saved = host.post(CONFIG, json!({ "settings": { "word": word } })).await;
        assert_eq!(saved.status, 200, "{}", saved.text);
    }
    let broken = json!({ "settings": { "register": "garbage" }, "args": ["again"], "restart": "never" });
    let failed = host.post(CONFIG, broken).await;
    assert_eq!(failed.status, 422, "{}", failed.text);
    let back = take_back().await;
    assert_eq!(
        (&back.json()["revision"], &back.json()["applied"]),
        (&json!(5), &json!("hot")),
        "{}",
        back.text
    );
    assert_eq!(settings(&host).await["current"]["word"], "second");
    host.stop().await;
}

#[tokio::test]
async fn a_plugin_that_did_not_run_before_has_nothing_to_go_back_to() {
    let host = TestHost::builder()
        .plugin_as(
            "misbehave",
            "misbehave",
            json!({ "restart": "never", "settings": { "register": "garbage" } }),
        )
        .start()
        .await;
    host.post("/admin/plugins/misbehave/start?wait=30", json!({})).await;
    host.until_state("misbehave", State::Failed).await;
    let failed = host.post(CONFIG, json!({ "settings": { "word": "x" } })).await;
    assert_eq!(failed.status, 502, "{}", failed.text);
    assert!(failed.text.contains("revision 1 of `misbehave` is saved"), "{}", failed.text);
    let mended = host.post(CONFIG, json!({ "settings": { "register": "once" } })).await;
    assert_eq!((&mended.json()["revision"], &mended.json()["applied"]), (&json!(2), &json!("restarted")));
    assert_eq!(settings(&host).await["current"]["word"], "x");
    host.stop().await;
}

#[tokio::test]
async fn whoever_registers_while_an_entry_is_put_in_place_has_it() {
    let host = with_settings(json!({ "hot": true, "word": "first" })).await;
    for round in 0..8 {
        let word = format!("word-{round}");
        let restart = host.post("/admin/plugins/misbehave/restart?wait=0", json!({}));
        let save = host.post(CONFIG, json!({ "settings": { "word": word } }));
        let (_, saved) = tokio::join!(restart, save);
        host.until(|view| {
            let record = view.plugin("misbehave")?;
            (record.status.state == State::Running && !record.instances.is_empty()).then_some(())
        })
        .await;
        let view = host.get(CONFIG).await.json();
        let saved_word = &view["entry"]["settings"]["word"];
        if saved.status.is_success() {
            assert_eq!(*saved_word, word);
        }
        assert_eq!(view["live"]["restartNeeded"], false, "round {round}: {view}");
        assert_eq!(settings(&host).await["current"]["word"], *saved_word, "round {round}");
    }
    host.stop().await;
}

/// Adds a copy of `misbehave` to a place.
fn add_misbehave(place: &Place) {
    let target = place.data_dir().parent().unwrap().join("plugins/misbehave");
    fs::create_dir_all(&target).unwrap();
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/plugins/misbehave");
    for file in fs::read_dir(&source).unwrap().map(|file| file.unwrap().path()) {
        if file.is_file() {
            fs::copy(&file, target.join(file.file_name().unwrap())).unwrap();
        }
    }
}

async fn until_running(root: &Visitor) {
    let shown = root.post("/admin/plugins/misbehave/start?wait=30", json!({})).await;
    assert_eq!(shown.json()["status"], "running", "{}", shown.text);
}

#[tokio::test]
async fn a_host_that_dies_before_the_outcome_leaves_the_revision_that_it_saved() {
    let place = Place::new();
    add_misbehave(&place);
    let mut daemon = place.start().await;
    let root = daemon.root();
    until_running(&root).await;
    // A process that never registers: the outcome is half a minute away.
    let editing = tokio::spawn({
        let root = root.clone();
        let body = json!({ "settings": { "register": "never", "word": "second" } });
        async move { root.try_send(http::Method::POST, CONFIG, Some(body)).await }
    });
    while root.get(CONFIG).await.json()["revision"] != 1 {
        tokio::task::yield_now().await;
    }
    daemon.kill();
    assert!(editing.await.unwrap().is_err(), "nobody was told an outcome");

    let daemon = place.start().await;
    let root = daemon.root();
    let view = root.get(CONFIG).await.json();
    assert_eq!((&view["revision"], &view["entry"]["settings"]["word"]), (&json!(1), &json!("second")));
    assert_eq!(root.get(&format!("{CONFIG}/revisions")).await.json().as_array().unwrap().len(), 1);
    let back = root.post(&format!("{CONFIG}/return"), json!({ "revision": 0 })).await;
    assert_eq!(back.json()["applied"], "next-start", "{}", back.text);
    until_running(&root).await;
    daemon.stop().await;
}

#[tokio::test]
async fn lifecycle_is_for_the_host_alone() {
    let offers = json!(["test.settings", "test.call", "lifecycle.backup"]);
    let routes = json!([{ "method": "POST", "path": "/backup", "capability": "lifecycle.backup" }]);
    let host = TestHost::builder()
        .plugin_as(
            "misbehave",
            "misbehave",
            json!({
                "capabilities": ["test.*", "lifecycle.backup"],
                "calls": ["*"],
                "settings": { "offers": offers, "routes": routes }
            }),
        )
        .plugin_as(
            "misbehave",
            "ungranted",
            json!({ "restart": "never", "settings": { "offers": ["lifecycle.backup"] } }),
        )
        .start()
        .await;
    host.start_plugin("misbehave").await;
    let asked = host.invoke("misbehave", "lifecycle.backup", json!({ "directory": "/" })).await;
    assert_eq!((asked.status.as_u16(), asked.code().as_str()), (403, "forbidden"), "{}", asked.text);
    let asked = host.post("/api/plugins/misbehave/backup", json!({ "directory": "/" })).await;
    assert_eq!((asked.status.as_u16(), asked.code().as_str()), (403, "forbidden"), "{}", asked.text);
    let call = json!({ "capability": "lifecycle.backup", "payload": { "directory": "/" } });
    let answer = host.ask("test.call", call).await["response"].clone();
    assert_eq!((&answer["success"], &answer["error"]["code"]), (&json!(false), &json!("forbidden")));

    host.post("/admin/plugins/ungranted/start?wait=30", json!({})).await;
    let refused = host.until_state("ungranted", State::Failed).await;
    let reason = refused.status.reason.clone().unwrap();
    assert!(reason.contains("lifecycle.backup"), "{reason}");
    host.stop().await;
}
