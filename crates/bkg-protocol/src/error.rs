//! The one table of error codes: what each means, its HTTP status, and what a plugin may claim.
//!
//! Everything that speaks of errors (HTTP bodies, the documentation, the SDKs) derives from it.

use std::fmt;

use serde::{Deserialize, Deserializer, Serialize};

use crate::RawJson;

macro_rules! error_codes {
    ($($(#[doc = $doc:literal])+ $variant:ident $code:literal $status:literal $kept:ident;)+) => {
        /// What went wrong, as one word that programs can rely on.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
        #[serde(rename_all = "snake_case")]
        #[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
        pub enum ErrorCode {
            $($(#[doc = $doc])+ $variant,)+
        }

        impl ErrorCode {
            /// Every code, in the order of the table.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)+];

            /// The code as it travels.
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $code,)+ }
            }

            /// The HTTP status that the host answers with when the host itself says so.
            pub fn status(self) -> u16 {
                match self { $(Self::$variant => $status,)+ }
            }

            /// One sentence on what it means.
            pub fn meaning(self) -> &'static str {
                match self { $(Self::$variant => concat!($($doc),+).trim_ascii(),)+ }
            }

            /// Whether the status stays when a plugin says so; every other error of a plugin is 502,
            /// since a plugin's bad upstream key must not look like the caller's.
            pub fn plugin_may_claim(self) -> bool {
                match self { $(Self::$variant => error_codes!(@ $kept),)+ }
            }

            /// The code that a text names.
            pub fn parse(text: &str) -> Option<Self> {
                match text { $($code => Some(Self::$variant),)+ _ => None }
            }
        }
    };
    (@ claimable) => { true };
    (@ hosts_own) => { false };
}

error_codes! {
    /// The request is not valid: its syntax, a parameter, or a combination of them.
    InvalidRequest "invalid_request" 400 claimable;
    /// The credential is missing, unknown, expired or revoked.
    Unauthorized "unauthorized" 401 hosts_own;
    /// The caller lacks the scope.
    Forbidden "forbidden" 403 hosts_own;
    /// The action needs a login session younger than five minutes.
    ReauthRequired "reauth_required" 403 hosts_own;
    /// What was named does not exist.
    NotFound "not_found" 404 claimable;
    /// No plugin offers the model, or the caller may not use it.
    ModelNotFound "model_not_found" 404 hosts_own;
    /// The path exists, but not with this HTTP method.
    MethodNotAllowed "method_not_allowed" 405 hosts_own;
    /// The state changed meanwhile, or does not allow the action.
    Conflict "conflict" 409 claimable;
    /// The body, frame or answer is larger than the limit.
    PayloadTooLarge "payload_too_large" 413 claimable;
    /// The body's content type is not one that the route reads.
    UnsupportedMediaType "unsupported_media_type" 415 hosts_own;
    /// The request was sent to a server that does not answer for that host name.
    MisdirectedRequest "misdirected_request" 421 hosts_own;
    /// The configuration breaks its schema.
    InvalidConfig "invalid_config" 422 hosts_own;
    /// Too many requests in too short a time.
    RateLimited "rate_limited" 429 claimable;
    /// The budget of the key or user is used up.
    QuotaExceeded "quota_exceeded" 429 hosts_own;
    /// The request was cancelled by its caller.
    Cancelled "cancelled" 499 hosts_own;
    /// The host failed.
    Internal "internal" 500 hosts_own;
    /// The plugin failed, or its answer broke the protocol.
    PluginError "plugin_error" 502 hosts_own;
    /// The plugin's session ended before it answered.
    PluginDisconnected "plugin_disconnected" 502 hosts_own;
    /// No ready instance serves the capability.
    PluginUnavailable "plugin_unavailable" 503 hosts_own;
    /// The queue is full, or waiting in it took too long.
    Overloaded "overloaded" 503 claimable;
    /// The deadline passed before the answer came.
    Timeout "timeout" 504 claimable;
    /// There is no room on the disk for the write.
    InsufficientStorage "insufficient_storage" 507 hosts_own;
}

impl fmt::Display for ErrorCode {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(self.as_str())
    }
}

