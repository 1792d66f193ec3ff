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
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::time::{Instant, timeout, timeout_at};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tower_service::Service;
use tracing::{error, warn};
use uuid::Uuid;

use super::accept::Acceptor;
use super::body::{discard, returning};
use super::farewell;
use super::patient::Patient;
use super::places::Places;
use super::proxy::{Scheme, TrustedProxies};
use super::routes::{RequestId, refusal};
use super::tls::Tls;
use super::upgrade::Takeover;
use crate::config::HttpLimits;
use crate::error::{Dialect, Problem};

const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
/// The same, where Anthropic's clients look for it.
const ANTHROPIC_REQUEST_ID: HeaderName = HeaderName::from_static("request-id");
const RESOURCE_POLICY: HeaderName = HeaderName::from_static("cross-origin-resource-policy");
/// What is heard by whoever comes while the machine has no descriptor left.
const NO_DESCRIPTOR: &[u8] = b"HTTP/1.1 503 Service Unavailable\r\ncontent-type: application/json\r\n\
    retry-after: 1\r\nconnection: close\r\ncontent-length: 138\r\n\r\n\
    {\"error\":{\"message\":\"the host has no descriptor left for a connection: try again\",\
    \"type\":\"server_error\",\"param\":null,\"code\":\"overloaded\"}}";
/// How many are told at once that their address has too many connections; others are closed without a word.
const REFUSED_AT_ONCE: usize = 32;
/// How long somebody has to hear it.
const REFUSED_WITHIN: Duration = Duration::from_secs(2);

/// How many headers hyper takes unless it is told otherwise.
const DEFAULT_HEADER_COUNT: usize = 100;

/// Something that is said once: whoever scans the port would fill the log.
#[derive(Debug, Default)]
struct Once {
    was: bool,
}

impl Once {
    fn is_first(&mut self) -> bool {
        !std::mem::replace(&mut self.was, true)
    }
}

/// A listener that the caller bound, and who comes in through it.
#[derive(Debug)]
pub struct Listener {
    /// The socket.
    pub socket: TcpListener,
    /// Who comes in, and how.
    pub entrance: Entrance,
}

/// Who comes in through a listener, and how.
#[derive(Debug, Clone)]
pub enum Entrance {
    /// This machine, in plain text.
    ThisMachine,
    /// Trusted proxies in plain text; whoever else connects is closed without a word.
    Proxies,
    /// Everybody, over TLS.
    Tls(Tls),
}

/// Serves a router on listeners that the caller bound.
#[derive(Debug, Clone)]
pub struct Server {
    router: Router,
    limits: HttpLimits,
    proxies: TrustedProxies,
    /// How long open requests may go on after the stop.
    drain: Duration,
}

impl Server {
    /// A server that keeps these limits; at its end, open requests have `drain` to finish.
    pub fn new(router: Router, limits: HttpLimits, drain: Duration) -> Self {
        Self { router, limits, proxies: TrustedProxies::new(&[]), drain }
    }

    /// The same, believing these proxies about where requests come from.
    #[must_use]
    pub fn behind(self, proxies: TrustedProxies) -> Self {
        Self { proxies, ..self }
    }

    /// Accepts until `stop` fires, and returns when the last request has ended or is abandoned.
    pub async fn run(self, listeners: Vec<Listener>, stop: CancellationToken) {
        // Whoever fills the places of other machines does not keep the operator of this one out.
        let here = Arc::new(Places::new(&self.limits));
        let elsewhere = Arc::new(Places::new(&self.limits));
        let connections = TaskTracker::new();
        let loops = TaskTracker::new();
        for listener in listeners {
            let is_here = matches!(listener.entrance, Entrance::ThisMachine);
            let places = if is_here { &here } else { &elsewhere };
            let accepting =
                self.clone().accept(listener, Arc::clone(places), connections.clone(), stop.clone());
            loops.spawn(accepting);
        }
        loops.close();
        loops.wait().await;
        connections.close();
        connections.wait().await;
    }

