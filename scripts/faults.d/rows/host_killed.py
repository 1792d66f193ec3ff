"""The host is killed while operators write."""

import asyncio
import os
import random
import time
from pathlib import Path

from faultsuite.client import now_ms
from faultsuite.promises import Promises, broken, serves, takes_settings
from faultsuite.stage import bystander
from faultsuite.trial import Trial, row
from harness import Host, apikeys, misbehave, processes_of, until

PINGS = 7


@row(
    "host-killed",
    fault="host `kill -9` × 200 while writing",
    bar="0 acknowledged writes lost, 0 orphans after 2 s, ready ≤ 2 s with 10 plugins",
)
async def host_killed(trial: Trial) -> None:
    """Ten plugins, one of which has left its session. Four threads make and revoke keys, save revisions
    and read usage; the host gets SIGKILL at a random moment, and is started again at once. An answer that
    came is a promise: it is looked for in the next life. Orphans are processes of the life before, two
    seconds after the kill. Ready is `/health/ready`, from the start of the process."""
    await asyncio.to_thread(play, trial)


def play(trial: Trial) -> None:
    """The row, which blocks."""
    plugins = [
        apikeys(),
        takes_settings(),
        misbehave(leaveChild=True),
        *(bystander(f"ping-{number}") for number in range(PINGS)),
    ]
    host = Host(trial.directory / "host", *plugins)
    promises = Promises()
    rounds = trial.count(12, 200)
    lost: list[str] = []
    orphans: list[str] = []
    ready_ms: list[float] = []
    chance = random.Random(6)
    host.start()
    try:
        for number in range(rounds):
            # What was not answered before the kill may have happened, so the end of a life is never busy.
            with promises.writing(host):
                promises.await_more(1)
                time.sleep(chance.uniform(0.0, 0.4))
                before = {(pid, started(pid)) for pid in processes_of(host.data)}
                killed = now_ms()
                host.kill()
            began = now_ms()
            host.start_process()
            until(lambda: serves(host), "the host is ready again")
            ready_ms.append(now_ms() - began)
            host.connect()
            while now_ms() < killed + 2_000:
                time.sleep(0.01)
            orphans += [
                f"round {number}: pid {pid}" for pid, when in before if when and started(pid) == when
            ]
            # All of them at the end; the newest now, so that a loss is seen in its round.
            lost += [f"round {number}: {what}" for what in broken(host, promises.made[-200:], openings=3)]
        lost += broken(host, promises.made)
        host.stop()
    finally:
        if host.process is not None and host.process.poll() is None:
            host.kill()
        host.kill_what_is_left()
    panics = [line for line in host.log.read_text(errors="replace").splitlines() if "panicked at" in line]
    trial.equal("kills", len(ready_ms), rounds)
    kinds = {kind: sum(1 for one in promises.made if one.kind == kind) for kind in KINDS}
    trial.figure("acknowledged writes", str(kinds), "some of each", all(kinds.values()))
    trial.none("acknowledged writes that are lost", lost)
    trial.none("orphans after 2 s", orphans)
    trial.within("ready with 10 plugins, the slowest", max(ready_ms), 2_000)
    trial.none("panics in the log", panics)


KINDS = ("key", "revoked", "revision", "request")


def started(pid: int) -> str:
    """When a process began, in the kernel's words; empty if it is gone."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    except OSError:
        return ""
    # One that has ended and is not yet waited for runs nowhere.
    return "" if fields[0] in "ZX" or pid == os.getpid() else fields[19]
