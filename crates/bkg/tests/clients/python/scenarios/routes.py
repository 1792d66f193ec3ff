"""The routes of a `ping`: parameters of path and query, and bodies of any type.

Streams through routes are in `streams.py`. Without routes there is nothing at their places, whatever is
sent there.
"""

import json

from scenarios.scenario import Group, Need, Ping

_group = Group()
SCENARIOS = _group.scenarios

EVERY_BYTE = bytes(range(256))


@_group.harmless(Need.ROUTES)
def the_routes_are_these(ping: Ping) -> None:
    routes = ping.host.http("GET", f"/admin/plugins/{ping.name}/routes").json()["routes"]
    found = [(one["method"], one["path"], one["capability"], one["streaming"]) for one in routes]
    assert found == [
        ("GET", ping.path("/"), ping.capability("ping"), False),
        ("GET", ping.path("/greetings/{name}"), ping.capability("greet"), False),
        ("GET", ping.path("/count/{n}"), ping.capability("count"), True),
        ("POST", ping.path("/reverse"), ping.capability("reverse"), False),
    ]


@the_routes_are_these.otherwise
def there_is_nothing_at_a_route(ping: Ping) -> None:
    for route in ("/", "/greetings/Ada", "/count/3"):
        answer = ping.http("GET", route)
        assert (answer.status, answer.error()["code"]) == (404, "not_found")
    assert ping.http("POST", "/reverse", b"abc").status == 404
    answer = ping.ask("reverse", None)
    assert (answer.status, answer.error()["code"]) == (404, "not_found")


@_group.harmless(Need.ROUTES)
def the_root_answers_pong(ping: Ping) -> None:
    answer = ping.http("GET", "/")
    assert (answer.status, answer.json()) == (200, {"pong": True})
    assert answer.headers["content-type"] == "application/json"


@_group.harmless(Need.ROUTES)
def a_greeting_takes_its_name_from_the_path(ping: Ping) -> None:
    for segment, name in (
        ("Ada", "Ada"),
        ("Ada%20L%C3%B6v", "Ada L\u00f6v"),
        ("%F0%9F%98%80", "\U0001f600"),
    ):
        assert ping.http("GET", f"/greetings/{segment}").json() == {"greeting": f"hello {name}"}
    # What stands for a number or for nothing elsewhere is a name like any other here.
    for name in ("1", "null", "__proto__", "a+b"):
        assert ping.http("GET", f"/greetings/{name}").json() == {"greeting": f"hello {name}"}


def reverses(ping: Ping, body: bytes, kind: str) -> None:
    """Fails if anything but the bytes comes back, the last one first."""
    answer = ping.http("POST", "/reverse", body, kind)
    assert answer.status == 200, answer.body[:300]
    assert answer.body == body[::-1]
    assert answer.headers["content-type"] == "application/octet-stream"


@_group.harmless(Need.ROUTES)
def every_byte_comes_back_in_reverse(ping: Ping) -> None:
    reverses(ping, EVERY_BYTE, "application/octet-stream")
    reverses(ping, EVERY_BYTE, "image/png")
    for count in (1, 2, 3, 4):
        reverses(ping, b"\xff" * count, "application/octet-stream")


@_group.harmless(Need.ROUTES)
def a_body_of_nothing_is_nothing_in_reverse(ping: Ping) -> None:
    reverses(ping, b"", "application/octet-stream")
    reverses(ping, b"", "application/json")


@_group.harmless(Need.ROUTES)
def three_mib_come_back_in_reverse(ping: Ping) -> None:
    reverses(ping, EVERY_BYTE * (3 << 12), "application/octet-stream")


@_group.harmless(Need.ROUTES)
def a_text_is_reversed_by_its_bytes(ping: Ping) -> None:
    reverses(ping, b"hello", "text/plain")
    # In reverse this is no text any more, and comes back all the same.
    reverses(ping, "J\u00fcrg \U0001f600\0".encode(), "text/plain; charset=utf-8")


@_group.harmless(Need.ROUTES)
def a_body_that_is_json_or_a_form_is_refused(ping: Ping) -> None:
    bodies = [
        (json.dumps({"a": 1}).encode(), "application/json"),
        (b'"text"', "application/json"),
        (b"[]", "application/problem+json"),
        (b"a=1&b=2", "application/x-www-form-urlencoded"),
    ]
    for body, kind in bodies:
        answer = ping.http("POST", "/reverse", body, kind)
        assert (answer.status, answer.headers["x-bkg-error-source"]) == (400, "plugin"), kind
        error = answer.error()
        assert (error["code"], error["param"]) == ("invalid_request", None), error


@_group.harmless(Need.ROUTES)
def without_an_http_request_there_is_nothing_to_reverse(ping: Ping) -> None:
    answer = ping.ask("reverse", "AAH/")
    assert (answer.status, answer.headers["x-bkg-error-source"]) == (400, "plugin")
    error = answer.error()
    assert (error["code"], error["param"]) == ("invalid_request", None), error
