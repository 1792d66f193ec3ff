"""Reads unified diffs, as git and `diff -u` write them.

Our own reader: those that exist take names from lines where they are ambiguous, leave git's quoting in
them, or do not say which line of the diff is wrong. Only reads: `hunks.py` fits hunks into a file,
`patch.py` decides what is done. Lines stay bytes with their own ends, so that CRLF and files of other
encodings come through.
"""

import re
from dataclasses import dataclass, field

from repoagent.refusal import Refusal
from repoagent.relative import RelativePath

_HUNK = re.compile(rb"@@ -(\d{1,9})(?:,(\d{1,9}))? \+(\d{1,9})(?:,(\d{1,9}))? @@")
_ESCAPED = re.compile(rb"\\([0-7]{3}|.)", re.DOTALL)
_ESCAPES = {b"a": b"\a", b"b": b"\b", b"t": b"\t", b"n": b"\n", b"v": b"\v", b"f": b"\f", b"r": b"\r"}
_PREFIXES = ((b"a/", b"b/"), (b"i/", b"w/"), (b"c/", b"i/"), (b"c/", b"w/"), (b"o/", b"w/"), (b"1/", b"2/"))
_NOWHERE = b"/dev/null"


@dataclass
class Hunk:
    """One place that changes. `line` is where it stands in the diff, `number` counts from 1 in its file."""

    line: int
    number: int
    start: int
    old: list[bytes] = field(default_factory=list)
    new: list[bytes] = field(default_factory=list)


@dataclass
class FileDiff:
    """What happens to one file: it has no `old` path if it is new, and no `new` one if it goes."""

    line: int
    old: RelativePath | None
    new: RelativePath | None
    copied: bool = False
    executable: bool | None = None
    hunks: list[Hunk] = field(default_factory=list)

    @property
    def path(self) -> RelativePath:
        """What it is called in messages and answers."""
        path = self.new or self.old
        assert path is not None, "the reader makes no file without a name"
        return path


@dataclass
class _Head:
    """The lines above the hunks of a file, as far as they were read."""

    line: int
    names: bytes | None = None
    old: bytes | None = None
    new: bytes | None = None
    moved_from: bytes | None = None
    moved_to: bytes | None = None
    copied: bool = False
    created: bool = False
    deleted: bool = False
    mode: bytes | None = None


def read_diff(text: str) -> list[FileDiff]:
    """All files of a diff. What stands between them (messages of commits, say) is left out."""
    try:
        lines = text.encode().split(b"\n")
    except UnicodeEncodeError:
        raise Refusal("invalid_request", "`diff` holds half a surrogate pair", param="diff") from None
    files = _Reader(lines).files()
    if not files:
        raise Refusal("invalid_request", "`diff` holds no file; it is read as a unified diff", param="diff")
    return files


