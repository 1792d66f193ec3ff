"""Plugins whose launch goes wrong: one clear sentence each, and nothing of them survives a stop."""

from collections.abc import Callable

import pytest
from harness import Host, hostile, processes_of, until

# Short deadlines, since these launches are there to miss them.
CONFIG = """
[supervisor]
register_timeout_ms = 1000
prepare_timeout_ms = 1000
grace_ms = 500
"""

# What the operator must find in `reason`, whatever the sentence around it.
CASES = [
    ("fails", "3"),
    ("exits-zero", "0"),
    ("daemonises", "0"),
    ("hangs", "register"),
    ("binary", "register"),
    ("floods", "register"),
]


@pytest.mark.parametrize(("name", "word"), CASES)
def test_a_launch_that_goes_wrong_says_why_in_one_sentence(
    start_host: Callable[..., Host], name: str, word: str
) -> None:
    host = start_host(hostile(name, restart="never"), config=CONFIG)
    host.lifecycle(name, "start", wait=0)
    shown = until(
        lambda: found if (found := host.plugin(name))["status"] == "failed" else None,
        f"`{name}` has failed",
    )
    assert word in shown["reason"], shown["reason"]
    assert len(shown["reason"].splitlines()) == 1
    assert host.lifecycle(name, "stop").status == 200, "a stop of what has failed has nothing to wait for"
    assert processes_of(host.data) == []


@pytest.mark.parametrize("name", ["hangs", "binary", "floods"])
def test_nothing_of_an_endless_launch_survives_its_stop(start_host: Callable[..., Host], name: str) -> None:
    host = start_host(hostile(name))
    host.lifecycle(name, "start", wait=0)
    until(lambda: processes_of(host.data), "it runs")
    stopped = host.lifecycle(name, "stop")
    assert stopped.json()["status"] == "stopped", stopped.body
    assert processes_of(host.data) == []


def test_the_last_words_of_a_failed_launch_are_in_its_log(start_host: Callable[..., Host]) -> None:
    host = start_host(hostile("fails", restart="never"), config=CONFIG)
    host.lifecycle("fails", "start", wait=0)
    until(lambda: host.plugin("fails")["status"] == "failed", "it has failed")
    logs = host.http("GET", "/admin/plugins/fails/logs")
    assert "the flux capacitor is missing" in logs.body.decode()
