//! Plugins as operators see and steer them.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::response::{IntoResponse, Response};
use bkg_protocol::ErrorCode;
use http::StatusCode;
use indexmap::IndexMap;
use jiff::Timestamp;
use schemars::JsonSchema;
use serde::Serialize;
use serde_json::{Value, json};
use tokio::time::timeout;

use super::Admin;
use crate::error::Problem;
use crate::plugin_object::PluginObject;
use crate::registry::{LiveRoute, PluginRecord, State};
use crate::supervisor::{Supervisor, UnknownPlugin};
use crate::web::Call;

/// The longest that `?wait=` waits.
const LONGEST_WAIT: Duration = Duration::from_secs(600);

/// How many seconds to wait.
#[derive(JsonSchema)]
#[schemars(inline, transparent)]
#[allow(dead_code, reason = "a type for the reference alone")]
pub(super) struct Wait(#[schemars(range(min = 0, max = 600))] f64);

/// Every listener of the host and of its plugins.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct Ports {
    /// Where HTTP is served.
    api: u16,
    /// Where plugins come that the host did not start.
    bus: u16,
    /// Where HTTP is served to other machines.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    listen: Vec<SocketAddr>,
    /// Where plugins themselves listen, if they do.
    plugins: IndexMap<String, Option<u16>>,
    /// When the host started.
    started_at: Timestamp,
}

pub(super) async fn list(admin: Arc<Admin>, call: Call, _: Body) -> Result<Response, Problem> {
    let view = admin.registry.view();
    let reach = &call.caller.rights().reach;
    let seen = view.plugins().filter(|record| reach.has_plugin(&record.entry.name));
    let mut plugins: Vec<PluginObject> =
        seen.map(|record| PluginObject::of(record, &admin.telemetry)).collect();
    if reach.plugins.is_none() {
        plugins.extend(PluginObject::unusable(&admin.catalogue.load()));
    }
    Ok(axum::Json(plugins).into_response())
}

/// The HTTP routes of one plugin.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct OwnRoutes {
    /// Every route, with the whole path.
    routes: Vec<LiveRoute>,
    /// How many headers were left out of the plugin's answers since the host started.
    dropped_headers: u64,
}

/// The HTTP routes of one plugin, and how many headers were left out of its answers.
pub(super) async fn routes(admin: Arc<Admin>, call: Call, _: Body) -> Result<Response, Problem> {
    let record = known(&admin, &call, &call.param("name")?)?;
    let table = Arc::clone(admin.registry.view().routes());
    let own = table.routes().filter(|route| route.plugin == record.entry.name).cloned();
    let dropped_headers = record.route_faults.dropped_headers();
    Ok(axum::Json(OwnRoutes { routes: own.collect(), dropped_headers }).into_response())
}

pub(super) async fn show(admin: Arc<Admin>, call: Call, _: Body) -> Result<Response, Problem> {
    let name = call.param("name")?;
    let plugin = match known(&admin, &call, &name) {
        Ok(record) => PluginObject::of(&record, &admin.telemetry),
        Err(unknown) if call.caller.rights().reach.plugins.is_some() => return Err(unknown),
        // A folder that cannot be used is listed, so it can be looked at.
        Err(unknown) => PluginObject::unusable(&admin.catalogue.load())
            .find(|plugin| plugin.name == name)
            .ok_or(unknown)?,
    };
    Ok(axum::Json(plugin).into_response())
}

pub(super) async fn start(admin: Arc<Admin>, call: Call, _: Body) -> Result<Response, Problem> {
    let name = call.param("name")?;
    let before = known(&admin, &call, &name)?;
    let wait = wait(&call)?;
    order(&admin, &call, "plugin.start", &name, |supervisor| supervisor.want_up(&name)).await?;
    let was_up = before.status.state == State::Running;
    answer(&admin, wait, &name, move |record| {
        was_up || (came_to_rest(record) && record.status != before.status)
    })
    .await
}

