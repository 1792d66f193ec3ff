//! What may stand on the command line, as types; parsing is all that happens here.
//!
//! Nothing is read but the arguments themselves: environment and file come in with the
//! configuration, which knows where each value came from.

use std::ffi::OsString;
use std::net::SocketAddr;
use std::path::PathBuf;

use bkg_protocol::{CapabilityName, PluginName};
use clap::error::ErrorKind;
use clap::{Args, CommandFactory, Parser, Subcommand};

use super::access_arguments::{KeyCommand, LoginRequest, RoleCommand, SessionCommand, UserCommand};
use super::address::Address;
use super::ask_arguments::{ChatRequest, RunRequest};
use super::audit_arguments::AuditCommand;
use super::backup::{BackupRequest, RestoreRequest};
use super::check_arguments::CheckRequest;
use super::entry_arguments::EntryCommand;
use super::entry_path::EntryPath;
use super::logs_arguments::{LogsRequest, Since};
use super::new::NewRequest;
use super::output::Colour;
use super::routing::RouteRequest;
use super::swap::SwapRequest;
use super::target::PlaceOptions;
use super::watch_arguments::{RequestsRequest, TopRequest, UsageRequest};
use crate::config::Overrides;

/// The longest that the daemon lets a start or stop be waited for, in seconds.
const LONGEST_WAIT: u64 = 600;

/// What `bkg --help` ends with.
const EXIT_CODES: &str = "\
Exit codes:
  0    done; also when the reader of the output went away
  1    not done: no daemon, an error of the daemon or of a plugin, a state that was not reached
  2    the command line itself is wrong
  3    serve, restore: another daemon has the data directory; check: the check itself failed
  4    serve: a port is taken
  5    the configuration is not valid, or its certificate cannot be used
  6    a file of the data directory, or that of saved logins, is damaged, lost, or of a newer version
  130  ended by Ctrl-C; serve: by a second signal";

/// Backplane: turns any program into a supervised, secured, observable AI service.
#[derive(Debug, Parser)]
#[command(name = "bkg", version, arg_required_else_help = true, disable_help_subcommand = true)]
#[command(max_term_width = 100, after_help = EXIT_CODES)]
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
    /// The address of a daemon elsewhere, such as `https://bkg.example.org` [env: BKG_URL]
    #[arg(long, value_name = "URL", global = true, conflicts_with_all = ["data_dir", "root"])]
    pub(super) url: Option<Address>,
    /// The certificates (PEM) that vouch for that daemon, instead of the system's [env: BKG_CA]
    #[arg(long, value_name = "FILE", global = true)]
    pub(super) ca: Option<PathBuf>,
    /// Write JSON instead of text for people
    #[arg(long, global = true)]
    pub(super) json: bool,
    /// When to use colours
    #[arg(long, value_name = "WHEN", global = true, value_enum, default_value_t = Colour::Auto)]
    pub(super) color: Colour,
    /// No colours, as with the variable NO_COLOR or `--color never`
    #[arg(long, global = true, conflicts_with = "color")]
    pub(super) no_color: bool,
    /// Use the root key, whatever `BKG_API_KEY` and the saved login are
    #[arg(long, global = true)]
    pub(super) root: bool,
}

impl GlobalOptions {
    /// When to use colours, whichever way it was said.
    pub(super) fn colour(&self) -> Colour {
        if self.no_color { Colour::Never } else { self.color }
    }

