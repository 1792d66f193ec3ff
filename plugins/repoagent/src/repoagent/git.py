"""`repo.commit`: commits what is in a repository below a root, with git itself.

A repository's own configuration can name programs that git would run. What can be switched off is; where
a filter would still run, nothing is committed unless the operator trusts such configurations. Hooks never
run.
"""

import asyncio
import contextlib
import os
import re
from pathlib import Path
from typing import Any

from repoagent import process
from repoagent.command import environment
from repoagent.confined import Root
from repoagent.halt import Halt
from repoagent.journal import Journal
from repoagent.process import Outcome
from repoagent.recovery import recover
from repoagent.refusal import Refusal
from repoagent.relative import RelativePath
from repoagent.repository import check_repository
from repoagent.settings import RepoSettings
from repoagent.workspace import Workspace

_LONGEST_MESSAGE = 64 << 10
_MOST_PATHS = 1_000
_OUTPUT = 64 << 10
_LISTING = 64 << 20

# Keys of a repository's configuration whose values are run by `add` or `commit`.
_PROGRAMS = re.compile(rb"(filter\..*\.(clean|smudge|process)|hook\..*\.command)", re.DOTALL)

_OFF = (
    "core.hooksPath=/dev/null",
    "core.fsmonitor=false",
    "core.untrackedCache=false",
    "core.attributesFile=/dev/null",
    "core.alternateRefsCommand=",
    "core.sshCommand=false",
    "commit.gpgSign=false",
    "commit.template=",
    "core.commentChar=\x1f",
    "credential.helper=",
    "gc.auto=0",
    "maintenance.auto=false",
    "safe.directory=*",
    "submodule.recurse=false",
    "rerere.enabled=false",
    "advice.addIgnoredFile=false",
)

_ENVIRONMENT = {
    "GIT_DIR": ".git",
    "GIT_WORK_TREE": ".",
    "GIT_CONFIG_GLOBAL": os.devnull,
    "GIT_CONFIG_NOSYSTEM": "1",
    "GIT_ATTR_NOSYSTEM": "1",
    "GIT_TERMINAL_PROMPT": "0",
    "GIT_ASKPASS": "false",
    "GIT_EDITOR": "false",
    "GIT_SEQUENCE_EDITOR": "false",
    "GIT_PAGER": "cat",
    "GIT_ALLOW_PROTOCOL": "none",
    "GIT_NO_LAZY_FETCH": "1",
    "GIT_NO_REPLACE_OBJECTS": "1",
    "GIT_LITERAL_PATHSPECS": "1",
    "LC_ALL": "C",
}


async def commit(
    workspace: Workspace,
    settings: RepoSettings,
    root: Root,
    repository: RelativePath,
    *,
    message: str,
    paths: list[RelativePath],
    signoff: bool,
    user: str | None,
    journal: Journal,
    halt: Halt,
    data: Path,
) -> dict[str, Any]:
    """Commits `paths`, or everything that changed, in the repository at a path; `user` asked for it."""
    if not settings.git.enabled:
        raise Refusal("conflict", "commits are switched off by the setting `git.enabled`")
    if not message.strip() or "\0" in message or len(message.encode(errors="replace")) > _LONGEST_MESSAGE:
        raise Refusal(
            "invalid_request", f"`message` has 1 to {_LONGEST_MESSAGE:,} bytes, and no NUL", param="message"
        )
    if len(paths) > _MOST_PATHS:
        raise Refusal("invalid_request", f"`paths` has more than {_MOST_PATHS:,} members", param="paths")
    inside = [_inside(workspace, repository, path) for path in paths]
    name, email = author(settings, user)
    async with contextlib.AsyncExitStack() as stack:
        # While files are changed nothing is committed: a commit would hold half of it.
        locked = journal.locked(halt)
        await asyncio.to_thread(locked.__enter__)
        stack.callback(locked.__exit__, None, None, None)
        await asyncio.to_thread(recover, journal, root)
        directory = stack.enter_context(root.directory(repository))
        await asyncio.to_thread(check_repository, directory, repository, halt)
        git = _Git(workspace, settings, directory, name, email, data)
        if not settings.git.trust_configuration:
            await git.refuse_programs()
            await git.refuse_submodules()
        await git.add(inside)
        if settings.ignore:
            await git.refuse_hidden(workspace, repository)
        await git.commit(message, inside, signoff=signoff)
        made = (await git.run("rev-parse", "HEAD")).stdout.text.strip()
        branch = await git.run("symbolic-ref", "--quiet", "--short", "HEAD", fine=(0, 1))
    return {
        "root": root.name,
        **repository.json,
        "commit": made,
        "branch": branch.stdout.text.strip() or None,
        "author": f"{name} <{email}>",
    }


def author(settings: RepoSettings, user: str | None) -> tuple[str, str]:
    """Name and address of whoever commits: the operator's choice, else whoever asked."""
    asked = _clean(user or "") or "repoagent"
    local = re.sub(r"[^A-Za-z0-9._+-]", "-", asked)
    return _clean(settings.git.author_name) or asked, _clean(
        settings.git.author_email
    ) or f"{local}@localhost"


def _clean(text: str) -> str:
    """Without what would end a name in a commit."""
    return re.sub(r"[<>\x00-\x1f\x7f]", "", text).strip(" .,:;\"'")


