//! What existing base plugins do that no rule asks for, and that the host lives with.
//!
//! Each quirk is a program of its own in `../plugins/quirks`, whose README says which test shows which.
//! Where a test has to know that some time has passed, another plugin shows it: one that is pinged,
//! or replaced for its silence, meanwhile.

use std::fs;
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;
use std::sync::Arc;

use crate::daemon::{mode, until};
use crate::host::{Builder, Reply, TestHost, processes_with};
use bkg::registry::{Instance, State, View};
use bkg_protocol::host::Contract;
use bkg_protocol::message::Condition;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};

/// Limits that make every wait of a stop short.
const QUICK: &str = "supervisor.drain_ms = 200\nsupervisor.grace_ms = 200";

/// Adds a plugin that is called like its quirk, with its dashes in place.
fn with_quirk(builder: Builder, quirk: &str, entry: Value) -> Builder {
    let mut whole = json!({ "env": { "BKG_QUIRK": quirk.replace('-', "_") } });
    for (name, value) in entry.as_object().unwrap() {
        whole[name] = value.clone();
    }
    builder.plugin_as("quirks", quirk, whole)
}

fn quirk(quirk: &str, settings: Value) -> Builder {
    with_quirk(TestHost::builder().config(QUICK), quirk, json!({ "settings": settings }))
}

/// A daemon with one quirk, running: that is, healthy, though hardly any of them ever beats.
async fn running(name: &str, settings: Value) -> TestHost {
    let host = quirk(name, settings).start().await;
    host.start_plugin(name).await;
    host
}

fn want_up(host: &TestHost, name: &str) {
    host.host().supervisor.want_up(name).unwrap();
}

fn session(host: &TestHost, name: &str) -> Arc<Instance> {
    Arc::clone(&host.host().registry.plugin(name).unwrap().instances[0])
}

/// What a capability of a quirk answers.
async fn answered(host: &TestHost, name: &str, capability: &str, payload: Value) -> Value {
    let reply = host.invoke(name, capability, payload).await;
    assert_eq!(reply.status, 200, "{}", reply.text);
    reply.json()["data"].clone()
}

/// It answers, and it is still the session that it was: nothing was restarted, and nothing dialled again.
async fn assert_unharmed(host: &TestHost, name: &str, before: &Arc<Instance>) {
    let payload = json!({ "unharmed": name });
    assert_eq!(answered(host, name, "quirk.echo", payload.clone()).await, payload);
    assert!(Arc::ptr_eq(&session(host, name), before), "it has another session");
    let record = host.host().registry.plugin(name).unwrap();
    assert_eq!(record.status.restarts, 0, "{:?}", record.status.reason);
}

/// What it was sent, by type.
async fn seen(host: &TestHost, name: &str) -> Value {
    answered(host, name, "quirk.seen", json!(null)).await
}

fn data_dir(host: &TestHost, name: &str) -> PathBuf {
    host.data_dir().join("plugins").join(name).join("data")
}

/// The lines that a quirk noted.
fn notes(host: &TestHost, name: &str) -> Vec<String> {
    let text = fs::read_to_string(data_dir(host, name).join("notes")).unwrap_or_default();
    text.lines().map(str::to_owned).collect()
}

async fn until_notes(host: &TestHost, name: &str, count: usize) -> Vec<String> {
    let enough = || Some(notes(host, name)).filter(|notes| notes.len() >= count);
    until(enough).await.unwrap_or_else(|| panic!("{count} notes of {name}, not {:?}", notes(host, name)))
}

/// Opens the pipe that a quirk waits at, and closes it: what it reads is nothing.
async fn open_pipe(host: &TestHost, name: &str, pipe: &str) {
    let pipe = data_dir(host, name).join(pipe);
    // Without waiting: opening fails until there is a reader.
    let opened =
        until(|| fs::OpenOptions::new().write(true).custom_flags(nix::libc::O_NONBLOCK).open(&pipe).ok());
    opened.await.expect("somebody reads the pipe");
}

