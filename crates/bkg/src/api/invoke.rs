//! `POST /api/plugins/{name}/invoke`: one capability of one plugin, directly.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::response::{IntoResponse, Response};
use bkg_protocol::{CapabilityName, RawJson};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Api;
use super::ask::{Wanted, ask, known};
use crate::error::Problem;
use crate::web::{Call, members};

/// What is asked of the plugin.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct Invocation {
    /// One that the plugin offers.
    #[schemars(with = "CapabilityName", required)]
    capability: Option<String>,
    /// What the capability takes; an empty object unless said.
    #[serde(default = "empty_object")]
    payload: RawJson,
    /// How long the plugin may take, in milliseconds; never longer than the host's own limit.
    timeout_ms: Option<u64>,
}

/// What the plugin answered, in its own text.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "InvocationOutcome")]
pub(super) struct Outcome {
    data: RawJson,
}

fn empty_object() -> RawJson {
    RawJson::EMPTY_OBJECT
}

pub(super) async fn invoke(api: Arc<Api>, call: Call, body: Body) -> Result<Response, Problem> {
    let record = known(&api, &call.param("name")?)?;
    let body = call.json(body, &api.limits).await?;
    let invocation: Invocation = members(&body)?;
    let wanted = Wanted {
        capability: capability(invocation.capability.as_deref())?,
        payload: invocation.payload,
        within: invocation.timeout_ms.map(Duration::from_millis),
    };
    // The payload is a copy: waiting for the plugin with both would cost twice.
    drop(body);
    let data = ask(&api, &call, &record, wanted).await?;
    Ok(axum::Json(Outcome { data }).into_response())
}

fn capability(text: Option<&str>) -> Result<CapabilityName, Problem> {
    let text = text.ok_or_else(|| {
        Problem::invalid("`capability` is missing: name one that the plugin offers").param("capability")
    })?;
    text.parse()
        .map_err(|error: bkg_protocol::NameError| Problem::invalid(error.to_string()).param("capability"))
}
