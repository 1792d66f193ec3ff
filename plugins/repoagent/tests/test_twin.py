"""The HTTP twin: who is let in, and that it answers as the bus does."""

import asyncio
import contextlib
import http.client
import json
import socket
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import pytest

from bkg_sdk import WireError
from bkg_sdk.protocol.message import Request
from bkg_sdk.testing import TestHost
from repoagent.plugin import RepoPlugin, build
from space import Space, until

VERDICTS: dict[str, Any] = {
    "good": {"allowed": True, "user": "ada", "scopes": ["repo.*"]},
    "narrow": {"allowed": False, "reason": "scope"},
    "wrong": {"allowed": False, "reason": "unknown credential"},
}


def judge(request: Request) -> Any:
    asked = json.loads(bytes(request.payload))
    if asked["token"] == "tired":
        raise WireError("rate_limited", "too many requests", retry_after=7)
    if asked["token"] == "away":
        raise WireError("plugin_unavailable", "nobody can judge")
    if asked["token"] == "reader":
        allowed = asked["scope"] in ("repo.tree", "repo.file.read")
        return {**VERDICTS["good"], "allowed": allowed} if allowed else VERDICTS["narrow"]
    return VERDICTS.get(asked["token"], VERDICTS["wrong"])


@dataclass
class Answer:
    status: int
    headers: http.client.HTTPMessage
    body: bytes

    @property
    def code(self) -> str:
        error = json.loads(self.body)["error"]
        assert {"message", "type", "param", "code"} <= error.keys()
        return str(error["code"])


class Listening:
    """A plugin whose twin listens."""

    def __init__(self, plugin: RepoPlugin, host: TestHost) -> None:
        self.plugin = plugin
        self.host = host

    @property
    def port(self) -> int:
        assert self.plugin.twin.port is not None
        return self.plugin.twin.port

    def _ask(self, method: str, path: str, body: bytes | None, headers: dict[str, str]) -> Answer:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=10)
        try:
            connection.request(method, path, body, headers)
            response = connection.getresponse()
            return Answer(response.status, response.headers, response.read())
        finally:
            connection.close()

    async def ask(
        self, method: str, path: str, body: bytes | None = None, *, key: str = "good", **headers: str
    ) -> Answer:
        sent = {name.replace("_", "-"): value for name, value in headers.items()}
        if key:
            sent["Authorization"] = f"Bearer {key}"
        return await asyncio.to_thread(self._ask, method, path, body, sent)


@pytest.fixture
async def twin(space: Space) -> AsyncIterator[Listening]:
    plugin = build(space.data)
    settings = {"roots": [str(space.work)], "http": {"enabled": True, "maxBodyBytes": 100_000}}
    async with TestHost(
        plugin,
        name="repoagent",
        data_dir=space.data,
        settings=settings,
        answering={"host.authorize": judge},
    ) as host:
        await host.until(
            "the twin listens", lambda seen: any("the twin listens" in line.message for line in seen.logs)
        )
        yield Listening(plugin, host)


@pytest.mark.parametrize(
    ("key", "status", "code"),
    [
        ("", 401, "unauthorized"),
        ("wrong", 401, "unauthorized"),
        ("narrow", 403, "forbidden"),
        ("tired", 429, "rate_limited"),
        ("away", 503, "plugin_unavailable"),
    ],
)
async def test_nothing_is_answered_that_the_host_did_not_allow(
    twin: Listening, space: Space, key: str, status: int, code: str
) -> None:
    for method, path, body in (
        ("GET", "/tree", None),
        ("GET", "/files/x", None),
        ("PUT", "/files/x", b"x"),
        ("POST", "/search", b"{}"),
        ("POST", "/analyze", b"{}"),
        ("POST", "/patch", b"{}"),
        ("POST", "/command", b"{}"),
        ("POST", "/commit", b"{}"),
    ):
        answer = await twin.ask(method, path, body, key=key)
        assert (answer.status, answer.code) == (status, code)
    assert answer.headers["retry-after"] == ("7" if key == "tired" else None)
    assert space.everything() == {}


