"""A process that is no part of a launch claims the launch's name."""

import asyncio
import json
from pathlib import Path
from typing import Any

from faultsuite.stage import Stage, ledger
from faultsuite.trial import Trial, row
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed, WebSocketException

LATE_MS = 2_000


@row(
    "name-claimed",
    fault="a second process claims a plugin's name",
    bar="refused; the first is unharmed",
)
async def name_claimed(trial: Trial) -> None:
    """The suite itself dials the listener of a launch and the shared bus, and registers under the
    plugin's name, with no token and with a wrong one, while the plugin answers 20 calls a second and ten
    streams. Each must be closed with 1008, and no call may fail. Then the same at a plugin that has not
    registered yet: it must still become what answers."""
    slow = ledger("ledger-slow", entry={"autostart": False}, registerAfterMs=LATE_MS)
    async with trial.stage(ledger(), slow) as stage:
        (pid,) = await stage.until_serving()
        url = environment(pid)["BKG_PLUGIN_BUS_URL"]
        shared = f"ws://127.0.0.1:{stage.host.ports['bus']}"
        load = stage.begin_load(per_second=20, streams=10, chunks=20, delayMs=10)
        await stage.before()
        ends = []
        for number in range(trial.count(20, 200)):
            address = url if number % 2 else shared
            ends.append(await claim(address, "ledger", "a wrong one" if number % 4 < 2 else None))
        trial.none(
            f"claims of {len(ends)} that were not closed with 1008", [one for one in ends if one != 1008]
        )
        await load.stop()
        failed = [call for call in stage.client.calls if call.outcome not in ("answered", "complete")]
        trial.none(f"calls of {len(stage.client.calls)} that failed meanwhile", failed)
        trial.equal("the plugin's process is still the same", (await stage.pids())[0], pid)
        await claimed_before(trial, stage)


async def claimed_before(trial: Trial, stage: Stage) -> None:
    """Claims the name of a launch that has not registered."""
    await stage.http("POST", "/admin/plugins/ledger-slow/start")

    async def launched() -> int | None:
        instances = (await stage.plugin("ledger-slow"))["instances"]
        return instances[0]["pid"] if instances else launch_of(stage)

    pid = await stage.until(launched, "the launch has a process", within=LATE_MS / 1000)
    url = environment(pid)["BKG_PLUGIN_BUS_URL"]
    end = await claim(url, "ledger-slow", None)
    trial.equal("a claim before the plugin registered is closed with", end, 1008)
    (serving,) = await stage.until_serving("ledger-slow")
    trial.equal("what serves in the end is the launch", serving, pid)
    call = await stage.client.call("ledger-slow")
    trial.equal("and it answers", call.data["pid"] if call.data else call.status, pid)


def launch_of(stage: Stage) -> int | None:
    """The process that has noted its launch in the slow plugin's ledger."""
    for path in stage.host.data.rglob("*.ledger"):
        if "ledger-slow" in str(path) and (lines := path.read_text().splitlines()):
            return int(json.loads(lines[0])["pid"])
    return None


def environment(pid: int) -> dict[str, str]:
    """What a process was started with; its own user may read that, which is what this fault is about."""
    entries = Path(f"/proc/{pid}/environ").read_bytes().decode().split("\0")
    return dict(entry.split("=", 1) for entry in entries if "=" in entry)


async def claim(url: str, name: str, token: str | None) -> int | str:
    """Registers there under the name; the close code, or what else came of it."""
    offer: dict[str, Any] = {
        "plugin": name,
        "port": "internal",
        "protocol": 1,
        "capabilities": ["ledger.write"],
    }
    if token is not None:
        offer["token"] = token
    try:
        async with asyncio.timeout(10), connect(url, proxy=None, ping_interval=None) as bus:
            await bus.send(json.dumps({"type": "register", **offer}))
            async for text in bus:
                if json.loads(text)["type"] == "registered":
                    return "registered"
            return bus.close_code or 0
    except ConnectionClosed as closed:
        return closed.rcvd.code if closed.rcvd else "lost"
    except (OSError, WebSocketException, TimeoutError) as problem:
        return type(problem).__name__
