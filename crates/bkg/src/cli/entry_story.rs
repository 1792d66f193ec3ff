//! The entry of a plugin in words: tables of values, changes line by line, what became of an order.
//!
//! Pure text from what the daemon said.

use jiff::Timestamp;
use serde_json::Value;

use super::entry_object::{Change, Difference, Entry, Outcome, Revision, Trial};
use super::entry_path::{EntryPath, shown};
use super::output::{Output, Paint, harmless};
use super::table::Table;
use super::time::ago;

/// Every value at and below a path with its origin, and how far the running plugin is.
pub(super) fn values(plugin: &str, entry: &Entry, below: &EntryPath, value: &Value) -> String {
    let mut table = Table::new(["PATH", "VALUE", "ORIGIN"]);
    for (path, value) in below.leaves(value) {
        table.row([path.to_string(), shown(value), entry.origin(&path).to_owned()]);
    }
    let mut text = table.to_string();
    let live = entry.live.as_ref();
    let restart = format!("`bkg plugin restart {plugin}` makes it effective");
    match live {
        Some(live) if live.restart_needed => {
            text.push_str(&format!(
                "\nrevision {}, which is not effective yet: {restart}\n",
                entry.revision
            ));
        }
        Some(live) if live.revision.is_some_and(|revision| revision != entry.revision) => {
            let revision = live.revision.unwrap_or_default();
            text.push_str(&format!(
                "\nrevision {}; {plugin} runs with {revision}: {restart}\n",
                entry.revision
            ));
        }
        _ => text.push_str(&format!("\nrevision {}\n", entry.revision)),
    }
    if let Some(misfit) = &entry.misfit {
        text.push_str(&format!("{plugin} cannot run with it: {}\n", harmless(misfit)));
    }
    text
}

/// A value alone, as a script wants it: text without quotes.
pub(super) fn value(value: &Value) -> String {
    match value {
        Value::String(text) => harmless(text),
        other => shown(other),
    }
}

/// Changes, what goes before what comes.
pub(super) fn changes(changes: &[Change], output: &Output) -> String {
    let mut text = String::new();
    for Change { path, from, to } in changes {
        let path = if path.is_empty() { "/" } else { path };
        for (sign, value, paint) in [("-", from, Paint::Red), ("+", to, Paint::Green)] {
            if let Some(value) = value {
                let line = format!("{sign} {} {}", harmless(path), harmless(&shown(value)));
                text.push_str(&output.painted(&line, Some(paint)));
                text.push('\n');
            }
        }
    }
    text
}

/// How a change is meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Intent {
    /// It is to happen.
    Earnest,
    /// Only what would happen is asked.
    Trial,
}

/// What became of a change.
pub(super) fn outcome(plugin: &str, outcome: &Outcome, intent: Intent, output: &Output) -> String {
    let Outcome { revision, applied, restart_needed, changes: changed, dry_run } = outcome;
    let mut text = changes(changed, output);
    let restart = format!("`bkg plugin restart {plugin}`");
    if intent == Intent::Trial {
        if changed.is_empty() {
            text.push_str("nothing would change\n");
        } else {
            text.push_str(&dry_run.as_ref().map(|trial| foretold(plugin, trial)).unwrap_or_default());
            text.push_str("this would be accepted; nothing was changed\n");
        }
        return text;
    }
    text.push_str(&match applied.as_str() {
        "hot" => format!("revision {revision} is effective: {plugin} took it over while running\n"),
        "restarted" => format!("revision {revision} is effective: {plugin} was restarted\n"),
        "restarting" => format!(
            "revision {revision} is saved; {plugin} is being restarted with it: `bkg plugin show {plugin}` says \
             when it serves; if it does not come up, the revision is rolled back\n"
        ),
        "later" => format!("revision {revision} is saved; {restart} makes it effective\n"),
        "next-start" => {
            format!("revision {revision} is saved; {plugin} does not run, and starts with it\n")
        }
        "unchanged" => format!("nothing changed: revision {revision} says so already\n"),
        other => format!("revision {revision} is saved: {}\n", harmless(other)),
    });
    if *restart_needed && !matches!(applied.as_str(), "later" | "restarting") {
        text.push_str(&format!("{plugin} needs a restart before it is effective: {restart}\n"));
    }
    text
}

