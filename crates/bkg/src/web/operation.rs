//! What a route takes and answers, said where the route is declared.
//!
//! Not the OpenAPI document, which `reference` makes of it. The invariant: a route cannot be added
//! without a summary, an answer, and a word on every part of its path; what its access can refuse is
//! added by the access and never written by hand.

use std::borrow::Cow;
use std::fmt;
use std::marker::PhantomData;

use axum::response::Response;
use bkg_protocol::ErrorCode;
use http::{Method, StatusCode};
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};

use super::idempotency;
use super::routes::Access;
use crate::error::{ErrorBody, Problem};

/// Under which heading a route stands in the reference.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Tag {
    /// `/v1`.
    OpenAi,
    /// Plugins as applications see and use them.
    Plugins,
    /// Routes of plugins' own.
    PluginRoutes,
    /// Plugins as operators see and steer them.
    Operation,
    /// Entries, settings and their revisions.
    Configuration,
    /// Log lines.
    Logs,
    /// What happens, as it happens.
    Live,
    /// Logging in, and what belongs to oneself.
    Login,
    /// API keys.
    Keys,
    /// Users, roles and everybody's logins.
    Users,
    /// Who did what, and what requests used.
    Audit,
    /// The host itself.
    Host,
    /// This description.
    Reference,
}

impl Tag {
    /// Every heading, in the order of the reference.
    pub const ALL: [Self; 13] = [
        Self::OpenAi,
        Self::Plugins,
        Self::PluginRoutes,
        Self::Operation,
        Self::Configuration,
        Self::Logs,
        Self::Live,
        Self::Login,
        Self::Keys,
        Self::Users,
        Self::Audit,
        Self::Host,
        Self::Reference,
    ];

    /// The heading.
    pub fn name(self) -> &'static str {
        match self {
            Self::OpenAi => "OpenAI",
            Self::Plugins => "Plugins",
            Self::PluginRoutes => "Plugin routes",
            Self::Operation => "Operation",
            Self::Configuration => "Configuration",
            Self::Logs => "Logs",
            Self::Live => "Live",
            Self::Login => "Login",
            Self::Keys => "Keys",
            Self::Users => "Users",
            Self::Audit => "Audit",
            Self::Host => "Host",
            Self::Reference => "Reference",
        }
    }

    /// One sentence on what stands below it.
    pub fn description(self) -> &'static str {
        match self {
            Self::OpenAi => "What OpenAI's clients speak, answered by the plugin that serves the model.",
            Self::Plugins => "Plugins as applications see and use them.",
            Self::PluginRoutes => "Routes that plugins registered and that are there now.",
            Self::Operation => "Plugins as operators see and steer them.",
            Self::Configuration => {
                "The entries of plugins: settings, revisions, and how they come into force."
            }
            Self::Logs => "The log lines of plugins.",
            Self::Live => "What happens, as it happens.",
            Self::Login => "Logging in and out, and what belongs to the caller.",
            Self::Keys => "API keys: one's own, or with `key:manage` everybody's.",
            Self::Users => "Users, roles and everybody's logins, for administrators.",
            Self::Audit => "Who did what, and what requests used.",
            Self::Host => "The host itself: whether it lives, where it listens.",
            Self::Reference => "The description of all this.",
        }
    }
}

/// A route as it is declared: where it is, who may use it, what it takes and what it answers.
///
/// ```text
/// Endpoint::get("/admin/plugins/{name}", READ)
///     .summary(Tag::Operation, "Show a plugin")
///     .path::<PluginName>("name", "The plugin's name.")
///     .answers::<PluginObject>(200, "The plugin.")
///     .errors(&[ErrorCode::NotFound])
/// ```
#[derive(Debug, Clone)]
pub struct Endpoint {
    /// The method.
    pub method: Method,
    /// The path, with `{name}` for a segment and `{*name}` for the rest.
    pub path: &'static str,
    /// Who may use it.
    pub access: Access,
    /// Whether it stands for routes that are known by other means only: it is not in the reference then.
    pub catches_all: bool,
    /// What it takes and answers.
    pub operation: Operation,
    /// What browsers are shown instead of an error body.
    pub page: Option<Page>,
}

/// Makes a page of a failure.
pub type Page = fn(&Problem) -> Response;

/// What a route takes and answers.
#[derive(Debug, Clone)]
pub struct Operation {
    /// Its heading.
    pub tag: Tag,
    /// What it does, in a few words.
    pub summary: &'static str,
    /// What else one should know, in Markdown.
    pub description: Option<&'static str>,
    /// What it reads of the path, the query and the headers.
    pub parameters: Vec<Parameter>,
    /// What it reads of the body.
    pub body: Option<RequestBody>,
    /// What it answers when all goes well, in the order of declaration.
    pub answers: Vec<Answer>,
    /// What may go wrong besides what the access refuses.
    pub errors: Vec<ErrorCode>,
}

