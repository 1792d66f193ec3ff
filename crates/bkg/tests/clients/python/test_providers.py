"""The plugin `providers` against scripted upstreams, through the daemon and with the official client.

Each quirk of a real upstream is a model of `plays.py`. What is shown: the client sees a correct stream or
a correct error, whatever the upstream does; who leaves closes the upstream's socket within 100 ms; what the
operator sets holds from the next request on.
"""

import asyncio
import json
import os
import shutil
import socket
import ssl
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import openai
import plays
import pytest
from harness import BUNDLED, Answer, Host, PluginFolder, apikeys, llmserver, until
from kit import check
from plays import ARGUMENTS, LARGE, TEXT
from upstream import PLAYS, WORDS, Exchange, Seen, Upstream, now_ms

CLOSED_WITHIN_MS = 100
KEY = "sk-upstream-0123456789"
ABORTS = 1_000
# Members that no program here knows, and numbers that not every program keeps.
OWN = b'"min_p":0.10,"big":12345678901234567890,"x":{"y":null}'


def providers(*upstreams: dict[str, Any], **settings: Any) -> PluginFolder:
    """The bundled plugin with these upstreams, started with the daemon."""
    settings = {"upstreams": list(upstreams), **settings}
    entry = {"autostart": True}
    return PluginFolder("providers", BUNDLED / "providers", settings, entry, binary="bkg-plugin-providers")


def settings_of(upstream: Upstream, name: str = "up", **more: Any) -> dict[str, Any]:
    """An upstream as an operator writes it down."""
    return {"name": name, "baseUrl": upstream.base_url, "models": [*PLAYS], "retries": 0, **more}


def ask(model: str, **fields: Any) -> dict[str, Any]:
    return {"model": model, "messages": [{"role": "user", "content": "Where is Bern?"}], **fields}


def chat(host: Host, model: str, **fields: Any) -> Answer:
    return host.http("POST", "/v1/chat/completions", ask(model, **fields))


def streamed(host: Host, model: str, **fields: Any) -> list[str]:
    """The events of a streamed answer."""
    answer = chat(host, model, stream=True, **fields)
    assert answer.status == 200, answer.body
    return answer.events()


def content(events: list[str]) -> str:
    """What a stream says."""
    chunks = [json.loads(event) for event in events if event != "[DONE]"]
    choices = [choice for chunk in chunks for choice in chunk["choices"]]
    return "".join(choice["delta"].get("content") or "" for choice in choices)


def assert_exact(events: list[str], *, usage: bool) -> None:
    """A stream keeps every rule that clients of OpenAI rely on."""
    assert events[-1] == "[DONE]"
    chunks = [json.loads(event) for event in events[:-1]]
    assert len({chunk["id"] for chunk in chunks}) == 1
    assert len({chunk["created"] for chunk in chunks}) == 1
    assert {chunk["object"] for chunk in chunks} == {"chat.completion.chunk"}
    if usage:
        last = chunks.pop()
        assert last["choices"] == []
        assert last["usage"]["total_tokens"] > 0
    assert all(chunk["usage"] is None for chunk in chunks)
    choices = [choice for chunk in chunks for choice in chunk["choices"]]
    assert len(choices) == len(chunks)
    assert all({"index", "delta", "finish_reason"} <= choice.keys() for choice in choices)
    roles = [choice["delta"].get("role") for choice in choices]
    assert roles[0] == "assistant"
    assert set(roles[1:]) <= {None}
    reasons = [choice["finish_reason"] for choice in choices]
    assert set(reasons[:-1]) <= {None}
    assert reasons[-1] in ("stop", "tool_calls")


def until_model(host: Host, model: str) -> None:
    until(lambda: model in listed(host), f"`{model}` is listed: {listed(host)}")


def listed(host: Host) -> dict[str, str]:
    """The models that clients see, each with whose it is."""
    return {model["id"]: model["owned_by"] for model in host.http("GET", "/v1/models").json()["data"]}


def state(host: Host, name: str = "up") -> dict[str, Any]:
    """How the plugin sees one of its upstreams."""
    answer = host.invoke("providers.upstreams", plugin="providers")
    assert answer.status == 200, answer.body
    (found,) = [one for one in answer.json()["data"]["upstreams"] if one["name"] == name]
    return dict(found)


def logs(host: Host) -> str:
    """What the plugin wrote."""
    return host.http("GET", "/admin/plugins/providers/logs").body.decode()


def configure(host: Host, **settings: Any) -> Answer:
    """New settings, as an operator saves them."""
    return host.http("POST", "/admin/plugins/providers/config", {"name": "providers", "settings": settings})


@pytest.fixture(scope="module")
def upstream() -> Iterator[Upstream]:
    """The upstream of the shared host."""
    with Upstream(key=KEY) as upstream:
        yield upstream


