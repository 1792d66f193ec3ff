"""Where a page of the documentation is followed: a home, a checkout with its state, plugins, and a shell.

Nothing here knows what a page says or what is right: that is `test_operating.py`. What a page calls
`/srv/backplane` or `43119` is something else here; every command is translated before it is typed, and what
comes is translated back. Nothing that was started outlives its place.
"""

import contextlib
import http.client
import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from harness import BINARIES, REPOSITORY, PluginFolder, misbehave, processes_of, until
from pages import read
from terminal import Screen

# That of `FILE`, and the one that somebody chooses after it.
PASSWORD = "a password of the tests"
OWN = "a password of their own"

# A question on the terminal, and the keys that are pressed then.
Answer = tuple[str, Callable[["Place"], str]]


class Place:
    """Where one page is followed: a home, a checkout with its state, plugins of the page, and a shell."""

    def __init__(self, directory: Path) -> None:
        self.home = directory / "home"
        self.checkout = directory / "checkout"
        self.data = self.checkout / "data"
        self.plugins = directory / "plugins"
        self.audit = directory / "audit"
        for folder in (self.home, self.checkout / "target", self.plugins, directory / "bin"):
            folder.mkdir(parents=True)
        (self.checkout / "target/release").symlink_to(BINARIES)
        (directory / "bin/bkg").symlink_to(BINARIES / "bkg")
        python = directory / "bin/python"
        python.write_text(f"#!/bin/sh\nexec '{sys.executable}' \"$@\"\n")
        python.chmod(0o755)
        # What `<FILE`, `< report.txt` and `git diff` of the pages read.
        (self.checkout / "FILE").write_text(f"{PASSWORD}\n")
        (self.checkout / "report.txt").write_text("a report\n")
        subprocess.run(["git", "init", "--quiet"], cwd=self.checkout, check=True)
        self.environment = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith(("BKG_", "ADMIN_", "XDG_", "GIT_", "OPENAI_"))
        }
        self.environment |= {
            "HOME": str(self.home),
            "PATH": f"{directory / 'bin'}:{self.environment['PATH']}",
            "BKG_DATA_DIR": str(self.data),
            # The start scripts of the bundled plugins look whether their programs are the newest.
            "CARGO_HOME": os.environ.get("CARGO_HOME", str(Path.home() / ".cargo")),
            "RUSTUP_HOME": os.environ.get("RUSTUP_HOME", str(Path.home() / ".rustup")),
        }
        # What a daemon gets besides: ports that nobody has, and the plugins of the pages.
        self.of_daemons = {
            "BKG_API_PORT": "0",
            "BKG_BUS_PORT": "0",
            "BKG_PLUGINS_DIR": str(self.plugins),
            "BKG_BINARIES": str(self.checkout / "target/release"),
        }
        # What the pages name, and what it is called here.
        self.names = {
            "/srv/backplane/data": str(self.data),
            "/srv/backplane/plugins": str(REPOSITORY / "plugins"),
            "/srv/other": str(directory / "other"),
            "/home/ada": str(self.home),
        }
        self.exports: list[str] = []
        self.code = 0
        self.shown: list[str] = []
        self.daemon: subprocess.Popen[bytes] | None = None

    def translated(self, text: str) -> str:
        """What is typed here for what the page says."""
        for name, here in self.names.items():
            text = text.replace(name, here)
        text = re.sub(r"\bscripts/(up|down)\b", rf"{REPOSITORY}/scripts/\1", text)
        if (self.data / "ports.json").exists():
            api = str(self.ports()["api"])
            text = text.replace("43119", api).replace("https://bkg.example.org", f"http://127.0.0.1:{api}")
        return text

    def back(self, text: str) -> str:
        """What the page would say for what was said here."""
        for name, here in self.names.items():
            text = text.replace(here, name)
        return text.replace("\r\n", "\n")

    def types_first_password(self) -> str:
        """What the daemon has made for the first administrator."""
        return (self.data / "initial-password").read_text().strip() + "\n"

    def asks(self, method: str, path: str, body: Any = None) -> Any:
        """What a route below `/admin/plugins` answers to the root key, whatever it thinks of it."""
        connection = http.client.HTTPConnection("127.0.0.1", self.ports()["api"], timeout=30)
        head = {
            "Authorization": f"Bearer {(self.data / 'root.key').read_text().strip()}",
            "Content-Type": "application/json",
        }
        with contextlib.closing(connection):
            connection.request(method, f"/admin/plugins/{path}", json.dumps(body), head)
            return json.loads(connection.getresponse().read())

    def learns(self, names: dict[str, str]) -> None:
        """Keeps what is called otherwise here; one name of the page stands for one thing."""
        for name, here in names.items():
            if name != here:
                assert self.names.get(name, here) == here, f"{name} is {self.names[name]} and {here}"
                self.names[name] = here

    def ports(self) -> dict[str, Any]:
        """Where the daemon is."""
        return dict(json.loads((self.data / "ports.json").read_text()))

    def types(self, text: str, answers: list[Answer] | None = None) -> str:
        """Types one command; everything that is shown comes back, and `code` is its end."""
        text = self.translated(text)
        # `$?` is that of the command before.
        command = ["/bin/bash", "-c", "\n".join([*self.exports, f"(exit {self.code})", text])]
        if re.fullmatch(r"export \S+", text):
            self.exports.append(text)
        environment = self.environment
        if re.search(r"serve|scripts/up", text):
            environment = {**self.of_daemons, **environment}
        if answers is None:
            done = subprocess.run(
                command,
                cwd=self.checkout,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                timeout=60,
            )
            self.code, shown = done.returncode, done.stdout
        else:
            shown = ""
            with Screen(command, {**environment, "TERM": "dumb"}, self.checkout) as screen:
                for prompt, answer in answers:
                    shown += screen.until(prompt) + prompt
                    press = screen.type_hidden if "password" in prompt or "again" in prompt else screen.type
                    press(answer(self))
                code = screen.end()
                # As a shell says it, also if it made room for the program.
                self.code = code if code >= 0 else 128 - code
                shown += screen.screen
        for secret in re.findall(r"bkg_sk_\w+", shown):
            self.names["bkg_sk_…"] = secret
        self.shown.append(self.back(shown))
        return self.shown[-1]

    def does(self, text: str) -> str:
        """Types what no page says."""
        shown = self.types(text)
        assert self.code == 0, f"{text}: {shown}"
        return shown

    def starts(self, text: str) -> None:
        """Types a command that stays in the foreground, and waits until its daemon is ready."""
        self.daemon = subprocess.Popen(
            ["/bin/bash", "-c", f"exec {self.translated(text)}"],
            cwd=self.checkout,
            env={**self.of_daemons, **self.environment},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=(self.checkout / "daemon.log").open("ab"),
        )

        def ready() -> bool:
            assert self.daemon is not None
            log = (self.checkout / "daemon.log").read_text()
            assert self.daemon.poll() is None, f"{text} left:\n{log}"
            with contextlib.suppress(FileNotFoundError):
                return bool(self.ports()["pid"] == self.daemon.pid) and all(
                    plugin["status"] in ("running", "stopped")
                    for plugin in json.loads(self.types("bkg --root plugin list --json"))
                )
            return False

        until(ready, f"{text} is ready", within=40)
        self.code = 0

    def ends(self) -> None:
        """Stops what was started in the foreground, as Ctrl-C does."""
        if self.daemon is not None:
            self.daemon.send_signal(signal.SIGINT)
            assert self.daemon.wait(60) == 0, (self.checkout / "daemon.log").read_text()
            self.daemon = None

    def end_what_is_left(self) -> list[int]:
        """Ends what a page should have ended, so that a failure leaves nothing behind."""
        left = processes_of(self.data)
        with contextlib.suppress(FileNotFoundError):
            if Path(f"/proc/{self.ports()['pid']}/exe").resolve() == (BINARIES / "bkg").resolve():
                left.append(self.ports()["pid"])
        if self.daemon is not None:
            self.daemon.kill()
            self.daemon.wait()
        for pid in left:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        return left


