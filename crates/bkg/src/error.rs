//! What went wrong, as it is told to others: one type for HTTP, and the wire form for plugins.
//!
//! The only place where failures become statuses. The invariant: a failure of a plugin never looks
//! like a fault of the caller's credential, and every body has the same four members, or those that
//! Anthropic's clients read.

use std::time::Duration;

use axum::response::{IntoResponse, Response};
use bkg_protocol::{ErrorCode, RawJson, WireError};
use http::{HeaderName, HeaderValue, StatusCode, header};
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde_json::{Value, json};

use crate::auth::{AuthError, ChangeError, LimitReached, ProviderError};
use crate::dispatcher::CallError;
use crate::registry::Failure;
use crate::routing::speaks_against;
use crate::store::StoreError;

/// Says whether the host or a plugin failed.
pub const ERROR_SOURCE: HeaderName = HeaderName::from_static("x-bkg-error-source");
/// Says to OpenAI's clients whether they may try again.
const SHOULD_RETRY: HeaderName = HeaderName::from_static("x-should-retry");
/// The longest `retry-after` that is sent: OpenAI's clients ignore longer ones.
const LONGEST_RETRY: Duration = Duration::from_secs(120);

/// What an auth provider without users says: see `docs/auth-provider.md`.
const NOT_INITIALISED: &str = "not_initialised";

/// Who failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Source {
    /// The host, or the caller's own request.
    Host,
    /// A plugin.
    Plugin,
}

/// Whose names the error body uses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Dialect {
    /// The codes of the error table.
    Backplane,
    /// OpenAI's, below `/v1`.
    OpenAi,
    /// Anthropic's, at and below `/v1/messages`.
    Anthropic,
}

impl Dialect {
    /// Whose names the errors of a path use.
    pub fn of_path(path: &str) -> Self {
        let is_below = |root: &str| {
            path.strip_prefix(root).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        };
        if is_below("/v1/messages") {
            Self::Anthropic
        } else if is_below("/v1") {
            Self::OpenAi
        } else {
            Self::Backplane
        }
    }

    /// The word for a code.
    pub fn word(self, code: ErrorCode) -> &'static str {
        match self {
            Self::Backplane | Self::Anthropic => code.as_str(),
            Self::OpenAi => openai_code(code),
        }
    }

    /// The schema of an error body.
    pub fn schema(self, generator: &mut SchemaGenerator) -> Schema {
        match self {
            Self::Backplane => generator.subschema_for::<ErrorBody>(),
            Self::OpenAi => generator.subschema_for::<OpenAiErrorBody>(),
            Self::Anthropic => generator.subschema_for::<AnthropicErrorBody>(),
        }
    }
}

/// What [`Problem::body`] makes, as types for the reference.
macro_rules! error_body {
    ($dialect:expr, $words:ident $body:ident $object:ident, $of_body:literal, $of_object:literal) => {
        #[doc = $of_body]
        #[derive(JsonSchema)]
        #[allow(dead_code, reason = "a type for the reference alone")]
        pub(crate) struct $body {
            error: $object,
        }

        #[doc = $of_object]
        #[derive(JsonSchema)]
        #[allow(dead_code, reason = "a type for the reference alone")]
        struct $object {
            /// What happened, to what, and what to do next.
            message: String,
            /// What kind of failure it is, in OpenAI's words.
            r#type: Kind,
            /// The parameter that was wrong.
            param: Option<String>,
            /// What went wrong, as a word that programs can rely on.
            code: $words,
            /// Whatever else helps.
            #[schemars(skip_serializing_if = "Option::is_none")]
            details: Option<Value>,
        }

        struct $words;

        impl JsonSchema for $words {
            fn schema_name() -> std::borrow::Cow<'static, str> {
                stringify!($words).into()
            }
            fn json_schema(_: &mut SchemaGenerator) -> Schema {
                let words: Vec<_> = ErrorCode::ALL.iter().map(|code| $dialect.word(*code)).collect();
                json_schema!({ "type": "string", "enum": words })
            }
        }
    };
}

