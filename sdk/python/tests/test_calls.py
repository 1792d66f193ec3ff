"""What a plugin asks of others, and the events it sends and gets."""

from __future__ import annotations

import gc
from collections.abc import Callable
from dataclasses import dataclass

import pytest

from bkg_sdk import (
    AuthChanged,
    CallError,
    CallFailed,
    CallTooLarge,
    ErrorCode,
    Host,
    LogLevel,
    Model,
    NotConnected,
    Plugin,
    Request,
    TimedOut,
    Update,
    WireError,
)
from bkg_sdk.protocol import message as m
from bkg_sdk.testing import Limits, Seen, TestHost


def has(what: str, n: int) -> Callable[[Seen], bool]:
    """Whether so much was seen of something."""
    return lambda seen: len(getattr(seen, what)) == n


def relaying() -> Plugin:
    plugin = Plugin()

    @plugin.answer("test.relay")
    async def relay(request: Request) -> object:
        return await request.call("other.thing", request.payload)

    return plugin


async def test_a_call_on_behalf_of_a_caller_names_the_request_behind_it() -> None:
    async with TestHost(relaying(), answering={"other.thing": lambda request: request.payload}) as host:
        request = host.start_request("test.relay", [1])
        assert await request.outcome() == [1]
        [asked] = host.seen.asked
        assert (asked.parent_request_id, asked.timeout_ms) == (request.id, 60_000)


async def test_a_failure_of_whoever_answers_comes_through() -> None:
    failure = WireError(ErrorCode.RATE_LIMITED, "later", retry_after=2)

    def refuse(_: m.Request) -> object:
        raise failure

    async with TestHost(relaying(), answering={"other.thing": refuse}) as host:
        with pytest.raises(WireError) as refused:
            await host.request("test.relay")
        assert refused.value == failure


async def test_an_answer_may_be_read_as_a_type() -> None:
    @dataclass
    class Answer:
        long_name: int

    plugin = Plugin()
    seen: list[object] = []

    @plugin.answer("test.typed")
    async def typed(request: Request) -> int:
        answer = await request.call("other.thing", read=Answer)
        with pytest.raises(WireError, match=r"the answer of `other\.thing` cannot be read") as misfit:
            await request.call("other.thing", read=int)
        seen.append(misfit.value.code)
        return answer.long_name

    async with TestHost(plugin, answering={"other.thing": lambda _: {"longName": 7}}) as host:
        assert await host.request("test.typed") == 7
        assert seen == ["plugin_error"]


async def test_a_call_that_takes_too_long_is_given_up_and_cancelled() -> None:
    plugin = Plugin()

    @plugin.answer("test.hasty")
    async def hasty(request: Request) -> object:
        return await request.call("other.silent", timeout=0.001)

    async with TestHost(plugin, silent=["other.silent"]) as host:
        with pytest.raises(WireError) as refused:
            await host.request("test.hasty")
        assert refused.value.code == "timeout"
        await host.until("the call is cancelled", lambda seen: len(seen.gave_up) == 1)


async def test_a_cancelled_handler_cancels_what_it_asked_for() -> None:
    plugin = Plugin()

    @plugin.answer("test.wait")
    async def wait(request: Request) -> object:
        return await request.call("other.silent")

    @plugin.answer("test.follow")
    async def follow(request: Request) -> None:
        async for _ in request.call_stream("other.silent"):
            pass

    async with TestHost(plugin, silent=["other.silent"]) as host:
        for number, capability in enumerate(["test.wait", "test.follow"], start=1):
            request = host.start_request(capability)
            await host.until("the call has come", has("asked", number))
            request.cancel()
            await host.until("the call is cancelled", has("gave_up", number))


async def test_a_streamed_call_grants_credit_as_it_reads() -> None:
    plugin = Plugin()

    @plugin.answer("test.sum")
    async def sum_up(request: Request) -> int:
        stream = request.call_stream("other.numbers")
        total = 0
        async for number in stream:
            total += number
        assert await stream.outcome() is None
        return total

    async with TestHost(plugin, streaming={"other.numbers": lambda _: range(1, 1001)}) as host:
        assert await host.request("test.sum") == 500_500
        assert host.seen.gave_up == []