@pytest.fixture(scope="module")
def host(tmp_path_factory: pytest.TempPathFactory, upstream: Upstream) -> Iterator[Host]:
    """One daemon with `providers`, for all tests that leave it as they found it."""
    more = settings_of(upstream, apiKey=KEY, embeddingModels=["embed*"], idleTimeoutMs=20_000)
    host = Host(tmp_path_factory.mktemp("host"), apikeys(), llmserver(), providers(more)).start()
    until_model(host, "plain")
    yield host
    host.stop()


# What is right stays right.


@pytest.mark.parametrize(
    "model",
    [
        *("plain", "split", "crlf", "cr", "comments", "no-done", "ollama", "vllm", "llamacpp", "bare"),
        *("unfinished", "no-usage", "whole-only", "gzip", "duplicate-headers"),
    ],
)
@pytest.mark.parametrize("usage", [True, False], ids=["usage", "no-usage"])
def test_a_stream_is_exact_whatever_the_upstream_makes_of_it(host: Host, model: str, usage: bool) -> None:
    options = {"stream_options": {"include_usage": True}} if usage else {}
    events = streamed(host, model, **options)
    assert content(events) == TEXT
    assert_exact(events, usage=usage and model not in ("no-usage", "bare", "unfinished"))


def test_an_event_that_lacks_its_empty_line_counts(host: Host) -> None:
    events = streamed(host, "no-done-no-blank")
    assert content(events) == TEXT
    assert_exact(events, usage=False)


@pytest.mark.parametrize(
    "model", ["plain", "split", "crlf", "comments", "gzip", "ollama", "vllm", "llamacpp"]
)
def test_the_official_client_reads_every_stream(host: Host, model: str) -> None:
    with host.openai().chat.completions.create(**ask(model, stream=True)) as stream:
        parts = [choice.delta.content or "" for part in stream for choice in part.choices]
    assert "".join(parts) == TEXT


def test_a_whole_answer_is_the_upstreams_own(host: Host) -> None:
    for model in ("plain", "gzip", "duplicate-headers", "whole-only"):
        answer = host.openai().chat.completions.create(**ask(model))
        assert (answer.choices[0].message.content, answer.choices[0].finish_reason) == (TEXT, "stop")
        assert (answer.id, answer.usage and answer.usage.total_tokens) == ("chatcmpl-scripted", 12)


def test_fields_that_nobody_knows_go_through_both_ways(host: Host, upstream: Upstream) -> None:
    body = b'{"model":"vllm","stream":true,"messages":[],' + OWN + b"}"
    answer = host.http("POST", "/v1/chat/completions", body)
    chunks = [json.loads(event) for event in answer.events()[:-1]]
    assert "prompt_token_ids" in chunks[0]
    assert chunks[1]["choices"][0]["delta"] == {"reasoning_content": "Let me think."}
    assert "stop_reason" in chunks[-1]["choices"][0]
    sent = upstream.asked("vllm")[-1].body
    assert OWN in sent
    assert b'"stream_options":{"include_usage":true}' in sent


def test_the_request_id_goes_on_to_the_upstream_and_the_callers_key_does_not(
    host: Host, upstream: Upstream
) -> None:
    answer = chat(host, "plain")
    seen = upstream.asked("plain")[-1]
    assert seen.header("x-request-id") == answer.headers["x-request-id"]
    assert seen.header("authorization") == f"Bearer {KEY}"
    assert all(host.key not in value for _, value in seen.headers)
    assert seen.header("accept-encoding") == "identity"


def test_calls_of_functions_arrive_in_exact_fragments(host: Host) -> None:
    for model in ("tools", "tools-repeat"):
        events = streamed(host, model)
        assert_exact(events, usage=False)
        chunks = [json.loads(event)["choices"][0] for event in events[:-1]]
        calls = [call for choice in chunks for call in choice["delta"].get("tool_calls") or []]
        assert [call["index"] for call in calls] == [0] * len(calls)
        assert [call.get("id") for call in calls] == ["call_1"] + [None] * (len(calls) - 1)
        assert [call["function"].get("name") for call in calls] == ["weather"] + [None] * (len(calls) - 1)
        assert "".join(call["function"]["arguments"] for call in calls) == "".join(ARGUMENTS)
        assert chunks[-1]["finish_reason"] == "tool_calls"


def test_calls_without_numbers_are_told_apart_by_the_official_helper(host: Host) -> None:
    client = host.openai().chat.completions
    with client.stream(**ask("tools-without-index")) as stream:
        final = stream.get_final_completion().choices[0]
    calls = final.message.tool_calls or []
    assert [(call.id, json.loads(call.function.arguments)) for call in calls] == [
        ("call_Bern", {"city": "Bern"}),
        ("call_Basel", {"city": "Basel"}),
    ]
    assert final.finish_reason == "tool_calls"


