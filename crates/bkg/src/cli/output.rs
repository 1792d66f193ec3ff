//! The only place that writes to the terminal: text or JSON, colours or none.
//!
//! The invariants: standard output holds nothing but what was asked for, remarks and errors go to
//! standard error; a reader that goes away is an ordinary end, never a panic.

use std::fmt::Write as _;
use std::io::{self, IsTerminal, Write};
use std::os::fd::AsFd;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use super::error::CliError;

/// Where a command's answer goes.
pub(super) struct Output {
    answers: Sink,
    remarks: Sink,
    json: bool,
    colour: bool,
    answers_to_terminal: bool,
    remarks_to_terminal: bool,
}

enum Sink {
    Stdout(io::Stdout),
    Stderr(io::Stderr),
    #[cfg(test)]
    Memory(Vec<u8>),
    #[cfg(test)]
    Closed,
}

/// How a piece of text stands out, where there are colours.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Paint {
    /// Something is lost.
    Red,
    /// Someone should look.
    Yellow,
    /// Something came, or is well.
    Green,
    /// Of less interest.
    Dim,
}

/// When there are colours.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(super) enum Colour {
    /// On a terminal, unless NO_COLOR is set
    Auto,
    /// Also into pipes and files
    Always,
    /// Nowhere
    Never,
}

impl Paint {
    /// The ECMA-48 graphic rendition that switches it on.
    fn code(self) -> &'static str {
        match self {
            Self::Red => "31",
            Self::Yellow => "33",
            Self::Green => "32",
            Self::Dim => "2",
        }
    }
}

impl Output {
    /// The output of this process.
    pub(super) fn of_process(json: bool, colour: Colour) -> Self {
        let is_set = |variable| std::env::var_os(variable).is_some_and(|value| !value.is_empty());
        let is_dumb = std::env::var_os("TERM").is_some_and(|terminal| terminal == "dumb");
        let terminal = io::stdout().is_terminal();
        Self {
            answers: Sink::Stdout(io::stdout()),
            remarks: Sink::Stderr(io::stderr()),
            json,
            colour: match colour {
                Colour::Auto => terminal && !is_set("NO_COLOR") && !is_dumb,
                Colour::Always => true,
                Colour::Never => false,
            },
            answers_to_terminal: terminal,
            remarks_to_terminal: io::stderr().is_terminal(),
        }
    }

    /// Whether JSON was asked for.
    pub(super) fn wants_json(&self) -> bool {
        self.json
    }

    /// From now on, the process ends as soon as the reader of its output goes away: who waits for
    /// something else would only notice at the next line, which may be hours away.
    ///
    /// # Errors
    /// The system has no thread to give.
    pub(super) fn end_with_reader(&self) -> Result<(), CliError> {
        if !matches!(self.answers, Sink::Stdout(_)) {
            return Ok(());
        }
        let ends = || {
            if is_abandoned(io::stdout()) {
                std::process::exit(CliError::ReaderGone.exit_code().into());
            }
        };
        // Nobody awaits the thread: it has nothing to finish, and the process takes it along.
        std::thread::Builder::new()
            .name("reader-watch".to_owned())
            .spawn(ends)
            .map(drop)
            .map_err(|source| CliError::Output { source })
    }

    /// Text of one or more lines.
    pub(super) fn text(&mut self, text: &str) -> Result<(), CliError> {
        let end = if text.ends_with('\n') { "" } else { "\n" };
        self.raw(&format!("{text}{end}"))
    }

    /// Standard output for what is copied as it comes.
    pub(super) fn answers(&mut self) -> impl Write {
        &mut self.answers
    }

    fn raw(&mut self, text: &str) -> Result<(), CliError> {
        self.answers.write_text(text).map_err(CliError::of_output)
    }

    /// A piece of an answer that goes on, as it came; a terminal gets its line ends and tabulators, and
    /// sees other control characters.
    ///
    /// # Errors
    /// As [`Self::text`].
    pub(super) fn piece(&mut self, text: &str) -> Result<(), CliError> {
        if self.answers_to_terminal { self.raw(&readable(text)) } else { self.raw(text) }
    }

