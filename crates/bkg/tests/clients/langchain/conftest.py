"""The daemon that LangChain's standard tests talk to, and what became of each test.

LangChain reads from the environment where its models are, so the daemon's address and key go there, as a
user would put them. No test leaves the machine: what some would fetch from other sites is handed to them.
"""

import os
from collections.abc import Generator, Iterator

import httpx
import pytest
from harness import Host, apikeys, scripted

# A proxy of the machine must not stand between the tests and loopback.
os.environ["NO_PROXY"] = "127.0.0.1,localhost"

LEFT_OUT = pytest.StashKey[dict[str, str]]()
PASSED = pytest.StashKey[set[str]]()


@pytest.fixture(scope="session", autouse=True)
def host(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Host]:
    """One daemon with the scripted models."""
    host = Host(tmp_path_factory.mktemp("host"), apikeys(), scripted()).start()
    os.environ["OPENAI_API_KEY"] = host.key
    os.environ["OPENAI_API_BASE"] = f"{host.url}/v1"
    os.environ["ANTHROPIC_API_KEY"] = host.key
    os.environ["ANTHROPIC_BASE_URL"] = host.url
    yield host
    host.stop()


@pytest.fixture(autouse=True)
def pictures(monkeypatch: pytest.MonkeyPatch) -> None:
    """Hands out a few bytes as the pictures, documents and sounds that tests want to send to a model."""

    def get(url: str, **_: object) -> httpx.Response:
        return httpx.Response(200, content=b"what stands at " + url.encode())

    monkeypatch.setattr(httpx, "get", get)


def pytest_configure(config: pytest.Config) -> None:
    """Nothing has run yet."""
    config.stash[LEFT_OUT] = {}
    config.stash[PASSED] = set()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Keeps which tests were left out, and which passed."""
    report = yield
    name = item.nodeid.split("::", 1)[1]
    if report.skipped:
        where = report.longrepr
        told = where[2] if isinstance(where, tuple) else where
        item.config.stash[LEFT_OUT][name] = getattr(report, "wasxfail", None) or str(told)
    elif report.when == "call" and report.passed:
        item.config.stash[PASSED].add(name)
    return report
