//! `GET /admin/requests`: what requests to plugins used, and everything that is known of one of them.
//!
//! Pages go as those of the audit log. The invariant: what was asked and answered is shown only where an
//! operator had it written down, and to those alone who may read the audit log.

use std::sync::Arc;

use axum::body::Body;
use axum::response::{IntoResponse, Response};
use bkg_protocol::ErrorCode;
use jiff::Timestamp;
use schemars::JsonSchema;
use serde::Serialize;

use super::Admin;
use super::audit::{Limit, limit, time};
use super::logs::number;
use crate::error::Problem;
use crate::logs::{LogFilter, LogLine, MergedSpan};
use crate::store::{Bodies, UsageFilter, UsageRecord};
use crate::web::{Access, Call, Endpoint, Routes, Tag};

/// How many log lines are shown of a request.
const MOST_LINES: usize = 200;

/// A page of what requests used.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "RequestRecords")]
struct Requests {
    requests: Vec<UsageRecord>,
    /// How many rows could not be written since the host started.
    lost: u64,
}

/// All that is known of a request.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "InspectedRequest")]
struct Inspected {
    /// The request.
    #[serde(flatten)]
    request: UsageRecord,
    /// What plugins asked for on its behalf.
    asked_by_plugins: Vec<UsageRecord>,
    /// What was asked and answered; `null` unless its key has `logBodies`.
    bodies: Option<Bodies>,
    /// The lines about it in the logs of plugins, oldest first.
    logs: Vec<LogLine>,
    /// Whether there are more lines.
    more_logs: bool,
}

/// Adds the routes.
pub(super) fn routes(routes: Routes, admin: &Arc<Admin>) -> Routes {
    const AUDIT: Access = Access::Scope("audit:read");
    let list = Endpoint::get("/admin/requests", AUDIT)
        .summary(Tag::Audit, "Read what requests used")
        .query::<Limit>("limit", "How many; 100 unless said.")
        .query::<u64>("before", "Only those before the one with this number.")
        .query::<String>("id", "Only the request with this `x-request-id`.")
        .query::<String>("key", "Only requests with the API key of this id.")
        .query::<String>("user", "Only requests of this user.")
        .query::<String>("model", "Only requests that named this model.")
        .query::<String>("plugin", "Only requests that this plugin answered.")
        .query::<String>("outcome", "Only requests that ended so: `ok`, or the code of an error.")
        .query::<Timestamp>("since", "Only requests that began at this time or later.")
        .answers::<Requests>(200, "The requests, newest first.");
    let show = Endpoint::get("/admin/requests/{id}", AUDIT)
        .summary(Tag::Audit, "Show all that is known of a request")
        .describe(
            "With the requests that plugins made on its behalf, and what plugins logged about it. A request is \
             there once it has ended.",
        )
        .path::<String>("id", "Its `x-request-id`.")
        .answers::<Inspected>(200, "The request.")
        .errors(&[ErrorCode::NotFound]);
    routes.add(list, admin, self::list).add(show, admin, self::show)
}

async fn list(admin: Arc<Admin>, call: Call, _: Body) -> Result<Response, Problem> {
    let filter = UsageFilter {
        before: number(&call, "before")?,
        limit: limit(&call)?,
        request_id: call.query("id")?,
        key_id: call.query("key")?,
        user: call.query("user")?,
        model: call.query("model")?,
        plugin: call.query("plugin")?,
        outcome: call.query("outcome")?,
        since: time(&call, "since")?,
    };
    let usage = &admin.usage;
    let requests = usage.page(filter).await?;
    Ok(axum::Json(Requests { requests, lost: usage.dropped() }).into_response())
}

async fn show(admin: Arc<Admin>, call: Call, _: Body) -> Result<Response, Problem> {
    let id = call.param("id")?;
    let (mut rows, bodies) = admin.usage.of_request(id.clone()).await?;
    // Of several rows the one that names a route is the client's own.
    let own = rows.iter().position(|row| row.route.is_some()).unwrap_or(0);
    if rows.is_empty() {
        let message = format!(
            "no request with the id `{}` is known: it may be under way, or older than what is kept",
            id.escape_debug()
        );
        return Err(Problem::new(ErrorCode::NotFound, message));
    }
    let request = rows.remove(own);
    let (logs, more_logs) = lines(&admin, &call, &id, &request).await;
    let inspected = Inspected { request, asked_by_plugins: rows, bodies, logs, more_logs };
    Ok(axum::Json(inspected).into_response())
}

/// What plugins within the caller's reach logged about a request, from when it began.
async fn lines(admin: &Admin, call: &Call, id: &str, request: &UsageRecord) -> (Vec<LogLine>, bool) {
    let Ok(mut filter) = LogFilter::default().with_text(id) else { return (Vec::new(), false) };
    filter.from = Some(request.at);
    let (view, reach) = (admin.registry.view(), &call.caller.rights().reach);
    let names = view.plugins().map(|record| &record.entry.name);
    let mut plugins: Vec<_> = names.filter(|name| reach.has_plugin(name)).cloned().collect();
    plugins.sort_unstable();
    let span = MergedSpan::After(crate::logs::Cursor::default());
    let page = admin.logs.read_merged(&plugins, Arc::new(filter), &span, MOST_LINES + 1).await;
    let has_more = page.lines.len() > MOST_LINES;
    let lines = page.lines.into_iter().take(MOST_LINES).map(Arc::unwrap_or_clone).collect();
    (lines, has_more)
}
