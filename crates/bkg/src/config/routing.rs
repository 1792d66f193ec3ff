//! The routing document: public model names, and which models answer for each.
//!
//! This reads and checks; it decides nothing and knows no plugin: whether anybody serves a target is a
//! matter of the moment. The invariant: a document that was read has no circle, and every route of it has
//! a target that may be chosen. The host's configuration and the operator's HTTP hand it in.

use std::collections::BTreeMap;
use std::fmt;

use schemars::JsonSchema;
use serde::Serialize;
use serde_json::{Map, Value};

use super::check::Violation;

/// The longest name of a model, in characters.
const LONGEST_NAME: usize = 200;
/// The most routes that a document has.
const MOST_ROUTES: usize = 1_000;
/// The most targets, and the most fallbacks, of one route.
const MOST_MODELS: usize = 16;
/// The largest weight.
const LARGEST_WEIGHT: u64 = 1_000_000;
/// The most further attempts at the targets of one route.
const MOST_RETRIES: u64 = 5;

/// Which models answer for which names.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct RoutingDocument {
    /// The routes, by the name that clients ask for.
    pub routes: BTreeMap<ModelName, Route>,
}

/// The name of a model as clients or plugins write it: neither empty nor longer than 200 characters, and
/// without white space at its ends or control characters.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, JsonSchema)]
#[serde(transparent)]
pub struct ModelName(#[schemars(length(min = 1, max = 200))] String);

/// What a name stands for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(deny_unknown_fields, rename = "ModelRoute")]
pub struct Route {
    /// The models of which one is chosen by weight.
    #[schemars(length(min = 1, max = 16))]
    pub targets: Vec<RouteTarget>,
    /// The models, or other routes, that are asked in this order when no target answers.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16), default)]
    pub fallbacks: Vec<ModelName>,
    /// How many further attempts there are at the targets; unless said, one at each of the others.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(max = 5))]
    pub retries: Option<u8>,
    /// What it is a route for; unless said, for whatever its models can do.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub capability: Option<RoutedCapability>,
}

/// One of the models that a route chooses from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct RouteTarget {
    /// The model, as its id or as `plugin/id`.
    pub model: ModelName,
    /// How often it is chosen, in proportion to the others; 0 means never.
    #[serde(skip_serializing_if = "is_one")]
    #[schemars(range(max = 1_000_000), default = "one")]
    pub weight: u32,
}

/// What a route may be for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, JsonSchema)]
pub enum RoutedCapability {
    /// Chats, and what is translated into one.
    #[serde(rename = "llm.chat")]
    Chat,
    /// Embeddings.
    #[serde(rename = "llm.embed")]
    Embed,
}

fn one() -> u32 {
    1
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "the signature is serde's")]
fn is_one(weight: &u32) -> bool {
    *weight == 1
}

impl ModelName {
    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    fn read(text: &str) -> Result<Self, String> {
        let wrong = if text.is_empty() {
            "it is empty"
        } else if text.chars().count() > LONGEST_NAME {
            "it is longer than 200 characters"
        } else if text.trim() != text {
            "it begins or ends with white space"
        } else if text.chars().any(char::is_control) {
            "it has a control character"
        } else {
            return Ok(Self(text.to_owned()));
        };
        Err(format!("this is no name of a model: {wrong}"))
    }
}

impl fmt::Display for ModelName {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&self.0)
    }
}

impl std::borrow::Borrow<str> for ModelName {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl RoutedCapability {
    const ALL: [Self; 2] = [Self::Chat, Self::Embed];

    /// The capability's name.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Chat => "llm.chat",
            Self::Embed => "llm.embed",
        }
    }
}

impl RoutingDocument {
    /// Reads a document.
    ///
    /// # Errors
    /// Every place that is wrong, as a JSON Pointer (RFC 6901) and a sentence.
    pub fn read(document: &Value) -> Result<Self, Vec<Violation>> {
        let mut reader = Reader::default();
        let document = reader.document(document);
        if reader.found.is_empty() {
            reader.check(&document);
        }
        if reader.found.is_empty() { Ok(document) } else { Err(reader.found) }
    }

    /// The document as JSON.
    pub fn to_json(&self) -> Value {
        serde_json::to_value(self).expect("the document has a JSON form")
    }
}

/// Reads, and goes on where something is wrong, so that all of it is told at once.
#[derive(Default)]
struct Reader {
    path: Vec<String>,
    found: Vec<Violation>,
}

impl Reader {
    fn wrong(&mut self, message: impl Into<String>) {
        let path: String = self.path.iter().map(|segment| format!("/{}", escaped(segment))).collect();
        self.found.push(Violation { path, message: message.into() });
    }

