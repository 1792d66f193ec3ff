//! The page that shows the document to people, and the one for who may not see it.
//!
//! Not what stands in the document. The invariants: every text is escaped, also those of plugins; and
//! the page needs no script and nothing from elsewhere.

use axum::body::Body;
use axum::response::{IntoResponse, Response};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http::{HeaderValue, StatusCode, header};
use maud::{DOCTYPE, Markup, PreEscaped, html};
use serde_json::Value;

use super::shape::{members_of, paragraphs, shape};
use crate::error::{Dialect, Problem};

const STYLE: &str = include_str!("page.css");
const LOGIN: &str = include_str!("login.js");

/// The methods of a path that the document can have, in the order in which they are shown.
const METHODS: [&str; 5] = ["get", "post", "put", "patch", "delete"];

/// The whole reference.
pub(super) fn page(document: &Value) -> Response {
    let operations = operations(document);
    let tags = members(&document["tags"]);
    let of_tag = |tag: &Value| {
        let wanted = tag["name"].clone();
        operations.iter().filter(move |operation| operation.said["tags"][0] == wanted)
    };
    let body = html! {
        nav aria-label="Contents" {
            @for tag in &tags {
                h2 { a href=(format!("#{}", anchor(tag))) { (text(&tag["name"])) } }
                ul { @for operation in of_tag(tag) {
                    li { a href=(format!("#{}", operation.id())) { (text(&operation.said["summary"])) } }
                } }
            }
            h2 { a href="#schemas" { "Schemas" } }
        }
        main {
            h1 { (text(&document["info"]["title"])) " " small { (text(&document["info"]["version"])) } }
            (paragraphs(text(&document["info"]["description"])))
            p {
                "As a document for programs: " a href="/openapi.json" { "openapi.json" }
                ". Programs send a key as " code { "Authorization: Bearer KEY" } ", browsers a login in a cookie."
            }
            @for tag in &tags {
                section id=(anchor(tag)) {
                    h2 { (text(&tag["name"])) }
                    (paragraphs(text(&tag["description"])))
                    @for operation in of_tag(tag) { (operation.show(document)) }
                }
            }
            section #schemas {
                h2 { "Schemas" }
                @for (name, schema) in document["components"]["schemas"].as_object().into_iter().flatten() {
                    article id=(format!("schema-{name}")) {
                        h3 { code { (name) } }
                        (paragraphs(text(&schema["description"])))
                        @match members_of(schema) {
                            Some(table) => (table),
                            None => p { (shape(schema)) },
                        }
                    }
                }
            }
        }
    };
    respond(StatusCode::OK.into_response(), "Backplane: HTTP reference", &body, "")
}

/// What somebody is shown who does not get what was asked for.
pub(super) fn refusal(problem: &Problem) -> Response {
    let response = problem.response(Dialect::Backplane);
    let may_log_in = response.status() == StatusCode::UNAUTHORIZED;
    let body = html! {
        main .narrow {
            h1 { "HTTP reference" }
            @if !may_log_in {
                (paragraphs(&problem.message))
                p { code { (problem.code.as_str()) } }
            }
            @if may_log_in {
                p { "The reference shows what its reader may use, so it has to know who reads." }
                form method="post" {
                    label { "User" input name="username" autocomplete="username" required autofocus; }
                    label { "Password" input name="password" type="password" autocomplete="current-password" required; }
                    button { "Log in" }
                    p role="alert" {}
                }
                noscript { p { "The form needs a script. Without one:" } }
                p { "With a key, into a file:" }
                pre { "curl -H 'Authorization: Bearer KEY' ADDRESS/docs > docs.html" }
            }
        }
    };
    respond(response, "Backplane: HTTP reference", &body, if may_log_in { LOGIN } else { "" })
}

/// Puts a page into a response, with a policy that lets in nothing but what stands in it.
fn respond(mut response: Response, title: &str, body: &Markup, script: &str) -> Response {
    let nonce = STANDARD.encode(rand::random::<[u8; 16]>());
    let page = html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta name="color-scheme" content="light dark";
                title { (title) }
                style nonce=(nonce) { (PreEscaped(STYLE)) }
            }
            body {
                (body)
                @if !script.is_empty() { script nonce=(nonce) { (PreEscaped(script)) } }
            }
        }
    };
    let mut policy = format!(
        "default-src 'none'; style-src 'nonce-{nonce}'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    );
    if !script.is_empty() {
        policy.push_str(&format!("; script-src 'nonce-{nonce}'; connect-src 'self'"));
    }
    *response.body_mut() = Body::from(page.into_string());
    let headers = response.headers_mut();
    let policy = HeaderValue::from_str(&policy).expect("a nonce in base64 is fit for a header");
    headers.insert(header::CONTENT_SECURITY_POLICY, policy);
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/html; charset=utf-8"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(header::REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    headers.remove(header::CONTENT_LENGTH);
    response
}

