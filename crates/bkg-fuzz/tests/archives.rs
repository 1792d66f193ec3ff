//! Makes the archives that the corpus of `archive` begins with, and holds them against what is committed.
//!
//! Their members are written here by hand, as somebody hostile would; `BKG_BLESS=1` writes them anew.

#![expect(clippy::unwrap_used, reason = "what fails here fails the test")]

use std::fmt::Write;
use std::fs;
use std::path::Path;

use bkg::backup::archive::{self, Quota};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use tar::{Builder, EntryType, Header};

const LONG: &str =
    "plugins/notes/data/a-directory-with-a-long-name-in-which-there-are-others/and-another-of-them/notes";

fn member(builder: &mut Builder<Vec<u8>>, kind: EntryType, name: &str, size: u64, bytes: &[u8]) {
    let mut header = Header::new_gnu();
    header.as_old_mut().name[..name.len()].copy_from_slice(name.as_bytes());
    header.set_entry_type(kind);
    header.set_mode(0o600);
    header.set_size(size);
    header.set_cksum();
    builder.append(&header, bytes).unwrap();
}

fn file(path: &str, bytes: &[u8]) -> Value {
    let mut sum = String::new();
    for byte in Sha256::digest(bytes) {
        write!(sum, "{byte:02x}").unwrap();
    }
    let mut file =
        json!({ "path": path, "size": bytes.len(), "sha256": sum, "mode": 0o600, "taken": "copied" });
    if path.starts_with("plugins/notes/") {
        file["plugin"] = json!("notes");
    }
    file
}

fn manifest(files: &[Value]) -> Value {
    json!({
        "backplaneBackup": 1, "version": "0.1.0", "created": "2026-01-02T03:04:05Z", "withKeys": false,
        "withLogs": false, "parts": [{ "how": "host" }, { "plugin": "notes", "how": "files" }],
        "directories": ["plugins/notes/data", "plugins/notes/data/empty"], "files": files,
        "leftOut": [{ "path": "secrets.key", "why": "key", "print": "00" }], "lacks": ["a key"],
    })
}

/// An archive with this manifest, and then what `rest` appends.
fn with(manifest: &Value, rest: impl FnOnce(&mut Builder<Vec<u8>>)) -> Vec<u8> {
    let mut builder = Builder::new(Vec::new());
    let text = manifest.to_string();
    member(&mut builder, EntryType::Regular, "manifest.json", text.len() as u64, text.as_bytes());
    rest(&mut builder);
    builder.into_inner().unwrap()
}

fn archives() -> Vec<(&'static str, Vec<u8>, bool)> {
    let database = b"the database".as_slice();
    let db = |builder: &mut Builder<Vec<u8>>| member(builder, EntryType::Regular, "bkg.db", 12, database);
    let least = manifest(&[file("bkg.db", database)]);
    let named = manifest(&[file("bkg.db", database), file(LONG, b"of notes")]);
    let mut twice = least.clone();
    twice["files"] = json!([least["files"][0], least["files"][0]]);
    let mut another = least.clone();
    another["files"][0]["sha256"] = file("bkg.db", b"another file")["sha256"].clone();
    let mut climbs = least.clone();
    climbs["files"][0]["path"] = json!("plugins/notes/data/../../../bkg.db");
    let mut newer = least.clone();
    newer["backplaneBackup"] = json!(2);
    let mut huge = least.clone();
    huge["files"][0]["size"] = json!(u64::MAX);
    let long_name = |builder: &mut Builder<Vec<u8>>, name: &[u8]| {
        member(builder, EntryType::GNULongName, "././@LongLink", name.len() as u64, name);
    };
    let lie = |size: u64| {
        let mut header = Header::new_gnu();
        header.as_old_mut().name[..6].copy_from_slice(b"bkg.db");
        header.set_entry_type(EntryType::Regular);
        header.set_size(size);
        header.set_cksum();
        header
    };
    let least_bytes = with(&least, db);
    vec![
        (
            "empty-database",
            with(&manifest(&[file("bkg.db", b"")]), |builder| {
                member(builder, EntryType::Regular, "bkg.db", 0, b"");
            }),
            true,
        ),
        ("least", least_bytes.clone(), true),
        (
            "long-name",
            with(&named, |builder| {
                db(builder);
                long_name(builder, &[LONG.as_bytes(), b"\0"].concat());
                member(builder, EntryType::Regular, "cut", 8, b"of notes");
            }),
            true,
        ),
        (
            "long-name-for-nothing",
            with(&least, |builder| {
                db(builder);
                long_name(builder, b"bkg.db");
            }),
            false,
        ),
        (
            "pax-that-renames",
            with(&least, |builder| {
                member(builder, EntryType::XHeader, "x", 15, b"15 path=bkg.db\n");
                db(builder);
            }),
            false,
        ),
        ("link", with(&least, |builder| member(builder, EntryType::Symlink, "bkg.db", 0, b"")), false),
        (
            "named-twice",
            with(&twice, |builder| {
                db(builder);
                db(builder);
            }),
            false,
        ),
        ("sum-of-another", with(&another, db), false),
        ("climbs", with(&climbs, db), false),
        ("newer", with(&newer, db), false),
        (
            "size-without-end",
            with(&huge, |builder| {
                builder.append(&lie(u64::MAX), database).unwrap();
            }),
            false,
        ),
        (
            "size-that-is-a-lie",
            with(&least, |builder| {
                builder.append(&lie(1 << 60), database).unwrap();
            }),
            false,
        ),
        ("cut-in-the-database", least_bytes[..least_bytes.len() - 1_024 - 510].to_vec(), false),
        ("compressed", b"\x1f\x8b\x08\0\0\0\0\0".to_vec(), false),
    ]
}

#[test]
fn the_archives_of_the_corpus_are_those_and_are_taken_or_refused() {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus/archive");
    let is_blessed = std::env::var_os("BKG_BLESS").is_some_and(|value| value == "1");
    if is_blessed {
        fs::create_dir_all(&corpus).unwrap();
    }
    for (name, bytes, is_whole) in archives() {
        assert_eq!(archive::read(bytes.as_slice(), &Quota::of_bytes(64 << 10)).is_ok(), is_whole, "{name}");
        if is_blessed {
            fs::write(corpus.join(name), &bytes).unwrap();
        }
        let committed = fs::read(corpus.join(name)).unwrap_or_default();
        assert!(committed == bytes, "`{name}` is another: run this test once with BKG_BLESS=1");
    }
}
