"""`repo.tree`, `repo.search` and `repo.analyze`."""

import base64
import os
import resource
import tracemalloc
from typing import Any

from repoagent.analyze import analyze
from repoagent.halt import Halt
from repoagent.scanning import Query
from repoagent.search import search
from repoagent.tree import tree
from space import Space, at, refused


def look(space: Space, path: str = "", *, depth: int | None = None, limit: int = 100) -> dict[str, Any]:
    return tree(space.workspace, space.root, at(path), depth=depth, limit=limit, halt=Halt(30))


def find(
    space: Space,
    query: str,
    path: str = "",
    *,
    limit: int = 100,
    expression: bool = False,
    case: bool = True,
) -> dict[str, Any]:
    wanted = Query(query, expression=expression, case_sensitive=case)
    return search(space.workspace, space.root, at(path), wanted, max_results=limit, halt=Halt(30))


def places(found: dict[str, Any]) -> list[tuple[str, int, int]]:
    return [(match["path"], match["line"], match["column"]) for match in found["matches"]]


def test_names_come_in_order_whatever_they_hold(space: Space) -> None:
    for name in ("a b", "a\nb", "é", "-x", "d/e"):
        space.put(name, "12")
    space.put(b"\xff", "1")
    listed = look(space)["entries"]
    assert [entry["path"] for entry in listed] == ["-x", "a\nb", "a b", "d", "d/e", "é", "\ufffd"]
    assert [entry["size"] for entry in listed] == [2, 2, 2, 0, 2, 2, 1]
    assert listed[-1]["pathBase64"] == base64.b64encode(b"\xff").decode()
    assert all(entry["modified_at"].endswith("Z") for entry in listed)


def test_depth_and_limit_bound_the_tree(space: Space) -> None:
    for name in ("a/b/c/d", "e"):
        space.put(name)
    assert [entry["path"] for entry in look(space, depth=2)["entries"]] == ["a", "a/b", "e"]
    assert not look(space, depth=2)["truncated"]
    assert [entry["path"] for entry in look(space, limit=3)["entries"]] == ["a", "a/b", "a/b/c"]
    assert look(space, limit=3)["truncated"]
    assert [entry["path"] for entry in look(space, "a/b")["entries"]] == ["a/b/c", "a/b/c/d"]
    assert refused(lambda: look(space, "zz")).code == "not_found"
    assert refused(lambda: look(space, "e")).code == "invalid_request"
    space.bounded(depth=2)
    assert look(space)["truncated"]
    space.bounded(entries=2)
    assert look(space)["truncated"]


def test_a_deep_tree_is_bounded_and_holds_no_descriptors(space: Space) -> None:
    descriptor = os.open(space.work, os.O_RDONLY | os.O_DIRECTORY)
    for _ in range(150):
        os.mkdir("d", dir_fd=descriptor)
        below = os.open("d", os.O_RDONLY | os.O_DIRECTORY, dir_fd=descriptor)
        os.close(descriptor)
        descriptor = below
    os.close(descriptor)
    before = len(os.listdir("/proc/self/fd"))
    answer = look(space, limit=10_000)
    assert (len(answer["entries"]), answer["truncated"]) == (64, True)
    assert len(os.listdir("/proc/self/fd")) == before


def test_a_text_is_found_with_line_and_column(space: Space) -> None:
    space.put("a/x.py", "one\nzwei: é needle and needle\r\n\n  needle")
    space.put("b.txt", "Needle\n")
    assert places(find(space, "needle")) == [("a/x.py", 2, 9), ("a/x.py", 4, 3)]
    assert places(find(space, "NEEDLE", case=False)) == [
        ("a/x.py", 2, 9),
        ("a/x.py", 4, 3),
        ("b.txt", 1, 1),
    ]
    assert places(find(space, "needle", "a/x.py", limit=1)) == [("a/x.py", 2, 9)]
    assert find(space, "needle", limit=1)["truncated"]
    assert find(space, "É needle", case=False)["matches"][0]["snippet"] == "zwei: é needle and needle"