async def test_a_stream_that_is_left_is_cancelled() -> None:
    plugin = Plugin()

    @plugin.answer("test.first")
    async def first(request: Request) -> object:
        async with request.call_stream("other.numbers") as stream:
            return await anext(stream)

    @plugin.answer("test.drop")
    async def drop(request: Request) -> object:
        stream = request.call_stream("other.numbers")
        number = await anext(stream)
        del stream
        gc.collect()
        return number

    async with TestHost(plugin, streaming={"other.numbers": lambda _: range(1, 1001)}) as host:
        assert await host.request("test.first") == 1
        await host.until("the call is cancelled", lambda seen: len(seen.gave_up) == 1)
        assert await host.request("test.drop") == 1
        await host.until("the call is cancelled", lambda seen: len(seen.gave_up) == 2)


async def test_a_stream_that_breaks_says_so_at_its_end() -> None:
    plugin = Plugin()

    @plugin.answer("test.follow")
    async def follow(request: Request) -> str:
        stream = request.call_stream("other.missing")
        assert [chunk async for chunk in stream] == []
        with pytest.raises(CallFailed) as failed:
            await stream.outcome()
        return failed.value.code

    async with TestHost(plugin) as host:
        assert await host.request("test.follow") == "plugin_unavailable"


async def test_a_call_needs_a_session_and_a_name_and_must_fit() -> None:
    errors: list[Exception] = []
    plugin = Plugin()

    @plugin.background
    async def work(host: Host) -> None:
        # The plugin's own work begins before it is registered.
        for capability in ("other.thing", "nodot"):
            try:
                await host.call(capability)
            except WireError as error:
                errors.append(error)
        assert not host.publish("early")

    @plugin.answer("test.large")
    async def large(request: Request) -> object:
        return await request.call("other.thing", "x" * 5000)

    async with TestHost(plugin, limits=Limits(frame_from_plugin=4 << 10)) as host:
        with pytest.raises(WireError, match="the payload is too large"):
            await host.request("test.large")
    assert [type(error) for error in errors] == [NotConnected, CallError]
    assert issubclass(CallTooLarge, CallError)
    assert issubclass(TimedOut, CallError)


async def test_models_change_when_the_host_agrees() -> None:
    plugin = Plugin()
    plugin.model("old", "test.rename")

    @plugin.answer("test.rename")
    async def rename(request: Request) -> None:
        await request.host.set_models([Model(request.read(str), "test.rename")])

    async with TestHost(plugin) as host:
        await host.request("test.rename", "new")
        assert host.seen.registrations[0].models[0].id == "new"
        host.break_link()
        await host.until("the plugin comes back", lambda seen: len(seen.registrations) == 2)
        assert host.seen.registrations[1].models[0].id == "new", "what holds is registered again"

    refusal = WireError(ErrorCode.FORBIDDEN, "not in the entry")
    async with TestHost(plugin, refusing_updates=refusal) as host:
        with pytest.raises(WireError) as refused:
            await host.request("test.rename", "new")
        assert refused.value == refusal
        host.break_link()
        await host.until("the plugin comes back", lambda seen: len(seen.registrations) == 2)
        assert host.seen.registrations[1].models[0].id == "old"


async def test_an_update_without_a_session_says_so() -> None:
    errors: list[Exception] = []
    plugin = Plugin()

    @plugin.background
    async def work(host: Host) -> None:
        try:
            await host.update(Update())
        except CallError as error:
            errors.append(error)

    async with TestHost(plugin):
        pass
    assert [type(error) for error in errors] == [NotConnected]


