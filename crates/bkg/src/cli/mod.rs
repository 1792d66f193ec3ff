//! The command line: the daemon's own start, and a client of the running daemon.
//!
//! Not the daemon: `serve` hands a loaded configuration to `app`, everything else talks HTTP to the
//! daemon that `DATA/ports.json` or `--url` names. The invariant: a command that did not reach what was
//! asked for never exits 0.
//!
//! | exit code | means |
//! |---|---|
//! | 0 | done; also if the reader of the output went away |
//! | 1 | not done: no daemon, an error of the daemon or of a plugin, a state that was not reached |
//! | 2 | the command line itself is wrong |
//! | 3 | `serve`, `restore`: another daemon has the data directory; `check`: the check itself failed |
//! | 4 | `serve`: a port is taken |
//! | 5 | the configuration is not valid, or its certificate cannot be used |
//! | 6 | a file of the data directory is damaged, lost or of a newer version, or that of the saved logins |
//!
//! `bkg --help` prints the same table.

mod access_arguments;
mod address;
mod advice;
mod answer;
mod arguments;
mod ask_arguments;
mod audit;
mod audit_arguments;
mod backup;
mod chat;
mod check;
mod check_arguments;
mod check_report;
mod client;
mod configuration;
mod conversation;
mod credential;
mod daemon;
mod entry;
mod entry_arguments;
mod entry_edit;
mod entry_mirror;
mod entry_object;
mod entry_path;
mod entry_story;
mod error;
mod events;
mod execute;
mod facts;
mod input;
mod interrupt;
mod key;
mod limit_arguments;
mod login;
mod login_file;
mod logs;
mod logs_arguments;
mod manual;
mod new;
mod output;
mod peer;
mod plugin;
mod plugin_object;
mod plugin_routes;
mod plugin_runs;
mod requests;
mod role;
mod route;
mod routing;
mod secret;
mod session;
mod status;
mod story;
mod swap;
mod table;
mod target;
mod time;
mod top;
mod usage;
mod user;
mod watch_arguments;
mod whoami;

use std::env;
use std::path::PathBuf;
use std::process::ExitCode;

use crate::app;
use crate::config::Overrides;
use arguments::{Arguments, Command, ConfigRequest, PluginCommand};
use error::CliError;
use input::Input;
use output::Output;
use target::{Place, Target};

/// How a command ended that could be carried out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Verdict {
    /// What was asked for is so.
    Reached,
    /// It is not, and the output says why.
    NotReached,
}

/// Runs the command line of this process.
pub fn main() -> ExitCode {
    let arguments = match Arguments::parse(env::args_os()) {
        Ok(arguments) => arguments,
        Err(error) => {
            // Nobody is left to tell if this cannot be written.
            let _ = error.print();
            return ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(2));
        }
    };
    let mut output = Output::of_process(arguments.global.json, arguments.global.colour());
    match run(arguments, &mut output) {
        Ok(Verdict::Reached) => ExitCode::SUCCESS,
        Ok(Verdict::NotReached) => ExitCode::FAILURE,
        Err(error) => {
            output.error(&error);
            ExitCode::from(error.exit_code())
        }
    }
}

fn run(arguments: Arguments, output: &mut Output) -> Result<Verdict, CliError> {
    let Arguments { global, command } = arguments;
    let data_dir = || -> Result<PathBuf, CliError> {
        let overrides = Overrides { data_dir: global.data_dir.clone(), ..Overrides::default() };
        Ok(configuration::load(&overrides)?.config.data_dir)
    };
    let place = || Place::find(global.place(), |variable| env::var_os(variable), data_dir);
    let target = || -> Result<Target, CliError> {
        if global.root {
            return Ok(Target::with_root_key(data_dir()?));
        }
        Target::of_process(place()?)
    };
    let mut input = Input::Process;
    match command {
        Command::Serve(layers) => {
            app::run(configuration::load(&layers.overrides(global.data_dir.clone()))?)?;
            Ok(Verdict::Reached)
        }
        Command::Config(ConfigRequest { command: Some(command), .. }) => {
            entry::run(&target()?, command, &mut input, output)
        }
        Command::Config(ConfigRequest { layers, command: None }) => {
            configuration::print(&configuration::load(&layers.overrides(global.data_dir.clone()))?, output)
        }
        Command::New(request) => new::run(request, &mut input, output),
        Command::Status => status::print(&target()?, output),
        Command::Logs(request) | Command::Plugin(PluginCommand::Logs(request)) => {
            logs::print(&target()?, &request, output)
        }
        Command::Plugin(command) => plugin::run(&target()?, &command, output),
        Command::Run(request) => execute::run(&target()?, &request, output),
        Command::Chat(request) => chat::run(&target()?, request, &mut input, output),
        Command::Top(request) => top::watch(&target()?, &request, output),
        Command::System => facts::print(&target()?, "/admin/system", output),
        Command::Ports => facts::print(&target()?, "/admin/ports", output),
        Command::Route(request) => routing::run(&target()?, &request, output),
        Command::Requests(request) => requests::print(&target()?, &request, output),
        Command::Usage(request) => usage::print(&target()?, &request, output),
        Command::Login(request) => login::login(&target()?, &request, &mut input, output),
        Command::Logout => login::logout(&target()?, output),
        Command::Whoami => whoami::print(&target()?, output),
        Command::Key(command) => key::run(&target()?, &command, output),
        Command::User(command) => user::run(&target()?, &command, &mut input, output),
        Command::Role(command) => role::run(&target()?, &command, &mut input, output),
        Command::Session(command) => session::run(&target()?, &command, output),
        Command::Audit(command) => match place()? {
            Place::Directory(data_dir) => audit::run(&data_dir, &command, output),
            elsewhere => audit::run_elsewhere(&Target::of_process(elsewhere)?, &command, output),
        },
        Command::Backup(request) => backup::take(&target()?, &request, output),
        Command::Restore(request) => {
            let place = place()?;
            backup::restore(place.directory("what a backup is restored to")?, &request, output)
        }
        Command::Check(request) => check::run(request, output),
        Command::Completions { shell } => manual::completions(shell, output),
        Command::Man { dir: None } => manual::page(output),
        Command::Man { dir: Some(directory) } => manual::pages(&directory, output),
    }
}
