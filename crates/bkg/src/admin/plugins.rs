//! Plugins as operators see and steer them.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::response::{IntoResponse, Response};
use bkg_protocol::{ErrorCode, InstanceId};
use http::StatusCode;
use indexmap::IndexMap;
use jiff::Timestamp;
use schemars::JsonSchema;
use serde::Serialize;
use serde_json::{Value, json};
use tokio::time::timeout;

use super::Admin;
use crate::config::{Discovered, Outcome};
use crate::error::Problem;
use crate::registry::{Instance, PluginRecord, State};
use crate::supervisor::{Supervisor, UnknownPlugin};
use crate::telemetry::{Sample, Telemetry};
use crate::web::Call;

/// The longest that `?wait=` waits.
const LONGEST_WAIT: Duration = Duration::from_secs(600);

/// A plugin, as `GET /admin/plugins/{name}` shows it.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct PluginObject {
    name: String,
    status: &'static str,
    reason: Option<String>,
    since: Option<Timestamp>,
    restarts: u32,
    description: String,
    version: String,
    folder: String,
    autostart: bool,
    restart: Value,
    capabilities: Vec<String>,
    models: Vec<Value>,
    instances: Vec<InstanceObject>,
    /// The newest sample of each launch that has processes, registered or not.
    resources: Vec<Arc<Sample>>,
    /// How many requests wait for a free place.
    queued: usize,
    /// The effective entry, with its secrets behind masks.
    config: Value,
    /// The number of its saved revision.
    revision: u64,
    /// Whether a process of it runs with something else than this entry.
    restart_needed: bool,
    config_schema: Option<Value>,
    /// Why the folder is no usable plugin.
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
}

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

/// An instance of a plugin.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
struct InstanceObject {
    id: InstanceId,
    pid: Option<u32>,
    status: Value,
    since: Timestamp,
    in_flight: u32,
    contract: &'static str,
    identity: &'static str,
    port: Option<u16>,
    telemetry: Option<Value>,
}

pub(super) async fn list(admin: Arc<Admin>, _: Call, _: Body) -> Result<Response, Problem> {
    let view = admin.registry.view();
    let usable = view.plugins().map(|record| object(record, &admin.telemetry));
    let plugins: Vec<PluginObject> = usable.chain(unusable_folders(&admin)).collect();
    Ok(axum::Json(plugins).into_response())
}

/// The folders that cannot be used, with the reason.
fn unusable_folders(admin: &Admin) -> impl Iterator<Item = PluginObject> {
    admin.catalogue.plugins.iter().filter_map(|found| match &found.outcome {
        Outcome::Ready(_) => None,
        Outcome::Shadowed { name, by } => {
            let why = format!("`{}` has this name already: rename one of them", by.display());
            Some(unusable(found, name.to_string(), "shadowed", why))
        }
        Outcome::Broken { error } => {
            let name = found.folder.file_name().unwrap_or_default().to_string_lossy().into_owned();
            Some(unusable(found, name, "broken", error.to_string()))
        }
    })
}

pub(super) async fn show(admin: Arc<Admin>, call: Call, _: Body) -> Result<Response, Problem> {
    let name = call.param("name")?;
    let plugin = match known(&admin, &name) {
        Ok(record) => object(&record, &admin.telemetry),
        // A folder that cannot be used is listed, so it can be looked at.
        Err(unknown) => unusable_folders(&admin).find(|plugin| plugin.name == name).ok_or(unknown)?,
    };
    Ok(axum::Json(plugin).into_response())
}

pub(super) async fn start(admin: Arc<Admin>, call: Call, _: Body) -> Result<Response, Problem> {
    let name = call.param("name")?;
    let before = known(&admin, &name)?;
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
    known(&admin, &name)?;
    let wait = wait(&call)?;
    order(&admin, &call, "plugin.stop", &name, |supervisor| supervisor.want_down(&name)).await?;
    answer(&admin, wait, &name, |record| record.status.state == State::Stopped).await
}

