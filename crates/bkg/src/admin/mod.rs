//! The operator's HTTP: plugins and their life, their logs and figures, the audit log, health.
//!
//! Every figure comes from the registry as it is at that moment; every command is handed to the
//! supervisor, and the answer says what became of it or that it is under way.

mod audit;
mod backup;
mod config;
mod health;
mod logs;
mod metrics;
mod plugins;
mod requests;
mod routing;
mod runs;
mod system;
mod telemetry;
mod usage;

use std::net::SocketAddr;
use std::sync::Arc;

use arc_swap::ArcSwap;
use bkg_protocol::ErrorCode;
use jiff::Timestamp;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::backup::Backups;
use crate::config::{Catalogue, EffectiveValue, HostConfig};
use crate::dispatcher::Dispatcher;
use crate::entries::Entries;
use crate::logs::Logs;
use crate::metrics::Metrics;
use crate::plugin_object::PluginObject;
use crate::registry::Registry;
use crate::routing::Routing;
use crate::store::{Audit, Condition, Usage};
use crate::supervisor::Supervisor;
use crate::supervisor::chronicle::Chronicler;
use crate::telemetry::Telemetry;
use crate::trace::SpanCounts;
use crate::web::{Access, Endpoint, Routes, Tag};

/// What the operator's HTTP works with.
#[derive(Debug)]
pub struct Admin {
    /// The host's configuration.
    pub config: Arc<HostConfig>,
    /// Every key of it, with where its value came from.
    pub config_values: Vec<EffectiveValue>,
    /// What was found in the plugin folders, the unusable ones too.
    pub catalogue: Arc<ArcSwap<Catalogue>>,
    /// What is alive.
    pub registry: Arc<Registry>,
    /// Who starts and stops.
    pub supervisor: Arc<Supervisor>,
    /// Who keeps what is told of plugins.
    pub chronicler: Arc<Chronicler>,
    /// What plugins are configured to be.
    pub entries: Arc<Entries>,
    /// Who knows which plugins would take a request.
    pub dispatcher: Arc<Dispatcher>,
    /// Which models answer for which names.
    pub routing: Arc<Routing>,
    /// Who takes backups.
    pub backups: Arc<Backups>,
    /// The log lines of plugins.
    pub logs: Logs,
    /// What their processes cost.
    pub telemetry: Arc<Telemetry>,
    /// Who did what.
    pub audit: Audit,
    /// What requests used.
    pub usage: Usage,
    /// Whether changes can be written.
    pub storage: watch::Receiver<Condition>,
    /// The ports that the host itself listens on: HTTP and shared bus.
    pub ports: (u16, u16),
    /// Where HTTP is spoken besides loopback.
    pub listen: Vec<SocketAddr>,
    /// Fires when the host stops: streams that would never end by themselves end then.
    pub stopping: CancellationToken,
    /// When the host started.
    pub started_at: Timestamp,
    /// The same on the monotonic clock, which nobody sets.
    pub running_since: std::time::Instant,
    /// What the host counts.
    pub metrics: Arc<Metrics>,
    /// What became of spans, where traces go anywhere.
    pub spans: Option<Arc<SpanCounts>>,
}

/// What the `{name}` of a path is.
const PLUGIN_NAME: &str = "The plugin's name.";

