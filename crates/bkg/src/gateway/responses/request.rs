//! The request: what of it a chat knows, what a client reads again in the answer, and what is refused.
//!
//! The invariant: every member is translated, passed on, without effect by its own meaning, or refused by
//! name; none is lost in silence.

use bkg_protocol::RawJson;
use serde_json::value::RawValue;
use serde_json::{Map, Value, json};

use super::{input, tools};
use crate::error::Problem;
use crate::gateway::object::{Object, Placed, Unsupported};
use crate::gateway::{Members, raw};

/// Members that a chat has under the same name and with the same meaning.
const PASSED: [&str; 22] = [
    "frequency_penalty",
    "logit_bias",
    "logprobs",
    "metadata",
    "min_p",
    "prediction",
    "presence_penalty",
    "prompt_cache_key",
    "prompt_cache_options",
    "prompt_cache_retention",
    "repetition_penalty",
    "safety_identifier",
    "seed",
    "service_tier",
    "stop",
    "stream",
    "temperature",
    "top_k",
    "top_logprobs",
    "top_p",
    "user",
    "verbosity",
];

const STATELESS: &str =
    "cannot be honoured: nothing is kept between requests, so send the whole conversation as `input`";
const ELSEWHERE: &str = "is not supported here: it belongs to a service of OpenAI's";

const REFUSED: [Unsupported; 12] = [
    Unsupported { name: "previous_response_id", nothing: &[], why: STATELESS },
    Unsupported { name: "conversation", nothing: &[], why: STATELESS },
    Unsupported {
        name: "background",
        nothing: &["false"],
        why: "cannot be honoured: nothing is kept between requests, so wait for the answer, or take it as a stream",
    },
    Unsupported { name: "background_options", nothing: &["{}"], why: STATELESS },
    Unsupported {
        name: "store",
        nothing: &["false"],
        why: "cannot be honoured: nothing is kept between requests, so leave it out or send false",
    },
    Unsupported { name: "prompt", nothing: &[], why: ELSEWHERE },
    Unsupported { name: "context_management", nothing: &["[]"], why: ELSEWHERE },
    Unsupported { name: "moderation", nothing: &[], why: ELSEWHERE },
    Unsupported { name: "access_programs", nothing: &["{}"], why: ELSEWHERE },
    Unsupported { name: "image", nothing: &["{}"], why: ELSEWHERE },
    Unsupported {
        name: "truncation",
        nothing: &["\"disabled\""],
        why: "must be `disabled`: nothing is left out of a conversation here",
    },
    Unsupported { name: "n", nothing: &["1"], why: "must be 1: a response has one answer" },
];

/// A request that can be asked of a plugin.
#[derive(Debug)]
pub(super) struct Request {
    /// The payload of `llm.chat`.
    pub(super) chat: RawJson,
    /// What the answer repeats of the request.
    pub(super) echo: Map<String, Value>,
}

/// Reads a request.
///
/// # Errors
/// What cannot be honoured, with its place.
pub(super) fn read(body: &RawJson) -> Result<Request, Problem> {
    let mut request = Object::of_body(body)?;
    request.refuse_all(&REFUSED)?;
    let mut chat = Members::new();
    let mut echo = Echo::default();

    if let Some(model) = request.take::<String>("model", "a text")? {
        echo.set("model", json!(model));
        chat.insert("model".to_owned(), raw(&model));
    }
    let instructions = request.take::<String>("instructions", "a text")?;
    echo.set("instructions", json!(instructions));
    let Some(input) = request.placed("input") else {
        return Err(request.refusal("input", "is missing: it must be a text or a list of items"));
    };
    chat.insert("messages".to_owned(), raw(&input::messages(instructions, input)?));

    let tools = tools::read(&mut request)?;
    echo.set("tools", json!(tools.asked));
    if let Some(choice) = &tools.asked_choice {
        echo.set("tool_choice", json!(choice));
    }
    let parallel = request.take::<bool>("parallel_tool_calls", "true or false")?;
    echo.set("parallel_tool_calls", json!(parallel.unwrap_or(true)));
    if !tools.tools.is_empty() {
        chat.insert("tools".to_owned(), raw(&tools.tools));
        if let Some(choice) = tools.choice {
            chat.insert("tool_choice".to_owned(), choice);
        }
        if let Some(parallel) = parallel {
            chat.insert("parallel_tool_calls".to_owned(), raw(&parallel));
        }
    }
    // It bounds calls of tools that run in the model's service, of which there are none.
    if let Some(calls) = request.take::<u64>("max_tool_calls", "a number")? {
        echo.set("max_tool_calls", json!(calls));
    }

    if let Some(most) = request.raw("max_output_tokens") {
        echo.set("max_output_tokens", json!(most));
        chat.insert("max_completion_tokens".to_owned(), most);
    }
    text(&mut request, &mut chat, &mut echo)?;
    reasoning(&mut request, &mut chat, &mut echo)?;
    include(&mut request, &mut chat)?;
    obfuscation(&mut request)?;
    for name in PASSED {
        if let Some(value) = request.raw(name) {
            echo.set(name, json!(value));
            chat.insert(name.to_owned(), value);
        }
    }
    if chat.get("top_logprobs").is_some_and(|most| most.get() != "0") {
        chat.insert("logprobs".to_owned(), raw(&true));
    }
    if let Some(unknown) = request.untaken().next() {
        let why = "is not known here: a chat has nothing like it, so leave it out";
        return Err(request.refusal(unknown, why));
    }
    Ok(Request { chat: RawJson::of(&chat), echo: echo.members })
}

