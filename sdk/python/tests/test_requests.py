"""Every request is answered exactly once, whatever becomes of its handler."""

from __future__ import annotations

import asyncio
import base64
import sys
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pytest

from bkg_sdk import (
    Caller,
    CancelReason,
    Capability,
    DefinitionError,
    ErrorCode,
    HttpRequest,
    Plugin,
    RawJson,
    Request,
    RouteAnswer,
    WireError,
)
from bkg_sdk.protocol import message as m
from bkg_sdk.testing import Limits, TestHost


async def echo(request: Request) -> object:
    return request.payload


def answering(**handlers: Callable[[Request], object]) -> Plugin:
    """A plugin whose `test.<name>` is answered by a handler each, and `test.echo`."""
    plugin = Plugin()
    for name, handler in {"echo": echo, **handlers}.items():
        plugin.answer(f"test.{name}")(handler)
    return plugin


async def refusal(host: TestHost, capability: str, payload: object = None) -> WireError:
    with pytest.raises(WireError) as refused:
        await host.request(capability, payload)
    return refused.value


async def test_a_request_is_answered_with_what_the_handler_returns() -> None:
    async with TestHost(answering()) as host:
        payload = {"b": 1.0e2, "a": "é", "none": None, "list": [1, True]}
        assert await host.request("test.echo", payload) == payload
        assert host.in_flight == 0


async def test_a_payload_can_be_passed_on_unread() -> None:
    async def unread(request: Request) -> RawJson:
        return request.read(RawJson)

    async with TestHost(answering(unread=unread)) as host:
        request = host.start_request("test.unread", RawJson(b'{"b":1.50}'))
        assert await request.outcome() == {"b": 1.5}


async def test_an_error_travels_whole() -> None:
    error = WireError(
        ErrorCode.RATE_LIMITED,
        "no",
        param="messages[0]",
        retry_after=1.5,
        retryable=True,
        details={"x": [1]},
    )

    async def refuse(_: Request) -> None:
        raise error

    async with TestHost(answering(refuse=refuse)) as host:
        assert await refusal(host, "test.refuse") == error


@dataclass
class Guest:
    name: str
    nick_names: list[str] = field(default_factory=list)


@dataclass
class Party:
    guests: list[Guest]
    first_guest: Guest | None = None


async def test_a_payload_is_read_as_a_dataclass_whose_members_are_camel_case() -> None:
    async def invite(request: Request) -> Party:
        return request.read(Party)

    async with TestHost(answering(invite=invite)) as host:
        party = {
            "guests": [{"name": "Ada", "nickNames": ["A"]}],
            "firstGuest": {"name": "Bo", "nickNames": []},
        }
        assert await host.request("test.invite", party) == party


@pytest.mark.parametrize(
    ("payload", "param", "message"),
    [
        ({}, "guests", "the payload cannot be read: the member `guests` is missing"),
        ({"guests": [{}]}, "guests[0].name", "the member `guests[0].name` is missing"),
        ({"guests": [{"name": 1}]}, "guests[0].name", "`guests[0].name`: expected `str`, got `int`"),
        (
            {"guests": [], "firstGuest": 3},
            "firstGuest",
            "`firstGuest`: expected `object | null`",
        ),
        ("x", None, "the payload cannot be read: expected `object`, got `str`"),
    ],
)
async def test_a_payload_that_does_not_fit_is_the_callers_mistake(
    payload: object, param: str | None, message: str
) -> None:
    async def invite(request: Request) -> Party:
        return request.read(Party)

    async with TestHost(answering(invite=invite)) as host:
        error = await refusal(host, "test.invite", payload)
        assert (error.code, error.param) == ("invalid_request", param)
        assert message in error.message


async def test_a_capability_without_a_handler_is_not_found() -> None:
    async with TestHost(answering()) as host:
        error = await refusal(host, "test.other")
        assert (error.code, "test.other" in error.message) == ("not_found", True)


@pytest.mark.parametrize("answer", [object(), {"x": {1, 2}.__iter__()}, lambda: None, {1: [object()]}])
async def test_an_answer_without_a_json_form_is_the_plugins_mistake(answer: object) -> None:
    async def strange(_: Request) -> object:
        return answer

    async with TestHost(answering(strange=strange)) as host:
        error = await refusal(host, "test.strange")
        assert (error.code, "TypeError" in error.message) == ("plugin_error", True)


