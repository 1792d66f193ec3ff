//! The routes of plugins in the document: those that are there now and that the caller may use.
//!
//! Not how they are served, which is `gateway`'s. What plugins say of themselves is shown as their word:
//! the invariant is that no schema of theirs leads a reader of the document to another address.

use bkg_protocol::ErrorCode;
use bkg_protocol::message::Capability;
use http::Method;
use serde_json::{Map, Value, json};

use crate::auth::{Caller, scope_of};
use crate::registry::{LiveRoute, View};
use crate::web::{FROM_PLUGINS, path_names};

/// A route of a plugin, with what the plugin says of the capability behind it.
#[derive(Debug, Clone)]
pub struct PluginRoute {
    /// The route.
    pub route: LiveRoute,
    /// The scope that it needs.
    pub scope: String,
    /// The capability as it was registered.
    pub capability: Option<Capability>,
}

/// The routes that a caller may use.
pub(super) fn usable(view: &View, caller: &Caller) -> Vec<PluginRoute> {
    let usable = view.routes().routes().filter_map(|route| {
        let record = view.plugin(route.plugin.as_str())?;
        let scope = scope_of(record.entry.scopes.get(&route.capability), &route.capability);
        let may_use = caller.require(scope).is_ok()
            && !route.capability.is_for_the_host_alone()
            && caller.rights().reach.has_plugin(&route.plugin);
        may_use.then(|| PluginRoute {
            route: route.clone(),
            scope: scope.to_owned(),
            capability: record.capabilities().into_iter().find(|one| one.id == route.capability),
        })
    });
    usable.collect()
}

impl PluginRoute {
    /// What may go wrong with it besides what its access refuses.
    pub(super) fn errors(&self) -> Vec<ErrorCode> {
        [FROM_PLUGINS, &[ErrorCode::UnsupportedMediaType]].concat()
    }

    /// What it takes and answers, without errors.
    pub(super) fn operation(&self) -> Map<String, Value> {
        let LiveRoute { method, path, plugin, capability, .. } = &self.route;
        let said = self.capability.as_ref().and_then(|capability| capability.description.as_deref());
        let input = self.capability.as_ref().and_then(|capability| capability.input_schema.as_ref());
        let output = self.capability.as_ref().and_then(|capability| capability.output_schema.as_ref());
        let schema = |schema: Option<&bkg_protocol::RawJson>, what: &str| {
            let schema = schema.and_then(|schema| schema.read::<Value>().ok());
            embedded(schema, &format!("urn:bkg:{plugin}:{capability}:{what}"))
        };
        let mut operation = Map::new();
        operation.insert("operationId".to_owned(), json!(operation_id(method, path)));
        operation.insert("summary".to_owned(), json!(format!("Ask {plugin} for {capability}")));
        let needs = format!("Needs the scope `{}`.", self.scope);
        let description = said.map_or(needs.clone(), |said| format!("{said}\n\n{needs}"));
        operation.insert("description".to_owned(), json!(description));
        let parameters = path_names(path).map(|name| {
            json!({ "name": name, "in": "path", "required": true, "schema": { "type": "string", "minLength": 1 } })
        });
        operation.insert("parameters".to_owned(), parameters.collect());
        if *method != Method::GET && *method != Method::HEAD {
            let content = json!({ "application/json": { "schema": schema(input, "input") }, "*/*": {} });
            operation.insert("requestBody".to_owned(), json!({ "content": content }));
        }
        let content = if self.route.streaming {
            json!({ "text/event-stream": { "schema": { "type": "string" } }, "*/*": {} })
        } else {
            json!({ "application/json": { "schema": schema(output, "output") }, "*/*": {} })
        };
        let answer = json!({
            "description": "What the plugin answered. It may choose another status and content type.",
            "content": content,
        });
        operation.insert("responses".to_owned(), json!({ "200": answer }));
        operation
    }
}

/// `get_api_plugins_scribe_pages_-page` for GET `/api/plugins/scribe/pages/{page}`: a name of its own for
/// each route, whatever its path is made of.
fn operation_id(method: &Method, path: &str) -> String {
    let mut id = method.as_str().to_ascii_lowercase();
    for segment in path.split('/').skip(1) {
        id.push('_');
        for c in segment.chars() {
            match c {
                // No name of a parameter begins with a digit, and the code of each other character does.
                '{' => id.push('-'),
                '}' => {}
                c if c.is_ascii_alphanumeric() => id.push(c),
                c => id.push_str(&format!("-{:x}", u32::from(c))),
            }
        }
    }
    id
}

/// A plugin's schema as it may stand in the document: under a name of its own where it refers to its own
/// parts, and anything at all where it refers to something elsewhere.
fn embedded(schema: Option<Value>, id: &str) -> Value {
    let Some(Value::Object(mut schema)) = schema else { return json!({}) };
    let mut references = Vec::new();
    gather(&Value::Object(schema.clone()), &mut references);
    if references.iter().any(|reference| !reference.starts_with('#')) {
        return json!({});
    }
    if !references.is_empty() {
        schema.insert("$id".to_owned(), json!(id));
    }
    Value::Object(schema)
}

fn gather(value: &Value, references: &mut Vec<String>) {
    match value {
        Value::Object(members) => {
            for (name, member) in members {
                match member {
                    // A base of its own would change what the other references mean.
                    Value::String(text)
                        if matches!(name.as_str(), "$ref" | "$dynamicRef" | "$id" | "$schema") =>
                    {
                        if name != "$schema" {
                            references.push(text.clone());
                        }
                    }
                    member => gather(member, references),
                }
            }
        }
        Value::Array(items) => items.iter().for_each(|item| gather(item, references)),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_two_routes_have_one_name() {
        let paths =
            ["/p/", "/p", "/p/a", "/p/{a}", "/p/a_b", "/p/a-b", "/p/a/b", "/p/ab", "/p/{a_b}", "/p/{*a}"];
        let ids: std::collections::BTreeSet<String> =
            paths.iter().map(|path| operation_id(&Method::GET, path)).collect();
        assert_eq!(ids.len(), paths.len(), "{ids:?}");
    }

    #[test]
    fn a_plugins_schema_leads_nowhere_else() {
        let plain = json!({ "type": "object" });
        assert_eq!(embedded(Some(plain.clone()), "urn:x"), plain);
        let own = embedded(Some(json!({ "$ref": "#/$defs/a", "$defs": { "a": {} } })), "urn:x");
        assert_eq!(own["$id"], "urn:x");
        for elsewhere in [
            json!({ "items": { "$ref": "http://evil.example/schema" } }),
            json!({ "$id": "http://evil.example/" }),
            json!({ "allOf": [{ "$ref": "other.json" }] }),
            json!(true),
        ] {
            assert_eq!(embedded(Some(elsewhere), "urn:x"), json!({}));
        }
        assert_eq!(embedded(None, "urn:x"), json!({}));
    }
}
