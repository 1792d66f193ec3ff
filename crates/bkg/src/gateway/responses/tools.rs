//! Tools and which of them the model may take, as a chat says it.
//!
//! The invariant: a schema reaches the plugin as it was written, in its order.

use serde_json::value::RawValue;
use serde_json::{Value, json};

use crate::error::Problem;
use crate::gateway::object::{Object, Placed};
use crate::gateway::{Members, raw};

/// The tools of a request.
#[derive(Debug)]
pub(super) struct Tools {
    /// As the chat has them.
    pub(super) tools: Vec<Members>,
    /// As the chat has the choice.
    pub(super) choice: Option<Box<RawValue>>,
    /// As the request had them.
    pub(super) asked: Vec<Box<RawValue>>,
    /// As the request had the choice.
    pub(super) asked_choice: Option<Box<RawValue>>,
}

/// Takes tools and choice out of a request.
pub(super) fn read(request: &mut Object) -> Result<Tools, Problem> {
    let mut read = Tools { tools: Vec::new(), choice: None, asked: Vec::new(), asked_choice: None };
    for tool in request.list("tools")?.into_iter().flatten() {
        read.asked.push(tool.value.clone());
        read.tools.push(function(tool)?);
    }
    if let Some(choice) = request.placed("tool_choice") {
        read.asked_choice = Some(choice.value.clone());
        let place = choice.place.clone();
        let (choice, demands) = chosen(choice)?;
        if demands && read.tools.is_empty() {
            return Err(Problem::invalid("`tool_choice` demands a tool, and `tools` has none").param(place));
        }
        read.choice = Some(choice);
    }
    Ok(read)
}

fn function(tool: Placed) -> Result<Members, Problem> {
    let mut tool = tool.object()?;
    if tool.need::<String>("type", "`function`")? != "function" {
        let why = "must be `function`: tools that run in the model's service, and custom ones, are not supported here";
        return Err(tool.refusal("type", why));
    }
    let mut function = Members::new();
    function.insert("name".to_owned(), raw(&tool.need::<String>("name", "a text")?));
    for name in ["description", "parameters", "strict"] {
        if let Some(value) = tool.raw(name) {
            function.insert(name.to_owned(), value);
        }
    }
    let mut told = Members::new();
    told.insert("type".to_owned(), raw("function"));
    told.insert("function".to_owned(), raw(&function));
    Ok(told)
}

/// The choice as a chat has it, and whether it demands that a tool is called.
fn chosen(choice: Placed) -> Result<(Box<RawValue>, bool), Problem> {
    let wrong = "must be `none`, `auto`, `required`, a function or a list of allowed functions";
    if let Some(word) = choice.text() {
        return match word.as_str() {
            "none" | "auto" => Ok((raw(&word), false)),
            "required" => Ok((raw(&word), true)),
            _ => Err(choice.refusal(wrong)),
        };
    }
    let mut choice = choice.object()?;
    match choice.need::<String>("type", "a text")?.as_str() {
        "function" => Ok((raw(&named(&mut choice)?), true)),
        "allowed_tools" => {
            let mode: String = choice.need("mode", "`auto` or `required`")?;
            let mut tools = Vec::new();
            for tool in choice.list("tools")?.into_iter().flatten() {
                let mut tool = tool.object()?;
                if tool.need::<String>("type", "`function`")? != "function" {
                    return Err(tool.refusal("type", "must be `function`: there are no other tools here"));
                }
                tools.push(named(&mut tool)?);
            }
            let allowed =
                json!({ "type": "allowed_tools", "allowed_tools": { "mode": mode, "tools": tools } });
            Ok((raw(&allowed), mode == "required"))
        }
        _ => {
            Err(choice
                .refusal("type", "must be `function` or `allowed_tools`: there are no other tools here"))
        }
    }
}

fn named(choice: &mut Object) -> Result<Value, Problem> {
    let name: String = choice.need("name", "a text")?;
    Ok(json!({ "type": "function", "function": { "name": name } }))
}
