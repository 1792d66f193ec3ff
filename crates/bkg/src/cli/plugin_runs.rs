//! `bkg plugin runs` and `bkg plugin events`: what became of a plugin, in words.
//!
//! What the daemon did not say is left out, never made up: a daemon of another version may say less.

use std::fmt::Write;

use bkg_protocol::PluginName;
use jiff::Timestamp;
use serde::Deserialize;

use super::Verdict;
use super::client::Client;
use super::error::CliError;
use super::output::{Output, harmless};
use super::table::Table;
use super::target::Target;
use super::time::{elapsed, moment};

/// What a heading is filled up to.
const HEADING: usize = 14;
/// How much of an id tables show: ids sort by time, so it is the end that tells them apart.
const END_OF_ID: usize = 12;
/// How many of its last lines the head of a crash shows.
const LINES_OF_HEAD: usize = 3;

/// One run.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct Run {
    id: String,
    seat: Option<u32>,
    version: String,
    revision: u64,
    pid: Option<u32>,
    started_at: Option<Timestamp>,
    registered_at: Option<Timestamp>,
    ended_at: Option<Timestamp>,
    outcome: String,
    exit: Option<Exit>,
    reason: Option<String>,
    restarts: u64,
    last_stderr: Vec<String>,
    in_flight: Vec<OpenRequest>,
    resources: Vec<ResourcePoint>,
    earlier: Vec<Run>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