async fn log_lines(host: &TestHost, name: &str) -> Vec<Value> {
    let logs = host.get(&format!("/admin/plugins/{name}/logs")).await.json();
    logs["lines"].as_array().unwrap().clone()
}

fn processes(host: &TestHost, name: &str) -> Vec<u32> {
    let data = data_dir(host, name).canonicalize().unwrap();
    processes_with("BKG_PLUGIN_DATA_DIR", data.to_str().unwrap())
}

fn refusal(reply: &Reply) -> (u16, String) {
    (reply.status.as_u16(), reply.code())
}

#[tokio::test]
async fn a_plugin_that_wedges_on_pings_never_gets_one() {
    let host = with_quirk(TestHost::builder(), "wedges-on-ping", json!({}))
        .plugin("misbehave")
        .config("limits.heartbeat_ms = 1000\nlimits.ping_every_ms = 200\nlimits.pong_within_ms = 1000")
        .start()
        .await;
    host.start_plugin("wedges-on-ping").await;
    host.start_plugin("misbehave").await;
    let before = session(&host, "wedges-on-ping");
    assert_eq!(before.contract, Contract::Base);
    // Each round ends because `misbehave` was pinged and said nothing.
    for _ in 0..2 {
        let pinged = session(&host, "misbehave");
        host.ask("test.silent", json!({ "beats": true, "pongs": false })).await;
        host.until(|view| {
            let now = view.plugin("misbehave")?.instances.first()?;
            (!Arc::ptr_eq(now, &pinged)).then_some(())
        })
        .await;
    }
    assert_eq!(host.ask("test.seen", json!({})).await["closes"], json!([1011, 1011]));
    assert_unharmed(&host, "wedges-on-ping", &before).await;
    assert_eq!(notes(&host, "wedges-on-ping"), Vec::<String>::new());
    // Nor anything else besides the two requests.
    assert_eq!(seen(&host, "wedges-on-ping").await, json!({ "request": 2 }));
    host.stop().await;
}

#[tokio::test]
async fn nobody_is_closed_with_a_code_on_which_some_dial_again_at_once() {
    // What it does, and the code that it is closed with: never 1000 or 1001.
    let offences = [
        ("unlisted", "1008"),
        ("first-frame", "1008"),
        ("second-register", "1008"),
        ("newer", "1008"),
        ("garbage", "1007"),
        ("huge", "1009"),
    ];
    for (offence, code) in offences {
        let host = quirk("redials-at-once", json!({ "offence": offence })).start().await;
        want_up(&host, "redials-at-once");
        let notes = until_notes(&host, "redials-at-once", 1).await;
        assert_eq!(notes[0].split(' ').next(), Some(code), "{offence}");
        host.stop().await;
    }
}

#[tokio::test]
async fn a_plugin_that_is_stopped_is_closed_with_1013_and_then_gone() {
    let host = running("redials-at-once", json!({ "ignoresTerm": true })).await;
    host.host().supervisor.want_down("redials-at-once").unwrap();
    host.until_state("redials-at-once", State::Stopped).await;
    let notes = notes(&host, "redials-at-once");
    assert_eq!(notes.len(), 1, "{notes:?}");
    assert!(notes[0].starts_with("1013 "), "{notes:?}");
    assert_eq!(processes(&host, "redials-at-once"), Vec::<u32>::new());
    host.stop().await;
}

