"""A plugin writes more to its standard output than anybody can want."""

from typing import Any

from faultsuite.client import Outcome
from faultsuite.stage import Stage, ledger
from faultsuite.trial import Trial, row
from faultsuite.vitals import MIB

SEGMENT, SEGMENTS = 1 * MIB, 4
DISK = (SEGMENT * SEGMENTS + SEGMENT) / MIB


@row(
    "log-flood",
    fault="log flood 100 MiB/s, 64 MiB line, binary",
    bar="child never blocks; memory + ≤ 32 MiB; disk bounded",
)
async def log_flood(trial: Trial) -> None:
    """The plugin writes lines at 100 MiB/s, then one line of 64 MiB, then random bytes, and measures each
    of its writes. A child that is never blocked keeps the pace, and its longest write stays short. The
    host may keep four files of 1 MiB of it, and the one that it is writing. Every kind is followed by an
    ordinary call. The short form writes a few MiB at 4 MiB/s: it runs a daemon that was not optimised."""
    config = f"logs.segment_bytes = {SEGMENT}\nlogs.segments = {SEGMENTS}\n"
    async with trial.stage(ledger(), config=config) as stage:
        await stage.before()
        for kind, mib in (
            ("lines", trial.count(8, 3_000)),
            ("line", trial.count(8, 64)),
            ("binary", trial.count(2, 1_000)),
        ):
            await flood(trial, stage, kind, mib)


async def flood(trial: Trial, stage: Stage, kind: str, mib: int) -> None:
    """One flood, and what it cost."""
    assert stage.baseline is not None, "the baseline is taken first"
    pace = trial.count(4, 100)
    async with stage.watched() as peak:
        wanted: dict[str, Any] = {"kind": kind, "mib": mib, "mibPerSecond": pace}
        call = await stage.client.call(flood=wanted)
    assert call.outcome is Outcome.ANSWERED, call
    trial.within(
        f"{kind}, {mib} MiB: behind the pace", call.data["seconds"] * 1000 - mib * 1000 / pace, 1_000
    )
    trial.within(f"{kind}: the longest write of 64 KiB", call.data["longestMs"], 250)
    trial.at_most(
        f"{kind}: memory above the baseline", (peak.memory - stage.baseline.memory) / MIB, 32.0, "MiB"
    )
    size = sum(
        file.stat().st_size
        for file in (stage.host.data / "plugins/ledger/logs").rglob("*")
        if file.is_file()
    )
    trial.at_most(f"{kind}: log files", size / MIB, DISK, "MiB")
    after = await stage.client.call()
    trial.figure(
        f"{kind}: the next call", str(after.outcome), "answered", after.outcome is Outcome.ANSWERED
    )
