//! `bkg status`: whether a daemon runs on the data directory, since when, where, with which plugins.
//!
//! It exits 0 only if the daemon answers.

use jiff::Timestamp;
use serde_json::json;
use serde_json::value::RawValue;

use super::Verdict;
use super::client::Client;
use super::error::CliError;
use super::output::Output;
use super::plugin_object::Plugin;
use super::story;
use super::target::Target;
use super::time::{elapsed, moment};

pub(super) fn print(target: &Target, output: &mut Output) -> Result<Verdict, CliError> {
    let client = match Client::without_credential(target) {
        Ok(client) => client.identified(target)?,
        Err(error) => {
            if output.wants_json() {
                let state =
                    json!({ "running": false, "dataDir": target.data_dir, "reason": error.to_string() });
                output.json(&state.to_string())?;
                return Ok(Verdict::NotReached);
            }
            return Err(error);
        }
    };
    let answer = client.get("/admin/plugins")?;
    let daemon = &client.daemon;
    let (ports, now) = (&daemon.ports, Timestamp::now());
    if output.wants_json() {
        let plugins: Box<RawValue> = answer.read()?;
        // Put together as text: what the daemon said passes through as it was said.
        let state = json!({
            "running": true,
            "pid": ports.pid,
            "address": daemon.address(),
            "busAddress": daemon.bus_address(),
            "dataDir": target.data_dir,
            "startedAt": ports.started_at,
            "uptimeSeconds": now.duration_since(ports.started_at).as_secs().max(0),
        })
        .to_string();
        let members = state.strip_suffix('}').expect("an object ends with its brace");
        output.json(&format!("{members},\"plugins\":{plugins}}}"))?;
    } else {
        let plugins: Vec<Plugin> = answer.read()?;
        output.text(&format!(
            "the daemon (pid {}) has been up for {}, since {}\n  API         {}\n  plugin bus  {}\n  data        {}\n\n{}",
            ports.pid,
            elapsed(ports.started_at, now),
            moment(ports.started_at),
            daemon.address(),
            daemon.bus_address(),
            target.data_dir.display(),
            story::list(&plugins, now),
        ))?;
    }
    Ok(Verdict::Reached)
}

#[cfg(test)]
mod tests {
    use super::super::client::tests::{ScriptedDaemon, answer};
    use super::*;

    const PLUGINS: &str =
        r#"[{"name":"ping","status":"running","instances":[{"id":"i","pid":7}],"n":1.50}]"#;

    #[test]
    fn a_running_daemon_is_described_with_its_plugins() {
        let daemon = ScriptedDaemon::start(vec![answer("200 OK", PLUGINS)]);
        let mut output = Output::captured(false);
        assert_eq!(print(&daemon.target(), &mut output).unwrap(), Verdict::Reached);
        let text = output.written();
        let pid = std::process::id();
        assert!(text.starts_with(&format!("the daemon (pid {pid}) has been up for ")), "{text}");
        assert!(text.contains("since 2026-01-02T03:04:05.000Z\n  API         http://127.0.0.1:"), "{text}");
        assert!(text.contains("\nping  running  -    -        7"), "{text}");
        daemon.requests();
    }

    #[test]
    fn json_holds_what_the_daemon_said_unchanged() {
        let daemon = ScriptedDaemon::start(vec![answer("200 OK", PLUGINS)]);
        let mut output = Output::captured(true);
        print(&daemon.target(), &mut output).unwrap();
        let text = output.written();
        assert!(text.ends_with(&format!(",\"plugins\":{PLUGINS}}}\n")), "{text}");
        let state: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!(state["running"], true);
        assert_eq!(state["pid"], std::process::id());
        assert_eq!(state["startedAt"], "2026-01-02T03:04:05Z");
        assert!(state["uptimeSeconds"].is_u64());
        daemon.requests();
    }

    #[test]
    fn without_a_daemon_json_says_so_and_the_exit_code_too() {
        let directory = tempfile::tempdir().unwrap();
        let target = Target::with_root_key(directory.path().to_owned());
        let mut output = Output::captured(true);
        assert_eq!(print(&target, &mut output).unwrap(), Verdict::NotReached);
        let state: serde_json::Value = serde_json::from_str(&output.written()).unwrap();
        assert_eq!(state["running"], false);
        assert!(state["reason"].as_str().unwrap().starts_with("no daemon runs on `"), "{state}");
        let error = print(&target, &mut Output::captured(false)).unwrap_err();
        assert_eq!(error.exit_code(), 1);
    }
}
