//! Server-sent events: the headers that keep every hop from holding them back.

use std::time::Duration;

use http::{HeaderMap, HeaderName, HeaderValue, header};

/// A comment line that keeps an idle stream open and that every client ignores.
pub const KEEP_ALIVE: &str = ": keep-alive\n\n";

/// How long a stream may be silent before the comment is due.
pub const KEEP_ALIVE_AFTER: Duration = Duration::from_secs(15);

/// The headers of an event stream: nothing may compress, cache or buffer it.
pub fn event_headers(headers: &mut HeaderMap) {
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    headers.insert(HeaderName::from_static("x-accel-buffering"), HeaderValue::from_static("no"));
}
