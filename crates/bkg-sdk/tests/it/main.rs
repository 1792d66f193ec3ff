//! Plugins built with the SDK, against the host in memory, and once against a real socket.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod backup;
mod calls;
mod logs;
mod requests;
mod session;
mod settings;
mod socket;
mod streams;
