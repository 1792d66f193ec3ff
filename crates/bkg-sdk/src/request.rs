//! A request of the host, as a handler sees it.
//!
//! Not the place to answer: a handler answers by returning. The invariant that stands behind it: each
//! request is answered exactly once, whatever becomes of its handler.

use std::sync::Arc;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bkg_protocol::message::{self, Caller, HttpBody, HttpRequest, Secret};
use bkg_protocol::{CapabilityName, ErrorCode, RawJson, RequestId, WireError};
use serde::Deserialize;
use tokio_util::sync::CancellationToken;

use crate::call::Call;
use crate::error::Result;
use crate::host::Host;
use crate::json::IntoJson;
use crate::session::{Session, Ticket};

/// A request that a handler answers.
#[derive(Debug)]
pub struct Request {
    message: Box<message::Request>,
    ticket: Arc<Ticket>,
    session: Arc<Session>,
    host: Host,
}

impl Request {
    pub(crate) fn new(
        message: Box<message::Request>,
        ticket: Arc<Ticket>,
        session: Arc<Session>,
        host: Host,
    ) -> Self {
        Self { message, ticket, session, host }
    }

    /// Reads the payload.
    ///
    /// ```
    /// # use bkg_sdk::{Request, Result};
    /// #[derive(serde::Deserialize)]
    /// struct Question<'a> {
    ///     #[serde(borrow)]
    ///     text: std::borrow::Cow<'a, str>,
    /// }
    ///
    /// async fn ask(request: Request) -> Result<serde_json::Value> {
    ///     let question: Question<'_> = request.read()?;
    ///     Ok(serde_json::json!({ "length": question.text.len() }))
    /// }
    /// ```
    ///
    /// # Errors
    /// `invalid_request` with what does not fit the type, and as `param` the member where that is.
    pub fn read<'a, T: Deserialize<'a>>(&'a self) -> Result<T> {
        let text = self.payload().as_str();
        serde_json::from_str(text).map_err(|problem| {
            let message = format!("the payload cannot be read: {problem}");
            let error = WireError::new(ErrorCode::InvalidRequest, message);
            match member_of_misfit::<T>(text) {
                Some(member) => error.param(member),
                None => error,
            }
        })
    }

    /// The payload as it came.
    pub fn payload(&self) -> &RawJson {
        &self.message.payload
    }

    /// What is asked for.
    pub fn capability(&self) -> &CapabilityName {
        &self.message.capability
    }

    /// The request's id.
    pub fn id(&self) -> &RequestId {
        &self.message.request_id
    }

    /// On whose behalf, where the host says.
    pub fn caller(&self) -> Option<&Caller> {
        self.message.caller.as_deref()
    }

    /// The credential that came with the request, where the capability asks for one.
    pub fn credential(&self) -> Option<&str> {
        self.message.token.as_ref().map(Secret::reveal)
    }

    /// How long the caller waits, counted from when it asked. The host cancels at the end of it.
    pub fn timeout(&self) -> Option<Duration> {
        self.message.timeout_ms.map(Duration::from_millis)
    }

    /// The HTTP request behind it: method, path, parameters, query and headers; `None` where the
    /// capability was not asked through a route.
    pub fn http(&self) -> Option<&HttpRequest> {
        self.message.http.as_ref()
    }

    /// The body of the HTTP request behind it, byte for byte: of a text, of anything else that is neither
    /// JSON nor a form, and of no body, which has no bytes.
    ///
    /// # Errors
    /// `invalid_request` where the body is JSON or a form, which [`Request::read`] reads, or where there
    /// is no HTTP request.
    pub fn body(&self) -> Result<Vec<u8>> {
        let refuse = |message: &str| Err(WireError::new(ErrorCode::InvalidRequest, message));
        match self.http().map(|http| http.body) {
            Some(HttpBody::None) => Ok(Vec::new()),
            Some(HttpBody::Text) => Ok(self.read::<String>()?.into_bytes()),
            Some(HttpBody::Base64) => match STANDARD.decode(self.read::<String>()?) {
                Ok(bytes) => Ok(bytes),
                Err(problem) => refuse(&format!("the body is not base64: {problem}")),
            },
            Some(HttpBody::Json | HttpBody::Form) => {
                refuse("the body is JSON or a form: send it as `application/octet-stream`")
            }
            None => refuse("there is no HTTP request: ask through the route"),
        }
    }

