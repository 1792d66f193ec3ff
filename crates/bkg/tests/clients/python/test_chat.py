"""Chat and completions as an application sees them: whole, streamed, with usage, with tools."""

import json
from typing import Any

import pytest
from harness import Host

MODELS = ["stand-in", "base-echo"]


def ask(text: str, **fields: Any) -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": text}], **fields}


@pytest.mark.parametrize("model", MODELS)
def test_a_chat_is_answered(host: Host, model: str) -> None:
    answer = host.openai().chat.completions.create(**ask("where is Bern?", model=model))
    choice = answer.choices[0]
    assert answer.object == "chat.completion"
    assert (choice.index, choice.finish_reason, choice.message.role) == (0, "stop", "assistant")
    assert "where is Bern?" in (choice.message.content or "")
    assert answer.usage is not None
    assert answer.usage.prompt_tokens > 0
    assert answer.usage.completion_tokens > 0
    assert answer.usage.total_tokens == answer.usage.prompt_tokens + answer.usage.completion_tokens


def test_the_stand_in_says_what_it_is(host: Host) -> None:
    answer = host.openai().chat.completions.create(**ask("hello", model="stand-in"))
    assert "stand-in" in (answer.choices[0].message.content or "")


@pytest.mark.parametrize("model", MODELS)
def test_a_streamed_chat_says_what_the_whole_one_says(host: Host, model: str) -> None:
    client = host.openai()
    whole = client.chat.completions.create(**ask("where is Bern?", model=model))
    parts = list(client.chat.completions.create(**ask("where is Bern?", model=model, stream=True)))
    content = "".join(part.choices[0].delta.content or "" for part in parts)
    assert content == whole.choices[0].message.content


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("wanted", [True, False, None])
def test_every_chunk_has_its_form(host: Host, model: str, wanted: bool | None) -> None:
    options = {} if wanted is None else {"stream_options": {"include_usage": wanted}}
    answer = host.http(
        "POST", "/v1/chat/completions", ask("one two three", model=model, stream=True, **options)
    )
    assert answer.status == 200, answer.body
    *events, last = answer.events()
    assert last == "[DONE]"
    chunks = [json.loads(event) for event in events]
    assert {chunk["object"] for chunk in chunks} == {"chat.completion.chunk"}
    assert len({(chunk["id"], chunk["created"], chunk["model"]) for chunk in chunks}) == 1

    usage_chunks = [chunk for chunk in chunks if not chunk["choices"]]
    if wanted:
        assert [chunk["usage"] for chunk in chunks[:-1]] == [None] * (len(chunks) - 1)
        assert usage_chunks == [chunks.pop()]
        assert usage_chunks[0]["usage"]["completion_tokens"] > 0
    else:
        assert usage_chunks == []
        assert all(chunk.get("usage") is None for chunk in chunks)

    choices = [choice for chunk in chunks for choice in chunk["choices"]]
    assert all({"index", "delta", "finish_reason"} <= choice.keys() for choice in choices)
    assert [choice["finish_reason"] for choice in choices] == [None] * (len(choices) - 1) + ["stop"]
    assert ["role" in choice["delta"] for choice in choices] == [True] + [False] * (len(choices) - 1)


def test_the_usage_chunk_reaches_the_client_that_asked_for_it(host: Host) -> None:
    options = {"stream": True, "stream_options": {"include_usage": True}}
    *parts, last = host.openai().chat.completions.create(**ask("hello", model="stand-in", **options))
    assert last.choices == []
    assert last.usage is not None
    assert last.usage.total_tokens == last.usage.prompt_tokens + last.usage.completion_tokens
    assert all(part.usage is None for part in parts)


def test_a_stream_is_neither_cached_nor_buffered_nor_compressed(host: Host) -> None:
    body = ask("hello", model="stand-in", stream=True)
    answer = host.http("POST", "/v1/chat/completions", body, headers={"Accept-Encoding": "gzip, br"})
    assert answer.headers.get_content_type() == "text/event-stream"
    assert answer.headers["cache-control"] == "no-cache"
    assert answer.headers["x-accel-buffering"] == "no"
    assert answer.headers["content-encoding"] is None
    assert answer.headers["x-request-id"]


def test_a_stream_arrives_token_by_token(host: Host) -> None:
    stream = host.openai().chat.completions.create(**ask("go", model="test/slow", stream=True))
    first = next(iter(stream))
    # The plugin takes 20 s for all of it: whoever holds the first chunk was not made to wait for the last.
    assert first.choices[0].delta.content == "0 "
    stream.close()


def test_tool_calls_arrive_in_fragments(host: Host) -> None:
    parts = list(host.openai().chat.completions.create(**ask("weather?", model="test/tools", stream=True)))
    calls = [call for part in parts for call in part.choices[0].delta.tool_calls or []]
    assert [call.index for call in calls] == [0, 0, 0, 0]
    assert [call.id for call in calls] == ["call_1", None, None, None]
    assert [call.type for call in calls] == ["function", None, None, None]
    functions = [call.function for call in calls if call.function]
    assert [function.name for function in functions] == ["weather", None, None, None]
    assert json.loads("".join(function.arguments or "" for function in functions)) == {"city": "Bern"}
    assert parts[-1].choices[0].finish_reason == "tool_calls"


