"""`repo.commit`: what is committed, in whose name, and that the repository runs nothing."""

import asyncio
from pathlib import Path
from typing import Any

import pytest

from repoagent.git import author, commit
from repoagent.halt import Halt
from repoagent.refusal import Refusal
from repoagent.settings import GitSetting, RepoSettings, workspace
from space import Space, at, git


@pytest.fixture
def repository(space: Space) -> Space:
    git(space.work, "init", "--quiet")
    return space


async def make(
    space: Space, *paths: str, settings: RepoSettings | None = None, **asked: Any
) -> dict[str, Any]:
    chosen = settings or RepoSettings()
    chosen.roots = [str(space.work)]
    made = workspace(chosen, space.data)
    options = {"message": "a message", "signoff": False, "user": "ada", **asked}
    where = at(options.pop("repository", ""))
    return await commit(
        made,
        chosen,
        made.root(None),
        where,
        paths=[at(path) for path in paths],
        journal=space.journal,
        halt=Halt(30),
        data=space.data,
        **options,
    )


def log(space: Space, form: str) -> str:
    return git(space.work, "log", "-1", f"--format={form}").removesuffix("\n")


def committed(space: Space) -> set[str]:
    return set(git(space.work, "ls-tree", "-r", "-z", "--name-only", "HEAD").split("\0")[:-1])


async def test_everything_that_changed_is_committed(repository: Space) -> None:
    repository.put("a b\né", "1")
    repository.put("ignored", "2")
    repository.put(".gitignore", "ignored\n")
    answer = await make(repository)
    assert answer == {
        "root": "work",
        "path": ".",
        "commit": git(repository.work, "rev-parse", "HEAD").strip(),
        "branch": "main",
        "author": "ada <ada@localhost>",
    }
    assert committed(repository) == {"a b\né", ".gitignore"}
    (repository.work / "a b\né").unlink()
    await make(repository)
    assert committed(repository) == {".gitignore"}
    assert git(repository.work, "status", "--porcelain") == ""


async def test_only_the_paths_are_committed(repository: Space) -> None:
    for name in ("one", "two/x", "two/y", ":(glob)*", "-q"):
        repository.put(name, "1")
    git(repository.work, "add", "one")
    await make(repository, "two", ":(glob)*", "-q")
    assert committed(repository) == {"two/x", "two/y", ":(glob)*", "-q"}
    assert git(repository.work, "status", "--porcelain") == "A  one\n"


async def test_message_author_and_signature(repository: Space) -> None:
    repository.put("x", "1")
    await make(repository, message="--amend\n\n# not a comment\n", signoff=True, user="ada <x>\nlöv")
    assert (
        log(repository, "%B")
        == "--amend\n\n# not a comment\n\nSigned-off-by: ada xlöv <ada-xl-v@localhost>\n"
    )
    repository.put("x", "2")
    bot = GitSetting(author_name="Bot", author_email="bot@example.com")
    await make(repository, settings=RepoSettings(git=bot))
    assert log(repository, "%an %ae %cn %ce") == "Bot bot@example.com Bot bot@example.com"


def test_there_is_always_an_author() -> None:
    assert author(RepoSettings(), None) == ("repoagent", "repoagent@localhost")
    assert author(RepoSettings(), "<>") == ("repoagent", "repoagent@localhost")


@pytest.mark.parametrize(
    ("paths", "asked", "code"),
    [
        ([], {}, "conflict"),
        (["nowhere"], {}, "not_found"),
        (["ignored"], {}, "conflict"),
        ([], {"message": " \n"}, "invalid_request"),
        ([], {"message": "a\0b"}, "invalid_request"),
        ([], {"repository": "below"}, "not_found"),
        (["x"], {"repository": "below"}, "invalid_request"),
    ],
)
async def test_what_cannot_be_committed_says_why(
    repository: Space, paths: list[str], asked: dict[str, Any], code: str
) -> None:
    repository.put(".gitignore", "ignored\n")
    await make(repository)
    repository.put("ignored", "x")
    repository.put("below/.gitignore", "*\n")
    before = git(repository.work, "rev-parse", "HEAD")
    with pytest.raises(Refusal) as caught:
        await make(repository, *paths, **asked)
    assert caught.value.code == code, caught.value.message
    assert git(repository.work, "rev-parse", "HEAD") == before


