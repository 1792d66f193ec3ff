//! What a plugin asks of others, and the events it sends and gets.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use bkg_sdk::testing::TestHost;
use bkg_sdk::{
    Authorization, CallError, ErrorCode, Host, Model, Plugin, RawJson, Request, Result, Update, WireError,
};
use serde_json::{Value, json};

async fn relay(request: Request) -> Result<RawJson> {
    Ok(request.call("other.thing", request.payload().clone()).answer().await?)
}

#[tokio::test]
async fn a_call_on_behalf_of_a_caller_names_the_request_behind_it() {
    let plugin = Plugin::new().answer("test.relay", relay);
    let host = TestHost::builder()
        .answering("other.thing", |request| Ok(request.payload.clone()))
        .start(plugin)
        .await;
    let request = host.start_request("test.relay", json!([1]));
    let id = request.id().clone();
    assert_eq!(request.outcome().await.unwrap().as_str(), "[1]");
    assert_eq!(host.seen().asked[0].parent_request_id, Some(id));
    assert_eq!(host.seen().asked[0].timeout_ms, Some(60_000));
}

/// Asks the host, as an HTTP listener of the plugin's own would.
async fn judge(request: Request) -> Result<Value> {
    let (token, scope): (String, String) = request.read()?;
    Ok(match request.host().authorize(&token, &scope).await? {
        Authorization::Allowed(caller) => json!([caller.user, caller.scopes]),
        Authorization::Refused { reason } => json!(reason),
    })
}

#[tokio::test]
async fn a_credential_is_judged_by_the_host() {
    let host = TestHost::builder()
        .credential("key", "ada", &["repo.*"])
        .start(Plugin::new().answer("test.judge", judge))
        .await;
    let verdict = async |token, scope| {
        let verdict = host.request("test.judge", json!([token, scope])).await;
        verdict.map(|verdict| verdict.read::<Value>().unwrap())
    };
    assert_eq!(verdict("key", "repo.command").await, Ok(json!(["ada", ["repo.*"]])));
    assert_eq!(verdict("key", "llm.chat").await, Ok(json!("scope")));
    assert_eq!(verdict("other", "repo.command").await, Ok(json!("unknown credential")));
    assert_eq!(verdict("key", "NOT").await.unwrap_err().code, "invalid_request");
    assert!(host.seen().asked.iter().all(|asked| asked.parent_request_id.is_none()));
}

#[tokio::test]
async fn what_the_host_cannot_find_out_is_no_refusal() {
    let host = TestHost::builder()
        .answering("host.authorize", |_| {
            Err::<Value, _>(WireError::new(ErrorCode::PluginUnavailable, "the provider is away"))
        })
        .start(Plugin::new().answer("test.judge", judge))
        .await;
    let error = host.request("test.judge", json!(["key", "repo.command"])).await.unwrap_err();
    assert_eq!(error.code, "plugin_unavailable");
}

#[tokio::test]
async fn a_failure_of_whoever_answers_comes_through() {
    let failure = WireError::new(ErrorCode::RateLimited, "later");
    let answer = failure.clone();
    let host = TestHost::builder()
        .answering("other.thing", move |_| Err::<Value, _>(answer.clone()))
        .start(Plugin::new().answer("test.relay", relay))
        .await;
    assert_eq!(host.request("test.relay", ()).await, Err(failure));
}

#[tokio::test]
async fn a_call_that_takes_too_long_is_given_up_and_cancelled() {
    async fn hasty(request: Request) -> Result<RawJson> {
        Ok(request.call("other.silent", ()).timeout(Duration::from_millis(1)).answer().await?)
    }
    let host =
        TestHost::builder().silent("other.silent").start(Plugin::new().answer("test.hasty", hasty)).await;
    assert_eq!(host.request("test.hasty", ()).await.unwrap_err().code, "timeout");
    host.until("the call is cancelled", |seen| seen.gave_up.len() == 1).await;
}

#[tokio::test]
async fn a_cancelled_handler_cancels_what_it_asked_for() {
    async fn wait(request: Request) -> Result<RawJson> {
        Ok(request.call("other.silent", ()).answer().await?)
    }
    let host =
        TestHost::builder().silent("other.silent").start(Plugin::new().answer("test.wait", wait)).await;
    let request = host.start_request("test.wait", ());
    host.until("the call has come", |seen| seen.asked.len() == 1).await;
    request.cancel(bkg_protocol::message::CancelReason::CallerGone);
    host.until("the call is cancelled", |seen| seen.gave_up.len() == 1).await;
}