    /// Reads what is below a name.
    fn below<T>(&mut self, name: impl ToString, read: impl FnOnce(&mut Self) -> T) -> T {
        self.path.push(name.to_string());
        let outcome = read(self);
        self.path.pop();
        outcome
    }

    /// The members of an object, all of which are known.
    fn object<'a>(&mut self, value: &'a Value, known: &[&str]) -> Option<&'a Map<String, Value>> {
        let Some(object) = value.as_object() else {
            self.wrong(format!("use an object with {}", listed(known)));
            return None;
        };
        for name in object.keys().filter(|name| !known.contains(&name.as_str())) {
            self.below(name, |reader| {
                reader.wrong(format!("there is no member `{name}`: use {}", listed(known)));
            });
        }
        Some(object)
    }

    fn document(&mut self, value: &Value) -> RoutingDocument {
        let mut document = RoutingDocument::default();
        let Some(object) = self.object(value, &["routes"]) else { return document };
        self.below("routes", |reader| {
            let Some(routes) = object.get("routes").and_then(Value::as_object) else {
                return reader.wrong("use an object with a route for each name");
            };
            if routes.len() > MOST_ROUTES {
                return reader
                    .wrong(format!("there are {} routes: use at most {MOST_ROUTES}", routes.len()));
            }
            for (name, route) in routes {
                reader.below(name, |reader| {
                    let name = reader.name(name);
                    let route = reader.route(route);
                    if let (Some(name), Some(route)) = (name, route) {
                        document.routes.insert(name, route);
                    }
                });
            }
        });
        document
    }

    fn route(&mut self, value: &Value) -> Option<Route> {
        let object = self.object(value, &["targets", "fallbacks", "retries", "capability"])?;
        let targets = self.below("targets", |reader| {
            let targets = reader.list(object.get("targets"), Self::target);
            let given = object.get("targets").and_then(Value::as_array).map_or(0, Vec::len);
            if given == 0 {
                reader
                    .wrong("use a list of models such as `[{\"model\": \"stand-in\"}]`, with at least one");
            } else if targets.len() == given && targets.iter().all(|target| target.weight == 0) {
                reader.wrong("every weight is 0: use a larger one for a model that may be chosen");
            }
            targets
        });
        let fallbacks = self.below("fallbacks", |reader| {
            reader.list(object.get("fallbacks"), |reader, value| match value.as_str() {
                Some(name) => reader.name(name),
                None => {
                    reader.wrong("use the name of a model or a route");
                    None
                }
            })
        });
        let retries = self.below("retries", |reader| {
            let value = object.get("retries").filter(|value| !value.is_null());
            reader.number(value, MOST_RETRIES).map(|retries| retries as u8)
        });
        let capability = self.below("capability", |reader| {
            let value = object.get("capability").filter(|value| !value.is_null())?;
            let named =
                RoutedCapability::ALL.into_iter().find(|known| Some(known.as_str()) == value.as_str());
            if named.is_none() {
                reader.wrong("use `llm.chat` or `llm.embed`");
            }
            named
        });
        Some(Route { targets, fallbacks, retries, capability })
    }

    fn target(&mut self, value: &Value) -> Option<RouteTarget> {
        let object = self.object(value, &["model", "weight"])?;
        let model = self.below("model", |reader| match object.get("model").and_then(Value::as_str) {
            Some(name) => reader.name(name),
            None => {
                reader.wrong("use the name of a model, as its id or as `plugin/id`");
                None
            }
        });
        let weight =
            self.below("weight", |reader| reader.number(object.get("weight"), LARGEST_WEIGHT).unwrap_or(1));
        Some(RouteTarget { model: model?, weight: weight as u32 })
    }

    fn name(&mut self, text: &str) -> Option<ModelName> {
        ModelName::read(text).map_err(|wrong| self.wrong(wrong)).ok()
    }

    /// A whole number; an absent one is none.
    fn number(&mut self, value: Option<&Value>, most: u64) -> Option<u64> {
        let value = value?;
        let number = value.as_u64().filter(|number| *number <= most);
        if number.is_none() {
            self.wrong(format!("use a whole number from 0 to {most}, not `{value}`"));
        }
        number
    }

    /// A list of models; an absent one is empty.
    fn list<T>(
        &mut self,
        value: Option<&Value>,
        mut read: impl FnMut(&mut Self, &Value) -> Option<T>,
    ) -> Vec<T> {
        let Some(value) = value else { return Vec::new() };
        let Some(items) = value.as_array() else {
            self.wrong("use a list");
            return Vec::new();
        };
        if items.len() > MOST_MODELS {
            self.wrong(format!("there are {} models: use at most {MOST_MODELS}", items.len()));
            return Vec::new();
        }
        let items = items.iter().enumerate();
        items.filter_map(|(index, item)| self.below(index, |reader| read(reader, item))).collect()
    }

    /// What routes say of one another.
    fn check(&mut self, document: &RoutingDocument) {
        for (name, route) in &document.routes {
            self.path = vec!["routes".to_owned(), name.to_string()];
            self.check_targets(document, name, route);
            self.check_fallbacks(document, name, route);
        }
        self.path.clear();
    }

    fn check_targets(&mut self, document: &RoutingDocument, name: &ModelName, route: &Route) {
        for (index, target) in route.targets.iter().enumerate() {
            let earlier = route.targets[..index].iter().any(|earlier| earlier.model == target.model);
            // A target is a model, never a route. A route may bear the name of a model that it chooses, which
            // is how a model gets fallbacks: then the name is a model's too.
            let is_only_route = document.routes.get(&target.model).is_some_and(|other| {
                target.model != *name && other.targets.iter().all(|own| own.model != target.model)
            });
            let message = if is_only_route {
                format!("`{}` is a route: name a model, or make the route a fallback", target.model)
            } else if earlier {
                format!("`{}` is there twice: give it one weight", target.model)
            } else {
                continue;
            };
            self.below("targets", |reader| reader.below(index, |reader| reader.wrong(message)));
        }
    }

    fn check_fallbacks(&mut self, document: &RoutingDocument, name: &ModelName, route: &Route) {
        for (index, fallback) in route.fallbacks.iter().enumerate() {
            let other = document.routes.get(fallback);
            let message = if route.fallbacks[..index].contains(fallback) {
                format!("`{fallback}` is there twice")
            } else if let Some(circle) = other.and_then(|_| circle(document, name, fallback)) {
                format!("the fallbacks run in a circle: {circle}")
            } else if let (Some(own), Some(others)) =
                (route.capability, other.and_then(|other| other.capability))
                && own != others
            {
                format!(
                    "`{fallback}` is a route for `{}`, this one for `{}`",
                    others.as_str(),
                    own.as_str()
                )
            } else {
                continue;
            };
            self.below("fallbacks", |reader| reader.below(index, |reader| reader.wrong(message)));
        }
    }
}

