//! `bkg route`: the routes of models, what a name comes to at this moment, and changes of routes.
//!
//! Not how a decision is made: the daemon does that. The invariant: a change is made to the routes that
//! were read, or not at all: whoever else changed them meanwhile is not overwritten.

use bkg_protocol::RawJson;
use clap::{Args, Subcommand};
use http::{HeaderValue, Method};
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::Verdict;
use super::client::Client;
use super::error::CliError;
use super::output::{Output, harmless};
use super::route::asking;
use super::table::Table;
use super::target::Target;

/// Where routes are.
const ROUTING: &str = "/admin/routing";

/// What is asked about routes.
#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true)]
pub(super) struct RouteRequest {
    /// The name that a request would have; without one, all routes are listed
    model: Option<String>,
    /// What the request would ask for [default: what the name is for]
    #[arg(long, value_parser = ["llm.chat", "llm.embed"], requires = "model")]
    capability: Option<String>,
    #[command(subcommand)]
    command: Option<RouteCommand>,
}

/// A change of routes.
#[derive(Debug, Subcommand)]
enum RouteCommand {
    /// Make a route, or put another in its place
    Set {
        /// The name that clients ask for
        name: String,
        /// The models of which one is chosen, as ids or as `plugin/id`, each with its weight
        #[arg(required = true, value_name = "MODEL[=WEIGHT]")]
        targets: Vec<Weighted>,
        /// A model or route that is asked when no target answers; may be given several times
        #[arg(long = "fallback", value_name = "MODEL")]
        fallbacks: Vec<String>,
        /// How many further attempts there are at the targets [default: one at each of the others]
        #[arg(long, value_name = "COUNT", value_parser = clap::value_parser!(u8).range(0..=5))]
        retries: Option<u8>,
        /// What it is a route for [default: whatever its models can do]
        #[arg(long, value_parser = ["llm.chat", "llm.embed"])]
        capability: Option<String>,
    },
    /// Remove a route
    Remove {
        /// Its name
        name: String,
    },
}

/// A model with its weight.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Weighted {
    model: String,
    weight: Option<u32>,
}

impl std::str::FromStr for Weighted {
    type Err = String;

    /// `model` or `model=3`; what stands behind another `=` belongs to the model.
    fn from_str(text: &str) -> Result<Self, String> {
        let is_number =
            |weight: &str| !weight.is_empty() && weight.bytes().all(|byte| byte.is_ascii_digit());
        let (model, weight) = match text.rsplit_once('=') {
            Some((model, weight)) if is_number(weight) => {
                (model, Some(weight.parse().map_err(|_| format!("`{weight}` is too large a weight"))?))
            }
            _ => (text, None),
        };
        if model.is_empty() {
            return Err("name a model".to_owned());
        }
        Ok(Self { model: model.to_owned(), weight })
    }
}

/// Carries out a command about routes.
pub(super) fn run(
    target: &Target,
    request: &RouteRequest,
    output: &mut Output,
) -> Result<Verdict, CliError> {
    let client = Client::find(target)?;
    match request {
        RouteRequest { command: None, model: None, .. } => client.get(ROUTING)?.show(output, list),
        RouteRequest { command: None, model: Some(model), capability } => {
            let parameters = [("model", Some(model.clone())), ("capability", capability.clone())];
            let answer = client.get(&asking("/admin/routing/decision", parameters))?;
            answer.show(output, |decision: Decision| tell(&decision))
        }
        RouteRequest { command: Some(RouteCommand::Remove { name }), .. } => {
            let mut routes: Page = client.get(ROUTING)?.read()?;
            if routes.routes.remove(name).is_none() {
                output.remark(&harmless(&format!("there is no route {name}")));
                return Ok(Verdict::NotReached);
            }
            let sentence = harmless(&format!("the route {name} is removed"));
            save(&client, &routes)?.show_done(output, &sentence)
        }
        RouteRequest {
            command: Some(RouteCommand::Set { name, targets, fallbacks, retries, capability }),
            ..
        } => {
            let mut routes: Page = client.get(ROUTING)?.read()?;
            let targets: Vec<Value> = targets
                .iter()
                .map(|Weighted { model, weight }| match weight {
                    Some(weight) => json!({ "model": model, "weight": weight }),
                    None => json!({ "model": model }),
                })
                .collect();
            let route = json!({
                "targets": targets, "fallbacks": fallbacks, "retries": retries, "capability": capability,
            });
            routes.routes.insert(name.clone(), route);
            let answer = save(&client, &routes)?;
            answer.show(output, |page: Page| {
                let route = page.route(name);
                harmless(&format!("the route {name} leads to {}", route.described()))
            })
        }
    }
}

/// Saves the routes, unless somebody else has meanwhile.
fn save(client: &Client, page: &Page) -> Result<super::answer::Answer, CliError> {
    let tag = format!("\"{}\"", page.revision);
    let tag = HeaderValue::from_str(&tag).expect("a number in quotes is a header value");
    let body = RawJson::of(&json!({ "routes": page.routes }));
    client.order_if(Method::PUT, ROUTING, &body, Some(tag))
}

