"""What a handler answers to an HTTP request where plain JSON with status 200 is not enough.

Not the request: that is `Request.http`. What the host does with it, and which headers it passes on, is in
`docs/protocol.md`, "Routes".
"""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any


class _Absent:
    """Stands for a body of JSON that was not given, since `None` is one."""


_ABSENT = _Absent()


class RouteAnswer:
    """The status, the headers and the body of an HTTP response.

    Returned by a handler it is the whole answer; sent as the first chunk of a stream it is its head, and
    what follows are texts and `BodyBytes`. `status` is 200 to 599. A header has one text or several; the
    host leaves out those that are not a plugin's to set, and notes that in the plugin's log. The body is
    one of `json`, `text` (`text/plain` unless a `content-type` is given) and `bytes`
    (`application/octet-stream`), or there is none.

    >>> from bkg_sdk.json import write
    >>> write(RouteAnswer(201, headers={"Location": "/api/plugins/wiki/pages/7"}, text="made")).decode()
    '{"$http":{"status":201,"headers":{"location":["/api/plugins/wiki/pages/7"]},"text":"made"}}'
    """

    def __init__(
        self,
        status: int = 200,
        *,
        headers: Mapping[str, str | Sequence[str]] | None = None,
        json: Any = _ABSENT,
        text: str | None = None,
        bytes: bytes | bytearray | memoryview | None = None,
    ) -> None:
        bodies = [name for name, given in (("text", text), ("bytes", bytes)) if given is not None]
        if not isinstance(json, _Absent):
            bodies.append("json")
        if len(bodies) > 1:
            raise ValueError(f"a response has one body, not {' and '.join(bodies)}")
        if not 200 <= status <= 599:
            raise ValueError(f"a response has a status from 200 to 599, not {status}")
        http: dict[str, Any] = {"status": status}
        written: dict[str, list[str]] = {}
        for name, values in (headers or {}).items():
            each = [values] if isinstance(values, str) else list(values)
            written.setdefault(name.lower(), []).extend(each)
        if written:
            http["headers"] = written
        if not isinstance(json, _Absent):
            http["json"] = json
        elif text is not None:
            http["text"] = text
        elif bytes is not None:
            http["base64"] = base64.b64encode(bytes).decode()
        self._http = http

    def json_value(self) -> object:
        """The value that travels."""
        return {"$http": self._http}

    def __repr__(self) -> str:
        return f"RouteAnswer({self._http['status']})"


@dataclass(frozen=True)
class BodyBytes:
    """Bytes as a chunk of a stream whose first chunk was a `RouteAnswer`.

    >>> from bkg_sdk.json import write
    >>> write(BodyBytes(bytes([255, 0])))
    b'{"base64":"/wA="}'
    """

    bytes: bytes

    def json_value(self) -> object:
        """The value that travels."""
        return {"base64": base64.b64encode(self.bytes).decode()}
