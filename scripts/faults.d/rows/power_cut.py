"""The machine loses power while operators write."""

import asyncio
import contextlib
import random
from pathlib import Path

from faultsuite.client import now_ms
from faultsuite.disks import can_mount, make_ext4, mounted
from faultsuite.promises import Promise, Promises, broken, serves, takes_settings
from faultsuite.recorder import RecordingDisk, images, moments
from faultsuite.stage import bystander
from faultsuite.trial import Trial, row
from harness import Host, apikeys, processes_of, until

MIB = 96
PINGS = 8


@row(
    "power-cut",
    fault="simulated power cut × 20",
    bar="0 acknowledged writes lost, 0 orphans after 2 s, ready ≤ 2 s with 10 plugins",
)
async def power_cut(trial: Trial) -> None:
    """The data directory lies on an ext4 on a block device whose every write and flush is written down.
    While operators write, each acknowledgement notes how far the recording has come. Cuts are made in the
    moment of an acknowledgement, and just before a flush. For a cut, an image is
    made of everything up to the last flush, and of the writes after it, sector by sector, a random part, in
    no order; a host is started on it, and every promise of before the cut is looked for. Not modelled: a
    disk that answers a flush without having flushed."""
    await asyncio.to_thread(play, trial)


def play(trial: Trial) -> None:
    """The row, which blocks."""
    if not can_mount() or not Path("/dev/fuse").exists():
        trial.skip("no right to mount, or no FUSE, for a disk that records")
    cuts = trial.count(4, 20)
    directory = trial.directory
    image, target = directory / "image", directory / "cut"
    make_ext4(image, MIB)
    plugins = [apikeys(), takes_settings(), *(bystander(f"ping-{number}") for number in range(PINGS))]
    disk = RecordingDisk(directory, image)
    promises = Promises(mark=disk.position)
    host: Host | None = None
    with contextlib.ExitStack() as stack:
        stack.callback(disk.close)
        data = stack.enter_context(mounted(directory / "host/data", "mount", disk.device))
        host = Host(data.parent, *plugins)
        try:
            host.start()
            began = disk.position()
            with promises.writing(host):
                wanted = trial.count(120, 800)
                promises.await_more(wanted, within=300)
                # The end of life is no matter here: the recording is cut wherever it is cut.
                ended = disk.position()
                host.kill()
        finally:
            if host.process is not None and host.process.poll() is None:
                host.kill()
            host.kill_what_is_left()
    chance = random.Random(7)
    places = moments(disk.log, began, ended, [promise.mark for promise in promises.made], cuts, chance)
    lost: list[str] = []
    torn: list[int] = []
    ready_ms: list[float] = []
    kept: list[Promise] = []
    for position, sectors in images(image, disk.log, places, target, chance):
        torn.append(sectors)
        kept = promises.until(position)
        with mounted(host.data, "mount", "-o", "loop", str(target)):
            next_life = begin_again(host)
            try:
                started = now_ms()
                next_life.start_process()
                until_serving(next_life)
                ready_ms.append(now_ms() - started)
                next_life.connect()
                lost += [f"cut at {position}: {what}" for what in broken(next_life, kept, openings=5)]
                next_life.stop()
            except AssertionError as problem:
                lost.append(f"cut at {position}: {str(problem)[:300]}")
            finally:
                if next_life.process is not None and next_life.process.poll() is None:
                    next_life.kill()
                next_life.kill_what_is_left()
    trial.equal("cuts", len(torn), cuts)
    said = f"{len(kept)} before the last cut; {sum(torn)} sectors were on their way"
    trial.figure("acknowledged writes", said, "some of both", bool(kept) and sum(torn) > 0)
    trial.none("acknowledged writes that are lost", lost)
    trial.none("orphans", processes_of(host.data))
    trial.within("ready with 10 plugins, the slowest", max(ready_ms, default=float("inf")), 2_000)


def until_serving(host: Host) -> None:
    """Waits until a host serves."""
    until(lambda: serves(host), "the host serves after the cut", within=30)


def begin_again(host: Host) -> Host:
    """The same directories for another life."""
    host.process = None
    return host
