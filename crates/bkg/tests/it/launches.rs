//! Launches that go wrong: one clear sentence each, and nothing of them survives.

use std::fs;

use bkg::registry::State;
use serde_json::json;

use crate::host::{TestHost, processes_with};

/// Starts a fixture that never serves, and answers what its status says once it rests.
async fn reason_of(fixture: &str) -> String {
    let host = TestHost::builder()
        .plugin_as(fixture, fixture, json!({ "restart": "never" }))
        .config("supervisor.prepare_timeout_ms = 500")
        .start()
        .await;
    host.host().supervisor.want_up(fixture).unwrap();
    let record = host.until_state(fixture, State::Failed).await;
    let reason = record.status.reason.clone().unwrap();
    let ledger: Vec<_> = fs::read_dir(host.data_dir().join("ledger")).unwrap().collect();
    assert_eq!(ledger.len(), 0, "the ledger is cleared when nothing is left");
    let logs = host.get(&format!("/admin/plugins/{fixture}/logs")).await.json();
    let runs = logs["lines"].as_array().unwrap().iter().filter_map(|line| line["instance"].as_str());
    for run in runs {
        assert_eq!(processes_with("BKG_PLUGIN_INSTANCE", run), Vec::<u32>::new());
    }
    host.stop().await;
    reason
}

#[tokio::test]
async fn a_start_script_that_fails_is_said_with_its_code() {
    assert_eq!(
        reason_of("fails").await,
        "`start.sh` exited with code 3 before it registered, and said: cannot start: the flux capacitor is missing"
    );
}

#[tokio::test]
async fn a_start_script_that_leaves_at_once_is_said() {
    assert_eq!(reason_of("exits-zero").await, "`start.sh` exited with code 0 before it registered");
}

#[tokio::test]
async fn a_start_script_that_daemonises_is_said_and_its_child_is_killed() {
    let reason = reason_of("daemonises").await;
    assert!(reason.starts_with("`start.sh` exited with code 0 before it registered and left "), "{reason}");
}

#[tokio::test]
async fn a_start_script_that_never_registers_is_said_with_the_limit() {
    for fixture in ["hangs", "binary", "floods"] {
        assert_eq!(reason_of(fixture).await, "it did not register within 500 ms", "{fixture}");
    }
}

#[tokio::test]
async fn a_missing_start_script_is_said() {
    let host = TestHost::builder().script("missing", "", json!({ "restart": "never" })).start().await;
    let folder = host.host().registry.plugin("missing").unwrap().root.clone();
    fs::remove_file(folder.join("start.sh")).unwrap();
    host.host().supervisor.want_up("missing").unwrap();
    let reason = host.until_state("missing", State::Failed).await.status.reason.clone().unwrap();
    assert!(reason.contains("start.sh"), "{reason}");
}

#[tokio::test]
async fn prepare_runs_once_for_an_unchanged_folder() {
    let host =
        TestHost::builder().script("prepared", "exit 4", json!({ "restart": "never" })).start().await;
    let folder = host.host().registry.plugin("prepared").unwrap().root.clone();
    let count = host.data_dir().join("count");
    fs::write(folder.join("prepare.sh"), format!("#!/bin/sh\necho run >> {}\n", count.display())).unwrap();
    for _ in 0..2 {
        host.host().supervisor.want_again("prepared").unwrap();
        host.until_state("prepared", State::Failed).await;
        host.host().supervisor.want_down("prepared").unwrap();
        host.until_state("prepared", State::Stopped).await;
    }
    assert_eq!(fs::read_to_string(count).unwrap(), "run\n");
}

#[tokio::test]
async fn a_second_host_on_the_same_data_directory_is_refused_and_the_first_is_unhurt() {
    let builder = TestHost::builder();
    let config = builder.load();
    let host = builder.start().await;
    let error = bkg::app::Host::start(config).await.unwrap_err();
    assert_eq!(error.exit_code(), 3, "{error}");
    assert_eq!(host.get("/health").await.status, 200);
    assert!(host.data_dir().join("ports.json").is_file());
}

#[tokio::test]
async fn a_taken_port_is_refused_by_name() {
    let first = TestHost::builder().start().await;
    for (key, port) in [("api", first.api_port()), ("bus", first.bus_port())] {
        let mut loaded = TestHost::builder().load();
        let config = &mut loaded.config;
        let directory = tempfile::tempdir().unwrap();
        config.data_dir = directory.path().join("data");
        if key == "api" {
            config.api_port = port;
        } else {
            config.bus_port = port;
        }
        let error = bkg::app::Host::start(loaded).await.unwrap_err();
        assert_eq!(error.exit_code(), 4);
        assert!(error.to_string().contains(&format!("--{key}-port")), "{error}");
    }
}
