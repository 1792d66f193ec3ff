"""Nothing outside of a root is read or written, whatever the tree is made of and however it changes."""

import ctypes
import os
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from repoagent import files
from repoagent.halt import Halt
from repoagent.refusal import Refusal
from repoagent.scanning import Query
from repoagent.search import search
from repoagent.settings import RepoSettings, workspace
from repoagent.tree import tree
from space import Space, at, change, refused

TRIES = 3_000


def read(space: Space, path: str) -> str:
    answer = files.read(space.workspace, space.root, at(path), encoding=None, offset=0, max_bytes=None)
    return str(answer["content"])


def write(space: Space, path: str, content: str) -> None:
    files.write(
        space.workspace,
        space.root,
        at(path),
        content.encode(),
        mode="overwrite",
        journal=space.journal,
        halt=Halt(30),
    )


@pytest.mark.parametrize(
    "target", ["../secret", "inside", "nowhere", "/etc/passwd", "."], ids=lambda target: f"to {target}"
)
def test_a_link_is_neither_read_nor_written_wherever_it_points(space: Space, target: str) -> None:
    space.put("inside", "inside")
    (space.work / "link").symlink_to(target)
    for work in (lambda: read(space, "link"), lambda: write(space, "link", "x")):
        assert refused(work).code == "invalid_request"
    assert os.readlink(space.work / "link") == target
    assert space.secret.read_text() == "the secret\n"


def test_no_link_is_followed_on_the_way(space: Space) -> None:
    (space.work / "up").symlink_to("..")
    for work in (
        lambda: read(space, "up/secret"),
        lambda: write(space, "up/secret", "x"),
        lambda: write(space, "up/new/file", "x"),
        lambda: space.patch(change("up/secret", "x")),
        lambda: space.patch(change("up/secret", mode="delete")),
    ):
        refusal = refused(work)
        assert refusal.code == "invalid_request"
        assert "symbolic link" in refusal.message
    assert sorted(path.name for path in space.work.parent.iterdir()) == ["data", "secret", "work"]


def test_links_and_devices_are_listed_and_not_opened(space: Space) -> None:
    space.put("file", "needle")
    (space.work / "link").symlink_to("../secret")
    os.mkfifo(space.work / "fifo")
    listed = tree(space.workspace, space.root, at(""), depth=None, limit=100, halt=Halt(30))
    assert [(entry["path"], entry["kind"]) for entry in listed["entries"]] == [
        ("fifo", "other"),
        ("file", "file"),
        ("link", "link"),
    ]
    query = Query("e", expression=False, case_sensitive=True)
    found = search(space.workspace, space.root, at(""), query, max_results=9, halt=Halt(30))
    assert [match["path"] for match in found["matches"]] == ["file"]


def test_a_fifo_a_socket_and_a_directory_are_no_files(space: Space) -> None:
    os.mkfifo(space.work / "fifo")
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(space.work / "socket"))
    (space.work / "directory").mkdir()
    for name in ("fifo", "socket", "directory"):
        assert refused(lambda name=name: read(space, name)).code == "invalid_request"  # type: ignore[misc]
        assert refused(lambda name=name: write(space, name, "x")).code == "invalid_request"  # type: ignore[misc]
    listener.close()


def test_a_file_with_another_name_elsewhere_is_read_only_if_the_operator_says_so(space: Space) -> None:
    os.link(space.secret, space.work / "linked")
    assert "hard links" in refused(lambda: read(space, "linked")).message
    # Writing puts another file there; the one elsewhere stays as it is.
    write(space, "linked", "ours")
    assert space.secret.read_text() == "the secret\n"
    os.link(space.secret, space.work / "again")
    space.bounded(hard_links=True)
    assert read(space, "again") == "the secret\n"


