//! The live socket: who may open it, what it tells, and what becomes of those who are slow, rude or away.

use std::time::Duration;

use bkg::logs::NewLine;
use bkg_protocol::PluginName;
use bkg_protocol::message::LogLevel;
use futures_util::future::join_all;
use http::Method;
use serde_json::{Value, json};
use tokio::net::TcpSocket;
use tokio_tungstenite::tungstenite::Message;

use crate::follower::Follower;
use crate::host::{Builder, TestHost, header, is_alone};

const PROVIDER: &str = "[auth]\nprovider = \"otherauth\"\n";

fn misbehave() -> Builder {
    TestHost::builder().plugin("misbehave")
}

/// A daemon whose provider knows keys that say themselves what they may.
async fn guarded() -> TestHost {
    let host = misbehave().plugin("otherauth").config(PROVIDER).start().await;
    host.start_plugin("otherauth").await;
    host
}

fn plugin() -> PluginName {
    "misbehave".parse().unwrap()
}

fn log(host: &TestHost, count: usize, message: &str) {
    let log = host.host().logs.plugin(&plugin());
    for _ in 0..count {
        log.append(NewLine::host(LogLevel::Info, message));
    }
}

fn newest(host: &TestHost) -> u64 {
    host.host().logs.newest(&plugin())
}

fn seqs(message: &Value) -> Vec<u64> {
    assert_eq!(message["type"], "logs", "{message}");
    let lines = message["payload"]["lines"].as_array().unwrap();
    lines.iter().map(|line| line["seq"].as_u64().unwrap()).collect()
}

#[tokio::test]
async fn it_begins_with_how_things_are_and_goes_on_with_what_changes() {
    let host = misbehave().start().await;
    let mut follower = Follower::root(&host).await;
    let bootstrap = follower.bootstrap.clone();
    assert_eq!(bootstrap["plugins"], host.get("/admin/plugins").await.json());
    assert_eq!(bootstrap["topics"], json!(["status", "logs", "telemetry", "audit"]));
    let sequences = &bootstrap["sequences"];
    assert!(sequences["logs"]["misbehave"].is_u64() && sequences["audit"].is_u64(), "{sequences}");

    // What happens before the subscription is not lost.
    host.start_plugin("misbehave").await;
    follower.follow(json!({ "topic": "status" })).await;
    let mut last = sequences["status"].as_u64().unwrap();
    loop {
        let event = follower.next().await;
        assert_eq!((&event["type"], &event["pluginId"]), (&json!("status"), &json!("misbehave")));
        let seq = event["seq"].as_u64().unwrap();
        assert!(seq > last, "{seq} after {last}");
        last = seq;
        if event["payload"]["status"] == "running" {
            let now = host.get("/admin/plugins/misbehave").await.json();
            for member in ["name", "since", "capabilities", "config", "folder"] {
                assert_eq!(event["payload"][member], now[member], "{member}");
            }
            break;
        }
    }

    // Who comes back with the number gets what came after it, and nothing twice.
    let mut back = Follower::root(&host).await;
    let again = json!({ "topic": "status", "since": last, "epoch": bootstrap["epoch"] });
    assert_eq!(back.follow(again.clone()).await, last);
    assert!(back.is_quiet().await);
    host.post("/admin/plugins/misbehave/stop?wait=20", json!({})).await;
    while back.next().await["payload"]["status"] != "stopped" {}

    // The number of another run means nothing: all of it comes anew.
    let lost = json!({ "topic": "status", "since": last, "epoch": "of another run" });
    assert_eq!(back.follow(lost).await, Value::Null);
    assert_eq!(back.next().await["payload"]["status"], "stopped");
    assert!(back.is_quiet().await);
    assert_eq!(
        back.refused(json!({ "action": "SUB", "topic": "status", "since": 1 })).await,
        "invalid_request"
    );
}

