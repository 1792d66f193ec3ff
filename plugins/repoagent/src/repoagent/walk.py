"""Goes through the files below a directory in the order of their names, without what is ignored.

Not a listing: `tree.py`, `search.py` and `analyze.py` make answers of it. Holds one descriptor for each
level it is at, follows no link, and stops at its bounds; what it left out for that is told by
`Walk.truncated`.
"""

import contextlib
import os
import stat
from collections.abc import Generator
from dataclasses import dataclass

from repoagent import confined
from repoagent.halt import Halt
from repoagent.ignoring import Rules
from repoagent.refusal import Refusal
from repoagent.relative import OWN_PREFIX, RelativePath, is_git
from repoagent.workspace import Workspace


@dataclass(frozen=True, slots=True)
class Entry:
    """Something below the root; `directory` is the descriptor of where it is, until the walk goes on."""

    path: RelativePath
    found: os.stat_result
    directory: int

    @property
    def kind(self) -> str:
        """`file`, `directory`, `link` or `other`."""
        return confined.kind(self.found.st_mode)


class Walk:
    """One way through a tree."""

    def __init__(self, workspace: Workspace, halt: Halt, *, depth: int | None = None) -> None:
        bounds = workspace.bounds
        self._workspace = workspace
        self._halt = halt
        self._depth = bounds.depth if depth is None else min(depth, bounds.depth)
        self._asked_depth = depth
        self._left = bounds.entries
        self.truncated = False

    def entries(self, root: int, start: RelativePath) -> Generator[Entry, None, None]:
        """Every entry below `start`, a path below the open root; a directory comes before what is in it."""
        directory, rules = self._enter(root, start)
        levels = [(directory, start, rules, self._names(directory))]
        try:
            while levels:
                directory, path, rules, names = levels[-1]
                if not names:
                    os.close(directory)
                    levels.pop()
                    continue
                self._halt.check()
                name = names.pop()
                entry = self._entry(directory, path.child(name), rules)
                if entry is None:
                    continue
                yield entry
                if stat.S_ISDIR(entry.found.st_mode):
                    if len(levels) >= self._depth:
                        self.truncated |= self._asked_depth is None or self._asked_depth > self._depth
                        continue
                    # What has gone or changed since is no longer a directory to enter.
                    with contextlib.suppress(Refusal):
                        below = confined.open_directory(directory, RelativePath((name,)))
                        try:
                            further = rules.within(below, entry.path)
                            levels.append((below, entry.path, further, self._names(below)))
                        except BaseException:
                            os.close(below)
                            raise
        finally:
            for directory, *_ in levels:
                os.close(directory)

    def _enter(self, root: int, start: RelativePath) -> tuple[int, Rules]:
        """Opens the directory to begin in, with the rules that come down to it."""
        current = os.dup(root)
        try:
            rules = Rules().within(current, RelativePath())
            for depth in range(len(start.parts)):
                path = RelativePath(start.parts[: depth + 1])
                below = confined.open_directory(current, RelativePath((path.name,)))
                os.close(current)
                current = below
                rules = rules.within(current, path)
        except BaseException:
            os.close(current)
            raise
        return current, rules

    def _names(self, directory: int) -> list[bytes]:
        """The names in a directory, the last one first, as many as may still be looked at."""
        names = []
        with os.scandir(directory) as found:
            for entry in found:
                if self._left == 0:
                    self.truncated = True
                    break
                name = os.fsencode(entry.name)
                if is_git(name) or name.startswith(OWN_PREFIX):
                    continue
                self._left -= 1
                names.append(name)
                self._halt.check()
        names.sort(reverse=True)
        return names

    def _entry(self, directory: int, path: RelativePath, rules: Rules) -> Entry | None:
        try:
            found = os.stat(path.name, dir_fd=directory, follow_symlinks=False)
        except OSError:
            return None  # It has gone since.
        is_directory = stat.S_ISDIR(found.st_mode)
        if rules.ignores(path, directory=is_directory):
            return None
        if self._workspace.hidden.verdict(path.raw, directory=is_directory):
            return None
        return Entry(path, found, directory)
