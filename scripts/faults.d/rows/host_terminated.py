"""The host is stopped as an operator does it, under load."""

import asyncio
import signal

from faultsuite.client import ACKNOWLEDGED, DEFINITE, Call, LedgerClient, Outcome, now_ms
from faultsuite.stage import ledger
from faultsuite.trial import Trial, row
from harness import Host, processes_of, until

DRAIN_MS = 5_000
AT_ONCE = 30


@row(
    "host-terminated",
    fault="host SIGTERM under load",
    bar="stops accepting, drains, exits 0; 0 in-flight calls shorter than the drain fail",
)
async def host_terminated(trial: Trial) -> None:
    """Thirty calls of up to two seconds and ten streams are at a plugin when the host gets SIGTERM; its
    drain is five. All must end well. From the signal on, calls keep coming on kept connections and on new
    ones: what is answered must be whole, 503 among it; what finds no host must find no connection, or one
    that closed before its first byte. Nothing of the host may be left."""
    rounds = trial.count(2, 20)
    failed: list[Call] = []
    odd: list[Call] = []
    lost_on_kept: list[Call] = []
    codes: list[int] = []
    left: list[int] = []
    late_answers: dict[str, int] = {}
    for number in range(rounds):
        config = f"[supervisor]\ndrain_ms = {DRAIN_MS}\n"
        host = Host(trial.directory / f"host-{number}", ledger(), config=config)
        await asyncio.to_thread(host.start)
        assert host.process is not None
        client = LedgerClient(host.ports["api"], host.key)
        kept = LedgerClient(host.ports["api"], host.key)
        try:
            # These connections are idle when the signal comes.
            await asyncio.gather(*(kept.call() for _ in range(20)))
            works = [client.call(workMs=200 + 60 * place) for place in range(AT_ONCE)]
            streams = [client.stream(chunks=40, delayMs=30) for _ in range(10)]
            flying = [asyncio.create_task(one) for one in (*works, *streams)]
            await until_in_flight(host, len(flying))
            host.process.send_signal(signal.SIGTERM)
            began = now_ms()
            on_kept = [asyncio.create_task(kept.call()) for _ in range(10)]
            late: list[asyncio.Task[Call]] = []
            while now_ms() < began + 1_000:
                late.append(asyncio.create_task(client.call()))
                await asyncio.sleep(0.02)
            ended = await asyncio.gather(*flying)
            failed += [call for call in ended if call.outcome not in ACKNOWLEDGED]
            for call in await asyncio.gather(*on_kept):
                if call.outcome not in DEFINITE:
                    lost_on_kept.append(call)
            for call in await asyncio.gather(*late):
                what = f"{call.outcome} {call.status or ''}".strip()
                late_answers[what] = late_answers.get(what, 0) + 1
                if call.outcome not in DEFINITE | {Outcome.LOST}:
                    odd.append(call)
                if call.outcome is Outcome.LOST and call.status:
                    odd.append(call)
            codes.append(await asyncio.to_thread(host.process.wait, 30))
            left += processes_of(host.data)
        finally:
            client.close()
            kept.close()
            if host.process.poll() is None:
                host.kill()
            host.kill_what_is_left()
    trial.none("in-flight calls and streams shorter than the drain that failed", failed)
    trial.none(
        "calls on idle kept connections, sent with the signal, without a definite answer", lost_on_kept
    )
    trial.none("later calls with half an answer", odd)
    trial.figure("later calls", str(late_answers), "whole, or no connection", not odd)
    trial.none("exits other than 0", [code for code in codes if code != 0])
    trial.none("processes left", left)


async def until_in_flight(host: Host, count: int) -> None:
    """Waits until the host has so many requests at the plugin."""

    def in_flight() -> int:
        return sum(one["inFlight"] for one in host.plugin("ledger")["instances"])

    await asyncio.to_thread(until, lambda: in_flight() >= count, f"{count} requests are at the plugin")
