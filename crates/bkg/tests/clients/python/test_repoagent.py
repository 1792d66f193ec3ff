"""`repoagent` behind the real daemon: routes, invoke, narrowed keys, the twin, settings while it runs."""

import http.client
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from harness import ADMIN_PASSWORD, BUNDLED, REPOSITORY, Answer, Host, PluginFolder, apikeys, until

SOURCES = f"{BUNDLED / 'repoagent/src'}:{REPOSITORY / 'sdk/python/src'}"


@dataclass(frozen=True)
class Repoagent(PluginFolder):
    """The bundled plugin, run by the interpreter of the tests, which has all that it needs."""

    def write_below(self, directory: Path) -> None:
        super().write_below(directory)
        folder = directory / self.name
        (folder / "prepare.sh").unlink()
        (folder / "start.sh").write_text('#!/bin/sh\nexec "$BKG_TEST_PYTHON" -m repoagent\n')


class Served:
    """A daemon with `repoagent` over a root of the test's own."""

    def __init__(self, host: Host, root: Path) -> None:
        self.host = host
        self.root = root

    def ask(self, capability: str, payload: Any = None, *, key: str | None = None) -> Answer:
        body = {"capability": capability, "payload": payload}
        return self.host.http("POST", "/api/plugins/repoagent/invoke", body, key=key)

    def route(self, method: str, path: str, body: Any = None, *, key: str | None = None) -> Answer:
        head = {"Content-Type": "application/octet-stream"} if isinstance(body, bytes) else {}
        return self.host.http(method, f"/api/plugins/repoagent{path}", body, key=key, headers=head)

    def key(self, *scopes: str) -> str:
        """A key that opens these scopes and no more."""
        options = [part for scope in scopes for part in ("--scope", scope)]
        done = self.host.command_line("key", "create", "--user", "admin", *options, "--json")
        assert done.returncode == 0, done.stderr
        return str(json.loads(done.stdout)["key"])

    def set(self, **settings: Any) -> Answer:
        """Changes settings while the plugin runs."""
        answer = self.host.http("POST", "/admin/plugins/repoagent/config", {"settings": settings})
        assert answer.status == 200, answer.body
        assert answer.json()["applied"] == "hot", answer.body
        return answer


@pytest.fixture
def served(start_host: Callable[..., Host], tmp_path: Path) -> Served:
    root = tmp_path / "root"
    root.mkdir()
    environment = {"PYTHONPATH": SOURCES, "PYTHONDONTWRITEBYTECODE": "1"}
    plugin = Repoagent(
        "repoagent",
        BUNDLED / "repoagent",
        {"roots": [str(root)]},
        {"autostart": True, "env": {**environment, "BKG_TEST_PYTHON": sys.executable}},
    )
    host = start_host(apikeys(), plugin, ADMIN_PASSWORD=ADMIN_PASSWORD)
    return Served(host, root)


def test_all_eight_are_asked_by_route_and_by_invoke(served: Served) -> None:
    subprocess.run(["git", "init", "--quiet", str(served.root)], check=True)
    put = served.route("PUT", "/files/a%20b/%C3%A9.py", b"print(1)\n")
    assert (put.status, put.json()["created"]) == (200, True)
    assert (served.root / "a b/é.py").read_text() == "print(1)\n"
    read = served.route("GET", "/files/a%20b/%C3%A9.py").json()
    assert (read["content"], read["encoding"], read["size"]) == ("print(1)\n", "utf-8", 9)
    assert served.ask("repo.file.read", {"path": "a b/é.py"}).json()["data"] == read

    diff = "--- a/a b/é.py\n+++ b/a b/é.py\n@@ -1 +1 @@\n-print(1)\n+print(2)\n"
    assert served.route("POST", "/patch", {"diff": diff}).json()["applied"]
    assert served.ask("repo.file.write", {"path": "c\nd", "content": "x"}).status == 200
    paths = [entry["path"] for entry in served.route("GET", "/tree?depth=1").json()["entries"]]
    assert paths == ["a b", "c\nd"]
    (match,) = served.route("POST", "/search", {"query": "print"}).json()["matches"]
    assert (match["path"], match["line"], match["snippet"]) == ("a b/é.py", 1, "print(2)")
    summary = served.route("POST", "/analyze", {}).json()["summary"]
    assert (summary["total_files"], summary["total_directories"], summary["total_size"]) == (2, 1, 10)

    served.set(commands=[{"name": "say", "executable": ["printf", "%s"], "allowArgs": True}])
    ran = served.route("POST", "/command", {"command": "say", "args": ["$HOME"]}).json()
    assert (ran["exitCode"], ran["stdout"]) == (0, "$HOME")
    commit = served.route("POST", "/commit", {"message": "first"}).json()
    log = ["git", "-C", str(served.root), "log", "--format=%H %an"]
    assert subprocess.check_output(log, text=True) == f"{commit['commit']} root\n"


