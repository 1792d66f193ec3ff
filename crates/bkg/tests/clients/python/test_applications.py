"""The examples of `docs/applications.md`, as a reader would run them: copied, with the address of a daemon.

Those for LangChain and for Node run where their packages are, in `../langchain` and `../node`.
"""

import os
import subprocess
import sys

import pytest
from harness import Host, examples


@pytest.mark.parametrize(
    ("language", "mark", "interpreter"),
    [
        ("sh", "curl", ["sh", "-euc"]),
        ("python", "content.delta", [sys.executable, "-c"]),
        ("python", "responses.stream", [sys.executable, "-c"]),
        ("python", "import Anthropic", [sys.executable, "-c"]),
    ],
    ids=["curl", "chat", "responses", "messages"],
)
def test_an_example_runs_as_it_stands(host: Host, language: str, mark: str, interpreter: list[str]) -> None:
    (example,) = examples("applications.md", language, mark, host.url)
    environment = {**os.environ, "OPENAI_API_KEY": host.key, "ANTHROPIC_API_KEY": host.key}
    ran = subprocess.run(
        [*interpreter, example], env=environment, capture_output=True, text=True, timeout=60
    )
    assert ran.returncode == 0, ran.stderr
    assert "stand" in ran.stdout
    assert "Bern" in ran.stdout
