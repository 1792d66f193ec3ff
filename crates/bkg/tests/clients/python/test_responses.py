"""`/v1/responses` with the official client: plain, as events, with tools, typed, with images, broken, left.

Against models whose every answer is known. `translations.test.mjs` is the same for Node; what each member
of a request becomes is shown by the golden conversations beside `crates/bkg/src/gateway/responses`.
"""

import asyncio
import json
import time
from typing import Any

import openai
import pytest
from harness import Host, until
from pydantic import BaseModel

CANCEL_WITHIN_MS = 100
# A picture of one pixel.
PIXEL = "data:image/gif;base64,R0lGODlhAQABAIAAAAAAAP///yH5BAEAAAAALAAAAAABAAEAAAIBRAA7"


class Trip(BaseModel):
    """A trip to a place."""

    city: str
    days: int


class Weather(BaseModel):
    """The weather in a city."""

    city: str


def ask(text: str, **fields: Any) -> dict[str, Any]:
    return {"model": "scripted-chat", "input": text, **fields}


def events_of(host: Host, body: dict[str, Any]) -> list[dict[str, Any]]:
    """The events of a stream as they stand on the wire, with names that are those of their data."""
    answer = host.http("POST", "/v1/responses", {**body, "stream": True})
    assert answer.status == 200, answer.body
    found = []
    for block in answer.body.decode().removesuffix("\n\n").split("\n\n"):
        name, data = block.split("\n")
        event = json.loads(data.removeprefix("data: "))
        assert name == f"event: {event['type']}"
        found.append(event)
    assert [event["sequence_number"] for event in found] == list(range(len(found)))
    return found


def test_a_response_is_made(models: Host) -> None:
    answer = models.openai().responses.create(**ask("where is Bern?", instructions="Be brief."))
    assert answer.output_text == "You said: where is Bern?"
    assert (answer.object, answer.status, answer.model) == ("response", "completed", "scripted-chat")
    assert answer.instructions == "Be brief."
    assert answer.usage is not None
    assert answer.usage.total_tokens == answer.usage.input_tokens + answer.usage.output_tokens
    assert answer.usage.output_tokens == 5
    assert answer.usage.output_tokens_details.reasoning_tokens == 0


def test_a_stream_amounts_to_the_whole_response(models: Host) -> None:
    client = models.openai()
    whole = client.responses.create(**ask("where is Bern?"))
    with client.responses.stream(**ask("where is Bern?")) as stream:
        deltas = [event.delta for event in stream if event.type == "response.output_text.delta"]
        final = stream.get_final_response()
    assert "".join(deltas) == final.output_text == whole.output_text
    assert len(deltas) == 5
    assert final.usage == whole.usage


def test_events_come_in_the_order_of_the_interface(models: Host) -> None:
    events = events_of(models, ask("hello"))
    kinds = [event["type"] for event in events]
    assert kinds[:4] == [
        "response.created",
        "response.in_progress",
        "response.output_item.added",
        "response.content_part.added",
    ]
    assert set(kinds[4:-4]) == {"response.output_text.delta"}
    assert kinds[-4:] == [
        "response.output_text.done",
        "response.content_part.done",
        "response.output_item.done",
        "response.completed",
    ]
    last = events[-1]["response"]
    assert last["output"] == [events[-2]["item"]]
    assert last["usage"]["output_tokens"] > 0
    assert {event["response"]["id"] for event in events if "response" in event} == {last["id"]}


def test_functions_are_called_and_answered(models: Host) -> None:
    client = models.openai()
    tools: Any = [{"type": "function", **openai.pydantic_function_tool(Weather)["function"]}]
    first = client.responses.create(**ask("city=Bern", tools=tools, store=False))
    (call,) = first.output
    assert call.type == "function_call"
    assert (call.name, json.loads(call.arguments)) == ("Weather", {"city": "Bern"})
    conversation: Any = [{"role": "user", "content": "city=Bern"}, *first.output]
    conversation.append({"type": "function_call_output", "call_id": call.call_id, "output": "sunny"})
    second = client.responses.create(model="scripted-chat", input=conversation, tools=tools)
    assert second.output_text == "The tool said: sunny"


def test_arguments_are_streamed_and_parsed(models: Host) -> None:
    tools: Any = [openai.pydantic_function_tool(Weather)]
    parsed: Any = models.openai().responses.parse(**ask("city=Bern", tools=tools))
    assert parsed.output[0].parsed_arguments == Weather(city="Bern")
    with models.openai().responses.stream(**ask("city=Bern", tools=tools)) as stream:
        events = list(stream)
        final: Any = stream.get_final_response()
    deltas = [event.delta for event in events if event.type == "response.function_call_arguments.delta"]
    (done,) = [event for event in events if event.type == "response.function_call_arguments.done"]
    assert "".join(deltas) == done.arguments == final.output[0].arguments
    assert final.output[0].parsed_arguments == Weather(city="Bern")