#[tokio::test]
async fn a_plugin_that_is_being_stopped_gets_no_session_again_however_often_it_dials() {
    let settings = json!({ "ignoresTerm": true, "redialsOn": [1008, 1013] });
    // It has all the time that it wants, until the host stops.
    let slow = "supervisor.grace_ms = 600000";
    let builder = TestHost::builder().config(slow);
    let host = with_quirk(builder, "redials-at-once", json!({ "settings": settings })).start().await;
    host.start_plugin("redials-at-once").await;
    host.host().supervisor.want_down("redials-at-once").unwrap();
    let notes = until_notes(&host, "redials-at-once", 4).await;
    let codes: Vec<&str> = notes[..4].iter().map(|note| note.split(' ').next().unwrap()).collect();
    assert_eq!(codes, ["1013", "1008", "1008", "1008"]);
    // Its session ended, and every attempt at another is refused: no request reaches it.
    let record = host.host().registry.plugin("redials-at-once").unwrap();
    assert_eq!((record.state(), record.instances.len()), (State::Draining, 0));
    let pid = processes(&host, "redials-at-once")[0];
    kill(Pid::from_raw(pid as i32), Signal::SIGKILL).unwrap();
    host.until_state("redials-at-once", State::Stopped).await;
    host.stop().await;
}

#[tokio::test]
async fn dials_without_delay_are_slowed_down_for_their_launch_alone() {
    let settings = json!({ "offence": "unlisted", "redialsOn": [1006, 1008] });
    let builder = quirk("redials-at-once", settings).config("supervisor.prepare_timeout_ms = 60000");
    let host = with_quirk(builder, "echo", json!({})).start().await;
    want_up(&host, "redials-at-once");
    const DIALS: usize = 40;
    let notes = until_notes(&host, "redials-at-once", DIALS).await;
    // Another's listener is not slowed down.
    host.start_plugin("echo").await;
    let closed = |note: &String| note.split(' ').nth(1).unwrap().parse::<f64>().unwrap();
    let took = closed(&notes[DIALS - 1]) - closed(&notes[0]);
    // Twenty are free, and one more for each quarter of a second: a busy machine only takes longer.
    let least = (DIALS - 1 - 20 - 1) as f64 * 0.25;
    assert!(took >= least, "{DIALS} dials took {took:.2} s, not {least:.2} s");
    host.stop().await;
}

#[tokio::test]
async fn a_plugin_that_beats_once_is_degraded_and_never_replaced_for_its_silence() {
    let host = with_quirk(TestHost::builder(), "beats-once", json!({}))
        .plugin("misbehave")
        .config("limits.heartbeat_ms = 400")
        .start()
        .await;
    want_up(&host, "beats-once");
    host.until_state("beats-once", State::Degraded).await;
    let before = session(&host, "beats-once");
    // Who has shown that it beats, and falls silent later than this one, is replaced meanwhile.
    host.start_plugin("misbehave").await;
    host.ask("test.silent", json!({})).await;
    let replaced = |view: &View| view.plugin("misbehave").is_some_and(|it| it.status.restarts == 1);
    host.until(|view| replaced(view).then_some(())).await;
    assert_eq!(before.condition(), Condition::Degraded);
    assert_eq!(host.host().registry.plugin("beats-once").unwrap().state(), State::Degraded);
    assert_unharmed(&host, "beats-once", &before).await;
    host.stop().await;
}

#[tokio::test]
async fn a_base_plugin_that_has_beaten_three_times_is_replaced_for_its_silence() {
    let entry = json!({ "settings": { "beats": 3 } });
    let host = with_quirk(TestHost::builder(), "beats-once", entry)
        .config("limits.heartbeat_ms = 400")
        .start()
        .await;
    want_up(&host, "beats-once");
    host.until_state("beats-once", State::Unresponsive).await;
    host.until(|view| (view.plugin("beats-once")?.status.restarts == 1).then_some(())).await;
    host.stop().await;
}

