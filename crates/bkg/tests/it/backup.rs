//! Backups and their restores, with the real binary: whole or not at all, whoever writes or dies meanwhile.
//!
//! What an archive may hold is tested where it is read, in `bkg::backup::archive`.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use bkg::backup::archive::{self, Quota};
use bkg::backup::{How, LeftOut, Manifest, Part};
use http::Method;
use serde_json::{Value, json};
use tokio::task::JoinSet;

use crate::daemon::{Daemon, Place, mode, until};
use crate::durability::check_audit;
use crate::visitor::{Visitor, complete, refusal};

/// Adds a plugin that keeps rows; `keeps` says how it writes its copies, if it does.
fn keeper(place: &Place, name: &str, keeps: Option<&str>, entry: Value) {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/plugins/quirks");
    let target = place.data_dir().with_file_name("plugins").join(name);
    fs::create_dir_all(&target).unwrap();
    for file in ["base_plugin.py", "keeps.py", "start.sh"] {
        fs::copy(source.join(file), target.join(file)).unwrap();
    }
    let mut whole = json!({
        "name": name, "entrypoint": "start.sh", "autostart": true, "restart": "always",
        "capabilities": ["quirk.*", "lifecycle.backup"], "env": { "BKG_QUIRK": "keeps" },
    });
    if let Some(keeps) = keeps {
        whole["env"]["BKG_KEEPS"] = json!(keeps);
    }
    for (key, value) in entry.as_object().unwrap() {
        whole[key] = value.clone();
    }
    fs::write(target.join("plugin.json"), whole.to_string()).unwrap();
}

async fn until_running(root: &Visitor, name: &str) {
    let shown = root.post(&format!("/admin/plugins/{name}/start?wait=30"), json!({})).await;
    assert_eq!(shown.json()["status"], "running", "{}", shown.text);
}

async fn ask(root: &Visitor, plugin: &str, capability: &str, payload: Value) -> Value {
    let body = json!({ "capability": capability, "payload": payload });
    let reply = root.post(&format!("/api/plugins/{plugin}/invoke"), body).await;
    assert_eq!(reply.status, 200, "{}", reply.text);
    reply.json()["data"].clone()
}

async fn kept(root: &Visitor, plugin: &str) -> BTreeSet<u64> {
    let kept = ask(root, plugin, "quirk.kept", json!({})).await;
    kept["values"].as_array().unwrap().iter().map(|value| value.as_u64().unwrap()).collect()
}

fn file(place: &Place) -> PathBuf {
    place.data_dir().with_file_name("backup.tar")
}

/// Runs a command that must succeed.
fn done(place: &Place, arguments: &[&str]) -> Output {
    let output = place.run(arguments);
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "bkg {arguments:?}: {text}");
    output
}

fn json_of(output: &Output) -> Value {
    serde_json::from_slice(&output.stdout).unwrap()
}

fn manifest(file: &Path) -> Manifest {
    archive::read(File::open(file).unwrap(), &Quota::of_bytes(1 << 30)).unwrap()
}

/// Runs a command that must fail, with this code, and answers what it says.
fn refused(place: &Place, arguments: &[&str], code: i32) -> String {
    let output = place.run(arguments);
    let text = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(code), "bkg {arguments:?}: {text}");
    text
}

/// What a directory holds whose names begin so.
fn beginning(directory: &Path, prefix: &str) -> Vec<PathBuf> {
    let entries = fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path());
    entries.filter(|path| path.file_name().unwrap().to_str().unwrap().starts_with(prefix)).collect()
}

/// A command that is to be killed, or to lose its daemon.
fn spawn(place: &Place, arguments: &[&str]) -> Child {
    Command::new(env!("CARGO_BIN_EXE_bkg"))
        .arg("--data-dir")
        .arg(place.data_dir())
        .args(arguments)
        .env("HOME", place.data_dir().parent().unwrap())
        .env_remove("BKG_API_KEY")
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap()
}