error_body!(
    Dialect::Backplane,
    ErrorWord ErrorBody ErrorObject,
    "The body of every answer that is an error.",
    "What went wrong."
);
error_body!(
    Dialect::OpenAi,
    OpenAiErrorWord OpenAiErrorBody OpenAiErrorObject,
    "The body of every answer below `/v1` that is an error.",
    "What went wrong, in the words of OpenAI's clients."
);

/// The body of every answer at and below `/v1/messages` that is an error.
#[derive(JsonSchema)]
#[allow(dead_code, reason = "a type for the reference alone")]
pub(crate) struct AnthropicErrorBody {
    /// `error`.
    r#type: String,
    error: AnthropicErrorObject,
    /// The `request-id` of the answer.
    request_id: Option<String>,
}

/// What went wrong, in the words of Anthropic's clients.
#[derive(JsonSchema)]
#[allow(dead_code, reason = "a type for the reference alone")]
struct AnthropicErrorObject {
    /// What kind of failure it is.
    r#type: AnthropicKind,
    /// What happened, to what, and what to do next.
    message: String,
    details: AnthropicErrorDetails,
}

/// What programs can rely on.
#[derive(JsonSchema)]
#[schemars(extend("additionalProperties" = true))]
#[allow(dead_code, reason = "a type for the reference alone")]
struct AnthropicErrorDetails {
    /// What went wrong, as a word of the error table.
    error_code: ErrorWord,
    /// The parameter that was wrong.
    param: Option<String>,
}

/// The kinds of failures that an error body names, in Anthropic's words.
struct AnthropicKind;

impl JsonSchema for AnthropicKind {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "AnthropicErrorKind".into()
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        let mut kinds: Vec<_> = ErrorCode::ALL.iter().map(|code| anthropic_kind(*code)).collect();
        kinds.sort_unstable();
        kinds.dedup();
        json_schema!({ "type": "string", "enum": kinds })
    }
}

/// The kinds of failures that an error body names.
struct Kind;

impl JsonSchema for Kind {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "ErrorKind".into()
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        let mut kinds: Vec<_> = ErrorCode::ALL.iter().map(|code| kind(*code)).collect();
        kinds.sort_unstable();
        kinds.dedup();
        json_schema!({ "type": "string", "enum": kinds })
    }
}

/// A failure, ready to be told over HTTP.
#[derive(Debug, Clone, PartialEq)]
pub struct Problem {
    /// What went wrong.
    pub code: ErrorCode,
    /// What happened, to what, and what to do next.
    pub message: String,
    /// The parameter that was wrong.
    pub param: Option<String>,
    /// Whatever else helps.
    pub details: Option<RawJson>,
    /// Who failed.
    pub source: Source,
    /// How long to wait before trying again.
    pub retry_after: Option<Duration>,
    /// Whether the work may have happened already, so that trying again might do it twice.
    pub may_have_happened: bool,
    /// Whether trying the same again can never succeed, although the status suggests it.
    pub never_fits: bool,
}

impl Problem {
    /// A failure of the host or a fault of the request.
    pub fn new(code: ErrorCode, message: impl Into<String>) -> Self {
        Self {
            code,
            message: message.into(),
            param: None,
            details: None,
            source: Source::Host,
            retry_after: None,
            may_have_happened: false,
            never_fits: false,
        }
    }

    /// The request is not valid.
    pub fn invalid(message: impl Into<String>) -> Self {
        Self::new(ErrorCode::InvalidRequest, message)
    }

    /// A plugin's answer is not what its capability answers.
    pub fn bad_answer(message: impl Into<String>) -> Self {
        Self { source: Source::Plugin, ..Self::new(ErrorCode::PluginError, message) }
    }