def _inside(workspace: Workspace, repository: RelativePath, path: RelativePath) -> bytes:
    workspace.admit(path)
    if not path.is_below(repository):
        raise Refusal(
            "invalid_request", f"`{path.text}` is not in the repository `{repository.text}`", param="paths"
        )
    return b"/".join(path.parts[len(repository.parts) :]) or b"."


class _Git:
    """Git in one work tree."""

    def __init__(
        self,
        workspace: Workspace,
        settings: RepoSettings,
        directory: int,
        name: str,
        email: str,
        data: Path,
    ) -> None:
        excludes = data / "excludes"
        excludes.write_text("".join(f"{pattern}\n" for pattern in settings.ignore))
        chosen = (f"user.name={name}", f"user.email={email}", f"core.excludesFile={excludes}")
        self._start = ["git", "--no-pager", *(part for value in (*_OFF, *chosen) for part in ("-c", value))]
        self._environment = {**environment(settings, data), **_ENVIRONMENT}
        self._directory = directory
        self._seconds = workspace.bounds.seconds

    async def run(
        self, *arguments: str | bytes, fine: tuple[int, ...] = (0,), output_bytes: int = _OUTPUT
    ) -> Outcome:
        """One command of git; anything but the `fine` exit codes is refused with what git says."""
        outcome = await process.run(
            [*self._start, *arguments],
            directory=self._directory,
            environment=self._environment,
            seconds=self._seconds,
            output_bytes=output_bytes,
        )
        if outcome.timed_out:
            raise Refusal("timeout", f"git did not finish within {self._seconds:g} s")
        if outcome.exit not in fine:
            said = (outcome.stderr.text.strip() or outcome.stdout.text.strip())[:1_000]
            code: Any = "not_found" if "did not match any file" in said else "conflict"
            raise Refusal(code, f"git refused: {said}")
        return outcome

    async def refuse_programs(self) -> None:
        """Raises `Refusal` if the repository's configuration would make git run something."""
        listed = await self.run("config", "--list", "--includes", "--name-only", "-z")
        if listed.stdout.truncated:
            raise Refusal("conflict", "the repository's configuration is too large to be looked through")
        keys = sorted({key for key in listed.stdout.text.split("\0") if _PROGRAMS.fullmatch(key.encode())})
        if keys:
            raise Refusal(
                "conflict",
                f"the repository's own configuration makes git run programs (`{'`, `'.join(keys[:5])}`);"
                " the setting `git.trustConfiguration` allows that",
            )

    async def refuse_submodules(self) -> None:
        """Raises `Refusal` if git would look into a repository within, under that one's configuration."""
        for entry in await self._listed("ls-files", "--stage", "-z"):
            place = entry.partition("\t")[2]
            if not entry.startswith("160000 "):
                continue
            # A name that is not UTF-8 cannot be looked for, and counts as one that is there.
            if "\ufffd" in place or _is_there(f"{place}/.git", self._directory):
                raise Refusal(
                    "conflict",
                    f"git would follow the configuration of the repository within, `{place}`;"
                    " the setting `git.trustConfiguration` allows that",
                )

    async def refuse_hidden(self, workspace: Workspace, repository: RelativePath) -> None:
        """Raises `Refusal`, and takes it back, if what the operator hides would be committed."""
        names = await self._listed("diff", "--cached", "--name-only", "--no-renames", "--no-ext-diff", "-z")
        places = {name: RelativePath((*repository.parts, *name.encode().split(b"/"))) for name in names}
        hidden = [name for name, place in places.items() if workspace.hides(place, directory=False)]
        if hidden:
            await self.run("reset", "--quiet", "--", *hidden[:_MOST_PATHS])
            raise Refusal(
                "conflict",
                f"`{places[hidden[0]].text}` would be committed, and is left out by the setting"
                " `ignore`; name what to commit in `paths`",
                param="paths",
            )

    async def _listed(self, *arguments: str) -> list[str]:
        """The names that git lists, all of them."""
        listed = (await self.run(*arguments, output_bytes=_LISTING)).stdout
        if listed.truncated:
            raise Refusal("conflict", "the repository has too many files to be looked through")
        return listed.text.split("\0")[:-1]

    async def add(self, paths: list[bytes]) -> None:
        """Takes the changes into the index."""
        await self.run("add", "--all", "--", *(paths or [b"."]))

    async def commit(self, message: str, paths: list[bytes], *, signoff: bool) -> None:
        """Makes the commit."""
        changed = await self.run(
            "diff", "--cached", "--quiet", "--no-ext-diff", "--", *paths, fine=(0, 1, 128, 129)
        )
        if changed.exit == 0 and not (await self._unborn()):
            raise Refusal(
                "conflict", "nothing to commit: no file differs from the last commit", param="paths"
            )
        options = [
            "--quiet",
            "--no-verify",
            "--no-gpg-sign",
            "--cleanup=whitespace",
            f"--message={message}",
        ]
        if signoff:
            options.append("--signoff")
        if paths:
            options.append("--only")
        await self.run("commit", *options, "--", *paths)

    async def _unborn(self) -> bool:
        return (await self.run("rev-parse", "--quiet", "--verify", "HEAD", fine=(0, 1, 128))).exit != 0


def _is_there(path: str, directory: int) -> bool:
    try:
        os.stat(path, dir_fd=directory, follow_symlinks=False)
    except OSError:
        return False
    return True
