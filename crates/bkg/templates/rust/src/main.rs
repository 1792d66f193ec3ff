//! What `my-plugin` answers. A capability is a function; `plugin` says which there are.

use std::time::Duration;

use bkg_sdk::{Capability, ChunkSink, ErrorCode, Plugin, Request, Result, Settings, WireError};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

fn main() -> std::process::ExitCode {
    plugin().run()
}

/// What an operator can set: `config.json` holds the defaults, `plugin.json` the schema.
#[derive(Debug, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Greeting {
    greeting: String,
}

impl Default for Greeting {
    fn default() -> Self {
        Self {
            greeting: "hello".to_owned(),
        }
    }
}

/// The plugin as the host sees it.
fn plugin() -> Plugin {
    // A change of the settings takes effect while the plugin runs, unless this refuses it.
    let settings = Settings::<Greeting>::default().check(|new| async move {
        if new.greeting.trim().is_empty() {
            Err("`greeting` is empty")
        } else {
            Ok(())
        }
    });
    let greeting = settings.clone();
    Plugin::new()
        .version(env!("CARGO_PKG_VERSION"))
        .settings(&settings)
        .capability(
            Capability::new("my-plugin.greet")
                .description("A greeting with the word from the settings")
                .input_schema(json!({
                    "type": "object",
                    "properties": { "name": { "type": "string" } },
                    "required": ["name"]
                }))
                .idempotent()
                .answer(move |request| greet(request, greeting.clone()))
                // Below /api/plugins/my-plugin, for whoever may use the capability.
                .route("GET", "/greetings/{name}"),
        )
        .capability(
            Capability::new("my-plugin.count")
                .description("Counts from 0 to `n` - 1, with a pause of `delayMs` before each")
                .input_schema(json!({
                    "type": "object",
                    "properties": {
                        "n": { "type": "integer", "minimum": 0 },
                        "delayMs": { "type": "integer", "minimum": 0 }
                    },
                    "required": ["n"]
                }))
                .idempotent()
                .stream(count)
                .streaming_route("GET", "/count/{n}"),
        )
}

/// One answer: what the function returns. What it fails with is the caller's error.
async fn greet(request: Request, settings: Settings<Greeting>) -> Result<Value> {
    #[derive(Deserialize)]
    struct Guest {
        name: String,
    }
    // Through the route the name stands in the path, otherwise in the payload.
    let guest = match request.http().and_then(|http| http.param("name")) {
        Some(name) => Guest {
            name: name.to_owned(),
        },
        None => request.read()?,
    };
    if guest.name.is_empty() {
        return Err(invalid("name", "`name` is empty: say whom to greet"));
    }
    // A log line of this request: `bkg logs my-plugin` shows it.
    tracing::info!(name = guest.name, "greeting a guest");
    Ok(json!({ "greeting": format!("{} {}", settings.get().greeting, guest.name) }))
}

/// An answer in parts: `send` waits while the caller has yet to read, and fails when it has left.
async fn count(request: Request, chunks: ChunkSink) -> Result<()> {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Range {
        n: u64,
        #[serde(default)]
        delay_ms: u64,
    }
    let range = match request.http().and_then(|http| http.param("n")) {
        Some(n) => Range {
            n: n.parse()
                .map_err(|_| invalid("n", "`n` is a number from 0 on"))?,
            delay_ms: 0,
        },
        None => request.read()?,
    };
    for number in 0..range.n {
        if range.delay_ms > 0 {
            tokio::time::sleep(Duration::from_millis(range.delay_ms)).await;
        }
        chunks.send(json!({ "number": number })).await?;
    }
    Ok(())
}

/// The error for a request that does not fit: its caller sees a 400.
fn invalid(member: &str, message: &str) -> WireError {
    WireError::new(ErrorCode::InvalidRequest, message).param(member)
}

/// `cargo test` runs the plugin against a host in memory: no daemon, no socket.
#[cfg(test)]
mod tests {
    use bkg_sdk::testing::TestHost;

    use super::*;

    #[tokio::test]
    async fn a_guest_is_greeted_with_the_word_from_the_settings() {
        let host = TestHost::start(plugin()).await;
        let greeted = host
            .request("my-plugin.greet", json!({ "name": "Ada" }))
            .await
            .unwrap();
        assert_eq!(greeted.as_str(), r#"{"greeting":"hello Ada"}"#);

        host.configure(json!({ "greeting": "salut" }))
            .await
            .unwrap();
        let greeted = host
            .request("my-plugin.greet", json!({ "name": "Ada" }))
            .await
            .unwrap();
        assert_eq!(greeted.as_str(), r#"{"greeting":"salut Ada"}"#);
    }

    #[tokio::test]
    async fn nobody_is_not_greeted() {
        let host = TestHost::start(plugin()).await;
        let error = host
            .request("my-plugin.greet", json!({ "name": "" }))
            .await
            .unwrap_err();
        assert_eq!(
            (error.code.as_str(), error.param.as_deref()),
            ("invalid_request", Some("name"))
        );
    }

    #[tokio::test]
    async fn counting_comes_in_chunks() {
        let host = TestHost::start(plugin()).await;
        let (chunks, outcome) = host
            .stream("my-plugin.count", json!({ "n": 3 }))
            .collect()
            .await;
        let numbers: Vec<&str> = chunks.iter().map(|chunk| chunk.as_str()).collect();
        assert_eq!(
            numbers,
            [r#"{"number":0}"#, r#"{"number":1}"#, r#"{"number":2}"#]
        );
        assert!(outcome.is_ok());
    }
}
