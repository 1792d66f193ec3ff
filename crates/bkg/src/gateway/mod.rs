//! `/v1`: what OpenAI's and Anthropic's clients speak, answered by whichever plugin serves the model; and the
//! routes that plugins have of their own (`plugin_routes`).
//!
//! Bodies pass through unread but for the few members that decide where they go; `responses` and `messages`
//! are translations onto `llm.chat`. The invariant: what a client sees is a correct answer or a correct
//! error; a broken stream never looks complete.

mod attempts;
mod chat;
mod completions;
mod conversation;
mod embeddings;
#[cfg(test)]
mod golden;
mod messages;
mod models;
mod object;
mod parts;
pub mod plugin_routes;
mod responses;
mod schema;
mod sse;
mod translation;

use std::sync::Arc;

use attempts::Request;
use bkg_protocol::{CapabilityName, ErrorCode, RawJson};
use serde_json::value::RawValue;

use crate::auth::Caller;
use crate::config::HttpLimits;
use crate::dispatcher::{Answer, Dispatcher};
use crate::error::Problem;
use crate::registry::{ModelOwner, Registry};
use crate::routing::Routing;
use crate::web::{Access, Call, Endpoint, FROM_PLUGINS, Form, Meter, Metering, Routes, Tag};

/// What the gateway works with.
#[derive(Debug)]
pub struct Gateway {
    /// Who carries requests to plugins.
    pub dispatcher: Arc<Dispatcher>,
    /// Who offers which model.
    pub registry: Arc<Registry>,
    /// Which models answer for which names.
    pub routing: Arc<Routing>,
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
    let responses = ask("/v1/responses", "llm.chat", "Have a response made")
        .describe("OpenAI's Responses API as a translation of a chat. Nothing is kept between requests.")
        .takes::<schema::ResponseRequest>()
        .answers::<schema::ModelResponse>(200, "The response.")
        .streams::<schema::ResponseEvent>(200, "With `stream`, its events.");
    let messages = ask("/v1/messages", "llm.chat", "Have a message written")
        .describe(
            "Anthropic's Messages API as a translation of a chat. The key may also come in `x-api-key`.",
        )
        .takes::<schema::MessageRequest>()
        .answers::<schema::ModelMessage>(200, "The message.")
        .streams::<schema::MessageEvent>(200, "With `stream`, its events.");
    let count = Endpoint::post("/v1/messages/count_tokens", Access::Scope("llm.chat"))
        .summary(Tag::OpenAi, "Estimate the tokens of a message")
        .describe(
            "An estimate: a token is taken to have four bytes, an image 1,600 tokens. No plugin is asked.",
        )
        .takes::<schema::CountRequest>()
        .answers::<messages::TokenCount>(200, "The estimate.");
    routes
        .add(responses, gateway, responses::create)
        .add(messages, gateway, messages::create)
        .add(count, gateway, messages::count_tokens)
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
        routing: Arc<Routing>,
        limits: HttpLimits,
        metering: Arc<Metering>,
    ) -> Self {
        let capability = |name: &str| name.parse().expect("the gateway's capability names are valid");
        let (chat, embed) = (capability("llm.chat"), capability("llm.embed"));
        Self { dispatcher, registry, routing, limits, metering, chat, embed }
    }

    /// Whether the caller may use a model: its scopes are enough for the capability and for what the
    /// plugin's entry demands besides, and its key reaches that far. A key that names a route need not name
    /// the models behind it.
    fn may_use(&self, caller: &Caller, owner: &ModelOwner, route: Option<&str>) -> bool {
        let (plugin, model) = (&owner.plugin, &owner.model);
        let record = self.registry.plugin(plugin.as_str());
        let chosen = record.as_ref().and_then(|record| record.entry.scopes.get(&model.capability));
        let reach = &caller.rights().reach;
        let is_named = match route {
            None => reach.has_model(plugin, &model.id),
            // A route that bears its model's name takes nothing from those who may use that.
            Some(route) => reach.has_name(route) || route == model.id && reach.has_model(plugin, &model.id),
        };
        caller.require(model.capability.as_str()).is_ok()
            && chosen.is_none_or(|scope| caller.require(scope.as_str()).is_ok())
            && reach.has_plugin(plugin)
            && is_named
    }

    /// Has one of the models that may answer the request do so, for as long as the caller may ask, and
    /// measures it. `streamed` makes the payload of a request whose answer is to be streamed.
    async fn ask(
        &self,
        call: &Call,
        capability: &CapabilityName,
        model: Option<&str>,
        body: RawJson,
        streamed: impl Fn(&RawJson) -> Result<Option<RawJson>, Problem>,
    ) -> Result<(Answer, Meter), Problem> {
        let model = model.map(of_a_models_length).transpose()?;
        let mut lineage = call.lineage(self.limits.request_timeout);
        let mut meter = self.metering.begin(&lineage, capability, model);
        lineage.traceparent = meter.traceparent();
        meter.admit(call, &body, Form::AsAsked)?;
        let answer = match model {
            Some(model) => {
                let request = Request { call, capability, model, body, streamed, lineage };
                self.answer(&request, &mut meter).await
            }
            None => {
                Err(Problem::invalid("`model` is missing: name one that `/v1/models` lists").param("model"))
            }
        };
        let answer = answer.inspect_err(|problem| meter.failed(problem))?;
        match &answer {
            Answer::Stream(_) => meter.streams(),
            Answer::Whole(data) => meter.read_tokens(data),
        }
        Ok((answer, meter))
    }
}

/// The longest name of a model that is looked up, in bytes. The name stands in the list of requests, so a
/// client must not choose how much room that takes.
const LONGEST_MODEL: usize = 512;

/// A name that a client gave for a model, unless it is longer than any model's.
fn of_a_models_length(model: &str) -> Result<&str, Problem> {
    if model.len() <= LONGEST_MODEL {
        return Ok(model);
    }
    let message = format!(
        "`model` has {} bytes and no model's name has more than {LONGEST_MODEL}: name one that `/v1/models` lists",
        model.len()
    );
    Err(Problem::invalid(message).param("model"))
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
