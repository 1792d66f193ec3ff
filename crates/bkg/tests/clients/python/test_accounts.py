"""Users, roles and logins as a person meets them on the command line."""

import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from harness import ADMIN_PASSWORD, Host, apikeys


class Person:
    """Somebody at a shell, whose logins are kept in a place of their own."""

    def __init__(self, host: Host, home: Path) -> None:
        self.host = host
        self.environment = {"XDG_CONFIG_HOME": str(home)}
        self.file = home / "bkg" / "login.json"

    def runs(
        self, *arguments: str, typed: str = "", **environment: str
    ) -> subprocess.CompletedProcess[str]:
        """Runs a command."""
        environment = {**self.environment, **environment}
        return self.host.command_line(*arguments, typed=typed, environment=environment)

    def gets(self, *arguments: str, typed: str = "", **environment: str) -> Any:
        """What a command says in JSON; it must have been carried out."""
        done = self.runs(*arguments, "--json", typed=typed, **environment)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    def is_refused(self, *arguments: str, typed: str = "", **environment: str) -> str:
        """Why a command is not carried out; the same in JSON and in text, and exit code 1 for both."""
        told = self.runs(*arguments, "--json", typed=typed, **environment)
        assert (told.returncode, told.stdout) == (1, ""), told
        error = json.loads(told.stderr)["error"]
        assert error.keys() == {"message", "code", "requestId"}
        shown = self.runs(*arguments, typed=typed, **environment)
        assert shown.returncode == 1, shown
        assert shown.stderr.startswith(f"error: {error['message']}\n"), shown.stderr
        return str(error["message"])

    def logs_in(self, user: str, password: str) -> Any:
        """Logs in."""
        return self.gets("login", "--user", user, "--password-stdin", typed=f"{password}\n")

    def becomes(self, user: str, role: str) -> None:
        """Has the operator make a user, logs in as this user, and chooses a password."""
        made = self.gets("user", "create", user, "--role", role, "--root")
        assert self.logs_in(user, made["password"])["mustChangePassword"] is True
        self.gets(
            "user", "password", user, "--password-stdin", typed=f"{made['password']}\nmy own password\n"
        )


@pytest.fixture
def person(guarded: Host, tmp_path: Path) -> Person:
    return Person(guarded, tmp_path / "home")


def test_whoever_logs_in_is_that_user_until_the_logout(person: Person) -> None:
    assert person.gets("whoami")["kind"] == "root"
    person.becomes("ada", "user")
    assert person.file.stat().st_mode & 0o777 == 0o600
    who = person.gets("whoami")
    assert (who["kind"], who["user"], who["role"]) == ("session", "ada", "user")
    assert who["credential"] == {"from": "login", "file": str(person.file)}
    key = person.gets("key", "create", "--scope", "llm.chat")
    assert key["user"] == "ada"
    assert [found["id"] for found in person.gets("key", "list")["keys"]] == [key["id"]]
    for command in (["user", "list"], ["role", "list"], ["session", "list"], ["plugin", "list"]):
        refusal = person.is_refused(*command)
        assert "the scope" in refusal
        assert "`ada` does not have it; `bkg whoami` shows what you may do" in refusal
        person.gets(*command, "--root")
    assert "cannot give it; `bkg whoami`" in person.is_refused("key", "create", "--scope", "admin")
    (session,) = person.gets("session", "list", "--own")["sessions"]
    assert session["user"] == "ada"
    assert person.gets("logout") == {"user": "ada"}
    assert person.gets("whoami")["kind"] == "root"
    assert not person.file.exists() or "bkg_st_" not in person.file.read_text()
    left = person.gets("session", "list", "--user", "ada", "--root")["sessions"]
    assert left == []
    assert person.gets("logout") == {"user": None}


def test_the_first_credential_that_is_there_is_used(person: Person) -> None:
    person.becomes("bea", "operator")
    key = person.gets("key", "create", "--scope", "llm.chat")
    environment = {"BKG_API_KEY": key["key"]}
    who = person.gets("whoami", **environment)
    assert (who["kind"], who["keyId"], who["scopes"]) == ("key", key["id"], ["llm.chat"])
    assert "`plugin:read` is needed" in person.is_refused("plugin", "list", **environment)
    assert person.gets("whoami", "--root", **environment)["kind"] == "root"
    person.gets("key", "revoke", key["id"])
    # A credential that is refused makes no room for a mightier one.
    assert "it came from the variable `BKG_API_KEY`" in person.is_refused("plugin", "list", **environment)
    assert person.runs("whoami", BKG_API_KEY="two words").returncode == 2
    person.gets("session", "revoke", person.gets("whoami")["sessionId"], "--root")
    refusal = person.is_refused("plugin", "list")
    assert "the saved login of `bea` is refused: `bkg login` makes a new one" in refusal
    assert person.gets("logout") == {"user": "bea"}


