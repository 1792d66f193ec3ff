"""The plugins of `sdk/examples`, which were written from the page of the protocol alone.

They run under the real daemon, and against a host of this file's own that says what no host says to a
base plugin, but what any WebSocket server may: fragments, pings with any bytes, a close.
"""

import json
import os
import shutil
import subprocess
import threading
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from harness import BINARIES, REPOSITORY, Host, PluginFolder, until
from websockets.exceptions import ConnectionClosed
from websockets.sync.server import ServerConnection, serve

EXAMPLES = REPOSITORY / "sdk/examples"
FOLDERS = {"greeter-bash": "bash", "greeter-python": "plain-python"}
# Without it the one in bash cannot read what it is asked.
WITHOUT_JQ = pytest.mark.skipif(
    shutil.which("jq") is None, reason="jq is not installed; on Debian: sudo apt-get install jq"
)
NAMES = [pytest.param("greeter-bash", marks=WITHOUT_JQ), "greeter-python"]

# Around each border between the three forms that the length of a frame has.
SIZES = [1, 100, 125, 126, 127, 255, 256, 257, 65_000, 65_535, 65_536, 65_537, 1_000_000]
UNUSUAL = 'Jürg \U0001f600 \n"quoted" \\ %s $HOME `id` \x01\x7f'


def example(name: str, **settings: Any) -> PluginFolder:
    return PluginFolder(name, EXAMPLES / FOLDERS[name], settings)


@pytest.fixture(scope="module")
def examples(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Host]:
    """One daemon with every example."""
    folders = [
        PluginFolder(name, EXAMPLES / folder, {"greeting": "Good day"}, {"autostart": True})
        for name, folder in FOLDERS.items()
        if folder != "bash" or shutil.which("jq")
    ]
    host = Host(tmp_path_factory.mktemp("examples"), *folders).start()
    yield host
    host.stop()


def greet(host: Host, name: str, payload: Any) -> Any:
    return host.invoke("greeter.greet", payload, plugin=name)


@pytest.mark.parametrize("name", NAMES)
def test_it_registers_as_a_base_plugin_logs_and_answers_with_its_setting(examples: Host, name: str) -> None:
    assert examples.instance(name)["contract"] == "base"
    assert examples.plugin(name)["version"] == "1.0.0"
    assert greet(examples, name, {"name": "Ada"}).json() == {"data": {"greeting": "Good day, Ada!"}}
    assert greet(examples, name, {"name": UNUSUAL}).json() == {
        "data": {"greeting": f"Good day, {UNUSUAL}!"}
    }
    lines = examples.http("GET", f"/admin/plugins/{name}/logs").json()["lines"]
    said = [(line["level"], line["message"]) for line in lines if line["stream"] == "bus"]
    assert said == [("info", "ready")]


@pytest.mark.parametrize("payload", [None, {}, {"name": ""}, {"name": 5}, [1], "Ada"])
@pytest.mark.parametrize("name", NAMES)
def test_it_refuses_what_it_cannot_greet_and_names_the_member(
    examples: Host, name: str, payload: Any
) -> None:
    answer = greet(examples, name, payload)
    error = answer.error()
    assert (answer.status, error["code"], error["param"]) == (400, "invalid_request", "name")


@pytest.mark.parametrize("name", NAMES)
def test_it_reads_and_writes_frames_of_every_length(examples: Host, name: str) -> None:
    pid = examples.instance(name)["pid"]
    for size in SIZES:
        answer = greet(examples, name, {"name": "x" * size})
        assert answer.json() == {"data": {"greeting": f"Good day, {'x' * size}!"}}, size
    assert greet(examples, name, {"name": "x" * (1 << 20)}).status == 413
    assert examples.instance(name)["pid"] == pid


@pytest.mark.parametrize("name", NAMES)
def test_it_beats_again_after_ten_seconds(start_host: Callable[..., Host], name: str) -> None:
    # To this daemon its first beat is old after 7.5 s, and the next one makes up for it.
    host = start_host(example(name), config="[limits]\nheartbeat_ms = 3000\n")
    host.lifecycle(name, "start")
    pid = host.instance(name)["pid"]
    until(lambda: host.plugin(name)["status"] in ("degraded", "unresponsive"), "its beat is missed")
    until(lambda: host.plugin(name)["status"] == "running", "it beats again")
    assert host.instance(name)["pid"] == pid


@pytest.mark.parametrize("name", NAMES)
def test_it_is_started_again_when_it_is_killed_and_leaves_nothing_when_it_is_stopped(
    start_host: Callable[..., Host], name: str
) -> None:
    host = start_host(example(name))
    host.lifecycle(name, "start")
    pid = host.instance(name)["pid"]
    os.kill(pid, 9)
    host.until_running(name, not_pid=pid)
    assert greet(host, name, {"name": "Ada"}).json() == {"data": {"greeting": "Hello, Ada!"}}
    assert host.lifecycle(name, "stop").json()["status"] == "stopped"


