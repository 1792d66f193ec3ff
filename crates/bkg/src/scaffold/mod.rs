//! A folder for a new plugin: files of a template and a copy of the SDK, under the plugin's own name.
//!
//! Not what the folder does, which stands in `templates/`, and not the command that asks for it. The
//! invariants: what is there already is never touched, and a folder is there whole or not at all.
//! `cli` calls it.

mod sources;
mod toolchain;
mod wrapped;

use std::collections::BTreeMap;
use std::fs::{self, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use bkg_protocol::PluginName;

pub use toolchain::{Missing, missing};
pub use wrapped::WrappedFile;

/// What stands in the templates for the plugin's name. It is a valid name itself, so that templates
/// are valid files of their language.
const PLACEHOLDER: &str = "my-plugin";

/// Families of capabilities that no ordinary plugin may register, and so names that it cannot have.
const FAMILIES_OF_THE_HOST: [&str; 3] = ["auth", "host", "lifecycle"];

/// The language of a new plugin.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Language {
    /// Rust, with the SDK; cargo builds it
    Rust,
    /// Python 3.11 or newer, with the SDK
    Python,
    /// TypeScript on Node 20 or newer, with the SDK
    Typescript,
    /// bash and jq, without an SDK: no streams, no routes
    Bash,
}

impl Language {
    /// All, in the order in which they are offered.
    pub const ALL: [Self; 4] = [Self::Rust, Self::Python, Self::Typescript, Self::Bash];

    /// The word for it on the command line.
    pub fn word(self) -> &'static str {
        match self {
            Self::Rust => "rust",
            Self::Python => "python",
            Self::Typescript => "typescript",
            Self::Bash => "bash",
        }
    }

    /// The language of that word.
    pub fn of_word(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|language| language.word() == word)
    }
}

/// What a new plugin is made of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Kind {
    /// The example of a language.
    Example(Language),
    /// A Python class that is there already, run as a plugin.
    Wrap(WrappedFile),
}

impl Kind {
    /// The language that it needs.
    pub fn language(&self) -> Language {
        match self {
            Self::Example(language) => *language,
            Self::Wrap(_) => Language::Python,
        }
    }

    /// The file to look at first.
    pub fn first_file(&self) -> &str {
        match self {
            Self::Example(Language::Rust) => "src/main.rs",
            Self::Example(Language::Python) => "plugin.py",
            Self::Example(Language::Typescript) => "src/plugin.ts",
            Self::Example(Language::Bash) => "capabilities.sh",
            Self::Wrap(file) => file.name(),
        }
    }

