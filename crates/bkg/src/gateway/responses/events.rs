//! A chat's answer as the events of a response, and the response that they amount to.
//!
//! The invariants: `sequence_number` counts all events, an item's events stand between its `added` and its
//! `done`, and `response.completed` or `response.incomplete` comes after a good end alone. `response.failed`
//! is the last word of any other.

use bkg_protocol::{ErrorCode, RawJson};
use serde_json::{Map, Value, json};

use crate::error::Problem;
use crate::gateway::parts::{Finish, Kind, Parts, Step, Usage};
use crate::gateway::translation::{Event, Translation};

/// The events of one response.
#[derive(Debug)]
pub(super) struct Events {
    id: String,
    seed: String,
    /// When the request came, for plugins that do not say when they answered.
    received: i64,
    echo: Map<String, Value>,
    parts: Parts,
    begun: bool,
    next: u64,
    /// Items that are done.
    output: Vec<Value>,
    open: Option<Item>,
    /// The whole response.
    ended: Value,
}

/// The item that is being told.
#[derive(Debug)]
struct Item {
    id: String,
    kind: ItemKind,
}

#[derive(Debug)]
enum ItemKind {
    Message { content: Vec<Value>, open: Option<Part> },
    Reasoning { text: String },
    Call { call_id: String, name: String, arguments: String },
}

/// The part of a message that is being told.
#[derive(Debug)]
struct Part {
    refuses: bool,
    text: String,
    logprobs: Vec<Value>,
}

impl Events {
    /// A response that has not begun. Its ids are made of `seed`; it repeats `echo` of its request.
    pub(super) fn new(seed: &str, received: i64, echo: Map<String, Value>) -> Self {
        Self {
            id: format!("resp_{seed}"),
            seed: seed.to_owned(),
            received,
            echo,
            parts: Parts::new(seed),
            begun: false,
            next: 0,
            output: Vec::new(),
            open: None,
            ended: Value::Null,
        }
    }

    fn event(&mut self, name: &'static str, data: Value) -> Event {
        let mut event = json!({ "type": name, "sequence_number": self.next });
        self.next += 1;
        if let (Value::Object(event), Value::Object(data)) = (&mut event, data) {
            event.extend(data);
        }
        Event { name, data: event }
    }

    /// The response as it stands.
    fn response(&self, status: &str) -> Value {
        let facts = &self.parts.facts;
        let mut response = json!({
            "id": self.id,
            "object": "response",
            "created_at": facts.created.unwrap_or(self.received),
            "status": status,
            "error": null,
            "incomplete_details": null,
            "output": self.output,
            "usage": null,
        });
        let members = response.as_object_mut().expect("the literal is an object");
        members.extend(self.echo.clone());
        if let Some(model) = &facts.model {
            members.insert("model".to_owned(), json!(model));
        }
        if let Some(tier) = &facts.service_tier {
            members.insert("service_tier".to_owned(), tier.clone());
        }
        response
    }

    fn begin(&mut self, events: &mut Vec<Event>) {
        if std::mem::replace(&mut self.begun, true) {
            return;
        }
        for name in ["response.created", "response.in_progress"] {
            let response = self.response("in_progress");
            events.push(self.event(name, json!({ "response": response })));
        }
    }

    fn step(&mut self, step: Step, status: &'static str, events: &mut Vec<Event>) {
        match step {
            Step::Begins(kind) => self.begin_part(kind, events),
            Step::Grows { text, logprobs } => self.grow(&text, logprobs, events),
            Step::Ends => self.end_part(status, events),
        }
    }

