"""Runs a class with `initialize`, `execute` and `shutdown` as a plugin: one capability, one instance.

    class CalculatorPlugin:                      # in calculator_plugin.py
        def initialize(self, settings): ...      # once, before the first request; optional
        def execute(self, payload): ...          # for each request
        def shutdown(self): ...                  # once, after the last request; optional

Each may be `async def` instead, and `initialize` may do without its argument. What is not `async` runs
in a thread of its own, always the same one unless `max_concurrency` says more, so that it may keep what
belongs to a thread. `execute` answers a JSON value, or `{"status": "success", "result": …}`, or
`{"status": "error", "error": "…"}`; `data` and `message` are read like `result` and `error`.

Not a second SDK: streams, routes and hot settings need a plugin of its own. `bkg new --wrap` writes the
file that calls this.
"""

from __future__ import annotations

import asyncio
import contextvars
import importlib.util
import inspect
import json
import logging
import os
import sys
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import ModuleType
from typing import Any, NoReturn

from .capability import Capability
from .environment import Environment
from .error import DefinitionError, ErrorCode, MissingEnvironment, RunError, WireError
from .host import Health, Host
from .json import Json, raw
from .plugin import Plugin
from .reconnect import Dialler
from .request import Request

__all__ = ["run", "wrap"]

_log = logging.getLogger(__name__)

_FIRST_PAUSE = 1.0
"""How long to wait before `initialize` is tried a second time, in seconds; each time twice as long."""
_LONGEST_PAUSE = 60.0
_SHUTDOWN_WITHIN = 60.0
"""How long `shutdown` may take, in seconds; a host mostly allows less and then kills the process."""


def run(file: str | os.PathLike[str], capability: str, *, max_concurrency: int = 1) -> NoReturn:
    """Runs the class of this file as a plugin, until the host stops it; see `wrap`."""
    try:
        plugin = wrap(file, capability, max_concurrency=max_concurrency)
    except RunError as error:
        # The host reads what a launch writes; there is no session to log to.
        print(f"error: {error}", file=sys.stderr)
        sys.exit(error.exit_code)
    plugin.run()


def wrap(
    file: str | os.PathLike[str],
    capability: str,
    *,
    max_concurrency: int = 1,
    settings: Mapping[str, Json] | None = None,
) -> Plugin:
    """The plugin that answers `capability` with the class of this file.

    It is the class that is called as the file is (`CalculatorPlugin` in `calculator_plugin.py`), or the
    only one with `execute`. At most `max_concurrency` requests are worked on at once. `settings` are
    given to `initialize` instead of those of the host; for tests.

    Raises `DefinitionError` where the file cannot be loaded, or has no such class.
    """
    path = Path(file)
    return _Wrapped(_find(_load(path), path), capability, max_concurrency, settings)


class _Wrapped(Plugin):
    """A plugin whose only capability is answered by an object of a class."""

    def __init__(
        self,
        kind: type[Any],
        capability: str,
        max_concurrency: int,
        settings: Mapping[str, Json] | None,
    ) -> None:
        super().__init__()
        self._kind = kind
        self._max_concurrency = max_concurrency
        self._given = settings
        self._object = _Object(kind, max_concurrency)
        described = (inspect.getdoc(kind) or f"What `{kind.__name__}` answers").splitlines()[0]
        self.capability(
            Capability(
                capability, answer=self._execute, description=described, max_concurrency=max_concurrency
            )
        )
        self.background(self._initialize)

    async def serve_over(self, dialler: Dialler, environment: Environment, shutdown: asyncio.Event) -> None:
        """Runs the plugin; its object ends after the last request, and before the process does."""
        self._object = _Object(self._kind, self._max_concurrency)
        try:
            await super().serve_over(dialler, environment, shutdown)
        finally:
            await self._object.end()

    async def _initialize(self, host: Host) -> None:
        settings = self._given if self._given is not None else _settings_of(host)
        pause = _FIRST_PAUSE
        while not await self._object.begin(settings, host):
            try:
                async with asyncio.timeout(pause):
                    await host.stopping.wait()
            except TimeoutError:
                pause = min(pause * 2, _LONGEST_PAUSE)
            else:
                return

    async def _execute(self, request: Request) -> object:
        return await self._object.execute(request.payload)


