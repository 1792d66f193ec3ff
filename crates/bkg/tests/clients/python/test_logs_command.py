"""`bkg logs`: lines of one plugin or of all, picked, followed, saved."""

import json
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from harness import BINARIES, FIXTURES, Host, PluginFolder, misbehave


@pytest.fixture
def host(start_host: Callable[..., Host]) -> Host:
    """A daemon with two plugins that have printed three lines each."""
    other = PluginFolder("other", FIXTURES / "misbehave", {}, {"autostart": True})
    host = start_host(misbehave(), other)
    for plugin in ("misbehave", "other"):
        host.invoke("test.flood_logs", {"lines": 3, "stderr": True, "size": 5}, plugin=plugin)
    return host


def lines(host: Host, *arguments: str) -> list[str]:
    done = host.command_line("logs", *arguments)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def test_conditions_pick_lines(host: Host) -> None:
    instance = host.instance("misbehave")["id"]
    floods = lines(host, "misbehave", "--stream", "stderr", "--text", "xxxxx")
    assert len(floods) == 3, floods
    assert lines(host, "misbehave", "--regex", "^[12] x+$") == floods[1:]
    assert lines(host, "misbehave", "--text", "xxxxx", "--tail", "1") == floods[2:]
    assert lines(host, "misbehave", "--text", "xxxxx", "--run", instance) == floods
    assert lines(host, "misbehave", "--text", "xxxxx", "--since", "10m") == floods
    assert lines(host, "misbehave", "--until", "10m") == []
    assert lines(host, "misbehave", "--text", "xxxxx", "--level", "error") == []
    page = json.loads(host.command_line("logs", "misbehave", "--text", "xxxxx", "--json").stdout)
    seq = page["lines"][0]["seq"]
    assert lines(host, "misbehave", "--text", "xxxxx", "--since", str(seq)) == floods[1:]
    refused = host.command_line("logs", "misbehave", "--regex", "(")
    assert (refused.returncode, "regex" in refused.stderr) == (1, True), refused.stderr


def test_all_plugins_are_shown_in_one_order_with_their_names(host: Host) -> None:
    shown = lines(host, "--all", "--text", "xxxxx")
    assert [line.split()[2] for line in shown] == ["misbehave"] * 3 + ["other"] * 3
    assert shown == sorted(shown)


@pytest.mark.parametrize("whose", ["misbehave", "--all"])
def test_following_shows_each_line_once_as_it_comes(host: Host, whose: str) -> None:
    command = [str(BINARIES / "bkg"), "--data-dir", str(host.data), "logs", whose, "-f"]
    command += ["--json", "--text", "xxxxx"]
    with subprocess.Popen(command, env=host.environment, stdout=subprocess.PIPE, text=True) as follow:
        assert follow.stdout is not None
        try:
            before = 3 if whose == "misbehave" else 6
            seen = [json.loads(follow.stdout.readline()) for _ in range(before)]
            host.invoke("test.flood_logs", {"lines": 2, "stderr": True, "size": 5})
            seen += [json.loads(follow.stdout.readline()) for _ in range(2)]
        finally:
            follow.terminate()
    numbers = [(line["plugin"], line["seq"]) for line in seen]
    assert len(set(numbers)) == before + 2


def test_a_log_is_saved_to_a_file(host: Host, tmp_path: Path) -> None:
    text, objects = tmp_path / "misbehave.log", tmp_path / "misbehave.ndjson"
    told = host.command_line("logs", "misbehave", "--download", str(text), "--json")
    assert json.loads(told.stdout) == {"bytes": len(text.read_bytes()), "file": str(text)}
    done = host.command_line(
        "logs", "misbehave", "--text", "xxxxx", "--download", str(objects), "--format", "ndjson"
    )
    assert done.returncode == 0, done.stderr
    assert [json.loads(line)["plugin"] for line in objects.read_text().splitlines()] == ["misbehave"] * 3
    streamed = host.command_line("logs", "misbehave", "--text", "xxxxx", "--download", "-")
    assert len(streamed.stdout.splitlines()) == 3
    missing = host.command_line("logs", "misbehave", "--download", str(tmp_path / "no" / "file"))
    assert (missing.returncode, str(tmp_path / "no" / "file") in missing.stderr) == (1, True)