def test_large_answers_pass(host: Host) -> None:
    events = streamed(host, "large")
    assert len(content(events)) == LARGE
    assert_exact(events, usage=False)
    whole = chat(host, "large").json()
    assert len(whole["choices"][0]["message"]["content"]) == LARGE


def test_one_large_event_becomes_several_chunks(host: Host) -> None:
    events = streamed(host, "large-event")
    assert content(events) == "0123456789" * 100_000
    assert_exact(events, usage=False)


def test_the_usage_of_a_stream_is_what_the_upstream_served(host: Host, upstream: Upstream) -> None:
    before = len(upstream.served)
    chunks = [
        json.loads(event) for event in streamed(host, "vllm", stream_options={"include_usage": True})[:-1]
    ]
    assert upstream.served[before:] == [(7, 5)]
    assert chunks[-1]["usage"] == {"prompt_tokens": 7, "completion_tokens": 5, "total_tokens": 12}


# Embeddings.


@pytest.mark.parametrize("model", ["embed", "embed-base64"])
@pytest.mark.parametrize("packed", ["float", "base64"])
def test_vectors_come_as_the_client_wants_them_however_the_upstream_sent_them(
    host: Host, upstream: Upstream, model: str, packed: Any
) -> None:
    answer = host.openai().embeddings.create(model=model, input=["a", "b"], encoding_format=packed)
    expected = [0.5, -1.25, 3.0] if packed == "float" else "AAAAPwAAoL8AAEBA"
    assert [vector.embedding for vector in answer.data] == [expected, expected]
    assert answer.usage.prompt_tokens == 7
    assert "encoding_format" not in upstream.asked(model)[-1].json


def test_a_chat_model_embeds_nothing(host: Host) -> None:
    answer = host.http("POST", "/v1/embeddings", {"model": "plain", "input": "x"})
    assert (answer.status, answer.error()["code"]) == (404, "model_not_found")


# What is wrong is a correct error.


@pytest.mark.parametrize(
    "model",
    [
        *("cut", "cut-in-order", "cut-until-close", "error-in-stream", "error-text-in-stream"),
        *("error-event-in-stream", "no-json"),
    ],
)
def test_a_stream_that_breaks_ends_with_an_error_and_never_looks_complete(host: Host, model: str) -> None:
    events = streamed(host, model)
    assert content(events[:-1]) == WORDS[0]
    assert "[DONE]" not in events
    error = json.loads(events[-1])["error"]
    assert {"message", "type", "param", "code"} <= error.keys()
    assert "`up`" in error["message"]


@pytest.mark.parametrize("model", ["cut", "error-in-stream", "error-text-in-stream", "no-json"])
def test_the_official_client_raises_on_a_stream_that_breaks(host: Host, model: str) -> None:
    with host.openai().chat.completions.create(**ask(model, stream=True)) as stream:
        parts = iter(stream)
        assert next(parts).choices[0].finish_reason is None
        with pytest.raises(openai.APIError, match="`up`"):
            next(parts)


def test_an_error_before_the_first_chunk_has_its_status(host: Host) -> None:
    answer = chat(host, "error-first", stream=True)
    assert (answer.status, answer.error()["code"]) == (429, "rate_limit_exceeded")
    assert "too many tokens at once" in answer.error()["message"]


def table() -> list[Any]:
    """Status and body of the upstream; status, code, param and a part of the message for the client."""

    def error(message: str, **more: Any) -> dict[str, Any]:
        return {"error": {"message": message, "type": "t", "param": None, "code": None, **more}}

    long = "This model's maximum context length is 8192 tokens, however you requested 9000."
    return [
        (400, error("bad top_k", param="top_k"), 400, "invalid_request", "top_k", "bad top_k"),
        (400, error(long, code="context_length_exceeded"), 400, "invalid_request", None, long),
        (
            400,
            {"object": "error", "message": "old vLLM", "code": 400},
            400,
            "invalid_request",
            None,
            "old vLLM",
        ),
        (400, {"error": "plain text"}, 400, "invalid_request", None, "plain text"),
        (422, {"detail": [{"msg": "m"}]}, 400, "invalid_request", None, "m"),
        (401, error(f"Incorrect key: {KEY}"), 502, "plugin_error", None, "refuses the credential"),
        (403, error("not yours"), 502, "plugin_error", None, "refuses the credential"),
        (400, error(KEY, code="invalid_api_key"), 502, "plugin_error", None, "refuses the credential"),
        (402, error("pay first"), 502, "plugin_error", None, "pay first"),
        (404, error("no such model"), 404, "not_found", "model", "no such model"),
        (404, b"404 page not found", 502, "plugin_error", None, "`baseUrl`"),
        (408, error("slow"), 504, "timeout", None, "slow"),
        (413, error("long"), 413, "payload_too_large", None, "long"),
        (429, error("slow down"), 429, "rate_limit_exceeded", None, "slow down"),
        (500, error(f"broke with {KEY}"), 502, "plugin_error", None, "broke with ***"),
        (502, b"<html>bad gateway</html>", 502, "plugin_error", None, "502"),
        (503, error("loading model"), 503, "overloaded", None, "loading model"),
        (504, b"", 504, "timeout", None, "504"),
        (529, error("busy"), 503, "overloaded", None, "busy"),
    ]


