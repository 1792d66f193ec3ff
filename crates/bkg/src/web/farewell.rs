//! What kept connections hear when the host stops.
//!
//! Not the requests that are open, which have the drain to end. The invariant: a request that comes on a
//! kept connection after the stop is answered, and is not a request that was accepted. `server` calls
//! this.

use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::response::Response;
use bkg_protocol::ErrorCode;
use http::{HeaderValue, Request, header};

use super::routes::refusal;
use crate::error::Problem;

/// How long an idle connection is kept after the stop: a request that is on its way then gets an answer
/// and not a closed socket, of which its client cannot tell whether anything happened.
pub(super) const LINGER: Duration = Duration::from_millis(250);

/// What answers requests that come too late.
pub(super) fn router() -> Router {
    Router::new().fallback(async |request: Request<Body>| too_late(&request))
}

fn too_late(request: &Request<Body>) -> Response {
    let message = "the host is stopping, and nothing was done: try again when it is back";
    let problem = Problem {
        retry_after: Some(Duration::from_secs(1)),
        ..Problem::new(ErrorCode::Overloaded, message)
    };
    refusal(&problem, request)
}

/// Says that nothing more is taken on this connection.
pub(super) fn close<B>(response: &mut http::Response<B>) {
    response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
}