#[tokio::test]
async fn the_audit_log_and_the_figures_come_as_they_are_made() {
    let host = misbehave().config("telemetry.interval_ms = 100").start().await;
    host.start_plugin("misbehave").await;
    let mut follower = Follower::root(&host).await;
    let before = follower.bootstrap["sequences"]["audit"].as_u64().unwrap();
    assert_eq!(follower.follow(json!({ "topic": "audit" })).await, before);
    let stopped = host.post("/admin/plugins/misbehave/restart?wait=20", json!({})).await;
    assert_eq!(stopped.status, 200, "{}", stopped.text);
    let (first, second) = (follower.next().await, follower.next().await);
    let entries = host.get("/admin/audit?limit=2").await.json()["entries"].clone();
    assert_eq!([&second["payload"], &first["payload"]], [&entries[0], &entries[1]]);
    assert_eq!([&first["seq"], &second["seq"]], [before + 1, before + 2]);
    assert_eq!(follower.say(json!({ "action": "UNSUB", "topic": "audit" })).await["type"], "unsubscribed");
    // From the store, for somebody who was away for longer than is kept at hand.
    let mut back = Follower::root(&host).await;
    back.follow(json!({ "topic": "audit", "since": 0 })).await;
    for number in 1..=before + 2 {
        assert_eq!(back.next().await["seq"], number);
    }

    follower.follow(json!({ "topic": "telemetry", "pluginId": "misbehave" })).await;
    let (first, second) = (follower.next().await, follower.next().await);
    let kept = host.host().telemetry.history(&plugin());
    for sample in [&first, &second] {
        let kept = kept.iter().find(|kept| sample["seq"] == kept.seq).unwrap();
        assert_eq!(sample["payload"], json!(kept));
    }
    let epoch = &back.bootstrap["epoch"];
    let mut back = Follower::root(&host).await;
    let since = json!({ "topic": "telemetry", "since": first["seq"], "epoch": epoch });
    back.follow(since).await;
    assert_eq!(back.next().await, second);
}

#[tokio::test]
async fn two_thousand_lines_a_second_and_fifty_reconnects_lose_and_double_nothing() {
    const RECONNECTS: usize = 50;
    // More than fifty of the largest messages hold.
    const LINES: usize = 14_000;
    let host = misbehave().config("logs.ring_lines = 2000").start().await;
    let begin = newest(&host);
    let writing = async {
        let mut turns = tokio::time::interval(Duration::from_millis(25));
        for _ in 0..LINES / 50 {
            turns.tick().await;
            log(&host, 50, "one of many");
        }
    };
    let reading = async {
        let mut got: Vec<u64> = Vec::new();
        for connection in 0..=RECONNECTS {
            let mut follower = Follower::root(&host).await;
            let since = got.last().copied().unwrap_or(begin);
            follower.follow(json!({ "topic": "logs", "pluginId": "misbehave", "since": since })).await;
            got.extend(seqs(&follower.next().await));
            while connection == RECONNECTS && got.len() < LINES {
                got.extend(seqs(&follower.next().await));
            }
            // It leaves without a word, in the middle of whatever is on its way.
        }
        got
    };
    let ((), got) = tokio::join!(writing, reading);
    let mut kept = Vec::new();
    while kept.len() < LINES {
        let since = kept.last().copied().unwrap_or(begin);
        let page = host.get(&format!("/admin/plugins/misbehave/logs?since={since}")).await.json();
        kept.extend(page["lines"].as_array().unwrap().iter().map(|line| line["seq"].as_u64().unwrap()));
    }
    assert_eq!(got, kept);
}

