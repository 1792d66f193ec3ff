"""`bkg` for operators and scripts: the audit log, a provider that is away, exit codes, JSON everywhere."""

import json
import sqlite3
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from harness import ADMIN_PASSWORD, Host, apikeys, misbehave


def code_and_error(done: subprocess.CompletedProcess[str]) -> tuple[int, str]:
    """How a command failed; it must have said so in one line of JSON and have shown nothing."""
    assert done.stdout == "", done.stdout
    (line,) = done.stderr.splitlines()
    return done.returncode, json.loads(line)["error"]["message"]


@pytest.mark.parametrize(
    "command",
    [
        "status",
        "config",
        "whoami",
        "plugin list",
        "plugin show misbehave",
        "plugin restart misbehave",
        "plugin logs misbehave",
        "plugin invoke misbehave test.echo",
        "key list",
        "user list",
        "role list",
        "session list",
        "audit list",
        "audit verify",
        "logout",
    ],
)
def test_every_command_speaks_json(guarded: Host, command: str) -> None:
    done = guarded.command_line(*command.split(), "--json")
    assert done.returncode == 0, done.stderr
    # Log lines come one by one, as they do when they are followed.
    texts = done.stdout.splitlines() if "logs" in command else [done.stdout]
    for text in texts:
        json.loads(text)


@pytest.mark.parametrize(
    ("command", "code"),
    [
        ("plugin list", 0),
        ("plugin show nothing", 1),
        ("key revoke nothing", 1),
        ("key rotate nothing", 1),
        ("user update nobody-here --enable", 1),
        ("session revoke nothing", 1),
        ("role delete nothing --yes", 1),
        ("key create --scope Not:A:Scope", 2),
        ("key create", 2),
        ("user create ada", 2),
        ("login --password x", 2),
        ("audit verify --root", 2),
        ("nothing", 2),
    ],
)
def test_the_exit_code_says_how_it_ended(guarded: Host, command: str, code: int) -> None:
    done = guarded.command_line(*command.split())
    assert done.returncode == code, done.stderr
    assert (done.stderr == "") == (code == 0)


@pytest.mark.parametrize(
    ("command", "next_step"),
    [
        ("key create --scope llm.chat", "; `--user NAME` says whose"),
        ("key create --user nobody-here --scope llm.chat", "`bkg user list`"),
        ("key revoke nothing", "`bkg key list`"),
        ("user update nobody-here --enable", "`bkg user list`"),
        ("user create root --role user", "choose another"),
        ("user create a --role nothing", "`bkg role list`"),
        ("role delete nothing --yes", "`bkg role list`"),
        ("session revoke nothing", "the list of sessions"),
        ("plugin show nothing", "plugin"),
    ],
)
def test_a_refusal_ends_with_the_next_step(guarded: Host, command: str, next_step: str) -> None:
    code, message = code_and_error(guarded.command_line(*command.split(), "--json"))
    assert (code, next_step in message) == (1, True), message


def test_what_was_done_is_in_the_audit_log_and_in_its_export(guarded: Host, tmp_path: Path) -> None:
    made = guarded.command_line("key", "create", "--user", "admin", "--scope", "llm.chat", "--json")
    key = json.loads(made.stdout)
    guarded.command_line("key", "revoke", key["id"])
    wanted = ("--action", "key.", "--actor", "root", "--limit", "4", "--json")
    rows = json.loads(guarded.command_line("audit", "list", *wanted).stdout)
    assert [(row["action"], row["kind"]) for row in rows] == [
        ("key.revoke", "done"),
        ("key.revoke", "intended"),
        ("key.create", "done"),
        ("key.create", "intended"),
    ]
    assert rows[0]["target"] == f"key {key['id']}"
    file = tmp_path / "audit.jsonl"
    told = json.loads(guarded.command_line("audit", "export", "--output", str(file), "--json").stdout)
    lines = [json.loads(line) for line in file.read_text().splitlines()]
    assert told == {"entries": len(lines), "file": str(file)}
    assert [line["seq"] for line in lines] == list(range(1, len(lines) + 1))
    streamed = guarded.command_line("audit", "export").stdout
    assert streamed.startswith(file.read_text())
    shown = guarded.command_line("audit", "list", "--limit", "2")
    assert shown.stdout.splitlines()[0].split() == ["SEQ", "TIME", "WHO", "ACTION", "TARGET", "OUTCOME"]


