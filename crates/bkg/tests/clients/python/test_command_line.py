"""`bkg` for operators and scripts: the audit log, a provider that is away, exit codes, JSON everywhere."""

import json
import shutil
import sqlite3
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from harness import (
    ADMIN_PASSWORD,
    BINARIES,
    FIXTURES,
    Host,
    PluginFolder,
    apikeys,
    hostile,
    misbehave,
    until,
)
from terminal import Terminal


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
        "logs misbehave",
        "plugin telemetry misbehave",
        "plugin routes",
        "top --once",
        "ports",
        "system",
        "requests",
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
        ("logs nothing", 1),
        ("logs misbehave --since soon", 2),
        ("plugin telemetry nothing", 1),
        ("requests --limit 0", 2),
        ("--url example.org status", 2),
        ("--url http://example.org status", 2),
        ("--url https://localhost:1 status --root", 2),
        ("completions tcsh", 2),
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


def test_a_plugin_is_run_with_text_json_or_standard_input(start_host: Callable[..., Host]) -> None:
    single = PluginFolder("single", FIXTURES / "misbehave", {"offers": ["test.echo"]}, {"autostart": True})
    host = start_host(single, misbehave())
    for arguments, typed, result in [
        (["two words"], "", {"input": "two words"}),
        (["7"], "", {"input": "7"}),
        (['{"n": 1}'], "", {"n": 1}),
        (['{"n": 1}', "--text"], "", {"input": '{"n": 1}'}),
        (["-"], "of a pipe\n", {"input": "of a pipe"}),
        ([], "", {}),
    ]:
        done = host.command_line("run", "single", *arguments, typed=typed)
        assert (done.returncode, json.loads(done.stdout)) == (0, result), done.stderr
        done = host.command_line("run", "single", *arguments, "--json", typed=typed)
        assert json.loads(done.stdout) == {"result": result}
    undecided = host.command_line("run", "misbehave", "x")
    assert (undecided.returncode, "`test.echo`" in undecided.stderr) == (1, True), undecided.stderr
    unknown = host.command_line("run", "nothing", "x", "--json")
    assert code_and_error(unknown)[0] == 1


def test_figures_are_shown_for_people_too(guarded: Host) -> None:
    guarded.invoke("test.echo", {})
    for command, heading in [
        (["top", "--once"], "NAME STATUS FOR CPU MEMORY"),
        (["plugin", "telemetry", "misbehave"], "TIME CPU MEMORY"),
        (["ports"], "WHAT VALUE"),
        (["requests", "-n", "1"], "SEQ TIME WHO PLUGIN WHAT"),
    ]:
        if command[0] == "plugin":
            # The first sample of a launch comes a moment after it.
            until(
                lambda: "TIME" in guarded.command_line("plugin", "telemetry", "misbehave").stdout,
                "a sample",
            )
        done = guarded.command_line(*command)
        assert done.returncode == 0, done.stderr
        assert " ".join(done.stdout.split()).startswith(heading), done.stdout


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completions_are_what_the_shell_reads(guarded: Host, shell: str) -> None:
    script = guarded.command_line("completions", shell)
    assert (script.returncode, script.stderr) == (0, "")
    assert "revisions" in script.stdout
    if program := shutil.which(shell):
        checked = subprocess.run([program, "-n"], input=script.stdout, capture_output=True, text=True)
        assert (checked.returncode, checked.stderr) == (0, "")


def test_the_manual_has_a_page_for_each_command(guarded: Host, tmp_path: Path) -> None:
    page = guarded.command_line("man")
    assert (page.returncode, page.stderr) == (0, "")
    assert ".TH bkg 1" in page.stdout
    assert "Exit codes" in page.stdout
    files = json.loads(guarded.command_line("man", "--dir", str(tmp_path / "man"), "--json").stdout)[
        "files"
    ]
    assert str(tmp_path / "man" / "bkg-config-set.1") in files
    for file in files:
        assert ".SH SYNOPSIS" in Path(file).read_text()
    if program := shutil.which("man"):
        for file in files:
            checked = subprocess.run([program, "--warnings", "-l", file], capture_output=True, text=True)
            assert (checked.returncode, checked.stderr) == (0, ""), file


def test_colours_are_for_terminals_unless_they_are_asked_for(start_host: Callable[..., Host]) -> None:
    host = start_host(hostile("fails"))
    assert host.command_line("plugin", "start", "fails").returncode == 1
    logs = ("logs", "fails", "--level", "error")
    assert "\x1b[" not in host.command_line(*logs).stdout
    assert "\x1b[31merror\x1b[0m" in host.command_line(*logs, "--color", "always").stdout
    variables: dict[str, str]
    for arguments, variables, has_colours in [
        (["--color", "never"], {}, False),
        (["--no-color"], {}, False),
        ([], {"NO_COLOR": "1"}, False),
        ([], {"TERM": "dumb"}, False),
        ([], {}, True),
    ]:
        with Terminal(host, *logs, *arguments, **variables) as terminal:
            assert terminal.end() == 0
            assert ("\x1b[" in terminal.screen) == has_colours, arguments


