//! The routes of models over HTTP: read, replaced, and what they come to at this moment.
//!
//! Not how a decision is made: `routing` knows that, and what is shown here is what it would decide for
//! somebody who may use everything. The invariant: looking at a decision changes none.

use std::sync::Arc;

use axum::body::Body;
use axum::response::{IntoResponse, Response};
use bkg_protocol::{CapabilityName, ErrorCode, PluginName, RawJson};
use http::header::ETAG;
use jiff::Timestamp;
use schemars::JsonSchema;
use serde::Serialize;
use serde_json::Value;

use super::Admin;
use super::config::{Revision, entity_tag, expected_revision};
use crate::config::{RoutedCapability, RoutingDocument};
use crate::error::Problem;
use crate::registry::ModelOwner;
use crate::routing::{
    Candidate, Decision, Part, RoutingError, Standing, Table, Verdict, decide, route_for,
};
use crate::web::{Access, Call, Endpoint, Routes, Tag};

/// The routes, and where they come from.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(rename = "RoutingTable")]
pub(super) struct Shown {
    /// How often routes were saved; 0 means never, and that those of the configuration file hold.
    revision: u64,
    /// When they were saved; `null` for those of the configuration file.
    saved_at: Option<Timestamp>,
    #[serde(flatten)]
    document: RoutingDocument,
}

/// What would become of a request that names a model.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(rename = "RoutingDecision")]
pub(super) struct Told {
    /// The name that the request would have.
    model: String,
    /// What it would ask for.
    capability: CapabilityName,
    /// The revision of the routes.
    revision: u64,
    /// The route of that name; `null` if it is a model's own.
    route: Option<String>,
    /// Who would be asked first; `null` if nobody could be.
    chosen: Option<Named>,
    /// Whether that one rests or cannot be reached, and would be asked for want of another.
    last_resort: bool,
    /// How many further attempts there would be at the targets.
    retries: usize,
    /// Everything that was looked at, as the route lists it.
    candidates: Vec<Looked>,
    /// Why nobody could be asked; `null` if somebody could.
    problem: Option<String>,
}

/// A model of a plugin.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "RoutedModel")]
struct Named {
    plugin: PluginName,
    /// The model, as the plugin knows it.
    model: String,
}

/// A model that was looked at.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(rename = "RoutingCandidate")]
struct Looked {
    /// The name that the route, or the request, has for it.
    named: String,
    /// Who offers it; `null` if nobody does.
    plugin: Option<PluginName>,
    /// The model, as that plugin knows it; `null` if nobody offers it.
    model: Option<String>,
    /// Why it was looked at.
    part: PartWord,
    /// The weight of a target.
    weight: Option<u32>,
    /// How many of 100 requests begin here, as things are.
    percent: Option<f64>,
    /// The place in the order of attempts, from 1; `null` if it would not be asked.
    place: Option<usize>,
    /// What its answers say about it.
    health: Option<HealthWord>,
    /// How many failures in a row there were.
    failures: Option<u32>,
    /// For how long it is left alone, in milliseconds.
    resting_for_ms: Option<u64>,
    /// Why it would not be asked, or only for want of another; `null` if it would.
    why_not: Option<String>,
}

/// Why a model is looked at.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(rename = "RoutingPart")]
enum PartWord {
    /// The request names the model itself.
    Model,
    /// A target of the route.
    Target,
    /// A fallback of the route.
    Fallback,
}

/// What the answers of a model say about it.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(rename = "ModelHealth")]
enum HealthWord {
    /// It answers, as far as is known.
    Fit,
    /// It failed too often and is left alone.
    Resting,
    /// Its rest is over: the next request finds out.
    Due,
    /// Its rest is over, and a request is finding out.
    Probed,
}

