"""Half a character, such as `\\ud800`, is JSON that `msgspec` does not read: nobody waits in vain."""

from __future__ import annotations

import logging

import pytest

from bkg_sdk import ErrorCode, Health, LogLevel, Plugin, RawJson, Request, WireError
from bkg_sdk.protocol.frame import HOST_MESSAGES, FrameError
from bkg_sdk.protocol.message import Request as RequestMessage
from bkg_sdk.testing import TestHost

HARD = rb'{"\ud800":["\udc00",1.0,1e400,' + b"1" * 5000 + rb'],"whole":"\ud83d\ude00"}'
NO_UTF_8 = "name-\udcff"


def plugin() -> Plugin:
    made = Plugin()

    @made.answer("half.echo")
    async def echo(request: Request) -> RawJson:
        return request.read(RawJson)

    @made.answer("half.parsed")
    async def parsed(request: Request) -> object:
        return request.payload

    @made.answer("half.typed")
    async def typed(request: Request) -> str:
        return request.read(str)

    @made.answer("half.fails")
    async def fails(request: Request) -> None:
        raise WireError(ErrorCode.NOT_FOUND, f"there is no `{NO_UTF_8}`", param=NO_UTF_8)

    @made.answer("half.logs")
    async def logs(request: Request) -> None:
        logging.getLogger("half").warning("what is %s", NO_UTF_8)
        request.host.log(LogLevel.INFO, f"found {NO_UTF_8}", name=NO_UTF_8, more={NO_UTF_8: object()})
        request.host.set_health(Health.UP, NO_UTF_8)

    return made


def frame(payload: bytes) -> bytes:
    return b'{ "type":"request","requestId":"a","payload" : ' + payload + b' ,"capability":"x.y"}'


@pytest.mark.parametrize("payload", [rb'"\ud800"', rb'["\udfff",{"\ud800":1}]', HARD])
def test_a_payload_crosses_as_the_text_that_it_is(payload: bytes) -> None:
    request = HOST_MESSAGES.decode(frame(payload))
    assert isinstance(request, RequestMessage)
    assert (bytes(request.payload), request.request_id) == (payload, "a")


@pytest.mark.parametrize(
    "text",
    [
        rb'["\ud800"]',
        rb'{"type":"request","payload":"\ud800"',
        rb'{"type":"request","payload":"\ud800"} 1',
        rb'{"type":"request" "payload":"\ud800"}',
        rb'{"ty\ud800pe":"request"}',
    ],
)
def test_what_is_no_envelope_is_still_none(text: bytes) -> None:
    with pytest.raises(FrameError):
        HOST_MESSAGES.decode(text)


def test_a_request_that_cannot_be_read_still_names_itself() -> None:
    with pytest.raises(FrameError) as refused:
        HOST_MESSAGES.decode(frame(rb'"\ud800"').replace(b"x.y", rb"x.\ud800"))
    assert (refused.value.kind, refused.value.request_id) == ("request", "a")


async def test_it_comes_back_from_a_handler() -> None:
    async with TestHost(plugin()) as host:
        assert await host.request("half.echo", RawJson(rb'"\ud800"')) == "\ud800"
        both = {"a": "\ud800", "\udc00": [1, "\udfff"]}
        assert await host.request("half.parsed", RawJson(rb'{"a":"\ud800","\udc00":[1,"\udfff"]}')) == both


async def test_a_type_refuses_it() -> None:
    async with TestHost(plugin()) as host:
        with pytest.raises(WireError) as refused:
            await host.request("half.typed", RawJson(rb'"\ud800"'))
        assert refused.value.code == ErrorCode.INVALID_REQUEST


async def test_a_failure_and_a_log_line_with_it_are_sent() -> None:
    async with TestHost(plugin()) as host:
        with pytest.raises(WireError, match=r"there is no `name-\\udcff`") as refused:
            await host.request("half.fails")
        assert refused.value.code == ErrorCode.NOT_FOUND
        await host.request("half.logs")
        await host.until("the line", lambda seen: any("found name-" in line.message for line in seen.logs))
        assert await host.request("half.echo", 1) == 1
