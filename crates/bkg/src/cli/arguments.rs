//! What may stand on the command line, as types; parsing is all that happens here.
//!
//! Nothing is read but the arguments themselves: environment and file come in with the
//! configuration, which knows where each value came from.

use std::ffi::OsString;
use std::net::SocketAddr;
use std::path::PathBuf;

use bkg_protocol::message::LogLevel;
use bkg_protocol::{CapabilityName, PluginName};
use clap::error::ErrorKind;
use clap::{Args, CommandFactory, Parser, Subcommand};

use super::access_arguments::{KeyCommand, LoginRequest, RoleCommand, SessionCommand, UserCommand};
use super::audit_arguments::AuditCommand;
use crate::config::Overrides;

/// The longest that the daemon lets a start or stop be waited for, in seconds.
const LONGEST_WAIT: u64 = 600;

/// Backplane: turns any program into a supervised, secured, observable AI service.
#[derive(Debug, Parser)]
#[command(name = "bkg", version, arg_required_else_help = true, disable_help_subcommand = true)]
#[command(max_term_width = 100)]
pub(super) struct Arguments {
    #[command(flatten)]
    pub(super) global: GlobalOptions,
    #[command(subcommand)]
    pub(super) command: Command,
}

/// Options of every command.
#[derive(Debug, Args)]
pub(super) struct GlobalOptions {
    /// Where the daemon keeps its state, and where its clients find it [env: BKG_DATA_DIR] [default: ./data]
    #[arg(long, value_name = "DIR", global = true)]
    pub(super) data_dir: Option<PathBuf>,
    /// Write JSON instead of text for people
    #[arg(long, global = true)]
    pub(super) json: bool,
    /// No colours, as with the variable NO_COLOR
    #[arg(long, global = true)]
    pub(super) no_color: bool,
    /// Use the root key, whatever `BKG_API_KEY` and the saved login are
    #[arg(long, global = true)]
    pub(super) root: bool,
}

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Run the daemon until SIGTERM or Ctrl-C
    Serve(ConfigurationLayers),
    /// Show every configuration value that `serve` would use, and where it comes from
    Config(ConfigurationLayers),
    /// Show the running daemon and its plugins
    Status,
    /// See, start, stop and ask plugins
    #[command(subcommand)]
    Plugin(PluginCommand),
    /// Be a user from now on, instead of using the root key
    Login(LoginRequest),
    /// End the login
    Logout,
    /// Show who you are to the daemon, and by which credential
    Whoami,
    /// Make, list and end API keys
    #[command(subcommand)]
    Key(KeyCommand),
    /// Make, change and remove users
    #[command(subcommand)]
    User(UserCommand),
    /// See and set what roles may do
    #[command(subcommand)]
    Role(RoleCommand),
    /// See and end login sessions
    #[command(subcommand)]
    Session(SessionCommand),
    /// See who did what, and check that nobody has changed that log
    #[command(subcommand)]
    Audit(AuditCommand),
}

/// What the command line says about the configuration.
#[derive(Debug, Args)]
pub(super) struct ConfigurationLayers {
    /// The configuration file
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// A directory of plugin folders, instead of the bundled one; may be given several times
    #[arg(long = "plugins-dir", value_name = "DIR")]
    plugins_dirs: Vec<PathBuf>,
    /// The loopback port of the HTTP surface; 0 takes a free one
    #[arg(long, value_name = "PORT")]
    api_port: Option<u16>,
    /// A further address of the HTTP surface, such as 0.0.0.0:443; may be given several times. Off
    /// loopback it needs `tls.cert` and `tls.key`, or `api.trusted_proxies`, in the configuration file
    #[arg(long, value_name = "ADDR:PORT")]
    listen: Vec<SocketAddr>,
    /// The loopback port of the shared plugin bus; 0 takes a free one
    #[arg(long, value_name = "PORT")]
    bus_port: Option<u16>,
}

impl ConfigurationLayers {
    pub(super) fn overrides(self, data_dir: Option<PathBuf>) -> Overrides {
        let Self { config, plugins_dirs, api_port, listen, bus_port } = self;
        Overrides { config, data_dir, plugins_dirs, api_port, listen, bus_port }
    }
}

