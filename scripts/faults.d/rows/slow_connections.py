"""Very many connections that send nothing, next to nothing, or have nothing to say."""

import asyncio
import base64
import contextlib
import os
import resource
from dataclasses import dataclass

from faultsuite.client import now_ms
from faultsuite.stage import Stage, ledger
from faultsuite.trial import Trial, row
from faultsuite.vitals import MIB, Vitals

DEADLINE_MS = 10_000
CONFIG = "limits.connections = 16384"
# A pong without a payload; masked with zero.
PONG = bytes([0x8A, 0x80, 0, 0, 0, 0])
# How many are opened at once.
AT_ONCE = 20


@row(
    "slow-connections",
    fault="1,000 slow-header + 1,000 silent connections + 10,000 idle WebSockets",
    bar="slow ones closed at their deadline, witness holds, memory ≤ 300 MiB",
)
async def slow_connections(trial: Trial) -> None:
    """The WebSockets are opened first, with the root key, and follow nothing; then silent connections, and
    connections that send a byte of a head every second. When the slow ones are closed, by the host, every
    WebSocket must still be open. Memory is the host's resident set, looked at fifty times a second."""
    slow, idle = trial.count(100, 1_000), trial.count(500, 10_000)
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    wanted = idle + 2 * slow + 500
    if most < wanted:
        trial.skip(f"it takes {wanted} descriptors, and the system allows {most}")
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    async with trial.stage(ledger(), config=CONFIG) as stage:
        await stage.before()
        resource.prlimit(stage.pid, resource.RLIMIT_NOFILE, (most, most))
        async with stage.watched() as peak:
            sockets: list[Follower] = []
            while len(sockets) < idle:
                count = min(AT_ONCE, idle - len(sockets))
                sockets += await asyncio.gather(*(Follower.open(stage) for _ in range(count)))
            costs = Vitals.of(stage.pid).memory
            closed = await asyncio.gather(
                *(silent(stage) for _ in range(slow)), *(slow_head(stage) for _ in range(slow))
            )
        latest = [max(one.since_open for one in part) for part in (closed[:slow], closed[slow:])]
        trial.within("until the last silent one was closed", latest[0], DEADLINE_MS + 1_000)
        trial.within("until the last slow one was closed", latest[1], DEADLINE_MS + 1_000)
        early = [one for one in closed if one.since_dialled < DEADLINE_MS]
        trial.none("slow ones that were closed too early", early)
        trial.none("WebSockets that did not stay open", [one for one in sockets if one.reading.done()])
        assert stage.baseline is not None, "the baseline is taken first"
        each = (costs - stage.baseline.memory) / idle / 1024
        trial.figure("memory of an idle WebSocket", f"{each:.1f} KiB", "shown only", True)
        trial.at_most("memory of the host, at the most", peak.memory / MIB, 300, "MiB")
        for one in sockets:
            one.close()


class Follower:
    """A WebSocket that follows nothing and answers pings."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.writer = writer
        self.reading = asyncio.create_task(self._read(reader))

    @classmethod
    async def open(cls, stage: Stage) -> "Follower":
        """Opens one with the root key, and waits for its first message."""
        reader, writer = await asyncio.open_connection("127.0.0.1", stage.client.port, limit=4096)
        head = [
            "GET /ws HTTP/1.1",
            "host: localhost",
            "connection: upgrade",
            "upgrade: websocket",
            "sec-websocket-version: 13",
            f"sec-websocket-key: {base64.b64encode(os.urandom(16)).decode()}",
            f"authorization: Bearer {stage.host.key}",
        ]
        writer.write("\r\n".join([*head, "", ""]).encode())
        status = await reader.readline()
        assert b" 101 " in status, status
        while await reader.readline() != b"\r\n":
            pass
        await reader.readexactly(1)
        return cls(reader, writer)

    async def _read(self, reader: asyncio.StreamReader) -> None:
        # Nothing is followed: beyond the rest of the first message there are pings alone.
        with contextlib.suppress(ConnectionError):
            while await reader.read(4096):
                self.writer.write(PONG)

    def close(self) -> None:
        """Leaves."""
        self.reading.cancel()
        self.writer.transport.abort()


@dataclass
class Borne:
    """How long the host bore a connection, in milliseconds. It cannot have begun before it was dialled, and
    not after this process saw it open, which may be late where so many are."""

    since_dialled: float
    since_open: float


async def silent(stage: Stage) -> Borne:
    """Sends nothing."""
    dialled = now_ms()
    reader, writer = await asyncio.open_connection("127.0.0.1", stage.client.port)
    began = now_ms()
    with contextlib.suppress(ConnectionError):
        await reader.read()
    writer.transport.abort()
    return Borne(now_ms() - dialled, now_ms() - began)


async def slow_head(stage: Stage) -> Borne:
    """Sends a byte of a head every second."""
    dialled = now_ms()
    reader, writer = await asyncio.open_connection("127.0.0.1", stage.client.port)
    writer.write(b"GET /health HTTP/1.1\r\nhost: localhost\r\nx-slow: ")
    began = now_ms()
    closed = asyncio.create_task(reader.read())
    while not closed.done():
        writer.write(b"a")
        await asyncio.wait([closed], timeout=1)
    closed.exception()
    writer.transport.abort()
    return Borne(now_ms() - dialled, now_ms() - began)
