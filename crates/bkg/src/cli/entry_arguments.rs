//! What may stand after `config` where it is about the entry of a plugin, as types.
//!
//! As in `arguments`, parsing is all that happens here. The invariant: a secret has no place in an
//! argument, where every program of the machine could read it; only its path has.

use std::path::PathBuf;

use bkg_protocol::PluginName;
use clap::{ArgGroup, Args, Subcommand};

use super::entry_path::{Assignment, EntryPath, TextAssignment};

#[derive(Debug, Subcommand)]
pub(super) enum EntryCommand {
    /// Show the entry of a plugin: every value, and where it comes from
    Get {
        /// The plugin
        plugin: PluginName,
        /// Only this value, or all below it: `settings.answer` or `/settings/answer`
        path: Option<EntryPath>,
        /// What was saved as this revision, instead of the entry of now
        #[arg(long, value_name = "REVISION", conflicts_with = "path")]
        revision: Option<u64>,
    },
    /// Change values of an entry, and make them effective
    Set(EntryChange),
    /// Show what changed between two revisions of an entry
    Diff {
        /// The plugin
        plugin: PluginName,
        /// The earlier revision [default: the one before the newest]
        from: Option<u64>,
        /// The later revision [default: the newest]
        to: Option<u64>,
    },
    /// List the revisions of an entry, newest first
    Revisions {
        /// The plugin
        plugin: PluginName,
        /// How many at most
        #[arg(short = 'n', long, value_name = "REVISIONS", default_value_t = 20)]
        #[arg(value_parser = clap::value_parser!(u64).range(1..=100))]
        limit: u64,
        /// Only those before this one
        #[arg(long, value_name = "REVISION")]
        before: Option<u64>,
    },
    /// Make an earlier revision of an entry effective again, as a new one
    #[command(visible_alias = "rollback")]
    Return {
        /// The plugin
        plugin: PluginName,
        /// The revision; 0 stands for the plugin's files alone [default: what held before the newest]
        revision: Option<u64>,
        #[command(flatten)]
        how: HowToSave,
    },
    /// Give up saved values, so that those of the plugin's files are effective again
    Reset(EntryReset),
    /// Change an entry in the editor that VISUAL or EDITOR names
    Edit {
        /// The plugin
        plugin: PluginName,
        #[command(flatten)]
        how: HowToSave,
    },
    /// Look at what somebody wrote into `plugins.json` of the data directory, or settle it
    Mirror {
        #[command(subcommand)]
        command: Option<MirrorCommand>,
    },
}

/// What is to become of what was written by hand.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Subcommand)]
pub(super) enum MirrorCommand {
    /// Make it effective
    Import,
    /// Move it aside
    Discard,
}

/// When a change takes effect, and what is said about it.
#[derive(Debug, Default, Args)]
pub(super) struct HowToSave {
    /// Only if this revision is still the newest
    #[arg(long, value_name = "REVISION")]
    pub(super) if_match: Option<u64>,
    /// Keep it for the next start of the plugin
    #[arg(long)]
    pub(super) later: bool,
    /// Only check it, and show what would change
    #[arg(long, conflicts_with = "later")]
    pub(super) dry_run: bool,
    /// What the list of revisions says about it
    #[arg(long, value_name = "TEXT")]
    pub(super) note: Option<String>,
}

/// What to change about an entry.
#[derive(Debug, Args)]
#[command(group = ArgGroup::new("what").required(true).multiple(true))]
pub(super) struct EntryChange {
    /// The plugin
    pub(super) plugin: PluginName,
    /// Values; JSON where it is JSON, otherwise text: `settings.answer=42`, `settings.name=Ada`; `null` takes
    /// a value out
    #[arg(value_name = "PATH=VALUE", group = "what", conflicts_with = "file")]
    pub(super) values: Vec<Assignment>,
    /// A value that is text, even if it looks like JSON; may be given several times
    #[arg(long = "text", value_name = "PATH=TEXT", group = "what", conflicts_with = "file")]
    pub(super) texts: Vec<TextAssignment>,
    /// A value that is asked for without being shown; may be given several times
    #[arg(long = "secret", value_name = "PATH", group = "what", conflicts_with = "file")]
    pub(super) secrets: Vec<EntryPath>,
    /// Read those values from standard input instead, one line each
    #[arg(long, requires = "secrets")]
    pub(super) secret_stdin: bool,
    /// A whole or partial entry as JSON; `-` reads it from standard input
    #[arg(long, value_name = "FILE", group = "what")]
    pub(super) file: Option<PathBuf>,
    /// The file is the whole entry: what is not in it is gone
    #[arg(long, requires = "file", conflicts_with_all = ["values", "texts", "secrets"])]
    pub(super) replace: bool,
    #[command(flatten)]
    pub(super) how: HowToSave,
}

