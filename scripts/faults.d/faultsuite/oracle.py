"""The oracle: compares what callers were told with what plugins wrote down.

It knows nothing of faults. The three rules hold whatever happens: every call has exactly one definite
outcome, what was acknowledged was executed, and nothing was executed twice unless the caller said that
this is harmless.
"""

import json
from collections import Counter
from pathlib import Path
from typing import Any

from .client import ACKNOWLEDGED, DEFINITE, Call, Outcome
from .trial import Trial

Line = dict[str, Any]


def read(directory: Path) -> list[Line]:
    """Every line of every ledger below a directory. A line that is being written is left for later."""
    found: list[Line] = []
    for path in directory.rglob("*.ledger"):
        *lines, _ = path.read_text().split("\n")
        found += [json.loads(line) for line in lines]
    return found


def judge(trial: Trial, calls: list[Call], lines: list[Line]) -> None:
    """Notes a figure for each rule."""
    executed = Counter(line["call"] for line in lines if line["event"] == "executed")
    finished = {line["call"] for line in lines if line["event"] == "finished"}
    indefinite = [call for call in calls if call.outcome not in DEFINITE | {Outcome.LEFT}]
    unfounded = [call for call in calls if call.outcome in ACKNOWLEDGED and call.id not in executed]
    premature = [call for call in calls if call.outcome is Outcome.COMPLETE and call.id not in finished]
    twice = [call for call in calls if executed[call.id] > 1 and not call.idempotent]
    kinds = Counter(str(call.outcome) for call in calls)
    said = ", ".join(f"{count} {kind}" for kind, count in sorted(kinds.items()))
    shown = "".join(f"; {call}" for call in indefinite[:3])
    trial.figure(
        "calls without one definite outcome",
        f"{len(indefinite)} of {len(calls)} ({said}){shown}",
        "0",
        not indefinite,
    )
    trial.none("acknowledged and not executed", unfounded + premature)
    trial.none("executed twice", twice)
