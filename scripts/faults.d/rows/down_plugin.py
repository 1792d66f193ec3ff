"""Many calls come for a plugin that is not there."""

import asyncio
from collections import Counter

from faultsuite.client import Call, Outcome
from faultsuite.stage import Stage, ledger
from faultsuite.trial import Trial, row

CALLS = 500
QUEUE = 256


@row(
    "down-plugin",
    fault="500 calls on a plugin that is down",
    bar="one start; bounded queue; the rest 503 with `retry-after`",
)
async def down_plugin(trial: Trial) -> None:
    """500 calls at once for a plugin whose entry says `activation: "on-demand"` and that was never
    started. It is started once; at most as many calls as the queue has places (256) wait for it and are
    answered, every other one is refused with 503 and `retry-after`. Then 500 calls for a plugin that an
    operator stopped: all are refused so, and nothing is started. The witness's baseline is taken beside
    bursts of 500 calls that a plugin answers."""
    lazy = ledger("ledger-lazy", entry={"autostart": False, "activation": "on-demand"})
    async with trial.stage(ledger(), lazy) as stage:
        await stage.before(meanwhile=lambda: burst(stage, "ledger"))
        calls = await burst(stage, "ledger-lazy")
        answered = [call for call in calls if call.outcome is Outcome.ANSWERED]
        refused = [call for call in calls if call.outcome is not Outcome.ANSWERED]
        odd = [call for call in refused if call.status != 503 or not call.retry_after]
        trial.none("on demand: refused otherwise than by 503 with `retry-after`", odd)
        within = 1 <= len(answered) <= QUEUE
        trial.figure(
            "on demand: calls that waited and were answered", str(len(answered)), f"1 to {QUEUE}", within
        )
        launched = Counter(line["event"] for line in stage.lines())["launched"]
        trial.equal("on demand: starts", launched - 1, 1)
        await stage.http("POST", "/admin/plugins/ledger/stop?wait=30")
        calls = await burst(stage, "ledger")
        odd = [call for call in calls if call.status != 503 or not call.retry_after]
        trial.none("stopped: refused otherwise than by 503 with `retry-after`", odd)
        after = Counter(line["event"] for line in stage.lines())["launched"]
        trial.equal("stopped: starts", after - launched, 0)


async def burst(stage: Stage, plugin: str) -> list[Call]:
    """All calls at once."""
    return await asyncio.gather(*(stage.client.call(plugin) for _ in range(CALLS)))