/// Adds the routes of routing.
pub(super) fn routes(routes: Routes, admin: &Arc<Admin>) -> Routes {
    const READ: Access = Access::Scope("plugin:read");
    const MANAGE: Access = Access::Scope("plugin:manage");
    let tag = Tag::Configuration;
    let show = Endpoint::get("/admin/routing", READ)
        .summary(tag, "Read the routes of models")
        .answers::<Shown>(200, "The routes; their `ETag` is the revision, for `If-Match`.");
    let replace = Endpoint::put("/admin/routing", MANAGE)
        .summary(tag, "Replace the routes of models")
        .describe("They hold at once for every request that begins afterwards.")
        .header::<Revision>(
            "if-match",
            "The revision that the change was made for, as in `ETag`; `*` for any.",
        )
        .takes::<RoutingDocument>()
        .answers::<Shown>(200, "They are saved and hold.")
        .errors(&[ErrorCode::Conflict, ErrorCode::InvalidConfig, ErrorCode::InsufficientStorage]);
    let decision = Endpoint::get("/admin/routing/decision", READ)
        .summary(tag, "Say where a request would go")
        .describe("As things are at this moment, for somebody who may use every model.")
        .needed_query::<String>("model", "The name that the request would have.")
        .query::<RoutedCapability>("capability", "What it would ask for; what the name is for unless said.")
        .answers::<Told>(200, "Who would be asked in which order, and why others would not.");
    routes.add(show, admin, read).add(replace, admin, self::replace).add(decision, admin, self::decision)
}

async fn read(admin: Arc<Admin>, call: Call, _: Body) -> Result<Response, Problem> {
    require_all_plugins(&call)?;
    Ok(shown(&admin.routing.table()))
}

fn shown(table: &Table) -> Response {
    let Table { revision, saved_at, document, .. } = table;
    let shown = Shown { revision: *revision, saved_at: *saved_at, document: document.clone() };
    ([(ETAG, entity_tag(*revision))], axum::Json(shown)).into_response()
}

async fn replace(admin: Arc<Admin>, call: Call, body: Body) -> Result<Response, Problem> {
    let body: RawJson = call.json(body, &admin.config.http).await?;
    require_all_plugins(&call)?;
    let body: Value =
        body.read().map_err(|error| Problem::invalid(format!("the body cannot be read: {error}")))?;
    let document = RoutingDocument::read(&body).map_err(|found| {
        let first = found.first().expect("who refuses a document says why");
        let message = format!("these are no routes: at `{}`, {}", first.path, first.message);
        Problem::new(ErrorCode::InvalidConfig, message).with_details(&found)
    })?;
    let action = call.action("routing.change", "routing".to_owned(), Value::Null);
    Ok(shown(&*admin.routing.save(expected_revision(&call)?, document, action).await?))
}

async fn decision(admin: Arc<Admin>, call: Call, _: Body) -> Result<Response, Problem> {
    require_all_plugins(&call)?;
    let model = call.query("model")?;
    let model = model.ok_or_else(|| Problem::invalid("`model` is missing").param("model"))?;
    let table = admin.routing.table();
    let capability = match call.query("capability")?.as_deref() {
        None => admin.capability_of(&table, &model),
        Some(named @ ("llm.chat" | "llm.embed")) => capability(named),
        Some(other) => {
            let message = format!("`capability` is `{other}`: use `llm.chat` or `llm.embed`");
            return Err(Problem::invalid(message).param("capability"));
        }
    };
    let now = admin.routing.now(&table, &admin.dispatcher, &capability, |_: &ModelOwner| true).looked_at();
    let decision = decide(&table.document, &capability, &model, &now);
    Ok(axum::Json(admin.told(&table, capability, model, &decision)).into_response())
}

/// Refuses a caller whose key was narrowed to some plugins: routes are about all of them.
fn require_all_plugins(call: &Call) -> Result<(), Problem> {
    if call.caller.rights().reach.plugins.is_none() {
        return Ok(());
    }
    let message = "routes are about every plugin and this key was narrowed to some: use one that was not";
    Err(Problem::new(ErrorCode::Forbidden, message))
}

fn capability(name: &str) -> CapabilityName {
    name.parse().expect("the names of capabilities are valid")
}

impl Admin {
    /// What a name is for: what its route says, else what somebody offers it for.
    fn capability_of(&self, table: &Table, model: &str) -> CapabilityName {
        let (chat, embed) = (capability("llm.chat"), capability("llm.embed"));
        let leads_somewhere = |capability: &CapabilityName| {
            let Some((_, route)) = route_for(&table.document, capability, model) else {
                return !self.dispatcher.owners_of(capability, model).is_empty();
            };
            let mut targets = route.targets.iter();
            route.capability.is_some()
                || targets
                    .any(|target| !self.dispatcher.owners_of(capability, target.model.as_str()).is_empty())
        };
        if !leads_somewhere(&chat) && leads_somewhere(&embed) { embed } else { chat }
    }

