"""Which files git would ignore: `.gitignore` of every level, with git's own rules of precedence.

`wildmatch.py` says what a line means; RE2 matches all lines of a file at once and in linear time, because a
`.gitignore` is written by whoever wrote the repository. Used by `walk.py`, and by `workspace.py` for the
operator's own patterns.
"""

import logging
import os
from dataclasses import dataclass
from typing import Self

import re2  # type: ignore[import-untyped]

from repoagent import confined
from repoagent.refusal import Refusal
from repoagent.relative import RelativePath
from repoagent.wildmatch import DIRECTORY_MARK, Pattern, read_line

logger = logging.getLogger(__name__)

_LARGEST_FILE = 1 << 20
_MOST_PATTERNS = 10_000
# As long as a path can be.
_LONGEST_LINE = 4_096

# Expressions that are matched at once, and for each whether it takes an entry back in.
_Set = tuple[re2.Set, list[bool]]


class Patterns:
    """The patterns of one file, for paths relative to that file's directory.

    `left_out` counts the lines that are too long, too large or too many to be matched.
    """

    def __init__(self, lines: list[bytes]) -> None:
        fit = [line for line in lines[:_MOST_PATTERNS] if len(line) <= _LONGEST_LINE]
        self.left_out = len(lines) - len(fit)
        self._sets: list[_Set] = []
        self._compile([pattern for line in fit if (pattern := read_line(line))])

    @classmethod
    def read(cls, content: bytes) -> Self:
        """Reads the text of a `.gitignore`."""
        content = content.removeprefix(b"\xef\xbb\xbf")
        return cls([line.removesuffix(b"\r") for line in content.split(b"\n")])

    def verdict(self, path: bytes, *, directory: bool) -> bool | None:
        """Whether the entry is ignored: the last pattern that is about it decides; `None` if none is."""
        text = path + DIRECTORY_MARK if directory else path
        for matching, negated in reversed(self._sets):
            if found := matching.Match(text):
                return not negated[max(found)]
        return None

    def _compile(self, patterns: list[Pattern]) -> None:
        """Compiles them together; those that are too large together one half after the other."""
        if not patterns:
            return
        options = re2.Options()
        options.encoding = re2.Options.Encoding.LATIN1
        options.log_errors = False
        together = re2.Set.SearchSet(options)
        try:
            for pattern in patterns:
                together.Add(pattern.expression)
            together.Compile()
        except re2.error:
            if len(patterns) == 1:
                self.left_out += 1
                return
            middle = len(patterns) // 2
            self._compile(patterns[:middle])
            self._compile(patterns[middle:])
            return
        self._sets.append((together, [pattern.negated for pattern in patterns]))


@dataclass(frozen=True)
class Rules:
    """The patterns that hold in a directory: its own, and those above it in its repository."""

    levels: tuple[tuple[int, Patterns], ...] = ()

    def within(self, directory: int, path: RelativePath) -> "Rules":
        """The rules in `path`, open as `directory`, where `self` holds in the one above."""
        # A directory with a `.git` is a repository of its own; what is above says nothing about its files.
        above = () if _has_git(directory) else self.levels
        patterns = _read(directory, path)
        return Rules((*above, (len(path.parts), patterns)) if patterns else above)

    def ignores(self, path: RelativePath, *, directory: bool) -> bool:
        """Whether git would ignore the entry, whose directory these are the rules of."""
        for depth, patterns in reversed(self.levels):
            verdict = patterns.verdict(b"/".join(path.parts[depth:]), directory=directory)
            if verdict is not None:
                return verdict
        return False


def _has_git(directory: int) -> bool:
    try:
        os.stat(".git", dir_fd=directory, follow_symlinks=False)
    except OSError:
        return False
    return True


def _read(directory: int, path: RelativePath) -> Patterns | None:
    try:
        descriptor, found = confined.open_file(directory, path.child(b".gitignore"), hard_links=True)
    except Refusal:
        return None  # It is not there, or no file; git does not follow links here, either.
    with os.fdopen(descriptor, "rb") as file:
        if found.st_size > _LARGEST_FILE:
            logger.warning("`%s/.gitignore` is larger than %d bytes and left out", path.text, _LARGEST_FILE)
            return None
        patterns = Patterns.read(file.read(_LARGEST_FILE))
    if patterns.left_out:
        logger.warning("%d lines of `%s/.gitignore` are left out", patterns.left_out, path.text)
    return patterns
