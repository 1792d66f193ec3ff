"""Streamed answers keep to the credit, and end when nobody reads them."""

from __future__ import annotations

import asyncio

import pytest

from bkg_sdk import (
    BodyBytes,
    Capability,
    ChunkSink,
    ChunkTooLarge,
    DescribedCapability,
    Plugin,
    Request,
    RouteAnswer,
    SendError,
    StreamOver,
    WireError,
)
from bkg_sdk.testing import Limits, TestHost


async def count(request: Request, chunks: ChunkSink) -> str:
    for number in range(request.read(int)):
        await chunks.send(number)
    return "done"


async def echo(request: Request) -> object:
    return request.payload


def counter() -> Plugin:
    plugin = Plugin()
    plugin.stream("test.count")(count)
    plugin.answer("test.echo")(echo)
    return plugin


async def test_chunks_arrive_in_order_and_then_the_final_answer() -> None:
    async with TestHost(counter()) as host:
        stream = host.stream("test.count", 1000)
        assert await stream.collect() == list(range(1000))
        assert await stream.outcome() == "done"
        assert host.seen.dropped == []


async def test_no_more_chunks_leave_than_there_is_credit() -> None:
    sent = 0

    async def endless(_: Request, chunks: ChunkSink) -> None:
        nonlocal sent
        while True:
            await chunks.send(0)
            sent += 1

    plugin = counter()
    plugin.stream("test.endless")(endless)
    async with TestHost(plugin) as host:
        stream = host.stream_with_credit("test.endless", credit=3)
        for _ in range(3):
            await stream.next()
        # A fourth chunk would have left before the answer to a later request.
        await host.request("test.echo")
        assert (stream.chunks_here(), sent) == (0, 3)
        stream.grant(2)
        await stream.next()
        await stream.next()
        await host.request("test.echo")
        assert (stream.chunks_here(), sent) == (0, 5)


async def test_whoever_sends_for_a_caller_who_left_is_told() -> None:
    told: asyncio.Future[SendError] = asyncio.get_running_loop().create_future()
    tasks = []

    async def outlive(_: Request, chunks: ChunkSink) -> None:
        async def go_on() -> None:
            try:
                while True:
                    await chunks.send(0)
            except SendError as error:
                told.set_result(error)

        # A task of its own goes on when the handler is cancelled.
        tasks.append(asyncio.create_task(go_on()))
        await asyncio.Event().wait()

    plugin = Plugin()
    plugin.stream("test.outlive")(outlive)
    async with TestHost(plugin) as host:
        stream = host.stream_with_credit("test.outlive", credit=1)
        await stream.next()
        stream.cancel()
        assert isinstance(await told, StreamOver)
        await host.until("the stream is answered", lambda seen: len(seen.answers) == 1)
        assert host.seen.answers[0][1].code == "cancelled"


async def test_a_chunk_that_is_too_large_is_refused_and_the_stream_goes_on() -> None:
    async def large(_: Request, chunks: ChunkSink) -> None:
        with pytest.raises(ChunkTooLarge) as refused:
            await chunks.send("x" * 2000)
        assert (refused.value.size, refused.value.limit) == (2002, 1000)
        await chunks.send("small")

    plugin = Plugin()
    plugin.stream("test.large")(large)
    async with TestHost(plugin, limits=Limits(chunk=1000)) as host:
        assert await host.stream("test.large").collect() == ["small"]


async def test_the_caller_chooses_between_one_answer_and_a_stream() -> None:
    plugin = counter()
    plugin.capability(Capability("test.both", answer=echo, stream=count))

    @plugin.answer("test.joined", description="Two decorators, one capability", routes=[("GET", "/one")])
    async def joined(request: Request) -> object:
        return request.payload

    plugin.stream("test.joined", idempotent=True, routes=[("GET", "/many")])(count)
    async with TestHost(plugin) as host:
        for capability in ("test.both", "test.joined"):
            assert await host.request(capability, 2) == 2
            assert await host.stream(capability, 2).collect() == [0, 1]
        # What can only stream says so; what cannot answers at once.
        with pytest.raises(WireError, match="in a stream only"):
            await host.request("test.count", 2)
        stream = host.stream("test.echo", 2)
        assert (await stream.collect(), await stream.outcome()) == ([], 2)
        described = DescribedCapability(
            "test.joined", description="Two decorators, one capability", streaming=True, idempotent=True
        )
        assert described in host.seen.registrations[0].capabilities
        assert [(route.path, route.streaming) for route in host.seen.registrations[0].routes] == [
            ("/one", False),
            ("/many", True),
        ]


async def test_many_streams_share_the_socket_and_stay_apart() -> None:
    async def label(request: Request, chunks: ChunkSink) -> None:
        for _ in range(200):
            await chunks.send(request.payload)

    plugin = Plugin()
    plugin.stream("test.label")(label)
    async with TestHost(plugin) as host:
        streams = [host.stream("test.label", number) for number in range(32)]
        for number, stream in enumerate(streams):
            assert await stream.collect() == [number] * 200


async def test_a_stream_may_be_sent_from_a_thread() -> None:
    def letters(request: Request, chunks: ChunkSink) -> None:
        for letter in request.read(str):
            request.host.from_thread(chunks.send(letter))

    plugin = Plugin()
    plugin.stream("test.letters")(letters)
    async with TestHost(plugin) as host:
        assert await host.stream("test.letters", "hello").collect() == list("hello")


async def test_the_first_chunk_may_be_the_head_of_a_response() -> None:
    async def noise(_: Request, chunks: ChunkSink) -> None:
        await chunks.send(RouteAnswer(headers={"content-type": "audio/wav"}))
        await chunks.send(BodyBytes(b"\xff\x00"))
        await chunks.send("text")

    plugin = Plugin()
    plugin.stream("test.noise")(noise)
    async with TestHost(plugin) as host:
        head = {"$http": {"status": 200, "headers": {"content-type": ["audio/wav"]}}}
        assert await host.stream("test.noise").collect() == [head, {"base64": "/wA="}, "text"]
