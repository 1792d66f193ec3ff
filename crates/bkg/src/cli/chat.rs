//! `bkg chat`: one question and its answer, or a conversation on the terminal.
//!
//! Not what is said: `conversation` keeps that. The invariants: standard output holds the answers and
//! nothing else; Ctrl-C stops the answer, at the daemon too, and never the program in a conversation; an
//! answer that is not whole ends a single question with an error.

use std::io::{self, Read};

use serde::Deserialize;
use serde_json::Value;

use super::Verdict;
use super::ask_arguments::ChatRequest;
use super::client::Client;
use super::conversation::{Conversation, Streamed, read};
use super::error::CliError;
use super::execute;
use super::input::Input;
use super::interrupt::Interrupt;
use super::output::{Output, harmless};
use super::target::Target;

const COMPLETIONS: &str = "/v1/chat/completions";
/// What stands before what a person types.
const SIGN: &str = "> ";
/// More than any model reads; what is longer was piped here by mistake.
const LONGEST_QUESTION: u64 = 16 << 20;
const HELP: &str = "\
/model NAME           go on with another model; without a name, show the present one
/models               list the models
/run PLUGIN [INPUT]   hand an input to a plugin, and show its result
/clear                forget what was said
/help                 show this
Ctrl-C stops the answer, Ctrl-D leaves";

#[derive(Deserialize)]
struct Models {
    data: Vec<Model>,
}

#[derive(Deserialize)]
struct Model {
    id: String,
}

