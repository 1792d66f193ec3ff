"""`repo.file.read` and `repo.file.write`."""

import base64
import os
import stat
from typing import Any

import pytest

from repoagent import files
from repoagent.files import Encoding, Mode
from repoagent.halt import Halt
from repoagent.relative import RelativePath
from space import Space, at, refused


def read(space: Space, path: str, encoding: Encoding | None = None, **options: Any) -> dict[str, Any]:
    asked = {"offset": 0, "max_bytes": None, **options}
    return files.read(space.workspace, space.root, at(path), encoding=encoding, **asked)


def write(space: Space, path: str, data: bytes, mode: Mode = "overwrite") -> dict[str, Any]:
    return files.write(
        space.workspace, space.root, at(path), data, mode=mode, journal=space.journal, halt=Halt(30)
    )


@pytest.mark.parametrize("name", ["a b.txt", "é/ü.txt", "line\nbreak", "-rf", "$(x)", "'\"`", "\\"])
def test_a_file_of_any_name_is_written_and_read(space: Space, name: str) -> None:
    assert write(space, name, b"hello") == {"root": "work", "path": name, "size": 5, "created": True}
    answer = read(space, name)
    modified = answer.pop("modifiedAt")
    assert answer == {
        "root": "work",
        "path": name,
        "content": "hello",
        "encoding": "utf-8",
        "size": 5,
        "executable": False,
        "offset": 0,
        "truncated": False,
    }
    assert modified.endswith("Z")


def test_a_name_that_is_not_utf_8_is_reached_by_its_bytes(space: Space) -> None:
    path = RelativePath.parse_base64(base64.b64encode(b"caf\xe9").decode())
    files.write(
        space.workspace, space.root, path, b"x", mode="overwrite", journal=space.journal, halt=Halt(30)
    )
    assert os.listdir(bytes(space.work)) == [b"caf\xe9"]
    answer = files.read(space.workspace, space.root, path, encoding=None, offset=0, max_bytes=None)
    assert (answer["path"], answer["pathBase64"]) == ("caf\ufffd", base64.b64encode(b"caf\xe9").decode())


def test_bytes_come_in_base64(space: Space) -> None:
    data = bytes(range(256))
    write(space, "x", data)
    assert read(space, "x")["encoding"] == "base64"
    assert base64.b64decode(read(space, "x", "base64")["content"]) == data
    assert refused(lambda: read(space, "x", "utf-8")).param == "encoding"


def test_a_read_is_bounded_and_says_so(space: Space) -> None:
    space.bounded(output_bytes=10)
    write(space, "x", "aaaaaaaaaé-bbb".encode())
    first = read(space, "x")
    assert (first["content"], first["truncated"], first["size"]) == ("a" * 9, True, 15)
    rest = read(space, "x", offset=9)
    assert (rest["content"], rest["truncated"]) == ("é-bbb", False)
    assert read(space, "x", max_bytes=3)["content"] == "aaa"
    assert read(space, "x", offset=99)["content"] == ""


def test_a_huge_file_is_read_in_part(space: Space) -> None:
    with (space.work / "huge").open("wb") as file:
        file.truncate(1 << 40)
    answer = read(space, "huge", "base64", offset=1 << 39)
    assert (answer["size"], answer["truncated"]) == (1 << 40, True)
    assert refused(lambda: write(space, "huge", b"x", "append")).code == "payload_too_large"


def test_modes_of_writing(space: Space) -> None:
    write(space, "x", b"one")
    assert write(space, "x", b"-two", "append")["size"] == 7
    assert read(space, "x")["content"] == "one-two"
    write(space, "x", b"", "truncate")
    assert read(space, "x")["content"] == ""
    assert write(space, "new/deep/y", b"y", "append")["created"]


def test_permissions_stay_and_borrowed_rights_do_not(space: Space) -> None:
    file = space.put("run", "x")
    file.chmod(0o4755)
    write(space, "run", b"y")
    assert stat.S_IMODE(file.stat().st_mode) == 0o755


def test_a_write_leaves_nothing_beside_the_file(space: Space) -> None:
    write(space, "a/x", b"1")
    write(space, "a/x", b"2")
    assert space.everything() == {"a": None, "a/x": b"2"}
    assert [path.name for path in (space.data / "journal").iterdir()] == ["lock"]


def test_what_is_too_large_is_not_written(space: Space) -> None:
    space.bounded(file_bytes=10)
    assert refused(lambda: write(space, "x", b"x" * 11)).code == "payload_too_large"
    write(space, "x", b"x" * 10)
    assert refused(lambda: write(space, "x", b"x", "append")).code == "payload_too_large"
    assert space.everything() == {"x": b"x" * 10}


def test_a_file_in_the_way_of_a_directory_is_said(space: Space) -> None:
    space.put("a", "x")
    assert "not a directory" in refused(lambda: write(space, "a/b", b"x")).message
    assert refused(lambda: read(space, "a/b")).code == "invalid_request"
    assert refused(lambda: read(space, "")).code == "invalid_request"
    assert refused(lambda: read(space, "b")).code == "not_found"
    assert space.everything() == {"a": b"x"}


@pytest.mark.skipif(os.geteuid() == 0, reason="nothing is forbidden to root")
def test_what_is_forbidden_to_the_plugin_is_said(space: Space) -> None:
    space.put("x", "x").chmod(0)
    assert refused(lambda: read(space, "x")).code == "conflict"


def test_content_that_is_not_in_its_encoding_is_refused() -> None:
    assert files.decode("aGk=", "base64") == b"hi"
    for content in ("aGk", "a?=="):
        assert refused(lambda content=content: files.decode(content, "base64")).param == "content"  # type: ignore[misc]
    assert refused(lambda: files.decode("\ud800", "utf-8")).param == "content"
