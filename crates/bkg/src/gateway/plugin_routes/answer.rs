//! A plugin's whole answer as an HTTP response: its JSON as it is, or what its `$http` says.

use axum::body::Body;
use axum::response::Response;
use bkg_protocol::RawJson;
use http::{HeaderMap, HeaderValue, StatusCode, header};

use super::head::{self, Asked, Head};
use crate::error::Problem;

/// The response that `data` stands for, and the names of the headers that were left out of it.
///
/// # Errors
/// `plugin_error` if its `$http` is wrong.
pub(super) fn whole(data: &RawJson, asked: &Asked) -> Result<(Response, Vec<String>), Problem> {
    Ok(match head::read(data, asked)? {
        Some(Head { status, headers, body, dropped }) => {
            let body = body.filter(|_| !has_no_body(status)).map_or_else(Body::empty, Body::from);
            (response(status, headers, body), dropped)
        }
        None => {
            let json = HeaderValue::from_static("application/json");
            let headers = HeaderMap::from_iter([(header::CONTENT_TYPE, json)]);
            let body = Body::from(data.clone().into_text().into_bytes());
            (response(StatusCode::OK, headers, body), Vec::new())
        }
    })
}

/// Whether an answer with this status has no body, whatever the plugin says (RFC 9110, section 6.4.1).
pub(super) fn has_no_body(status: StatusCode) -> bool {
    matches!(status, StatusCode::NO_CONTENT | StatusCode::RESET_CONTENT | StatusCode::NOT_MODIFIED)
}

/// A response with what every answer of a plugin carries.
pub(super) fn response(status: StatusCode, headers: HeaderMap, body: Body) -> Response {
    let mut response = Response::new(body);
    *response.status_mut() = status;
    *response.headers_mut() = headers;
    head::lock(response.headers_mut());
    response
}