def test_what_the_operator_hides_is_not_there(tmp_path: Path) -> None:
    space = Space(tmp_path)
    space.put("keys/private", "the key")
    space.put("notes.secret", "a note")
    space.put(".gitignore", "!keys/\n!*.secret\n")
    settings = RepoSettings(roots=[str(space.work)], ignore=["keys/", "*.secret"])
    space.workspace = workspace(settings, space.data)
    listed = tree(space.workspace, space.root, at(""), depth=None, limit=100, halt=Halt(30))
    assert [entry["path"] for entry in listed["entries"]] == [".gitignore"]
    for path in ("keys/private", "notes.secret"):
        assert refused(lambda path=path: read(space, path)).code == "not_found"  # type: ignore[misc]
        assert refused(lambda path=path: write(space, path, "")).code == "not_found"  # type: ignore[misc]
        assert refused(lambda path=path: space.patch(change(path))).code == "not_found"  # type: ignore[misc]


AT_FDCWD, RENAME_EXCHANGE = -100, 2
renameat2 = ctypes.CDLL(None, use_errno=True).renameat2


def exchange(one: Path, other: Path) -> None:
    """Lets two names change places at once."""
    if renameat2(AT_FDCWD, bytes(one), AT_FDCWD, bytes(other), RENAME_EXCHANGE):
        raise OSError(ctypes.get_errno(), "these cannot be exchanged")


@contextmanager
def swapping(swap: Callable[[], None]) -> Iterator[list[int]]:
    """Does `swap` again and again beside the block; how often, is in what it yields."""
    over = threading.Event()
    swaps = [0]

    def again() -> None:
        while not over.is_set():
            swap()
            swaps[0] += 1

    thread = threading.Thread(target=again)
    thread.start()
    try:
        yield swaps
    finally:
        over.set()
        thread.join()


def test_a_directory_that_becomes_a_link_at_any_moment_leads_nowhere(space: Space, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "file").write_text("outside")
    space.put("place/file", "inside")
    link = space.work / "link"
    link.symlink_to(outside)

    seen, read_well, written = set(), 0, 0
    query = Query("side", expression=False, case_sensitive=True)
    with swapping(lambda: exchange(space.work / "place", link)) as swaps:
        for number in range(TRIES):
            with suppress(Refusal):
                seen.add(read(space, "place/file"))
                read_well += 1
            with suppress(Refusal):
                write(space, "place/file", "inside")
                written += 1
            with suppress(Refusal):
                write(space, f"place/new-{number % 10}/file", "inside")
            if number % 10 == 0:
                found = search(space.workspace, space.root, at(""), query, max_results=99, halt=Halt(30))
                seen.update(match["snippet"] for match in found["matches"])
    assert seen == {"inside"}
    assert min(swaps[0], read_well, written) > 0
    assert {path.name: path.read_text() for path in outside.iterdir()} == {"file": "outside"}


def test_a_file_that_becomes_a_link_at_any_moment_is_not_followed(space: Space) -> None:
    file, link = space.put("file", "inside"), space.work / "link"
    link.symlink_to(space.secret)

    def swap() -> None:
        exchange(file, link)
        if not (file.is_symlink() or link.is_symlink()):
            # A write took the place of the link.
            link.unlink()
            link.symlink_to(space.secret)

    seen, written = set(), 0
    with swapping(swap) as swaps:
        for _ in range(TRIES):
            with suppress(Refusal):
                seen.add(read(space, "file"))
            with suppress(Refusal):
                write(space, "file", "inside")
                written += 1
    assert seen == {"inside"}
    assert min(swaps[0], written) > 0
    assert space.secret.read_text() == "the secret\n"
    assert not [name for name in space.everything() if name.startswith(".bkg")]


def test_whoever_waits_at_a_fifo_waits_on(space: Space, monkeypatch: pytest.MonkeyPatch) -> None:
    os.mkfifo(space.work / "pipe")
    opened: list[object] = []
    real = os.open

    def noting(name: Any, *arguments: Any, **options: Any) -> int:
        opened.append(name)
        return real(name, *arguments, **options)

    monkeypatch.setattr("repoagent.confined.os.open", noting)
    refused(lambda: read(space, "pipe"))
    assert b"pipe" not in opened
