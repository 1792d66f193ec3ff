"""How a `ping` ends and comes back: killed, stopped, drained, cut off, held still.

Each of these has a daemon of its own. Whoever waits has a definite answer in every case, and never one
that looks complete and is not.
"""

import ctypes
import os
import signal
import socket
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

from harness import Answer, processes_of, until

from scenarios.scenario import Group, Need, Ping
from scenarios.streams import END, ENDLESS, numbers

_group = Group()
SCENARIOS = _group.scenarios

# A drain that everything here ends within, and one that nothing does.
LONG_DRAIN = "[supervisor]\ndrain_ms = 30000\n"
SHORT_DRAIN = "[supervisor]\ndrain_ms = 300\n"


class Waiting:
    """Something that is done meanwhile, and what comes of it."""

    def __init__(self, work: Callable[[], Any]) -> None:
        self._outcome: list[Any] = []
        self._thread = threading.Thread(target=lambda: self._outcome.append(work()), daemon=True)
        self._thread.start()

    def outcome(self) -> Any:
        """Waits for it."""
        self._thread.join(30)
        assert self._outcome, "it has not come to its end, or failed: see the thread's output"
        return self._outcome[0]


def answers_again(ping: Ping, *, not_pid: int) -> None:
    """Fails unless another process does all that the one before did."""
    ping.host.until_running(ping.name, not_pid=not_pid)
    assert ping.gets("greet", {"name": "Ada"}) == {"greeting": "hello Ada"}
    assert ping.in_flight == 0


@_group.alone()
def killed_in_mid_request_it_fails_and_comes_back(ping: Ping) -> None:
    pid = ping.pid
    order = {"capability": "test.wait", "payload": {"ms": 60_000}}
    waiting = Waiting(lambda: ping.ask("relay", order))
    ping.until_in_flight(1)
    os.kill(pid, signal.SIGKILL)
    answer: Answer = waiting.outcome()
    assert (answer.status, answer.error()["code"]) == (502, "plugin_disconnected")
    answers_again(ping, not_pid=pid)
    until(lambda: ping.host.instance("misbehave")["inFlight"] == 0, "what it asked for is given up")


@_group.alone(Need.STREAMS, Need.ROUTES)
def killed_in_mid_stream_it_never_looks_complete(ping: Ping) -> None:
    pid = ping.pid
    with ping.reading(f"/count/{ENDLESS}?delayMs=10") as first, ping.reading(f"/count/{ENDLESS}") as second:
        for events in (first, second):
            assert events.event() == ("data", {"number": 0})
        os.kill(pid, signal.SIGKILL)
        for events in (first, second):
            _, (kind, body) = events.rest()
            assert (kind, body["error"]["code"]) == ("error", "plugin_disconnected")
            assert events.event() == ("cut", None)
    answers_again(ping, not_pid=pid)
    with ping.reading("/count/5") as events:
        assert events.rest() == (numbers(5), END)


@_group.alone(Need.STREAMS, Need.ROUTES, config=LONG_DRAIN)
def drained_in_mid_stream_it_counts_to_the_end(ping: Ping) -> None:
    pid = ping.pid
    with ping.reading("/count/40?delayMs=25") as events:
        assert events.event() == ("data", {"number": 0})
        restarting = Waiting(lambda: ping.host.lifecycle(ping.name, "restart"))
        assert events.rest() == (numbers(40)[1:], END)
        assert restarting.outcome().status == 200
    answers_again(ping, not_pid=pid)
    assert said_on_the_way_out(ping) == []


@drained_in_mid_stream_it_counts_to_the_end.otherwise
def what_a_base_plugin_has_begun_is_waited_for(ping: Ping) -> None:
    pid = ping.pid
    counting = Waiting(lambda: ping.gets("count", {"n": 40, "delayMs": 25}))
    ping.until_in_flight(1)
    assert ping.host.lifecycle(ping.name, "restart").status == 200
    assert counting.outcome() == numbers(40)
    answers_again(ping, not_pid=pid)


def said_on_the_way_out(ping: Ping) -> list[str]:
    """What the host found wrong with how the plugin ended."""
    page = ping.host.http("GET", f"/admin/plugins/{ping.name}/logs?tail=1000&stream=host&level=warn").json()
    return [line["message"] for line in page["lines"]]


@_group.alone(Need.STREAMS, Need.ROUTES, config=SHORT_DRAIN)
def a_stream_that_outlasts_the_drain_breaks(ping: Ping) -> None:
    pid = ping.pid
    with ping.reading(f"/count/{ENDLESS}?delayMs=10") as events:
        assert events.event() == ("data", {"number": 0})
        restarting = Waiting(lambda: ping.host.lifecycle(ping.name, "restart"))
        _, (kind, _) = events.rest()
        assert kind == "error"
        assert restarting.outcome().status == 200
    answers_again(ping, not_pid=pid)


