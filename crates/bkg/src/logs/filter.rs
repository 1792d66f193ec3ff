//! Which lines a reader wants: all conditions together, checked line by line.
//!
//! Not where the lines come from, and not how many of them are wanted: that is `reading`. The invariant:
//! a filter that exists can be applied to any line in time that is linear in the line's length.

use bkg_protocol::InstanceId;
use bkg_protocol::message::LogLevel;
use jiff::Timestamp;
use regex::{Regex, RegexBuilder};

use super::line::{LogLine, LogStream};

/// The longest text or regular expression that is searched for, in bytes.
pub const MAX_PATTERN_BYTES: usize = 1_024;
/// How large a compiled expression may become, in bytes. Short expressions can mean huge programs.
const MAX_PROGRAM_BYTES: usize = 256 << 10;

/// Conditions on lines. The default takes every line.
#[derive(Debug, Clone, Default)]
pub struct LogFilter {
    /// Lines that matter at least this much.
    pub level: Option<LogLevel>,
    /// Lines that came in this way.
    pub stream: Option<LogStream>,
    /// Lines of this launch, and what the host says about it.
    pub run: Option<InstanceId>,
    /// Lines that the host received at this time or later.
    pub from: Option<Timestamp>,
    /// Lines that the host received at this time or earlier.
    pub to: Option<Timestamp>,
    patterns: Vec<Regex>,
}

/// Why something cannot be searched for.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PatternError {
    /// It is longer than [`MAX_PATTERN_BYTES`].
    #[error("it has {length} bytes: use at most {MAX_PATTERN_BYTES}")]
    TooLong {
        /// Its length in bytes.
        length: usize,
    },
    /// It is no regular expression of the crate `regex`.
    #[error("it is no regular expression: {reason}")]
    Syntax {
        /// What is wrong with it, in one line.
        reason: String,
    },
    /// It is short and means too much, such as many repetitions of repetitions.
    #[error("it is too large when compiled: use fewer repetitions")]
    TooLarge,
}

impl LogFilter {
    /// Takes only lines in whose message, fields or request id the text occurs, in any case.
    ///
    /// # Errors
    /// The text is too long.
    pub fn with_text(self, text: &str) -> Result<Self, PatternError> {
        check_length(text)?;
        self.with(RegexBuilder::new(&regex::escape(text)).case_insensitive(true))
    }

    /// Takes only lines in whose message, fields or request id the regular expression finds something.
    ///
    /// # Errors
    /// It is too long, too large, or no regular expression.
    pub fn with_regex(self, expression: &str) -> Result<Self, PatternError> {
        check_length(expression)?;
        self.with(&mut RegexBuilder::new(expression))
    }

    fn with(mut self, builder: &mut RegexBuilder) -> Result<Self, PatternError> {
        let pattern = builder.size_limit(MAX_PROGRAM_BYTES).build().map_err(|error| match error {
            regex::Error::CompiledTooBig(_) => PatternError::TooLarge,
            other => {
                // The last line says what is wrong; those before it draw where.
                let text = other.to_string();
                let reason = text.lines().last().unwrap_or_default();
                PatternError::Syntax { reason: reason.trim_start_matches("error: ").to_owned() }
            }
        })?;
        self.patterns.push(pattern);
        Ok(self)
    }

    /// Whether the line fulfils all conditions.
    pub fn takes(&self, line: &LogLine) -> bool {
        self.level.is_none_or(|least| line.level >= least)
            && self.stream.is_none_or(|stream| line.stream == stream)
            && self.run.is_none_or(|run| line.instance == Some(run))
            && self.from.is_none_or(|from| line.time >= from)
            && self.to.is_none_or(|to| line.time <= to)
            && self.patterns.iter().all(|pattern| occurs(pattern, line))
    }

    /// Whether there is no condition.
    pub(super) fn takes_all(&self) -> bool {
        let Self { level, stream, run, from, to, patterns } = self;
        let matters = level.is_none_or(|least| least == LogLevel::Trace);
        matters
            && stream.is_none()
            && run.is_none()
            && from.is_none()
            && to.is_none()
            && patterns.is_empty()
    }

