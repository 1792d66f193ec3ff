//! The messages and their blocks as messages of a chat.
//!
//! The invariant: every block becomes a part of the conversation or is refused by its place, but for
//! thinking, which a chat has no place for. `cache_control` has no effect: servers cache by themselves.

use serde_json::value::RawValue;
use serde_json::{Value, json};

use crate::error::Problem;
use crate::gateway::conversation::{Conversation, content};
use crate::gateway::object::{Object, Placed};

/// The messages of the chat.
pub(super) fn messages(system: Option<Placed>, messages: Vec<Placed>) -> Result<Vec<Value>, Problem> {
    let mut conversation = Conversation::default();
    if let Some(system) = system {
        conversation.says("system", json!(texts(system)?));
    }
    for message in messages {
        let mut message = message.object()?;
        let role: String = message.need("role", "`user`, `assistant` or `system`")?;
        let Some(said) = message.placed("content") else {
            return Err(message.refusal("content", "is missing: it must be a text or a list of blocks"));
        };
        match role.as_str() {
            "user" => user(said, &mut conversation)?,
            "assistant" => assistant(said, &mut conversation)?,
            "system" => conversation.says("system", json!(texts(said)?)),
            _ => return Err(message.refusal("role", "must be `user`, `assistant` or `system`")),
        }
    }
    Ok(conversation.into_messages())
}

/// A text, or blocks of text with a blank line between.
fn texts(said: Placed) -> Result<String, Problem> {
    if let Some(text) = said.text() {
        return Ok(text);
    }
    let mut texts = Vec::new();
    for block in said.list()? {
        let mut block = block.object()?;
        if block.need::<String>("type", "`text`")? != "text" {
            return Err(block.refusal("type", "must be `text`"));
        }
        texts.push(block.need::<String>("text", "a text")?);
    }
    Ok(texts.join("\n\n"))
}

fn user(said: Placed, conversation: &mut Conversation) -> Result<(), Problem> {
    if let Some(text) = said.text() {
        conversation.says("user", json!(text));
        return Ok(());
    }
    let mut parts = Vec::new();
    for block in said.list()? {
        let mut block = block.object()?;
        let kind: String = block.need("type", "a text")?;
        if kind != "tool_result" {
            parts.push(part(block, &kind)?);
            continue;
        }
        if !parts.is_empty() {
            return Err(
                block.refusal("type", "must not be `tool_result` after other blocks: results come first")
            );
        }
        let id: String = block.need("tool_use_id", "a text")?;
        let failed = block.take::<bool>("is_error", "true or false")?.unwrap_or(false);
        let (text, carried) = match block.placed("content") {
            Some(content) => result(content)?,
            None => Default::default(),
        };
        // A chat's result cannot say otherwise that the call failed.
        let text = if failed { format!("Error: {text}") } else { text };
        conversation.result(&id, text, carried);
    }
    if !parts.is_empty() {
        conversation.says("user", content(parts));
    }
    Ok(())
}

/// What a tool gave: its text, and the images and documents that it gave besides.
fn result(said: Placed) -> Result<(String, Vec<Value>), Problem> {
    if let Some(text) = said.text() {
        return Ok((text, Vec::new()));
    }
    let (mut texts, mut carried) = (Vec::new(), Vec::new());
    for block in said.list()? {
        let mut block = block.object()?;
        let kind: String = block.need("type", "a text")?;
        let mut part = part(block, &kind)?;
        match part.get_mut("text").map(Value::take) {
            Some(Value::String(text)) => texts.push(text),
            _ => carried.push(part),
        }
    }
    Ok((texts.join("\n"), carried))
}

/// One block of a user's message, as a chat has it.
fn part(mut block: Object, kind: &str) -> Result<Value, Problem> {
    match kind {
        "text" => Ok(json!({ "type": "text", "text": block.need::<String>("text", "a text")? })),
        "image" => {
            let mut source = source(&mut block)?;
            let url = match source.need::<String>("type", "`base64` or `url`")?.as_str() {
                "base64" => data_url(&mut source)?,
                "url" => source.need::<String>("url", "a text")?,
                _ => return Err(not_kept(&source)),
            };
            Ok(json!({ "type": "image_url", "image_url": { "url": url } }))
        }
        "document" => {
            let title = block.take::<String>("title", "a text")?;
            let mut source = source(&mut block)?;
            match source.need::<String>("type", "`base64` or `text`")?.as_str() {
                "base64" => {
                    let name = title.unwrap_or_else(|| "document.pdf".to_owned());
                    let file = json!({ "filename": name, "file_data": data_url(&mut source)? });
                    Ok(json!({ "type": "file", "file": file }))
                }
                "text" => Ok(json!({ "type": "text", "text": source.need::<String>("data", "a text")? })),
                _ => Err(not_kept(&source)),
            }
        }
        _ => Err(unsupported(&block, kind)),
    }
}

fn source(block: &mut Object) -> Result<Object, Problem> {
    block.object("source")?.ok_or_else(|| block.refusal("source", "is missing: it must be an object"))
}

fn data_url(source: &mut Object) -> Result<String, Problem> {
    let media_type: String = source.need("media_type", "a text")?;
    let data: String = source.need("data", "base64")?;
    Ok(format!("data:{media_type};base64,{data}"))
}

fn not_kept(source: &Object) -> Problem {
    source.refusal(
        "type",
        "is not supported here: files are neither kept nor fetched, so send the data itself",
    )
}

fn unsupported(block: &Object, kind: &str) -> Problem {
    block.refusal("type", &format!("`{}` is not supported here", kind.escape_debug()))
}

fn assistant(said: Placed, conversation: &mut Conversation) -> Result<(), Problem> {
    if let Some(text) = said.text() {
        conversation.assistant(Some(text), None);
        return Ok(());
    }
    let (mut text, mut calls) = (None::<String>, Vec::new());
    for block in said.list()? {
        let mut block = block.object()?;
        let kind: String = block.need("type", "a text")?;
        match kind.as_str() {
            "text" => text.get_or_insert_default().push_str(&block.need::<String>("text", "a text")?),
            "tool_use" => {
                let id: String = block.need("id", "a text")?;
                let name: String = block.need("name", "a text")?;
                let input = block.need::<Box<RawValue>>("input", "an object")?;
                calls.push((id, name, input));
            }
            "thinking" | "redacted_thinking" => {}
            other => return Err(unsupported(&block, other)),
        }
    }
    if text.is_some() || calls.is_empty() {
        conversation.assistant(text, None);
    }
    for (id, name, input) in calls {
        conversation.call(&id, &name, input.get());
    }
    Ok(())
}
