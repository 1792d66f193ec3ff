"""The pages of the documentation as somebody follows them: every block of commands is typed as it stands,
in one place, and what comes is what the page says.

A block is run or stands in `ELSEWHERE` with the test that shows it; there is no third way. What a page
leaves to its reader (a password, a folder, who is there already) is in the tables below and nowhere else.
`pages.py` reads the pages and compares.
"""

import contextlib
import json
import re
import shutil
import sqlite3
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import pytest
from harness import BINARIES, REPOSITORY, until
from pages import Block, Command, compare, read
from place import OWN, PASSWORD, Answer, Place, write_plugins
from terminal import CTRL_C

DOCUMENTATION = [
    "README.md",
    *(f"docs/{page}.md" for page in ("operating", "configuration", "applications", "live")),
]

T = TypeVar("T")


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    place = Place(tmp_path)
    yield place
    place.end_what_is_left()


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
    place.does("git add report.txt")
    (place.checkout / "report.txt").write_text("a longer report\n")


def at_a_free_port(place: Place) -> None:
    """Nothing runs any more, and the port of the page is not needed by anybody."""
    place.does("scripts/down")
    place.names["--api-port 8080"] = "--api-port 0"


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

# The same before a single command.
BETWEEN: dict[tuple[str, str], Callable[[Place], None]] = {
    ("operating", "scripts/up -- --api-port 8080"): at_a_free_port,
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
    ("operating", "bkg session list --user ada"): [
        # One's own are those of a login, which the commands around it do not use.
        "export XDG_CONFIG_HOME=~/of-ada && bkg login --user ada --password-stdin <FILE"
        f" && {{ cat FILE; echo '{OWN}'; }} | bkg user password ada --password-stdin"
        " && bkg session list --own",
    ],
    ("operating", "bkg completions bash"): [
        f"bkg completions {shell}" for shell in ("zsh", "fish", "elvish", "powershell")
    ],
    ("README", "scripts/up      #"): ["scripts/up"],
}

SAVED = {"settings": {"greeting": "welcome"}}
WRONG = {"settings": {"greeting": 7}}

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

# What the author of a new plugin types.
AUTHORS = (
    "test_scaffolds.py::test_a_new_plugin_answers_follows_its_settings_and_an_edit_and_passes_its_tests"
)

