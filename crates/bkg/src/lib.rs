//! The Backplane daemon as a library; the one binary beside it is a page long.
//!
//! Modules in dependency order, imports only point right:
//! `cli → app conformance scaffold → gateway admin accounts api live reference dev → entries backup → plugin_object →
//! bus supervisor telemetry → web → error → auth → routing → dispatcher → registry → logs store config →
//! trace → clock metrics money`.
//! `docs/architecture.md` follows one request through them.

pub mod accounts;
pub mod admin;
pub mod api;
pub mod app;
pub mod auth;
pub mod backup;
pub mod bus;
pub mod cli;
pub mod clock;
pub mod config;
pub mod conformance;
pub mod dev;
pub mod dispatcher;
pub mod entries;
pub mod error;
pub mod gateway;
pub mod live;
pub mod logs;
pub mod metrics;
pub mod money;
pub mod plugin_object;
pub mod reference;
pub mod registry;
pub mod routing;
pub mod scaffold;
pub mod store;
pub mod supervisor;
pub mod telemetry;
pub mod trace;
pub mod web;
