"""Routes as the official client and the command line see them: one name, whoever answers."""

import json
from collections.abc import Callable
from typing import Any

import openai
import pytest
from harness import Host, llmserver, misbehave

MESSAGES: Any = [{"role": "user", "content": "hi"}]


def routing(host: Host, *arguments: str) -> Any:
    """What `bkg route` answers, as JSON."""
    done = host.command_line("route", *arguments, "--json")
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.fixture
def routed(start_host: Callable[..., Host]) -> Host:
    """A daemon whose route `fast` fails at its first model and falls back to a good one."""
    host = start_host(llmserver(), misbehave())
    made = routing(host, "set", "fast", "test/fails", "--fallback", "stand-in")
    assert made["routes"]["fast"]["fallbacks"] == ["stand-in"]
    return host


def test_the_sdk_streams_from_the_fallback_as_from_the_model_itself(routed: Host) -> None:
    client = routed.openai()

    def stream(model: str) -> tuple[list[str | None], list[str | None], str]:
        raw = client.chat.completions.with_raw_response.create(
            model=model, messages=MESSAGES, stream=True, temperature=0
        )
        choices = [choice for chunk in raw.parse() for choice in chunk.choices]
        contents = [choice.delta.content for choice in choices]
        return contents, [choice.finish_reason for choice in choices], raw.headers["x-bkg-plugin"]

    assert stream("fast") == stream("stand-in")
    assert stream("fast")[2] == "llmserver"


def test_a_stream_that_breaks_raises_and_is_not_continued_elsewhere(routed: Host) -> None:
    client = routed.openai()
    extra = {"chunks": 2, "error": {"code": "overloaded", "message": "half way", "retryable": True}}
    stream = client.chat.completions.create(model="fast", messages=MESSAGES, stream=True, extra_body=extra)
    contents: list[str | None] = []
    with pytest.raises(openai.APIError, match="half way"):
        contents.extend(chunk.choices[0].delta.content for chunk in stream)
    assert contents == ["0 ", "1 "]


def test_routes_are_models_of_the_sdk_and_embeddings_have_them_too(routed: Host) -> None:
    routing(routed, "set", "vectors", "llmserver/stand-in-embed")
    client = routed.openai()
    assert {"fast", "vectors"} <= {model.id for model in client.models.list()}
    raw = client.embeddings.with_raw_response.create(model="vectors", input="hi")
    assert raw.headers["x-bkg-model"] == "stand-in-embed"
    assert (
        raw.parse().data[0].embedding
        == client.embeddings.create(model="stand-in-embed", input="hi").data[0].embedding
    )


def test_the_command_line_says_where_a_request_goes(routed: Host) -> None:
    told = routing(routed, "fast")
    assert (told["route"], told["chosen"]["model"]) == ("fast", "test/fails")
    assert [candidate["place"] for candidate in told["candidates"]] == [1, 2]
    assert routing(routed, "remove", "fast")["routes"] == {}
