"""`bkg check` finds nothing wrong with the plugins that come with the host and need no build of ours.

Those in Rust are checked by `cargo test`, and so are the faults that the kit must find. Here are all
others, and the ping of the base contract.
"""

from collections.abc import Iterator
from concurrent.futures import Future
from pathlib import Path

import pytest
from harness import BUNDLED, FIXTURES, PluginFolder
from kit import Report, checked

INTERPRETED = sorted(
    file.parent for file in BUNDLED.glob("*/plugin.json") if not (file.parent / "Cargo.toml").exists()
)
NAMES = [*(folder.name for folder in INTERPRETED), "ping-base"]


@pytest.fixture(scope="module")
def reports(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Future[Report]]]:
    """What the kit thinks of each."""
    directory = tmp_path_factory.mktemp("checked")
    PluginFolder("ping-base", FIXTURES / "ping-base").write_below(directory)
    folders: list[Path] = [*INTERPRETED, directory / "ping-base"]
    with checked({folder.name: (str(folder),) for folder in folders}) as found:
        yield found


@pytest.mark.timeout(400)
@pytest.mark.parametrize("name", NAMES)
def test_a_plugin_keeps_every_rule_of_its_contract(name: str, reports: dict[str, Future[Report]]) -> None:
    report = reports[name].result()
    assert report.broken == [], report.json
    assert report.rules("not-tried") == [], "`check.json` says what it may be asked"
    level = "base" if name == "ping-base" else "extended"
    assert (report.code, report.json["contract"], report.json["level"]) == (0, level, level)
