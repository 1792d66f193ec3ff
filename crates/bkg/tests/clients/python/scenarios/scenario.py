"""What a scenario is: a fact about every `ping`, what of the protocol it needs, what holds without that.

Not the facts themselves. The invariant: no plugin is left out of a scenario. One that lacks what a
scenario needs is asked for what the host makes of that instead, or at least shown to lack it, and the
name of the test says so.
"""

import contextlib
import json
import socket
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import Enum
from http.client import HTTPConnection, HTTPResponse
from pathlib import Path
from typing import Any

from harness import Answer, Host, until


class Need(Enum):
    """A part of the protocol that the base contract does not have."""

    EXTENDED = "the extended contract"
    STREAMS = "streams"
    ROUTES = "routes"
    HOT = "hot settings"


@dataclass(frozen=True)
class Ping:
    """One of the plugins on a running daemon."""

    host: Host
    name: str
    offers: frozenset[Need]

    def capability(self, verb: str) -> str:
        """The name of a capability: each plugin has its own before the dot."""
        return f"{self.name}.{verb}"

    def ask(self, verb: str, payload: Any = None, **fields: Any) -> Answer:
        """Asks for one capability."""
        return self.host.invoke(self.capability(verb), payload, plugin=self.name, **fields)

    def gets(self, verb: str, payload: Any = None) -> Any:
        """What it answers; it must have succeeded."""
        answer = self.ask(verb, payload)
        assert answer.status == 200, answer.body
        return answer.json()["data"]

    def path(self, route: str) -> str:
        """Where a route of the plugin is."""
        return f"/api/plugins/{self.name}{route}"

    def http(
        self, method: str, route: str, body: bytes | None = None, kind: str = "application/octet-stream"
    ) -> Answer:
        """A request to a route of the plugin, with a body of this type."""
        headers = None if body is None else {"Content-Type": kind}
        return self.host.http(method, self.path(route), body, headers=headers)

    def in_another(self, verb: str, payload: Any) -> dict[str, Any]:
        """Has another plugin ask for a stream; its last frame comes back, and the chunks before it."""
        order = {"capability": self.capability(verb), "payload": payload, "stream": True}
        answer = self.host.invoke("test.call", order)
        assert answer.status == 200, answer.body
        return dict(answer.json()["data"])

    @contextlib.contextmanager
    def asking(self, route: str, *, room: int | None = None) -> Iterator[HTTPConnection]:
        """A client that has asked, and leaves at the end; its socket takes `room` bytes unread."""
        connection = self.host.connection()
        with socket.socket() as link:
            if room is not None:
                link.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, room)
                # Of small segments the kernel keeps few on the daemon's side, too.
                link.setsockopt(socket.IPPROTO_TCP, socket.TCP_MAXSEG, 1000)
            link.settimeout(30)
            link.connect(("127.0.0.1", self.host.ports["api"]))
            connection.sock = link
            connection.request(
                "GET", self.path(route), headers={"Authorization": f"Bearer {self.host.key}"}
            )
            yield connection
            # A response that is not read to its end keeps the socket open beyond its connection.
            with contextlib.suppress(OSError):
                link.shutdown(socket.SHUT_RDWR)

    @contextlib.contextmanager
    def reading(self, route: str, *, room: int | None = None) -> Iterator["Events"]:
        """A stream that has begun; the client leaves at the end, read or not."""
        with self.asking(route, room=room) as connection:
            response = connection.getresponse()
            assert response.status == 200, response.read()
            yield Events(response)

    @property
    def pid(self) -> int:
        """The process that serves now."""
        return int(self.host.instance(self.name)["pid"])

    @property
    def in_flight(self) -> int:
        """How many requests it has not answered yet."""
        return int(self.host.instance(self.name)["inFlight"])

    def until_in_flight(self, count: int) -> None:
        """Waits until it works on so many requests."""
        until(lambda: self.in_flight == count, f"{count} are in flight at `{self.name}`: {self.in_flight}")

    def settings(self, **settings: Any) -> Answer:
        """Changes settings, as an operator does."""
        return self.host.http("POST", f"/admin/plugins/{self.name}/config", {"settings": settings})

    def try_settings(self, **settings: Any) -> Answer:
        """Asks what would become of settings, as an operator does."""
        path = f"/admin/plugins/{self.name}/config?dryRun=true"
        return self.host.http("POST", path, {"settings": settings})

    def default_settings(self) -> None:
        """Has the settings be what the files say."""
        path = f"/admin/plugins/{self.name}/config/reset"
        answer = self.host.http("POST", path, {"paths": ["/settings"]})
        assert answer.status == 200, answer.body
        self.host.until_running(self.name)