/// What a person typed.
#[derive(Debug, PartialEq, Eq)]
enum Typed<'a> {
    Nothing,
    Question(&'a str),
    Model(Option<&'a str>),
    Models,
    Run { plugin: &'a str, input: Option<&'a str> },
    Clear,
    Help,
    Unknown(&'a str),
}

/// Answers one question, or many.
pub(super) fn run(
    target: &Target,
    request: ChatRequest,
    input: &mut Input,
    output: &mut Output,
) -> Result<Verdict, CliError> {
    let ChatRequest { prompt, model, system } = request;
    let conversation = Conversation::new(system);
    let question = match prompt {
        Some(prompt) if prompt != "-" => prompt,
        None if input.is_terminal() => return talk(target, conversation, model, input, output),
        _ => {
            let mut text = String::new();
            let reading = io::stdin().take(LONGEST_QUESTION).read_to_string(&mut text);
            reading.map_err(|source| CliError::Input { source })?;
            text
        }
    };
    if question.trim().is_empty() {
        return Err(CliError::Usage {
            message: "there is no question: give one, or send it to standard input".into(),
        });
    }
    let client = Client::find(target)?;
    let model = model.map_or_else(|| first_model(&client), Ok)?;
    answer_once(&client, &conversation, &model, &question, output)
}

fn answer_once(
    client: &Client,
    conversation: &Conversation,
    model: &str,
    question: &str,
    output: &mut Output,
) -> Result<Verdict, CliError> {
    if output.wants_json() {
        let body = conversation.request(model, question, Streamed::No);
        let answer = client.post(COMPLETIONS, Some(&body), None)?;
        output.json(&answer.body)?;
        return Ok(Verdict::Reached);
    }
    let body = conversation.request(model, question, Streamed::Yes);
    let mut ends_a_line = false;
    let mut show = |text: &str| {
        ends_a_line = text.chars().last().map_or(ends_a_line, |last| last == '\n');
        output.piece(text)
    };
    let answer = client.post_events(COMPLETIONS, &body).and_then(|events| read(events, &mut show));
    // What came stands on a line of its own, also where an error follows.
    let has_shown = answer.is_ok() || matches!(answer, Err(CliError::BrokenOff { .. }));
    if has_shown && !ends_a_line {
        output.piece("\n")?;
    }
    answer.map(|_| Verdict::Reached)
}

fn talk(
    target: &Target,
    mut conversation: Conversation,
    model: Option<String>,
    input: &mut Input,
    output: &mut Output,
) -> Result<Verdict, CliError> {
    if output.wants_json() {
        let message = "a conversation has no `--json`: give the question as an argument".to_owned();
        return Err(CliError::Usage { message });
    }
    let mut model = model.map_or_else(|| first_model(&Client::find(target)?), Ok)?;
    output.remark(&harmless(&format!("talking with {model}; /help shows more")));
    let interrupt = Interrupt::listen(|| {
        // Nobody is left to tell if this cannot be written.
        let _ = io::Write::write_all(&mut io::stderr(), format!("\nCtrl-D leaves\n{SIGN}").as_bytes());
    })?;
    while let Some(line) = input.typed_line(SIGN)? {
        let happened = match typed(&line) {
            Typed::Nothing => Ok(()),
            Typed::Question(question) => {
                answer(target, &interrupt, &mut conversation, &model, question, output)
            }
            Typed::Model(None) => output.text(&harmless(&model)),
            Typed::Model(Some(name)) => {
                name.clone_into(&mut model);
                output.remark(&harmless(&format!("talking with {model}")));
                Ok(())
            }
            Typed::Models => Client::find(target).and_then(|client| show_models(&client, &model, output)),
            Typed::Run { plugin, input } => hand_over(target, &interrupt, plugin, input, output),
            Typed::Clear => {
                conversation.clear();
                output.remark("forgotten");
                Ok(())
            }
            Typed::Help => output.text(HELP),
            Typed::Unknown(word) => {
                output.remark(&harmless(&format!("there is no `{word}`: /help shows what there is")));
                Ok(())
            }
        };
        match happened {
            // A conversation outlives a question that failed; only its reader's leaving ends it.
            Err(error @ (CliError::ReaderGone | CliError::Output { .. })) => return Err(error),
            Err(error) => output.error(&error),
            Ok(()) => {}
        }
    }
    Ok(Verdict::Reached)
}

fn answer(
    target: &Target,
    interrupt: &Interrupt,
    conversation: &mut Conversation,
    model: &str,
    question: &str,
    output: &mut Output,
) -> Result<(), CliError> {
    // A client for each question: it renews a login that expired meanwhile, and Ctrl-C spends it.
    let client = Client::find(target)?;
    let body = conversation.request(model, question, Streamed::Yes);
    let work = interrupt.watch(client.agent());
    let answer =
        client.post_events(COMPLETIONS, &body).and_then(|events| read(events, |text| output.piece(text)));
    let is_interrupted = work.is_interrupted();
    drop(work);
    match answer {
        Ok(text) => {
            output.piece("\n")?;
            conversation.keep(question.to_owned(), text);
            Ok(())
        }
        Err(_) if is_interrupted => {
            output.piece("\n")?;
            output.remark("stopped; the question and its answer are forgotten");
            Ok(())
        }
        Err(error) => {
            output.piece("\n")?;
            Err(error)
        }
    }
}

fn hand_over(
    target: &Target,
    interrupt: &Interrupt,
    plugin: &str,
    input: Option<&str>,
    output: &mut Output,
) -> Result<(), CliError> {
    let client = Client::find(target)?;
    let work = interrupt.watch(client.agent());
    let result =
        execute::ask(&client, plugin, input.map(|input| execute::data_of(input.to_owned())), None, output);
    match result {
        Err(_) if work.is_interrupted() => {
            output.remark("stopped");
            Ok(())
        }
        result => result.map(drop),
    }
}

/// The model that is talked with where none was named.
fn first_model(client: &Client) -> Result<String, CliError> {
    let models: Models = client.get("/v1/models")?.read()?;
    let chats = chat_models(client);
    let fits = |model: &&Model| chats.as_ref().is_none_or(|chats| chats.contains(&model.id));
    models.data.iter().find(fits).map(|model| model.id.clone()).ok_or(CliError::NoModel)
}

/// The models that are for conversations, if the caller may see the plugins that say so.
fn chat_models(client: &Client) -> Option<Vec<String>> {
    let plugins: Vec<Value> = client.get("/admin/plugins").ok()?.read().ok()?;
    let models = plugins.iter().filter_map(|plugin| plugin["models"].as_array()).flatten();
    let chats = models.filter(|model| model["capability"].as_str().is_none_or(|it| it == "llm.chat"));
    Some(chats.filter_map(|model| model["id"].as_str().map(str::to_owned)).collect())
}

fn show_models(client: &Client, present: &str, output: &mut Output) -> Result<(), CliError> {
    let models: Models = client.get("/v1/models")?.read()?;
    for model in &models.data {
        let sign = if model.id == present { "*" } else { " " };
        output.text(&harmless(&format!("{sign} {}", model.id)))?;
    }
    Ok(())
}

fn typed(line: &str) -> Typed<'_> {
    let line = line.trim();
    let Some(command) = line.strip_prefix('/') else {
        return if line.is_empty() { Typed::Nothing } else { Typed::Question(line) };
    };
    let halves = |text: &'_ str| match text.split_once(char::is_whitespace) {
        Some((first, rest)) => (first.len(), text.len() - rest.trim_start().len()),
        None => (text.len(), text.len()),
    };
    let (end, start) = halves(command);
    let (word, rest) = (&command[..end], Some(&command[start..]).filter(|rest| !rest.is_empty()));
    match (word, rest) {
        ("model", name) => Typed::Model(name),
        ("models", None) => Typed::Models,
        ("run", Some(rest)) => {
            let (end, start) = halves(rest);
            Typed::Run {
                plugin: &rest[..end],
                input: Some(&rest[start..]).filter(|input| !input.is_empty()),
            }
        }
        ("clear", None) => Typed::Clear,
        ("help", _) => Typed::Help,
        _ => Typed::Unknown(line),
    }
}

