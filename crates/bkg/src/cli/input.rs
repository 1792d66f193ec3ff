//! What a command asks of a person, or reads from standard input in the person's place.
//!
//! The invariants: a password is never shown while it is typed, and a terminal that asked for one is
//! left as it was found; where nobody can be asked, that is an error and no wait.

use std::io::{self, BufRead, IsTerminal, Write};

use nix::sys::signal::{SigSet, SigmaskHow, Signal};

use super::error::CliError;
use super::secret::Password;

/// More than any password; who sends more has sent something else.
const LONGEST_LINE: u64 = 4096;

/// Where answers come from.
pub(super) enum Input {
    /// The terminal and the standard input of this process.
    Process,
    /// What a test has written down, line by line.
    #[cfg(test)]
    Scripted {
        /// Whether it stands for a terminal.
        is_terminal: bool,
        /// What is typed or sent.
        lines: std::collections::VecDeque<&'static str>,
    },
}

/// How a password reaches the command.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum PasswordSource {
    /// It is asked for.
    Terminal,
    /// It is a line of standard input.
    Stdin,
}

/// How a secret of a plugin reaches the command.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum SecretSource {
    /// It is asked for.
    Terminal,
    /// It is a line of standard input.
    Stdin,
}

impl PasswordSource {
    /// What `--password-stdin` says.
    pub(super) fn of_flag(password_stdin: bool) -> Self {
        if password_stdin { Self::Stdin } else { Self::Terminal }
    }
}

impl Input {
    /// Whether a person is there to be asked.
    pub(super) fn is_terminal(&self) -> bool {
        match self {
            Self::Process => io::stdin().is_terminal(),
            #[cfg(test)]
            Self::Scripted { is_terminal, .. } => *is_terminal,
        }
    }

    /// A password that exists.
    ///
    /// # Errors
    /// There is no terminal, or nothing comes.
    pub(super) fn password(
        &mut self,
        source: PasswordSource,
        question: &str,
    ) -> Result<Password, CliError> {
        match source {
            PasswordSource::Stdin => self.line_of_stdin("the password").map(Password::from),
            PasswordSource::Terminal => self.hidden(question),
        }
    }

    /// What a plugin is to keep to itself.
    ///
    /// # Errors
    /// There is no terminal, or nothing comes.
    pub(super) fn secret(&mut self, source: SecretSource, question: &str) -> Result<Password, CliError> {
        match source {
            SecretSource::Stdin => self.line_of_stdin("the secret").map(Password::from),
            SecretSource::Terminal if !self.is_terminal() => {
                Err(CliError::NoTerminal { what: "the secret", instead: "`--secret-stdin`" })
            }
            SecretSource::Terminal => self.hidden(question),
        }
    }

    /// A password that is to be set; typed twice, since nobody sees it.
    ///
    /// # Errors
    /// As [`Self::password`]; or the two differ.
    pub(super) fn new_password(
        &mut self,
        source: PasswordSource,
        question: &str,
    ) -> Result<Password, CliError> {
        let password = self.password(source, question)?;
        if source == PasswordSource::Terminal && self.hidden("the same again: ")? != password {
            return Err(CliError::PasswordsDiffer);
        }
        Ok(password)
    }

    /// The name of the user.
    ///
    /// # Errors
    /// There is no terminal, or nothing comes.
    pub(super) fn user(&mut self) -> Result<String, CliError> {
        if !self.is_terminal() {
            return Err(CliError::NoTerminal { what: "the user", instead: "`--user NAME`" });
        }
        self.ask("user: ")?;
        self.line_of_stdin("the user")
    }

    /// The next line of a conversation; none at the end of all.
    ///
    /// # Errors
    /// The terminal cannot be read or written.
    pub(super) fn typed_line(&mut self, sign: &str) -> Result<Option<String>, CliError> {
        self.ask(sign)?;
        let failed = |source| CliError::Asking { what: "the line", source };
        let mut line = String::new();
        let read = match self {
            Self::Process => io::stdin().lock().read_line(&mut line).map_err(failed)?,
            #[cfg(test)]
            Self::Scripted { lines, .. } => {
                line.push_str(lines.pop_front().unwrap_or_default());
                line.len()
            }
        };
        if read == 0 {
            // The shell's sign is to stand on a line of its own.
            self.ask("\n")?;
            return Ok(None);
        }
        Ok(Some(line))
    }

    /// Whether a person agrees. Only a word that begins with `y` is a yes.
    ///
    /// # Errors
    /// Nothing comes.
    pub(super) fn agrees(&mut self, question: &str) -> Result<bool, CliError> {
        self.ask(&format!("{question} [y/N] "))?;
        match self.line_of_stdin("the answer") {
            Ok(line) => Ok(line.trim_start().starts_with(['y', 'Y'])),
            Err(CliError::Asking { source, .. }) if source.kind() == io::ErrorKind::UnexpectedEof => {
                Ok(false)
            }
            Err(error) => Err(error),
        }
    }

