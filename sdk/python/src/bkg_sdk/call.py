"""Asking for a capability, through the host, of whichever plugin has it.

Every call has a deadline, and a call that is left before its answer is cancelled: nobody works for someone
who has gone. Used through `Host.call`, `Request.call` and their streaming siblings.
"""

from __future__ import annotations

import asyncio
import contextlib
from datetime import timedelta
from types import TracebackType
from typing import Any, TypeVar

from .error import CallError, CallFailed, CallTooLarge, Disconnected, NotConnected, TimedOut
from .json import Json, Misfit, RawJson, raw, read
from .protocol import message as m
from .protocol.error import ErrorCode, WireError
from .protocol.exchange import FrameTooLarge, NotOpen, Outcome
from .protocol.name import problem_of_capability_name
from .session import Session, Waiter

T = TypeVar("T")

DEFAULT_TIMEOUT = 60.0
"""How long a call may take that does not say, in seconds."""


def seconds(time: float | timedelta) -> float:
    """A time as seconds."""
    return time.total_seconds() if isinstance(time, timedelta) else float(time)


class _Asked:
    """A request that is out."""

    def __init__(self, session: Session, request: m.Request, waiter: Waiter, timeout: float) -> None:
        self.session = session
        self.capability = request.capability
        self.waiter = waiter
        self.timeout = timeout
        self.is_over = False
        started = session.start(request, waiter)
        if isinstance(started, NotOpen):
            raise NotConnected
        if isinstance(started, FrameTooLarge):
            raise CallTooLarge(str(started))
        self.request_id = started

    async def outcome(self) -> RawJson:
        """The answer. Left before it came, the request is cancelled."""
        try:
            async with asyncio.timeout(self.timeout):
                # Shielded, so that a deadline leaves the future to the session, which may fulfil it.
                outcome = await asyncio.shield(self.waiter.answer)
        except TimeoutError:
            raise self.timed_out() from None
        except asyncio.CancelledError:
            self.give_up(m.CancelReason.CALLER_GONE)
            raise
        self.is_over = True
        return _answered(outcome)

    def timed_out(self) -> TimedOut:
        """The deadline has passed."""
        self.give_up(m.CancelReason.DEADLINE)
        return TimedOut(self.capability, self.timeout)

    def give_up(self, reason: m.CancelReason) -> None:
        """Nobody waits any more."""
        if not self.is_over:
            self.is_over = True
            self.session.give_up(self.request_id, reason)


def _answered(outcome: Outcome | None) -> RawJson:
    if outcome is None:
        raise Disconnected
    if isinstance(outcome, WireError):
        raise CallFailed(outcome)
    return outcome


async def _ask(
    session: Session | None,
    capability: str,
    payload: object,
    parent: m.Request | None,
    timeout: float,
    *,
    stream: bool,
) -> _Asked:
    problem = problem_of_capability_name(capability)
    if problem is not None:
        raise CallError(ErrorCode.PLUGIN_ERROR, problem)
    if session is None:
        raise NotConnected
    request = m.Request(
        request_id="",
        capability=capability,
        payload=raw(payload),
        stream=stream,
        credit=session.granted.stream_credit if stream else None,
        # Less than a millisecond must not read as none at all.
        timeout_ms=max(1, round(timeout * 1000)),
        parent_request_id=None if parent is None else parent.request_id,
        traceparent=None if parent is None else parent.traceparent,
    )
    try:
        async with asyncio.timeout(timeout):
            await session.room()
    except TimeoutError:
        raise TimedOut(capability, timeout) from None
    return _Asked(session, request, Waiter(streams=stream), timeout)


async def call(
    session: Session | None,
    capability: str,
    payload: object,
    *,
    parent: m.Request | None,
    timeout: float | timedelta,
    read_as: type[T] | None,
) -> T | Json:
    """Asks, and waits for the answer."""
    asked = await _ask(session, capability, payload, parent, seconds(timeout), stream=False)
    return _read(capability, await asked.outcome(), read_as)


def _read(capability: str, answer: RawJson, read_as: type[T] | None) -> T | Json:
    if read_as is RawJson:
        return answer
    try:
        return read(answer, Any if read_as is None else read_as)
    except Misfit as problem:
        raise problem.as_error(ErrorCode.PLUGIN_ERROR, f"the answer of `{capability}`") from None


class CallStream:
    """An answer in chunks: iterate over them, then ask for the `outcome`.

    It asks when the first chunk is awaited. Left before its end, by `break`, by an error or by a cancel,
    the request is cancelled; `async with` makes that certain.

    >>> from bkg_sdk import Host
    >>> async def read_all(host: Host) -> None:
    ...     async with host.call_stream("other.numbers") as stream:
    ...         async for number in stream:
    ...             print(number)
    ...         await stream.outcome()
    """

    def __init__(
        self,
        session: Session | None,
        capability: str,
        payload: object,
        *,
        parent: m.Request | None,
        timeout: float | timedelta,
    ) -> None:
        self._session = session
        self._capability = capability
        self._payload = payload
        self._parent = parent
        self._timeout = seconds(timeout)
        self._asked: _Asked | None = None
        self._is_read = False
        # How many chunks were taken that the sender has no new credit for yet.
        self._taken = 0
        self._loop = asyncio.get_running_loop()

    def __aiter__(self) -> CallStream:
        return self

    async def __anext__(self) -> Json:
        """The next chunk; whether the end is a good one, `outcome` says.

        Raises `TimedOut` where no chunk came within the call's timeout; the stream is over then. Raises the
        reasons of `Host.call` where it was never asked for.
        """
        asked = await self._start()
        chunks = asked.waiter.chunks
        assert chunks is not None, "a call that streams has a place for chunks"
        if self._is_read:
            raise StopAsyncIteration
        try:
            async with asyncio.timeout(asked.timeout):
                chunk = await chunks.get()
        except TimeoutError:
            self._is_read = True
            raise asked.timed_out() from None
        except asyncio.CancelledError:
            asked.give_up(m.CancelReason.CALLER_GONE)
            raise
        if chunk is None:
            self._is_read = True
            raise StopAsyncIteration
        self._taken += 1
        # Half of the credit is worth a message.
        if self._taken >= max(1, asked.session.granted.stream_credit // 2):
            asked.session.grant(asked.request_id, self._taken)
            self._taken = 0
        return _read(self._capability, chunk, None)

    async def outcome(self) -> Json:
        """The final answer, after the last chunk.

        Raises why the stream is not complete. Chunks that were not taken make it `TimedOut` once the sender
        is out of credit, so take them all first.
        """
        return _read(self._capability, await (await self._start()).outcome(), None)

    async def _start(self) -> _Asked:
        if self._asked is None:
            self._asked = await _ask(
                self._session, self._capability, self._payload, self._parent, self._timeout, stream=True
            )
        return self._asked

    async def aclose(self) -> None:
        """Nothing more is wanted: cancels the request, if it is not over."""
        self._leave()

    def _leave(self) -> None:
        self._is_read = True
        if self._asked is not None and not self._asked.waiter.answer.done():
            self._asked.give_up(m.CancelReason.CALLER_GONE)

    async def __aenter__(self) -> CallStream:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._leave()

    def __del__(self) -> None:
        if self._asked is not None and not self._asked.is_over:
            # Whoever collects garbage may be another thread, and the loop may be gone.
            with contextlib.suppress(RuntimeError):
                self._loop.call_soon_threadsafe(self._leave)
