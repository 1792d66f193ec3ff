//! `POST /v1/messages` and `/v1/messages/count_tokens`: Anthropic's Messages API as a translation of
//! `llm.chat`.
//!
//! `request` makes the chat, `content` its messages, `tools` its tools, `events` the answer, `count` the
//! estimate. Those are pure, and `golden/` shows them.

mod content;
mod count;
mod events;
#[cfg(test)]
mod golden;
mod request;
mod tools;

use std::sync::Arc;

use axum::body::Body;
use axum::response::{IntoResponse, Response};
use uuid::Uuid;

pub(super) use self::count::TokenCount;
use self::events::Events;
use super::{Gateway, chat, translation};
use crate::error::Problem;
use crate::web::Call;

pub(super) async fn create(gateway: Arc<Gateway>, call: Call, body: Body) -> Result<Response, Problem> {
    let body = call.json(body, &gateway.limits).await?;
    let request = request::read(&body)?;
    let wanted = chat::Wanted::read(&request.chat)?;
    let prompt = count::estimate(&request.chat);
    let seed = Uuid::now_v7().simple().to_string();
    let events = Events::new(&seed, request.answer, prompt, call.request_id());
    let (answer, meter) = chat::ask(&gateway, &call, &wanted, request.chat).await?;
    translation::response(answer, wanted.stream, events, call.caller, meter)
}

pub(super) async fn count_tokens(
    gateway: Arc<Gateway>,
    call: Call,
    body: Body,
) -> Result<Response, Problem> {
    let body = call.json(body, &gateway.limits).await?;
    let chat = request::read_prompt(&body)?;
    let count = TokenCount { input_tokens: count::estimate(&chat), estimated: true };
    Ok(axum::Json(count).into_response())
}
