//! Replays every corpus, and the golden files of the protocol as the first of them.
//!
//! What the fuzzer once found is in a corpus under the name of what it was, and stays there.

#![expect(clippy::unwrap_used, reason = "what fails here fails the test")]

use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

use bkg_fuzz::{TARGETS, Target, target};
use serde_json::Value;

fn here(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let mut files: Vec<PathBuf> =
        fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    files
}

/// Tries an input, and names it where it breaks something.
fn try_input(target: Target, name: &str, data: &[u8]) {
    let tried = catch_unwind(AssertUnwindSafe(|| (target.run)(data)));
    assert!(tried.is_ok(), "target `{}` fails on {name}", target.name);
}

#[test]
fn every_target_keeps_its_promises_on_its_corpus() {
    for target in TARGETS {
        let folder = here("corpus").join(target.name);
        let files = files(&folder);
        assert!(files.len() >= 8, "the corpus of `{}` has {} files", target.name, files.len());
        for file in files {
            try_input(target, &file.display().to_string(), &fs::read(&file).unwrap());
        }
    }
}

#[test]
fn there_is_no_corpus_without_a_target() {
    for folder in files(&here("corpus")) {
        let name = folder.file_name().unwrap().to_str().unwrap().to_owned();
        assert!(target(&name).is_some(), "no target reads `corpus/{name}`");
    }
}

/// The frames of a golden conversation, one a line, whoever says them.
fn frames_of(conversation: &str) -> Vec<String> {
    let steps = conversation.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    let frame = |step: Value| ["host", "plugin"].iter().find_map(|side| step.get(*side).cloned());
    // A frame that is no JSON stands there as a text.
    steps.filter_map(frame).map(|frame| frame.as_str().map_or(frame.to_string(), str::to_owned)).collect()
}

#[test]
fn every_golden_conversation_is_read_and_none_of_its_halves_ends_it() {
    let (frame, session) = (target("frame").unwrap(), target("session").unwrap());
    let mut tried = 0;
    for file in files(&here("../bkg-protocol/golden/conversations")) {
        let frames = frames_of(&fs::read_to_string(&file).unwrap());
        assert!(!frames.is_empty(), "{} has frames", file.display());
        let name = file.display().to_string();
        try_input(session, &name, frames.join("\n").as_bytes());
        // Cut off everywhere, and every frame alone.
        for end in 0..frames.len() {
            try_input(session, &name, frames[end..].join("\n").as_bytes());
            try_input(frame, &name, frames[end].as_bytes());
            tried += 1;
        }
    }
    assert!(tried > 100, "{tried} frames were tried");
}
