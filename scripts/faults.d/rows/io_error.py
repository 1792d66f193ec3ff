"""The disk fails at fsync."""

import asyncio
import contextlib
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

from faultsuite.client import now_ms
from faultsuite.promises import Promises, broken, takes_settings
from faultsuite.stage import bystander
from faultsuite.trial import Trial, row
from faultsuite.witness import Witness
from harness import Host, apikeys, until

KEY = {"user": "admin", "scopes": ["plugin:read"]}


@row(
    "io-error",
    fault="EIO on fsync",
    bar="proxying goes on; no acknowledgement after a failed fsync, before the database was opened anew "
    "and checked; heals by itself",
)
async def io_error(trial: Trial) -> None:
    """`strace` attaches to the host and to `apikeys`, and every fsync of both answers EIO, until it lets
    go: meanwhile everything that an operator changes must be refused, whole, and a witness be served. Then
    single fsyncs fail under load. After each, the host is killed and started again, and every promise is
    looked for. The kernel keeps what it was given, so this shows that nothing is acknowledged, not what a
    disk does; the order of fsync and acknowledgement, call by call, is read from a trace in
    `crates/bkg-sqlite/tests/disk.rs`."""
    await asyncio.to_thread(play, trial)


def play(trial: Trial) -> None:
    """The row, which blocks."""
    if shutil.which("strace") is None:
        trial.skip("`strace` is missing")
    host = Host(trial.directory / "host", apikeys(), takes_settings(), bystander())
    host.start()
    promises = Promises()
    failed: list[str] = []
    lost: list[str] = []
    refusals: dict[int, int] = {}
    slowest = 0.0
    acknowledged = 0
    try:
        for number in range(trial.count(2, 15)):
            with promises.writing(host):
                promises.await_more(10)
            witness = Witness(host.ports["api"], host.key, "witness", trial.directory)
            with failing_fsyncs(host, "1+", trial.directory / f"trace-{number}"):
                began = now_ms()
                during = Promises()
                with during.writing(host, threads=2):
                    during.await_answers(507, 20)
                    time.sleep(1.0)
                # What was read was there before; a row of usage is no acknowledgement of this time.
                acknowledged += sum(1 for promise in during.made if promise.kind != "request")
                for status, times in during.answers.items():
                    refusals[status] = refusals.get(status, 0) + times
                ended = now_ms()
            failed += [f"round {number}: {one}" for one in witness.between(began, ended).failed]
            witness.stop()
            healed = now_ms()
            until(lambda: host.http("POST", "/admin/keys", KEY).status == 201, "changes are taken again")
            slowest = max(slowest, now_ms() - healed)

            # Some, and not for ever: opening anew takes three fsyncs, and could meet every third each time.
            some = f"{2 + number % 5}..24+{3 + number % 4}"
            with (
                failing_fsyncs(host, some, trial.directory / "trace"),
                promises.writing(host),
            ):
                promises.await_more(10)
            host.kill()
            host.start()
            lost += [f"round {number}: {what}" for what in broken(host, promises.made, openings=5)]
        host.stop()
    finally:
        if host.process is not None and host.process.poll() is None:
            host.kill()
        host.kill_what_is_left()
    trial.equal("changes acknowledged while every fsync fails", acknowledged, 0)
    others = {status: times for status, times in refusals.items() if status not in (200, 507)}
    trial.figure("answers while every fsync fails", str(refusals), "changes: 507", not others)
    trial.none("requests of the witness that failed", failed)
    trial.within("until changes are taken again, the slowest", slowest, 5_000)
    trial.none("acknowledged writes that are lost", lost)


@contextlib.contextmanager
def failing_fsyncs(host: Host, when: str, trace: Path) -> Iterator[None]:
    """Has fsyncs of the host and of `apikeys` fail while the block runs, of each thread those that `when`
    names."""
    assert host.process is not None
    pids = [host.process.pid, host.instance("apikeys")["pid"]]
    inject = f"inject=fsync,fdatasync:error=EIO:when={when}"
    command = ["strace", "-f", "-q", "-e", "trace=fsync,fdatasync", "-e", inject, "-o", str(trace)]
    attached = subprocess.Popen([*command, *(f"--attach={pid}" for pid in pids)], stderr=subprocess.PIPE)
    try:
        until(lambda: all(traced(pid) for pid in pids), "both are traced")
        yield
    finally:
        attached.terminate()
        attached.communicate()


def traced(pid: int) -> bool:
    """Whether every thread of a process is."""
    tasks = list(Path(f"/proc/{pid}/task").iterdir())
    return all("TracerPid:\t0\n" not in (task / "status").read_text() for task in tasks)
