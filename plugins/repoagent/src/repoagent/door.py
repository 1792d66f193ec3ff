"""What a request to the twin must be before anybody looks at it: from no browser, and bounded.

Wraps the application. A browser sends requests for any page that it shows; it is told by its `Origin`,
and by a `Host` that is none of ours where a name was made to point to loopback. Says nothing of
credentials.
"""

from collections.abc import Mapping
from typing import Any

import msgspec
from fastapi import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

_KINDS = {401: "authentication_error", 403: "permission_error", 429: "rate_limit_error"}


class Failure(Exception):
    """A failure as HTTP, in the form that the host's own have."""

    def __init__(
        self,
        status: int,
        code: str,
        message: str,
        *,
        param: str | None = None,
        details: dict[str, Any] | None = None,
        retry_after: float | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.retry_after = retry_after
        kind = _KINDS.get(status, "invalid_request_error" if status < 500 else "server_error")
        self.error: dict[str, Any] = {"message": message, "type": kind, "param": param, "code": code}
        if details is not None:
            self.error["details"] = details

    def response(self, *, headers: Mapping[str, str] | None = None) -> Response:
        """The answer that says so."""
        sent = {**(headers or {}), "cache-control": "no-store"}
        if self.status == 401:
            sent["www-authenticate"] = "Bearer"
        if self.retry_after is not None:
            sent["retry-after"] = str(max(1, round(self.retry_after)))
        body = msgspec.json.encode({"error": self.error})
        return Response(body, self.status, sent, "application/json")


def answered(data: dict[str, Any]) -> Response:
    """A good answer."""
    headers = {"cache-control": "no-store", "x-content-type-options": "nosniff"}
    return Response(msgspec.json.encode(data), 200, headers, "application/json")


class Door:
    """The application behind its checks."""

    def __init__(self, app: ASGIApp, port: int, max_body_bytes: int) -> None:
        self._app = app
        self._most = max_body_bytes
        self._hosts = {f"{name}:{port}".encode() for name in ("127.0.0.1", "localhost")}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        problem = self._problem(scope)
        if problem is not None:
            await problem.response()(scope, receive, send)
            return
        size = 0
        began = False

        async def bounded() -> Message:
            nonlocal size
            message = await receive()
            size += len(message.get("body", b""))
            if size > self._most:
                raise self._too_large()
            return message

        async def watched(message: Message) -> None:
            nonlocal began
            began = True
            await send(message)

        try:
            await self._app(scope, bounded, watched)
        except Failure as failure:
            if not began:
                await failure.response()(scope, receive, send)

    def _problem(self, scope: Scope) -> Failure | None:
        headers: dict[bytes, bytes] = dict(scope["headers"])
        if headers.get(b"host", b"").lower() not in self._hosts:
            return Failure(
                421, "misdirected_request", "this server answers for loopback alone: ask `127.0.0.1`"
            )
        if b"origin" in headers or headers.get(b"sec-fetch-site", b"none") != b"none":
            return Failure(403, "forbidden", "pages of browsers are not answered here: ask the host")
        length = headers.get(b"content-length", b"0")
        if not length.isdigit() or int(length) > self._most:
            return self._too_large()
        return None

    def _too_large(self) -> Failure:
        return Failure(
            413, "payload_too_large", f"the body exceeds {self._most:,} bytes (`http.maxBodyBytes`)"
        )
