"""The capabilities, whoever asks: the bus (`plugin.py`) or the HTTP twin (`twin.py`).

Knows neither. Work that blocks runs in threads of its own, which stop when the request is cancelled; how
many there are bounds how much is done at once.
"""

import asyncio
import contextlib
import functools
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from msgspec import Struct

from repoagent import analyze, command, files, git, patch, payloads, search, tree
from repoagent.confined import Root
from repoagent.halt import Halt
from repoagent.journal import Journal
from repoagent.patch import Wanted
from repoagent.refusal import Refusal
from repoagent.relative import RelativePath
from repoagent.scanning import Query
from repoagent.settings import RepoSettings, workspace
from repoagent.workspace import Workspace

T = TypeVar("T")

_READING_THREADS = 8
# Changes wait for one another; those that wait keep nobody from reading.
_CHANGING_THREADS = 4


@dataclass
class Counts:
    """What the plugin tells of itself besides its process."""

    requests: int = 0
    refused: int = 0
    commands: int = 0


@dataclass(frozen=True)
class Capability:
    """One capability: what it is asked with, and what answers it."""

    name: str
    description: str
    payload: type[Struct]
    answer: Callable[["Capabilities", Any, str | None], Awaitable[dict[str, Any]]]
    changes: bool = False
    seconds: float = 120.0
    at_once: int = 32


