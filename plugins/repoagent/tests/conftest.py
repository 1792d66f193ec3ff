"""The fixtures of the plugin's tests; `space.py` has the rest of what they share."""

from pathlib import Path

import pytest

from space import Space


@pytest.fixture
def anyio_backend() -> str:
    """The loop that the SDK runs on."""
    return "asyncio"


@pytest.fixture
def space(tmp_path: Path) -> Space:
    """A root of the test's own."""
    return Space(tmp_path)
