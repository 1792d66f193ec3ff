//! `bkg run`: hand an input to a plugin, and show its result.
//!
//! Which capability that reaches, the daemon decides. The invariant: what looks like an object or a list
//! goes out as JSON, as it was written, and everything else as text.

use std::io::{self, Read};

use bkg_protocol::RawJson;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::Verdict;
use super::ask_arguments::RunRequest;
use super::client::Client;
use super::error::CliError;
use super::output::Output;
use super::target::Target;

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Question<'a> {
    plugin: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    data: Option<RawJson>,
    #[serde(skip_serializing_if = "Option::is_none")]
    timeout_ms: Option<u64>,
}

#[derive(Deserialize)]
struct Answer {
    result: Box<RawValue>,
}

/// Asks, and shows the result: text as it is, anything else as JSON.
pub(super) fn run(target: &Target, request: &RunRequest, output: &mut Output) -> Result<Verdict, CliError> {
    let data = request.input.as_deref().map(|input| read(input, request.text, io::stdin())).transpose()?;
    ask(&Client::find(target)?, request.plugin.as_str(), data, request.timeout_ms, output)
}

/// Asks a plugin that has been named. `/run` of a conversation does it too.
pub(super) fn ask(
    client: &Client,
    plugin: &str,
    data: Option<RawJson>,
    timeout_ms: Option<u64>,
    output: &mut Output,
) -> Result<Verdict, CliError> {
    // Without a deadline of ours: the daemon's own limit ends what takes too long.
    let answer = client.post(
        "/api/plugins/execute",
        Some(&RawJson::of(&Question { plugin, data, timeout_ms })),
        None,
    )?;
    if output.wants_json() {
        output.json(&answer.body)?;
        return Ok(Verdict::Reached);
    }
    let result = answer.read::<Answer>()?.result;
    match serde_json::from_str::<String>(result.get()) {
        Ok(text) => {
            output.piece(&text)?;
            if !text.ends_with('\n') {
                output.piece("\n")?;
            }
        }
        Err(_) => output.json(result.get())?,
    }
    Ok(Verdict::Reached)
}

/// The input as it goes out.
fn read(input: &str, as_text: bool, mut stdin: impl Read) -> Result<RawJson, CliError> {
    let mut text = input.to_owned();
    if input == "-" {
        text.clear();
        stdin.read_to_string(&mut text).map_err(|source| CliError::Input { source })?;
        // The line end is the shell's, not the input's.
        if text.ends_with('\n') {
            text.pop();
        }
    }
    Ok(if as_text { RawJson::of(&text) } else { data_of(text) })
}

/// JSON where it is an object or a list, else the text.
pub(super) fn data_of(text: String) -> RawJson {
    if !text.trim_start().starts_with(['{', '[']) {
        return RawJson::of(&text);
    }
    RawJson::parse(text.as_str()).unwrap_or_else(|_| RawJson::of(&text))
}

#[cfg(test)]
mod tests {
    use super::super::client::tests::{ScriptedDaemon, answer};
    use super::*;

    fn run_against(
        body: &str,
        input: Option<&str>,
        json: bool,
    ) -> (Result<Verdict, CliError>, String, String) {
        let daemon = ScriptedDaemon::start(vec![answer("200 OK", body)]);
        let mut output = Output::captured(json);
        let request = RunRequest {
            plugin: "ping".parse().unwrap(),
            input: input.map(str::to_owned),
            text: false,
            timeout_ms: None,
        };
        let result = run(&daemon.target(), &request, &mut output);
        (result, output.written(), daemon.requests().remove(0))
    }

    #[test]
    fn an_input_is_json_where_it_is_an_object_or_a_list() {
        for (input, data) in [
            (r#"{"b":1.50}"#, r#"{"b":1.50}"#),
            ("[1, 2]", "[1, 2]"),
            ("hello", r#""hello""#),
            ("5", r#""5""#),
            ("{not json", r#""{not json""#),
            ("-5", r#""-5""#),
        ] {
            assert_eq!(read(input, false, io::empty()).unwrap().as_str(), data);
        }
        assert_eq!(read("[1]", true, io::empty()).unwrap().as_str(), r#""[1]""#);
        assert_eq!(read("-", false, "a\nb\n".as_bytes()).unwrap().as_str(), r#""a\nb""#);
        assert_eq!(read("-", false, "[1]\n".as_bytes()).unwrap().as_str(), "[1]");
        assert!(matches!(read("-", false, &b"\xff"[..]), Err(CliError::Input { .. })));
    }

    #[test]
    fn text_is_shown_as_text_and_anything_else_as_json() {
        for (body, json, shown) in [
            (r#"{"result":"a\nb"}"#, false, "a\nb\n"),
            (r#"{"result":"a\n"}"#, false, "a\n"),
            (r#"{"result":{"n":1.50}}"#, false, "{\"n\":1.50}\n"),
            (r#"{"result":"a"}"#, true, "{\"result\":\"a\"}\n"),
        ] {
            let (result, written, request) = run_against(body, Some("hi"), json);
            assert_eq!((result.unwrap(), written.as_str()), (Verdict::Reached, shown));
            assert!(request.starts_with("POST /api/plugins/execute HTTP/1.1\r\n"), "{request}");
            assert!(request.ends_with(r#"{"plugin":"ping","data":"hi"}"#), "{request}");
        }
        let (_, _, request) = run_against(r#"{"result":null}"#, None, false);
        assert!(request.ends_with("\r\n\r\n{\"plugin\":\"ping\"}"), "{request}");
    }
}
