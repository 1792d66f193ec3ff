//! Settings are in force before the first answer, and a verdict means what it says.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use bkg_sdk::testing::TestHost;
use bkg_sdk::{Plugin, Request, Settings};
use serde::Deserialize;
use serde_json::json;

#[derive(Debug, Deserialize)]
#[serde(default)]
struct Greeting {
    word: String,
}

impl Default for Greeting {
    fn default() -> Self {
        Self { word: "hello".to_owned() }
    }
}

fn greeter() -> Plugin {
    let settings = Settings::<Greeting>::default()
        .check(|new| async move { if new.word.is_empty() { Err("`word` is empty") } else { Ok(()) } });
    Plugin::new().settings(&settings).answer("test.greet", move |_: Request| {
        let word = settings.get().word.clone();
        async move { Ok(json!(word)) }
    })
}

async fn greeting(host: &TestHost) -> String {
    host.request("test.greet", ()).await.unwrap().read().unwrap()
}

#[tokio::test]
async fn the_first_answer_is_given_under_the_hosts_settings() {
    let host = TestHost::builder().settings(json!({ "word": "salut" })).start(greeter()).await;
    assert_eq!(greeting(&host).await, "salut");
    assert!(host.seen().registrations[0].takes_hot_config());
}

#[tokio::test]
async fn no_settings_mean_the_defaults() {
    for nothing in [json!(null), json!({})] {
        let host = TestHost::builder().settings(nothing).start(greeter()).await;
        assert_eq!(greeting(&host).await, "hello");
    }
}

#[tokio::test]
async fn settings_that_are_accepted_are_in_force_and_those_refused_change_nothing() {
    let host = TestHost::builder().settings(json!({ "word": "salut" })).start(greeter()).await;
    host.configure(json!({ "word": "ciao" })).await.unwrap();
    assert_eq!(greeting(&host).await, "ciao");
    for (wrong, reason) in
        [(json!({ "word": "" }), "`word` is empty"), (json!({ "word": 1 }), "invalid type")]
    {
        let error = host.configure(wrong).await.unwrap_err();
        assert_eq!(
            (error.code.as_str(), error.message.contains(reason)),
            ("invalid_config", true),
            "{error}"
        );
        assert_eq!(greeting(&host).await, "ciao");
    }
    assert!(host.seen().health.iter().all(|health| health.status == "up"));
}

#[tokio::test]
async fn a_plugin_whose_first_settings_are_wrong_is_down_until_they_are_right() {
    let host = TestHost::builder().settings(json!({ "word": "" })).start(greeter()).await;
    let error = host.request("test.greet", ()).await.unwrap_err();
    assert_eq!((error.code.as_str(), error.message.contains("`word` is empty")), ("plugin_error", true));
    host.until("the plugin is down", |seen| seen.health.iter().any(|health| health.status == "down")).await;
    host.configure(json!({ "word": "hi" })).await.unwrap();
    assert_eq!(greeting(&host).await, "hi");
    host.until("the plugin is up", |seen| seen.health.last().is_some_and(|health| health.status == "up"))
        .await;
}

#[tokio::test]
async fn a_check_may_take_its_time_and_requests_wait_for_the_first() {
    let (open, gate) = tokio::sync::watch::channel(false);
    let settings = Settings::<Greeting>::default().check(move |_| {
        let mut gate = gate.clone();
        async move { gate.wait_for(|open| *open).await.map(drop) }
    });
    let shown = settings.clone();
    let plugin = Plugin::new().settings(&settings).answer("test.greet", move |_| {
        let word = shown.get().word.clone();
        async move { Ok(json!(word)) }
    });
    let host = TestHost::builder().settings(json!({ "word": "late" })).start(plugin).await;
    let waiting = host.start_request("test.greet", ());
    // The plugin is alive meanwhile: it answers what needs no settings.
    assert_eq!(host.request("test.unknown", ()).await.unwrap_err().code, "not_found");
    open.send(true).unwrap();
    assert_eq!(waiting.outcome().await.unwrap().as_str(), r#""late""#);
}

#[tokio::test]
async fn a_plugin_that_takes_no_settings_does_not_claim_to() {
    let host = TestHost::start(Plugin::new()).await;
    assert!(!host.seen().registrations[0].takes_hot_config());
    assert_eq!(host.configure(json!({})).await.unwrap_err().code, "invalid_config");
}

#[tokio::test]
async fn settings_that_are_in_force_already_are_not_applied_again() {
    let applied = Arc::new(AtomicU32::new(0));
    let counted = applied.clone();
    let settings = Settings::<Greeting>::default().check(move |_| {
        counted.fetch_add(1, Ordering::Relaxed);
        async { Ok::<(), String>(()) }
    });
    let host = TestHost::builder()
        .settings(json!({ "word": "salut" }))
        .start(Plugin::new().settings(&settings))
        .await;
    host.break_link();
    host.until("the plugin comes back", |seen| seen.registrations.len() == 2).await;
    // Verdicts come in turn, so the second registration's has been given before this one.
    host.configure(json!({ "word": "ciao" })).await.unwrap();
    assert_eq!((settings.get().word.as_str(), applied.load(Ordering::Relaxed)), ("ciao", 2));
}

#[tokio::test]
async fn a_dry_run_says_what_the_check_says_and_puts_nothing_in_force() {
    let host = TestHost::builder().settings(json!({ "word": "salut" })).start(greeter()).await;
    assert!(host.seen().registrations[0].takes_dry_runs());
    host.dry_run(json!({ "word": "ciao" })).await.unwrap();
    assert_eq!(greeting(&host).await, "salut");
    for wrong in [json!({ "word": "" }), json!({ "word": 1 })] {
        assert_eq!(host.dry_run(wrong).await.unwrap_err().code, "invalid_config");
    }
    assert_eq!(greeting(&host).await, "salut");
    assert!(host.seen().health.iter().all(|health| health.status == "up"));
    host.configure(json!({ "word": "ciao" })).await.unwrap();
    assert_eq!(greeting(&host).await, "ciao");
}

#[tokio::test]
async fn a_dry_run_does_not_make_a_plugin_with_wrong_settings_look_right() {
    let host = TestHost::builder().settings(json!({ "word": "" })).start(greeter()).await;
    host.dry_run(json!({ "word": "hi" })).await.unwrap();
    let error = host.request("test.greet", ()).await.unwrap_err();
    assert!(error.message.contains("`word` is empty"), "{error}");
}

#[tokio::test]
async fn only_settings_with_a_check_announce_dry_runs() {
    let unchecked = Plugin::new().settings(&Settings::<Greeting>::default());
    let host = TestHost::start(unchecked).await;
    let register = host.seen().registrations[0].clone();
    assert_eq!((register.takes_hot_config(), register.takes_dry_runs()), (true, false));
    let error = host.dry_run(json!({ "word": 1 })).await.unwrap_err();
    assert!(error.message.contains("invalid type"), "{error}");
    let without = TestHost::start(Plugin::new()).await;
    assert_eq!(without.dry_run(json!({})).await.unwrap_err().code, "invalid_config");
}
