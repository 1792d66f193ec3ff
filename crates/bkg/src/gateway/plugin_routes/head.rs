//! The head of a plugin's answer: the status and headers that it may choose, and those that it may not.
//!
//! A plugin's answer comes from our own origin, where a user's cookie lies. The invariants: no header but
//! the listed ones is the plugin's; every answer is locked into a sandbox of its own, so that no script,
//! form or frame in it acts as the user; and no redirect repeats the user's request elsewhere.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bkg_protocol::RawJson;
use bytes::Bytes;
use http::request::Parts;
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};
use indexmap::IndexMap;
use serde::{Deserialize, Deserializer};

use crate::error::Problem;
use crate::registry::names_what_is_the_hosts;

/// How many bytes the headers of a plugin may have together: proxies and clients refuse what is much more.
const MOST_HEADER_BYTES: usize = 8 << 10;
/// How much of the name of a header that was left out is kept, in characters.
const LONGEST_NAME: usize = 64;

/// The headers that a plugin may set. `location` and `content-type` have conditions of their own.
static HEADERS: [HeaderName; 13] = [
    header::ACCEPT_RANGES,
    header::CACHE_CONTROL,
    header::CONTENT_DISPOSITION,
    header::CONTENT_LANGUAGE,
    header::CONTENT_RANGE,
    header::CONTENT_TYPE,
    header::ETAG,
    header::EXPIRES,
    header::LAST_MODIFIED,
    header::LOCATION,
    header::RETRY_AFTER,
    header::VARY,
    HeaderName::from_static("x-accel-buffering"),
];

/// What a browser lets an answer do: show itself, with its own styles and inline pictures. It runs no
/// script, sends no form, loads nothing, is in no frame, and counts as another origin than ours.
const POLICY: &str = "default-src 'none'; style-src 'unsafe-inline'; img-src data:; base-uri 'none'; \
                      form-action 'none'; frame-ancestors 'none'; sandbox";

/// What an answer is judged by: the request that it answers.
#[derive(Debug)]
pub(super) struct Asked {
    pub(super) method: Method,
    /// The host that the request names.
    authority: Option<String>,
    /// Below which paths the plugin's routes live.
    mounts: Vec<String>,
}

/// The head that a plugin chose, with the body that came with it.
#[derive(Debug)]
pub(super) struct Head {
    pub(super) status: StatusCode,
    pub(super) headers: HeaderMap,
    /// The body; `None` where there is none.
    pub(super) body: Option<Bytes>,
    /// The names of the headers that were left out.
    pub(super) dropped: Vec<String>,
}

/// `$http` as it is written.
#[derive(Deserialize)]
struct Written {
    status: Option<u16>,
    #[serde(default)]
    headers: IndexMap<String, Values>,
    #[serde(default, deserialize_with = "present")]
    json: Option<RawJson>,
    text: Option<String>,
    base64: Option<String>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Values {
    One(String),
    Several(Vec<String>),
    Number(u64),
}

/// A member that is there, even if it is null.
fn present<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<RawJson>, D::Error> {
    RawJson::deserialize(deserializer).map(Some)
}

impl Asked {
    pub(super) fn new(parts: &Parts, mounts: Vec<String>) -> Self {
        let named = parts.uri.authority().map(ToString::to_string);
        let header = || parts.headers.get(header::HOST)?.to_str().ok().map(str::to_owned);
        Self { method: parts.method.clone(), authority: named.or_else(header), mounts }
    }

    /// Where an answer with this status may send the client; `None` where it may not.
    fn location(&self, value: &str, status: StatusCode) -> Option<String> {
        // Browsers take tabs out and backslashes for slashes.
        if value.chars().any(|c| c.is_control() || c == '\\') || value.trim() != value {
            return None;
        }
        let own = value.split_once("://").and_then(|(scheme, rest)| {
            let authority = self.authority.as_deref()?;
            let path = rest.get(authority.len()..)?;
            let is_ours = matches!(scheme.to_ascii_lowercase().as_str(), "http" | "https")
                && rest[..authority.len()].eq_ignore_ascii_case(authority)
                && path.starts_with('/');
            is_ours.then_some(path)
        });
        let target = own.unwrap_or(value);
        let before_path = target.split(['/', '?', '#']).next().unwrap_or_default();
        if target.starts_with("//") || before_path.contains(':') {
            return None;
        }
        // 303 is followed with GET; others may make a browser repeat the method, the body and the cookie.
        let repeats = status.is_redirection()
            && status != StatusCode::SEE_OTHER
            && !matches!(self.method, Method::GET | Method::HEAD);
        (!repeats || self.is_the_plugins_own(target)).then(|| target.to_owned())
    }

