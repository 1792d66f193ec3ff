"""The HTTP twin: the same capabilities on a port of the plugin's own, on loopback.

Off by default. Reaching the port is no right: every request shows a credential, which the host judges
each time, and nothing is answered that the host could not judge. `door.py` keeps browsers and oversized
bodies out. Knows nothing of files; `capabilities.py` answers.
"""

import asyncio
import contextlib
import json
import logging
import os
import socket
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import msgspec
import uvicorn
from fastapi import FastAPI, Request, Response
from starlette.convertors import PathConvertor, register_url_convertor
from starlette.exceptions import HTTPException
from uvicorn.protocols.http.h11_impl import H11Protocol

from bkg_sdk import CallError, Health, Host, RawJson, Settings, Update
from bkg_sdk.json import Misfit, read
from repoagent import payloads
from repoagent.capabilities import Capabilities, Capability, named
from repoagent.door import Door, Failure, answered
from repoagent.refusal import Refusal
from repoagent.settings import HttpSetting, RepoSettings

logger = logging.getLogger(__name__)

_AT_ONCE = 64
# How long a client may take for what stands above the body, and for the body.
_HEAD_SECONDS = 10.0
_BODY_SECONDS = 60.0
# As long as the SDK gives work of the plugin's own.
_STOPPED_WITHIN = 1
_STATUS = {
    "invalid_request": 400,
    "not_found": 404,
    "conflict": 409,
    "payload_too_large": 413,
    "internal": 500,
    "overloaded": 503,
    "timeout": 504,
}


class _AnyPath(PathConvertor):
    """A path with whatever names; the usual one takes no line breaks."""

    regex = r"[\s\S]*"


register_url_convertor("any", _AnyPath())


class _Connection(H11Protocol):
    """A connection that is closed if no request comes: idle ones would keep everybody else out."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._await_request()

    def on_response_complete(self) -> None:
        self._await_request()
        super().on_response_complete()

    def _await_request(self) -> None:
        self.loop.call_later(_HEAD_SECONDS, self._close_if_idle, self.cycle)

    def _close_if_idle(self, before: object) -> None:
        if self.cycle is before and not self.transport.is_closing():
            self.transport.close()


class _Server(uvicorn.Server):
    """Uvicorn that leaves the process's signals to the plugin."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


