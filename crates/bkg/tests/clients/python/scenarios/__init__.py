"""One list of what a `ping` does, asked of each of them over HTTP: in Rust, Python, TypeScript, and in the
base contract.

What a scenario is stands in `scenario.py`; the others hold the list by subject. `SCENARIOS` is all of
them, in the order in which they stand there; `test_ping.py` runs each for each plugin. What one plugin
answers, every one that speaks the same contract answers: there is no scenario for a language.
"""

from scenarios import answers, ends, operating, relays, routes, streams
from scenarios.scenario import Need, Ping, Scenario

__all__ = ["SCENARIOS", "Need", "Ping", "Scenario"]

SCENARIOS: list[Scenario] = [
    *answers.SCENARIOS,
    *routes.SCENARIOS,
    *streams.SCENARIOS,
    *relays.SCENARIOS,
    *operating.SCENARIOS,
    *ends.SCENARIOS,
]
