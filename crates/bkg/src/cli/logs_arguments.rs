//! What may stand after `logs`, as types.
//!
//! As in `arguments`, parsing is all that happens here: what `10m` means depends on the moment at which
//! the command runs.

use std::path::PathBuf;
use std::str::FromStr;

use bkg_protocol::PluginName;
use bkg_protocol::message::LogLevel;
use clap::builder::NonEmptyStringValueParser;
use clap::{ArgGroup, Args, ValueEnum};

use super::time::When;

/// Which lines of whose log.
#[derive(Debug, Default, Args)]
#[command(group = ArgGroup::new("whose").required(true).args(["name", "all"]))]
pub(super) struct LogsRequest {
    /// The plugin
    pub(super) name: Option<PluginName>,
    /// All plugins, in one order of time
    #[arg(long)]
    pub(super) all: bool,
    /// Go on with the lines that come, until Ctrl-C
    #[arg(short, long)]
    pub(super) follow: bool,
    /// Look at the last LINES lines [default: 200, or all since the moment of `--since`]
    #[arg(short = 'n', long = "tail", visible_alias = "lines", value_name = "LINES")]
    pub(super) tail: Option<u64>,
    /// Only lines of this moment and later: `10m`, `2h`, `1d`, a time such as 2026-01-31T12:00:00Z; or
    /// the lines after the one with this number
    #[arg(long, value_name = "WHEN")]
    pub(super) since: Option<Since>,
    /// Only lines up to this moment, said as for `--since`
    #[arg(long, value_name = "WHEN", conflicts_with = "follow")]
    pub(super) until: Option<When>,
    /// Only what matters at least this much: trace, debug, info, warn or error
    #[arg(long, value_parser = log_level)]
    pub(super) level: Option<LogLevel>,
    /// Only lines with this text in them
    #[arg(long, value_name = "TEXT", value_parser = NonEmptyStringValueParser::new())]
    pub(super) text: Option<String>,
    /// Only lines that match this regular expression
    #[arg(long, value_name = "REGEX", value_parser = NonEmptyStringValueParser::new())]
    pub(super) regex: Option<String>,
    /// Only lines of this launch, named by its instance
    #[arg(long, value_name = "INSTANCE", value_parser = NonEmptyStringValueParser::new())]
    pub(super) run: Option<String>,
    /// Only lines that came this way
    #[arg(long, value_name = "STREAM", value_parser = ["stdout", "stderr", "bus", "host"])]
    pub(super) stream: Option<String>,
    /// Save all lines of the plugin that fit to this file; `-` writes them to standard output
    #[arg(long, value_name = "FILE", conflicts_with_all = ["follow", "all", "tail"])]
    pub(super) download: Option<PathBuf>,
    /// The form of the saved lines
    #[arg(long, value_enum, default_value_t = LogFormat::Text, requires = "download")]
    pub(super) format: LogFormat,
}

/// Whence lines are shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Since {
    /// After the line with this number.
    Line(u64),
    /// From this moment on.
    Moment(When),
}

/// The form of saved lines.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub(super) enum LogFormat {
    /// One line of text each
    #[default]
    Text,
    /// One JSON object on each line
    Ndjson,
}

impl LogFormat {
    /// As the daemon calls it.
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Text => "text",
            Self::Ndjson => "ndjson",
        }
    }
}

impl FromStr for Since {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.parse() {
            Ok(line) => Ok(Self::Line(line)),
            Err(_) => text.parse().map(Self::Moment),
        }
    }
}

fn log_level(word: &str) -> Result<LogLevel, String> {
    LogLevel::parse(word).ok_or_else(|| "use trace, debug, info, warn or error".to_owned())
}

#[cfg(test)]
mod tests {
    use std::ffi::OsString;

    use clap::error::ErrorKind;

    use super::super::arguments::{Arguments, Command, PluginCommand};
    use super::*;

    fn parse(line: &str) -> Result<LogsRequest, clap::Error> {
        let arguments = Arguments::parse(line.split_whitespace().map(OsString::from))?;
        match arguments.command {
            Command::Logs(request) | Command::Plugin(PluginCommand::Logs(request)) => Ok(request),
            other => panic!("logs were asked for: {other:?}"),
        }
    }

    #[test]
    fn logs_are_asked_for_by_short_options() {
        for line in ["bkg plugin logs a -f -n 5 --level WARNING", "bkg logs a -f --lines 5 --level warn"] {
            let request = parse(line).unwrap();
            assert!(request.follow);
            assert_eq!((request.tail, request.since, request.level), (Some(5), None, Some(LogLevel::Warn)));
        }
    }

    #[test]
    fn a_number_is_a_line_and_anything_else_a_moment() {
        assert_eq!(parse("bkg logs a --since 7").unwrap().since, Some(Since::Line(7)));
        for moment in ["10m", "2026-01-31T12:00:00Z"] {
            let since = parse(&format!("bkg logs --all --since {moment}")).unwrap().since;
            assert!(matches!(since, Some(Since::Moment(_))), "{since:?}");
        }
    }

    #[test]
    fn what_makes_no_sense_is_refused_at_the_door() {
        for (line, kind) in [
            ("bkg logs", ErrorKind::MissingRequiredArgument),
            ("bkg logs a --all", ErrorKind::ArgumentConflict),
            ("bkg logs a --level loud", ErrorKind::ValueValidation),
            ("bkg logs a --since soon", ErrorKind::ValueValidation),
            ("bkg logs a --until 5", ErrorKind::ValueValidation),
            ("bkg logs a -f --until 5m", ErrorKind::ArgumentConflict),
            ("bkg logs a -f --download x", ErrorKind::ArgumentConflict),
            ("bkg logs a -n 5 --download x", ErrorKind::ArgumentConflict),
            ("bkg logs a --stream tape", ErrorKind::InvalidValue),
            ("bkg logs a --format ndjson", ErrorKind::MissingRequiredArgument),
            ("bkg logs a -n 5 --since 3", ErrorKind::ArgumentConflict),
        ] {
            assert_eq!(parse(line).unwrap_err().kind(), kind, "{line}");
        }
    }
}