#[derive(Debug, Subcommand)]
pub(super) enum PluginCommand {
    /// List all plugins, the unusable ones too
    List,
    /// Show everything about one plugin
    Show {
        /// The plugin
        name: PluginName,
    },
    /// Start a plugin, and wait until it serves
    Start(Transition),
    /// Stop a plugin, and wait until nothing of it runs
    Stop(Transition),
    /// Replace the processes of a plugin, or start it
    Restart(Transition),
    /// Show what a plugin logged, or follow it
    Logs(LogsRequest),
    /// Ask one capability of a plugin, and show the answer
    Invoke(Invocation),
}

/// Whose state is to change, and how long to wait for it.
#[derive(Debug, Args)]
pub(super) struct Transition {
    /// The plugin
    pub(super) name: PluginName,
    /// How long to wait for it; 0 only hands the order over
    #[arg(long, value_name = "SECONDS", default_value_t = 30)]
    #[arg(value_parser = clap::value_parser!(u64).range(0..=LONGEST_WAIT))]
    pub(super) wait: u64,
}

/// Which lines of whose log.
#[derive(Debug, Args)]
pub(super) struct LogsRequest {
    /// The plugin
    pub(super) name: PluginName,
    /// Go on with the lines that come, until Ctrl-C
    #[arg(short, long)]
    pub(super) follow: bool,
    /// Look at the last LINES lines [default: as many as the daemon gives, 200]
    #[arg(short = 'n', long = "lines", value_name = "LINES")]
    pub(super) tail: Option<u64>,
    /// Look at the lines after the one with this number
    #[arg(long, value_name = "SEQ", conflicts_with = "tail")]
    pub(super) since: Option<u64>,
    /// Of these, only what matters at least this much: trace, debug, info, warn or error
    #[arg(long, value_parser = log_level)]
    pub(super) level: Option<LogLevel>,
}

/// One request to a plugin.
#[derive(Debug, Args)]
pub(super) struct Invocation {
    /// The plugin
    pub(super) name: PluginName,
    /// One of its capabilities
    pub(super) capability: CapabilityName,
    /// The request's payload as JSON, or `-` to read it from standard input [default: {}]
    #[arg(allow_negative_numbers = true)]
    pub(super) payload: Option<String>,
    /// How long the answer may take, in milliseconds [default: as long as the daemon allows]
    #[arg(long, value_name = "MILLISECONDS")]
    pub(super) timeout_ms: Option<u64>,
}

fn log_level(word: &str) -> Result<LogLevel, String> {
    LogLevel::parse(word).ok_or_else(|| "use trace, debug, info, warn or error".to_owned())
}

