//! The logs of plugins over HTTP: runs and their ends, filters, pages, streams that are resumed, downloads,
//! and all plugins' logs as one.

use std::collections::BTreeMap;
use std::fs;

use bkg::registry::State;
use http::{Method, Request};
use http_body_util::{BodyExt, Full};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};
use tokio::time::timeout;

use crate::host::{Connected, PATIENCE, TestHost};

const LOGS: &str = "/admin/plugins/misbehave/logs";

/// A daemon with `misbehave` running, whose logs are bounded only by the lines in memory.
async fn roomy(ring_lines: usize) -> TestHost {
    let host = TestHost::builder()
        .plugin("misbehave")
        .config(&format!("logs.lines_per_second = 1000000\nlogs.ring_lines = {ring_lines}"))
        .start()
        .await;
    host.start_plugin("misbehave").await;
    host
}

fn seqs(lines: &Value) -> Vec<u64> {
    lines.as_array().unwrap().iter().map(|line| line["seq"].as_u64().unwrap()).collect()
}

/// A query for a value that has to be encoded.
fn encoded(text: &str) -> String {
    text.bytes().map(|byte| format!("%{byte:02x}")).collect()
}

/// All pages of one plugin, forwards.
async fn all_lines(host: &TestHost, path: &str, filter: &str) -> Vec<Value> {
    let (mut since, mut lines) = (json!(0), Vec::new());
    loop {
        let since_text = since.as_str().map_or_else(|| since.to_string(), str::to_owned);
        let start = if since == json!(0) && path == "/admin/logs" { "misbehave:0" } else { &since_text };
        let page = host.get(&format!("{path}?since={start}{filter}")).await.json();
        assert_eq!(page["missing"], 0, "{page}");
        lines.extend(page["lines"].as_array().unwrap().iter().cloned());
        match page.get("next") {
            Some(next) => since = next["since"].clone(),
            None => return lines,
        }
    }
}

/// An open stream of events, kept alive by comments.
struct Stream {
    connection: Connected,
    text: String,
}

/// One event: its id, its kind, its data.
#[derive(Debug)]
struct Event {
    id: Option<String>,
    kind: String,
    data: Value,
}

impl Stream {
    async fn open(host: &TestHost, path: &str, last_event_id: Option<&str>) -> Self {
        let mut request = host.request(Method::GET, path, None);
        request.headers_mut().insert("accept", "text/event-stream".parse().unwrap());
        if let Some(id) = last_event_id {
            request.headers_mut().insert("last-event-id", id.parse().unwrap());
        }
        let response = host.open(request).await;
        assert_eq!(response.status(), 200);
        assert_eq!(response.headers()["content-type"], "text/event-stream");
        Self { connection: response.into_body(), text: String::new() }
    }

    /// The next event with data; `None` at the end of the stream.
    async fn next(&mut self) -> Option<Event> {
        timeout(PATIENCE, self.read_event()).await.expect("an event in time")
    }

    async fn read_event(&mut self) -> Option<Event> {
        loop {
            while let Some((event, rest)) = self.text.split_once("\n\n") {
                let field = |name: &str| {
                    let start = format!("{name}: ");
                    event.lines().find_map(|line| line.strip_prefix(&start)).map(str::to_owned)
                };
                let found = field("data").map(|data| Event {
                    id: field("id"),
                    kind: field("event").unwrap(),
                    data: serde_json::from_str(&data).unwrap(),
                });
                self.text = rest.to_owned();
                if found.is_some() {
                    return found;
                }
            }
            let frame = self.connection.body.frame().await?.unwrap();
            self.text.push_str(std::str::from_utf8(frame.data_ref().unwrap()).unwrap());
        }
    }

    async fn line(&mut self) -> Event {
        let event = self.next().await.expect("the stream goes on");
        assert_eq!(event.kind, "line", "{event:?}");
        event
    }
}