/// Files that take their time.
fn ballast(place: &Place, plugin: &str, mebibytes: usize) {
    let data = place.file(&format!("plugins/{plugin}/data"));
    fs::create_dir_all(&data).unwrap();
    fs::write(data.join("ballast"), vec![7; mebibytes << 20]).unwrap();
}

#[tokio::test]
async fn what_was_acknowledged_before_a_backup_began_is_in_it_whoever_writes_meanwhile() {
    let place = Place::new();
    keeper(&place, "copied", None, json!({}));
    keeper(&place, "writing", Some("writes"), json!({}));
    let daemon = place.start().await;
    let root = daemon.root();
    for name in ["copied", "writing"] {
        until_running(&root, name).await;
    }
    // Writers of every kind: rows of both plugins, keys at the provider, entries of the audit log.
    let (ends, next) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
    let acknowledged = Arc::new(std::sync::Mutex::new((BTreeSet::new(), Vec::new())));
    let mut writers = JoinSet::new();
    for writer in 0..3 {
        let (root, ends, next, acknowledged) =
            (root.clone(), Arc::clone(&ends), Arc::clone(&next), Arc::clone(&acknowledged));
        writers.spawn(async move {
            while !ends.load(Ordering::SeqCst) {
                let value = next.fetch_add(1, Ordering::SeqCst);
                for plugin in ["copied", "writing"] {
                    ask(&root, plugin, "quirk.keep", json!({ "value": value })).await;
                }
                acknowledged.lock().unwrap().0.insert(value);
                if writer == 0 {
                    let key = root
                        .make_key(json!({ "user": "admin", "name": "k", "scopes": ["plugin:read"] }))
                        .await;
                    acknowledged.lock().unwrap().1.push(key["key"].as_str().unwrap().to_owned());
                }
            }
        });
    }
    until(|| (acknowledged.lock().unwrap().1.len() > 5).then_some(())).await.unwrap();
    let (rows, keys) = acknowledged.lock().unwrap().clone();
    let file = file(&place);
    // In a thread of its own, so that the writers go on.
    let path = file.clone();
    let (place, taken) = tokio::task::spawn_blocking(move || {
        let taken = place.run(&["backup", path.to_str().unwrap(), "--with-keys"]);
        (place, taken)
    })
    .await
    .unwrap();
    assert!(taken.status.success(), "{}", String::from_utf8_lossy(&taken.stderr));
    assert!(acknowledged.lock().unwrap().0.len() > rows.len(), "others wrote meanwhile");
    ends.store(true, Ordering::SeqCst);
    while let Some(writer) = writers.join_next().await {
        writer.unwrap();
    }
    assert_eq!(mode(&file), 0o600);
    assert!(manifest(&file).lacks.is_empty(), "{:?}", manifest(&file).lacks);
    daemon.stop().await;

    let root_key = fs::read(place.file("root.key")).unwrap();
    fs::remove_dir_all(place.data_dir()).unwrap();
    done(&place, &["restore", file.to_str().unwrap()]);
    assert_eq!(fs::read(place.file("root.key")).unwrap(), root_key);
    assert_eq!(mode(&place.data_dir()), 0o700);
    let daemon = place.start().await;
    let root = daemon.root();
    for name in ["copied", "writing"] {
        until_running(&root, name).await;
        assert!(rows.is_subset(&kept(&root, name).await), "{name}");
    }
    for key in keys {
        assert_eq!(root.with(&key).get("/auth/me").await.status, 200);
    }
    check_audit(&place);
    let entries = root.get("/admin/audit?action=backup.&limit=10").await.json();
    let told: Vec<(&str, &str)> = entries["entries"]
        .as_array()
        .unwrap_or_else(|| panic!("{entries}"))
        .iter()
        .map(|row| (row["action"].as_str().unwrap(), row["kind"].as_str().unwrap()))
        .collect();
    assert_eq!(
        told,
        [("backup.take", "unknown"), ("backup.restore", "done"), ("backup.take", "intended")],
        "the copy was made in the midst of taking it"
    );
    daemon.stop().await;
}

