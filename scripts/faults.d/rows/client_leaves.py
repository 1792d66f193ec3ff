"""Clients leave while a plugin works for them, again and again."""

import asyncio
import random

from faultsuite.client import Call, Outcome
from faultsuite.proxy import Proxy
from faultsuite.stage import Stage, ledger
from faultsuite.trial import Trial, row

AT_ONCE = 6
PLACES = 4


@row(
    "client-leaves",
    fault="client leaves",
    bar="`cancel` ≤ 100 ms, slot freed; 0 leaked entries after 10,000 aborts",
)
async def client_leaves(trial: Trial) -> None:
    """Six clients ask a plugin with four places, half of them for streams, and close their sockets
    between 5 and 60 ms later, 10,000 times; some never got a place. The time runs from the moment before
    the close to the plugin's note that it read the `cancel`. Afterwards four calls at once must all
    have a place, and the host must believe that nothing is open. Then streams whose connections are reset
    by a proxy in between."""
    terms = {name: {"maxConcurrency": PLACES} for name in ("ledger.write", "llm.chat")}
    chance = random.Random(7)
    async with trial.stage(ledger(terms=terms)) as stage:
        await stage.before(meanwhile=lambda: stage.client.call(workMs=30), at_once=AT_ONCE)
        wanted = trial.count(400, 10_000)
        left: list[Call] = []

        async def leave() -> None:
            while len(left) < wanted:
                after = chance.uniform(0.005, 0.06)
                if chance.random() < 0.5:
                    call = await stage.client.call(workMs=60_000, leave_after=after)
                else:
                    call = await stage.client.stream(chunks=10_000, delayMs=5, leave_after=after)
                left.append(call)

        await asyncio.gather(*(leave() for _ in range(AT_ONCE)))
        trial.none("calls that did not leave", [one for one in left if one.outcome is not Outcome.LEFT])
        await judge(trial, stage, "closed", left)
        full = [stage.client.call(workMs=200) for _ in range(PLACES)]
        answered = await asyncio.gather(*full)
        trial.none(
            "places that are not free again",
            [one for one in answered if one.outcome is not Outcome.ANSWERED],
        )
        async with Proxy(stage.client.port) as proxy:
            client = stage.client.by_way_of(proxy.port)
            calls = [client.new() for _ in range(PLACES)]
            tasks = [
                asyncio.create_task(client.stream(call=call, chunks=10_000, delayMs=5)) for call in calls
            ]
            await asyncio.gather(*(call.first_byte.wait() for call in calls))
            for task in tasks:
                task.cancel()
            proxy.cut()
            await asyncio.gather(*tasks, return_exceptions=True)
            await judge(trial, stage, "reset", calls)


async def judge(trial: Trial, stage: Stage, name: str, calls: list[Call]) -> None:
    """Waits until every call that the plugin had was cancelled there, and measures how soon."""
    ended = {call.id: call.ended or 0.0 for call in calls}

    def cancels() -> dict[str, float] | None:
        lines = stage.lines()
        executed = {line["call"] for line in lines if line["event"] == "executed"} & ended.keys()
        read = {line["call"]: line["at"] for line in lines if line["event"] == "cancelled"}
        return {call: read[call] - ended[call] for call in executed} if executed <= read.keys() else None

    taken = await stage.until(cancels, "every call that the plugin had is cancelled there", within=15)
    trial.within(f"{name}: cancel read, the slowest of {len(taken)}", max(taken.values()), 100)

    async def none_open() -> bool:
        return await stage.in_flight() == 0

    await stage.until(none_open, "no request is open", within=10)
    trial.equal(f"{name}: entries left", await stage.in_flight(), 0)
