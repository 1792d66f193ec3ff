//! `Idempotency-Key`: a request that is sent twice is answered twice and done once.
//!
//! In memory, for an hour, within bounds; a host that starts anew remembers nothing. Not for streams: one is
//! kept from running twice at a time, and not replayed (`docs/decisions/0022-idempotency.md`). The invariant:
//! what is replayed was answered to the same credential, for the same method, address and body.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use axum::body::Body;
use axum::response::Response;
use bkg_protocol::ErrorCode;
use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};
use http_body_util::BodyExt;
use sha2::{Digest, Sha256};
use tokio::time::Instant;

use super::routes::Call;
use crate::auth::Credential;
use crate::config::HttpLimits;
use crate::error::{Dialect, Problem};

/// How a request is named.
const KEY: HeaderName = HeaderName::from_static("idempotency-key");
/// Says that an answer is the one that was given before.
const REPLAYED: HeaderName = HeaderName::from_static("idempotent-replayed");
/// Whether OpenAI's clients may try again.
const SHOULD_RETRY: HeaderName = HeaderName::from_static("x-should-retry");
/// The longest name, in bytes.
const LONGEST_KEY: usize = 255;
/// How long an answer is remembered.
const REMEMBERED: Duration = Duration::from_secs(60 * 60);
/// How many answers are remembered; the oldest goes for one more.
const MOST: usize = 4_096;
/// How many bytes of answers are remembered; the oldest go for more.
const MOST_BYTES: usize = 64 << 20;
/// The longest answer that is remembered, in bytes.
const LONGEST: usize = 4 << 20;

/// What was answered, and what is being answered.
#[derive(Debug, Default)]
pub(super) struct Replays {
    limits: HttpLimits,
    state: Arc<Mutex<State>>,
}

#[derive(Debug, Default)]
struct State {
    entries: HashMap<Name, Entry>,
    /// Those that are over, the oldest first.
    order: VecDeque<(Instant, Name)>,
    bytes: usize,
}

/// Whose request, and what they call it.
type Name = [u8; 32];

#[derive(Debug)]
struct Entry {
    fingerprint: Name,
    answer: Progress,
}

#[derive(Debug)]
enum Progress {
    UnderWay,
    Given(Arc<Given>),
}

/// An answer.
#[derive(Debug)]
struct Given {
    status: StatusCode,
    headers: HeaderMap,
    body: Bytes,
}

/// A request that is under way; what it was called is free again when this is dropped.
#[derive(Debug)]
struct UnderWay {
    state: Arc<Mutex<State>>,
    name: Name,
}

/// What becomes of a request that has a name.
enum Turn {
    First(UnderWay),
    Again(Arc<Given>),
}

/// Whether a request has a name.
pub(super) fn is_named(headers: &HeaderMap) -> bool {
    headers.contains_key(KEY)
}

/// Whether requests of this route may have a name.
pub(super) fn is_for(method: &Method, path: &str) -> bool {
    let changes = matches!(*method, Method::POST | Method::PUT | Method::PATCH | Method::DELETE);
    changes && (path.starts_with("/v1/") || path.starts_with("/api/"))
}

impl Replays {
    pub(super) fn new(limits: HttpLimits) -> Self {
        Self { limits, state: Arc::default() }
    }

    /// Has the request answered by `handle`, in the words of `dialect`, unless it was answered before.
    ///
    /// # Errors
    /// `conflict` while the first of the same name is under way, or where it was another request;
    /// `invalid_request` for a name that is none.
    pub(super) async fn once<F>(
        &self,
        dialect: Dialect,
        call: Call,
        body: Body,
        handle: impl FnOnce(Call, Body) -> F,
    ) -> Result<Response, Problem>
    where
        F: Future<Output = Result<Response, Problem>>,
    {
        let Some(name) = name(&call)? else { return handle(call, body).await };
        let body = call.bytes(body, self.limits.body_bytes, &self.limits).await?;
        let under_way = match self.begin(name, fingerprint(&call, &body))? {
            Turn::First(under_way) => under_way,
            Turn::Again(given) => return Ok(given.replayed()),
        };
        let request_id = call.request_id();
        let answer = handle(call, Body::from(body)).await;
        // A refusal may be an answer that holds, so it is written here.
        let refuse = |problem: Problem| problem.response_to(dialect, request_id.as_deref());
        let response = answer.unwrap_or_else(refuse);
        under_way.answered(response).await
    }

