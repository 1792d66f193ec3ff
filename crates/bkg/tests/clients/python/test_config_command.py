"""`bkg config` where it is about a plugin: see, change, compare and take back its entry."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from harness import Host, misbehave
from terminal import Terminal


@pytest.fixture
def host(start_host: Callable[..., Host]) -> Host:
    """A daemon with a plugin that takes settings while it runs."""
    return start_host(misbehave(hot=True, word="first"))


def settings(host: Host) -> dict[str, object]:
    """What the plugin itself has."""
    answer = host.invoke("test.settings")
    assert answer.status == 200, answer.body
    return dict(answer.json()["data"]["current"])


def set_word(host: Host, word: str, *more: str) -> None:
    done = host.command_line("config", "set", "misbehave", f"settings.word={word}", *more)
    assert done.returncode == 0, done.stderr


def test_every_value_is_shown_with_its_origin(host: Host) -> None:
    shown = host.command_line("config", "get", "misbehave")
    rows = [line.split() for line in shown.stdout.splitlines()]
    assert rows[0] == ["PATH", "VALUE", "ORIGIN"]
    assert ["/settings/word", '"first"', "config.json"] in rows
    assert rows[-1] == ["revision", "0"]
    for path in ("settings.word", "/settings/word"):
        assert host.command_line("config", "get", "misbehave", path).stdout == "first\n"
    whole = json.loads(host.command_line("config", "get", "misbehave", "--json").stdout)
    assert (whole["revision"], whole["entry"]["settings"]["word"]) == (0, "first")
    missing = host.command_line("config", "get", "misbehave", "settings.nothing")
    assert (missing.returncode, missing.stdout) == (1, "")
    assert "`/settings/nothing`" in missing.stderr


def test_a_value_that_is_set_reaches_the_plugin(host: Host) -> None:
    done = host.command_line("config", "set", "misbehave", "settings.word=second")
    assert done.stdout == (
        '- /settings/word "first"\n+ /settings/word "second"\n'
        "revision 1 is effective: misbehave took it over while running\n"
    )
    assert settings(host)["word"] == "second"
    again = host.command_line("config", "set", "misbehave", "settings.word=second")
    assert again.stdout == "nothing changed: revision 1 says so already\n"
    number = host.command_line("config", "set", "misbehave", "--text", "settings.word=42")
    assert (number.returncode, settings(host)["word"]) == (0, "42")


def test_what_needs_a_restart_restarts(host: Host) -> None:
    before = host.instance("misbehave")["pid"]
    done = host.command_line("--root", "config", "set", "misbehave", "env.A=b")
    assert done.returncode == 0, done.stderr
    assert "misbehave was restarted" in done.stdout, done.stdout
    assert host.instance("misbehave")["pid"] != before
    later = host.command_line("config", "set", "misbehave", "settings.word=later", "--later")
    assert "`bkg plugin restart misbehave` makes it effective" in later.stdout, later.stdout
    assert settings(host)["word"] == "first"


def test_a_dry_run_changes_nothing(host: Host) -> None:
    done = host.command_line("config", "set", "misbehave", "settings.word=x", "--dry-run")
    assert done.stdout.endswith("this would be accepted; nothing was changed\n")
    assert settings(host)["word"] == "first"
    assert json.loads(host.command_line("config", "revisions", "misbehave", "--json").stdout) == []


def test_a_dry_run_asks_a_plugin_that_can_be_asked(start_host: Callable[..., Host]) -> None:
    host = start_host(misbehave(hot=True, dryRuns=True, word="first"))
    done = host.command_line("config", "set", "misbehave", "settings.word=x", "--dry-run")
    assert done.stdout.endswith(
        "misbehave was asked, and would take it\n"
        "it would be effective at once, without disturbing misbehave\n"
        "this would be accepted; nothing was changed\n"
    )
    refused = host.command_line("config", "set", "misbehave", "settings.applies=no", "--dry-run")
    assert (refused.returncode, refused.stdout) == (1, "")
    assert "these settings would not be to its liking" in refused.stderr
    assert settings(host)["word"] == "first"


def test_a_change_that_comes_to_nothing_is_taken_back_and_said_so(host: Host) -> None:
    set_word(host, "second")
    broken = ("settings.register=garbage", "restart=never", 'args=["again"]')
    failed = host.command_line("--root", "config", "set", "misbehave", *broken)
    assert failed.returncode == 1
    assert "runs with what it had before, which is saved as revision 3" in failed.stderr, failed.stderr
    assert settings(host)["word"] == "second"
    revisions = host.command_line("config", "revisions", "misbehave").stdout.splitlines()
    assert "rolled back: " in revisions[1], revisions
    assert " host " in revisions[1], revisions


def test_one_command_takes_the_newest_change_back(host: Host) -> None:
    set_word(host, "second")
    set_word(host, "third")
    done = host.command_line("config", "rollback", "misbehave")
    assert done.stdout.startswith('- /settings/word "third"\n+ /settings/word "second"\n'), done.stdout
    assert settings(host)["word"] == "second"


def test_what_is_not_valid_is_named_place_by_place(host: Host) -> None:
    done = host.command_line("config", "set", "misbehave", "settings.word=7", "settings.more=1")
    assert (done.returncode, done.stdout) == (1, "")
    lines = done.stderr.splitlines()
    assert any(line.startswith("       /settings/word: ") for line in lines), lines
    assert "code invalid_config" in lines[-1]
    told = json.loads(host.command_line("config", "set", "misbehave", "settings.word=7", "--json").stderr)
    assert told["error"]["details"][0]["path"] == "/settings/word"


def test_somebody_who_was_faster_is_named(host: Host) -> None:
    set_word(host, "second")
    set_word(host, "third")
    done = host.command_line("config", "set", "misbehave", "settings.word=mine", "--if-match", "1")
    assert done.returncode == 1
    assert "root" in done.stderr, done.stderr
    assert "`bkg config diff misbehave`" in done.stderr, done.stderr
    assert settings(host)["word"] == "third"


def test_a_secret_is_read_from_standard_input_and_never_shown(host: Host) -> None:
    refused = host.command_line("config", "set", "misbehave", "settings.secret=hush-hush")
    assert (refused.returncode, "hush" in refused.stderr) == (2, False)
    assert "`--secret PATH`" in refused.stderr
    done = host.command_line(
        "config", "set", "misbehave", "--secret", "settings.secret", "--secret-stdin", typed="hush-hush\n"
    )
    assert (done.returncode, "hush" in done.stdout + done.stderr) == (0, False), done.stderr
    assert settings(host)["secret"] == "hush-hush"
    assert host.command_line("config", "get", "misbehave", "settings.secret").stdout == "(secret)\n"
    with Terminal(host, "config", "set", "misbehave", "--secret", "settings.secret") as terminal:
        terminal.until("/settings/secret: ")
        terminal.type_hidden("typed-secret\n")
        assert terminal.end() == 0
        assert "typed-secret" not in terminal.screen
    assert settings(host)["secret"] == "typed-secret"


def test_a_place_in_a_list_leaves_the_others_alone(host: Host) -> None:
    made = host.command_line("config", "set", "misbehave", 'settings.upstreams=[{"name":"a"},{"name":"b"}]')
    assert made.returncode == 0, made.stderr
    done = host.command_line("config", "set", "misbehave", "settings.upstreams.1.name=c")
    assert done.returncode == 0, done.stderr
    assert settings(host)["upstreams"] == [{"name": "a"}, {"name": "c"}]


def test_revisions_are_listed_compared_shown_and_returned_to(host: Host) -> None:
    set_word(host, "second", "--note", "because")
    set_word(host, "third")
    listed = host.command_line("config", "revisions", "misbehave").stdout.splitlines()
    assert [line.split()[0] for line in listed] == ["REVISION", "2", "1"]
    assert "because" in listed[2]
    assert "/settings/word" in listed[2]
    shown = host.command_line("config", "get", "misbehave", "--revision", "1")
    assert "because" in shown.stdout, shown.stderr
    assert '"second"' in shown.stdout
    expected = '- /settings/word "second"\n+ /settings/word "third"\n'
    assert host.command_line("config", "diff", "misbehave").stdout == expected
    assert host.command_line("config", "diff", "misbehave", "1", "2").stdout == expected
    back = host.command_line("config", "return", "misbehave", "1")
    assert (back.returncode, settings(host)["word"]) == (0, "second"), back.stderr
    missing = host.command_line("config", "return", "misbehave", "99")
    assert (missing.returncode, "`bkg config revisions misbehave`" in missing.stderr) == (1, True)


def test_a_saved_value_is_given_up(host: Host) -> None:
    set_word(host, "second")
    done = host.command_line("config", "reset", "misbehave", "settings.word")
    assert (done.returncode, settings(host)["word"]) == (0, "first"), done.stderr
    set_word(host, "third")
    done = host.command_line("config", "reset", "misbehave", "--all")
    assert (done.returncode, settings(host)["word"]) == (0, "first"), done.stderr
    assert (
        host.command_line("config", "reset", "misbehave", "--all").stdout
        == "nothing is saved for misbehave\n"
    )


def test_an_entry_comes_from_a_file(host: Host, tmp_path: Path) -> None:
    file = tmp_path / "entry.json"
    file.write_text('{"settings": {"word": "of a file"}}')
    done = host.command_line("config", "set", "misbehave", "--file", str(file))
    assert (done.returncode, settings(host)["word"]) == (0, "of a file"), done.stderr
    typed = '{"settings": {"word": "of standard input"}}'
    done = host.command_line("config", "set", "misbehave", "--file", "-", typed=typed)
    assert (done.returncode, settings(host)["word"]) == (0, "of standard input"), done.stderr
    broken = host.command_line("config", "set", "misbehave", "--file", "-", typed="{")
    assert broken.returncode == 2


def test_an_editor_changes_an_entry(host: Host, tmp_path: Path) -> None:
    editor = tmp_path / "editor"
    editor.write_text('#!/bin/sh\nsed -i \'s/"first"/"edited"/\' "$1"\n')
    editor.chmod(0o755)
    host.environment["EDITOR"] = str(editor)
    for answer, code, word in [("n", 1, "first"), ("y", 0, "edited")]:
        with Terminal(host, "config", "edit", "misbehave") as terminal:
            terminal.until("save this for misbehave? [y/N] ")
            terminal.type(f"{answer}\n")
            assert (terminal.end(), settings(host)["word"]) == (code, word)


def test_what_was_written_into_the_mirror_is_shown_and_settled(host: Host) -> None:
    set_word(host, "second")
    mirror = Path(json.loads(host.command_line("config", "mirror", "--json").stdout)["path"])
    assert "shows the entries in effect" in host.command_line("config", "mirror").stdout
    text = mirror.read_text()
    mirror.write_text(text.replace('"second"', '"by hand"'))
    shown = host.command_line("config", "mirror").stdout
    assert '- /settings/word "second"\n+ /settings/word "by hand"\n' in shown, shown
    done = host.command_line("config", "mirror", "import")
    assert (done.returncode, settings(host)["word"]) == (0, "by hand"), done.stderr
    mirror.write_text(text)
    assert host.command_line("config", "mirror", "discard").returncode == 0
    assert settings(host)["word"] == "by hand"
    assert "shows the entries in effect" in host.command_line("config", "mirror").stdout