#[tokio::test]
async fn every_line_of_a_launch_names_its_run_and_a_run_begins_and_ends_with_a_line() {
    let host = TestHost::with_misbehave().await;
    let first = host.host().registry.plugin("misbehave").unwrap().instances[0].id;
    host.ask("test.flood_logs", json!({ "lines": 3 })).await;
    host.ask("test.flood_logs", json!({ "lines": 3, "stderr": true })).await;
    kill(Pid::from_raw(host.pid("misbehave")), Signal::SIGKILL).unwrap();
    let second = host
        .until(|view| {
            let instance = view.plugin("misbehave")?.instances.first()?;
            (instance.id != first).then_some(instance.id)
        })
        .await;
    host.post("/admin/plugins/misbehave/stop?wait=30", json!({})).await;
    host.until_state("misbehave", State::Stopped).await;

    let all = all_lines(&host, LOGS, "").await;
    assert!(all.iter().all(|line| line["instance"].is_string()), "{all:?}");
    let killed = |signal: i32| json!({ "kind": "killed", "signal": signal, "dumpedCore": false, "memoryRanOut": false });
    // Whoever has drained leaves by itself, or is told to while it is at it.
    let drained = vec![json!({ "kind": "exited", "code": 0 }), killed(15)];
    for (run, exits) in [(first, vec![killed(9)]), (second, drained)] {
        let lines = all_lines(&host, LOGS, &format!("&run={run}")).await;
        let own: Vec<_> = all.iter().filter(|line| line["instance"] == run.to_string()).cloned().collect();
        assert_eq!(lines, own);
        let (start, end) = (&lines[0], &lines[lines.len() - 1]);
        assert_eq!((&start["stream"], &start["fields"]["event"]), (&json!("host"), &json!("run-started")));
        assert_eq!(start["fields"]["program"], "start.sh");
        assert!(start["fields"]["pid"].is_u64());
        let endings = exits.iter().map(|exit| json!({ "event": "run-ended", "exit": exit }));
        assert!(endings.into_iter().any(|ending| end["fields"] == ending), "{end}");
    }
    let streams: Vec<_> = all.iter().map(|line| line["stream"].as_str().unwrap()).collect();
    assert!(streams.contains(&"bus") && streams.contains(&"stderr"), "{streams:?}");
    assert_eq!(seqs(&json!(all)), (1..=all.len() as u64).collect::<Vec<_>>(), "one order for all");
}

#[tokio::test]
async fn a_run_that_ended_with_its_host_is_ended_in_the_log_by_the_next_one() {
    let host = TestHost::with_misbehave().await;
    let run = host.host().registry.plugin("misbehave").unwrap().instances[0].id.to_string();
    let ledger = host.data_dir().join("ledger");
    let entry = fs::read_dir(&ledger).unwrap().next().unwrap().unwrap().path();
    let text = fs::read(&entry).unwrap();
    host.ask("test.flood_logs", json!({ "lines": 3 })).await;
    let lost = ledger.join(entry.file_name().unwrap());
    let host = host.restart_after(move || fs::write(lost, text).unwrap()).await;
    let lines = all_lines(&host, LOGS, &format!("&run={run}")).await;
    assert_eq!(lines.last().unwrap()["fields"], json!({ "event": "run-ended", "exit": null }));
}

#[tokio::test]
async fn a_filter_counts_before_the_tail_does() {
    let host = roomy(100).await;
    host.ask("test.flood_logs", json!({ "lines": 1_000, "size": 3 })).await;
    let page = host.get(&format!("{LOGS}?tail=5&regex={}", encoded("^\\d+7 x+$"))).await.json();
    let messages: Vec<_> =
        page["lines"].as_array().unwrap().iter().map(|line| line["message"].as_str().unwrap()).collect();
    assert_eq!(messages, ["957 xxx", "967 xxx", "977 xxx", "987 xxx", "997 xxx"]);
    assert_eq!(page["missing"], 0);
    let before = page["next"]["before"].as_u64().unwrap();
    let page = host.get(&format!("{LOGS}?tail=1&text=7%20X&before={before}")).await.json();
    assert_eq!(page["lines"][0]["message"], "947 xxx");
    let page = host.get(&format!("{LOGS}?tail=5&level=info&stream=host")).await.json();
    assert_eq!(page["lines"][0]["fields"]["event"], "run-started");
    let nothing = host.get(&format!("{LOGS}?tail=5&level=error")).await.json();
    assert_eq!((&nothing["lines"], nothing.get("next")), (&json!([]), None), "all was looked at");

    let all = all_lines(&host, LOGS, "").await;
    let time = |index: usize| all[index]["time"].as_str().unwrap().to_owned();
    let page = host.get(&format!("{LOGS}?since=0&from={}&to={}", time(400), time(499))).await.json();
    let within = |line: &&Value| {
        let at = |text: &str| text.parse::<jiff::Timestamp>().unwrap();
        (at(&time(400))..=at(&time(499))).contains(&at(line["time"].as_str().unwrap()))
    };
    assert_eq!(page["lines"], json!(all.iter().filter(within).collect::<Vec<_>>()));
}

