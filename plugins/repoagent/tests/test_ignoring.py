"""What is ignored is exactly what git ignores."""

import os
import random

import pytest

from repoagent.halt import Halt
from repoagent.ignoring import Patterns
from repoagent.walk import Walk
from space import Space, at, git

NAMES = [
    "a",
    "b",
    "c.o",
    "d.txt",
    "build",
    "x y",
    "é",
    "à",
    "#h",
    "!n",
    "k.log",
    "\\s",
    "sp ",
    "[z]",
    "A",
    "n\nl",
]
PIECES = [
    *(
        "*",
        "?",
        "a",
        "b",
        "c.o",
        "*.o",
        "*.txt",
        "build",
        "x y",
        "é",
        "à",
        "\\#h",
        "\\!n",
        "*.log",
        "**",
        "***",
    ),
    *(
        "[a-c]",
        "[!a]",
        "[^b]",
        "[]]",
        "[a-]",
        "[a-c-e]*",
        "[[:alpha:]]",
        "[![:lower:]]*",
        "[[:al]*",
        "[a",
        "[z]",
    ),
    *(
        "\\\\s",
        "sp\\ ",
        "sp ",
        "\\[z\\]",
        "b*",
        "?.o",
        "**/a",
        "a/**",
        "a/**/b",
        "/a",
        "*/b",
        "a\\",
        "\t",
        "*a*",
    ),
    *(
        "a**b",
        "**a",
        "a**/b",
        "b**/",
        "**/**",
        "*/**",
        "?**",
        "a//b",
        "//a",
        "**\\/a",
        "c**/**",
        "a\t",
        "\\a",
    ),
]


def pattern(chance: random.Random) -> str:
    text = "/".join(chance.choice(PIECES) for _ in range(chance.choice([1, 1, 1, 2, 2, 3])))
    text = "/" * (chance.random() < 0.2) + text + "/" * (chance.random() < 0.25)
    return "!" * (chance.random() < 0.3) + "#" * (chance.random() < 0.05) + text


def fill(space: Space, chance: random.Random, below: str, depth: int) -> None:
    for name in chance.sample(NAMES, 6):
        if depth < 3 and chance.random() < 0.45:
            fill(space, chance, f"{below}{name}/", depth + 1)
        else:
            space.put(f"{below}{name}")
    if depth == 0 or chance.random() < 0.3:
        lines = [pattern(chance) for _ in range(chance.randint(1, 5))]
        space.put(f"{below}.gitignore", chance.choice(["\n", "\r\n"]).join(lines) + "\n")


def files_seen(space: Space) -> set[bytes]:
    with space.root.opened() as descriptor:
        entries = Walk(space.workspace, Halt(30)).entries(descriptor, at(""))
        return {entry.path.raw for entry in entries if entry.kind == "file"}


def files_of_git(space: Space) -> set[bytes]:
    listed = git(space.work, "ls-files", "-z", "--others", "--exclude-standard", encoding="latin-1")
    return {name.encode("latin-1") for name in listed.split("\0")[:-1]}


@pytest.mark.parametrize("seed", range(40))
def test_a_random_tree_is_seen_as_git_sees_it(space: Space, seed: int) -> None:
    fill(space, random.Random(seed), "", 0)
    git(space.work, "init", "--quiet")
    assert files_seen(space) == files_of_git(space)


def test_a_deeper_file_says_otherwise_and_an_ignored_directory_stays_ignored(space: Space) -> None:
    space.put(".gitignore", "*.log\nbuild/\n")
    space.put("kept/.gitignore", "!*.log\n")
    for path in ("a.log", "kept/b.log", "build/c.txt", "build/.gitignore"):
        space.put(path, "!c.txt\n")
    assert files_seen(space) == {b".gitignore", b"kept/.gitignore", b"kept/b.log"}


def test_a_repository_within_has_rules_of_its_own(space: Space) -> None:
    space.put(".gitignore", "*.log\n")
    for path in ("outer/a.log", "inner/b.log"):
        space.put(path)
    (space.work / "inner").mkdir(exist_ok=True)
    git(space.work / "inner", "init", "--quiet")
    assert files_seen(space) == {b".gitignore", b"inner/b.log"}


def test_nothing_in_a_git_directory_is_seen_at_any_level(space: Space) -> None:
    for path in (".git/config", "a/.git/config", "b/.git", "c/.GIT/config", "d/x"):
        space.put(path)
    assert files_seen(space) == {b"d/x"}


def test_a_name_that_is_not_utf_8_is_matched_byte_by_byte(space: Space) -> None:
    space.put(b"caf\xe9.log")
    space.put(b"caf\xe9.txt")
    space.put(".gitignore", b"caf?.log\n")
    assert files_seen(space) == {b"caf\xe9.txt", b".gitignore"}


def test_a_hostile_pattern_costs_no_more_than_others() -> None:
    patterns = Patterns([b"*a" * 60 + b"b", b"**/" * 60 + b"*a*a*a*a*a*a*a*a*a*a*a*b"])
    # Python's own expressions would take longer than the universe has.
    assert patterns.verdict(b"a" * 255, directory=False) is None


def test_a_gitignore_that_is_a_link_or_a_fifo_says_nothing(space: Space) -> None:
    space.put("patterns", "*\n")
    (space.work / ".gitignore").symlink_to("patterns")
    space.put("below/x")
    os.mkfifo(space.work / "below/.gitignore")
    assert files_seen(space) == {b"patterns", b"below/x"}


def test_patterns_that_are_too_large_together_hold_one_by_one() -> None:
    large = [b"*%d" % number + b"[a-z]?" * 100 + b"*" for number in range(250)]
    patterns = Patterns([b"secret", *large, b"!other", b"*.log"])
    assert patterns.verdict(b"secret", directory=False)
    assert patterns.verdict(b"x.log", directory=False)
    assert patterns.verdict(b"other", directory=False) is False
    assert patterns.verdict(b"nothing", directory=False) is None


def test_a_pattern_that_is_too_large_alone_stops_nothing(space: Space) -> None:
    space.put(".gitignore", b"*.log\n" + b"[a-z]" * 100_000 + b"\n")
    space.put("x.log")
    assert files_seen(space) == {b".gitignore"}
