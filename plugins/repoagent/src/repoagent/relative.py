"""Paths as callers write them: parsed once, and from then on a row of names that cannot leave a root.

Says nothing about what is on the disk; that is `confined.py`. Names are bytes, since that is what the
file system keeps: a name that is not UTF-8 is shown with replacement characters and carried in base64.
"""

import base64
import binascii
from dataclasses import dataclass
from typing import Self

from repoagent.refusal import Refusal

# What this plugin calls the files that exist only while a change is made.
OWN_PREFIX = b".bkg-repoagent-"

_LONGEST_PATH = 4_096
_LONGEST_NAME = 255

# Characters that HFS+ leaves out of names, so that `.g\u200cit` is `.git` there.
_LEFT_OUT = dict.fromkeys([*range(8204, 8208), *range(8234, 8239), *range(8298, 8304), 65279])


@dataclass(frozen=True, slots=True, order=True)
class RelativePath:
    """A path below a root; without parts it is the root itself."""

    parts: tuple[bytes, ...] = ()

    @classmethod
    def parse(cls, text: str, *, param: str = "path") -> Self:
        """Reads what a caller wrote; `.`, a `/` at the end or nothing is fine, leading elsewhere is not."""
        try:
            raw = text.encode()
        except UnicodeEncodeError:
            raise Refusal(
                "invalid_request",
                f"`{param}` holds half a surrogate pair; a name that is not UTF-8 goes into"
                f" `{param}Base64`",
                param=param,
            ) from None
        return cls.parse_bytes(raw, param=param)

    @classmethod
    def parse_base64(cls, text: str, *, param: str = "pathBase64") -> Self:
        """The same for the bytes of a path in base64."""
        try:
            raw = base64.b64decode(text, validate=True)
        except (binascii.Error, ValueError):
            raise Refusal("invalid_request", f"`{param}` is not base64", param=param) from None
        return cls.parse_bytes(raw, param=param)

    @classmethod
    def parse_bytes(cls, raw: bytes, *, param: str = "path") -> Self:
        """The same for the bytes of a path."""
        if b"\0" in raw:
            raise Refusal("invalid_request", f"`{param}` holds a NUL character", param=param)
        if len(raw) > _LONGEST_PATH:
            raise Refusal(
                "invalid_request", f"`{param}` is longer than {_LONGEST_PATH:,} bytes", param=param
            )
        if raw.startswith(b"/"):
            raise Refusal(
                "invalid_request",
                f"`{param}` is absolute: `{show(raw)}`; write it relative to the root, and choose that"
                " with `root`",
                param=param,
            )
        names = raw.split(b"/")
        while names and names[-1] == b"":
            names.pop()
        parts = []
        for name in names:
            if name == b".":
                continue
            _check_name(name, raw, param)
            parts.append(name)
        return cls(tuple(parts))

    @property
    def name(self) -> bytes:
        """The last part; the root has none and must not be asked."""
        return self.parts[-1]

    @property
    def parent(self) -> "RelativePath":
        """The directory that it is in."""
        return RelativePath(self.parts[:-1])

    @property
    def raw(self) -> bytes:
        """Its bytes, parts joined with `/`."""
        return b"/".join(self.parts)

    @property
    def text(self) -> str:
        """For people and JSON: `.` for the root, replacement characters where it is not UTF-8."""
        return show(self.raw) if self.parts else "."

    @property
    def json(self) -> dict[str, str]:
        """`path`, and `pathBase64` beside it where `path` does not name the file exactly."""
        try:
            self.raw.decode()
        except UnicodeDecodeError:
            return {"path": self.text, "pathBase64": base64.b64encode(self.raw).decode()}
        return {"path": self.text}

    def child(self, name: bytes) -> "RelativePath":
        """One part further down; `name` comes from the file system."""
        return RelativePath((*self.parts, name))

    def is_below(self, other: "RelativePath") -> bool:
        """Whether it is `other` or somewhere below it."""
        return self.parts[: len(other.parts)] == other.parts


def show(raw: bytes) -> str:
    """A path for people: what is not UTF-8 becomes replacement characters."""
    return raw.decode(errors="replace")


def is_git(name: bytes) -> bool:
    """Whether a file system may take the name for `.git`: in any case, as HFS+ or NTFS read it."""
    folded = name.decode(errors="replace").translate(_LEFT_OUT).casefold()
    folded = folded.split(":", 1)[0].rstrip(" .")
    return folded in (".git", "git~1")


def _check_name(name: bytes, raw: bytes, param: str) -> None:
    if name == b"":
        raise Refusal("invalid_request", f"`{param}` has an empty part: `{show(raw)}`", param=param)
    if name == b"..":
        raise Refusal(
            "invalid_request",
            f"`{param}` leads upwards with `..`: `{show(raw)}`; nothing above a root is reached",
            param=param,
        )
    if len(name) > _LONGEST_NAME:
        raise Refusal(
            "invalid_request", f"`{param}` has a name longer than {_LONGEST_NAME} bytes", param=param
        )
    if is_git(name):
        raise Refusal(
            "invalid_request",
            f"`{show(raw)}` is git's own; nothing in a `.git` is read or written, `repo.commit` makes"
            " commits",
            param=param,
        )
    if name.startswith(OWN_PREFIX):
        raise Refusal(
            "invalid_request",
            f"names that begin with `{OWN_PREFIX.decode()}` are this plugin's own",
            param=param,
        )
