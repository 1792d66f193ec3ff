//! `bkg plugin logs`: a page of a plugin's log, or the log as it grows.
//!
//! The invariant: no line is shown twice, and what is missing is said. Following survives a broken
//! connection, since lines are numbered; it ends when the daemon does, and that is an error, because
//! nobody asked for it.

use std::time::Duration;

use bkg_protocol::message::LogLevel;
use serde::Deserialize;
use serde_json::json;

use super::Verdict;
use super::arguments::LogsRequest;
use super::client::Client;
use super::error::CliError;
use super::events::Event;
use super::output::{Output, Paint, harmless};
use super::target::Target;
use super::time::moment;
use crate::logs::{LogLine, LogStream};

/// How long to wait before a stream is opened again that ended without a single line.
const PAUSE: Duration = Duration::from_secs(1);

#[derive(Deserialize)]
struct Page {
    lines: Vec<LogLine>,
    #[serde(default)]
    missing: u64,
}

#[derive(Deserialize)]
struct Gap {
    lines: u64,
}

/// Shows what was asked for.
pub(super) fn print(
    target: &Target,
    request: &LogsRequest,
    output: &mut Output,
) -> Result<Verdict, CliError> {
    if request.follow {
        return follow(target, request, output);
    }
    let answer = Client::find(target)?.get(&path(request, request.since))?;
    if output.wants_json() {
        output.json(&answer.body)?;
        return Ok(Verdict::Reached);
    }
    let page: Page = answer.read()?;
    show_gap(page.missing, output)?;
    for line in &page.lines {
        show(line, output)?;
    }
    if page.lines.is_empty() {
        output.remark(&format!("no such lines of {}", request.name));
    }
    Ok(Verdict::Reached)
}

fn follow(target: &Target, request: &LogsRequest, output: &mut Output) -> Result<Verdict, CliError> {
    output.end_with_reader()?;
    let mut seen = request.since;
    loop {
        let events = Client::find(target)?.events(&path(request, seen))?;
        let before = seen;
        // A connection that breaks is one that ended: whether the daemon is still there shows next.
        for event in events.map_while(Result::ok) {
            if let Some(seq) = take(&event, output)? {
                seen = Some(seq);
            }
        }
        if seen == before {
            std::thread::sleep(PAUSE);
        }
    }
}

/// Shows an event; the number of its line, if it is one.
fn take(event: &Event, output: &mut Output) -> Result<Option<u64>, CliError> {
    let unreadable = |error: serde_json::Error| CliError::Unreadable {
        request: format!("the event `{}`", event.kind),
        reason: error.to_string(),
    };
    match event.kind.as_str() {
        "line" => {
            let line: LogLine = serde_json::from_str(&event.data).map_err(unreadable)?;
            if output.wants_json() {
                output.text(&event.data)?;
            } else {
                show(&line, output)?;
            }
            Ok(Some(line.seq))
        }
        "gap" => {
            let gap: Gap = serde_json::from_str(&event.data).map_err(unreadable)?;
            show_gap(gap.lines, output)?;
            Ok(None)
        }
        // What a newer daemon says besides.
        _ => Ok(None),
    }
}

fn path(request: &LogsRequest, since: Option<u64>) -> String {
    let LogsRequest { name, tail, level, .. } = request;
    let parameters = [
        since.map(|seq| format!("since={seq}")),
        tail.filter(|_| since.is_none()).map(|tail| format!("tail={tail}")),
        level.map(|level| format!("level={}", level.as_str())),
    ];
    let parameters: Vec<String> = parameters.into_iter().flatten().collect();
    let question = if parameters.is_empty() { "" } else { "?" };
    format!("/admin/plugins/{name}/logs{question}{}", parameters.join("&"))
}

fn show_gap(missing: u64, output: &mut Output) -> Result<(), CliError> {
    if missing == 0 {
        return Ok(());
    }
    if output.wants_json() {
        return output.text(&json!({ "missing": missing }).to_string());
    }
    let lines = if missing == 1 { "line is" } else { "lines are" };
    let text = output.painted(&format!("{missing} {lines} no longer kept"), Some(Paint::Dim));
    output.text(&text)
}