def test_an_answer_is_parsed_into_a_type(models: Host) -> None:
    client = models.openai()
    parsed = client.responses.parse(**ask("city=Bern for 3 days", text_format=Trip))
    assert parsed.output_parsed == Trip(city="Bern", days=3)
    with client.responses.stream(**ask("city=Bern for 3 days", text_format=Trip)) as stream:
        final = stream.get_final_response()
    assert final.output_parsed == Trip(city="Bern", days=3)


def test_what_a_chat_knows_reaches_the_plugin(host: Host) -> None:
    content: Any = [
        {"type": "input_text", "text": "what is this?"},
        {"type": "input_image", "image_url": PIXEL, "detail": "low"},
    ]
    answer = host.openai().responses.create(
        model="test/frame",
        instructions="Look.",
        input=[{"role": "user", "content": content}],
        max_output_tokens=50,
        temperature=0.5,
        reasoning={"effort": "low"},
        metadata={"a": "b"},
    )
    payload = json.loads(answer.output_text)["payload"]
    parts = [
        {"type": "text", "text": "what is this?"},
        {"type": "image_url", "image_url": {"url": PIXEL, "detail": "low"}},
    ]
    assert payload == {
        "model": "test/frame",
        "messages": [{"role": "system", "content": "Look."}, {"role": "user", "content": parts}],
        "max_completion_tokens": 50,
        "reasoning_effort": "low",
        "metadata": {"a": "b"},
        "temperature": 0.5,
    }


def test_an_answer_that_is_cut_off_is_incomplete(models: Host) -> None:
    answer = models.openai().responses.create(**ask("a long story", max_output_tokens=2))
    assert answer.status == "incomplete"
    assert answer.incomplete_details is not None
    assert answer.incomplete_details.reason == "max_output_tokens"
    last = events_of(models, ask("a long story", max_output_tokens=2))[-1]
    assert (last["type"], last["response"]["status"]) == ("response.incomplete", "incomplete")


def test_a_stream_that_breaks_is_failed_and_never_completed(models: Host) -> None:
    body = ask("one two three four five", model="scripted-breaks")
    kinds = [event["type"] for event in events_of(models, body)]
    assert kinds[-1] == "response.failed"
    assert "response.completed" not in kinds
    with models.openai().responses.stream(**body) as stream:
        failed = [event for event in stream if event.type == "response.failed"]
        with pytest.raises(RuntimeError):
            stream.get_final_response()
    assert failed[0].response.error is not None
    assert "half way" in failed[0].response.error.message


def test_a_failure_before_the_first_event_is_a_status(models: Host) -> None:
    for stream in (False, True):
        with pytest.raises(openai.RateLimitError) as busy:
            models.openai().responses.create(**ask("hello", model="scripted-busy", stream=stream))
        assert busy.value.response.headers["retry-after"] == "1"
    with pytest.raises(openai.NotFoundError):
        models.openai().responses.create(**ask("hello", model="no-such-model"))


@pytest.mark.parametrize(
    ("param", "value"),
    [
        ("previous_response_id", "resp_1"),
        ("conversation", "conv_1"),
        ("background", True),
        ("store", True),
        ("tools", [{"type": "web_search"}]),
    ],
)
def test_what_cannot_be_honoured_is_refused_by_name(models: Host, param: str, value: Any) -> None:
    with pytest.raises(openai.BadRequestError) as refused:
        models.openai().responses.create(**ask("hello", **{param: value}))
    assert refused.value.code == "invalid_request"
    assert (refused.value.param or "").split("[")[0] == param


def test_a_client_that_leaves_cancels_the_work(host: Host) -> None:
    stream = host.openai().responses.create(model="test/slow", input="go", stream=True)
    for event in stream:
        if event.type == "response.output_text.delta":
            break
    request_id, left_at = stream.response.headers["x-request-id"], time.monotonic_ns() / 1e6
    stream.close()
    (cancel,) = host.cancels(request_id)
    assert cancel["atMs"] - left_at <= CANCEL_WITHIN_MS
    until(lambda: host.instance("misbehave")["inFlight"] == 0, "the slot is free again")


def test_the_asynchronous_client_does_the_same(models: Host) -> None:
    async def use() -> str:
        async with models.async_openai() as client, client.responses.stream(**ask("hello")) as stream:
            return (await stream.get_final_response()).output_text

    assert asyncio.run(use()) == "You said: hello"


def test_a_model_that_does_not_stream_is_streamed(host: Host) -> None:
    client = host.openai()
    with client.responses.stream(model="base-echo", input="hello") as stream:
        final = stream.get_final_response()
    assert final.output_text == client.responses.create(model="base-echo", input="hello").output_text
