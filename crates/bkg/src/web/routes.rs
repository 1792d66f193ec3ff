//! Routes with the access that each declares.
//!
//! A route cannot be added without saying who may use it and what it takes and answers; who may is
//! checked here, before its handler runs. The table of all routes can be walked, so that a test asks every one of them.

use std::collections::HashSet;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::{MatchedPath, Request};
use axum::response::Response;
use axum::routing::{MethodFilter, on};
use bkg_protocol::{ErrorCode, RawJson};
use bytes::Bytes;
use http::request::Parts;
use http::{HeaderMap, HeaderName, HeaderValue, header};
use tokio::time::{Instant, timeout_at};

use super::body::{read_bytes, read_json};
use super::guard::Guard;
use super::idempotency;
use super::observer::Observer;
use super::operation::Endpoint;
use super::places::Place;
use super::standing;
use crate::auth::{AuthError, Caller};
use crate::config::HttpLimits;
use crate::error::{Dialect, Problem};
use crate::metrics::{OTHER, UNMATCHED};
use crate::registry::Lineage;
use crate::store::{Action, Actor};
use crate::trace::TraceParent;

/// Who may use a route.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// Anyone, without a credential.
    Public,
    /// Anyone with a valid credential; the handler shows what that caller may see.
    AnyCaller,
    /// Users who have logged in; a key, also the root key, opens nothing here.
    Login,
    /// Callers with this scope.
    Scope(&'static str),
    /// Callers with the scope of the capability that the request names: the handler asks for it.
    Capability,
    /// Anyone with a valid credential, or with a one-time ticket in its place, and no page but our own:
    /// for sockets, which a page of another site can open like a page of ours.
    Socket,
}

/// One request on its way into a handler: authenticated. Its body comes beside it, unread.
#[derive(Debug)]
pub struct Call {
    /// Who asks; on a public route, nobody.
    pub caller: Caller,
    /// Method, target and headers.
    pub parts: Parts,
    /// When its headers were there.
    pub received: Instant,
    /// What its answer says in headers, whichever way the answer is made.
    headers: AnswerHeaders,
}

/// Headers that an answer gets before its body is known, shared by the handler and whoever sends.
#[derive(Debug, Clone, Default)]
struct AnswerHeaders(Arc<Mutex<HeaderMap>>);

impl AnswerHeaders {
    fn lock(&self) -> MutexGuard<'_, HeaderMap> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Where a request comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Peer(pub IpAddr);

/// The `x-request-id` of a request: a UUIDv7 of the host's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RequestId(pub Arc<str>);

impl Call {
    /// The route, as the table has it, such as `POST /v1/chat/completions`.
    pub fn route(&self) -> Option<String> {
        let path = self.parts.extensions.get::<MatchedPath>()?;
        Some(format!("{} {}", self.parts.method, path.as_str()))
    }

    /// The request's id, shared.
    pub fn request_id(&self) -> Option<Arc<str>> {
        self.parts.extensions.get::<RequestId>().map(|id| Arc::clone(&id.0))
    }

    /// Has the answer carry a header, whether it becomes a body, a stream or an error. Said twice, the
    /// last value holds.
    pub fn answer_header(&self, name: HeaderName, value: HeaderValue) {
        self.headers.lock().insert(name, value);
    }

    /// The address that the request comes from.
    pub fn peer(&self) -> Option<IpAddr> {
        self.parts.extensions.get::<Peer>().map(|peer| peer.0)
    }

    /// For whom a plugin is asked, and until when: for at most `within` since the request came.
    pub fn lineage(&self, within: Duration) -> Lineage {
        Lineage {
            caller: Some(self.caller.on_the_wire()),
            reach: Arc::clone(&self.caller.rights().reach),
            deadline: self.received + within,
            chain: Vec::new(),
            correlation_id: self.request_id(),
            traceparent: self.parts.extensions.get::<TraceParent>().copied(),
        }
    }