/// What would become of a change, and whether the plugin was asked.
fn foretold(plugin: &str, trial: &Trial) -> String {
    let Trial { would_be, instances, asked } = trial;
    let agreed = match (asked, instances) {
        (0, _) => String::new(),
        (asked, all) if asked == all => format!("{plugin} was asked, and would take it\n"),
        (asked, all) => {
            format!("{asked} of {all} instances of {plugin} were asked, and would take it\n")
        }
    };
    agreed
        + &match would_be.as_str() {
            "hot" => format!("it would be effective at once, without disturbing {plugin}\n"),
            "restarted" => format!("{plugin} would be restarted\n"),
            "next-start" => format!("{plugin} does not run, and would start with it\n"),
            other => format!("it would be {}\n", harmless(other)),
        }
}

/// What changed between two revisions.
pub(super) fn difference(difference: &Difference, output: &Output) -> String {
    let Difference { from, to, changes: changed } = difference;
    if changed.is_empty() {
        return format!("revisions {from} and {to} are the same\n");
    }
    changes(changed, output)
}

/// One revision: who saved it, what it changed, and all that it holds on top of the files.
pub(super) fn revision(revision: &Revision, now: Timestamp, output: &Output) -> String {
    let who = revision.author.as_deref().unwrap_or("somebody");
    let when = revision.at.map(|at| format!(", {}", ago(at, now))).unwrap_or_default();
    let note = revision.note.as_deref().filter(|note| !note.is_empty());
    let note = note.map(|note| format!(": {note}")).unwrap_or_default();
    let mut text = harmless(&format!("revision {} by {who}{when}{note}", revision.revision));
    text.push('\n');
    text.push_str(&changes(&revision.changes, output));
    let mut table = Table::new(["SAVED", "VALUE"]);
    for (path, value) in EntryPath::root().leaves(&revision.saved) {
        table.row([path.to_string(), shown(value)]);
    }
    format!("{text}\n{table}")
}

