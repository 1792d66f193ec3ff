//! What a plugin's entry wants to be there before it is started, and in which order plugins stop.
//!
//! Pure: a view goes in, clauses and orders come out; seats and the supervisor act on them. The
//! invariants: nobody waits for what no plugin is or grants, which may be a program, and nobody waits in a
//! circle for himself.

use std::collections::{BTreeMap, BTreeSet};

use bkg_protocol::{CapabilityName, PluginName};
use serde_json::Value;

use crate::registry::{PluginRecord, State, View};

/// One thing that must be there.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Requirement {
    Plugin(PluginName),
    Capability(CapabilityName),
}

/// What keeps a plugin from being started.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Missing {
    /// One clause: what it waits for, and how that is.
    pub(super) reason: String,
    /// A plugin that would come if it were asked for.
    pub(super) comes: Option<PluginName>,
}

/// A text with a dot names a capability, another one a plugin; what is neither is not for us to read.
fn requirement(written: &Value) -> Option<Requirement> {
    let text = written.as_str()?;
    if text.contains('.') {
        return text.parse().ok().map(Requirement::Capability);
    }
    text.parse().ok().map(Requirement::Plugin)
}

fn requirements(record: &PluginRecord) -> impl Iterator<Item = Requirement> + '_ {
    record.entry.requires.iter().filter_map(requirement)
}

/// The plugins that can meet a requirement, in catalogue order; the one that has it is not among them.
fn candidates<'a>(
    view: &'a View,
    of: &'a PluginName,
    requirement: &'a Requirement,
) -> impl Iterator<Item = &'a PluginRecord> {
    view.plugins().map(|record| &**record).filter(move |record| {
        record.entry.name != *of
            && match requirement {
                Requirement::Plugin(name) => record.entry.name == *name,
                Requirement::Capability(capability) => record.entry.grants(capability),
            }
    })
}

/// What must be there before the plugin is started and is not; `None` if nothing is missing.
pub(super) fn missing(view: &View, record: &PluginRecord) -> Option<Missing> {
    let own = &record.entry.name;
    requirements(record).find_map(|requirement| {
        let candidates: Vec<&PluginRecord> = candidates(view, own, &requirement).collect();
        let is_met = |candidate: &&PluginRecord| match &requirement {
            Requirement::Plugin(_) => matches!(candidate.state(), State::Running | State::Degraded),
            Requirement::Capability(capability) => candidate.answers(capability.as_str()),
        };
        if candidates.iter().any(is_met) {
            return None;
        }
        // Nobody is waited for who cannot come, nor who may wait for this one: with each telling what the
        // other waits for, the reasons of two would grow for ever.
        let may_come = |candidate: &&PluginRecord| !needs(view, &candidate.entry.name, own);
        let candidates: Vec<&PluginRecord> = candidates.into_iter().filter(may_come).collect();
        let first = candidates.first()?;
        let comes = candidates.iter().find(|candidate| candidate.comes_on_demand());
        let shown = comes.unwrap_or(first);
        let name = &shown.entry.name;
        let why = shown.status.reason.as_deref().map(|why| format!(": {why}")).unwrap_or_default();
        let next = match shown.state() {
            State::Stopped | State::Failed if comes.is_none() => {
                format!("; start it with `bkg plugin start {name}`")
            }
            _ => String::new(),
        };
        let state = shown.state().as_str();
        let reason = match &requirement {
            Requirement::Plugin(_) => format!("waits for `{name}`, which is {state}{why}{next}"),
            Requirement::Capability(capability) => {
                format!(
                    "waits for `{capability}`, which `{name}` offers when it runs; it is {state}{why}{next}"
                )
            }
        };
        Some(Missing { reason, comes: comes.map(|candidate| candidate.entry.name.clone()) })
    })
}

/// What an entry requires that no plugin is or grants, as it is written.
pub(super) fn unknown(view: &View, record: &PluginRecord) -> Vec<String> {
    let is_unknown = |written: &&Value| {
        requirement(written)
            .is_none_or(|requirement| candidates(view, &record.entry.name, &requirement).next().is_none())
    };
    let shown = |written: &Value| written.as_str().map_or_else(|| written.to_string(), str::to_owned);
    record.entry.requires.iter().filter(is_unknown).map(shown).collect()
}