class _Reader:
    def __init__(self, lines: list[bytes]) -> None:
        # The text ends with a line break, or in mid-line; an empty piece behind the last break is no line.
        self._lines = lines[:-1] if lines[-1] == b"" else lines
        self._at = 0

    def files(self) -> list[FileDiff]:
        found: list[FileDiff] = []
        while self._at < len(self._lines):
            line = self._head_line()
            if line.startswith(b"diff --git "):
                found.append(self._git_file())
            elif line.startswith(b"--- ") and self._head_line(1).startswith(b"+++ "):
                head = _Head(self._at + 1)
                found.append(self._with_hunks(head))
            elif _HUNK.match(line):
                raise self._wrong("a hunk stands here without the name of a file above it")
            else:
                self._at += 1
        return found

    def _head_line(self, further: int = 0) -> bytes:
        """A line that is no content, without the CR that a mail may have given it."""
        place = self._at + further
        return self._lines[place].removesuffix(b"\r") if place < len(self._lines) else b""

    def _wrong(self, problem: str, line: int | None = None) -> Refusal:
        number = self._at + 1 if line is None else line
        return Refusal(
            "invalid_request",
            f"line {number} of the diff: {problem}; nothing was changed",
            param="diff",
            details={"line": number},
        )

    def _git_file(self) -> FileDiff:
        head = _Head(self._at + 1, names=self._head_line().removeprefix(b"diff --git "))
        self._at += 1
        while self._at < len(self._lines):
            line = self._head_line()
            word = line.split(b" ", 1)[0]
            if line.startswith((b"diff --git ", b"--- ")) or _HUNK.match(line):
                break
            if line.startswith((b"GIT binary patch", b"Binary files ")):
                raise self._wrong(
                    "it changes a binary file, which only `changes` can; send the content in base64 there"
                )
            if line.startswith((b"old mode ", b"new mode ", b"new file mode ", b"deleted file mode ")):
                head.mode = line.rsplit(b" ", 1)[1]
                head.created |= line.startswith(b"new file")
                head.deleted |= line.startswith(b"deleted file")
                if head.mode not in (b"100644", b"100755"):
                    raise self._wrong(
                        f"mode {head.mode.decode(errors='replace')} is no plain file's (links and"
                        " submodules are not changed)"
                    )
            elif line.startswith((b"rename from ", b"copy from ")):
                head.moved_from = line.split(b" ", 2)[2]
                head.copied = word == b"copy"
            elif line.startswith((b"rename to ", b"copy to ")):
                head.moved_to = line.split(b" ", 2)[2]
            elif word not in (b"index", b"similarity", b"dissimilarity"):
                break
            self._at += 1
        return self._with_hunks(head)

    def _with_hunks(self, head: _Head) -> FileDiff:
        if self._head_line().startswith(b"--- ") and self._head_line(1).startswith(b"+++ "):
            head.old = _file_name(self._head_line()[4:])
            head.new = _file_name(self._head_line(1)[4:])
            self._at += 2
        file = self._named(head)
        while self._at < len(self._lines) and (match := _HUNK.match(self._lines[self._at])):
            file.hunks.append(self._hunk(match, len(file.hunks) + 1, file))
        created, deleted = file.old is None, file.new is None
        if any(hunk.old for hunk in file.hunks) and created:
            raise self._wrong(f"`{file.path.text}` is new, but a hunk expects something in it", file.line)
        if any(hunk.new for hunk in file.hunks) and deleted:
            raise self._wrong(f"`{file.path.text}` goes, but a hunk leaves something in it", file.line)
        return file

    def _named(self, head: _Head) -> FileDiff:
        old, new = self._names(head)
        if old is None and new is None:
            raise self._wrong("no name of a file stands here that can be read", head.line)
        try:
            paths = [
                None if name is None else RelativePath.parse_bytes(name, param="diff")
                for name in (old, new)
            ]
        except Refusal as refusal:
            raise self._wrong(refusal.message, head.line) from None
        if any(path is not None and not path.parts for path in paths):
            raise self._wrong("an empty name stands here", head.line)
        executable = None if head.mode is None or head.deleted else head.mode == b"100755"
        return FileDiff(head.line, paths[0], paths[1], head.copied, executable)

    def _names(self, head: _Head) -> tuple[bytes | None, bytes | None]:
        if head.moved_from is not None and head.moved_to is not None:
            return _unquoted(head.moved_from), _unquoted(head.moved_to)
        old, new = head.old, head.new
        if old is None or new is None:
            if head.names is None or (same := _both_names(head.names)) is None:
                return None, None
            old, new = same
        old, new = _without_prefixes(old, new)
        if head.created or old == _NOWHERE:
            return None, new
        if head.deleted or new == _NOWHERE:
            return old, None
        return old, new

    def _hunk(self, match: re.Match[bytes], number: int, file: FileDiff) -> Hunk:
        start = int(match[1])
        old_left, new_left = (1 if count is None else int(count) for count in (match[2], match[4]))
        # Without old lines a hunk stands behind the line that it names.
        hunk = Hunk(self._at + 1, number, start - 1 if old_left else start)
        last: list[list[bytes]] = []
        self._at += 1
        while old_left > 0 or new_left > 0:
            if self._at == len(self._lines):
                raise self._wrong(
                    f"hunk {number} of `{file.path.text}` ends before all of its lines were there"
                )
            line = self._lines[self._at]
            kind, content = line[:1], line[1:] + b"\n"
            if kind == b"\\":
                _take_newline(last)
            elif kind in (b" ", b"") or line == b"\r":
                # Some programs take the space from empty lines.
                content = content if kind == b" " else line + b"\n"
                hunk.old.append(content)
                hunk.new.append(content)
                last = [hunk.old, hunk.new]
                old_left, new_left = old_left - 1, new_left - 1
            elif kind == b"-":
                hunk.old.append(content)
                last = [hunk.old]
                old_left -= 1
            elif kind == b"+":
                hunk.new.append(content)
                last = [hunk.new]
                new_left -= 1
            else:
                raise self._wrong(
                    f"hunk {number} of `{file.path.text}` holds a line that is none of a diff"
                )
            if old_left < 0 or new_left < 0:
                raise self._wrong(f"hunk {number} of `{file.path.text}` has other lines than its head says")
            self._at += 1
        if self._head_line().startswith(b"\\"):
            _take_newline(last)
            self._at += 1
        after = self._head_line()
        if after[:1] in (b"+", b"-", b" ") and not after.startswith((b"--- ", b"-- ")) and after != b"--":
            raise self._wrong(f"hunk {number} of `{file.path.text}` has more lines than its head says")
        return hunk


def _take_newline(last: list[list[bytes]]) -> None:
    """The line above has no line break in the file."""
    for side in last:
        side[-1] = side[-1].removesuffix(b"\n")


def _file_name(rest: bytes) -> bytes:
    """The name behind `---` or `+++`; what follows a tab is a time."""
    if rest.startswith(b'"'):
        return _unquoted(rest[: rest.rfind(b'"') + 1])
    return rest.split(b"\t", 1)[0]


def _unquoted(name: bytes) -> bytes:
    """A name as it is in the file system; git puts unusual ones into quotes."""
    if len(name) < 2 or not (name.startswith(b'"') and name.endswith(b'"')):
        return name

    def plain(match: re.Match[bytes]) -> bytes:
        code = match[1]
        return bytes([int(code, 8) & 0xFF]) if len(code) == 3 else _ESCAPES.get(code, code)

    return _ESCAPED.sub(plain, name[1:-1])


def _both_names(names: bytes) -> tuple[bytes, bytes] | None:
    """The two names of `diff --git`, which are the same but for their prefixes wherever they are needed."""
    if names.startswith(b'"'):
        match = re.match(rb'("(?:[^"\\]|\\.)*") (.+)', names, re.DOTALL)
        return (_unquoted(match[1]), _unquoted(match[2])) if match else None
    middle = len(names) // 2
    if names[middle : middle + 1] != b" ":
        return None
    old, new = names[:middle], names[middle + 1 :]
    return (old, new) if old.split(b"/", 1)[-1] == new.split(b"/", 1)[-1] else None


def _without_prefixes(old: bytes, new: bytes) -> tuple[bytes, bytes]:
    """The names without `a/` and `b/`, where both have them."""
    for first, second in _PREFIXES:
        for one, other in ((first, second), (second, first)):
            if (old == _NOWHERE or old.startswith(one)) and (new == _NOWHERE or new.startswith(other)):
                return (
                    old if old == _NOWHERE else old.removeprefix(one),
                    new if new == _NOWHERE else new.removeprefix(other),
                )
    return old, new
