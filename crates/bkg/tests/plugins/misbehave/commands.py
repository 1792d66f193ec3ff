"""The commands, one capability each: a few that are well behaved, then one for every rule to break.

A command may do what it likes with the session of the plugin that it is handed; README.md lists them
with their options. Importing this file enters them into the session's table.
"""

import asyncio
import contextlib
import json
import os
import signal
import sys
import uuid
from pathlib import Path
from typing import Any

import faults
from session import Frame, Plugin, Request, capability, now_ms
from websocket import BINARY, PING, TEXT, Closed, Refused, WebSocket, masked_with_zero

# What is well behaved, so that a test can tell that the rest still works.


@capability("test.echo")
async def echo(plugin: Plugin, request: Request) -> None:
    await request.answer(request.frame.get("payload"))


@capability("test.word")
async def word(plugin: Plugin, request: Request) -> None:
    await faults.before_word(plugin, request)
    if plugin.plants("example-answered"):
        await request.fail({"code": "internal", "message": "it does not know the word"})
        return
    await request.answer(
        {"text": request.option("text", None), "word": (plugin.config["current"] or {}).get("word")}
    )
    if plugin.plants_once("one-response-each"):
        await request.answer({"again": True})


@capability("test.frame")
async def frame(plugin: Plugin, request: Request) -> None:
    await request.answer({"frame": request.text})


@capability("test.settings")
async def settings(plugin: Plugin, request: Request) -> None:
    runtime = json.loads(await asyncio.to_thread(Path(os.environ["BKG_PLUGIN_CONFIG_PATH"]).read_text))
    await request.answer(
        {**plugin.config, "started": plugin.settings, "runtime": runtime, "pid": os.getpid()}
    )


@capability("test.wait")
async def wait(plugin: Plugin, request: Request) -> None:
    await request.pause(request.option("ms", 60_000))
    if request.cancelled.is_set():
        await request.answer_cancelled()
    else:
        await request.answer({"waited": True})


@capability("test.stream")
async def stream(plugin: Plugin, request: Request) -> None:
    filler = "x" * request.option("size", 1)
    if not request.frame.get("stream"):
        await request.answer([{"number": number} for number in range(request.option("n", 10))])
        return
    for number in range(request.option("n", 10)):
        await request.pause(request.option("delayMs", 0))
        if not await request.chunk({"number": number, "filler": filler}):
            await request.answer_cancelled()
            return
    await request.answer()
    if plugin.plants_once("no-chunk-after-response"):
        await request.chunk({"number": "too late"}, heed_credit=False)


@capability("test.chunks")
async def chunks(plugin: Plugin, request: Request) -> None:
    for data in request.option("chunks", []):
        if not await request.chunk(data):
            await request.answer_cancelled()
            return
    if "error" in request.payload:
        await request.fail(request.payload["error"])
    else:
        await request.answer(request.option("data", None))


@capability("test.call")
async def call(plugin: Plugin, request: Request) -> None:
    call_id = str(uuid.uuid4())
    waiting = plugin.answers[call_id] = asyncio.Queue()
    own = {"capability": request.payload["capability"], "payload": request.option("payload", None)}
    optional = ("stream", "credit", "timeoutMs", "parentRequestId")
    own |= {name: request.payload[name] for name in optional if name in request.payload}
    if "parentRequestId" not in own and request.option("asCaller", True):
        own["parentRequestId"] = request.id
    await plugin.send(type="request", requestId=call_id, **own)
    chunks: list[Frame] = []
    async with asyncio.timeout(30):
        while (response := await waiting.get())["type"] == "chunk":
            data = response["data"] if request.option("keep", True) else None
            chunks.append({"seq": response["seq"], "data": data})
            if len(chunks) == request.option("cancelAfter", 0):
                await plugin.send(type="cancel", requestId=call_id, reason="caller_gone")
            if request.option("giveCredit", True):
                await plugin.send(type="credit", requestId=call_id, n=1)
    del plugin.answers[call_id]
    await request.answer({"response": response, "chunks": chunks})


