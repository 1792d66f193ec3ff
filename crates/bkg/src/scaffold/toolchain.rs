//! Which programs a language needs that this machine does not have, and what brings them.
//!
//! It runs them for their version and changes nothing. A scaffold is made all the same: its author may
//! install what is missing while reading it. `cli` says it beside the result.

use std::process::{Command, Stdio};

use serde::Serialize;

use super::Language;

/// A program that is missing, or too old.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Missing {
    /// The program.
    pub program: &'static str,
    /// What is wrong with it.
    pub problem: String,
    /// What to do.
    pub remedy: &'static str,
}

/// What a plugin needs of one program.
struct Need {
    program: &'static str,
    /// What makes it say its version.
    arguments: &'static [&'static str],
    /// The oldest that will do; major and minor.
    oldest: (u32, u32),
    remedy: &'static str,
}

const RUST: &str = "install Rust from https://rustup.rs, or bring it up to date with `rustup update`";
const PYTHON: &str = "on Debian or Ubuntu: `sudo apt-get install python3 python3-venv`";
const NODE: &str =
    "on Debian or Ubuntu: `sudo apt-get install nodejs npm`; for a newer one see https://nodejs.org";
const BASH: &str = "on Debian or Ubuntu: `sudo apt-get install bash jq`";

fn needs(language: Language) -> Vec<Need> {
    let need = |program, arguments, oldest, remedy| Need { program, arguments, oldest, remedy };
    const VERSION: &[&str] = &["--version"];
    // The last word of what it prints; `ensurepip` is what Debian leaves out of its Python.
    const WITH_VENV: &[&str] =
        &["-c", "import ensurepip, venv, sys; print('python %d.%d' % sys.version_info[:2])"];
    match language {
        // As in the `rust-version` of the SDK.
        Language::Rust => vec![need("cargo", VERSION, (1, 95), RUST)],
        Language::Python => vec![need("python3", WITH_VENV, (3, 11), PYTHON)],
        Language::Typescript => {
            vec![need("node", VERSION, (20, 0), NODE), need("npm", VERSION, (9, 0), NODE)]
        }
        Language::Bash => vec![need("bash", VERSION, (4, 4), BASH), need("jq", VERSION, (1, 6), BASH)],
    }
}

/// What this machine lacks for plugins in that language. Blocks for as long as the programs take to
/// say their version.
pub fn missing(language: Language) -> Vec<Missing> {
    needs(language).iter().filter_map(|need| judge(need, said(need))).collect()
}

/// What a program says of its version; an error if it cannot be run at all.
fn said(need: &Need) -> std::io::Result<String> {
    let output = Command::new(need.program).args(need.arguments).stdin(Stdio::null()).output()?;
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

fn judge(need: &Need, said: std::io::Result<String>) -> Option<Missing> {
    let (major, minor) = need.oldest;
    let problem = match said.map(|text| version(&text)) {
        Err(_) => format!("`{}` is missing", need.program),
        Ok(None) => format!("`{}` is not whole: it does not say its version", need.program),
        Ok(Some(found)) if found < need.oldest => {
            format!("`{}` is {}.{}, and {major}.{minor} is needed", need.program, found.0, found.1)
        }
        Ok(Some(_)) => return None,
    };
    Some(Missing { program: need.program, problem, remedy: need.remedy })
}

/// The first two numbers with a dot between them, such as 1.95 in `cargo 1.95.0 (…)`.
fn version(text: &str) -> Option<(u32, u32)> {
    let mut words = text.split(|c: char| !(c.is_ascii_digit() || c == '.'));
    words.find_map(|word| {
        let mut numbers = word.split('.');
        Some((numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_found_in_what_programs_say() {
        for (said, found) in [
            ("cargo 1.95.0 (f2d3ce0bd 2026-03-21)", Some((1, 95))),
            ("v20.20.2\n", Some((20, 20))),
            ("python 3.11\n", Some((3, 11))),
            ("jq-1.6", Some((1, 6))),
            ("GNU bash, version 5.2.15(1)-release (x86_64-pc-linux-gnu)", Some((5, 2))),
            ("jq-master", None),
            ("", None),
        ] {
            assert_eq!(version(said), found, "{said}");
        }
    }

    #[test]
    fn what_is_missing_or_too_old_is_said_with_what_brings_it() {
        let need = &needs(Language::Python)[0];
        let problem = |said| judge(need, said).map(|missing| missing.problem);
        assert_eq!(problem(Ok("python 3.11".to_owned())), None);
        assert_eq!(problem(Ok("python 3.13".to_owned())), None);
        let old = problem(Ok("python 3.9".to_owned()));
        assert_eq!(old.as_deref(), Some("`python3` is 3.9, and 3.11 is needed"));
        let absent = judge(need, Err(std::io::ErrorKind::NotFound.into())).unwrap();
        assert_eq!(absent.problem, "`python3` is missing");
        assert!(absent.remedy.contains("apt-get install"));
        assert!(problem(Ok(String::new())).unwrap().contains("not whole"));
    }
}