async def test_git_can_be_switched_off(repository: Space) -> None:
    repository.put("x", "1")
    with pytest.raises(Refusal, match=r"git\.enabled"):
        await make(repository, settings=RepoSettings(git=GitSetting(enabled=False)))


async def test_what_the_operator_hides_is_not_committed(repository: Space) -> None:
    repository.put("x", "1")
    repository.put("keys/k", "2")
    await make(repository, settings=RepoSettings(ignore=["keys/"]))
    assert committed(repository) == {"x"}


async def test_nothing_of_a_hostile_repository_runs_or_leads_out(repository: Space, tmp_path: Path) -> None:
    ran = tmp_path / "ran"
    program = tmp_path / "program"
    program.write_text(f"#!/bin/sh\necho \"$0 $*\" >> '{ran}'\ncat 2>/dev/null\n")
    program.chmod(0o755)
    for hook in (
        "pre-commit",
        "commit-msg",
        "post-commit",
        "prepare-commit-msg",
        "reference-transaction",
        "post-index-change",
    ):
        (repository.work / ".git/hooks" / hook).symlink_to(program)
    for key, value in {
        "core.hooksPath": str(tmp_path),
        "core.fsmonitor": str(program),
        "core.editor": str(program),
        "core.pager": str(program),
        "core.sshCommand": str(program),
        "core.alternateRefsCommand": str(program),
        "core.worktree": str(tmp_path),
        "commit.gpgSign": "true",
        "gpg.program": str(program),
        "log.showSignature": "true",
        "diff.external": str(program),
        "trailer.x.command": str(program),
        "commit.template": str(repository.secret),
        "commit.verbose": "true",
        "credential.helper": str(program),
        "alias.commit": f"!{program}",
        "gc.auto": "1",
        "user.name": "Mallory",
    }.items():
        git(repository.work, "config", key, value)
    repository.put("x", "1")
    await make(repository, signoff=True)
    assert git(repository.work, f"--work-tree={repository.work}", "ls-tree", "--name-only", "HEAD") == "x\n"
    assert log(repository, "%an") == "ada"
    assert not ran.exists(), ran.read_text()


@pytest.mark.parametrize("key", ["filter.x.clean", "filter.x.process", "filter.a.b.smudge"])
async def test_a_filter_is_run_only_if_the_operator_trusts_the_configuration(
    repository: Space, tmp_path: Path, key: str
) -> None:
    git(repository.work, "config", key, f"touch '{tmp_path}/ran'; cat")
    git(repository.work, "config", "include.path", str(tmp_path / "further"))
    repository.put(".gitattributes", "* filter=x\n")
    with pytest.raises(Refusal, match=key):
        await make(repository)
    assert not (tmp_path / "ran").exists()
    assert git(repository.work, "status", "--porcelain", "--untracked-files=no") == ""


async def test_a_filter_of_an_included_file_is_seen(repository: Space, tmp_path: Path) -> None:
    (tmp_path / "further").write_text(f"[filter \"x\"]\n\tclean = touch '{tmp_path}/ran'; cat\n")
    git(repository.work, "config", "include.path", str(tmp_path / "further"))
    repository.put(".gitattributes", "* filter=x\n")
    with pytest.raises(Refusal, match=r"filter\.x\.clean"):
        await make(repository)
    await make(repository, settings=RepoSettings(git=GitSetting(trust_configuration=True)))
    assert (tmp_path / "ran").exists()


@pytest.mark.parametrize("kind", ["link", "file"])
async def test_a_git_directory_that_is_elsewhere_is_not_used(
    space: Space, tmp_path: Path, kind: str
) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    git(elsewhere, "init", "--quiet")
    if kind == "link":
        (space.work / ".git").symlink_to(elsewhere / ".git")
    else:
        (space.work / ".git").write_text(f"gitdir: {elsewhere}/.git\n")
    space.put("x", "1")
    with pytest.raises(Refusal, match="leads elsewhere"):
        await make(space)
    assert git(elsewhere, "count-objects") == "0 objects, 0 kilobytes\n"


async def test_a_commit_waits_for_a_change_that_is_under_way(repository: Space) -> None:
    repository.put("x", "1")
    with repository.journal.locked(Halt(30)):
        waiting = asyncio.create_task(make(repository))
        await asyncio.sleep(0)
        assert git(repository.work, "rev-parse", "--verify", "--quiet", "HEAD", fine=(1,)) == ""
    await waiting
    assert committed(repository) == {"x"}


