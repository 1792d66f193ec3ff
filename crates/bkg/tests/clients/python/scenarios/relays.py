"""A `ping` that asks other plugins: whom it may ask, for whom it asks, and what it makes of failures.

In the extended contract it asks on behalf of whoever asked it, and inherits rights, time and depth. A
base plugin cannot say for whom it asks: it asks for itself.
"""

import json
from typing import Any

from harness import Answer, until

from scenarios.answers import NO_OBJECTS, meaning, refused
from scenarios.scenario import Group, Need, Ping

_group = Group()
SCENARIOS = _group.scenarios

DEPTH = 8


def order(ping: Ping, verb: str, payload: Any = None) -> dict[str, Any]:
    """What has a `ping` ask itself."""
    return {"capability": ping.capability(verb), "payload": payload}


def chain(ping: Ping, length: int) -> dict[str, Any]:
    """A question that passes through so many calls until it is a ping."""
    found = order(ping, "ping")
    for _ in range(length - 1):
        found = order(ping, "relay", found)
    return found


def fails(ping: Ping, payload: Any, status: int, code: str, **more: Any) -> dict[str, Any]:
    """Fails unless a relay fails in this way, by the plugin's word; answers the error."""
    answer = ping.ask("relay", payload)
    assert (answer.status, answer.headers["x-bkg-error-source"]) == (status, "plugin"), answer.body
    error = answer.error()
    assert {"code": error["code"], **{name: error.get(name) for name in more}} == {"code": code, **more}
    return error


@_group.harmless()
def what_was_asked_for_is_answered(ping: Ping) -> None:
    assert ping.gets("relay", order(ping, "ping")) == {"pong": True}
    assert ping.gets("relay", order(ping, "greet", {"name": "Ada"})) == {"greeting": "hello Ada"}
    assert ping.gets("relay", {"capability": "test.echo", "payload": [1, None, {"a": 0.5}]}) == [
        1,
        None,
        {"a": 0.5},
    ]
    # Nobody needs to say what nothing is.
    assert ping.gets("relay", {"capability": "test.echo"}) is None
    assert ping.gets("relay", order(ping, "feel", {"health": "up"})) is None


@_group.harmless()
def what_passes_through_is_as_hard_as_it_came(ping: Ping) -> None:
    hard = r'{"__proto__":{"a":1.0},"id":12345678901234567890,"":"\u0000\ud83d\ude00","list":[1,1.0,null]}'
    order = f'{{"capability":"{ping.capability("echo")}","payload":{hard}}}'
    body = f'{{"capability":"{ping.capability("relay")}","payload":{order}}}'
    answer = ping.host.http("POST", f"/api/plugins/{ping.name}/invoke", body.encode())
    assert answer.status == 200, answer.body
    assert meaning(answer.body) == {"data": meaning(hard)}


@_group.harmless(Need.EXTENDED)
def where_a_request_stands_in_a_trace_is_seen_and_passed_on(ping: Ping) -> None:
    trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"

    def seen(given: str, verb: str, payload: Any = None) -> Any:
        body = {"capability": ping.capability(verb), "payload": payload}
        path = f"/api/plugins/{ping.name}/invoke"
        answer = ping.host.http("POST", path, body, headers={"traceparent": given})
        assert answer.status == 200, answer.body
        return answer.json()["data"]

    for given, passed in ((trace, trace), ("00-not-a-trace", None)):
        assert seen(given, "trace") == {"traceparent": passed}
        # What it asks others for the request belongs to the same trace.
        assert seen(given, "relay", order(ping, "relay", order(ping, "trace"))) == {"traceparent": passed}
        frame = json.loads(seen(given, "relay", {"capability": "test.frame"})["frame"])
        assert frame.get("traceparent") == passed


@_group.harmless()
def an_order_that_cannot_be_read_is_refused(ping: Ping) -> None:
    for payload in NO_OBJECTS:
        refused(ping, "relay", payload)
    orders: list[Any] = [{}, {"payload": {}}, {"capability": None}, {"capability": 1}]
    for order in orders:
        refused(ping, "relay", order, "capability")


@_group.harmless()
def what_the_entry_does_not_list_is_forbidden(ping: Ping) -> None:
    for capability in ("no.thing", "auth.validate", "host.authorize"):
        fails(ping, {"capability": capability}, 502, "plugin_error", details={"pluginCode": "forbidden"})


@_group.harmless()
def what_nobody_offers_is_unavailable(ping: Ping) -> None:
    details = {"pluginCode": "plugin_unavailable"}
    fails(ping, order(ping, "nothing"), 502, "plugin_error", details=details)


@_group.harmless()
def the_failure_of_another_is_passed_on(ping: Ping) -> None:
    error = {"code": "conflict", "message": "it is taken", "param": "seat", "details": {"by": [1, None]}}
    found = fails(
        ping,
        {"capability": "test.error", "payload": error},
        409,
        "conflict",
        param="seat",
        details={"by": [1, None]},
    )
    assert found["message"] == "it is taken"
    for code, status in (("invalid_request", 400), ("not_found", 404), ("payload_too_large", 413)):
        fails(ping, {"capability": "test.error", "payload": {"code": code, "message": "no"}}, status, code)
    # Words of one's own, and words that only the host may say, are failures of the plugin.
    for code in ("out_of_milk", "unauthorized", "internal"):
        order = {"capability": "test.error", "payload": {"code": code, "message": "no"}}
        fails(ping, order, 502, "plugin_error", details={"pluginCode": code})
    text = fails(
        ping, {"capability": "test.string_error", "payload": {"message": "broken"}}, 502, "plugin_error"
    )
    assert text["message"] == "broken"
    # What it passed on is what another plugin's relay passes on.
    twice = {
        "capability": ping.capability("relay"),
        "payload": {"capability": "test.error", "payload": error},
    }
    fails(ping, twice, 409, "conflict", param="seat")


