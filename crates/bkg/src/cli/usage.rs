//! `bkg requests`: what requests used, one line each.
//!
//! Everything but the number may be missing, as in a row of a request that nobody answered.

use jiff::Timestamp;
use serde::Deserialize;

use super::Verdict;
use super::client::Client;
use super::error::CliError;
use super::output::Output;
use super::route::asking;
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
    let path = asking(
        "/admin/requests",
        [
            ("limit", Some(request.limit.to_string())),
            ("before", request.before.map(|before| before.to_string())),
            ("id", request.id.clone()),
            ("key", request.key.clone()),
        ],
    );
    Client::find(target)?.get(&path)?.show(output, |page| tell(&page))
}

fn tell(page: &Page) -> String {
    let mut table = Table::new(["SEQ", "TIME", "WHO", "PLUGIN", "WHAT", "TOKENS", "TOOK", "OUTCOME"]);
    for row in &page.requests {
        let text = |value: &Option<String>| value.clone().unwrap_or_default();
        let tokens = match (row.prompt_tokens, row.completion_tokens) {
            (None, None) => String::new(),
            (read, written) => format!("{}+{}", read.unwrap_or(0), written.unwrap_or(0)),
        };
        table.row([
            row.seq.map(|seq| seq.to_string()).unwrap_or_default(),
            row.at.map(moment).unwrap_or_default(),
            text(&row.user),
            text(&row.plugin),
            row.model.clone().unwrap_or_else(|| text(&row.capability)),
            tokens,
            row.total_ms.map(|span| format!("{span} ms")).unwrap_or_default(),
            text(&row.outcome),
        ]);
    }
    let mut text = table.to_string();
    if page.lost > 0 {
        text.push_str(&format!("\n{} rows found no room since the start, and are lost\n", page.lost));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::super::client::tests::{ScriptedDaemon, answer};
    use super::*;

    #[test]
    fn a_row_says_who_used_what() {
        let body = r#"{"requests":[{"seq":7,"at":"2026-01-02T03:04:05Z","user":"ada","plugin":"llmserver",
            "capability":"llm.chat","model":"m","promptTokens":3,"completionTokens":4,"totalMs":12,"outcome":"ok"},
            {"seq":6,"at":"2026-01-02T03:04:05Z","user":"root","capability":"ping.greet","totalMs":1,"outcome":"timeout"}],
            "lost":2}"#;
        let daemon = ScriptedDaemon::start(vec![answer("200 OK", body)]);
        let mut output = Output::captured(false);
        let request = RequestsRequest { limit: 5, before: Some(8), id: Some("a&b".into()), key: None };
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