async def test_a_repository_below_the_root_is_named_by_its_path(space: Space) -> None:
    space.put("inner/x", "1")
    git(space.work / "inner", "init", "--quiet")
    answer = await make(space, "inner/x", repository="inner")
    assert answer["path"] == "inner"
    assert git(space.work / "inner", "ls-tree", "--name-only", "HEAD") == "x\n"


async def test_a_nested_repository_runs_nothing(repository: Space, tmp_path: Path) -> None:
    inner = repository.work / "inner"
    repository.put("inner/x", "1")
    git(inner, "init", "--quiet")
    git(inner, "add", ".")
    git(inner, "commit", "--quiet", "--message=inner")
    git(repository.work, "add", ".")
    git(repository.work, "commit", "--quiet", "--message=outer")
    git(inner, "config", "filter.x.clean", f"touch '{tmp_path}/ran'; cat")
    (inner / ".gitattributes").write_text("* filter=x\n")
    (inner / "x").write_text("2")
    repository.put("y", "1")
    with pytest.raises(Refusal, match="inner"):
        await make(repository)
    assert not (tmp_path / "ran").exists()
    await make(repository, settings=RepoSettings(git=GitSetting(trust_configuration=True)))
    assert "y" in committed(repository)


async def test_a_remembered_conflict_runs_no_merge_program(repository: Space, tmp_path: Path) -> None:
    repository.put("x", "1\n")
    await make(repository)
    directory = repository.work / ".git"
    key = "0123456789" * 4
    kept = directory / "rr-cache" / key
    kept.mkdir(parents=True)
    for name in ("preimage", "postimage"):
        (kept / name).write_text("<<<<<<<\n1\n=======\n2\n>>>>>>>\n")
    (directory / "MERGE_RR").write_bytes(key.encode() + b"\tx\0")
    git(repository.work, "config", "merge.evil.driver", f"touch '{tmp_path}/ran'")
    git(repository.work, "config", "rerere.enabled", "true")
    repository.put(".gitattributes", "* merge=evil\n")
    repository.put("x", "<<<<<<< a\n1\n=======\n2\n>>>>>>> b\n")
    await make(repository)
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize(
    "name", ["COMMIT_EDITMSG", "logs/HEAD", "objects/aa", "refs/heads", "index", "config"]
)
async def test_no_link_within_a_git_directory_is_followed(
    repository: Space, tmp_path: Path, name: str
) -> None:
    place = repository.work / ".git" / name
    place.parent.mkdir(exist_ok=True)
    elsewhere = tmp_path / "elsewhere"
    if place.is_dir():
        place.rename(elsewhere)
    place.unlink(missing_ok=True)
    place.symlink_to(elsewhere)
    repository.put("x", "1")
    with pytest.raises(Refusal, match="leads elsewhere"):
        await make(repository)
    assert not elsewhere.is_file()


async def test_a_git_directory_that_borrows_another_is_not_used(repository: Space, tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    git(elsewhere, "init", "--quiet")
    (repository.work / ".git/commondir").write_text(f"{elsewhere}/.git\n")
    repository.put("x", "1")
    with pytest.raises(Refusal, match="leads elsewhere"):
        await make(repository)
    assert git(elsewhere, "count-objects") == "0 objects, 0 kilobytes\n"


async def test_what_is_hidden_is_not_committed_whatever_the_repository_says(repository: Space) -> None:
    repository.put("x", "1")
    repository.put("inner/k", "2")
    repository.put(".gitignore", "!k\n")
    with pytest.raises(Refusal, match=r"inner/k.*`ignore`"):
        await make(repository, settings=RepoSettings(ignore=["/inner/k"]))
    assert git(repository.work, "ls-files", "inner") == ""
    await make(repository, "x", settings=RepoSettings(ignore=["/inner/k"]))
    assert committed(repository) == {"x"}


async def test_patterns_of_the_operator_are_relative_to_the_root_in_a_repository_below(
    space: Space,
) -> None:
    space.put("inner/x", "1")
    space.put("inner/k", "2")
    git(space.work / "inner", "init", "--quiet")
    with pytest.raises(Refusal, match="inner/k"):
        await make(space, repository="inner", settings=RepoSettings(ignore=["/inner/k"]))
    assert git(space.work / "inner", "ls-files") == "x\n"
