//! `bkg audit`: list, verify and export the audit log of a data directory.
//!
//! Reads the files, and asks no daemon: what is to be checked is not who checks. Works beside a
//! running daemon and without one, for whoever can read the data directory. Only the list of a daemon
//! elsewhere is asked for. The invariant: `verify` exits 0 only for a log in which nothing was found.

use std::path::Path;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use serde_json::{Value, json};

use super::Verdict;
use super::audit_arguments::{AuditCommand, AuditRequest, Export};
use super::client::Client;
use super::error::CliError;
use super::output::Output;
use super::route::asking;
use super::table::Table;
use super::target::Target;
use super::time::moment;
use crate::store::{AuditFile, AuditFilter, Finding, Verification};

/// How much of an export is written at once, in bytes.
const PIECE: usize = 64 * 1024;

/// Carries out a command about the audit log.
pub(super) fn run(
    data_dir: &Path,
    command: &AuditCommand,
    output: &mut Output,
) -> Result<Verdict, CliError> {
    let log = AuditFile::open(data_dir)?;
    match command {
        AuditCommand::List(request) => list(&log, request, output),
        AuditCommand::Verify => verify(log, output),
        AuditCommand::Export(export) => write(&log, export, output),
    }
}

fn verify(mut log: AuditFile, output: &mut Output) -> Result<Verdict, CliError> {
    let verification = log.verify()?;
    if output.wants_json() {
        output.json(&as_json(&verification))?;
    } else {
        output.text(&as_text(&verification))?;
        match verification.open {
            0 => {}
            1 => output.remark("1 action has no outcome yet"),
            open => output.remark(&format!("{open} actions have no outcome yet")),
        }
    }
    Ok(if verification.findings.is_empty() { Verdict::Reached } else { Verdict::NotReached })
}

fn as_text(verification: &Verification) -> String {
    let mut text = String::new();
    for finding in &verification.findings {
        text.push_str(&format!("{finding}\n"));
    }
    let state = if verification.findings.is_empty() { "unbroken" } else { "broken" };
    text.push_str(&format!("{}, {state}\n", entries(verification.entries)));
    text
}

fn as_json(verification: &Verification) -> String {
    #[derive(Serialize)]
    struct Told<'a> {
        #[serde(flatten)]
        finding: &'a Finding,
        message: String,
    }
    let Verification { entries, open, findings } = verification;
    let told: Vec<Told> =
        findings.iter().map(|finding| Told { finding, message: finding.to_string() }).collect();
    json!({ "entries": entries, "unbroken": findings.is_empty(), "open": open, "findings": told })
        .to_string()
}

/// Carries out a command about the audit log of a daemon elsewhere.
///
/// # Errors
/// The command needs the files; or the daemon refuses.
pub(super) fn run_elsewhere(
    target: &Target,
    command: &AuditCommand,
    output: &mut Output,
) -> Result<Verdict, CliError> {
    let AuditCommand::List(request) = command else {
        let needs_files = target.place.directory("the audit log with the key that it is checked with");
        return Err(needs_files.expect_err("the daemon is elsewhere"));
    };
    #[derive(Deserialize)]
    struct Page {
        entries: Box<RawValue>,
    }
    let parameters = [
        ("limit", Some(request.limit.to_string())),
        ("action", request.action.clone()),
        ("actor", request.actor.clone()),
    ];
    let answer = Client::find(target)?.get(&asking("/admin/audit", parameters))?;
    if output.wants_json() {
        output.json(answer.read::<Page>()?.entries.get())?;
        return Ok(Verdict::Reached);
    }
    #[derive(Deserialize)]
    struct Read {
        entries: Vec<Row>,
    }
    output.text(&table(answer.read::<Read>()?.entries))?;
    Ok(Verdict::Reached)
}

/// An entry, whether it was read from the files or told by a daemon.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Row {
    seq: u64,
    at: Timestamp,
    user: String,
    key_id: Option<String>,
    action: String,
    target: String,
    kind: String,
    #[serde(default)]
    detail: Value,
}