#[tokio::test]
async fn success_decides_where_a_base_plugin_sends_both_data_and_error() {
    let host = running("data-and-error", json!({})).await;
    let before = session(&host, "data-and-error");
    let text = "the upstream said no";
    let cases = [
        (json!({ "success": true, "data": { "n": 1 } }), Ok(json!({ "n": 1 }))),
        (json!({ "success": true, "data": { "n": 2 }, "error": text }), Ok(json!({ "n": 2 }))),
        (json!({ "success": true }), Ok(json!(null))),
        (json!({ "success": false, "error": text }), Err(text)),
        (json!({ "success": false, "error": text, "data": { "n": 3 } }), Err(text)),
    ];
    for (said, expected) in cases {
        let reply = host.invoke("data-and-error", "quirk.echo", said.clone()).await;
        match expected {
            Ok(data) => assert_eq!((reply.status.as_u16(), &reply.json()["data"]), (200, &data), "{said}"),
            Err(message) => {
                assert_eq!(refusal(&reply), (502, "plugin_error".to_owned()), "{said}");
                assert_eq!(reply.json()["error"]["message"], message);
                assert_eq!(reply.headers["x-bkg-error-source"], "plugin");
            }
        }
    }
    assert!(Arc::ptr_eq(&session(&host, "data-and-error"), &before));
    host.stop().await;
}

#[tokio::test]
async fn a_serial_plugin_is_left_in_peace_and_its_place_is_freed_by_its_late_answer() {
    let host = with_quirk(TestHost::builder().plugin("misbehave"), "serial", json!({}))
        .config("limits.heartbeat_ms = 400")
        .config("limits.cancel_degrades_after_ms = 100\nlimits.cancel_replaces_after_ms = 200")
        .start()
        .await;
    host.start_plugin("serial").await;
    host.start_plugin("misbehave").await;
    let before = session(&host, "serial");
    {
        let leaves = host.invoke("serial", "quirk.wait", json!("first"));
        let begun = until_notes(&host, "serial", 1);
        tokio::select! {
            _ = leaves => panic!("it waits"),
            _ = begun => {}
        }
        // Here its caller leaves, and the plugin is not told.
    }
    // Another who owes an answer for as long is replaced meanwhile.
    let body = json!({ "capability": "test.stall", "payload": {}, "timeoutMs": 50 });
    assert_eq!(host.post("/api/plugins/misbehave/invoke", body).await.status, 504);
    host.until(|view| (view.plugin("misbehave")?.status.restarts == 1).then_some(())).await;
    assert_eq!(host.in_flight("serial"), 1, "its place is still taken");
    let (second, third, ()) = tokio::join!(
        answered(&host, "serial", "quirk.wait", json!("second")),
        answered(&host, "serial", "quirk.wait", json!("third")),
        async {
            host.until_in_flight("serial", 3).await;
            for place in 1..=3 {
                open_pipe(&host, "serial", "go").await;
                until_notes(&host, "serial", 2 * place).await;
            }
        }
    );
    assert_eq!((second, third), (json!("second"), json!("third")));
    host.until_in_flight("serial", 0).await;
    let noted = notes(&host, "serial");
    let one_by_one = noted.chunks(2).all(|pair| pair[0].replace("begins", "ends") == pair[1]);
    assert!(one_by_one && noted[1] == "ends first", "{noted:?}");
    assert_unharmed(&host, "serial", &before).await;
    assert_eq!(seen(&host, "serial").await, json!({ "request": 5 }), "and no `cancel`");
    host.stop().await;
}

#[tokio::test]
async fn a_frame_that_the_plugin_would_choke_on_is_refused_before_it_is_sent() {
    let limited = json!({ "settings": { "limit": 65536 }, "maxFrameBytes": 65536 });
    let cases = [("one-mebibyte", json!({}), 1 << 20), ("one-mebibyte", limited, 1 << 16)];
    for (name, entry, limit) in cases {
        let host = with_quirk(TestHost::builder().config(QUICK), name, entry).start().await;
        host.start_plugin(name).await;
        let before = session(&host, name);
        // The envelope takes some of the frame.
        let fits = "x".repeat(limit - 256);
        assert_eq!(answered(&host, name, "quirk.echo", json!(fits)).await, json!(fits));
        for size in [limit - 16, limit, 2 * limit] {
            let reply = host.invoke(name, "quirk.echo", json!("x".repeat(size))).await;
            assert_eq!(refusal(&reply), (413, "payload_too_large".to_owned()), "{size}");
            assert_eq!(reply.headers["x-bkg-error-source"], "host");
        }
        assert_unharmed(&host, name, &before).await;
        assert_eq!(notes(&host, name), Vec::<String>::new());
        host.stop().await;
    }
}