async def test_a_handler_that_fails_answers_and_harms_no_other() -> None:
    async def fails(_: Request) -> None:
        raise KeyError("secret of the upstream")

    async with TestHost(answering(fails=fails)) as host:
        error = await refusal(host, "test.fails")
        assert (error.code, "KeyError" in error.message, "secret" in error.message) == (
            "plugin_error",
            True,
            False,
        )
        await host.until(
            "the log has the traceback",
            lambda seen: any("secret of the upstream" in str(bytes_of(line)) for line in seen.logs),
        )
        assert await host.request("test.echo", 1) == 1


def bytes_of(line: m.Log) -> bytes:
    return bytes(line.fields) if isinstance(line.fields, RawJson) else b""


async def test_a_handler_that_exits_ends_itself_and_not_the_plugin() -> None:
    async def leaves(_: Request) -> None:
        sys.exit(3)

    def leaves_its_thread(_: Request) -> None:
        sys.exit(3)

    async with TestHost(answering(leaves=leaves, thread=leaves_its_thread)) as host:
        for capability in ("test.leaves", "test.thread"):
            error = await refusal(host, capability)
            assert (error.code, "SystemExit" in error.message) == ("plugin_error", True)
        assert await host.request("test.echo", 1) == 1


async def test_handlers_run_at_the_same_time() -> None:
    both = asyncio.Barrier(2)

    async def meet(_: Request) -> None:
        await both.wait()

    async with TestHost(answering(meet=meet)) as host:
        first, second = host.start_request("test.meet"), host.start_request("test.meet")
        assert (await first.outcome(), await second.outcome()) == (None, None)


async def test_plain_functions_run_in_threads_and_may_use_the_host() -> None:
    both = threading.Barrier(2)

    def meet(request: Request) -> Any:
        both.wait(10)
        request.host.set_figure("met", 1)
        request.host.publish("met")
        answer = request.host.from_thread(request.call("other.thing", 7))
        return [threading.current_thread() is threading.main_thread(), answer]

    async with TestHost(answering(meet=meet), answering={"other.thing": lambda request: 8}) as host:
        first, second = host.start_request("test.meet"), host.start_request("test.meet")
        assert (await first.outcome(), await second.outcome()) == ([False, 8], [False, 8])
        assert [topic for topic, _ in host.seen.published] == ["met", "met"]


async def test_a_cancelled_request_is_answered_so_and_its_handler_is_cancelled() -> None:
    began, ended = asyncio.Event(), asyncio.Event()

    async def stall(_: Request) -> None:
        began.set()
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()

    async with TestHost(answering(stall=stall)) as host:
        request = host.start_request("test.stall")
        await began.wait()
        request.cancel(CancelReason.CALLER_GONE)
        await ended.wait()
        await host.until("it is answered", lambda seen: len(seen.answers) == 1)
        [(request_id, outcome)] = host.seen.answers
        assert (request_id, outcome.code) == (request.id, "cancelled")
        assert (host.in_flight, host.seen.dropped) == (0, [])


async def test_a_handler_that_ignores_the_cancel_is_not_waited_for_and_answers_once() -> None:
    began, leave = asyncio.Event(), asyncio.Event()

    async def stubborn(_: Request) -> str:
        began.set()
        while not leave.is_set():
            try:
                await leave.wait()
            except asyncio.CancelledError:
                continue
        return "late"

    async with TestHost(answering(stubborn=stubborn)) as host:
        request = host.start_request("test.stubborn")
        await began.wait()
        request.cancel()
        await host.until("it is answered", lambda seen: len(seen.answers) == 1)
        leave.set()
        assert await host.request("test.echo", 1) == 1
        assert len(host.seen.answers) == 2
        assert host.seen.dropped == []


async def test_a_request_that_is_cancelled_before_its_handler_began_is_answered() -> None:
    async with TestHost(answering()) as host:
        # Both are read in one go, so that the cancel is there before the handler's first step.
        host.say_raw(
            b'{"type":"request","requestId":"r","capability":"test.echo","payload":1}',
            b'{"type":"cancel","requestId":"r","reason":"caller_gone"}',
        )
        await host.until("it is answered", lambda seen: bool(seen.answers))
        assert [(each, outcome.code) for each, outcome in host.seen.answers] == [("r", "cancelled")]


