//! `bkg requests`: what requests used, one line each; or all that is known of one of them.
//!
//! Everything but the number may be missing, as in a row of a request that nobody answered.

use jiff::Timestamp;
use serde::Deserialize;

use super::Verdict;
use super::client::Client;
use super::error::CliError;
use super::output::{Output, harmless};
use super::route::{asking, item};
use super::table::Table;
use super::target::Target;
use super::time::moment;
use super::watch_arguments::RequestsRequest;

#[derive(Deserialize)]
struct Page {
    requests: Vec<Row>,
    #[serde(default)]
    lost: u64,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Row {
    #[serde(alias = "id")]
    seq: Option<u64>,
    at: Option<Timestamp>,
    user: Option<String>,
    plugin: Option<String>,
    capability: Option<String>,
    model: Option<String>,
    prompt_tokens: Option<u64>,
    completion_tokens: Option<u64>,
    total_ms: Option<u64>,
    outcome: Option<String>,
}

/// Shows the rows that were asked for.
pub(super) fn print(
    target: &Target,
    request: &RequestsRequest,
    output: &mut Output,
) -> Result<Verdict, CliError> {
    if let Some(id) = &request.request {
        let answer = Client::find(target)?.get(&item("/admin/requests", id))?;
        return answer.show(output, |inspected: Inspected| tell_all(&inspected));
    }
    let since = request.since.map(|since| since.resolved(Timestamp::now()).to_string());
    let path = asking(
        "/admin/requests",
        [
            ("limit", Some(request.limit.to_string())),
            ("before", request.before.map(|before| before.to_string())),
            ("id", request.id.clone()),
            ("key", request.key.clone()),
            ("user", request.user.clone()),
            ("model", request.model.clone()),
            ("plugin", request.plugin.clone()),
            ("outcome", request.outcome.clone()),
            ("since", since),
        ],
    );
    Client::find(target)?.get(&path)?.show(output, |page| tell(&page))
}

/// All that is known of a request.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Inspected {
    request_id: String,
    #[serde(flatten)]
    row: Row,
    key_id: Option<String>,
    route: Option<String>,
    served_model: Option<String>,
    #[serde(default)]
    estimated: bool,
    cost: Option<f64>,
    first_byte_ms: Option<u64>,
    status: Option<u16>,
    error: Option<String>,
    #[serde(default)]
    attempts: Vec<Attempt>,
    #[serde(default)]
    asked_by_plugins: Vec<Row>,
    bodies: Option<Bodies>,
    #[serde(default)]
    logs: Vec<Line>,
    #[serde(default)]
    more_logs: bool,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Attempt {
    plugin: String,
    model: String,
    began_ms: u64,
    took_ms: u64,
    outcome: String,
}

#[derive(Deserialize)]
struct Bodies {
    request: Option<String>,
    answer: Option<String>,
}

#[derive(Deserialize)]
struct Line {
    time: Timestamp,
    plugin: String,
    level: String,
    message: String,
}

fn tokens(row: &Row) -> Option<String> {
    match (row.prompt_tokens, row.completion_tokens) {
        (None, None) => None,
        (read, written) => Some(format!("{}+{}", read.unwrap_or(0), written.unwrap_or(0))),
    }
}

fn tell_all(inspected: &Inspected) -> String {
    let row = &inspected.row;
    let is_estimate = if inspected.estimated { " (estimated)" } else { "" };
    let milliseconds = |span: u64| format!("{span} ms");
    let facts = [
        ("request", Some(inspected.request_id.clone())),
        ("began", row.at.map(moment)),
        ("user", row.user.clone().filter(|user| !user.is_empty())),
        ("key", inspected.key_id.clone()),
        ("route", inspected.route.clone()),
        ("capability", row.capability.clone()),
        ("model", row.model.clone()),
        ("plugin", row.plugin.clone()),
        ("served model", inspected.served_model.clone()),
        ("tokens", tokens(row).map(|tokens| format!("{tokens}{is_estimate}"))),
        ("cost", inspected.cost.map(|cost| cost.to_string())),
        ("first byte", inspected.first_byte_ms.map(milliseconds)),
        ("took", row.total_ms.map(milliseconds)),
        ("outcome", row.outcome.clone()),
        ("status", inspected.status.map(|status| status.to_string())),
        ("error", inspected.error.clone()),
    ];
    let mut text = String::new();
    for (name, value) in facts {
        if let Some(value) = value {
            text.push_str(&format!("{name:<14}{}\n", harmless(&value)));
        }
    }
    if !inspected.attempts.is_empty() {
        let mut table = Table::new(["ATTEMPT", "MODEL", "AFTER", "TOOK", "OUTCOME"]);
        for attempt in &inspected.attempts {
            table.row([
                attempt.plugin.clone(),
                attempt.model.clone(),
                milliseconds(attempt.began_ms),
                milliseconds(attempt.took_ms),
                attempt.outcome.clone(),
            ]);
        }
        text.push_str(&format!("\n{table}"));
    }
    if !inspected.asked_by_plugins.is_empty() {
        let page = rows(&inspected.asked_by_plugins);
        text.push_str(&format!("\nasked by plugins on its behalf:\n{page}"));
    }
    for (name, body) in inspected
        .bodies
        .iter()
        .flat_map(|bodies| [("asked", &bodies.request), ("answered", &bodies.answer)])
    {
        if let Some(body) = body {
            text.push_str(&format!("\n{name}:\n{}\n", harmless(body)));
        }
    }
    if !inspected.logs.is_empty() {
        text.push('\n');
    }
    for line in &inspected.logs {
        let Line { time, plugin, level, message } = line;
        text.push_str(&harmless(&format!("{} {plugin} {level} {message}", moment(*time))));
        text.push('\n');
    }
    if inspected.more_logs {
        text.push_str("there are more lines: `bkg logs --text ID` shows them\n");
    }
    text
}

fn tell(page: &Page) -> String {
    let mut text = rows(&page.requests);
    if page.lost > 0 {
        text.push_str(&format!("\n{} rows found no room since the start, and are lost\n", page.lost));
    }
    text
}

fn rows(rows: &[Row]) -> String {
    let mut table = Table::new(["SEQ", "TIME", "WHO", "PLUGIN", "WHAT", "TOKENS", "TOOK", "OUTCOME"]);
    for row in rows {
        let text = |value: &Option<String>| value.clone().unwrap_or_default();
        table.row([
            row.seq.map(|seq| seq.to_string()).unwrap_or_default(),
            row.at.map(moment).unwrap_or_default(),
            text(&row.user),
            text(&row.plugin),
            row.model.clone().unwrap_or_else(|| text(&row.capability)),
            tokens(row).unwrap_or_default(),
            row.total_ms.map(|span| format!("{span} ms")).unwrap_or_default(),
            text(&row.outcome),
        ]);
    }
    table.to_string()
}

#[cfg(test)]
mod tests {
    use super::super::client::tests::{ScriptedDaemon, answer};
    use super::*;

