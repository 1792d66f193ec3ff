//! The OpenAPI 3.1 document of a set of routes.
//!
//! Not who may see which route: the caller of [`document`] chooses them. The invariant: the document
//! says what the declarations say, and one name in it means one schema.

use std::collections::BTreeMap;

use bkg_protocol::ErrorCode;
use schemars::generate::SchemaSettings;
use schemars::transform::{RecursiveTransform, ReplaceBoolSchemas};
use schemars::{Schema, SchemaGenerator};
use serde_json::{Map, Value, json};

use super::live::PluginRoute;
use crate::error::Dialect;
use crate::web::{Access, Answer, Endpoint, Parameter, SESSION_COOKIE, Tag, Type, refusals};

/// Where schemas stand in the document.
const SCHEMAS: &str = "/components/schemas";

/// The document of these routes, without those that only stand for others, and of these of plugins.
///
/// # Panics
/// If two different types of the routes have one name: a mistake in the daemon's own code, which a
/// test finds.
pub fn document<'a>(endpoints: impl IntoIterator<Item = &'a Endpoint>, plugins: &[PluginRoute]) -> Value {
    let mut writer = Writer::new();
    let mut paths = Map::new();
    let mut tags = Vec::new();
    let mut endpoints: Vec<&Endpoint> =
        endpoints.into_iter().filter(|endpoint| !endpoint.catches_all).collect();
    endpoints.sort_by_key(|endpoint| Tag::ALL.iter().position(|tag| *tag == endpoint.operation.tag));
    for endpoint in endpoints {
        if !tags.contains(&endpoint.operation.tag) {
            tags.push(endpoint.operation.tag);
        }
        let operation = writer.operation(endpoint);
        let path = endpoint.path.replace("{*", "{");
        let methods = paths.entry(path).or_insert_with(|| json!({}));
        methods[endpoint.method.as_str().to_ascii_lowercase()] = operation;
    }
    // Paths that differ only in what their parameters are called are one path: the first to come says.
    let mut named: BTreeMap<String, String> = BTreeMap::new();
    for plugin_route in plugins {
        if !tags.contains(&Tag::PluginRoutes) {
            tags.push(Tag::PluginRoutes);
        }
        let mut plugin_route = plugin_route.clone();
        let path = plugin_route.route.path.replace("{*", "{");
        let path = named.entry(without_names(&path)).or_insert(path).clone();
        plugin_route.route.path.clone_from(&path);
        let methods = paths.entry(path).or_insert_with(|| json!({}));
        let method = plugin_route.route.method.as_str().to_ascii_lowercase();
        methods[method] = writer.plugin_operation(&plugin_route);
    }
    let tags = tags.iter().map(|tag| json!({ "name": tag.name(), "description": tag.description() }));
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "Backplane",
            "version": env!("CARGO_PKG_VERSION"),
            "description": "What the daemon answers over HTTP. Every answer has an `x-request-id`; every error has \
                one body. A document that was asked for with a credential holds what that credential opens.",
            "license": { "name": "MIT OR Apache-2.0", "identifier": "MIT OR Apache-2.0" },
        },
        "servers": [{ "url": "/" }],
        "tags": tags.collect::<Vec<_>>(),
        "paths": paths,
        "components": writer.components(),
    })
}

/// Writes operations, and keeps what they refer to.
struct Writer {
    /// Schemas of what is read.
    read: SchemaGenerator,
    /// Schemas of what is answered.
    answered: SchemaGenerator,
    responses: BTreeMap<String, Value>,
}

impl Writer {
    fn new() -> Self {
        let settings = || {
            SchemaSettings::draft2020_12().with(|settings| {
                settings.definitions_path = SCHEMAS.into();
                settings.meta_schema = None;
                settings.transforms.push(Box::new(objects()));
                settings.transforms.push(Box::new(RecursiveTransform(bounded)));
            })
        };
        Self {
            read: settings().for_deserialize().into_generator(),
            answered: settings().for_serialize().into_generator(),
            responses: BTreeMap::new(),
        }
    }

    fn operation(&mut self, endpoint: &Endpoint) -> Value {
        let said = &endpoint.operation;
        let mut operation = Map::new();
        operation.insert("operationId".to_owned(), json!(operation_id(endpoint)));
        operation.insert("tags".to_owned(), json!([said.tag.name()]));
        operation.insert("summary".to_owned(), json!(said.summary));
        operation.insert("description".to_owned(), json!(description(endpoint)));
        operation.insert("security".to_owned(), security(endpoint));
        if !said.parameters.is_empty() {
            let parameters = said.parameters.iter().map(|parameter| self.parameter(parameter));
            operation.insert("parameters".to_owned(), parameters.collect());
        }
        if let Some(body) = &said.body {
            let schema = written(body.schema, &mut self.read);
            let content = json!({ "application/json": { "schema": schema } });
            operation
                .insert("requestBody".to_owned(), json!({ "required": body.required, "content": content }));
        }
        operation.insert("responses".to_owned(), self.all_responses(endpoint));
        Value::Object(operation)
    }

