//! Whether the host lives and serves; without any detail, since anyone may ask.

use std::sync::Arc;

use axum::body::Body;
use axum::response::{IntoResponse, Response};
use http::StatusCode;
use schemars::JsonSchema;
use serde::Serialize;

use super::Admin;
use crate::error::Problem;
use crate::registry::State;
use crate::store::Condition;
use crate::web::Call;

/// How the host is, in one word.
#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct Health {
    status: HealthStatus,
    /// What is not as it should be; left out where all is well.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    reasons: Vec<HealthReason>,
}

/// What is wrong, in one word.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
enum HealthReason {
    /// A plugin that starts with the host does not serve.
    PluginsStarting,
    /// The disk of the data directory is full: requests are served, and most changes refused.
    StorageFull,
    /// The disk of the data directory fails: requests are served, and changes refused.
    StorageFailing,
}

/// The word.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
enum HealthStatus {
    /// It answers.
    Ok,
    /// Every plugin that starts with it serves.
    Ready,
    /// Not yet.
    Starting,
}

/// The host answers: it lives.
pub(super) async fn live(_: Arc<Admin>, _: Call, _: Body) -> Result<Response, Problem> {
    Ok(axum::Json(Health { status: HealthStatus::Ok, reasons: Vec::new() }).into_response())
}

/// Whether every plugin that is started with the host serves: 503 until then.
pub(super) async fn ready(admin: Arc<Admin>, _: Call, _: Body) -> Result<Response, Problem> {
    let view = admin.registry.view();
    let waiting = view.plugins().any(|record| {
        record.entry.autostart
            && !matches!(record.state(), State::Running | State::Degraded | State::Stopped)
    });
    let (status, word) = if waiting {
        (StatusCode::SERVICE_UNAVAILABLE, HealthStatus::Starting)
    } else {
        (StatusCode::OK, HealthStatus::Ready)
    };
    let starting = waiting.then_some(HealthReason::PluginsStarting);
    // It serves all the same, so whoever spreads load must not leave it for this.
    let storage = match *admin.storage.borrow() {
        Condition::Sound => None,
        Condition::Full => Some(HealthReason::StorageFull),
        Condition::Failing { .. } => Some(HealthReason::StorageFailing),
    };
    let reasons = starting.into_iter().chain(storage).collect();
    Ok((status, axum::Json(Health { status: word, reasons })).into_response())
}
