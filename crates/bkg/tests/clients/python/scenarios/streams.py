"""A `ping` that counts: in order, as fast as it is read, and no longer than somebody reads.

The base contract has no chunks: there a count is one answer, whoever asks for it and how.
"""

import json
import re
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from typing import Any

from harness import until

from scenarios.answers import NO_OBJECTS, refused
from scenarios.scenario import Group, Need, Ping, memory_of, worked_of

_group = Group()
SCENARIOS = _group.scenarios

END = ("end", None)
# Far more than anybody reads here; whoever went on counting would be busy for minutes.
ENDLESS = 100_000_000
MOST_MORE_MEMORY = 64 << 20
# A counter that nobody holds back works without a pause.
RESTED_S = 0.2


def numbers(count: int) -> list[dict[str, int]]:
    """What a count says."""
    return [{"number": number} for number in range(count)]


@_group.harmless(Need.STREAMS, Need.ROUTES)
def a_count_comes_in_order_and_ends(ping: Ping) -> None:
    for count in (0, 1, 33, 2000):
        with ping.reading(f"/count/{count}") as events:
            assert events.response.headers["content-type"].startswith("text/event-stream")
            assert events.rest() == (numbers(count), END)


@a_count_comes_in_order_and_ends.otherwise
def a_count_is_one_answer(ping: Ping) -> None:
    for count in (0, 1, 33, 2000):
        assert ping.gets("count", {"n": count}) == numbers(count)


@_group.harmless(Need.STREAMS)
def another_plugin_gets_a_stream(ping: Ping) -> None:
    for count in (0, 3, 100):
        heard = ping.in_another("count", {"n": count, "delayMs": 0})
        assert heard["chunks"] == [{"seq": seq, "data": data} for seq, data in enumerate(numbers(count))]
        assert (heard["response"]["success"], heard["response"]["data"]) == (True, None)


@another_plugin_gets_a_stream.otherwise
def another_plugin_that_asks_for_a_stream_gets_one_answer(ping: Ping) -> None:
    heard = ping.in_another("count", {"n": 3})
    assert (heard["chunks"], heard["response"]["data"]) == ([], numbers(3))


@_group.harmless(Need.STREAMS)
def a_count_that_is_not_asked_for_as_a_stream_is_refused(ping: Ping) -> None:
    for payload in ({"n": 3}, {"n": -1}, None):
        refused(ping, "count", payload)


@_group.harmless()
def a_count_of_what_is_no_number_is_refused(ping: Ping) -> None:
    wrong: list[tuple[Any, str | None]] = [(payload, None) for payload in NO_OBJECTS]
    wrong += [({}, "n"), ({"delayMs": 0}, "n")]
    wrong += [({"n": n}, "n") for n in (None, -1, "3", 1.5, True, [3], 2**64)]
    wrong += [({"n": 1, "delayMs": delay}, "delayMs") for delay in (None, -1, "0", 0.5, False)]
    for payload, param in wrong:
        heard = ping.in_another("count", payload)
        assert heard["chunks"] == [], payload
        assert heard["response"]["success"] is False, payload
        error = heard["response"]["error"]
        assert (error["code"], error.get("param")) == ("invalid_request", param), payload


@_group.harmless(Need.STREAMS, Need.ROUTES)
def a_route_names_the_parameter_that_is_no_number(ping: Ping) -> None:
    # The last is a three that no parser of the protocol's numbers reads.
    texts = ("-1", "x", "1e3", "0x10", "1.0", "1_0", "%203", "3%20", "99999999999999999999", "%D9%A3")
    wrong = [(f"/count/{text}", "n") for text in texts]
    wrong += [(f"/count/1?delayMs={text}", "delayMs") for text in ("", "-0", *texts)]
    wrong += [("/count/x?delayMs=x", "n")]
    for route, param in wrong:
        answer = ping.http("GET", route)
        assert (answer.status, answer.headers["x-bkg-error-source"]) == (400, "plugin"), route
        error = answer.error()
        assert (error["code"], error["param"]) == ("invalid_request", param), route


