//! A chat's answer as the events of a message, and the message that they amount to.
//!
//! The invariants: blocks come one after the other, each with its start and its stop, and `message_stop`
//! comes after a good end alone. An `error` event is the last word of any other.

use std::sync::Arc;

use bkg_protocol::RawJson;
use serde_json::{Value, json};

use super::count;
use super::request::Answered;
use crate::error::Problem;
use crate::gateway::chat;
use crate::gateway::parts::{Finish, Kind, Parts, Step, Usage};
use crate::gateway::translation::{Event, Translation};

/// The events of one message.
#[derive(Debug)]
pub(super) struct Events {
    id: String,
    answered: Answered,
    /// The estimate of the prompt, for plugins that count nothing.
    prompt: u64,
    request_id: Option<Arc<str>>,
    parts: Parts,
    begun: bool,
    /// Blocks that have stopped.
    content: Vec<Value>,
    open: Option<Block>,
    refused: Option<String>,
    /// How much the model has written, in bytes.
    written: u64,
    /// The whole message.
    ended: Value,
}

/// The block that is being told.
#[derive(Debug)]
struct Block {
    kind: Kind,
    /// What it says; of a call, its arguments.
    text: String,
}

impl Events {
    /// A message that has not begun. Its ids are made of `seed`; `prompt` is the estimate of what it answers.
    pub(super) fn new(seed: &str, answered: Answered, prompt: u64, request_id: Option<Arc<str>>) -> Self {
        Self {
            id: format!("msg_{seed}"),
            answered,
            prompt,
            request_id,
            parts: Parts::new(seed),
            begun: false,
            content: Vec::new(),
            open: None,
            refused: None,
            written: 0,
            ended: Value::Null,
        }
    }

    fn begin(&mut self, events: &mut Vec<Event>) {
        if std::mem::replace(&mut self.begun, true) {
            return;
        }
        // What was used is known at the end; `message_delta` has it.
        let usage = self.parts.facts.usage.unwrap_or_default();
        let message = self.message(Vec::new(), Value::Null, counted(usage));
        events.push(event("message_start", json!({ "message": message })));
        events.push(event("ping", json!({})));
    }

    fn message(&self, content: Vec<Value>, end: Value, usage: Value) -> Value {
        let model = self.parts.facts.model.as_ref().unwrap_or(&self.answered.model);
        let mut message = json!({
            "id": self.id, "type": "message", "role": "assistant", "model": model, "content": content,
            "stop_reason": null, "stop_sequence": null, "stop_details": null,
        });
        let members = message.as_object_mut().expect("the literal is an object");
        if let Value::Object(end) = end {
            members.extend(end);
        }
        members.insert("usage".to_owned(), usage);
        message
    }

    fn step(&mut self, step: Step, events: &mut Vec<Event>) -> Result<(), Problem> {
        match step {
            Step::Begins(Kind::Reasoning) if !self.answered.thinking => {}
            Step::Begins(kind) => {
                let block = Block { kind, text: String::new() };
                let started = json!({ "index": self.content.len(), "content_block": block.at_its_start() });
                events.push(event("content_block_start", started));
                self.open = Some(block);
            }
            Step::Grows { text, .. } => {
                self.written += text.len() as u64;
                let Some(block) = &mut self.open else { return Ok(()) };
                block.text.push_str(&text);
                let delta = match block.kind {
                    Kind::Text | Kind::Refusal => json!({ "type": "text_delta", "text": text }),
                    Kind::Reasoning => json!({ "type": "thinking_delta", "thinking": text }),
                    Kind::Call { .. } => json!({ "type": "input_json_delta", "partial_json": text }),
                };
                events.push(event(
                    "content_block_delta",
                    json!({ "index": self.content.len(), "delta": delta }),
                ));
            }
            Step::Ends => {
                let Some(block) = self.open.take() else { return Ok(()) };
                if block.kind == Kind::Refusal {
                    self.refused.get_or_insert_default().push_str(&block.text);
                }
                let whole = block.whole(self.parts.finish() == Finish::Length)?;
                events.push(event("content_block_stop", json!({ "index": self.content.len() })));
                self.content.push(whole);
            }
        }
        Ok(())
    }