def test_an_audit_log_that_somebody_changed_does_not_verify(start_host: Callable[..., Host]) -> None:
    host = start_host(apikeys(), ADMIN_PASSWORD=ADMIN_PASSWORD)
    host.command_line("key", "create", "--user", "admin", "--scope", "llm.chat")
    before = host.command_line("audit", "verify", "--json")
    assert (before.returncode, json.loads(before.stdout)["unbroken"]) == (0, True)
    host.stop()
    (database,) = [file for file in host.data.glob("*.db") if "audit" in tables(file)]
    with sqlite3.connect(database) as connection:
        triggers = connection.execute("SELECT name FROM sqlite_master WHERE type = 'trigger'").fetchall()
        for (name,) in triggers:
            connection.execute(f'DROP TRIGGER "{name}"')
        connection.execute("UPDATE audit SET target = 'user eve' WHERE action = 'key.create'")
    connection.close()
    after = host.command_line("audit", "verify", "--json")
    found: dict[str, Any] = json.loads(after.stdout)
    assert (after.returncode, found["unbroken"]) == (1, False)
    # Both of its entries, that it was intended and that it was done, one after the other.
    (finding,) = found["findings"]
    assert (finding["kind"], finding["last"] - finding["first"]) == ("changed", 1)
    assert "were changed" in host.command_line("audit", "verify").stdout


def tables(file: Path) -> set[str]:
    """The names of a database's tables."""
    connection = sqlite3.connect(f"file:{file}?mode=ro", uri=True)
    try:
        found = connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall()
    finally:
        connection.close()
    return {str(name) for (name,) in found}


def test_the_root_key_brings_a_stopped_provider_back(start_host: Callable[..., Host]) -> None:
    host = start_host(apikeys(), misbehave(), ADMIN_PASSWORD=ADMIN_PASSWORD)
    key = json.loads(
        host.command_line("key", "create", "--user", "admin", "--scope", "plugin:read", "--json").stdout
    )["key"]
    typed = f"{ADMIN_PASSWORD}\n"
    assert host.command_line("plugin", "stop", "apikeys").returncode == 0
    for command in (["key", "list"], ["user", "list"], ["login", "--user", "admin", "--password-stdin"]):
        code, message = code_and_error(host.command_line(*command, "--json", typed=typed))
        assert (code, "the auth provider `apikeys` is stopped" in message) == (1, True), message
        assert "`bkg --root plugin" in message
    # Nobody has used this key: it is neither let in nor called invalid.
    unknown = host.command_line("plugin", "list", "--json", environment={"BKG_API_KEY": key})
    assert "credentials cannot be checked now" in code_and_error(unknown)[1]
    restarted = host.command_line("--root", "plugin", "restart", "apikeys", "--json")
    assert (restarted.returncode, json.loads(restarted.stdout)["status"]) == (0, "running")
    assert host.command_line("plugin", "list", environment={"BKG_API_KEY": key}).returncode == 0
    assert host.command_line("login", "--user", "admin", "--password-stdin", typed=typed).returncode == 0


def test_without_a_daemon_a_command_says_how_to_start_one(tmp_path: Path) -> None:
    host = Host(tmp_path / "never-started")
    code, message = code_and_error(host.command_line("key", "list", "--json"))
    assert (code, "start one with `bkg serve" in message) == (1, True), message
    code, message = code_and_error(host.command_line("audit", "verify", "--json"))
    assert code == 6, message