class _Object:
    """One object of the class, from `initialize` to `shutdown`."""

    def __init__(self, kind: type[Any], max_concurrency: int) -> None:
        self._kind = kind
        self._made: Any = None
        # Why there is no object yet, for whoever asks meanwhile.
        self._problem = "the plugin is not ready"
        self._tried = asyncio.Event()
        self._places = asyncio.Semaphore(max_concurrency)
        self._thread = ThreadPoolExecutor(max_concurrency, thread_name_prefix=kind.__name__)

    async def begin(self, settings: Mapping[str, Json], host: Host) -> bool:
        """Makes the object and calls its `initialize`; says whether that worked."""
        try:
            made = await self._call(self._kind)
            initialize = getattr(made, "initialize", None)
            if initialize is not None:
                given = (dict(settings),) if _takes_argument(initialize) else ()
                _outcome(await self._call(initialize, *given))
        except Exception as problem:
            self._problem = f"`initialize` of `{self._kind.__name__}` failed: {_text(problem)}"
            _log.exception("`initialize` of `%s` failed", self._kind.__name__)
            host.set_health(Health.DOWN, self._problem)
            self._tried.set()
            return False
        self._made = made
        host.set_health(Health.UP)
        self._tried.set()
        return True

    async def execute(self, payload: Json) -> object:
        """One request: waits until there is an object, and then for its turn."""
        await self._tried.wait()
        if self._made is None:
            raise WireError(ErrorCode.PLUGIN_ERROR, self._problem)
        name = self._kind.__name__
        try:
            returned = await self._call(self._made.execute, payload)
        except WireError:
            raise
        except Exception as problem:
            _log.exception("`execute` of `%s` failed", name)
            raise WireError(ErrorCode.PLUGIN_ERROR, _text(problem)) from problem
        try:
            return raw(_outcome(returned))
        except (TypeError, ValueError) as problem:
            message = f"what `execute` of `{name}` returned has no JSON form: {problem}"
            raise WireError(ErrorCode.PLUGIN_ERROR, message) from problem

    async def end(self) -> None:
        """Calls `shutdown`, when it is its turn. What the host allows for the end of a plugin bounds it."""
        shutdown = getattr(self._made, "shutdown", None)
        if shutdown is not None:
            try:
                async with asyncio.timeout(_SHUTDOWN_WITHIN):
                    await self._call(shutdown)
            except Exception:
                _log.exception("`shutdown` of `%s` failed", self._kind.__name__)
        self._thread.shutdown(wait=False, cancel_futures=True)

    async def _call(self, method: Callable[..., Any], *arguments: object) -> Any:
        """What a method returns, when it is its turn."""
        async with self._places:
            if inspect.iscoroutinefunction(method):
                return await method(*arguments)
            returned = await self._in_thread(method, *arguments)
            return await returned if inspect.isawaitable(returned) else returned

    async def _in_thread(self, method: Callable[..., Any], *arguments: object) -> Any:
        context = contextvars.copy_context()

        def call() -> tuple[Any, BaseException | None]:
            # Caught here: some exceptions cannot cross from a thread into a task, and `sys.exit` in
            # one request must not end the plugin.
            try:
                return context.run(method, *arguments), None
            except BaseException as problem:
                return None, problem

        work = asyncio.get_running_loop().run_in_executor(self._thread, call)
        try:
            returned, problem = await asyncio.shield(work)
        except asyncio.CancelledError:
            # The thread cannot be stopped, so its place is taken until it has ended by itself.
            await asyncio.wait([work])
            raise
        if isinstance(problem, Exception) and not isinstance(problem, (StopIteration, StopAsyncIteration)):
            raise problem
        if problem is not None:
            raise RuntimeError(_text(problem)) from problem
        return returned


