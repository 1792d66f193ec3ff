//! The program as the host launches it, where it ends before it needs a host.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::fs;
use std::process::{Command, Output};

/// Launches the program with what the host sets, and waits for its end.
fn launch(variables: &[(&str, &str)]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_bkg-plugin-apikeys"))
        .env_clear()
        .env("BKG_PLUGIN_BUS_URL", "ws://127.0.0.1:1")
        .env("BKG_PLUGIN_NAME", "apikeys")
        .env("BKG_PLUGIN_TOKEN", "token")
        .envs(variables.iter().copied())
        .output()
        .unwrap()
}

#[test]
fn a_lost_database_ends_the_launch_with_one_sentence_and_code_78() {
    let directory = tempfile::tempdir().unwrap();
    fs::write(directory.path().join("hmac.key"), "0f".repeat(32)).unwrap();
    let output = launch(&[("BKG_PLUGIN_DATA_DIR", directory.path().to_str().unwrap())]);
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(78), "{said}");
    assert_eq!(said.lines().count(), 1, "{said}");
    assert!(said.starts_with("error: ") && said.contains("apikeys.db` is lost"), "{said}");
    assert!(!said.contains("0f0f"), "{said}");
}

#[test]
fn a_launch_without_a_directory_says_who_names_it() {
    let output = launch(&[]);
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(78), "{said}");
    assert!(said.contains("BKG_PLUGIN_DATA_DIR"), "{said}");
}
