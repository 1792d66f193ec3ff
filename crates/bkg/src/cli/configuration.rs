//! The configuration as this process sees it: loaded for every command, shown by `bkg config`.

use std::io;

use super::Verdict;
use super::error::CliError;
use super::output::Output;
use super::table::Table;
use crate::config::{HostConfig, Loaded, Overrides, Surroundings};

/// Puts flags, environment, file and defaults together.
///
/// # Errors
/// The first thing that is wrong with them.
pub(super) fn load(overrides: &Overrides) -> Result<Loaded, CliError> {
    let surroundings = |what| move |source: io::Error| CliError::Surroundings { what, source };
    let working_directory = std::env::current_dir().map_err(surroundings("working directory"))?;
    let executable = std::env::current_exe().map_err(surroundings("path of this program"))?;
    let surroundings = Surroundings {
        environment: &|variable| std::env::var_os(variable),
        working_directory: &working_directory,
        executable: &executable,
    };
    Ok(HostConfig::load(overrides, &surroundings)?)
}

/// Every value with its origin.
pub(super) fn print(loaded: &Loaded, output: &mut Output) -> Result<Verdict, CliError> {
    if output.wants_json() {
        output
            .json(&serde_json::to_string(&loaded.values).expect("configuration values have a JSON form"))?;
    } else {
        let mut table = Table::new(["KEY", "VALUE", "ORIGIN"]);
        for value in &loaded.values {
            table.row([value.key.to_owned(), value.text(), value.origin.to_string()]);
        }
        output.text(&table.to_string())?;
    }
    Ok(Verdict::Reached)
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    fn loaded() -> Loaded {
        let surroundings = Surroundings {
            environment: &|variable| (variable == "BKG_API_PORT").then(|| "8080".into()),
            working_directory: Path::new("/here"),
            executable: Path::new("/opt/bkg/bin/bkg"),
        };
        let overrides = Overrides { bus_port: Some(0), ..Overrides::default() };
        HostConfig::load(&overrides, &surroundings).unwrap()
    }

    #[test]
    fn the_table_says_where_each_value_comes_from() {
        let mut output = Output::captured(false);
        assert_eq!(print(&loaded(), &mut output).unwrap(), Verdict::Reached);
        let text = output.written();
        let line = |key: &str| {
            let line = text.lines().find(|line| line.split_whitespace().next() == Some(key)).unwrap();
            line.split_whitespace().collect::<Vec<_>>().join(" ")
        };
        assert_eq!(line("KEY"), "KEY VALUE ORIGIN");
        assert_eq!(line("data_dir"), "data_dir \"/here/data\" default");
        assert_eq!(line("api.port"), "api.port 8080 environment BKG_API_PORT");
        assert_eq!(line("bus.port"), "bus.port 0 flag --bus-port");
    }

    #[test]
    fn json_has_every_value_in_its_own_type() {
        let mut output = Output::captured(true);
        print(&loaded(), &mut output).unwrap();
        let values: Vec<serde_json::Value> = serde_json::from_str(&output.written()).unwrap();
        let port = values.iter().find(|value| value["key"] == "api.port").unwrap();
        assert_eq!(port["value"], 8080);
        assert_eq!(port["origin"]["variable"], "BKG_API_PORT");
    }
}
