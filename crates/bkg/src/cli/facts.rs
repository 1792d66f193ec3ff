//! `bkg system` and `bkg ports`: what the daemon says about itself, value by value.
//!
//! Nothing here knows the shape of an answer, so that a newer daemon's facts are shown too.

use serde_json::Value;

use super::Verdict;
use super::client::Client;
use super::entry_path::EntryPath;
use super::error::CliError;
use super::output::Output;
use super::table::Table;
use super::target::Target;

/// Shows what the daemon answers there.
pub(super) fn print(target: &Target, path: &str, output: &mut Output) -> Result<Verdict, CliError> {
    Client::find(target)?.get(path)?.show(output, |facts: Value| table(&facts))
}

/// Every value with the way to it.
pub(super) fn table(facts: &Value) -> String {
    let mut table = Table::new(["WHAT", "VALUE"]);
    for (path, value) in EntryPath::root().leaves(facts) {
        let way = path.keys().collect::<Vec<_>>().join(".");
        match keyed(value) {
            Some(rows) => {
                rows.for_each(|(key, value)| table.row([format!("{way}.{key}"), shown(value)]));
            }
            None => table.row([way, shown(value)]),
        }
    }
    table.to_string()
}

fn shown(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

/// Keys with their values, if that is what a list holds.
fn keyed(list: &Value) -> Option<impl Iterator<Item = (&str, &Value)>> {
    let items = list.as_array().filter(|items| !items.is_empty())?;
    let pair = |item: &Value| item.get("key").is_some_and(Value::is_string) && item.get("value").is_some();
    let rows = items.iter().map(|item| (item["key"].as_str().unwrap_or_default(), &item["value"]));
    items.iter().all(pair).then_some(rows)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::client::tests::{ScriptedDaemon, answer};
    use super::*;

    #[test]
    fn every_value_is_one_line() {
        let facts = json!({"api": 1, "plugins": {"ping": null, "x": 7}, "startedAt": "2026", "load": [1.5, 2],
            "config": [{"key": "api.port", "value": 7, "locked": true}]});
        assert_eq!(
            table(&facts),
            "WHAT             VALUE\napi              1\nplugins.ping     -\nplugins.x        7\n\
             startedAt        2026\nload             [1.5,2]\nconfig.api.port  7\n"
        );
    }

    #[test]
    fn json_is_what_the_daemon_said() {
        let daemon = ScriptedDaemon::start(vec![answer("200 OK", r#"{"api":1.50}"#)]);
        let mut output = Output::captured(true);
        print(&daemon.target(), "/admin/ports", &mut output).unwrap();
        assert_eq!(output.written(), "{\"api\":1.50}\n");
        assert!(daemon.requests()[0].starts_with("GET /admin/ports HTTP/1.1\r\n"));
    }
}