    fn begin(&self, name: Name, fingerprint: Name) -> Result<Turn, Problem> {
        let mut state = lock(&self.state);
        state.forget(Instant::now());
        match state.entries.get(&name) {
            Some(entry) if entry.fingerprint != fingerprint => {
                let message =
                    "the `Idempotency-Key` was used for another request: use a new one for each request";
                Err(Problem::new(ErrorCode::Conflict, message).param(KEY.as_str()))
            }
            Some(Entry { answer: Progress::UnderWay, .. }) => {
                let message = "a request with this `Idempotency-Key` is under way: wait for it";
                let retry_after = Some(Duration::from_secs(1));
                Err(Problem { retry_after, ..Problem::new(ErrorCode::Conflict, message) })
            }
            Some(Entry { answer: Progress::Given(given), .. }) => Ok(Turn::Again(Arc::clone(given))),
            None if state.entries.len() >= MOST && state.order.is_empty() => {
                let message = "too many requests with an `Idempotency-Key` are under way: try again";
                let retry_after = Some(Duration::from_secs(1));
                Err(Problem { retry_after, ..Problem::new(ErrorCode::Overloaded, message) })
            }
            None => {
                state.entries.insert(name, Entry { fingerprint, answer: Progress::UnderWay });
                Ok(Turn::First(UnderWay { state: Arc::clone(&self.state), name }))
            }
        }
    }
}

fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

impl State {
    /// Forgets what is too old, and the oldest where there is too much.
    fn forget(&mut self, now: Instant) {
        while let Some((since, name)) = self.order.front().copied() {
            let is_old = now.saturating_duration_since(since) >= REMEMBERED;
            if !is_old && self.entries.len() < MOST && self.bytes <= MOST_BYTES {
                return;
            }
            self.order.pop_front();
            if let Some(Entry { answer: Progress::Given(given), .. }) = self.entries.remove(&name) {
                self.bytes -= given.body.len();
            }
        }
    }
}

impl UnderWay {
    /// Remembers the answer, if it is one that holds, and gives it on.
    async fn answered(self, response: Response) -> Result<Response, Problem> {
        let (parts, body) = response.into_parts();
        let is_stream = parts
            .headers
            .get(header::CONTENT_TYPE)
            .is_some_and(|kind| kind.as_bytes().starts_with(b"text/event-stream"));
        let is_short = http_body::Body::size_hint(&body).exact().is_some_and(|size| size <= LONGEST as u64);
        if is_stream || !is_short || !holds(parts.status, &parts.headers) {
            // It stays under way until its last byte is sent.
            let body = body.map_frame(move |frame| {
                let _ = &self;
                frame
            });
            return Ok(Response::from_parts(parts, Body::new(body)));
        }
        let bytes = body.collect().await.map_err(|error| {
            Problem::new(ErrorCode::Internal, format!("the answer could not be gathered: {error}"))
        })?;
        let body = bytes.to_bytes();
        self.remember(Given { status: parts.status, headers: parts.headers.clone(), body: body.clone() });
        Ok(Response::from_parts(parts, Body::from(body)))
    }

    fn remember(self, given: Given) {
        let mut state = lock(&self.state);
        state.bytes += given.body.len();
        if let Some(entry) = state.entries.get_mut(&self.name) {
            entry.answer = Progress::Given(Arc::new(given));
        }
        let now = Instant::now();
        state.order.push_back((now, self.name));
        state.forget(now);
    }
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        let mut state = lock(&self.state);
        if matches!(state.entries.get(&self.name), Some(Entry { answer: Progress::UnderWay, .. })) {
            state.entries.remove(&self.name);
        }
    }
}

impl Given {
    fn replayed(&self) -> Response {
        let mut response = Response::new(Body::from(self.body.clone()));
        *response.status_mut() = self.status;
        *response.headers_mut() = self.headers.clone();
        response.headers_mut().insert(REPLAYED, HeaderValue::from_static("true"));
        response
    }
}

