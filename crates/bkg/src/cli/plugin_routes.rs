//! `bkg plugin routes`: the HTTP routes that plugins serve at this moment.
//!
//! Everything but the path may be missing, as in the objects of plugins.

use serde::Deserialize;

use super::Verdict;
use super::answer::Answer;
use super::error::CliError;
use super::output::Output;
use super::table::Table;

/// One route.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Route {
    plugin: Option<String>,
    method: Option<String>,
    path: String,
    capability: Option<String>,
    scope: Option<String>,
    summary: Option<String>,
    description: Option<String>,
}

/// The answer: the routes themselves, or an object that has them.
#[derive(Deserialize)]
#[serde(untagged)]
enum Routes {
    Bare(Vec<Route>),
    Held { routes: Vec<Route> },
}

/// Shows all of them, or those of one plugin.
pub(super) fn print(
    answer: &Answer,
    plugin: Option<&str>,
    output: &mut Output,
) -> Result<Verdict, CliError> {
    answer.show(output, |routes: Routes| {
        let (Routes::Bare(routes) | Routes::Held { routes }) = routes;
        let is_wanted =
            |route: &&Route| plugin.is_none_or(|plugin| route.plugin.as_deref() == Some(plugin));
        table(&routes.iter().filter(is_wanted).collect::<Vec<_>>())
    })
}

fn table(routes: &[&Route]) -> String {
    if routes.is_empty() {
        return "no plugin serves a route of its own at this moment\n".to_owned();
    }
    let mut table = Table::new(["METHOD", "PATH", "PLUGIN", "CAPABILITY", "SCOPE", "DESCRIPTION"]);
    for route in routes {
        let text = |value: &Option<String>| value.clone().unwrap_or_default();
        table.row([
            text(&route.method),
            route.path.clone(),
            text(&route.plugin),
            text(&route.capability),
            text(&route.scope),
            route.summary.clone().unwrap_or_else(|| text(&route.description)),
        ]);
    }
    table.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_route_is_one_line() {
        let body = r#"[{"plugin":"ping","method":"GET","path":"/api/plugins/ping/pong","capability":"ping.pong"}]"#;
        for text in [body.to_owned(), format!(r#"{{"routes":{body}}}"#)] {
            let (Routes::Bare(routes) | Routes::Held { routes }) = serde_json::from_str(&text).unwrap();
            assert_eq!(
                table(&routes.iter().collect::<Vec<_>>()),
                "METHOD  PATH                    PLUGIN  CAPABILITY  SCOPE  DESCRIPTION\n\
                 GET     /api/plugins/ping/pong  ping    ping.pong   -      -\n"
            );
        }
        assert!(table(&[]).starts_with("no plugin serves"));
    }
}
