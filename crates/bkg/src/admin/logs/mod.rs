//! The logs of plugins over HTTP: one plugin's, or those of all by time, as a page or as they grow.
//!
//! `wanted` says what a request asks for, `stream` follows, `download` gives one plugin's log as a file.
//! Where lines are and which are taken is the module `logs`. The invariant: a number that is asked for
//! counts lines that the filter took.

mod download;
mod stream;
mod wanted;

use std::sync::Arc;

use axum::body::Body;
use axum::response::{IntoResponse, Response};
use bkg_protocol::message::LogLevel;
use bkg_protocol::{ErrorCode, InstanceId, PluginName};
use jiff::Timestamp;
use schemars::JsonSchema;

use super::Admin;
use super::plugins::known;
use crate::error::Problem;
use crate::logs::{Cursor, LogLine, LogPage, LogQuery, LogSpan, LogStream, MergedPage, MergedSpan};
use crate::web::{Access, Call, Endpoint, Routes, Tag};

pub(super) use download::download;
pub(super) use wanted::number;
use wanted::{Place, Wanted};

/// A number for each plugin, as `ping:12,tester:7`.
#[derive(JsonSchema)]
#[schemars(inline, transparent)]
#[allow(dead_code, reason = "a type for the reference alone")]
struct MergedPlace(#[schemars(regex(pattern = r"^([a-z0-9][a-z0-9_-]{0,62}:[0-9]{1,15}(,|$))+$"))] String);

/// Adds the routes of logs.
pub(super) fn routes(routes: Routes, admin: &Arc<Admin>) -> Routes {
    const READ: Access = Access::Scope("plugin:read");
    let filtered = |endpoint: Endpoint| {
        endpoint
            .filter::<LogLevel>("level", "The least level.")
            .filter::<LogStream>("stream", "How the lines came.")
            .filter::<String>("text", "What the message must hold, in upper or lower case.")
            .filter::<String>("regex", "What the message must match: the syntax of the Rust crate `regex`.")
            .filter::<InstanceId>("run", "Only lines of this launch: the `instance` of a line.")
            .filter::<Timestamp>("from", "Only lines of this time or later.")
            .filter::<Timestamp>("to", "Only lines of this time or earlier.")
    };
    let name = |endpoint: Endpoint| {
        endpoint.path::<String>("name", super::PLUGIN_NAME).errors(&[ErrorCode::NotFound])
    };
    let log = |path| {
        let endpoint = Endpoint::get(path, READ)
            .summary(Tag::Logs, "Read the log of a plugin")
            .describe(
                "As JSON a page of lines that the filters take. With `Accept: text/event-stream` the page comes \
                 first and the stream goes on from it without a hole: events `line` with a line as `data` and its \
                 number as `id`, and events `gap` with `{\"lines\": N}` for lines that are missing.",
            )
            .filter::<u64>("tail", "How many of the last lines; 200 unless said.")
            .filter::<u64>("since", "The lines after the one with this number, instead of the last ones.")
            .filter::<u64>("before", "The lines before the one with this number.")
            .header::<String>("last-event-id", "The number of the last line that a stream had brought: as `since`.")
            .answers::<LogPage>(200, "The lines, oldest first.")
            .streams::<LogLine>(200, "The lines, and those that come.");
        name(filtered(endpoint))
    };
    let all = Endpoint::get("/admin/logs", READ)
        .summary(Tag::Logs, "Read the logs of all plugins, by time")
        .describe(
            "As the log of one plugin; a place is a number for each plugin, such as `ping:12,tester:7`.",
        )
        .query::<String>("plugin", "Only the log of this plugin; may be there several times.")
        .filter::<u64>("tail", "How many of the last lines; 200 unless said.")
        .filter::<MergedPlace>("since", "The lines after this place.")
        .filter::<MergedPlace>("before", "The lines before this place.")
        .header::<String>("last-event-id", "The place that a stream had reached: as `since`.")
        .answers::<MergedPage>(200, "The lines, oldest first.")
        .streams::<LogLine>(200, "The lines, and those that come.")
        .errors(&[ErrorCode::NotFound]);
    let file = Endpoint::get("/admin/plugins/{name}/logs/download", READ)
        .summary(Tag::Logs, "Download the log of a plugin")
        .query::<download::Format>("format", "How lines are written; `text` unless said.")
        .filter::<u64>("since", "Only lines after the one with this number.")
        .answers_with::<String>(200, "text/plain", "The lines that the filters take, one each.")
        .answers_with::<String>(200, "application/x-ndjson", "The same as one JSON object each.");
    routes
        .add(log("/admin/plugins/{name}/logs"), admin, read)
        // The same answer below the prefix where applications look for plugins.
        .add(log("/api/plugins/{name}/logs"), admin, read)
        .add(name(filtered(file)), admin, download)
        .add(filtered(all), admin, read_all)
}

/// `GET /admin/plugins/{name}/logs`: `?tail=` asks for the last lines, `?before=` for those before a
/// number, `?since=` for those after one. With `Accept: text/event-stream` the lines that are there come
/// first and the stream goes on from them without a hole; an event's id is the line's number, so a client
/// resumes by itself.
pub(super) async fn read(admin: Arc<Admin>, call: Call, _: Body) -> Result<Response, Problem> {
    let plugin = known(&admin, &call, &call.param("name")?)?.entry.name.clone();
    let wanted = Wanted::<u64>::of(&call)?;
    if wanted.as_events {
        let wanted = wanted.map(|seq| [(plugin.clone(), seq)].into_iter().collect::<Cursor>());
        return Ok(stream::one(&admin, call.caller, plugin, wanted).await);
    }
    let span = match wanted.place {
        Place::Newest => LogSpan::NEWEST,
        Place::Before(seq) => LogSpan::Before(seq.max(1)),
        Place::After(seq) => LogSpan::since(seq),
    };
    let page = admin.logs.read(&plugin, LogQuery::new(wanted.filter, span, wanted.count)).await;
    Ok(axum::Json(page).into_response())
}

/// `GET /admin/logs`: the same of all plugins, or of those that `?plugin=` names. What `since`, `before`
/// and the ids of events carry is a number for each plugin.
pub(super) async fn read_all(admin: Arc<Admin>, call: Call, _: Body) -> Result<Response, Problem> {
    let plugins = plugins(&admin, &call)?;
    let wanted = Wanted::<Cursor>::of(&call)?;
    if wanted.as_events {
        return Ok(stream::merged(&admin, call.caller, &plugins, wanted).await);
    }
    let span = match wanted.place {
        Place::Newest => MergedSpan::Before(Cursor::default()),
        Place::Before(cursor) => MergedSpan::Before(cursor),
        Place::After(cursor) => MergedSpan::After(cursor),
    };
    let page = admin.logs.read_merged(&plugins, wanted.filter, &span, wanted.count).await;
    Ok(axum::Json(page).into_response())
}

/// The plugins that a request names, each once; all within the caller's reach if it names none.
fn plugins(admin: &Admin, call: &Call) -> Result<Vec<PluginName>, Problem> {
    let mut plugins = Vec::new();
    for name in call.query_all("plugin")?.iter().filter(|name| !name.is_empty()) {
        let record = known(admin, call, name).map_err(|problem| problem.param("plugin"))?;
        plugins.push(record.entry.name.clone());
    }
    if plugins.is_empty() {
        let (view, reach) = (admin.registry.view(), &call.caller.rights().reach);
        let names = view.plugins().map(|record| &record.entry.name);
        plugins = names.filter(|name| reach.has_plugin(name)).cloned().collect();
    }
    plugins.sort_unstable();
    plugins.dedup();
    Ok(plugins)
}
