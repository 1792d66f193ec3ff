//! The plugin bus protocol, version 1.
//!
//! Every message, the rules it must keep, and both halves of the conversation as pure state
//! machines: no socket, no clock, no randomness. Whoever drives a half hands it frames and the time
//! and writes what it returns. `docs/protocol.md` is the same contract in prose.
//!
//! Start at [`message`] for what travels, at [`host`] and [`plugin`] for who may say what when.

pub mod error;
pub mod exchange;
pub mod frame;
pub mod host;
pub mod inbound;
pub mod limits;
pub mod message;
pub mod name;
pub mod outbound;
mod outbox;
pub mod plugin;
pub mod raw_json;
#[cfg(feature = "schema")]
pub mod schema;
pub mod scope;

pub use error::{ErrorCode, WireError};
pub use limits::Limits;
pub use message::{HostMessage, PluginMessage};
pub use name::{CapabilityName, InstanceId, NameError, Pattern, PluginName, RequestId, TopicName};
pub use raw_json::RawJson;
pub use scope::{Scope, Scopes};

/// The protocol version that this crate speaks: the value of `register.protocol`.
pub const PROTOCOL_VERSION: u32 = 1;
