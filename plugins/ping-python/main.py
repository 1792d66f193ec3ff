"""The reference plugin in Python: one of everything that a plugin can do, each in a few lines.

Made to be read, and copied from. It also answers whether a host works: `ping-python.ping` costs nothing. It
keeps nothing and needs nothing but the host.
"""

from __future__ import annotations

import asyncio
import itertools
import re
from dataclasses import dataclass, field
from typing import Annotated

from msgspec import Meta

from bkg_sdk import (
    ChunkSink,
    ErrorCode,
    Health,
    LogLevel,
    Plugin,
    RawJson,
    Request,
    RouteAnswer,
    Settings,
    WireError,
)


@dataclass
class Greeting:
    """What an operator can set; `config.json` holds the defaults, `plugin.json` the schema."""

    greeting: str = "hello"


async def check(new: Greeting) -> None:
    """What is raised here is shown to the operator, and the settings stay as they were."""
    if not new.greeting.strip():
        raise ValueError("`greeting` is empty")


settings = Settings(Greeting, check=check)
plugin = Plugin(version="0.1.0", settings=settings)
pings = itertools.count(1)


@plugin.answer(
    "ping-python.ping", description="Whether the plugin is there", idempotent=True, routes=[("GET", "/")]
)
async def ping(request: Request) -> dict[str, bool]:
    """A request: the answer is what the function returns."""
    # A figure of the plugin's own travels with every telemetry.
    request.host.set_figure("pings", next(pings))
    return {"pong": True}


@plugin.answer("ping-python.echo", description="The payload, as it came", idempotent=True)
async def echo(request: Request) -> RawJson:
    """JSON that is passed on need not be read."""
    return request.read(RawJson)


@dataclass
class Guest:
    """Who is greeted."""

    name: str


@plugin.answer(
    "ping-python.greet",
    description="A greeting with the word from the settings",
    input_schema={"type": "object", "properties": {"name": {"type": "string"}}, "required": ["name"]},
    idempotent=True,
    routes=[("GET", "/greetings/{name}")],
)
async def greet(request: Request) -> dict[str, str]:
    """A setting: the one in force at this moment."""
    # Through its route the name stands in the path, otherwise in the payload.
    name = request.http.param("name") if request.http else None
    guest = request.read(Guest) if name is None else Guest(name)
    # A log line that names this request; the host shows it beside the plugin.
    request.host.log(LogLevel.INFO, "greeting a guest", name=guest.name)
    return {"greeting": f"{settings.get().greeting} {guest.name}"}


# Nobody counts further, and `msgspec` knows no larger bound.
MOST = 2**63 - 1
Number = Annotated[int, Meta(ge=0, le=MOST)]


@dataclass
class Range:
    """What is counted, and how fast; `delay_ms` is the member `delayMs`."""

    n: Number
    delay_ms: Number = 0


@plugin.stream(
    "ping-python.count",
    description="Counts from 0 to `n` - 1 in chunks, with a pause of `delayMs` before each",
    input_schema={
        "type": "object",
        "properties": {
            "n": {"type": "integer", "minimum": 0},
            "delayMs": {"type": "integer", "minimum": 0},
        },
        "required": ["n"],
    },
    idempotent=True,
    routes=[("GET", "/count/{n}")],
)
async def count(request: Request, chunks: ChunkSink) -> None:
    """A stream: `send` waits while the caller has yet to read, and fails when it has left."""
    if http := request.http:
        delay = http.query_value("delayMs")
        wanted = Range(
            n=number("n", http.param("n") or ""),
            delay_ms=0 if delay is None else number("delayMs", delay),
        )
    else:
        wanted = request.read(Range)
    for each in range(wanted.n):
        if wanted.delay_ms > 0:
            await asyncio.sleep(wanted.delay_ms / 1000)
        await chunks.send({"number": each})


def number(name: str, text: str) -> int:
    """A number of the path or of the query, where everything is a text."""
    if not re.fullmatch(r"\+?[0-9]{1,20}", text) or int(text) > MOST:
        raise WireError(ErrorCode.INVALID_REQUEST, f"`{name}` is a number from 0 on", param=name)
    return int(text)


@plugin.answer(
    "ping-python.reverse",
    description="The body of an HTTP request, its last byte first",
    idempotent=True,
    routes=[("POST", "/reverse")],
)
async def reverse(request: Request) -> RouteAnswer:
    """Bytes, in and out, with a type of their own."""
    reversed_body = request.body()[::-1]
    return RouteAnswer(headers={"content-type": "application/octet-stream"}, bytes=reversed_body)


@dataclass
class Order:
    """What is asked for on the caller's behalf."""

    capability: str
    payload: RawJson = field(default_factory=lambda: RawJson(b"null"))


@plugin.answer(
    "ping-python.relay",
    description="Asks the host for another capability and answers what that answered",
)
async def relay(request: Request) -> RawJson:
    """A call: with the rights of the caller, as far as `calls` in `plugin.json` allows."""
    order = request.read(Order)
    return await request.call(order.capability, order.payload, read=RawJson)


@plugin.answer("ping-python.trace", description="Where the request stands in a trace", idempotent=True)
async def trace(request: Request) -> dict[str, str | None]:
    """A trace: what others are asked for this request carries it on; give it to other services yourself."""
    return {"traceparent": request.traceparent}


@dataclass
class Feeling:
    """How the plugin is to feel."""

    health: str
    detail: str = ""


@plugin.answer(
    "ping-python.feel",
    description="Makes the plugin say that it is `up`, `degraded` or `down`",
    side_effect=True,
)
async def feel(request: Request) -> None:
    """Health: said at once, and again with every beat."""
    feeling = request.read(Feeling)
    if feeling.health not in list(Health):
        message = f"`health` is `up`, `degraded` or `down`, not `{feeling.health}`"
        raise WireError(ErrorCode.INVALID_REQUEST, message, param="health")
    request.host.set_health(Health(feeling.health), feeling.detail)


if __name__ == "__main__":
    plugin.run()
