//! What is seen of every request to a plugin: its row among the figures and, of one to a model, its span.
//!
//! Not its row in the table of usage. Names come from the table of what is registered, so that what a client
//! makes up is no label; in spans it is cut to a bounded length. [`super::Meter`] calls it.

use std::sync::Arc;
use std::time::Duration;

use bkg_protocol::{CapabilityName, PluginName};

use crate::metrics::{Ended, Metrics, OTHER};
use crate::registry::{Lineage, Registry, View};
use crate::trace::{Span, SpanKind, Tracer};

/// Who looks.
#[derive(Debug)]
pub struct AskedObserver {
    /// Where requests are counted.
    pub metrics: Arc<Metrics>,
    /// What is registered.
    pub registry: Arc<Registry>,
    /// Where spans go.
    pub tracer: Tracer,
}

/// What is known of a request at its end.
#[derive(Debug)]
pub(super) struct Asked<'a> {
    pub(super) capability: &'a CapabilityName,
    pub(super) plugin: Option<&'a PluginName>,
    /// As the client named it.
    pub(super) model: Option<&'a str>,
    pub(super) outcome: &'a str,
    pub(super) took: Duration,
    pub(super) first: Option<Duration>,
    pub(super) read: Option<u64>,
    pub(super) wrote: Option<u64>,
}

/// Whether a capability is one that the host or a plugin has, and not what a client made up. What a plugin
/// offers is known after its end, too.
fn is_known(view: &View, asked: &Asked<'_>) -> bool {
    let capability = asked.capability.as_str();
    let record = asked.plugin.and_then(|plugin| view.plugin(plugin.as_str()));
    let registered = record.and_then(|record| record.registered.as_ref());
    matches!(capability, "llm.chat" | "llm.embed")
        || registered.is_some_and(|registered| registered.terms(capability).is_some())
        || !view.answering(capability).is_empty()
}

impl AskedObserver {
    /// Begins the span of a request to a model, named as OpenTelemetry's conventions for generative AI say
    /// (version 1.41.0, in development there). What is asked of plugins for it belongs below that span.
    pub(super) fn begin(
        &self,
        lineage: &Lineage,
        capability: &CapabilityName,
        model: Option<&str>,
    ) -> Option<Span> {
        let operation = match capability.as_str() {
            "llm.chat" => "chat",
            "llm.embed" => "embeddings",
            _ => return None,
        };
        let model = model.unwrap_or_default();
        let mut span = self.tracer.child(lineage.traceparent, SpanKind::Client, || {
            format!("{operation} {}", &model[..model.floor_char_boundary(128)])
        })?;
        span.set("gen_ai.operation.name", operation);
        span.set("gen_ai.request.model", model);
        Some(span)
    }

    /// The request has ended.
    pub(super) fn ended(&self, asked: &Asked<'_>, span: Option<Span>) {
        let view = self.registry.view();
        let capability = asked.capability.as_str();
        let owner = asked.model.and_then(|model| view.owners(capability, model).first());
        self.metrics.requests.ended(&Ended {
            capability: if is_known(&view, asked) { capability } else { OTHER },
            plugin: asked.plugin.map_or("", |plugin| plugin.as_str()),
            model: match (&owner, asked.model) {
                (Some(owner), _) => &owner.model.id,
                (None, Some(_)) => OTHER,
                (None, None) => "",
            },
            outcome: asked.outcome,
            took: asked.took,
            first: asked.first,
            read: asked.read.unwrap_or(0),
            wrote: asked.wrote.unwrap_or(0),
        });
        let Some(mut span) = span else { return };
        if let Some(plugin) = asked.plugin {
            span.set("gen_ai.provider.name", plugin.as_str());
            let model = owner.map(|owner| owner.model.id.as_str()).or(asked.model);
            span.set("gen_ai.response.model", model.unwrap_or_default());
        }
        for (key, tokens) in
            [("gen_ai.usage.input_tokens", asked.read), ("gen_ai.usage.output_tokens", asked.wrote)]
        {
            if let Some(tokens) = tokens {
                span.set(key, tokens);
            }
        }
        if let Some(first) = asked.first {
            span.set("gen_ai.request.stream", true);
            span.set("gen_ai.response.time_to_first_chunk", first.as_secs_f64());
        }
        if asked.outcome != "ok" {
            span.fail(asked.outcome);
        }
    }
}
