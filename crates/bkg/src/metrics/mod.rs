//! What the host counts and measures of itself, for `GET /metrics`.
//!
//! Not the route, and not what others keep anyway: `admin` reads those from where they are when somebody
//! asks. Everything here may be added to from anywhere at any time; the invariants: nothing waits, and no
//! number is kept under a name that a client or a plugin made up.

mod bus;
pub mod family;
mod http;
mod number;
mod page;
mod requests;

pub use bus::{BusFigures, FrameFigures};
pub use http::{HttpFigures, RouteFigures, UNMATCHED};
pub use number::{Counter, Distribution, Histogram};
pub use page::{Format, Page, Samples};
pub use requests::{Ended, OTHER, RequestFigures};

/// What the whole host counts.
#[derive(Debug, Default)]
pub struct Metrics {
    /// HTTP requests.
    pub http: HttpFigures,
    /// Requests to plugins.
    pub requests: RequestFigures,
    /// Frames of the plugin bus.
    pub bus: BusFigures,
    /// What clients of the live socket missed.
    pub missed_live_events: Counter,
}
