"""Which paths callers may write."""

import base64

import pytest

from repoagent.relative import RelativePath, is_git
from space import at, refused


@pytest.mark.parametrize(
    ("path", "says"),
    [
        ("../secret", "leads upwards"),
        ("a/../../secret", "leads upwards"),
        ("a/..", "leads upwards"),
        ("/etc/passwd", "is absolute"),
        ("//etc/passwd", "is absolute"),
        ("a//b", "has an empty part"),
        ("a\0b", "NUL"),
        (".git/config", "git's own"),
        ("a/.git", "git's own"),
        (".GIT/config", "git's own"),
        (".g\u200cit/config", "git's own"),
        (".git /config", "git's own"),
        (".git./config", "git's own"),
        ("GIT~1/config", "git's own"),
        (".git::$INDEX_ALLOCATION/config", "git's own"),
        (".bkg-repoagent-x", "this plugin's own"),
        ("x" * 256, "longer than 255"),
        ("x/" * 3_000, "longer than 4,096"),
        ("\ud800", "surrogate"),
    ],
)
def test_a_path_that_leads_elsewhere_is_refused(path: str, says: str) -> None:
    refusal = refused(lambda: at(path))
    assert (refusal.code, refusal.param) == ("invalid_request", "path")
    assert says in refusal.message


@pytest.mark.parametrize(
    ("path", "parts"),
    [
        ("", ()),
        (".", ()),
        ("./a/", (b"a",)),
        ("a/./b", (b"a", b"b")),
        ("...", (b"...",)),
        (".gitignore", (b".gitignore",)),
        (".github/x", (b".github", b"x")),
        ("a b\nc/é\\", (b"a b\nc", "é\\".encode())),
    ],
)
def test_every_other_name_is_one(path: str, parts: tuple[bytes, ...]) -> None:
    assert at(path).parts == parts


def test_a_name_that_is_not_utf_8_is_carried_in_base64() -> None:
    raw = b"caf\xe9/x"
    path = RelativePath.parse_base64(base64.b64encode(raw).decode())
    assert path.json == {"path": "caf\ufffd/x", "pathBase64": base64.b64encode(raw).decode()}
    assert RelativePath.parse_base64(path.json["pathBase64"]) == path
    assert refused(lambda: RelativePath.parse_base64("%")).code == "invalid_request"


def test_names_that_only_look_like_git_are_files() -> None:
    assert not any(is_git(name) for name in (b".gitignore", b"git", b".gitt", b".git\xff", b"x.git"))
