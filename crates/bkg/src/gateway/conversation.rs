//! The messages of a chat, as a translation puts them together.
//!
//! Not what any interface calls them. The invariants: the calls of one turn stand in one assistant message,
//! their results follow it directly, and images that a result carried come in a message of the user after
//! all results: a chat's result is text.

use serde_json::{Map, Value, json};

/// Messages on their way into a chat.
#[derive(Debug, Default)]
pub(super) struct Conversation {
    messages: Vec<Value>,
    /// What the assistant says in the turn that is being read.
    turn: Option<Turn>,
    /// What results carried besides text.
    carried: Vec<Value>,
}

#[derive(Debug, Default)]
struct Turn {
    text: Option<String>,
    refusal: Option<String>,
    calls: Vec<Value>,
}

impl Conversation {
    /// A message of anybody but the assistant; `content` is a text or a list of parts. What results carried
    /// and what the user says to it is one message: some servers want user and assistant in turns.
    pub(super) fn says(&mut self, role: &str, mut content: Value) {
        if role == "user" && !self.carried.is_empty() {
            match content {
                Value::Array(parts) => self.carried.extend(parts),
                text => self.carried.push(json!({ "type": "text", "text": text })),
            }
            content = Value::Array(std::mem::take(&mut self.carried));
        }
        self.settle();
        self.messages.push(json!({ "role": role, "content": content }));
    }

    /// The assistant says something. Beside calls that have no results yet, it is a part of the same turn.
    pub(super) fn assistant(&mut self, text: Option<String>, refusal: Option<String>) {
        if self.turn.as_ref().is_none_or(|turn| turn.calls.is_empty() || turn.text.is_some()) {
            self.settle();
        }
        self.give_back();
        let turn = self.turn.get_or_insert_default();
        turn.text = text;
        turn.refusal = refusal;
    }

    /// The assistant wants a function called.
    pub(super) fn call(&mut self, id: &str, name: &str, arguments: &str) {
        self.give_back();
        let function = json!({ "name": name, "arguments": arguments });
        let call = json!({ "id": id, "type": "function", "function": function });
        self.turn.get_or_insert_default().calls.push(call);
    }

    /// What a call gave: its text, and parts that a result of a chat cannot hold.
    pub(super) fn result(&mut self, call_id: &str, mut text: String, carried: Vec<Value>) {
        self.end_turn();
        if !carried.is_empty() && text.is_empty() {
            "[see the next message]".clone_into(&mut text);
        }
        self.messages.push(json!({ "role": "tool", "tool_call_id": call_id, "content": text }));
        self.carried.extend(carried);
    }

    /// All messages.
    pub(super) fn into_messages(mut self) -> Vec<Value> {
        self.settle();
        self.messages
    }

    fn settle(&mut self) {
        self.end_turn();
        self.give_back();
    }

    fn end_turn(&mut self) {
        let Some(turn) = self.turn.take() else { return };
        let mut message = Map::new();
        message.insert("role".to_owned(), json!("assistant"));
        // Null stands for what is said elsewhere in the message alone.
        let silent = turn.calls.is_empty() && turn.refusal.is_none();
        message.insert("content".to_owned(), json!(turn.text.or(silent.then(String::new))));
        if let Some(refusal) = turn.refusal {
            message.insert("refusal".to_owned(), json!(refusal));
        }
        if !turn.calls.is_empty() {
            message.insert("tool_calls".to_owned(), json!(turn.calls));
        }
        self.messages.push(Value::Object(message));
    }

    fn give_back(&mut self) {
        if !self.carried.is_empty() {
            let content = std::mem::take(&mut self.carried);
            self.messages.push(json!({ "role": "user", "content": content }));
        }
    }
}

/// Parts as a message has them: one text alone is the text, which every server reads.
pub(super) fn content(mut parts: Vec<Value>) -> Value {
    match parts.as_mut_slice() {
        [part] if part["type"] == "text" => part["text"].take(),
        _ => Value::Array(parts),
    }
}