/// The plugins that one requires itself: by name, or as the only one that can offer a capability.
fn required_by(view: &View, of: &PluginName) -> Vec<PluginName> {
    let Some(record) = view.plugin(of.as_str()) else { return Vec::new() };
    let only = |requirement: Requirement| {
        let mut candidates = candidates(view, of, &requirement);
        let first = candidates.next()?.entry.name.clone();
        candidates.next().is_none().then_some(first)
    };
    requirements(record).filter_map(only).collect()
}

/// The plugins that one may wait for: by name, or as one of those that can offer a capability.
fn may_wait_for(view: &View, of: &PluginName) -> Vec<PluginName> {
    let Some(record) = view.plugin(of.as_str()) else { return Vec::new() };
    let any = |requirement: Requirement| {
        let names = candidates(view, of, &requirement).map(|candidate| candidate.entry.name.clone());
        names.collect::<Vec<_>>()
    };
    requirements(record).flat_map(any).collect()
}

/// Whether `from` may wait for `to`, itself or through others.
fn needs(view: &View, from: &PluginName, to: &PluginName) -> bool {
    path(view, from, to).is_some()
}

/// How `from` may come to wait for `to`: the plugins from the one to the other, both included.
fn path(view: &View, from: &PluginName, to: &PluginName) -> Option<Vec<PluginName>> {
    let mut seen = BTreeSet::from([from.clone()]);
    let mut paths = vec![vec![from.clone()]];
    while let Some(path) = paths.pop() {
        let last = path.last().expect("a path has a beginning");
        for next in may_wait_for(view, last) {
            let longer: Vec<PluginName> = path.iter().cloned().chain([next.clone()]).collect();
            if next == *to {
                return Some(longer);
            }
            if seen.insert(next) {
                paths.push(longer);
            }
        }
    }
    None
}

/// The circle that a plugin is in, if it requires itself through others: it comes first, and last.
pub(super) fn circle(view: &View, of: &PluginName) -> Option<Vec<PluginName>> {
    path(view, of, of)
}

