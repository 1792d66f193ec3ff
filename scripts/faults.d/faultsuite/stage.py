"""The stage of a row: a real host, its plugins, the ledger client and the witness, and what always holds.

`before()` takes the baseline of this very run; at the end of the block everything is given ten seconds to
be as it was, the host is stopped as an operator does, and the oracle compares what was said with what was
done.
"""

import asyncio
import contextlib
import os
import signal
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace
from typing import Any, TypeVar

from harness import BUNDLED, REPOSITORY, Host, PluginFolder

from . import oracle
from .client import LedgerClient, now_ms
from .trial import Trial
from .vitals import MIB, Peak, Vitals, watched
from .witness import PER_SECOND, Window, Witness

PLUGINS = REPOSITORY / "scripts/faults.d/plugins"

# Below this the witness's figures are the noise of a machine that its load shares, in milliseconds.
FLOOR = 5.0
WITNESS_TIMES = 2
# How many calls make host and plugin warm.
WARM = 50
# How far memory may stay above its baseline: the allocator's and the log rings' share, in bytes.
MEMORY_KEPT = 16 * MIB
# The runtime keeps threads for work that blocks until they had none for ten seconds; the host measures its
# plugins more often than that, on whichever is free.
THREADS_KEPT = 2
SETTLED_WITHIN = 10.0

T = TypeVar("T")


def ledger(name: str = "ledger", *, entry: dict[str, Any] | None = None, **settings: Any) -> PluginFolder:
    """The ledger plugin, under a name and with settings of its own."""
    return PluginFolder(name, PLUGINS / "ledger", settings, entry or {})


def base_ledger(name: str = "ledger", **settings: Any) -> PluginFolder:
    """The same of the base contract."""
    return ledger(name, contract="base", **settings)


def bystander(name: str = "witness") -> PluginFolder:
    """The plugin that the witness asks: the reference plugin, which no fault is aimed at."""
    entry = {"autostart": True}
    return PluginFolder(name, BUNDLED / "ping", {}, entry, "bkg-plugin-ping")


