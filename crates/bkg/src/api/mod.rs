//! `/api/plugins`: plugins as applications see and use them.
//!
//! Not how operators steer them: that is `admin`. The invariant: a caller sees what it may use, and no
//! more; for everything else there is no plugin of that name. Whatever runs a plugin asks for the scope
//! of the capability behind it.

mod ask;
mod catalogue;
mod execute;
mod invoke;
mod sight;

use std::sync::Arc;

use bkg_protocol::ErrorCode;

use crate::config::HttpLimits;
use crate::dispatcher::Dispatcher;
use crate::registry::Registry;
use crate::telemetry::Telemetry;
use crate::web::{Access, Endpoint, FROM_PLUGINS, Metering, Routes, Tag};

/// What the routes for applications work with.
#[derive(Debug)]
pub struct Api {
    /// What is alive.
    pub registry: Arc<Registry>,
    /// Who carries requests to plugins.
    pub dispatcher: Arc<Dispatcher>,
    /// What processes of plugins cost.
    pub telemetry: Arc<Telemetry>,
    /// Bounds of requests.
    pub limits: HttpLimits,
    /// Where what requests used is written down.
    pub metering: Arc<Metering>,
}

/// Adds the routes for applications.
pub fn routes(routes: Routes, api: &Arc<Api>) -> Routes {
    const ANY: Access = Access::AnyCaller;
    const READ: Access = Access::Scope("plugin:read");
    let tag = Tag::Plugins;
    let plugin = |endpoint: Endpoint| {
        endpoint.path::<String>("name", "The plugin's name.").errors(&[ErrorCode::NotFound])
    };
    let list = Endpoint::get("/api/plugins", ANY)
        .summary(tag, "List plugins that the caller may use")
        .describe("With `plugin:read` all of them; `allowed` says what may be used.")
        .answers::<Vec<catalogue::CataloguePlugin>>(200, "The plugins.");
    let telemetry = Endpoint::get("/api/plugins/telemetry", READ)
        .summary(tag, "Read what all plugins cost now")
        .answers::<catalogue::AllTelemetry>(200, "The newest sample of each launch.");
    let execute = Endpoint::post("/api/plugins/execute", Access::Capability)
        .summary(tag, "Run a plugin without naming a capability")
        .describe(
            "Asks for `NAME.execute` if the plugin has it, else for its only capability, and needs that scope. \
             A text travels as `{\"input\": …}`, an object as it is.",
        )
        .takes::<execute::Execution>()
        .answers::<execute::Executed>(200, "What the plugin answered.")
        .errors(FROM_PLUGINS);
    let show = Endpoint::get("/api/plugins/{name}", ANY)
        .summary(tag, "Show a plugin as the caller may use it")
        .answers::<catalogue::CataloguePlugin>(200, "The plugin.");
    let status = Endpoint::get("/api/plugins/{name}/status", ANY)
        .summary(tag, "Show how a plugin stands")
        .answers::<catalogue::Standing>(200, "Its status.");
    let capabilities = Endpoint::get("/api/plugins/{name}/capabilities", ANY)
        .summary(tag, "List what a plugin offers to the caller")
        .answers::<catalogue::Capabilities>(200, "The capabilities.");
    let invoke = Endpoint::post("/api/plugins/{name}/invoke", Access::Capability)
        .summary(tag, "Ask a plugin for a capability")
        .describe("Needs the scope of the capability: its name, unless the plugin's entry says another.")
        .takes::<invoke::Invocation>()
        .answers::<invoke::Outcome>(200, "What the plugin answered.")
        .errors(FROM_PLUGINS);
    routes
        .add(list, api, catalogue::list)
        .add(telemetry, api, catalogue::telemetry)
        .add(execute, api, execute::execute)
        .add(plugin(show), api, catalogue::show)
        .add(plugin(status), api, catalogue::status)
        .add(plugin(capabilities), api, catalogue::capabilities)
        .add(plugin(invoke), api, invoke::invoke)
}