# Blocks that cannot be run here, or commands of one, and what shows that they are right.
BACKUP = "test_backup_command.py::test_a_backup_is_a_plain_tar_that_begins_with_what_it_holds"
RESTORE = "test_backup_command.py::test_a_restore_brings_back_what_was_and_keeps_what_is"
EXAMPLE = "test_applications.py::test_an_example_runs_as_it_stands"
ELSEWHERE = {
    ("README", "scripts/test "): "test_operating.py::test_a_page_can_be_followed_as_it_stands",
    # In an empty folder, with nothing running.
    ("README", "bkg new greeter"): AUTHORS,
    ("README", "bkg serve --dev"): AUTHORS,
    ("README", "plugin invoke greeter"): AUTHORS,
    ("README", "bkg check greeter"): AUTHORS,
    ("applications", "curl -sN"): EXAMPLE,
    ("applications", "content.delta"): EXAMPLE,
    ("applications", "responses.stream"): EXAMPLE,
    ("applications", "import Anthropic"): EXAMPLE,
    ("applications", "langchain_openai"): (
        "../langchain/test_langchain.py::test_the_example_of_the_documentation_runs"
    ),
    ("applications", "import OpenAI from"): "../node/helpers.test.mjs::do what the documentation shows",
    ("operating", "bkg backup --preview"): BACKUP,
    ("operating", "bkg backup nightly.tar"): BACKUP,
    ("operating", "bkg backup --with-keys"): BACKUP,
    ("operating", "bkg backup - |"): BACKUP,
    ("operating", "bkg restore nightly.tar"): RESTORE,
    ("operating", "map $http_upgrade"): (
        "test_listen.py::test_behind_nginx_the_daemon_sees_clients_and_not_the_proxy"
    ),
    # Caddy sends what nginx is told to send there.
    ("operating", "reverse_proxy 127.0.0.1:43119"): (
        "test_listen.py::test_behind_nginx_the_daemon_sees_clients_and_not_the_proxy"
    ),
    ("live", '"type": "bootstrap"'): "test_browser.py::test_the_example_of_the_documentation_follows_a_log",
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
    assert place.end_what_is_left() == []


def follow(place: Place, name: str, at: str, command: Command) -> None:
    """Types one command; it must end as the page says, and say what the page says."""
    if named(ELSEWHERE, name, str(command)):
        return
    if between := named(BETWEEN, name, command.text):
        between(place)
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
        declared = f"'{function}'" if file.endswith(".mjs") else f"def {function}("
        assert declared in (Path(__file__).parent / file).read_text(), test


def test_every_entry_of_the_tables_is_about_something() -> None:
    for table in (BEFORE, BETWEEN, CODES, BESIDES, EXAMPLES, ELSEWHERE):
        for name, part in table:
            (page,) = [page for page in DOCUMENTATION if Path(page).stem == name]
            found = [block for block in read(REPOSITORY / page) if part in block.text]
            assert len(found) == 1, f"{part!r} stands in {len(found)} blocks of {page}"


def options(command: tuple[str, ...]) -> tuple[set[str], set[str]]:
    """The commands below a command of `bkg`, and the options that it takes, as its help has them."""
    asked = subprocess.run(
        [str(BINARIES / "bkg"), *command, "--help"], capture_output=True, text=True, check=True
    )
    below = re.search(r"(?s)^Commands:\n(.*?)\n\n", asked.stdout, re.MULTILINE)
    names = re.findall(r"(?m)^  ([a-z-]+)", below.group(1)) if below else []
    taken = re.findall(r"(?m)^ +(?:(-\w), )?(--[a-z-]+)", asked.stdout)
    return set(names), {name for pair in taken for name in pair if name}


def test_the_page_names_only_commands_and_options_that_there_are() -> None:
    known: dict[tuple[str, ...], tuple[set[str], set[str]]] = {}
    page = (REPOSITORY / "docs/operating.md").read_text()
    tree = {name: options((name,))[0] for name in options(())[0]}
    # Commands in the text and in tables; in a table of one command's parts it is not said again.
    spans = [span.removeprefix("bkg ") for span in re.findall(r"`(bkg [^`]+)`", page)]
    spans += re.findall(r"`((?:config|key|serve|plugin) [a-z]+[^`]*)`", page)
    of_tables = [("serve", "flag"), ("logs", "option"), ("key create", "option of `key create`")]
    for command, heading in of_tables:
        (table,) = re.findall(rf"(?m)^\| {re.escape(heading)} \|.*\n((?:\|.*\n)+)", page)
        cells = [row.split("|")[1] for row in table.splitlines()[1:]]
        spans += [f"{command} {span}" for cell in cells for span in re.findall(r"`(-[^`]+)`", cell)]
    assert len(spans) > 60, spans
    for span in spans:
        words = span.split()
        while words and words[0].startswith("-"):
            words.pop(0)
        path = tuple(words[:1])
        assert not path or path[0] in tree, f"`bkg {span}`: there is no command `{path[0]}`"
        if len(words) > 1 and words[1] in tree[words[0]]:
            path = tuple(words[:2])
        elif len(words) > 1 and path and tree[path[0]]:
            # `bkg config` alone is about the daemon, and takes options.
            alone = path == ("config",) and words[1].startswith("-")
            assert alone, f"`bkg {span}`: `{path[0]}` has no such command"
        if path not in known:
            known[path] = options(path)
        for option in re.findall(r"(?<!\S)-{1,2}[a-z][a-z-]*", span):
            assert option in known[path][1], f"`bkg {span}`: there is no option `{option}`"
