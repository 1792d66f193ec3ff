"""An SDK that breaks the protocol is found out: `bkg check` names the rule that a mutation broke.

Each mutation replaces one place of a copy of `sdk/python`, and `ping-python` runs on that copy. The text
that is replaced must be there exactly once, so that a mutation never silently changes nothing.
"""

import json
import shutil
import sys
from collections.abc import Iterator
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path

import pytest
from harness import BUNDLED, REPOSITORY
from kit import Report, checked

SDK = REPOSITORY / "sdk/python"
AS_IT_IS = "as it is"


@dataclass(frozen=True)
class Mutation:
    """One place of the SDK as an author in a hurry might have written it, and the rule that it breaks."""

    name: str
    file: str
    right: str
    wrong: str
    rule: str


MUTATIONS = [
    Mutation(
        "credit is not waited for",
        "protocol/inbound.py",
        "if owed.credit == 0:",
        "if owed.credit is None:",
        "credit-kept",
    ),
    Mutation(
        "chunks are counted from one",
        "protocol/inbound.py",
        "return owed.next_seq - 1",
        "return owed.next_seq",
        "chunk-order",
    ),
    Mutation(
        "a request that was cancelled is forgotten",
        "protocol/inbound.py",
        "owed.cancelled = True",
        "del self._open[request_id]",
        "cancel-answered",
    ),
    Mutation(
        "a drained session closes before its work is done",
        "session.py",
        "return self._half.owed == 0 and self._half.waiting_bytes == 0",
        "return self._half.waiting_bytes == 0",
        "drain-finishes-work",
    ),
    Mutation(
        "a link that broke is taken up with the token of the launch",
        "reconnect.py",
        '{"resume": secret}',
        '{"token": running.host.environment.token}',
        "reconnects-with-resume",
    ),
]


def ping_on(sdk: Path, directory: Path) -> Path:
    """A copy of `ping-python` that runs on this SDK, with the interpreter of the tests."""
    folder = directory / "ping-python"
    ignored = shutil.ignore_patterns("__pycache__", "prepare.sh", "start.sh", ".venv", "tests")
    shutil.copytree(BUNDLED / "ping-python", folder, ignore=ignored)
    entry = json.loads((folder / "plugin.json").read_text())
    entry.pop("prepare", None)
    (folder / "plugin.json").write_text(json.dumps(entry))
    start = folder / "start.sh"
    start.write_text(f"#!/bin/sh\nPYTHONPATH='{sdk / 'src'}' exec '{sys.executable}' -B main.py\n")
    start.chmod(0o755)
    return folder


def mutated(mutation: Mutation | None, directory: Path) -> Path:
    """A copy of `ping-python` on a copy of the SDK with this mutation."""
    ignored = shutil.ignore_patterns("__pycache__", ".venv", "*.egg-info", "tests")
    sdk = Path(shutil.copytree(SDK, directory / "sdk", ignore=ignored))
    if mutation is not None:
        file = sdk / "src/bkg_sdk" / mutation.file
        file.write_text(file.read_text().replace(mutation.right, mutation.wrong))
    return ping_on(sdk, directory)


@pytest.fixture(scope="module")
def reports(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Future[Report]]]:
    """What the kit thinks of each mutation, and of the SDK as it is."""
    orders: dict[str, tuple[str, ...]] = {AS_IT_IS: (str(mutated(None, tmp_path_factory.mktemp("right"))),)}
    for mutation in MUTATIONS:
        # The other rules are tried on the SDK as it is; to try all of them on each mutation takes minutes.
        folder = mutated(mutation, tmp_path_factory.mktemp("wrong"))
        orders[mutation.name] = (str(folder), "--only", mutation.rule)
    with checked(orders) as found:
        yield found


def test_the_sdk_as_it_is_keeps_every_rule(reports: dict[str, Future[Report]]) -> None:
    report = reports[AS_IT_IS].result()
    assert (report.code, report.broken, report.rules("not-tried")) == (0, [], []), report.json
    # What a mutation is to break was tried, and held.
    assert {mutation.rule for mutation in MUTATIONS} <= set(report.rules("passed"))


@pytest.mark.parametrize("mutation", MUTATIONS, ids=lambda mutation: mutation.name.replace(" ", "-"))
def test_a_broken_sdk_is_caught_by_the_rule_that_it_breaks(
    mutation: Mutation, reports: dict[str, Future[Report]]
) -> None:
    text = (SDK / "src/bkg_sdk" / mutation.file).read_text()
    assert text.count(mutation.right) == 1, f"{mutation.file} has changed: say anew what to break"
    report = reports[mutation.name].result()
    assert (report.code, report.broken) == (1, [mutation.rule]), report.json