struct Exit {
    oom: bool,
    text: String,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct OpenRequest {
    capability: String,
    request_id: Option<String>,
    age_ms: u64,
}

#[derive(Debug, Clone, Deserialize)]
struct ResourcePoint {
    at: Timestamp,
    cpu: f64,
    rss: u64,
    fds: u64,
    threads: u64,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Runs {
    runs: Vec<Run>,
    missed: u64,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Event {
    run: Option<String>,
    at: Option<Timestamp>,
    state: String,
    reason: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Events {
    events: Vec<Event>,
    missed: u64,
}

/// Shows the runs of a plugin, or one with its crash card.
pub(super) fn print(
    target: &Target,
    name: &PluginName,
    id: Option<&str>,
    limit: u32,
    output: &mut Output,
) -> Result<Verdict, CliError> {
    let client = Client::find(target)?;
    let Some(id) = id else {
        let answer = client.get(&format!("/admin/plugins/{name}/runs?limit={limit}"))?;
        if output.wants_json() {
            output.json(&answer.body)?;
        } else {
            let Runs { runs, missed } = answer.read()?;
            output.text(&table(name, &runs, Timestamp::now()))?;
            tell_missed(missed, output);
        }
        return Ok(Verdict::Reached);
    };
    let id = whole_id(&client, name, id)?;
    let answer = client.get(&format!("/admin/plugins/{name}/runs/{id}"))?;
    if output.wants_json() {
        output.json(&answer.body)?;
    } else {
        output.text(&card(&answer.read()?))?;
    }
    Ok(Verdict::Reached)
}

/// Shows what happened to a plugin, the newest last.
pub(super) fn print_events(
    target: &Target,
    name: &PluginName,
    limit: u32,
    output: &mut Output,
) -> Result<Verdict, CliError> {
    let answer = Client::find(target)?.get(&format!("/admin/plugins/{name}/events?limit={limit}"))?;
    if output.wants_json() {
        output.json(&answer.body)?;
        return Ok(Verdict::Reached);
    }
    let Events { events, missed } = answer.read()?;
    if events.is_empty() {
        output.text(&format!("nothing has happened to {name}\n"))?;
    } else {
        let mut table = Table::new(["AT", "STATE", "RUN", "REASON"]);
        for event in events.into_iter().rev() {
            let run = event.run.as_deref().map(end_of).unwrap_or_default().to_owned();
            let at = event.at.map(moment).unwrap_or_default();
            table.row([at, event.state, run, event.reason.unwrap_or_default()]);
        }
        output.text(&table.to_string())?;
    }
    tell_missed(missed, output);
    Ok(Verdict::Reached)
}

/// The head of the card of the plugin's last crash, if one is kept. A daemon that does not answer that has
/// answered the question that was asked, and that is enough.
pub(super) fn last_crash(client: &Client, name: &PluginName) -> Option<String> {
    let runs: Runs = client.get(&format!("/admin/plugins/{name}/runs?limit=50")).ok()?.read().ok()?;
    let crashed = runs.runs.iter().find(|run| matches!(run.outcome.as_str(), "crashed" | "lost"))?;
    let whole: Option<Run> =
        client.get(&format!("/admin/plugins/{name}/runs/{}", crashed.id)).ok()?.read().ok();
    Some(head(name, whole.as_ref().unwrap_or(crashed), Timestamp::now()))
}

/// The id that ends, or begins, with this.
fn whole_id(client: &Client, name: &PluginName, id: &str) -> Result<String, CliError> {
    if id.len() == 36 {
        return Ok(id.to_owned());
    }
    let runs: Runs = client.get(&format!("/admin/plugins/{name}/runs?limit=50"))?.read()?;
    let mut found = runs.runs.iter().filter(|run| run.id.ends_with(id) || run.id.starts_with(id));
    // The daemon says best what it does not know.
    Ok(match (found.next(), found.next()) {
        (Some(run), None) => run.id.clone(),
        _ => {
            id.chars().filter(|character| character.is_ascii_alphanumeric() || *character == '-').collect()
        }
    })
}

fn tell_missed(missed: u64, output: &mut Output) {
    if missed > 0 {
        output.remark(&format!("{missed} things that happened to plugins could not be kept"));
    }
}

fn end_of(id: &str) -> &str {
    id.get(id.len().saturating_sub(END_OF_ID)..).unwrap_or(id)
}

impl Run {
    /// How long it lasted, or has lasted.
    fn lasted(&self, now: Timestamp) -> String {
        match (self.started_at, self.ended_at) {
            (Some(from), Some(to)) => elapsed(from, to),
            (Some(from), None) if self.outcome == "running" => elapsed(from, now),
            _ => String::new(),
        }
    }

    fn why(&self) -> String {
        let exit = self.exit.as_ref().map(|exit| exit.text.as_str()).filter(|text| !text.is_empty());
        match (self.reason.as_deref(), exit) {
            (Some(reason), Some(exit)) if !reason.contains(exit) => format!("{reason} ({exit})"),
            (reason, exit) => reason.or(exit).unwrap_or_default().to_owned(),
        }
    }
}

fn table(name: &PluginName, runs: &[Run], now: Timestamp) -> String {
    if runs.is_empty() {
        return format!("{name} has not run yet\n");
    }
    let mut table = Table::new(["RUN", "STARTED", "LASTED", "OUTCOME", "VERSION", "PID", "WHY"]);
    for run in runs {
        table.row([
            end_of(&run.id).to_owned(),
            run.started_at.map(moment).unwrap_or_default(),
            run.lasted(now),
            run.outcome.clone(),
            run.version.clone(),
            run.pid.map(|pid| pid.to_string()).unwrap_or_default(),
            run.why(),
        ]);
    }
    table.to_string()
}

/// What happened last that should not have, in a few lines.
fn head(name: &PluginName, run: &Run, now: Timestamp) -> String {
    let mut text = String::from("\n");
    let when = run.ended_at.or(run.started_at);
    let ago = when.map(|at| format!(" {} ago", elapsed(at, now))).unwrap_or_default();
    let what = if run.outcome == "lost" { "last lost run" } else { "last crash" };
    line(&mut text, what, format!("{}{ago}", run.why()).trim_start());
    for said in run.last_stderr.iter().rev().take(LINES_OF_HEAD).rev() {
        line(&mut text, "", said);
    }
    if !run.in_flight.is_empty() {
        line(&mut text, "unanswered", &format!("{} requests", run.in_flight.len()));
    }
    line(&mut text, "more", &format!("bkg plugin runs {name} {}", end_of(&run.id)));
    text
}

/// All that is known of a run.
fn card(run: &Run) -> String {
    let mut text = harmless(&format!("run {} {}", run.id, said(&run.outcome)));
    text.push('\n');
    let facts = [
        ("why", run.why()),
        ("started", run.started_at.map(moment).unwrap_or_default()),
        ("registered", registered(run)),
        ("ended", run.ended_at.map(moment).unwrap_or_default()),
        ("lasted", if run.ended_at.is_some() { run.lasted(Timestamp::UNIX_EPOCH) } else { String::new() }),
        ("version", run.version.clone()),
        ("revision", if run.revision > 0 { run.revision.to_string() } else { String::new() }),
        ("process", run.pid.map(|pid| pid.to_string()).unwrap_or_default()),
        ("instance", run.seat.filter(|seat| *seat > 1).map(|seat| seat.to_string()).unwrap_or_default()),
        ("restarts", if run.restarts > 0 { run.restarts.to_string() } else { String::new() }),
        (
            "memory",
            if run.exit.as_ref().is_some_and(|exit| exit.oom) {
                "it was killed while memory ran out".to_owned()
            } else {
                String::new()
            },
        ),
    ];
    for (heading, value) in facts {
        if !value.is_empty() {
            line(&mut text, heading, &value);
        }
    }
    section(&mut text, "last on standard error", &run.last_stderr);
    let requests = run.in_flight.iter().map(|request| {
        let id = request.request_id.as_deref().map(|id| format!(", request {id}")).unwrap_or_default();
        format!("{} for {} ms{id}", request.capability, request.age_ms)
    });
    section(&mut text, "requests that it did not answer", &requests.collect::<Vec<_>>());
    if let (Some(first), Some(last)) = (run.resources.first(), run.resources.last()) {
        let most = run.resources.iter().map(|point| point.rss).max().unwrap_or_default();
        let busiest = run.resources.iter().map(|point| point.cpu).fold(0.0, f64::max);
        let lines = [
            format!(
                "at the end {} MiB, {:.0} % of a core, {} descriptors, {} threads",
                last.rss >> 20,
                last.cpu,
                last.fds,
                last.threads
            ),
            format!("at most {} MiB and {busiest:.0} % of a core", most >> 20),
            format!("at the beginning {} MiB, {}", first.rss >> 20, moment(first.at)),
        ];
        section(&mut text, "what it used", &lines);
    }
    let earlier = run.earlier.iter().map(|run| {
        let at = run.started_at.map(moment).unwrap_or_default();
        format!("{at}  {}: {}", run.outcome, run.why())
    });
    section(&mut text, "runs before it", &earlier.collect::<Vec<_>>());
    text
}

fn registered(run: &Run) -> String {
    match (run.registered_at, run.started_at) {
        (Some(at), Some(from)) => {
            format!("{}, after {} ms", moment(at), at.duration_since(from).as_millis())
        }
        (Some(at), None) => moment(at),
        (None, _) if run.outcome == "running" => String::new(),
        (None, _) => "never".to_owned(),
    }
}

/// What became of a run, as it reads after its name.
fn said(outcome: &str) -> String {
    match outcome {
        "crashed" => "crashed".to_owned(),
        "running" => "goes on".to_owned(),
        "rolled-back" => "was rolled back".to_owned(),
        other => format!("was {other}"),
    }
}

fn line(text: &mut String, heading: &str, value: &str) {
    writeln!(text, "  {heading:HEADING$}{}", harmless(value)).expect("a string takes all text");
}

fn section(text: &mut String, heading: &str, lines: &[String]) {
    if lines.is_empty() {
        return;
    }
    write!(text, "\n{heading}:\n").expect("a string takes all text");
    for line in lines {
        writeln!(text, "  {}", harmless(line)).expect("a string takes all text");
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn crashed() -> Run {
        serde_json::from_value(json!({
            "id": "0199f1e2-0000-7000-8000-000000000001", "plugin": "p", "seat": 1, "version": "1.0.0",
            "revision": 3, "pid": 4711, "startedAt": "2026-01-02T03:00:00Z",
            "registeredAt": "2026-01-02T03:00:00.25Z", "endedAt": "2026-01-02T03:01:05Z",
            "outcome": "crashed", "exit": {"signal": 9, "oom": false, "text": "killed by SIGKILL"},
            "reason": "its process killed by SIGKILL", "restarts": 2,
            "lastStderr": ["one", "two", "three", "\u{1b}[2Jfour"],
            "inFlight": [{"capability": "llm.chat", "requestId": "r_1", "ageMs": 12}],
            "resources": [
                {"at": "2026-01-02T03:00:05Z", "cpu": 3.0, "rss": 10485760, "fds": 9, "threads": 4},
                {"at": "2026-01-02T03:01:05Z", "cpu": 99.6, "rss": 20971520, "fds": 10, "threads": 5}
            ],
            "earlier": [{"startedAt": "2026-01-02T02:00:00Z", "outcome": "replaced", "reason": "it was replaced"}],
        }))
        .unwrap()
    }

    fn now() -> Timestamp {
        "2026-01-02T03:02:05Z".parse().unwrap()
    }

    #[test]
    fn a_card_tells_the_whole_run() {
        assert_eq!(
            card(&crashed()),
            "\
run 0199f1e2-0000-7000-8000-000000000001 crashed
  why           its process killed by SIGKILL
  started       2026-01-02T03:00:00.000Z
  registered    2026-01-02T03:00:00.250Z, after 250 ms
  ended         2026-01-02T03:01:05.000Z
  lasted        1 min 5 s
  version       1.0.0
  revision      3
  process       4711
  restarts      2

last on standard error:
  one
  two
  three
  \\u{1b}[2Jfour

requests that it did not answer:
  llm.chat for 12 ms, request r_1

what it used:
  at the end 20 MiB, 100 % of a core, 10 descriptors, 5 threads
  at most 20 MiB and 100 % of a core
  at the beginning 10 MiB, 2026-01-02T03:00:05.000Z

runs before it:
  2026-01-02T02:00:00.000Z  replaced: it was replaced
"
        );
    }

    #[test]
    fn the_head_of_a_crash_is_a_few_lines() {
        assert_eq!(
            head(&"p".parse().unwrap(), &crashed(), now()),
            "
  last crash    its process killed by SIGKILL 1 min 0 s ago
                two
                three
                \\u{1b}[2Jfour
  unanswered    1 requests
  more          bkg plugin runs p 000000000001
"
        );
    }

    #[test]
    fn runs_are_a_table() {
        let lost = Run { outcome: "lost".to_owned(), id: "x".to_owned(), ..Run::default() };
        assert_eq!(
            table(&"p".parse().unwrap(), &[crashed(), lost], now()),
            "\
RUN           STARTED                   LASTED     OUTCOME  VERSION  PID   WHY
000000000001  2026-01-02T03:00:00.000Z  1 min 5 s  crashed  1.0.0    4711  its process killed by SIGKILL
x             -                         -          lost     -        -     -
"
        );
        assert_eq!(table(&"p".parse().unwrap(), &[], now()), "p has not run yet\n");
    }
}
