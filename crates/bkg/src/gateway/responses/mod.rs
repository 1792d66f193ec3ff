//! `POST /v1/responses`: OpenAI's Responses API as a translation of `llm.chat`.
//!
//! Nothing is kept between requests: what refers to an earlier one is refused. `request` makes the chat,
//! `input` its messages, `tools` its tools, `events` the answer. Those are pure, and `golden/` shows them.

mod events;
#[cfg(test)]
mod golden;
mod input;
mod request;
mod tools;

use std::sync::Arc;

use axum::body::Body;
use axum::response::Response;
use jiff::Timestamp;
use uuid::Uuid;

use self::events::Events;
use super::{Gateway, chat, translation};
use crate::error::Problem;
use crate::web::Call;

pub(super) async fn create(gateway: Arc<Gateway>, call: Call, body: Body) -> Result<Response, Problem> {
    let body = call.json(body, &gateway.limits).await?;
    let request = request::read(&body)?;
    let wanted = chat::Wanted::read(&request.chat)?;
    let seed = Uuid::now_v7().simple().to_string();
    let events = Events::new(&seed, Timestamp::now().as_second(), request.echo);
    let (answer, meter) = chat::ask(&gateway, &call, &wanted, request.chat).await?;
    translation::response(answer, wanted.stream, events, call.caller, meter)
}