def test_a_text_is_no_expression_unless_asked_for(space: Space) -> None:
    space.put("x", "a.b\naxb\n")
    assert places(find(space, "a.b")) == [("x", 1, 1)]
    assert places(find(space, "^a.b$", expression=True)) == [("x", 1, 1), ("x", 2, 1)]
    for query in ("(", "(?=x)", "\\1"):
        assert refused(lambda query=query: find(space, query, expression=True)).param == "query"  # type: ignore[misc]
    for query in ("", "a\nb", "x" * 1_001):
        assert refused(lambda query=query: find(space, query)).param == "query"  # type: ignore[misc]


def test_an_expression_that_would_backtrack_for_ever_does_not(space: Space) -> None:
    space.put("x", "a" * 50_000 + "\n")
    assert places(find(space, "(a*)*b", expression=True)) == []


def test_binary_and_ignored_files_are_left_out(space: Space) -> None:
    space.put("binary", b"needle\0needle")
    space.put("ignored", "needle")
    space.put(".gitignore", "ignored\n")
    space.put("latin", b"caf\xe9 needle\n")
    found = find(space, "needle")
    assert places(found) == [("latin", 1, 6)]
    assert found["filesSkipped"] == 1


def test_a_huge_file_of_one_line_is_searched_in_little_memory(space: Space) -> None:
    with (space.work / "huge").open("wb") as file:
        for _ in range(64):
            file.write(b"x" * (1 << 20))
        file.write(b"needle")
        file.write(b"y" * (1 << 20) + b"\nneedle")
    tracemalloc.start()
    found = find(space, "needle")
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert places(found) == [("huge", 1, (64 << 20) + 1), ("huge", 2, 1)]
    assert most < 8 << 20
    assert len(found["matches"][0]["snippet"]) <= 240


def test_a_match_at_the_border_of_two_pieces_is_found_once(space: Space) -> None:
    for start in range((256 << 10) - 8, (256 << 10) + 2):
        space.put("x", "x" * start + "needle" + "x" * 300_000 + "\n")
        assert places(find(space, "needle")) == [("x", 1, start + 1)]


def test_a_search_stops_when_nobody_waits(space: Space) -> None:
    space.put("x", "a\n" * 1000)
    halt = Halt()
    halt.stop()
    wanted = Query("a", expression=False, case_sensitive=True)
    refusal = refused(lambda: search(space.workspace, space.root, at(""), wanted, max_results=9, halt=halt))
    assert refusal.code == "timeout"


def test_a_summary_counts_what_is_not_ignored(space: Space) -> None:
    space.put("a/x.py", "needle\n")
    space.put("b/y.PY", "12345")
    space.put("Makefile", "")
    space.put("out/z", "123456789")
    space.put(".gitignore", "out/\n")
    query = Query("NEEDLE", expression=False, case_sensitive=False)
    summary = analyze(space.workspace, space.root, at(""), query, max_files=100, halt=Halt(30))["summary"]
    matches = summary.pop("matches")
    assert [(match["path"], match["snippet"]) for match in matches] == [("a/x.py", "needle")]
    assert summary == {
        "total_files": 4,
        "total_directories": 2,
        "total_size": 17,
        "extensions": [
            {"extension": "", "files": 2, "size": 5},
            {"extension": "py", "files": 2, "size": 12},
        ],
        "truncated": False,
    }
    fewer = analyze(space.workspace, space.root, at(""), None, max_files=2, halt=Halt(30))["summary"]
    assert (fewer["total_files"], fewer["truncated"], fewer["matches"]) == (2, True, [])


def test_no_descriptor_is_left_open(space: Space) -> None:
    for number in range(50):
        space.put(f"d{number}/x", "needle\n" * 10)
    before = len(os.listdir("/proc/self/fd"))
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (before + 20, hard))
    try:
        for limit in (1, 5, 1_000):
            find(space, "needle", limit=limit)
            look(space, limit=limit)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert len(os.listdir("/proc/self/fd")) == before
