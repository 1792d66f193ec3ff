"""A plugin comes, beats, comes back, and goes in order."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Callable
from fractions import Fraction

import pytest

from bkg_sdk import (
    DefinitionError,
    Environment,
    Health,
    Host,
    Plugin,
    Rejected,
    Request,
    Unreachable,
    Update,
    WireError,
    WrongEnvironment,
)
from bkg_sdk.reconnect import TcpDialler
from bkg_sdk.testing import Limits, Seen, TestHost


def has(what: str, n: int) -> Callable[[Seen], bool]:
    """Whether so much was seen of something."""
    return lambda seen: len(getattr(seen, what)) == n


def holder() -> tuple[Plugin, asyncio.Event]:
    """A plugin whose `test.hold` answers when the test says so, and that tells when it is to stop."""
    plugin = Plugin()
    release = asyncio.Event()

    @plugin.answer("test.hold")
    async def hold(_: Request) -> None:
        await release.wait()

    @plugin.answer("test.here")
    async def here(_: Request) -> None:
        pass

    @plugin.background
    async def tell(host: Host) -> None:
        await host.stopping.wait()
        host.publish("stopping")

    return plugin, release


async def test_a_broken_link_is_dialled_again_with_the_secret_of_the_last() -> None:
    plugin, _ = holder()
    async with TestHost(plugin) as host:
        lost = host.start_request("test.hold")
        for number in (1, 2, 3):
            host.break_link()
            await host.until("the plugin comes back", has("registrations", number + 1))
            await host.request("test.here")
        with pytest.raises(WireError, match="plugin_disconnected"):
            await lost.outcome()
        shown = [(each.token, each.resume) for each in host.seen.registrations]
        assert shown == [
            ("test-launch-token", None),
            (None, "resume-0"),
            (None, "resume-1"),
            (None, "resume-2"),
        ]
        assert host.seen.dropped == [], "no answer of an old session reached a new one"


async def test_a_refused_plugin_does_not_try_again() -> None:
    plugin, _ = holder()
    with pytest.raises(Rejected, match=r"`test\.here` is not in the entry") as refused:
        async with TestHost(plugin, rejecting=("forbidden", "`test.here` is not in the entry")):
            pass
    assert (refused.value.code, refused.value.exit_code) == ("forbidden", 78)


async def test_a_host_out_of_reach_ends_the_plugin_with_the_reason() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        url = f"ws://127.0.0.1:{listener.getsockname()[1]}"
    with pytest.raises(Unreachable, match=url) as unreachable:
        await Plugin(patience=0.001).serve(Environment(url, "test", "t"))
    assert unreachable.value.exit_code == 69


@pytest.mark.parametrize(
    "wrong",
    [
        *("", "127.0.0.1:7", "http://127.0.0.1:7", "wss://example.org", "ws://a:x"),
        *("ws://127.0.0.1:7#x", "ws://127.0.0.1:0", "ws://a..b:7", f"ws://{'x' * 70}:7"),
    ],
)
def test_only_a_websocket_url_can_be_dialled(wrong: str) -> None:
    with pytest.raises(WrongEnvironment, match="BKG_PLUGIN_BUS_URL"):
        TcpDialler(wrong)


def test_addresses_are_read_from_the_url() -> None:
    assert TcpDialler("ws://127.0.0.1:7/bus").address == ("127.0.0.1", 7)
    assert TcpDialler("ws://[::1]:7").address == ("::1", 7)


async def test_drain_finishes_what_is_there_and_then_closes_in_order() -> None:
    plugin, release = holder()
    async with TestHost(plugin) as host:
        held = host.start_request("test.hold")
        await host.request("test.here")
        host.drain(within=60)
        release.set()
        assert await held.outcome() is None
        await host.until("the plugin closes", lambda seen: seen.closed == [1000])
        await host.ended()


async def test_what_is_not_finished_at_the_drains_deadline_is_cancelled() -> None:
    plugin, _ = holder()
    async with TestHost(plugin) as host:
        held = host.start_request("test.hold")
        await host.request("test.here")
        host.drain(within=0.001)
        with pytest.raises(WireError, match="cancelled"):
            await held.outcome()
        await host.until("the plugin closes", lambda seen: seen.closed == [1000])
        await host.ended()


async def test_a_signal_after_the_drain_cuts_it_short() -> None:
    plugin, _ = holder()
    async with TestHost(plugin) as host:
        held = host.start_request("test.hold")
        await host.request("test.here")
        host.drain(within=60)
        await host.until("the plugin knows of the drain", lambda seen: bool(seen.published))
        host.signal()
        with pytest.raises(WireError, match="cancelled"):
            await held.outcome()
        await host.ended()


async def test_a_signal_alone_says_stopping_and_lets_work_finish() -> None:
    plugin, release = holder()
    async with TestHost(plugin) as host:
        held = host.start_request("test.hold")
        await host.request("test.here")
        host.signal()
        await host.until(
            "the plugin says stopping",
            lambda seen: any(health.status == "stopping" for health in seen.health),
        )
        release.set()
        assert await held.outcome() is None
        await host.until("the plugin closes", lambda seen: seen.closed == [1000])
        await host.ended()


async def test_a_link_that_breaks_during_the_drain_is_not_dialled_again() -> None:
    plugin, _ = holder()
    async with TestHost(plugin) as host:
        held = host.start_request("test.hold")
        await host.request("test.here")
        host.drain(within=60)
        await host.until("the plugin knows of the drain", lambda seen: bool(seen.published))
        host.break_link()
        with pytest.raises(WireError, match="plugin_disconnected"):
            await held.outcome()
        await host.ended()
        assert len(host.seen.registrations) == 1


async def test_the_plugins_own_work_is_told_to_stop_and_cancelled_if_it_goes_on() -> None:
    told, cancelled = asyncio.Event(), asyncio.Event()
    plugin = Plugin()

    @plugin.background
    async def stubborn(host: Host) -> None:
        await host.stopping.wait()
        told.set()
        try:
            await asyncio.Event().wait()
        finally:
            cancelled.set()

    async with TestHost(plugin) as host:
        host.drain(within=60)
        await told.wait()
        await host.ended()
        assert cancelled.is_set()


async def test_background_work_that_fails_is_logged_and_harms_nothing() -> None:
    plugin, _ = holder()

    @plugin.background
    async def fails(_: Host) -> None:
        raise LookupError("nothing there")

    async with TestHost(plugin) as host:
        await host.until(
            "it is logged", lambda seen: "background work failed" in [x.message for x in seen.logs]
        )
        await host.request("test.here")


async def test_beats_carry_health_and_the_figures_of_the_own_process() -> None:
    plugin = Plugin()

    @plugin.answer("test.worry")
    async def worry(request: Request) -> None:
        request.host.set_health(Health.DEGRADED, "the index is loading")
        request.host.set_figure("queue", 3)
        request.host.set_figure("cpu", -1)
        request.host.set_figure("ratio", float("nan"))

    async with TestHost(plugin, limits=Limits(heartbeat=0.002)) as host:
        await host.until("the plugin beats", lambda seen: len(seen.health) > 3)
        assert {health.status for health in host.seen.health} == {"up"}
        await host.request("test.worry")

        def has_figure(seen: Seen) -> bool:
            return bool(seen.telemetry) and "queue" in seen.telemetry[-1].further

        await host.until("a beat carries the figure", has_figure)
        health, telemetry = host.seen.health[-1], host.seen.telemetry[-1]
        assert (health.plugin, health.status, health.detail) == ("test", "degraded", "the index is loading")
        assert telemetry.further == {"queue": 3}
        assert telemetry.mem_bytes is not None
        assert telemetry.mem_bytes > 1_000_000
        assert telemetry.cpu is not None
        assert telemetry.cpu >= 0


async def test_a_plugin_that_is_cancelled_leaves_nothing_running() -> None:
    before = asyncio.all_tasks()
    plugin, _ = holder()
    async with TestHost(plugin) as host:
        host.start_request("test.hold")
        await host.request("test.here")
    assert asyncio.all_tasks() == before


async def test_the_same_description_can_run_twice() -> None:
    plugin, _ = holder()
    for _ in range(2):
        async with TestHost(plugin) as host:
            await host.request("test.here")
    async with TestHost(plugin) as first, TestHost(plugin, name="other") as second:
        assert (await first.request("test.here"), await second.request("test.here")) == (None, None)


async def test_frames_that_cannot_be_read_harm_nothing() -> None:
    plugin, _ = holder()
    async with TestHost(plugin) as host:
        for frame in (b"", b"[]", b'{"type":"tomorrow"}', b'{"type":"chunk"}', b'"\xc3\x28"'):
            host.say_raw(frame)
        host.say_raw(b'{"type":"request","requestId":"strange","capability":7}')
        await host.until("it is answered", lambda seen: bool(seen.answers))
        [(request_id, error)] = host.seen.answers
        assert (request_id, error.code) == ("strange", "invalid_request")
        assert await host.request("test.here") is None


async def test_beats_go_on_whatever_figure_or_detail_a_plugin_has() -> None:
    plugin = Plugin()

    @plugin.answer("test.feel")
    async def feel(request: Request) -> None:
        host = request.host
        for name, value in {
            "a": "many",
            "b": None,
            "c": 10**400,
            "d": Fraction(1, 2),
            "e\ud800": 1,
        }.items():
            host.set_figure(name, value)  # type: ignore[arg-type]
        host.set_health(Health.DEGRADED, "the file caf\udce9 is missing")

    async with TestHost(plugin, limits=Limits(heartbeat=0.01)) as host:
        await host.request("test.feel")
        beats = len(host.seen.telemetry)
        await host.until("it goes on beating", lambda seen: len(seen.telemetry) > beats + 2)
        assert host.seen.telemetry[-1].further["d"] == 0.5
        assert host.seen.health[-1].detail == "the file caf? is missing"


async def test_an_update_that_has_no_json_form_leaves_the_next_its_own_verdict() -> None:
    plugin = Plugin()

    @plugin.answer("test.update")
    async def update(request: Request) -> None:
        with pytest.raises(TypeError):
            await request.host.update(Update(meta={"x": object()}))
        await request.host.update(Update(meta={"x": 1}))

    async with TestHost(plugin) as host:
        async with asyncio.timeout(10):
            await host.request("test.update")


@pytest.mark.parametrize(
    "described", [Plugin(meta={"x": object()}), Plugin(config_schema=object()), Plugin(version="\ud800")]
)
async def test_a_description_without_a_json_form_is_a_mistake_in_the_plugin(described: Plugin) -> None:
    with pytest.raises(DefinitionError):
        await described.serve(Environment("ws://127.0.0.1:1", "test", "launch"))


async def test_topics_can_be_followed_from_a_thread() -> None:
    plugin = Plugin()

    @plugin.answer("test.follow")
    def follow(request: Request) -> None:
        subscription = request.host.subscribe("orders")
        subscription.close()

    async with TestHost(plugin) as host:
        await host.request("test.follow")
        assert host.in_flight == 0


async def test_background_work_that_is_a_plain_function_may_block() -> None:
    plugin = Plugin()
    release = threading.Event()

    @plugin.background
    def block(host: Host) -> None:
        release.wait(10)
        host.publish("released")

    @plugin.answer("test.release")
    async def let_go(_: Request) -> None:
        release.set()

    async with TestHost(plugin) as host:
        await host.request("test.release")
        await host.until("the work goes on", lambda seen: len(seen.published) == 1)
