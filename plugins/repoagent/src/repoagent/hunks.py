"""Fits the hunks of a diff into the content of a file.

Every line that a hunk expects must be there, byte for byte: nothing is fuzzy. A hunk may stand elsewhere
than its head says if there is exactly one such place behind the hunk before it. Pure; used by
`patch.py`.
"""

from bisect import bisect_left
from dataclasses import dataclass

from repoagent.diff import Hunk
from repoagent.halt import Halt

_PLACES = 5


@dataclass(eq=False)
class Misfit(Exception):
    """A hunk that does not fit; `line` counts from 1 in the file."""

    hunk: Hunk
    problem: str
    line: int


@dataclass(frozen=True)
class Fitted:
    """The new content, and by how many lines each hunk was moved."""

    content: bytes
    moved: list[int]


def fit(content: bytes, hunks: list[Hunk], halt: Halt) -> Fitted:
    """The content with all hunks in it; raises `Misfit` for the first that does not fit.

    Each hunk that is not where its head says costs a way through the file; `halt` ends them.
    """
    file = _File(content)
    result: list[bytes] = []
    done, drift = 0, 0
    moved = []
    for hunk in hunks:
        halt.check()
        place = file.place(hunk, hunk.start + drift, done)
        drift = place - hunk.start
        moved.append(drift)
        start, end = file.starts[place], file.starts[place + len(hunk.old)]
        result.append(content[file.starts[done] : start])
        if hunk.new:
            unended = next((piece for piece in reversed(result) if piece), b"\n")
            if not unended.endswith(b"\n"):
                raise Misfit(hunk, "it would stand behind a line without a line break", place)
            if not hunk.new[-1].endswith(b"\n") and end < len(content):
                raise Misfit(
                    hunk, "its last line has no line break, and more follows", place + len(hunk.old) + 1
                )
        result += hunk.new
        done = place + len(hunk.old)
    result.append(content[file.starts[done] :])
    return Fitted(b"".join(result), moved)


class _File:
    """A content with the places where its lines start, the end included."""

    def __init__(self, content: bytes) -> None:
        self._content = content
        self._lines = content.split(b"\n")
        self.starts = [0]
        for line in self._lines[:-1]:
            self.starts.append(self.starts[-1] + len(line) + 1)
        if self._lines[-1]:
            self.starts.append(len(content))

    @property
    def _count(self) -> int:
        return len(self.starts) - 1

    def place(self, hunk: Hunk, wanted: int, first: int) -> int:
        """Before which line the hunk goes, from 0; `first` is behind the hunk before it."""
        old = b"".join(hunk.old)
        if first <= wanted <= self._count and self._is_at(hunk, old, self.starts[wanted]):
            return wanted
        if not hunk.old:
            raise Misfit(
                hunk, f"it adds lines behind line {wanted}, and the file has {self._count}", self._count
            )
        places = self._places(hunk, old, first)
        if len(places) == 1:
            return places[0]
        if places:
            several = ", ".join(str(place + 1) for place in places)
            problem = f"what it expects is not at line {wanted + 1}, but at several others ({several})"
            raise Misfit(hunk, problem, wanted + 1)
        raise self._difference(hunk, max(wanted, first))

    def _is_at(self, hunk: Hunk, old: bytes, offset: int) -> bool:
        if not self._content.startswith(old, offset):
            return False
        return not hunk.old or old.endswith(b"\n") or offset + len(old) == len(self._content)

    def _places(self, hunk: Hunk, old: bytes, first: int) -> list[int]:
        """The first lines from `first` on before which the hunk would fit."""
        found: list[int] = []
        if self._is_at(hunk, old, self.starts[first]):
            found.append(first)
        # With the line break before it, only what begins a line is come across.
        sought = b"\n" + old
        offset = self._content.find(sought, self.starts[first])
        while offset != -1 and len(found) < _PLACES:
            if self._is_at(hunk, old, offset + 1):
                found.append(bisect_left(self.starts, offset + 1))
            offset = self._content.find(sought, offset + 1)
        return found

    def _difference(self, hunk: Hunk, wanted: int) -> Misfit:
        for index, expected in enumerate(hunk.old):
            number = wanted + index
            expects = f"it expects {_show(expected)} at line {number + 1}"
            if number >= self._count:
                return Misfit(hunk, f"{expects}, and the file has {self._count} lines", number + 1)
            there = self._content[self.starts[number] : self.starts[number + 1]]
            if there != expected:
                ends = (
                    " (the ends of the lines differ)"
                    if there.rstrip(b"\r\n") == expected.rstrip(b"\r\n")
                    else ""
                )
                return Misfit(hunk, f"{expects}, and there is {_show(there)}{ends}", number + 1)
        return Misfit(hunk, "it overlaps the hunk before it", wanted + 1)


def _show(line: bytes) -> str:
    text = line.removesuffix(b"\n").decode(errors="replace")
    text = text if len(text) <= 80 else text[:79] + "…"
    ends = "" if line.endswith(b"\n") else " without a line break"
    return f"`{text if text.isprintable() else text.encode('unicode_escape').decode()}`{ends}"
