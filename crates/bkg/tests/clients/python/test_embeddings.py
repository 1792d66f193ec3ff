"""Embeddings: what the official client asks for by default, plain floats, and every form of input."""

import base64
import math
import struct
from typing import Any

import pytest
from harness import Host

MODEL = "stand-in-embed"


def embed(host: Host, **fields: Any) -> Any:
    answer = host.http("POST", "/v1/embeddings", {"model": MODEL, **fields})
    assert answer.status == 200, answer.body
    return answer.json()


def test_the_sdk_gets_vectors_with_its_own_default_encoding(host: Host) -> None:
    answer = host.openai().embeddings.create(model=MODEL, input=["one", "two"])
    assert [item.index for item in answer.data] == [0, 1]
    lengths = {len(item.embedding) for item in answer.data}
    assert len(lengths) == 1
    assert lengths.pop() > 0
    assert all(isinstance(value, float) for value in answer.data[0].embedding)
    assert answer.usage.prompt_tokens > 0
    assert answer.data[0].embedding != answer.data[1].embedding


def test_base64_and_float_say_the_same(host: Host) -> None:
    (plain,) = embed(host, input="seven lakes", encoding_format="float")["data"]
    (packed,) = embed(host, input="seven lakes", encoding_format="base64")["data"]
    octets = base64.b64decode(packed["embedding"], validate=True)
    unpacked = struct.unpack(f"<{len(octets) // 4}f", octets)
    assert unpacked == pytest.approx(plain["embedding"], rel=1e-6)


def test_a_caller_who_says_nothing_gets_floats(host: Host) -> None:
    (item,) = embed(host, input="seven lakes")["data"]
    assert isinstance(item["embedding"], list)


def test_vectors_have_unit_length_and_are_the_same_each_time(host: Host) -> None:
    first = embed(host, input="seven lakes")["data"][0]["embedding"]
    second = embed(host, input="seven lakes")["data"][0]["embedding"]
    assert first == second
    assert math.sqrt(sum(value * value for value in first)) == pytest.approx(1.0, abs=1e-4)


@pytest.mark.parametrize(
    ("given", "vectors"),
    [("text", 1), (["one", "two", "three"], 3), ([1, 2, 3], 1), ([[1, 2], [3], [4, 5]], 3)],
    ids=["text", "texts", "tokens", "lists of tokens"],
)
def test_every_form_of_input_is_read(host: Host, given: Any, vectors: int) -> None:
    answer = embed(host, input=given)
    assert answer["object"] == "list"
    assert [item["index"] for item in answer["data"]] == list(range(vectors))
    assert {item["object"] for item in answer["data"]} == {"embedding"}


@pytest.mark.parametrize(
    "fields", [{}, {"input": {"text": "x"}}, {"input": "x", "encoding_format": "octal"}]
)
def test_what_is_not_an_input_is_refused(host: Host, fields: dict[str, Any]) -> None:
    answer = host.http("POST", "/v1/embeddings", {"model": MODEL, **fields})
    assert answer.status == 400, answer.body
    assert answer.error()["type"] == "invalid_request_error"
