//! Why an upstream gave no answer, and what becomes of that: the error for whoever asked, whether it is
//! asked again, and whether it counts against the upstream.
//!
//! The invariant: an upstream's refusal of *our* credential never looks like a refusal of the caller's, and
//! an error says which upstream it was.

use std::error::Error;
use std::time::{Duration, SystemTime};

use bkg_sdk::{ErrorCode, RawJson, WireError};
use reqwest::header::HeaderMap;
use serde_json::{Value, json};

/// The longest text of an upstream that is passed on, in characters.
const MOST_TEXT: usize = 2_000;
/// The longest pause that an upstream's `retry-after` is waited out with; a longer one is the caller's.
const LONGEST_PAUSE: Duration = Duration::from_secs(5);
/// The longest wait that callers are told.
const LONGEST_WAIT: Duration = Duration::from_secs(24 * 3_600);
/// The pause before the first repetition; it doubles.
const FIRST_PAUSE: Duration = Duration::from_millis(250);

/// Why an upstream gave no answer.
#[derive(Debug)]
pub(crate) enum Failure {
    /// No connection came about.
    Unreachable(String),
    /// The connection broke before the answer was whole.
    Broken(String),
    /// It took too long; the word says for what.
    TimedOut(Wait, Duration),
    /// It answered with an error.
    Refused(Box<Refusal>),
    /// Its answer is not what it should be.
    Unreadable(String),
}

/// What was waited for in vain.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Wait {
    /// The first byte of the answer.
    FirstByte,
    /// The next one.
    NextByte,
}

/// An error that an upstream answered with.
#[derive(Debug, Default)]
pub(crate) struct Refusal {
    /// The HTTP status; in a stream the one that its error object claims, or 0.
    status: u16,
    message: Option<String>,
    param: Option<String>,
    code: Option<String>,
    kind: Option<String>,
    retry_after: Option<Duration>,
}

/// What a failure says of the upstream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// It answered, if only to refuse: it is alive.
    Alive,
    /// It failed.
    Failing,
    /// Nothing.
    Nothing,
}

impl Failure {
    /// What the client library reports of a request that got no response.
    pub(crate) fn of_request(error: &reqwest::Error) -> Self {
        if error.is_connect() { Self::Unreachable(cause(error)) } else { Self::Broken(cause(error)) }
    }

    /// What the client library reports of a body that was being read.
    pub(crate) fn of_body(error: &reqwest::Error) -> Self {
        Self::Broken(cause(error))
    }

    /// Whether the upstream is failing.
    pub(crate) fn verdict(&self) -> Verdict {
        match self {
            Self::Unreachable(_) | Self::Broken(_) | Self::TimedOut(..) => Verdict::Failing,
            Self::Unreadable(_) => Verdict::Nothing,
            Self::Refused(refusal) => match refusal.status {
                429 | 502..=504 | 529 => Verdict::Failing,
                // Some upstreams say so to requests that they do not like: those are no sign of illness.
                0 | 408 | 500..=599 => Verdict::Nothing,
                _ => Verdict::Alive,
            },
        }
    }

    /// Whether the upstream refuses the plugin's own credential.
    pub(crate) fn is_about_our_credential(&self) -> bool {
        matches!(self, Self::Refused(refusal) if refusal.is_about_our_credential())
    }

    /// Whether the upstream has nothing at that address.
    pub(crate) fn is_no_such_path(&self) -> bool {
        matches!(self, Self::Refused(refusal) if matches!(refusal.status, 404 | 405 | 501))
    }

    /// How long to wait before the request is sent again; `None` where it is not. `attempt` counts from 0.
    pub(crate) fn pause(&self, attempt: u32) -> Option<Duration> {
        let backoff = FIRST_PAUSE * 2_u32.pow(attempt.min(6));
        let backoff = backoff.mul_f64(rand::random_range(0.5..1.0));
        match self {
            Self::Unreachable(_) | Self::Broken(_) => Some(backoff),
            // Who waited for a timeout has waited enough, and the work may still go on there.
            Self::TimedOut(..) | Self::Unreadable(_) => None,
            Self::Refused(refusal) if refusal.may_pass() => match refusal.retry_after {
                Some(wait) if wait > LONGEST_PAUSE => None,
                Some(wait) => Some(wait.max(backoff)),
                None => Some(backoff),
            },
            Self::Refused(_) => None,
        }
    }

