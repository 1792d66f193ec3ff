"""What a plugin answers, and with which handlers.

A capability may answer at once, in chunks, or both; the caller says which it wants. Properties such as
`idempotent` are promises to the host: it acts on them.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from concurrent.futures import Executor
from datetime import timedelta
from typing import Any, TypeAlias

from .call import seconds
from .error import DefinitionError
from .json import raw
from .log import current_request
from .protocol import message as m
from .protocol.error import ErrorCode, WireError
from .protocol.name import problem_of_capability_name
from .request import Owed, Request
from .session import Session, Ticket
from .stream import ChunkSink
from .work import run_work

logger = logging.getLogger("bkg_sdk")

AnswerHandler: TypeAlias = Callable[[Request], Awaitable[object] | object]
"""Answers with one value; a plain `def` is run in a thread."""
StreamHandler: TypeAlias = Callable[[Request, ChunkSink], Awaitable[object] | object]
"""Answers in chunks; what it returns is the `data` of the final answer, mostly `None`."""


class Capability:
    """Something that a plugin answers: by `answer`, by `stream` or by both.

    `description` is one sentence for people; the schemas are JSON Schemas. `idempotent` promises that
    asking twice does no more than asking once: the host may try again elsewhere. `side_effect` says that it
    changes something outside the plugin. `timeout` is how long one request may take, in seconds, unless its
    caller wants less; `max_concurrency` how many requests one instance takes at a time. `routes` are pairs
    of an HTTP method and a path below `/api/plugins/<name>`, where `{name}` stands for one segment and
    `{*name}` at the end for all that is left; they are answered at once where there is `answer`, else in
    chunks. `streaming_routes` are answered in chunks in any case.

    >>> from bkg_sdk import Plugin, Request
    >>> async def lookup(request: Request) -> dict[str, str]:
    ...     return {"word": request.read(str)}
    >>> plugin = Plugin()
    >>> plugin.capability(Capability("dictionary.lookup", answer=lookup, idempotent=True))
    """

    def __init__(
        self,
        name: str,
        *,
        answer: AnswerHandler | None = None,
        stream: StreamHandler | None = None,
        description: str | None = None,
        input_schema: Any = None,
        output_schema: Any = None,
        idempotent: bool = False,
        side_effect: bool = False,
        timeout: float | timedelta | None = None,
        max_concurrency: int | None = None,
        routes: Sequence[tuple[str, str]] = (),
        streaming_routes: Sequence[tuple[str, str]] = (),
    ) -> None:
        self.name = name
        """The dotted name."""
        self.answer = answer
        """Who answers at once."""
        self.stream = stream
        """Who answers in chunks."""
        self.described = m.DescribedCapability(
            name,
            description=description,
            input_schema=input_schema,
            output_schema=output_schema,
            streaming=stream is not None,
            idempotent=idempotent,
            side_effect=side_effect,
            timeout_ms=None if timeout is None else round(seconds(timeout) * 1000),
            max_concurrency=max_concurrency,
        )
        """What the registration says of it."""
        at_once = answer is not None
        self.routes = [m.Route(method, path, name, streaming=not at_once) for method, path in routes]
        """Its HTTP routes."""
        self.routes += [m.Route(method, path, name, streaming=True) for method, path in streaming_routes]

    def mistake(self) -> DefinitionError | None:
        """What is wrong with it, if anything."""
        problem = problem_of_capability_name(self.name)
        if problem is not None:
            return DefinitionError(problem)
        if self.answer is None and self.stream is None:
            return DefinitionError(
                f"the capability `{self.name}` has no handler: give it `answer`, `stream` or both"
            )
        return None

    def joined_with(self, other: Capability) -> Capability | DefinitionError:
        """One capability with the handlers of both, and whatever either says of it."""
        if (self.answer and other.answer) or (self.stream and other.stream):
            return DefinitionError(
                f"the capability `{self.name}` is defined twice: give it one `answer` and one `stream`"
            )
        ours, theirs = self.described, other.described
        joined = Capability(
            self.name,
            answer=self.answer or other.answer,
            stream=self.stream or other.stream,
            description=ours.description if theirs.description is None else theirs.description,
            input_schema=ours.input_schema if theirs.input_schema is None else theirs.input_schema,
            output_schema=ours.output_schema if theirs.output_schema is None else theirs.output_schema,
            idempotent=ours.idempotent or theirs.idempotent,
            side_effect=ours.side_effect or theirs.side_effect,
            timeout=_later(ours.timeout_ms, theirs.timeout_ms, 0.001),
            max_concurrency=ours.max_concurrency
            if theirs.max_concurrency is None
            else theirs.max_concurrency,
        )
        joined.routes = self.routes + other.routes
        return joined

    def __repr__(self) -> str:
        return f"Capability({self.name!r})"


def _later(ours: int | None, theirs: int | None, unit: float) -> float | None:
    said = ours if theirs is None else theirs
    return None if said is None else said * unit


class Handlers:
    """The code that answers one capability."""

    def __init__(self, capability: Capability, threads: Executor) -> None:
        self._capability = capability
        self._threads = threads

    async def work(self, owed: Owed, request: Request, ticket: Ticket, session: Session) -> None:
        """Answers one request: by what the handler returns, by `cancelled` where nobody waits any more, or
        by a failure where the handler breaks."""
        current_request.set(request.id)
        try:
            owed.settle(raw(await self._handled(request, ticket, session)))
        except WireError as error:
            owed.settle(error)
        except asyncio.CancelledError:
            owed.settle(unfinished(ticket))
            raise
        except (Exception, SystemExit) as problem:
            # `sys.exit`, as `argparse` calls it, is the end of this handler and not of the plugin.
            if ticket.cancelled.is_set():
                return
            name, kind = self._capability.name, type(problem).__name__
            logger.exception("a handler failed", extra={"capability": name})
            failure = f"the handler of `{name}` failed with `{kind}`: see the plugin's log"
            owed.settle(WireError(ErrorCode.PLUGIN_ERROR, failure))

    async def _handled(self, request: Request, ticket: Ticket, session: Session) -> object:
        capability = self._capability
        if capability.stream is not None and request.wants_stream:
            return await run_work(
                self._threads, capability.stream, request, ChunkSink(session, ticket, request.id)
            )
        # One answer without chunks is a valid answer to a request for a stream.
        if capability.answer is not None:
            return await run_work(self._threads, capability.answer, request)
        raise WireError(
            ErrorCode.INVALID_REQUEST,
            f"`{capability.name}` answers in a stream only: ask with `stream`",
        )


def unfinished(ticket: Ticket) -> WireError:
    """What a request is answered whose handler went without a word."""
    if ticket.cancelled.is_set():
        return WireError(ErrorCode.CANCELLED, "the request was cancelled")
    return WireError(ErrorCode.PLUGIN_ERROR, "the handler ended before it answered")


Work: TypeAlias = Coroutine[Any, Any, None]
"""What runs beside the session."""
