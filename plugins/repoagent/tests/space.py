"""What the tests share: a workspace in a directory of the test's own, and a host in memory.

Nothing here knows what an answer should be. No test needs a network, or a port of its choice.
"""

import asyncio
import os
import subprocess
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from bkg_sdk.testing import TestHost
from repoagent.confined import Root
from repoagent.halt import Halt
from repoagent.journal import Journal
from repoagent.patch import ChangeMode, Wanted, patch
from repoagent.plugin import build
from repoagent.refusal import Refusal
from repoagent.relative import RelativePath
from repoagent.workspace import Bounds, Workspace


class Space:
    """One root, `work`, beside a file that no test may reach: `secret`, outside of it."""

    def __init__(self, directory: Path) -> None:
        self.data = directory / "data"
        self.work = directory / "work"
        self.secret = directory / "secret"
        self.work.mkdir()
        self.secret.write_text("the secret\n")
        self.journal = Journal(self.data / "journal")
        self.workspace = Workspace((Root("work", str(self.work)),))

    @property
    def root(self) -> Root:
        return self.workspace.root(None)

    def bounded(self, **bounds: Any) -> Workspace:
        """The same workspace with other bounds."""
        self.workspace = Workspace(self.workspace.roots, self.workspace.hidden, Bounds(**bounds))
        return self.workspace

    def put(self, path: str | bytes, content: str | bytes = "") -> Path:
        """Makes a file below the root."""
        file = self.work / os.fsdecode(path)
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content.encode() if isinstance(content, str) else content)
        return file

    def everything(self) -> dict[str, bytes | None]:
        """All that is below the root, with the content of files."""
        return {
            os.fsencode(path.relative_to(self.work)).decode(errors="backslashreplace"): (
                path.read_bytes() if path.is_file() else None
            )
            for path in self.work.rglob("*")
        }

    def patch(self, *wanted: Wanted, diff: str | None = None, dry_run: bool = False) -> dict[str, Any]:
        """`repo.patch`."""
        return patch(
            self.workspace,
            self.root,
            list(wanted),
            diff,
            dry_run=dry_run,
            journal=self.journal,
            halt=Halt(30),
        )


def at(path: str) -> RelativePath:
    """A path as callers write it."""
    return RelativePath.parse(path)


def change(path: str, content: str = "", mode: ChangeMode = "overwrite") -> Wanted:
    """A member of `changes`."""
    return Wanted(at(path), content.encode(), mode)


def refused(work: Callable[[], object]) -> Refusal:
    """The refusal that the work ends with."""
    with pytest.raises(Refusal) as caught:
        work()
    return caught.value


def git(directory: Path, *arguments: str, fine: tuple[int, ...] = (0,), encoding: str = "utf-8") -> str:
    """Runs git, with nobody's configuration; what it printed, byte for byte."""
    environment = {
        "PATH": os.environ["PATH"],
        "HOME": str(directory),
        "GIT_CONFIG_GLOBAL": os.devnull,
        "GIT_CONFIG_NOSYSTEM": "1",
        "GIT_AUTHOR_NAME": "Ada",
        "GIT_AUTHOR_EMAIL": "ada@example.com",
        "GIT_COMMITTER_NAME": "Ada",
        "GIT_COMMITTER_EMAIL": "ada@example.com",
    }
    command = ["git", "-C", str(directory), "-c", "init.defaultBranch=main", *arguments]
    ran = subprocess.run(command, env=environment, capture_output=True)
    assert ran.returncode in fine, ran.stderr.decode()
    return ran.stdout.decode(encoding)


async def until(condition: Callable[[], object]) -> None:
    """Waits for what happens outside of this process."""
    async with asyncio.timeout(30):
        while not condition():  # noqa: ASYNC110 - what is waited for is in other processes
            await asyncio.sleep(0.01)


@asynccontextmanager
async def hosted(data: Path, settings: dict[str, Any], **options: Any) -> AsyncIterator[TestHost]:
    """The plugin in a host in memory."""
    async with TestHost(build(data), name="repoagent", data_dir=data, settings=settings, **options) as host:
        yield host