#[tokio::test]
async fn a_preview_is_what_a_backup_takes_and_a_restore_puts_back() {
    let place = Place::new();
    keeper(&place, "copied", None, json!({}));
    keeper(&place, "writing", Some("writes"), json!({}));
    keeper(&place, "resting", None, json!({ "backup": "stopped" }));
    let daemon = place.start().await;
    let root = daemon.root();
    for name in ["copied", "writing", "resting"] {
        until_running(&root, name).await;
        ask(&root, name, "quirk.keep", json!({ "value": 7 })).await;
    }
    let data = place.file("plugins/copied/data");
    fs::write(data.join("own.key"), "a key").unwrap();
    fs::create_dir_all(data.join("deep/empty")).unwrap();
    let long = format!("deep/{}", "long-name-".repeat(20));
    fs::write(data.join(&long), "long").unwrap();
    std::os::unix::fs::symlink("kept.db", data.join("link")).unwrap();
    // Nobody ever writes to it.
    assert!(Command::new("mkfifo").arg(data.join("pipe")).status().unwrap().success());
    fs::create_dir_all(place.file("plugins/forgotten/data")).unwrap();
    fs::write(place.file("plugins/forgotten/data/file"), "").unwrap();
    let resting = root.get("/admin/plugins/resting").await.json()["instances"][0]["pid"].clone();

    let preview = json_of(&done(&place, &["--json", "backup", "--preview"]));
    let file = file(&place);
    let path = file.to_str().unwrap();
    done(&place, &["backup", path]);
    let taken = manifest(&file);
    let parts: Vec<Part> = serde_json::from_value(preview["parts"].clone()).unwrap();
    let how = |parts: &[Part]| -> Vec<(Option<String>, How)> {
        parts.iter().map(|part| (part.plugin.as_ref().map(ToString::to_string), part.how)).collect()
    };
    assert_eq!(how(&parts), how(&taken.parts));
    let named = |name: &str| {
        taken.parts.iter().find(|part| part.plugin.as_ref().is_some_and(|p| p.as_str() == name))
    };
    assert_eq!(named("copied").unwrap().how, How::Files);
    assert_eq!(named("writing").unwrap().how, How::Plugin);
    assert_eq!(named("apikeys").unwrap().how, How::Plugin);
    assert_eq!(named("resting").unwrap().how, How::Stopped);
    assert_eq!(named("forgotten").unwrap().how, How::Files);
    for (planned, taken) in parts.iter().zip(&taken.parts) {
        assert!(planned.files.is_none() || planned.files == taken.files, "{planned:?} {taken:?}");
    }
    let left_out = |left_out: Vec<LeftOut>| -> BTreeSet<String> {
        left_out.into_iter().map(|left| format!("{} {:?} {:?}", left.path, left.why, left.print)).collect()
    };
    assert_eq!(
        left_out(serde_json::from_value(preview["leftOut"].clone()).unwrap()),
        left_out(taken.left_out.clone())
    );
    assert_eq!(preview["lacks"], json!(taken.lacks));
    assert!(taken.lacks.iter().any(|sentence| sentence.contains("plugins/copied/data/own.key")));
    assert!(taken.files.iter().all(|file| !file.path.is_key()), "no key is in it");
    // Who was stopped runs again, as another process.
    until_running(&root, "resting").await;
    assert_ne!(root.get("/admin/plugins/resting").await.json()["instances"][0]["pid"], resting);

    assert!(refused(&place, &["restore", path], 3).contains("another host"));
    daemon.stop().await;
    let promised = json_of(&done(&place, &["--json", "restore", path, "--preview"]));
    assert_eq!((&promised["needsConsent"], &promised["replaces"]), (&json!(false), &json!(true)));
    let states: BTreeSet<&str> =
        promised["keys"].as_array().unwrap().iter().map(|key| key["state"].as_str().unwrap()).collect();
    assert_eq!(states, BTreeSet::from(["present"]), "all keys are those of the present directory");
    let restored = json_of(&done(&place, &["--json", "restore", path]));
    assert_eq!((&restored["files"], &restored["bytes"]), (&promised["files"], &promised["bytes"]));
    let earlier = PathBuf::from(restored["earlier"].as_str().unwrap());
    assert!(earlier.join("bkg.db").exists() && earlier != place.data_dir());
    assert_eq!(fs::read(data.join("own.key")).unwrap(), b"a key");
    assert_eq!(fs::read(data.join(&long)).unwrap(), b"long");
    assert!(data.join("deep/empty").is_dir() && !data.join("link").exists());
    assert_eq!(fs::read(place.file("plugins/writing/data/deep/note")).unwrap(), b"written for the backup");
    assert!(!place.file("plugins/writing/data/mine.key").exists(), "a key that was not asked for");
    let daemon = place.start().await;
    for name in ["copied", "writing", "resting"] {
        until_running(&daemon.root(), name).await;
        assert_eq!(kept(&daemon.root(), name).await, BTreeSet::from([7]), "{name}");
    }
    check_audit(&place);
    daemon.stop().await;
}