    fn told(&self, table: &Table, capability: CapabilityName, model: String, decision: &Decision) -> Told {
        let order: Vec<usize> = decision.order().collect();
        let chosen = order.first().and_then(|first| decision.candidates[*first].owner.as_ref());
        let chosen =
            chosen.map(|owner| Named { plugin: owner.plugin.clone(), model: owner.model.id.clone() });
        let place = |index| order.iter().position(|other| *other == index).map(|place| place + 1);
        let looked = decision.candidates.iter().enumerate();
        let candidates = looked
            .map(|(index, candidate)| self.looked(candidate, place(index), percent(decision, index)))
            .collect();
        let problem = chosen.is_none().then(|| match &decision.route {
            Some(route) => format!("no plugin offers what the route `{route}` leads to"),
            None => self.dispatcher.nobody_serves(&capability, &model).to_string(),
        });
        Told {
            revision: table.revision,
            route: decision.route.as_ref().map(ToString::to_string),
            last_resort: decision.is_last_resort && chosen.is_some(),
            retries: decision.retries,
            model,
            capability,
            chosen,
            candidates,
            problem,
        }
    }

    fn looked(&self, candidate: &Candidate, place: Option<usize>, percent: Option<f64>) -> Looked {
        let owner = candidate.owner.as_deref();
        let health = owner.map(|owner| self.routing.health().standing(&owner.plugin, &owner.model.id));
        let (part, weight) = match candidate.part {
            Part::Model => (PartWord::Model, None),
            Part::Target(weight) => (PartWord::Target, Some(weight)),
            Part::Fallback => (PartWord::Fallback, None),
        };
        Looked {
            named: candidate.named.clone(),
            plugin: owner.map(|owner| owner.plugin.clone()),
            model: owner.map(|owner| owner.model.id.clone()),
            part,
            weight,
            percent,
            place,
            health: health.map(|(standing, _)| match standing {
                Standing::Fit => HealthWord::Fit,
                Standing::Resting(_) => HealthWord::Resting,
                Standing::Due => HealthWord::Due,
                Standing::Probed => HealthWord::Probed,
            }),
            failures: health.map(|(_, failures)| failures),
            resting_for_ms: health.and_then(|(standing, _)| match standing {
                Standing::Resting(left) => Some(left.as_millis() as u64),
                _ => None,
            }),
            why_not: why_not(&candidate.verdict),
        }
    }
}

/// How many of 100 requests begin at a candidate: only the first of those who serve a target has a share.
fn percent(decision: &Decision, index: usize) -> Option<f64> {
    let weight_of = |index: usize| match decision.candidates[index].part {
        Part::Target(weight) => Some(weight),
        Part::Model | Part::Fallback => None,
    };
    let candidates = &decision.candidates;
    // Those who serve one target stand together, and the first that can be used is asked.
    let is_first = |index: usize| {
        decision.targets.contains(&index)
            && !decision
                .targets
                .iter()
                .any(|other| *other < index && candidates[*other].named == candidates[index].named)
    };
    let weight = weight_of(index).filter(|_| is_first(index))?;
    let firsts = decision.targets.iter().filter(|other| is_first(**other));
    let total: u64 = firsts.filter_map(|other| weight_of(*other)).map(u64::from).sum();
    Some((1_000.0 * f64::from(weight) / total as f64).round() / 10.0)
}

fn why_not(verdict: &Verdict) -> Option<String> {
    Some(match verdict {
        Verdict::Usable | Verdict::Probe => return None,
        Verdict::Resting(left) => {
            format!("it failed too often and rests for another {:.1} s", left.as_secs_f64())
        }
        Verdict::Probed => "its rest is over, and another request finds out whether it answers".to_owned(),
        Verdict::Drained => "its weight is 0".to_owned(),
        Verdict::Away(why) => why.clone(),
        Verdict::Unknown => "no plugin offers it".to_owned(),
        Verdict::Forbidden => "it may not be used".to_owned(),
        Verdict::Repeated => "it stands further up already".to_owned(),
    })
}

impl From<RoutingError> for Problem {
    fn from(error: RoutingError) -> Self {
        match error {
            RoutingError::Conflict { .. } => Self::new(ErrorCode::Conflict, error.to_string()),
            RoutingError::Store(error) => error.into(),
        }
    }
}
