"""What the scripted models say: the answer to a chat, whole and in parts, with its exact cost.

A token is a word with the space after it (`pieces`), in prompts as in answers. The invariant: the parts put
together are the whole answer, and `usage` is the same in both.
"""

import itertools
import re
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from bkg_sdk import ErrorCode, WireError
from fitting import Clues, compact, fitting, mentioned
from script import Script

Json = dict[str, Any]
numbers = itertools.count(1)


def pieces(text: str) -> list[str]:
    """The tokens of a text; put together they are the text."""
    return re.findall(r"\s*\S+\s*|\s+", text)


def text_of(content: Any) -> str:
    """What a message says, be it a text or parts; other parts stand as `[type]`."""
    if content is None:
        return ""
    if isinstance(content, str):
        return content
    parts = [part if isinstance(part, dict) else {"type": "text", "text": str(part)} for part in content]
    return " ".join(
        part["text"] if part.get("type") == "text" else f"[{part.get('type')}]" for part in parts
    )


def prompt_tokens(messages: list[Json]) -> int:
    """How many tokens a prompt has: those of all texts and tool calls, and one for each message."""
    total = len(messages)
    for message in messages:
        total += len(pieces(text_of(message.get("content"))))
        for call in message.get("tool_calls") or []:
            total += len(pieces(call["function"]["arguments"]))
    return total


@dataclass
class Choice:
    """One answer."""

    text: str | None = None
    calls: list[Json] = field(default_factory=list)
    finish: str = "stop"

    def tokens(self) -> int:
        """How many tokens it has."""
        arguments = (call["function"]["arguments"] for call in self.calls)
        return len(pieces(self.text or "")) + sum(len(pieces(one)) for one in arguments)

    def message(self) -> Json:
        """It as a message."""
        message: Json = {"role": "assistant", "content": self.text, "refusal": None}
        return {**message, "tool_calls": self.calls} if self.calls else message

    def deltas(self) -> Iterator[Json]:
        """It in parts: the role, one for each token, with the tool calls in fragments."""
        yield {"role": "assistant", "content": "" if self.calls == [] else None}
        for piece in pieces(self.text or ""):
            yield {"content": piece}
        for index, call in enumerate(self.calls):
            named = {"name": call["function"]["name"], "arguments": ""}
            first = {"index": index, "id": call["id"], "type": "function", "function": named}
            yield {"tool_calls": [first]}
            for piece in pieces(call["function"]["arguments"]):
                yield {"tool_calls": [{"index": index, "function": {"arguments": piece}}]}


class Answer:
    """The answer to one chat."""

    def __init__(self, body: Json, script: Script) -> None:
        messages = body.get("messages")
        if not isinstance(messages, list) or not messages:
            message = "`messages` must be a list of messages, not empty"
            raise WireError(ErrorCode.INVALID_REQUEST, message, param="messages")
        self.model = body.get("model")
        self.id = f"chatcmpl-{next(numbers)}"
        self.created = int(time.time())
        self.choices = [choice_of(body, messages, script) for _ in range(body.get("n") or 1)]
        self.prompt_tokens = prompt_tokens(messages)
        self.completion_tokens = sum(choice.tokens() for choice in self.choices)
        self.says_usage = script.usage

    def usage(self) -> Json:
        """What it cost."""
        return {
            "prompt_tokens": self.prompt_tokens,
            "completion_tokens": self.completion_tokens,
            "total_tokens": self.prompt_tokens + self.completion_tokens,
            "prompt_tokens_details": {"cached_tokens": 0},
            "completion_tokens_details": {"reasoning_tokens": 0},
        }

    def whole(self) -> Json:
        """It as a `chat.completion`."""
        choices = [
            {"index": index, "message": choice.message(), "finish_reason": choice.finish, "logprobs": None}
            for index, choice in enumerate(self.choices)
        ]
        whole = {**self._head("chat.completion"), "choices": choices}
        return {**whole, "usage": self.usage()} if self.says_usage else whole

    def parts(self) -> Iterator[Json]:
        """It as `chat.completion.chunk`s, those of several choices in turns, the usage at the end."""
        running = [(index, choice.deltas()) for index, choice in enumerate(self.choices)]
        while running:
            for index, deltas in list(running):
                delta = next(deltas, None)
                if delta is None:
                    running.remove((index, deltas))
                    yield self._part(index, {}, self.choices[index].finish)
                else:
                    yield self._part(index, delta, None)
        if self.says_usage:
            yield {**self._head("chat.completion.chunk"), "choices": [], "usage": self.usage()}

    def _part(self, index: int, delta: Json, finish: str | None) -> Json:
        choice = {"index": index, "delta": delta, "finish_reason": finish, "logprobs": None}
        part = {**self._head("chat.completion.chunk"), "choices": [choice]}
        return {**part, "usage": None} if self.says_usage else part

    def _head(self, kind: str) -> Json:
        return {"id": self.id, "object": kind, "created": self.created, "model": self.model}


def choice_of(body: Json, messages: list[Json], script: Script) -> Choice:
    """What is answered: calls of tools where some are offered, JSON where it is asked for, else a text."""
    last = messages[-1]
    asked = [message for message in messages if message.get("role") == "user"]
    text = text_of(asked[-1].get("content")) if asked else ""
    if script.say is None and last.get("role") not in ("tool", "function"):
        calls = calls_of(body, text)
        if calls:
            return Choice(calls=calls, finish="tool_calls")
    if script.say is not None:
        said = script.say
    elif last.get("role") in ("tool", "function"):
        said = f"The tool said: {text_of(last.get('content'))}"
    else:
        said = answer_in_form(body.get("response_format") or {}, text)
    return bounded(said, body)


def calls_of(body: Json, text: str) -> list[Json]:
    """The calls of the tools that the text names, or of the first one where it names none."""
    offered = {tool["function"]["name"]: tool["function"] for tool in body.get("tools") or []}
    chosen = body.get("tool_choice") or "auto"
    if chosen == "none" or not offered:
        return []
    if isinstance(chosen, dict):
        names = [chosen["function"]["name"]]
    else:
        named = [name for name in offered if re.search(rf"\b{re.escape(name)}\b", text)]
        names = named or [next(iter(offered))]
    if body.get("parallel_tool_calls") is False:
        names = names[:1]
    unknown = [name for name in names if name not in offered]
    if unknown:
        message = f"`tool_choice` names `{unknown[0]}`, which is not among the tools"
        raise WireError(ErrorCode.INVALID_REQUEST, message, param="tool_choice")
    clues = Clues(text)
    return [
        {
            "id": f"call_{next(numbers)}",
            "type": "function",
            "function": {
                "name": name,
                "arguments": compact(fitting(offered[name].get("parameters") or {"type": "object"}, clues)),
            },
        }
        for name in names
    ]


def answer_in_form(form: Json, text: str) -> str:
    """The answer as `response_format` wants it."""
    if form.get("type") == "json_schema":
        return compact(fitting(form["json_schema"]["schema"], Clues(text)))
    if form.get("type") == "json_object":
        return compact(mentioned(text))
    return f"You said: {text}"


def bounded(said: str, body: Json) -> Choice:
    """The text up to the first stop sequence, and no longer than the request allows."""
    stops = body.get("stop") or []
    for stop in [stops] if isinstance(stops, str) else stops:
        said = said.split(stop, 1)[0]
    most = body.get("max_completion_tokens") or body.get("max_tokens")
    found = pieces(said)
    if most is not None and len(found) > most:
        return Choice(text="".join(found[:most]), finish="length")
    return Choice(text=said)
