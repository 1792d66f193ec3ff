//! A JSON Schema in words, as the reference shows it.
//!
//! Not a validator: what it does not know it shows as it is written, so nothing is left out. Used by
//! `page`.

use maud::{Markup, html};
use serde_json::{Map, Value};

/// Words of a schema that are shown in another way, or mean nothing to a reader.
const SHOWN_OTHERWISE: [&str; 16] = [
    "$ref",
    "type",
    "description",
    "title",
    "properties",
    "required",
    "items",
    "anyOf",
    "oneOf",
    "allOf",
    "enum",
    "const",
    "default",
    "additionalProperties",
    "format",
    "examples",
];

/// The type in one line: `list of Plugin`, `string or null`.
pub(super) fn shape(schema: &Value) -> Markup {
    let Some(schema) = schema.as_object() else { return html! { "anything" } };
    if let Some(name) = schema.get("$ref").and_then(Value::as_str).and_then(|path| path.rsplit('/').next())
    {
        return html! { a href=(format!("#schema-{name}")) { (name) } };
    }
    for (choice, word) in [("anyOf", " or "), ("oneOf", " or "), ("allOf", " and ")] {
        if let Some(choices) = schema.get(choice).and_then(Value::as_array) {
            return joined(choices.iter().map(shape), word);
        }
    }
    if let Some(value) = schema.get("const") {
        return html! { code { (value) } };
    }
    if let Some(values) = schema.get("enum").and_then(Value::as_array) {
        return joined(values.iter().map(|value| html! { code { (value) } }), " or ");
    }
    let kinds = match schema.get("type") {
        Some(Value::String(kind)) => vec![kind.as_str()],
        Some(Value::Array(kinds)) => kinds.iter().filter_map(Value::as_str).collect(),
        _ => return html! { "anything" },
    };
    let kinds = kinds.into_iter().map(|kind| kind_of(kind, schema));
    html! { (joined(kinds, " or ")) (bounds(schema)) }
}

fn kind_of(kind: &str, schema: &Map<String, Value>) -> Markup {
    match kind {
        "array" => html! { "list of " (shape(schema.get("items").unwrap_or(&Value::Null))) },
        "object" => match schema.get("additionalProperties") {
            Some(values @ Value::Object(_)) => html! { "object of " (shape(values)) },
            _ => html! { "object" },
        },
        kind => match schema.get("format").and_then(Value::as_str) {
            // What a number's format says beyond its bounds is a matter of programs.
            Some(format) if kind == "string" => html! { "string, " (format) },
            _ => html! { (kind) },
        },
    }
}

/// What else the schema demands: `minimum 1`, `pattern ^[a-z]`.
fn bounds(schema: &Map<String, Value>) -> Markup {
    let further = schema.iter().filter(|(word, _)| !SHOWN_OTHERWISE.contains(&word.as_str()));
    // The bounds of a machine's integers tell a reader nothing.
    let further = further.filter(|(word, value)| {
        !(*word == "maximum" && value.as_u64().is_some_and(|most| most >= u32::MAX.into()))
    });
    html! {
        @for (word, value) in further {
            small { ", " (word) " " code { @match value { Value::String(text) => (text), other => (other) } } }
        }
    }
}

/// The members of an object as a table; `None` if the schema names none.
pub(super) fn members_of(schema: &Value) -> Option<Markup> {
    let members = schema.get("properties")?.as_object()?;
    let required = schema.get("required").and_then(Value::as_array);
    let is_required = |name: &str| required.is_some_and(|names| names.iter().any(|needed| needed == name));
    Some(html! {
        table {
            @for (name, member) in members {
                tr {
                    th { code { (name) } }
                    td { (shape(member)) @if !is_required(name) { " · may be absent" } }
                    td { (paragraphs(member["description"].as_str().unwrap_or_default())) }
                }
            }
        }
    })
}

/// Text with `code` in backticks, a paragraph for each empty line.
pub(super) fn paragraphs(text: &str) -> Markup {
    html! {
        @for paragraph in text.split("\n\n").filter(|paragraph| !paragraph.is_empty()) {
            p {
                @for (index, part) in paragraph.split('`').enumerate() {
                    @if index % 2 == 1 { code { (part) } } @else { (part) }
                }
            }
        }
    }
}

fn joined(parts: impl Iterator<Item = Markup>, word: &str) -> Markup {
    html! {
        @for (index, part) in parts.enumerate() {
            @if index > 0 { (word) }
            (part)
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn check(schema: &Value, expected: &str) {
        assert_eq!(shape(schema).into_string(), expected);
    }

    #[test]
    fn a_schema_is_a_phrase() {
        check(&json!({ "type": ["string", "null"], "format": "date-time" }), "string, date-time or null");
        check(
            &json!({ "type": "array", "items": { "$ref": "#/components/schemas/Key" } }),
            r##"list of <a href="#schema-Key">Key</a>"##,
        );
        check(&json!({ "enum": ["a", 1] }), "<code>&quot;a&quot;</code> or <code>1</code>");
        check(
            &json!({ "type": "integer", "minimum": 1 }),
            "integer<small>, minimum <code>1</code></small>",
        );
        check(&json!({}), "anything");
    }

    #[test]
    fn what_a_plugin_writes_stays_text() {
        let hostile = json!({ "type": "<script>", "pattern": "</code><img src=x onerror=alert(1)>" });
        let shown = shape(&hostile).into_string() + &paragraphs("`<b>` <i>").into_string();
        assert!(!shown.contains("<script") && !shown.contains("<img") && !shown.contains("<b>"), "{shown}");
        assert!(!shown.contains("<i>"), "{shown}");
    }
}
