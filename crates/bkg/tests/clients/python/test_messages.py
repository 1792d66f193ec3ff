"""`/v1/messages` with Anthropic's official client: plain, as events, with tools, typed, broken, left.

Against models whose every answer is known. `translations.test.mjs` is the same for Node; what each member
of a request becomes is shown by the golden conversations beside `crates/bkg/src/gateway/messages`.
"""

import asyncio
import json
import time
from typing import Any

import anthropic
import pytest
from anthropic import Anthropic, AsyncAnthropic
from harness import Host, until
from pydantic import BaseModel

CANCEL_WITHIN_MS = 100
PIXEL = "R0lGODlhAQABAIAAAAAAAP///yH5BAEAAAAALAAAAAABAAEAAAIBRAA7"
WEATHER: Any = {
    "name": "weather",
    "description": "The weather in a city.",
    "input_schema": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
}


class Trip(BaseModel):
    """A trip to a place."""

    city: str
    days: int


def client_of(host: Host, **options: Any) -> Anthropic:
    """The official client. Without retries: its default ones hide faults."""
    return Anthropic(
        **{"base_url": host.url, "api_key": host.key, "max_retries": 0, "timeout": 30.0, **options}
    )


def ask(text: str, **fields: Any) -> dict[str, Any]:
    messages = [{"role": "user", "content": text}]
    return {"model": "scripted-chat", "max_tokens": 100, "messages": messages, **fields}


def events_of(host: Host, body: dict[str, Any]) -> list[dict[str, Any]]:
    """The events of a stream as they stand on the wire, with names that are those of their data."""
    answer = host.http("POST", "/v1/messages", {**body, "stream": True})
    assert answer.status == 200, answer.body
    found = []
    for block in answer.body.decode().removesuffix("\n\n").split("\n\n"):
        name, data = block.split("\n")
        event = json.loads(data.removeprefix("data: "))
        assert name == f"event: {event['type']}"
        found.append(event)
    return found


def text_of(message: Any) -> str:
    return "".join(block.text for block in message.content if block.type == "text")


def test_a_message_is_written(models: Host) -> None:
    message = client_of(models).messages.create(**ask("where is Bern?", system="Be brief."))
    assert text_of(message) == "You said: where is Bern?"
    assert (message.type, message.role, message.model) == ("message", "assistant", "scripted-chat")
    assert (message.stop_reason, message.stop_sequence) == ("end_turn", None)
    assert message.usage.input_tokens > 0
    assert message.usage.output_tokens == 5
    assert message._request_id


def test_a_stream_amounts_to_the_whole_message(models: Host) -> None:
    client = client_of(models)
    whole = client.messages.create(**ask("where is Bern?"))
    with client.messages.stream(**ask("where is Bern?")) as stream:
        text = "".join(stream.text_stream)
        final = stream.get_final_message()
    assert text == text_of(final) == text_of(whole)
    assert (final.stop_reason, final.usage.output_tokens) == (whole.stop_reason, whole.usage.output_tokens)
    assert final.usage.input_tokens == whole.usage.input_tokens


def test_events_come_in_the_order_of_the_interface(models: Host) -> None:
    events = events_of(models, ask("hello"))
    kinds = [event["type"] for event in events]
    assert kinds[:3] == ["message_start", "ping", "content_block_start"]
    assert set(kinds[3:-3]) == {"content_block_delta"}
    assert kinds[-3:] == ["content_block_stop", "message_delta", "message_stop"]
    assert events[-2]["delta"]["stop_reason"] == "end_turn"
    assert events[-2]["usage"]["output_tokens"] > 0


