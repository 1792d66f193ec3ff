//! `bkg config` where it is about a plugin: see its entry, change it, go back.
//!
//! Not what an entry means: the daemon merges and checks it. The invariants: a change goes out as the
//! smallest partial entry that says it, so that what others changed meanwhile stays; whoever takes a whole
//! list along sends the revision that it was read from.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use bkg_protocol::RawJson;
use http::{HeaderValue, Method};
use jiff::Timestamp;
use serde_json::{Value, json};

use super::Verdict;
use super::client::Client;
use super::entry_arguments::{EntryChange, EntryCommand, EntryReset, HowToSave};
use super::entry_edit;
use super::entry_mirror;
use super::entry_object::{Difference, Entry, Revision};
use super::entry_path::{Assignment, EntryPath, is_secret, place};
use super::entry_story::{self, Intent};
use super::error::CliError;
use super::input::{Input, SecretSource};
use super::output::Output;
use super::route::asking;
use super::target::Target;

/// More than any entry; a file that is longer is another file.
const LONGEST_FILE: u64 = 16 << 20;

/// Carries out one command.
pub(super) fn run(
    target: &Target,
    command: EntryCommand,
    input: &mut Input,
    output: &mut Output,
) -> Result<Verdict, CliError> {
    match command {
        EntryCommand::Get { plugin, revision: Some(number), .. } => {
            let path = format!("{}/revisions/{number}", route(plugin.as_str()));
            let answer = Client::find(target)?.get(&path)?;
            if output.wants_json() {
                output.json(&answer.body)?;
            } else {
                let text = entry_story::revision(&answer.read()?, Timestamp::now(), output);
                output.text(&text)?;
            }
            Ok(Verdict::Reached)
        }
        EntryCommand::Get { plugin, path, revision: None } => get(target, plugin.as_str(), path, output),
        EntryCommand::Set(change) => set(target, change, input, output),
        EntryCommand::Diff { plugin, from, to } => diff(target, plugin.as_str(), from, to, output),
        EntryCommand::Revisions { plugin, limit, before } => {
            let path = asking(
                &format!("{}/revisions", route(plugin.as_str())),
                [("limit", Some(limit.to_string())), ("before", before.map(|before| before.to_string()))],
            );
            Client::find(target)?.get(&path)?.show(output, |revisions: Vec<Revision>| {
                entry_story::revisions(plugin.as_str(), &revisions, Timestamp::now())
            })
        }
        EntryCommand::Return { plugin, revision, how } => {
            let body = match revision {
                Some(revision) => RawJson::of(&json!({ "revision": revision })),
                None => RawJson::EMPTY_OBJECT,
            };
            order(&Client::find(target)?, plugin.as_str(), Kind::Return, &body, &how, output)
        }
        EntryCommand::Reset(reset) => give_up(target, reset, output),
        EntryCommand::Mirror { command } => entry_mirror::run(target, command, output),
        EntryCommand::Edit { plugin, how } => edit(target, plugin.as_str(), how, input, output),
    }
}

fn route(plugin: &str) -> String {
    format!("/admin/plugins/{plugin}/config")
}

fn get(
    target: &Target,
    plugin: &str,
    path: Option<EntryPath>,
    output: &mut Output,
) -> Result<Verdict, CliError> {
    let answer = Client::find(target)?.get(&route(plugin))?;
    let Some(path) = path else {
        return answer.show(output, |entry: Entry| {
            entry_story::values(plugin, &entry, &EntryPath::root(), &entry.entry)
        });
    };
    let entry: Entry = answer.read()?;
    let Some(value) = path.find(&entry.entry) else {
        return Err(CliError::NoSuchValue { plugin: plugin.to_owned(), path: path.to_string() });
    };
    if output.wants_json() {
        output.json(&value.to_string())?;
    } else if value.as_object().is_some_and(|members| !members.is_empty()) && !is_secret(value) {
        output.text(&entry_story::values(plugin, &entry, &path, value))?;
    } else {
        output.text(&entry_story::value(value))?;
    }
    Ok(Verdict::Reached)
}

