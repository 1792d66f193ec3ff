"""Replays the golden conversations against each half, once as the plugin and once as the test host.

The format is described in `crates/bkg-protocol/golden/README.md`. A replay is exact: every frame that the
half under test writes and every event that it reports must be in the conversation, in that order, and
nothing may be left at its end.
"""

from __future__ import annotations

import json
from collections import deque
from pathlib import Path
from typing import Any, Protocol

import msgspec
import pytest

from bkg_sdk.protocol import message as m
from bkg_sdk.protocol.error import WireError, error_to_raw
from bkg_sdk.protocol.exchange import (
    Answered,
    Broken,
    ChunkCame,
    Dropped,
    FrameTooLarge,
    GivenUp,
    Lost,
    MayStream,
    NotOpen,
    Outcome,
    Refusal,
    Released,
    RequestCancelled,
    Retracted,
)
from bkg_sdk.protocol.frame import HOST_MESSAGES, PLUGIN_MESSAGES, Direction, UnknownType, encode
from bkg_sdk.protocol.host import Close, HostSession
from bkg_sdk.protocol.inbound import ChunkRefused
from bkg_sdk.protocol.limits import Limits
from bkg_sdk.protocol.plugin import PluginSession, UpdateDecided

FOLDER = Path(__file__).parents[3] / "crates/bkg-protocol/golden/conversations"
HOST_SEED = 0xA0A0_A0A0_A0A0_0A0A
"""The host's request ids in the files are `a0a0a0a0-a0a0-8a0a-8000-00000000000…`."""
PLUGIN_SEED = 0xB0B0_B0B0_B0B0_0B0B
"""The plugin's request ids in the files are `b0b0b0b0-b0b0-8b0b-8000-00000000000…`."""

Said = dict[str, Any]
"""One member: what was seen, and what of it."""


class Half(Protocol):
    """One half of a session, driven by the lines of a conversation."""

    def act(self, action: str, arguments: Any, now: float) -> list[Said]:
        """Does what its application asks; answers what the application sees of it at once."""
        ...

    def receive(self, frame: bytes, now: float) -> list[Said]:
        """Takes in a frame; answers what the application sees."""
        ...

    def next_frame(self) -> bytes | None:
        """The next frame to write."""
        ...


def told_by(half: str) -> list[str]:
    """The conversations that tell this half's side."""
    return [
        path.stem
        for path in sorted(FOLDER.glob("*.jsonl"))
        if half in json.loads(path.read_text().splitlines()[0])["halves"]
    ]


def test_no_conversation_is_lost() -> None:
    assert (len(list(FOLDER.iterdir())), len(told_by("plugin")), len(told_by("host"))) == (30, 19, 28)


@pytest.mark.parametrize("name", told_by("plugin"))
def test_the_plugin_half_keeps_a_conversation(name: str) -> None:
    replay(name, PluginHalf(), own="plugin", other="host")


@pytest.mark.parametrize("name", told_by("host"))
def test_the_host_half_keeps_a_conversation(name: str) -> None:
    replay(name, HostHalf(), own="host", other="plugin")


def replay(name: str, half: Half, *, own: str, other: str) -> None:
    """Goes through a conversation line by line."""
    now = 0.0
    seen: deque[Said] = deque()
    lines = (FOLDER / f"{name}.jsonl").read_text().splitlines()
    # What the half is told by its application and by the other side.
    given = "\n".join(line for line in lines if line.startswith((f'{{"{own}Does"', f'{{"{other}"')))
    for number, line in enumerate(lines[1:], start=2):
        place = f"{name}.jsonl:{number}, the {own}'s side"
        [(key, value)] = json.loads(line).items()
        if key == "at":
            now = value / 1000
        elif key == own:
            written = half.next_frame()
            assert written is not None, f"{place}: nothing is written"
            assert same(json.loads(written), value, given), f"{place}: {written!r} is written"
        elif key == f"{own}Sees":
            assert seen, f"{place}: nothing is seen"
            assert same(saw := seen.popleft(), value, given), f"{place}: {saw} is seen"
        elif key == f"{own}Does":
            assert not seen, f"{place}: this was seen and not told"
            [(action, arguments)] = value.items()
            seen.extend(half.act(action, arguments, now))
        elif key == other:
            assert not seen, f"{place}: this was seen and not told"
            # A text instead of an object is the frame itself, for what no JSON object can show.
            frame = value if isinstance(value, str) else json.dumps(value)
            seen.extend(half.receive(frame.encode(), now))
        else:
            assert key in (f"{other}Does", f"{other}Sees"), f"{place}: `{key}` is no kind of line"
    assert not seen, f"{name}, the {own}'s side: this was seen and not told"
    assert half.next_frame() is None, f"{name}, the {own}'s side: this was written and not told"