    /// What the caller is about to do, for the audit log. `target` says to what, `detail` how; neither
    /// holds a secret.
    pub fn action(&self, action: &'static str, target: String, detail: serde_json::Value) -> Action {
        let actor = Actor {
            user: self.caller.user().to_owned(),
            key_id: self.caller.key_id().map(ToString::to_string),
            session_id: self.caller.session_id().map(ToString::to_string),
            address: self.peer(),
        };
        let request_id = self.request_id().map(|id| id.to_string());
        Action { actor, action, target, detail, request_id }
    }

    /// The outcome of `work`, or the refusal of a caller who may no longer ask for it. For work that
    /// takes its time and loses nothing by being dropped.
    ///
    /// # Errors
    /// Those of the work, or that the credential was revoked meanwhile.
    pub async fn while_allowed<T, E: Into<Problem>>(
        &self,
        work: impl Future<Output = Result<T, E>>,
    ) -> Result<T, Problem> {
        tokio::select! {
            biased;
            outcome = work => outcome.map_err(Into::into),
            () = self.caller.revoked() => Err(AuthError::Invalid.into()),
        }
    }

    /// Reads the body as one JSON value, unchanged. A caller that is revoked before the body is whole
    /// gets no further: otherwise a slow body would carry a right beyond its end.
    ///
    /// # Errors
    /// `unauthorized` for who was revoked meanwhile, `unsupported_media_type` for another content type,
    /// `payload_too_large`, `invalid_request` for what is not JSON or nests too deep, or `timeout`.
    pub async fn json(&self, body: Body, limits: &HttpLimits) -> Result<RawJson, Problem> {
        self.in_time(read_json(&self.parts, body, self.received, limits), limits).await
    }

    async fn in_time<T>(
        &self,
        reading: impl Future<Output = Result<T, Problem>>,
        limits: &HttpLimits,
    ) -> Result<T, Problem> {
        tokio::select! {
            biased;
            () = self.caller.revoked() => Err(AuthError::Invalid.into()),
            read = timeout_at(self.received + limits.request_timeout, reading) => {
                read.map_err(|_| Problem::new(ErrorCode::Timeout, "the body did not arrive in time"))?
            }
        }
    }

    /// Reads the body as it is, up to `most` bytes. As with [`Call::json`], who is revoked meanwhile gets
    /// no further.
    ///
    /// # Errors
    /// `unauthorized` for who was revoked meanwhile, `payload_too_large`, `unsupported_media_type` for a
    /// body that is compressed, `invalid_request` for one that breaks off, or `timeout`.
    pub async fn bytes(&self, body: Body, most: usize, limits: &HttpLimits) -> Result<Bytes, Problem> {
        self.in_time(read_bytes(&self.parts, body, most, self.received, limits), limits).await
    }

    /// What a `{name}` of the path stood for, decoded.
    pub fn param(&self, name: &str) -> Result<String, Problem> {
        let template =
            self.parts.extensions.get::<MatchedPath>().map(MatchedPath::as_str).unwrap_or_default();
        let mut actual = self.parts.uri.path().split('/');
        for segment in template.split('/') {
            let rest = segment.strip_prefix("{*").and_then(|segment| segment.strip_suffix('}'));
            if rest == Some(name) {
                return decode(&actual.collect::<Vec<_>>().join("/"));
            }
            let text = actual.next().unwrap_or_default();
            if segment.strip_prefix('{').and_then(|segment| segment.strip_suffix('}')) == Some(name) {
                return decode(text);
            }
        }
        Err(Problem::new(ErrorCode::Internal, format!("the route has no `{name}`")))
    }

    /// The value of a query parameter, decoded; the first, if there are several.
    pub fn query(&self, name: &str) -> Result<Option<String>, Problem> {
        self.values(name).next().transpose()
    }

    /// All values of a query parameter that may be repeated, decoded.
    pub fn query_all(&self, name: &str) -> Result<Vec<String>, Problem> {
        self.values(name).collect()
    }