@capability("test.cancel_seen")
async def cancel_seen(plugin: Plugin, request: Request) -> None:
    wanted = request.option("correlationId", None)
    deadline = now_ms() + request.option("withinMs", 0)
    while True:
        found = [entry for entry in plugin.cancels if wanted in (None, entry["correlationId"])]
        remaining = deadline - now_ms()
        if found or remaining <= 0:
            await request.answer({"cancels": found})
            return
        plugin.cancel_seen.clear()
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(plugin.cancel_seen.wait(), remaining / 1000)


@capability("test.seen")
async def seen(plugin: Plugin, request: Request) -> None:
    await request.answer(
        {
            "frames": plugin.seen,
            "running": len(plugin.running) - 1,
            "pid": os.getpid(),
            "nowMs": now_ms(),
            "chunks": plugin.chunks,
            "dry": plugin.dry,
            "closes": plugin.closes,
        }
    )


@capability("test.say")
async def say(plugin: Plugin, request: Request) -> None:
    for own in request.option("frames", []):
        await plugin.send(**own)
    await request.answer({"said": True})


@capability("test.publish")
async def publish(plugin: Plugin, request: Request) -> None:
    topic, filler = request.payload["topic"], "x" * request.option("size", 1)
    for number in range(request.option("n", 1)):
        await plugin.send(type="publish", topic=topic, data={"number": number, "filler": filler})
        if number % 100 == 0:
            await asyncio.sleep(0)  # Requests are read meanwhile.
    await request.answer({"published": True})


@capability("test.events")
async def events(plugin: Plugin, request: Request) -> None:
    async with asyncio.timeout(30):
        while len(plugin.events) < request.option("count", 0):
            plugin.event_seen.clear()
            await plugin.event_seen.wait()
    await request.answer({"events": plugin.events, "before": request.events_before})


@capability("test.environment")
async def environment(plugin: Plugin, request: Request) -> None:
    await request.answer({"environment": dict(os.environ), "directory": os.getcwd(), "umask": umask()})


def umask() -> int:
    """The process's umask, which can only be read by setting it."""
    current = os.umask(0o077)
    os.umask(current)
    return current


# What breaks the rules of an answer.


@capability("test.stall")
async def stall(plugin: Plugin, request: Request) -> None:
    await asyncio.Event().wait()


@capability("test.late")
async def late(plugin: Plugin, request: Request) -> None:
    await request.cancelled.wait()
    await asyncio.sleep(request.option("afterMs", 100) / 1000)
    await request.answer({"late": True})


@capability("test.double")
async def double(plugin: Plugin, request: Request) -> None:
    await request.answer({"answer": 1})
    await request.answer({"answer": 2})


@capability("test.foreign")
async def foreign(plugin: Plugin, request: Request) -> None:
    other = request.option("requestId", str(uuid.uuid4()))
    await plugin.send(type="response", requestId=other, success=True, data={"stolen": True})
    if request.option("own", True):
        await request.answer({"answered": other})


@capability("test.string_error")
async def string_error(plugin: Plugin, request: Request) -> None:
    await request.fail(request.option("message", "it failed, says a bare text"))


@capability("test.error")
async def error(plugin: Plugin, request: Request) -> None:
    await request.fail(request.payload or {"code": "internal", "message": "it failed"})


@capability("test.both")
async def both(plugin: Plugin, request: Request) -> None:
    success = request.option("success", True)
    await plugin.send(
        type="response",
        requestId=request.id,
        success=success,
        data={"kept": True} if request.option("data", True) else None,
        error={"code": "conflict", "message": "both are here"} if request.option("error", True) else None,
    )


@capability("test.huge")
async def huge(plugin: Plugin, request: Request) -> None:
    data = "x" * request.option("bytes", 17 << 20)
    await plugin.send(type="response", requestId=request.id, success=True, data=data)