pub(super) async fn stop(admin: Arc<Admin>, call: Call, _: Body) -> Result<Response, Problem> {
    let name = call.param("name")?;
    known(&admin, &call, &name)?;
    let wait = wait(&call)?;
    order(&admin, &call, "plugin.stop", &name, |supervisor| supervisor.want_down(&name)).await?;
    answer(&admin, wait, &name, |record| record.status.state == State::Stopped).await
}

pub(super) async fn restart(admin: Arc<Admin>, call: Call, _: Body) -> Result<Response, Problem> {
    let name = call.param("name")?;
    let before = known(&admin, &call, &name)?;
    let wait = wait(&call)?;
    order(&admin, &call, "plugin.restart", &name, |supervisor| supervisor.want_again(&name)).await?;
    answer(&admin, wait, &name, move |record| came_to_rest(record) && record.status != before.status).await
}

/// Gives the supervisor an order, with its entry in the audit log before and after.
async fn order(
    admin: &Admin,
    call: &Call,
    action: &'static str,
    plugin: &str,
    give: impl FnOnce(&Supervisor) -> Result<(), UnknownPlugin>,
) -> Result<(), Problem> {
    let intent = admin.audit.intend(call.action(action, format!("plugin {plugin}"), json!({}))).await?;
    match give(&admin.supervisor) {
        Ok(()) => intent.done(Value::Null).await?,
        Err(unknown) => {
            intent.failed(&unknown.to_string()).await?;
            return Err(unknown.into());
        }
    }
    Ok(())
}

/// Whether a start has come to its end, good or bad.
fn came_to_rest(record: &PluginRecord) -> bool {
    matches!(record.status.state, State::Running | State::Stopped | State::Failed | State::Backoff)
}

/// `?wait=SECONDS`; read before anything is ordered, since a request that is refused changes nothing.
fn wait(call: &Call) -> Result<Option<Duration>, Problem> {
    let Some(text) = call.query("wait")? else { return Ok(None) };
    let wait = text.parse::<f64>().ok().and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
    wait.filter(|wait| *wait <= LONGEST_WAIT).map(Some).ok_or_else(|| {
        let message =
            format!("`wait` is `{text}`: use a number of seconds up to {}", LONGEST_WAIT.as_secs());
        Problem::invalid(message).param("wait")
    })
}

/// 202 with the plugin at once, or 200 with it when `done` holds in time.
async fn answer(
    admin: &Admin,
    wait: Option<Duration>,
    name: &str,
    done: impl Fn(&PluginRecord) -> bool,
) -> Result<Response, Problem> {
    let mut status = StatusCode::ACCEPTED;
    if let Some(wait) = wait {
        let finished =
            admin.registry.until(|view| view.plugin(name).is_none_or(|record| done(record)).then_some(()));
        if timeout(wait, finished).await.is_ok() {
            status = StatusCode::OK;
        }
    }
    let record = admin.registry.plugin(name).ok_or_else(|| UnknownPlugin(name.to_owned()))?;
    Ok((status, axum::Json(PluginObject::of(&record, &admin.telemetry))).into_response())
}

/// Every listener of the host and of its plugins.
pub(super) async fn ports(admin: Arc<Admin>, call: Call, _: Body) -> Result<Response, Problem> {
    let view = admin.registry.view();
    let reach = &call.caller.rights().reach;
    let seen = view.plugins().filter(|record| reach.has_plugin(&record.entry.name));
    let plugins = seen.map(|record| (record.entry.name.to_string(), record.own_port())).collect();
    let (api, bus) = admin.ports;
    let listen = admin.listen.clone();
    Ok(axum::Json(Ports { api, bus, listen, plugins, started_at: admin.started_at }).into_response())
}

/// The record of a usable plugin. One that is out of the caller's reach is as unknown as one that does not
/// exist.
pub(super) fn known(admin: &Admin, call: &Call, name: &str) -> Result<Arc<PluginRecord>, Problem> {
    let reach = &call.caller.rights().reach;
    let found = admin.registry.plugin(name).filter(|record| reach.has_plugin(&record.entry.name));
    found.ok_or_else(|| UnknownPlugin(name.to_owned()).into())
}

impl From<UnknownPlugin> for Problem {
    fn from(error: UnknownPlugin) -> Self {
        Self::new(ErrorCode::NotFound, error.to_string())
    }
}