    /// Names the parameter that was wrong.
    pub fn param(mut self, param: impl Into<String>) -> Self {
        self.param = Some(param.into());
        self
    }

    /// Says more, in a form that programs read.
    pub fn with_details(mut self, details: &impl serde::Serialize) -> Self {
        self.details = Some(RawJson::of(details));
        self
    }

    /// Whether this is a failure of a plugin, and of its own making: not what it says of a request that
    /// is wrong.
    pub fn speaks_against_plugin(&self) -> bool {
        self.source == Source::Plugin && speaks_against(self.code)
    }

    /// As it is told to a plugin.
    pub fn on_the_wire(&self) -> WireError {
        let retry_after_ms = self.retry_after.map(|wait| wait.as_millis() as u64);
        WireError {
            retryable: Some(retry_after_ms.is_some()),
            retry_after_ms,
            param: self.param.clone(),
            details: self.details.clone(),
            ..WireError::new(self.code, self.message.clone())
        }
    }

    /// The body: `{"error": {"message", "type", "param", "code", "details"?}}`.
    pub fn body(&self, dialect: Dialect) -> Value {
        if dialect == Dialect::Anthropic {
            return self.anthropic_body(None);
        }
        let mut error = json!({
            "message": self.message,
            "type": kind(self.code),
            "param": self.param,
            "code": dialect.word(self.code),
        });
        if let Some(details) = &self.details {
            error["details"] = details.read().unwrap_or(Value::Null);
        }
        json!({ "error": error })
    }

    /// The body that Anthropic's clients read: `{"type": "error", "error": {"type", "message", "details"},
    /// "request_id"}`.
    pub fn anthropic_body(&self, request_id: Option<&str>) -> Value {
        let mut details = json!({ "error_code": self.code.as_str(), "param": self.param });
        if let Some(Ok(Value::Object(more))) = self.details.as_ref().map(RawJson::read::<Value>)
            && let Some(details) = details.as_object_mut()
        {
            for (name, value) in more {
                details.entry(name).or_insert(value);
            }
        }
        let error =
            json!({ "type": anthropic_kind(self.code), "message": self.message, "details": details });
        json!({ "type": "error", "error": error, "request_id": request_id })
    }

    /// The response to a request, in the names of `dialect`, of which some tell the request's id in the body.
    pub fn response_to(&self, dialect: Dialect, request_id: Option<&str>) -> Response {
        match dialect {
            Dialect::Anthropic => self.response_with(&self.anthropic_body(request_id)),
            Dialect::Backplane | Dialect::OpenAi => self.response(dialect),
        }
    }

    /// The response, in the names of `dialect`.
    pub fn response(&self, dialect: Dialect) -> Response {
        self.response_with(&self.body(dialect))
    }

