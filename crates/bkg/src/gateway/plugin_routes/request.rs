//! What a plugin is told of an HTTP request: rebuilt from its parts, never handed on.
//!
//! The invariant: no credential, cookie or word of a proxy is in it, since only the headers listed here
//! are; and a body loses nothing, whatever its type.

use std::collections::BTreeMap;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bkg_protocol::RawJson;
use bkg_protocol::message::{HttpBody, HttpRequest};
use bytes::Bytes;
use http::HeaderMap;
use http::header::{self, HeaderName};
use indexmap::IndexMap;
use serde::Serialize;

use crate::config::HttpLimits;
use crate::error::Problem;
use crate::registry::LiveRoute;
use crate::web::{Call, decoded_pairs, json_of};

/// The headers that plugins see.
static HEADERS: [HeaderName; 13] = [
    header::ACCEPT,
    header::ACCEPT_LANGUAGE,
    header::CONTENT_LANGUAGE,
    header::CONTENT_TYPE,
    header::IF_MATCH,
    header::IF_MODIFIED_SINCE,
    header::IF_NONE_MATCH,
    header::IF_RANGE,
    header::IF_UNMODIFIED_SINCE,
    header::RANGE,
    header::USER_AGENT,
    HeaderName::from_static("idempotency-key"),
    HeaderName::from_static("last-event-id"),
];

/// The value of a form's field: a text, or a list of them where it came several times.
#[derive(Debug, Serialize)]
#[serde(untagged)]
enum Field {
    One(String),
    Several(Vec<String>),
}

/// The request as the plugin sees it, and its payload.
pub(super) fn of(
    call: &Call,
    route: &LiveRoute,
    params: BTreeMap<String, String>,
    body: Bytes,
    limits: &HttpLimits,
) -> Result<(HttpRequest, RawJson), Problem> {
    let parts = &call.parts;
    let (body, payload) = payload_of(&parts.headers, body, limits)?;
    let mut headers = allowed(&parts.headers);
    if let Some(id) = call.request_id() {
        headers.insert("x-request-id".to_owned(), id.to_string());
    }
    let http = HttpRequest {
        method: parts.method.to_string(),
        path: route.below(parts.uri.path()).to_owned(),
        params,
        query: decoded_pairs(parts.uri.query().unwrap_or_default())?,
        headers,
        body,
    };
    Ok((http, payload))
}

/// What plugins see of the headers. One that came several times is one list; one that is no text is
/// left out.
fn allowed(headers: &HeaderMap) -> BTreeMap<String, String> {
    let value = |name: &HeaderName| {
        let values: Vec<&str> =
            headers.get_all(name).iter().filter_map(|value| value.to_str().ok()).collect();
        (!values.is_empty()).then(|| values.join(", "))
    };
    HEADERS.iter().filter_map(|name| Some((name.to_string(), value(name)?))).collect()
}

fn payload_of(
    headers: &HeaderMap,
    body: Bytes,
    limits: &HttpLimits,
) -> Result<(HttpBody, RawJson), Problem> {
    if body.is_empty() {
        return Ok((HttpBody::None, RawJson::NULL));
    }
    let content_type = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
    let content_type = content_type.unwrap_or_default().to_ascii_lowercase();
    let (essence, parameters) = content_type.split_once(';').unwrap_or((&content_type, ""));
    let essence = essence.trim();
    if essence == "application/json" || essence.ends_with("+json") {
        return Ok((HttpBody::Json, json_of(body, limits)?));
    }
    if essence == "application/x-www-form-urlencoded" {
        let text = std::str::from_utf8(&body).map_err(|_| Problem::invalid("the form is not UTF-8"))?;
        return Ok((HttpBody::Form, RawJson::of(&fields_of(text)?)));
    }
    if essence.starts_with("text/")
        && is_utf8(parameters)
        && let Ok(text) = std::str::from_utf8(&body)
    {
        return Ok((HttpBody::Text, RawJson::of(text)));
    }
    Ok((HttpBody::Base64, RawJson::of(&STANDARD.encode(&body))))
}

