"""What each side grants the other: sizes in bytes, counts, and times in seconds.

The defaults are those of `docs/protocol.md`, section 11.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Limits:
    """The bounds of one session, as the host sees them.

    >>> Limits(heartbeat=0.01).chunk
    262144
    """

    frame_to_extended: int = 16 << 20
    """The largest frame that is sent to an extended plugin."""
    frame_to_base: int = 1 << 20
    """The largest frame that is sent to a base plugin."""
    frame_from_plugin: int = 16 << 20
    """The largest frame that is read from a plugin."""
    chunk: int = 256 << 10
    """The largest `data` of one `chunk`."""
    stream_credit: int = 32
    """How many chunks of one stream may be unacknowledged."""
    heartbeat: float = 10.0
    """How often a plugin beats."""
    in_flight_from_plugin: int = 1_024
    """How many requests an instance may have in flight at the host."""
    unreadable_frames: int = 100
    """How many frames that cannot be read are borne within `unreadable_window`."""
    unreadable_window: float = 10.0
    """The window in which frames that cannot be read are counted."""
    cancel_degrades_after: float = 5.0
    """How long a cancelled request may stay unanswered before its instance counts as degraded."""
    cancel_replaces_after: float = 10.0
    """How long a cancelled request may stay unanswered before its instance is replaced."""


CHUNK_ENVELOPE = 1 << 10
"""How many bytes of a `chunk` frame are not its `data`, at the most."""
