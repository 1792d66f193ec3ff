//! Whether settings keep to a plugin's `configSchema`: every place that does not, with a sentence.
//!
//! A message never repeats the value, which may be a secret. Not the plugin's own check, which comes
//! after this one when the settings are pushed.

use jsonschema::{Draft, Validator};
use serde::Serialize;
use serde_json::Value;

/// One place that does not keep to the rules.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, schemars::JsonSchema)]
pub struct Violation {
    /// Where: a JSON Pointer (RFC 6901) into the entry, such as `/settings/greeting`.
    pub path: String,
    /// What is wrong there.
    pub message: String,
}

/// A schema that settings cannot be checked against.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("its `configSchema` cannot be used: {reason}")]
pub struct UnusableSchema {
    reason: String,
}

/// The most violations that are reported: a list of a thousand wrong items says nothing more.
const MOST_VIOLATIONS: usize = 100;

/// Where `settings` do not keep to `schema` (JSON Schema 2020-12, unless its `$schema` says
/// otherwise), in order of their places. Paths begin with `/settings`.
///
/// # Errors
/// The schema is none, or refers to another document: nothing is fetched.
pub fn violations(schema: &Value, settings: &Value) -> Result<Vec<Violation>, UnusableSchema> {
    let validator = validator(schema)?;
    let mut found: Vec<Violation> = validator
        .iter_errors(settings)
        .take(MOST_VIOLATIONS)
        .map(|error| Violation {
            path: format!("/settings{}", error.instance_path().as_str()),
            message: error.masked_with("this value").to_string(),
        })
        .collect();
    found.sort();
    found.dedup();
    Ok(found)
}

fn validator(schema: &Value) -> Result<Validator, UnusableSchema> {
    let mut options = jsonschema::options().should_validate_formats(true);
    // A schema without `$schema` is of the draft that the documentation names.
    if schema.get("$schema").is_none() {
        options = options.with_draft(Draft::Draft202012);
    }
    options
        .build(schema)
        .map_err(|error| UnusableSchema { reason: error.masked_with("a part of it").to_string() })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn each_place_that_breaks_a_rule_is_named_without_its_value() {
        let schema = json!({
            "type": "object",
            "required": ["word"],
            "additionalProperties": false,
            "properties": {
                "word": {"type": "string"},
                "key": {"type": "string", "format": "password", "minLength": 100},
                "list": {"items": {"properties": {"n": {"type": "integer", "minimum": 1}}}},
                "choice": {"enum": ["a", "b"]},
            }
        });
        let found = violations(
            &schema,
            &json!({"key": "canary", "list": [{"n": 1}, {"n": 0}], "choice": "canary", "more": 1}),
        )
        .unwrap();
        let paths: Vec<&str> = found.iter().map(|violation| violation.path.as_str()).collect();
        assert_eq!(
            paths,
            ["/settings", "/settings", "/settings/choice", "/settings/key", "/settings/list/1/n"]
        );
        let text = format!("{found:?}");
        assert!(!text.contains("canary"), "{text}");
        assert!(text.contains("word") && text.contains("more"), "{text}");
    }

    #[test]
    fn settings_that_keep_to_the_schema_break_nothing() {
        assert_eq!(
            violations(&json!({"properties": {"n": {"type": "number"}}}), &json!({"n": 1.5})),
            Ok(vec![])
        );
        assert_eq!(violations(&json!(true), &json!({})), Ok(vec![]));
        assert_eq!(violations(&json!(false), &json!({})).unwrap().len(), 1);
    }

    #[test]
    fn a_schema_that_refers_to_itself_ends() {
        for schema in [
            json!({"$ref": "#"}),
            json!({"allOf": [{"$ref": "#"}]}),
            json!({"$defs": {"a": {"anyOf": [{"$ref": "#/$defs/b"}]}, "b": {"$ref": "#/$defs/a"}}, "$ref": "#/$defs/a"}),
        ] {
            let _ = violations(&schema, &json!({"a": 1}));
        }
    }

    #[test]
    fn a_pattern_that_tries_without_end_is_given_up() {
        let schema = json!({"properties": {"a": {"pattern": "^(a+)+(?=b)c$"}}});
        let _ = violations(&schema, &json!({"a": "a".repeat(200)}));
    }

    #[test]
    fn a_schema_that_cannot_be_used_says_so() {
        for schema in [json!({"type": "nothing"}), json!({"$ref": "http://example.org/schema"})] {
            let error = violations(&schema, &json!({})).unwrap_err().to_string();
            assert!(error.starts_with("its `configSchema` cannot be used: "), "{error}");
        }
    }
}