def test_a_reader_that_leaves_ends_a_command_without_a_word(guarded: Host) -> None:
    guarded.invoke("test.flood_logs", {"lines": 2000})
    command = [str(BINARIES / "bkg"), "--data-dir", str(guarded.data), "logs", "misbehave", "-n", "2000"]
    with subprocess.Popen(
        command, env=guarded.environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as logs:
        assert logs.stdout is not None
        assert logs.stderr is not None
        logs.stdout.read(1)
        logs.stdout.close()
        assert (logs.wait(30), logs.stderr.read()) == (0, b"")


def test_a_daemon_is_reached_by_its_address_with_a_key_and_never_the_root_key(guarded: Host) -> None:
    made = guarded.command_line("key", "create", "--user", "admin", "--scope", "admin", "--json")
    key = {"BKG_API_KEY": json.loads(made.stdout)["key"]}

    def run(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [str(BINARIES / "bkg"), *arguments],
            env={**guarded.environment, **environment},
            capture_output=True,
            text=True,
            timeout=60,
        )

    listed = run("plugin", "list", "--json", "--url", guarded.url, **key)
    assert (listed.returncode, json.loads(listed.stdout)[0]["name"]) == (0, "apikeys")
    status = run("status", "--json", BKG_URL=guarded.url, **key)
    assert json.loads(status.stdout)["address"] == guarded.url
    # The same rows, asked of the daemon instead of the files.
    rows = run("audit", "list", "-n", "1", "--json", "--url", guarded.url, **key)
    assert json.loads(rows.stdout)[0]["seq"] >= 1, rows.stderr
    nobody = run("plugin", "list", "--json", "--url", guarded.url)
    assert "set `BKG_API_KEY` to a key" in code_and_error(nobody)[1]
    for arguments in (["audit", "verify"], ["user", "reset", "admin"]):
        code, message = code_and_error(run(*arguments, "--json", BKG_URL=guarded.url, **key))
        assert (code, "on the daemon's own machine" in message) == (2, True) or arguments[0] == "audit", (
            message
        )


def test_a_login_at_an_address_is_kept_for_that_address(guarded: Host) -> None:
    typed = f"{ADMIN_PASSWORD}\n"
    logged_in = guarded.command_line(
        "login", "--user", "admin", "--password-stdin", typed=typed, environment={"BKG_URL": guarded.url}
    )
    # The harness names the data directory, which comes before the variable.
    assert logged_in.returncode == 0, logged_in.stderr
    command = [str(BINARIES / "bkg"), "--url", guarded.url]
    env = guarded.environment

    def run(*arguments: str, typed: str = "") -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*command, *arguments], env=env, input=typed, capture_output=True, text=True, timeout=60
        )

    assert run("whoami").returncode == 1
    assert run("login", "--user", "admin", "--password-stdin", typed=typed).returncode == 0
    assert json.loads(run("whoami", "--json").stdout)["user"] == "admin"
    assert run("logout").returncode == 0
    assert guarded.command_line("logout").returncode == 0


def test_over_tls_the_certificate_is_checked(start_host: Callable[..., Host], tmp_path: Path) -> None:
    if shutil.which("openssl") is None:
        pytest.skip("openssl is not installed; on Debian: sudo apt-get install openssl")
    cert, key = tmp_path / "cert.pem", tmp_path / "key.pem"
    made = ["openssl", "req", "-x509", "-nodes", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"]
    made += ["-days", "1", "-subj", "/CN=Backplane", "-addext", "subjectAltName=DNS:localhost"]
    made += ["-addext", "basicConstraints=critical,CA:FALSE"]
    subprocess.run([*made, "-keyout", str(key), "-out", str(cert)], check=True, capture_output=True)
    config = f'api.listen = ["127.0.0.1:0"]\ntls.cert = "{cert}"\ntls.key = "{key}"\n'
    host = start_host(apikeys(), config=config, ADMIN_PASSWORD=ADMIN_PASSWORD)
    (address,) = host.ports["listen"]
    url = f"https://localhost:{address.rpartition(':')[2]}"
    secret = host.command_line("key", "create", "--user", "admin", "--scope", "plugin:read", "--json")
    environment = {**host.environment, "BKG_API_KEY": json.loads(secret.stdout)["key"]}

    def run(*arguments: str, url: str = url, **more: str) -> subprocess.CompletedProcess[str]:
        command = [str(BINARIES / "bkg"), "--json", "--url", url, *arguments]
        return subprocess.run(
            command, env={**environment, **more}, capture_output=True, text=True, timeout=60
        )

    for trusted in (run("plugin", "list", "--ca", str(cert)), run("plugin", "list", BKG_CA=str(cert))):
        assert (trusted.returncode, json.loads(trusted.stdout)[0]["name"]) == (0, "apikeys"), trusted.stderr
    code, message = code_and_error(run("plugin", "list"))
    assert (code, "is not trusted" in message, "`--ca FILE`" in message) == (1, True, True), message
    by_number = run("plugin", "list", "--ca", str(cert), url=url.replace("localhost", "127.0.0.1"))
    assert "use the name that the certificate is for" in code_and_error(by_number)[1]
    code, message = code_and_error(run("plugin", "list", "--ca", str(key)))
    assert "holds no certificate" in message, message


def test_without_a_daemon_a_command_says_how_to_start_one(tmp_path: Path) -> None:
    host = Host(tmp_path / "never-started")
    code, message = code_and_error(host.command_line("key", "list", "--json"))
    assert (code, "start one with `bkg serve" in message) == (1, True), message
    code, message = code_and_error(host.command_line("audit", "verify", "--json"))
    assert code == 6, message
