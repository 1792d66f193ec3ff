"""Why a plugin ends other than by being told to, and why a call or a chunk failed.

    BkgError
    ├── RunError                 why a plugin ended, with an exit code
    │   ├── MissingEnvironment   78: a variable that the host sets is not set
    │   ├── WrongEnvironment     78: a variable has the wrong form
    │   ├── DefinitionError      78: the plugin describes itself wrongly
    │   ├── Rejected             78: the host refused the registration
    │   └── Unreachable          69: no session could be had for too long
    └── WireError                a failure that travels to whoever asked
        ├── CallError            a call has no answer
        │   ├── NotConnected     there is no session with the host now
        │   ├── CallTooLarge     the payload is larger than the host takes
        │   ├── TimedOut         the deadline passed
        │   ├── Disconnected     the session ended before the answer
        │   └── CallFailed       whoever answered reported a failure
        └── SendError            a chunk was not sent
            ├── StreamOver       nobody waits for the stream any more
            └── ChunkTooLarge    the chunk is larger than the host takes

Whatever of the lower half escapes a handler is answered with its own code.
"""

from __future__ import annotations

from .protocol.error import BkgError, ErrorCode, WireError

__all__ = [
    "BkgError",
    "CallError",
    "CallFailed",
    "CallTooLarge",
    "ChunkTooLarge",
    "DefinitionError",
    "Disconnected",
    "ErrorCode",
    "MissingEnvironment",
    "NotConnected",
    "Rejected",
    "RunError",
    "SendError",
    "StreamOver",
    "TimedOut",
    "Unreachable",
    "WireError",
    "WrongEnvironment",
]


class RunError(BkgError):
    """Why a plugin ended.

    >>> MissingEnvironment("BKG_PLUGIN_TOKEN").exit_code
    78
    """

    exit_code: int = 78
    """The process's exit code, in the manner of `sysexits.h`: 78 where something must be changed before
    another launch can work, 69 where the host is away."""


class MissingEnvironment(RunError):
    """A variable is not set.

    >>> str(MissingEnvironment("BKG_PLUGIN_NAME")).split(":")[0]
    '`BKG_PLUGIN_NAME` is not set'
    """

    def __init__(self, variable: str) -> None:
        super().__init__(
            f"`{variable}` is not set: the host sets it when it launches a plugin, for example by "
            "`bkg plugin start`; to try a plugin without a host, use `bkg_sdk.testing`"
        )
        self.variable = variable


class WrongEnvironment(RunError):
    """A variable has the wrong form.

    >>> str(WrongEnvironment("BKG_PLUGIN_NAME", "`No Name` is not a plugin name"))
    '`BKG_PLUGIN_NAME`: `No Name` is not a plugin name'
    """

    def __init__(self, variable: str, problem: str) -> None:
        super().__init__(f"`{variable}`: {problem}")
        self.variable = variable


class DefinitionError(RunError):
    """What is wrong with a plugin's description of itself.

    >>> DefinitionError("the capability `a.b` has no handler").exit_code
    78
    """


class Rejected(RunError):
    """The host refused the registration; another try would meet the same answer.

    `code` is the error code, or the WebSocket close code where the host gave no other.

    >>> str(Rejected("forbidden", "not in the entry"))
    'the host refused the registration: not in the entry (forbidden)'
    """

    def __init__(self, code: str, message: str) -> None:
        super().__init__(f"the host refused the registration: {message} ({code})")
        self.code = code
        self.message = message


class Unreachable(RunError):
    """No session could be had with the host for too long; `patience` is in seconds.

    >>> Unreachable("ws://127.0.0.1:1", 30.0, "refused").exit_code
    69
    """

    exit_code = 69

    def __init__(self, url: str, patience: float, reason: str) -> None:
        super().__init__(f"no session with the host at `{url}` for {patience:g} s, giving up: {reason}")
        self.url = url
        self.reason = reason


class CallError(WireError):
    """Why a call has no answer. Escaping a handler, it answers `plugin_error` unless it says otherwise.

    >>> issubclass(TimedOut, CallError)
    True
    """


class NotConnected(CallError):
    """There is no session with the host at this moment.

    >>> NotConnected().code
    'plugin_error'
    """

    def __init__(self) -> None:
        message = "there is no session with the host now: try again when it is back"
        super().__init__(ErrorCode.PLUGIN_ERROR, message)


class CallTooLarge(CallError):
    """The payload is larger than the host takes.

    >>> CallTooLarge("the request has 9 bytes").message
    'the payload is too large: the request has 9 bytes'
    """

    def __init__(self, problem: str) -> None:
        super().__init__(ErrorCode.PLUGIN_ERROR, f"the payload is too large: {problem}")


class TimedOut(CallError):
    """The deadline passed. The host was told that nobody waits any more.

    >>> TimedOut("llm.embed", 0.5).message
    '`llm.embed` did not answer within 500 ms'
    """

    def __init__(self, capability: str, timeout: float) -> None:
        super().__init__(
            ErrorCode.TIMEOUT, f"`{capability}` did not answer within {round(timeout * 1000)} ms"
        )
        self.capability = capability


class Disconnected(CallError):
    """The session ended before the answer: whether the work was done is unknown.

    >>> Disconnected().code
    'plugin_error'
    """

    def __init__(self) -> None:
        super().__init__(ErrorCode.PLUGIN_ERROR, "the session with the host ended before the answer came")


class CallFailed(CallError):
    """Whoever answered reported a failure: this is it, member by member.

    >>> CallFailed(WireError("not_found", "no such page")).code
    'not_found'
    """

    def __init__(self, error: WireError) -> None:
        super().__init__(
            error.code,
            error.message,
            param=error.param,
            retryable=error.retryable,
            retry_after=error.retry_after,
            details=error.details,
        )


class SendError(WireError):
    """Why a chunk was not sent.

    >>> issubclass(StreamOver, SendError)
    True
    """


class StreamOver(SendError):
    """The request was cancelled, or its session is gone: stop working.

    >>> StreamOver().code
    'cancelled'
    """

    def __init__(self) -> None:
        super().__init__(ErrorCode.CANCELLED, "nobody waits for this stream any more")


class ChunkTooLarge(SendError):
    """The chunk is larger than the host takes; the stream goes on. In bytes.

    >>> ChunkTooLarge(2002, 1000).limit
    1000
    """

    def __init__(self, size: int, limit: int) -> None:
        super().__init__(
            ErrorCode.PAYLOAD_TOO_LARGE,
            f"the chunk has {size} bytes, the limit is {limit}: send smaller chunks",
        )
        self.size = size
        self.limit = limit
