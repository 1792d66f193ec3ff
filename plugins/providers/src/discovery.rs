//! Which models the upstreams say they have, asked again and again.
//!
//! OpenAI's list at `models` first; where there is none, Ollama's own at `/api/tags`. The invariant: a list that
//! cannot be had leaves the last one as it is, so that a short outage takes no model away.

use std::sync::Arc;
use std::time::Duration;

use bkg_sdk::{Host, Settings};
use serde_json::Value;
use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::failure::{Failure, Wait};
use crate::roster::{Found, Roster};
use crate::settings::{ProvidersSettings, check_model};
use crate::upstream::Upstream;

/// How long a list may take.
const WITHIN: Duration = Duration::from_secs(15);
/// The pause after a first failure; it doubles, up to the interval.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
/// How many models of one upstream are offered.
const MOST_MODELS: usize = 5_000;

/// Keeps the lists of models current until the plugin stops.
pub(crate) async fn keep_current(host: Host, roster: Arc<Roster>, settings: Settings<ProvidersSettings>) {
    let mut watch = settings.watch();
    loop {
        let interval = watch.borrow_and_update().discovery_interval();
        // Dropping the set ends what goes on in it.
        let mut looking = JoinSet::new();
        for upstream in roster.upstreams() {
            if upstream.settings.models.listed().is_none() {
                looking.spawn(look_again_and_again(upstream, roster.clone(), interval));
            }
        }
        roster.changed.notify_one();
        tokio::select! {
            () = host.stopping().cancelled() => return,
            changed = watch.changed() => if changed.is_err() { return },
        }
    }
}

async fn look_again_and_again(upstream: Arc<Upstream>, roster: Arc<Roster>, interval: Duration) {
    let mut pause = FIRST_PAUSE;
    loop {
        let listed = match timeout(WITHIN, list(&upstream)).await {
            Ok(listed) => listed,
            Err(_) => Err(Failure::TimedOut(Wait::FirstByte, WITHIN)),
        };
        let wait = match listed {
            Ok(found) => {
                roster.discovered(&upstream, found);
                upstream.record.set_discovery(None);
                pause = FIRST_PAUSE;
                interval
            }
            Err(failure) => {
                let problem = upstream.without_key(failure.into_error(upstream.name())).message;
                if upstream.record.set_discovery(Some(problem.clone())) {
                    tracing::warn!(
                        upstream = upstream.name(),
                        problem,
                        "the upstream's models cannot be listed"
                    );
                }
                let wait = pause;
                pause = (pause * 2).min(interval.max(FIRST_PAUSE));
                wait
            }
        };
        roster.changed.notify_one();
        tokio::time::sleep(wait.mul_f64(rand::random_range(0.9..1.1))).await;
    }
}

async fn list(upstream: &Upstream) -> Result<Vec<Found>, Failure> {
    let native = match upstream.get(upstream.url("models")).await {
        Ok(reply) => match serde_json::from_slice::<Value>(&reply.whole().await?) {
            Ok(listed) if listed.get("data").is_some() => return read_list(&listed, "data"),
            _ => Failure::Unreadable("it lists no models".to_owned()),
        },
        Err(failure) if failure.is_no_such_path() => failure,
        Err(failure) => return Err(failure),
    };
    // One that has neither is told what is wrong with the usual one.
    let Ok(reply) = upstream.get(upstream.url("../api/tags")).await else { return Err(native) };
    match serde_json::from_slice::<Value>(&reply.whole().await?) {
        Ok(listed) if listed.get("models").is_some() => read_list(&listed, "models"),
        _ => Err(native),
    }
}

/// The models of a list; entries that name none are left out, and so is what comes after the first thousands.
fn read_list(listed: &Value, member: &str) -> Result<Vec<Found>, Failure> {
    let models = match &listed[member] {
        Value::Array(models) => models,
        // Ollama has no models yet.
        Value::Null => return Ok(Vec::new()),
        _ => return Err(Failure::Unreadable(format!("its `{member}` is no list of models"))),
    };
    let mut found: Vec<Found> = Vec::new();
    for model in models.iter().take(MOST_MODELS) {
        let id = ["id", "model", "name"].iter().find_map(|name| model.get(name).and_then(Value::as_str));
        let Some(id) = id.filter(|id| check_model(id).is_ok()) else { continue };
        if found.iter().all(|known| known.id != id) {
            found.push(Found { id: id.to_owned(), embeds: embeds(model), context_length: length(model) });
        }
    }
    Ok(found)
}

/// Whether the model embeds, where its entry says what it is.
fn embeds(model: &Value) -> Option<bool> {
    if let Some(able) = model.get("capabilities").and_then(Value::as_array) {
        let names: Vec<&str> = able.iter().filter_map(Value::as_str).collect();
        if names.contains(&"embedding") {
            return Some(true);
        }
        if names.contains(&"completion") {
            return Some(false);
        }
    }
    let family = model["details"]["family"].as_str()?;
    family.contains("bert").then_some(true)
}

/// The longest input, under the names that upstreams have for it.
fn length(model: &Value) -> Option<u64> {
    ["max_model_len", "context_length", "context_window", "max_context_length"]
        .iter()
        .find_map(|name| model.get(name).and_then(Value::as_u64))
        .or_else(|| model["meta"]["n_ctx_train"].as_u64())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn lists_are_read_in_every_form() {
        let openai = json!({ "object": "list", "data": [
            { "id": "a/b", "object": "model", "max_model_len": 8192 },
            { "id": "a/b" }, { "id": "" }, { "id": "with space" }, {}, 1,
            { "id": "c", "meta": { "n_ctx_train": 4096 } },
        ]});
        let found = |id: &str, embeds, context_length| Found { id: id.to_owned(), embeds, context_length };
        let expected = [found("a/b", None, Some(8192)), found("c", None, Some(4096))];
        assert_eq!(read_list(&openai, "data").unwrap(), expected);
        let ollama = json!({ "models": [
            { "name": "llama3.2:1b", "model": "llama3.2:1b", "details": { "family": "llama" } },
            { "name": "all-minilm:22m", "details": { "family": "bert" } },
            { "name": "x", "capabilities": ["embedding"] },
        ]});
        let expected = [
            found("llama3.2:1b", None, None),
            found("all-minilm:22m", Some(true), None),
            found("x", Some(true), None),
        ];
        assert_eq!(read_list(&ollama, "models").unwrap(), expected);
        assert_eq!(read_list(&json!({ "models": null }), "models").unwrap(), []);
        assert!(read_list(&json!({ "data": {} }), "data").is_err());
    }
}
