"""The daemon does what its OpenAPI document says, whoever asks, for valid and for broken requests.

schemathesis (`schemathesis.toml`, `openapi_hooks.py`) makes the requests: no 5xx but the documented ones of
plugins, no status, header or body that is not described, no route that forgets to ask for a credential.
"""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from harness import ADMIN_PASSWORD, REPOSITORY, Host, apikeys, base_echo, llmserver, misbehave

HERE = Path(__file__).parent
DOCUMENT = REPOSITORY / "crates/bkg/schemas/openapi.json"


@pytest.fixture(scope="module")
def probed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Host]:
    """One daemon that is probed, with a user who may be lost."""
    plugins = (apikeys(), llmserver(), misbehave(), base_echo())
    environment = {"ADMIN_PASSWORD": ADMIN_PASSWORD}
    host = Host(tmp_path_factory.mktemp("probed"), *plugins, environment=environment).start()
    made = host.http("POST", "/admin/users", {"name": "guest", "role": "user", "password": ADMIN_PASSWORD})
    assert made.status == 201, made.body
    yield host
    host.stop()


def probe(host: Host, identity: str, token: str | None, *options: str) -> str:
    """Lets schemathesis ask the daemon as somebody; returns what it says, and fails with it."""
    users = host.http("GET", "/admin/users").json()["users"]
    administrator = next(user["id"] for user in users if user["name"] == "admin")
    program = str(Path(sys.executable).with_name("schemathesis"))
    command = [program, "--config-file", str(HERE / "schemathesis.toml"), "run"]
    command += [str(DOCUMENT), "--url", host.url, "--seed", "1", "--no-color", *options]
    if token:
        command += ["-H", f"Authorization: Bearer {token}"]
    environment = os.environ | {"BKG_TEST_IDENTITY": identity, "BKG_TEST_ADMINISTRATOR": administrator}
    done = subprocess.run(command, cwd=HERE, env=environment, capture_output=True, text=True, check=False)
    report = done.stdout + done.stderr
    assert done.returncode == 0, report
    return report


def test_the_document_holds_for_whoever_may_do_everything(probed: Host) -> None:
    probe(probed, "root", probed.key, "--exclude-tag", "Login")


def test_the_document_holds_for_a_login(probed: Host) -> None:
    login = probed.http(
        "POST", "/auth/login", {"username": "admin", "password": ADMIN_PASSWORD}, key=""
    ).json()
    probe(probed, "login", login["token"], "--include-tag", "Login", "--exclude-path", "/auth/logout")
    probe(probed, "login", login["token"], "--include-path", "/auth/logout")


def test_nobody_gets_in_without_a_credential(probed: Host) -> None:
    probe(probed, "nobody", None, "--phases", "fuzzing", "--max-examples", "3")