    /// Whether a path is surely one of the plugin's own routes.
    fn is_the_plugins_own(&self, target: &str) -> bool {
        let path = target.split(['?', '#']).next().unwrap_or_default();
        let leads_elsewhere =
            path.contains('%') || path.split('/').any(|segment| matches!(segment, "." | ".."));
        let is_below = |mount: &String| path.strip_prefix(mount).is_some_and(|rest| rest.starts_with('/'));
        !leads_elsewhere && !names_what_is_the_hosts(path) && self.mounts.iter().any(is_below)
    }
}

/// The head that `data` chooses: an object whose only member is `$http`. `None` if it is none.
///
/// # Errors
/// It is one, and it is wrong: the plugin's failure.
pub(super) fn read(data: &RawJson, asked: &Asked) -> Result<Option<Head>, Problem> {
    let after_brace = data.as_str().trim_start().strip_prefix('{').map(str::trim_start);
    if !after_brace.is_some_and(|text| text.starts_with("\"$http\"")) {
        return Ok(None);
    }
    let wrong = |why: String| Problem::bad_answer(format!("the plugin's `$http` cannot be sent: {why}"));
    let members: IndexMap<String, RawJson> = data.read().map_err(|error| wrong(error.to_string()))?;
    let Some(http) = members.get("$http").filter(|_| members.len() == 1) else { return Ok(None) };
    let written: Written = http.read().map_err(|error| wrong(error.to_string()))?;
    let status = written.status.unwrap_or(200);
    let status = StatusCode::from_u16(status)
        .ok()
        .filter(|status| (200..600).contains(&status.as_u16()))
        .ok_or_else(|| wrong(format!("`status` is {status}, and must be from 200 to 599")))?;
    let (headers, dropped) = headers(written.headers, status, asked);
    let mut head = Head { status, headers, body: None, dropped };
    let (body, content_type) = match (written.json, written.text, written.base64) {
        (None, None, None) => return Ok(Some(head)),
        (Some(json), None, None) => (json.into_text().into_bytes(), "application/json"),
        (None, Some(text), None) => (text.into(), "text/plain; charset=utf-8"),
        (None, None, Some(text)) => (bytes_of(&text).map_err(wrong)?, "application/octet-stream"),
        _ => return Err(wrong("it has more than one of `json`, `text` and `base64`".to_owned())),
    };
    head.headers.entry(header::CONTENT_TYPE).or_insert(HeaderValue::from_static(content_type));
    head.body = Some(body);
    Ok(Some(head))
}

/// The bytes that a base64 text stands for.
pub(super) fn bytes_of(text: &str) -> Result<Bytes, String> {
    STANDARD.decode(text).map(Bytes::from).map_err(|error| format!("`base64` is none: {error}"))
}

/// Puts on what every answer of a plugin carries.
pub(super) fn lock(headers: &mut HeaderMap) {
    headers.insert(header::CONTENT_SECURITY_POLICY, HeaderValue::from_static(POLICY));
    headers.insert(header::REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    // It was made for this caller; only the plugin knows whether it is everybody's.
    headers.entry(header::CACHE_CONTROL).or_insert(HeaderValue::from_static("private, no-cache"));
}

fn headers(
    written: IndexMap<String, Values>,
    status: StatusCode,
    asked: &Asked,
) -> (HeaderMap, Vec<String>) {
    let (mut headers, mut dropped) = (HeaderMap::new(), Vec::new());
    let mut left = MOST_HEADER_BYTES;
    for (name, values) in written {
        let known = HEADERS.iter().find(|known| name.eq_ignore_ascii_case(known.as_str()));
        let values = match values {
            Values::One(value) => vec![value],
            Values::Several(values) => values,
            Values::Number(number) => vec![number.to_string()],
        };
        for value in values {
            let value = match known {
                Some(known) if *known == header::LOCATION => asked.location(&value, status),
                Some(known) if *known == header::CONTENT_TYPE && has_heads(&value) => None,
                _ => Some(value),
            };
            let value = value.and_then(|value| HeaderValue::try_from(value).ok());
            // Of two values nobody knows which is meant, but where the header is a list.
            let taken = known.zip(value).filter(|(known, value)| {
                (**known == header::VARY || !headers.contains_key(*known))
                    && known.as_str().len() + value.len() <= left
            });
            match taken {
                Some((known, value)) => {
                    left -= known.as_str().len() + value.len();
                    headers.append(known, value);
                }
                None => {
                    dropped.push(name.chars().take(LONGEST_NAME).collect::<String>().to_ascii_lowercase());
                }
            }
        }
    }
    (headers, dropped)
}

/// Whether a body of this type has parts with heads of their own, from which some browsers take cookies
/// and policies. Of several types in one value browsers take the last.
fn has_heads(content_type: &str) -> bool {
    content_type.to_ascii_lowercase().contains("multipart/")
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn asked(method: &str) -> Asked {
        let request =
            http::Request::builder().method(method).uri("/api/plugins/p/x").header("host", "localhost:1");
        let parts = request.body(()).unwrap().into_parts().0;
        Asked::new(&parts, vec!["/api/plugins/p".to_owned(), "/api/p".to_owned()])
    }

    fn head(http: Value) -> Result<Option<Head>, Problem> {
        read(&RawJson::from(json!({ "$http": http })), &asked("GET"))
    }

    #[test]
    fn a_head_is_an_object_with_nothing_else_in_it() {
        for data in
            [json!(null), json!([]), json!("$http"), json!({ "a": 1 }), json!({ "$http": {}, "a": 1 })]
        {
            assert!(read(&RawJson::from(data.clone()), &asked("GET")).unwrap().is_none(), "{data}");
        }
        let empty = head(json!({})).unwrap().unwrap();
        assert_eq!((empty.status.as_u16(), empty.body, empty.headers.len()), (200, None, 0));
    }

    #[test]
    fn the_body_is_json_text_or_bytes() {
        for (http, body, content_type) in [
            (json!({ "json": null }), &b"null"[..], "application/json"),
            (json!({ "json": { "a": 1.5 } }), b"{\"a\":1.5}", "application/json"),
            (json!({ "text": "\u{e9}" }), "\u{e9}".as_bytes(), "text/plain; charset=utf-8"),
            (json!({ "base64": "/wA=" }), b"\xff\0", "application/octet-stream"),
            (json!({ "text": "<p>", "headers": { "Content-Type": "text/html" } }), b"<p>", "text/html"),
        ] {
            let head = head(http.clone()).unwrap().unwrap();
            assert_eq!(head.body.unwrap(), body, "{http}");
            assert_eq!(head.headers["content-type"], content_type, "{http}");
        }
    }

    #[test]
    fn a_wrong_head_is_the_plugins_failure() {
        for http in [
            json!(7),
            json!({ "status": 199 }),
            json!({ "status": 101 }),
            json!({ "status": 600 }),
            json!({ "status": "200" }),
            json!({ "text": "a", "json": null }),
            json!({ "text": 7 }),
            json!({ "base64": "*" }),
            json!({ "headers": { "etag": {} } }),
        ] {
            let problem = head(http.clone()).unwrap_err();
            assert_eq!(problem.code.status(), 502, "{http}");
        }
    }

    #[test]
    fn only_listed_headers_are_the_plugins() {
        let allowed = json!({
            "ETag": "\"1\"", "cache-control": "max-age=1", "Content-Disposition": "attachment", "retry-after": 7,
            "vary": ["accept", "accept-language"], "last-modified": "x", "accept-ranges": "bytes", "content-range": "x",
        });
        let kept = head(json!({ "headers": allowed })).unwrap().unwrap();
        assert_eq!((kept.dropped, kept.headers.len()), (vec![], 9));
        for name in [
            "set-cookie",
            "Set-Cookie2",
            "content-security-policy",
            "access-control-allow-origin",
            "x-frame-options",
            "strict-transport-security",
            "clear-site-data",
            "refresh",
            "link",
            "service-worker-allowed",
            "connection",
            "transfer-encoding",
            "content-length",
            "content-encoding",
            "x-request-id",
            "www-authenticate",
            "date",
            "x-bkg-error-source",
            "x-content-type-options",
            "cross-origin-resource-policy",
            "x-anything",
            "",
            "a b",
        ] {
            let head = head(json!({ "headers": { name: "v" } })).unwrap().unwrap();
            assert_eq!((head.dropped, head.headers.len()), (vec![name.to_ascii_lowercase()], 0), "{name}");
        }
        for value in [json!("a\r\nset-cookie: x=1"), json!("a\u{0}"), json!("a\nb")] {
            let head = head(json!({ "headers": { "etag": value } })).unwrap().unwrap();
            assert_eq!((head.dropped.len(), head.headers.len()), (1, 0), "{value}");
        }
        let twice =
            head(json!({ "headers": { "content-type": "a/b", "Content-Type": "text/html" } })).unwrap();
        assert_eq!(twice.unwrap().headers["content-type"], "a/b");
    }

    #[test]
    fn a_body_of_several_parts_would_have_heads_of_its_own() {
        for content_type in [
            "multipart/x-mixed-replace; boundary=x",
            "Multipart/Mixed;boundary=x",
            " multipart/byteranges; boundary=x",
            "text/plain, multipart/x-mixed-replace;boundary=x",
        ] {
            let http = json!({ "text": "--x", "headers": { "content-type": content_type } });
            let head = head(http).unwrap().unwrap();
            assert_eq!(head.dropped, ["content-type"], "{content_type}");
            assert_eq!(head.headers["content-type"], "text/plain; charset=utf-8", "{content_type}");
        }
    }

    #[test]
    fn headers_together_stay_below_what_clients_read() {
        let long = "x".repeat(MOST_HEADER_BYTES);
        let kept = head(json!({ "headers": { "etag": long, "retry-after": 1 } })).unwrap().unwrap();
        assert_eq!((kept.dropped, kept.headers.len()), (vec!["etag".to_owned()], 1));
        let many = head(json!({ "headers": { "vary": vec!["accept"; 100_000] } })).unwrap().unwrap();
        let bytes: usize = many.headers.iter().map(|(name, value)| name.as_str().len() + value.len()).sum();
        assert!(bytes <= MOST_HEADER_BYTES, "{bytes}");
        let name = "n".repeat(1 << 16);
        let unknown = head(json!({ "headers": { name: "v" } })).unwrap().unwrap();
        assert_eq!(unknown.dropped, ["n".repeat(LONGEST_NAME)]);
    }

    #[test]
    fn a_location_stays_on_this_origin_and_repeats_nothing_elsewhere() {
        for (value, plain, repeated) in [
            ("/api/plugins/p/y?z=1", true, true),
            ("/api/p/y", true, true),
            ("/api/plugins/p/../q/y", true, false),
            ("/api/plugins/p/%2e%2e/q", true, false),
            ("/api/plugins/p/invoke", true, false),
            ("/api/plugins/p/config/reset?x=1", true, false),
            ("/api/plugins/p/invoked", true, true),
            ("/api/p/invoke", true, true),
            ("http://localhost:1/api/plugins/p/stop", true, false),
            ("/api/plugins/pq/y", true, false),
            ("/admin/keys", true, false),
            ("y", true, false),
            ("?a=b:c", true, false),
            ("http://localhost:1/api/p/y", true, true),
            ("HTTPS://LOCALHOST:1/x", true, false),
            ("http://localhost:1", false, false),
            ("http://localhost:1@evil.example/", false, false),
            ("http://localhost:12/x", false, false),
            ("https://evil.example/", false, false),
            ("//evil.example/", false, false),
            ("/\\evil.example/", false, false),
            ("/\t/evil.example/", false, false),
            (" //evil.example/", false, false),
            ("http://localhost:1//evil.example", false, false),
            ("javascript:alert(1)", false, false),
            ("data:text/html,x", false, false),
        ] {
            let get = asked("GET").location(value, StatusCode::FOUND).is_some();
            let see_other = asked("POST").location(value, StatusCode::SEE_OTHER).is_some();
            let created = asked("POST").location(value, StatusCode::CREATED).is_some();
            assert_eq!((get, see_other, created), (plain, plain, plain), "{value:?}");
            for status in [StatusCode::FOUND, StatusCode::TEMPORARY_REDIRECT] {
                assert_eq!(asked("DELETE").location(value, status).is_some(), repeated, "{value:?}");
            }
        }
    }
}