/// The members of an answer that repeat the request, with what holds where it says nothing.
struct Echo {
    members: Map<String, Value>,
}

impl Default for Echo {
    fn default() -> Self {
        let members = json!({
            "background": false, "instructions": null, "max_output_tokens": null, "max_tool_calls": null,
            "metadata": {}, "model": "", "parallel_tool_calls": true, "previous_response_id": null,
            "prompt_cache_key": null, "reasoning": { "effort": null, "summary": null },
            "safety_identifier": null, "service_tier": null, "store": false, "temperature": null,
            "text": { "format": { "type": "text" } }, "tool_choice": "auto", "tools": [], "top_logprobs": 0,
            "top_p": null, "truncation": "disabled", "user": null,
        });
        match members {
            Value::Object(members) => Self { members },
            _ => unreachable!("the literal is an object"),
        }
    }
}

impl Echo {
    /// Repeats a member, if an answer has one of this name.
    fn set(&mut self, name: &str, value: Value) {
        if let Some(member) = self.members.get_mut(name) {
            *member = value;
        }
    }
}

/// `text` says which form the answer has.
fn text(request: &mut Object, chat: &mut Members, echo: &mut Echo) -> Result<(), Problem> {
    let Some(text) = request.placed("text") else { return Ok(()) };
    let mut repeated = json!({ "format": { "type": "text" } });
    let mut text = text.object()?;
    if let Some(verbosity) = text.raw("verbosity") {
        repeated["verbosity"] = json!(verbosity);
        chat.insert("verbosity".to_owned(), verbosity);
    }
    if let Some(format) = text.raw("format") {
        repeated["format"] = json!(format);
        if let Some(format) = response_format(Placed { value: format, place: text.place_of("format") })? {
            chat.insert("response_format".to_owned(), format);
        }
    }
    echo.set("text", repeated);
    Ok(())
}

/// The `response_format` of a chat; `None` for plain text, which needs none.
fn response_format(format: Placed) -> Result<Option<Box<RawValue>>, Problem> {
    let mut format = format.object()?;
    let kind: String = format.need("type", "`text`, `json_object` or `json_schema`")?;
    match kind.as_str() {
        "text" => Ok(None),
        "json_object" => Ok(Some(raw(&json!({ "type": "json_object" })))),
        "json_schema" => {
            let mut schema = Members::new();
            schema.insert("name".to_owned(), raw(&format.need::<String>("name", "a text")?));
            schema.insert("schema".to_owned(), format.need("schema", "a JSON Schema")?);
            for name in ["description", "strict"] {
                if let Some(value) = format.raw(name) {
                    schema.insert(name.to_owned(), value);
                }
            }
            let mut wanted = Members::new();
            wanted.insert("type".to_owned(), raw("json_schema"));
            wanted.insert("json_schema".to_owned(), raw(&schema));
            Ok(Some(raw(&wanted)))
        }
        _ => Err(format.refusal("type", "must be `text`, `json_object` or `json_schema`")),
    }
}

/// How hard the model thinks. Summaries are not made: the answer has what the model says to itself, where
/// the plugin tells it.
fn reasoning(request: &mut Object, chat: &mut Members, echo: &mut Echo) -> Result<(), Problem> {
    let Some(mut reasoning) = request.object("reasoning")? else { return Ok(()) };
    let effort = reasoning.take::<String>("effort", "a text")?;
    echo.set("reasoning", json!({ "effort": effort, "summary": null }));
    if let Some(effort) = effort {
        chat.insert("reasoning_effort".to_owned(), raw(&effort));
    }
    reasoning.refuse_all(&[
        Unsupported { name: "mode", nothing: &["\"standard\""], why: ELSEWHERE },
        Unsupported { name: "context", nothing: &["\"auto\"", "\"current_turn\""], why: STATELESS },
    ])
}

/// What the answer has besides.
fn include(request: &mut Object, chat: &mut Members) -> Result<(), Problem> {
    for included in request.list("include")?.into_iter().flatten() {
        match included.text().as_deref() {
            Some("message.output_text.logprobs") => {
                chat.insert("logprobs".to_owned(), raw(&true));
            }
            // A chat's reasoning is told in plain text: there is nothing that would have to be sealed.
            Some("reasoning.encrypted_content") => {}
            _ => {
                let why = "is not supported: `message.output_text.logprobs` and `reasoning.encrypted_content` are";
                return Err(included.refusal(why));
            }
        }
    }
    Ok(())
}

fn obfuscation(request: &mut Object) -> Result<(), Problem> {
    let Some(mut options) = request.object("stream_options")? else { return Ok(()) };
    let why = "cannot be honoured: events are as long as what they say";
    options.refuse_all(&[Unsupported { name: "include_obfuscation", nothing: &["false"], why }])
}