#[tokio::test]
async fn one_of_two_hundred_that_does_not_read_harms_nobody_and_costs_little() {
    if !is_alone("live::one_of_two_hundred_that_does_not_read_harms_nobody_and_costs_little") {
        return;
    }
    const SOCKETS: usize = 200;
    const BURSTS: u64 = 40;
    const BURST: u64 = 100;
    let builder = misbehave().plugin_as("misbehave", "noisy", json!({}));
    let host = builder.config("logs.ring_lines = 500").start().await;
    let begin = newest(&host);
    let mut readers = Vec::new();
    for _ in 1..SOCKETS {
        let mut reader = Follower::root(&host).await;
        reader.follow(json!({ "topic": "logs", "pluginId": "misbehave" })).await;
        readers.push(reader);
    }
    let mut idle = not_reading(&host).await;
    idle.follow(json!({ "topic": "logs" })).await;
    let before = resident();

    // More than the machine's buffers between the two take.
    let noisy = host.host().logs.plugin(&"noisy".parse().unwrap());
    let loud = "x".repeat(4_000);
    for _ in 0..BURSTS * BURST {
        noisy.append(NewLine::host(LogLevel::Info, &*loud));
        tokio::task::yield_now().await;
    }
    // The host adds a line of its own where the disk is too slow for all this.
    let mut places = vec![begin; readers.len()];
    for _ in 0..BURSTS {
        log(&host, BURST as usize, "one of many");
        let end = newest(&host);
        let all = readers.iter_mut().zip(&mut places).map(async |(reader, place)| {
            while *place < end {
                // As it came: two hundred times as text is enough to do.
                for number in numbers(&reader.next_text().await) {
                    *place += 1;
                    assert_eq!(number, *place, "every line, each once");
                }
            }
        });
        join_all(all).await;
    }
    let grown = resident().saturating_sub(before);
    assert!(grown < 48 << 20, "{grown} bytes more");

    // Whoever reads again hears how much was left out, where it was, and goes on from there.
    let mut place =
        std::collections::BTreeMap::from([("misbehave".to_owned(), begin), ("noisy".to_owned(), 0)]);
    let mut missed = 0;
    while place.values().sum::<u64>() < begin + 2 * BURSTS * BURST {
        let message = idle.next().await;
        let last = place.get_mut(message["pluginId"].as_str().unwrap()).unwrap();
        if message["type"] == "gap" {
            missed += message["missed"].as_u64().unwrap();
            *last += message["missed"].as_u64().unwrap();
        } else {
            let seqs = seqs(&message);
            assert_eq!(seqs, (*last + 1..=*last + seqs.len() as u64).collect::<Vec<_>>());
            *last += seqs.len() as u64;
        }
    }
    assert!(missed > BURSTS * BURST, "it did not read: {missed}");
}

/// Somebody whose machine takes next to nothing for a program that does not read.
async fn not_reading(host: &TestHost) -> Follower {
    let small = TcpSocket::new_v4().unwrap();
    small.set_recv_buffer_size(4 << 10).unwrap();
    let key = format!("Bearer {}", host.key());
    Follower::open_on(small, host.api_port(), "/ws", &[("authorization", &key)]).await.unwrap()
}

/// The numbers of the lines in a message.
fn numbers(text: &str) -> Vec<u64> {
    let (_, lines) = text.split_once("\"lines\":").unwrap_or_else(|| panic!("{text}"));
    let after = lines.split("\"seq\":").skip(1);
    after.map(|rest| rest.split(',').next().unwrap().parse().unwrap()).collect()
}

/// How much memory this process holds, in bytes.
fn resident() -> u64 {
    let page = procfs::page_size();
    procfs::process::Process::myself().unwrap().statm().unwrap().resident * page
}

