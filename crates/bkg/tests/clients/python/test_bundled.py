"""What a newcomer gets: the daemon with the bundled plugins as the repository ships them."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from harness import Host


@pytest.fixture
def fresh(tmp_path: Path) -> Iterator[Host]:
    """A daemon as `scripts/up` starts it, which finds the plugins by itself."""
    host = Host(tmp_path)
    at = host.command.index("--plugins-dir")
    del host.command[at : at + 2]
    host.start()
    yield host
    host.stop()


def test_the_bundled_plugins_start_by_themselves_and_chat_works(fresh: Host) -> None:
    fresh.until_running("llmserver")
    fresh.until_running("ping")
    answer = fresh.openai().chat.completions.create(
        model="stand-in", messages=[{"role": "user", "content": "hello"}]
    )
    assert "hello" in (answer.choices[0].message.content or "")


def test_the_test_fixtures_are_not_among_them(fresh: Host) -> None:
    names = {plugin["name"] for plugin in fresh.http("GET", "/admin/plugins").json()}
    assert {"llmserver", "ping"} <= names
    assert "misbehave" not in names