class Twin:
    """The listener, which comes and goes with the settings."""

    def __init__(self, capabilities: Capabilities) -> None:
        self._capabilities = capabilities
        self._wanted = HttpSetting()
        self._announced = False
        self._scopes: dict[str, str] = {}
        self._socket: socket.socket | None = None
        self._port: int | None = None
        self._server: _Server | None = None
        self._serving: asyncio.Task[None] | None = None
        self._host: Host | None = None

    @property
    def port(self) -> int | None:
        """Where it listens, if it does."""
        return self._port

    def announce(self, runtime_config: str | None) -> None:
        """Binds the port before the plugin registers, so that the registration can tell it.

        `runtime_config` is the file with the entry that the host wrote for this launch.
        """
        if not runtime_config:
            return
        try:
            with open(runtime_config, "rb") as file:
                entry = json.load(file)
            http = (entry.get("settings") or {}).get("http") or {}
            self._wanted = read(RawJson(json.dumps(http).encode()), HttpSetting)
            self._scopes = dict(entry.get("scopes") or {})
        except (OSError, ValueError, AttributeError, Misfit) as error:
            logger.warning("the entry of this launch cannot be read: %s", error)
            return
        self._announced = True
        self._bind()

    async def follow(self, host: Host, settings: Settings[RepoSettings]) -> None:
        """Listens as the settings say, until the plugin stops."""
        self._host = host
        try:
            seen = settings.get()
            await self._become(self._wanted if self._announced else seen.http, host)
            # What came while it was busy; from then on `changes` tells.
            while settings.get() is not seen:
                seen = settings.get()
                await self._become(seen.http, host)
            async for new in settings.changes():
                await self._become(new.http, host)
        finally:
            await self._stop()

    async def _become(self, wanted: HttpSetting, host: Host) -> None:
        if wanted != self._wanted:
            await self._stop()
            self._wanted = wanted
            self._bind()
            await self._tell(host)
        if wanted.enabled and self._socket is None:
            host.set_health(Health.DEGRADED, f"the port {wanted.port} of `http` cannot be listened on")
            return
        host.set_health(Health.UP)
        if self._socket is not None and self._serving is None:
            self._start(self._socket)

    def _bind(self) -> None:
        if not self._wanted.enabled or self._socket is not None:
            return
        port = self._wanted.port or int(os.environ.get("PLUGIN_PORT") or 0)
        listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        try:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind(("127.0.0.1", port))
        except OSError as error:
            listener.close()
            logger.error("the twin cannot listen on 127.0.0.1:%d: %s", port, error.strerror)
            return
        self._socket = listener
        self._port = listener.getsockname()[1]

    def _start(self, listener: socket.socket) -> None:
        app = Door(self._app(), listener.getsockname()[1], self._wanted.max_body_bytes)
        config = uvicorn.Config(
            app,
            log_config=None,
            access_log=False,
            lifespan="off",
            ws="none",
            http=_Connection,
            loop="none",
            server_header=False,
            proxy_headers=False,
            limit_concurrency=_AT_ONCE,
            timeout_keep_alive=5,
            timeout_graceful_shutdown=_STOPPED_WITHIN,
        )
        self._server = _Server(config)
        self._serving = asyncio.create_task(self._server.serve(sockets=[listener]))
        logger.info("the twin listens on http://127.0.0.1:%d", listener.getsockname()[1])

    async def _stop(self) -> None:
        if self._server is not None and self._serving is not None:
            self._server.should_exit = True
            await asyncio.wait({self._serving})
        if self._socket is not None:
            self._socket.close()
        self._server, self._serving, self._socket, self._port = None, None, None, None

    async def _tell(self, host: Host) -> None:
        """`register.port` is told once; what holds now is in `meta`."""
        url = f"http://127.0.0.1:{self.port}" if self.port else None
        with contextlib.suppress(CallError):
            await host.update(Update(meta={"hotConfig": True, "http": url}))

    def _app(self) -> FastAPI:
        app = FastAPI(docs_url=None, redoc_url=None, openapi_url=None, redirect_slashes=False)

        def route(method: str, path: str, name: str) -> None:
            capability = named(name)

            async def handle(request: Request) -> Response:
                return await self._handle(request, capability)

            app.add_api_route(path, handle, methods=[method], response_model=None)

        for method, path, name in (
            ("POST", "/analyze", "repo.analyze"),
            ("GET", "/tree", "repo.tree"),
            ("POST", "/search", "repo.search"),
            ("GET", "/files/{path:any}", "repo.file.read"),
            ("PUT", "/files/{path:any}", "repo.file.write"),
            ("POST", "/patch", "repo.patch"),
            ("POST", "/command", "repo.command"),
            ("POST", "/commit", "repo.commit"),
        ):
            route(method, path, name)

        async def failed(request: Request, error: Any) -> Response:
            if isinstance(error, HTTPException):
                code = "method_not_allowed" if error.status_code == 405 else "not_found"
                message = f"`{request.method} {request.url.path}` is no route of this plugin"
                return Failure(error.status_code, code, message).response(headers=error.headers)
            logger.error("a request of the twin failed", exc_info=error)
            return Failure(500, "internal", "the plugin failed; its log says why").response()

        app.add_exception_handler(HTTPException, failed)
        app.add_exception_handler(Exception, failed)
        return app

    async def _handle(self, request: Request, capability: Capability) -> Response:
        try:
            user = await self._judge(request, capability)
            return answered(await until_gone(request, self._answer, capability, user))
        except Failure as failure:
            return failure.response()
        except Refusal as refusal:
            return Failure(
                _STATUS[refusal.code],
                refusal.code,
                refusal.message,
                param=refusal.param,
                details=refusal.details,
            ).response()

    async def _judge(self, request: Request, capability: Capability) -> str | None:
        """Has the host judge the credential; the user whose it is."""
        scheme, _, token = request.headers.get("authorization", "").partition(" ")
        if scheme.lower() != "bearer" or not token.strip():
            raise Failure(401, "unauthorized", "no credential: send `Authorization: Bearer KEY`")
        if self._host is None:
            raise Failure(
                503, "plugin_unavailable", "the host is not there to judge the credential; try again"
            )
        scope = self._scopes.get(capability.name, capability.name)
        try:
            verdict = await self._host.authorize(token.strip(), scope, timeout=10)
        except CallError as error:
            if error.code in ("rate_limited", "quota_exceeded"):
                raise Failure(429, error.code, error.message, retry_after=error.retry_after) from None
            raise Failure(
                503, "plugin_unavailable", f"the credential cannot be judged now: {error.message}"
            ) from None
        if verdict.allowed:
            return verdict.user
        if verdict.reason == "unknown credential":
            raise Failure(401, "unauthorized", "the credential opens nothing")
        raise Failure(403, "forbidden", f"the credential does not open `{scope}` ({verdict.reason})")

    async def _answer(
        self, request: Request, body: bytes, capability: Capability, user: str | None
    ) -> dict[str, Any]:
        query = {**dict(request.query_params), **request.path_params}
        try:
            if request.method == "PUT":
                written = msgspec.convert(query, payloads.FileWrite, strict=False)
                return await self._capabilities.put(capability, written, body)
            if request.method == "GET":
                asked = msgspec.convert(query, capability.payload, strict=False)
            else:
                asked = msgspec.json.decode(body or b"{}", type=capability.payload)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise Failure(400, "invalid_request", f"the payload cannot be read: {error}") from None
        return await self._capabilities.ask(capability, asked, user)


async def until_gone(
    request: Request,
    answer: Callable[[Request, bytes, Capability, str | None], Awaitable[dict[str, Any]]],
    capability: Capability,
    user: str | None,
) -> dict[str, Any]:
    """Answers, unless the client leaves first: then the work is cancelled."""
    try:
        async with asyncio.timeout(_BODY_SECONDS):
            body = await request.body()
    except TimeoutError:
        raise Failure(408, "timeout", f"the body did not come within {_BODY_SECONDS:g} s") from None
    working = asyncio.ensure_future(answer(request, body, capability, user))
    leaving = asyncio.ensure_future(_gone(request))
    try:
        await asyncio.wait({working, leaving}, return_when=asyncio.FIRST_COMPLETED)
        if not working.done():
            raise Failure(499, "cancelled", "the client has left")
        return working.result()
    finally:
        leaving.cancel()
        if not working.done():
            working.cancel()
            await asyncio.wait({working})


async def _gone(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass
