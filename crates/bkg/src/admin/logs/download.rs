//! `GET /admin/plugins/{name}/logs/download`: one plugin's log as a file, read from the disk as the
//! client takes it.
//!
//! It ends with the line that was the newest when it began. What is no longer kept is said where it is
//! missing. A download that cannot go on breaks off: it never looks whole.

use std::io;
use std::sync::Arc;

use axum::body::Body;
use axum::response::{IntoResponse, Response};
use bkg_protocol::PluginName;
use futures_util::stream;
use http::{HeaderName, HeaderValue, header};
use jiff::{Timestamp, fmt::strtime};
use schemars::JsonSchema;
use serde_json::json;
use tokio_util::sync::CancellationToken;

use super::Admin;
use super::wanted::{filter, parsed, value};
use crate::admin::plugins::known;
use crate::auth::Caller;
use crate::error::Problem;
use crate::logs::{LogFilter, LogLine, LogQuery, LogSpan, Logs, NextPage};
use crate::web::Call;

/// How many lines are read at once.
const PIECE_LINES: usize = 500;

/// What the file is made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, JsonSchema)]
#[schemars(rename_all = "lowercase", rename = "LogFormat")]
pub(super) enum Format {
    /// For people: one line each.
    Text,
    /// For programs: one JSON object each.
    Ndjson,
}

/// A download under way.
struct Download {
    logs: Logs,
    plugin: PluginName,
    filter: Arc<LogFilter>,
    format: Format,
    /// The number of the last line that was looked at; `None` if it is complete.
    after: Option<u64>,
    to: u64,
    caller: Caller,
    stopping: CancellationToken,
}

/// `?format=` is `text` or `ndjson`; `?since=` and the filter are those of the log.
pub(in crate::admin) async fn download(
    admin: Arc<Admin>,
    call: Call,
    _: Body,
) -> Result<Response, Problem> {
    let plugin = known(&admin, &call, &call.param("name")?)?.entry.name.clone();
    let format = match value(&call, "format")?.as_deref() {
        None | Some("text") => Format::Text,
        Some("ndjson") => Format::Ndjson,
        Some(other) => {
            let message = format!("`format` is `{other}`: use text or ndjson");
            return Err(Problem::invalid(message).param("format"));
        }
    };
    for name in ["tail", "before"] {
        if value(&call, name)?.is_some() {
            let message = format!("a download has no `{name}`: use `since`, `from` and `to`");
            return Err(Problem::invalid(message).param(name));
        }
    }
    let to = admin.logs.tail(&plugin, 0).await.reached;
    let name = file_name(&plugin, format, Timestamp::now());
    let download = Download {
        logs: admin.logs.clone(),
        plugin,
        filter: Arc::new(filter(&call)?),
        format,
        after: Some(parsed(&call, "since", "a whole number")?.unwrap_or(0)),
        to,
        caller: call.caller,
        stopping: admin.stopping.clone(),
    };
    let pieces = stream::unfold(download, async |mut download| {
        let piece = download.next().await?;
        Some((piece, download))
    });
    let mut response = Body::from_stream(pieces).into_response();
    let kind = match format {
        Format::Text => "text/plain; charset=utf-8",
        Format::Ndjson => "application/x-ndjson",
    };
    let disposition = format!("attachment; filename=\"{name}\"");
    let disposition = HeaderValue::from_str(&disposition).expect("names of plugins are plain text");
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
    headers.insert(header::CONTENT_DISPOSITION, disposition);
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(HeaderName::from_static("x-content-type-options"), HeaderValue::from_static("nosniff"));
    Ok(response)
}