async def test_a_thread_learns_of_the_cancel() -> None:
    began, told = threading.Event(), threading.Event()

    def compute(request: Request) -> None:
        began.set()
        while not request.cancelled.is_set():
            pass
        told.set()

    async with TestHost(answering(compute=compute)) as host:
        request = host.start_request("test.compute")
        await asyncio.to_thread(began.wait, 10)
        request.cancel(CancelReason.DEADLINE)
        assert await asyncio.to_thread(told.wait, 10)
        await host.until("it is answered", lambda seen: len(seen.answers) == 1)


async def test_a_handler_that_cancels_itself_has_failed() -> None:
    async def gives_up(_: Request) -> None:
        raise asyncio.CancelledError

    async with TestHost(answering(gives_up=gives_up)) as host:
        assert (await refusal(host, "test.gives_up")).code == "plugin_error"


async def test_an_answer_that_is_too_large_becomes_an_error() -> None:
    async def large(_: Request) -> str:
        return "x" * (5 << 10)

    async with TestHost(answering(large=large), limits=Limits(frame_from_plugin=4 << 10)) as host:
        assert (await refusal(host, "test.large")).code == "payload_too_large"


async def test_a_handler_sees_who_asks_and_how() -> None:
    async def describe(request: Request) -> object:
        user = None if request.caller is None else request.caller.user
        return [
            user,
            request.timeout,
            request.correlation_id,
            request.http,
            request.wants_stream,
            request.credential,
        ]

    async with TestHost(answering(describe=describe)) as host:
        described = await host.request(
            "test.describe", caller=Caller("ada"), timeout=1.5, correlation_id="c-1", token="t"
        )
        assert described == ["ada", 1.5, "c-1", None, False, "t"]


@pytest.mark.parametrize(
    ("body", "payload", "expected"),
    [
        ("none", None, b""),
        ("text", "hé", "hé".encode()),
        ("base64", "AAH/", b"\x00\x01\xff"),
        ("base64", "?", "not base64"),
        ("json", {}, "JSON or a form"),
        ("form", {}, "JSON or a form"),
    ],
)
async def test_a_body_comes_byte_for_byte(body: Any, payload: object, expected: bytes | str) -> None:
    async def reverse(request: Request) -> RouteAnswer:
        return RouteAnswer(bytes=request.body())

    async with TestHost(answering(reverse=reverse)) as host:
        http = HttpRequest("POST", "/reverse", body=body)
        if isinstance(expected, str):
            with pytest.raises(WireError, match=expected):
                await host.request("test.reverse", payload, http=http)
        else:
            answer = await host.request("test.reverse", payload, http=http)
            assert base64.b64decode(answer["$http"]["base64"]) == expected
        assert "there is no HTTP request" in (await refusal(host, "test.reverse")).message


def test_an_answer_to_a_route_is_written_as_the_host_reads_it() -> None:
    assert RouteAnswer(204).json_value() == {"$http": {"status": 204}}
    assert RouteAnswer(headers={"Vary": ["a", "b"], "ETag": '"1"'}, json=None).json_value() == {
        "$http": {"status": 200, "headers": {"vary": ["a", "b"], "etag": ['"1"']}, "json": None}
    }
    assert RouteAnswer(bytes=b"\xff\x00").json_value() == {"$http": {"status": 200, "base64": "/wA="}}
    with pytest.raises(ValueError, match="one body"):
        RouteAnswer(text="a", bytes=b"b")


async def test_the_registration_says_what_the_plugin_is() -> None:
    plugin = Plugin(version="1.2.3", channels=["room"], meta={"homepage": "https://example.org"})
    plugin.capability(
        Capability(
            "test.echo",
            answer=echo,
            description="Says it again",
            idempotent=True,
            timeout=1.5,
            max_concurrency=4,
            routes=[("GET", "/echo")],
        )
    )
    plugin.model("small", "test.echo")
    plugin.route("GET", "/", "test.echo")
    async with TestHost(plugin, name="parrot") as host:
        [registration] = host.seen.registrations
        assert (registration.plugin, registration.protocol, registration.version) == ("parrot", 1, "1.2.3")
        assert registration.capabilities == [
            m.DescribedCapability(
                "test.echo",
                description="Says it again",
                idempotent=True,
                timeout_ms=1500,
                max_concurrency=4,
            )
        ]
        assert [model.id for model in registration.models] == ["small"]
        assert [route.path for route in registration.routes] == ["/echo", "/"]
        assert (registration.channels, registration.meta) == (["room"], {"homepage": "https://example.org"})


