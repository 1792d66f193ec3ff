//! `bkg plugin`: list, show, start, stop, restart, swap, invoke and more, each one request to the daemon.
//!
//! The invariant: a start, stop or restart exits 0 only if the plugin got where it was sent, or if
//! nobody wanted to wait.

use std::io::{self, Read};
use std::time::Duration;

use bkg_protocol::{PluginName, RawJson};
use http::StatusCode;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::Verdict;
use super::arguments::{Invocation, PluginCommand, Transition};
use super::client::{Client, PROMPT};
use super::error::CliError;
use super::output::Output;
use super::plugin_object::Plugin;
use super::plugin_routes as routes;
use super::plugin_runs as runs;
use super::story;
use super::swap;
use super::target::Target;
use super::top;

/// Where a command sends a plugin.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Order {
    Start,
    Stop,
    Restart,
}

impl Order {
    fn as_str(self) -> &'static str {
        match self {
            Self::Start => "start",
            Self::Stop => "stop",
            Self::Restart => "restart",
        }
    }

    fn is_reached(self, plugin: &Plugin) -> bool {
        match self {
            Self::Start | Self::Restart => plugin.serves(),
            Self::Stop => plugin.status == "stopped",
        }
    }
}

/// Carries out everything but `logs`.
pub(super) fn run(
    target: &Target,
    command: &PluginCommand,
    output: &mut Output,
) -> Result<Verdict, CliError> {
    match command {
        PluginCommand::List => {
            let answer = Client::find(target)?.get("/admin/plugins")?;
            if output.wants_json() {
                output.json(&answer.body)?;
            } else {
                output.text(&story::list(&answer.read::<Vec<Plugin>>()?, Timestamp::now()))?;
            }
            Ok(Verdict::Reached)
        }
        PluginCommand::Show { name } => {
            let client = Client::find(target)?;
            let answer = client.get(&format!("/admin/plugins/{name}"))?;
            if output.wants_json() {
                output.json(&answer.body)?;
            } else {
                output.text(&story::show(&answer.read()?, Timestamp::now()))?;
                if let Some(crash) = runs::last_crash(&client, name) {
                    output.text(&crash)?;
                }
            }
            Ok(Verdict::Reached)
        }
        PluginCommand::Start(transition) => steer(target, Order::Start, transition, output),
        PluginCommand::Stop(transition) => steer(target, Order::Stop, transition, output),
        PluginCommand::Restart(transition) => steer(target, Order::Restart, transition, output),
        PluginCommand::Swap(request) => swap::run(target, request, output),
        PluginCommand::Invoke(invocation) => invoke(target, invocation, output),
        PluginCommand::Routes { name } => {
            let answer = Client::find(target)?.get("/api/plugins/routes")?;
            let name = name.as_ref().map(PluginName::as_str);
            routes::print(&answer, name, output)
        }
        PluginCommand::Runs { name, id, limit } => runs::print(target, name, id.as_deref(), *limit, output),
        PluginCommand::Events { name, limit } => runs::print_events(target, name, *limit, output),
        PluginCommand::Telemetry { name, samples } => top::history(target, name.as_str(), *samples, output),
        PluginCommand::Logs(_) => unreachable!("the logs have a module of their own"),
    }
}

fn steer(
    target: &Target,
    order: Order,
    transition: &Transition,
    output: &mut Output,
) -> Result<Verdict, CliError> {
    let Transition { name, wait } = transition;
    let client = Client::find(target)?;
    let mut path = format!("/admin/plugins/{name}/{}", order.as_str());
    if *wait > 0 {
        path.push_str(&format!("?wait={wait}"));
        output.remark(&format!("{} {name}, waiting up to {wait} s", order.as_str()));
    }
    let answer = client.post(&path, None, Some(PROMPT + Duration::from_secs(*wait)))?;
    let plugin: Plugin = answer.read()?;
    let is_under_way = answer.status == StatusCode::ACCEPTED;
    if output.wants_json() {
        output.json(&answer.body)?;
    } else if *wait == 0 {
        output.text(&format!(
            "the order to {} {name} is given; {}",
            order.as_str(),
            story::state(&plugin)
        ))?;
    } else {
        output.text(&story::state(&plugin))?;
        if is_under_way {
            output.remark(&format!(
                "this is not its end: `bkg plugin logs {name} -f` shows what it does, `--wait` waits longer"
            ));
        }
    }
    let is_reached = order.is_reached(&plugin) && !is_under_way;
    Ok(if *wait == 0 || is_reached { Verdict::Reached } else { Verdict::NotReached })
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Question<'a> {
    capability: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    payload: Option<RawJson>,
    #[serde(skip_serializing_if = "Option::is_none")]
    timeout_ms: Option<u64>,
}

