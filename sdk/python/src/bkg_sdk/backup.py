"""A plugin's part of a backup of the host: `lifecycle.backup`.

The plugin writes a copy of what it keeps below a directory of the host's; here the request is read and what
is there afterwards is listed. Not what a copy is: only the plugin knows when its files fit together. The
invariant: every file that is listed lies below the directory.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TypeAlias

import msgspec

from .capability import Capability
from .protocol.error import ErrorCode, WireError
from .request import Request
from .work import run_work

BackupHandler: TypeAlias = Callable[[Path], Awaitable[None] | None]
"""Writes a copy of what the plugin keeps below a directory; a plain `def` is run in a thread."""


class _Order(msgspec.Struct):
    directory: str


def capability_of_backup(handler: BackupHandler) -> Capability:
    """The capability that answers with the files that `handler` left in the directory."""

    async def backup(request: Request) -> dict[str, list[str]]:
        directory = Path(request.read(_Order).directory)
        try:
            await run_work(None, handler, directory)
            return {"files": await asyncio.to_thread(_files_below, directory)}
        except OSError as problem:
            raise WireError(ErrorCode.PLUGIN_ERROR, f"the backup failed: {problem}") from problem

    description = "Writes a copy of what the plugin keeps below a directory, for a backup of the host"
    return Capability("lifecycle.backup", answer=backup, description=description)


def _files_below(directory: Path) -> list[str]:
    """The files below a directory, in order, relative and with `/` between the steps; no links."""
    files: list[str] = []
    folders = [directory]
    while folders:
        for path in folders.pop().iterdir():
            if path.is_symlink():
                continue
            if path.is_dir():
                folders.append(path)
            elif path.is_file():
                files.append(path.relative_to(directory).as_posix())
    return sorted(files)