@pytest.mark.parametrize(("status", "body", "wanted", "code", "param", "part"), table())
@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
def test_an_upstreams_error_is_told_exactly(
    host: Host,
    upstream: Upstream,
    status: int,
    body: Any,
    wanted: int,
    code: str,
    param: str | None,
    part: str,
    stream: bool,
) -> None:
    upstream.fail(status, body)
    answer = chat(host, "plain", stream=stream)
    error = answer.error()
    assert (answer.status, error["code"], error["param"]) == (wanted, code, param), answer.body
    assert part in error["message"]
    assert KEY not in answer.body.decode()
    assert error["details"]["upstream"] == "up"
    assert error["details"]["status"] == status
    assert answer.headers["x-bkg-error-source"] == "plugin"
    # The next request finds it well again.
    assert chat(host, "plain").status == 200


@pytest.mark.parametrize(
    ("header", "seconds"), [(("Retry-After", "17"), "17"), (("retry-after-ms", "8500"), "9")]
)
def test_a_429_keeps_its_retry_after(
    host: Host, upstream: Upstream, header: tuple[str, str], seconds: str
) -> None:
    upstream.fail(429, None, header)
    answer = chat(host, "plain")
    assert (answer.status, answer.headers["retry-after"]) == (429, seconds)
    chat(host, "plain")


def test_what_is_no_answer_is_an_error(host: Host) -> None:
    for model, part in [
        ("html", "page"),
        ("brotli", "`br`"),
        ("redirect", "redirects"),
        ("reset", "broke off"),
        ("crlf", "no JSON object"),
        ("too-large", "ask for a stream"),
        ("bomb", "ask for a stream"),
    ]:
        answer = chat(host, model)
        assert (answer.status, answer.error()["code"]) == (502, "plugin_error"), (model, answer.body)
        assert part in answer.error()["message"], model
        assert chat(host, "plain").status == 200
    for model, part in [
        ("bomb", "16 MiB"),
        ("too-large", "16 MiB"),
        ("html", "page"),
        ("redirect", "redirects"),
    ]:
        answer = chat(host, model, stream=True)
        assert answer.status == 502, (model, answer.body)
        assert part in answer.error()["message"], model
    assert chat(host, "plain").status == 200


def test_a_redirect_is_not_followed(host: Host, upstream: Upstream) -> None:
    chat(host, "redirect")
    assert all(seen.path != "/elsewhere" for seen in upstream.requests)


def test_a_bomb_costs_little_memory(host: Host) -> None:
    pid = host.instance("providers")["pid"]
    chat(host, "bomb")
    chat(host, "bomb", stream=True)
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    (peak,) = [int(line.split()[1]) for line in lines if line.startswith("VmHWM")]
    assert peak < 256 << 10, f"{peak} KiB"


def test_a_request_names_no_address(host: Host, upstream: Upstream) -> None:
    """Nothing of a body becomes a part of where the plugin connects to."""
    for model in ("http://127.0.0.1:1/", "plain/../../x", "plain?x=1", "@127.0.0.1", "up/plain"):
        assert chat(host, model).status == 404
    for field in ("base_url", "baseUrl", "api_base", "upstream", "url"):
        assert chat(host, "plain", **{field: "http://127.0.0.1:1/"}).status == 200
    assert {seen.path for seen in upstream.requests} <= {
        "/v1/chat/completions",
        "/v1/embeddings",
        "/v1/models",
    }


# Who leaves.


def leave(host: Host, upstream: Upstream, body: dict[str, Any]) -> tuple[Seen, float]:
    """Asks over a bare socket, and closes it when the upstream was asked; returns what it saw, and when."""
    before = len(upstream.asked(body["model"]))
    data = json.dumps(body).encode()
    head = f"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {host.key}\r\n"
    head += f"Content-Type: application/json\r\nContent-Length: {len(data)}\r\n\r\n"
    with socket.create_connection(("127.0.0.1", host.ports["api"])) as client:
        client.sendall(head.encode() + data)
        (seen,) = until(lambda: upstream.asked(body["model"])[before:], "the upstream is asked")
        left_at = now_ms()
    return seen, left_at


def until_closed(seen: Seen) -> float:
    """Waits until the socket of a request is closed; returns when it was."""
    return until(lambda: seen.connection.closed_ms, "the upstream's socket is closed")


def is_prompt(took: list[float]) -> bool:
    """Whether the upstream's socket was closed in time, in at least two cases of five: a busy machine keeps
    anybody waiting now and then, and what waits for a look every so often would be late in nearly all."""
    return sorted(took)[1] <= CLOSED_WITHIN_MS


