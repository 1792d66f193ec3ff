"""Half a surrogate pair, such as `\\ud800`, is JSON that `msgspec` does not read: it is passed on."""

from __future__ import annotations

import pytest

from bkg_sdk.json import RawJson, write
from bkg_sdk.protocol.frame import HOST_MESSAGES, FrameError
from bkg_sdk.protocol.message import Request

HARD = rb'{"\ud800":["\udc00",1.0,1e400,' + b"1" * 5000 + rb'],"whole":"\ud83d\ude00"}'


def frame(payload: bytes) -> bytes:
    return b'{ "type":"request","requestId":"a","payload" : ' + payload + b' ,"capability":"x.y"}'


@pytest.mark.parametrize("payload", [rb'"\ud800"', rb'["\udfff",{"\ud800":1}]', HARD])
def test_a_payload_crosses_as_the_text_that_it_is(payload: bytes) -> None:
    request = HOST_MESSAGES.decode(frame(payload))
    assert isinstance(request, Request)
    assert (bytes(request.payload), request.request_id) == (payload, "a")
    assert write(request.payload) == payload
    assert write({"it": request.payload}) == b'{"it":' + payload + b"}"


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


@pytest.mark.parametrize("text", [rb'"\ud800', rb'{"a":\ud800}', b"nothing"])
def test_what_is_no_json_is_not_passed_on(text: bytes) -> None:
    with pytest.raises(ValueError, match="not JSON"):
        write(RawJson(text))