async def test_each_capability_is_asked_for_by_name(twin: Listening) -> None:
    assert (await twin.ask("GET", "/tree", key="reader")).status == 200
    assert (await twin.ask("PUT", "/files/x", b"x", key="reader")).status == 403
    scopes = [json.loads(bytes(asked.payload))["scope"] for asked in twin.host.seen.asked]
    assert scopes == ["repo.tree", "repo.file.write"]


async def test_it_answers_as_the_bus_does(twin: Listening, space: Space) -> None:
    body = bytes(range(256))
    assert (await twin.ask("PUT", "/files/d/a%20b%0A%C3%A9", body)).status == 200
    assert (space.work / "d/a b\né").read_bytes() == body
    over_http = json.loads((await twin.ask("GET", "/files/d/a%20b%0A%C3%A9?max_bytes=3")).body)
    on_the_bus = await twin.host.request("repo.file.read", {"path": "d/a b\né", "max_bytes": 3})
    assert over_http == on_the_bus
    patched = await twin.ask("POST", "/patch", b'{"changes": [{"path": "x", "content": "needle"}]}')
    assert json.loads(patched.body)["applied"]
    assert len(json.loads((await twin.ask("POST", "/search", b'{"query": "needle"}')).body)["matches"]) == 1
    assert len(json.loads((await twin.ask("GET", "/tree?limit=2")).body)["entries"]) == 2
    assert json.loads((await twin.ask("POST", "/analyze")).body)["summary"]["total_files"] == 2


@pytest.mark.parametrize(
    ("method", "path", "body", "status", "code"),
    [
        ("GET", "/files/%2e%2e/secret", None, 400, "invalid_request"),
        ("GET", "/files//etc/passwd", None, 400, "invalid_request"),
        ("GET", "/files/.git/config", None, 400, "invalid_request"),
        ("GET", "/files/none", None, 404, "not_found"),
        ("GET", "/tree?depth=x", None, 400, "invalid_request"),
        ("POST", "/search", b"{", 400, "invalid_request"),
        ("POST", "/search", b"\xff", 400, "invalid_request"),
        ("POST", "/command", b'{"command": "rm"}', 404, "not_found"),
        ("PUT", "/files/x", b"x" * 100_001, 413, "payload_too_large"),
        ("DELETE", "/files/x", None, 405, "method_not_allowed"),
        ("GET", "/docs", None, 404, "not_found"),
        ("GET", "/openapi.json", None, 404, "not_found"),
        ("GET", "/", None, 404, "not_found"),
    ],
)
async def test_a_failure_has_the_form_of_the_hosts_own(
    twin: Listening, method: str, path: str, body: bytes | None, status: int, code: str
) -> None:
    answer = await twin.ask(method, path, body)
    assert (answer.status, answer.code) == (status, code)


async def test_a_body_without_a_length_is_bounded_too(twin: Listening, space: Space) -> None:
    def chunked() -> Answer:
        connection = http.client.HTTPConnection("127.0.0.1", twin.port, timeout=10)
        pieces = (b"x" * 10_000 for _ in range(11))
        connection.request("PUT", "/files/x", pieces, {"Authorization": "Bearer good"}, encode_chunked=True)
        with contextlib.closing(connection):
            response = connection.getresponse()
            return Answer(response.status, response.headers, response.read())

    answer = await asyncio.to_thread(chunked)
    assert (answer.status, answer.code) == (413, "payload_too_large")
    assert space.everything() == {}


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"Origin": "http://evil.example"}, 403),
        ({"Origin": "null"}, 403),
        ({"Sec_Fetch_Site": "cross-site"}, 403),
        ({"Host": "evil.example"}, 421),
        ({"Host": "127.0.0.1:1"}, 421),
    ],
)
async def test_pages_of_browsers_are_kept_out(
    twin: Listening, headers: dict[str, str], status: int
) -> None:
    assert (await twin.ask("GET", "/tree", None, **headers)).status == status


