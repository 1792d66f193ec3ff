"""Finds the lines of one open file that hold what is looked for, in bounded memory.

A text and an expression are both matched by RE2, in linear time. One match is told for each line. Used by
`search.py` and `analyze.py`.
"""

import os
from collections.abc import Generator
from dataclasses import dataclass

import re2  # type: ignore[import-untyped]

from repoagent.halt import Halt
from repoagent.refusal import Refusal

_LONGEST_QUERY = 1_000
_PIECE = 256 << 10
# What a piece of a very long line repeats of the one before, so that no match of up to this length is
# missed.
_OVERLAP = 4 << 10
_BEFORE, _SHOWN = 80, 240


@dataclass(frozen=True, slots=True)
class Hit:
    """A line with what was looked for; line and column count from 1, the column in characters."""

    line: int
    column: int
    snippet: str


class Query:
    """What is looked for."""

    def __init__(self, text: str, *, expression: bool, case_sensitive: bool) -> None:
        if not 0 < len(text) <= _LONGEST_QUERY:
            raise Refusal(
                "invalid_request", f"`query` has 1 to {_LONGEST_QUERY:,} characters", param="query"
            )
        if "\n" in text:
            raise Refusal(
                "invalid_request",
                "`query` goes over a line break; lines are searched one by one",
                param="query",
            )
        options = re2.Options()
        options.case_sensitive = case_sensitive
        options.log_errors = False
        try:
            self._expression = re2.compile((text if expression else re2.escape(text)).encode(), options)
        except UnicodeEncodeError:
            raise Refusal("invalid_request", "`query` holds half a surrogate pair", param="query") from None
        except re2.error as error:
            reason = error.args[0].decode() if isinstance(error.args[0], bytes) else str(error)
            raise Refusal(
                "invalid_request",
                f"`query` is not an expression that RE2 reads: {reason.lower()}",
                param="query",
            ) from None

    def find(self, line: bytes) -> tuple[int, int] | None:
        """Where in the line the first match is."""
        match = self._expression.search(line)
        return (match.start(), match.end()) if match else None


def is_binary(descriptor: int) -> bool:
    """Whether the file is none to be searched: like git, by a NUL at its beginning."""
    return b"\0" in os.pread(descriptor, 8_192, 0)


def hits(descriptor: int, query: Query, halt: Halt) -> Generator[Hit, None, None]:
    """Each line with a match. Closes the descriptor."""
    with os.fdopen(descriptor, "rb", buffering=_PIECE) as file:
        number, before, column, found = 1, b"", 0, False
        while piece := file.readline(_PIECE):
            halt.check()
            ended = piece.endswith(b"\n")
            text = before + piece.removesuffix(b"\n").removesuffix(b"\r")
            if not found and (place := query.find(text)):
                found = True
                yield Hit(number, column + _characters(text[: place[0]]) + 1, _snippet(text, *place))
            if ended:
                number, before, column, found = number + 1, b"", 0, False
            else:
                column += _characters(text[:-_OVERLAP])
                before = text[-_OVERLAP:]


def _characters(text: bytes) -> int:
    return len(text.decode(errors="replace"))


def _snippet(line: bytes, start: int, end: int) -> str:
    """The match with some of the line around it."""
    first = max(0, start - _BEFORE)
    last = min(len(line), max(first + _SHOWN, min(end, start + _SHOWN)))
    return line[first:last].decode(errors="replace").strip()