pub(super) async fn restart(admin: Arc<Admin>, call: Call, _: Body) -> Result<Response, Problem> {
    let name = call.param("name")?;
    let before = known(&admin, &name)?;
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
    let record = known(admin, name)?;
    Ok((status, axum::Json(object(&record, &admin.telemetry))).into_response())
}

/// Every listener of the host and of its plugins.
pub(super) async fn ports(admin: Arc<Admin>, _: Call, _: Body) -> Result<Response, Problem> {
    let view = admin.registry.view();
    let plugins = view.plugins().map(|record| (record.entry.name.to_string(), record.own_port())).collect();
    let (api, bus) = admin.ports;
    let listen = admin.listen.clone();
    Ok(axum::Json(Ports { api, bus, listen, plugins, started_at: admin.started_at }).into_response())
}

/// The record of a usable plugin.
pub(super) fn known(admin: &Admin, name: &str) -> Result<Arc<PluginRecord>, Problem> {
    admin.registry.plugin(name).ok_or_else(|| UnknownPlugin(name.to_owned()).into())
}

impl From<UnknownPlugin> for Problem {
    fn from(error: UnknownPlugin) -> Self {
        Self::new(ErrorCode::NotFound, error.to_string())
    }
}

fn object(record: &PluginRecord, telemetry: &Telemetry) -> PluginObject {
    let entry = &record.entry;
    let mut capabilities: Vec<String> = Vec::new();
    let mut models = Vec::new();
    for instance in &record.instances {
        let registration = instance.registration();
        for capability in registration.capabilities() {
            if !capabilities.iter().any(|known| known == capability.as_str()) {
                capabilities.push(capability.to_string());
            }
        }
        for model in &registration.models {
            let model = json!(model);
            if !models.contains(&model) {
                models.push(model);
            }
        }
    }
    if record.instances.is_empty() {
        capabilities = entry.capabilities.iter().map(|granted| granted.id.to_string()).collect();
    }
    let version =
        record.instances.iter().find_map(|instance| instance.registration().register.version.clone());
    PluginObject {
        name: entry.name.to_string(),
        status: record.state().as_str(),
        reason: record.status.reason.clone(),
        since: Some(record.status.since),
        restarts: record.status.restarts,
        description: entry.description.clone(),
        version: version.unwrap_or_else(|| entry.version.clone()),
        folder: record.root.display().to_string(),
        autostart: entry.autostart,
        restart: json!(entry.restart),
        capabilities,
        models,
        instances: record.instances.iter().map(|instance| instance_object(instance)).collect(),
        resources: telemetry.latest(&entry.name),
        queued: record.capacity.waiting(),
        config: entry.shown(record.schema.as_deref()),
        revision: entry.revision,
        restart_needed: record.restart_needed(),
        config_schema: record.config_schema().cloned(),
        error: None,
    }
}

fn instance_object(instance: &Instance) -> InstanceObject {
    InstanceObject {
        id: instance.id,
        pid: instance.pid,
        status: json!(instance.condition()),
        since: instance.since,
        in_flight: instance.in_flight(),
        contract: match instance.contract {
            bkg_protocol::host::Contract::Base => "base",
            bkg_protocol::host::Contract::Extended => "extended",
        },
        identity: if instance.verified { "process" } else { "first-come" },
        port: instance.registration().register.port.number(),
        telemetry: instance.telemetry().map(|own| json!(own.telemetry)),
    }
}

/// A folder that cannot be used, with the reason.
fn unusable(found: &Discovered, name: String, status: &'static str, error: String) -> PluginObject {
    PluginObject {
        name,
        status,
        reason: Some(error.clone()),
        since: None,
        restarts: 0,
        description: String::new(),
        version: String::new(),
        folder: found.folder.display().to_string(),
        autostart: false,
        restart: Value::Null,
        capabilities: Vec::new(),
        models: Vec::new(),
        instances: Vec::new(),
        resources: Vec::new(),
        queued: 0,
        config: Value::Null,
        revision: 0,
        restart_needed: false,
        config_schema: None,
        error: Some(error),
    }
}
