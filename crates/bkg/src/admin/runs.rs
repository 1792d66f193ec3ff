//! What became of a plugin: its runs, the crash card of one, and every change of its state.
//!
//! Read from what is kept, over restarts of the host; how a plugin is now says its object.

use std::sync::Arc;

use axum::body::Body;
use axum::response::{IntoResponse, Response};
use bkg_protocol::{ErrorCode, InstanceId};
use schemars::JsonSchema;
use serde::Serialize;

use super::logs::number;
use super::plugins::known;
use super::{Admin, PLUGIN_NAME};
use crate::error::Problem;
use crate::store::{PluginEvent, Run, RunCard, Runs};
use crate::web::{Access, Call, Endpoint, Routes, Tag};

/// How many runs before it a crash card shows.
const EARLIER: u32 = 10;

/// Runs of a plugin.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "PluginRuns")]
pub(super) struct RunsPage {
    runs: Vec<Run>,
    /// How much of what happened to plugins could not be kept since the host started.
    missed: u64,
}

/// One run with all that is known of it.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "PluginRun")]
pub(super) struct RunWithCard {
    #[serde(flatten)]
    run: Run,
    #[serde(flatten)]
    card: RunCard,
    /// The runs of the plugin before this one, newest first.
    earlier: Vec<Run>,
}

/// What happened to a plugin.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "PluginEvents")]
pub(super) struct EventsPage {
    events: Vec<PluginEvent>,
    /// How much of what happened to plugins could not be kept since the host started.
    missed: u64,
}

/// How many runs are asked for.
#[derive(JsonSchema)]
#[schemars(inline, transparent)]
#[allow(dead_code, reason = "a type for the reference alone")]
struct RunLimit(#[schemars(range(min = 1, max = Runs::MOST_RUNS))] u32);

/// How many events are asked for.
#[derive(JsonSchema)]
#[schemars(inline, transparent)]
#[allow(dead_code, reason = "a type for the reference alone")]
struct EventLimit(#[schemars(range(min = 1, max = Runs::MOST_EVENTS))] u32);

/// Adds the routes of what became of plugins.
pub(super) fn routes(routes: Routes, admin: &Arc<Admin>) -> Routes {
    const READ: Access = Access::Scope("plugin:read");
    let get = |path, summary| {
        Endpoint::get(path, READ)
            .summary(Tag::Operation, summary)
            .path::<String>("name", PLUGIN_NAME)
            .errors(&[ErrorCode::NotFound])
    };
    let list = get("/admin/plugins/{name}/runs", "List the runs of a plugin")
        .query::<RunLimit>("limit", "How many; 20 unless said.")
        .answers::<RunsPage>(200, "The runs, newest first.");
    let show = get("/admin/plugins/{name}/runs/{id}", "Show a run of a plugin with its crash card")
        .path::<String>("id", "The run's id: what logs call `instance`.")
        .answers::<RunWithCard>(200, "The run.");
    let events = get("/admin/plugins/{name}/events", "List what happened to a plugin")
        .query::<EventLimit>("limit", "How many; 100 unless said.")
        .query::<InstanceId>("run", "Only what happened to the run of this id.")
        .answers::<EventsPage>(200, "The changes of its state, newest first.");
    routes.add(list, admin, self::list).add(show, admin, self::show).add(events, admin, self::events)
}

async fn list(admin: Arc<Admin>, call: Call, _: Body) -> Result<Response, Problem> {
    let plugin = known(&admin, &call, &call.param("name")?)?;
    let limit = limit(&call, 20, Runs::MOST_RUNS)?;
    let runs = admin.chronicler.up_to_now().await.runs(&plugin.entry.name, limit).await?;
    Ok(axum::Json(RunsPage { runs, missed: admin.chronicler.missed() }).into_response())
}

async fn show(admin: Arc<Admin>, call: Call, _: Body) -> Result<Response, Problem> {
    let plugin = known(&admin, &call, &call.param("name")?)?;
    let (name, id) = (&plugin.entry.name, call.param("id")?);
    let found = match id.parse::<InstanceId>() {
        Ok(id) => admin.chronicler.up_to_now().await.run(name, id, EARLIER).await?,
        Err(_) => None,
    };
    let (run, card, earlier) = found.ok_or_else(|| {
        let message = format!(
            "no run of plugin `{name}` with the id `{id}` is kept: `bkg plugin runs {name}` lists those that are"
        );
        Problem::new(ErrorCode::NotFound, message)
    })?;
    Ok(axum::Json(RunWithCard { run, card, earlier }).into_response())
}

async fn events(admin: Arc<Admin>, call: Call, _: Body) -> Result<Response, Problem> {
    let plugin = known(&admin, &call, &call.param("name")?)?;
    let limit = limit(&call, 100, Runs::MOST_EVENTS)?;
    let run = match call.query("run")? {
        None => None,
        Some(text) => Some(text.parse::<InstanceId>().map_err(|_| {
            Problem::invalid(format!("`run` is `{text}`: use the id of a run")).param("run")
        })?),
    };
    let events = admin.chronicler.up_to_now().await.events(&plugin.entry.name, run, limit).await?;
    Ok(axum::Json(EventsPage { events, missed: admin.chronicler.missed() }).into_response())
}

fn limit(call: &Call, otherwise: u32, most: u32) -> Result<u32, Problem> {
    match number(call, "limit")? {
        None => Ok(otherwise),
        Some(limit) if (1..=u64::from(most)).contains(&limit) => Ok(limit as u32),
        Some(limit) => Err(Problem::invalid(format!("`limit` is {limit}: use 1 to {most}")).param("limit")),
    }
}
