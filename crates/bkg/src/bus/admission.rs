//! Whether a registration may hold: the entry is its upper bound, and what it declares is consistent.
//!
//! Pure. A registration that fails changes nothing, and one that holds was checked whole.

use bkg_protocol::message::{Capability, Register};
use bkg_protocol::{CapabilityName, ErrorCode, WireError};

use crate::config::{HostConfig, PluginEntry};
use crate::registry::{HOST_SEGMENTS, read_routes};

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
    check_routes(register, entry)?;
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

/// Whether all routes can be served, and nothing of them is the host's. Below a prefix of its own a
/// plugin may use the host's words: there they mean nothing else.
fn check_routes(register: &Register, entry: &PluginEntry) -> Result<(), WireError> {
    let wrong = |message: String| WireError::new(ErrorCode::InvalidRequest, message).param("routes");
    let routes = read_routes(&register.routes).map_err(|error| wrong(error.to_string()))?;
    for route in &routes {
        let first = route.template.first_text().filter(|first| HOST_SEGMENTS.contains(first));
        if let Some(first) = first
            && entry.route_prefix.is_none()
        {
            return Err(wrong(format!(
                "the route `{} {}` starts with `/{first}`, which belongs to the host: choose another word, \
                 or have the entry grant a `routePrefix`",
                route.method, route.template
            )));
        }
        declared(&register.capabilities, &route.capability, &format!("route `{}`", route.template))?;
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
