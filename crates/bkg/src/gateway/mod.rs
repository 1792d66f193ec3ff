//! `/v1`: what OpenAI's clients speak, answered by whichever plugin serves the model; and the routes that
//! plugins have of their own (`plugin_routes`).
//!
//! Bodies pass through unread but for the few members that decide where they go. The invariant: what
//! a client sees is a correct answer or a correct error; a broken stream never looks complete.

mod chat;
mod completions;
mod embeddings;
mod models;
pub mod plugin_routes;
mod schema;
mod sse;

use std::pin::pin;
use std::sync::Arc;

use bkg_protocol::{CapabilityName, ErrorCode, RawJson};
use serde_json::value::RawValue;

use crate::auth::Caller;
use crate::config::HttpLimits;
use crate::dispatcher::{Answer, Dispatcher, Question, Target};
use crate::error::Problem;
use crate::registry::{ModelOwner, Registry};
use crate::web::{Access, Call, Endpoint, FROM_PLUGINS, Meter, Metering, Routes, Tag};

/// What the gateway works with.
#[derive(Debug)]
pub struct Gateway {
    /// Who carries requests to plugins.
    pub dispatcher: Arc<Dispatcher>,
    /// Who offers which model.
    pub registry: Arc<Registry>,
    /// Bounds of requests.
    pub limits: HttpLimits,
    /// Where what requests used is written down.
    pub metering: Arc<Metering>,
    chat: CapabilityName,
    embed: CapabilityName,
}

/// Adds the routes below `/v1`.
pub fn routes(routes: Routes, gateway: &Arc<Gateway>) -> Routes {
    let ask = |path, scope, summary| {
        Endpoint::post(path, Access::Scope(scope)).summary(Tag::OpenAi, summary).errors(FROM_PLUGINS)
    };
    const CHUNKS: &str = "With `stream`, its chunks, and `[DONE]` at a successful end.";
    let chat = ask("/v1/chat/completions", "llm.chat", "Have a chat completed")
        .takes::<schema::ChatRequest>()
        .answers::<schema::Completion>(200, "The completion.")
        .streams::<schema::Completion>(200, CHUNKS);
    let completions = ask("/v1/completions", "llm.chat", "Have a text completed")
        .describe("The older form: a chat with one user message.")
        .takes::<schema::CompletionRequest>()
        .answers::<schema::Completion>(200, "The completion.")
        .streams::<schema::Completion>(200, CHUNKS);
    let embeddings = ask("/v1/embeddings", "llm.embed", "Have texts embedded")
        .takes::<schema::EmbeddingRequest>()
        .answers::<schema::Embeddings>(200, "The embeddings.");
    let list = Endpoint::get("/v1/models", Access::AnyCaller)
        .summary(Tag::OpenAi, "List models")
        .answers::<models::Models>(
        200,
        "The models that the caller may use and that a plugin serves now.",
    );
    let retrieve = Endpoint::get("/v1/models/{*id}", Access::AnyCaller)
        .summary(Tag::OpenAi, "Show a model")
        .path::<String>("id", "The model's id, which may contain slashes, encoded or not.")
        .answers::<models::Model>(200, "The model.")
        .errors(&[ErrorCode::ModelNotFound]);
    routes
        .add(chat, gateway, chat::create)
        .add(completions, gateway, completions::create)
        .add(embeddings, gateway, embeddings::create)
        .add(list, gateway, models::list)
        .add(retrieve, gateway, models::retrieve)
}

impl Gateway {
    /// A gateway that keeps these bounds.
    pub fn new(
        dispatcher: Arc<Dispatcher>,
        registry: Arc<Registry>,
        limits: HttpLimits,
        metering: Arc<Metering>,
    ) -> Self {
        let capability = |name: &str| name.parse().expect("the gateway's capability names are valid");
        let (chat, embed) = (capability("llm.chat"), capability("llm.embed"));
        Self { dispatcher, registry, limits, metering, chat, embed }
    }

