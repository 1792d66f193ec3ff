//! `GET /openapi.json` and `GET /docs`: what the daemon answers, for programs and for people.
//!
//! Not where routes are described: each is where it is declared. The invariant: nobody is shown a route
//! that they may not use.

mod document;
mod live;
mod page;
mod shape;

use std::sync::{Arc, OnceLock};

use axum::body::Body;
use axum::response::{IntoResponse, Response};
use http::{HeaderMap, HeaderValue, StatusCode, header};
use serde_json::Value;
use sha2::{Digest, Sha256};

use crate::auth::Caller;
use crate::error::Problem;
use crate::registry::Registry;
use crate::web::{Access, Call, Endpoint, Routes, Tag};
pub use document::document;
pub use live::PluginRoute;

/// What these routes show.
#[derive(Debug)]
pub struct Reference {
    registry: Arc<Registry>,
    endpoints: OnceLock<Vec<Endpoint>>,
}

/// Adds the routes.
pub fn routes(routes: Routes, reference: &Arc<Reference>) -> Routes {
    let openapi = Endpoint::get("/openapi.json", Access::AnyCaller)
        .summary(Tag::Reference, "Get this document")
        .describe(
            "OpenAPI 3.1 of what the caller may use, the routes of plugins that are there now included.",
        )
        .header::<String>("if-none-match", "The `etag` of a document that one has.")
        .answers::<serde_json::Map<String, Value>>(200, "The document.")
        .with_header("etag", "What stays the same while the document does.")
        .answers_nothing(304, "It is the one that `if-none-match` names.");
    let docs = Endpoint::get("/docs", Access::AnyCaller)
        .summary(Tag::Reference, "Read this document")
        .describe("A page for people. Browsers without a login are shown how to get one.")
        .answers_with::<String>(200, "text/html", "The page.")
        .with_page(page::refusal);
    routes.add(openapi, reference, self::openapi).add(docs, reference, self::docs)
}

impl Reference {
    /// A reference of nothing so far; the routes of plugins are those of `registry`.
    pub fn new(registry: Arc<Registry>) -> Self {
        Self { registry, endpoints: OnceLock::new() }
    }

    /// Says what there is to show; the first word counts.
    pub fn describe(&self, endpoints: &[Endpoint]) {
        let _ = self.endpoints.set(endpoints.to_vec());
    }

    /// What a caller may use, as a document.
    fn document_for(&self, caller: &Caller) -> Value {
        let endpoints = self.endpoints.get().map(Vec::as_slice).unwrap_or_default();
        let endpoints = endpoints.iter().filter(|endpoint| may_use(caller, endpoint.access));
        document(endpoints, &live::usable(&self.registry.view(), caller))
    }
}

/// Whether a caller gets past the door of a route.
fn may_use(caller: &Caller, access: Access) -> bool {
    match access {
        Access::Public | Access::AnyCaller | Access::Capability | Access::Socket => true,
        Access::Login => caller.session_id().is_some(),
        Access::Scope(scope) => caller.require(scope).is_ok(),
    }
}

async fn openapi(reference: Arc<Reference>, call: Call, _: Body) -> Result<Response, Problem> {
    let text = reference.document_for(&call.caller).to_string();
    let etag = format!("\"{}\"", &hex(&Sha256::digest(&text))[..32]);
    let mut response = if names(&call.parts.headers, &etag) {
        StatusCode::NOT_MODIFIED.into_response()
    } else {
        let mut response = Body::from(text).into_response();
        response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        response
    };
    let headers = response.headers_mut();
    headers.insert(
        header::ETAG,
        HeaderValue::from_str(&etag).expect("hexadecimal in quotes is a header value"),
    );
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("private, no-cache"));
    headers.insert(header::VARY, HeaderValue::from_static("authorization, cookie"));
    Ok(response)
}

async fn docs(reference: Arc<Reference>, call: Call, _: Body) -> Result<Response, Problem> {
    Ok(page::page(&reference.document_for(&call.caller)))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Whether `if-none-match` names the document (RFC 9110, section 13.1.2).
fn names(headers: &HeaderMap, etag: &str) -> bool {
    let values = headers.get_all(header::IF_NONE_MATCH).iter().filter_map(|value| value.to_str().ok());
    values.flat_map(|value| value.split(',')).any(|tag| {
        let tag = tag.trim();
        tag == "*" || tag.strip_prefix("W/").unwrap_or(tag) == etag
    })
}