/// The routes as the daemon tells them.
#[derive(Deserialize)]
struct Page {
    revision: u64,
    #[serde(default)]
    routes: Map<String, Value>,
}

impl Page {
    fn route(&self, name: &str) -> Route {
        let route = self.routes.get(name);
        route.and_then(|route| serde_json::from_value(route.clone()).ok()).unwrap_or_default()
    }
}

/// What is shown of a route.
#[derive(Default, Deserialize)]
struct Route {
    #[serde(default)]
    targets: Vec<RouteTarget>,
    #[serde(default)]
    fallbacks: Vec<String>,
}

#[derive(Deserialize)]
struct RouteTarget {
    model: String,
    weight: Option<u32>,
}

impl Route {
    /// The targets, with their weights where there is something to choose.
    fn targets(&self) -> String {
        let has_choice = self.targets.len() > 1;
        let targets = self.targets.iter().map(|RouteTarget { model, weight }| match weight {
            _ if !has_choice => model.clone(),
            weight => format!("{model} ({})", weight.unwrap_or(1)),
        });
        targets.collect::<Vec<_>>().join(", ")
    }

    fn described(&self) -> String {
        match self.fallbacks.as_slice() {
            [] => self.targets(),
            fallbacks => format!("{}, and falls back to {}", self.targets(), fallbacks.join(", ")),
        }
    }
}

fn list(page: Page) -> String {
    if page.routes.is_empty() {
        return "there are no routes; `bkg route set NAME MODEL` makes one".to_owned();
    }
    let mut table = Table::new(["NAME", "TARGETS", "FALLBACKS"]);
    for name in page.routes.keys() {
        let route = page.route(name);
        table.row([name.clone(), route.targets(), route.fallbacks.join(", ")]);
    }
    let from = match page.revision {
        0 => "from the configuration file".to_owned(),
        revision => format!("revision {revision}"),
    };
    format!("{table}\n{from}")
}

/// A decision as the daemon tells it.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Decision {
    model: String,
    route: Option<String>,
    chosen: Option<Chosen>,
    #[serde(default)]
    last_resort: bool,
    #[serde(default)]
    candidates: Vec<Candidate>,
    problem: Option<String>,
}

#[derive(Deserialize)]
struct Chosen {
    plugin: String,
    model: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Candidate {
    named: String,
    plugin: Option<String>,
    model: Option<String>,
    part: String,
    percent: Option<f64>,
    place: Option<u64>,
    health: Option<String>,
    why_not: Option<String>,
}

fn tell(decision: &Decision) -> String {
    let kind = if decision.route.is_some() { "a route" } else { "no route" };
    let outcome = match (&decision.chosen, &decision.problem) {
        (Some(Chosen { plugin, model }), _) if decision.last_resort => {
            format!("for want of another, the next request goes to {model} of {plugin}")
        }
        (Some(Chosen { plugin, model }), _) => format!("the next request goes to {model} of {plugin}"),
        (None, Some(problem)) => problem.clone(),
        (None, None) => "nobody can be asked".to_owned(),
    };
    let sentence = harmless(&format!("{} is {kind}: {outcome}", decision.model));
    if decision.candidates.is_empty() {
        return sentence;
    }
    let mut table = Table::new(["PLACE", "PART", "PLUGIN", "MODEL", "SHARE", "HEALTH", "WHY NOT"]);
    for candidate in &decision.candidates {
        table.row([
            candidate.place.map(|place| place.to_string()).unwrap_or_default(),
            candidate.part.clone(),
            candidate.plugin.clone().unwrap_or_default(),
            candidate.model.clone().unwrap_or_else(|| candidate.named.clone()),
            candidate.percent.map(|percent| format!("{percent} %")).unwrap_or_default(),
            candidate.health.clone().unwrap_or_default(),
            candidate.why_not.clone().unwrap_or_default(),
        ]);
    }
    format!("{sentence}\n\n{}", table.to_string().trim_end())
}

#[cfg(test)]
mod tests {
    use std::ffi::OsString;

    use super::super::arguments::{Arguments, Command};
    use super::super::client::tests::{ScriptedDaemon, answer};
    use super::*;

    fn request(line: &str) -> Result<RouteRequest, clap::Error> {
        let words = line.split_whitespace().map(OsString::from);
        Arguments::parse(words).map(|arguments| match arguments.command {
            Command::Route(request) => request,
            other => panic!("`route` was asked for, not {other:?}"),
        })
    }

    /// What a command prints, and the requests that it makes of a daemon with these answers.
    fn run_against(line: &str, answers: &[&str]) -> (String, Vec<String>) {
        let answers = answers.iter().map(|body| answer("200 OK", body)).collect();
        let daemon = ScriptedDaemon::start(answers);
        let mut output = Output::captured(false);
        run(&daemon.target(), &request(line).unwrap(), &mut output).unwrap();
        (output.written(), daemon.requests())
    }

