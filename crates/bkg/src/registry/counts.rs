//! What is counted of one plugin for as long as the host runs.
//!
//! Not its state, which is in its record, and not requests. The invariant: the counts outlive processes,
//! versions and entries. The supervisor and the dispatcher add to them, `admin` shows them.

use crate::metrics::{Counter, Histogram};

/// What is counted of one plugin.
#[derive(Debug, Default)]
pub struct PluginCounts {
    /// How long requests waited that had to wait for a place.
    pub queue_wait: Histogram,
    /// Requests for which the queue had no room.
    pub queue_full: Counter,
    /// Requests for which no place became free in time.
    pub queue_late: Counter,
    /// Processes that were started.
    pub starts: Counter,
    /// Those that were started because the one before had ended by itself.
    pub restarts: Counter,
    /// Processes that failed.
    pub crashes: Counter,
    /// Versions that took over while the one before served.
    pub swapped: Counter,
    /// Versions that were not good enough.
    pub rolled_back: Counter,
    /// Versions in whose favour the plugin was stopped and started.
    pub restarted: Counter,
    /// Versions that gave way to another before it was decided.
    pub superseded: Counter,
}
