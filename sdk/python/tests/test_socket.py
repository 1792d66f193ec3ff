"""The same over TCP, with a host that is written out frame by frame, and as a process."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from websockets.asyncio.server import Server, ServerConnection, serve
from websockets.exceptions import ConnectionClosed

from bkg_sdk import Environment, Plugin, Rejected, Request

SOURCES = Path(__file__).parents[1] / "src"
GREETER = """
import asyncio, logging, sys
from bkg_sdk import Host, Plugin, Request

plugin = Plugin(version="1.0.0", patience=0.01)

@plugin.answer("greeter.greet")
async def greet(request: Request) -> str:
    logging.info("greeting")
    return f"hello {request.read(str)}"

@plugin.answer("greeter.block")
def block(request: Request) -> None:
    import threading
    threading.Event().wait()

@plugin.answer("greeter.block_aside")
async def block_aside(request: Request) -> None:
    import asyncio, threading
    await asyncio.to_thread(threading.Event().wait)

@plugin.answer("greeter.leave")
async def leave(request: Request) -> None:
    leaving.set()

leaving = asyncio.Event()

@plugin.background
async def exit_by_itself(host: Host) -> None:
    await asyncio.wait(
        [asyncio.create_task(each.wait()) for each in (leaving, host.stopping)],
        return_when=asyncio.FIRST_COMPLETED,
    )
    if leaving.is_set():
        sys.exit(3)

@plugin.background
async def say_goodbye(host: Host) -> None:
    await host.stopping.wait()
    logging.warning("the last line")

