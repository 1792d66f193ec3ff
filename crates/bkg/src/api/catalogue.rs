//! `GET /api/plugins` and what is below it: which plugins there are, for who asks.
//!
//! Every answer is filtered by the caller's scopes and reach. With `plugin:read` all is listed, and
//! `allowed` says what may be used. Why a plugin is not well may quote its output, so only
//! `plugin:read` shows it.

use std::sync::Arc;

use axum::body::Body;
use axum::response::{IntoResponse, Response};
use bkg_protocol::message::{Capability, Model, Route, Tool};
use bkg_protocol::{CapabilityName, PluginName, RawJson};
use jiff::Timestamp;
use schemars::JsonSchema;
use serde::Serialize;
use serde_json::Value;

use super::Api;
use super::ask::{known, not_known};
use super::sight::Sight;
use crate::error::Problem;
use crate::registry::{PluginRecord, State};
use crate::telemetry::PluginTelemetry;
use crate::web::Call;

/// A plugin, as `GET /api/plugins/{name}` shows it.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct CataloguePlugin {
    #[serde(flatten)]
    standing: Standing,
    description: String,
    version: String,
    #[serde(rename = "type")]
    kind: String,
    author: Option<String>,
    category: Option<String>,
    tags: Vec<String>,
    /// When its author changed it last, as the author wrote it.
    updated: Option<String>,
    /// What else must be there, as its author wrote it.
    requirements: Vec<Value>,
    /// How it is used, as its author wrote it.
    example: Option<Value>,
    capabilities: Vec<CatalogueCapability>,
    models: Vec<Model>,
    /// HTTP routes; their paths begin below `/api/plugins/{name}`.
    routes: Vec<Route>,
    tools: Vec<Tool>,
    /// The JSON Schema of its settings, for `plugin:read`.
    config_schema: Option<Value>,
}

/// How a plugin stands.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct Standing {
    name: PluginName,
    /// The state in fewer words: `error` for `failed`, `backoff` and `unresponsive`.
    status: &'static str,
    state: State,
    /// Why, for `plugin:read`.
    reason: Option<String>,
    since: Timestamp,
}

/// A capability, as a caller sees it.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct CatalogueCapability {
    id: CapabilityName,
    description: Option<String>,
    input_schema: Option<RawJson>,
    output_schema: Option<RawJson>,
    streaming: bool,
    idempotent: bool,
    side_effect: bool,
    timeout_ms: Option<u64>,
    /// The scope that it needs.
    scope: String,
    /// Whether the caller may use it.
    allowed: bool,
}

/// The capabilities of a plugin.
#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct Capabilities {
    plugin: PluginName,
    capabilities: Vec<CatalogueCapability>,
}

/// What all plugins cost.
#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct AllTelemetry {
    plugins: Vec<PluginTelemetry>,
}

pub(super) async fn list(api: Arc<Api>, call: Call, _: Body) -> Result<Response, Problem> {
    let view = api.registry.view();
    let plugins: Vec<CataloguePlugin> = view
        .plugins()
        .filter(|record| Sight::of(&call.caller, record).is_any())
        .map(|record| plugin(&call, record))
        .collect();
    Ok(axum::Json(plugins).into_response())
}

pub(super) async fn show(api: Arc<Api>, call: Call, _: Body) -> Result<Response, Problem> {
    Ok(axum::Json(plugin(&call, &*seen(&api, &call)?)).into_response())
}

pub(super) async fn status(api: Arc<Api>, call: Call, _: Body) -> Result<Response, Problem> {
    Ok(axum::Json(standing(&call, &*seen(&api, &call)?)).into_response())
}

pub(super) async fn capabilities(api: Arc<Api>, call: Call, _: Body) -> Result<Response, Problem> {
    let record = seen(&api, &call)?;
    let answer = Capabilities {
        plugin: record.entry.name.clone(),
        capabilities: capabilities_of(Sight::of(&call.caller, &record), &record),
    };
    Ok(axum::Json(answer).into_response())
}

