"""That the scripted models do what their README says, so that other tests can rely on it."""

import json
from typing import Any

import openai
import pytest
from harness import Host, until


def ask(text: str, **fields: Any) -> dict[str, Any]:
    return {"model": "scripted-chat", "messages": [{"role": "user", "content": text}], **fields}


ADD = {
    "type": "function",
    "function": {
        "name": "add",
        "parameters": {
            "type": "object",
            "properties": {"a": {"type": "integer"}, "b": {"type": "integer"}, "note": {"type": "string"}},
            "required": ["a", "b"],
        },
    },
}


def test_a_chat_is_repeated_and_counted_exactly(models: Host) -> None:
    answer = models.openai().chat.completions.create(**ask("where is Bern?"))
    assert answer.choices[0].message.content == "You said: where is Bern?"
    assert answer.usage is not None
    assert (answer.usage.prompt_tokens, answer.usage.completion_tokens) == (4, 5)
    line = models.served("scripted")[-1]
    assert (line["promptTokens"], line["completionTokens"], line["outcome"]) == (4, 5, "ok")


def test_the_ledger_names_the_request(models: Host) -> None:
    answer = models.http("POST", "/v1/chat/completions", ask("hello"))
    assert models.served("scripted")[-1]["request"] == answer.headers["x-request-id"]


@pytest.mark.parametrize("fields", [{}, {"n": 3}, {"tools": [ADD]}])
def test_the_parts_are_the_whole(models: Host, fields: dict[str, Any]) -> None:
    body = ask("add 3 and 4", stream_options={"include_usage": True}, **fields)
    with models.openai().chat.completions.stream(**body) as stream:
        streamed = stream.get_final_completion()
    whole = models.openai().chat.completions.create(**ask("add 3 and 4", **fields))
    assert [choice.message.content for choice in streamed.choices] == [
        choice.message.content for choice in whole.choices
    ]
    assert streamed.usage == whole.usage


def test_tools_are_called_with_the_numbers_of_the_message(models: Host) -> None:
    (choice,) = models.openai().chat.completions.create(**ask("add 3 and 4", tools=[ADD])).choices
    assert choice.finish_reason == "tool_calls"
    (call,) = choice.message.tool_calls or []
    assert call.type == "function"
    assert json.loads(call.function.arguments) == {"a": 3, "b": 4}


def test_json_fits_the_schema(models: Host) -> None:
    schema = {
        "type": "object",
        "properties": {"city": {"$ref": "#/$defs/City"}, "mood": {"enum": ["good", "bad"]}},
        "required": ["city", "mood"],
        "$defs": {"City": {"type": "object", "properties": {"name": {"type": "string"}}}},
    }
    form = {"type": "json_schema", "json_schema": {"name": "trip", "schema": schema}}
    (choice,) = (
        models.openai().chat.completions.create(**ask("name=Bern, mood: bad", response_format=form)).choices
    )
    assert json.loads(choice.message.content or "") == {"city": {"name": "Bern"}, "mood": "bad"}


def test_a_script_fails_as_often_as_it_says(models: Host) -> None:
    script = {"fail": {"code": "overloaded", "retryAfterMs": 1}, "times": 1, "name": "once"}
    body = ask("again", extra_body={"script": script})
    with pytest.raises(openai.InternalServerError) as caught:
        models.openai().chat.completions.create(**body)
    assert caught.value.status_code == 503
    assert models.openai().chat.completions.create(**body).choices[0].finish_reason == "stop"


def test_a_stream_breaks_after_the_part_that_the_script_names(models: Host) -> None:
    body = ask("one two three", model="scripted-breaks", stream=True)
    stream = iter(models.openai().chat.completions.create(**body))
    deltas = [next(stream).choices[0].delta.content for _ in range(3)]
    assert deltas == ["", "You ", "said: "]
    with pytest.raises(openai.APIError, match="broke half way"):
        next(stream)


def test_a_script_that_is_misspelt_is_refused(models: Host) -> None:
    answer = models.http("POST", "/v1/chat/completions", ask("x", script={"stal": True}))
    assert (answer.status, answer.error()["param"]) == (400, "script")


def test_one_that_stalls_notes_that_it_was_cancelled(models: Host) -> None:
    with pytest.raises(openai.APITimeoutError):
        models.openai(timeout=0.2).chat.completions.create(**ask("x", model="scripted-stalls"))
    until(lambda: models.served("scripted")[-1]["outcome"] == "cancelled", "the cancel is noted")
