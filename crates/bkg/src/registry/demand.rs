//! The seam through which a request has a plugin started that starts on demand.
//!
//! Not who starts it: that is the supervisor, which hands in how. The invariant: what somebody stopped is
//! not started by a request. The dispatcher and the gateway ask here.

use std::fmt;
use std::sync::OnceLock;

use bkg_protocol::PluginName;
use bkg_protocol::message::Model;

use super::{PluginRecord, Registry, State};
use crate::config::{Activation, PluginEntry};

/// Has a plugin started; called for every request that finds it stopped, and so must bear repetition.
type Start = Box<dyn Fn(&PluginName) + Send + Sync>;

/// How plugins are started on demand; nobody starts any before it is set.
#[derive(Default)]
pub(super) struct Starter(OnceLock<Start>);

impl fmt::Debug for Starter {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("Starter").field("is_set", &self.0.get().is_some()).finish()
    }
}

impl Registry {
    /// Says how plugins are started on demand; once.
    pub fn start_with(&self, start: impl Fn(&PluginName) + Send + Sync + 'static) {
        // The supervisor lives as long as the registry: there is no second one.
        let _ = self.starter.0.set(Box::new(start));
        // Who asked before was not heard, and looks again.
        self.changed.send_modify(|version| *version += 1);
    }

    /// A request needs a plugin that starts on demand and is stopped.
    pub fn demand(&self, plugin: &PluginName) {
        if let Some(start) = self.starter.0.get() {
            start(plugin);
        }
    }

    /// Notes that somebody stopped a plugin, and requests are not to start it.
    pub fn hold(&self, plugin: &PluginName) {
        self.set_held(plugin, true);
    }

    /// Notes that somebody started a plugin: when it rests again, requests may start it.
    pub fn release(&self, plugin: &PluginName) {
        self.set_held(plugin, false);
    }

    fn set_held(&self, plugin: &PluginName, is_held: bool) {
        if self.plugin(plugin.as_str()).is_some_and(|record| record.is_held != is_held) {
            self.change(plugin, |record| record.is_held = is_held);
        }
    }
}

impl PluginRecord {
    /// Whether requests start it, as far as its entry and its operator are concerned.
    pub fn starts_on_demand(&self) -> bool {
        self.entry.activation == Activation::OnDemand && !self.is_held
    }

    /// Whether a request need only wait for it: it starts on demand, and is stopped or on its way.
    pub fn comes_on_demand(&self) -> bool {
        self.starts_on_demand()
            && matches!(self.status.state, State::Stopped | State::Preparing | State::Starting)
    }

    /// Whether it comes for a capability: one of its last registration; before the first, one that its
    /// entry grants.
    pub fn comes_for(&self, capability: &str) -> bool {
        let offers = || match &self.registered {
            Some(registration) => registration.terms(capability).is_some(),
            None => self.entry.capabilities.iter().any(|granted| granted.id.matches(capability)),
        };
        self.comes_on_demand() && offers()
    }

    /// Whether it may turn out to serve a model: by what its entry allows, while nothing else is known.
    pub fn may_serve(&self, capability: &str, model: &str) -> bool {
        self.registered.is_none() && self.comes_for(capability) && self.entry.grants_model(model)
    }

    /// The model's name as the plugin knows it: without the plugin's own name in front.
    pub fn own_model<'a>(&self, model: &'a str) -> &'a str {
        let own = model.strip_prefix(self.entry.name.as_str()).and_then(|rest| rest.strip_prefix('/'));
        own.unwrap_or(model)
    }
}

/// The models that a plugin which starts on demand is known to have before it has ever registered: those
/// that its entry names, where it has one capability of language models and so no doubt for which.
pub(super) fn models_by_entry(entry: &PluginEntry) -> Vec<Model> {
    if entry.activation != Activation::OnDemand {
        return Vec::new();
    }
    let grants = |name: &&str| entry.capabilities.iter().any(|granted| granted.id.matches(name));
    let capabilities: Vec<&str> = ["llm.chat", "llm.embed"].into_iter().filter(grants).collect();
    let [capability] = capabilities.as_slice() else { return Vec::new() };
    let named = entry.models.iter().map(|pattern| pattern.as_str()).filter(|name| !name.contains('*'));
    let model = |id: &str| Model {
        id: id.to_owned(),
        capability: capability.parse().expect("the names of capabilities are valid"),
        owned_by: None,
        context_length: None,
        dimensions: None,
    };
    named.map(model).collect()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use serde_json::{Value, json};

    use super::*;
    use crate::registry::Status;

    fn record(mut entry: Value) -> PluginRecord {
        entry["name"] = json!("p");
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("plugin.json"), entry.to_string()).unwrap();
        let entry = PluginEntry::load(folder.path(), None).unwrap();
        PluginRecord::new(Arc::new(entry), folder.path().to_owned())
    }

    #[test]
    fn only_what_is_stopped_or_on_its_way_comes_for_what_its_entry_grants() {
        let mut lazy = record(json!({ "activation": "on-demand", "capabilities": ["a.b", "c.*"] }));
        assert!(lazy.comes_for("a.b") && lazy.comes_for("c.d") && !lazy.comes_for("a.c"));
        for (state, comes) in [
            (State::Stopped, true),
            (State::Preparing, true),
            (State::Starting, true),
            (State::Running, false),
            (State::Draining, false),
            (State::Backoff, false),
            (State::Failed, false),
            (State::Unresponsive, false),
        ] {
            lazy.status = Status::now(state, None);
            assert_eq!(lazy.comes_for("a.b"), comes, "{state:?}");
        }
        lazy.status = Status::now(State::Stopped, None);
        lazy.is_held = true;
        assert!(!lazy.comes_for("a.b"), "somebody stopped it");
        assert!(!record(json!({ "capabilities": ["a.b"] })).comes_for("a.b"));
    }

    #[test]
    fn models_that_an_entry_names_are_known_before_the_first_start() {
        for (entry, known) in [
            (json!({ "capabilities": ["llm.chat"], "models": ["one", "two/*"] }), vec!["one"]),
            (json!({ "capabilities": ["llm.chat", "llm.embed"], "models": ["one"] }), vec![]),
            (json!({ "capabilities": ["llm.chat"] }), vec![]),
            (json!({ "capabilities": ["a.b"], "models": ["one"] }), vec![]),
        ] {
            let mut lazy = entry.clone();
            lazy["activation"] = json!("on-demand");
            let ids = |record: &PluginRecord| -> Vec<String> {
                record.offered.iter().map(|model| model.id.clone()).collect()
            };
            assert_eq!(ids(&record(lazy)), known, "{entry}");
            assert_eq!(ids(&record(entry)), Vec::<String>::new());
        }
    }

    #[test]
    fn a_model_may_be_named_with_its_plugin() {
        let lazy =
            record(json!({ "activation": "on-demand", "capabilities": ["llm.chat"], "models": ["m/*"] }));
        assert_eq!(lazy.own_model("p/m/1"), "m/1");
        assert_eq!(lazy.own_model("px/1"), "px/1");
        assert!(lazy.may_serve("llm.chat", "m/1") && !lazy.may_serve("llm.chat", "x"));
    }
}