async def test_events_go_to_subscribers_of_their_topic_also_after_a_broken_link() -> None:
    plugin = Plugin()

    @plugin.background
    async def follow(host: Host) -> None:
        async for event in host.subscribe("orders"):
            assert host.publish("seen", event.data)

    async with TestHost(plugin) as host:
        for number in (1, 2):
            await host.until("the topic is wanted", lambda seen: seen.topics == ["orders"])
            host.event("others", 0)
            host.event("orders", number)
            await host.until("the event comes back", has("published", number))
            assert host.seen.published[-1] == ("seen", number)
            host.break_link()
            await host.until("the plugin comes back", has("registrations", number + 1))


async def test_a_topic_is_given_up_with_its_last_subscriber() -> None:
    plugin = Plugin()

    @plugin.answer("test.once")
    async def once(request: Request) -> object:
        first = request.host.subscribe("orders")
        second = request.host.subscribe("orders")
        del second
        async with first:
            return (await anext(first)).data

    async with TestHost(plugin) as host:
        request = host.start_request("test.once")
        await host.until("the topic is wanted", lambda seen: seen.topics == ["orders"])
        host.event("orders", 7)
        assert await request.outcome() == 7
        await host.until("the topic is given up", lambda seen: seen.topics == [])


async def test_a_subscriber_that_falls_behind_misses_the_oldest_and_knows() -> None:
    plugin = Plugin()

    @plugin.answer("test.behind")
    async def behind(request: Request) -> object:
        async with request.host.subscribe("numbers") as numbers:
            await request.call("other.burst")
            return [(await anext(numbers)).data, numbers.missed]

    async with TestHost(plugin) as host:

        async def burst(_: m.Request) -> None:
            for number in range(300):
                host.event("numbers", number)

        host.answering["other.burst"] = burst
        assert await host.request("test.behind") == [44, 44]


async def test_the_host_is_asked_who_may_what() -> None:
    plugin = Plugin()

    @plugin.answer("test.may")
    async def may(request: Request) -> object:
        verdict = await request.host.authorize(request.read(str), "repo.file.read")
        return [verdict.allowed, verdict.user, verdict.key_id, list(verdict.scopes), verdict.reason]

    def authorize(request: m.Request) -> object:
        if b"good" in bytes(request.payload):
            return {"allowed": True, "user": "ada", "keyId": "key-1", "scopes": ["repo.*"], "new": 1}
        return {"allowed": False, "reason": "unknown credential"}

    async with TestHost(plugin, answering={"host.authorize": authorize}) as host:
        assert await host.request("test.may", "good") == [True, "ada", "key-1", ["repo.*"], None]
        assert await host.request("test.may", "bad") == [False, None, None, [], "unknown credential"]


async def test_a_changed_verdict_is_said_before_the_answer() -> None:
    plugin = Plugin()

    @plugin.answer("test.revoke")
    async def revoke(request: Request) -> None:
        request.host.auth_changed(AuthChanged(generation=12, key_id=request.read(str)))

    async with TestHost(plugin) as host:
        await host.request("test.revoke", "key-1")
        assert host.seen.auth_changes == [AuthChanged(generation=12, key_id="key-1")]
        assert host.seen.answers_before_auth_changes == [0]


async def test_a_call_of_a_session_that_ends_is_disconnected_and_the_next_is_not() -> None:
    plugin = Plugin()

    @plugin.background
    async def work(host: Host) -> None:
        async with host.subscribe("go") as go:
            async for _ in go:
                try:
                    host.publish("outcome", await host.call("other.thing"))
                except CallError as error:
                    host.log(LogLevel.INFO, type(error).__name__)

    async with TestHost(plugin, silent=["other.thing"]) as host:
        await host.until("it waits", lambda seen: seen.topics == ["go"])
        host.event("go")
        await host.until("the call has come", lambda seen: len(seen.asked) == 1)
        host.silent.clear()
        host.answering["other.thing"] = lambda _: "back"
        host.break_link()
        await host.until("it is told", lambda seen: "Disconnected" in [log.message for log in seen.logs])
        host.event("go")
        await host.until("the call is answered", lambda seen: seen.published == [("outcome", "back")])