async def test_a_mistake_in_the_description_ends_the_plugin_with_its_reason() -> None:
    twice = answering()
    twice.answer("test.echo")(echo)
    mute = Plugin()
    mute.capability(Capability("test.mute"))
    nameless = Plugin()
    nameless.route("GET", "/", "nodot")
    short = Plugin()
    short.answer("x")(echo)
    for plugin, expected in [
        (twice, "defined twice"),
        (mute, "no handler"),
        (nameless, "not a capability name"),
        (short, "not a capability name"),
    ]:
        with pytest.raises(DefinitionError, match=expected) as mistake:
            async with TestHost(plugin):
                pass
        assert mistake.value.exit_code == 78


@pytest.mark.parametrize("text", [b"{not json", b"", b"1 2", b'"\xff"'])
async def test_text_that_claims_to_be_json_and_is_not_never_becomes_a_frame(text: bytes) -> None:
    async def whole(_: Request) -> RawJson:
        return RawJson(text)

    async def inside(_: Request) -> object:
        return {"item": RawJson(text)}

    async with TestHost(answering(whole=whole, inside=inside)) as host:
        for capability in ("test.whole", "test.inside"):
            error = await refusal(host, capability)
            assert (error.code, "ValueError" in error.message) == ("plugin_error", True)
        assert host.in_flight == 0


@pytest.mark.parametrize(
    "error",
    [
        WireError("not_found", ValueError("no such page")),  # type: ignore[arg-type]
        WireError("not_found", "no such page: \ud800"),
        WireError("not_found", "no such page", param=7),  # type: ignore[arg-type]
        WireError("not_found", "no such page", retry_after=float("inf")),
        WireError("not_found", "no such page", retry_after=float("nan")),
        WireError("not_found", "no such page", details={"x": "\ud800"}),
        WireError("not_found", "no such page", details=RawJson(b"{not json")),
    ],
)
async def test_a_failure_travels_whatever_was_put_into_it(error: WireError) -> None:
    async def fails(_: Request) -> None:
        raise error

    async with TestHost(answering(fails=fails)) as host:
        answered = await refusal(host, "test.fails")
        assert (answered.code, answered.message.startswith("no such page")) == ("not_found", True)


async def test_whatever_escapes_a_handler_answers_for_the_plugin() -> None:
    class Odd(BaseException):
        pass

    async def odd(_: Request) -> None:
        raise Odd

    def odd_in_its_thread(_: Request) -> None:
        raise Odd

    def exhausted(_: Request) -> object:
        return next(iter([]))

    async def cancelled(_: Request) -> None:
        raise asyncio.CancelledError

    handlers = {"odd": odd, "thread": odd_in_its_thread, "exhausted": exhausted, "cancelled": cancelled}
    async with TestHost(answering(**handlers)) as host:
        for name in handlers:
            assert (await refusal(host, f"test.{name}")).code == "plugin_error"


async def test_a_payload_that_is_nested_too_deeply_to_be_read_is_the_callers_mistake() -> None:
    async with TestHost(answering()) as host:
        error = await refusal(host, "test.echo", RawJson(b"[" * 900 + b"]" * 900))
        assert (error.code, "nested too deeply" in error.message) == ("invalid_request", True)


@pytest.mark.parametrize("status", [0, 101, 199, 600])
def test_a_status_that_no_answer_can_have_is_refused_where_it_is_written(status: int) -> None:
    with pytest.raises(ValueError, match="200 to 599"):
        RouteAnswer(status)


async def test_subclasses_of_plain_values_are_written_as_what_they_are() -> None:
    class Word(str):
        pass

    class Ratio(float):
        pass

    class Row(dict[str, object]):
        pass

    async def strange(_: Request) -> object:
        return Row(word=Word("a"), ratio=Ratio(0.5), guest=Guest("Ada"), guests=[Row(guest=Guest("Bo"))])

    async with TestHost(answering(strange=strange)) as host:
        assert await host.request("test.strange") == {
            "word": "a",
            "ratio": 0.5,
            "guest": {"name": "Ada", "nickNames": []},
            "guests": [{"guest": {"name": "Bo", "nickNames": []}}],
        }