    /// What whoever asked is told.
    pub(crate) fn into_error(self, upstream: &str) -> WireError {
        let (code, message, retryable, status) = match self {
            Self::Unreachable(why) => {
                let message = format!("the upstream `{upstream}` cannot be reached: {why}");
                (ErrorCode::PluginError, message, true, None)
            }
            Self::Broken(why) => {
                let message =
                    format!("the upstream `{upstream}` broke off before its answer was whole: {why}");
                (ErrorCode::PluginError, message, false, None)
            }
            Self::TimedOut(wait, within) => {
                let what = match wait {
                    Wait::FirstByte => "sent no byte of an answer",
                    Wait::NextByte => "stopped in the middle of its answer and sent nothing",
                };
                let message = format!("the upstream `{upstream}` {what} for {} ms", within.as_millis());
                (ErrorCode::Timeout, message, false, None)
            }
            Self::Unreadable(why) => {
                let message = format!("the answer of the upstream `{upstream}` cannot be used: {why}");
                (ErrorCode::PluginError, message, false, None)
            }
            Self::Refused(refusal) => return refusal.into_error(upstream),
        };
        let mut error = WireError::new(code, message);
        error.retryable = Some(retryable);
        error.details = Some(details(upstream, status, None, None));
        error
    }
}

/// Tells callers which upstream failed, and how it said so.
pub(crate) fn details(
    upstream: &str,
    status: Option<u16>,
    code: Option<&str>,
    kind: Option<&str>,
) -> RawJson {
    let mut details = json!({ "upstream": upstream });
    for (name, value) in [
        ("status", status.map(Value::from)),
        ("code", code.map(Value::from)),
        ("type", kind.map(Value::from)),
    ] {
        if let Some(value) = value {
            details[name] = value;
        }
    }
    details.into()
}

impl Refusal {
    /// Reads an answer with an error status.
    pub(crate) fn of_answer(status: u16, headers: &HeaderMap, body: &[u8]) -> Self {
        let retry_after = retry_after(headers, SystemTime::now());
        let mut refusal = match serde_json::from_slice::<Value>(body) {
            Ok(body) => Self::of_error(&body).unwrap_or_default(),
            // A page of a proxy says nothing that a caller could use.
            Err(_) => Self::default(),
        };
        refusal.status = status;
        refusal.retry_after = retry_after.or(refusal.retry_after);
        refusal
    }

    /// Reads an error object in any of the shapes that upstreams have; `None` where it is none.
    pub(crate) fn of_error(body: &Value) -> Option<Self> {
        // Some wrap the object into a list.
        let body = body.as_array().and_then(|list| list.first()).unwrap_or(body);
        let error = match body.get("error").filter(|error| !error.is_null()) {
            Some(error) => error,
            None if body.get("object").is_some_and(|object| object == "error") => body,
            None if body.get("choices").is_none() && body.get("data").is_none() => {
                body.get("detail").or_else(|| body.get("message")).or_else(|| body.get("errors"))?
            }
            None => return None,
        };
        let text = |name: &str| match error.get(name) {
            Some(Value::String(text)) if !text.is_empty() => Some(text.clone()),
            Some(Value::Number(number)) => Some(number.to_string()),
            _ => None,
        };
        let message = match error {
            Value::String(message) => Some(message.clone()),
            Value::Object(_) => text("message").or_else(|| text("detail")),
            other => Some(other.to_string()),
        };
        let number = |name: &str| error.get(name).and_then(Value::as_u64);
        let status = number("code").or_else(|| number("status")).filter(|code| (400..600).contains(code));
        Some(Self {
            status: status.unwrap_or(0) as u16,
            message,
            param: error.get("param").and_then(Value::as_str).map(str::to_owned),
            code: text("code").or_else(|| text("status")),
            kind: text("type"),
            retry_after: None,
        })
    }

    /// Reads an error that came as an event of a stream.
    pub(crate) fn of_event(event: &Value) -> Self {
        Self::of_error(event).unwrap_or_else(|| {
            let wrapped = json!({ "error": event });
            Self::of_error(&wrapped).unwrap_or_default()
        })
    }

    fn is_about_our_credential(&self) -> bool {
        let says = |text: &Option<String>| {
            text.as_deref().is_some_and(|text| {
                let text = text.to_ascii_lowercase();
                ["invalid_api_key", "api_key_invalid", "authentication_error"].contains(&text.as_str())
            })
        };
        matches!(self.status, 401 | 403) || says(&self.code) || says(&self.kind)
    }