@pytest.mark.parametrize(
    ("model", "stream"),
    [
        *(("waits", False), ("waits", True), ("waits-in-stream", True), ("waits-after-head", True)),
        ("endless", True),
    ],
)
def test_who_leaves_closes_the_upstreams_socket_within_100_ms(
    host: Host, upstream: Upstream, model: str, stream: bool
) -> None:
    took = []
    for _ in range(5):
        seen, left_at = leave(host, upstream, ask(model, stream=stream))
        took.append(until_closed(seen) - left_at)
    assert is_prompt(took), took
    until(lambda: host.instance("providers")["inFlight"] == 0, "the slots are free")
    assert state(host)["inFlight"] == 0


def test_the_official_client_that_closes_a_stream_closes_the_upstreams_socket(
    host: Host, upstream: Upstream
) -> None:
    took = []
    for _ in range(5):
        stream = host.openai().chat.completions.create(**ask("endless", stream=True))
        next(iter(stream))
        left_at = now_ms()
        stream.close()
        took.append(until_closed(upstream.asked("endless")[-1]) - left_at)
    assert is_prompt(took), took


def test_a_deadline_closes_the_upstreams_socket(host: Host, upstream: Upstream) -> None:
    answer = host.invoke("llm.chat", ask("waits"), plugin="providers", timeoutMs=300)
    assert answer.status == 504
    until_closed(upstream.asked("waits")[-1])


def test_many_who_leave_leave_nothing_behind(host: Host, upstream: Upstream) -> None:
    pid = host.instance("providers")["pid"]
    chat(host, "plain")

    async def leave_one(client: openai.AsyncOpenAI, number: int, places: asyncio.Semaphore) -> None:
        model = ("waits", "waits-in-stream", "endless")[number % 3]
        async with places:
            asking = asyncio.create_task(
                client.chat.completions.create(**ask(model, stream=number % 3 > 0))
            )
            if model == "waits":
                await asyncio.sleep(0.02)
                asking.cancel()
                await asyncio.gather(asking, return_exceptions=True)
            else:
                stream = await asking
                await anext(aiter(stream))
                await stream.close()

    async def run() -> None:
        places = asyncio.Semaphore(32)
        async with host.async_openai() as client:
            await asyncio.gather(*(leave_one(client, number, places) for number in range(ABORTS)))

    def descriptors() -> int:
        return len(os.listdir(f"/proc/{pid}/fd"))

    asyncio.run(run())
    until(lambda: host.instance("providers")["inFlight"] == 0, "every slot is free")
    until(lambda: (state(host)["inFlight"], state(host)["waiting"]) == (0, 0), "nobody is at the upstream")
    until(lambda: len(upstream.open_connections) <= 32, "only connections at rest are left")
    # What rests in the pool is reused or closed; none of those that were left is among it.
    left = {
        seen.connection.number
        for name in ("waits", "waits-in-stream", "endless")
        for seen in upstream.asked(name)
    }
    assert not [one for one in upstream.open_connections if one.number in left]
    assert descriptors() <= 12 + len(upstream.open_connections) + 4
    assert chat(host, "plain").status == 200


# Settings.


def test_models_are_discovered_in_both_forms_and_what_changes_is_noticed(
    start_host: Callable[..., Host],
) -> None:
    with (
        Upstream(models=["plain", "a/b:c", "text-embed"]) as openai_like,
        Upstream(models=["llama3.2:1b", "nomic-embed-text"], dialect="ollama") as ollama,
    ):
        host = start_host(
            providers(
                settings_of(openai_like, "hosted", models="discover"),
                {"name": "ollama", "baseUrl": ollama.origin, "aliases": {"small": "llama3.2:1b"}},
                discoveryIntervalMs=1_000,
            )
        )
        until_model(host, "nomic-embed-text")
        until_model(host, "a/b:c")
        assert listed(host) == {
            **{"plain": "hosted", "a/b:c": "hosted", "text-embed": "hosted"},
            **{"llama3.2:1b": "ollama", "nomic-embed-text": "ollama", "small": "ollama"},
        }
        ollama.play("llama3.2:1b", plays.plain)
        assert chat(host, "small").json()["model"] == "llama3.2:1b"
        assert ollama.asked("llama3.2:1b")[-1].path == "/v1/chat/completions"

        openai_like.models.append("plain-2")
        until_model(host, "plain-2")
        openai_like.models.remove("plain")
        until(lambda: "plain" not in listed(host), "a model that is gone is not listed")
        assert chat(host, "plain").status == 404


