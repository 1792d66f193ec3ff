"""One line of a `.gitignore` as an expression for RE2, with exactly the meaning that git gives it.

Our own, because `pathspec` disagreed with git about one random set of odd patterns in six (classes, runs of
stars, spaces at the end; a pattern that names a directory spoke for the files in it), and because its
expressions run in Python's `re`, where a pattern of a hostile repository can take for ever. Works on
bytes, as git does. `tests/test_ignoring.py` compares it with git on random trees. Used by `ignoring.py`.
"""

from dataclasses import dataclass

# Stands behind the name of a directory in what is matched; no name holds it.
DIRECTORY_MARK = b"\0"

_ONE = b"[^/\\x00]"
_SOME = b"[^/\\x00]*"
_ANY = b"[^\\x00]*"

_ASCII_CLASSES: dict[bytes, frozenset[int]] = {
    b"alnum": frozenset(b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"),
    b"alpha": frozenset(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"),
    b"blank": frozenset(b" \t"),
    b"cntrl": frozenset([*range(32), 127]),
    b"digit": frozenset(b"0123456789"),
    b"graph": frozenset(range(33, 127)),
    b"lower": frozenset(b"abcdefghijklmnopqrstuvwxyz"),
    b"print": frozenset(range(32, 127)),
    b"punct": frozenset(b"!\"#$%&'()*+,-./:;<=>?@[\\]^_`{|}~"),
    b"space": frozenset(b" \t\n\r"),
    b"upper": frozenset(b"ABCDEFGHIJKLMNOPQRSTUVWXYZ"),
    b"xdigit": frozenset(b"0123456789ABCDEFabcdef"),
}


class _MatchesNothing(Exception):
    """The pattern is broken in a way that makes git match nothing with it."""


@dataclass(frozen=True, slots=True)
class Pattern:
    """What a line means: an expression for a path and its mark, and whether it takes an entry back in."""

    expression: bytes
    negated: bool


def read_line(line: bytes) -> Pattern | None:
    """Reads a line without its line break; `None` if it says nothing."""
    if line.startswith(b"#"):
        return None
    line = _without_spaces_at_the_end(line)
    negated = line.startswith(b"!")
    pattern = line[1:] if negated else line
    directories_only = pattern.endswith(b"/")
    pattern = pattern.removesuffix(b"/")
    if not pattern:
        return None
    anchored = b"/" in pattern
    pattern = pattern.removeprefix(b"/") if anchored else pattern
    try:
        expression = _translate(pattern, anchored)
    except _MatchesNothing:
        return None
    start = b"^" if anchored else b"^(?:" + _ANY + b"/)?"
    return Pattern(start + expression + (b"\\x00$" if directories_only else b"\\x00?$"), negated)


def _without_spaces_at_the_end(line: bytes) -> bytes:
    """Git leaves out the spaces at the end that no backslash keeps."""
    end = len(line.rstrip(b" "))
    kept = line[:end]
    backslashes = len(kept) - len(kept.rstrip(b"\\"))
    return line[: end + 1] if backslashes % 2 and end < len(line) else kept


def _translate(pattern: bytes, anchored: bool) -> bytes:
    parts: list[bytes] = []
    place = 0
    # Git compares what comes before the first special character by itself, and `**` right behind
    # that counts as one at the beginning of the pattern.
    literal = next((index for index, byte in enumerate(pattern) if byte in b"*?[\\"), len(pattern))
    while place < len(pattern):
        byte = pattern[place : place + 1]
        if byte == b"*":
            end = place
            while pattern[end : end + 1] == b"*":
                end += 1
            expression, place = (
                _stars(pattern, place, end, begins=place == literal) if anchored else (_SOME, end)
            )
            parts.append(expression)
        elif byte == b"?":
            parts.append(_ONE)
            place += 1
        elif byte == b"[":
            expression, place = _class(pattern, place + 1)
            parts.append(expression)
        elif byte == b"\\":
            if place + 1 == len(pattern):
                raise _MatchesNothing
            parts.append(_literal(pattern[place + 1]))
            place += 2
        else:
            parts.append(_literal(byte[0]))
            place += 1
    return b"".join(parts)


def _stars(pattern: bytes, start: int, end: int, *, begins: bool) -> tuple[bytes, int]:
    """What stars of a path mean, and where the pattern goes on."""
    whole = end - start > 1 and (begins or pattern[start - 1 : start] == b"/")
    if not whole:
        return _SOME, end
    if end == len(pattern) or pattern[end : end + 2] == b"\\/":
        return _ANY, end
    if pattern[end : end + 1] == b"/":
        return b"(?:" + _ANY + b"/)?", end + 1
    return _SOME, end


def _class(pattern: bytes, place: int) -> tuple[bytes, int]:
    """A set in brackets, and where the pattern goes on behind it. `place` is behind the opening bracket."""

    def at(index: int) -> int:
        if index >= len(pattern):
            raise _MatchesNothing
        return pattern[index]

    members: set[int] = set()
    negated = at(place) in b"!^"
    place += negated
    before = 0
    current = at(place)
    while True:
        if current == ord("\\"):
            place += 1
            current = at(place)
            members.add(current)
        elif current == ord("-") and before and place + 1 < len(pattern) and pattern[place + 1] != ord("]"):
            place += 1
            if at(place) == ord("\\"):
                place += 1
            members.update(range(before, at(place) + 1))
            current = 0
        elif current == ord("[") and pattern[place + 1 : place + 2] == b":":
            end = pattern.find(b"]", place + 2)
            if end == -1:
                raise _MatchesNothing
            if end == place + 2 or pattern[end - 1] != ord(":"):
                members.add(current)
            elif (name := pattern[place + 2 : end - 1]) in _ASCII_CLASSES:
                members |= _ASCII_CLASSES[name]
                place, current = end, 0
            else:
                raise _MatchesNothing
        else:
            members.add(current)
        before = current
        place += 1
        current = at(place)
        if current == ord("]"):
            break
    chosen = (set(range(256)) - members if negated else members) - {0, ord("/")}
    if not chosen:
        raise _MatchesNothing
    return b"[" + b"".join(b"\\x%02x" % byte for byte in sorted(chosen)) + b"]", place + 1


def _literal(byte: int) -> bytes:
    return b"\\x%02x" % byte
