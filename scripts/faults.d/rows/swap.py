"""A plugin is replaced by another version of itself again and again, under load."""

import asyncio
import json
from pathlib import Path
from typing import Any

from faultsuite.client import ACKNOWLEDGED, now_ms
from faultsuite.stage import Stage, ledger
from faultsuite.trial import Trial, row


@row(
    "swap",
    fault="hot swap × 20 in 60 s at 200 requests/s + 50 streams",
    bar="0 failed, 0 duplicated, 0 cut; a version that never gets ready changes nothing",
)
async def swap(trial: Trial) -> None:
    """200 calls a second, begun on time whether or not earlier ones have been answered, and fifty streams
    of a second each that follow one another. Every three seconds the plugin's folder says another
    version, and the plugin is swapped; the version that answers is read from the answers. With each order
    begins a stream that lasts longer than the version before is held ready. Then, under the same load, a
    version that never registers is tried: the swap must be rolled back, and not one call may notice. The
    short form swaps three times at 40 calls a second and ten streams."""
    swaps = trial.count(3, 20)
    long_stream: dict[str, Any] = {"chunks": trial.count(100, 56), "delayMs": 50}
    # A folder that has changed counts as one that may build first.
    config = "supervisor.register_timeout_ms = 3000\nsupervisor.prepare_timeout_ms = 3000\n"
    async with trial.stage(ledger(version="0"), config=config) as stage:
        load = stage.begin_load(
            per_second=trial.count(40, 200), streams=trial.count(10, 50), chunks=20, delayMs=50
        )
        await stage.before()
        began = now_ms()
        outcomes = []
        outlasting = []
        for number in range(1, swaps + 1):
            due = began + number * 3_000
            outlasting.append(asyncio.create_task(stage.client.stream(**long_stream)))
            outcomes.append(await swapped(stage, version=str(number)))
            await stage.until_serving()
            await asyncio.sleep(max(0.0, due - now_ms()) / 1000)
        seconds = (now_ms() - began) / 1000
        trial.none("swaps that were not done", [one for one in outcomes if one != "swapped"])
        trial.figure(f"{swaps} swaps took", f"{seconds:.0f} s", "told, not judged", True)
        (pid,) = await stage.pids()
        failing = await swapped(stage, version="never", registerAfterMs=-1)
        trial.figure("a version that never gets ready", failing, "rolled-back", failing == "rolled-back")
        trial.equal("the process that serves afterwards is that of before", (await stage.pids())[0], pid)
        await load.stop()
        await asyncio.gather(*outlasting)
        calls = stage.client.calls
        failed = [call for call in calls if call.outcome not in ACKNOWLEDGED]
        trial.none(f"calls and streams of {len(calls)} that failed or were cut", failed)
        versions = {line["version"] for line in stage.lines() if line["event"] == "executed"}
        wanted = {str(number) for number in range(swaps + 1)}
        trial.figure(
            "versions that answered",
            ", ".join(sorted(versions)),
            f"{len(wanted)} of them",
            versions == wanted,
        )


async def swapped(stage: Stage, **settings: Any) -> str:
    """Gives the folder other settings, swaps, and says how the swap ended."""
    file = Path(stage.host.plugins) / "ledger" / "config.json"
    file.write_text(json.dumps(settings))
    began = (await stage.plugin()).get("swap") or {}
    await stage.http("POST", "/admin/plugins/ledger/swap")

    async def ended() -> str | None:
        found = (await stage.plugin())["swap"]
        is_new = found and found["since"] != began.get("since")
        return str(found["state"]) if is_new and found["state"] in ENDS else None

    return str(await stage.until(ended, "the swap has ended", within=60))


ENDS = ("swapped", "rolled-back", "restarted", "superseded")