async def test_it_listens_on_loopback_alone_and_only_while_it_should(twin: Listening, space: Space) -> None:
    port = twin.port
    assert twin.plugin.twin._socket is not None
    assert twin.plugin.twin._socket.getsockname()[0] == "127.0.0.1"
    await twin.host.configure({"roots": [str(space.work)], "http": {"enabled": False}})
    await twin.host.until("the port is closed", lambda _: twin.plugin.twin.port is None)
    with pytest.raises(ConnectionRefusedError), socket.create_connection(("127.0.0.1", port), timeout=5):
        pass


async def test_the_port_is_told_when_it_registers(space: Space, tmp_path: Any) -> None:
    entry = tmp_path / "config.runtime.json"
    http_settings = {"enabled": True}
    scopes = {"repo.tree": "repo:read"}
    entry.write_text(json.dumps({"settings": {"http": http_settings}, "scopes": scopes}))
    plugin = build(space.data)
    plugin.twin.announce(str(entry))
    async with TestHost(
        plugin,
        name="repoagent",
        data_dir=space.data,
        settings={"http": http_settings},
        answering={"host.authorize": judge},
    ) as host:
        await host.until("it listens", lambda seen: any("listens" in line.message for line in seen.logs))
        assert host.seen.registrations[0].port == plugin.twin.port
        assert (await Listening(plugin, host).ask("GET", "/tree")).status == 200
        assert json.loads(bytes(host.seen.asked[0].payload))["scope"] == "repo:read"


async def test_a_port_that_is_taken_is_said_and_the_bus_goes_on(space: Space) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        settings = {"http": {"enabled": True, "port": taken.getsockname()[1]}}
        plugin = build(space.data)
        async with TestHost(plugin, name="repoagent", data_dir=space.data, settings=settings) as host:
            await host.until(
                "it is degraded", lambda seen: any(beat.status == "degraded" for beat in seen.health)
            )
            assert (await host.request("repo.tree", {}))["entries"] == []


async def test_commands_are_as_few_at_once_as_over_the_bus(twin: Listening, space: Space) -> None:
    await twin.host.configure(
        {
            "roots": [str(space.work)],
            "http": {"enabled": True, "maxBodyBytes": 100_000},
            "commands": [
                {
                    "name": "wait",
                    "executable": ["sh", "-c", "touch $$; while [ -e $$ ]; do sleep 0.02; done"],
                }
            ],
        }
    )
    body = b'{"command": "wait"}'
    running = [asyncio.create_task(twin.ask("POST", "/command", body)) for _ in range(4)]
    await until(lambda: len(list(space.work.iterdir())) == 4)
    answer = await twin.ask("POST", "/command", body)
    assert (answer.status, answer.code) == (503, "overloaded")
    for file in space.work.iterdir():
        file.unlink()
    assert [answer.status for answer in await asyncio.gather(*running)] == [200] * 4
    assert (await twin.ask("GET", "/tree")).status == 200


async def test_a_body_that_does_not_come_is_not_waited_for(
    twin: Listening, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("repoagent.twin._BODY_SECONDS", 0.2)
    reader, writer = await asyncio.open_connection("127.0.0.1", twin.port)
    writer.write(
        f"PUT /files/x HTTP/1.1\r\nHost: 127.0.0.1:{twin.port}\r\nAuthorization: Bearer good\r\n"
        "Content-Length: 10\r\n\r\nhalf".encode()
    )
    async with asyncio.timeout(20):
        assert b" 408 " in await reader.readline()
    writer.close()


async def test_a_connection_that_asks_nothing_is_closed(
    twin: Listening, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("repoagent.twin._HEAD_SECONDS", 0.2)
    for begun in (b"", b"GET /tree HTTP/1.1\r\nHost:"):
        reader, writer = await asyncio.open_connection("127.0.0.1", twin.port)
        writer.write(begun)
        async with asyncio.timeout(20):
            await reader.read()
        writer.close()
