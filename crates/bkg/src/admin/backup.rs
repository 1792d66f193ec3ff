//! Backups over HTTP: what one would take, and one.
//!
//! Not how it is taken: `backup` knows that. A backup holds all that the host knows, so it takes `admin`
//! and somebody who has just shown who they are.

use std::sync::Arc;

use axum::body::Body;
use axum::response::{IntoResponse, Response};
use bkg_protocol::ErrorCode;
use http::{HeaderName, HeaderValue, header};
use jiff::{Timestamp, fmt::strtime};
use serde_json::json;

use super::Admin;
use crate::backup::{BackupError, Preview, Wanted};
use crate::error::Problem;
use crate::web::{Access, Call, Endpoint, Routes, Tag};

/// Adds the routes of backups.
pub(super) fn routes(routes: Routes, admin: &Arc<Admin>) -> Routes {
    const ADMIN: Access = Access::Scope("admin");
    let wanted = |endpoint: Endpoint| {
        endpoint
            .query::<bool>("keys", "Whether it holds the keys too; not unless said.")
            .query::<bool>("logs", "Whether it holds the logs of plugins too; not unless said.")
    };
    let preview = Endpoint::get("/admin/backup/preview", ADMIN)
        .summary(Tag::Host, "Say what a backup would take")
        .answers::<Preview>(200, "What it would hold, how that is taken, and what would be missing.")
        .errors(&[ErrorCode::InsufficientStorage]);
    let take = Endpoint::post("/admin/backup", ADMIN)
        .summary(Tag::Host, "Take a backup")
        .describe(
            "Takes a login of the last five minutes, or the root key. The answer begins when all of it is there; one \
             that is shorter than its `content-length` is no backup.",
        )
        .answers_with::<String>(200, "application/x-tar", "The archive.")
        .errors(&[
            ErrorCode::ReauthRequired,
            ErrorCode::Conflict,
            ErrorCode::PluginError,
            ErrorCode::InsufficientStorage,
        ]);
    routes.add(wanted(preview), admin, show).add(wanted(take), admin, send)
}

async fn show(admin: Arc<Admin>, call: Call, _: Body) -> Result<Response, Problem> {
    let preview = admin.backups.preview(wanted(&call)?).await?;
    Ok(axum::Json(preview).into_response())
}

async fn send(admin: Arc<Admin>, call: Call, _: Body) -> Result<Response, Problem> {
    let now = Timestamp::now();
    call.caller.require_recent_login(now)?;
    let wanted = wanted(&call)?;
    let detail = json!({ "keys": wanted.keys, "logs": wanted.logs });
    let intent =
        admin.audit.intend(call.action("backup.take", "data directory".to_owned(), detail)).await?;
    let taken = call.while_allowed(admin.backups.take(wanted, admin.stopping.clone())).await;
    let ready = match taken {
        Ok(ready) => ready,
        Err(problem) => {
            intent.failed(&problem.message).await?;
            return Err(problem);
        }
    };
    let (files, bytes) = (ready.manifest.files.len(), ready.length());
    intent.done(json!({ "files": files, "bytes": bytes })).await?;
    let mut response = Body::from_stream(ready.into_stream()).into_response();
    let name = strtime::format("bkg-%Y%m%dT%H%M%SZ.tar", now).expect("the form fits any time");
    let disposition =
        HeaderValue::from_str(&format!("attachment; filename=\"{name}\"")).expect("a time is plain text");
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/x-tar"));
    headers.insert(header::CONTENT_LENGTH, HeaderValue::from(bytes));
    headers.insert(header::CONTENT_DISPOSITION, disposition);
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(HeaderName::from_static("x-content-type-options"), HeaderValue::from_static("nosniff"));
    Ok(response)
}

fn wanted(call: &Call) -> Result<Wanted, Problem> {
    Ok(Wanted { keys: truth(call, "keys")?, logs: truth(call, "logs")? })
}

fn truth(call: &Call, name: &'static str) -> Result<bool, Problem> {
    match call.query(name)?.as_deref() {
        None | Some("false") => Ok(false),
        Some("true") => Ok(true),
        Some(other) => {
            Err(Problem::invalid(format!("`{name}` is `{other}`: use true or false")).param(name))
        }
    }
}

impl From<BackupError> for Problem {
    fn from(error: BackupError) -> Self {
        let message = error.to_string();
        match error {
            BackupError::Busy => Self::new(ErrorCode::Conflict, message),
            BackupError::Full { .. } | BackupError::NoRoom => {
                Self::new(ErrorCode::InsufficientStorage, message)
            }
            BackupError::Plugin { .. } | BackupError::DoesNotStop { .. } => Self::bad_answer(message),
            BackupError::Store(error) => error.into(),
            BackupError::Plan(_) | BackupError::Stage(_) | BackupError::Disk(_) | BackupError::Stopped => {
                Self::new(ErrorCode::Internal, message)
            }
        }
    }
}