class Stage:
    """What a row acts on."""

    def __init__(self, trial: Trial, host: Host) -> None:
        self.trial = trial
        self.host = host
        self.client = LedgerClient(host.ports["api"], host.key)
        self.witness: Witness | None = None
        self.baseline: Vitals | None = None
        self.window: Window | None = None
        self.fault_since = now_ms()
        self.tasks: set[asyncio.Task[Any]] = set()
        self.load: Load | None = None

    @property
    def pid(self) -> int:
        """The host's process."""
        assert self.host.process is not None
        return self.host.process.pid

    def vitals(self) -> Vitals:
        """What the host costs now."""
        return Vitals.of(self.pid)

    def watched(self) -> contextlib.AbstractAsyncContextManager[Peak]:
        """Watches the host's memory while a block runs."""
        return watched(self.pid)

    async def before(
        self,
        plugin: str = "ledger",
        *,
        meanwhile: Callable[[], Awaitable[Any]] | None = None,
        at_once: int = 1,
    ) -> None:
        """Warms host and plugin up, and takes the baseline of the witness and of the host.

        `meanwhile` is what the row is going to do, without the fault: a witness that is slowed down by
        other work of the same size says nothing about the fault.
        """
        for _ in range(WARM):
            await self.client.call(plugin)
        if meanwhile:
            await meanwhile()
        self.baseline = await self._idle()
        if self.witness:
            least = self.trial.count(2 * PER_SECOND, 10 * PER_SECOND)
            measured = asyncio.Event()

            async def work() -> None:
                while meanwhile and not measured.is_set():
                    await meanwhile()

            working = [asyncio.create_task(work()) for _ in range(at_once)]
            self.window = await self.witness.watch(least, now_ms())
            measured.set()
            await asyncio.gather(*working)
        self.fault_since = now_ms()

    async def _idle(self) -> Vitals:
        """What the host costs once it has noticed that the client's kept sockets are closed."""
        self.client.close()
        now = self.vitals()
        for _ in range(50):
            await asyncio.sleep(0.1)
            before, now = now, self.vitals()
            if before.descriptors == now.descriptors:
                break
        return now

    async def off_thread(self, act: Callable[..., T], *arguments: Any, **named: Any) -> T:
        """Does something that blocks, such as what the harness does, without holding up clients."""
        return await asyncio.to_thread(act, *arguments, **named)

    async def http(self, method: str, path: str, body: Any = None) -> Any:
        """One request of the operator's; the answer must be good."""
        answer = await self.off_thread(self.host.http, method, path, body)
        assert answer.status < 300, f"{method} {path}: {answer.status} {answer.body!r}"
        return answer.json() if answer.body else None

    async def plugin(self, name: str = "ledger") -> dict[str, Any]:
        """What the operator sees of a plugin."""
        return dict(await self.http("GET", f"/admin/plugins/{name}"))

    async def pids(self, name: str = "ledger") -> list[int]:
        """The processes of a plugin that serve."""
        shown = await self.plugin(name)
        return [one["pid"] for one in shown["instances"] if one["status"] == "healthy"]

    async def until(self, found: Callable[[], Any], what: str, *, within: float = 30.0) -> Any:
        """Asks again and again, a coroutine function or not, until there is something true."""
        deadline = now_ms() + within * 1000
        while True:
            result = found()
            if asyncio.iscoroutine(result):
                result = await result
            if result:
                return result
            assert now_ms() < deadline, f"not within {within:.0f} s: {what}"
            await asyncio.sleep(0.01)

    async def until_serving(self, name: str = "ledger", *, count: int = 1, without: int = 0) -> list[int]:
        """Waits until so many instances serve, none of which is the process `without`."""

        async def serving() -> list[int] | None:
            pids = await self.pids(name)
            return pids if len(pids) >= count and without not in pids else None

        return list(await self.until(serving, f"{count} of `{name}` serve"))

    async def in_flight(self, name: str = "ledger") -> int:
        """How many requests the host believes to be open there."""
        return sum(one["inFlight"] for one in (await self.plugin(name))["instances"])

    def lines(self) -> list[oracle.Line]:
        """Everything that ledger plugins have written down."""
        return oracle.read(self.host.data)

    def line(self, event: str, call: str) -> oracle.Line | None:
        """The first of these lines about a call."""
        wanted = (line for line in self.lines() if line["event"] == event and line.get("call") == call)
        return next(wanted, None)

    async def until_line(self, event: str, call: str) -> oracle.Line:
        """Waits until it is written."""
        found = await self.until(lambda: self.line(event, call), f"`{event}` of {call} is in the ledger")
        return dict(found)

    def kill(self, pid: int, with_signal: int = signal.SIGKILL) -> float:
        """Sends a signal; the moment before it."""
        moment = now_ms()
        os.kill(pid, with_signal)
        return moment

    def begin_load(
        self, *, per_second: float, streams: int, plugin: str = "ledger", **fields: Any
    ) -> "Load":
        """Asks steadily, and keeps so many streams open, until the stage or the row ends it."""
        self.load = Load(self.client, per_second, streams, plugin, fields)
        return self.load

    async def settle(self, name: str) -> None:
        """Judges what always holds; its figures begin with the name that the stage has among others of
        its row."""
        first = len(self.trial.figures)
        await self._judge()
        for place in range(first, len(self.trial.figures)):
            figure = self.trial.figures[place]
            self.trial.figures[place] = replace(
                figure, name=f"{name}: {figure.name}" if name else figure.name
            )

    async def _judge(self) -> None:
        if self.load:
            await self.load.stop()
        self.client.close()
        trial = self.trial
        if self.witness:
            await self._judge_witness(self.witness)
        if self.baseline:
            await self._judge_vitals(self.baseline)
        if self.witness:
            self.witness.stop()
        await self.off_thread(self.host.stop)
        log = self.host.log.read_text(errors="replace")
        trial.none("panics in the log", [line for line in log.splitlines() if "panicked at" in line])
        oracle.judge(trial, self.client.calls, self.lines())

    async def _judge_witness(self, witness: Witness) -> None:
        if self.window is None:
            return
        least = self.trial.count(2 * PER_SECOND, 4 * PER_SECOND)
        await witness.watch(least, self.fault_since)
        during = witness.between(self.fault_since, now_ms())
        # A request waits for the processor in three processes; the witness's timer, in one.
        bar = WITNESS_TIMES * max(self.window.took(99), during.late(99), FLOOR)
        self.trial.none("requests of the witness that failed", during.failed)
        lateness = f"; its timer {during.late(99):.1f} ms late"
        before = f"; before {self.window.took(50):.1f} and {self.window.took(99):.1f} ms"
        self.trial.within("witness, p99", during.took(99), bar)
        figure = self.trial.figures.pop()
        seen = f"{figure.measured} (p50 {during.took(50):.1f} ms{before}{lateness})"
        self.trial.figures.append(replace(figure, measured=seen))

    async def _judge_vitals(self, before: Vitals) -> None:
        now = before

        async def leaked() -> list[str]:
            nonlocal now
            now = self.vitals()
            found = [
                ("memory", now.memory - before.memory - MEMORY_KEPT),
                ("descriptors", now.descriptors - before.descriptors),
                ("threads", now.threads - before.threads - THREADS_KEPT),
                ("open requests", await self._open_requests()),
            ]
            return [f"{name} +{more}" for name, more in found if more > 0]

        since = now_ms()
        left = await leaked()
        while left and now_ms() - since < SETTLED_WITHIN * 1000:
            await asyncio.sleep(0.1)
            left = await leaked()
        taken = f"memory {(now.memory - before.memory) / MIB:+.1f} MiB, descriptors "
        taken += f"{now.descriptors - before.descriptors:+d}, threads {now.threads - before.threads:+d}, "
        taken += f"after {(now_ms() - since) / 1000:.1f} s" + (f": {', '.join(left)}" if left else "")
        bar = f"baseline + {MEMORY_KEPT // MIB} MiB, + 0, + {THREADS_KEPT}, no open request, "
        bar += f"≤ {SETTLED_WITHIN:.0f} s"
        self.trial.figure("host afterwards", taken, bar, not left)

    async def _open_requests(self) -> int:
        # The witness goes on asking; the last look at it may find one.
        plugins = await self.http("GET", "/admin/plugins")
        instances = [
            one for plugin in plugins if plugin["name"] != "witness" for one in plugin["instances"]
        ]
        return sum(one["inFlight"] for one in instances)


