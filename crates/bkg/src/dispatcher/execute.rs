//! What it means to run a plugin without naming a capability: `execute` over HTTP, `/run` in a chat.
//!
//! Not who may: callers ask for the scope of what was chosen. The invariant: the choice depends on
//! what the plugin offers alone, so that it is the same for everybody.

use bkg_protocol::{CapabilityName, PluginName, RawJson};
use serde_json::json;

use crate::registry::PluginRecord;

/// Why a plugin cannot be run without naming a capability.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ExecuteError {
    /// It offers several, and none is called `<plugin>.execute`.
    #[error("plugin `{plugin}` offers several capabilities and no `{plugin}.execute`: name one")]
    Undecided {
        /// The plugin.
        plugin: PluginName,
        /// What it offers.
        offered: Vec<CapabilityName>,
    },
    /// It offers nothing, or it is not known yet what.
    #[error("plugin `{plugin}` offers no capability that could be run, as far as is known: {next}")]
    Nothing {
        /// The plugin.
        plugin: PluginName,
        /// What to do.
        next: String,
    },
    /// What it is to be run with is neither a text nor an object.
    #[error(
        "`data` is neither a text nor an object: send a text, which travels as `{{\"input\": …}}`, or an object"
    )]
    Data,
}

/// The capability that runs a plugin: `<plugin>.execute` if it offers that, else the only one it has.
///
/// # Errors
/// [`ExecuteError::Undecided`] or [`ExecuteError::Nothing`].
pub fn executed(record: &PluginRecord) -> Result<CapabilityName, ExecuteError> {
    let plugin = record.entry.name.clone();
    let mut offered: Vec<CapabilityName> =
        record.capabilities().into_iter().map(|capability| capability.id).collect();
    offered.retain(|capability| !capability.is_for_the_host_alone());
    // A name with a digit in front names no capability.
    let own: Option<CapabilityName> = format!("{plugin}.execute").parse().ok();
    if let Some(own) = own.as_ref().filter(|own| offered.contains(own)) {
        return Ok(own.clone());
    }
    match offered.as_slice() {
        [only] => Ok(only.clone()),
        [] => {
            let next = match record.instances.is_empty() {
                true => format!("it does not run; start it with `bkg plugin start {plugin}`"),
                false => "choose another plugin".to_owned(),
            };
            Err(ExecuteError::Nothing { plugin, next })
        }
        _ => Err(ExecuteError::Undecided { plugin, offered }),
    }
}

/// What a plugin is run with: a text travels as `{"input": …}`, an object as it is, nothing as `{}`.
///
/// # Errors
/// [`ExecuteError::Data`].
pub fn execute_payload(data: Option<RawJson>) -> Result<RawJson, ExecuteError> {
    let Some(data) = data else { return Ok(RawJson::EMPTY_OBJECT) };
    match data.as_str().as_bytes().first() {
        Some(b'{') => Ok(data),
        Some(b'"') => {
            let text: String = data.read().map_err(|_| ExecuteError::Data)?;
            Ok(RawJson::of(&json!({ "input": text })))
        }
        _ => Err(ExecuteError::Data),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use crate::config::PluginEntry;
    use crate::registry::Registry;

    use super::*;

    /// A plugin `p` that has never registered and whose entry lists these capabilities.
    fn record(capabilities: &[&str]) -> Arc<PluginRecord> {
        let folder = tempfile::tempdir().unwrap();
        let entry = json!({ "name": "p", "capabilities": capabilities });
        std::fs::write(folder.path().join("plugin.json"), entry.to_string()).unwrap();
        let entry = PluginEntry::load(folder.path(), None).unwrap();
        let registry = Registry::new([(Arc::new(entry), folder.path().to_owned())], Default::default());
        registry.plugin("p").unwrap()
    }

    #[test]
    fn its_own_execute_comes_first_then_the_only_one() {
        for (offered, chosen) in [
            (vec!["p.a", "p.execute", "p.b"], Some("p.execute")),
            (vec!["p.a"], Some("p.a")),
            (vec!["auth.validate", "p.a", "lifecycle.x"], Some("p.a")),
            (vec!["p.a", "other.execute"], None),
            (vec!["p.*"], None),
            (vec!["auth.validate"], None),
            (vec![], None),
        ] {
            let found = executed(&record(&offered)).ok();
            assert_eq!(found.as_ref().map(CapabilityName::as_str), chosen, "{offered:?}");
        }
    }

    #[test]
    fn who_has_to_choose_is_told_between_what() {
        let Err(ExecuteError::Undecided { offered, .. }) = executed(&record(&["p.a", "p.b", "auth.login"]))
        else {
            panic!("two can be run")
        };
        assert_eq!(offered.iter().map(CapabilityName::as_str).collect::<Vec<_>>(), ["p.a", "p.b"]);
    }

    #[test]
    fn a_text_becomes_the_input_and_an_object_stays_the_text_that_it_was() {
        for (data, payload) in [
            (Some(r#""two\nlines""#), Some(r#"{"input":"two\nlines"}"#)),
            (Some(r#"{ "n": 1.50 }"#), Some(r#"{ "n": 1.50 }"#)),
            (Some(r#"{"__proto__":"1"}"#), Some(r#"{"__proto__":"1"}"#)),
            (None, Some("{}")),
            (Some("null"), None),
            (Some("[1]"), None),
            (Some("7"), None),
        ] {
            let data = data.map(|text| RawJson::parse(text.to_owned()).unwrap());
            assert_eq!(execute_payload(data).ok().as_ref().map(RawJson::as_str), payload);
        }
    }
}
