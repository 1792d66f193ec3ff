"""What scripted upstreams answer: one function for each quirk of a real one, named as its model.

Shapes are those that Ollama, vLLM, llama.cpp and hosted upstreams are known for; the bytes are ours.
Nothing here knows what the daemon should make of them: that is the tests' part. Whoever imports this
file has every `Upstream` know its models.
"""

import asyncio
import functools
import gzip
import json
import zlib

from upstream import WORDS, Exchange, Gone, plays

TEXT = "".join(WORDS)


@plays("plain")
async def plain(exchange: Exchange) -> None:
    """Everything as it should be."""
    if exchange.wants_stream:
        await exchange.stream()
    else:
        await exchange.json(200, exchange.completion({"content": TEXT}))


@plays("split")
async def split(exchange: Exchange) -> None:
    """Every byte in a write of its own, so that characters, lines and events are cut."""
    await exchange.begin_stream()
    async for chunk in exchange.chunks():
        for byte in f"data: {json.dumps(chunk, ensure_ascii=False)}\n\n".encode():
            await exchange.part(bytes([byte]))
    await exchange.end()


@plays("crlf")
async def crlf(exchange: Exchange) -> None:
    """Lines end as in HTTP."""
    await exchange.stream(ends="\r\n")


@plays("cr")
async def cr(exchange: Exchange) -> None:
    """Lines end as long ago."""
    await exchange.stream(ends="\r")


@plays("comments")
async def comments(exchange: Exchange) -> None:
    """A byte order mark, comments, other fields, no space after the colon, data over several lines."""
    await exchange.begin_stream()
    await exchange.part(b"\xef\xbb\xbf: connected\n\nretry: 10\nid: 1\n\n")
    async for chunk in exchange.chunks():
        lines = json.dumps(chunk, ensure_ascii=False, indent=1).split("\n")
        await exchange.part(b": processing\n\n")
        await exchange.part(
            ("event: message\n" + "".join(f"data:{line}\n" for line in lines) + "\n").encode()
        )
    await exchange.end()


@plays("no-done")
async def no_done(exchange: Exchange) -> None:
    """The stream ends in order, but without `[DONE]`."""
    await exchange.stream(done=False)


@plays("no-done-no-blank")
async def no_done_no_blank(exchange: Exchange) -> None:
    """The last event is not even ended by an empty line."""
    await exchange.begin_stream()
    await exchange.event(exchange.chunk({"role": "assistant", "content": TEXT}))
    await exchange.part(b"data: " + json.dumps(exchange.chunk({}, "stop")).encode())
    await exchange.end(done=False)


@plays("cut")
async def cut(exchange: Exchange) -> None:
    """The socket closes in the middle of a stream."""
    await exchange.begin_stream()
    await exchange.event(exchange.chunk({"role": "assistant", "content": WORDS[0]}))
    await exchange.hang_up()


@plays("cut-in-order")
async def cut_in_order(exchange: Exchange) -> None:
    """The body ends as HTTP wants it, but nothing has said that the answer is finished."""
    await exchange.begin_stream()
    await exchange.event(exchange.chunk({"role": "assistant", "content": WORDS[0]}))
    await exchange.end(done=False)


@plays("cut-until-close")
async def cut_until_close(exchange: Exchange) -> None:
    """No length and no chunks: the end of the socket is the end of the body, whole or not."""
    await exchange.head(200, ("Content-Type", "text/event-stream"), ("Connection", "close"))
    await exchange.raw(f"data: {json.dumps(exchange.chunk({'content': WORDS[0]}))}\n\n".encode())
    await exchange.hang_up()


@plays("error-in-stream")
async def error_in_stream(exchange: Exchange) -> None:
    """An error object between chunks, and `[DONE]` all the same, as vLLM has it."""
    await exchange.begin_stream()
    await exchange.event(exchange.chunk({"role": "assistant", "content": WORDS[0]}))
    await exchange.event(
        {"error": {"message": "the engine died", "type": "InternalServerError", "code": 500}}
    )
    await exchange.end()


@plays("error-text-in-stream")
async def error_text_in_stream(exchange: Exchange) -> None:
    """An error as text, as Ollama has it."""
    await exchange.begin_stream()
    await exchange.event(exchange.chunk({"role": "assistant", "content": WORDS[0]}))
    await exchange.event({"error": "an error was encountered while running the model"})
    await exchange.end(done=False)


