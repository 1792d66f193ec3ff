//! What the host tells a launch through its environment.
//!
//! Not the settings: those come over the bus. The invariant: an [`Environment`] names a host and a
//! plugin, everything else may be absent and says who sets it when it is asked for.

use std::path::{Path, PathBuf};

use bkg_protocol::message::Secret;
use bkg_protocol::{InstanceId, NameError, PluginName};

/// Why the environment is not one that a plugin can run in.
#[derive(Debug, thiserror::Error)]
pub enum EnvironmentError {
    /// A variable is not set.
    #[error(
        "`{0}` is not set: the host sets it when it launches a plugin, for example by `bkg plugin start`; \
         to try a plugin without a host, use `bkg_sdk::testing`"
    )]
    Missing(&'static str),
    /// A variable is not text.
    #[error("`{0}` is not valid UTF-8")]
    NotText(&'static str),
    /// A name or id has the wrong form.
    #[error("`{variable}`: {problem}")]
    Name {
        /// The variable.
        variable: &'static str,
        /// What is wrong with its value.
        problem: NameError,
    },
    /// The URL is not one that the SDK can dial.
    #[error("`BKG_PLUGIN_BUS_URL`: `{url}` is not a `ws://host:port` URL: {problem}")]
    Url {
        /// The variable's value.
        url: String,
        /// What is wrong with it.
        problem: String,
    },
}

/// What the host tells a launch: where it listens, and who the plugin is.
#[derive(Debug, Clone)]
pub struct Environment {
    /// `BKG_PLUGIN_BUS_URL`: where to dial.
    pub bus_url: String,
    /// `BKG_PLUGIN_NAME`: the plugin's name, as in its entry.
    pub name: PluginName,
    /// `BKG_PLUGIN_TOKEN`: proves the first registration of this launch.
    pub token: Secret,
    instance: Option<InstanceId>,
    config_path: Option<PathBuf>,
    data_dir: Option<PathBuf>,
}

impl Environment {
    /// An environment with what every plugin needs, for hosts that are not the daemon.
    pub fn new(bus_url: impl Into<String>, name: PluginName, token: Secret) -> Self {
        Self { bus_url: bus_url.into(), name, token, instance: None, config_path: None, data_dir: None }
    }

    /// Reads the variables of this process.
    ///
    /// # Errors
    /// The first variable that is absent or wrong.
    pub fn of_process() -> Result<Self, EnvironmentError> {
        Self::read(|variable| match std::env::var(variable) {
            Ok(value) => Ok(Some(value)),
            Err(std::env::VarError::NotPresent) => Ok(None),
            Err(std::env::VarError::NotUnicode(_)) => Err(EnvironmentError::NotText(variable)),
        })
    }

    /// Says where the plugin may keep data of its own.
    pub fn with_data_dir(mut self, data_dir: impl Into<PathBuf>) -> Self {
        self.data_dir = Some(data_dir.into());
        self
    }

    fn read(
        get: impl Fn(&'static str) -> Result<Option<String>, EnvironmentError>,
    ) -> Result<Self, EnvironmentError> {
        let needed = |variable| get(variable)?.ok_or(EnvironmentError::Missing(variable));
        let named = |variable, problem| EnvironmentError::Name { variable, problem };
        let instance = get(INSTANCE)?
            .map(|text| text.parse().map_err(|problem| named(INSTANCE, problem)))
            .transpose()?;
        Ok(Self {
            bus_url: needed(BUS_URL)?,
            name: needed(NAME)?.parse().map_err(|problem| named(NAME, problem))?,
            token: Secret::new(needed(TOKEN)?),
            instance,
            config_path: get(CONFIG_PATH)?.map(PathBuf::from),
            data_dir: get(DATA_DIR)?.map(PathBuf::from),
        })
    }

    /// `BKG_PLUGIN_INSTANCE`: the id of this launch.
    ///
    /// # Errors
    /// Where the variable is not set.
    pub fn instance(&self) -> Result<InstanceId, EnvironmentError> {
        self.instance.ok_or(EnvironmentError::Missing(INSTANCE))
    }

    /// `BKG_PLUGIN_CONFIG_PATH`: the file with the plugin's whole effective entry.
    ///
    /// # Errors
    /// Where the variable is not set.
    pub fn config_path(&self) -> Result<&Path, EnvironmentError> {
        self.config_path.as_deref().ok_or(EnvironmentError::Missing(CONFIG_PATH))
    }

    /// `BKG_PLUGIN_DATA_DIR`: the plugin's private directory, which persists.
    ///
    /// # Errors
    /// Where the variable is not set.
    pub fn data_dir(&self) -> Result<&Path, EnvironmentError> {
        self.data_dir.as_deref().ok_or(EnvironmentError::Missing(DATA_DIR))
    }
}

const BUS_URL: &str = "BKG_PLUGIN_BUS_URL";
const NAME: &str = "BKG_PLUGIN_NAME";
const INSTANCE: &str = "BKG_PLUGIN_INSTANCE";
const TOKEN: &str = "BKG_PLUGIN_TOKEN";
const CONFIG_PATH: &str = "BKG_PLUGIN_CONFIG_PATH";
const DATA_DIR: &str = "BKG_PLUGIN_DATA_DIR";

#[cfg(test)]
mod tests {
    use super::*;

    fn read(set: &[(&str, &str)]) -> Result<Environment, EnvironmentError> {
        Environment::read(|variable| {
            Ok(set.iter().find(|(name, _)| *name == variable).map(|(_, value)| (*value).to_owned()))
        })
    }

    const NEEDED: [(&str, &str); 3] = [(BUS_URL, "ws://127.0.0.1:1"), (NAME, "ping"), (TOKEN, "t")];

    #[test]
    fn what_is_missing_is_named_with_who_sets_it() {
        for (absent, _) in NEEDED {
            let rest: Vec<_> = NEEDED.into_iter().filter(|(name, _)| *name != absent).collect();
            let message = read(&rest).unwrap_err().to_string();
            assert!(message.contains(absent), "{message}");
            assert!(message.contains("the host sets it"), "{message}");
        }
    }

    #[test]
    fn a_launch_needs_no_more_than_host_name_and_token() {
        let environment = read(&NEEDED).unwrap();
        assert_eq!(environment.name.as_str(), "ping");
        assert!(environment.data_dir().unwrap_err().to_string().contains(DATA_DIR));
    }

    #[test]
    fn a_name_that_no_plugin_can_have_is_refused() {
        let message = read(&[NEEDED[0], (NAME, "No Name"), NEEDED[2]]).unwrap_err().to_string();
        assert!(message.contains(NAME) && message.contains("No Name"), "{message}");
    }
}
