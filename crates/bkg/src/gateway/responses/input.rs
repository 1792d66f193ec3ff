//! The input items as messages of a chat.
//!
//! The invariant: every item becomes a part of the conversation or is refused by its place, but for
//! reasoning, which a chat has no place for and which a model does not need to read again.

use serde_json::{Value, json};

use crate::error::Problem;
use crate::gateway::conversation::{Conversation, content};
use crate::gateway::object::{Object, Placed};

/// The messages of the chat.
pub(super) fn messages(instructions: Option<String>, input: Placed) -> Result<Vec<Value>, Problem> {
    let mut conversation = Conversation::default();
    if let Some(instructions) = instructions {
        conversation.says("system", json!(instructions));
    }
    if let Some(text) = input.text() {
        conversation.says("user", json!(text));
        return Ok(conversation.into_messages());
    }
    if !input.value.get().starts_with('[') {
        return Err(input.refusal("must be a text or a list of items"));
    }
    for value in input.list()? {
        item(value.object()?, &mut conversation)?;
    }
    Ok(conversation.into_messages())
}

fn item(mut item: Object, conversation: &mut Conversation) -> Result<(), Problem> {
    let kind = item.take::<String>("type", "a text")?;
    match kind.as_deref() {
        None | Some("message") => message(item, conversation),
        Some("function_call") => {
            let (id, name): (String, String) =
                (item.need("call_id", "a text")?, item.need("name", "a text")?);
            conversation.call(&id, &name, &item.need::<String>("arguments", "a text")?);
            Ok(())
        }
        Some("function_call_output") => {
            let id: String = item.need("call_id", "a text")?;
            let Some(output) = item.placed("output") else {
                return Err(item.refusal("output", "is missing: it must be a text or a list of parts"));
            };
            let (text, carried) = result(output)?;
            conversation.result(&id, text, carried);
            Ok(())
        }
        Some("reasoning") => Ok(()),
        Some("item_reference") => {
            let why =
                "cannot be `item_reference`: nothing is kept between requests, so send the item itself";
            Err(item.refusal("type", why))
        }
        Some(other) => {
            Err(item.refusal("type", &format!("`{}` is not supported here", other.escape_debug())))
        }
    }
}

fn message(mut item: Object, conversation: &mut Conversation) -> Result<(), Problem> {
    let role: String = item.need("role", "`user`, `assistant`, `system` or `developer`")?;
    let Some(said) = item.placed("content") else {
        return Err(item.refusal("content", "is missing: it must be a text or a list of parts"));
    };
    match role.as_str() {
        "assistant" => {
            let (text, refusal) = spoken(said)?;
            conversation.assistant(text, refusal);
        }
        "user" | "system" | "developer" => match said.text() {
            Some(text) => conversation.says(&role, json!(text)),
            None => {
                let parts = said.list()?.into_iter().map(|said| part(said.object()?));
                let parts = parts.collect::<Result<Vec<_>, _>>()?;
                conversation.says(&role, content(parts));
            }
        },
        _ => return Err(item.refusal("role", "must be `user`, `assistant`, `system` or `developer`")),
    }
    Ok(())
}

/// What the assistant has said: text, and why it said none.
fn spoken(said: Placed) -> Result<(Option<String>, Option<String>), Problem> {
    if let Some(text) = said.text() {
        return Ok((Some(text), None));
    }
    let (mut text, mut refusal) = (None::<String>, None::<String>);
    for part in said.list()? {
        let mut part = part.object()?;
        match part.need::<String>("type", "a text")?.as_str() {
            "output_text" | "input_text" | "text" => {
                text.get_or_insert_default().push_str(&part.need::<String>("text", "a text")?);
            }
            "refusal" => {
                refusal.get_or_insert_default().push_str(&part.need::<String>("refusal", "a text")?);
            }
            _ => return Err(part.refusal("type", "must be `output_text` or `refusal`")),
        }
    }
    Ok((text, refusal))
}

/// What a function gave: its text, and the images and files that it gave besides.
fn result(output: Placed) -> Result<(String, Vec<Value>), Problem> {
    if let Some(text) = output.text() {
        return Ok((text, Vec::new()));
    }
    let (mut text, mut carried) = (String::new(), Vec::new());
    for value in output.list()? {
        let part = part(value.object()?)?;
        match part["text"].as_str() {
            Some(more) => text.push_str(more),
            None => carried.push(part),
        }
    }
    Ok((text, carried))
}

/// One part of a message, as a chat has it.
fn part(mut part: Object) -> Result<Value, Problem> {
    match part.need::<String>("type", "a text")?.as_str() {
        "input_text" | "output_text" | "text" => {
            Ok(json!({ "type": "text", "text": part.need::<String>("text", "a text")? }))
        }
        "input_image" => {
            let Some(url) = part.take::<String>("image_url", "a text: an address or a data URL")? else {
                let why =
                    "is missing: files are not kept here, so send the image as an address or a data URL";
                return Err(part.refusal("image_url", why));
            };
            let mut image = json!({ "url": url });
            if let Some(detail) = part.take::<String>("detail", "a text")? {
                image["detail"] = json!(detail);
            }
            Ok(json!({ "type": "image_url", "image_url": image }))
        }
        "input_file" => {
            let Some(data) = part.take::<String>("file_data", "a text")? else {
                let why = "is missing: files are neither kept nor fetched here, so send the file itself";
                return Err(part.refusal("file_data", why));
            };
            let mut file = json!({ "file_data": data });
            if let Some(name) = part.take::<String>("filename", "a text")? {
                file["filename"] = json!(name);
            }
            Ok(json!({ "type": "file", "file": file }))
        }
        "input_audio" => Ok(
            json!({ "type": "input_audio", "input_audio": part.need::<Value>("input_audio", "an object")? }),
        ),
        _ => {
            let why = "must be `input_text`, `input_image`, `input_file` or `input_audio`";
            Err(part.refusal("type", why))
        }
    }
}
