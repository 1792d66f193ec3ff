"""A change is whole or it is not there: when a step fails, and when the process dies at any of them."""

import errno
import multiprocessing
import os
import signal
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest

from repoagent import confined
from repoagent.files import state
from repoagent.halt import Halt
from repoagent.journal import Journal
from repoagent.recovery import recover
from repoagent.refusal import Refusal
from repoagent.relative import RelativePath
from repoagent.transaction import Change, Content, apply
from repoagent.undertaking import Identity
from space import Space, at, change, refused

BEFORE = {"over": b"old", "gone": b"going", "d": None, "d/kept": b"kept"}
AFTER = {
    "over": b"new",
    "d": None,
    "d/kept": b"kept",
    "d/made": b"made",
    "n": None,
    "n/e": None,
    "n/e/w\n": b"deep",
}
# recorded, 4 staged, all staged, kept and placed of 2, placed of 2, flushed, done
STEPS = 1 + 4 + 1 + 2 * 2 + 2 + 1 + 1


def changes(space: Space) -> list[Change]:
    def now(path: str) -> Identity | None:
        found = state(space.workspace, space.root, at(path), content=False)
        return found.identity if found else None

    return [
        Change(at("over"), now("over"), Content(b"new")),
        Change(at("gone"), now("gone"), None),
        Change(at("d/made"), None, Content(b"made")),
        Change(at("n/e/w\n"), None, Content(b"deep")),
    ]


@pytest.fixture
def filled(space: Space) -> Space:
    for path, content in BEFORE.items():
        if content is not None:
            space.put(path, content)
    return space


def run(space: Space, after_step: Callable[[str], None]) -> None:
    with space.journal.locked(Halt(30)):
        apply(space.root, changes(space), space.journal, Halt(30), after_step=after_step)


def dies(space: Space, at_step: int) -> None:
    """Makes the changes in a process that is killed after so many steps."""

    def child() -> None:
        left = at_step

        def step(_: str) -> None:
            nonlocal left
            left -= 1
            if left == 0:
                os.kill(os.getpid(), signal.SIGKILL)

        run(space, step)

    process = multiprocessing.get_context("fork").Process(target=child)
    process.start()
    process.join()
    assert process.exitcode == (-signal.SIGKILL if at_step <= STEPS else 0)


def recovered(space: Space) -> int:
    """What the next start does."""
    journal = Journal(space.data / "journal")
    with journal.locked(Halt(30)):
        return recover(journal)


@pytest.mark.parametrize("at_step", range(1, STEPS + 2))
def test_a_process_that_dies_at_any_step_leaves_all_or_nothing(filled: Space, at_step: int) -> None:
    dies(filled, at_step)
    recovered(filled)
    assert filled.everything() == (AFTER if at_step >= STEPS else BEFORE)
    assert os.listdir(filled.data / "journal") == ["lock"]


@pytest.mark.parametrize("at_step", range(1, STEPS))
def test_the_next_change_takes_back_what_a_crash_left(filled: Space, at_step: int) -> None:
    dies(filled, at_step)
    filled.patch(change("other", "x"))
    assert filled.everything() == {**BEFORE, "other": b"x"}


def test_a_recovery_that_dies_itself_is_done_again(filled: Space, monkeypatch: pytest.MonkeyPatch) -> None:
    for died_at in range(1, 12):
        dies(filled, STEPS - 1)
        left = died_at
        real = {name: getattr(os, name) for name in ("rename", "unlink", "rmdir")}

        def failing(real: Callable[..., None]) -> Callable[..., None]:
            def call(*arguments: object, **options: object) -> None:
                nonlocal left
                left -= 1
                if left <= 0:
                    raise OSError(errno.EIO, "the disk went away")
                real(*arguments, **options)

            return call

        with monkeypatch.context() as patched:
            for name in real:
                patched.setattr(f"repoagent.undertaking.os.{name}", failing(real[name]))
            recovered(filled)
        recovered(filled)
        assert filled.everything() == BEFORE


@pytest.mark.parametrize("failing", ["rename", "link", "unlink", "fsync", "open", "write"])
@pytest.mark.parametrize("at_call", range(1, 6))
def test_a_step_that_fails_takes_all_back(
    filled: Space, monkeypatch: pytest.MonkeyPatch, failing: str, at_call: int
) -> None:
    real = getattr(os, failing)
    left = at_call
    over = False

    def call(*arguments: object, **options: object) -> object:
        nonlocal left
        left -= 1
        if left == 0 and not over:
            raise OSError(errno.ENOSPC, "no space left on device")
        return real(*arguments, **options)

    # Both sides are looked at before and after, outside of what fails.
    planned = changes(filled)
    with filled.journal.locked(Halt(30)), monkeypatch.context() as patched:
        patched.setattr(f"repoagent.transaction.os.{failing}", call)
        expected = BEFORE
        with suppress(Refusal):
            apply(filled.root, planned, filled.journal, Halt(30))
            expected = AFTER
        over = True
    recovered(filled)
    assert filled.everything() == expected


