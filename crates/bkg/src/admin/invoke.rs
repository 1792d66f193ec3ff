//! `POST /api/plugins/{name}/invoke`: one capability of one plugin, directly.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::response::{IntoResponse, Response};
use bkg_protocol::{CapabilityName, ErrorCode, RawJson};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Admin;
use super::plugins::known;
use crate::auth::scope_of;
use crate::dispatcher::{Answer, Question, Target};
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

pub(super) async fn invoke(admin: Arc<Admin>, call: Call, body: Body) -> Result<Response, Problem> {
    let record = known(&admin, &call.param("name")?)?;
    let limits = &admin.config.http;
    let body = call.json(body, limits).await?;
    let invocation: Invocation = members(&body)?;
    let capability = capability(invocation.capability.as_deref())?;
    call.caller.require(scope_of(record.entry.scopes.get(&capability), &capability))?;
    if capability.is_for_the_host_alone() {
        let message = format!("`{capability}` is asked for by the host only");
        return Err(Problem::new(ErrorCode::Forbidden, message));
    }
    let wanted = invocation.timeout_ms.map_or(limits.request_timeout, Duration::from_millis);
    let question = Question {
        target: Target::Plugin(record.entry.name.clone()),
        capability,
        payload: invocation.payload,
        streamed_payload: None,
        http: None,
        lineage: call.lineage(wanted.min(limits.request_timeout)),
    };
    let mut meter = admin.metering.begin(&question.lineage, &question.capability, None);
    meter.answered_by(&record.entry.name);
    match meter.concluded(call.while_allowed(admin.dispatcher.ask(question)).await)?.answer {
        Answer::Whole(data) => {
            meter.read_tokens(&data);
            Ok(axum::Json(Outcome { data }).into_response())
        }
        Answer::Stream(_) => unreachable!("no stream was asked for"),
    }
}

fn capability(text: Option<&str>) -> Result<CapabilityName, Problem> {
    let text = text.ok_or_else(|| {
        Problem::invalid("`capability` is missing: name one that the plugin offers").param("capability")
    })?;
    text.parse()
        .map_err(|error: bkg_protocol::NameError| Problem::invalid(error.to_string()).param("capability"))
}