    /// Whether the caller may use a model: its scopes are enough for the capability and for what the
    /// plugin's entry demands besides, and its key reaches that far.
    fn may_use(&self, caller: &Caller, owner: &ModelOwner) -> bool {
        let capability = &owner.model.capability;
        let record = self.registry.plugin(owner.plugin.as_str());
        let chosen = record.as_ref().and_then(|record| record.entry.scopes.get(capability));
        let reach = &caller.rights().reach;
        caller.require(capability.as_str()).is_ok()
            && chosen.is_none_or(|scope| caller.require(scope.as_str()).is_ok())
            && reach.has_plugin(&owner.plugin)
            && reach.has_model(&owner.plugin, &owner.model.id)
    }

    /// Has the plugin that serves the model answer, for as long as the caller may ask, and measures it.
    /// `streamed` makes the payload of a request whose answer is to be streamed.
    async fn ask(
        &self,
        call: &Call,
        capability: &CapabilityName,
        model: Option<&str>,
        body: RawJson,
        streamed: impl FnOnce(&RawJson) -> Result<Option<RawJson>, Problem>,
    ) -> Result<(Answer, Meter), Problem> {
        let lineage = call.lineage(self.limits.request_timeout);
        let mut meter = self.metering.begin(&lineage, capability, model);
        let asking = async {
            let (target, payload) = self.route(&call.caller, capability, model, body)?;
            let question = Question {
                target,
                capability: capability.clone(),
                streamed_payload: streamed(&payload)?,
                payload,
                http: None,
                lineage,
            };
            // Pinned here: the future is large, and passing it on would copy it.
            call.while_allowed(pin!(self.dispatcher.ask(question))).await
        };
        let answered = asking.await.inspect_err(|problem| meter.failed(problem))?;
        meter.answered_by(&answered.plugin);
        match &answered.answer {
            Answer::Stream(_) => meter.streams(),
            Answer::Whole(data) => meter.read_tokens(data),
        }
        Ok((answered.answer, meter))
    }

    /// Who serves the model that a request names, and what the request becomes for that plugin: a
    /// model that was named as `plugin/id` is known to its plugin as `id`.
    fn route(
        &self,
        caller: &Caller,
        capability: &CapabilityName,
        model: Option<&str>,
        body: RawJson,
    ) -> Result<(Target, RawJson), Problem> {
        let Some(model) = model else {
            return Err(
                Problem::invalid("`model` is missing: name one that `/v1/models` lists").param("model")
            );
        };
        let owner = self.dispatcher.owner_of(capability, model)?;
        if !self.may_use(caller, &owner) {
            return Err(models::no_such_model(model));
        }
        let body =
            if owner.model.id == model { body } else { with_member(&body, "model", &owner.model.id)? };
        Ok((Target::Plugin(owner.plugin.clone()), body))
    }
}

/// An object whose members keep their order and their text.
type Members = indexmap::IndexMap<String, Box<RawValue>>;

fn raw(value: &(impl serde::Serialize + ?Sized)) -> Box<RawValue> {
    serde_json::value::to_raw_value(value).expect("the value has a JSON form")
}

/// The object with one member set, everything else in its order and its text.
fn with_member(
    body: &RawJson,
    name: &str,
    value: &(impl serde::Serialize + ?Sized),
) -> Result<RawJson, Problem> {
    let mut members: Members = crate::web::members(body)?;
    members.insert(name.to_owned(), raw(value));
    Ok(RawJson::of(&members))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn setting_a_member_leaves_the_others_as_they_were_written() {
        let body = RawJson::parse(r#"{"z":1.50,"model":"a/b","n":12345678901234567890}"#).unwrap();
        let next = with_member(&body, "model", "b").unwrap();
        assert_eq!(next.as_str(), r#"{"z":1.50,"model":"b","n":12345678901234567890}"#);
    }
}
