"""The wall clock is set by ten years, ahead and back, while the host runs."""

import asyncio
import subprocess
from pathlib import Path
from typing import Any

from faultsuite.client import Outcome
from faultsuite.stage import Stage, ledger
from faultsuite.trial import Trial, row
from harness import BINARIES

LIBRARIES = sorted(Path("/usr/lib").glob("*/faketime/libfaketimeMT.so.1"))
TEN_YEARS = 10 * 365 * 24 * 3600
TIMEOUT_MS = 1_000


@row(
    "clock-jump",
    fault="clock jumps ± 10 years",
    bar="timeouts are monotonic; nothing is lost, removed or restarted for it",
)
async def clock_jump(trial: Trial) -> None:
    """The host runs under libfaketime, whose file says what the wall clock is off by; the monotonic clock
    is left alone, and plugins have the real one. A call that its plugin never answers and a stream are open
    at each jump: 0, +10 years, 0, -10 years, 0. The call must end at its deadline, the stream as if nothing
    had happened. What the usage table, the audit log and the
    plugin's log had before must be there after."""
    if not LIBRARIES:
        trial.skip("libfaketime is missing: `apt-get install faketime`")
    offset = trial.directory / "offset"
    offset.write_text("+0\n")
    environment = {
        "LD_PRELOAD": str(LIBRARIES[0]),
        "FAKETIME_TIMESTAMP_FILE": str(offset),
        "FAKETIME_DONT_FAKE_MONOTONIC": "1",
        "FAKETIME_NO_CACHE": "1",
    }
    async with trial.stage(ledger(), environment=environment) as stage:
        # The host's first look into its database keeps a descriptor.
        await kept(stage)
        await stage.before()
        pids = await stage.pids()
        before = await kept(stage)
        late: list[float] = []
        broken, failed = [], []
        for jump in (TEN_YEARS, 0, -TEN_YEARS, 0):
            hanging = asyncio.create_task(
                stage.client.call(timeout_ms=TIMEOUT_MS, workMs=60_000), name="hanging"
            )
            stream = asyncio.create_task(stage.client.stream(chunks=50, delayMs=20))
            await asyncio.sleep(0.2)
            offset.write_text(f"{jump:+d}\n")
            seen = await stage.http("GET", "/admin/system")
            assert seen["uptimeSeconds"] < 3_600, seen
            ended = await hanging
            late.append(ended.took - TIMEOUT_MS)
            if (ended.status, ended.code) != (504, "timeout"):
                failed.append(ended)
            done = await stream
            broken += [done] if done.outcome is not Outcome.COMPLETE else []
            calls = [await stage.client.call() for _ in range(trial.count(10, 100))]
            failed += [call for call in calls if call.outcome is not Outcome.ANSWERED]
        trial.within("calls without an answer: past their deadline", max(late), 500)
        trial.none("calls that did not end as they should", failed)
        trial.none("streams that broke", broken)
        trial.equal("processes of the plugin", str(await stage.pids()), str(pids))
        after = await kept(stage)
        for name, rows in before.items():
            trial.none(f"{name} that are gone", [one for one in rows if one not in after[name]])
        order = after["lines of the log"]
        trial.equal("order of the log", "by number" if order == sorted(order) else "another", "by number")
        audited = await stage.off_thread(verify, stage)
        trial.equal("the audit log's chain", audited, "whole")


async def kept(stage: Stage) -> dict[str, list[Any]]:
    """What is kept by age, as numbers: the usage rows are a second late."""
    await asyncio.sleep(1.5)
    rows: list[Any] = []
    page = await stage.http("GET", "/admin/requests?limit=500")
    while page["requests"]:
        rows += page["requests"]
        page = await stage.http("GET", f"/admin/requests?limit=500&before={rows[-1]['id']}")
    lines = (await stage.http("GET", "/admin/plugins/ledger/logs?limit=500"))["lines"]
    return {
        "rows of the usage table": [one["requestId"] for one in rows],
        "lines of the log": [one["seq"] for one in lines],
    }


def verify(stage: Stage) -> str:
    """What `bkg audit verify` says."""
    command = [str(BINARIES / "bkg"), "--data-dir", str(stage.host.data), "audit", "verify"]
    said = subprocess.run(command, capture_output=True, text=True, timeout=60)
    return "whole" if said.returncode == 0 else f"{said.returncode}: {said.stdout}{said.stderr}"