#[tokio::test]
async fn what_is_followed_no_more_does_not_come() {
    let host = misbehave().start().await;
    let mut follower = Follower::root(&host).await;
    let one = json!({ "topic": "logs", "pluginId": "misbehave", "level": "info" });
    let begin = follower.follow(one.clone()).await.as_u64().unwrap();
    log(&host, 1, "first");
    assert_eq!(seqs(&follower.next().await), [begin + 1]);
    let end = json!({ "action": "UNSUB", "topic": "logs", "pluginId": "misbehave" });
    let ended = json!({ "type": "unsubscribed", "topic": "logs", "pluginId": "misbehave" });
    assert_eq!(follower.say(end.clone()).await, ended);
    log(&host, 5, "unheard");
    assert!(follower.is_quiet().await);

    // All plugins, and then one in place of all: no line comes twice.
    let from = follower.follow(json!({ "topic": "logs" })).await;
    assert_eq!(from["misbehave"], begin + 6);
    follower.follow(one.clone()).await;
    log(&host, 1, "once");
    assert_eq!(seqs(&follower.next().await), [begin + 7]);
    assert!(follower.is_quiet().await);
    follower.follow(json!({ "topic": "logs", "since": { "misbehave": begin } })).await;
    assert_eq!(seqs(&follower.next().await), (begin + 1..=begin + 7).collect::<Vec<_>>());
    assert_eq!(follower.say(json!({ "action": "UNSUB", "topic": "logs" })).await["type"], "unsubscribed");
    log(&host, 1, "unheard");
    assert!(follower.is_quiet().await);
    assert_eq!(follower.say(end).await, ended, "once more changes nothing");
}

