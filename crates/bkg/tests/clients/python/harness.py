"""Starts the real daemon on directories of its own, with the plugins a test asks for, and talks to it.

Nothing here knows what an answer should be: that is the tests' part. Every wait has a deadline, every
port is chosen by the kernel, and `Host.stop` fails the test when the daemon did not leave cleanly or
panicked. `harness.mjs` is the same for Node.
"""

import contextlib
import http.client
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self, TypeVar

from openai import AsyncOpenAI, OpenAI

REPOSITORY = Path(__file__).resolve().parents[5]
PROFILE = os.environ.get("BKG_TEST_PROFILE", "debug")
BINARIES = Path(os.environ.get("CARGO_TARGET_DIR", REPOSITORY / "target")) / PROFILE
BUNDLED = REPOSITORY / "plugins"
FIXTURES = REPOSITORY / "crates/bkg/tests/plugins"
SDK = REPOSITORY / "sdk/python/src"

# What the first administrator has where a test says nothing else: no test has to choose one first.
ADMIN_PASSWORD = "a password of the tests"

T = TypeVar("T")


def until(found: Callable[[], T | None], what: str, *, within: float = 15.0) -> T:
    """Asks again and again until there is something true; raises with `what` after `within` seconds."""
    deadline = time.monotonic() + within
    while True:
        if result := found():
            return result
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {within:.0f} s: {what}")
        time.sleep(0.01)


