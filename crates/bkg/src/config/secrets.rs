//! Which settings are secret, and how an entry looks without them.
//!
//! A setting is secret where the plugin's `configSchema` gives it `format: "password"` or
//! `writeOnly: true`, and where it was saved sealed. Pure: nothing is sealed or opened here. The
//! invariant: what [`masked`] answers holds no value that a secret place has.

use std::collections::{BTreeSet, HashSet};

use serde_json::{Map, Value, json};

use super::patch::child;

/// The member that stands for a secret in what is shown: `{"$secret": true}`.
pub const SECRET: &str = "$secret";
/// The member that holds a sealed secret in what is saved: `{"$sealed": "v1.…"}`.
pub const SEALED: &str = "$sealed";

/// The places in `settings` that hold secrets by the schema, as JSON Pointers from the settings on.
pub fn places(schema: &Value, settings: &Value) -> BTreeSet<String> {
    let mut search = Search { root: schema, seen: HashSet::new(), found: BTreeSet::new() };
    search.look(schema, settings, "");
    search.found
}

struct Search<'a> {
    root: &'a Value,
    /// Which schema was looked at for which place: a schema can refer to itself without end.
    seen: HashSet<(*const Value, String)>,
    found: BTreeSet<String>,
}

impl<'a> Search<'a> {
    /// Looks at one value under one schema.
    fn look(&mut self, schema: &'a Value, value: &Value, at: &str) {
        let Some(rules) = schema.as_object() else { return };
        if !self.seen.insert((schema, at.to_owned())) {
            return;
        }
        if rules.get("format").and_then(Value::as_str) == Some("password")
            || rules.get("writeOnly") == Some(&Value::Bool(true))
        {
            self.found.insert(at.to_owned());
        }
        match value {
            Value::Object(members) => {
                for (name, value) in members {
                    for schema in of_member(rules, name) {
                        self.look(schema, value, &child(at, name));
                    }
                }
            }
            Value::Array(items) => {
                for (index, item) in items.iter().enumerate() {
                    for schema in of_item(rules, index) {
                        self.look(schema, item, &child(at, &index.to_string()));
                    }
                }
            }
            _ => {}
        }
        for schema in besides(self.root, rules) {
            self.look(schema, value, at);
        }
    }
}

/// The schemas of a member.
fn of_member<'a>(rules: &'a Map<String, Value>, name: &str) -> impl Iterator<Item = &'a Value> {
    let own = rules.get("properties").and_then(|properties| properties.get(name));
    // Patterns are not tried: where one of them says "secret", any name may be meant.
    let patterns = rules.get("patternProperties").and_then(Value::as_object);
    let rest = ["additionalProperties", "unevaluatedProperties"].map(|word| rules.get(word));
    let rest = rest.into_iter().flatten().filter(move |_| own.is_none());
    own.into_iter().chain(patterns.into_iter().flat_map(Map::values)).chain(rest)
}

/// The schemas of an item of a list. Drafts before 2020-12 have a list in `items` for the first ones.
fn of_item(rules: &Map<String, Value>, index: usize) -> impl Iterator<Item = &Value> {
    let items = rules.get("items");
    let first = rules.get("prefixItems").or(items).and_then(Value::as_array);
    let own = first.and_then(|first| first.get(index)).or(items.filter(|items| !items.is_array()));
    let rest = ["additionalItems", "unevaluatedItems"].map(|word| rules.get(word));
    let rest = rest.into_iter().flatten().filter(move |_| own.is_none());
    own.into_iter().chain(rest).chain(rules.get("contains"))
}

/// The schemas that hold for the same value besides.
fn besides<'a>(root: &'a Value, rules: &'a Map<String, Value>) -> Vec<&'a Value> {
    let mut found = Vec::new();
    for word in ["$ref", "$dynamicRef"] {
        found.extend(rules.get(word).and_then(Value::as_str).and_then(|to| referred(root, to)));
    }
    for word in ["allOf", "anyOf", "oneOf"] {
        found.extend(rules.get(word).and_then(Value::as_array).into_iter().flatten());
    }
    for word in ["if", "then", "else"] {
        found.extend(rules.get(word));
    }
    for word in ["dependentSchemas", "dependencies"] {
        found.extend(rules.get(word).and_then(Value::as_object).into_iter().flat_map(Map::values));
    }
    found
}

