//! `bkg config mirror`: what somebody wrote into `plugins.json` by hand, and what is to become of it.
//!
//! The file is the daemon's: it is not read here. The invariant: an import of which a part failed does
//! not exit 0.

use serde::Deserialize;

use super::Verdict;
use super::client::Client;
use super::entry_arguments::MirrorCommand;
use super::entry_object::{Change, Outcome};
use super::entry_story::{self, Intent};
use super::error::{CliError, Detail};
use super::output::{Output, harmless};
use super::target::Target;

/// The answer of `GET /admin/mirror`.
#[derive(Deserialize)]
struct Mirror {
    path: String,
    state: String,
    reason: Option<String>,
    #[serde(default)]
    edits: Vec<Edit>,
}

#[derive(Deserialize)]
struct Edit {
    plugin: String,
    #[serde(default)]
    changes: Vec<Change>,
    #[serde(default)]
    violations: Vec<Detail>,
}

/// The answer to an import, and without `imported` to giving it up.
#[derive(Deserialize)]
struct Settled {
    #[serde(default)]
    imported: Vec<Imported>,
    /// Where the file is that was written by hand.
    kept: Option<String>,
}

#[derive(Deserialize)]
struct Imported {
    plugin: String,
    outcome: Option<Outcome>,
    error: Option<String>,
}

/// Looks at it, or settles it.
pub(super) fn run(
    target: &Target,
    command: Option<MirrorCommand>,
    output: &mut Output,
) -> Result<Verdict, CliError> {
    let client = Client::find(target)?;
    let answer = match command {
        None => client.get("/admin/mirror")?,
        // A plugin that is started again may take its time; the daemon knows how much.
        Some(MirrorCommand::Import) => client.post("/admin/mirror/import", None, None)?,
        Some(MirrorCommand::Discard) => client.post("/admin/mirror/discard", None, None)?,
    };
    let (text, verdict) = match command {
        None => (view(&answer.read()?, output), Verdict::Reached),
        Some(_) => {
            let settled: Settled = answer.read()?;
            let failed = settled.imported.iter().any(|imported| imported.error.is_some());
            (end(&settled, output), if failed { Verdict::NotReached } else { Verdict::Reached })
        }
    };
    if output.wants_json() {
        output.json(&answer.body)?;
    } else {
        output.text(&text)?;
    }
    Ok(verdict)
}

fn view(mirror: &Mirror, output: &Output) -> String {
    let path = harmless(&mirror.path);
    let mut text = match mirror.state.as_str() {
        "same" => format!("{path} shows the entries in effect\n"),
        "missing" => format!("{path} is not there; the next change of an entry writes it\n"),
        "edited" => format!("{path} was changed by hand\n"),
        state => {
            let reason = mirror.reason.as_deref().map(harmless).unwrap_or_default();
            format!("{path} is {}: {reason}\n", harmless(state))
        }
    };
    for Edit { plugin, changes, violations } in &mirror.edits {
        text.push_str(&format!("\n{}\n{}", harmless(plugin), entry_story::changes(changes, output)));
        for Detail { path, message } in violations {
            text.push_str(&format!("not valid: {}: {}\n", harmless(path), harmless(message)));
        }
    }
    if matches!(mirror.state.as_str(), "edited" | "unreadable") {
        text.push_str(
            "\n`bkg config mirror import` makes it effective, `bkg config mirror discard` moves it aside\n",
        );
    }
    text
}

fn end(settled: &Settled, output: &Output) -> String {
    let mut text = String::new();
    for Imported { plugin, outcome, error } in &settled.imported {
        text.push_str(&format!("{}\n", harmless(plugin)));
        if let Some(outcome) = outcome {
            text.push_str(&entry_story::outcome(plugin, outcome, Intent::Earnest, output));
        }
        if let Some(error) = error {
            text.push_str(&format!("failed: {}\n", harmless(error)));
        }
    }
    match &settled.kept {
        Some(kept) => text.push_str(&format!("what was written by hand is now {}\n", harmless(kept))),
        None => text.push_str("nothing was written by hand\n"),
    }
    text
}

#[cfg(test)]
mod tests {
    use super::super::client::tests::{ScriptedDaemon, answer};
    use super::*;

    fn run_against(command: Option<MirrorCommand>, body: &str) -> (Verdict, String, String) {
        let daemon = ScriptedDaemon::start(vec![answer("200 OK", body)]);
        let mut output = Output::captured(false);
        let verdict = run(&daemon.target(), command, &mut output).unwrap();
        (verdict, output.written(), daemon.requests().remove(0))
    }

    #[test]
    fn what_was_written_by_hand_is_shown_with_what_can_be_done() {
        let body = r#"{"path":"/d/plugins.json","state":"edited","edits":[{"plugin":"ping",
            "changes":[{"path":"/autostart","from":true,"to":false}],"violations":[{"path":"/x","message":"is unknown"}]}]}"#;
        let (verdict, text, request) = run_against(None, body);
        assert_eq!(verdict, Verdict::Reached);
        assert_eq!(
            text,
            "/d/plugins.json was changed by hand\n\nping\n- /autostart true\n+ /autostart false\n\
             not valid: /x: is unknown\n\n`bkg config mirror import` makes it effective, `bkg config mirror discard` moves \
             it aside\n"
        );
        assert!(request.starts_with("GET /admin/mirror HTTP"), "{request}");
        let (_, text, _) = run_against(None, r#"{"path":"/d/plugins.json","state":"same","edits":[]}"#);
        assert_eq!(text, "/d/plugins.json shows the entries in effect\n");
    }

    #[test]
    fn an_import_of_which_a_part_failed_is_not_done() {
        let body = r#"{"imported":[{"plugin":"ping","outcome":{"revision":2,"applied":"hot","changes":[]}},
            {"plugin":"x","error":"it does not come up"}],"kept":"/d/plugins.json.1"}"#;
        let (verdict, text, request) = run_against(Some(MirrorCommand::Import), body);
        assert_eq!(verdict, Verdict::NotReached);
        assert_eq!(
            text,
            "ping\nrevision 2 is effective: ping took it over while running\nx\nfailed: it does not come up\n\
             what was written by hand is now /d/plugins.json.1\n"
        );
        assert!(request.starts_with("POST /admin/mirror/import HTTP"), "{request}");
        let (verdict, text, request) = run_against(Some(MirrorCommand::Discard), r#"{"kept":null}"#);
        assert_eq!((verdict, text.as_str()), (Verdict::Reached, "nothing was written by hand\n"));
        assert!(request.starts_with("POST /admin/mirror/discard HTTP"), "{request}");
    }
}