fn set(
    target: &Target,
    change: EntryChange,
    input: &mut Input,
    output: &mut Output,
) -> Result<Verdict, CliError> {
    let EntryChange { plugin, values, texts, secrets, secret_stdin, file, replace, mut how } = change;
    let plugin = plugin.as_str();
    if let Some(file) = file {
        let body = entry_in(&file)?;
        let kind = if replace { Kind::Replace } else { Kind::Patch };
        return order(&Client::find(target)?, plugin, kind, &body, &how, output);
    }
    let client = Client::find(target)?;
    let entry: Entry = client.get(&route(plugin))?.read()?;
    let mut assignments: Vec<Assignment> = values;
    assignments.extend(texts.into_iter().map(|text| text.0));
    if let Some(secret) = assignments.iter().find(|it| entry.has_secret(&it.path, &it.value)) {
        return Err(CliError::SecretArgument { path: secret.path.to_string() });
    }
    let source = if secret_stdin { SecretSource::Stdin } else { SecretSource::Terminal };
    for path in secrets {
        let value = input.secret(source, &format!("{path}: "))?;
        assignments.push(Assignment { path, value: json!(value) });
    }
    let (partial, takes_a_list) = partial(&entry.entry, &assignments)?;
    if takes_a_list {
        // A list goes along as it was read: what others did to it meanwhile would be lost.
        how.if_match.get_or_insert(entry.revision);
    }
    order(&client, plugin, Kind::Patch, &RawJson::of(&partial), &how, output)
}

/// The partial entry that says all of it, and whether some of it is in a list.
fn partial(effective: &Value, assignments: &[Assignment]) -> Result<(Value, bool), CliError> {
    let (mut partial, mut takes_a_list) = (json!({}), false);
    for assignment in assignments {
        place(&mut partial, effective, assignment)
            .map_err(|error| CliError::Usage { message: error.to_string() })?;
        let mut way = effective;
        for key in assignment.path.keys() {
            takes_a_list |= way.is_array();
            way = way.get(key).unwrap_or(&Value::Null);
        }
    }
    Ok((partial, takes_a_list))
}

/// Which of the daemon's orders about an entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Patch,
    Replace,
    Reset,
    Return,
}

fn order(
    client: &Client,
    plugin: &str,
    kind: Kind,
    body: &RawJson,
    how: &HowToSave,
    output: &mut Output,
) -> Result<Verdict, CliError> {
    let HowToSave { if_match, later, dry_run, note } = how;
    let (method, rest) = match kind {
        Kind::Patch => (Method::POST, ""),
        Kind::Replace => (Method::PUT, ""),
        Kind::Reset => (Method::POST, "/reset"),
        Kind::Return => (Method::POST, "/return"),
    };
    let address = asking(
        &format!("{}{rest}", route(plugin)),
        [
            ("apply", later.then(|| "later".to_owned())),
            ("dryRun", dry_run.then(|| "true".to_owned())),
            ("note", note.clone()),
        ],
    );
    let condition = if_match.map(|revision| {
        HeaderValue::try_from(format!("\"{revision}\"")).expect("a quoted number fits a header")
    });
    let answer =
        client.order_if(method, &address, body, condition).map_err(|error| advised(error, plugin))?;
    if output.wants_json() {
        output.json(&answer.body)?;
        return Ok(Verdict::Reached);
    }
    let intent = if *dry_run { Intent::Trial } else { Intent::Earnest };
    let text = entry_story::outcome(plugin, &answer.read()?, intent, output);
    output.text(&text)?;
    Ok(Verdict::Reached)
}

/// What to do after a conflict; who was faster, the daemon says.
fn advised(error: CliError, plugin: &str) -> CliError {
    match error {
        CliError::Refused(refusal) if refusal.status == 409 => CliError::Refused(
            refusal.advised(&format!("`bkg config diff {plugin}` shows what was changed")),
        ),
        other => other,
    }
}

