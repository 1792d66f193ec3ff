//! `bkg usage`: sums of what requests used.
//!
//! Not the requests themselves, see `requests`. Sums are the daemon's: nothing is added up here.

use jiff::Timestamp;
use serde::Deserialize;

use super::Verdict;
use super::client::Client;
use super::error::CliError;
use super::output::Output;
use super::route::asking;
use super::table::Table;
use super::target::Target;
use super::watch_arguments::UsageRequest;

#[derive(Deserialize)]
struct Page {
    currency: String,
    groups: Vec<Group>,
    more: bool,
    total: Sum,
    #[serde(default)]
    lost: u64,
}

#[derive(Deserialize)]
struct Group {
    name: Option<String>,
    #[serde(flatten)]
    sum: Sum,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Sum {
    requests: u64,
    failed: u64,
    estimated: u64,
    prompt_tokens: u64,
    completion_tokens: u64,
    cost: f64,
}

/// Shows the sums that were asked for.
pub(super) fn print(
    target: &Target,
    request: &UsageRequest,
    output: &mut Output,
) -> Result<Verdict, CliError> {
    let now = Timestamp::now();
    let path = if request.own { "/api/usage" } else { "/admin/usage" };
    let path = asking(
        path,
        [
            ("by", Some(request.by.as_str().to_owned())),
            ("from", request.from.map(|from| from.resolved(now).to_string())),
            ("to", request.to.map(|to| to.resolved(now).to_string())),
            ("limit", Some(request.limit.to_string())),
            ("offset", (request.offset > 0).then(|| request.offset.to_string())),
            ("user", request.user.clone()),
            ("key", request.key.clone()),
        ],
    );
    let heading = request.by.as_str().to_uppercase();
    Client::find(target)?.get(&path)?.show(output, |page| tell(&heading, &page))
}

fn tell(heading: &str, page: &Page) -> String {
    let cost = page.currency.to_uppercase();
    let mut table =
        Table::new([heading, "REQUESTS", "FAILED", "ESTIMATED", "TOKENS READ", "TOKENS WRITTEN", &cost]);
    let mut row = |name: String, sum: &Sum| {
        table.row([
            name,
            sum.requests.to_string(),
            sum.failed.to_string(),
            sum.estimated.to_string(),
            sum.prompt_tokens.to_string(),
            sum.completion_tokens.to_string(),
            sum.cost.to_string(),
        ]);
    };
    for group in &page.groups {
        row(group.name.clone().unwrap_or_default(), &group.sum);
    }
    row("total".to_owned(), &page.total);
    let mut text = table.to_string();
    if page.more {
        text.push_str("\nthere are more groups: `--offset` leaves out the first\n");
    }
    if page.lost > 0 {
        text.push_str(&format!("\n{} requests are missing, whose rows found no room\n", page.lost));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::super::client::tests::{ScriptedDaemon, answer};
    use super::super::watch_arguments::Group as By;
    use super::*;

    #[test]
    fn sums_stand_in_a_table_with_their_total() {
        let sum =
            r#""requests":2,"failed":1,"estimated":0,"promptTokens":30,"completionTokens":4,"cost":0.25"#;
        let body = format!(
            r#"{{"by":"model","currency":"EUR","groups":[{{"name":"m",{sum}}},{{"name":null,{sum}}}],"more":true,
               "total":{{{sum}}},"lost":0}}"#
        );
        let daemon = ScriptedDaemon::start(vec![answer("200 OK", &body)]);
        let mut output = Output::captured(false);
        let request = UsageRequest {
            by: By::Model,
            from: Some("2026-01-31".parse().unwrap()),
            to: None,
            limit: 5,
            offset: 0,
            user: None,
            key: Some("k/1".into()),
            own: false,
        };
        print(&daemon.target(), &request, &mut output).unwrap();
        assert_eq!(
            output.written(),
            "MODEL  REQUESTS  FAILED  ESTIMATED  TOKENS READ  TOKENS WRITTEN  EUR\n\
             m      2         1       0          30           4               0.25\n\
             -      2         1       0          30           4               0.25\n\
             total  2         1       0          30           4               0.25\n\n\
             there are more groups: `--offset` leaves out the first\n"
        );
        let head = "GET /admin/usage?by=model&from=2026-01-31T00%3A00%3A00Z&limit=5&key=k%2F1 HTTP/1.1\r\n";
        assert!(daemon.requests()[0].starts_with(head));
    }
}
