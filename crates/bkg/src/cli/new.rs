//! `bkg new`: a folder for a new plugin, and what to type next.
//!
//! It needs no daemon and talks to none. What it prints can be copied and typed as it stands, from the
//! directory in which it was called.

use std::env;
use std::path::{Path, PathBuf};

use bkg_protocol::PluginName;
use clap::Args;
use serde::Serialize;

use super::Verdict;
use super::error::CliError;
use super::input::Input;
use super::output::{Output, Paint};
use crate::config::bundled_plugins_dir;
use crate::scaffold::{self, Kind, Language, Missing, WrappedFile};

/// What to make, and where.
#[derive(Debug, Args)]
pub(super) struct NewRequest {
    /// The name of the plugin, and of its folder
    name: PluginName,
    /// The language; asked for on a terminal if it is not given
    #[arg(long, value_name = "LANGUAGE", value_enum)]
    lang: Option<Language>,
    /// Make the folder in this directory [default: the current one]
    #[arg(long = "in", value_name = "DIR")]
    place: Option<PathBuf>,
    /// Run a Python class that is there already, with `initialize`, `execute` and `shutdown`: the
    /// file is copied into the folder
    #[arg(long, value_name = "FILE")]
    wrap: Option<PathBuf>,
}

/// The result, for programs.
#[derive(Debug, Serialize)]
struct Made<'a> {
    name: &'a PluginName,
    language: &'static str,
    folder: PathBuf,
    files: Vec<PathBuf>,
    missing: Vec<Missing>,
    next: Vec<String>,
}

pub(super) fn run(
    request: NewRequest,
    input: &mut Input,
    output: &mut Output,
) -> Result<Verdict, CliError> {
    let NewRequest { name, lang, place, wrap } = request;
    scaffold::check_name(&name)?;
    refuse_bundled(&name)?;
    let kind = match (lang, wrap) {
        (None | Some(Language::Python), Some(file)) => Kind::Wrap(WrappedFile::read(&file)?),
        (Some(other), Some(_)) => {
            let message = format!(
                "`--wrap` takes a Python file, and `--lang` says {}: leave `--lang` out",
                other.word()
            );
            return Err(CliError::Usage { message });
        }
        (Some(language), None) => Kind::Example(language),
        (None, None) => Kind::Example(ask(input)?),
    };
    let place = place.unwrap_or_default();
    let (folder, files) =
        scaffold::make(if place.as_os_str().is_empty() { Path::new(".") } else { &place }, &name, &kind)?;
    // Without `./` in front, as people type it.
    let folder = folder.strip_prefix(".").map(Path::to_owned).unwrap_or(folder);
    let missing = scaffold::missing(kind.language());
    let next = next(&name, &kind, &folder);
    if output.wants_json() {
        let next = next.into_iter().map(|(command, _)| command).collect();
        let made = Made { name: &name, language: kind.language().word(), folder, files, missing, next };
        output.json(&serde_json::to_string(&made).expect("paths and texts have a JSON form"))?;
        return Ok(Verdict::Reached);
    }
    let own = files.iter().filter(|file| !file.starts_with("vendor"));
    let own: Vec<String> = own.map(|file| file.display().to_string()).collect();
    let folder = folder.display();
    let mut text = format!("made {folder}, a plugin in {}: {}", kind.language().word(), own.join(", "));
    text.push_str(", and its copy of the SDK in vendor");
    text.push_str(&format!(
        "\nbegin with {folder}/{}; {folder}/README.md says the rest\n",
        kind.first_file()
    ));
    for Missing { problem, remedy, .. } in &missing {
        let line = format!("{problem} on this machine, and the plugin needs it: {remedy}");
        text.push_str(&format!("\n{}\n", output.painted(&line, Some(Paint::Yellow))));
    }
    text.push_str("\nnext:\n\n");
    let width = next.iter().map(|(command, _)| command.len()).max().unwrap_or_default();
    for (command, purpose) in &next {
        let purpose = output.painted(&format!("# {purpose}"), Some(Paint::Dim));
        text.push_str(&format!("  {command:width$}  {purpose}\n"));
    }
    output.text(&text)?;
    Ok(Verdict::Reached)
}

