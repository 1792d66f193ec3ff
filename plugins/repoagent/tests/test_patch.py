"""`repo.patch`: whole or not at all, and exactly what the diff says."""

import random
import stat
from typing import Any

import pytest

from repoagent.diff import Hunk, read_diff
from repoagent.halt import Halt
from repoagent.hunks import Misfit, fit
from space import Space, change, git, refused

THREE = """\
--- a/f
+++ b/f
@@ -1,2 +1,2 @@
-one
+ONE
 two
@@ -4,2 +4,2 @@
 four
-five
+FIVE
@@ -7,2 +7,2 @@
 seven
-eight
+EIGHT
"""


def test_a_patch_whose_third_hunk_fails_changes_nothing_and_says_where(space: Space) -> None:
    content = "one\ntwo\nthree\nfour\nfive\nsix\nseven\nNOT EIGHT\n"
    space.put("f", content)
    space.put("g", "old")
    refusal = refused(lambda: space.patch(change("g", "new"), change("new/h", "x"), diff=THREE))
    assert refusal.code == "conflict"
    assert refusal.details == {"path": "f", "hunk": 3, "line": 11, "fileLine": 8}
    assert refusal.message == (
        "hunk 3 of `f` (line 11 of the diff) does not fit: it expects `eight` at line 8,"
        " and there is `NOT EIGHT`; nothing was changed"
    )
    assert space.everything() == {"f": content.encode(), "g": b"old"}


def test_a_diff_applies_at_its_place(space: Space) -> None:
    space.put("f", "one\ntwo\nthree\nfour\nfive\nsix\nseven\neight\n")
    answer = space.patch(diff=THREE)
    assert answer["changes"] == [{"path": "f", "action": "modified", "size": 40}]
    assert space.everything() == {"f": b"ONE\ntwo\nthree\nfour\nFIVE\nsix\nseven\nEIGHT\n"}


def test_a_hunk_that_moved_is_found_if_there_is_one_place_only(space: Space) -> None:
    diff = "--- a/f\n+++ b/f\n@@ -1,2 +1,2 @@\n a\n-b\n+c\n"
    space.put("f", "x\nx\na\nb\n")
    assert space.patch(diff=diff)["changes"][0]["movedLines"] == [2]
    assert space.everything() == {"f": b"x\nx\na\nc\n"}
    space.put("f", "x\na\nb\na\nb\n")
    assert "at several others (2, 4)" in refused(lambda: space.patch(diff=diff)).message
    space.put("f", "a\nb\na\nb\n")
    space.patch(diff=diff)
    assert space.everything() == {"f": b"a\nc\na\nb\n"}


def test_lines_without_context_are_added_where_the_diff_says_or_not_at_all(space: Space) -> None:
    diff = "--- a/f\n+++ b/f\n@@ -2,0 +3 @@\n+new\n"
    space.put("f", "a\nb\nc\n")
    space.patch(diff=diff)
    assert space.everything() == {"f": b"a\nb\nnew\nc\n"}
    space.put("f", "a\n")
    assert refused(lambda: space.patch(diff=diff)).code == "conflict"


@pytest.mark.parametrize(
    ("before", "diff", "says"),
    [
        ("a\r\n", "--- a/f\n+++ b/f\n@@ -1 +1 @@\n-a\n+b\n", "the ends of the lines differ"),
        ("a", "--- a/f\n+++ b/f\n@@ -1 +1 @@\n-a\n+b\n", "without a line break"),
        ("a\n", "--- a/f\n+++ b/f\n@@ -9 +9 @@\n-zz\n+b\n", "the file has 1 lines"),
        ("a\nb\n", "--- a/f\n+++ b/f\n@@ -1 +1 @@\n-a\n+b\n\\ No newline at end of file\n", "more follows"),
        ("a", "--- a/f\n+++ b/f\n@@ -1,0 +2 @@\n+b\n", "behind a line without a line break"),
    ],
)
def test_what_does_not_fit_exactly_is_refused(space: Space, before: str, diff: str, says: str) -> None:
    space.put("f", before)
    refusal = refused(lambda: space.patch(diff=diff))
    assert refusal.code == "conflict"
    assert says in refusal.message
    assert space.everything() == {"f": before.encode()}


