//! The prose about the protocol against the protocol: an example that cannot be sent, or a code
//! without a page, fails here.
//!
//! `BKG_BLESS=1 cargo test -p bkg-protocol --test documents` writes the table of error codes anew.

#![expect(clippy::unwrap_used, reason = "what fails here fails the test")]

use std::collections::BTreeSet;
use std::fmt::Debug;
use std::path::{Path, PathBuf};

use bkg_protocol::frame::{Decoded, Message};
use bkg_protocol::message::CancelReason;
use bkg_protocol::{ErrorCode, HostMessage, Limits, PluginMessage, schema};
use serde_json::Value;

const TABLE_OPENS: &str =
    "<!-- error codes: written by `BKG_BLESS=1 cargo test -p bkg-protocol --test documents` -->\n";
const TABLE_CLOSES: &str = "<!-- /error codes -->";

#[test]
fn every_example_of_the_page_is_a_message() {
    let mut shown = BTreeSet::new();
    for (direction, block) in examples(&read(&docs().join("protocol.md"))) {
        for frame in serde_json::Deserializer::from_str(&block).into_iter::<Value>() {
            let frame = frame.unwrap_or_else(|problem| panic!("{problem} in\n{block}"));
            match direction.as_str() {
                "plugin" => is_message::<PluginMessage>(&frame, "plugin-message.json"),
                "host" => is_message::<HostMessage>(&frame, "host-message.json"),
                other => panic!("a `json` block says who writes it, `plugin` or `host`, not `{other}`"),
            }
            shown.insert(format!("{direction} {}", frame["type"].as_str().unwrap()));
        }
    }
    for needed in [
        "plugin register",
        "plugin health",
        "plugin log",
        "plugin response",
        "plugin chunk",
        "plugin request",
        "plugin update",
        "host registered",
        "host rejected",
        "host updated",
        "host request",
        "host response",
        "host cancel",
        "host credit",
        "host drain",
    ] {
        assert!(shown.contains(needed), "the page shows no `{needed}`");
    }
}

#[test]
fn the_page_names_every_message_and_every_reason_to_cancel() {
    let page = read(&docs().join("protocol.md"));
    let mut words: Vec<String> = schema::all()
        .iter()
        .flat_map(|(_, schema)| schema["oneOf"].as_array().unwrap().clone())
        .map(|variant| variant["properties"]["type"]["const"].as_str().unwrap().to_owned())
        .collect();
    for reason in [
        CancelReason::CallerGone,
        CancelReason::Deadline,
        CancelReason::Shutdown,
        CancelReason::FlowControl,
        CancelReason::Protocol,
    ] {
        words.push(serde_json::to_value(reason).unwrap().as_str().unwrap().to_owned());
    }
    for word in words {
        assert!(page.contains(&format!("`{word}`")) || page.contains(&format!("\"{word}\"")), "{word}");
    }
}

#[test]
fn the_limits_of_the_page_are_the_defaults() {
    let page = read(&docs().join("protocol.md"));
    let limits = Limits::default();
    let says = |sentence: String| assert!(page.contains(&sentence), "the page does not say: {sentence}");
    says(format!("| first frame is `register` | within {} s |", limits.register_within.as_secs()));
    says(format!(
        "| `maxFrameBytes` of its entry, else {} MiB, or {} MiB for a base plugin |",
        limits.frame_to_extended >> 20,
        limits.frame_to_base >> 20
    ));
    says(format!("| frame from a plugin | {} MiB |", limits.frame_from_plugin >> 20));
    says(format!("| `data` of a chunk | {} KiB |", limits.chunk >> 10));
    says(format!("| {}, or `request.credit` |", limits.stream_credit));
    says(format!("| its `maxConcurrency`, else {} |", with_thousands(limits.in_flight)));
    says(format!(
        "| requests of one plugin in flight | {} |",
        with_thousands(limits.in_flight_from_plugin)
    ));
    says(format!("| payloads of these requests | {} MiB,", limits.in_flight_from_plugin_bytes >> 20));
    says(format!(
        "| answers that a plugin does not read | {}, or {} MiB |",
        with_thousands(limits.unread_frames),
        limits.unread_bytes >> 20
    ));
    says(format!(
        "| frames that cannot be read, binary ones included | {} within {} s |",
        limits.unreadable_frames,
        limits.unreadable_window.as_secs()
    ));
    says(format!("every {} s", limits.heartbeat.as_secs()));
    says(format!(
        "pings an extended plugin every {} s and wants the pong within {} s",
        limits.ping_every.as_secs(),
        limits.pong_within.as_secs()
    ));
    says(format!("at most {} calls deep", limits.call_depth));
    says(format!(
        "for {} s counts as degraded, for {} s it is replaced",
        limits.cancel_degrades_after.as_secs(),
        limits.cancel_replaces_after.as_secs()
    ));
}