@_group.harmless(Need.STREAMS, Need.ROUTES)
def a_number_may_be_written_long(ping: Ping) -> None:
    for route in ("/count/%2B2", "/count/002", "/count/2?delayMs=%2B0", "/count/2?delayMs=0&delayMs=x"):
        with ping.reading(route) as events:
            assert events.rest() == (numbers(2), END), route


@_group.harmless(Need.STREAMS, Need.ROUTES)
def sixty_four_streams_at_once_are_each_whole(ping: Ping) -> None:
    def read(count: int) -> None:
        with ping.reading(f"/count/{count}?delayMs=1") as events:
            assert events.rest() == (numbers(count), END)

    with ThreadPoolExecutor(64) as pool:
        list(pool.map(read, range(20, 84)))
    assert ping.in_flight == 0


@_group.harmless(Need.STREAMS, Need.ROUTES)
def a_plugin_stops_counting_when_its_reader_has_left(ping: Ping) -> None:
    pid = ping.pid
    with ExitStack() as readers:
        for _ in range(20):
            events = readers.enter_context(ping.reading(f"/count/{ENDLESS}?delayMs=1"))
            assert events.event() == ("data", {"number": 0})
        for _ in range(5):
            readers.enter_context(ping.asking("/count/3?delayMs=600000"))
        ping.until_in_flight(25)
        # All leave.
    ping.until_in_flight(0)
    assert (ping.gets("ping"), ping.pid) == ({"pong": True}, pid)


@a_plugin_stops_counting_when_its_reader_has_left.otherwise
def an_answer_that_nobody_waits_for_frees_its_place(ping: Ping) -> None:
    answer = ping.ask("count", {"n": 10, "delayMs": 50}, timeoutMs=100)
    assert (answer.status, answer.error()["code"]) == (504, "timeout")
    # It is not told, and so it counts to its end.
    assert ping.in_flight == 1
    ping.until_in_flight(0)
    assert ping.gets("ping") == {"pong": True}


class Rest:
    """Whether a process has done nothing for a while, as one that is held back."""

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self.worked = -1
        self.since = 0.0

    def __call__(self) -> bool:
        if (worked := worked_of(self.pid)) != self.worked:
            self.worked, self.since = worked, time.monotonic()
        return time.monotonic() - self.since > RESTED_S


@_group.harmless(Need.STREAMS, Need.ROUTES)
def a_reader_who_does_not_read_holds_up_nobody(ping: Ping) -> None:
    host = ping.host.ports["pid"]
    before = {pid: memory_of(pid) for pid in (ping.pid, host)}
    with ExitStack() as readers:
        slow = [ping.reading(f"/count/{ENDLESS}", room=4096) for _ in range(4)]
        streams = [readers.enter_context(reading) for reading in slow]
        for number in range(50):
            assert ping.gets("echo", number) == number
        with ping.reading("/count/500") as events:
            assert events.rest() == (numbers(500), END)
        until(Rest(ping.pid), f"`{ping.name}` counts no further than it is read")
        for pid, bytes_before in before.items():
            assert memory_of(pid) - bytes_before < MOST_MORE_MEMORY, "held back, it still piles up"
        # What was held back goes on where it was.
        for events in streams:
            assert [events.event() for _ in range(1000)] == [("data", one) for one in numbers(1000)]
    ping.until_in_flight(0)


@_group.harmless(Need.STREAMS, Need.ROUTES)
def a_reader_of_single_bytes_reads_the_same(ping: Ping) -> None:
    text = b""
    with ping.asking("/count/100", room=4096) as connection:
        while not text.endswith(b"0\r\n\r\n"):
            byte = connection.sock.recv(1)
            assert byte, text
            text += byte
    found = [json.loads(data) for data in re.findall(rb"data: (\{.*\})", text)]
    assert found == numbers(100)
    assert b"event: end\ndata: null\n\n" in text