    fn begin_part(&mut self, kind: Kind, events: &mut Vec<Event>) {
        let refuses = kind == Kind::Refusal;
        match kind {
            Kind::Text | Kind::Refusal => {
                if !matches!(self.open, Some(Item { kind: ItemKind::Message { .. }, .. })) {
                    let kind = ItemKind::Message { content: Vec::new(), open: None };
                    self.begin_item("msg", kind, events);
                }
                if let Some(Item { kind: ItemKind::Message { open, .. }, .. }) = &mut self.open {
                    let part = open.insert(Part { refuses, text: String::new(), logprobs: Vec::new() });
                    let part = part.as_json();
                    self.content_part("response.content_part.added", part, events);
                }
            }
            Kind::Reasoning => {
                self.begin_item("rs", ItemKind::Reasoning { text: String::new() }, events);
                let part = json!({ "type": "reasoning_text", "text": "" });
                self.content_part("response.content_part.added", part, events);
            }
            Kind::Call { id: call_id, name } => {
                let kind = ItemKind::Call { call_id, name, arguments: String::new() };
                self.begin_item("fc", kind, events);
            }
        }
    }

    fn begin_item(&mut self, prefix: &str, kind: ItemKind, events: &mut Vec<Event>) {
        self.end_item("completed", events);
        let item = Item { id: format!("{prefix}_{}_{}", self.seed, self.output.len()), kind };
        let added = json!({ "output_index": self.output.len(), "item": item.as_json("in_progress") });
        self.open = Some(item);
        events.push(self.event("response.output_item.added", added));
    }

    /// Ends the item that is open, if one is.
    fn end_item(&mut self, status: &str, events: &mut Vec<Event>) {
        let Some(item) = self.open.take() else { return };
        let item = item.as_json(status);
        let done = json!({ "output_index": self.output.len(), "item": item });
        self.output.push(item);
        events.push(self.event("response.output_item.done", done));
    }

    fn grow(&mut self, text: &str, logprobs: Vec<Value>, events: &mut Vec<Event>) {
        let output_index = self.output.len();
        let Some(item) = &mut self.open else { return };
        let mut data = json!({ "item_id": item.id, "output_index": output_index, "delta": text });
        let name = match &mut item.kind {
            ItemKind::Message { content, open: Some(part) } => {
                part.text.push_str(text);
                data["content_index"] = json!(content.len());
                if part.refuses {
                    "response.refusal.delta"
                } else {
                    data["logprobs"] = json!(logprobs);
                    part.logprobs.extend(logprobs);
                    "response.output_text.delta"
                }
            }
            ItemKind::Message { open: None, .. } => return,
            ItemKind::Reasoning { text: told } => {
                told.push_str(text);
                data["content_index"] = json!(0);
                "response.reasoning_text.delta"
            }
            ItemKind::Call { arguments, .. } => {
                arguments.push_str(text);
                "response.function_call_arguments.delta"
            }
        };
        events.push(self.event(name, data));
    }

    /// Ends the part that is open. A message stays open: a refusal may follow its text.
    fn end_part(&mut self, status: &str, events: &mut Vec<Event>) {
        let output_index = self.output.len();
        let Some(item) = &mut self.open else { return };
        let mut data = json!({ "item_id": item.id, "output_index": output_index });
        match &mut item.kind {
            ItemKind::Message { content, open } => {
                let Some(part) = open.take() else { return };
                data["content_index"] = json!(content.len());
                let name = if part.refuses {
                    data["refusal"] = json!(part.text);
                    "response.refusal.done"
                } else {
                    data["text"] = json!(part.text);
                    data["logprobs"] = json!(part.logprobs);
                    "response.output_text.done"
                };
                let part = part.as_json();
                events.push(self.event(name, data));
                self.content_part("response.content_part.done", part.clone(), events);
                if let Some(Item { kind: ItemKind::Message { content, .. }, .. }) = &mut self.open {
                    content.push(part);
                }
            }
            ItemKind::Reasoning { text } => {
                let part = json!({ "type": "reasoning_text", "text": text });
                data["content_index"] = json!(0);
                data["text"] = json!(text);
                events.push(self.event("response.reasoning_text.done", data));
                self.content_part("response.content_part.done", part, events);
                self.end_item(status, events);
            }
            ItemKind::Call { arguments, name, .. } => {
                data["name"] = json!(name);
                data["arguments"] = json!(arguments);
                events.push(self.event("response.function_call_arguments.done", data));
                self.end_item(status, events);
            }
        }
    }

