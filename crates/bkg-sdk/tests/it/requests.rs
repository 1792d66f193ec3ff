//! Every request is answered exactly once, whatever becomes of its handler.

use std::sync::Arc;

use bkg_protocol::Limits;
use bkg_protocol::message::{CancelReason, Request as RequestMessage};
use bkg_sdk::testing::TestHost;
use bkg_sdk::{Capability, DefinitionError, ErrorCode, Json, Plugin, Request, Result, RunError, WireError};
use serde_json::{Value, json};
use tokio::sync::{Barrier, oneshot};

async fn echo(request: Request) -> Result<bkg_sdk::RawJson> {
    Ok(request.payload().clone())
}

/// Tells when it is dropped.
struct Tell(Option<oneshot::Sender<()>>);

impl Drop for Tell {
    fn drop(&mut self) {
        let _ = self.0.take().expect("told once").send(());
    }
}

#[tokio::test]
async fn a_request_is_answered_with_what_the_handler_returns() {
    let host = TestHost::start(Plugin::new().answer("test.echo", echo)).await;
    let payload = bkg_sdk::RawJson::parse(r#"{"b":1.0e2,"a":"\u00e9"}"#).unwrap();
    assert_eq!(host.request("test.echo", payload.clone()).await, Ok(payload));
    assert_eq!(host.in_flight(), 0);
}

#[tokio::test]
async fn an_error_travels_whole() {
    let refuse =
        |_| async { Err::<Value, _>(WireError::new(ErrorCode::InvalidRequest, "no").param("messages[0]")) };
    let host = TestHost::start(Plugin::new().answer("test.refuse", refuse)).await;
    let expected = WireError::new(ErrorCode::InvalidRequest, "no").param("messages[0]");
    assert_eq!(host.request("test.refuse", ()).await, Err(expected));
}

#[tokio::test]
async fn a_payload_that_does_not_fit_is_the_callers_mistake() {
    let double = |request: Request| async move { Ok(Json(2 * request.read::<i64>()?)) };
    let host = TestHost::start(Plugin::new().answer("test.double", double)).await;
    assert_eq!(host.request("test.double", json!(4)).await.unwrap().as_str(), "8");
    assert_eq!(host.request("test.double", json!("4")).await.unwrap_err().code, "invalid_request");
}

#[tokio::test]
async fn a_capability_without_a_handler_is_not_found() {
    let host = TestHost::start(Plugin::new().answer("test.echo", echo)).await;
    let error = host.request("test.other", ()).await.unwrap_err();
    assert_eq!((error.code.as_str(), error.message.contains("test.other")), ("not_found", true));
}

#[tokio::test]
async fn a_handler_that_panics_answers_and_harms_no_other() {
    async fn panics(_: Request) -> Result<()> {
        panic!("on purpose");
    }
    let plugin = Plugin::new().answer("test.panics", panics).answer("test.echo", echo);
    let host = TestHost::start(plugin).await;
    let error = host.request("test.panics", ()).await.unwrap_err();
    assert_eq!((error.code.as_str(), error.message.contains("panicked")), ("plugin_error", true));
    assert_eq!(host.request("test.echo", json!(1)).await.unwrap().as_str(), "1");
}

#[tokio::test]
async fn handlers_run_at_the_same_time() {
    let both = Arc::new(Barrier::new(2));
    let meet = move |_| {
        let both = both.clone();
        async move {
            both.wait().await;
            Ok(())
        }
    };
    let host = TestHost::start(Plugin::new().answer("test.meet", meet)).await;
    let first = host.start_request("test.meet", ());
    let second = host.start_request("test.meet", ());
    assert_eq!(first.outcome().await.unwrap().as_str(), "null");
    assert_eq!(second.outcome().await.unwrap().as_str(), "null");
}

#[tokio::test]
async fn a_cancelled_request_is_answered_so_and_its_handler_is_dropped() {
    let (tell, told) = oneshot::channel();
    let tell = std::sync::Mutex::new(Some(tell));
    let stall = move |_| {
        let tell = Tell(tell.lock().unwrap().take());
        async move {
            let _tell = tell;
            std::future::pending::<Result<()>>().await
        }
    };
    let host = TestHost::start(Plugin::new().answer("test.stall", stall).answer("test.echo", echo)).await;
    let request = host.start_request("test.stall", ());
    // The answer to a later request shows that the first is with its handler.
    host.request("test.echo", ()).await.unwrap();
    request.cancel(CancelReason::CallerGone);
    told.await.unwrap();
    host.until("the cancelled request is answered", |seen| seen.answers.len() == 2).await;
    let (id, outcome) = host.seen().answers.pop().unwrap();
    assert_eq!((&id, outcome.unwrap_err().code.as_str()), (request.id(), "cancelled"));
    assert_eq!(host.in_flight(), 0);
}

#[tokio::test]
async fn work_elsewhere_learns_of_the_cancel() {
    let (tell, told) = oneshot::channel();
    let tell = std::sync::Mutex::new(Some(tell));
    let delegate = move |request: Request| {
        let tell = tell.lock().unwrap().take().unwrap();
        let cancelled = request.cancelled().clone();
        tokio::spawn(async move {
            cancelled.cancelled().await;
            tell.send(()).unwrap();
        });
        std::future::pending::<Result<()>>()
    };
    let host =
        TestHost::start(Plugin::new().answer("test.delegate", delegate).answer("test.echo", echo)).await;
    let request = host.start_request("test.delegate", ());
    host.request("test.echo", ()).await.unwrap();
    request.cancel(CancelReason::Deadline);
    told.await.unwrap();
}

#[tokio::test]
async fn an_answer_that_is_too_large_becomes_an_error() {
    let limits = Limits { frame_from_plugin: 4 << 10, ..Limits::default() };
    let large = |_| async { Ok(json!("x".repeat(5 << 10))) };
    let host = TestHost::builder().limits(limits).start(Plugin::new().answer("test.large", large)).await;
    assert_eq!(host.request("test.large", ()).await.unwrap_err().code, "payload_too_large");
}

#[tokio::test]
async fn a_handler_sees_who_asks_and_how() {
    async fn describe(request: Request) -> Result<Value> {
        let http = request.http().map(|http| http.path.clone());
        Ok(json!([
            request.caller().map(|caller| caller.user.clone()),
            request.timeout().map(|timeout| timeout.as_millis() as u64),
            request.correlation_id(),
            http,
            request.wants_stream(),
        ]))
    }
    let host = TestHost::start(Plugin::new().answer("test.describe", describe)).await;
    let request = RequestMessage {
        caller: Some(Arc::new(bkg_sdk::Caller { user: "ada".into(), key_id: None, scopes: vec![] })),
        timeout_ms: Some(1500),
        correlation_id: Some("c-1".into()),
        ..RequestMessage::new("test.describe".parse().unwrap(), bkg_sdk::RawJson::NULL)
    };
    let answer = host.send(request).outcome().await.unwrap();
    assert_eq!(answer.as_str(), r#"["ada",1500,"c-1",null,false]"#);
}

#[tokio::test]
async fn the_registration_says_what_the_plugin_is() {
    let plugin = Plugin::new()
        .version("1.2.3")
        .capability(Capability::new("test.echo").description("Says it again").idempotent().answer(echo))
        .model("small", "test.echo")
        .route("GET", "/", "test.echo")
        .channel("room");
    let host = TestHost::builder().name("parrot").start(plugin).await;
    let registration = host.seen().registrations.remove(0);
    assert_eq!(registration.plugin.as_str(), "parrot");
    assert_eq!(registration.protocol, Some(1));
    assert_eq!(registration.version.as_deref(), Some("1.2.3"));
    assert!(registration.capabilities[0].idempotent && !registration.capabilities[0].streaming);
    assert_eq!(registration.models[0].id, "small");
    assert_eq!(registration.routes[0].path, "/");
    assert_eq!(registration.channels, ["room"]);
}

#[tokio::test]
async fn mistakes_in_the_description_end_the_plugin_with_their_reason() {
    let twice = Plugin::new().answer("test.echo", echo).answer("test.echo", echo);
    let mute = Plugin::new().capability(Capability::new("test.mute"));
    let nameless = Plugin::new().route("GET", "/", "nodot");
    for (plugin, expected) in
        [(twice, "defined twice"), (mute, "no handler"), (nameless, "not a capability name")]
    {
        let error = TestHost::builder().launch(plugin).ended().await.unwrap_err();
        assert!(matches!(error, RunError::Definition(_)), "{error}");
        assert!(error.to_string().contains(expected), "{error}");
        assert_eq!(error.exit_code(), 78);
    }
    assert!(matches!(
        TestHost::builder().launch(Plugin::new().answer("x", echo)).ended().await,
        Err(RunError::Definition(DefinitionError::Name(_)))
    ));
}
