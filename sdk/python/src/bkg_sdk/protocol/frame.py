"""Between messages and the text of a frame.

A payload crosses unread, as the text that it is. A frame is read strictly first; one that does not pass
is read again as the protocol allows: absent members may be `null`, words for people may be of any shape.
Nothing here knows whether a message is allowed; that is the halves' affair.
"""

from __future__ import annotations

import contextlib
import json
import re
from datetime import UTC, datetime
from typing import Any, Generic, TypeVar

import msgspec

from . import message as m

M = TypeVar("M", bound=m.Message)


class FrameError(Exception):
    """Why a frame's text is no message; `kind` and `request_id` are what it says of itself."""

    def __init__(self, problem: str, kind: str | None = None, request_id: str | None = None) -> None:
        super().__init__(
            f"the frame is not a JSON object with a `type`: {problem}"
            if kind is None
            else f"the `{kind}` frame cannot be read: {problem}"
        )
        self.kind = kind
        self.request_id = request_id


_HALF_OF_A_PAIR = re.compile(rb"\\u[dD][89a-fA-F]")
_TOKEN = re.compile(rb'"(?:[^"\\]|\\.)*"|[][{}:,]', re.DOTALL)


def _beyond_the_reader(frame: bytes, problem: str) -> FrameError:
    """What a frame says of itself that is JSON, and that the reader does not take.

    Any client can send such a payload, and the host hands it on. If it were only dropped, its caller would
    wait, and the plugin would owe the answer for ever.
    """
    said: dict[bytes, str | None] = {b'"type"': None, b'"requestId"': None}
    depth, before, name = 0, b"", b""
    for found in _TOKEN.finditer(frame):
        token = found.group()
        if token in (b"{", b"["):
            depth += 1
        elif token in (b"}", b"]"):
            depth -= 1
        elif depth == 1 and token == b":":
            name = before
        elif depth == 1 and name in said and before == b":" and token[:1] == b'"':
            with contextlib.suppress(msgspec.DecodeError):
                said[name] = msgspec.json.decode(token, type=m.RequestId)
            if None not in said.values():
                break
        before = token
    return FrameError(problem, *said.values())


class UnknownType(msgspec.Struct, frozen=True):
    """A `type` that this version does not know: ignored, since that is how the protocol grows."""

    kind: str


class Direction(Generic[M]):
    """The messages of one direction, to be read."""

    def __init__(self, *messages: type[M]) -> None:
        self._known: dict[str, type[M]] = {str(each.__struct_config__.tag): each for each in messages}
        # Telemetry has members of any name, which no structure takes.
        self._strict: msgspec.json.Decoder[M] = msgspec.json.Decoder(
            _union([each for each in messages if not issubclass(each, m.Telemetry)])
        )

    def decode(self, frame: bytes) -> M | UnknownType:
        """Reads a frame. Raises `FrameError` where it is no envelope or its members do not fit."""
        try:
            return self._strict.decode(frame)
        except msgspec.DecodeError as problem:
            return self._decode_leniently(frame, str(problem))
        except RecursionError:
            raise _beyond_the_reader(frame, "it is nested too deeply") from None
        except UnicodeDecodeError as problem:
            raise FrameError(str(problem)) from None

    def _decode_leniently(self, frame: bytes, problem: str) -> M | UnknownType:
        try:
            members = msgspec.json.decode(frame, type=dict[str, msgspec.Raw])
            kind = msgspec.json.decode(members["type"], type=str)
        except (msgspec.DecodeError, UnicodeDecodeError):
            if _HALF_OF_A_PAIR.search(frame):
                return self._decode_half_characters(frame)
            raise FrameError(problem) from None
        except RecursionError:
            raise _beyond_the_reader(frame, "it is nested too deeply") from None
        except KeyError:
            raise FrameError("`type` is missing") from None
        known = self._known.get(kind)
        if known is None:
            return UnknownType(kind)
        try:
            return _read_leniently(known, members)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as problem_again:
            raise FrameError(str(problem_again), kind, _request_id(members)) from None

    def _decode_half_characters(self, frame: bytes) -> M | UnknownType:
        """Reads a frame in which somebody wrote half of a surrogate pair, such as `\\ud800`.

        JSON allows that, and whoever passes a payload on has not looked. `msgspec` does not read it: what
        crosses unread is set aside, and put back as it came.
        """
        try:
            members = _split(frame.decode())
            aside = {name: msgspec.Raw(members[name].encode()) for name in _UNREAD if name in members}
            rest = {**members, **dict.fromkeys(aside, "null")}
            text = ",".join(f"{json.dumps(name)}:{member}" for name, member in rest.items())
            without = f"{{{text}}}".encode()
            msgspec.json.decode(without)
        except (ValueError, msgspec.DecodeError, RecursionError):
            raise _beyond_the_reader(frame, "it holds half of a surrogate pair") from None
        message = self.decode(without)
        if isinstance(message, UnknownType):
            return message
        kept = {name: raw for name, raw in aside.items() if hasattr(message, name)}
        return msgspec.structs.replace(message, **kept)