    fn plugin_operation(&mut self, plugin_route: &PluginRoute) -> Value {
        let mut operation = plugin_route.operation();
        operation.insert("tags".to_owned(), json!([Tag::PluginRoutes.name()]));
        operation.insert("security".to_owned(), credentials(&[plugin_route.scope.as_str()]));
        let mut codes = vec![ErrorCode::Internal, ErrorCode::MisdirectedRequest];
        codes.extend(refusals(Access::Capability));
        codes.extend(plugin_route.errors());
        for (status, codes) in by_status(&codes) {
            operation["responses"][status.to_string()] = self.refusal(Dialect::Backplane, &codes);
        }
        Value::Object(operation)
    }

    fn parameter(&mut self, parameter: &Parameter) -> Value {
        json!({
            "name": parameter.name,
            "in": parameter.place.as_str(),
            "required": parameter.required,
            "description": parameter.description,
            "schema": written(parameter.schema, &mut self.read),
        })
    }

    fn all_responses(&mut self, endpoint: &Endpoint) -> Value {
        let mut responses: BTreeMap<String, Value> = BTreeMap::new();
        for answer in &endpoint.operation.answers {
            let response = responses.entry(answer.status.to_string()).or_insert_with(
                || json!({ "description": "", "headers": { "x-request-id": header("RequestId") } }),
            );
            self.add_answer(response, answer);
        }
        let dialect = Dialect::of_path(endpoint.path);
        for (status, codes) in by_status(&endpoint.all_errors()) {
            let refusal = match endpoint.page {
                None => self.refusal(dialect, &codes),
                Some(_) => {
                    let mut response = self.error_response(dialect, &codes);
                    response["content"]["text/html"] = json!({ "schema": { "type": "string" } });
                    response
                }
            };
            match responses.get_mut(&status.to_string()) {
                // Such as 503 of a host that is not ready: its body is not the one of errors.
                Some(answer) => self.add_refusal(answer, dialect, &codes),
                None => drop(responses.insert(status.to_string(), refusal)),
            }
        }
        json!(responses)
    }

    fn add_answer(&mut self, response: &mut Value, answer: &Answer) {
        join(&mut response["description"], answer.description);
        for (name, meaning) in &answer.headers {
            response["headers"][*name] = json!({ "description": meaning, "schema": { "type": "string" } });
        }
        if let Some(content) = &answer.content {
            response["content"][content.media_type] =
                json!({ "schema": written(content.schema, &mut self.answered) });
        }
    }

    /// Refers to an error body with one of these codes, which have one status.
    fn refusal(&mut self, dialect: Dialect, codes: &[ErrorCode]) -> Value {
        let words: Vec<_> = codes.iter().map(|code| pascal(dialect.word(*code))).collect();
        let prefix = match dialect {
            Dialect::Backplane => "",
            Dialect::OpenAi => "OpenAi",
            Dialect::Anthropic => "Anthropic",
        };
        let name = format!("{prefix}{}", words.join("Or"));
        if !self.responses.contains_key(&name) {
            let response = self.error_response(dialect, codes);
            self.responses.insert(name.clone(), response);
        }
        json!({ "$ref": format!("#/components/responses/{name}") })
    }

    fn error_response(&mut self, dialect: Dialect, codes: &[ErrorCode]) -> Value {
        let mut headers =
            json!({ "x-request-id": header("RequestId"), "x-bkg-error-source": header("ErrorSource") });
        match codes[0].status() {
            401 => headers["www-authenticate"] = header("WwwAuthenticate"),
            429 | 503 => headers["retry-after"] = header("RetryAfter"),
            _ => {}
        }
        let schema = dialect.schema(&mut self.answered);
        json!({
            "description": meanings(dialect, codes),
            "headers": headers,
            "content": { "application/json": { "schema": schema } },
        })
    }

    /// Adds errors to a status that has an answer of another form.
    fn add_refusal(&mut self, response: &mut Value, dialect: Dialect, codes: &[ErrorCode]) {
        join(&mut response["description"], &meanings(dialect, codes));
        let schema = dialect.schema(&mut self.answered);
        let content = &mut response["content"]["application/json"];
        *content = match content.take() {
            Value::Null => json!({ "schema": schema }),
            answer => json!({ "schema": { "anyOf": [answer["schema"], schema] } }),
        };
    }