/// Whether the same request would be answered so again. What is wrong for now is not.
fn holds(status: StatusCode, headers: &HeaderMap) -> bool {
    let may_have_happened = headers.get(SHOULD_RETRY).is_some_and(|value| value == "false");
    let is_for_now = matches!(status.as_u16(), 401 | 403 | 404 | 408 | 409 | 425 | 429);
    may_have_happened || !(is_for_now || status.is_server_error())
}

/// What the caller calls the request, if it has a name.
fn name(call: &Call) -> Result<Option<Name>, Problem> {
    let mut values = call.parts.headers.get_all(KEY).iter();
    let Some(value) = values.next() else { return Ok(None) };
    let text = value.to_str().ok().filter(|text| (1..=LONGEST_KEY).contains(&text.len()));
    let Some(text) = text.filter(|_| values.next().is_none()) else {
        let message = format!("`Idempotency-Key` is one text of 1 to {LONGEST_KEY} visible characters");
        return Err(Problem::invalid(message).param(KEY.as_str()));
    };
    let (kind, id) = match &call.caller.rights().credential {
        Credential::Nothing => return Ok(None),
        Credential::Root => ("root", ""),
        Credential::Key { id } => ("key", &**id),
        Credential::Session { id } => ("session", &**id),
        Credential::Other => ("user", call.caller.user()),
    };
    Ok(Some(hash([kind.as_bytes(), id.as_bytes(), text.as_bytes()])))
}

fn fingerprint(call: &Call, body: &[u8]) -> Name {
    let target = call.parts.uri.path_and_query().map_or("", |target| target.as_str());
    hash([call.parts.method.as_str().as_bytes(), target.as_bytes(), body])
}

fn hash<const N: usize>(parts: [&[u8]; N]) -> Name {
    let mut hash = Sha256::new();
    for part in parts {
        hash.update((part.len() as u64).to_le_bytes());
        hash.update(part);
    }
    hash.finalize().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn given(bytes: usize) -> Given {
        Given { status: StatusCode::OK, headers: HeaderMap::new(), body: vec![0; bytes].into() }
    }

    fn first(replays: &Replays, name: u8) -> UnderWay {
        match replays.begin([name; 32], [0; 32]) {
            Ok(Turn::First(under_way)) => under_way,
            _ => panic!("`{name}` was used before"),
        }
    }

    #[test]
    fn the_first_is_done_and_the_next_is_told_what_came_of_it() {
        let replays = Replays::default();
        let under_way = first(&replays, 1);
        let problem = replays.begin([1; 32], [0; 32]).err().unwrap();
        assert_eq!((problem.code, problem.retry_after.is_some()), (ErrorCode::Conflict, true));
        under_way.remember(given(3));
        assert!(matches!(replays.begin([1; 32], [0; 32]), Ok(Turn::Again(given)) if given.body.len() == 3));
        let other = replays.begin([1; 32], [9; 32]).err().unwrap();
        assert_eq!((other.code, other.retry_after), (ErrorCode::Conflict, None));
    }

    #[test]
    fn what_was_not_answered_may_be_tried_again() {
        let replays = Replays::default();
        drop(first(&replays, 1));
        drop(first(&replays, 1));
    }

    #[test]
    fn what_is_remembered_is_bounded() {
        let replays = Replays::default();
        for name in 0..20 {
            first(&replays, name).remember(given(LONGEST));
        }
        assert!(lock(&replays.state).bytes <= MOST_BYTES);
        first(&replays, 0);
        assert!(matches!(replays.begin([19; 32], [0; 32]), Ok(Turn::Again(_))));
        let later = Instant::now() + REMEMBERED + Duration::from_secs(1);
        lock(&replays.state).forget(later);
        assert!(lock(&replays.state).entries.is_empty() && lock(&replays.state).bytes == 0);
    }

    #[test]
    fn only_what_holds_is_remembered() {
        let mut headers = HeaderMap::new();
        for (status, expected) in
            [(200, true), (201, true), (400, true), (422, true), (429, false), (500, false), (503, false)]
        {
            assert_eq!(holds(StatusCode::from_u16(status).unwrap(), &headers), expected, "{status}");
        }
        headers.insert(SHOULD_RETRY, HeaderValue::from_static("false"));
        assert!(holds(StatusCode::GATEWAY_TIMEOUT, &headers));
    }
}