#[tokio::test]
async fn without_its_keys_a_backup_is_restored_elsewhere_only_if_the_loss_is_accepted() {
    let place = Place::new().bundled("ping");
    let daemon = place.start().await;
    let file = file(&place);
    let path = file.to_str().unwrap();
    done(&place, &["backup", path]);
    daemon.stop().await;

    let elsewhere = Place::new().bundled("ping");
    let text = refused(&elsewhere, &["restore", path], 1);
    for part in ["audit.key", "plugins/apikeys/data/hmac.key", "--without-keys"] {
        assert!(text.contains(part), "{part}: {text}");
    }
    assert!(!elsewhere.data_dir().exists(), "nothing was made");
    assert!(json_of(&done(&elsewhere, &["--json", "restore", path, "--preview"]))["needsConsent"] == true);
    done(&elsewhere, &["restore", path, "--without-keys"]);
    assert!(
        fs::read_to_string(elsewhere.file("audit-before-restore.jsonl")).unwrap().contains("backup.take")
    );
    check_audit_of(&elsewhere);
    // The root key opens the door; the provider says what it has lost.
    let daemon = elsewhere.start().await;
    assert_eq!(daemon.root().get("/admin/system").await.status, 200);
    daemon.stop().await;

    // The keys of another host are not taken for its own.
    let other = Place::new();
    other.start().await.stop().await;
    let before = fs::read(other.file("bkg.db")).unwrap();
    let text = refused(&other, &["restore", path], 1);
    assert!(text.contains("audit.key"), "{text}");
    assert_eq!(fs::read(other.file("bkg.db")).unwrap(), before);
}

/// The audit log is whole; what was open before stays so.
fn check_audit_of(place: &Place) {
    let verified = json_of(&done(place, &["--json", "audit", "verify"]));
    assert_eq!(verified["unbroken"], true, "{verified}");
}

#[tokio::test]
async fn a_backup_takes_an_administrator_who_has_just_logged_in_and_one_at_a_time() {
    let place = Place::new();
    ballast(&place, "heavy", 48);
    let daemon = place.start().await;
    let root = daemon.root();
    let key = root.key(json!({ "user": "admin", "name": "all", "scopes": ["admin"] })).await;
    let taken = key.post("/admin/backup", json!({})).await;
    assert_eq!(refusal(&taken), (403, "reauth_required".to_owned()));
    assert_eq!(key.get("/admin/backup/preview").await.status, 200);
    let password = fs::read_to_string(place.file("initial-password")).unwrap();
    let admin = root.log_in("admin", password.trim()).await;
    let changed = json!({ "oldPassword": password.trim(), "newPassword": "correct horse battery" });
    let changed = admin.post("/auth/password", changed).await;
    assert!(changed.status.is_success(), "{}", changed.text);
    let admin = root.log_in("admin", "correct horse battery").await;

    // Somebody who takes nothing keeps others out, and leaves nothing behind when gone.
    let request = || complete(admin.request(Method::POST, "/admin/backup"), None);
    let first = admin.open(request()).await.unwrap();
    assert_eq!(first.status(), 200);
    let length: u64 = first.headers()["content-length"].to_str().unwrap().parse().unwrap();
    assert!(length > 48 << 20);
    let second = root.post("/admin/backup", json!({})).await;
    assert_eq!(refusal(&second), (409, "conflict".to_owned()));
    first.into_body().leave();
    let staged = || beginning(&place.data_dir(), ".backup-");
    until(|| staged().is_empty().then_some(())).await.expect("nothing stays staged");
    let file = file(&place);
    done(&place, &["backup", file.to_str().unwrap()]);
    assert_eq!(fs::metadata(&file).unwrap().len() / 512, length / 512, "as long as was said");
    daemon.stop().await;
}