/// Adds the operator's routes.
pub fn routes(routes: Routes, admin: &Arc<Admin>) -> Routes {
    const READ: Access = Access::Scope("plugin:read");
    const MANAGE: Access = Access::Scope("plugin:manage");
    const AUDIT: Access = Access::Scope("audit:read");
    let health = |path| Endpoint::get(path, Access::Public);
    let live = health("/health")
        .summary(Tag::Host, "Say that the host lives")
        .answers::<health::Health>(200, "The host answers.");
    let ready = health("/health/ready")
        .summary(Tag::Host, "Say whether the host serves")
        .describe(
            "Whether every plugin that starts with the host serves, and what else is wrong with the host.",
        )
        .answers::<health::Health>(200, "It does.")
        .answers::<health::Health>(503, "Not yet: ask again.");
    let ports = Endpoint::get("/admin/ports", READ)
        .summary(Tag::Host, "List listeners")
        .answers::<plugins::Ports>(200, "Every listener of the host and of its plugins.");
    let list = Endpoint::get("/admin/plugins", READ)
        .summary(Tag::Operation, "List plugins")
        .describe("With the folders that cannot be used, and why.")
        .answers::<Vec<PluginObject>>(200, "The plugins.");
    let show = Endpoint::get("/admin/plugins/{name}", READ)
        .summary(Tag::Operation, "Show a plugin")
        .path::<String>("name", PLUGIN_NAME)
        .answers::<PluginObject>(200, "The plugin.")
        .errors(&[ErrorCode::NotFound]);
    let own_routes = Endpoint::get("/admin/plugins/{name}/routes", READ)
        .summary(Tag::Operation, "List the HTTP routes of a plugin")
        .path::<String>("name", PLUGIN_NAME)
        .answers::<plugins::OwnRoutes>(200, "Its routes.")
        .errors(&[ErrorCode::NotFound]);
    let steer = |path, summary| {
        Endpoint::post(path, MANAGE)
            .summary(Tag::Operation, summary)
            .path::<String>("name", PLUGIN_NAME)
            .query::<plugins::Wait>("wait", "How many seconds to wait for it; without it, not at all.")
            .answers::<PluginObject>(200, "It came to its end while `wait` lasted.")
            .answers::<PluginObject>(202, "It is under way.")
            .errors(&[ErrorCode::NotFound, ErrorCode::InsufficientStorage])
    };
    let swap = steer("/admin/plugins/{name}/swap", "Have a new version of a plugin take over")
        .describe(
            "The plugin's files are read again. The version that they describe starts beside the one that \
             serves and takes over when it is ready; `swap` of the plugin says how it goes.",
        )
        .query::<plugins::Percent>("share", "How many of 100 requests the new version is tried with.")
        .query::<plugins::Observe>("observe", "For how many seconds it is tried.")
        .errors(&[ErrorCode::InvalidRequest, ErrorCode::Conflict, ErrorCode::PluginUnavailable]);
    let telemetry = |path| {
        Endpoint::get(path, READ)
            .summary(Tag::Operation, "Read what a plugin's processes cost")
            .path::<String>("name", PLUGIN_NAME)
            .answers::<crate::telemetry::PluginTelemetry>(200, "The last half hour, oldest first.")
            .errors(&[ErrorCode::NotFound])
    };
    let page = |path, summary| {
        Endpoint::get(path, AUDIT)
            .summary(Tag::Audit, summary)
            .query::<audit::Limit>("limit", "How many; 100 unless said.")
            .query::<u64>("before", "Only those before the one with this number.")
    };
    let entries = page("/admin/audit", "Read the audit log")
        .query::<String>("action", "Only actions that begin so, such as `key.`.")
        .query::<String>("actor", "Only what this user did.")
        .query::<Timestamp>("since", "Only what was written at this time or later.")
        .answers::<audit::Entries>(200, "The entries, newest first.");
    let system = Endpoint::get("/admin/system", READ)
        .summary(Tag::Host, "Show the host itself")
        .answers::<system::System>(200, "Its version, figures and configuration.");
    let routes = usage::routes(requests::routes(routes, admin), admin);
    let routes = metrics::routes(routing::routes(routes, admin), admin);
    let routes = runs::routes(config::routes(routes, admin), admin);
    logs::routes(backup::routes(routes, admin), admin)
        .add(live, admin, health::live)
        .add(ready, admin, health::ready)
        .add(ports, admin, plugins::ports)
        .add(list, admin, plugins::list)
        .add(show, admin, plugins::show)
        .add(own_routes, admin, plugins::routes)
        .add(steer("/admin/plugins/{name}/start", "Start a plugin"), admin, plugins::start)
        .add(steer("/admin/plugins/{name}/stop", "Stop a plugin"), admin, plugins::stop)
        .add(steer("/admin/plugins/{name}/restart", "Restart a plugin"), admin, plugins::restart)
        .add(swap, admin, plugins::swap)
        .add(telemetry("/admin/plugins/{name}/telemetry"), admin, telemetry::read)
        // The same answer below the prefix where applications look for plugins.
        .add(telemetry("/api/plugins/{name}/telemetry"), admin, telemetry::read)
        .add(entries, admin, audit::entries)
        .add(system, admin, system::show)
}
