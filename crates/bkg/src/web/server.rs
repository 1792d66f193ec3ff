//! The accept loop: connections with deadlines and a bound, a request id for every request, a
//! definite answer even for a panic.
//!
//! Its own loop, since `axum::serve` never closes a client that sends nothing or half a header.

use std::convert::Infallible;
use std::net::IpAddr;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use bkg_protocol::ErrorCode;
use bytes::Bytes;
use futures_util::FutureExt;
use http::{HeaderName, HeaderValue, Request, Response, header};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tower_service::Service;
use tracing::{error, warn};
use uuid::Uuid;

use super::body::{discard, returning};
use super::routes::{Peer, RequestId, dialect_of};
use crate::config::HttpLimits;
use crate::error::{Dialect, Problem};

const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
const RESOURCE_POLICY: HeaderName = HeaderName::from_static("cross-origin-resource-policy");
/// How long accepting rests when the machine has no descriptor left: without it the loop would spin.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// How many headers hyper takes unless it is told otherwise.
const DEFAULT_HEADER_COUNT: usize = 100;

/// Serves a router on listeners that the caller bound.
#[derive(Debug, Clone)]
pub struct Server {
    router: Router,
    limits: HttpLimits,
    /// How long open requests may go on after the stop.
    drain: Duration,
}

impl Server {
    /// A server that keeps these limits; at its end, open requests have `drain` to finish.
    pub fn new(router: Router, limits: HttpLimits, drain: Duration) -> Self {
        Self { router, limits, drain }
    }

    /// Accepts until `stop` fires, and returns when the last request has ended or is abandoned.
    pub async fn run(self, listeners: Vec<TcpListener>, stop: CancellationToken) {
        let places = Arc::new(Semaphore::new(self.limits.connections));
        let connections = TaskTracker::new();
        let loops = TaskTracker::new();
        for listener in listeners {
            let accepting =
                self.clone().accept(listener, Arc::clone(&places), connections.clone(), stop.clone());
            loops.spawn(accepting);
        }
        loops.close();
        loops.wait().await;
        connections.close();
        connections.wait().await;
    }

    async fn accept(
        self,
        listener: TcpListener,
        places: Arc<Semaphore>,
        connections: TaskTracker,
        stop: CancellationToken,
    ) {
        loop {
            let place = tokio::select! {
                () = stop.cancelled() => return,
                place = Arc::clone(&places).acquire_owned() => place.expect("the semaphore is never closed"),
            };
            let accepted = tokio::select! {
                () = stop.cancelled() => return,
                accepted = listener.accept() => accepted,
            };
            match accepted {
                Ok((socket, peer)) => {
                    let serving = self.clone().serve(socket, peer.ip(), connections.clone(), stop.clone());
                    connections.spawn(async move {
                        serving.await;
                        drop(place);
                    });
                }
                Err(problem) => {
                    warn!(error = %problem, "a connection cannot be accepted");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }

    async fn serve(self, socket: TcpStream, peer: IpAddr, tasks: TaskTracker, stop: CancellationToken) {
        if socket.set_nodelay(true).is_err() {
            return;
        }
        // A client that sends nothing at all is not even given a buffer.
        let first_byte = tokio::select! {
            () = stop.cancelled() => return,
            first_byte = timeout(self.limits.first_byte_timeout, socket.readable()) => first_byte,
        };
        if !matches!(first_byte, Ok(Ok(()))) {
            return;
        }
        let router = self.router;
        let service = hyper::service::service_fn(move |mut request: Request<Incoming>| {
            request.extensions_mut().insert(Peer(peer));
            let (router, tasks) = (router.clone(), tasks.clone());
            async move {
                let (response, unread) = answer(router, request).await;
                if let Some(body) = unread {
                    // Beside the answer: a client that looks up sees it before it has sent all.
                    tasks.spawn(discard(body));
                }
                Ok::<_, Infallible>(response)
            }
        });
        let mut http = http1::Builder::new();
        // Naming the number that is the default anyway would cost an allocation for each request.
        if self.limits.header_count != DEFAULT_HEADER_COUNT {
            http.max_headers(self.limits.header_count);
        }
        let connection = http
            .timer(TokioTimer::new())
            .header_read_timeout(self.limits.header_read_timeout)
            .max_buf_size(self.limits.header_bytes.max(8 << 10))
            .serve_connection(TokioIo::new(socket), service);
        let mut connection = std::pin::pin!(connection);
        // A client that breaks its connection is nothing to report.
        tokio::select! {
            biased;
            _ = connection.as_mut() => return,
            () = stop.cancelled() => connection.as_mut().graceful_shutdown(),
        }
        if timeout(self.drain, connection).await.is_err() {
            warn!(after = ?self.drain, "a request did not end in time and is abandoned");
        }
    }
}

/// Answers one request: names it, and turns a panic into an answer. With it comes the body, if its
/// handler left some of it unread.
async fn answer<B>(mut router: Router, request: Request<B>) -> (Response<Body>, Option<B>)
where
    B: http_body::Body<Data = Bytes> + Send + Unpin + 'static,
    B::Error: Into<axum::BoxError>,
{
    let mut text = [0; uuid::fmt::Hyphenated::LENGTH];
    let id: &str = Uuid::now_v7().hyphenated().encode_lower(&mut text);
    let header = HeaderValue::from_str(id).expect("a UUID is a header value");
    let dialect = dialect_of(request.uri().path());
    // Reading on would tell a client that waits for leave to send its body to send it.
    let waits_for_leave = request.headers().contains_key(header::EXPECT);
    let (parts, body) = request.into_parts();
    let (body, rest) = if waits_for_leave || body.is_end_stream() {
        (Body::new(body), None)
    } else {
        let (body, rest) = returning(body);
        (Body::new(body), Some(rest))
    };
    let mut request = Request::from_parts(parts, body);
    request.extensions_mut().insert(RequestId(Arc::from(id)));
    let answered = AssertUnwindSafe(router.call(request)).catch_unwind().await;
    let mut response = answered
        .unwrap_or_else(|_| {
            error!(request_id = id, "a request handler panicked");
            let message = format!("the host failed; its log has the reason under the request id {id}");
            Ok(Problem::new(ErrorCode::Internal, message).response(dialect))
        })
        .unwrap_or_else(|never: Infallible| match never {});
    let headers = response.headers_mut();
    headers.insert(REQUEST_ID, header);
    if dialect == Dialect::Backplane {
        // What browsers may come to: no page of another site gets hold of it in any form.
        headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
        headers.insert(RESOURCE_POLICY, HeaderValue::from_static("same-origin"));
    }
    (response, rest.and_then(|mut rest| rest.try_recv().ok()))
}

#[cfg(test)]
mod tests {
    use axum::routing::get;
    use http_body_util::BodyExt;

    use super::*;

    #[tokio::test]
    async fn a_panic_is_an_answer_with_the_four_keys_and_a_request_id() {
        let router = Router::new().route("/v1/broken", get(async || -> String { panic!("on purpose") }));
        let request = Request::builder().uri("/v1/broken").body(Body::empty()).unwrap();
        let (response, _) = answer(router, request).await;
        assert_eq!(response.status(), 500);
        let id = response.headers()["x-request-id"].to_str().unwrap().to_owned();
        let body = response.into_body().collect().await.unwrap().to_bytes();
        let body: serde_json::Value = serde_json::from_slice(&body).unwrap();
        assert_eq!(
            (&body["error"]["code"], &body["error"]["param"]),
            (&"internal".into(), &serde_json::Value::Null)
        );
        assert!(body["error"]["message"].as_str().unwrap().contains(&id), "{body}");
    }
}