class Load:
    """A steady load: calls at a pace that answers do not slow down, and streams that follow one another."""

    def __init__(
        self, client: LedgerClient, per_second: float, streams: int, plugin: str, fields: Any
    ) -> None:
        self.client, self.plugin, self.fields = client, plugin, fields
        self.stopping = asyncio.Event()
        self.calls: set[asyncio.Task[Any]] = set()
        self.tasks = [asyncio.create_task(self._streams()) for _ in range(streams)]
        if per_second:
            self.tasks.append(asyncio.create_task(self._pace(1 / per_second)))

    async def stop(self) -> None:
        """Asks for nothing more, and waits for what was asked."""
        self.stopping.set()
        await asyncio.gather(*self.tasks, *self.calls)

    async def _pace(self, pause: float) -> None:
        due = now_ms()
        while not self.stopping.is_set():
            call = asyncio.create_task(self.client.call(self.plugin))
            self.calls.add(call)
            call.add_done_callback(self.calls.discard)
            due += pause * 1000
            await asyncio.sleep(max(0.0, due - now_ms()) / 1000)

    async def _streams(self) -> None:
        while not self.stopping.is_set():
            await self.client.stream(self.plugin, **self.fields)


@contextlib.asynccontextmanager
async def stage(
    trial: Trial,
    *plugins: PluginFolder,
    config: str = "",
    environment: dict[str, str] | None = None,
    witness: bool = True,
    name: str = "",
) -> AsyncIterator[Stage]:
    """Sets the stage, and judges at its end what always holds; what goes wrong in between ends it all the
    same."""
    directory = trial.directory / f"host-{len(list(trial.directory.iterdir()))}"
    folders = (*plugins, bystander()) if witness else plugins
    host = Host(directory, *folders, config=config, environment=environment)
    await asyncio.to_thread(host.start)
    found = Stage(trial, host)
    try:
        if witness:
            found.witness = Witness(host.ports["api"], host.key, "witness", directory)
        yield found
        await found.settle(name)
    finally:
        if found.witness:
            found.witness.stop()
        if host.process is not None and host.process.poll() is None:
            host.kill()
        host.kill_what_is_left()
