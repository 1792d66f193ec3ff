"""Chat models, for what only the gateway shows: each wraps one behaviour in `chat.completion` shapes.

The model's id chooses the behaviour, so that a test needs nothing but an official client. Importing
this file enters them into the session's table.
"""

import os

from session import Frame, Plugin, Request, capability, model


def completion(request: Request, message: Frame, finish_reason: str = "stop") -> Frame:
    """A whole answer of the model that was asked for."""
    return {
        "id": f"chatcmpl-{request.id}",
        "object": "chat.completion",
        "created": 1_700_000_000,
        "model": request.payload["model"],
        "choices": [
            {"index": 0, "message": {"role": "assistant", **message}, "finish_reason": finish_reason}
        ],
        "usage": {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2},
    }


def completion_chunk(request: Request, delta: Frame, finish_reason: str | None = None) -> Frame:
    """A part of an answer of the model that was asked for."""
    return {
        "id": f"chatcmpl-{request.id}",
        "object": "chat.completion.chunk",
        "created": 1_700_000_000,
        "model": request.payload["model"],
        "choices": [{"index": 0, "delta": delta, "finish_reason": finish_reason}],
        "usage": None,
    }


@model("test/frame")
async def chat_frame(plugin: Plugin, request: Request) -> None:
    if not request.frame.get("stream"):
        await request.answer(completion(request, {"content": request.text}))
        return
    await request.chunk(completion_chunk(request, {"role": "assistant", "content": request.text}))
    await request.chunk(completion_chunk(request, {}, "stop"))
    await request.answer()


@model("test/stall")
async def chat_stall(plugin: Plugin, request: Request) -> None:
    await request.cancelled.wait()
    await request.answer_cancelled()


@model("test/slow")
async def chat_slow(plugin: Plugin, request: Request) -> None:
    if not request.frame.get("stream"):
        await chat_stall(plugin, request)
        return
    for number in range(1_000):
        if not await request.chunk(completion_chunk(request, {"content": f"{number} "})):
            await request.answer_cancelled()
            return
        await request.pause(20)
    await request.chunk(completion_chunk(request, {}, "stop"))
    await request.answer()


@model("test/fast")
async def chat_fast(plugin: Plugin, request: Request) -> None:
    filler = "x" * (16 << 10)
    for number in range(request.payload["max_tokens"]):
        if not await request.chunk(completion_chunk(request, {"content": f"{number} {filler}"})):
            await request.answer_cancelled()
            return
    await request.answer()


@model("test/tools")
async def chat_tools(plugin: Plugin, request: Request) -> None:
    whole = {
        "id": "call_1",
        "type": "function",
        "function": {"name": "weather", "arguments": '{"city": "Bern"}'},
    }
    if not request.frame.get("stream"):
        message = {"content": None, "tool_calls": [whole]}
        await request.answer(completion(request, message, "tool_calls"))
        return
    first = {**whole, "index": 0, "function": {"name": "weather", "arguments": ""}}
    await request.chunk(completion_chunk(request, {"role": "assistant", "tool_calls": [first]}))
    for fragment in ['{"ci', 'ty": "', 'Bern"}']:
        later = {"index": 0, "function": {"arguments": fragment}}
        await request.chunk(completion_chunk(request, {"tool_calls": [later]}))
    await request.chunk(completion_chunk(request, {}, "tool_calls"))
    await request.answer()


@model("test/refuses")
async def chat_refuses(plugin: Plugin, request: Request) -> None:
    await request.fail({"code": "rate_limited", "message": "too much at once", "retryAfterMs": 1500})


@model("test/unauthorized")
async def chat_unauthorized(plugin: Plugin, request: Request) -> None:
    await request.fail({"code": "unauthorized", "message": "the upstream key is wrong"})


@model("test/breaks")
async def chat_breaks(plugin: Plugin, request: Request) -> None:
    for number in range(3):
        await request.chunk(completion_chunk(request, {"content": f"{number} "}))
    await request.fail({"code": "internal", "message": "it broke half way"})


@model("test/fails")
async def chat_fails(plugin: Plugin, request: Request) -> None:
    """Fails as the request itself says, at once or after so many chunks."""
    for number in range(request.option("chunks", 0)):
        await request.chunk(completion_chunk(request, {"content": f"{number} "}))
    await request.fail(request.option("error", {"code": "overloaded", "message": "as it was told"}))


@model("test/told")
async def chat_told(plugin: Plugin, request: Request) -> None:
    """Fails as the newest `test.tell` says, else answers."""
    plugin.told["asked"] += 1
    error = plugin.told["error"]
    if error == "exit":
        os._exit(1)
    if error:
        await request.fail(error)
        return
    await chat_frame(plugin, request)


@model("test/spare")
async def chat_spare(plugin: Plugin, request: Request) -> None:
    await chat_frame(plugin, request)


@capability("test.tell")
async def tell(plugin: Plugin, request: Request) -> None:
    """Says how `test/told` fails from now on, if `error` is there; answers how often it was asked."""
    if "error" in request.payload:
        plugin.told["error"] = request.payload["error"]
    await request.answer({"asked": plugin.told["asked"]})
