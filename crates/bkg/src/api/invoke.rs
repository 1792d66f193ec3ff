//! `POST /api/plugins/{name}/invoke`: one capability of one plugin, directly.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::response::{IntoResponse, Response};
use bkg_protocol::{CapabilityName, RawJson};
use schemars::JsonSchema;
use serde::de::IgnoredAny;
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
    #[schemars(with = "RawJson", default = "empty_object")]
    #[expect(dead_code, reason = "it is taken from the body, without copying it")]
    #[serde(default)]
    payload: IgnoredAny,
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
        payload: body.member("payload").unwrap_or_else(empty_object),
        within: invocation.timeout_ms.map(Duration::from_millis),
    };
    // A payload that is a copy is all that is waited with.
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
