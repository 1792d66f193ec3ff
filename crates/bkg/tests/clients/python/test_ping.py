"""Every `ping` does the same: one list of scenarios, asked of each plugin through its own daemon.

The list is `scenarios/`. The name of a test says whose it is and which scenario; where the plugin's
contract lacks what a scenario needs, it ends with `instead-without-…` or `cannot-without-…`.
"""

import dataclasses
from collections.abc import Callable, Iterator

import pytest
from harness import BUNDLED, FIXTURES, Host, PluginFolder, PluginInPlace, apikeys, misbehave
from scenarios import SCENARIOS, Need, Ping, Scenario

EXTENDED = frozenset(Need)

PINGS: dict[str, tuple[PluginFolder, frozenset[Need]]] = {
    "ping": (PluginFolder("ping", BUNDLED / "ping", binary="bkg-plugin-ping"), EXTENDED),
    "ping-python": (PluginInPlace("ping-python", BUNDLED / "ping-python"), EXTENDED),
    "ping-typescript": (PluginInPlace("ping-typescript", BUNDLED / "ping-typescript"), EXTENDED),
    "ping-base": (PluginFolder("ping-base", FIXTURES / "ping-base"), frozenset()),
}


def plugins(name: str) -> list[PluginFolder]:
    """The plugin, which may ask the one that breaks rules, that one, and who knows keys."""
    folder, _ = PINGS[name]
    ping = dataclasses.replace(folder, entry={"autostart": True, "calls": [f"{name}.*", "test.*"]})
    other = dataclasses.replace(misbehave(), entry={"autostart": True, "calls": [f"{name}.*"]})
    return [ping, other, apikeys()]


class Daemons:
    """A daemon for each plugin, started when its first scenario is."""

    def __init__(self, factory: pytest.TempPathFactory) -> None:
        self._factory = factory
        self._hosts: dict[str, Host] = {}
        self._failed: set[str] = set()

    def of(self, name: str) -> Host:
        """The daemon with this plugin."""
        assert name not in self._failed, f"the daemon with `{name}` did not start: see the first failure"
        if name not in self._hosts:
            self._failed.add(name)
            self._hosts[name] = Host(self._factory.mktemp(name), *plugins(name)).start()
            self._failed.remove(name)
        return self._hosts[name]

    def stop(self, name: str) -> None:
        """Stops one: what a scenario that failed has left is nothing for the next."""
        if host := self._hosts.pop(name, None):
            host.stop()

    def stop_all(self) -> None:
        """Stops those that run."""
        for name in list(self._hosts):
            self.stop(name)


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemons]:
    """The daemons of harmless scenarios."""
    daemons = Daemons(tmp_path_factory)
    yield daemons
    daemons.stop_all()


CASES = [
    pytest.param(name, scenario, id=f"{name}-{scenario.title(offers)}")
    for name, (_, offers) in PINGS.items()
    for scenario in SCENARIOS
]


@pytest.mark.parametrize(("name", "scenario"), CASES)
def test_a_ping(name: str, scenario: Scenario, shared: Daemons, start_host: Callable[..., Host]) -> None:
    _, offers = PINGS[name]
    if scenario.config is not None:
        host = start_host(*plugins(name), config=scenario.config)
        scenario.play(Ping(host, name, offers))
        return
    host = shared.of(name)
    try:
        scenario.play(Ping(host, name, offers))
        assert host.plugin(name)["status"] == "running", "a harmless scenario leaves all as it found it"
    except BaseException:
        shared.stop(name)
        raise