# What breaks the rules of a stream.


@capability("test.overrun")
async def overrun(plugin: Plugin, request: Request) -> None:
    for number in range(request.option("n", 1_000)):
        await request.chunk({"number": number}, heed_credit=False)
        # The cancel must be read meanwhile, as a plugin with a reader of its own would.
        await asyncio.sleep(0)
    await request.answer()


@capability("test.wrong_seq")
async def wrong_seq(plugin: Plugin, request: Request) -> None:
    for seq in request.option("seqs", [0, 2, 1, 1]):
        await plugin.send(type="chunk", requestId=request.id, seq=seq, data={"seq": seq})
    await request.answer()


@capability("test.big_chunk")
async def big_chunk(plugin: Plugin, request: Request) -> None:
    await request.chunk("x" * request.option("bytes", 300 << 10))
    await request.answer()


@capability("test.chunk_after_response")
async def chunk_after_response(plugin: Plugin, request: Request) -> None:
    await request.chunk({"number": 0})
    await request.answer()
    await request.chunk({"number": 1}, heed_credit=False)


@capability("test.fail_in_stream")
async def fail_in_stream(plugin: Plugin, request: Request) -> None:
    for number in range(request.option("after", 3)):
        await request.chunk({"number": number})
    await request.fail(request.option("error", {"code": "internal", "message": "it broke half way"}))


# What breaks the session.


@capability("test.garbage")
async def garbage(plugin: Plugin, request: Request) -> None:
    socket = plugin.socket_now()
    for _ in range(request.option("frames", 1)):
        match request.option("kind", "text"):
            case "text":
                await socket.send_text('{"type": "response", "requestId": ')
            case "array":
                await socket.send_text("[1, 2, 3]")
            case "untyped":
                await socket.send_text('{"requestId": "1"}')
            case "binary":
                await socket.send_frame(BINARY, bytes(range(256)))
            case "utf8":
                await socket.send_frame(TEXT, b'{"type": "\xff\xfe"}')
            case "unmasked":
                await socket.send_frame(TEXT, b"{}", masked=False)
            case "opcode":
                await socket.send_frame(0x3, b"")
    await request.answer({"sent": request.option("frames", 1)})


@capability("test.unknown_type")
async def unknown_type(plugin: Plugin, request: Request) -> None:
    await plugin.send(type="fromTheFuture", requestId=request.id, anything=[1])
    await plugin.send(
        type="response", requestId=request.id, success=True, data={"ok": True}, novelty={"a": 1}
    )


@capability("test.register_again")
async def register_again(plugin: Plugin, request: Request) -> None:
    await plugin.send(**plugin.registration())


@capability("test.update")
async def update(plugin: Plugin, request: Request) -> None:
    await plugin.send(type="update", **request.payload)
    await request.answer({"sent": True})


@capability("test.status")
async def status(plugin: Plugin, request: Request) -> None:
    plugin.status = request.option("status", "degraded")
    await plugin.send(type="health", plugin=plugin.name, status=plugin.status)
    await request.answer({"status": plugin.status})


@capability("test.silent")
async def silent(plugin: Plugin, request: Request) -> None:
    plugin.beats = request.option("beats", False)
    plugin.socket_now().answers_pings = request.option("pongs", True)
    await request.answer({"beats": plugin.beats})


@capability("test.flood_logs")
async def flood_logs(plugin: Plugin, request: Request) -> None:
    message = "x" * request.option("size", 100)
    for number in range(request.option("lines", 10_000)):
        if request.option("stderr", False):
            print(f"{number} {message}", file=sys.stderr)
        else:
            await plugin.send(type="log", plugin=plugin.name, level="info", message=f"{number} {message}")
    await request.answer({"lines": request.option("lines", 10_000)})


