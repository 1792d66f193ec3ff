"""What `my-plugin` answers. A capability is a function; its decorator says how it is asked for."""

import asyncio
import logging
from dataclasses import dataclass

from bkg_sdk import ChunkSink, ErrorCode, Plugin, Request, Settings, WireError

log = logging.getLogger("my-plugin")


@dataclass
class Greeting:
    """What an operator can set: `config.json` holds the defaults, `plugin.json` the schema."""

    greeting: str = "hello"


async def check(new: Greeting) -> None:
    """A change of the settings takes effect while the plugin runs, unless this refuses it."""
    if not new.greeting.strip():
        raise ValueError("`greeting` is empty")


settings = Settings(Greeting, check=check)
plugin = Plugin(version="0.1.0", settings=settings)


@dataclass
class Guest:
    """The payload of `my-plugin.greet`."""

    name: str


@plugin.answer(
    "my-plugin.greet",
    description="A greeting with the word from the settings",
    input_schema={
        "type": "object",
        "properties": {"name": {"type": "string"}},
        "required": ["name"],
    },
    idempotent=True,
    # Below /api/plugins/my-plugin, for whoever may use the capability.
    routes=[("GET", "/greetings/{name}")],
)
async def greet(request: Request) -> dict[str, str]:
    """One answer: what the function returns. What it raises is the caller's error."""
    # Through the route the name stands in the path, otherwise in the payload.
    guest = request.read(Guest) if request.http is None else Guest(request.http.param("name") or "")
    if not guest.name:
        raise invalid("name", "`name` is empty: say whom to greet")
    # A log line of this request: `bkg logs my-plugin` shows it.
    log.info("greeting %s", guest.name)
    return {"greeting": f"{settings.get().greeting} {guest.name}"}


@dataclass
class Range:
    """The payload of `my-plugin.count`; its members are `n` and `delayMs`."""

    n: int
    delay_ms: int = 0


@plugin.stream(
    "my-plugin.count",
    description="Counts from 0 to `n` - 1, with a pause of `delayMs` before each",
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
    """An answer in parts: `send` waits while the caller has yet to read, and raises when it has left."""
    if request.http is not None:
        try:
            wanted = Range(int(request.http.param("n") or ""))
        except ValueError:
            raise invalid("n", "`n` is a number from 0 on") from None
    else:
        wanted = request.read(Range)
    for number in range(wanted.n):
        if wanted.delay_ms > 0:
            await asyncio.sleep(wanted.delay_ms / 1000)
        await chunks.send({"number": number})


def invalid(member: str, message: str) -> WireError:
    """The error for a request that does not fit: its caller sees a 400."""
    return WireError(ErrorCode.INVALID_REQUEST, message, param=member)


if __name__ == "__main__":
    plugin.run()