def same(ours: Any, told: Any, given: str) -> bool:
    """Whether two values are the same. Messages of errors are for people: they count where they were
    given."""
    if isinstance(ours, dict) and isinstance(told, dict) and ours.keys() == told.keys():
        if {"code", "message"} <= told.keys() and json.dumps(
            told["message"], ensure_ascii=False
        ) not in given:
            told = told | {"message": ours["message"]}
        return all(same(ours[name], told[name], given) for name in told)
    return bool(ours == told)


class PluginHalf:
    """The plugin's half, as a conversation drives it."""

    session: PluginSession[str]

    def act(self, action: str, arguments: Any, now: float) -> list[Said]:
        match action:
            case "register":
                register = read({"type": "register", **arguments}, PLUGIN_MESSAGES, m.Register)
                self.session = PluginSession(PLUGIN_SEED, register)
            case "say":
                self.session.say(read(arguments, PLUGIN_MESSAGES, m.Message))
            case "checkDrained":
                return [{"drained": self.session.is_drained}]
            case _:
                return act(self.session, action, arguments, now)
        return []

    def receive(self, frame: bytes, now: float) -> list[Said]:
        match self.session.receive(frame, now):
            case RequestCancelled(request_id, reason):
                return [{"cancelled": {"requestId": request_id, "reason": reason.value}}]
            case m.Drain(deadline_ms=deadline_ms):
                return [{"drain": {"deadlineMs": deadline_ms}}]
            case UpdateDecided(None):
                return [{"updated": {"success": True}}]
            case UpdateDecided(WireError() as refusal):
                return [{"updated": {"success": False, "error": plain(refusal)}}]
            case event:
                return [seen_as(event, frame, HOST_MESSAGES)]

    def next_frame(self) -> bytes | None:
        return self.session.next_frame()


class HostHalf:
    """The host's half, as a conversation drives it."""

    def __init__(self) -> None:
        self.session: HostSession[str] = HostSession(HOST_SEED, Limits())

    def act(self, action: str, arguments: Any, now: float) -> list[Said]:
        session = self.session
        match action:
            case "accept":
                session.accept(
                    instance=arguments["instance"],
                    resume=arguments["resume"],
                    config=raw(arguments["config"]),
                    config_revision=arguments["configRevision"],
                )
            case "reject":
                session.reject(arguments["code"], arguments["message"])
                return [self.closing()]
            case "updated":
                refusal = outcome(arguments)
                session.updated(refusal if isinstance(refusal, WireError) else None)
            case "event":
                session.event(read({"type": "event", **arguments}, HOST_MESSAGES, m.Event))
            case "config":
                session.config(read({"type": "config", **arguments}, HOST_MESSAGES, m.Config))
            case "drain":
                return [{"retracted": {"waiter": each}} for each in session.drain(arguments["deadlineMs"])]
            case "checkOverdue":
                return [{"overdue": session.overdue(now)}]
            case "close":
                session.shut(arguments["code"], arguments["reason"])
                return [self.closing()]
            case _:
                return act(session, action, arguments, now)
        return []

    def receive(self, frame: bytes, now: float) -> list[Said]:
        match self.session.receive(frame, now):
            case RequestCancelled(request_id, _):
                return [{"cancelled": {"requestId": request_id}}]
            case Close():
                return [self.closing()]
            case event:
                return [seen_as(event, frame, PLUGIN_MESSAGES)]

    def closing(self) -> Said:
        closing = self.session.closing
        assert closing is not None, "the session closes"
        return {"closing": {"code": closing.code, "reason": closing.reason}}

    def next_frame(self) -> bytes | None:
        return self.session.next_frame()