def test_without_hard_links_it_is_the_same(filled: Space, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise OSError(errno.EOPNOTSUPP, "not supported")

    monkeypatch.setattr("repoagent.transaction.os.link", refuse)
    for at_step in range(1, STEPS):
        dies(filled, at_step)
        recovered(filled)
        assert filled.everything() == BEFORE
    run(filled, lambda _: None)
    assert filled.everything() == AFTER


def test_what_somebody_else_changed_meanwhile_is_not_overwritten(filled: Space) -> None:
    for path in ("over", "gone", "d/made", "n/e/w\n"):

        def meddle(step: str, path: str = path) -> None:
            if step == "all staged":
                filled.put(path, "theirs")

        refusal = refused(lambda meddle=meddle: run(filled, meddle))  # type: ignore[misc]
        assert refusal.code == "conflict"
        assert filled.everything().pop(path) == b"theirs"
        everything = filled.everything()
        assert everything | BEFORE | {path: b"theirs"} == everything | {path: b"theirs"}
        assert not [name for name in everything if ".bkg" in name]
        # As it was, for the next one.
        for left in ("over", "gone"):
            filled.put(left, BEFORE[left] or b"")
        for made in ("d/made", "n/e/w\n"):
            (filled.work / made).unlink(missing_ok=True)
        for directory in ("n/e", "n"):
            if (filled.work / directory).exists():
                (filled.work / directory).rmdir()
        assert filled.everything() == BEFORE


def test_a_file_that_was_moved_away_meanwhile_leaves_no_second_name(filled: Space) -> None:
    def meddle(step: str) -> None:
        if step == "kept":
            (filled.work / "over").rename(filled.work / "elsewhere")
            filled.put("over", "theirs")
            raise OSError(errno.EIO, "and then the disk failed")

    refused(lambda: run(filled, meddle))
    assert filled.everything() == {**BEFORE, "over": b"theirs", "elsewhere": b"old"}


def test_what_was_edited_between_crash_and_start_is_kept_beside_the_old(filled: Space) -> None:
    dies(filled, STEPS - 1)
    (filled.work / "over").write_text("edited by hand")
    recovered(filled)
    left = filled.everything()
    (kept,) = [name for name in left if name.startswith(".bkg-repoagent-")]
    assert (left.pop("over"), left.pop(kept)) == (b"edited by hand", b"old")
    assert left == {path: content for path, content in BEFORE.items() if path != "over"}


def test_a_root_that_is_gone_does_not_stop_changes_elsewhere(filled: Space, tmp_path: Path) -> None:
    dies(filled, STEPS - 1)
    filled.work.rename(tmp_path / "away")
    other = Space.__new__(Space)
    other.__dict__.update(filled.__dict__)
    filled.work.mkdir()
    recovered(other)
    filled.patch(change("x", "y"))
    assert filled.everything() == {"x": b"y"}


def test_changes_wait_for_one_another(filled: Space) -> None:
    with filled.journal.locked(Halt(30)):
        halt = Halt(0.05)
        refusal = refused(lambda: _locked(filled.journal, halt))
    assert refusal.code == "timeout"
    _locked(filled.journal, Halt(30))


def _locked(journal: Journal, halt: Halt) -> None:
    with journal.locked(halt):
        pass


def test_a_torn_record_is_one_that_had_not_begun(space: Space) -> None:
    (space.data / "journal/x.journal").write_bytes(b'{"state": "stag')
    assert recovered(space) == 0
    assert os.listdir(space.data / "journal") == ["lock"]


@pytest.mark.parametrize(
    "record",
    [
        b"[]\n",
        b"1\n",
        b"{}\n",
        b'{"state": "staging", "root": 1, "steps": {}, "directories": []}\n',
        b'{"state": "staging", "root": "%(work)s", "directories": [],'
        b' "steps": [{"path": "Li4vc2VjcmV0", "new": null, "old": ".bkg-repoagent-%(id)s-0.old"}]}\n',
        b'{"state": "staging", "root": "%(work)s", "directories": [],'
        b' "steps": [{"path": "YQ==", "new": "../secret", "old": ".bkg-repoagent-%(id)s-0.old"}]}\n',
        b'{"state": "staging", "root": "%(work)s", "directories": ["Li4vZW1wdHk="], "steps": []}\n',
    ],
)
def test_a_record_that_is_not_ours_is_left_alone(filled: Space, record: bytes) -> None:
    (filled.work.parent / "empty").mkdir()
    for name, value in {b"work": bytes(filled.work), b"id": b"0" * 32}.items():
        record = record.replace(b"%(" + name + b")s", value)
    kept = filled.data / "journal" / "foreign.journal"
    kept.write_bytes(record)
    filled.patch(change("other", "x"))
    assert filled.everything() == {**BEFORE, "other": b"x"}
    assert filled.secret.read_text() == "the secret\n"
    assert (filled.work.parent / "empty").is_dir()
    assert kept.exists()


def test_a_directory_that_cannot_be_opened_now_does_not_lose_the_record(
    filled: Space, monkeypatch: pytest.MonkeyPatch
) -> None:
    dies(filled, STEPS - 1)
    real = confined.open_directory

    def failing(above: int, path: RelativePath, *, make: bool = False) -> int:
        if path.parts:
            raise Refusal("overloaded", "too many open files")
        return real(above, path, make=make)

    with monkeypatch.context() as patched:
        patched.setattr(confined, "open_directory", failing)
        recovered(filled)
    recovered(filled)
    assert filled.everything() == BEFORE
