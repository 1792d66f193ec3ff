//! The published JSON Schemas of what a plugin may send, one validator for each `type`.
//!
//! By type, so that a violation says what is wrong with a `log` and not that it is none of fifteen
//! messages. A member that may be absent may also be `null`: that is the one thing forgiven here.

use std::collections::HashMap;
use std::sync::LazyLock;

use bkg_protocol::schema;
use jsonschema::{Draft, Validator};
use serde_json::{Map, Value, json};

/// Lists of objects, whose members may be `null` too.
const LISTS: [&str; 5] = ["capabilities", "models", "routes", "tools", "ui"];

static VALIDATORS: LazyLock<HashMap<String, Validator>> = LazyLock::new(|| {
    let published = schema::all().into_iter().find(|(file, _)| *file == "plugin-message.json");
    let (_, published) = published.expect("the protocol publishes what a plugin may send");
    let variants = published["oneOf"].as_array().expect("a message is one of several");
    variants
        .iter()
        .map(|variant| {
            let kind = variant["properties"]["type"]["const"].as_str().expect("each has its own type");
            let schema = json!({ "$ref": variant["$ref"], "$defs": published["$defs"] });
            let validator = jsonschema::options()
                .with_draft(Draft::Draft202012)
                .build(&schema)
                .expect("the published schemas are valid");
            (kind.to_owned(), validator)
        })
        .collect()
});

/// Whether the protocol knows messages of this `type` from a plugin.
pub(super) fn is_known(kind: &str) -> bool {
    VALIDATORS.contains_key(kind)
}

/// What is wrong with a message of this known `type`, in one sentence.
pub(super) fn violation(kind: &str, message: &Map<String, Value>) -> Option<String> {
    let message = Value::Object(without_nulls(message));
    let error = VALIDATORS[kind].iter_errors(&message).next()?;
    let place = error.instance_path().as_str().to_owned();
    let place = if place.is_empty() { String::new() } else { format!("`{place}`: ") };
    // The value stands in the frame, which is shown beside this.
    Some(format!("{place}{}", error.masked_with("this value")))
}

fn without_nulls(message: &Map<String, Value>) -> Map<String, Value> {
    let present = |(_, value): &(&String, &Value)| !value.is_null();
    let of_item = |item: &Value| match item {
        Value::Object(members) => {
            Value::Object(members.iter().filter(present).map(|(k, v)| (k.clone(), v.clone())).collect())
        }
        other => other.clone(),
    };
    let clean = |(name, value): (&String, &Value)| {
        let value = match value {
            Value::Array(items) if LISTS.contains(&name.as_str()) => {
                Value::Array(items.iter().map(of_item).collect())
            }
            other => other.clone(),
        };
        (name.clone(), value)
    };
    message.iter().filter(present).map(clean).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn violation_of(message: Value) -> Option<String> {
        let Value::Object(message) = message else { panic!() };
        violation(message["type"].as_str().unwrap(), &message)
    }

    #[test]
    fn a_violation_names_its_place() {
        let wrong =
            violation_of(json!({ "type": "chunk", "requestId": "1", "seq": "0", "data": 1 })).unwrap();
        assert!(wrong.starts_with("`/seq`: "), "{wrong}");
        let wrong = violation_of(json!({ "type": "response", "requestId": "1" })).unwrap();
        assert!(wrong.contains("success"), "{wrong}");
    }

    #[test]
    fn null_stands_for_absence() {
        let message = json!({
            "type": "register", "plugin": "a", "meta": null, "models": null,
            "capabilities": [{ "id": "a.b", "description": null }],
        });
        assert_eq!(violation_of(message), None);
        assert!(is_known("register") && !is_known("fromTheFuture"));
    }
}