def _outcome(returned: object) -> object:
    """What was meant by what a method returned; raises what it reported as an error."""
    if not isinstance(returned, dict) or returned.get("status") not in ("success", "error"):
        return returned
    members = {name: value for name, value in returned.items() if name != "status"}
    if returned["status"] == "success":
        for name in ("result", "data"):
            if name in members:
                return members[name]
        return members or None
    reason = members.get("error", members.get("message"))
    if isinstance(reason, dict) and isinstance(reason.get("message"), str):
        raise WireError(str(reason.get("code", ErrorCode.PLUGIN_ERROR)), reason["message"])
    text = reason if isinstance(reason, str) and reason else "it did not say why"
    raise WireError(ErrorCode.PLUGIN_ERROR, text)


def _text(problem: BaseException) -> str:
    text = str(problem)
    if isinstance(problem, WireError):
        return problem.message
    return f"{type(problem).__name__}: {text}" if text else type(problem).__name__


def _settings_of(host: Host) -> dict[str, Json]:
    """What the operator set, as it was at the launch: a change of it is another launch."""
    try:
        entry = json.loads(host.environment.config_path.read_bytes())
    except MissingEnvironment:
        return {}
    settings = entry.get("settings")
    return settings if isinstance(settings, dict) else {}


def _takes_argument(method: Callable[..., Any]) -> bool:
    positional = (
        inspect.Parameter.POSITIONAL_ONLY,
        inspect.Parameter.POSITIONAL_OR_KEYWORD,
        inspect.Parameter.VAR_POSITIONAL,
    )
    return any(one.kind in positional for one in inspect.signature(method).parameters.values())


def _load(path: Path) -> ModuleType:
    name = "".join(character if character.isalnum() else "_" for character in path.stem)
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None or not path.is_file():
        raise DefinitionError(f"`{path}` is no Python file: name one that has a class with `execute`")
    module = importlib.util.module_from_spec(spec)
    # Before it runs: dataclasses and pickles look their module up there.
    sys.modules[name] = module
    # The file's neighbours are importable, as if it had been run itself.
    folder = str(path.resolve().parent)
    if folder not in sys.path:
        sys.path.insert(0, folder)
    try:
        spec.loader.exec_module(module)
    except Exception as problem:
        missing = isinstance(problem, ModuleNotFoundError)
        remedy = "; add what is missing to requirements.txt" if missing else ""
        raise DefinitionError(f"`{path}` cannot be loaded: {_text(problem)}{remedy}") from problem
    return module


def _find(module: ModuleType, path: Path) -> type[Any]:
    own = {
        name: kind
        for name, kind in vars(module).items()
        if inspect.isclass(kind) and kind.__module__ == module.__name__
    }
    words = "".join(character if character.isalnum() else " " for character in path.stem).split()
    wanted = "".join(word[:1].upper() + word[1:] for word in words)
    found = own.get(wanted)
    if found is None:
        fitting = [name for name, kind in own.items() if callable(getattr(kind, "execute", None))]
        if len(fitting) != 1:
            listed = ", ".join(f"`{name}`" for name in fitting)
            problem = f"several classes with `execute` ({listed})" if fitting else "no class with `execute`"
            raise DefinitionError(f"`{path}` has {problem}: name the one that is meant `{wanted}`")
        found = own[fitting[0]]
    if not callable(getattr(found, "execute", None)):
        raise DefinitionError(f"`{found.__name__}` in `{path}` has no `execute`: give it one")
    if inspect.isabstract(found):
        raise DefinitionError(f"`{found.__name__}` in `{path}` is abstract: name a class that can be made")
    needed = [one.name for one in inspect.signature(found).parameters.values() if _is_needed(one)]
    if needed:
        listed = ", ".join(f"`{name}`" for name in needed)
        raise DefinitionError(
            f"`{found.__name__}` in `{path}` cannot be made without {listed}: give its constructor "
            "defaults, and take settings in `initialize(settings)`"
        )
    return found


def _is_needed(parameter: inspect.Parameter) -> bool:
    variable = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    return parameter.default is inspect.Parameter.empty and parameter.kind not in variable
