"""The pages of the documentation as somebody follows them: every block of commands is typed as it stands,
in one place, and what comes is what the page says.

A block is run or stands in `ELSEWHERE` with the test that shows it; there is no third way. What a page
leaves to its reader (a password, a folder, who is there already) is in the tables below and nowhere else.
`pages.py` reads the pages and compares.
"""

import contextlib
import http.client
import json
import os
import re
import shutil
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import pytest
from harness import BINARIES, REPOSITORY, PluginFolder, misbehave, processes_of, until
from pages import Block, Command, compare, read
from terminal import CTRL_C, Screen

DOCUMENTATION = [
    "README.md",
    *(f"docs/{page}.md" for page in ("operating", "configuration", "applications", "live")),
]

PASSWORD = "a password of the tests"
T = TypeVar("T")
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
        if text.startswith("export "):
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
                    screen.type(answer(self))
                self.code = screen.end()
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

    def leaves_nothing(self) -> None:
        """Ends whatever is left, and says so."""
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
        assert not left, f"the page left processes behind: {left}"


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    place = Place(tmp_path)
    yield place
    place.leaves_nothing()


def write_plugin(folder: Path, entry: dict[str, Any], start: str, **files: str) -> None:
    """A plugin of the pages, with this start script and these Python files."""
    folder.mkdir()
    (folder / "plugin.json").write_text(json.dumps(entry))
    (folder / "start.sh").write_text(f"#!/bin/sh\n{start}\n")
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


def as_root(place: Place) -> None:
    """The login of the block before is over; from now on passwords are cheap."""
    place.does("bkg logout")
    place.does("bkg config set apikeys settings.bcryptCost=4")
    place.does("bkg key create --user admin --scope llm.chat")


def with_ada(place: Place) -> None:
    """Somebody who logs in from elsewhere, with a password that need not be changed any more."""
    at_ada = f"XDG_CONFIG_HOME='{place.home}/of-ada'"
    place.does("bkg user create ada --role operator --password-stdin <FILE")
    place.does(f"{at_ada} bkg login --user ada --password-stdin <FILE")
    place.does(f"{{ cat FILE; echo '{OWN}'; }} | {at_ada} bkg user password ada --password-stdin")


def without_ada(place: Place) -> None:
    """Nobody has that name yet; another's session is there to be ended."""
    place.does("bkg user delete ada --yes")
    place.does("bkg user create eve --role user --password-stdin <FILE")
    place.does(f"XDG_CONFIG_HOME='{place.home}/of-eve' bkg login --user eve --password-stdin <FILE")
    (session,) = json.loads(place.does("bkg session list --user eve --json"))["sessions"]
    place.names["revoke ID"] = f"revoke {session['id']}"


def with_two_keys(place: Place) -> None:
    """What was done last is that keys were made."""
    for name in ("one", "two"):
        place.does(f"bkg key create --user admin --scope llm.chat --name {name}")


def changed_from_outside(place: Place) -> None:
    """A copy of the audit log in which somebody has changed a row, for all that follows in the block."""
    place.audit.mkdir()
    shutil.copy(place.data / "audit.key", place.audit)
    with (
        contextlib.closing(sqlite3.connect(place.data / "bkg.db")) as source,
        contextlib.closing(sqlite3.connect(place.audit / "bkg.db")) as copy,
    ):
        source.backup(copy)
        for (name,) in copy.execute("SELECT name FROM sqlite_master WHERE type = 'trigger'").fetchall():
            copy.execute(f'DROP TRIGGER "{name}"')
        copy.execute("UPDATE audit SET target = 'user eve' WHERE seq = 2")
        copy.commit()
    place.exports.append(f"export BKG_DATA_DIR='{place.audit}'")


def as_before(place: Place) -> None:
    """With the data directory of the daemon again."""
    place.exports.clear()


def killed(place: Place) -> None:
    """The daemon ends without a chance to clean up."""
    assert place.daemon is not None
    place.daemon.kill()
    place.daemon.wait()
    place.daemon = None


def with_a_change(place: Place) -> None:
    """Something for `git diff` to show."""
    (place.checkout / "report.txt").write_text("a longer report\n")


