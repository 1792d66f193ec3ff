//! Tools and which of them the model may take, as a chat says it.
//!
//! The invariant: a schema reaches the plugin as it was written, in its order.

use serde_json::json;

use crate::error::Problem;
use crate::gateway::object::{Object, Placed};
use crate::gateway::{Members, raw};

/// Takes tools and choice out of a request and puts them into the chat.
pub(super) fn read(request: &mut Object, chat: &mut Members) -> Result<(), Problem> {
    let tools = request.list("tools")?.into_iter().flatten().map(function);
    let tools = tools.collect::<Result<Vec<_>, _>>()?;
    let has_tools = !tools.is_empty();
    if has_tools {
        chat.insert("tools".to_owned(), raw(&tools));
    }
    let Some(mut choice) = request.object("tool_choice")? else { return Ok(()) };
    let kind: String = choice.need("type", "`auto`, `any`, `tool` or `none`")?;
    let (chosen, demands) = match kind.as_str() {
        "auto" => (json!("auto"), false),
        "none" => (json!("none"), false),
        "any" => (json!("required"), true),
        "tool" => {
            let name: String = choice.need("name", "a text")?;
            (json!({ "type": "function", "function": { "name": name } }), true)
        }
        _ => return Err(choice.refusal("type", "must be `auto`, `any`, `tool` or `none`")),
    };
    if demands && !has_tools {
        return Err(request.refusal("tool_choice", "demands a tool, and `tools` has none"));
    }
    let one_at_a_time = choice.take::<bool>("disable_parallel_tool_use", "true or false")?;
    if has_tools {
        chat.insert("tool_choice".to_owned(), raw(&chosen));
        if let Some(one_at_a_time) = one_at_a_time {
            chat.insert("parallel_tool_calls".to_owned(), raw(&!one_at_a_time));
        }
    }
    Ok(())
}

fn function(tool: Placed) -> Result<Members, Problem> {
    let mut tool = tool.object()?;
    if tool.take::<String>("type", "a text")?.is_some_and(|kind| kind != "custom") {
        let why = "must be `custom` or absent: tools that Anthropic defines or runs are not supported here";
        return Err(tool.refusal("type", why));
    }
    let mut function = Members::new();
    function.insert("name".to_owned(), raw(&tool.need::<String>("name", "a text")?));
    for (name, theirs) in
        [("description", "description"), ("parameters", "input_schema"), ("strict", "strict")]
    {
        if let Some(value) = tool.raw(theirs) {
            function.insert(name.to_owned(), value);
        }
    }
    let mut told = Members::new();
    told.insert("type".to_owned(), raw("function"));
    told.insert("function".to_owned(), raw(&function));
    Ok(told)
}