    fn components(mut self) -> Value {
        let mut schemas: BTreeMap<String, Value> =
            self.answered.take_definitions(true).into_iter().collect();
        for (name, schema) in self.read.take_definitions(true) {
            let other = schemas.entry(name.clone()).or_insert_with(|| schema.clone());
            assert_eq!(
                *other, schema,
                "`{name}` is read in another form than it is answered: rename one of them"
            );
        }
        json!({
            "securitySchemes": {
                "bearer": {
                    "type": "http",
                    "scheme": "bearer",
                    "description": "An API key, the token of a login, or the root key. The list of an operation names the scope that it needs.",
                },
                "apiKey": {
                    "type": "apiKey",
                    "in": "header",
                    "name": "x-api-key",
                    "description": "The same, as Anthropic's clients send it. At and below `/v1/messages` alone.",
                },
                "cookie": {
                    "type": "apiKey",
                    "in": "cookie",
                    "name": SESSION_COOKIE,
                    "description": "A login in a browser. What changes something comes from a page of the same origin. Not below `/v1`.",
                },
            },
            "headers": {
                "RequestId": {
                    "description": "The id of the request, a UUID, which the logs of host and plugins name.",
                    "required": true,
                    "schema": { "type": "string", "format": "uuid" },
                },
                "ErrorSource": {
                    "description": "Who failed. The request's own faults count as the host's.",
                    "required": true,
                    "schema": { "type": "string", "enum": ["host", "plugin"] },
                },
                "RetryAfter": {
                    "description": "After how many seconds to try again.",
                    "schema": { "type": "integer", "minimum": 1, "maximum": 120 },
                },
                "WwwAuthenticate": {
                    "description": "`Bearer`.",
                    "required": true,
                    "schema": { "type": "string" },
                },
            },
            "responses": self.responses,
            "schemas": schemas,
        })
    }
}

/// Readers of OpenAPI know schemas that are objects; `true` and `false` surprise them.
fn objects() -> ReplaceBoolSchemas {
    let mut objects = ReplaceBoolSchemas::default();
    objects.skip_additional_properties = true;
    objects
}

/// Says of a number what its format means: what is larger is refused.
fn bounded(schema: &mut Schema) {
    let most: u64 = match schema.get("format").and_then(Value::as_str) {
        Some("uint32") => u32::MAX.into(),
        Some("uint" | "uint64") => u64::MAX,
        _ => return,
    };
    schema.ensure_object().entry("maximum").or_insert(most.into());
}

/// The schema of a type, or a reference to it.
fn written(schema: Type, generator: &mut SchemaGenerator) -> Schema {
    let mut schema = schema.write(generator);
    for transform in generator.transforms_mut() {
        transform.transform(&mut schema);
    }
    schema
}

/// A path without the names of its parameters.
fn without_names(path: &str) -> String {
    let segments = path.split('/').map(|segment| if segment.starts_with('{') { "{}" } else { segment });
    segments.collect::<Vec<_>>().join("/")
}

/// `getAdminPluginsName` for GET `/admin/plugins/{name}`.
fn operation_id(endpoint: &Endpoint) -> String {
    let words = endpoint.path.split(|c: char| !c.is_ascii_alphanumeric()).map(pascal);
    format!("{}{}", endpoint.method.as_str().to_ascii_lowercase(), words.collect::<String>())
}

/// `NotFound` for `not_found`.
fn pascal(text: &str) -> String {
    let capital = |word: &str| {
        let (first, rest) = word.split_at(word.len().min(1));
        first.to_ascii_uppercase() + rest
    };
    text.split('_').map(capital).collect()
}

fn description(endpoint: &Endpoint) -> String {
    let needs = match endpoint.access {
        Access::Public => "Needs no credential.".to_owned(),
        Access::AnyCaller => "Needs any credential.".to_owned(),
        Access::Login => "Needs a login: keys open nothing here.".to_owned(),
        Access::Scope(scope) => format!("Needs the scope `{scope}`."),
        Access::Capability => "Needs the scope of the capability that the request names.".to_owned(),
        Access::Socket => "Needs any credential, or a one-time ticket in its place.".to_owned(),
    };
    match endpoint.operation.description {
        Some(description) => format!("{description}\n\n{needs}"),
        None => needs,
    }
}

fn security(endpoint: &Endpoint) -> Value {
    let scopes: &[&str] = match &endpoint.access {
        Access::Public => return json!([]),
        Access::Scope(scope) => &[scope],
        Access::AnyCaller | Access::Login | Access::Capability | Access::Socket => &[],
    };
    match Dialect::of_path(endpoint.path) {
        Dialect::Backplane => credentials(scopes),
        Dialect::OpenAi => json!([{ "bearer": scopes }]),
        Dialect::Anthropic => json!([{ "bearer": scopes }, { "apiKey": scopes }]),
    }
}

fn credentials(scopes: &[&str]) -> Value {
    json!([{ "bearer": scopes }, { "cookie": scopes }])
}

/// Errors by their status, each once, in the order of the table.
fn by_status(codes: &[ErrorCode]) -> BTreeMap<u16, Vec<ErrorCode>> {
    let mut by_status: BTreeMap<u16, Vec<ErrorCode>> = BTreeMap::new();
    for code in ErrorCode::ALL.iter().filter(|code| codes.contains(code)) {
        by_status.entry(code.status()).or_default().push(*code);
    }
    by_status
}

fn meanings(dialect: Dialect, codes: &[ErrorCode]) -> String {
    let meanings = codes.iter().map(|code| format!("`{}`: {}", dialect.word(*code), code.meaning()));
    meanings.collect::<Vec<_>>().join("\n\n")
}

fn header(name: &str) -> Value {
    json!({ "$ref": format!("#/components/headers/{name}") })
}

/// Adds a paragraph to a text.
fn join(text: &mut Value, more: &str) {
    let so_far = text.as_str().unwrap_or_default();
    *text = if so_far.is_empty() { json!(more) } else { json!(format!("{so_far}\n\n{more}")) };
}