def test_no_upstream_means_no_model_and_an_outage_takes_none_away(start_host: Callable[..., Host]) -> None:
    host = start_host(providers(discoveryIntervalMs=1_000))
    assert listed(host) == {}
    assert host.plugin("providers")["status"] == "running"
    with Upstream(models=["plain"]) as upstream:
        saved = configure(host, upstreams=[settings_of(upstream, models="discover")])
        assert (saved.status, saved.json()["applied"]) == (200, "hot"), saved.body
        until_model(host, "plain")
        assert chat(host, "plain").status == 200
    until(lambda: state(host)["state"] == "failing", "the outage is noticed")
    assert listed(host) == {"plain": "up"}
    answer = chat(host, "plain")
    assert (answer.status, answer.error()["code"]) == (502, "plugin_error")
    assert "cannot be reached" in answer.error()["message"]
    until(lambda: host.plugin("providers")["status"] == "degraded", "operators see it")
    assert "the upstream `up` cannot be reached" in logs(host)


def test_names_that_collide_go_to_the_first_and_are_told_apart(start_host: Callable[..., Host]) -> None:
    with Upstream() as one, Upstream() as two:
        host = start_host(
            providers(
                settings_of(one, "one", models=["plain"]),
                settings_of(two, "two", models=["plain"], aliases={"other": "plain"}),
            )
        )
        until_model(host, "two/plain")
        assert listed(host) == {"plain": "one", "other": "two", "one/plain": "one", "two/plain": "two"}
        for model, who in [
            *(("plain", one), ("one/plain", one), ("two/plain", two), ("other", two)),
        ]:
            before = len(who.requests)
            assert chat(host, model).status == 200, model
            assert len(who.requests) == before + 1, model


def test_an_upstream_that_refuses_stream_options_is_not_asked_for_usage(
    start_host: Callable[..., Host],
) -> None:
    with Upstream() as upstream:
        host = start_host(providers(settings_of(upstream)))
        until_model(host, "no-stream-options")
        answer = chat(host, "no-stream-options", stream=True)
        assert (answer.status, answer.error()["param"]) == (400, "stream_options")
        assert configure(host, upstreams=[settings_of(upstream, usageChunk=False)]).status == 200
        assert content(streamed(host, "no-stream-options")) == TEXT


def test_an_upstream_hears_of_the_longest_answer_in_its_own_word(start_host: Callable[..., Host]) -> None:
    with Upstream() as upstream:
        host = start_host(providers(settings_of(upstream, maxTokensName="max_tokens")))
        until_model(host, "plain")
        client = host.openai()
        client.chat.completions.create(**ask("plain"), max_completion_tokens=7)
        streamed(host, "plain", max_completion_tokens=7)
        client.chat.completions.create(**ask("plain"), max_completion_tokens=9, max_tokens=7)
        for request in upstream.asked("plain"):
            body = json.loads(request.body)
            assert (body["max_tokens"], "max_completion_tokens" in body) == (7, False)


def test_no_more_requests_reach_an_upstream_than_it_takes(start_host: Callable[..., Host]) -> None:
    with Upstream() as upstream:
        host = start_host(providers(settings_of(upstream, maxConcurrency=3)))
        until_model(host, "waits")

        async def run() -> list[Any]:
            async with host.async_openai() as client:
                asking = [
                    asyncio.create_task(client.chat.completions.create(**ask("waits"))) for _ in range(9)
                ]
                await asyncio.to_thread(
                    until, lambda: (state(host)["inFlight"], state(host)["waiting"]) == (3, 6), "three ask"
                )
                assert len(upstream.asked("waits")) == 3
                for task in asking[-2:]:
                    task.cancel()
                await asyncio.gather(*asking[-2:], return_exceptions=True)
                await asyncio.to_thread(until, lambda: state(host)["waiting"] <= 4, "two gave up")
                upstream.go_on.set()
                return await asyncio.gather(*asking[:-2])

        assert [answer.choices[0].message.content for answer in asyncio.run(run())] == [TEXT] * 7
        assert len(upstream.asked("waits")) <= 9
        assert len(upstream.connections) <= 3 + 1


def test_what_fails_before_the_first_byte_is_tried_again(start_host: Callable[..., Host]) -> None:
    with Upstream() as upstream:
        host = start_host(providers(settings_of(upstream, retries=2)))
        until_model(host, "plain")
        for status, headers in [(503, ()), (429, (("Retry-After", "0"),)), (502, ())]:
            before = len(upstream.requests)
            upstream.fail(status, None, *headers, times=2)
            assert content(streamed(host, "plain")) == TEXT, status
            assert len(upstream.requests) == before + 3
        upstream.fail(503, times=3)
        assert chat(host, "plain").status == 503
        assert chat(host, "plain").status == 200
        # One that says how long to wait, and means longer than anyone would, is believed.
        before = len(upstream.requests)
        upstream.fail(429, None, ("Retry-After", "30"))
        assert (chat(host, "plain").headers["retry-after"], len(upstream.requests)) == ("30", before + 1)
        # What the caller did wrong is not repeated.
        upstream.fail(400)
        before = len(upstream.requests)
        assert (chat(host, "plain").status, len(upstream.requests)) == (400, before + 1)
        # A connection that the upstream closed meanwhile costs nobody an answer.
        for _ in range(5):
            upstream.close_all()
            assert chat(host, "plain").status == 200
        # After the first byte nothing is tried again.
        before = len(upstream.requests)
        assert "[DONE]" not in streamed(host, "cut")
        assert len(upstream.requests) == before + 1


