//! What a plugin may do on the bus, and what the host makes of one that breaks the rules.

use std::time::{Duration, Instant};

use bkg::registry::State;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};

use crate::host::TestHost;

#[tokio::test]
async fn an_echo_crosses_the_bus_unchanged() {
    let host = TestHost::with_misbehave().await;
    let payload = json!({ "text": "grüße", "number": 12345678901234567890_u64, "nested": [null, true] });
    assert_eq!(host.ask("test.echo", payload.clone()).await, payload);
}

#[tokio::test]
async fn killing_an_instance_answers_its_waiters_at_once() {
    let host = TestHost::with_misbehave().await;
    let request = host.invoke("misbehave", "test.stall", json!({}));
    let killing = async {
        host.until_in_flight("misbehave", 1).await;
        kill(Pid::from_raw(host.pid("misbehave")), Signal::SIGKILL).unwrap();
        Instant::now()
    };
    let (reply, killed) = tokio::join!(request, killing);
    assert_eq!((reply.status.as_u16(), reply.code()), (502, "plugin_disconnected".to_owned()));
    assert_eq!(reply.headers["x-bkg-error-source"], "plugin");
    assert!(killed.elapsed() < Duration::from_millis(250), "{:?}", killed.elapsed());
}

#[tokio::test]
async fn an_instance_that_was_killed_is_started_again_and_serves() {
    let host = TestHost::with_misbehave().await;
    let first = host.pid("misbehave");
    kill(Pid::from_raw(first), Signal::SIGKILL).unwrap();
    host.until(|view| {
        let instance = view.plugin("misbehave")?.instances.first()?;
        (instance.pid != Some(first as u32)).then_some(())
    })
    .await;
    assert_eq!(host.ask("test.echo", json!({ "n": 1 })).await, json!({ "n": 1 }));
}

#[tokio::test]
async fn errors_keep_their_status_only_where_a_plugin_may_claim_it() {
    let host = TestHost::with_misbehave().await;
    let cases = [
        (json!({ "code": "invalid_request", "message": "m" }), 400, "invalid_request"),
        (json!({ "code": "not_found", "message": "m" }), 404, "not_found"),
        (json!({ "code": "rate_limited", "message": "m" }), 429, "rate_limited"),
        (json!({ "code": "unauthorized", "message": "m" }), 502, "plugin_error"),
        (json!({ "code": "its_own_word", "message": "m" }), 502, "plugin_error"),
    ];
    for (error, status, code) in cases {
        let reply = host.invoke("misbehave", "test.error", error).await;
        assert_eq!((reply.status.as_u16(), reply.code().as_str()), (status, code));
        assert_eq!(reply.json()["error"]["message"], "m");
    }
    let reply = host.invoke("misbehave", "test.string_error", json!({ "message": "boom" })).await;
    assert_eq!((reply.status.as_u16(), reply.json()["error"]["message"].clone()), (502, json!("boom")));
}

#[tokio::test]
async fn frames_that_break_a_rule_harm_nobody_else() {
    let host = TestHost::with_misbehave().await;
    for (capability, payload) in [
        ("test.double", json!({})),
        ("test.foreign", json!({})),
        ("test.unknown_type", json!({})),
        ("test.garbage", json!({ "kind": "text", "frames": 5 })),
        ("test.garbage", json!({ "kind": "array", "frames": 5 })),
        ("test.garbage", json!({ "kind": "untyped", "frames": 5 })),
    ] {
        let reply = host.invoke("misbehave", capability, payload.clone()).await;
        assert_eq!(reply.status, 200, "{capability} {payload}: {}", reply.text);
        assert_eq!(host.ask("test.echo", json!({ "after": capability })).await["after"], capability);
    }
}

#[tokio::test]
async fn success_decides_where_both_data_and_error_are_there() {
    let host = TestHost::with_misbehave().await;
    let both = |success: bool| json!({ "success": success });
    assert_eq!(host.invoke("misbehave", "test.both", both(true)).await.status, 200);
    assert_eq!(host.invoke("misbehave", "test.both", both(false)).await.code(), "conflict");
}

#[tokio::test]
async fn an_answer_larger_than_a_frame_may_be_names_the_limit() {
    let host = TestHost::with_misbehave().await;
    let reply = host.invoke("misbehave", "test.huge", json!({})).await;
    assert_eq!((reply.status.as_u16(), reply.code()), (502, "plugin_error".to_owned()));
    assert!(reply.text.contains("16777216"), "{}", reply.text);
}

#[tokio::test]
async fn a_plugin_asks_others_only_for_what_its_entry_lists() {
    let host = TestHost::builder()
        .plugin("misbehave")
        .plugin_as("misbehave", "other", json!({ "calls": [] }))
        .start()
        .await;
    host.start_plugin("misbehave").await;
    host.start_plugin("other").await;
    let call = |capability: &str| json!({ "capability": capability, "payload": { "n": 1 } });
    let response = host.ask("test.call", call("test.echo")).await["response"].clone();
    assert_eq!((&response["success"], &response["data"]), (&json!(true), &json!({ "n": 1 })));
    let response = host.ask("test.call", call("repo.command")).await["response"].clone();
    assert_eq!((&response["success"], &response["error"]["code"]), (&json!(false), &json!("forbidden")));
    let response = host.ask("test.call", call("auth.validate")).await["response"].clone();
    assert_eq!(response["error"]["code"], "forbidden");
    let reply = host.invoke("other", "test.call", call("test.echo")).await;
    assert_eq!(reply.json()["data"]["response"]["error"]["code"], "forbidden");
}

