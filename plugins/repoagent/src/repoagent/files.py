"""`repo.file.read` and `repo.file.write`: one file.

A read takes at most what the bounds allow and says whether there was more. A write is a transaction of one
change: whoever reads meanwhile sees the old file or the new one, whole.
"""

import base64
import binascii
import os
import stat
from typing import Any, Literal

from repoagent import confined
from repoagent.confined import Root
from repoagent.halt import Halt
from repoagent.journal import Journal
from repoagent.moments import rfc3339
from repoagent.recovery import recover
from repoagent.refusal import Refusal
from repoagent.relative import RelativePath
from repoagent.transaction import Change, Content, apply
from repoagent.undertaking import Identity
from repoagent.workspace import Workspace

Encoding = Literal["utf-8", "base64"]
Mode = Literal["overwrite", "append", "truncate"]


def read(
    workspace: Workspace,
    root: Root,
    path: RelativePath,
    *,
    encoding: Encoding | None,
    offset: int,
    max_bytes: int | None,
) -> dict[str, Any]:
    """A file's content from `offset` on. Without `encoding` it is text if it is UTF-8, else base64."""
    workspace.admit(path)
    limit = min(max_bytes or workspace.bounds.output_bytes, workspace.bounds.output_bytes)
    need_name(path)
    with root.directory(path.parent) as directory:
        descriptor, found = confined.open_file(directory, path, hard_links=workspace.bounds.hard_links)
    with os.fdopen(descriptor, "rb", buffering=0) as file:
        data = _read_at(file.fileno(), offset, limit)
        more = offset + len(data) < os.fstat(descriptor).st_size
    text = None if encoding == "base64" else _as_text(data, cut=more)
    if text is None and encoding == "utf-8":
        raise Refusal(
            "invalid_request",
            f"`{path.text}` is not UTF-8; ask for it with `encoding` `base64`",
            param="encoding",
        )
    sent = data if text is None else text.encode()
    return {
        "root": root.name,
        **path.json,
        "content": base64.b64encode(data).decode() if text is None else text,
        "encoding": "base64" if text is None else "utf-8",
        "size": found.st_size,
        "modifiedAt": rfc3339(found.st_mtime_ns),
        "executable": bool(found.st_mode & 0o100),
        "offset": offset,
        "truncated": offset + len(sent) < found.st_size,
    }


def write(
    workspace: Workspace,
    root: Root,
    path: RelativePath,
    data: bytes,
    *,
    mode: Mode,
    journal: Journal,
    halt: Halt,
) -> dict[str, Any]:
    """Makes `data` the content of a file, or adds it at the end; directories on the way are made."""
    workspace.admit(path)
    need_name(path)
    with journal.locked(halt):
        recover(journal, root)
        old = state(workspace, root, path, content=mode == "append")
        content = (old.data or b"") + data if old and mode == "append" else data
        check_size(workspace, path, len(content))
        after = Content(content, old.mode if old else None)
        apply(root, [Change(path, old.identity if old else None, after)], journal, halt)
    return {"root": root.name, **path.json, "size": len(content), "created": old is None}


class State:
    """A file as it is before a change; `data` only where it was read."""

    def __init__(self, found: os.stat_result, data: bytes | None) -> None:
        self.identity = Identity.of(found)
        # The bits that lend somebody else's rights are not for files whose content callers choose.
        self.mode = stat.S_IMODE(found.st_mode) & 0o777
        self.data = data


def state(workspace: Workspace, root: Root, path: RelativePath, *, content: bool) -> State | None:
    """What is at a place that shall be written; nothing if nothing is there."""
    try:
        with root.directory(path.parent) as directory:
            found = confined.look(directory, path)
            if found is None:
                return None
            if not stat.S_ISREG(found.st_mode):
                what = confined.kind_in_words(found.st_mode)
                raise Refusal(
                    "invalid_request", f"`{path.text}` is {what}, and only files are written", param="path"
                )
            if not content:
                return State(found, None)
            check_size(workspace, path, found.st_size)
            descriptor, found = confined.open_file(directory, path, hard_links=workspace.bounds.hard_links)
    except Refusal as refusal:
        if refusal.code == "not_found":
            return None
        raise
    with os.fdopen(descriptor, "rb", buffering=0) as file:
        data = _read_at(file.fileno(), 0, workspace.bounds.file_bytes + 1)
    check_size(workspace, path, len(data))
    return State(found, data)


def decode(content: str, encoding: Encoding, *, param: str = "content") -> bytes:
    """The bytes that a caller sent as text or base64."""
    try:
        return content.encode() if encoding == "utf-8" else base64.b64decode(content, validate=True)
    except (binascii.Error, ValueError):
        raise Refusal("invalid_request", f"`{param}` is not {encoding}", param=param) from None


def check_size(workspace: Workspace, path: RelativePath, size: int) -> None:
    """Raises `Refusal` for a file that is larger than the operator lets callers handle."""
    if size > workspace.bounds.file_bytes:
        raise Refusal(
            "payload_too_large",
            f"`{path.text}` has or would have {size:,} bytes, and the setting `maxFileBytes` allows"
            f" {workspace.bounds.file_bytes:,}",
            param="path",
        )


def need_name(path: RelativePath) -> None:
    """Raises `Refusal` where the root itself stands for a file."""
    if not path.parts:
        raise Refusal("invalid_request", "`path` names the root, not a file", param="path")


def _read_at(descriptor: int, offset: int, limit: int) -> bytes:
    data = bytearray()
    while len(data) < limit and (piece := os.pread(descriptor, limit - len(data), offset + len(data))):
        data += piece
    return bytes(data)


def _as_text(data: bytes, *, cut: bool) -> str | None:
    """The bytes as UTF-8; if they were `cut` off, without the character that was cut in two."""
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        if cut and error.start >= len(data) - 3 and error.reason == "unexpected end of data":
            return data[: error.start].decode()
        return None
