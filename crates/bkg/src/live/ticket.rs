//! `POST /auth/ticket`: a one-time ticket with which a page opens its socket.

use std::sync::Arc;

use axum::body::Body;
use axum::response::{IntoResponse, Response};
use http::{HeaderValue, header};
use jiff::Timestamp;
use schemars::JsonSchema;
use serde::Serialize;

use super::Live;
use crate::error::Problem;
use crate::web::Call;

/// What opens one socket.
#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct Ticket {
    /// To be named as the subprotocol `bkg.ticket.TICKET`.
    ticket: String,
    /// From when on it opens nothing.
    expires_at: Timestamp,
}

pub(super) async fn issue(live: Arc<Live>, call: Call, _: Body) -> Result<Response, Problem> {
    let ticket = live.authenticator.issue_ticket(&call.caller)?;
    let body = Ticket { ticket: ticket.secret.reveal().to_owned(), expires_at: ticket.expires_at };
    let mut response = axum::Json(body).into_response();
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    Ok(response)
}
