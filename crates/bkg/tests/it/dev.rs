//! `--dev`: what an edit of a plugin's folder does while the daemon runs, and what does nothing.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::time::Duration;

use bkg::registry::{State, SwapState, SwapStory};
use serde_json::{Value, json};
use tokio::time::timeout;

use crate::daemon::Place;
use crate::host::{Builder, PATIENCE, TestHost};

fn developing() -> Builder {
    TestHost::builder().plugin("misbehave").config("dev = true\nsupervisor.swap_hold_ms = 100")
}

async fn started() -> TestHost {
    let host = developing().start().await;
    host.start_plugin("misbehave").await;
    until_watching(&host).await;
    host
}

/// Waits until edits are seen: one that counts is, so the folder is watched.
async fn until_watching(host: &TestHost) {
    write(&folder(host), "probe", "x");
    until_restarted(host, 1).await;
    until_swapped(host).await;
}

/// Waits until the last swap is over.
async fn until_swapped(host: &TestHost) {
    let is_over = |swap: &SwapStory| swap.state == SwapState::Swapped;
    host.until(|view| view.plugin("misbehave")?.swap.as_deref().filter(|swap| is_over(swap)).map(drop))
        .await;
}

fn folder(host: &TestHost) -> PathBuf {
    host.plugins_dir().join("misbehave")
}

fn write(folder: &Path, name: &str, text: &str) {
    let path = folder.join(name);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, text).unwrap();
}

/// What the plugin answers to `test.version` from now on.
fn version(number: u32) -> String {
    format!(
        "from session import Plugin, Request, capability\n\n\n@capability(\"test.version\")\n\
         async def version(plugin: Plugin, request: Request) -> None:\n    await request.answer({number})\n"
    )
}

/// Has the plugin import what `version` writes.
fn import_version(folder: &Path) {
    let commands = fs::read_to_string(folder.join("commands.py")).unwrap();
    write(folder, "commands.py", &commands.replace("import asyncio\n", "import asyncio\nimport version\n"));
}

async fn until_version(host: &TestHost, number: u32) {
    until("the edit is live", async || {
        let reply = host.invoke("misbehave", "test.version", json!({})).await;
        reply.status == 200 && reply.json()["data"] == number
    })
    .await;
}