#[tokio::test]
async fn what_makes_no_sense_is_an_error_and_the_socket_goes_on() {
    let host = misbehave().start().await;
    let mut follower = Follower::root(&host).await;
    for wrong in
        ["", "x", "[]", "\"PING\"", "{}", r#"{"action":"LOOK"}"#, r#"{"action":"SUB","topic":"x"}"#]
    {
        follower.send(Message::Text(wrong.into())).await;
        let answer = follower.next().await;
        assert_eq!(
            (&answer["type"], &answer["code"]),
            (&json!("error"), &json!("invalid_request")),
            "{wrong}"
        );
    }
    follower.send(Message::Binary(vec![1, 2, 3].into())).await;
    assert_eq!(follower.next().await["code"], "invalid_request");
    for (wrong, code) in [
        (json!({ "action": "SUB", "topic": "logs", "pluginId": "nobody" }), "not_found"),
        (json!({ "action": "UNSUB", "topic": "status", "pluginId": "../x" }), "not_found"),
        (json!({ "action": "SUB", "topic": "audit", "pluginId": "misbehave" }), "invalid_request"),
        (json!({ "action": "SUB", "topic": "status", "level": "warn" }), "invalid_request"),
        (json!({ "action": "SUB", "topic": "logs", "since": 3 }), "invalid_request"),
        (json!({ "action": "SUB", "topic": "audit", "since": { "misbehave": 3 } }), "invalid_request"),
    ] {
        assert_eq!(follower.refused(wrong.clone()).await, code, "{wrong}");
    }
    assert!(follower.is_quiet().await);
    // Many at once are answered one by one.
    for _ in 0..500 {
        follower.send(Message::Text(r#"{"action":"PING"}"#.into())).await;
    }
    for _ in 0..500 {
        assert_eq!(follower.next().await, json!({ "type": "pong" }));
    }
    let large = json!({ "action": "PING", "filler": "x".repeat(64 << 10) }).to_string();
    follower.send(Message::Text(large.into())).await;
    assert_eq!(follower.closed().await.0, 1009);
}

#[tokio::test]
async fn a_socket_is_for_those_who_come_from_our_own_pages_or_with_a_key() {
    let host = guarded().await;
    let port = host.api_port();
    let key = "Bearer test_a~plugin:read";
    let session = "bkg_session=test_b~plugin:read;session";
    let own = format!("http://localhost:{port}");
    let open = async |path: &str, headers: &[(&str, &str)]| {
        Follower::open(port, path, headers).await.map(drop).map_err(|(status, _)| status)
    };
    for path in ["/ws", "/ws/plugins"] {
        assert_eq!(open(path, &[("authorization", key)]).await, Ok(()));
        assert_eq!(open(path, &[("authorization", key), ("origin", &own)]).await, Ok(()));
        assert_eq!(open(path, &[("cookie", "bkg_session=test_b~plugin:read")]).await, Err(403));
        assert_eq!(open(path, &[("authorization", key), ("cookie", "a=b")]).await, Err(403));
        assert_eq!(open(path, &[]).await, Err(401));
        assert_eq!(open(path, &[("origin", &own)]).await, Err(401));
        assert_eq!(open(path, &[("authorization", "Bearer test_nobody")]).await, Err(401));
        let (neighbour, secure) = (format!("http://localhost:{}", port ^ 1), own.replace("http", "https"));
        for foreign in ["http://evil.example", "null", "http://localhost", &neighbour, &secure, &own[7..]] {
            assert_eq!(
                open(path, &[("authorization", key), ("origin", foreign)]).await,
                Err(403),
                "{foreign}"
            );
            assert_eq!(
                open(path, &[("cookie", session), ("origin", foreign)]).await,
                Err(403),
                "{foreign}"
            );
        }
        let rebound = [("host", "evil.example"), ("origin", "http://evil.example"), ("cookie", session)];
        assert_eq!(open(path, &rebound).await, Err(421));
        assert_eq!(open(path, &[("host", "any.example"), ("authorization", key)]).await, Ok(()));
        let other = [("authorization", key), ("sec-websocket-protocol", "graphql-ws")];
        assert_eq!(open(path, &other).await, Err(400));
    }
    let reply = host.get("/ws").await;
    assert_eq!((reply.status.as_u16(), header(&reply, "upgrade")), (426, Some("websocket")));
    assert_eq!(header(&reply, "sec-websocket-version"), Some("13"));
}

#[tokio::test]
async fn a_socket_shows_what_its_caller_may_see() {
    let host = guarded().await;
    let sub = |topic: &str| json!({ "action": "SUB", "topic": topic });
    let mut nobody = Follower::with_key(&host, "test_nothing~llm.chat").await;
    let sequences = &nobody.bootstrap["sequences"];
    assert_eq!((&nobody.bootstrap["plugins"], sequences), (&json!([]), &json!({})));
    for topic in ["status", "logs", "telemetry", "audit"] {
        assert_eq!(nobody.refused(sub(topic)).await, "forbidden", "{topic}");
    }
    let mut reader = Follower::with_key(&host, "test_reader~plugin:read").await;
    assert_eq!(reader.bootstrap["topics"], json!(["status", "logs", "telemetry"]));
    assert_eq!(reader.refused(sub("audit")).await, "forbidden");
    let mut auditor = Follower::with_key(&host, "test_auditor~audit:read").await;
    assert_eq!(auditor.bootstrap["plugins"], json!([]));
    assert_eq!(auditor.refused(sub("logs")).await, "forbidden");
    auditor.follow(json!({ "topic": "audit" })).await;

    let mut narrow = Follower::with_key(&host, "test_narrow~plugin:read;plugins=misbehave").await;
    let names: Vec<&Value> =
        narrow.bootstrap["plugins"].as_array().unwrap().iter().map(|plugin| &plugin["name"]).collect();
    assert_eq!(names, ["misbehave"]);
    assert_eq!(narrow.bootstrap["sequences"]["logs"].as_object().unwrap().len(), 1);
    let unknown = json!({ "action": "SUB", "topic": "logs", "pluginId": "otherauth" });
    assert_eq!(narrow.refused(unknown).await, "not_found");
    for topic in ["status", "logs"] {
        narrow.follow(json!({ "topic": topic })).await;
    }
    host.host().logs.plugin(&"otherauth".parse().unwrap()).append(NewLine::host(LogLevel::Info, "hidden"));
    log(&host, 1, "seen");
    assert_eq!(narrow.next().await["pluginId"], "misbehave");
    host.post("/admin/plugins/otherauth/restart?wait=20", json!({})).await;
    host.start_plugin("misbehave").await;
    loop {
        let message = narrow.next().await;
        assert_eq!(message["pluginId"], "misbehave");
        if message["payload"]["status"] == "running" {
            break;
        }
    }
}

#[tokio::test]
async fn a_ticket_opens_one_socket_and_is_dead_when_its_caller_is() {
    let host = guarded().await;
    let ticket = async |key: &str| {
        let request = http::Request::builder()
            .method(Method::POST)
            .uri("/auth/ticket")
            .header("host", "localhost")
            .header("authorization", format!("Bearer {key}"));
        let reply = host.send_request(request.body(Default::default()).unwrap()).await;
        assert_eq!((reply.status.as_u16(), header(&reply, "cache-control")), (200, Some("no-store")));
        let expires: jiff::Timestamp = reply.json()["expiresAt"].as_str().unwrap().parse().unwrap();
        assert!(expires > jiff::Timestamp::now());
        reply.json()["ticket"].as_str().unwrap().to_owned()
    };
    let first = ticket("test_page~plugin:read").await;
    let follower = Follower::with_ticket(&host, &first).await.unwrap();
    assert_eq!(follower.bootstrap["topics"], json!(["status", "logs", "telemetry"]));
    for dead in [&*first, "", "unknown", &first[1..]] {
        assert_eq!(Follower::with_ticket(&host, dead).await.err().unwrap().0, 401, "{dead}");
    }
    let foreign = ticket("test_page~plugin:read").await;
    let protocols = format!("bkg.v1, bkg.ticket.{foreign}");
    let headers = [("sec-websocket-protocol", &*protocols), ("origin", "http://evil.example")];
    assert_eq!(Follower::open(host.api_port(), "/ws", &headers).await.err().unwrap().0, 403);
    assert!(Follower::with_ticket(&host, &foreign).await.is_ok(), "the refused one did not use it up");

    let second = ticket("test_page~plugin:read").await;
    let other = Follower::with_key(&host, "test_other~plugin:read").await;
    let revoked = host.invoke("otherauth", "otherauth.revoke", json!({ "keyId": "test_page" })).await;
    assert_eq!(revoked.status, 200, "{}", revoked.text);
    let closing = tokio::time::timeout(Duration::from_secs(5), follower.closed());
    assert_eq!(closing.await.expect("within the bound of open streams").0, 4401);
    assert_eq!(Follower::with_ticket(&host, &second).await.err().unwrap().0, 401);
    let mut other = other;
    assert!(other.is_quiet().await, "nobody else is disturbed");
}

#[tokio::test]
async fn a_socket_keeps_its_connections_place_until_it_ends() {
    // Every listener keeps one place for whoever comes next, and there may be one for IPv6 too.
    let places = if std::net::TcpListener::bind("[::1]:0").is_ok() { 3 } else { 2 };
    let host = misbehave().config(&format!("limits.connections = {places}")).start().await;
    let mut first = Follower::root(&host).await;
    let mut second = Follower::root(&host).await;
    let mut request = Box::pin(host.get("/health"));
    // The sockets are served many times over while there is no place for another connection.
    let others = async {
        for _ in 0..50 {
            assert!(first.is_quiet().await && second.is_quiet().await);
        }
    };
    tokio::select! {
        _ = &mut request => panic!("both places are taken"),
        () = others => {}
    }
    drop(second);
    assert_eq!(request.await.status, 200);
}

#[tokio::test]
async fn a_stop_ends_sockets_with_a_word_and_does_not_wait_for_those_who_do_not_read() {
    let host = misbehave().start().await;
    let mut follower = Follower::root(&host).await;
    follower.follow(json!({ "topic": "logs" })).await;
    let mut idle = not_reading(&host).await;
    idle.follow(json!({ "topic": "logs" })).await;
    for _ in 0..20 {
        log(&host, 100, &"x".repeat(4_000));
        let newest = newest(&host);
        while seqs(&follower.next().await).last() != Some(&newest) {}
    }
    let (closed, ()) = tokio::join!(follower.closed(), host.stop());
    assert_eq!(closed, (1001, "the host stops".to_owned()));
}
