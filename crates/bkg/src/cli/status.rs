//! `bkg status`: whether a daemon runs on the data directory, since when, where, with which plugins.
//!
//! It exits 0 only if the daemon answers.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use serde_json::{Value, json};

use super::Verdict;
use super::client::Client;
use super::error::CliError;
use super::output::Output;
use super::peer::Peer;
use super::plugin_object::Plugin;
use super::story;
use super::target::{Place, Target};
use super::time::{elapsed, moment};

/// The answer of `GET /admin/ports`, as far as it is shown here.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Elsewhere {
    started_at: Timestamp,
}

/// The answer of `GET /admin/system`, as far as it is shown here.
#[derive(Deserialize)]
struct System {
    storage: Storage,
}

/// Whether the daemon can write changes.
#[derive(Deserialize, Serialize)]
struct Storage {
    condition: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
}

impl Storage {
    /// What an operator has to know; nothing where all is well.
    fn trouble(&self) -> Option<String> {
        match self.condition.as_str() {
            "sound" => None,
            "full" => Some(
                "the disk is full: requests are served; of changes, only stopping, disabling and revoking work"
                    .to_owned(),
            ),
            _ => {
                let reason = self.reason.as_deref().unwrap_or("no reason is known");
                Some(format!("the disk fails ({reason}): requests are served, and no change is taken"))
            }
        }
    }
}

/// What is known about the daemon beside its plugins.
struct Facts {
    /// As members of the JSON.
    members: Value,
    /// Who it is, in words.
    name: String,
    started_at: Timestamp,
    /// Heading and value.
    places: Vec<(&'static str, String)>,
}

/// Shows the daemon and its plugins.
pub(super) fn print(target: &Target, output: &mut Output) -> Result<Verdict, CliError> {
    let client = match Client::without_credential(target) {
        Ok(client) => client.identified(target)?,
        Err(error) => {
            if output.wants_json() {
                output.json(&absent(target, &error).to_string())?;
                return Ok(Verdict::NotReached);
            }
            return Err(error);
        }
    };
    let answer = client.get("/admin/plugins")?;
    let mut facts = facts(&client)?;
    let System { storage } = client.get("/admin/system")?.read()?;
    facts.members["storage"] = json!(storage);
    facts.places.extend(storage.trouble().map(|trouble| ("storage", trouble)));
    let now = Timestamp::now();
    if output.wants_json() {
        let plugins: Box<RawValue> = answer.read()?;
        // Put together as text: what the daemon said passes through as it was said.
        let mut state = facts.members;
        state["startedAt"] = json!(facts.started_at);
        state["uptimeSeconds"] = json!(now.duration_since(facts.started_at).as_secs().max(0));
        let state = state.to_string();
        let members = state.strip_suffix('}').expect("an object ends with its brace");
        output.json(&format!("{members},\"plugins\":{plugins}}}"))?;
    } else {
        let plugins: Vec<Plugin> = answer.read()?;
        let mut text = format!(
            "{} has been up for {}, since {}\n",
            facts.name,
            elapsed(facts.started_at, now),
            moment(facts.started_at)
        );
        for (heading, place) in &facts.places {
            text.push_str(&format!("  {heading:12}{place}\n"));
        }
        output.text(&format!("{text}\n{}", story::list(&plugins, now)))?;
    }
    Ok(Verdict::Reached)
}

fn absent(target: &Target, error: &CliError) -> Value {
    let reason = error.to_string();
    match &target.place {
        Place::Directory(data_dir) => json!({ "running": false, "dataDir": data_dir, "reason": reason }),
        Place::Elsewhere(remote) => {
            json!({ "running": false, "address": remote.address.to_string(), "reason": reason })
        }
    }
}

fn facts(client: &Client) -> Result<Facts, CliError> {
    match &client.peer {
        Peer::Local(daemon) => {
            let ports = &daemon.ports;
            let members = json!({
                "running": true,
                "pid": ports.pid,
                "address": daemon.address(),
                "busAddress": daemon.bus_address(),
                "dataDir": daemon.data_dir,
            });
            let places = vec![
                ("API", daemon.address()),
                ("plugin bus", daemon.bus_address()),
                ("data", daemon.data_dir.display().to_string()),
            ];
            let name = format!("the daemon (pid {})", ports.pid);
            Ok(Facts { members, name, started_at: ports.started_at, places })
        }
        Peer::Elsewhere(remote) => {
            let Elsewhere { started_at } = client.get("/admin/ports")?.read()?;
            let address = remote.address.to_string();
            let members = json!({ "running": true, "address": address });
            Ok(Facts { members, name: "the daemon".to_owned(), started_at, places: vec![("API", address)] })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::client::tests::{ScriptedDaemon, answer};
    use super::*;

    const PLUGINS: &str =
        r#"[{"name":"ping","status":"running","instances":[{"id":"i","pid":7}],"n":1.50}]"#;

    fn system(storage: &str) -> String {
        answer("200 OK", &format!(r#"{{"pid":7,"storage":{storage}}}"#))
    }

    #[test]
    fn a_disk_that_takes_no_changes_is_said_and_no_other() {
        for (storage, said) in [
            (r#"{"condition":"sound"}"#, None),
            (r#"{"condition":"full"}"#, Some("the disk is full: ")),
            (
                r#"{"condition":"failing","reason":"disk I/O error"}"#,
                Some("the disk fails (disk I/O error): "),
            ),
        ] {
            let daemon = ScriptedDaemon::start(vec![answer("200 OK", PLUGINS), system(storage)]);
            let mut output = Output::captured(false);
            print(&daemon.target(), &mut output).unwrap();
            let text = output.written();
            let line = text.lines().find_map(|line| line.strip_prefix("  storage     "));
            assert_eq!(line.is_some(), said.is_some(), "{text}");
            assert!(line.unwrap_or_default().starts_with(said.unwrap_or_default()), "{text}");
            daemon.requests();
        }
    }

    #[test]
    fn a_running_daemon_is_described_with_its_plugins() {
        let scripted = vec![answer("200 OK", PLUGINS), system(r#"{"condition":"sound"}"#)];
        let daemon = ScriptedDaemon::start(scripted);
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
        let scripted = vec![answer("200 OK", PLUGINS), system(r#"{"condition":"sound"}"#)];
        let daemon = ScriptedDaemon::start(scripted);
        let mut output = Output::captured(true);
        print(&daemon.target(), &mut output).unwrap();
        let text = output.written();
        assert!(text.ends_with(&format!(",\"plugins\":{PLUGINS}}}\n")), "{text}");
        let state: Value = serde_json::from_str(&text).unwrap();
        assert_eq!(state["running"], true);
        assert_eq!(state["pid"], std::process::id());
        assert_eq!(state["startedAt"], "2026-01-02T03:04:05Z");
        assert!(state["uptimeSeconds"].is_u64());
        assert_eq!(state["storage"], json!({ "condition": "sound" }));
        daemon.requests();
    }

    #[test]
    fn without_a_daemon_json_says_so_and_the_exit_code_too() {
        let directory = tempfile::tempdir().unwrap();
        let target = Target::with_root_key(directory.path().to_owned());
        let mut output = Output::captured(true);
        assert_eq!(print(&target, &mut output).unwrap(), Verdict::NotReached);
        let state: Value = serde_json::from_str(&output.written()).unwrap();
        assert_eq!(state["running"], false);
        assert!(state["reason"].as_str().unwrap().starts_with("no daemon runs on `"), "{state}");
        let error = print(&target, &mut Output::captured(false)).unwrap_err();
        assert_eq!(error.exit_code(), 1);
    }
}
