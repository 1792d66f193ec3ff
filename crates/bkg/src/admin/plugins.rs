//! Plugins as operators see and steer them.

use std::net::SocketAddr;
use std::path::PathBuf;
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
use tracing::warn;

use super::Admin;
use crate::config::{Outcome, discover};
use crate::entries::{Files, TakeoverError};
use crate::error::Problem;
use crate::plugin_object::PluginObject;
use crate::registry::{LiveRoute, PluginRecord, State};
use crate::supervisor::{Share, Supervisor, SwapOutcome, SwapRefused, UnknownPlugin};
use crate::web::Call;

/// The longest that `?wait=` waits.
const LONGEST_WAIT: Duration = Duration::from_secs(600);

/// The longest that a version is tried with a share of the requests.
const LONGEST_TRIAL: Duration = Duration::from_secs(24 * 60 * 60);

/// How many of 100 requests.
#[derive(JsonSchema)]
#[schemars(inline, transparent)]
#[allow(dead_code, reason = "a type for the reference alone")]
pub(super) struct Percent(#[schemars(range(min = 1, max = 99))] u8);

/// How many seconds a trial lasts.
#[derive(JsonSchema)]
#[schemars(inline, transparent)]
#[allow(dead_code, reason = "a type for the reference alone")]
pub(super) struct Observe(#[schemars(range(min = 0, max = 86_400))] f64);

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

/// Has the version that the plugin's files describe now take over.
pub(super) async fn swap(admin: Arc<Admin>, call: Call, _: Body) -> Result<Response, Problem> {
    let name = call.param("name")?;
    let record = known(&admin, &call, &name)?;
    let wait = wait(&call)?;
    let share = share(&call, &record)?;
    let files = files(&admin, &record).await?;
    let detail = json!({ "sharePercent": share.map(|share| share.percent) });
    let action = call.action("plugin.swap", format!("plugin {name}"), detail);
    let intent = admin.audit.intend(action).await?;
    let why = format!("`{}` asked for it", call.caller.user());
    let ticket = match admin.entries.take_over(files, why, share).await {
        Ok(ticket) => ticket,
        Err(error) => {
            intent.failed(&error.to_string()).await?;
            return Err(error.into());
        }
    };
    let settled = {
        let ticket = ticket.clone();
        // The audit log hears how it ended, whether or not anybody waits for that.
        admin.entries.carry_out(async move {
            let noted = match ticket.outcome().await {
                SwapOutcome::Swapped { to, .. } => intent.done(json!({ "version": to.version })).await,
                SwapOutcome::Restarted => intent.done(json!({ "restarted": true })).await,
                SwapOutcome::Superseded => intent.failed("another swap took its place").await,
                SwapOutcome::RolledBack { reason, .. } => intent.failed(&reason).await,
            };
            if let Err(error) = noted {
                warn!(%error, "the end of a swap could not be written into the audit log");
            }
        })
    };
    let is_settled = match wait {
        None => false,
        Some(wait) => timeout(wait, settled).await.is_ok(),
    };
    let status = if is_settled { StatusCode::OK } else { StatusCode::ACCEPTED };
    let record = known(&admin, &call, &name)?;
    Ok((status, axum::Json(PluginObject::of(&record, &admin.telemetry))).into_response())
}

/// `?share=PERCENT&observe=SECONDS`.
fn share(call: &Call, record: &PluginRecord) -> Result<Option<Share>, Problem> {
    let observe = call.query("observe")?;
    let Some(text) = call.query("share")? else {
        let Some(text) = observe else { return Ok(None) };
        let Some(share) = Share::of_entry(&record.entry) else {
            let message = "`observe` says how long a share is tried, and neither the request nor the entry \
                           has a share: give `share` with it";
            return Err(Problem::new(ErrorCode::Conflict, message).param("observe"));
        };
        return Ok(Some(Share { observe: trial(&text)?, ..share }));
    };
    let percent = text.parse().ok().filter(|percent| (1..=99).contains(percent)).ok_or_else(|| {
        Problem::invalid(format!("`share` is `{text}`: use a whole number from 1 to 99")).param("share")
    })?;
    let observe = match observe {
        None => Share::observe_by(&record.entry),
        Some(text) => trial(&text)?,
    };
    Ok(Some(Share { percent, observe }))
}

/// How long a share is tried.
fn trial(text: &str) -> Result<Duration, Problem> {
    let seconds = text.parse().ok().and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
    seconds.filter(|observe| *observe <= LONGEST_TRIAL).ok_or_else(|| {
        let longest = LONGEST_TRIAL.as_secs();
        let message = format!("`observe` is `{text}`: use a number of seconds up to {longest}");
        Problem::invalid(message).param("observe")
    })
}

/// The plugin's files as they are now.
async fn files(admin: &Admin, record: &PluginRecord) -> Result<Files, Problem> {
    let config = Arc::clone(&admin.config);
    let look = move || {
        let named = config.plugin_folders.iter().map(PathBuf::as_path);
        discover(named, config.plugin_directories())
    };
    let catalogue = tokio::task::spawn_blocking(look).await.expect("looking at folders does not panic");
    let (name, root) = (&record.entry.name, &record.root);
    let mut problem = None;
    for found in catalogue.plugins {
        match found.outcome {
            Outcome::Ready(entry) if entry.name == *name => {
                return Ok(Files { entry: Arc::new(*entry), root: found.root });
            }
            Outcome::Broken { error } if found.root == *root => problem = Some(error.to_string()),
            _ => {}
        }
    }
    let problem = problem.unwrap_or_else(|| format!("its folder `{}` is no plugin", root.display()));
    Err(Problem::new(ErrorCode::InvalidRequest, format!("`{name}` cannot be swapped: {problem}")))
}

impl From<TakeoverError> for Problem {
    fn from(error: TakeoverError) -> Self {
        match error {
            TakeoverError::Entries(error) => error.into(),
            TakeoverError::Misfit(reason) => Self::new(ErrorCode::InvalidRequest, reason),
            TakeoverError::Refused(refused) => {
                let code = match &refused {
                    SwapRefused::Unknown(_) => ErrorCode::NotFound,
                    SwapRefused::OtherName { .. } | SwapRefused::NoShare(_) | SwapRefused::Percent(_) => {
                        ErrorCode::InvalidRequest
                    }
                    SwapRefused::TooManyVersions { .. } | SwapRefused::Stopping => {
                        ErrorCode::PluginUnavailable
                    }
                };
                Self::new(code, refused.to_string())
            }
        }
    }
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