    fn response_with(&self, body: &Value) -> Response {
        let status = StatusCode::from_u16(self.code.status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let mut response = (status, axum::Json(body)).into_response();
        let headers = response.headers_mut();
        let source = match self.source {
            Source::Host => "host",
            Source::Plugin => "plugin",
        };
        headers.insert(ERROR_SOURCE, HeaderValue::from_static(source));
        if let Some(after) = self.retry_after {
            let seconds = after.min(LONGEST_RETRY).as_millis().div_ceil(1_000).max(1) as u64;
            headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        if self.may_have_happened || self.never_fits {
            headers.insert(SHOULD_RETRY, HeaderValue::from_static("false"));
        }
        if self.code == ErrorCode::Unauthorized {
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        response
    }
}

/// The `type` of an error body, in OpenAI's words, which the other dialect shares.
fn kind(code: ErrorCode) -> &'static str {
    match code {
        ErrorCode::Unauthorized => "authentication_error",
        ErrorCode::Forbidden | ErrorCode::ReauthRequired => "permission_error",
        ErrorCode::RateLimited => "rate_limit_error",
        ErrorCode::QuotaExceeded => "insufficient_quota",
        _ if code.status() < 500 => "invalid_request_error",
        _ => "server_error",
    }
}

/// The `type` of an error in Anthropic's words.
fn anthropic_kind(code: ErrorCode) -> &'static str {
    match code {
        ErrorCode::Unauthorized => "authentication_error",
        ErrorCode::Forbidden | ErrorCode::ReauthRequired => "permission_error",
        ErrorCode::RateLimited | ErrorCode::QuotaExceeded => "rate_limit_error",
        ErrorCode::Overloaded | ErrorCode::PluginUnavailable => "overloaded_error",
        ErrorCode::Timeout => "timeout_error",
        ErrorCode::PayloadTooLarge => "request_too_large",
        ErrorCode::NotFound | ErrorCode::ModelNotFound => "not_found_error",
        _ if code.status() < 500 => "invalid_request_error",
        _ => "api_error",
    }
}

/// The names that OpenAI's clients know, where they differ from ours.
fn openai_code(code: ErrorCode) -> &'static str {
    match code {
        ErrorCode::Unauthorized => "invalid_api_key",
        ErrorCode::RateLimited => "rate_limit_exceeded",
        ErrorCode::QuotaExceeded => "insufficient_quota",
        other => other.as_str(),
    }
}

impl From<AuthError> for Problem {
    fn from(error: AuthError) -> Self {
        let (code, retry_after) = match &error {
            AuthError::Missing | AuthError::Invalid => (ErrorCode::Unauthorized, None),
            AuthError::Forbidden { .. } | AuthError::PasswordDue { .. } => (ErrorCode::Forbidden, None),
            AuthError::ReauthRequired => (ErrorCode::ReauthRequired, None),
            AuthError::Unavailable { .. } => (ErrorCode::PluginUnavailable, Some(Duration::from_secs(1))),
            AuthError::LimitReached(reached) => return reached.into(),
        };
        Self { retry_after, ..Self::new(code, error.to_string()) }
    }
}

impl From<&LimitReached> for Problem {
    fn from(reached: &LimitReached) -> Self {
        let code = if reached.is_used_up() { ErrorCode::QuotaExceeded } else { ErrorCode::RateLimited };
        let retry_after = reached.wait();
        let never_fits = retry_after.is_none();
        Self { retry_after, never_fits, ..Self::new(code, reached.to_string()) }
    }
}

impl From<ProviderError> for Problem {
    fn from(error: ProviderError) -> Self {
        let message = error.to_string();
        match error {
            ProviderError::Unavailable { .. } | ProviderError::Away { .. } => Self {
                retry_after: Some(Duration::from_secs(1)),
                ..Self::new(ErrorCode::PluginUnavailable, message)
            },
            ProviderError::NotOffered { .. } => Self::new(ErrorCode::NotFound, message),
            // Unlike other plugins', its word about who may do what is taken as it is.
            ProviderError::Refused(refusal) => {
                let code = match refusal.code.as_str() {
                    NOT_INITIALISED => ErrorCode::PluginUnavailable,
                    "reused" => ErrorCode::Unauthorized,
                    code => ErrorCode::parse(code).unwrap_or(ErrorCode::PluginError),
                };
                // The provider's own word, where the table has none for it.
                let own = (refusal.code != code.as_str())
                    .then(|| RawJson::of(&json!({ "pluginCode": refusal.code })));
                Self {
                    source: Source::Plugin,
                    param: refusal.param,
                    details: refusal.details.or(own),
                    retry_after: refusal.retry_after_ms.map(Duration::from_millis),
                    ..Self::new(code, refusal.message)
                }
            }
        }
    }
}

impl From<ChangeError> for Problem {
    fn from(error: ChangeError) -> Self {
        match error {
            ChangeError::Store(error) => error.into(),
            ChangeError::Provider(error) => error.into(),
        }
    }
}