    fn content_part(&mut self, name: &'static str, part: Value, events: &mut Vec<Event>) {
        let Some(item) = &self.open else { return };
        let content_index = match &item.kind {
            ItemKind::Message { content, .. } => content.len(),
            ItemKind::Reasoning { .. } | ItemKind::Call { .. } => 0,
        };
        let data = json!({
            "item_id": item.id,
            "output_index": self.output.len(),
            "content_index": content_index,
            "part": part,
        });
        events.push(self.event(name, data));
    }
}

impl Item {
    fn as_json(&self, status: &str) -> Value {
        let id = &self.id;
        match &self.kind {
            ItemKind::Message { content, .. } => {
                json!({ "id": id, "type": "message", "status": status, "role": "assistant", "content": content })
            }
            ItemKind::Reasoning { text } => {
                let content: Vec<_> = (!text.is_empty())
                    .then(|| json!({ "type": "reasoning_text", "text": text }))
                    .into_iter()
                    .collect();
                json!({ "id": id, "type": "reasoning", "status": status, "summary": [], "content": content })
            }
            ItemKind::Call { call_id, name, arguments } => json!({
                "id": id, "type": "function_call", "status": status,
                "call_id": call_id, "name": name, "arguments": arguments,
            }),
        }
    }
}

impl Part {
    fn as_json(&self) -> Value {
        if self.refuses {
            json!({ "type": "refusal", "refusal": self.text })
        } else {
            json!({ "type": "output_text", "text": self.text, "annotations": [], "logprobs": self.logprobs })
        }
    }
}

impl Translation for Events {
    fn chunk(&mut self, chunk: &RawJson, events: &mut Vec<Event>) -> Result<(), Problem> {
        let mut steps = Vec::new();
        self.parts.chunk(chunk, &mut steps)?;
        self.begin(events);
        for step in steps {
            self.step(step, "completed", events);
        }
        Ok(())
    }

    fn end(&mut self, events: &mut Vec<Event>) -> Result<(), Problem> {
        let mut steps = Vec::new();
        self.parts.end(&mut steps)?;
        self.begin(events);
        let reason = match self.parts.finish() {
            Finish::Length => Some("max_output_tokens"),
            Finish::ContentFilter => Some("content_filter"),
            Finish::Stop | Finish::ToolCalls => None,
        };
        let status = if reason.is_some() { "incomplete" } else { "completed" };
        // What was cut off is what came last.
        let last = steps.len().saturating_sub(1);
        for (number, step) in steps.into_iter().enumerate() {
            let status = if number == last { status } else { "completed" };
            self.step(step, status, events);
        }
        self.end_item(status, events);
        let mut response = self.response(status);
        response["incomplete_details"] = reason.map_or(Value::Null, |reason| json!({ "reason": reason }));
        response["usage"] = self.parts.facts.usage.map_or(Value::Null, counted);
        self.ended = response.clone();
        let name = if reason.is_some() { "response.incomplete" } else { "response.completed" };
        events.push(self.event(name, json!({ "response": response })));
        Ok(())
    }

    fn failure(&mut self, problem: &Problem) -> Event {
        let code = match problem.code {
            ErrorCode::RateLimited | ErrorCode::QuotaExceeded => "rate_limit_exceeded",
            _ => "server_error",
        };
        if !self.begun {
            let data = json!({ "code": code, "message": problem.message, "param": problem.param });
            return self.event("error", data);
        }
        let mut response = self.response("failed");
        response["error"] = json!({ "code": code, "message": problem.message });
        self.event("response.failed", json!({ "response": response }))
    }

    fn idle(&self) -> Option<Event> {
        None
    }

    fn whole(self) -> Value {
        self.ended
    }
}

fn counted(usage: Usage) -> Value {
    json!({
        "input_tokens": usage.prompt,
        "input_tokens_details": { "cached_tokens": usage.cached, "cache_write_tokens": usage.cache_written },
        "output_tokens": usage.completion,
        "output_tokens_details": { "reasoning_tokens": usage.reasoning },
        "total_tokens": usage.total,
    })
}