    /// Whether a line may take long enough that no task of the runtime should wait for it.
    pub(super) fn is_costly(&self) -> bool {
        !self.patterns.is_empty()
    }
}

fn check_length(pattern: &str) -> Result<(), PatternError> {
    let length = pattern.len();
    if length > MAX_PATTERN_BYTES { Err(PatternError::TooLong { length }) } else { Ok(()) }
}

fn occurs(pattern: &Regex, line: &LogLine) -> bool {
    pattern.is_match(&line.message)
        || line.fields.as_ref().is_some_and(|fields| pattern.is_match(fields.as_str()))
        || line.request_id.as_ref().is_some_and(|id| pattern.is_match(id))
}

#[cfg(test)]
mod tests {
    use bkg_protocol::RawJson;

    use super::super::{NewLine, SplitLine};
    use super::*;

    fn all() -> LogFilter {
        LogFilter::default()
    }

    fn line(line: NewLine) -> LogLine {
        LogLine { time: "2026-01-02T03:04:05Z".parse().unwrap(), ..line.clean("ping".parse().unwrap()) }
    }

    #[test]
    fn every_condition_must_hold() {
        let run = InstanceId::new();
        let warning = line(
            NewLine::host(LogLevel::Warn, "Disk is HOT, 93 °C")
                .instance(run)
                .fields(RawJson::parse(r#"{"sensor":"nvme0"}"#).unwrap())
                .request("r-77"),
        );
        let at = |text: &str| Some(text.parse().unwrap());
        for (filter, expected) in [
            (all(), true),
            (LogFilter { level: Some(LogLevel::Info), ..all() }, true),
            (LogFilter { level: Some(LogLevel::Warn), ..all() }, true),
            (LogFilter { level: Some(LogLevel::Error), ..all() }, false),
            (LogFilter { stream: Some(LogStream::Host), ..all() }, true),
            (LogFilter { stream: Some(LogStream::Bus), ..all() }, false),
            (LogFilter { run: Some(run), ..all() }, true),
            (LogFilter { run: Some(InstanceId::new()), ..all() }, false),
            (LogFilter { from: at("2026-01-02T03:04:05Z"), ..all() }, true),
            (LogFilter { from: at("2026-01-02T03:04:05.1Z"), ..all() }, false),
            (LogFilter { to: at("2026-01-02T03:04:05Z"), ..all() }, true),
            (LogFilter { to: at("2026-01-02T04:04:04+01:00"), ..all() }, false),
            (all().with_text("is hot").unwrap(), true),
            (all().with_text("NVME0").unwrap(), true),
            (all().with_text("r-77").unwrap(), true),
            (all().with_text("h.t").unwrap(), false),
            (all().with_regex(r"\d+ °C$").unwrap(), true),
            (all().with_regex("hot").unwrap(), false),
            (all().with_regex("(?i)hot").unwrap(), true),
            (all().with_text("hot").unwrap().with_regex("cold").unwrap(), false),
        ] {
            assert_eq!(filter.takes(&warning), expected, "{filter:?}");
        }
        let printed = line(NewLine::raw(LogStream::Stdout, SplitLine::of("HOT")));
        assert!(!LogFilter { run: Some(run), ..all() }.takes(&printed));
    }

    #[test]
    fn what_cannot_be_searched_for_is_said_in_one_line() {
        let message = |expression: &str| all().with_regex(expression).unwrap_err().to_string();
        assert_eq!(message("(a"), "it is no regular expression: unclosed group");
        assert_eq!(
            message("(?=a)"),
            "it is no regular expression: look-around, including look-ahead and look-behind, is not supported"
        );
        assert_eq!(message(&"a".repeat(1_025)), "it has 1025 bytes: use at most 1024");
        assert_eq!(message("((a{100}){100}){100}"), "it is too large when compiled: use fewer repetitions");
        assert!(all().with_text(&"(".repeat(1_024)).is_ok(), "a text means itself");
        assert_eq!(all().with_text(&"ä".repeat(600)).unwrap_err(), PatternError::TooLong { length: 1_200 });
    }
}
