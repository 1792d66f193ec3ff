"""What a plugin is, and how it runs: its capabilities, its settings, what else it registers.

The class of this file is the way into the SDK. Mistakes in a description (a name that no capability can
have, two handlers for one) come out when it runs, as a `DefinitionError`.
"""

from __future__ import annotations

import asyncio
import contextlib
import io
import logging
import os
import signal
import sys
import threading
import traceback
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any, NoReturn, TypeAlias, TypeVar

from .backup import BackupHandler, capability_of_backup
from .call import seconds
from .capability import AnswerHandler, Capability, Handlers, StreamHandler, unfinished
from .config import Configuration, Settings, refuse
from .environment import Environment
from .error import DefinitionError, RunError
from .host import Host
from .json import RawJson
from .log import LogHandler, Logs, levels_of
from .protocol import message as m
from .protocol.error import ErrorCode, WireError
from .protocol.frame import encode
from .protocol.name import problem_of_capability_name
from .reconnect import Dialler, TcpDialler, keep_registered
from .request import Owed, Request
from .session import Session, Ticket
from .work import run_work

A = TypeVar("A", bound=AnswerHandler)
S = TypeVar("S", bound=StreamHandler)
BackgroundWork: TypeAlias = Callable[[Host], Awaitable[None] | None]
B = TypeVar("B", bound=BackgroundWork)
K = TypeVar("K", bound=BackupHandler)

PATIENCE = 30.0
"""How long a plugin tries to get a session before it ends, in seconds. The host restarts what it
launched."""
TASKS_END_WITHIN = 1.0
"""How long tasks may take to notice that the plugin is over, in seconds."""
THREADS = 32
"""How many handlers that are plain `def`s run at the same time."""


