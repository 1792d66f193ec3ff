"""`repo.analyze`: how much is below a path, of what kinds, and where something is mentioned.

Counts what is not ignored. Opens files only where there is a query.
"""

from collections import Counter
from contextlib import closing
from typing import Any

from repoagent.confined import Root
from repoagent.halt import Halt
from repoagent.relative import RelativePath
from repoagent.scanning import Query
from repoagent.search import Finding
from repoagent.walk import Walk
from repoagent.workspace import Workspace

_EXTENSIONS = 20


def analyze(
    workspace: Workspace,
    root: Root,
    path: RelativePath,
    query: Query | None,
    *,
    max_files: int,
    halt: Halt,
) -> dict[str, Any]:
    """The summary of at most `max_files` files below `path`."""
    walk = Walk(workspace, halt)
    finding = Finding(workspace, query, workspace.bounds.results, halt) if query else None
    files: Counter[str] = Counter()
    sizes: Counter[str] = Counter()
    directories, cut = 0, False
    with root.opened() as descriptor, closing(walk.entries(descriptor, path)) as entries_below:
        for entry in entries_below:
            if entry.kind == "directory":
                directories += 1
            if entry.kind != "file":
                continue
            if files.total() == max_files:
                cut = True
                break
            extension = _extension(entry.path.name)
            files[extension] += 1
            sizes[extension] += entry.found.st_size
            if finding and not finding.full:
                finding.look_into(entry.directory, entry.path)
    extensions = [
        {"extension": extension, "files": count, "size": sizes[extension]}
        for extension, count in files.most_common(_EXTENSIONS)
    ]
    return {
        "root": root.name,
        "summary": {
            "total_files": files.total(),
            "total_directories": directories,
            "total_size": sizes.total(),
            "extensions": extensions,
            "matches": finding.matches if finding else [],
            "truncated": cut or walk.truncated or bool(finding and finding.full),
        },
    }


def _extension(name: bytes) -> str:
    """What is behind the last dot, in lower case; empty where there is none."""
    stem, dot, extension = name.rpartition(b".")
    return extension.decode(errors="replace").lower() if dot and stem else ""
