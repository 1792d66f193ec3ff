"""The routes of `ping`, as a program in another language sees them."""

import json
from collections.abc import Callable

import pytest
from harness import BUNDLED, Host, PluginFolder

PING = PluginFolder("ping", BUNDLED / "ping", entry={"autostart": True}, binary="bkg-plugin-ping")


@pytest.fixture
def ping(start_host: Callable[..., Host]) -> Host:
    """A daemon with `ping`."""
    host = start_host(PING)
    host.until_running("ping")
    return host


def test_the_root_answers_pong(ping: Host) -> None:
    answer = ping.http("GET", "/api/plugins/ping/")
    assert (answer.status, answer.json()) == (200, {"pong": True})


def test_a_parameter_of_the_path_arrives_decoded(ping: Host) -> None:
    answer = ping.http("GET", "/api/plugins/ping/greetings/Ada%20L%C3%B6v")
    assert answer.json() == {"greeting": "hello Ada Löv"}


def test_a_count_comes_as_events_and_ends_with_a_word(ping: Host) -> None:
    text = ping.http("GET", "/api/plugins/ping/count/3?delayMs=1").body.decode()
    events = text.removesuffix("\n\n").split("\n\n")
    assert [json.loads(event.removeprefix("data: ")) for event in events[:-1]] == [
        {"number": number} for number in range(3)
    ]
    assert events[-1] == "event: end\ndata: null"


def test_every_byte_comes_back(ping: Host) -> None:
    body = bytes(range(256))
    head = {"Content-Type": "application/octet-stream"}
    answer = ping.http("POST", "/api/plugins/ping/reverse", body, headers=head)
    assert (answer.status, answer.body) == (200, body[::-1])


def test_the_routes_are_listed_with_their_whole_paths(ping: Host) -> None:
    listed = ping.http("GET", "/api/plugins/routes").json()
    assert {(route["method"], route["path"]) for route in listed} == {
        ("GET", "/api/plugins/ping/"),
        ("GET", "/api/plugins/ping/greetings/{name}"),
        ("GET", "/api/plugins/ping/count/{n}"),
        ("POST", "/api/plugins/ping/reverse"),
    }