#[tokio::test]
async fn an_answer_that_the_plugin_would_choke_on_becomes_an_error() {
    let builder = TestHost::builder().plugin("misbehave").config(QUICK);
    let host = with_quirk(builder, "one-mebibyte", json!({ "calls": ["test.*"] })).start().await;
    host.start_plugin("one-mebibyte").await;
    host.start_plugin("misbehave").await;
    let before = session(&host, "one-mebibyte");
    let ask = json!({ "capability": "test.huge", "payload": { "bytes": 1 << 20 } });
    let response = answered(&host, "one-mebibyte", "quirk.ask", ask).await;
    assert_eq!(
        (&response["success"], &response["error"]["code"]),
        (&json!(false), &json!("payload_too_large")),
        "{response}"
    );
    assert_unharmed(&host, "one-mebibyte", &before).await;
    host.stop().await;
}

#[tokio::test]
async fn the_name_in_the_runtime_file_is_as_good_as_the_one_in_the_environment() {
    let host = running("name-from-config", json!({})).await;
    let before = session(&host, "name-from-config");
    assert_unharmed(&host, "name-from-config", &before).await;
    host.stop().await;
}

#[tokio::test]
async fn a_start_script_that_does_not_exec_is_one_launch_with_its_program() {
    let entry = json!({ "entrypoint": "does_not_exec.sh", "settings": { "ignoresTerm": true } });
    let host = with_quirk(TestHost::builder().config(QUICK), "does-not-exec", entry).start().await;
    let program = |host: &TestHost| {
        let text = fs::read_to_string(data_dir(host, "does-not-exec").join("program.pid")).unwrap();
        text.trim().parse::<u32>().unwrap()
    };
    host.start_plugin("does-not-exec").await;
    let script = host.pid("does-not-exec") as u32;
    let before = session(&host, "does-not-exec");
    assert!(before.verified && script != program(&host), "the child is taken for the launch's");
    assert_eq!(processes(&host, "does-not-exec").len(), 2);
    // Whichever of the two is lost, the whole launch is replaced.
    for round in 0..2 {
        let (script, program) = (host.pid("does-not-exec") as u32, program(&host));
        let lost = if round == 0 { program } else { script };
        kill(Pid::from_raw(lost as i32), Signal::SIGKILL).unwrap();
        host.until(|view| {
            let now = view.plugin("does-not-exec")?;
            (now.state() == State::Running && now.instances.first()?.pid != Some(script)).then_some(())
        })
        .await;
        let left = processes(&host, "does-not-exec");
        assert!(!left.contains(&script) && !left.contains(&program), "{left:?}");
        assert_eq!(answered(&host, "does-not-exec", "quirk.echo", json!(round)).await, json!(round));
    }
    host.host().supervisor.want_down("does-not-exec").unwrap();
    host.until_state("does-not-exec", State::Stopped).await;
    assert_eq!(processes(&host, "does-not-exec"), Vec::<u32>::new());
    host.stop().await;
}

#[tokio::test]
async fn a_start_script_without_the_execute_bit_runs_and_its_owner_is_told() {
    let entry = json!({ "entrypoint": "not_executable.sh" });
    let host = with_quirk(TestHost::builder().config(QUICK), "not-executable", entry).start().await;
    let script = host.plugins_dir().join("not-executable/not_executable.sh");
    assert_eq!(mode(&script) & 0o111, 0, "the fixture has lost its quirk");
    host.start_plugin("not-executable").await;
    assert_eq!(answered(&host, "not-executable", "quirk.echo", json!(1)).await, json!(1));
    let lines = log_lines(&host, "not-executable").await;
    let warning = lines.iter().find(|line| line["level"] == "warn").expect("a warning");
    let message = warning["message"].as_str().unwrap();
    assert!(message.ends_with("use `chmod +x not_executable.sh`"), "{message}");
    host.stop().await;
}