    /// Whether the caller wants the answer in chunks.
    pub fn wants_stream(&self) -> bool {
        self.message.stream
    }

    /// The `x-request-id` of the HTTP request behind it.
    pub fn correlation_id(&self) -> Option<&str> {
        self.message.correlation_id.as_deref()
    }

    /// Where the request stands in a trace, as W3C Trace Context writes it; `None` where it is a part of none.
    /// Calls that are made for the request carry it on. Give it to other services that the handler asks.
    pub fn traceparent(&self) -> Option<&str> {
        self.message.traceparent.as_deref()
    }

    /// Cancelled when nobody wants the answer any more.
    ///
    /// A handler need not look at it: its future is dropped at its next `.await` then. It is for work
    /// that goes on elsewhere (a thread, a task, a child process) and for loops that never wait.
    pub fn cancelled(&self) -> &CancellationToken {
        &self.ticket.cancelled
    }

    /// The handle to the host.
    pub fn host(&self) -> &Host {
        &self.host
    }

    /// Asks for another capability on behalf of this request's caller: with the caller's rights as
    /// far as the plugin's entry grants them, and within what is left of the deadline.
    pub fn call(&self, capability: &str, payload: impl IntoJson) -> Call {
        Call::new(Some(self.session.clone()), capability, payload.into_json()).on_behalf_of(&self.message)
    }
}

/// The member of a payload that does not fit, such as `messages[0].role`; `None` where it is the payload as a
/// whole. Reads once more, since keeping the way down costs every payload that fits.
fn member_of_misfit<'a, T: Deserialize<'a>>(text: &'a str) -> Option<String> {
    let mut reader = serde_json::Deserializer::from_str(text);
    let problem = serde_path_to_error::deserialize::<_, T>(&mut reader).err()?;
    let way = problem.path().to_string();
    let way = if way == "." { String::new() } else { way };
    // Of a member that is missing, serde says so only in words.
    let missing = problem.inner().to_string();
    let missing = missing.strip_prefix("missing field `").and_then(|rest| rest.split('`').next());
    match (way.is_empty(), missing) {
        (true, None) => None,
        (true, Some(name)) => Some(name.to_owned()),
        (false, None) => Some(way),
        (false, Some(name)) => Some(format!("{way}.{name}")),
    }
}

/// The duty to answer a request. Dropped unanswered, it answers that the handler failed.
#[derive(Debug)]
pub(crate) struct Owed {
    session: Arc<Session>,
    id: RequestId,
    settled: bool,
}

impl Owed {
    pub(crate) fn new(session: Arc<Session>, id: RequestId) -> Self {
        Self { session, id, settled: false }
    }

    pub(crate) fn settle(mut self, outcome: Result<RawJson>) {
        self.settled = true;
        self.session.answer(&self.id, outcome);
    }
}

impl Drop for Owed {
    fn drop(&mut self) {
        if !self.settled {
            let message = if std::thread::panicking() {
                "the handler panicked: see the plugin's log"
            } else {
                "the handler was dropped before it answered"
            };
            self.session.answer(&self.id, Err(WireError::new(ErrorCode::PluginError, message)));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_does_not_fit_is_named_by_its_place() {
        #[derive(Debug, Deserialize)]
        #[allow(dead_code, reason = "read and thrown away")]
        struct Order {
            name: String,
            #[serde(default)]
            parts: Vec<Part>,
        }
        #[derive(Debug, Deserialize)]
        #[allow(dead_code, reason = "read and thrown away")]
        struct Part {
            size: u8,
        }
        for (text, member) in [
            (r#"{"name":1}"#, Some("name")),
            (r#"{"name":null}"#, Some("name")),
            ("{}", Some("name")),
            (r#"{"name":"a","parts":[{"size":1},{"size":256}]}"#, Some("parts[1].size")),
            (r#"{"name":"a","parts":[{}]}"#, Some("parts[0].size")),
            (r#"{"name":"a","parts":{}}"#, Some("parts")),
            ("null", None),
            ("[]", None),
            (r#""name""#, None),
        ] {
            assert_eq!(member_of_misfit::<Order>(text).as_deref(), member, "{text}");
        }
    }
}
