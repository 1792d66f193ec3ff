"""The daemons that tests share, and which test shows which rule.

`host` is one daemon for all tests that leave it as they found it, `guarded` one with users and keys,
`models` one whose every answer is known (`scripted/README.md`);
`start_host` starts one of its own for a test that kills, stops or floods something.

The rules of OpenAI fidelity (`docs/http.md`), and where each is shown from a client's side:

| rule | what | shown by |
|---|---|---|
| 1 | the four keys of an error, everywhere | `test_errors.py` (table), `client.test.mjs` |
| 2 | which failure has which status, code, headers | `test_errors.py` |
| 3 | `x-request-id` on every answer, the same at the plugin | `test_errors.py`, `test_chat.py` |
| 4 | how a stream looks; a broken one never looks complete | `test_chat.py`, `test_broken_streams.py` |
| 5 | ids, roles, finish reasons, the usage chunk | `test_chat.py` |
| 6 | tool-call deltas | `test_chat.py::test_tool_calls_arrive_in_fragments` |
| 7 | embeddings as base64 and as floats, every form of input | `test_embeddings.py` |
| 8 | what the client sent is what the plugin gets | `test_chat.py::test_the_body_reaches…` |
| 9 | the list of models, ids with slashes | `test_models.py` |
| 10 | a client that leaves cancels the work | `test_broken_streams.py`, `test_many_clients.py` |
| 11 | `/v1/responses`, `/v1/messages` | `test_responses.py`, `test_messages.py`, `translations.test.mjs` |

`test_sdk_helpers.py` shows what the official client builds on top of these rules: typed answers, the events
of a stream, retries. `../langchain` shows LangChain, with the standard tests that come with it.

`test_keys.py`, `test_command_line.py` and `test_accounts.py` show who may do what, for programs and on the
command line; `test_browser.py` shows it for pages of other sites, in a real browser.

`test_listen.py` shows the daemon reached from other machines: over its own TLS, and behind nginx.

`test_operating.py` types every command of `docs/operating.md` and of the pages beside it.

`test_routing.py` shows routes, whoever answers behind them, to the official client and on the command line.

`test_ping.py` asks every `ping` the same list, `scenarios/`; `test_mutations.py` breaks an SDK and has
`bkg check` find it.

`test_base_plugin.py`, `test_launches.py` and `test_daemon.py` show what holds below the HTTP surface.
"""

import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from harness import (
    ADMIN_PASSWORD,
    Host,
    PluginFolder,
    apikeys,
    base_echo,
    llmserver,
    misbehave,
    scripted,
)

# Before anybody imports them: what fails there says what it saw, as in a test.
pytest.register_assert_rewrite("scenarios")

# A proxy of the machine must not stand between the tests and loopback.
os.environ["NO_PROXY"] = "127.0.0.1,localhost"

# Who is started in the background of a shell ignores Ctrl-C, and so does every program that it starts.
signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session")
def host(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Host]:
    """One daemon with llmserver, misbehave, a base plugin, and apikeys, which knows wrong keys."""
    plugins = (apikeys(), llmserver(), misbehave(), base_echo())
    host = Host(tmp_path_factory.mktemp("host"), *plugins).start()
    yield host
    host.stop()


@pytest.fixture(scope="session")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Host]:
    """One daemon whose credentials `apikeys` checks, with plugins to use and to ask things of.

    Its first administrator is `admin` with `ADMIN_PASSWORD`.
    """
    environment = {"ADMIN_PASSWORD": ADMIN_PASSWORD}
    directory = tmp_path_factory.mktemp("guarded")
    host = Host(directory, apikeys(), llmserver(), misbehave(), environment=environment).start()
    yield host
    host.stop()


@pytest.fixture(scope="session")
def models(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Host]:
    """One daemon with the scripted models, and apikeys, which knows wrong keys."""
    host = Host(tmp_path_factory.mktemp("models"), apikeys(), scripted()).start()
    yield host
    host.stop()


@pytest.fixture
def start_host(tmp_path: Path) -> Iterator[Callable[..., Host]]:
    """Starts a daemon that belongs to the test alone, with the given plugins."""
    started: list[Host] = []

    def start(*plugins: PluginFolder, config: str = "", **environment: str) -> Host:
        directory = tmp_path / f"host-{len(started)}"
        started.append(Host(directory, *plugins, config=config, environment=environment).start())
        return started[-1]

    yield start
    for host in started:
        host.stop()
