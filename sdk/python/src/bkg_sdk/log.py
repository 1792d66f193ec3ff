"""Log lines to the host, straight from the plugin or from `logging`.

Lines that cannot leave yet (no session, or a socket that is behind) are kept, a bounded number of them: the
oldest go first, and the host is told how many went. Logging never waits, from whatever thread it comes.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import threading
from collections import deque
from collections.abc import Mapping
from contextvars import ContextVar
from datetime import UTC, datetime

import msgspec
from msgspec import UNSET

from .json import RawJson
from .protocol import message as m
from .protocol.error import unicode_text
from .session import Session

KEPT = 512
"""How many lines are kept while they cannot leave."""
LONGEST_MESSAGE = 16 << 10
"""Longer messages are cut, in bytes: a line is for people."""
LARGEST_FIELDS = 32 << 10
"""Larger sets of fields are left out, in bytes."""

current_request: ContextVar[str | None] = ContextVar("bkg_request", default=None)
"""The request that the current task answers, so that its log lines can say so."""


class Logs:
    """Where log lines go in and leave when they can."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._kept: deque[m.Log] = deque()
        self._lost = 0
        self._plugin: str | None = None
        self._session: Session | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        # A thread that floods a busy loop must not pile up calls of `flush`.
        self._flush_is_due = False

    def attach(self, plugin: str, session: Session) -> None:
        """From now on lines leave through this session."""
        self._plugin, self._session = plugin, session
        self._loop = asyncio.get_running_loop()
        self.flush()

    def detach(self) -> None:
        """Lines are kept until there is a session again."""
        self._session = None

    def write(self, level: m.LogLevel, message: str, fields: Mapping[str, object] | None = None) -> None:
        """Adds a line. From any thread."""
        line = m.Log(
            level=level,
            message=cut(message),
            timestamp=m.timestamp_text(datetime.now(UTC)),
            fields=_written(fields),
            request_id=current_request.get(),
        )
        with self._lock:
            self._kept.append(line)
            if len(self._kept) > KEPT:
                self._kept.popleft()
                self._lost += 1
        loop = self._loop
        if loop is None:
            return
        if loop is _running_loop():
            self.flush()
        elif not self._flush_is_due:
            self._flush_is_due = True
            # A loop that is closed takes no more; the line stays with those that could not leave.
            with contextlib.suppress(RuntimeError):
                loop.call_soon_threadsafe(self.flush)

    def flush(self) -> None:
        """Sends what was kept, as far as the session takes it. On the loop's thread."""
        self._flush_is_due = False
        session = self._session
        if session is None:
            return
        if self._lost > 0 and session.has_room_for_logs():
            with self._lock:
                lost, self._lost = self._lost, 0
            message = f"{lost} log lines are lost: they could not be sent in time"
            now = m.timestamp_text(datetime.now(UTC))
            session.say(m.Log(plugin=self._plugin, level=m.LogLevel.WARN, message=message, timestamp=now))
        while session.has_room_for_logs():
            with self._lock:
                if not self._kept:
                    return
                line = self._kept.popleft()
            line.plugin = self._plugin
            session.say(line)

    @property
    def waiting(self) -> tuple[int, int]:
        """How many lines wait, and how many were lost since the host was last told."""
        with self._lock:
            return len(self._kept), self._lost

    def reset(self) -> None:
        """Forgets what was kept: the plugin is over, and may run again."""
        self._session, self._loop, self._flush_is_due = None, None, False
        with self._lock:
            self._kept.clear()
            self._lost = 0


def _running_loop() -> asyncio.AbstractEventLoop | None:
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        return None


def _written(fields: Mapping[str, object] | None) -> RawJson | msgspec.UnsetType:
    if not fields:
        return UNSET
    try:
        text = msgspec.json.encode(dict(fields), enc_hook=_as_text)
        # It may hold raw text that is no JSON.
        msgspec.json.decode(text, type=msgspec.Raw)
    except (TypeError, ValueError, RecursionError, msgspec.MsgspecError):
        text = msgspec.json.encode({_as_text(name): _as_text(value) for name, value in fields.items()})
    return RawJson(text) if len(text) <= LARGEST_FIELDS else UNSET


def _as_text(value: object) -> str:
    """A fact for people has a text, whatever it is; one whose text fails must not break the line."""
    try:
        return unicode_text(value)
    except Exception:
        return f"<{type(value).__name__}>"


def cut(message: str) -> str:
    """A message that is not too long; one that was says by how much."""
    text = message.encode(errors="replace")
    if len(text) <= LONGEST_MESSAGE:
        return text.decode()
    kept = text[:LONGEST_MESSAGE].decode(errors="ignore")
    return f"{kept}… ({len(text) - len(kept.encode())} more bytes)"


_OF_EVERY_RECORD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}


class LogHandler(logging.Handler):
    """Sends what is logged with `logging` to the host as log lines: `Plugin.log_handler` makes one.

    The message becomes the line; what was given in `extra`, and the logger's name as `target`, become its
    fields; an exception becomes the field `exception`. Lines of a task that answers a request carry the
    request's id. `Plugin.run` sets one up, and `testing.TestHost` does for its time.

    >>> from bkg_sdk import Plugin
    >>> plugin = Plugin()
    >>> handler = plugin.log_handler()
    >>> logging.getLogger("shop").addHandler(handler)
    >>> logging.getLogger("shop").warning("taking long", extra={"attempts": 3})
    >>> logging.getLogger("shop").removeHandler(handler)
    """

    def __init__(self, logs: Logs) -> None:
        super().__init__()
        self._logs = logs
        self._formatter_of_exceptions = logging.Formatter()

    def emit(self, record: logging.LogRecord) -> None:
        """Sends one record. Never raises, as `logging` asks of its handlers."""
        try:
            fields = {name: value for name, value in vars(record).items() if name not in _OF_EVERY_RECORD}
            fields["target"] = record.name
            if record.exc_info and record.exc_info[0] is not None:
                fields["exception"] = cut(self._formatter_of_exceptions.formatException(record.exc_info))
            self._logs.write(_level(record.levelno), record.getMessage(), fields)
        except Exception:
            self.handleError(record)


def _level(number: int) -> m.LogLevel:
    if number >= logging.ERROR:
        return m.LogLevel.ERROR
    if number >= logging.WARNING:
        return m.LogLevel.WARN
    if number >= logging.INFO:
        return m.LogLevel.INFO
    return m.LogLevel.DEBUG if number >= logging.DEBUG else m.LogLevel.TRACE


def levels_of(wanted: str) -> dict[str, int]:
    """Reads `BKG_LOG`: a level, `logger=level`, or several with commas; the root logger's name is empty.

    >>> levels_of("warn,shop.orders=debug")
    {'': 30, 'shop.orders': 10}
    """
    known = {"trace": 5, "debug": 10, "info": 20, "warn": 30, "warning": 30, "error": 40}
    levels = {"": logging.INFO}
    for part in wanted.split(","):
        name, _, level = part.strip().rpartition("=")
        if level.lower() in known:
            levels[name] = known[level.lower()]
    return levels