def test_tools_are_used_and_answered(models: Host) -> None:
    client = client_of(models)
    asked = ask("city=Bern", tools=[WEATHER])
    with client.messages.stream(**asked) as stream:
        fragments = [event.partial_json for event in stream if event.type == "input_json"]
        first = stream.get_final_message()
    assert "".join(fragments) == '{"city":"Bern"}'
    (use,) = first.content
    assert use.type == "tool_use"
    assert (use.name, use.input, first.stop_reason) == ("weather", {"city": "Bern"}, "tool_use")
    assert client.messages.create(**asked).content[0].type == "tool_use"
    result = {"type": "tool_result", "tool_use_id": use.id, "content": "sunny"}
    conversation = [
        *asked["messages"],
        {"role": "assistant", "content": first.content},
        {"role": "user", "content": [result]},
    ]
    second = client.messages.create(**ask("", messages=conversation, tools=[WEATHER]))
    assert text_of(second) == "The tool said: sunny"


def test_an_answer_is_parsed_into_a_type(models: Host) -> None:
    client = client_of(models)
    parsed = client.messages.parse(**ask("city=Bern for 3 days", output_format=Trip))
    assert parsed.parsed_output == Trip(city="Bern", days=3)
    with client.messages.stream(**ask("city=Bern for 3 days", output_format=Trip)) as stream:
        final = stream.get_final_message()
    assert final.parsed_output == Trip(city="Bern", days=3)


def test_what_a_chat_knows_reaches_the_plugin(host: Host) -> None:
    source = {"type": "base64", "media_type": "image/gif", "data": PIXEL}
    content = [{"type": "text", "text": "what is this?"}, {"type": "image", "source": source}]
    body = {
        "model": "test/frame",
        "max_tokens": 50,
        "system": "Look.",
        "messages": [{"role": "user", "content": content}],
        "stop_sequences": ["END"],
        "metadata": {"user_id": "u"},
    }
    message = client_of(host).messages.create(**body, extra_body={"temperature": 0.5})  # type: ignore[call-overload]
    payload = json.loads(text_of(message))["payload"]
    parts = [
        {"type": "text", "text": "what is this?"},
        {"type": "image_url", "image_url": {"url": f"data:image/gif;base64,{PIXEL}"}},
    ]
    assert payload == {
        "model": "test/frame",
        "max_completion_tokens": 50,
        "messages": [{"role": "system", "content": "Look."}, {"role": "user", "content": parts}],
        "temperature": 0.5,
        "stop": ["END"],
        "user": "u",
    }


def test_an_answer_that_is_cut_off_says_so(models: Host) -> None:
    message = client_of(models).messages.create(**ask("a long story", max_tokens=2))
    assert (message.stop_reason, message.usage.output_tokens) == ("max_tokens", 2)


def test_a_stream_that_breaks_ends_with_an_error(models: Host) -> None:
    body = ask("one two three four five", model="scripted-breaks")
    events = events_of(models, body)
    assert events[-1]["type"] == "error"
    assert events[-1]["error"]["type"] == "api_error"
    assert not {"message_delta", "message_stop"} & {event["type"] for event in events}
    with (
        client_of(models).messages.stream(**body) as stream,
        pytest.raises(anthropic.APIStatusError) as broken,
    ):
        stream.get_final_message()
    assert "half way" in str(broken.value)


def error_of(host: Host, status: int, path: str = "/v1/messages", **how: Any) -> dict[str, Any]:
    """The error of a request that fails, which has Anthropic's form whoever refuses it."""
    answer = host.http(how.pop("method", "POST"), path, how.pop("body", ask("hello")), **how)
    assert answer.status == status, answer.body
    body = answer.json()
    assert body.keys() == {"type", "error", "request_id"}
    assert body["type"] == "error"
    assert body["error"].keys() == {"type", "message", "details"}
    assert body["request_id"] == answer.headers["request-id"] == answer.headers["x-request-id"]
    return dict(body["error"])