#[tokio::test]
async fn what_cannot_be_asked_for_is_refused_by_name() {
    let host = TestHost::builder().plugin("misbehave").start().await;
    let long = format!("text={}", "x".repeat(1_025));
    for (path, query, param) in [
        (LOGS, "level=loud", "level"),
        (LOGS, "stream=pipe", "stream"),
        (LOGS, "run=latest", "run"),
        (LOGS, "from=yesterday", "from"),
        (LOGS, "to=1", "to"),
        (LOGS, "regex=(a", "regex"),
        (LOGS, "regex=((a{100}){100}){100}", "regex"),
        (LOGS, long.as_str(), "text"),
        (LOGS, "tail=-1", "tail"),
        (LOGS, "since=x", "since"),
        (LOGS, "since=1&before=9", "before"),
        ("/admin/logs", "since=7", "since"),
        ("/admin/plugins/misbehave/logs/download", "format=pdf", "format"),
        ("/admin/plugins/misbehave/logs/download", "tail=5", "tail"),
        ("/admin/plugins/misbehave/logs/download", "regex=*", "regex"),
    ] {
        let query = query.split('&').map(|pair| {
            let (name, value) = pair.split_once('=').unwrap();
            format!("{name}={}", encoded(value))
        });
        let path = format!("{path}?{}", query.collect::<Vec<_>>().join("&"));
        let reply = host.get(&path).await;
        assert_eq!((reply.status.as_u16(), reply.code().as_str()), (400, "invalid_request"), "{path}");
        assert_eq!(reply.json()["error"]["param"], param, "{path}");
    }
    let unknown = host.get("/admin/logs?plugin=misbehave&plugin=nobody").await;
    assert_eq!((unknown.status.as_u16(), unknown.json()["error"]["param"].clone()), (404, json!("plugin")));
    let empty = host.get(&format!("{LOGS}?level=&text=&regex=&run=&from=&to=&stream=&since=&tail=")).await;
    assert_eq!(empty.json()["lines"], json!([]), "what is empty was not asked for");
}

#[tokio::test]
async fn a_stream_that_breaks_again_and_again_gives_what_the_log_has() {
    let host = roomy(64).await;
    let flood = host.ask("test.flood_logs", json!({ "lines": 2_000 }));
    let read = async {
        let mut received = Vec::new();
        let mut last_id: Option<String> = None;
        // Every connection is left after another number of lines, in the middle of what was sent.
        for length in (1..).map(|turn| 1 + turn * 37 % 90) {
            let path = format!("{LOGS}?tail=0&stream=bus&since=0");
            let mut stream = Stream::open(&host, &path, last_id.as_deref()).await;
            for _ in 0..length {
                let event = stream.line().await;
                assert_eq!(event.id.as_deref(), Some(event.data["seq"].to_string().as_str()));
                last_id = event.id;
                received.push(event.data);
                if received.len() == 2_000 {
                    return received;
                }
            }
            stream.connection.leave();
        }
        unreachable!("the turns have no end")
    };
    let (_, received) = tokio::join!(flood, read);
    assert_eq!(received, all_lines(&host, LOGS, "&stream=bus").await);
    assert!(
        received
            .iter()
            .enumerate()
            .all(|(number, line)| { line["message"].as_str().unwrap().starts_with(&format!("{number} ")) })
    );
}

#[tokio::test]
async fn a_stream_says_what_is_no_longer_kept() {
    let host = roomy(10).await;
    host.ask("test.flood_logs", json!({ "lines": 200 })).await;
    let last = host.get(&format!("{LOGS}?tail=1")).await.json()["reached"].as_u64().unwrap();
    // The files are written by now, and somebody removes them.
    let files = host.data_dir().join("plugins/misbehave/logs");
    all_lines(&host, LOGS, "").await;
    for file in fs::read_dir(files).unwrap() {
        fs::remove_file(file.unwrap().path()).unwrap();
    }
    let mut stream = Stream::open(&host, &format!("{LOGS}?since=0"), None).await;
    let gap = stream.next().await.unwrap();
    assert_eq!((gap.kind.as_str(), &gap.data), ("gap", &json!({ "lines": last - 10 })));
    assert_eq!(stream.line().await.data["seq"], last - 9);
}