    /// Whether the same request may succeed later.
    fn may_pass(&self) -> bool {
        match self.status {
            // A quota that is used up stays used up, whatever the status says.
            429 => self.code.as_deref() != Some("insufficient_quota"),
            408 | 409 | 502 | 503 | 504 | 529 => true,
            _ => false,
        }
    }

    fn into_error(self, upstream: &str) -> WireError {
        let said = self.message.as_deref().map(shorten);
        let of_upstream = |what: &str| match &said {
            Some(said) => format!("the upstream `{upstream}` {what}: {said}"),
            None => format!("the upstream `{upstream}` {what} (status {})", self.status),
        };
        let mut param = None;
        let (code, message) = if self.is_about_our_credential() {
            // What it said may hold a part of the key, and is the operator's business.
            let message = format!(
                "the upstream `{upstream}` refuses the credential that its operator gave (status {}): set its \
                 `apiKey`",
                self.status
            );
            (ErrorCode::PluginError, message)
        } else {
            match self.status {
                400 | 422 => {
                    param = self.param.clone();
                    let silent = || of_upstream("refuses the request");
                    (ErrorCode::InvalidRequest, said.clone().unwrap_or_else(silent))
                }
                404 if said.is_some() => {
                    param = self.param.clone().or_else(|| Some("model".to_owned()));
                    (ErrorCode::NotFound, of_upstream("does not have it"))
                }
                404 | 405 => {
                    let what = "has no such API: look at its `baseUrl`";
                    (ErrorCode::PluginError, of_upstream(what))
                }
                408 | 504 => (ErrorCode::Timeout, of_upstream("took too long")),
                413 => (ErrorCode::PayloadTooLarge, of_upstream("finds the request too large")),
                429 => (ErrorCode::RateLimited, of_upstream("has had too many requests")),
                503 | 529 => (ErrorCode::Overloaded, of_upstream("is overloaded")),
                300..=399 => (
                    ErrorCode::PluginError,
                    of_upstream("redirects, which is not followed: look at its `baseUrl`"),
                ),
                _ => (ErrorCode::PluginError, of_upstream("failed")),
            }
        };
        let mut error = WireError::new(code, message);
        error.param = param;
        error.retryable = Some(self.may_pass());
        error.retry_after_ms = self.retry_after.map(|wait| wait.min(LONGEST_WAIT).as_millis() as u64);
        let status = Some(self.status).filter(|&status| status > 0);
        error.details = Some(details(upstream, status, self.code.as_deref(), self.kind.as_deref()));
        error
    }
}

/// How long the upstream wants to be left alone: `retry-after-ms`, else `retry-after` in seconds or as a date.
fn retry_after(headers: &HeaderMap, now: SystemTime) -> Option<Duration> {
    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok()).map(str::trim);
    let seconds = |text: &str| text.parse::<f64>().ok().and_then(|n| Duration::try_from_secs_f64(n).ok());
    if let Some(wait) = text("retry-after-ms").and_then(seconds) {
        return Some(wait / 1_000);
    }
    let after = text("retry-after")?;
    seconds(after).or_else(|| {
        let date = httpdate::parse_http_date(after).ok()?;
        Some(date.duration_since(now).unwrap_or_default())
    })
}

fn shorten(text: &str) -> String {
    match text.char_indices().nth(MOST_TEXT) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}