class Capabilities:
    """Everything that can be asked, under the settings in force."""

    def __init__(self, data: Path, settings: Callable[[], RepoSettings]) -> None:
        self.data = data
        self.journal = Journal(data / "journal")
        self.counts = Counts()
        self._settings = settings
        self._checked: tuple[RepoSettings, Workspace] | None = None
        self._running: Counter[str] = Counter()
        self._reading = ThreadPoolExecutor(_READING_THREADS, thread_name_prefix="reading")
        self._changing = ThreadPoolExecutor(_CHANGING_THREADS, thread_name_prefix="changing")

    def check(self, new: RepoSettings) -> None:
        """Raises `ValueError` for settings that cannot work; opens the roots to find out."""
        self._checked = (new, workspace(new, self.data))

    def _workspace(self) -> Workspace:
        """The workspace of the settings in force."""
        settings = self._settings()
        if self._checked is None or self._checked[0] is not settings:
            try:
                self.check(settings)
            except ValueError as error:
                raise Refusal("conflict", f"the settings cannot be used: {error}") from error
        assert self._checked is not None
        return self._checked[1]

    async def ask(self, capability: Capability, payload: Any, user: str | None) -> dict[str, Any]:
        """Answers a payload of the capability's own type, for a user; raises `Refusal`."""
        with self._counted(capability):
            return await capability.answer(self, payload, user)

    async def put(self, capability: Capability, asked: payloads.FileWrite, data: bytes) -> dict[str, Any]:
        """Answers a write whose content came as bytes; raises `Refusal`."""
        with self._counted(capability):
            return await self._write(asked, data)

    @contextlib.contextmanager
    def _counted(self, capability: Capability) -> Iterator[None]:
        """Counts a request, and refuses what is too many at once, however it came."""
        self.counts.requests += 1
        try:
            if self._running[capability.name] >= capability.at_once:
                raise Refusal(
                    "overloaded",
                    f"{capability.at_once} requests for `{capability.name}` are under way; try again later",
                )
            self._running[capability.name] += 1
            try:
                yield
            finally:
                self._running[capability.name] -= 1
        except Refusal:
            self.counts.refused += 1
            raise

    async def _read(self, work: Callable[[Halt], T]) -> T:
        return await self._in_thread(self._reading, work)

    async def _change(self, work: Callable[[Halt], T]) -> T:
        return await self._in_thread(self._changing, work)

    async def _in_thread(self, threads: ThreadPoolExecutor, work: Callable[[Halt], T]) -> T:
        """Runs what blocks; it stops when this is cancelled, and at the latest when its time is over."""
        halt = Halt(self._workspace().bounds.seconds)
        running = asyncio.get_running_loop().run_in_executor(threads, work, halt)
        try:
            return await asyncio.shield(running)
        except asyncio.CancelledError:
            halt.stop()
            # Whatever it still raises was raised for nobody.
            running.add_done_callback(lambda done: done.cancelled() or done.exception())
            raise

    async def analyze(self, asked: payloads.Analyze, user: str | None) -> dict[str, Any]:
        """`repo.analyze`."""
        workspace, root, path = self._where(asked)
        query = Query(asked.query, expression=False, case_sensitive=False) if asked.query else None
        most = asked.max_files or workspace.bounds.entries
        return await self._read(
            lambda halt: analyze.analyze(workspace, root, path, query, max_files=most, halt=halt)
        )

    async def tree(self, asked: payloads.Tree, user: str | None) -> dict[str, Any]:
        """`repo.tree`."""
        workspace, root, path = self._where(asked)
        limit = min(asked.limit or workspace.bounds.results, workspace.bounds.results)
        return await self._read(
            lambda halt: tree.tree(workspace, root, path, depth=asked.depth, limit=limit, halt=halt)
        )

    async def search(self, asked: payloads.Search, user: str | None) -> dict[str, Any]:
        """`repo.search`."""
        workspace, root, path = self._where(asked)
        query = Query(asked.query, expression=asked.regex, case_sensitive=asked.case_sensitive)
        most = min(asked.max_results or workspace.bounds.results, workspace.bounds.results)
        return await self._read(
            lambda halt: search.search(workspace, root, path, query, max_results=most, halt=halt)
        )

    async def file_read(self, asked: payloads.FileRead, user: str | None) -> dict[str, Any]:
        """`repo.file.read`."""
        workspace, root, path = self._where(asked)
        return await self._read(
            lambda _: files.read(
                workspace,
                root,
                path,
                encoding=asked.encoding,
                offset=asked.offset,
                max_bytes=asked.max_bytes,
            )
        )

    async def file_write(self, asked: payloads.FileWrite, user: str | None) -> dict[str, Any]:
        """`repo.file.write`."""
        return await self._write(asked, files.decode(asked.content, asked.encoding))

    async def _write(self, asked: payloads.FileWrite, data: bytes) -> dict[str, Any]:
        """The same with the content as bytes."""
        workspace, root, path = self._where(asked)
        return await self._change(
            lambda halt: files.write(
                workspace, root, path, data, mode=asked.mode, journal=self.journal, halt=halt
            )
        )

    async def patch(self, asked: payloads.Patch, user: str | None) -> dict[str, Any]:
        """`repo.patch`."""
        workspace = self._workspace()
        root = workspace.root(asked.root)
        wanted = [
            Wanted(
                change.place(), files.decode(change.content, change.encoding, param="changes"), change.mode
            )
            for change in asked.changes
        ]
        return await self._change(
            lambda halt: patch.patch(
                workspace, root, wanted, asked.diff, dry_run=asked.dry_run, journal=self.journal, halt=halt
            )
        )

    async def command(self, asked: payloads.Command, user: str | None) -> dict[str, Any]:
        """`repo.command`."""
        workspace = self._workspace()
        root = workspace.root(asked.root)
        self.counts.commands += 1
        try:
            return await command.command(
                workspace,
                self._settings(),
                root,
                asked.command,
                asked.args,
                asked.timeout_seconds,
                self.data,
            )
        finally:
            self.counts.commands -= 1

    async def commit(self, asked: payloads.Commit, user: str | None) -> dict[str, Any]:
        """`repo.commit`."""
        workspace, root, repository = self._where(asked)
        halt = Halt(workspace.bounds.seconds)
        try:
            return await git.commit(
                workspace,
                self._settings(),
                root,
                repository,
                message=asked.message,
                paths=[RelativePath.parse(path, param="paths") for path in asked.paths],
                signoff=asked.signoff,
                user=user,
                journal=self.journal,
                halt=halt,
                data=self.data,
            )
        finally:
            halt.stop()

    def _where(self, asked: payloads.Place) -> tuple[Workspace, Root, RelativePath]:
        workspace = self._workspace()
        path = asked.place()
        workspace.admit(path)
        return workspace, workspace.root(asked.root), path


ALL = (
    Capability(
        "repo.analyze",
        "How much is in a directory, and where something is mentioned",
        payloads.Analyze,
        Capabilities.analyze,
    ),
    Capability("repo.tree", "What is in a directory, and below it", payloads.Tree, Capabilities.tree),
    Capability(
        "repo.search",
        "Lines of files that hold a text or match an expression",
        payloads.Search,
        Capabilities.search,
    ),
    Capability("repo.file.read", "The content of a file", payloads.FileRead, Capabilities.file_read),
    Capability(
        "repo.file.write", "Writes a file", payloads.FileWrite, Capabilities.file_write, changes=True
    ),
    Capability(
        "repo.patch", "Changes many files, all or none", payloads.Patch, Capabilities.patch, changes=True
    ),
    Capability(
        "repo.command",
        "Runs a command that the operator allowed",
        payloads.Command,
        Capabilities.command,
        changes=True,
        seconds=600.0,
        at_once=4,
    ),
    Capability(
        "repo.commit", "Commits what changed", payloads.Commit, Capabilities.commit, changes=True, at_once=4
    ),
)
"""All of them."""


@functools.cache
def named(name: str) -> Capability:
    """The capability of that name."""
    return next(capability for capability in ALL if capability.name == name)
