//! What hostile bytes may never do, as functions from bytes: each panics where a promise is broken.
//!
//! Not who makes the bytes up: `scripts/fuzz` drives the targets with libFuzzer, and `tests/replay.rs`
//! with the corpora that are committed, so that what was found once is tried for ever. The invariant: a
//! target is a function of its bytes alone.

mod archives;
mod configuration;
mod frames;
mod halves;
#[path = "../../bkg-protocol/tests/schedules/model.rs"]
mod model;
mod requests;
#[cfg_attr(not(test), expect(dead_code, reason = "tokens are made by the plugin, and only read here"))]
#[path = "../../../plugins/apikeys/src/token.rs"]
mod token;

/// Something that takes bytes from strangers.
#[derive(Debug, Clone, Copy)]
pub struct Target {
    /// Its name: that of its corpus too.
    pub name: &'static str,
    /// Tries one input.
    pub run: fn(&[u8]),
}

/// All targets.
pub const TARGETS: [Target; 10] = [
    // One frame, in both directions.
    Target { name: "frame", run: frames::frame },
    // Frames line by line, for both halves of a session.
    Target { name: "session", run: frames::session },
    // Schedules of frames and deeds, under the books of the protocol's own tests.
    Target { name: "host-half", run: halves::host },
    Target { name: "plugin-half", run: halves::plugin },
    Target { name: "both-halves", run: halves::both },
    // Paths, queries and routes.
    Target { name: "request-target", run: requests::target },
    // What may be a key.
    Target { name: "key", run: requests::key },
    // A plugin's entry, and what is saved of it.
    Target { name: "entry", run: configuration::entry },
    // The host's own configuration file.
    Target { name: "host-configuration", run: configuration::host },
    // A backup that is to be put back.
    Target { name: "archive", run: archives::archive },
];

/// The target of this name.
pub fn target(name: &str) -> Option<Target> {
    TARGETS.into_iter().find(|target| target.name == name)
}