/// The innermost reason: the outer ones repeat the address and "error sending request".
pub(crate) fn cause(error: &(dyn Error + 'static)) -> String {
    let mut innermost = error;
    while let Some(source) = innermost.source() {
        innermost = source;
    }
    shorten(&innermost.to_string())
}

#[cfg(test)]
mod tests {
    use reqwest::header::HeaderValue;

    use super::*;

    fn refused(status: u16, body: Value) -> WireError {
        let refusal = Refusal::of_answer(status, &HeaderMap::new(), body.to_string().as_bytes());
        Failure::Refused(Box::new(refusal)).into_error("up")
    }

    #[test]
    fn each_status_of_an_upstream_has_its_own_word() {
        let body = json!({ "error": { "message": "m", "type": "t", "param": "p", "code": "c" } });
        for (status, code, retryable) in [
            (302, "plugin_error", false),
            (400, "invalid_request", false),
            (401, "plugin_error", false),
            (402, "plugin_error", false),
            (403, "plugin_error", false),
            (404, "not_found", false),
            (408, "timeout", true),
            (413, "payload_too_large", false),
            (418, "plugin_error", false),
            (422, "invalid_request", false),
            (429, "rate_limited", true),
            (500, "plugin_error", false),
            (502, "plugin_error", true),
            (503, "overloaded", true),
            (504, "timeout", true),
            (529, "overloaded", true),
        ] {
            let error = refused(status, body.clone());
            assert_eq!((error.code.as_str(), error.retryable), (code, Some(retryable)), "{status}");
            let details: Value = error.details.unwrap().read().unwrap();
            assert_eq!(details, json!({ "upstream": "up", "status": status, "code": "c", "type": "t" }));
        }
    }

    #[test]
    fn a_request_that_is_wrong_keeps_what_the_upstream_says_of_it() {
        let message = "This model's maximum context length is 8192 tokens.";
        let body = json!({ "error": { "message": message, "param": "messages", "code": "context_length_exceeded" } });
        let error = refused(400, body);
        assert_eq!((error.message.as_str(), error.param.as_deref()), (message, Some("messages")));
    }

    #[test]
    fn what_is_said_of_our_credential_stays_here() {
        for (status, code) in [(401, "x"), (403, "x"), (400, "invalid_api_key"), (400, "API_KEY_INVALID")] {
            let body = json!({ "error": { "message": "Incorrect API key: sk-1234", "code": code } });
            let failure = Failure::Refused(Box::new(Refusal::of_answer(
                status,
                &HeaderMap::new(),
                body.to_string().as_bytes(),
            )));
            assert!(failure.is_about_our_credential());
            let error = failure.into_error("up");
            assert_eq!(error.code, "plugin_error");
            assert!(!error.message.contains("sk-"), "{}", error.message);
        }
    }

    #[test]
    fn errors_are_read_in_every_shape() {
        for (body, message) in [
            (json!({ "error": { "message": "m" } }), Some("m")),
            (json!({ "error": "m" }), Some("m")),
            (json!([{ "error": { "message": "m" } }]), Some("m")),
            (json!({ "object": "error", "message": "m", "code": 400 }), Some("m")),
            (json!({ "detail": "m" }), Some("m")),
            (json!({ "message": "m" }), Some("m")),
            (
                json!({ "detail": [{ "loc": ["body"], "msg": "m" }] }),
                Some(r#"[{"loc":["body"],"msg":"m"}]"#),
            ),
            (json!({ "error": {} }), None),
        ] {
            let refusal = Refusal::of_error(&body).unwrap();
            assert_eq!(refusal.message.as_deref(), message, "{body}");
        }
        for body in [json!({ "choices": [] }), json!({ "error": null, "choices": [] }), json!({})] {
            assert!(Refusal::of_error(&body).is_none(), "{body}");
        }
    }

    #[test]
    fn retry_after_is_read_in_every_form() {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(784_111_777);
        for (name, value, expected) in [
            ("retry-after", "3", Some(Duration::from_secs(3))),
            ("retry-after", "0.25", Some(Duration::from_millis(250))),
            ("retry-after", "Sun, 06 Nov 1994 08:49:47 GMT", Some(Duration::from_secs(10))),
            ("retry-after", "Sun, 06 Nov 1994 08:49:27 GMT", Some(Duration::ZERO)),
            ("retry-after", "soon", None),
            ("retry-after", "-1", None),
            ("retry-after", "inf", None),
            ("retry-after-ms", "1500", Some(Duration::from_millis(1500))),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(name, HeaderValue::from_str(value).unwrap());
            assert_eq!(retry_after(&headers, now), expected, "{name}: {value}");
        }
    }

    #[test]
    fn only_what_may_pass_by_itself_is_tried_again() {
        let refused = |status: u16, after: Option<u64>| {
            let retry_after = after.map(Duration::from_secs);
            Failure::Refused(Box::new(Refusal { status, retry_after, ..Refusal::default() }))
        };
        for status in [429, 502, 503, 504] {
            assert!(refused(status, None).pause(0).is_some(), "{status}");
        }
        for status in [400, 401, 404, 500] {
            assert!(refused(status, None).pause(0).is_none(), "{status}");
        }
        assert!(refused(429, Some(1)).pause(0).is_some_and(|pause| pause >= Duration::from_secs(1)));
        assert_eq!(refused(429, Some(6)).pause(0), None, "too long to wait here");
        assert_eq!(Failure::TimedOut(Wait::FirstByte, Duration::ZERO).pause(0), None);
        let pauses: Vec<Duration> =
            (0..3).map(|n| Failure::Unreachable(String::new()).pause(n).unwrap()).collect();
        assert!(
            pauses[0] < Duration::from_millis(250) && pauses[2] >= Duration::from_millis(500),
            "{pauses:?}"
        );
    }
}
