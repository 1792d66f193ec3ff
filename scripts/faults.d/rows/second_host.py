"""Another host wants the same data directory, or a port that is taken."""

import asyncio
import os
import shutil
import socket
import subprocess
from pathlib import Path

from faultsuite.client import now_ms
from faultsuite.promises import Promises, broken, takes_settings
from faultsuite.stage import bystander
from faultsuite.trial import Trial, row
from harness import Host, apikeys, processes_of


@row(
    "second-host",
    fault="second host on the same data directory, port taken",
    bar="exits ≤ 1 s with the reason; the first is unhurt; nothing spawned",
)
async def second_host(trial: Trial) -> None:
    """While a host serves: another one on its data directory; another one on its ports with a directory of
    its own; one whose port somebody else holds. Each must leave by itself with its own exit code and a
    sentence, without having started a plugin, and the first goes on with the same processes
    and promises."""
    await asyncio.to_thread(play, trial)


def play(trial: Trial) -> None:
    """The row, which blocks."""
    times = trial.count(2, 20)
    directory = trial.directory
    first = Host(directory / "first", apikeys(), takes_settings(), bystander("ping"))
    slowest = 0.0
    wrong: list[str] = []
    first.start()
    taken = socket.create_server(("127.0.0.1", 0))
    try:
        promises = Promises()
        pids = sorted(processes_of(first.data))
        files = contents(first.data)
        with promises.writing(first):
            for number in range(times):
                other = Host(directory / f"other-{number}", bystander("ping"))
                port = str(taken.getsockname()[1])
                cases = [
                    ("same directory", first.command, 3, "uses the data directory"),
                    ("ports of the first", on_port(other, str(first.ports["api"])), 4, "is taken"),
                    ("bus of the first", on_bus(other, str(first.ports["bus"])), 4, "is taken"),
                    ("somebody's port", on_port(other, port), 4, "is taken"),
                ]
                for name, command, code, reason in cases:
                    began = now_ms()
                    said = subprocess.run(
                        command, env=other.environment, capture_output=True, text=True, timeout=30
                    )
                    slowest = max(slowest, now_ms() - began)
                    if said.returncode != code or reason not in said.stderr:
                        wrong.append(f"{name}: {said.returncode} {said.stderr[-200:]}")
                    if left := processes_of(other.data):
                        wrong.append(f"{name}: it started {left}")
                shutil.rmtree(directory / f"other-{number}")
        trial.within("until it has left, the slowest", slowest, 1_000)
        trial.none("exits without the right code and reason, or with something started", wrong)
        changed = [pid for pid in pids if pid not in processes_of(first.data)]
        trial.none("processes of the first that changed", changed)
        kept = contents(first.data)
        trial.none("files of the first that changed", [name for name in files if files[name] != kept[name]])
        trial.none("promises of the first that are broken", broken(first, promises.made))
        first.stop()
    finally:
        taken.close()
        if first.process is not None and first.process.poll() is None:
            first.kill()
        first.kill_what_is_left()


def on_port(host: Host, port: str) -> list[str]:
    """The command with this port for HTTP."""
    place = host.command.index("--api-port")
    return [*host.command[: place + 1], port, *host.command[place + 2 :]]


def on_bus(host: Host, port: str) -> list[str]:
    """The command with this port for the bus."""
    place = host.command.index("--bus-port")
    return [*host.command[: place + 1], port, *host.command[place + 2 :]]


def contents(data: Path) -> dict[str, bytes]:
    """The files that no running host changes."""
    names = ("lock", "ports.json", "root.key", "audit.key", "secrets.key")
    return {name: (data / name).read_bytes() for name in names if os.path.exists(data / name)}