def test_an_upstream_that_keeps_failing_rests_and_comes_back(start_host: Callable[..., Host]) -> None:
    with Upstream() as upstream:
        host = start_host(providers(settings_of(upstream)))
        until_model(host, "plain")
        upstream.fail(503, times=1_000)
        for _ in range(7):
            assert chat(host, "plain").status == 503
        before = len(upstream.requests)
        answer = chat(host, "plain")
        assert (answer.status, answer.error()["code"]) == (503, "overloaded")
        assert "rests for" in answer.error()["message"]
        assert int(answer.headers["retry-after"]) >= 1
        assert len(upstream.requests) == before, "an upstream that rests is left alone"
        assert state(host)["state"] == "resting"
        until(lambda: host.plugin("providers")["status"] == "degraded", "operators see it")
        upstream.failures.clear()
        until(lambda: chat(host, "plain").status == 200, "a probe finds it well")
        assert len(upstream.requests) == before + 1
        until(lambda: host.plugin("providers")["status"] == "running", "operators see it")


def test_what_a_client_does_wrong_sends_no_upstream_to_rest(start_host: Callable[..., Host]) -> None:
    with Upstream() as upstream:
        host = start_host(providers(settings_of(upstream)))
        until_model(host, "plain")
        for status in (400, 404, 413, 422, 500):
            upstream.fail(status, times=8)
            for _ in range(8):
                chat(host, "plain")
            assert chat(host, "plain").status == 200, status


def test_each_wait_has_its_own_bound(start_host: Callable[..., Host]) -> None:
    with Upstream() as upstream, socket.create_server(("127.0.0.1", 0), backlog=0) as deaf:
        host = start_host(
            providers(
                settings_of(
                    upstream, "first", models=["waits", "waits-after-head"], firstByteTimeoutMs=300
                ),
                settings_of(upstream, "idle", models=["waits-in-stream"], idleTimeoutMs=300),
                {
                    **{
                        "name": "deaf",
                        "baseUrl": f"http://127.0.0.1:{deaf.getsockname()[1]}",
                        "retries": 0,
                    },
                    **{"models": ["deaf"], "firstByteTimeoutMs": 300},
                },
            )
        )
        until_model(host, "deaf")
        for model, stream in [
            ("waits", False),
            ("waits", True),
            ("waits-after-head", True),
            ("deaf", False),
        ]:
            answer = chat(host, model, stream=stream)
            assert (answer.status, answer.error()["code"]) == (504, "timeout"), answer.body
            assert "no byte of an answer for 300 ms" in answer.error()["message"]
        error = json.loads(streamed(host, "waits-in-stream")[-1])["error"]
        assert "stopped in the middle" in error["message"]
        until(lambda: upstream.open_connections == [], "what was given up is closed")


def test_a_key_is_never_shown_again_and_new_settings_hold_at_once(
    start_host: Callable[..., Host],
) -> None:
    with Upstream(key=KEY) as upstream:
        host = start_host(providers(settings_of(upstream, apiKey="sk-wrong-key")))
        until_model(host, "plain")
        answer = chat(host, "plain")
        assert (answer.status, answer.error()["code"]) == (502, "plugin_error")
        until(lambda: host.plugin("providers")["status"] == "degraded", "operators see it")
        assert "refuses the credential" in logs(host)

        shown = host.plugin("providers")["config"]["settings"]["upstreams"][0]
        assert shown["apiKey"] == {"$secret": True}
        assert configure(host, upstreams=[{**shown, "apiKey": KEY}]).status == 200
        assert chat(host, "plain").status == 200
        # Kept where it is sent back as it was shown.
        assert configure(host, upstreams=[{**shown, "maxConcurrency": 2}]).status == 200
        assert chat(host, "plain").status == 200
        texts = [logs(host), json.dumps(state(host)), json.dumps(host.plugin("providers"))]
        texts.append(host.log.read_text(errors="replace"))
        assert all(KEY not in text and "sk-wrong-key" not in text for text in texts)


def test_settings_that_make_no_sense_are_refused(start_host: Callable[..., Host]) -> None:
    host = start_host(providers())
    good = {"name": "up", "baseUrl": "http://127.0.0.1:1", "models": ["m"]}
    wrongs: list[dict[str, Any]] = [
        {"baseUrl": "file:///etc/passwd"},
        {"baseUrl": "http://user:secret@127.0.0.1/"},
        {"baseUrl": "http://127.0.0.1/?key=1"},
        {"baseUrl": "http://"},
        {"name": "Up"},
        {"name": ""},
        {"models": "all"},
        {"models": ["with space"]},
        {"maxConcurrency": 0},
        {"retries": 6},
        {"idleTimeoutMs": 0},
        {"apiKey": "two\nlines"},
        {"unknown": 1},
    ]
    for wrong in wrongs:
        answer = configure(host, upstreams=[{**good, **wrong}])
        assert answer.status == 422, (wrong, answer.body)
    assert configure(host, upstreams=[good, good]).status == 422
    assert configure(host, upstreams=[good]).status == 200