def test_a_first_password_opens_nothing_until_it_is_changed(person: Person) -> None:
    made = person.gets("user", "create", "cem", "--role", "admin", "--display-name", "Cem B")
    assert (made["mustChangePassword"], made["displayName"]) == (True, "Cem B")
    person.logs_in("cem", made["password"])
    assert person.gets("whoami")["scopes"] == []
    assert "must choose a new password first" in person.is_refused("user", "list")
    shown = person.runs("whoami")
    assert "change the password: `bkg user password cem`" in shown.stdout
    both = f"{made['password']}\nmy own password\n"
    person.gets("user", "password", "cem", "--password-stdin", typed=both)
    assert "cem" in [user["name"] for user in person.gets("user", "list")["users"]]
    wrong = f"{made['password']}\nanother password\n"
    assert "password" in person.is_refused("user", "password", "cem", "--password-stdin", typed=wrong)
    person.gets("user", "delete", "cem", "--yes", "--root")


def test_a_wrong_login_says_the_same_for_everybody_and_what_to_do(person: Person) -> None:
    refusals = {
        person.is_refused("login", "--user", user, "--password-stdin", typed="not this one\n")
        for user in ("admin", "nobody-there")
    }
    assert len(refusals) == 1, refusals
    assert "`bkg --root user password NAME`" in refusals.pop()
    assert not person.file.exists()
    assert person.runs("login", "--user", "admin").returncode == 2, "there is nobody to ask"
    assert person.logs_in("admin", ADMIN_PASSWORD)["mustChangePassword"] is False


def test_users_are_made_changed_and_removed(person: Person) -> None:
    typed = "a password of dora\n"
    made = person.gets("user", "create", "dora", "--role", "viewer", "--password-stdin", typed=typed)
    assert "password" not in made, "only one that was generated is shown"
    assert (made["name"], made["role"], made["disabled"]) == ("dora", "viewer", False)
    assert "choose another name" in person.is_refused("user", "create", "dora", "--role", "user")
    assert "`bkg role list`" in person.is_refused("user", "create", "eli", "--role", "nothing")
    for password in ("abc", "x" * 73):
        refusal = person.is_refused(
            "user", "create", "eli", "--role", "user", "--password-stdin", typed=f"{password}\n"
        )
        assert "use at " in refusal
        assert password not in refusal
    changed = person.gets("user", "update", "dora", "--role", "user", "--display-name", "Dora D")
    assert (changed["role"], changed["displayName"]) == ("user", "Dora D")
    assert person.gets("user", "update", "dora", "--disable")["disabled"] is True
    refused = person.runs("login", "--user", "dora", "--password-stdin", typed=typed)
    assert refused.returncode == 1
    person.gets("user", "update", "dora", "--enable")
    person.gets("user", "password", "dora", "--password-stdin", typed="another of dora\n")
    person.logs_in("dora", "another of dora")
    person.gets("logout")
    person.gets("user", "delete", "dora", "--yes")
    assert "`bkg user list` names" in person.is_refused("user", "delete", "dora", "--yes")
    assert "dora" not in [user["name"] for user in person.gets("user", "list")["users"]]


def test_the_last_administrator_stays(start_host: Callable[..., Host], tmp_path: Path) -> None:
    person = Person(start_host(apikeys(), ADMIN_PASSWORD=ADMIN_PASSWORD), tmp_path / "home")
    for change in (["delete", "admin", "--yes"], ["update", "admin", "--disable"]):
        assert "make another one first" in person.is_refused("user", *change)
    assert "make another one first" in person.is_refused("user", "update", "admin", "--role", "user")
    person.gets("user", "create", "ida", "--role", "admin")
    person.gets("user", "delete", "admin", "--yes")


def test_a_reset_brings_somebody_back_and_makes_whoever_is_missing(person: Person) -> None:
    person.becomes("finn", "user")
    reset = person.gets("user", "reset", "finn")
    assert (reset["role"], reset["mustChangePassword"]) == ("admin", True)
    assert "the saved login of `finn` is refused" in person.is_refused("whoami")
    assert person.logs_in("finn", reset["password"])["mustChangePassword"] is True
    typed = "typed by the operator\n"
    assert person.gets("user", "reset", "gus", "--password-stdin", typed=typed)["name"] == "gus"
    for user in ("finn", "gus"):
        person.gets("user", "delete", user, "--yes", "--root")


def test_a_role_is_what_was_set(person: Person) -> None:
    person.gets("role", "set", "reader", "--scope", "plugin:read")
    person.becomes("hana", "reader")
    person.gets("plugin", "list")
    stop = ("plugin", "stop", "misbehave", "--wait", "0")
    assert "`plugin:manage` is needed" in person.is_refused(*stop)
    person.gets("role", "set", "reader", "--scope", "audit:read", "--root")
    assert "`plugin:read` is needed" in person.is_refused("plugin", "list")
    assert "cannot be changed" in person.is_refused("role", "set", "admin", "--scope", "llm.*", "--root")
    person.is_refused("role", "delete", "reader", "--yes", "--root")
    person.gets("user", "delete", "hana", "--yes", "--root")
    person.gets("role", "delete", "reader", "--yes", "--root")
    assert "reader" not in [role["name"] for role in person.gets("role", "list", "--root")["roles"]]
