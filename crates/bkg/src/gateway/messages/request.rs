//! The request: what of it a chat knows, what the answer depends on, and what is refused.
//!
//! The invariant: every member is translated, passed on, without effect by its own meaning, or refused by
//! name; none is lost in silence.

use bkg_protocol::RawJson;
use serde_json::value::RawValue;

use super::{content, tools};
use crate::error::Problem;
use crate::gateway::object::{Object, Unsupported};
use crate::gateway::{Members, raw};

/// Members that a chat has under the same name and with the same meaning.
const PASSED: [&str; 4] = ["stream", "temperature", "top_k", "top_p"];

const ELSEWHERE: &str = "is not supported here: it belongs to a service of Anthropic's";

const REFUSED: [Unsupported; 8] = [
    Unsupported { name: "container", nothing: &[], why: ELSEWHERE },
    Unsupported { name: "diagnostics", nothing: &["{}"], why: ELSEWHERE },
    Unsupported { name: "fallbacks", nothing: &["[]"], why: ELSEWHERE },
    Unsupported { name: "inference_geo", nothing: &[], why: ELSEWHERE },
    Unsupported { name: "mcp_servers", nothing: &["[]"], why: ELSEWHERE },
    Unsupported { name: "speed", nothing: &["\"standard\""], why: "must be `standard`" },
    Unsupported { name: "user_profile_id", nothing: &[], why: ELSEWHERE },
    Unsupported { name: "workspace_id", nothing: &[], why: ELSEWHERE },
];

/// Below this budget for thinking, the model is asked to think little; from the other on, much.
const BUDGETS: (u64, u64) = (4_096, 16_384);

/// A request that can be asked of a plugin.
#[derive(Debug)]
pub(super) struct Request {
    /// The payload of `llm.chat`.
    pub(super) chat: RawJson,
    pub(super) answer: Answered,
}

/// What the answer depends on.
#[derive(Debug)]
pub(super) struct Answered {
    /// The model that was asked for, for plugins that do not name it.
    pub(super) model: String,
    /// Whether what the model says to itself is told.
    pub(super) thinking: bool,
    pub(super) stop_sequences: Vec<String>,
}

/// Reads a request.
///
/// # Errors
/// What cannot be honoured, with its place.
pub(super) fn read(body: &RawJson) -> Result<Request, Problem> {
    let mut request = Object::of_body(body)?;
    let mut chat = Members::new();
    let model = request.take::<String>("model", "a text")?;
    if let Some(model) = &model {
        chat.insert("model".to_owned(), raw(model));
    }
    let most: u64 = request.need("max_tokens", "a number of tokens, at least 1")?;
    if most == 0 {
        return Err(request.refusal("max_tokens", "must be at least 1"));
    }
    chat.insert("max_completion_tokens".to_owned(), raw(&most));
    let thinking = prompt(&mut request, &mut chat)?;
    for name in PASSED {
        if let Some(value) = request.raw(name) {
            chat.insert(name.to_owned(), value);
        }
    }
    let stop_sequences =
        request.take::<Vec<String>>("stop_sequences", "a list of texts")?.unwrap_or_default();
    if !stop_sequences.is_empty() {
        chat.insert("stop".to_owned(), raw(&stop_sequences));
    }
    if let Some(mut metadata) = request.object("metadata")?
        && let Some(user) = metadata.take::<String>("user_id", "a text")?
    {
        chat.insert("user".to_owned(), raw(&user));
    }
    match request.take::<String>("service_tier", "`auto` or `standard_only`")?.as_deref() {
        None | Some("auto") => {}
        Some("standard_only") => drop(chat.insert("service_tier".to_owned(), raw("default"))),
        Some(_) => return Err(request.refusal("service_tier", "must be `auto` or `standard_only`")),
    }
    refuse_rest(request)?;
    let answer = Answered { model: model.unwrap_or_default(), thinking, stop_sequences };
    Ok(Request { chat: RawJson::of(&chat), answer })
}

