"""A plugin of the base contract works under supervision, and nobody else can pass for it."""

import json
import os
import re
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from harness import FIXTURES, Host
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import connect
from websockets.typing import Origin

SCRIPT = FIXTURES / "base-echo" / "base_echo.py"
REGISTER = {"type": "register", "plugin": "base-echo", "port": "internal", "capabilities": ["base.echo"]}


def launch_environment(host: Host) -> dict[str, str]:
    """The environment that the host gave to the running instance."""
    pid = host.instance("base-echo")["pid"]
    pairs = Path(f"/proc/{pid}/environ").read_bytes().decode().split("\0")
    return dict(pair.split("=", 1) for pair in pairs if pair)


def buses(host: Host) -> dict[str, str]:
    """Where a stranger could try to register: the launch's own listener and the shared bus."""
    return {
        "of the launch": launch_environment(host)["BKG_PLUGIN_BUS_URL"],
        "shared": f"ws://127.0.0.1:{host.ports['bus']}/",
    }


def register(bus: str, headers: dict[str, str], fields: dict[str, Any]) -> int | None:
    """Registers as base-echo and says with which code the conversation was ended."""
    with connect(bus, additional_headers=headers, proxy=None) as stranger:
        try:
            stranger.send(json.dumps({**REGISTER, **fields}))
            while True:
                stranger.recv(timeout=10)
        except ConnectionClosed as closed:
            return closed.rcvd.code if closed.rcvd else None


def assert_unharmed(host: Host, pid: int) -> None:
    assert host.invoke("base.echo", {"a": 1}, plugin="base-echo").json() == {"data": {"a": 1}}
    assert host.instance("base-echo")["pid"] == pid


@pytest.mark.parametrize("payload", [{"a": [1, None]}, {}, {"text": "J\u00fcrg \U0001f600"}])
def test_it_answers_through_the_gateway(host: Host, payload: Any) -> None:
    assert host.invoke("base.echo", payload, plugin="base-echo").json() == {"data": payload}


@pytest.mark.parametrize("wants_usage", [True, False])
def test_its_whole_answer_becomes_the_chunks_of_an_older_completion(host: Host, wants_usage: bool) -> None:
    stream = host.openai().completions.create(
        model="base-echo", prompt="hi", stream=True, stream_options={"include_usage": wants_usage}
    )
    chunks = list(stream)
    said = [(choice.text, choice.finish_reason) for chunk in chunks for choice in chunk.choices]
    assert said == [("you said: hi", None), ("", "stop")]
    assert {chunk.object for chunk in chunks} == {"text_completion"}
    usages = [chunk.usage.total_tokens for chunk in chunks if chunk.usage is not None]
    assert usages == ([5] if wants_usage else [])
    assert (chunks[-1].choices == []) == wants_usage


def test_its_environment_is_clean(host: Host) -> None:
    environment = launch_environment(host)
    assert {"BKG_PLUGIN_BUS_URL", "BKG_PLUGIN_NAME", "BKG_PLUGIN_INSTANCE", "PATH"} <= environment.keys()
    assert not {"PYTEST_CURRENT_TEST", "ADMIN_PASSWORD", "OPENAI_API_KEY"} & environment.keys()
    assert re.fullmatch(r"[0-9a-f-]{36}", environment["BKG_PLUGIN_INSTANCE"])


@pytest.mark.parametrize("bus", ["of the launch", "shared"])
def test_the_same_script_started_by_hand_is_turned_away(host: Host, bus: str) -> None:
    pid = host.instance("base-echo")["pid"]
    environment = {**os.environ, "BKG_PLUGIN_BUS_URL": buses(host)[bus], "BKG_PLUGIN_NAME": "base-echo"}
    stranger = subprocess.run(
        [sys.executable, "-B", str(SCRIPT)], env=environment, capture_output=True, text=True, timeout=30
    )
    assert "1008" in stranger.stderr, stranger
    assert_unharmed(host, pid)


@pytest.mark.parametrize("secret", ["none", "in register", "in the upgrade"])
@pytest.mark.parametrize("bus", ["of the launch", "shared"])
def test_a_stranger_is_closed_with_1008_even_with_the_launchs_token(
    host: Host, bus: str, secret: str
) -> None:
    pid = host.instance("base-echo")["pid"]
    token = launch_environment(host)["BKG_PLUGIN_TOKEN"]
    headers = {"Authorization": f"Bearer {token}"} if secret == "in the upgrade" else {}
    fields = {"token": token, "protocol": 1} if secret == "in register" else {}
    assert register(buses(host)[bus], headers, fields) == 1008
    assert_unharmed(host, pid)


@pytest.mark.parametrize("bus", ["of the launch", "shared"])
@pytest.mark.parametrize("origin", ["https://example.org", "null", "http://localhost:43119"])
def test_a_browsers_upgrade_is_refused(host: Host, bus: str, origin: str) -> None:
    pid = host.instance("base-echo")["pid"]
    bus_url = buses(host)[bus]
    with pytest.raises(InvalidStatus) as refused, connect(bus_url, origin=Origin(origin), proxy=None):
        pass
    assert refused.value.response.status_code == 403
    assert_unharmed(host, pid)


@pytest.mark.parametrize("bus", ["of the launch", "shared"])
def test_a_page_whose_name_was_bound_to_loopback_is_refused_too(host: Host, bus: str) -> None:
    address = urlsplit(buses(host)[bus])
    page = f"pages.example:{address.port}"  # Origin and Host agree, as after DNS rebinding.
    with (
        socket.create_connection(("127.0.0.1", address.port)) as raw,
        pytest.raises(InvalidStatus) as refused,
        connect(f"ws://{page}/", sock=raw, origin=Origin(f"http://{page}"), proxy=None),
    ):
        pass
    assert refused.value.response.status_code == 403
