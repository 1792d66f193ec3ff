"""`repo.patch`: many changes at once, as contents and as a unified diff, whole or not at all.

Everything is read and computed first; only when every hunk fits is anything written, as one transaction.
No path may be meant twice.
"""

from dataclasses import dataclass
from typing import Any, Literal

from repoagent import files
from repoagent.confined import Root
from repoagent.diff import FileDiff, read_diff
from repoagent.files import State
from repoagent.halt import Halt
from repoagent.hunks import Misfit, fit
from repoagent.journal import Journal
from repoagent.recovery import recover
from repoagent.refusal import Refusal
from repoagent.relative import RelativePath
from repoagent.transaction import Change, Content, apply
from repoagent.workspace import Workspace

ChangeMode = Literal["overwrite", "append", "truncate", "create", "delete"]
_MOST_FILES = 2_000
_MOST_BYTES = 64 << 20


@dataclass(frozen=True)
class Wanted:
    """One member of `changes`."""

    path: RelativePath
    data: bytes
    mode: ChangeMode


def patch(
    workspace: Workspace,
    root: Root,
    wanted: list[Wanted],
    diff: str | None,
    *,
    dry_run: bool,
    journal: Journal,
    halt: Halt,
) -> dict[str, Any]:
    """Makes all changes, or none. With `dry_run` it is only found out whether they could be made."""
    diffs = read_diff(diff) if diff is not None else []
    if not wanted and not diffs:
        raise Refusal(
            "invalid_request",
            "nothing to change: `changes` is empty and there is no `diff`",
            param="changes",
        )
    if len(wanted) + len(diffs) > _MOST_FILES:
        raise Refusal(
            "payload_too_large", f"a patch changes at most {_MOST_FILES:,} files", param="changes"
        )
    with journal.locked(halt):
        recover(journal, root)
        plan = _Plan(workspace, root, halt)
        for change in wanted:
            halt.check()
            plan.add_wanted(change)
        for file in diffs:
            halt.check()
            plan.add_diff(file)
        if not dry_run:
            apply(root, plan.changes, journal, halt)
    return {"root": root.name, "applied": not dry_run, "changes": plan.told}


