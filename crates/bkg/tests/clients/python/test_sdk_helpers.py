"""What the official client builds on top of the API: typed answers, events of streams, retries, timeouts.

Against models whose every answer is known. `helpers.test.mjs` is the same for Node.
"""

import asyncio
import time
from typing import Any

import openai
import pytest
from harness import Host, until
from pydantic import BaseModel


class Trip(BaseModel):
    """A trip to a place."""

    city: str
    days: int


class Weather(BaseModel):
    """The weather in a city."""

    city: str


TRIP = "city=Bern for 3 days"


def ask(text: str, **fields: Any) -> dict[str, Any]:
    return {"model": "scripted-chat", "messages": [{"role": "user", "content": text}], **fields}


def failing(name: str, times: int = 1, **failure: Any) -> dict[str, Any]:
    """The script that fails so often before it answers."""
    return {"script": {"fail": failure, "times": times, "name": name}}


def test_an_answer_is_parsed_into_a_type(models: Host) -> None:
    answer = models.openai().chat.completions.parse(**ask(TRIP, response_format=Trip))
    assert answer.choices[0].message.parsed == Trip(city="Bern", days=3)


def test_arguments_of_a_tool_are_parsed_into_a_type(models: Host) -> None:
    tools = [openai.pydantic_function_tool(Weather)]
    answer = models.openai().chat.completions.parse(**ask("city=Bern", tools=tools))
    (call,) = answer.choices[0].message.tool_calls or []
    assert call.function.parsed_arguments == Weather(city="Bern")


def test_a_stream_is_parsed_into_a_type_when_it_ends(models: Host) -> None:
    client = models.openai()
    with client.chat.completions.stream(**ask(TRIP, response_format=Trip)) as stream:
        kinds = [event.type for event in stream]
        final = stream.get_final_completion()
    assert {"chunk", "content.delta", "content.done"} <= set(kinds)
    assert final.choices[0].message.parsed == Trip(city="Bern", days=3)


def test_the_events_of_a_streamed_tool_call_are_in_order(models: Host) -> None:
    tools = [openai.pydantic_function_tool(Weather)]
    with models.openai().chat.completions.stream(**ask("city=Bern", tools=tools)) as stream:
        kinds = [event.type for event in stream if event.type != "chunk"]
        final = stream.get_final_completion()
    assert kinds[-1] == "tool_calls.function.arguments.done"
    assert set(kinds[:-1]) == {"tool_calls.function.arguments.delta"}
    (call,) = final.choices[0].message.tool_calls or []
    assert call.function.parsed_arguments == Weather(city="Bern")


def test_a_conversation_with_tools_goes_round(models: Host) -> None:
    client = models.openai()
    tools = [openai.pydantic_function_tool(Weather)]
    messages: list[Any] = [{"role": "user", "content": "city=Bern"}]
    first = client.chat.completions.create(model="scripted-chat", messages=messages, tools=tools)
    message = first.choices[0].message
    (call,) = message.tool_calls or []
    messages += [message, {"role": "tool", "tool_call_id": call.id, "content": "sunny"}]
    second = client.chat.completions.create(model="scripted-chat", messages=messages, tools=tools)
    assert second.choices[0].message.content == "The tool said: sunny"


def test_an_answer_that_was_cut_off_is_not_parsed(models: Host) -> None:
    with pytest.raises(openai.LengthFinishReasonError):
        models.openai().chat.completions.parse(
            **ask("a long trip to somewhere", response_format=Trip, max_completion_tokens=2)
        )


def test_several_choices_keep_their_numbers(models: Host) -> None:
    parts = list(models.openai().chat.completions.create(**ask("hello", n=3, stream=True)))
    texts = {0: "", 1: "", 2: ""}
    for part in parts:
        for choice in part.choices:
            texts[choice.index] += choice.delta.content or ""
    assert set(texts.values()) == {"You said: hello"}


def test_the_asynchronous_client_does_the_same(models: Host) -> None:
    async def use() -> None:
        async with models.async_openai() as client:
            whole, names, packed, plain = await asyncio.gather(
                client.chat.completions.parse(**ask(TRIP, response_format=Trip)),
                client.models.list(),
                client.embeddings.create(model="scripted-embed", input=["one", "two"]),
                client.embeddings.create(
                    model="scripted-embed", input=["one", "two"], encoding_format="float"
                ),
            )
            assert whole.choices[0].message.parsed == Trip(city="Bern", days=3)
            assert "scripted-chat" in {model.id for model in names.data}
            for one, other in zip(packed.data, plain.data, strict=True):
                assert one.embedding == pytest.approx(other.embedding, rel=1e-6)
            async with client.chat.completions.stream(**ask("hello")) as stream:
                content = [event.delta async for event in stream if event.type == "content.delta"]
            assert "".join(content) == "You said: hello"

    asyncio.run(use())


@pytest.mark.parametrize(
    ("code", "status"), [("rate_limited", 429), ("overloaded", 503)], ids=["429", "503"]
)
@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
def test_the_client_tries_again_when_it_was_told_to(
    models: Host, code: str, status: int, stream: bool
) -> None:
    name = f"python-{code}-{stream}"
    body = ask("again", stream=stream, extra_body=failing(name, code=code, retryAfterMs=1))
    began = time.monotonic()
    answer = models.openai(max_retries=1).chat.completions.create(**body)
    # The host says whole seconds, and never less than one.
    assert time.monotonic() - began >= 1
    if stream:
        assert "".join(part.choices[0].delta.content or "" for part in answer) == "You said: again"
    else:
        assert answer.choices[0].message.content == "You said: again"


def test_what_may_have_happened_is_not_tried_again(models: Host) -> None:
    body = ask("again", extra_body=failing("python-once", code="plugin_error"))
    with pytest.raises(openai.InternalServerError) as caught:
        models.openai(max_retries=3).chat.completions.create(**body)
    assert caught.value.status_code == 502
    assert caught.value.response.headers["x-should-retry"] == "false"
    # The script fails once: whoever had tried again would have had an answer.
    assert models.openai().chat.completions.create(**body).choices[0].finish_reason == "stop"


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
def test_a_client_that_runs_out_of_patience_cancels_the_work(models: Host, stream: bool) -> None:
    served = len(models.served("scripted"))
    with pytest.raises(openai.APITimeoutError):
        models.openai(timeout=0.2).chat.completions.create(
            **ask("x", model="scripted-stalls", stream=stream)
        )
    lines = until(lambda: models.served("scripted")[served:], "the request has ended at the plugin")
    assert [line["outcome"] for line in lines] == ["cancelled"]