/// In which order these plugins stop: those of each group at once, and nobody before those who require it.
pub(super) fn stop_order(
    view: &View,
    plugins: impl IntoIterator<Item = PluginName>,
) -> Vec<Vec<PluginName>> {
    let mut left: BTreeMap<PluginName, Vec<PluginName>> =
        plugins.into_iter().map(|name| (name.clone(), required_by(view, &name))).collect();
    let mut groups = Vec::new();
    while !left.is_empty() {
        let is_required = |name: &PluginName| {
            left.iter().any(|(other, required)| other != name && required.contains(name))
        };
        let mut group: Vec<PluginName> = left.keys().filter(|name| !is_required(name)).cloned().collect();
        if group.is_empty() {
            // A circle: nobody in it was waited for either.
            group = left.keys().cloned().collect();
        }
        left.retain(|name, _| !group.contains(name));
        groups.push(group);
    }
    groups
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use serde_json::json;

    use super::*;
    use crate::config::{Layers, PluginEntry};
    use crate::registry::{Registry, Status};

    fn name(text: &str) -> PluginName {
        text.parse().unwrap()
    }

    /// Plugins with what each requires and grants.
    fn registry(plugins: &[(&str, &[&str], &[&str])]) -> Registry {
        let entries = plugins.iter().map(|(name, requires, grants)| {
            let entry = json!({ "name": name, "requires": requires, "capabilities": grants });
            let layers = Layers::default().with_saved(0, entry.as_object().unwrap().clone());
            (Arc::new(PluginEntry::of(layers, 0).unwrap()), std::path::PathBuf::from("/"))
        });
        Registry::new(entries, BTreeMap::new())
    }

    fn reason(registry: &Registry, of: &str) -> Option<String> {
        missing(&registry.view(), &registry.plugin(of).unwrap()).map(|missing| missing.reason)
    }

    #[test]
    fn a_plugin_waits_for_a_plugin_and_for_a_capability() {
        let plugins: &[(&str, &[&str], &[&str])] =
            &[("a", &["b"], &[]), ("b", &[], &["x.*"]), ("c", &["x.y"], &[])];
        let registry = registry(plugins);
        let start = "; start it with `bkg plugin start b`";
        assert_eq!(reason(&registry, "a"), Some(format!("waits for `b`, which is stopped{start}")));
        registry.set_status(&name("b"), Status::now(State::Backoff, Some("it fell".to_owned())));
        assert_eq!(reason(&registry, "a").as_deref(), Some("waits for `b`, which is backoff: it fell"));
        let offers = "waits for `x.y`, which `b` offers when it runs; it is backoff: it fell";
        assert_eq!(reason(&registry, "c").as_deref(), Some(offers));
        registry.set_status(&name("b"), Status::now(State::Degraded, None));
        assert_eq!(reason(&registry, "a"), None);
        assert_eq!(reason(&registry, "b"), None);
    }

    #[test]
    fn what_no_plugin_is_or_grants_is_not_waited_for() {
        let plugins: &[(&str, &[&str], &[&str])] =
            &[("a", &["python3", "no.such", "not a name", "b"], &[]), ("b", &[], &[])];
        let registry = registry(plugins);
        assert!(reason(&registry, "a").unwrap().starts_with("waits for `b`"));
        let view = registry.view();
        let unknown = unknown(&view, &registry.plugin("a").unwrap());
        assert_eq!(unknown, ["python3", "no.such", "not a name"]);
    }

    #[test]
    fn a_circle_is_found_and_nobody_waits_in_it() {
        let plugins: &[(&str, &[&str], &[&str])] =
            &[("a", &["b"], &[]), ("b", &["y.z"], &[]), ("c", &["a", "d"], &["y.z"]), ("d", &[], &[])];
        let circular = registry(plugins);
        let names = |of: &str| {
            circle(&circular.view(), &name(of))
                .map(|path| path.iter().map(ToString::to_string).collect::<Vec<_>>().join(" "))
        };
        assert_eq!(names("a").as_deref(), Some("a b c a"));
        assert_eq!(names("c").as_deref(), Some("c a b c"));
        assert_eq!(names("d"), None);
        assert_eq!((reason(&circular, "a"), reason(&circular, "b")), (None, None));
        assert!(reason(&circular, "c").unwrap().starts_with("waits for `d`"), "what is no circle holds");
        let own = registry(&[("a", &["a"], &[])]);
        assert_eq!(reason(&own, "a"), None);
    }

    #[test]
    fn two_that_could_wait_for_each_other_wait_for_others_and_their_reasons_do_not_grow() {
        let plugins: &[(&str, &[&str], &[&str])] = &[
            ("a", &["x.y"], &["p.q"]),
            ("b", &["p.q"], &["x.y"]),
            ("c", &[], &["x.y"]),
            ("d", &[], &["p.q"]),
        ];
        let registry = registry(plugins);
        let mut told = Vec::new();
        for _ in 0..4 {
            let reasons = ["a", "b"].map(|of| {
                let reason = reason(&registry, of);
                registry.set_status(&name(of), Status::now(State::Starting, reason.clone()));
                reason.unwrap()
            });
            told.push(reasons);
        }
        assert_eq!(told[1], told[3], "nothing has happened meanwhile");
        assert!(told[3][0].ends_with("it is stopped; start it with `bkg plugin start c`"), "{told:?}");
        assert!(told[3][1].ends_with("it is stopped; start it with `bkg plugin start d`"), "{told:?}");
    }

    #[test]
    fn who_requires_another_stops_before_it() {
        let plugins: &[(&str, &[&str], &[&str])] = &[
            ("a", &["b"], &[]),
            ("b", &["c"], &[]),
            ("c", &[], &[]),
            ("d", &["c"], &[]),
            ("e", &["f"], &[]),
            ("f", &["e"], &[]),
        ];
        let registry = registry(plugins);
        let order = stop_order(&registry.view(), plugins.iter().map(|(plugin, ..)| name(plugin)));
        let words: Vec<String> = order
            .iter()
            .map(|group| group.iter().map(ToString::to_string).collect::<Vec<_>>().join(" "))
            .collect();
        assert_eq!(words, ["a d", "b", "c", "e f"]);
    }
}