/// An error as it travels in `response.error`: a bare text, or an object.
///
/// A bare text reads as `plugin_error` with that message. An unknown code is kept: that is how the
/// table grows.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema), schemars(transform = text_or_object))]
pub struct WireError {
    /// One of [`ErrorCode`], or a plugin's own word.
    pub code: String,
    /// What happened, to what, and what to do next.
    pub message: String,
    /// Whether the same request may succeed later.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retryable: Option<bool>,
    /// How long to wait before trying again.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retry_after_ms: Option<u64>,
    /// Which parameter was wrong, as a path such as `messages[0].role`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub param: Option<String>,
    /// Whatever else helps.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub details: Option<RawJson>,
}

#[cfg(feature = "schema")]
fn text_or_object(schema: &mut schemars::Schema) {
    let object = std::mem::take(schema);
    *schema = schemars::json_schema!({ "anyOf": [{ "type": "string" }, object] });
}

impl WireError {
    /// An error with a code of the table.
    pub fn new(code: ErrorCode, message: impl Into<String>) -> Self {
        Self::with_code(code.as_str(), message)
    }

    /// An error with a code of the plugin's own.
    pub fn with_code(code: impl Into<String>, message: impl Into<String>) -> Self {
        Self {
            code: code.into(),
            message: message.into(),
            retryable: None,
            retry_after_ms: None,
            param: None,
            details: None,
        }
    }

    /// Names the parameter that was wrong.
    pub fn param(mut self, param: impl Into<String>) -> Self {
        self.param = Some(param.into());
        self
    }

    /// What the host makes of the code when a plugin says it: a code that it may claim, else
    /// [`ErrorCode::PluginError`].
    pub fn claimed(&self) -> ErrorCode {
        ErrorCode::parse(&self.code)
            .filter(|code| code.plugin_may_claim())
            .unwrap_or(ErrorCode::PluginError)
    }
}

impl fmt::Display for WireError {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{} ({})", self.message, self.code)
    }
}

impl std::error::Error for WireError {}

impl<'de> Deserialize<'de> for WireError {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct Fields {
            code: Option<serde_json::Value>,
            message: Option<String>,
            retryable: Option<bool>,
            retry_after_ms: Option<u64>,
            param: Option<String>,
            details: Option<RawJson>,
        }
        let raw = RawJson::deserialize(deserializer)?;
        if let Ok(message) = raw.read::<String>() {
            return Ok(Self::new(ErrorCode::PluginError, message));
        }
        // Whatever else a plugin puts there is its error all the same: a strange shape must not turn
        // a failure into an unreadable frame that leaves the caller waiting.
        let Ok(fields) = raw.read::<Fields>() else {
            return Ok(Self::new(ErrorCode::PluginError, raw.as_str()));
        };
        Ok(Self {
            code: match fields.code {
                Some(serde_json::Value::String(code)) if !code.is_empty() => code,
                Some(serde_json::Value::Number(code)) => code.to_string(),
                _ => ErrorCode::PluginError.as_str().to_owned(),
            },
            message: fields.message.unwrap_or_else(|| raw.as_str().to_owned()),
            retryable: fields.retryable,
            retry_after_ms: fields.retry_after_ms,
            param: fields.param,
            details: fields.details,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(json: &str) -> WireError {
        serde_json::from_str(json).unwrap()
    }

    #[test]
    fn every_code_reads_back_from_its_own_text() {
        for &code in ErrorCode::ALL {
            assert_eq!(ErrorCode::parse(code.as_str()), Some(code));
            assert_eq!(serde_json::to_value(code).unwrap(), code.as_str());
            assert!((400..600).contains(&code.status()));
        }
    }

    #[test]
    fn an_error_of_any_shape_is_an_error() {
        assert_eq!(read(r#""boom""#), WireError::new(ErrorCode::PluginError, "boom"));
        assert_eq!(read(r#"{"message":"m"}"#).code, "plugin_error");
        assert_eq!(read(r#"{"code":7,"message":"m"}"#).code, "7");
        assert_eq!(read(r#"[1]"#).message, "[1]");
        assert_eq!(read(r#"{"code":"x","retryAfterMs":5}"#).retry_after_ms, Some(5));
    }

    #[test]
    fn a_plugin_cannot_claim_a_status_that_belongs_to_the_host() {
        assert_eq!(WireError::new(ErrorCode::Unauthorized, "").claimed(), ErrorCode::PluginError);
        assert_eq!(WireError::with_code("own_word", "").claimed(), ErrorCode::PluginError);
        assert_eq!(WireError::new(ErrorCode::RateLimited, "").claimed(), ErrorCode::RateLimited);
    }
}