fn diff(
    target: &Target,
    plugin: &str,
    from: Option<u64>,
    to: Option<u64>,
    output: &mut Output,
) -> Result<Verdict, CliError> {
    let number = |revision: Option<u64>| revision.map(|revision| revision.to_string());
    let path = asking(&format!("{}/diff", route(plugin)), [("from", number(from)), ("to", number(to))]);
    let answer = Client::find(target)?.get(&path)?;
    if output.wants_json() {
        output.json(&answer.body)?;
    } else {
        let text = entry_story::difference(&answer.read::<Difference>()?, output);
        output.text(&text)?;
    }
    Ok(Verdict::Reached)
}

fn give_up(target: &Target, reset: EntryReset, output: &mut Output) -> Result<Verdict, CliError> {
    let EntryReset { plugin, paths, all, mut how } = reset;
    let plugin = plugin.as_str();
    let client = Client::find(target)?;
    let paths = if all {
        let entry: Entry = client.get(&route(plugin))?.read()?;
        how.if_match.get_or_insert(entry.revision);
        entry.saved()
    } else {
        paths
    };
    if paths.is_empty() && !output.wants_json() {
        output.text(&format!("nothing is saved for {plugin}"))?;
        return Ok(Verdict::Reached);
    }
    let paths: Vec<String> = paths.iter().map(EntryPath::to_string).collect();
    let body = RawJson::of(&json!({ "paths": paths }));
    order(&client, plugin, Kind::Reset, &body, &how, output)
}

fn edit(
    target: &Target,
    plugin: &str,
    mut how: HowToSave,
    input: &mut Input,
    output: &mut Output,
) -> Result<Verdict, CliError> {
    if !input.is_terminal() {
        return Err(CliError::NoTerminal { what: "the entry", instead: "`bkg config set`" });
    }
    let client = Client::find(target)?;
    let entry: Entry = client.get(&route(plugin))?.read()?;
    how.if_match.get_or_insert(entry.revision);
    let edited = entry_edit::in_editor(plugin, &entry.entry)?;
    let changed = entry_edit::changes(&entry.entry, &edited);
    if changed.is_empty() {
        output.remark("nothing was changed");
        return Ok(Verdict::Reached);
    }
    let shown = entry_story::changes(&changed, output);
    if !output.wants_json() {
        output.text(&shown)?;
    }
    if !input.agrees(&format!("save this for {plugin}?"))? {
        output.remark("nothing was saved");
        return Ok(Verdict::NotReached);
    }
    order(&client, plugin, Kind::Replace, &RawJson::of(&edited), &how, output)
}

/// The entry in a file, as it was written.
fn entry_in(file: &Path) -> Result<RawJson, CliError> {
    let mut text = String::new();
    if file == Path::new("-") {
        let mut input = io::stdin().take(LONGEST_FILE);
        input.read_to_string(&mut text).map_err(|source| CliError::Input { source })?;
    } else {
        let failed = |source| CliError::File { action: "read", path: file.to_owned(), source };
        File::open(file)
            .and_then(|file| file.take(LONGEST_FILE).read_to_string(&mut text))
            .map_err(failed)?;
    }
    RawJson::parse(text).map_err(|error| CliError::Payload { reason: error.to_string() })
}

#[cfg(test)]
mod tests {
    use super::super::arguments::{Arguments, Command, ConfigRequest};
    use super::super::client::tests::{ScriptedDaemon, answer};
    use super::*;

