//! `GET /admin/audit`: who did what, newest first.
//!
//! Pages: `?limit=` says how many, `?before=` goes on from the number of the last one.

use std::sync::Arc;

use axum::body::Body;
use axum::response::{IntoResponse, Response};
use jiff::Timestamp;
use schemars::JsonSchema;
use serde::Serialize;

use super::Admin;
use super::logs::number;
use crate::error::Problem;
use crate::store::{AuditFilter, AuditRow};
use crate::web::Call;

const DEFAULT_LIMIT: usize = 100;
const MOST: usize = 1_000;

/// A page of the audit log.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "AuditEntries")]
pub(super) struct Entries {
    entries: Vec<AuditRow>,
}

/// How many rows a page may have.
#[derive(JsonSchema)]
#[schemars(inline, transparent)]
#[allow(dead_code, reason = "a type for the reference alone")]
pub(super) struct Limit(#[schemars(range(min = 1, max = MOST))] u64);

/// `?action=` is a prefix such as `key.`, `?actor=` a user, `?since=` a time.
pub(super) async fn entries(admin: Arc<Admin>, call: Call, _: Body) -> Result<Response, Problem> {
    let filter = AuditFilter {
        before: number(&call, "before")?,
        limit: limit(&call)?,
        action: call.query("action")?,
        actor: call.query("actor")?,
        since: time(&call, "since")?,
    };
    let entries = admin.audit.page(filter).await?;
    Ok(axum::Json(Entries { entries }).into_response())
}

pub(super) fn limit(call: &Call) -> Result<usize, Problem> {
    match number(call, "limit")? {
        None => Ok(DEFAULT_LIMIT),
        Some(limit) if (1..=MOST as u64).contains(&limit) => Ok(limit as usize),
        Some(limit) => Err(Problem::invalid(format!("`limit` is {limit}: use 1 to {MOST}")).param("limit")),
    }
}

pub(super) fn time(call: &Call, name: &'static str) -> Result<Option<Timestamp>, Problem> {
    let Some(text) = call.query(name)? else { return Ok(None) };
    text.parse().map(Some).map_err(|_| {
        Problem::invalid(format!("`{name}` is `{text}`: use a time such as 2026-01-31T12:00:00Z"))
            .param(name)
    })
}
