"""Takes back what a process that died had begun to change, at the start and before the next change.

Reads the journal that `transaction.py` wrote, and has `undertaking.py` undo it or tidy up after it. A
change whose last line says that it is done is left as it is.
"""

import base64
import contextlib
import logging
from typing import Any

from repoagent import confined
from repoagent.confined import Root
from repoagent.journal import Journal
from repoagent.refusal import Refusal
from repoagent.relative import RelativePath
from repoagent.undertaking import Step, Undertaking, tidy, undo

logger = logging.getLogger(__name__)


def recover(journal: Journal, root: Root | None = None) -> int:
    """Takes back, or tidies up after, what processes that died have left; how many changes that were.

    The journal must be locked. What cannot be taken back now stays for later, and is logged; raises
    `Refusal` if it is in `root`, which is about to be changed.
    """
    count = 0
    for path, lines in journal.left_behind():
        try:
            if lines:
                _recover_one(lines)
                count += 1
            path.unlink()
        except (OSError, ValueError, LookupError, Refusal) as error:
            logger.error("an interrupted change (`%s`) cannot be taken back yet: %s", path.name, error)
            if root is not None and lines and lines[0].get("root") == root.path:
                problem = (
                    f"an interrupted change in the root `{root.name}` cannot be taken back yet: {error}"
                )
                raise Refusal("conflict", f"{problem}; nothing was changed") from error
    return count


def _recover_one(lines: list[dict[str, Any]]) -> None:
    staging, *later = lines
    placed = next((line["placed"] for line in later if line["state"] == "committing"), None)
    steps = [
        Step.read(line, placed[number] if placed else None) for number, line in enumerate(staging["steps"])
    ]
    missing = [RelativePath(tuple(base64.b64decode(path).split(b"/"))) for path in staging["directories"]]
    root = Root(staging["root"], staging["root"])
    work = Undertaking(root, steps, missing)
    try:
        for step in steps:
            with contextlib.suppress(Refusal), root.opened() as descriptor:
                step.directory = confined.open_directory(descriptor, step.path.parent)
        if later and later[-1]["state"] == "done":
            tidy(work)
        else:
            undo(work)
            logger.warning(
                "a change of %d files in `%s` was interrupted and has been taken back",
                len(steps),
                root.path,
            )
    finally:
        work.close()