@pytest.mark.parametrize(
    ("diff", "says"),
    [
        ("", "holds no file"),
        ("hello\n", "holds no file"),
        ("@@ -1 +1 @@\n-a\n+b\n", "without the name of a file"),
        ("--- a/f\n+++ b/f\n@@ -1,3 +1,3 @@\n a\n-b\n", "ends before all of its lines"),
        ("--- a/f\n+++ b/f\n@@ -1 +1 @@\n-a\n+b\n+c\n", "more lines than its head says"),
        ("--- a/f\n+++ b/f\n@@ -1 +1,2 @@\n-a\n-b\n", "other lines than its head says"),
        ("--- a/f\n+++ b/f\n@@ -1,2 +1,2 @@\n*a\n", "a line that is none of a diff"),
        ("--- a/../x\n+++ b/../x\n@@ -1 +1 @@\n-a\n+b\n", "leads upwards"),
        ("--- /etc/passwd\n+++ /etc/passwd\n@@ -1 +1 @@\n-a\n+b\n", "is absolute"),
        ("--- a/.git/config\n+++ b/.git/config\n@@ -1 +1 @@\n-a\n+b\n", "git's own"),
        ("--- /dev/null\n+++ b/.git/hooks/x\n@@ -0,0 +1 @@\n+b\n", "git's own"),
        (
            "diff --git a/f b/f\nnew file mode 120000\n--- /dev/null\n+++ b/f\n@@ -0,0 +1 @@\n+/x\n",
            "no plain file",
        ),
        ("diff --git a/f b/f\nindex 1..2 100644\nBinary files a/f and b/f differ\n", "a binary file"),
        ("diff --git a/f b/f\nindex 1..2 100644\nGIT binary patch\nliteral 1\nx\n", "a binary file"),
        ("--- /dev/null\n+++ b/f\n@@ -1 +1 @@\n-a\n+b\n", "expects something in it"),
    ],
)
def test_a_diff_that_cannot_be_read_says_at_which_line(space: Space, diff: str, says: str) -> None:
    space.put("f", "a\n")
    refusal = refused(lambda: space.patch(diff=diff))
    assert (refusal.code, refusal.param) == ("invalid_request", "diff")
    assert says in refusal.message
    assert space.everything() == {"f": b"a\n"}


def test_what_git_writes_is_done_with_any_names(space: Space) -> None:
    before = {
        "plain": "1\n2\n3\n",
        "moved/old name\n1": "a\nb\nc\nd\n",
        "gone\té": "x\n",
        "crlf": "a\r\nb\r\n",
        "tool": "t\n",
        'quo"te\\d': "q\n",
        "no newline": "a\nb",
    }
    for name, content in before.items():
        space.put(name, content)
    twin = space.data / "twin"
    git(space.work, "init", "--quiet")
    git(space.work, "add", ".")
    git(space.work, "commit", "--quiet", "--message=before")
    git(space.work, "clone", "--quiet", ".", str(twin))
    (twin / "plain").write_text("1\nzwei\n3\n4\n")
    (twin / "új").mkdir()
    git(twin, "mv", "moved/old name\n1", "új/név")
    (twin / "új/név").write_text("a\nb\nc\nD\n")
    (twin / "gone\té").unlink()
    (twin / "crlf").write_bytes(b"a\r\nB\r\n")
    (twin / "tool").chmod(0o755)
    (twin / 'quo"te\\d').write_text("Q")
    (twin / "no newline").write_text("a\nc")
    (twin / "made by\nus").write_text("new\n")
    (twin / "empty").write_text("")
    git(twin, "add", "--all")
    git(twin, "commit", "--quiet", "--message=after")
    mail = git(twin, "format-patch", "--stdout", "--find-renames", "-1")

    answer = space.patch(diff=mail)
    assert {(told["path"], told["action"]) for told in answer["changes"]} == {
        ("plain", "modified"),
        ("új/név", "renamed"),
        ("gone\té", "deleted"),
        ("crlf", "modified"),
        ("tool", "modified"),
        ('quo"te\\d', "modified"),
        ("no newline", "modified"),
        ("made by\nus", "created"),
        ("empty", "created"),
    }
    git(space.work, "add", "--all")
    assert git(space.work, "write-tree") == git(twin, "rev-parse", "HEAD^{tree}")