@dataclass(frozen=True)
class PluginFolder:
    """A plugin as a test wants it: a folder of the repository under a name and settings of its own."""

    name: str
    source: Path
    settings: dict[str, Any] = field(default_factory=dict)
    entry: dict[str, Any] = field(default_factory=dict)
    binary: str | None = None

    def write_below(self, directory: Path) -> None:
        """Copies the folder, so that the daemon finds it with this test's interpreter and settings."""
        folder = directory / self.name
        if self.binary is None:
            shutil.copytree(self.source, folder, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            folder.mkdir()
            shutil.copy(self.source / "plugin.json", folder)
            start = folder / "start.sh"
            start.write_text(f"#!/bin/sh\nexec '{BINARIES / self.binary}'\n")
            start.chmod(0o755)
        entry = json.loads((self.source / "plugin.json").read_text())
        # The daemon hands plugins a clean environment, so what they need goes through their entry.
        environment = {**entry.get("env", {}), "BKG_TEST_PYTHON": sys.executable, "BKG_TEST_SDK": str(SDK)}
        changed = {**entry, "name": self.name, "env": environment, **self.entry}
        (folder / "plugin.json").write_text(json.dumps(changed, indent=2))
        defaults = self.source / "config.json"
        settings = json.loads(defaults.read_text()) if defaults.exists() else {}
        (folder / "config.json").write_text(json.dumps({**settings, **self.settings}))


@dataclass(frozen=True)
class PluginInPlace(PluginFolder):
    """A plugin that runs from the repository itself, where it finds what it is built from.

    What it installs is kept in the user's cache, as for a daemon that somebody starts in the checkout.
    """

    def write_below(self, directory: Path) -> None:
        """Links to the folder; what the test wants otherwise stands in the directory's `plugins.json`."""
        (directory / self.name).symlink_to(self.source)
        listed = directory / "plugins.json"
        entries = json.loads(listed.read_text()) if listed.exists() else []
        changed = {"name": self.name, **self.entry, "settings": self.settings}
        listed.write_text(json.dumps([*entries, changed], indent=2))


def users_cache() -> Path:
    """Where a daemon of whoever runs the tests keeps what it installs."""
    cache = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "bkg"
    return Path(os.environ.get("BKG_CACHE_DIR", cache))


def llmserver(**settings: Any) -> PluginFolder:
    """The bundled llmserver, as `scripts/test` built it."""
    return PluginFolder("llmserver", BUNDLED / "llmserver", settings, binary="bkg-plugin-llmserver")


def apikeys(**settings: Any) -> PluginFolder:
    """The bundled auth provider, as `scripts/test` built it. Its hashes are cheap: no test guards them."""
    settings = {"bcryptCost": 4, **settings}
    return PluginFolder("apikeys", BUNDLED / "apikeys", settings, binary="bkg-plugin-apikeys")


def misbehave(**settings: Any) -> PluginFolder:
    """The plugin that breaks rules on command, started with the daemon."""
    return PluginFolder("misbehave", FIXTURES / "misbehave", settings, {"autostart": True})


def scripted(name: str = "scripted", **settings: Any) -> PluginFolder:
    """The plugin with models whose every answer is known: `scripted/README.md`."""
    return PluginFolder(name, Path(__file__).parent / "scripted", settings)


def base_echo() -> PluginFolder:
    """The plugin of the base contract, started with the daemon."""
    return PluginFolder("base-echo", FIXTURES / "base-echo", entry={"autostart": True})


def hostile(name: str, **entry: Any) -> PluginFolder:
    """A plugin whose launch goes wrong; started by the test."""
    return PluginFolder(name, FIXTURES / name, entry=entry)


def examples(page: str, language: str, mark: str, address: str) -> list[str]:
    """The blocks of a page of the documentation that have `mark` in them, with this daemon's address."""
    blocks = re.findall(
        rf"^```{language}\n(.*?)^```", (REPOSITORY / "docs" / page).read_text(), re.S | re.M
    )
    found = [block.replace("http://127.0.0.1:43119", address) for block in blocks if mark in block]
    assert found, f"`docs/{page}` has no such example"
    return found


def processes_of(directory: Path) -> list[int]:
    """Every process whose environment says that it belongs to a launch by a daemon on `directory`."""
    wanted = f"BKG_PLUGIN_CONFIG_PATH={directory}".encode()
    found = []
    for environment in Path("/proc").glob("[0-9]*/environ"):
        try:
            if wanted in environment.read_bytes():
                found.append(int(environment.parent.name))
        except OSError:
            continue  # It left meanwhile, or belongs to someone else.
    return found


@dataclass(frozen=True)
class Answer:
    """One HTTP answer, read whole."""

    status: int
    headers: http.client.HTTPMessage
    body: bytes

    def json(self) -> Any:
        """The body, parsed."""
        return json.loads(self.body)

    def error(self) -> dict[str, Any]:
        """The error object, whose four keys and their types every error has."""
        error = self.json()["error"]
        assert {"message", "type", "param", "code"} <= error.keys(), error
        assert isinstance(error["message"], str), error
        assert isinstance(error["type"], str), error
        for name in ("param", "code"):
            assert error[name] is None or isinstance(error[name], str), error
        return dict(error)

    def events(self) -> list[str]:
        """The data of each server-sent event; comments are left out, anything else is an error."""
        found = []
        text = self.body.decode()
        assert text.endswith("\n\n"), text[-200:]
        for block in text.split("\n\n"):
            lines = [line for line in block.split("\n") if line and not line.startswith(":")]
            assert all(line.startswith("data: ") for line in lines), block
            assert len(lines) <= 1, block
            found += [line.removeprefix("data: ") for line in lines]
        return found


class Host:
    """One daemon with a data directory and a plugins directory below `directory`."""

    def __init__(
        self,
        directory: Path,
        *plugins: PluginFolder,
        config: str = "",
        environment: dict[str, str] | None = None,
    ) -> None:
        self.data = directory / "data"
        self.plugins = directory / "plugins"
        self.log = directory / "bkg.log"
        self.plugins.mkdir(parents=True)
        for plugin in plugins:
            plugin.write_below(self.plugins)
        (directory / "bkg.toml").write_text(config)
        self.command = [
            str(BINARIES / "bkg"),
            *("serve", "--data-dir", str(self.data), "--plugins-dir", str(self.plugins)),
            *("--config", str(directory / "bkg.toml"), "--api-port", "0", "--bus-port", "0"),
        ]
        self.environment = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith(("BKG_", "ADMIN_", "OTEL_"))
        }
        in_place = any(isinstance(plugin, PluginInPlace) for plugin in plugins)
        self.environment["BKG_CACHE_DIR"] = str(users_cache() if in_place else directory / "cache")
        # Installing may take its time, once.
        self.patience = 300.0 if in_place else 15.0
        # The logins of whoever runs the tests are none of a test's business.
        self.environment["XDG_CONFIG_HOME"] = str(directory / "settings")
        self.environment.update(environment or {})
        self.waited_for = [
            plugin.name
            for plugin in plugins
            if {
                **json.loads((self.plugins / plugin.name / "plugin.json").read_text()),
                **plugin.entry,
            }.get("autostart")
        ]
        self.process: subprocess.Popen[bytes] | None = None
        self.ports: dict[str, Any] = {}
        self.key = ""

    def start(self) -> Self:
        """Starts the daemon, and returns when it and its autostarted plugins serve."""
        self.start_process()
        try:
            until(self.ready, "the daemon is ready")
            self.connect()
        except BaseException:
            self.kill()
            self.kill_what_is_left()
            print(self.log.read_text(errors="replace"), file=sys.stderr)
            raise
        return self

    def start_process(self) -> None:
        """Starts the daemon and waits for nothing."""
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                self.command, env=self.environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )

    def ready(self) -> bool:
        """Whether the daemon has said where it listens; raises if it has left instead."""
        assert self.process is not None
        code = self.process.poll()
        assert code is None, f"the daemon left with {code}:\n{self.log.read_text(errors='replace')}"
        try:
            self.ports = json.loads((self.data / "ports.json").read_text())
        except FileNotFoundError:
            return False
        # A daemon that was killed left its file behind.
        return bool(self.ports["pid"] == self.process.pid)

    def connect(self) -> None:
        """Reads the key, and waits until the autostarted plugins serve."""
        self.key = (self.data / "root.key").read_text().strip()
        for name in self.waited_for:
            self.until_running(name, within=self.patience)

    def stop(self) -> None:
        """Stops the daemon as an operator does; it must leave with 0 and without a panic behind it.

        Does nothing if it is stopped already.
        """
        assert self.process is not None
        if self.process.returncode is not None:
            return
        self.process.send_signal(signal.SIGTERM)
        try:
            code = self.process.wait(timeout=60)
        except subprocess.TimeoutExpired:
            self.kill()
            self.kill_what_is_left()
            raise AssertionError("the daemon did not stop within 60 s of SIGTERM") from None
        left = self.kill_what_is_left()
        log = self.log.read_text(errors="replace")
        assert "panicked at" not in log, log
        assert code == 0, f"the daemon left with {code}:\n{log}"
        assert left == [], f"processes of plugins outlived the daemon: {left}\n{log}"

    def kill_what_is_left(self) -> list[int]:
        """Ends the processes that a daemon should have ended, so that a failure leaves none behind."""
        left = processes_of(self.data)
        for pid in left:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        return left

    def kill(self) -> None:
        """Kills the daemon alone, as the machine would; `start` brings it back on the same directories."""
        assert self.process is not None
        self.process.kill()
        self.process.wait()

    def command_line(
        self, *arguments: str, typed: str = "", environment: dict[str, str] | None = None
    ) -> subprocess.CompletedProcess[str]:
        """Runs `bkg` against this daemon; `typed` is its standard input."""
        command = [str(BINARIES / "bkg"), "--data-dir", str(self.data), *arguments]
        return subprocess.run(
            command,
            env={**self.environment, **(environment or {})},
            input=typed,
            capture_output=True,
            text=True,
            timeout=60,
        )

    @property
    def url(self) -> str:
        """Where the API listens."""
        return f"http://127.0.0.1:{self.ports['api']}"

    def openai(self, **options: Any) -> OpenAI:
        """The official client. Without retries: its default ones hide faults."""
        return OpenAI(**{**self._client_options(), **options})

    def async_openai(self, **options: Any) -> AsyncOpenAI:
        """The official client for asyncio."""
        return AsyncOpenAI(**{**self._client_options(), **options})

    def _client_options(self) -> dict[str, Any]:
        return {"base_url": f"{self.url}/v1", "api_key": self.key, "max_retries": 0, "timeout": 30.0}

    def connection(self) -> http.client.HTTPConnection:
        """A bare HTTP connection, for what the official client would never send."""
        return http.client.HTTPConnection("127.0.0.1", self.ports["api"], timeout=30)

    def http(
        self,
        method: str,
        path: str,
        body: Any = None,
        *,
        key: str | None = None,
        headers: dict[str, str] | None = None,
    ) -> Answer:
        """One request; `body` is sent as JSON unless it is bytes already; `key=""` sends no credential."""
        head = {"Content-Type": "application/json"} if body is not None else {}
        if (credential := self.key if key is None else key) != "":
            head["Authorization"] = f"Bearer {credential}"
        data = body if isinstance(body, bytes) or body is None else json.dumps(body).encode()
        connection = self.connection()
        try:
            connection.request(method, path, data, {**head, **(headers or {})})
            response = connection.getresponse()
            return Answer(response.status, response.headers, response.read())
        finally:
            connection.close()

    def plugin(self, name: str) -> dict[str, Any]:
        """What the operator sees of one plugin."""
        answer = self.http("GET", f"/admin/plugins/{name}")
        assert answer.status == 200, answer.body
        return dict(answer.json())

    def instance(self, name: str) -> dict[str, Any]:
        """The one instance of a plugin that runs one."""
        (instance,) = self.plugin(name)["instances"]
        return dict(instance)

    def until_running(
        self, name: str, *, not_pid: int | None = None, within: float = 15.0
    ) -> dict[str, Any]:
        """Waits until the plugin serves, with another process than `not_pid`; returns its instance."""

        def running() -> dict[str, Any] | None:
            found = self.plugin(name)
            for instance in found["instances"]:
                if found["status"] == "running" and instance["pid"] != not_pid:
                    return dict(instance)
            return None

        return until(running, f"`{name}` is running: {self.plugin(name)}", within=within)

    def lifecycle(self, name: str, action: str, *, wait: int = 30) -> Answer:
        """`start`, `stop` or `restart`, waited for."""
        return self.http("POST", f"/admin/plugins/{name}/{action}?wait={wait}")

    def invoke(
        self, capability: str, payload: Any = None, *, plugin: str = "misbehave", **fields: Any
    ) -> Answer:
        """Asks one plugin for one capability."""
        body = {"capability": capability, "payload": payload, **fields}
        return self.http("POST", f"/api/plugins/{plugin}/invoke", body)

    def cancels(self, request_id: str) -> list[dict[str, Any]]:
        """The cancels that misbehave has seen for an HTTP request, waiting for the first."""
        answer = self.invoke("test.cancel_seen", {"correlationId": request_id, "withinMs": 5_000})
        assert answer.status == 200, answer.body
        return list(answer.json()["data"]["cancels"])

    def served(self, name: str) -> list[dict[str, Any]]:
        """What a `scripted` plugin says that it served, in the order of its ends."""
        ledger = self.data / "plugins" / name / "data/served.jsonl"
        return [json.loads(line) for line in ledger.read_text().splitlines()]
