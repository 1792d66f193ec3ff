"""Log lines reach the host, with their level, their facts and their request."""

from __future__ import annotations

import asyncio
import json
import logging
import threading
from typing import Any

import pytest

from bkg_sdk import Host, LogLevel, Plugin, Request
from bkg_sdk.json import RawJson
from bkg_sdk.log import KEPT, LONGEST_MESSAGE, Logs, cut
from bkg_sdk.protocol import message as m
from bkg_sdk.testing import Seen, TestHost, TestRequest

logger = logging.getLogger("shop.orders")


def fields(line: m.Log) -> Any:
    return json.loads(bytes(line.fields)) if isinstance(line.fields, RawJson) else None


async def test_what_is_logged_becomes_log_lines_of_its_request() -> None:
    plugin = Plugin()

    @plugin.answer("test.work")
    async def work(request: Request) -> None:
        logger.warning("taking %s", "long", extra={"model": "small", "attempts": 3, "slow": True})
        request.host.log(LogLevel.INFO, "done", left=0)

    @plugin.answer("test.thread")
    def thread(request: Request) -> None:
        logger.error("from a thread")

    async with TestHost(plugin) as host:
        taking_long, done = await lines_of(host, host.start_request("test.work"), 2)
        assert (taking_long.level, taking_long.message) == (LogLevel.WARN, "taking long")
        assert fields(taking_long) == {
            "model": "small",
            "attempts": 3,
            "slow": True,
            "target": "shop.orders",
        }
        assert (done.level, done.message, fields(done)) == (LogLevel.INFO, "done", {"left": 0})
        assert (done.plugin, bool(done.timestamp)) == ("test", True)

        [line] = await lines_of(host, host.start_request("test.thread"), 1)
        assert (line.level, line.message) == (LogLevel.ERROR, "from a thread")


async def lines_of(host: TestHost, request: TestRequest, n: int) -> list[m.Log]:
    """The lines of a request, once so many have come."""
    await request.outcome()
    found: list[m.Log] = []

    def have_come(seen: Seen) -> bool:
        found[:] = [line for line in seen.logs if line.request_id == request.id]
        return len(found) == n

    await host.until("the lines have come", have_come)
    return found


async def test_lines_from_before_the_registration_come_after_it_in_order() -> None:
    plugin = Plugin()

    @plugin.background
    async def early(host: Host) -> None:
        for number in range(3):
            host.log(LogLevel.DEBUG, f"early {number}", n=number)

    async with TestHost(plugin, log_level=logging.CRITICAL) as host:
        await host.until("the lines have come", lambda seen: len(seen.logs) == 3)
        assert [line.message for line in host.seen.logs] == ["early 0", "early 1", "early 2"]
        assert (fields(host.seen.logs[2]), host.seen.logs[2].request_id) == ({"n": 2}, None)


async def test_an_exception_is_logged_with_its_traceback() -> None:
    async with TestHost(Plugin()) as host:
        try:
            raise KeyError("what was missing")
        except KeyError:
            logger.exception("it failed")
        await host.until("the line has come", lambda seen: any(x.message == "it failed" for x in seen.logs))
        [line] = [line for line in host.seen.logs if line.message == "it failed"]
        assert "what was missing" in fields(line)["exception"]


async def test_facts_of_any_kind_have_a_text_and_none_breaks_the_line() -> None:
    class Broken:
        def __str__(self) -> str:
            raise RuntimeError("no text")

    circle: list[object] = []
    circle.append(circle)
    async with TestHost(Plugin()) as host:
        facts = {"set": {1}, "path": threading, "broken": Broken(), "circle": circle}
        logger.info("facts", extra=facts)
        logger.info("large", extra={"large": "x" * 40_000})
        logger.info("surrogate \ud800")
        await host.until("the lines have come", lambda seen: len(seen.logs) >= 4)
        told = {line.message: fields(line) for line in host.seen.logs}
        assert told["facts"]["broken"] == "<Broken>"
        assert told["large"] is None
        assert "surrogate ?" in told


