//! What is told of plugins afterwards: their runs with crash cards, and every change of their state.

use bkg::registry::State;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};

use crate::host::TestHost;

/// Limits that make every wait of a stop short.
const QUICK: &str = "supervisor.drain_ms = 200\nsupervisor.grace_ms = 200";

async fn runs(host: &TestHost, name: &str) -> Vec<Value> {
    let reply = host.get(&format!("/admin/plugins/{name}/runs")).await;
    assert_eq!(reply.status, 200, "{}", reply.text);
    assert_eq!(reply.json()["missed"], 0);
    reply.json()["runs"].as_array().unwrap().clone()
}

async fn card(host: &TestHost, name: &str, run: &Value) -> Value {
    let reply = host.get(&format!("/admin/plugins/{name}/runs/{}", run["id"].as_str().unwrap())).await;
    assert_eq!(reply.status, 200, "{}", reply.text);
    reply.json()
}

/// The states that a plugin went through, the first one first, each with its reason.
async fn events(host: &TestHost, name: &str) -> Vec<(String, Option<String>)> {
    let reply = host.get(&format!("/admin/plugins/{name}/events")).await;
    assert_eq!(reply.status, 200, "{}", reply.text);
    let text = |value: &Value| value.as_str().map(str::to_owned);
    let events = reply.json()["events"].as_array().unwrap().clone();
    events.iter().rev().map(|event| (text(&event["state"]).unwrap(), text(&event["reason"]))).collect()
}

#[tokio::test]
async fn a_run_that_crashed_has_a_card() {
    let host = TestHost::builder().plugin("misbehave").config(QUICK).start().await;
    host.start_plugin("misbehave").await;
    let pid = host.pid("misbehave");
    let work = async {
        host.until_in_flight("misbehave", 1).await;
        kill(Pid::from_raw(pid), Signal::SIGKILL).unwrap();
        host.until(|view| (view.plugin("misbehave")?.status.restarts == 1).then_some(())).await;
    };
    let (reply, ()) = tokio::join!(host.invoke("misbehave", "test.wait", json!({})), work);
    assert_eq!(reply.status, 502, "{}", reply.text);
    host.until_state("misbehave", State::Running).await;
    let all = runs(&host, "misbehave").await;
    let [now, before] = all.as_slice() else { panic!("{all:?}") };
    assert_eq!((&now["outcome"], &now["restarts"]), (&json!("running"), &json!(1)));
    assert_eq!(
        (&before["outcome"], &before["pid"], &before["restarts"]),
        (&json!("crashed"), &json!(pid), &json!(0))
    );
    assert_eq!(before["exit"], json!({ "signal": 9, "oom": false, "text": "killed by SIGKILL" }));
    assert_eq!(before["reason"], "its process killed by SIGKILL");
    assert_eq!(before["version"], "1.0.0");
    let card = card(&host, "misbehave", before).await;
    let lost = &card["inFlight"][0];
    assert_eq!(lost["capability"], "test.wait");
    assert_eq!(lost["requestId"].as_str(), reply.headers["x-request-id"].to_str().ok());
    assert!(lost["ageMs"].is_u64() && card["resources"].is_array(), "{card}");
    host.stop().await;
}

#[tokio::test]
async fn a_card_has_the_last_lines_of_standard_error() {
    let script = "#!/bin/sh\nfor n in $(seq 1 30); do echo line $n >&2; done\nexit 3\n";
    let host = TestHost::builder().script("fails", script, json!({ "restart": "never" })).start().await;
    host.host().supervisor.want_up("fails").unwrap();
    host.until_state("fails", State::Failed).await;
    let all = runs(&host, "fails").await;
    assert_eq!(all[0]["exit"], json!({ "code": 3, "oom": false, "text": "exited with code 3" }));
    assert_eq!(all[0]["registeredAt"], Value::Null);
    let card = card(&host, "fails", &all[0]).await;
    let lines: Vec<String> = (11..=30).map(|n| format!("line {n}")).collect();
    assert_eq!(card["lastStderr"], json!(lines));
    host.stop().await;
}

#[tokio::test]
async fn what_somebody_ended_did_not_crash() {
    let host = TestHost::builder().plugin("misbehave").config(QUICK).start().await;
    host.start_plugin("misbehave").await;
    host.post("/admin/plugins/misbehave/restart?wait=30", json!({})).await;
    host.post("/admin/plugins/misbehave/stop?wait=30", json!({})).await;
    let outcomes: Vec<Value> =
        runs(&host, "misbehave").await.into_iter().map(|run| run["outcome"].clone()).collect();
    assert_eq!(outcomes, ["stopped", "replaced"]);
    host.stop().await;
}

#[tokio::test]
async fn every_change_of_state_is_told_with_its_reason_and_its_run() {
    let script = "#!/bin/sh\nexit 3\n";
    let host = TestHost::builder().script("fails", script, json!({ "restart": "never" })).start().await;
    host.host().supervisor.want_up("fails").unwrap();
    host.until_state("fails", State::Failed).await;
    let events = events(&host, "fails").await;
    let states: Vec<&str> = events.iter().map(|(state, _)| state.as_str()).collect();
    assert_eq!(states, ["starting", "preparing", "failed"]);
    assert!(events[2].1.as_deref().unwrap().contains("exited with code 3"), "{events:?}");
    let id = runs(&host, "fails").await[0]["id"].clone();
    let id = id.as_str().unwrap();
    let of_run = host.get(&format!("/admin/plugins/fails/events?run={id}")).await.json();
    assert_eq!(of_run["events"].as_array().unwrap().len(), 0, "it had ended when the state was entered");
    host.stop().await;
}

#[tokio::test]
async fn the_story_survives_a_restart_of_the_host() {
    let host = TestHost::builder().plugin("misbehave").config(QUICK).start().await;
    host.start_plugin("misbehave").await;
    let before = runs(&host, "misbehave").await;
    let host = host.restart().await;
    let after = runs(&host, "misbehave").await;
    assert_eq!(
        (after.len(), &after[0]["id"], &after[0]["outcome"]),
        (1, &before[0]["id"], &json!("stopped"))
    );
    assert_eq!(events(&host, "misbehave").await.last().unwrap().0, "stopped");
    host.stop().await;
}

#[tokio::test]
async fn who_asks_for_what_is_not_kept_is_told() {
    let host = TestHost::builder().plugin("misbehave").start().await;
    for (path, status, code) in [
        ("/admin/plugins/misbehave/runs/x", 404, "not_found"),
        ("/admin/plugins/misbehave/runs/0199f1e2-0000-7000-8000-000000000001", 404, "not_found"),
        ("/admin/plugins/nobody/runs", 404, "not_found"),
        ("/admin/plugins/misbehave/runs?limit=0", 400, "invalid_request"),
        ("/admin/plugins/misbehave/events?limit=501", 400, "invalid_request"),
        ("/admin/plugins/misbehave/events?run=x", 400, "invalid_request"),
    ] {
        let reply = host.get(path).await;
        assert_eq!((reply.status.as_u16(), reply.code().as_str()), (status, code), "{path}");
    }
    host.stop().await;
}
