"""Figures of this process and of what runs below it, sent with the telemetry of the SDK.

The SDK tells CPU and memory of the process itself; this adds what it holds open and what its commands use.
"""

import asyncio
import contextlib

import psutil

from bkg_sdk import Host, Settings
from repoagent.capabilities import Counts
from repoagent.settings import RepoSettings


async def report_vitals(host: Host, settings: Settings[RepoSettings], counts: Counts) -> None:
    """Measures again and again, at the interval of the settings, until the plugin stops."""
    process = psutil.Process()
    while not host.stopping.is_set():
        interval = 10.0
        with contextlib.suppress(LookupError):
            interval = settings.get().telemetry_interval_seconds
        for name, value in (await asyncio.to_thread(measure, process, counts)).items():
            host.set_figure(name, value)
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(host.stopping.wait(), interval)


def measure(process: psutil.Process, counts: Counts) -> dict[str, float]:
    """The figures of now."""
    figures: dict[str, float] = {
        "requests": counts.requests,
        "refused": counts.refused,
        "commands_running": counts.commands,
    }
    with contextlib.suppress(psutil.Error):
        figures["open_files"] = process.num_fds()
        figures["threads"] = process.num_threads()
    below, memory = 0, 0
    with contextlib.suppress(psutil.Error):
        for child in process.children(recursive=True):
            with contextlib.suppress(psutil.Error):
                memory += child.memory_info().rss
                below += 1
    return {**figures, "command_processes": below, "commands_mem_bytes": memory}