    const PAGE: &str = r#"{"revision":3,"savedAt":null,"routes":{"fast":{"targets":[{"model":"a","weight":3},
        {"model":"p/b"}],"fallbacks":["c"]},"one":{"targets":[{"model":"a"}]}}}"#;

    #[test]
    fn a_weight_stands_behind_the_last_equals_sign() {
        for (text, model, weight) in [
            ("a", "a", None),
            ("a=3", "a", Some(3)),
            ("p/a:b=c", "p/a:b=c", None),
            ("a=b=0", "a=b", Some(0)),
        ] {
            assert_eq!(text.parse(), Ok(Weighted { model: model.to_owned(), weight }));
        }
        for wrong in ["", "=3", "a=99999999999"] {
            assert!(wrong.parse::<Weighted>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn routes_are_listed_with_their_weights() {
        let (text, requests) = run_against("bkg route", &[PAGE]);
        assert_eq!(
            text,
            "\
NAME  TARGETS         FALLBACKS
fast  a (3), p/b (1)  c
one   a               -

revision 3
"
        );
        assert!(requests[0].starts_with("GET /admin/routing HTTP/1.1\r\n"), "{requests:?}");
    }

    #[test]
    fn a_change_is_made_to_the_routes_that_were_read() {
        let line = "bkg route set one b=2 c --fallback fast --fallback d --retries 1";
        let after = r#"{"revision":4,"routes":{"one":{"targets":[{"model":"b","weight":2},{"model":"c"}],
            "fallbacks":["fast","d"]}}}"#;
        let (text, requests) = run_against(line, &[PAGE, after]);
        assert_eq!(text, "the route one leads to b (2), c (1), and falls back to fast, d\n");
        assert!(requests[1].starts_with("PUT /admin/routing HTTP/1.1\r\n"), "{requests:?}");
        assert!(requests[1].to_lowercase().contains("if-match: \"3\"\r\n"), "{requests:?}");
        let body: Value = serde_json::from_str(requests[1].split("\r\n\r\n").nth(1).unwrap()).unwrap();
        assert_eq!(body["routes"]["fast"]["fallbacks"], json!(["c"]), "the other one stays");
        assert_eq!(
            body["routes"]["one"],
            json!({
                "targets": [{ "model": "b", "weight": 2 }, { "model": "c" }],
                "fallbacks": ["fast", "d"], "retries": 1, "capability": null,
            })
        );
    }

    #[test]
    fn a_route_that_is_not_there_is_not_removed() {
        let (text, requests) = run_against("bkg route remove one", &[PAGE, PAGE]);
        assert_eq!(text, "the route one is removed\n");
        assert!(!requests[1].contains("\"one\""), "{requests:?}");
        let daemon = ScriptedDaemon::start(vec![answer("200 OK", PAGE)]);
        let mut output = Output::captured(false);
        let request = request("bkg route remove none").unwrap();
        let verdict = run(&daemon.target(), &request, &mut output).unwrap();
        assert_eq!(
            (verdict, output.remarked().as_str()),
            (Verdict::NotReached, "there is no route none\n")
        );
    }

    #[test]
    fn a_decision_is_told_in_words_and_as_a_table() {
        let body = r#"{"model":"fast","capability":"llm.chat","revision":3,"route":"fast",
            "chosen":{"plugin":"two","model":"a"},"lastResort":false,"retries":0,"problem":null,"candidates":[
            {"named":"a","plugin":"one","model":"a","part":"target","weight":3,"percent":null,"place":null,
             "health":"resting","failures":7,"restingForMs":900,"whyNot":"it rests"},
            {"named":"two/a","plugin":"two","model":"a","part":"target","weight":1,"percent":100.0,"place":1,
             "health":"fit","failures":0,"restingForMs":null,"whyNot":null},
            {"named":"c","plugin":null,"model":null,"part":"fallback","weight":null,"percent":null,
             "place":null,"health":null,"failures":null,"restingForMs":null,"whyNot":"no plugin offers it"}]}"#;
        let (text, requests) = run_against("bkg route fast --capability llm.chat", &[body]);
        assert_eq!(
            text,
            "\
fast is a route: the next request goes to a of two

PLACE  PART      PLUGIN  MODEL  SHARE  HEALTH   WHY NOT
-      target    one     a      -      resting  it rests
1      target    two     a      100 %  fit      -
-      fallback  -       c      -      -        no plugin offers it
"
        );
        let address = "GET /admin/routing/decision?model=fast&capability=llm%2Echat HTTP/1.1\r\n";
        assert!(requests[0].starts_with(address), "{requests:?}");
    }

    #[test]
    fn what_makes_no_sense_is_refused_at_the_door() {
        for line in [
            "bkg route set one",
            "bkg route set one a --retries 6",
            "bkg route set one a --capability llm.draw",
            "bkg route one two",
            "bkg route remove",
        ] {
            assert!(request(line).is_err(), "{line}");
        }
    }
}