def act(
    session: PluginSession[str] | HostSession[str], action: str, arguments: Any, now: float
) -> list[Said]:
    """What both halves do."""
    match action:
        case "request":
            members = {name: value for name, value in arguments.items() if name != "waiter"}
            members |= {"type": "request", "requestId": "assigned by the half"}
            request = read(members, PLUGIN_MESSAGES, m.Request)
            return refused(session.start(request, arguments["waiter"]), arguments["waiter"])
        case "cancel":
            reason = m.CancelReason(arguments["reason"])
            return given_up(session.cancel(arguments["requestId"], reason, now))
        case "credit":
            session.credit(arguments["requestId"], arguments["n"])
        case "answer":
            was_open = session.answer(arguments["requestId"], outcome(arguments))
            return [] if was_open else [{"over": True}]
        case "chunk":
            return chunk_refused(session.send_chunk(arguments["requestId"], raw(arguments["data"])))
        case "end":
            return ended(*session.end())
        case _:
            raise AssertionError(f"`{action}` is nothing that this half does")
    return []


def seen_as(event: object, frame: bytes, direction: Direction[m.Message]) -> Said:
    """What the application sees of an event that both halves know."""
    match event:
        case Answered(waiter, WireError() as error):
            return {"answered": {"waiter": waiter, "error": plain(error)}}
        case Answered(waiter, msgspec.Raw() as data):
            return {"answered": {"waiter": waiter, "data": json.loads(bytes(data))}}
        case ChunkCame(waiter, data):
            return {"chunk": {"waiter": waiter, "data": json.loads(bytes(data))}}
        case Broken(waiter, error):
            return {"broken": {"waiter": waiter, "error": plain(error)}}
        case Released(waiter):
            return {"released": {"waiter": waiter}}
        case MayStream(request_id):
            return {"mayStream": {"requestId": request_id}}
        case Dropped() as dropped:
            words = dropped.name.lower().split("_")
            return {"dropped": words[0] + "".join(word.capitalize() for word in words[1:])}
        case m.Message() as message:
            # A message that reaches the application as it came is told by its type alone.
            sent = direction.decode(frame)
            assert not isinstance(sent, UnknownType)
            assert json.loads(encode(message)) == json.loads(encode(sent))
            return {"message": json.loads(frame)["type"]}
        case other:
            raise AssertionError(f"{other} is no event")


def read(members: Any, direction: Direction[m.Message], kind: type[Any]) -> Any:
    message = direction.decode(json.dumps(members).encode())
    assert isinstance(message, kind)
    return message


def raw(value: Any) -> msgspec.Raw:
    return msgspec.Raw(json.dumps(value).encode())


def plain(error: WireError) -> Any:
    return json.loads(bytes(error_to_raw(error)))


def outcome(arguments: Any) -> Outcome:
    """`{"data"}` or `{"error"}`, with or without `success`."""
    members = {"type": "response", "requestId": "of no matter", "success": "error" not in arguments}
    members |= {name: arguments[name] for name in ("data", "error") if name in arguments}
    response: m.Response = read(members, PLUGIN_MESSAGES, m.Response)
    return response.outcome()


def refused(started: str | Refusal, waiter: str) -> list[Said]:
    match started:
        case NotOpen():
            return [{"refused": {"waiter": waiter, "why": "notOpen"}}]
        case FrameTooLarge():
            return [{"refused": {"waiter": waiter, "why": "tooLarge"}}]
        case _:
            return []


def given_up(result: GivenUp | Retracted[str]) -> list[Said]:
    match result:
        case Retracted(waiter):
            return [{"retracted": {"waiter": waiter}}]
        case GivenUp.OVER:
            return [{"over": True}]
        case _:
            return []


def chunk_refused(why: ChunkRefused | None) -> list[Said]:
    if why is None:
        return []
    words = why.name.lower().split("_")
    return [{"chunkRefused": words[0] + "".join(word.capitalize() for word in words[1:])}]


def ended(lost: list[Lost[str]], abandoned: list[str]) -> list[Said]:
    seen: list[Said] = [
        {"lost": {"waiter": each.waiter, "handedOver": each.handed_over}}
        for each in sorted(lost, key=lambda each: each.waiter)
    ]
    return seen + [{"abandoned": {"requestId": each}} for each in abandoned]
