"""Where a handler puts the parts of a streamed answer.

The invariant: no more chunks are under way than the caller gave credit for. Whoever sends faster than the
caller reads waits here; whoever sends for a caller who has left gets an error.
"""

from __future__ import annotations

from .error import ChunkTooLarge, StreamOver
from .json import raw
from .protocol.inbound import ChunkRefused
from .session import Session, Ticket


class ChunkSink:
    """Where a handler puts the parts of a streamed answer.

    >>> from bkg_sdk import ChunkSink, Plugin, Request
    >>> plugin = Plugin()
    >>> @plugin.stream("counter.count")
    ... async def count(request: Request, chunks: ChunkSink) -> None:
    ...     for number in range(request.read(int)):
    ...         await chunks.send(number)
    """

    def __init__(self, session: Session, ticket: Ticket, request_id: str) -> None:
        self._session = session
        self._ticket = ticket
        self._request_id = request_id

    async def send(self, chunk: object) -> None:
        """Sends one part; waits while the caller has yet to read what it got.

        Raises `StreamOver` where nobody waits any more, and `ChunkTooLarge` where the part is larger than
        the host takes: nothing was sent then, and smaller parts may follow. Raises `TypeError` where the
        part has no JSON form.
        """
        data = raw(chunk)
        while True:
            await self._session.room()
            self._ticket.credit.clear()
            refused = self._session.chunk(self._request_id, data)
            if refused is None:
                return
            if refused is ChunkRefused.TOO_LARGE:
                raise ChunkTooLarge(len(bytes(data)), self._session.granted.max_chunk_bytes)
            if refused is not ChunkRefused.NO_CREDIT or self._ticket.cancelled.is_set():
                raise StreamOver
            await self._ticket.credit.wait()
