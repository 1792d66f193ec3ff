//! What a plugin answers, and with which handlers.
//!
//! A capability may answer at once, in chunks, or both; the caller says which it wants. Properties
//! such as `idempotent` are promises to the host: it acts on them.

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use bkg_protocol::{CapabilityName, ErrorCode, NameError, RawJson, WireError, message};

use crate::error::{DefinitionError, Result};
use crate::json::IntoJson;
use crate::log::CURRENT_REQUEST;
use crate::request::{Owed, Request};
use crate::session::{Session, Ticket};
use crate::stream::ChunkSink;

pub(crate) type Work<T> = Pin<Box<dyn Future<Output = Result<T>> + Send>>;
type AnswerHandler = dyn Fn(Request) -> Work<RawJson> + Send + Sync;
type StreamHandler = dyn Fn(Request, ChunkSink) -> Work<RawJson> + Send + Sync;

/// The code that answers one capability.
#[derive(Default)]
pub(crate) struct Handlers {
    answer: Option<Box<AnswerHandler>>,
    stream: Option<Box<StreamHandler>>,
}

impl Handlers {
    /// Answers one request: by what the handler returns, by `cancelled` where nobody waits any more,
    /// or by a failure where the handler breaks.
    pub(crate) async fn work(
        self: Arc<Self>,
        owed: Owed,
        request: Request,
        ticket: Arc<Ticket>,
        session: Arc<Session>,
    ) {
        CURRENT_REQUEST
            .scope(request.id().clone(), async move {
                let handler = match self.handler(request, &ticket, session) {
                    Ok(handler) => handler,
                    Err(error) => return owed.settle(Err(error)),
                };
                owed.settle(tokio::select! {
                    biased;
                    () = ticket.cancelled.cancelled() => {
                        Err(WireError::new(ErrorCode::Cancelled, "the request was cancelled"))
                    }
                    outcome = handler => outcome,
                });
            })
            .await;
    }

    fn handler(
        &self,
        request: Request,
        ticket: &Arc<Ticket>,
        session: Arc<Session>,
    ) -> Result<Work<RawJson>> {
        match (&self.stream, &self.answer) {
            (Some(stream), _) if request.wants_stream() => {
                let chunks = ChunkSink::new(session, ticket.clone(), request.id().clone());
                Ok(stream(request, chunks))
            }
            // One answer without chunks is a valid answer to a request for a stream.
            (_, Some(answer)) => Ok(answer(request)),
            _ => Err(WireError::new(
                ErrorCode::InvalidRequest,
                format!("`{}` answers in a stream only: ask with `stream`", request.capability()),
            )),
        }
    }
}

/// Something that a plugin answers.
///
/// ```
/// use bkg_sdk::{Capability, Plugin, Request, Result};
///
/// async fn lookup(request: Request) -> Result<serde_json::Value> {
///     let word: String = request.read()?;
///     Ok(serde_json::json!({ "word": word }))
/// }
///
/// let plugin = Plugin::new().capability(
///     Capability::new("dictionary.lookup")
///         .description("What a word means")
///         .input_schema(serde_json::json!({ "type": "string" }))
///         .idempotent()
///         .answer(lookup),
/// );
/// ```
pub struct Capability {
    name: String,
    described: Result<message::Capability, NameError>,
    handlers: Handlers,
    routes: Vec<DeclaredRoute>,
}

/// A route of a capability, before the capability's name is known to be one.
pub(crate) struct DeclaredRoute {
    method: String,
    path: String,
    streaming: bool,
}

