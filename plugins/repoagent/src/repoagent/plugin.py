"""The plugin on the bus: capabilities, routes, settings, and what runs beside them.

Answers nothing itself: `capabilities.py` does. `__main__.py` runs what `build` makes; tests run it in a
host in memory.
"""

import logging
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import msgspec

from bkg_sdk import Capability as Registered
from bkg_sdk import ErrorCode, Host, Plugin, RawJson, Request, Settings, WireError
from repoagent import payloads
from repoagent.capabilities import ALL, Capabilities, Capability
from repoagent.halt import Halt
from repoagent.recovery import recover
from repoagent.refusal import Refusal
from repoagent.settings import RepoSettings
from repoagent.twin import Twin
from repoagent.vitals import report_vitals

logger = logging.getLogger(__name__)

VERSION = "0.1.0"
_RECOVERY_SECONDS = 60.0

ROUTES: dict[str, list[tuple[str, str]]] = {
    "repo.analyze": [("POST", "/analyze")],
    "repo.tree": [("GET", "/tree")],
    "repo.search": [("POST", "/search")],
    "repo.file.read": [("GET", "/files/{*path}")],
    "repo.file.write": [("PUT", "/files/{*path}")],
    "repo.patch": [("POST", "/patch")],
    "repo.command": [("POST", "/command")],
    "repo.commit": [("POST", "/commit")],
}


class RepoPlugin(Plugin):
    """A plugin that tells the port on which it listens itself."""

    def __init__(self, twin: Twin, settings: Settings[RepoSettings]) -> None:
        super().__init__(version=VERSION, settings=settings)
        self.twin = twin

    def registration(self, name: str) -> Any:
        """What it says of itself, with the port of the twin."""
        said = super().registration(name)
        said.port = self.twin.port or said.port
        return said


def build(data: Path) -> RepoPlugin:
    """The plugin, with `data` as its own directory. What a crash interrupted is taken back first."""
    settings: Settings[RepoSettings]
    capabilities = Capabilities(data, lambda: settings.get())
    settings = Settings(RepoSettings, check=capabilities.check)
    _recover(capabilities)

    plugin = RepoPlugin(Twin(capabilities), settings)
    for capability in ALL:
        plugin.capability(
            Registered(
                capability.name,
                answer=_answer(capabilities, capability),
                description=capability.description,
                input_schema=msgspec.json.schema(capability.payload),
                idempotent=not capability.changes,
                side_effect=capability.changes,
                timeout=capability.seconds,
                max_concurrency=capability.at_once,
                routes=ROUTES[capability.name],
            )
        )

    @plugin.background
    async def vitals(host: Host) -> None:
        await report_vitals(host, settings, capabilities.counts)

    @plugin.background
    async def twin(host: Host) -> None:
        await plugin.twin.follow(host, settings)

    return plugin


def _recover(capabilities: Capabilities) -> None:
    try:
        with capabilities.journal.locked(Halt(_RECOVERY_SECONDS)):
            recover(capabilities.journal)
    except (Refusal, OSError, ValueError) as error:
        # The next change tries again, and nothing is changed before that worked.
        logger.error("an interrupted change cannot be taken back yet: %s", error)


def _answer(capabilities: Capabilities, capability: Capability) -> Callable[[Request], Awaitable[object]]:
    async def answer(request: Request) -> object:
        user = request.caller.user if request.caller else None
        try:
            if request.http is not None and request.http.method == "PUT":
                asked = _of_query(request, payloads.FileWrite)
                return await capabilities.put(capability, asked, _body(request))
            return await capabilities.ask(capability, _asked(request, capability), user)
        except Refusal as refusal:
            raise wire_error(refusal) from None

    return answer


def _asked(request: Request, capability: Capability) -> Any:
    if request.http is not None and request.http.method in ("GET", "HEAD"):
        return _of_query(request, capability.payload)
    if bytes(request.read(RawJson)) == b"null":
        return _of_members({}, capability.payload)
    return request.read(capability.payload)


def _of_query(request: Request, wanted: type[msgspec.Struct]) -> Any:
    """What path and query of a route say."""
    assert request.http is not None
    return _of_members({**dict(request.http.query), **request.http.params}, wanted)


def _of_members(members: dict[str, str], wanted: type[msgspec.Struct]) -> Any:
    try:
        return msgspec.convert(members, wanted, strict=False)
    except msgspec.ValidationError as error:
        raise WireError(ErrorCode.INVALID_REQUEST, f"the query cannot be read: {error}") from None


def _body(request: Request) -> bytes:
    """The bytes that were sent, whatever they are."""
    assert request.http is not None
    if request.http.body == "json":
        return bytes(request.read(RawJson))
    return request.body()


def wire_error(refusal: Refusal) -> WireError:
    """The refusal as it goes over the bus."""
    return WireError(ErrorCode(refusal.code), refusal.message, param=refusal.param, details=refusal.details)
