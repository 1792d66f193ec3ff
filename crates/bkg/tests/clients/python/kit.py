"""Runs `bkg check` on plugins, several at once: most of a check is waiting for the plugin.

Nothing here knows which rules must hold: that is the tests' part. A check that the kit could not carry
out is an error and never a report.
"""

import contextlib
import json
import os
import subprocess
from collections.abc import Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from harness import BINARIES

AT_ONCE = 6
# Installing what a plugin needs is part of a check.
WITHIN_S = 300.0


@dataclass(frozen=True)
class Report:
    """What the kit found out."""

    code: int
    json: dict[str, Any]

    @property
    def broken(self) -> list[str]:
        """The rules that were broken, by name."""
        return self.rules("broken")

    def rules(self, outcome: str) -> list[str]:
        """The rules that came out in this way, by name."""
        return [finding["rule"] for finding in self.json["rules"] if finding["outcome"] == outcome]


def check(folder: str, *options: str) -> Report:
    """What the kit thinks of a plugin."""
    done = subprocess.run(
        [str(BINARIES / "bkg"), "check", folder, "--json", *options],
        env={name: value for name, value in os.environ.items() if not name.startswith("BKG_")},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=WITHIN_S,
    )
    assert done.returncode in (0, 1), f"the kit could not check `{folder}`: {done.stderr}"
    return Report(done.returncode, dict(json.loads(done.stdout)))


@contextlib.contextmanager
def checked(orders: Mapping[str, tuple[str, ...]]) -> Iterator[dict[str, Future[Report]]]:
    """Checks that run beside each other, by name: each order is a folder and options."""
    with ThreadPoolExecutor(AT_ONCE) as pool:
        yield {name: pool.submit(check, *order) for name, order in orders.items()}
