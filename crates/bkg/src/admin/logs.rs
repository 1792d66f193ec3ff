//! `GET /admin/plugins/{name}/logs`: a page of lines as JSON, or all that comes as events.
//!
//! `?tail=` asks for the last lines, `?since=` for those after a sequence number, `?level=` leaves
//! out what matters less. With `Accept: text/event-stream` the page comes first and the stream goes
//! on from it without a hole; an event's id is the line's number, so a client resumes by itself.

use std::convert::Infallible;
use std::sync::Arc;

use axum::body::Body;
use axum::response::{IntoResponse, Response};
use bkg_protocol::PluginName;
use bkg_protocol::message::LogLevel;
use futures_util::stream;
use http::header;
use schemars::JsonSchema;
use serde::Serialize;
use serde_json::json;

use super::Admin;
use super::plugins::known;
use crate::auth::Caller;
use crate::error::Problem;
use crate::logs::{Followed, LogLine, LogPage, Logs, Subscription};
use crate::web::{Call, KEEP_ALIVE, KEEP_ALIVE_AFTER, event_headers};

const DEFAULT_TAIL: usize = 200;

/// A page of lines.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "LogLines")]
pub(super) struct Lines<'a> {
    lines: Vec<&'a LogLine>,
    /// How many lines before the first one are no longer kept, of those that were asked for.
    missing: u64,
}

/// What a request asks for.
struct Wanted {
    plugin: PluginName,
    since: Option<u64>,
    tail: usize,
    least: LogLevel,
}

pub(super) async fn read(admin: Arc<Admin>, call: Call, _: Body) -> Result<Response, Problem> {
    let record = known(&admin, &call.param("name")?)?;
    let wanted = Wanted {
        plugin: record.entry.name.clone(),
        since: match resumed_from(&call) {
            Some(seq) => Some(seq),
            None => number(&call, "since")?,
        },
        tail: number(&call, "tail")?.map_or(DEFAULT_TAIL, |count| count as usize),
        least: level(&call)?,
    };
    let accepts_events = call
        .parts
        .headers
        .get(header::ACCEPT)
        .and_then(|accept| accept.to_str().ok())
        .is_some_and(|accept| accept.contains("text/event-stream"));
    let page = page(&admin.logs, &wanted).await;
    if accepts_events {
        let after = match page.lines.last() {
            Some(line) => line.seq,
            None => newest(&admin.logs, &wanted.plugin).await,
        };
        return Ok(follow(&admin, call.caller, wanted, page, after));
    }
    let lines = page.lines.iter().map(|line| &**line).filter(|line| line.level >= wanted.least).collect();
    Ok(axum::Json(Lines { lines, missing: page.missing }).into_response())
}

async fn page(logs: &Logs, wanted: &Wanted) -> LogPage {
    match wanted.since {
        Some(seq) => logs.since(&wanted.plugin, seq, usize::MAX).await,
        None => logs.tail(&wanted.plugin, wanted.tail).await,
    }
}

/// The number of the newest line, after which the stream of a page without lines goes on.
async fn newest(logs: &Logs, plugin: &PluginName) -> u64 {
    logs.tail(plugin, 1).await.lines.last().map_or(0, |line| line.seq)
}

fn follow(admin: &Admin, caller: Caller, wanted: Wanted, page: LogPage, after: u64) -> Response {
    let mut first = String::new();
    if page.missing > 0 {
        first.push_str(&gap(page.missing));
    }
    for line in page.lines.iter().filter(|line| line.level >= wanted.least) {
        first.push_str(&event(line));
    }
    // An empty page still opens the stream at once.
    first.push_str(KEEP_ALIVE);
    let subscription = admin.logs.subscribe_after(&wanted.plugin, after);
    let state = (Some(first), subscription, wanted.least, admin.stopping.clone(), caller);
    let events = stream::unfold(state, async |(first, mut subscription, least, stopping, caller)| {
        let text = match first {
            Some(first) => first,
            None => tokio::select! {
                () = caller.revoked() => return None,
                text = stopping.run_until_cancelled(next(&mut subscription, least)) => text??,
            },
        };
        Some((Ok::<_, Infallible>(text), (None, subscription, least, stopping, caller)))
    });
    let mut response = Body::from_stream(events).into_response();
    event_headers(response.headers_mut());
    response
}

/// The next event, or a comment where nothing comes for a while; `None` when the host stops.
async fn next(subscription: &mut Subscription, least: LogLevel) -> Option<String> {
    loop {
        match tokio::time::timeout(KEEP_ALIVE_AFTER, subscription.next()).await {
            Err(_) => return Some(KEEP_ALIVE.to_owned()),
            Ok(None) => return None,
            Ok(Some(Followed::Line(line))) if line.level >= least => return Some(event(&line)),
            Ok(Some(Followed::Line(_))) => {}
            Ok(Some(Followed::Gap { lines })) => return Some(gap(lines)),
        }
    }
}

fn event(line: &LogLine) -> String {
    format!("id: {}\nevent: line\ndata: {}\n\n", line.seq, json!(line))
}

fn gap(lines: u64) -> String {
    format!("event: gap\ndata: {}\n\n", json!({ "lines": lines }))
}

/// What a browser or another client of events says when it comes back.
fn resumed_from(call: &Call) -> Option<u64> {
    call.parts.headers.get("last-event-id")?.to_str().ok()?.parse().ok()
}

pub(super) fn number(call: &Call, name: &str) -> Result<Option<u64>, Problem> {
    let Some(text) = call.query(name)? else { return Ok(None) };
    text.parse()
        .map(Some)
        .map_err(|_| Problem::invalid(format!("`{name}` is `{text}`: use a whole number")).param(name))
}

fn level(call: &Call) -> Result<LogLevel, Problem> {
    let Some(text) = call.query("level")? else { return Ok(LogLevel::Trace) };
    LogLevel::parse(&text).ok_or_else(|| {
        Problem::invalid(format!("`level` is `{text}`: use trace, debug, info, warn or error"))
            .param("level")
    })
}