def shown_once(place: Place) -> None:
    """The daemon of the block before is not needed any more."""
    place.does("scripts/down")


def started(place: Place) -> None:
    """A daemon runs."""
    place.starts("bkg serve")


# What has happened by then that a page does not type: before the block of a page that holds this.
BEFORE: dict[tuple[str, str], Callable[[Place], None]] = {
    ("operating", "$ bkg whoami"): as_root,
    ("operating", "bkg --url"): with_ada,
    ("operating", "bkg user create ada"): without_ada,
    ("operating", "$ bkg audit list"): with_two_keys,
    ("operating", "row 2 was changed"): changed_from_outside,
    ("operating", "bkg --root plugin"): as_before,
    ("operating", "git diff"): with_a_change,
    ("operating", "died without cleaning up"): killed,
    ("configuration", '"origins"'): started,
}

# What is typed into the command that holds this, after which question.
ANSWERS: dict[str, list[Answer]] = {
    "login --user admin": [("password of admin: ", Place.types_first_password)],
    "user password admin": [
        ("old password: ", Place.types_first_password),
        ("new password: ", lambda _: f"{OWN}\n"),
        ("the same again: ", lambda _: f"{OWN}\n"),
    ],
    "login --user ada": [("password of ada: ", lambda _: f"{OWN}\n")],
    "user password ada": [
        ("new password of ada: ", lambda _: f"{PASSWORD}\n"),
        ("the same again: ", lambda _: f"{PASSWORD}\n"),
    ],
    "user delete ada": [("[y/N] ", lambda _: "y\n")],
    "logs llmserver -f": [("Z ", lambda _: CTRL_C)],
}

# How a command ends that does not end with 0: that which holds this, or is answered with it.
CODES = {
    ("operating", "uses the data directory"): 3,
    ("operating", "for HTTP is taken"): 4,
    ("operating", "could be read on the way"): 5,
    ("operating", "row 2 was changed"): 1,
    ("operating", "failing is backoff"): 1,
    ("operating", "nope.nope"): 1,
    ("operating", "died without cleaning up"): 1,
    ("README", "logs llmserver -f"): 130,
}

# Commands that stay in the foreground; what follows on the page is asked of their daemon.
FOREGROUND = "target/release/bkg serve --data-dir /srv/backplane/data"

# Alternatives that a comment names: what is typed besides, with the same end.
BESIDES = {
    ("operating", "bkg user update ada --role operator"): [
        "bkg user update ada --disable",
        "bkg user update ada --enable",
    ],
    ("operating", "bkg user create ada"): ["bkg user create bob --role user --password-stdin <FILE"],
    ("operating", "bkg session list --user ada"): ["bkg session list --own"],
    ("operating", "bkg completions bash"): [
        f"bkg completions {shell}" for shell in ("zsh", "fish", "elvish", "powershell")
    ],
    ("README", "scripts/up      #"): ["scripts/up"],
}

# What JSON of a page is an example of: the answer that has the same members.
EXAMPLES: dict[tuple[str, str], Callable[[Place], Any]] = {
    ("operating", '"samples"'): lambda place: until(
        lambda: (found := place.asks("GET", "ping/telemetry"))["samples"] and found["own"] and found,
        "a measurement of ping",
    ),
    ("configuration", '"origins"'): lambda place: (
        place.asks("POST", "ping/config", SAVED) and place.asks("GET", "ping/config")
    ),
    ("configuration", '"applied"'): lambda place: place.asks("POST", "ping/config/return", {"revision": 0}),
    ("configuration", '"error"'): lambda place: place.asks("POST", "ping/config", WRONG),
}
SAVED = {"settings": {"greeting": "welcome"}}
WRONG = {"settings": {"greeting": 7}}

# Blocks that cannot be run here, or commands of one, and what shows that they are right.
ELSEWHERE = {
    ("README", "scripts/test "): "test_operating.py::test_a_page_can_be_followed_as_it_stands",
    ("operating", "map $http_upgrade"): (
        "test_listen.py::test_behind_nginx_the_daemon_sees_clients_and_not_the_proxy"
    ),
    # Caddy sends what nginx is told to send there.
    ("operating", "reverse_proxy 127.0.0.1:43119"): (
        "test_listen.py::test_behind_nginx_the_daemon_sees_clients_and_not_the_proxy"
    ),
    ("live", '"bootstrap"'): "test_browser.py::test_the_example_of_the_documentation_follows_a_log",
    ("live", "function followLogs"): (
        "test_browser.py::test_the_example_of_the_documentation_follows_a_log"
    ),
}


