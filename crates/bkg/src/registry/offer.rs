//! What a plugin offers, whether or not it runs at this moment.
//!
//! Not whether anybody answers for it now: that is `answers` of the record. The instances come first,
//! then what was registered last, then what the entry lists by name.

use std::sync::Arc;

use bkg_protocol::CapabilityName;
use bkg_protocol::message::{Capability, Route, Tool};
use serde_json::{Value, json};

use super::{PluginRecord, Registration};

impl PluginRecord {
    /// What its instances have registered, or what was registered last. Empty if it never has since
    /// the host started.
    pub fn registrations(&self) -> Vec<Arc<Registration>> {
        if self.instances.is_empty() {
            return self.registered.iter().cloned().collect();
        }
        self.instances.iter().map(|instance| Arc::clone(&instance.registration())).collect()
    }

    /// Its capabilities, each once. Of a plugin that has never registered, those that its entry lists by
    /// name, with what the entry says about them; what it grants by a pattern is not known before.
    pub fn capabilities(&self) -> Vec<Capability> {
        let registrations = self.registrations();
        if registrations.is_empty() {
            let granted = self.entry.capabilities.iter();
            return granted.filter_map(|granted| listed(granted.id.as_str(), json!(granted))).collect();
        }
        each_once(&registrations, |registration| &registration.register.capabilities, |one| one.id.as_str())
    }

    /// The functions that it offers to language models, each once.
    pub fn tools(&self) -> Vec<Tool> {
        each_once(&self.registrations(), |registration| &registration.register.tools, |one| &one.name)
    }

    /// Its HTTP routes as it registered them, each once.
    pub fn routes(&self) -> Vec<Route> {
        let registrations = self.registrations();
        each_once(
            &registrations,
            |registration| &registration.register.routes,
            |one| (one.method.as_str(), one.path.as_str()),
        )
    }

    /// The version that it registered, else that of its entry.
    pub fn version(&self) -> String {
        let registered = self.registrations().iter().find_map(|one| one.register.version.clone());
        registered.unwrap_or_else(|| self.entry.version.clone())
    }
}

/// A capability as an entry lists it; `None` for a pattern.
fn listed(name: &str, granted: Value) -> Option<Capability> {
    let name: CapabilityName = name.parse().ok()?;
    // What the entry says besides is as its author wrote it, and may be anything.
    Some(serde_json::from_value(granted).unwrap_or_else(|_| name.into()))
}

fn each_once<'a, T: Clone + 'a, K: PartialEq>(
    registrations: &'a [Arc<Registration>],
    list: impl Fn(&'a Registration) -> &'a Vec<T>,
    key: impl Fn(&'a T) -> K,
) -> Vec<T> {
    let mut seen: Vec<K> = Vec::new();
    let mut found = Vec::new();
    for item in registrations.iter().flat_map(|registration| list(registration)) {
        let name = key(item);
        if !seen.contains(&name) {
            seen.push(name);
            found.push(item.clone());
        }
    }
    found
}
