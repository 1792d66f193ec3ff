//! The reference plugin: one of everything that a plugin can do, each in a few lines.
//!
//! Made to be read, and copied from. It also answers whether a host works: `ping.ping` costs nothing.
//! It keeps nothing and needs nothing but the host.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bkg_sdk::{
    Capability, ChunkSink, ErrorCode, Health, Plugin, RawJson, Request, Result, RouteAnswer, Settings,
    WireError,
};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

fn main() -> std::process::ExitCode {
    plugin().run()
}

/// What an operator can set; `config.json` holds the defaults, `plugin.json` the schema.
#[derive(Debug, Serialize, Deserialize)]
#[serde(default)]
struct Greeting {
    greeting: String,
}

impl Default for Greeting {
    fn default() -> Self {
        Self { greeting: "hello".to_owned() }
    }
}

fn plugin() -> Plugin {
    let settings = Settings::<Greeting>::default().check(|new| async move {
        if new.greeting.trim().is_empty() { Err("`greeting` is empty") } else { Ok(()) }
    });
    let greeting = settings.clone();
    Plugin::new()
        .version(env!("CARGO_PKG_VERSION"))
        .settings(&settings)
        .capability(
            Capability::new("ping.ping")
                .description("Whether the plugin is there")
                .idempotent()
                .answer(ping)
                .route("GET", "/"),
        )
        .capability(
            Capability::new("ping.echo").description("The payload, as it came").idempotent().answer(echo),
        )
        .capability(
            Capability::new("ping.greet")
                .description("A greeting with the word from the settings")
                .input_schema(json!({
                    "type": "object",
                    "properties": { "name": { "type": "string" } },
                    "required": ["name"]
                }))
                .idempotent()
                .answer(move |request| greet(request, greeting.clone()))
                .route("GET", "/greetings/{name}"),
        )
        .capability(
            Capability::new("ping.count")
                .description("Counts from 0 to `n` - 1 in chunks, with a pause of `delayMs` before each")
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
        .capability(
            Capability::new("ping.reverse")
                .description("The body of an HTTP request, its last byte first")
                .idempotent()
                .answer(reverse)
                .route("POST", "/reverse"),
        )
        .capability(
            Capability::new("ping.relay")
                .description("Asks the host for another capability and answers what that answered")
                .answer(relay),
        )
        .capability(
            Capability::new("ping.trace")
                .description("Where the request stands in a trace")
                .idempotent()
                .answer(trace),
        )
        .capability(
            Capability::new("ping.feel")
                .description("Makes the plugin say that it is `up`, `degraded` or `down`")
                .side_effect()
                .answer(feel),
        )
}

/// A request: the answer is what the function returns.
async fn ping(request: Request) -> Result<Value> {
    // A figure of the plugin's own travels with every telemetry.
    static PINGS: AtomicU64 = AtomicU64::new(0);
    let pings = PINGS.fetch_add(1, Ordering::Relaxed) + 1;
    request.host().set_figure("pings", pings as f64);
    Ok(json!({ "pong": true }))
}

/// JSON that is passed on need not be read.
async fn echo(request: Request) -> Result<RawJson> {
    Ok(request.payload().clone())
}

/// A setting: the one in force at this moment.
async fn greet(request: Request, settings: Settings<Greeting>) -> Result<Value> {
    #[derive(Deserialize)]
    struct Guest {
        name: String,
    }
    // Through its route the name stands in the path, otherwise in the payload.
    let guest = match request.http().and_then(|http| http.param("name")) {
        Some(name) => Guest { name: name.to_owned() },
        None => request.read()?,
    };
    // A log line that names this request; the host shows it beside the plugin.
    tracing::info!(name = guest.name, "greeting a guest");
    Ok(json!({ "greeting": format!("{} {}", settings.get().greeting, guest.name) }))
}

/// A stream: `send` waits while the caller has yet to read, and fails when it has left.
async fn count(request: Request, chunks: ChunkSink) -> Result<()> {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Range {
        n: u64,
        #[serde(default)]
        delay_ms: u64,
    }
    let range = match request.http() {
        Some(http) => {
            let wrong = |name: &str| {
                let message = format!("`{name}` is a number from 0 on");
                WireError::new(ErrorCode::InvalidRequest, message).param(name)
            };
            let number = |name: &str, text: &str| text.parse().map_err(|_| wrong(name));
            Range {
                n: number("n", http.param("n").unwrap_or_default())?,
                delay_ms: number("delayMs", http.query_value("delayMs").unwrap_or("0"))?,
            }
        }
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

/// Bytes, in and out, with a type of their own.
async fn reverse(request: Request) -> Result<RouteAnswer> {
    let mut bytes = request.body()?;
    bytes.reverse();
    Ok(RouteAnswer::ok().header("content-type", "application/octet-stream").bytes(bytes))
}

/// A call: with the rights of the caller, as far as `calls` in `plugin.json` allows.
async fn relay(request: Request) -> Result<RawJson> {
    #[derive(Deserialize)]
    struct Order {
        capability: String,
        #[serde(default = "null")]
        payload: RawJson,
    }
    fn null() -> RawJson {
        RawJson::NULL
    }
    let order: Order = request.read()?;
    Ok(request.call(&order.capability, order.payload).answer().await?)
}

/// A trace: what others are asked for this request carries it on; give it to other services yourself.
async fn trace(request: Request) -> Result<Value> {
    Ok(json!({ "traceparent": request.traceparent() }))
}

/// Health: said at once, and again with every beat.
async fn feel(request: Request) -> Result<()> {
    #[derive(Deserialize)]
    struct Feeling {
        health: String,
        #[serde(default)]
        detail: String,
    }
    let feeling: Feeling = request.read()?;
    let health = match feeling.health.as_str() {
        "up" => Health::Up,
        "degraded" => Health::Degraded,
        "down" => Health::Down,
        other => {
            let message = format!("`health` is `up`, `degraded` or `down`, not `{other}`");
            return Err(WireError::new(ErrorCode::InvalidRequest, message).param("health"));
        }
    };
    request.host().set_health(health, feeling.detail);
    Ok(())
}

#[cfg(test)]
mod tests {
    use bkg_protocol::message;
    use bkg_sdk::LogLevel;
    use bkg_sdk::testing::TestHost;
    use tracing::subscriber::{DefaultGuard, set_default};
    use tracing_subscriber::layer::SubscriberExt;

    use super::*;

    /// A host that gets this thread's `tracing` events. Every test that greets needs it: whether an
    /// event is wanted is remembered for the process by the first thread that comes by.
    async fn logged_host() -> (TestHost, DefaultGuard) {
        let plugin = plugin();
        let guard = set_default(tracing_subscriber::registry().with(plugin.log_layer()));
        (TestHost::start(plugin).await, guard)
    }

    async fn answer(host: &TestHost, capability: &str, payload: Value) -> Value {
        host.request(capability, payload).await.unwrap().read().unwrap()
    }

    #[tokio::test]
    async fn a_ping_is_answered_by_a_pong_and_counted() {
        let host = TestHost::start(plugin()).await;
        assert_eq!(answer(&host, "ping.ping", json!(null)).await, json!({ "pong": true }));
    }

    #[tokio::test]
    async fn an_echo_is_what_was_sent() {
        let host = TestHost::start(plugin()).await;
        let payload = RawJson::parse(r#"{"b":1.50,"a":null}"#).unwrap();
        assert_eq!(host.request("ping.echo", payload.clone()).await, Ok(payload));
    }

    #[tokio::test]
    async fn a_greeting_follows_the_settings_while_it_runs() {
        let (host, _guard) = logged_host().await;
        let greeting =
            async || answer(&host, "ping.greet", json!({ "name": "Ada" })).await["greeting"].clone();
        assert_eq!(greeting().await, "hello Ada");
        host.configure(json!({ "greeting": "salut" })).await.unwrap();
        assert_eq!(greeting().await, "salut Ada");
        assert!(host.configure(json!({ "greeting": " " })).await.is_err());
        assert_eq!(greeting().await, "salut Ada");
        let refused = host.request("ping.greet", json!({})).await.unwrap_err();
        assert_eq!((refused.code.as_str(), refused.param.as_deref()), ("invalid_request", Some("name")));
    }

    #[tokio::test]
    async fn counting_comes_in_chunks() {
        let host = TestHost::start(plugin()).await;
        let (chunks, outcome) =
            host.stream("ping.count", json!({ "n": 100, "delayMs": 0 })).collect().await;
        let numbers: Vec<Value> = chunks.iter().map(|chunk| chunk.read().unwrap()).collect();
        assert_eq!(numbers, (0..100).map(|number| json!({ "number": number })).collect::<Vec<_>>());
        assert_eq!(outcome, Ok(RawJson::NULL));
    }

    /// A request through a route.
    fn through_route(capability: &str, http: Value, payload: Value) -> message::Request {
        let http = serde_json::from_value(http).unwrap();
        let request = message::Request::new(capability.parse().unwrap(), payload.into());
        message::Request { http: Some(http), ..request }
    }

    #[tokio::test]
    async fn routes_take_from_the_path_what_capabilities_take_from_the_payload() {
        let (host, _guard) = logged_host().await;
        let http = json!({ "method": "GET", "path": "/greetings/Ada", "params": { "name": "Ada" } });
        let greeted = host.send(through_route("ping.greet", http, json!(null))).outcome().await.unwrap();
        assert_eq!(greeted.as_str(), r#"{"greeting":"hello Ada"}"#);

        let http = json!({ "method": "GET", "path": "/count/3", "params": { "n": "3" } });
        let request = through_route("ping.count", http, json!(null));
        let (chunks, _) = host.send(message::Request { stream: true, ..request }).collect().await;
        assert_eq!(chunks.len(), 3);

        let http = json!({ "method": "GET", "path": "/count/x", "params": { "n": "x" } });
        let request = through_route("ping.count", http, json!(null));
        let refused = host.send(message::Request { stream: true, ..request }).outcome().await.unwrap_err();
        assert_eq!((refused.code.as_str(), refused.param.as_deref()), ("invalid_request", Some("n")));
    }

    #[tokio::test]
    async fn bytes_come_back_in_reverse() {
        let host = TestHost::start(plugin()).await;
        let http = json!({ "method": "POST", "path": "/reverse", "body": "base64" });
        let answer = host.send(through_route("ping.reverse", http, json!("AAH/"))).outcome().await.unwrap();
        let http = answer.read::<Value>().unwrap()["$http"].clone();
        assert_eq!((&http["status"], &http["base64"]), (&json!(200), &json!("/wEA")));
        let refused = host.request("ping.reverse", json!(null)).await.unwrap_err();
        assert_eq!(refused.code, "invalid_request");
    }

    #[tokio::test]
    async fn a_relayed_call_names_the_request_that_it_is_made_for() {
        let host = TestHost::builder()
            .answering("other.thing", |request| Ok(request.payload.clone()))
            .start(plugin())
            .await;
        let order = json!({ "capability": "other.thing", "payload": { "x": 1 } });
        let request = host.start_request("ping.relay", order);
        let id = request.id().clone();
        assert_eq!(request.outcome().await.unwrap().as_str(), r#"{"x":1}"#);
        assert_eq!(host.seen().asked[0].parent_request_id, Some(id));
    }

    #[tokio::test]
    async fn a_relayed_call_carries_the_trace_on() {
        const TRACE: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
        let host = TestHost::builder()
            .answering("other.thing", |request| Ok(request.payload.clone()))
            .start(plugin())
            .await;
        let traced = |capability: &str, payload: Value| message::Request {
            traceparent: Some(TRACE.to_owned()),
            ..message::Request::new(capability.parse().unwrap(), payload.into())
        };
        let seen = host.send(traced("ping.trace", json!(null))).outcome().await.unwrap();
        assert_eq!(seen.read::<Value>().unwrap(), json!({ "traceparent": TRACE }));
        let order = json!({ "capability": "other.thing" });
        host.send(traced("ping.relay", order)).outcome().await.unwrap();
        assert_eq!(host.seen().asked[0].traceparent.as_deref(), Some(TRACE));
    }

    #[tokio::test]
    async fn health_is_what_it_was_told_to_be() {
        let host = TestHost::start(plugin()).await;
        answer(&host, "ping.feel", json!({ "health": "degraded", "detail": "tired" })).await;
        host.until("the plugin says so", |seen| {
            seen.health
                .last()
                .is_some_and(|h| h.status == "degraded" && h.detail.as_deref() == Some("tired"))
        })
        .await;
        let error = host.request("ping.feel", json!({ "health": "fine" })).await.unwrap_err();
        assert_eq!((error.code.as_str(), error.param.as_deref()), ("invalid_request", Some("health")));
    }

    #[tokio::test]
    async fn a_greeting_is_logged_with_its_request() {
        let (host, _guard) = logged_host().await;
        let request = host.start_request("ping.greet", json!({ "name": "Ada" }));
        let id = request.id().clone();
        request.outcome().await.unwrap();
        host.until("the line has come", |seen| {
            seen.logs
                .iter()
                .any(|line| line.request_id.as_ref() == Some(&id) && line.level == LogLevel::Info)
        })
        .await;
    }

    #[tokio::test]
    async fn its_files_say_what_it_registers() {
        let host = TestHost::builder().name("ping").start(plugin()).await;
        let registration = host.seen().registrations.remove(0);
        let entry: Value = serde_json::from_str(include_str!("../plugin.json")).unwrap();
        let config: Value = serde_json::from_str(include_str!("../config.json")).unwrap();

        assert_eq!(entry["name"], "ping");
        assert_eq!(entry["version"], env!("CARGO_PKG_VERSION"));
        assert_eq!(entry["capabilities"], json!(["ping.*"]));
        assert!(
            registration.capabilities.iter().all(|capability| capability.id.as_str().starts_with("ping."))
        );
        let routes: Vec<String> =
            registration.routes.iter().map(|route| format!("{} {}", route.method, route.path)).collect();
        assert_eq!(routes, ["GET /", "GET /greetings/{name}", "GET /count/{n}", "POST /reverse"]);
        assert_eq!(config, serde_json::to_value(Greeting::default()).unwrap());
        let described: Vec<&String> =
            entry["configSchema"]["properties"].as_object().unwrap().keys().collect();
        assert_eq!(described, config.as_object().unwrap().keys().collect::<Vec<_>>());
    }
}