#[tokio::test]
async fn a_backup_that_fails_leaves_nothing_and_says_what_failed() {
    for (keeps, reason) in [("lies", "nothing.db"), ("links", "leads/hostname")] {
        let place = Place::new();
        keeper(&place, "keeper", Some(keeps), json!({}));
        let daemon = place.start().await;
        until_running(&daemon.root(), "keeper").await;
        let file = file(&place);
        let text = refused(&place, &["backup", file.to_str().unwrap()], 1);
        assert!(text.contains("`keeper`") && text.contains(reason), "{text}");
        assert!(!file.exists());
        assert!(beginning(&place.data_dir(), ".backup-").is_empty());
        assert!(beginning(file.parent().unwrap(), ".bkg-backup-").is_empty());
        let failed = daemon.root().get("/admin/audit?action=backup.take&limit=1").await.json();
        assert_eq!(failed["entries"][0]["kind"], "failed", "{failed}");
        daemon.stop().await;
    }
}

#[tokio::test]
async fn a_plugin_whose_file_never_holds_still_is_stopped_for_its_copy() {
    let place = Place::new();
    keeper(&place, "keeper", None, json!({}));
    let daemon = place.start().await;
    let root = daemon.root();
    until_running(&root, "keeper").await;
    ask(&root, "keeper", "quirk.keep", json!({ "value": 1 })).await;
    ask(&root, "keeper", "quirk.churn", json!({})).await;
    let preview = json_of(&done(&place, &["--json", "backup", "--preview"]));
    let note = preview["parts"].to_string();
    assert!(note.contains("does not hold still"), "{note}");
    let file = file(&place);
    done(&place, &["backup", file.to_str().unwrap()]);
    let part = manifest(&file)
        .parts
        .into_iter()
        .find(|part| part.plugin.as_ref().is_some_and(|p| p.as_str() == "keeper"));
    assert_eq!(part.unwrap().how, How::Stopped);
    until_running(&root, "keeper").await;
    assert_eq!(kept(&root, "keeper").await, BTreeSet::from([1]));
    daemon.stop().await;
}

#[tokio::test]
async fn a_plugin_that_rests_until_it_is_asked_still_does_after_a_backup() {
    let place = Place::new();
    keeper(
        &place,
        "sleeper",
        None,
        json!({ "autostart": false, "activation": "on-demand", "backup": "stopped" }),
    );
    let daemon = place.start().await;
    let root = daemon.root();
    fs::create_dir_all(place.file("plugins/sleeper/data")).unwrap();
    fs::write(place.file("plugins/sleeper/data/note"), "kept").unwrap();
    let file = file(&place);
    done(&place, &["backup", file.to_str().unwrap()]);
    assert!(manifest(&file).files.iter().any(|file| file.path.as_str() == "plugins/sleeper/data/note"));
    assert_eq!(root.get("/admin/plugins/sleeper").await.json()["status"], "stopped");
    ask(&root, "sleeper", "quirk.keep", json!({ "value": 1 })).await;
    // While it runs it is stopped, and comes back.
    done(&place, &["backup", file.to_str().unwrap()]);
    assert_eq!(kept(&root, "sleeper").await, BTreeSet::from([1]));
    // What an operator stopped stays stopped.
    let stopped = root.post("/admin/plugins/sleeper/stop?wait=30", json!({})).await;
    assert_eq!(stopped.status, 200, "{}", stopped.text);
    done(&place, &["backup", file.to_str().unwrap()]);
    let body = json!({ "capability": "quirk.kept", "payload": {} });
    assert_eq!(root.post("/api/plugins/sleeper/invoke", body).await.status, 503);
    daemon.stop().await;
}