async fn until(what: &str, condition: impl AsyncFn() -> bool) {
    let waiting = async {
        while !condition().await {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    timeout(PATIENCE, waiting).await.unwrap_or_else(|_| panic!("waited in vain until {what}"));
}

/// What is in the log of a plugin; nothing, while there is none.
async fn said(host: &TestHost, plugin: &str) -> Vec<String> {
    let logs = host.get(&format!("/admin/plugins/{plugin}/logs?limit=1000")).await.json();
    let lines = logs["lines"].as_array().into_iter().flatten();
    lines.map(|line| line["message"].as_str().unwrap().to_owned()).collect()
}

async fn restarts(host: &TestHost) -> Vec<String> {
    let mut said = said(host, "misbehave").await;
    said.retain(|line| line.ends_with(": restarting") || line.ends_with(": swapping"));
    said
}

async fn until_restarted(host: &TestHost, times: usize) {
    until("it is restarted", async || restarts(host).await.len() >= times).await;
}

async fn until_serving(host: &TestHost) {
    until("it serves", async || host.invoke("misbehave", "test.echo", json!(1)).await.status == 200).await;
}

async fn until_said(host: &TestHost, plugin: &str, part: &str) {
    let is_said = async || said(host, plugin).await.iter().any(|line| line.contains(part));
    until(part, is_said).await;
}

#[tokio::test]
async fn an_edit_is_live_by_itself_and_said() {
    let host = started().await;
    write(&folder(&host), "version.py", &version(1));
    import_version(&folder(&host));
    until_version(&host, 1).await;
    write(&folder(&host), "version.py", &version(22));
    until_version(&host, 22).await;
    let restarts = restarts(&host).await;
    assert_eq!(restarts.last().unwrap(), "`version.py` changed: swapping");
    let record = host.host().registry.plugin("misbehave").unwrap();
    assert_eq!((record.state(), &record.status.reason), (State::Running, &None));
}

#[tokio::test]
async fn a_burst_of_saves_is_one_restart() {
    let host = started().await;
    for number in 0..200 {
        write(&folder(&host), &format!("burst/file-{number}.py"), "x");
    }
    until_restarted(&host, 2).await;
    until_serving(&host).await;
    write(&folder(&host), "last.py", "x");
    until_restarted(&host, 3).await;
    let restarts = restarts(&host).await;
    assert_eq!(restarts.len(), 3, "{restarts:?}");
    assert!(restarts[1].ends_with("and 198 more changed: swapping"), "{restarts:?}");
    assert_eq!(restarts[2], "`last.py` changed: swapping");
}

#[tokio::test]
async fn what_does_not_count_does_nothing() {
    let host = started().await;
    let folder = folder(&host);
    for name in
        ["target/debug/x", ".git/index", "__pycache__/x.pyc", "node_modules/a/b.js", ".venv/x", "dist/x"]
    {
        write(&folder, name, "x");
    }
    for name in [".main.py.swp", "main.py~", "4913"] {
        write(&folder, name, "x");
    }
    // There for a moment only.
    write(&folder, "draft", "x");
    fs::remove_file(folder.join("draft")).unwrap();
    let pid = host.pid("misbehave");
    for _ in 0..20 {
        until_serving(&host).await;
    }
    assert_eq!(host.pid("misbehave"), pid);
    write(&folder, "counts.py", "x");
    until_restarted(&host, 2).await;
    assert_eq!(restarts(&host).await[1..], ["`counts.py` changed: swapping"]);
}

#[tokio::test]
async fn a_file_that_is_renamed_into_its_place_counts() {
    let host = started().await;
    let folder = folder(&host);
    write(&folder, "version.py", &version(1));
    import_version(&folder);
    until_version(&host, 1).await;
    // As editors save: a new file beside it, then renamed over it.
    write(&folder, ".version.py.swp", &version(333));
    fs::rename(folder.join(".version.py.swp"), folder.join("version.py")).unwrap();
    until_version(&host, 333).await;
}

#[tokio::test]
async fn what_an_operator_stopped_stays_stopped_and_starts_with_the_edit() {
    let host = started().await;
    let folder = folder(&host);
    host.host().supervisor.want_down("misbehave").unwrap();
    host.until_state("misbehave", State::Stopped).await;
    write(&folder, "version.py", &version(1));
    import_version(&folder);
    // Another plugin that comes shows that somebody has looked since.
    copy(&folder, &host.plugins_dir().join("second"), "second");
    until_said(&host, "second", "was found").await;
    let record = host.host().registry.plugin("misbehave").unwrap();
    assert_eq!((record.state(), &record.status.reason), (State::Stopped, &None));
    assert_eq!(restarts(&host).await.len(), 1);
    host.start_plugin("misbehave").await;
    until_version(&host, 1).await;
}

/// A copy of a plugin's folder under another name, made aside and moved into its place.
fn copy(folder: &Path, target: &Path, name: &str) {
    let aside = target.parent().unwrap().parent().unwrap().join(format!("aside-{name}"));
    fs::create_dir_all(&aside).unwrap();
    for file in fs::read_dir(folder).unwrap() {
        let file = file.unwrap().path();
        if file.is_file() {
            fs::copy(&file, aside.join(file.file_name().unwrap())).unwrap();
        }
    }
    edit(&aside, |manifest| {
        manifest["name"] = json!(name);
        manifest["autostart"] = json!(true);
    });
    fs::rename(aside, target).unwrap();
}

fn edit(folder: &Path, change: impl FnOnce(&mut Value)) {
    let file = folder.join("plugin.json");
    let mut manifest: Value = serde_json::from_str(&fs::read_to_string(&file).unwrap()).unwrap();
    change(&mut manifest);
    fs::write(file, manifest.to_string()).unwrap();
}

#[tokio::test]
async fn an_edit_of_the_entry_takes_effect() {
    let host = started().await;
    edit(&folder(&host), |manifest| {
        manifest["description"] = json!("edited");
        manifest["settings"]["word"] = json!("of the edit");
    });
    until_restarted(&host, 2).await;
    until("it runs with it", async || {
        let settings = host.invoke("misbehave", "test.settings", json!({})).await;
        settings.status == 200 && settings.json()["data"]["started"]["word"] == "of the edit"
    })
    .await;
    let shown = host.get("/admin/plugins/misbehave").await.json();
    assert_eq!((&shown["description"], &shown["restartNeeded"]), (&json!("edited"), &json!(false)));
    let entry = host.get("/admin/plugins/misbehave/config").await.json();
    assert_eq!(entry["origins"]["/settings/word"], "plugin.json");
}

#[tokio::test]
async fn what_was_saved_holds_on_top_of_an_edit() {
    let host = started().await;
    let saved =
        host.post("/admin/plugins/misbehave/config", json!({ "settings": { "word": "saved" } })).await;
    assert_eq!(saved.status, 200, "{}", saved.text);
    edit(&folder(&host), |manifest| {
        manifest["description"] = json!("edited");
        manifest["settings"]["word"] = json!("of the edit");
    });
    until("it is read", async || {
        host.get("/admin/plugins/misbehave").await.json()["description"] == "edited"
    })
    .await;
    let entry = host.get("/admin/plugins/misbehave/config").await.json();
    assert_eq!((&entry["entry"]["settings"]["word"], &entry["revision"]), (&json!("saved"), &json!(1)));
    // And the next edit of an operator is an edit of what the files say now.
    let path = "/admin/plugins/misbehave/config/reset";
    let reset = host.post(path, json!({ "paths": ["/settings/word"] })).await;
    assert_eq!(reset.status, 200, "{}", reset.text);
    let entry = host.get("/admin/plugins/misbehave/config").await.json();
    assert_eq!(entry["entry"]["settings"]["word"], "of the edit");
}

#[tokio::test]
async fn a_manifest_that_breaks_changes_nothing_until_it_is_right_again() {
    let host = started().await;
    let right = fs::read_to_string(folder(&host).join("plugin.json")).unwrap();
    let pid = host.pid("misbehave");
    write(&folder(&host), "plugin.json", &right[..right.len() / 2]);
    until_said(&host, "misbehave", "its files are not taken, and it goes on as it was: `").await;
    assert_eq!(
        (host.pid("misbehave"), host.invoke("misbehave", "test.echo", json!(1)).await.status.as_u16()),
        (pid, 200)
    );
    let listed = host.get("/admin/plugins").await.json();
    assert_eq!(listed.as_array().unwrap().len(), 1, "{listed}");
    write(&folder(&host), "plugin.json", &right);
    until_restarted(&host, 2).await;
    assert_eq!(restarts(&host).await[1], "`plugin.json` changed: swapping");
}

#[tokio::test]
async fn a_folder_that_was_broken_at_the_start_is_a_plugin_once_it_is_right() {
    let host = developing()
        .script("late", "#!/bin/sh\nexec sleep 600\n", json!({ "autostart": true, "type": 5 }))
        .start()
        .await;
    assert!(host.host().registry.plugin("late").is_none());
    let late = host.plugins_dir().join("late");
    edit(&late, |manifest| manifest["type"] = json!("shell"));
    until("it starts", async || host.host().registry.plugin("late").is_some()).await;
    host.until_state("late", State::Preparing).await;
    until("it is listed once", async || {
        let listed = host.get("/admin/plugins").await.json();
        listed.as_array().unwrap().iter().filter(|plugin| plugin["name"] == "late").count() == 1
    })
    .await;
}

#[tokio::test]
async fn a_plugin_comes_and_goes_with_its_folder() {
    let host = started().await;
    let second = host.plugins_dir().join("second");
    copy(&folder(&host), &second, "second");
    until("it serves", async || host.invoke("second", "test.echo", json!(1)).await.status == 200).await;
    assert_eq!(host.get("/admin/plugins/second/config").await.status, 200);
    let aside = host.data_dir().join("moved-aside");
    fs::rename(&second, &aside).unwrap();
    let record = host.until_state("second", State::Stopped).await;
    let gone = format!("its folder `{}` is gone", second.display());
    assert_eq!(record.status.reason.as_deref(), Some(gone.as_str()));
    fs::rename(&aside, &second).unwrap();
    until("it is back", async || host.invoke("second", "test.echo", json!(1)).await.status == 200).await;
    until_said(&host, "second", "its folder is back: starting").await;
}

#[tokio::test]
async fn a_folder_behind_a_link_is_watched() {
    let elsewhere = tempfile::tempdir().unwrap();
    let host = started().await;
    let real = elsewhere.path().join("plugins/linked");
    fs::create_dir_all(real.parent().unwrap()).unwrap();
    copy(&folder(&host), &real, "linked");
    symlink(&real, host.plugins_dir().join("linked")).unwrap();
    until("it serves", async || host.invoke("linked", "test.echo", json!(1)).await.status == 200).await;
    write(&real, "sub/module.py", "x");
    until_said(&host, "linked", "`sub/module.py` changed: swapping").await;
    write(&real, "sub/module.py", "longer");
    until("it is restarted twice", async || {
        let said = said(&host, "linked").await;
        said.iter().filter(|line| line.ends_with(": swapping")).count() == 2
    })
    .await;
}

#[tokio::test]
async fn a_plugin_that_fails_is_started_at_once_when_it_was_edited() {
    let failing = "#!/bin/sh\necho broken >&2\nexit 1\n";
    for restart in ["always", "never"] {
        let entry = json!({ "autostart": true, "restart": restart });
        let host = developing().script("late", failing, entry).start().await;
        let state = if restart == "always" { State::Backoff } else { State::Failed };
        host.until_state("late", state).await;
        write(&host.plugins_dir().join("late"), "start.sh", "#!/bin/sh\nexec sleep 600\n");
        until_said(&host, "late", "`start.sh` changed: restarting").await;
        // Its back-off grows; what was edited does not wait for it.
        let record = host.until(|view| {
            let record = view.plugin("late")?;
            let is_up = matches!(record.state(), State::Starting | State::Preparing);
            (is_up && record.status.restarts == 0).then(|| record.clone())
        });
        let reason = record.await.status.reason.clone();
        assert!(reason.is_some(), "{restart}");
    }
}

#[tokio::test]
async fn an_edit_that_does_not_come_up_says_so_and_the_version_before_serves_on() {
    let host = started().await;
    let pid = host.pid("misbehave");
    let right = fs::read_to_string(folder(&host).join("misbehave.py")).unwrap();
    write(&folder(&host), "misbehave.py", "raise SystemExit('a planted fault')\n");
    until_said(&host, "misbehave", "`misbehave.py` changed: swapping").await;
    let said = "the swap is rolled back: `start.sh` exited with code 1 before it registered, and said: a planted fault";
    until_said(&host, "misbehave", said).await;
    assert_eq!(host.pid("misbehave"), pid);
    assert_eq!(host.invoke("misbehave", "test.echo", json!(1)).await.status, 200);
    let shown = host.get("/admin/plugins/misbehave").await.json();
    assert_eq!((&shown["status"], &shown["restarts"]), (&json!("running"), &json!(0)));
    // The edit that puts it right is another version.
    write(&folder(&host), "misbehave.py", &right);
    until_restarted(&host, 3).await;
    until("it serves anew", async || host.pid("misbehave") != pid).await;
}

#[tokio::test]
async fn a_plugin_that_edits_itself_is_slowed_down() {
    let script = "#!/bin/sh\ndate +%N > written-by-itself\nexec sleep 600\n";
    let host = developing().script("busy", script, json!({ "autostart": true })).start().await;
    host.start_plugin("misbehave").await;
    until_watching(&host).await;
    // What it wrote at its first start may be older than the first look.
    write(&host.plugins_dir().join("busy"), "edit", "x");
    until_said(&host, "busy", "what a plugin writes belongs into `BKG_PLUGIN_DATA_DIR`").await;
}

#[tokio::test]
async fn a_named_folder_wins_wherever_the_daemon_was_started() {
    let mut place = Place::new().bundled("ping");
    let own = place.data_dir().with_file_name("own");
    write(&own, "plugin.json", r#"{ "name": "ping", "description": "one's own" }"#);
    write(&own, "start.sh", "#!/bin/sh\nexec sleep 600\n");
    place.serve_with(&["--plugin", "./own"]);
    let daemon = place.start().await;
    let plugins = daemon.root().get("/admin/plugins").await.json();
    let named = plugins.as_array().unwrap().iter().filter(|plugin| plugin["name"] == "ping");
    let seen: Vec<_> = named.map(|plugin| (&plugin["status"], &plugin["folder"])).collect();
    let bundled = own.with_file_name("plugins").join("ping");
    let folder = |folder: &Path| json!(folder.canonicalize().unwrap());
    assert_eq!(
        seen,
        [(&json!("stopped"), &folder(&own)), (&json!("shadowed"), &json!(bundled))],
        "{plugins}"
    );
    daemon.stop().await;
}

#[tokio::test]
async fn a_named_folder_that_is_not_there_stops_the_start() {
    let mut place = Place::new();
    place.serve_with(&["--plugin", "nowhere"]);
    let (status, said) = place.start_in_vain().await;
    assert_eq!(status.code(), Some(5), "{said}");
    let nowhere = place.data_dir().with_file_name("nowhere");
    let expected = format!("`{}` is no plugin's folder: No such file or directory", nowhere.display());
    assert!(said.contains(&expected), "{said}");
    assert!(said.contains("correct `--plugin`, `BKG_PLUGIN_FOLDERS` or `plugin_folders`"), "{said}");
    assert!(!place.data_dir().exists(), "nothing was begun");
}

#[tokio::test]
async fn nothing_is_watched_without_dev() {
    let host = TestHost::with_misbehave().await;
    let pid = host.pid("misbehave");
    write(&folder(&host), "version.py", &version(1));
    import_version(&folder(&host));
    for _ in 0..20 {
        until_serving(&host).await;
    }
    assert_eq!((host.pid("misbehave"), restarts(&host).await.len()), (pid, 0));
}
