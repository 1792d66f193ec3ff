//! What one caller may see and use of one plugin.

use bkg_protocol::CapabilityName;
use bkg_protocol::message::Model;

use crate::auth::{Caller, scope_of};
use crate::registry::PluginRecord;

/// A plugin as one caller sees it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Sight<'a> {
    caller: &'a Caller,
    record: &'a PluginRecord,
}

impl<'a> Sight<'a> {
    pub(super) fn of(caller: &'a Caller, record: &'a PluginRecord) -> Self {
        Self { caller, record }
    }

    /// The scope that a capability needs here.
    pub(super) fn scope(self, capability: &'a CapabilityName) -> &'a str {
        scope_of(self.record.entry.scopes.get(capability), capability)
    }

    /// Whether the caller may ask for a capability.
    pub(super) fn may_use(self, capability: &CapabilityName) -> bool {
        !capability.is_for_the_host_alone()
            && self.is_reached()
            && self.caller.require(scope_of(self.record.entry.scopes.get(capability), capability)).is_ok()
    }

    /// Whether the caller may ask for a model.
    pub(super) fn may_use_model(self, model: &Model) -> bool {
        self.may_use(&model.capability)
            && self.caller.rights().reach.has_model(&self.record.entry.name, &model.id)
    }

    /// Whether the caller may look at whatever it cannot use, too.
    pub(super) fn is_operators(self) -> bool {
        self.is_reached() && self.caller.require("plugin:read").is_ok()
    }

    /// Whether there is such a plugin, for this caller.
    pub(super) fn is_any(self) -> bool {
        self.is_operators()
            || self.record.capabilities().iter().any(|capability| self.may_use(&capability.id))
    }

    fn is_reached(self) -> bool {
        self.caller.rights().reach.has_plugin(&self.record.entry.name)
    }
}
