//! Rules that the code keeps about itself.

use std::fs;
use std::path::{Path, PathBuf};

/// The modules of the daemon, in columns: an import may only point to a later column.
const COLUMNS: [&[&str]; 15] = [
    &["cli"],
    &["app", "conformance", "scaffold"],
    &["gateway", "admin", "accounts", "api", "live", "reference", "dev"],
    &["entries", "backup"],
    &["plugin_object"],
    &["bus", "supervisor", "telemetry"],
    &["web"],
    &["error"],
    &["auth"],
    &["routing"],
    &["dispatcher"],
    &["registry"],
    &["logs", "store", "config"],
    &["trace"],
    &["clock", "metrics", "money"],
];

fn column(module: &str) -> Option<usize> {
    COLUMNS.iter().position(|modules| modules.contains(&module))
}

fn sources(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(sources(&path));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
    found
}

#[test]
fn imports_only_point_right() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut wrong = Vec::new();
    for path in sources(&root) {
        let inside = path.strip_prefix(&root).unwrap();
        let module =
            inside.components().next().unwrap().as_os_str().to_str().unwrap().trim_end_matches(".rs");
        let Some(from) = column(module) else {
            assert!(matches!(module, "lib" | "main"), "`{module}` has no column");
            continue;
        };
        let text = fs::read_to_string(&path).unwrap();
        for (number, line) in text.lines().enumerate() {
            let Some(rest) = line.split("crate::").nth(1) else { continue };
            let imported: String = rest.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
            let Some(to) = column(&imported) else { continue };
            if imported != module && to <= from {
                wrong.push(format!("{}:{}: {}", inside.display(), number + 1, line.trim()));
            }
        }
    }
    assert!(wrong.is_empty(), "imports that point left or to a sibling:\n{}", wrong.join("\n"));
}

#[test]
fn the_architecture_page_names_files_that_exist() {
    let repository = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let page = fs::read_to_string(repository.join("docs/architecture.md")).unwrap();
    let named: Vec<&str> = page
        .split(|c: char| c.is_whitespace() || matches!(c, '`' | '(' | ')' | ',' | '|'))
        .map(|word| word.trim_end_matches(['.', ':', ';']))
        .filter(|word| word.starts_with("crates/") || word.starts_with("plugins/"))
        .filter(|word| !word.contains(['*', '<', '{']))
        .collect();
    assert!(named.len() >= 8, "the page follows a request through real files: {named:?}");
    let missing: Vec<_> = named.iter().filter(|name| !repository.join(name).exists()).collect();
    assert!(missing.is_empty(), "the page names what does not exist: {missing:?}");
}

#[test]
fn unsafe_code_stands_in_one_file() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let allowed: Vec<PathBuf> = sources(&root)
        .into_iter()
        .filter(|path| fs::read_to_string(path).unwrap().contains("allow(unsafe_code)"))
        .map(|path| path.strip_prefix(&root).unwrap().to_owned())
        .collect();
    assert_eq!(allowed, [PathBuf::from("supervisor/spawn.rs")]);
}