    fn listing() -> RequestsRequest {
        RequestsRequest {
            request: None,
            limit: 5,
            before: None,
            id: None,
            key: None,
            user: None,
            model: None,
            plugin: None,
            outcome: None,
            since: None,
        }
    }

    #[test]
    fn one_request_is_told_in_full() {
        let body = r#"{"id":7,"requestId":"r-1","at":"2026-01-02T03:04:05Z","user":"ada","keyId":"k_1",
            "route":"POST /v1/chat/completions","plugin":"providers","capability":"llm.chat","model":"m",
            "servedModel":"m-1","promptTokens":3,"completionTokens":4,"estimated":true,"cost":0.5,"totalMs":12,
            "firstByteMs":2,"outcome":"timeout","status":504,"error":"too slow","streamed":true,
            "attempts":[{"plugin":"providers","model":"m-1","beganMs":0,"tookMs":9,"outcome":"timeout"}],
            "askedByPlugins":[],"bodies":{"request":"asked this","answer":null},
            "logs":[{"time":"2026-01-02T03:04:05Z","plugin":"providers","level":"warn","message":"slow"}],
            "moreLogs":false}"#;
        let daemon = ScriptedDaemon::start(vec![answer("200 OK", body)]);
        let mut output = Output::captured(false);
        let request = RequestsRequest { request: Some("r/1".into()), ..listing() };
        print(&daemon.target(), &request, &mut output).unwrap();
        assert!(daemon.requests()[0].starts_with("GET /admin/requests/r%2F1 HTTP/1.1\r\n"));
        assert_eq!(
            output.written(),
            "request       r-1\n\
             began         2026-01-02T03:04:05.000Z\n\
             user          ada\n\
             key           k_1\n\
             route         POST /v1/chat/completions\n\
             capability    llm.chat\n\
             model         m\n\
             plugin        providers\n\
             served model  m-1\n\
             tokens        3+4 (estimated)\n\
             cost          0.5\n\
             first byte    2 ms\n\
             took          12 ms\n\
             outcome       timeout\n\
             status        504\n\
             error         too slow\n\n\
             ATTEMPT    MODEL  AFTER  TOOK  OUTCOME\n\
             providers  m-1    0 ms   9 ms  timeout\n\n\
             asked:\nasked this\n\n\
             2026-01-02T03:04:05.000Z providers warn slow\n"
        );
    }

    #[test]
    fn a_row_says_who_used_what() {
        let body = r#"{"requests":[{"id":7,"at":"2026-01-02T03:04:05Z","user":"ada","plugin":"llmserver",
            "capability":"llm.chat","model":"m","promptTokens":3,"completionTokens":4,"totalMs":12,"outcome":"ok"},
            {"seq":6,"at":"2026-01-02T03:04:05Z","user":"root","capability":"ping.greet","totalMs":1,"outcome":"timeout"}],
            "lost":2}"#;
        let daemon = ScriptedDaemon::start(vec![answer("200 OK", body)]);
        let mut output = Output::captured(false);
        let request = RequestsRequest { before: Some(8), id: Some("a&b".into()), ..listing() };
        print(&daemon.target(), &request, &mut output).unwrap();
        assert_eq!(
            output.written(),
            "SEQ  TIME                      WHO   PLUGIN     WHAT        TOKENS  TOOK   OUTCOME\n\
             7    2026-01-02T03:04:05.000Z  ada   llmserver  m           3+4     12 ms  ok\n\
             6    2026-01-02T03:04:05.000Z  root  -          ping.greet  -       1 ms   timeout\n\n\
             2 rows found no room since the start, and are lost\n"
        );
        let head = "GET /admin/requests?limit=5&before=8&id=a%26b HTTP/1.1\r\n";
        assert!(daemon.requests()[0].starts_with(head));
    }
}
