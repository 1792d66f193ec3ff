//! Whether a database takes writes at this moment.
//!
//! Not what became of one write, which its caller hears. The invariant: it changes only in the
//! writer's thread, and heals there by itself. Owners show it to operators.

use std::sync::Arc;

/// Whether a database takes writes.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Condition {
    /// It does.
    #[default]
    Sound,
    /// The disk has no room: only what may draw on the reserve is written.
    Full,
    /// The disk failed at a write or at an fsync, and what the file holds has not been checked since:
    /// nothing is written.
    Failing {
        /// What it said.
        reason: Arc<str>,
    },
}

impl Condition {
    /// Whether anything may be written.
    pub fn is_sound(&self) -> bool {
        *self == Self::Sound
    }
}
