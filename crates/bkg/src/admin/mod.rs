//! The operator's HTTP: plugins and their life, their logs, direct invocation, the audit log, health.
//!
//! Every figure comes from the registry as it is at that moment; every command is handed to the
//! supervisor, and the answer says what became of it or that it is under way.

mod audit;
mod config;
mod health;
mod invoke;
mod logs;
mod plugins;
mod telemetry;

use std::sync::Arc;

use http::Method;
use jiff::Timestamp;
use tokio_util::sync::CancellationToken;

use crate::config::{Catalogue, HostConfig};
use crate::dispatcher::Dispatcher;
use crate::entries::Entries;
use crate::logs::Logs;
use crate::registry::Registry;
use crate::store::Audit;
use crate::supervisor::Supervisor;
use crate::telemetry::Telemetry;
use crate::web::{Access, Metering, Routes};

/// What the operator's HTTP works with.
#[derive(Debug)]
pub struct Admin {
    /// The host's configuration.
    pub config: Arc<HostConfig>,
    /// What was found in the plugin folders, the unusable ones too.
    pub catalogue: Catalogue,
    /// What is alive.
    pub registry: Arc<Registry>,
    /// Who carries invocations.
    pub dispatcher: Arc<Dispatcher>,
    /// Who starts and stops.
    pub supervisor: Arc<Supervisor>,
    /// What plugins are configured to be.
    pub entries: Arc<Entries>,
    /// The log lines of plugins.
    pub logs: Logs,
    /// What their processes cost.
    pub telemetry: Arc<Telemetry>,
    /// Who did what.
    pub audit: Audit,
    /// What requests used.
    pub metering: Arc<Metering>,
    /// The ports that the host itself listens on: HTTP and shared bus.
    pub ports: (u16, u16),
    /// Fires when the host stops: streams that would never end by themselves end then.
    pub stopping: CancellationToken,
    /// When the host started.
    pub started_at: Timestamp,
}

/// Adds the operator's routes.
pub fn routes(routes: Routes, admin: &Arc<Admin>) -> Routes {
    const READ: Access = Access::Scope("plugin:read");
    const MANAGE: Access = Access::Scope("plugin:manage");
    const AUDIT: Access = Access::Scope("audit:read");
    routes
        .add(Method::GET, "/health", Access::Public, admin, health::live)
        .add(Method::GET, "/health/ready", Access::Public, admin, health::ready)
        .add(Method::GET, "/admin/plugins", READ, admin, plugins::list)
        .add(Method::GET, "/admin/plugins/{name}", READ, admin, plugins::show)
        .add(Method::POST, "/admin/plugins/{name}/start", MANAGE, admin, plugins::start)
        .add(Method::POST, "/admin/plugins/{name}/stop", MANAGE, admin, plugins::stop)
        .add(Method::POST, "/admin/plugins/{name}/restart", MANAGE, admin, plugins::restart)
        .add(Method::GET, "/admin/plugins/{name}/logs", READ, admin, logs::read)
        .add(Method::GET, "/admin/plugins/{name}/config", READ, admin, config::read)
        .add(Method::POST, "/admin/plugins/{name}/config", MANAGE, admin, config::patch)
        .add(Method::PUT, "/admin/plugins/{name}/config", MANAGE, admin, config::replace)
        .add(Method::POST, "/admin/plugins/{name}/config/reset", MANAGE, admin, config::reset)
        .add(Method::POST, "/admin/plugins/{name}/config/return", MANAGE, admin, config::go_back)
        .add(Method::GET, "/admin/plugins/{name}/config/diff", READ, admin, config::diff)
        .add(Method::GET, "/admin/plugins/{name}/config/revisions", READ, admin, config::revisions)
        .add(Method::GET, "/admin/plugins/{name}/config/revisions/{revision}", READ, admin, config::revision)
        .add(Method::GET, "/admin/plugins/{name}/telemetry", READ, admin, telemetry::read)
        .add(Method::GET, "/admin/audit", AUDIT, admin, audit::entries)
        .add(Method::GET, "/admin/requests", AUDIT, admin, audit::requests)
        .add(Method::GET, "/admin/ports", READ, admin, plugins::ports)
        .add(Method::POST, "/api/plugins/{name}/invoke", Access::Capability, admin, invoke::invoke)
}