/// The newest sample of each launch of every plugin.
pub(super) async fn telemetry(api: Arc<Api>, call: Call, _: Body) -> Result<Response, Problem> {
    let view = api.registry.view();
    let reached = view.plugins().filter(|record| Sight::of(&call.caller, record).is_operators());
    let answer = AllTelemetry { plugins: reached.map(|record| api.telemetry.newest_of(record)).collect() };
    Ok(axum::Json(answer).into_response())
}

/// The plugin that the path names, if the caller may know of it.
fn seen(api: &Api, call: &Call) -> Result<Arc<PluginRecord>, Problem> {
    let name = call.param("name")?;
    let record = known(api, &name)?;
    if Sight::of(&call.caller, &record).is_any() { Ok(record) } else { Err(not_known(&name)) }
}

fn plugin(call: &Call, record: &PluginRecord) -> CataloguePlugin {
    let sight = Sight::of(&call.caller, record);
    let all = sight.is_operators();
    let is_shown = |capability: &CapabilityName| all || sight.may_use(capability);
    let entry = &record.entry;
    let text = |name: &str| entry.extra.get(name).and_then(text_of);
    CataloguePlugin {
        standing: standing(call, record),
        description: entry.description.clone(),
        version: record.version(),
        kind: entry.kind.clone(),
        author: text("author"),
        category: text("category"),
        tags: entry.extra.get("tags").map(texts_of).unwrap_or_default(),
        updated: text("updated"),
        requirements: match entry.requires.as_slice() {
            [] => entry.extra.get("requirements").map(list_of).unwrap_or_default(),
            requires => requires.to_vec(),
        },
        example: entry.extra.get("example").filter(|example| !example.is_null()).cloned(),
        capabilities: capabilities_of(sight, record),
        models: record.offered.iter().filter(|model| all || sight.may_use_model(model)).cloned().collect(),
        routes: record.routes().into_iter().filter(|route| is_shown(&route.capability)).collect(),
        tools: record.tools().into_iter().filter(|tool| is_shown(&tool.capability)).collect(),
        config_schema: if all { record.config_schema().cloned() } else { None },
    }
}

fn standing(call: &Call, record: &PluginRecord) -> Standing {
    let state = record.state();
    let is_operators = Sight::of(&call.caller, record).is_operators();
    Standing {
        name: record.entry.name.clone(),
        status: match state {
            State::Failed | State::Backoff | State::Unresponsive => "error",
            other => other.as_str(),
        },
        state,
        reason: record.status.reason.clone().filter(|_| is_operators),
        since: record.status.since,
    }
}

fn capabilities_of(sight: Sight<'_>, record: &PluginRecord) -> Vec<CatalogueCapability> {
    let all = sight.is_operators();
    let seen = record.capabilities().into_iter().filter(|capability| all || sight.may_use(&capability.id));
    seen.map(|capability| {
        let scope = sight.scope(&capability.id).to_owned();
        let allowed = sight.may_use(&capability.id);
        let Capability { id, description, input_schema, output_schema, timeout_ms, .. } = capability;
        CatalogueCapability {
            id,
            description,
            input_schema,
            output_schema,
            streaming: capability.streaming,
            idempotent: capability.idempotent,
            side_effect: capability.side_effect,
            timeout_ms,
            scope,
            allowed,
        }
    })
    .collect()
}

/// A text, or the `name` of an object: authors are written in both ways.
fn text_of(value: &Value) -> Option<String> {
    value.as_str().or_else(|| value.get("name")?.as_str()).map(str::to_owned)
}

/// A list of texts; one text is a list of one.
fn texts_of(value: &Value) -> Vec<String> {
    list_of(value).iter().filter_map(text_of).collect()
}

fn list_of(value: &Value) -> Vec<Value> {
    match value {
        Value::Array(items) => items.clone(),
        Value::Null => Vec::new(),
        one => vec![one.clone()],
    }
}
