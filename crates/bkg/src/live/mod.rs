//! The live socket, `GET /ws`: how things are, and from then on what changes.
//!
//! Not a second source of truth: every event is what an HTTP route would answer at that moment. The
//! invariants: a socket sees what its caller may see, and ends with the caller's rights; what a slow one
//! has not taken costs the others nothing; and nothing is left out without a word. `docs/live.md` is
//! the contract.

mod feeds;
mod figures;
mod lines;
mod message;
mod session;
mod socket;
mod status;
mod ticket;
mod trail;

use std::sync::Arc;

use arc_swap::ArcSwap;
use axum::body::Body;
use axum::response::Response;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use uuid::Uuid;

use crate::auth::Authenticator;
use crate::config::Catalogue;
use crate::error::Problem;
use crate::logs::Logs;
use crate::metrics::Metrics;
use crate::registry::Registry;
use crate::store::{Audit, StoreError};
use crate::telemetry::Telemetry;
use crate::web::{Access, Call, Endpoint, Routes, Tag};
use status::States;
use trail::Trail;

pub use message::{Bootstrap, ClientMessage, LogBatch, Position, Sequences, ServerMessage, Topic, schemas};

/// The largest message that a client may send, in bytes.
const LARGEST_MESSAGE: usize = 64 << 10;

/// What sockets show, and who makes it.
#[derive(Debug)]
pub struct Live {
    /// Names this run of the daemon.
    epoch: String,
    registry: Arc<Registry>,
    catalogue: Arc<ArcSwap<Catalogue>>,
    logs: Logs,
    telemetry: Arc<Telemetry>,
    authenticator: Arc<Authenticator>,
    states: Arc<States>,
    trail: Arc<Trail>,
    metrics: Arc<Metrics>,
    stop: CancellationToken,
    tasks: TaskTracker,
}

/// Where what sockets show comes from.
#[derive(Debug)]
pub struct Sources {
    /// What is alive.
    pub registry: Arc<Registry>,
    /// What was found in the plugin folders, the unusable ones too.
    pub catalogue: Arc<ArcSwap<Catalogue>>,
    /// The log lines of plugins.
    pub logs: Logs,
    /// What the processes of plugins cost.
    pub telemetry: Arc<Telemetry>,
    /// Who did what.
    pub audit: Audit,
    /// Who makes tickets.
    pub authenticator: Arc<Authenticator>,
    /// Where it is counted what clients miss.
    pub metrics: Arc<Metrics>,
}

/// Adds the routes.
pub fn routes(routes: Routes, live: &Arc<Live>) -> Routes {
    let socket = |path| {
        Endpoint::get(path, Access::Socket)
            .summary(Tag::Live, "Open the live socket")
            .describe(
                "A WebSocket with the subprotocol `bkg.v1`: how things are, and from then on what changes. A page \
                 that cannot set headers names `bkg.ticket.TICKET` as a further subprotocol.",
            )
            .upgrades("The socket is open.")
    };
    let ticket = Endpoint::post("/auth/ticket", Access::AnyCaller)
        .summary(Tag::Live, "Get a ticket for the live socket")
        .answers::<ticket::Ticket>(200, "It opens one socket, within half a minute.");
    routes.add(socket("/ws"), live, open).add(socket("/ws/plugins"), live, open).add(
        ticket,
        live,
        ticket::issue,
    )
}

impl Live {
    /// Begins to look at the sources.
    ///
    /// # Errors
    /// The database's.
    pub async fn start(sources: Sources) -> Result<Arc<Self>, StoreError> {
        let states = Arc::new(States::new(Arc::clone(&sources.registry), Arc::clone(&sources.telemetry)));
        let trail = Arc::new(Trail::new(sources.audit).await?);
        let (stop, tasks) = (CancellationToken::new(), TaskTracker::new());
        tasks.spawn(Arc::clone(&states).run(stop.clone()));
        tasks.spawn(Arc::clone(&trail).run(stop.clone()));
        Ok(Arc::new(Self {
            epoch: Uuid::now_v7().to_string(),
            registry: sources.registry,
            catalogue: sources.catalogue,
            logs: sources.logs,
            telemetry: sources.telemetry,
            authenticator: sources.authenticator,
            states,
            trail,
            metrics: sources.metrics,
            stop,
            tasks,
        }))
    }

    /// Stops looking; for the stop, when no socket is left.
    pub async fn finish(&self) {
        self.stop.cancel();
        self.tasks.close();
        self.tasks.wait().await;
    }
}

async fn open(live: Arc<Live>, call: Call, _: Body) -> Result<Response, Problem> {
    call.take_over(LARGEST_MESSAGE, |caller, socket, stop| socket::serve(live, caller, socket, stop))
}