/// The schema that a reference inside of the document means: by a pointer, an anchor or an `$id`.
fn referred<'a>(root: &'a Value, to: &str) -> Option<&'a Value> {
    let (id, fragment) = to.split_once('#').unwrap_or((to, ""));
    let document = if id.is_empty() { root } else { named(root, &["$id"], id)? };
    if fragment.is_empty() {
        return Some(document);
    }
    document.pointer(fragment).or_else(|| named(document, &["$anchor", "$dynamicAnchor"], fragment))
}

/// The first part of a schema that calls itself so.
fn named<'a>(schema: &'a Value, words: &[&str], name: &str) -> Option<&'a Value> {
    let is_it = |word: &&str| schema.get(word).and_then(Value::as_str) == Some(name);
    if words.iter().any(is_it) {
        return Some(schema);
    }
    match schema {
        Value::Object(members) => members.values().find_map(|part| named(part, words, name)),
        Value::Array(parts) => parts.iter().find_map(|part| named(part, words, name)),
        _ => None,
    }
}

/// The value that stands for a secret. `id` lets it be sent back from another place.
pub fn mask(id: Option<&str>) -> Value {
    match id {
        Some(id) => json!({ SECRET: true, "id": id }),
        None => json!({ SECRET: true }),
    }
}

/// Whether a value stands for a secret, and the id that it names.
pub fn as_mask(value: &Value) -> Option<Option<&str>> {
    let members = value.as_object()?;
    (members.get(SECRET) == Some(&Value::Bool(true))).then(|| members.get("id").and_then(Value::as_str))
}

/// The value with everything at `secret` places, pointers from `at` on, put behind a mask.
pub fn masked(
    value: &Value,
    at: &str,
    secret: &BTreeSet<String>,
    id: &dyn Fn(&Value) -> Option<String>,
) -> Value {
    if secret.contains(at) && !value.is_null() {
        return mask(id(value).as_deref());
    }
    match value {
        Value::Object(members) => Value::Object(
            members
                .iter()
                .map(|(name, value)| (name.clone(), masked(value, &child(at, name), secret, id)))
                .collect(),
        ),
        Value::Array(items) => Value::Array(
            items
                .iter()
                .enumerate()
                .map(|(index, value)| masked(value, &child(at, &index.to_string()), secret, id))
                .collect(),
        ),
        other => other.clone(),
    }
}