@plays("error-event-in-stream")
async def error_event_in_stream(exchange: Exchange) -> None:
    """An error as an event with a name, as llama.cpp has had it."""
    await exchange.begin_stream()
    await exchange.event(exchange.chunk({"role": "assistant", "content": WORDS[0]}))
    await exchange.part(b'error: {"code":500,"message":"the slot is gone","type":"server_error"}\n\n')
    await exchange.end(done=False)


@plays("error-first")
async def error_first(exchange: Exchange) -> None:
    """Status 200, and the first event is an error."""
    await exchange.begin_stream()
    await exchange.event({"error": {"message": "too many tokens at once", "code": 429}})
    await exchange.end(done=False)


@plays("no-json")
async def no_json(exchange: Exchange) -> None:
    """An event that is no JSON."""
    await exchange.begin_stream()
    await exchange.event(exchange.chunk({"role": "assistant", "content": WORDS[0]}))
    await exchange.event("{half")
    await exchange.end()


ARGUMENTS = ('{"ci', 'ty": "Z', 'ürich"}')


@plays("tools")
async def tools(exchange: Exchange) -> None:
    """A function call in fragments, as OpenAI has it."""
    if not exchange.wants_stream:
        function = {"name": "weather", "arguments": "".join(ARGUMENTS)}
        calls = [{"id": "call_1", "type": "function", "function": function}]
        await exchange.json(200, exchange.completion({"content": None, "tool_calls": calls}, "tool_calls"))
        return
    await exchange.begin_stream()
    first = {
        "index": 0,
        "id": "call_1",
        "type": "function",
        "function": {"name": "weather", "arguments": ""},
    }
    await exchange.event(exchange.chunk({"role": "assistant", "content": None, "tool_calls": [first]}))
    for text in ARGUMENTS:
        await exchange.event(
            exchange.chunk({"tool_calls": [{"index": 0, "function": {"arguments": text}}]})
        )
    await exchange.event(exchange.chunk({}, "tool_calls"))
    await exchange.end()


@plays("tools-repeat")
async def tools_repeat(exchange: Exchange) -> None:
    """Every fragment repeats id, type and name, and every delta the role."""
    await exchange.begin_stream()
    for text in ARGUMENTS:
        call = {
            "index": 0,
            "id": "call_1",
            "type": "function",
            "function": {"name": "weather", "arguments": text},
        }
        await exchange.event(exchange.chunk({"role": "assistant", "tool_calls": [call]}))
    await exchange.event(exchange.chunk({"role": "assistant"}, "tool_calls"))
    await exchange.end()


@plays("tools-without-index")
async def tools_without_index(exchange: Exchange) -> None:
    """Two whole calls in one delta, without numbers, and the wrong reason, as Ollama has had it."""
    await exchange.begin_stream()
    calls = [
        {
            "id": f"call_{city}",
            "type": "function",
            "function": {"name": "weather", "arguments": json.dumps({"city": city})},
        }
        for city in ("Bern", "Basel")
    ]
    await exchange.event(exchange.chunk({"role": "assistant", "content": "", "tool_calls": calls}))
    await exchange.event(exchange.chunk({"role": "assistant", "content": ""}, "stop"))
    await exchange.end()


@plays("ollama")
async def ollama(exchange: Exchange) -> None:
    """As Ollama streams: the role in every delta, a fingerprint, the end in a delta with content."""
    await exchange.begin_stream()
    for word in WORDS:
        await exchange.event(
            exchange.chunk({"role": "assistant", "content": word}, system_fingerprint="fp_ollama")
        )
    await exchange.event(
        exchange.chunk({"role": "assistant", "content": ""}, "stop", system_fingerprint="fp_ollama")
    )
    if exchange.wants_usage:
        await exchange.event(exchange.chunk(None, usage=exchange.usage(5), system_fingerprint="fp_ollama"))
    await exchange.end()


@plays("vllm")
async def vllm(exchange: Exchange) -> None:
    """As vLLM streams: fields of its own, and a usage in every chunk."""
    await exchange.begin_stream()
    role = {"role": "assistant", "content": "", "reasoning_content": None}
    await exchange.event(exchange.chunk(role, prompt_token_ids=None))
    await exchange.event(exchange.chunk({"reasoning_content": "Let me think."}))
    for count, word in enumerate(WORDS, 1):
        usage = {"prompt_tokens": 7, "completion_tokens": count, "total_tokens": 7 + count}
        await exchange.event(exchange.chunk({"content": word}, usage=usage))
    end = exchange.chunk({"content": ""}, "stop")
    end["choices"][0]["stop_reason"] = None
    await exchange.event(end)
    if exchange.wants_usage:
        await exchange.event(exchange.chunk(None, usage=exchange.usage(5)))
    await exchange.end()