fn list(log: &AuditFile, request: &AuditRequest, output: &mut Output) -> Result<Verdict, CliError> {
    let filter = AuditFilter {
        before: None,
        limit: usize::try_from(request.limit).unwrap_or(AuditFilter::MOST),
        action: request.action.clone(),
        actor: request.actor.clone(),
        since: None,
    };
    let rows = json!(log.page(&filter)?);
    if output.wants_json() {
        output.json(&rows.to_string())?;
        return Ok(Verdict::Reached);
    }
    let rows: Vec<Row> = serde_json::from_value(rows).expect("a row of ours has the form that we send");
    output.text(&table(rows))?;
    Ok(Verdict::Reached)
}

fn table(rows: Vec<Row>) -> String {
    let mut table = Table::new(["SEQ", "TIME", "WHO", "ACTION", "TARGET", "OUTCOME"]);
    for row in rows {
        let outcome = outcome(&row);
        table.row([row.seq.to_string(), moment(row.at), who(&row), row.action, row.target, outcome]);
    }
    table.to_string()
}

fn who(row: &Row) -> String {
    match &row.key_id {
        Some(key) => format!("{} (key {key})", row.user),
        None => row.user.clone(),
    }
}

fn outcome(row: &Row) -> String {
    match (row.kind.as_str(), row.detail["reason"].as_str()) {
        ("failed", Some(reason)) => format!("failed: {reason}"),
        (kind, _) => kind.to_owned(),
    }
}

fn write(log: &AuditFile, export: &Export, output: &mut Output) -> Result<Verdict, CliError> {
    if let Some(file) = &export.output {
        let count = log.export_to_file(export.since, file)?;
        if output.wants_json() {
            output.json(&json!({ "entries": count, "file": file }).to_string())?;
        } else {
            output.text(&format!("{} written to `{}`\n", entries(count), file.display()))?;
        }
        return Ok(Verdict::Reached);
    }
    let mut piece = String::new();
    log.export(export.since, |line| {
        piece.push_str(line);
        if piece.len() < PIECE {
            return Ok(());
        }
        let written = output.text(&piece);
        piece.clear();
        written
    })?;
    if !piece.is_empty() {
        output.text(&piece)?;
    }
    Ok(Verdict::Reached)
}

