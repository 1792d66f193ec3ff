"""The one table of error codes, and an error as it travels.

The table is that of `docs/protocol.md`, section 10; a test compares the two. Not the errors of the SDK
itself: those are in `bkg_sdk.error`, which draws the whole tree.
"""

from __future__ import annotations

import math
from datetime import timedelta
from enum import StrEnum
from typing import Any

import msgspec


class BkgError(Exception):
    """Whatever this package raises; `bkg_sdk.error` draws the tree.

    >>> issubclass(WireError, BkgError)
    True
    """


class ErrorCode(StrEnum):
    """What went wrong, as one word that programs can rely on.

    The host keeps the HTTP status of some codes when a plugin says them; all others become 502.

    >>> ErrorCode.NOT_FOUND == "not_found"
    True
    """

    INVALID_REQUEST = "invalid_request"
    """The request is not valid: its syntax, a parameter, or a combination of them."""
    UNAUTHORIZED = "unauthorized"
    """The credential is missing, unknown, expired or revoked."""
    FORBIDDEN = "forbidden"
    """The caller lacks the scope."""
    REAUTH_REQUIRED = "reauth_required"
    """The action needs a login session younger than five minutes."""
    NOT_FOUND = "not_found"
    """What was named does not exist."""
    MODEL_NOT_FOUND = "model_not_found"
    """No plugin offers the model, or the caller may not use it."""
    METHOD_NOT_ALLOWED = "method_not_allowed"
    """The path exists, but not with this HTTP method."""
    CONFLICT = "conflict"
    """The state changed meanwhile, or does not allow the action."""
    PAYLOAD_TOO_LARGE = "payload_too_large"
    """The body, frame or answer is larger than the limit."""
    UNSUPPORTED_MEDIA_TYPE = "unsupported_media_type"
    """The body's content type is not one that the route reads."""
    MISDIRECTED_REQUEST = "misdirected_request"
    """The request was sent to a server that does not answer for that host name."""
    INVALID_CONFIG = "invalid_config"
    """The configuration breaks its schema."""
    RATE_LIMITED = "rate_limited"
    """Too many requests in too short a time."""
    QUOTA_EXCEEDED = "quota_exceeded"
    """The budget of the key or user is used up."""
    CANCELLED = "cancelled"
    """The request was cancelled by its caller."""
    INTERNAL = "internal"
    """The host failed."""
    PLUGIN_ERROR = "plugin_error"
    """The plugin failed, or its answer broke the protocol."""
    PLUGIN_DISCONNECTED = "plugin_disconnected"
    """The plugin's session ended before it answered."""
    PLUGIN_UNAVAILABLE = "plugin_unavailable"
    """No ready instance serves the capability."""
    OVERLOADED = "overloaded"
    """The queue is full, or waiting in it took too long."""
    TIMEOUT = "timeout"
    """The deadline passed before the answer came."""
    INSUFFICIENT_STORAGE = "insufficient_storage"
    """There is no room on the disk for the write."""


def unicode_text(value: object) -> str:
    """The text of a value, with `?` for what no frame can carry, such as a byte of a file name that is not
    UTF-8.

    >>> unicode_text(ValueError("caf\\udce9"))
    'caf?'
    """
    return str(value).encode(errors="replace").decode()


class WireError(BkgError):
    """A failure that travels to whoever asked: raise it in a handler to answer with it.

    `code` is an `ErrorCode` or a word of your own. `message` says what happened, to what, and what to do
    next. `param` names the parameter that was wrong, as a path such as `messages[0].role`. `retryable` says
    whether the same request may succeed later, `retry_after` after how many seconds. `details` is any JSON
    that helps.

    >>> error = WireError(ErrorCode.INVALID_REQUEST, "`n` is a number from 0 on", param="n")
    >>> str(error)
    '`n` is a number from 0 on (invalid_request)'
    """

    code: str
    message: str
    param: str | None
    retryable: bool | None
    retry_after: float | None
    details: Any

    def __init__(
        self,
        code: ErrorCode | str,
        message: str,
        *,
        param: str | None = None,
        retryable: bool | None = None,
        retry_after: float | timedelta | None = None,
        details: Any = None,
    ) -> None:
        # A failure must travel whatever is put into it, such as the exception itself as `message`.
        message = unicode_text(message)
        super().__init__(message)
        self.code = unicode_text(code)
        self.message = message
        self.param = None if param is None else unicode_text(param)
        self.retryable = None if retryable is None else bool(retryable)
        after = retry_after.total_seconds() if isinstance(retry_after, timedelta) else retry_after
        self.retry_after = after if after is not None and math.isfinite(after) else None
        self.details = details

    def __str__(self) -> str:
        return f"{self.message} ({self.code})"

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.code!r}, {self.message!r})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, WireError) and self._members() == other._members()

    def __hash__(self) -> int:
        return hash((self.code, self.message))

    def _members(self) -> dict[str, Any]:
        """The error as it travels: what is absent is left out."""
        members: dict[str, Any] = {"code": self.code, "message": self.message}
        if self.retryable is not None:
            members["retryable"] = self.retryable
        if self.retry_after is not None:
            members["retryAfterMs"] = max(0, round(self.retry_after * 1000))
        if self.param is not None:
            members["param"] = self.param
        if self.details is not None:
            members["details"] = self.details
        return members


def error_to_raw(error: WireError) -> msgspec.Raw:
    """The JSON of an error. What of `details` has no JSON form is left out: the failure matters more."""
    members = error._members()
    try:
        text = msgspec.json.encode(members)
        if error.details is not None:
            # It may hold raw text that is no JSON.
            msgspec.json.decode(text)
    except (TypeError, ValueError, RecursionError, msgspec.MsgspecError):
        members.pop("details", None)
        text = msgspec.json.encode(members)
    return msgspec.Raw(text)


def error_of_raw(raw: msgspec.Raw) -> WireError:
    """Reads an error of any shape: a text, an object, or whatever else was put there.

    A strange shape must not turn a failure into a frame that leaves its caller waiting.
    """
    text = bytes(raw)
    found = msgspec.json.decode(text)
    if isinstance(found, str):
        return WireError(ErrorCode.PLUGIN_ERROR, found)
    if not isinstance(found, dict):
        return WireError(ErrorCode.PLUGIN_ERROR, text.decode())
    code, message = found.get("code"), found.get("message")
    retryable, after, param = found.get("retryable"), found.get("retryAfterMs"), found.get("param")
    if isinstance(code, (int, float)) and not isinstance(code, bool):
        code = str(code)
    return WireError(
        code if isinstance(code, str) and code else ErrorCode.PLUGIN_ERROR,
        message if isinstance(message, str) else text.decode(),
        param=param if isinstance(param, str) else None,
        retryable=retryable if isinstance(retryable, bool) else None,
        retry_after=after / 1000 if type(after) is int and after < 1 << 64 else None,
        details=found.get("details"),
    )
