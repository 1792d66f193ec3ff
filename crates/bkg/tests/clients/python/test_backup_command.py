"""`bkg backup` and `bkg restore` as somebody uses them: a file, a look, and the state of before."""

import json
import subprocess
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest
from harness import BINARIES, Host, misbehave


@pytest.fixture
def host(start_host: Callable[..., Host]) -> Host:
    return start_host(misbehave())


def bkg(host: Host, *arguments: str) -> subprocess.CompletedProcess[bytes]:
    """Runs a command whose output may be anything."""
    command = [str(BINARIES / "bkg"), "--data-dir", str(host.data), *arguments]
    return subprocess.run(command, env=host.environment, capture_output=True, check=False)


def test_a_backup_is_a_plain_tar_that_begins_with_what_it_holds(host: Host, tmp_path: Path) -> None:
    kept = host.data / "plugins" / "misbehave" / "data"
    (kept / "note").write_text("kept")
    (kept / "own.key").write_text("secret")
    preview = host.command_line("backup", "--preview")
    assert preview.returncode == 0, preview.stderr
    assert "left out: plugins/misbehave/data/own.key (a key)" in preview.stdout
    assert "without `audit.key`" in preview.stdout
    file = tmp_path / "backup.tar"
    done = host.command_line("backup", str(file))
    assert done.returncode == 0, done.stderr
    assert str(file) in done.stdout
    assert "without `audit.key`" in done.stderr
    assert file.stat().st_mode & 0o777 == 0o600
    with tarfile.open(file) as archive:
        names = archive.getnames()
        manifest = archive.extractfile("manifest.json")
        assert manifest is not None
        files = [each["path"] for each in json.load(manifest)["files"]]
    assert names == ["manifest.json", *files]
    assert {"bkg.db", "plugins/misbehave/data/note"} <= set(files)
    assert not [name for name in names if name.endswith(".key")]
    # Standard output gets the same, and nothing else.
    streamed = bkg(host, "backup", "-")
    assert streamed.returncode == 0, streamed.stderr
    assert streamed.stdout[:13] == b"manifest.json"


def test_a_restore_brings_back_what_was_and_keeps_what_is(host: Host, tmp_path: Path) -> None:
    kept = host.data / "plugins" / "misbehave" / "data" / "note"
    kept.write_text("before")
    file = str(tmp_path / "backup.tar")
    assert host.command_line("backup", file).returncode == 0
    kept.write_text("after")
    running = host.command_line("restore", file)
    assert (running.returncode, "another host" in running.stderr) == (3, True), running.stderr
    host.stop()
    look = host.command_line("restore", file, "--preview")
    assert look.returncode == 0, look.stderr
    assert "root.key is taken from the present data directory" in look.stdout
    assert kept.read_text() == "after"
    done = host.command_line("restore", file, "--json")
    assert done.returncode == 0, done.stderr
    earlier = Path(json.loads(done.stdout)["earlier"])
    assert kept.read_text() == "before"
    assert (earlier / "plugins" / "misbehave" / "data" / "note").read_text() == "after"
    verified = host.command_line("audit", "verify")
    assert verified.returncode == 0, verified.stderr


def test_what_is_no_backup_is_refused(host: Host, tmp_path: Path) -> None:
    file = tmp_path / "backup.tar"
    assert host.command_line("backup", str(file)).returncode == 0
    host.stop()
    whole = file.read_bytes()
    for content in (b"", b"hello", whole[: len(whole) // 2], whole[:-1] + b"x"):
        file.write_bytes(content)
        refused = host.command_line("restore", str(file))
        assert refused.returncode == 1, refused.stderr
        assert "is not restored" in refused.stderr
