//! `bkg check`: every plugin that comes with the host passes, and every planted fault is found by name.
//!
//! The kit runs as a library, several checks at once, since most of a check is waiting for a plugin; that
//! the program says the same is shown once. A fault is a setting of `misbehave` named after the rule that
//! it breaks.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use bkg::conformance::{
    Checked, Finding, KitError, Level, Outcome, Progress, Report, Rule, Target, Wishes, check,
};
use futures_util::StreamExt;
use futures_util::stream;
use serde_json::{Map, Value, json};
use tempfile::TempDir;

use crate::host::{PATIENCE, copy_bundled};

/// How many checks run at once: they wait more than they work.
const AT_ONCE: usize = 12;

/// A fault that cannot be a setting of `misbehave`: that has no `prepare.sh`.
const PLANTED_ELSEWHERE: [Rule; 1] = [Rule::Prepares];

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/plugins").join(name)
}

fn target(path: &Path, settings: Value) -> Target {
    let Value::Object(settings) = settings else { panic!("settings are an object") };
    Target::read(path.to_str().unwrap(), settings, None).unwrap()
}

async fn report(target: &Target, wishes: Wishes) -> Report {
    let checked = check(target, &wishes, &Progress(&|_| {}), std::future::pending()).await.unwrap();
    let Checked::Report(report) = checked else { panic!("nobody stopped it") };
    *report
}

/// What people would look for first when a test fails.
fn story(report: &Report) -> String {
    let broken: Vec<&Finding> = report.broken().collect();
    format!("{:?} reaches {:?}: {broken:#?}", report.plugin, report.level)
}

fn broken(report: &Report) -> Vec<Rule> {
    report.broken().map(|finding| finding.rule).collect()
}

fn outcome(report: &Report, rule: Rule) -> &Outcome {
    &report.rules.iter().find(|finding| finding.rule == rule).unwrap().outcome
}

/// A plugin that is nothing but a script.
fn script(text: &str) -> (TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().join("scripted");
    fs::create_dir(&root).unwrap();
    fs::write(root.join("start.sh"), text).unwrap();
    fs::set_permissions(root.join("start.sh"), fs::Permissions::from_mode(0o755)).unwrap();
    (folder, root)
}

/// `misbehave`, which says that it takes no frame of many megabytes: most of the time of a check would go
/// into writing and reading one.
fn copy_with_small_frames(place: &Path) -> PathBuf {
    let root = place.join("misbehave");
    fs::create_dir(&root).unwrap();
    for file in fs::read_dir(fixture("misbehave")).unwrap() {
        let file = file.unwrap().path();
        if file.is_file() {
            fs::copy(&file, root.join(file.file_name().unwrap())).unwrap();
        }
    }
    let manifest = fs::read_to_string(root.join("plugin.json")).unwrap();
    let mut manifest: Value = serde_json::from_str(&manifest).unwrap();
    manifest["maxFrameBytes"] = json!(2_200_000);
    fs::write(root.join("plugin.json"), manifest.to_string()).unwrap();
    root
}

/// The folders of the plugins in Rust that come with the host.
fn bundled() -> Vec<PathBuf> {
    let plugins = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../plugins");
    let mut found: Vec<PathBuf> =
        fs::read_dir(plugins).unwrap().map(|entry| entry.unwrap().path()).collect();
    found.retain(|folder| folder.join("plugin.json").exists() && folder.join("Cargo.toml").exists());
    found.sort();
    assert!(found.len() >= 3, "{found:?}");
    found
}

