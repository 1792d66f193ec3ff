//! `bkg logs`: a page of a plugin's log or of all, the log as it grows, or a file of it.
//!
//! The invariant: no line is shown twice, and what is missing is said. Following survives a broken
//! connection, since lines are numbered; it ends when the daemon does, and that is an error, because
//! nobody asked for it.

use std::io::{self, Write};
use std::path::Path;
use std::time::Duration;

use bkg_protocol::PluginName;
use bkg_protocol::message::LogLevel;
use jiff::Timestamp;
use serde::Deserialize;
use serde_json::{Value, json};

use super::Verdict;
use super::client::Client;
use super::error::CliError;
use super::events::Event;
use super::logs_arguments::{LogsRequest, Since};
use super::output::{Output, Paint, harmless};
use super::route::asking;
use super::target::Target;
use super::time::moment;
use crate::logs::{LogLine, LogStream};

/// How long to wait before a stream is opened again that ended without a single line.
const PAUSE: Duration = Duration::from_secs(1);

/// The most lines that the daemon gives at once.
const LARGEST_PAGE: u64 = 10_000;
/// How many lines are shown where nothing says how many: as many as the daemon gives by itself.
const SHOWN: u64 = 200;

#[derive(Deserialize)]
struct Page {
    lines: Vec<LogLine>,
    #[serde(default)]
    missing: u64,
    /// Where there may be more of what was asked for: the daemon looks at a part of a long log at once.
    next: Option<Next>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
enum Next {
    Since(Value),
    Before(Value),
}

/// From where on a log is read.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Place {
    Since(String),
    Before(String),
}

#[derive(Deserialize)]
struct Gap {
    lines: u64,
}

/// Whose lines are shown, which decides whether each says whose it is.
#[derive(Debug, Clone, Copy)]
enum Whose<'a> {
    One(&'a PluginName),
    All,
}

impl<'a> Whose<'a> {
    fn of(request: &'a LogsRequest) -> Self {
        request.name.as_ref().map_or(Self::All, Self::One)
    }

    fn path(self) -> String {
        match self {
            Self::One(name) => format!("/admin/plugins/{name}/logs"),
            Self::All => "/admin/logs".to_owned(),
        }
    }
}

/// Shows what was asked for.
pub(super) fn print(
    target: &Target,
    request: &LogsRequest,
    output: &mut Output,
) -> Result<Verdict, CliError> {
    if let Some(file) = &request.download {
        return download(target, request, file, output);
    }
    if request.follow {
        return follow(target, request, output);
    }
    pages(target, request, output)?;
    Ok(Verdict::Reached)
}

/// Shows lines of the past, in as many pages as it takes.
fn pages(target: &Target, request: &LogsRequest, output: &mut Output) -> Result<(), CliError> {
    let (whose, now, client) = (Whose::of(request), Timestamp::now(), Client::find(target)?);
    let mut place = line_of(request);
    // Since a moment all is wanted, unless somebody says how much.
    let is_since_a_moment = matches!(request.since, Some(Since::Moment(_)));
    let most = request.tail.unwrap_or(if is_since_a_moment { u64::MAX } else { SHOWN });
    let (mut older, mut count) = (Vec::new(), 0_u64);
    loop {
        let says_how_many = request.tail.is_some() || is_since_a_moment || place.is_some();
        let tail = says_how_many.then(|| most.saturating_sub(count).min(LARGEST_PAGE));
        let answer = client.get(&path(request, &whose.path(), place.as_ref(), tail, now))?;
        if output.wants_json() {
            // One page as the daemon gave it, which says where the next one begins.
            return output.json(&answer.body);
        }
        let mut page: Page = answer.read()?;
        count = count.saturating_add(page.lines.len() as u64);
        match page.next.take() {
            Some(Next::Since(after)) => {
                show_page(&page, whose, output)?;
                place = Some(Place::Since(text(&after)));
            }
            Some(Next::Before(before)) if count < most => {
                older.push(page);
                place = Some(Place::Before(text(&before)));
            }
            _ => {
                older.push(page);
                break;
            }
        }
    }
    for page in older.iter().rev() {
        show_page(page, whose, output)?;
    }
    if count == 0 {
        let of = request.name.as_ref().map(|name| format!(" of {name}")).unwrap_or_default();
        output.remark(&format!("no such lines{of}"));
    }
    Ok(())
}

fn show_page(page: &Page, whose: Whose<'_>, output: &mut Output) -> Result<(), CliError> {
    show_gap(page.missing, output)?;
    page.lines.iter().try_for_each(|line| show(line, whose, output))
}

/// A place as the daemon wrote it: a number, or a text with a number for each plugin.
fn text(place: &Value) -> String {
    place.as_str().map_or_else(|| place.to_string(), str::to_owned)
}

