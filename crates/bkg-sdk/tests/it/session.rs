//! A plugin comes, beats, comes back, and goes in order.

use std::time::Duration;

use bkg_protocol::Limits;
use bkg_sdk::testing::TestHost;
use bkg_sdk::{Environment, ErrorCode, Health, Host, Plugin, Request, RunError, Secret};
use tokio::sync::mpsc;

const LONG: Duration = Duration::from_secs(60);

/// A plugin whose `test.hold` answers when the test says so, and that tells when it is to stop.
fn holder() -> (Plugin, mpsc::Sender<()>) {
    let (release, released) = mpsc::channel::<()>(1);
    let released = std::sync::Arc::new(tokio::sync::Mutex::new(released));
    let hold = move |_: Request| {
        let released = released.clone();
        async move {
            released.lock().await.recv().await;
            Ok(())
        }
    };
    let here = |_: Request| async { Ok(()) };
    let tell = |host: Host| async move {
        host.stopping().cancelled().await;
        host.publish("stopping", ());
    };
    (Plugin::new().answer("test.hold", hold).answer("test.here", here).background(tell), release)
}

#[tokio::test]
async fn a_broken_link_is_dialled_again_with_the_secret_of_the_last() {
    let (plugin, _release) = holder();
    let host = TestHost::start(plugin).await;
    let lost = host.start_request("test.hold", ());
    for round in 1..=3 {
        host.break_link();
        host.until("the plugin comes back", |seen| seen.registrations.len() == round + 1).await;
        host.request("test.here", ()).await.unwrap();
    }
    assert_eq!(lost.outcome().await.unwrap_err().code, "plugin_disconnected");
    let shown: Vec<_> =
        host.seen().registrations.iter().map(|r| (r.token.is_some(), r.resume.is_some())).collect();
    assert_eq!(shown, [(true, false), (false, true), (false, true), (false, true)]);
    assert_eq!(host.seen().dropped, 0, "no answer of an old session reached a new one");
}

#[tokio::test]
async fn a_refused_plugin_does_not_try_again() {
    let mut host = TestHost::builder()
        .rejecting(ErrorCode::Forbidden, "`test.here` is not in the entry")
        .launch(holder().0);
    let error = host.ended().await.unwrap_err();
    assert!(matches!(&error, RunError::Rejected { code, .. } if code == "forbidden"), "{error:?}");
    assert!(error.to_string().contains("`test.here` is not in the entry"));
    assert_eq!(error.exit_code(), 78);
}

#[tokio::test]
async fn a_host_out_of_reach_ends_the_plugin_with_the_reason() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("ws://{}", listener.local_addr().unwrap());
    drop(listener);
    let environment = Environment::new(&url, "test".parse().unwrap(), Secret::new("t"));
    let error = Plugin::new()
        .patience(Duration::from_millis(1))
        .serve(environment, std::future::pending())
        .await
        .unwrap_err();
    assert!(matches!(error, RunError::Unreachable { .. }), "{error:?}");
    assert!(error.to_string().contains(&url), "{error}");
    assert_eq!(error.exit_code(), 69);
}

#[tokio::test]
async fn drain_finishes_what_is_there_and_then_closes_in_order() {
    let (plugin, release) = holder();
    let mut host = TestHost::start(plugin).await;
    let held = host.start_request("test.hold", ());
    host.request("test.here", ()).await.unwrap();
    host.drain(LONG);
    release.send(()).await.unwrap();
    assert!(held.outcome().await.is_ok());
    host.until("the plugin closes", |seen| seen.closed == [1000]).await;
    host.ended().await.unwrap();
}

#[tokio::test]
async fn what_is_not_finished_at_the_drains_deadline_is_cancelled() {
    let (plugin, _release) = holder();
    let mut host = TestHost::start(plugin).await;
    let held = host.start_request("test.hold", ());
    host.request("test.here", ()).await.unwrap();
    host.drain(Duration::from_millis(1));
    assert_eq!(held.outcome().await.unwrap_err().code, "cancelled");
    host.until("the plugin closes", |seen| seen.closed == [1000]).await;
    host.ended().await.unwrap();
}

#[tokio::test]
async fn a_signal_after_the_drain_cuts_it_short() {
    let (plugin, _release) = holder();
    let mut host = TestHost::start(plugin).await;
    let held = host.start_request("test.hold", ());
    host.request("test.here", ()).await.unwrap();
    host.drain(LONG);
    host.until("the plugin knows of the drain", |seen| !seen.published.is_empty()).await;
    host.signal();
    assert_eq!(held.outcome().await.unwrap_err().code, "cancelled");
    host.ended().await.unwrap();
}