/// Those in other languages have to install what they need first: `clients/python/test_check.py`.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_bundled_plugin_in_rust_keeps_every_rule() {
    for folder in bundled() {
        let copy = tempfile::tempdir().unwrap();
        let name = folder.file_name().unwrap().to_str().unwrap().to_owned();
        copy_bundled(&name, copy.path(), &json!({}));
        fs::copy(folder.join("check.json"), copy.path().join(&name).join("check.json")).unwrap();
        let report = report(&target(&copy.path().join(&name), json!({})), Wishes::default()).await;
        assert!(report.conforms() && report.level == Some(Level::Extended), "{}", story(&report));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_does_not_misbehave_breaks_nothing() {
    let misbehave = target(&fixture("misbehave"), json!({ "hot": true, "dryRuns": true }));
    let report = report(&misbehave, Wishes::default()).await;
    assert!(report.conforms(), "{}", story(&report));
    assert_eq!((report.contract, report.level), (Some(Level::Extended), Some(Level::Extended)));
    let open: Vec<&Finding> =
        report.rules.iter().filter(|finding| matches!(finding.outcome, Outcome::NotTried { .. })).collect();
    assert!(open.is_empty(), "`misbehave` leaves nothing untried: {open:#?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_planted_fault_is_found_under_its_own_name_and_no_other() {
    let copy = tempfile::tempdir().unwrap();
    let root = &copy_with_small_frames(copy.path());
    let faults = Rule::all().filter(|rule| !PLANTED_ELSEWHERE.contains(rule));
    let checks = faults.map(|fault| async move {
        let settings = json!({ "hot": true, "dryRuns": true, "fault": fault.id() });
        let level = (fault == Rule::SpeaksExtended).then_some(Level::Extended);
        let report = report(&target(root, settings), Wishes { level, ..Wishes::default() }).await;
        (fault, report)
    });
    let reports: Vec<(Rule, Report)> = stream::iter(checks).buffer_unordered(AT_ONCE).collect().await;
    let wrong: Vec<String> = reports
        .iter()
        .filter(|(fault, report)| broken(report) != [*fault])
        .map(|(fault, report)| format!("`{}` was planted: {}", fault.id(), story(report)))
        .collect();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_plugin_that_is_started_by_hand_is_held_to_what_needs_no_process() {
    let Value::Object(settings) = json!({ "hot": true, "dryRuns": true }) else { panic!() };
    let questions = fixture("misbehave").join("check.json");
    let target = Target::read("ws://127.0.0.1:0/", settings, Some(&questions)).unwrap();
    let started = std::cell::RefCell::new(None);
    let start = |said: &str| {
        let variables = said.lines().filter_map(|line| line.strip_prefix("export ")?.split_once('='));
        if !said.contains("BKG_PLUGIN_BUS_URL") {
            return;
        }
        let mut command = Command::new("sh");
        command.arg("start.sh").current_dir(fixture("misbehave")).envs(variables);
        *started.borrow_mut() = Some(command.spawn().unwrap());
    };
    let (wishes, progress) = (Wishes::default(), Progress(&start));
    let Checked::Report(report) = check(&target, &wishes, &progress, std::future::pending()).await.unwrap()
    else {
        panic!("nobody stopped it")
    };
    let mut plugin = started.take().expect("the kit says how to start it");
    assert!(report.conforms(), "{}", story(&report));
    assert_eq!(report.level, Some(Level::Extended));
    assert_eq!(*outcome(&report, Rule::ReconnectsWithResume), Outcome::Passed);
    assert_eq!(*outcome(&report, Rule::DrainCloses), Outcome::Passed);
    assert!(matches!(outcome(&report, Rule::EndsAtSigterm), Outcome::NotTried { .. }));
    assert!(plugin.wait().unwrap().success(), "it drained, and ended");
}

#[tokio::test]
async fn a_prepare_script_that_fails_is_found() {
    let (_folder, root) = script("#!/bin/sh\nexit 1\n");
    fs::write(root.join("prepare.sh"), "#!/bin/sh\necho no such package >&2\nexit 4\n").unwrap();
    let report = report(&target(&root, json!({})), Wishes::default()).await;
    assert_eq!(broken(&report), [Rule::Prepares]);
    let Outcome::Broken { came, .. } = outcome(&report, Rule::Prepares) else { panic!() };
    assert_eq!(came, "it exited with code 4; its last lines: no such package");
    assert!(!report.conforms() && report.level.is_none());
}

#[tokio::test]
async fn what_never_dials_leaves_the_rest_untried() {
    let (_folder, root) = script("#!/bin/sh\necho out of luck\nexit 3\n");
    let report = report(&target(&root, json!({})), Wishes::default()).await;
    assert_eq!(broken(&report), [Rule::DialsInTime]);
    assert_eq!(report.contract, None);
    let Outcome::Broken { came, .. } = outcome(&report, Rule::DialsInTime) else { panic!() };
    assert_eq!(came, "it exited with code 3 before it dialled; its last lines: out of luck");
    let reason = "the plugin never registered".to_owned();
    assert_eq!(*outcome(&report, Rule::ConcurrentIds), Outcome::NotTried { reason });
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_base_plugin_reaches_the_base_level() {
    // Who is not held to it may leave it out.
    let settings = json!({ "fault": Rule::SpeaksExtended.id() });
    let report = report(&target(&fixture("misbehave"), settings), Wishes::default()).await;
    assert!(report.conforms(), "{}", story(&report));
    assert_eq!((report.contract, report.level), (Some(Level::Base), Some(Level::Base)));
    assert!(matches!(outcome(&report, Rule::CreditKept), Outcome::NotApplicable { .. }));
}

#[tokio::test]
async fn a_check_that_cannot_listen_failed_and_says_nothing_about_a_plugin() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = format!("ws://{}/", taken.local_addr().unwrap());
    let target = Target::read(&address, Map::new(), None).unwrap();
    let failed = check(&target, &Wishes::default(), &Progress(&|_| {}), std::future::pending()).await;
    assert!(matches!(failed, Err(KitError::Listen { .. })), "{failed:?}");
    let program = bkg_check(&[&address]);
    assert_eq!(program.status.code(), Some(3));
    let said = String::from_utf8_lossy(&program.stderr);
    assert!(said.starts_with("error: the check failed, and says nothing about the plugin: "), "{said}");
}

fn bkg_check(words: &[&str]) -> std::process::Output {
    Command::new(env!("CARGO_BIN_EXE_bkg")).arg("check").args(words).output().unwrap()
}

/// Whether a process has not ended; one that ended may wait for its parent to take notice.
fn is_running(pid: &str) -> bool {
    let state = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    state.rsplit_once(") ").is_some_and(|(_, rest)| !rest.starts_with('Z'))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stopped_check_leaves_no_process() {
    let (_folder, root) = script("#!/bin/sh\necho $$ >pid\nexec tail -f /dev/null\n");
    let target = target(&root, json!({}));
    let pid = || fs::read_to_string(root.join("pid")).ok().filter(|pid| pid.ends_with('\n'));
    let stop = async {
        while pid().is_none() {
            tokio::task::yield_now().await;
        }
    };
    let (wishes, progress) = (Wishes::default(), Progress(&|_| {}));
    let checked = check(&target, &wishes, &progress, stop);
    let checked = tokio::time::timeout(PATIENCE, checked).await.expect("it stops").unwrap();
    assert!(matches!(checked, Checked::Stopped));
    let pid = pid().unwrap();
    assert!(!is_running(pid.trim()), "process {pid} is gone");
}

#[test]
fn the_program_says_what_the_library_found() {
    let misbehave = fixture("misbehave");
    let settings = json!({ "fault": "example-answered" }).to_string();
    let words = [misbehave.to_str().unwrap(), "--settings", &settings, "--only", "example-answered"];
    let program = bkg_check(&words);
    let text = String::from_utf8_lossy(&program.stdout);
    assert_eq!(program.status.code(), Some(1), "{text}");
    for part in [
        "BROKEN example-answered, ",
        "expected  `success: true` from `test.word`",
        "it does not know the word",
        "see       docs/protocol.md#what-a-plugin-says",
        "misbehave, checked for some rules only: 0 passed, 1 broken",
    ] {
        assert!(text.contains(part), "{part}: {text}");
    }
    let program = bkg_check(&[&words[..], &["--json"]].concat());
    let report: Value = serde_json::from_slice(&program.stdout).unwrap();
    assert_eq!(program.status.code(), Some(1));
    assert_eq!((&report["level"], &report["contract"]), (&Value::Null, &json!("extended")));
    assert_eq!(report["counts"], json!({ "passed": 0, "broken": 1, "notTried": 0, "notApplicable": 0 }));
    assert_eq!(report["rules"][0]["rule"], "example-answered");
    assert_eq!(report["rules"][0]["outcome"], "broken");
    let schema = schemars::schema_for!(Report).to_value();
    let validator = jsonschema::validator_for(&schema).unwrap();
    assert!(validator.is_valid(&report), "{:?}", validator.iter_errors(&report).next());
}

#[test]
fn what_cannot_be_checked_is_a_matter_of_the_command_line() {
    for words in [
        &["/nowhere/start.sh"][..],
        &[],
        &["ws://0.0.0.0:80/"],
        &["start.sh", "--only", "none-of-them"],
        &["start.sh", "--settings", "[]"],
    ] {
        assert_eq!(bkg_check(words).status.code(), Some(2), "{words:?}");
    }
}

#[test]
fn the_list_has_every_rule() {
    let program = bkg_check(&["--list", "--json"]);
    let listed: Value = serde_json::from_slice(&program.stdout).unwrap();
    let ids: Vec<&str> =
        listed["rules"].as_array().unwrap().iter().map(|row| row["rule"].as_str().unwrap()).collect();
    assert_eq!(ids, Rule::all().map(Rule::id).collect::<Vec<_>>());
    assert_eq!(program.status.code(), Some(0));
}

/// A plugin in Python that does what `does` says, with the WebSocket of the example in plain Python.
fn python(does: &str) -> (TempDir, PathBuf) {
    let (folder, root) = script("#!/bin/sh\nexec python3 -uB plugin.py\n");
    let example = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../sdk/examples/plain-python");
    fs::copy(example.join("websocket.py"), root.join("websocket.py")).unwrap();
    let begin = "import json, os, time\nfrom websocket import WebSocket, Closed\n\
        ws = WebSocket(int(os.environ['BKG_PLUGIN_BUS_PORT']))\n\
        say = lambda kind, **more: ws.send(json.dumps({'type': kind, **more}))\n\
        say('register', plugin=os.environ['BKG_PLUGIN_NAME'], capabilities=['a.b'])\n\
        say('health', plugin=os.environ['BKG_PLUGIN_NAME'], status='up')\n";
    fs::write(root.join("plugin.py"), format!("{begin}{does}")).unwrap();
    (folder, root)
}

async fn outcome_of(root: &Path, rule: Rule) -> Outcome {
    let wishes = Wishes { only: vec![rule], ..Wishes::default() };
    outcome(&report(&target(root, json!({})), wishes).await, rule).clone()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_ends_impolitely_at_a_close_may_take_its_time() {
    let (_folder, root) = python(
        "ws._write = lambda *_: None\n\
         try:\n    ws.receive()\n\
         except Closed:\n    ws._reader.close(); ws._socket.close(); time.sleep(1)\n",
    );
    assert_eq!(outcome_of(&root, Rule::CloseAnswered).await, Outcome::Passed);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_leaves_unasked_does_not_show_how_it_is_closed() {
    let (_folder, root) = python("ws._write(8, b'\\x03\\xe8')\n");
    let outcome = outcome_of(&root, Rule::CloseAnswered).await;
    assert!(matches!(outcome, Outcome::NotTried { .. }), "{outcome:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_needs_another_plugin_is_not_blamed_for_the_kit_having_none() {
    let (_folder, root) = python(
        "ids = {}\n\
         while True:\n    \
             try: message = json.loads(ws.receive())\n    \
             except Closed: break\n    \
             if message['type'] == 'request':\n        \
                 ids['q'] = message['requestId']\n        \
                 say('request', requestId='q', capability='other.thing', payload={})\n    \
             elif message['type'] == 'response':\n        \
                 say('response', requestId=ids['q'], success=False, error={'code': 'x', 'message': 'no other'})\n",
    );
    fs::write(root.join("check.json"), json!({ "answer": { "capability": "a.b" } }).to_string()).unwrap();
    let Outcome::NotTried { reason } = outcome_of(&root, Rule::ExampleAnswered).await else { panic!() };
    assert!(reason.contains("`other.thing`"), "{reason}");
}

#[tokio::test]
async fn a_terminal_that_goes_away_takes_the_check_and_its_plugin_along() {
    let (folder, root) = script("#!/bin/sh\necho $$ >pid\nexec tail -f /dev/null\n");
    let place = folder.path().join("place");
    fs::create_dir(&place).unwrap();
    let mut checking = tokio::process::Command::new(env!("CARGO_BIN_EXE_bkg"))
        .args([Path::new("check"), &root])
        .env("TMPDIR", &place)
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let started = async {
        while !fs::read_to_string(root.join("pid")).is_ok_and(|pid| pid.ends_with('\n')) {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(PATIENCE, started).await.expect("the plugin starts");
    let check = nix::unistd::Pid::from_raw(checking.id().unwrap().cast_signed());
    nix::sys::signal::kill(check, nix::sys::signal::Signal::SIGHUP).unwrap();
    let ended = tokio::time::timeout(PATIENCE, checking.wait()).await.expect("it ends").unwrap();
    assert_eq!(ended.code(), Some(130));
    let pid = fs::read_to_string(root.join("pid")).unwrap();
    assert!(!is_running(pid.trim()), "process {pid} is gone");
    assert_eq!(fs::read_dir(&place).unwrap().count(), 0, "nothing is left in the temporary directory");
}
