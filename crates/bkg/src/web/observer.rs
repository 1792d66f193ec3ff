//! What is seen of every HTTP request: its figures, its place in a trace, and its span if that is recorded.
//!
//! Not what the request asks for: of that only the path is looked at, never query, headers or body. The
//! invariant: every request that reaches a router is counted once, when its answer has ended or was given
//! up. [`super::Routes`] calls it.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use axum::body::Body;
use axum::extract::Request;
use axum::response::Response;
use bytes::Bytes;
use http::{HeaderMap, Method};
use http_body::{Body as _, Frame, SizeHint};
use tokio::time::Instant;

use super::routes::RequestId;
use crate::metrics::{Metrics, RouteFigures, UNMATCHED};
use crate::trace::{Root, Span, TraceParent, TraceState, Tracer};

/// Routes that programs ask all the time: of those no trace begins.
const ASKED_ALL_THE_TIME: [&str; 3] = ["/health", "/health/ready", "/metrics"];
/// What the client's leaving before the answer counts as.
const CLIENT_LEFT: u16 = 499;

/// Who looks.
#[derive(Debug, Clone, Default)]
pub struct Observer {
    /// Where requests are counted.
    pub metrics: Arc<Metrics>,
    /// Where spans go.
    pub tracer: Tracer,
}

/// A request that is looked at; dropping it counts it.
#[derive(Debug)]
pub(super) struct Observed {
    route: Arc<RouteFigures>,
    begun: Instant,
    /// Known from the head of the answer on.
    status: Option<u16>,
    span: Option<Span>,
}

impl Observer {
    /// Looks at a request, and notes in it where it stands in a trace.
    pub(super) fn begin(&self, route: &Arc<RouteFigures>, request: &mut Request) -> Observed {
        let mut observed =
            Observed { route: Arc::clone(route), begun: Instant::now(), status: None, span: None };
        if ASKED_ALL_THE_TIME.contains(&route.route) {
            return observed;
        }
        let headers = request.headers();
        let path = if route.route == UNMATCHED { None } else { Some(route.route) };
        let method = known(request.method());
        let Root { context, mut span } = self.tracer.root(
            incoming(headers),
            || {
                let states = headers.get_all("tracestate").iter();
                TraceState::of(states.filter_map(|value| value.to_str().ok()))
            },
            || match path {
                Some(path) => format!("{method} {path}"),
                None => method.to_owned(),
            },
        );
        if let Some(span) = &mut span {
            span.set("http.request.method", method);
            span.set("url.path", request.uri().path());
            if let Some(path) = path {
                span.set("http.route", path);
            }
            if let Some(RequestId(id)) = request.extensions().get::<RequestId>() {
                span.set("bkg.request_id", &**id);
            }
        }
        if let Some(context) = context {
            request.extensions_mut().insert(context);
        }
        observed.span = span;
        observed
    }
}

/// Where the client says that its request stands. Two headers are as good as none.
fn incoming(headers: &HeaderMap) -> Option<TraceParent> {
    let mut values = headers.get_all("traceparent").iter();
    let (value, None) = (values.next()?, values.next()) else { return None };
    value.to_str().ok()?.trim().parse().ok()
}

/// A method as traces name it: whatever a client makes up is `_OTHER`.
fn known(method: &Method) -> &str {
    match method.as_str() {
        known @ ("GET" | "POST" | "PUT" | "PATCH" | "DELETE" | "HEAD" | "OPTIONS") => known,
        _ => "_OTHER",
    }
}

impl Observed {
    /// The head of the answer is there. One whose length is known counts as ended with it, any other when
    /// its last part has been taken or given up.
    pub(super) fn answered(mut self, response: Response) -> Response {
        self.status = Some(response.status().as_u16());
        if response.body().size_hint().exact().is_some() {
            return response;
        }
        response.map(|body| Body::new(ObservedBody { body, _observed: self }))
    }
}

impl Drop for Observed {
    fn drop(&mut self) {
        let otherwise = if std::thread::panicking() { 500 } else { CLIENT_LEFT };
        let status = self.status.unwrap_or(otherwise);
        self.route.answered(status, self.begun.elapsed());
        if let Some(span) = &mut self.span {
            span.set("http.response.status_code", u64::from(status));
            if status >= 500 {
                span.fail(&status.to_string());
            }
        }
    }
}

/// The body of an answer that is looked at until its end.
struct ObservedBody {
    body: Body,
    _observed: Observed,
}

impl http_body::Body for ObservedBody {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        Pin::new(&mut self.body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TRACE: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

    fn request(traceparents: &[&str]) -> Request {
        let mut request = Request::builder().uri("/x?secret=1");
        for value in traceparents {
            request = request.header("traceparent", *value);
        }
        request.body(Body::empty()).unwrap()
    }

    fn classes(observer: &Observer) -> Vec<(&'static str, u64)> {
        observer.metrics.http.routes()[0].classes().collect()
    }

    #[test]
    fn a_traceparent_is_passed_on_also_where_nothing_is_recorded() {
        let observer = Observer::default();
        let route = observer.metrics.http.add("GET", "/x");
        for (headers, passed) in [
            (&[TRACE][..], Some(TRACE)),
            (&[TRACE, TRACE][..], None),
            (&["00-"][..], None),
            (&[][..], None),
        ] {
            let mut request = request(headers);
            drop(observer.begin(&route, &mut request));
            let context = request.extensions().get::<TraceParent>().map(ToString::to_string);
            assert_eq!(context.as_deref(), passed, "{headers:?}");
        }
        assert_eq!(classes(&observer), [("4xx", 4)], "nobody waited for an answer");
    }

    #[test]
    fn an_answer_counts_when_its_last_part_is_gone() {
        let observer = Observer::default();
        let route = observer.metrics.http.add("GET", "/x");
        let _whole = observer.begin(&route, &mut request(&[])).answered(Response::new(Body::from("x")));
        assert_eq!(classes(&observer), [("2xx", 1)]);
        let parts = futures_util::stream::pending::<Result<Bytes, axum::Error>>();
        let streamed = Response::new(Body::from_stream(parts));
        let streamed = observer.begin(&route, &mut request(&[])).answered(streamed);
        assert_eq!(classes(&observer), [("2xx", 1)], "it goes on");
        drop(streamed);
        assert_eq!(classes(&observer), [("2xx", 2)]);
    }
}
