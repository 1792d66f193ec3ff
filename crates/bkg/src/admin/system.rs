//! `GET /admin/system`: the daemon itself, its figures and its configuration.
//!
//! Of secrets it shows where they are, never what they are: no key of the configuration holds one.

use std::path::PathBuf;
use std::sync::Arc;

use axum::body::Body;
use axum::response::{IntoResponse, Response};
use jiff::Timestamp;
use schemars::JsonSchema;
use serde::Serialize;

use super::Admin;
use crate::config::{EffectiveValue, Origin};
use crate::error::Problem;
use crate::logs::LogCounters;
use crate::store::Condition;
use crate::telemetry::HostSample;
use crate::web::Call;

/// The daemon, as it is at this moment.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct System {
    version: &'static str,
    started_at: Timestamp,
    uptime_seconds: u64,
    pid: u32,
    data_dir: PathBuf,
    /// What its own process costs; `null` until it was measured for the first time.
    process: Option<HostSample>,
    /// Whether changes can be written to the data directory.
    storage: Storage,
    /// What was lost of the logs of plugins.
    logs: LogCounters,
    /// Every key in the order of `config/bkg.toml`.
    config: Vec<ConfigKey>,
}

/// Whether changes can be written to the data directory.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct Storage {
    condition: StorageCondition,
    /// What the disk said, where it fails.
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
    /// How many rows of what requests used were lost since the start.
    usage_lost: u64,
}

/// The same in one word.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
enum StorageCondition {
    /// They can.
    Sound,
    /// The disk is full: only stopping, disabling and revoking can.
    Full,
    /// The disk fails: nothing can, until the database has been checked.
    Failing,
}

impl Storage {
    fn of(admin: &Admin) -> Self {
        let (condition, reason) = match &*admin.storage.borrow() {
            Condition::Sound => (StorageCondition::Sound, None),
            Condition::Full => (StorageCondition::Full, None),
            Condition::Failing { reason } => (StorageCondition::Failing, Some(reason.to_string())),
        };
        Self { condition, reason, usage_lost: admin.usage.dropped() }
    }
}

/// One key of the host's configuration as it took effect.
#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct ConfigKey {
    #[serde(flatten)]
    value: EffectiveValue,
    /// Whether the environment or a flag set it, which win over the file.
    locked: bool,
}

pub(super) async fn show(admin: Arc<Admin>, _: Call, _: Body) -> Result<Response, Problem> {
    let config = admin.config_values.iter().map(|value| ConfigKey {
        value: value.clone(),
        locked: matches!(value.origin, Origin::Environment { .. } | Origin::Flag { .. }),
    });
    let system = System {
        version: env!("CARGO_PKG_VERSION"),
        started_at: admin.started_at,
        uptime_seconds: admin.running_since.elapsed().as_secs(),
        pid: std::process::id(),
        data_dir: admin.config.data_dir.clone(),
        process: admin.telemetry.host(),
        storage: Storage::of(&admin),
        logs: admin.logs.counters(),
        config: config.collect(),
    };
    Ok(axum::Json(system).into_response())
}
