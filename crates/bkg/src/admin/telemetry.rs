//! `GET /admin/plugins/{name}/telemetry`: what a plugin's processes cost, over the last half hour.

use std::sync::Arc;

use axum::body::Body;
use axum::response::{IntoResponse, Response};

use super::Admin;
use super::plugins::known;
use crate::error::Problem;
use crate::web::Call;

pub(super) async fn read(admin: Arc<Admin>, call: Call, _: Body) -> Result<Response, Problem> {
    let record = known(&admin, &call, &call.param("name")?)?;
    Ok(axum::Json(admin.telemetry.of(&record)).into_response())
}