@_group.alone(Need.STREAMS, Need.ROUTES, config=SHORT_DRAIN)
def a_stop_of_the_daemon_in_mid_stream_leaves_nothing(ping: Ping) -> None:
    with ping.reading(f"/count/{ENDLESS}?delayMs=10") as events:
        assert events.event() == ("data", {"number": 0})
        stopping = Waiting(ping.host.stop)
        _, (kind, _) = events.rest()
        assert kind in ("error", "cut")
    # `stop` fails if a process of the plugin outlives the daemon.
    stopping.outcome()
    assert processes_of(ping.host.data) == []


@a_stop_of_the_daemon_in_mid_stream_leaves_nothing.otherwise
def a_stop_of_the_daemon_in_mid_request_leaves_nothing(ping: Ping) -> None:
    def ask() -> str:
        try:
            return str(ping.ask("count", {"n": 1000, "delayMs": 1000}).error()["code"])
        except ConnectionError:
            return "cut off"

    counting = Waiting(ask)
    ping.until_in_flight(1)
    ping.host.stop()
    assert counting.outcome() in ("cut off", "plugin_disconnected", "plugin_unavailable")
    assert processes_of(ping.host.data) == []


def cut_the_link(pid: int) -> None:
    """Shuts the socket between a plugin and the host, as a network does that fails."""
    pairs = Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
    (port,) = [int(pair.split(b"=")[1]) for pair in pairs if pair.startswith(b"BKG_PLUGIN_BUS_PORT=")]
    libc = ctypes.CDLL(None, use_errno=True)
    process = os.pidfd_open(pid)
    try:
        for entry in Path(f"/proc/{pid}/fd").iterdir():
            if not os.readlink(entry).startswith("socket:"):
                continue
            # pidfd_getfd: there is no other way to a socket of somebody else.
            copy = libc.syscall(438, process, int(entry.name), 0)
            assert copy >= 0, os.strerror(ctypes.get_errno())
            with socket.socket(fileno=copy) as link:
                if link.family == socket.AF_INET and link.getpeername()[1] == port:
                    link.shutdown(socket.SHUT_RDWR)
                    return
    finally:
        os.close(process)
    raise AssertionError(f"process {pid} has no link to the host")


@_group.alone(Need.EXTENDED)
def a_link_that_broke_is_taken_up_by_the_same_process(ping: Ping) -> None:
    before = ping.host.instance(ping.name)
    order = {"capability": "test.wait", "payload": {"ms": 60_000}}
    waiting = Waiting(lambda: ping.ask("relay", order))
    ping.until_in_flight(1)
    assert ping.settings(greeting="salut").status == 200
    cut_the_link(before["pid"])
    answer: Answer = waiting.outcome()
    assert (answer.status, answer.error()["code"]) == (502, "plugin_disconnected")

    def is_back() -> bool:
        instances = ping.host.plugin(ping.name)["instances"]
        return bool(instances and instances[0]["since"] != before["since"])

    until(is_back, f"`{ping.name}` has registered again")
    after = ping.host.instance(ping.name)
    assert (after["id"], after["pid"]) == (before["id"], before["pid"])
    assert ping.gets("greet", {"name": "Ada"}) == {"greeting": "salut Ada"}
    ping.until_in_flight(0)
    with ping.reading("/count/5") as events:
        assert events.rest() == (numbers(5), END)
    # And once more: each secret is good for one return.
    cut_the_link(before["pid"])
    until(lambda: ping.ask("ping").status == 200, "it answers again")
    assert ping.pid == before["pid"]


@a_link_that_broke_is_taken_up_by_the_same_process.otherwise
def a_link_that_broke_is_taken_up_by_another_process(ping: Ping) -> None:
    pid = ping.pid
    cut_the_link(pid)
    answers_again(ping, not_pid=pid)


@_group.alone()
def held_still_it_costs_its_callers_their_time_and_nothing_else(ping: Ping) -> None:
    pid = ping.pid
    os.kill(pid, signal.SIGSTOP)
    try:
        for _ in range(3):
            answer = ping.ask("ping", timeoutMs=100)
            assert (answer.status, answer.error()["code"]) == (504, "timeout")
        assert ping.in_flight == 3, "a place is freed by the plugin's answer alone"
    finally:
        os.kill(pid, signal.SIGCONT)
    ping.until_in_flight(0)
    assert (ping.gets("ping"), ping.pid) == ({"pong": True}, pid)
