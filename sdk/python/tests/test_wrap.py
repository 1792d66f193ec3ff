"""Classes with `initialize`, `execute` and `shutdown` as plugins."""

import asyncio
import logging
import textwrap
import threading
from pathlib import Path
from typing import Any

import pytest

from bkg_sdk import DefinitionError, DescribedCapability, Plugin, WireError
from bkg_sdk.testing import TestHost
from bkg_sdk.wrap import wrap

EXECUTE = "calc.execute"


class Folder:
    """Files with classes, each wrapped as it is asked for."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def wrap(self, source: str, *, name: str = "some_plugin.py", **options: Any) -> Plugin:
        file = self.path / name
        file.write_text(textwrap.dedent(source))
        return wrap(file, EXECUTE, settings=options.pop("settings", {}), **options)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Folder:
    monkeypatch.syspath_prepend(str(tmp_path))
    return Folder(tmp_path)


def registered(host: TestHost) -> DescribedCapability:
    """The only capability that was registered."""
    (described,) = host.seen.registrations[0].capabilities
    assert isinstance(described, DescribedCapability)
    return described


async def asked(plugin: Plugin, *payloads: object) -> list[object]:
    """The answers to these payloads one after the other; for a failure its code and message."""
    answers: list[object] = []
    async with TestHost(plugin) as host:
        for payload in payloads:
            try:
                answers.append(await host.request(EXECUTE, payload))
            except WireError as error:
                answers.append((str(error.code), error.message))
    return answers


async def test_one_object_lives_from_initialize_to_shutdown(folder: Folder) -> None:
    plugin = folder.wrap(
        """
        import pathlib

        class SomePlugin:
            '''Counts what it is asked.

            More about it.
            '''
            def initialize(self, settings):
                self.seen = [settings["first"]]

            def execute(self, data):
                self.seen.append(data)
                return {"status": "success", "result": self.seen}

            def shutdown(self):
                pathlib.Path(__file__).with_suffix(".end").write_text(str(len(self.seen)))
        """,
        settings={"first": 0},
    )
    async with TestHost(plugin) as host:
        described = registered(host)
        assert (described.id, described.description) == (EXECUTE, "Counts what it is asked.")
        assert await host.request(EXECUTE, 1) == [0, 1]
        assert await host.request(EXECUTE, 2) == [0, 1, 2]
        host.signal()
        await host.ended()
    assert (folder.path / "some_plugin.end").read_text() == "3"


async def test_methods_may_be_asynchronous(folder: Folder) -> None:
    plugin = folder.wrap(
        """
        import asyncio

        class SomePlugin:
            async def initialize(self):
                await asyncio.sleep(0)
                self.loop = asyncio.get_running_loop()

            async def execute(self, data):
                await asyncio.sleep(0)
                return {"status": "success", "data": self.loop is asyncio.get_running_loop()}

            async def shutdown(self):
                await asyncio.sleep(0)
        """
    )
    assert await asked(plugin, None) == [True]


async def test_a_class_may_have_execute_alone(folder: Folder) -> None:
    plugin = folder.wrap("class SomePlugin:\n    def execute(self, data): return data\n")
    assert await asked(plugin, {"a": [1, None]}) == [{"a": [1, None]}]


async def test_what_is_returned_decides_between_answer_and_failure(folder: Folder) -> None:
    plugin = folder.wrap("class SomePlugin:\n    def execute(self, data): return data\n")
    table: list[tuple[object, object]] = [
        ({"status": "success", "result": 7}, 7),
        ({"status": "success", "data": {"x": 1}}, {"x": 1}),
        ({"status": "success", "result": None}, None),
        ({"status": "success", "total": 3, "unit": "m"}, {"total": 3, "unit": "m"}),
        ({"status": "success"}, None),
        ({"status": "error", "error": "no such file"}, ("plugin_error", "no such file")),
        ({"status": "error", "message": "too long"}, ("plugin_error", "too long")),
        ({"status": "error"}, ("plugin_error", "it did not say why")),
        (
            {"status": "error", "error": {"code": "not_found", "message": "no page"}},
            ("not_found", "no page"),
        ),
        ({"status": "pending"}, {"status": "pending"}),
        ("text", "text"),
        (None, None),
    ]
    answers = await asked(plugin, *(returned for returned, _ in table))
    assert answers == [expected for _, expected in table]


async def test_an_exception_fails_one_request_and_its_traceback_is_logged(
    folder: Folder, caplog: pytest.LogCaptureFixture
) -> None:
    plugin = folder.wrap(
        """
        import sys

        class SomePlugin:
            def execute(self, data):
                match data:
                    case "value": raise ValueError("7 is no colour")
                    case "bare": raise KeyError
                    case "stop": next(iter([]))
                    case "exit": sys.exit(3)
                    case "object": return object()
                return "alive"
        """
    )
    with caplog.at_level(logging.ERROR):
        answers = await asked(plugin, "value", "bare", "stop", "exit", "object", "more")
    assert answers[:3] == [
        ("plugin_error", "ValueError: 7 is no colour"),
        ("plugin_error", "KeyError"),
        ("plugin_error", "RuntimeError: StopIteration"),
    ]
    assert answers[3] == ("plugin_error", "RuntimeError: SystemExit: 3")
    assert "has no JSON form" in str(answers[4])
    assert answers[5] == "alive"
    assert any("7 is no colour" in (record.exc_text or "") for record in caplog.records)


async def test_requests_are_worked_on_one_at_a_time_in_one_thread(folder: Folder) -> None:
    plugin = folder.wrap(
        """
        import threading, time

        class SomePlugin:
            def __init__(self):
                self.threads = {threading.current_thread()}
                self.busy = threading.Lock()

            def initialize(self, settings):
                self.threads.add(threading.current_thread())

            def execute(self, data):
                self.threads.add(threading.current_thread())
                if not self.busy.acquire(blocking=False):
                    return "two at once"
                try:
                    return len(self.threads)
                finally:
                    self.busy.release()
        """
    )
    async with TestHost(plugin) as host:
        requests = [host.start_request(EXECUTE, None) for _ in range(20)]
        assert [await request.outcome() for request in requests] == [1] * 20


async def test_more_at_once_where_that_is_declared(folder: Folder) -> None:
    plugin = folder.wrap(
        """
        import threading

        class SomePlugin:
            def initialize(self, settings):
                self.both = threading.Barrier(2)

            def execute(self, data):
                self.both.wait(timeout=10)
                return True
        """,
        max_concurrency=2,
    )
    async with TestHost(plugin) as host:
        described = registered(host)
        assert described.max_concurrency == 2
        requests = [host.start_request(EXECUTE, None) for _ in range(2)]
        assert [await request.outcome() for request in requests] == [True, True]


async def test_a_thread_that_nobody_waits_for_keeps_its_place(folder: Folder) -> None:
    plugin = folder.wrap(
        """
        class SomePlugin:
            def initialize(self, settings):
                self.working = False
                self.go_on = settings["go_on"]
                self.began = settings["began"]

            def execute(self, data):
                if data == "wait":
                    self.working = True
                    self.began.set()
                    self.go_on.wait(timeout=10)
                    self.working = False
                return self.working
        """,
        settings={"go_on": (go_on := threading.Event()), "began": (began := threading.Event())},
    )
    async with TestHost(plugin) as host:
        given_up = host.start_request(EXECUTE, "wait")
        await asyncio.to_thread(began.wait, 10)
        given_up.cancel()
        next_one = host.start_request(EXECUTE, "next")
        await host.until("the cancel is answered", lambda seen: len(seen.answers) == 1)
        go_on.set()
        assert await next_one.outcome() is False


async def test_initialize_is_tried_again_and_says_why_it_failed(
    folder: Folder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bkg_sdk.wrap._FIRST_PAUSE", 0.01)
    tries: list[int] = []
    plugin = folder.wrap(
        """
        class SomePlugin:
            def initialize(self, settings):
                settings["tries"].append(1)
                if not settings["ready"].is_set():
                    return {"status": "error", "error": "the database is away"}

            def execute(self, data):
                return "here"
        """,
        settings={"tries": tries, "ready": (ready := threading.Event())},
    )
    async with TestHost(plugin) as host:
        with pytest.raises(WireError) as failed:
            await host.request(EXECUTE)
        assert failed.value.message == "`initialize` of `SomePlugin` failed: the database is away"
        await host.until("it is down", lambda seen: seen.health[-1].status == "down")
        ready.set()
        await host.until("it is up", lambda seen: seen.health[-1].status == "up")
        assert await host.request(EXECUTE) == "here"
        assert len(tries) >= 2


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        ("", "no class with `execute`: name the one that is meant `SomePlugin`"),
        (
            "class A:\n def execute(s, d): ...\nclass B:\n def execute(s, d): ...",
            "several classes with `execute` (`A`, `B`)",
        ),
        ("class SomePlugin: ...", "`SomePlugin` in"),
        (
            "class SomePlugin:\n def __init__(self, x, y=1): ...\n def execute(s, d): ...",
            "cannot be made without `x`",
        ),
        (
            "from abc import *\nclass SomePlugin(ABC):\n @abstractmethod\n def execute(s, d): ...",
            "is abstract",
        ),
        ("import a_package_that_is_not_there", "add what is missing to requirements.txt"),
        ("class :", "SyntaxError"),
        ("raise OSError('no disk')", "cannot be loaded: OSError: no disk"),
    ],
)
def test_a_file_without_a_fitting_class_is_told_apart(folder: Folder, source: str, reason: str) -> None:
    with pytest.raises(DefinitionError) as error:
        folder.wrap(source)
    assert reason in str(error.value)
    assert error.value.exit_code == 78


def test_a_file_that_is_not_there_is_told_apart(tmp_path: Path) -> None:
    with pytest.raises(DefinitionError, match="is no Python file"):
        wrap(tmp_path / "absent.py", EXECUTE)


@pytest.mark.parametrize(
    ("name", "source", "answer"),
    [
        (
            "calculator_plugin.py",
            "class CalculatorPlugin(Base): ...\nclass Other(Base): ...",
            "CalculatorPlugin",
        ),
        ("my-own.tool.py", "class MyOwnTool(Base): ...\nclass Other(Base): ...", "MyOwnTool"),
        (
            "anything.py",
            "class Whatever:\n def execute(self, data): return 'Whatever'\nclass Settings: ...",
            "Whatever",
        ),
    ],
)
async def test_the_class_is_the_one_that_is_called_as_its_file(
    folder: Folder, name: str, source: str, answer: str
) -> None:
    base = "class Base:\n def execute(self, data): return type(self).__name__\n"
    (folder.path / "base_of_all.py").write_text(base)
    plugin = folder.wrap("from base_of_all import Base\n" + source, name=name)
    assert await asked(plugin, None) == [answer]
