//! Whether the host lives and serves; without any detail, since anyone may ask.

use std::sync::Arc;

use axum::body::Body;
use axum::response::{IntoResponse, Response};
use http::StatusCode;
use serde_json::json;

use super::Admin;
use crate::error::Problem;
use crate::registry::State;
use crate::web::Call;

/// The host answers: it lives.
pub(super) async fn live(_: Arc<Admin>, _: Call, _: Body) -> Result<Response, Problem> {
    Ok(axum::Json(json!({ "status": "ok" })).into_response())
}

/// Whether every plugin that is started with the host serves: 503 until then.
pub(super) async fn ready(admin: Arc<Admin>, _: Call, _: Body) -> Result<Response, Problem> {
    let view = admin.registry.view();
    let waiting = view.plugins().any(|record| {
        record.entry.autostart
            && !matches!(record.state(), State::Running | State::Degraded | State::Stopped)
    });
    let (status, word) =
        if waiting { (StatusCode::SERVICE_UNAVAILABLE, "starting") } else { (StatusCode::OK, "ready") };
    Ok((status, axum::Json(json!({ "status": word }))).into_response())
}