#[derive(Deserialize)]
struct Data {
    data: Box<RawValue>,
}

fn invoke(target: &Target, invocation: &Invocation, output: &mut Output) -> Result<Verdict, CliError> {
    let Invocation { name, capability, payload, timeout_ms } = invocation;
    let question = Question {
        capability: capability.as_str(),
        payload: payload.as_deref().map(|text| read_payload(text, io::stdin())).transpose()?,
        timeout_ms: *timeout_ms,
    };
    let within = timeout_ms.map(|limit| Duration::from_millis(limit).saturating_add(PROMPT));
    let answer = Client::find(target)?.post(
        &format!("/api/plugins/{name}/invoke"),
        Some(&RawJson::of(&question)),
        within,
    )?;
    if output.wants_json() {
        output.json(&answer.body)?;
    } else {
        output.json(answer.read::<Data>()?.data.get())?;
    }
    Ok(Verdict::Reached)
}

/// The payload as it was written, checked to be JSON before anybody is bothered with it.
fn read_payload(text: &str, mut input: impl Read) -> Result<RawJson, CliError> {
    let text = if text == "-" {
        let mut text = String::new();
        input.read_to_string(&mut text).map_err(|source| CliError::Input { source })?;
        text
    } else {
        text.to_owned()
    };
    RawJson::parse(text).map_err(|error| CliError::Payload { reason: error.to_string() })
}

#[cfg(test)]
mod tests {
    use super::super::client::tests::{ScriptedDaemon, answer};
    use super::*;

    fn run_against(
        status: &str,
        body: &str,
        command: PluginCommand,
        json: bool,
    ) -> (Result<Verdict, CliError>, Output, String) {
        let daemon = ScriptedDaemon::start(vec![answer(status, body)]);
        let mut output = Output::captured(json);
        let result = run(&daemon.target(), &command, &mut output);
        (result, output, daemon.requests().remove(0))
    }

    fn transition(wait: u64) -> Transition {
        Transition { name: "ping".parse().unwrap(), wait }
    }

    #[test]
    fn the_list_in_json_is_what_the_daemon_answers() {
        let body = r#"[{"name":"ping","status":"running","instances":[{"id":"i","pid":7}],"n":1.50}]"#;
        let (result, output, request) = run_against("200 OK", body, PluginCommand::List, true);
        assert_eq!(result.unwrap(), Verdict::Reached);
        assert_eq!(output.written(), format!("{body}\n"));
        assert!(request.starts_with("GET /admin/plugins HTTP/1.1\r\n"), "{request}");
    }

