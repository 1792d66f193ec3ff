//! `GET /v1/models` and `GET /v1/models/{id}`.

use std::sync::Arc;

use axum::body::Body;
use axum::response::{IntoResponse, Response};
use bkg_protocol::ErrorCode;
use schemars::JsonSchema;
use serde::Serialize;

use super::Gateway;
use crate::error::Problem;
use crate::registry::{ModelOwner, View};
use crate::routing::route_for;
use crate::web::Call;

/// The models that a caller may use.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "ServedModels")]
pub(super) struct Models {
    /// `list`.
    object: &'static str,
    data: Vec<Model>,
}

/// A model that a plugin serves.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "ServedModel")]
pub(super) struct Model {
    id: String,
    /// `model`.
    object: &'static str,
    /// Since when it can be used, in seconds since 1970.
    created: i64,
    /// Who offers it.
    owned_by: String,
}

/// Who owns a route: the host, whoever answers.
const OF_A_ROUTE: &str = "backplane";

impl Model {
    fn new(id: &str, created: i64, owned_by: String) -> Self {
        Self { id: id.to_owned(), object: "model", created, owned_by }
    }
}

pub(super) async fn list(gateway: Arc<Gateway>, call: Call, _: Body) -> Result<Response, Problem> {
    Ok(axum::Json(Models { object: "list", data: usable(&gateway, &call) }).into_response())
}

pub(super) async fn retrieve(gateway: Arc<Gateway>, call: Call, _: Body) -> Result<Response, Problem> {
    let id = call.param("id")?;
    let model = usable(&gateway, &call).into_iter().find(|model| model.id == id);
    Ok(axum::Json(model.ok_or_else(|| no_such_model(&id))?).into_response())
}

/// There is no such model for this caller; whether there is one for others is not told.
pub(super) fn no_such_model(id: &str) -> Problem {
    let message = format!(
        "the model `{id}` does not exist, is not available now, or may not be used with this key: `/v1/models` lists those that may"
    );
    Problem::new(ErrorCode::ModelNotFound, message).param("model")
}

/// The routes and models that the caller may use and that a plugin serves at this moment. A route comes
/// before a model of its name.
fn usable(gateway: &Gateway, call: &Call) -> Vec<Model> {
    let view = gateway.registry.view();
    let table = gateway.routing.table();
    let routed = table.document.routes.keys().filter_map(|name| {
        let id = name.as_str();
        let capabilities = [&gateway.chat, &gateway.embed].into_iter();
        let created = capabilities.filter_map(|capability| {
            route_for(&table.document, capability, id)?;
            let decision = gateway.look(&table, call, capability, id);
            let tried = decision.order().filter_map(|index| decision.candidates[index].owner.as_ref());
            tried.filter_map(|owner| serving_since(&view, owner)).next()
        });
        Some(Model::new(id, created.min()?, OF_A_ROUTE.to_owned()))
    });
    let mut usable: Vec<Model> = routed.collect();
    let routes = usable.len();
    for (id, owners) in view.models() {
        let mut usable_owners = owners.iter().filter(|owner| gateway.may_use(&call.caller, owner, None));
        let serving = usable_owners.find_map(|owner| Some((owner, serving_since(&view, owner)?)));
        let is_listed = || usable[..routes].iter().any(|route| route.id == id);
        // Whoever asks for it by this name gets what the route gives.
        let is_routed =
            |owner: &ModelOwner| route_for(&table.document, &owner.model.capability, id).is_some();
        if let Some((owner, created)) = serving.filter(|(owner, _)| !is_listed() && !is_routed(owner)) {
            let owned_by = owner.model.owned_by.clone().unwrap_or_else(|| owner.plugin.to_string());
            usable.push(Model::new(id, created, owned_by));
        }
    }
    usable
}

/// Since when the model can be used, in seconds since 1970; `None` while no instance serves it, and none
/// would be started for it.
fn serving_since(view: &View, owner: &ModelOwner) -> Option<i64> {
    let record = view.plugin(owner.plugin.as_str())?;
    if record.comes_for(owner.model.capability.as_str()) {
        return Some(record.status.since.as_second());
    }
    let instance = record.instances.iter().find(|instance| {
        instance.is_in_rotation()
            && instance.registration().terms(owner.model.capability.as_str()).is_some()
    })?;
    Some(instance.since.as_second())
}
