"""Whether a directory holds a git repository that leads nowhere else.

Git follows links in its own directory, and writes logs, messages and indexes through them; a `.git` file or
`commondir` names another directory altogether. None of that is let through. Says nothing of programs, which
is `git.py`'s, the only caller.
"""

import os
import stat

from repoagent import confined
from repoagent.halt import Halt
from repoagent.refusal import Refusal, from_os
from repoagent.relative import RelativePath

# Hooks are never run, and the repositories of submodules and other work trees are never used.
_UNUSED = (b"hooks", b"modules", b"worktrees")


def check_repository(directory: int, path: RelativePath, halt: Halt) -> None:
    """Raises `Refusal` unless `path`, open as `directory`, has a `.git` whose every part is in it."""
    try:
        found = os.stat(".git", dir_fd=directory, follow_symlinks=False)
    except OSError:
        raise Refusal(
            "not_found", f"`{path.text}` is no git repository: it has no `.git`", param="path"
        ) from None
    if not stat.S_ISDIR(found.st_mode):
        raise _leads_elsewhere(path, RelativePath((b".git",)))
    git = RelativePath((b".git",))
    try:
        _check_below(directory, git, path, halt)
    except OSError as error:
        raise from_os(error, f"cannot look through the `.git` of `{path.text}`", param="path") from error


def _check_below(above: int, place: RelativePath, path: RelativePath, halt: Halt) -> None:
    descriptor = confined.open_directory(above, RelativePath((place.name,)))
    try:
        with os.scandir(descriptor) as entries:
            for entry in entries:
                halt.check()
                name = os.fsencode(entry.name)
                below = place.child(name)
                top = len(place.parts) == 1
                if (top and name == b"commondir") or entry.is_symlink():
                    raise _leads_elsewhere(path, below)
                # Objects are made under other names and renamed: a link among them is replaced.
                leaf = place.parts[1:] == (b"objects",) or (top and name in _UNUSED)
                if not leaf and entry.is_dir(follow_symlinks=False):
                    _check_below(descriptor, below, path, halt)
    finally:
        os.close(descriptor)


def _leads_elsewhere(path: RelativePath, place: RelativePath) -> Refusal:
    return Refusal(
        "conflict",
        f"the `{place.text}` of `{path.text}` leads elsewhere, and that is not followed",
        param="path",
    )