@dataclass
class Playing:
    """A host of this file's own, in a conversation with one plugin."""

    socket: ServerConnection
    process: subprocess.Popen[str]
    greeted: list[dict[str, Any]] = field(default_factory=list)

    def hear(self) -> dict[str, Any]:
        message: dict[str, Any] = json.loads(self.socket.recv(timeout=15))
        return message

    def ask(self, name: str, pieces: int = 1, capability: str = "greeter.greet") -> dict[str, Any]:
        """Asks in so many fragments, and answers the response."""
        request_id = str(uuid.uuid4())
        request = {"type": "request", "requestId": request_id, "capability": capability}
        text = json.dumps({**request, "payload": {"name": name}}, ensure_ascii=False)
        length = -(-len(text) // pieces)
        parts = [text[start : start + length] for start in range(0, len(text), length)]
        self.socket.send(text if pieces == 1 else parts)
        response = self.hear()
        assert (response.pop("type"), response.pop("requestId")) == ("response", request_id)
        response.pop("plugin", None)
        return response


@contextmanager
def playing(name: str, directory: Path) -> Iterator[Playing]:
    """Plays host for one example, from its registration to whatever ends the conversation."""
    arrived: list[ServerConnection] = []
    over = threading.Event()

    def converse(socket: ServerConnection) -> None:
        arrived.append(socket)
        over.wait(60)

    config = directory / "config.runtime.json"
    config.write_text(json.dumps({"name": name, "settings": {"greeting": "Hello"}}))
    with serve(converse, "127.0.0.1", 0, ping_interval=None, compression=None) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        environment = {
            "PATH": os.environ["PATH"],
            "BKG_PLUGIN_NAME": name,
            "BKG_PLUGIN_BUS_PORT": str(server.socket.getsockname()[1]),
            "BKG_PLUGIN_CONFIG_PATH": str(config),
        }
        process = subprocess.Popen(
            ["./start.sh"], cwd=EXAMPLES / FOLDERS[name], env=environment, stderr=subprocess.PIPE, text=True
        )
        try:
            until(lambda: arrived, "it dials")
            played = Playing(arrived[0], process)
            played.greeted = [played.hear() for _ in range(3)]
            yield played
        finally:
            process.kill()
            process.wait()
            assert process.stderr is not None
            process.stderr.close()
            over.set()


@pytest.mark.parametrize("name", NAMES)
def test_its_first_words_are_those_of_the_page(name: str, tmp_path: Path) -> None:
    with playing(name, tmp_path) as host:
        register, *others = host.greeted
        assert register.pop("version") == "1.0.0"
        expected = {"type": "register", "plugin": name, "port": "internal"}
        assert register == {**expected, "capabilities": ["greeter.greet"]}
        assert {message["type"] for message in others} == {"health", "log"}


@pytest.mark.parametrize("name", NAMES)
def test_it_puts_fragments_together_and_answers_pings_between_them(name: str, tmp_path: Path) -> None:
    with playing(name, tmp_path) as host:
        for pieces in (2, 7):
            long = "ü" * 40_000
            expected = {"success": True, "data": {"greeting": f"Hello, {long}!"}}
            assert host.ask(long, pieces) == expected
        for payload in (b"", b"abc", b"\0\0", bytes(range(125)), bytes(range(131, 256))):
            assert host.socket.ping(payload).wait(15)
        # The first part of a message, a ping, and the second part.
        text = json.dumps(
            {"type": "request", "requestId": "r", "capability": "greeter.greet", "payload": {}}
        )

        def parts() -> Iterator[str]:
            yield text[:20]
            assert host.socket.ping(b"between").wait(15)
            yield text[20:]

        host.socket.send(parts())
        assert host.hear()["requestId"] == "r"


@pytest.mark.parametrize("name", NAMES)
def test_what_it_does_not_know_it_ignores_or_refuses_and_lives_on(name: str, tmp_path: Path) -> None:
    with playing(name, tmp_path) as host:
        host.socket.send(json.dumps({"type": "weather", "outlook": "bright"}))
        assert host.ask("Ada", capability="greeter.unknown")["success"] is False
        assert host.ask("Ada") == {"success": True, "data": {"greeting": "Hello, Ada!"}}


@pytest.mark.parametrize(("code", "reason"), [(1008, "not allowed"), (1013, ""), (1000, "done")])
@pytest.mark.parametrize("name", NAMES)
def test_it_ends_with_a_code_and_says_why_when_it_is_closed(
    name: str, code: int, reason: str, tmp_path: Path
) -> None:
    with playing(name, tmp_path) as host:
        host.socket.close(code, reason)
        with pytest.raises(ConnectionClosed) as closed:
            host.socket.recv(timeout=15)
        assert closed.value.rcvd is not None
        assert closed.value.rcvd.code == code, "it closes in kind"
        _, said = host.process.communicate(timeout=15)
        assert host.process.returncode == 1
        assert f"the host closed with {code}" in said
        assert reason in said


@pytest.mark.parametrize("name", NAMES)
def test_it_ends_with_a_code_when_the_link_is_dropped(name: str, tmp_path: Path) -> None:
    with playing(name, tmp_path) as host:
        host.socket.socket.shutdown(2)
        assert host.process.wait(timeout=15) == 1


@pytest.mark.parametrize("name", NAMES)
def test_it_passes_the_conformance_kit(name: str, tmp_path: Path) -> None:
    folder = tmp_path / name
    example(name).write_below(tmp_path)
    command = [str(BINARIES / "bkg"), "check", str(folder), "--level", "base"]
    checked = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert checked.returncode == 0, checked.stdout + checked.stderr