/// An operation of the document, and where it is.
struct Shown<'a> {
    method: &'static str,
    path: &'a str,
    said: &'a Value,
}

/// The operations, in the order of the document.
fn operations(document: &Value) -> Vec<Shown<'_>> {
    let mut operations = Vec::new();
    for (path, methods) in document["paths"].as_object().into_iter().flatten() {
        for method in METHODS {
            if let Some(said) = methods.get(method) {
                operations.push(Shown { method, path, said });
            }
        }
    }
    operations
}

impl Shown<'_> {
    fn id(&self) -> &str {
        text(&self.said["operationId"])
    }

    fn show(&self, document: &Value) -> Markup {
        html! {
            details {
                summary {
                    span .method.(self.method) { (self.method.to_ascii_uppercase()) } " "
                    code { (self.path) } " "
                    span .does { (text(&self.said["summary"])) }
                }
                div id=(self.id()) {
                    (paragraphs(text(&self.said["description"])))
                    @if let Some(parameters) = self.said["parameters"].as_array() { (table_of(parameters)) }
                    @if let Some(schema) = self.said.pointer("/requestBody/content/application~1json/schema") {
                        h4 {
                            "Body"
                            @if self.said["requestBody"]["required"] != true { ", if there is one" }
                        }
                        p { (shape(schema)) }
                        @if let Some(table) = members_of(resolved(document, schema)) { (table) }
                    }
                    h4 { "Answers" }
                    (self.answers(document))
                    pre { (self.curl()) }
                }
            }
        }
    }

    fn answers(&self, document: &Value) -> Markup {
        let responses = self.said["responses"].as_object().into_iter().flatten();
        let responses = responses.map(|(status, response)| (status, resolved(document, response)));
        let (good, bad): (Vec<_>, Vec<_>) = responses.partition(|(status, _)| status.as_str() < "400");
        // All errors of a route have one body.
        let error = bad.iter().find_map(|(_, response)| {
            response
                .pointer("/content/application~1json/schema")
                .filter(|schema| schema.get("$ref").is_some())
        });
        html! {
            table {
                @for (status, response) in good {
                    tr {
                        th { code { (status) } }
                        td {
                            (paragraphs(text(&response["description"])))
                            @for (kind, content) in response["content"].as_object().into_iter().flatten() {
                                p { (shape(&content["schema"])) " as " code { (kind) } }
                            }
                        }
                    }
                }
                @for (status, response) in bad {
                    tr { th { code { (status) } } td { (paragraphs(text(&response["description"]))) } }
                }
            }
            @if let Some(error) = error { p { "The body of an error is " (shape(error)) "." } }
        }
    }

    /// How a shell asks for it.
    fn curl(&self) -> String {
        let mut line = String::from("curl");
        if self.said["security"].as_array().is_some_and(|needed| !needed.is_empty()) {
            line.push_str(" -H 'Authorization: Bearer KEY'");
        }
        if self.method != "get" {
            line.push_str(&format!(" -X {}", self.method.to_ascii_uppercase()));
        }
        if self.said.get("requestBody").is_some() {
            line.push_str(" -H 'Content-Type: application/json' -d '{…}'");
        }
        // A plugin may have a quote in the path of a route: it must not end the one of the shell.
        format!("{line} 'ADDRESS{}'", self.path.replace('\'', "%27"))
    }
}

fn table_of(parameters: &[Value]) -> Markup {
    html! {
        table {
            @for parameter in parameters {
                tr {
                    th { code { (text(&parameter["name"])) } small { " in " (text(&parameter["in"])) } }
                    td { (shape(&parameter["schema"])) @if parameter["required"] == true { " · needed" } }
                    td { (paragraphs(text(&parameter["description"]))) }
                }
            }
        }
    }
}

/// What a response says, or the shared one that it refers to.
fn resolved<'a>(document: &'a Value, response: &'a Value) -> &'a Value {
    let shared = response["$ref"].as_str().and_then(|reference| reference.strip_prefix('#'));
    shared.and_then(|place| document.pointer(place)).unwrap_or(response)
}

/// Where a heading stands in the page.
fn anchor(tag: &Value) -> String {
    format!("tag-{}", text(&tag["name"]).to_ascii_lowercase().replace(' ', "-"))
}

fn members(list: &Value) -> Vec<Value> {
    list.as_array().cloned().unwrap_or_default()
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_is_copied_into_a_shell_stays_one_address() {
        let said = json!({});
        let shown = Shown { method: "get", path: "/api/plugins/p/x';reboot;'", said: &said };
        assert_eq!(shown.curl(), "curl 'ADDRESS/api/plugins/p/x%27;reboot;%27'");
    }
}
