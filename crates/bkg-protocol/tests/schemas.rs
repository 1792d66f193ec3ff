//! The committed JSON Schemas against the types they are made from, and against the golden files.
//!
//! `BKG_BLESS=1 cargo test -p bkg-protocol --test schemas` writes the schemas anew after a change of
//! the messages; without it a difference fails, so that no change of the wire goes unseen.

use std::path::Path;

use bkg_protocol::schema;
use serde_json::Value;

#[test]
fn the_committed_schemas_are_those_of_the_types() {
    let blessed = std::env::var_os("BKG_BLESS").is_some_and(|value| value == "1");
    for (name, schema) in schema::all() {
        let file = here().join("schemas").join(name);
        let expected = format!("{}\n", serde_json::to_string_pretty(&schema).unwrap());
        if blessed {
            std::fs::write(&file, &expected).unwrap();
        }
        let committed = std::fs::read_to_string(&file).unwrap_or_default();
        assert!(
            committed == expected,
            "`{}` is not what the types say: run with `BKG_BLESS=1` and read the difference",
            file.display()
        );
    }
}

#[test]
fn what_the_golden_files_show_as_right_is_right_by_the_schemas() {
    for (name, direction) in
        [("plugin-message.json", "plugin-to-host"), ("host-message.json", "host-to-plugin")]
    {
        let schema = schema::all().into_iter().find(|(file, _)| *file == name).unwrap().1;
        let validator = jsonschema::validator_for(&schema).unwrap();
        let mut checked = 0;
        for entry in std::fs::read_dir(here().join("golden/messages").join(direction)).unwrap() {
            let path = entry.unwrap().path();
            // What is merely forgiven is not what an author should learn from the schema.
            if path.to_string_lossy().ends_with(".lenient.json") {
                continue;
            }
            let message: Value = serde_json::from_str(&std::fs::read_to_string(&path).unwrap()).unwrap();
            if let Err(problem) = validator.validate(&message) {
                panic!("{}: {problem}", path.display());
            }
            checked += 1;
        }
        assert!(checked >= 10, "{direction} has golden files");
    }
}

#[test]
fn a_message_with_a_wrong_field_is_wrong_by_the_schemas() {
    let schema = schema::all().into_iter().find(|(file, _)| *file == "plugin-message.json").unwrap().1;
    let validator = jsonschema::validator_for(&schema).unwrap();
    for wrong in [
        serde_json::json!({ "type": "chunk", "requestId": "1", "seq": "0" }),
        serde_json::json!({ "type": "response", "requestId": "1" }),
        serde_json::json!({ "type": "register", "plugin": "Not A Name" }),
        serde_json::json!({ "type": "nothing" }),
    ] {
        assert!(!validator.is_valid(&wrong), "{wrong}");
    }
    // The base contract allows an error to be a text.
    let text = serde_json::json!({ "type": "response", "requestId": "1", "success": false, "error": "no" });
    assert!(validator.is_valid(&text));
}

fn here() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}
