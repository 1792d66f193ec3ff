//! An entry in an editor, and what the person changed.
//!
//! Not the sending. The invariant: the file is closed to others, and gone afterwards, also if it
//! could not be read.

use std::env;
use std::ffi::OsString;
use std::io::{self, Write};
use std::path::PathBuf;
use std::process::Command;

use serde_json::Value;

use super::entry_object::Change;
use super::entry_path::EntryPath;
use super::error::CliError;

/// What is used where no variable names another; POSIX has it everywhere.
const EDITOR: &str = "vi";

/// The entry as a person left it in the editor.
///
/// # Errors
/// There is no such editor, it did not end well, or it left what is no JSON.
pub(super) fn in_editor(plugin: &str, entry: &Value) -> Result<Value, CliError> {
    let text = serde_json::to_string_pretty(entry).expect("an entry has a JSON form");
    let directory = env::temp_dir();
    let failed = |action| {
        let path = directory.clone();
        move |source| CliError::File { action, path, source }
    };
    // The library makes the file for its owner alone, and removes it when it is dropped.
    let mut file = tempfile::Builder::new()
        .prefix(&format!("bkg-{plugin}-"))
        .suffix(".json")
        .tempfile_in(&directory)
        .map_err(failed("make a file in"))?;
    file.write_all(text.as_bytes())
        .and_then(|()| file.write_all(b"\n"))
        .map_err(failed("write a file in"))?;
    let editor = editor(|variable| env::var_os(variable));
    let name = editor.to_string_lossy().into_owned();
    // The variables hold a command line, as every program that reads them takes it.
    let status = Command::new("sh")
        .args(["-c", "exec $BKG_EDITOR \"$1\"", "sh"])
        .arg(file.path())
        .env("BKG_EDITOR", &editor)
        .status()
        .map_err(|source| CliError::Editor { editor: name.clone(), reason: source.to_string() })?;
    if !status.success() {
        return Err(CliError::Editor { editor: name, reason: status.to_string() });
    }
    // An editor may have put another file in the place of this one.
    let path = PathBuf::from(file.path());
    let read = |source: io::Error| CliError::File { action: "read", path: path.clone(), source };
    let text = std::fs::read_to_string(file.path()).map_err(read)?;
    serde_json::from_str(&text).map_err(|error| CliError::Payload { reason: error.to_string() })
}

fn editor(environment: impl Fn(&str) -> Option<OsString>) -> OsString {
    let set = |variable| environment(variable).filter(|value| !value.is_empty());
    set("VISUAL").or_else(|| set("EDITOR")).unwrap_or_else(|| EDITOR.into())
}

/// What differs, value by value; lists are values.
pub(super) fn changes(before: &Value, after: &Value) -> Vec<Change> {
    let root = EntryPath::root();
    let gone = root.leaves(before).into_iter().filter(|(path, _)| path.find(after).is_none());
    let gone =
        gone.map(|(path, value)| Change { path: path.to_string(), from: Some(value.clone()), to: None });
    let differs = |(path, value): (EntryPath, &Value)| {
        let from = path.find(before);
        let change = Change { path: path.to_string(), from: from.cloned(), to: Some(value.clone()) };
        (from != Some(value)).then_some(change)
    };
    gone.chain(root.leaves(after).into_iter().filter_map(differs)).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_a_person_changed_is_told_value_by_value() {
        let before =
            json!({"settings": {"a": 1, "b": [1, 2], "key": {"$secret": true}, "d": 7}, "autostart": true});
        let after = json!({"settings": {"a": 2, "b": [1], "key": "new", "c": {"d": 1}}, "autostart": true});
        let told: Vec<(String, bool, bool)> = changes(&before, &after)
            .into_iter()
            .map(|change| (change.path, change.from.is_some(), change.to.is_some()))
            .collect();
        let expected = [
            ("/settings/d", true, false),
            ("/settings/a", true, true),
            ("/settings/b", true, true),
            ("/settings/key", true, true),
            ("/settings/c/d", false, true),
        ];
        assert_eq!(told, expected.map(|(path, from, to)| (path.to_owned(), from, to)));
        assert_eq!(changes(&before, &before), []);
    }

    #[test]
    fn the_editor_is_that_of_the_first_variable() {
        let named = |visual: &'static str, editor: &'static str| {
            super::editor(|variable| Some(if variable == "VISUAL" { visual } else { editor }.into()))
        };
        assert_eq!(named("a", "b"), "a");
        assert_eq!(named("", "b"), "b");
        assert_eq!(named("", ""), "vi");
    }
}