@plays("llamacpp")
async def llamacpp(exchange: Exchange) -> None:
    """As llama.cpp streams: the usage and its timings in the chunk that ends the answer."""
    await exchange.begin_stream()
    await exchange.event(exchange.chunk({"role": "assistant", "content": None}))
    for word in WORDS:
        await exchange.event(exchange.chunk({"content": word}))
    timings = {"predicted_per_second": 12.5}
    await exchange.event(exchange.chunk({}, "stop", usage=exchange.usage(5), timings=timings))
    await exchange.end()


@plays("bare")
async def bare(exchange: Exchange) -> None:
    """Chunks that lack all that can be lacking: ids, times, indexes, reasons."""
    await exchange.begin_stream()
    for word in WORDS:
        await exchange.event({"choices": [{"delta": {"content": word}}]})
    await exchange.event({"choices": [{"delta": {}, "finish_reason": "stop"}]})
    await exchange.end()


@plays("unfinished")
async def unfinished(exchange: Exchange) -> None:
    """`[DONE]`, but no reason for the end."""
    await exchange.begin_stream()
    for word in WORDS:
        await exchange.event(exchange.chunk({"content": word}))
    await exchange.end()


@plays("no-usage")
async def no_usage(exchange: Exchange) -> None:
    """No usage, whoever asks."""
    await exchange.begin_stream()
    await exchange.event(exchange.chunk({"role": "assistant", "content": TEXT}))
    await exchange.event(exchange.chunk({}, "stop"))
    await exchange.end()


@plays("no-stream-options")
async def no_stream_options(exchange: Exchange) -> None:
    """Refuses to be asked for the usage."""
    if "stream_options" in exchange.seen.json:
        message = "Unrecognized request argument supplied: stream_options"
        error = {
            "message": message,
            "type": "invalid_request_error",
            "param": "stream_options",
            "code": None,
        }
        await exchange.json(400, {"error": error})
        return
    await exchange.stream()


@plays("whole-only")
async def whole_only(exchange: Exchange) -> None:
    """Answers whole, also where a stream was asked for."""
    await exchange.json(200, exchange.completion({"content": TEXT}))


@plays("waits")
async def waits(exchange: Exchange) -> None:
    """Says nothing until the test lets it go on or the client leaves."""
    await gone_or_go_on(exchange)
    await plain(exchange)


@plays("waits-in-stream")
async def waits_in_stream(exchange: Exchange) -> None:
    """Begins a stream, and says nothing more until the test lets it go on or the client leaves."""
    await exchange.begin_stream()
    await exchange.event(exchange.chunk({"role": "assistant", "content": WORDS[0]}))
    await gone_or_go_on(exchange)
    await exchange.event(exchange.chunk({}, "stop"))
    await exchange.end()


@plays("waits-after-head")
async def waits_after_head(exchange: Exchange) -> None:
    """Sends the head of a stream at once, and its first byte when the test lets it go on."""
    await exchange.begin_stream()
    await gone_or_go_on(exchange)
    await exchange.event(exchange.chunk({"role": "assistant", "content": TEXT}))
    await exchange.event(exchange.chunk({}, "stop"))
    await exchange.end()


@plays("endless")
async def endless(exchange: Exchange) -> None:
    """A stream that goes on until the client leaves, a word every few milliseconds."""
    await exchange.begin_stream()
    await exchange.event(exchange.chunk({"role": "assistant", "content": ""}))
    while True:
        await exchange.event(exchange.chunk({"content": "word "}))
        await asyncio.sleep(0.005)


async def gone_or_go_on(exchange: Exchange) -> None:
    """Waits for the test; raises where the client leaves before."""
    while not exchange.upstream.go_on.is_set():
        if exchange.socket.gone.is_set():
            raise Gone
        # The test sets the event in another thread.
        await asyncio.sleep(0.005)


LARGE = 10_000_000


