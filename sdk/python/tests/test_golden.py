"""Every message of both directions against its golden file.

A file is what the other side may really send, and the value beside it here is what it must mean: a member
that is misspelt both ways would survive a round trip. `crates/bkg-protocol/golden/README.md` says which
file is which.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import msgspec
import pytest

from bkg_sdk import (
    AuthChanged,
    Caller,
    CancelReason,
    DescribedCapability,
    Event,
    HttpRequest,
    LogLevel,
    Model,
    Route,
    Tool,
    UiSlot,
    Update,
    WireError,
)
from bkg_sdk.protocol import message as m
from bkg_sdk.protocol.error import error_of_raw, error_to_raw
from bkg_sdk.protocol.frame import HOST_MESSAGES, PLUGIN_MESSAGES, Direction, encode

FOLDER = Path(__file__).parents[3] / "crates/bkg-protocol/golden/messages"
HOST_REQUEST = "a0a0a0a0-a0a0-8a0a-8000-000000000000"
PLUGIN_REQUEST = "b0b0b0b0-b0b0-8b0b-8000-000000000000"
TRACE = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


def raw(value: Any) -> msgspec.Raw:
    return msgspec.Raw(json.dumps(value).encode())


def register(name: str = "echo", **members: Any) -> m.Register:
    return m.Register(**{"plugin": name, "port": "internal", "capabilities": [], **members})


def request(request_id: str, capability: str, payload: Any, **members: Any) -> m.Request:
    return m.Request(request_id=request_id, capability=capability, payload=raw(payload), **members)


def success(data: Any, request_id: str = HOST_REQUEST) -> m.Response:
    return m.Response.of(request_id, raw(data))


def failure(error: WireError, request_id: str = HOST_REQUEST) -> m.Response:
    return m.Response.of(request_id, error)


def log(message: str, level: LogLevel = LogLevel.INFO, **members: Any) -> m.Log:
    return m.Log(plugin="echo", level=level, message=message, **members)


PLUGIN: dict[str, m.Message] = {
    "register.minimal": register(),
    "register.nulls": register(),
    "register.unknown-fields": register(capabilities=[DescribedCapability("echo.say")]),
    "register.base": register(
        "ping-python",
        port=4101,
        capabilities=[DescribedCapability("ping.echo"), DescribedCapability("ping.time")],
        meta={"version": "1.2.0"},
        config_schema={"type": "object"},
    ),
    "register.extended": register(
        "scribe",
        port=8123,
        capabilities=[
            DescribedCapability(
                "llm.chat",
                description="Answers a conversation",
                input_schema={"type": "object", "required": ["messages"]},
                output_schema={"type": "object"},
                streaming=True,
                idempotent=True,
                side_effect=True,
                timeout_ms=120_000,
                max_concurrency=4,
            ),
            DescribedCapability("llm.embed"),
        ],
        meta={"hotConfig": True, "homepage": "https://example.org"},
        config_schema={"type": "object", "properties": {"tone": {"type": "string"}}},
        protocol=1,
        version="0.3.1",
        token="launch-token",
        models=[
            Model("scribe/large", "llm.chat", owned_by="scribe", context_length=8192),
            Model("scribe/embed", "llm.embed", dimensions=384),
        ],
        routes=[Route("GET", "/pages/{page}", "scribe.page", streaming=True)],
        tools=[
            Tool(
                "write_page",
                "scribe.write",
                description="Writes a page",
                parameters={"type": "object"},
                side_effect=True,
            )
        ],
        channels=["typing"],
        ui=[UiSlot("page", "Pages", "pages.json")],
    ),
    "register.resume": register(
        "scribe", capabilities=[DescribedCapability("llm.chat")], protocol=1, resume="resume-secret"
    ),
    "health.up": m.Health(plugin="echo", status="up"),
    "health.degraded": m.Health(plugin="echo", status="degraded", detail="the model is still loading"),
    "health.down": m.Health(plugin="echo", status="down", detail="the disk is full"),
    "health.own-word": m.Health(plugin="echo", status="ready"),
    "health.detail-object": m.Health(plugin="echo", status="up", detail='{"queue":3}'),
    "telemetry": m.Telemetry(
        plugin="echo", cpu=12.5, mem_bytes=52_428_800, further={"queue": 3, "hit_rate": 0.75}
    ),
    "telemetry.bare": m.Telemetry(plugin="echo"),
    "log.full": log(
        "the queue is long",
        LogLevel.WARN,
        timestamp="2026-01-02T03:04:05.25Z",
        fields=raw({"queue": 31}),
        request_id=HOST_REQUEST,
    ),
    "log.minimal": log("ready"),
    "log.no-zone": log("slow", LogLevel.WARN, timestamp="2026-01-02T03:04:05.25Z"),
    "log.number-timestamp": log('{"state":"ready"}'),
    "response.success": success({"text": "hello"}),
    "response.both-success": success({"text": "hello"}),
    "response.no-data": success(None),
    "response.failure": failure(
        WireError(
            "rate_limited",
            "the upstream allows 3 requests a minute: wait",
            retryable=True,
            retry_after=20,
            param="messages[0].role",
            details={"limit": 3},
        )
    ),
    "response.cancelled": failure(WireError("cancelled", "the request was cancelled by its caller")),
    "response.error-text": failure(WireError("plugin_error", "the file does not exist")),
    "response.both-failure": failure(WireError("not_found", "no such page")),
    "response.no-reason": failure(WireError("plugin_error", "the plugin failed and gave no reason")),
    "chunk.first": m.Chunk(request_id=HOST_REQUEST, seq=0, data=raw({"delta": "he"})),
    "chunk.later": m.Chunk(request_id=HOST_REQUEST, seq=41, data=raw("llo")),
    "request.base": request("7", "ping.time", {}),
    "request.no-payload": request("7", "ping.time", None),
    "request.extended": request(
        PLUGIN_REQUEST,
        "llm.chat",
        {"messages": []},
        stream=True,
        credit=8,
        timeout_ms=5000,
        parent_request_id=HOST_REQUEST,
        traceparent=TRACE,
    ),
    "cancel": m.Cancel(request_id=PLUGIN_REQUEST, reason=CancelReason.CALLER_GONE),
    "cancel.unknown-reason": m.Cancel(request_id=PLUGIN_REQUEST, reason=CancelReason.OTHER),
    "cancel.no-reason": m.Cancel(request_id=PLUGIN_REQUEST, reason=CancelReason.OTHER),
    "credit": m.Credit(request_id=PLUGIN_REQUEST, n=16),
    "update.everything": Update(
        models=[Model("scribe/small", "llm.chat")],
        routes=[],
        tools=[Tool("write_page", "scribe.write", description="Writes a page")],
        capabilities=[DescribedCapability("llm.chat", streaming=True)],
        meta={"hotConfig": True},
        config_schema={"type": "object"},
    ),
    "update.one-list": Update(models=[]),
    "subscribe": m.Subscribe(topic="catalogue.changed"),
    "unsubscribe": m.Unsubscribe(topic="catalogue.changed"),
    "publish": m.Publish(topic="scribe.page-written", data=raw({"page": "start"})),
    "configApplied.success": m.ConfigApplied(revision=7, success=True),
    "configApplied.dry-run": m.ConfigApplied(revision=7, success=True, dry_run=True),
    "configApplied.failure": m.ConfigApplied(
        revision=7,
        success=False,
        error=error_to_raw(
            WireError("invalid_config", "`tone` must be one of formal, plain", param="tone")
        ),
    ),
    "authChanged.key": AuthChanged(generation=12, key_id="key-1"),
    "authChanged.session": AuthChanged(generation=13, session_id="session-1"),
    "authChanged.user": AuthChanged(generation=14, user_id="user-1"),
}

HOST: dict[str, m.Message] = {
    "registered": m.Registered(
        protocol=1,
        instance="0198c0de-0000-7000-8000-000000000001",
        resume="resume-secret",
        heartbeat_ms=10_000,
        limits=m.GrantedLimits(16_777_216, 262_144, 32),
        config=raw({"tone": "plain"}),
        config_revision=3,
    ),
    "rejected": m.Rejected(
        code="forbidden",
        message="the entry of `scribe` does not list `llm.chat`: add it there, or do not register it",
    ),
    "updated.success": m.Updated(success=True),
    "updated.failure": m.Updated(
        success=False,
        error=error_to_raw(
            WireError("forbidden", "the entry of `scribe` does not list the model `other/large`")
        ),
    ),
    "request.base": request(HOST_REQUEST, "ping.echo", {"text": "hello"}),
    "request.base-token": request(HOST_REQUEST, "ping.echo", None, token="caller-token"),
    "request.extended": request(
        HOST_REQUEST,
        "llm.chat",
        {"model": "scribe/large", "messages": [{"role": "user", "content": "hi"}], "stream": True},
        stream=True,
        credit=32,
        timeout_ms=300_000,
        caller=Caller("ada", key_id="key-1", scopes=("llm.chat", "models.read")),
        correlation_id="0198c0de-0000-7000-8000-000000000002",
        parent_request_id=PLUGIN_REQUEST,
        traceparent=TRACE,
    ),
    "request.route": request(
        "a0a0a0a0-a0a0-8a0a-8000-000000000001",
        "scribe.page",
        None,
        caller=Caller("root", scopes=("*",)),
        http=HttpRequest(
            "GET",
            "/pages/start",
            params={"page": "start"},
            query=[("v", "1"), ("v", "2")],
            headers={"accept": "text/html"},
        ),
    ),
    "request.route-body": request(
        "a0a0a0a0-a0a0-8a0a-8000-000000000002",
        "scribe.picture",
        "iVBORw0K",
        http=HttpRequest(
            "PUT",
            "/pictures/a%20b",
            params={"name": "a b"},
            headers={"content-type": "image/png"},
            body="base64",
        ),
    ),
    "response.success": success({"now": "2026-01-02T03:04:05Z"}, "7"),
    "response.failure": failure(
        WireError("forbidden", "the entry of `echo` does not allow calls to `llm.chat`"), "7"
    ),
    "chunk": m.Chunk(request_id=PLUGIN_REQUEST, seq=0, data=raw({"delta": "he"})),
    "cancel.caller-gone": m.Cancel(request_id=HOST_REQUEST, reason=CancelReason.CALLER_GONE),
    "cancel.deadline": m.Cancel(request_id=HOST_REQUEST, reason=CancelReason.DEADLINE),
    "cancel.shutdown": m.Cancel(request_id=HOST_REQUEST, reason=CancelReason.SHUTDOWN),
    "cancel.flow-control": m.Cancel(request_id=HOST_REQUEST, reason=CancelReason.FLOW_CONTROL),
    "cancel.protocol": m.Cancel(request_id=HOST_REQUEST, reason=CancelReason.PROTOCOL),
    "credit": m.Credit(request_id=HOST_REQUEST, n=16),
    "event": Event(topic="catalogue.changed", data={"plugin": "echo"}),
    "event.client": Event(topic="typing", data={"text": "h"}, client="client-1"),
    "config": m.Config(revision=7, config=raw({"tone": "formal"})),
    "config.dry-run": m.Config(revision=7, config=raw({"tone": "formal"}), dry_run=True),
    "drain": m.Drain(deadline_ms=10_000),
}

DIRECTIONS: dict[str, tuple[Direction[m.Message], dict[str, m.Message]]] = {
    "plugin-to-host": (PLUGIN_MESSAGES, PLUGIN),
    "host-to-plugin": (HOST_MESSAGES, HOST),
}
CASES = [(direction, stem) for direction, (_, messages) in DIRECTIONS.items() for stem in messages]


@pytest.mark.parametrize("direction", DIRECTIONS)
def test_every_golden_file_has_its_meaning_here(direction: str) -> None:
    stems = {
        path.name.removesuffix(".json").removesuffix(".lenient").removesuffix(".canonical")
        for path in (FOLDER / direction).iterdir()
    }
    assert stems == set(DIRECTIONS[direction][1])


@pytest.mark.parametrize(("direction", "stem"), CASES)
def test_a_message_means_what_its_golden_file_says(direction: str, stem: str) -> None:
    reader, messages = DIRECTIONS[direction]
    message, folder = messages[stem], FOLDER / direction
    strict = folder / f"{stem}.json"
    forms = (
        [strict]
        if strict.exists()
        else [folder / f"{stem}.{form}.json" for form in ("canonical", "lenient")]
    )
    assert json.loads(encode(message)) == json.loads(forms[0].read_bytes()), "what is written"
    for form in forms:
        assert means(reader.decode(form.read_bytes())) == means(message), f"{form.name} as it is read"


def means(message: object) -> Any:
    """A message as plain values, payloads and errors included."""
    if isinstance(message, msgspec.Raw):
        return json.loads(bytes(message))
    if isinstance(message, m.Response):
        outcome = message.outcome()
        return (message.request_id, message.success, means(outcome))
    if isinstance(message, WireError):
        return json.loads(bytes(error_to_raw(message)))
    if isinstance(message, msgspec.Struct):
        members = {name: means(getattr(message, name)) for name in message.__struct_fields__}
        return (type(message).__name__, members)
    if isinstance(message, list):
        return [means(item) for item in message]
    return message


@pytest.mark.parametrize("wrong", [b"", b"[]", b"{}", b'{"type":1}', b'{"type":"chunk"}', b"\xff", b"{"])
def test_what_is_no_message_is_an_error_and_not_a_crash(wrong: bytes) -> None:
    from bkg_sdk.protocol.frame import FrameError

    with pytest.raises(FrameError):
        PLUGIN_MESSAGES.decode(wrong)


def test_a_payload_crosses_unread() -> None:
    payload = b'{"z":1.0e2,"a":"\\u00e9","big":1E400}'
    frame = b'{"type":"request","requestId":"r","capability":"llm.chat","payload":' + payload + b"}"
    read = HOST_MESSAGES.decode(frame)
    assert isinstance(read, m.Request)
    assert bytes(read.payload) == payload
    assert encode(read) == frame


def test_an_error_of_any_shape_is_an_error() -> None:
    def read(text: str) -> WireError:
        return error_of_raw(msgspec.Raw(text.encode()))

    assert read('"boom"') == WireError("plugin_error", "boom")
    assert read('{"message":"m"}').code == "plugin_error"
    assert read('{"code":7,"message":"m"}').code == "7"
    assert read("[1]").message == "[1]"
    assert read('{"code":"x","retryAfterMs":5}').retry_after == 0.005


def test_secrets_are_not_printed() -> None:
    shown = repr(
        [
            register(token="canary"),
            register(resume="canary"),
            HOST["registered"],
            request("r", "a.b", None, token="canary"),
        ]
    )
    assert "canary" not in shown
    assert "resume-secret" not in shown


def test_the_codes_are_those_of_the_documentation() -> None:
    from bkg_sdk import ErrorCode

    page = (FOLDER.parents[3] / "docs/protocol.md").read_text()
    documented = [line.split("`")[1] for line in page.splitlines() if line.startswith("| [`")]
    assert documented == list(ErrorCode)
