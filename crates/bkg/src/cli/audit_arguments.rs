//! What may stand after `audit`, as types.
//!
//! As in `arguments`, parsing is all that happens here.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use jiff::Timestamp;
use jiff::civil::Date;
use jiff::tz::TimeZone;

#[derive(Debug, Subcommand)]
pub(super) enum AuditCommand {
    /// List who did what, newest first
    List(AuditRequest),
    /// Check that nobody but the daemon has written the audit log, and name what was changed
    Verify,
    /// Write entries as JSON lines, oldest first, to keep them elsewhere
    Export(Export),
}

/// Which entries to list.
#[derive(Debug, Args)]
pub(super) struct AuditRequest {
    /// At most so many
    #[arg(short = 'n', long, value_name = "ENTRIES", default_value_t = 50)]
    #[arg(value_parser = clap::value_parser!(u64).range(1..=1_000))]
    pub(super) limit: u64,
    /// Only actions that begin with this, such as `key.`
    #[arg(long, value_name = "PREFIX")]
    pub(super) action: Option<String>,
    /// Only what this user did; `root` is who has the root key, `host` the daemon itself
    #[arg(long, value_name = "NAME")]
    pub(super) actor: Option<String>,
}

/// Which entries to write, and where.
#[derive(Debug, Args)]
pub(super) struct Export {
    /// Only entries from this time on: 2026-01-31, or 2026-01-31T12:00:00Z
    #[arg(long, value_name = "TIME", value_parser = moment)]
    pub(super) since: Option<Timestamp>,
    /// A file for them, instead of standard output
    #[arg(long, value_name = "FILE")]
    pub(super) output: Option<PathBuf>,
}

/// A moment, or the beginning of a day in UTC.
fn moment(text: &str) -> Result<Timestamp, String> {
    let day = || Some(text.parse::<Date>().ok()?.to_zoned(TimeZone::UTC).ok()?.timestamp());
    // A date alone would be read from a moment's text too, and its time be lost.
    let moment = text.parse().ok().or_else(|| day().filter(|_| text.len() == "2026-01-31".len()));
    moment.ok_or_else(|| "use a date such as 2026-01-31, or a time such as 2026-01-31T12:00:00Z".to_owned())
}

#[cfg(test)]
mod tests {
    use std::ffi::OsString;

    use clap::error::ErrorKind;

    use super::super::arguments::{Arguments, Command};
    use super::*;

    fn parse(line: &str) -> Result<AuditCommand, clap::Error> {
        match Arguments::parse(line.split_whitespace().map(OsString::from))?.command {
            Command::Audit(command) => Ok(command),
            other => panic!("`audit` was asked for, not {other:?}"),
        }
    }

    #[test]
    fn entries_are_chosen_by_action_and_actor() {
        let line = "bkg audit list -n 7 --action key. --actor ada";
        let AuditCommand::List(request) = parse(line).unwrap() else { panic!("`list` was asked for") };
        assert_eq!(request.limit, 7);
        assert_eq!((request.action.as_deref(), request.actor.as_deref()), (Some("key."), Some("ada")));
    }

    #[test]
    fn a_time_is_a_moment_or_a_day() {
        for (text, moment) in [
            ("2026-01-31", "2026-01-31T00:00:00Z"),
            ("2026-01-31T12:00:00Z", "2026-01-31T12:00:00Z"),
            ("2026-01-31T12:00:00+02:00", "2026-01-31T10:00:00Z"),
        ] {
            let AuditCommand::Export(export) = parse(&format!("bkg audit export --since {text}")).unwrap()
            else {
                panic!("`export` was asked for")
            };
            assert_eq!(export.since, Some(moment.parse().unwrap()), "{text}");
        }
    }

    #[test]
    fn what_makes_no_sense_is_refused_at_the_door() {
        for (line, kind) in [
            ("bkg audit list --limit 0", ErrorKind::ValueValidation),
            ("bkg audit list --limit 1001", ErrorKind::ValueValidation),
            ("bkg audit export --since yesterday", ErrorKind::ValueValidation),
            ("bkg audit export --since 2026-01-31T12:00:00", ErrorKind::ValueValidation),
            ("bkg audit verify --root", ErrorKind::ArgumentConflict),
        ] {
            assert_eq!(parse(line).unwrap_err().kind(), kind, "{line}");
        }
    }
}
