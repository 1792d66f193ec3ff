"""What a client sees when the plugin breaks, and what the plugin sees when the client leaves.

Times are taken on CLOCK_MONOTONIC, which the plugin's process reads too, so that "within 100 ms" is
measured from the client's act to the moment the frame was read.
"""

import asyncio
import json
import os
import signal
import time
from collections.abc import Callable
from typing import Any

import openai
import pytest
from harness import Host, llmserver, misbehave, until

CANCEL_WITHIN_MS = 100
ANSWER_WITHIN_S = 0.25
STREAMS = 20


def ask(model: str, **fields: Any) -> dict[str, Any]:
    text = " ".join(f"word{number}" for number in range(200))
    return {"model": model, "messages": [{"role": "user", "content": text}], **fields}


def now_ms() -> float:
    return time.monotonic_ns() / 1e6


def assert_cancelled_once(host: Host, request_id: str, left_at: float) -> None:
    (cancel,) = host.cancels(request_id)
    assert cancel["atMs"] - left_at <= CANCEL_WITHIN_MS
    until(lambda: host.instance("misbehave")["inFlight"] == 0, "the slot is free again")


def test_a_client_that_leaves_a_stream_cancels_it(host: Host) -> None:
    stream = host.openai().chat.completions.create(**ask("test/slow", stream=True))
    next(iter(stream))
    left_at = now_ms()
    stream.close()
    assert_cancelled_once(host, stream.response.headers["x-request-id"], left_at)


def test_a_client_that_leaves_before_the_first_byte_cancels_the_work(host: Host) -> None:
    before = len(host.invoke("test.cancel_seen").json()["data"]["cancels"])
    in_flight = lambda: host.instance("misbehave")["inFlight"] == 1  # noqa: E731
    connection = host.connection()
    head = {"Authorization": f"Bearer {host.key}", "Content-Type": "application/json"}
    connection.request("POST", "/v1/chat/completions", json.dumps(ask("test/stall")), head)
    until(in_flight, "the request is at the plugin")
    left_at = now_ms()
    connection.close()
    (cancel,) = until(
        lambda: host.invoke("test.cancel_seen").json()["data"]["cancels"][before:], "the cancel is seen"
    )
    assert_cancelled_once(host, cancel["correlationId"], left_at)


def test_a_task_that_is_cancelled_cancels_the_work(host: Host) -> None:
    async def run() -> tuple[str, float]:
        async with host.async_openai() as client:
            stream = await client.chat.completions.create(**ask("test/slow", stream=True))
            reading = asyncio.create_task(anext(aiter(stream)))
            await reading
            waiting = asyncio.create_task(drain(stream))
            await asyncio.sleep(0)
            left_at = now_ms()
            waiting.cancel()
            await asyncio.gather(waiting, return_exceptions=True)
            await stream.close()
            return stream.response.headers["x-request-id"], left_at

    assert_cancelled_once(host, *asyncio.run(run()))


async def drain(stream: Any) -> None:
    async for _ in stream:
        pass


def test_a_hundred_clients_that_leave_free_every_slot(host: Host) -> None:
    async def leave(client: openai.AsyncOpenAI) -> None:
        stream = await client.chat.completions.create(**ask("test/slow", stream=True))
        await anext(aiter(stream))
        await stream.close()

    async def run() -> None:
        async with host.async_openai() as client:
            await asyncio.gather(*(leave(client) for _ in range(100)))

    asyncio.run(run())
    until(lambda: host.instance("misbehave")["inFlight"] == 0, "every slot is free again")
    assert host.invoke("test.seen").json()["data"]["running"] == 0


def test_a_plugins_failure_in_mid_stream_is_an_error_and_no_end(host: Host) -> None:
    answer = host.http("POST", "/v1/chat/completions", ask("test/breaks", stream=True))
    events = answer.events()
    assert answer.status == 200
    assert [json.loads(event)["choices"][0]["delta"]["content"] for event in events[:3]] == [
        "0 ",
        "1 ",
        "2 ",
    ]
    error = json.loads(events[3])["error"]
    assert {"message", "type", "param", "code"} <= error.keys()
    assert len(events) == 4


def test_the_sdk_raises_on_a_failure_in_mid_stream(host: Host) -> None:
    stream = host.openai().chat.completions.create(**ask("test/breaks", stream=True))
    parts = iter(stream)
    assert [next(parts).choices[0].delta.content for _ in range(3)] == ["0 ", "1 ", "2 "]
    with pytest.raises(openai.APIError, match="broke half way"):
        next(parts)


async def read_until_it_breaks(client: openai.AsyncOpenAI, begun: asyncio.Semaphore) -> float:
    """Reads a stream that is going to break; returns when the SDK raised, in seconds."""
    stream = await client.chat.completions.create(**ask("stand-in", stream=True))
    finished = []
    try:
        async for part in stream:
            begun.release()
            finished += [choice.finish_reason for choice in part.choices if choice.finish_reason]
    except openai.APIError:
        assert finished == []
        return time.monotonic()
    raise AssertionError("a stream of a killed plugin looked complete")


def test_a_killed_plugin_breaks_every_stream_at_once_and_comes_back(
    start_host: Callable[..., Host],
) -> None:
    host = start_host(llmserver(tokenDelayMs=50))
    pid = host.instance("llmserver")["pid"]

    async def run() -> list[float]:
        begun = asyncio.Semaphore(0)
        async with host.async_openai() as client:
            reading = [asyncio.create_task(read_until_it_breaks(client, begun)) for _ in range(STREAMS)]
            for _ in range(2 * STREAMS):
                await begun.acquire()
            os.kill(pid, signal.SIGKILL)
            killed_at = time.monotonic()
            return [raised_at - killed_at for raised_at in await asyncio.gather(*reading)]

    waits = asyncio.run(run())
    assert len(waits) == STREAMS
    assert max(waits) <= ANSWER_WITHIN_S
    host.until_running("llmserver", not_pid=pid)
    answer = host.openai().chat.completions.create(
        model="stand-in", messages=[{"role": "user", "content": "again"}]
    )
    assert "again" in (answer.choices[0].message.content or "")


def test_a_killed_plugin_answers_a_waiting_request_at_once(start_host: Callable[..., Host]) -> None:
    host = start_host(misbehave())
    pid = host.instance("misbehave")["pid"]

    async def run() -> tuple[int, str | None, float]:
        async with host.async_openai() as client:
            waiting = asyncio.create_task(client.chat.completions.create(**ask("test/stall")))
            await asyncio.to_thread(
                until, lambda: host.instance("misbehave")["inFlight"] == 1, "the request is at the plugin"
            )
            os.kill(pid, signal.SIGKILL)
            killed_at = time.monotonic()
            with pytest.raises(openai.InternalServerError) as raised:
                await waiting
            return raised.value.status_code, raised.value.code, time.monotonic() - killed_at

    status, code, waited = asyncio.run(run())
    assert (status, code) == (502, "plugin_disconnected")
    assert waited <= ANSWER_WITHIN_S
    host.until_running("misbehave", not_pid=pid)
