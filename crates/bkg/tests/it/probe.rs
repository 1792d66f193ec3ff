//! The health probe of an entry: what it takes out of rotation, what it replaces, and what does not fool it.
//!
//! The plugin is `../plugins/quirks/http_twin.py`, which answers as files in its data directory tell. Where
//! a test has to know that many probes have passed, another plugin shows it, which is replaced meanwhile.

use std::fs;
use std::path::PathBuf;

use bkg::registry::{PluginRecord, State};
use serde_json::{Value, json};
use tokio::time::timeout;

use crate::host::{Builder, PATIENCE, TestHost};

/// Limits that make every wait of a stop short.
const QUICK: &str = "supervisor.drain_ms = 200\nsupervisor.grace_ms = 200";

fn twin(builder: Builder, name: &str, healthcheck: Value) -> Builder {
    let entry = json!({ "env": { "BKG_QUIRK": "http_twin" }, "healthcheck": healthcheck });
    builder.plugin_as("quirks", name, entry)
}

/// A daemon whose only plugin is `twin`, running, with these files in its data directory.
async fn running(healthcheck: Value, files: &[(&str, &str)]) -> TestHost {
    let host = twin(TestHost::builder().config(QUICK), "twin", healthcheck).start().await;
    for (name, text) in files {
        write(&host, "twin", name, text);
    }
    host.start_plugin("twin").await;
    host
}

fn file(host: &TestHost, plugin: &str, name: &str) -> PathBuf {
    let directory = host.data_dir().join("plugins").join(plugin).join("data");
    fs::create_dir_all(&directory).unwrap();
    directory.join(name)
}

/// Writes a file whole, so that the plugin never reads half of it.
fn write(host: &TestHost, plugin: &str, name: &str, text: &str) {
    let file = file(host, plugin, name);
    fs::write(file.with_extension("new"), text).unwrap();
    fs::rename(file.with_extension("new"), file).unwrap();
}

async fn until_unresponsive(host: &TestHost, reason: &str) {
    let is_so = |record: &PluginRecord| {
        let said = record.status.reason.as_deref().unwrap_or_default();
        record.state() == State::Unresponsive && said.starts_with(reason)
    };
    host.until(|view| view.plugin("twin").filter(|record| is_so(record)).map(drop)).await;
}

/// Waits until a plugin has been started again.
async fn until_replaced(host: &TestHost, name: &str) {
    host.until(|view| (view.plugin(name)?.status.restarts > 0).then_some(())).await;
}

async fn until_logged(host: &TestHost, text: &str) {
    let looking = async { while !host.get("/admin/plugins/twin/logs").await.text.contains(text) {} };
    timeout(PATIENCE, looking).await.unwrap_or_else(|_| panic!("`{text}` is not in the log"));
}

#[tokio::test]
async fn a_plugin_whose_probe_fails_is_out_of_rotation_until_it_is_answered_again() {
    let host = running(json!({ "path": "/health", "interval": 20, "failures": 2 }), &[]).await;
    write(&host, "twin", "says", "503");
    until_unresponsive(&host, "its health probe `GET /health` answered 503: so it says, 2 times in a row")
        .await;
    write(&host, "twin", "says", "200");
    host.until_state("twin", State::Running).await;
    host.stop().await;
}

#[tokio::test]
async fn nobody_is_sent_to_a_plugin_whose_probe_fails() {
    let host = running(json!({ "path": "/", "interval": 300, "failures": 1 }), &[("says", "503")]).await;
    until_unresponsive(&host, "its health probe").await;
    let reply = host.invoke("twin", "quirk.echo", json!({})).await;
    assert_eq!((reply.status.as_u16(), reply.code().as_str()), (503, "plugin_unavailable"));
    assert!(reply.text.contains("its health probe `GET /` answered 503"), "{}", reply.text);
    host.stop().await;
}

#[tokio::test]
async fn a_plugin_whose_probe_goes_on_failing_is_replaced() {
    let check = json!({ "capability": "quirk.well", "interval": 20, "failures": 1 });
    let host = running(check, &[("ill", "")]).await;
    until_replaced(&host, "twin").await;
    until_logged(&host, "its health probe `quirk.well` failed: not well (internal), 2 times in a row")
        .await;
    fs::remove_file(file(&host, "twin", "ill")).unwrap();
    host.until_state("twin", State::Running).await;
    host.stop().await;
}

#[tokio::test]
async fn a_redirect_is_no_answer() {
    let host = running(json!({ "path": "/", "interval": 20, "failures": 1 }), &[("says", "302")]).await;
    until_unresponsive(&host, "its health probe `GET /` answered 302").await;
    host.stop().await;
}

#[tokio::test]
async fn an_answer_that_does_not_come_is_a_miss() {
    let check = json!({ "path": "/", "interval": 20, "timeoutMs": 30, "failures": 1 });
    let host = running(check, &[("says", "nothing")]).await;
    until_unresponsive(&host, "its health probe `GET /` was not answered within 30 ms").await;
    host.stop().await;
}

#[tokio::test]
async fn a_serial_plugin_that_is_busy_is_not_ill() {
    for ask in [json!({ "capability": "quirk.well" }), json!({ "path": "/" })] {
        let mut check = json!({ "interval": 100, "timeoutMs": 50, "failures": 1 });
        check.as_object_mut().unwrap().extend(ask.as_object().unwrap().clone());
        let builder = twin(TestHost::builder().config(QUICK), "twin", check.clone());
        let host = twin(builder, "idle", check).start().await;
        host.start_plugin("twin").await;
        let before = host.pid("twin");
        let work = async {
            host.until_in_flight("twin", 1).await;
            for plugin in ["twin", "idle"] {
                write(&host, plugin, "says", "nothing");
            }
            write(&host, "idle", "ill", "");
            host.start_plugin("idle").await;
            until_replaced(&host, "idle").await;
            // While nobody knows, it is not taken out of rotation either.
            assert_eq!(host.host().registry.plugin("twin").unwrap().state(), State::Running);
            write(&host, "twin", "says", "200");
            let go = file(&host, "twin", "go");
            tokio::task::spawn_blocking(|| fs::OpenOptions::new().write(true).open(go))
                .await
                .unwrap()
                .unwrap();
        };
        let (reply, ()) = tokio::join!(host.invoke("twin", "quirk.wait", json!(1)), work);
        assert_eq!(reply.status, 200, "{}", reply.text);
        assert_eq!(host.pid("twin"), before);
        host.stop().await;
    }
}

#[tokio::test]
async fn the_port_of_another_launch_does_not_answer_for_a_plugin() {
    let builder = twin(TestHost::builder().config(QUICK), "other", Value::Null);
    let host = twin(builder, "twin", json!({ "path": "/", "interval": 20, "failures": 1 })).start().await;
    host.start_plugin("other").await;
    let port = host.until(|view| view.plugin("other")?.own_port()).await;
    write(&host, "twin", "register", &port.to_string());
    host.start_plugin("twin").await;
    let reason =
        format!("its health probe `GET /` was answered on port {port} by another launch, of `other`");
    until_unresponsive(&host, &reason).await;
    host.stop().await;
}

#[tokio::test]
async fn a_plugin_without_a_port_of_its_own_is_not_asked_and_its_log_says_so() {
    let check = json!({ "path": "/", "interval": 20, "failures": 1 });
    let host = running(check, &[("register", "\"internal\"")]).await;
    until_logged(&host, "its health probe `GET /` is not asked: it registered no port of its own").await;
    assert_eq!(host.host().registry.plugin("twin").unwrap().state(), State::Running);
    host.stop().await;
}
