//! HTTP as this daemon speaks it: connections, who gets past the door, declared routes, bodies, events.
//!
//! Not what the routes do: that is `gateway`, `admin`, `accounts` and `live`. The invariant: a request reaches a handler
//! only through [`Routes`], which knows the access that each route declares.

mod accept;
mod asked;
mod body;
mod estimate;
mod events;
mod farewell;
mod guard;
mod idempotency;
mod meter;
mod observer;
mod operation;
mod path;
mod patient;
mod places;
mod proxy;
mod redact;
mod routes;
mod server;
mod standing;
mod tls;
mod upgrade;

pub use accept::Acceptor;
pub use asked::AskedObserver;
pub(crate) use body::{json_of, members};
pub use events::{KEEP_ALIVE, KEEP_ALIVE_AFTER, event_headers};
pub use guard::{Guard, SESSION_COOKIE, cookie, session_cookie};
pub use meter::{Attempt, Form, MOST_ATTEMPTS, Meter, Metering};
pub use observer::Observer;
pub use operation::{
    Answer, Content, EVENT_STREAM, Endpoint, FROM_PLUGINS, Operation, Page, Parameter, Place, RequestBody,
    Tag, Type, Unsummarised, path_names, refusals,
};
pub use path::{decoded_pairs, decoded_path};
pub use proxy::{Scheme, TrustedProxies};
pub use routes::{Access, Call, Peer, RequestId, Routes};
pub use server::{Entrance, Listener, Server};
pub use tls::{Tls, TlsError};
pub use upgrade::{SUBPROTOCOL, Socket, TICKET_PREFIX};
