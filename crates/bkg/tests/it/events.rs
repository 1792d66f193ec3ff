//! What plugins tell one another through the host: who hears what, and who is never made to wait.

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};
use tokio::time::timeout;

use crate::host::{PATIENCE, TestHost};

/// `teller` and `listener`; the second may hear of the first.
async fn two_plugins(listener: Value) -> TestHost {
    let mut entry = json!({ "subscribes": ["teller.*"] });
    entry.as_object_mut().unwrap().extend(listener.as_object().unwrap().clone());
    let host = TestHost::builder()
        .plugin_as("misbehave", "teller", json!({}))
        .plugin_as("misbehave", "listener", entry)
        .start()
        .await;
    host.start_plugin("teller").await;
    host.start_plugin("listener").await;
    host
}

async fn ask(host: &TestHost, plugin: &str, capability: &str, payload: Value) -> Value {
    let reply = host.invoke(plugin, capability, payload).await;
    assert_eq!(reply.status, 200, "{}", reply.text);
    reply.json()["data"].clone()
}

/// Has a plugin send frames; the host has read them when this is back.
async fn say(host: &TestHost, plugin: &str, frames: Value) {
    ask(host, plugin, "test.say", json!({ "frames": frames })).await;
}

async fn subscribe(host: &TestHost, plugin: &str, topic: &str) {
    say(host, plugin, json!([{ "type": "subscribe", "topic": topic }])).await;
}

async fn publish(host: &TestHost, topic: &str, data: Value) {
    say(host, "teller", json!([{ "type": "publish", "topic": topic, "data": data }])).await;
}

/// The events that a plugin got, as soon as there are so many.
async fn events(host: &TestHost, plugin: &str, count: usize) -> Value {
    ask(host, plugin, "test.events", json!({ "count": count })).await["events"].clone()
}

/// What is shown of the events of each instance.
async fn figures(host: &TestHost, plugin: &str) -> Vec<Value> {
    let object = host.get(&format!("/admin/plugins/{plugin}")).await.json();
    object["instances"].as_array().unwrap().iter().map(|instance| instance["events"].clone()).collect()
}

/// The host's own lines in a plugin's log that hold a word.
async fn notes(host: &TestHost, plugin: &str, word: &str) -> Vec<String> {
    let lines = host.get(&format!("/admin/plugins/{plugin}/logs")).await.json()["lines"].clone();
    let messages = lines.as_array().unwrap().iter().map(|line| line["message"].as_str().unwrap());
    messages.filter(|message| message.contains(word)).map(str::to_owned).collect()
}

#[tokio::test]
async fn an_event_reaches_those_who_subscribed_to_its_topic() {
    let host = two_plugins(json!({})).await;
    publish(&host, "teller.page", json!("before")).await;
    subscribe(&host, "listener", "teller.page").await;
    subscribe(&host, "teller", "teller.page").await;
    publish(&host, "teller.other", json!("another topic")).await;
    publish(&host, "teller.page", json!({ "number": 1.50 })).await;
    let expected = json!([{ "topic": "teller.page", "data": { "number": 1.50 } }]);
    assert_eq!(events(&host, "listener", 1).await, expected);
    assert_eq!(events(&host, "teller", 1).await, expected, "it subscribed too");
    say(&host, "listener", json!([{ "type": "unsubscribe", "topic": "teller.page" }])).await;
    publish(&host, "teller.page", json!(2)).await;
    assert_eq!(events(&host, "teller", 2).await[1]["data"], 2);
    assert_eq!(events(&host, "listener", 1).await, expected, "it wants no more");
    let shown = json!({ "topics": ["teller.page"], "published": 4, "delivered": 2, "waiting": 0,
                        "missed": 0, "tooLarge": 0, "refused": 0 });
    assert_eq!(figures(&host, "teller").await, [shown]);
    host.stop().await;
}