/// What to give up of an entry.
#[derive(Debug, Args)]
#[command(group = ArgGroup::new("which").required(true))]
pub(super) struct EntryReset {
    /// The plugin
    pub(super) plugin: PluginName,
    /// Paths of saved values
    #[arg(value_name = "PATH", group = "which")]
    pub(super) paths: Vec<EntryPath>,
    /// Every saved value
    #[arg(long, group = "which")]
    pub(super) all: bool,
    #[command(flatten)]
    pub(super) how: HowToSave,
}

#[cfg(test)]
mod tests {
    use std::ffi::OsString;

    use clap::error::ErrorKind;

    use super::super::arguments::{Arguments, Command, ConfigRequest};
    use super::*;

    fn parse(line: &str) -> Result<EntryCommand, clap::Error> {
        let arguments = Arguments::parse(line.split_whitespace().map(OsString::from))?;
        match arguments.command {
            Command::Config(ConfigRequest { command: Some(command), .. }) => Ok(command),
            other => panic!("an entry was asked for: {other:?}"),
        }
    }

    #[test]
    fn global_options_stand_before_and_after_the_command() {
        for line in
            ["bkg config --json get ping", "bkg --json config get ping", "bkg config get ping --json"]
        {
            assert!(matches!(parse(line).unwrap(), EntryCommand::Get { path: None, .. }), "{line}");
        }
    }

    #[test]
    fn a_change_takes_values_texts_and_paths_of_secrets() {
        let line = "bkg config set ping settings.answer=42 /settings/a=b --text settings.n=7 \
                    --secret settings.key --if-match 3 --dry-run";
        let EntryCommand::Set(change) = parse(line).unwrap() else { panic!("`set` was asked for") };
        assert_eq!((change.values.len(), change.texts.len(), change.secrets.len()), (2, 1, 1));
        assert_eq!((change.how.if_match, change.how.dry_run, change.how.later), (Some(3), true, false));
    }

    #[test]
    fn what_makes_no_sense_is_refused_at_the_door() {
        for (line, kind) in [
            ("bkg config get", ErrorKind::MissingRequiredArgument),
            ("bkg config get Not/A/Name", ErrorKind::ValueValidation),
            ("bkg config set ping", ErrorKind::MissingRequiredArgument),
            ("bkg config set ping settings.answer", ErrorKind::ValueValidation),
            ("bkg config set ping a..b=1", ErrorKind::ValueValidation),
            ("bkg config set ping a=1 --file x", ErrorKind::ArgumentConflict),
            ("bkg config set ping a=1 --secret-stdin", ErrorKind::MissingRequiredArgument),
            ("bkg config set ping a=1 --later --dry-run", ErrorKind::ArgumentConflict),
            ("bkg config set ping a=1 --replace", ErrorKind::ArgumentConflict),
            ("bkg config get ping a --revision 1", ErrorKind::ArgumentConflict),
            ("bkg config reset ping", ErrorKind::MissingRequiredArgument),
            ("bkg config reset ping a --all", ErrorKind::ArgumentConflict),
            ("bkg config return", ErrorKind::MissingRequiredArgument),
            ("bkg config diff ping one", ErrorKind::ValueValidation),
        ] {
            assert_eq!(parse(line).unwrap_err().kind(), kind, "{line}");
        }
    }

    #[test]
    fn no_secret_can_be_an_argument() {
        let error = parse("bkg config set ping --secret settings.key=abc").unwrap_err();
        assert_eq!(error.kind(), ErrorKind::ValueValidation);
        assert!(!error.to_string().contains("abc"), "{error}");
    }
}