class _Plan:
    """What shall be done, as far as it is known."""

    def __init__(self, workspace: Workspace, root: Root, halt: Halt) -> None:
        self._workspace = workspace
        self._halt = halt
        self._root = root
        self._seen: set[RelativePath] = set()
        self._above: set[RelativePath] = set()
        self._bytes = 0
        self._moved: list[int] = []
        self.changes: list[Change] = []
        self.told: list[dict[str, Any]] = []

    def add_wanted(self, change: Wanted) -> None:
        path = self._claim(change.path)
        old = self._state(path, content=change.mode == "append")
        if change.mode == "create" and old is not None:
            raise Refusal(
                "conflict", f"`{path.text}` is there already; nothing was changed", param="changes"
            )
        if change.mode == "delete":
            if old is None:
                raise Refusal(
                    "not_found", f"`{path.text}` is not there; nothing was changed", param="changes"
                )
            self._change(path, old, None, "deleted")
            return
        before = old.data or b"" if old and change.mode == "append" else b""
        content = Content(before + change.data, old.mode if old else None)
        self._change(path, old, content, "modified" if old else "created")

    def add_diff(self, file: FileDiff) -> None:
        if file.old is None:
            self._create(file, self._claim(file.path))
        elif file.new is None or file.new == file.old:
            self._modify(file, self._claim(file.old))
        else:
            self._move(file, file.old, self._claim(file.new))

    def _create(self, file: FileDiff, path: RelativePath) -> None:
        if self._state(path, content=False) is not None:
            raise self._refuse(file, "conflict", "it is there already, and the diff makes it")
        content = Content(self._fitted(file, b""), executable=bool(file.executable))
        self._change(path, None, content, "created")

    def _modify(self, file: FileDiff, path: RelativePath) -> None:
        old = self._existing(file, path)
        data = self._fitted(file, old.data or b"")
        if file.new is None:
            if data:
                raise self._refuse(
                    file, "conflict", "the diff removes it, but does not know all that is in it"
                )
            self._change(path, old, None, "deleted")
            return
        self._change(path, old, Content(data, _mode(old.mode, file.executable)), "modified", file)

    def _move(self, file: FileDiff, source: RelativePath, target: RelativePath) -> None:
        old = self._existing(file, source)
        if self._state(target, content=False) is not None:
            raise self._refuse(file, "conflict", f"`{target.text}` is there already")
        content = Content(self._fitted(file, old.data or b""), _mode(old.mode, file.executable))
        if file.copied:
            self._change(target, None, content, "copied", file, source=source)
            return
        self._claim(source)
        self._change(target, None, content, "renamed", file, source=source)
        self.changes.append(Change(source, old.identity, None))

    def _change(
        self,
        path: RelativePath,
        old: State | None,
        after: Content | None,
        action: str,
        file: FileDiff | None = None,
        *,
        source: RelativePath | None = None,
    ) -> None:
        size = len(after.data) if after else 0
        files.check_size(self._workspace, path, size)
        self._bytes += size
        # All of it is in memory until it is written.
        if self._bytes > max(_MOST_BYTES, self._workspace.bounds.file_bytes):
            raise Refusal(
                "payload_too_large", "the files of the patch are too large together; send it in parts"
            )
        self.changes.append(Change(path, old.identity if old else None, after))
        told: dict[str, Any] = {**path.json, "action": action}
        if after is not None:
            told["size"] = size
        if source is not None:
            told["from"] = source.text
        if file is not None and any(self._moved):
            told["movedLines"] = self._moved
        self.told.append(told)

    def _fitted(self, file: FileDiff, before: bytes) -> bytes:
        try:
            fitted = fit(before, file.hunks, self._halt)
        except Misfit as misfit:
            raise Refusal(
                "conflict",
                f"hunk {misfit.hunk.number} of `{file.path.text}` (line {misfit.hunk.line} of the diff)"
                " does not fit:"
                f" {misfit.problem}; nothing was changed",
                param="diff",
                details={
                    **file.path.json,
                    "hunk": misfit.hunk.number,
                    "line": misfit.hunk.line,
                    "fileLine": misfit.line,
                },
            ) from None
        self._moved = fitted.moved
        return fitted.content

    def _existing(self, file: FileDiff, path: RelativePath) -> State:
        old = self._state(path, content=True)
        if old is None:
            raise self._refuse(file, "not_found", f"`{path.text}` is not there")
        return old

    def _refuse(self, file: FileDiff, code: Literal["conflict", "not_found"], problem: str) -> Refusal:
        return Refusal(
            code,
            f"`{file.path.text}` (line {file.line} of the diff): {problem}; nothing was changed",
            param="diff",
            details={**file.path.json, "line": file.line},
        )

    def _claim(self, path: RelativePath) -> RelativePath:
        self._workspace.admit(path)
        files.need_name(path)
        if path in self._seen:
            raise Refusal(
                "invalid_request", f"`{path.text}` is changed twice; nothing was changed", param="changes"
            )
        above = {RelativePath(path.parts[:depth]) for depth in range(1, len(path.parts))}
        if path in self._above or not above.isdisjoint(self._seen):
            problem = f"`{path.text}` is a file and a directory in one patch; nothing was changed"
            raise Refusal("invalid_request", problem, param="changes")
        self._seen.add(path)
        self._above |= above
        return path

    def _state(self, path: RelativePath, *, content: bool) -> State | None:
        self._workspace.admit(path)
        return files.state(self._workspace, self._root, path, content=content)


def _mode(mode: int, executable: bool | None) -> int:
    """The permissions with or without execution, for those who may read."""
    if executable is None:
        return mode
    return mode | (mode & 0o444) >> 2 if executable else mode & ~0o111
