//! Write a Backplane plugin in Rust.
//!
//! A plugin is a program that the host launches, that says over one WebSocket what it can answer, and
//! answers it. This is a complete one:
//!
//! ```no_run
//! use bkg_sdk::{Plugin, Request, Result};
//! use serde_json::{Value, json};
//!
//! async fn greet(request: Request) -> Result<Value> {
//!     let name: String = request.read()?;
//!     Ok(json!({ "greeting": format!("hello {name}") }))
//! }
//!
//! fn main() -> std::process::ExitCode {
//!     Plugin::new().answer("greeter.greet", greet).run()
//! }
//! ```
//!
//! [`Plugin`] is where to start, [`Host`] is what a plugin can do besides answering, and
//! [`testing::TestHost`] runs a plugin in a test without a daemon or a socket. The SDKs of other
//! languages have the same files under the same names.

mod backup;
mod call;
mod capability;
mod config;
mod connection;
mod environment;
mod error;
mod events;
mod host;
mod json;
mod log;
mod plugin;
mod reconnect;
mod request;
mod route;
mod session;
mod stream;
mod telemetry;
pub mod testing;
mod wire;

pub use bkg_protocol::message::{
    AuthChanged, Caller, Event, HttpBody, HttpRequest, LogLevel, Model, Route, Secret, Tool, UiSlot, Update,
};
pub use bkg_protocol::{
    CapabilityName, ErrorCode, NameError, Pattern, PluginName, RawJson, RequestId, Scope, Scopes, WireError,
};
pub use call::{Call, CallError, CallStream};
pub use capability::Capability;
pub use config::Settings;
pub use environment::{Environment, EnvironmentError};
pub use error::{DefinitionError, Result, RunError};
pub use events::Subscription;
pub use host::{Authorization, Health, Host};
pub use json::{IntoJson, Json};
pub use log::LogLayer;
pub use plugin::Plugin;
pub use request::Request;
pub use route::{BodyBytes, RouteAnswer};
pub use stream::{ChunkSink, SendError};
pub use tokio_util::sync::CancellationToken;

/// The programs of the page for authors, so that they compile against what is here.
#[cfg(doctest)]
#[doc = include_str!("../../../docs/writing-a-plugin.md")]
struct WritingAPlugin;