impl Arguments {
    /// Parses a whole command line, the program's name first.
    ///
    /// # Errors
    /// What is wrong with it, or the help or version that it asks for.
    pub(super) fn parse(words: impl IntoIterator<Item = OsString>) -> Result<Self, clap::Error> {
        let arguments = Self::try_parse_from(words)?;
        let refuse = |message| Err(Self::command().error(ErrorKind::ArgumentConflict, message));
        let uses_no_credential = matches!(
            arguments.command,
            Command::Serve(_)
                | Command::Config(_)
                | Command::Login(_)
                | Command::Logout
                | Command::Audit(_)
        );
        if arguments.global.root && uses_no_credential {
            return refuse("`--root` is for commands that ask the daemon for something, and this is none");
        }
        if matches!(arguments.command, Command::Serve(_)) {
            if arguments.global.json {
                return refuse("`serve` has no `--json`: for a log in JSON set `logs.format = \"json\"`");
            }
            if arguments.global.no_color {
                return refuse("`serve` has no `--no-color`: set the variable NO_COLOR");
            }
        }
        Ok(arguments)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Result<Arguments, clap::Error> {
        Arguments::parse(line.split_whitespace().map(OsString::from))
    }

    fn kind_of_error(line: &str) -> ErrorKind {
        parse(line).unwrap_err().kind()
    }

    #[test]
    fn the_definition_is_consistent() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn global_options_stand_before_or_after_the_command() {
        for line in [
            "bkg --data-dir /d --json plugin list",
            "bkg plugin list --json --data-dir /d",
            "bkg plugin --json list --data-dir /d",
        ] {
            let arguments = parse(line).unwrap();
            assert!(arguments.global.json, "{line}");
            assert_eq!(arguments.global.data_dir, Some("/d".into()), "{line}");
        }
    }

    #[test]
    fn serve_takes_every_layer() {
        let line = "bkg serve --data-dir /d --config /c --plugins-dir /p --plugins-dir /q --api-port 0 --bus-port 7";
        let arguments = parse(line).unwrap();
        let Command::Serve(layers) = arguments.command else { panic!("`serve` was asked for") };
        let overrides = layers.overrides(arguments.global.data_dir);
        assert_eq!(overrides.data_dir, Some("/d".into()));
        assert_eq!(overrides.config, Some("/c".into()));
        assert_eq!(overrides.plugins_dirs, [PathBuf::from("/p"), PathBuf::from("/q")]);
        assert_eq!((overrides.api_port, overrides.bus_port), (Some(0), Some(7)));
    }

    #[test]
    fn what_was_not_given_stays_open_for_the_other_layers() {
        let Command::Config(layers) = parse("bkg config").unwrap().command else {
            panic!("`config` was asked for")
        };
        let overrides = layers.overrides(None);
        assert_eq!(overrides.data_dir, None);
        assert!(overrides.plugins_dirs.is_empty());
        assert_eq!((overrides.api_port, overrides.bus_port), (None, None));
    }

    #[test]
    fn options_without_meaning_are_refused() {
        assert_eq!(kind_of_error("bkg serve --json"), ErrorKind::ArgumentConflict);
        assert_eq!(kind_of_error("bkg --no-color serve"), ErrorKind::ArgumentConflict);
        assert_eq!(kind_of_error("bkg plugin logs a -n 5 --since 3"), ErrorKind::ArgumentConflict);
        assert_eq!(kind_of_error("bkg status --api-port 1"), ErrorKind::UnknownArgument);
    }

    #[test]
    fn values_are_checked_at_the_door() {
        for line in [
            "bkg serve --api-port 65536",
            "bkg plugin show Not/A/Name",
            "bkg plugin start a --wait 601",
            "bkg plugin logs a --level loud",
            "bkg plugin invoke a not..a..capability",
        ] {
            assert_eq!(kind_of_error(line), ErrorKind::ValueValidation, "{line}");
        }
        assert_eq!(kind_of_error("bkg --version"), ErrorKind::DisplayVersion);
        assert_eq!(kind_of_error("bkg"), ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand);
        for line in ["bkg serve --api-port 65536", "bkg", "bkg serve --json"] {
            assert_eq!(parse(line).unwrap_err().exit_code(), 2, "{line}");
        }
    }

    #[test]
    fn a_start_waits_thirty_seconds_unless_told_otherwise() {
        for (line, wait) in [("bkg plugin start a", 30), ("bkg plugin start a --wait 0", 0)] {
            let Command::Plugin(PluginCommand::Start(transition)) = parse(line).unwrap().command else {
                panic!("`start` was asked for")
            };
            assert_eq!((transition.name.as_str(), transition.wait), ("a", wait));
        }
    }

    #[test]
    fn a_payload_may_be_a_negative_number_or_standard_input() {
        for payload in ["-5", "-", "{}"] {
            let line = format!("bkg plugin invoke a b.c {payload} --timeout-ms 9");
            let Command::Plugin(PluginCommand::Invoke(invocation)) = parse(&line).unwrap().command else {
                panic!("`invoke` was asked for")
            };
            assert_eq!(invocation.payload.as_deref(), Some(payload));
            assert_eq!(invocation.timeout_ms, Some(9));
        }
    }

    #[test]
    fn logs_are_asked_for_by_short_options() {
        let Command::Plugin(PluginCommand::Logs(request)) =
            parse("bkg plugin logs a -f -n 5 --level WARNING").unwrap().command
        else {
            panic!("`logs` was asked for")
        };
        assert!(request.follow);
        assert_eq!((request.tail, request.since, request.level), (Some(5), None, Some(LogLevel::Warn)));
    }
}
