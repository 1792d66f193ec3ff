"""Keeps the plugin registered: dials, and dials again when the link breaks.

The first registration of a launch shows its token, later ones the secret that the last gave. A host that
refuses is believed; a host that is away is tried with growing pauses until the patience is used up. The
invariant: it ends with a definite reason.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
from typing import TYPE_CHECKING, Protocol
from urllib.parse import urlsplit

import msgspec

from .connection import Conversation, Finished, Refused
from .error import Rejected, Unreachable, WrongEnvironment
from .session import Session
from .wire import Wire

if TYPE_CHECKING:
    from .plugin import Running

logger = logging.getLogger("bkg_sdk")

DIAL_WITHIN = 5.0
"""How long one attempt to connect may take, in seconds."""
FIRST_PAUSE = 0.1
"""The pause before the second attempt, in seconds; each further one is twice as long."""
LONGEST_PAUSE = 5.0
"""The longest pause between attempts, in seconds."""


class Dialler(Protocol):
    """Whoever can open a link to the host: by TCP, or in memory in tests."""

    url: str
    """Where it dials, for messages."""

    async def dial(self) -> Wire:
        """Opens a link. Raises `OSError` with one sentence."""
        ...


class TcpDialler:
    """Dials the host by TCP."""

    def __init__(self, url: str) -> None:
        try:
            parts = urlsplit(url)
            port = 80 if parts.port is None else parts.port
            # What no resolver takes as a name would not be an `OSError` when it is dialled.
            (parts.hostname or "").encode("idna")
        except ValueError as problem:
            raise _wrong(url, str(problem)) from None
        if parts.scheme != "ws":
            raise _wrong(url, "only `ws` is spoken, over loopback or a tunnel")
        if not parts.hostname:
            raise _wrong(url, "it names no host")
        if port == 0 or parts.fragment:
            raise _wrong(url, "it has a fragment" if parts.fragment else "nobody listens on port 0")
        self.url = url
        """Where it dials."""
        self.address = (parts.hostname, port)
        """Host and port."""

    async def dial(self) -> Wire:
        """Opens a link."""
        loop = asyncio.get_running_loop()
        _, wire = await loop.create_connection(lambda: Wire.client(self.url), *self.address)
        try:
            await wire.upgrade()
        except BaseException:
            wire.abort()
            raise
        return wire


def _wrong(url: str, problem: str) -> WrongEnvironment:
    return WrongEnvironment("BKG_PLUGIN_BUS_URL", f"`{url}` is not a `ws://host:port` URL: {problem}")


async def keep_registered(dialler: Dialler, running: Running, patience: float, stop: asyncio.Event) -> None:
    """Holds a session with the host until it is finished.

    Raises `Rejected` or `Unreachable`. `patience` is in seconds.
    """
    loop = asyncio.get_running_loop()
    secret: str | None = None
    attempts = 0
    without_session_since = loop.time()

    def keep_secret(given: str) -> None:
        nonlocal secret, attempts
        secret, attempts = given, 0

    while not stop.is_set():
        try:
            wire = await _dialled(dialler, stop)
        except TimeoutError:
            reason = f"it did not answer in {DIAL_WITHIN:g} s"
        except OSError as problem:
            reason = str(problem)
        else:
            if wire is None:
                return
            shown = {"token": running.host.environment.token} if secret is None else {"resume": secret}
            before = secret
            session = Session(msgspec.structs.replace(running.host.registration, **shown))
            ended = await Conversation(wire, session, running, keep_secret).run(stop)
            if secret is not before:
                without_session_since = loop.time()
            if isinstance(ended, Finished):
                return
            if isinstance(ended, Refused):
                raise Rejected(ended.code, ended.message)
            reason = ended.reason
        if loop.time() - without_session_since >= patience:
            raise Unreachable(dialler.url, patience, reason)
        pause = pause_after(attempts, random.uniform(0.5, 1.5))
        attempts += 1
        logger.warning(
            "no session with the host, dialling again",
            extra={"reason": reason, "pause_ms": round(pause * 1000)},
        )
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(pause):
                await stop.wait()


async def _dialled(dialler: Dialler, stop: asyncio.Event) -> Wire | None:
    """A link; `None` where the plugin is to stop first."""
    dialling = asyncio.create_task(dialler.dial())
    stopped = asyncio.create_task(stop.wait())
    try:
        done, _ = await asyncio.wait(
            (dialling, stopped), timeout=DIAL_WITHIN, return_when=asyncio.FIRST_COMPLETED
        )
        if dialling in done:
            return dialling.result()
        if stopped in done:
            return None
        raise TimeoutError
    finally:
        stopped.cancel()
        if not dialling.done():
            dialling.cancel()


def pause_after(attempts: int, jitter: float) -> float:
    """The pause after so many attempts in vain, in seconds.

    The first is short, since a broken link is mostly back at once; `jitter` keeps the plugins of a host
    from coming back all at the same moment.

    >>> [round(pause_after(attempts, 1.0), 2) for attempts in range(9)]
    [0.01, 0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 5.0, 5.0]
    """
    pause = (
        FIRST_PAUSE / 10 if attempts == 0 else min(FIRST_PAUSE * 2 ** min(attempts - 1, 16), LONGEST_PAUSE)
    )
    return pause * jitter
