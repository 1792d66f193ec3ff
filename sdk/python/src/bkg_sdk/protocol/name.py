"""Names and ids that travel on the bus.

The forms are those of `docs/protocol.md`, section 2. Ids that this side makes are UUIDs of version 8: 60
bits of the session's seed, then a counter.
"""

from __future__ import annotations

import re

PLUGIN_NAME = r"[a-z0-9][a-z0-9_-]{0,62}"
"""The form of a plugin's name."""
CAPABILITY_NAME = r"[a-z][a-z0-9_-]*(\.[A-Za-z0-9_-]+)+"
"""The form of a capability's name."""
MAX_CAPABILITY_NAME = 96
"""The longest capability name, in bytes."""
MAX_REQUEST_ID = 128
"""The longest request id that is accepted from the other side."""
RESERVED_PLUGIN_NAMES = ("execute", "available", "telemetry", "routes")
"""Names that the HTTP surface needs for itself below `/api/plugins`."""

_SEED_MASK = 0xFFFF_FFFF_FFFF_0FFF
_VERSION_AND_VARIANT = 0x8000 << 64 | 0x8000 << 48
_NUMBER_MASK = 0x0000_FFFF_FFFF_FFFF


def problem_of_plugin_name(text: str) -> str | None:
    """What is wrong with the name of a plugin; `None` where it is one."""
    if not re.fullmatch(PLUGIN_NAME, text):
        return (
            f"`{text[:96]}` is not a plugin name: use 1 to 63 of a-z, 0-9, `_`, `-`, "
            "starting with a letter or digit"
        )
    if text in RESERVED_PLUGIN_NAMES:
        return f"`{text}` cannot name a plugin: the path `/api/plugins/{text}` belongs to the host"
    return None


def problem_of_capability_name(text: str) -> str | None:
    """What is wrong with the name of a capability; `None` where it is one."""
    if len(text) <= MAX_CAPABILITY_NAME and re.fullmatch(CAPABILITY_NAME, text):
        return None
    return (
        f"`{text[:96]}` is not a capability name: use dotted words such as `llm.chat`, "
        "starting with a-z, at most 96 bytes"
    )


def numbered_id(seed: int, number: int) -> str:
    """The id of the `number`th request of the session with this 64-bit `seed`."""
    bits = (seed & _SEED_MASK) << 64 | _VERSION_AND_VARIANT | (number & _NUMBER_MASK)
    digits = f"{bits:032x}"
    return f"{digits[:8]}-{digits[8:12]}-{digits[12:16]}-{digits[16:20]}-{digits[20:]}"
