//! The entry of a plugin as the daemon tells it: the members that the command line shows.
//!
//! `--json` never goes through here: it prints what was sent. What a daemon of another version leaves out
//! is left out here.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Deserializer};
use serde_json::Value;

use super::entry_path::{EntryPath, is_secret};

/// The answer of `GET /admin/plugins/{name}/config`.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Entry {
    pub(super) revision: u64,
    pub(super) entry: Value,
    /// Where values come from, by JSON Pointer; what has none of its own has that of what it is in.
    #[serde(default)]
    pub(super) origins: BTreeMap<String, String>,
    /// The JSON Schema of `settings`.
    #[serde(default)]
    pub(super) config_schema: Value,
    pub(super) live: Option<Live>,
    /// What was saved on top of the files, as a JSON Merge Patch (RFC 7396).
    #[serde(default)]
    pub(super) saved: Value,
    /// Why the plugin cannot run with it.
    pub(super) misfit: Option<String>,
}

/// What the running plugin has.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Live {
    pub(super) revision: Option<u64>,
    #[serde(default)]
    pub(super) restart_needed: bool,
}

/// The answer to a change.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Outcome {
    pub(super) revision: u64,
    pub(super) applied: String,
    #[serde(default)]
    pub(super) restart_needed: bool,
    #[serde(default)]
    pub(super) changes: Vec<Change>,
    /// What would have become of it, where it was only tried.
    #[serde(default)]
    pub(super) dry_run: Option<Trial>,
}

/// What would become of a change.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Trial {
    pub(super) would_be: String,
    pub(super) instances: usize,
    /// How many instances were asked what they think of it; all of them agree.
    pub(super) asked: usize,
}

/// One value that is or was another.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub(super) struct Change {
    pub(super) path: String,
    /// `None` where nothing stood there; a value that was null is one.
    #[serde(default, deserialize_with = "present")]
    pub(super) from: Option<Value>,
    #[serde(default, deserialize_with = "present")]
    pub(super) to: Option<Value>,
}

/// The answer of `GET /admin/plugins/{name}/config/diff`.
#[derive(Debug, Deserialize)]
pub(super) struct Difference {
    pub(super) from: u64,
    pub(super) to: u64,
    #[serde(default)]
    pub(super) changes: Vec<Change>,
}

/// One of `GET /admin/plugins/{name}/config/revisions`.
#[derive(Debug, Deserialize)]
pub(super) struct Revision {
    pub(super) revision: u64,
    pub(super) author: Option<String>,
    pub(super) at: Option<Timestamp>,
    pub(super) note: Option<String>,
    #[serde(default)]
    pub(super) changes: Vec<Change>,
    /// What it saved on top of the files; only where one revision was asked for.
    #[serde(default)]
    pub(super) saved: Value,
}

/// A member that is there, null or not.
fn present<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Value>, D::Error> {
    Value::deserialize(deserializer).map(Some)
}

impl Entry {
    /// Where the value at a path comes from.
    pub(super) fn origin(&self, path: &EntryPath) -> &str {
        let named = self
            .origins
            .iter()
            .filter_map(|(pointer, origin)| Some((EntryPath::of_pointer(pointer)?, origin)));
        let within = named.filter(|(pointer, _)| path.is_within(pointer));
        within.max_by_key(|(pointer, _)| pointer.to_string().len()).map_or("", |(_, origin)| origin)
    }

    /// The paths whose values somebody has saved, or has taken out.
    pub(super) fn saved(&self) -> Vec<EntryPath> {
        let leaves = EntryPath::root().leaves(&self.saved);
        leaves.into_iter().map(|(path, _)| path).filter(|path| *path != EntryPath::root()).collect()
    }

    /// Whether the schema says that a value at a path is a secret, or has one in it.
    pub(super) fn has_secret(&self, path: &EntryPath, value: &Value) -> bool {
        let mut keys = path.keys();
        let mut schema = match keys.next() {
            Some("settings") => Some(&self.config_schema),
            _ => None,
        };
        for key in keys {
            schema = schema.and_then(|schema| below(schema, key));
        }
        schema.is_some_and(|schema| holds_secret(schema, value))
    }
}

/// The schema of a member, or of a place in a list.
fn below<'a>(schema: &'a Value, key: &str) -> Option<&'a Value> {
    let member = schema.get("properties").and_then(|properties| properties.get(key));
    member.or_else(|| schema.get("items").filter(|_| key.parse::<usize>().is_ok()))
}

fn holds_secret(schema: &Value, value: &Value) -> bool {
    let within = |key: &str, value| below(schema, key).is_some_and(|schema| holds_secret(schema, value));
    match value {
        Value::Null => false,
        value if is_secret(value) => false,
        Value::Object(members) => members.iter().any(|(key, value)| within(key, value)),
        Value::Array(items) => {
            items.iter().enumerate().any(|(place, item)| within(&place.to_string(), item))
        }
        _ => schema.get("format").and_then(Value::as_str) == Some("password"),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn entry() -> Entry {
        serde_json::from_value(json!({
            "plugin": "ping", "revision": 3, "saved": {"settings": {"answer": 42, "gone": null}},
            "entry": {"settings": {"answer": 42, "key": {"$secret": true}, "deep": {"x": 1}}, "autostart": true},
            "origins": {"/settings": "config.json", "/settings/answer": "saved", "/autostart": "plugin.json"},
            "configSchema": {"properties": {"key": {"type": "string", "format": "password"},
                "deep": {"properties": {"token": {"format": "password"}}},
                "list": {"items": {"properties": {"key": {"format": "password"}}}}}},
            "live": {"revision": 3, "restartNeeded": false},
        }))
        .unwrap()
    }

    fn path(text: &str) -> EntryPath {
        text.parse().unwrap()
    }

    #[test]
    fn a_value_has_the_origin_of_the_nearest_that_has_one() {
        for (place, origin) in [
            ("settings.answer", "saved"),
            ("settings.deep.x", "config.json"),
            ("autostart", "plugin.json"),
            ("settingsx", ""),
        ] {
            assert_eq!(entry().origin(&path(place)), origin, "{place}");
        }
        assert_eq!(entry().saved(), [path("settings.answer"), path("settings.gone")]);
    }

    #[test]
    fn the_schema_says_what_is_a_secret() {
        for (place, value, has_secret) in [
            ("settings.key", json!("x"), true),
            ("settings.key", json!(null), false),
            ("settings.key", json!({"$secret": true}), false),
            ("settings.deep.token", json!("x"), true),
            ("settings.deep", json!({"token": "x"}), true),
            ("settings.deep", json!({"x": "x"}), false),
            ("settings", json!({"list": [{}, {"key": "x"}]}), true),
            ("settings.list.1.key", json!("x"), true),
            ("settings.answer", json!("x"), false),
            ("key", json!("x"), false),
        ] {
            assert_eq!(entry().has_secret(&path(place), &value), has_secret, "{place} {value}");
        }
    }

    #[test]
    fn nothing_and_null_are_not_the_same() {
        let change: Change = serde_json::from_value(json!({"path": "/a", "to": null})).unwrap();
        assert_eq!((change.from, change.to), (None, Some(Value::Null)));
    }
}
