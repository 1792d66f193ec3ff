//! A conversation with a model: what was said, what is asked next, and the answer as it comes.
//!
//! Not the terminal. The invariant: what stands in the history was said completely, the question and the
//! whole answer, or neither.

use std::io;

use bkg_protocol::RawJson;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::error::{CliError, Refusal};
use super::events::Event;

/// What was said so far.
#[derive(Debug, Clone, Default)]
pub(super) struct Conversation {
    system: Option<String>,
    said: Vec<Message>,
}

/// Something that was said.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
struct Message {
    role: &'static str,
    content: String,
}

/// What an event of the answer says.
#[derive(Debug, PartialEq, Eq)]
enum Part {
    /// More text.
    Text(String),
    /// The answer is whole.
    End,
}

#[derive(Deserialize)]
struct Chunk {
    #[serde(default)]
    choices: Vec<Choice>,
}

#[derive(Deserialize)]
struct Choice {
    #[serde(default)]
    delta: Delta,
}

#[derive(Default, Deserialize)]
struct Delta {
    content: Option<String>,
}

impl Conversation {
    /// Nothing was said but what the model is told beforehand.
    pub(super) fn new(system: Option<String>) -> Self {
        Self { system, said: Vec::new() }
    }

    /// Forgets what was said; the model is still told the same beforehand.
    pub(super) fn clear(&mut self) {
        self.said.clear();
    }

    /// The request that goes on with this question.
    pub(super) fn request(&self, model: &str, question: &str, streamed: Streamed) -> RawJson {
        let system = self.system.iter().map(|text| Message { role: "system", content: text.clone() });
        let question = Message { role: "user", content: question.to_owned() };
        let messages: Vec<Message> = system.chain(self.said.iter().cloned()).chain([question]).collect();
        RawJson::of(&json!({
            "model": model,
            "messages": messages,
            "stream": streamed == Streamed::Yes,
        }))
    }

    /// Keeps a question and its whole answer.
    pub(super) fn keep(&mut self, question: String, answer: String) {
        self.said.push(Message { role: "user", content: question });
        self.said.push(Message { role: "assistant", content: answer });
    }
}

/// Whether an answer comes piece by piece.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Streamed {
    /// As it is made.
    Yes,
    /// When it is whole.
    No,
}

/// Reads an answer to its end, and hands each piece of text to `show`.
///
/// # Errors
/// The stream broke, or said itself that it failed; what came before it was shown.
pub(super) fn read(
    events: impl Iterator<Item = io::Result<Event>>,
    mut show: impl FnMut(&str) -> Result<(), CliError>,
) -> Result<String, CliError> {
    let mut answer = String::new();
    for event in events {
        let event = event.map_err(|error| CliError::BrokenOff { reason: error.to_string() })?;
        match part(&event.data)? {
            Part::Text(text) => {
                show(&text)?;
                answer.push_str(&text);
            }
            Part::End => return Ok(answer),
        }
    }
    // Whatever ended the connection: the daemon says `[DONE]` after a whole answer, and never otherwise.
    Err(CliError::BrokenOff { reason: "the connection ended in the middle of it".to_owned() })
}

fn part(data: &str) -> Result<Part, CliError> {
    if data == "[DONE]" {
        return Ok(Part::End);
    }
    let unreadable = |error: serde_json::Error| CliError::Unreadable {
        request: "`POST /v1/chat/completions`".to_owned(),
        reason: error.to_string(),
    };
    let value: Value = serde_json::from_str(data).map_err(unreadable)?;
    if !value["error"].is_null() {
        let Refusal { message, .. } = Refusal::read(200, None, data);
        return Err(CliError::BrokenOff { reason: message });
    }
    let chunk: Chunk = serde_json::from_value(value).map_err(unreadable)?;
    let text = chunk.choices.into_iter().filter_map(|choice| choice.delta.content);
    Ok(Part::Text(text.collect()))
}

#[cfg(test)]
mod tests {
    use super::super::events::Events;
    use super::*;

    fn read_all(stream: &str) -> (Result<String, CliError>, String) {
        let mut shown = String::new();
        let result = read(Events::new(stream.as_bytes()), |text| {
            shown.push_str(text);
            Ok(())
        });
        (result, shown)
    }

    const HALF: &str = "data: {\"choices\":[{\"delta\":{\"role\":\"assistant\"}}]}\n\n\
                        data: {\"choices\":[{\"delta\":{\"content\":\"Hel\"}}]}\n\n: keep-alive\n\n";

    #[test]
    fn an_answer_is_whole_after_done() {
        let stream = format!(
            "{HALF}data: {{\"choices\":[{{\"delta\":{{\"content\":\"lo\"}}}}]}}\n\ndata: {{\"choices\":[],\"usage\":{{}}}}\n\n\
             data: [DONE]\n\n"
        );
        let (result, shown) = read_all(&stream);
        assert_eq!((result.unwrap(), shown), ("Hello".to_owned(), "Hello".to_owned()));
    }

    #[test]
    fn an_answer_that_breaks_is_an_error_after_what_came() {
        for (rest, reason) in [
            ("", "the connection ended in the middle of it"),
            ("data: {\"error\":{\"message\":\"the plugin died\",\"code\":\"x\"}}\n\n", "the plugin died"),
        ] {
            let (result, shown) = read_all(&format!("{HALF}{rest}"));
            let error = result.unwrap_err();
            assert_eq!(shown, "Hel");
            assert_eq!(error.exit_code(), 1);
            assert!(error.to_string().contains(reason), "{error}");
        }
        let (result, _) = read_all("data: x\n\n");
        assert!(matches!(result, Err(CliError::Unreadable { .. })));
    }

    #[test]
    fn a_question_goes_out_with_all_that_was_said() {
        let mut conversation = Conversation::new(Some("be short".into()));
        conversation.keep("a".into(), "b".into());
        let request = conversation.request("m", "c", Streamed::Yes);
        let expected = json!({
            "model": "m",
            "stream": true,
            "messages": [
                {"role": "system", "content": "be short"},
                {"role": "user", "content": "a"},
                {"role": "assistant", "content": "b"},
                {"role": "user", "content": "c"},
            ],
        });
        assert_eq!(serde_json::from_str::<Value>(request.as_str()).unwrap(), expected);
        conversation.clear();
        let request: Value = conversation.request("m", "c", Streamed::No).read().unwrap();
        assert_eq!((request["messages"].as_array().unwrap().len(), &request["stream"]), (2, &json!(false)));
    }
}