plugin.run()
"""


class Bus:
    """A host that does what a test writes out."""

    def __init__(self) -> None:
        self.sockets: asyncio.Queue[ServerConnection] = asyncio.Queue()
        self.done = asyncio.Event()
        self.url = ""

    async def handle(self, socket: ServerConnection) -> None:
        await self.sockets.put(socket)
        await asyncio.wait(
            [asyncio.create_task(self.done.wait()), asyncio.create_task(socket.wait_closed())],
            return_when=asyncio.FIRST_COMPLETED,
        )

    async def accept(self) -> ServerConnection:
        async with asyncio.timeout(20):
            return await self.sockets.get()

    async def registered(self, resume: str) -> tuple[ServerConnection, Any]:
        """A plugin that has been told that its registration holds, and what it registered."""
        socket = await self.accept()
        register = await frame(socket, "register")
        await say(
            socket,
            type="registered",
            protocol=1,
            instance="01890a5d-ac96-774b-bcce-b302099a8057",
            resume=resume,
            heartbeatMs=10_000,
            limits={"maxFrameBytes": 1 << 24, "maxChunkBytes": 1 << 18, "streamCredit": 32},
        )
        return socket, register


@asynccontextmanager
async def bus() -> AsyncIterator[Bus]:
    listening = Bus()
    server: Server
    async with serve(listening.handle, "127.0.0.1", 0, max_size=None) as server:
        [(host, port)] = [each.getsockname()[:2] for each in server.sockets]
        listening.url = f"ws://{host}:{port}/bus"
        try:
            yield listening
        finally:
            listening.done.set()


async def frame(socket: ServerConnection, kind: str) -> Any:
    """The next frame of a type; what comes before it is passed over."""
    async with asyncio.timeout(20):
        while True:
            said = json.loads(await socket.recv())
            if said["type"] == kind:
                return said


async def say(socket: ServerConnection, **message: object) -> None:
    await socket.send(json.dumps(message))


async def closed(socket: ServerConnection) -> int:
    """Reads to the end, and answers the close code."""
    async with asyncio.timeout(20):
        try:
            while True:
                await socket.recv()
        except ConnectionClosed as end:
            return 1006 if end.rcvd is None else end.rcvd.code


async def test_a_plugin_dials_answers_pings_comes_back_and_ends() -> None:
    plugin = Plugin(version="1.0.0")

    @plugin.answer("greeter.greet")
    async def greet(request: Request) -> str:
        return f"hello {request.read(str)}"

    async with bus() as host:
        running = asyncio.create_task(plugin.serve(Environment(host.url, "greeter", "launch")))
        socket, register = await host.registered("second")
        assert register == {
            "type": "register",
            "plugin": "greeter",
            "port": "internal",
            "protocol": 1,
            "version": "1.0.0",
            "capabilities": [{"id": "greeter.greet"}],
            "token": "launch",
        }
        assert await frame(socket, "health") == {"type": "health", "plugin": "greeter", "status": "up"}
        assert "permessage-deflate" not in str(socket.response.headers if socket.response else "")
        await say(socket, type="tomorrow")
        await socket.send(
            # In two pieces, as RFC 6455 allows.
            [
                '{"type":"request","requestId":"r-1","capability":"greeter.greet",',
                '"payload":"Ada"}',
            ]
        )
        assert await frame(socket, "response") == {
            "type": "response",
            "requestId": "r-1",
            "success": True,
            "data": "hello Ada",
        }
        async with asyncio.timeout(20):
            await (await socket.ping("are you there"))

        # The host goes without a word, and is back.
        socket.transport.abort()
        socket, register = await host.registered("third")
        assert (register["resume"], "token" in register) == ("second", False)

        # A large question is read whole, and a large answer is written.
        payload = "x" * (3 << 20)
        await say(socket, type="request", requestId="r-2", capability="greeter.greet", payload=payload)
        assert len((await frame(socket, "response"))["data"]) == len(payload) + 6

        # It asks for an end.
        await say(socket, type="drain", deadlineMs=10_000)
        assert await closed(socket) == 1000
        async with asyncio.timeout(20):
            await running


async def test_a_close_with_1008_is_a_refusal() -> None:
    async with bus() as host:
        running = asyncio.create_task(Plugin().serve(Environment(host.url, "test", "launch")))
        socket = await host.accept()
        await frame(socket, "register")
        await socket.close(1008, "this name is taken")
        with pytest.raises(Rejected, match="this name is taken") as refused:
            async with asyncio.timeout(20):
                await running
        assert refused.value.code == "1008"


async def test_an_upgrade_that_is_refused_is_tried_again_until_the_patience_is_over() -> None:
    from bkg_sdk import Unreachable

    async def refuse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 403 Forbidden\r\ncontent-length: 0\r\nconnection: close\r\n\r\n")
        await writer.drain()
        writer.close()

    async with await asyncio.start_server(refuse, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        with pytest.raises(Unreachable, match="403"):
            await Plugin(patience=0.001).serve(Environment(f"ws://127.0.0.1:{port}", "test", "launch"))


async def launch(url: str | None, **more: str) -> Process:
    variables = {"PATH": os.environ["PATH"], "PYTHONPATH": str(SOURCES), "PYTHONDONTWRITEBYTECODE": "1"}
    if url is not None:
        variables["BKG_PLUGIN_BUS_URL"] = url
        variables |= {"BKG_PLUGIN_NAME": "greeter", "BKG_PLUGIN_TOKEN": "launch", **more}
    return await asyncio.create_subprocess_exec(
        sys.executable, "-c", GREETER, env=variables, stderr=PIPE, stdout=PIPE
    )


async def end_of(process: Process) -> tuple[int | None, str]:
    async with asyncio.timeout(20):
        _, errors = await process.communicate()
        return process.returncode, errors.decode()


async def test_a_process_without_a_host_says_what_is_missing() -> None:
    code, errors = await end_of(await launch(None))
    assert code == 78
    assert errors.startswith("error: `BKG_PLUGIN_BUS_URL` is not set: the host sets it")
    assert errors.count("\n") == 1


async def test_a_process_whose_host_is_away_ends_with_69() -> None:
    async with bus() as host:
        url = host.url
    code, errors = await end_of(await launch(url))
    assert (code, "no session with the host" in errors) == (69, True)


async def test_a_process_that_is_refused_ends_with_78() -> None:
    async with bus() as host:
        process = await launch(host.url)
        socket = await host.accept()
        await frame(socket, "register")
        await say(socket, type="rejected", code="forbidden", message="not in the entry")
        code, errors = await end_of(process)
    assert code == 78
    assert errors == "error: the host refused the registration: not in the entry (forbidden)\n"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_a_signal_ends_a_process_in_order(number: signal.Signals) -> None:
    async with bus() as host:
        process = await launch(host.url)
        socket, _ = await host.registered("second")
        await say(socket, type="request", requestId="r-1", capability="greeter.greet", payload="Ada")
        line = await frame(socket, "log")
        while line["message"] != "greeting":
            line = await frame(socket, "log")
        assert line["requestId"] == "r-1"
        await frame(socket, "response")
        process.send_signal(number)
        assert (await frame(socket, "health"))["status"] == "stopping"
        # What the plugin's own work says last is not lost.
        assert (await frame(socket, "log"))["message"] == "the last line"
        assert await closed(socket) == 1000
        # A signal that comes after the end has been decided does not turn it into a death.
        with contextlib.suppress(ProcessLookupError):
            process.send_signal(number)
        assert await end_of(process) == (0, "")


async def test_a_thread_that_never_ends_does_not_keep_the_process() -> None:
    async with bus() as host:
        process = await launch(host.url)
        socket, _ = await host.registered("second")
        await say(socket, type="request", requestId="r-1", capability="greeter.block", payload=None)
        await say(socket, type="drain", deadlineMs=0)
        response = await frame(socket, "response")
        assert response["error"]["code"] == "cancelled"
        assert await closed(socket) == 1000
        assert await end_of(process) == (0, "")


async def test_a_request_beyond_what_the_reader_takes_is_answered_all_the_same() -> None:
    plugin = Plugin()

    @plugin.answer("greeter.greet")
    async def greet(request: Request) -> str:
        return f"hello {request.read(str)}"

    async with bus() as host:
        running = asyncio.create_task(plugin.serve(Environment(host.url, "greeter", "launch")))
        socket, _ = await host.registered("second")
        # Half of a surrogate pair is a text to JSON, and to no reader of Unicode.
        for number, payload in enumerate(['"\\ud800"', "[" * 5_000 + "]" * 5_000, '{"\\ud800": 1}']):
            request = f'"requestId": "r-{number}", "capability": "greeter.greet", "payload": {payload}'
            await socket.send(f'{{"type": "request", {request}}}')
            response = await frame(socket, "response")
            assert response["requestId"] == f"r-{number}"
            assert response["error"]["code"] == "invalid_request"
        await say(socket, type="drain", deadlineMs=10_000)
        assert await closed(socket) == 1000
        await running


async def test_a_thread_of_the_loop_itself_does_not_keep_the_process_either() -> None:
    async with bus() as host:
        process = await launch(host.url)
        socket, _ = await host.registered("second")
        await say(socket, type="request", requestId="r-1", capability="greeter.block_aside", payload=None)
        await say(socket, type="drain", deadlineMs=0)
        assert (await frame(socket, "response"))["error"]["code"] == "cancelled"
        assert await closed(socket) == 1000
        assert await end_of(process) == (0, "")


async def test_a_plugin_that_exits_by_itself_does_so_whatever_its_threads_do() -> None:
    async with bus() as host:
        process = await launch(host.url)
        socket, _ = await host.registered("second")
        await say(socket, type="request", requestId="r-1", capability="greeter.block", payload=None)
        await say(socket, type="request", requestId="r-2", capability="greeter.leave", payload=None)
        code, _ = await end_of(process)
        assert code == 3
