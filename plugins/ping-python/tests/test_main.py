"""The reference plugin against the host in memory."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import pytest

import main
from bkg_sdk import HttpRequest, LogLevel, WireError
from bkg_sdk.json import RawJson, raw
from bkg_sdk.protocol import message as m
from bkg_sdk.testing import TestHost

FOLDER = Path(main.__file__).parent


def host() -> TestHost:
    return TestHost(main.plugin, name="ping-python", answering={"other.thing": lambda asked: asked.payload})


async def refusal(running: TestHost, capability: str, payload: object) -> tuple[str, str | None, str]:
    with pytest.raises(WireError) as refused:
        await running.request(capability, payload)
    return refused.value.code, refused.value.param, refused.value.message


async def test_a_ping_is_answered_by_a_pong_and_counted() -> None:
    async with host() as running:
        assert await running.request("ping-python.ping") == {"pong": True}
        assert next(main.pings) > 1


async def test_an_echo_is_what_was_sent() -> None:
    async with host() as running:
        request = running.start_request("ping-python.echo", RawJson(b'{"b":1.50,"a":null}'))
        assert bytes(await request.raw_outcome()) == b'{"b":1.50,"a":null}'


async def test_a_greeting_follows_the_settings_while_it_runs() -> None:
    async with host() as running:

        async def greeting() -> object:
            return (await running.request("ping-python.greet", {"name": "Ada"}))["greeting"]

        assert await greeting() == "hello Ada"
        await running.configure({"greeting": "salut"})
        assert await greeting() == "salut Ada"
        with pytest.raises(WireError, match="`greeting` is empty"):
            await running.configure({"greeting": " "})
        assert await greeting() == "salut Ada"
        assert (await refusal(running, "ping-python.greet", {}))[:2] == ("invalid_request", "name")


async def test_counting_comes_in_chunks() -> None:
    async with host() as running:
        stream = running.stream("ping-python.count", {"n": 100, "delayMs": 0})
        assert await stream.collect() == [{"number": number} for number in range(100)]
        assert await stream.outcome() is None
        code, _, message = await refusal(running, "ping-python.count", {"n": 1})
        assert (code, "in a stream only" in message) == ("invalid_request", True)


@pytest.mark.parametrize("payload", [{}, {"n": -1}, {"n": "3"}, {"n": 1.5}, {"n": 1, "delayMs": -1}, None])
async def test_what_cannot_be_counted_is_refused(payload: object) -> None:
    async with host() as running:
        with pytest.raises(WireError, match="invalid_request"):
            await running.stream("ping-python.count", payload).collect()


async def test_routes_take_from_the_path_what_capabilities_take_from_the_payload() -> None:
    async with host() as running:
        http = HttpRequest("GET", "/greetings/Ada", params={"name": "Ada"})
        assert await running.request("ping-python.greet", http=http) == {"greeting": "hello Ada"}

        http = HttpRequest("GET", "/count/3", params={"n": "3"}, query=[("delayMs", "1")])
        assert len(await running.stream("ping-python.count", http=http).collect()) == 3

        for params, query, wrong in [({"n": "x"}, [], "n"), ({"n": "1"}, [("delayMs", "-1")], "delayMs")]:
            http = HttpRequest("GET", "/count/x", params=params, query=query)
            with pytest.raises(WireError, match=f"`{wrong}` is a number from 0 on") as refused:
                await running.stream("ping-python.count", http=http).collect()
            assert (refused.value.code, refused.value.param) == ("invalid_request", wrong)


async def test_bytes_come_back_in_reverse() -> None:
    async with host() as running:
        http = HttpRequest("POST", "/reverse", body="base64")
        answer = (await running.request("ping-python.reverse", "AAH/", http=http))["$http"]
        assert (answer["status"], answer["base64"]) == (200, "/wEA")
        assert answer["headers"] == {"content-type": ["application/octet-stream"]}
        assert (await refusal(running, "ping-python.reverse", None))[0] == "invalid_request"


async def test_a_relayed_call_names_the_request_that_it_is_made_for() -> None:
    async with host() as running:
        order = {"capability": "other.thing", "payload": {"x": 1}}
        request = running.start_request("ping-python.relay", order)
        assert await request.outcome() == {"x": 1}
        assert running.seen.asked[0].parent_request_id == request.id
        assert await running.request("ping-python.relay", {"capability": "other.thing"}) is None
        missing = await refusal(running, "ping-python.relay", {"capability": "other.missing"})
        assert missing[0] == "plugin_unavailable"


async def test_a_relayed_call_carries_the_trace_on() -> None:
    trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"

    def traced(capability: str, payload: object) -> m.Request:
        return m.Request(request_id="", capability=capability, payload=raw(payload), traceparent=trace)

    async with host() as running:
        seen = await running.send(traced("ping-python.trace", None)).outcome()
        assert seen == {"traceparent": trace}
        order = {"capability": "other.thing", "payload": {}}
        await running.send(traced("ping-python.relay", order)).outcome()
        assert running.seen.asked[0].traceparent == trace


async def test_health_is_what_it_was_told_to_be() -> None:
    async with host() as running:
        await running.request("ping-python.feel", {"health": "degraded", "detail": "tired"})
        await running.until(
            "the plugin says so",
            lambda seen: (seen.health[-1].status, seen.health[-1].detail) == ("degraded", "tired"),
        )
        code, param, message = await refusal(running, "ping-python.feel", {"health": "fine"})
        assert (code, param) == ("invalid_request", "health")
        assert message == "`health` is `up`, `degraded` or `down`, not `fine`"


async def test_a_greeting_is_logged_with_its_request() -> None:
    async with host() as running:
        request = running.start_request("ping-python.greet", {"name": "Ada"})
        await request.outcome()
        await running.until(
            "the line has come",
            lambda seen: any(
                (line.request_id, line.level, line.message)
                == (request.id, LogLevel.INFO, "greeting a guest")
                for line in seen.logs
            ),
        )


async def test_its_files_say_what_it_registers() -> None:
    entry = json.loads((FOLDER / "plugin.json").read_text())
    config = json.loads((FOLDER / "config.json").read_text())
    async with host() as running:
        [registration] = running.seen.registrations
    assert (entry["name"], entry["version"]) == ("ping-python", registration.version)
    assert (entry["capabilities"], entry["autostart"]) == (["ping-python.*"], False)
    assert all(each.id.startswith("ping-python.") for each in registration.capabilities)
    routes = [f"{route.method} {route.path}" for route in registration.routes]
    assert routes == ["GET /", "GET /greetings/{name}", "GET /count/{n}", "POST /reverse"]
    assert config == asdict(main.Greeting())
    assert list(entry["configSchema"]["properties"]) == list(config)


def test_it_does_what_the_reference_in_rust_does() -> None:
    ours, theirs = ((FOLDER.parent / name / "plugin.json").read_text() for name in ("ping-python", "ping"))
    told = json.loads(ours.replace("ping-python", "ping"))
    expected = json.loads(theirs)
    for differs in ("description", "type", "autostart", "prepare"):
        told.pop(differs, None)
        expected.pop(differs, None)
    assert told == expected