/// Revisions as a table.
pub(super) fn revisions(plugin: &str, revisions: &[Revision], now: Timestamp) -> String {
    if revisions.is_empty() {
        return format!(
            "no revisions: nothing was saved for {plugin}; `bkg config set {plugin} PATH=VALUE` does\n"
        );
    }
    let mut table = Table::new(["REVISION", "WHEN", "WHO", "CHANGED", "NOTE"]);
    for Revision { revision, author, at, note, changes, .. } in revisions {
        let paths: Vec<&str> = changes.iter().map(|change| change.path.as_str()).collect();
        table.row([
            revision.to_string(),
            at.map(|at| ago(at, now)).unwrap_or_default(),
            author.clone().unwrap_or_default(),
            paths.join(", "),
            note.clone().unwrap_or_default(),
        ]);
    }
    table.to_string()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn entry(live: Value) -> Entry {
        serde_json::from_value(json!({
            "revision": 3, "live": live,
            "entry": {"settings": {"answer": 42, "key": {"$secret": true}}},
            "origins": {"/settings/answer": "saved", "/settings/key": "saved"},
        }))
        .unwrap()
    }

    #[test]
    fn values_have_their_origin_and_a_secret_is_named_as_one() {
        for (live, last) in [
            (json!({"revision": 3, "restartNeeded": false}), "revision 3\n"),
            (json!(null), "revision 3\n"),
            (
                json!({"revision": 2, "restartNeeded": true}),
                "revision 3, which is not effective yet: `bkg plugin restart ping` makes it effective\n",
            ),
            (
                json!({"revision": 2}),
                "revision 3; ping runs with 2: `bkg plugin restart ping` makes it effective\n",
            ),
        ] {
            let entry = entry(live);
            assert_eq!(
                values("ping", &entry, &EntryPath::root(), &entry.entry),
                format!(
                    "PATH              VALUE     ORIGIN\n\
                     /settings/answer  42        saved\n\
                     /settings/key     (secret)  saved\n\n{last}"
                )
            );
        }
    }

    #[test]
    fn a_change_shows_what_goes_and_what_comes() {
        let changed: Vec<Change> = serde_json::from_value(json!([
            {"path": "/settings/a", "from": 41, "to": 42},
            {"path": "/settings/b", "to": "x\u{1b}"},
            {"path": "/settings/c", "from": null},
        ]))
        .unwrap();
        assert_eq!(
            changes(&changed, &Output::captured(false)),
            "- /settings/a 41\n+ /settings/a 42\n+ /settings/b \"x\\u001b\"\n- /settings/c null\n"
        );
    }

    #[test]
    fn what_became_of_a_change_is_one_sentence() {
        for (applied, restart_needed, intent, sentence) in [
            ("hot", false, Intent::Earnest, "revision 7 is effective: ping took it over while running\n"),
            ("restarted", false, Intent::Earnest, "revision 7 is effective: ping was restarted\n"),
            (
                "later",
                true,
                Intent::Earnest,
                "revision 7 is saved; `bkg plugin restart ping` makes it effective\n",
            ),
            (
                "next-start",
                false,
                Intent::Earnest,
                "revision 7 is saved; ping does not run, and starts with it\n",
            ),
            (
                "restarting",
                true,
                Intent::Earnest,
                "revision 7 is saved; ping is being restarted with it: `bkg plugin show ping` says when it serves; \
                 if it does not come up, the revision is rolled back\n",
            ),
            ("unchanged", false, Intent::Earnest, "nothing changed: revision 7 says so already\n"),
            (
                "hot",
                true,
                Intent::Earnest,
                "revision 7 is effective: ping took it over while running\n\
                 ping needs a restart before it is effective: `bkg plugin restart ping`\n",
            ),
            ("new-way", false, Intent::Earnest, "revision 7 is saved: new-way\n"),
            ("hot", false, Intent::Trial, "nothing would change\n"),
        ] {
            let value = json!({"revision": 7, "applied": applied, "restartNeeded": restart_needed});
            let told = serde_json::from_value(value).unwrap();
            assert_eq!(outcome("ping", &told, intent, &Output::captured(false)), sentence, "{applied}");
        }
    }

    #[test]
    fn a_revision_is_one_line() {
        let now = "2026-01-02T03:05:05Z".parse().unwrap();
        let told: Vec<Revision> = serde_json::from_value(json!([
            {"revision": 2, "author": "ada", "at": "2026-01-02T03:04:05Z", "note": null,
             "changes": [{"path": "/a", "to": 1}, {"path": "/b", "from": 1}]},
            {"revision": 1, "author": "root", "at": "2026-01-02T03:03:05Z", "note": "set"},
        ]))
        .unwrap();
        assert_eq!(
            revisions("ping", &told, now),
            "REVISION  WHEN           WHO   CHANGED  NOTE\n\
             2         1 min 0 s ago  ada   /a, /b   -\n\
             1         2 min 0 s ago  root  -        set\n"
        );
        let mut one: Vec<Revision> = serde_json::from_value(
            json!([{"revision": 2, "author": "ada", "at": "2026-01-02T03:04:05Z", "note": "why",
                "changes": [{"path": "/a", "to": 1}], "saved": {"a": 1, "b": null}}]),
        )
        .unwrap();
        assert_eq!(
            revision(&one.remove(0), now, &Output::captured(false)),
            "revision 2 by ada, 1 min 0 s ago: why\n+ /a 1\n\nSAVED  VALUE\n/a     1\n/b     null\n"
        );
        assert!(revisions("ping", &[], now).contains("`bkg config set ping PATH=VALUE`"));
    }
}
