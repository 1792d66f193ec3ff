"""A small chaos proxy for TCP: what lies between a client and the host, and goes wrong there.

One listener on a port of the kernel's, one upstream. It forwards bytes and knows no protocol; `stall` holds
them back, `slow` lets through so many a second, `cut` resets every connection.
"""

import asyncio
import contextlib
import socket
import struct


class Proxy:
    """The listener and what happens to bytes on their way."""

    def __init__(self, upstream: int) -> None:
        self.upstream = upstream
        self.port = 0
        self.bytes_per_second: float | None = None
        self.flowing = asyncio.Event()
        self.flowing.set()
        self.server: asyncio.Server | None = None
        self.writers: set[asyncio.StreamWriter] = set()
        self.tasks: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> "Proxy":
        self.server = await asyncio.start_server(self._accept, "127.0.0.1", 0, limit=64 << 10)
        self.port = self.server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self.server is not None
        self.server.close()
        self.cut()
        await asyncio.gather(*self.tasks, return_exceptions=True)

    def stall(self) -> None:
        """Nothing passes, and nobody is told."""
        self.flowing.clear()

    def resume(self) -> None:
        """Everything passes again."""
        self.flowing.set()
        self.bytes_per_second = None

    def slow(self, bytes_per_second: float) -> None:
        """So much passes on each connection, in each direction."""
        self.bytes_per_second = bytes_per_second

    def cut(self) -> None:
        """Resets every connection that is open, on both sides."""
        self.flowing.set()
        for writer in self.writers:
            handle = writer.get_extra_info("socket")
            with contextlib.suppress(OSError):
                handle.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            writer.transport.abort()
        self.writers.clear()

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            far_reader, far_writer = await asyncio.open_connection(
                "127.0.0.1", self.upstream, limit=64 << 10
            )
        except OSError:
            writer.transport.abort()
            return
        self.writers |= {writer, far_writer}
        for source, sink in ((reader, far_writer), (far_reader, writer)):
            task = asyncio.create_task(self._carry(source, sink))
            self.tasks.add(task)
            task.add_done_callback(self.tasks.discard)

    async def _carry(self, source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            while True:
                await self.flowing.wait()
                rate = self.bytes_per_second
                piece = await source.read(64 << 10 if rate is None else max(1, int(rate / 20)))
                await self.flowing.wait()
                if not piece:
                    break
                sink.write(piece)
                await sink.drain()
                if rate:
                    await asyncio.sleep(len(piece) / rate)
            sink.write_eof()
        if source.at_eof() and sink.is_closing():
            self.writers.discard(sink)
