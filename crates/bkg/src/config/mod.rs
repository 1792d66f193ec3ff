//! Configuration: the host's own, and what each plugin's folder says about the plugin.
//!
//! This module reads and checks; it starts nothing, keeps nothing and never writes, least of all into
//! a plugin's folder. What leaves it is typed and valid. `cli` calls it for `bkg config`, `app` at
//! start, `supervisor` and `bus` through the [`PluginEntry`] of their plugin.

pub mod check;
pub mod discovery;
pub mod entry;
pub mod host;
mod keys;
mod layers;
pub mod limits;
mod listen;
mod otlp;
pub mod patch;
mod prices;
mod routing;
pub mod secrets;

pub use discovery::{
    Catalogue, Discovered, NotAPlugin, Outcome, Source, bundled_plugins_dir, check_named, discover,
};
pub use entry::{
    Activation, BackupMode, EntryError, EntrySettings, GrantedCapability, Healthcheck, Identity,
    PluginEntry, Prepare, Probed, RestartPolicy,
};
pub use host::{
    CgroupUse, ConfigError, EffectiveValue, HostConfig, HttpLimits, Loaded, LogFormat, LogKeys, Origin,
    Overrides, QueueLimits, SupervisorTimes, Surroundings,
};
pub use layers::{LayerOrigin, Layers};
pub use limits::ResourceLimits;
pub use listen::{Exposure, TlsKeys};
pub use otlp::{OtlpHeaders, OtlpKeys};
pub use prices::{Price, Prices};
pub use routing::{ModelName, Route, RouteTarget, RoutedCapability, RoutingDocument};