_UNREAD = ("payload", "data", "config")
"""Members that cross as the text that they are."""
_SPACE = re.compile(r"[ \t\n\r]*")
# Only where a value ends is of interest; a number of any length is one.
_DECODER = json.JSONDecoder(parse_int=len, parse_float=len)


def _split(text: str) -> dict[str, str]:
    """The members of an object as the texts that they are. Raises `ValueError` where it is none."""
    members: dict[str, str] = {}
    at = _after(text, 0, "{")
    if text.startswith("}", at):
        at = _after(text, at, "}")
    else:
        while True:
            name, at = _DECODER.raw_decode(text, at)
            if not isinstance(name, str):
                raise ValueError("a member has no name")
            at = _after(text, at, ":")
            _, end = _DECODER.raw_decode(text, at)
            members[name] = text[at:end]
            at = _SPACE.match(text, end).end()  # type: ignore[union-attr]
            if text.startswith("}", at):
                at = _after(text, at, "}")
                break
            at = _after(text, at, ",")
    if at != len(text):
        raise ValueError("something follows the object")
    return members


def _after(text: str, at: int, mark: str) -> int:
    """Where the next thing begins that is no space, after this mark."""
    at = _SPACE.match(text, at).end()  # type: ignore[union-attr]
    if not text.startswith(mark, at):
        raise ValueError(f"`{mark}` is missing")
    return _SPACE.match(text, at + len(mark)).end()  # type: ignore[union-attr]


def _union(types: list[Any]) -> Any:
    union = types[0]
    for each in types[1:]:
        union = union | each
    return union


# Members whose `null` means something to whoever reads them.
_OPAQUE = frozenset(
    [
        *("payload", "data", "config", "configSchema", "inputSchema", "outputSchema", "parameters"),
        *("meta", "fields", "details", "error"),
    ]
)
_DEFAULTS: dict[type[m.Message], dict[str, bytes]] = {
    m.Register: {"port": b'"internal"', "capabilities": b"[]"},
    m.Request: {"payload": b"null"},
    m.Chunk: {"data": b"null"},
    m.Publish: {"data": b"null"},
    m.Event: {"data": b"null"},
    m.Cancel: {"reason": b'"other"'},
    m.Registered: {"config": b"null", "configRevision": b"0"},
    m.Log: {"level": b'"info"', "message": b'""'},
}
_LEVELS = {"warning": "warn", "critical": "error", "fatal": "error"}


