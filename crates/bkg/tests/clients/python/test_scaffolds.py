"""What `bkg new` makes, as a new user tries it: made, run, asked, edited, tested, checked.

The folders stand at the same place in every run, and so does the cache that plugins build in: what a
language fetches and compiles once is kept below `target/`, as on the machine of somebody who has made a
plugin before. What can be said of the files alone is in `../../it/scaffolds.rs`.
"""

import json
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from harness import BINARIES, REPOSITORY, Host, until

ROOM = REPOSITORY / "target" / "scaffolds"

# What plugins build in; cargo has one place for the daemon, the check and the plugin's own tests.
BUILDS = {"BKG_CACHE_DIR": str(ROOM / "cache"), "CARGO_TARGET_DIR": str(ROOM / "cargo")}

# A build on a machine that does other things besides; figures are not for tests.
BUILT_WITHIN = 300.0
pytestmark = pytest.mark.timeout(2 * BUILT_WITHIN)

CLASS = """
class CalculatorPlugin:
    '''Adds what it is given.'''

    def initialize(self, settings):
        self.start = settings.get("start", 0)
        print("ready to add")

    def execute(self, data):
        if "numbers" not in data:
            return {"status": "error", "message": "nothing to add"}
        return {"status": "success", "result": self.start + sum(data["numbers"])}

    def shutdown(self):
        print("done adding")
"""


def bkg(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Runs a command that needs no daemon; it must succeed."""
    done = subprocess.run(
        [str(BINARIES / "bkg"), *arguments],
        env={**os.environ, **BUILDS},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=BUILT_WITHIN,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done


def make(name: str, *options: str) -> Path:
    """A new plugin at the place that it had in the last run."""
    ROOM.mkdir(parents=True, exist_ok=True)
    shutil.rmtree(ROOM / name, ignore_errors=True)
    made = json.loads(bkg("new", name, "--in", str(ROOM), "--json", *options).stdout)
    if made["missing"]:
        pytest.skip(f"not installed: {made['missing']}")
    return Path(made["folder"])


@pytest.fixture
def develop(tmp_path: Path) -> Iterator[Callable[[Path], Host]]:
    """Starts a daemon that watches one plugin, and waits until that serves."""
    started: list[Host] = []

    def start(folder: Path) -> Host:
        host = Host(tmp_path / folder.name, environment=BUILDS)
        host.command += ["--dev", "--plugin", str(folder)]
        started.append(host.start())
        until(
            lambda: host.plugin(folder.name)["status"] == "running",
            f"{folder.name} is built and serves",
            within=BUILT_WITHIN,
        )
        return host

    yield start
    for host in started:
        host.stop()


def ask(host: Host, capability: str, payload: Any) -> Any:
    """What a capability answers, or the error's message; nothing while the plugin is being replaced."""
    body = {"capability": capability, "payload": payload}
    answer = host.http("POST", f"/api/plugins/{capability.split('.')[0]}/invoke", body)
    if answer.status in (502, 503) and answer.error()["code"] != "plugin_error":
        return None
    return answer.json()["data"] if answer.status == 200 else answer.error()["message"]


def edit(file: Path, before: str, after: str) -> None:
    text = file.read_text()
    assert before in text, f"`{before}` is not in {file}"
    file.write_text(text.replace(before, after))


def conforms(folder: Path) -> None:
    report = json.loads(bkg("check", str(folder), "--json").stdout)
    assert report["counts"]["broken"] == 0, report


def succeeds(folder: Path, *command: str) -> None:
    """The plugin's own tests pass."""
    done = subprocess.run(
        command,
        cwd=folder,
        env={**os.environ, **BUILDS},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=BUILT_WITHIN,
    )
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize(
    ("language", "test", "source", "before", "after"),
    [
        ("rust", ["cargo", "test", "--locked"], "src/main.rs", '"{} {}"', '"{} {}!"'),
        ("python", ["./test.sh"], "plugin.py", '{guest.name}"}', '{guest.name}!"}'),
        ("typescript", ["./test.sh"], "src/plugin.ts", "${name}` };", "${name}!` };"),
        ("bash", ["./test.sh"], "capabilities.sh", '\\(.name)"', '\\(.name)!"'),
    ],
    ids=["rust", "python", "typescript", "bash"],
)
def test_a_new_plugin_answers_follows_its_settings_and_an_edit_and_passes_its_tests(
    language: str,
    test: list[str],
    source: str,
    before: str,
    after: str,
    develop: Callable[[Path], Host],
) -> None:
    name = f"new-{language}"
    folder = make(name, "--lang", language)
    files = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    host = develop(folder)
    greet = f"{name}.greet"
    assert ask(host, greet, {"name": "Ada"}) == {"greeting": "hello Ada"}
    assert "name" in ask(host, greet, {"name": ""})
    if language != "bash":
        route = host.http("GET", f"/api/plugins/{name}/greetings/Ada%20L.")
        assert route.json() == {"greeting": "hello Ada L."}
        lines = host.http("GET", f"/api/plugins/{name}/count/3").body.decode().splitlines()
        chunks = [json.loads(line.removeprefix("data: ")) for line in lines if line.startswith("data: ")]
        # The last event says how the stream ended.
        assert chunks == [{"number": 0}, {"number": 1}, {"number": 2}, None]

    saved = host.command_line("config", "set", name, "settings.greeting=salut")
    assert saved.returncode == 0, saved.stderr
    until(lambda: ask(host, greet, {"name": "Ada"}) == {"greeting": "salut Ada"}, "the new word is used")

    # The daemon and what it built have left the folder as it was.
    assert {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()} == files
    edit(folder / source, before, after)
    until(
        lambda: ask(host, greet, {"name": "Ada"}) == {"greeting": "salut Ada!"},
        "the edit is live",
        within=BUILT_WITHIN,
    )
    edit(folder / source, after, before)
    host.stop()
    succeeds(folder, *test)
    conforms(folder)


def test_a_class_that_is_there_already_runs_as_a_plugin(
    tmp_path: Path, develop: Callable[[Path], Host]
) -> None:
    (tmp_path / "calculator_plugin.py").write_text(CLASS)
    folder = make("new-wrap", "--wrap", str(tmp_path / "calculator_plugin.py"))
    host = develop(folder)

    def run(data: Any) -> Any:
        answer = host.http("POST", "/api/plugins/execute", {"plugin": "new-wrap", "data": data})
        return answer.json()["result"] if answer.status == 200 else answer.error()["message"]

    assert run({"numbers": [1, 2]}) == 3
    assert run("something") == "nothing to add"
    saved = host.command_line("config", "set", "new-wrap", "settings.start=10")
    assert saved.returncode == 0, saved.stderr
    until(lambda: ask(host, "new-wrap.execute", {"numbers": [1]}) == 11, "it was begun anew")
    edit(folder / "calculator_plugin.py", "nothing to add", "numbers are missing")
    until(lambda: ask(host, "new-wrap.execute", {}) == "numbers are missing", "the edit is live")
    lines = host.http("GET", "/admin/plugins/new-wrap/logs?limit=200").body.decode()
    assert "ready to add" in lines
    assert "done adding" in lines
    host.stop()
    succeeds(folder, "./test.sh")
    edit(folder / "check.json", '{ "input": "something" }', '{ "numbers": [1] }')
    conforms(folder)