impl From<StoreError> for Problem {
    fn from(error: StoreError) -> Self {
        let code = match error {
            StoreError::Full | StoreError::Failing { .. } => ErrorCode::InsufficientStorage,
            _ => ErrorCode::Internal,
        };
        Self::new(code, error.to_string())
    }
}

impl From<CallError> for Problem {
    fn from(error: CallError) -> Self {
        let message = error.to_string();
        let (code, source) = classify(&error);
        let mut problem = Self { source, ..Self::new(code, message) };
        match error {
            CallError::Unavailable { .. }
            | CallError::Overloaded { .. }
            | CallError::Failed { failure: Failure::NotHandedOver, .. } => {
                problem.retry_after = Some(Duration::from_secs(1));
            }
            CallError::UnknownModel { .. } => problem.param = Some("model".to_owned()),
            CallError::Timeout { .. } => problem.may_have_happened = true,
            CallError::Failed { failure: Failure::Plugin(error), .. } => {
                problem.message = error.message;
                problem.param = error.param;
                problem.retry_after = error.retry_after_ms.map(Duration::from_millis);
                problem.may_have_happened = code == ErrorCode::PluginError && error.retryable != Some(true);
                problem.details = match (error.details, code) {
                    // The plugin's own word, where the table has none for it.
                    (None, ErrorCode::PluginError) if error.code != code.as_str() => {
                        Some(RawJson::of(&json!({ "pluginCode": error.code })))
                    }
                    (details, _) => details,
                };
            }
            CallError::Failed { failure: Failure::Disconnected, .. } => problem.may_have_happened = true,
            _ => {}
        }
        problem
    }
}

/// The code of a failed call, and who failed.
fn classify(error: &CallError) -> (ErrorCode, Source) {
    let source = match error {
        CallError::Timeout { .. }
        | CallError::Failed { failure: Failure::Plugin(_) | Failure::Disconnected, .. } => Source::Plugin,
        _ => Source::Host,
    };
    (error.code(), source)
}

/// A failed call as it is told to the plugin that asked.
pub fn wire_error(error: &CallError) -> WireError {
    match error {
        CallError::Failed { failure: Failure::Plugin(error), .. } => error.clone(),
        other => WireError::new(classify(other).0, other.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn anthropics_clients_hear_their_words_where_they_ask() {
        let words = |path| match Dialect::of_path(path) {
            Dialect::Backplane => "backplane",
            Dialect::OpenAi => "openai",
            Dialect::Anthropic => "anthropic",
        };
        assert_eq!(words("/v1/messages"), "anthropic");
        assert_eq!(words("/v1/messages/count_tokens"), "anthropic");
        assert_eq!(words("/v1/messages-of-mine"), "openai");
        assert_eq!(words("/v1"), "openai");
        assert_eq!(words("/v1x"), "backplane");
        let problem = Problem::invalid("`n` must be 1").param("n").with_details(&json!({ "most": 1 }));
        let details = json!({ "error_code": "invalid_request", "param": "n", "most": 1 });
        let error =
            json!({ "type": "invalid_request_error", "message": "`n` must be 1", "details": details });
        let body = json!({ "type": "error", "error": error, "request_id": "r" });
        assert_eq!(problem.anthropic_body(Some("r")), body);
    }

    #[test]
    fn whatever_is_unavailable_or_overloaded_says_when_to_come_back() {
        let plugin: bkg_protocol::PluginName = "p".parse().unwrap();
        let capability: bkg_protocol::CapabilityName = "a.b".parse().unwrap();
        for error in [
            CallError::Unavailable { capability, plugin: None, why: String::new() },
            CallError::Overloaded { plugin: plugin.clone(), why: String::new() },
            CallError::Failed { plugin, failure: Failure::NotHandedOver },
        ] {
            let problem = Problem::from(error);
            assert_eq!((problem.code.status(), problem.retry_after), (503, Some(Duration::from_secs(1))));
        }
    }
}