    #[test]
    fn a_start_succeeds_only_if_the_plugin_serves() {
        for (status, body, verdict) in [
            ("200 OK", r#"{"name":"ping","status":"running"}"#, Verdict::Reached),
            ("200 OK", r#"{"name":"ping","status":"degraded"}"#, Verdict::Reached),
            ("200 OK", r#"{"name":"ping","status":"failed","reason":"x"}"#, Verdict::NotReached),
            ("200 OK", r#"{"name":"ping","status":"backoff"}"#, Verdict::NotReached),
            ("202 Accepted", r#"{"name":"ping","status":"preparing"}"#, Verdict::NotReached),
            // The old process still serves while its restart waits for it.
            ("202 Accepted", r#"{"name":"ping","status":"running"}"#, Verdict::NotReached),
        ] {
            for command in [PluginCommand::Start(transition(30)), PluginCommand::Restart(transition(30))] {
                let (result, _, request) = run_against(status, body, command, false);
                assert_eq!(result.unwrap(), verdict, "{body}");
                assert!(request.contains("start?wait=30 HTTP/1.1\r\n"), "{request}");
            }
        }
    }

    #[test]
    fn a_stop_succeeds_only_if_nothing_runs() {
        for (body, verdict) in [
            (r#"{"name":"ping","status":"stopped"}"#, Verdict::Reached),
            (r#"{"name":"ping","status":"running"}"#, Verdict::NotReached),
        ] {
            let command = PluginCommand::Stop(transition(5));
            let (result, output, request) = run_against("200 OK", body, command, false);
            assert_eq!(result.unwrap(), verdict);
            assert!(request.starts_with("POST /admin/plugins/ping/stop?wait=5 HTTP/1.1\r\n"), "{request}");
            assert!(output.written().starts_with("ping is "), "{}", output.written());
        }
    }

    #[test]
    fn a_state_is_shown_with_its_reason() {
        let body = r#"{"name":"ping","status":"failed","reason":"`start.sh` ended with code 3"}"#;
        let (_, output, _) = run_against("200 OK", body, PluginCommand::Start(transition(30)), false);
        assert_eq!(output.written(), "ping is failed: `start.sh` ended with code 3\n");
        assert_eq!(output.remarked(), "start ping, waiting up to 30 s\n");
    }

    #[test]
    fn an_order_without_waiting_says_that_it_is_only_given() {
        let body = r#"{"name":"ping","status":"starting"}"#;
        let (result, output, request) =
            run_against("202 Accepted", body, PluginCommand::Start(transition(0)), false);
        assert_eq!(result.unwrap(), Verdict::Reached);
        assert_eq!(output.written(), "the order to start ping is given; ping is starting\n");
        assert!(request.starts_with("POST /admin/plugins/ping/start HTTP/1.1\r\n"), "{request}");
    }

    fn invocation(payload: Option<&str>) -> PluginCommand {
        PluginCommand::Invoke(Invocation {
            name: "ping".parse().unwrap(),
            capability: "ping.echo".parse().unwrap(),
            payload: payload.map(str::to_owned),
            timeout_ms: Some(9),
        })
    }

    #[test]
    fn a_payload_and_its_answer_travel_as_they_were_written() {
        let command = invocation(Some(r#"{"b":1.50,"a":12345678901234567890123}"#));
        let (result, output, request) = run_against("200 OK", r#"{"data":{"z":1.0}}"#, command, false);
        assert_eq!(result.unwrap(), Verdict::Reached);
        assert_eq!(output.written(), "{\"z\":1.0}\n");
        let body =
            r#"{"capability":"ping.echo","payload":{"b":1.50,"a":12345678901234567890123},"timeoutMs":9}"#;
        assert!(request.ends_with(&format!("\r\n\r\n{body}")), "{request}");
        let (_, output, request) = run_against("200 OK", r#"{"data":null}"#, invocation(None), true);
        assert_eq!(output.written(), "{\"data\":null}\n");
        assert!(request.ends_with(r#"{"capability":"ping.echo","timeoutMs":9}"#), "{request}");
    }

    #[test]
    fn a_payload_that_is_not_json_is_refused_before_anybody_is_asked() {
        let nowhere = tempfile::tempdir().unwrap();
        let target = Target::with_root_key(nowhere.path().to_owned());
        let error = run(&target, &invocation(Some("{a:1}")), &mut Output::captured(false)).unwrap_err();
        assert!(matches!(error, CliError::Payload { .. }), "{error:?}");
        assert_eq!(error.exit_code(), 2);
    }

    #[test]
    fn a_dash_reads_standard_input() {
        assert_eq!(read_payload("-", r#" [1] "#.as_bytes()).unwrap().as_str().trim(), "[1]");
        assert!(matches!(read_payload("-", &b"\xff"[..]), Err(CliError::Input { .. })));
        assert_eq!(read_payload("-5", io::empty()).unwrap().as_str(), "-5");
    }
}