@plays("large")
async def large(exchange: Exchange) -> None:
    """Ten million characters."""
    piece = "0123456789" * 1000
    if not exchange.wants_stream:
        await exchange.json(200, exchange.completion({"content": piece * (LARGE // len(piece))}))
        return
    await exchange.begin_stream()
    for _ in range(LARGE // len(piece)):
        await exchange.event(exchange.chunk({"content": piece}))
    await exchange.event(exchange.chunk({}, "stop"))
    await exchange.end()


@plays("large-event")
async def large_event(exchange: Exchange) -> None:
    """A million characters in one event."""
    await exchange.begin_stream()
    await exchange.event(exchange.chunk({"role": "assistant", "content": "0123456789" * 100_000}))
    await exchange.event(exchange.chunk({}, "stop"))
    await exchange.end()


@plays("too-large")
async def too_large(exchange: Exchange) -> None:
    """A whole answer of thirty million characters, and an event of as many."""
    if not exchange.wants_stream:
        await exchange.json(200, exchange.completion({"content": "0123456789" * 3_000_000}))
        return
    await exchange.begin_stream()
    await exchange.event(exchange.chunk({"content": "0123456789" * 3_000_000}))
    await exchange.end()


@plays("gzip")
async def gzipped(exchange: Exchange) -> None:
    """Compressed, although nobody asked for it."""
    if not exchange.wants_stream:
        body = json.dumps(exchange.completion({"content": TEXT})).encode()
        await exchange.whole(200, gzip.compress(body), ("Content-Encoding", "gzip"))
        return
    text = b""
    async for chunk in exchange.chunks():
        text += f"data: {json.dumps(chunk, ensure_ascii=False)}\n\n".encode()
    packed = gzip.compress(text + b"data: [DONE]\n\n")
    await exchange.begin_stream(("Content-Encoding", "gzip"))
    for start in range(0, len(packed), 7):
        await exchange.part(packed[start : start + 7])
    await exchange.end(done=False)


@functools.cache
def packed_zeros() -> bytes:
    """A gigabyte of zeros behind the beginning of an event, packed."""
    packer = zlib.compressobj(1, zlib.DEFLATED, 31)
    packed = packer.compress(b"data: ") + b"".join(packer.compress(bytes(1 << 20)) for _ in range(1 << 10))
    return packed + packer.flush()


@plays("bomb")
async def bomb(exchange: Exchange) -> None:
    """A gigabyte of zeros in a megabyte; one event, where a stream was asked for."""
    kind = "text/event-stream" if exchange.wants_stream else "application/json"
    await exchange.whole(200, packed_zeros(), ("Content-Encoding", "gzip"), kind=kind)


@plays("brotli")
async def brotli(exchange: Exchange) -> None:
    """A coding that nobody asked for and nobody here reads."""
    await exchange.whole(200, b"\x00\x01", ("Content-Encoding", "br"))


@plays("duplicate-headers")
async def duplicate_headers(exchange: Exchange) -> None:
    """Headers that come twice, some of them with two values."""
    twice = (("Server", "one"), ("Server", "two"), ("Content-Type", "text/event-stream; charset=utf-8"))
    if exchange.wants_stream:
        await exchange.stream(*twice, ("Set-Cookie", "a=1"), ("Set-Cookie", "b=2"))
        return
    body = json.dumps(exchange.completion({"content": TEXT})).encode()
    await exchange.whole(
        200, body, ("Content-Length", str(len(body))), ("Server", "one"), ("Server", "two")
    )


@plays("redirect")
async def redirect(exchange: Exchange) -> None:
    """Sends the client elsewhere."""
    await exchange.whole(307, b"", ("Location", f"{exchange.upstream.origin}/elsewhere"))


@plays("html")
async def html(exchange: Exchange) -> None:
    """A page, with status 200, as a login wall in front of an upstream answers."""
    await exchange.whole(200, b"<!doctype html><title>Log in</title>", kind="text/html")


@plays("reset")
async def reset(exchange: Exchange) -> None:
    """Resets the socket instead of answering."""
    await exchange.hang_up(reset=True)


@plays("embed")
async def embed(exchange: Exchange) -> None:
    """Vectors of three numbers, as plain numbers."""
    await exchange.json(200, exchange.embeddings([0.5, -1.25, 3.0]))


@plays("embed-base64")
async def embed_base64(exchange: Exchange) -> None:
    """The same vectors packed, although plain numbers were asked for."""
    await exchange.json(200, exchange.embeddings("AAAAPwAAoL8AAEBA"))
