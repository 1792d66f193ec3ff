"""API keys from the command line to the official client: made, used, bounded, rotated, ended."""

import collections
import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import openai
import pytest
from harness import Host, misbehave, until

CHAT: dict[str, Any] = {"model": "stand-in", "messages": [{"role": "user", "content": "hello"}]}
EMBEDDING: dict[str, Any] = {"model": "stand-in-embed", "input": "hello"}


def bkg(host: Host, *arguments: str) -> Any:
    """What a command says in JSON; it must have been carried out."""
    done = host.command_line(*arguments, "--json")
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def make_key(host: Host, *options: str) -> Any:
    return bkg(host, "key", "create", "--user", "admin", *options)


def test_a_new_key_opens_what_its_scopes_say_for_the_official_client(guarded: Host) -> None:
    made = make_key(guarded, "--scope", "llm.chat", "--scope", "llm.embed")
    assert {"id", "key", "scopes"} <= made.keys()
    assert (made["scopes"], made["key"]) == (["llm.chat", "llm.embed"], made["token"])
    client = guarded.openai(api_key=made["key"])
    assert {"stand-in", "stand-in-embed"} <= {model.id for model in client.models.list()}
    assert "hello" in (client.chat.completions.create(**CHAT).choices[0].message.content or "")
    parts = list(client.chat.completions.create(**CHAT, stream=True))
    assert parts[-1].choices[0].finish_reason == "stop"
    assert len(client.embeddings.create(**EMBEDDING).data[0].embedding) == 384
    (listed,) = [key for key in bkg(guarded, "key", "list")["keys"] if key["id"] == made["id"]]
    assert (listed["status"], listed["user"]) == ("active", "admin")


def test_no_list_shows_a_secret(guarded: Host) -> None:
    secrets = {make_key(guarded, "--scope", "llm.chat")["key"]}
    key = make_key(guarded, "--scope", "llm.chat")
    secrets |= {key["key"], bkg(guarded, "key", "rotate", key["id"])["key"]}
    # The last part is what nobody may see; the id before it is in lists and logs.
    hidden = {secret.rsplit("_", 1)[1] for secret in secrets} | {guarded.key}
    shown = [
        guarded.command_line(*command, *as_json)
        for command in (
            ["key", "list"],
            ["user", "list"],
            ["session", "list"],
            ["audit", "list"],
            ["audit", "export"],
        )
        for as_json in ([], ["--json"])
    ]
    shown += [guarded.command_line("whoami"), guarded.command_line("key", "revoke", key["id"])]
    for done in shown:
        assert done.returncode == 0, done.stderr
        assert not [secret for secret in hidden if secret in done.stdout + done.stderr], done.args
    log = guarded.log.read_text(errors="replace")
    assert not [secret for secret in hidden if secret in log]


def test_a_rotated_key_opens_with_its_new_secret_and_a_revoked_one_with_none(guarded: Host) -> None:
    key = make_key(guarded, "--scope", "llm.chat")
    guarded.openai(api_key=key["key"]).chat.completions.create(**CHAT)
    rotated = bkg(guarded, "key", "rotate", key["id"])
    assert rotated["id"] == key["id"]
    with pytest.raises(openai.AuthenticationError) as raised:
        guarded.openai(api_key=key["key"]).chat.completions.create(**CHAT)
    assert raised.value.code == "invalid_api_key"
    guarded.openai(api_key=rotated["key"]).chat.completions.create(**CHAT)
    graced = bkg(guarded, "key", "rotate", key["id"], "--grace", "600")
    for secret in (rotated["key"], graced["key"]):
        guarded.openai(api_key=secret).chat.completions.create(**CHAT)
    assert bkg(guarded, "key", "revoke", key["id"])["status"] == "revoked"
    for secret in (rotated["key"], graced["key"]):
        with pytest.raises(openai.AuthenticationError):
            guarded.openai(api_key=secret).models.list()


def test_a_stream_whose_key_is_revoked_ends_with_an_error(guarded: Host) -> None:
    key = make_key(guarded, "--scope", "llm.chat")
    chat = {**CHAT, "model": "test/slow"}
    stream = guarded.openai(api_key=key["key"]).chat.completions.create(**chat, stream=True)
    assert next(stream).choices
    bkg(guarded, "key", "revoke", key["id"])
    with pytest.raises(openai.APIError) as raised:
        list(stream)
    assert raised.value.code == "invalid_api_key"


