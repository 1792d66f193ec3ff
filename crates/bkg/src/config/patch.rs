//! What differs between two entries: as a patch that can be kept, and as a list that people read.
//!
//! Pure. The patch is a JSON Merge Patch (RFC 7396): members merge deep, lists replace whole, and
//! `null` takes a member away. In an entry `null` therefore means "not there", everywhere; the
//! invariant is that applying [`between`] of two values without `null` members gives the second one.

use serde::Serialize;
use serde_json::{Map, Value};

/// One place at which two entries differ.
#[derive(Debug, Clone, PartialEq, Serialize, schemars::JsonSchema)]
pub struct Change {
    /// Where: a JSON Pointer (RFC 6901) into the entry, such as `/settings/greeting`.
    pub path: String,
    /// What was there; absent where nothing was.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub from: Option<Value>,
    /// What is there now; absent where nothing is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub to: Option<Value>,
}

/// Applies a merge patch.
pub fn apply(target: &mut Map<String, Value>, patch: Map<String, Value>) {
    for (name, value) in patch {
        match value {
            Value::Null => drop(target.shift_remove(&name)),
            Value::Object(patch) => {
                let place = target.entry(name).or_insert(Value::Null);
                if !place.is_object() {
                    *place = Value::Object(Map::new());
                }
                apply(place.as_object_mut().expect("it was made an object"), patch);
            }
            value => drop(target.insert(name, value)),
        }
    }
}

/// The smallest merge patch that makes `to` out of `from`. What `from` says as `null` counts as absent.
pub fn between(from: &Map<String, Value>, to: &Map<String, Value>) -> Map<String, Value> {
    let mut patch = Map::new();
    for name in from.iter().filter(|(_, value)| !value.is_null()).map(|(name, _)| name) {
        if to.get(name).is_none_or(Value::is_null) {
            patch.insert(name.clone(), Value::Null);
        }
    }
    for (name, value) in to {
        match (from.get(name), value) {
            (Some(before), after) if before == after => {}
            (_, Value::Null) => {}
            (Some(Value::Object(before)), Value::Object(after)) => {
                let inner = between(before, after);
                if !inner.is_empty() {
                    patch.insert(name.clone(), Value::Object(inner));
                }
            }
            // Applying a patch drops the `null` members of what it adds, so they are not said.
            (_, after) => drop(patch.insert(name.clone(), without_nulls(after.clone()))),
        }
    }
    patch
}

/// Every place at which the two differ: members one by one, lists whole.
pub fn changes(from: &Map<String, Value>, to: &Map<String, Value>) -> Vec<Change> {
    let mut found = Vec::new();
    collect(&mut found, "", from, to);
    found
}

fn collect(found: &mut Vec<Change>, at: &str, from: &Map<String, Value>, to: &Map<String, Value>) {
    for (name, before) in from {
        let path = child(at, name);
        match (before, to.get(name)) {
            (before, Some(after)) if before == after => {}
            (Value::Object(before), Some(Value::Object(after))) => collect(found, &path, before, after),
            (before, after) => {
                found.push(Change { path, from: Some(before.clone()), to: after.cloned() });
            }
        }
    }
    for (name, after) in to.iter().filter(|(name, _)| !from.contains_key(*name)) {
        found.push(Change { path: child(at, name), from: None, to: Some(after.clone()) });
    }
}

/// The pointer to a member, or to an item by its index.
pub fn child(at: &str, name: &str) -> String {
    format!("{at}/{}", name.replace('~', "~0").replace('/', "~1"))
}

/// The steps of a pointer, decoded.
pub fn steps(pointer: &str) -> impl Iterator<Item = String> {
    pointer.split('/').skip(1).map(|step| step.replace("~1", "/").replace("~0", "~"))
}

/// Members that are `null` are not there: all of them leave, except inside of lists, whose items count.
pub fn without_nulls(value: Value) -> Value {
    match value {
        Value::Object(members) => Value::Object(
            members
                .into_iter()
                .filter(|(_, value)| !value.is_null())
                .map(|(name, value)| (name, without_nulls(value)))
                .collect(),
        ),
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn object(value: Value) -> Map<String, Value> {
        match value {
            Value::Object(object) => object,
            other => panic!("{other}"),
        }
    }

    #[test]
    fn a_patch_holds_only_what_differs() {
        let check = |from: Value, to: Value, patch: Value| {
            let (from, to) = (object(from), object(to));
            assert_eq!(Value::Object(between(&from, &to)), patch);
            let mut patched = from.clone();
            apply(&mut patched, between(&from, &to));
            assert_eq!(patched, to);
        };
        check(json!({"a": 1, "b": {"c": 2}}), json!({"a": 1, "b": {"c": 2}}), json!({}));
        check(json!({"a": 1}), json!({"a": 2}), json!({"a": 2}));
        check(json!({"a": {"b": 1, "c": 2}}), json!({"a": {"b": 1, "c": 3}}), json!({"a": {"c": 3}}));
        check(json!({"a": {"b": 1}}), json!({"a": {}}), json!({"a": {"b": null}}));
        check(json!({"a": [1, 2]}), json!({"a": [1]}), json!({"a": [1]}));
        check(json!({"a": 1}), json!({"a": {"b": 1}}), json!({"a": {"b": 1}}));
        check(json!({"a": {"b": 1}}), json!({"a": [null]}), json!({"a": [null]}));
        check(json!({}), json!({"a": {"b": {}}}), json!({"a": {"b": {}}}));
    }

    #[test]
    fn changes_name_each_place_once() {
        let from = object(json!({"a": 1, "b": {"c/d": [1], "gone": true}}));
        let to = object(json!({"a": 1, "b": {"c/d": [1, 2]}, "new": "x"}));
        let lines: Vec<Value> = changes(&from, &to).iter().map(|change| json!(change)).collect();
        assert_eq!(
            lines,
            [
                json!({"path": "/b/c~1d", "from": [1], "to": [1, 2]}),
                json!({"path": "/b/gone", "from": true}),
                json!({"path": "/new", "to": "x"}),
            ]
        );
    }

    #[test]
    fn a_pointer_is_taken_apart_as_it_was_put_together() {
        let path = child(&child("", "a/b"), "~1");
        assert_eq!(path, "/a~1b/~01");
        assert_eq!(steps(&path).collect::<Vec<_>>(), ["a/b", "~1"]);
        assert_eq!(steps("").count(), 0);
    }

    fn values() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![any::<bool>().prop_map(Value::from), (0..4).prop_map(Value::from)];
        leaf.prop_recursive(3, 16, 4, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..3).prop_map(Value::Array),
                prop::collection::btree_map("[a-d]", inner, 0..4)
                    .prop_map(|members| Value::Object(members.into_iter().collect())),
            ]
        })
    }

    fn objects() -> impl Strategy<Value = Map<String, Value>> {
        prop::collection::btree_map("[a-d]", values(), 0..4)
            .prop_map(|members| members.into_iter().collect())
    }

    proptest! {
        #[test]
        fn a_patch_between_two_entries_makes_the_second_of_the_first(from in objects(), to in objects()) {
            let mut patched = from.clone();
            apply(&mut patched, between(&from, &to));
            prop_assert_eq!(&patched, &to);
            prop_assert_eq!(changes(&patched, &to), []);
        }
    }
}