def test_the_sdk_puts_a_streamed_tool_call_together(host: Host) -> None:
    with host.openai().chat.completions.stream(**ask("weather?", model="test/tools")) as stream:
        message = stream.get_final_completion().choices[0].message
    assert message.tool_calls is not None
    assert message.tool_calls[0].function.arguments == '{"city": "Bern"}'


def test_a_tool_call_of_a_whole_answer_keeps_its_null_content(host: Host) -> None:
    choice = host.openai().chat.completions.create(**ask("weather?", model="test/tools")).choices[0]
    assert choice.message.content is None
    assert choice.finish_reason == "tool_calls"


def seen_by_plugin(host: Host, body: bytes) -> str:
    """The `request` frame that the plugin got for a body."""
    answer = host.http("POST", "/v1/chat/completions", body)
    assert answer.status == 200, answer.body
    return str(answer.json()["choices"][0]["message"]["content"])


@pytest.mark.parametrize(
    "fields",
    [
        '"temperature":1.50,"seed":12345678901234567890,"top_p":1e-1',
        '"z_unknown":{"b":1,"a":[]},"another":null',
        '"max_completion_tokens":5,"max_tokens":7',
        '"stop":null,"tools":null,"user":"J\\u00fcrg \\ud83d\\ude00"',
        '"metadata":{"type":"request","requestId":"1"}',
    ],
)
def test_the_body_reaches_the_plugin_as_it_was_sent(host: Host, fields: str) -> None:
    body = f'{{"model":"test/frame",{fields},"messages":[{{"role":"user","content":"x"}}]}}'
    assert f'"payload":{body}' in seen_by_plugin(host, body.encode()).replace('"payload": ', '"payload":')


@pytest.mark.parametrize(
    "messages",
    [
        [{"role": "developer", "content": "be brief"}, {"role": "user", "content": "hello"}],
        [{"role": "user", "content": [{"type": "text", "text": "hello"}]}],
        [{"role": "user", "content": "hello"}, {"role": "assistant", "content": None, "tool_calls": []}],
    ],
)
def test_messages_of_any_form_reach_the_plugin(host: Host, messages: list[Any]) -> None:
    frame = seen_by_plugin(host, json.dumps({"model": "test/frame", "messages": messages}).encode())
    assert json.loads(frame)["payload"]["messages"] == messages


def test_the_stand_in_reads_part_arrays(host: Host) -> None:
    content = [{"type": "text", "text": "seven lakes"}]
    answer = host.openai().chat.completions.create(
        model="stand-in",
        messages=[{"role": "user", "content": content}],  # type: ignore[misc, list-item]
    )
    assert "seven lakes" in (answer.choices[0].message.content or "")


@pytest.mark.parametrize("stream", [False, True])
def test_the_request_id_reaches_the_plugin(host: Host, stream: bool) -> None:
    answer = host.http("POST", "/v1/chat/completions", ask("x", model="test/frame", stream=stream))
    if stream:
        content = json.loads(answer.events()[0])["choices"][0]["delta"]["content"]
    else:
        content = answer.json()["choices"][0]["message"]["content"]
    assert json.loads(content)["correlationId"] == answer.headers["x-request-id"]


def test_the_plugin_learns_who_asks_but_not_the_credential(host: Host) -> None:
    frame = seen_by_plugin(host, json.dumps(ask("x", model="test/frame")).encode())
    assert json.loads(frame)["caller"]["user"] == "root"
    assert host.key not in frame


def test_a_streamed_request_asks_the_plugin_for_usage(host: Host) -> None:
    answer = host.http("POST", "/v1/chat/completions", ask("x", model="test/frame", stream=True))
    frame = json.loads(json.loads(answer.events()[0])["choices"][0]["delta"]["content"])
    assert frame["stream"] is True
    assert frame["credit"] > 0
    assert frame["payload"]["stream_options"] == {"include_usage": True}


def test_a_plain_completion_is_answered(host: Host) -> None:
    answer = host.openai().completions.create(model="stand-in", prompt="seven lakes")
    assert answer.object == "text_completion"
    assert "seven lakes" in answer.choices[0].text
    assert answer.usage is not None
    assert answer.usage.total_tokens > 0


def test_a_plain_completion_streams(host: Host) -> None:
    client = host.openai()
    whole = client.completions.create(model="stand-in", prompt="seven lakes").choices[0].text
    parts = list(client.completions.create(model="stand-in", prompt="seven lakes", stream=True))
    assert "".join(part.choices[0].text for part in parts if part.choices) == whole
    assert parts[-1].choices[0].finish_reason == "stop"


@pytest.mark.parametrize(
    ("field", "value"), [("suffix", "end"), ("echo", True), ("best_of", 2), ("logprobs", 1)]
)
def test_what_a_plain_completion_cannot_do_is_refused_by_name(host: Host, field: str, value: Any) -> None:
    answer = host.http("POST", "/v1/completions", {"model": "stand-in", "prompt": "x", field: value})
    assert (answer.status, answer.error()["param"]) == (400, field)
