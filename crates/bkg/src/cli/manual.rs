//! `bkg completions` and `bkg man`: what shells and `man` want to know about the command line.
//!
//! Both are made from the definition in `arguments`, so neither can say what the parser does not know.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use clap::{Command, CommandFactory};
use clap_complete::Shell;
use clap_mangen::Man;
use serde_json::json;

use super::Verdict;
use super::arguments::Arguments;
use super::error::CliError;
use super::output::Output;

/// Writes what the shell reads to complete words.
pub(super) fn completions(shell: Shell, output: &mut Output) -> Result<Verdict, CliError> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Arguments::command(), "bkg", &mut script);
    text(script, output)
}

/// Writes the page of `bkg` itself.
pub(super) fn page(output: &mut Output) -> Result<Verdict, CliError> {
    let mut page = Vec::new();
    Man::new(complete()).render(&mut page).expect("memory takes all text");
    text(page, output)
}

/// Writes a page for each command into the directory, which need not exist.
pub(super) fn pages(directory: &Path, output: &mut Output) -> Result<Verdict, CliError> {
    let failed = |source| CliError::File { action: "write into", path: directory.to_owned(), source };
    fs::create_dir_all(directory).map_err(failed)?;
    let files = write_page(complete(), directory).map_err(failed)?;
    if output.wants_json() {
        output.json(&json!({ "files": files }).to_string())?;
    } else {
        let lines: Vec<String> = files.iter().map(|file| file.display().to_string()).collect();
        output.text(&lines.join("\n"))?;
    }
    Ok(Verdict::Reached)
}

/// The whole command line, where each command knows its full name.
fn complete() -> Command {
    let mut command = Arguments::command();
    command.build();
    command
}

/// The pages of a command and of all below it.
fn write_page(command: Command, directory: &Path) -> io::Result<Vec<PathBuf>> {
    let below: Vec<Command> = command.get_subcommands().cloned().collect();
    let mut files = vec![Man::new(command).generate_to(directory)?];
    for command in below {
        files.extend(write_page(command, directory)?);
    }
    Ok(files)
}

fn text(bytes: Vec<u8>, output: &mut Output) -> Result<Verdict, CliError> {
    output.text(&String::from_utf8(bytes).expect("the definition is UTF-8"))?;
    Ok(Verdict::Reached)
}

#[cfg(test)]
mod tests {
    use clap::ValueEnum;

    use super::*;

    #[test]
    fn every_shell_is_told_every_command() {
        for shell in Shell::value_variants() {
            let mut output = Output::captured(false);
            completions(*shell, &mut output).unwrap();
            let script = output.written();
            for command in complete().get_subcommands() {
                assert!(script.contains(command.get_name()), "{shell}: {}", command.get_name());
            }
        }
    }

    #[test]
    fn every_command_has_a_page() {
        let directory = tempfile::tempdir().unwrap();
        let mut output = Output::captured(false);
        pages(&directory.path().join("man"), &mut output).unwrap();
        for name in ["bkg.1", "bkg-serve.1", "bkg-config-set.1", "bkg-plugin-routes.1", "bkg-key-create.1"]
        {
            let page = fs::read_to_string(directory.path().join("man").join(name)).unwrap();
            assert!(page.contains(".SH SYNOPSIS"), "{name}: {page}");
        }
        assert!(output.written().lines().count() > 40, "{}", output.written());
    }

    #[test]
    fn the_page_lists_the_exit_codes() {
        let mut output = Output::captured(false);
        page(&mut output).unwrap();
        assert!(output.written().contains("Exit codes"), "{}", output.written());
    }
}