fn follow(target: &Target, request: &LogsRequest, output: &mut Output) -> Result<Verdict, CliError> {
    output.end_with_reader()?;
    let whose = Whose::of(request);
    // What `10m` means does not move on while it is followed.
    let now = Timestamp::now();
    let (mut line, mut id) = (line_of(request), None::<String>);
    loop {
        let address = path(request, &whose.path(), line.as_ref(), request.tail, now);
        let events = Client::find(target)?.events(&address, id.as_deref())?;
        let mut was_silent = true;
        // A connection that breaks is one that ended: whether the daemon is still there shows next.
        for event in events.map_while(Result::ok) {
            if let Some(seq) = take(&event, whose, output)? {
                was_silent = false;
                match whose {
                    Whose::One(_) => line = Some(Place::Since(seq.to_string())),
                    Whose::All => id = event.id,
                }
            }
        }
        if was_silent {
            std::thread::sleep(PAUSE);
        }
    }
}

/// Shows an event; the number of its line, if it is one.
fn take(event: &Event, whose: Whose<'_>, output: &mut Output) -> Result<Option<u64>, CliError> {
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
                show(&line, whose, output)?;
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

fn download(
    target: &Target,
    request: &LogsRequest,
    file: &Path,
    output: &mut Output,
) -> Result<Verdict, CliError> {
    let format = [("format", Some(request.format.as_str().to_owned()))];
    let address = asking(&format!("{}/download", Whose::of(request).path()), format);
    let address = path(request, &address, line_of(request).as_ref(), None, Timestamp::now());
    let client = Client::find(target)?;
    if file == Path::new("-") {
        client.download(&address, &mut output.answers(), CliError::of_output)?;
        return Ok(Verdict::Reached);
    }
    let failed = |source: io::Error| CliError::File { action: "write", path: file.to_owned(), source };
    let directory = file.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    // Beside its place until it is whole: a download that broke leaves what was there.
    let mut part = tempfile::NamedTempFile::new_in(directory).map_err(failed)?;
    let bytes = client.download(&address, &mut part, failed)?;
    part.flush().map_err(failed)?;
    part.persist(file).map_err(|error| failed(error.error))?;
    if output.wants_json() {
        output.json(&json!({ "bytes": bytes, "file": file }).to_string())?;
    } else {
        output.text(&harmless(&format!("{bytes} bytes are in {}", file.display())))?;
    }
    Ok(Verdict::Reached)
}

fn line_of(request: &LogsRequest) -> Option<Place> {
    match request.since {
        Some(Since::Line(line)) => Some(Place::Since(line.to_string())),
        _ => None,
    }
}

/// The address with all that was asked for, from a place on; what comes after one is not counted.
fn path(
    request: &LogsRequest,
    address: &str,
    place: Option<&Place>,
    tail: Option<u64>,
    now: Timestamp,
) -> String {
    let LogsRequest { level, since, until, text, regex, run, stream, .. } = request;
    let from = match since {
        Some(Since::Moment(when)) => Some(when.resolved(now).to_string()),
        _ => None,
    };
    let (after, before) = match place {
        Some(Place::Since(after)) => (Some(after.clone()), None),
        Some(Place::Before(before)) => (None, Some(before.clone())),
        None => (None, None),
    };
    let parameters = [
        ("tail", tail.filter(|_| after.is_none()).map(|tail| tail.to_string())),
        ("since", after),
        ("before", before),
        ("level", level.map(|level| level.as_str().to_owned())),
        ("text", text.clone()),
        ("regex", regex.clone()),
        ("run", run.clone()),
        ("stream", stream.clone()),
        ("from", from),
        ("to", until.map(|until| until.resolved(now).to_string())),
    ];
    let question = asking("", parameters);
    match (address.contains('?'), question.strip_prefix('?')) {
        (true, Some(rest)) => format!("{address}&{rest}"),
        _ => format!("{address}{question}"),
    }
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

fn show(line: &LogLine, whose: Whose<'_>, output: &mut Output) -> Result<(), CliError> {
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
    let plugin = match whose {
        Whose::One(_) => String::new(),
        Whose::All => format!("{:12} ", line.plugin.as_str()),
    };
    let mut text = format!("{} {level} {plugin}{stream:6} {}", moment(line.time), harmless(&line.message));
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
        let name = Some("ping".parse().unwrap());
        LogsRequest { name, follow, tail: Some(5), ..LogsRequest::default() }
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
        let now = "2026-01-31T12:00:00Z".parse().unwrap();
        let warnings = LogsRequest { tail: None, level: Some(LogLevel::Warn), ..request(false) };
        let plain = LogsRequest { tail: None, ..request(false) };
        let everything = LogsRequest {
            since: Some("10m".parse().unwrap()),
            until: Some("2026-01-31T11:59:00Z".parse().unwrap()),
            text: Some("a b".into()),
            regex: Some("^x+".into()),
            run: Some("i".into()),
            ..request(false)
        };
        let (since, before) = (Place::Since("7".into()), Place::Before("a 7".into()));
        for (request, place, question) in [
            (&request(false), None, "?tail=5"),
            (&request(false), Some(&since), "?since=7"),
            (&request(false), Some(&before), "?tail=5&before=a%207"),
            (&warnings, Some(&since), "?since=7&level=warn"),
            (&plain, None, ""),
            (
                &everything,
                None,
                "?tail=5&text=a%20b&regex=%5Ex%2B&run=i&from=2026-01-31T11%3A50%3A00Z&to=2026-01-31T11%3A59%3A00Z",
            ),
        ] {
            assert_eq!(path(request, "/logs", place, request.tail, now), format!("/logs{question}"));
        }
        assert_eq!(path(&warnings, "/l?format=text", None, None, now), "/l?format=text&level=warn");
        assert_eq!(path(&plain, "/l?format=text", None, None, now), "/l?format=text");
    }

    #[test]
    fn a_long_log_is_read_in_pieces_until_there_is_enough() {
        let page = |seqs: &[u64], next: &str| {
            let lines: Vec<String> = seqs.iter().map(|seq| line(*seq)).collect();
            answer("200 OK", &format!(r#"{{"lines":[{}],"missing":0{next}}}"#, lines.join(",")))
        };
        let pages = vec![
            page(&[7, 8], r#","next":{"before":5}"#),
            page(&[], r#","next":{"before":"ping:3"}"#),
            page(&[1, 2], ""),
        ];
        let daemon = ScriptedDaemon::start(pages);
        let mut output = Output::captured(false);
        print(&daemon.target(), &request(false), &mut output).unwrap();
        let written = output.written();
        let numbers: Vec<&str> = written.lines().filter_map(|line| line.split(' ').nth(5)).collect();
        assert_eq!(numbers, ["1", "2", "7", "8"], "{written}");
        let questions = ["tail=5", "tail=3&before=5", "tail=3&before=ping%3A3"];
        for (request, question) in daemon.requests().iter().zip(questions) {
            assert!(
                request.starts_with(&format!("GET /admin/plugins/ping/logs?{question} HTTP")),
                "{request}"
            );
        }
    }

    #[test]
    fn lines_of_all_plugins_say_whose_they_are() {
        let body = format!(r#"{{"lines":[{}]}}"#, line(2));
        let daemon = ScriptedDaemon::start(vec![answer("200 OK", &body)]);
        let mut output = Output::captured(false);
        let all = LogsRequest { all: true, ..LogsRequest::default() };
        print(&daemon.target(), &all, &mut output).unwrap();
        assert_eq!(
            output.written(),
            "2026-01-02T03:04:05.600Z warn  ping         stderr line 2 {\"n\":2}\n"
        );
        assert!(daemon.requests()[0].starts_with("GET /admin/logs HTTP/1.1\r\n"));
    }

    #[test]
    fn following_all_goes_on_after_the_last_event() {
        let answers = vec![stream(&event(1)), stream(&event(2))];
        let daemon = ScriptedDaemon::start(answers);
        let all = LogsRequest { all: true, follow: true, ..LogsRequest::default() };
        print(&daemon.target(), &all, &mut Output::captured(true)).unwrap_err();
        let requests = daemon.requests();
        assert!(!requests[0].contains("last-event-id"), "{}", requests[0]);
        assert!(requests[1].contains("last-event-id: 1\r\n"), "{}", requests[1]);
    }

    #[test]
    fn a_download_is_in_its_place_when_it_is_whole() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("ping.log");
        std::fs::write(&file, "before").unwrap();
        let wanted = LogsRequest { tail: None, download: Some(file.clone()), ..request(false) };
        let whole = answer("200 OK", "a\nb\n");
        for (reply, is_whole, content) in
            [(whole.replace("length: 4", "length: 9"), false, "before"), (whole.clone(), true, "a\nb\n")]
        {
            let daemon = ScriptedDaemon::start(vec![reply]);
            let mut output = Output::captured(false);
            let result = print(&daemon.target(), &wanted, &mut output);
            assert_eq!(
                (result.is_ok(), std::fs::read_to_string(&file).unwrap().as_str()),
                (is_whole, content)
            );
            assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 1);
            let head = "GET /admin/plugins/ping/logs/download?format=text HTTP/1.1\r\n";
            assert!(daemon.requests()[0].starts_with(head));
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
