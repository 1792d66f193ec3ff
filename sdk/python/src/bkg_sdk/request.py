"""A request of the host, as a handler sees it.

Not the place to answer: a handler answers by returning. The invariant that stands behind it: each request
is answered exactly once, whatever becomes of its handler.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import functools
from datetime import timedelta
from typing import Any, TypeVar, overload

from . import call as calls
from .host import Host
from .json import Json, Misfit, RawJson, read
from .protocol import message as m
from .protocol.error import ErrorCode, WireError
from .session import Session, Ticket

T = TypeVar("T")


class Request:
    """A request that a handler answers.

    >>> from bkg_sdk import Plugin, Request
    >>> plugin = Plugin()
    >>> @plugin.answer("texts.measure")
    ... async def measure(request: Request) -> dict[str, int]:
    ...     return {"length": len(request.read(str))}
    """

    def __init__(self, message: m.Request, ticket: Ticket, session: Session, host: Host) -> None:
        self._message = message
        self._ticket = ticket
        self._session = session
        self.host = host
        """The handle to the host."""

    def read(self, type: type[T]) -> T:
        """Reads the payload as a type: a dataclass, a typed dictionary, `int`, `list[str]` …

        Raises `WireError` with `invalid_request` that names the member which does not fit. `RawJson` takes
        the payload as the text that it is.
        """
        if type is RawJson:
            return self._message.payload  # type: ignore[return-value]
        try:
            return read(self._message.payload, type)
        except Misfit as problem:
            raise problem.as_error(ErrorCode.INVALID_REQUEST, "the payload") from None

    @functools.cached_property
    def payload(self) -> Json:
        """The payload, parsed."""
        return self.read(Any)

    @property
    def capability(self) -> str:
        """What is asked for."""
        return self._message.capability

    @property
    def id(self) -> str:
        """The request's id."""
        return self._message.request_id

    @property
    def caller(self) -> m.Caller | None:
        """On whose behalf, where the host says."""
        return self._message.caller

    @property
    def credential(self) -> str | None:
        """The credential that came with the request, where the capability asks for one."""
        return self._message.token

    @property
    def timeout(self) -> float | None:
        """How long the caller waits, in seconds from when it asked. The host cancels at the end of it."""
        return None if self._message.timeout_ms is None else self._message.timeout_ms / 1000

    @property
    def http(self) -> m.HttpRequest | None:
        """The HTTP request behind it; `None` where the capability was not asked through a route."""
        return self._message.http

    def body(self) -> bytes:
        """The body of the HTTP request behind it, byte for byte.

        Of a text, of anything else that is neither JSON nor a form, and of no body, which has no bytes.
        Raises `WireError` with `invalid_request` where the body is JSON or a form, which `read` reads, or
        where there is no HTTP request.
        """
        match None if self.http is None else self.http.body:
            case "none":
                return b""
            case "text":
                return self.read(str).encode()
            case "base64":
                try:
                    return base64.b64decode(self.read(str), validate=True)
                except binascii.Error as problem:
                    raise _refused(f"the body is not base64: {problem}") from None
            case "json" | "form":
                raise _refused("the body is JSON or a form: send it as `application/octet-stream`")
            case None:
                raise _refused("there is no HTTP request: ask through the route")

    @property
    def wants_stream(self) -> bool:
        """Whether the caller wants the answer in chunks."""
        return self._message.stream

    @property
    def correlation_id(self) -> str | None:
        """The `x-request-id` of the HTTP request behind it."""
        return self._message.correlation_id

    @property
    def traceparent(self) -> str | None:
        """Where the request stands in a trace, as W3C Trace Context writes it; None if it is in none.

        Calls that are made for the request carry it on. Give it to other services that the handler asks.
        """
        return self._message.traceparent

    @property
    def cancelled(self) -> asyncio.Event:
        """Set when nobody wants the answer any more.

        An `async def` need not look at it: it is cancelled at its `await` then. It is for a plain `def`,
        which runs in a thread that nobody can end, and for work that goes on elsewhere.
        """
        return self._ticket.cancelled

    @overload
    async def call(
        self,
        capability: str,
        payload: object = None,
        *,
        timeout: float | timedelta = calls.DEFAULT_TIMEOUT,
    ) -> Json: ...

    @overload
    async def call(
        self,
        capability: str,
        payload: object = None,
        *,
        timeout: float | timedelta = calls.DEFAULT_TIMEOUT,
        read: type[T],
    ) -> T: ...

    async def call(
        self,
        capability: str,
        payload: object = None,
        *,
        timeout: float | timedelta = calls.DEFAULT_TIMEOUT,
        read: type[T] | None = None,
    ) -> T | Json:
        """Asks for another capability on behalf of this request's caller.

        With the caller's rights as far as the plugin's entry grants them, and within what is left of the
        deadline. `timeout` is in seconds, `read` a type for the answer. Raises `CallError` with why there
        is none; what escapes the handler is answered with its own code.
        """
        return await calls.call(
            self._session, capability, payload, parent=self._message, timeout=timeout, read_as=read
        )

    def call_stream(
        self,
        capability: str,
        payload: object = None,
        *,
        timeout: float | timedelta = calls.DEFAULT_TIMEOUT,
    ) -> calls.CallStream:
        """Asks for an answer in chunks on behalf of this request's caller; see `call`.

        `timeout` is how long the next chunk may take, in seconds.
        """
        return calls.CallStream(self._session, capability, payload, parent=self._message, timeout=timeout)

    def __repr__(self) -> str:
        return f"Request({self.id!r}, {self.capability!r})"


def _refused(message: str) -> WireError:
    return WireError(ErrorCode.INVALID_REQUEST, message)


class Owed:
    """The duty to answer a request."""

    def __init__(self, session: Session, request_id: str) -> None:
        self._session = session
        self._request_id = request_id
        self.is_settled = False
        """Whether it was answered."""

    def settle(self, outcome: RawJson | WireError) -> None:
        """Answers, if nothing was answered yet."""
        if not self.is_settled:
            self.is_settled = True
            self._session.answer(self._request_id, outcome)
