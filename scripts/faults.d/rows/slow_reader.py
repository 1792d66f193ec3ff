"""Somebody does not read: a client its stream, a plugin its requests."""

import asyncio
import signal
from functools import partial

from faultsuite.client import DEFINITE, Outcome
from faultsuite.proxy import Proxy
from faultsuite.stage import Stage, ledger
from faultsuite.trial import Trial, row
from faultsuite.vitals import MIB

CHUNK = 60_000
BODY = MIB
# Between chunks: the plugin is not to be what the witness waits for.
PAUSE_MS = 5
BAR = 32.0


@row(
    "slow-reader",
    fault="slow reader, either side",
    bar="back-pressure for that pair only; host memory + ≤ 32 MiB",
)
async def slow_reader(trial: Trial) -> None:
    """Four clients ask for streams of 60 KB a chunk and read nothing, while other clients of the same
    plugin get streams of their own; then the four read on, and must get every chunk. Afterwards another
    plugin gets SIGSTOP, and clients send it calls of 1 MiB, fifty a second, none of which is ever read;
    calls to the first plugin go on; the short form, whose host is not optimised, sends ten a second. Host
    memory is looked at fifty times a second. The witness's baseline
    is taken while the same amounts are streamed and sent to somebody who reads."""
    async with trial.stage(ledger(), name="clients") as stage:
        reader = partial(stage.client.stream, chunks=20, bytes=CHUNK, delayMs=PAUSE_MS)
        await stage.before(meanwhile=reader, at_once=trial.count(2, 4))
        async with stage.watched() as peak:
            await clients_do_not_read(trial, stage)
        judge(trial, stage, "clients that do not read: memory above the baseline", peak.memory)
    async with trial.stage(ledger(), ledger("ledger-two"), name="plugin") as stage:
        taker = partial(stage.client.call, "ledger-two", unread="x" * BODY, workMs=20)
        await stage.before(meanwhile=taker)
        async with stage.watched() as peak:
            await plugin_does_not_read(trial, stage)
        judge(trial, stage, "plugin that does not read: memory above the baseline", peak.memory)


def judge(trial: Trial, stage: Stage, name: str, peak: int) -> None:
    """Compares a peak with the baseline of this run."""
    assert stage.baseline is not None, "the baseline is taken first"
    trial.at_most(name, (peak - stage.baseline.memory) / MIB, BAR, "MiB")


async def clients_do_not_read(trial: Trial, stage: Stage) -> None:
    """Streams that nobody takes, beside streams that somebody takes."""
    readers, count = trial.count(2, 4), trial.count(100, 5_000)
    async with Proxy(stage.client.port) as proxy:
        client = stage.client.by_way_of(proxy.port)
        slow = [client.new() for _ in range(readers)]
        reading = [
            asyncio.create_task(client.stream(call=call, chunks=count, bytes=CHUNK, delayMs=PAUSE_MS))
            for call in slow
        ]
        await asyncio.gather(*(call.first_byte.wait() for call in slow))
        proxy.stall()
        others = [stage.client.stream(chunks=50, delayMs=5) for _ in range(trial.count(8, 200))]
        done = await asyncio.gather(*others)
        trial.none(
            "streams beside them that failed", [one for one in done if one.outcome is not Outcome.COMPLETE]
        )
        proxy.resume()
        await asyncio.gather(*reading)
    short = [one for one in slow if one.outcome is not Outcome.COMPLETE or one.chunks != count]
    trial.none("slow streams that are not whole in the end", short)


async def plugin_does_not_read(trial: Trial, stage: Stage) -> None:
    """Large calls that a frozen plugin does not take, beside what others answer."""
    pids = await stage.pids("ledger-two")
    stage.kill(pids[0], signal.SIGSTOP)
    count = trial.count(50, 1_000)
    filler = "x" * BODY
    sending, others = [], []
    for _ in range(count):
        large = stage.client.call("ledger-two", timeout_ms=5_000, unread=filler)
        sending.append(asyncio.create_task(large))
        others.append(await stage.client.call())
        await asyncio.sleep(1 / trial.count(10, 50))
    answered = await asyncio.gather(*sending)
    trial.none("calls to another plugin that failed", [one for one in others if one.status != 200])
    trial.none("large calls without an outcome", [one for one in answered if one.outcome not in DEFINITE])
    # What was given up there is never answered, so the host replaces it.
    await stage.until_serving("ledger-two", without=pids[0])