/// A value that a route reads from outside the body.
#[derive(Debug, Clone)]
pub struct Parameter {
    /// Where it stands.
    pub place: Place,
    /// Its name.
    pub name: &'static str,
    /// What it means.
    pub description: &'static str,
    /// Whether a request without it is refused.
    pub required: bool,
    /// Its type.
    pub schema: Type,
}

/// Where a parameter stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// In the path, as `{name}`.
    Path,
    /// In the query, as `?name=`.
    Query,
    /// In a header.
    Header,
}

impl Place {
    /// The place as OpenAPI calls it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Path => "path",
            Self::Query => "query",
            Self::Header => "header",
        }
    }
}

/// The body that a route reads.
#[derive(Debug, Clone)]
pub struct RequestBody {
    /// Whether a request without a body is refused.
    pub required: bool,
    /// Its JSON type.
    pub schema: Type,
}

/// One status with one content type.
#[derive(Debug, Clone)]
pub struct Answer {
    /// The status.
    pub status: u16,
    /// What it means.
    pub description: &'static str,
    /// The body, if there is one.
    pub content: Option<Content>,
    /// Headers that come with it, and what each means.
    pub headers: Vec<(&'static str, &'static str)>,
}

/// A body that a route answers with.
#[derive(Debug, Clone)]
pub struct Content {
    /// Its content type.
    pub media_type: &'static str,
    /// Its type: for an event stream, that of one event's `data`.
    pub schema: Type,
}

/// A type that writes its own schema into a document.
#[derive(Clone, Copy)]
pub struct Type(fn(&mut SchemaGenerator) -> Schema);

impl Type {
    /// The schema of `T`.
    pub fn of<T: JsonSchema>() -> Self {
        Self(|generator| generator.subschema_for::<T>())
    }

    /// The schema, or a reference to it among those that the generator keeps.
    pub fn write(self, generator: &mut SchemaGenerator) -> Schema {
        (self.0)(generator)
    }
}

impl fmt::Debug for Type {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("Type")
    }
}

/// An endpoint on its way to a summary, without which it is none.
#[derive(Debug)]
#[must_use = "an endpoint needs a summary"]
pub struct Unsummarised {
    method: Method,
    path: &'static str,
    access: Access,
}

impl Unsummarised {
    /// Says what the endpoint does: in a few words, without a full stop.
    pub fn summary(self, tag: Tag, summary: &'static str) -> Endpoint {
        let Self { method, path, access } = self;
        let operation = Operation {
            tag,
            summary,
            description: None,
            parameters: Vec::new(),
            body: None,
            answers: Vec::new(),
            errors: Vec::new(),
        };
        Endpoint { method, path, access, catches_all: false, operation, page: None }
    }
}

impl Endpoint {
    /// A route for GET, and so for HEAD.
    pub fn get(path: &'static str, access: Access) -> Unsummarised {
        Unsummarised { method: Method::GET, path, access }
    }

    /// A route for POST.
    pub fn post(path: &'static str, access: Access) -> Unsummarised {
        Unsummarised { method: Method::POST, path, access }
    }

    /// A route for PUT.
    pub fn put(path: &'static str, access: Access) -> Unsummarised {
        Unsummarised { method: Method::PUT, path, access }
    }

    /// A route for PATCH.
    pub fn patch(path: &'static str, access: Access) -> Unsummarised {
        Unsummarised { method: Method::PATCH, path, access }
    }

    /// A route for DELETE.
    pub fn delete(path: &'static str, access: Access) -> Unsummarised {
        Unsummarised { method: Method::DELETE, path, access }
    }

    /// A route for OPTIONS.
    pub fn options(path: &'static str, access: Access) -> Unsummarised {
        Unsummarised { method: Method::OPTIONS, path, access }
    }

    /// Says that it stands for routes that are known by other means only.
    pub fn catching_all(mut self) -> Self {
        self.catches_all = true;
        self
    }

    /// Says what else one should know, in Markdown.
    pub fn describe(mut self, description: &'static str) -> Self {
        self.operation.description = Some(description);
        self
    }

    /// Describes the `{name}` of the path.
    pub fn path<T: JsonSchema>(self, name: &'static str, description: &'static str) -> Self {
        self.parameter::<T>(Place::Path, name, description, true)
    }

    /// Describes a member of the query that may be left out.
    pub fn query<T: JsonSchema>(self, name: &'static str, description: &'static str) -> Self {
        self.parameter::<T>(Place::Query, name, description, false)
    }

    /// Describes a member of the query that may be left out, or empty as in a form.
    pub fn filter<T: JsonSchema>(self, name: &'static str, description: &'static str) -> Self {
        self.parameter::<OrEmpty<T>>(Place::Query, name, description, false)
    }

