//! What the processes of plugins cost: every launch is measured as a tree, from its spawn to its end,
//! and what was measured can be asked for afterwards.

use std::sync::Arc;

use bkg::telemetry::Sample;
use serde_json::{Value, json};
use tokio::time::timeout;

use crate::host::{PATIENCE, TestHost, header};

/// A round is soon.
const SOON: &str = "telemetry.interval_ms = 100";
/// Registers never: one process that computes and one that holds a file and waits.
const TREE: &str = "#!/bin/sh\n\
    sleep 1000 3</dev/null &\n\
    while :; do :; done\n";

/// Waits for a sample of which the condition holds.
async fn until(host: &TestHost, mut holds: impl FnMut(&Sample) -> bool) -> Arc<Sample> {
    let mut news = host.host().telemetry.subscribe();
    let looking = async {
        loop {
            let sample = news.recv().await.expect("a test reads fast enough");
            if holds(&sample) {
                return sample;
            }
        }
    };
    timeout(PATIENCE, looking).await.expect("such a sample is taken")
}

#[tokio::test]
async fn a_launch_that_has_not_registered_is_measured_with_all_its_processes() {
    let host = TestHost::builder().script("tree", TREE, json!({})).config(SOON).start().await;
    let name = "tree".parse().unwrap();
    assert_eq!(host.host().telemetry.history(&name), []);

    host.host().supervisor.want_up("tree").unwrap();
    let sample = until(&host, |sample| sample.processes == 2 && sample.cpu_percent > 0.0).await;
    assert_eq!(sample.plugin, name);
    assert!(sample.rss_bytes > 0 && sample.fds >= 6 && sample.threads == 2, "{sample:?}");

    let shown = host.get("/admin/plugins/tree").await.json();
    assert_eq!((shown["status"].as_str(), &shown["instances"]), (Some("preparing"), &json!([])));
    assert_eq!(shown["resources"][0]["instance"], json!(sample.instance));
    assert_eq!(shown["resources"].as_array().unwrap().len(), 1);
    host.stop().await;
}

#[tokio::test]
async fn what_was_measured_outlives_the_launch_and_belongs_to_nothing_that_runs() {
    let host = TestHost::builder().plugin("misbehave").config(SOON).start().await;
    host.start_plugin("misbehave").await;
    until(&host, |_| true).await;
    let first = host.get("/admin/plugins/misbehave/telemetry").await.json();
    let launch = first["samples"][0]["instance"].clone();

    assert_eq!(host.post("/admin/plugins/misbehave/restart?wait=30", json!({})).await.status, 200);
    until(&host, |sample| json!(sample.instance) != launch).await;
    let reply = host.get("/admin/plugins/misbehave/telemetry").await;
    let kept = reply.json();
    assert_eq!((&kept["plugin"], &kept["intervalMs"]), (&json!("misbehave"), &json!(100)));
    let samples = kept["samples"].as_array().unwrap();
    let sequence: Vec<u64> = samples.iter().map(|sample| sample["seq"].as_u64().unwrap()).collect();
    assert!(sequence.is_sorted_by(|one, next| one < next), "{sequence:?}");
    let has = |instance: &Value| samples.iter().any(|sample| sample["instance"] == *instance);
    assert!(has(&launch) && samples.iter().any(|sample| sample["instance"] != launch));
    let members: Vec<&String> = samples[0].as_object().unwrap().keys().collect();
    assert_eq!(
        members,
        ["seq", "at", "plugin", "instance", "cpuPercent", "rssBytes", "fds", "threads", "processes"]
    );

    assert_eq!(host.post("/admin/plugins/misbehave/stop?wait=30", json!({})).await.status, 200);
    let name = "misbehave".parse().unwrap();
    assert_eq!(host.host().telemetry.latest(&name), [], "what is over is not shown as running");
    assert!(!host.host().telemetry.history(&name).is_empty());
    host.stop().await;
}

#[tokio::test]
async fn the_telemetry_of_a_plugin_that_does_not_exist_is_not_found() {
    let host = TestHost::builder().start().await;
    let reply = host.get("/admin/plugins/nobody/telemetry").await;
    assert_eq!((reply.status.as_u16(), reply.code().as_str()), (404, "not_found"));
    assert_eq!(header(&reply, "content-type"), Some("application/json"));
}