def named(table: dict[tuple[str, str], T], page: str, text: str) -> T | None:
    """What a table has for a block or a command of a page."""
    found = [value for (of, part), value in table.items() if of == page and part in text]
    assert len(found) <= 1, f"{text}: the table has {found}"
    return found[0] if found else None


@pytest.mark.parametrize("page", DOCUMENTATION)
def test_a_page_can_be_followed_as_it_stands(place: Place, page: str) -> None:
    name = Path(page).stem
    write_plugins(place)
    for block in read(REPOSITORY / page):
        at = f"{page}, line {block.line}"
        if before := named(BEFORE, name, block.text):
            before(place)
        for command in block.commands:
            follow(place, name, at, command)
        if not block.commands and not named(ELSEWHERE, name, block.text):
            look_at(place, name, at, block)
    place.ends()


def follow(place: Place, name: str, at: str, command: Command) -> None:
    """Types one command; it must end as the page says, and say what the page says."""
    if named(ELSEWHERE, name, str(command)):
        return
    if command.text == FOREGROUND:
        place.starts(command.text)
        return
    code = named(CODES, name, str(command)) or 0
    answers = [answers for part, answers in ANSWERS.items() if part in command.text]
    shown = place.types(command.text, *answers)
    assert place.code == code, f"{at}: `{command.text}` ends with {place.code}:\n{shown}"
    if command.output is not None:
        names = compare(command.output, shown)
        assert names is not None, f"{at}: the page says\n{command}\n\nand it is\n{shown}"
        place.learns(names)
    for text in named(BESIDES, name, command.text) or ():
        shown = place.types(text)
        assert place.code == code, f"{at}: `{text}` ends with {place.code}:\n{shown}"


def look_at(place: Place, name: str, at: str, block: Block) -> None:
    """A block without commands: a program, a configuration, an example of an answer, or what was shown."""
    if block.language == "python":
        shown = place.types(f"python - <<'END'\n{block.text}\nEND")
        assert place.code == 0, f"{at}: {shown}"
    elif block.language == "toml":
        shown = place.types(
            f"cat >'{place.home}/bkg.toml' <<'END'\n{block.text}\nEND\n"
            f"bkg config --config '{place.home}/bkg.toml'"
        )
        assert place.code == 0, f"{at}: {shown}"
    elif block.language == "json":
        example = named(EXAMPLES, name, block.text)
        assert example is not None, f"{at}: nothing says what this is an example of"
        found = example(place)
        assert members(json.loads(block.text)) <= members(found), f"{at}: it is {json.dumps(found)}"
    else:
        assert block.language == "", f"{at}: nothing says how to run {block.language!r}"
        assert any(compare(block.text, shown, whole=False) is not None for shown in place.shown), (
            f"{at}: nothing was shown that holds\n{block.text}"
        )


def members(example: Any, at: str = "") -> set[str]:
    """The place of every member; those of the values that stand for others count once."""
    if isinstance(example, dict):
        return {at}.union(*(members(value, f"{at}/{name}") for name, value in example.items()))
    if isinstance(example, list):
        return {at}.union(*(members(value, f"{at}/-") for value in example))
    return {at}


def test_what_cannot_be_run_here_is_shown_elsewhere() -> None:
    for test in ELSEWHERE.values():
        file, _, function = test.partition("::")
        assert f"def {function}(" in (Path(__file__).parent / file).read_text(), test


def test_every_entry_of_the_tables_is_about_something() -> None:
    for table in (BEFORE, CODES, BESIDES, EXAMPLES, ELSEWHERE):
        for name, part in table:  # type: ignore[attr-defined]
            (page,) = [page for page in DOCUMENTATION if Path(page).stem == name]
            found = [block for block in read(REPOSITORY / page) if part in block.text]
            assert len(found) == 1, f"{part!r} stands in {len(found)} blocks of {page}"
