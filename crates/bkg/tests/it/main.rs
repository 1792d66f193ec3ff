//! The daemon as a whole: real listeners, real processes, real files.
//!
//! `host` starts one on free ports over a directory of its own; the other modules state what must
//! hold. What only a real OpenAI client can show is in `../clients`.

#![allow(clippy::unwrap_used, reason = "a test fails where its arrangement does")]
#![allow(unreachable_pub, reason = "the harness is a library to the modules beside it")]

mod accounts;
mod auth;
mod authorize;
mod backup;
mod bus;
mod calls;
mod catalogue;
mod command_line;
mod configuration;
mod conformance;
mod connections;
mod daemon;
mod descriptors;
mod dev;
mod durability;
mod events;
mod follower;
mod host;
mod hostile_peers;
mod launches;
mod limits;
mod listen;
mod live;
mod load;
mod logins;
mod logs;
mod losses;
mod on_demand;
mod openai;
mod outages;
mod plugin_routes;
mod probe;
mod quirks;
mod reference;
mod repository;
mod requires;
mod routes;
mod routing;
mod runs;
mod saving;
mod scaffolds;
mod scopes;
mod secrets;
mod slow_clients;
mod supervision;
mod swap;
mod telemetry;
mod transaction;
mod usage;
mod visitor;