#[tokio::test]
async fn a_stream_ends_with_the_right_to_read_it() {
    let host = TestHost::builder().plugin("misbehave").bundled("apikeys", &json!({})).start().await;
    host.start_plugin("apikeys").await;
    host.start_plugin("misbehave").await;
    let made = host.post("/admin/keys", json!({ "user": "admin", "scopes": ["plugin:read"] })).await;
    assert_eq!(made.status, 201, "{}", made.text);
    let (id, secret) = (made.json()["id"].clone(), made.json()["key"].clone());
    let opened = |path: &str| {
        Request::builder()
            .uri(path)
            .header("host", "localhost")
            .header("accept", "text/event-stream")
            .header("authorization", format!("Bearer {}", secret.as_str().unwrap()))
            .body(Full::default())
            .unwrap()
    };
    let mut streams = Vec::new();
    for path in [LOGS, "/admin/logs"] {
        let response = host.open(opened(path)).await;
        assert_eq!(response.status(), 200);
        streams.push(Stream { connection: response.into_body(), text: String::new() });
    }
    let path = format!("/admin/keys/{}", id.as_str().unwrap());
    let reply = host.send_request(host.request(Method::DELETE, &path, None)).await;
    assert!(reply.status.is_success(), "{}", reply.text);
    for mut stream in streams {
        while stream.next().await.is_some() {}
    }
}

#[tokio::test]
async fn a_download_is_what_the_pages_are() {
    let host = roomy(50).await;
    host.ask("test.flood_logs", json!({ "lines": 3_000, "size": 10 })).await;
    for filter in ["", "&text=7", "&level=warn", "&stream=bus&regex=99"] {
        let path = format!("{LOGS}/download?format=ndjson{filter}");
        let reply = host.get(&path).await;
        assert_eq!(reply.headers["content-type"], "application/x-ndjson");
        let disposition = reply.headers["content-disposition"].to_str().unwrap();
        assert!(disposition.starts_with("attachment; filename=\"misbehave-20"), "{disposition}");
        let lines: Vec<Value> =
            reply.text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert_eq!(lines, all_lines(&host, LOGS, filter).await, "{filter}");

        let text = host.get(&format!("{LOGS}/download?format=text{filter}")).await;
        assert_eq!(text.headers["content-type"], "text/plain; charset=utf-8");
        let texts: Vec<_> = text.text.lines().collect();
        assert_eq!(texts.len(), lines.len(), "{filter}");
        for (text, line) in texts.iter().zip(&lines) {
            assert!(text.starts_with(line["time"].as_str().unwrap()), "{text}");
            assert!(text.contains(line["message"].as_str().unwrap()), "{text}");
            assert!(text.contains(line["instance"].as_str().unwrap()), "{text}");
        }
    }
}

#[tokio::test]
async fn files_that_were_damaged_cost_the_lines_that_were_in_them() {
    let host = roomy(10).await;
    host.ask("test.flood_logs", json!({ "lines": 500 })).await;
    let whole = all_lines(&host, LOGS, "").await;
    let last = whole.last().unwrap()["seq"].as_u64().unwrap();
    let file = host.data_dir().join("plugins/misbehave/logs/00000000000000000001.jsonl");
    let text = fs::read(&file).unwrap();
    let lines: Vec<&[u8]> = text.split(|byte| *byte == b'\n').collect();
    // The beginning is garbage, a line in the middle is torn, and zeros stand behind it.
    let torn = [&[0xff; 700][..], b"\n", &lines[100..200].join(&b'\n'), b"\n{\"seq\":", &[0; 5_000], b"\n"];
    let rest = lines[300..].join(&b'\n');
    fs::write(&file, [&torn.concat()[..], &rest].concat()).unwrap();
    let page = host.get(&format!("{LOGS}?since=0")).await.json();
    let kept: Vec<u64> = (101..=200).chain(301..=last).collect();
    assert_eq!((seqs(&page["lines"]), &page["missing"]), (kept.clone(), &json!(200)));
    let page = host.get(&format!("{LOGS}?tail=1000")).await.json();
    assert_eq!((seqs(&page["lines"]), &page["missing"]), (kept, &json!(100)));
    let download = host.get(&format!("{LOGS}/download?format=ndjson")).await.text;
    assert!(download.contains("{\"missing\":"), "{download}");
}