    const ENTRY: &str = r#"{"plugin":"ping","revision":3,
        "entry":{"settings":{"answer":41,"list":[1,2],"key":{"$secret":true},"name":"Ada"},"autostart":true},
        "origins":{"/settings":"config.json","/settings/answer":"saved","/autostart":"plugin.json"},
        "saved":{"settings":{"answer":41}},
        "configSchema":{"properties":{"key":{"type":"string","format":"password"}}},
        "live":{"revision":3,"restartNeeded":false}}"#;
    const DONE: &str = r#"{"revision":4,"applied":"hot","restartNeeded":false,
        "changes":[{"path":"/settings/answer","from":41,"to":42}]}"#;

    /// Runs `bkg config …` against a daemon that gives these answers.
    fn run_against(
        line: &str,
        answers: Vec<String>,
        mut input: Input,
    ) -> (Result<Verdict, CliError>, String, Vec<String>) {
        let words = ["bkg", "config"].into_iter().chain(line.split_whitespace());
        let arguments = Arguments::parse(words.map(Into::into)).unwrap();
        let Command::Config(ConfigRequest { command: Some(command), .. }) = arguments.command else {
            panic!("an entry is asked for")
        };
        let daemon = ScriptedDaemon::start(answers);
        let mut output = Output::captured(arguments.global.json);
        let result = run(&daemon.target(), command, &mut input, &mut output);
        (result, output.written(), daemon.requests())
    }

    fn answered(line: &str, bodies: &[&str]) -> (String, Vec<String>) {
        let answers = bodies.iter().map(|body| answer("200 OK", body)).collect();
        let (result, written, requests) = run_against(line, answers, Input::sent(["s3cret\n"]));
        assert_eq!(result.unwrap(), Verdict::Reached, "{line}");
        (written, requests)
    }

    #[test]
    fn one_value_is_shown_alone() {
        for (line, shown) in [
            ("get ping settings.answer", "41\n"),
            ("get ping /settings/name", "Ada\n"),
            ("get ping settings.name --json", "\"Ada\"\n"),
            ("get ping settings.list", "[1,2]\n"),
            ("get ping settings.key", "(secret)\n"),
        ] {
            let (written, requests) = answered(line, &[ENTRY]);
            assert_eq!(written, shown, "{line}");
            assert!(requests[0].starts_with("GET /admin/plugins/ping/config HTTP/1.1\r\n"), "{requests:?}");
        }
        let (written, _) = answered("get ping settings", &[ENTRY]);
        assert!(written.contains("/settings/answer  41        saved\n"), "{written}");
        assert!(!written.contains("/autostart"), "{written}");
        let (result, _, _) =
            run_against("get ping nothing", vec![answer("200 OK", ENTRY)], Input::sent([]));
        assert!(matches!(result, Err(CliError::NoSuchValue { .. })));
    }

    #[test]
    fn a_change_is_the_smallest_entry_that_says_it() {
        let post = "POST /admin/plugins/ping/config";
        for (line, address, condition, body) in [
            ("set ping settings.answer=42", "", None, r#"{"settings":{"answer":42}}"#),
            ("set ping autostart=false --note why", "?note=why", None, r#"{"autostart":false}"#),
            ("set ping settings.answer=42 --later", "?apply=later", None, r#"{"settings":{"answer":42}}"#),
            ("set ping autostart=false --dry-run", "?dryRun=true", None, r#"{"autostart":false}"#),
            ("set ping --text settings.name=42", "", None, r#"{"settings":{"name":"42"}}"#),
            ("set ping settings.list.0=7", "", Some("\"3\""), r#"{"settings":{"list":[7,2]}}"#),
            ("set ping autostart=false --if-match 2", "", Some("\"2\""), r#"{"autostart":false}"#),
            ("set ping --secret settings.key --secret-stdin", "", None, r#"{"settings":{"key":"s3cret"}}"#),
        ] {
            let (_, requests) = answered(line, &[ENTRY, DONE]);
            assert!(
                requests[1].starts_with(&format!("{post}{address} HTTP/1.1\r\n")),
                "{line}: {requests:?}"
            );
            assert!(requests[1].ends_with(&format!("\r\n\r\n{body}")), "{line}: {requests:?}");
            let sent = requests[1].lines().find_map(|line| line.strip_prefix("if-match: "));
            assert_eq!(sent, condition, "{line}");
        }
    }

    #[test]
    fn what_changed_and_what_became_of_it_is_told() {
        let (written, _) = answered("set ping settings.answer=42", &[ENTRY, DONE]);
        assert_eq!(
            written,
            "- /settings/answer 41\n+ /settings/answer 42\nrevision 4 is effective: ping took it over while running\n"
        );
        let (written, _) = answered("set ping settings.answer=42 --json", &[ENTRY, DONE]);
        assert_eq!(written, format!("{DONE}\n"));
    }

    #[test]
    fn a_secret_as_an_argument_changes_nothing() {
        let (result, _, requests) =
            run_against("set ping settings.key=abc", vec![answer("200 OK", ENTRY)], Input::sent([]));
        let error = result.unwrap_err();
        assert_eq!((error.exit_code(), requests.len()), (2, 1));
        let text = error.to_string();
        assert!(text.contains("`--secret PATH`") && !text.contains("abc"), "{text}");
    }

    #[test]
    fn a_conflict_says_what_to_do() {
        let refusal = r#"{"error":{"message":"it is at revision 5, which eve saved","code":"conflict"}}"#;
        let answers = vec![answer("200 OK", ENTRY), answer("409 Conflict", refusal)];
        let (result, _, _) = run_against("set ping autostart=false --if-match 3", answers, Input::sent([]));
        assert_eq!(
            result.unwrap_err().to_string(),
            "it is at revision 5, which eve saved; `bkg config diff ping` shows what was changed"
        );
    }

    #[test]
    fn revisions_are_compared_and_shown() {
        let difference = r#"{"from":7,"to":9,"changes":[{"path":"/autostart","to":true}]}"#;
        for (line, question) in
            [("diff ping", ""), ("diff ping 7", "?from=7"), ("diff ping 7 9", "?from=7&to=9")]
        {
            let (written, requests) = answered(line, &[difference]);
            assert_eq!(written, "+ /autostart true\n");
            let head = format!("GET /admin/plugins/ping/config/diff{question} HTTP");
            assert!(requests[0].starts_with(&head), "{requests:?}");
        }
        let (_, requests) = answered("revisions ping -n 5 --before 9", &["[]"]);
        let head = "GET /admin/plugins/ping/config/revisions?limit=5&before=9 HTTP";
        assert!(requests[0].starts_with(head), "{requests:?}");
        let (_, requests) = answered("get ping --revision 2", &[r#"{"revision":2}"#]);
        assert!(requests[0].starts_with("GET /admin/plugins/ping/config/revisions/2 HTTP"), "{requests:?}");
    }

    #[test]
    fn going_back_and_giving_up_are_one_order_each() {
        let (_, requests) = answered("return ping 2", &[DONE]);
        assert!(requests[0].starts_with("POST /admin/plugins/ping/config/return HTTP"), "{requests:?}");
        assert!(requests[0].ends_with(r#"{"revision":2}"#), "{requests:?}");
        let (_, requests) = answered("rollback ping", &[DONE]);
        assert!(requests[0].starts_with("POST /admin/plugins/ping/config/return HTTP"), "{requests:?}");
        assert!(requests[0].ends_with("\r\n\r\n{}"), "{requests:?}");
        let (_, requests) = answered("reset ping settings.answer /autostart", &[DONE]);
        assert!(requests[0].starts_with("POST /admin/plugins/ping/config/reset HTTP"), "{requests:?}");
        assert!(requests[0].ends_with(r#"{"paths":["/settings/answer","/autostart"]}"#), "{requests:?}");
        let (_, requests) = answered("reset ping --all", &[ENTRY, DONE]);
        assert!(requests[1].ends_with(r#"{"paths":["/settings/answer"]}"#), "{requests:?}");
        assert!(requests[1].contains("if-match: \"3\"\r\n"), "{requests:?}");
    }

    #[test]
    fn a_file_goes_out_as_it_was_written() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let text = r#"{"settings": {"n": 1.50}}"#;
        std::fs::write(file.path(), text).unwrap();
        let (_, requests) = answered(&format!("set ping --file {}", file.path().display()), &[DONE]);
        assert!(requests[0].ends_with(&format!("\r\n\r\n{text}")), "{requests:?}");
        assert!(requests[0].starts_with("POST /admin/plugins/ping/config HTTP"), "{requests:?}");
        let (_, requests) =
            answered(&format!("set ping --replace --file {}", file.path().display()), &[DONE]);
        assert!(requests[0].starts_with("PUT /admin/plugins/ping/config HTTP"), "{requests:?}");
    }
}