fn entries(count: u64) -> String {
    if count == 1 { "1 entry".to_owned() } else { format!("{count} entries") }
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;
    use crate::store::{Action, Actor, DataDir, Outcome, Store, tamper};

    fn action(action: &'static str, target: &str) -> Action {
        let actor = Actor { user: "ada".to_owned(), key_id: None, session_id: None, address: None };
        Action { actor, action, target: target.to_owned(), detail: json!({}), request_id: None }
    }

    /// A data directory with five entries, whose host has stopped.
    fn log() -> tempfile::TempDir {
        let directory = tempfile::tempdir().unwrap();
        let store = Store::open(&DataDir::open(directory.path()).unwrap()).unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async {
            let made = store.audit.intend(action("key.create", "user ada")).await.unwrap();
            made.done(json!({})).await.unwrap();
            let refused = store.audit.intend(action("user.create", "user\x1b[2J")).await.unwrap();
            refused.failed("it is forbidden").await.unwrap();
            let mut login = action("login", "user eve");
            login.actor.user = "eve".to_owned();
            login.actor.key_id = Some("k_1".to_owned());
            store.audit.note(login, Outcome::Failed).await.unwrap();
        });
        store.close().unwrap();
        directory
    }

    fn run_in(data_dir: &Path, command: &AuditCommand, json: bool) -> (Verdict, String) {
        let mut output = Output::captured(json);
        let verdict = run(data_dir, command, &mut output).unwrap();
        (verdict, output.written())
    }

    fn request(limit: u64) -> AuditRequest {
        AuditRequest { limit, action: None, actor: None }
    }

    #[test]
    fn an_unbroken_log_is_said_to_be() {
        let log = log();
        let (verdict, text) = run_in(log.path(), &AuditCommand::Verify, false);
        assert_eq!((verdict, text.as_str()), (Verdict::Reached, "5 entries, unbroken\n"));
        let (verdict, text) = run_in(log.path(), &AuditCommand::Verify, true);
        assert_eq!(verdict, Verdict::Reached);
        assert_eq!(text, "{\"entries\":5,\"unbroken\":true,\"open\":0,\"findings\":[]}\n");
        // Looking at it leaves nothing that keeps the host from starting.
        Store::open(&DataDir::open(log.path()).unwrap()).unwrap().close().unwrap();
    }

    #[test]
    fn a_broken_log_is_not_reached_and_says_where() {
        let log = log();
        tamper(log.path(), "UPDATE audit SET user = 'eve' WHERE seq = 2; DELETE FROM audit WHERE seq = 5");
        let (verdict, text) = run_in(log.path(), &AuditCommand::Verify, false);
        assert_eq!(verdict, Verdict::NotReached);
        assert_eq!(
            text,
            "row 2 was changed\nthe newest row is missing (the head names 5)\n4 entries, broken\n"
        );
        let (verdict, text) = run_in(log.path(), &AuditCommand::Verify, true);
        assert_eq!(verdict, Verdict::NotReached);
        assert_eq!(
            serde_json::from_str::<Value>(&text).unwrap(),
            json!({ "entries": 4, "unbroken": false, "open": 0, "findings": [
                { "kind": "changed", "first": 2, "last": 2, "message": "row 2 was changed" },
                { "kind": "newestMissing", "first": 5, "last": 5,
                  "message": "the newest row is missing (the head names 5)" },
            ] })
        );
    }

    #[test]
    fn entries_are_listed_beside_a_running_host() {
        let log = log();
        let data = DataDir::open(log.path()).unwrap();
        let store = Store::open(&data).unwrap();
        let (_, text) = run_in(log.path(), &AuditCommand::List(request(4)), false);
        let rows: Vec<Vec<&str>> = text
            .lines()
            .map(|line| line.split("  ").map(str::trim).filter(|cell| !cell.is_empty()).collect())
            .collect();
        assert_eq!(rows[0], ["SEQ", "TIME", "WHO", "ACTION", "TARGET", "OUTCOME"]);
        let without_time = |row: &[&str]| [&row[..1], &row[2..]].concat().join("|");
        let rest: Vec<String> = rows[1..].iter().map(|row| without_time(row)).collect();
        assert_eq!(
            rest,
            [
                "5|eve (key k_1)|login|user eve|failed",
                "4|ada|user.create|user\\u{1b}[2J|failed: it is forbidden",
                "3|ada|user.create|user\\u{1b}[2J|intended",
                "2|ada|key.create|user ada|done",
            ]
        );
        let of = AuditRequest { action: Some("key.".into()), actor: Some("ada".into()), ..request(50) };
        let (_, text) = run_in(log.path(), &AuditCommand::List(of), true);
        let rows: Value = serde_json::from_str(&text).unwrap();
        assert_eq!(rows.as_array().unwrap().len(), 2);
        assert_eq!((&rows[0]["seq"], &rows[0]["kind"]), (&json!(2), &json!("done")));
        store.close().unwrap();
    }

    #[test]
    fn an_export_goes_to_standard_output_or_a_file() {
        let log = log();
        let export = |output: Option<PathBuf>| AuditCommand::Export(Export { since: None, output });
        let (_, lines) = run_in(log.path(), &export(None), false);
        let numbers: Vec<Value> =
            lines.lines().map(|line| serde_json::from_str::<Value>(line).unwrap()["seq"].clone()).collect();
        assert_eq!(numbers, [1, 2, 3, 4, 5].map(Value::from));
        let file = log.path().join("export.jsonl");
        let (_, text) = run_in(log.path(), &export(Some(file.clone())), false);
        assert_eq!(text, format!("5 entries written to `{}`\n", file.display()));
        assert_eq!(std::fs::read_to_string(&file).unwrap(), lines);
    }

    #[test]
    fn a_directory_without_a_log_and_a_lost_key_are_errors_of_the_data_directory() {
        let empty = tempfile::tempdir().unwrap();
        let error = run(empty.path(), &AuditCommand::Verify, &mut Output::captured(false)).unwrap_err();
        assert_eq!(error.exit_code(), 6, "{error}");
        let log = log();
        std::fs::remove_file(log.path().join("audit.key")).unwrap();
        let error = run(log.path(), &AuditCommand::Verify, &mut Output::captured(false)).unwrap_err();
        assert_eq!(error.exit_code(), 6, "{error}");
    }
}
