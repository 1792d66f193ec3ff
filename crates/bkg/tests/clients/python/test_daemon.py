"""The daemon as a process: killed, started twice, stopped under load, asked by scripts."""

import asyncio
import json
import os
import subprocess
import time
from collections.abc import Callable
from typing import Any

import pytest
from harness import Host, base_echo, llmserver, misbehave, processes_of, until

KILLS = 50
READY_WITHIN_S = 2.0
GONE_WITHIN_S = 2.0
REFUSED_WITHIN_S = 1.0


def launches(host: Host) -> set[str]:
    """The ids of the launches whose processes are there."""
    found = set()
    for pid in processes_of(host.data):
        try:
            with open(f"/proc/{pid}/environ", "rb") as environment:
                pairs = environment.read().split(b"\0")
        except OSError:
            continue
        found |= {pair.decode() for pair in pairs if pair.startswith(b"BKG_PLUGIN_INSTANCE=")}
    return found


@pytest.mark.timeout(300)
def test_a_daemon_that_is_killed_again_and_again_leaves_no_orphan(start_host: Callable[..., Host]) -> None:
    # One of them stays whatever happens to the host, and has a child that is out of its group.
    host = start_host(llmserver(), misbehave(ignoreLostHost=True, leaveChild=True), base_echo())
    for _ in range(KILLS):
        orphans = launches(host)
        assert len(orphans) == 3
        host.kill()
        killed_at = time.monotonic()
        host.start_process()
        until(host.ready, "the daemon is ready again")
        assert time.monotonic() - killed_at <= READY_WITHIN_S
        until(lambda: not orphans & launches(host), "no orphan is left", within=GONE_WITHIN_S)  # noqa: B023
        host.connect()
    assert host.invoke("test.echo", {"a": 1}).json() == {"data": {"a": 1}}


@pytest.mark.parametrize("same", ["data directory", "port"])
def test_a_second_daemon_leaves_at_once_and_harms_nobody(
    host: Host, same: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    other = Host(tmp_path_factory.mktemp("second"), base_echo())
    command = host.command if same == "data directory" else [*other.command]
    if same == "port":
        command[command.index("--api-port") + 1] = str(host.ports["api"])
    pids = {name: host.instance(name)["pid"] for name in ("llmserver", "misbehave", "base-echo")}
    began = time.monotonic()
    second = subprocess.run(command, env=host.environment, capture_output=True, text=True, timeout=30)
    assert time.monotonic() - began <= REFUSED_WITHIN_S
    assert second.returncode != 0
    said = second.stdout + second.stderr
    assert (str(host.data) if same == "data directory" else str(host.ports["api"])) in said, said
    assert processes_of(other.data) == []
    assert json.loads((host.data / "ports.json").read_text())["pid"] == host.ports["pid"]
    assert {name: host.instance(name)["pid"] for name in pids} == pids


def test_a_stop_under_load_lets_running_answers_finish(start_host: Callable[..., Host]) -> None:
    host = start_host(llmserver(tokenDelayMs=10))
    words = " ".join(f"word{number}" for number in range(50))

    async def read(client: Any, begun: asyncio.Semaphore) -> str:
        stream = await client.chat.completions.create(
            model="stand-in", messages=[{"role": "user", "content": words}], stream=True
        )
        finished = ""
        async for part in stream:
            begun.release()
            finished = part.choices[0].finish_reason or finished
        return finished

    async def run() -> list[str]:
        begun = asyncio.Semaphore(0)
        async with host.async_openai() as client:
            reading = [asyncio.create_task(read(client, begun)) for _ in range(8)]
            for _ in range(16):
                await begun.acquire()
            await asyncio.to_thread(host.stop)
            return list(await asyncio.gather(*reading))

    assert asyncio.run(run()) == ["stop"] * 8
    assert processes_of(host.data) == []
    assert not (host.data / "ports.json").exists()


def test_what_scripts_rely_on_is_there(host: Host) -> None:
    assert {"pid", "api", "bus", "plugins", "startedAt"} <= host.ports.keys()
    assert set(host.ports["plugins"]) == {"apikeys", "llmserver", "misbehave", "base-echo"}
    assert (host.data / "root.key").stat().st_mode & 0o777 == 0o600
    assert host.key.startswith("bkg_root_")
    assert host.http("GET", "/health", key="").status == 200
    shown = host.plugin("misbehave")
    assert {"name", "status", "reason", "version", "capabilities", "instances"} <= shown.keys()
    assert {"id", "pid", "status", "since", "inFlight"} <= shown["instances"][0].keys()


def test_the_command_line_lists_and_invokes(host: Host) -> None:
    listed = host.command_line("plugin", "list", "--json")
    assert listed.returncode == 0, listed.stderr
    plugins = {plugin["name"]: plugin for plugin in json.loads(listed.stdout)}
    assert plugins["misbehave"]["status"] == "running"
    assert plugins["misbehave"]["instances"][0]["pid"] == host.instance("misbehave")["pid"]
    shown = host.command_line("plugin", "show", "misbehave")
    assert "running" in shown.stdout, shown.stderr
    missing = host.command_line("plugin", "show", "nothing")
    assert missing.returncode != 0
    assert "nothing" in missing.stderr


def test_a_plugin_stops_and_starts_as_often_as_it_is_told(start_host: Callable[..., Host]) -> None:
    host = start_host(misbehave())
    for _ in range(2):
        pid = host.instance("misbehave")["pid"]
        for _ in range(2):  # Twice the same is once.
            assert host.lifecycle("misbehave", "stop").json()["status"] == "stopped"
        assert not os.path.exists(f"/proc/{pid}")
        for _ in range(2):
            assert host.lifecycle("misbehave", "start").json()["status"] == "running"
        assert host.instance("misbehave")["pid"] != pid


@pytest.mark.parametrize(
    "stubborn",
    [{"ignoreDrain": True}, {"ignoreDrain": True, "ignoreTerm": True}, {"leaveChild": True}],
    ids=["drain", "drain and SIGTERM", "child"],
)
def test_a_plugin_that_does_not_want_to_stop_is_stopped(
    start_host: Callable[..., Host], stubborn: dict[str, bool]
) -> None:
    config = "[supervisor]\ndrain_ms = 500\ngrace_ms = 500\n"
    host = start_host(misbehave(**stubborn), config=config)
    assert host.lifecycle("misbehave", "stop").json()["status"] == "stopped"
    assert processes_of(host.data) == []


def test_a_plugin_that_hangs_is_replaced(start_host: Callable[..., Host]) -> None:
    config = "[limits]\ncancel_degrades_after_ms = 300\ncancel_replaces_after_ms = 600\n"
    host = start_host(misbehave(), config=config)
    pid = host.instance("misbehave")["pid"]
    answer = host.invoke("test.hang", {}, timeoutMs=300)
    assert (answer.status, answer.error()["code"]) == (504, "timeout")
    host.until_running("misbehave", not_pid=pid)
    assert host.invoke("test.echo", {"a": 1}).json() == {"data": {"a": 1}}