#[tokio::test]
async fn a_first_build_may_take_longer_than_a_launch_and_keeps_nobody_waiting() {
    let builder = TestHost::builder().config(QUICK).config("supervisor.register_timeout_ms = 200");
    let builder = with_quirk(builder, "builds-first", json!({ "entrypoint": "builds_first.sh" }));
    let refused = json!({ "settings": { "offence": "unlisted" }, "restart": "never" });
    let host = with_quirk(builder, "redials-at-once", refused).start().await;
    want_up(&host, "builds-first");
    host.until_state("builds-first", State::Preparing).await;
    // What was refused, and begun later, is given up after the time that a launch may take.
    want_up(&host, "redials-at-once");
    host.until_state("redials-at-once", State::Failed).await;
    let record = host.host().registry.plugin("builds-first").unwrap();
    assert_eq!((record.state(), record.status.restarts), (State::Preparing, 0));
    assert!(record.status.reason.as_ref().unwrap().contains("may build what it needs"));
    open_pipe(&host, "builds-first", "built").await;
    host.until_state("builds-first", State::Running).await;
    assert_eq!(answered(&host, "builds-first", "quirk.echo", json!(1)).await, json!(1));
    host.stop().await;
}

#[tokio::test]
async fn log_lines_keep_the_order_in_which_they_came_whatever_time_they_name() {
    let host = running("naive-timestamps", json!({})).await;
    answered(&host, "naive-timestamps", "quirk.echo", json!(null)).await;
    let lines = log_lines(&host, "naive-timestamps").await;
    let lines: Vec<&Value> = lines.iter().filter(|line| line["stream"] == "bus").collect();
    let messages: Vec<&str> = lines.iter().map(|line| line["message"].as_str().unwrap()).collect();
    let expected: Vec<String> = (0..=8).map(|number| format!("line {number}")).collect();
    assert_eq!(messages, expected);
    let times: Vec<&Value> = lines.iter().map(|line| &line["pluginTime"]).collect();
    let none = &Value::Null;
    let expected = [
        &json!("2026-01-02T03:04:05Z"),
        &json!("2026-01-02T03:04:05.5Z"),
        &json!("2026-01-02T03:04:05Z"),
        &json!("2026-01-02T03:04:05.25Z"),
        &json!("2026-01-02T03:04:05Z"),
        none,
        none,
        none,
        none,
    ];
    assert_eq!(times, expected);
    host.stop().await;
}

#[tokio::test]
async fn a_base_plugin_that_asks_without_a_target_is_always_answered() {
    let builder = TestHost::builder().plugin("misbehave").config(QUICK);
    let calls = json!({ "calls": ["test.*", "quirk.*", "nobody.*"] });
    let host = with_quirk(builder, "asks-without-target", calls).start().await;
    host.start_plugin("asks-without-target").await;
    host.start_plugin("misbehave").await;
    let before = session(&host, "asks-without-target");
    let ok = json!({ "type": "response", "requestId": "1", "success": true, "data": { "n": 1 } });
    let failed = |code: &str| json!([false, code]);
    let cases = [
        (json!({ "capability": "test.echo", "payload": { "n": 1 } }), Ok(&ok)),
        // Of its own, which it answers while it waits.
        (json!({ "capability": "quirk.echo", "payload": { "n": 1 } }), Ok(&ok)),
        (json!({ "capability": "test.string_error", "payload": { "message": "m" } }), Err("plugin_error")),
        (json!({ "capability": "nobody.offers_it", "payload": {} }), Err("plugin_unavailable")),
        (json!({ "capability": "repo.command", "payload": {} }), Err("forbidden")),
        (json!({ "capability": "auth.validate", "payload": {} }), Err("forbidden")),
        (json!({ "capability": "no dot", "payload": {} }), Err("invalid_request")),
        (json!({}), Err("invalid_request")),
    ];
    for (asked, expected) in cases {
        let response = answered(&host, "asks-without-target", "quirk.ask", asked.clone()).await;
        match expected {
            Ok(expected) => assert_eq!(&response, expected, "{asked}"),
            Err(code) => {
                let said = json!([response["success"], response["error"]["code"]]);
                assert_eq!(said, failed(code), "{asked}: {response}");
            }
        }
    }
    assert_unharmed(&host, "asks-without-target", &before).await;
    host.stop().await;
}

