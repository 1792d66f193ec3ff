//! What new folders are made of, carried inside the binary: the templates, and the SDKs in source.
//!
//! A release build holds the files themselves; a debug build reads them from the checkout that it was
//! built in, so that an edit of a template needs no new build. Lists of what is taken, not of what is
//! left out: nothing that a build or an editor leaves behind gets into a binary.

use std::collections::BTreeMap;
use std::path::PathBuf;

use rust_embed::RustEmbed;

use super::Language;

#[derive(RustEmbed)]
#[folder = "templates"]
#[include = "*.json"]
#[include = "*.lock"]
#[include = "*.md"]
#[include = "*.py"]
#[include = "*.rs"]
#[include = "*.sh"]
#[include = "*.toml"]
#[include = "*.ts"]
#[include = "*.txt"]
#[include = "*/gitignore"]
#[exclude = "*/node_modules/*"]
#[exclude = "*/target/*"]
struct Templates;

#[derive(RustEmbed)]
#[folder = "../bkg-sdk"]
#[include = "src/**/*.rs"]
#[prefix = "vendor/bkg-sdk/"]
struct RustSdk;

#[derive(RustEmbed)]
#[folder = "../bkg-protocol"]
#[include = "src/**/*.rs"]
#[prefix = "vendor/bkg-protocol/"]
struct RustProtocol;

#[derive(RustEmbed)]
#[folder = "../../sdk/python"]
#[include = "pyproject.toml"]
#[include = "README.md"]
#[include = "src/bkg_sdk/*.py"]
#[include = "src/bkg_sdk/py.typed"]
#[prefix = "vendor/bkg-sdk/"]
struct PythonSdk;

#[derive(RustEmbed)]
#[folder = "../../sdk/typescript"]
#[include = "package.json"]
#[include = "tsconfig.json"]
#[include = "README.md"]
#[include = "src/*.ts"]
#[prefix = "vendor/bkg-sdk/"]
struct TypescriptSdk;

#[derive(RustEmbed)]
#[folder = "../../sdk/examples/bash"]
#[include = "websocket.sh"]
#[prefix = "vendor/"]
struct BashSocket;

/// What of the repository goes beside every copy of its sources.
const LICENCES: [(&str, &str); 2] = [
    ("vendor/LICENSE-APACHE", include_str!("../../../../LICENSE-APACHE")),
    ("vendor/LICENSE-MIT", include_str!("../../../../LICENSE-MIT")),
];
/// The form of the SDK's sources, so that `cargo fmt` leaves them as they are.
const RUSTFMT: (&str, &str) = ("vendor/rustfmt.toml", include_str!("../../../../rustfmt.toml"));

/// The files of one template by their paths in the new folder.
pub(super) fn template(name: &str) -> BTreeMap<PathBuf, String> {
    let folder = format!("{name}/");
    files::<Templates>()
        .filter_map(|(path, text)| {
            let path = path.strip_prefix(&folder)?;
            // Under its own name it would hide files of the template from git.
            let path = if path == "gitignore" { ".gitignore" } else { path };
            Some((path.into(), text))
        })
        .collect()
}

/// The copy of the SDK for plugins in that language, by their paths in the new folder.
pub(super) fn sdk(language: Language) -> BTreeMap<PathBuf, String> {
    let sources: Vec<(String, String)> = match language {
        Language::Rust => {
            files::<RustSdk>().chain(files::<RustProtocol>()).chain([owned(RUSTFMT)]).collect()
        }
        Language::Python => files::<PythonSdk>().collect(),
        Language::Typescript => files::<TypescriptSdk>().collect(),
        Language::Bash => files::<BashSocket>().collect(),
    };
    sources.into_iter().chain(LICENCES.map(owned)).map(|(path, text)| (path.into(), text)).collect()
}

fn owned((path, text): (&str, &str)) -> (String, String) {
    (path.to_owned(), text.to_owned())
}

fn files<E: RustEmbed>() -> impl Iterator<Item = (String, String)> {
    E::iter().map(|path| {
        let file = E::get(&path).expect("what is listed is there");
        let text = String::from_utf8(file.data.into_owned()).expect("templates and sources are text");
        (path.into_owned(), text)
    })
}