#[cfg(test)]
mod tests {
    use super::super::client::tests::{ScriptedDaemon, answer as whole};
    use super::*;

    fn stream(events: &str) -> String {
        format!("HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nconnection: close\r\n\r\n{events}")
    }

    fn ask(answers: Vec<String>, json: bool) -> (Result<Verdict, CliError>, String, Vec<String>) {
        let daemon = ScriptedDaemon::start(answers);
        let mut output = Output::captured(json);
        let request =
            ChatRequest { prompt: Some("hi".into()), model: Some("m".into()), ..ChatRequest::default() };
        let result = run(&daemon.target(), request, &mut Input::sent([]), &mut output);
        (result, output.written(), daemon.requests())
    }

    #[test]
    fn a_single_question_shows_only_the_answer() {
        let events = "data: {\"choices\":[{\"delta\":{\"content\":\"Hel\"}}]}\n\n\
                      data: {\"choices\":[{\"delta\":{\"content\":\"lo\"}}]}\n\ndata: [DONE]\n\n";
        let (result, written, requests) = ask(vec![stream(events)], false);
        assert_eq!((result.unwrap(), written.as_str()), (Verdict::Reached, "Hello\n"));
        assert!(requests[0].starts_with("POST /v1/chat/completions HTTP/1.1\r\n"), "{requests:?}");
        assert!(requests[0].contains(r#""stream":true"#), "{requests:?}");
    }

    #[test]
    fn a_broken_answer_shows_what_came_and_fails() {
        let events = "data: {\"choices\":[{\"delta\":{\"content\":\"Hel\"}}]}\n\n";
        let (result, written, _) = ask(vec![stream(events)], false);
        assert_eq!(written, "Hel\n");
        assert!(matches!(result, Err(CliError::BrokenOff { .. })), "{result:?}");
    }

    #[test]
    fn json_is_the_whole_answer() {
        let body = r#"{"choices":[{"message":{"content":"Hello"}}],"n":1.50}"#;
        let (result, written, requests) = ask(vec![whole("200 OK", body)], true);
        assert_eq!((result.unwrap(), written), (Verdict::Reached, format!("{body}\n")));
        assert!(requests[0].contains(r#""stream":false"#), "{requests:?}");
    }

    #[test]
    fn without_a_name_the_first_model_for_conversations_is_taken() {
        let models = r#"{"object":"list","data":[{"id":"embed"},{"id":"chat"}]}"#;
        let plugins = r#"[{"models":[{"id":"embed","capability":"llm.embed"},{"id":"chat","capability":"llm.chat"}]}]"#;
        let refused = whole("403 Forbidden", r#"{"error":{"message":"no","code":"forbidden"}}"#);
        for (second, model) in [(whole("200 OK", plugins), "chat"), (refused, "embed")] {
            let daemon = ScriptedDaemon::start(vec![whole("200 OK", models), second]);
            let client = Client::find(&daemon.target()).unwrap();
            assert_eq!(first_model(&client).unwrap(), model);
            daemon.requests();
        }
        let daemon = ScriptedDaemon::start(vec![whole("200 OK", r#"{"data":[]}"#), whole("200 OK", "[]")]);
        let error = first_model(&Client::find(&daemon.target()).unwrap()).unwrap_err();
        assert!(matches!(error, CliError::NoModel), "{error}");
        daemon.requests();
    }

    #[test]
    fn a_line_is_a_question_or_a_command() {
        for (line, meant) in [
            ("  ", Typed::Nothing),
            ("hello there ", Typed::Question("hello there")),
            ("/model", Typed::Model(None)),
            ("/model  m ", Typed::Model(Some("m"))),
            ("/models", Typed::Models),
            ("/run ping", Typed::Run { plugin: "ping", input: None }),
            ("/run ping  {\"a\": 1}", Typed::Run { plugin: "ping", input: Some("{\"a\": 1}") }),
            ("/run", Typed::Unknown("/run")),
            ("/clear", Typed::Clear),
            ("/help", Typed::Help),
            ("/exit now", Typed::Unknown("/exit now")),
        ] {
            assert_eq!(typed(line), meant, "{line}");
        }
    }
}
