"""A `ping` as operators see it: health, figures, log lines, and settings that they change.

Not its processes: those are in `ends.py`.
"""

import re
from typing import Any

from harness import until

from scenarios.answers import NO_OBJECTS, refused
from scenarios.scenario import Group, Need, Ping

_group = Group()
SCENARIOS = _group.scenarios

# So that nobody waits long for the next figures.
QUICK_BEATS = "[limits]\nheartbeat_ms = 500\n"


@_group.harmless()
def health_is_what_it_was_told_to_be(ping: Ping) -> None:
    def until_status(status: str) -> None:
        until(lambda: ping.host.plugin(ping.name)["status"] == status, f"`{ping.name}` is {status}")

    assert ping.gets("feel", {"health": "degraded", "detail": "tired"}) is None
    until_status("degraded")
    assert ping.host.instance(ping.name)["status"] == "degraded"
    assert ping.gets("ping") == {"pong": True}, "degraded serves"
    assert ping.gets("feel", {"health": "up"}) is None
    until_status("running")
    assert ping.gets("feel", {"health": "down", "detail": "asleep"}) is None
    until_status("unresponsive")
    answer = ping.ask("ping")
    assert (answer.status, answer.error()["code"]) == (503, "plugin_unavailable")
    # Nobody can ask it to feel better; a new process feels well.
    assert ping.host.lifecycle(ping.name, "restart").status == 200
    until_status("running")
    assert ping.gets("ping") == {"pong": True}


@_group.harmless()
def it_feels_nothing_else(ping: Ping) -> None:
    for health in ("fine", "", "Up", "ready"):
        refused(ping, "feel", {"health": health}, "health")
    for payload in NO_OBJECTS:
        refused(ping, "feel", payload)
    feelings: list[Any] = [{}, {"health": None}, {"health": 1}, {"detail": "well"}]
    for feeling in feelings:
        refused(ping, "feel", feeling, "health")
    refused(ping, "feel", {"health": "up", "detail": 1}, "detail")
    assert ping.host.plugin(ping.name)["status"] == "running"


def telemetry(ping: Ping) -> dict[str, Any]:
    """The figures that it last gave of itself."""
    return ping.host.instance(ping.name)["telemetry"] or {}


def until_pings(ping: Ping, count: int) -> None:
    """Waits until the plugin says that it was asked so often."""
    until(lambda: telemetry(ping).get("pings") == count, f"{count} pings are counted")


@_group.alone(config=QUICK_BEATS)
def its_figures_count_its_pings(ping: Ping) -> None:
    for _ in range(3):
        ping.gets("ping")
    until_pings(ping, 3)
    assert telemetry(ping)["cpu"] >= 0
    assert telemetry(ping)["mem_bytes"] > 1 << 20


@_group.alone(Need.EXTENDED, config=QUICK_BEATS)
def it_beats_as_often_as_it_was_told_to(ping: Ping) -> None:
    # Longer than two windows, after which the host takes a plugin that does not beat for dead.
    for number in range(5):
        ping.gets("ping")
        until_pings(ping, number + 1)
    shown = ping.host.plugin(ping.name)
    assert (shown["status"], shown["restarts"]) == ("running", 0)
    assert ping.host.instance(ping.name)["status"] == "healthy"


@_group.harmless()
def a_greeting_is_logged_with_its_request(ping: Ping) -> None:
    guests = ("Ada of the log", "Grace of the log")
    for guest in guests:
        ping.gets("greet", {"name": guest})

    def lines() -> list[dict[str, Any]]:
        page = ping.host.http("GET", f"/admin/plugins/{ping.name}/logs?text=greeting&tail=1000").json()
        return [line for line in page["lines"] if line["fields"].get("name") in guests]

    until(lambda: len(lines()) == len(guests), "both lines have come")
    assert [line["fields"]["name"] for line in lines()] == list(guests)
    assert {line["message"] for line in lines()} == {"greeting a guest"}
    assert {(line["level"], line["stream"]) for line in lines()} == {("info", "bus")}
    ids = {line["requestId"] for line in lines()}
    assert len(ids) == len(guests)
    assert all(re.fullmatch(r"[0-9a-f-]{36}", request) for request in ids)


@_group.harmless(Need.HOT)
def changed_settings_hold_at_once(ping: Ping) -> None:
    pid = ping.pid
    for word in ("salut", "J\u00fcrg \U0001f600", "x" * 200):
        assert ping.settings(greeting=word).json()["applied"] == "hot"
        assert ping.gets("greet", {"name": "Ada"}) == {"greeting": f"{word} Ada"}
    ping.default_settings()
    assert ping.gets("greet", {"name": "Ada"}) == {"greeting": "hello Ada"}
    assert ping.pid == pid


