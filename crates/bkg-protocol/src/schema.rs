//! JSON Schemas of all messages, for authors in other languages and for tools.
//!
//! Generated from the types; the committed files in `schemas/` are checked against this by a test.

use crate::message::{HostMessage, PluginMessage};

/// The schemas by file name: `plugin-message.json` and `host-message.json`.
///
/// A schema describes what may be *sent*, so that members which a writer may leave out are optional.
/// Readers forgive more: see the `.lenient` files in `golden/messages`.
pub fn all() -> Vec<(&'static str, serde_json::Value)> {
    vec![
        ("plugin-message.json", schemars::schema_for!(PluginMessage).to_value()),
        ("host-message.json", schemars::schema_for!(HostMessage).to_value()),
    ]
}