#[tokio::test]
async fn a_process_outside_of_the_launch_cannot_register_under_its_name() {
    // The other plugin dials misbehave's private listener, and the shared port.
    let host =
        TestHost::builder().plugin("misbehave").plugin_as("misbehave", "rogue", json!({})).start().await;
    host.start_plugin("misbehave").await;
    host.start_plugin("rogue").await;
    let private =
        host.ask("test.environment", json!({})).await["environment"]["BKG_PLUGIN_BUS_URL"].clone();
    let shared = json!(format!("ws://127.0.0.1:{}/", host.bus_port()));
    for url in [private, shared] {
        let claim = json!({ "url": url, "plugin": "misbehave" });
        let reply = host.invoke("rogue", "test.claim", claim).await;
        let outcome: Value = reply.json()["data"].clone();
        assert_eq!(
            (&outcome["outcome"], &outcome["code"]),
            (&json!("closed"), &json!(1008)),
            "{}",
            reply.text
        );
        assert_eq!(host.ask("test.echo", json!({ "unharmed": true })).await["unharmed"], true);
    }
}

#[tokio::test]
async fn a_browser_is_refused_before_it_is_a_socket() {
    let host = TestHost::with_misbehave().await;
    let url = host.ask("test.environment", json!({})).await["environment"]["BKG_PLUGIN_BUS_URL"].clone();
    let claim = json!({ "url": url, "plugin": "misbehave", "origin": "http://evil.example" });
    let outcome = host.ask("test.claim", claim).await;
    assert_eq!((&outcome["outcome"], &outcome["status"]), (&json!("refused"), &json!(403)));
}

#[tokio::test]
async fn a_registration_beyond_the_entry_is_refused_and_said() {
    let settings = json!({ "settings": { "register": "unlisted-capability" }, "restart": "never" });
    let host = TestHost::builder()
        .plugin_as("misbehave", "greedy", settings)
        .config("supervisor.prepare_timeout_ms = 1000")
        .start()
        .await;
    host.host().supervisor.want_up("greedy").unwrap();
    let record = host.until_state("greedy", State::Failed).await;
    let reason = record.status.reason.clone().unwrap();
    assert!(reason.contains("add it to `capabilities`") || reason.contains("exited"), "{reason}");
    let log = host.get("/admin/plugins/greedy/logs").await.text;
    assert!(log.contains("add it to `capabilities`"), "{log}");
}

#[tokio::test]
async fn a_plugin_that_lost_its_socket_comes_back_with_its_resume_secret() {
    let host = TestHost::with_misbehave().await;
    let before = host.host().registry.plugin("misbehave").unwrap().instances[0].clone();
    let _ = host.invoke("misbehave", "test.drop", json!({})).await;
    let after = host
        .until(|view| {
            let instance = view.plugin("misbehave")?.instances.first()?;
            (!std::sync::Arc::ptr_eq(instance, &before)).then(|| instance.clone())
        })
        .await;
    assert_eq!((after.id, after.pid), (before.id, before.pid), "the same launch");
    assert_eq!(host.ask("test.echo", json!({ "back": true })).await["back"], true);
}

#[tokio::test]
async fn a_client_that_leaves_cancels_and_frees_the_slot() {
    let host = TestHost::with_misbehave().await;
    let request = host.invoke("misbehave", "test.wait", json!({ "ms": 60_000 }));
    tokio::select! {
        _ = request => panic!("it waits for a minute"),
        () = host.until_in_flight("misbehave", 1) => {}
    }
    host.until_in_flight("misbehave", 0).await;
    let seen = host.ask("test.cancel_seen", json!({ "withinMs": 5_000 })).await;
    assert_eq!(seen["cancels"][0]["reason"], "caller_gone");
}

#[tokio::test]
async fn a_deadline_cancels_and_answers_504() {
    let host = TestHost::with_misbehave().await;
    let body = json!({ "capability": "test.wait", "payload": { "ms": 60_000 }, "timeoutMs": 50 });
    let reply = host.post("/api/plugins/misbehave/invoke", body).await;
    assert_eq!((reply.status.as_u16(), reply.code()), (504, "timeout".to_owned()));
    host.until_in_flight("misbehave", 0).await;
    let seen = host.ask("test.cancel_seen", json!({ "withinMs": 5_000 })).await;
    assert_eq!(seen["cancels"][0]["reason"], "deadline");
}

#[tokio::test]
async fn stopping_the_host_leaves_no_process_and_no_ports_file() {
    let host = TestHost::builder()
        .plugin_as(
            "misbehave",
            "stubborn",
            json!({ "settings": { "ignoreDrain": true, "ignoreTerm": true, "leaveChild": true } }),
        )
        .config("supervisor.drain_ms = 100\nsupervisor.grace_ms = 100")
        .start()
        .await;
    host.start_plugin("stubborn").await;
    let instance = host.host().registry.plugin("stubborn").unwrap().instances[0].id.to_string();
    assert!(host.data_dir().join("ports.json").is_file());
    assert!(!crate::host::processes_with("BKG_PLUGIN_INSTANCE", &instance).is_empty());
    let data = host.data_dir();
    let keep = host.host().data.clone();
    host.stop().await;
    drop(keep);
    assert_eq!(crate::host::processes_with("BKG_PLUGIN_INSTANCE", &instance), Vec::<u32>::new());
    assert!(!data.join("ports.json").exists());
}