class Plugin:
    """A plugin, to be described and run. Its name comes from the host.

    `version` is the plugin's own. `settings` are taken without a restart; where they have a check, the host
    asks it before it saves any. `meta` are facts for whoever
    looks at the registration; `config_schema` is the JSON Schema of the settings, where `plugin.json` does
    not carry it. `patience` is how long the plugin tries to get a session with a host that is away before
    it ends, in seconds; a plugin that nobody launches again wants more.

    >>> from bkg_sdk import ChunkSink, Plugin, Request
    >>> plugin = Plugin(version="0.1.0")
    >>> @plugin.answer("speaker.shout", routes=[("POST", "/shout")])
    ... async def shout(request: Request) -> str:
    ...     return request.read(str).upper()
    >>> @plugin.stream("speaker.spell", idempotent=True)
    ... async def spell(request: Request, chunks: ChunkSink) -> None:
    ...     for letter in request.read(str):
    ...         await chunks.send(letter)
    >>> # `plugin.run()` is the last line of a program; a test runs the plugin like this:
    >>> import asyncio
    >>> from bkg_sdk.testing import TestHost
    >>> async def main() -> None:
    ...     async with TestHost(plugin) as host:
    ...         print(await host.request("speaker.shout", "hello"))
    >>> asyncio.run(main())
    HELLO
    """

    def __init__(
        self,
        *,
        version: str | None = None,
        settings: Settings[Any] | None = None,
        meta: dict[str, Any] | None = None,
        config_schema: Any = None,
        models: Sequence[m.Model] = (),
        tools: Sequence[m.Tool] = (),
        channels: Sequence[str] = (),
        ui: Sequence[m.UiSlot] = (),
        patience: float | timedelta = PATIENCE,
    ) -> None:
        self._version = version
        self._settings = settings
        self._meta = dict(meta or {}) | ({} if settings is None else {"hotConfig": True})
        if settings is not None and settings.has_check:
            self._meta["configDryRun"] = True
        self._config_schema = config_schema
        self._models = list(models)
        self._tools = list(tools)
        self._channels = list(channels)
        self._ui = list(ui)
        self._patience = seconds(patience)
        self._capabilities: dict[str, Capability] = {}
        self._routes: list[m.Route] = []
        self._background: list[BackgroundWork] = []
        self._mistake: DefinitionError | None = None
        self._logs = Logs()

    def answer(
        self,
        capability: str,
        *,
        description: str | None = None,
        input_schema: Any = None,
        output_schema: Any = None,
        idempotent: bool = False,
        side_effect: bool = False,
        timeout: float | timedelta | None = None,
        max_concurrency: int | None = None,
        routes: Sequence[tuple[str, str]] = (),
    ) -> Callable[[A], A]:
        """Answers a capability with what the decorated function returns; `Capability` says what the rest
        means.

        An `async def` runs on the event loop. A plain `def` runs in a thread, so that it may block.
        """

        def decorate(handler: A) -> A:
            self.capability(
                Capability(
                    capability,
                    answer=handler,
                    description=description,
                    input_schema=input_schema,
                    output_schema=output_schema,
                    idempotent=idempotent,
                    side_effect=side_effect,
                    timeout=timeout,
                    max_concurrency=max_concurrency,
                    routes=routes,
                )
            )
            return handler

        return decorate

    def stream(
        self,
        capability: str,
        *,
        description: str | None = None,
        input_schema: Any = None,
        output_schema: Any = None,
        idempotent: bool = False,
        side_effect: bool = False,
        timeout: float | timedelta | None = None,
        max_concurrency: int | None = None,
        routes: Sequence[tuple[str, str]] = (),
    ) -> Callable[[S], S]:
        """Answers a capability in chunks; what the function returns is the `data` of the final answer.

        Its routes are streamed. `answer` and `stream` of one name make one capability, and its caller
        chooses.
        """

        def decorate(handler: S) -> S:
            self.capability(
                Capability(
                    capability,
                    stream=handler,
                    description=description,
                    input_schema=input_schema,
                    output_schema=output_schema,
                    idempotent=idempotent,
                    side_effect=side_effect,
                    timeout=timeout,
                    max_concurrency=max_concurrency,
                    routes=routes,
                )
            )
            return handler

        return decorate

    def backup(self, handler: K) -> K:
        """Takes part in backups of the host: short for the capability `lifecycle.backup`, which the
        plugin's entry must list.

        The decorated function writes a copy of all that the plugin keeps below the directory that it is
        given, whole and as of one moment; the files that it leaves there go into the backup. Only the host
        asks for it. A plain `def` runs in a thread.

        >>> import shutil
        >>> from pathlib import Path
        >>> plugin = Plugin()
        >>> @plugin.backup
        ... def copy(directory: Path) -> None:
        ...     shutil.copy("notes.txt", directory)
        """
        self.capability(capability_of_backup(handler))
        return handler

    def capability(self, capability: Capability) -> None:
        """Answers a capability."""
        mistake = capability.mistake()
        if mistake is not None:
            self._mistake = self._mistake or mistake
            return
        known = self._capabilities.get(capability.name)
        joined = capability if known is None else known.joined_with(capability)
        if isinstance(joined, DefinitionError):
            self._mistake = self._mistake or joined
            return
        self._capabilities[capability.name] = joined
        self._routes += capability.routes

    def model(
        self,
        id: str,
        capability: str,
        *,
        owned_by: str | None = None,
        context_length: int | None = None,
        dimensions: int | None = None,
    ) -> None:
        """Offers a model that a capability answers for.

        >>> Plugin().model("scribe/large", "llm.chat", context_length=8192)
        """
        self._check_name(capability)
        self._models.append(m.Model(id, capability, owned_by, context_length, dimensions))

    def route(self, method: str, path: str, capability: str, *, streaming: bool = False) -> None:
        """Binds an HTTP route below `/api/plugins/<name>` to a capability.

        `{name}` in the path stands for one segment, `{*name}` at its end for all that is left. The `routes`
        of the decorators do the same beside the handler.

        >>> Plugin().route("GET", "/pages/{page}", "wiki.page")
        """
        self._check_name(capability)
        self._routes.append(m.Route(method, path, capability, streaming))

    def _check_name(self, capability: str) -> None:
        problem = problem_of_capability_name(capability)
        if problem is not None:
            self._mistake = self._mistake or DefinitionError(problem)

    def background(self, work: B) -> B:
        """Work of the plugin's own beside its handlers.

        It starts with the plugin; when `Host.stopping` says so it has a second to end, then it is
        cancelled. A plain `def` runs in a thread, which nobody can end: it looks at `Host.stopping`.

        >>> plugin = Plugin()
        >>> @plugin.background
        ... async def tick(host: Host) -> None:
        ...     while not host.stopping.is_set():
        ...         host.publish("clock.tick")
        ...         with contextlib.suppress(TimeoutError):
        ...             async with asyncio.timeout(1):
        ...                 await host.stopping.wait()
        """
        self._background.append(work)
        return work

    def log_handler(self) -> LogHandler:
        """A handler that sends what is logged with `logging` to the host; `run` sets one up."""
        return LogHandler(self._logs)

    def run(self) -> NoReturn:
        """Runs the plugin in this process until the host or a signal ends it, then exits with a code.

        Reads the environment, and sends what is logged at `INFO` and above to the host; the variable
        `BKG_LOG` chooses otherwise (`debug`, or `warn,shop.orders=debug`). The exit code says why it ended:
        0 as it should, else see `RunError.exit_code`.
        """
        code = 0
        # The host reads lines: what a plugin prints is there when it was printed.
        if isinstance(sys.stdout, io.TextIOWrapper):
            sys.stdout.reconfigure(line_buffering=True)
        handler = self.log_handler()
        logging.getLogger().addHandler(handler)
        for name, level in levels_of(os.environ.get("BKG_LOG", "")).items():
            logging.getLogger(name).setLevel(level)
        try:
            environment = Environment.of_process()
            asyncio.run(self._serve_until_signal(environment))
        except RunError as error:
            # The host reads what a launch writes; there may be no session to log to.
            print(f"error: {error}", file=sys.stderr)
            code = error.exit_code
        except SystemExit as end:
            # Work of the plugin's own has ended the program.
            code = end.code if isinstance(end.code, int) else int(end.code is not None)
            if isinstance(end.code, str):
                print(end.code, file=sys.stderr)
        except Exception:
            traceback.print_exc()
            code = 1
        for stream in (sys.stdout, sys.stderr):
            with contextlib.suppress(OSError, ValueError):
                stream.flush()
        if any(
            not thread.daemon for thread in threading.enumerate() if thread is not threading.main_thread()
        ):
            # A thread that does not end must not keep the process.
            os._exit(code)
        sys.exit(code)

    async def _serve_until_signal(self, environment: Environment) -> None:
        shutdown = asyncio.Event()
        loop = asyncio.get_running_loop()
        for each in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(each, shutdown.set)
        try:
            await self.serve(environment, shutdown)
        finally:
            # The host sends the signal to whoever has drained and is not gone yet: too late to die of it.
            for each in (signal.SIGTERM, signal.SIGINT):
                loop.remove_signal_handler(each)
                signal.signal(each, signal.SIG_IGN)
            # The end of the loop waits for its threads; those that do not end must not keep the process.
            loop.set_default_executor(ThreadPoolExecutor(1))

    async def serve(self, environment: Environment, shutdown: asyncio.Event | None = None) -> None:
        """Runs the plugin on the running event loop until the host ends it or `shutdown` is set.

        Then work in hand has 5 s to finish. Raises `RunError` with why it could not go on.
        """
        await self.serve_over(TcpDialler(environment.bus_url), environment, shutdown or asyncio.Event())

    async def serve_over(self, dialler: Dialler, environment: Environment, shutdown: asyncio.Event) -> None:
        """Runs the plugin over links of any kind."""
        if self._mistake is not None:
            raise self._mistake
        try:
            encode(self.registration(environment.name))
        except (TypeError, ValueError, RecursionError) as problem:
            raise DefinitionError(f"the description has no JSON form: {problem}") from None
        running = Running(self, environment)
        try:
            await keep_registered(dialler, running, self._patience, shutdown)
        finally:
            await running.end()
            self._logs.reset()

    def registration(self, name: str) -> m.Register:
        """What the plugin says of itself, under this name."""
        return m.Register(
            plugin=name,
            port="internal",
            capabilities=[capability.described for capability in self._capabilities.values()],
            meta=self._meta,
            config_schema=self._config_schema,
            version=self._version,
            models=self._models,
            routes=self._routes,
            tools=self._tools,
            channels=self._channels,
            ui=self._ui,
        )

    def __repr__(self) -> str:
        return f"Plugin({', '.join(self._capabilities)})"

    # What a running plugin takes from its description.

    @property
    def parts(
        self,
    ) -> tuple[dict[str, Capability], Settings[Any] | None, list[BackgroundWork], Logs]:
        """Capabilities, settings, background work and log lines."""
        return self._capabilities, self._settings, self._background, self._logs