fn show(line: &LogLine, output: &mut Output) -> Result<(), CliError> {
    let paint = match line.level {
        LogLevel::Error => Some(Paint::Red),
        LogLevel::Warn => Some(Paint::Yellow),
        LogLevel::Debug | LogLevel::Trace => Some(Paint::Dim),
        LogLevel::Info => None,
    };
    let stream = match line.stream {
        LogStream::Bus => "bus",
        LogStream::Stdout => "stdout",
        LogStream::Stderr => "stderr",
        LogStream::Host => "host",
    };
    let level = output.painted(&format!("{:5}", line.level.as_str()), paint);
    let mut text = format!("{} {level} {stream:6} {}", moment(line.time), harmless(&line.message));
    if let Some(fields) = &line.fields {
        text.push(' ');
        text.push_str(&output.painted(&harmless(fields.as_str()), Some(Paint::Dim)));
    }
    output.text(&text)
}

#[cfg(test)]
mod tests {
    use super::super::client::tests::{ScriptedDaemon, answer};
    use super::*;

    fn request(follow: bool) -> LogsRequest {
        LogsRequest { name: "ping".parse().unwrap(), follow, tail: Some(5), since: None, level: None }
    }

    fn line(seq: u64) -> String {
        json!({
            "seq": seq, "time": "2026-01-02T03:04:05.6Z", "plugin": "ping", "level": "warn", "stream": "stderr",
            "message": format!("line {seq}"), "fields": {"n": seq},
        })
        .to_string()
    }

    fn stream(events: &str) -> String {
        format!("HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nconnection: close\r\n\r\n{events}")
    }

    fn event(seq: u64) -> String {
        format!("id: {seq}\nevent: line\ndata: {}\n\n", line(seq))
    }

    #[test]
    fn the_address_asks_for_what_was_asked_for() {
        let all = LogsRequest { tail: None, level: Some(LogLevel::Warn), ..request(false) };
        let plain = LogsRequest { tail: None, ..request(false) };
        for (request, since, address) in [
            (&request(false), None, "/admin/plugins/ping/logs?tail=5"),
            (&request(false), Some(7), "/admin/plugins/ping/logs?since=7"),
            (&all, Some(0), "/admin/plugins/ping/logs?since=0&level=warn"),
            (&plain, None, "/admin/plugins/ping/logs"),
        ] {
            assert_eq!(path(request, since), address);
        }
    }

    #[test]
    fn a_page_shows_what_is_missing_and_each_line() {
        let body = format!(r#"{{"lines":[{},{}],"missing":1}}"#, line(2), line(3));
        for (json, expected) in [
            (
                false,
                "1 line is no longer kept\n\
                 2026-01-02T03:04:05.600Z warn  stderr line 2 {\"n\":2}\n\
                 2026-01-02T03:04:05.600Z warn  stderr line 3 {\"n\":3}\n"
                    .to_owned(),
            ),
            (true, format!("{body}\n")),
        ] {
            let daemon = ScriptedDaemon::start(vec![answer("200 OK", &body)]);
            let mut output = Output::captured(json);
            print(&daemon.target(), &request(false), &mut output).unwrap();
            assert_eq!(output.written(), expected);
            daemon.requests();
        }
    }

    #[test]
    fn following_goes_on_after_the_last_line_when_the_connection_broke() {
        let first = stream(&format!(": keep-alive\n\n{}{}event: line\ndata: {{\"se", event(1), event(2)));
        let second =
            stream(&format!("event: gap\ndata: {{\"lines\":4}}\n\nevent: new\ndata: x\n\n{}", event(7)));
        let daemon = ScriptedDaemon::start(vec![first, second]);
        let mut output = Output::captured(true);
        // The daemon is gone after its second answer: that ends it, and is not hidden.
        let error = print(&daemon.target(), &request(true), &mut output).unwrap_err();
        assert!(matches!(error, CliError::NoDaemon { .. }), "{error:?}");
        assert_eq!(output.written(), format!("{}\n{}\n{{\"missing\":4}}\n{}\n", line(1), line(2), line(7)));
        let requests = daemon.requests();
        for (request, address) in requests.iter().zip(["tail=5", "since=2"]) {
            let head = format!("GET /admin/plugins/ping/logs?{address} HTTP/1.1\r\n");
            assert!(request.starts_with(&head), "{request}");
            assert!(request.contains("accept: text/event-stream\r\n"), "{request}");
        }
    }

    #[test]
    fn a_refused_stream_is_an_error() {
        let body = r#"{"error":{"message":"no such plugin","code":"not_found"}}"#;
        let daemon = ScriptedDaemon::start(vec![answer("404 Not Found", body)]);
        let error = print(&daemon.target(), &request(true), &mut Output::captured(false)).unwrap_err();
        assert_eq!(error.to_string(), "no such plugin");
        daemon.requests();
    }
}