@dataclass
class Events:
    """Server-sent events, as they come."""

    response: HTTPResponse

    def event(self) -> tuple[str, Any]:
        """The next event by its kind, `data`, `end` or `error`; `cut` where the connection ends."""
        kind = "data"
        while True:
            line = self.response.readline().decode()
            if not line:
                return "cut", None
            if line.startswith("event: "):
                kind = line.removeprefix("event: ").strip()
            elif line.startswith("data: "):
                return kind, json.loads(line.removeprefix("data: "))

    def rest(self) -> tuple[list[Any], tuple[str, Any]]:
        """All that comes, and how it ends."""
        chunks = []
        while (event := self.event())[0] == "data":
            chunks.append(event[1])
        return chunks, event


Run = Callable[[Ping], None]


@dataclass
class Scenario:
    """A fact, and the ways to see it."""

    name: str
    run: Run
    needs: frozenset[Need]
    # The configuration of a daemon of its own; none if it leaves a shared one as it found it.
    config: str | None
    instead: Run | None = None

    def lacks(self, offers: frozenset[Need]) -> list[Need]:
        """What it needs and a plugin has not."""
        return [need for need in Need if need in self.needs - offers]

    def title(self, offers: frozenset[Need]) -> str:
        """Its name, and which way to see it a plugin with these parts of the protocol takes."""
        if not (lacking := self.lacks(offers)):
            return self.name
        word = "instead" if self.instead else "cannot"
        return f"{self.name}-{word}-without-{'-'.join(need.name.lower() for need in lacking)}"

    def play(self, ping: Ping) -> None:
        """Fails if the fact does not hold for this plugin."""
        if not (lacking := self.lacks(ping.offers)):
            self.run(ping)
            return
        for need in lacking:
            absence(ping, need)
        if self.instead is not None:
            self.instead(ping)

    def otherwise(self, run: Run) -> Run:
        """Marks what holds for a plugin that lacks what is needed."""
        self.instead = run
        return run


def absence(ping: Ping, need: Need) -> None:
    """Fails if the host thinks that the plugin has this part of the protocol."""
    match need:
        case Need.EXTENDED:
            assert ping.host.instance(ping.name)["contract"] == "base"
        case Need.STREAMS:
            capabilities = ping.host.http("GET", f"/api/plugins/{ping.name}/capabilities").json()
            assert not any(capability["streaming"] for capability in capabilities["capabilities"])
        case Need.ROUTES:
            assert ping.host.http("GET", f"/admin/plugins/{ping.name}/routes").json()["routes"] == []
        case Need.HOT:
            live = ping.host.http("GET", f"/admin/plugins/{ping.name}/config").json()["live"]
            assert not live["takesHotConfig"]


class Group:
    """The scenarios of one file, in their order."""

    def __init__(self) -> None:
        self.scenarios: list[Scenario] = []

    def harmless(self, *needs: Need) -> Callable[[Run], Scenario]:
        """Marks a scenario that may share its daemon with others."""
        return lambda run: self._add(run, needs, None)

    def alone(self, *needs: Need, config: str = "") -> Callable[[Run], Scenario]:
        """Marks a scenario that kills or stops something, and so has a daemon of its own."""
        return lambda run: self._add(run, needs, config)

    def _add(self, run: Run, needs: tuple[Need, ...], config: str | None) -> Scenario:
        scenario = Scenario(run.__name__, run, frozenset(needs), config)
        self.scenarios.append(scenario)
        return scenario


def memory_of(pid: int) -> int:
    """The resident memory of a process, in bytes."""
    status = Path(f"/proc/{pid}/status").read_text()
    (line,) = [line for line in status.splitlines() if line.startswith("VmRSS:")]
    return int(line.split()[1]) << 10


def worked_of(pid: int) -> int:
    """How long a process has worked, in ticks of its clock."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return int(fields[11]) + int(fields[12])