def test_refusals_come_as_errors_of_the_plugin(served: Served) -> None:
    for answer, status, code in (
        (served.ask("repo.file.read", {"path": "../data/root.key"}), 400, "invalid_request"),
        (served.ask("repo.file.read", {"path": "none"}), 404, "not_found"),
        (served.ask("repo.command", {"command": "rm"}), 404, "not_found"),
        (served.ask("repo.commit", {"message": "x"}), 404, "not_found"),
        (served.ask("repo.patch", {"diff": "--- a/x\n+++ b/x\n@@ -1 +1 @@\n-a\n+b\n"}), 404, "not_found"),
        (served.route("GET", "/files/.git/config"), 400, "invalid_request"),
        (served.route("PUT", "/files/.git/config", b"x"), 400, "invalid_request"),
    ):
        assert (answer.status, answer.error()["code"]) == (status, code), answer.body
        assert answer.headers["x-bkg-error-source"] == "plugin"
    assert list(served.root.iterdir()) == []


def test_a_key_opens_what_its_scopes_name(served: Served) -> None:
    reader = served.key("repo.tree", "repo.file.read")
    assert served.ask("repo.tree", {}, key=reader).status == 200
    assert served.route("GET", "/tree", key=reader).status == 200
    for answer in (
        served.ask("repo.file.write", {"path": "x", "content": "x"}, key=reader),
        served.route("PUT", "/files/x", b"x", key=reader),
        served.route("POST", "/command", {"command": "x"}, key=reader),
    ):
        assert (answer.status, answer.error()["code"]) == (403, "forbidden")
    writer = served.key("repo.*")
    assert served.route("PUT", "/files/x", b"x", key=writer).status == 200
    assert served.route("GET", "/tree", key="").status == 401


def test_the_twin_answers_whom_the_host_lets_in(served: Served) -> None:
    served.set(http={"enabled": True})

    def url() -> str | None:
        lines = served.host.http("GET", "/admin/plugins/repoagent/logs?limit=200").body.decode()
        return next((part.split('"')[0] for part in lines.split("listens on http://")[1:]), None)

    address = until(url, "the twin says where it listens")
    reader = served.key("repo.tree")

    def ask(method: str, path: str, key: str, body: bytes | None = None) -> tuple[int, Any]:
        connection = http.client.HTTPConnection(address, timeout=30)
        try:
            headers = {"Authorization": f"Bearer {key}"} if key else {}
            connection.request(method, path, body, headers)
            response = connection.getresponse()
            return response.status, json.loads(response.read())
        finally:
            connection.close()

    assert ask("PUT", "/files/x", served.host.key, b"hello")[0] == 200
    assert ask("GET", "/files/x", served.host.key)[1] == served.route("GET", "/files/x").json()
    assert ask("GET", "/tree", reader)[0] == 200
    for key, path, status, code in (
        ("", "/tree", 401, "unauthorized"),
        ("bkg_sk_nobody", "/tree", 401, "unauthorized"),
        (reader, "/files/x", 403, "forbidden"),
    ):
        answer = ask("GET", path, key)
        assert (answer[0], answer[1]["error"]["code"]) == (status, code)

    served.set(http={"enabled": False})

    def refused() -> bool:
        try:
            ask("GET", "/tree", reader)
        except OSError:
            return True
        return False

    until(refused, "the twin is gone")


def test_the_twin_of_the_settings_at_the_start_is_told_as_the_port(served: Served) -> None:
    served.set(http={"enabled": True})
    assert served.host.lifecycle("repoagent", "restart").status in (200, 202)
    served.host.until_running("repoagent")
    ports = json.loads((served.host.data / "ports.json").read_text())
    assert ports["plugins"]["repoagent"] > 0


def test_settings_are_refused_with_the_reason_and_change_nothing(served: Served, tmp_path: Path) -> None:
    config = "/admin/plugins/repoagent/config"
    bad = served.host.http("POST", config, {"settings": {"roots": ["/nonesuch"]}})
    assert (bad.status, bad.error()["code"]) == (422, "invalid_config")
    assert "`/nonesuch` cannot be opened" in bad.error()["message"]
    wrong = served.host.http("POST", config, {"settings": {"maxResults": 0}})
    assert wrong.status == 422
    other = tmp_path / "other"
    other.mkdir()
    (other / "there").write_text("x")
    served.set(roots=[{"path": str(other), "name": "second"}])
    tree = served.route("GET", "/tree").json()
    assert (tree["root"], [entry["path"] for entry in tree["entries"]]) == ("second", ["there"])


def test_a_command_ends_with_its_client_and_with_its_plugin(served: Served) -> None:
    mark = f"{served.root}-mark"
    script = f"trap '' TERM; setsid sh -c 'trap \"\" TERM; sleep 600; : {mark}' & sleep 600; : {mark}"
    served.set(commands=[{"name": "stay", "executable": ["sh", "-c", script]}])

    def alive() -> list[int]:
        found = []
        for entry in Path("/proc").glob("[0-9]*/cmdline"):
            try:
                if mark.encode() in entry.read_bytes():
                    found.append(int(entry.parent.name))
            except OSError:
                continue
        return found

    def start() -> http.client.HTTPConnection:
        connection = served.host.connection()
        head = {"Authorization": f"Bearer {served.host.key}", "Content-Type": "application/json"}
        connection.request("POST", "/api/plugins/repoagent/command", '{"command": "stay"}', head)
        until(alive, "the command runs")
        return connection

    start().close()
    until(lambda: not alive(), "nothing of the command is left")

    connection = start()
    instance = served.host.instance("repoagent")
    os.kill(instance["pid"], signal.SIGKILL)
    until(lambda: not alive(), "nothing of the command is left")
    connection.close()
    served.host.until_running("repoagent", not_pid=instance["pid"])