#[tokio::test]
async fn a_streamed_call_grants_credit_as_it_reads() {
    async fn sum(request: Request) -> Result<Value> {
        let mut stream = request.call("other.numbers", ()).stream().await?;
        let mut sum = 0;
        while let Some(number) = stream.next().await? {
            sum += number.read::<u64>().expect("a number");
        }
        stream.outcome().await?;
        Ok(json!(sum))
    }
    let host = TestHost::builder()
        .streaming("other.numbers", |_| (1..=1000).map(|number| json!(number)).collect())
        .start(Plugin::new().answer("test.sum", sum))
        .await;
    assert_eq!(host.request("test.sum", ()).await.unwrap().as_str(), "500500");
}

#[tokio::test]
async fn a_call_needs_a_session_and_a_name() {
    let errors = Arc::new(Mutex::new(Vec::new()));
    let written = errors.clone();
    let plugin = Plugin::new().background(move |host: Host| async move {
        // The plugin's own work begins before it is registered.
        let unconnected = host.call("other.thing", ()).answer().await;
        let nameless = host.call("nodot", ()).answer().await;
        written.lock().unwrap().extend([unconnected, nameless]);
    });
    let mut host = TestHost::builder().launch(plugin);
    host.until("the plugin registers", |seen| !seen.registrations.is_empty()).await;
    host.signal();
    host.ended().await.unwrap();
    let errors = errors.lock().unwrap();
    assert!(matches!(&errors[..], [Err(CallError::NotConnected), Err(CallError::Name(_))]), "{errors:?}");
}

#[tokio::test]
async fn models_change_when_the_host_agrees() {
    async fn rename(request: Request) -> Result<()> {
        let model = Model {
            id: request.read()?,
            capability: "test.rename".parse().expect("a capability name"),
            owned_by: None,
            context_length: None,
            dimensions: None,
        };
        Ok(request.host().set_models(vec![model]).await?)
    }
    let plugin = || Plugin::new().model("old", "test.rename").answer("test.rename", rename);

    let host = TestHost::start(plugin()).await;
    host.request("test.rename", json!("new")).await.unwrap();
    assert_eq!(host.seen().registrations[0].models[0].id, "new");
    host.break_link();
    host.until("the plugin comes back", |seen| seen.registrations.len() == 2).await;
    assert_eq!(host.seen().registrations[1].models[0].id, "new", "what holds is registered again");

    let refusal = WireError::new(ErrorCode::Forbidden, "not in the entry");
    let host = TestHost::builder().refusing_updates(refusal.clone()).start(plugin()).await;
    assert_eq!(host.request("test.rename", json!("new")).await, Err(refusal));
    host.break_link();
    host.until("the plugin comes back", |seen| seen.registrations.len() == 2).await;
    assert_eq!(host.seen().registrations[1].models[0].id, "old");
}

#[tokio::test]
async fn events_go_to_subscribers_of_their_topic_also_after_a_broken_link() {
    let plugin = Plugin::new().background(|host: Host| async move {
        let mut orders = host.subscribe("orders");
        while let Some(event) = orders.next().await {
            host.publish("seen", event.data);
        }
    });
    let host = TestHost::start(plugin).await;
    for (round, published) in [(1, "1"), (2, "2")] {
        host.until("the topic is wanted", |seen| seen.topics == ["orders"]).await;
        host.event("others", json!(0));
        host.event("orders", json!(round));
        host.until("the event comes back", |seen| seen.published.len() == round).await;
        assert_eq!(host.seen().published[round - 1].data.as_str(), published);
        host.break_link();
        host.until("the plugin comes back", |seen| seen.registrations.len() == round + 1).await;
    }
}

#[tokio::test]
async fn a_topic_is_given_up_with_its_last_subscriber() {
    async fn once(request: Request) -> Result<RawJson> {
        let mut first = request.host().subscribe("orders");
        let second = request.host().subscribe("orders");
        drop(second);
        Ok(first.next().await.expect("an event").data)
    }
    let host = TestHost::start(Plugin::new().answer("test.once", once)).await;
    let request = host.start_request("test.once", ());
    host.until("the topic is wanted", |seen| seen.topics == ["orders"]).await;
    host.event("orders", json!(7));
    assert_eq!(request.outcome().await.unwrap().as_str(), "7");
    host.until("the topic is given up", |seen| seen.topics.is_empty()).await;
}

#[tokio::test]
async fn an_update_without_a_session_says_so() {
    let outcome = Arc::new(Mutex::new(None));
    let written = outcome.clone();
    let plugin = Plugin::new().background(move |host: Host| async move {
        let tried = host.update(Update::default()).await;
        *written.lock().unwrap() = Some(tried);
    });
    let mut host = TestHost::start(plugin).await;
    host.signal();
    host.ended().await.unwrap();
    assert!(matches!(*outcome.lock().unwrap(), Some(Err(CallError::NotConnected))));
}
