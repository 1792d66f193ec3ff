"""What a session piles up while its socket is behind, without a socket."""

from __future__ import annotations

import asyncio
import json

from bkg_sdk.json import RawJson, raw
from bkg_sdk.protocol import message as m
from bkg_sdk.protocol.exchange import NotOpen
from bkg_sdk.protocol.frame import encode
from bkg_sdk.protocol.inbound import ChunkRefused
from bkg_sdk.session import FULL, Session, Ticket, Waiter

LARGE = raw("x" * ((100 << 10) - 2))
"""A chunk of 100 KiB."""


def registered() -> Session:
    session = Session(m.Register(plugin="test", port="internal", capabilities=[]))
    welcome = m.Registered(
        protocol=1,
        instance="0198c0de-0000-7000-8000-000000000001",
        resume="r",
        heartbeat_ms=10_000,
        limits=m.GrantedLimits(16 << 20, 256 << 10, 32),
        config=m.NULL,
        config_revision=0,
    )
    assert isinstance(session.receive(encode(welcome)), m.Registered)
    return session


def ask(session: Session, request_id: str, *, credit: int) -> Ticket:
    request = m.Request(
        request_id=request_id, capability="test.x", payload=m.NULL, stream=True, credit=credit
    )
    incoming = session.receive(encode(request))
    assert isinstance(incoming, tuple)
    return incoming[1]


def own(capability: str = "other.thing") -> m.Request:
    return m.Request(request_id="", capability=capability, payload=m.NULL)


async def test_a_socket_that_is_behind_bounds_what_streams_pile_up_whatever_their_credit() -> None:
    session = registered()
    ask(session, "r", credit=1_000)
    taken = 0
    while session.has_room():
        assert session.chunk("r", LARGE) is None
        taken += 1
    assert FULL // (100 << 10) <= taken <= FULL // (100 << 10) + 1
    assert not session.has_room_for_logs()

    waiting = asyncio.create_task(session.room())
    while session.next_frame() is not None:
        pass
    async with asyncio.timeout(10):
        await waiting
    assert session.has_room()


async def test_what_is_urgent_overtakes_data_and_never_its_own_request() -> None:
    session = registered()
    ask(session, "r", credit=1_000)
    waiter = Waiter(streams=True)
    stream = m.Request(request_id="", capability="other.thing", payload=m.NULL, stream=True)
    session.next_frame()
    written = session.start(stream, waiter)
    assert isinstance(written, str)
    session.next_frame()
    session.chunk("r", LARGE)
    waiting = session.start(stream, Waiter(streams=True))
    assert isinstance(waiting, str)
    session.grant(waiting, 3)
    session.grant(written, 5)
    session.give_up(written, m.CancelReason.CALLER_GONE)
    session.say(m.Health(plugin="test", status="up"))
    frames = []
    while (frame := session.next_frame()) is not None:
        said = json.loads(frame)
        frames.append((said["type"], said.get("n")))
    assert frames == [
        ("credit", 5),
        ("cancel", None),
        ("health", None),
        ("chunk", None),
        ("request", None),
        ("credit", 3),
    ]


async def test_the_end_of_a_session_cancels_its_work_and_frees_its_waiters() -> None:
    session = registered()
    ticket = ask(session, "r", credit=1)
    waiter = Waiter(streams=False)
    assert isinstance(session.start(own(), waiter), str)
    session.end()
    assert ticket.cancelled.is_set()
    assert await waiter.answer is None
    assert not session.answer("r", RawJson(b"null")), "nothing is sent for a request of the past"
    assert session.chunk("r", m.NULL) is ChunkRefused.OVER
    assert isinstance(session.start(own(), Waiter(streams=False)), NotOpen)
    assert session.next_frame() is None