    /// Describes a member of the query without which a request is refused.
    pub fn needed_query<T: JsonSchema>(self, name: &'static str, description: &'static str) -> Self {
        self.parameter::<T>(Place::Query, name, description, true)
    }

    /// Describes a header that may be left out.
    pub fn header<T: JsonSchema>(self, name: &'static str, description: &'static str) -> Self {
        self.parameter::<T>(Place::Header, name, description, false)
    }

    fn parameter<T: JsonSchema>(
        mut self,
        place: Place,
        name: &'static str,
        description: &'static str,
        required: bool,
    ) -> Self {
        let schema = Type::of::<T>();
        self.operation.parameters.push(Parameter { place, name, description, required, schema });
        self
    }

    /// Says that it reads a JSON body, without which a request is refused.
    pub fn takes<T: JsonSchema>(mut self) -> Self {
        self.operation.body = Some(RequestBody { required: true, schema: Type::of::<T>() });
        self
    }

    /// Says that it reads a JSON body if there is one.
    pub fn may_take<T: JsonSchema>(mut self) -> Self {
        self.operation.body = Some(RequestBody { required: false, schema: Type::of::<T>() });
        self
    }

    /// Says that it answers with this status and a JSON body.
    pub fn answers<T: JsonSchema>(self, status: u16, description: &'static str) -> Self {
        self.answers_with::<T>(status, "application/json", description)
    }

    /// Says that it answers with this status and a body of another content type.
    pub fn answers_with<T: JsonSchema>(
        mut self,
        status: u16,
        media_type: &'static str,
        description: &'static str,
    ) -> Self {
        let content = Some(Content { media_type, schema: Type::of::<T>() });
        self.operation.answers.push(Answer { status, description, content, headers: Vec::new() });
        self
    }

    /// Says that it answers with events whose `data` are such values.
    pub fn streams<T: JsonSchema>(self, status: u16, description: &'static str) -> Self {
        self.answers_with::<T>(status, EVENT_STREAM, description)
    }

    /// Says that it answers with this status and without a body.
    pub fn answers_nothing(mut self, status: u16, description: &'static str) -> Self {
        self.operation.answers.push(Answer { status, description, content: None, headers: Vec::new() });
        self
    }

    /// Says that it makes a WebSocket of the connection, and refuses a request that does not ask for one.
    pub fn upgrades(mut self, description: &'static str) -> Self {
        self = self.answers_nothing(StatusCode::SWITCHING_PROTOCOLS.as_u16(), description);
        let refused = StatusCode::UPGRADE_REQUIRED.as_u16();
        self.answers::<ErrorBody>(refused, "The request does not ask for a WebSocket.")
            .errors(&[ErrorCode::InvalidRequest])
    }

    /// Says that a header comes with the answer that was declared last.
    ///
    /// # Panics
    /// If no answer was declared yet.
    pub fn with_header(mut self, name: &'static str, description: &'static str) -> Self {
        let answer = self.operation.answers.last_mut().expect("an answer comes before its headers");
        answer.headers.push((name, description));
        self
    }

    /// Says that people come here: whoever takes HTML is told on a page what went wrong.
    pub fn with_page(mut self, page: Page) -> Self {
        self.page = Some(page);
        self
    }

    /// Says what may go wrong besides what its access refuses and what its body may lack.
    pub fn errors(mut self, errors: &[ErrorCode]) -> Self {
        self.operation.errors.extend_from_slice(errors);
        self
    }

    /// The names in the path, in their order.
    pub fn path_names(&self) -> impl Iterator<Item = &'static str> {
        path_names(self.path)
    }

    /// All that may go wrong, each once, in the order of the table.
    pub fn all_errors(&self) -> Vec<ErrorCode> {
        let mut errors = vec![ErrorCode::Internal, ErrorCode::MisdirectedRequest];
        errors.extend(refusals(self.access));
        if !matches!(self.method, Method::GET) {
            // A browser that comes from a page of another site.
            errors.push(ErrorCode::Forbidden);
        }
        if !self.operation.parameters.is_empty() {
            errors.push(ErrorCode::InvalidRequest);
        }
        if self.operation.body.is_some() {
            errors.extend([
                ErrorCode::InvalidRequest,
                ErrorCode::PayloadTooLarge,
                ErrorCode::UnsupportedMediaType,
                ErrorCode::Timeout,
            ]);
        }
        if idempotency::is_for(&self.method, self.path) {
            // Only requests with an `Idempotency-Key`, whose body is read before anything else.
            errors.extend([
                ErrorCode::InvalidRequest,
                ErrorCode::Conflict,
                ErrorCode::PayloadTooLarge,
                ErrorCode::UnsupportedMediaType,
                ErrorCode::Timeout,
                ErrorCode::Overloaded,
            ]);
        }
        errors.extend(&self.operation.errors);
        ErrorCode::ALL.iter().copied().filter(|code| errors.contains(code)).collect()
    }

    /// What is missing or does not fit in the description.
    pub(super) fn check(&self) -> Result<(), String> {
        let operation = &self.operation;
        if operation.summary.is_empty() || operation.summary.ends_with('.') {
            return Err("its summary is a few words without a full stop".to_owned());
        }
        if operation.answers.is_empty() {
            return Err("it says nothing of its answer".to_owned());
        }
        for answer in &operation.answers {
            let status = StatusCode::from_u16(answer.status).map_err(|error| error.to_string())?;
            if status.is_client_error() && status != StatusCode::UPGRADE_REQUIRED {
                return Err(format!("{status} is an error: say it with `errors`"));
            }
        }
        let described = operation.parameters.iter().filter(|parameter| parameter.place == Place::Path);
        let mut described: Vec<_> = described.map(|parameter| parameter.name).collect();
        let mut named: Vec<_> = self.path_names().collect();
        described.sort_unstable();
        named.sort_unstable();
        if described != named {
            return Err(format!("its path names {named:?}, and described are {described:?}"));
        }
        Ok(())
    }
}

