"""Models whose every answer is known in advance: what the tests with real clients talk to.

Not a stand-in for a model that thinks: it repeats, calls the tools that it is offered, fits JSON to a
schema, fails on request, and counts exactly. What it served stands in its ledger. `README.md` says what
can be asked of it.
"""

import asyncio
import hashlib
import json
import math
import os
from collections import Counter
from pathlib import Path
from typing import Any

from bkg_sdk import ChunkSink, Plugin, Request
from chat import Answer, pieces
from ledger import Ledger, now_ms
from script import SCRIPTS, Script, script_of

DIMENSIONS = 8

entry = json.loads(Path(os.environ["BKG_PLUGIN_CONFIG_PATH"]).read_text())
settings: dict[str, Any] = entry.get("settings") or {}
prefix: str = settings.get("prefix", "scripted-")
most = settings.get("maxConcurrency") or None
ledger = Ledger(Path(os.environ["BKG_PLUGIN_DATA_DIR"]))
failures: Counter[str] = Counter()
plugin = Plugin(version="1.0.0")
for kind in SCRIPTS:
    plugin.model(f"{prefix}{kind}", "llm.chat", owned_by="tests", context_length=8192)
plugin.model(f"{prefix}embed", "llm.embed", owned_by="tests", dimensions=DIMENSIONS)


class Work:
    """One request: it is noted in the ledger however it ends."""

    def __init__(self, request: Request) -> None:
        self.body: dict[str, Any] = request.payload if isinstance(request.payload, dict) else {}
        self.request = request
        self.began_ms = now_ms()
        self.script = script_of(self.body, prefix)
        self.is_noted = False

    def note(self, outcome: str, *, prompt: int = 0, completion: int = 0) -> None:
        """Writes the line of this request, once: who leaves after that was served all the same."""
        if self.is_noted:
            return
        self.is_noted = True
        caller = self.request.caller
        ledger.note(
            request=self.request.correlation_id,
            name=self.script.name,
            capability=self.request.capability,
            model=self.body.get("model"),
            stream=self.request.wants_stream,
            user=caller.user if caller else None,
            keyId=caller.key_id if caller else None,
            traceparent=self.request.traceparent,
            promptTokens=prompt,
            completionTokens=completion,
            outcome=outcome,
            beganMs=self.began_ms,
        )

    def fails_now(self) -> bool:
        """Whether this one is among those that are to fail."""
        if self.script.fail is None:
            return False
        failures[self.script.name] += 1
        return self.script.times is None or failures[self.script.name] <= self.script.times

    async def wait(self, parts: int = 1) -> None:
        """The wait before so many parts."""
        delay = settings.get("delayMs", 0) if self.script.delay_ms is None else self.script.delay_ms
        if delay * parts > 0:
            await asyncio.sleep(delay * parts / 1000)

    async def begin(self) -> Answer:
        """Everything that comes before the first part. Raises what the script says."""
        await asyncio.sleep(self.script.first_delay_ms / 1000)
        if self.script.stall:
            await asyncio.Event().wait()
        if self.script.break_after is None or not self.request.wants_stream:
            self.fail_if_told()
        return Answer(self.body, self.script)

    def fail_if_told(self) -> None:
        """Fails, where the script says so and has not said so often enough already."""
        if self.script.fail is not None and self.fails_now():
            self.note("failed")
            raise self.script.fail.as_error()


@plugin.answer("llm.chat", max_concurrency=most)
async def chat(request: Request) -> dict[str, Any]:
    """A chat, answered whole."""
    work = Work(request)
    try:
        answer = await work.begin()
        await work.wait(answer.completion_tokens)
    except asyncio.CancelledError:
        work.note("cancelled")
        raise
    work.note("ok", prompt=answer.prompt_tokens, completion=answer.completion_tokens)
    return answer.whole()


@plugin.stream("llm.chat", max_concurrency=most)
async def stream_chat(request: Request, chunks: ChunkSink) -> None:
    """A chat, answered in parts."""
    work = Work(request)
    try:
        answer = await work.begin()
        for number, part in enumerate(answer.parts()):
            if number == work.script.break_after:
                work.fail_if_told()
            await work.wait()
            if not part["choices"]:
                work.note("ok", prompt=answer.prompt_tokens, completion=answer.completion_tokens)
            await chunks.send(part)
        if not answer.says_usage:
            work.note("ok", prompt=answer.prompt_tokens, completion=answer.completion_tokens)
    except asyncio.CancelledError:
        work.note("cancelled")
        raise


@plugin.answer("llm.embed", idempotent=True, max_concurrency=most)
async def embed(request: Request) -> dict[str, Any]:
    """Vectors that are the same for the same input, of unit length."""
    work = Work(request)
    given = work.body["input"]
    inputs = [given] if isinstance(given, str) or (given and isinstance(given[0], int)) else given
    try:
        await asyncio.sleep(work.script.first_delay_ms / 1000)
        work.fail_if_told()
        await work.wait()
    except asyncio.CancelledError:
        work.note("cancelled")
        raise
    tokens = sum(len(pieces(one)) if isinstance(one, str) else len(one) for one in inputs)
    dimensions = work.body.get("dimensions") or DIMENSIONS
    data = [{"index": index, "embedding": vector(one, dimensions)} for index, one in enumerate(inputs)]
    work.note("ok", prompt=tokens)
    usage = {"prompt_tokens": tokens, "total_tokens": tokens}
    return {"data": data, "model": work.body.get("model"), "usage": usage}


def vector(given: str | list[int], dimensions: int) -> list[float]:
    """The vector of one input."""
    seed = json.dumps(given).encode()
    values = [hashlib.sha256(b"%d " % number + seed).digest()[0] - 127.5 for number in range(dimensions)]
    length = math.sqrt(sum(value * value for value in values))
    return [value / length for value in values]


if __name__ == "__main__":
    # `Script` is what the table of models holds; a typing mistake there shows at the start.
    assert all(isinstance(script, Script) for script in SCRIPTS.values())
    plugin.run()