def _read_leniently(known: type[M], members: dict[str, msgspec.Raw]) -> M:
    said = {name: raw for name, raw in members.items() if name in _OPAQUE or bytes(raw) != b"null"}
    for name, default in _DEFAULTS.get(known, {}).items():
        said.setdefault(name, msgspec.Raw(default))
    if issubclass(known, m.Telemetry):
        told = {name: msgspec.json.decode(raw) for name, raw in said.items() if name != "type"}
        known_members = {name: told.pop(name, None) for name in ("plugin", "cpu", "mem_bytes")}
        fields = {"type": "telemetry", **known_members, "further": told}
        fields["memBytes"] = fields.pop("mem_bytes")
        return msgspec.convert(fields, known)
    if issubclass(known, m.Health):
        _as_text(said, "detail")
    elif issubclass(known, m.Log):
        _as_text(said, "message")
        _level_and_time(said)
    elif issubclass(known, m.Cancel) and msgspec.json.decode(said["reason"]) not in list(m.CancelReason):
        said["reason"] = msgspec.Raw(b'"other"')
    elif "capabilities" in said:
        named = msgspec.json.decode(said["capabilities"])
        if isinstance(named, list):
            # A bare name is a capability of which nothing else is said.
            described = [{"id": each} if isinstance(each, str) else each for each in named]
            said["capabilities"] = msgspec.Raw(msgspec.json.encode(described))
    for name in ("fields", "error", "configSchema", "meta"):
        if name in said and bytes(said[name]) == b"null":
            del said[name]
    plain = {
        name: raw if name in _OPAQUE else msgspec.Raw(msgspec.json.encode(_without_nulls(raw)))
        for name, raw in said.items()
    }
    return msgspec.json.decode(msgspec.json.encode(plain), type=known)


def _without_nulls(raw: msgspec.Raw) -> Any:
    def strip(value: Any) -> Any:
        if isinstance(value, dict):
            return {
                name: member if name in _OPAQUE else strip(member)
                for name, member in value.items()
                if member is not None
            }
        if isinstance(value, list):
            return [strip(item) for item in value]
        return value

    return strip(msgspec.json.decode(raw))


def _as_text(said: dict[str, msgspec.Raw], name: str) -> None:
    """Logs and details are for people: a value of any shape has a text."""
    if name in said and not isinstance(found := msgspec.json.decode(said[name]), str):
        said[name] = msgspec.Raw(msgspec.json.encode(msgspec.json.encode(found).decode()))


def _level_and_time(said: dict[str, msgspec.Raw]) -> None:
    level = msgspec.json.decode(said["level"])
    word = level.lower() if isinstance(level, str) else ""
    word = _LEVELS.get(word, word)
    said["level"] = msgspec.Raw(msgspec.json.encode(word if word in set(m.LogLevel) else "info"))
    if "timestamp" in said:
        text = msgspec.json.decode(said.pop("timestamp"))
        try:
            at = datetime.fromisoformat(text)
        except (TypeError, ValueError):
            return
        at = at if at.tzinfo else at.replace(tzinfo=UTC)
        said["timestamp"] = msgspec.Raw(msgspec.json.encode(m.timestamp_text(at)))


def _request_id(members: dict[str, msgspec.Raw]) -> str | None:
    """A frame that could not be read may still name its request: whoever waits hears of it then."""
    try:
        return msgspec.json.decode(members["requestId"], type=m.RequestId)
    except (KeyError, msgspec.DecodeError):
        return None


PLUGIN_MESSAGES: Direction[m.Message] = Direction(
    m.Register,
    m.Health,
    m.Telemetry,
    m.Log,
    m.Response,
    m.Chunk,
    m.Request,
    m.Cancel,
    m.Credit,
    m.Update,
    m.Subscribe,
    m.Unsubscribe,
    m.Publish,
    m.ConfigApplied,
    m.AuthChanged,
)
"""What a plugin says to the host."""

HOST_MESSAGES: Direction[m.Message] = Direction(
    m.Registered,
    m.Rejected,
    m.Updated,
    m.Request,
    m.Response,
    m.Chunk,
    m.Cancel,
    m.Credit,
    m.Event,
    m.Config,
    m.Drain,
)
"""What the host says to a plugin."""

_encoder = msgspec.json.Encoder()


def encode(message: m.Message) -> bytes:
    """The frame's text."""
    if isinstance(message, m.Telemetry):
        told: dict[str, Any] = {"type": "telemetry", **message.further}
        told |= {"plugin": message.plugin, "cpu": message.cpu, "mem_bytes": message.mem_bytes}
        return _encoder.encode({name: value for name, value in told.items() if value is not None})
    return _encoder.encode(message)