def test_a_random_diff_of_git_gives_what_git_gives(space: Space) -> None:
    chance = random.Random(5)
    words = [b"a", b"b", b"c", b"", b"--", b"++ x", b"- y", b"\\ z", b"\xc3\xa9", b"@@ -1 +1 @@"]

    def line() -> bytes:
        return chance.choice(words) + chance.choice([b"\n", b"\n", b"\n", b"\r\n"])

    compared = 0
    for _ in range(60):
        old = [line() for _ in range(chance.randint(1, 40))]
        new = list(old)
        for _ in range(chance.randint(1, 5)):
            at = chance.randint(0, len(new))
            new[at : at + chance.randint(0, 2)] = [line() for _ in range(chance.randint(0, 2))]
        before, after = b"".join(old), b"".join(new)
        before = before[: -1 if chance.random() < 0.3 else None]
        after = after[: -1 if chance.random() < 0.3 else None]
        if before == after or not before or not after:
            continue
        (space.data / "before").write_bytes(before)
        (space.data / "after").write_bytes(after)
        context = f"--unified={chance.choice([0, 1, 3])}"
        command = ("diff", "--no-index", "--no-renames", context, "before", "after")
        (file,) = read_diff(git(space.data, *command, fine=(0, 1)))
        fitted = fit(before, file.hunks, Halt(30))
        assert (fitted.content, any(fitted.moved)) == (after, False)
        compared += 1
    assert compared > 40


def test_changes_of_every_mode(space: Space) -> None:
    for name in ("over", "add", "cut", "gone"):
        space.put(name, "old")
    (space.work / "over").chmod(0o750)
    answer = space.patch(
        change("over", "new"),
        change("add", "+", "append"),
        change("cut", "", "truncate"),
        change("gone", mode="delete"),
        change("a b/é\n", "made", "create"),
    )
    assert [told["action"] for told in answer["changes"]] == ["modified"] * 3 + ["deleted", "created"]
    assert space.everything() == {
        "over": b"new",
        "add": b"old+",
        "cut": b"",
        "a b": None,
        "a b/é\n": b"made",
    }
    assert stat.S_IMODE((space.work / "over").stat().st_mode) == 0o750


@pytest.mark.parametrize(
    ("wanted", "code"),
    [
        ([change("x", "1"), change("x", "2")], "invalid_request"),
        ([change("x", "1"), change("there", "2", "create")], "conflict"),
        ([change("x", "1"), change("nowhere", mode="delete")], "not_found"),
        ([change("x", "1"), change("there/below", "2")], "invalid_request"),
        ([change("x", "1"), change("x/below", "2")], "invalid_request"),
        ([change("x", "1"), change("directory", "2")], "invalid_request"),
        ([], "invalid_request"),
    ],
)
def test_if_one_change_cannot_be_made_none_is(space: Space, wanted: list[Any], code: str) -> None:
    space.put("there", "old")
    (space.work / "directory").mkdir()
    assert refused(lambda: space.patch(*wanted)).code == code
    assert space.everything() == {"there": b"old", "directory": None}
    assert not list((space.data / "journal").glob("*.journal"))


def test_trying_changes_nothing(space: Space) -> None:
    space.put("f", "a\n")
    diff = "--- a/f\n+++ b/f\n@@ -1 +1 @@\n-a\n+b\n"
    assert not space.patch(change("g", "x"), diff=diff, dry_run=True)["applied"]
    assert space.everything() == {"f": b"a\n"}
    assert not list((space.data / "journal").glob("*.journal"))


def test_a_very_large_patch_is_refused_before_it_is_written(space: Space) -> None:
    space.bounded(file_bytes=4 << 20)
    large = [change(f"f{number}", "x" * (4 << 20)) for number in range(17)]
    assert refused(lambda: space.patch(*large)).code == "payload_too_large"
    assert space.everything() == {}


def test_hunks_that_moved_are_looked_for_until_the_time_is_over(space: Space) -> None:
    lines = b"".join(b"%d\n" % number for number in range(1_000))
    hunks = [Hunk(1, number, 0, [b"%d\n" % (number + 500)], [b"x\n"]) for number in range(100)]
    assert fit(lines, hunks, Halt(30)).moved[0] == 500
    halt = Halt(30)
    halt.stop()
    assert refused(lambda: fit(lines, hunks, halt)).code == "timeout"


def test_a_line_is_no_end_of_another(space: Space) -> None:
    content = b"yx\n" * 1_000 + b"x\nx\n"
    assert fit(content, [Hunk(1, 1, 5, [b"x\n", b"x\n"], [b"z\n"])], Halt(30)).moved == [995]
    with pytest.raises(Misfit, match=r"1001, 1002"):
        fit(content, [Hunk(1, 1, 5, [b"x\n"], [b"z\n"])], Halt(30))
