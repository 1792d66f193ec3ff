"""The plugin's settings: typed, current, and changed while it runs.

The host owns them; here they are read, offered to the plugin, and put in force or refused. The invariant:
`configApplied` with success is said after the settings are in force, a dry run puts nothing in force, and
what `Settings.get` answers has passed the plugin's own check.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from enum import Enum, auto
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from msgspec import UNSET

from .json import Misfit, RawJson, read
from .protocol import message as m
from .protocol.error import ErrorCode, WireError, error_to_raw
from .session import Session
from .work import run_work

if TYPE_CHECKING:
    from .host import Host

T = TypeVar("T")

logger = logging.getLogger("bkg_sdk")

WAITING = 8
"""How many changes may wait for the one that is being applied. The host waits for each verdict, so more
than a few means that it has given up waiting; the change is refused then."""


class Settings(Generic[T]):
    """The plugin's settings as a type of its own, always current.

    Give it to `Plugin` and keep it: the host's settings are read into the type before the first request is
    answered, and each time it pushes new ones because an operator saved them. Members that the settings
    leave out need defaults. `check` is offered new settings before they are in force: what it raises is
    shown to the operator, and the settings stay as they were. It may take its time, for example to open
    what the settings name. The host also asks it about settings that may never be in force, before they are
    saved: what a check opens it closes again, and what it changes must not matter. `initial` holds until
    the host has sent its own; left out, it is what `{}` reads as.

    >>> from dataclasses import dataclass
    >>> @dataclass
    ... class Greeting:
    ...     word: str = "hello"
    >>> async def check(new: Greeting) -> None:
    ...     if not new.word:
    ...         raise ValueError("`word` is empty")
    >>> settings = Settings(Greeting, check=check)
    >>> settings.get()
    Greeting(word='hello')
    """

    def __init__(
        self,
        type: type[T],
        *,
        initial: T | None = None,
        check: Callable[[T], Awaitable[None] | None] | None = None,
    ) -> None:
        self._type = type
        self._check = check
        self._initial = initial
        self._current: T | None = initial
        self._changes: list[asyncio.Future[None]] = []
        self.reset()

    def reset(self) -> None:
        """Puts the initial settings back in force: for a plugin that runs again in the same process."""
        self._is_closed = False
        self._current = self._initial
        if self._initial is None:
            try:
                self._current = read(RawJson(b"{}"), self._type)
            except Misfit:
                self._current = None

    def get(self) -> T:
        """The settings in force.

        Raises `LookupError` where none are yet and none were given as `initial`; a handler never meets
        that.
        """
        if self._current is None:
            raise LookupError("no settings are in force yet: give some as `initial`, or ask in a handler")
        return self._current

    async def changes(self) -> AsyncIterator[T]:
        """The settings after each change from now on, until the plugin is to stop.

        A change that was not taken in time is skipped.

        >>> async def follow(settings: Settings[int]) -> None:
        ...     async for new in settings.changes():
        ...         print(new)
        """
        seen = self._current
        while True:
            while self._current is seen:
                if self._is_closed:
                    return
                changed: asyncio.Future[None] = asyncio.get_running_loop().create_future()
                self._changes.append(changed)
                try:
                    await changed
                finally:
                    if changed in self._changes:
                        self._changes.remove(changed)
            seen = self._current
            yield self.get()

    @property
    def has_check(self) -> bool:
        """Whether the plugin has something to say of settings beyond whether they can be read."""
        return self._check is not None

    async def apply(self, config: RawJson) -> None:
        """Puts settings in force. Raises `WireError` with why not."""
        self._current = await self.dry_run(config)
        self._tell()

    async def dry_run(self, config: RawJson) -> T:
        """Reads and checks settings, and leaves them at that. Raises `WireError` with why not."""
        # An entry without settings has `null` here; all members then have their defaults.
        config = RawJson(b"{}") if bytes(config) == b"null" else config
        try:
            offered = read(config, self._type)
        except Misfit as problem:
            raise problem.as_error(ErrorCode.INVALID_CONFIG, "the settings") from None
        if self._check is not None:
            try:
                await run_work(None, self._check, offered)
            except WireError:
                raise
            except (Exception, SystemExit, asyncio.CancelledError) as problem:
                if (applying := asyncio.current_task()) is not None and applying.cancelling():
                    # Not the check: the plugin is over.
                    raise
                if not isinstance(problem, (ValueError, OSError)):
                    logger.exception("the check of the settings failed")
                reason = str(problem) or type(problem).__name__
                raise WireError(ErrorCode.INVALID_CONFIG, reason) from None
        return offered

    def close(self) -> None:
        """No change will come any more."""
        self._is_closed = True
        self._tell()

    def _tell(self) -> None:
        changes, self._changes = self._changes, []
        for changed in changes:
            if not changed.done():
                changed.set_result(None)

    def __repr__(self) -> str:
        # Settings hold secrets.
        return f"Settings({self._type.__name__})"


@dataclass
class _Revision:
    """Settings as they came from the host."""

    number: int
    config: RawJson
    asked_by: Session | None
    """Who is told the verdict; nobody at registration."""
    is_dry_run: bool = False
    """Whether they are only to be tried."""


class _Verdict(Enum):
    """What became of the first settings; later ones that are refused change nothing."""

    WAITING = auto()
    IN_FORCE = auto()
    REFUSED = auto()


class Configuration:
    """Applies settings one after the other, beside everything else that the plugin does."""

    def __init__(self, settings: Settings[Any], host: Host) -> None:
        self._settings = settings
        self._host = host
        self._revisions: asyncio.Queue[_Revision] = asyncio.Queue(WAITING)
        self._verdict = _Verdict.WAITING
        self._refusal = ""
        self._decided = asyncio.Event()

    def registered(self, number: int, config: RawJson) -> None:
        """The settings that came with the registration."""
        self._offer(_Revision(number, config, None))

    def sent(self, config: m.Config, session: Session) -> None:
        """Settings that the host sent later, to be put in force or only to be tried."""
        self._offer(_Revision(config.revision, config.config, session, config.dry_run))

    def _offer(self, revision: _Revision) -> None:
        try:
            self._revisions.put_nowait(revision)
        except asyncio.QueueFull:
            problem = "earlier settings are still being applied: send them again later"
            _report(revision, WireError(ErrorCode.OVERLOADED, problem))

    @property
    def is_in_force(self) -> bool:
        """Whether `in_force` need not be waited for."""
        return self._verdict is _Verdict.IN_FORCE

    async def in_force(self) -> None:
        """Waits until requests can be answered under the host's settings. Raises why they cannot."""
        await self._decided.wait()
        if self._verdict is _Verdict.REFUSED:
            problem = f"the plugin's settings are not in force: {self._refusal}"
            raise WireError(ErrorCode.PLUGIN_ERROR, problem)

    async def apply_in_turn(self) -> None:
        """The work that must run beside the plugin until it is cancelled."""
        in_force: bytes | None = None
        while True:
            revision = await self._revisions.get()
            # A plugin that comes back after a broken link gets the settings that it has.
            if in_force == bytes(revision.config):
                _report(revision, None)
                continue
            if revision.is_dry_run:
                _report(revision, await self._refusal_of(revision.config))
                continue
            try:
                await self._settings.apply(revision.config)
            except WireError as refusal:
                logger.warning(
                    "settings refused", extra={"revision": revision.number, "problem": refusal.message}
                )
                if self._verdict is not _Verdict.IN_FORCE:
                    self._verdict, self._refusal = _Verdict.REFUSED, refusal.message
                    self._host.set_settings_problem(refusal.message)
                _report(revision, refusal)
            else:
                logger.debug("settings in force", extra={"revision": revision.number})
                in_force = bytes(revision.config)
                self._verdict = _Verdict.IN_FORCE
                self._host.set_settings_problem(None)
                _report(revision, None)
            self._decided.set()

    async def _refusal_of(self, config: RawJson) -> WireError | None:
        try:
            await self._settings.dry_run(config)
        except WireError as refusal:
            return refusal
        return None


def refuse(config: m.Config, session: Session) -> None:
    """Answers settings that were pushed to a plugin which takes none. To claim success would be a lie."""
    problem = "this plugin takes settings only when it starts: restart it to put them in force"
    revision = _Revision(config.revision, config.config, session, config.dry_run)
    _report(revision, WireError(ErrorCode.INVALID_CONFIG, problem))


def _report(revision: _Revision, refusal: WireError | None) -> None:
    if revision.asked_by is not None:
        revision.asked_by.say(
            m.ConfigApplied(
                revision=revision.number,
                success=refusal is None,
                error=UNSET if refusal is None else error_to_raw(refusal),
                dry_run=revision.is_dry_run,
            )
        )