async def test_a_thread_that_logs_while_nobody_listens_waits_for_nothing() -> None:
    logs = Logs()
    lines = [f"line {number}" for number in range(KEPT + 3)]
    await asyncio.gather(*(asyncio.to_thread(logs.write, LogLevel.INFO, line) for line in lines))
    assert logs.waiting == (KEPT, 3)


def test_lines_without_a_session_are_kept_and_the_oldest_are_counted_as_lost() -> None:
    logs = Logs()
    for number in range(KEPT + 3):
        logs.write(LogLevel.INFO, f"line {number}")
    assert logs.waiting == (KEPT, 3)


async def test_how_many_lines_were_lost_is_said() -> None:
    plugin = Plugin()

    @plugin.background
    async def chatter(host: Host) -> None:
        for number in range(KEPT + 3):
            host.log(LogLevel.INFO, f"line {number}")

    async with TestHost(plugin, log_level=logging.CRITICAL) as host:
        await host.until("the lines have come", lambda seen: len(seen.logs) == KEPT + 1)
        assert host.seen.logs[0].message == "3 log lines are lost: they could not be sent in time"
        assert host.seen.logs[1].message == "line 3"


def test_a_long_message_is_cut_and_says_by_how_much() -> None:
    assert cut("é" * LONGEST_MESSAGE).endswith(f"… ({LONGEST_MESSAGE} more bytes)")
    assert cut("short") == "short"


@pytest.mark.parametrize(
    ("number", "level"),
    [(5, "trace"), (10, "debug"), (20, "info"), (25, "info"), (30, "warn"), (40, "error"), (50, "error")],
)
async def test_levels_are_those_of_the_protocol(number: int, level: str) -> None:
    async with TestHost(Plugin(), log_level=1) as host:
        logger.log(number, "a line of this level")
        await host.until("it has come", lambda seen: any("a line" in x.message for x in seen.logs))
        [line] = [line for line in host.seen.logs if "a line" in line.message]
        assert line.level == level


async def test_a_fact_that_is_no_unicode_does_not_lose_its_line() -> None:
    plugin = Plugin()

    @plugin.answer("test.work")
    async def work(request: Request) -> None:
        request.host.log(LogLevel.INFO, "found", file="caf\udce9", **{"na\ud800me": object})

    async with TestHost(plugin) as host:
        [line] = await lines_of(host, host.start_request("test.work"), 1)
        assert fields(line)["file"] == "caf?"


async def test_a_flood_from_a_thread_piles_up_nothing_while_the_loop_is_busy(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    plugin = Plugin()
    asked: list[object] = []

    @plugin.answer("test.busy")
    async def busy(request: Request) -> None:
        hand_over = asyncio.get_running_loop().call_soon_threadsafe

        def counted(*work: Any, **more: Any) -> Any:
            asked.append(work)
            return hand_over(*work, **more)

        def flood() -> None:
            for _ in range(2_000):
                logger.info("line")

        with monkeypatch.context() as patched:
            patched.setattr(asyncio.get_running_loop(), "call_soon_threadsafe", counted)
            thread = threading.Thread(target=flood)
            thread.start()
            thread.join()

    async with TestHost(plugin) as host:
        await host.request("test.busy")
        assert len(asked) == 1
        await host.until(
            "the last lines and the number of lost ones",
            lambda seen: any("lines are lost" in line.message for line in seen.logs),
        )


async def test_a_fact_that_logs_as_it_is_written_does_not_lose_its_line() -> None:
    class Chatty:
        def __str__(self) -> str:
            logger.info("asked for a text", extra={"again": self})
            return "chatty"

    plugin = Plugin()

    @plugin.answer("test.work")
    async def work(request: Request) -> None:
        request.host.log(LogLevel.INFO, "found", what=Chatty())

    async with TestHost(plugin) as host:
        await host.request("test.work")
        assert await host.request("test.work") is None