@capability("test.flood")
async def flood(plugin: Plugin, request: Request) -> None:
    socket = plugin.socket_now()
    transport = socket.writer.transport
    # It reads and writes, which the type of the writer's half does not say.
    assert isinstance(transport, asyncio.Transport)
    if not request.option("reads", False):
        # The stream reader does not know of it, and so never resumes by itself.
        transport.pause_reading()
    kind, size, frames = (
        request.option("kind", "unknown"),
        request.option("size", 1),
        request.option("frames", 0),
    )
    batch = max(1, min(512, (64 << 10) // size))
    sent, patience = 0, request.option("patienceMs", 3_000) / 1000
    blocked = False
    while not blocked and (frames == 0 or sent < frames):
        socket.writer.write(b"".join(flooding(kind, sent + number, size) for number in range(batch)))
        sent += batch
        try:
            # What the host does not take for so long it means not to take.
            await asyncio.wait_for(socket.writer.drain(), patience)
        except TimeoutError:
            blocked = True
        except ConnectionError:
            raise Closed(1006) from None
        await asyncio.sleep(0)
    transport.resume_reading()
    await request.answer({"sent": sent, "blocked": blocked})


def flooding(kind: str, number: int, size: int) -> bytes:
    """One frame of a flood; its mask is zero, which costs nothing."""
    own = {"requestId": f"flood-{number}"}
    frame: dict[str, Any]
    match kind:
        case "pings":
            return masked_with_zero(PING, b"x" * min(size, 125))
        case "binary":
            return masked_with_zero(BINARY, b"x" * size)
        case "unanswerable":
            # As long as an id may be: the answer repeats it.
            own = {"requestId": f"flood-{number:0>120}"}
            frame = {"type": "request", **own, "capability": "host.authorize", "payload": "x" * size}
        case "asks":
            frame = {"type": "request", **own, "capability": "test.echo", "payload": "x" * size}
        case "misfits":
            frame = {"type": "request", **own, "capability": ["x" * size], "payload": None}
        case "moods":
            frame = {"type": "health", "plugin": "misbehave", "status": ("up", "degraded")[number % 2]}
        case _:
            frame = {"type": "fromTheFuture", "filler": "x" * size}
    return masked_with_zero(TEXT, json.dumps(frame).encode())


@capability("test.drop")
async def drop(plugin: Plugin, request: Request) -> None:
    await request.pause(request.option("afterMs", 0))
    code = request.option("code", None)
    if code is None:
        plugin.socket_now().abort()
    else:
        await plugin.socket_now().close(code)


@capability("test.claim")
async def claim(plugin: Plugin, request: Request) -> None:
    headers = {"Origin": request.payload["origin"]} if "origin" in request.payload else None
    try:
        socket = await WebSocket.connect(request.option("url", os.environ["BKG_PLUGIN_BUS_URL"]), headers)
    except Refused as refused:
        await request.answer({"outcome": "refused", "status": refused.status})
        return
    changes = {"plugin": request.option("plugin", plugin.name), "token": None, "resume": None}
    await socket.send_text(json.dumps(plugin.registration(**changes)))
    frames: list[Frame] = []
    try:
        async with asyncio.timeout(request.option("withinMs", 2_000) / 1000):
            while True:
                frames.append(json.loads(await socket.receive_text()))
    except Closed as closed:
        await request.answer({"outcome": "closed", "code": closed.code, "frames": frames})
    except TimeoutError:
        socket.abort()
        await request.answer({"outcome": "open", "frames": frames})


# What breaks the process.


@capability("test.crash")
async def crash(plugin: Plugin, request: Request) -> None:
    for number in range(request.option("after", 0)):
        await request.chunk({"number": number})
    print("crashing because a test asked for it", file=sys.stderr)
    if signal_number := request.option("signal", 0):
        os.kill(os.getpid(), signal_number)
    os._exit(request.option("code", 7))


@capability("test.hang")
async def hang(plugin: Plugin, request: Request) -> None:
    for number in range(request.option("after", 0)):
        await request.chunk({"number": number})
    os.kill(os.getpid(), signal.SIGSTOP)
