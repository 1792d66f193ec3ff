//! The command line: the daemon's own start, and a client of the running daemon.
//!
//! Not the daemon: `serve` hands a loaded configuration to `app`, everything else talks HTTP to the
//! daemon that `DATA/ports.json` names. The invariant: a command that did not reach what was asked
//! for never exits 0.
//!
//! | exit code | means |
//! |---|---|
//! | 0 | done; also if the reader of the output went away |
//! | 1 | not done: no daemon, an error of the daemon or of a plugin, a state that was not reached |
//! | 2 | the command line itself is wrong |
//! | 3 | `serve`: another daemon has the data directory |
//! | 4 | `serve`: a port is taken |
//! | 5 | the configuration is not valid |
//! | 6 | a file of the data directory is damaged, lost or of a newer version, or that of the saved logins |

mod access_arguments;
mod advice;
mod arguments;
mod audit;
mod audit_arguments;
mod client;
mod configuration;
mod credential;
mod daemon;
mod error;
mod events;
mod input;
mod key;
mod login;
mod login_file;
mod logs;
mod output;
mod plugin;
mod plugin_object;
mod role;
mod route;
mod secret;
mod session;
mod status;
mod story;
mod table;
mod target;
mod time;
mod user;
mod whoami;

use std::path::PathBuf;
use std::process::ExitCode;

use crate::app;
use crate::config::Overrides;
use arguments::{Arguments, Command, PluginCommand};
use error::CliError;
use input::Input;
use output::Output;
use target::Target;

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
    let arguments = match Arguments::parse(std::env::args_os()) {
        Ok(arguments) => arguments,
        Err(error) => {
            // Nobody is left to tell if this cannot be written.
            let _ = error.print();
            return ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(2));
        }
    };
    let mut output = Output::of_process(arguments.global.json, arguments.global.no_color);
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
    let target = || -> Result<Target, CliError> {
        let data_dir = data_dir()?;
        if global.root { Ok(Target::with_root_key(data_dir)) } else { Target::of_process(data_dir) }
    };
    let mut input = Input::Process;
    match command {
        Command::Serve(layers) => {
            app::run(configuration::load(&layers.overrides(global.data_dir))?)?;
            Ok(Verdict::Reached)
        }
        Command::Config(layers) => {
            configuration::print(&configuration::load(&layers.overrides(global.data_dir))?, output)
        }
        Command::Status => status::print(&target()?, output),
        Command::Plugin(PluginCommand::Logs(request)) => logs::print(&target()?, &request, output),
        Command::Plugin(command) => plugin::run(&target()?, &command, output),
        Command::Login(request) => login::login(&target()?, &request, &mut input, output),
        Command::Logout => login::logout(&target()?, output),
        Command::Whoami => whoami::print(&target()?, output),
        Command::Key(command) => key::run(&target()?, &command, output),
        Command::User(command) => user::run(&target()?, &command, &mut input, output),
        Command::Role(command) => role::run(&target()?, &command, &mut input, output),
        Command::Session(command) => session::run(&target()?, &command, output),
        Command::Audit(command) => audit::run(&data_dir()?, &command, output),
    }
}