    fn values(&self, name: &str) -> impl Iterator<Item = Result<String, Problem>> {
        let pairs = self.parts.uri.query().unwrap_or_default().split('&');
        let pairs = pairs.map(|pair| pair.split_once('=').unwrap_or((pair, "")));
        pairs.filter(move |(key, _)| *key == name).map(|(_, value)| decode(&value.replace('+', " ")))
    }
}

/// Percent-decoding (RFC 3986, section 2.1), once.
pub(super) fn decode(text: &str) -> Result<String, Problem> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, tail @ ..] = rest {
        rest = tail;
        if *first != b'%' {
            bytes.push(*first);
            continue;
        }
        let hex = tail.get(..2).filter(|hex| hex.iter().all(u8::is_ascii_hexdigit));
        let hex = hex.and_then(|hex| std::str::from_utf8(hex).ok());
        let Some(byte) = hex.and_then(|hex| u8::from_str_radix(hex, 16).ok()) else {
            return Err(Problem::invalid(format!(
                "`{text}` is not percent-encoded: a `%` needs two hex digits"
            )));
        };
        bytes.push(byte);
        rest = &tail[2..];
    }
    String::from_utf8(bytes).map_err(|_| Problem::invalid("the address is not UTF-8"))
}

/// Routes on their way to becoming a router.
#[derive(Debug)]
pub struct Routes {
    guard: Arc<Guard>,
    observer: Observer,
    router: Router,
    table: Vec<Endpoint>,
}

impl Routes {
    /// No routes yet; `guard` stands before each of them.
    pub fn new(guard: Guard) -> Self {
        let observer = Observer::default();
        Self { guard: Arc::new(guard), observer, router: Router::new(), table: Vec::new() }
    }

    /// The same, with somebody who looks at the requests of all routes that are added from here on.
    #[must_use]
    pub fn observed(self, observer: Observer) -> Self {
        Self { observer, ..self }
    }

    /// Adds a route. The handler runs only for those whom the endpoint's access lets in.
    ///
    /// # Panics
    /// If the path is not one that the router knows, the route is there already, or its description
    /// lacks something: a mistake in the daemon's own code, found at start.
    pub fn add<S, H, F>(mut self, declared: Endpoint, state: &Arc<S>, handler: H) -> Self
    where
        S: Send + Sync + 'static,
        H: Fn(Arc<S>, Call, Body) -> F + Clone + Send + Sync + 'static,
        F: Future<Output = Result<Response, Problem>> + Send,
    {
        if let Err(lacking) = declared.check() {
            panic!("the route {} {} is not described: {lacking}", declared.method, declared.path);
        }
        let (method, path, access) = (declared.method.clone(), declared.path, declared.access);
        let page = declared.page;
        let may_be_named = idempotency::is_for(&method, path);
        let filter = MethodFilter::try_from(method.clone()).expect("a method that routes can have");
        let guard = Arc::clone(&self.guard);
        let observer = self.observer.clone();
        let figures = observer.metrics.http.add(method.as_str(), path);
        let state = Arc::clone(state);
        let endpoint = move |mut request: Request| {
            let (guard, state, handler) = (Arc::clone(&guard), Arc::clone(&state), handler.clone());
            let observed = observer.begin(&figures, &mut request);
            async move {
                let received = Instant::now();
                let dialect = Dialect::of_path(request.uri().path());
                let (parts, body) = request.into_parts();
                let request_id = parts.extensions.get::<RequestId>().cloned();
                let page = page.filter(|_| takes_html(&parts));
                let admitted = guard.admit(access, &parts).await;
                if admitted.is_ok()
                    && access != Access::Public
                    && let Some(place) = parts.extensions.get::<Arc<Place>>()
                {
                    place.prove();
                }
                let headers = AnswerHeaders::default();
                let mut limited = None;
                let answer = match admitted {
                    Ok(caller) => {
                        let holders = &caller.rights().holders;
                        limited = holders.are_limited().then(|| holders.clone());
                        match caller.count_request() {
                            Ok(()) => {
                                let call = Call { caller, parts, received, headers: headers.clone() };
                                if may_be_named && idempotency::is_named(&call.parts.headers) {
                                    let handle = |call, body| handler(state, call, body);
                                    // On the heap: nobody else shall pay for the size of this.
                                    Box::pin(guard.replays().once(dialect, call, body, handle)).await
                                } else {
                                    handler(state, call, body).await
                                }
                            }
                            Err(error) => Err(error.into()),
                        }
                    }
                    Err(problem) => Err(problem),
                };
                let mut response = answer.unwrap_or_else(|problem| match page {
                    Some(page) => page(&problem),
                    None => problem.response_to(dialect, request_id.as_ref().map(|id| &*id.0)),
                });
                response.headers_mut().extend(std::mem::take(&mut *headers.lock()));
                if let Some(holders) = limited {
                    standing::write(response.headers_mut(), &holders);
                }
                observed.answered(response)
            }
        };
        self.router = self.router.route(path, on(filter, endpoint));
        self.table.push(declared);
        self
    }