#[tokio::test]
async fn a_daemon_that_is_killed_during_a_backup_leaves_no_file_and_starts_again() {
    let place = Place::new();
    ballast(&place, "heavy", 96);
    let mut daemon = place.start().await;
    let file = file(&place);
    let mut taking = spawn(&place, &["backup", file.to_str().unwrap()]);
    let is_staged = || (!beginning(&place.data_dir(), ".backup-").is_empty()).then_some(());
    until(is_staged).await.expect("it is being staged");
    daemon.kill();
    let status = until(|| taking.try_wait().unwrap()).await.expect("it does not wait for ever");
    assert!(!status.success());
    assert!(!file.exists());
    assert!(beginning(file.parent().unwrap(), ".bkg-backup-").is_empty());
    let daemon = place.start().await;
    assert!(beginning(&place.data_dir(), ".backup-").is_empty(), "what was staged is gone");
    check_audit(&place);
    done(&place, &["backup", file.to_str().unwrap()]);
    daemon.stop().await;
}

#[tokio::test]
async fn a_restore_that_is_killed_leaves_what_was_there() {
    let place = Place::new();
    ballast(&place, "heavy", 96);
    let daemon = place.start().await;
    let file = file(&place);
    done(&place, &["backup", file.to_str().unwrap(), "--with-keys"]);
    daemon.stop().await;
    let before = fs::read(place.file("bkg.db")).unwrap();
    let parent = place.data_dir().parent().unwrap().to_owned();
    let unpacked = || beginning(&parent, ".restore-");
    let mut restoring = spawn(&place, &["restore", file.to_str().unwrap()]);
    until(|| (!unpacked().is_empty()).then_some(())).await.expect("it is being unpacked");
    restoring.kill().unwrap();
    restoring.wait().unwrap();
    if beginning(&parent, "data.before-restore-").is_empty() {
        assert_eq!(fs::read(place.file("bkg.db")).unwrap(), before);
    }
    let daemon = place.start().await;
    check_audit(&place);
    daemon.stop().await;
    done(&place, &["restore", file.to_str().unwrap()]);
    assert!(unpacked().is_empty(), "what the killed one left is gone");
    let daemon: Daemon = place.start().await;
    check_audit(&place);
    daemon.stop().await;
}

#[tokio::test]
async fn nothing_but_a_data_directory_is_replaced() {
    let place = Place::new();
    let daemon = place.start().await;
    let file = file(&place);
    done(&place, &["backup", file.to_str().unwrap(), "--with-keys"]);
    daemon.stop().await;
    let other = Place::new();
    fs::create_dir_all(other.data_dir()).unwrap();
    fs::write(other.file("precious"), "mine").unwrap();
    let text = refused(&other, &["restore", file.to_str().unwrap()], 1);
    assert!(text.contains("no data directory"), "{text}");
    assert_eq!(fs::read(other.file("precious")).unwrap(), b"mine");
    // An empty one is as good as none.
    fs::remove_file(other.file("precious")).unwrap();
    done(&other, &["restore", file.to_str().unwrap()]);
    assert!(beginning(other.data_dir().parent().unwrap(), "data.before-restore-").is_empty());
    // Damage anywhere is noticed before anything is written.
    let mut bytes = fs::read(&file).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(&file, bytes).unwrap();
    let before = fs::read(other.file("bkg.db")).unwrap();
    refused(&other, &["restore", file.to_str().unwrap()], 1);
    assert_eq!(fs::read(other.file("bkg.db")).unwrap(), before);
}