/// What may go wrong where a plugin is asked.
pub const FROM_PLUGINS: &[ErrorCode] = &[
    ErrorCode::InvalidRequest,
    ErrorCode::Forbidden,
    ErrorCode::NotFound,
    ErrorCode::ModelNotFound,
    ErrorCode::Conflict,
    ErrorCode::PayloadTooLarge,
    ErrorCode::RateLimited,
    ErrorCode::PluginError,
    ErrorCode::PluginDisconnected,
    ErrorCode::PluginUnavailable,
    ErrorCode::Overloaded,
    ErrorCode::Timeout,
];

/// A value that counts as absent where it is empty.
struct OrEmpty<T>(PhantomData<T>);

impl<T: JsonSchema> JsonSchema for OrEmpty<T> {
    fn inline_schema() -> bool {
        true
    }
    fn schema_name() -> Cow<'static, str> {
        format!("{}OrEmpty", T::schema_name()).into()
    }
    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let value = generator.subschema_for::<T>();
        json_schema!({ "anyOf": [value, { "const": "" }] })
    }
}

/// The content type of events.
pub const EVENT_STREAM: &str = "text/event-stream";

/// What an access refuses, whatever stands behind it.
pub fn refusals(access: Access) -> &'static [ErrorCode] {
    const KNOWN: [ErrorCode; 5] = [
        ErrorCode::Unauthorized,
        ErrorCode::RateLimited,
        ErrorCode::QuotaExceeded,
        ErrorCode::PluginUnavailable,
        // Whoever has to change a password first.
        ErrorCode::Forbidden,
    ];
    match access {
        Access::Public => &[],
        Access::AnyCaller | Access::Login | Access::Scope(_) | Access::Capability | Access::Socket => {
            &KNOWN
        }
    }
}

/// The names in a path, in their order.
pub fn path_names(path: &str) -> impl Iterator<Item = &str> {
    path.split('/').filter_map(|segment| {
        let name = segment.strip_prefix('{')?.strip_suffix('}')?;
        Some(name.strip_prefix('*').unwrap_or(name))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn endpoint() -> Endpoint {
        Endpoint::get("/a/{b}/{*c}", Access::Public).summary(Tag::Host, "Show it")
    }

    #[test]
    fn what_is_not_said_is_missed() {
        let missing = |endpoint: Endpoint| endpoint.check().unwrap_err();
        assert!(missing(endpoint()).contains("answer"));
        let answered = endpoint().answers::<String>(200, "It.");
        assert!(missing(answered.clone()).contains(r#"["b", "c"]"#));
        let said = answered.path::<String>("b", "B.").path::<String>("c", "C.");
        said.check().unwrap();
        assert!(missing(said.answers::<String>(404, "None.")).contains("errors"));
    }

    #[test]
    fn what_an_access_and_a_body_can_refuse_is_said_by_them() {
        let statuses = |endpoint: Endpoint| -> Vec<u16> {
            let mut statuses: Vec<_> = endpoint.all_errors().iter().map(|code| code.status()).collect();
            statuses.dedup();
            statuses
        };
        assert_eq!(statuses(endpoint()), [421, 500]);
        let guarded = Endpoint::get("/a", Access::AnyCaller).summary(Tag::Host, "Show it");
        assert_eq!(statuses(guarded), [401, 403, 421, 429, 500, 503]);
        let posted = Endpoint::post("/a", Access::Public).summary(Tag::Host, "Do it").takes::<String>();
        assert_eq!(statuses(posted), [400, 403, 413, 415, 421, 500, 504]);
    }
}