@_group.harmless()
def how_long_to_wait_is_passed_on(ping: Ping) -> None:
    error = {"code": "rate_limited", "message": "slowly", "retryable": True, "retryAfterMs": 1500}
    answer = ping.ask("relay", {"capability": "test.error", "payload": error})
    assert (answer.status, answer.error()["code"]) == (429, "rate_limited")
    assert answer.headers["retry-after"] == "2"


@_group.harmless(Need.EXTENDED)
def a_chain_of_calls_has_a_bound(ping: Ping) -> None:
    for length in (1, 2, DEPTH):
        assert ping.gets("relay", chain(ping, length)) == {"pong": True}
    for length in (DEPTH + 1, DEPTH + 10):
        fails(ping, chain(ping, length), 503, "overloaded")
    assert ping.in_flight == 0


@a_chain_of_calls_has_a_bound.otherwise
def a_chain_of_calls_for_oneself_is_none(ping: Ping) -> None:
    assert ping.gets("relay", chain(ping, DEPTH + 10)) == {"pong": True}
    assert ping.in_flight == 0


@_group.harmless(Need.EXTENDED)
def a_caller_gets_no_rights_through_it(ping: Ping) -> None:
    key = key_for(ping, ping.capability("relay"))
    answer = relay_with(ping, key, order(ping, "ping"))
    assert answer.status == 502, answer.body
    assert answer.error()["details"] == {"pluginCode": "forbidden"}
    key = key_for(ping, ping.capability("relay"), ping.capability("ping"))
    assert relay_with(ping, key, order(ping, "ping")).json() == {"data": {"pong": True}}


@a_caller_gets_no_rights_through_it.otherwise
def it_has_the_rights_of_its_entry(ping: Ping) -> None:
    key = key_for(ping, ping.capability("relay"))
    assert relay_with(ping, key, order(ping, "ping")).json() == {"data": {"pong": True}}


def key_for(ping: Ping, *scopes: str) -> str:
    """A new key with these scopes."""
    answer = ping.host.http(
        "POST", "/admin/keys", {"user": "admin", "name": "relay", "scopes": list(scopes)}
    )
    assert answer.status in (200, 201), answer.body
    return str(answer.json()["key"])


def relay_with(ping: Ping, key: str, payload: Any) -> Answer:
    """Asks for a relay with a key."""
    body = {"capability": ping.capability("relay"), "payload": payload}
    return ping.host.http("POST", f"/api/plugins/{ping.name}/invoke", body, key=key)


def leaves(ping: Ping, payload: Any) -> None:
    """Asks for a relay to another plugin, and leaves as soon as that one works on it."""
    body = json.dumps({"capability": ping.capability("relay"), "payload": payload})
    head = {"Authorization": f"Bearer {ping.host.key}", "Content-Type": "application/json"}
    connection = ping.host.connection()
    connection.request("POST", f"/api/plugins/{ping.name}/invoke", body, head)
    until(lambda: ping.host.instance("misbehave")["inFlight"] == 1, "what was asked for is worked on")
    connection.close()


@_group.harmless(Need.EXTENDED)
def who_leaves_needs_nothing_more_of_others(ping: Ping) -> None:
    leaves(ping, {"capability": "test.wait", "payload": {"ms": 60_000}})
    ping.until_in_flight(0)
    until(lambda: ping.host.instance("misbehave")["inFlight"] == 0, "what it asked for is given up")
    # Through a chain of its own as well.
    leaves(ping, order(ping, "relay", {"capability": "test.wait", "payload": {"ms": 60_000}}))
    ping.until_in_flight(0)
    until(lambda: ping.host.instance("misbehave")["inFlight"] == 0, "what it asked for is given up")


@who_leaves_needs_nothing_more_of_others.otherwise
def who_leaves_is_not_missed(ping: Ping) -> None:
    leaves(ping, {"capability": "test.wait", "payload": {"ms": 500}})
    ping.until_in_flight(0)
    assert ping.gets("ping") == {"pong": True}


@_group.alone(config="[limits]\nin_flight = 1\n")
def a_circle_into_itself_is_no_wait(ping: Ping) -> None:
    fails(ping, order(ping, "ping"), 503, "overloaded")
    assert ping.gets("relay", {"capability": "test.echo", "payload": 1}) == 1


@_group.harmless(Need.EXTENDED)
def the_callers_time_is_the_time_of_what_it_asks(ping: Ping) -> None:
    answer = ping.ask("relay", {"capability": "test.wait", "payload": {"ms": 60_000}}, timeoutMs=200)
    assert (answer.status, answer.error()["code"]) == (504, "timeout")
    ping.until_in_flight(0)
    until(lambda: ping.host.instance("misbehave")["inFlight"] == 0, "what it asked for is given up")
    assert ping.gets("ping") == {"pong": True}


@the_callers_time_is_the_time_of_what_it_asks.otherwise
def what_it_asks_for_takes_its_own_time(ping: Ping) -> None:
    answer = ping.ask("relay", {"capability": "test.wait", "payload": {"ms": 500}}, timeoutMs=100)
    assert (answer.status, answer.error()["code"]) == (504, "timeout")
    assert ping.in_flight == 1
    ping.until_in_flight(0)
    assert ping.gets("ping") == {"pong": True}