    fn hidden(&mut self, question: &str) -> Result<Password, CliError> {
        if !self.is_terminal() {
            return Err(CliError::NoTerminal { what: "the password", instead: "`--password-stdin`" });
        }
        let typed = match self {
            Self::Process => type_hidden(question),
            #[cfg(test)]
            Self::Scripted { .. } => return self.line_of_stdin("the password").map(Password::from),
        };
        let not_empty = typed.and_then(|text| if text.is_empty() { Err(nothing()) } else { Ok(text) });
        not_empty.map(Password::from).map_err(|source| CliError::Asking { what: "the password", source })
    }

    /// A question stands on standard error: standard output is for answers.
    fn ask(&self, question: &str) -> Result<(), CliError> {
        let written = match self {
            Self::Process => {
                let mut stream = io::stderr().lock();
                stream.write_all(question.as_bytes()).and_then(|()| stream.flush())
            }
            #[cfg(test)]
            Self::Scripted { .. } => Ok(()),
        };
        written.map_err(|source| CliError::Asking { what: "the answer", source })
    }

    fn line_of_stdin(&mut self, what: &'static str) -> Result<String, CliError> {
        let line = match self {
            Self::Process => first_line(io::stdin().lock()),
            #[cfg(test)]
            Self::Scripted { lines, .. } => first_line(lines.pop_front().unwrap_or_default().as_bytes()),
        };
        line.map_err(|source| CliError::Asking { what, source })
    }
}

/// The next line without its end.
fn first_line(input: impl BufRead) -> io::Result<String> {
    let mut line = String::new();
    input.take(LONGEST_LINE).read_line(&mut line)?;
    if line.len() as u64 == LONGEST_LINE {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "the line is too long"));
    }
    let text =
        line.strip_suffix('\n').map_or(line.as_str(), |text| text.strip_suffix('\r').unwrap_or(text));
    if text.is_empty() { Err(nothing()) } else { Ok(text.to_owned()) }
}

fn nothing() -> io::Error {
    io::Error::new(io::ErrorKind::UnexpectedEof, "the line is empty")
}

/// Asks on the terminal, which shows nothing of what is typed.
fn type_hidden(question: &str) -> io::Result<String> {
    // At Ctrl-C the library raises the signal before it has set the terminal right again. Held back,
    // the signal ends the process a moment later, and the shell gets a terminal that shows its input.
    let before = SigSet::from(Signal::SIGINT).thread_swap_mask(SigmaskHow::SIG_BLOCK)?;
    let typed = rpassword::prompt_password(question);
    before.thread_set_mask()?;
    typed
}

#[cfg(test)]
impl Input {
    /// Lines that are sent where no terminal is.
    pub(super) fn sent(lines: impl IntoIterator<Item = &'static str>) -> Self {
        Self::Scripted { is_terminal: false, lines: lines.into_iter().collect() }
    }

    /// Lines that a person types.
    pub(super) fn typed(lines: impl IntoIterator<Item = &'static str>) -> Self {
        Self::Scripted { is_terminal: true, lines: lines.into_iter().collect() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(password: &Password) -> String {
        serde_json::to_value(password).unwrap().as_str().unwrap().to_owned()
    }

    #[test]
    fn a_line_loses_its_end_and_nothing_else() {
        for (input, line) in
            [("a b \n", "a b "), ("x\r\ny\n", "x"), ("x", "x"), ("x\r", "x\r"), ("ä\n\n", "ä")]
        {
            assert_eq!(first_line(input.as_bytes()).unwrap(), line, "{input:?}");
        }
    }

    #[test]
    fn what_is_no_line_of_text_is_an_error() {
        let long = "a".repeat(5000);
        for input in [&b""[..], b"\n", b"\r\n", b"\xff\n", long.as_bytes()] {
            first_line(input).unwrap_err();
        }
    }

    #[test]
    fn a_new_password_is_typed_twice_and_sent_once() {
        let terminal = PasswordSource::Terminal;
        assert_eq!(text(&Input::typed(["a", "a"]).new_password(terminal, "").unwrap()), "a");
        let error = Input::typed(["a", "b"]).new_password(terminal, "").unwrap_err();
        assert!(matches!(error, CliError::PasswordsDiffer), "{error:?}");
        assert_eq!(text(&Input::sent(["a"]).new_password(PasswordSource::Stdin, "").unwrap()), "a");
    }

    #[test]
    fn where_nobody_is_the_other_way_is_named() {
        let error = Input::sent(["a"]).password(PasswordSource::Terminal, "").unwrap_err();
        assert_eq!(
            error.to_string(),
            "there is no terminal to ask for the password on: use `--password-stdin`"
        );
        assert_eq!(error.exit_code(), 2);
        let error = Input::sent(["ada"]).user().unwrap_err();
        assert_eq!(error.to_string(), "there is no terminal to ask for the user on: use `--user NAME`");
    }

    #[test]
    fn only_a_yes_is_a_yes() {
        for (line, agrees) in [("y", true), ("Yes", true), ("n", false), ("", false), ("sure", false)] {
            assert_eq!(Input::typed([line]).agrees("delete?").unwrap(), agrees, "{line}");
        }
    }
}