def write_plugin(folder: Path, entry: dict[str, Any], start: str, **files: str) -> None:
    """A plugin of the pages, with this start script and these Python files."""
    folder.mkdir()
    (folder / "plugin.json").write_text(json.dumps(entry))
    (folder / "start.sh").write_text(f"#!/bin/sh\n{start}\n")
    (folder / "start.sh").chmod(0o755)
    for name, text in files.items():
        (folder / f"{name}.py").write_text(text)


def write_plugins(place: Place) -> None:
    """The plugins that the pages name besides the bundled ones."""
    # The one that the reader has made by the page before.
    greeter = read(REPOSITORY / "docs/writing-a-plugin.md")
    (entry,) = [block.text for block in greeter if block.language == "json" and '"autostart"' in block.text]
    (program,) = [block.text for block in greeter if block.language == "python" and "NAME" in block.text]
    start = f"exec '{sys.executable}' -uB greeter.py"
    write_plugin(place.plugins / "greeter", json.loads(entry), start, greeter=program)
    fails = {"name": "failing", "autostart": False}
    write_plugin(place.plugins / "failing", fails, "echo no such module >&2\nexit 3")
    echo = misbehave(offers=["test.echo"])
    PluginFolder("summariser", echo.source, echo.settings, echo.entry).write_below(place.plugins)