/// A plugin that comes with the host would be the one that is found.
fn refuse_bundled(name: &PluginName) -> Result<(), CliError> {
    let executable =
        env::current_exe().map_err(|source| CliError::Surroundings { what: "own executable", source })?;
    let bundled = bundled_plugins_dir(&executable).join(name.as_str());
    if bundled.join("plugin.json").exists() {
        let message = format!(
            "`{name}` is the name of a plugin that comes with the host, in `{}`: choose another",
            bundled.display()
        );
        return Err(CliError::Usage { message });
    }
    Ok(())
}

fn ask(input: &mut Input) -> Result<Language, CliError> {
    if !input.is_terminal() {
        let instead = "`--lang rust`, `--lang python`, `--lang typescript` or `--lang bash`";
        return Err(CliError::NoTerminal { what: "the language", instead });
    }
    let line = input.typed_line("language (rust, python, typescript, bash): ")?.unwrap_or_default();
    let word = line.trim().to_ascii_lowercase();
    Language::of_word(&word).ok_or_else(|| CliError::Usage {
        message: format!("`{word}` is none of rust, python, typescript and bash: nothing was made"),
    })
}

/// What to type, and what that does. From one directory, each as it stands.
fn next(name: &PluginName, kind: &Kind, folder: &Path) -> Vec<(String, &'static str)> {
    let folder = quoted(folder);
    let (capability, payload) = kind.first_capability();
    vec![
        (format!("bkg serve --dev --plugin {folder}"), "run it; an edit is live in seconds"),
        (
            format!("bkg plugin invoke {name} {name}.{capability} '{payload}'"),
            "ask it, from another terminal in this directory",
        ),
        (format!("(cd {folder} && {})", kind.test_command()), "test it, without a daemon"),
        (format!("bkg check {folder}"), "whether it keeps the rules of the bus"),
    ]
}

/// The path as a shell reads it back.
fn quoted(path: &Path) -> String {
    let text = path.display().to_string();
    let plain = |c: char| c.is_alphanumeric() || matches!(c, '/' | '.' | '_' | '-' | '+' | ',' | '@' | '%');
    if text.chars().all(plain) && !text.starts_with('-') {
        return text;
    }
    let text = if text.starts_with('-') { format!("./{text}") } else { text };
    format!("'{}'", text.replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_quoted_where_a_shell_would_take_it_apart() {
        for (path, typed) in [
            ("greeter", "greeter"),
            ("../a/b.c", "../a/b.c"),
            ("some where", "'some where'"),
            ("it's", r"'it'\''s'"),
            ("$(x)", "'$(x)'"),
            ("-x", "'./-x'"),
        ] {
            assert_eq!(quoted(Path::new(path)), typed);
        }
    }

    #[test]
    fn on_a_terminal_the_language_is_asked_for() {
        assert_eq!(ask(&mut Input::typed(["Rust"])).unwrap(), Language::Rust);
        let error = ask(&mut Input::typed(["cobol"])).unwrap_err();
        assert_eq!(error.exit_code(), 2);
        assert!(error.to_string().contains("`cobol` is none of"), "{error}");
        assert!(matches!(ask(&mut Input::sent([])), Err(CliError::NoTerminal { .. })));
    }

    #[test]
    fn what_is_missing_stands_beside_the_result_and_does_not_hinder_it() {
        let place = tempfile::tempdir().unwrap();
        let request = NewRequest {
            name: "greeter".parse().unwrap(),
            lang: Some(Language::Bash),
            place: Some(place.path().to_owned()),
            wrap: None,
        };
        let mut output = Output::captured(false);
        assert_eq!(run(request, &mut Input::sent([]), &mut output).unwrap(), Verdict::Reached);
        assert!(output.written().starts_with("made "), "{}", output.written());
        assert!(place.path().join("greeter/plugin.json").is_file());
    }
}
