//! How the upstreams are: for the host's list of models, its health and figures, and for whoever asks with
//! `providers.upstreams`.
//!
//! Health comes from real answers. The plugin never says `down`: then nobody would send what shows that an
//! upstream is back, and callers would not hear why they get no answer.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bkg_sdk::{Health, Host, Model, Request, Result, Settings};
use serde_json::{Value, json};
use tokio::time::sleep;

use crate::roster::Roster;
use crate::settings::ProvidersSettings;
use crate::upstream::Upstream;

/// How often figures are brought up to date where nothing else happens.
const EVERY: Duration = Duration::from_secs(5);
/// The pause before models are offered again to a host that did not take them.
const OFFER_AGAIN: Duration = Duration::from_secs(1);

/// Tells the host what there is until the plugin stops.
pub(crate) async fn keep_telling(host: Host, roster: Arc<Roster>, settings: Settings<ProvidersSettings>) {
    let mut watch = settings.watch();
    let mut offered: Vec<Model> = Vec::new();
    let mut refused = None;
    let mut told = None;
    loop {
        let models = roster.models();
        let mut wait = EVERY;
        if models != offered {
            match host.set_models(models.clone()).await {
                Ok(()) => (offered, refused) = (models, None),
                Err(error) => {
                    tracing::warn!(%error, "the host did not take the models");
                    refused = Some(error.to_string());
                    wait = OFFER_AGAIN;
                }
            }
        }
        let upstreams = roster.upstreams();
        let health = health(&upstreams, offered.len(), refused.as_deref());
        if told.as_ref() != Some(&health) {
            host.set_health(health.0, health.1.clone());
            told = Some(health);
        }
        set_figures(&host, &upstreams, offered.len());
        tokio::select! {
            () = host.stopping().cancelled() => return,
            () = roster.changed.notified() => {}
            () = sleep(wait) => {}
            changed = watch.changed() => if changed.is_err() { return },
        }
    }
}

/// How the plugin feels, and why.
fn health(upstreams: &[Arc<Upstream>], models: usize, refused: Option<&str>) -> (Health, String) {
    let mut troubles: Vec<String> = upstreams.iter().filter_map(|upstream| trouble(upstream)).collect();
    troubles.extend(refused.map(|why| format!("the host did not take the models: {why}")));
    match (upstreams.len(), troubles.is_empty()) {
        (0, _) => (Health::Up, "no upstream is configured: add one to `upstreams`".to_owned()),
        (_, false) => (Health::Degraded, troubles.join("; ")),
        (count, true) => (Health::Up, format!("{models} models of {count} upstreams")),
    }
}

fn set_figures(host: &Host, upstreams: &[Arc<Upstream>], models: usize) {
    let sum =
        |of: &dyn Fn(&Upstream) -> u64| upstreams.iter().map(|upstream| of(upstream)).sum::<u64>() as f64;
    host.set_figure("upstreams", upstreams.len() as f64);
    host.set_figure("models", models as f64);
    host.set_figure("upstreams_resting", sum(&|upstream| u64::from(upstream.rest.left().is_some())));
    host.set_figure("in_flight", sum(&|upstream| upstream.gate.load().0 as u64));
    host.set_figure("waiting", sum(&|upstream| upstream.gate.load().1 as u64));
    host.set_figure("requests", sum(&|upstream| upstream.record.requests.load(Ordering::Relaxed)));
    host.set_figure("failures", sum(&|upstream| upstream.record.failures.load(Ordering::Relaxed)));
    host.set_figure("repetitions", sum(&|upstream| upstream.record.repetitions.load(Ordering::Relaxed)));
}

/// What is wrong with an upstream; its answers count for more than its list of models.
fn trouble(upstream: &Upstream) -> Option<String> {
    let trouble = upstream.record.trouble();
    trouble.answers.or(trouble.discovery)
}

/// Answers how each upstream is.
pub(crate) async fn answer(_: Request, roster: Arc<Roster>) -> Result<Value> {
    let models = roster.models();
    let upstreams = roster.upstreams().into_iter().map(|upstream| {
        let (in_flight, waiting) = upstream.gate.load();
        let own = models.iter().filter(|model| model.owned_by.as_deref() == Some(upstream.name()));
        let (rests, trouble) = (upstream.rest.left(), trouble(&upstream));
        let state = match (&rests, &trouble) {
            (Some(_), _) => "resting",
            (None, Some(_)) => "failing",
            (None, None) => "up",
        };
        json!({
            "name": upstream.name(),
            "baseUrl": upstream.url("").as_str(),
            "state": state,
            "trouble": trouble,
            "restsForMs": rests.map(|left| left.as_millis() as u64),
            "models": own.map(|model| model.id.as_str()).collect::<Vec<&str>>(),
            "inFlight": in_flight,
            "waiting": waiting,
            "maxConcurrency": upstream.settings.max_concurrency,
            "requests": upstream.record.requests.load(Ordering::Relaxed),
            "failures": upstream.record.failures.load(Ordering::Relaxed),
            "repetitions": upstream.record.repetitions.load(Ordering::Relaxed),
        })
    });
    Ok(json!({ "upstreams": upstreams.collect::<Vec<Value>>() }))
}