    /// The text in place of all that stands on the terminal.
    ///
    /// # Errors
    /// As [`Self::text`].
    pub(super) fn screen(&mut self, text: &str) -> Result<(), CliError> {
        // Cursor to the first column of the first line, then everything below it away (ECMA-48).
        self.raw(&format!("\x1b[H\x1b[J{text}"))
    }

    /// Whether a person sees the answers as they come.
    pub(super) fn is_terminal(&self) -> bool {
        self.answers_to_terminal
    }

    /// JSON with its numbers and texts as they are; a terminal gets it indented.
    pub(super) fn json(&mut self, json: &str) -> Result<(), CliError> {
        if self.answers_to_terminal { self.text(&indent(json)) } else { self.text(json) }
    }

    /// Something beside the answer that people want to know; nobody reads it where there is no
    /// terminal.
    pub(super) fn remark(&mut self, text: &str) {
        if self.remarks_to_terminal {
            // An answer can do without its remark.
            let _ = self.remarks.write_text(&format!("{text}\n"));
        }
    }

    /// Something beside the answer without which nothing goes on, whoever reads it.
    pub(super) fn notice(&mut self, text: &str) {
        // Whoever cannot read it gets the error that follows.
        let _ = self.remarks.write_text(&format!("{text}\n"));
    }

    /// What ended the command.
    pub(super) fn error(&mut self, error: &CliError) {
        if !matches!(error, CliError::ReaderGone) {
            // The exit code still says it if this cannot be written.
            let _ = self.remarks.write_text(&error.render(self.json));
        }
    }

    /// The text in a colour, where there are colours.
    pub(super) fn painted(&self, text: &str, paint: Option<Paint>) -> String {
        match paint {
            Some(paint) if self.colour => format!("\x1b[{}m{text}\x1b[0m", paint.code()),
            _ => text.to_owned(),
        }
    }
}

impl Sink {
    fn write_text(&mut self, text: &str) -> io::Result<()> {
        self.write_all(text.as_bytes())?;
        self.flush()
    }

    fn stream(&mut self) -> io::Result<&mut dyn Write> {
        match self {
            Self::Stdout(stream) => Ok(stream),
            Self::Stderr(stream) => Ok(stream),
            #[cfg(test)]
            Self::Memory(bytes) => Ok(bytes),
            #[cfg(test)]
            Self::Closed => Err(io::ErrorKind::BrokenPipe.into()),
        }
    }
}

impl Write for Sink {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.stream()?.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.stream()?.flush()
    }
}

/// Waits until nobody can read what is written any more; false if that cannot be found out.
fn is_abandoned(stream: impl AsFd) -> bool {
    loop {
        // No event is asked for: hang-up and error are reported anyway.
        let mut watched = [PollFd::new(stream.as_fd(), PollFlags::empty())];
        match poll(&mut watched, PollTimeout::NONE) {
            Err(nix::errno::Errno::EINTR) => {}
            Err(_) => return false,
            Ok(_) => {
                let ends = PollFlags::POLLERR | PollFlags::POLLHUP;
                return watched[0].revents().is_some_and(|events| events.intersects(ends));
            }
        }
    }
}

/// Text from elsewhere, fit for a terminal: control characters are shown, not obeyed.
pub(super) fn harmless(text: &str) -> String {
    let mut harmless = String::with_capacity(text.len());
    for character in text.chars() {
        if character.is_control() {
            harmless.extend(character.escape_debug());
        } else {
            harmless.push(character);
        }
    }
    harmless
}

/// Text of several lines from elsewhere, fit for a terminal.
pub(super) fn readable(text: &str) -> String {
    let keep = |character: &char| matches!(character, '\n' | '\t');
    text.chars()
        .flat_map(|character| {
            let escaped = character.is_control() && !keep(&character);
            let shown = if escaped { character.escape_debug().to_string() } else { character.to_string() };
            shown.chars().collect::<Vec<_>>()
        })
        .collect()
}

