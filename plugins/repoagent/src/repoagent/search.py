"""`repo.search`: the lines of files below a path that hold a text or match an expression.

Ignored files, binary ones and whatever is no plain file are left out. Memory does not grow with the files.
"""

import os
from contextlib import closing
from typing import Any

from repoagent import confined
from repoagent.confined import Root
from repoagent.halt import Halt
from repoagent.refusal import Refusal
from repoagent.relative import RelativePath
from repoagent.scanning import Query, hits, is_binary
from repoagent.walk import Walk
from repoagent.workspace import Workspace


def search(
    workspace: Workspace, root: Root, path: RelativePath, query: Query, *, max_results: int, halt: Halt
) -> dict[str, Any]:
    """Where the query is found, at most `max_results` lines; `path` is a directory or one file."""
    found = Finding(workspace, query, max_results, halt)
    walk = Walk(workspace, halt)
    with root.opened() as descriptor:
        if _is_file(descriptor, path):
            directory = confined.open_directory(descriptor, path.parent)
            try:
                found.look_into(directory, path)
            finally:
                os.close(directory)
        else:
            with closing(walk.entries(descriptor, path)) as entries:
                for entry in entries:
                    if entry.kind == "file" and not found.look_into(entry.directory, entry.path):
                        break
    return {
        "root": root.name,
        "matches": found.matches,
        "filesSearched": found.searched,
        "filesSkipped": found.skipped,
        "truncated": found.full or walk.truncated,
    }


class Finding:
    """What a search has found so far, and how much it may still find."""

    def __init__(self, workspace: Workspace, query: Query, limit: int, halt: Halt) -> None:
        self._hard_links = workspace.bounds.hard_links
        self._room = workspace.bounds.output_bytes
        self._query = query
        self._limit = limit
        self._halt = halt
        self.matches: list[dict[str, Any]] = []
        self.searched = 0
        self.skipped = 0
        self.full = False

    def look_into(self, directory: int, path: RelativePath) -> bool:
        """Searches one file; whether there is room for more."""
        try:
            descriptor, _ = confined.open_file(directory, path, hard_links=self._hard_links)
        except Refusal:
            self.skipped += 1
            return True
        if is_binary(descriptor):
            os.close(descriptor)
            self.skipped += 1
            return True
        self.searched += 1
        with closing(hits(descriptor, self._query, self._halt)) as found:
            for hit in found:
                self._room -= len(path.raw) + len(hit.snippet.encode()) + 80
                if len(self.matches) == self._limit or self._room < 0:
                    self.full = True
                    return False
                self.matches.append(
                    {**path.json, "line": hit.line, "column": hit.column, "snippet": hit.snippet}
                )
        return True


def _is_file(root: int, path: RelativePath) -> bool:
    if not path.parts:
        return False
    directory = confined.open_directory(root, path.parent)
    try:
        found = confined.look(directory, path)
    finally:
        os.close(directory)
    return found is not None and confined.kind(found.st_mode) == "file"
