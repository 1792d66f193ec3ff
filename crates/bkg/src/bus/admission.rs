//! Whether a registration may hold: the entry is its upper bound, and what it declares is consistent.
//!
//! Pure. A registration that fails changes nothing, and one that holds was checked whole.

use bkg_protocol::message::{Capability, Register, Route};
use bkg_protocol::{CapabilityName, ErrorCode, WireError};

use crate::config::{HostConfig, PluginEntry};

/// First path segments below `/api/plugins/<name>` that belong to the host.
const HOST_SEGMENTS: [&str; 16] = [
    "status",
    "capabilities",
    "logs",
    "telemetry",
    "invoke",
    "info",
    "install",
    "uninstall",
    "update",
    "repair",
    "config",
    "start",
    "stop",
    "restart",
    "routes",
    "state",
];

/// Checks what a plugin wants to register against its entry and against itself.
///
/// # Errors
/// What to change, with the code that the plugin is told.
pub(super) fn check(
    register: &Register,
    entry: &PluginEntry,
    config: &HostConfig,
) -> Result<(), WireError> {
    if register.plugin != entry.name {
        return Err(forbidden(format!(
            "this listener serves `{}`, not `{}`: register under `BKG_PLUGIN_NAME`",
            entry.name, register.plugin
        )));
    }
    for capability in &register.capabilities {
        check_capability(&capability.id, entry, config)?;
    }
    for model in &register.models {
        if !entry.grants_model(&model.id) {
            return Err(forbidden(format!(
                "the entry does not list the model `{}`: add it to `models`",
                model.id
            )));
        }
        declared(&register.capabilities, &model.capability, &format!("model `{}`", model.id))?;
    }
    for route in &register.routes {
        check_route(route)?;
        declared(&register.capabilities, &route.capability, &format!("route `{}`", route.path))?;
    }
    for tool in &register.tools {
        declared(&register.capabilities, &tool.capability, &format!("tool `{}`", tool.name))?;
    }
    Ok(())
}

fn check_capability(
    id: &CapabilityName,
    entry: &PluginEntry,
    config: &HostConfig,
) -> Result<(), WireError> {
    if let Some(owner) = config.exclusive_owner(id)
        && *owner != entry.name
    {
        return Err(forbidden(format!("`{id}` belongs to the plugin `{owner}` alone")));
    }
    if id.as_str().starts_with("host.") {
        return Err(forbidden(format!("`{id}` is the host's own")));
    }
    if !entry.grants(id) {
        return Err(forbidden(format!("the entry does not list `{id}`: add it to `capabilities`")));
    }
    Ok(())
}

fn check_route(route: &Route) -> Result<(), WireError> {
    let wrong = |what: &str| {
        Err(WireError::new(
            ErrorCode::InvalidRequest,
            format!("the route `{} {}` {what}", route.method, route.path),
        ))
    };
    if !matches!(route.method.as_str(), "GET" | "HEAD" | "POST" | "PUT" | "PATCH" | "DELETE") {
        return wrong("has no known method: use GET, HEAD, POST, PUT, PATCH or DELETE");
    }
    if !route.path.starts_with('/')
        || route.path.contains("//")
        || route.path.contains(['\\', '\0', '?', '#'])
    {
        return wrong("is no path: start with `/`, without `//`, `\\`, `?` or `#`");
    }
    let mut segments = route.path[1..].split('/');
    if segments.clone().any(|segment| segment == ".." || segment == ".") {
        return wrong("must not contain `.` or `..`");
    }
    let first = segments.next().unwrap_or_default();
    if HOST_SEGMENTS.contains(&first) || first == "ui" {
        return wrong(&format!("starts with `/{first}`, which belongs to the host"));
    }
    Ok(())
}

fn declared(capabilities: &[Capability], id: &CapabilityName, what: &str) -> Result<(), WireError> {
    if capabilities.iter().any(|capability| capability.id == *id) {
        return Ok(());
    }
    Err(WireError::new(
        ErrorCode::InvalidRequest,
        format!(
            "the {what} names the capability `{id}`, which is not registered: list it in `capabilities`"
        ),
    ))
}

fn forbidden(message: String) -> WireError {
    WireError::new(ErrorCode::Forbidden, message)
}