    /// What they say about where the daemon is.
    pub(super) fn place(&self) -> PlaceOptions {
        PlaceOptions {
            data_dir: self.data_dir.clone(),
            address: self.url.clone(),
            authorities: self.ca.clone(),
        }
    }
}

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Run the daemon until SIGTERM or Ctrl-C
    Serve(ConfigurationLayers),
    /// Show every configuration value that `serve` would use, and where it comes from; with a
    /// command, see and change the entry of a plugin
    Config(ConfigRequest),
    /// Make a folder for a new plugin, which runs and has a test
    New(NewRequest),
    /// Show the running daemon and its plugins
    Status,
    /// See, start, stop and ask plugins
    #[command(subcommand)]
    Plugin(PluginCommand),
    /// Hand an input to a plugin, and show its result
    Run(RunRequest),
    /// Talk with a model
    Chat(ChatRequest),
    /// Show what a plugin logged, or all of them, follow it, or save it to a file
    Logs(LogsRequest),
    /// Watch what plugins use, until Ctrl-C
    Top(TopRequest),
    /// Show what the daemon says about its machine and itself
    System,
    /// Show the ports of the daemon and of its plugins
    Ports,
    /// See and change which models answer for a name, and ask where a request would go
    Route(RouteRequest),
    /// Show what requests used, newest first, or all that is known of one of them
    Requests(RequestsRequest),
    /// Show sums of what requests used
    Usage(UsageRequest),
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
    /// Take a backup of the running daemon and its plugins, whole or not at all
    Backup(BackupRequest),
    /// Put a backup back, where no daemon runs
    Restore(RestoreRequest),
    /// Check that a plugin keeps the protocol, rule by rule, without a daemon
    Check(CheckRequest),
    /// Write the completions of a shell
    Completions {
        /// The shell
        #[arg(value_enum)]
        shell: clap_complete::Shell,
    },
    /// Write the manual: one page, or a page for each command into a directory
    Man {
        /// Write all pages into this directory, which is made if need be
        #[arg(long, value_name = "DIR")]
        dir: Option<PathBuf>,
    },
}

/// The host's configuration, or one plugin's.
#[derive(Debug, Args)]
pub(super) struct ConfigRequest {
    #[command(flatten)]
    pub(super) layers: ConfigurationLayers,
    #[command(subcommand)]
    pub(super) command: Option<EntryCommand>,
}

