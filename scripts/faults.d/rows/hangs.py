"""A plugin stops working: frozen as a whole, or stuck while its process lives."""

import asyncio
from pathlib import Path
from typing import Any

from faultsuite.client import Outcome
from faultsuite.stage import Stage, ledger
from faultsuite.trial import Form, Trial, row

DEADLINE_MS = 1_000
ALIVE = Outcome.ANSWERED


@row(
    "hangs",
    fault="plugin hangs (SIGSTOP, deadlock)",
    bar="504 at the deadline + ≤ 500 ms, `cancel` sent, tree replaced",
)
async def hangs(trial: Trial) -> None:
    """Calls with a deadline of one second: to a plugin that reads and never answers, which must have read
    a `cancel` with the reason; to one that gets SIGSTOP; to one that sleeps in its only thread. Both of
    these have a child of their own. The answer's time is taken from sending the request, less the second.
    The tree is replaced when neither the process nor its child exists and another one answers a call. The
    short form lets the host wait a second for the answer to its `cancel`, where the default is ten."""
    patience = (
        ""
        if trial.form is Form.FULL
        else "limits.cancel_degrades_after_ms = 500\nlimits.cancel_replaces_after_ms = 1000\n"
    )
    async with trial.stage(ledger(child=True), config=patience) as stage:
        await stage.before()
        calls = [
            stage.client.call(workMs=60_000, timeout_ms=DEADLINE_MS) for _ in range(trial.count(10, 100))
        ]
        late = [await one for one in asyncio.as_completed(calls)]
        trial.none("calls that were not 504", [call for call in late if call.status != 504])
        worst = max(call.took for call in late) - DEADLINE_MS
        trial.within("silent plugin: after the deadline", worst, 500)
        reasons = [(await stage.until_line("cancelled", call.id))["reason"] for call in late]
        trial.none(
            "calls without a cancel that says `deadline`", [one for one in reasons if one != "deadline"]
        )
        await replaced(trial, stage, "SIGSTOP", stop=True)
        await replaced(trial, stage, "deadlock", block=True)


async def replaced(trial: Trial, stage: Stage, name: str, **fault: Any) -> None:
    """Hangs the plugin, and waits until its whole tree is another."""
    (pid,) = await stage.until_serving()
    lines = [line for line in stage.lines() if line["event"] == "child" and line["pid"] == pid]
    tree = {pid, int(lines[-1]["child"])}
    call = await stage.client.call(timeout_ms=DEADLINE_MS, **fault)
    trial.equal(f"{name}: status of the call", call.status, 504)
    trial.within(f"{name}: after the deadline", call.took - DEADLINE_MS, 500)
    await stage.until_serving(without=pid)
    trial.none(f"{name}: processes of the old tree that are left", [one for one in tree if exists(one)])
    again = await stage.client.call()
    trial.figure(f"{name}: the next call", str(again.outcome), ALIVE, again.outcome is ALIVE)


def exists(pid: int) -> bool:
    """Whether there is such a process, other than as a zombie of somebody."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
        return stat.rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False