    /// Why the message is over.
    fn stop(&self) -> Value {
        let facts = &self.parts.facts;
        let sequence = facts.stopped_by.as_ref().filter(|by| self.answered.stop_sequences.contains(by));
        let (reason, sequence) = match self.parts.finish() {
            _ if self.refused.is_some() => ("refusal", None),
            Finish::ContentFilter => ("refusal", None),
            Finish::Length => ("max_tokens", None),
            Finish::ToolCalls => ("tool_use", None),
            Finish::Stop if sequence.is_some() => ("stop_sequence", sequence),
            Finish::Stop => ("end_turn", None),
        };
        let details = (reason == "refusal")
            .then(|| json!({ "type": "refusal", "category": null, "explanation": self.refused }));
        json!({ "stop_reason": reason, "stop_sequence": sequence, "stop_details": details })
    }

    fn usage(&self) -> Value {
        match self.parts.facts.usage {
            Some(usage) => counted(usage),
            None => {
                let completion = count::of_bytes(self.written);
                let mut usage = counted(Usage { prompt: self.prompt, completion, ..Usage::default() });
                usage["estimated"] = json!(true);
                usage
            }
        }
    }
}

impl Block {
    fn at_its_start(&self) -> Value {
        match &self.kind {
            Kind::Text | Kind::Refusal => json!({ "type": "text", "text": "" }),
            Kind::Reasoning => json!({ "type": "thinking", "thinking": "", "signature": "" }),
            Kind::Call { id, name } => json!({ "type": "tool_use", "id": id, "name": name, "input": {} }),
        }
    }

    /// The block as the whole message has it. `cut` says that the model was not let go on: then the
    /// arguments of its last call may be no JSON, and nobody can know them.
    fn whole(self, cut: bool) -> Result<Value, Problem> {
        let mut block = self.at_its_start();
        match self.kind {
            Kind::Text | Kind::Refusal => block["text"] = json!(self.text),
            Kind::Reasoning => block["thinking"] = json!(self.text),
            Kind::Call { name, .. } => {
                let input = if self.text.trim().is_empty() {
                    Ok(json!({}))
                } else {
                    serde_json::from_str(&self.text)
                };
                match input {
                    Ok(Value::Object(input)) => block["input"] = Value::Object(input),
                    _ if cut => {}
                    _ => {
                        let why = format!("the arguments for `{name}` are no JSON object");
                        return Err(chat::no_completion(&why));
                    }
                }
            }
        }
        Ok(block)
    }
}

impl Translation for Events {
    fn chunk(&mut self, chunk: &RawJson, events: &mut Vec<Event>) -> Result<(), Problem> {
        let mut steps = Vec::new();
        self.parts.chunk(chunk, &mut steps)?;
        self.begin(events);
        steps.into_iter().try_for_each(|step| self.step(step, events))
    }

    fn end(&mut self, events: &mut Vec<Event>) -> Result<(), Problem> {
        let mut steps = Vec::new();
        self.parts.end(&mut steps)?;
        self.begin(events);
        steps.into_iter().try_for_each(|step| self.step(step, events))?;
        let (stop, usage) = (self.stop(), self.usage());
        let content = std::mem::take(&mut self.content);
        self.ended = self.message(content, stop.clone(), usage.clone());
        events.push(event("message_delta", json!({ "delta": stop, "usage": usage })));
        events.push(event("message_stop", json!({})));
        Ok(())
    }

    fn failure(&mut self, problem: &Problem) -> Event {
        Event { name: "error", data: problem.anthropic_body(self.request_id.as_deref()) }
    }

    fn idle(&self) -> Option<Event> {
        Some(event("ping", json!({})))
    }

    fn whole(self) -> Value {
        self.ended
    }
}

fn event(name: &'static str, data: Value) -> Event {
    let mut event = json!({ "type": name });
    if let (Value::Object(event), Value::Object(data)) = (&mut event, data) {
        event.extend(data);
    }
    Event { name, data: event }
}

/// Anthropic counts what a cache held apart from the rest of the input.
fn counted(usage: Usage) -> Value {
    let rest = usage.prompt.saturating_sub(usage.cached).saturating_sub(usage.cache_written);
    json!({
        "input_tokens": rest,
        "cache_creation_input_tokens": usage.cache_written,
        "cache_read_input_tokens": usage.cached,
        "output_tokens": usage.completion,
        "output_tokens_details": { "thinking_tokens": usage.reasoning },
    })
}