/// Whether the parameters of a content type leave it at UTF-8.
fn is_utf8(parameters: &str) -> bool {
    let charset = parameters.split(';').find_map(|parameter| parameter.trim().strip_prefix("charset="));
    charset.is_none_or(|charset| matches!(charset.trim_matches('"'), "utf-8" | "utf8" | "us-ascii"))
}

fn fields_of(text: &str) -> Result<IndexMap<String, Field>, Problem> {
    let mut fields: IndexMap<String, Field> = IndexMap::new();
    for (name, value) in decoded_pairs(text)? {
        match fields.get_mut(&name) {
            None => {
                fields.insert(name, Field::One(value));
            }
            Some(Field::Several(values)) => values.push(value),
            Some(one) => {
                let Field::One(first) = std::mem::replace(one, Field::Several(Vec::new())) else {
                    unreachable!("the list is matched above")
                };
                *one = Field::Several(vec![first, value]);
            }
        }
    }
    Ok(fields)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn payload(content_type: &str, body: &[u8]) -> (HttpBody, String) {
        let mut headers = HeaderMap::new();
        if !content_type.is_empty() {
            headers.insert(header::CONTENT_TYPE, content_type.parse().unwrap());
        }
        let limits = HttpLimits::default();
        let (kind, payload) = payload_of(&headers, Bytes::copy_from_slice(body), &limits).unwrap();
        (kind, payload.as_str().to_owned())
    }

    #[test]
    fn a_body_becomes_what_its_type_says_and_loses_nothing() {
        for (content_type, body, kind, due) in [
            ("application/json", &b" {\"b\":1.50} "[..], HttpBody::Json, r#"{"b":1.50}"#),
            ("Application/Problem+JSON; charset=utf-8", b"[1]", HttpBody::Json, "[1]"),
            (
                "application/x-www-form-urlencoded",
                b"a=1&b=x+y&a=%C3%A9",
                HttpBody::Form,
                r#"{"a":["1","é"],"b":"x y"}"#,
            ),
            ("text/plain", "é\n".as_bytes(), HttpBody::Text, r#""é\n""#),
            ("text/csv; charset=\"UTF-8\"", b"a;b", HttpBody::Text, r#""a;b""#),
            ("text/plain; charset=latin1", b"\xe9", HttpBody::Base64, r#""6Q==""#),
            ("text/plain", b"\xff\x00", HttpBody::Base64, r#""/wA=""#),
            ("image/png", b"\x89PNG", HttpBody::Base64, r#""iVBORw==""#),
            ("", b"abc", HttpBody::Base64, r#""YWJj""#),
            ("application/json", b"", HttpBody::None, "null"),
        ] {
            assert_eq!(payload(content_type, body), (kind, due.to_owned()), "{content_type} {body:?}");
        }
    }

    #[test]
    fn only_listed_headers_go_on() {
        let mut headers = HeaderMap::new();
        for (name, value) in [
            ("accept", "a/b"),
            ("accept", "c/d"),
            ("user-agent", "u"),
            ("last-event-id", "7"),
            ("range", "bytes=0-1"),
            ("cookie", "c"),
            ("authorization", "a"),
            ("proxy-authorization", "p"),
            ("x-bkg-user", "x"),
            ("x-forwarded-for", "1.2.3.4"),
            ("forwarded", "for=x"),
            ("connection", "close"),
            ("te", "trailers"),
            ("host", "h"),
            ("origin", "o"),
            ("referer", "r"),
            ("x-request-id", "forged"),
            ("x-api-key", "k"),
        ] {
            headers.append(HeaderName::from_static(name), value.parse().unwrap());
        }
        let pairs: Vec<(String, String)> = allowed(&headers).into_iter().collect();
        let due =
            [("accept", "a/b, c/d"), ("last-event-id", "7"), ("range", "bytes=0-1"), ("user-agent", "u")];
        assert_eq!(pairs, due.map(|(name, value)| (name.to_owned(), value.to_owned())));
    }
}
