"""A plugin is killed while it works on requests."""

import asyncio

from faultsuite.client import Outcome
from faultsuite.oracle import Line
from faultsuite.stage import Stage, base_ledger, ledger
from faultsuite.trial import Trial, row

LONG_MS = 60_000


@row(
    "killed-in-request",
    fault="plugin killed in mid-request",
    bar="definite 502 ≤ 250 ms after the exit; first restart ≤ 200 ms; unsent work is retried on another "
    "instance, handed-over work is not (unless `idempotent`)",
)
async def killed_in_request(trial: Trial) -> None:
    """A client waits for work that takes a minute, and the plugin gets SIGKILL; so with a plugin of the
    base contract. Times run from the moment before the signal to the answer read, and to the start time
    that the kernel gives the next process. Then two instances with one place each: one is killed while
    both work and others wait in the queue; only the call that it had in its hands may fail. The same with
    calls that may be repeated: none fails."""
    for name, plugin in (("extended", ledger()), ("base", base_ledger())):
        async with trial.stage(plugin, name=name) as stage:
            await stage.before()
            await one_plugin(trial, stage, name)
    terms = {name: {"maxConcurrency": 1} for name in ("ledger.write", "ledger.again")}
    async with trial.stage(ledger(entry={"instances": 2}, terms=terms), name="two instances") as stage:
        await stage.until_serving(count=2)
        await stage.before()
        await two_instances(trial, stage, idempotent=False)
        await stage.until_serving(count=2)
        await two_instances(trial, stage, idempotent=True)


async def one_plugin(trial: Trial, stage: Stage, name: str) -> None:
    """Kills the only instance."""
    (pid,) = await stage.until_serving()
    calls = [asyncio.create_task(stage.client.call(workMs=LONG_MS)) for _ in range(5)]
    # The last of them: all are at the plugin.
    await stage.until(lambda: len(executed_by(stage, pid)) >= 55, "the calls are at the plugin")
    killed = stage.kill(pid)
    answered = await asyncio.gather(*calls)
    trial.none(f"{name}: calls that were not 502", [call for call in answered if call.status != 502])
    worst = max(call.ended - killed for call in answered if call.ended)
    trial.within(f"{name}: from the exit to the 502", worst, 250)
    await stage.until_serving(without=pid)
    restarted = [line["at"] for line in stage.lines() if line["event"] == "launched" and line["pid"] != pid]
    trial.within(f"{name}: from the exit to the first restart", min(restarted) - killed, 200)


async def two_instances(trial: Trial, stage: Stage, *, idempotent: bool) -> None:
    """Kills one of two while both work and eight calls wait for a place."""
    pids = await stage.pids()
    already = {line["call"] for line in stage.lines() if line["event"] == "executed"}
    calls = [asyncio.create_task(stage.client.call(workMs=400, idempotent=idempotent)) for _ in range(10)]

    def in_hand() -> list[str]:
        lines = [line for line in executed_by(stage, pids[0]) if line["call"] not in already]
        return [line["call"] for line in lines]

    handed_over = await stage.until(in_hand, "the instance has work")
    stage.kill(pids[0])
    answered = await asyncio.gather(*calls)
    failed = [call for call in answered if call.outcome is not Outcome.ANSWERED]
    if idempotent:
        trial.none("two instances, idempotent: calls that failed", failed)
    else:
        others = [call for call in failed if call.id not in handed_over]
        trial.none("two instances: calls that failed without having been handed over", others)
        trial.equal("two instances: handed-over calls that are 502", len(failed) - len(others), 1)


def executed_by(stage: Stage, pid: int) -> list[Line]:
    """What this process has begun."""
    return [line for line in stage.lines() if line["event"] == "executed" and line["pid"] == pid]
