"""What a request asks the plugin to do: the member `script` of its body.

Clients that cannot send members of their own choose a model instead, which stands for a script. What is
not understood is refused by name: a test that misspells something must not pass.
"""

from typing import Any

import msgspec
from bkg_sdk import ErrorCode, WireError


class Failure(msgspec.Struct, rename="camel", forbid_unknown_fields=True):
    """An error as it travels."""

    code: str = "plugin_error"
    message: str = "it failed because it was told to"
    retryable: bool | None = None
    retry_after_ms: int | None = None
    param: str | None = None
    details: Any = None

    def as_error(self) -> WireError:
        """The exception that answers with it."""
        after = None if self.retry_after_ms is None else self.retry_after_ms / 1000
        return WireError(
            self.code,
            self.message,
            param=self.param,
            retryable=self.retryable,
            retry_after=after,
            details=self.details,
        )


class Script(msgspec.Struct, rename="camel", forbid_unknown_fields=True):
    """How one request is answered; the defaults answer at once and well."""

    say: str | None = None
    """The text of the answer, instead of one that repeats what was asked."""
    delay_ms: float | None = None
    """The wait before each part; of a whole answer, once for each part that a stream would have."""
    first_delay_ms: float = 0
    """The wait before anything."""
    fail: Failure | None = None
    """The failure instead of an answer, or after `break_after` parts."""
    break_after: int | None = None
    """After how many parts of a stream it fails."""
    times: int | None = None
    """How often it fails; later requests of the same `name` are answered."""
    name: str = ""
    """Which requests are counted together."""
    usage: bool = True
    """Whether the answer says how many tokens it took."""
    stall: bool = False
    """Whether it never answers, and waits to be cancelled."""


# What the models stand for, by what follows the prefix.
SCRIPTS = {
    "chat": Script(),
    "slow": Script(delay_ms=20),
    "stalls": Script(stall=True),
    "fails": Script(fail=Failure()),
    "busy": Script(fail=Failure("rate_limited", "it is busy because it was told to", retry_after_ms=1000)),
    "breaks": Script(fail=Failure(message="it broke half way because it was told to"), break_after=3),
}


def script_of(body: dict[str, Any], prefix: str) -> Script:
    """The script that a request asks for; its own one wins over that of the model.

    Raises `WireError` with `invalid_request` for a script that is not understood.
    """
    model = str(body.get("model", "")).removeprefix(prefix)
    if body.get("script") is None:
        return SCRIPTS.get(model, Script())
    try:
        return msgspec.convert(body["script"], Script)
    except msgspec.ValidationError as problem:
        message = f"`script` is not understood: {problem}"
        raise WireError(ErrorCode.INVALID_REQUEST, message, param="script") from None