    async fn accept(
        self,
        Listener { socket: listener, entrance }: Listener,
        places: Arc<Places>,
        connections: TaskTracker,
        stop: CancellationToken,
    ) {
        // Over TLS an excuse in plain text would be noise.
        let excuse = if matches!(entrance, Entrance::Tls(_)) { b"" } else { NO_DESCRIPTOR };
        let mut listener = Acceptor::new(listener, "http", excuse);
        let refusals = Arc::new(Semaphore::new(REFUSED_AT_ONCE));
        let (mut turned_away, mut refused) = (Once::default(), Once::default());
        loop {
            let one_of_all = tokio::select! {
                () = stop.cancelled() => return,
                one_of_all = places.one_of_all() => one_of_all,
            };
            let (socket, peer) = tokio::select! {
                () = stop.cancelled() => return,
                accepted = listener.next() => accepted,
            };
            if !self.lets_in(&entrance, peer.ip()) {
                if turned_away.is_first() {
                    warn!(%peer, "somebody who is not in `api.trusted_proxies` was turned away; others will be without a word");
                }
                continue;
            }
            let place = if matches!(entrance, Entrance::ThisMachine) || self.proxies.trusts(peer.ip()) {
                Ok(Places::uncounted(one_of_all))
            } else {
                places.counted(one_of_all, peer.ip())
            };
            let (server, place) = match place {
                Ok(place) => (self.clone(), place),
                Err(full) => {
                    if refused.is_first() {
                        warn!(%peer, "somebody was refused a connection: {full}; others will be without a word");
                    }
                    let Ok(permit) = Arc::clone(&refusals).try_acquire_owned() else { continue };
                    (self.refusing(&full.to_string()), Places::uncounted(permit))
                }
            };
            let takeover = Takeover {
                place: Arc::new(place),
                tasks: connections.clone(),
                stop: stop.clone(),
                drain: self.drain,
            };
            connections.spawn(server.serve(entrance.clone(), socket, peer.ip(), takeover));
        }
    }

    /// The server for a connection that is refused: it says so, and closes.
    fn refusing(&self, why: &str) -> Self {
        let problem = Problem {
            retry_after: Some(Duration::from_secs(1)),
            ..Problem::new(ErrorCode::Overloaded, why)
        };
        let say = move |request: Request<Body>| {
            let mut response = refusal(&problem, &request);
            response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
            std::future::ready(response)
        };
        let limits = HttpLimits {
            first_byte_timeout: REFUSED_WITHIN,
            header_read_timeout: REFUSED_WITHIN,
            write_timeout: REFUSED_WITHIN,
            ..self.limits.clone()
        };
        Self { router: Router::new().fallback(say), limits, ..self.clone() }
    }

    fn lets_in(&self, entrance: &Entrance, peer: IpAddr) -> bool {
        match entrance {
            Entrance::ThisMachine | Entrance::Tls(_) => true,
            Entrance::Proxies => self.proxies.trusts(peer),
        }
    }

    /// Serves one connection, or as much of it as is HTTP: a request may take it over, and with it the
    /// connection's place.
    async fn serve(self, entrance: Entrance, socket: TcpStream, peer: IpAddr, takeover: Takeover) {
        let stop = takeover.stop.clone();
        if socket.set_nodelay(true).is_err() {
            return;
        }
        // A client that sends nothing at all is not even given a buffer.
        let deadline = Instant::now() + self.limits.first_byte_timeout;
        let first_byte = tokio::select! {
            // Whoever has asked already is told that it is too late.
            biased;
            first_byte = timeout_at(deadline, socket.readable()) => first_byte,
            () = stop.cancelled() => return,
        };
        if !matches!(first_byte, Ok(Ok(()))) {
            return;
        }
        let Entrance::Tls(tls) = entrance else {
            return self.speak(socket, peer, None, takeover).await;
        };
        // In a box, so that connections without TLS do not carry the room for it.
        let serving = Box::pin(async move {
            let shaken = tokio::select! {
                () = stop.cancelled() => return,
                shaken = timeout_at(deadline, tls.accept(socket)) => shaken,
            };
            if let Ok(Some(stream)) = shaken {
                self.speak(stream, peer, Some(tls), takeover).await;
            }
        });
        serving.await;
    }