#[tokio::test]
async fn a_signal_alone_says_stopping_and_lets_work_finish() {
    let (plugin, release) = holder();
    let mut host = TestHost::start(plugin).await;
    let held = host.start_request("test.hold", ());
    host.request("test.here", ()).await.unwrap();
    host.signal();
    let stopping = |health: &bkg_protocol::message::Health| health.status == "stopping";
    host.until("the plugin says stopping", |seen| seen.health.iter().any(stopping)).await;
    release.send(()).await.unwrap();
    assert!(held.outcome().await.is_ok());
    host.until("the plugin closes", |seen| seen.closed == [1000]).await;
    host.ended().await.unwrap();
}

#[tokio::test]
async fn a_link_that_breaks_during_the_drain_is_not_dialled_again() {
    let (plugin, _release) = holder();
    let mut host = TestHost::start(plugin).await;
    let held = host.start_request("test.hold", ());
    host.request("test.here", ()).await.unwrap();
    host.drain(LONG);
    host.until("the plugin knows of the drain", |seen| !seen.published.is_empty()).await;
    host.break_link();
    assert_eq!(held.outcome().await.unwrap_err().code, "plugin_disconnected");
    host.ended().await.unwrap();
    assert_eq!(host.seen().registrations.len(), 1);
}

#[tokio::test]
async fn the_plugins_own_work_is_told_to_stop() {
    let (tell, mut told) = mpsc::channel(1);
    let plugin = Plugin::new().background(move |host| async move {
        host.stopping().cancelled().await;
        tell.send(()).await.unwrap();
    });
    let mut host = TestHost::start(plugin).await;
    host.drain(LONG);
    assert_eq!(told.recv().await, Some(()));
    host.ended().await.unwrap();
}

#[tokio::test]
async fn beats_carry_health_and_the_figures_of_the_own_process() {
    let limits = Limits { heartbeat: Duration::from_millis(2), ..Limits::default() };
    let plugin = Plugin::new().answer("test.worry", |request: Request| async move {
        request.host().set_health(Health::Degraded, "the index is loading");
        request.host().set_figure("queue", 3.0);
        request.host().set_figure("cpu", f64::NAN);
        Ok(())
    });
    let host = TestHost::builder().limits(limits).start(plugin).await;
    host.until("the plugin beats", |seen| seen.health.len() > 3).await;
    assert!(host.seen().health.iter().all(|health| health.status == "up"));
    host.request("test.worry", ()).await.unwrap();
    host.until("a beat carries the figure", |seen| {
        seen.telemetry.last().is_some_and(|telemetry| telemetry.further.contains_key("queue"))
    })
    .await;
    let seen = host.seen();
    let health = seen.health.last().unwrap();
    assert_eq!(
        (health.status.as_str(), health.detail.as_deref()),
        ("degraded", Some("the index is loading"))
    );
    assert_eq!(health.plugin.as_deref(), Some("test"));
    let telemetry = seen.telemetry.last().unwrap();
    assert!(telemetry.mem_bytes.is_some_and(|bytes| bytes > 100_000.0), "{telemetry:?}");
    assert!(telemetry.cpu.is_some_and(|cpu| cpu >= 0.0), "{telemetry:?}");
}

#[tokio::test]
async fn a_plugin_that_is_dropped_leaves_nothing_running() {
    let (tell, mut told) = mpsc::channel::<()>(1);
    let held = tell.clone();
    let hold = move |_: Request| {
        let held = held.clone();
        async move {
            let _held = held;
            std::future::pending::<bkg_sdk::Result<()>>().await
        }
    };
    let plugin = Plugin::new()
        .answer("test.hold", hold)
        .answer("test.here", |_| async { Ok(()) })
        .background(|_| async move {
            let _tell = tell;
            std::future::pending::<()>().await;
        });
    let host = TestHost::start(plugin).await;
    let _request = host.start_request("test.hold", ());
    host.request("test.here", ()).await.unwrap();
    drop(host);
    // The channel closes when the last task that has a sender is gone, and the plugin with its handlers.
    let closed = tokio::time::timeout(LONG, told.recv()).await;
    assert_eq!(closed, Ok(None));
}