def test_a_proxy_of_the_environment_is_not_used(start_host: Callable[..., Host]) -> None:
    with Upstream() as upstream:
        proxy = "http://127.0.0.1:1"
        host = start_host(
            providers(settings_of(upstream)),
            HTTP_PROXY=proxy,
            http_proxy=proxy,
            ALL_PROXY=proxy,
            NO_PROXY="",
        )
        until_model(host, "plain")
        assert chat(host, "plain").status == 200


def test_an_upstream_over_tls_is_trusted_as_the_machine_says(
    start_host: Callable[..., Host], tmp_path: Path
) -> None:
    if shutil.which("openssl") is None:
        pytest.skip("openssl is not installed; on Debian: sudo apt-get install openssl")
    cert, key = tmp_path / "cert.pem", tmp_path / "key.pem"
    command = ["openssl", "req", "-x509", "-nodes", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"]
    command += ["-subj", "/CN=upstream", "-days", "2", "-addext", "subjectAltName=IP:127.0.0.1"]
    command += ["-addext", "basicConstraints=critical,CA:FALSE", "-keyout", str(key), "-out", str(cert)]
    subprocess.run(command, check=True, capture_output=True)
    tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    tls.load_cert_chain(cert, key)
    with Upstream(tls=tls) as upstream:
        host = start_host(providers(settings_of(upstream)), SSL_CERT_FILE=str(cert))
        until_model(host, "plain")
        assert content(streamed(host, "split")) == TEXT
        assert chat(host, "plain").status == 200
        seen, _ = leave(host, upstream, ask("endless", stream=True))
        until_closed(seen)

        stranger = start_host(providers(settings_of(upstream)))
        until_model(stranger, "plain")
        answer = chat(stranger, "plain")
        assert (answer.status, answer.error()["code"]) == (502, "plugin_error")
        assert "certificate" in answer.error()["message"]


def test_work_under_way_ends_before_the_plugin_does(start_host: Callable[..., Host]) -> None:
    with Upstream() as upstream:
        host = start_host(providers(settings_of(upstream)))
        until_model(host, "waits-in-stream")
        with host.openai().chat.completions.create(**ask("waits-in-stream", stream=True)) as stream:
            parts = iter(stream)
            assert next(parts).choices[0].delta.content == WORDS[0]
            assert host.lifecycle("providers", "restart", wait=0).status == 202
            until(lambda: host.plugin("providers")["status"] != "running", "it is being restarted")
            upstream.go_on.set()
            assert [part.choices[0].finish_reason for part in parts if part.choices] == ["stop"]
        host.until_running("providers")


def test_the_plugin_keeps_every_rule_while_it_serves(tmp_path: Path) -> None:
    async def count(exchange: Exchange) -> None:
        await exchange.begin_stream()
        for number in range(20):
            await exchange.event(exchange.chunk({"content": f"{number} "}))
            await asyncio.sleep(0.02)
        await exchange.event(exchange.chunk({}, "stop"))
        await exchange.end()

    with Upstream() as upstream:
        upstream.play("count", count)
        providers().write_below(tmp_path)
        payload = ask("count", stream=True)
        asked = {
            "settings": {"upstreams": [settings_of(upstream, models=["plain", "count", "waits"])]},
            "answer": {"capability": "llm.chat", "payload": ask("plain")},
            "stream": {"capability": "llm.chat", "payload": payload},
            "slow": {"capability": "llm.chat", "payload": ask("waits")},
            "goodSettings": {"discoveryIntervalMs": 5_000},
            "badSettings": {"discoveryIntervalMs": 1},
        }
        questions = tmp_path / "ask.json"
        questions.write_text(json.dumps(asked))
        report = check(str(tmp_path / "providers"), "--ask", str(questions))
        assert report.broken == [], report.json
        assert report.rules("not-tried") == [], report.json
        assert report.json["level"] == "extended"


def test_a_slow_reader_holds_the_upstream_back(host: Host, upstream: Upstream) -> None:
    """What the client does not read stays with the upstream, and not in anybody's memory."""
    pid = host.instance("providers")["pid"]
    with host.openai().chat.completions.create(**ask("large", stream=True)) as stream:
        next(iter(stream))
        lines = Path(f"/proc/{pid}/statm").read_text().split()
        assert int(lines[1]) * 4096 < 256 << 20
    until(lambda: state(host)["inFlight"] == 0, "the slot is free")