/// The way from a route's fallback back to the route, if there is one.
fn circle(document: &RoutingDocument, name: &ModelName, fallback: &ModelName) -> Option<String> {
    let mut seen = std::collections::BTreeSet::new();
    let mut ways = vec![vec![name, fallback]];
    while let Some(way) = ways.pop() {
        let last = *way.last().expect("a way has a beginning");
        if last == name {
            let names: Vec<String> = way.iter().map(|name| format!("`{name}`")).collect();
            return Some(names.join(" → "));
        }
        if !seen.insert(last) {
            continue;
        }
        let further = document.routes.get(last).map_or(&[][..], |route| &route.fallbacks);
        ways.extend(further.iter().map(|next| way.iter().copied().chain([next]).collect()));
    }
    None
}

/// A segment of a JSON Pointer (RFC 6901, section 3).
fn escaped(segment: &str) -> String {
    segment.replace('~', "~0").replace('/', "~1")
}

fn listed(names: &[&str]) -> String {
    let names: Vec<String> = names.iter().map(|name| format!("`{name}`")).collect();
    names.join(", ")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// What is wrong with a document, as `path: message`.
    fn faults(document: &Value) -> Vec<String> {
        let found = RoutingDocument::read(document).err().unwrap_or_default();
        found.into_iter().map(|violation| format!("{}: {}", violation.path, violation.message)).collect()
    }

    #[test]
    fn a_document_comes_back_as_it_was_written() {
        for document in [
            json!({ "routes": {} }),
            json!({ "routes": { "fast": { "targets": [{ "model": "a" }] } } }),
            json!({ "routes": {
                "vendor/best": {
                    "targets": [{ "model": "a", "weight": 3 }, { "model": "p/b" }],
                    "fallbacks": ["vendor/spare", "c"], "retries": 0, "capability": "llm.chat",
                },
                "vendor/spare": { "targets": [{ "model": "d", "weight": 0 }, { "model": "e" }] },
            } }),
        ] {
            assert_eq!(RoutingDocument::read(&document).unwrap().to_json(), document);
        }
    }

    #[test]
    fn every_fault_is_told_with_its_place() {
        let targets = json!([{ "model": "a" }]);
        for (document, expected) in [
            (json!([]), "/: use an object"),
            (json!({}), "/routes: use an object with a route for each name"),
            (json!({ "routes": {}, "default": 1 }), "/default: there is no member `default`"),
            (
                json!({ "routes": { "": { "targets": targets } } }),
                "/routes/: this is no name of a model: it is empty",
            ),
            (json!({ "routes": { "a b ": { "targets": targets } } }), "/routes/a b : this is no name"),
            (json!({ "routes": { "x/y": 1 } }), "/routes/x~1y: use an object with `targets`"),
            (json!({ "routes": { "x": {} } }), "/routes/x/targets: use a list of models"),
            (json!({ "routes": { "x": { "targets": [] } } }), "/routes/x/targets: use a list of models"),
            (
                json!({ "routes": { "x": { "targets": ["a"] } } }),
                "/routes/x/targets/0: use an object with `model`",
            ),
            (
                json!({ "routes": { "x": { "targets": [{ "model": "a", "weight": 0 }] } } }),
                "/routes/x/targets: every weight is 0",
            ),
            (
                json!({ "routes": { "x": { "targets": [{ "model": "a", "weight": 0.5 }] } } }),
                "/routes/x/targets/0/weight: use a whole number from 0 to 1000000, not `0.5`",
            ),
            (
                json!({ "routes": { "x": { "targets": [{ "model": "a", "weight": -1 }] } } }),
                "/routes/x/targets/0/weight: use a whole number",
            ),
            (
                json!({ "routes": { "x": { "targets": [{ "model": "a" }, { "model": "a" }] } } }),
                "/routes/x/targets/1: `a` is there twice",
            ),
            (
                json!({ "routes": { "x": { "targets": targets, "retries": 6 } } }),
                "/routes/x/retries: use a whole number from 0 to 5, not `6`",
            ),
            (
                json!({ "routes": { "x": { "targets": targets, "capability": "llm.draw" } } }),
                "/routes/x/capability: use `llm.chat` or `llm.embed`",
            ),
            (
                json!({ "routes": { "x": { "targets": targets, "fallbacks": [7] } } }),
                "/routes/x/fallbacks/0: use the name of a model or a route",
            ),
            (
                json!({ "routes": { "x": { "targets": targets, "fallbacks": ["b", "b"] } } }),
                "/routes/x/fallbacks/1: `b` is there twice",
            ),
            (
                json!({ "routes": { "x": { "targets": [{ "model": "y" }] }, "y": { "targets": targets } } }),
                "/routes/x/targets/0: `y` is a route: name a model, or make the route a fallback",
            ),
            (
                json!({ "routes": {
                    "x": { "targets": targets, "fallbacks": ["y"], "capability": "llm.chat" },
                    "y": { "targets": targets, "capability": "llm.embed" },
                } }),
                "/routes/x/fallbacks/0: `y` is a route for `llm.embed`, this one for `llm.chat`",
            ),
        ] {
            let faults = faults(&document);
            assert!(
                faults.len() == 1
                    && faults[0].trim_start_matches('/').starts_with(expected.trim_start_matches('/')),
                "{document}: {faults:?}"
            );
        }
    }

    #[test]
    fn all_faults_are_told_at_once() {
        let document = json!({ "routes": { "x": { "targets": [{}], "retries": "often", "extra": 1 } } });
        assert_eq!(faults(&document).len(), 3, "{:?}", faults(&document));
    }

    #[test]
    fn circles_are_refused_and_named_and_a_route_may_bear_its_models_name() {
        let route = |fallbacks: &[&str]| json!({ "targets": [{ "model": "m" }], "fallbacks": fallbacks });
        let circle = json!({ "routes": {
            "a": route(&["b"]), "b": route(&["x", "c"]), "c": route(&["a"]), "d": route(&["a"]),
        } });
        assert_eq!(
            faults(&circle),
            [
                "/routes/a/fallbacks/0: the fallbacks run in a circle: `a` → `b` → `c` → `a`",
                "/routes/b/fallbacks/1: the fallbacks run in a circle: `b` → `c` → `a` → `b`",
                "/routes/c/fallbacks/0: the fallbacks run in a circle: `c` → `a` → `b` → `c`",
            ]
        );
        let own = json!({ "routes": { "m": route(&["m"]) } });
        assert_eq!(faults(&own), ["/routes/m/fallbacks/0: the fallbacks run in a circle: `m` → `m`"]);
        let tree = json!({ "routes": { "m": route(&["b", "c"]), "b": route(&["d"]), "c": route(&["d"]), "d": route(&[]) } });
        assert_eq!(faults(&tree), [""; 0]);
    }
}