@changed_settings_hold_at_once.otherwise
def changed_settings_are_those_of_a_new_process(ping: Ping) -> None:
    pid = ping.pid
    assert ping.settings(greeting="salut").json()["applied"] == "restarted"
    assert ping.gets("greet", {"name": "Ada"}) == {"greeting": "salut Ada"}
    assert ping.pid != pid
    ping.default_settings()
    assert ping.gets("greet", {"name": "Ada"}) == {"greeting": "hello Ada"}


@_group.harmless(Need.HOT)
def settings_that_the_plugin_refuses_change_nothing(ping: Ping) -> None:
    assert ping.settings(greeting="salut").status == 200
    for word in (" ", "\t\n"):
        answer = ping.settings(greeting=word)
        assert (answer.status, answer.error()["code"]) == (422, "invalid_config")
        assert answer.error()["details"] == [{"path": "/settings", "message": "`greeting` is empty"}]
        assert ping.gets("greet", {"name": "Ada"}) == {"greeting": "salut Ada"}
    ping.default_settings()


@settings_that_the_plugin_refuses_change_nothing.otherwise
def settings_with_which_it_does_not_come_up_are_taken_back(ping: Ping) -> None:
    answer = ping.settings(greeting=" ")
    assert (answer.status, answer.error()["code"]) == (422, "invalid_config")
    assert "`greeting` of the settings is empty" in answer.error()["message"]
    ping.default_settings()
    assert ping.gets("greet", {"name": "Ada"}) == {"greeting": "hello Ada"}


@_group.harmless(Need.HOT)
def settings_that_are_only_tried_are_judged_and_not_in_force(ping: Ping) -> None:
    pid = ping.pid
    would = ping.try_settings(greeting="salut").json()
    assert would["dryRun"] == {"wouldBe": "hot", "instances": 1, "asked": 1}
    refused = ping.try_settings(greeting=" ")
    assert (refused.status, refused.error()["code"]) == (422, "invalid_config")
    assert refused.error()["details"] == [{"path": "/settings", "message": "`greeting` is empty"}]
    assert ping.gets("greet", {"name": "Ada"}) == {"greeting": "hello Ada"}
    assert ping.pid == pid


@settings_that_are_only_tried_are_judged_and_not_in_force.otherwise
def it_cannot_be_asked_about_settings_that_are_only_tried(ping: Ping) -> None:
    pid = ping.pid
    would = ping.try_settings(greeting=" ").json()
    assert would["dryRun"] == {"wouldBe": "restarted", "instances": 1, "asked": 0}
    assert ping.pid == pid


@_group.harmless()
def settings_that_break_the_schema_never_reach_it(ping: Ping) -> None:
    pid = ping.pid
    wrong: list[dict[str, Any]] = [{"greeting": ""}, {"greeting": 5}, {"greeting": "x" * 201}, {"more": 1}]
    for settings in wrong:
        answer = ping.settings(**settings)
        assert (answer.status, answer.error()["code"]) == (422, "invalid_config"), settings
        path = "/settings" if "more" in settings else "/settings/greeting"
        assert [detail["path"] for detail in answer.error()["details"]] == [path]
    assert (ping.gets("greet", {"name": "Ada"}), ping.pid) == ({"greeting": "hello Ada"}, pid)


@_group.harmless(Need.EXTENDED)
def its_capabilities_are_described(ping: Ping) -> None:
    path = f"/api/plugins/{ping.name}/capabilities"
    offered = {
        one["id"].rpartition(".")[2]: one for one in ping.host.http("GET", path).json()["capabilities"]
    }
    assert list(offered) == ["ping", "echo", "greet", "count", "reverse", "relay", "trace", "feel"]
    assert all(one["description"] for one in offered.values())
    assert [verb for verb, one in offered.items() if one["streaming"]] == ["count"]
    assert [verb for verb, one in offered.items() if one["sideEffect"]] == ["feel"]
    assert [verb for verb, one in offered.items() if not one["idempotent"]] == ["relay", "feel"]
    assert {verb: one["inputSchema"] for verb, one in offered.items() if one["inputSchema"]} == {
        "greet": {"type": "object", "properties": {"name": {"type": "string"}}, "required": ["name"]},
        "count": {
            "type": "object",
            "properties": {
                "n": {"type": "integer", "minimum": 0},
                "delayMs": {"type": "integer", "minimum": 0},
            },
            "required": ["n"],
        },
    }


@its_capabilities_are_described.otherwise
def its_capabilities_are_names(ping: Ping) -> None:
    offered = ping.host.plugin(ping.name)["capabilities"]
    assert offered == [
        ping.capability(verb) for verb in ("ping", "echo", "greet", "count", "relay", "feel")
    ]
