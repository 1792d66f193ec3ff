//! What each side grants the other: sizes in bytes, counts, and times as `Duration`.
//!
//! The defaults are those of `docs/protocol.md`, section 11. The host's configuration may change each.

use std::time::Duration;

/// The bounds of one session, as the host sees them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// The largest frame that is sent to an extended plugin whose entry names no bound.
    pub frame_to_extended: usize,
    /// The largest frame that is sent to a base plugin whose entry names no bound: the default of
    /// several WebSocket libraries.
    pub frame_to_base: usize,
    /// The largest frame that is read from a plugin; a larger one closes the session with 1009.
    pub frame_from_plugin: usize,
    /// The largest `data` of one `chunk`.
    pub chunk: usize,
    /// How many chunks of one stream may be unacknowledged.
    pub stream_credit: u32,
    /// How long after connecting `register` must have arrived.
    pub register_within: Duration,
    /// How often a plugin beats.
    pub heartbeat: Duration,
    /// How often an extended plugin is pinged.
    pub ping_every: Duration,
    /// How long its pong may take; after that the socket is closed.
    pub pong_within: Duration,
    /// How many requests may be in flight at one instance that names no `maxConcurrency`.
    pub in_flight: u32,
    /// How many requests an instance may have in flight at the host.
    pub in_flight_from_plugin: u32,
    /// How many bytes of payload the requests may have that an instance has in flight at the host. One alone
    /// may be of any size.
    pub in_flight_from_plugin_bytes: usize,
    /// How many bytes may wait to be written to a plugin besides the requests that it is sent. More than
    /// that means that it asks and does not read: the session is closed with 1008.
    pub unread_bytes: usize,
    /// How many frames besides requests may wait to be written to a plugin.
    pub unread_frames: u32,
    /// How many frames that cannot be read are borne within [`Limits::unreadable_window`].
    pub unreadable_frames: u32,
    /// The window in which frames that cannot be read are counted.
    pub unreadable_window: Duration,
    /// How long a cancelled request may stay unanswered before its instance counts as degraded.
    pub cancel_degrades_after: Duration,
    /// How long a cancelled request may stay unanswered before its instance is replaced.
    pub cancel_replaces_after: Duration,
    /// How deep plugins may call one another.
    pub call_depth: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            frame_to_extended: 16 << 20,
            frame_to_base: 1 << 20,
            frame_from_plugin: 16 << 20,
            chunk: 256 << 10,
            stream_credit: 32,
            register_within: Duration::from_secs(5),
            heartbeat: Duration::from_secs(10),
            ping_every: Duration::from_secs(15),
            pong_within: Duration::from_secs(10),
            in_flight: 1_024,
            in_flight_from_plugin: 1_024,
            in_flight_from_plugin_bytes: 16 << 20,
            unread_bytes: 24 << 20,
            unread_frames: 4_096,
            unreadable_frames: 100,
            unreadable_window: Duration::from_secs(10),
            cancel_degrades_after: Duration::from_secs(5),
            cancel_replaces_after: Duration::from_secs(10),
            call_depth: 8,
        }
    }
}

impl Limits {
    /// How long without a beat an instance still counts as healthy: 2.5 heartbeats.
    pub fn health_window(&self) -> Duration {
        self.heartbeat * 5 / 2
    }
}

/// How many bytes of a frame are its envelope rather than its payload, at the most, when the host
/// judges beforehand whether a payload fits.
pub const ENVELOPE_ROOM: usize = 4 << 10;

/// How many bytes of a `chunk` frame are not its `data`, at the most: a `requestId` of 128 bytes may
/// be escaped to six times its length.
pub(crate) const CHUNK_ENVELOPE: usize = 1 << 10;