    /// The command that runs the tests, in the folder.
    pub fn test_command(&self) -> &'static str {
        match self.language() {
            Language::Rust => "cargo test",
            Language::Python | Language::Typescript | Language::Bash => "./test.sh",
        }
    }

    /// What it answers, without the plugin's name, and a payload to try that with.
    pub fn first_capability(&self) -> (&'static str, &'static str) {
        match self {
            Self::Example(_) => ("greet", r#"{"name": "Ada"}"#),
            Self::Wrap(_) => ("execute", r#"{"input": "something"}"#),
        }
    }

    /// Every file of the folder by its path, the name filled in.
    fn files(&self, name: &PluginName) -> BTreeMap<PathBuf, Vec<u8>> {
        let (template, sdk) = match self {
            Self::Example(language) => (language.word(), *language),
            Self::Wrap(_) => ("wrap", Language::Python),
        };
        let mut files = sources::template(template);
        for text in files.values_mut() {
            let mut filled = text.replace(PLACEHOLDER, name.as_str());
            if let Self::Wrap(file) = self {
                filled = filled.replace(wrapped::PLACEHOLDER, file.name());
            }
            *text = filled;
        }
        // The SDK is copied as it is: it knows no plugin's name.
        files.extend(sources::sdk(sdk));
        let mut files: BTreeMap<PathBuf, Vec<u8>> =
            files.into_iter().map(|(path, text)| (path, text.into_bytes())).collect();
        if let Self::Wrap(file) = self {
            files.insert(file.name().into(), file.text().to_owned());
        }
        files
    }
}

/// Why there is no new folder. In each case nothing was changed.
#[derive(Debug, thiserror::Error)]
pub enum ScaffoldError {
    /// The name begins with a digit, with which no capability begins.
    #[error(
        "`{0}` begins with a digit, and its capabilities cannot: choose a name that begins with a letter"
    )]
    Digit(PluginName),
    /// The capabilities of that name belong to somebody else.
    #[error("`{0}` cannot be the name: the capabilities `{0}.*` are not for every plugin; choose another")]
    Family(PluginName),
    /// Something is in the way.
    #[error("`{}` is there already and was not touched: choose another name, or another place with `--in DIR`", .0.display())]
    Taken(PathBuf),
    /// The place is none.
    #[error("`{}` is no directory: make it first, or choose another place with `--in DIR`", .0.display())]
    NoPlace(PathBuf),
    /// The file that is to be wrapped.
    #[error("`{}` cannot be wrapped: {reason}", path.display())]
    Wrapped {
        /// The file.
        path: PathBuf,
        /// Why, and what to do.
        reason: String,
    },
    /// A file or folder could not be written.
    #[error("cannot write `{}`: {source}; nothing is left of the folder", path.display())]
    Write {
        /// What.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

/// A name that a new plugin can have.
///
/// # Errors
/// [`ScaffoldError::Digit`] or [`ScaffoldError::Family`].
pub fn check_name(name: &PluginName) -> Result<(), ScaffoldError> {
    if name.as_str().starts_with(|first: char| first.is_ascii_digit()) {
        return Err(ScaffoldError::Digit(name.clone()));
    }
    if FAMILIES_OF_THE_HOST.contains(&name.as_str()) {
        return Err(ScaffoldError::Family(name.clone()));
    }
    Ok(())
}

/// Makes the folder `place/name`, and says where it is and which files it has, by their paths in it.
/// Blocks.
///
/// The files are written beside it first, so that nobody ever sees half a plugin: a daemon that
/// watches the place would start it.
///
/// # Errors
/// [`ScaffoldError`]; nothing is left behind.
pub fn make(
    place: &Path,
    name: &PluginName,
    kind: &Kind,
) -> Result<(PathBuf, Vec<PathBuf>), ScaffoldError> {
    check_name(name)?;
    if !place.is_dir() {
        return Err(ScaffoldError::NoPlace(place.to_owned()));
    }
    let folder = place.join(name.as_str());
    let failed = |path: &Path| {
        let path = path.to_owned();
        move |source| ScaffoldError::Write { path, source }
    };
    // What the umask of the process leaves of it, as if the folder had been made by hand.
    let unfinished = tempfile::Builder::new()
        .prefix(&format!(".{name}-"))
        .permissions(Permissions::from_mode(0o777))
        .tempdir_in(place)
        .map_err(failed(&folder))?;
    let files = kind.files(name);
    for (path, text) in &files {
        write(&unfinished.path().join(path), text).map_err(failed(&folder.join(path)))?;
    }
    // Making an empty folder fails if anything has that name, and renaming a folder onto an empty one
    // replaces it, but fails if somebody has put something into it meanwhile.
    fs::create_dir(&folder).map_err(|source| match source.kind() {
        io::ErrorKind::AlreadyExists => ScaffoldError::Taken(folder.clone()),
        _ => ScaffoldError::Write { path: folder.clone(), source },
    })?;
    fs::rename(unfinished.path(), &folder).map_err(|source| {
        // Only if it is still empty.
        let _ = fs::remove_dir(&folder);
        ScaffoldError::Write { path: folder.clone(), source }
    })?;
    // It is not there under its first name any more, so there is nothing to remove.
    let _ = unfinished.keep();
    Ok((folder, files.into_keys().collect()))
}

/// Writes a new file, a script as one that can be executed.
fn write(path: &Path, text: &[u8]) -> io::Result<()> {
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder)?;
    }
    let mode = if text.starts_with(b"#!") { 0o777 } else { 0o666 };
    let mut file = fs::OpenOptions::new().write(true).create_new(true).mode(mode).open(path)?;
    file.write_all(text)
}
