"""`repo.tree`: what is in a directory, and below it.

Lists everything that is not ignored, links and devices too, each under its `kind`; opens no file.
"""

from contextlib import closing
from typing import Any

from repoagent.confined import Root
from repoagent.halt import Halt
from repoagent.moments import rfc3339
from repoagent.relative import RelativePath
from repoagent.walk import Walk
from repoagent.workspace import Workspace


def tree(
    workspace: Workspace, root: Root, path: RelativePath, *, depth: int | None, limit: int, halt: Halt
) -> dict[str, Any]:
    """The entries below `path`, at most `limit`, down to `depth` levels."""
    walk = Walk(workspace, halt, depth=depth)
    entries: list[dict[str, Any]] = []
    room = workspace.bounds.output_bytes
    cut = False
    with root.opened() as descriptor, closing(walk.entries(descriptor, path)) as entries_below:
        for entry in entries_below:
            room -= 2 * len(entry.path.raw) + 120
            if len(entries) == limit or room < 0:
                cut = True
                break
            shown: dict[str, Any] = {**entry.path.json, "kind": entry.kind}
            shown["size"] = entry.found.st_size if entry.kind == "file" else 0
            shown["modified_at"] = rfc3339(entry.found.st_mtime_ns)
            entries.append(shown)
    return {"root": root.name, **path.json, "entries": entries, "truncated": cut or walk.truncated}