    /// Speaks HTTP over a stream; `tls` is what the stream is made of, if it is.
    async fn speak<S>(self, stream: S, peer: IpAddr, tls: Option<Tls>, takeover: Takeover)
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let (stop, stopping) = (takeover.stop.clone(), takeover.stop.clone());
        let (router, proxies) = (self.router, self.proxies);
        let scheme = if tls.is_some() { Scheme::Https } else { Scheme::Http };
        let strict_transport = tls.and_then(|tls| tls.strict_transport);
        let service = hyper::service::service_fn(move |mut request: Request<Incoming>| {
            let mut notes = std::mem::take(request.extensions_mut());
            proxies.note(peer, scheme, request.headers(), &mut notes);
            if takeover.place.is_counted() {
                notes.insert(Arc::clone(&takeover.place));
            }
            if request.headers().contains_key(header::UPGRADE) {
                notes.insert(takeover.clone());
            }
            *request.extensions_mut() = notes;
            let (router, tasks) = (router.clone(), takeover.tasks.clone());
            let (strict_transport, stopping) = (strict_transport.clone(), stopping.clone());
            async move {
                let router = if stopping.is_cancelled() { farewell::router() } else { router };
                let (mut response, unread) = answer(router, request).await;
                if stopping.is_cancelled() {
                    farewell::close(&mut response);
                }
                if let Some(value) = strict_transport {
                    response.headers_mut().insert(header::STRICT_TRANSPORT_SECURITY, value);
                }
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
            .serve_connection(TokioIo::new(Patient::new(stream, self.limits.write_timeout)), service)
            .with_upgrades();
        let mut connection = std::pin::pin!(connection);
        // A client that breaks its connection is nothing to report.
        tokio::select! {
            biased;
            _ = connection.as_mut() => return,
            () = stop.cancelled() => {}
        }
        tokio::select! {
            biased;
            _ = connection.as_mut() => return,
            () = tokio::time::sleep(farewell::LINGER.min(self.drain)) => connection.as_mut().graceful_shutdown(),
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
    let dialect = Dialect::of_path(request.uri().path());
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
            Ok(Problem::new(ErrorCode::Internal, message).response_to(dialect, Some(id)))
        })
        .unwrap_or_else(|never: Infallible| match never {});
    let headers = response.headers_mut();
    if dialect == Dialect::Anthropic {
        headers.insert(ANTHROPIC_REQUEST_ID, header.clone());
    }
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
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    /// What somebody on this machine hears who asks at an entrance for proxies.
    async fn answer_for_proxies(trusted: &str) -> String {
        let router = Router::new().route("/here", get(async || "welcome"));
        let proxies = TrustedProxies::new(&[trusted.parse().unwrap()]);
        let server = Server::new(router, HttpLimits::default(), Duration::ZERO).behind(proxies);
        let socket = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = socket.local_addr().unwrap();
        let stop = CancellationToken::new();
        let listeners = vec![Listener { socket, entrance: Entrance::Proxies }];
        let running = tokio::spawn(server.run(listeners, stop.clone()));
        let mut client = TcpStream::connect(address).await.unwrap();
        let request = b"GET /here HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n";
        let mut text = String::new();
        // Who is turned away may find that out while writing or while reading.
        if client.write_all(request).await.is_ok() {
            let _ = client.read_to_string(&mut text).await;
        }
        stop.cancel();
        running.await.unwrap();
        text
    }

    #[tokio::test]
    async fn where_proxies_come_nobody_else_hears_a_word() {
        let welcome = answer_for_proxies("127.0.0.0/8").await;
        assert!(welcome.ends_with("welcome"), "{welcome}");
        assert_eq!(answer_for_proxies("10.0.0.0/8").await, "");
    }

    #[tokio::test]
    async fn a_request_on_a_kept_connection_is_answered_while_the_host_stops() {
        let router = Router::new().route("/here", get(async || "welcome"));
        let server = Server::new(router, HttpLimits::default(), Duration::from_secs(30));
        let socket = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = socket.local_addr().unwrap();
        let stop = CancellationToken::new();
        let listeners = vec![Listener { socket, entrance: Entrance::ThisMachine }];
        let running = tokio::spawn(server.run(listeners, stop.clone()));
        let mut client = TcpStream::connect(address).await.unwrap();
        let request = b"GET /here HTTP/1.1\r\nhost: localhost\r\n\r\n";
        client.write_all(request).await.unwrap();
        let mut first = Vec::new();
        while !first.ends_with(b"welcome") {
            client.read_buf(&mut first).await.unwrap();
        }
        client.write_all(request).await.unwrap();
        stop.cancel();
        let mut second = String::new();
        client.read_to_string(&mut second).await.unwrap();
        let (head, body) = second.split_once("\r\n\r\n").unwrap();
        assert!(head.starts_with("HTTP/1.1 503 ") && head.contains("connection: close"), "{head}");
        assert!(head.contains("x-request-id: ") && head.contains("retry-after: 1"), "{head}");
        let body: serde_json::Value = serde_json::from_str(body).unwrap();
        assert_eq!(body["error"]["code"], "overloaded");
        running.await.unwrap();
    }

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
