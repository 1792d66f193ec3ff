//! What people and programs write as configuration: a plugin's entry with what is saved of it, and the
//! host's own file.

use std::cell::LazyCell;
use std::path::Path;

use bkg::config::patch;
use bkg::config::{HostConfig, Overrides, PluginEntry, Surroundings};
use serde_json::{Map, Value};
use tempfile::TempDir;

thread_local! {
    /// Where the files of an input are written, again and again.
    static FOLDER: LazyCell<TempDir> =
        LazyCell::new(|| tempfile::tempdir().expect("there is a place for temporary files"));
}

/// A manifest, and after a NUL a merge patch onto it.
pub(crate) fn entry(data: &[u8]) {
    let split = data.iter().position(|byte| *byte == 0);
    let (manifest, overlay) = data.split_at(split.unwrap_or(data.len()));
    let Some(entry) = FOLDER.with(|folder| read_entry(folder.path(), manifest)) else { return };
    let whole = entry.whole();
    let written = serde_json::to_vec(&whole).expect("an entry can be written");
    let again = FOLDER.with(|folder| read_entry(folder.path(), &written));
    let again = again.expect("an entry that is written can be read");
    assert_eq!(again.whole(), whole, "an entry means the same when it was written and read");

    let Ok(Value::Object(overlay)) = serde_json::from_slice(overlay.get(1..).unwrap_or_default()) else {
        return;
    };
    check_patch(&whole, overlay.clone());
    // Whatever was saved is an entry or is refused, and is never half of one.
    if let Ok(saved) = PluginEntry::of(entry.layers.with_saved(1, overlay), 1) {
        let difference = patch::between(&whole, &saved.whole());
        let again = PluginEntry::of(entry.layers.with_saved(2, difference), 2).expect("it is an entry");
        assert_eq!(
            again.whole(),
            saved.whole(),
            "the difference that is kept makes the entry that was saved"
        );
    }
}

fn read_entry(folder: &Path, manifest: &[u8]) -> Option<PluginEntry> {
    std::fs::write(folder.join("plugin.json"), manifest).expect("the folder can be written");
    PluginEntry::load(folder, None).ok()
}

/// The difference between two objects leads from the one to the other.
fn check_patch(from: &Map<String, Value>, patch: Map<String, Value>) {
    let mut to = from.clone();
    patch::apply(&mut to, patch);
    let mut reached = from.clone();
    patch::apply(&mut reached, patch::between(from, &to));
    assert_eq!(reached, to);
}

/// The host's configuration file.
pub(crate) fn host(data: &[u8]) {
    FOLDER.with(|folder| {
        let config = folder.path().join("bkg.toml");
        std::fs::write(&config, data).expect("the folder can be written");
        let overrides = Overrides { config: Some(config), ..Overrides::default() };
        let surroundings = Surroundings {
            environment: &|_| None,
            working_directory: folder.path(),
            executable: Path::new("/usr/bin/bkg"),
        };
        match HostConfig::load(&overrides, &surroundings) {
            Ok(loaded) => assert!(!loaded.values.is_empty()),
            Err(error) => assert!(!error.to_string().is_empty()),
        }
    });
}
