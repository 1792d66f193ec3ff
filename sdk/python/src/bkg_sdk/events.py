"""Events of topics: who in this plugin wants which.

Delivery is at most once and never waits: a subscriber that falls behind misses the oldest events and can
ask how many. The host hears of a topic with its first subscriber and after its last.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import Callable
from types import TracebackType

from .protocol import message as m

BEHIND = 256
"""How many events a subscriber may be behind before it misses the oldest."""


class _Mailbox:
    """The events that one subscriber has yet to take."""

    def __init__(self) -> None:
        self.events: deque[m.Event] = deque()
        self.missed = 0
        self.changed = asyncio.Event()
        self.is_closed = False

    def put(self, event: m.Event) -> None:
        self.events.append(event)
        if len(self.events) > BEHIND:
            self.events.popleft()
            self.missed += 1
        self.changed.set()

    def close(self) -> None:
        self.is_closed = True
        self.changed.set()


class Topics:
    """The subscribers of this plugin, by topic."""

    def __init__(self, say: Callable[[m.Message], None]) -> None:
        self._say = say
        self._mailboxes: dict[str, list[_Mailbox]] = {}

    def subscribe(self, topic: str, in_loop: Callable[[Callable[[], None]], None]) -> Subscription:
        """Wants the events of a topic, from now on; `in_loop` does something on the loop's thread."""
        mailbox = _Mailbox()
        if topic not in self._mailboxes:
            self._mailboxes[topic] = []
            self._say(m.Subscribe(topic=topic))
        self._mailboxes[topic].append(mailbox)
        return Subscription(topic, mailbox, lambda: in_loop(lambda: self._leave(topic, mailbox)))

    def _leave(self, topic: str, mailbox: _Mailbox) -> None:
        mailbox.close()
        mailboxes = self._mailboxes.get(topic, [])
        if mailbox in mailboxes:
            mailboxes.remove(mailbox)
            if not mailboxes:
                del self._mailboxes[topic]
                self._say(m.Unsubscribe(topic=topic))

    def deliver(self, event: m.Event) -> None:
        """Hands an event to the subscribers of its topic."""
        for mailbox in self._mailboxes.get(event.topic, []):
            mailbox.put(event)

    def names(self) -> list[str]:
        """What a new session has to be told."""
        return list(self._mailboxes)

    def close(self) -> None:
        """No event will come any more."""
        for mailboxes in self._mailboxes.values():
            for mailbox in mailboxes:
                mailbox.close()
        self._mailboxes.clear()


class Subscription:
    """The events of one topic, from the moment of the subscription on. `Host.subscribe` makes one.

    It ends with `close`, at the end of `async with`, when it is let go, or when the plugin is over. Events
    of the time without a session are gone.

    >>> from bkg_sdk import Host, Plugin
    >>> plugin = Plugin()
    >>> @plugin.background
    ... async def follow(host: Host) -> None:
    ...     async with host.subscribe("orders") as orders:
    ...         async for event in orders:
    ...             print(event.data, orders.missed)
    """

    def __init__(self, topic: str, mailbox: _Mailbox, leave: Callable[[], None]) -> None:
        self.topic = topic
        """The topic's name."""
        self._mailbox = mailbox
        self._leave = leave
        self._loop = asyncio.get_running_loop()

    @property
    def missed(self) -> int:
        """How many events were missed so far because they were not taken in time."""
        return self._mailbox.missed

    def __aiter__(self) -> Subscription:
        return self

    async def __anext__(self) -> m.Event:
        mailbox = self._mailbox
        while not mailbox.events:
            if mailbox.is_closed:
                raise StopAsyncIteration
            mailbox.changed.clear()
            await mailbox.changed.wait()
        return mailbox.events.popleft()

    def close(self) -> None:
        """Wants no further event."""
        self._leave()

    async def __aenter__(self) -> Subscription:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._leave()

    def __del__(self) -> None:
        if not self._mailbox.is_closed:
            with contextlib.suppress(RuntimeError):
                self._loop.call_soon_threadsafe(self._leave)
