//! A provider that is stopped, hangs or crashes: who was in goes on, nobody new gets in, nothing looks
//! like a bad key, and the root key repairs it.
//!
//! Here with the provider that is shipped, as operators meet it; `auth` has the finer cases.

use bkg::registry::State;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::json;

use crate::host::{TestHost, header};
use crate::logins::{PASSWORD, administrator, guarded, root, stranger};
use crate::visitor::{Visitor, refusal, retry_after};

/// Somebody whose key is in use, and keys that the host has not seen yet.
async fn callers(host: &TestHost, count: usize) -> (Visitor, Vec<Visitor>) {
    let admin = administrator(host).await;
    let wanted = json!({ "scopes": ["llm.chat"] });
    let known = admin.key(wanted.clone()).await;
    assert_eq!(known.get("/v1/models").await.status, 200);
    let mut fresh = Vec::new();
    for _ in 0..count {
        fresh.push(admin.key(wanted.clone()).await);
    }
    (known, fresh)
}

/// What is promised while the provider is away.
async fn check_outage(host: &TestHost, known: &Visitor, new: &Visitor) {
    assert_eq!(known.get("/v1/models").await.status, 200, "whoever was in goes on");
    let visitor = stranger(host);
    let (refused, login) = tokio::join!(new.get("/v1/models"), visitor.try_login("admin", PASSWORD));
    assert_eq!(refusal(&refused), (503, "plugin_unavailable".to_owned()), "{}", refused.text);
    assert!(retry_after(&refused).is_some());
    assert_eq!(login.status, 503, "{}", login.text);
    assert_eq!(header(&login, "www-authenticate"), None);
    assert_eq!(root(host).get("/admin/plugins").await.status, 200, "root is asked of nobody");
}

async fn check_repair(host: &TestHost, known: &Visitor, new: &Visitor) {
    let restarted = root(host).post("/admin/plugins/apikeys/restart?wait=25", json!({})).await;
    assert_eq!(
        (restarted.status.as_u16(), &restarted.json()["status"]),
        (200, &json!("running")),
        "{}",
        restarted.text
    );
    assert_eq!(known.get("/v1/models").await.status, 200);
    assert_eq!(new.get("/v1/models").await.status, 200);
    assert_eq!(stranger(host).try_login("admin", PASSWORD).await.status, 200);
}

#[tokio::test]
async fn a_provider_that_is_stopped_lets_nobody_new_in() {
    let host = guarded().await;
    let (known, fresh) = callers(&host, 1).await;
    let stopped = root(&host).post("/admin/plugins/apikeys/stop?wait=25", json!({})).await;
    assert_eq!(stopped.status, 200, "{}", stopped.text);
    check_outage(&host, &known, &fresh[0]).await;
    let refused = fresh[0].get("/v1/models").await;
    assert!(refused.text.contains("bkg --root plugin restart apikeys"), "{}", refused.text);
    check_repair(&host, &known, &fresh[0]).await;
}

#[tokio::test]
async fn a_provider_that_hangs_lets_nobody_new_in() {
    let host = TestHost::builder()
        .bundled("apikeys", &json!({ "bcryptCost": 4 }))
        .config("[supervisor]\ndrain_ms = 500\ngrace_ms = 500\n[limits]\nheartbeat_ms = 60000")
        .start()
        .await;
    let (known, fresh) = callers(&host, 1).await;
    kill(Pid::from_raw(host.pid("apikeys")), Signal::SIGSTOP).unwrap();
    check_outage(&host, &known, &fresh[0]).await;
    check_repair(&host, &known, &fresh[0]).await;
}

#[tokio::test]
async fn a_provider_that_crashes_again_and_again_lets_nobody_new_in() {
    // Each crash is followed by a longer rest; after some of them, it is longer than anybody waits.
    const MOST_CRASHES: usize = 6;
    let host = guarded().await;
    let (known, fresh) = callers(&host, MOST_CRASHES).await;
    let mut refused = None;
    for new in &fresh {
        let record = host.until_state("apikeys", State::Running).await;
        let pid = record.instances[0].pid.unwrap() as i32;
        kill(Pid::from_raw(pid), Signal::SIGKILL).unwrap();
        host.until(|view| {
            let gone =
                view.plugin("apikeys")?.instances.iter().all(|instance| instance.pid != Some(pid as u32));
            gone.then_some(())
        })
        .await;
        assert_eq!(known.get("/v1/models").await.status, 200, "whoever was in goes on");
        assert_eq!(root(&host).get("/admin/plugins").await.status, 200);
        // It may be back before anybody notices; what it never is, is a word against the key.
        let reply = new.get("/v1/models").await;
        if reply.status != 200 {
            assert_eq!(refusal(&reply), (503, "plugin_unavailable".to_owned()), "{}", reply.text);
            refused = Some(new);
            break;
        }
    }
    let refused = refused.expect("the rests get longer than a request waits");
    check_repair(&host, &known, refused).await;
}
