"""Plugins that take more memory, processes and processor time than their entries allow."""

import json
import os
import time
from pathlib import Path
from typing import Any

from faultsuite.stage import PLUGINS, Stage, ledger
from faultsuite.trial import Trial, row
from harness import PluginFolder

MEMORY_MIB = 64
PIDS = 64
CPU_PERCENT = 20
TICKS = os.sysconf("SC_CLK_TCK")


@row(
    "resource-limits",
    fault="memory hog, fork bomb, processor hog",
    bar="the hog dies alone and the reason names its limit; never above its number of processes; its "
    "share of the processor + ≤ 10 %; others unharmed",
)
async def resource_limits(trial: Trial) -> None:
    """Three plugins take what they can get: one touches 512 MiB with `memoryMb` 64, one forks without end
    with `pids` 64, one computes with `cpuPercent` 20. Figures come from their cgroups. The witness is
    asked all the while, its baseline is of before. Where a limit has no cgroup controller on this
    machine, its part is left out and said so."""
    hogs = (
        greedy("memory", {"memoryMb": MEMORY_MIB}),
        greedy("processes", {"pids": PIDS}),
        greedy("processor", {"cpuPercent": CPU_PERCENT}),
    )
    async with trial.stage(ledger(), *hogs) as stage:
        for hog in hogs:
            # Its log is opened with its first line, and stays open: that is no leak.
            await stage.http("POST", f"/admin/plugins/{hog.name}/start")
            await stage.http("POST", f"/admin/plugins/{hog.name}/stop?wait=30")
        await stage.before()
        await memory(trial, stage)
        await processes(trial, stage)
        await processor(trial, stage)


def greedy(what: str, limits: dict[str, int]) -> PluginFolder:
    """A plugin that takes one thing."""
    entry = {"args": [what], "limits": limits, "restart": "never", "autostart": False}
    return PluginFolder(f"greedy-{what}", PLUGINS / "greedy", {}, entry)


async def memory(trial: Trial, stage: Stage) -> None:
    """It is killed, and the reason says for what."""
    await stage.http("POST", "/admin/plugins/greedy-memory/start")
    name = "greedy-memory"

    async def failed() -> dict[str, Any] | None:
        shown = await stage.plugin(name)
        return shown if shown["status"] == "failed" else None

    reason = (await stage.until(failed, f"`{name}` has failed"))["reason"]
    if "MemoryError" in reason:
        trial.figure(
            "memory: enforced by", "an rlimit of each process", "a cgroup, where there is one", True
        )
        return
    said = f"used more than its memory limit of {MEMORY_MIB} MB"
    trial.figure("memory: the reason", reason, f"names the limit of {MEMORY_MIB} MB", said in reason)


async def processes(trial: Trial, stage: Stage) -> None:
    """It fills its number and stays there; its end leaves nothing."""
    name = "greedy-processes"
    if lacks(trial, stage, "pids"):
        return
    await stage.http("POST", f"/admin/plugins/{name}/start")
    cgroup = await stage.until(lambda: cgroup_with(stage, name, "pids.max"), "it has cgroups", within=10)
    counter = cgroup / "pids.current"

    def number() -> int:
        return int(counter.read_text())

    most = await stage.until(lambda: number() >= PIDS and number(), "it fills its number")
    for _ in range(trial.count(20, 200)):
        most = max(most, number())
        await stage.client.call()
    trial.at_most("processes: the most that there were", float(most), float(PIDS), "processes")
    await stage.http("POST", f"/admin/plugins/{name}/stop?wait=30")
    trial.figure("processes: its cgroup after the stop", str(cgroup.exists()), "False", not cgroup.exists())


async def processor(trial: Trial, stage: Stage) -> None:
    """What it used, by its processes' own account, of the time that passed."""
    name = "greedy-processor"
    if lacks(trial, stage, "cpu"):
        return
    await stage.http("POST", f"/admin/plugins/{name}/start")
    cgroup = await stage.until(lambda: cgroup_with(stage, name, "cpu.stat"), "it has cgroups", within=10)
    before, since = used(cgroup), time.monotonic()
    for _ in range(trial.count(100, 400)):
        await stage.client.call(workMs=20)
    share = 100 * (used(cgroup) - before) / (time.monotonic() - since)
    trial.at_most("processor: its share of one core", share, CPU_PERCENT * 1.1, "%")
    await stage.http("POST", f"/admin/plugins/{name}/stop?wait=30")


def lacks(trial: Trial, stage: Stage, controller: str) -> bool:
    """Whether this machine has nothing that enforces a limit: then its hog is not let loose."""
    lacking = f"{controller} none" in stage.host.log.read_text(errors="replace")
    if lacking:
        trial.figure(f"{controller}: enforced by", "nothing on this machine", "said at the start", True)
    return lacking


def cgroup_with(stage: Stage, plugin: str, file: str) -> Path | None:
    """The cgroup of a plugin's launch that has this file and a bound in it."""
    for entry in (stage.host.data / "ledger").glob("*.json"):
        said = json.loads(entry.read_text())
        if said["plugin"] != plugin:
            continue
        # The one of version 2 has a `cpu.stat` without a bound; the one that bounds comes last.
        for cgroup in map(Path, reversed(said.get("cgroups", []))):
            if (cgroup / file).exists() and (cgroup / "cgroup.procs").read_text():
                return cgroup
    return None


def used(cgroup: Path) -> float:
    """Seconds on a processor of all that is in a cgroup."""
    seconds = 0.0
    for pid in (cgroup / "cgroup.procs").read_text().split():
        try:
            fields = Path(f"/proc/{pid}/stat").read_text().rsplit(") ", 1)[1].split()
        except OSError:
            continue
        seconds += (int(fields[11]) + int(fields[12])) / TICKS
    return seconds
