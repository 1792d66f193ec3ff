//! Log lines reach the host, with their level, their facts and their request.

use bkg_sdk::testing::TestHost;
use bkg_sdk::{Host, LogLevel, Plugin, Request, Result};
use tracing_subscriber::layer::SubscriberExt;

#[tokio::test]
async fn tracing_events_become_log_lines_of_their_request() {
    async fn work(request: Request) -> Result<()> {
        tracing::warn!(model = "small", attempts = 3, slow = true, "taking long");
        request.host().log(LogLevel::Info, "done");
        Ok(())
    }
    let plugin = Plugin::new().answer("test.work", work);
    let subscriber = tracing_subscriber::registry().with(plugin.log_layer());
    let _guard = tracing::subscriber::set_default(subscriber);
    let host = TestHost::start(plugin).await;
    let request = host.start_request("test.work", ());
    let id = request.id().clone();
    request.outcome().await.unwrap();
    host.until("both lines have come", |seen| {
        seen.logs.iter().filter(|line| line.request_id.as_ref() == Some(&id)).count() == 2
    })
    .await;
    let logs = host.seen().logs;
    let line = logs.iter().find(|line| line.message == "taking long").unwrap();
    assert_eq!((line.level, line.plugin.as_deref()), (LogLevel::Warn, Some("test")));
    assert!(line.timestamp.is_some());
    assert_eq!(
        line.fields.as_ref().unwrap().as_str(),
        r#"{"model":"small","attempts":3,"slow":true,"target":"it::logs"}"#
    );
}

#[tokio::test]
async fn lines_from_before_the_registration_come_after_it_in_order() {
    let plugin = Plugin::new().background(|host: Host| async move {
        for number in 0..3 {
            host.log_with(LogLevel::Debug, format!("early {number}"), serde_json::json!({ "n": number }));
        }
    });
    let host = TestHost::start(plugin).await;
    host.until("the lines have come", |seen| seen.logs.len() == 3).await;
    let logs = host.seen().logs;
    let messages: Vec<&str> = logs.iter().map(|line| line.message.as_str()).collect();
    assert_eq!(messages, ["early 0", "early 1", "early 2"]);
    assert_eq!(logs[2].fields.as_ref().unwrap().as_str(), r#"{"n":2}"#);
    assert_eq!(logs[2].request_id, None);
}