def test_every_error_has_anthropics_form(models: Host) -> None:
    cases: list[tuple[int, str, dict[str, Any]]] = [
        (401, "authentication_error", {"key": ""}),
        (401, "authentication_error", {"key": "bkg_sk_wrong"}),
        (404, "not_found_error", {"body": ask("hello", model="no-such-model")}),
        (404, "not_found_error", {"path": "/v1/messages/batches"}),
        (405, "invalid_request_error", {"method": "DELETE", "body": None}),
        (413, "request_too_large", {"body": b" " * (33 << 20)}),
        (415, "invalid_request_error", {"headers": {"Content-Type": "text/plain"}}),
        (400, "invalid_request_error", {"body": b"{"}),
        (400, "invalid_request_error", {"body": {"model": "scripted-chat", "messages": []}}),
        (429, "rate_limit_error", {"body": ask("hello", model="scripted-busy")}),
        (502, "api_error", {"body": ask("hello", model="scripted-fails")}),
    ]
    for status, kind, how in cases:
        assert error_of(models, status, **how)["type"] == kind


def test_the_client_knows_the_errors(models: Host) -> None:
    client = client_of(models)
    with pytest.raises(anthropic.AuthenticationError):
        client_of(models, api_key="bkg_sk_wrong").messages.create(**ask("hello"))
    with pytest.raises(anthropic.NotFoundError) as missing:
        client.messages.create(**ask("hello", model="no-such-model"))
    assert missing.value.type == "not_found_error"
    assert missing.value.error_code == "model_not_found"
    assert missing.value.request_id
    with pytest.raises(anthropic.RateLimitError) as busy:
        client.messages.create(**ask("hello", model="scripted-busy"))
    assert busy.value.response.headers["retry-after"] == "1"
    with pytest.raises(anthropic.BadRequestError) as refused:
        client.messages.create(
            **ask("hello", tools=[{"type": "web_search_20250305", "name": "web_search"}])
        )
    assert "`tools[0].type`" in str(refused.value)


def test_the_key_may_come_in_either_header_but_only_here(models: Host) -> None:
    body = ask("hello")
    in_x_api_key = {"x-api-key": models.key, "anthropic-version": "2023-06-01"}

    def send(path: str, **how: Any) -> int:
        return models.http("POST", path, body, **how).status

    assert send("/v1/messages", key="", headers=in_x_api_key) == 200
    assert send("/v1/messages", headers=in_x_api_key) == 200
    assert send("/v1/messages", headers={"x-api-key": "another"}) == 401
    assert send("/v1/messages", key="", headers={"x-api-key": ""}) == 401
    assert send("/v1/chat/completions", key="", headers=in_x_api_key) == 401
    assert send("/v1/responses", key="", headers=in_x_api_key) == 401


def test_a_client_that_leaves_cancels_the_work(host: Host) -> None:
    stream = client_of(host).messages.create(**ask("go", model="test/slow", stream=True))
    for event in stream:
        if event.type == "content_block_delta":
            break
    request_id, left_at = stream.response.headers["request-id"], time.monotonic_ns() / 1e6
    stream.close()
    (cancel,) = host.cancels(request_id)
    assert cancel["atMs"] - left_at <= CANCEL_WITHIN_MS
    until(lambda: host.instance("misbehave")["inFlight"] == 0, "the slot is free again")


def test_tokens_are_estimated(models: Host) -> None:
    client = client_of(models)
    asked = ask("four bytes are one token", tools=[WEATHER])
    del asked["max_tokens"]
    few = client.messages.count_tokens(**asked)
    asked["messages"] *= 2
    assert 0 < few.input_tokens < client.messages.count_tokens(**asked).input_tokens
    assert few.to_dict()["estimated"] is True
    with pytest.raises(anthropic.BadRequestError):
        client.messages.count_tokens(model="scripted-chat", messages=[])


def test_the_asynchronous_client_does_the_same(models: Host) -> None:
    async def use() -> str:
        async with (
            AsyncAnthropic(base_url=models.url, api_key=models.key, max_retries=0) as client,
            client.messages.stream(**ask("hello")) as stream,
        ):
            return "".join([text async for text in stream.text_stream])

    assert asyncio.run(use()) == "You said: hello"