/// Changes every value for which `visit`, given its place, answers another one; what it changed is not
/// looked into.
///
/// # Errors
/// The first that `visit` has.
pub fn replace<E>(
    value: Value,
    at: &str,
    visit: &mut impl FnMut(&str, &Value) -> Result<Option<Value>, E>,
) -> Result<Value, E> {
    if let Some(other) = visit(at, &value)? {
        return Ok(other);
    }
    match value {
        Value::Object(members) => {
            let mut replaced = Map::new();
            for (name, value) in members {
                let value = replace(value, &child(at, &name), visit)?;
                replaced.insert(name, value);
            }
            Ok(Value::Object(replaced))
        }
        Value::Array(items) => {
            let mut replaced = Vec::with_capacity(items.len());
            for (index, value) in items.into_iter().enumerate() {
                replaced.push(replace(value, &child(at, &index.to_string()), visit)?);
            }
            Ok(Value::Array(replaced))
        }
        other => Ok(other),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(schema: Value, settings: Value) -> Vec<String> {
        places(&schema, &settings).into_iter().collect()
    }

    #[test]
    fn secrets_are_found_wherever_a_schema_can_say_so() {
        let password = json!({"type": "string", "format": "password"});
        let key = json!({"properties": {"key": password}});
        let check = |schema: Value, settings: Value, expected: &[&str]| {
            assert_eq!(found(schema.clone(), settings), expected, "{schema}");
        };
        check(key.clone(), json!({"key": "x", "other": "y"}), &["/key"]);
        check(json!({"properties": {"key": {"writeOnly": true}}}), json!({"key": "x"}), &["/key"]);
        check(json!({"properties": {"a": key}}), json!({"a": {"key": "x"}}), &["/a/key"]);
        check(
            json!({"properties": {"list": {"items": key}}}),
            json!({"list": [{"key": "x"}, {"other": 1}, {"key": "y"}]}),
            &["/list/0/key", "/list/2/key"],
        );
        check(
            json!({"properties": {"two": {"prefixItems": [{}, password], "items": {}}}}),
            json!({"two": ["a", "b"]}),
            &["/two/1"],
        );
        check(json!({"additionalProperties": password}), json!({"any": "x"}), &["/any"]);
        check(
            json!({"properties": {"plain": {}}, "additionalProperties": password}),
            json!({"plain": "x"}),
            &[],
        );
        check(json!({"patternProperties": {"^k": password}}), json!({"k1": "x"}), &["/k1"]);
        check(json!({"allOf": [key]}), json!({"key": "x"}), &["/key"]);
        check(json!({"if": {}, "then": key}), json!({"key": "x"}), &["/key"]);
        check(
            json!({"$defs": {"up": key}, "properties": {"up": {"$ref": "#/$defs/up"}}}),
            json!({"up": {"key": "x"}}),
            &["/up/key"],
        );
        check(json!({"$defs": {"all": key}, "$ref": "#/$defs/all"}), json!({"key": "x"}), &["/key"]);
        check(
            json!({"properties": {"up": {"oneOf": [{"type": "null"}, {"anyOf": [key]}]}}}),
            json!({"up": {"key": "x"}}),
            &["/up/key"],
        );
        for reference in ["#up", "#/$defs/up", "https://example.org/up", "https://example.org/up#"] {
            check(
                json!({
                    "$defs": {"up": {"$id": "https://example.org/up", "$anchor": "up", "properties": {"key": password}}},
                    "properties": {"up": {"$ref": reference}},
                }),
                json!({"up": {"key": "x"}}),
                &["/up/key"],
            );
        }
        check(json!({"unevaluatedProperties": password}), json!({"key": "x"}), &["/key"]);
        check(
            json!({"properties": {"two": {"items": [{}, password], "additionalItems": password}}}),
            json!({"two": ["a", "b", "c"]}),
            &["/two/1", "/two/2"],
        );
        check(json!(true), json!({"key": "x"}), &[]);
    }

    #[test]
    fn a_schema_that_refers_to_itself_ends() {
        let schema = json!({"$ref": "#", "properties": {"key": {"format": "password"}}});
        assert_eq!(found(schema, json!({"key": "x"})), ["/key"]);
        let tree = json!({"properties": {"key": {"format": "password"}, "child": {"$ref": "#"}}});
        assert_eq!(found(tree, json!({"child": {"child": {"key": "x"}}})), ["/child/child/key"]);
        let twice =
            json!({"allOf": [{"$ref": "#"}, {"$ref": "#"}], "properties": {"key": {"writeOnly": true}}});
        assert_eq!(found(twice, json!({"key": "x"})), ["/key"]);
    }

    #[test]
    fn what_is_shown_has_masks_in_the_place_of_secrets() {
        let settings = json!({"a": [{"key": "x", "n": 1}], "none": null, "b/c": "y"});
        let secret = ["/a/0/key", "/none", "/b~1c"].map(str::to_owned).into();
        assert_eq!(
            masked(&settings, "", &secret, &|_| None),
            json!({"a": [{"key": {"$secret": true}, "n": 1}], "none": null, "b/c": {"$secret": true}})
        );
    }

    #[test]
    fn a_mask_is_told_from_other_objects() {
        assert_eq!(as_mask(&mask(None)), Some(None));
        assert_eq!(as_mask(&mask(Some("x"))), Some(Some("x")));
        for other in [json!({}), json!({"$secret": false}), json!("x"), json!([{"$secret": true}])] {
            assert_eq!(as_mask(&other), None, "{other}");
        }
    }
}