class Running:
    """A plugin at work: what its sessions share."""

    def __init__(self, plugin: Plugin, environment: Environment) -> None:
        capabilities, settings, background, logs = plugin.parts
        self.host = Host(environment, logs, plugin.registration(environment.name))
        """The handle to the host."""
        self._threads = ThreadPoolExecutor(THREADS + len(background), thread_name_prefix="bkg-handler")
        self._handlers = {
            name: Handlers(capability, self._threads) for name, capability in capabilities.items()
        }
        self._tasks: set[asyncio.Task[None]] = set()
        self._background: set[asyncio.Task[None]] = set()
        self._leaving: asyncio.TimerHandle | None = None
        self._configuration: Configuration | None = None
        self._applying: asyncio.Task[None] | None = None
        self._settings = settings
        if settings is not None:
            settings.reset()
            self._configuration = Configuration(settings, self.host)
            self._applying = asyncio.create_task(self._configuration.apply_in_turn())
        for work in background:
            task = self._spawn(self._beside(work))
            self._background.add(task)
            task.add_done_callback(self._background.discard)

    async def _beside(self, work: BackgroundWork) -> None:
        try:
            await run_work(self._threads, work, self.host)
        except Exception:
            name = getattr(work, "__name__", repr(work))
            logging.getLogger("bkg_sdk").exception("background work failed", extra={"work": name})

    def _spawn(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    def dispatch(self, message: m.Request, ticket: Ticket, session: Session) -> None:
        """Hands a request to its handler, in a task of its own."""
        handlers = self._handlers.get(message.capability)
        if handlers is None:
            problem = f"this plugin does not answer `{message.capability}`"
            session.answer(message.request_id, WireError(ErrorCode.NOT_FOUND, problem))
            return
        owed = Owed(session, message.request_id)
        request = Request(message, ticket, session, self.host)
        ticket.task = self._spawn(self._answer(handlers, owed, request, ticket, session))
        # A task that is cancelled before its first step never runs its own end.
        ticket.task.add_done_callback(lambda _: owed.settle(unfinished(ticket)))
        # Whoever does not notice the cancel is not waited for.
        ticket.on_cancel = lambda: owed.settle(unfinished(ticket))

    async def _answer(
        self, handlers: Handlers, owed: Owed, request: Request, ticket: Ticket, session: Session
    ) -> None:
        if self._configuration is not None and not self._configuration.is_in_force:
            try:
                await self._configuration.in_force()
            except WireError as error:
                owed.settle(error)
                return
        await handlers.work(owed, request, ticket, session)

    def registered(self, revision: int, config: RawJson) -> None:
        """The settings that came with a registration."""
        if self._configuration is not None:
            self._configuration.registered(revision, config)

    def take_config(self, config: m.Config, session: Session) -> None:
        """Settings that the host sent later."""
        if self._configuration is not None:
            self._configuration.sent(config, session)
        else:
            # Not asked for: `meta.hotConfig` is not set.
            refuse(config, session)

    def is_quiet(self) -> bool:
        """Whether the plugin's own work has ended."""
        return not self._background

    def wind_down(self, look_again: Callable[[], None]) -> None:
        """Tells the plugin's own work to stop; `look_again` is called as it ends, while there is a session.

        What it says last, log lines above all, still reaches the host. What goes on for a second is
        cancelled.
        """
        self._stop()
        for task in self._background:
            task.add_done_callback(lambda _: look_again())

        def leave() -> None:
            for task in list(self._background):
                task.cancel()
            self._background.clear()
            look_again()

        if self._background and self._leaving is None:
            self._leaving = asyncio.get_running_loop().call_later(TASKS_END_WITHIN, leave)

    def _stop(self) -> None:
        self.host.stopping.set()
        if self._settings is not None:
            self._settings.close()

    async def end(self) -> None:
        """Ends everything that runs beside the sessions: what does not notice in a second is cancelled."""
        self._stop()
        self.host.close()
        if self._leaving is not None:
            self._leaving.cancel()
        if self._applying is not None:
            self._applying.cancel()
            await asyncio.wait([self._applying], timeout=TASKS_END_WITHIN)
        if self._tasks:
            _, late = await asyncio.wait(list(self._tasks), timeout=TASKS_END_WITHIN)
            for task in late:
                task.cancel()
            if late:
                await asyncio.wait(late, timeout=TASKS_END_WITHIN)
        self._threads.shutdown(wait=False, cancel_futures=True)