#[tokio::test]
async fn a_plugin_that_pings_the_host_gets_its_own_bytes_back() {
    let host = running("pings-the-host", json!({})).await;
    let before = session(&host, "pings-the-host");
    for payload in ["", "are you there", &"x".repeat(125)] {
        assert_eq!(answered(&host, "pings-the-host", "quirk.ping", json!(payload)).await, payload);
    }
    assert_unharmed(&host, "pings-the-host", &before).await;
    host.stop().await;
}

#[tokio::test]
async fn words_of_its_own_for_how_it_is_are_understood() {
    let cases = [
        ("up", Condition::Healthy, 200),
        ("ready", Condition::Healthy, 200),
        ("ok", Condition::Healthy, 200),
        ("stopping", Condition::Draining, 503),
        ("degraded", Condition::Degraded, 200),
        ("weird", Condition::Degraded, 200),
        ("", Condition::Degraded, 200),
        ("down", Condition::Down, 503),
    ];
    for (word, condition, status) in cases {
        let builder = quirk("own-words", json!({ "word": word })).config("limits.queue_wait_ms = 0");
        let host = builder.start().await;
        want_up(&host, "own-words");
        let found = |view: &View| {
            let instance = view.plugin("own-words")?.instances.first()?;
            (instance.condition() == condition).then_some(())
        };
        host.until(found).await;
        assert_eq!(host.invoke("own-words", "quirk.echo", json!(1)).await.status, status, "{word}");
        assert_eq!(session(&host, "own-words").condition(), condition, "{word}");
        host.stop().await;
    }
}

#[tokio::test]
async fn a_port_may_be_a_number() {
    let host = running("port-number", json!({})).await;
    let port = answered(&host, "port-number", "quirk.port", json!(null)).await;
    let shown = host.get("/admin/plugins/port-number").await.json();
    assert_eq!((&shown["instances"][0]["port"], port.is_u64()), (&port, true));
    host.stop().await;
}

#[tokio::test]
async fn what_the_host_does_not_know_it_does_not_mind() {
    let host = running("unknown-words", json!({})).await;
    let before = session(&host, "unknown-words");
    assert_unharmed(&host, "unknown-words", &before).await;
    assert_eq!(before.condition(), Condition::Healthy);
    let lines = log_lines(&host, "unknown-words").await;
    let line = lines.iter().find(|line| line["stream"] == "bus").expect("its line");
    assert_eq!(
        (&line["level"], &line["message"]),
        (&json!("info"), &json!(r#"{"not":"a text"}"#)),
        "{line}"
    );
    host.stop().await;
}

#[tokio::test]
async fn telemetry_without_numbers_costs_no_session_and_is_not_shown_as_figures() {
    let host = running("telemetry-without-numbers", json!({})).await;
    let before = session(&host, "telemetry-without-numbers");
    assert_unharmed(&host, "telemetry-without-numbers", &before).await;
    let shown = host.get("/admin/plugins/telemetry-without-numbers").await.json();
    let telemetry = &shown["instances"][0]["telemetry"];
    assert_eq!(telemetry.get("cpu"), None, "{telemetry}");
    assert_eq!((&telemetry["mem_bytes"], &telemetry["queue"]), (&json!(1048576.0), &json!(3)));
    host.stop().await;
}
