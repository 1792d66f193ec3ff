"""Opens what is below a root; nothing outside is reached, whatever happens to the tree meanwhile.

Each directory on the way is opened from the one above it, and no symbolic link is followed anywhere:
there is no moment at which a path is checked and later used. Not about whose files they are or what is
ignored. Everything that touches the disk below a root gets its descriptors here.
"""

import contextlib
import errno
import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass

from repoagent.refusal import Refusal, from_os
from repoagent.relative import RelativePath, show

_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
# Without O_NONBLOCK the opening of a FIFO would wait for a writer.
_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC


@dataclass(frozen=True)
class Root:
    """A directory that the operator opened to callers; links in its own path are followed."""

    name: str
    path: str

    @contextlib.contextmanager
    def opened(self) -> Iterator[int]:
        """A descriptor of the root, as long as the block runs."""
        try:
            descriptor = os.open(self.path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except OSError as error:
            raise from_os(error, f"cannot open the root `{self.name}`", param="root") from error
        try:
            yield descriptor
        finally:
            os.close(descriptor)

    @contextlib.contextmanager
    def directory(self, path: RelativePath, *, make: bool = False) -> Iterator[int]:
        """A descriptor of a directory below; with `make` the missing ones on the way are made."""
        with self.opened() as root:
            descriptor = open_directory(root, path, make=make)
        try:
            yield descriptor
        finally:
            os.close(descriptor)


def open_directory(above: int, path: RelativePath, *, make: bool = False) -> int:
    """Opens the directory `path` below the descriptor `above`; whoever calls closes it."""
    current = os.dup(above)
    try:
        for depth, name in enumerate(path.parts, 1):
            further = _step(current, name, RelativePath(path.parts[:depth]), make)
            os.close(current)
            current = further
    except BaseException:
        os.close(current)
        raise
    return current


def _step(current: int, name: bytes, path: RelativePath, make: bool) -> int:
    try:
        return os.open(name, _DIRECTORY, dir_fd=current)
    except FileNotFoundError as error:
        if not make:
            raise from_os(error, f"`{path.text}` is not there", param="path") from None
    except OSError as error:
        raise _explain(error, current, name, path) from None
    try:
        with contextlib.suppress(FileExistsError):
            os.mkdir(name, dir_fd=current)
        return os.open(name, _DIRECTORY, dir_fd=current)
    except OSError as error:
        raise _explain(error, current, name, path) from None


def open_file(
    directory: int, path: RelativePath, *, hard_links: bool = False
) -> tuple[int, os.stat_result]:
    """Opens the regular file `path`, whose directory is open as `directory`; whoever calls closes it.

    A file that has further names may be one from outside of the root: it is opened only with `hard_links`.
    """
    try:
        # Whoever waits at the other end of a FIFO, or a device, would take notice of an opening.
        _need_file(os.stat(path.name, dir_fd=directory, follow_symlinks=False), path)
        descriptor = os.open(path.name, _FILE, dir_fd=directory)
    except OSError as error:
        raise _explain(error, directory, path.name, path) from None
    try:
        found = os.fstat(descriptor)
        _need_file(found, path)
        if found.st_nlink > 1 and not hard_links:
            raise Refusal(
                "invalid_request",
                f"`{path.text}` has {found.st_nlink} names (hard links), and may be a file from"
                " elsewhere; the setting"
                " `allowHardLinks` opens such files",
                param="path",
            )
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor, found


def _need_file(found: os.stat_result, path: RelativePath) -> None:
    if stat.S_ISLNK(found.st_mode):
        raise OSError(errno.ELOOP, "a link")
    if not stat.S_ISREG(found.st_mode):
        raise Refusal(
            "invalid_request", f"`{path.text}` is {kind_in_words(found.st_mode)}, not a file", param="path"
        )


def look(directory: int, path: RelativePath) -> os.stat_result | None:
    """What is at the place, without following a link; nothing if there is nothing."""
    try:
        return os.stat(path.name, dir_fd=directory, follow_symlinks=False)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise from_os(error, f"cannot look at `{path.text}`", param="path") from None


def kind(mode: int) -> str:
    """The word of answers for what a mode is: `file`, `directory`, `link` or `other`."""
    if stat.S_ISREG(mode):
        return "file"
    if stat.S_ISDIR(mode):
        return "directory"
    return "link" if stat.S_ISLNK(mode) else "other"


def kind_in_words(mode: int) -> str:
    """The same for messages."""
    words = {
        stat.S_IFREG: "a file",
        stat.S_IFDIR: "a directory",
        stat.S_IFLNK: "a symbolic link",
        stat.S_IFIFO: "a FIFO",
        stat.S_IFSOCK: "a socket",
        stat.S_IFCHR: "a device",
        stat.S_IFBLK: "a device",
    }
    return words.get(stat.S_IFMT(mode), "something else")


def _explain(error: OSError, directory: int, name: bytes, path: RelativePath) -> Refusal:
    """The refusal for what could not be opened. Only the message depends on the look at it."""
    if error.errno in (errno.ELOOP, errno.ENOTDIR, errno.ENXIO):
        with contextlib.suppress(OSError):
            mode = os.stat(name, dir_fd=directory, follow_symlinks=False).st_mode
            if stat.S_ISLNK(mode):
                return Refusal(
                    "invalid_request",
                    f"`{path.text}` is a symbolic link, and no link is followed; name what it points to",
                    param="path",
                )
            if not stat.S_ISDIR(mode):
                return Refusal(
                    "invalid_request",
                    f"`{path.text}` is {kind_in_words(mode)}, not a directory",
                    param="path",
                )
    if error.errno == errno.ENOENT:
        return Refusal("not_found", f"`{path.text}` is not there", param="path")
    return from_os(error, f"cannot open `{show(path.raw)}`", param="path")