impl Download {
    /// The next piece; `None` when it is complete.
    async fn next(&mut self) -> Option<io::Result<String>> {
        loop {
            let after = self.after?;
            let span = LogSpan::After { after, to: self.to };
            let query = LogQuery::new(Arc::clone(&self.filter), span, PIECE_LINES);
            let page = tokio::select! {
                biased;
                () = self.caller.revoked() => return self.broken("the caller may no longer read this"),
                () = self.stopping.cancelled() => return self.broken("the host stops"),
                page = self.logs.read(&self.plugin, query) => page,
            };
            self.after = page.next.map(|next| match next {
                NextPage::Since(seq) | NextPage::Before(seq) => seq,
            });
            let mut piece = self.format.gap(page.missing);
            piece.extend(page.lines.iter().map(|line| self.format.line(line)));
            if !piece.is_empty() {
                return Some(Ok(piece));
            }
        }
    }

    fn broken(&mut self, why: &str) -> Option<io::Result<String>> {
        self.after = None;
        Some(Err(io::Error::other(why)))
    }
}

impl Format {
    fn line(self, line: &LogLine) -> String {
        match self {
            Self::Ndjson => serde_json::to_string(line).expect("a log line has a JSON form") + "\n",
            Self::Text => {
                let run = line.instance.map_or_else(|| "-".to_owned(), |run| run.to_string());
                let fields = line.fields.as_ref().map_or("", |fields| fields.as_str());
                let space = if fields.is_empty() { "" } else { " " };
                let (level, stream) = (line.level.as_str(), line.stream.as_str());
                format!("{} {run} {level:5} {stream:6} {}{space}{fields}\n", line.time, line.message)
            }
        }
    }

    fn gap(self, lines: u64) -> String {
        match (lines, self) {
            (0, _) => String::new(),
            (_, Self::Ndjson) => format!("{}\n", json!({ "missing": lines })),
            (1, Self::Text) => "1 line is no longer kept\n".to_owned(),
            (_, Self::Text) => format!("{lines} lines are no longer kept\n"),
        }
    }
}

/// Says whose it is and when it was taken: `ping-20260131T120000Z.log`.
fn file_name(plugin: &PluginName, format: Format, now: Timestamp) -> String {
    let time = strtime::format("%Y%m%dT%H%M%SZ", now).expect("the form fits any time");
    let extension = match format {
        Format::Text => "log",
        Format::Ndjson => "ndjson",
    };
    format!("{plugin}-{time}.{extension}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(json: &str) -> LogLine {
        serde_json::from_str(json).unwrap()
    }

    #[test]
    fn a_line_is_one_line_of_the_file() {
        let plain = r#"{"seq":1,"time":"2026-01-31T12:00:00.5Z","plugin":"ping","level":"warn","stream":"stderr","message":"hot"}"#;
        let full = r#"{"seq":2,"time":"2026-01-31T12:00:01Z","plugin":"ping","instance":"0198f2a0-0000-7000-8000-000000000001","level":"info","stream":"bus","message":"n","fields":{"a":1}}"#;
        assert_eq!(Format::Text.line(&line(plain)), "2026-01-31T12:00:00.5Z - warn  stderr hot\n");
        assert_eq!(
            Format::Text.line(&line(full)),
            "2026-01-31T12:00:01Z 0198f2a0-0000-7000-8000-000000000001 info  bus    n {\"a\":1}\n"
        );
        assert_eq!(Format::Ndjson.line(&line(full)), format!("{full}\n"));
    }

    #[test]
    fn what_is_missing_is_said() {
        assert_eq!((Format::Text.gap(0), Format::Ndjson.gap(0)), (String::new(), String::new()));
        assert_eq!(Format::Text.gap(1), "1 line is no longer kept\n");
        assert_eq!(Format::Ndjson.gap(2), "{\"missing\":2}\n");
    }

    #[test]
    fn the_file_is_named_after_plugin_and_time() {
        let now = "2026-01-31T12:00:00.9Z".parse().unwrap();
        let plugin = "ping".parse().unwrap();
        assert_eq!(file_name(&plugin, Format::Text, now), "ping-20260131T120000Z.log");
        assert_eq!(file_name(&plugin, Format::Ndjson, now), "ping-20260131T120000Z.ndjson");
    }
}
