"""What a request is refused with: the code of the protocol, and a sentence.

Not a wire error: `plugin.py` and `twin.py` make theirs of it, so that everything below them needs neither
bus nor HTTP. Every other exception that leaves a capability is a fault of this plugin.
"""

import errno
from typing import Any, Literal

Code = Literal[
    "invalid_request", "not_found", "conflict", "payload_too_large", "overloaded", "timeout", "internal"
]


class Refusal(Exception):
    """Says what happened, to what, and what to do next; `param` is the member of the payload."""

    def __init__(
        self, code: Code, message: str, *, param: str | None = None, details: dict[str, Any] | None = None
    ) -> None:
        super().__init__(message)
        self.code: Code = code
        self.message = message
        self.param = param
        self.details = details


# The operating system's reasons that a caller can do something about.
_CODES: dict[int, Code] = {
    errno.ENOENT: "not_found",
    errno.ENOTDIR: "invalid_request",
    errno.EISDIR: "invalid_request",
    errno.ENAMETOOLONG: "invalid_request",
    errno.EILSEQ: "invalid_request",
    errno.EINVAL: "invalid_request",
    errno.EACCES: "conflict",
    errno.EPERM: "conflict",
    errno.EROFS: "conflict",
    errno.EEXIST: "conflict",
    errno.EBUSY: "conflict",
    errno.ETXTBSY: "conflict",
    errno.EMFILE: "overloaded",
    errno.ENFILE: "overloaded",
}


def from_os(error: OSError, what: str, *, param: str | None = None) -> Refusal:
    """The refusal for an error of the operating system; `what` says what was tried, `cannot open `x``."""
    code = _CODES.get(error.errno or 0, "internal")
    reason = (error.strerror or "an unknown error").lower()
    return Refusal(code, f"{what}: {reason}", param=param)
