"""A plugin is killed while it streams."""

import asyncio

from faultsuite.client import Call, Outcome
from faultsuite.stage import ledger
from faultsuite.trial import Trial, row

AT_ONCE = 20


@row(
    "killed-in-stream",
    fault="plugin killed in mid-stream",
    bar="SSE error, no `[DONE]`; 0 of 500 broken streams look complete",
)
async def killed_in_stream(trial: Trial) -> None:
    """Streams of fifty chunks, twenty at once; the plugin gets SIGKILL at another place of the stream
    each time, until 500 streams are broken. A stream must end with an event that is an error, and nothing
    after it; every chunk before must be the next of its own call."""
    broken: list[Call] = []
    wanted = trial.count(60, 500)
    async with trial.stage(ledger(entry={"restart": "always"})) as stage:
        await stage.before()
        round_number = 0
        while len(broken) < wanted:
            (pid,) = await stage.until_serving()
            calls = [stage.client.new() for _ in range(AT_ONCE)]
            tasks = [
                asyncio.create_task(stage.client.stream(call=call, chunks=50, delayMs=20)) for call in calls
            ]
            await asyncio.gather(*(call.first_byte.wait() for call in calls))
            await asyncio.sleep(0.013 * (round_number % 20))
            stage.kill(pid)
            await asyncio.gather(*tasks)
            broken += calls
            await stage.http("POST", "/admin/plugins/ledger/restart?wait=30")
            round_number += 1
        trial.equal("streams broken", len(broken), max(wanted, len(broken)))
        complete = [call for call in broken if call.outcome is Outcome.COMPLETE]
        trial.none("broken streams that look complete", complete)
        odd = [
            call for call in broken if (call.outcome, call.code) != (Outcome.BROKEN, "plugin_disconnected")
        ]
        trial.none("streams that did not end with the error", odd)