#[tokio::test]
async fn each_instance_of_a_plugin_gets_the_event() {
    let host = two_plugins(json!({ "instances": 2 })).await;
    host.until(|view| (view.plugin("listener")?.instances.len() == 2).then_some(())).await;
    // Whichever of them is asked subscribes; asked often enough, both have.
    let both = async {
        while figures(&host, "listener").await.iter().any(|figures| figures["topics"] == json!([])) {
            tokio::join!(
                subscribe(&host, "listener", "teller.page"),
                subscribe(&host, "listener", "teller.page")
            );
        }
    };
    timeout(PATIENCE, both).await.expect("both instances have subscribed");
    publish(&host, "teller.page", json!(1)).await;
    let delivered =
        async { while figures(&host, "listener").await.iter().any(|figures| figures["delivered"] != 1) {} };
    timeout(PATIENCE, delivered).await.expect("both instances get the event");
    host.stop().await;
}

#[tokio::test]
async fn a_plugin_publishes_below_its_own_name_alone() {
    let host = two_plugins(json!({ "subscribes": ["*"] })).await;
    for topic in ["listener.page", "host.page", "tellers.page", "teller.page"] {
        subscribe(&host, "listener", topic).await;
    }
    let wrong = ["listener.page", "host.page", "tellers.page", "teller", "", "teller.*", "Teller.page"];
    let frames: Vec<Value> = (wrong.iter().cycle().take(350))
        .map(|topic| json!({ "type": "publish", "topic": topic, "data": 1 }))
        .chain([json!({ "type": "subscribe", "topic": "no topic" })])
        .collect();
    say(&host, "teller", json!(frames)).await;
    publish(&host, "teller.page", json!("right")).await;
    let expected = json!([{ "topic": "teller.page", "data": "right" }]);
    assert_eq!(events(&host, "listener", 1).await, expected);
    let figures = figures(&host, "teller").await;
    assert_eq!((&figures[0]["refused"], &figures[0]["published"]), (&json!(351), &json!(1)));
    assert_eq!(notes(&host, "teller", "published `listener.page`, which is not its own").await.len(), 1);
    assert_eq!(notes(&host, "teller", "is not a topic").await.len(), 1, "once for each kind");
    let closes = ask(&host, "teller", "test.seen", json!({})).await["closes"].clone();
    assert_eq!(closes, json!([]), "no session ends of it");
    host.stop().await;
}

#[tokio::test]
async fn a_plugin_hears_of_others_what_its_entry_lists_at_this_moment() {
    let host = two_plugins(json!({ "subscribes": [] })).await;
    let session = host.pid("listener");
    let allow = async |topics: Value| {
        let path = "/admin/plugins/listener/config";
        let reply = host.post(path, json!({ "subscribes": topics })).await;
        assert_eq!(
            (reply.status.as_u16(), &reply.json()["applied"]),
            (200, &json!("hot")),
            "{}",
            reply.text
        );
    };
    subscribe(&host, "listener", "teller.page").await;
    subscribe(&host, "listener", "listener.own").await;
    assert_eq!(notes(&host, "listener", "add it to `subscribes`").await.len(), 1);
    publish(&host, "teller.page", json!("too early")).await;
    allow(json!(["teller.page"])).await;
    publish(&host, "teller.page", json!("allowed")).await;
    assert_eq!(events(&host, "listener", 1).await[0]["data"], "allowed");
    allow(json!(["other.*"])).await;
    publish(&host, "teller.page", json!("too late")).await;
    say(&host, "listener", json!([{ "type": "publish", "topic": "listener.own", "data": "own" }])).await;
    assert_eq!(events(&host, "listener", 2).await[1]["data"], "own", "its own need no right");
    assert_eq!(host.pid("listener"), session);
    host.stop().await;
}

