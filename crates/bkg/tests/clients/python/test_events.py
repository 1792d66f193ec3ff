"""Events between two plugins that stand on the Python SDK, under the real daemon."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from harness import REPOSITORY, Host, PluginFolder, until

PROGRAM = """
from bkg_sdk import Host, Plugin, Request

plugin = Plugin(version="1.0.0")
heard: list[object] = []
TOPIC = "teller.page"


@plugin.answer("NAME.tell")
async def tell(request: Request) -> bool:
    return request.host.publish(TOPIC, request.payload)


@plugin.answer("NAME.heard")
async def tell_what_was_heard(request: Request) -> list[object]:
    return heard


@plugin.background
async def listen(host: Host) -> None:
    async with host.subscribe(TOPIC) as events:
        async for event in events:
            heard.append(event.data)


plugin.run()
"""


def write_plugin(directory: Path, name: str, **entry: Any) -> PluginFolder:
    source = directory / f"source-{name}"
    source.mkdir(parents=True)
    (source / "plugin.json").write_text(
        json.dumps(
            {"name": name, "capabilities": [f"{name}.*"], "autostart": True, "identity": "process", **entry}
        )
    )
    (source / "program.py").write_text(PROGRAM.replace("NAME", name))
    start = source / "start.sh"
    sdk = REPOSITORY / "sdk/python/src"
    start.write_text(f"#!/bin/sh\nPYTHONPATH='{sdk}' exec \"$BKG_TEST_PYTHON\" program.py\n")
    start.chmod(0o755)
    return PluginFolder(name, source)


@pytest.fixture
def host(tmp_path: Path) -> Iterator[Host]:
    folders = [
        write_plugin(tmp_path, "teller"),
        write_plugin(tmp_path, "listener", subscribes=["teller.page"]),
        write_plugin(tmp_path, "stranger"),
    ]
    host = Host(tmp_path / "host", *folders).start()
    yield host
    host.stop()


def figures(host: Host, name: str) -> Any:
    """What the operator sees of the events of a plugin."""
    return host.instance(name)["events"]


def heard(host: Host, name: str) -> Any:
    return host.invoke(f"{name}.heard", plugin=name).json()["data"]


def test_what_one_plugin_publishes_another_hears_that_may(host: Host) -> None:
    names = ["teller", "listener", "stranger"]
    until(lambda: all(figures(host, name)["topics"] for name in names), "they have subscribed")
    for number in range(3):
        assert host.invoke("teller.tell", {"number": number}, plugin="teller").json() == {"data": True}
    expected = [{"number": number} for number in range(3)]
    until(lambda: all(heard(host, name) == expected for name in names[:2]), "the events come")
    # What is not its own goes nowhere, whatever the SDK says about having handed it over.
    assert host.invoke("stranger.tell", "false", plugin="stranger").json() == {"data": True}
    until(lambda: figures(host, "stranger")["refused"] == 2, "both are refused")
    assert (heard(host, "listener"), heard(host, "stranger")) == (expected, [])