/// What the command line says about the configuration.
#[derive(Debug, Default, PartialEq, Eq, Args)]
pub(super) struct ConfigurationLayers {
    /// The configuration file
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// A plugin's folder, which wins over a bundled plugin of the same name; may be given several times
    #[arg(long = "plugin", value_name = "FOLDER")]
    plugin_folders: Vec<PathBuf>,
    /// A directory of plugin folders, instead of the bundled one; may be given several times
    #[arg(long = "plugins-dir", value_name = "DIR")]
    plugins_dirs: Vec<PathBuf>,
    /// Watch the folders of plugins, and start a plugin again after an edit
    #[arg(long)]
    dev: bool,
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
        let Self { config, plugin_folders, plugins_dirs, dev, api_port, listen, bus_port } = self;
        Overrides { config, data_dir, plugin_folders, plugins_dirs, dev, api_port, listen, bus_port }
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
    /// Have a new version of a plugin take over, once it is ready
    Swap(SwapRequest),
    /// The same as `bkg logs`
    Logs(LogsRequest),
    /// Ask one capability of a plugin, and show the answer
    Invoke(Invocation),
    /// Show the HTTP routes that plugins serve at this moment
    Routes {
        /// Only those of this plugin
        name: Option<PluginName>,
    },
    /// Show the runs of a plugin, or all that is known of one: how it ended, and what it was doing
    Runs {
        /// The plugin
        name: PluginName,
        /// The run; the beginning of its id is enough
        id: Option<String>,
        /// How many of the last runs
        #[arg(short = 'n', long = "limit", value_name = "RUNS", default_value_t = 20)]
        #[arg(value_parser = clap::value_parser!(u32).range(1..=50))]
        limit: u32,
    },
    /// Show every change of a plugin's state, with its reason
    Events {
        /// The plugin
        name: PluginName,
        /// How many of the last changes
        #[arg(short = 'n', long = "limit", value_name = "EVENTS", default_value_t = 50)]
        #[arg(value_parser = clap::value_parser!(u32).range(1..=500))]
        limit: u32,
    },
    /// Show what a plugin used of the machine, and what it says about itself
    Telemetry {
        /// The plugin
        name: PluginName,
        /// How many of the last samples
        #[arg(short = 'n', long = "samples", value_name = "SAMPLES", default_value_t = 10)]
        samples: usize,
    },
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

impl Arguments {
    /// Parses a whole command line, the program's name first.
    ///
    /// # Errors
    /// What is wrong with it, or the help or version that it asks for.
    pub(super) fn parse(words: impl IntoIterator<Item = OsString>) -> Result<Self, clap::Error> {
        let arguments = Self::try_parse_from(words)?;
        let refuse = |message| Err(Self::command().error(ErrorKind::ArgumentConflict, message));
        if let Command::Logs(request) | Command::Plugin(PluginCommand::Logs(request)) = &arguments.command
            && matches!((request.since, request.tail), (Some(Since::Line(_)), Some(_)))
        {
            return refuse("`--since` with a line's number goes on from there, and `--tail` from the end");
        }
        if let Command::Config(ConfigRequest { command: Some(EntryCommand::Set(change)), .. }) =
            &arguments.command
            && change.secrets.iter().any(EntryPath::looks_like_an_assignment)
        {
            // The text is not repeated: the secret may be in it.
            let message = "`--secret` takes the path alone: its value is asked for, so that it is in no list of processes";
            return Err(Self::command().error(ErrorKind::ValueValidation, message));
        }
        let layers = match &arguments.command {
            Command::Config(ConfigRequest { layers, command: Some(_) }) => Some(layers),
            _ => None,
        };
        if layers.is_some_and(|layers| *layers != ConfigurationLayers::default()) {
            return refuse("these options are for the host's configuration, not for the entry of a plugin");
        }
        let uses_no_credential = matches!(
            arguments.command,
            Command::Serve(_)
                | Command::Config(ConfigRequest { command: None, .. })
                | Command::Login(_)
                | Command::Logout
                | Command::Audit(_)
                | Command::Check(_)
                | Command::Completions { .. }
                | Command::Man { .. }
        );
        if arguments.global.root && uses_no_credential {
            return refuse("`--root` is for commands that ask the daemon for something, and this is none");
        }
        let is_local = matches!(
            arguments.command,
            Command::Serve(_)
                | Command::Config(ConfigRequest { command: None, .. })
                | Command::Audit(AuditCommand::Verify | AuditCommand::Export(_))
                | Command::Check(_)
                | Command::Completions { .. }
                | Command::Man { .. }
        );
        if arguments.global.url.is_some() && is_local {
            return refuse("`--url` is for commands that ask the daemon for something, and this is none");
        }
        if matches!(arguments.command, Command::Serve(_)) {
            if arguments.global.json {
                return refuse("`serve` has no `--json`: for a log in JSON set `logs.format = \"json\"`");
            }
            if arguments.global.colour() != Colour::Auto {
                return refuse("`serve` has no `--color` and no `--no-color`: set the variable NO_COLOR");
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
        let Command::Config(request) = parse("bkg config").unwrap().command else {
            panic!("`config` was asked for")
        };
        assert!(request.command.is_none());
        let overrides = request.layers.overrides(None);
        assert_eq!(overrides.data_dir, None);
        assert!(overrides.plugins_dirs.is_empty());
        assert_eq!((overrides.api_port, overrides.bus_port), (None, None));
    }

    #[test]
    fn options_without_meaning_are_refused() {
        assert_eq!(kind_of_error("bkg serve --json"), ErrorKind::ArgumentConflict);
        assert_eq!(kind_of_error("bkg --no-color serve"), ErrorKind::ArgumentConflict);
        assert_eq!(kind_of_error("bkg --color always serve"), ErrorKind::ArgumentConflict);
        assert_eq!(kind_of_error("bkg --color always --no-color status"), ErrorKind::ArgumentConflict);
        assert_eq!(kind_of_error("bkg config --api-port 1 get ping"), ErrorKind::ArgumentConflict);
        assert_eq!(kind_of_error("bkg --url https://a audit verify"), ErrorKind::ArgumentConflict);
        assert_eq!(kind_of_error("bkg --url https://a --root status"), ErrorKind::ArgumentConflict);
        assert_eq!(kind_of_error("bkg --url https://a --data-dir /d status"), ErrorKind::ArgumentConflict);
        assert_eq!(kind_of_error("bkg --url http://example.org status"), ErrorKind::ValueValidation);
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
}