#[test]
fn the_table_of_error_codes_is_that_of_the_code() {
    let file = docs().join("protocol.md");
    let page = read(&file);
    let mut table = String::from("| code | HTTP | from a plugin | meaning |\n|---|---|---|---|\n");
    for &code in ErrorCode::ALL {
        let claimed = if code.plugin_may_claim() { code.status() } else { ErrorCode::PluginError.status() };
        table.push_str(&format!(
            "| [`{code}`](errors/{code}.md) | {} | {claimed} | {} |\n",
            code.status(),
            code.meaning()
        ));
    }
    let (before, rest) = page.split_once(TABLE_OPENS).expect("the page has a place for the table");
    let (committed, after) = rest.split_once(TABLE_CLOSES).expect("the table has an end");
    if std::env::var_os("BKG_BLESS").is_some_and(|value| value == "1") {
        std::fs::write(&file, format!("{before}{TABLE_OPENS}{table}{TABLE_CLOSES}{after}")).unwrap();
        return;
    }
    assert_eq!(committed, table, "run with `BKG_BLESS=1` and read the difference");
}

#[test]
fn every_error_code_has_a_page_and_every_page_a_code() {
    let pages: BTreeSet<String> = std::fs::read_dir(docs().join("errors"))
        .unwrap()
        .map(|entry| entry.unwrap().path().file_stem().unwrap().to_str().unwrap().to_owned())
        .filter(|stem| stem != "README")
        .collect();
    let codes: BTreeSet<String> = ErrorCode::ALL.iter().map(ErrorCode::to_string).collect();
    assert_eq!(pages, codes);

    let index = read(&docs().join("errors/README.md"));
    for &code in ErrorCode::ALL {
        assert!(index.contains(&format!("[`{code}`]({code}.md)")), "the index does not name `{code}`");
        let page = read(&docs().join("errors").join(format!("{code}.md")));
        let from_a_plugin = if code.plugin_may_claim() {
            format!("A plugin may say it too, and the status stays {}.", code.status())
        } else {
            "If a plugin says it, the client sees 502.".to_owned()
        };
        for part in [
            format!("# `{code}`\n\n{}\n", code.meaning()),
            format!("**HTTP status:** {}\n", code.status()),
            from_a_plugin,
            "\n## When the host says it\n".to_owned(),
            "\n## What to do next\n".to_owned(),
        ] {
            assert!(page.contains(&part), "the page of `{code}` lacks:\n{part}");
        }
    }
}

/// A frame is read, and is right by the schema too: an example shows what to write, not what is forgiven.
fn is_message<M: Message + Debug>(frame: &Value, schema_file: &str) {
    let decoded = M::decode(&frame.to_string());
    assert!(matches!(decoded, Ok(Decoded::Message(_))), "{frame} is read as {decoded:?}");
    let schema = schema::all().into_iter().find(|(name, _)| *name == schema_file).unwrap().1;
    if let Err(problem) = jsonschema::validator_for(&schema).unwrap().validate(frame) {
        panic!("{frame}: {problem}");
    }
}

/// The fenced `json` blocks of a page, each with the word that follows `json`.
fn examples(page: &str) -> Vec<(String, String)> {
    let mut examples: Vec<(String, String)> = Vec::new();
    let mut inside = false;
    for line in page.lines() {
        if inside && line == "```" {
            inside = false;
        } else if inside {
            let (_, block) = examples.last_mut().expect("a block was opened");
            block.push_str(line);
            block.push('\n');
        } else if let Some(word) = line.strip_prefix("```json") {
            inside = true;
            examples.push((word.trim().to_owned(), String::new()));
        }
    }
    assert!(!inside, "a block is not closed");
    examples
}

fn with_thousands(number: u32) -> String {
    format!("{},{:03}", number / 1_000, number % 1_000)
}

fn read(file: &Path) -> String {
    std::fs::read_to_string(file).unwrap_or_else(|problem| panic!("{}: {problem}", file.display()))
}

fn docs() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs")
}