#[tokio::test]
async fn subscriptions_end_with_the_session() {
    let host = two_plugins(json!({})).await;
    subscribe(&host, "listener", "teller.page").await;
    let before = host.host().registry.plugin("listener").unwrap().instances[0].clone();
    // The request ends with the session, whose end is what is asked for.
    host.invoke("listener", "test.drop", json!({})).await;
    host.until(|view| {
        let now = view.plugin("listener")?.instances.first()?;
        (!std::sync::Arc::ptr_eq(now, &before)).then_some(())
    })
    .await;
    publish(&host, "teller.page", json!("nobody")).await;
    subscribe(&host, "listener", "teller.page").await;
    publish(&host, "teller.page", json!("again")).await;
    assert_eq!(events(&host, "listener", 1).await[0]["data"], "again");
    host.stop().await;
}

#[tokio::test]
async fn an_event_larger_than_the_receivers_frame_is_dropped_for_it_alone() {
    let host = two_plugins(json!({ "maxFrameBytes": 8192 })).await;
    subscribe(&host, "listener", "teller.page").await;
    subscribe(&host, "teller", "teller.page").await;
    let large = json!("x".repeat(10_000));
    publish(&host, "teller.page", large.clone()).await;
    publish(&host, "teller.page", json!("small")).await;
    assert_eq!(events(&host, "listener", 1).await[0]["data"], "small");
    assert_eq!(events(&host, "teller", 2).await[0]["data"], large);
    let figures = figures(&host, "listener").await;
    assert_eq!((&figures[0]["tooLarge"], &figures[0]["delivered"]), (&json!(1), &json!(1)));
    host.stop().await;
}

#[tokio::test]
async fn a_subscriber_that_does_not_read_misses_the_oldest_and_holds_up_nobody() {
    const EVENTS: u64 = 8_000;
    let host = two_plugins(json!({})).await;
    subscribe(&host, "listener", "teller.page").await;
    let pid = Pid::from_raw(host.pid("listener"));
    kill(pid, Signal::SIGSTOP).unwrap();
    let flood = json!({ "topic": "teller.page", "n": EVENTS, "size": 5_000 });
    ask(&host, "teller", "test.publish", flood).await;
    // The socket takes what it can, and no more.
    let stopped = loop {
        let (one, two) = (figures(&host, "listener").await, figures(&host, "listener").await);
        if one == two {
            break one[0].clone();
        }
    };
    let count = |name: &str| stopped[name].as_u64().unwrap();
    assert!(count("missed") > 0 && count("waiting") <= 256, "{stopped}");
    assert_eq!(count("delivered") + count("missed") + count("waiting"), EVENTS, "{stopped}");
    // What is asked of it now overtakes the events that wait, and it comes out when they have all come.
    let (delivered, all) = (count("delivered"), count("delivered") + count("waiting"));
    let mut asking = Box::pin(ask(&host, "listener", "test.events", json!({ "count": all })));
    tokio::select! {
        _ = &mut asking => panic!("it cannot answer"),
        () = host.until_in_flight("listener", 1) => {}
    }
    kill(pid, Signal::SIGCONT).unwrap();
    let answer = asking.await;
    assert!(answer["before"].as_u64().unwrap() <= delivered, "{} of {delivered}", answer["before"]);
    let numbers: Vec<u64> = (answer["events"].as_array().unwrap().iter())
        .map(|event| event["data"]["number"].as_u64().unwrap())
        .collect();
    assert!(numbers.is_sorted() && numbers.len() as u64 == all);
    assert_eq!(numbers.last(), Some(&(EVENTS - 1)), "the newest are kept");
    host.stop().await;
}

#[tokio::test]
async fn a_flood_of_events_leaves_room_for_requests() {
    let host = two_plugins(json!({})).await;
    subscribe(&host, "listener", "teller.page").await;
    let flood = json!({ "topic": "teller.page", "n": 20_000 });
    let flooding = ask(&host, "teller", "test.publish", flood);
    let asking = async {
        for number in 0..20 {
            assert_eq!(ask(&host, "listener", "test.echo", json!(number)).await, json!(number));
        }
    };
    tokio::join!(flooding, asking);
    host.stop().await;
}
