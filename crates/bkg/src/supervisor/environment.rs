//! The environment of a launch: what of the host's own is passed on, and what is said to this launch.
//!
//! One place for it, so that whoever starts a plugin, the supervisor or the conformance kit, starts the
//! same thing. `docs/protocol.md` lists the variables. Nothing is read but the arguments.

use std::ffi::OsString;
use std::path::Path;

use bkg_protocol::message::Secret;
use bkg_protocol::{InstanceId, PluginName};

use super::spawn::base_environment;
use crate::config::PluginEntry;

/// What a launch is told.
#[derive(Debug)]
pub struct LaunchPlace<'a> {
    /// The name under which it registers.
    pub plugin: &'a PluginName,
    /// Its id.
    pub instance: InstanceId,
    /// Its entry, for its port and the variables of its own.
    pub entry: &'a PluginEntry,
    /// Where models are.
    pub models_dir: &'a Path,
    /// Its private directory that persists.
    pub data_dir: &'a Path,
    /// Where it builds.
    pub cache_dir: &'a Path,
    /// Where the host waits for it; nobody does while `prepare.sh` runs.
    pub bus: Option<BusPlace<'a>>,
}

/// Where the host waits for a launch.
#[derive(Debug)]
pub struct BusPlace<'a> {
    /// The port of its private listener on loopback.
    pub port: u16,
    /// Its launch token.
    pub token: &'a Secret,
    /// The file that holds its whole entry.
    pub runtime_config: &'a Path,
}

/// All variables of a launch, of which a later one replaces an earlier one of the same name; `parent` is
/// the host's own environment.
pub fn launch_environment(
    parent: impl Iterator<Item = (OsString, OsString)>,
    place: &LaunchPlace<'_>,
) -> Vec<(OsString, OsString)> {
    let mut environment = base_environment(parent);
    let mut set = |name: &str, value: OsString| environment.push((OsString::from(name), value));
    set("BKG_MODELS_DIR", place.models_dir.into());
    set("BKG_PLUGIN_NAME", place.plugin.as_str().into());
    set("BKG_PLUGIN_INSTANCE", place.instance.to_string().into());
    set("BKG_PLUGIN_DATA_DIR", place.data_dir.into());
    set("BKG_DATABASE_PATH", place.data_dir.join(format!("{}.db", place.plugin)).into());
    set("BKG_PLUGIN_CACHE_DIR", place.cache_dir.into());
    if let Some(bus) = &place.bus {
        set("BKG_PLUGIN_BUS_PORT", bus.port.to_string().into());
        set("BKG_PLUGIN_BUS_URL", format!("ws://127.0.0.1:{}/", bus.port).into());
        set("BKG_PLUGIN_TOKEN", bus.token.reveal().into());
        set("BKG_PLUGIN_CONFIG_PATH", bus.runtime_config.into());
        set("PLUGIN_PORT", place.entry.port.unwrap_or(0).to_string().into());
    }
    environment.extend(place.entry.env.iter().map(|(name, value)| (name.into(), value.into())));
    environment
}