/// JSON with line ends and spaces for people. Only white space between tokens changes, so that
/// numbers too large for us and the order of members stay what they were.
fn indent(json: &str) -> String {
    let mut out = String::with_capacity(json.len() * 2);
    let mut depth = 0_usize;
    let mut characters = json.chars().peekable();
    let new_line = |out: &mut String, depth: usize| {
        write!(out, "\n{:1$}", "", depth * 2).expect("a string takes all text");
    };
    while let Some(character) = characters.next() {
        match character {
            '"' => {
                out.push('"');
                while let Some(inside) = characters.next() {
                    out.push(inside);
                    match inside {
                        '\\' => out.extend(characters.next()),
                        '"' => break,
                        _ => {}
                    }
                }
            }
            '{' | '[' => {
                out.push(character);
                while characters.next_if(|next| next.is_ascii_whitespace()).is_some() {}
                if let Some(end) = characters.next_if(|next| matches!(next, '}' | ']')) {
                    out.push(end);
                } else {
                    depth += 1;
                    new_line(&mut out, depth);
                }
            }
            '}' | ']' => {
                depth = depth.saturating_sub(1);
                new_line(&mut out, depth);
                out.push(character);
            }
            ',' => {
                out.push(',');
                new_line(&mut out, depth);
            }
            ':' => out.push_str(": "),
            white if white.is_ascii_whitespace() => {}
            other => out.push(other),
        }
    }
    out
}

#[cfg(test)]
impl Output {
    /// Keeps what is written.
    pub(super) fn captured(json: bool) -> Self {
        Self {
            answers: Sink::Memory(Vec::new()),
            remarks: Sink::Memory(Vec::new()),
            json,
            colour: false,
            answers_to_terminal: false,
            remarks_to_terminal: true,
        }
    }

    /// What was written to standard output so far.
    pub(super) fn written(&self) -> String {
        self.answers.captured()
    }

    /// What was written to standard error so far.
    pub(super) fn remarked(&self) -> String {
        self.remarks.captured()
    }
}

#[cfg(test)]
impl Sink {
    fn captured(&self) -> String {
        let Self::Memory(bytes) = self else { panic!("only a captured output keeps what was written") };
        String::from_utf8(bytes.clone()).unwrap()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn indenting_changes_white_space_only() {
        let json = r#"{"a":[1,{"b":"x,:{\"\\"}],"n":12345678901234567890.10, "e":[ ],"o":{}}"#;
        assert_eq!(
            indent(json),
            "{\n  \"a\": [\n    1,\n    {\n      \"b\": \"x,:{\\\"\\\\\"\n    }\n  ],\n  \
             \"n\": 12345678901234567890.10,\n  \"e\": [],\n  \"o\": {}\n}"
        );
    }

    #[test]
    fn control_characters_are_shown() {
        assert_eq!(harmless("a\x1b[31mä\n\u{9b}"), "a\\u{1b}[31mä\\n\\u{9b}");
        assert_eq!(readable("a\x1b[31mä\n\tb\r"), "a\\u{1b}[31mä\n\tb\\r");
    }

    #[test]
    fn a_reader_that_went_away_ends_the_command_without_a_word() {
        let mut output = Output { answers: Sink::Closed, ..Output::captured(false) };
        let error = output.text("line").unwrap_err();
        assert!(matches!(error, CliError::ReaderGone), "{error:?}");
        output.error(&error);
        assert_eq!((output.remarked().as_str(), error.exit_code()), ("", 0));
    }

    #[test]
    fn a_pipe_is_abandoned_when_its_reader_closes_it() {
        let (reader, writer) = io::pipe().unwrap();
        let watch = std::thread::spawn(move || is_abandoned(writer));
        drop(reader);
        assert!(watch.join().unwrap());
    }

    #[test]
    fn a_pipe_gets_no_colours_and_json_as_it_came() {
        let mut output = Output::captured(true);
        assert_eq!(output.painted("x", Some(Paint::Red)), "x");
        output.json(r#"{"a":1.50}"#).unwrap();
        assert_eq!(output.written(), "{\"a\":1.50}\n");
    }

    #[test]
    fn a_terminal_gets_both() {
        let mut output = Output { colour: true, answers_to_terminal: true, ..Output::captured(true) };
        assert_eq!(output.painted("x", Some(Paint::Red)), "\x1b[31mx\x1b[0m");
        assert_eq!(output.painted("x", None), "x");
        output.json(r#"{"a":1.50}"#).unwrap();
        assert_eq!(output.written(), "{\n  \"a\": 1.50\n}\n");
    }
}
