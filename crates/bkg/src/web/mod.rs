//! HTTP as this daemon speaks it: connections, declared routes, bodies, events.
//!
//! Not what the routes do: that is `gateway` and `admin`. The invariant: a request reaches a handler
//! only through [`Routes`], which knows the access that each route declares.

mod body;
mod events;
mod routes;
mod server;

pub(crate) use body::members;
pub use events::{KEEP_ALIVE, KEEP_ALIVE_AFTER, event_headers};
pub use routes::{Access, Call, RequestId, RouteInfo, Routes};
pub use server::Server;