/// A daemon with three plugins that have logged.
async fn three() -> TestHost {
    let host = TestHost::builder()
        .plugin("misbehave")
        .plugin_as("misbehave", "other", json!({}))
        .plugin_as("misbehave", "third", json!({}))
        .config("logs.lines_per_second = 1000000\nlogs.ring_lines = 20")
        .start()
        .await;
    for name in ["misbehave", "other", "third"] {
        host.start_plugin(name).await;
    }
    for turn in 0..5 {
        for name in ["misbehave", "other"] {
            let reply = host.invoke(name, "test.flood_logs", json!({ "lines": 10 + turn })).await;
            assert_eq!(reply.status, 200);
        }
    }
    host
}

/// Which plugin's line has which number, plugin by plugin.
fn by_plugin(lines: &[Value]) -> BTreeMap<String, Vec<u64>> {
    let mut plugins = BTreeMap::<_, Vec<_>>::new();
    for line in lines {
        let name = line["plugin"].as_str().unwrap().to_owned();
        plugins.entry(name).or_default().push(line["seq"].as_u64().unwrap());
    }
    plugins
}

#[tokio::test]
async fn all_logs_are_one_by_time_and_each_line_names_its_plugin() {
    let host = three().await;
    let all = all_lines(&host, "/admin/logs", "").await;
    let times: Vec<jiff::Timestamp> =
        all.iter().map(|line| line["time"].as_str().unwrap().parse().unwrap()).collect();
    assert!(times.is_sorted());
    let plugins = by_plugin(&all);
    assert_eq!(plugins.keys().collect::<Vec<_>>(), ["misbehave", "other", "third"]);
    for (name, numbers) in plugins {
        let own = all_lines(&host, &format!("/admin/plugins/{name}/logs"), "").await;
        assert_eq!(numbers, seqs(&json!(own)), "{name}");
    }

    let (mut before, mut backwards) = (String::new(), Vec::new());
    loop {
        let page = host.get(&format!("/admin/logs?tail=17{before}")).await.json();
        backwards.splice(0..0, page["lines"].as_array().unwrap().iter().cloned());
        let Some(next) = page.get("next") else { break };
        before = format!("&before={}", next["before"].as_str().unwrap());
    }
    assert_eq!(backwards, all);
    let some = all_lines(&host, "/admin/logs", "&plugin=other&plugin=third&stream=bus").await;
    assert_eq!(by_plugin(&some).keys().collect::<Vec<_>>(), ["other"]);
}

#[tokio::test]
async fn a_merged_stream_that_breaks_goes_on_where_it_was_for_each_plugin() {
    let host = three().await;
    let flood = async {
        for _ in 0..5 {
            for name in ["other", "third", "misbehave"] {
                assert_eq!(host.invoke(name, "test.flood_logs", json!({ "lines": 40 })).await.status, 200);
            }
        }
    };
    let read = async {
        let mut received = Vec::new();
        let mut last_id: Option<String> = None;
        for length in (1..).map(|turn| 1 + turn * 13 % 50) {
            let path = "/admin/logs?since=misbehave:0&stream=bus";
            let mut stream = Stream::open(&host, path, last_id.as_deref()).await;
            for _ in 0..length {
                let event = stream.line().await;
                last_id = event.id;
                received.push(event.data);
                if received.len() == 2 * (10 + 11 + 12 + 13 + 14) + 3 * 200 {
                    return received;
                }
            }
            stream.connection.leave();
        }
        unreachable!("the turns have no end")
    };
    let ((), received) = tokio::join!(flood, read);
    for (name, numbers) in by_plugin(&received) {
        let own = all_lines(&host, &format!("/admin/plugins/{name}/logs"), "&stream=bus").await;
        assert_eq!(numbers, seqs(&json!(own)), "{name}");
    }
}
