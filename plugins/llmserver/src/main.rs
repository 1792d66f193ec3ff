//! The llmserver plugin: `llm.chat` and `llm.embed`, answered by a stand-in.
//!
//! There is no language model in here. The stand-in says so in every answer, keeps to everything that
//! OpenAI clients rely on, and costs next to nothing: that makes it the plugin to measure hosts with.

mod body;
mod chat;
mod chat_request;
mod embed;
mod embed_request;
mod settings;
mod tokens;

use bkg_sdk::{Capability, CapabilityName, Health, Host, Model, Plugin, Settings};

use crate::embed::DIMENSIONS;
use crate::settings::LlmSettings;

/// The id of the chat model.
const CHAT_MODEL: &str = "stand-in";
/// The id of the embedding model.
const EMBED_MODEL: &str = "stand-in-embed";

fn main() -> std::process::ExitCode {
    plugin().run()
}

fn plugin() -> Plugin {
    let settings = Settings::<LlmSettings>::default().check(|offered| async move { offered.check() });
    let (whole, streamed) = (settings.clone(), settings.clone());
    Plugin::new()
        .version(env!("CARGO_PKG_VERSION"))
        .settings(&settings)
        .capability(
            Capability::new("llm.chat")
                .description("Answers a chat in the form of OpenAI's chat completions; a stand-in")
                .idempotent()
                .answer(move |request| chat::answer(request, whole.clone()))
                .stream(move |request, chunks| chat::stream(request, chunks, streamed.clone())),
        )
        .capability(
            Capability::new("llm.embed")
                .description("Turns text into vectors in the form of OpenAI's embeddings; a stand-in")
                .idempotent()
                .answer(embed::answer),
        )
        .models([
            model(CHAT_MODEL, "llm.chat", None),
            model(EMBED_MODEL, "llm.embed", Some(DIMENSIONS as u64)),
        ])
        .background(say_what_serves)
}

fn model(id: &str, capability: &str, dimensions: Option<u64>) -> Model {
    let capability: CapabilityName = capability.parse().expect("the capability's name is a literal");
    Model {
        id: id.to_owned(),
        capability,
        owned_by: Some("backplane".to_owned()),
        context_length: None,
        dimensions,
    }
}

/// An operator must not take the stand-in for a model.
async fn say_what_serves(host: Host) {
    host.set_health(Health::Up, "a stand-in answers: no model is mounted");
}

#[cfg(test)]
mod tests {
    use bkg_sdk::testing::TestHost;
    use serde_json::{Value, json};

    use super::*;

    #[tokio::test]
    async fn it_offers_both_models_and_says_that_it_stands_in() {
        let host = TestHost::builder().name("llmserver").start(plugin()).await;
        let registration = serde_json::to_value(host.seen().registrations.remove(0)).unwrap();
        assert_eq!(
            registration["models"],
            json!([
                { "id": "stand-in", "capability": "llm.chat", "ownedBy": "backplane" },
                { "id": "stand-in-embed", "capability": "llm.embed", "ownedBy": "backplane", "dimensions": 384 },
            ])
        );
        let streaming: Vec<(&Value, &Value)> = registration["capabilities"]
            .as_array()
            .unwrap()
            .iter()
            .map(|capability| (&capability["id"], &capability["streaming"]))
            .collect();
        assert_eq!(streaming, [(&json!("llm.chat"), &json!(true)), (&json!("llm.embed"), &Value::Null)]);
        host.until("its health says what serves", |seen| {
            seen.health.iter().any(|health| {
                health.status == "up"
                    && health.detail.as_deref().is_some_and(|detail| detail.contains("stand-in"))
            })
        })
        .await;
    }

    #[test]
    fn its_files_say_what_it_registers() {
        let entry: Value = serde_json::from_str(include_str!("../plugin.json")).unwrap();
        let config: Value = serde_json::from_str(include_str!("../config.json")).unwrap();
        assert_eq!(entry["name"], "llmserver");
        assert_eq!(entry["version"], env!("CARGO_PKG_VERSION"));
        assert_eq!(entry["capabilities"], json!(["llm.chat", "llm.embed"]));
        assert_eq!(config, serde_json::to_value(LlmSettings::default()).unwrap());
        let described = &entry["configSchema"]["properties"]["tokenDelayMs"];
        assert_eq!(described["maximum"], settings::LONGEST_TOKEN_DELAY_MS);
        assert_eq!(described["default"], config["tokenDelayMs"]);
    }
}