def test_a_key_does_no_more_than_its_scopes(guarded: Host) -> None:
    client = guarded.openai(api_key=make_key(guarded, "--scope", "llm.embed")["key"])
    client.embeddings.create(**EMBEDDING)
    for stream in (False, True):
        with pytest.raises(openai.PermissionDeniedError) as raised:
            client.chat.completions.create(**CHAT, stream=stream)
        assert raised.value.status_code == 403
        assert "llm.chat" in raised.value.message
    assert {model.id for model in client.models.list()} == {"stand-in-embed"}


def test_a_key_uses_the_models_and_plugins_that_it_was_made_for(guarded: Host) -> None:
    for bound in (["--model", "test/f*"], ["--plugin", "misbehave"]):
        client = guarded.openai(api_key=make_key(guarded, "--scope", "llm.*", *bound)["key"])
        found = {model.id for model in client.models.list()}
        assert "test/frame" in found
        assert "stand-in" not in found
        client.chat.completions.create(**{**CHAT, "model": "test/frame"})
        with pytest.raises(openai.NotFoundError) as raised:
            client.chat.completions.create(**CHAT)
        assert raised.value.code == "model_not_found"


def test_a_key_makes_as_many_requests_in_a_minute_as_it_may(guarded: Host) -> None:
    key = make_key(guarded, "--scope", "llm.*", "--requests-per-minute", "2")
    client = guarded.openai(api_key=key["key"])
    for _ in range(2):
        client.chat.completions.create(**CHAT)
    with pytest.raises(openai.RateLimitError) as raised:
        client.chat.completions.create(**CHAT)
    assert raised.value.code == "rate_limit_exceeded"
    assert 1 <= int(raised.value.response.headers["retry-after"]) <= 60
    other = make_key(guarded, "--scope", "llm.*")
    guarded.openai(api_key=other["key"]).chat.completions.create(**CHAT)


def test_a_key_uses_as_many_tokens_in_a_day_as_it_may(guarded: Host) -> None:
    key = make_key(guarded, "--scope", "llm.*", "--tokens-per-day", "1")
    with pytest.raises(openai.RateLimitError) as raised:
        guarded.openai(api_key=key["key"]).chat.completions.create(**CHAT)
    # What can never fit is not worth another try.
    assert raised.value.response.headers["x-should-retry"] == "false"
    key = make_key(guarded, "--scope", "llm.*", "--tokens-per-day", "60")
    client = guarded.openai(api_key=key["key"])
    # A request sets aside what it may take: about 20 tokens to read, and one to write.
    with pytest.raises(openai.RateLimitError) as raised:
        collections.deque(client.chat.completions.create(**CHAT, max_tokens=1) for _ in range(60))
    assert raised.value.code == "insufficient_quota"
    assert 1 <= int(raised.value.response.headers["retry-after"]) <= 120


def test_a_key_cannot_end_before_it_begins_and_ends_at_its_time(guarded: Host) -> None:
    wanted = {"user": "admin", "scopes": ["llm.chat"]}
    past = guarded.http("POST", "/admin/keys", {**wanted, "expiresAt": "2001-01-01T00:00:00Z"})
    assert (past.status, past.error()["param"]) == (400, "expiresAt")
    assert "later" in past.error()["message"]
    assert (
        guarded.command_line("key", "create", "--scope", "llm.chat", "--expires-in-days", "0").returncode
        == 2
    )
    end = (datetime.now(UTC) + timedelta(seconds=1)).isoformat().replace("+00:00", "Z")
    made = guarded.http("POST", "/admin/keys", {**wanted, "expiresAt": end})
    assert (made.status, made.json()["status"]) == (201, "active")
    client = guarded.openai(api_key=made.json()["key"])

    def refusal() -> str | None:
        try:
            client.models.list()
        except openai.AuthenticationError as error:
            return error.code
        return None

    assert until(refusal, "the key has ended") == "invalid_api_key"
    (listed,) = [key for key in bkg(guarded, "key", "list")["keys"] if key["id"] == made.json()["id"]]
    assert listed["status"] == "expired"


def test_without_a_provider_a_key_is_not_called_invalid(start_host: Callable[..., Host]) -> None:
    host = start_host(misbehave())
    with pytest.raises(openai.InternalServerError) as raised:
        host.openai(api_key="bkg_sk_0123456789abcdef_unknown").models.list()
    assert (raised.value.status_code, raised.value.code) == (503, "plugin_unavailable")
    assert "test/fast" in {model.id for model in host.openai().models.list()}, "the root key works"