/// Reads a request that is only to be counted.
///
/// # Errors
/// What cannot be honoured, with its place.
pub(super) fn read_prompt(body: &RawJson) -> Result<RawJson, Problem> {
    let mut request = Object::of_body(body)?;
    let mut chat = Members::new();
    request.need::<String>("model", "a name that `/v1/models` lists")?;
    prompt(&mut request, &mut chat)?;
    refuse_rest(request)?;
    Ok(RawJson::of(&chat))
}

/// Translates what the model reads, and how hard it thinks about it; whether that is told, comes back.
fn prompt(request: &mut Object, chat: &mut Members) -> Result<bool, Problem> {
    request.refuse_all(&REFUSED)?;
    context_management(request)?;
    let system = request.placed("system");
    let Some(messages) = request.list("messages")? else {
        return Err(request.refusal("messages", "is missing: it must be a list of messages"));
    };
    if messages.is_empty() {
        return Err(request.refusal("messages", "must have at least one message"));
    }
    chat.insert("messages".to_owned(), raw(&content::messages(system, messages)?));
    tools::read(request, chat)?;
    let (told, mut effort) = thinking(request)?;
    // An older name of what `output_config` has now.
    let mut format = request.object("output_format")?;
    if let Some(mut output) = request.object("output_config")? {
        effort = output.take::<String>("effort", "a text")?.or(effort);
        format = output.object("format")?.or(format);
    }
    if let Some(effort) = effort {
        chat.insert("reasoning_effort".to_owned(), raw(&effort));
    }
    if let Some(format) = format {
        chat.insert("response_format".to_owned(), response_format(format)?);
    }
    // Servers cache by themselves.
    request.raw("cache_control");
    Ok(told)
}

/// What is to be left out of the conversation. Thinking is left out anyway.
fn context_management(request: &mut Object) -> Result<(), Problem> {
    let Some(mut managed) = request.object("context_management")? else { return Ok(()) };
    for edit in managed.list("edits")?.into_iter().flatten() {
        let mut edit = edit.object()?;
        if !edit.need::<String>("type", "a text")?.starts_with("clear_thinking_") {
            let why = "is not supported here: nothing but thinking is left out of a conversation";
            return Err(edit.refusal("type", why));
        }
    }
    Ok(())
}

/// Whether thinking is told, and how hard it is to be.
fn thinking(request: &mut Object) -> Result<(bool, Option<String>), Problem> {
    let Some(mut thinking) = request.object("thinking")? else { return Ok((false, None)) };
    let told = thinking
        .take::<String>("display", "`summarized` or `omitted`")?
        .is_none_or(|word| word != "omitted");
    match thinking.need::<String>("type", "a text")?.as_str() {
        "enabled" => {
            let budget: u64 = thinking.need("budget_tokens", "a number")?;
            let effort = match budget {
                few if few < BUDGETS.0 => "low",
                some if some < BUDGETS.1 => "medium",
                _ => "high",
            };
            Ok((told, Some(effort.to_owned())))
        }
        "adaptive" | "between_tools" => Ok((told, None)),
        "disabled" => Ok((false, None)),
        _ => Err(thinking.refusal("type", "must be `enabled`, `adaptive`, `between_tools` or `disabled`")),
    }
}

/// The `response_format` of a chat, which has a name that Anthropic's form lacks.
fn response_format(mut format: Object) -> Result<Box<RawValue>, Problem> {
    if format.need::<String>("type", "`json_schema`")? != "json_schema" {
        return Err(format.refusal("type", "must be `json_schema`"));
    }
    let mut schema = Members::new();
    schema.insert("name".to_owned(), raw("output"));
    schema.insert("schema".to_owned(), format.need("schema", "a JSON Schema")?);
    schema.insert("strict".to_owned(), raw(&true));
    let mut wanted = Members::new();
    wanted.insert("type".to_owned(), raw("json_schema"));
    wanted.insert("json_schema".to_owned(), raw(&schema));
    Ok(raw(&wanted))
}

fn refuse_rest(request: Object) -> Result<(), Problem> {
    match request.untaken().next() {
        None => Ok(()),
        Some(unknown) => {
            let why = "is not known here: a chat has nothing like it, so leave it out";
            Err(request.refusal(unknown, why))
        }
    }
}
