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
//! | 6 | a file of the data directory is damaged |

mod arguments;
mod client;
mod configuration;
mod daemon;
mod error;
mod events;
mod logs;
mod output;
mod plugin;
mod plugin_object;
mod status;
mod story;
mod table;
mod time;

use std::process::ExitCode;

use crate::app;
use crate::config::Overrides;
use arguments::{Arguments, Command, PluginCommand};
use error::CliError;
use output::Output;

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
    let client_of = || Overrides { data_dir: global.data_dir.clone(), ..Overrides::default() };
    match command {
        Command::Serve(layers) => {
            app::run(configuration::load(&layers.overrides(global.data_dir))?)?;
            Ok(Verdict::Reached)
        }
        Command::Config(layers) => {
            configuration::print(&configuration::load(&layers.overrides(global.data_dir))?, output)
        }
        Command::Status => status::print(&configuration::load(&client_of())?.config.data_dir, output),
        Command::Plugin(command) => {
            let data_dir = configuration::load(&client_of())?.config.data_dir;
            match command {
                PluginCommand::Logs(request) => logs::print(&data_dir, &request, output),
                command => plugin::run(&data_dir, &command, output),
            }
        }
    }
}