    /// All routes, as they were declared.
    pub fn table(&self) -> &[Endpoint] {
        &self.table
    }

    /// The router, which answers everything: what no route knows is 404, a wrong method 405.
    pub fn into_router(self) -> Router {
        let observer = self.observer;
        let figures = observer.metrics.http.add(OTHER, UNMATCHED);
        let refuse = move |problem: Problem, mut request: Request| {
            let observed = observer.begin(&figures, &mut request);
            std::future::ready(observed.answered(refusal(&problem, &request)))
        };
        let refuse_method = refuse.clone();
        let paths: Arc<HashSet<&str>> = Arc::new(self.table.iter().map(|declared| declared.path).collect());
        self.router
            .fallback(move |request: Request| {
                let message = nothing_at(request.uri().path(), &paths);
                refuse(Problem::new(ErrorCode::NotFound, message), request)
            })
            .method_not_allowed_fallback(move |request: Request| {
                let message = format!("`{}` does not take {}", request.uri().path(), request.method());
                refuse_method(Problem::new(ErrorCode::MethodNotAllowed, message), request)
            })
    }
}

/// There is nothing at a path; clients whose base address lacks `/v1`, or has it twice, are told so.
fn nothing_at(path: &str, known: &HashSet<&str>) -> String {
    let with_one = match path.strip_prefix("/v1") {
        Some(rest) => rest.to_owned(),
        None => format!("/v1{path}"),
    };
    let is_meant = with_one.starts_with("/v1/") && known.contains(with_one.as_str());
    let hint = if is_meant {
        format!(": correct the client's base address, `{with_one}` is there")
    } else {
        String::new()
    };
    format!("there is nothing at `{path}`{hint}")
}

/// A problem as those hear it who ask at this address.
pub(super) fn refusal(problem: &Problem, request: &Request) -> Response {
    let request_id = request.extensions().get::<RequestId>().map(|id| &*id.0);
    problem.response_to(Dialect::of_path(request.uri().path()), request_id)
}

/// Whether a person looks at the answer.
fn takes_html(parts: &Parts) -> bool {
    let mut accepted = parts.headers.get_all(header::ACCEPT).iter();
    accepted.any(|accept| accept.to_str().is_ok_and(|accept| accept.contains("text/html")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_with_the_wrong_base_address_is_told_so() {
        let known = HashSet::from(["/v1/chat/completions", "/health"]);
        for path in ["/chat/completions", "/v1/v1/chat/completions"] {
            let message = nothing_at(path, &known);
            assert!(message.ends_with("`/v1/chat/completions` is there"), "{message}");
        }
        for path in ["/chat", "/v1/chat", "/v1/health", "/v1", "/"] {
            assert_eq!(nothing_at(path, &known), format!("there is nothing at `{path}`"));
        }
    }

    #[test]
    fn percent_encoding_is_undone_once() {
        assert_eq!(decode("a%2Fb%20c").unwrap(), "a/b c");
        assert_eq!(decode("%2525").unwrap(), "%25");
        assert!(decode("%2").is_err());
        assert!(decode("%zz").is_err());
        assert!(decode("%+f").is_err());
        assert!(decode("%ff").is_err());
    }
}
