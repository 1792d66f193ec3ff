//! `POST /api/plugins/execute`: runs a plugin without naming a capability.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::response::{IntoResponse, Response};
use bkg_protocol::{CapabilityName, ErrorCode, RawJson};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Api;
use super::ask::{Wanted, ask, known};
use super::sight::Sight;
use crate::dispatcher::{ExecuteError, execute_payload, executed};
use crate::error::Problem;
use crate::registry::PluginRecord;
use crate::web::{Call, members};

/// Which plugin is run, and on what.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct Execution {
    /// Which plugin.
    #[schemars(with = "String", required)]
    plugin: Option<String>,
    /// What it is given: a text or an object; nothing stands for an empty object.
    data: Option<RawJson>,
    /// How long the plugin may take, in milliseconds; never longer than the host's own limit.
    timeout_ms: Option<u64>,
}

/// What the plugin answered, in its own text.
#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct Executed {
    result: RawJson,
}

/// What helps somebody who has to choose.
#[derive(Debug, Serialize)]
struct Choice<'a> {
    capabilities: &'a [CapabilityName],
}

pub(super) async fn execute(api: Arc<Api>, call: Call, body: Body) -> Result<Response, Problem> {
    let body = call.json(body, &api.limits).await?;
    let execution: Execution = members(&body)?;
    let name = execution.plugin.ok_or_else(|| {
        Problem::invalid("`plugin` is missing: `/api/plugins` lists those that may be used").param("plugin")
    })?;
    let record = known(&api, &name)?;
    let capability = executed(&record).map_err(|error| no_capability(&call, &record, error))?;
    let payload = execute_payload(execution.data)
        .map_err(|error| Problem::invalid(error.to_string()).param("data"))?;
    let within = execution.timeout_ms.map(Duration::from_millis);
    let result = ask(&api, &call, &record, Wanted { capability, payload, within }).await?;
    Ok(axum::Json(Executed { result }).into_response())
}

/// Why no capability was chosen. The list holds what this caller may use.
fn no_capability(call: &Call, record: &PluginRecord, error: ExecuteError) -> Problem {
    let text = error.to_string();
    let mut offered = match error {
        ExecuteError::Undecided { offered, .. } => offered,
        ExecuteError::Nothing { .. } => return Problem::new(ErrorCode::PluginUnavailable, text),
        ExecuteError::Data => return Problem::invalid(text).param("data"),
    };
    let sight = Sight::of(&call.caller, record);
    offered.retain(|capability| sight.may_use(capability));
    let plugin = &record.entry.name;
    if offered.is_empty() {
        let message = format!("no capability of plugin `{plugin}` may be used with this credential");
        return Problem::new(ErrorCode::Forbidden, message);
    }
    let names: Vec<String> = offered.iter().map(|capability| format!("`{capability}`")).collect();
    let message = format!("{text} with `POST /api/plugins/{plugin}/invoke`: {}", names.join(", "));
    let details = RawJson::of(&Choice { capabilities: &offered });
    Problem { details: Some(details), ..Problem::invalid(message).param("plugin") }
}