impl Capability {
    /// A capability by its dotted name; it needs [`Capability::answer`], [`Capability::stream`] or both.
    pub fn new(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            described: name.parse::<CapabilityName>().map(Into::into),
            handlers: Handlers::default(),
            routes: Vec::new(),
        }
    }

    fn describe(mut self, change: impl FnOnce(&mut message::Capability)) -> Self {
        if let Ok(described) = &mut self.described {
            change(described);
        }
        self
    }

    /// Answers with one value.
    pub fn answer<H, F, A>(mut self, handler: H) -> Self
    where
        H: Fn(Request) -> F + Send + Sync + 'static,
        F: Future<Output = Result<A>> + Send + 'static,
        A: IntoJson,
    {
        self.handlers.answer = Some(Box::new(move |request| {
            let work = handler(request);
            Box::pin(async move { work.await.map(IntoJson::into_json) })
        }));
        self
    }

    /// Answers in chunks; what the handler returns is the `data` of the final answer, mostly `()`.
    pub fn stream<H, F, A>(mut self, handler: H) -> Self
    where
        H: Fn(Request, ChunkSink) -> F + Send + Sync + 'static,
        F: Future<Output = Result<A>> + Send + 'static,
        A: IntoJson,
    {
        self.handlers.stream = Some(Box::new(move |request, chunks| {
            let work = handler(request, chunks);
            Box::pin(async move { work.await.map(IntoJson::into_json) })
        }));
        self.describe(|described| described.streaming = true)
    }

    /// Answers an HTTP route too, below `/api/plugins/<name>`. `{name}` in the path stands for one segment,
    /// `{*name}` at its end for all that is left; [`Request::http`] has what they stood for. What the
    /// handler returns is the JSON of the response, or a [`RouteAnswer`](crate::RouteAnswer).
    ///
    /// ```
    /// use bkg_sdk::{Capability, Plugin, Request, Result, RouteAnswer};
    /// use serde_json::json;
    ///
    /// async fn page(request: Request) -> Result<RouteAnswer> {
    ///     let name = request.http().and_then(|http| http.param("name")).unwrap_or("nobody");
    ///     Ok(RouteAnswer::ok().header("etag", "\"1\"").json(json!({ "name": name })))
    /// }
    ///
    /// let plugin = Plugin::new()
    ///     .capability(Capability::new("wiki.page").answer(page).route("GET", "/pages/{name}"));
    /// ```
    pub fn route(mut self, method: &str, path: &str) -> Self {
        self.routes.push(DeclaredRoute {
            method: method.to_owned(),
            path: path.to_owned(),
            streaming: false,
        });
        self
    }

    /// Answers an HTTP route in chunks: as server-sent events, or as what a [`RouteAnswer`] says that is
    /// sent as the first chunk. See [`Capability::route`].
    ///
    /// [`RouteAnswer`]: crate::RouteAnswer
    pub fn streaming_route(mut self, method: &str, path: &str) -> Self {
        self.routes.push(DeclaredRoute {
            method: method.to_owned(),
            path: path.to_owned(),
            streaming: true,
        });
        self
    }

    /// One sentence for people.
    pub fn description(self, text: &str) -> Self {
        self.describe(|described| described.description = Some(text.to_owned()))
    }

    /// JSON Schema of the payload.
    pub fn input_schema(self, schema: impl IntoJson) -> Self {
        let schema = schema.into_json();
        self.describe(|described| described.input_schema = Some(schema))
    }

    /// JSON Schema of the answer.
    pub fn output_schema(self, schema: impl IntoJson) -> Self {
        let schema = schema.into_json();
        self.describe(|described| described.output_schema = Some(schema))
    }

    /// Promises that asking twice does no more than asking once: the host may try again elsewhere.
    pub fn idempotent(self) -> Self {
        self.describe(|described| described.idempotent = true)
    }

    /// Says that it changes something outside the plugin.
    pub fn side_effect(self) -> Self {
        self.describe(|described| described.side_effect = true)
    }

    /// How long one request may take, unless its caller wants less.
    pub fn timeout(self, timeout: Duration) -> Self {
        self.describe(|described| described.timeout_ms = Some(timeout.as_millis() as u64))
    }

    /// How many requests one instance takes at a time; the host keeps to it.
    pub fn max_concurrency(self, most: u32) -> Self {
        self.describe(|described| described.max_concurrency = Some(most))
    }

    pub(crate) fn into_parts(
        self,
    ) -> Result<(message::Capability, Handlers, Vec<message::Route>), DefinitionError> {
        let described = self.described?;
        if self.handlers.answer.is_none() && self.handlers.stream.is_none() {
            return Err(DefinitionError::NoHandler(self.name));
        }
        let routes = self.routes.into_iter().map(|route| message::Route {
            method: route.method,
            path: route.path,
            capability: described.id.clone(),
            streaming: route.streaming,
        });
        let routes = routes.collect();
        Ok((described, self.handlers, routes))
    }
}

impl fmt::Debug for Capability {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("Capability").field("name", &self.name).finish_non_exhaustive()
    }
}
